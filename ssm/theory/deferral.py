"""When contrasts are learned whose class weights act later than from the start, from when they are learned
without weights.

A contrast of weight w grows w s(t) + 1 - s(t) times as fast as without weights, where s rises from 0 to 1:
at once where weights start, or along a ramp. It is alone: a start in which contrasts do not mix, free
features or shared ones, and classes of equal counts and weights in each group.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Real
from numpy.typing import ArrayLike

from ssm.theory.growth import Numbers


def effective_time(
    times: ArrayLike, class_weight: ArrayLike, start: ArrayLike, ramp: ArrayLike = 0.0
) -> Float[np.ndarray, "*n"]:
    """The time in which a contrast without weights grows as far as under weights that act from `start` on.

        t + (w - 1) int_0^t s,   s = min(max(t - start, 0) / ramp, 1).

    Args:
        times: flow time, any shape.
        class_weight: w > 0.
        start: when weights begin to act, in flow time.
        ramp: how long they take to act in full, 0 for a switch. All broadcast.

    Derived here.
    """
    time, ramps = np.asarray(times, float), np.asarray(ramp, float)
    after = np.maximum(time - start, 0)
    on_ramp = np.minimum(after, ramps)
    acted = after - on_ramp + on_ramp**2 / (2 * np.where(ramps > 0, ramps, 1))
    return np.asarray(time + (np.asarray(class_weight) - 1) * acted)


def deferred_learning_time(
    unweighted: ArrayLike, class_weight: ArrayLike, start: ArrayLike, ramp: ArrayLike = 0.0
) -> Float[np.ndarray, "*n"]:
    """When a contrast is learned that is learned at `unweighted` without weights.

    It is the inverse of `effective_time`: `unweighted` itself up to the start, then with
    T = unweighted - start

        start + 2 T / (1 + sqrt(1 + 2 (w - 1) T / ramp))  on the ramp, T <= ramp (1 + w) / 2,
        start + (T + (w - 1) ramp / 2) / w  beyond.

    Example:
        >>> deferred_learning_time([50.0, 150.0], 2.0, start=100.0).tolist()
        [50.0, 125.0]

    Args:
        unweighted: learning times of empirical risk minimisation, in flow time, any shape.
        class_weight: w > 0.
        start: when weights begin to act, in flow time.
        ramp: how long they take to act in full, 0 for a switch. All broadcast.

    Derived here.
    """
    erm, w, ramp = (np.asarray(x, float) for x in (unweighted, class_weight, ramp))
    left = np.maximum(erm - start, 0)
    after = (left + (w - 1) * ramp / 2) / w
    bent = np.sqrt(np.maximum(1 + 2 * (w - 1) * left / np.where(ramp > 0, ramp, 1), 0))
    after = np.where((ramp > 0) & (left <= ramp * (1 + w) / 2), 2 * left / (1 + bent), after)
    return np.where(erm > start, start + after, erm)


def balancing_start(
    unweighted: Float[np.ndarray, "*#grid 2"], class_weights: Float[np.ndarray, "*#grid 2"]
) -> Numbers:
    """From when on weights have to act for both groups to be learned at once:
    (t_min / w_min - t_maj / w_maj) / (1 / w_min - 1 / w_maj).

    Args:
        unweighted: learning times of majorities and minorities without weights, shape (..., 2).
        class_weights: of majorities and minorities, shape (..., 2). Leading axes broadcast.

    Derived here.
    """
    apart = np.diff(unweighted / class_weights, axis=-1) / np.diff(1 / class_weights, axis=-1)
    return apart[..., 0]


def earliest_end(
    unweighted: Float[np.ndarray, "*#grid g"], counts: Real[np.ndarray, "*#grid g"]
) -> Numbers:
    """Before this no schedule of weights of unit mean over samples has all groups learned: the mean over
    samples of the learning times without weights, sum n_g t_g / sum n_g.

    Args:
        unweighted: learning times of each group without weights, shape (..., g).
        counts: samples of each group, shape (..., g), up to a common factor. Leading axes broadcast.

    Derived here.
    """
    return (counts * unweighted).sum(axis=-1) / counts.sum(axis=-1)
