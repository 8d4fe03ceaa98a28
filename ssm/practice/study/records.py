"""The record of a study: all its cells as one Dataset, and as tables."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from ssm.measures import spectral
from ssm.practice.statistics import evaluation
from ssm.practice.study import cells, rules
from ssm.practice.study.cells import Arrays
from ssm.practice.study.plans import StudyPlan
from ssm.results import belongings, schema, stores
from ssm.support import errors, files

INDEX = ("variant", "seed", "fold")
STORED = re.compile(r"\.z(attrs|group|metadata|array)|\d+(\.\d+)*(\..+\.partial)?")
"""Names of the files that a zarr store consists of."""
ALARM_COLUMNS = ("step", "alarm", "class", "value", "threshold", "action", "reason")
OF_RUNS = ("stop_step", "best_step", "temperature", "status")
"""What is kept of a cell as one value."""
HISTORY_DIMENSIONS = {"cosine": ("class", "class_other"), "block_strength": ("block",)}
"""Dimensions of the numbers of a history that have others than `class`."""
Variable = tuple[tuple[str, ...], np.ndarray]
"""Dimensions and values of a variable of a Dataset."""


def assemble(plan: StudyPlan, computed: list[Arrays], origin: dict[str, str]) -> xr.Dataset:
    """The cells of a study as one Dataset.

    Scores have the dimensions (variant, seed, fold, correction), and `class` where there is one for each
    class. `expected_cost` of 1000 cases and the `decided_...` scores have (variant, seed, fold, rule). Histories have (variant, seed, fold, evaluation, ...), with NaN after their end. `logits` are
    the raw logits of each sample when it was a test sample, (variant, seed, sample, class), and
    `corrected_logits` the logarithms of their probabilities for the training samples' class shares. `model` and
    `strategy` say of each variant what it is of. What a model does not have, as a history, is NaN.
    The attributes say as JSON what the study was (`attributes`).

    Args:
        plan: of the study.
        computed: its cells, in the order of the plan.
        origin: attributes that say where and when the study was begun.
    """
    study, names = plan.study, list(plan.data.class_names)
    sizes = (len(plan.variants), study.seeds, study.folds)
    arrays: dict[str, Variable] = {}

    def gather(values: list[np.ndarray], dims: tuple[str, ...]) -> Variable:
        return (*INDEX, *dims), np.stack(values).reshape(*sizes, *values[0].shape)

    for name in dict.fromkeys(name for cell in computed for name in cell):
        values = _filled([cell.get(name) for cell in computed])
        if name.startswith("scores."):
            last = ("shift",) if name.endswith("shifted_accuracy") else ("class",)
            dims = ("correction", *last[: values[0].ndim - 1])
            arrays[name.removeprefix("scores.")] = gather(values, dims)
        elif name.startswith("history."):
            inner = name.removeprefix("history.")
            length = max(map(len, values))
            dims = HISTORY_DIMENSIONS.get(inner, ("class",))[: values[0].ndim - 1]
            padded = [_padded(value, length) for value in values]
            # The prefix tells the calibration error of the history from the score of that name.
            arrays[f"history_{inner}"] = gather(padded, ("evaluation", *dims))
        elif name.startswith("decided."):
            inner = name.removeprefix("decided.")
            dims = ("class" if inner == "class_factors" else "rule",)[: values[0].ndim]
            # The prefix tells the accuracy of a rule from the score of that name.
            named = f"decided_{inner}" if inner in evaluation.SCORES else inner
            arrays[named] = gather(values, dims)
        elif name in OF_RUNS:
            arrays[name] = gather(values, ())
    arrays["train_count"] = gather([cell["train_count"] for cell in computed], ("class",))
    arrays |= _of_samples(plan, computed, sizes)
    arrays["label"] = (("sample",), plan.data.labels)
    coords = {
        "variant": [variant.name for variant in plan.variants],
        "model": ("variant", [variant.model for variant in plan.variants]),
        "strategy": ("variant", [variant.strategy for variant in plan.variants]),
        "seed": np.arange(study.seeds),
        "fold": np.arange(study.folds),
        "correction": list(cells.CORRECTIONS),
        "rule": list(rules.RULES),
        "shift": list(evaluation.SHIFTS),
        "class": names,
        "class_other": names,
        "block": list(spectral.BLOCKS),
    }
    return xr.Dataset(
        arrays, coords, {**_attributes(plan), **origin, "format": schema.STUDY_FORMAT}
    )


def _of_samples(
    plan: StudyPlan, computed: list[Arrays], sizes: tuple[int, int, int]
) -> dict[str, Variable]:
    """The fold in which each sample was a test sample, and its logits there."""
    n, k = len(plan.data.labels), len(plan.data.class_names)
    logits = {name: np.full((*sizes[:2], n, k), np.nan) for name in ("logits", "corrected_logits")}
    fold_of = np.zeros((sizes[1], n), np.int64)
    for place, cell in zip(np.ndindex(sizes), computed, strict=True):
        variant, seed, fold = place
        for name, values in logits.items():
            values[variant, seed, cell["test"]] = cell[name]
        fold_of[seed, cell["test"]] = fold
    return {
        **{name: (("variant", "seed", "sample", "class"), x) for name, x in logits.items()},
        "fold_of": (("seed", "sample"), fold_of),
    }


def _filled(values: list[np.ndarray | None]) -> list[np.ndarray]:
    """The values of all cells, with NaN for those that have none, as models without a history."""
    like = next(value for value in values if value is not None)
    missing = np.empty((0, *like.shape[1:])) if like.ndim else np.array(np.nan)
    return [missing if value is None else value for value in values]


def _padded(values: np.ndarray, length: int) -> np.ndarray:
    """Values followed by NaN up to a length."""
    padded = np.full((length, *values.shape[1:]), np.nan)
    padded[: len(values)] = values
    return padded


def _attributes(plan: StudyPlan) -> dict[str, str]:
    """What the study was, as JSON; `attributes` reads it."""
    data, costs = plan.data, plan.currency.costs
    study = dataclasses.asdict(plan.study) | {
        "name": data.name,
        "num_samples": len(data.labels),
        "num_features": len(data.feature_names),
        "class_counts": data.counts.tolist(),
        "num_steps_used": plan.num_steps,
        "notes": list(data.notes),
    }
    return {
        "study": json.dumps(study),
        "strategies": json.dumps(plan.strategies),
        "compared": json.dumps(plan.compared),
        "weighted": json.dumps(
            [
                variant.name
                for variant in plan.variants
                if {"class_weight", "schedule"} & {*variant.parameters}
            ]
        ),
        "descriptions": json.dumps(
            {variant.name: variant.description for variant in plan.variants}
        ),
        "ablations": json.dumps([pair._asdict() for pair in plan.ablations]),
        "currency": json.dumps(
            plan.currency._replace(costs=None if costs is None else costs.tolist())._asdict()
        ),
        "endings": json.dumps(plan.endings),
        "sensitivity": json.dumps([entry._asdict() for entry in plan.sensitivities]),
    }


def check(out: Path) -> None:
    """Refuse a study's folder whose record cannot be replaced, since something else is in its place. A
    damaged record can be replaced."""
    store = out / "record.zarr"
    inner = store.rglob("*") if store.is_dir() else iter([store] if os.path.lexists(store) else [])
    others = (path for path in inner if not path.is_dir() and not STORED.fullmatch(path.name))
    for other in itertools.chain(others, belongings.misplaced_chunks(store)):
        allowed = f"a study's folder with nothing else in its record: move {other.name} away"
        raise errors.invalid("out", str(store), allowed)


def write(record: xr.Dataset, computed: list[Arrays], out: Path) -> None:
    """Write a record into its study's folder, each file whole or not at all: record.zarr, scores.csv (a
    row for each cell and correction), class_scores.csv (a row for each of these and each class),
    decisions.csv (a row for each cell and rule of decision) and alarms.csv (a row for each alarm)."""
    check(out)
    with files.replacing(out / "record.zarr") as scratch:
        stores.save(record, scratch)
    scores = [name for name in record if record[name].dims == (*INDEX, "correction")]
    of_classes = [name for name in record if record[name].dims == (*INDEX, "correction", "class")]
    tables = {
        "scores.csv": record[scores].to_dataframe(),
        "class_scores.csv": record[of_classes].to_dataframe(),
        "alarms.csv": _alarms(record, computed),
    }
    decided = [name for name in record if record[name].dims == (*INDEX, "rule")]
    if decided:
        tables["decisions.csv"] = record[decided].to_dataframe()
    for name, table in tables.items():
        with files.replacing(out / name) as scratch:
            table.to_csv(scratch)


def _alarms(record: xr.Dataset, computed: list[Arrays]) -> pd.DataFrame:
    """The alarms of all cells, a row for each."""
    names = record["class"].values
    axes = [record[axis].values.tolist() for axis in INDEX]
    rows = []
    for place, cell in zip(np.ndindex(*map(len, axes)), computed, strict=True):
        where = [axis[i] for axis, i in zip(axes, place, strict=True)]
        for step, alarm, class_index, *others in cell["alarms"].tolist():
            class_name = names[int(class_index)] if class_index else ""
            rows.append([*where, int(step), alarm, class_name, *others])
    columns = [*INDEX, *ALARM_COLUMNS]
    return pd.DataFrame(rows, columns=columns).set_index(list(INDEX))
