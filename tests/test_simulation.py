"""One run, Config to Dataset: contents, precision, reproducibility, compilation, failures."""

import json
import logging
from typing import Any

import jax
import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ssm
from ssm import preparation, schedules, simulation, spectral
from ssm.dynamics import trajectories
from ssm.problem import make_problem, simplex_labels

NUMBERS = ["loss", "class_loss", "class_accuracy", "class_strength", "strength", "singular_value"]


def test_what_a_dataset_holds(run, tiny):
    ds = run(weight_exponent=1.0)
    assert {name: ds[name].dims for name in ds.data_vars} == {
        "loss": ("time",),
        "class_loss": ("time", "class"),
        "class_accuracy": ("time", "class"),
        "strength": ("time", "component"),
        "class_strength": ("time", "class"),
        "gradient_share": ("time", "class"),
        "singular_value": ("time", "mode"),
        "residual": ("time",),
        "drift": ("time",),
        "block_strength": ("time", "block"),
        "learning_time": ("component",),
        "class_learning_time": ("class",),
        "block_learning_time": ("block",),
        "predicted_learning_time": ("component",),
    }
    assert set(ds.coords) == {
        "time",
        "class",
        "class_count",
        "class_group",
        "class_weight",
        "component",
        "component_block",
        "component_target",
        "block",
        "block_target",
    }
    assert ssm.Config.from_json(ds.attrs["config"]) == tiny(weight_exponent=1.0)
    assert ds.attrs["mean_sample_weight"] == pytest.approx(1)
    assert set(json.loads(ds.attrs["config"])) == set(vars(tiny()))
    for name in (
        "versions",
        "git_commit",
        "created",
        "device",
        "dtype",
        "status",
        "num_steps",
        "t1",
    ):
        assert ds.attrs[name] not in ("", None)
    assert all(ds[name].attrs["description"] for name in ds.data_vars)


@pytest.mark.parametrize("coupling", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("loss", ["squared", "cross_entropy"])
def test_observations_against_the_kept_state(run, tiny, loss, coupling):
    """Everything observed inside the solve, recomputed by NumPy from W and H."""
    changes = {"loss": loss, "coupling": coupling, "weight_exponent": 0.7, "init_scale": 0.3}
    ds = run(save_state=True, **changes)
    problem = make_problem(tiny(**changes))
    y = np.repeat(np.arange(4), problem.counts)
    S = simplex_labels(y, 4)
    components = spectral.components(problem)
    V = (components.left / components.singular_values)[y]
    assert ds.H.dims == ("time", "feature", "class" if coupling == 1 else "sample")
    for t in (0, 20, 49):
        H = ds.H.values[t]
        Z = ds.W.values[t] @ (H[:, y] if coupling == 1 else H)
        if loss == "squared":
            values = 0.5 * ((Z - S) ** 2).sum(0)
        else:
            values = np.log(np.exp(Z).sum(0)) - Z[y, np.arange(len(y))]
        now = ds.isel(time=t)
        np.testing.assert_allclose(now.loss, (problem.class_weights[y] * values).mean(), rtol=1e-9)
        by_class = [values[y == c].mean() for c in range(4)]
        np.testing.assert_allclose(now.class_loss, by_class, rtol=1e-9, atol=1e-12)
        right = Z.argmax(0) == y
        np.testing.assert_allclose(now.class_accuracy, [right[y == c].mean() for c in range(4)])
        np.testing.assert_allclose(now.strength, np.diag(components.left.T @ Z @ V), atol=1e-11)
        own = [(Z * S)[:, y == c].sum(0).mean() / 0.75 for c in range(4)]
        np.testing.assert_allclose(now.class_strength, own, atol=1e-11)
        dense = np.linalg.svd(Z, compute_uv=False)
        np.testing.assert_allclose(now.singular_value, dense, atol=1e-11)
        inside = components.left @ np.diag(now.strength) @ V.T
        share = ((Z - inside) ** 2).sum() / (Z**2).sum()
        np.testing.assert_allclose(now.residual, share, atol=1e-9)


def test_loss_and_accuracy_agree_with_a_learned_run(run):
    ds = run(loss="squared")
    assert ds.loss[-1] < 1e-4 and (ds.class_accuracy[-1] == 1).all()
    np.testing.assert_allclose(ds.class_strength[-1], 1, atol=0.01)
    np.testing.assert_allclose(ds.strength[-1], ds.component_target, rtol=0.01)


def test_both_precisions_run_and_say_so(run):
    double, single = run(), run(dtype="float32")
    assert double.attrs["dtype"] == "float64" and single.attrs["dtype"] == "float32"
    for name in NUMBERS:
        assert double[name].dtype == np.float64 and single[name].dtype == np.float32
    np.testing.assert_allclose(single.class_strength, double.class_strength, atol=1e-3)
    assert single.attrs["status"] == "finished"


def test_products_keep_the_precision_of_a_run(tiny):
    """On accelerators those of float32 would else be rounded to three digits."""
    flow = preparation.prepare(tiny(dtype="float32")).flow
    for program, asked in (
        (trajectories._solve, (flow, 5)),
        (trajectories.solve_batch, (trajectories.stacked([flow, flow]),)),
    ):
        text = program.lower(*asked).as_text()
        products = [line for line in text.splitlines() if "dot_general" in line]
        assert products and all("precision = [HIGHEST, HIGHEST]" in line for line in products)


def test_the_same_config_gives_the_same_bits_twice(tiny):
    first, second = ssm.simulate(tiny(seed=3)), ssm.simulate(tiny(seed=3))
    xr.testing.assert_equal(first, second)
    # observing and reporting must not touch the numbers
    with_progress = ssm.simulate(tiny(seed=3), progress=lambda share: None)
    xr.testing.assert_equal(first, with_progress)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        # by two methods, one after the other
        pytest.param({"clock": "loss", "stop_margin": 30.0}, marks=pytest.mark.slow),
        pytest.param(
            {"optimizer": "adam", "num_steps": 200, "batch_size": 8}, marks=pytest.mark.slow
        ),
    ],
)
def test_a_run_in_pieces_is_the_run_and_reports_up_to_the_end(
    compiled_as_for_users, tiny, monkeypatch, changes
):
    """One step in the first piece, and at most four times as many in each as in that before it."""
    whole = ssm.simulate(tiny(**changes))
    monkeypatch.setattr(trajectories, "MOST_AT_ONCE", 1)
    shares = []
    pieces = ssm.simulate(tiny(**changes), progress=shares.append)
    assert shares == sorted(shares) and shares[-1] == 1 and len(shares) > 2
    assert shares[0] < 0.1
    xr.testing.assert_equal(pieces, whole)


