"""Have features moved, those of all rows or those within a class? A classifier two-sample test compares each new batch of rows
with the first rows of the log.

Where class shares move, the features of all rows together move too, but those of the rows of a class do not. So the rows of a
class show, once their labels are known, whether more than the shares has changed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

from ssm.practice.watching import sequential
from ssm.practice.watching.windows import Drawn, drawn

FEWEST = 100
"""The smallest number of rows of a batch, and of a reference."""
BATCH, REFERENCE = (4000, 40_000), (4000, 80_000)
"""The largest numbers of rows of a batch and of a reference: of one class or of all rows, and of all classes together. With more
than 400 classes a class's part of a batch is less than `FEWEST`, and no class is tested."""
MOST_PRODUCTS = 12
"""The classifier is given products of features too where there are at most so many features."""
# In standard deviations: numbers that are farther from the middle count as this far, so that a wrong number does not outweigh all.
FARTHEST = 4.0
OF_MIDDLE_HALF = 1.349  # The middle half of a normal law is so many standard deviations wide.
STRENGTH = 0.1  # C of the logistic regression, the inverse of its penalty.


class Result(NamedTuple):
    """The result of one test."""

    index: int
    """The index of the class whose rows are tested; k for all rows."""
    window: int
    """The last window from which rows came."""
    rows: int
    """The number of rows that were compared with the reference."""
    p_value: float
    separation: float
    """The balanced accuracy at which these rows are told from the reference, on rows that the classifier was not trained on: 1/2
    where nothing has moved."""
    feature: int
    """The index of the feature that by itself has moved the most."""
    now: tuple[float, ...]
    """The quartiles of that feature in the tested rows."""
    usual: tuple[float, ...]
    """Its quartiles in the reference."""


