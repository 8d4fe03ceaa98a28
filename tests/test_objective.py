"""Losses of a network: their gradients against finite differences, and what their logits say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from ssm import losses
from ssm.practice.network import networks, objective

COUNTS = np.array([40.0, 10.0, 5.0])
NUMBERS = {
    "cross_entropy": {},
    "logit_adjustment": {"additive_adjustment": 1.0},
    "cdt": {"multiplicative_adjustment": 0.3},
    "vs": {"additive_adjustment": 1.0, "multiplicative_adjustment": 0.3},
    "ldam": {"largest_margin": 0.5, "logit_scale": 30.0},
    "focal": {"focusing": 2.0},
    "smoothed": {"label_smoothing": 0.1},
}
LOSSES: dict[str, objective.Loss] = {
    name: losses.adjustment(COUNTS, **numbers) for name, numbers in NUMBERS.items()
}
LOSSES["squared"] = losses.Squared()
gradient_of = jax.jit(objective.parameter_gradient, static_argnames="image_shape")


@jax.jit
def risk(params, X, labels, shares, loss):
    logits = networks.logits(params, X, None)
    return (shares * objective.sample_losses(logits, labels, loss)).sum()


def moved(params, direction, step):
    return jax.tree.map(lambda x, d: x + step * d, params, direction)


@pytest.fixture
def sample(rng):
    """A network, features, labels and shares of 12 samples."""
    params = networks.init_params(networks.Architecture((8,)), 8, 3, rng, "float64")
    return params, rng.normal(size=(12, 8)), np.arange(12) % 3, rng.uniform(size=12)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_slopes(sample, rng, name):
    params, X, labels, shares = sample
    obtained, logits = gradient_of(params, X, labels, shares, LOSSES[name], None)
    np.testing.assert_allclose(logits, networks.logits(params, jnp.asarray(X), None), atol=1e-13)
    h = 1e-5
    for _ in range(3):
        direction = jax.tree.map(lambda x: rng.normal(size=x.shape), params)
        ahead, behind = (
            float(risk(moved(params, direction, step), X, labels, shares, LOSSES[name]))
            for step in (h, -h)
        )
        pairs = zip(jax.tree.leaves(obtained), jax.tree.leaves(direction), strict=True)
        along = float(sum(np.vdot(g, d) for g, d in pairs))
        # differences miss by h^2 times a third derivative, up to 30^3 for LDAM's scaled logits, and
        # by rounding, 1e-16 / h
        assert along == pytest.approx(
            (ahead - behind) / (2 * h), rel=1e-4 if name == "ldam" else 1e-7
        )


def test_shares_scale_samples(sample):
    """No share, no pull."""
    params, X, labels, shares = sample
    half = np.where(np.arange(12) < 6, shares, 0)
    obtained, _ = gradient_of(params, X, labels, half, LOSSES["vs"], None)
    others = np.where(np.arange(12)[:, None] < 6, X, 1e3)
    same, _ = gradient_of(params, others, labels, half, LOSSES["vs"], None)
    for a, b in zip(jax.tree.leaves(obtained), jax.tree.leaves(same), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_logits_say(rng):
    logits = rng.normal(size=(5, 3))
    for name, scale in [("cross_entropy", 1.0), ("ldam", 30.0), ("cdt", 1.0), ("vs", 1.0)]:
        obtained = objective.probabilities(logits, LOSSES[name])
        np.testing.assert_allclose(obtained, special.softmax(scale * logits, axis=1), rtol=1e-14)
    labels = np.eye(3)[np.array([0, 0, 1, 2, 0])]
    means = labels.mean(0)  # the regression of one-hot labels on nothing
    obtained = objective.probabilities(means[None] - 1 / 3, losses.Squared())
    np.testing.assert_allclose(obtained, means[None], rtol=1e-14)
    far = objective.probabilities(10 * logits, losses.Squared())
    assert (far > 0).all()
    np.testing.assert_allclose(far.sum(1), 1, rtol=1e-14)


def test_the_squared_loss_is_half_a_distance(sample):
    params, X, labels, _ = sample
    logits = networks.logits(params, jnp.asarray(X), None)
    obtained = objective.sample_losses(logits, jnp.asarray(labels), losses.Squared())
    expected = 0.5 * ((np.asarray(logits) - np.eye(3)[labels] + 1 / 3) ** 2).sum(1)
    np.testing.assert_allclose(obtained, expected, rtol=1e-13)
