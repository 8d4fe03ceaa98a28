"""Couplings between classes and biases: the kernel K = blockdiag((1 - c) I + (c - c_b) 11^T) + beta 11^T, beta = c_b, and 1
more with a bias of the features, against K written out and integrated by DOP853."""

import dataclasses

import numpy as np
import pytest
from marks import UNCHECKED
from scipy.integrate import solve_ivp
from scipy.linalg import expm

import ssm
from ssm import (
    InputError,
    adjusted_growth,
    exact,
    geometry,
    predictions,
    regularised,
    spectral,
    step,
    terminal,
    theory,
)
from ssm.dynamics import parameters, trajectories
from ssm.dynamics.column_layouts import make_columns
from ssm.dynamics.starts import make_start
from ssm.problem import make_problem

BIASES = ("none", "hidden", "output", "both")
KERNELS = [
    {"coupling": 0.3, "between_coupling": 0.1},
    {"coupling": 0.2, "between_coupling": 0.2, "bias": "both"},
    {"bias": "hidden"},
    {"coupling": 0.3, "bias": "output"},
    {"coupling": 1.0, "between_coupling": 0.3, "bias": "both"},
]


def written_out(config, problem):
    """K, from what the fields say."""
    same = problem.labels[:, None] == problem.labels
    c, b = config.coupling, config.between_coupling
    K = (1 - c) * np.eye(len(same)) + (c - b) * same + b
    return K + 1 if config.bias in ("hidden", "both") else K


def logit_gradient(config, problem, Z):
    """n dL/dZ without weights."""
    Y = np.eye(len(problem.counts))[:, problem.labels]
    if config.loss == "squared":
        return Z - (Y - 1 / len(Y))
    odds = np.exp(Z - Z.max(0))
    return odds / odds.sum(0) - Y


def features_of(ds, problem, at):
    """Features of all samples at one of the observed times."""
    H = (ds.class_H if "class_H" in ds else ds.H).values[at]
    return H[:, problem.labels] if H.shape[1] == len(problem.counts) else H


def logits_of(ds, problem, at):
    """Logits of all samples at one of the observed times."""
    head = ds.W.values[at]
    for layer in ds.hidden.values[at] if "hidden" in ds else ():
        head = head @ layer
    Z = head @ features_of(ds, problem, at)
    return Z + ds.bias.values[at][:, None] if "bias" in ds else Z


def by_hand(config, ds):
    """Logits at the last time of a run from its start, K written out: any depth, decay and clock."""
    problem = make_problem(config)
    n, k = problem.counts.sum(), len(problem.counts)
    K, w = written_out(config, problem), problem.class_weights[problem.labels]
    inverse = np.linalg.inv(K) if config.feature_decay else None
    hidden = list(ds.hidden.values[0]) if "hidden" in ds else []
    layers = [ds.W.values[0], *hidden, features_of(ds, problem, 0), np.zeros((k, 1))]
    shapes, sizes = [x.shape for x in layers], np.cumsum([x.size for x in layers])[:-1]

    def slopes(time, state):
        *parts, bias = (x.reshape(s) for x, s in zip(np.split(state, sizes), shapes, strict=True))
        Z = np.linalg.multi_dot(parts) + bias
        weights = w if config.weight_start is None or time > config.weight_start else 1.0
        G = logit_gradient(config, problem, Z) * weights / n
        moved = []
        for i in range(len(parts)):
            left = np.linalg.multi_dot([np.eye(k), np.eye(k), *parts[:i]])
            right = np.linalg.multi_dot([*parts[i + 1 :], np.eye(n), np.eye(n)])
            moved.append(-(left.T @ G @ right.T))
        moved[-1] = moved[-1] @ K - config.feature_decay * parts[-1]
        moved[:-1] = [
            x - config.weight_decay * y for x, y in zip(moved[:-1], parts[:-1], strict=True)
        ]
        if config.depth == 1:
            moved[0] = 0 * moved[0]
        moved.append(-G.sum(1) if config.bias in ("output", "both") else np.zeros(k))
        flat = np.concatenate([x.ravel() for x in moved])
        if config.clock == "loss":
            scaled = Z - Z[problem.labels, np.arange(n)]
            flat = flat / (weights * np.log(np.exp(scaled).sum(0)) / n).sum()
        return flat

    start = np.concatenate([x.ravel() for x in layers])
    solved = solve_ivp(
        slopes, (0, float(ds.time[-1])), start, "DOP853", rtol=1e-10, atol=1e-13, max_step=5.0
    )
    end = solved.y[:, -1]
    *parts, bias = (x.reshape(s) for x, s in zip(np.split(end, sizes), shapes, strict=True))
    assert inverse is None or np.isfinite(inverse).all()
    return np.linalg.multi_dot(parts) + bias


