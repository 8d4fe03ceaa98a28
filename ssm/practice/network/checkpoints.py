"""Checkpoints of training runs, kept on disk by orbax: a run that was killed continues from its newest
checkpoint and ends in the same bits."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import re
import shutil
import types
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from ssm.practice.network.alarms import Alarm
from ssm.practice.network.runs import TrainingRun
from ssm.support import errors, files, locks

ARRAYS = ("state", "best", "kept", "best_values")
MARK = "whole.json"  # The file of a checkpoint that is written last, with its run's fingerprint and its digest.
OURS = {"arrays", "record", "_CHECKPOINT_METADATA", "commit_success.txt", MARK}
"""The names of all files and folders within a checkpoint's folder."""

log = logging.getLogger("ssm.training")


def fingerprint(*contents: PyTree) -> str:
    """A digest of trees of arrays, plain values and functions, which tells one run from another."""
    digest = hashlib.sha256()
    for content in contents:
        leaves, structure = jax.tree.flatten(
            content, is_leaf=lambda x: isinstance(x, functools.partial)
        )
        for part in (structure, *leaves):
            digest.update(_identity(part))
    return digest.hexdigest()


def _identity(part: object) -> bytes:
    """Bytes that are the same in each process for equal parts, and differ for different ones."""
    if isinstance(part, np.ndarray | jax.Array) and not part.ndim:
        part = float(part)
    if isinstance(part, int | float):
        # optax turns the integers that its schedules hold into floats.
        return repr(float(part)).encode()
    if isinstance(part, np.ndarray | jax.Array):
        return f"{part.shape} {part.dtype}".encode() + np.ascontiguousarray(part).tobytes()
    if isinstance(part, functools.partial):
        return fingerprint(part.func, part.args, part.keywords).encode()
    if isinstance(part, types.FunctionType):
        # The code and the values it closes over count, since optax's schedules share a few names.
        code, cells = part.__code__, part.__closure__ or ()
        values = [cell.cell_contents for cell in cells]
        parts = (code.co_names, code.co_consts, part.__defaults__, part.__kwdefaults__, values)
        return code.co_code + fingerprint(*parts).encode()
    # The address in memory is left out: it differs from process to process.
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(part)).encode()


