"""What an explicit Runge-Kutta method needs, whatever it integrates: tableaus, dense output, the
first step, crossings inside a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


class Pair(NamedTuple):
    """An explicit Runge-Kutta pair of order 5 and 4 whose last stage is the next step's first."""

    stages: tuple[np.ndarray, ...]
    """Weights of the derivatives known so far, for each stage but the first; the last is the
    solution."""
    error: np.ndarray
    dense: np.ndarray
    """(4, stages): at share x of the step derivative i has weight sum_p dense[p, i] x^(p + 1)."""


def _pair(tableau: diffrax.ButcherTableau, middle: Sequence[float]) -> Pair:
    """A pair with the quartic through both ends of a step, their slopes, and its middle."""
    first, *_, last = np.eye(len(tableau.b_sol))
    slope, value = np.arange(1, 5), np.ones(4)
    powers = np.stack([value * (slope == 1), slope, value, 0.5**slope])
    known = np.stack([first, last, np.array(tableau.b_sol), np.array(middle)])
    rows = tuple(np.array(row) for row in tableau.a_lower)
    return Pair(rows, np.array(tableau.b_error), np.linalg.solve(powers, known))


# The middles: the free interpolants of Tsitouras 2011 at 1/2, and of Shampine 1986.
PAIRS = {
    "tsit5": _pair(
        diffrax.Tsit5.tableau,
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
        diffrax.Dopri5.tableau,
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


def weighted_sum(y: Array, slopes: Sequence[Array], weights: Any) -> Array:
    """y + sum_i weights[i] slopes[i]."""
    for i, slope in enumerate(slopes):
        y = y + weights[i] * slope
    return y


def first_step(
    field: Callable[[Any], Any],
    params: Any,
    slope: Any,
    scale: Any,
    size: Callable[[Any, Any], Array],
) -> Array:
    """A length at which one Euler step is about a hundredth of the tolerance off (Hairer, Norsett,
    Wanner 1993, II.4)."""
    d0, d1 = size(params, scale), size(slope, scale)
    small = jnp.where((d0 < 1e-5) | (d1 < 1e-5), 1e-6, 0.01 * d0 / jnp.maximum(d1, 1e-30))
    ahead = field(jax.tree.map(lambda y, k: y + small * k, params, slope))
    d2 = size(jax.tree.map(jnp.subtract, ahead, slope), scale) / small
    largest = jnp.maximum(d1, d2)
    guess = jnp.where(largest <= 1e-15, jnp.maximum(1e-6, small * 1e-3), (0.01 / largest) ** 0.2)
    return jnp.minimum(100 * small, guess)


def crossing(bracket: Float[Array, "6 s"], level: float) -> Float[Array, " s"]:
    """When the cubic Hermite interpolant of each bracket reaches `level`, by bisection; NaN without
    one.

    Args:
        bracket: for each series the step in which it rises through `level`: its start and length,
            the values at both ends, the slopes at both ends.
    """
    time, length, low, high, low_slope, high_slope = bracket

    def halve(_: Any, inside: tuple[Array, Array]) -> tuple[Array, Array]:
        left, right = inside
        x = (left + right) / 2
        value = (
            (1 + 2 * x) * (1 - x) ** 2 * low
            + x**2 * (3 - 2 * x) * high
            + length * x * (1 - x) * ((1 - x) * low_slope - x * high_slope)
        )
        return jnp.where(value < level, x, left), jnp.where(value < level, right, x)

    ends = jnp.zeros_like(low), jnp.ones_like(low)
    return time + length * jax.lax.fori_loop(0, 50, halve, ends)[1]
