"""Sets that hold the true class with a wanted probability, class by class."""

import numpy as np
import pytest
from scipy import special, stats

import ssm
from ssm.practice import conformal


def drawn(rng, n, shares=(0.7, 0.2, 0.1)):
    """Samples of three Gaussian classes, and probabilities that are wrong: of a distance twice too large."""
    y = rng.choice(3, n, p=shares)
    X = 1.5 * np.eye(3)[y] + rng.normal(size=(n, 3))
    return special.softmax(3.0 * X - [0.0, 1.0, 2.0], axis=1), y


def test_the_quantile_is_the_finite_sample_one():
    """Of 19 samples and an error of 0.1 the 18th; of 8 none will do, so that all sets have the class."""
    p = np.concatenate([np.linspace(0.05, 0.95, 19), np.full(8, 0.3)])
    rows, labels = np.stack([p, 1 - p], 1), np.repeat([0, 1], [19, 8])
    found = conformal.class_quantiles(rows, labels, 0.1)
    assert found[0] == pytest.approx(np.sort(1 - p[:19])[17])
    assert found[1] == np.inf
    sets = conformal.prediction_sets([[0.0, 1.0], [0.1, 0.9], [1.0, 0.0]], found)
    assert sets.tolist() == [[False, True], [True, True], [True, True]]
    # 9 samples are the fewest, as (9 + 1) 0.9 = 9, which rounding must not make 10
    nine = conformal.class_quantiles(rows[:9], labels[:9], 0.1)
    assert nine[0] == pytest.approx(1 - p[:9].min())


@pytest.mark.parametrize("error", [0.05, 0.1, 0.3])
def test_coverage_is_within_its_interval_for_each_class(error):
    """Of m new samples of a class so many are covered as the beta-binomial law of rank r among n has it: m draws
    with a probability that is Beta(r, n + 1 - r) (Vovk 2012). Within its 95 % interval in 95 % of 200 repetitions,
    to four standard errors of that share, though probabilities are wrong and class shares have changed."""
    rng = np.random.default_rng(0)
    laws = []
    for _ in range(200):
        held_out, fresh = drawn(rng, 1000), drawn(rng, 1500, (0.2, 0.3, 0.5))
        quantiles = conformal.class_quantiles(*held_out, error)
        found = conformal.coverage(conformal.prediction_sets(fresh[0], quantiles), fresh[1])
        n = np.bincount(held_out[1])
        laws.append((found.covered, found.count, np.ceil((n + 1) * (1 - error)), n))
    covered, count, rank, n = np.array(laws).swapaxes(0, 1)
    law = stats.betabinom(count.astype(int), rank, n + 1 - rank)
    inside = (law.cdf(covered) > 0.025) & (law.cdf(covered - 1) < 0.975)
    np.testing.assert_allclose(inside.mean(0), 0.95, atol=4 * np.sqrt(0.95 * 0.05 / 200))


def test_coverage_on_average_over_small_calibrations():
    """Rank / (n + 1) exactly, which is at least 1 - error: 2000 calibrations of 25 samples of one class, within four
    standard errors."""
    rng = np.random.default_rng(1)
    labels = np.zeros(25, int)
    hits = []
    for _ in range(2000):
        p = rng.random(26)
        rows = np.stack([p, 1 - p], 1)
        quantiles = conformal.class_quantiles(rows[:25], labels, 0.1)
        hits.append(conformal.prediction_sets(rows[25:], quantiles)[0, 0])
    rank = int(np.ceil(26 * 0.9))
    spread = np.sqrt(0.9 * 0.1 / 2000)
    assert np.mean(hits) == pytest.approx(rank / 26, abs=4 * spread)


def test_coverage_by_hand():
    sets = np.array([[True, False, True], [False, True, False], [True, True, False]])
    found = conformal.coverage(sets, [0, 0, 1])
    assert found.covered.tolist() == [1, 1, 0] and found.count.tolist() == [2, 1, 0]
    assert found.share[:2].tolist() == [0.5, 1.0] and np.isnan(found.share[2])
    assert found.mean_size[:2].tolist() == [1.5, 2.0] and np.isnan(found.high[2])
    assert (found.low[:2] < found.share[:2]).all()


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda: conformal.class_quantiles([[0.5, 0.6]], [0], 0.1), "^probabilities="),
        (lambda: conformal.class_quantiles([[0.5, 0.5]], [2], 0.1), "^labels="),
        (lambda: conformal.class_quantiles([[0.5, 0.5]], [0], 0.0), r"^error=0\.0: must be"),
        (lambda: conformal.prediction_sets([[0.5, 0.5]], np.ones(3)), "^quantiles="),
        (
            lambda: conformal.coverage(np.ones((2, 2), bool), [0, 2]),
            r"^labels=\[0, 2\]: must be 2 int",
        ),
    ],
)
def test_bad_input_has_one_clear_line(call, line):
    with pytest.raises(ssm.InputError, match=line):
        call()
