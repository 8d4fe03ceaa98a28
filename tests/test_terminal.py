"""The terminal phase: the loss clock, ends at a margin, and the geometry that weights do not
change."""

import dataclasses
import functools
import itertools
from typing import Any

import jax
import numpy as np
import pytest
from scipy import special
from scipy.integrate import solve_ivp

import ssm
from ssm import geometry, preparation, simulation
from ssm.dynamics import trajectories

# what is kept, and that there is an end: so that runs by either clock share a compilation each
KEPT = {"geometry": True, "save_state": True}
LOSS = {"clock": "loss", "rtol": 1e-4, **KEPT}


def end(ds):
    """The last observation that was reached."""
    return ds.isel(time=int(np.isfinite(ds["loss"]).sum()) - 1)


@pytest.mark.slow
def test_both_clocks_pass_through_the_same_states(tiny):
    """The state at log t by the loss clock is that at t by time, from different methods."""
    config = tiny(clock="loss", rtol=1e-8, stop_margin=4.0, weight_exponent=0.5, t1=120.0, **KEPT)
    by_loss = ssm.simulate(config)
    assert by_loss.status == "margin reached"
    known = np.isfinite(by_loss["log_time"].values)
    times = np.concatenate([[0.0], np.exp(by_loss["log_time"].values[known])])
    by_time = dataclasses.replace(config, clock="time", solver="tsit5", rtol=1e-10, atol=1e-13)
    count = len(times)
    # as many times as other tests have, those beyond the end for nothing
    later = times[-1] + np.arange(1, 51 - count)
    flow = preparation.prepare(by_time).flow
    flow = dataclasses.replace(flow, times=np.append(times, later), stop_margin=np.asarray(np.inf))
    found = {name: x[:count] for name, x in flow.follow().observations.items()}
    # a second-order method: errors go as rtol^(2/3), here 5e-6 a step's worth
    for name in ("W", "H"):
        np.testing.assert_allclose(by_loss[name].values[:count], found[name], atol=5e-5)
    np.testing.assert_allclose(by_loss["log_loss"].values[:count], found["log_loss"], atol=5e-5)


@pytest.mark.parametrize("solver", ["rkl2"])
def test_a_run_ends_at_its_margin(run, solver):
    ds = run(clock="loss", stop_margin=20.0, solver=solver, **KEPT)
    reached = int(np.isfinite(ds["loss"]).sum())
    assert ds.status == "margin reached" and 10 < reached < 50
    margins, times = ds["margin"].values, ds["time"].values
    assert (margins[: reached - 1] < 20).all() and margins[reached - 1] >= 20
    assert np.isnan(margins[reached:]).all() and np.isnan(ds["strength"].values[reached:]).all()
    assert (np.diff(times) > 0).all()
    log_time = ds["log_time"].values
    assert log_time[0] == -np.inf and (np.diff(log_time[1:reached]) > 0).all()
    assert (np.diff(ds["log_loss"].values[:reached]) < 0).all()


def test_a_run_that_ends_at_a_time_to_be_saved_is_saved_once(run):
    """A step of the stabilised method ends at every time to be saved, so a run that is to end at
    the margin that another had at one of them ends there."""
    stabilised = {**KEPT, "solver": "rkl2"}
    longer = run(clock="loss", stop_margin=20.0, **stabilised)
    for last in (8, 12):
        margin = float(longer["margin"][last])
        ds = run(clock="loss", stop_margin=margin, t1=longer.t1, **stabilised)
        assert ds.status == "margin reached" and int(np.isfinite(ds["loss"]).sum()) == last + 1
        assert ds["time"][last] == longer["time"][last]
        assert (np.diff(ds["time"].values) > 0).all()
        assert (np.diff(ds["margin"].values[: last + 1][-5:]) > 0).all()


def test_a_margin_ends_a_run_by_time_too(run):
    ds = run(stop_margin=1.0, **KEPT)
    assert ds.status == "margin reached" and end(ds)["margin"] >= 1
    assert "log_time" not in ds
    np.testing.assert_allclose(end(ds)["log_loss"], np.log(end(ds)["loss"]), rtol=1e-9)


