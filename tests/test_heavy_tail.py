"""Laws of class losses under a heavy tail of class sizes, by independent flows and by runs."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.special import logsumexp

import ssm
from experiments import heavy_tail


def test_the_loss_of_held_features_is_the_flow_of_a_softmax():
    """One class of four, all its logits followed; the tolerance is the integrator's."""
    own = np.array([0.0, 1.0, 0.0, 0.0])

    def slopes(_, logits):
        return own - np.exp(logits - logsumexp(logits))

    times = np.array([0.0, 0.5, 3.0, 40.0, 2000.0])
    run = solve_ivp(slopes, (0, 2000), np.zeros(4), "DOP853", times, rtol=1e-11, atol=1e-13)
    loss = logsumexp(run.y, axis=0) - run.y[1]
    np.testing.assert_allclose(heavy_tail.held_loss(times, 4), loss, rtol=1e-7)


@pytest.mark.slow
def test_both_factors_late(untyped):
    """1 / (2 r t x margin) falls short by 1 / margin, and by what margins are still unequal; slopes by its square."""
    sizes = heavy_tail.SMALL_SIZES.astype(float)
    case = heavy_tail.follow(sizes, heavy_tail.SMALL_NUMBERS, 0.0, 1e-7)
    own = case.curves
    assert own.margin[-1].min() > 25
    np.testing.assert_allclose(case.over_law(own.margin)[-1], 1, atol=0.05)
    slope = np.gradient(np.log(own.class_loss), np.log(own.times), axis=0)[-2]
    np.testing.assert_allclose(slope, -(1 + 1 / own.margin[-2]), atol=0.01)


def test_sign_descent_on_held_features_learns_all_classes_at_once():
    """An own logit goes up by the rate a step and all others go down by it; linear between steps, so to the rate squared."""
    steps = {"optimizer": "sign", "learning_rate": 0.01, "num_steps": 200, "num_saves": 201}
    held = {**heavy_tail.SMALL, **heavy_tail.HELD}
    run = ssm.simulate(ssm.Config(**held, **steps)).expand_dims("seed")
    k = 31
    wanted = np.log((k - 1) / (np.sqrt(k) - 1)) / 2
    np.testing.assert_allclose(heavy_tail.learned(run, 0.01), wanted, rtol=1e-4)
