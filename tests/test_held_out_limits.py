"""The common end of training on inputs, against closed forms, another solver, and its own optimality."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.svm import LinearSVC

from experiments import held_out_limits
from ssm import geometry

LABELS = np.repeat(np.arange(3), (6, 6, 2))


def separable(rng, labels):
    """Samples of more dimensions than there are of them: each class its own direction, and noise."""
    k = labels.max() + 1
    noise = rng.normal(size=(30, len(labels))) / np.sqrt(30)
    return 0.5 * np.eye(30)[:, :k][:, labels] + noise


def test_orthonormal_inputs_end_in_seli():
    """X = I is the model of free features, whose logits are those of SELI."""
    V = held_out_limits.least_nuclear_norm(np.eye(len(LABELS)), LABELS, 3)
    expected = geometry.seli(np.bincount(LABELS)).logits[:, LABELS]
    np.testing.assert_allclose(V, expected, atol=1e-6)  # 100 times what the solver is asked for


def test_multipliers_prove_it_least(rng):
    """V is the least one if its polar factor, of which the norm is the gradient, is a sum of pulls a_ic
    (e_{y_i} - e_c) x_i^T with a_ic >= 0, none at margins above 1; then |V|_* is the sum of all a_ic."""
    X = separable(rng, LABELS)
    V = held_out_limits.least_nuclear_norm(X, LABELS, 3)
    Z = V @ X
    margins = Z[LABELS, np.arange(len(LABELS))] - Z
    own = np.eye(3, dtype=bool)[LABELS].T
    np.testing.assert_array_less(1 - 1e-6, margins[~own])  # 100 times what the solver is asked for
    U, s, Vt = np.linalg.svd(V, full_matrices=False)
    polar = U[:, :2] @ Vt[:2]  # the rows of V sum to zero
    multipliers = -(polar @ np.linalg.pinv(X).T)[~own]
    # The margins are off by 1e-8 of the solver, and so the polar factor by some times that.
    assert multipliers.min() > -1e-6
    np.testing.assert_allclose(multipliers * (margins[~own] - 1), 0, atol=1e-6)
    np.testing.assert_allclose(multipliers.sum(), s.sum(), rtol=1e-6)


def test_decay_ends_where_the_gradient_is_its_own(rng):
    """Of |V|_* the gradient is the polar factor of V, and where V is 0 any matrix of norm 1 at most: that of
    the risk has decay as all singular values on V, and none above it elsewhere."""
    X, weights, decay = separable(rng, LABELS), np.array([0.8, 0.8, 1.9]), 0.02
    V = held_out_limits.decayed(X, LABELS, weights, decay)
    G = weights[LABELS] * (softmax(V @ X, axis=0) - np.eye(3)[LABELS].T) / len(LABELS)
    U, s, Vt = np.linalg.svd(V, full_matrices=False)
    U, Vt = U[:, s > 1e-3], Vt[s > 1e-3]
    pull = -(G @ X.T) / decay
    assert len(Vt) == 2  # the rows of V sum to zero
    np.testing.assert_allclose(
        U.T @ pull, Vt, atol=1e-5
    )  # of what the solver leaves, times 1 / decay
    np.testing.assert_allclose(pull @ Vt.T, U, atol=1e-5)
    assert np.linalg.norm(pull, 2) < 1 + 1e-5


def test_two_classes_end_in_the_support_vector_machine(rng):
    labels = np.repeat([0, 1], (12, 4))
    X = separable(rng, labels)
    w = held_out_limits.hard_margin(X, labels)
    V = held_out_limits.least_nuclear_norm(X, labels, 2)
    np.testing.assert_allclose(V, np.stack([w, -w]) / 2, atol=1e-5 * float(np.linalg.norm(w)))
    other = LinearSVC(fit_intercept=False, C=1e6, loss="hinge", tol=1e-6, max_iter=10**6)
    of_class_0 = other.fit(X.T, labels == 0).coef_[0]
    np.testing.assert_allclose(w, of_class_0, atol=1e-4 * float(np.linalg.norm(w)))  # of its own


def test_samples_that_cannot_be_told_apart_are_refused(rng):
    X = separable(rng, LABELS)
    X[:, 0] = X[:, 6]  # of another class
    with pytest.raises(ValueError, match="no solution"):
        held_out_limits.least_nuclear_norm(X, LABELS, 3)
    labels = np.repeat([0, 1], (12, 4))
    X = separable(rng, labels)
    X[:, 0] = X[:, 12]
    with pytest.raises(ValueError, match="no solution"):
        held_out_limits.hard_margin(X, labels)
