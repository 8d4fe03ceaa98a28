"""Paired statistics of repeated cross-validation: their formulas, their errors under the null, and
what they do where there is nothing to test with."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
import xarray as xr

from ssm.practice.statistics import comparisons
from ssm.practice.statistics.comparisons import compare, compare_pairs, holm, level, non_inferiority
from ssm.support.errors import InputError

SEEDS, FOLDS = 3, 5
NUM_PAIRS = SEEDS * FOLDS
RATIO = 1 / (FOLDS - 1)
MARGIN = 0.05
DIMS = ("variant", "seed", "fold")


def dataset(metrics, variants):
    return xr.Dataset(
        {name: (DIMS, values) for name, values in metrics.items()}, {"variant": list(variants)}
    )


def one(scores, reference, metric="accuracy", margin=MARGIN):
    """The comparison of two tables of scores."""
    both = dataset({metric: np.stack([reference, scores])}, ["erm", "new"])
    (compared,) = compare(both, "erm", margin)
    return compared


def correlated(rng, *shape):
    """Normal numbers of variance 1 in each fold, correlated as the corrected t-test takes folds to
    be: n_test / (n_train + n_test)."""
    shared = 1 / FOLDS
    return math.sqrt(shared) * rng.normal(size=(*shape, 1, 1)) + math.sqrt(1 - shared) * rng.normal(
        size=(*shape, SEEDS, FOLDS)
    )


def one_sided(differences):
    """The p values of means of at most, and at least, 0: SciPy's, with the statistic shrunk as
    below."""
    tested: Any = scipy.stats.ttest_1samp(differences.ravel(), 0)
    t = tested.statistic
    t /= math.sqrt(1 + differences.size * RATIO)
    law = scipy.stats.t(differences.size - 1)
    return law.sf(t), law.cdf(t)


@pytest.fixture
def scores(rng):
    values = {name: rng.random((4, SEEDS, FOLDS)) for name in ("accuracy", "log_loss")}
    values["accuracy"][2] += 0.9
    values["log_loss"][2] -= 0.9
    return dataset(values, ["drw", "erm", "sqrt", "ldam"])


def test_the_formula_of_the_corrected_resampled_t_test(scores):
    """Against SciPy's one-sample t-test, whose standard error is s / sqrt(J): the same statistic
    shrunk by sqrt(1 + J n_test / n_train)."""
    compared = compare(scores, "erm", MARGIN)
    expected = [(m, v) for m in ("accuracy", "log_loss") for v in ("drw", "sqrt", "ldam")]
    assert [(c.metric, c.variant) for c in compared] == expected
    for c in compared:
        d = (scores[c.metric].sel(variant=c.variant) - scores[c.metric].sel(variant="erm")).values
        plain: Any = scipy.stats.ttest_1samp(d.ravel(), 0)
        shrink = math.sqrt(1 + NUM_PAIRS * RATIO)
        law = scipy.stats.t(NUM_PAIRS - 1)
        # sums of 15 numbers and two ways to the t distribution
        assert c.difference == pytest.approx(d.mean(), rel=1e-12)
        assert c.p_value == pytest.approx(2 * law.sf(abs(plain.statistic) / shrink), rel=1e-9)
        for coverage, low, high in (
            (0.95, c.low, c.high),
            (1 - 0.05 / len(compared), c.simultaneous_low, c.simultaneous_high),
        ):
            interval = plain.confidence_interval(coverage)
            half = (interval.high - interval.low) / 2 * shrink
            assert [low, high] == pytest.approx([d.mean() - half, d.mean() + half], rel=1e-9)
        assert (c.wins + c.ties + c.losses, c.num_pairs, c.num_dropped) == (15, 15, 0)
        own_scores = scores[c.metric].sel(variant="erm").values.mean()
        assert c.reference_score == pytest.approx(own_scores, rel=1e-12) and c.margin == MARGIN
        most = math.inf if c.metric == "log_loss" else 1
        assert c.room == (-c.reference_score, most - c.reference_score)


def test_verdicts_follow_the_direction_of_the_metric(scores):
    for c in compare(scores, "erm", MARGIN):
        assert c.verdict == ("better" if c.variant == "sqrt" else "undecided")
    for c in compare(scores, "sqrt", MARGIN):
        assert c.verdict == "worse"
        assert (c.difference > 0) == (c.metric == "log_loss")
        assert c.losses > c.wins


def test_decisions_and_intervals_agree(rng):
    """p below 0.05 iff the 95 % interval leaves out 0; a simultaneous interval that does so implies
    a difference that is shown, which its adjusted p says; one within the margin is equivalent, and
    nothing else is."""
    effects = rng.uniform(-1, 1, (40, 1, 1))
    effects[:10] = 0
    values = rng.normal(effects, 0.2, (40, SEEDS, FOLDS))
    compared = compare(dataset({"recall": values}, map(str, range(40))), "0", 0.75)
    for c in compared:
        assert (c.p_value < 0.05) == (not c.low <= 0 <= c.high)
        assert (c.adjusted_p_value < 0.05) == (c.verdict in ("better", "worse"))
        assert c.simultaneous_low < c.low < c.high < c.simultaneous_high
        if not c.simultaneous_low <= 0 <= c.simultaneous_high:
            assert c.verdict == ("better" if c.difference > 0 else "worse")
        within = c.simultaneous_low > -0.75 and c.simultaneous_high < 0.75
        assert c.is_within_margin == within
        if c.adjusted_p_value >= 0.05:
            assert c.verdict == ("equivalent" if within else "undecided")
    assert {c.verdict for c in compared} == {"better", "worse", "equivalent", "undecided"}


@pytest.mark.parametrize("metric", ["accuracy", "log_loss"])
def test_equivalence_is_two_one_sided_tests(metric, rng):
    """Against SciPy's, of four comparisons each at 0.05 / 8: where neither is p at least 0.05 for no
    difference a reason to call it equivalent, nor is a difference shown a reason not to."""
    reference = rng.uniform(0.4, 0.6, (SEEDS, FOLDS))
    d = np.stack(
        [
            0.01 * correlated(rng),  # nothing, and precise
            0.3 * correlated(rng),  # nothing to tell
            0.02 + 0.002 * correlated(rng),  # shown, within the margin
            0.2 + 0.01 * correlated(rng),  # shown
        ]
    )
    values = np.concatenate([reference[None], reference + d])
    compared = compare(dataset({metric: values}, "abcde"), "a", MARGIN)
    for c, mine in zip(compared, d, strict=True):
        p = max(one_sided(mine + MARGIN)[0], one_sided(mine - MARGIN)[1])
        assert c.is_within_margin == (p < 0.05 / 8)
    shown = "better" if metric == "accuracy" else "worse"
    assert [c.verdict for c in compared] == ["equivalent", "undecided", shown, shown]
    assert [c.is_within_margin for c in compared] == [True, False, True, False]
    assert compared[1].p_value > 0.05


@pytest.mark.slow
def test_equivalence_errs_as_often_as_it_may(rng):
    """A difference of just the margin is called less in 2.5 % of 1500 studies, half of 5 %, since
    the interval has two ends; give or take four standard errors of 0.4 %. That nothing is shown is
    no reason: with three times the margin's scatter, 5 % of no differences are called some by
    mistake and nearly all others are undecided; with a fifth of it nearly all are equivalent."""
    d = correlated(rng, 1500)
    reference = np.zeros((SEEDS, FOLDS))
    precise = [one(MARGIN + 0.002 * x, reference).is_within_margin for x in d]
    assert abs(np.mean(precise) - 0.025) < 0.016
    loose = [one(3 * MARGIN * x, reference) for x in d[:300]]
    assert np.mean([c.verdict == "undecided" for c in loose]) > 0.9
    assert np.mean([one(0.01 * x, reference).verdict == "equivalent" for x in d[:300]]) > 0.9


def test_a_family_of_differences_of_the_margin_is_called_equivalent_in_one_of_twenty(rng):
    """Any of six in at most 5 % of 300 families, and three standard errors of 1.3 %."""
    any_false = []
    for _ in range(300):
        values = np.concatenate([np.zeros((1, SEEDS, FOLDS)), MARGIN + 0.002 * correlated(rng, 6)])
        compared = compare(dataset({"recall": values}, "abcdefg"), "a", MARGIN)
        any_false.append(any(c.is_within_margin for c in compared))
    assert np.mean(any_false) < 0.05 + 0.038


def test_swapped_sides_change_signs_alone(rng):
    a, b = rng.random((2, SEEDS, FOLDS))
    there, back = one(a, b), one(b, a)
    assert back.difference == -there.difference
    assert (back.low, back.high) == (-there.high, -there.low)
    assert back.p_value == there.p_value
    assert (back.wins, back.ties, back.losses) == (there.losses, there.ties, there.wins)


def test_the_order_of_folds_is_nothing(scores, rng):
    shuffled = scores.stack(j=("seed", "fold"))
    shuffled = shuffled.isel(j=rng.permutation(NUM_PAIRS)).drop_vars(["j", "seed", "fold"])
    shuffled = shuffled.expand_dims(seed=1).rename(j="fold")
    values = {m: shuffled[m].transpose(*DIMS).values.reshape(4, SEEDS, FOLDS) for m in shuffled}
    assert compare(dataset(values, scores["variant"].values), "erm", MARGIN) == compare(
        scores, "erm", MARGIN
    )


def test_correlated_folds_raise_no_false_alarms(rng):
    """Differences of correlation n_test / (n_train + n_test): t is then exact, so 5 % of 4000
    independent nulls are below 0.05, give or take four standard errors of 0.34 %."""
    num = 4000
    d = correlated(rng, num)
    values = np.concatenate([np.zeros((1, SEEDS, FOLDS)), d])
    compared = compare(dataset({"accuracy": values}, map(str, range(num + 1))), "0", MARGIN)
    errors = np.mean([c.p_value < 0.05 for c in compared])
    assert abs(errors - 0.05) < 0.014
    # and the test has something to tell: the uncorrected one errs six times as often
    plain: Any = scipy.stats.ttest_1samp(d.reshape(num, -1), 0, axis=1)
    assert (plain.pvalue < 0.05).mean() > 0.25
    # the true difference of 0 is in the 95 % intervals as often as it should be
    assert abs(np.mean([c.low <= 0 <= c.high for c in compared]) - 0.95) < 0.014


def test_real_cross_validation_raises_no_false_alarms(rng):
    """Two nearest-mean classifiers that see different features of the same worth: neither is better
    by symmetry. At most 5 % of 400 data sets, and three standard errors of 1.1 %."""
    num, n = 400, 60
    signs = np.tile([-1.0, 1.0], n // 2)
    features = rng.normal(size=(num, 2, n, 3)) + 0.4 * signs[:, None]  # two sets of three
    accuracy = np.empty((num, 2, SEEDS, FOLDS))
    for seed in range(SEEDS):
        pairs = rng.permutation(n // 2).reshape(FOLDS, -1)
        for fold, test_pairs in enumerate(pairs):
            test = np.concatenate([2 * test_pairs, 2 * test_pairs + 1])
            train = np.setdiff1d(np.arange(n), test)
            direction = (features[..., train, :] * signs[train, None]).mean(-2)
            guesses = np.einsum("abij,abj->abi", features[..., test, :], direction) > 0
            accuracy[..., seed, fold] = (guesses == (signs[test] > 0)).mean(-1)
    p = np.array([one(a, b).p_value for a, b in accuracy])
    assert 0 < (p < 0.05).mean() < 0.05 + 0.033


def test_a_family_of_nulls_is_wrong_in_one_of_twenty(rng):
    """Any false verdict among 12 in at most 5 % of 250 families, and three standard errors of
    1.4 %; unadjusted p values would be wrong far more often."""
    any_false, any_raw = [], []
    for _ in range(250):
        values = rng.normal(size=(5, 1, 1)) * math.sqrt(0.25) + rng.normal(size=(3, 5, 1, FOLDS))
        metrics = dict(zip(("accuracy", "macro_f1", "log_loss"), values, strict=True))
        compared = compare(dataset(metrics, "abcde"), "a", MARGIN)
        any_false.append(any(c.verdict in ("better", "worse") for c in compared))
        any_raw.append(any(c.p_value < 0.05 for c in compared))
    assert np.mean(any_false) < 0.05 + 0.042
    assert np.mean(any_raw) > 0.15


@pytest.mark.parametrize("m", range(1, 7))
def test_holm_is_closed_testing_by_bonferroni(m, rng):
    """Brute force: the worst Bonferroni p value of all sets of hypotheses that one is in."""
    for scale in (0.02, 0.3, 1):
        p = rng.random(m) * scale
        p[-1] = p[0]  # a tie
        sets = [s for r in range(1, m + 1) for s in itertools.combinations(range(m), r)]
        worst = [max(min(1, len(s) * p[list(s)].min()) for s in sets if i in s) for i in range(m)]
        np.testing.assert_allclose(holm(p), worst, rtol=1e-15)


def test_missing_scores_are_dropped_in_pairs(rng):
    """One seed lost by the one, another by the other: as if only the third had been run, but for
    the folds of a cross-validation, which stay five."""
    a, b = rng.random((2, SEEDS, FOLDS))
    expected = one(a[1:2], b[1:2])
    a[0], b[2] = np.nan, np.inf
    compared = one(a, b)
    assert compared.num_dropped == 2 * FOLDS
    assert compared._replace(num_dropped=0) == expected
    assert compared.num_pairs == FOLDS


@pytest.mark.parametrize("left", [0, 1])
def test_fewer_than_two_pairs_say_nothing(left, rng):
    a, b = rng.random((2, SEEDS, FOLDS))
    a.ravel()[left:] = np.nan
    compared = one(a, b)
    assert (compared.p_value, compared.low, compared.high) == (1, -math.inf, math.inf)
    assert compared.verdict == "undecided"
    assert (compared.num_pairs, compared.num_dropped) == (left, NUM_PAIRS - left)
    assert math.isnan(compared.difference) == (left == 0)


def test_equal_scores_are_no_difference(rng):
    a = rng.random((SEEDS, FOLDS))
    compared = one(a * (1 + 1e-15 * rng.choice([-1, 1], a.shape)), a)
    assert (compared.difference, compared.low, compared.high, compared.p_value) == (0, 0, 0, 1)
    assert (compared.simultaneous_low, compared.simultaneous_high) == (0, 0)
    assert (compared.wins, compared.ties, compared.losses) == (0, NUM_PAIRS, 0)
    assert compared.verdict == "equivalent"


@pytest.mark.parametrize(("folds", "verdict"), [(5, "undecided"), (6, "equivalent")])
def test_a_few_folds_may_tie_by_chance(folds, verdict, rng):
    """Two one-sided sign tests, each at 2.5 %: SciPy's binomial test of all folds above -margin."""
    a = rng.random((1, folds))
    p = scipy.stats.binomtest(folds, folds, alternative="greater").pvalue
    compared = one(a, a)
    assert compared.verdict == verdict == ("equivalent" if p <= 0.025 else "undecided")
    assert (compared.difference, compared.p_value) == (0, 1)
    assert compared.high == (0 if verdict == "equivalent" else math.inf)