@dataclasses.dataclass
class Features:
    """The tests so far, by class, and under the key k those of all rows. The level is divided equally among the classes and all
    rows together. Each part is divided once more over all tests that may ever come, by `sequential.start_weight`, so that where
    nothing moves the probability of any finding at all is at most the level. Each test has rows of its own beside the reference,
    and its bound holds whatever the results of the others."""

    level: float
    life: int
    """The number of windows that the watch is planned for."""
    k: int
    reference_windows: int
    """The number of first batches of rows that form the reference."""
    reference: dict[int, Drawn] = dataclasses.field(default_factory=dict)
    batch: dict[int, Drawn] = dataclasses.field(default_factory=dict)
    """Rows that wait until there are enough of them for a test."""
    batches: dict[int, int] = dataclasses.field(default_factory=dict)
    """The number of batches that the reference is made of so far."""
    tests: dict[int, int] = dataclasses.field(default_factory=dict)
    """The number of tests so far."""
    found: dict[int, Result] = dataclasses.field(default_factory=dict)
    """The first result that showed that features have moved."""
    last: dict[int, Result] = dataclasses.field(default_factory=dict)
    """The latest result."""

    def take(self, index: int, rows: Drawn, window: int) -> None:
        """Take new rows into account, those of class `index` or, where it is k, those of all classes.

        Args:
            index: the class, or k.
            rows: their random numbers and their features, shape (m, f). Rows of a class that have no feature at all are left out.
            window: the last window that was closed.
        """
        if index < self.k:  # A row may bring nothing but a label.
            has_any = np.isfinite(rows[1]).any(1)
            rows = rows[0][has_any], rows[1][has_any]
        if not len(rows[0]):
            return
        if not self._is_whole(index):
            self.reference[index] = drawn(
                self.reference.get(index), rows, self._most(index, REFERENCE)
            )
            self.batches[index] = self.batches.get(index, 0) + 1
            return
        size = self._most(index, BATCH)
        self.batch[index] = drawn(self.batch.get(index), rows, size)
        if len(self.batch[index][0]) >= FEWEST:
            self._test(index, window)

    def _most(self, index: int, sizes: tuple[int, int]) -> int:
        """The largest number of rows that is kept of a class, or of all rows."""
        of_one, of_all = sizes
        return of_one if index == self.k else min(of_one, of_all // self.k)

    def _is_whole(self, index: int) -> bool:
        """Whether the reference of a class is complete."""
        size = len(self.reference.get(index, ((), ()))[0])
        return self.batches.get(index, 0) >= self.reference_windows and size >= FEWEST

    def _test(self, index: int, window: int) -> None:
        usual, now = (_in_order(rows) for rows in (self.reference[index], self.batch.pop(index)))
        p_value, separation = two_sample(usual, now)
        feature = _moved_most(usual, now)
        quartiles = (_quartiles(rows[:, feature]) for rows in (now, usual))
        result = Result(index, window, len(now), p_value, separation, feature, *quartiles)
        self.tests[index] = self.tests.get(index, 0) + 1
        self.last[index] = result
        part = self.level / (self.k + 1) * sequential.start_weight(self.tests[index], self.life)
        if p_value <= part:
            self.found.setdefault(index, result)


def two_sample(
    usual: Float[np.ndarray, "n f"], now: Float[np.ndarray, "m f"]
) -> tuple[float, float]:
    """A p value of the hypothesis that rows of both samples have the same law, and how well they are told apart.

    A classifier is trained on each half of both samples and then says for each row of the other half whether it is of `now`, which is
    where its score is above the median of the training half. Given how many rows are of each sample and how many are said to be of
    `now`, the number of right ones among the latter is hypergeometric under the hypothesis, exactly and for any classifier. The two
    halves are not independent, since a chance difference that is in both makes both results larger; p = 2 min(p_1, p_2) is valid
    all the same.

    Args:
        usual, now: rows in random order, shapes (n, f) and (m, f); NaN for missing numbers.

    Returns:
        p, and the balanced accuracy, which is the mean over both halves.

    Source: Lopez-Paz and Oquab 2017; Fisher's exact test.
    """
    p_values, rights = [], []
    for held in (0, 1):
        score, middle = _classifier(usual[1 - held :: 2], now[1 - held :: 2])
        answers = [score(rows[held::2]) > middle for rows in (usual, now)]
        sizes, called_now = [len(x) for x in answers], [int(x.sum()) for x in answers]
        p_value = stats.hypergeom.sf(called_now[1] - 1, sum(sizes), sum(called_now), sizes[1])
        p_values.append(p_value)
        rights.append((1 - answers[0].mean() + answers[1].mean()) / 2)
    return float(min(1.0, 2 * min(p_values))), float(np.mean(rights))


def _classifier(
    usual: np.ndarray, now: np.ndarray
) -> tuple[Callable[[np.ndarray], np.ndarray], float]:
    """A score that is higher for rows of `now` than for those of `usual`, and its median where both samples count the same. The score
    is that of a logistic regression on the features, their squares, their products where there are few features, and marks of
    missing numbers."""
    from sklearn.linear_model import (
        LogisticRegression,  # here, since logs without features need no such import
    )

    rows = np.concatenate([usual, now]).astype(float)
    centre, width = _middle(rows)
    pairs = np.triu_indices(len(centre), 1) if len(centre) <= MOST_PRODUCTS else ([], [])

    def columns(x: np.ndarray) -> np.ndarray:
        z = np.clip(np.nan_to_num((x - centre) / width), -FARTHEST, FARTHEST)
        return np.hstack([z, z**2, z[:, pairs[0]] * z[:, pairs[1]], ~np.isfinite(x)])

    made = columns(rows)
    scale = made.std(0)
    made = (made - made.mean(0)) / np.where(scale > 0, scale, 1)
    is_now = np.repeat([0, 1], [len(usual), len(now)])
    coefficients = LogisticRegression(C=STRENGTH, max_iter=300).fit(made, is_now).coef_[0]
    coefficients = coefficients / np.where(scale > 0, scale, 1)
    scores = columns(rows) @ coefficients
    order = np.argsort(scores, kind="stable")
    weights = np.repeat([0.5 / len(usual), 0.5 / len(now)], [len(usual), len(now)])[order]
    middle = scores[order][min(np.searchsorted(weights.cumsum(), 0.5), len(order) - 1)]
    return lambda x: columns(x) @ coefficients, float(middle)


def _middle(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The median of each feature, and its standard deviation, estimated from the range of the middle half of the numbers, which a few
    wrong ones hardly change; where that range is 0, the standard deviation of all of them."""
    centre, width = np.zeros(rows.shape[1]), np.ones(rows.shape[1])
    for i, values in enumerate(rows.T):
        known = values[np.isfinite(values)]
        if len(known):
            low, centre[i], high = np.quantile(known, [0.25, 0.5, 0.75])
            width[i] = (high - low) / OF_MIDDLE_HALF or known.std() or 1.0
    return centre, width


def _moved_most(usual: np.ndarray, now: np.ndarray) -> int:
    """The index of the feature whose distribution functions in both samples are the farthest apart; missing numbers count as the
    smallest."""
    farthest = []
    for before, after in zip(usual.T, now.T, strict=True):
        before, after = (np.sort(np.where(np.isfinite(x), x, -np.inf)) for x in (before, after))
        at = np.concatenate([before, after])
        below = [np.searchsorted(x, at, side="right") / len(x) for x in (before, after)]
        farthest.append(np.abs(below[0] - below[1]).max())
    return int(np.argmax(farthest))


def _quartiles(values: np.ndarray) -> tuple[float, ...]:
    """The quartiles of the numbers that are not missing; empty where all are missing."""
    known = values[np.isfinite(values)]
    return tuple(np.quantile(known, [0.25, 0.5, 0.75]).tolist()) if len(known) else ()


def _in_order(rows: Drawn) -> np.ndarray:
    """The features of drawn rows in the order of their random numbers, shape (m, f)."""
    return rows[1][np.argsort(rows[0])].astype(float)
