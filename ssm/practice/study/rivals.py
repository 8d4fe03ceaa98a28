"""The models of a study compared: the scores of each model with each strategy, and how strategies change them within a model."""

from __future__ import annotations

from typing import NamedTuple

import xarray as xr

from ssm.practice.statistics import comparisons
from ssm.practice.statistics.comparisons import Comparison, Level
from ssm.practice.study import attributes

SHOWN = (
    ("balanced_accuracy", "none"),
    ("balanced_accuracy", "uniform"),
    ("worst_class_recall", "none"),
    ("accuracy", "none"),
    ("macro_average_precision", "none"),
    ("calibration_error", "temperature"),
)
"""The metrics that are shown of all models, each with the correction under which it is measured."""
COMPARED = "balanced_accuracy"


class Rival(NamedTuple):
    """One compared variant, a model with a strategy."""

    variant: str
    model: str
    strategy: str
    levels: tuple[Level, ...]
    """The mean scores of the variant, in the order of `SHOWN`."""
    comparison: Comparison | None
    """The comparison of its score `COMPARED`, without correction, with that of the same model's first strategy; None for the
    first strategy itself."""


def rivals(record: xr.Dataset, margin: float) -> tuple[Rival, ...]:
    """All compared variants, model by model. The comparisons within each model are a family of their own."""
    of_model = attributes.models(record)
    by_model: dict[str, list[str]] = {}
    for name in attributes.compared_names(record):
        by_model.setdefault(of_model[name], []).append(name)
    rows = []
    for model, names in by_model.items():
        beside: dict[str, Comparison] = {}
        if len(names) > 1:
            scores = record[[COMPARED]].sel(variant=names, correction="none")
            compared = comparisons.compare(scores, names[0], margin)
            beside = {row.variant: row for row in compared}
        for name in names:
            levels = tuple(
                comparisons.level(record[metric].sel(variant=name, correction=correction))
                for metric, correction in SHOWN
            )
            strategy = name.removeprefix(f"{model}: ")
            rows.append(Rival(name, model, strategy, levels, beside.get(name)))
    return tuple(rows)
