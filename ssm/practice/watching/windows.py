"""What a watch keeps of a log: a few whole numbers for each window and class, whatever the number of rows.

All sums are of whole numbers, with probabilities in units of 2^-24, so that they do not depend on the blocks in which
a log was read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from ssm.practice.watching.cases import Kinds
from ssm.practice.watching.records import NO_LABEL, Rows

UNIT = 2**24
FIELDS = ("labelled", "right", "decided", "decided_labelled", "sum", "sum_labelled", "squares")
"""The rows of a tally, each of shape (k,): the numbers of labelled rows of the class, of those among them that were decided rightly,
of decisions for the class, and of those among them with a label; the sums of p_c over all rows and over labelled ones, and of the
squares of [label = c] - p_c over labelled ones. The last three are in units of 2^-24."""
NUM_FIELDS = len(FIELDS)
SAMPLE = 20_000
"""The number of randomly drawn rows of a window that are kept for its class shares until it is closed."""
LABELLED_SAMPLE = 2000, 40_000
"""The largest numbers of labelled rows, of one class and of all classes together, whose features are kept between two closings."""
HANDLED = ("new", "labelled_later", "duplicated", "conflicting", "out_of_order", "late")
"""The kinds of usable rows. `new`: the first of its case. `labelled_later`: brings the label of a case that was known before.
`duplicated`: adds nothing. `conflicting`: has another label than its case. Every usable row is of one of these four. Of new rows,
`out_of_order` are earlier than the row before, and `late` are of a window that was closed."""
BEFORE = -(2**62)
"""A number below that of any window."""
LENGTHS = {"hour": 3600, "day": 86400, "week": 7 * 86400}  # in seconds
MONDAY = 4 * 86400  # 1970-01-05 in Unix seconds; weeks begin on Mondays.

Drawn = tuple[np.ndarray, np.ndarray]
"""Random numbers of rows, and numbers of each row, for those rows whose random numbers are the lowest among more."""
Tally = Int[np.ndarray, "f k"]
"""The fields of a window, and below them, until it is closed, its labelled rows by true class (rows) and decision."""


class Closing(NamedTuple):
    """The end of one or several windows."""

    windows: tuple[int, ...]
    """The windows that hold rows, in their order."""
    samples: tuple[Drawn, ...]
    """Drawn rows of each of these windows in the order of their random numbers: their probabilities, where the log has any, and
    after these their features, shape (m, k + f)."""
    batch: Tally
    """The tally of all labelled rows of closed windows that came since the last closing."""
    labelled: dict[int, Drawn]
    """The features of drawn labelled rows that came since then, by class, whatever their windows."""


class Clock(NamedTuple):
    """How a log is cut into windows."""

    length: int | None
    """The length of a window in seconds; None where a window is a number of rows."""
    rows: int | None
    """The number of rows of a window; None where windows are times."""

    def window(self, time: np.ndarray, ordinal: np.ndarray) -> Int[np.ndarray, " m"]:
        """The number of each row's window, from its time in Unix seconds and its place among the new rows."""
        if self.length is None:
            assert self.rows is not None  # since one of the two is given
            return ordinal // self.rows
        start = MONDAY if self.length == LENGTHS["week"] else 0
        return np.floor((time - start) / self.length).astype(np.int64)

    def start(self, window: int) -> float:
        """The time at which a window begins, in Unix seconds, or the row with which it does."""
        if self.length is None:
            assert self.rows is not None  # since one of the two is given
            return window * self.rows
        return window * self.length + (MONDAY if self.length == LENGTHS["week"] else 0)


