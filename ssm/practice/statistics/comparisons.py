"""Comparisons of variants by repeated cross-validation: paired differences, corrected for the overlap of
training sets and for the number of questions asked. A difference that is not shown is never taken for
none; equality has tests of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float

from ssm.practice.statistics.resampled import holm, mean_of, ratio_of_test_to_train
from ssm.support import checks, errors

SIGNIFICANCE = 0.05  # of tests, so that intervals have 95 % confidence
ROUNDING = 1e-12  # smaller differences, relative to the largest score, count as rounding
DIRECTION = {
    **dict.fromkeys(("accuracy", "balanced_accuracy", "shifted_accuracy"), 1),
    **dict.fromkeys(("worst_class_recall", "macro_f1", "macro_auc", "macro_average_precision"), 1),
    **dict.fromkeys(("precision", "recall", "f1", "auc", "average_precision"), 1),
    **dict.fromkeys(("log_loss", "calibration_error", "expected_cost"), -1),
    "recall_at_budget": 1,
    **dict.fromkeys(("class_calibration_error", "calibration_error_of_class"), -1),
}
"""1 for metrics where more is better, -1 for those where less is."""
Verdict = Literal["better", "worse", "equivalent", "undecided"]
Acceptance = Literal["kept", "missed", "undecided"]


class Comparison(NamedTuple):
    """One variant compared with a reference on one metric."""

    metric: str
    variant: str
    """In an ablation `variant, correction`, as is `reference`."""
    reference: str
    difference: float
    """The mean over the pairs of variant - reference, in units of the metric; NaN without a pair."""
    reference_score: float
    """The mean of the reference's scores over the pairs."""
    low: float
    """The lower end of the difference's own 95 % interval, which leaves out 0 iff `p_value` is below
    0.05. Intervals are endless where there are too few folds."""
    high: float
    simultaneous_low: float
    """The lower end of its simultaneous interval: those of the whole family hold together with 95 %
    confidence (Bonferroni)."""
    simultaneous_high: float
    p_value: float
    adjusted_p_value: float
    """The p value adjusted by Holm (1979) over the family, which decides on `better` and `worse`."""
    margin: float
    """Two variants that are shown to differ by less, in units of the metric, count as equivalent."""
    verdict: Verdict
    wins: int
    """The number of folds in which the variant is better, by more than rounding."""
    ties: int
    losses: int
    num_dropped: int
    """The number of folds that are left out, since either has no finite score there."""

    @property
    def num_pairs(self) -> int:
        """The number of folds in which both have a score."""
        return self.wins + self.ties + self.losses

    @property
    def is_within_margin(self) -> bool:
        """Whether the simultaneous interval lies between -margin and margin."""
        reach = self.margin - ROUNDING
        return -reach < self.simultaneous_low and self.simultaneous_high < reach

    @property
    def room(self) -> tuple[float, float]:
        """The least and the largest possible difference, given the reference's mean: scores lie between
        0 and 1, log losses and costs above 0."""
        most = math.inf if self.metric in ("log_loss", "expected_cost") else 1.0
        return -self.reference_score, most - self.reference_score


class NonInferiority(NamedTuple):
    """Whether one variant loses less than a margin, compared with a reference, on one metric."""

    variant: str
    difference: float
    """As in `Comparison`."""
    low: float
    """The lower end of its interval, each end of which holds for all variants together with 95 %
    confidence (Bonferroni)."""
    high: float
    kept_p_value: float
    """The p value of a loss of at least the margin, adjusted by Holm over the variants, which decides
    on `kept`."""
    missed_p_value: float
    """The p value of a loss of at most the margin, adjusted likewise, which decides on `missed`."""
    verdict: Acceptance


class Level(NamedTuple):
    """The mean score of one variant on one metric."""

    metric: str
    score: float
    """The mean over the folds; NaN without any finite score."""
    low: float
    """The lower end of its own 95 % interval."""
    high: float
    num_dropped: int
    """The number of folds without a finite score."""

    def beside(self, required: float) -> Acceptance:
        """`kept` where the whole interval is at least as good as `required`, `missed` where all of it is
        worse, and else `undecided`."""
        ends = sorted(DIRECTION[self.metric] * (end - required) for end in (self.low, self.high))
        return "kept" if ends[0] >= 0 else "missed" if ends[1] < 0 else "undecided"


