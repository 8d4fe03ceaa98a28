"""Curves by which decisions about one class against the rest are judged, with intervals: net benefit by threshold, cost
by operating point, recall and precision by budget of alarms.

Intervals are of 95 % at each point by itself, not of the whole curve at once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from ssm.practice.decisions import outcomes as judging
from ssm.practice.decisions import thresholds as alarms
from ssm.practice.decisions.outcomes import Judged
from ssm.support import checks
from ssm.support.errors import invalid

ENDS = (0.025, 0.975)
Curve = Float[np.ndarray, " t"]


class DecisionCurve(NamedTuple):
    """Net benefit by the probability at which one acts, each array of shape (t,). Acting on no case has a net benefit of 0."""

    thresholds: Curve
    model: Curve
    act_on_all: Curve
    low: Curve
    """The lower end of the model's interval."""
    high: Curve


def decision_curve(
    probabilities: ArrayLike,
    outcomes: ArrayLike,
    thresholds: ArrayLike,
    *,
    num_resamples: int = 1999,
    seed: int | np.random.Generator = 0,
) -> DecisionCurve:
    """The net benefit of acting where p >= t, TP / m - (FP / m) t / (1 - t), in true positives per case.

    A threshold t says that one would act on (1 - t) / t negatives for the sake of one positive. No threshold is chosen on these
    samples; each stands for the costs of some user. Intervals are those of the percentiles of bootstrap samples of cases. They
    know nothing that is not among these cases: where one acts on none of them, the interval is the point 0.

    Example:
        >>> found = decision_curve([0.9, 0.6, 0.4, 0.1], [1, 0, 1, 0], [0.2, 0.5])
        >>> found.model.tolist(), found.act_on_all.tolist()
        ([0.4375, 0.0], [0.375, 0.0])

    Args:
        probabilities: calibrated, of the class, shape (m,).
        outcomes: 1 where it came true, else 0, shape (m,).
        thresholds: t in [0, 1), shape (t,).
        num_resamples: bootstrap samples.
        seed: of the bootstrap.

    Raises:
        ssm.InputError: anything else.

    Source: Vickers and Elkin 2006; intervals Vickers et al. 2008.
    """
    p, y = judging.pairs("judged", (probabilities, outcomes))
    at = judging.within_unit("thresholds", thresholds, ")")
    num_resamples = checks.integer("num_resamples", num_resamples, 19, 10**6)
    odds = at / (1 - at)
    hits, false = _acts(p >= at[:, None], y)
    m = len(p)
    # Of a bootstrap sample of cases only the numbers of hits, of false alarms and of other cases matter.
    kinds = np.stack([hits, false, m - hits - false], axis=1) / m
    drawn = np.random.default_rng(seed).multinomial(m, kinds, size=(num_resamples, len(at)))
    low, high = np.quantile((drawn[..., 0] - odds * drawn[..., 1]) / m, ENDS, axis=0)
    model = (hits - odds * false) / m
    return DecisionCurve(at, model, y.mean() - odds * (1 - y.mean()), low, high)


class CostCurve(NamedTuple):
    """Normalised expected cost by operating point, each array of shape (t,)."""

    points: Curve
    """x: the share of the positive class times the cost of missing it, over the sum of this product and that of the negative
    class."""
    model: Curve
    trivial: Curve
    """The cost of always deciding for the same class, whichever costs less: min(x, 1 - x)."""
    low: Curve
    """The lower end of the model's interval."""
    high: Curve


def cost_curve(
    probabilities: ArrayLike,
    outcomes: ArrayLike,
    share: float,
    points: ArrayLike,
    *,
    num_resamples: int = 1999,
    seed: int | np.random.Generator = 0,
) -> CostCurve:
    """The expected cost of deciding by a classifier's probabilities, for all class shares and costs at once.

    At the operating point x = s_1 C_1 / (s_1 C_1 + s_0 C_0), of shares s and costs C of errors, the probabilities
    are taken from the share that they are for to x, and the more probable class is decided. The cost, divided by the most that it
    could be, is x (1 - recall) + (1 - x) (share of false alarms). No threshold is chosen on these samples, so that
    the curve is not too favourable, unlike a lower envelope over all thresholds. Intervals are those of the percentiles
    of bootstrap samples of the cases of each class apart, since x decides how much each class counts. They know nothing that is not
    among these cases: where no error was seen, the interval is the point 0.

    Args:
        probabilities: of the positive class, shape (m,).
        outcomes: 1 where it came true, else 0, both present, shape (m,).
        share: the share of the positive class that the probabilities are for, in (0, 1).
        points: x in [0, 1], shape (t,).
        num_resamples: bootstrap samples.
        seed: of the bootstrap.

    Raises:
        ssm.InputError: anything else.

    Source: Drummond and Holte 2006.
    """
    p, y = judging.pairs("judged", (probabilities, outcomes))
    share = checks.real("share", share, 0, 1, open_ends="()")
    at = judging.within_unit("points", points)
    num_resamples = checks.integer("num_resamples", num_resamples, 19, 10**6)
    if not 0 < y.sum() < len(y):
        raise invalid("outcomes", f"all {y[0]:g}", "of both kinds")
    # p x / share > (1 - p) (1 - x) / (1 - share), without a division by 0
    hits, false = _acts(p * (1 - share) * at[:, None] >= (1 - p) * share * (1 - at[:, None]), y)
    positive = int(y.sum())
    negative = len(y) - positive
    rng, size = np.random.default_rng(seed), (num_resamples, len(at))
    missed = rng.binomial(positive, 1 - hits / positive, size) / positive
    false_alarms = rng.binomial(negative, false / negative, size) / negative
    low, high = np.quantile(at * missed + (1 - at) * false_alarms, ENDS, axis=0)
    model = at * (1 - hits / positive) + (1 - at) * false / negative
    return CostCurve(at, model, np.minimum(at, 1 - at), low, high)


class BudgetCurve(NamedTuple):
    """Recall and precision by the share of cases that one can look at, each array of shape (t,), with Wilson's 95 % intervals."""

    budgets: Curve
    share: Curve
    """The number of alarms over that of the judged cases."""
    recall: Curve
    recall_low: Curve
    recall_high: Curve
    precision: Curve
    """NaN without alarms, with its interval."""
    precision_low: Curve
    precision_high: Curve


def budget_curve(held_out: Judged, judged: Judged, budgets: ArrayLike) -> BudgetCurve:
    """Recall and precision of alarms for many budgets (`thresholds.recall_at_budget`), each with a threshold that is chosen on
    the held-out samples and judged on others.

    Intervals account for the noise of the judged samples, not for that of the choice of thresholds.

    Args:
        held_out: probabilities and outcomes by which thresholds are chosen.
        judged: those of other samples, on which they are judged.
        budgets: shares of the samples in [0, 1], shape (t,).

    Raises:
        ssm.InputError: anything else; the same samples for both.
    """
    at = judging.within_unit("budgets", budgets)
    found = [alarms.recall_at_budget(held_out, judged, float(budget)) for budget in at]
    recall = np.array([each.recall for each in found]).T
    precision = np.array([each.precision for each in found]).T
    return BudgetCurve(at, np.array([each.share.mean for each in found]), *recall, *precision)


def _acts(
    acts: np.ndarray, y: Float[np.ndarray, " m"]
) -> tuple[Int[np.ndarray, " t"], Int[np.ndarray, " t"]]:
    """How many positive and how many negative cases are acted on, by threshold, from the mask `acts` of shape (t, m)."""
    hits = (acts & (y == 1)).sum(1)
    return hits, acts.sum(1) - hits
