"""Values against independent formulas, gradients against automatic differentiation and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssm import losses


@pytest.fixture
def columns(rng):
    return rng.normal(size=(4, 7)) * 3, rng.integers(0, 4, size=7)


def test_squared_against_numpy(columns):
    Z, y = columns
    S = np.eye(4)[y].T - 0.25
    value = losses.squared(jnp.array(Z), jnp.array(y))
    np.testing.assert_allclose(value, 0.5 * ((Z - S) ** 2).sum(0), rtol=1e-13)


def test_cross_entropy_against_numpy(columns):
    Z, y = columns
    p = np.exp(Z) / np.exp(Z).sum(0)
    value = losses.cross_entropy(jnp.array(Z), jnp.array(y))
    np.testing.assert_allclose(value, -np.log(p[y, np.arange(7)]), rtol=1e-12)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_logit_gradients(columns, name):
    Z, y = jnp.array(columns[0]), jnp.array(columns[1])
    loss = losses.LOSSES[name]
    by_hand = loss.logit_gradient(Z, y)
    automatic = jax.grad(lambda z: loss.value(z, y).sum())(Z)
    np.testing.assert_allclose(by_hand, automatic, atol=1e-14)
    step = 1e-6
    finite = (loss.value(Z.at[1].add(step), y) - loss.value(Z.at[1].add(-step), y)) / (2 * step)
    np.testing.assert_allclose(by_hand[1], finite, atol=1e-8)


def test_the_softmax_of_large_logits_is_finite():
    Z = jnp.array([[1e5, -1e5], [-1e5, 1e5]])
    y = jnp.array([0, 0])
    np.testing.assert_array_equal(losses.cross_entropy(Z, y), [0, 2e5])
    np.testing.assert_array_equal(losses.cross_entropy_gradient(Z, y), [[0, -1], [0, 1]])