@pytest.mark.parametrize("num_seeds", [1, 3])
def test_one_difference_in_every_fold_goes_by_the_sign_test(num_seeds, rng):
    """0.1 in all folds, rounded here and there: SciPy's exact binomial test, and an interval that
    agrees with it."""
    a = rng.integers(0, 10, (num_seeds, FOLDS)) / 10
    compared = one(a + 0.1, a, "log_loss")
    num = num_seeds * FOLDS
    assert compared.p_value == scipy.stats.binomtest(num, num).pvalue
    assert compared.difference == pytest.approx(0.1, rel=1e-12)
    significant = num_seeds == 3  # 2^-4 is more than 0.05, 2^-14 less
    assert compared.verdict == ("worse" if significant else "undecided")
    expected = (compared.difference,) * 2 if significant else (-math.inf, math.inf)
    assert (compared.low, compared.high) == expected
    assert compared.losses == num


def test_a_difference_of_just_the_margin_is_not_within_it(rng):
    """Though 0.85 - 0.9 is a little more than -0.05 in floating point."""
    a = np.full((SEEDS, FOLDS), 0.85)
    assert not one(a, a + 0.05).is_within_margin and one(a, a + 0.049).is_within_margin
    (compared,) = non_inferiority(array(np.stack([a + 0.05, a])), "0", MARGIN)
    assert (compared.verdict, compared.kept_p_value, compared.missed_p_value) == ("undecided", 1, 1)


