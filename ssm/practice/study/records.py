"""The record of a study: its cells as one Dataset, and as tables."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from ssm.measures import spectral
from ssm.practice.statistics import evaluation
from ssm.practice.study import cells
from ssm.practice.study.cells import Arrays
from ssm.practice.study.plans import StudyPlan
from ssm.results import datasets, stores
from ssm.support import errors, files

INDEX = ("variant", "seed", "fold")
STORED = re.compile(r"\.z(attrs|group|metadata|array)|\d+(\.\d+)*(\..+\.partial)?")
"""Files of a zarr store."""
ALARM_COLUMNS = ("step", "alarm", "class", "value", "threshold", "action", "reason")
BESIDE_CLASSES = {"cosine": ("class", "class_other"), "block_strength": ("block",)}


def assemble(plan: StudyPlan, found: list[Arrays], origin: dict[str, str]) -> xr.Dataset:
    """The cells of a study, in the plan's order, as one Dataset.

    Scores have dimensions (variant, seed, fold, correction) and, of classes, `class`; histories
    (variant, seed, fold, evaluation, ...) with NaN after their end; `logits` are raw and of samples
    that took no part in training, (variant, seed, sample, class), `corrected_logits` the logarithms
    of their probabilities for the training samples' class shares. What the study was is in the
    attributes, as JSON.
    """
    study, names = plan.study, list(plan.data.class_names)
    sizes = (len(plan.variants), study.seeds, study.folds)
    arrays: dict[str, Any] = {}

    def gather(values: list[np.ndarray], dims: tuple[str, ...]) -> tuple[tuple[str, ...], Any]:
        return (*INDEX, *dims), np.stack(values).reshape(*sizes, *values[0].shape)

    for name in found[0]:
        values = [each[name] for each in found]
        if name.startswith("scores."):
            last = ("shift",) if name.endswith("shifted_accuracy") else ("class",)
            dims = ("correction", *last[: values[0].ndim - 1])
            arrays[name.removeprefix("scores.")] = gather(values, dims)
        elif name.startswith("history."):
            inner = name.removeprefix("history.")
            length = max(map(len, values))
            dims = BESIDE_CLASSES.get(inner, ("class",))[: values[0].ndim - 1]
            padded = [_padded(value, length) for value in values]
            # `history_`: a calibration error is a score too
            arrays[f"history_{inner}"] = gather(padded, ("evaluation", *dims))
        elif name in ("stop_step", "best_step", "temperature", "status"):
            arrays[name] = gather(values, ())
    arrays["train_count"] = gather([each["train_count"] for each in found], ("class",))
    arrays |= _of_samples(plan, found, sizes)
    arrays["label"] = (("sample",), plan.data.labels)
    coords = {
        "variant": [variant.name for variant in plan.variants],
        "seed": np.arange(study.seeds),
        "fold": np.arange(study.folds),
        "correction": list(cells.CORRECTIONS),
        "shift": list(evaluation.SHIFTS),
        "class": names,
        "class_other": names,
        "block": list(spectral.BLOCKS),
    }
    return xr.Dataset(arrays, coords, {**_about(plan), **origin, "format": datasets.STUDY_FORMAT})


def _of_samples(
    plan: StudyPlan, found: list[Arrays], sizes: tuple[int, int, int]
) -> dict[str, Any]:
    """What is known of each sample when it was a test sample: its fold and its logits."""
    n, k = len(plan.data.labels), len(plan.data.class_names)
    logits = {name: np.full((*sizes[:2], n, k), np.nan) for name in ("logits", "corrected_logits")}
    fold_of = np.zeros((sizes[1], n), np.int64)
    for place, each in zip(np.ndindex(sizes), found, strict=True):
        variant, seed, fold = place
        for name, values in logits.items():
            values[variant, seed, each["test"]] = each[name]
        fold_of[seed, each["test"]] = fold
    return {
        **{name: (("variant", "seed", "sample", "class"), x) for name, x in logits.items()},
        "fold_of": (("seed", "sample"), fold_of),
    }


def _padded(values: np.ndarray, length: int) -> np.ndarray:
    padded = np.full((length, *values.shape[1:]), np.nan)
    padded[: len(values)] = values
    return padded


def _about(plan: StudyPlan) -> dict[str, str]:
    data, names = plan.data, [variant.name for variant in plan.variants]
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
        "strategies": json.dumps(names[: plan.num_strategies]),
        "weighted": json.dumps(
            [
                each.name
                for each in plan.variants
                if {"class_weight", "schedule"} & {*each.parameters}
            ]
        ),
        "descriptions": json.dumps({each.name: each.description for each in plan.variants}),
        "ablations": json.dumps([pair._asdict() for pair in plan.ablations]),
        "sensitivity": json.dumps([entry._asdict() for entry in plan.sensitivities]),
    }


def check(out: Path) -> None:
    """Refuse a study's folder whose record cannot be written again, because there is something else
    in its place; a damaged record can."""
    store = out / "record.zarr"
    inner = store.rglob("*") if store.is_dir() else iter([store] if os.path.lexists(store) else [])
    others = (path for path in inner if not path.is_dir() and not STORED.fullmatch(path.name))
    for other in others:
        allowed = f"a study's folder with nothing else in its record: move {other.name} away"
        raise errors.invalid("out", str(store), allowed)


def write(record: xr.Dataset, found: list[Arrays], out: Path) -> None:
    """Write a record into its study's folder, each file whole or not at all: record.zarr,
    scores.csv (a row for each cell and correction), class_scores.csv (and class) and alarms.csv."""
    check(out)
    with files.replacing(out / "record.zarr") as scratch:
        stores.save(record, scratch)
    scores = [name for name in record if record[name].dims == (*INDEX, "correction")]
    of_classes = [name for name in record if record[name].dims == (*INDEX, "correction", "class")]
    tables = {
        "scores.csv": record[scores].to_dataframe(),
        "class_scores.csv": record[of_classes].to_dataframe(),
        "alarms.csv": _alarms(record, found),
    }
    for name, table in tables.items():
        with files.replacing(out / name) as scratch:
            table.to_csv(scratch)


def _alarms(record: xr.Dataset, found: list[Arrays]) -> pd.DataFrame:
    names = record["class"].values
    axes = [record[axis].values.tolist() for axis in INDEX]
    rows = []
    for place, each in zip(np.ndindex(*map(len, axes)), found, strict=True):
        where = [axis[i] for axis, i in zip(axes, place, strict=True)]
        for step, alarm, class_index, *others in each["alarms"].tolist():
            named = names[int(class_index)] if class_index else ""
            rows.append([*where, int(step), alarm, named, *others])
    columns = [*INDEX, *ALARM_COLUMNS]
    return pd.DataFrame(rows, columns=columns).set_index(list(INDEX))
