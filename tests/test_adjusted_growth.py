"""Early growth under losses with margins, against the flow of the losses that runs have."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from ssm import Config, InputError, adjusted_growth, losses, predictions, spectral, theory
from ssm.problem import make_problem

CASES = [
    {},
    {"weight_exponent": 0.7, "coupling": 0.2},
    {"loss": "logit_adjustment"},
    {"loss": "cdt"},
    {"loss": "vs", "weight_exponent": 0.5},
    {"loss": "ldam", "largest_margin": 5.0, "logit_scale": 1.0},
    {"loss": "focal", "label_smoothing": 0.1},
]


def case(changes):
    config = Config(num_classes=5, minority_count=4, imbalance_ratio=9, **changes)
    return config, make_problem(config)


def gradient_of(config, problem):
    """The gradient as a function of the logits of the classes, compiled."""
    adjustment = losses.adjustment(problem.counts, **config.adjustments)

    @jax.jit
    def gradient(logits):
        return losses.adjusted_cross_entropy_gradient(logits, jnp.arange(len(logits)), adjustment)

    return lambda logits: np.asarray(gradient(logits))


@pytest.mark.parametrize("changes", CASES)
def test_rates_are_singular_values_of_the_gradient(changes):
    config, problem = case(changes)
    root = np.sqrt(problem.counts * problem.kernel_eigenvalues)
    A = -gradient_of(config, problem)(np.zeros((5, 5))) * problem.class_weights * root
    A = A / problem.counts.sum()
    np.testing.assert_allclose(adjusted_growth.growth_matrix(config, problem), A, atol=1e-15)
    dense = np.linalg.svd(A, compute_uv=False)
    found = adjusted_growth.block_growth_rates(config, problem)
    # three majorities (round(2.5) minorities are 2), so two contrasts, one among minorities, one across
    np.testing.assert_allclose(np.sort(found[[0, 0, 1, 2]])[::-1], dense[:4], rtol=1e-12)
    if not changes.get("loss"):
        plain = theory.component_growth_rates(problem, spectral.components(problem))
        np.testing.assert_allclose(
            np.sort(found[[0, 0, 1, 2]])[::-1], np.sort(plain)[::-1], rtol=1e-12
        )


@pytest.mark.parametrize("changes", CASES)
def test_a_group_alone_is_learned_when_its_own_equation_says(changes):
    """d log x / dt = 2 r(x) by DOP853; the trapezoidal rule over 100 shares is right to 1e-3."""
    config, problem = case(changes)
    gradients = gradient_of(config, problem)
    start = predictions.expected_start_strength(config, problem)
    times = adjusted_growth.group_learning_times(config, problem)
    for group, members in enumerate(((0, 1, 2), (3, 4))):
        c = members[0]
        mine = np.isin(np.arange(5), members)
        contrast = np.outer(mine, mine) * (np.eye(5) - 1 / len(members))
        n, kappa = problem.counts[c], problem.kernel_eigenvalues[c]
        pull = problem.class_weights[c] * np.sqrt(n * kappa) / problem.counts.sum()

        def slope(_, log_x, contrast=contrast, members=members, pull=pull):
            g = gradients(np.exp(log_x[0]) * contrast)
            return [2 * (g[members[1], members[0]] - g[members[0], members[0]]) * pull]

        def learned(_, log_x):
            return log_x[0] - np.log(0.5)

        learned.terminal = True
        first = [np.log(start[c] * np.sqrt(kappa / n))]
        run = solve_ivp(slope, (0, 1e5), first, "DOP853", events=learned, rtol=1e-8)
        assert times[group] == pytest.approx(run.t[-1], rel=1e-3)


def test_what_is_added_to_logits_moves_the_cross_block_alone():
    plain = adjusted_growth.block_growth_rates(*case({"loss": "cross_entropy"}))
    shifted = adjusted_growth.block_growth_rates(*case({"loss": "logit_adjustment"}))
    np.testing.assert_allclose(shifted[[0, 2]], plain[[0, 2]], rtol=1e-12)
    # from the arithmetic to the harmonic mean of the counts, n_c and k_c swapped in the first
    n, k = np.array([36, 4]), np.array([3, 2])
    assert plain[1] == pytest.approx(np.sqrt((k[::-1] @ n) / 5) / (k @ n), rel=1e-12)
    balanced = np.sqrt(n.prod() / (k @ n) * 5) / (k @ n)
    assert shifted[1] == pytest.approx(balanced, rel=1e-12)


def test_company_changes_the_time_of_the_group_that_is_last():
    config, problem = case({"loss": "ldam", "largest_margin": 5.0, "logit_scale": 1.0})
    alone = adjusted_growth.group_learning_times(config, problem)
    bounds = adjusted_growth.learning_range(config, problem)
    assert bounds.earliest[0] == bounds.latest[0] == alone[0]
    assert bounds.earliest[1] <= alone[1] <= bounds.latest[1]
    assert bounds.earliest[1] < 0.95 * bounds.latest[1]
    assert bounds.ratio == (bounds.earliest[1] / alone[0], bounds.latest[1] / alone[0])


def test_what_has_no_such_rates_is_refused():
    with pytest.raises(InputError, match=r"^loss='squared'"):
        adjusted_growth.growth_matrix(*case({"loss": "squared"}))
    with pytest.raises(InputError, match=r"^problem=.*two groups"):
        adjusted_growth.block_growth_rates(*case({"profile": "long_tailed"}))
    one = Config(num_classes=2, imbalance_ratio=4)
    found = adjusted_growth.block_growth_rates(one, make_problem(one))
    np.testing.assert_array_equal(np.isnan(found), [True, False, True])