def compare(scores: xr.Dataset, baseline: str, margin: float) -> tuple[Comparison, ...]:
    """Compare every other variant with the baseline, on every metric: one family of questions.

    The test is the corrected resampled t-test: with d_j the paired differences of J = seeds x folds test
    folds and s^2 their sample variance,

        t = mean(d) / sqrt((1/J + n_test/n_train) s^2),   n_test/n_train = 1/(folds - 1),

    on J - 1 degrees of freedom. It is exact where all d_j are normal with correlations
    n_test/(n_train + n_test), the effect that shared training samples are assumed to have. Pairs
    without two finite scores are dropped, which makes J smaller.

    p values are adjusted by Holm's step-down method, which bounds the probability of any false
    `better` or `worse` by 5 %: p_(i) -> max_{j <= i} min(1, (m - j + 1) p_(j)). Simultaneous
    intervals are Bonferroni's, which are wider than Holm's method needs. Where such an interval leaves
    out 0 the difference is shown, but the interval of a difference that is shown may just reach 0.

    `equivalent` is shown by two one-sided tests, that the difference is more than -margin and that it is
    less than margin, both of which hold where the simultaneous interval lies between the two. This is
    simple and conservative, since each side is then tested at 0.05 / 2m, half of what Bonferroni asks
    for; the probability of any false `equivalent` is at most 5 %. A difference that is shown stays
    `better` or `worse` even where it is within the margin. Everything else is `undecided`.

    Where the differences do not vary, s is 0 and the t-test would be certain whatever J is, so that the
    sign test takes over. The same difference in every fold has p = 2^(1 - J), or 1 if it is 0, and its
    interval is that difference alone where 2^(1 - J) is within its level, else endless. So scores that
    are equal in every fold are equivalent only with enough folds, 2^(1 - J) <= 0.05 / m, since a few
    folds may tie by chance. With fewer than two pairs p is 1 and the interval endless.

    Example:
        >>> folds = np.array([[0.5, 0.6, 0.55, 0.52, 0.58]])
        >>> values = np.stack([folds, folds + [[0.1, 0.12, 0.11, 0.1, 0.12]]])
        >>> scores = xr.Dataset({"accuracy": (("variant", "seed", "fold"), values)})
        >>> (row,) = compare(scores.assign_coords(variant=["erm", "drw"]), "erm", margin=0.05)
        >>> row.variant, round(row.difference, 3), row.verdict
        ('drw', 0.11, 'better')

    Args:
        scores: metrics, each named in `DIRECTION`, over `variant`, `seed` and `fold`; every fold of
            the cross-validation is on its axis, with NaN where there is no score.
        baseline: a variant.
        margin: positive, in units of the metrics.

    Returns:
        The comparisons, metric by metric, with the variants in their order.

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
    """Compare treated[i] with control[i], which differ in one factor alone, on every metric, to see what
    that factor changes. The statistics are those of `compare`; all pairs and metrics are one family.

    Args:
        scores: metrics over `variant`, `correction`, `seed` and `fold`.
        treated: (variant, correction) of each pair with its factor.
        control: (variant, correction) of each pair without it.
        margin: as in `compare`.

    Returns:
        The comparisons, pair by pair, and of each pair metric by metric.

    Raises:
        ssm.InputError: as for `compare`; an unknown variant or correction; lists of different lengths.
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
    """Whether each variant but the baseline loses less than a margin, compared with it, on one metric.

    Two one-sided hypotheses on the paired gains g_j (the differences, with the sign changed where less
    is better) are tested by the corrected resampled t-test of `compare`:

        H: mean(g) <= -margin, rejected: `kept`;    H': mean(g) >= -margin, rejected: `missed`.

    The p values of H are adjusted by Holm over the variants, and so are those of H': the probability of
    any false `kept` is at most 5 %, and so is that of any false `missed`. Where neither hypothesis is
    rejected the verdict is `undecided`. The differences include the baseline's scatter. Where they do
    not vary the sign test takes over, p = 2^-J.

    Args:
        scores: one metric, named in `DIRECTION`, over `variant`, `seed` and `fold`.
        baseline: a variant.
        margin: positive, in units of the metric.

    Returns:
        The verdicts on the variants, in their order.

    Raises:
        ssm.InputError: anything else.

    Source: Schuirmann 1987 (one side of two); as for `compare`.
    """
    direction = DIRECTION[checks.choice("metric", scores.name, tuple(DIRECTION))]
    margin = checks.real("margin", margin, 0, open_ends="(")
    ratio = ratio_of_test_to_train(scores.sizes["fold"])
    pairs = _beside(scores, baseline)
    above = [mean_of(direction * x.differences + margin, ratio, x.rounding) for x in pairs]
    kept = holm(np.array([mean.p_above() for mean in above]))
    missed = holm(np.array([mean.p_below() for mean in above]))
    rows = []
    for pair, p_kept, p_missed in zip(pairs, kept.tolist(), missed.tolist(), strict=True):
        mean = mean_of(pair.differences, ratio, pair.rounding)
        low, high = mean.interval(2 * SIGNIFICANCE / len(pairs))
        likelier = "kept" if p_kept < p_missed else "missed"
        verdict = likelier if min(p_kept, p_missed) < SIGNIFICANCE else "undecided"
        row = NonInferiority(pair.variant, mean.value, low, high, p_kept, p_missed, verdict)
        rows.append(row)
    return tuple(rows)


