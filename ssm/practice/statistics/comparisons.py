"""What repeated cross-validation can say of one variant beside another: paired differences,
corrected for training sets that overlap and for the number of questions asked. That a difference is
not shown never means that there is none: equality is claimed by tests of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float
from scipy import special

from ssm.support import checks, errors

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
Verdict = Literal["better", "worse", "equivalent", "undecided"]
Acceptance = Literal["kept", "missed", "undecided"]


class Comparison(NamedTuple):
    """One variant beside a reference on one metric."""

    metric: str
    variant: str
    """`variant, correction` in an ablation; so is `reference`."""
    reference: str
    difference: float
    """Mean over the pairs of variant - reference, in units of the metric; NaN without a pair."""
    reference_score: float
    """Mean of the reference's scores over the pairs."""
    low: float
    """Of its 95 % interval, on its own: it leaves out 0 iff `p_value` is below 0.05. Intervals are
    endless where folds are too few to tell."""
    high: float
    simultaneous_low: float
    """Of its interval among all of the family, which hold together in 95 % (Bonferroni)."""
    simultaneous_high: float
    p_value: float
    adjusted_p_value: float
    """By Holm (1979) over the family; `better` and `worse` go by it."""
    margin: float
    """Within which two variants count as equivalent, in units of the metric."""
    verdict: Verdict
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

    @property
    def is_within_margin(self) -> bool:
        """Whether the simultaneous interval leaves no room for a difference of the margin."""
        reach = self.margin - ROUNDING
        return -reach < self.simultaneous_low and self.simultaneous_high < reach

    @property
    def room(self) -> tuple[float, float]:
        """The least and the largest difference beside the reference's mean: scores lie between 0
        and 1, log losses above 0."""
        most = math.inf if self.metric == "log_loss" else 1.0
        return -self.reference_score, most - self.reference_score


class NonInferiority(NamedTuple):
    """Whether one variant loses less than a margin beside a reference, on one metric."""

    variant: str
    difference: float
    """As in `Comparison`."""
    low: float
    """Of its interval, each end of which holds for all variants together in 95 % (Bonferroni)."""
    high: float
    kept_p_value: float
    """Of a loss as large as the margin, adjusted by Holm over the variants; `kept` goes by it."""
    missed_p_value: float
    """Of a loss as small as the margin, adjusted likewise; `missed` goes by it."""
    verdict: Acceptance


class Level(NamedTuple):
    """One variant's mean score."""

    metric: str
    score: float
    """Mean over the folds; NaN without any."""
    low: float
    """Of its 95 % interval, on its own."""
    high: float
    num_dropped: int
    """Folds without a finite score."""

    def beside(self, required: float) -> Acceptance:
        """`kept` where the whole interval is at least `required`, a number that somebody asks for,
        `missed` where all of it is below; at most and above where less is better."""
        ends = sorted(DIRECTION[self.metric] * (end - required) for end in (self.low, self.high))
        return "kept" if ends[0] >= 0 else "missed" if ends[1] < 0 else "undecided"


def compare(scores: xr.Dataset, baseline: str, margin: float) -> tuple[Comparison, ...]:
    """Every other variant beside the baseline, on every metric: one family of questions.

    The corrected resampled t-test: with d_j the paired differences of J = seeds x folds test folds
    and their sample variance s^2,

        t = mean(d) / sqrt((1/J + n_test/n_train) s^2),   n_test/n_train = 1/(folds - 1),

    on J - 1 degrees of freedom. It is exact where all d_j are normal with correlations
    n_test/(n_train + n_test), which is what shared training samples are taken to cause. Pairs
    without two finite scores are dropped, and J is smaller.

    p values are adjusted by Holm's step-down method, which bounds the probability of any false
    `better` or `worse` by 5 %: p_(i) -> max_{j <= i} min(1, (m - j + 1) p_(j)). Simultaneous
    intervals are Bonferroni's, wider than Holm needs: one that leaves out 0 belongs to a difference
    that is shown, while a difference shown may have one that just reaches 0.

    `equivalent` is shown by two one-sided tests, that the difference is more than -margin and that
    it is less than margin: where the simultaneous interval lies between the two. That is simple and
    conservative, since each side is then tested at 0.05 / 2m, half of what Bonferroni asks for; the
    probability of any false `equivalent` is at most 5 %. A difference that is shown stays `better`
    or `worse` even where it is within the margin. All else is `undecided`.

    Where nothing varies there is no s, and the t-test would be sure whatever J is, so the sign test
    takes over. The same difference in every fold: p = 2^(1 - J), 1 if it is 0, and the interval is
    that difference alone where 2^(1 - J) is within its level, else endless. So scores equal in
    every fold are equivalent only where folds are enough, 2^(1 - J) <= 0.05 / m: a few folds may
    tie by chance. Fewer than two pairs: p = 1, endless.

    Args:
        scores: metrics, each named in `DIRECTION`, over `variant`, `seed` and `fold`; every fold of
            the cross-validation is on its axis, with NaN for a score that could not be had.
        baseline: a variant.
        margin: positive, in units of the metrics.

    Returns:
        metric by metric, variants in their order.

    Raises:
        ssm.InputError: an unknown metric or baseline, another margin, fewer than two folds.

    Sources: Nadeau and Bengio 2003 (variance); Bouckaert and Frank 2004 (repeated
    cross-validation); Holm 1979; Schuirmann 1987 (two one-sided tests).
    """
    pairs = [pair for metric in scores.data_vars for pair in _beside(scores[metric], baseline)]
    return _family(pairs, scores.sizes["fold"], margin)


