"""Calibration of probabilities: errors over bins of equal mass, reliability diagrams, and an
interval for the error that holds although what is measured is biased upwards."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from ssm.support import checks
from ssm.support.errors import invalid

Probabilities = Float[np.ndarray, "m k"]
Labels = Int[np.ndarray, " m"]
Samples = Float[np.ndarray, " m"]
ROUNDING = 1e-5  # by which probabilities of a sample, in float32, may miss the sum 1
ERRORS = 64  # values of the error that are tested for an interval, which interpolates between
FEWEST = 8  # of them in an interval that needs no finer ones


class Reliability(NamedTuple):
    """Bins of a reliability diagram, from the least confident to the most, each of shape (b,)."""

    mean_confidence: Float[np.ndarray, " b"]
    frequency: Float[np.ndarray, " b"]
    """Share of the bin's samples whose outcome is 1."""
    count: Float[np.ndarray, " b"]
    """Samples in the bin, or the sum of their weights."""

    @property
    def error(self) -> float:
        """sum_b (m_b / m) |mean confidence - frequency| (Naeini et al. 2015)."""
        gaps = np.abs(self.mean_confidence - self.frequency)
        return float((self.count * gaps).sum() / self.count.sum())


class Interval(NamedTuple):
    """An interval for the calibration error, and the error without the bias of what is measured."""

    low: float
    estimate: float
    high: float