def test_ablation_is_the_same_paired_test(rng):
    """Pairs of an ablation are those of `compare` where one side is the baseline's."""
    values = rng.random((3, 2, SEEDS, FOLDS))
    values[:, 1] += 0.3
    axes = ("variant", "correction", "seed", "fold")
    names = {"variant": ["erm", "sqrt", "drw"], "correction": ["none", "uniform"]}
    scores = xr.Dataset({"accuracy": (axes, values)}, names)
    treated = [("sqrt", "none"), ["drw", "none"]]
    compared = compare_pairs(scores, treated, [("erm", "none")] * 2, MARGIN)
    beside = compare(scores.sel(correction="none"), "erm", MARGIN)
    for c, expected in zip(compared, beside, strict=True):
        assert (c.variant, c.reference) == (f"{expected.variant}, none", "erm, none")
        assert c[3:] == expected[3:]
    (post_hoc,) = compare_pairs(scores, [("erm", "uniform")], [("erm", "none")], MARGIN)
    assert post_hoc[3:] == one(values[0, 1], values[0, 0])[3:]


def array(values, metric="balanced_accuracy"):
    """Scores of variants 0, 1, ..."""
    return xr.DataArray(values, {"variant": list(map(str, range(len(values))))}, DIMS, metric)


def test_non_inferiority_is_a_paired_one_sided_test(rng):
    """SciPy's, of the differences and the margin, adjusted by Holm in each direction; a metric of
    which less is better mirrors it. The baseline's own scatter, here ten times the margin, is in the
    scores of both and so takes nothing from the test."""
    reference = 10 * MARGIN * rng.normal(size=(SEEDS, FOLDS))
    effects = np.array([0.1, 0, -0.02, -0.05, -0.2])[:, None, None]
    d = effects + 0.02 * correlated(rng, 5)
    scores = array(np.concatenate([reference[None], reference + d]))
    compared = non_inferiority(scores, "0", MARGIN)
    p = np.array([one_sided(mine + MARGIN) for mine in d])
    np.testing.assert_allclose([row.kept_p_value for row in compared], holm(p[:, 0]), rtol=1e-9)
    np.testing.assert_allclose([row.missed_p_value for row in compared], holm(p[:, 1]), rtol=1e-9)
    verdicts = ["kept", "kept", "kept", "undecided", "missed"]
    assert [row.verdict for row in compared] == verdicts
    assert [row.variant for row in compared] == ["1", "2", "3", "4", "5"]
    for row, mine in zip(compared, d, strict=True):
        half = scipy.stats.t(NUM_PAIRS - 1).ppf(1 - 0.05 / 5)
        half *= math.sqrt(1 / NUM_PAIRS + RATIO) * mine.std(ddof=1)
        expected = [mine.mean(), mine.mean() - half, mine.mean() + half]
        assert [row.difference, row.low, row.high] == pytest.approx(expected, rel=1e-9)
    mirrored = non_inferiority((1 - scores).rename("calibration_error"), "0", MARGIN)
    assert [row.verdict for row in mirrored] == verdicts
    for row, other in zip(mirrored, compared, strict=True):
        assert row.difference == pytest.approx(-other.difference)
        assert row.kept_p_value == pytest.approx(other.kept_p_value)


