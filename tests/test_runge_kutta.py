"""The pairs' numbers, and the stabilised method on problems with known solutions."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssm.dynamics.runge_kutta import PAIRS, legendre_step, pair_step, weighted_sum


@pytest.mark.parametrize(
    ("name", "theirs"), [("tsit5", diffrax.Tsit5.tableau), ("dopri5", diffrax.Dopri5.tableau)]
)
def test_the_pairs_are_those_of_their_papers(name, theirs):
    """As diffrax has them, to the bit; at its end the dense output is the step, in the middle of order 4."""
    pair = PAIRS[name]
    for ours, row in zip(pair.stages, theirs.a_lower, strict=True):
        np.testing.assert_array_equal(ours, row)
    np.testing.assert_array_equal(pair.error, theirs.b_error)
    np.testing.assert_array_equal(pair.nodes, theirs.c)
    # weights of order 1, rounded by the solution of a system of 4 equations
    np.testing.assert_allclose(pair.dense.sum(0), theirs.b_sol, atol=1e-14)
    nodes = np.append(0.0, pair.nodes)
    middle = 0.5 ** np.arange(1, 5) @ pair.dense
    for power in range(4):  # the integral of x^power from 0 to 1/2
        assert middle @ nodes**power == pytest.approx(0.5 ** (power + 1) / (power + 1), abs=1e-14)


@jax.jit
def stepped(rates, y, length, direction):
    """What a step of dy/dt = -rates y has but its interpolant, compiled once for three modes."""

    def field(y):
        return -rates * y

    return legendre_step(field, y, field(y), length, direction)._replace(inside=None)


@pytest.mark.parametrize("stiffness", [1.0, 30.0, 1e3, 1e6])
def test_a_stiff_mode_is_damped_and_a_slow_one_followed(stiffness):
    """One step far beyond what an ordinary explicit method survives."""
    rates = jnp.array([stiffness, 0.3 * stiffness, 0.01])
    length, end = stepped(rates, jnp.ones(3), jnp.array(1.0), jnp.array([1.0, 0.1, 0.1]))[:2]
    assert length == 1
    assert (np.abs(end[:2]) <= 1).all()
    assert float(end[2]) == pytest.approx(np.exp(-0.01), abs=1e-6)  # (0.01)^3 / 6


def test_the_order_is_two_and_so_is_the_error_estimates():
    rates = jnp.array([3.0, 1.0, 0.5])
    y = jnp.array([1.0, -2.0, 0.5])
    errors, estimates = [], []
    for length in (0.1, 0.05, 0.025):
        step = stepped(rates, y, jnp.array(length), y)
        errors.append(np.linalg.norm(step.params - y * jnp.exp(-rates * length)))
        estimates.append(np.linalg.norm(step.error))
    for found in (errors, estimates):  # of one step: of third order
        slopes = np.diff(np.log(found)) / np.log(0.5)
        np.testing.assert_allclose(slopes, 3, atol=0.2)
    assert (np.array(estimates) > 0.1 * np.array(errors)).all()


def test_the_stiffest_mode_is_found_from_step_to_step():
    """Power iterations begun at a wrong guess: no step blows up, and the guess gets right."""
    rates, y = jnp.array([1e4, 5e3, 1.0]), jnp.array([0.0, 0.1, 1.0])
    direction = jnp.array([1e-6, 1.0, 1.0])
    for _ in range(12):
        direction = stepped(rates, y, jnp.array(0.01), direction).memory
    radius = jnp.linalg.norm(direction)
    assert float(radius) == pytest.approx(1e4, rel=1e-3)


@pytest.mark.parametrize("length", [0.01, 0.3])
def test_a_stretched_step_knows_the_radius(length):
    """Length x radius from the last two stages, once the stiffest mode leads their difference."""
    rates = jnp.array([10.0, 1.0, 0.1])

    def advance(y, slopes, weights):
        return weighted_sum(y, slopes, weights)

    def slope(y, _):
        return -rates * y

    y = jnp.array([1.0, 0.1, 0.1])
    pair = jax.tree.map(np.asarray, PAIRS["tsit5"])
    step = pair_step(pair, slope, advance, y, slope(y, 0), jnp.array(length))
    assert float(step.stretch) == pytest.approx(10 * length, rel=0.05)
