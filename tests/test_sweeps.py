"""Sweeps: every point is the run of its Config, whatever runs beside it; few compilations."""

import dataclasses
import itertools
import json
from typing import Any

import jax
import numpy as np
import pytest
import xarray as xr

import ssm
from ssm import preparation
from ssm.config.loss import NEUTRAL
from ssm.dynamics import trajectories
from ssm.results import datasets, schema
from ssm.sweeps import execution, grids, layout

# values of each field other than those of the base
OTHERS = {
    "depth": 3,
    "weight_decay": 0.02,
    "feature_decay": 0.02,
    "clock": "loss",
    "stop_margin": 1.0,
    "geometry": True,
    "profile": "long_tailed",
    "num_classes": 3,
    "imbalance_ratio": 9.0,
    "minority_fraction": 0.25,
    "minority_count": 3,
    "counts": (3, 9, 1, 1),
    "loss": "cross_entropy",
    "weight_exponent": 1.0,
    "class_weights": (1.0, 2.0, 3.0, 4.0),
    "coupling": 0.5,
    "between_coupling": 0.2,
    "bias": "both",
    "noise_dim": 7,
    "held_out": True,
    "feature_dim": 2,
    "init": "balanced",
    "init_scale": 0.1,
    "t1": 3.0,
    "num_saves": 3,
    "save_spacing": "log",
    "save_state": True,
    "solver": "dopri5",
    "rtol": 1e-4,
    "atol": 1e-8,
    "max_steps": 20,
    "seed": 5,
    "dtype": "float32",
    "additive_adjustment": 1.0,
    "multiplicative_adjustment": 0.2,
    "largest_margin": 1.0,
    "logit_scale": 2.0,
    "focusing": 1.0,
    "label_smoothing": 0.1,
    "effective_number_beta": 0.9,
    "weight_start": 30.0,
    "weight_ramp": 20.0,
    "reduction": "weighted_mean",
    "optimizer": "gd",
    "learning_rate": 0.2,
    "learning_rate_schedule": "cosine",
    "drop_step": (20, 40),
    "drop_factor": 0.5,
    "num_steps": 60,
    "batch_size": 5,
    "momentum": 0.5,
    "sam_radius": 0.1,
    "groups": (3, 3, 3, 3, 1, 1, 1, 1),
    "attribute_coupling": 0.3,
    "group_weight_exponent": 1.0,
}
# what a field needs beside it
_STEPS = {"optimizer": "gd", "num_steps": 100}
_DROPS = {**_STEPS, "learning_rate_schedule": "step", "drop_step": 30}
_GROUPS = {"groups": (5, 2, 1, 2, 3, 1, 1, 2), "coupling": 0.1}
BASES = {
    "groups": _GROUPS,
    "attribute_coupling": _GROUPS,
    "group_weight_exponent": _GROUPS,
    "between_coupling": {"coupling": 0.5},
    "held_out": {"coupling": 0.5},
    "weight_start": {"weight_exponent": 1.0},
    "weight_ramp": {"weight_exponent": 1.0, "weight_start": 10.0},
    "reduction": {"class_weights": (1.0, 2.0, 3.0, 4.0)},
    "learning_rate": _STEPS,
    "learning_rate_schedule": _STEPS,
    "drop_step": _DROPS,
    "drop_factor": _DROPS,
    "num_steps": _STEPS,
    "batch_size": _STEPS,
    "momentum": {**_STEPS, "optimizer": "momentum"},
    "sam_radius": {**_STEPS, "optimizer": "sam"},
}


@pytest.fixture
def squared(tiny):
    """A base whose runs share one compilation."""

    def make(**changes):
        return tiny(loss="squared", **changes)

    return make


def assert_is(point, alone, tolerance=None):
    """A point of a sweep is a single run: to the bit, or within an absolute and relative
    tolerance (quantities are of order one, times are not)."""
    facts = {name: alone.attrs[name] for name in schema.FACTS if name in alone.attrs}
    # as an axis a field is what was asked for: none where it was left to the run
    facts = {
        name: value
        for name, value in facts.items()
        if point[name].dtype.kind != "U" or name == "status"
    }
    of_sweeps = alone.drop_vars([name for name in schema.LAST if name in alone])
    there = {name: variable.values for name, variable in of_sweeps.variables.items()} | facts
    names = {"time": "flow_time"} if "flow_time" in point.variables else {}
    for name, expected in there.items():
        found = point[names.get(name, name)].values
        expected = np.asarray(expected)
        part = tuple(map(slice, expected.shape))
        if name not in ("class", "component"):  # what the run lacks is filled up
            rest = np.ones(found.shape, bool)
            rest[part] = False
            np.testing.assert_array_equal(found[rest], datasets.filling(found.dtype), name)
        if tolerance is None:
            np.testing.assert_array_equal(found[part], expected, name)
        elif expected.dtype.kind == "f":
            close = {"rtol": tolerance, "atol": tolerance}
            np.testing.assert_allclose(found[part], expected, **close, err_msg=name)
    assert set(there) - set(schema.FACTS) <= {*point.variables, "time"}


