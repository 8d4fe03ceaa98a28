"""What repeated cross-validation can say of one variant beside another: paired differences,
corrected for training sets that overlap and for the number of questions asked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float
from scipy import special

from ssm import checks

SIGNIFICANCE = 0.05  # intervals are of 95 %
ROUNDING = 1e-12  # relative to the largest score: differences below it are none
DIRECTION = {
    **dict.fromkeys(("accuracy", "balanced_accuracy", "shifted_accuracy"), 1),
    **dict.fromkeys(("worst_class_recall", "macro_f1", "macro_auc", "macro_average_precision"), 1),
    **dict.fromkeys(("precision", "recall", "f1", "auc", "average_precision"), 1),
    **dict.fromkeys(("log_loss", "calibration_error"), -1),
    **dict.fromkeys(("class_calibration_error", "calibration_error_of_class"), -1),
}
"""1 for metrics of which more is better, -1 for those of which less is."""


class Comparison(NamedTuple):
    """One variant beside a reference on one metric."""

    metric: str
    variant: str
    """`variant, correction` in an ablation; so is `reference`."""
    reference: str
    difference: float
    """Mean over the pairs of variant - reference, in units of the metric; NaN without a pair."""
    low: float
    """Of its 95 % interval, on its own: it leaves out 0 iff `p_value` is below 0.05. Intervals are
    endless where folds are too few to tell."""
    high: float
    simultaneous_low: float
    """Of its interval among all of the family, which hold together in 95 % (Bonferroni)."""
    simultaneous_high: float
    p_value: float
    adjusted_p_value: float
    """By Holm (1979) over the family; `verdict` goes by it."""
    verdict: Literal["better", "worse", "not significant"]
    wins: int
    """Folds in which the variant is better; ties are within rounding."""
    ties: int
    losses: int
    num_dropped: int
    """Folds in which either has no finite score: they say nothing here."""

    @property
    def num_pairs(self) -> int:
        """Folds in which both have a score."""
        return self.wins + self.ties + self.losses


class Level(NamedTuple):
    """One variant's mean score beside the least (or most) that is acceptable."""

    metric: str
    variant: str
    score: float
    """Mean over the folds; NaN without any."""
    low: float
    """Of its 95 % interval."""
    high: float
    required: float
    verdict: Literal["kept", "not shown", "missed"]
    num_dropped: int
    """Folds without a finite score."""


def compare(scores: xr.Dataset, baseline: str) -> tuple[Comparison, ...]:
    """Every other variant beside the baseline, on every metric: one family of questions.

    The corrected resampled t-test: with d_j the paired differences of J = seeds x folds test folds
    and their sample variance s^2,

        t = mean(d) / sqrt((1/J + n_test/n_train) s^2),   n_test/n_train = 1/(folds - 1),

    on J - 1 degrees of freedom. It is exact where all d_j are normal with correlations
    n_test/(n_train + n_test), which is what shared training samples are taken to cause. Pairs
    without two finite scores are dropped, and J is smaller.

    p values are adjusted by Holm's step-down method, which bounds the probability of any false
    verdict by 5 %: p_(i) -> max_{j <= i} min(1, (m - j + 1) p_(j)). Simultaneous intervals are
    Bonferroni's, wider than Holm needs: one that leaves out 0 belongs to a significant difference,
    while a significant difference may have one that just reaches 0.

    Where nothing varies there is no s. Scores equal in every fold: difference 0, interval [0, 0],
    p = 1. The same other difference in every fold: the t-test would call p = 0 whatever J is, so
    the sign test takes over, p = 2^(1 - J), with its interval: that difference alone if p is
    within the level, endless otherwise. So it is with fewer than two pairs: p = 1, endless.

    Args:
        scores: metrics, each named in `DIRECTION`, over `variant`, `seed` and `fold`; every fold of
            the cross-validation is on its axis, with NaN for a score that could not be had.
        baseline: a variant.

    Returns:
        metric by metric, variants in their order.

    Raises:
        ssm.InputError: an unknown metric or baseline, fewer than two folds.

    Sources: Nadeau and Bengio 2003 (variance); Bouckaert and Frank 2004 (repeated
    cross-validation); Holm 1979.
    """
    variants = [str(name) for name in scores["variant"].values]
    reference = variants.index(checks.choice("baseline", baseline, variants))
    pairs = []
    for metric in map(str, scores.data_vars):
        folds = scores[metric].transpose("variant", "seed", "fold").values.astype(float)
        pairs += [
            _Pair(metric, name, baseline, folds[i], folds[reference])
            for i, name in enumerate(variants)
            if i != reference
        ]
    return _family(pairs, scores.sizes["fold"])


