"""What any small start makes of the early phase: its own linear growth, and the curve of each block as if
it were alone. Times are flow time."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from ssm.measures import spectral
from ssm.problem import Problem
from ssm.theory.growth import component_growth_rates, overlap, risk_shares, separable, sigmoid


def linear_factors(
    growth_matrix: Float[np.ndarray, "k k"],
    W: Float[np.ndarray, "k d"],
    N: Float[np.ndarray, "k d"],
    times: Float[np.ndarray, " t"],
) -> tuple[Float[np.ndarray, "t k d"], Float[np.ndarray, "t k d"]]:
    """W(t) and N(t) under dW/dt = A N, dN/dt = A^T W, through the SVD A = U diag(r) V^T by cosh(r t)
    and sinh(r t).

    Args:
        growth_matrix: A, as `adjusted_growth.growth_matrix` has it for losses with margins.
        W, N: the start, N the class means M of the features, one row a class, each times
            sqrt(n_c / kappa_c).
        times: shape (t,), flow time.
    """
    left, rates, right = np.linalg.svd(growth_matrix)
    p, q = left.T @ W, right @ N
    phase = np.multiply.outer(times, rates)[:, :, None]
    cosh, sinh = np.cosh(phase), np.sinh(phase)
    return left @ (cosh * p + sinh * q), right.T @ (cosh * q + sinh * p)


def linear_phase(
    W: Float[np.ndarray, "k d"],
    class_means: Float[np.ndarray, "d k"],
    problem: Problem,
    times: Float[np.ndarray, " t"],
) -> Float[np.ndarray, "t k k"]:
    """Class-mean logits while all logits are small, from any start and for either loss; exact in
    that limit.

    The gradient stays -S Omega / n, so W and the class means M of the features obey a linear
    system. With N = M^T scaled by sqrt(n_c / kappa_c) and E = diag(w_c sqrt(n_c kappa_c)) / n it is
    the symmetric one dW/dt = P E N, dN/dt = E P W (`linear_factors`). With a bias of the features, or a
    coupling between classes, N = L^-1 M^T and dW/dt = A N, A = P diag(n_c w_c) L / n, where L is
    `Problem.class_kernel_root`. A bias of the logits is P (n w) t / n, while that is small.

    Args:
        W, class_means: the start, M one column a class.
        times: shape (t,), flow time.

    Returns:
        W(t) M(t), with the bias of the logits where there is one, shape (t, k, k), [time, logit, class].
    """
    k, shares = len(problem.counts), risk_shares(problem)
    P, root = np.eye(k) - 1 / k, problem.class_kernel_root
    A = P @ (shares[:, None] * root)
    grown_W, grown_N = linear_factors(A, W, np.linalg.solve(root, class_means.T), times)
    logits = grown_W @ (root @ grown_N).transpose(0, 2, 1)
    if problem.output_bias:
        logits = logits + times[:, None, None] * (P @ shares)[None, :, None]
    return logits


def block_curves(
    W: Float[np.ndarray, "k d"],
    class_means: Float[np.ndarray, "d k"],
    problem: Problem,
    components: spectral.LabelSpectrum,
    times: Float[np.ndarray, " t"],
) -> Float[np.ndarray, "t blocks"]:
    """Share of its target that each block has learned under the squared loss, from any small start, as if the
    block were alone.

    In the early phase the factors of a block of equal contrasts tend to A e^(r t), A = (U^T W + U^T
    N) / 2 with N = M^T scaled by sqrt(n_c / kappa_c). From such a balanced start the block's strength matrix X = A
    A^T sqrt(kappa) obeys X' = 2 r X (1 - X / s): each eigenvalue is a sigmoid, and their mean does
    not depend on the basis. What it leaves out is the decaying half of the start, which is gone
    after an e-fold, and the overlap with other blocks. For cross-entropy see `cross_entropy.growing_start`.

    Args:
        W, class_means: the start, M one column a class.
        times: shape (t,), flow time.

    Returns:
        shape (t, 3), in the order of `spectral.BLOCKS`; NaN for a block that is empty or not
        `separable`, and everywhere when d < k - 1.
    """
    root = np.sqrt(problem.counts / problem.kernel_eigenvalues)
    factors = components.left.T @ (W + root[:, None] * class_means.T) / 2
    rates = component_growth_rates(problem, components)
    shown = overlap(problem, components)
    alone = separable(problem, components, "squared")
    curves = np.full((len(times), len(spectral.BLOCKS)), np.nan)
    if W.shape[1] < len(components.singular_values):
        return curves
    for b, name in enumerate(spectral.BLOCKS):
        mine = components.blocks == name
        equal = mine.any() and np.ptp(components.singular_values[mine]) == 0
        if not (equal and alone[mine].all()):
            continue
        target = components.singular_values[mine]
        start = np.linalg.eigvalsh(factors[mine] @ factors[mine].T) * shown[mine] / target
        start = np.maximum(start, np.finfo(float).tiny)  # a rank-deficient start never grows
        shares = sigmoid(times, rates[mine], start, np.ones(len(start)))
        curves[:, b] = shares.mean(axis=1)
    return curves
