"""Values against independent formulas, gradients against automatic differentiation and finite differences."""

import jax
import jax.numpy as jnp
import mpmath
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


@pytest.mark.parametrize("margin", [5, 50, 500, 50_000])
def test_log_space_against_many_digits(margin):
    """Loss and gradient at margins where the loss is as small as e^-50000."""
    behind = [0.0, 0.3, 1.7, 40.0]  # of the other logits, below the one that is next
    z = [float(margin), *(-x for x in behind)]
    Z, y = jnp.array(z)[:, None], jnp.array([0])
    with mpmath.workdps(50):
        others = [mpmath.e ** (mpmath.mpf(x) - margin) for x in z[1:]]
        odds = mpmath.fsum(others)
        exact_loss = mpmath.log(mpmath.log1p(odds))
        exact = [mpmath.log(x / (1 + odds)) for x in (odds, *others)]
    # a difference of logarithms is the relative error of what they are of
    off = abs(float(mpmath.mpf(float(losses.log_cross_entropy(Z, y)[0])) - exact_loss))
    assert off < 1e-12 * max(margin / 500, 1)  # beyond 500 the logarithm itself is rounded to that
    found = losses.cross_entropy_log_gradient(Z, y)[:, 0]
    for ours, theirs in zip(found, exact, strict=True):
        assert abs(float(mpmath.mpf(float(ours)) - theirs)) < 1e-12 * max(margin / 500, 1)


def test_log_space_is_the_logarithm(columns):
    Z, y = jnp.array(columns[0]), jnp.array(columns[1])
    value, gradient = losses.cross_entropy(Z, y), losses.cross_entropy_gradient(Z, y)
    np.testing.assert_allclose(jnp.exp(losses.log_cross_entropy(Z, y)), value, rtol=1e-12)
    magnitudes = jnp.exp(losses.cross_entropy_log_gradient(Z, y))
    np.testing.assert_allclose(magnitudes, abs(gradient), rtol=1e-9)  # softmax - 1 loses some
    order = np.sort(columns[0], axis=0)
    wrong = columns[0].argmax(0) != columns[1]
    margins = np.array(losses.margins(Z, y))
    np.testing.assert_allclose(margins[~wrong], (order[-1] - order[-2])[~wrong], rtol=1e-13)
    assert (margins[wrong] < 0).all()
