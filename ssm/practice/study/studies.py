"""A study of strategies against imbalance on one data set, by repeated stratified cross-validation. Each
cell is written as soon as it is computed, so that a study that was stopped can continue."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import logging
import threading
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from threadpoolctl import threadpool_limits

from ssm.practice.data.datasets import Data
from ssm.practice.network import alarms
from ssm.practice.options import DEFAULT_MODELS, NETWORK, StudyOptions
from ssm.practice.study import cells, models, records
from ssm.practice.study.cells import Arrays, Cell
from ssm.practice.study.plans import StudyPlan, plan
from ssm.practice.study.strategies import Parameters
from ssm.results import digests, schema
from ssm.results.provenance import provenance
from ssm.support import errors, files, locks, machine

Progress = Callable[[int, int], None]
Report = Callable[[xr.Dataset, Path], object]

DESCRIPTION = "study.json"
OURS = {"cells", "record.zarr", "scores.csv", "class_scores.csv", "alarms.csv", "decisions.csv"}
OURS |= {"figures", "comparisons.csv", "ablations.csv", "report.html", "summary.html"}
"""The names of all that a study and its report write beside the description."""
LATER = {"models", "cost", "alarm_budget", "alarm_class"}
"""The options that are not in the descriptions of earlier versions."""
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
"""Errors that say that a folder is read-only."""

log = logging.getLogger("ssm.study")


class _Folder(NamedTuple):
    """The folder of a study, which no other study uses while this one does."""

    path: Path
    identity: str
    """A digest of the study, which is part of each cell's identity."""
    origin: dict[str, str]
    """Where and when the study was begun."""
    read_only: str | None
    """The reason why nothing can be written to the folder; None where it can."""
    sealed: bool
    """Whether the description has a digest; those of earlier versions have none."""

    def read(self, name: str) -> cells.Kept | None:
        """The cell in the file of this name; None where it has to be computed."""
        return cells.read(self.path / "cells" / name, f"{self.identity} {name}")

    def write(self, name: str, arrays: Arrays) -> None:
        """Write a cell."""
        cells.write(arrays, self.path / "cells" / name, f"{self.identity} {name}")


def run_study(
    study: StudyOptions, out: Path, progress: Progress | None = None, report: Report | None = None
) -> xr.Dataset:
    """Train and evaluate all cells that are not in `out` yet, and write the record there:
    record.zarr, scores.csv, class_scores.csv and alarms.csv.

    The same call continues a study that was stopped, and its record then has the same bits as if it had not been. Cells that
    are damaged or belong to another study are computed again. A complete study in a read-only folder is read, and
    the log `ssm.study` says that nothing was written.

    Args:
        study: what to compare, on which data.
        out: a new folder, or that of the same study of the same data.
        progress: called with the number of cells that are done and that of all cells.
        report: called with the record and the folder, to write more into the folder, as `report.write_report`
            does.

    Raises:
        ssm.InputError: data or strategies that cannot be used; a folder of another study, a folder whose
            description is damaged, or one that another study is using.
    """
    planned = plan(study, _is_of_earlier_version(study, out))
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        allowed = f"a new folder, or that of a study ({error.strerror})"
        raise errors.invalid("out", str(out), allowed) from None
    with locks.alone(out, "out", "study"):
        folder = _open(planned, out)
        listed = dict(planned.cells())
        computed = _kept(folder, listed)
        _train(planned, folder, listed, computed, progress)
        in_order = [computed[name] for name in listed]
        record = records.assemble(planned, in_order, folder.origin)
        if folder.read_only is not None:
            log.warning("nothing was written to %s (%s)", out, folder.read_only)
            return record
        records.write(record, in_order, out)
        if report is not None:
            report(record, out)
        return record


def _kept(folder: _Folder, listed: dict[str, Cell]) -> dict[str, Arrays]:
    """The cells in the folder, which need not be computed. Those of earlier versions, which have no
    digest, are written again with one."""
    kept = {name: cell for name in listed if (cell := folder.read(name)) is not None}
    unsealed = [name for name, cell in kept.items() if not cell.sealed]
    if unsealed or not folder.sealed:
        reason = (
            "was written by an earlier version, without digests: its cells are taken as they are"
        )
        warnings.warn(f"out={str(folder.path)!r} {reason}", digests.StoreWarning, stacklevel=3)
    damaged = [x for x in listed if x not in kept and (folder.path / "cells" / x).exists()]
    if damaged:
        reason = "damaged or not of this study, and computed again"
        log.warning("%d of %d cells in %s are %s", len(damaged), len(listed), folder.path, reason)
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
    computed: dict[str, Arrays],
    progress: Progress | None,
) -> None:
    """Compute the cells that are not among `computed` yet, write each when it is done, and add it there."""
    waiting = [(name, cell) for name, cell in listed.items() if name not in computed]
    common = _common_parameters(planned)
    currency = None if planned.is_earlier else planned.currency

    def count() -> None:
        if progress is not None:
            progress(len(computed), len(listed))

    def work(name: str, cell: Cell) -> tuple[str, Arrays]:
        # Log records carry the name of their thread, so the name says which cell they belong to. As in the
        # report, repetitions and folds are counted from 1.
        threading.current_thread().name = (
            f"{cell.variant.name}, repetition {cell.seed + 1}, fold {cell.fold + 1}"
        )
        arrays = cells.compute(cell, planned.data, common, currency)
        folder.write(name, arrays)
        return name, arrays

    count()
    # Cells are computed side by side, each by one thread: more threads would only wait for one another, and the sums
    # over trees depend on their number.
    pool = ThreadPoolExecutor(machine.num_cores(), initializer=threadpool_limits, initargs=(1,))
    with warnings.catch_warnings(), threadpool_limits(1), pool:
        # Warnings are left out, since the report counts their causes. Filters hold for all threads.
        warnings.simplefilter("ignore", alarms.TrainingWarning)
        for first in waiting[:1]:  # One cell alone compiles what the others share.
            computed.update([work(*first)])
            count()
        futures = [pool.submit(work, *named_cell) for named_cell in waiting[1:]]
        try:
            for future in as_completed(futures):
                computed.update([future.result()])
                count()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _common_parameters(planned: StudyPlan) -> Parameters:
    """The parameters of `ReweightedClassifier` that all variants share."""
    study = planned.study
    is_stopped = study.early_stopping != "none"
    return {
        "hidden_layer_sizes": study.hidden_layer_sizes,
        "learning_rate": study.learning_rate,
        "batch_size": study.batch_size,
        "weight_decay": study.weight_decay,
        "num_steps": planned.num_steps,
        "evaluate_every": study.evaluate_every,
        "early_stopping": study.early_stopping if is_stopped else False,
        "alarm_action": study.alarm_action,
    }