def assert_is_every_run(swept, grid, base, tolerance=None, simulate=ssm.simulate):
    grid = grids.make_grid(grid, base)
    for run, index in enumerate(np.ndindex(grid.shape)):
        point = swept.isel(dict(zip(grid.dimensions, index, strict=True)))
        assert_is(point, simulate(grid.run(run)[0]), tolerance)


def test_squared_runs_of_any_size_share_one_compilation_and_are_single_runs(squared):
    # compiled nowhere else; the stiffest runs are cut short, with as equal results
    base = squared(num_saves=31, max_steps=1000)
    before = trajectories.num_compilations()
    grid = {
        "imbalance_ratio": [1e6, 1, 30],
        "weight_exponent": [0, 0.7],
        "coupling": [0.5, 0],
        "init_scale": [0.1, 1e-3],
    }
    swept = ssm.sweep(grid, base)
    assert_is_every_run(swept, grid, base)
    assert trajectories.num_compilations() == before + 1
    assert (swept.status == "finished").mean() > 0.5


@pytest.mark.slow
def test_shared_and_collapsed_runs_share_one_compilation_and_are_single_runs(tiny):
    """Cross-entropy, with columns that stand for classes."""
    before = trajectories.num_compilations()
    grid = {"imbalance_ratio": [1e6, 1, 30], "weight_exponent": [0.7, 0], "seed": [1, 0]}
    shared = tiny(coupling=1, num_saves=32)
    assert_is_every_run(ssm.sweep(grid, shared), grid, shared)
    grid |= {"coupling": [1, 0.3, 0]}
    collapsed = tiny(init="collapsed", num_saves=32)
    assert_is_every_run(ssm.sweep(grid, collapsed), grid, collapsed)
    assert trajectories.num_compilations() == before + 1


@pytest.mark.slow
def test_ten_sizes_under_cross_entropy_compile_three_times(tiny, monkeypatch):
    monkeypatch.setattr(grids, "COMPILATION", 1)  # as if there were as many runs as make it worth
    before = trajectories.num_compilations()
    grid = {"imbalance_ratio": [7, 1, 10, 2, 3, 9, 4, 5, 8, 6], "weight_exponent": [0, 1]}
    swept = ssm.sweep(grid, tiny(num_saves=33))
    assert trajectories.num_compilations() == before + 3
    assert_is_every_run(  # rounding alone differs, some 1e-15 a step
        swept.isel(imbalance_ratio=slice(2, 3)),  # the largest, to which others are padded
        grid | {"imbalance_ratio": [10]},
        tiny(num_saves=33),
        tolerance=1e-10,
    )


@pytest.mark.parametrize("coupling", [0.5])
def test_a_padded_run_is_the_run_itself(tiny, run, coupling):
    grid = {"imbalance_ratio": [6.0, 4.0]}  # 28 and 20 samples
    base = tiny(coupling=coupling, save_state=True)
    swept = ssm.sweep(grid, base)
    assert layout.make_layout(grids.make_grid(grid, base)).padded_columns(base) == 28
    alone = run(coupling=coupling, save_state=True)
    assert_is(swept.isel(imbalance_ratio=1), alone, tolerance=1e-10)


def test_neither_chunks_nor_order_change_a_bit(squared):
    grid = {"imbalance_ratio": [1.0, 4.0, 50.0], "seed": [0, 1, 2, 3]}
    whole = ssm.sweep(grid, squared())
    for size in (1, 3, 5, 100):
        xr.testing.assert_equal(ssm.sweep(grid, squared(), chunk_size=size), whole)
    turned = {name: values[::-1] for name, values in reversed(grid.items())}
    other = ssm.sweep(turned, squared(), chunk_size=5)
    assert list(other.learning_time.dims[:2]) == ["seed", "imbalance_ratio"]
    again = other.sel(imbalance_ratio=grid["imbalance_ratio"], seed=grid["seed"])
    xr.testing.assert_equal(again.transpose(*whole.dims), whole.transpose(*whole.dims))


