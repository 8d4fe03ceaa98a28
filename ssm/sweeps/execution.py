"""The chunks of a sweep, computed on this machine's cores, an accelerator, or a Dask cluster."""

from __future__ import annotations

import collections
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ssm import simulation
from ssm.dynamics import trajectories
from ssm.results import datasets
from ssm.sweeps.layout import SweepLayout

if TYPE_CHECKING:
    import distributed

Arrays = dict[str, np.ndarray]
Progress = Callable[[int, int], None]


def compute(
    layout: SweepLayout,
    chunks: Sequence[int],
    client: distributed.Client | None,
    progress: Progress | None,
) -> Iterator[tuple[int, Arrays, dict[str, Any]]]:
    """Compute chunks on this machine's cores or a cluster's, as they are finished: number, arrays
    and origin of each."""
    total = int(np.prod(layout.grid.shape))
    done = total - sum(len(layout.runs(chunk)) for chunk in chunks)

    def count(runs: int) -> None:
        nonlocal done
        done += runs
        if progress is not None:
            progress(done, total)

    count(0)
    if client is not None:
        for chunk, (found, origin) in _on_cluster(layout, chunks, client):
            count(len(layout.runs(chunk)))
            yield chunk, found, origin
    elif jax.default_backend() == "cpu":
        yield from _on_cores(layout, chunks, count)
    else:
        for chunk in chunks:
            found, origin = compute_chunk(layout, chunk)
            count(len(layout.runs(chunk)))
            yield chunk, found, origin


def _on_cores(
    layout: SweepLayout, chunks: Sequence[int], count: Callable[[int], None]
) -> Iterator[tuple[int, Arrays, dict[str, Any]]]:
    """One run a core at a time, and the next chunk begun while one is written."""
    ahead: collections.deque[tuple[int, list[Future[Arrays]]]] = collections.deque()
    clock = _Clock()
    with ThreadPoolExecutor(num_cores()) as pool:

        def finish() -> tuple[int, Arrays, dict[str, Any]]:
            nonlocal clock
            chunk, futures = ahead[0]
            runs = []
            for future in futures:
                runs.append(future.result())
                count(1)
            ahead.popleft()
            origin, clock = clock.origin(layout, chunk), _Clock()
            return chunk, _stack(layout, chunk, runs), origin

        try:
            for chunk in chunks:
                runs = [pool.submit(_follow, layout, run) for run in layout.runs(chunk)]
                ahead.append((chunk, runs))
                if len(ahead) > 1:
                    yield finish()
            while ahead:
                yield finish()
        finally:
            for _, futures in ahead:
                for future in futures:
                    future.cancel()


def num_cores() -> int:
    """Cores that this process may use, which can be fewer than the machine has."""
    available = getattr(os, "sched_getaffinity", None)
    return len(available(0)) if available else os.cpu_count() or 1


def _on_cluster(
    layout: SweepLayout, chunks: Sequence[int], client: distributed.Client
) -> Iterator[tuple[int, tuple[Arrays, dict[str, Any]]]]:
    """A chunk a worker thread, and one more waiting for each, so that results do not pile up."""
    from distributed import as_completed

    def submit(chunk: int) -> None:
        # each with the layout of its own, as what is left with workers is lost with them
        future = client.submit(
            compute_chunk, layout._replace(blocks=(layout.blocks[chunk],)), 0, pure=False
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


def compute_chunk(layout: SweepLayout, chunk: int) -> tuple[Arrays, dict[str, Any]]:
    """All runs of one chunk in this thread, or batched where there is an accelerator: arrays over
    the chunk's part of the grid, and where they come from."""
    use_compilation_cache()
    clock = _Clock()
    numbers = layout.runs(chunk)
    if jax.default_backend() == "cpu":
        runs = [_follow(layout, run) for run in numbers]
    else:
        runs = _follow_batched(layout, numbers)
    return _stack(layout, chunk, runs), clock.origin(layout, chunk)


class _Clock:
    """What a chunk costs from here on."""

    def __init__(self) -> None:
        self.begun, self.compiled = time.perf_counter(), trajectories.num_compilations()

    def origin(self, layout: SweepLayout, chunk: int) -> dict[str, Any]:
        """Provenance of a chunk: where, when and by which versions it was computed, and the cost."""
        return {
            "variables": list(layout.dtypes),
            "runs": len(layout.runs(chunk)),
            "seconds": time.perf_counter() - self.begun,
            "compilations": trajectories.num_compilations() - self.compiled,
            "device": jax.devices()[0].device_kind,
            **datasets.provenance(),
        }


_compiled: set[Any] = set()
_compiling: dict[Any, threading.Lock] = collections.defaultdict(threading.Lock)


def _follow(layout: SweepLayout, run: int) -> Arrays:
    """One run of the grid, as its arrays. The first of a shape compiles while others wait."""
    config = layout.grid.config(run)
    shape = layout.compiled_shape(config)
    ready = simulation.prepare(config, shape[0])
    shape = (*shape, ready.num_rates)
    if shape in _compiled:
        trajectory = simulation.follow(ready)
    else:
        with _compiling[shape]:
            trajectory = simulation.follow(ready)
            _compiled.add(shape)
    return _run_arrays(ready, trajectory)


def _follow_batched(layout: SweepLayout, runs: Sequence[int]) -> list[Arrays]:
    """Runs of the grid, those of one shape in one batch."""
    shapes: dict[Any, list[tuple[int, simulation.PreparedRun]]] = collections.defaultdict(list)
    for run in runs:
        config = layout.grid.config(run)
        shape = layout.compiled_shape(config)
        ready = simulation.prepare(config, shape[0])
        shapes[(*shape, ready.num_rates)].append((run, ready))
    found = {}
    for alike in shapes.values():
        trajectories = simulation.follow_batch([ready for _, ready in alike])
        for (run, ready), trajectory in zip(alike, trajectories, strict=True):
            found[run] = _run_arrays(ready, trajectory)
    return [found[run] for run in runs]


def _run_arrays(ready: simulation.PreparedRun, trajectory: trajectories.Trajectory) -> Arrays:
    arrays, facts = simulation.run_arrays(ready, trajectory)
    arrays["flow_time"] = arrays.pop("time")
    return arrays | {name: np.asarray(value) for name, value in facts.items()}


def _stack(layout: SweepLayout, chunk: int, runs: Sequence[Arrays]) -> Arrays:
    """Runs as one block of the grid, what they lack filled up."""
    lengths = tuple(block.stop - block.start for block in layout.blocks[chunk])
    stacked = {}
    for name, dtype in layout.dtypes.items():
        shape = layout.shape(name)
        values = np.full((len(runs), *shape), datasets.filling(dtype), dtype)
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
