"""A study of strategies against imbalance on one data set, by repeated stratified cross-validation:
each cell is written when it is done, so that a study that was stopped goes on."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import logging
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from ssm.practice.data.datasets import Data
from ssm.practice.network import alarms
from ssm.practice.options import StudyOptions
from ssm.practice.study import cells, records
from ssm.practice.study.cells import Arrays, Cell
from ssm.practice.study.plans import StudyPlan, plan
from ssm.practice.study.strategies import Parameters
from ssm.results import datasets, digests
from ssm.support import errors, files, locks
from ssm.sweeps import execution

Progress = Callable[[int, int], None]
Report = Callable[[xr.Dataset, Path], Any]

DESCRIPTION = "study.json"
OURS = {"cells", "record.zarr", "scores.csv", "class_scores.csv", "alarms.csv"}
OURS |= {"figures", "comparisons.csv", "ablations.csv", "report.html"}
"""What a study and its report write beside the description."""
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)

log = logging.getLogger("ssm.study")


class _Folder(NamedTuple):
    """A study's folder, which no other study is at work in."""

    path: Path
    identity: str
    """Of the study, part of each cell's."""
    origin: dict[str, str]
    """Where and when it was begun."""
    read_only: str | None
    """Why nothing can be written to it."""
    sealed: bool
    """Whether its description has a digest; those of earlier versions have none."""

    def read(self, name: str) -> cells.Kept | None:
        """A cell, None where it has to be computed."""
        return cells.read(self.path / "cells" / name, f"{self.identity} {name}")

    def write(self, name: str, arrays: Arrays) -> None:
        """Keep a cell."""
        cells.write(arrays, self.path / "cells" / name, f"{self.identity} {name}")


def run_study(
    study: StudyOptions, out: Path, progress: Progress | None = None, report: Report | None = None
) -> xr.Dataset:
    """Train and evaluate all cells that are not in `out` yet, and write the record there:
    record.zarr, scores.csv, class_scores.csv and alarms.csv.

    A study that was stopped goes on with the same call, and its record has the same bits: what is
    damaged, or a cell of another study, is computed again. One that is complete in a folder that
    cannot be written to is read, and the log `ssm.study` says that nothing was written.

    Args:
        out: a new folder, or that of the same study of the same data.
        progress: told how many cells are done, and of how many.
        report: writes into the folder what else is to be there, as `report.write_report` does.

    Raises:
        ssm.InputError: data or strategies that cannot be used; an `out` of another study, whose
            description is damaged, or in which another study is at work.
    """
    planned = plan(study)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        allowed = f"a new folder, or that of a study ({error.strerror})"
        raise errors.invalid("out", str(out), allowed) from None
    with locks.alone(out, "out", "study"):
        folder = _open(planned, out)
        listed = dict(planned.cells())
        found = _kept(folder, listed)
        _train(planned, folder, listed, found, progress)
        record = records.assemble(planned, [found[name] for name in listed], folder.origin)
        if folder.read_only is not None:
            log.warning("nothing was written to %s (%s)", out, folder.read_only)
            return record
        records.write(record, [found[name] for name in listed], out)
        if report is not None:
            report(record, out)
        return record


def _kept(folder: _Folder, listed: dict[str, Cell]) -> dict[str, Arrays]:
    """The cells that need not be computed. Those of earlier versions, which have no digest, are
    written again with one."""
    kept = {name: cell for name in listed if (cell := folder.read(name)) is not None}
    unsealed = [name for name, cell in kept.items() if not cell.sealed]
    if unsealed or not folder.sealed:
        said = "was written by an earlier version, without digests: its cells are taken as they are"
        warnings.warn(f"out={str(folder.path)!r} {said}", digests.StoreWarning, stacklevel=3)
    damaged = [x for x in listed if x not in kept and (folder.path / "cells" / x).exists()]
    if damaged:
        said = "damaged or not of this study, and computed again"
        log.warning("%d of %d cells in %s are %s", len(damaged), len(listed), folder.path, said)
    if folder.read_only is None:
        for name in unsealed:
            folder.write(name, kept[name].arrays)
    elif len(kept) < len(listed):
        missing = len(listed) - len(kept)
        allowed = f"a folder that can be written to ({folder.read_only}), where {missing} cells are to be computed"
        raise errors.invalid("out", str(folder.path), allowed)
    return {name: cell.arrays for name, cell in kept.items()}


