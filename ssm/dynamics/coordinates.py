"""The exact sample-free form of the squared loss: features as a few coordinates a class, and back.

Under the squared loss the samples of a class only ever move inside the span of the all-ones vector
and the rows of their start. With Q_c an orthonormal basis of it, first column 1 / sqrt(n_c), the
coordinates B_c = H_c Q_c obey the same flow with the label sqrt(n_c) (e_c - 1/k) in the first
coordinate and 0 in the others, and H_c(t) = B_c(t) Q_c^T. A class costs at most rows + 1 columns
whatever its size, and a Gaussian start can be drawn in that form by the law of its triangular
factor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

WITNESSES = 100
"""How many samples of a larger class are drawn one by one, so that each of them can be followed."""


class Reduced(NamedTuple):
    """Gaussian rows over the samples of k classes, in coordinates; r = rows + 1 of them a class."""

    features: Float[np.ndarray, "rows kr"]
    """Coordinates of each row, class after class; zero beyond a class's own number of samples."""
    basis: Float[np.ndarray, "k p r"]
    """Q_c on the samples drawn one by one, then on r rows that stand for all other samples together."""
    drawn: Int[np.ndarray, " k"]
    """How many samples of each class were drawn one by one: all, or `WITNESSES` of a large class."""


def draw(
    rng: np.random.Generator,
    counts: Int[np.ndarray, " k"],
    rows: int,
    width: int | None = None,
) -> Reduced:
    """Independent standard normal rows (rows x n), drawn in reduced form: exact for any counts.

    Of a large class `WITNESSES` samples are drawn as they are. All its others enter through an
    orthogonal map that takes their all-ones vector to one axis: their mean becomes a normal column,
    and what deviates from it a triangular factor with chi-distributed diagonal (Bartlett 1933). A
    QR factorisation of the two together, the all-ones vector first, gives coordinates and basis.
    `width` coordinates a class are kept, rows + 1 where it is left out; fewer only if no class has
    more samples. The draw does not depend on it.
    """
    k, whole = len(counts), rows + 1
    size = WITNESSES + whole
    width = whole if width is None else width
    kept = size if width == whole else width  # rows of the samples; further rows would be 0
    drawn = np.where(counts <= size, counts, WITNESSES)
    ones = (np.arange(kept) < drawn[:, None]).astype(float)
    samples = np.stack([rng.normal(size=(size, rows))[:kept] for _ in range(k)])
    triangle = np.arange(rows)
    for c in range(k):
        if drawn[c] == counts[c]:
            samples[c, drawn[c] :] = 0
            continue
        rest = float(counts[c] - WITNESSES)
        ones[c, WITNESSES] = np.sqrt(rest)
        factor = np.triu(samples[c, WITNESSES + 1 :], 1)
        factor[triangle, triangle] = np.sqrt(rng.chisquare(rest - 1 - triangle))
        samples[c, WITNESSES + 1 :] = factor
    Q, R = np.linalg.qr(np.concatenate([ones[:, :, None], samples], axis=2))
    signs = np.where(np.diagonal(R, axis1=1, axis2=2) < 0, -1.0, 1.0)
    Q, R = Q * signs[:, None, :], R * signs[:, :, None]
    R[np.arange(width) >= counts[:, None]] = 0  # a small class has no more coordinates than samples
    return Reduced(R[:, :, 1:].reshape(k * width, rows).T, Q, drawn)


def full_basis(
    reduced: Reduced, counts: Int[np.ndarray, " k"], rng: np.random.Generator
) -> list[Float[np.ndarray, "_ r"]]:
    """Q_c over all samples of each class, (n_c x r), with which coordinates become features, H_c = B_c Q_c^T.

    The samples that were not drawn one by one are laid out by a uniformly random frame, which
    completes the draw of a Gaussian start.
    """
    bases = []
    for Q, drawn, count in zip(reduced.basis, reduced.drawn, counts, strict=True):
        if drawn == count:
            bases.append(Q[:count])
            continue
        rest, rows = count - drawn, Q.shape[1] - 1
        deviations = rng.normal(size=(rest, rows))
        frame, R = np.linalg.qr(deviations - deviations.mean(axis=0))
        frame = np.hstack([np.full((rest, 1), rest**-0.5), frame * np.sign(np.diag(R))])
        bases.append(np.vstack([Q[:drawn], frame @ Q[drawn:]]))
    return bases


def reduce_features(
    H: Float[np.ndarray, "d n"], counts: Int[np.ndarray, " k"] | Sequence[int]
) -> tuple[Float[np.ndarray, "d kr"], list[Float[np.ndarray, "_ r"]]]:
    """Coordinates and bases of given features, with r = d + 1 coordinates a class, for users who have features at hand. A
    run draws its start in coordinates directly (`draw`).

    Args:
        H: one column a sample, sorted by class.
        counts: samples of each class; they sum to n.

    Returns:
        B (d x k r), zero beyond a class's own number of samples, and Q_c (n_c x r) of each class.
    """
    width = len(H) + 1
    features, bases = [], []
    for columns in np.split(H, np.cumsum(counts)[:-1], axis=1):
        Q, R = np.linalg.qr(np.vstack([np.ones(columns.shape[1]), columns]).T)
        signs = np.where(np.diag(R) < 0, -1.0, 1.0)
        missing = width - len(signs)
        features.append(np.pad((R * signs[:, None])[:, 1:].T, ((0, 0), (0, missing))))
        bases.append(np.pad(Q * signs, ((0, 0), (0, missing))))
    return np.hstack(features), bases


def restore_features(
    B: Float[np.ndarray, "*time d kr"], bases: Sequence[Float[np.ndarray, "_ r"]]
) -> Float[np.ndarray, "*time d n"]:
    """The features H_c = B_c Q_c^T of every class, one column a sample, from their coordinates."""
    by_class = np.split(B, len(bases), axis=-1)
    return np.concatenate([X @ Q.T for X, Q in zip(by_class, bases, strict=True)], axis=-1)
