"""Closed forms against each other and against independent numerics; tests/test_flow.py holds runs against them."""

import dataclasses
import itertools

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.linalg import expm

from ssm import losses, predictions, spectral, theory
from ssm.dynamics.column_layouts import make_columns, sample_columns
from ssm.dynamics.starts import make_start
from ssm.problem import make_problem, simplex_labels


def dense_kernel_root(problem):
    same = problem.labels[:, None] == problem.labels
    c = float(problem.coupling)
    values, vectors = np.linalg.eigh((1 - c) * np.eye(len(same)) + c * same)
    return (vectors * np.sqrt(values.clip(0))) @ vectors.T


@pytest.mark.parametrize("profile", [{}, {"profile": "long_tailed"}])
@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("coupling", [0.0, 0.1, 0.5])
def test_growth_rates_are_singular_values_of_the_flow(tiny, coupling, exponent, profile):
    problem = make_problem(tiny(coupling=coupling, weight_exponent=exponent, **profile))
    n = problem.counts.sum()
    S = simplex_labels(problem.labels, 4)
    weighted = S * problem.class_weights[problem.labels] @ dense_kernel_root(problem)
    dense = np.linalg.svd(weighted, compute_uv=False)[:3] / n
    modes = spectral.label_spectrum(
        problem.counts, problem.class_weights, kernel_eigenvalues=problem.kernel_eigenvalues
    )
    np.testing.assert_allclose(modes.singular_values / n, dense, rtol=1e-12)
    if not profile:  # the blocks of STEP are growing modes by themselves
        rates = theory.component_growth_rates(problem, spectral.components(problem))
        np.testing.assert_allclose(np.sort(rates)[::-1], dense, rtol=1e-12)


def test_growth_rates_of_step_classes(tiny):
    problem = make_problem(tiny(coupling=0.25, weight_exponent=0.7))
    rates = theory.component_growth_rates(problem, spectral.components(problem))
    own = theory.class_growth_rates(problem)
    np.testing.assert_allclose(rates[[0, 2]], own[[0, 2]], rtol=1e-12)
    n, w = problem.counts, problem.class_weights
    np.testing.assert_allclose(own, w * np.sqrt(n * (1 + 0.25 * (n - 1))) / n.sum(), rtol=1e-14)


def test_components_that_weights_mix_have_no_rate_of_their_own(tiny):
    weighted = make_problem(tiny(profile="long_tailed", weight_exponent=1.0))
    assert np.isnan(theory.component_growth_rates(weighted, spectral.components(weighted))).all()
    plain = make_problem(tiny(profile="long_tailed"))
    components = spectral.components(plain)
    np.testing.assert_allclose(
        theory.component_growth_rates(plain, components),
        components.singular_values / plain.counts.sum(),
        rtol=1e-12,
    )


@pytest.mark.parametrize(("coupling", "expected"), [(0.0, 0.5), (1.0, 1.0)])
def test_balancing_exponent_at_both_ends(coupling, expected):
    assert theory.balancing_exponent(50, 5, coupling) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("coupling", [0.0, 0.03, 0.4, 1.0])
def test_the_balancing_exponent_balances(tiny, coupling):
    exponent = theory.balancing_exponent(8, 2, coupling)
    rates = theory.class_growth_rates(
        make_problem(tiny(coupling=coupling, weight_exponent=exponent))
    )
    np.testing.assert_allclose(rates[0], rates[-1], rtol=1e-12)


def test_the_balancing_exponent_of_equal_counts_is_undefined():
    assert np.isnan(theory.balancing_exponent(5, 5, 0.5))


