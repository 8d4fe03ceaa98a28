"""Decisions among any number of classes after factors of their probabilities, which held-out samples choose."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from ssm.practice.decisions import costs as pricing
from ssm.practice.decisions.costs import CostMatrix
from ssm.practice.decisions.shares import Shares
from ssm.support.errors import invalid


@dataclasses.dataclass(frozen=True)
class Tuned:
    """A decision of `ssm.Reweighted` after factors of the classes, which are chosen on out-of-fold predictions
    (`class_factors`): `ssm.Reweighted(estimator, decision=Tuned("uniform"))`.

    With factors f and shares rho, the most probable class is decided for the shares f_c rho_c, divided by their sum; with factors f
    and costs C, the decision of least expected cost is taken for the costs f_c C[c, j].
    """

    decision: Shares | CostMatrix | ArrayLike = "uniform"
    """What `ssm.Reweighted` takes as `decision`, but for `trained`."""


MOST_SWEEPS = 20
"""The most times that all factors are sought, class by class; the search ends earlier where none lowers the cost."""
SAME = 1e-9
"""Factors that differ relatively by less count as the same, since the probabilities of forests are shares of trees and differ by
roundings where they are equal."""
TIES = 1e-12
"""Costs that differ relatively by less count as the same, since sums in another order differ by roundings."""


def class_factors(
    probabilities: ArrayLike,
    labels: ArrayLike,
    costs: ArrayLike | None = None,
    *,
    sample_weight: ArrayLike | None = None,
) -> Float[np.ndarray, " k"]:
    """Factors f of the classes, of geometric mean 1, by which decisions about held-out samples cost least:
    `decisions(p, f, C)` takes argmin_j sum_c f_c p_c C[c, j]. Factors of 1 give the rule of calibrated probabilities; with
    two classes, factors amount to a threshold.

    The search begins with ones and takes the factors one after the other: each is set to its exact best value with the others
    held fixed, until none lowers the cost. What is found is a minimum along each factor, which need not be that over all of them
    together. Where several values cost the same, a factor moves as little as it can.

    Example:
        >>> p = [[0.6, 0.3, 0.1], [0.6, 0.2, 0.2], [0.5, 0.4, 0.1], [0.2, 0.1, 0.7]]
        >>> factors = class_factors(p, [0, 0, 1, 2])
        >>> decisions(p, factors, balanced([2, 1, 1])).tolist()
        [0, 0, 1, 2]

    Args:
        probabilities: p of samples that the classifier was not fitted on, for the class shares of the cases to be decided, (n, k).
        labels: their classes, 0 to k - 1, shape (n,).
        costs: C[true, decided], shape (k, k). None for balanced errors: each error about a class costs 1 / (k times its share),
            so that the mean cost is 1 - balanced accuracy where every class has samples.
        sample_weight: how often each sample counts, shape (n,).

    Raises:
        ssm.InputError: arrays of other shapes, or numbers that are not allowed.
    """
    p, y, weight = _checked(probabilities, labels, sample_weight)
    k = p.shape[1]
    matrix = balanced(np.bincount(y, weight, k)) if costs is None else _costs(costs, k)
    factors = np.ones(k)
    least = _total(p, y, weight, factors, matrix)
    for _ in range(MOST_SWEEPS):
        before = least
        for c in range(k):
            others = p * np.where(np.arange(k) == c, 1.0, factors)
            factor = _best(others, y, weight, c, factors[c], matrix)
            tried = np.where(np.arange(k) == c, factor, factors)
            # What is decided with the factor itself counts: a corner may lie within a rounding of it.
            total = _total(p, y, weight, tried, matrix)
            if total < least - TIES * weight.sum() * matrix.max():
                factors, least = tried, total
        if least == before:
            break
    return factors / np.exp(np.log(factors).mean())


def decisions(
    probabilities: ArrayLike, factors: ArrayLike, costs: ArrayLike
) -> Int[np.ndarray, " m"]:
    """The decision of least expected cost of each sample after factors of the classes, argmin_j sum_c f_c p_c C[c, j], shape
    (m,); of equal ones the first.

    Args:
        probabilities: p, shape (m, k).
        factors: f, as `class_factors` finds them, shape (k,).
        costs: C, for which the factors were found, shape (k, k); for balanced errors those of `balanced`.
    """
    return pricing.cheapest(np.asarray(probabilities, float) * np.asarray(factors, float), costs)


def balanced(counts: ArrayLike) -> Float[np.ndarray, "k k"]:
    """The costs whose mean is 1 - balanced accuracy on samples of these class sizes: 1 / (k share) for an error about a
    class, shape (k, k)."""
    sizes = np.asarray(counts, float)
    k = len(sizes)
    # A class without samples adds no cost, whatever an error about it would cost.
    price = sizes.sum() / (k * np.where(sizes > 0, sizes, 1.0))
    return price[:, None] * (1 - np.eye(k))


def _best(
    p: Float[np.ndarray, "n k"],
    y: Int[np.ndarray, " n"],
    weight: Float[np.ndarray, " n"],
    c: int,
    now: float,
    matrix: Float[np.ndarray, "k k"],
) -> float:
    """The value t of the factor of class c at which decisions cost least.

    The expected cost of each decision about a sample is a straight line in t, and the lowest of the k lines is decided. The
    decision changes at the corners of that lower envelope; between corners the cost of all samples is constant.

    Args:
        p: probabilities times the factors of all classes but c.
        y, weight, matrix: labels, sample weights and costs.
        c: the class.
        now: its present factor, which is kept where no value costs less.
    """
    slopes = p[:, c, None] * matrix[c]
    bases = np.where(np.arange(p.shape[1]) == c, 0.0, p) @ matrix
    rows = np.arange(len(p))
    # Just above t = 0 the lowest line is decided, and among equally low ones the flattest.
    chosen = np.lexsort((slopes, bases), axis=1)[:, 0]
    total = float(weight @ matrix[y, chosen])
    corners, changes = [], []
    for _ in range(p.shape[1] - 1):
        flatter = slopes[rows, chosen][:, None] - slopes
        above = bases - bases[rows, chosen][:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            crossing = np.where(flatter > 0, above / flatter, np.inf)
        # Among lines that cross at the same place, the flattest is the lowest from there on.
        follows = np.lexsort((slopes, crossing), axis=1)[:, 0]
        at = crossing[rows, follows]
        crosses = np.isfinite(at)
        if not crosses.any():
            break
        change = weight * (matrix[y, follows] - matrix[y, chosen])
        corners.append(at[crosses])
        changes.append(change[crosses])
        chosen = np.where(crosses, follows, chosen)
    if not corners:
        return now
    places, index = _apart(np.concatenate(corners))
    totals = total + np.append(0.0, np.cumsum(np.bincount(index, np.concatenate(changes))))
    return _nearest(np.append(0.0, places), totals, now)


def _apart(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The places of corners in ascending order, where corners that differ by roundings share a place, and the index of each
    corner's place."""
    order = np.argsort(corners, kind="stable")
    values = corners[order]
    begins = np.append(True, values[1:] > values[:-1] * (1 + SAME))
    index = np.empty(len(corners), int)
    index[order] = np.cumsum(begins) - 1
    return values[begins], index


