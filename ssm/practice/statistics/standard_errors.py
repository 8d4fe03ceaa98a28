"""Standard errors: of a share of samples, and of the difference of a score on the same samples."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from ssm.practice.options import Score


def of_share(share: float, num_samples: float) -> float:
    """The standard error of a share of so many samples, sqrt(p (1 - p) / m) with p = (share m + 1) / (m + 2).

    One sample of each kind is added first, so that it is not 0 where the share is 0 or 1.
    """
    smoothed = (share * num_samples + 1) / (num_samples + 2)
    return math.sqrt(smoothed * (1 - smoothed) / num_samples)


def of_difference(
    differences: Float[np.ndarray, " e"],
    labels: ArrayLike,
    sample_weights: ArrayLike,
    class_recalls: Sequence[Sequence[float]],
    score: Score,
) -> float:
    """The standard error of the difference of a score between two evaluations of the same samples.

    It is sqrt(sum_c s_c^2 / m_c) / k, with s_c^2 the variance of the samples' differences within class
    c and m_c the number of samples of that class (of unequal weights the effective number, Kish 1965).
    The square of its difference stands for the variance of a class with one sample.

    For `worst_class` it is the larger of two standard errors sqrt(s_c^2 / m_c): those of the classes
    with the least recall in either evaluation, whose recalls are given.

    Args:
        differences: of what each sample contributes to the score, shape (e,).
        labels: classes of the samples, shape (e,).
        sample_weights: how often each sample counts, shape (e,).
        class_recalls: the recall of each class in both evaluations.
        score: the score, which is a mean over classes but for `worst_class`.
    """
    k = len(class_recalls[0])
    members = (np.asarray(labels) == np.arange(k)[:, None]) * np.asarray(sample_weights)
    totals = members.sum(1)
    effective = totals**2 / (members**2).sum(1)
    means = members @ differences / totals
    centred = differences[None] - np.where(effective > 1 + 1e-9, means, 0.0)[:, None]
    squares = (members * centred**2).sum(1) / totals
    # The sum is s^2 (m - 1) / m, so that this gives s^2 / m, and d^2 for one sample.
    squares /= np.maximum(effective - 1, 1)
    if score == "worst_class":
        return math.sqrt(max(squares[int(np.argmin(recalls))] for recalls in class_recalls))
    return math.sqrt(squares.sum()) / k
