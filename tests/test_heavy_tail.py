"""The closed form of a softmax layer whose features are held, by its own flow."""

import numpy as np
from scipy.integrate import solve_ivp
from scipy.special import logsumexp

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
