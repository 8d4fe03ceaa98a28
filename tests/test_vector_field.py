"""The right-hand side: a gradient whatever the layers, decay, coupling and clock."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssm import losses
from ssm.dynamics import parameters
from ssm.dynamics.column_layouts import make_columns, sample_columns
from ssm.dynamics.parameters import Params
from ssm.dynamics.starts import make_start
from ssm.dynamics.vector_field import Field, log_time_after
from ssm.preparation import make_field
from ssm.problem import make_problem


def prepared(config):
    problem = make_problem(config)
    columns = make_columns(config, problem)
    params, *_ = make_start(config, problem, columns)
    return jax.tree.map(jnp.asarray, (params, make_field(config, columns)))


def risk(field, params):
    logits = parameters.classifier(params) @ params.H
    return jnp.dot(field.columns.risk_weights, field.columns.losses(logits))


# compiled once a shape, whatever the coupling
objective_gradient = jax.jit(jax.grad(lambda p, field: risk(field, p) + field.penalty(p)))
slope_of = jax.jit(lambda field, params: field(params))
risk_of = jax.jit(risk)
couple = jax.jit(parameters.couple)
log_risk_of = jax.jit(lambda field, params: field.log_risk(params))
log_time = jax.jit(log_time_after)


@pytest.mark.parametrize("loss", ["squared", "cross_entropy"])
@pytest.mark.parametrize("coupling", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("depth", [2, 4])
def test_the_field_is_the_coupled_gradient_of_the_objective(tiny, loss, coupling, depth):
    config = tiny(
        loss=loss,
        coupling=coupling,
        depth=depth,
        init_scale=0.5,
        weight_exponent=0.7,
        weight_decay=0.03,
        feature_decay=0.05,
    )
    params, field = prepared(config)
    gradient, found = objective_gradient(params, field), slope_of(field, params)
    expected = gradient._replace(H=couple(gradient.H, field.columns))
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, -y, atol=1e-13), tuple(found), tuple(expected)
    )


@pytest.mark.parametrize(
    ("depth", "coupling"),
    [
        pytest.param(depth, coupling, marks=[] if (i + j) % 2 == 0 else pytest.mark.slow)
        for i, depth in enumerate((2, 3))
        for j, coupling in enumerate((0.0, 0.5, 1.0))
    ],
)
def test_the_loss_clock_follows_the_gradient_of_log_loss(tiny, coupling, depth):
    config = tiny(coupling=coupling, depth=depth, init_scale=1.0, weight_exponent=0.7, clock="loss")
    params, field = prepared(config)
    loss, by_time = risk_of(field, params), slope_of(Field(field.columns), params)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x * loss, y, atol=1e-14),
        tuple(slope_of(field, params)),
        tuple(by_time),
    )
    assert float(log_risk_of(field, params)) == pytest.approx(float(np.log(loss)), rel=1e-13)


def test_the_loss_clock_where_the_loss_underflows(tiny):
    """Margins of 1e5, padding included: the slope is that of the least margins, of unit order."""
    config = tiny(clock="loss", init_scale=1.0)
    problem = make_problem(config)
    columns = sample_columns(problem, losses.CrossEntropy(), 24)
    field = jax.tree.map(jnp.asarray, Field(columns, loss_clock=True))
    scale = 300.0
    W = scale * np.eye(4, 6)
    H = np.pad(scale * np.eye(6, 4)[:, problem.labels], ((0, 0), (0, 4)))
    H[:, 0] *= 0.9  # the one sample of least margin
    found = slope_of(field, Params(jnp.asarray(W), jnp.asarray(H)))
    share = np.array([-1, 1 / 3, 1 / 3, 1 / 3])  # of dlogL/dz: all of the loss is this sample's
    np.testing.assert_allclose(found.H[:4, 0], -scale * share, rtol=1e-9)
    np.testing.assert_array_equal(found.H[:, 1:], 0)  # e^-9000 of it
    np.testing.assert_allclose(found.W, -np.outer(share, H[:, 0]), atol=1e-9)
    assert float(field.margin(Params(jnp.asarray(W), jnp.asarray(H)))) == pytest.approx(
        0.9 * scale**2
    )


def test_nothing_moves_the_classifier_of_depth_one(tiny):
    params, field = prepared(tiny(depth=1, feature_dim=4))
    np.testing.assert_array_equal(params.W, np.eye(4))
    slope = slope_of(field, params)
    assert not np.any(slope.W) and np.any(slope.H)


def test_flow_time_of_a_step_by_the_loss_clock():
    """Where -log L rises by a line or a parabola, against the integral itself."""
    length = 2.0
    for slope, bend in [(0.0, 0.0), (0.01, 0.0), (3.0, 0.0), (500.0, 0.0), (1.0, 0.3), (40.0, 5.0)]:

        def minus_log_loss(x, slope=slope, bend=bend):
            return slope * x + bend * x**2

        def rate(x, slope=slope, bend=bend):
            return slope + 2 * bend * x

        low = jnp.array([-minus_log_loss(0.0), -rate(0.0)])
        high = jnp.array([-minus_log_loss(length), -rate(length)])
        for share in (0.3, 1.0):
            x = np.concatenate(
                [[0], share * length * (1 - np.geomspace(1, 1e-12, 200_001)), [share * length]]
            )
            rises = minus_log_loss(x)
            exact = rises.max() + np.log(np.trapezoid(np.exp(rises - rises.max()), x))
            found = log_time(jnp.array(-jnp.inf), jnp.array(length), low, high, jnp.array(share))
            # log L is a line on pieces of a quarter of an octave
            assert float(found) == pytest.approx(exact, abs=2e-3)