def _is_of_earlier_version(study: StudyOptions, out: Path) -> bool:
    """Whether a folder holds a study that was begun by a version which knew the network alone, and these options agree with
    that."""
    try:
        options = json.loads((out / DESCRIPTION).read_text())["study"]
        is_earlier = isinstance(options, dict) and not options.keys() & LATER
    except Exception:  # `_open` says what is wrong with the description.
        return False
    is_plain = study.cost is None and study.alarm_budget is None
    return is_earlier and is_plain and study.models in (NETWORK, DEFAULT_MODELS)


def _describe(planned: StudyPlan, versions: str) -> dict[str, object]:
    """The description of a study, which is written into its folder and is part of the identity of each cell."""
    study, options = planned.study, dataclasses.asdict(planned.study)
    libraries = models.versions(study.model_names, study.strategy_names)
    if planned.is_earlier:
        options = {name: value for name, value in options.items() if name not in LATER}
    description = {
        "study": json.loads(json.dumps(options)),
        "data": _digest(planned.data),
        "cells": planned.num_cells,
        "versions": " ".join([versions, libraries]).strip(),
    }
    matrix = planned.currency.costs  # kept here, since a file of costs may change later
    return description | ({} if matrix is None else {"costs": matrix.tolist()})


def _open(planned: StudyPlan, out: Path) -> _Folder:
    """Write the study's description into a new folder, or check that the folder belongs to this study."""
    origin = provenance()
    description = _describe(planned, origin["versions"])
    path, read_only = out / DESCRIPTION, _why_read_only(out)
    described, sealed = path.exists(), True
    if described:
        written, sealed = _description(path, {*description})
        if {name: written[name] for name in description} != description:
            what = "a new folder, or that of a study with the same options, data and versions"
            raise errors.invalid("out", str(out), what)
        origin = written["origin"]
    elif not _may_begin(out):
        raise errors.invalid("out", str(out), "a new folder, or that of a study")
    records.check(out)
    if read_only is None:
        for each in (out, out / "cells", out / "figures"):
            files.sweep(each)  # Hidden files are left by studies that were killed.
        if not (described and sealed):
            contents = {"format": schema.STUDY_FORMAT} | description | {"origin": origin}
            with files.replacing(path) as scratch:
                scratch.write_text(json.dumps(contents | {"digest": _seal(contents)}, indent=1))
        (out / "cells").mkdir(exist_ok=True)
    return _Folder(out, _seal(description), origin, read_only, sealed)


def _description(path: Path, names: set[str]) -> tuple[dict[str, Any], bool]:
    """The contents of a study's description, and whether it has a digest; raises InputError where it is
    damaged."""
    try:
        written = json.loads(path.read_text())
        digest = written.pop("digest", None)
        # Earlier versions wrote neither a format nor a digest.
        unsealed = digest is None and written.keys() == names | {"origin"}
        same_origin = written["origin"].keys() == provenance().keys()
        if same_origin and (unsealed or digest == _seal(written)):
            return written, not unsealed
    except Exception:  # The description is damaged, in whatever way.
        pass
    allowed = (
        f"a folder whose {path.name} is as it was written: put it back, or remove it, and the same "
        "call goes on with those cells that are of this study"
    )
    raise errors.invalid("out", str(path.parent), allowed)


def _seal(contents: Mapping[str, object]) -> str:
    """A digest of values that can be written as JSON."""
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()


def _may_begin(folder: Path) -> bool:
    """Whether a study can begin in a folder, since it is empty or holds nothing but files that a study writes."""
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    return not names or ("cells" in names and names <= OURS)


def _why_read_only(folder: Path) -> str | None:
    """The reason why nothing can be written to a folder; None where it can."""
    try:
        with files.reserved(folder / DESCRIPTION):
            return None
    except OSError as error:
        if error.errno not in READ_ONLY:
            raise
        return error.strerror


def _digest(data: Data) -> str:
    """A digest of a data set: its names, features and labels."""
    digest = hashlib.sha256(json.dumps([data.class_names, data.feature_names]).encode())
    for array in (data.features, data.labels):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
