"""The small-scale model: classifier and features, how features are coupled, where they start, what
is conserved."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from ssm import reduction, spectral
from ssm.columns import Columns
from ssm.config import Config
from ssm.problem import Problem
from ssm.reduction import Reduced


class Params(NamedTuple):
    """The state: classifier W (k x d) and feature columns H (d x m), as NumPy or JAX arrays; logits
    are W H."""

    W: Float[Any, "k d"]
    H: Float[Any, "d m"]


def initial_params(
    config: Config, problem: Problem, columns: Columns
) -> tuple[Params, Reduced | None]:
    """The start a Config asks for, as float64 host arrays; the same `seed` gives the same start in
    every dtype.

    - `gaussian`: all entries N(0, init_scale^2).
    - `balanced`: W as above, H = W^T O K^(1/2) with O (k x n) of random orthonormal rows, so that
      the conserved matrix W^T W - H K^-1 H^T is zero.
    - `spectral`: balanced with every label component at product strength init_scale^2: W =
      init_scale U A^T, H = init_scale A V^T K^(1/2), with U, V singular vectors of S K^(1/2) and A
      (d x r) of random orthonormal columns; when d < k - 1 only the d largest components are there.
    - `collapsed`: W and one feature a class N(0, init_scale^2), all features of a class equal.

    For shared features K = I: a column stands for its whole class.

    Returns:
        the start in the given columns, and, for coordinates, the rows they were drawn from (the
        features over their scale, or the rows that O combines).
    """
    rng = np.random.default_rng(config.seed)
    k, d, scale = len(problem.counts), config.feature_dim, config.init_scale
    if config.init == "spectral":
        kernel = problem.kernel_eigenvalues
        spectrum = spectral.label_spectrum(
            problem.counts, class_groups=problem.class_groups, kernel_eigenvalues=kernel
        )
        rank = min(d, k - 1)
        frame = _orthonormal(rng.normal(size=(d, rank)))
        left = spectrum.left[:, :rank]
        right = kernel[:, None] * left / spectrum.singular_values[:rank]
        return Params(scale * left @ frame.T, columns.spread(scale * frame @ right.T)), None
    W = scale * rng.normal(size=(k, d))
    if config.init == "collapsed":
        return Params(W, columns.spread(scale * rng.normal(size=(d, k)))), None
    rows, reduced = k if config.init == "balanced" else d, None
    if columns.coordinates:
        reduced = reduction.draw(rng, problem.counts, rows)
        gaussian = reduced.features
    else:
        real = np.flatnonzero(columns.multiplicity)
        gaussian = np.zeros((rows, len(columns.labels)))
        gaussian[:, real] = rng.normal(size=(rows, len(real)))
    if config.init == "gaussian":
        return Params(W, scale * gaussian), reduced
    return Params(W, W.T @ _kernel_root(_orthonormal(gaussian.T).T, columns)), reduced


def _orthonormal(X: Float[np.ndarray, "m r"]) -> Float[np.ndarray, "m r"]:
    """Orthonormal columns with the span of X, uniformly distributed (Haar) for Gaussian X: the
    signs make the QR factorisation unique."""
    Q, R = np.linalg.qr(X)
    return Q * np.sign(np.diag(R))


def _kernel_root(X: Float[np.ndarray, "r m"], columns: Columns) -> Float[np.ndarray, "r m"]:
    """X K^(1/2); on samples sqrt(kappa_c) on the class mean of each row, sqrt(1 - c) on what
    deviates from it."""
    if columns.kernel is not None:
        return X * np.sqrt(columns.kernel)
    if columns.coupling is None:
        return X
    c = columns.coupling
    kernel = 1 + c * (columns.counts - 1)
    means = columns.class_means(X)
    spread = columns.multiplicity * columns.spread(means)
    return columns.spread(np.sqrt(kernel) * means) + np.sqrt(1 - c) * (X - spread)


def couple(X: Any, columns: Columns) -> Any:
    """X K, the coupling kernel K = blockdiag((1 - c) I + c 11^T) applied to the columns of X (r x
    m)."""
    if columns.kernel is not None:
        return X * columns.kernel[None]
    if columns.coupling is None:
        return X
    c = columns.coupling
    return (1 - c) * X + c * (X @ columns.sum_columns) @ columns.sum_columns.T


def conserved_terms(params: Params, columns: Columns) -> tuple[Any, Any]:
    """The two d x d matrices whose difference gradient flow keeps: W^T W and H K^-1 H^T, both times
    1 - c where K^-1 would grow without bound as c tends to 1.

    On a class of n_c samples (1 - c) K^-1 = I - c 11^T / kappa_c.
    """
    W, H = params
    if columns.kernel is not None:
        factor = columns.conserved_factor
        weights = columns.multiplicity * factor / columns.kernel
        # one column a class stands for n_c of them, and its kernel is kappa_c / n_c of theirs
        weights = weights if columns.coordinates else 1 / columns.kernel
        return factor * W.T @ W, (H * weights[None]) @ H.T
    if columns.coupling is None:
        return W.T @ W, H @ H.T
    c, sums = columns.coupling, H @ columns.sum_columns
    kernel = 1 + c * (columns.counts - 1)
    return (1 - c) * W.T @ W, H @ H.T - (c * sums / kernel[None]) @ sums.T
