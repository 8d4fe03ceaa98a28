"""Command lines, which tyro reads, and its messages on bad ones, each in one line."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import re
from typing import Any, get_args

import tyro

from ssm.cli import descriptions
from ssm.config import Config
from ssm.practice.options import StudyOptions
from ssm.support.errors import InputError, did_you_mean, invalid, one_of

LISTS = {
    f"--{field.name.replace('_', '-')}"
    for owner in (Config, StudyOptions)
    for field in dataclasses.fields(owner)
    if re.search(r"tuple\[(int|float)", str(field.type))
}
"""The flags that take several numbers."""


def parse(command: Any, prog: str, description: str, arguments: list[str]) -> Any:
    """The command that tyro makes of the arguments.

    Raises:
        ssm.InputError: bad arguments, with the message that tyro prints in a box on one line.
    """
    names = command_names(command)
    if names and arguments and not arguments[0].startswith("-") and arguments[0] not in names:
        raise invalid("command", arguments[0], one_of(arguments[0], names))
    is_help = not {"-h", "--help"}.isdisjoint(arguments)
    in_words = is_help or any(argument.startswith("--tyro-") for argument in arguments)
    complaint, asked = io.StringIO(), descriptions.Wrapped()
    try:
        with contextlib.redirect_stderr(complaint), contextlib.redirect_stdout(asked):
            return _made_by_tyro(command, prog, description, arguments, in_words)
    except SystemExit as stop:
        if stop.code in (0, None):  # tyro ends so after the help, or the script of a shell.
            print(asked.lines() if is_help else asked.getvalue(), end="")
            raise
        if refused := _refused(stop):
            raise refused from None
        message = _one_line(complaint.getvalue())
        if choice := _choice(message):
            raise choice from None
        if message.startswith("Unrecognized") and (written := _grid_in_words(arguments)):
            raise invalid("grid", " ".join(written), _as_axis(written)) from None
        name = " ".join([prog, *(a for a in arguments[:1] if a in names)])
        if close := _suggested(complaint.getvalue(), name):
            message += f"; did you mean {' or '.join(close)}?"
        raise InputError(f"{message}; see {name} --help") from None


def _made_by_tyro(
    command: Any, prog: str, description: str, arguments: list[str], in_words: bool
) -> Any:
    """The command that tyro makes of the arguments. tyro is not given the descriptions of fields where they are not shown, which
    is faster; bad arguments are read once more with them, since some messages show them too."""
    try:
        unheard = contextlib.redirect_stderr(io.StringIO())
        with (
            contextlib.nullcontext() if in_words else unheard,
            descriptions.constructors(in_words),
        ):
            return tyro.cli(
                command, prog=prog, args=_lists_in_words(arguments), description=description
            )
    except SystemExit as stop:
        if in_words or _refused(stop):
            raise
    return _made_by_tyro(command, prog, description, arguments, in_words=True)


def _refused(stop: SystemExit) -> InputError | None:
    """The error of a command that was made of values which it does not take; None where tyro stopped for another reason."""
    cause: BaseException | None = stop
    while cause is not None and not isinstance(cause, InputError):
        cause = cause.__context__
    return cause


def command_names(command: object) -> tuple[str, ...]:
    """The names of the commands of a union, in its order; an empty tuple for a single dataclass."""
    return tuple(member.__metadata__[0].name for member in get_args(command))


def _choice(message: str) -> InputError | None:
    """The error for a word that is not among the choices of a flag, in the form of other errors of input; None where the
    message is on something else."""
    one = re.match(
        r"invalid choice '(.*)' for argument '-*(.*)'. Expected one of \((.*)\)", message
    )
    if one:
        word, flag, listed = one.groups()
        known = re.findall(r"'([^']*)'", listed)
        # tyro keeps no order where there is a None.
        known = sorted(known) if "None" in known else known
        known = [name for name in known if name != "None"]
        return invalid(_field(flag), word, one_of(word, known))
    some = re.match(
        r"Error parsing --(\S+): no type matching (.*?) could be .*? from \[(.*?)\]\.", message
    )
    if some:
        flag, kinds, listed = some.groups()
        word, kinds = " ".join(re.findall("'(.*?)'", listed)), kinds.removeprefix("{None}|")
        return invalid(_field(flag), word, kinds + did_you_mean(word, re.split("[{},|]", kinds)))
    return None


def _field(flag: str) -> str:
    return flag.replace("-", "_")


def _lists_in_words(arguments: list[str]) -> list[str]:
    """The arguments with each number of a list as a word of its own, as tyro needs them: `--counts 500,50` becomes
    `--counts 500 50`."""
    words, in_list = [], False
    for argument in arguments:
        if argument.startswith("--"):
            flag, equals, value = argument.partition("=")
            in_list = flag.replace("_", "-") in LISTS
            if in_list and equals:
                words.append(flag)
                argument = value
        words += [part for part in argument.split(",") if part] if in_list else [argument]
    return words


def _grid_in_words(arguments: list[str]) -> list[str]:
    """The words of the first `--grid` whose values are several words; an empty list where every grid is one word."""
    for i, argument in enumerate(arguments):
        words = list(itertools.takewhile(lambda a: not a.startswith("--"), arguments[i + 1 :]))
        if argument == "--grid" and len(words) > 1:
            return words
    return []


def _as_axis(words: list[str]) -> str:
    """A message that says how a grid of several words is to be written: FIELD=A,B,C."""
    field, _, first = words[0].partition("=")
    values = ",".join(word.strip(",") for word in [first, *words[1:]] if word.strip(","))
    return f"FIELD=A,B,C without spaces: write --grid {field}={values}"


def _suggested(box: str, name: str) -> list[str]:
    """The flags of one command that a boxed message suggests in place of an unknown flag."""
    suggestions = box.partition("Perhaps you meant:")[2]
    # The description of a flag is indented further than the flag.
    _, *flags = re.split(r"\n\W?\s{1,6}(?=--[a-z])", suggestions)
    commands = [re.findall(r"in (.*) --help", flag) for flag in flags]
    of_command = [
        flag for flag, names in zip(flags, commands, strict=True) if name in names or not names
    ]
    return list(dict.fromkeys(re.split("[ ,]", flag)[0] for flag in of_command))


def _one_line(box: str) -> str:
    """The text of a boxed message between its title and its first rule, on one line."""
    rows = [row.strip(" │") for row in box.splitlines()[1:]]
    rules = [bool(re.match("[─╰]|-{10}", row)) for row in rows]
    start = 1 if rules[:1] == [True] else 0  # A box of plain characters has a rule below its title.
    end = rules.index(True, start) if True in rules[start:] else len(rows)
    return " ".join(rows[start:end]).rstrip(".")
