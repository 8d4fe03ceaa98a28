"""What a Config leaves out is filled in at one place, by numbers that it gives or that theory chooses."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from ssm import Config, defaults, losses, preparation
from ssm.dynamics.descent import Descent
from ssm.dynamics.flow import Flow
from ssm.problem import make_problem
from ssm.theory.adjusted_loss import at_logits, at_zero_logits


def resolved(**fields):
    config = Config(**fields)
    return defaults.resolve(config, make_problem(config))


def test_the_tolerance_follows_the_start():
    assert resolved().absolute_tolerance == pytest.approx(1e-9)
    assert resolved(init_scale=1e-8, rtol=1e-5).absolute_tolerance == pytest.approx(1e-13)
    assert resolved(atol=0).absolute_tolerance == 0


def test_a_number_that_is_given_is_kept():
    flow = resolved(t1=3.0, stop_margin=5.0, solver="dopri5", atol=1e-7)
    assert (flow.t1, flow.end_margin, flow.solver) == (3.0, 5.0, "dopri5")
    assert flow.absolute_tolerance == 1e-7
    steps = resolved(optimizer="nesterov", learning_rate=0.2, num_steps=700, momentum=0.5)
    assert (steps.learning_rate, steps.num_steps, steps.momentum) == (0.2, 700, 0.5)
    assert resolved(optimizer="sam", sam_radius=0.3).sam_radius == 0.3


def test_a_flow_has_a_length_and_an_optimiser_a_rate_and_a_number_of_steps():
    flow, steps = resolved(), resolved(optimizer="gd")
    assert (
        flow.t1 is not None
        and flow.t1 > 0
        and flow.learning_rate is None
        and flow.num_steps is None
    )
    assert steps.t1 is None and steps.learning_rate is not None and steps.num_steps is not None
    assert steps.learning_rate > 0 and steps.num_steps >= 199
    adam = resolved(optimizer="adam", num_saves=2000)
    assert adam.learning_rate == 0.01 and adam.num_steps == 1999
    assert resolved(optimizer="momentum").momentum == 0.9 and adam.momentum == 0
    assert resolved(optimizer="sam", init_scale=0.02).sam_radius == 0.02


def test_a_run_by_the_loss_ends_at_a_margin_unless_it_is_given_an_end():
    by_loss = resolved(clock="loss")
    assert by_loss.end_margin == 1000 and by_loss.solver == "switching"
    assert resolved(clock="loss", t1=2.0).end_margin is None
    assert resolved(clock="loss", stop_margin=7.0).end_margin == 7
    assert resolved().end_margin is None and resolved().solver == "tsit5"


def test_a_prepared_run_is_given_what_was_resolved(tiny):
    config = tiny(clock="loss", stop_margin=9.0)
    wanted, run = defaults.resolve(config, make_problem(config)), preparation.prepare(config)
    assert isinstance(run.flow, Flow)
    assert run.flow.times[-1] == wanted.t1 and run.flow.atol == wanted.absolute_tolerance
    assert run.flow.stop_margin == 9 and run.flow.solver.name == wanted.solver
    config = tiny(optimizer="momentum", learning_rate_schedule="cosine")
    wanted, run = defaults.resolve(config, make_problem(config)), preparation.prepare(config)
    assert isinstance(run.flow, Descent)
    assert run.flow.steps[-1] == wanted.num_steps
    assert run.flow.learning_rates[0] == wanted.learning_rate
    assert run.flow.settings.momentum == wanted.momentum


ADJUSTED = [
    {"loss": "logit_adjustment"},
    {"loss": "cdt"},
    {"loss": "vs"},
    {"loss": "ldam"},
    {"loss": "focal"},
    {"label_smoothing": 0.2},
    {"loss": "vs", "focusing": 5.0, "label_smoothing": 0.1, "largest_margin": 1.0},
    {"logit_scale": 0.1, "focusing": 1.0, "additive_adjustment": -1.0},
]


@pytest.mark.parametrize("profile", ["step", "long_tailed"])
@pytest.mark.parametrize("changes", ADJUSTED)
def test_the_loss_at_zero_logits_is_that_of_losses(changes, profile):
    """By NumPy and by JAX, which round a few functions each in its own way."""
    config = Config(profile=profile, imbalance_ratio=100.0, num_classes=5, **changes)
    counts = make_problem(config).counts
    at_zero = at_zero_logits(config, counts)
    adjustment = losses.adjustment(counts, **config.adjustments)
    logits, labels = jnp.zeros((5, 5)), jnp.arange(5)
    np.testing.assert_array_equal(at_zero.factors, adjustment.factors)
    values = losses.adjusted_cross_entropy(logits, labels, adjustment)
    np.testing.assert_allclose(at_zero.values, values, rtol=1e-14)
    gradients = losses.adjusted_cross_entropy_gradient(logits, labels, adjustment)
    scale = np.linalg.norm(gradients, axis=0)
    np.testing.assert_allclose(at_zero.gradients / scale, gradients / scale[None], atol=1e-14)


@pytest.mark.parametrize("changes", ADJUSTED)
def test_the_loss_at_any_logits_is_that_of_losses(changes, rng):
    """Gradients hold to 1e-13 of each, beside rounding in logits of order 10."""
    config = Config(imbalance_ratio=100.0, num_classes=5, **changes)
    counts, logits = make_problem(config).counts, rng.normal(0, 3, (5, 5))
    found = at_logits(config, counts, logits)
    adjustment = losses.adjustment(counts, **config.adjustments)
    values = losses.adjusted_cross_entropy(jnp.array(logits), jnp.arange(5), adjustment)
    np.testing.assert_allclose(found.values, values, rtol=1e-12)
    gradients = losses.adjusted_cross_entropy_gradient(jnp.array(logits), jnp.arange(5), adjustment)
    scale = np.linalg.norm(gradients, axis=0)
    np.testing.assert_allclose(found.gradients / scale, gradients / scale[None], atol=1e-13)


def test_a_smoothed_label_starts_a_run_more_slowly():
    """The gradient at zero logits is that of plain cross-entropy times 1 - e."""
    config = Config(label_smoothing=0.2)
    scale = defaults.initial_gradient_scale(config, make_problem(config))
    np.testing.assert_allclose(scale, 0.8, rtol=1e-14)
    plain = dataclasses.replace(config, label_smoothing=0.0)
    assert (defaults.initial_gradient_scale(plain, make_problem(plain)) == 1).all()
