"""What `--help` says: the words of the docstrings, in lines that are broken by the width of the terminal alone."""

from __future__ import annotations

import dataclasses
import functools
import io
import shutil
import sys
import textwrap
from collections.abc import Callable
from typing import Annotated, Any, Generic, get_type_hints

import tyro
from tyro.constructors import (
    MISSING_NONPROP,
    ConstructorRegistry,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from ssm.config import Config
from ssm.config.documentation import words_of_fields

OF_FILES = ("targets",)
"""Fields of a Config that have no flag of their own: `own` where a command is given a file of them."""


def constructors(in_words: bool) -> ConstructorRegistry:
    """How tyro reads the dataclasses of commands: as it would by itself, but for the breaks of lines, and without any words
    unless they are asked for, since finding them in the source takes as long as reading the arguments."""
    made = ConstructorRegistry()
    made.struct_rule(functools.partial(_fields, _words if in_words else _silence))
    return made


def _fields(
    words: Callable[[type, str], str | None], info: StructTypeInfo
) -> StructConstructorSpec | None:
    """A dataclass whose fields are described in paragraphs. What tyro reads by itself keeps the breaks that the
    source has in the middle of a sentence, in the help and in what a shell is told to complete."""
    if not dataclasses.is_dataclass(info.type) or issubclass(info.type, Generic):
        return None  # a generic one is tyro's own, around the commands
    kinds = get_type_hints(info.type, include_extras=True)
    fields = [
        StructFieldSpec(
            name=field.name,
            type=_as_flag(info.type, field.name, kinds[field.name]),
            default=_default(field),
            helptext=functools.partial(words, info.type, field.name),
        )
        for field in dataclasses.fields(info.type)
    ]
    return StructConstructorSpec(instantiate=info.type, fields=tuple(fields))


def _as_flag(owner: type, name: str, kind: Any) -> Any:
    """The type of a field by which tyro makes its flag; none is made where a file says what the field says."""
    if owner is Config and name in OF_FILES:
        return Annotated[kind, tyro.conf.Fixed, tyro.conf.Suppress]
    return kind


def _default(field: dataclasses.Field) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return MISSING_NONPROP if field.default is dataclasses.MISSING else field.default


def _words(owner: type, name: str) -> str | None:
    """What stands below a field, its paragraphs each in one line; None where nothing does."""
    words = _all_words(owner).get(name)
    return words and "\n\n".join(" ".join(part.split()) for part in words.split("\n\n"))


def _silence(owner: type, name: str) -> str:
    return ""  # which tyro fills up from nowhere else, as it would None


@functools.cache
def _all_words(owner: type) -> dict[str, str]:
    return words_of_fields(owner)


class Wrapped(io.StringIO):
    """Keeps what is printed for a terminal, and hands it on as it should be: long lines of text are broken between words,
    and of blank lines that follow each other one is left. Lines of boxes, which know how wide the terminal is, and
    examples stay as they are."""

    def __init__(self) -> None:
        super().__init__()
        self._shown = sys.stdout

    @property
    def encoding(self) -> str:  # type: ignore[override] # what decides whether boxes have rounded corners
        return self._shown.encoding if self._shown is not None else "utf-8"

    def isatty(self) -> bool:
        """Whether it will be shown on a terminal, where there are colours."""
        return self._shown is not None and self._shown.isatty()

    def lines(self) -> str:
        """All that was printed."""
        width = shutil.get_terminal_size().columns
        lines = self.getvalue().split("\n")
        kept = [line for line, before in zip(lines, [None, *lines], strict=False) if line != before]
        return "\n".join(_broken(line, width) for line in kept)


def _broken(line: str, width: int) -> str:
    """A line of text in lines of some width; one that begins otherwise than with a letter as it is."""
    if len(line) <= width or not line[0].isalpha():
        return line
    indent = " " * 4 if line.startswith("usage:") else ""
    return textwrap.fill(line, width, subsequent_indent=indent, break_on_hyphens=False)
