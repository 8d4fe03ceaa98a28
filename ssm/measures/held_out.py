"""What a classifier gets right of samples that it was not trained on, class by class: of samples whose
logits are Gaussian, as those of a Gaussian mixture of inputs are, which takes no test set; and of given samples.

A held-out sample of class y has logits z ~ N(mean_y, C) with one covariance C, since the noise of inputs
is alike in all classes. Its margins over the other classes, u_c = z_y - z_c, are Gaussian too and are all
that matters, since what all logits have in common cancels in them. Strengths are those of the means,
`spectral.class_strengths(means, np.ones(k))`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Real

from ssm.measures import metrics
from ssm.problem import membership

ACCURACY_POINTS = 2**10  # for each class and time; both numbers of points are powers of 2
LOSS_POINTS = 2**12
STRETCH = 2  # so large that margins which fail once in 1e12 are drawn
BLOCK = (
    32  # so few pairs of a class and a time at once that their points stay in a processor's cache
)
SINGULAR = 1e-7  # below this share of its standard deviation what remains of a margin is rounding


class _Margins(NamedTuple):
    """The margins of held-out samples, ahead + factor @ x with x ~ N(0, I): a row for each class and time, with an
    entry for each of the m = k - 1 other classes, in the order in which margins are most likely to fail."""

    ahead: Float[np.ndarray, "p m"]
    """The means of the margins."""
    factor: Float[np.ndarray, "p m m"]
    """A lower triangular factor of their covariance, with a column of zeros where that is singular."""
    last: Int[np.ndarray, "p m"]
    """The last column in which a row of the factor is not zero; -1 for a row of zeros."""
    before: Bool[np.ndarray, "p m"]
    """Whether the own class comes before the other one, so that it is chosen where their logits are equal."""


def accuracy(
    means: Real[np.ndarray, "*#batch k k"], covariance: Real[np.ndarray, "*#batch k k"]
) -> Float[np.ndarray, "*batch k"]:
    """The probability that the largest logit of a held-out sample is that of its class, P(u_c > 0 for
    all c != y), for each class. Without covariance it is 1 or 0, and the first of equal logits counts as the largest,
    as in training.

    Two classes have Phi(E u / sd u). With more, one margin after another is drawn given that those
    before it are positive, at 1024 fixed quasi-random points, and the last is integrated exactly. The
    error, as root mean square and largest of 60 to 200 cases of each kind, is 1e-5 and 1e-4 for three classes, 3e-5
    and 3e-4 for four, and 3e-4 and 2e-3 for ten; where the standard deviations of directions differ a
    thousandfold it is 1e-4 and 5e-4, 3e-4 and 2e-3, and 2e-3 and 1e-2. It changes slowly with time, since the points
    are always the same. The result is exact where all logits lie on one line.

    Args:
        means: mean logits of the samples of each class, [logit, class], shape (..., k, k).
        covariance: C, of any rank, shape (..., k, k). Leading axes broadcast.

    Returns:
        shape (..., k); NaN where means or covariance are not finite.

    Source: Genz 1992; singular covariances in kind Genz and Kwong 2000.

    Example:
        >>> accuracy(np.eye(2), np.eye(2) / 2).round(4).tolist()  # Phi(1)
        [0.8413, 0.8413]
    """
    return _of_classes(_all_positive, means, covariance)


def loss(
    means: Real[np.ndarray, "*#batch k k"],
    covariance: Real[np.ndarray, "*#batch k k"],
    name: str,
) -> Float[np.ndarray, "*batch k"]:
    """The expected loss of a held-out sample of each class: for `squared` exactly, (|mean_y - e_y + 1/k|^2 +
    tr C) / 2, and for any other name cross-entropy, E log(1 + sum_c exp(-u_c)), at 4096 points.

    The relative error of cross-entropy is below 1e-6 for two classes down to a loss of 1e-7. For three, four and ten
    classes it is, as root mean square and largest, 6e-4 and 2e-3 down to a loss of 0.1, 3e-3 and
    2e-2 down to 1e-3, and 1e-2 and 0.1 down to 1e-6, where few samples make up the loss.

    Args and Returns: as for `accuracy`.
    """
    if name != "squared":
        return _of_classes(_cross_entropy, means, covariance)
    k = means.shape[-1]
    distance2 = ((means - (np.eye(k) - 1 / k)) ** 2).sum(-2)
    return (distance2 + np.trace(covariance, axis1=-2, axis2=-1)[..., None]) / 2


def accuracy_of_samples(
    logits: Real[np.ndarray, "*batch k m"], labels: Int[np.ndarray, " m"]
) -> Float[np.ndarray, "*batch k"]:
    """The share of the given samples of each class, which has at least one, whose largest logit is
    that of their class: `metrics.class_accuracy`."""
    return metrics.class_accuracy(logits, labels, membership(labels, logits.shape[-2]))


def loss_of_samples(
    logits: Real[np.ndarray, "*batch k m"], labels: Int[np.ndarray, " m"], name: str
) -> Float[np.ndarray, "*batch k"]:
    """The mean loss of the given samples of each class, which has at least one: `squared`, or for
    any other name cross-entropy."""
    from scipy.special import logsumexp

    own = membership(labels, logits.shape[-2])
    if name == "squared":
        losses = ((logits - (own.T - 1 / len(own.T))) ** 2).sum(-2) / 2
    else:
        behind = logits - (logits * own.T).sum(-2, keepdims=True)
        losses = np.logaddexp(0, logsumexp(np.where(own.T == 1, -np.inf, behind), axis=-2))
    return (losses @ own) / own.sum(0)


def _of_classes(
    integral: Callable[[_Margins], np.ndarray], means: np.ndarray, covariance: np.ndarray
) -> np.ndarray:
    """An integral over the margins of each class, computed block by block; NaN where means or covariance are not
    finite."""
    k = means.shape[-1]
    batch = np.broadcast_shapes(means.shape[:-2], covariance.shape[:-2])
    means, covariance = (
        np.broadcast_to(np.asarray(x, dtype=np.float64), (*batch, k, k)).reshape(-1, k, k)
        for x in (means, covariance)
    )
    results = np.full((len(means), k), np.nan)
    finite = np.flatnonzero(np.isfinite(means + covariance).all((-2, -1)))
    step = max(BLOCK // k, 1)
    for first in range(0, len(finite), step):
        rows = finite[first : first + step]
        results[rows] = integral(_margins(means[rows], covariance[rows])).reshape(-1, k)
    return results.reshape(*batch, k)


def _margins(means: Float[np.ndarray, "t k k"], covariance: Float[np.ndarray, "t k k"]) -> _Margins:
    """The margins of all times and classes, sorted by E u / sd u, with a Cholesky factor of their covariance."""
    k, m = means.shape[-1], means.shape[-1] - 1
    own, other = (x.reshape(k, m) for x in np.nonzero(~np.eye(k, dtype=bool)))
    contrasts = np.eye(k)[own] - np.eye(k)[other]
    cov = (contrasts @ covariance[:, None] @ contrasts.transpose(0, 2, 1)).reshape(-1, m, m)
    ahead = (means[:, own, own] - means[:, other, own]).reshape(-1, m)
    before = np.tile(own < other, (len(means), 1))
    sd = np.sqrt(np.diagonal(cov, axis1=1, axis2=2).clip(0))
    with np.errstate(divide="ignore", invalid="ignore"):
        order = np.argsort(ahead / sd, axis=1, kind="stable")
    ahead, sd, before = (np.take_along_axis(x, order, 1) for x in (ahead, sd, before))
    cov = np.take_along_axis(np.take_along_axis(cov, order[:, :, None], 1), order[:, None], 2)
    factor = np.zeros_like(cov)
    for j in range(m):
        left = cov[:, j:, j] - (factor[:, j:, :j] @ factor[:, j, :j, None])[..., 0]
        pivot = np.sqrt(left[:, :1].clip(0))
        kept = pivot > SINGULAR * sd[:, j, None]
        factor[:, j:, j] = np.where(kept, left / np.where(kept, pivot, 1), 0)
    entries = abs(factor) > SINGULAR * sd[..., None]
    last = np.where(entries.any(2), m - 1 - entries[..., ::-1].argmax(2), -1)
    return _Margins(ahead, factor, last, before)


@lru_cache
def _points(dims: int, number: int) -> Float[np.ndarray, "dims number"]:
    """Points of the open unit cube that fill it evenly, the same on every call."""
    from scipy.stats import qmc  # only here, since to import it takes a third of a second

    sobol = qmc.Sobol(dims, scramble=False).random(number)
    return np.ascontiguousarray((sobol + 0.5 / number).T)


def _all_positive(margins: _Margins) -> Float[np.ndarray, " p"]:
    """Probability that all margins are positive."""
    from scipy.special import ndtr, ndtri

    ahead, factor, last, before = margins
    m = ahead.shape[1]
    fixed_right = (last >= 0) | (ahead > 0) | ((ahead == 0) & before)
    probability = fixed_right.all(1)[:, None].astype(float)
    points = _points(m - 1, ACCURACY_POINTS) if m > 1 else np.empty((0, 1))
    drawn = np.empty((m - 1, len(ahead), points.shape[1]))
    for j in range(m):
        # These are the bounds of ndtr(x_j) by all margins that depend on no later x: the j-th, and where the
        # covariance is singular further ones.
        low, high = np.zeros((1, 1)), np.ones((1, 1))
        for i in range(j, m):
            bounded = (last[:, i] == j)[:, None]
            if not bounded.any():
                continue
            slope = factor[:, i, j, None]
            centre = ahead[:, i, None] + np.einsum("pl,lpn->pn", factor[:, i, :j], drawn[:j])
            bound = ndtr(-centre / np.where(bounded, slope, 1))
            low = np.where(bounded & (slope > 0), np.maximum(low, bound), low)
            high = np.where(bounded & (slope < 0), np.minimum(high, bound), high)
        width = (high - low).clip(0)
        probability = probability * width
        if j < m - 1:
            inside = (low + points[j] * width).clip(1e-300, 1 - 1e-16)
            drawn[j] = ndtri(inside)
    return probability.mean(1)


def _cross_entropy(margins: _Margins) -> Float[np.ndarray, " p"]:
    """The expected cross-entropy, to the same relative error where it is small. The margin that is most likely to fail is
    drawn with `STRETCH` times its standard deviation, and each point weighs by the ratio of the densities."""
    from scipy.special import ndtri

    x = ndtri(_points(margins.ahead.shape[1], LOSS_POINTS))
    weights = np.exp((1 - STRETCH**2) * x[0] ** 2 / 2)
    x[0] *= STRETCH
    behind = -margins.ahead[..., None] - margins.factor @ x
    top = behind.max(1).clip(0)
    losses = top + np.log1p(np.exp(behind - top[:, None]).sum(1) + np.expm1(-top))
    return losses @ (weights / weights.sum())