def test_a_minority_lost_is_not_made_good_by_accuracy():
    """Nine of ten samples are of one class: never to find the other costs 0.04 of accuracy, and
    0.4 of balanced accuracy."""
    folds = 1 + 0.001 * np.arange(NUM_PAIRS).reshape(SEEDS, FOLDS)
    for metric, scores, verdict in (
        ("accuracy", (0.94, 0.90), "kept"),
        ("balanced_accuracy", (0.90, 0.50), "missed"),
    ):
        (compared,) = non_inferiority(array(np.multiply.outer(scores, folds), metric), "0", MARGIN)
        assert compared.verdict == verdict


@pytest.mark.parametrize(("m", "num"), [pytest.param(1, 1500, marks=pytest.mark.slow), (4, 400)])
def test_non_inferiority_errs_in_one_of_twenty(m, num, rng):
    """Losses of just the margin: any is said to be kept in at most 5 % of the studies, and any to
    be missed in at most 5 %; for one strategy that is exact. Four standard errors."""
    kept, missed = [], []
    for _ in range(num):
        d = -MARGIN + 0.02 * correlated(rng, m)
        rows = non_inferiority(array(np.concatenate([np.zeros((1, SEEDS, FOLDS)), d])), "0", MARGIN)
        kept.append(any(row.verdict == "kept" for row in rows))
        missed.append(any(row.verdict == "missed" for row in rows))
    reach = 4 * math.sqrt(0.05 * 0.95 / num)
    for compared in (kept, missed):
        assert np.mean(compared) < 0.05 + reach
        assert m > 1 or np.mean(compared) > 0.05 - reach


