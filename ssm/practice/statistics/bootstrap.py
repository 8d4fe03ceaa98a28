"""An interval for the calibration error of bins, by inverting bootstrap tests of what is measured.

`calibration.bootstrap_interval` says what is estimated and how; here it is computed.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

Samples = Float[np.ndarray, " m"]
ERRORS = 64  # The number of values of the error that are tested; the ends of an interval are interpolated between them.
FEWEST = 8  # An interval that contains fewer of these values is searched again with finer steps.


class Interval(NamedTuple):
    """An interval for the calibration error, and an estimate of it without the bias of what is
    measured."""

    low: float
    estimate: float
    high: float


def interval(
    p: Samples,
    y: Samples,
    starts: Int[np.ndarray, " b"],
    level: float,
    num_resamples: int,
    seed: int | np.random.Generator,
) -> Interval:
    """The interval for the calibration error over bins.

    Args:
        p: confidences in increasing order, shape (m,).
        y: their outcomes, 0 or 1, shape (m,).
        starts: the first position of each bin, shape (b,).
        level: coverage.
        num_resamples: outcomes drawn for each sample.
        seed: of the draws.
    """
    count = np.diff(np.append(starts, len(p)))
    expected, came = np.add.reduceat(p, starts), np.add.reduceat(y, starts)
    measured = float(np.abs(expected - came).sum() / len(p))
    # An overconfident bin for an outcome is an underconfident one for its opposite.
    shape = _gap_shape(expected, came, count)
    p = np.where(np.repeat(shape < 0, count), 1 - p, p)
    sizes = np.repeat(np.maximum(np.abs(shape), 1e-9), count)
    draws = int(np.random.default_rng(seed).integers(2**63))  # the same draws for all scales

    scales = _scales(p, sizes, measured + 1.5 / math.sqrt(len(p)))
    calibrated = None
    while True:
        errors, drawn = _drawn(p, sizes, starts, scales, num_resamples, draws)
        mean = drawn.mean(1, keepdims=True)
        calibrated = mean[0] if calibrated is None else calibrated
        stranger = _strangeness(drawn, mean, calibrated) >= _strangeness(measured, mean, calibrated)
        probability = (1 + stranger.sum(1)) / (1 + num_resamples)
        kept = np.flatnonzero(probability > 1 - level)
        if len(kept) >= FEWEST or scales[1] - scales[0] < 1e-6 * scales[-1]:
            break
        scales = _finer(
            scales, kept if len(kept) else np.abs(mean - measured).argmin(keepdims=True)[0]
        )
    estimate = float(np.interp(measured, np.maximum.accumulate(mean[:, 0]), errors))
    if not len(kept):
        return Interval(estimate, estimate, estimate)
    low, high = _ends(errors, probability, kept, 1 - level)
    return Interval(low, estimate, high)


def _finer(scales: Float[np.ndarray, " e"], near: Int[np.ndarray, " n"]) -> Float[np.ndarray, " e"]:
    """As many scales, between those next to the scales at `near`."""
    lowest, highest = max(near[0] - 1, 0), min(near[-1] + 1, ERRORS - 1)
    return np.linspace(scales[lowest], scales[highest], ERRORS)


def _gap_shape(
    expected: Float[np.ndarray, " b"], came: Float[np.ndarray, " b"], count: np.ndarray
) -> Float[np.ndarray, " b"]:
    """The estimated shape of the gaps over the bins: which bins err, and how much relative to each other.
    Gaps, in standard deviations of an outcome, are shrunk towards their mean as far as noise explains
    how they differ. The largest is 1 in size."""
    frequency = (came + 1) / (count + 2)  # Laplace's estimate, so that no bin is without noise
    spread = np.sqrt(frequency * (1 - frequency))
    gaps = (expected - came) / count / spread
    mean = gaps.mean()
    excess = max(0.0, ((gaps - mean) ** 2).sum() / max(1, len(gaps) - 1) - (1 / count).mean())
    shape = spread * (mean + excess / (excess + 1 / count) * (gaps - mean))
    if not shape.any():
        shape = np.ones_like(shape)
    # Where nearly all confidences are 0 or 1, a gap to one side has less room than noise takes. It is
    # then taken to the other side.
    room = np.where(shape < 0, count - expected, expected) / count
    return np.where(room**2 < spread**2 / count, -shape, shape) / np.abs(shape).max()


def _scales(p: Samples, sizes: Samples, largest: float) -> Float[np.ndarray, " e"]:
    """Scales a of the gaps min(a size, p), evenly from 0 to one whose mean gap exceeds `largest`, or comes
    close to the largest possible mean."""
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
    seed: int,
) -> tuple[Float[np.ndarray, " e"], Float[np.ndarray, "e r"]]:
    """For each scale a, the error of the gaps min(a size, p), shape (e,), and the errors measured on
    outcomes drawn with these gaps, shape (e, r). All scales use the same uniform numbers u, by which
    an outcome is 1 as long as a < (p - u) / size."""
    rng = np.random.default_rng(seed)
    measured = np.zeros((len(scales), num_resamples))
    columns = np.arange(num_resamples)
    for q, size in zip(np.split(p, starts[1:]), np.split(sizes, starts[1:]), strict=True):
        largest = (q[:, None] - rng.random((len(q), num_resamples))) / size[0]
        # How many scales are below the largest one at which the outcome is still 1.
        level = np.ceil((largest - scales[0]) / (scales[1] - scales[0]))
        level = np.clip(level, 0, len(scales)).astype(np.int64)
        counts = np.bincount(
            (level * num_resamples + columns).ravel(), minlength=(len(scales) + 1) * num_resamples
        )
        came_true = counts.reshape(-1, num_resamples)[::-1].cumsum(0)[-2::-1]
        measured += np.abs(came_true - q.sum())
    gaps = np.minimum(scales[:, None] * sizes, p)
    # The confidences are a sample, too, which adds to the noise of the error.
    by_confidences = gaps.std(1, keepdims=True) / math.sqrt(len(p))
    noise = by_confidences * rng.standard_normal(num_resamples)
    return gaps.mean(1), measured / len(p) + noise


def _strangeness(
    error: float | np.ndarray, mean: np.ndarray, calibrated: np.ndarray
) -> Float[np.ndarray, "e r"]:
    """-2 times the variance times the log of a likelihood ratio: errors are taken for normal numbers,
    and their mean is compared with the best possible one, none of which is below `calibrated`."""
    return (error - mean) ** 2 - np.minimum(error - calibrated, 0) ** 2


def _ends(
    errors: Float[np.ndarray, " e"],
    probability: Float[np.ndarray, " e"],
    kept: Int[np.ndarray, " n"],
    least: float,
) -> tuple[float, float]:
    """The ends of the interval of errors that are kept, interpolated to where the probability is `least`."""

    def crossing(outside: int, inside: int) -> float:
        part = (least - probability[outside]) / (probability[inside] - probability[outside])
        return float(errors[outside] + part * (errors[inside] - errors[outside]))

    first, last = kept[0], kept[-1]
    low = crossing(first - 1, first) if first > 0 else float(errors[0])
    high = crossing(last + 1, last) if last < len(errors) - 1 else float(errors[-1])
    return low, high