def _nearest(places: np.ndarray, totals: np.ndarray, now: float) -> float:
    """`now`, where it lies in an interval of least cost, else the middle of such an interval that is nearest to it by its
    logarithm. totals[i] is the cost from places[i] to the next place; the last interval has no end."""
    best = np.flatnonzero(totals <= totals.min() + TIES * np.abs(totals).max())
    low, high = places[best], np.append(places, np.inf)[best + 1]
    if ((low < now) & (now < high)).any():
        return now
    inner = low > 0
    # The middle is that of the logarithms. An interval that begins at 0 has half of its end in its place, and one without an end
    # twice its beginning.
    middle = np.where(
        inner,
        np.sqrt(np.where(inner, low, 1.0) * np.where(np.isfinite(high), high, 4 * low)),
        high / 2,
    )
    return float(middle[np.abs(np.log(middle / now)).argmin()])


def _total(
    p: np.ndarray, y: np.ndarray, weight: np.ndarray, factors: np.ndarray, matrix: np.ndarray
) -> float:
    """The cost of all samples together, decided with these factors."""
    return float(weight @ matrix[y, pricing.cheapest(p * factors, matrix)])


def _checked(
    probabilities: ArrayLike, labels: ArrayLike, sample_weight: ArrayLike | None
) -> tuple[Float[np.ndarray, "n k"], Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """The samples as arrays of matching shapes; raises ssm.InputError where they are not, or hold numbers that are not allowed."""
    p, y = np.asarray(probabilities, float), np.asarray(labels)
    if p.ndim != 2 or p.shape[1] < 2 or not len(p) or not (np.isfinite(p).all() and (p >= 0).all()):
        raise invalid(
            "probabilities",
            f"an array of shape {p.shape}",
            "finite ones of shape (n, k), none negative",
        )
    if y.shape != p.shape[:1] or y.dtype.kind not in "iu" or y.min() < 0 or y.max() >= p.shape[1]:
        raise invalid(
            "labels",
            f"an array of shape {y.shape}",
            f"{len(p)} integers from 0 to {p.shape[1] - 1}",
        )
    weight = np.ones(len(p)) if sample_weight is None else np.asarray(sample_weight, float)
    if weight.shape != y.shape or not (
        np.isfinite(weight).all() and (weight >= 0).all() and weight.any()
    ):
        raise invalid(
            "sample_weight", f"an array of shape {weight.shape}", f"{len(p)} numbers, none negative"
        )
    return p, y, weight


def _costs(costs: ArrayLike, k: int) -> Float[np.ndarray, "k k"]:
    """The costs as an array; raises ssm.InputError unless they are k x k finite numbers, none negative."""
    matrix = np.asarray(costs, float)
    if matrix.shape != (k, k) or not np.isfinite(matrix).all() or (matrix < 0).any():
        raise invalid(
            "costs", f"an array of shape {matrix.shape}", f"{k} x {k} numbers, none negative"
        )
    return matrix
