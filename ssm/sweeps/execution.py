"""The chunks of a sweep, computed on this machine's cores, an accelerator, or a Dask cluster."""

from __future__ import annotations

import collections
import itertools
import math
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ssm import preparation, simulation
from ssm.dynamics import trajectories
from ssm.results import datasets
from ssm.results.provenance import provenance
from ssm.support import machine
from ssm.sweeps.layout import Chunk, SweepLayout

if TYPE_CHECKING:
    import distributed

Arrays = dict[str, np.ndarray]
Progress = Callable[[int, int], None]


def compute(
    layout: SweepLayout,
    chunks: Sequence[Chunk],
    client: distributed.Client | None,
    progress: Progress | None,
    claim: Callable[[Chunk], Chunk | None] = lambda chunk: chunk,
) -> Iterator[tuple[Chunk, Arrays, dict[str, Any]]]:
    """The runs of these chunks, computed on this machine's cores or a cluster's, as each chunk is finished,
    with their arrays, runs first, and where they come from.

    Args:
        layout: of the sweep.
        chunks: with the runs that are not done.
        client: a Dask client whose workers compute, if any.
        progress: called with the number of runs done, and of all.
        claim: called before a chunk is begun. It returns the chunk with those of its runs that are still not done,
            None where somebody else computes it.
    """
    total = math.prod(layout.grid.shape)
    done = total - sum(len(chunk.runs) for chunk in chunks)

    def count(runs: int) -> None:
        nonlocal done
        done += runs
        if progress is not None:
            progress(done, total)

    def claimed() -> Iterator[Chunk]:
        for chunk in chunks:
            ours = claim(chunk)
            if ours is None:
                continue
            if done_meanwhile := len(chunk.runs) - len(ours.runs):
                count(done_meanwhile)
            if ours.runs:
                yield ours

    count(0)
    if client is not None:
        for chunk, (arrays, origin) in _on_cluster(layout, claimed(), client):
            count(len(chunk.runs))
            yield chunk, arrays, origin
    elif jax.default_backend() == "cpu":
        yield from _on_cores(layout, chunks, claimed(), count)
    else:
        for chunk in claimed():
            arrays, origin = compute_chunk(layout, chunk)
            count(len(chunk.runs))
            yield chunk, arrays, origin


