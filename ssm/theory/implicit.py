"""Many small systems of differential equations, integrated at once: a whole grid of parameters.

A flow has m numbers a point, in logarithms: growth from any small start is then a straight line, and what is
slow is no difference of what is fast, although rates may be any number of decades apart. For these the method
is implicit, Radau IIA of five stages and order nine, with a step of its own for every point. Every operation
acts on all points.

Source: Radau IIA and its Newton iteration in the eigenvectors of the inverse of its matrix, Hairer, Wanner
1996 and 1999.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from numpy.polynomial import legendre

STAGES = 5
NEWTON = 12  # iterations at most
SETTLED, ACCEPTED = (
    5e-16,
    2e-15,
)  # correction after the last iteration, of a number or, where larger, a share of it
RESOLVED = 1e-15  # what a step may leave out, in the same measure
ROUNDING = 4e-15  # of a coefficient, in the same measure
NUMBERS = 2048  # that are followed at once, so that their stages fit a cache
MOST_STEPS = 20_000
FARTHEST = 1e300  # times that are told from infinity


@runtime_checkable
class Flow(Protocol):
    """The equations of p points, with m numbers each."""

    def field(self, state: Float[np.ndarray, "m *s p"]) -> Float[np.ndarray, "m *s p"]:
        """Slopes of the numbers."""
        ...

    def jacobian(self, state: Float[np.ndarray, "m p"]) -> Float[np.ndarray, "m m p"]:
        """Derivatives of `field`, (slope, by which, point)."""
        ...

    def progress(
        self, state: Float[np.ndarray, "m p"]
    ) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, "m p"]]:
        """The logarithm of what `crossings` waits for, which never falls, and its derivatives."""
        ...

    def take(self, points: np.ndarray | slice) -> Flow:
        """Those of some points."""
        ...


OfStates = Callable[[Any, np.ndarray], np.ndarray]


class _Method(NamedTuple):
    """Radau IIA in the eigenvectors of the inverse A^-1 of its matrix."""

    inverse: Float[np.ndarray, "s s"]
    values: np.ndarray
    """Eigenvalues, one of each conjugate pair."""
    into: np.ndarray
    """From stages to eigenvectors."""
    back: np.ndarray
    """From eigenvectors to stages, doubled for a pair, of which the real part is taken."""
    shape: Float[np.ndarray, "s+1 s+1"]
    """Legendre coefficients of the polynomial through the values at the start of a step and its stages."""


def _radau() -> _Method:
    """The method, from its nodes."""
    difference = np.zeros(STAGES + 1)
    difference[-2:] = [-1, 1]
    roots: Any = legendre.legroots(difference)
    nodes = (1 + np.sort(roots.real)) / 2
    nodes[-1] = 1.0
    powers = nodes[:, None] ** np.arange(STAGES)
    matrix = (powers * nodes[:, None] / np.arange(1, STAGES + 1)) @ np.linalg.inv(powers)
    inverse = np.linalg.inv(matrix)
    values: Any
    vectors: Any
    values, vectors = np.linalg.eig(inverse)
    kept = values.imag >= -1e-12
    back = vectors * np.where(np.abs(values.imag) < 1e-12, 1, 2)
    at = legendre.legvander(2 * np.append(0.0, nodes) - 1, STAGES)
    into = np.linalg.inv(vectors)[kept]
    return _Method(inverse, values[kept], into, back[:, kept], np.linalg.inv(at))


METHOD = _radau()
GAUSS = legendre.leggauss(32)
FALLS = 80.0  # e-folds of an integrand over which these nodes are exact to rounding, and beyond which none counts


def _inverses(J: Float[np.ndarray, "m m p"]) -> np.ndarray:
    """(value I - J)^-1 for every eigenvalue of the method, (m, m, value, p)."""
    m, values = len(J), METHOD.values[:, None]
    if m == 2:
        first, second = values - J[0, 0], values - J[1, 1]
        other, another = (
            np.broadcast_to(J[0, 1], first.shape),
            np.broadcast_to(J[1, 0], first.shape),
        )
        determinant = first * second - J[0, 1] * J[1, 0]
        return np.array([[second, other], [another, first]]) / determinant
    matrices = values[..., None, None] * np.eye(m) - J.transpose(2, 0, 1)
    return np.linalg.inv(matrices).transpose(2, 3, 0, 1)


def _step(
    flow: Flow, state: Float[np.ndarray, "m p"], h: Float[np.ndarray, " p"]
) -> tuple[Float[np.ndarray, "m s p"], Float[np.ndarray, " p"]]:
    """The states at the stages of a step of h, the last at its end, and how well it is resolved: above 1 it
    is not."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # of a step far too long
        return _trial(flow, state, h)


