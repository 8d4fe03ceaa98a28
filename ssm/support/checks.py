"""Checks of values from outside. Each returns the value in the type that it should have, or raises
ssm.InputError with one line."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ssm.support.errors import invalid, one_of

if TYPE_CHECKING:
    import numpy as np


def integer(name: str, value: Any, low: int, high: int) -> int:
    """`value` as an int in [low, high]; raises ssm.InputError for anything else, booleans included."""
    allowed = f"an integer in [{low}, {high}]"
    if isinstance(value, bool):
        raise invalid(name, value, allowed)
    try:
        number = operator.index(value)
    except TypeError:
        raise invalid(name, value, allowed) from None
    if not low <= number <= high:
        raise invalid(name, value, allowed)
    return number


def real(
    name: str, value: Any, low: float, high: float = math.inf, *, open_ends: str = ""
) -> float:
    """`value` as a finite float between `low` and `high`; raises ssm.InputError for anything else.

    Args:
        open_ends: "(" where `low` itself is not allowed, ")" where `high` is not, "()" for both.
    """
    left = "(" if "(" in open_ends or math.isinf(low) else "["
    right = ")" if ")" in open_ends or math.isinf(high) else "]"
    allowed = f"a finite number in {left}{low:g}, {high:g}{right}"
    if isinstance(value, bool | str | bytes):
        raise invalid(name, value, allowed)
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise invalid(name, value, allowed) from None
    inside = (number > low if left == "(" else number >= low) and (
        number < high if right == ")" else number <= high
    )
    if not (math.isfinite(number) and inside):
        raise invalid(name, value, allowed)
    return number


def choice(name: str, value: object, allowed: Sequence[str]) -> str:
    """`value` if it is one of the `allowed` strings; raises ssm.InputError for anything else."""
    if not isinstance(value, str) or value not in allowed:
        raise invalid(name, value, one_of(value, allowed))
    return value


def flag(name: str, value: object) -> bool:
    """`value` if it is True or False; raises ssm.InputError for anything else, 0 and 1 included."""
    if value is not True and value is not False:
        raise invalid(name, value, "True or False")
    return value


def items(name: str, value: object, what: str) -> list[Any]:
    """`value` as a list; raises ssm.InputError, which says `what` is allowed, for strings and for
    values that cannot be iterated."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise invalid(name, value, what)
    try:
        return list(value)
    except TypeError:  # raised for an array without axes
        raise invalid(name, value, what) from None


def array(name: str, value: object, allowed: str) -> np.ndarray:
    """`value` as a new array in float64; raises ssm.InputError where it is not of real numbers."""
    import numpy as np  # here, so that the help of a command does not wait for it

    try:
        given = np.asarray(value)
        if given.dtype.kind in "iuf":
            return given.astype(np.float64)
    except Exception:  # ragged lists, and arrays of other libraries that cannot be converted
        pass
    raise invalid(name, value, allowed)


def positive(
    name: str,
    value: object,
    allowed: str = "positive finite numbers, one a class",
    *,
    or_zero: bool = False,
) -> np.ndarray:
    """`value` as a new vector in float64; raises ssm.InputError where it is not a vector of at least
    one number, all positive and finite. With `or_zero` they may be 0 too."""
    vector = array(name, value, allowed)
    inside = (vector >= 0 if or_zero else vector > 0) & (vector < math.inf)
    if vector.ndim != 1 or not vector.size or not inside.all():
        raise invalid(name, value, allowed)
    return vector