def ablation(
    scores: xr.Dataset, with_: Sequence[Sequence[str]], without: Sequence[Sequence[str]]
) -> tuple[Comparison, ...]:
    """What one factor changes: with_[i] beside without[i], which differ in it alone, on every
    metric; statistics and the family (all pairs, all metrics) are those of `compare`.

    Args:
        scores: metrics over `variant`, `correction`, `seed` and `fold`.
        with_: (variant, correction) of each pair with its factor.
        without: (variant, correction) of each pair without it.

    Returns:
        pair by pair, each metric by metric.

    Raises:
        ssm.InputError: as `compare` does; a variant or correction that is not there; lists of
            different lengths.
    """
    if len(with_) != len(without):
        raise checks.refuse("without", len(without), f"as many as with_ has, {len(with_)}")
    arrays = {
        str(metric): array.transpose("variant", "correction", "seed", "fold").values.astype(float)
        for metric, array in scores.data_vars.items()
    }
    variants, corrections = (
        [str(name) for name in scores[axis].values] for axis in ("variant", "correction")
    )

    def position(side: Sequence[str]) -> tuple[int, int]:
        variant, correction = side
        return (
            variants.index(checks.choice("variant", variant, variants)),
            corrections.index(checks.choice("correction", correction, corrections)),
        )

    pairs = [
        _Pair(metric, ", ".join(a), ", ".join(b), folds[position(a)], folds[position(b)])
        for a, b in zip(with_, without, strict=True)
        for metric, folds in arrays.items()
    ]
    return _family(pairs, scores.sizes["fold"])


def minimum_level(scores: xr.DataArray, required: float) -> tuple[Level, ...]:
    """Whether each variant, the baseline too, keeps a metric at an acceptable level.

    `kept` where the whole 95 % interval of its mean score is at least `required`, `missed` where
    the whole interval is below, `not shown` otherwise; at most and above where less is better. The
    interval is that of `compare`, of scores instead of differences, each variant on its own.

    Args:
        scores: one metric, named in `DIRECTION`, over `variant`, `seed` and `fold`.
        required: finite.

    Raises:
        ssm.InputError: anything else.
    """
    metric = checks.choice("metric", scores.name, tuple(DIRECTION))
    required = checks.real("required", required, -math.inf)
    ratio = _test_train_ratio(scores.sizes["fold"])
    levels = []
    by_variant = scores.transpose("variant", "seed", "fold").values.astype(float)
    for name, folds in zip(scores["variant"].values, by_variant, strict=True):
        found = folds[np.isfinite(folds)]
        mean = _mean(found, ratio, ROUNDING * np.abs(found).max(initial=0))
        low, high = mean.interval(SIGNIFICANCE)
        worst, best = (low, high) if DIRECTION[metric] > 0 else (-high, -low)
        bound = DIRECTION[metric] * required
        verdict = "kept" if worst >= bound else "missed" if best < bound else "not shown"
        dropped = folds.size - found.size
        levels.append(Level(metric, str(name), mean.value, low, high, required, verdict, dropped))
    return tuple(levels)


