"""Accuracy and loss, class by class, on samples that were not trained on: of a Gaussian law of their
logits, as inputs of a Gaussian mixture have it, without a test set; or of given samples.

A held-out sample of class y has logits z ~ N(mean_y, C) with one covariance C for all classes, since the
noise of inputs is alike in all. Its margins over the other classes, u_c = z_y - z_c, are Gaussian too,
which is all that matters: what all logits have in common is gone. Strengths need no law, only means:
`spectral.class_strengths(means, np.ones(k))`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Real

from ssm.measures import metrics
from ssm.problem import membership

LOG2_POINTS = 10  # points of a class and time, as a power of 2
BLOCK = 2**5  # classes and times at once: arrays of their points fit a processor's cache
SINGULAR = 1e-7  # of its standard deviation: what is left of a margin counts as nothing below
SMALLEST = 1e-300  # a probability whose quantile is still a number


class _Margins(NamedTuple):
    """Margins of held-out samples over the m = k - 1 other classes, the one that is most likely to fail
    first: ahead + factor @ x with x ~ N(0, I)."""

    ahead: Float[np.ndarray, "p m"]
    """Their means."""
    factor: Float[np.ndarray, "p m m"]
    """Lower triangular."""
    last: Int[np.ndarray, "p m"]
    """The last column of a row of the factor that is not 0; -1 where all are."""
    first_class: Bool[np.ndarray, "p m"]
    """Whether the own class stands before the other, and so has the tie."""


def accuracy(
    means: Real[np.ndarray, "*#batch k k"], covariance: Real[np.ndarray, "*#batch k k"]
) -> Float[np.ndarray, "*batch k"]:
    """Probability that a held-out sample's largest logit is its own: P(u_c > 0 for all c != y), shape
    (..., k). Without covariance it is 1 or 0, and of equal logits the first counts, as in training.

    Two classes have Phi(mean u / sd u). More are integrated over one margin after another, each given
    that those before are positive, at 1024 fixed quasi-random points of k - 2 dimensions, the last
    exactly (Genz 1992; for covariances that are singular Genz and Kwong 2000). Against ERRORS.

    Args:
        means: mean logits of each class's samples, [logit, class], shape (..., k, k).
        covariance: of the logits, shape (..., k, k); any rank. Leading axes broadcast.

    Returns:
        NaN where a mean or covariance is not finite.

    Example:
        >>> means = np.array([[1.0, 0.0], [0.0, 1.0]])
        >>> accuracy(means, np.eye(2) / 2).round(4).tolist()  # Phi(1)
        [0.8413, 0.8413]
    """
    return _of_classes(means, covariance, _probability)


def loss(
    means: Real[np.ndarray, "*#batch k k"],
    covariance: Real[np.ndarray, "*#batch k k"],
    loss: str,
) -> Float[np.ndarray, "*batch k"]:
    """Expected loss of a held-out sample of each class, shape (..., k): of `squared` exactly, |mean_y -
    e_y + 1/k|^2 / 2 + tr C / 2, and for any other name cross-entropy, E log(1 + sum_c exp(-u_c)).

    Args and Returns: as of `accuracy`.
    """
    if loss != "squared":
        return _of_classes(means, covariance, _cross_entropy)
    k = means.shape[-1]
    distance2 = ((means - np.eye(k) + 1 / k) ** 2).sum(-2)
    return (distance2 + np.trace(covariance, axis1=-2, axis2=-1)[..., None]) / 2


def accuracy_of_samples(
    logits: Real[np.ndarray, "*batch k m"], labels: Int[np.ndarray, " m"]
) -> Float[np.ndarray, "*batch k"]:
    """Share of each class's samples whose largest logit is their own, shape (..., k)."""
    return metrics.class_accuracy(logits, labels, membership(labels, logits.shape[-2]))


