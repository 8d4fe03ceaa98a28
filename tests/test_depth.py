"""Layers between classifier and features, and decay: what is kept, what is learned, where it ends."""

import dataclasses

import numpy as np
import pytest

import ssm
from ssm import exact, regularised, spectral
from ssm.dynamics import parameters, starts
from ssm.dynamics.column_layouts import make_columns
from ssm.problem import make_problem


@pytest.mark.parametrize(
    ("loss", "depth", "init"),
    [
        pytest.param("squared", 3, "gaussian", marks=pytest.mark.slow),
        pytest.param("cross_entropy", 4, "balanced", marks=pytest.mark.slow),
        ("cross_entropy", 4, "gaussian"),
    ],
)
def test_neighbouring_layers_keep_their_difference(run, loss, depth, init):
    # saved or not as in other tests of the same shape
    state = {"save_state": loss == "cross_entropy"}
    ds = run(loss=loss, depth=depth, init=init, init_scale=0.3, t1=100.0, rtol=1e-7, **state)
    assert ds["drift"].max() < 100 * 1e-7
    assert np.diff(ds["loss"].values).max() <= 1e-6 * ds["loss"].values[0]
    assert ds["loss"].values[-1] < 0.5 * ds["loss"].values[0]


@pytest.mark.parametrize("depth", [3, 5])
@pytest.mark.parametrize("coupling", [0.0, 0.5, 1.0])
def test_a_balanced_start_is_balanced_between_all_layers(tiny, depth, coupling):
    config = tiny(depth=depth, coupling=coupling, init="balanced", init_scale=0.5)
    problem = make_problem(config)
    columns = make_columns(config, problem)
    params, *_ = starts.make_start(config, problem, columns)
    left, right = parameters.conserved_terms(params, columns)
    assert left.shape == (depth - 1, 6, 6)
    np.testing.assert_allclose(left, right, atol=1e-14)
    assert np.linalg.norm(left, axis=(1, 2)).min() > 0.1


def test_layers_come_back_with_the_state(run, tiny):
    ds = run(depth=4, init_scale=0.3, save_state=True, t1=50.0)
    assert ds["hidden"].dims == ("time", "layer", "feature", "input_feature")
    W, (A, B), H = ds["W"].values[-1], ds["hidden"].values[-1], ds["H"].values[-1]
    logits = W @ A @ B @ H
    components = spectral.components(make_problem(tiny()))
    labels = np.repeat(np.arange(4), ds["class_count"].values)
    sums = np.stack([logits[:, labels == c].sum(1) for c in range(4)], axis=1)
    np.testing.assert_allclose(
        ds["strength"].values[-1], spectral.strengths(sums, components), rtol=1e-10
    )


def test_depth_one_is_the_linear_model(run):
    """Z = H: every sample's logits go to its label at the rate w_c / n, from any start."""
    ds = run(depth=1, feature_dim=4, loss="squared", weight_exponent=1.0, t1=40.0, rtol=1e-9)
    counts, weights = ds["class_count"].values, ds["class_weight"].values
    decay = np.exp(-ds["time"].values[:, None] * weights / counts.sum())
    expected = 1 + (ds["class_strength"].values[0] - 1) * decay
    np.testing.assert_allclose(ds["class_strength"], expected, atol=1e-7)
    assert np.isnan(ds["drift"]).all()


@pytest.mark.parametrize("loss", [pytest.param("squared", marks=pytest.mark.slow), "cross_entropy"])
def test_equal_decay_fades_what_is_conserved_and_the_objective_falls(run, loss):
    decay = {"weight_decay": 0.01, "feature_decay": 0.01}
    ds = run(loss=loss, init_scale=0.3, weight_exponent=1.0, **decay)
    assert ds["drift"].max() < 100 * 1e-6
    assert np.diff(ds["objective"].values).max() <= 1e-6 * ds["objective"].values[0]


@pytest.mark.slow
def test_decay_falls_alike_on_samples_and_on_what_stands_for_them(run):
    """Coordinates (squared), classes and samples give the same penalty."""
    ds = run(loss="squared", init_scale=0.3, feature_decay=0.02, weight_decay=0.01, save_state=True)
    W, H = ds["W"].values[-1], ds["H"].values[-1]
    penalty = 0.005 * (W**2).sum() + 0.01 * (H**2).sum()
    assert float(ds["objective"][-1] - ds["loss"][-1]) == pytest.approx(penalty, rel=1e-10)
    ds = run(
        init="collapsed", init_scale=0.3, feature_decay=0.02, weight_decay=0.01, save_state=True
    )
    W, M = ds["W"].values[-1], ds["H"].values[-1]
    penalty = 0.005 * (W**2).sum() + 0.01 * (M**2 @ ds["class_count"].values).sum()
    assert float(ds["objective"][-1] - ds["loss"][-1]) == pytest.approx(penalty, rel=1e-10)


