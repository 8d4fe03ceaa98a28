"""What decisions cost: cost matrices from files, prices and arrays, the cheapest decisions, and the expected cost
of decisions with its interval."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from sklearn.metrics import confusion_matrix

from ssm.practice.data.classifiers import Label
from ssm.practice.statistics.estimates import Estimate
from ssm.support import checks
from ssm.support.errors import InputError, did_you_mean, invalid

CASES = 1000  # Expected costs are those of so many cases.


@dataclasses.dataclass(frozen=True, eq=False)
class CostMatrix:
    """The cost of each decision about each class.

    Costs are finite and not negative. A gain is written as a cost of all other decisions, since a number that is added to a whole
    row changes no decision. A right decision may cost something, as a treatment does, but no more than a
    wrong one about the same class: where it costs more, rows and columns are probably exchanged (Elkan 2001 calls
    such matrices unreasonable).

    Example:
        >>> CostMatrix(["ill", "well"], [[0, 50], [1, 0]]).class_weights().tolist()
        [50.0, 1.0]

    Args:
        classes: the labels, k of them, in the order of rows and columns.
        costs: C[c, j], the cost of deciding j where c is true, shape (k, k), in any one unit.

    Raises:
        ssm.InputError: anything else.
    """

    classes: Any  # labels in any sequence, which are kept as a tuple
    costs: Any  # anything of numbers, which is kept as an array

    def __post_init__(self) -> None:
        labels = np.asarray(checks.items("classes", self.classes, "labels, at least two")).tolist()
        if len(labels) < 2 or len(set(labels)) < len(labels):
            raise invalid("classes", labels, "labels, at least two, all different")
        k = len(labels)
        allowed = f"finite numbers, none negative, shape ({k}, {k}): a row a true class, a column a decision"
        costs = checks.array("costs", self.costs, allowed)
        if costs.shape != (k, k) or not (np.isfinite(costs) & (costs >= 0)).all():
            raise invalid("costs", self.costs, allowed)
        right = costs.diagonal()
        for c, label in enumerate(labels):
            if right[c] > costs[c].min():
                what = "no larger than that of a wrong one (rows are true classes)"
                raise invalid(f"cost of a right decision about {label!r}", float(right[c]), what)
        if not (costs > right[:, None]).any():
            raise invalid("costs", self.costs, "larger for at least one wrong decision")
        costs.flags.writeable = False
        object.__setattr__(self, "classes", tuple(labels))
        object.__setattr__(self, "costs", costs)

    def of(self, classes: ArrayLike) -> Float[np.ndarray, "k k"]:
        """The costs in the order of these labels, shape (k, k). Where types differ, labels that are written alike count as the same,
        since files hold text.

        Raises:
            ssm.InputError: labels that are not those of the matrix.
        """
        wanted = np.asarray(classes).tolist()
        own = list(self.classes)
        if set(wanted) != set(own):
            own, wanted = [str(label) for label in own], [str(label) for label in wanted]
        for label in own:
            if label not in wanted:
                hint = did_you_mean(label, [str(x) for x in wanted])
                raise invalid("class of a cost matrix", label, f"one of {wanted}{hint}")
        if len(own) < len(wanted):
            raise invalid("classes of a cost matrix", own, f"all of {wanted}")
        order = [own.index(label) for label in wanted]
        return self.costs[np.ix_(order, order)]

    def class_weights(self) -> Float[np.ndarray, " k"]:
        """The mean cost of getting a class wrong above that of getting it right, sum_{j != c} (C[c, j] - C[c, c]) /
        (k - 1), shape (k,). With two classes, a classifier that is trained with them decides by cost. With more, they are a rule
        of thumb, since one weight of a class cannot tell its different errors apart.

        Source: Breiman et al. 1984; Elkan 2001 (two classes).
        """
        above = self.costs - self.costs.diagonal()[:, None]
        return above.sum(1) / (len(above) - 1)


def of_prices(prices: Mapping[Any, float] | Sequence[str] | str) -> CostMatrix:
    """The matrix for errors about a class that all cost the same, whatever the wrong decision: C[c, j] = price_c for j != c, and
    0 for right decisions.

    Example:
        >>> of_prices("ill=50,well=1").costs.tolist()
        [[0.0, 50.0], [1.0, 0.0]]

    Args:
        prices: a dict {class: price}, or strings `class=price`, in a sequence or between commas.

    Raises:
        ssm.InputError: anything else.
    """
    allowed = "a dict {class: price}, or strings class=price, of at least two classes"
    if not isinstance(prices, Mapping):
        texts = prices.split(",") if isinstance(prices, str) else prices
        pairs = [str(text).rpartition("=") for text in checks.items("prices", texts, allowed)]
        if not all(name.strip() and equals for name, equals, _ in pairs):
            raise invalid("prices", prices, allowed)
        named = {name.strip(): _number(f"price of {name.strip()}", x) for name, _, x in pairs}
        if len(named) < len(pairs):
            raise invalid("prices", prices, "of classes that are all different")
        prices = named
    each = [checks.real(f"price of {label!r}", price, 0) for label, price in prices.items()]
    if len(each) < 2:
        raise invalid("prices", prices, allowed)
    matrix = np.array(each)[:, None] * (1 - np.eye(len(each)))
    return CostMatrix(list(prices), matrix)


def read(path: str | Path) -> CostMatrix:
    """The matrix of a CSV file. Its first row names the decisions, after a first cell that may hold anything; each
    other row has the name of the true class and the costs.

    Raises:
        ssm.InputError: a file that cannot be read, or holds something else.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise invalid("costs", str(path), f"a CSV file ({error})") from None
    k = len(rows) - 1
    if k < 2 or any(len(row) != k + 1 for row in rows):
        what = (
            "a CSV file with a row of names, and for each of them a row of its name and the costs"
        )
        raise invalid("costs", str(path), what)
    decided, true = rows[0][1:], [row[0] for row in rows[1:]]
    if sorted(decided) != sorted(true):
        raise invalid("classes of the rows", true, f"those of the columns, {decided}")
    costs = [[_number(f"cost of {row[0]!r}", cell) for cell in row[1:]] for row in rows[1:]]
    order = [decided.index(name) for name in true]
    return CostMatrix(true, np.array(costs)[:, order])


