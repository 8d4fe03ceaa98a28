"""Alarms of one class against the rest: thresholds that are chosen on some samples and judged on others, and the
curves of decisions and of costs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from ssm.practice.statistics import calibration
from ssm.practice.statistics.calibration import Samples
from ssm.practice.statistics.estimates import Estimate
from ssm.support import checks
from ssm.support.errors import invalid

Judged = tuple[ArrayLike, ArrayLike]
"""Probabilities of the class, shape (m,), and 1 where it came true, else 0, shape (m,)."""


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
    p, y = _pairs("held_out", (probabilities, outcomes))
    precision = checks.real("precision", precision, 0, 1, open_ends="(")
    levels, alarms, hits = _cumulative(p, y)
    reached = np.flatnonzero(hits >= precision * alarms)
    return float(levels[reached[-1]]) if len(reached) else np.inf


def threshold_at_budget(probabilities: ArrayLike, budget: float) -> float:
    """The lowest threshold at which at most this share of the samples are alarms; infinite where even the most
    probable ones, being equal, are more.

    Raises ssm.InputError for anything but probabilities and a share in [0, 1].
    """
    p, _ = _pairs("held_out", (probabilities, np.zeros(np.shape(probabilities))))
    budget = checks.real("budget", budget, 0, 1)
    levels, alarms, _ = _cumulative(p, np.zeros(len(p)))
    within = np.flatnonzero(alarms <= budget * len(p) * (1 + 1e-12))
    return float(levels[within[-1]]) if len(within) else np.inf


def alarms_at(threshold: float, probabilities: ArrayLike, outcomes: ArrayLike) -> Alarms:
    """What alarms at a threshold come to on samples that had no part in choosing it.

    Raises ssm.InputError for anything but probabilities and outcomes of 0 and 1.
    """
    p, y = _pairs("judged", (probabilities, outcomes))
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


class DecisionCurve(NamedTuple):
    """Net benefit by the probability at which one acts, each of shape (t,). Acting on none has 0."""

    thresholds: Float[np.ndarray, " t"]
    model: Float[np.ndarray, " t"]
    act_on_all: Float[np.ndarray, " t"]


def decision_curve(
    probabilities: ArrayLike, outcomes: ArrayLike, thresholds: ArrayLike
) -> DecisionCurve:
    """The net benefit of acting where p >= t, TP / m - (FP / m) t / (1 - t), in true positives per case.

    A threshold t says that one would act on (1 - t) / t negatives for one positive. None is chosen on these
    samples: each stands for a user's own costs.

    Args:
        probabilities: calibrated, of the class, shape (m,).
        outcomes: 1 where it came true, else 0, shape (m,).
        thresholds: t in [0, 1), shape (t,).

    Raises:
        ssm.InputError: anything else.

    Source: Vickers and Elkin 2006.
    """
    p, y = _pairs("judged", (probabilities, outcomes))
    at = _within("thresholds", thresholds, ")")
    odds = at / (1 - at)
    acts = p >= at[:, None]
    model = (acts @ y - odds * (acts @ (1 - y))) / len(p)
    return DecisionCurve(at, model, y.mean() - odds * (1 - y.mean()))


class CostCurve(NamedTuple):
    """Normalised expected cost by operating point, each of shape (t,)."""

    points: Float[np.ndarray, " t"]
    """Share of the positive class times cost of missing it, over the sum of this and of the same of the negative
    class."""
    model: Float[np.ndarray, " t"]
    trivial: Float[np.ndarray, " t"]
    """That of the better of deciding always the same, min(x, 1 - x)."""


def cost_curve(
    probabilities: ArrayLike, outcomes: ArrayLike, share: float, points: ArrayLike
) -> CostCurve:
    """The expected cost of deciding by a classifier's probabilities, for all class shares and costs at once.

    At the operating point x = s_1 C_1 / (s_1 C_1 + s_0 C_0), of shares s and costs C of errors, the probabilities
    are taken from their own shares to x and the more probable class is decided; the cost, over the most that it
    could be, is x (1 - recall) + (1 - x) (share of false alarms). No threshold is chosen on these samples, so that
    the curve is not better than it will be, unlike a lower envelope of all thresholds.

    Args:
        probabilities: of the positive class, shape (m,).
        outcomes: 1 where it came true, else 0, both present, shape (m,).
        share: of the positive class, that the probabilities are for, in (0, 1).
        points: x in [0, 1], shape (t,).

    Raises:
        ssm.InputError: anything else.

    Source: Drummond and Holte 2006.
    """
    p, y = _pairs("judged", (probabilities, outcomes))
    share = checks.real("share", share, 0, 1, open_ends="()")
    at = _within("points", points, "")
    if not 0 < y.sum() < len(y):
        raise invalid("outcomes", f"all {y[0]:g}", "of both kinds")
    # p x / share > (1 - p) (1 - x) / (1 - share), without a division by 0
    acts = p * (1 - share) * at[:, None] >= (1 - p) * share * (1 - at[:, None])
    missed = 1 - acts @ y / y.sum()
    false = acts @ (1 - y) / (1 - y).sum()
    return CostCurve(at, at * missed + (1 - at) * false, np.minimum(at, 1 - at))


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


def _pairs(name: str, value: Judged) -> tuple[Samples, Samples]:
    p = checks.array(f"probabilities ({name})", value[0], "probabilities, shape (m,)")
    if p.ndim != 1 or not len(p) or not ((p >= 0) & (p <= 1)).all():
        raise invalid(f"probabilities ({name})", value[0], "probabilities, shape (m,)")
    y = np.asarray(value[1])
    if y.shape != p.shape or not np.isin(y, (0, 1)).all():
        raise invalid(f"outcomes ({name})", value[1], f"{len(p)} times 0 or 1")
    return p, y.astype(np.float64)


def _within(name: str, value: ArrayLike, open_ends: str) -> Float[np.ndarray, " t"]:
    allowed = f"numbers in [0, 1{open_ends or ']'}, shape (t,)"
    given = checks.array(name, value, allowed)
    inside = (given >= 0) & ((given < 1) if open_ends else (given <= 1))
    if given.ndim != 1 or not given.size or not inside.all():
        raise invalid(name, value, allowed)
    return given
