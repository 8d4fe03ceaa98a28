"""Runs of the model under losses with margins, and weights that act from a time on: what they are
held against is worked out apart from the library."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.special import log_softmax, softmax

import ssm
from ssm import losses, preparation, weights
from ssm.dynamics import parameters
from ssm.support.errors import InputError

COMBINED = {
    "additive_adjustment": 0.7,
    "multiplicative_adjustment": 0.2,
    "largest_margin": 0.4,
    "logit_scale": 2.0,
    "focusing": 1.5,
}


def risk(params, config):
    """(1/n) sum_i w_i (1 - p_y)^gamma CE of the adjusted logits, by JAX's automatic
    differentiation of the formula as it is written."""
    n = np.array(config.class_counts, dtype=float)
    labels = np.repeat(np.arange(len(n)), config.class_counts)
    a, own = config.adjustments, np.arange(len(labels))
    z = params.W @ params.H
    z = a["logit_scale"] * ((n / n.max()) ** a["multiplicative_adjustment"])[:, None] * z
    z = z + a["additive_adjustment"] * np.log(n / n.sum())[:, None]
    margins = a["logit_scale"] * a["largest_margin"] * (n / n.min()) ** -0.25
    z = z.at[labels, own].add(-margins[labels])
    log_p = jax.nn.log_softmax(z, axis=0)[labels, own]
    w = weights.power_law(config.class_counts, config.weight_exponent)[labels]
    return (w * (1 - jax.numpy.exp(log_p)) ** a["focusing"] * -log_p).mean()


slope_of = jax.jit(lambda field, params: field(params))


@pytest.mark.parametrize("changes", [COMBINED])
def test_the_field_is_the_gradient_of_the_adjusted_risk(tiny, changes):
    """1e-12 of the largest slope: rounding."""
    config = tiny(weight_exponent=0.5, init_scale=0.5, **changes)
    with jax.enable_x64(True):
        flow = jax.tree.map(jax.numpy.asarray, preparation.prepare(config).flow)
        slope = slope_of(flow.field, flow.params)
        expected = jax.jit(jax.grad(risk), static_argnums=1)(flow.params, config)
    for found, gradient in zip(slope[:2], expected[:2], strict=True):
        np.testing.assert_allclose(found, -gradient, atol=1e-12 * np.abs(gradient).max())


def test_by_the_loss_clock_too(tiny):
    """d log L: the field over L, at ordinary margins where both can be worked out."""
    config = tiny(weight_exponent=0.5, init_scale=0.5, clock="loss", **COMBINED)
    with jax.enable_x64(True):
        flow = jax.tree.map(jax.numpy.asarray, preparation.prepare(config).flow)
        slope = slope_of(flow.field, flow.params)
        plain, expected = jax.jit(jax.value_and_grad(lambda p: jax.numpy.log(risk(p, config))))(
            flow.params
        )
        level = float(jax.jit(lambda field, p: field.log_risk(p))(flow.field, flow.params))
        assert level == pytest.approx(float(plain), rel=1e-12)
    for found, gradient in zip(slope[:2], expected[:2], strict=True):
        np.testing.assert_allclose(found, -gradient, atol=1e-12 * np.abs(gradient).max())


def test_neutral_numbers_are_cross_entropy(run):
    """A focal loss of focusing 0 is cross-entropy, by other operations: 1e-5 is ten tolerances."""
    plain, focal = run(), run(loss="focal", focusing=0.0, save_state=True)
    np.testing.assert_allclose(focal.strength, plain.strength, atol=1e-5)
    np.testing.assert_allclose(focal.learning_time, plain.learning_time, rtol=1e-5)
    assert np.isfinite(plain.predicted_learning_time[0])


def test_the_share_of_the_gradient_at_the_start(run):
    """At zero logits a class has |G_c| ~ w_c sqrt(n_c), or under balanced softmax |pi - e_c| times
    that; the start's own logits are about 1e-5."""
    n = np.array([8, 8, 2, 2])
    for changes, size in (
        ({"weight_exponent": 0.5}, np.ones(4)),
        (
            {"loss": "logit_adjustment", "save_state": True},
            np.linalg.norm(n / 20 - np.eye(4), axis=1),
        ),
    ):
        found = run(**changes)
        share = n ** (0.5 - changes.get("weight_exponent", 0)) * size
        np.testing.assert_allclose(found.gradient_share[0], share / share.sum(), atol=1e-4)
        np.testing.assert_allclose(found.gradient_share.sum("class"), 1, rtol=1e-12)