START = {"init_scale": 0.1, "save_state": True, "t1": 60.0, "rtol": 1e-9, "num_saves": 50}
RUNS = [
    {"loss": "squared", **KERNELS[1]},
    {"loss": "cross_entropy", "init": "balanced", "weight_exponent": 0.5, **KERNELS[0]},
]
MORE_RUNS = [
    {"loss": "cross_entropy", "weight_exponent": 0.5, **KERNELS[1]},
    {"loss": "squared", "init": "spectral", **KERNELS[4]},
    *({"loss": loss, "weight_exponent": 0.5, **own} for own in KERNELS for loss in ("squared", "cross_entropy")),
    *({"loss": "squared", "init": init, **KERNELS[1]} for init in ("balanced", "spectral", "collapsed")),
    {"loss": "cross_entropy", "depth": 3, "init": "collapsed", **KERNELS[1]},
    {"loss": "cross_entropy", "clock": "loss", "solver": "tsit5", "t1": 20.0, **KERNELS[1]},
    {"loss": "squared", "depth": 1, "feature_dim": 4, "bias": "hidden"},
    {"loss": "squared", "weight_decay": 0.02, "feature_decay": 0.01, **KERNELS[1]},
    {"loss": "cross_entropy", "weight_start": 20.0, "weight_exponent": 1.0, **KERNELS[1]},
]  # fmt: skip
SLOW = pytest.mark.slow  # as each is a program of its own to be compiled


@pytest.mark.parametrize("changes", [*RUNS, *(pytest.param(own, marks=SLOW) for own in MORE_RUNS)])
def test_runs_are_those_of_the_kernel_written_out(tiny, changes):
    """1e-6 is some hundred tolerances of a step."""
    config = tiny(**{**START, **changes})
    ds = ssm.simulate(config)
    assert ds.status == "finished"
    expected = by_hand(config, ds)
    found = logits_of(ds, make_problem(config), -1)
    np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())
    if config.weight_decay == config.feature_decay and config.depth > 1:
        assert ds.drift.max() < 1e-6


@pytest.mark.parametrize("optimizer", ["gd", "momentum"])
def test_steps_are_those_of_the_kernel_written_out(tiny, optimizer):
    changes = {"optimizer": optimizer, "learning_rate": 0.05, "num_steps": 60, "save_state": True}
    config = tiny(loss="squared", init="collapsed", init_scale=0.1, **changes, **KERNELS[1])
    ds, problem = ssm.simulate(config), make_problem(config)
    K, n = written_out(config, problem), problem.counts.sum()
    state = [ds.W.values[0], features_of(ds, problem, 0), np.zeros((4, 1))]
    moved = [0 * x for x in state]
    for _ in range(60):
        W, H, bias = state
        G = logit_gradient(config, problem, W @ H + bias) / n
        slopes = [G @ H.T, W.T @ G @ K, G.sum(1, keepdims=True)]
        kept = 0.9 if optimizer == "momentum" else 0.0
        moved = [kept * old + new for old, new in zip(moved, slopes, strict=True)]
        state = [x - 0.05 * y for x, y in zip(state, moved, strict=True)]
    expected = state[0] @ state[1] + state[2]
    # rounding of sixty steps
    np.testing.assert_allclose(logits_of(ds, problem, -1), expected, atol=1e-12)


@pytest.mark.parametrize("init", ["gaussian", "balanced", "spectral", "collapsed"])
@pytest.mark.parametrize("changes", KERNELS[:4])
def test_what_is_conserved_is_that_of_the_inverse(tiny, changes, init):
    config = tiny(init=init, init_scale=0.3, **changes)
    problem = make_problem(config)
    columns = make_columns(config, problem)
    params = make_start(config, problem, columns).params
    factor = 1.0 if config.coupling == 0 or config.column_kind == "classes" else 1 - config.coupling
    W, H = params.W, np.asarray(params.H)
    H = H[:, problem.labels] if config.column_kind == "classes" else H
    left, right = parameters.conserved_terms(params, columns)
    expected = H @ np.linalg.inv(written_out(config, problem)) @ H.T
    np.testing.assert_allclose(right[0], factor * expected, atol=1e-12)
    np.testing.assert_allclose(left[0], factor * W.T @ W, atol=1e-13)
    if init in ("balanced", "spectral"):  # of which nothing is kept
        np.testing.assert_allclose(W.T @ W, expected, atol=1e-12)


