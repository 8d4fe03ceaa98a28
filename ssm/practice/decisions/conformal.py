"""Sets of classes that hold the true one with a wanted probability, class by class.

Mondrian, or label-conditional, conformal prediction takes a dozen lines. Libraries have it too (crepes, and
MAPIE for some of it), but a new dependency would be larger than what it saves here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike

from ssm.practice.statistics import calibration
from ssm.support import checks
from ssm.support.errors import invalid


def class_quantiles(
    probabilities: ArrayLike, labels: ArrayLike, error: float = 0.1
) -> Float[np.ndarray, " k"]:
    """The least confidence that each class needs to be in a set, as its strangeness q_c, shape (k,).

    q_c is the r-th smallest of 1 - p_c among the n_c held-out samples of class c, with r = ceil((n_c + 1)(1 - error)). Where
    r > n_c it is infinite, so that the class is in all sets.

    Args:
        probabilities: of samples that neither the classifier nor its calibration was fitted on, (m, k).
        labels: their classes, integers below k, shape (m,).
        error: the share of the samples of each class whose set may lack it.

    Raises:
        ssm.InputError: anything else.

    Source: Vovk 2012; Sadinle, Lei and Wasserman 2019.
    """
    rows, classes = calibration.probability_rows(probabilities, labels)
    error = checks.real("error", error, 0, 1, open_ends="()")
    found = np.full(rows.shape[1], np.inf)
    for c in range(rows.shape[1]):
        strangeness = np.sort(1 - rows[classes == c, c])
        # Rounding must not raise a whole (n + 1)(1 - error) to the next integer.
        rank = int(np.ceil((len(strangeness) + 1) * (1 - error) - 1e-9))
        if rank <= len(strangeness):
            found[c] = strangeness[rank - 1]
    return found


def prediction_sets(
    probabilities: ArrayLike, quantiles: Float[np.ndarray, " k"]
) -> Bool[np.ndarray, "m k"]:
    """Whether class c is in the set of sample i, 1 - p_c <= q_c: shape (m, k). A set can be empty, or hold
    several classes.

    A new sample of class c that is exchangeable with the held-out ones of its class has c in its set with a probability of at
    least 1 - error, and of at most 1 - error + 1 / (n_c + 1) where no two probabilities are equal.

    Raises ssm.InputError for quantiles that are not one a class.
    """
    rows = checks.array("probabilities", probabilities, "numbers, shape (m, k)")
    if rows.ndim != 2 or np.shape(quantiles) != rows.shape[1:]:
        raise invalid("quantiles", quantiles, "one number for each column of the probabilities")
    return 1 - rows <= np.asarray(quantiles, float)


class Coverage(NamedTuple):
    """How many samples of each class have their class in their sets, each array of shape (k,)."""

    covered: Int[np.ndarray, " k"]
    count: Int[np.ndarray, " k"]
    """Samples of the class."""
    share: Float[np.ndarray, " k"]
    """NaN for a class without samples."""
    low: Float[np.ndarray, " k"]
    """Wilson's 95 % interval of the share."""
    high: Float[np.ndarray, " k"]
    mean_size: Float[np.ndarray, " k"]
    """Classes in a set, on average over the samples of the class."""


def coverage(sets: Bool[np.ndarray, "m k"], labels: ArrayLike) -> Coverage:
    """How often sets hold the true class, class by class, on samples that had no part in making the sets.

    Args:
        sets: from `prediction_sets`, shape (m, k).
        labels: integers below k, shape (m,).

    Raises:
        ssm.InputError: anything else.
    """
    k = np.shape(sets)[1]
    classes = np.asarray(labels)
    whole = classes.shape == (len(sets),) and classes.dtype.kind in "iu"
    if not whole or not ((classes >= 0) & (classes < k)).all():
        raise invalid("labels", labels, f"{len(sets)} integers in [0, {k - 1}]")
    count = np.bincount(classes, minlength=k)
    covered = np.bincount(classes[sets[np.arange(len(sets)), classes]], minlength=k)
    sizes = np.bincount(classes, sets.sum(1), k)
    some = np.maximum(count, 1)
    low, high = calibration.wilson(covered, some)
    none = count == 0
    share, low, high, size = (
        np.where(none, np.nan, x) for x in (covered / some, low, high, sizes / some)
    )
    return Coverage(covered, count, share, low, high, size)
