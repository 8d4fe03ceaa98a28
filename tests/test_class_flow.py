"""Cross-entropy on class means: against runs of all samples, the five numbers of STEP, and SciPy."""

import dataclasses
import itertools

import numpy as np
import pytest
from marks import UNCHECKED
from scipy.integrate import solve_ivp
from scipy.linalg import expm
from scipy.optimize import brentq
from scipy.special import softmax

import ssm
from ssm import exact, predictions, spectral, step, theory
from ssm.dynamics.column_layouts import make_columns
from ssm.dynamics.starts import make_start
from ssm.problem import make_problem
from ssm.theory import class_flow, explicit


def start_of(config):
    """The problem, its components, W and the class means of a start."""
    problem = make_problem(config)
    columns = make_columns(config, problem)
    (W, H, *_), *_ = make_start(config, problem, columns)
    return problem, spectral.components(problem), np.asarray(W), np.asarray(columns.class_means(H))


def times_of_run(config, predicted):
    """The learning times of a run that is long enough for all that is predicted."""
    longest = 1.05 * np.nanmax(predicted)
    # as many saves as other tests' runs have, whose compilation serves those of their size
    return ssm.simulate(dataclasses.replace(config, t1=longest, num_saves=50)).learning_time.values


# Of small starts what is left out is far below the steps, of 1e-4, some of whose errors add up.
STEPS = 1e-3
FAST = {(4, 10.0, 0.0, 0.1)}
GAUSSIAN = [
    pytest.param(*case, marks=[] if case in FAST else pytest.mark.slow)
    for case in itertools.product((4, 10), (10.0, 100.0), (0.0, 0.5, 1.0), (0.0, 0.1, 1.0))
]


@UNCHECKED
@pytest.mark.parametrize(("k", "ratio", "exponent", "coupling"), GAUSSIAN)
def test_every_component_of_gaussian_runs(k, ratio, exponent, coupling):
    """Contrasts within both groups and across, each by its own share of the start."""
    config = ssm.Config(
        num_classes=k,
        imbalance_ratio=ratio,
        weight_exponent=exponent,
        coupling=coupling,
        init_scale=1e-6,
    )
    problem, components, W, means = start_of(config)
    predicted = predictions.predicted_learning_times(
        config, problem, components, predictions.Start(W, means)
    )
    assert predicted.shape == (k - 1,) and np.isfinite(predicted).all()
    np.testing.assert_allclose(predicted, times_of_run(config, predicted), rtol=STEPS)


@UNCHECKED
@pytest.mark.parametrize(
    "changes",
    [
        {"counts": (9, 4, 4, 2), "class_weights": (0.5, 1.0, 3.0, 1.0)},
        pytest.param(
            {"profile": "long_tailed", "num_classes": 5, "imbalance_ratio": 30.0},
            marks=pytest.mark.slow,
        ),
        pytest.param({"label_smoothing": 0.3}, marks=pytest.mark.slow),
        pytest.param({"init": "balanced", "init_scale": 0.01}, marks=pytest.mark.slow),
        pytest.param({"init": "collapsed", "init_scale": 0.1}, marks=pytest.mark.slow),
        pytest.param({"init": "spectral", "init_scale": 0.1}, marks=pytest.mark.slow),
    ],
)
def test_any_counts_weights_labels_and_starts(changes):
    shape = {"num_classes": 4, "imbalance_ratio": 8.0, "coupling": 0.05, "init_scale": 1e-4}
    if "counts" in changes:
        shape = {"profile": "custom", "init_scale": 1e-4}
    config = ssm.Config(feature_dim=6, **{**shape, **changes})
    problem, components, W, means = start_of(config)
    predicted = predictions.predicted_learning_times(
        config, problem, components, predictions.Start(W, means)
    )
    assert np.isfinite(predicted).all()
    np.testing.assert_allclose(predicted, times_of_run(config, predicted), rtol=STEPS)


