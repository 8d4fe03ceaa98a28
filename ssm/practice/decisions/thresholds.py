"""Alarms of one class against the rest: thresholds that are chosen on some samples and judged on others."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ssm.practice.decisions import outcomes as judging
from ssm.practice.decisions.outcomes import Judged
from ssm.practice.statistics import calibration
from ssm.practice.statistics.calibration import Samples
from ssm.practice.statistics.estimates import Estimate
from ssm.support import checks
from ssm.support.errors import invalid


class Alarms(NamedTuple):
    """What alarms at a threshold come to, each with Wilson's 95 % interval."""

    threshold: float
    """Samples whose probability is at least this are alarms; infinite for none."""
    recall: Estimate
    """The share of the positive samples that are alarms; NaN without positive ones."""
    precision: Estimate
    """The share of the alarms that are positive; NaN without alarms."""
    share: Estimate
    """The share of all samples that are alarms."""


def threshold_at_precision(
    probabilities: ArrayLike, outcomes: ArrayLike, precision: float
) -> float:
    """The threshold of most recall whose alarms have at least this precision on these samples; infinite where
    none has.

    Raises ssm.InputError for anything but probabilities, outcomes of 0 and 1, and a precision in (0, 1].
    """
    p, y = judging.pairs("held_out", (probabilities, outcomes))
    precision = checks.real("precision", precision, 0, 1, open_ends="(")
    levels, alarms, hits = _cumulative(p, y)
    reached = np.flatnonzero(hits >= precision * alarms)
    return float(levels[reached[-1]]) if len(reached) else np.inf


def threshold_at_budget(probabilities: ArrayLike, budget: float) -> float:
    """The lowest threshold at which at most this share of the samples are alarms; infinite where even the most
    probable ones, being equal, are more.

    Raises ssm.InputError for anything but probabilities and a share in [0, 1].
    """
    p, _ = judging.pairs("held_out", (probabilities, np.zeros(np.shape(probabilities))))
    budget = checks.real("budget", budget, 0, 1)
    levels, alarms, _ = _cumulative(p, np.zeros(len(p)))
    within = np.flatnonzero(alarms <= budget * len(p) * (1 + 1e-12))
    return float(levels[within[-1]]) if len(within) else np.inf


def alarms_at(threshold: float, probabilities: ArrayLike, outcomes: ArrayLike) -> Alarms:
    """What alarms at a threshold come to on samples that had no part in choosing it.

    Raises ssm.InputError for anything but probabilities and outcomes of 0 and 1.
    """
    p, y = judging.pairs("judged", (probabilities, outcomes))
    alarm = p >= threshold
    return Alarms(
        float(threshold),
        _share(float(y[alarm].sum()), float(y.sum())),
        _share(float(y[alarm].sum()), float(alarm.sum())),
        _share(float(alarm.sum()), float(len(p))),
    )


def recall_at_precision(held_out: Judged, judged: Judged, precision: float) -> Alarms:
    """What comes of the threshold that reaches a precision with most recall on held-out samples, on others.

    Example:
        >>> held_out = [0.9, 0.8, 0.4, 0.1], [1, 1, 0, 0]
        >>> recall_at_precision(held_out, ([0.95, 0.85, 0.3], [1, 0, 1]), 0.9).recall.mean
        0.5

    Args:
        held_out: probabilities and outcomes by which the threshold is chosen, of samples that the classifier
            was not fitted on.
        judged: those of other samples, on which it is judged.
        precision: in (0, 1].

    Raises:
        ssm.InputError: anything else; the same samples for both.
    """
    _check_apart(held_out, judged)
    threshold = threshold_at_precision(*held_out, precision)
    return alarms_at(threshold, *judged)


def recall_at_budget(held_out: Judged, judged: Judged, budget: float) -> Alarms:
    """What comes of the threshold at which a share `budget` of the held-out samples are alarms, on others.

    Args and Raises: as for `recall_at_precision`; the budget is a share in [0, 1].
    """
    _check_apart(held_out, judged)
    threshold = threshold_at_budget(held_out[0], budget)
    return alarms_at(threshold, *judged)


def _cumulative(p: Samples, y: Samples) -> tuple[Samples, Samples, Samples]:
    """All levels of p from the highest, and how many samples and positive ones are at or above each."""
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
