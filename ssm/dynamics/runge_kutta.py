"""Explicit Runge-Kutta steps of any state: pairs of order 5 and 4, the stabilised Legendre method for
stiff gradient flows, dense output, the length of the first step, and crossings inside a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PyTree

from ssm.support import dormand_prince

State = PyTree
"""A state, or a slope, of any structure."""


class Pair(NamedTuple):
    """An explicit Runge-Kutta pair of order 5 and 4 whose last stage is the next step's first."""

    stages: tuple[np.ndarray, ...]
    """For each stage but the first, the weights of the derivatives before it; the last stage is the
    solution."""
    error: np.ndarray
    """Weights of all derivatives in the estimate of the error."""
    nodes: np.ndarray
    """The share of the step at which each of those stages is taken."""
    dense: np.ndarray
    """Weights inside a step, (4, stages): at share x of it derivative i has weight sum_p dense[p, i] x^(p + 1)."""


def _pair(
    stages: Sequence[Sequence[float]],
    error: Sequence[float],
    nodes: Sequence[float],
    middle: Sequence[float],
) -> Pair:
    """A pair whose dense output is the quartic through both ends of a step, with their slopes, and through its middle."""
    first, *_, last = np.eye(len(error))
    slope, value = np.arange(1, 5), np.ones(4)
    powers = np.stack([value * (slope == 1), slope, value, 0.5**slope])
    known = np.stack([first, last, np.append(stages[-1], 0.0), np.array(middle)])
    rows = tuple(map(np.array, stages))
    return Pair(rows, np.array(error), np.array(nodes), np.linalg.solve(powers, known))


# Each pair is given by its stages, its error, its nodes, and the weights of the solution in the middle of a step.
# Sources: Tsitouras 2011, whose numbers are decimals, with the free interpolant at 1/2; Dormand, Prince 1980 with
# the free interpolant of Shampine 1986.
PAIRS = {
    "tsit5": _pair(
        (
            (0.161,),
            (-0.008480655492356989, 0.335480655492357),
            (2.8971530571054935, -6.359448489975075, 4.3622954328695815),
            (5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525),
            (
                5.86145544294642,
                -12.92096931784711,
                8.159367898576159,
                -0.071584973281401,
                -0.028269050394068383,
            ),
            (
                0.09646076681806523,
                0.01,
                0.4798896504144996,
                1.379008574103742,
                -3.290069515436081,
                2.324710524099774,
            ),
        ),
        (
            0.0017800110522257773,
            0.0008164344596567463,
            -0.007880878010261994,
            0.1447110071732629,
            -0.5823571654525552,
            0.45808210592918686,
            -1 / 66,
        ),
        (0.161, 0.327, 0.9, 0.9800255409045097, 1.0, 1.0),
        (
            0.10741235230096871,
            0.01135625,
            0.39560903056045305,
            -0.34475214352593553,
            1.3161853649581645,
            -1.0170608542936508,
            0.03125,
        ),
    ),
    "dopri5": _pair(
        dormand_prince.STAGES,
        # These are the weights of order 5 less those of order 4.
        (
            35 / 384 - 1951 / 21600,
            0.0,
            500 / 1113 - 22642 / 50085,
            125 / 192 - 451 / 720,
            -2187 / 6784 + 12231 / 42400,
            11 / 84 - 649 / 6300,
            -1 / 60,
        ),
        (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0),
        (
            6025192743 / 30085553152 / 2,
            0.0,
            51252292925 / 65400821598 / 2,
            -2691868925 / 45128329728 / 2,
            187940372067 / 1594534317056 / 2,
            -1776094331 / 19743644256 / 2,
            11237099 / 235043384 / 2,
        ),
    ),
}


class TriedStep(NamedTuple):
    """One step that was tried."""

    length: Array
    params: State
    """The state at its end."""
    slopes: Sequence[State]
    """Slopes inside the step, from that of its start to that of its end."""
    error: State
    """An estimate of the step's error, of the structure of the state."""
    inside: Callable[[Array], State]
    """The state at a share of the step."""
    memory: PyTree
    """What the method hands to the next step."""
    stretch: Array
    """The length of the step times an estimate of the field's spectral radius."""


def pair_step(
    pair: Pair,
    field: Callable[[State, ArrayLike], State],
    advance: Callable[[State, Sequence[State], Sequence[Array] | Array], State],
    params: State,
    slope: State,
    length: Array,
) -> TriedStep:
    """A step of a pair.

    Args:
        field: (state, share of the step) -> slope.
        advance: (state, slopes, weights) -> state + sum_i weights[i] slopes[i].
    """
    slopes, end, before = [slope], params, params
    for weights, node in zip(pair.stages, pair.nodes, strict=True):
        before, end = end, advance(params, slopes, [length * weight for weight in weights])
        slopes.append(field(end, node))
    zero = jax.tree.map(jnp.zeros_like, params)
    error = advance(zero, slopes, [length * weight for weight in pair.error])

    def inside(share: Array) -> State:
        first, second, third, fourth = pair.dense
        weights = first + share * (second + share * (third + share * fourth))
        return advance(params, slopes, length * share * weights)

    # The last two stages are both taken at the end of the step, in two states close to each other, so that the
    # difference of their slopes tells the spectral radius.
    bend = advance(zero, slopes[-2:], [-jnp.ones_like(length), jnp.ones_like(length)])
    stretch = length * _norm(bend) / _norm(jax.tree.map(jnp.subtract, end, before))
    return TriedStep(length, end, slopes, error, inside, (), stretch)


def _norm(x: State) -> Array:
    return jnp.sqrt(sum(jnp.vdot(leaf, leaf) for leaf in jax.tree.leaves(x)))