def cheapest(probabilities: ArrayLike, costs: ArrayLike) -> Int[np.ndarray, " m"]:
    """The decision of least expected cost for each sample, argmin_j sum_c C[c, j] p_c, shape (m,); the first of those that
    cost the same. With two classes and right decisions that cost 0, it is the second where p_2 >= C_12 / (C_12 + C_21).

    Example:
        >>> cheapest([[0.97, 0.03], [0.995, 0.005]], [[0, 1], [50, 0]]).tolist()
        [1, 0]

    Args:
        probabilities: p, for the shares of the cases to be decided, shape (m, k).
        costs: C, shape (k, k), in the order of the columns of p (`CostMatrix.of`).

    Source: Elkan 2001.
    """
    return (np.asarray(probabilities, float) @ np.asarray(costs, float)).argmin(axis=1)


def confusion(y_true: ArrayLike, y_decided: ArrayLike, classes: Sequence[Label]) -> pd.DataFrame:
    """The number of samples of each true class (rows) about which each decision was taken (columns).

    Raises:
        ssm.InputError: labels that are not among the classes, or of different numbers.
    """
    labels = list(classes)
    true, decided = _index("y_true", y_true, labels), _index("y_decided", y_decided, labels)
    _check_pairs(true, decided)
    counts = confusion_matrix(true, decided, labels=np.arange(len(labels)))
    return pd.DataFrame(
        counts, index=pd.Index(labels, name="true"), columns=pd.Index(labels, name="decided")
    )


def mean_cost(y_true: ArrayLike, y_decided: ArrayLike, matrix: CostMatrix) -> float:
    """The mean cost of a case. A search minimises it by `sklearn.metrics.make_scorer(mean_cost,
    greater_is_better=False, matrix=matrix)`.

    Raises:
        ssm.InputError: labels that the matrix does not have, or of different numbers.
    """
    return float(_costs_of(y_true, y_decided, matrix).mean())