@pytest.mark.parametrize(("num_seeds", "verdict"), [(1, "undecided"), (3, "kept")])
def test_equal_losses_in_every_fold_go_by_the_sign_test(num_seeds, verdict, rng):
    """Of two strategies, 2 * 2^-5 is more than 0.05 and 2 * 2^-15 less."""
    a = rng.random((num_seeds, FOLDS))
    compared = non_inferiority(array(np.stack([a, a, a - 0.01])), "0", MARGIN)
    expected = 2 * scipy.stats.binomtest(a.size, a.size, alternative="greater").pvalue
    for row in compared:
        assert (row.verdict, row.kept_p_value, row.missed_p_value) == (verdict, expected, 1)
    worse = non_inferiority(array(np.stack([a, a - 0.1, a - 0.2])), "0", MARGIN)
    assert {row.verdict for row in worse} == {"undecided" if num_seeds == 1 else "missed"}


def test_no_folds_decide_nothing(rng):
    a = rng.random((2, SEEDS, FOLDS))
    a[1] = np.nan
    (compared,) = non_inferiority(array(a), "0", MARGIN)
    assert (compared.verdict, compared.kept_p_value, compared.missed_p_value) == ("undecided", 1, 1)
    assert (compared.low, compared.high) == (-math.inf, math.inf)


