"""The outcomes of a candidate's decisions: how many cases of each class are found, missed and wrongly decided for,
in 1000 cases that the fits had not seen."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Int
from scipy import special

from ssm.practice.decisions import costs, factors, shares
from ssm.practice.decisions.costs import CASES
from ssm.practice.study.rules import Currency
from ssm.practice.study.verdicts import Candidate

ROUNDING = 1e-9  # The relative error of probabilities, which are kept as logarithms.
OTHERS = "all others"


class Outcomes(NamedTuple):
    """The decisions about 1000 cases."""

    classes: tuple[str, ...]
    counts: Float[np.ndarray, "k k"]
    """The cases of each true class (rows) about which each decision was taken (columns), 1000 in all. They are means over the test
    folds of shares, so that multiplied by the costs they sum to the mean cost."""

    @property
    def cases(self) -> Float[np.ndarray, " k"]:
        """The number of cases of each class."""
        return self.counts.sum(1)

    @property
    def found(self) -> Float[np.ndarray, " k"]:
        """The number of cases of each class that are decided rightly."""
        return self.counts.diagonal()

    @property
    def missed(self) -> Float[np.ndarray, " k"]:
        """The number of cases of each class for which another class is decided."""
        return self.cases - self.found

    @property
    def false_alarms(self) -> Float[np.ndarray, " k"]:
        """The number of cases of other classes for which this class is decided."""
        return self.counts.sum(0) - self.found


def outcomes(record: xr.Dataset, candidate: Candidate, currency: Currency) -> Outcomes:
    """The outcomes of a candidate's decisions: N[c, j] is 1000 times the mean over folds of (cases of c decided as j) / (cases),
    shape (k, k). For alarms within a budget they are those of the class of the alarms and of all others together, shape (2, 2).

    Decisions are taken again from the logits and thresholds of the record, so that records of earlier versions have them too.

    Args:
        record: the record of a study.
        candidate: a candidate of the study's verdict.
        currency: the currency of that verdict.
    """
    one = record.sel(variant=candidate.variant)
    names = tuple(map(str, record["class"].values))
    if currency.metric == "recall_at_budget":
        assert currency.alarm_class is not None
        counts = _alarms(one, currency.alarm_class)
        return Outcomes((names[currency.alarm_class], OTHERS), counts)
    labels, k = one["label"].values, len(names)
    total, folds = np.zeros((k, k)), 0
    for seed in range(one.sizes["seed"]):
        for fold in range(one.sizes["fold"]):
            test = one["fold_of"].values[seed] == fold
            if not test.any():
                continue
            cell = one.isel(seed=seed, fold=fold)
            decided = _decided(cell, test, candidate.rule, currency)
            flat = np.bincount(k * labels[test] + decided, minlength=k * k)
            total += flat.reshape(k, k) / test.sum()
            folds += 1
    return Outcomes(names, CASES * total / max(folds, 1))


def _decided(
    cell: xr.Dataset, test: Bool[np.ndarray, " n"], rule: str, currency: Currency
) -> Int[np.ndarray, " m"]:
    """The decisions about the test samples of one cell, as `currencies.judged` takes them."""
    if rule == "argmax":
        return cell["logits"].values[test].argmax(1)
    logits = cell["corrected_logits"].values[test]
    posterior = special.softmax(logits, axis=1)
    if rule == "threshold" and posterior.shape[1] > 2:
        counts = cell["train_count"].values
        matrix = factors.balanced(counts) if currency.costs is None else currency.costs
        return factors.decisions(posterior, cell["class_factors"].values, matrix)
    if rule == "threshold":
        return _beyond(cell, posterior, cell["label"].values[test])
    if currency.costs is not None:
        tempered = special.softmax(logits / float(cell["temperature"]), axis=1)
        return costs.cheapest(tempered, currency.costs)
    counts = cell["train_count"].values
    return shares.shifted(posterior, counts.sum() / counts).argmax(1)


def _beyond(
    cell: xr.Dataset, posterior: Float[np.ndarray, "m 2"], labels: Int[np.ndarray, " m"]
) -> Int[np.ndarray, " m"]:
    """Decisions for the rarer of two classes from the threshold on, shape (m,). Rounding may move a probability that equals the
    threshold to either side of it; the side is chosen by the accuracy that the record holds."""
    counts = cell["train_count"].values
    rarer, threshold = int(counts[1] <= counts[0]), float(cell["threshold"])
    accuracy = float(cell["decided_accuracy"].sel(rule="threshold"))
    either = [
        np.where(posterior[:, rarer] >= threshold * (1 + slack), rarer, 1 - rarer)
        for slack in (-ROUNDING, ROUNDING)
    ]
    return min(either, key=lambda decided: abs(float((decided == labels).mean()) - accuracy))


def _alarms(one: xr.Dataset, alarm_class: int) -> Float[np.ndarray, "2 2"]:
    """The numbers of cases of a class and of all others (rows), with and without an alarm (columns), from the recall and the share
    of alarms of each fold."""
    labels, tables = one["label"].values, []
    for seed in range(one.sizes["seed"]):
        for fold in range(one.sizes["fold"]):
            of_class = labels[one["fold_of"].values[seed] == fold] == alarm_class
            if not len(of_class):
                continue
            cell = one.isel(seed=seed, fold=fold)
            share = of_class.mean()
            # In a fold without the class, recall is not defined, and no case of the class can be found.
            found = share * np.nan_to_num(float(cell["recall_at_budget"]))
            false = float(cell["alarm_share"]) - found
            tables.append([[found, share - found], [false, 1 - share - false]])
    return CASES * np.mean(tables, axis=0)
