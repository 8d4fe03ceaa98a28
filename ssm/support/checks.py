"""What a user can get wrong, said in one line: the field, its value and what is allowed."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

LONGEST_NAME = 80  # characters that are shown of a field's name
LONGEST_VALUE = 200  # of its value: most paths fit
LONGEST_ALLOWED = 600  # of what is allowed


class InputError(ValueError):
    """A value from outside that cannot be used; the message is one line fit to be shown as it
    is."""


def refuse(name: str, value: object, allowed: str) -> InputError:
    """The error for `name` = `value` where only `allowed` will do (the caller raises it): one short
    line, whatever they are."""
    try:
        shown = repr(value)
    except Exception:  # an integer of thousands of digits, or an object that cannot be shown
        kind = type(value)
        shown = "a huge int" if kind is int else f"a {kind.__name__} that cannot be shown"
    name = one_line(name, LONGEST_NAME)
    allowed = one_line(allowed, LONGEST_ALLOWED)
    return InputError(f"{name}={one_line(shown, LONGEST_VALUE)}: must be {allowed}")


def one_line(text: str, longest: int) -> str:
    """A text without line breaks and control characters, and cut where it is too long."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= longest else text[: longest - 3] + "..."


def nearest(word: object, known: Sequence[str], otherwise: str) -> str:
    """A hint for a name that is not `known`: the one that was probably meant, or `otherwise`."""
    import difflib

    close = []
    if isinstance(word, str):
        begun = [name for name in known if len(word) > 2 and name.startswith(word)]
        close = begun[:1] or difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]}?" if close else otherwise


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


def array(name: str, value: Any, allowed: str) -> np.ndarray:
    """`value` as a new array in float64; raises InputError where it is not one of real numbers."""
    import numpy as np  # which a command's help does not wait for

    try:
        given = np.asarray(value)
        if given.dtype.kind in "iuf":
            return given.astype(np.float64)
    except Exception:  # ragged, or an array of another library that cannot be had
        pass
    raise refuse(name, value, allowed)


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
        raise refuse(name, value, allowed)
    return vector