# Fields whose two values need programs of their own, of which most others share one.
COMPILED_ANEW = (
    "attribute_coupling",
    "group_weight_exponent",
    "groups",
    "batch_size",
    "between_coupling",
    "bias",
    "clock",
    "depth",
    "dtype",
    "feature_dim",
    "momentum",
    "noise_dim",
    "num_classes",
    "sam_radius",
    "solver",
    "stop_margin",
    "weight_ramp",
    "weight_start",
)


@pytest.mark.parametrize(
    "field",
    [
        pytest.param(field.name, marks=pytest.mark.slow if field.name in COMPILED_ANEW else ())
        for field in dataclasses.fields(ssm.Config)
        if field.name
        != "targets"  # whose other value says that a run is given some beside its Config
    ],
)
def test_any_field_is_an_axis(squared, tiny, field):
    base, values = squared(**BASES.get(field, {})), [OTHERS[field]]
    if field in ("clock", "stop_margin"):  # of cross-entropy alone
        base = tiny(t1=100.0)
    # with the state, where other tests of their shape keep it
    if field in NEUTRAL:
        base = tiny(loss="vs", t1=100.0, save_state=True)
    if field == "solver":
        base = tiny(save_state=True)
    if field in ("geometry", "weight_decay", "feature_decay"):
        base = squared(save_state=True)
    if field == "counts":
        base = ssm.Config(
            profile="custom", counts=(5, 5, 2, 2), loss="squared", feature_dim=6, num_saves=50
        )
    grid = (
        {field: [getattr(base, field), *values], "seed": [1]}
        if field != "seed"
        else {field: [0, 5]}
    )
    swept = ssm.sweep(grid, base)
    name = "loss_name" if field == "loss" else field
    assert swept.sizes[name] == 2 and name in swept.coords
    if field == "t1":  # as an axis it is what was asked for, not how long the run was
        assert swept.t1.values.tolist() == ["none", "3.0"]
        swept = swept.rename_vars(t1="asked").assign(t1=swept.flow_time[:, -1])
    assert_is_every_run(swept, grid, base)


def test_failed_runs_keep_their_place(squared):
    """And leave those beside them alone."""
    grid = {"seed": [0, 1], "max_steps": [20, 100_000], "init_scale": [1e-3, 1e60]}
    swept = ssm.sweep(grid, squared())
    assert_is_every_run(swept, grid, squared())
    by_kind = swept.status.sel(max_steps=100_000, seed=1)
    assert by_kind.sel(init_scale=1e-3) == "finished" and by_kind.sel(init_scale=1e60) != "finished"
    few = swept.sel(max_steps=20, init_scale=1e-3)
    assert (few.status == "out of steps").all() and (few.num_steps == 20).all()
    assert np.isfinite(few.loss[:, 0]).all() and np.isnan(few.loss[:, -1]).all()


@pytest.mark.parametrize("coupling", [0.0, 1.0])
def test_states_are_kept_where_asked(tiny, coupling):
    base = tiny(loss="squared", coupling=coupling, save_state=True)
    grid = {"imbalance_ratio": [1.0, 3.0], "seed": [0, 1]}
    swept = ssm.sweep(grid, base)
    assert_is_every_run(swept, grid, base)
    assert swept.W.dims == ("imbalance_ratio", "seed", "time", "class", "feature")
    if coupling == 0:
        point = swept.isel(imbalance_ratio=1, seed=1, time=20)
        means = point.W.values @ point.H.values @ np.repeat(np.eye(4), [6, 6, 2, 2], axis=0)
        own = np.diag(means) / [6, 6, 2, 2]  # of sum-zero logits, as the target is
        others = (means.sum(0) - np.diag(means)) / [6, 6, 2, 2] / 3
        np.testing.assert_allclose(point.class_strength, own - others, atol=1e-2)


def test_times_are_shared_where_all_runs_have_the_same(squared):
    shared = ssm.sweep({"seed": [0, 1]}, squared(t1=5.0))
    assert shared.loss.dims == ("seed", "time") and shared.time.dims == ("time",)
    assert "flow_time" not in shared.variables and shared.time[-1] == 5.0
    grid = {"seed": [0, 1], "weight_exponent": [0, 1]}
    own = ssm.sweep(grid, squared())
    assert own.flow_time.dims == ("weight_exponent", "time") and "time" not in own.variables
    np.testing.assert_array_equal(own.flow_time[:, -1], own.t1.isel(seed=0))


