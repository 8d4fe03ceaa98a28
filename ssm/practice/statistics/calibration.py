"""Calibration of probabilities: errors over bins of equal mass, reliability diagrams, and an interval for
the error that allows for the upward bias of what is measured."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from scipy import stats

from ssm.practice.statistics import bootstrap
from ssm.practice.statistics.bootstrap import Interval, Samples
from ssm.support import checks
from ssm.support.errors import invalid

Probabilities = Float[np.ndarray, "m k"]
Labels = Int[np.ndarray, " m"]
# The probabilities of a sample, which may be in float32, may sum to 1 up to this much.
ROUNDING = 1e-5


class Reliability(NamedTuple):
    """The bins of a reliability diagram, from the least confident to the most, each of shape (b,)."""

    mean_confidence: Float[np.ndarray, " b"]
    frequency: Float[np.ndarray, " b"]
    """The share of the bin's samples whose outcome is 1."""
    count: Float[np.ndarray, " b"]
    """The number of samples in the bin, or the sum of their weights."""

    @property
    def error(self) -> float:
        """sum_b (m_b / m) |mean confidence - frequency| (Naeini et al. 2015)."""
        gaps = np.abs(self.mean_confidence - self.frequency)
        return float((self.count * gaps).sum() / self.count.sum())


def probability_rows(probabilities: ArrayLike, labels: ArrayLike) -> tuple[Probabilities, Labels]:
    """Probabilities as rows in float64 whose sums are 1 to the last digits, and labels as an array.

    Args:
        probabilities: shape (m, k), k at least 2; sums may differ from 1 by the rounding of float32.
        labels: shape (m,), integers below k.

    Raises:
        ssm.InputError: anything else.
    """
    allowed = "rows of probabilities, shape (m, k), k at least 2, that sum to 1"
    rows = _numbers("probabilities", probabilities, allowed)
    if rows.ndim != 2 or not len(rows) or rows.shape[1] < 2 or not _within_unit(rows):
        raise invalid("probabilities", probabilities, allowed)
    totals = rows.sum(1, keepdims=True)
    if np.abs(totals - 1).max() > ROUNDING:
        raise invalid("probabilities", probabilities, allowed)
    m, k = rows.shape
    of_samples = np.asarray(labels)
    whole = of_samples.shape == (m,) and of_samples.dtype.kind in "iu"
    if not whole or not ((of_samples >= 0) & (of_samples < k)).all():
        raise invalid("labels", labels, f"{m} integers in [0, {k - 1}]")
    return rows / totals, of_samples.astype(np.int64)


def sample_weights(value: ArrayLike | None, number: int) -> Samples:
    """The weights of `number` samples, ones for None; raises ssm.InputError unless they are finite, not
    negative and not all 0."""
    if value is None:
        return np.ones(number)
    allowed = f"{number} finite numbers, none negative, not all 0"
    weights = _numbers("sample_weight", value, allowed)
    finite = np.isfinite(weights).all() and (weights >= 0).all() and weights.any()
    if weights.shape != (number,) or not finite:
        raise invalid("sample_weight", value, allowed)
    return weights


def top_label(probabilities: ArrayLike, labels: ArrayLike) -> tuple[Samples, Samples]:
    """The largest probability of each sample, and 1 where the class that has it is the label, else 0:
    both of shape (m,).

    Raises:
        ssm.InputError: as for `probability_rows`.
    """
    rows, classes = probability_rows(probabilities, labels)
    return rows.max(1), (rows.argmax(1) == classes).astype(float)


def reliability(
    confidences: ArrayLike,
    outcomes: ArrayLike,
    num_bins: int = 15,
    sample_weight: ArrayLike | None = None,
) -> Reliability:
    """Mean confidence and frequency of the outcome in bins of equal mass.

    Samples are sorted by their confidence. A value that takes up the shares q to q' of their weight is
    in bin floor(num_bins (q + q') / 2), so that equal values stay together, and few values make few
    bins.

    Example:
        >>> bins = reliability([0.1, 0.2, 0.7, 0.9], [0, 0, 1, 1], num_bins=2)
        >>> bins.mean_confidence.round(2).tolist(), bins.frequency.tolist(), round(bins.error, 3)
        ([0.15, 0.8], [0.0, 1.0], 0.175)

    Args:
        confidences: probabilities of the outcome, shape (m,): those of the predicted class
            (`top_label`), or a column of the probabilities for one class against the rest.
        outcomes: 1 (or True) where the outcome came true, else 0, shape (m,).
        num_bins: the largest number of bins.
        sample_weight: shape (m,), not negative, ones unless given; weight w counts as w equal samples.

    Raises:
        ssm.InputError: anything else.

    Source: Nguyen and O'Connor 2015 (bins of equal mass).
    """
    p, y = _pairs(confidences, outcomes)
    weights = sample_weights(sample_weight, len(p))
    starts, order = _bins(p, weights, checks.integer("num_bins", num_bins, 1, 10**6))
    weights = weights[order]
    count = np.add.reduceat(weights, starts)
    return Reliability(
        np.add.reduceat(weights * p[order], starts) / count,
        np.add.reduceat(weights * y[order], starts) / count,
        count,
    )