class Checkpoints:
    """The newest two checkpoints of one run, in a folder that no other run can use until they are closed.

    Each checkpoint is a folder with a digest of every byte in it and of the run's fingerprint. A
    checkpoint without a digest, which is half written or of an earlier version, is removed, and so is
    one that is damaged. The run then continues from the one before, or begins anew, and ends the same.
    """

    def __init__(self, folder: Path, fingerprint: str):
        """Raises ssm.InputError where the folder is a file, cannot be written to, is in use by another
        run, or holds checkpoints of another run or anything that is no checkpoint."""
        if folder.exists() and not folder.is_dir():
            raise errors.invalid("checkpoint_dir", str(folder), "a folder, or a name for one")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            files.check_output(folder / MARK, overwrite=True)
        except (OSError, errors.InputError):
            allowed = "a folder that can be written to"
            raise errors.invalid("checkpoint_dir", str(folder), allowed) from None
        self.fingerprint = fingerprint
        self._folder = folder.absolute()
        with contextlib.ExitStack() as resources:
            resources.enter_context(locks.alone(folder, "checkpoint_dir", "fit"))
            self._remove_damaged()
            options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
            self._manager = ocp.CheckpointManager(self._folder, options=options)
            resources.callback(self._manager.close)
            self._resources = resources.pop_all()

    def save(self, run: TrainingRun) -> None:
        """Write a checkpoint of a run. It counts once its digest is written."""
        record = {name: value for name, value in run._asdict().items() if name not in ARRAYS}
        arrays = {name: _leaves(getattr(run, name)) for name in ARRAYS}
        self._manager.save(
            run.step,
            args=ocp.args.Composite(
                arrays=ocp.args.StandardSave(arrays), record=ocp.args.JsonSave(record)
            ),
        )
        point = self._folder / str(run.step)
        mark = {"fingerprint": self.fingerprint, "digest": _digest(point, self.fingerprint)}
        with files.replacing(point / MARK) as scratch:
            scratch.write_text(json.dumps(mark))

    def latest(self, like: TrainingRun) -> TrainingRun | None:
        """The run of the newest checkpoint, None where there is none; its arrays get the structure that
        they have in `like`, a run that has just begun."""
        step = self._manager.latest_step()
        if step is None:
            return None
        template = {name: _leaves(getattr(like, name)) for name in ARRAYS}
        restored: Any = self._manager.restore(
            step,
            args=ocp.args.Composite(
                arrays=ocp.args.StandardRestore(template), record=ocp.args.JsonRestore()
            ),
        )
        record, arrays = restored["record"], restored["arrays"]
        structures = {name: jax.tree.structure(getattr(like, name)) for name in ARRAYS}
        states = {name: jax.tree.unflatten(structures[name], arrays[name]) for name in ARRAYS}
        raised = tuple((Alarm(*alarm), action) for alarm, action in record.pop("alarms"))
        rows = tuple(record.pop("rows"))
        return like._replace(**states, **record, rows=rows, alarms=raised)

    def close(self) -> None:
        """Release the folder for other runs."""
        self._resources.close()

    def _remove_damaged(self) -> None:
        """Remove checkpoints that are not whole, and refuse a folder that holds a checkpoint of another run or anything
        else."""
        points = [path for path in self._folder.iterdir() if re.fullmatch(r"\d+", path.name)]
        whole = {path: owner for path in points if (owner := _owner(path)) is not None}
        damaged = [path for path in points if path not in whole]
        other_runs = {*whole.values()} - {self.fingerprint}
        if not whole:  # Only the damaged ones can then name the run that they belong to.
            other_runs = {*map(_named_owner, damaged)} - {self.fingerprint, None}
        if other_runs or not all(map(_is_point, damaged)):
            what = "an empty folder, or that of a run with the same data and parameters"
            raise errors.invalid("checkpoint_dir", str(self._folder), what)
        for path in damaged:
            reason = "damaged, half written, or of an earlier version: going on without it"
            log.warning("checkpoint %s is %s", path, reason)
            shutil.rmtree(path)
        for path in self._folder.glob(
            "*.orbax-checkpoint-tmp*"
        ):  # They are left by runs that were killed.
            shutil.rmtree(path)


def _is_point(path: Path) -> bool:
    """Whether a folder holds nothing but what a checkpoint consists of."""
    return path.is_dir() and all(
        inner.name in OURS or inner.name.startswith(f".{MARK}.") for inner in path.iterdir()
    )


def _owner(point: Path) -> str | None:
    """The fingerprint of the run that a checkpoint belongs to; None where the checkpoint is not whole."""
    try:
        mark = json.loads((point / MARK).read_text())
        fingerprint, digest = mark["fingerprint"], mark["digest"]
        return fingerprint if _digest(point, fingerprint) == digest else None
    except Exception:  # The checkpoint is damaged, in whatever way.
        return None


def _named_owner(point: Path) -> str | None:
    """The fingerprint that is named in a checkpoint which is not whole; None where none is. Earlier versions kept it in
    the record."""
    for path in (point / MARK, point / "record" / "metadata"):
        try:
            return str(json.loads(path.read_text())["fingerprint"])
        except Exception:  # It is damaged, in whatever way, and names no run.
            continue
    return None


def _digest(point: Path, fingerprint: str) -> str:
    """A digest of a checkpoint: of its run's fingerprint, its step, and every byte of its files."""
    digest = hashlib.sha256(json.dumps([fingerprint, point.name]).encode())
    paths = {path.relative_to(point).as_posix(): path for path in point.rglob("*")}
    for name, path in sorted(paths.items()):
        if path.is_file() and name != MARK:
            contents = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(json.dumps([name, contents]).encode())
    return digest.hexdigest()


def _leaves(tree: PyTree) -> list[np.ndarray]:
    """The arrays of a tree, on the host, in their order."""
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