def test_coordinates_keep_only_the_axes_they_vary_along(squared):
    grid = {"seed": [0, 1], "weight_exponent": [0.0, 1.0], "imbalance_ratio": [2.0, 4.0]}
    swept = ssm.sweep(grid, squared())
    assert {name: swept[name].dims for name in swept.coords if name not in swept.dims} == {
        "class_count": ("imbalance_ratio", "class"),
        "class_group": ("class",),
        "class_weight": ("weight_exponent", "imbalance_ratio", "class"),
        "component_block": ("component",),
        "component_target": ("imbalance_ratio", "component"),
        "block_target": ("imbalance_ratio", "block"),
        "flow_time": ("weight_exponent", "imbalance_ratio", "time"),
    }
    for name, variable in swept.data_vars.items():
        assert variable.dims == (*grid, *schema.VARIABLES[str(name)].dims)


def test_a_sweep_says_what_it_is(squared):
    grid = {"seed": range(2), "counts": [None]}
    described = json.loads(ssm.sweep(grid, squared()).attrs["sweep"])
    assert described["axes"] == {"seed": [0, 1], "counts": [None]}
    base = dataclasses.asdict(squared())  # what is swept has no value of its own
    assert described["base"] == {k: v for k, v in base.items() if k not in grid}


def test_a_sweep_of_counts_has_their_number_of_classes(squared):
    base = ssm.Config(profile="custom", counts=(1, 1), loss="squared", feature_dim=6, num_saves=50)
    swept = ssm.sweep({"counts": [(5, 2), (9, 3, 1)]}, base)
    assert swept.counts.values.tolist() == ["5,2", "9,3,1"]
    np.testing.assert_array_equal(swept.class_count, [[5, 2, 0], [9, 3, 1]])
    left_out = ssm.Config(loss="squared", feature_dim=6, num_saves=50)
    again = ssm.sweep({"counts": [(5, 2), None, (9, 3, 1)]}, left_out)
    assert again.sizes["class"] == 10
    xr.testing.assert_equal(again.isel(counts=[0, 2]).block_strength, swept.block_strength)
    long_tailed = dataclasses.replace(left_out, profile="long_tailed")
    with pytest.raises(ssm.InputError, match="left out with profile=long_tailed"):
        ssm.sweep({"counts": [(5, 2)]}, long_tailed)
    kept = ssm.sweep({"counts": [None], "seed": [0]}, squared())
    assert kept.sizes["class"] == 4


def test_a_sweep_says_where_it_comes_from(squared):
    swept = ssm.sweep({"seed": range(3)}, squared(), chunk_size=1)
    assert swept.attrs["num_chunks"] == 3 and swept.attrs["device"] == "cpu"
    for name in ("versions", "git_commit", "created"):
        assert swept.attrs[name]


def test_progress_counts_every_run_once(squared):
    told = []
    grid = {"seed": range(5), "weight_exponent": [0, 1]}
    ssm.sweep(grid, squared(), chunk_size=3, progress=lambda *now: told.append(now))
    assert told == [(done, 10) for done in range(11)]


def test_at_most_two_chunks_are_under_way(squared, monkeypatch):
    """So that memory is bounded by the chunk, not by the sweep."""
    begun, told = [], []
    follow = execution._follow

    def counted(layout, groups, *more):
        begun.extend(itertools.chain(*groups))
        return follow(layout, groups, *more)

    monkeypatch.setattr(execution, "_follow", counted)

    def progress(done, total):
        told.append(len(begun) - done)

    ssm.sweep({"seed": range(40)}, squared(), chunk_size=4, progress=progress)
    assert sorted(begun) == list(range(40)) and max(told) <= 8


