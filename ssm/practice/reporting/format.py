"""Numbers and names as a report writes them."""

from __future__ import annotations

import math
from collections.abc import Sequence

UNKNOWN = "\N{EM DASH}"


def number(value: float) -> str:
    """A number with three decimals and a true minus sign; a dash for NaN."""
    if not math.isfinite(value):
        return UNKNOWN if math.isnan(value) else "∞" if value > 0 else "−∞"  # noqa: RUF001 (the sign of minus)
    return f"{round(value, 3) + 0.0:.3f}".replace("-", "−")  # noqa: RUF001 (the sign of minus)


def signed(value: float) -> str:
    """A difference: a `number` that has a plus sign where it is positive."""
    return f"+{number(value)}" if round(value, 3) > 0 else number(value)


def interval(low: float, high: float, least: float = -math.inf, most: float = math.inf) -> str:
    """An interval [low, high], cut off at the `least` and the `most` that values can be; words where it is
    endless."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return "[too few folds to tell]"
    return f"[{number(max(low, least))},\N{NO-BREAK SPACE}{number(min(high, most))}]"


def p_value(value: float) -> str:
    """A p value with three decimals, or `< 0.001`."""
    return "< 0.001" if value < 0.001 else number(value)


def listed(names: Sequence[str]) -> str:
    """Names as an enumeration: a, b and c."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
