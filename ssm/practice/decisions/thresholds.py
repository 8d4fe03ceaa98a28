"""Alarms of one class against the rest: thresholds that are chosen on some samples and judged on others."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from ssm.practice.decisions import outcomes as judging
from ssm.practice.decisions.outcomes import Judged
from ssm.practice.statistics import calibration
from ssm.practice.statistics.calibration import Samples
from ssm.practice.statistics.estimates import Estimate
from ssm.support import checks
from ssm.support.errors import invalid


class Alarms(NamedTuple):
    """How well alarms at a threshold do, each number with Wilson's 95 % interval."""

    threshold: float
    """Samples whose probability is at least this are alarms; infinite for none."""
    recall: Estimate
    """The share of the positive samples that are alarms; NaN without positive ones."""
    precision: Estimate
    """The share of the alarms that are positive; NaN without alarms."""
    share: Estimate
    """The share of all samples that are alarms."""
    tied_from: float = np.inf
    """From this probability up to the threshold, samples count as equally probable, since held-out ones were."""
    tied_share: float = 0.0
    """The share of these samples that are alarms too, drawn by lot. Recall, precision and share are then expected values."""


class Budget(NamedTuple):
    """Which samples are alarms within a budget: all from the threshold on, and the share `tied_share` of those below it that are
    equally probable, from `tied_from` on."""

    threshold: float
    tied_from: float
    tied_share: float

    def chances(self, probabilities: ArrayLike) -> Float[np.ndarray, " m"]:
        """The chance of each sample to be an alarm: 1 from the threshold on, `tied_share` from `tied_from` on, else 0."""
        p = np.asarray(probabilities, float)
        return np.where(
            p >= self.threshold, 1.0, np.where(p >= self.tied_from, self.tied_share, 0.0)
        )


def threshold_at_precision(
    probabilities: ArrayLike, outcomes: ArrayLike, precision: float
) -> float:
    """The threshold of highest recall among those whose alarms have at least this precision on these samples; infinite where
    no threshold has.

    Raises ssm.InputError for anything but probabilities, outcomes of 0 and 1, and a precision in (0, 1].
    """
    p, y = judging.pairs("held_out", (probabilities, outcomes))
    precision = checks.real("precision", precision, 0, 1, open_ends="(")
    levels, alarms, hits = _cumulative(p, y)
    reached = np.flatnonzero(hits >= precision * alarms)
    return float(levels[reached[-1]]) if len(reached) else np.inf


def threshold_at_budget(probabilities: ArrayLike, budget: float) -> float:
    """The lowest threshold at which at most this share of the samples are alarms; infinite where already the samples of the
    highest probability are more.

    Raises ssm.InputError for anything but probabilities and a share in [0, 1].
    """
    p, _ = judging.pairs("held_out", (probabilities, np.zeros(np.shape(probabilities))))
    budget = checks.real("budget", budget, 0, 1)
    levels, alarms, _ = _cumulative(p, np.zeros(len(p)))
    within = np.flatnonzero(alarms <= budget * len(p) * (1 + 1e-12))
    return float(levels[within[-1]]) if len(within) else np.inf


def within_budget(probabilities: ArrayLike, budget: float) -> Budget:
    """Alarms that are this share of the samples, even where many samples are equally probable, as with forests, whose probabilities
    are shares of trees. Where only a part of such a tie fits into the budget, its alarms are drawn by lot.

    With a budget b, n samples, and a of them above the tie, (b n - a) / m of the m > 1 tied samples are alarms. The tie
    reaches half way to the next probabilities above and below, since new samples need not have exactly the same probability.
    Where no tie is cut, the threshold is that of `threshold_at_budget`.

    Example:
        >>> found = within_budget([1.0, 1.0, 1.0, 0.2], 0.5)
        >>> found.tied_share, found.chances([1.0, 0.9, 0.1]).round(3).tolist()
        (0.6666666666666666, [0.667, 0.667, 0.0])

    Raises ssm.InputError for anything but probabilities and a share in [0, 1].
    """
    threshold = threshold_at_budget(probabilities, budget)
    p = np.asarray(probabilities, float)
    levels, alarms, _ = _cumulative(p, np.zeros(len(p)))
    place = int((levels >= threshold).sum())  # the index of the first level that does not fit
    above = alarms[place - 1] if place else 0
    if place == len(levels) or alarms[place] - above < 2:
        return Budget(threshold, threshold, 0.0)
    tied = levels[place]
    upper = (levels[place - 1] + tied) / 2 if place else np.inf
    lower = (tied + levels[place + 1]) / 2 if place + 1 < len(levels) else 0.0
    # Between two neighbouring floating-point numbers, the middle is rounded to one of them.
    upper = levels[place - 1] if upper <= tied else upper
    lower = tied if place + 1 < len(levels) and lower <= levels[place + 1] else lower
    # Rounding may leave the budget slightly below the number of samples above the tie.
    share = max(budget * len(p) - above, 0.0) / (alarms[place] - above)
    return Budget(float(upper), float(lower), float(share))


