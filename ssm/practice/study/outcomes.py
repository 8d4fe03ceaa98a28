"""What the decisions of a candidate come to case by case: how many of each class are found, missed and wrongly decided for,
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

ROUNDING = 1e-9  # relative; probabilities are kept as logarithms, which rounds them
OTHERS = "all others"


class Outcomes(NamedTuple):
    """What is decided about 1000 cases."""

    classes: tuple[str, ...]
    counts: Float[np.ndarray, "k k"]
    """Cases of each true class (rows) about which each decision was taken (columns), 1000 in all: the mean over the test
    folds of their shares, so that times the costs it sums to the mean cost."""

    @property
    def cases(self) -> Float[np.ndarray, " k"]:
        """Cases of each class."""
        return self.counts.sum(1)

    @property
    def found(self) -> Float[np.ndarray, " k"]:
        """Cases of each class that are decided rightly."""
        return self.counts.diagonal()

    @property
    def missed(self) -> Float[np.ndarray, " k"]:
        """Cases of each class that are decided as another one."""
        return self.cases - self.found

    @property
    def false_alarms(self) -> Float[np.ndarray, " k"]:
        """Cases of others that are decided as this class."""
        return self.counts.sum(0) - self.found


def outcomes(record: xr.Dataset, candidate: Candidate, currency: Currency) -> Outcomes:
    """What a candidate's decisions come to: N[c, j] = 1000 mean over folds of (cases of c decided as j) / (cases), shape
    (k, k); of alarms within a budget the class that they are for beside all others, shape (2, 2).

    Decisions are taken again from the logits and thresholds of the record, so that folders of earlier versions have them.

    Args:
        record: of a study.
        candidate: one of its verdict's.
        currency: the verdict's.
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
    """Decisions for the rarer of two classes from the threshold on. Rounding puts a probability that is the threshold on
    either side of it; the kept accuracy says on which."""
    counts = cell["train_count"].values
    rarer, threshold = int(counts[1] <= counts[0]), float(cell["threshold"])
    accuracy = float(cell["decided_accuracy"].sel(rule="threshold"))
    either = [
        np.where(posterior[:, rarer] >= threshold * (1 + slack), rarer, 1 - rarer)
        for slack in (-ROUNDING, ROUNDING)
    ]
    return min(either, key=lambda decided: abs(float((decided == labels).mean()) - accuracy))


def _alarms(one: xr.Dataset, alarm_class: int) -> Float[np.ndarray, "2 2"]:
    """Cases of a class and of all others, with and without an alarm, by the recall and the share of alarms of each fold."""
    labels, tables = one["label"].values, []
    for seed in range(one.sizes["seed"]):
        for fold in range(one.sizes["fold"]):
            of_class = labels[one["fold_of"].values[seed] == fold] == alarm_class
            if not len(of_class):
                continue
            cell = one.isel(seed=seed, fold=fold)
            share = of_class.mean()
            # A fold without the class has no recall, and no case of it to be found.
            found = share * np.nan_to_num(float(cell["recall_at_budget"]))
            false = float(cell["alarm_share"]) - found
            tables.append([[found, share - found], [false, 1 - share - false]])
    return CASES * np.mean(tables, axis=0)
