"""Where cross-entropy ends and how it gets there, in closed form: against the flow and against runs."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from ssm import Config, InputError, geometry, losses, spectral, states, terminal
from ssm.problem import make_problem

CASES = [
    {},
    {"weight_exponent": 1.0},
    {"coupling": 0.3, "weight_exponent": 0.5},
    {"loss": "logit_adjustment"},
    {"loss": "cdt", "multiplicative_adjustment": 0.4, "coupling": 0.1},
    {"loss": "ldam", "logit_scale": 2.0},
    {"loss": "focal", "focusing": 2.0, "weight_exponent": 0.5},
    {"loss": "vs", "focusing": 1.0, "largest_margin": 0.5, "coupling": 1.0},
]


def case(changes, **more):
    config = Config(num_classes=4, minority_count=2, imbalance_ratio=4, **changes, **more)
    return config, make_problem(config)


def log_gradients(config, problem, logits):
    """Logarithms of |dl/dz| of a sample of each class, by the losses that runs have."""
    adjustment = losses.adjustment(problem.counts, **config.adjustments)
    labels = jnp.arange(len(logits))
    logs = losses.adjusted_cross_entropy_log_gradient(jnp.array(logits), labels, adjustment)
    return np.array(logs)


@pytest.mark.parametrize("changes", CASES)
def test_at_a_large_margin_classifier_and_features_grow_at_one_rate(changes):
    """The flow of `vector_field`, dW/dt = -sum_c n_c w_c g_c m_c^T and dm_c/dt = -kappa_c w_c W^T g_c,
    moves the state along itself. What is left of order 1 / margin is a few over 1e6; with the gaps of
    the limit itself it would be of order 1."""
    config, problem = case(changes)
    margin = 1e6
    state = terminal.approach(config, problem, margin)
    logs = log_gradients(config, problem, state.gram.logits)
    g = np.where(np.eye(4, dtype=bool), -1, 1) * np.exp(logs - logs.max())
    weighted = g * problem.class_weights
    moved_W = -(weighted * problem.counts) @ state.means.T
    moved_M = -state.W.T @ weighted * problem.kernel_eigenvalues
    for moved, place in ((moved_W, state.W), (moved_M, state.means)):
        along = moved / np.linalg.norm(moved) - place / np.linalg.norm(place)
        assert np.linalg.norm(along) < 50 / margin
    rates = [
        (moved * place).sum() / (place**2).sum()
        for moved, place in ((moved_W, state.W), (moved_M, state.means))
    ]
    assert rates[0] == pytest.approx(rates[1], rel=50 / margin)


@pytest.mark.parametrize("changes", CASES)
def test_the_approach_has_its_margin_and_tends_to_the_limit(changes):
    config, problem = case(changes)
    adjusted = losses.adjustment(problem.counts, **config.adjustments)
    f, own = np.array(adjusted.factors), np.eye(4, dtype=bool)
    target = terminal.limit(config, problem)
    for margin in (1e3, 1e6):
        state = terminal.approach(config, problem, margin)
        seen = f[:, None] * state.gram.logits + np.array(adjusted.offsets)[:, None]
        gaps = np.diag(seen) - np.array(adjusted.margins) - seen
        assert gaps[~own].min() == pytest.approx(margin, rel=1e-12)
        effective = geometry.effective_counts(problem.counts, problem.kernel_eigenvalues)
        np.testing.assert_allclose(  # balanced in the metric of the flow
            state.W.T @ state.W, (state.means * effective) @ state.means.T, atol=1e-12 * margin
        )
        assert (state.distances(target) < 30 / margin).all()
    along = terminal.kept_row(config, problem) @ state.gram.logits  # what the flow keeps has no row
    np.testing.assert_allclose(along, 0, atol=1e-12 * margin)
    at = terminal.limit_state(config, problem)
    np.testing.assert_allclose(at.distances(target), 0, atol=1e-14)


def test_without_factors_the_limit_is_seli_or_the_simplex():
    for coupling, wanted in ((0.0, geometry.seli(np.array([8, 8, 2, 2]))), (1.0, geometry.etf(4))):
        found = terminal.limit(*case({"coupling": coupling, "loss": "ldam"}))
        # the logits have one row less along the margins' direction: none
        for own, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(
                own / np.linalg.norm(own), other / np.linalg.norm(other), atol=1e-14
            )


@pytest.mark.slow
def test_what_a_kept_row_adds_is_the_mean_over_draws(rng):
    """Root mean square over 4000 draws of the row, whose relative error is some 1 / sqrt(8000)."""
    config, problem = case({"weight_exponent": 0.5}, init_scale=1e-2)
    margin, k = 1e4, 4
    state, target = terminal.approach(config, problem, margin), terminal.limit(config, problem)
    squares = [
        state._replace(W=state.W + rng.normal(0, 1e-2, k) / np.sqrt(k)).distances(target) ** 2
        - state.distances(target) ** 2
        for _ in range(4000)
    ]
    found = np.sqrt(np.maximum(np.mean(squares, axis=0), 0))
    expected = terminal.kept_row_distances(config, problem, margin)
    np.testing.assert_allclose(found, expected, rtol=0.05, atol=1e-12)
    both = terminal.expected_distances(config, problem, margin)
    np.testing.assert_allclose(both, np.hypot(state.distances(target), expected), rtol=1e-14)


def test_a_row_is_taken_out(rng):
    x, counts = np.array([1.0, 2.0, 0.5]), np.array([5, 2, 1])
    state = states.ClassState(rng.normal(size=(3, 3)), rng.normal(size=(3, 3)), counts)
    less = state.without_row(x)
    np.testing.assert_allclose(x @ less.W, 0, atol=1e-14)
    y = np.array([2.0, -1.0, 0.0])  # orthogonal to x
    np.testing.assert_allclose(y @ less.W, y @ state.W, rtol=1e-12)
    np.testing.assert_array_equal(less.means, state.means)


def test_balanced_states_have_their_logits_and_the_least_norm(rng):
    Z, counts = rng.normal(size=(4, 4)), np.array([7.0, 3.0, 2.5, 1.0])
    state = states.balanced_state(Z, counts)
    np.testing.assert_allclose(state.gram.logits, Z, atol=1e-13)
    norm = (state.W**2).sum() + (counts * state.means**2).sum()
    nuclear = np.linalg.svd(Z * np.sqrt(counts), compute_uv=False).sum()
    assert norm == pytest.approx(2 * nuclear, rel=1e-13)
    target = geometry.Geometry(*state.gram)
    np.testing.assert_allclose(state.distances(target), 0, atol=1e-14)


@pytest.mark.slow
def test_the_gap_between_majorities_follows_its_equation(run):
    """Of a run of CDT by the loss clock: 0.01 is some logarithms beside a margin of 300."""
    found = run(
        loss="cdt",
        multiplicative_adjustment=0.5,
        clock="loss",
        init="collapsed",
        num_saves=200,
        save_state=True,
        rtol=1e-5,
        stop_margin=3e4,
    ).dropna("time")
    config, problem = case({"loss": "cdt", "multiplicative_adjustment": 0.5})
    found = found.isel(time=found.margin.values > 300)
    logits, margins = found.W.values @ found.H.values, found.margin.values
    gaps = (logits[:, 0, 0] - logits[:, 1, 0] + logits[:, 1, 1] - logits[:, 0, 1]) / 2 / margins
    wanted = terminal.majority_gaps(config, problem, margins, gaps[0])
    np.testing.assert_allclose(gaps, wanted, atol=0.01)
    assert gaps[0] - gaps[-1] > 0.1
    np.testing.assert_array_equal(terminal.majority_gaps(config, problem, margins, 1.0), 1)


def test_what_has_no_such_end_is_refused():
    with pytest.raises(InputError, match=r"^loss='squared'"):
        terminal.limit(*case({"loss": "squared"}))
    margins = np.array([1.0, 2.0])
    for changes in ({"weight_exponent": 1.0}, {"coupling": 0.5}):
        with pytest.raises(InputError, match=r"^problem=.*unit weights, free features"):
            terminal.majority_gaps(*case(changes), margins, 2.0)
    config = dataclasses.replace(case({})[0], profile="long_tailed")
    with pytest.raises(InputError, match=r"^problem=.*two groups"):
        terminal.majority_gaps(config, make_problem(config), margins, 2.0)
    assert spectral.LEARNED == 0.5
