"""Weights scaled and clipped at once, so that they keep their bounds and have unit mean over samples."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float

from ssm.problem.array_modules import arrays, like
from ssm.support.arrays import AnyArray

Vector = Float[AnyArray, " k"]


def capped_unit_mean(
    weights: Vector, shares: Vector, low: Float[AnyArray, ""], high: Float[AnyArray, ""]
) -> Vector:
    """clip(lam w_c, low, high), shape (k,), with the lam > 0 that makes sum_c pi_c of it 1.

    The mean rises with lam in straight lines between the 2k places low / w_c and high / w_c, so it is
    solved on the line that crosses 1, found by halving the sorted places: exact, in O(k log k).

    Args:
        weights: w_c >= 0, one of them positive, shape (k,).
        shares: pi_c, of sum 1, shape (k,).
        low, high: bounds in [0, 1] and from 1 on.
    """
    xp, _ = arrays(weights)
    # A weight of zero is raised to a tiny share of the largest weight, since its places would be at infinity.
    least = xp.finfo(weights.dtype).tiny ** 0.5
    relative = xp.maximum(weights / weights.max(), least)
    places = xp.sort(xp.concatenate([low / relative, high / relative]))

    def mean(factor: Float[AnyArray, ""]) -> Float[AnyArray, ""]:
        return (shares * xp.clip(factor * relative, low, high)).sum()

    def halve(_: ArrayLike, ends: tuple[AnyArray, AnyArray]) -> tuple[AnyArray, AnyArray]:
        middle = (ends[0] + ends[1]) // 2
        below = mean(places[middle]) < 1
        return xp.where(below, middle, ends[0]), xp.where(below, ends[1], middle)

    count = len(places)
    ends = xp.array(0), xp.array(count - 1)
    if xp is jnp:
        line = places[jnp.stack(jax.lax.fori_loop(0, count.bit_length(), halve, ends))]
        means = jax.vmap(mean)(line)
    else:
        for round_ in range(count.bit_length()):
            ends = halve(round_, ends)
        line = places[np.stack(ends)]
        means = np.array([mean(factor) for factor in line])
    factor = like(weights, xp.interp(1.0, means, line))
    return xp.clip(factor * relative, low, high)
