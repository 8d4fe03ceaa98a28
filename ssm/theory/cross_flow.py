"""Two products that share one factor, integrated for a whole grid of parameters at once.

The cross component of STEP has one direction of the classifier, x, and a feature on it for each group, A_g
in the metric of the flow, with x^2 = A_1^2 + A_2^2 for good:

    (log A_g)' = r_g x / A_g - m_g x^2.

In logarithms growth from any small start is a straight line, and what is slow is no difference of what is
fast, although the rates of the groups may be any number of decades apart. For these the method is
implicit, Radau IIA of five stages and order nine, with a step of its own for every point. Every operation
acts on all points.

Source: Radau IIA and its Newton iteration in the eigenvectors of the inverse of its matrix, Hairer,
Wanner 1996 and 1999; the reduction to two numbers derived for this project.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.polynomial import legendre

STAGES = 5
NEWTON = 12  # iterations at most
SETTLED = 2e-14  # correction of the last iteration, of log A_g
RESOLVED = 1e-15  # of log A_g, what a step may leave out
POINTS = 1024  # that are followed at once, so that their stages fit a cache
MOST_STEPS = 100_000


class Flow(NamedTuple):
    """The parameters of each group and point."""

    rates: Float[np.ndarray, "2 p"]
    """r_g > 0, per unit of time."""
    pulls: Float[np.ndarray, "2 p"]
    """m_g > 0, per unit of time and of x^2."""

    def parts(
        self, state: Float[np.ndarray, "2 *s p"]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """r_g x / A_g, m_g x^2 and A_g^2 / x^2 at log A_g."""
        squares = np.exp(2 * state)
        whole = squares[0] + squares[1]
        share = squares / whole
        shape = (2, *(1,) * (state.ndim - 2), -1)
        return self.rates.reshape(shape) / np.sqrt(share), self.pulls.reshape(shape) * whole, share

    def field(self, state: Float[np.ndarray, "2 *s p"]) -> Float[np.ndarray, "2 *s p"]:
        """Slopes of log A_g."""
        grown, held, _ = self.parts(state)
        return grown - held

    def jacobian(self, state: Float[np.ndarray, "2 p"]) -> Float[np.ndarray, "2 2 p"]:
        """Derivatives of `field`, (slope, by which, point)."""
        grown, held, share = self.parts(state)
        J = (grown - 2 * held)[:, None] * share
        J[0, 0] -= grown[0]
        J[1, 1] -= grown[1]
        return J

    def take(self, points: np.ndarray | slice) -> Flow:
        """Those of some points."""
        return Flow(self.rates[:, points], self.pulls[:, points])


class _Method(NamedTuple):
    """Radau IIA in the eigenvectors of the inverse A^-1 of its matrix."""

    inverse: Float[np.ndarray, "s s"]
    values: np.ndarray
    """Eigenvalues, one of each conjugate pair."""
    into: np.ndarray
    """From stages to eigenvectors."""
    back: np.ndarray
    """From eigenvectors to stages, doubled for a pair, of which the real part is taken."""
    last: Float[np.ndarray, "3 s"]
    """The last three Legendre coefficients of the polynomial through 0 and the stages."""


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
    last = np.linalg.inv(at)[-3:, 1:]
    return _Method(inverse, values[kept], np.linalg.inv(vectors)[kept], back[:, kept], last)


METHOD = _radau()


def _step(
    flow: Flow, state: Float[np.ndarray, "2 p"], h: Float[np.ndarray, " p"]
) -> tuple[Float[np.ndarray, "2 p"], Float[np.ndarray, " p"]]:
    """The state after a step of h, and how well it is resolved: above 1 it is not."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # of a step far too long
        return _trial(flow, state, h)


def _trial(
    flow: Flow, state: Float[np.ndarray, "2 p"], h: Float[np.ndarray, " p"]
) -> tuple[Float[np.ndarray, "2 p"], Float[np.ndarray, " p"]]:
    """`_step`, where what is no number is not resolved."""
    J = h * flow.jacobian(state)
    values = METHOD.values[:, None]
    diagonal, other = values - J[0, 0], values - J[1, 1]
    determinant = diagonal * other - J[0, 1] * J[1, 0]
    Z = np.zeros((2, STAGES, len(h)))
    moved = rate = np.ones(len(h))
    for iteration in range(NEWTON):
        excess = h * flow.field(state[:, None] + Z) - METHOD.inverse @ Z
        first, second = METHOD.into @ excess
        change = np.stack([other * first + J[0, 1] * second, diagonal * second + J[1, 0] * first])
        change = (METHOD.back @ (change / determinant)).real
        Z = Z + change
        before, moved = moved, np.abs(change).max(axis=(0, 1))
        # the next correction is expected to be below rounding, or is not to be had
        rate = np.minimum(moved / np.maximum(before, 1e-300), 1) if iteration else rate
        if not ((moved * rate > SETTLED) & (rate < 0.9) | (iteration == 0)).any():
            break
    settled = moved * rate <= 20 * SETTLED * np.maximum(1, np.abs(Z).max(axis=(0, 1)))
    # Coefficients fall by q each; the result is as good as one of twice as many.
    third, fourth, fifth = np.abs(METHOD.last @ Z).transpose(1, 0, 2)
    decay = np.minimum(fifth / (np.maximum(third, fourth) + 1e-300), 1)  # q^2, or more
    left_out = (fifth * decay**2).max(axis=0)
    return state + Z[:, -1], np.where(settled, left_out / RESOLVED, np.inf)


