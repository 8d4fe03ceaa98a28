"""Class weights of unit mean over samples."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from ssm import weights

COUNTS = st.lists(st.integers(1, 10**9), min_size=2, max_size=30)


@given(COUNTS, st.floats(-3, 3))
def test_unit_mean_over_samples_and_the_power_law(counts, exponent):
    w = weights.power_law(counts, exponent)
    assert weights.mean_sample_weight(counts, w) == pytest.approx(1, rel=1e-12)
    n = np.array(counts, dtype=float)
    np.testing.assert_allclose(w / w[0], (n / n[0]) ** -exponent, rtol=1e-10)


@given(COUNTS)
def test_exponent_zero_is_one_to_the_bit(counts):
    assert (weights.power_law(counts, 0.0) == 1).all()


def test_exponent_one_is_scikit_learns_balanced():
    counts = [50, 20, 3]
    labels = np.repeat(np.arange(3), counts)
    balanced = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(weights.power_law(counts, 1.0), balanced, rtol=1e-14)