def top_label_error(
    probabilities: ArrayLike,
    labels: ArrayLike,
    num_bins: int = 15,
    sample_weight: ArrayLike | None = None,
) -> float:
    """The calibration error of the predicted class: sum_b (m_b / m) |mean confidence - accuracy| over bins
    of its probability.

    It exceeds the error of the population, since noise within a bin counts as error too: by about
    sum_b (m_b / m) sqrt(2 p_b (1 - p_b) / (pi m_b)) where the latter is 0.

    Example:
        >>> round(top_label_error([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]], [0, 1, 1]), 2)
        0.4

    Args:
        probabilities: shape (m, k).
        labels: shape (m,), integers below k.
        num_bins: the largest number of bins, which have equal mass.
        sample_weight: how often each sample counts, shape (m,); once where it is left out.

    Raises:
        ssm.InputError: anything else.

    Source: Naeini et al. 2015; bins of equal mass Nguyen and O'Connor 2015.
    """
    return reliability(*top_label(probabilities, labels), num_bins, sample_weight).error


def class_errors(
    probabilities: ArrayLike,
    labels: ArrayLike,
    num_bins: int = 15,
    sample_weight: ArrayLike | None = None,
) -> Float[np.ndarray, " k"]:
    """The calibration error of each class against the rest, shape (k,).

    The error of class c is sum_b (m_b / m) |mean p_c - share of label c| over bins of p_c.

    Args and Raises: as for `top_label_error`.

    Source: Kull et al. 2019 (class by class); Nixon et al. 2019 (adaptive bins).
    """
    rows, classes = probability_rows(probabilities, labels)
    diagrams = (reliability(p, classes == c, num_bins, sample_weight) for c, p in enumerate(rows.T))
    return np.array([diagram.error for diagram in diagrams])


def bootstrap_interval(
    confidences: ArrayLike,
    outcomes: ArrayLike,
    num_bins: int = 15,
    level: float = 0.95,
    num_resamples: int = 999,
    seed: int | np.random.Generator = 0,
) -> Interval:
    """An interval for the calibration error, by inverting bootstrap tests of what is measured.

    The estimand is theta = sum_b P(b) |E[confidence - outcome | b]|, the population's error over bins
    at its own quantiles. It is at most the full error, E |confidence - P(outcome | confidence)|, and
    equals it where no bin has gaps of both signs, or each bin has a single confidence.

    The measured error T is biased upwards, so that percentiles of its resamples do not cover theta.
    Instead each theta is tested. Outcomes are drawn with frequencies confidence - a s_b, with the scale
    a chosen such that their error is theta (at theta = 0 they are drawn from the confidences
    themselves: consistency resampling). theta belongs to the interval unless T is among the strangest
    1 - level of the errors T* measured on these outcomes. By the ratio of normal likelihoods, T is the
    stranger the larger (T - E T*)^2 - min(T - E T*_0, 0)^2 is, with T*_0 the errors at theta = 0; this
    makes limits (low = 0) and intervals one rule. The shape s_b, which says which bins err, is
    estimated (a hybrid bootstrap): the measured gaps, in standard deviations of an outcome, are shrunk
    towards their mean as far as noise explains how they differ (empirical Bayes). The estimate is the
    theta for which E T* = T.

    Coverage is `level` at theta = 0. In simulations of 300 to 3000 samples, a level of 95 % covered
    93 % to 97 % in most cases: constant gaps, gaps smooth in the confidence, softmax classes that were
    tempered or wrongly weighted. It covered up to 100 % where nearly all confidences are near 0 or 1
    and right. It covered 91 % for the smallest classes, whose error lies within the last bin, and for
    steps of 0.15 in six bins of 15. It covered 66 % to 76 % where one and a half bins had a gap of 0.3
    and the others none, since noise hides which bins err.

    Args:
        confidences: probabilities of the outcome, shape (m,), as for `reliability`.
        outcomes: 1 (or True) where the outcome came true, else 0, shape (m,).
        num_bins: the largest number of bins, which have equal mass.
        level: coverage.
        num_resamples: outcomes drawn for each sample.
        seed: of the draws, an integer or a NumPy generator.

    Raises:
        ssm.InputError: anything else.

    Source: Feldman and Cousins 1998 (ordering), Chuang and Lai 2000 (hybrid bootstrap), Bröcker and
    Smith 2007 (consistency resampling), Morris 1983 (shrinkage).
    """
    p, y = _pairs(confidences, outcomes)
    num_bins = checks.integer("num_bins", num_bins, 1, 10**6)
    level = checks.real("level", level, 0, 1, open_ends="()")
    num_resamples = checks.integer("num_resamples", num_resamples, 19, 10**6)
    starts, order = _bins(p, np.ones(len(p)), num_bins)
    return bootstrap.interval(p[order], y[order], starts, level, num_resamples, seed)