@UNCHECKED
@pytest.mark.parametrize(
    ("ratio", "scale", "worst"),
    [(100.0, 0.03, 0.02), (1000.0, 0.0133, 0.05)],
)
@pytest.mark.slow
def test_noise_in_the_features(ratio, scale, worst):
    """Up to a damping of 0.2 of the minorities' rate: without noise the cross component would be some tenths off, and with
    it is by what noise fades, hundredths."""
    config = ssm.Config(num_classes=4, feature_dim=6, imbalance_ratio=ratio, init_scale=scale)
    problem, components, W, means = start_of(config)
    start = predictions.Start(W, means)
    predicted = predictions.predicted_learning_times(config, problem, components, start)
    found = times_of_run(config, predicted)
    np.testing.assert_allclose(predicted, found, rtol=worst)
    without = class_flow.component_learning_times(problem, components, W, means)
    assert np.abs(without / found - 1).max() > 3 * np.abs(predicted / found - 1).max()


# Of all starts and problems one product strength of each contrast, along directions of their own
CASES = [
    (10.0, 0.0, 0.0),
    (1e4, 0.5, 0.1),
    pytest.param(1e9, 0.0, 1.0, marks=pytest.mark.slow),
    pytest.param(1e9, 1.0, 0.0, marks=pytest.mark.slow),
    pytest.param(1e9, 0.5, 0.1, marks=pytest.mark.slow),
]


@UNCHECKED
@pytest.mark.parametrize(("ratio", "exponent", "coupling"), CASES)
def test_the_five_numbers_of_step(ratio, exponent, coupling):
    config = ssm.Config(
        num_classes=6,
        minority_fraction=1 / 3,
        imbalance_ratio=ratio,
        weight_exponent=exponent,
        coupling=coupling,
        init="spectral",
        init_scale=1e-6,
    )
    problem, components, W, means = start_of(config)
    found = class_flow.component_learning_times(problem, components, W, means)
    wanted = exact.cross_entropy_learning_times(problem, 1e-12)
    for block, time in zip(spectral.BLOCKS, wanted, strict=True):
        np.testing.assert_allclose(found[components.blocks == block], time, rtol=1e-3)
    without_start = predictions.predicted_learning_times(config, problem, components)
    # turned about, with steps that differ by as much
    np.testing.assert_allclose(without_start, found, rtol=1e-5)
    # margins within the groups and across, of all classes of a group at once
    classes = class_flow.class_learning_times(problem, components, W, means)
    for g, group in enumerate(("majority", "minority")):
        mine = classes[problem.class_groups == group]
        times = mine[0] * np.array([1 - 1e-3, 1 + 1e-3])
        margins = exact.cross_entropy_step(times, problem, 1e-12).class_margins[:, g]
        assert margins[0] < 0.5 < margins[1]
        np.testing.assert_allclose(mine, mine[0], rtol=1e-9)


def test_class_means_by_scipy(rng, monkeypatch):
    """In short steps, W and M as matrices, unequal weights and coupling, and labels smoothed, at logits of some units from the start on."""
    k, d, e = 3, 4, 0.2
    config = ssm.Config(
        profile="custom",
        counts=(12, 5, 2),
        class_weights=(0.7, 1.0, 2.0),
        coupling=0.3,
        label_smoothing=e,
        feature_dim=d,
    )
    problem = make_problem(config)
    components, n = spectral.components(problem), problem.counts.sum()
    W, M = 0.3 * rng.normal(size=(k, d)), 0.3 * rng.normal(size=(d, k))
    noise = 0.01 * problem.class_weights

    def field(_, state):
        W, M = state[: k * d].reshape(k, d), state[k * d :].reshape(d, k)
        P = softmax(W @ M, axis=0)
        G = (P - (1 - e) * np.eye(k) - e / k) * problem.class_weights / n
        dW = -(G * problem.counts) @ M.T
        for c, p in enumerate(P.T):
            dW -= noise[c] * (np.diag(p) - np.outer(p, p)) @ W
        return np.concatenate([dW.ravel(), -(W.T @ G * problem.kernel_eigenvalues).ravel()])

    def ahead(state, j):
        Z = state[: k * d].reshape(k, d) @ state[k * d :].reshape(d, k)
        return (spectral.strengths(Z * problem.counts, components) / components.singular_values)[
            j
        ] - 0.5

    monkeypatch.setattr(explicit, "TOLERANCE", 1e-9)
    first = np.concatenate([W.ravel(), M.ravel()])
    run = solve_ivp(field, (0, 200), first, "DOP853", rtol=1e-10, atol=1e-10, dense_output=True)
    found = class_flow.component_learning_times(problem, components, W, M, noise, e)
    for j, time in enumerate(found):
        assert ahead(first, j) < 0 < ahead(run.sol(200), j)
        wanted = brentq(lambda t, j=j: ahead(run.sol(t), j), 0, 200)
        assert time == pytest.approx(wanted, rel=1e-5)  # both converge to that