@pytest.mark.slow
def test_fields_left_out_are_nothing(tiny, run):
    assert tiny() == tiny(between_coupling=0.0, bias="none")
    for init in ("gaussian", "spectral"):  # and their general case tends to it
        changes = {
            "loss": "squared",
            "init": init,
            "coupling": 0.3,
            "t1": 60.0,
            "init_scale": 0.1,
            "save_state": True,
        }
        plain, near = run(**changes), run(between_coupling=1e-13, **changes)
        for name in ("loss", "strength", "class_strength", "learning_time"):
            np.testing.assert_allclose(near[name], plain[name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("profile", [{}, {"profile": "long_tailed"}])
@pytest.mark.parametrize("exponent", [0.0, 0.7])
@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("between", [0.0, 0.1, 0.3])
def test_growth_rates_are_singular_values_of_the_flow(tiny, between, bias, exponent, profile):
    """Of (Y - p) Omega K^(1/2), written out for all samples; p = 1/k, or where a bias of the logits is at rest."""
    changes = {"coupling": 0.3, "between_coupling": between, "bias": bias}
    config = tiny(weight_exponent=exponent, **changes, **profile)
    problem = make_problem(config)
    n, w = problem.counts.sum(), problem.class_weights[problem.labels]
    Y = np.eye(4)[:, problem.labels]
    rest = (Y * w).sum(1, keepdims=True) / w.sum() if problem.output_bias else 1 / 4
    values, vectors = np.linalg.eigh(written_out(config, problem))
    dense = np.linalg.svd((Y - rest) * w @ (vectors * np.sqrt(values)), compute_uv=False)[:3] / n
    components = spectral.components(problem)
    kappa, beta = problem.kernel_eigenvalues, problem.common_coupling
    if not problem.output_bias:
        options = {"kernel_eigenvalues": kappa, "common_coupling": beta}
        found = spectral.label_spectrum(problem.counts, problem.class_weights, **options)
        np.testing.assert_allclose(found.singular_values / n, dense, rtol=1e-12)
    rates = theory.component_growth_rates(problem, components)
    if profile:
        assert np.isnan(rates).all() or (problem.counts[0] == problem.counts).all()
        return
    np.testing.assert_allclose(np.sort(rates)[::-1], dense, rtol=1e-12)
    blocks = spectral.block_means(rates, components.blocks)
    np.testing.assert_allclose(step.growth_rates(step.step_of(problem)), blocks, rtol=1e-12)
    grid = step.grid(
        [4.0, 9.0], exponent, 0.3, between_coupling=between, bias=bias, num_classes=4, minority_count=2
    )  # fmt: skip
    np.testing.assert_allclose(step.growth_rates(grid)[0], blocks, rtol=1e-12)
    if not problem.output_bias:
        at_zero = adjusted_growth.growth_matrix(config, problem)
        np.testing.assert_allclose(np.linalg.svd(at_zero, compute_uv=False)[:3], dense, rtol=1e-12)
        found = adjusted_growth.block_growth_rates(config, problem)
        np.testing.assert_allclose(found, blocks, rtol=1e-12)


@pytest.mark.parametrize("loss", [pytest.param("squared", marks=SLOW), "cross_entropy"])
@pytest.mark.parametrize("bias", [pytest.param("none", marks=SLOW), "both"])
@pytest.mark.parametrize(
    "between", [pytest.param(0.0, marks=SLOW), 0.1, pytest.param(0.4, marks=SLOW)]
)
def test_measured_growth_rates(run, tiny, between, bias, loss):
    """As in test_flow.py: half the logarithmic slope of each block's product strength, in the classifier and the features,
    while logits of the features are small and the bias of the logits, if any, is at rest."""
    changes = {"coupling": 0.4, "between_coupling": between, "bias": bias, "weight_exponent": 0.5}
    solved = {
        "init_scale": 1e-12,
        "atol": 1e-21,
        "rtol": 1e-8,
        "save_state": True,
        "init": "spectral",
    }
    problem = make_problem(tiny(**changes))
    components = spectral.components(problem)
    rates = theory.component_growth_rates(problem, components)
    # The fastest block grows by 44 e-folds, from 1e-24 to 1e-5; a bias comes to rest within 20 / min(p) < 20 of the time.
    late = 44 / (2 * rates.max())
    ds = run(loss=loss, t1=late, **changes, **solved)
    window = ds.time.values >= 0.7 * late
    W, H = ds.W.values[window], (ds.class_H if "class_H" in ds else ds.H).values[window]
    if H.shape[2] != 4:
        H = np.stack([H[..., problem.labels == c].mean(-1) for c in range(4)], axis=-1)
    Z = np.einsum("tkd,tdc->tkc", W, H) * problem.counts
    strength = np.abs(spectral.strengths(Z, components))
    slopes = np.polyfit(ds.time.values[window], np.log(strength), 1)[0] / 2
    np.testing.assert_allclose(slopes, rates, rtol=0.01)


@pytest.mark.parametrize("changes", KERNELS[:4])
def test_the_linear_phase_against_the_matrix_exponential(tiny, changes):
    """Of the flow of all samples at zero logits, K written out."""
    config = tiny(weight_exponent=0.8, init_scale=0.1, **changes)
    problem = make_problem(config)
    n, labels, w = problem.counts.sum(), problem.labels, problem.class_weights
    rng = np.random.default_rng(0)
    W, H = rng.normal(size=(4, 6)), rng.normal(size=(6, n))
    B = (np.eye(4) - 0.25)[:, labels] * w[labels] / n  # -dL/dZ
    generator = np.block(
        [[np.zeros((4, 4)), B], [written_out(config, problem) @ B.T, np.zeros((n, n))]]
    )
    average = np.eye(4)[labels] / problem.counts
    times = np.array([0.0, 3.0, 7.0])
    found = theory.linear_phase(W, H @ average, problem, times)
    for t, logits in zip(times, found, strict=True):
        state = expm(generator * t) @ np.vstack([W, H.T])
        expected = state[:4] @ state[4:].T @ average
        if problem.output_bias:
            expected = expected + t * B.sum(1)[:, None]
        np.testing.assert_allclose(logits, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("bias", ["hidden", pytest.param("output", marks=SLOW), "both"])
def test_biases_leave_contrasts_within_groups_alone_under_the_squared_loss(run, bias):
    """From a symmetric start; 1e-6 is some tens of tolerances of a step."""
    plain = {"loss": "squared", "init": "spectral", "coupling": 0.3, "between_coupling": 0.1}
    plain |= {"weight_exponent": 0.5, "t1": 120.0, "rtol": 1e-8, "save_state": True}
    without, biased = run(**plain), run(bias=bias, **plain)
    within = without.block.values[None] != "cross"
    blocks = np.array([without.block_strength.values, biased.block_strength.values])
    np.testing.assert_allclose(blocks[1][:, within[0]], blocks[0][:, within[0]], atol=1e-6)
    assert np.abs(blocks[1] - blocks[0])[:, ~within[0]].max() > 0.1


@pytest.mark.parametrize("loss", ["squared", "cross_entropy"])
@pytest.mark.parametrize("changes", [KERNELS[1], *(pytest.param(x, marks=SLOW) for x in KERNELS)])
def test_contrasts_are_learned_when_predicted(run, changes, loss):
    """Within the tenth that predictions are given for; under cross-entropy as nearly as the flow of class means
    is right for small starts, and the cross component too, unless a bias of the logits learns it at once."""
    ds = run(loss=loss, init_scale=1e-5, save_state=True, **changes)
    assert ds.status == "finished"
    predicted, found = ds.predicted_learning_time.values, ds.learning_time.values
    known = np.isfinite(predicted)
    cross = loss != "squared" and changes.get("bias", "none") in ("none", "hidden")
    assert known.tolist() == [True, cross, True]
    rtol = 0.1 if loss == "squared" else 2e-3
    np.testing.assert_allclose(predicted[known], found[known], rtol=rtol)


INPUTS = {"coupling": 0.3, "between_coupling": 0.1, "held_out": True}


@pytest.mark.parametrize("init", ["gaussian", "collapsed"])
@pytest.mark.parametrize(
    "changes",
    [KERNELS[0], INPUTS, {**INPUTS, "coupling": 1.0}, {"coupling": 1.0, "between_coupling": 0.3}, {**INPUTS, "noise_dim": 40}],
)  # fmt: skip
def test_the_expected_start_is_the_mean_over_draws(tiny, init, changes):
    """Within four standard errors of 150 draws."""
    config = tiny(init=init, init_scale=0.3, loss="cross_entropy", **changes)
    problem = make_problem(config)
    components = spectral.components(problem)
    within = components.left[:, components.blocks != "cross"]
    root = np.sqrt(problem.counts / problem.kernel_eigenvalues)[:, None]
    damping = predictions.noise_damping(config, problem)
    growing = np.stack(theory.growing_half(theory.class_growth_rates(problem), damping))
    p_part, q_part = (growing @ within**2)[:, :, None]
    strengths = []
    for seed in range(150):
        drawn = dataclasses.replace(config, seed=seed)
        X = ssm.preparation.draw_inputs(drawn, problem) if config.has_inputs else None
        columns = make_columns(drawn, problem, None, X)
        params = make_start(drawn, problem, columns).params
        p, q = within.T @ params.W, within.T @ (root * columns.class_means(params.H).T)
        strengths.append((p_part * q_part * (p_part * p + q_part * q) ** 2).sum(1))
    error = np.std(strengths, axis=0) / np.sqrt(150)
    expected = (within**2).T @ predictions.expected_start_strength(config, problem)
    assert (np.abs(np.mean(strengths, axis=0) - expected) < 4 * error).all()


def test_the_balancing_exponent_knows_the_coupling_between_classes(tiny):
    for between in (0.0, 0.03, 0.1):
        g = float(theory.balancing_exponent(8, 2, 0.1, between))
        fields = {"coupling": 0.1, "between_coupling": between, "weight_exponent": g}
        rates = theory.class_growth_rates(make_problem(tiny(**fields)))
        np.testing.assert_allclose(rates[0], rates[-1], rtol=1e-12)
    assert g == pytest.approx(0.5, abs=1e-14)  # at c_b = c, as with free features
    at_one = theory.balancing_exponent(8, 2, 1.0, [0.0, 0.5, 0.9])
    np.testing.assert_allclose(at_one, 1, rtol=1e-14)


@pytest.mark.parametrize("beta", [0.0, 1e-3, 0.3, 1.0, 100.0])
@pytest.mark.parametrize("kappa", [(1.0, 1.0, 1.0, 1.0), (41.0, 9.0, 3.0, 1.5)])
def test_the_end_has_the_least_nuclear_norm_that_its_margins_allow(kappa, beta):
    """A dual certificate: multipliers of the margins, of which none is negative, in the subdifferential."""
    T = np.diag(np.array(kappa) / [100, 20, 5, 2]) + beta
    found = geometry.coupled_seli(T)
    values, vectors = np.linalg.eigh(T)
    back = (vectors / np.sqrt(values)) @ vectors.T
    U, s, Vt = np.linalg.svd(found.logits @ back)
    polar = U[:, :3] @ Vt[:3]
    multipliers = polar @ back
    own = np.eye(4, dtype=bool)
    assert (multipliers[~own] < 0).all()  # each margin z_y - z_j >= 1 has one
    np.testing.assert_allclose(multipliers.sum(axis=0), 0, atol=1e-10 * np.abs(multipliers).max())
    np.testing.assert_allclose(
        -multipliers[~own].sum(), s.sum(), rtol=1e-9
    )  # what the dual is worth
    root = (vectors * np.sqrt(values)) @ vectors.T
    np.testing.assert_allclose(found.classifier, (U[:, :3] * s[:3]) @ U[:, :3].T, atol=1e-10 * s[0])
    np.testing.assert_allclose(
        found.features, root @ (Vt[:3].T * s[:3]) @ Vt[:3] @ root, atol=1e-10 * T.max() * s[0]
    )
    if beta == 0:
        plain = geometry.seli(1 / np.diag(T))
        for mine, other in zip(found, plain, strict=True):
            np.testing.assert_allclose(mine, other, atol=1e-12 * np.abs(other).max())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "far"),
    [({"bias": "hidden"}, 1e-3), pytest.param(KERNELS[1], 1e-2, marks=SLOW)],
)
def test_training_ends_where_the_limit_says(tiny, changes, far):
    """Distances fall as 1 / margin, a few over 3000 of them; a bias of the logits adds its logarithm."""
    fields = {"init": "collapsed", "init_scale": 1e-2, "stop_margin": 3e3, "rtol": 1e-5}
    config = tiny(clock="loss", save_state=True, **fields, **changes)
    ds, problem = ssm.simulate(config), make_problem(config)
    last = int(np.flatnonzero(np.isfinite(ds.margin.values))[-1])
    assert ds.margin[last] > 2e3
    W, H = ds.W.values[last], features_of(ds, problem, last)
    M = np.stack([H[:, problem.labels == c].mean(1) for c in range(4)], axis=1)
    W = W - W.mean(axis=0)
    limit = terminal.limit(config, problem)
    plain = geometry.seli(geometry.effective_counts(problem.counts, problem.kernel_eigenvalues))
    for found, end in zip((W @ W.T, M.T @ M, W @ M), limit, strict=True):
        unit = found / np.linalg.norm(found)
        assert np.linalg.norm(unit - end / np.linalg.norm(end)) < far
    own, other = (x.classifier / np.linalg.norm(x.classifier) for x in (limit, plain))
    assert np.linalg.norm(own - other) > 5 * far  # the limit without what is shared is another one


def test_grids_over_the_fields_are_single_runs_of_few_programs(tiny):
    base = tiny(loss="squared", init="collapsed", t1=60.0, coupling=0.5, save_state=True)
    before = trajectories.num_compilations()
    grid = ssm.sweep({"between_coupling": (0.1, 0.2, 0.5), "coupling": (0.5, 1.0)}, base)
    assert trajectories.num_compilations() <= before + 1
    biases = ssm.sweep({"bias": ("none", "both")}, base)
    for between in (0.1, 0.5):
        alone = ssm.simulate(dataclasses.replace(base, between_coupling=between))
        own = grid.sel(between_coupling=between, coupling=0.5)
        np.testing.assert_allclose(own.strength, alone.strength, rtol=1e-12, atol=1e-15)
    for bias in ("none", "both"):
        alone = ssm.simulate(dataclasses.replace(base, bias=bias))
        np.testing.assert_allclose(
            biases.sel(bias=bias).strength, alone.strength, rtol=1e-12, atol=1e-15
        )


@pytest.mark.slow
def test_float32_and_geometry_know_the_fields(run):
    changes = {"loss": "cross_entropy", "t1": 60.0, "init_scale": 0.1, **KERNELS[1]}
    whole = run(geometry=True, **changes)
    half = run(dtype="float32", **changes)
    np.testing.assert_allclose(
        half.strength, whole.strength, atol=1e-3
    )  # two solves at 1e-6, in seven digits
    for name in ("seli_distance", "etf_distance", "nc1", "nc4"):
        assert np.isfinite(whole[name].values[1:]).all()


def test_what_is_not_known_is_refused_by_name(tiny):
    def problem(**changes):
        return make_problem(tiny(**changes))

    for changes, name in (
        ({"coupling": 0.3, "between_coupling": 0.1}, "between_coupling=0.1"),
        ({"bias": "hidden"}, "bias='hidden'"),
        ({"bias": "output"}, "bias='output'"),
        ({"bias": "both"}, "bias='both'"),
    ):
        own, config = problem(**changes), tiny(**changes)
        for refused in (
            lambda own=own: regularised.cross_strengths(own, 0.1, 0.1),
            lambda own=own: regularised.deep_cross_strength(own, 0.1, 0.1, 3),
            lambda own=own, config=config: terminal.approach(config, own, 1e3),
            lambda own=own, config=config: terminal.limit_state(config, own),
        ):
            with pytest.raises(InputError, match=f"^{name}: must be [^\n]*$"):
                refused()
    with pytest.raises(InputError, match=r"^between_coupling=0.1: must be 0$"):
        changes = {"loss": "cdt", "coupling": 0.3, "between_coupling": 0.1}
        terminal.limit(tiny(**changes), problem(**changes))
    with pytest.raises(InputError, match=r"^bias='both': must be none or hidden"):
        adjusted_growth.block_growth_rates(tiny(bias="both"), problem(bias="both"))
    with pytest.raises(InputError, match=r"^between_coupling="):
        step.grid(4.0, coupling=0.1, between_coupling=0.2)
    with pytest.raises(InputError, match=r"^bias='some'"):
        step.grid(4.0, bias="some")  # pyright: ignore[reportArgumentType] # wrong on purpose
    with pytest.raises(ValueError, match="positive definite"):
        geometry.coupled_seli(-np.eye(3))


CROSS = [{"weight_exponent": 0.0, **KERNELS[0]}, {"weight_exponent": 1.3, "bias": "hidden"}, {"weight_exponent": 0.7, **KERNELS[1]}]  # fmt: skip


def block_shares(ds):
    """Shares of their targets, (time, block)."""
    return (ds.block_strength / ds.block_target).transpose("time", "block").values


@pytest.mark.parametrize("changes", CROSS)
def test_the_cross_component_of_spectral_runs(run, tiny, changes):
    """Under the squared loss, where minorities at first may follow majorities the wrong way. 1e-8 is some tens of
    the tolerances of a step of the run; a learning time is read from its dense output."""
    config = {"loss": "squared", "init": "spectral", "rtol": 1e-10, "save_state": True, **changes}
    ds, problem = run(**config), make_problem(tiny(**config))
    length = ds.block_target.values[1]
    found = exact.cross_mode(ds.time.values, problem, 1e-6) / length
    np.testing.assert_allclose(found, block_shares(ds)[:, 1], atol=1e-8)
    if changes["weight_exponent"] > 1:
        assert found.min() < -0.01
    learned = exact.cross_learning_time(problem, 1e-6)
    assert learned == pytest.approx(ds.block_learning_time.values[1], rel=1e-7)


@UNCHECKED
@pytest.mark.parametrize("clock", ["time", pytest.param("loss", marks=SLOW)])
@pytest.mark.parametrize("changes", CROSS)
def test_seven_numbers_are_spectral_runs_under_cross_entropy(run, tiny, changes, clock):
    """As in test_cross_entropy.py, by either clock; 1e-8 and 1e-6 are some tens and some hundred tolerances."""
    config = {"init": "spectral", "save_state": True, "clock": clock, **changes}
    config |= (
        {"rtol": 1e-10, "t1": 300.0} if clock == "time" else {"rtol": 1e-8, "stop_margin": 30.0}
    )
    ds, problem = run(**config), make_problem(tiny(**config))
    ds = ds.dropna("time")
    found = exact.cross_entropy_step(ds.time.values, problem, 1e-6, clock=clock)
    shares = block_shares(ds)
    close = 1e-8 if clock == "time" else 1e-6
    np.testing.assert_allclose(found.blocks, shares, atol=close * np.abs(shares).max())
    np.testing.assert_allclose(
        found.class_strengths, ds.class_strength.values[:, [0, -1]], atol=close * 100
    )
    if "bias" in ds:
        apart = ds.bias.values[:, 0] - ds.bias.values[:, -1]
        np.testing.assert_allclose(found.logit_bias, apart, atol=close * 10)
    times = exact.cross_entropy_learning_times(problem, 1e-6, clock=clock)
    np.testing.assert_allclose(
        times, ds.block_learning_time.values, rtol=1e-4 if clock == "loss" else 1e-6
    )


def test_any_small_start_tends_to_what_grows(tiny):
    """What is left of the decaying part after five e-folds is e^-10 of the strength."""
    problem = make_problem(
        tiny(bias="hidden", coupling=0.3, between_coupling=0.1, weight_exponent=0.5)
    )
    rate = step.growth_rates(step.step_of(problem))[1]
    times = np.array([5.0, 8.0]) / rate
    for growing in (True, False):
        strength = exact.cross_mode(times, problem, 1e-12, growing=growing)
        slope = np.log(strength[1] / strength[0]) / np.diff(times)[0]
        assert slope == pytest.approx(2 * rate, rel=1e-5 if growing else 1e-4)


@pytest.mark.parametrize("loss", ["squared", "cross_entropy"])
def test_a_bias_of_the_logits_comes_to_rest_before_features(tiny, loss):
    """From 1e-24, where features have hardly moved at t = 60; softmax of the bias is then p, and its strength is that of a
    start at rest."""
    problem = make_problem(tiny(bias="both", coupling=0.3, weight_exponent=0.2))
    times = np.array([0.0, 60.0])
    if loss == "squared":
        found, rest = (exact.cross_mode(times, problem, 1e-24, growing=x) for x in (False, True))
        np.testing.assert_allclose(found[1], rest[0], rtol=1e-9)
        return
    found = exact.cross_entropy_step(times, problem, 1e-24)
    risk = problem.counts * problem.class_weights
    # the slowest part goes as e^(-min(p) t k_A k_B s^2 / k), here e^-10 at least
    assert found.logit_bias[1] == pytest.approx(np.log(risk[0] / risk[-1]), abs=1e-3)


@UNCHECKED
@pytest.mark.slow
def test_points_of_a_grid_that_shares_are_those_alone():
    grid = step.grid(
        np.array([3.0, 30.0])[:, None],
        0.5,
        0.3,
        between_coupling=np.array([0.0, 0.1, 0.3]),
        bias="hidden",
    )
    times = np.array([0.0, 30.0, 200.0])
    curves, learned = step.curves(times, grid, 1e-6), step.learning_times(grid, 1e-6)
    entropy = exact.cross_entropy_step(times, grid, 1e-6).blocks
    assert curves.shape == entropy.shape == (2, 3, 3, 3) and learned.shape == (2, 3, 3)
    for i, R in enumerate((3.0, 30.0)):
        for j, b in enumerate((0.0, 0.1, 0.3)):
            one = step.grid(R, 0.5, 0.3, between_coupling=b, bias="hidden")
            # steps and iterations are each point's own but for the number of iterations
            np.testing.assert_allclose(step.curves(times, one, 1e-6), curves[i, j], rtol=1e-11)
            np.testing.assert_allclose(step.learning_times(one, 1e-6), learned[i, j], rtol=1e-11)
            alone = exact.cross_entropy_step(times, one, 1e-6).blocks
            np.testing.assert_allclose(alone, entropy[i, j], rtol=1e-11)


def test_what_is_kept_of_seven_numbers():
    grid = step.grid(10.0, 0.3, 0.3, between_coupling=0.1, bias="both")
    start = exact.symmetric_start(grid, 1e-3, 2e-4)
    found = exact.cross_entropy_step(np.array([0.0, 100.0, 1e4]), grid, start)
    f = np.sqrt(grid.kernel / grid.counts)
    shared = np.array(
        [1.0, -1.0]
    )  # features are a f_A = own + sqrt(beta) h, and -b f_B = -own + sqrt(beta) h
    # two unknowns a, b for each h: what is kept is a quadratic form of the features in K^-1
    y, features = found.classifier, found.features * f * shared
    T = np.diag(f**2 / grid.sizes) + grid.common
    kept = y**2 - np.einsum("ti,ij,tj->t", features, np.linalg.inv(T), features)
    np.testing.assert_allclose(kept, kept[0], atol=1e-11 * y[-1] ** 2)
    assert kept[0] == pytest.approx(2e-4, rel=1e-9)


@UNCHECKED
def test_biases_move_curves_of_contrasts_but_hardly_their_learning_times_under_cross_entropy():
    """Contrasts feel what the softmax makes of the other group, which shows from logits of order 1 on."""
    options = {"num_classes": 4, "minority_count": 2, "between_coupling": 0.1}
    plain, *biased = (step.grid(4.0, 0.5, 0.3, bias=own, **options) for own in BIASES)  # pyright: ignore[reportArgumentType] # their names
    learned = exact.cross_entropy_learning_times(plain, 1e-6)[[0, 2]]
    times = np.linspace(0, 1.6 * learned.max(), 50)
    shares = exact.cross_entropy_step(times, plain, 1e-6).blocks[:, [0, 2]]
    for own in biased:
        found = exact.cross_entropy_learning_times(own, 1e-6)[[0, 2]]
        np.testing.assert_allclose(found, learned, rtol=0.01)
        there = exact.cross_entropy_step(times, own, 1e-6).blocks[:, [0, 2]]
        moved = np.abs(there - shares).max(axis=0) / shares.max(axis=0)
        assert (moved > 0.03).all() and moved[0] > 0.15


@UNCHECKED
def test_class_times_are_when_the_margin_is_there():
    grid = step.grid(np.array([3.0, 30.0]), 0.3, 0.3, between_coupling=0.1, bias="both")
    found = exact.cross_entropy_class_times(grid, 1e-6)
    for group in (0, 1):
        at = exact.cross_entropy_step(found[:, group, None], grid, 1e-6).class_margins[:, 0, group]
        np.testing.assert_allclose(at, 0.5, rtol=1e-9)