@dataclasses.dataclass
class Ledger:
    """The sums of a log so far. A window is closed when three rows in a row lie beyond it, so that a wrong time closes none."""

    clock: Clock
    k: int
    num_rows: int = 0
    """The number of new rows so far."""
    handled: dict[str, int] = dataclasses.field(default_factory=lambda: dict.fromkeys(HANDLED, 0))
    open: int = BEFORE
    """The window that is open; later ones are not believed yet."""
    last: tuple[int, int] = (BEFORE, BEFORE)
    """The windows of the last two new rows."""
    last_time: float = -np.inf
    closed: dict[int, Tally] = dataclasses.field(default_factory=dict)
    pending: dict[int, Tally] = dataclasses.field(default_factory=dict)
    samples: dict[int, Drawn] = dataclasses.field(default_factory=dict)
    """The drawn rows of each pending window, as a `Closing` has them."""
    labelled: dict[int, Drawn] = dataclasses.field(default_factory=dict)
    """The features of drawn labelled rows since the last closing, by class."""
    num_labelled: int = 0
    """The number of rows so far that brought a label."""
    fresh: Tally = dataclasses.field(default_factory=lambda: np.empty(0, np.int64))
    """The tally of those rows of closed windows that have not been handed on in a closing."""

    def __post_init__(self) -> None:
        if not self.fresh.size:
            self.fresh = self._nothing()

    def _nothing(self) -> Tally:
        """A tally of no rows."""
        return np.zeros((NUM_FIELDS + self.k, self.k), np.int64)

    def take(
        self, rows: Rows, kinds: Kinds, decide: Callable[[np.ndarray], np.ndarray]
    ) -> Iterator[Closing]:
        """Add usable rows, and hand on each closing when it comes.

        Args:
            rows: usable rows in the order of the log.
            kinds: what each row is.
            decide: gives the decisions at given probabilities, for rows without a decision.
        """
        new, m = kinds.new, len(rows.time)
        ordinal = self.num_rows - 1 + np.cumsum(new)
        window = self.clock.window(rows.time, np.maximum(ordinal, 0))
        decision = np.where(rows.prediction != NO_LABEL, rows.prediction, 0)
        blank = rows.prediction == NO_LABEL
        if blank.any() and rows.probabilities is not None:
            decision[blank] = decide(rows.probabilities[blank])
        opened = self._opened(window[new])
        reached = np.full(m, self.open)
        reached[new] = opened
        reached = np.maximum.accumulate(np.r_[self.open, reached])[1:]
        self._count(rows, kinds, window, reached)
        ends = [*np.flatnonzero(np.diff(np.r_[self.open, reached])), m]
        begin = 0
        for end in ends:
            if end > begin:
                part = slice(begin, end)
                self._add(rows, kinds, window, decision, ordinal, part)
            if end < m:
                self.open = int(reached[end])
                if any(w < self.open for w in self.pending):
                    yield self._close()
            begin = end
        self.num_rows += int(new.sum())

    def _opened(self, window: np.ndarray) -> np.ndarray:
        """The latest window that is believed at each new row, which is one that each of the last three rows has reached."""
        if self.clock.length is None:
            return window
        history = np.r_[self.last, window]
        self.last = (int(history[-2]), int(history[-1]))
        return np.minimum(np.minimum(history[2:], history[1:-1]), history[:-2])

    def _count(self, rows: Rows, kinds: Kinds, window: np.ndarray, reached: np.ndarray) -> None:
        """Count rows by what they are."""
        new = kinds.new
        time = np.r_[self.last_time, rows.time[new]]
        late = window[new] < reached[new]
        counts = {
            "new": new,
            "labelled_later": kinds.labels & ~new,
            "duplicated": ~new & ~kinds.labels & ~kinds.conflicting,
            "conflicting": kinds.conflicting,
            "out_of_order": (time[1:] < time[:-1]) & ~late,
            "late": late,
        }
        for name, rows_of_kind in counts.items():
            self.handled[name] += int(rows_of_kind.sum())
        self.last_time = float(time[-1])

    def _add(
        self,
        rows: Rows,
        kinds: Kinds,
        window: np.ndarray,
        decision: np.ndarray,
        ordinal: np.ndarray,
        part: slice,
    ) -> None:
        """Add some rows, between two closings, to the tallies of their windows."""
        new, labels, window = kinds.new[part], kinds.labels[part], window[part]
        decision, label = decision[part], rows.label[part]
        p = None if rows.probabilities is None else rows.probabilities[part]
        x = None if rows.features is None else rows.features[part]
        given = [numbers for numbers in (p, x) if numbers is not None]
        for w in np.unique(window[new | labels]).tolist():
            of_window = window == w
            tally = self._tallied(p, decision, label, of_window & new, of_window & labels)
            if w < self.open:
                before = self.closed.get(w, np.zeros((NUM_FIELDS, self.k), np.int64))
                self.closed[w] = before + tally[:NUM_FIELDS]
                self.fresh = self.fresh + tally
                continue
            self.pending[w] = self.pending.get(w, 0) + tally
            if given:
                chosen = of_window & new
                lots = _scrambled(ordinal[part][chosen])
                numbers = np.hstack([each[chosen] for each in given]).astype(np.float32)
                self.samples[w] = drawn(self.samples.get(w), (lots, numbers), SAMPLE)
        if x is not None:
            self._keep_features(x[labels], label[labels])
        self.num_labelled += int(labels.sum())

    def _keep_features(self, x: np.ndarray, label: np.ndarray) -> None:
        """Draw from labelled rows by their classes."""
        lots = _scrambled(self.num_labelled + np.arange(len(x)))
        of_class, of_all = LABELLED_SAMPLE
        for c in np.unique(label).tolist():
            rows = lots[label == c], x[label == c]
            size = min(of_class, of_all // self.k)
            self.labelled[c] = drawn(self.labelled.get(c), rows, size)

    def _tallied(
        self,
        p: np.ndarray | None,
        decision: np.ndarray,
        label: np.ndarray,
        new: np.ndarray,
        labels: np.ndarray,
    ) -> Tally:
        """The tally of the rows of one window, those that are `new` and those that bring `labels`."""
        k, tally = self.k, self._nothing()
        pairs = np.bincount(label[labels] * k + decision[labels], minlength=k * k)
        confusion = pairs.reshape(k, k)
        tally[NUM_FIELDS:] = confusion
        sums = [confusion.sum(1), confusion.diagonal(), np.bincount(decision[new], minlength=k)]
        tally[:4] = [*sums, confusion.sum(0)]
        if p is not None:
            tally[4] = _units(p[new])
            tally[5] = _units(p[labels])
            gaps = -p[labels]
            gaps[np.arange(len(gaps)), label[labels]] += 1
            tally[6] = _units(gaps**2)
        return tally

    def _close(self) -> Closing:
        """Close all windows before the open one, and return the closing."""
        windows = sorted(w for w in self.pending if w < self.open)
        samples = []
        for w in windows:
            tally = self.pending.pop(w)
            self.closed[w] = tally[:NUM_FIELDS] + self.closed.get(w, 0)
            self.fresh = self.fresh + tally
            lots, numbers = self.samples.pop(w, (np.empty(0, np.uint64), np.empty((0, self.k))))
            order = np.argsort(lots)
            samples.append((lots[order], numbers[order].astype(float)))
        batch, self.fresh = self.fresh, self._nothing()
        labelled, self.labelled = self.labelled, {}
        return Closing(tuple(windows), tuple(samples), batch, labelled)

    @property
    def ahead(self) -> int:
        """The number of new rows in windows beyond the open one, which are not believed yet since hardly any row reaches them."""
        return sum(int(t[2].sum()) for w, t in self.pending.items() if w > self.open)

    def so_far(self) -> Tally:
        """The tally that the next closing would hand on if the open window ended now."""
        return self.fresh + self.pending.get(self.open, 0)


def drawn(before: Drawn | None, more: Drawn, size: int) -> Drawn:
    """The rows with the lowest random numbers among those drawn before and more ones, at most `size` of them."""
    lots, numbers = more
    if before is not None:
        lots, numbers = np.r_[before[0], lots], np.concatenate([before[1], numbers])
    if len(lots) > size:
        chosen = np.argpartition(lots, size)[:size]
        lots, numbers = lots[chosen], numbers[chosen]
    return lots, numbers


def _units(numbers: Float[np.ndarray, "m k"]) -> Int[np.ndarray, " k"]:
    """The sum of each column in units of 2^-24, each number rounded first."""
    return np.rint(numbers * UNIT).astype(np.int64).sum(0)


def _scrambled(ordinal: np.ndarray) -> np.ndarray:
    """Numbers of 64 bits that look random, one for each whole number. Source: Steele, Lea and Flood 2014 (SplitMix64)."""
    with np.errstate(over="ignore"):
        x = ordinal.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
