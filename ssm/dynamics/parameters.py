"""The state of the small-scale model: classifier, hidden layers and features, how features are coupled,
where the state starts, and what gradient flow conserves of it."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ssm.config import Config
from ssm.dynamics import coordinates
from ssm.dynamics.columns import Columns
from ssm.dynamics.coordinates import Reduced
from ssm.measures import spectral
from ssm.problem import Problem


class Params(NamedTuple):
    """The state as NumPy or JAX arrays: classifier W (k x d), feature columns H (d x m), and hidden
    layers A_1 ... A_p (d x d) between them; logits are W A_1 ... A_p H."""

    W: Float[Any, "k d"]
    H: Float[Any, "d m"]
    hidden: tuple[Any, ...] = ()


def classifier(params: Params) -> Float[Any, "k d"]:
    """W A_1 ... A_p, the linear map from features to logits."""
    head = params.W
    for layer in params.hidden:
        head = head @ layer
    return head


def decays(weight_decay: Any, feature_decay: Any, params: Params) -> Any:
    """The decay of each layer, in the structure of `params`; a hidden layer decays as the classifier
    does."""
    return Params(weight_decay, feature_decay, (weight_decay,) * len(params.hidden))


def initial_params(
    config: Config, problem: Problem, columns: Columns
) -> tuple[Params, Reduced | None]:
    """The start a Config asks for, as float64 host arrays; the same `seed` gives the same start in
    every dtype.

    - `gaussian`: all entries N(0, init_scale^2).
    - `balanced`: W as above, H = W^T O K^(1/2) with O (k x n) of random orthonormal rows, so that
      the conserved matrix W^T W - H K^-1 H^T is zero. A hidden layer is (X^T X)^(1/2) Q, X the
      layers before it as far as their Gram matrix goes and Q a random rotation.
    - `spectral`: balanced with every label component at product strength init_scale^depth: W =
      init_scale U A^T, H = init_scale A V^T K^(1/2), with U, V singular vectors of S K^(1/2) and A
      (d x r) of random orthonormal columns, a new one for each hidden layer; when d < k - 1 only the
      d largest components are there.
    - `collapsed`: all layers and one feature a class N(0, init_scale^2), all features of a class
      equal.

    For shared features K = I: a column stands for its whole class. At depth 1 W is the identity.

    Returns:
        the start in the given columns, and, for coordinates, the rows they were drawn from (the
        features over their scale, or the rows that O combines).
    """
    rng = np.random.default_rng(config.seed)
    k, d, scale = len(problem.counts), config.feature_dim, config.init_scale
    num_hidden = max(config.depth - 2, 0)
    if config.init == "spectral":
        kernel = problem.kernel_eigenvalues
        spectrum = spectral.label_spectrum(
            problem.counts, class_groups=problem.class_groups, kernel_eigenvalues=kernel
        )
        rank = min(d, k - 1)
        left = spectrum.left[:, :rank]
        right = kernel[:, None] * left / spectrum.singular_values[:rank]
        if config.depth == 1:
            return Params(np.eye(k), columns.spread(scale * left @ right.T)), None
        frames = [_orthonormal(rng.normal(size=(d, rank))) for _ in range(num_hidden + 1)]
        hidden = tuple(scale * A @ B.T for A, B in itertools.pairwise(frames))
        H = columns.spread(scale * frames[-1] @ right.T)
        return Params(scale * left @ frames[0].T, H, hidden), None
    W = np.eye(k) if config.depth == 1 else scale * rng.normal(size=(k, d))
    if config.init == "balanced":
        last, hidden = W, []
        for _ in range(num_hidden):
            turn = _orthonormal(rng.normal(size=(d, d)))
            hidden.append(_root(last.T @ last) @ turn)
            last = last @ turn
    else:
        last, hidden = W, [scale * rng.normal(size=(d, d)) for _ in range(num_hidden)]
    if config.init == "collapsed":
        H = columns.spread(scale * rng.normal(size=(d, k)))
        return Params(W, H, tuple(hidden)), None
    rows, reduced = k if config.init == "balanced" else d, None
    if columns.coordinates:
        width = len(columns.labels) // k
        reduced = coordinates.draw(rng, problem.counts, rows, width)
        gaussian = reduced.features
    else:
        real = np.flatnonzero(columns.multiplicity)
        gaussian = np.zeros((rows, len(columns.labels)))
        gaussian[:, real] = rng.normal(size=(rows, len(real)))
    if config.init == "gaussian":
        return Params(W, scale * gaussian, tuple(hidden)), reduced
    H = last.T @ _kernel_root(_orthonormal(gaussian.T).T, columns)
    return Params(W, H, tuple(hidden)), reduced


def _root(X: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "d d"]:
    """The symmetric square root of a positive semi-definite matrix."""
    values, vectors = np.linalg.eigh(X)
    return (vectors * np.sqrt(values.clip(0))) @ vectors.T


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
    """The d x d matrices whose differences gradient flow keeps, one pair for each two neighbouring
    layers: shape (depth - 1, d, d) each.

    B^T B of the one against A A^T of the next; W^T W against H K^-1 H^T where there is none between
    them. The last pair is times 1 - c where K^-1 would grow without bound as c tends to 1. On a
    class of n_c samples (1 - c) K^-1 = I - c 11^T / kappa_c.
    """
    W, H, hidden = params
    layers = [W, *hidden]
    factor, features = feature_term(H, columns)
    left = [layer.T @ layer for layer in layers]
    left[-1] = factor * left[-1]
    right = [layer @ layer.T for layer in hidden]
    return _stack(left), _stack([*right, features])


def _stack(matrices: list[Any]) -> Any:
    """Equal matrices along a new first axis."""
    # Host arrays are stacked on the host, so that they keep their precision whatever that of JAX is.
    return (np if isinstance(matrices[0], np.ndarray) else jnp).stack(matrices)


def feature_term(H: Any, columns: Columns) -> tuple[Any, Any]:
    """A factor, 1 - c where K^-1 may grow without bound and else 1, and H K^-1 H^T times that
    factor."""
    if columns.kernel is not None:
        factor = columns.conserved_factor
        weights = columns.multiplicity * factor / columns.kernel
        # A class's one column stands for n_c samples, and its kernel is kappa_c / n_c, which has that
        # number in it already.
        weights = weights if columns.coordinates else 1 / columns.kernel
        return factor, (H * weights[None]) @ H.T
    if columns.coupling is None:
        return 1.0, H @ H.T
    c, sums = columns.coupling, H @ columns.sum_columns
    kernel = 1 + c * (columns.counts - 1)
    return 1 - c, H @ H.T - (c * sums / kernel[None]) @ sums.T
