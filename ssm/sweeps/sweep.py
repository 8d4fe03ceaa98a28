"""Grids of runs: a sweep into memory, or into a store that resumes."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ssm import additions
from ssm.config import Config, check_config
from ssm.config.data import DataFields
from ssm.dynamics.observables import Observable
from ssm.dynamics.parameters import Params
from ssm.problem.own_targets import own_targets
from ssm.problem.problem import Targets
from ssm.problem.schedules import Transformation
from ssm.results import datasets
from ssm.results.stores import SweepStore, checked_path
from ssm.support import errors, files, machine, notebooks, sharing
from ssm.sweeps import grids, growing
from ssm.sweeps.differences import differences_of
from ssm.sweeps.execution import Progress, compute
from ssm.sweeps.layout import Chunk, SweepLayout, make_layout

if TYPE_CHECKING:
    import distributed


def sweep(
    grid: Mapping[str, Iterable[Any]],
    base: Config | None = None,
    store: str | Path | None = None,
    client: distributed.Client | None = None,
    *,
    loss: Any = None,
    optimizer: Any = None,
    observables: Mapping[str, Observable] | None = None,
    schedule: Transformation | None = None,
    start: Params | None = None,
    targets: Any = None,
    labels: Any = None,
    sample_weights: Any = None,
    chunk_size: int | None = None,
    progress: Progress | bool | None = None,
) -> xr.Dataset:
    """Run every combination of some fields' values.

    Each run is that of `ssm.simulate`, whatever runs beside it, up to rounding where samples are padded
    to another size. A run that fails keeps its place, with its status. Runs that differ in numbers only
    share a compilation, whatever the counts, under the squared loss, with shared features, and from a
    start that is equal on each class. Under cross-entropy samples are padded to at most three sizes.

    Args:
        grid: values by Config field, the axes of the result in this order. A key of several fields with
            commas between has tuples, through which they move together (`ssm.points`).
        base: what the runs have in common; Config() when left out.
        store: zarr store to write as chunks of runs finish. One that exists goes on where it was
            left, if it is of the same grid and base, and grows if that grid is a part of this one. Processes that
            are given the same sweep and store share its chunks, and each returns all of it.
        client: a Dask client whose workers compute the chunks; this machine's cores when left out.
        loss, optimizer, observables, schedule, start: what all runs are given beside their Configs, as
            `ssm.simulate` takes it; a loss or an optimiser counts where the Config says `own`, which it does
            unless that is an axis. Their numbers can be axes: `loss.NUMBER`, `optimizer.NUMBER`. A store knows
            them by their class, numbers and `version`.
        targets, labels, sample_weights: what the samples of all runs are taught, as `ssm.simulate` takes it. No axis
            says how many samples a class has, since they do. A store knows them by their digest.
        chunk_size: most runs of a chunk, the most that an interrupted sweep does again; chosen by
            memory and work when left out.
        progress: called with the number of runs done, and of all; or True for a bar, False for none. Left out: a
            bar in notebooks, once the sweep has taken two seconds.

    Returns:
        The Dataset of a single run with one dimension for each axis, named as the field
        (`loss_name` for `loss`, `point` for several), and `status` and other facts of each run. Where runs
        differ in length their times are `flow_time` instead of `time`; where they differ in number of
        classes or saves, missing entries are NaN, 0 or empty. With a store it is read as it is asked for.

    Raises:
        ssm.InputError: a bad grid, a combination that is not allowed (named), a store of another
            sweep (with the difference); before anything runs.

    Example:
        >>> import ssm
        >>> base = ssm.Config(num_classes=4, loss="squared", t1=30.0, num_saves=10)
        >>> runs = ssm.sweep({"weight_exponent": [0.0, 0.5], "seed": range(3)}, base)
        >>> runs["block_learning_time"].dims
        ('weight_exponent', 'seed', 'block')
        >>> runs["status"].values[0].tolist()
        ['finished', 'finished', 'finished']
    """
    base = Config() if base is None else check_config("base", base)
    if client is not None and not hasattr(client, "submit"):
        raise errors.invalid("client", client, "a Dask client, distributed.Client(address)")
    progress = notebooks.checked(progress, "a function of the runs done and of all")
    path = None if store is None else checked_path(store)
    keys = list(grid) if isinstance(grid, Mapping) else []
    swept = {field.strip() for key in keys for field in str(key).split(",")}
    base, taught = _taught(base, swept, targets, labels, sample_weights)
    own = {"loss": loss, "optimizer": optimizer, "observables": observables, "targets": taught}
    base, given = additions.additions(base, swept=swept, schedule=schedule, start=start, **own)
    if path is not None:
        given.check_versions()
    layout = make_layout(grids.make_grid(grid, base, given), chunk_size)
    machine.use_compilation_cache()
    with notebooks.shown("sweeping", progress, runs=True) as report:
        if path is None:
            return _in_memory(layout, client, report)
        return _in_store(path, layout, client, report)


def _taught(
    base: Config, swept: Collection[str], targets: Any, labels: Any, sample_weights: Any
) -> tuple[Config, Targets | None]:
    """What runs have in common, and the targets that all of them are given, whose samples are counted once."""
    if targets is None and labels is not None:
        raise errors.invalid("labels", "given", "left out unless targets are given")
    base, taught, _ = own_targets(base, targets, labels, sample_weights)
    if targets is not None:
        for field in dataclasses.fields(DataFields):
            if field.name in swept:
                allowed = "left out where targets are given, whose samples say the counts"
                raise errors.invalid(f"grid[{field.name}]", "given", allowed)
    return base, taught


def _in_memory(
    layout: SweepLayout, client: distributed.Client | None, progress: Progress | None
) -> xr.Dataset:
    """A whole sweep, computed into memory."""
    arrays = {
        name: np.full(layout.grid.shape + layout.shape(name), datasets.filling(dtype), dtype)
        for name, dtype in layout.dtypes.items()
    }
    origins, chunks = [], [layout.chunk(number) for number in range(len(layout.blocks))]
    for chunk, computed, origin in compute(layout, chunks, client, progress):
        origins.append(origin)
        for name, values in computed.items():
            arrays[name][chunk.block] = values.reshape(chunk.shape + values.shape[1:])
    return datasets.sweep_dataset(arrays, layout.grid.to_json(), layout.grid.coordinates, origins)


def _in_store(
    path: Path,
    layout: SweepLayout,
    client: distributed.Client | None,
    progress: Progress | None,
) -> xr.Dataset:
    """A sweep whose store is written as its chunks are computed, here and by other processes at the same time."""

    def prepare() -> None:
        open_store(path, layout)
        files.sweep(files.real(path).parent)

    with contextlib.ExitStack() as at_the_end:
        try:
            shared = at_the_end.enter_context(sharing.shared(path, prepare))
        except OSError:  # the folder cannot be written to, but a finished sweep can be read from it
            return _finished(path, layout, progress)
        stored = open_store(path, layout, "a store that no other process is computing")
        layout = layout._replace(blocks=stored.blocks)
        alone = _compute_with_others(stored, layout, client, progress, shared)
    if not alone or not stored.metadata.is_covered:
        with contextlib.suppress(files.OccupiedError), files.reserved(path):
            _tidy(path, layout)  # unless others are still at it, of whom the last one does so
    return stored.dataset()


def _tidy(path: Path, layout: SweepLayout) -> None:
    """Remove what other processes have left that were killed, and complete the store of an earlier version."""
    stored = open_store(path, layout)
    if not stored.metadata.is_covered and not _pending(stored, layout):
        stored.complete()


def _finished(path: Path, layout: SweepLayout, progress: Progress | None) -> xr.Dataset:
    """A finished sweep from a store that cannot be written to."""
    allowed = "in a folder that can be written to"
    stored = open_store(path, layout, allowed)
    layout = layout._replace(blocks=stored.blocks)
    if _pending(stored, layout):
        raise errors.invalid("store", str(path), f"{allowed}, as its sweep is not finished")
    for _ in compute(layout, [], None, progress):
        pass  # there is nothing to compute, which is told
    return stored.dataset()


def _compute_with_others(
    stored: SweepStore,
    layout: SweepLayout,
    client: distributed.Client | None,
    progress: Progress | None,
    shared: sharing.Shared,
) -> bool:
    """Write all chunks that are not done and that no other process computes, until all are done: what others
    have is waited for, and taken over from one that died. Whether there were no others."""
    of_others: list[Chunk] = []
    alone = True

    def claim(chunk: Chunk) -> Chunk | None:
        if not shared.take(str(chunk.number)):
            of_others.append(chunk)
            return None
        # Another process may have done it since it was looked for.
        chunk = chunk._replace(runs=_left(stored, layout, chunk.number))
        if not chunk.runs:
            shared.give(str(chunk.number), is_done=True)
        return chunk

    pending = _pending(stored, layout)
    while True:
        for chunk, computed, origin in compute(layout, pending, client, progress, claim):
            places = np.flatnonzero(np.isin(layout.chunk(chunk.number).runs, chunk.runs))
            stored.write(chunk.number, computed, [origin], places.tolist())
            shared.give(str(chunk.number), is_done=True)
        if not of_others:
            return alone
        alone = False
        shared.wait_for(str(of_others[0].number))
        left = [chunk._replace(runs=_left(stored, layout, chunk.number)) for chunk in of_others]
        pending = [chunk for chunk in left if chunk.runs]
        of_others.clear()


def _pending(stored: SweepStore, layout: SweepLayout) -> list[Chunk]:
    """The chunks that are not done, each with those of its runs that are not."""
    chunks = map(layout.chunk, range(len(layout.blocks)))
    left = [chunk._replace(runs=_left(stored, layout, chunk.number)) for chunk in chunks]
    return [chunk for chunk in left if chunk.runs]


def _left(stored: SweepStore, layout: SweepLayout, number: int) -> list[int]:
    """The runs of a chunk that are not done."""
    done = set(stored.done_runs(number))
    return [run for place, run in enumerate(layout.chunk(number).runs) if place not in done]


def open_store(path: Path, layout: SweepLayout, needed: str | None = None) -> SweepStore:
    """The store of a sweep, made if it is not there, grown or mended if it has to be; where that is barred,
    `needed` is what would be needed for it.

    Raises ssm.InputError where there is something else, or a sweep of another grid or base, and where the
    store has to be changed and must not be.
    """
    asked = layout.grid.to_json()
    laid_out = {
        name: (layout.grid.shape + layout.shape(name), dtype)
        for name, dtype in layout.dtypes.items()
    }
    if not path.exists():
        return SweepStore.create(path, asked, layout.grid.coordinates, laid_out, layout.blocks)
    store = SweepStore(path)
    differences = differences_of(store.sweep, asked)
    if differences and (growth := growing.growth(store.sweep, asked)) is not None:
        if needed is not None:
            raise errors.invalid("store", str(path), f"{needed}, as its sweep has to grow")
        return growing.grow(store, growth, layout, laid_out)
    if differences:
        if growing.growth(asked, store.sweep) is not None:
            hint = "this grid is a part of it: take it by ssm.load(store).sel(...)"
            differences.append(hint)
        raise errors.invalid(
            "store",
            str(path),
            f"a store of the same sweep; {'; '.join(differences)}",
        )
    types = {name: (shape, np.dtype(dtype)) for name, (shape, dtype) in store.variables.items()}
    if types != {name: (shape, np.dtype(dtype)) for name, (shape, dtype) in laid_out.items()}:
        allowed = "a store of the same variables; this one is of another version of ssm"
        raise errors.invalid("store", str(path), allowed)
    if needed is None:
        store.repair(layout.grid.coordinates)
    elif not store.is_intact():
        raise errors.invalid("store", str(path), f"{needed}, as it is damaged")
    return store
