"""Numbers and names of a report as people read them."""

from __future__ import annotations

import math
from collections.abc import Sequence

UNKNOWN = "\N{EM DASH}"


def number(value: float) -> str:
    """Three decimals with a true minus sign, a dash for what is not known."""
    if not math.isfinite(value):
        return UNKNOWN if math.isnan(value) else "∞" if value > 0 else "−∞"  # noqa: RUF001
    return f"{round(value, 3) + 0.0:.3f}".replace("-", "−")  # noqa: RUF001


def signed(value: float) -> str:
    """`number` with its sign, of a difference."""
    return f"+{number(value)}" if round(value, 3) > 0 else number(value)


def interval(low: float, high: float, least: float = -math.inf, most: float = math.inf) -> str:
    """[low, high] as far as the values can be, from `least` to `most`; words where endless."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return "[too few folds to tell]"
    return f"[{number(max(low, least))},\N{NO-BREAK SPACE}{number(min(high, most))}]"


def p_value(value: float) -> str:
    """Three decimals, down to < 0.001."""
    return "< 0.001" if value < 0.001 else number(value)


def listed(names: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