def test_a_second_run_of_one_shape_compiles_nothing(tiny, caplog):
    ssm.simulate(tiny())
    config = tiny(
        seed=7,
        weight_exponent=1.0,
        init_scale=1e-2,
        rtol=1e-5,
        atol=1e-8,
        t1=77.0,
        imbalance_ratio=4.0,
    )
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        ssm.simulate(config)
    assert not [r.message for r in caplog.records if "ompil" in r.message]
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        jax.jit(lambda x: x + 1)(0.0)
    assert [r.message for r in caplog.records if "ompil" in r.message]  # the log does hear of them


@pytest.mark.slow
def test_runs_of_about_one_size_share_a_compilation(tiny):
    """22 samples are padded to 24, which changes the order of sums alone: rounding, some 1e-16 of what is
    summed in each of some 100 steps."""
    config = tiny(imbalance_ratio=4.5)
    alone = preparation.prepare(config)
    arrays, _ = simulation.run_arrays(alone, simulation.follow(alone))
    before = trajectories.num_compilations()
    padded = ssm.simulate(config)
    ssm.simulate(tiny(imbalance_ratio=5.0))
    assert trajectories.num_compilations() <= before + 1
    for name in (*NUMBERS, "learning_time"):
        np.testing.assert_allclose(padded[name], arrays[name], rtol=1e-12, atol=1e-13)


def test_the_common_sizes_are_four_from_each_power_of_two(tiny):
    sizes = {}
    for number in range(4, 2048):
        counts = (number - 3, 1, 1, 1)
        size = preparation.common_size(tiny(profile="custom", counts=counts))
        assert size is not None and number <= size <= 1.25 * number
        sizes[number] = size
    expected = {4 * 2**p + i * 2**p for p in range(9) for i in range(4)} | {2048}
    assert set(sizes.values()) == expected
    for changes in ({"loss": "squared"}, {"coupling": 1.0}, {"optimizer": "muon"}):
        assert preparation.common_size(tiny(**changes)) is None
    assert preparation.common_size(tiny(minority_count=1000)) is None  # padded to whole blocks


