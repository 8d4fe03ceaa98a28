"""Grids of runs, followed on all cores or many machines, into memory or a store that resumes."""

from __future__ import annotations

import collections
import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
import xarray as xr

from ssm import checks, dynamics, grids, results, simulation, spectral
from ssm.config import Config
from ssm.grids import Grid
from ssm.stores import SweepStore

if TYPE_CHECKING:
    import distributed

CHUNK_RUNS, CHUNK_BYTES = 256, 2**26
CHUNK_COLUMNS = 200_000  # feature columns of all its runs: some seconds' work

Arrays = dict[str, np.ndarray]
Progress = Callable[[int, int], None]


class Plan(NamedTuple):
    """What a sweep computes and how it is laid out, the same whoever computes it."""

    grid: Grid
    sizes: dict[str, int]
    """Length of each dimension of a run, the largest of all runs."""
    dtypes: dict[str, str]
    """Type of each variable of a run, in the order they are written."""
    padded: dict[tuple[Any, ...], dict[int, int]]
    """What the number of feature columns of a run is padded up to, by shape and number."""
    blocks: tuple[tuple[slice, ...], ...]
    """The chunks of runs."""

    def runs(self, chunk: int) -> list[int]:
        """Numbers of a chunk's runs in the flattened grid."""
        numbers = np.arange(np.prod(self.grid.shape)).reshape(self.grid.shape)
        return numbers[self.blocks[chunk]].ravel().tolist()

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a variable of one run."""
        return tuple(self.sizes[dim] for dim in results.DIMENSIONS[name])

    def columns(self, config: Config) -> int:
        """Number of feature columns a run is followed in."""
        return self.padded[_signature(config)][config.num_columns]


def make_plan(grid: Grid, chunk_size: int | None = None) -> Plan:
    """Check every combination of a grid and lay its sweep out.

    Raises ssm.InputError for the first combination that is not allowed.
    """
    if chunk_size is not None:
        chunk_size = checks.integer("chunk_size", chunk_size, 1, 2**31 - 1)
    sizes: dict[str, int] = {"block": len(spectral.BLOCKS)}
    columns: dict[tuple[Any, ...], collections.Counter[int]] = {}
    kept, precisions = set(), set()
    for run in range(int(np.prod(grid.shape))):
        config = grid.config(run)
        k, d = config.num_classes, config.feature_dim
        own = {"time": config.num_saves, "class": k, "component": k - 1, "feature": d}
        own["mode"] = min(k, d)
        if config.save_state:
            shared = config.columns == "classes"
            kept |= {"W", "class_H" if shared else "H"}
            own |= {} if shared else {"sample": sum(config.class_counts)}
        sizes = sizes | {dim: max(size, sizes.get(dim, 0)) for dim, size in own.items()}
        precisions.add(config.dtype)
        columns.setdefault(_signature(config), collections.Counter())[config.num_columns] += 1
    floats = max(precisions)  # float64 where there are both
    dtypes = {
        name: floats if dtype == "observed" else dtype
        for name, dtype in results.SWEEP_TYPES.items()
        # t1 as an axis is a coordinate of that name
        if (name not in ("W", "H", "class_H") or name in kept) and name not in grid.dimensions
    }
    padded = {
        key: grids.padded_sizes(n) if key[0] == "samples" else {size: size for size in n}
        for key, n in columns.items()
    }
    plan = Plan(grid, sizes, dtypes, padded, ())
    size_of_run = sum(8 * int(np.prod(plan.shape(name))) for name in dtypes)
    largest = max(max(padded.values()) for padded in plan.padded.values())
    most = min(CHUNK_RUNS, CHUNK_BYTES // size_of_run, CHUNK_COLUMNS // largest)
    chunk = grids.chunk_shape(grid.shape, chunk_size or max(most, 1))
    return plan._replace(blocks=tuple(grids.blocks(grid.shape, chunk)))


def _signature(config: Config) -> tuple[Any, ...]:
    """What decides, beside the number of columns, whether two runs share a compilation."""
    return (
        config.columns,
        config.num_classes,
        config.feature_dim,
        config.loss,
        config.num_saves,
        config.solver,
        config.dtype,
        config.save_state,
        # coupled samples have a kernel that is no diagonal
        config.columns == "samples" and config.coupling == 0,
    )


def sweep(
    grid: Mapping[str, Iterable[Any]],
    base: Config | None = None,
    store: str | Path | None = None,
    client: distributed.Client | None = None,
    *,
    chunk_size: int | None = None,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Run every combination of some fields' values.

    Each run is that of `ssm.simulate`, whatever runs beside it; one that fails keeps its place,
    with its status. Runs that differ in numbers only share a compilation: under the squared loss
    (whatever the counts), with shared features or a start equal on each class; under cross-entropy
    samples are padded to at most three sizes.

    Args:
        grid: values by Config field, the axes of the result in this order.
        base: what the runs have in common; Config() when left out.
        store: zarr store to write as chunks of runs finish. One that exists goes on where it was
            left, if it is of the same grid and base.
        client: a Dask client whose workers compute the chunks; this machine's cores when left out.
        chunk_size: most runs of a chunk, the most that an interrupted sweep does again; chosen by
            memory and work when left out.
        progress: called with the number of runs done, and of all.

    Returns:
        The Dataset of a single run with one dimension for each axis, named as the field
        (`loss_name` for `loss`), and `status`, `num_steps`, `t1`, `mean_sample_weight` and
        `can_interpolate` of each run. Where runs differ in length their times are `flow_time`
        instead of `time`; where they differ in number of classes or saves, missing entries are
        NaN, 0 or empty. With a store it is read as it is asked for.

    Raises:
        ssm.InputError: a bad grid, a combination that is not allowed (named), a store of another
            sweep (with the difference); before anything runs.
    """
    base = Config() if base is None else base
    if not isinstance(base, Config):
        raise checks.refuse("base", base, "a Config")
    if client is not None and not hasattr(client, "submit"):
        raise checks.refuse("client", client, "a Dask client, distributed.Client(address)")
    if store is not None and not isinstance(store, str | Path):
        raise checks.refuse("store", store, "a path")
    plan = make_plan(grids.make_grid(grid, base), chunk_size)
    use_compilation_cache()
    if store is None:
        arrays = {
            name: np.full(plan.grid.shape + plan.shape(name), results.filling(dtype), dtype)
            for name, dtype in plan.dtypes.items()
        }
        origins = []
        for chunk, found, origin in _compute(plan, range(len(plan.blocks)), client, progress):
            origins.append(origin)
            for name, values in found.items():
                arrays[name][plan.blocks[chunk]] = values
        return results.sweep_dataset(arrays, plan.grid.to_json(), plan.grid.coordinates, origins)
    stored = open_store(Path(store), plan)
    plan = plan._replace(blocks=stored.blocks)
    pending = [chunk for chunk in range(len(plan.blocks)) if not stored.is_done(chunk)]
    for chunk, found, origin in _compute(plan, pending, client, progress):
        stored.write(chunk, found, origin)
    return stored.dataset()


