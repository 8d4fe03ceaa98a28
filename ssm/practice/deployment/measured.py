"""Parts of a card that say how well a model did on held-out cases, and at which recall to act."""

from __future__ import annotations

import dataclasses
import math

from ssm.practice.deployment import fields
from ssm.practice.statistics import calibration
from ssm.practice.statistics.estimates import Estimate
from ssm.support import checks
from ssm.support.errors import invalid


@dataclasses.dataclass(frozen=True)
class Proportion:
    """A number of cases out of others, as a share with Wilson's 95 % interval.

    Example:
        >>> recall = Proportion(45, 50)
        >>> recall.share, round(recall.low, 3), round(recall.high, 3)
        (0.9, 0.786, 0.957)

    Raises ssm.InputError unless 0 <= count <= of.
    """

    count: int
    of: int

    def __post_init__(self) -> None:
        checks.integer("count", self.count, 0, fields.whole("of", self.of))

    @property
    def share(self) -> float:
        """count / of; NaN where there are no cases."""
        return self.count / self.of if self.of else math.nan

    @property
    def low(self) -> float:
        """The lower end of the interval; NaN where there are no cases."""
        return self._ends()[0]

    @property
    def high(self) -> float:
        """The upper end of the interval; NaN where there are no cases."""
        return self._ends()[1]

    def _ends(self) -> tuple[float, float]:
        if not self.of:
            return math.nan, math.nan
        low, high = calibration.wilson([self.count], [self.of])
        return float(low[0]), float(high[0])


@dataclasses.dataclass(frozen=True)
class Performance:
    """How well a model did on held-out cases.

    Raises ssm.InputError unless the table is square and of whole numbers, not all 0, and each estimate lies within its
    interval.
    """

    confusion: tuple[tuple[int, ...], ...]
    """The number of cases of each true class (rows) about which each decision was taken (columns), shape (k, k)."""
    calibration_error: Estimate | None = None
    """The calibration error of the most probable class, estimated without the bias of bins, with its 95 % interval."""
    expected_cost: Estimate | None = None
    """The expected cost of 1000 cases by the card's costs, with its 95 % interval."""

    def __post_init__(self) -> None:
        what = "k rows of k whole numbers, not all 0: a row a true class, a column a decision"
        rows = [
            checks.items("confusion", row, what) for row in fields.rows("confusion", self.confusion)
        ]
        table = tuple(tuple(fields.whole("confusion", count) for count in row) for row in rows)
        if any(len(row) != len(table) for row in table) or not any(map(any, table)):
            raise invalid("performance.confusion", self.confusion, what)
        object.__setattr__(self, "confusion", table)
        for name in ("calibration_error", "expected_cost"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, fields.estimate(f"performance.{name}", value))

    @property
    def num_cases(self) -> int:
        """The number of all held-out cases."""
        return sum(map(sum, self.confusion))

    @property
    def recall(self) -> tuple[Proportion, ...]:
        """Of the cases of each class, those for which the class was decided."""
        return tuple(Proportion(row[c], sum(row)) for c, row in enumerate(self.confusion))

    @property
    def precision(self) -> tuple[Proportion, ...]:
        """Of the decisions for each class, those that were right."""
        columns = list(zip(*self.confusion, strict=True))
        return tuple(Proportion(column[c], sum(column)) for c, column in enumerate(columns))


@dataclasses.dataclass(frozen=True)
class AlarmLimits:
    """At which recall of a class to act, by how many labelled cases of the class a window holds.

    Raises ssm.InputError unless the table has a column for each window, with numbers of right decisions that are less
    than the number of cases.
    """

    level: float
    """The highest probability that any class alarms in one window, if all is as on the held-out cases."""
    windows: tuple[int, ...]
    """The numbers of labelled cases of one class that a window may hold, shape (v,)."""
    most_right: tuple[tuple[int | None, ...], ...]
    """The largest number of right decisions that is an alarm, by class and window, shape (k, v); None where there is no alarm
    even without any right decision."""

    def __post_init__(self) -> None:
        level = checks.real("alarms.level", self.level, 0, 1, open_ends="()")
        object.__setattr__(self, "level", level)
        what = "whole numbers, at least 1"
        windows = checks.items("alarms.windows", self.windows, what)
        windows = tuple(checks.integer("alarms.windows", w, 1, 10**9) for w in windows)
        if not windows:
            raise invalid("alarms.windows", windows, f"{what}, one or more")
        object.__setattr__(self, "windows", windows)
        table = []
        for row in fields.rows("alarms.most_right", self.most_right):
            row = checks.items("alarms.most_right", row, what)
            if len(row) != len(windows):
                raise invalid("alarms.most_right", row, f"{len(windows)} numbers, one a window")
            name = "alarms.most_right"
            pairs = zip(row, windows, strict=True)
            table.append(
                tuple(None if n is None else checks.integer(name, n, 0, w - 1) for n, w in pairs)
            )
        object.__setattr__(self, "most_right", tuple(table))

    def recall(self, c: int) -> tuple[float | None, ...]:
        """The recall of class c at or below which to act, for each window; None where no recall is an alarm."""
        pairs = zip(self.most_right[c], self.windows, strict=True)
        return tuple(None if most is None else most / window for most, window in pairs)