@pytest.mark.slow
def test_a_sweep_over_depths_is_its_runs(tiny):
    base = tiny(init_scale=0.3, t1=30.0, save_state=True, weight_decay=0.05)
    swept = ssm.sweep({"depth": [2, 3]}, base)
    assert swept.attrs["num_compilations"] == 2
    for depth in (2, 3):
        alone = ssm.simulate(dataclasses.replace(base, depth=depth))
        for name in ("strength", "W", "objective"):
            np.testing.assert_array_equal(swept.sel(depth=depth)[name], alone[name])
    np.testing.assert_array_equal(swept["hidden"].sel(depth=3), alone["hidden"])
    assert np.isnan(swept["hidden"].sel(depth=2)).all()


@pytest.mark.parametrize(
    "depth",
    [*(pytest.param(depth, marks=pytest.mark.slow) for depth in (1, 2, 4)), 3],
)
def test_deep_modes_of_spectral_runs(run, depth):
    """Every component against its scalar equation, and the learning times predicted from it."""
    changes = {"loss": "squared", "init": "spectral", "rtol": 1e-9, "atol": 1e-12}
    # at depth 1 the features are the logits, so they are k wide
    ds = run(**changes, depth=depth, feature_dim=4 if depth == 1 else 6, init_scale=0.3)
    target = ds["component_target"].values
    n = ds["class_count"].values.sum()
    expected = exact.deep_mode(ds["time"].values, target / n, np.full(3, 0.3**depth), target, depth)
    assert np.abs((ds["strength"].values - expected) / target).max() < 1e-6
    np.testing.assert_allclose(ds["learning_time"], ds["predicted_learning_time"], rtol=1e-5)


@pytest.mark.parametrize("exponent", [0.0, 1.0])
def test_regularised_runs_end_where_theory_says(run, exponent):
    """Two factors: contrasts lose n lam / w, the cross component by its own equation; a group whose
    contrasts are too weak ends at 0."""
    decay = {"weight_decay": 0.064, "feature_decay": 0.1}
    changes = {"loss": "squared", "weight_exponent": exponent, "init_scale": 0.3, "t1": 800.0}
    ds = run(**changes, **decay, save_state=True)
    assert np.isnan(ds["drift"]).all() and ds.status == "finished"  # of unequal decays
    counts, weights = ds["class_count"].values, ds["class_weight"].values
    for group, block in (("majority", "majority"), ("minority", "minority")):
        c = int(np.argmax(ds["class_group"].values == group))
        end = regularised.squared_strength(
            np.sqrt(counts[c]), counts.sum(), 0.064, 0.1, class_weight=weights[c]
        )
        found = float(ds["block_strength"].sel(block=block)[-1])
        assert found == pytest.approx(float(end), abs=1e-6)
        assert (end > 0.1) == (block == "majority" or exponent == 1.0)
    problem = make_problem(ssm.Config.from_json(ds.attrs["config"]))
    cross = regularised.cross_strengths(problem, 0.064, 0.1)
    assert float(ds["block_strength"].sel(block="cross")[-1]) == pytest.approx(
        float(cross.strength), abs=1e-6
    )


@pytest.mark.parametrize("scale", [1.2, 0.01])
def test_deep_runs_end_at_the_root_or_at_zero(run, scale):
    """Three factors with decay: a large start ends at the root, a small one dies."""
    decay = {"weight_decay": 0.02, "feature_decay": 0.02}
    ds = run(
        loss="squared", init="spectral", depth=3, init_scale=scale, t1=1500.0, rtol=1e-8, **decay
    )
    n = ds["class_count"].values.sum()
    root = regularised.squared_strength(ds["component_target"].values, n, 0.02, 0.02, depth=3)
    assert (root > 0).any()
    expected = root if scale > 1 else np.zeros(3)
    np.testing.assert_allclose(ds["strength"].values[-1], expected, atol=1e-6)
