"""Corrections of logits against the posterior of a distribution that is known, and Bayes' rule."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import softmax

from ssm import InputError, losses, posthoc

# P(x, y) for three values of x (columns) and three classes, rarer and rarer
JOINT = np.array([[0.30, 0.15, 0.15], [0.04, 0.20, 0.06], [0.02, 0.01, 0.07]])
POSTERIOR = JOINT / JOINT.sum(0)
PRIOR = JOINT.sum(1)
WEIGHTS = np.array([0.4, 1.5, 6.0])


@jax.jit
@jax.value_and_grad
def risk(flat, weights, adjustment):
    """Expected weighted loss of logits that are free for each x; one column for each (x, y)."""
    labels, x = jnp.repeat(jnp.arange(3), 3), jnp.tile(jnp.arange(3), 3)
    values = losses.adjusted_cross_entropy(flat.reshape(3, 3)[:, x], labels, adjustment)
    return (JOINT.ravel() * weights[labels] * values).sum()


def minimiser(weights, **numbers):
    """Logits that minimise the expected loss."""
    adjustment = losses.adjustment(PRIOR, **numbers)
    found = minimize(
        lambda flat: tuple(np.array(x) for x in risk(flat, weights, adjustment)),
        np.zeros(9),
        jac=True,
        options={"gtol": 1e-9},
    )
    return found.x.reshape(3, 3)


def test_weighted_cross_entropy_is_undone():
    logits = minimiser(WEIGHTS)
    # gradients of 1e-9 over curvatures of 1e-2
    np.testing.assert_allclose(
        softmax(posthoc.unweighted(logits, WEIGHTS), axis=0), POSTERIOR, atol=1e-6
    )
    assert abs(softmax(logits, axis=0) - POSTERIOR).max() > 0.1


@pytest.mark.parametrize("additive", [0.5, 1.0])
def test_logit_adjustment_is_undone(additive):
    logits = minimiser(np.ones(3), additive_adjustment=additive)
    found = softmax(posthoc.unadjusted(logits, 1000 * PRIOR, additive), axis=0)
    np.testing.assert_allclose(found, POSTERIOR, atol=1e-6)


def test_balanced_is_the_posterior_of_equal_classes():
    likelihood = JOINT / PRIOR[:, None]  # P(x | y)
    found = softmax(posthoc.balanced(np.log(POSTERIOR) + 7, 1000 * PRIOR), axis=0)
    np.testing.assert_allclose(found, likelihood / likelihood.sum(0), rtol=1e-13)


def test_corrections_undo_each_other(rng):
    logits = rng.normal(size=(3, 5))
    there = posthoc.balanced(logits, [30, 5, 1], 0.7)
    np.testing.assert_allclose(posthoc.unadjusted(there, [30, 5, 1], 0.7), logits, rtol=1e-13)
    np.testing.assert_allclose(posthoc.tempered(posthoc.tempered(logits, 4.0), 0.25), logits)


@pytest.mark.parametrize("planted", [1e-3, 1.0, 30.0])
def test_a_planted_temperature_comes_back(planted):
    """Labels as frequent as softmax(z / T) says: the optimality condition holds at T exactly."""
    frequencies = np.array([[1, 5, 3], [2, 1, 3], [5, 2, 2]])
    logits = np.repeat(planted * np.log(frequencies), 8, axis=1)
    labels = np.concatenate([np.repeat(np.arange(3), column) for column in frequencies.T])
    found = posthoc.fit_temperature(logits, labels)
    assert found == pytest.approx(planted, rel=1e-12)


def test_the_fitted_temperature_is_the_optimum(rng):
    """Mean logit under the tempered softmax = mean logit of the labels, and scale goes with scale."""
    logits, labels = 4 * rng.normal(size=(4, 50)), rng.integers(0, 4, size=50)
    logits[labels, np.arange(50)] += 2
    found = posthoc.fit_temperature(logits, labels)
    expected = (softmax(posthoc.tempered(logits, found), axis=0) * logits).sum(0)
    own = logits[labels, np.arange(50)]
    assert expected.mean() == pytest.approx(own.mean(), abs=1e-12)
    assert posthoc.fit_temperature(1e6 * logits + 3, labels) == pytest.approx(1e6 * found, rel=1e-9)


def test_a_sample_that_counts_twice_is_two_for_a_temperature(rng):
    logits, labels = 4 * rng.normal(size=(3, 40)), rng.integers(0, 3, size=40)
    logits[labels, np.arange(40)] += 2
    often = rng.integers(1, 4, size=40)
    repeated = posthoc.fit_temperature(np.repeat(logits, often, 1), np.repeat(labels, often))
    assert posthoc.fit_temperature(logits, labels, often) == pytest.approx(repeated, rel=1e-9)
    for wrong in (-often, often[1:], often * 0):
        with pytest.raises(InputError, match=r"^sample_weight="):
            posthoc.fit_temperature(logits, labels, wrong)


RIGHT = np.array([[2.0, 1.0], [0.0, 3.0]])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: posthoc.unweighted([1.0, 2.0], [1, 1]), "logits="),
        (lambda: posthoc.unweighted([[1.0], [np.inf]], [1, 1]), "logits="),
        (lambda: posthoc.unweighted([["a"], ["b"]], [1, 1]), "logits="),
        (lambda: posthoc.unweighted(RIGHT, [1, 0]), "class_weights="),
        (lambda: posthoc.unweighted(RIGHT, [1, 1, 1]), "class_weights="),
        (lambda: posthoc.unadjusted(RIGHT, [1, -1]), "counts="),
        (lambda: posthoc.balanced(RIGHT, [1, 1], np.nan), "additive=nan"),
        (lambda: posthoc.tempered(RIGHT, 0), "temperature=0"),
        (lambda: posthoc.fit_temperature(RIGHT, [0, 2]), "labels="),
        (lambda: posthoc.fit_temperature(RIGHT, [0.0, 1.0]), "labels="),
        (lambda: posthoc.fit_temperature(RIGHT, [0]), "labels="),
        (lambda: posthoc.fit_temperature(RIGHT, [0, 1]), "best T is 0"),
        (lambda: posthoc.fit_temperature(RIGHT, [1, 0]), "best T is infinite"),
    ],
    ids=[
        "one-axis",
        "infinite",
        "no-numbers",
        "weight-0",
        "too-many-weights",
        "negative-count",
        "nan",
        "temperature-0",
        "label-2",
        "float-labels",
        "too-few-labels",
        "all-right",
        "all-wrong",
    ],
)
def test_bad_input_is_refused_in_one_line(call, says):
    with pytest.raises(InputError) as error:
        call()
    assert says in str(error.value)
    assert "\n" not in str(error.value)
