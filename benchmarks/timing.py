"""Medians, all cores, fresh processes, and how much memory a process has used."""

from __future__ import annotations

import importlib
import json
import os
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ssm.support import machine

ROOT = Path(__file__).parents[1]


def medians(
    works: Mapping[str, Callable[[], Any]],
    repeats: int,
    measure: Callable[[Callable[[], Any]], float] | None = None,
) -> dict[str, float]:
    """Median of what `measure` says of each work, `seconds` when left out, after one run of it that is
    not measured.

    Each round runs every work once, so that what changes on the machine meets all of them alike.
    """
    for work in works.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            times[name].append((measure or seconds)(work))
    return {name: statistics.median(each) for name, each in times.items()}


def seconds(work: Callable[[], Any]) -> float:
    """How long one call takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def processor_seconds(work: Callable[[], Any]) -> float:
    """How long the cores are busy with one call, added up: what others do meanwhile does not count."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def on_all_cores(work: Callable[[Any], Any], items: Sequence[Any]) -> None:
    """Call `work` on every item, one thread a core, for work that lets go of the interpreter."""
    cores = machine.num_cores()

    def share(core: int) -> None:
        for item in items[core::cores]:
            work(item)

    threads = [threading.Thread(target=share, args=(core,)) for core in range(cores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def copy_bandwidth(repeats: int, size: int = 2**28) -> float:
    """Bytes read and written a second when every core copies its part of an array of `size`
    bytes."""
    import numpy as np

    cores = machine.num_cores()
    source = np.ones(size // 8)
    target = np.empty_like(source)
    parts = list(zip(np.array_split(source, cores), np.array_split(target, cores), strict=True))
    took = medians(
        {"copy": lambda: on_all_cores(lambda part: np.copyto(part[1], part[0]), parts)}, repeats
    )
    return 2 * size / took["copy"]


def peak_memory() -> int:
    """The most bytes of memory this process has held at once.

    Linux's own mark where there is one: the one of `getrusage` begins at that of the parent.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def in_fresh_process(
    function: str,
    cache: str | Path,
    cores: int | None = None,
    environment: Mapping[str, str] | None = None,
    longest: float | None = None,
    **arguments: Any,
) -> Any:
    """What `module:function` returns for these arguments, in a process of its own, both as JSON.

    Args:
        cache: folder of that process's compilation cache.
        cores: how many of this process's cores it may use; all where it is left out.
        environment: what its environment has beside this process's.
        longest: seconds after which it is ended, with a `subprocess.TimeoutExpired`.
    """
    added = {"JAX_COMPILATION_CACHE_DIR": str(cache)} | dict(environment or {})
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.timing"),
            *(function, json.dumps(arguments), str(cores or machine.num_cores())),
        ],
        env=os.environ | added,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=longest,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{function} failed in its own process:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def _answer(function: str, arguments: str, cores: str) -> None:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(cores)])
    module, _, name = function.partition(":")
    print(json.dumps(getattr(importlib.import_module(module), name)(**json.loads(arguments))))


if __name__ == "__main__":
    _answer(*sys.argv[1:])