def test_another_listener_compiles_nothing(tiny, caplog):
    ssm.simulate(tiny())
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        ssm.simulate(tiny(), progress=print)
    assert not [r.message for r in caplog.records if "ompil" in r.message]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"imbalance_ratio": 1000.0, "coupling": 1.0}, marks=pytest.mark.slow),
        {"weight_exponent": -3.0, "coupling": 1.0},
        pytest.param({"weight_exponent": -3.0, "dtype": "float32"}, marks=pytest.mark.slow),
    ],
)
def test_learning_times_do_not_depend_on_the_saved_times(run, changes):
    """Fifty saves over a run in which one block is learned within the first of them."""
    coarse, fine = run(**changes), run(**{**changes, "num_saves": 1000})
    for name in ("learning_time", "block_learning_time", "class_learning_time"):
        # crossings are read from the solver's own steps, which do not depend on the saves
        np.testing.assert_array_equal(coarse[name], fine[name])
    np.testing.assert_allclose(coarse.strength[-1], fine.strength[-1], rtol=1e-4)  # float32 too


@pytest.mark.parametrize("scale", [1e-8, 1e-20])
def test_small_starts_are_followed_as_accurately(run, scale):
    ds = run(loss="squared", init_scale=scale)
    assert ds.drift.max() < 100 * 1e-6
    known = np.isfinite(ds.predicted_learning_time.values)
    ratio = (ds.learning_time / ds.predicted_learning_time).values[known]
    np.testing.assert_allclose(ratio, 1, atol=3 / -np.log(scale**2))  # O(1) of the e-folds


def test_save_times(tiny):
    linear = preparation.save_times(tiny(), 10.0)
    np.testing.assert_allclose(linear, np.linspace(0, 10, 50))
    log = preparation.save_times(tiny(save_spacing="log"), 10.0)
    assert log[0] == 0 and log[1] == pytest.approx(1e-3) and log[-1] == 10 and len(log) == 50
    np.testing.assert_allclose(np.diff(np.log(log[1:])), np.log(1e4) / 48)


def test_running_out_of_steps_is_a_result(run):
    ds = run(max_steps=20)
    assert ds.attrs["status"] == "out of steps" and ds.attrs["num_steps"] == 20
    reached = np.isfinite(ds.loss.values)
    assert 1 < reached.sum() < 50 and not reached[-1]
    full = run()
    np.testing.assert_array_equal(ds.strength[reached], full.strength[reached])
    assert np.isnan(ds.learning_time).any()


def test_turning_non_finite_is_a_result(run):
    ds = run(t1=1.0, loss="cross_entropy", init_scale=1e18, dtype="float32")
    assert ds.attrs["status"] == "not finite"
    assert all(np.isnan(ds[name]).all() for name in NUMBERS)  # it is so from the first time on


def test_a_step_too_small_for_the_clock_is_a_result(run):
    """A start of 1e70 moves by itself within 1e-140, which no step from 0 to 1 resolves."""
    ds = run(t1=1.0, loss="squared", init_scale=1e70)
    assert ds.attrs["status"] == "step too small"
    assert np.isfinite(ds.loss[0]) and np.isnan(ds.loss[1:]).all()


@pytest.mark.parametrize("dim", [2])
def test_too_narrow_features_run_and_say_that_labels_cannot_be_interpolated(run, dim):
    ds = run(feature_dim=dim, loss="squared", t1=400.0)
    assert ds.attrs["can_interpolate"] == 0 and ds.attrs["status"] == "finished"
    assert np.isnan(ds.predicted_learning_time).all()
    assert ds.sizes["mode"] == dim
    # the best rank-d fit of S leaves the other singular values as its error
    n, s = 20, np.sort(ds.component_target.values)[::-1]
    np.testing.assert_allclose(ds.loss[-1], (s[dim:] ** 2).sum() / (2 * n), rtol=1e-3)
    wide_enough = run(feature_dim=3, loss="squared", init="spectral")
    assert wide_enough.attrs["can_interpolate"] == 1


@pytest.mark.parametrize(
    "profile",
    [
        {"profile": "long_tailed", "imbalance_ratio": 10.0},
        {"profile": "custom", "counts": (1, 9, 4, 4)},
        {"imbalance_ratio": 1.0},
        {"num_classes": 2},
        {"profile": "custom", "counts": (1, 1), "num_classes": 2},
    ],
)
def test_every_profile_runs(run, profile):
    ds = run(loss="squared", **profile)
    assert ds.attrs["status"] == "finished" and (ds.class_accuracy[-1] == 1).all()
    assert np.isfinite(ds.learning_time).all()


def test_predicted_learning_times_of_a_spectral_start(run):
    ds = run(loss="squared", init="spectral", rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ds.learning_time, ds.predicted_learning_time, rtol=1e-5)