def compare_pairs(
    scores: xr.Dataset,
    treated: Sequence[Sequence[str]],
    control: Sequence[Sequence[str]],
    margin: float,
) -> tuple[Comparison, ...]:
    """What one factor changes: treated[i] beside control[i], which differ in it alone, on every
    metric; statistics and the family (all pairs, all metrics) are those of `compare`.

    Args:
        scores: metrics over `variant`, `correction`, `seed` and `fold`.
        treated: (variant, correction) of each pair with its factor.
        control: (variant, correction) of each pair without it.
        margin: as in `compare`.

    Returns:
        pair by pair, each metric by metric.

    Raises:
        ssm.InputError: as `compare` does; a variant or correction that is not there; lists of
            different lengths.
    """
    if len(treated) != len(control):
        raise errors.invalid("control", len(control), f"as many as treated has, {len(treated)}")

    def folds(metric: str, side: Sequence[str]) -> np.ndarray:
        where = dict(zip(("variant", "correction"), side, strict=True))
        for axis, name in where.items():
            checks.choice(axis, name, [str(known) for known in scores[axis].values])
        return scores[metric].sel(where).transpose("seed", "fold").values.astype(float)

    pairs = [
        _pair((metric, ", ".join(on), ", ".join(off)), folds(metric, on), folds(metric, off))
        for on, off in zip(treated, control, strict=True)
        for metric in map(str, scores.data_vars)
    ]
    return _family(pairs, scores.sizes["fold"], margin)


def non_inferiority(
    scores: xr.DataArray, baseline: str, margin: float
) -> tuple[NonInferiority, ...]:
    """Whether each variant but the baseline loses less than a margin beside it, on one metric.

    Of the paired gains g_j (differences, or less them where less is better) two hypotheses are
    tested, one-sided, by the corrected resampled t-test of `compare`:

        H: mean(g) <= -margin, rejected: `kept`;    H': mean(g) >= -margin, rejected: `missed`.

    The p values of H are adjusted by Holm over the variants, and so are those of H': the
    probability that any variant is falsely said to keep is at most 5 %, and that any is falsely
    said to miss is at most 5 %. Where neither is rejected it is `undecided`. The baseline's scatter
    is in the differences. Where nothing varies the sign test takes over, p = 2^-J.

    Args:
        scores: one metric, named in `DIRECTION`, over `variant`, `seed` and `fold`.
        baseline: a variant.
        margin: positive, in units of the metric.

    Returns:
        variants in their order.

    Raises:
        ssm.InputError: anything else.

    Source: Schuirmann 1987 (one side of two); as for `compare`.
    """
    direction = DIRECTION[checks.choice("metric", scores.name, tuple(DIRECTION))]
    margin = checks.real("margin", margin, 0, open_ends="(")
    ratio = _test_train_ratio(scores.sizes["fold"])
    pairs = _beside(scores, baseline)
    above = [_mean(direction * x.differences + margin, ratio, x.rounding) for x in pairs]
    kept = holm(np.array([mean.p_above() for mean in above]))
    missed = holm(np.array([mean.p_below() for mean in above]))
    rows = []
    for pair, p_kept, p_missed in zip(pairs, kept.tolist(), missed.tolist(), strict=True):
        mean = _mean(pair.differences, ratio, pair.rounding)
        low, high = mean.interval(2 * SIGNIFICANCE / len(pairs))
        shown = "kept" if p_kept < p_missed else "missed"
        verdict = shown if min(p_kept, p_missed) < SIGNIFICANCE else "undecided"
        row = NonInferiority(pair.variant, mean.value, low, high, p_kept, p_missed, verdict)
        rows.append(row)
    return tuple(rows)


