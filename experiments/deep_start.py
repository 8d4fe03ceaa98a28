"""Contrasts of one group as if alone in a deep linear model, from Gaussian factors: how long they take.

A group of m contrasts with targets s_j sees L factors, X_1 (m x d), L - 2 hidden ones (d x d) and X_L (d x m), all
N(0, e^2), whose product tends to diag(s): dX_l = X_{<l}^T (diag(s) - X_1 .. X_L) X_{>l}^T / n. Beyond two factors the
time to leave the start is that of the largest directions that random factors happen to have, and it is
the longer the fewer dimensions there are. Majorities, and the cross contrast beside them, have all d. Once they are
learned, minorities have what these k_maj contrasts leave: d - k_maj.

Features of a class also scatter, which no target asks for: d more columns of X_L, of length e sqrt(n) each, since
n random columns are alike in every direction. They act as a decay of the layers above, for two factors of the
classifier at the rate e^2, which is nothing beside a majority's growth, and a third of a minority's at e = 0.03
and R = 30.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import integrate

LEARNED = 0.5
SETTLED = 0.6  # of its target, from where a draw is no longer followed, since it would be stiff


def gaussian_factors(
    contrasts: int, width: int, depth: int, scale: float, draws: int, scattered: int = 0
) -> list[np.ndarray]:
    """The factors of each draw, (draw, rows, columns), with the scatter of so many samples."""
    rng = np.random.default_rng(0)
    shapes = [(contrasts, width), *[(width, width)] * (depth - 2), (width, contrasts)]
    factors = [scale * rng.normal(size=(draws, *shape)) for shape in shapes]
    scatter = np.broadcast_to(scale * scattered**0.5 * np.eye(width), (draws, width, width))
    return [*factors[:-1], np.concatenate([factors[-1], scatter], axis=2)]


def products(factors: Sequence[np.ndarray]) -> np.ndarray:
    """X_1 .. X_L of each draw."""
    whole = factors[0]
    for factor in factors[1:]:
        whole = whole @ factor
    return whole


def velocity(factors: Sequence[np.ndarray], targets: np.ndarray, total: int) -> list[np.ndarray]:
    """dX_l / dt of each draw, for `total` samples."""
    last = len(factors) - 1
    wanted = np.eye(len(targets), factors[-1].shape[-1]) * targets[:, None]
    residual = (wanted - products(factors)) / total
    found = []
    for i in range(last + 1):
        change = residual
        if i > 0:
            change = products(factors[:i]).swapaxes(-1, -2) @ change
        if i < last:
            change = change @ products(factors[i + 1 :]).swapaxes(-1, -2)
        found.append(change)
    return found


def learning_times(
    factors: Sequence[np.ndarray], targets: np.ndarray, total: int, counted: int, t1: float
) -> np.ndarray:
    """When the mean share over the first `counted` contrasts is `LEARNED`, of each draw; NaN where
    that is later than t1."""
    shapes = [factor.shape for factor in factors]
    cuts = np.cumsum([factor.size for factor in factors])[:-1]

    def unpacked(state: np.ndarray) -> list[np.ndarray]:
        parts = np.split(state, cuts)
        return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]

    def share(own: Sequence[np.ndarray]) -> np.ndarray:
        strengths = np.diagonal(products(own), axis1=-2, axis2=-1)
        return (strengths / targets)[:, :counted].mean(1)

    def rate(_: float, state: np.ndarray) -> np.ndarray:
        own = unpacked(state)
        going = (share(own) < SETTLED)[:, None, None]
        return np.concatenate([(going * x).ravel() for x in velocity(own, targets, total)])

    start = np.concatenate([factor.ravel() for factor in factors])
    with np.errstate(over="ignore"):  # of a step that is tried where growth is steep, and not taken
        found = integrate.solve_ivp(rate, (0, t1), start, rtol=1e-3, atol=1e-7)
    shares = np.array([share(unpacked(state)) for state in found.y.T])
    reached = shares >= LEARNED
    after, draw = np.maximum(reached.argmax(0), 1), np.arange(shares.shape[1])
    low, high = shares[after - 1, draw], shares[after, draw]
    before = found.t[after - 1]
    times = before + (found.t[after] - before) * (LEARNED - low) / (high - low)
    return np.where(reached.any(0), times, np.nan)
