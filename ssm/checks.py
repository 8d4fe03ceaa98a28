"""What a user can get wrong, said in one line: the field, its value and what is allowed."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from typing import Any

LONGEST_VALUE = 200  # characters of it that are shown: most paths fit


class InputError(ValueError):
    """A value from outside that cannot be used; the message is one line fit to be shown as it
    is."""


def refuse(name: str, value: object, allowed: str) -> InputError:
    """The error for `name` = `value` where only `allowed` will do (the caller raises it)."""
    try:
        shown = " ".join(repr(value).split())
    except ValueError:  # an integer of thousands of digits
        shown = f"a huge {type(value).__name__}"
    if len(shown) > LONGEST_VALUE:
        shown = shown[: LONGEST_VALUE - 3] + "..."
    return InputError(f"{name}={shown}: must be {allowed}")


def integer(name: str, value: Any, low: int, high: int) -> int:
    """`value` as an int in [low, high]; raises InputError for anything else, booleans included."""
    allowed = f"an integer in [{low}, {high}]"
    if isinstance(value, bool):
        raise refuse(name, value, allowed)
    try:
        number = operator.index(value)
    except TypeError:
        raise refuse(name, value, allowed) from None
    if not low <= number <= high:
        raise refuse(name, value, allowed)
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
        raise refuse(name, value, allowed)
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise refuse(name, value, allowed) from None
    inside = (number > low if left == "(" else number >= low) and (
        number < high if right == ")" else number <= high
    )
    if not (math.isfinite(number) and inside):
        raise refuse(name, value, allowed)
    return number


def choice(name: str, value: Any, allowed: Sequence[str]) -> str:
    """`value` if it is one of the `allowed` strings."""
    if not isinstance(value, str) or value not in allowed:
        raise refuse(name, value, "one of " + ", ".join(allowed))
    return value


def flag(name: str, value: Any) -> bool:
    """`value` as a bool; only true booleans pass."""
    if value is not True and value is not False:
        raise refuse(name, value, "True or False")
    return value


def items(name: str, value: Any, what: str) -> list[Any]:
    """`value` as a list; strings and things that cannot be iterated are refused as not being
    `what`."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise refuse(name, value, what)
    try:
        return list(value)
    except TypeError:  # an array without axes
        raise refuse(name, value, what) from None
