"""A number that rises from 0 to 1 over a stretch of time."""

from __future__ import annotations

from typing import Any

from ssm.problem.array_modules import arrays


def linear_ramp(time: Any, start: Any, length: Any) -> Any:
    """A number that is 0 before `start`, exactly 1 from `start` + `length` on, and linear between; where `length`
    is 0 it jumps."""
    xp, since = arrays(time - start, length)
    share = xp.clip(since / xp.where(length > 0, length, 1), 0, 1)
    return xp.where(since >= length, 1.0, share)  # compiled, x / x need not be 1
