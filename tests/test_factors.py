"""Factors of the classes' probabilities that held-out samples choose, by laws and by trying all there are."""

import numpy as np
import pytest
from scipy import special

import ssm
from ssm.practice import costs, factors

MATRIX = np.array([[0.0, 1.0, 4.0], [10.0, 0.0, 2.0], [30.0, 5.0, 0.0]])


def population(rng, n, k=3, spread=1.2):
    """Gaussian classes of unequal shares: the true posterior of samples, and their labels."""
    shares = np.arange(k, 0, -1.0) ** 2
    shares /= shares.sum()
    y = rng.choice(k, n, p=shares)
    means = spread * np.eye(k)
    x = rng.standard_normal((n, k)) + means[y]
    return special.softmax(x @ means.T - (means**2).sum(1) / 2 + np.log(shares), axis=1), y


def mean_cost(p, y, f, matrix):
    return matrix[y, factors.decisions(p, f, matrix)].mean()


def priced(y, k=3):
    """Costs whose mean is 1 - balanced accuracy, by its definition."""
    shares = np.bincount(y, minlength=k) / len(y)
    return (1 / (k * shares))[:, None] * (1 - np.eye(k))


@pytest.mark.parametrize("matrix", [None, MATRIX], ids=["balanced", "costs"])
@pytest.mark.parametrize("seed", range(3))
def test_no_factor_alone_can_be_better(matrix, seed):
    """On the held-out samples: none of 400 other values of any one factor costs less, and neither do ones."""
    p, y = population(np.random.default_rng(seed), 80)
    f = factors.class_factors(p, y, matrix)
    given = priced(y) if matrix is None else matrix
    found = mean_cost(p, y, f, given)
    assert f.prod() == pytest.approx(1, rel=1e-12)
    assert found <= mean_cost(p, y, np.ones(3), given) + 1e-12
    for c in range(3):
        for factor in np.geomspace(1e-3, 1e3, 400):
            other = np.where(np.arange(3) == c, factor, f)
            assert found <= mean_cost(p, y, other, given) + 1e-12


def test_of_two_classes_it_is_a_threshold():
    """As good as the best of all there are."""
    p, y = population(np.random.default_rng(5), 60, k=2)
    matrix = np.array([[0.0, 1.0], [6.0, 0.0]])
    f = factors.class_factors(p, y, matrix)
    every = [matrix[y, (p[:, 1] >= t).astype(int)].mean() for t in [0, *p[:, 1], 2]]
    assert mean_cost(p, y, f, matrix) == pytest.approx(min(every), abs=1e-12)
    np.testing.assert_array_equal(
        factors.decisions(p, f, matrix), p[:, 1] * f[1] * 6 > p[:, 0] * f[0]
    )


@pytest.mark.parametrize("matrix", [None, MATRIX], ids=["balanced", "costs"])
@pytest.mark.parametrize("k", [3, 5])
def test_of_the_true_posterior_they_are_bayes_rule_within_sampling_error(matrix, k):
    """On fresh samples their cost is that of the exact rule: no factor is better than ones on the population, and what
    was chosen on m samples is worse by what those leave open. Differences of costs on m samples have a standard
    error s m^(-1/2), with s of the samples that are decided otherwise; chosen and exact rule differ by 3 of them."""
    if matrix is not None and k != 3:
        matrix = np.abs(np.subtract.outer(np.arange(k), np.arange(k))).astype(float) ** 2
    rng = np.random.default_rng(k)
    (p, y), (q, z) = population(rng, 4000, k), population(rng, 40_000, k)
    f = factors.class_factors(p, y, matrix)
    given = priced(y, k) if matrix is None else matrix
    exact = costs.cheapest(q, given)
    found = factors.decisions(q, f, given)
    differences = given[z, found] - given[z, exact]
    noise = differences.std() * (4000**-0.5 + 40_000**-0.5)
    assert -3 * noise <= differences.mean() <= 3 * noise
    assert differences.mean() <= 0.02 * given[z, exact].mean()  # 2 % of Bayes


def test_a_posterior_that_is_off_by_factors_is_set_right():
    """Divided by (1, 9, 81) its decisions are far from the exact ones; the factors find that back, and the cost of the exact rule
    with it, within 2 %."""
    rng = np.random.default_rng(0)
    (p, y), (q, z) = population(rng, 4000), population(rng, 40_000)
    off = np.array([1.0, 9.0, 81.0])
    f = factors.class_factors(p / off, y, MATRIX)
    exact = MATRIX[z, costs.cheapest(q, MATRIX)].mean()
    assert mean_cost(q / off, z, np.ones(3), MATRIX) > 1.3 * exact
    assert mean_cost(q / off, z, f, MATRIX) < 1.02 * exact


def test_samples_count_by_their_weights():
    p, y = population(np.random.default_rng(2), 60)
    weight = np.random.default_rng(3).integers(0, 4, 60)
    twice = factors.class_factors(p.repeat(weight, axis=0), y.repeat(weight), MATRIX)
    np.testing.assert_allclose(
        factors.class_factors(p, y, MATRIX, sample_weight=weight), twice, rtol=1e-12
    )


def test_where_ones_are_as_good_as_any_nothing_moves():
    p = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]])
    np.testing.assert_array_equal(factors.class_factors(p, [0, 1, 2]), np.ones(3))


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda: factors.class_factors([0.1, 0.9], [0, 1]), "probabilities="),
        (lambda: factors.class_factors([[0.1, np.nan]], [0]), "probabilities="),
        (lambda: factors.class_factors([[0.1, 0.9]], [2]), "labels="),
        (lambda: factors.class_factors([[0.1, 0.9]], [0.5]), "labels="),
        (lambda: factors.class_factors([[0.1, 0.9]], [0], [[0, 1]]), "costs="),
        (lambda: factors.class_factors([[0.1, 0.9]], [0], [[0, -1], [1, 0]]), "costs="),
        (lambda: factors.class_factors([[0.1, 0.9]], [0], sample_weight=[-1]), "sample_weight="),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(call, line):
    with pytest.raises(ssm.InputError) as refused:
        call()
    assert str(refused.value).startswith(line) and "\n" not in str(refused.value)


@pytest.mark.parametrize("seed", range(20))
def test_what_is_decided_is_no_worse_than_without_factors(seed):
    """Of posteriors in tenths, as a few trees have them, where corners of equal size differ by roundings, and of ones that are
    nearly sure, beside whose numbers the others are below rounding."""
    rng, k = np.random.default_rng(seed), 4
    y = rng.integers(0, k, 300)
    tenths = rng.multinomial(10, np.full(k, 1 / k), 300) / 10
    sure = np.where(np.arange(k) == rng.integers(0, k, 300)[:, None], 1.0, 1e-17)
    matrix = priced(y, k)
    for p in (tenths, sure):
        f = factors.class_factors(p, y)
        assert mean_cost(p, y, f, matrix) <= mean_cost(p, y, np.ones(k), matrix)
        # none alone is better by what is decided, at places between all corners
        for c in range(k):
            for t in f[c] * np.geomspace(1e-3, 1e3, 40):
                tried = np.where(np.arange(k) == c, t, f)
                least = mean_cost(p, y, f, matrix) - 1e-9
                assert mean_cost(p, y, tried, matrix) >= least