def test_an_interrupt_does_not_wait_for_the_chunk(squared, monkeypatch):
    begun = []
    follow = execution._follow

    def counted(layout, groups, *more):
        begun.extend(itertools.chain(*groups))
        return follow(layout, groups, *more)

    monkeypatch.setattr(execution, "_follow", counted)

    def progress(done, total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ssm.sweep({"seed": range(2000)}, squared(), chunk_size=1000, progress=progress)
    assert len(begun) < 500  # some groups when the first is reported, and those begun until then


@pytest.mark.slow
def test_batched_runs_are_single_runs(squared):
    """The form for accelerators, here on a CPU."""
    axes = {"imbalance_ratio": [1, 40], "init": ["gaussian", "balanced"], "max_steps": [9, 10**5]}
    planned = layout.make_layout(grids.make_grid(axes | {"seed": [0, 1]}, squared()))
    numbers = list(reversed(range(16)))
    together = execution._follow_batched(planned, numbers)
    assert sorted(together) == sorted(numbers)
    for number, batched in together.items():
        alone = execution._follow(planned, [[number]])[0]
        assert alone.keys() == batched.keys() and batched["status"] == alone["status"]
        for name, values in alone.items():
            if values.dtype.kind == "f":  # the same arithmetic in another order
                close: dict[str, Any] = {"rtol": 1e-10, "atol": 1e-10}
                np.testing.assert_allclose(batched[name], values, **close, err_msg=name)
            elif name != "num_steps":  # rounding may decide a step at the edge of the tolerance
                np.testing.assert_array_equal(batched[name], values, name)


@pytest.mark.slow
def test_a_sweep_on_an_accelerator_is_that_on_the_cores(squared, monkeypatch):
    """One that JAX is said to have: batches of two programs, whose runs differ not only in their seed."""
    grid = {"imbalance_ratio": [1, 40], "loss": ["squared", "cross_entropy"], "seed": [0, 1]}
    base = squared(t1=20.0)
    on_cores = ssm.sweep(grid, base)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(execution, "_on_cores", None)
    batched = ssm.sweep(grid, base, chunk_size=8)
    assert batched.attrs["num_chunks"] == 1 and (batched["status"] == "finished").all()
    for name in ("learning_time", "strength", "singular_value", "predicted_learning_time"):
        # the same arithmetic in another order
        np.testing.assert_allclose(batched[name], on_cores[name], rtol=1e-9, atol=1e-9)


def test_runs_share_a_program_where_they_differ_in_numbers_only(tiny):
    def program(**changes):
        return execution._program(preparation.prepare(tiny(**changes)))

    base = program(loss="squared")
    numbers = {"imbalance_ratio": 9.0, "seed": 3, "rtol": 1e-4, "init_scale": 0.1, "max_steps": 50}
    assert program(loss="squared", **numbers) == base
    others = [
        {"loss": "cross_entropy"},
        {"num_saves": 7},
        {"solver": "dopri5"},
        {"dtype": "float32"},
        {"weight_decay": 0.1},
        {"weight_exponent": 1.0, "weight_start": 5.0},
        {"optimizer": "gd", "num_steps": 100},
    ]
    programs = [base, *(program(**({"loss": "squared"} | changes)) for changes in others)]
    assert len(set(programs)) == len(programs)


@pytest.mark.parametrize("size", [1, 3, 5, 100])
def test_the_chunks_of_a_sweep_hold_every_run_once(squared, size):
    axes = {"seed": [0, 1], "weight_exponent": [0.0, 0.5, 1.0], "coupling": [0.0, 1.0]}
    laid_out = layout.make_layout(grids.make_grid(axes, squared()), size)
    chunks = [laid_out.chunk(number) for number in range(len(laid_out.blocks))]
    runs = np.arange(12).reshape(2, 3, 2)
    for chunk in chunks:
        np.testing.assert_array_equal(np.reshape(chunk.runs, chunk.shape), runs[chunk.block])
    assert sorted(run for chunk in chunks for run in chunk.runs) == list(range(12))


@pytest.mark.parametrize("most", [1, 4, 10])
def test_runs_that_are_followed_together_differ_in_their_seed_only(squared, most):
    axes = {"seed": range(10), "coupling": [0.0, 1.0]}
    laid_out = layout.make_layout(grids.make_grid(axes, squared()))
    groups = laid_out.alike(range(1, 20), most)
    assert sorted(run for group in groups for run in group) == list(range(1, 20))
    assert len(groups) == -(-10 // most) + -(-9 // most)
    for group in groups:
        assert len({run % 2 for run in group}) == 1 and sorted(group) == group
    assert max(map(len, groups)) - min(map(len, groups)) <= 1


def test_fewer_runs_of_many_samples_are_followed_together(squared, tiny):
    def together(base):
        return layout.make_layout(grids.make_grid({"seed": range(99)}, base)).together

    assert together(tiny(coupling=1.0)) == 64 and together(tiny(imbalance_ratio=300.0)) == 16


def test_single_precision_is_of_what_was_observed_only(squared):
    swept = ssm.sweep({"seed": [0, 1]}, squared(dtype="float32"))
    alone = ssm.simulate(squared(dtype="float32", seed=1))
    for name in alone.variables:
        found = swept[name].isel(seed=1) if "seed" in swept[name].dims else swept[name]
        assert found.dtype.kind == "U" or found.dtype == alone[name].dtype, name
        np.testing.assert_array_equal(found, alone[name])