def test_exposure_is_reported(run):
    found = run(weight_exponent=1.0)
    n, w = np.array([8, 8, 2, 2]), np.array([20 / 32, 20 / 32, 2.5, 2.5])
    kish = (n @ w) ** 2 / (n @ w**2) / 20
    assert found.attrs["effective_sample_share"] == pytest.approx(kish, rel=1e-12)
    assert found.attrs["mean_sample_weight"] == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("ramp", [0.0, 30.0])
def test_the_flow_under_deferred_weights(tiny, ramp):
    """Against DOP853 on the formula, from switch to switch; the error is that of rtol 1e-8 over
    some fifteen e-folds."""
    start = 40.0
    config = tiny(
        weight_exponent=1.0,
        weight_start=start,
        weight_ramp=ramp,
        t1=122.5,
        save_state=True,
        init_scale=0.05,
        rtol=1e-8,
    )
    found = ssm.simulate(config)
    n = np.array(config.class_counts)
    labels = np.repeat(np.arange(4), n)
    w = weights.power_law(n, 1.0)

    def weight(t):
        share = np.clip((t - start) / ramp, 0, 1) if ramp else float(t >= start)
        return 1 - share + share * w

    def slope(t, x, on):
        W, H = x[:24].reshape(4, 6), x[24:].reshape(6, 20)
        own = weight(max(t, start)) if on else np.ones(4)
        G = (softmax(W @ H, axis=0) - np.eye(4)[labels].T) * own[labels] / 20
        return -np.concatenate([(G @ H.T).ravel(), (W.T @ G).ravel()])

    x = np.concatenate([found.W.values[0].ravel(), found.H.values[0].ravel()])
    # every fourth: 0, 10, ..., 120, so no piece has a jump inside
    found = found.isel(time=slice(None, None, 4))
    times = found.time.values
    for i, (a, b) in enumerate(itertools.pairwise(times)):
        x = solve_ivp(slope, (a, b), x, "DOP853", args=(a >= start,), rtol=1e-11, atol=1e-13).y[
            :, -1
        ]
        np.testing.assert_allclose(found.W.values[i + 1].ravel(), x[:24], atol=1e-6)
        H = x[24:].reshape(6, 20)
        log_p = log_softmax(x[:24].reshape(4, 6) @ H, axis=0)[labels, np.arange(20)]
        assert found.loss.values[i + 1] == pytest.approx(
            -(weight(b)[labels] * log_p).mean(), rel=1e-5
        )
    np.testing.assert_allclose(found.weight.values, [weight(t) for t in times], rtol=1e-12)


@pytest.mark.slow
def test_one_compilation_serves_a_grid_of_numbers(tiny):
    """Over tau, g of VS, the focal power, the effective number's beta and the switch."""
    grid = {
        "additive_adjustment": [0.0, 1.0],
        "multiplicative_adjustment": [0.0, 0.3],
        "focusing": [0.0, 2.0],
        "effective_number_beta": [0.0, 0.9],
        "weight_start": [0.0, 30.0],
    }
    base = tiny(loss="vs", t1=60.0)
    swept = ssm.sweep(grid, base)
    assert swept.attrs["num_compilations"] == 1
    point = {name: values[1] for name, values in grid.items()}
    own = ssm.simulate(dataclasses.replace(base, **point))
    assert np.array_equal(swept.sel(point).strength, own.strength)
    assert np.array_equal(swept.sel(point).weight, own.weight)


def test_named_weights_are_those_of_the_library(tiny):
    for name in ("balanced", "sqrt", "effective"):
        config = tiny(class_weights=name)
        expected = weights.class_weights(name, config.class_counts)
        np.testing.assert_array_equal(preparation.prepare(config).problem.class_weights, expected)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["focal", "ldam"])
def test_a_run_by_the_loss_without_an_end_ends_at_a_margin_of_1000(tiny, loss):
    # as many times, and with the state, as `margins` among the experiments
    kept = {"num_saves": 200, "save_state": True}
    found = ssm.simulate(tiny(loss=loss, clock="loss", init="collapsed", **kept))
    assert found.status == "margin reached"
    assert 1000 <= found.dropna("time").margin[-1] < 3000


