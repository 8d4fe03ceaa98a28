"""Coupling, starts and the conserved matrix, against dense matrices."""

import numpy as np
import pytest

from ssm import model, spectral
from ssm.dynamics import make_columns
from ssm.problem import make_problem

COUPLINGS = [0.0, 0.3, 1.0]


def dense_kernel(problem):
    same = problem.labels[:, None] == problem.labels
    c = float(problem.coupling)
    if problem.shared:
        return np.eye(len(problem.labels))
    return (1 - c) * np.eye(len(same)) + c * same


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_couple_is_the_kernel(tiny, rng, coupling):
    problem = make_problem(tiny(coupling=coupling))
    columns = make_columns(problem, "squared")
    X = rng.normal(size=(3, len(problem.labels)))
    coupled = model.couple(X, columns.class_columns, columns.coupling)
    np.testing.assert_allclose(coupled, X @ dense_kernel(problem), atol=1e-13)


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_conserved_terms_use_the_inverse_kernel(tiny, coupling):
    problem = make_problem(tiny(coupling=coupling))
    columns = make_columns(problem, "squared")
    W, H = model.initial_params(tiny(coupling=coupling), problem)
    classifier, features = model.conserved_terms(
        model.Params(W, H), columns.class_columns, columns.coupling
    )
    factor = 1 if columns.coupling is None else 1 - coupling
    np.testing.assert_allclose(classifier, factor * W.T @ W, rtol=1e-13)
    expected = factor * H @ np.linalg.inv(dense_kernel(problem)) @ H.T
    np.testing.assert_allclose(features, expected, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("init", ["balanced", "spectral"])
@pytest.mark.parametrize("coupling", COUPLINGS)
def test_balanced_starts_have_a_zero_conserved_matrix(tiny, init, coupling):
    config = tiny(init=init, coupling=coupling, init_scale=0.1)
    problem = make_problem(config)
    columns = make_columns(problem, "squared")
    params = model.initial_params(config, problem)
    classifier, features = model.conserved_terms(params, columns.class_columns, columns.coupling)
    np.testing.assert_allclose(classifier, features, atol=1e-15)
    assert np.abs(classifier).max() > 1e-4


@pytest.mark.parametrize("profile", [{}, {"profile": "long_tailed"}])
def test_a_spectral_start_has_every_component_alike(tiny, profile):
    config = tiny(init="spectral", init_scale=0.2, **profile)
    problem = make_problem(config)
    W, H = model.initial_params(config, problem)
    components = spectral.components(problem)
    V = (components.left / components.singular_values)[problem.labels]
    np.testing.assert_allclose(W @ H, 0.04 * components.left @ V.T, atol=1e-14)


def test_a_narrow_spectral_start_has_the_largest_components(tiny):
    config = tiny(init="spectral", feature_dim=2, init_scale=1.0)
    W, H = model.initial_params(config, make_problem(config))
    np.testing.assert_allclose(np.linalg.svd(W @ H, compute_uv=False)[:3], [1, 1, 0], atol=1e-12)


def test_the_start_is_of_the_stated_size_and_the_seeds_own(tiny):
    config = tiny(init_scale=0.5, imbalance_ratio=200.0)
    problem = make_problem(config)
    W, H = model.initial_params(config, problem)
    assert H.std() == pytest.approx(0.5, rel=0.05) and W.shape == (4, 6)
    again = model.initial_params(config, problem)
    np.testing.assert_array_equal(H, again.H)
    other = model.initial_params(tiny(init_scale=0.5, imbalance_ratio=200.0, seed=1), problem)
    assert not np.array_equal(H, other.H)