def expected_cost(
    y_true: ArrayLike,
    y_decided: ArrayLike,
    matrix: CostMatrix,
    *,
    num_resamples: int = 9999,
    seed: int | np.random.Generator = 0,
) -> Estimate:
    """The expected cost of 1000 cases, with the 95 % interval of the percentiles of bootstrap samples of cases.

    These cases must have had no part in fitting or choosing what made the decisions.

    Args:
        y_true: labels of the cases, shape (m,).
        y_decided: the decisions about them, shape (m,).
        matrix: the costs.
        num_resamples: bootstrap samples.
        seed: of the bootstrap.

    Raises:
        ssm.InputError: labels that the matrix does not have, or of different numbers.

    Source: Efron 1979.
    """
    return _bootstrapped(_costs_of(y_true, y_decided, matrix), num_resamples, seed)


def cost_difference(
    y_true: ArrayLike,
    y_decided: ArrayLike,
    y_reference: ArrayLike,
    matrix: CostMatrix,
    *,
    num_resamples: int = 9999,
    seed: int | np.random.Generator = 0,
) -> Estimate:
    """How much more 1000 cases cost by one rule of decision than by a reference, with the 95 % interval of the
    percentiles of bootstrap samples of cases. A case is drawn with both of its decisions, so that noise which both rules
    share cancels.

    Args and Raises: as for `expected_cost`; `y_reference` are the decisions of the reference.
    """
    own = _costs_of(y_true, y_decided, matrix)
    return _bootstrapped(own - _costs_of(y_true, y_reference, matrix), num_resamples, seed)


def _bootstrapped(
    each: Float[np.ndarray, " m"], num_resamples: int, seed: int | np.random.Generator
) -> Estimate:
    """The mean over the cases, times `CASES`, with its interval. Cases of equal cost are drawn together, as a multinomial
    count."""
    num_resamples = checks.integer("num_resamples", num_resamples, 19, 10**6)
    values, counts = np.unique(each, return_counts=True)
    m = len(each)
    drawn = np.random.default_rng(seed).multinomial(m, counts / m, size=num_resamples)
    low, high = np.quantile(drawn @ values / m, [0.025, 0.975])
    return Estimate(*(CASES * float(x) for x in (each.mean(), low, high)))


def _costs_of(
    y_true: ArrayLike, y_decided: ArrayLike, matrix: CostMatrix
) -> Float[np.ndarray, " m"]:
    """The cost of each case, shape (m,)."""
    if not isinstance(matrix, CostMatrix):
        raise invalid("matrix", matrix, "an ssm.practice.costs.CostMatrix")
    true = _index("y_true", y_true, matrix.classes)
    decided = _index("y_decided", y_decided, matrix.classes)
    _check_pairs(true, decided)
    return matrix.costs[true, decided]


def _check_pairs(true: np.ndarray, decided: np.ndarray) -> None:
    if len(true) != len(decided) or not len(true):
        raise invalid("y_decided", f"{len(decided)} labels", f"one for each of {len(true)} cases")


def _index(name: str, labels: ArrayLike, classes: Sequence[Label]) -> Int[np.ndarray, " m"]:
    """The position of each label among the classes. A label that is none of them counts as the class that is written alike."""
    given = np.asarray(labels)
    if given.ndim != 1:
        raise invalid(name, labels, "labels, shape (m,)")
    known = list(classes)
    place = {label: c for c, label in enumerate(known)}
    found, inverse = np.unique(given, return_inverse=True)
    by_text = {str(label): c for c, label in enumerate(known)}
    places = [place.get(label, by_text.get(str(label))) for label in found.tolist()]
    for label, at in zip(found.tolist(), places, strict=True):
        if at is None:
            raise invalid(name, label, f"one of {known}")
    return np.array(places, dtype=np.int64)[inverse]


def _number(name: str, text: str) -> float:
    try:
        return checks.real(name, float(text), 0)
    except InputError:
        raise
    except ValueError:
        raise invalid(name, text.strip(), "a finite number in [0, inf)") from None