@pytest.mark.slow
def test_a_run_that_never_reaches_its_margin_goes_to_its_end(run):
    ds = run(clock="loss", stop_margin=1e6, t1=5.0, **KEPT)
    assert ds.status == "finished" and np.isfinite(ds["margin"]).all()


@pytest.mark.parametrize("exponent", [pytest.param(0.0, marks=pytest.mark.slow), 1.0])
@pytest.mark.parametrize("init", ["gaussian", pytest.param("collapsed", marks=pytest.mark.slow)])
def test_weights_do_not_change_the_end(run, exponent, init):
    """Distance to SELI falls as 1 / margin, over thousands of orders of magnitude of the loss."""
    changes = {"init": init, "weight_exponent": exponent, "stop_margin": 1e5}
    ds = run(**LOSS, **changes)
    last = end(ds)
    assert last["log_loss"] < -99_000 and last["loss"] == 0
    assert last["seli_distance"].max() < 1e-5
    assert last["nc1"] < 1e-9 and last["nc4"] == 0
    margins = ds["margin"].values
    late = (margins > 100) & (margins < 1e5)
    slope = np.polyfit(
        np.log(margins[late]), np.log(ds["seli_distance"].max("part").values[late]), 1
    )
    assert slope[0] == pytest.approx(-1, abs=0.05)
    # the counts differ fourfold, so the simplex ETF is somewhere else
    assert last["etf_distance"].sel(part="W") > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("coupling", [0.3, 1.0])
def test_coupled_features_have_a_limit_of_their_own(run, coupling):
    """SELI of n_c / kappa_c samples a class, the simplex ETF for shared features."""
    ds = run(
        **LOSS,
        coupling=coupling,
        init="collapsed",
        weight_exponent=1.0,
        stop_margin=1e4,
    )
    last = end(ds)
    counts = ds["class_count"].values
    target = geometry.seli(geometry.effective_counts(counts, 1 + coupling * (counts - 1)))
    W, M = last["W"].values, last["H"].values
    found = geometry.distances(W, M, np.zeros((6, 6)), counts, target)
    assert found.max() < 1e-3
    assert last["seli_distance"].sel(part="W") > 0.05
    if coupling == 1:
        assert last["etf_distance"].max() < 1e-3


def test_the_geometry_against_the_kept_state(run):
    """Observed inside the solve, recomputed from every sample."""
    ds = run(stop_margin=1e6, init_scale=0.3, weight_exponent=1.0, **KEPT)
    counts = ds["class_count"].values
    labels = np.repeat(np.arange(4), counts)
    for i in (0, 20, 49):
        W, H = ds["W"].values[i], ds["H"].values[i]
        means = np.stack([H[:, labels == c].mean(1) for c in range(4)], axis=1)
        S = np.eye(4)[:, labels] - 0.25
        U, s, Vt = np.linalg.svd(S, full_matrices=False)
        U, s, Vt = U[:, :3], s[:3], Vt[:3]
        pairs = [(W @ W.T, U * s @ U.T), (H.T @ H, Vt.T * s @ Vt), (W @ H, S)]
        expected = [np.linalg.norm(a / np.linalg.norm(a) - b / np.linalg.norm(b)) for a, b in pairs]
        np.testing.assert_allclose(ds["seli_distance"].values[i], expected, rtol=1e-9)
        nearest = ((H[:, None] - means[:, :, None]) ** 2).sum(0).argmin(0)
        wrong = nearest != (W @ H).argmax(0)
        by_class = [wrong[labels == c].mean() for c in range(4)]
        assert ds["nc4"].values[i] == pytest.approx(np.mean(by_class), abs=1e-12)


def test_the_geometry_of_coordinates_is_that_of_their_samples(run):
    """Under the squared loss, where features are followed in coordinates."""
    ds = run(loss="squared", init_scale=0.3, **KEPT)
    W, H = ds["W"].values[10], ds["H"].values[10]
    labels = np.repeat(np.arange(4), ds["class_count"].values)
    means = np.stack([H[:, labels == c].mean(1) for c in range(4)], axis=1)
    E = H - means[:, labels]
    within = np.mean([np.cov(H[:, labels == c], bias=True) for c in range(4)], axis=0)
    counts = ds["class_count"].values
    expected = geometry.distances(W, means, E @ E.T, counts, geometry.seli(counts))
    np.testing.assert_allclose(ds["seli_distance"].values[10], expected, rtol=1e-8)
    collapse = geometry.neural_collapse(W, means, within)
    for name in ("nc1", "nc3", "nc2_norms"):
        np.testing.assert_allclose(ds[name].values[10], collapse[name], rtol=1e-8)
    assert "margin" not in ds


