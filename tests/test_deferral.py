"""Deferred weights: closed forms against each other, and against the equation of a contrast, integrated."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from ssm.theory import deferral


@pytest.mark.parametrize("ramp", [0.0, 3.0])
def test_a_deferred_contrast_is_learned_when_its_effective_time_is_that_without_weights(ramp):
    erm, weight = np.linspace(0.5, 20, 40), np.array([[0.2], [1.0], [5.0]])
    learned = deferral.deferred_learning_time(erm, weight, 4.0, ramp)
    assert (np.diff(learned) > 0).all()  # up to the start, on the ramp and beyond
    np.testing.assert_allclose(
        deferral.effective_time(learned, weight, 4.0, ramp),
        np.broadcast_to(erm, (3, 40)),
        rtol=1e-12,
    )


@pytest.mark.parametrize("weight", [0.3, 4.0])
def test_the_learning_time_of_a_contrast_under_a_ramp(weight):
    """x' = 2 r w(t) x (1 - x), whose time without weights is ln(1 / x_0 - 1) / (2 r)."""
    rate, x_0, start, ramp = 0.5, 1e-4, 3.0, 2.5

    def grown(t, x):
        acts = np.clip((t - start) / ramp, 0, 1)
        return 2 * rate * (1 + (weight - 1) * acts) * x * (1 - x)

    def half(t, x):
        return x[0] - 0.5

    # steps end at the corners of the ramp, beyond which the solver's error is its tolerance
    found = solve_ivp(grown, (0, 60), [x_0], rtol=1e-10, atol=1e-14, max_step=0.05, events=half)
    erm = np.log(1 / x_0 - 1) / (2 * rate)
    wanted = deferral.deferred_learning_time(erm, weight, start, ramp)
    assert found.t_events[0][0] == pytest.approx(float(wanted), rel=1e-6)


def test_from_the_balancing_start_on_both_groups_are_learned_at_once_and_never_sooner():
    """Weights of unit mean over samples, 10 to 1: both are learned at the mean of ERM's times."""
    erm, weights, counts = np.array([3.0, 7.0]), np.array([0.55, 5.5]), np.array([10, 1])
    assert counts @ weights == pytest.approx(counts.sum())
    start = deferral.balancing_start(erm, weights)
    assert 0 < start < erm[0]
    learned = deferral.deferred_learning_time(erm, weights, start)
    np.testing.assert_allclose(learned, deferral.earliest_end(erm, counts), rtol=1e-12)
    assert deferral.earliest_end(erm, counts) == pytest.approx((30 + 7) / 11, rel=1e-12)
