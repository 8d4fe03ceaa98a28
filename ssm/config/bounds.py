"""Bounds that stand beside a field in its annotation, and the check of fields against them.

`coupling: Annotated[float, Within(0, 1)]` is a float for type checkers and for command lines, and a
number in [0, 1] for `checked_fields`. A `Literal` is its own bound.
"""

from __future__ import annotations

import functools
import math
import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from ssm.support import checks


class Within(NamedTuple):
    """The interval in which a number has to lie. It holds always, or only where another field has a given
    value. Where several intervals stand beside a field, the last one that holds counts."""

    low: float
    high: float = math.inf
    open_ends: str = ""
    """Contains "(" where the lower end is not allowed itself, and ")" where the upper end is not."""
    where: tuple[str, str] | None = None
    """The name and the value of the other field; None where the interval holds always."""

    def holds(self, fields: Mapping[str, object]) -> bool:
        """Whether this interval holds, given the values of all fields of its group by name."""
        return self.where is None or fields[self.where[0]] == self.where[1]

    def integer(self, name: str, value: object) -> int:
        """`value` as an int; raises InputError where it is no integer, or lies outside."""
        return checks.integer(name, value, int(self.low), int(self.high))

    def real(self, name: str, value: object) -> float:
        """`value` as a float; raises InputError where it is no number, or lies outside."""
        return checks.real(name, value, self.low, self.high, open_ends=self.open_ends)


class Each(NamedTuple):
    """The closed interval in which every entry of a tuple has to lie. How many entries there have to be
    depends on other fields, so the rule of the field's group has to call the check itself."""

    low: float
    high: float

    def integers(self, name: str, values: list[object]) -> tuple[int, ...]:
        """The entries as ints; raises InputError for the first one that is not allowed."""
        bound = Within(self.low, self.high)
        return tuple(bound.integer(f"{name}[{i}]", value) for i, value in enumerate(values))

    def reals(self, name: str, values: list[object]) -> tuple[float, ...]:
        """The entries as floats; raises InputError for the first one that is not allowed."""
        bound = Within(self.low, self.high)
        return tuple(bound.real(f"{name}[{i}]", value) for i, value in enumerate(values))


class _Annotation(NamedTuple):
    """What the annotation of a field says about its values."""

    kind: type | tuple[str, ...]
    """int, float or bool, or the words of which one has to be chosen."""
    may_be_left_out: bool
    intervals: tuple[Within, ...]


def checked_fields(group: object) -> dict[str, str | float]:
    """The values of a group's fields by name, each converted to the Python type of its annotation. Tuples are left to
    the rules of their groups, since other fields decide on their length.

    Raises InputError for the first field whose value its annotation does not allow.
    """
    fields = vars(group)
    return {
        name: _checked(name, fields, annotation)
        for name, annotation in _annotations(type(group)).items()
        if not (fields[name] is None and annotation.may_be_left_out)
    }


def interval(group: type, name: str) -> Within:
    """The interval of a field that has exactly one."""
    (within,) = _annotations(group)[name].intervals
    return within


def number(group: type, name: str) -> tuple[type, Within] | None:
    """The type of a field, int or float, and the interval in which it always lies; None where it is no single
    number."""
    annotation = _annotations(group).get(name)
    if annotation is None or annotation.kind not in (int, float):
        return None
    assert isinstance(annotation.kind, type)
    return annotation.kind, annotation.intervals[0]


def _checked(name: str, fields: Mapping[str, object], annotation: _Annotation) -> str | float:
    """The value of one field, converted to the type of its annotation."""
    value, kind = fields[name], annotation.kind
    if isinstance(kind, tuple):
        return checks.choice(name, value, kind)
    if kind is bool:
        return checks.flag(name, value)
    within = [each for each in annotation.intervals if each.holds(fields)][-1]
    return within.integer(name, value) if kind is int else within.real(name, value)


@functools.cache
def _annotations(group: type) -> dict[str, _Annotation]:
    """What the annotations of a group's fields say, except those of tuples; raises TypeError for a
    field whose annotation does not say what is allowed."""
    bounds_of = {}
    for name, hint in get_type_hints(group, include_extras=True).items():
        markers = hint.__metadata__ if get_origin(hint) is Annotated else ()
        if any(isinstance(marker, Each) for marker in markers):
            continue
        alternatives = _alternatives(hint.__origin__ if markers else hint)
        kinds = [kind for kind in alternatives if kind is not type(None)]
        intervals = tuple(marker for marker in markers if isinstance(marker, Within))
        is_choice = len(kinds) == 1 and get_origin(kinds[0]) is Literal
        if not (is_choice or kinds == [bool] or (kinds in ([int], [float]) and intervals)):
            raise TypeError(f"{group.__name__}.{name} has no bounds in its annotation")
        kind = get_args(kinds[0]) if is_choice else kinds[0]
        bounds_of[name] = _Annotation(kind, len(kinds) < len(alternatives), intervals)
    return bounds_of


def _alternatives(hint: object) -> tuple[Any, ...]:
    """The alternatives of a union, or the type itself where it is no union."""
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