@pytest.mark.slow
@pytest.mark.parametrize("depth", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_the_chosen_length_reaches_the_margin_at_any_depth(run, depth):
    """Without wasting most of the times that are observed."""
    dim = 4 if depth == 1 else 6
    changes = {"depth": depth, "feature_dim": dim, "init_scale": 0.3, "stop_margin": 100.0}
    ds = run(clock="loss", rtol=1e-4, **changes)
    assert ds.status == "margin reached"
    assert 0.15 < float(end(ds)["time"]) / ds.attrs["t1"] <= 1


def test_runs_of_one_shape_share_a_compilation_whatever_their_margin(tiny):
    ssm.simulate(tiny(clock="loss", stop_margin=5.0, **KEPT))
    before = trajectories.num_compilations()
    ssm.simulate(tiny(clock="loss", stop_margin=7.0, seed=3, weight_exponent=1.0, **KEPT))
    assert trajectories.num_compilations() == before


def test_a_sweep_keeps_what_its_runs_observe(tiny):
    axes = {"clock": ["time", "loss"], "stop_margin": [5.0, 9.0]}
    base = tiny(t1=100.0, **KEPT)
    swept = ssm.sweep(axes, base)
    assert swept["log_time"].dims == ("clock", "stop_margin", "time")
    for clock in axes["clock"]:
        for margin in axes["stop_margin"]:
            alone = ssm.simulate(dataclasses.replace(base, clock=clock, stop_margin=margin))
            here = swept.sel(clock=clock, stop_margin=margin)
            for name in ("margin", "seli_distance", "nc2_angles", "strength", "log_time"):
                if name in alone:
                    np.testing.assert_array_equal(here[name], alone[name])
            assert here["status"] == alone.attrs["status"]


@pytest.mark.slow
def test_single_precision_reaches_a_margin_too(run):
    ds = run(clock="loss", stop_margin=200.0, dtype="float32", rtol=1e-4, init_scale=0.1)
    assert ds.status == "margin reached" and end(ds)["log_loss"] < -190
    assert ds["margin"].dtype == np.float32


@pytest.mark.slow  # padding by time is held by tests of the flow
def test_padding_weighs_nothing_by_the_loss_clock(tiny):
    config = tiny(clock="loss", stop_margin=30.0, solver="rkl2", **KEPT)
    plain = preparation.prepare(config)
    padded = preparation.prepare(config, plain.flow.params.H.shape[1] + 11)
    with jax.enable_x64(True):
        found, expected = (run.flow.follow() for run in (padded, plain))
    assert found.status == expected.status
    last = int(np.isfinite(expected.observations["loss"]).sum()) - 1
    for name in ("log_loss", "margin", "strength", "seli_distance", "nc4"):
        np.testing.assert_allclose(
            found.observations[name][last], expected.observations[name][last], rtol=1e-8
        )


MILD = {"num_classes": 4, "imbalance_ratio": 6.0, "minority_count": 3, "feature_dim": 5}


@pytest.mark.slow
def test_a_default_run_by_the_loss_clock_against_another_solver():
    """DOP853 on gradient flow of log L, written out anew."""
    config = ssm.Config(
        clock="loss", t1=60.0, init_scale=0.05, weight_exponent=0.5, num_saves=13, save_state=True, **MILD
    )  # fmt: skip
    ds = ssm.simulate(config)
    counts = ds["class_count"].values
    labels, n = np.repeat(np.arange(4), counts), counts.sum()
    risk = ds["class_weight"].values[labels] / n

    def field(_, state):
        W, H = state[:20].reshape(4, 5), state[20:].reshape(5, n)
        Z = W @ H
        log_p = Z - np.logaddexp.reduce(Z, axis=0)
        loss = -(risk * log_p[labels, np.arange(n)]).sum()
        G = (np.exp(log_p) - np.eye(4)[:, labels]) * risk / loss
        return -np.concatenate([(G @ H.T).ravel(), (W.T @ G).ravel()])

    start = np.concatenate([ds["W"].values[0].ravel(), ds["H"].values[0].ravel()])
    times = ds["time"].values
    solved = solve_ivp(field, (0, 60), start, "DOP853", times, rtol=1e-12, atol=1e-14).y.T
    found = np.hstack([ds["W"].values.reshape(13, -1), ds["H"].values.reshape(13, -1)])
    error = np.abs(found - solved).max(axis=1) / np.abs(solved).max(axis=1)
    assert error.max() < 20 * config.rtol and ds.num_steps < 100


STIFF = [
    {"stop_margin": 10.0, "weight_exponent": 1.0, "init_scale": 0.1},
    {"stop_margin": 10.0, "depth": 3, "init": "balanced", "init_scale": 0.1},
    {"stop_margin": 1e3, "coupling": 0.2, "init_scale": 0.3},
    {"stop_margin": 1e3, "loss": "focal", "init_scale": 0.1},
    {"stop_margin": 1e3, "weight_exponent": 1.0, "weight_start": 20.0, "init_scale": 0.1},
    {"stop_margin": 1e4, "init": "collapsed", "coupling": 1.0},
    {"stop_margin": 1e4, "init_scale": 1e-6},
    {"stop_margin": 1e4, "profile": "long_tailed", "weight_exponent": 1.0, "init_scale": 0.02},
]


@pytest.mark.slow
@pytest.mark.parametrize("changes", STIFF)
def test_default_runs_by_the_loss_clock_keep_their_tolerance(tiny, changes):
    """Mild and stiff: 20 times the tolerance of a step, against order 5 at 1e-9 all the way."""
    config = tiny(clock="loss", num_saves=20, save_state=True, **changes)
    ended = ssm.simulate(config)
    t1 = float(end(ended)["time"])
    whole = dataclasses.replace(config, t1=t1, stop_margin=1e9)
    found = ssm.simulate(whole)
    wanted = ssm.simulate(
        dataclasses.replace(whole, solver="tsit5", rtol=1e-9, max_steps=1_000_000)
    )
    assert found.status == wanted.status == "finished"
    for name in ("W", "H", "strength", "log_loss", "margin"):
        x, y = (ds[name].values.reshape(20, -1) for ds in (found, wanted))
        size = np.abs(y).max(axis=1, keepdims=True)
        if name in ("log_loss", "margin"):  # which pass through 0
            size = np.maximum(size, 1)
        assert (np.abs(x - y) / size).max() < 20 * config.rtol, name


SHAPES = [
    {"num_classes": 2, "feature_dim": 1},
    {"num_classes": 3, "feature_dim": 8},
    {"num_classes": 6, "feature_dim": 5},
    {"num_classes": 4, "feature_dim": 3, "coupling": 0.3},
    {"num_classes": 6, "feature_dim": 8, "coupling": 1.0},
    {"num_classes": 3, "feature_dim": 2, "loss": "vs"},
    {"num_classes": 5, "feature_dim": 6, "loss": "focal"},
    {"num_classes": 4, "feature_dim": 6, "depth": 3},
]
# From the stiffest to the mildest: a run gets stiff as its margin grows, and not by its imbalance.
NUMBERS = [
    {"imbalance_ratio": 1.0, "minority_count": 6, "init_scale": 0.1, "stop_margin": 1e3},
    {"imbalance_ratio": 10.0, "minority_count": 2, "init_scale": 1e-4, "stop_margin": 300.0},
    {"imbalance_ratio": 100.0, "minority_count": 2, "init_scale": 1e-3, "stop_margin": 30.0},
    {"imbalance_ratio": 1000.0, "minority_count": 1, "init_scale": 0.03, "stop_margin": 10.0},
]
EXPONENTS = [0.0, 0.5, 0.3, 1.0]


def flow_of_log_risk(config, problem):
    """Gradient flow of log L on samples, written out anew: the slope of the flat state, which is W,
    the hidden layers and H."""
    counts, numbers = problem.counts, config.adjustments
    k, d, n, c = len(counts), config.feature_dim, counts.sum(), config.coupling
    labels = np.repeat(np.arange(k), counts)
    own = np.arange(k)[:, None] == labels
    factors = ((counts / counts.max()) ** numbers["multiplicative_adjustment"])[:, None]
    offsets = numbers["additive_adjustment"] * np.log(counts / n)[:, None]
    focusing, log_shares = numbers["focusing"], np.log(problem.class_weights[labels] / n)
    cuts = np.cumsum([k * d, *[d * d] * (config.depth - 2)])

    def slope(_, state):
        W, *hidden, H = np.split(state, cuts)
        layers = [W.reshape(k, d), *(layer.reshape(d, d) for layer in hidden), H.reshape(d, n)]
        seen = factors * functools.reduce(np.matmul, layers) + offsets
        behind = np.where(own, -np.inf, seen - seen[labels, np.arange(n)])
        odds: Any = special.logsumexp(behind, axis=0)
        # log(1 + e^odds) is e^odds where that is below the rounding of 1
        tiny, plain = odds < -36, np.maximum(np.logaddexp(0, odds), 1e-300)
        log_loss = focusing * special.log_expit(odds) + np.where(tiny, odds, np.log(plain))
        bend = focusing * special.expit(-odds) + np.where(tiny, 1, special.expit(odds) / plain)
        toward = np.where(own, -1, np.exp(behind - odds))
        back = special.softmax(log_shares + log_loss) * bend * factors * toward
        heads = [np.eye(k), *itertools.accumulate(layers[:-1], np.matmul)]
        slopes = []
        for head, layer in zip(reversed(heads), reversed(layers), strict=True):
            slopes.insert(0, -head.T @ back)
            back = back @ layer.T
        sums = np.stack([slopes[-1][:, labels == y].sum(1) for y in range(k)], axis=1)
        slopes[-1] = (1 - c) * slopes[-1] + c * sums[:, labels]
        return np.concatenate([x.ravel() for x in slopes])

    return slope


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "-".join(map(str, shape.values())))
def test_default_runs_by_the_loss_clock_against_a_flow_written_anew(shape):
    """Mild and stiff, 16 of them: 20 times the tolerance of a step, against DOP853 of scipy at a ten
    thousandth of it. Samples are padded, so that all runs of a shape share a compilation."""
    k = shape["num_classes"]
    # One shape has the stiffest and the mildest, the next the two between. Through three layers the margin of a
    # small start explodes at the end of a long plateau, where DOP853 would take millions of steps: there it is the two
    # large starts too.
    between = SHAPES.index(shape) % 2 and "depth" not in shape
    taken = slice(1, 3) if between else slice(None, None, 3)
    configs = [
        ssm.Config(
            clock="loss",
            num_saves=12,
            save_state=True,
            minority_fraction=1 - 1 / k,
            weight_exponent=exponent,
            **shape,
            **numbers,
        )
        for numbers, exponent in zip(NUMBERS[taken], EXPONENTS[taken], strict=True)
    ]
    padded = configs[0].column_kind == "samples"
    size = max(config.num_columns for config in configs) if padded else None
    before = trajectories.num_compilations()
    for config in configs:
        run = preparation.prepare(config, size)
        arrays, facts = simulation.run_arrays(run, simulation.follow(run))
        assert facts["status"] == "margin reached"
        reached, W = int(np.isfinite(arrays["loss"]).sum()), arrays["W"]
        labels = np.repeat(np.arange(k), run.problem.counts)
        H = arrays["H"] if padded else arrays["class_H"][:, :, labels]
        layers = [W, *([arrays["hidden"]] if config.depth > 2 else []), H]
        found = np.hstack([layer[:reached].reshape(reached, -1) for layer in layers])
        times = arrays["time"][:reached]
        solved = solve_ivp(
            flow_of_log_risk(config, run.problem),
            (0, times[-1]),
            found[0],
            "DOP853",
            times,
            rtol=1e-4 * config.rtol,
            atol=1e-6 * config.rtol * config.init_scale,
        ).y.T
        error = np.abs(found - solved).max(axis=1) / np.abs(solved).max(axis=1)
        assert error.max() < 20 * config.rtol, config
    assert trajectories.num_compilations() <= before + 1


@pytest.mark.slow
def test_a_stiff_run_takes_few_steps(tiny):
    """To a margin of 1e4 order 5 alone takes some 3,600 at this tolerance."""
    ds = ssm.simulate(tiny(clock="loss", stop_margin=1e4))
    assert ds.status == "margin reached" and ds.num_steps < 1000
