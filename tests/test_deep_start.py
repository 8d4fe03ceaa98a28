"""Contrasts as if alone in a deep model: the flow is that of the loss, and one contrast obeys the scalar equation."""

import numpy as np
import pytest

from experiments import deep_start
from ssm import exact


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_factors_go_down_the_gradient_of_the_loss(depth, rng):
    """Of |[diag(s), 0] - X_1 .. X_L|^2 / 2n, whose last columns are scatter, by central differences of a polynomial: their error is of the third
    order in a step of 1e-4, and rounding 1e-16 / 1e-4."""
    targets = np.array([2.0, 1.0, 0.5])
    factors = [
        rng.normal(size=factor.shape)
        for factor in deep_start.gaussian_factors(3, 4, depth, 1.0, 1, 9)
    ]

    def loss():
        wanted = np.hstack([np.diag(targets), np.zeros((3, 4))])
        return ((wanted - deep_start.products(factors)[0]) ** 2).sum() / 2 / 7

    for factor, change in zip(factors, deep_start.velocity(factors, targets, 7), strict=True):
        at = tuple(rng.integers(size) for size in factor.shape)
        kept = factor[at]
        values = []
        for moved in (kept + 1e-4, kept - 1e-4):
            factor[at] = moved
            values.append(loss())
        factor[at] = kept
        assert change[at] == pytest.approx((values[1] - values[0]) / 2e-4, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_one_contrast_of_equal_factors_obeys_the_scalar_equation(depth):
    """a' = L r a^(2 - 2/L) (1 - a / s) from e^L. Times are read between steps, whose tolerance is 1e-3."""
    s, e, n = 3.0, 0.1, 20
    factors = [np.full((1, 1, 1), e) for _ in range(depth)]
    wanted = exact.deep_learning_time(np.array([s / n]), np.array([e**depth]), np.array([s]), depth)
    found = deep_start.learning_times(factors, np.array([s]), n, 1, 2 * float(wanted[0]))
    assert found == pytest.approx(wanted, rel=0.01)
    late = deep_start.learning_times(factors, np.array([s]), n, 1, 0.5 * float(wanted[0]))
    assert np.isnan(late).all()


def test_scatter_decays_the_classifier_of_two_factors():
    """x' = r y - e^2 x, y' = r x: growth at -e^2 / 2 + (r^2 + e^4 / 4)^(1/2) in place of r, from a start along
    the growing direction; scatter itself gives way only as fast as logits grow."""
    s, e, n, start = 1.0, 0.1, 100, 1e-4
    r, decay = s / n, e**2
    rate = -decay / 2 + np.sqrt(r**2 + decay**2 / 4)
    y = start * r / rate
    factors = [
        np.array([[[start]]]),
        np.array([[[y, e * n**0.5]]]),
    ]
    t = np.log(0.05 / (start * y)) / (2 * rate)  # when the product has a twentieth of its target
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deep_start, "LEARNED", 0.05)
        found = deep_start.learning_times(factors, np.array([s]), n, 1, 2 * t)
    assert found == pytest.approx(t, rel=0.03)
