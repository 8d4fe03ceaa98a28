"""Class weights. Their scale matters to gradient flow, so the laws here are scaled to unit mean
over samples."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Real

from ssm import checks

Counts = Real[np.ndarray, " k"] | Sequence[int] | Sequence[float]


def power_law(counts: Counts, exponent: float) -> Float[np.ndarray, " k"]:
    """Weights falling with class size, of unit mean over samples.

    w_c = n n_c^-g / sum_j n_j^(1 - g), so that sum_c n_c w_c = n. g = 0 is ERM (every weight
    exactly 1), g = 1 inverse frequency (scikit-learn's "balanced").

    Args:
        counts: samples n_c of each class, shape (k,).
        exponent: g.
    """
    counts = np.asarray(counts, dtype=np.float64)
    return _of_unit_mean(counts, (counts / counts.min()) ** -exponent)


def effective_number(counts: Counts, beta: float) -> Float[np.ndarray, " k"]:
    """Weights falling with the effective number of samples (1 - b^n_c) / (1 - b), of unit mean
    over samples (Cui et al. 2019).

    w_c ~ (1 - b) / (1 - b^n_c), sum_c n_c w_c = n. b = 0 is ERM (every weight exactly 1), b -> 1
    inverse frequency, without loss of digits on the way.

    Args:
        counts: samples n_c of each class, shape (k,).
        beta: b in [0, 1); InputError otherwise.
    """
    beta = checks.real("beta", beta, 0, 1, open_ends=")")
    log_beta = math.log(beta) if beta > 0 else -math.inf
    counts = np.asarray(counts, dtype=np.float64)
    return _of_unit_mean(counts, -1 / np.expm1(counts * log_beta))


def _of_unit_mean(
    counts: Float[np.ndarray, " k"], relative: Float[np.ndarray, " k"]
) -> Float[np.ndarray, " k"]:
    return counts.sum() * relative / (counts * relative).sum()


NAMED = {
    "balanced": functools.partial(power_law, exponent=1.0),
    "sqrt": functools.partial(power_law, exponent=0.5),
    "effective": functools.partial(effective_number, beta=0.999),
}
"""Weightings that have a name: inverse frequency, its square root, and the effective number."""


def class_weights(spec: object, counts: Counts) -> Float[np.ndarray, " k"]:
    """The weights that a user asked for, shape (k,). Named ones have unit mean over samples, others
    are used as given.

    Args:
        spec: None (ones), one of `NAMED`, a dict {class index: weight} in which missing classes
            weigh 1, an array or sequence of k positive numbers, or a function of the counts that
            returns one.
        counts: samples n_c of each class, shape (k,).

    Raises InputError for anything else.
    """
    k = len(counts)
    if spec is None:
        return np.ones(k)
    if isinstance(spec, str):
        spec = NAMED[checks.choice("class_weights", spec, tuple(NAMED))]
    if callable(spec):
        spec = spec(np.asarray(counts))
    numbers = spec
    if isinstance(spec, Mapping):
        if not set(spec) <= set(range(k)):
            raise _refuse(spec, k)
        numbers = [spec.get(c, 1.0) for c in range(k)]
    try:
        weights = np.asarray(numbers)
    except (TypeError, ValueError, OverflowError):  # rows of different lengths
        raise _refuse(spec, k) from None
    # sets, strings, booleans and complex numbers are no weights, though NumPy could convert some
    if weights.shape != (k,) or weights.dtype.kind not in "iuf":
        raise _refuse(spec, k)
    weights = weights.astype(np.float64)
    if not (np.isfinite(weights) & (weights > 0)).all():
        raise _refuse(spec, k)
    return weights


def _refuse(spec: object, k: int) -> checks.InputError:
    allowed = (
        f"None, one of {', '.join(NAMED)}, or positive finite weights: an array of {k}, a dict by "
        f"class (0 to {k - 1}), or a function of the counts that returns one of these"
    )
    return checks.refuse("class_weights", spec, allowed)


def mean_sample_weight(counts: Counts, class_weights: Float[np.ndarray, " k"]) -> float:
    """(1/n) sum_c n_c w_c, the learning-rate factor hidden in a weighting; 1 for `power_law`."""
    counts = np.asarray(counts, dtype=np.float64)
    return float((counts * class_weights).sum() / counts.sum())


def effective_sample_share(counts: Counts, class_weights: Float[np.ndarray, " k"]) -> float:
    """The share of the samples that an average with these weights is worth, Kish's effective sample
    size over n (Kish 1965).

    (sum_c pi_c w_c)^2 / sum_c pi_c w_c^2, pi_c = n_c / n: in (0, 1], and 1 where all weights are
    equal; their scale does not matter.
    """
    counts = np.asarray(counts, dtype=np.float64)
    relative = class_weights / class_weights.max()  # squares of any scale stay finite
    share = (counts * relative).sum() ** 2 / (counts.sum() * (counts * relative**2).sum())
    return float(min(share, 1.0))  # rounding may lift it above
