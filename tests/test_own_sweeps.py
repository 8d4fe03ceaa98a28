"""Sweeps of what is given beside a Config."""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_own_runs import SMALL, Adam, FeatureNorm, OwnCrossEntropy, Risk

import ssm
from ssm import schedules
from ssm.dynamics import trajectories

BASE = ssm.Config(**SMALL, t1=20.0, num_saves=6)
OWN: dict[str, Any] = {"loss": OwnCrossEntropy(), "observables": {"risk": Risk()}}


def test_a_sweep_of_an_own_loss_is_its_runs_and_grows_as_others_do(tmp_path):
    axes = {"imbalance_ratio": [2.0, 4.0], "weight_exponent": [0.0, 1.0]}
    runs = ssm.sweep(axes, BASE, **OWN)
    for ratio in axes["imbalance_ratio"]:
        config = dataclasses.replace(BASE, imbalance_ratio=ratio, weight_exponent=1.0)
        run, single = (
            runs.sel(imbalance_ratio=ratio, weight_exponent=1.0),
            ssm.simulate(config, **OWN),
        )
        np.testing.assert_allclose(run["strength"], single["strength"], rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(run["risk"], run["loss"], rtol=1e-14)
    assert runs["risk"].attrs == {"description": "weighted training loss", "units": "loss"}
    path = tmp_path / "own.zarr"
    stored = ssm.sweep(axes, BASE, store=path, chunk_size=1, **OWN)
    np.testing.assert_array_equal(stored["risk"], runs["risk"])
    before = trajectories.num_compilations()
    again = ssm.sweep(axes, BASE, store=path, **OWN)  # which is there already
    assert trajectories.num_compilations() == before
    np.testing.assert_array_equal(again["risk"], ssm.load(path)["risk"])


class LaterRisk(Risk):
    """Another version of an observable."""

    version = "2"


OTHERS = [
    ({"loss": OwnCrossEntropy(2.0)}, "loss is "),
    ({"observables": {"risk": LaterRisk()}}, "observables is "),
    ({"observables": None}, "observables is "),
    (
        {"observables": {"norm": FeatureNorm()}},
        "observables[norm]='FeatureNorm': must be of a class with an attribute version",
    ),
]


def test_a_store_refuses_another_loss_or_observable(tmp_path):
    path = tmp_path / "own.zarr"
    axes = {"seed": [0, 1]}
    stored = ssm.sweep(axes, BASE, store=path, **OWN).load()
    for change, line in OTHERS:
        with pytest.raises(ssm.InputError) as caught:
            ssm.sweep(axes, BASE, store=path, **OWN | change)
        assert line in str(caught.value) and "\n" not in str(caught.value)
    assert ssm.load(path).load().equals(stored)  # as it was


def test_a_bare_transformation_has_no_name_in_a_store(tmp_path):
    base = ssm.Config(**SMALL, optimizer="own", num_steps=10, num_saves=3)
    axes, path = {"seed": [0, 1]}, tmp_path / "own.zarr"
    with pytest.raises(
        ssm.InputError, match=r"^optimizer='a transformation of optax': must be a pytree"
    ):
        ssm.sweep(axes, base, store=path, optimizer=optax.adam(1.0))
    assert not path.exists()
    named = ssm.sweep(axes, base, store=path, optimizer=Adam())
    plain = ssm.sweep(axes, base, optimizer=optax.adam(1.0))
    np.testing.assert_array_equal(named["loss"], plain["loss"])


def test_own_numbers_are_axes_that_compile_nothing(tmp_path):
    axes = {"loss.scale": [0.5, 1.0, 2.0], "seed": [0, 1]}
    ssm.sweep({"seed": [0, 1]}, BASE, **OWN)
    before = trajectories.num_compilations()
    runs = ssm.sweep(axes, BASE, store=tmp_path / "own.zarr", **OWN)
    assert trajectories.num_compilations() == before
    scaled = ssm.sweep({"logit_scale": [0.5, 1.0, 2.0], "seed": [0, 1]}, BASE)
    np.testing.assert_allclose(runs["strength"], scaled["strength"].values, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(runs["loss.scale"], axes["loss.scale"])
    assert ssm.load(tmp_path / "own.zarr").sizes["loss.scale"] == 3
    with pytest.raises(ssm.InputError, match=r"did you mean loss\.scale"):
        ssm.sweep({"loss.scal": [1.0]}, BASE, **OWN)


@pytest.mark.slow
def test_built_in_and_own_losses_are_one_axis():
    runs = ssm.sweep({"loss": ["own", "cross_entropy"]}, BASE, loss=OwnCrossEntropy())
    own, builtin = runs.sel(loss_name="own"), runs.sel(loss_name="cross_entropy")
    np.testing.assert_allclose(own["strength"], builtin["strength"], rtol=1e-10, atol=1e-14)
    with pytest.raises(
        ssm.InputError,
        match=r"^loss='own': must be another word unless loss is given.* \(at loss=own\)",
    ):
        ssm.sweep({"loss": ["own", "cross_entropy"]}, BASE)


def test_a_schedule_is_swept():
    base = ssm.Config(**SMALL, optimizer="adam", num_steps=20, num_saves=3)
    weighting = schedules.PrevalencePower(1.0)
    runs = ssm.sweep({"seed": [0, 1], "learning_rate": [0.01, 0.1]}, base, schedule=weighting)
    single = ssm.simulate(
        ssm.Config(**SMALL, optimizer="adam", num_steps=20, num_saves=3, seed=1, learning_rate=0.1),
        schedule=weighting,
    )
    run = runs.sel(seed=1, learning_rate=0.1)
    np.testing.assert_array_equal(run["weight"], single["weight"])
    np.testing.assert_allclose(run["loss"], single["loss"], rtol=1e-12)
    with pytest.raises(
        ssm.InputError, match=r"^schedule=.*must be left out where the config has weights \(at"
    ):
        ssm.sweep({"weight_exponent": [0.0, 1.0]}, base, schedule=weighting)


def test_one_start_runs_under_many_weights():
    rng = np.random.default_rng(0)
    start = ssm.Params(0.1 * rng.normal(size=(4, 6)), 0.1 * rng.normal(size=(6, 20)))
    runs = ssm.sweep({"weight_exponent": [0.0, 0.5, 1.0]}, BASE, start=start)
    singular = np.linalg.svd(start.W @ start.H, compute_uv=False)
    for one in runs["singular_value"].isel(time=0).values:
        np.testing.assert_allclose(one, singular, rtol=1e-7)
    with pytest.raises(ssm.InputError, match=r"^start\.H=.*\(at imbalance_ratio=8\.0\)"):
        ssm.sweep({"imbalance_ratio": [4.0, 8.0]}, BASE, start=start)
    with pytest.raises(ssm.InputError, match=r"^grid\[init_scale\]='given': must be left out"):
        ssm.sweep({"init_scale": [1e-3, 1e-2]}, BASE, start=start)


SUPPORTS = np.random.default_rng(1).dirichlet(np.full(4, 0.5), 9)
TAUGHT = ssm.Config(feature_dim=6, t1=20.0, num_saves=6)


@pytest.mark.parametrize(
    "changes",
    [
        {"noise_dim": 5, "coupling": 0.3, "loss": "squared"},
        pytest.param({}, marks=pytest.mark.slow),
    ],
)
def test_targets_are_taught_to_all_runs(changes):
    """Each run of a sweep on one's own targets is that of `simulate` to the bit, whichever samples come first."""
    base = dataclasses.replace(TAUGHT, **changes)
    taught: dict[str, Any] = {"targets": SUPPORTS, "sample_weights": np.linspace(0.5, 2.0, 9)}
    runs = ssm.sweep({"weight_exponent": [0.0, 1.0], "seed": [0, 1]}, base, **taught)
    for exponent, seed in [(0.0, 0), (1.0, 1)]:
        config = dataclasses.replace(base, weight_exponent=exponent, seed=seed)
        run, single = (
            runs.sel(weight_exponent=exponent, seed=seed),
            ssm.simulate(config, **taught),
        )
        for name in ("loss", "strength", "component_target", "class_count", "learning_time"):
            np.testing.assert_array_equal(run[name], single[name])


def test_a_store_knows_the_targets_of_its_runs(tmp_path):
    path, axes = tmp_path / "taught.zarr", {"seed": [0, 1]}
    ssm.sweep(axes, TAUGHT, store=path, targets=SUPPORTS)
    grown = ssm.sweep({"seed": [0, 1, 2]}, TAUGHT, store=path, targets=SUPPORTS)
    at_once = ssm.sweep({"seed": [0, 1, 2]}, TAUGHT, targets=SUPPORTS)
    np.testing.assert_array_equal(grown["strength"], at_once["strength"])
    order = np.argsort(SUPPORTS.argmax(axis=1), kind="stable")[::-1]
    for other in (SUPPORTS[order], SUPPORTS[:, ::-1]):  # classes in another order too
        with pytest.raises(ssm.InputError, match=r"^store=.*targets is"):
            ssm.sweep({"seed": [0, 1, 2]}, TAUGHT, store=path, targets=other)


@pytest.mark.parametrize(
    ("axes", "given", "line"),
    [
        (
            {"imbalance_ratio": [1.0, 2.0]},
            {"targets": SUPPORTS},
            "grid[imbalance_ratio]='given': must be left out where targets are given",
        ),
        (
            {"counts, seed": [((5, 4), 0)]},
            {"targets": np.eye(2)[[0, 1, 0]]},
            "grid[counts]='given': must be left out where targets are given",
        ),
        ({"seed": [0]}, {"labels": [0, 1]}, "labels='given': must be left out unless"),
        ({"seed": [0]}, {"sample_weights": [1.0]}, "sample_weights='given': must be left out"),
        ({"targets": ["own"]}, {}, "targets='own': must be another word unless targets is given"),
        ({"clock": ["loss"]}, {"targets": SUPPORTS}, "clock='loss': must be left out with targets"),
    ],
)
def test_what_targets_of_a_sweep_cannot_be_is_one_line(
    axes: dict[str, Any], given: dict[str, Any], line: str
):
    with pytest.raises(ssm.InputError) as caught:
        ssm.sweep(axes, TAUGHT, **given)
    assert str(caught.value).startswith(line) and "\n" not in str(caught.value)


class Sorted(NamedTuple):
    """The largest logits of each class, of a number that is its own dimension."""

    dims = ("class", "place")
    units = "logit"
    words = "class means of logits in order"
    version = "1"

    def __call__(self, params, columns, time):
        logits = columns.logits(params.W, params.H) @ columns.sum_columns
        return jnp.sort(logits, axis=0)[: min(len(logits) - 1, 4)].T


@pytest.mark.slow
def test_own_dimensions_are_filled_up():
    runs = ssm.sweep(
        {"num_classes": [3, 4]}, BASE, observables={"order": Sorted(), "norm": FeatureNorm()}
    )
    assert runs["order"].dims == ("num_classes", "time", "class", "place")
    assert runs["order"].shape == (2, 6, 4, 3)
    assert np.isnan(runs["order"].sel(num_classes=3).values[:, 3]).all()
    assert np.isnan(runs["order"].sel(num_classes=3).values[:, :, 2]).all()
    assert np.isfinite(runs["order"].sel(num_classes=3).values[:, :3, :2]).all()
    samples = np.isfinite(runs["norm"].isel(time=0).values).sum(axis=1)
    np.testing.assert_array_equal(samples, [8 + 2 + 2, 8 + 8 + 2 + 2])
