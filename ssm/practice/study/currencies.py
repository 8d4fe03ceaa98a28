"""The decisions of a study, taken by each rule and counted in its currency. Thresholds and factors of rules are chosen on
training samples that the fit was not given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Int

from ssm.practice.data.datasets import Data
from ssm.practice.decisions import costs, factors, thresholds
from ssm.practice.decisions.costs import CASES
from ssm.practice.options import StudyOptions
from ssm.practice.study.fits import Arrays, Fitted, HeldOut
from ssm.practice.study.rules import RULES, Costs, Currency
from ssm.support import errors

ABOVE_ONE = float(np.nextafter(1, 2))


def of_options(study: StudyOptions, data: Data) -> Currency:
    """The currency that a study asks for.

    Raises:
        ssm.InputError: costs that cannot be read or are not of the data's classes; a class for alarms that the data do
            not have, that is missing where there are more than two, or that has no budget.
    """
    names, matrix = list(data.class_names), None
    if study.cost is not None:
        is_prices = "=" in study.cost and not Path(study.cost).exists()
        given = costs.of_prices(study.cost) if is_prices else costs.read(study.cost)
        matrix = given.of(np.array(names))
    if study.alarm_budget is None:
        if study.alarm_class is not None:
            raise errors.invalid("alarm_class", study.alarm_class, "left out without alarm_budget")
        return Currency(matrix)
    chosen = study.alarm_class
    if chosen is None and len(names) == 2:
        chosen = names[_rarer(data.counts)]
    if chosen not in names:
        allowed = errors.one_of(chosen, names, ", the class that alarms are for")
        raise errors.invalid("alarm_class", chosen, allowed)
    return Currency(matrix, study.alarm_budget, names.index(chosen))


def judged(
    fitted: Fitted, labels: Int[np.ndarray, " m"], counts: Int[np.ndarray, " k"], currency: Currency
) -> Arrays:
    """The scores of the decisions about the test samples under each of `RULES`.

    Args:
        fitted: the probabilities of the test samples, and of the held-out ones, by which thresholds are chosen.
        labels: the labels of the test samples, shape (m,).
        counts: the class sizes of the training samples, shape (k,).
        currency: the currency of the study.

    Returns:
        `expected_cost` of 1000 cases, or balanced errors of 1000; `accuracy`, `balanced_accuracy` and
        `worst_class_recall`, each of shape (3,), by rule; the `threshold`; and with a budget `recall_at_budget` and
        `alarm_share`; with more than two classes the `class_factors`, shape (k,).
    """
    decisions = {
        "argmax": fitted.probabilities["none"].argmax(1),
        "bayes": _bayes(fitted, counts, currency),
    }
    threshold, class_factors = np.nan, np.full(len(counts), np.nan)
    if len(counts) == 2:
        rarer = _rarer(counts)
        threshold = chosen_threshold(fitted.held_out, rarer, counts, currency.costs)
        alarm = fitted.probabilities["training"][:, rarer] >= threshold
        decisions["threshold"] = np.where(alarm, rarer, 1 - rarer)
    else:
        class_factors = factors.class_factors(*fitted.held_out, currency.costs)
        matrix = factors.balanced(counts) if currency.costs is None else currency.costs
        posterior = fitted.probabilities["training"]
        decisions["threshold"] = factors.decisions(posterior, class_factors, matrix)
    names = ("expected_cost", "accuracy", "balanced_accuracy", "worst_class_recall")
    values = np.full((len(names), len(RULES)), np.nan)
    for j, rule in enumerate(RULES):
        if rule in decisions:
            values[:, j] = _scores(labels, decisions[rule], currency.costs, len(counts))
    arrays = {f"decided.{name}": row for name, row in zip(names, values, strict=True)}
    arrays["decided.threshold"] = np.array(threshold)
    if len(counts) > 2:
        arrays["decided.class_factors"] = class_factors
    if currency.budget is not None:
        arrays |= _at_budget(fitted, labels, currency)
    return arrays


def chosen_threshold(
    held_out: HeldOut, rarer: int, counts: Int[np.ndarray, " k"], matrix: Costs | None
) -> float:
    """The threshold on the probability of the rarer of two classes at which decisions about held-out samples cost least. It lies
    half way between two of their probabilities; among equally good ones it is the nearest to the threshold that is right for
    calibrated probabilities (Elkan 2001)."""
    p, of_class = held_out.posterior[:, rarer], held_out.labels == rarer
    other = 1 - rarer
    given = (
        factors.balanced(np.bincount(held_out.labels, minlength=2)) if matrix is None else matrix
    )
    # How much more it costs, for each sample, to decide for the rarer class than for the other.
    more = np.where(
        of_class,
        given[rarer, rarer] - given[rarer, other],
        given[other, rarer] - given[other, other],
    )
    levels, place = np.unique(p, return_inverse=True)
    sums = np.bincount(place, more)
    # At the first threshold all samples are decided for the rarer class, at the last one none.
    total = np.append(np.cumsum(sums[::-1])[::-1], 0.0)
    edges = np.concatenate([[0.0], (levels[1:] + levels[:-1]) / 2, [ABOVE_ONE]])
    theory = factors.balanced(counts) if matrix is None else matrix
    false = theory[other, rarer] - theory[other, other]
    missed = theory[rarer, other] - theory[rarer, rarer]
    best = np.flatnonzero(total <= total.min() + 1e-9 * np.abs(more).sum())
    nearest = np.abs(edges[best] - false / (false + missed)).argmin()
    return float(edges[best[nearest]])


def _rarer(counts: Int[np.ndarray, " k"]) -> int:
    """The index of the rarer of two classes; that of the second where both are equally frequent."""
    return int(counts[1] <= counts[0])


def _bayes(
    fitted: Fitted, counts: Int[np.ndarray, " k"], currency: Currency
) -> Int[np.ndarray, " m"]:
    """The decisions of least expected cost."""
    if currency.costs is None:
        return fitted.probabilities["uniform"].argmax(1)
    return costs.cheapest(fitted.probabilities["temperature"], currency.costs)


def _scores(
    labels: Int[np.ndarray, " m"], decided: Int[np.ndarray, " m"], matrix: Costs | None, k: int
) -> tuple[float, float, float, float]:
    """Expected cost of 1000 cases, accuracy, balanced accuracy and worst-class recall of decisions. A class that the test
    samples lack counts for nothing."""
    counts = np.bincount(labels, minlength=k)
    right = np.bincount(labels, decided == labels, k)[counts > 0] / counts[counts > 0]
    cost = 1 - right.mean() if matrix is None else matrix[labels, decided].mean()
    return CASES * float(cost), float((decided == labels).mean()), right.mean(), right.min()


def _at_budget(fitted: Fitted, labels: Int[np.ndarray, " m"], currency: Currency) -> Arrays:
    """The recall of the class that alarms are for, and the share of alarms, where the rule for alarms keeps the budget on held-out
    samples. Where ties are broken by lot, both are expected values."""
    c, budget = currency.alarm_class, currency.budget
    assert c is not None and budget is not None
    chosen = np.minimum(fitted.held_out.posterior[:, c], 1)
    rule = thresholds.within_budget(chosen, budget)
    alarm = rule.chances(fitted.probabilities["training"][:, c])
    of_class = labels == c
    recall = alarm[of_class].mean() if of_class.any() else np.nan
    return {
        "decided.recall_at_budget": np.array(recall),
        "decided.alarm_share": np.array(alarm.mean()),
    }
