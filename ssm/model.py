"""The small-scale model: classifier and features, how features are coupled, where they start, what
is conserved."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from ssm import spectral
from ssm.config import Config
from ssm.problem import Problem, membership


class Params(NamedTuple):
    """The state: classifier W (k x d) and feature columns H (d x m), as NumPy or JAX arrays; logits
    are W H."""

    W: Float[Any, "k d"]
    H: Float[Any, "d m"]


def initial_params(config: Config, problem: Problem) -> Params:
    """The start a Config asks for, as float64 host arrays; the same `seed` gives the same start in
    every dtype.

    - `gaussian`: all entries N(0, init_scale^2).
    - `balanced`: W as above, H = W^T O K^(1/2) with O (k x m) of random orthonormal rows, so that
      the conserved matrix W^T W - H K^-1 H^T is zero.
    - `spectral`: balanced with every label component at product strength init_scale^2: W =
      init_scale U A^T, H = init_scale A V^T K^(1/2), with U, V singular vectors of S K^(1/2) and A
      (d x r) of random orthonormal columns; when d < k - 1 only the d largest components are there.

    For shared features K = I: a column stands for its whole class.
    """
    rng = np.random.default_rng(config.seed)
    k, m, d = len(problem.counts), len(problem.labels), config.feature_dim
    scale = config.init_scale
    if config.init == "spectral":
        kernel = problem.kernel_eigenvalues
        spectrum = spectral.label_spectrum(
            problem.counts, class_groups=problem.class_groups, kernel_eigenvalues=kernel
        )
        rank = min(d, k - 1)
        frame = _random_frame(rng, d, rank)
        left = spectrum.left[:, :rank]
        right = kernel[:, None] * left / spectrum.singular_values[:rank]
        return Params(scale * left @ frame.T, scale * frame @ right[problem.labels].T)
    W = scale * rng.normal(size=(k, d))
    if config.init == "gaussian":
        return Params(W, scale * rng.normal(size=(d, m)))
    rows = _random_frame(rng, m, k).T
    return Params(W, W.T @ _kernel_root(rows, problem))


def _random_frame(rng: np.random.Generator, size: int, rank: int) -> Float[np.ndarray, "size rank"]:
    """Orthonormal columns, uniformly distributed (Haar): the signs make the QR factorisation
    unique."""
    Q, R = np.linalg.qr(rng.normal(size=(size, rank)))
    return Q * np.sign(np.diag(R))


def _kernel_root(X: Float[np.ndarray, "r m"], problem: Problem) -> Float[np.ndarray, "r m"]:
    """X K^(1/2): sqrt(kappa_c) on the class mean of each row, sqrt(1 - c) on what deviates from
    it."""
    if problem.shared:
        return X
    kernel = problem.kernel_eigenvalues
    means = (X @ membership(problem.labels, len(kernel)) / problem.counts)[:, problem.labels]
    return np.sqrt(kernel)[problem.labels] * means + np.sqrt(1 - problem.coupling) * (X - means)


def couple(X: Any, class_columns: Any, coupling: Any) -> Any:
    """X K, the coupling kernel K = blockdiag((1 - c) I + c 11^T) applied to the columns of X (r x
    m).

    Args:
        class_columns: (m x k), 1 where a column belongs to a class.
        coupling: c; None leaves X as it is (free features, and shared ones, whose columns are whole
            classes).
    """
    if coupling is None:
        return X
    return (1 - coupling) * X + coupling * (X @ class_columns) @ class_columns.T


def conserved_terms(params: Params, class_columns: Any, coupling: Any) -> tuple[Any, Any]:
    """The two d x d matrices whose difference gradient flow keeps: (1 - c) W^T W and (1 - c) H K^-1
    H^T.

    On a class of n_c columns (1 - c) K^-1 = I - c 11^T / kappa_c: the factor keeps both finite as c
    tends to 1. Where columns move alone they are W^T W and H H^T. Arguments as in `couple`.
    """
    W, H = params
    if coupling is None:
        return W.T @ W, H @ H.T
    sums = H @ class_columns
    kernel = 1 + coupling * (class_columns.sum(0) - 1)
    return (1 - coupling) * W.T @ W, H @ H.T - (coupling * sums / kernel[None]) @ sums.T
