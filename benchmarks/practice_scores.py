"""What the studies of several data sets come to: scores of every candidate in every set, what each study recommends and how that
does on the fold that it was not chosen by, and what `ssm advise` says of each set's counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from ssm.advice.advice import advise
from ssm.practice.options import OWN
from ssm.practice.statistics import comparisons
from ssm.practice.study import attributes, verdicts
from ssm.practice.study.models import BALANCED_FOREST
from ssm.practice.study.rules import RULES
from ssm.practice.study.verdicts import Candidate

MARGIN = 0.05
EXPONENTS = {"erm": 0.0, "sqrt": 0.5, "inverse": 1.0}
IN_NETWORKS = 0.1, 0.4
"""The couplings of `advise` that are such as networks have."""
Record = xr.Dataset


class Scores(NamedTuple):
    """Means over folds; every frame has a column for each data set."""

    decided: Mapping[str, pd.DataFrame]
    """`balanced_accuracy` and `accuracy` of decisions, with rows (model, strategy, rule); NaN for a threshold of several
    classes in records of earlier versions."""
    probabilities: Mapping[str, pd.DataFrame]
    """`macro_average_precision`, `log_loss` as the model reports its probabilities, and `calibrated_log_loss`, after weights are
    taken back and a temperature is fitted; rows (model, strategy)."""


class Choice(NamedTuple):
    """What a study recommends, beside the balanced forest."""

    name: str
    certainty: str
    score: float
    """Its balanced accuracy in the folds that it was chosen by."""
    fold_by_fold: float
    """Balanced accuracy where each fold's candidate is the one recommended by the other folds."""
    forest: float
    """The balanced accuracy of the balanced forest, as it comes."""
    difference: float
    """`fold_by_fold` - `forest`, with its 95 % interval, which knows that folds share training samples."""
    low: float
    high: float


class Advised(NamedTuple):
    """What `ssm advise` says of a set's counts beside what the network did with each weighting."""

    exponents: tuple[float, ...]
    """Of the weights 1 / n^g that it recommends at the couplings `IN_NETWORKS`; NaN where it recommends none."""
    nearest: str
    """The strategy whose exponent is nearest to the mean of them."""
    measured: Mapping[str, float]
    """Balanced accuracy of the network by strategy, taking the most probable class."""
    corrected: float
    """That of the network without weights, deciding as for equal class shares."""

    @property
    def best(self) -> str:
        """The strategy of the greatest balanced accuracy."""
        return max(self.measured, key=lambda name: self.measured[name])


def scores(records: Mapping[str, Record]) -> Scores:
    """The scores of every candidate in every set."""
    decided: dict[str, dict[str, pd.Series]] = {"balanced_accuracy": {}, "accuracy": {}}
    of_probabilities: dict[str, dict[str, pd.Series]] = {}
    kinds = {
        "macro_average_precision": ("macro_average_precision", "none"),
        "log_loss": ("log_loss", "none"),
        "calibrated_log_loss": ("log_loss", "temperature"),
    }
    for name, record in records.items():
        variants = _variants(record)
        for metric, columns in decided.items():
            means = record[f"decided_{metric}"].mean(("seed", "fold"))
            columns[name] = pd.Series(
                {
                    (*key, rule): float(means.sel(variant=variant, rule=rule))
                    for variant, key in variants.items()
                    for rule in RULES
                }
            )
        for kind, (metric, correction) in kinds.items():
            means = record[metric].sel(correction=correction).mean(("seed", "fold"))
            column = {key: float(means.sel(variant=variant)) for variant, key in variants.items()}
            of_probabilities.setdefault(kind, {})[name] = pd.Series(column)
    return Scores(
        {metric: pd.DataFrame(columns) for metric, columns in decided.items()},
        {kind: pd.DataFrame(columns) for kind, columns in of_probabilities.items()},
    )


def _variants(record: Record) -> dict[str, tuple[str, str]]:
    """The model and the strategy of every compared variant."""
    of_model = attributes.models(record)
    names = attributes.compared_names(record)
    return {name: (of_model[name], name.removeprefix(f"{of_model[name]}: ")) for name in names}


def choice(record: Record) -> Choice:
    """What the study of a record recommends. Since the best of many is flattered by the folds that it is the best of, each fold
    is judged once by what the verdict on the others recommends."""
    whole = verdicts.verdict(record, MARGIN)
    one = np.empty((record.sizes["seed"], record.sizes["fold"]))
    for fold in range(record.sizes["fold"]):
        others = [other for other in range(record.sizes["fold"]) if other != fold]
        by_others = verdicts.verdict(record.isel(fold=others), MARGIN).chosen
        one[:, fold] = _balanced(record, by_others)[:, fold]
    forest = record["decided_balanced_accuracy"].sel(
        variant=f"{BALANCED_FOREST}: {OWN}", rule="argmax"
    )
    other = forest.transpose("seed", "fold").values
    pair = xr.Dataset(
        {"balanced_accuracy": (("variant", "seed", "fold"), np.stack([other, one]))},
        {"variant": ["forest", "chosen"]},
    )
    (row,) = comparisons.compare(pair, "forest", MARGIN)
    return Choice(
        words(whole.chosen),
        whole.certainty,
        float(_balanced(record, whole.chosen).mean()),
        float(one.mean()),
        float(other.mean()),
        row.difference,
        row.low,
        row.high,
    )


def _balanced(record: Record, candidate: Candidate) -> np.ndarray:
    """A candidate's balanced accuracy in every fold, shape (seeds, folds)."""
    balanced = record["decided_balanced_accuracy"]
    selected = balanced.sel(variant=candidate.variant, rule=candidate.rule)
    return selected.transpose("seed", "fold").values


def words(candidate: Candidate) -> str:
    """A candidate as `model, strategy, rule`."""
    return f"{candidate.model}, {candidate.strategy}, {candidate.rule}"


def advised(record: Record, balanced: Mapping[tuple[str, str, str], float]) -> Advised:
    """What `ssm advise` says of the counts of a record, beside its network.

    Args:
        record: of a study.
        balanced: balanced accuracies by (model, strategy, rule).
    """
    counts = attributes.study_facts(record)["class_counts"]
    cases = {case.coupling: case.recommended for case in advise(counts).cases}
    found = [cases[coupling] for coupling in IN_NETWORKS]
    exponents = tuple(np.nan if each is None else each.exponent for each in found)
    middle = float(np.mean(exponents))
    return Advised(
        exponents,
        min(EXPONENTS, key=lambda name: abs(EXPONENTS[name] - middle)),
        {name: balanced["network", name, "argmax"] for name in EXPONENTS},
        balanced["network", "erm", "bayes"],
    )