def level(scores: xr.DataArray) -> Level:
    """One variant's mean score with the interval of `compare`, of scores instead of differences.

    Args:
        scores: one metric, named in `DIRECTION`, over `seed` and `fold`.

    Raises:
        ssm.InputError: anything else.
    """
    metric = checks.choice("metric", scores.name, tuple(DIRECTION))
    found = scores.values[np.isfinite(scores.values)].astype(float)
    rounding = ROUNDING * np.abs(found).max(initial=0)
    mean = _mean(found, _test_train_ratio(scores.sizes["fold"]), rounding)
    return Level(metric, mean.value, *mean.interval(SIGNIFICANCE), scores.size - found.size)


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
    scores: Float[np.ndarray, " j"]
    """Of the folds in which both have a finite score, as are the reference's."""
    reference_scores: Float[np.ndarray, " j"]
    num_dropped: int

    @property
    def differences(self) -> Float[np.ndarray, " j"]:
        return self.scores - self.reference_scores

    @property
    def rounding(self) -> float:
        """What it may have made of equal scores."""
        return ROUNDING * float(np.abs([*self.scores, *self.reference_scores]).max(initial=0))


def _pair(names: tuple[str, str, str], scores: np.ndarray, reference: np.ndarray) -> _Pair:
    checks.choice("metric", names[0], tuple(DIRECTION))
    both = np.isfinite(scores) & np.isfinite(reference)
    return _Pair(*names, scores[both], reference[both], int(both.size - both.sum()))


def _beside(scores: xr.DataArray, baseline: str) -> list[_Pair]:
    """Every other variant with the baseline, on one metric."""
    variants = [str(name) for name in scores["variant"].values]
    own = variants.index(checks.choice("baseline", baseline, variants))
    folds = scores.transpose("variant", "seed", "fold").values.astype(float)
    return [
        _pair((str(scores.name), name, baseline), folds[i], folds[own])
        for i, name in enumerate(variants)
        if i != own
    ]


class _Mean(NamedTuple):
    """A mean of `num` values that depend on one another."""

    value: float
    standard_error: float
    """0 where nothing varies, NaN of fewer than two."""
    num: int

    def p_above(self) -> float:
        """Of a mean of at most 0, one-sided."""
        if self.num < 2:
            return 1.0
        if self.standard_error == 0:
            return 2.0**-self.num if self.value > 0 else 1.0
        return float(special.stdtr(self.num - 1, -self.value / self.standard_error))

    def p_below(self) -> float:
        """Of a mean of at least 0, one-sided."""
        return self._replace(value=-self.value).p_above()

    def p_value(self) -> float:
        """Of a mean of 0, two-sided."""
        return min(1.0, 2 * min(self.p_above(), self.p_below()))

    def interval(self, significance: float) -> tuple[float, float]:
        """Of 1 - significance, two-sided."""
        too_few = self.standard_error == 0 and 2.0 ** (1 - self.num) > significance
        if self.num < 2 or too_few:
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


def _family(pairs: Sequence[_Pair], num_folds: int, margin: float) -> tuple[Comparison, ...]:
    margin = checks.real("margin", margin, 0, open_ends="(")
    ratio = _test_train_ratio(num_folds)
    means = [_mean(pair.differences, ratio, pair.rounding) for pair in pairs]
    p_values = np.array([mean.p_value() for mean in means])
    adjusted = holm(p_values)
    rows = []
    for i, (pair, mean) in enumerate(zip(pairs, means, strict=True)):
        gains = DIRECTION[pair.metric] * pair.differences
        wins, losses = int((gains > pair.rounding).sum()), int((gains < -pair.rounding).sum())
        low, high = mean.interval(SIGNIFICANCE)
        simultaneous_low, simultaneous_high = mean.interval(SIGNIFICANCE / len(pairs))
        row = Comparison(
            metric=pair.metric,
            variant=pair.variant,
            reference=pair.reference,
            difference=mean.value,
            reference_score=_mean(pair.reference_scores, ratio, 0.0).value,
            low=low,
            high=high,
            simultaneous_low=simultaneous_low,
            simultaneous_high=simultaneous_high,
            p_value=float(p_values[i]),
            adjusted_p_value=float(adjusted[i]),
            margin=margin,
            verdict="undecided",
            wins=wins,
            ties=mean.num - wins - losses,
            losses=losses,
            num_dropped=pair.num_dropped,
        )
        if adjusted[i] < SIGNIFICANCE:
            gain = DIRECTION[pair.metric] * mean.value
            row = row._replace(verdict="better" if gain > 0 else "worse")
        elif row.is_within_margin:
            row = row._replace(verdict="equivalent")
        rows.append(row)
    return tuple(rows)


def _test_train_ratio(num_folds: int) -> float:
    """n_test / n_train of a K-fold cross-validation, 1/(K - 1)."""
    return 1 / (checks.integer("folds", num_folds, 2, 2**31 - 1) - 1)