def _trial(
    flow: Flow, state: Float[np.ndarray, "m p"], h: Float[np.ndarray, " p"]
) -> tuple[Float[np.ndarray, "m s p"], Float[np.ndarray, " p"]]:
    """`_step`, where what is no number is not resolved."""
    inverses, size = _inverses(h * flow.jacobian(state)), np.maximum(np.abs(state), 1)
    Z = np.zeros((len(state), STAGES, len(h)))
    moved = rate = np.ones(len(h))
    for iteration in range(NEWTON):
        excess = h * flow.field(state[:, None] + Z) - METHOD.inverse @ Z
        change = (METHOD.back @ (inverses * (METHOD.into @ excess)).sum(axis=1)).real
        Z = Z + change
        before, moved = moved, (np.abs(change).max(axis=1) / size).max(axis=0)
        # The first correction is most of the whole, so how much smaller the second is tells nothing of the rate.
        rate = np.minimum(moved / np.maximum(before, 1e-300), 1) if iteration > 1 else rate
        # the next correction is expected to be below rounding, or is not to be had
        if not ((moved * rate > SETTLED) & ((rate < 0.9) | (iteration < 2))).any():
            break
    settled = moved * rate <= ACCEPTED
    # Coefficients fall by q each; the result is as good as one of twice as many.
    third, fourth, fifth = np.abs(METHOD.shape[-3:, 1:] @ Z).transpose(1, 0, 2)
    decay = np.minimum(fifth / (np.maximum(third, fourth) + 1e-300), 1)  # q^2, or more
    # What is rounding is as small in steps of any length, and must not hold them down.
    left_out = ((fifth / size - ROUNDING).clip(0) * decay**2).max(axis=0)
    return state[:, None] + Z, np.where(settled, left_out / RESOLVED, np.inf)


def states(
    times: Float[np.ndarray, "p t"],
    flow: Flow,
    start: Float[np.ndarray, "m p"],
    log_rate: OfStates | None = None,
    ended: OfStates | None = None,
) -> tuple[Float[np.ndarray, "m p t"], Float[np.ndarray, "p t"]]:
    """The numbers of every point at its own times, which are not negative, in any order, from those at
    time 0; and log int_0^t e^r dt of a number r that depends on the state, if any, else -inf.

    Args:
        log_rate: r of a flow and states (m, ..., p), which never falls.
        ended: of a flow and states (m, p), beyond which a point is not followed: later times hold NaN.
    """
    order = np.argsort(times, axis=1, kind="stable")
    ordered, found = np.take_along_axis(times, order, axis=1), np.empty((len(start), *times.shape))
    integral = np.empty(times.shape)
    for some in _portions(start):
        at_once, log_sum = _states(ordered[some], flow.take(some), start[:, some], log_rate, ended)
        np.put_along_axis(found[:, some], order[None, some], at_once, axis=2)
        np.put_along_axis(integral[some], order[some], log_sum, axis=1)
    return found, integral


