"""Class weights. Their scale changes how fast gradient flow runs, so the laws here are scaled to unit mean over samples."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Real

from ssm.support import checks, errors

Counts = Real[np.ndarray, " k"] | Sequence[int] | Sequence[float]
LARGEST_BATCH = 2**53  # A float64 holds all integers up to this one.
SPACING = 0.2  # the distance in log u between the nodes of `_mean_weights`


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
    # Powers of ratios to this count do not overflow.
    reference = counts.min() if exponent > 0 else counts.max()
    return _of_unit_mean(counts, (counts / reference) ** -exponent)


def effective_number(counts: Counts, beta: float | None = None) -> Float[np.ndarray, " k"]:
    """Weights falling with the effective number of samples (1 - b^n_c) / (1 - b), of unit mean
    over samples (Cui et al. 2019).

    w_c ~ (1 - b) / (1 - b^n_c), sum_c n_c w_c = n. b = 0 is ERM (every weight exactly 1), b -> 1
    inverse frequency, without loss of digits on the way.

    Args:
        counts: samples n_c > 0 of each class, shape (k,); weighted samples need not count whole.
        beta: b in [0, 1). None is (n - 1) / n, and 0 where n is at most 1.

    Raises ssm.InputError for anything else.
    """
    counts = checks.positive("counts", counts)
    if beta is None:
        inverse = 1 / max(counts.sum(), 1.0)  # 1 - b, which loses digits if it is computed of b.
        log_beta = math.log1p(-inverse) if inverse < 1 else -math.inf
    else:
        beta = checks.real("beta", beta, 0, 1, open_ends=")")
        log_beta = math.log(beta) if beta > 0 else -math.inf
    return _of_unit_mean(counts, -1 / np.expm1(counts * log_beta))


def of_unit_class_mean(class_weights: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """Weights of any law scaled to unit mean over classes, so that they sum to k: k w_c / sum_j w_j,
    shape (k,).

    It is the scale at which class-balanced weights are published (Cui et al. 2019), and which much code uses. The laws of
    this module have unit mean over samples instead. The two differ by one factor for all classes, which
    acts as a factor of the learning rate, and which `mean_sample_weight` gives.

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
    except (TypeError, ValueError, OverflowError):  # Rows may have different lengths.
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
    relative = given / given.max()  # The squares are finite, whatever the scale of the weights.
    share = (counts * relative).sum() ** 2 / (counts.sum() * (counts * relative**2).sum())
    return float(min(share, 1.0))  # Rounding may lift it above 1.


def effective_class_weights(
    counts: Counts, class_weights: Counts, batch_size: int
) -> Float[np.ndarray, " k"]:
    """The class weights that a weighted mean over mini-batches trains with, of unit mean over samples.

    Dividing the losses of a batch of B by the sum of their own weights, as PyTorch's
    `CrossEntropyLoss(weight=...)` does, gives class c on average v_c in place of w_c: with the numbers m_c
    of its samples in a batch multinomial, of shares pi_c = n_c / n,

        v_c = E[m_c w_c / sum_j m_j w_j] / pi_c = B w_c int_0^inf e^(-w_c u) (sum_j pi_j e^(-w_j u))^(B - 1) du

    A batch of one ignores the weights, v = 1; large batches have v_c = w_c / sum_j pi_j w_j. The scale of
    the weights does not matter. In batches drawn without replacement, as those of an epoch are, v
    is nearer to w, and the nearer the larger the share of all samples in a batch.

    Args:
        counts: samples n_c > 0 of each class, shape (k,); weighted samples need not count whole.
        class_weights: the weights w_c > 0 that were asked for, shape (k,).
        batch_size: B, the samples of a batch.

    Raises ssm.InputError for anything else.

    Source: the integral derived for this project; accurate to some 1e-14 of each weight.

    Example:
        >>> effective_class_weights([1000, 10], [1, 100], batch_size=32).round(2).tolist()
        [0.8, 21.47]
    """
    counts, given = _exposed(counts, class_weights)
    if not given.min() / given.max() > 0:
        allowed = f"{len(counts)} positive numbers, their ratios finite"
        raise errors.invalid("class_weights", class_weights, allowed)
    size = checks.integer("batch_size", batch_size, 1, LARGEST_BATCH)
    return _mean_weights(counts / counts.sum(), given, np.asarray(size))