MOST_STAGES = 9_999
"""The most stages of a step, which are bounded since rounding errors grow with the square of their number."""
_POWER_ITERATIONS = 3


def legendre_step(
    field: Callable[[State], State], params: State, slope: State, length: Array, direction: State
) -> TriedStep:
    """A step of RKL2, with as many stages s as the stiffest mode asks for: (s^2 + s - 2) / 2 > length x
    spectral radius of the field's Jacobian, whose eigenvalues have to be real, as those of a gradient flow are.

    The method is of second order. Its error is taken as (4 (y_0 - y_1) + 2 length (f_0 + f_1)) / 5, which Sommeijer,
    Shampine, Verwer 1998 use for their method. Slopes in stiff modes are mostly rounding errors, so nothing is
    interpolated from them: the only state given inside the step is its end. Source: Meyer, Balsara,
    Aslam 2014.

    Args:
        direction: a guess of the stiffest mode, which power iterations improve in each step.
    """

    def turn(_: Array, guess: State) -> State:
        unit = jax.tree.map(lambda x: x / jnp.maximum(_norm(guess), tiny), guess)
        return jax.jvp(field, (params,), (unit,))[1]

    tiny = jnp.finfo(length.dtype).tiny
    direction = jax.lax.fori_loop(0, _POWER_ITERATIONS, turn, direction)
    radius = 1.2 * _norm(direction)
    length = jnp.minimum(length, (MOST_STAGES**2 + MOST_STAGES - 2) / 2 / radius)
    stages = jnp.ceil((jnp.sqrt(9 + 8 * length * radius) - 1) / 2)
    # An odd number of stages damps every mode.
    stages = jnp.maximum(2 * jnp.ceil((stages - 1) / 2) + 1, 3)
    spread = 4 / (stages**2 + stages - 2)

    def share(j: Array) -> Array:
        return jnp.where(j < 2, 1 / 3, (j**2 + j - 2) / jnp.maximum(2 * j * (j + 1), 1))

    def stage(i: Array, last: tuple[State, State]) -> tuple[State, State]:
        j = i.astype(length.dtype)
        grown = share(j) / share(j - 1)
        mu, nu = (2 * j - 1) / j * grown, -(j - 1) / j * share(j) / share(j - 2)
        here, before = last
        here_slope = field(here)
        step = mu * spread * length

        def combine(y0: Array, y1: Array, y2: Array, f0: Array, f1: Array) -> Array:
            return (1 - mu - nu) * y0 + mu * y1 + nu * y2 + step * (f1 - (1 - share(j - 1)) * f0)

        return jax.tree.map(combine, params, here, before, slope, here_slope), here

    first = jax.tree.map(lambda y, f: y + length * spread / 3 * f, params, slope)
    end, _ = jax.lax.fori_loop(2, stages.astype(int) + 1, stage, (first, params))
    end_slope = field(end)
    error = jax.tree.map(
        lambda y0, y1, f0, f1: 0.8 * (y0 - y1) + 0.4 * length * (f0 + f1),
        params,
        end,
        slope,
        end_slope,
    )

    stretch = length * radius
    return TriedStep(length, end, (slope, end_slope), error, lambda _: end, direction, stretch)


def hermite(x: Array, length: Array, y0: Array, y1: Array, slope0: Array, slope1: Array) -> Array:
    """The cubic through the values and slopes at both ends of a step, at share x of it."""
    return (
        (1 + 2 * x) * (1 - x) ** 2 * y0
        + x**2 * (3 - 2 * x) * y1
        + length * x * (1 - x) * ((1 - x) * slope0 - x * slope1)
    )


def weighted_sum(y: Array, slopes: Sequence[Array], weights: Sequence[Array] | Array) -> Array:
    """The sum y + sum_i weights[i] slopes[i]."""
    for i, slope in enumerate(slopes):
        y = y + weights[i] * slope
    return y


def first_step(
    field: Callable[[State], State],
    params: State,
    slope: State,
    scale: State,
    size: Callable[[State, State], Array],
) -> Array:
    """The length of the first step, at which the error of an Euler step is about a hundredth of the
    tolerance (Hairer, Norsett, Wanner 1993, II.4).

    Args:
        scale: the tolerance of each number of the state.
        size: (state, scale) -> size of the one relative to the other.
    """
    d0, d1 = size(params, scale), size(slope, scale)
    small = jnp.where((d0 < 1e-5) | (d1 < 1e-5), 1e-6, 0.01 * d0 / jnp.maximum(d1, 1e-30))
    ahead = field(jax.tree.map(lambda y, k: y + small * k, params, slope))
    d2 = size(jax.tree.map(jnp.subtract, ahead, slope), scale) / small
    largest = jnp.maximum(d1, d2)
    guess = jnp.where(largest <= 1e-15, jnp.maximum(1e-6, small * 1e-3), (0.01 / largest) ** 0.2)
    return jnp.minimum(100 * small, guess)


def crossing(bracket: Float[Array, "6 s"], level: float) -> Float[Array, " s"]:
    """The time at which the cubic Hermite interpolant of each bracket reaches `level`, by bisection; NaN
    where a series has no bracket.

    Args:
        bracket: for each series the step in which it rises through `level`: its start and length,
            the values at both ends, the slopes at both ends.
    """
    time, length, low, high, low_slope, high_slope = bracket

    def halve(_: Array, inside: tuple[Array, Array]) -> tuple[Array, Array]:
        left, right = inside
        x = (left + right) / 2
        value = hermite(x, length, low, high, low_slope, high_slope)
        return jnp.where(value < level, x, left), jnp.where(value < level, right, x)

    ends = jnp.zeros_like(low), jnp.ones_like(low)
    return time + length * jax.lax.fori_loop(0, 50, halve, ends)[1]
