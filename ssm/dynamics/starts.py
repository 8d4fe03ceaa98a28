"""The start of a run, in the columns in which it is followed."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ssm.config import Config
from ssm.dynamics import coordinates
from ssm.dynamics.columns import Columns
from ssm.dynamics.coordinates import Reduced
from ssm.dynamics.parameters import Params, couple, padded
from ssm.measures import spectral
from ssm.problem import Problem, samples
from ssm.problem.inputs import noise_rows
from ssm.problem.samples import NEGLIGIBLE
from ssm.support.arrays import AnyArray


class Start(NamedTuple):
    """The start of a run, as float64 host arrays; the same `seed` gives the same start in every dtype."""

    params: Params
    reduced: Reduced | None = None
    """Where columns are coordinates, the rows that they were drawn from: the features over their scale, or in a balanced
    start the rows that O combines. Else None."""
    class_part: Float[np.ndarray, "d q"] | None = None
    """The part of the features that fresh samples of each class, or group, share at the start with those of training:
    A_0 of their shared inputs, where only the couplings of the inputs are known. Else None."""


def make_start(
    config: Config, problem: Problem, columns: Columns, own: Params | None = None
) -> Start:
    """The start that a Config asks for.

    - `gaussian`: all entries N(0, init_scale^2).
    - `balanced`: W as above, H = W^T O R with O (k x n) of random orthonormal rows and R^T R = K, so that
      the conserved matrix W^T W - H K^-1 H^T is zero. A hidden layer is (X^T X)^(1/2) Q, with Q a random
      rotation and X any matrix that has the Gram matrix of the layer before it.
    - `spectral`: balanced with every label component at product strength init_scale^depth: W =
      init_scale U F^T, H = init_scale F V^T K^(1/2), with U, V singular vectors of S K^(1/2) and F
      (d x r) of random orthonormal columns, a new F for each hidden layer; when d < k - 1 the start has the
      d largest components only.
    - `collapsed`: all layers and one feature a class N(0, init_scale^2), all features of a class
      equal.
    - `own`: the one that is given.

    For shared features K = I, since a column stands for its whole class. At depth 1 W is the identity. Where
    samples have inputs X, A starts in the place of H, with K = I and singular vectors of S X^T; a collapsed start
    has no part along the noise. With `held_out` and no such inputs, Gaussian and collapsed starts are A_0 X
    of the inputs that the couplings stand for. A bias of the logits starts at 0. A bias of the features, which is
    one more input, starts at 0 unless the start is balanced.
    """
    if own is not None:
        return Start(padded(own, columns))
    rng = np.random.default_rng(config.seed)
    k, d, scale = len(problem.counts), config.feature_dim, config.init_scale
    bias = np.zeros((k, 1)) if problem.output_bias else None
    num_hidden = max(config.depth - 2, 0)
    if config.init == "spectral":
        left, right = _label_vectors(problem, columns, d)
        rank = left.shape[1]
        by_class = columns.inputs is None and samples.are_alike(problem)
        spread = columns.spread if by_class else np.asarray
        if config.depth == 1:
            return Start(Params(np.eye(k), spread(scale * left @ right.T)))
        frames = [_orthonormal(rng.normal(size=(d, rank))) for _ in range(num_hidden + 1)]
        hidden = tuple(scale * A @ B.T for A, B in itertools.pairwise(frames))
        H = spread(scale * frames[-1] @ right.T)
        return Start(Params(scale * left @ frames[0].T, H, hidden, bias))
    W = np.eye(k) if config.depth == 1 else scale * rng.normal(size=(k, d))
    if config.init == "balanced":
        last, hidden = W, []
        for _ in range(num_hidden):
            turn = _orthonormal(rng.normal(size=(d, d)))
            hidden.append(_root(last.T @ last) @ turn)
            last = last @ turn
    else:
        last, hidden = W, [scale * rng.normal(size=(d, d)) for _ in range(num_hidden)]
    layers = Params(W, W, tuple(hidden), bias)  # with features in the place of the second W
    if columns.inputs is not None:
        return Start(layers._replace(H=_input_layer(config, problem, columns, last, rng)))
    if config.starts_from_inputs and config.init in ("gaussian", "collapsed"):
        shared = 1 + k + (0 if problem.groups is None else problem.groups.counts.shape[1])
        class_part = scale * _class_part(rng.normal(size=(d, shared)), problem)
        if config.init == "collapsed":
            return Start(layers._replace(H=columns.spread_in_groups(class_part)), None, class_part)
    elif config.init == "collapsed":
        return Start(layers._replace(H=columns.spread(scale * rng.normal(size=(d, k)))))
    else:
        class_part = None
    rows, reduced = k if config.init == "balanced" else d, None
    if columns.coordinates:
        width = len(columns.labels) // k
        reduced = coordinates.draw(rng, problem.counts, rows, width)
        gaussian = reduced.features
    else:
        real = np.flatnonzero(columns.multiplicity)
        gaussian = np.zeros((rows, len(columns.labels)))
        gaussian[:, real] = rng.normal(size=(rows, len(real)))
    if config.init == "balanced":
        H = last.T @ _times_root(_orthonormal(gaussian.T).T, columns)
    elif class_part is None:
        H = scale * gaussian
    else:
        noise = scale * np.sqrt(problem.private_coupling) * gaussian
        H = columns.spread_in_groups(class_part) + noise
    return Start(layers._replace(H=H), reduced, class_part)


def _label_vectors(
    problem: Problem, columns: Columns, feature_dim: int
) -> tuple[Float[AnyArray, "k r"], Float[AnyArray, "rows r"]]:
    """U, and K^(1/2) V by class (k x r), or V of S X^T (p x r), of the r <= d largest label components."""
    rank = min(feature_dim, len(problem.counts) - 1)
    if not samples.are_alike(problem):
        return _target_vectors(problem, columns, feature_dim)
    if columns.input_sums is not None:
        # S X^T, since the labels of each class's samples are one column of the centring projector.
        sums = columns.input_sums.T
        U, _, V = np.linalg.svd(sums - sums.mean(axis=0), full_matrices=False)
        rank = min(rank, V.shape[1])
        return U[:, :rank], V[:rank].T
    kernel, beta = problem.kernel_eigenvalues, problem.common_coupling
    spectrum = spectral.label_spectrum(
        problem.counts,
        class_groups=problem.class_groups,
        kernel_eigenvalues=kernel,
        common_coupling=beta,
    )
    left = spectrum.left[:, :rank]
    by_class = kernel[:, None] * left + beta * (problem.counts @ left)[None]
    return left, by_class / spectrum.singular_values[:rank]


def _target_vectors(
    problem: Problem, columns: Columns, feature_dim: int
) -> tuple[Float[AnyArray, "k r"], Float[AnyArray, "rows r"]]:
    """U, and K^(1/2) V by sample (m x r) or V of T X^T (p x r), of the largest components of the targets T."""
    assert columns.target_columns is not None
    T = columns.target_columns.T
    if columns.inputs is not None:
        U, values, V = np.linalg.svd(T @ columns.inputs.T, full_matrices=False)
        right = V.T
    else:
        moved = couple(T, columns)  # T K = U S (K^(1/2) V)^T
        U, squares, _ = np.linalg.svd(moved @ T.T)
        values = np.sqrt(squares)
        right = (moved.T @ U) / np.where(values > 0, values, 1)
    rank = min(feature_dim, int((values > NEGLIGIBLE * values[0]).sum()))
    return U[:, :rank], right[:, :rank]


def _input_layer(
    config: Config,
    problem: Problem,
    columns: Columns,
    last: Float[np.ndarray, "k d"],
    rng: np.random.Generator,
) -> Float[np.ndarray, "d p"]:
    """A at the start. A balanced one is made from `last`, a matrix with the Gram matrix of the layer before it."""
    assert columns.inputs is not None
    number = len(columns.inputs)
    if config.init == "balanced":
        return last.T @ _orthonormal(rng.normal(size=(number, len(problem.counts)))).T
    A = config.init_scale * rng.normal(size=(config.feature_dim, number))
    if config.init == "collapsed":
        A[:, noise_rows(config)] = 0
    if problem.hidden_bias:
        A[:, -1] = 0
    return A


def _class_part(A: Float[np.ndarray, "d inputs"], problem: Problem) -> Float[np.ndarray, "d q"]:
    """A times sqrt(c_b) e_0 + sqrt(c - c_b) e_y for each class y; where classes have groups, for each of these, with
    sqrt(c_a) e_b added for its value b of the attribute."""
    c, b = problem.coupling, problem.between_coupling
    k = len(problem.counts)
    by_class = np.sqrt(b) * A[:, :1] + np.sqrt(c - b) * A[:, 1 : 1 + k]
    if (groups := problem.groups) is None:
        return by_class
    by_attribute = np.sqrt(groups.attribute_coupling) * A[:, 1 + k :]
    return by_class[:, groups.classes] + by_attribute[:, groups.attributes]


def _root(X: Float[AnyArray, "d d"]) -> Float[np.ndarray, "d d"]:
    """The symmetric square root of a positive semi-definite matrix."""
    values, vectors = np.linalg.eigh(X)
    return (vectors * np.sqrt(values.clip(0))) @ vectors.T


def _orthonormal(X: Float[np.ndarray, "m r"]) -> Float[np.ndarray, "m r"]:
    """Orthonormal columns with the span of X, uniformly distributed (Haar) for Gaussian X, for which
    the signs make the QR factorisation unique."""
    Q, R = np.linalg.qr(X)
    return Q * np.sign(np.diag(R))


def _times_root(X: Float[np.ndarray, "r m"], columns: Columns) -> Float[AnyArray, "r m"]:
    """X R with R^T R = K = D + e e^T: R = (I + f f^T)^(1/2) D^(1/2) with f = D^(-1/2) e. Where classes have groups,
    R is sqrt(s) on what deviates from the mean of a group, and (s I + N^(1/2) M N^(1/2))^(1/2) on the unit vectors
    of the groups."""
    if (groups := columns.groups) is not None and columns.inputs is None:
        units = groups.members / np.sqrt(groups.counts)
        root = np.sqrt(groups.counts)
        inner = _root(groups.private * np.eye(len(root)) + root[:, None] * groups.kernel * root)
        along = X @ units
        return np.sqrt(groups.private) * (X - along @ units.T) + along @ inner @ units.T
    if columns.common is not None:
        f = columns.common / np.sqrt(columns.constant_eigenvalues)
        X = X + (X @ f)[:, None] * f[None] / (1 + np.sqrt(1 + f @ f))
    return _times_root_within(X, columns)


def _times_root_within(X: Float[AnyArray, "r m"], columns: Columns) -> Float[AnyArray, "r m"]:
    """X D^(1/2), which on samples is sqrt(kappa_c) on the class mean of each row and sqrt(1 - c) on what
    deviates from it."""
    if columns.kernel is not None:
        return X * np.sqrt(columns.kernel)
    if columns.coupling is None:
        return X
    means = columns.class_means(X)
    spread = columns.multiplicity * columns.spread(means)
    deviations = np.sqrt(1 - columns.coupling) * (X - spread)
    return columns.spread(np.sqrt(columns.kernel_eigenvalues) * means) + deviations