def test_predicted_learning_times_of_a_random_start(run):
    """A draw shifts each time by O(1) of its ln(s / a_0) e-folds, here about 40."""
    for loss in ("squared", "cross_entropy"):
        ds = run(loss=loss, init_scale=1e-9, atol=1e-16)
        known = np.isfinite(ds.predicted_learning_time.values)
        ratio = (ds.learning_time / ds.predicted_learning_time).values[known]
        np.testing.assert_allclose(ratio, 1, atol=3 / 40)


SHAPES = st.sampled_from(
    [
        {"num_classes": 2, "minority_count": 1, "imbalance_ratio": 3.0, "feature_dim": 1},
        {"num_classes": 3, "minority_count": 2, "imbalance_ratio": 1.0, "feature_dim": 4},
        {"profile": "custom", "counts": (3, 2, 1), "feature_dim": 4},
    ]
)


@pytest.mark.slow
@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(
    shape=SHAPES,
    values=st.fixed_dictionaries(
        {
            "loss": st.sampled_from(["squared", "cross_entropy"]),
            "coupling": st.sampled_from([0.0, 1.0]) | st.floats(0, 1) | st.just(float("nan")),
            "init": st.sampled_from(["gaussian", "balanced", "spectral"]),
            "weight_exponent": st.floats(-12, 12),
            "init_scale": st.floats(0, 1e80),
            "seed": st.integers(0, 2**31),
        },
        optional={"t1": st.floats(0, 1e6), "rtol": st.floats(0, 0.2)},
    ),
)
def test_any_config_gives_a_dataset_or_a_value_error_that_names_the_field(shape, values):
    given_values = {"num_saves": 5, "max_steps": 500, **shape, **values}
    try:
        ds = ssm.simulate(ssm.Config(**given_values))
    except ValueError as error:
        assert isinstance(error, ssm.InputError) and str(error).split("=")[0] in given_values
    else:
        assert ds.attrs["status"] in ("finished", "out of steps", "step too small", "not finite")
        if ds.attrs["status"] == "finished":
            assert all(np.isfinite(ds[name]).all() for name in NUMBERS)
            assert ((ds.class_accuracy >= 0) & (ds.class_accuracy <= 1)).all()


def test_what_cannot_be_simulated_is_refused_before_anything_runs(tiny, monkeypatch, untyped):
    def ran(*_):
        raise AssertionError("something ran")

    monkeypatch.setattr(simulation, "prepare", ran)
    steps = tiny(optimizer="gd", num_steps=100)
    config: Any
    options: dict[str, Any]
    for config, options, message in (
        (None, {}, "config=None: must be a Config$"),
        (5, {}, "config=5: must be a Config$"),
        ({"num_classes": 3}, {}, r"config={'num_classes': 3}: .* ssm.Config\(\*\*fields\)"),
        (steps, {"progress": 5}, "progress=5: must be a function"),
        (steps, {"schedule": 5}, "schedule=5: must be a transformation"),
        (steps, {"schedule": schedules.UnitMean}, "schedule=.*: must be a transformation"),
        (tiny(), {"schedule": schedules.UnitMean()}, r"schedule=UnitMean\(\): .* for a flow"),
        (
            tiny(optimizer="gd", weight_exponent=1.0),
            {"schedule": schedules.UnitMean()},
            r"schedule=UnitMean\(\): must be left out where the config has weights",
        ),
        (
            steps,
            {"schedule": schedules.Fixed([1.0, 2.0])},
            r"weights=array\(\[1., 2.\]\): must be 4 numbers, one a class",
        ),
    ):
        with pytest.raises(ssm.InputError, match=f"^{message}"):
            ssm.simulate(config, **options)


def test_a_schedule_of_no_weight_is_followed_to_the_end(tiny, tmp_path):
    """Weights of 0, and those of 0 / 0, say nothing of samples; neither loses the run."""
    config = tiny(optimizer="gd", num_steps=100)
    none = schedules.Clip(0.0, 0.0)
    found = ssm.simulate(config, schedule=none)
    assert found.attrs["status"] == "finished" and (found.weight == 0).all()
    assert np.isnan(found.attrs["mean_sample_weight"])
    broken = ssm.simulate(config, schedule=schedules.Chain(none, schedules.UnitMean()))
    assert broken.attrs["status"] == "not finite" and np.isnan(broken.class_weight).all()
    for i, dataset in enumerate((found, broken)):
        ssm.save(dataset, tmp_path / f"{i}.zarr")
        xr.testing.assert_identical(ssm.load(tmp_path / f"{i}.zarr"), dataset)