def _on_cores(
    layout: SweepLayout,
    chunks: Sequence[Chunk],
    claimed: Iterator[Chunk],
    count: Callable[[int], None],
) -> Iterator[tuple[Chunk, Arrays, dict[str, Any]]]:
    """Those of some chunks that are `claimed`, computed with one run on each core at a time, the next chunk begun
    while one is written."""
    ahead: collections.deque[tuple[Chunk, dict[Future[list[Arrays]], list[int]]]] = (
        collections.deque()
    )
    clock, stopped, cores = _Clock(), threading.Event(), machine.num_cores()
    places = {chunk.number: place for place, chunk in enumerate(chunks)}
    programs = collections.deque(layout.programs_by_need(chunks))
    compiling: list[Future[None]] = []
    with ThreadPoolExecutor(cores) as pool:

        def finish() -> tuple[Chunk, Arrays, dict[str, Any]]:
            nonlocal clock
            chunk, futures = ahead[0]
            runs = {}
            for future, numbers in futures.items():
                runs |= zip(numbers, future.result(), strict=True)
                for _ in numbers:
                    count(1)
            ahead.popleft()
            origin, clock = clock.origin(layout, len(runs)), _Clock()
            return chunk, _stack(layout, chunk, runs), origin

        try:
            for chunk in claimed:
                place = places[chunk.number]
                # A program is compiled one chunk ahead of its first run, and at first as many as there
                # are cores, so that none of them has to wait for another's.
                while programs and (len(compiling) < cores or programs[0][0] <= place + 1):
                    compiling.append(pool.submit(_compile_run, layout, programs.popleft()[1]))
                most = min(layout.together, -(-len(chunk.runs) // (2 * cores)))
                futures = {
                    pool.submit(_follow, layout, groups, stopped): list(itertools.chain(*groups))
                    for groups in layout.bundles(chunk.runs, most)
                }
                ahead.append((chunk, futures))
                if len(ahead) > 1:
                    yield finish()
            while ahead:
                yield finish()
        finally:
            stopped.set()
            for future in itertools.chain(compiling, *(futures for _, futures in ahead)):
                future.cancel()


def _on_cluster(
    layout: SweepLayout, chunks: Iterator[Chunk], client: distributed.Client
) -> Iterator[tuple[Chunk, tuple[Arrays, dict[str, Any]]]]:
    """Chunks computed by a cluster: one in each worker's thread, and one more waiting for each, so that
    results do not pile up."""
    from distributed import as_completed

    laid_out = layout._replace(blocks=())  # a chunk knows its own block

    def submit(chunk: Chunk) -> None:
        # Each takes the layout along, since what is left with workers is lost with them.
        future = client.submit(compute_chunk, laid_out, chunk, pure=False)
        busy[future.key] = chunk
        running.add(future)

    running, busy = as_completed(), {}
    threads: Any = client.nthreads()
    for chunk in itertools.islice(chunks, 2 * max(sum(threads.values()), 1)):
        submit(chunk)
    for future in running:
        try:
            chunk, computed = busy.pop(future.key), future.result()
        except Exception as error:
            raise ConnectionError(
                f"the cluster was lost or a worker failed ({type(error).__name__}: "
                f"{' '.join(str(error).split())[:200]}); what is finished is kept in a store"
            ) from error
        for following in itertools.islice(chunks, 1):
            submit(following)
        yield chunk, computed


def compute_chunk(layout: SweepLayout, chunk: Chunk) -> tuple[Arrays, dict[str, Any]]:
    """All runs of one chunk, one after the other in this thread, or in batches where there is an
    accelerator: arrays over the chunk's part of the grid, and where they come from."""
    machine.use_compilation_cache()
    clock = _Clock()
    if jax.default_backend() == "cpu":
        runs = {}
        for groups in layout.bundles(chunk.runs, layout.together):
            runs |= zip(itertools.chain(*groups), _follow(layout, groups), strict=True)
    else:
        runs = _follow_batched(layout, chunk.runs)
    return _stack(layout, chunk, runs), clock.origin(layout, len(runs))


class _Clock:
    """Measures what a chunk costs, from when the clock is made on."""

    def __init__(self) -> None:
        self.begun, self.compiled = time.perf_counter(), trajectories.num_compilations()

    def origin(self, layout: SweepLayout, num_runs: int) -> dict[str, Any]:
        """Provenance of a chunk: where, when and by which versions it was computed, and the cost."""
        return {
            "variables": list(layout.dtypes),
            "runs": num_runs,
            "seconds": time.perf_counter() - self.begun,
            "compilations": trajectories.num_compilations() - self.compiled,
            "device": jax.devices()[0].device_kind,
            **provenance(),
        }


_compiled: set[Any] = set()
_compiling: dict[Any, threading.Lock] = collections.defaultdict(threading.Lock)
_looking_up = threading.Lock()  # two threads must not make two locks for one program


def _follow(
    layout: SweepLayout, groups: Sequence[Sequence[int]], stopped: threading.Event | None = None
) -> list[Arrays]:
    """Runs of the grid, in groups that differ in their seed only, as their arrays; fewer where `stopped` is set
    meanwhile."""
    found = []
    for ready in _prepared(layout, groups):
        if stopped is not None and stopped.is_set():
            break
        _compile(ready[0])
        going_on = itertools.takewhile(lambda _: stopped is None or not stopped.is_set(), ready)
        found += map(_run_arrays, ready, simulation.follow_alike(going_on))
    return found


def _compile(ready: preparation.PreparedRun) -> None:
    """Have the program of a run compiled, unless it is already; others wait meanwhile."""
    program = _program(ready)
    if program not in _compiled:
        with _looking_up:
            lock = _compiling[program]
        with lock:
            if program not in _compiled:
                if machine.make_room_for_programs():
                    _compiled.clear()
                simulation.compile_program(ready)
                _compiled.add(program)


def _compile_run(layout: SweepLayout, run: int) -> None:
    """The same for a run of the grid."""
    _compile(_prepared(layout, [[run]])[0][0])


def _follow_batched(layout: SweepLayout, runs: Sequence[int]) -> dict[int, Arrays]:
    """The arrays of runs of the grid by their numbers, those of one program followed in one batch.

    What is done on the host before and after it waits for the interpreter most of the time, so that threads
    would only be in each other's way.
    """
    batches: dict[Any, list[tuple[list[int], list[preparation.PreparedRun]]]]
    batches, arrays = collections.defaultdict(list), {}
    groups = layout.alike(runs, len(runs))
    for group, ready in zip(groups, _prepared(layout, groups), strict=True):
        batches[_program(ready[0])].append((group, ready))
    for batch in batches.values():
        found = iter(simulation.found_in_batch([run for _, ready in batch for run in ready]))
        for group, ready in batch:
            of_group = list(itertools.islice(found, len(ready)))
            made = simulation.make_trajectories(ready, of_group)
            arrays |= zip(group, map(_run_arrays, ready, made), strict=True)
    return arrays


def _prepared(
    layout: SweepLayout, groups: Sequence[Sequence[int]]
) -> list[list[preparation.PreparedRun]]:
    """Runs of the grid, in groups that differ in their seed only, made ready to be followed in the number of
    columns laid out for them."""
    alike = []
    for runs in groups:
        first, given = layout.grid.run(runs[0])
        configs = layout.grid.from_seeds(first, runs)
        alike.append(preparation.Alike(configs, layout.padded_columns(first), given=given))
    return preparation.prepare_together(alike)


def _program(ready: preparation.PreparedRun) -> Hashable:
    """What decides which compiled program a run is followed by: the structure of what is followed with
    all that is fixed in it, the shapes and types of its arrays, and the precision."""
    leaves, structure = jax.tree.flatten(ready.flow)
    arrays = tuple((np.shape(leaf), np.result_type(leaf)) for leaf in leaves)
    return structure, arrays, ready.config.dtype


def _run_arrays(ready: preparation.PreparedRun, trajectory: trajectories.Trajectory) -> Arrays:
    """The arrays and facts of a followed run, by the names that they have in a sweep."""
    arrays, facts = simulation.run_arrays(ready, trajectory)
    arrays["flow_time"] = arrays.pop("time")
    return arrays | {name: np.asarray(value) for name, value in facts.items()}


def _stack(layout: SweepLayout, chunk: Chunk, runs: Mapping[int, Arrays]) -> Arrays:
    """The runs of a chunk, by their numbers, stacked; entries that a run lacks are filled up."""
    stacked = {}
    for name, dtype in layout.dtypes.items():
        shape = layout.shape(name)
        values = np.full((len(runs), *shape), datasets.filling(dtype), dtype)
        for i, number in enumerate(chunk.runs):
            if (found := runs[number].get(name)) is not None:
                values[(i, *map(slice, found.shape))] = found
        stacked[name] = values
    return stacked
