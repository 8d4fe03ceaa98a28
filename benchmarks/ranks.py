"""Candidates over several data sets: average ranks and mean differences, with intervals over the sets."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

DRAWS = 10_000
LEVEL = 0.95


class Mean(NamedTuple):
    """A mean over data sets, with its 95 % interval."""

    value: float
    low: float
    high: float
    num_sets: int


class Difference(NamedTuple):
    """What one candidate has more than another, over data sets."""

    mean: Mean
    wins: int
    """The sets in which it has more, by more than rounding."""
    losses: int

    @property
    def is_shown(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.mean.low > 0 or self.mean.high < 0


def ranks(scores: pd.DataFrame, direction: int = 1) -> pd.DataFrame:
    """The rank of every candidate (a row) in each data set (a column): 1 for the best, and for equal ones the mean of
    their ranks.

    Args:
        scores: candidates by data sets, every one of them there.
        direction: 1 where more is better, -1 where less is.
    """
    # Means over folds that differ by rounding alone are equal.
    values = stats.rankdata(-direction * scores.to_numpy().round(9), axis=0)
    return pd.DataFrame(values, scores.index, scores.columns)


def mean(values: np.ndarray, seed: int = 0) -> Mean:
    """The mean over data sets and its 95 % interval: the percentiles of the means of as many sets, drawn from them with
    replacement. It is about sets such as these, not about other folds of them.

    Args:
        values: one for each data set, shape (s,).
        seed: of the draws, the same for all candidates.

    Source: Efron, Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
    """
    drawn = np.random.default_rng(seed).integers(len(values), size=(DRAWS, len(values)))
    low, high = np.quantile(values[drawn].mean(1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Mean(float(values.mean()), float(low), float(high), len(values))


def average_ranks(scores: pd.DataFrame, direction: int = 1) -> list[tuple[Any, Mean]]:
    """The average rank of every candidate over the data sets, the best first."""
    by_set = ranks(scores, direction)
    found = [(name, mean(row.to_numpy())) for name, row in by_set.iterrows()]
    return sorted(found, key=lambda pair: pair[1].value)


def difference(one: pd.Series, other: pd.Series) -> Difference:
    """How much more one candidate has than another, both by data set."""
    values = (one - other).to_numpy().round(9)
    return Difference(mean(values), int((values > 0).sum()), int((values < 0).sum()))
