"""Runs of training kept on disk by orbax, so that one which was killed goes on to the same bits."""

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

from ssm.practice.network.alarms import Alarm
from ssm.practice.network.runs import TrainingRun
from ssm.support import errors, files, locks

ARRAYS = ("state", "best", "kept", "best_values")
MARK = "whole.json"  # written into a point's folder when all else is there: whose it is, its digest
OURS = {"arrays", "record", "_CHECKPOINT_METADATA", "commit_success.txt", MARK}

log = logging.getLogger("ssm.training")


def fingerprint(*contents: Any) -> str:
    """A digest of trees of arrays, plain values and functions: what tells one run from another."""
    digest = hashlib.sha256()
    for content in contents:
        leaves, structure = jax.tree.flatten(
            content, is_leaf=lambda x: isinstance(x, functools.partial)
        )
        for part in (structure, *leaves):
            digest.update(_told(part))
    return digest.hexdigest()


def _told(part: Any) -> bytes:
    if isinstance(part, int | float) or (
        isinstance(part, np.ndarray | jax.Array) and not part.ndim
    ):
        return repr(
            float(part)
        ).encode()  # optax turns integers that its schedules hold into floats
    if isinstance(part, np.ndarray | jax.Array):
        return f"{part.shape} {part.dtype}".encode() + np.ascontiguousarray(part).tobytes()
    if isinstance(part, functools.partial):
        return fingerprint(part.func, part.args, part.keywords).encode()
    if isinstance(part, types.FunctionType):
        # its code and the values it holds: optax's schedules all have the same few names
        code, cells = part.__code__, part.__closure__ or ()
        held = [cell.cell_contents for cell in cells]
        parts = (code.co_names, code.co_consts, part.__defaults__, part.__kwdefaults__, held)
        return code.co_code + fingerprint(*parts).encode()
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(part)).encode()  # not where it is in memory


class Checkpoints:
    """The newest two points of one run in a folder of its own, which no other run can have until
    they are closed.

    A point is a folder, and its digest is of every byte in it and of the run's fingerprint. One
    without, of an earlier version or half written, and one that is damaged, are removed, so that
    the run goes on from the one before, or begins anew: its end is the same.
    """

    def __init__(self, folder: Path, fingerprint: str):
        """Raises ssm.InputError where the folder's name is that of a file, nothing can be written
        to it, another run is at work in it, or it holds points of one, or what is no point."""
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
        with contextlib.ExitStack() as held:
            held.enter_context(locks.alone(folder, "checkpoint_dir", "fit"))
            self._remove_damaged()
            options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
            self._manager = ocp.CheckpointManager(self._folder, options=options)
            held.callback(self._manager.close)
            self._held = held.pop_all()

    def save(self, run: TrainingRun) -> None:
        """Keep a run; it counts once its digest is there."""
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
        """The newest point, in the structure of `like`, a run that has just begun; None where there
        is none."""
        step = self._manager.latest_step()
        if step is None:
            return None
        template = {name: _leaves(getattr(like, name)) for name in ARRAYS}
        found: Any = self._manager.restore(
            step,
            args=ocp.args.Composite(
                arrays=ocp.args.StandardRestore(template), record=ocp.args.JsonRestore()
            ),
        )
        record, arrays = found["record"], found["arrays"]
        structures = {name: jax.tree.structure(getattr(like, name)) for name in ARRAYS}
        states = {name: jax.tree.unflatten(structures[name], arrays[name]) for name in ARRAYS}
        raised = tuple((Alarm(*alarm), action) for alarm, action in record.pop("alarms"))
        rows = tuple(record.pop("rows"))
        return like._replace(**states, **record, rows=rows, alarms=raised)

    def close(self) -> None:
        """Let go of the folder."""
        self._held.close()

    def _remove_damaged(self) -> None:
        """Leave whole points of this run alone in the folder, or refuse it as it is."""
        points = [path for path in self._folder.iterdir() if re.fullmatch(r"\d+", path.name)]
        whole = {path: owner for path in points if (owner := _owner(path)) is not None}
        damaged = [path for path in points if path not in whole]
        others = {*whole.values()} - {self.fingerprint}
        if not whole:  # nothing else says whose they are
            others = {*map(_named_owner, damaged)} - {self.fingerprint, None}
        if others or not all(map(_is_point, damaged)):
            what = "an empty folder, or that of a run with the same data and parameters"
            raise errors.invalid("checkpoint_dir", str(self._folder), what)
        for path in damaged:
            said = "damaged, half written, or of an earlier version: going on without it"
            log.warning("checkpoint %s is %s", path, said)
            shutil.rmtree(path)
        for path in self._folder.glob("*.orbax-checkpoint-tmp*"):  # of runs that were killed
            shutil.rmtree(path)


def _is_point(path: Path) -> bool:
    """Whether a folder holds nothing but what is written into a point's."""
    return path.is_dir() and all(
        inner.name in OURS or inner.name.startswith(f".{MARK}.") for inner in path.iterdir()
    )


def _owner(point: Path) -> str | None:
    """The fingerprint of the run that a point is of; None where the point is not whole."""
    try:
        mark = json.loads((point / MARK).read_text())
        fingerprint, digest = mark["fingerprint"], mark["digest"]
        return fingerprint if _digest(point, fingerprint) == digest else None
    except Exception:  # whatever is wrong with it
        return None


def _named_owner(point: Path) -> str | None:
    """The fingerprint that a point names which is not whole, or is of an earlier version, which
    kept it in the record."""
    for path in (point / MARK, point / "record" / "metadata"):
        try:
            return str(json.loads(path.read_text())["fingerprint"])
        except Exception:  # whatever is wrong with it
            continue
    return None


def _digest(point: Path, fingerprint: str) -> str:
    """Of whose a point is, its step, and its files, byte by byte."""
    digest = hashlib.sha256(json.dumps([fingerprint, point.name]).encode())
    paths = {path.relative_to(point).as_posix(): path for path in point.rglob("*")}
    for name, path in sorted(paths.items()):
        if path.is_file() and name != MARK:
            contents = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(json.dumps([name, contents]).encode())
    return digest.hexdigest()


def _leaves(tree: Any) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