def effective_ratio(weight_ratio: object, minority_share: object, batch_size: object) -> Any:
    """The ratio of two classes' weights that a weighted mean over mini-batches trains with, in place of
    the one that was asked for.

    With m ~ Bin(B, pi) samples of the class of share pi in a batch of B, whose weight is w times the other's,

        {E[m w / (m w + B - m)] / pi} / {E[(B - m) / (m w + B - m)] / (1 - pi)}

    It is 1 at B = 1 and tends to w for large B; where the class is rare it is w B / (w + B - 1), half of w
    at about B = w. `effective_class_weights` is the same for any number of classes.

    Args:
        weight_ratio: w > 0.
        minority_share: pi in (0, 1).
        batch_size: B, integers; the three arrays broadcast.

    Returns:
        An array of the shape that they broadcast to, or a float.

    Raises ssm.InputError for anything else, and for shapes that do not broadcast.

    Source: the law derived for this project.

    Example:
        >>> effective_ratio(100.0, 1 / 101, [1, 8, 32, 128]).round(1).tolist()
        [1.0, 7.7, 27.0, 65.3]
    """
    ratio = checks.array("weight_ratio", weight_ratio, allowed := "positive finite numbers")
    if not ((ratio > 0) & (ratio < math.inf)).all():
        raise errors.invalid("weight_ratio", weight_ratio, allowed)
    share = checks.array("minority_share", minority_share, allowed := "numbers in (0, 1)")
    if not ((share > 0) & (share < 1)).all():
        raise errors.invalid("minority_share", minority_share, allowed)
    size = checks.array("batch_size", batch_size, allowed := f"integers in [1, {LARGEST_BATCH}]")
    is_whole = np.asarray(batch_size).dtype.kind in "iu"
    if not (is_whole and ((size >= 1) & (size <= LARGEST_BATCH)).all()):
        raise errors.invalid("batch_size", batch_size, allowed)
    try:
        ratio, share, size = np.broadcast_arrays(ratio, share, size)
    except ValueError:
        shapes = [x.shape for x in (ratio, share, size)]
        allowed = "arrays that broadcast"
        raise errors.invalid("weight_ratio, minority_share, batch_size", shapes, allowed) from None
    both = np.stack([1 - share, share], -1), np.stack([np.ones_like(ratio), ratio], -1)
    means = _mean_weights(*both, size)
    found = means[..., 1] / means[..., 0]
    return found if found.ndim else float(found)


def _mean_weights(
    shares: Float[np.ndarray, "*grid k"],
    class_weights: Float[np.ndarray, "*grid k"],
    size: Real[np.ndarray, "*grid"],
) -> Float[np.ndarray, "*grid k"]:
    """v_c = B w_c int_0^inf e^(-w_c u) phi(u)^(B - 1) du with phi = sum_j pi_j e^(-w_j u).

    It is the expectation of B w_c / (w_c + what B - 1 draws weigh), by 1 / x = int_0^inf e^(-x u) du. In
    x = log u the integrand is analytic up to an imaginary part of pi / 2, and along a line of imaginary
    part y its modulus integrates to at most v_c / cos y. So the trapezoidal rule of spacing h is right to
    2 e (2 pi / h) e^(-pi^2 / h) of v_c, 1e-19 at h = 0.2, whatever weights, shares and size; u below the
    first node and above the last add 1e-18 of it at most.
    """
    w = class_weights / class_weights.max(-1, keepdims=True)
    least = w.min(-1, keepdims=True)
    first, last = math.log(1e-18) - np.log(size.max()), math.log(40.0) - np.log(w.min())
    total = np.zeros(np.shape(w))
    for x in first + SPACING * np.arange(math.ceil((last - first) / SPACING) + 1):
        u = np.exp(x)
        fall = (shares * np.expm1(-w * u)).sum(-1)
        # Each form of log phi keeps its digits where the other loses them.
        rest = (shares * np.exp(-(w - least) * u)).sum(-1)
        log_phi = np.where(
            fall > -0.5, np.log1p(np.maximum(fall, -0.5)), np.log(rest) - least[..., 0] * u
        )
        total += np.exp(x - w * u + ((size - 1) * log_phi)[..., None])
    return SPACING * size[..., None] * w * total


def _exposed(
    counts: Counts, class_weights: Counts
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Counts and weights in float64, once they are checked; a weight of 0 leaves its class out."""
    counts = checks.positive("counts", counts)
    allowed = f"{len(counts)} finite numbers of at least 0, not all of them 0"
    given = checks.positive("class_weights", class_weights, allowed, or_zero=True)
    if given.shape != counts.shape or not given.any():
        raise errors.invalid("class_weights", class_weights, allowed)
    return counts, given