def wilson(
    successes: ArrayLike, totals: ArrayLike, level: float = 0.95
) -> tuple[Float[np.ndarray, " b"], Float[np.ndarray, " b"]]:
    """The lower and upper ends of Wilson's score interval for each of several proportions, shape (b,).

    (p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n), p = successes / n.

    Args:
        successes: shape (b,), from 0 to `totals`.
        totals: n > 0, shape (b,).
        level: coverage.

    Raises:
        ssm.InputError: anything else.

    Source: Wilson 1927.
    """
    level = checks.real("level", level, 0, 1, open_ends="()")
    n = _numbers("totals", totals, "positive numbers, shape (b,)")
    if n.ndim != 1 or not (np.isfinite(n) & (n > 0)).all():
        raise invalid("totals", totals, "positive numbers, shape (b,)")
    allowed = "numbers from 0 to totals, shape (b,)"
    x = _numbers("successes", successes, allowed)
    if x.shape != n.shape or not ((x >= 0) & (x <= n)).all():
        raise invalid("successes", successes, allowed)
    z = stats.norm.isf((1 - level) / 2)
    share = x / n
    half = z * np.sqrt(share * (1 - share) / n + (z / n) ** 2 / 4)
    low, high = ((share + z**2 / (2 * n) + sign * half) / (1 + z**2 / n) for sign in (-1, 1))
    # Where the ends are 0 and 1, rounding is taken off.
    return np.where(x == 0, 0.0, low), np.where(x == n, 1.0, high)


def _bins(confidences: Samples, weights: Samples, num_bins: int) -> tuple[np.ndarray, np.ndarray]:
    """The order of the samples by confidence, without those of weight 0, and before it the first position
    of each bin in that order."""
    order = np.argsort(confidences, kind="stable")
    order = order[weights[order] > 0]
    ordered = confidences[order]
    firsts = np.flatnonzero(np.diff(ordered, prepend=-1.0))
    mass = np.add.reduceat(weights[order], firsts)
    cumulative = np.cumsum(mass)
    bin_of = np.floor(num_bins * (cumulative - mass / 2) / cumulative[-1])
    return firsts[np.flatnonzero(np.diff(bin_of, prepend=-1.0))], order


def _pairs(confidences: ArrayLike, outcomes: ArrayLike) -> tuple[Samples, Samples]:
    """Confidences and outcomes as arrays; raises ssm.InputError for anything else."""
    allowed = "probabilities, shape (m,), at least one"
    p = _numbers("confidences", confidences, allowed)
    if p.ndim != 1 or not len(p) or not _within_unit(p):
        raise invalid("confidences", confidences, allowed)
    y = _numbers("outcomes", outcomes, f"{len(p)} times 0 or 1")
    if y.shape != p.shape or not ((y == 0) | (y == 1)).all():
        raise invalid("outcomes", outcomes, f"{len(p)} times 0 or 1")
    return p, y


def _within_unit(numbers: np.ndarray) -> bool:
    return bool(((numbers >= 0) & (numbers <= 1)).all())


def _numbers(name: str, value: ArrayLike, allowed: str) -> np.ndarray:
    """`value` as an array in float64, of any shape."""
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):  # It is ragged, or holds no numbers.
        raise invalid(name, value, allowed) from None
