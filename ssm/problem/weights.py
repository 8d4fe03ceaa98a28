"""Class weights. Their scale matters to gradient flow, so the laws here are scaled to unit mean
over samples."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Real

from ssm.support import checks, errors

Counts = Real[np.ndarray, " k"] | Sequence[int] | Sequence[float]


def power_law(counts: Counts, exponent: float) -> Float[np.ndarray, " k"]:
    """Weights falling with class size, of unit mean over samples.

    w_c = n n_c^-g / sum_j n_j^(1 - g), so that sum_c n_c w_c = n. g = 0 is ERM (every weight
    exactly 1), g = 1 inverse frequency (scikit-learn's "balanced").

    Args:
        counts: samples n_c > 0 of each class, shape (k,); weighted samples need not count whole.
        exponent: g.

    Raises ssm.InputError for anything else.

    Example:
        >>> power_law([60, 20, 20], 0.5).round(3).tolist()
        [0.774, 1.34, 1.34]
    """
    counts = checks.positive("counts", counts)
    exponent = checks.real("exponent", exponent, -math.inf)
    reference = counts.min() if exponent > 0 else counts.max()  # no power of a ratio overflows
    return _of_unit_mean(counts, (counts / reference) ** -exponent)


def effective_number(counts: Counts, beta: float | None = None) -> Float[np.ndarray, " k"]:
    """Weights falling with the effective number of samples (1 - b^n_c) / (1 - b), of unit mean
    over samples (Cui et al. 2019).

    w_c ~ (1 - b) / (1 - b^n_c), sum_c n_c w_c = n. b = 0 is ERM (every weight exactly 1), b -> 1
    inverse frequency, without loss of digits on the way.

    Args:
        counts: samples n_c > 0 of each class, shape (k,); weighted samples need not count whole.
        beta: b in [0, 1). Left out: (n - 1) / n, and 0 where n is no more than one sample.

    Raises ssm.InputError for anything else.
    """
    counts = checks.positive("counts", counts)
    if beta is None:
        inverse = 1 / max(counts.sum(), 1.0)  # 1 - b, which b itself would round
        log_beta = math.log1p(-inverse) if inverse < 1 else -math.inf
    else:
        beta = checks.real("beta", beta, 0, 1, open_ends=")")
        log_beta = math.log(beta) if beta > 0 else -math.inf
    return _of_unit_mean(counts, -1 / np.expm1(counts * log_beta))


def of_unit_class_mean(class_weights: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """Weights of any law scaled to unit mean over classes, so that they sum to k: k w_c / sum_j w_j,
    shape (k,).

    It is how class-balanced weights are published (Cui et al. 2019), and what much code does. The laws of
    this module have unit mean over samples instead. The two differ by one factor for all classes, which
    is one of the learning rate, and which `mean_sample_weight` tells.

    Raises ssm.InputError for weights that are not positive and finite.

    Example:
        >>> of_unit_class_mean(effective_number([100, 10], beta=0.99)).round(3).tolist()
        [0.262, 1.738]
    """
    given = checks.positive("class_weights", class_weights)
    return len(given) * given / given.sum()


def _of_unit_mean(
    counts: Float[np.ndarray, " k"], relative: Float[np.ndarray, " k"]
) -> Float[np.ndarray, " k"]:
    return counts.sum() * relative / (counts * relative).sum()


NAMED = {
    "balanced": functools.partial(power_law, exponent=1.0),
    "sqrt": functools.partial(power_law, exponent=0.5),
    "effective": effective_number,
}
"""Weightings that have a name: inverse frequency, its square root, and the effective number with
b = (n - 1) / n."""


def class_weights(spec: object, counts: Counts) -> Float[np.ndarray, " k"]:
    """The weights that a user asked for, shape (k,). Named ones have unit mean over samples, others
    are used as given.

    Args:
        spec: None (ones), one of `NAMED`, a dict {class index: weight} in which missing classes
            weigh 1, an array or sequence of k positive numbers, or a function of the counts that
            returns one.
        counts: samples n_c > 0 of each class, shape (k,).

    Raises ssm.InputError for anything else.
    """
    k = len(checks.positive("counts", counts))
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
    # Sets, strings, booleans and complex numbers are no weights, though NumPy could convert some.
    if weights.shape != (k,) or weights.dtype.kind not in "iuf":
        raise _refuse(spec, k)
    weights = weights.astype(np.float64)
    if not (np.isfinite(weights) & (weights > 0)).all():
        raise _refuse(spec, k)
    return weights


def _refuse(spec: object, k: int) -> errors.InputError:
    allowed = (
        f"None, one of {', '.join(NAMED)}, or positive finite weights: an array of {k}, a dict by "
        f"class (0 to {k - 1}), or a function of the counts that returns one of these"
    )
    return errors.invalid("class_weights", spec, allowed)


def mean_sample_weight(counts: Counts, class_weights: Float[np.ndarray, " k"]) -> float:
    """(1/n) sum_c n_c w_c, the learning-rate factor hidden in a weighting; 1 for `power_law`.

    Raises ssm.InputError for counts that are not positive, and for weights that are negative, not
    finite, or all 0.
    """
    counts, given = _exposed(counts, class_weights)
    return float((counts * given).sum() / counts.sum())


def effective_sample_share(counts: Counts, class_weights: Float[np.ndarray, " k"]) -> float:
    """The share of the samples that an average with these weights is worth, Kish's effective sample
    size over n (Kish 1965).

    (sum_c pi_c w_c)^2 / sum_c pi_c w_c^2, pi_c = n_c / n: in (0, 1], and 1 where all weights are
    equal; their scale does not matter.

    Raises ssm.InputError for counts that are not positive, and for weights that are negative, not
    finite, or all 0.
    """
    counts, given = _exposed(counts, class_weights)
    relative = given / given.max()  # squares of any scale stay finite
    share = (counts * relative).sum() ** 2 / (counts.sum() * (counts * relative**2).sum())
    return float(min(share, 1.0))  # rounding may lift it above


def _exposed(
    counts: Counts, class_weights: Float[np.ndarray, " k"]
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Counts and weights in float64, once they are known to be ones; a weight of 0 leaves a class
    out."""
    counts = checks.positive("counts", counts)
    allowed = f"{len(counts)} finite numbers of at least 0, not all of them 0"
    given = checks.positive("class_weights", class_weights, allowed, or_zero=True)
    if given.shape != counts.shape or not given.any():
        raise errors.invalid("class_weights", class_weights, allowed)
    return counts, given
