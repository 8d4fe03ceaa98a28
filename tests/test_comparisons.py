"""Paired statistics of repeated cross-validation: their formulas, their errors under the null, and
what they do where there is nothing to test with."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
import xarray as xr

from ssm.checks import InputError
from ssm.practice import comparisons
from ssm.practice.comparisons import ablation, compare, holm, minimum_level

SEEDS, FOLDS = 3, 5
NUM_PAIRS = SEEDS * FOLDS
RATIO = 1 / (FOLDS - 1)
DIMS = ("variant", "seed", "fold")


def dataset(metrics, variants):
    return xr.Dataset(
        {name: (DIMS, values) for name, values in metrics.items()}, {"variant": list(variants)}
    )


def one(scores, reference, metric="accuracy"):
    """The comparison of two tables of scores."""
    (found,) = compare(dataset({metric: np.stack([reference, scores])}, ["erm", "new"]), "erm")
    return found


@pytest.fixture
def scores(rng):
    values = {name: rng.random((4, SEEDS, FOLDS)) for name in ("accuracy", "log_loss")}
    values["accuracy"][2] += 0.9
    values["log_loss"][2] -= 0.9
    return dataset(values, ["drw", "erm", "sqrt", "ldam"])


def test_the_formula_of_the_corrected_resampled_t_test(scores):
    """Against SciPy's one-sample t-test, whose standard error is s / sqrt(J): the same statistic
    shrunk by sqrt(1 + J n_test / n_train)."""
    found = compare(scores, "erm")
    expected = [(m, v) for m in ("accuracy", "log_loss") for v in ("drw", "sqrt", "ldam")]
    assert [(c.metric, c.variant) for c in found] == expected
    for c in found:
        d = (scores[c.metric].sel(variant=c.variant) - scores[c.metric].sel(variant="erm")).values
        plain = scipy.stats.ttest_1samp(d.ravel(), 0)
        shrink = math.sqrt(1 + NUM_PAIRS * RATIO)
        law = scipy.stats.t(NUM_PAIRS - 1)
        # sums of 15 numbers and two ways to the t distribution
        assert c.difference == pytest.approx(d.mean(), rel=1e-12)
        assert c.p_value == pytest.approx(2 * law.sf(abs(plain.statistic) / shrink), rel=1e-9)
        for level, low, high in (
            (0.95, c.low, c.high),
            (1 - 0.05 / len(found), c.simultaneous_low, c.simultaneous_high),
        ):
            interval = plain.confidence_interval(level)
            half = (interval.high - interval.low) / 2 * shrink
            assert [low, high] == pytest.approx([d.mean() - half, d.mean() + half], rel=1e-9)
        assert (c.wins + c.ties + c.losses, c.num_pairs, c.num_dropped) == (15, 15, 0)


def test_verdicts_follow_the_direction_of_the_metric(scores):
    for c in compare(scores, "erm"):
        assert c.verdict == ("better" if c.variant == "sqrt" else "not significant")
    for c in compare(scores, "sqrt"):
        assert c.verdict == "worse"
        assert (c.difference > 0) == (c.metric == "log_loss")
        assert c.losses > c.wins


def test_decisions_and_intervals_agree(rng):
    """p below 0.05 iff the 95 % interval leaves out 0; a simultaneous interval that does so implies
    a significant difference, which its adjusted p says."""
    effects = rng.uniform(-1, 1, (40, 1, 1))
    effects[0] = 0
    values = rng.normal(effects, 0.2, (40, SEEDS, FOLDS))
    found = compare(dataset({"recall": values}, map(str, range(40))), "0")
    for c in found:
        assert (c.p_value < 0.05) == (not c.low <= 0 <= c.high)
        assert (c.adjusted_p_value < 0.05) == (c.verdict != "not significant")
        assert c.simultaneous_low < c.low < c.high < c.simultaneous_high
        if not c.simultaneous_low <= 0 <= c.simultaneous_high:
            assert c.verdict == ("better" if c.difference > 0 else "worse")
    assert {c.verdict for c in found} == {"better", "worse", "not significant"}


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
    assert compare(dataset(values, scores["variant"].values), "erm") == compare(scores, "erm")


def test_correlated_folds_raise_no_false_alarms(rng):
    """Differences of correlation n_test / (n_train + n_test): t is then exact, so 5 % of 4000
    independent nulls are below 0.05, give or take four standard errors of 0.34 %."""
    num, shared = 4000, 1 / FOLDS
    d = math.sqrt(shared) * rng.normal(size=(num, 1, 1))
    d = d + math.sqrt(1 - shared) * rng.normal(size=(num, SEEDS, FOLDS))
    values = np.concatenate([np.zeros((1, SEEDS, FOLDS)), d])
    found = compare(dataset({"accuracy": values}, map(str, range(num + 1))), "0")
    errors = np.mean([c.p_value < 0.05 for c in found])
    assert abs(errors - 0.05) < 0.014
    # and the test has something to tell: the uncorrected one errs six times as often
    plain = scipy.stats.ttest_1samp(d.reshape(num, -1), 0, axis=1)
    assert (plain.pvalue < 0.05).mean() > 0.25
    # the true difference of 0 is in the 95 % intervals as often as it should be
    assert abs(np.mean([c.low <= 0 <= c.high for c in found]) - 0.95) < 0.014


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
        found = compare(dataset(metrics, "abcde"), "a")
        any_false.append(any(c.verdict != "not significant" for c in found))
        any_raw.append(any(c.p_value < 0.05 for c in found))
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
    found = one(a, b)
    assert found.num_dropped == 2 * FOLDS
    assert found._replace(num_dropped=0) == expected
    assert found.num_pairs == FOLDS


@pytest.mark.parametrize("left", [0, 1])
def test_fewer_than_two_pairs_say_nothing(left, rng):
    a, b = rng.random((2, SEEDS, FOLDS))
    a.ravel()[left:] = np.nan
    found = one(a, b)
    assert (found.p_value, found.low, found.high) == (1, -math.inf, math.inf)
    assert found.verdict == "not significant"
    assert (found.num_pairs, found.num_dropped) == (left, NUM_PAIRS - left)
    assert math.isnan(found.difference) == (left == 0)


def test_equal_scores_are_no_difference(rng):
    a = rng.random((SEEDS, FOLDS))
    found = one(a * (1 + 1e-15 * rng.choice([-1, 1], a.shape)), a)
    assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)
    assert (found.simultaneous_low, found.simultaneous_high) == (0, 0)
    assert (found.wins, found.ties, found.losses) == (0, NUM_PAIRS, 0)
    assert found.verdict == "not significant"


@pytest.mark.parametrize("num_seeds", [1, 3])
def test_one_difference_in_every_fold_goes_by_the_sign_test(num_seeds, rng):
    """0.1 in all folds, rounded here and there: SciPy's exact binomial test, and an interval that
    agrees with it."""
    a = rng.integers(0, 10, (num_seeds, FOLDS)) / 10
    found = one(a + 0.1, a, "log_loss")
    num = num_seeds * FOLDS
    assert found.p_value == scipy.stats.binomtest(num, num).pvalue
    assert found.difference == pytest.approx(0.1, rel=1e-12)
    significant = num_seeds == 3  # 2^-4 is more than 0.05, 2^-14 less
    assert found.verdict == ("worse" if significant else "not significant")
    expected = (found.difference,) * 2 if significant else (-math.inf, math.inf)
    assert (found.low, found.high) == expected
    assert found.losses == num


def test_ablation_is_the_same_paired_test(rng):
    """Pairs of an ablation are those of `compare` where one side is the baseline's."""
    values = rng.random((3, 2, SEEDS, FOLDS))
    values[:, 1] += 0.3
    axes = ("variant", "correction", "seed", "fold")
    names = {"variant": ["erm", "sqrt", "drw"], "correction": ["none", "uniform"]}
    scores = xr.Dataset({"accuracy": (axes, values)}, names)
    with_ = [("sqrt", "none"), ["drw", "none"]]
    found = ablation(scores, with_, [("erm", "none")] * 2)
    for c, expected in zip(found, compare(scores.sel(correction="none"), "erm"), strict=True):
        assert (c.variant, c.reference) == (f"{expected.variant}, none", "erm, none")
        assert c[3:] == expected[3:]
    (post_hoc,) = ablation(scores, [("erm", "uniform")], [("erm", "none")])
    assert post_hoc[3:] == one(values[0, 1], values[0, 0])[3:]