def alarms_at(threshold: float, probabilities: ArrayLike, outcomes: ArrayLike) -> Alarms:
    """How well alarms at a threshold do on samples that had no part in choosing it.

    Raises ssm.InputError for anything but probabilities and outcomes of 0 and 1.
    """
    return _alarms(Budget(float(threshold), float(threshold), 0.0), (probabilities, outcomes))


def recall_at_precision(held_out: Judged, judged: Judged, precision: float) -> Alarms:
    """How well the threshold that has the highest recall at a precision on held-out samples does on others.

    Example:
        >>> held_out = [0.9, 0.8, 0.4, 0.1], [1, 1, 0, 0]
        >>> recall_at_precision(held_out, ([0.95, 0.85, 0.3], [1, 0, 1]), 0.9).recall.mean
        0.5

    Args:
        held_out: probabilities and outcomes of samples that the classifier was not fitted on, by which the
            threshold is chosen.
        judged: probabilities and outcomes of other samples, on which the threshold is judged.
        precision: in (0, 1].

    Raises:
        ssm.InputError: anything else; the same samples for both.
    """
    _check_apart(held_out, judged)
    threshold = threshold_at_precision(*held_out, precision)
    return alarms_at(threshold, *judged)


def recall_at_budget(held_out: Judged, judged: Judged, budget: float) -> Alarms:
    """How well alarms that are a share `budget` of the held-out samples (`within_budget`) do on others.

    Args and Raises: as for `recall_at_precision`; the budget is a share in [0, 1].
    """
    _check_apart(held_out, judged)
    return _alarms(within_budget(held_out[0], budget), judged)


def _alarms(rule: Budget, judged: Judged) -> Alarms:
    """How well a rule for alarms is expected to do on samples that had no part in choosing it."""
    p, y = judging.pairs("judged", judged)
    chances = rule.chances(p)
    # Sums in another order differ by roundings, after which a part could exceed its whole.
    alarms = min(float(chances.sum()), float(len(p)))
    hits = min(float(chances @ y), alarms, float(y.sum()))
    return Alarms(
        rule.threshold,
        _share(hits, float(y.sum())),
        _share(hits, alarms),
        _share(alarms, float(len(p))),
        rule.tied_from,
        rule.tied_share,
    )


def _cumulative(p: Samples, y: Samples) -> tuple[Samples, Samples, Samples]:
    """The different values of p in descending order, and how many samples and how many positive ones are at or above each."""
    levels, first, counts = np.unique(-p, return_inverse=True, return_counts=True)
    return -levels, np.cumsum(counts), np.cumsum(np.bincount(first, y))


def _share(part: float, whole: float) -> Estimate:
    if whole == 0:
        return Estimate(np.nan, np.nan, np.nan)
    low, high = calibration.wilson([part], [whole])
    return Estimate(part / whole, float(low[0]), float(high[0]))


def _check_apart(held_out: Judged, judged: Judged) -> None:
    """Refuse the same samples for choosing a threshold and for judging it, by the array that they are in."""
    p, q = held_out[0], judged[0]
    if p is q or np.shares_memory(np.asarray(p), np.asarray(q)):
        what = "other samples than those that the threshold is chosen on"
        raise invalid("judged", "the held-out samples", what)
