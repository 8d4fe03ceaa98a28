"""The docstring of a class whose fields have docstrings below them, in its source or in that of the
classes it inherits from."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import itertools
import sys
import textwrap
import types
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


class DocstringOfFields:
    """A docstring that is put together when it is read: the text written for the class, then each
    field with its type, its default, and the docstring below it in the source."""

    def __init__(self, summary: str):
        self.summary = inspect.cleandoc(summary)

    def __get__(self, instance: object, owner: type) -> str:
        return _whole(self.summary, owner)


@functools.cache
def _whole(summary: str, owner: Any) -> str:
    words = words_of_fields(owner)
    if not words:
        return summary
    kinds = get_type_hints(owner)
    rows = [
        f"    {field.name} ({_kind(kinds[field.name])}, default {field.default!r}):\n"
        + textwrap.indent(inspect.cleandoc(words[field.name]), " " * 8)
        for field in dataclasses.fields(owner)
    ]
    return "\n".join([summary, "\nAttributes:", *rows])


def words_of_fields(owner: type) -> dict[str, str]:
    """The docstring below each field of a dataclass, in its source or in that of the classes it inherits from; no
    fields at all where there is no source."""
    words: dict[str, str] = {}
    try:
        for group in owner.__mro__[:-1]:  # the last is object
            words |= docstrings_of_fields(group)
    except (OSError, SyntaxError):
        return {}
    return words


@functools.cache
def docstrings_of_fields(group: type) -> dict[str, str]:
    """The docstring below each field in the source of one class; raises OSError where there is no source."""
    return {
        ast.unparse(line.target): ast.literal_eval(below.value)
        for line, below in itertools.pairwise(_definition(group).body)
        if isinstance(line, ast.AnnAssign) and isinstance(below, ast.Expr)
    }


def _definition(group: type) -> ast.ClassDef:
    """The class in the source of its module, which is read once for all of its classes. `inspect.getsource` of a class
    would take most of the time, since it goes through the text word by word to find the end of the class."""
    definition: Any = _source(group.__module__)
    for name in group.__qualname__.replace(".<locals>", "").split("."):
        inside = (
            node
            for node in ast.walk(definition)
            if node is not definition and getattr(node, "name", None) == name
        )
        definition = next(inside, None)
        if definition is None:
            raise OSError(f"no source of {group.__qualname__}")
    return definition


@functools.cache
def _source(module: str) -> ast.Module:
    try:
        return ast.parse(inspect.getsource(sys.modules[module]))
    except (KeyError, TypeError):  # a module without a file, as at the prompt of Python
        raise OSError(f"no source of {module}") from None


def _kind(hint: Any) -> str:
    """A type as it would be written, choices in full."""
    if get_origin(hint) is Literal:
        return " | ".join(map(repr, get_args(hint)))
    if get_origin(hint) in (Union, types.UnionType):
        return " | ".join(map(_kind, get_args(hint)))
    if get_args(hint):
        return str(hint)
    return "None" if hint is type(None) else hint.__name__
