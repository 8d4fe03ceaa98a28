"""The end under a polynomial tail, by an equation of the experiment and by a convex program."""

import dataclasses

import numpy as np
import pytest
from scipy import optimize

from experiments import polynomial_tail


def program_ratio(sizes, counts, weights, alpha):
    """Minorities' over majorities' margin where the weighted sum of m^-alpha is 1 at the least nuclear norm of the
    logits, with gaps within and between groups of their own."""
    k, n, w = (np.array(x, dtype=float) for x in (sizes, counts, weights))

    def norm(x):
        within, between = x[0:2], x[2:4]
        cross = np.sqrt(k.prod() / k.sum()) * (between - (k - 1) / k * within)
        return ((k - 1) * np.sqrt(n) * within).sum() + np.sqrt((k * n * cross**2).sum())

    risk = {
        "type": "ineq",
        "fun": lambda x: 1 - (k * n * w * x[4:] ** -alpha).sum() / (k * n * w).sum(),
    }
    gaps = [{"type": "ineq", "fun": lambda x, i=i: x[i : i + 2] - x[4:]} for i in (0, 2)]
    found = optimize.minimize(
        norm,
        np.ones(6),
        constraints=[risk, *gaps],
        bounds=[(1e-3, None)] * 6,
        options={"ftol": 1e-13},
    )
    return found.x[5] / found.x[4]


@pytest.mark.parametrize(("alpha", "exponent"), [(3.0, 0.0), (3.0, 1.0), (1.5, 0.7)])
def test_the_end_is_that_of_the_least_nuclear_norm(alpha, exponent):
    """The program is solved to about the square root of its tolerance."""
    config = dataclasses.replace(polynomial_tail.BASE, weight_exponent=exponent)
    counts = np.array([30, 3])
    expected = program_ratio((3, 3), counts, counts ** -float(exponent), alpha)
    assert polynomial_tail.end_ratio(config, alpha) == pytest.approx(expected, rel=1e-4)


def test_tails_without_bound_and_many_classes():
    """Without bound the tail is cross-entropy's, whose margins end equal; with many classes the exponent 1/2
    balances, and the ratio goes as R^((g - 1/2) / (alpha + 1))."""
    base = dataclasses.replace(polynomial_tail.BASE, weight_exponent=1.0)
    assert polynomial_tail.end_ratio(base, 1e6) == pytest.approx(1, abs=1e-5)
    many = dataclasses.replace(base, num_classes=10_000)
    assert polynomial_tail.balancing_exponent(many) == pytest.approx(0.5, abs=1e-3)
    assert polynomial_tail.end_ratio(many, 1.0) == pytest.approx(10**0.25, rel=1e-3)