def test_a_level_keeps_or_misses_what_is_asked_for(rng):
    """Intervals by SciPy, widened as above; a lower-is-better metric mirrors them."""
    noise = rng.normal(0, 0.02, (SEEDS, FOLDS))
    values = np.stack([noise + 0.9, noise + 0.805, noise + 0.5])
    verdicts = ["kept", "undecided", "missed"]
    for v, verdict in zip(values, verdicts, strict=True):
        scores = xr.DataArray(v, dims=DIMS[1:], name="worst_class_recall")
        compared = level(scores)
        assert (compared.beside(0.8), compared.num_dropped) == (verdict, 0)
        half = (
            scipy.stats.t(NUM_PAIRS - 1).ppf(0.975)
            * math.sqrt(1 / NUM_PAIRS + RATIO)
            * v.std(ddof=1)
        )
        expected = [v.mean(), v.mean() - half, v.mean() + half]
        assert [compared.score, compared.low, compared.high] == pytest.approx(expected, rel=1e-9)
        assert level((1 - scores).rename("calibration_error")).beside(0.2) == verdict


@pytest.mark.parametrize(
    ("value", "dropped", "verdict"),
    [(1.0, 0, "kept"), (0.0, 0, "missed"), (np.nan, NUM_PAIRS, "undecided")],
)
def test_levels_without_spread_or_folds(value, dropped, verdict):
    compared = level(xr.DataArray(np.full((SEEDS, FOLDS), value), dims=DIMS[1:], name="recall"))
    assert (compared.beside(0.5), compared.num_dropped) == (verdict, dropped)
    assert compared.beside(1.0) == ("kept" if value == 1 else verdict)


def test_bad_input_is_refused_by_name(scores):
    with pytest.raises(InputError, match=r"^baseline='focal': must be one of drw, erm"):
        compare(scores, "focal", MARGIN)
    with pytest.raises(InputError, match=r"^metric='brier': must be one of accuracy"):
        compare(scores.rename(accuracy="brier"), "erm", MARGIN)
    with pytest.raises(InputError, match=r"^folds=1: must be"):
        compare(scores.isel(fold=[0]), "erm", MARGIN)
    for margin in (0.0, -0.1, math.nan, math.inf):
        with pytest.raises(InputError, match=r"^margin=.*: must be a finite number in \(0, inf\)"):
            compare(scores, "erm", margin)
        with pytest.raises(InputError, match=r"^margin="):
            non_inferiority(scores["accuracy"], "erm", margin)
    with pytest.raises(InputError, match=r"^baseline='focal'"):
        non_inferiority(scores["accuracy"], "focal", MARGIN)
    with pytest.raises(InputError, match=r"^metric='brier'"):
        non_inferiority(scores["accuracy"].rename("brier"), "erm", MARGIN)
    with pytest.raises(InputError, match=r"^metric='brier'"):
        level(scores["accuracy"].sel(variant="erm").rename("brier"))
    by_correction = scores.expand_dims(correction=["none"])
    with pytest.raises(InputError, match=r"^control=0: must be as many as treated has, 1"):
        compare_pairs(by_correction, [("erm", "none")], [], MARGIN)
    with pytest.raises(InputError, match=r"^correction='training': must be one of none"):
        compare_pairs(by_correction, [("drw", "none")], [("drw", "training")], MARGIN)


def test_every_metric_has_a_direction():
    assert set(comparisons.DIRECTION.values()) == {1, -1}
    less = [name for name, sign in comparisons.DIRECTION.items() if sign < 0]
    assert all("calibration" in name or name in ("log_loss", "expected_cost") for name in less)