def _portions(start: Float[np.ndarray, "m p"]) -> list[slice]:
    """Points that are followed at once."""
    points = max(NUMBERS // len(start), 1)
    return [slice(low, low + points) for low in range(0, start.shape[1], points)]


def _states(
    times: Float[np.ndarray, "p t"],
    flow: Flow,
    start: Float[np.ndarray, "m p"],
    log_rate: OfStates | None,
    ended: OfStates | None,
) -> tuple[Float[np.ndarray, "m p t"], Float[np.ndarray, "p t"]]:
    """`states` of few points at their times, which ascend."""
    found, last = np.full((len(start), *times.shape), np.nan), times.shape[1]
    integral, log_sum = np.full(times.shape, np.nan), np.full(len(times), -np.inf)
    if not last:
        return found, integral
    points, reached = np.arange(times.shape[0]), np.zeros(times.shape[0], int)
    state, at, h = start, np.zeros(times.shape[0]), _first_step(flow, start)
    for _ in range(MOST_STEPS + last):  # each of the asked times ends a step
        if not points.size:
            return found, integral
        target = times[points, reached]
        step = np.minimum(h, target - at)
        stages, unresolved = _step(flow, state, step)
        good = unresolved <= 1
        if log_rate is not None:
            part = _log_integral(log_rate, flow, state, stages, step)
            log_sum = np.logaddexp(log_sum, np.where(good, part, -np.inf))
        there = good & (step == target - at)
        state = np.where(good, stages[:, -1], state)
        at = np.where(there, target, np.where(good, at + step, at))
        found[:, points[there], reached[there]] = state[:, there]
        integral[points[there], reached[there]] = log_sum[there]
        reached = reached + there
        h = _next_step(h, step, unresolved)
        left = reached < last
        if ended is not None:
            left &= ~ended(flow, state)
        if not left.all():
            points, reached, at, h = points[left], reached[left], at[left], h[left]
            state, log_sum, flow = state[:, left], log_sum[left], flow.take(left)
    raise RuntimeError(f"{points.size} points are not at their times after {MOST_STEPS} steps")


def _log_integral(
    log_rate: OfStates,
    flow: Flow,
    state: Float[np.ndarray, "m p"],
    stages: Float[np.ndarray, "m s p"],
    step: Float[np.ndarray, " p"],
) -> Float[np.ndarray, " p"]:
    """log int e^r over a step, r that of the polynomial through its start and stages, and where it grows by many
    e-folds only over its end, where alone it counts."""
    with np.errstate(
        over="ignore", invalid="ignore", divide="ignore"
    ):  # of a step that is not resolved
        moved = np.concatenate([np.zeros_like(state)[:, None], stages - state[:, None]], axis=1)
        shape = (METHOD.shape @ moved).transpose(1, 0, 2)
        end = log_rate(flow, stages[:, -1])
        # A thousandth of the step before its end tells how fast r rises there.
        before = log_rate(flow, state + legendre.legval(1 - 2e-3, shape))
        fall = np.maximum((end - before) / 1e-3, FALLS)
        nodes, weights = GAUSS
        width = FALLS / fall
        basis = legendre.legvander(1 - width * (1 - nodes[:, None]), STAGES)
        rates = log_rate(flow, state[:, None] + np.einsum("qpi,imp->mqp", basis, shape))
        return end + np.log(step * width / 2 * (weights @ np.exp(rates - end)))


def crossings(
    level: Float[np.ndarray, " p"], flow: Flow, start: Float[np.ndarray, "m p"]
) -> Float[np.ndarray, " p"]:
    """When what `flow.progress` has the logarithm of first reaches the `level` of every point; 0 where it
    starts there, and infinite beyond `FARTHEST`."""
    found = np.empty(start.shape[1])
    for some in _portions(start):
        found[some] = _crossings(np.log(level[some]), flow.take(some), start[:, some])
    return found


def _crossings(
    level: Float[np.ndarray, " p"], flow: Flow, start: Float[np.ndarray, "m p"]
) -> Float[np.ndarray, " p"]:
    """`crossings` of few points, `level` logarithms. The step in which the level is passed is taken
    again from where it began, its length by Newton's method, until the level is at its end."""
    found = np.zeros(start.shape[1])
    points = np.flatnonzero(flow.progress(start)[0] < level)
    flow, state, level = flow.take(points), start[:, points], level[points]
    at, h = np.zeros(points.size), _first_step(flow, state)
    for _ in range(MOST_STEPS):
        if not points.size:
            return found
        stages, unresolved = _step(flow, state, h)
        moved = stages[:, -1]
        excess, off = _beyond(level, flow, moved)
        good = unresolved <= 1
        # The level is rounded too, which may be more time where it is neared slowly.
        done = good & ((np.abs(off) <= 1e-14 * (at + h)) | (np.abs(excess) <= ROUNDING))
        found[points[done]] = (at + h - off)[done]
        passed = good & (excess >= 0)
        ahead = good & ~passed
        state, at = np.where(ahead, moved, state), np.where(ahead, at + h, at)
        grown = _next_step(h, h, unresolved)
        grown = np.where(ahead & (off < 0), np.minimum(grown, -off), grown)
        h = np.where(passed, np.clip(h - off, 0.1 * h, h), grown)
        never = ~done & (at > FARTHEST)
        found[points[never]] = np.inf
        left = ~done & ~never
        if not left.all():
            points, at, h, state = points[left], at[left], h[left], state[:, left]
            flow, level = flow.take(left), level[left]
    raise RuntimeError(
        f"{points.size} points have not reached {np.exp(level.min()):.3g} after {MOST_STEPS} steps"
    )


def _beyond(
    level: Float[np.ndarray, " p"], flow: Flow, state: Float[np.ndarray, "m p"]
) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, " p"]]:
    """How far the logarithm waited for is beyond `level`, and since when, at its present slope."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # as in `_step`
        reached, parts = flow.progress(state)
        excess = reached - level
        return excess, excess / (parts * flow.field(state)).sum(axis=0)


def _first_step(flow: Flow, state: Float[np.ndarray, "m p"]) -> Float[np.ndarray, " p"]:
    """A tenth of the fastest time at the start."""
    fastest = np.abs(flow.jacobian(state)).max(axis=(0, 1))
    return 0.1 / (np.abs(flow.field(state)).max(axis=0) + fastest)


def _next_step(
    h: Float[np.ndarray, " p"], step: Float[np.ndarray, " p"], unresolved: Float[np.ndarray, " p"]
) -> Float[np.ndarray, " p"]:
    """The next step: of order nine in how well the last one was resolved. What was cut short by a time
    only ever shortens it."""
    factor = np.clip(0.85 * np.maximum(unresolved, 1e-12) ** (-1 / 9), 0.2, 6)
    return np.where((step < h) & (factor > 1), h, step * factor)