def probability_rows(probabilities: Any, labels: Any) -> tuple[Probabilities, Labels]:
    """Probabilities as float64 rows that sum to 1 to the last digits, and labels as an array.

    Args:
        probabilities: shape (m, k), k at least 2; rows may miss 1 by the rounding of float32.
        labels: shape (m,), integers below k.

    Raises ssm.InputError for anything else.
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


def sample_weights(value: Any, number: int) -> Samples:
    """Weights of `number` samples, ones where none are given; raises ssm.InputError unless they are
    finite, not negative and not all 0."""
    if value is None:
        return np.ones(number)
    allowed = f"{number} finite numbers, none negative, not all 0"
    weights = _numbers("sample_weight", value, allowed)
    finite = np.isfinite(weights).all() and (weights >= 0).all() and weights.any()
    if weights.shape != (number,) or not finite:
        raise invalid("sample_weight", value, allowed)
    return weights


def top_label(probabilities: Any, labels: Any) -> tuple[Samples, Samples]:
    """Largest probability of each sample, and 1 where its class is the label, else 0: both (m,).

    Raises ssm.InputError as `probability_rows` does.
    """
    rows, labels = probability_rows(probabilities, labels)
    return rows.max(1), (rows.argmax(1) == labels).astype(float)


def reliability(
    confidences: Any, outcomes: Any, num_bins: Any = 15, sample_weight: Any = None
) -> Reliability:
    """Mean confidence and frequency of the outcome in bins of equal mass.

    A value whose samples lie between the shares q and q' of the sorted ones, by weight, is in bin
    floor(num_bins (q + q') / 2): equal values stay together, and fewer values make fewer bins.

    Args:
        confidences: probabilities of the outcome, shape (m,): of the class predicted (`top_label`),
            or a column of the probabilities for one class against the rest.
        outcomes: 1 (or True) where it came true, else 0, shape (m,).
        num_bins: at most so many bins.
        sample_weight: shape (m,), not negative, ones unless given; w weighs as w equal samples do.

    Raises:
        ssm.InputError: anything else.

    Source: Nguyen and O'Connor 2015 (bins of equal mass).
    """
    confidences, outcomes = _pairs(confidences, outcomes)
    weights = sample_weights(sample_weight, len(confidences))
    starts, order = _bins(confidences, weights, checks.integer("num_bins", num_bins, 1, 10**6))
    weights = weights[order]
    count = np.add.reduceat(weights, starts)
    return Reliability(
        np.add.reduceat(weights * confidences[order], starts) / count,
        np.add.reduceat(weights * outcomes[order], starts) / count,
        count,
    )


def top_label_error(
    probabilities: Any, labels: Any, num_bins: Any = 15, sample_weight: Any = None
) -> float:
    """sum_b (m_b / m) |mean confidence - accuracy| over bins of the top label's probability.

    What is measured exceeds the error of the population, since noise in a bin counts as error too:
    by about sum_b (m_b / m) sqrt(2 p_b (1 - p_b) / (pi m_b)) where that error is 0.

    Args:
        probabilities: shape (m, k).
        labels: shape (m,), integers below k.
        num_bins: at most so many bins, of equal mass.
        sample_weight: how often each sample counts, shape (m,); once where it is left out.

    Raises:
        ssm.InputError: anything else.

    Source: Naeini et al. 2015; bins of equal mass Nguyen and O'Connor 2015.
    """
    return reliability(*top_label(probabilities, labels), num_bins, sample_weight).error


def class_errors(
    probabilities: Any, labels: Any, num_bins: Any = 15, sample_weight: Any = None
) -> Float[np.ndarray, " k"]:
    """The error of each class against the rest, over bins of that class's probability: shape (k,).

    The error of class c is sum_b (m_b / m) |mean p_c - share of label c| over its own bins.

    Raises ssm.InputError for what is not as in `top_label_error`.

    Source: Kull et al. 2019 (class by class); Nixon et al. 2019 (adaptive bins).
    """
    rows, labels = probability_rows(probabilities, labels)
    diagrams = (reliability(p, labels == c, num_bins, sample_weight) for c, p in enumerate(rows.T))
    return np.array([diagram.error for diagram in diagrams])


def bootstrap_interval(
    confidences: Any,
    outcomes: Any,
    num_bins: Any = 15,
    level: Any = 0.95,
    num_resamples: Any = 999,
    seed: Any = 0,
) -> Interval:
    """An interval for the calibration error, by inverting bootstrap tests of what is measured.

    The estimand is theta = sum_b P(b) |E[confidence - outcome | b]|, the population's error in bins
    at its own quantiles. It is at most the full error, E |confidence - P(outcome | confidence)|,
    and is that one where no bin holds gaps of both signs, or each bin holds one confidence.

    What is measured, T, is biased upwards, so that percentiles of its resamples do not cover theta.
    Each theta is tested instead: outcomes are drawn with frequencies confidence - a s_b, a such
    that their error is theta (from the confidences themselves at theta = 0: consistency
    resampling), and theta belongs to the interval unless T is among the strangest 1 - level of the
    T* measured on them. By the ratio of normal likelihoods T is the stranger the larger
    (T - E T*)^2 - min(T - E T*_0, 0)^2, T*_0 at theta = 0; this makes limits (low = 0) and
    intervals one rule. Which bins err, s_b, is estimated (a hybrid bootstrap): the gaps measured, in
    standard deviations of an outcome, are shrunk towards their mean as far as noise explains how
    they differ (empirical Bayes). The estimate is the theta for which E T* = T.

    Coverage is `level` at theta = 0. In simulations of 300 to 3000 samples, a level of 95 % covered
    93 % to 97 % in most cases: constant gaps, gaps smooth in the confidence, tempered and wrongly
    weighted softmax classes. It covered up to 100 % where nearly all confidences are near 0 or 1
    and right, 91 % of the smallest classes, whose error lies within the last bin, and of steps by
    0.15 in six bins of 15; and 66 % to 76 % where one bin and a half had a gap of 0.3 and the
    others none, since noise hides which bins err.

    Args:
        confidences: probabilities of the outcome, shape (m,), as for `reliability`.
        outcomes: 1 (or True) where it came true, else 0, shape (m,).
        num_bins: at most so many bins, of equal mass.
        level: coverage.
        num_resamples: outcomes drawn for each sample.
        seed: of the draws, an integer or a NumPy generator.

    Raises:
        ssm.InputError: anything else.

    Source: Feldman and Cousins 1998 (ordering), Chuang and Lai 2000 (hybrid bootstrap), Bröcker and
    Smith 2007 (consistency resampling), Morris 1983 (shrinkage).
    """
    confidences, outcomes = _pairs(confidences, outcomes)
    num_bins = checks.integer("num_bins", num_bins, 1, 10**6)
    level = checks.real("level", level, 0, 1, open_ends="()")
    num_resamples = checks.integer("num_resamples", num_resamples, 19, 10**6)
    starts, order = _bins(confidences, np.ones(len(confidences)), num_bins)
    p, y = confidences[order], outcomes[order]
    count = np.diff(np.append(starts, len(p)))
    expected, came = np.add.reduceat(p, starts), np.add.reduceat(y, starts)
    measured = float(np.abs(expected - came).sum() / len(p))

    # an overconfident bin of an outcome is an underconfident one of its opposite
    shape = _gap_shape(expected, came, count)
    p = np.where(np.repeat(shape < 0, count), 1 - p, p)
    sizes = np.repeat(np.maximum(np.abs(shape), 1e-9), count)
    seed = np.random.default_rng(seed).integers(2**63)  # the same draws for all scales

    scales = _scales(p, sizes, measured + 1.5 / math.sqrt(len(p)))
    calibrated = None
    while True:
        errors, drawn = _drawn(p, sizes, starts, scales, num_resamples, seed)
        mean = drawn.mean(1, keepdims=True)
        calibrated = mean[0] if calibrated is None else calibrated
        stranger = _strangeness(drawn, mean, calibrated) >= _strangeness(measured, mean, calibrated)
        probability = (1 + stranger.sum(1)) / (1 + num_resamples)
        kept = np.flatnonzero(probability > 1 - level)
        if len(kept) >= FEWEST or scales[1] - scales[0] < 1e-6 * scales[-1]:
            break
        near = kept if len(kept) else np.abs(mean - measured).argmin(keepdims=True)[0]
        scales = np.linspace(
            scales[max(near[0] - 1, 0)], scales[min(near[-1] + 1, ERRORS - 1)], ERRORS
        )
    estimate = float(np.interp(measured, np.maximum.accumulate(mean[:, 0]), errors))
    if not len(kept):
        return Interval(estimate, estimate, estimate)
    low, high = _ends(errors, probability, kept, 1 - level)
    return Interval(low, estimate, high)


def wilson(
    successes: Any, totals: Any, level: Any = 0.95
) -> tuple[Float[np.ndarray, " b"], Float[np.ndarray, " b"]]:
    """Both ends of Wilson's score interval for each of several proportions, shape (b,).

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
    return np.where(x == 0, 0.0, low), np.where(x == n, 1.0, high)  # without rounding


def _bins(confidences: Samples, weights: Samples, num_bins: int) -> tuple[np.ndarray, np.ndarray]:
    """First position of each bin in the order of the confidences, and that order without samples
    of weight 0."""
    order = np.argsort(confidences, kind="stable")
    order = order[weights[order] > 0]
    ordered = confidences[order]
    firsts = np.flatnonzero(np.diff(ordered, prepend=-1.0))
    mass = np.add.reduceat(weights[order], firsts)
    upto = np.cumsum(mass)
    bin_of = np.floor(num_bins * (upto - mass / 2) / upto[-1])
    return firsts[np.flatnonzero(np.diff(bin_of, prepend=-1.0))], order


def _gap_shape(
    expected: Float[np.ndarray, " b"], came: Float[np.ndarray, " b"], count: np.ndarray
) -> Float[np.ndarray, " b"]:
    """Gaps of the bins over the spread of an outcome, shrunk towards their mean as far as noise
    explains how they differ, times that spread; the largest is 1 in size."""
    frequency = (came + 1) / (count + 2)  # Laplace's, so that no bin is free of noise
    spread = np.sqrt(frequency * (1 - frequency))
    gaps = (expected - came) / count / spread
    mean = gaps.mean()
    excess = max(0.0, ((gaps - mean) ** 2).sum() / max(1, len(gaps) - 1) - (1 / count).mean())
    shape = spread * (mean + excess / (excess + 1 / count) * (gaps - mean))
    if not shape.any():
        shape = np.ones_like(shape)
    # no room to err where nearly all confidences are 0 or 1: less than the noise is none
    room = np.where(shape < 0, count - expected, expected) / count
    return np.where(room**2 < spread**2 / count, -shape, shape) / np.abs(shape).max()


def _scales(p: Samples, sizes: Samples, largest: float) -> Float[np.ndarray, " e"]:
    """Scales a of the gaps min(a size, p), from 0 to where their mean is past `largest`, or next to
    what it can be."""
    top, reach = 1.0, min(largest, 0.999 * p.mean())
    while np.minimum(top * sizes, p).mean() < reach:
        top *= 1.5
    while np.minimum(top / 1.5 * sizes, p).mean() > reach:
        top /= 1.5
    return np.linspace(0, top, ERRORS)


def _drawn(
    p: Samples,
    sizes: Samples,
    starts: np.ndarray,
    scales: Float[np.ndarray, " e"],
    num_resamples: int,
    seed: Any,
) -> tuple[Float[np.ndarray, " e"], Float[np.ndarray, "e r"]]:
    """Errors of gaps min(a size, p) for each scale a, and errors measured on outcomes drawn with
    them, from the same uniform numbers u: an outcome comes true as long as a < (p - u) / size."""
    rng = np.random.default_rng(seed)
    measured = np.zeros((len(scales), num_resamples))
    columns = np.arange(num_resamples)
    for q, size in zip(np.split(p, starts[1:]), np.split(sizes, starts[1:]), strict=True):
        lasts = (q[:, None] - rng.random((len(q), num_resamples))) / size[0]
        level = np.ceil((lasts - scales[0]) / (scales[1] - scales[0]))  # scales it lasts for
        level = np.clip(level, 0, len(scales)).astype(np.int64)
        found = np.bincount(
            (level * num_resamples + columns).ravel(), minlength=(len(scales) + 1) * num_resamples
        )
        still = found.reshape(-1, num_resamples)[::-1].cumsum(0)[-2::-1]
        measured += np.abs(still - q.sum())
    gaps = np.minimum(scales[:, None] * sizes, p)
    by_confidences = gaps.std(1, keepdims=True) / math.sqrt(len(p))  # which are a sample, too
    noise = by_confidences * rng.standard_normal(num_resamples)
    return gaps.mean(1), measured / len(p) + noise


def _strangeness(error: Any, mean: Any, calibrated: Any) -> Any:
    """-2 log of the ratio of likelihoods, times the variance: of errors as normal numbers about
    their mean, against the best mean that there is, none being below `calibrated`."""
    return (error - mean) ** 2 - np.minimum(error - calibrated, 0) ** 2


def _ends(
    errors: Float[np.ndarray, " e"],
    probability: Float[np.ndarray, " e"],
    kept: Int[np.ndarray, " n"],
    least: float,
) -> tuple[float, float]:
    """Ends of the errors that are kept, interpolated to where the probability is `least`."""

    def crossing(outside: int, inside: int) -> float:
        part = (least - probability[outside]) / (probability[inside] - probability[outside])
        return float(errors[outside] + part * (errors[inside] - errors[outside]))

    first, last = kept[0], kept[-1]
    low = crossing(first - 1, first) if first > 0 else float(errors[0])
    high = crossing(last + 1, last) if last < len(errors) - 1 else float(errors[-1])
    return low, high


def _pairs(confidences: Any, outcomes: Any) -> tuple[Samples, Samples]:
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


def _numbers(name: str, value: Any, allowed: str) -> np.ndarray:
    """`value` as an array in float64, of any shape."""
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):  # ragged, or no numbers
        raise invalid(name, value, allowed) from None
