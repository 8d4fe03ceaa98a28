"""The texts of `--help`: the docstrings of commands and fields, with lines broken only at the width of the terminal."""

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
"""Fields of a Config that have no flag of their own. A command that is given a file of such values sets the field to `own`."""


def constructors(in_words: bool) -> ConstructorRegistry:
    """The rules by which tyro reads the dataclasses of commands. They differ from its own only in that descriptions keep no
    line breaks of the source, and that there are none unless `in_words`, since finding them in the source takes as long as
    reading the arguments."""
    made = ConstructorRegistry()
    made.struct_rule(functools.partial(_fields, _words if in_words else _silence))
    return made


def _fields(
    words: Callable[[type, str], str | None], info: StructTypeInfo
) -> StructConstructorSpec | None:
    """The specification of a dataclass whose fields are described in paragraphs. The texts that tyro reads by itself keep the
    line breaks of the source in the middle of a sentence, in the help and in the completions of a shell."""
    if not dataclasses.is_dataclass(info.type) or issubclass(info.type, Generic):
        return None  # A generic dataclass is one of tyro's own around the commands.
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
    """The type of a field, by which tyro makes its flag; a field whose values a file gives has no flag."""
    if owner is Config and name in OF_FILES:
        return Annotated[kind, tyro.conf.Fixed, tyro.conf.Suppress]
    return kind


def _default(field: dataclasses.Field) -> object:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return MISSING_NONPROP if field.default is dataclasses.MISSING else field.default


def _words(owner: type, name: str) -> str | None:
    """The docstring below a field, with each paragraph in one line; None where there is none."""
    words = _all_words(owner).get(name)
    return words and "\n\n".join(" ".join(part.split()) for part in words.split("\n\n"))


def _silence(owner: type, name: str) -> str:
    return ""  # tyro would look for another text if this were None.


@functools.cache
def _all_words(owner: type) -> dict[str, str]:
    return words_of_fields(owner)


class Wrapped(io.StringIO):
    """Collects a text that is printed for a terminal, and returns it with long lines of text broken between words and only one of
    several blank lines. Lines of boxes, which already have the width of the terminal, and examples are not changed."""

    def __init__(self) -> None:
        super().__init__()
        self._shown = sys.stdout

    @property
    def encoding(self) -> str:  # type: ignore[override] # the encoding decides whether boxes have rounded corners
        return self._shown.encoding if self._shown is not None else "utf-8"

    def isatty(self) -> bool:
        """Whether the text will be shown on a terminal, which has colours."""
        return self._shown is not None and self._shown.isatty()

    def lines(self) -> str:
        """The whole text that was printed."""
        width = shutil.get_terminal_size().columns
        lines = self.getvalue().split("\n")
        kept = [line for line, before in zip(lines, [None, *lines], strict=False) if line != before]
        return "\n".join(_broken(line, width) for line in kept)


def _broken(line: str, width: int) -> str:
    """A line of text broken to the width; a line that does not begin with a letter is not changed."""
    if len(line) <= width or not line[0].isalpha():
        return line
    indent = " " * 4 if line.startswith("usage:") else ""
    return textwrap.fill(line, width, subsequent_indent=indent, break_on_hyphens=False)