def test_minimum_level_is_kept_missed_or_not_shown(rng):
    """Intervals by SciPy, widened as above; a lower-is-better metric mirrors them."""
    noise = rng.normal(0, 0.02, (SEEDS, FOLDS))
    values = np.stack([noise + 0.9, noise + 0.805, noise + 0.5])
    scores = xr.DataArray(values, {"variant": ["erm", "sqrt", "drw"]}, DIMS, "worst_class_recall")
    levels = minimum_level(scores, 0.8)
    assert [level.verdict for level in levels] == ["kept", "not shown", "missed"]
    for level, v in zip(levels, values, strict=True):
        half = (
            scipy.stats.t(NUM_PAIRS - 1).ppf(0.975)
            * math.sqrt(1 / NUM_PAIRS + RATIO)
            * v.std(ddof=1)
        )
        expected = [v.mean(), v.mean() - half, v.mean() + half]
        assert [level.score, level.low, level.high] == pytest.approx(expected, rel=1e-9)
    mirrored = minimum_level((1 - scores).rename("calibration_error"), 0.2)
    assert [level.verdict for level in mirrored] == ["kept", "not shown", "missed"]


def test_minimum_level_without_spread_or_folds():
    values = np.ones((3, SEEDS, FOLDS))
    values[1] = 0
    values[2] = np.nan
    scores = xr.DataArray(values, {"variant": ["a", "b", "c"]}, DIMS, "recall")
    levels = minimum_level(scores, 0.5)
    assert [level.verdict for level in levels] == ["kept", "missed", "not shown"]
    assert [level.num_dropped for level in levels] == [0, 0, NUM_PAIRS]
    assert minimum_level(scores, 1.0)[0].verdict == "kept"


def test_bad_input_is_refused_by_name(scores):
    with pytest.raises(InputError, match=r"^baseline='focal': must be one of drw, erm"):
        compare(scores, "focal")
    with pytest.raises(InputError, match=r"^metric='brier': must be one of accuracy"):
        compare(scores.rename(accuracy="brier"), "erm")
    with pytest.raises(InputError, match=r"^folds=1: must be"):
        compare(scores.isel(fold=[0]), "erm")
    with pytest.raises(InputError, match=r"^required=nan"):
        minimum_level(scores["accuracy"], math.nan)
    by_correction = scores.expand_dims(correction=["none"])
    with pytest.raises(InputError, match=r"^without=0: must be as many as with_ has, 1"):
        ablation(by_correction, [("erm", "none")], [])
    with pytest.raises(InputError, match=r"^correction='training': must be one of none"):
        ablation(by_correction, [("drw", "none")], [("drw", "training")])


def test_every_metric_has_a_direction():
    assert set(comparisons.DIRECTION.values()) == {1, -1}
    less = [name for name, sign in comparisons.DIRECTION.items() if sign < 0]
    assert all("calibration" in name or name == "log_loss" for name in less)