def _of_classes(means, covariance, integral) -> np.ndarray:
    k = means.shape[-1]
    batch = np.broadcast_shapes(means.shape[:-2], covariance.shape[:-2])
    means, covariance = (
        np.broadcast_to(np.asarray(x, dtype=np.float64), (*batch, k, k)).reshape(-1, k, k)
        for x in (means, covariance)
    )
    known = np.isfinite(means).all((-2, -1)) & np.isfinite(covariance).all((-2, -1))
    found = np.full((len(means), k), np.nan)
    step = max(BLOCK // k, 1)
    rows = np.flatnonzero(known)
    for first in range(0, len(rows), step):
        own = rows[first : first + step]
        found[own] = integral(_margins(means[own], covariance[own])).reshape(-1, k)
    return found.reshape(*batch, k)


def _margins(means: np.ndarray, covariance: np.ndarray) -> _Margins:
    """Those of all classes, one row a time and class."""
    k = means.shape[-1]
    own, other = np.nonzero(~np.eye(k, dtype=bool))
    own, other = own.reshape(k, k - 1), other.reshape(k, k - 1)
    ahead = means[:, own, own] - means[:, other, own]  # time, class, margin
    differences = np.eye(k)[own] - np.eye(k)[other]
    cov = differences @ covariance[:, None] @ differences.transpose(0, 2, 1)
    m = k - 1
    ahead, cov = ahead.reshape(-1, m), cov.reshape(-1, m, m)
    before = np.tile(own < other, (len(means), 1))
    sd = np.sqrt(np.diagonal(cov, axis1=1, axis2=2).clip(0))
    with np.errstate(divide="ignore", invalid="ignore"):
        order = np.argsort(ahead / sd, axis=1, kind="stable")
    ahead, sd, before = (np.take_along_axis(x, order, 1) for x in (ahead, sd, before))
    cov = np.take_along_axis(cov, order[:, :, None], 1)
    cov = np.take_along_axis(cov, order[:, None, :], 2)
    factor = np.zeros_like(cov)
    for j in range(m):
        done = factor[:, j:, :j] @ factor[:, j, :j, None]
        left = cov[:, j:, j] - done[..., 0]
        pivot = np.sqrt(left[:, 0].clip(0))
        kept = pivot > SINGULAR * sd[:, j]
        factor[:, j:, j] = np.where(kept, 1 / np.where(kept, pivot, 1), 0)[:, None] * left
    there = abs(factor) > SINGULAR * sd[..., None]
    last = np.where(there.any(2), m - 1 - there[:, :, ::-1].argmax(2), -1)
    return _Margins(ahead, factor, last, before)


@lru_cache
def _points(dims: int) -> np.ndarray:
    """Quasi-random points in the open unit cube, one a column."""
    from scipy.stats import qmc  # takes long to import

    drawn = qmc.Sobol(dims, scramble=False).random_base2(LOG2_POINTS)
    return np.ascontiguousarray((drawn + 0.5 / len(drawn)).T)


def _probability(margins: _Margins) -> np.ndarray:
    from scipy.special import ndtr, ndtri

    ahead, factor, last, before = margins
    m = ahead.shape[1]
    sure = (ahead > 0) | (ahead == 0) & before
    found = np.where(last == -1, sure, True).all(1)[:, None].astype(float)
    points = _points(m - 1) if m > 1 else np.zeros((0, 1))
    drawn: list[np.ndarray] = []
    for j in range(m):
        # x_j lies between the bounds of all margins of which it is the last part: its own, and where the
        # covariance is singular others.
        low, high = 0.0, 1.0
        for i in range(j, m):
            own = last[:, i] == j
            if not own.any():
                continue
            centre = ahead[:, i, None] + sum(
                (factor[:, i, before, None] * drawn[before] for before in range(j)),
                np.zeros((1, 1)),
            )
            slope = factor[:, i, j][:, None]
            bound = ndtr(-centre / np.where(own[:, None], slope, 1))
            low = np.maximum(low, np.where(own[:, None] & (slope > 0), bound, 0))
            high = np.minimum(high, np.where(own[:, None] & (slope < 0), bound, 1))
        width = np.maximum(high - low, 0)
        found = found * width
        if j < m - 1:
            drawn.append(ndtri(np.clip(low + points[j] * width, SMALLEST, 1 - 1e-16)))
    return found.mean(1)


def _cross_entropy(margins: _Margins) -> np.ndarray:
    from scipy.special import ndtri

    ahead, factor, _, _ = margins
    x = ndtri(_points(ahead.shape[1]))
    behind = -(ahead[:, :, None] + factor @ x)
    top = np.maximum(behind.max(1), 0)
    terms = np.exp(behind - top[:, None]).sum(1) + np.exp(-top)
    return (top + np.log1p(terms - 1)).mean(1)
