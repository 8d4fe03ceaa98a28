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


def effective_time(
    times: ArrayLike, class_weight: ArrayLike, start: float, ramp: float = 0.0
) -> Float[np.ndarray, "*n"]:
    """The time in which a contrast without weights grows as far as under weights that act from `start` on.

        t + (w - 1) int_0^t s,   s = min(max(t - start, 0) / ramp, 1).

    Args:
        times: flow time, any shape.
        class_weight: w > 0, of a shape that goes with that of `times`.
        start: when weights begin to act, in flow time.
        ramp: how long they take to act in full, 0 for a switch.

    Derived here.
    """
    time = np.asarray(times, float)
    after = np.maximum(time - start, 0)
    on_ramp = np.minimum(after, ramp)
    acted = after - on_ramp + (on_ramp**2 / (2 * ramp) if ramp > 0 else 0)
    return np.asarray(time + (np.asarray(class_weight) - 1) * acted)


def deferred_learning_time(
    unweighted: ArrayLike, class_weight: ArrayLike, start: float, ramp: float = 0.0
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
        class_weight: w > 0, of a shape that goes with that of `unweighted`.
        start: when weights begin to act, in flow time.
        ramp: how long they take to act in full, 0 for a switch.

    Derived here.
    """
    erm, w = np.broadcast_arrays(np.asarray(unweighted, float), np.asarray(class_weight, float))
    left = np.maximum(erm - start, 0)
    after = (left + (w - 1) * ramp / 2) / w
    if ramp > 0:
        bent = np.sqrt(np.maximum(1 + 2 * (w - 1) * left / ramp, 0))
        after = np.where(left <= ramp * (1 + w) / 2, 2 * left / (1 + bent), after)
    return np.where(erm > start, start + after, erm)


def balancing_start(
    unweighted: Float[np.ndarray, " 2"], class_weights: Float[np.ndarray, " 2"]
) -> float:
    """From when on weights have to act for both groups to be learned at once:
    (t_min / w_min - t_maj / w_maj) / (1 / w_min - 1 / w_maj).

    Args:
        unweighted: learning times of majorities and minorities without weights.
        class_weights: of majorities and minorities.

    Derived here.
    """
    return float(np.diff(unweighted / class_weights)[0] / np.diff(1 / class_weights)[0])


def earliest_end(unweighted: Float[np.ndarray, " g"], counts: Real[np.ndarray, " g"]) -> float:
    """Before this no schedule of weights of unit mean over samples has all groups learned: the mean over
    samples of the learning times without weights, sum n_g t_g / sum n_g.

    Args:
        unweighted: learning times of each group without weights, shape (g,).
        counts: samples of each group, shape (g,), up to a common factor.

    Derived here.
    """
    return float(counts @ unweighted / counts.sum())
