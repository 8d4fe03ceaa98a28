"""When each of several numbers of a flow first reaches a level, for many starts at once.

The flow is integrated by the explicit pair 5(4) of Dormand and Prince with a step of its own for each start; every
operation acts on all of them.

Source: Dormand, Prince 1980.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from ssm.support import dormand_prince

STAGES = tuple(np.array(row) for row in dormand_prince.STAGES)
ERROR = np.array([-71 / 57600, 0.0, 71 / 16695, -71 / 1920, 17253 / 339200, -22 / 525, 1 / 40])
TOLERANCE = 1e-4  # of a step, by the flow's own measure
MOST_STEPS = 1000
TOGETHER = 256  # starts that are followed at once, the fastest of 64 to 4096 for ten classes and sixteen features
NEWTON = 5  # iterations, of which the last changes nothing that counts


@runtime_checkable
class Flow(Protocol):
    """The equations of p starts of m x d numbers each, of which q are waited for."""

    def of(self, starts: Int[np.ndarray, " q"]) -> Flow:
        """Those of some of the starts."""
        ...

    def field(self, state: Float[np.ndarray, "p m d"]) -> Float[np.ndarray, "p m d"]:
        """Slopes of the numbers."""
        ...

    def progress(
        self, state: Float[np.ndarray, "p m d"], slopes: Float[np.ndarray, "p m d"]
    ) -> tuple[Float[np.ndarray, "p q"], Float[np.ndarray, "p q"]]:
        """What is waited for, and its slopes."""
        ...

    def share(
        self, off: Float[np.ndarray, "p m d"], state: Float[np.ndarray, "p m d"]
    ) -> Float[np.ndarray, " p"]:
        """How large `off`, an error of a state, is as a share of the state."""
        ...


class Crossings(NamedTuple):
    """When numbers reach a level, and where starts are of which some have not after the most steps."""

    times: Float[np.ndarray, "p q"]
    """NaN for a number that has not."""
    points: Int[np.ndarray, " left"]
    """The starts of such numbers."""
    state: Float[np.ndarray, "left m d"]
    """Theirs after those steps."""
    at: Float[np.ndarray, " left"]
    """And the times of that."""


def crossings(
    flow: Flow,
    start: Float[np.ndarray, "p m d"],
    at: Float[np.ndarray, " p"],
    level: float,
    most_steps: int | None = None,
) -> Crossings:
    """When each number of `flow.progress` first reaches `level` from the states at times `at`, which is that
    time for one that is there already; after `MOST_STEPS` steps at most where no number is given."""
    if len(start) <= TOGETHER:
        return _crossings(flow, start, at, level, most_steps)
    blocks = np.array_split(np.arange(len(start)), -(-len(start) // TOGETHER))
    parts = [_crossings(flow.of(i), start[i], at[i], level, most_steps) for i in blocks]
    points = [i[part.points] for i, part in zip(blocks, parts, strict=True)]
    times, _, state, ends = (np.concatenate(x) for x in zip(*parts, strict=True))
    return Crossings(times, np.concatenate(points), state, ends)


def _crossings(
    flow: Flow,
    start: Float[np.ndarray, "p m d"],
    at: Float[np.ndarray, " p"],
    level: float,
    most_steps: int | None,
) -> Crossings:
    """`crossings` of so few starts that their states fit a cache."""
    state, slopes, time = start, flow.field(start), at
    values, rises = flow.progress(state, slopes)
    found = np.where(values >= level, time[:, None], np.nan)
    # where all is learned slopes may be 0, and any step will do
    points, h = np.arange(len(start)), 0.1 / np.maximum(flow.share(slopes, state), 1e-300)
    for _ in range(MOST_STEPS if most_steps is None else most_steps):
        waiting = np.isnan(found[points])
        left = np.flatnonzero(waiting.any(axis=1))
        if len(left) < len(points):
            points, flow = points[left], flow.of(left)
            state, slopes, time, h = (x[left] for x in (state, slopes, time, h))
            values, rises, waiting = (x[left] for x in (values, rises, waiting))
        if not points.size:
            break
        with np.errstate(over="ignore", invalid="ignore"):  # of a step far too long
            moved, ahead, error = _step(flow, state, slopes, h)
            reached, climbs = flow.progress(moved, ahead)
        good = error <= 1
        passed = waiting & good[:, None] & (reached >= level)
        if passed.any():
            i, j = np.nonzero(passed)
            ends = values[i, j], reached[i, j], h[i] * rises[i, j], h[i] * climbs[i, j]
            near = h[i] * _crossing(level, *ends)
            found[points[i], j] = time[i] + _refined(
                flow.of(i), state[i], slopes[i], j, level, near, h[i]
            )
        time = time + np.where(good, h, 0)
        after, before = (moved, ahead, reached, climbs), (state, slopes, values, rises)
        if not good.all():
            after = [
                np.where(good.reshape(-1, *(1,) * (x.ndim - 1)), x, y)
                for x, y in zip(after, before, strict=True)
            ]
        state, slopes, values, rises = after
        h = h * np.clip(0.9 * np.maximum(error, 1e-10) ** -0.2, 0.2, 5)
    return Crossings(found, points, state, time)


def _step(
    flow: Flow,
    state: Float[np.ndarray, "p m d"],
    slopes: Float[np.ndarray, "p m d"],
    h: Float[np.ndarray, " p"],
) -> tuple[np.ndarray, np.ndarray, Float[np.ndarray, " p"]]:
    """The state a step later, its slopes, and how far off it may be: above 1 too far."""
    each = np.empty((len(ERROR), slopes.size))
    each[0] = slopes.ravel()
    length, moved = h[:, None, None], state
    for stage, weights in enumerate(STAGES, 1):
        moved = state + length * (weights @ each[:stage]).reshape(state.shape)
        each[stage] = flow.field(moved).ravel()
    error = h * flow.share((ERROR @ each).reshape(state.shape), moved) / TOLERANCE
    return moved, each[-1].reshape(state.shape), np.where(np.isnan(error), np.inf, error)


def _refined(
    flow: Flow,
    state: Float[np.ndarray, "q m d"],
    slopes: Float[np.ndarray, "q m d"],
    number: Int[np.ndarray, " q"],
    level: float,
    near: Float[np.ndarray, " q"],
    longest: Float[np.ndarray, " q"],
) -> Float[np.ndarray, " q"]:
    """How long after these states a number of each is at `level`, given about how long: a step of that length,
    and from there along a straight line."""
    there, ahead, _ = _step(flow, state, slopes, near)
    values, rises = (x[np.arange(len(near)), number] for x in flow.progress(there, ahead))
    with np.errstate(divide="ignore", invalid="ignore"):  # where it stands still
        better = near + (level - values) / rises
    return np.where((better >= 0) & (better <= longest), better, near)


def _crossing(
    level: float,
    low: Float[np.ndarray, " q"],
    high: Float[np.ndarray, " q"],
    low_slope: Float[np.ndarray, " q"],
    high_slope: Float[np.ndarray, " q"],
) -> Float[np.ndarray, " q"]:
    """The share of a step at which a number that is below `level` at `low` and not at `high` is there: of the
    cubic through both ends and their slopes, over the step, of its logarithm where that exists, by Newton's method."""
    logs = low > 0
    safe = np.where(logs, low, 1.0)
    # all less what the number is at first
    wanted = np.where(logs, np.log(level / safe), level - low)
    rise = np.where(logs, np.log(high / safe), high - low)
    first, last = (
        np.where(logs, slope / np.where(logs, value, 1.0), slope)
        for slope, value in ((low_slope, low), (high_slope, high))
    )
    square, cube = 3 * rise - 2 * first - last, first + last - 2 * rise
    x = wanted / rise
    for _ in range(NEWTON):
        off = x * (first + x * (square + x * cube)) - wanted
        slope = first + x * (2 * square + 3 * x * cube)
        x = np.clip(
            x - off / np.maximum(slope, 0.2 * rise), 0, 1
        )  # flat places are not left in leaps
    return x
