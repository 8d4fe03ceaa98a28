"""When modes that share their directions are learned under the squared loss, in flow time: one problem and start, or a
grid of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from ssm.measures import spectral
from ssm.theory.growth import Values, damped_rate

GRID = 33  # times between which learning times are interpolated


class Learning(NamedTuple):
    """When modes that share their directions are learned: shape (..., r) each."""

    times: Float[np.ndarray, "*grid r"]
    first: Float[np.ndarray, "*grid r"]
    """When it would be learned if it were the only mode."""
    last: Float[np.ndarray, "*grid r"]
    """When it would be learned if all others had been learned before it."""


def overlapping_learning_times(
    rates: Float[np.ndarray, "*#grid r"],
    damping: Float[np.ndarray, "*#grid r"],
    start: Float[np.ndarray, "*#grid r r"],
    saturation: Values,
    level: Values = spectral.LEARNED,
    asked: Bool[np.ndarray, " r"] | None = None,
) -> Learning:
    """When modes that start along directions which overlap reach `level`, in flow time.

    Of the d directions of feature space a mode that was learned earlier leaves less to the others,
    and equal modes share them. With lam the `damped_rate` and X the rows g_p p + g_q q of all
    modes, each scaled so that its squared length is its strength over `saturation` times the
    target,

        share_j = saturation (1 - [(I + D X X^T D)^-1]_jj) / (1 - e^(-(2 lam + sigma) t)),
        D^2 = e^(2 lam t) - e^(-sigma t).

    Exact for the squared loss, unit weights and free features at W^T W - H H^T = -N I but for the
    decaying halves of the start; a sigmoid each where the rows are orthogonal.

    Args:
        rates, damping: r and sigma, each of shape (..., r).
        start: X X^T, of full rank: shape (..., r, r).
        saturation, level: each one number or of shape (...). The leading axes of all of them broadcast.
        asked: the modes whose times are wanted, others may get NaN; all where it is left out.

    Source: derived for this project, by Woodbury's identity from the Riccati solution of Fukumizu
    1998 and Domine et al. 2024.
    """
    lam, alone = damped_rate(rates, damping), _diagonal(start)
    saturation, level = (np.asarray(x, dtype=float)[..., None] for x in (saturation, level))
    shape = np.broadcast_shapes(lam.shape, alone.shape, saturation.shape, level.shape)
    size = np.sqrt(alone[..., :, None] * alone[..., None, :])
    left_over = alone / _diagonal(np.linalg.inv(start / size))  # by all the others

    def sigmoid_time(share: np.ndarray) -> np.ndarray:
        ratio = (1 / share - 1) / (saturation / level - 1)
        return np.log(np.maximum(ratio, 1.0)) / (2 * lam)

    first, last = (np.broadcast_to(sigmoid_time(x), shape) for x in (alone, left_over))
    wanted, times = _logit(level / saturation), np.full(shape, np.nan)
    # Modes of one rate look at the same times, so that one inverse a time serves them all.
    alike = np.unique(lam.reshape(-1, lam.shape[-1]), axis=1, return_inverse=True)[1].ravel()
    for group in np.unique(alike if asked is None else alike[asked]):
        mine = np.flatnonzero(alike == group)
        ends = first[..., mine].min(axis=-1), last[..., mine].max(axis=-1)
        grid = np.linspace(*ends, GRID, axis=-1)
        shares = _overlapping_shares(grid, lam, damping, start)[..., mine]
        odds = _logit(np.clip(shares, 1e-300, 1 - 1e-16))  # nearly straight in time
        times[..., mine] = _reaching(np.maximum.accumulate(odds, axis=-2), grid, wanted)
    return Learning(np.clip(times, first, last), first, last)


def _reaching(
    rising: Float[np.ndarray, "*grid t m"],
    times: Float[np.ndarray, "*grid t"],
    wanted: Float[np.ndarray, "*#grid 1"],
) -> Float[np.ndarray, "*grid m"]:
    """When numbers that rise, linear between the times, reach the one that is wanted: the first or the last
    time where they do not within them."""
    after = (rising <= wanted[..., None]).sum(axis=-2, keepdims=True)
    ends = np.clip(after - 1, 0, None), np.clip(after, None, times.shape[-1] - 1)
    low, high = (np.take_along_axis(rising, at, axis=-2)[..., 0, :] for at in ends)
    before, later = (np.take_along_axis(times, at[..., 0, :], axis=-1) for at in ends)
    slope = np.divide(later - before, high - low, out=np.zeros_like(low), where=high > low)
    return slope * np.clip(wanted - low, 0, high - low) + before


def _logit(share: Any) -> Any:
    return np.log(share) - np.log1p(-share)


def _diagonal(X: Float[np.ndarray, "*batch r r"]) -> Float[np.ndarray, "*batch r"]:
    return np.diagonal(X, axis1=-2, axis2=-1)


def _overlapping_shares(
    times: Float[np.ndarray, "*grid t"],
    lam: Float[np.ndarray, "*#grid r"],
    damping: Float[np.ndarray, "*#grid r"],
    start: Float[np.ndarray, "*#grid r r"],
) -> Float[np.ndarray, "*grid t r"]:
    """The share of its saturation that each mode has reached at each time, given the damped rates `lam`.

    I + D X X^T D is scaled to a unit diagonal, so that no growth overflows.
    """
    each, start = np.arange(lam.shape[-1]), start[..., None, :, :]
    alone = _diagonal(start)
    safe = np.maximum(times, 1e-9 / lam.max(axis=-1, keepdims=True))  # at 0 the ratio is 0 / 0
    growth = 2 * safe[..., None] * lam[..., None, :]
    gone = -np.expm1(-(growth + safe[..., None] * damping[..., None, :]))
    inverse = np.exp(-growth) / gone  # 1 / D^2
    scale, rest = 1 / np.sqrt(inverse + alone), inverse / (inverse + alone)
    scaled = scale[..., :, None] * start * scale[..., None, :]
    scaled[..., each, each] += rest
    unlearned = rest * _diagonal(np.linalg.inv(scaled))
    return (1 - unlearned) / gone
