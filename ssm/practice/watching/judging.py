"""Has a class got worse? At each closing of windows, recall, precision and calibration of each class are compared with the
reference."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from ssm.practice.watching import sequential
from ssm.practice.watching.sequential import Evidence, Means, Rates
from ssm.practice.watching.windows import FIELDS, NUM_FIELDS, UNIT, Tally

FEWEST = 30
"""The smallest number of labelled cases in the first windows from which the calibration of a class has a reference."""


class Reference(NamedTuple):
    """How well a classifier did before it was watched, or in the first windows of the log."""

    confusion: Int[np.ndarray, "k k"]
    """The number of cases by true class (rows) and decision."""
    gap: Float[np.ndarray, " k"]
    """The mean of [label = c] - p_c for each class c."""
    gap_error: Float[np.ndarray, " k"]
    """The standard error of the gap; infinite where it is not known."""

    @property
    def recall(self) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of right decisions about each class, and of its cases, each of shape (k,)."""
        return self.confusion.diagonal(), self.confusion.sum(1)

    @property
    def precision(self) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of right decisions for each class, and of all decisions for it, each of shape (k,)."""
        return self.confusion.diagonal(), self.confusion.sum(0)


class Alarm(NamedTuple):
    """A class that got worse, at the time when the evidence first said so."""

    metric: str
    """`recall`, `precision` or `calibration`."""
    index: int
    """The index of the class."""
    window: int
    """The last window that the evidence comes from."""
    evidence: float
    """The logarithm of the evidence, at least that of 1 over the part of the level that this class and metric have."""


@dataclasses.dataclass
class Judge:
    """The evidence so far. The level is divided equally among the metrics and the classes, and each of these parts once more
    over all windows that may ever come. While a classifier stays as it was, the probability of any alarm at all is therefore
    at most the level."""

    level: float
    life: int
    """The number of windows that the watch is planned for."""
    has_probabilities: bool
    reference_windows: int
    """The number of first batches of labels that form the reference, as far as none was given."""
    confusion: Int[np.ndarray, "k k"] | None = None
    """The confusion matrix of the reference, where one was given."""
    first: list[Tally] = dataclasses.field(default_factory=list)
    """The first batches, as far as they have come."""
    rate_sums: Evidence | None = None
    mean_sums: Evidence | None = None
    alarms: dict[tuple[str, int], Alarm] = dataclasses.field(default_factory=dict)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that are judged."""
        return ("recall", "precision", *(["calibration"] if self.has_probabilities else []))

    def limit(self, k: int) -> float:
        """The log evidence from which on there is an alarm: -log of the part of the level that one class and metric have."""
        return float(-np.log(self.level / (k * len(self.metrics))))

    @property
    def whole(self) -> bool:
        """Whether all of the first batches have come."""
        return len(self.first) == self.reference_windows

    @property
    def reference(self) -> Reference | None:
        """The reference that the classifier is compared with; None as long as it is not complete."""
        if self.confusion is None and not self.whole:
            return None
        gap, confusion = None, self.confusion
        if self.whole:
            batches = np.sum(self.first, axis=0)
            gap = _gap(batches) if self.has_probabilities else None
            confusion = batches[NUM_FIELDS:] if confusion is None else confusion
        assert confusion is not None  # since it was given, or the first batches are complete
        k = len(confusion)
        return Reference(confusion, *(gap or (np.zeros(k), np.full(k, np.inf))))

    def judge(self, batch: Tally, window: int) -> Float[np.ndarray, "q k"] | None:
        """Take a batch into account, and add the alarms that it raises to `alarms`.

        Args:
            batch: a tally with at least one labelled row.
            window: the last window that was closed.

        Returns:
            The log evidence by metric and class, shape (q, k); None where there is no reference yet, of which the batch then
            becomes a part.
        """
        reference = self.reference
        rates, means, found = self._weighed(batch, reference)
        self.rate_sums, self.mean_sums = rates, means
        if not self.whole:
            self.first.append(batch)
        if found is not None:
            for alarm in self._raised(found, window):
                self.alarms.setdefault((alarm.metric, alarm.index), alarm)
        return found

    def provisional(self, batch: Tally, window: int) -> list[Alarm]:
        """The further alarms that a batch would raise, which is not taken into account."""
        found = self._weighed(batch, self.reference)[2] if batch[NUM_FIELDS:].any() else None
        raised = [] if found is None else self._raised(found, window)
        return [alarm for alarm in raised if (alarm.metric, alarm.index) not in self.alarms]

    def _raised(self, found: Float[np.ndarray, "q k"], window: int) -> list[Alarm]:
        """The alarms of all metrics and classes whose log evidence has reached the limit."""
        limit = self.limit(found.shape[1])
        return [
            Alarm(self.metrics[q], int(c), window, float(found[q, c]))
            for q, c in np.argwhere(found >= limit)
        ]

    def _weighed(
        self, batch: Tally, reference: Reference | None
    ) -> tuple[Evidence | None, Evidence | None, Float[np.ndarray, "q k"] | None]:
        """The sums of evidence for rates and for means after a batch, and the log evidence by metric and class. Without a reference
        the sums stay as they are, and there is no evidence."""
        if reference is None:
            return self.rate_sums, self.mean_sums, None
        of = dict(zip(FIELDS, batch[:NUM_FIELDS].astype(float), strict=True))
        given = [np.r_[a, b] for a, b in zip(reference.recall, reference.precision, strict=True)]
        rates, bets = Rates.of(*given), len(sequential.ODDS_RATIOS)
        sums = self.rate_sums or Evidence.begun(rates.doubt, bets, self.life)
        trials = np.r_[of["labelled"], of["decided_labelled"]]
        sums, found = sums.after(rates.log_likelihoods(np.r_[of["right"], of["right"]], trials))
        found = found.reshape(2, -1)
        if not self.has_probabilities:
            return sums, None, found
        if not self.whole:
            return sums, None, np.vstack([found, np.zeros((1, found.shape[1]))])
        k = found.shape[1]
        means = Means.of(
            np.tile(reference.gap, 2), np.tile(reference.gap_error, 2), np.repeat([1, -1], k)
        )
        of_means = self.mean_sums or Evidence.begun(means.doubt, len(sequential.BETS), self.life)
        total = of["labelled"] - of["sum_labelled"] / UNIT
        count = np.full(k, of["labelled"].sum())
        moved = [np.tile(x, 2) for x in (count, total, of["squares"] / UNIT)]
        of_means, both = of_means.after(means.log_likelihoods(*moved))
        up, down = both.reshape(2, k)
        return sums, of_means, np.vstack([found, np.logaddexp(up, down) - np.log(2)])


def _gap(batches: Tally) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """The mean of [label = c] - p_c over labelled rows, and its standard error, each of shape (k,); the error is infinite for a
    class with too few labelled rows."""
    of = dict(zip(FIELDS, batches[:NUM_FIELDS].astype(float), strict=True))
    count = of["labelled"].sum()
    mean = (of["labelled"] - of["sum_labelled"] / UNIT) / count
    error = np.sqrt(np.maximum(of["squares"] / UNIT / count - mean**2, 0) / count)
    return mean, np.where((of["labelled"] >= FEWEST) & (error > 0), error, np.inf)
