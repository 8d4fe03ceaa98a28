"""Have features moved, those of all rows or those within a class? A classifier two-sample test of each new batch of rows
against the first ones of the log.

Class shares that move change which features all rows have, but not those within a class. So a class's rows tell, once their
labels are known, whether there is more to it than shares.
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
"""So many rows a batch has at least, and a reference."""
BATCH, REFERENCE = (4000, 40_000), (4000, 80_000)
"""So many rows of a class at most, or of all rows, and of all classes together: with more than 400 classes none has a test."""
MOST_PRODUCTS = 12
"""Of so many features at most products are given to the classifier too."""
FARTHEST = 4.0  # in standard deviations: beyond it a number counts as so far, lest one wrong number is all that counts
OF_MIDDLE_HALF = 1.349  # standard deviations of a normal law
STRENGTH = 0.1  # C of the logistic regression


class Result(NamedTuple):
    """One test."""

    index: int
    """The class, by its place; k for all rows."""
    window: int
    """The last that rows are of."""
    rows: int
    p_value: float
    separation: float
    """Balanced accuracy at telling these rows from the first ones, on rows that the classifier was not trained on: 1/2 where
    nothing has moved."""
    feature: int
    """The one that alone has moved the most, by its place."""
    now: tuple[float, ...]
    """Its quartiles."""
    usual: tuple[float, ...]
    """Those of the reference."""


@dataclasses.dataclass
class Features:
    """The tests so far. The level is divided equally among the classes and all rows together, and a part once more over all
    tests that ever come, by `sequential.start_weight`: any finding at all, where nothing moves, has a probability of at most
    the level. Each test has rows of its own beside the reference, and its bound holds whatever the other tests say."""

    level: float
    life: int
    k: int
    reference_windows: int
    """So many first batches of rows are the reference."""
    reference: dict[int, Drawn] = dataclasses.field(default_factory=dict)
    batch: dict[int, Drawn] = dataclasses.field(default_factory=dict)
    """Rows that wait until they are enough for a test."""
    batches: dict[int, int] = dataclasses.field(default_factory=dict)
    """How many batches of rows the reference is of."""
    tests: dict[int, int] = dataclasses.field(default_factory=dict)
    """How many there were."""
    found: dict[int, Result] = dataclasses.field(default_factory=dict)
    """The first result that says that features have moved."""
    last: dict[int, Result] = dataclasses.field(default_factory=dict)

    def take(self, index: int, rows: Drawn, window: int) -> None:
        """Take new rows into account, of class `index` or, at k, of all classes.

        Args:
            rows: their features, shape (m, f). Of a class, rows without any are left out.
            window: the last that was closed.
        """
        if index < self.k:  # a row may bring a label alone
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
        """So many rows are kept of a class, or of all rows."""
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

    A classifier is trained on each half of both samples and asked about the other half: whether a row is of `now`, from a score above the
    median of the training half. Given the numbers of both kinds and of answers, those that are right are hypergeometric under
    the hypothesis, exactly and for any classifier. The two halves are not independent of each other, as the score that finds
    a chance difference of one half favours the half in which it is there too: p = 2 min(p_1, p_2), which holds all the same.

    Args:
        usual, now: rows in an order by chance; NaN for what is missing.

    Returns:
        p, and the balanced accuracy, the mean of both halves.

    Source: Lopez-Paz and Oquab 2017; Fisher's exact test.
    """
    p_values, rights = [], []
    for held in (0, 1):
        score, middle = _classifier(usual[1 - held :: 2], now[1 - held :: 2])
        answers = [score(rows[held::2]) > middle for rows in (usual, now)]
        sizes, said = [len(each) for each in answers], [int(each.sum()) for each in answers]
        p_values.append(stats.hypergeom.sf(said[1] - 1, sum(sizes), sum(said), sizes[1]))
        rights.append((1 - answers[0].mean() + answers[1].mean()) / 2)
    return float(min(1.0, 2 * min(p_values))), float(np.mean(rights))


def _classifier(
    usual: np.ndarray, now: np.ndarray
) -> tuple[Callable[[np.ndarray], np.ndarray], float]:
    """A score by which rows of `now` differ from those of `usual`, and the median of it where both count the same: that of a logistic
    regression on features, their squares, products of few features, and which are missing."""
    from sklearn.linear_model import LogisticRegression  # takes longer than logs without features

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
    """The median of each feature, and its standard deviation as the range of the middle half says it, which a few wrong numbers do not
    change; where half of the numbers are the same, that of all of them."""
    centre, width = np.zeros(rows.shape[1]), np.ones(rows.shape[1])
    for i, values in enumerate(rows.T):
        known = values[np.isfinite(values)]
        if len(known):
            low, centre[i], high = np.quantile(known, [0.25, 0.5, 0.75])
            width[i] = (high - low) / OF_MIDDLE_HALF or known.std() or 1.0
    return centre, width


def _moved_most(usual: np.ndarray, now: np.ndarray) -> int:
    """The feature whose distribution functions in both samples are the farthest apart; what is missing is below all numbers."""
    farthest = []
    for before, after in zip(usual.T, now.T, strict=True):
        before, after = (np.sort(np.where(np.isfinite(x), x, -np.inf)) for x in (before, after))
        at = np.concatenate([before, after])
        below = [np.searchsorted(x, at, side="right") / len(x) for x in (before, after)]
        farthest.append(np.abs(below[0] - below[1]).max())
    return int(np.argmax(farthest))


def _quartiles(values: np.ndarray) -> tuple[float, ...]:
    """The quartiles of what is not missing; empty where all is."""
    known = values[np.isfinite(values)]
    return tuple(np.quantile(known, [0.25, 0.5, 0.75]).tolist()) if len(known) else ()


def _in_order(rows: Drawn) -> np.ndarray:
    """Drawn rows in the order of their random numbers."""
    return rows[1][np.argsort(rows[0])].astype(float)
