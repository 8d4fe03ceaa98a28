"""Class shares of windows without labels: near the truth, with intervals that hold it."""

import numpy as np
import pytest
from scipy import stats

from ssm.practice.watching import drift

ALPHA = 0.05


def window(rng, m, share, distance=2.0):
    """Calibrated probabilities for shares 10 to 1 of samples of two normal classes with a `distance` of means, of which
    the second has another share now."""
    y = rng.random(m) < share
    x = rng.normal(size=m) + distance * y
    odds = 0.1 * np.exp(distance * x - distance**2 / 2)
    p = odds / (1 + odds)
    return np.column_stack([1 - p, p]), y


PRIOR = np.array([10, 1]) / 11


def test_intervals_of_shares_hold_the_truth():
    rng, share = np.random.default_rng(0), 1 / 31
    held = []
    for _ in range(200):
        found = drift.by_probabilities(window(rng, 1500, share)[0], PRIOR, ALPHA)
        assert found.shares.sum() == pytest.approx(1)
        held.append(found.low[1] <= share <= found.high[1])
    assert np.mean(held) >= stats.binom.ppf(0.001, 200, 1 - ALPHA) / 200


def test_shares_of_one_to_thirty_are_within_a_fifth():
    """After shares of 1 to 10, from 10 000 rows without labels: in 19 of 20 windows, and right in the mean."""
    rng = np.random.default_rng(3)
    found = [
        drift.by_probabilities(window(rng, 10_000, 1 / 31, 2.6)[0], PRIOR, ALPHA) for _ in range(60)
    ]
    errors = np.array([each.shares[1] * 31 - 1 for each in found])
    assert np.mean(np.abs(errors) < 0.2) >= 0.95
    assert abs(errors.mean()) < 4 * errors.std() / 60**0.5


def test_the_information_is_the_curvature_of_the_likelihood():
    p, _ = window(np.random.default_rng(1), 3000, 0.2)
    likelihood = p / PRIOR
    found = drift.by_probabilities(p, PRIOR, ALPHA).shares

    def log_likelihood(share):
        return np.log(likelihood @ [1 - share, share]).sum()

    h = 1e-3
    at = [log_likelihood(found[1] + d) for d in (-h, 0, h)]
    curvature = -(at[0] - 2 * at[1] + at[2]) / h**2
    variance = drift._covariance(likelihood, np.ones(len(p)), found)[1, 1]
    assert variance == pytest.approx(1 / curvature, rel=1e-3)


def test_shares_from_decisions_alone():
    """Also with a poor reference, whose noise the interval counts."""
    rng, share, held, found = np.random.default_rng(2), 0.3, [], []
    rates = np.array([[0.9, 0.1], [0.25, 0.75]])
    for _ in range(40):
        confusion = np.array([rng.multinomial(200, row) for row in rates])
        decided = rng.multinomial(3000, [1 - share, share] @ rates)
        result = drift.by_decisions(decided, confusion, ALPHA)
        assert result is not None
        held.append(result.low[1] <= share <= result.high[1])
        found.append(result.shares[1])
    assert np.mean(held) >= stats.binom.ppf(0.001, 40, 1 - ALPHA) / 40
    assert np.mean(found) == pytest.approx(share, abs=4 * np.std(found) / 40**0.5)


def test_a_class_that_the_reference_lacks_has_no_estimate():
    assert drift.by_decisions(np.array([5, 5]), np.array([[9, 1], [0, 0]]), ALPHA) is None


@pytest.mark.parametrize("m", [1, 2, 50])
def test_small_windows_and_absent_classes_have_wide_intervals(m):
    p = np.tile([0.999, 0.001], (m, 1))
    found = drift.by_probabilities(p, PRIOR, ALPHA)
    assert found.shares[1] < 1e-3 and 0.02 < found.high[1] <= 1 and found.low[1] < 1e-6