def test_effective_number_weights_reach_the_problem(tiny):
    config = tiny(effective_number_beta=0.9)
    n = np.array(config.class_counts)
    w = 1 / (1 - 0.9**n)
    found = ssm.simulate(dataclasses.replace(config, optimizer="gd", num_steps=49))
    np.testing.assert_allclose(found.class_weight, w * 20 / (n @ w), rtol=1e-12)


def test_labels_can_be_smoothed(tiny):
    """The end of smoothed cross-entropy: every sample's own logit over the next is log(1 + k (1 - e)
    / e), where the softmax is the label."""
    e = 0.4
    found = ssm.simulate(tiny(label_smoothing=e, t1=4000.0, save_state=True))
    Z = found.W.values[-1] @ found.H.values[-1]
    p = softmax(Z, axis=0)
    labels = np.repeat(np.arange(4), [8, 8, 2, 2])
    np.testing.assert_allclose(p, (1 - e) * np.eye(4)[labels].T + e / 4, atol=1e-5)


@pytest.mark.parametrize(
    ("named", "changes"),
    [
        ("focusing", {"loss": "squared", "focusing": 1.0}),
        ("label_smoothing", {"loss": "squared", "label_smoothing": 0.1}),
        ("clock", {"clock": "loss", "label_smoothing": 0.1}),
        ("label_smoothing", {"label_smoothing": 1.0}),
        ("loss", {"loss": "arcface"}),
        ("weight_ramp", {"weight_ramp": 3.0}),
        ("weight_ramp", {"weight_ramp": 3.0, "weight_start": 1.0, "clock": "loss"}),
        ("effective_number_beta", {"effective_number_beta": 1.0}),
        ("weight_exponent", {"effective_number_beta": 0.9, "weight_exponent": 1.0}),
        ("effective_number_beta", {"effective_number_beta": 0.9, "class_weights": (1.0,) * 4}),
        ("optimizer", {"optimizer": "adamW"}),
        ("learning_rate", {"learning_rate": 0.1}),
        ("batch_size", {"batch_size": 4}),
        ("t1", {"optimizer": "gd", "t1": 3.0}),
        ("clock", {"optimizer": "gd", "clock": "loss"}),
        ("rtol", {"optimizer": "gd", "rtol": 1e-3}),
        ("momentum", {"optimizer": "adam", "momentum": 0.5}),
        ("sam_radius", {"optimizer": "gd", "sam_radius": 0.5}),
        ("drop_step", {"optimizer": "gd", "drop_step": 5}),
        ("drop_step", {"optimizer": "gd", "learning_rate_schedule": "step"}),
        *(
            (name, {"optimizer": "gd", "learning_rate_schedule": "step", "drop_step": drop_step})
            for name, drop_step in (
                ("drop_step", -1),
                ("drop_step", 1.5),
                ("drop_step", "20"),
                ("drop_step", ()),
                ("drop_step", (20, 10)),
                ("drop_step", (20, 20)),
                (r"drop_step\[1\]", (20, 30.5)),
            )
        ),
        ("drop_factor", {"optimizer": "gd", "drop_factor": 0.5}),
        ("num_steps", {"optimizer": "gd", "num_steps": 48}),
        ("coupling", {"optimizer": "adam", "coupling": 0.5}),
    ],
)
def test_what_does_not_fit_is_refused(tiny, named, changes):
    with pytest.raises(InputError, match=f"^{named}="):
        tiny(**changes)


def test_an_unknown_optimiser_is_told_what_exists(tiny):
    with pytest.raises(
        InputError, match=r"must be one of flow, gd, momentum, .*, spectral_gd, own$"
    ):
        tiny(optimizer="rmsprop")


def test_a_loss_name_is_its_published_numbers(tiny):
    config = tiny(loss="ldam", largest_margin=1.0)
    assert config.adjustments["largest_margin"] == 1.0
    assert config.adjustments["logit_scale"] == 30.0
    assert tiny(label_smoothing=0.1).has_adjustment and not tiny().has_adjustment
    numbers = losses.adjustment(config.class_counts, **config.adjustments)
    columns = preparation.prepare(config).flow.field.columns
    jax.tree.map(np.testing.assert_array_equal, columns.loss, numbers)
    assert isinstance(preparation.prepare(config).flow.params, parameters.Params)