def holm(p_values: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
    """p values adjusted for a family of m: p_(i) -> max_{j <= i} min(1, (m - j + 1) p_(j)), with
    p_(1) the smallest (Holm 1979)."""
    order = np.argsort(p_values, kind="stable")
    steps = np.minimum(1, p_values[order] * np.arange(len(p_values), 0, -1))
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.maximum.accumulate(steps)
    return adjusted


class _Pair(NamedTuple):
    metric: str
    variant: str
    reference: str
    scores: Float[np.ndarray, "seeds folds"]
    reference_scores: Float[np.ndarray, "seeds folds"]


class _Mean(NamedTuple):
    """A mean of `num` values that depend on one another."""

    value: float
    standard_error: float
    """0 where nothing varies, NaN of fewer than two."""
    num: int

    def p_value(self) -> float:
        """Of a mean of 0, two-sided."""
        if self.num < 2:
            return 1.0
        if self.standard_error == 0:
            return 2.0 ** (1 - self.num) if self.value else 1.0
        t = abs(self.value) / self.standard_error
        return float(2 * special.stdtr(self.num - 1, -t))

    def interval(self, significance: float) -> tuple[float, float]:
        """Of 1 - significance, two-sided."""
        unknown = self.num < 2 or (
            self.standard_error == 0 and self.value != 0 and self.p_value() > significance
        )
        if unknown:
            return -math.inf, math.inf
        reach = -float(special.stdtrit(self.num - 1, significance / 2)) * self.standard_error
        return self.value - reach, self.value + reach


def _mean(values: Float[np.ndarray, " j"], ratio: float, tolerance: float) -> _Mean:
    """With the corrected standard error; exact sums, so that the order of folds is nothing."""
    num = len(values)
    value = math.fsum(values) / num if num else math.nan
    if num < 2:
        return _Mean(value, math.nan, num)
    if np.ptp(values) <= tolerance:
        return _Mean(value if np.abs(values).max() > tolerance else 0.0, 0.0, num)
    variance = math.fsum((values - value) ** 2) / (num - 1)
    return _Mean(value, math.sqrt((1 / num + ratio) * variance), num)


def _family(pairs: Sequence[_Pair], num_folds: int) -> tuple[Comparison, ...]:
    ratio = _test_train_ratio(num_folds)
    for pair in pairs:
        checks.choice("metric", pair.metric, tuple(DIRECTION))
    differences = [_differences(pair) for pair in pairs]
    means = [_mean(values, ratio, tolerance) for values, tolerance in differences]
    p_values = np.array([mean.p_value() for mean in means])
    adjusted = holm(p_values)
    rows = []
    for i, (pair, mean) in enumerate(zip(pairs, means, strict=True)):
        values, tolerance = differences[i]
        gains = DIRECTION[pair.metric] * values
        wins, losses = int((gains > tolerance).sum()), int((gains < -tolerance).sum())
        significant = adjusted[i] < SIGNIFICANCE
        sign = "better" if DIRECTION[pair.metric] * mean.value > 0 else "worse"
        low, high = mean.interval(SIGNIFICANCE)
        simultaneous_low, simultaneous_high = mean.interval(SIGNIFICANCE / len(pairs))
        row = Comparison(
            metric=pair.metric,
            variant=pair.variant,
            reference=pair.reference,
            difference=mean.value,
            low=low,
            high=high,
            simultaneous_low=simultaneous_low,
            simultaneous_high=simultaneous_high,
            p_value=float(p_values[i]),
            adjusted_p_value=float(adjusted[i]),
            verdict=sign if significant else "not significant",
            wins=wins,
            ties=mean.num - wins - losses,
            losses=losses,
            num_dropped=pair.scores.size - mean.num,
        )
        rows.append(row)
    return tuple(rows)


def _differences(pair: _Pair) -> tuple[Float[np.ndarray, " j"], float]:
    """Those of the pairs with two finite scores, and what rounding may have made of equal ones."""
    both = np.isfinite(pair.scores) & np.isfinite(pair.reference_scores)
    scores, reference = pair.scores[both], pair.reference_scores[both]
    largest = max(np.abs(scores).max(initial=0), np.abs(reference).max(initial=0))
    return scores - reference, ROUNDING * float(largest)


def _test_train_ratio(num_folds: int) -> float:
    """n_test / n_train of a K-fold cross-validation, 1/(K - 1)."""
    return 1 / (checks.integer("folds", num_folds, 2, 2**31 - 1) - 1)