def open_store(path: Path, plan: Plan) -> SweepStore:
    """The store of a sweep, made if it is not there.

    Raises ssm.InputError where there is something else, or a sweep of another grid or base.
    """
    asked = plan.grid.to_json()
    if not path.exists():
        laid_out = {
            name: (plan.grid.shape + plan.shape(name), dtype) for name, dtype in plan.dtypes.items()
        }
        return SweepStore.create(path, asked, plan.grid.coordinates, laid_out, plan.blocks)
    store = SweepStore(path)
    if differences := _differences(store.sweep, asked):
        raise checks.refuse(
            "store",
            str(path),
            f"a store of the same sweep; {'; '.join(differences)}",
        )
    store.repair(plan.grid.coordinates)
    return store


def _differences(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """Where two sweeps differ, a phrase each."""
    found, missing = [], "no axis"
    for part in ("base", "axes"):
        for field in sorted({*stored[part], *asked[part]}):
            there, here = stored[part].get(field, missing), asked[part].get(field, missing)
            if there != here and (part == "axes" or missing not in (there, here)):
                found.append(f"{field} is {_shown(there)} there, {_shown(here)} here")
    if not found and list(stored["axes"]) != list(asked["axes"]):
        found.append(f"its axes are in the order {', '.join(stored['axes'])}")
    return found


def _shown(value: Any) -> str:
    """A value, or the ends of an axis of many."""
    if isinstance(value, list) and len(value) > 6:
        return f"{json.dumps(value[:2])[:-1]}, ... {json.dumps(value[-1])}] ({len(value)} values)"
    return "no axis" if value == "no axis" else json.dumps(value)


def _compute(
    plan: Plan, chunks: Sequence[int], client: distributed.Client | None, progress: Progress | None
) -> Iterator[tuple[int, Arrays, dict[str, Any]]]:
    """Compute chunks on this machine's cores or a cluster's, as they are finished: number, arrays
    and origin of each."""
    total = int(np.prod(plan.grid.shape))
    done = total - sum(len(plan.runs(chunk)) for chunk in chunks)

    def count(runs: int) -> None:
        nonlocal done
        done += runs
        if progress is not None:
            progress(done, total)

    count(0)
    if client is not None:
        for chunk, (found, origin) in _on_cluster(plan, chunks, client):
            count(len(plan.runs(chunk)))
            yield chunk, found, origin
    elif jax.default_backend() == "cpu":
        yield from _on_cores(plan, chunks, count)
    else:
        for chunk in chunks:
            found, origin = compute_chunk(plan, chunk)
            count(len(plan.runs(chunk)))
            yield chunk, found, origin


def _on_cores(
    plan: Plan, chunks: Sequence[int], count: Callable[[int], None]
) -> Iterator[tuple[int, Arrays, dict[str, Any]]]:
    """One run a core at a time, and the next chunk begun while one is written."""
    ahead: collections.deque[tuple[int, list[Future[Arrays]]]] = collections.deque()
    clock = _Clock()
    with ThreadPoolExecutor(_num_cores()) as pool:

        def finish() -> tuple[int, Arrays, dict[str, Any]]:
            nonlocal clock
            chunk, futures = ahead[0]
            runs = []
            for future in futures:
                runs.append(future.result())
                count(1)
            ahead.popleft()
            origin, clock = clock.origin(plan, chunk), _Clock()
            return chunk, _stack(plan, chunk, runs), origin

        try:
            for chunk in chunks:
                runs = [pool.submit(_follow, plan, run) for run in plan.runs(chunk)]
                ahead.append((chunk, runs))
                if len(ahead) > 1:
                    yield finish()
            while ahead:
                yield finish()
        finally:
            for _, futures in ahead:
                for future in futures:
                    future.cancel()


def _num_cores() -> int:
    """Cores that this process may use, which can be fewer than the machine has."""
    available = getattr(os, "sched_getaffinity", None)
    return len(available(0)) if available else os.cpu_count() or 1


def _on_cluster(
    plan: Plan, chunks: Sequence[int], client: distributed.Client
) -> Iterator[tuple[int, tuple[Arrays, dict[str, Any]]]]:
    """A chunk a worker thread, and one more waiting for each, so that results do not pile up."""
    from distributed import as_completed

    def submit(chunk: int) -> None:
        # each with the plan of its own, as what is left with workers is lost with them
        future = client.submit(
            compute_chunk, plan._replace(blocks=(plan.blocks[chunk],)), 0, pure=False
        )
        busy[future.key] = chunk
        running.add(future)

    waiting, running, busy = iter(chunks), as_completed(), {}
    threads: Any = client.nthreads()
    for chunk in itertools.islice(waiting, 2 * max(sum(threads.values()), 1)):
        submit(chunk)
    for future in running:
        try:
            chunk, found = busy.pop(future.key), future.result()
        except Exception as error:
            raise ConnectionError(
                f"the cluster was lost or a worker failed ({type(error).__name__}: "
                f"{' '.join(str(error).split())[:200]}); what is finished is kept in a store"
            ) from error
        for following in itertools.islice(waiting, 1):
            submit(following)
        yield chunk, found


def compute_chunk(plan: Plan, chunk: int) -> tuple[Arrays, dict[str, Any]]:
    """All runs of one chunk in this thread, or batched where there is an accelerator: arrays over
    the chunk's part of the grid, and where they come from."""
    use_compilation_cache()
    clock = _Clock()
    numbers = plan.runs(chunk)
    if jax.default_backend() == "cpu":
        runs = [_follow(plan, run) for run in numbers]
    else:
        runs = _follow_batched(plan, numbers)
    return _stack(plan, chunk, runs), clock.origin(plan, chunk)


class _Clock:
    """What a chunk costs from here on."""

    def __init__(self) -> None:
        self.begun, self.compiled = time.perf_counter(), dynamics.num_compilations()

    def origin(self, plan: Plan, chunk: int) -> dict[str, Any]:
        """Provenance of a chunk: where, when and by which versions it was computed, and the cost."""
        return {
            "variables": list(plan.dtypes),
            "runs": len(plan.runs(chunk)),
            "seconds": time.perf_counter() - self.begun,
            "compilations": dynamics.num_compilations() - self.compiled,
            "device": jax.devices()[0].device_kind,
            **results.provenance(),
        }


_compiled: set[Any] = set()
_compiling: dict[Any, threading.Lock] = collections.defaultdict(threading.Lock)


def _follow(plan: Plan, run: int) -> Arrays:
    """One run of the grid, as its arrays. The first of a shape compiles while others wait."""
    config = plan.grid.config(run)
    ready = simulation.prepare(config, plan.columns(config))
    shape = (_signature(config), plan.columns(config))

    def solve() -> dynamics.Trajectory:
        with jax.enable_x64(config.dtype == "float64"):
            return dynamics.gradient_flow(ready.flow, solver=config.solver)

    if shape in _compiled:
        trajectory = solve()
    else:
        with _compiling[shape]:
            trajectory = solve()
            _compiled.add(shape)
    return _run_arrays(ready, trajectory)


def _follow_batched(plan: Plan, runs: Sequence[int]) -> list[Arrays]:
    """Runs of the grid, those of one shape in one batch."""
    shapes: dict[Any, list[tuple[int, simulation.Run]]] = collections.defaultdict(list)
    for run in runs:
        config = plan.grid.config(run)
        shape = (_signature(config), plan.columns(config))
        shapes[shape].append((run, simulation.prepare(config, plan.columns(config))))
    found = {}
    for alike in shapes.values():
        config = alike[0][1].config
        with jax.enable_x64(config.dtype == "float64"):
            trajectories = dynamics.gradient_flows(
                [ready.flow for _, ready in alike], solver=config.solver
            )
        for (run, ready), trajectory in zip(alike, trajectories, strict=True):
            found[run] = _run_arrays(ready, trajectory)
    return [found[run] for run in runs]


def _run_arrays(ready: simulation.Run, trajectory: dynamics.Trajectory) -> Arrays:
    arrays, facts = simulation.run_arrays(ready, trajectory)
    arrays["flow_time"] = arrays.pop("time")
    return arrays | {name: np.asarray(value) for name, value in facts.items()}


def _stack(plan: Plan, chunk: int, runs: Sequence[Arrays]) -> Arrays:
    """Runs as one block of the grid, what they lack filled up."""
    lengths = tuple(block.stop - block.start for block in plan.blocks[chunk])
    stacked = {}
    for name, dtype in plan.dtypes.items():
        shape = plan.shape(name)
        values = np.full((len(runs), *shape), results.filling(dtype), dtype)
        for i, run in enumerate(runs):
            if name in run:
                values[(i, *map(slice, run[name].shape))] = run[name]
        stacked[name] = values.reshape(lengths + shape)
    return stacked


def use_compilation_cache() -> None:
    """Keep compiled runs on disk for the next process, unless JAX was told where to keep them."""
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(home / "ssm" / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
