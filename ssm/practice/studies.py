"""A study of strategies against imbalance on one data set, by repeated stratified cross-validation:
each cell is written when it is done, so that a study that was stopped goes on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import xarray as xr

from ssm import checks, computing, files, results
from ssm.practice import alarms, cells, records
from ssm.practice.cells import Cell
from ssm.practice.datasets import Data
from ssm.practice.options import Study
from ssm.practice.strategies import Parameters
from ssm.practice.study_plans import Plan, plan

Progress = Callable[[int, int], None]


def run_study(study: Study, out: Path, progress: Progress | None = None) -> xr.Dataset:
    """Train and evaluate all cells that are not in `out` yet, and write the record there:
    record.zarr, scores.csv, class_scores.csv and alarms.csv.

    A study that was stopped goes on with the same call, and its record has the same bits.

    Args:
        out: a new folder, or that of the same study of the same data.
        progress: told how many cells are done, and of how many.

    Raises:
        ssm.InputError: data or strategies that cannot be used; an `out` of another study.
    """
    planned = plan(study)
    origin = _open(planned, out)
    computing.use_compilation_cache()
    folder, names = out / "cells", []
    waiting: list[tuple[Path, Cell]] = []
    for name, cell in planned.cells():
        names.append(name)
        if not cells.is_written(folder / name):
            waiting.append((folder / name, cell))
    done = len(names) - len(waiting)

    def count(more: int) -> None:
        nonlocal done
        done += more
        if progress is not None:
            progress(done, len(names))

    count(0)
    common = _common_parameters(planned)

    def work(path: Path, cell: Cell) -> None:
        # what is logged says by its thread's name where it comes from
        threading.current_thread().name = f"{cell.variant.name}, seed {cell.seed}, fold {cell.fold}"
        cells.write(cells.compute(cell, planned.data, common), path)

    with warnings.catch_warnings(), ThreadPoolExecutor(computing.num_cores()) as pool:
        # The report counts what a fit would warn of; filters are those of all threads.
        warnings.simplefilter("ignore", alarms.TrainingWarning)
        for path, cell in waiting[:1]:  # compiles what the others share
            work(path, cell)
            count(1)
        futures = [pool.submit(work, *each) for each in waiting[1:]]
        try:
            for future in as_completed(futures):
                future.result()
                count(1)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    found = [cells.read(folder / name) for name in names]
    record = records.assemble(planned, found, origin)
    records.write(record, found, out)
    return record


def _common_parameters(planned: Plan) -> Parameters:
    study = planned.study
    stops = study.early_stopping != "none"
    return {
        "hidden_layer_sizes": study.hidden_layer_sizes,
        "learning_rate": study.learning_rate,
        "batch_size": study.batch_size,
        "weight_decay": study.weight_decay,
        "num_steps": planned.num_steps,
        "early_stopping": study.early_stopping if stops else False,
        "alarm_action": study.alarm_action,
    }


def _open(planned: Plan, out: Path) -> dict[str, str]:
    """Make the study's folder, or check that one which exists is of this study: where and when it
    was begun."""
    origin = results.provenance()
    about = {
        "study": json.loads(json.dumps(dataclasses.asdict(planned.study))),
        "data": _digest(planned.data),
        "cells": planned.num_cells,
        "versions": origin["versions"],
    }
    described, folder = out / "study.json", out / "cells"
    if described.is_file():
        try:
            written = json.loads(described.read_text())
            same = {name: written.get(name) for name in about} == about
        except (OSError, ValueError, AttributeError):
            same, written = False, {}
        if not same:
            what = "a new folder, or that of a study with the same options, data and versions"
            raise checks.refuse("out", str(out), what)
        folder.mkdir(exist_ok=True)
        return written["origin"]
    if out.exists() and not (out.is_dir() and _holds_nothing(out)):
        raise checks.refuse("out", str(out), "a new folder, or that of a study")
    folder.mkdir(parents=True, exist_ok=True)
    with files.replacing(described) as scratch:
        scratch.write_text(json.dumps(about | {"origin": origin}, indent=1))
    return origin


def _holds_nothing(folder: Path) -> bool:
    """Whether there is nothing in it, or what a study killed as it began may have left."""
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")} <= {"cells"}


def _digest(data: Data) -> str:
    digest = hashlib.sha256(json.dumps([data.class_names, data.feature_names]).encode())
    for array in (data.features, data.labels):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
