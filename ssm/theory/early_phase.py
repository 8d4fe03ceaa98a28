"""What any small start makes of the early phase: its own linear growth, and the curve of each block as if
it were alone. Times are flow time.

Starts, times and problems broadcast, a grid of STEP problems (`step.grid`) for one too: their common shape, here
(...), leads what comes out.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from ssm.measures import spectral
from ssm.problem import Problem
from ssm.theory.groups import Step, by_class
from ssm.theory.growth import component_growth_rates, overlap, risk_shares, separable, sigmoid

NUMBERS = 2**16  # logits that are worked out at once, so that they fit a cache


def linear_factors(
    growth_matrix: Float[np.ndarray, "*#grid k k"],
    W: Float[np.ndarray, "*#grid k d"],
    N: Float[np.ndarray, "*#grid k d"],
    times: Float[np.ndarray, "*#grid t"],
) -> tuple[Float[np.ndarray, "*grid t k d"], Float[np.ndarray, "*grid t k d"]]:
    """W(t) and N(t) under dW/dt = A N, dN/dt = A^T W, through the SVD A = U diag(r) V^T: of p = U^T W and
    q = V^T N, p + q grows as e^(r t) and p - q decays as e^(-r t).

    Args:
        growth_matrix: A, as `adjusted_growth.growth_matrix` has it for losses with margins.
        W, N: the start, N the class means M of the features, one row a class, each times
            sqrt(n_c / kappa_c).
        times: shape (..., t), flow time.
    """
    left, rates, right = np.linalg.svd(growth_matrix)
    p, q = left.swapaxes(-1, -2) @ W, right @ N
    phase = (times[..., :, None] * rates[..., None, :])[..., None]
    grown, decayed = np.exp(phase), np.exp(-phase)
    up, down = (grown * ((p + q) / 2)[..., None, :, :], decayed * ((p - q) / 2)[..., None, :, :])
    return (
        left[..., None, :, :] @ (up + down),
        right.swapaxes(-1, -2)[..., None, :, :] @ (up - down),
    )


def linear_phase(
    W: Float[np.ndarray, "*#grid k d"],
    class_means: Float[np.ndarray, "*#grid d k"],
    problem: Problem | Step,
    times: Float[np.ndarray, "*#grid t"],
) -> Float[np.ndarray, "*grid t k k"]:
    """Class-mean logits while all logits are small, from any start and for either loss; exact in
    that limit.

    The gradient stays -S Omega / n, so W and the class means M of the features obey a linear
    system. With N = M^T scaled by sqrt(n_c / kappa_c) and E = diag(w_c sqrt(n_c kappa_c)) / n it is
    the symmetric one dW/dt = P E N, dN/dt = E P W (`linear_factors`). With a bias of the features, or a
    coupling between classes, N = L^-1 M^T and dW/dt = A N, A = P diag(n_c w_c) L / n, where L is
    `groups.ByClass.kernel_root`. A bias of the logits is P (n w) t / n, while that is small.

    Args:
        W, class_means: the start, M one column a class.
        times: shape (..., t), flow time.

    Returns:
        W(t) M(t), with the bias of the logits where there is one, shape (..., t, k, k), [time, logit, class].
    """
    shares, root = risk_shares(problem), by_class(problem).kernel_root
    k = shares.shape[-1]
    P = np.eye(k) - 1 / k
    left, rates, right = np.linalg.svd(P @ (shares[..., None] * root))
    p = left.swapaxes(-1, -2) @ W
    q = right @ np.linalg.solve(root, class_means.swapaxes(-1, -2))
    shown = right @ root.swapaxes(-1, -2)
    drift = (P @ shares[..., None])[..., 0] * float(problem.output_bias)
    matrices, numbers = (left, p + q, p - q, shown), (rates, drift)
    shape = np.broadcast_shapes(
        times.shape[:-1], *(x.shape[:-2] for x in matrices), *(x.shape[:-1] for x in numbers)
    )
    matrices = [np.broadcast_to(x, shape + x.shape[-2:]) for x in matrices]
    numbers = [np.broadcast_to(x, shape + x.shape[-1:]) for x in (*numbers, times)]
    points = [x.reshape(-1, *x.shape[len(shape) :]) for x in (*matrices, *numbers)]
    t, count = times.shape[-1], len(points[0])
    logits = np.empty((count, k, k, t))
    at_once = max(1, NUMBERS // max(1, t * k * k))
    for low in range(0, count, at_once):
        some = slice(low, low + at_once)
        _linear_logits(logits[some], *(x[some] for x in points))
    return np.moveaxis(logits, -1, 1).reshape(*shape, t, k, k)


def _linear_logits(
    out: Float[np.ndarray, "p k k t"],
    left: Float[np.ndarray, "p k k"],
    growing: Float[np.ndarray, "p k d"],
    decaying: Float[np.ndarray, "p k d"],
    shown: Float[np.ndarray, "p k k"],
    rates: Float[np.ndarray, "p k"],
    drift: Float[np.ndarray, "p k"],
    times: Float[np.ndarray, "p t"],
) -> None:
    """Write the logits of some points at their times, [point, logit, class, time]: U L V^T for L = (e^(r t) a
    + e^(-r t) b) (e^(r t) a - e^(-r t) b)^T, 2 a and 2 b the growing and the decaying rows. Times come last,
    so that what is done to each number runs over many of them."""
    phase, (p, k, _, t) = rates[:, :, None] * times[:, None, :], out.shape
    grown, decayed = np.exp(phase), np.exp(-phase)
    L, part, inner = np.empty((3, p, k, k, t))
    for rows, by_row, total in ((growing, grown, L), (decaying, decayed, inner)):
        products = [(rows @ y.swapaxes(1, 2) / 4)[..., None] for y in (growing, decaying)]
        np.multiply(grown[:, None], products[0], out=total)
        np.multiply(decayed[:, None], products[1], out=part)
        total -= part
        total *= by_row[:, :, None]
    L += inner
    turned = (left @ L.reshape(p, k, k * t)).reshape(L.shape)
    np.matmul(shown.swapaxes(1, 2)[:, None], turned, out=out)
    out += (drift[:, :, None] * times[:, None, :])[:, :, None]


def block_curves(
    W: Float[np.ndarray, "*#grid k d"],
    class_means: Float[np.ndarray, "*#grid d k"],
    problem: Problem | Step,
    components: spectral.LabelSpectrum,
    times: Float[np.ndarray, "*#grid t"],
) -> Float[np.ndarray, "*grid t blocks"]:
    """Share of its target that each block has learned under the squared loss, from any small start, as if the
    block were alone.

    In the early phase the factors of a block of equal contrasts tend to A e^(r t), A = (U^T W + U^T
    N) / 2 with N = M^T scaled by sqrt(n_c / kappa_c). From such a balanced start the block's strength matrix X = A
    A^T sqrt(kappa) obeys X' = 2 r X (1 - X / s): each eigenvalue is a sigmoid, and their mean does
    not depend on the basis. What it leaves out is the decaying half of the start, which is gone
    after an e-fold, and the overlap with other blocks. For cross-entropy see `cross_entropy.growing_start`.

    Args:
        W, class_means: the start, M one column a class.
        problem, components: a problem and `spectral.components` of it, or a grid (`step.grid`) and
            `step.components` of it.
        times: shape (..., t), flow time.

    Returns:
        shape (..., t, 3), in the order of `spectral.BLOCKS`; NaN for a block that is empty or not
        `separable`, and everywhere when d < k - 1.

    Example:
        What a start makes of minorities, over R and g, without a run:

        >>> from ssm import step
        >>> rng, R, g = np.random.default_rng(0), np.array([1.0, 10.0])[:, None], np.array([0.0, 0.5, 1.0])
        >>> W, M = 1e-3 * rng.normal(size=(10, 16)), 1e-3 * rng.normal(size=(16, 10))
        >>> grid = step.grid(R, g)
        >>> curves = block_curves(W, M, grid, step.components(grid), np.array([300.0]))
        >>> curves[..., 0, 2].round(2).tolist()  # shape (2, 3)
        [[1.0, 1.0, 1.0], [0.0, 0.76, 1.0]]
    """
    classes, targets = by_class(problem), components.singular_values
    root = np.sqrt(classes.counts / classes.kernel_eigenvalues)[..., None]
    factors = components.left.T @ (W + root * class_means.swapaxes(-1, -2)) / 2
    rates = component_growth_rates(problem, components)
    shown = overlap(problem, components)
    alone = separable(problem, components, "squared")
    shape = np.broadcast_shapes(factors.shape[:-2], rates.shape[:-1], times.shape[:-1])
    curves = np.full((*shape, times.shape[-1], len(spectral.BLOCKS)), np.nan)
    if W.shape[-1] < targets.shape[-1]:
        return curves
    for b, name in enumerate(spectral.BLOCKS):
        mine = components.blocks == name
        if not mine.any():
            continue
        own = targets[..., mine]
        known = alone[..., mine].all(axis=-1) & (own == own[..., :1]).all(axis=-1)
        if not known.any():
            continue
        part = factors[..., mine, :]
        start = np.linalg.eigvalsh(part @ part.swapaxes(-1, -2)) * shown[..., mine] / own
        start = np.maximum(start, np.finfo(float).tiny)  # a rank-deficient start never grows
        shares = sigmoid(times, rates[..., mine], start, np.ones_like(start)).mean(axis=-1)
        curves[..., b] = np.where(known[..., None], shares, np.nan)
    return curves