def level(scores: xr.DataArray) -> Level:
    """The mean score of one variant, with an interval as in `compare`, but of scores, not differences.

    Args:
        scores: one metric, named in `DIRECTION`, over `seed` and `fold`.

    Raises:
        ssm.InputError: anything else.
    """
    metric = checks.choice("metric", scores.name, tuple(DIRECTION))
    finite = scores.values[np.isfinite(scores.values)].astype(float)
    rounding = ROUNDING * np.abs(finite).max(initial=0)
    mean = mean_of(finite, ratio_of_test_to_train(scores.sizes["fold"]), rounding)
    return Level(metric, mean.value, *mean.interval(SIGNIFICANCE), scores.size - finite.size)


class _Pair(NamedTuple):
    """The scores of a variant and its reference on one metric, fold by fold."""

    metric: str
    variant: str
    reference: str
    scores: Float[np.ndarray, " j"]
    """Scores of the folds in which both have a finite one; so are `reference_scores`."""
    reference_scores: Float[np.ndarray, " j"]
    num_dropped: int

    @property
    def differences(self) -> Float[np.ndarray, " j"]:
        """variant - reference in each fold."""
        return self.scores - self.reference_scores

    @property
    def rounding(self) -> float:
        """The largest difference that rounding can make between equal scores."""
        return ROUNDING * float(np.abs([*self.scores, *self.reference_scores]).max(initial=0))


def _pair(names: tuple[str, str, str], scores: np.ndarray, reference: np.ndarray) -> _Pair:
    """The folds in which both have a finite score; `names` are metric, variant and reference."""
    checks.choice("metric", names[0], tuple(DIRECTION))
    both = np.isfinite(scores) & np.isfinite(reference)
    return _Pair(*names, scores[both], reference[both], int(both.size - both.sum()))


def _beside(scores: xr.DataArray, baseline: str) -> list[_Pair]:
    """Every other variant paired with the baseline, on one metric."""
    variants = [str(name) for name in scores["variant"].values]
    reference = variants.index(checks.choice("baseline", baseline, variants))
    folds = scores.transpose("variant", "seed", "fold").values.astype(float)
    return [
        _pair((str(scores.name), name, baseline), folds[i], folds[reference])
        for i, name in enumerate(variants)
        if i != reference
    ]


def _family(pairs: Sequence[_Pair], num_folds: int, margin: float) -> tuple[Comparison, ...]:
    """Test all pairs as one family of questions."""
    margin = checks.real("margin", margin, 0, open_ends="(")
    ratio = ratio_of_test_to_train(num_folds)
    means = [mean_of(pair.differences, ratio, pair.rounding) for pair in pairs]
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
            reference_score=mean_of(pair.reference_scores, ratio, 0.0).value,
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
