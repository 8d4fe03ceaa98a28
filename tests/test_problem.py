"""Labels, multiplicities and the kernel's eigenvalues."""

import numpy as np

from ssm.problem import make_problem, membership, simplex_labels


def test_label_matrices():
    labels = np.array([0, 0, 1, 2])
    Y = membership(labels, 3).T
    np.testing.assert_array_equal(Y, [[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    S = simplex_labels(labels, 3)
    np.testing.assert_allclose(S, Y - 1 / 3)
    np.testing.assert_allclose(S.sum(0), 0, atol=1e-15)


def test_kernel_eigenvalues_are_those_of_the_kernel(tiny):
    problem = make_problem(tiny(coupling=0.4))
    for n, kappa in zip(problem.counts, problem.kernel_eigenvalues, strict=True):
        block = 0.6 * np.eye(n) + 0.4 * np.ones((n, n))
        np.testing.assert_allclose(np.linalg.eigvalsh(block)[-1], kappa)
