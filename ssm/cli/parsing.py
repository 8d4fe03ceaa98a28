"""Command lines as tyro reads them, and what it says of bad ones in one line."""

from __future__ import annotations

import contextlib
import io
import itertools
import re
from typing import Any

import tyro

from ssm.support.errors import InputError, invalid

NAMES = ("run", "sweep", "show", "plot", "track", "study", "advise")


def parse(command: Any, prog: str, description: str, arguments: list[str]) -> Any:
    """What tyro makes of the arguments; what it says of bad ones in its box becomes one InputError
    line."""
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(command, prog=prog, args=arguments, description=description)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        cause: BaseException | None = stop
        while cause is not None:
            if isinstance(cause, InputError):
                raise cause from None
            cause = cause.__context__
        said = _one_line(complaint.getvalue())
        if said.startswith("Unrecognized") and (written := _grid_in_words(arguments)):
            raise invalid("grid", " ".join(written), _as_axis(written)) from None
        name = " ".join([prog, *(a for a in arguments[:1] if a in NAMES)])
        if close := _suggested(complaint.getvalue(), name):
            said += f"; did you mean {' or '.join(close)}?"
        raise InputError(f"{said}; see {name} --help") from None


def _grid_in_words(arguments: list[str]) -> list[str]:
    """The words of a `--grid` whose values stand apart from each other; none if there is no such."""
    for i, argument in enumerate(arguments):
        words = list(itertools.takewhile(lambda a: not a.startswith("--"), arguments[i + 1 :]))
        if argument == "--grid" and len(words) > 1:
            return words
    return []


def _as_axis(words: list[str]) -> str:
    """How the words of a grid are written: FIELD=A,B,C."""
    field, _, first = words[0].partition("=")
    values = ",".join(word.strip(",") for word in [first, *words[1:]] if word.strip(","))
    return f"FIELD=A,B,C without spaces: write --grid {field}={values}"


def _suggested(box: str, name: str) -> list[str]:
    """The flags of one command that a boxed message suggests instead of one that is not known."""
    said = box.partition("Perhaps you meant:")[2]
    _, *parts = re.split(r"\n\W?\s{1,6}(?=--[a-z])", said)  # what flags do is indented further
    places = [re.findall(r"in (.*) --help", part) for part in parts]
    own = [part for part, there in zip(parts, places, strict=True) if name in there or not there]
    return list(dict.fromkeys(re.split("[ ,]", part)[0] for part in own))


def _one_line(box: str) -> str:
    """What a boxed message says between its title and its first rule, on one line."""
    rows = [row.strip(" │") for row in box.splitlines()[1:]]
    rules = [bool(re.match("[─╰]|-{10}", row)) for row in rows]
    start = 1 if rules[:1] == [True] else 0  # without box characters a rule follows the title
    end = rules.index(True, start) if True in rules[start:] else len(rows)
    return " ".join(rows[start:end]).rstrip(".")