def test_the_linear_phase_of_noisy_features(rng):
    """The field where all logits are 0, as a matrix, in its exponential."""
    problem = make_problem(ssm.Config(num_classes=4, imbalance_ratio=5.0, weight_exponent=0.3))
    noise = np.array([3e-3, 3e-3, 1e-3, 1e-3])
    flow = class_flow._flow(problem, noise, 0.1)
    k, P = 4, np.eye(4) - 1 / 4
    A = 0.9 * P * flow.rates
    generator = np.block([[-P * noise.sum() / k, A], [A.T, np.zeros((k, k))]])
    W, N = 1e-7 * rng.normal(size=(2, 1, k, 6))
    states, times = flow.after_the_linear_phase(W, N)
    wanted = expm(times[0] * generator) @ np.concatenate([W[0], N[0]])
    np.testing.assert_allclose(states[0], wanted, rtol=1e-9)
    flow = flow.of_starts((1,))
    logits = np.abs(flow.logits(states)).max()
    assert 0.01 * class_flow.SMALL < logits < 10 * class_flow.SMALL
    tiny = 1e-9 / np.abs(states).max()  # where the field is linear
    np.testing.assert_allclose(
        flow.field(tiny * states)[0], tiny * generator @ states[0], rtol=1e-6, atol=1e-14
    )


def test_several_starts_are_each_alone(rng):
    """Each has steps of its own, of which rounding alone depends on the others."""
    config = ssm.Config(num_classes=4, feature_dim=6, imbalance_ratio=20.0)
    problem = make_problem(config)
    components = spectral.components(problem)
    W, M = rng.normal(size=(2, 3, 4, 6)) * np.geomspace(1e-6, 1, 3)[:, None, None]
    M = M.swapaxes(1, 2)
    whole = class_flow.component_learning_times(problem, components, W, M)
    for i in range(3):
        alone = class_flow.component_learning_times(problem, components, W[i], M[i])
        np.testing.assert_allclose(whole[i], alone, rtol=1e-9)


TOGETHER = {
    "plain": ({"imbalance_ratio": 3.0}, {"imbalance_ratio": 30.0, "weight_exponent": 0.5}),
    # Noise decides in the first only, and labels are smoothed in the second only.
    "noise and smoothing": (
        {"imbalance_ratio": 100.0, "init_scale": 0.03},
        {"label_smoothing": 0.2, "init_scale": 1e-4},
    ),
    "shared": ({"coupling": 0.3, "between_coupling": 0.1}, {"coupling": 0.1}, {"bias": "hidden"}),
    "biases": ({"bias": "output"}, {"bias": "both", "imbalance_ratio": 20.0}),
    "losses and depths": (
        {"loss": "squared", "init_scale": 1e-3},
        {"loss": "squared", "init_scale": 1e-4, "imbalance_ratio": 30.0, "weight_exponent": 0.5},
        {"init_scale": 1e-4},
        {"loss": "squared", "init": "spectral", "depth": 3, "init_scale": 0.1},
    ),
    # Of which the majority's are learned, and the cross component is waited for beyond the most steps.
    "too slow": ({"imbalance_ratio": 2e3, "init_scale": 1e-5}, {"imbalance_ratio": 2.0}),
}