@pytest.mark.parametrize(
    ("coupling", "expected"), [(0.0, 0.0), (0.1, np.log(75.9 / 5.9) / np.log(15)), (1.0, 1.0)]
)
@pytest.mark.parametrize("loss", ["cross_entropy", "squared"])
def test_the_margin_exponent_grows_the_margins_of_two_classes_alike(coupling, expected, loss):
    """The closed system of two classes, y, a and b, by DOP853: from equal margins they stay equal to
    any size at that exponent alone."""
    n, s = np.array([750.0, 50.0]), np.sqrt(2)
    exponent = theory.margin_exponent(750, 50, coupling)
    assert exponent == pytest.approx(expected, abs=1e-14)
    kappa = 1 + coupling * (n - 1)
    overlap = np.sqrt(kappa / n)

    def apart(g):
        w = n**-g * n.sum() / (n ** (1 - g)).sum()
        rate = w * np.sqrt(n * kappa) / n.sum()

        def flow(_, state):
            margins = s * state[0] * state[1:] * overlap
            wrong = 1 / (1 + np.exp(margins)) if loss == "cross_entropy" else (1 - margins) / 2
            return [s * (rate * wrong) @ state[1:], *(s * rate * wrong * state[0])]

        def learned(_, state):
            return s * state[0] * (state[1:] * overlap).min() - 0.9

        learned.terminal = True
        start = [1e-3, *(1e-3 / overlap)]
        run = solve_ivp(flow, (0, 1e5), start, "DOP853", events=learned, rtol=1e-10, atol=1e-14)
        assert run.status == 1
        return np.log(run.y[1, -1] * overlap[0] / (run.y[2, -1] * overlap[1]))

    assert apart(exponent) == pytest.approx(0, abs=1e-8)
    assert apart(exponent - 0.1) > 0.02 and apart(exponent + 0.1) < -0.02


def test_the_margin_exponent_of_equal_counts_is_undefined():
    assert np.isnan(theory.margin_exponent(5, 5, 0.5))


@pytest.mark.parametrize("coupling", [0.0, 1.0])
@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_learning_time_ratio_is_the_ratio_of_rates(tiny, coupling, exponent):
    problem = make_problem(tiny(coupling=coupling, weight_exponent=exponent))
    rates = theory.class_growth_rates(problem)
    ratio = theory.learning_time_ratio(4.0, exponent, coupling)
    assert ratio == pytest.approx(rates[0] / rates[-1], rel=1e-12)
    with pytest.raises(ValueError, match=r"coupling=0.5"):
        theory.learning_time_ratio(4.0, exponent, 0.5)


def test_the_sigmoid_solves_its_equation_and_crosses_at_the_learning_time():
    rate, start, target = np.array([0.3]), np.array([1e-4]), np.array([2.0])
    times = np.linspace(0, 40, 20001)
    a = theory.sigmoid(times, rate, start, target)[:, 0]
    slope = np.gradient(a, times)[1:-1]
    expected = (2 * rate * a * (1 - a / target))[1:-1]
    np.testing.assert_allclose(slope, expected, atol=1e-6)
    half = theory.learning_time(rate, start / target, "squared", 10)[0]
    assert np.interp(half, times, a) == pytest.approx(1.0, abs=1e-6)
    assert half == pytest.approx(np.log(2 / 1e-4 - 1) / 0.6)


def test_what_starts_learned_needs_no_time():
    shares = np.array([0.6, 2.0])
    times = theory.learning_time(np.ones(2), shares, "squared", 4)
    np.testing.assert_array_equal(times, [0, 0])


@pytest.mark.parametrize("profile", [{}, {"profile": "long_tailed"}])
@pytest.mark.parametrize("coupling", [0.0, 0.3, 1.0])
def test_the_linear_phase_against_the_matrix_exponential(tiny, coupling, profile):
    config = tiny(coupling=coupling, weight_exponent=0.8, init_scale=0.1, **profile)
    problem = make_problem(config)
    columns = make_columns(config, problem)
    params, *_ = make_start(config, problem, columns)
    means = columns.class_means(params.H)
    n, w = problem.counts, problem.class_weights
    P, zero = np.eye(4) - 0.25, np.zeros((4, 4))
    generator = np.block(
        [
            [zero, P @ np.diag(w * n) / n.sum()],
            [np.diag(w * problem.kernel_eigenvalues) @ P / n.sum(), zero],
        ]
    )
    times = np.array([0.0, 3.0, 11.0])
    found = theory.linear_phase(params.W, means, problem, times)
    for t, logits in zip(times, found, strict=True):
        state = expm(generator * t) @ np.vstack([params.W, means.T])
        np.testing.assert_allclose(logits, state[:4] @ state[4:].T, atol=1e-12)


