"""Coupling, starts and the conserved matrix, against dense matrices."""

import numpy as np
import pytest

from ssm import losses, spectral
from ssm.dynamics import parameters, starts
from ssm.dynamics.column_layouts import (
    class_columns,
    coordinate_columns,
    make_columns,
    sample_columns,
)
from ssm.problem import make_problem

COUPLINGS = [0.0, 0.3, 1.0]


def dense_kernel(problem):
    same = problem.labels[:, None] == problem.labels
    c = float(problem.coupling)
    return (1 - c) * np.eye(len(same)) + c * same


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_couple_is_the_kernel(tiny, rng, coupling):
    problem = make_problem(tiny(coupling=coupling))
    X = rng.normal(size=(3, len(problem.labels)))
    coupled = parameters.couple(X, sample_columns(problem, losses.Squared()))
    np.testing.assert_allclose(coupled, X @ dense_kernel(problem), atol=1e-13)


@pytest.mark.parametrize("coupling", COUPLINGS[:2])
def test_coordinates_have_the_kernel_of_their_samples(tiny, rng, coupling):
    """Q^T K Q is diagonal where the first column of Q is constant."""
    problem = make_problem(tiny(coupling=coupling))
    K = dense_kernel(problem)
    columns = coordinate_columns(problem, 7)
    for c, n in enumerate(problem.counts):
        Q, _ = np.linalg.qr(np.column_stack([np.ones(n), rng.normal(size=(n, min(n, 7) - 1))]))
        inside = Q.T @ K[np.ix_(problem.labels == c, problem.labels == c)] @ Q
        assert columns.kernel is not None
        own = columns.kernel[7 * c : 7 * c + len(inside)]
        np.testing.assert_allclose(inside, np.diag(own), atol=1e-13)


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_conserved_terms_use_the_inverse_kernel(tiny, coupling):
    problem = make_problem(tiny(coupling=coupling))
    columns = sample_columns(problem, losses.Squared())
    (W, H, *_), *_ = starts.make_start(tiny(coupling=coupling), problem, columns)
    classifier, features = parameters.conserved_terms(parameters.Params(W, H), columns)
    np.testing.assert_allclose(classifier[0], (1 - coupling) * W.T @ W, rtol=1e-13)
    if coupling < 1:
        expected = (1 - coupling) * H @ np.linalg.inv(dense_kernel(problem)) @ H.T
        np.testing.assert_allclose(features[0], expected, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_conserved_terms_of_classes_are_those_of_their_samples(tiny, coupling):
    config = tiny(coupling=coupling, init="collapsed")
    problem = make_problem(config)
    (W, M, *_), *_ = starts.make_start(config, problem, class_columns(problem, losses.Squared()))
    classifier, features = parameters.conserved_terms(
        parameters.Params(W, M), class_columns(problem, losses.Squared())
    )
    H = M[:, problem.labels]
    np.testing.assert_allclose(classifier[0], W.T @ W, rtol=1e-13)
    inverse = np.linalg.pinv(dense_kernel(problem))
    np.testing.assert_allclose(features[0], H @ inverse @ H.T, atol=1e-18)


@pytest.mark.parametrize("init", ["balanced", "spectral"])
@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("loss", ["squared", "cross_entropy"])
def test_balanced_starts_have_a_zero_conserved_matrix(tiny, init, coupling, loss):
    config = tiny(init=init, coupling=coupling, init_scale=0.1, loss=loss)
    problem = make_problem(config)
    columns = make_columns(config, problem)
    params, *_ = starts.make_start(config, problem, columns)
    classifier, features = parameters.conserved_terms(params, columns)
    np.testing.assert_allclose(classifier, features, atol=1e-15)
    assert np.abs(classifier).max() > 1e-4


@pytest.mark.parametrize("profile", [{}, {"profile": "long_tailed"}])
def test_a_spectral_start_has_every_component_alike(tiny, profile):
    config = tiny(init="spectral", init_scale=0.2, **profile)
    problem = make_problem(config)
    (W, H, *_), *_ = starts.make_start(
        config, problem, sample_columns(problem, losses.LOSSES[config.loss])
    )
    components = spectral.components(problem)
    V = (components.left / components.singular_values)[problem.labels]
    np.testing.assert_allclose(W @ H, 0.04 * components.left @ V.T, atol=1e-14)


def test_a_narrow_spectral_start_has_the_largest_components(tiny):
    config = tiny(init="spectral", feature_dim=2, init_scale=1.0)
    problem = make_problem(config)
    (W, H, *_), *_ = starts.make_start(
        config, problem, sample_columns(problem, losses.LOSSES[config.loss])
    )
    np.testing.assert_allclose(np.linalg.svd(W @ H, compute_uv=False)[:3], [1, 1, 0], atol=1e-12)


@pytest.mark.parametrize("loss", ["squared", "cross_entropy"])
def test_the_start_is_of_the_stated_size_and_the_seeds_own(tiny, loss):
    def start(seed):
        config = tiny(init_scale=0.5, imbalance_ratio=200.0, loss=loss, seed=seed)
        problem = make_problem(config)
        return starts.make_start(config, problem, make_columns(config, problem))[0]

    W, H, *_ = start(0)
    # 6 rows of 2 (400 + 2) samples, in coordinates of the same norm
    assert np.linalg.norm(H) == pytest.approx(0.5 * np.sqrt(6 * 804), rel=0.05)
    assert W.shape == (4, 6)
    np.testing.assert_array_equal(H, start(0).H)
    assert not np.array_equal(H, start(1).H)
