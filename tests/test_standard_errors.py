"""Standard errors against their textbook formulas."""

import numpy as np
import pytest

from ssm.practice.statistics import standard_errors


def test_a_share_counts_one_more_sample_of_each_kind():
    """Agresti and Coull's shrinkage: 3 of 4 count as 4 of 6, and none of 2 as 1 of 4."""
    assert standard_errors.of_share(0.75, 4) == pytest.approx(np.sqrt(4 / 6 * 2 / 6 / 4), rel=1e-12)
    assert standard_errors.of_share(0.0, 2) == pytest.approx(np.sqrt(3 / 16 / 2), rel=1e-12)


def test_of_one_sample_its_own_difference_is_the_noise():
    """Weights of samples have no scale: in all, a class of one sample says nothing of itself."""
    labels = np.array([0, 0, 0, 1, 1, 2])
    differences = np.array([0.3, -0.1, 0.1, 0.5, 0.1, -0.7])
    expected = (
        np.sqrt(differences[:3].var(ddof=1) / 3 + differences[3:5].var(ddof=1) / 2 + 0.7**2) / 3
    )
    recalls = [[0.5, 0.2, 0.9], [0.1, 0.4, 0.9]]
    for scale in (1.0, 1e-3, 50.0):
        of_samples = differences, labels, np.full(6, scale)
        obtained = standard_errors.of_difference(*of_samples, recalls, "balanced_log_loss")
        assert obtained == pytest.approx(expected, rel=1e-12)
        # of the worst class before, and of that now: the larger one
        worst = standard_errors.of_difference(*of_samples, recalls, "worst_class")
        assert worst == pytest.approx(np.sqrt(differences[3:5].var(ddof=1) / 2), rel=1e-12)
    none = standard_errors.of_difference(
        np.zeros(6), labels, np.ones(6), recalls, "balanced_accuracy"
    )
    assert none == 0
