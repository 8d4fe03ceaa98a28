"""Runs of training kept on disk by orbax, so that one which was killed goes on to the same bits."""

from __future__ import annotations

import functools
import hashlib
import re
import types
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from ssm import checks
from ssm.practice.alarms import Alarm
from ssm.practice.runs import Run

ARRAYS = ("state", "best", "kept", "best_values")


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
    """The newest two points of one run in a folder of its own."""

    def __init__(self, folder: Path, fingerprint: str):
        """Raises ssm.InputError where the folder's name is that of a file."""
        if folder.exists() and not folder.is_dir():
            raise checks.refuse("checkpoint_dir", str(folder), "a folder, or a name for one")
        self.fingerprint = fingerprint
        options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def save(self, run: Run) -> None:
        """Keep a run; it appears whole or not at all."""
        record = {name: value for name, value in run._asdict().items() if name not in ARRAYS}
        record |= {"fingerprint": self.fingerprint}
        arrays = {name: _leaves(getattr(run, name)) for name in ARRAYS}
        self._manager.save(
            run.step,
            args=ocp.args.Composite(
                arrays=ocp.args.StandardSave(arrays), record=ocp.args.JsonSave(record)
            ),
        )

    def latest(self, like: Run) -> Run | None:
        """The newest point, in the structure of `like`, a run that has just begun; None where there
        is none.

        Raises ssm.InputError where it is a run of other data or options.
        """
        step = self._manager.latest_step()
        if step is None:
            return None
        record: Any = self._manager.restore(
            step, args=ocp.args.Composite(record=ocp.args.JsonRestore())
        )["record"]
        if record.pop("fingerprint") != self.fingerprint:
            what = "an empty folder, or that of a run with the same data and parameters"
            raise checks.refuse("checkpoint_dir", str(self._manager.directory), what)
        template = {name: _leaves(getattr(like, name)) for name in ARRAYS}
        arrays: Any = self._manager.restore(
            step, args=ocp.args.Composite(arrays=ocp.args.StandardRestore(template))
        )["arrays"]
        structures = {name: jax.tree.structure(getattr(like, name)) for name in ARRAYS}
        states = {name: jax.tree.unflatten(structures[name], arrays[name]) for name in ARRAYS}
        raised = tuple((Alarm(*alarm), action) for alarm, action in record.pop("alarms"))
        rows = tuple(record.pop("rows"))
        return like._replace(**states, **record, rows=rows, alarms=raised)

    def close(self) -> None:
        self._manager.close()


def _leaves(tree: Any) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