def _train(
    planned: StudyPlan,
    folder: _Folder,
    listed: dict[str, Cell],
    found: dict[str, Arrays],
    progress: Progress | None,
) -> None:
    """Compute the cells that are not found yet, and keep each when it is done."""
    waiting = [(name, cell) for name, cell in listed.items() if name not in found]
    common = _common_parameters(planned)
    execution.use_compilation_cache()

    def count() -> None:
        if progress is not None:
            progress(len(found), len(listed))

    def work(name: str, cell: Cell) -> tuple[str, Arrays]:
        # what is logged says by its thread's name where it comes from
        threading.current_thread().name = f"{cell.variant.name}, seed {cell.seed}, fold {cell.fold}"
        arrays = cells.compute(cell, planned.data, common)
        folder.write(name, arrays)
        return name, arrays

    count()
    with warnings.catch_warnings(), ThreadPoolExecutor(execution.num_cores()) as pool:
        # The report counts what a fit would warn of; filters are those of all threads.
        warnings.simplefilter("ignore", alarms.TrainingWarning)
        for each in waiting[:1]:  # compiles what the others share
            found.update([work(*each)])
            count()
        futures = [pool.submit(work, *each) for each in waiting[1:]]
        try:
            for future in as_completed(futures):
                found.update([future.result()])
                count()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _common_parameters(planned: StudyPlan) -> Parameters:
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


def _open(planned: StudyPlan, out: Path) -> _Folder:
    """Describe the study in a folder that is new, or check that it is of this study."""
    origin = datasets.provenance()
    about = {
        "study": json.loads(json.dumps(dataclasses.asdict(planned.study))),
        "data": _digest(planned.data),
        "cells": planned.num_cells,
        "versions": origin["versions"],
    }
    path, read_only = out / DESCRIPTION, _why_read_only(out)
    described, sealed = path.exists(), True
    if described:
        written, sealed = _description(path, {*about})
        if {name: written[name] for name in about} != about:
            what = "a new folder, or that of a study with the same options, data and versions"
            raise errors.invalid("out", str(out), what)
        origin = written["origin"]
    elif not _may_begin(out):
        raise errors.invalid("out", str(out), "a new folder, or that of a study")
    records.check(out)
    if read_only is None:
        for each in (out, out / "cells", out / "figures"):
            files.sweep(each)  # of what a study that was killed has left hidden
        if not (described and sealed):
            contents = {"format": datasets.STUDY_FORMAT} | about | {"origin": origin}
            with files.replacing(path) as scratch:
                scratch.write_text(json.dumps(contents | {"digest": _seal(contents)}, indent=1))
        (out / "cells").mkdir(exist_ok=True)
    return _Folder(out, _seal(about), origin, read_only, sealed)


def _description(path: Path, names: set[str]) -> tuple[dict[str, Any], bool]:
    """What a study's description says, and whether it has a digest; raises InputError where it is
    damaged."""
    try:
        written = json.loads(path.read_text())
        digest = written.pop("digest", None)
        # of earlier versions, which had neither a format nor a digest
        unsealed = digest is None and written.keys() == names | {"origin"}
        same_origin = written["origin"].keys() == datasets.provenance().keys()
        if same_origin and (unsealed or digest == _seal(written)):
            return written, not unsealed
    except Exception:  # whatever is wrong with it
        pass
    allowed = (
        f"a folder whose {path.name} is as it was written: put it back, or remove it, and the same "
        "call goes on with those cells that are of this study"
    )
    raise errors.invalid("out", str(path.parent), allowed)


def _seal(contents: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()


def _may_begin(folder: Path) -> bool:
    """Whether there is nothing in it, or what a study has written."""
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    return not names or ("cells" in names and names <= OURS)


def _why_read_only(folder: Path) -> str | None:
    """Why nothing can be written to a folder; None where something can."""
    try:
        with files.reserved(folder / DESCRIPTION):
            return None
    except OSError as error:
        if error.errno not in READ_ONLY:
            raise
        return error.strerror


def _digest(data: Data) -> str:
    digest = hashlib.sha256(json.dumps([data.class_names, data.feature_names]).encode())
    for array in (data.features, data.labels):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