def strengths(
    times: Float[np.ndarray, "p t"],
    flow: Flow,
    start: Float[np.ndarray, "2 p"],
    shares: Float[np.ndarray, "2 p"],
) -> Float[np.ndarray, "p t"]:
    """x (shares_1 A_1 + shares_2 A_2) of every point at its own times, which ascend and are not negative,
    from log A_g at time 0."""
    found = np.empty(times.shape)
    for low in range(0, len(times), POINTS):
        some = slice(low, low + POINTS)
        state = _states(times[some], flow.take(some), start[:, some])
        found[some] = _strength(state, shares[:, some, None])[0]
    return found


def _states(
    times: Float[np.ndarray, "p t"], flow: Flow, start: Float[np.ndarray, "2 p"]
) -> Float[np.ndarray, "2 p t"]:
    """log A_g of few points at their times."""
    found, last = np.empty((2, *times.shape)), times.shape[1]
    points, reached = np.arange(times.shape[0]), np.zeros(times.shape[0], int)
    state, at, h = start, np.zeros(times.shape[0]), _first_step(flow, start)
    for _ in range(MOST_STEPS + last):  # each of the asked times ends a step
        if not points.size:
            return found
        target = times[points, reached]
        step = np.minimum(h, target - at)
        moved, unresolved = _step(flow, state, step)
        good = unresolved <= 1
        there = good & (step == target - at)
        state = np.where(good, moved, state)
        at = np.where(there, target, np.where(good, at + step, at))
        found[:, points[there], reached[there]] = state[:, there]
        reached = reached + there
        h = _next_step(h, step, unresolved)
        left = reached < last
        if not left.all():
            points, reached, at, h = points[left], reached[left], at[left], h[left]
            state, flow = state[:, left], flow.take(left)
    raise RuntimeError(f"{points.size} points are not at their times after {MOST_STEPS} steps")


def crossings(
    level: float,
    flow: Flow,
    start: Float[np.ndarray, "2 p"],
    shares: Float[np.ndarray, "2 p"],
) -> Float[np.ndarray, " p"]:
    """When x (shares_1 A_1 + shares_2 A_2) of every point first reaches `level`; 0 where it starts
    there."""
    found = np.empty(start.shape[1])
    for low in range(0, len(found), POINTS):
        some = slice(low, low + POINTS)
        found[some] = _crossings(level, flow.take(some), start[:, some], shares[:, some])
    return found


def _crossings(
    level: float,
    flow: Flow,
    start: Float[np.ndarray, "2 p"],
    shares: Float[np.ndarray, "2 p"],
) -> Float[np.ndarray, " p"]:
    """`crossings` of few points. The step in which the level is passed is taken again from where it
    began, its length by Newton's method, until the level is at its end."""
    found = np.zeros(start.shape[1])
    points = np.flatnonzero(_strength(start, shares)[0] < level)
    flow, shares, state = flow.take(points), shares[:, points], start[:, points]
    at, h = np.zeros(points.size), _first_step(flow, state)
    for _ in range(MOST_STEPS):
        if not points.size:
            return found
        moved, unresolved = _step(flow, state, h)
        strength, parts = _strength(moved, shares)
        excess = np.log(strength / level)
        off = excess / (parts * flow.field(moved)).sum(axis=0)
        good = unresolved <= 1
        done = good & (np.abs(off) <= 1e-14 * (at + h))
        found[points[done]] = (at + h - off)[done]
        passed = good & (excess >= 0)
        ahead = good & ~passed
        state, at = np.where(ahead, moved, state), np.where(ahead, at + h, at)
        grown = _next_step(h, h, unresolved)
        grown = np.where(ahead & (off < 0), np.minimum(grown, -off), grown)
        h = np.where(passed, np.clip(h - off, 0.1 * h, h), grown)
        left = ~done
        if not left.all():
            points, at, h, state = points[left], at[left], h[left], state[:, left]
            flow, shares = flow.take(left), shares[:, left]
    raise RuntimeError(f"{points.size} points have not reached {level} after {MOST_STEPS} steps")


def _strength(
    state: Float[np.ndarray, "2 p *t"], shares: Float[np.ndarray, "2 p *#t"]
) -> tuple[Float[np.ndarray, " p *t"], Float[np.ndarray, "2 p *t"]]:
    """x (shares_1 A_1 + shares_2 A_2), and the derivatives of its logarithm by log A_g."""
    A = np.exp(state)
    each = shares * A
    whole, size = each.sum(axis=0), np.hypot(A[0], A[1])
    return size * whole, (A / size) ** 2 + each / whole


def _first_step(flow: Flow, state: Float[np.ndarray, "2 p"]) -> Float[np.ndarray, " p"]:
    """A tenth of the fastest time at the start."""
    fastest = np.abs(flow.jacobian(state)).max(axis=(0, 1))
    return 0.1 / (np.hypot(*flow.rates) + fastest)


def _next_step(
    h: Float[np.ndarray, " p"], step: Float[np.ndarray, " p"], unresolved: Float[np.ndarray, " p"]
) -> Float[np.ndarray, " p"]:
    """The next step: of order nine in how well the last one was resolved. What was cut short by a time
    only ever shortens it."""
    factor = np.clip(0.85 * np.maximum(unresolved, 1e-12) ** (-1 / 9), 0.2, 6)
    return np.where((step < h) & (factor > 1), h, step * factor)
