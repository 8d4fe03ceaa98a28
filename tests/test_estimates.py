"""Means with intervals against each other, and against Student's quantiles."""

import math

import numpy as np
import pytest

from ssm.practice.statistics.estimates import Estimate


def test_the_interval_of_a_mean_is_students():
    """Five numbers whose mean is 1 and standard error 0.1: Student's 97.5 % quantile on 4 degrees of
    freedom is 2.776."""
    mean = Estimate.over_seeds(1 + 0.1 * np.sqrt(2) * np.array([-2, -1, 0, 1, 2]))
    assert mean == pytest.approx((1, 1 - 2.776 * 0.1, 1 + 2.776 * 0.1), rel=1e-3)
    assert Estimate.over_seeds([1.0]) == (1.0, -math.inf, math.inf)


def test_the_jackknife_of_a_mean_is_its_standard_error(rng):
    values = rng.normal(size=7)
    found = Estimate.jackknife(lambda seeds: float(values[seeds].mean()), 7)
    np.testing.assert_allclose(found, Estimate.over_seeds(values), rtol=1e-12)
    # what is not reached without one of the seeds has an interval without an end
    reached = Estimate.jackknife(lambda seeds: 1.0 if 3 in seeds else math.nan, 7)
    assert reached == (1.0, -math.inf, math.inf)


def test_a_geometric_mean_has_the_interval_of_the_logarithms():
    found = Estimate.geometric([0.5, 2.0, 0.5, 2.0])
    assert found.mean == pytest.approx(1) and found.low * found.high == pytest.approx(1)
