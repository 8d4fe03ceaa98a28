"""Values from outside, each as the type it should have or refused in one line."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ssm.support.errors import invalid

if TYPE_CHECKING:
    import numpy as np


def integer(name: str, value: Any, low: int, high: int) -> int:
    """`value` as an int in [low, high]; raises InputError for anything else, booleans included."""
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
    """`value` as a finite float between `low` and `high`; `open_ends` holds "(" and/or ")" for ends
    left out."""
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


def choice(name: str, value: Any, allowed: Sequence[str]) -> str:
    """`value` if it is one of the `allowed` strings."""
    if not isinstance(value, str) or value not in allowed:
        raise invalid(name, value, "one of " + ", ".join(allowed))
    return value


def flag(name: str, value: Any) -> bool:
    """`value` as a bool; only true booleans pass."""
    if value is not True and value is not False:
        raise invalid(name, value, "True or False")
    return value


def items(name: str, value: Any, what: str) -> list[Any]:
    """`value` as a list; strings and things that cannot be iterated are refused as not being
    `what`."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise invalid(name, value, what)
    try:
        return list(value)
    except TypeError:  # an array without axes
        raise invalid(name, value, what) from None


def array(name: str, value: Any, allowed: str) -> np.ndarray:
    """`value` as a new array in float64; raises InputError where it is not one of real numbers."""
    import numpy as np  # which a command's help does not wait for

    try:
        given = np.asarray(value)
        if given.dtype.kind in "iuf":
            return given.astype(np.float64)
    except Exception:  # ragged, or an array of another library that cannot be had
        pass
    raise invalid(name, value, allowed)


def positive(
    name: str,
    value: Any,
    allowed: str = "positive finite numbers, one a class",
    *,
    or_zero: bool = False,
) -> np.ndarray:
    """`value` as a new vector in float64; raises InputError where it is not one of positive finite
    numbers (`or_zero`: of numbers that are not negative), at least one."""
    vector = array(name, value, allowed)
    inside = (vector >= 0 if or_zero else vector > 0) & (vector < math.inf)
    if vector.ndim != 1 or not vector.size or not inside.all():
        raise invalid(name, value, allowed)
    return vector