@pytest.mark.parametrize("changes", TOGETHER.values(), ids=TOGETHER)
def test_several_settings_are_each_alone(changes, rng, monkeypatch):
    """Problems of other counts, weights and noise, each with two starts, of which rounding alone depends on the others."""
    monkeypatch.setattr(explicit, "MOST_STEPS", 100)
    monkeypatch.setattr(explicit, "TOGETHER", 3)
    prospects = []
    for change in changes:
        config = ssm.Config(num_classes=4, feature_dim=6, **change)
        problem = make_problem(config)
        W, M = config.init_scale * rng.normal(size=(2, 2, 4, 6))
        start = predictions.Start(W, M.swapaxes(1, 2) / np.sqrt(problem.counts))
        components = spectral.components(problem)
        prospects += [
            predictions.Prospect(config, problem, components, start),
            predictions.Prospect(config, problem, components),  # of the mean start
        ]
    together = predictions.predicted_together(prospects)
    assert np.isfinite(np.concatenate([x.ravel() for x in together])).any()
    for prospect, found in zip(prospects, together, strict=True):
        config, problem, components, start = prospect
        if start is None:
            alone = predictions.predicted_learning_times(*prospect)
            np.testing.assert_allclose(found, alone, rtol=1e-9)
            continue
        found = np.broadcast_to(found, (2, 3))  # at another depth no start decides
        for i, (W, means) in enumerate(zip(*start, strict=True)):
            one = predictions.Start(W, means)
            alone = predictions.predicted_learning_times(config, problem, components, one)
            np.testing.assert_allclose(found[i], alone, rtol=1e-9)


def test_a_heat_map_of_step(rng, monkeypatch):
    """One start over a grid of ratios and exponents, without a run, in blocks: each point as by itself, and of a spectral
    start by the five numbers of STEP."""
    monkeypatch.setattr(explicit, "TOGETHER", 4)
    R, g = np.array([2.0, 30.0])[:, None], np.array([0.0, 0.5, 1.0])
    problems = step.grid(R, g, num_classes=4)
    basis = step.components(problems)
    W, M = 1e-4 * rng.normal(size=(4, 6)), 1e-4 * rng.normal(size=(6, 4))
    found = class_flow.component_learning_times(problems, basis, W, M)
    classes = class_flow.class_learning_times(problems, basis, W, M)
    assert found.shape == (2, 3, 3) and classes.shape == (2, 3, 4)
    for i, j in np.ndindex(2, 3):
        config = ssm.Config(num_classes=4, imbalance_ratio=R[i, 0], weight_exponent=float(g[j]))
        problem = make_problem(config)
        own = basis._replace(singular_values=basis.singular_values[i, 0])
        alone = class_flow.component_learning_times(problem, own, W, M)
        np.testing.assert_allclose(found[i, j], alone, rtol=1e-9)
        alone = class_flow.class_learning_times(problem, own, W, M)
        np.testing.assert_allclose(classes[i, j], alone, rtol=1e-9)
    left, s, scale = basis.left, basis.singular_values, 1e-6
    right = (problems.kernel[..., [0, 0, 1, 1]][..., None] * left / s[..., None, :]).swapaxes(
        -1, -2
    )
    spectral_start = scale * left, scale * right
    found = class_flow.component_learning_times(problems, basis, *spectral_start)
    wanted = exact.cross_entropy_learning_times(problems, scale**2)
    np.testing.assert_allclose(found, wanted, rtol=STEPS)


@pytest.mark.parametrize("ratio", [1e4, 1e9])
def test_what_takes_too_many_steps(ratio, monkeypatch):
    """ERM of free features needs logits of some hundred across, while minorities grow on, whose logits of a half
    slow them down by a tenth of an e-fold of 27."""
    config = ssm.Config(imbalance_ratio=ratio, init="spectral", init_scale=1e-6)
    problem = make_problem(config)
    components = spectral.components(problem)
    monkeypatch.setattr(explicit, "MOST_STEPS", 150)
    found = predictions.predicted_learning_times(config, problem, components)
    np.testing.assert_array_equal(np.isnan(found), components.blocks == "cross")
    start = predictions.mean_start(config, problem)
    monkeypatch.setattr(explicit, "MOST_STEPS", 100_000 if ratio < 1e5 else 150)
    if ratio < 1e5:
        wanted = class_flow.component_learning_times(problem, components, *start)[-1]
    else:  # x' = 2 r x to within that
        rate = theory.component_growth_rates(problem, components)[-1]
        wanted = np.log(0.5 / (1e-12 * np.sqrt(1 / 5))) / (2 * rate)
    np.testing.assert_allclose(found[-4:], wanted, rtol=5e-3)