def test_predictions_need_enough_width_and_of_the_squared_loss_a_separable_component(tiny):
    def predicted(**changes):
        config = tiny(**changes)
        problem = make_problem(config)
        return np.isnan(
            predictions.predicted_learning_times(config, problem, spectral.components(problem))
        )

    np.testing.assert_array_equal(predicted(loss="squared"), [False, False, False])
    np.testing.assert_array_equal(predicted(loss="cross_entropy"), [False, False, False])
    np.testing.assert_array_equal(
        predicted(loss="squared", weight_exponent=1.0), [False, True, False]
    )
    np.testing.assert_array_equal(predicted(loss="squared", coupling=0.5), [False, True, False])
    assert predicted(loss="squared", feature_dim=2).all()
    assert not predicted(loss="squared", feature_dim=3).any()


# Quick is each loss, start and coupling with each of the others once or twice.
QUICK_STARTS = {
    (0.0, "gaussian", "squared"),
    (0.0, "collapsed", "cross_entropy"),
    (0.2, "gaussian", "cross_entropy"),
    (0.2, "balanced", "squared"),
    (1.0, "balanced", "cross_entropy"),
    (1.0, "collapsed", "squared"),
}
STARTS = [
    pytest.param(*case, marks=[] if case in QUICK_STARTS else pytest.mark.slow)
    for case in itertools.product(
        (0.0, 0.2, 1.0), ("gaussian", "balanced", "collapsed"), ("squared", "cross_entropy")
    )
]


@pytest.mark.parametrize(("coupling", "init", "loss"), STARTS)
def test_the_expected_start_is_the_mean_over_draws(tiny, init, coupling, loss):
    config = tiny(init=init, coupling=coupling, init_scale=0.3, loss=loss)
    problem = make_problem(config)
    columns = make_columns(config, problem)
    components = spectral.components(problem)
    root = np.sqrt(problem.counts / problem.kernel_eigenvalues)[:, None]
    # within a group all classes have one rate and one noise; the cross contrast has no one of each
    within = components.left[:, components.blocks != "cross"]
    damping = predictions.noise_damping(config, problem)
    growing = np.stack(theory.growing_half(theory.class_growth_rates(problem), damping))
    p_part, q_part = (growing @ within**2)[:, :, None]
    strengths = []
    for seed in range(400):
        params, *_ = make_start(dataclasses.replace(config, seed=seed), problem, columns)
        p, q = within.T @ params.W, within.T @ (root * columns.class_means(params.H).T)
        strengths.append((p_part * q_part * (p_part * p + q_part * q) ** 2).sum(1))
    error = np.std(strengths, axis=0) / 20
    expected = (within**2).T @ predictions.expected_start_strength(config, problem)
    assert (np.abs(np.mean(strengths, axis=0) - expected) < 4 * error).all()


def test_block_curves_need_enough_width(tiny):
    for dim, known in ((2, False), (3, True)):
        config = tiny(loss="squared", feature_dim=dim)
        problem = make_problem(config)
        columns = sample_columns(problem, losses.Squared())
        (W, H, *_), *_ = make_start(config, problem, columns)
        components = spectral.components(problem)
        means = columns.class_means(H)
        curves = theory.block_curves(W, means, problem, components, np.array([0.0, 9.0]))
        assert np.isfinite(curves).all() == known and np.isnan(curves).all() != known
