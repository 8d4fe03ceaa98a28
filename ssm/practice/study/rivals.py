"""The models of a study beside one another: the scores of each with each strategy, and what strategies change in each."""

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
"""The metrics by which models stand beside one another, each with the correction under which it is measured."""
COMPARED = "balanced_accuracy"


class Rival(NamedTuple):
    """One compared variant, a model with a strategy."""

    variant: str
    model: str
    strategy: str
    levels: tuple[Level, ...]
    """Its mean scores by `SHOWN`."""
    comparison: Comparison | None
    """Its `COMPARED` without correction, beside that of the same model's first strategy; None for that one."""


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
