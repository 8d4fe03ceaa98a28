"""Logits logged from a network, followed by `ssm.track`, and a network followed by `ssm.Tracker` while it is trained."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import following, timing
from benchmarks.table import Row, milliseconds
from ssm.support import machine

NOTE = f"""`ssm.track` of logits of n = 10,000 samples and k = 100 classes at 20 times, float64 in a
memory-mapped file, whose columns sum to zero, so that one singular value is 0. Seconds are processor
time, of all threads together; one core is one thread of BLAS. The plain route is NumPy's singular
value decomposition of each time and nothing else; the limit is the product Z Z^T of each time, which
only has half the digits of small singular values. Memory is the most that a process of its own ever
held, less what it held after a tiny log: the block of the log that is read is part of it.

{following.NOTE}"""

TARGET_SECONDS, TARGET_MEMORY = 0.05, 256 * 2**20


def run(quick: bool, report: Callable[[float], None]) -> list[Row]:
    """Measure; the rows of the table."""
    (times, n, k), repeats = ((4, 2000, 20), 2) if quick else ((20, 10_000, 100), 5)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.npy"
        write_log(path, times, n, k)

        def measured(function: str, **arguments: Any) -> Any:
            return timing.in_fresh_process(
                f"benchmarks.tracking:{function}", folder, path=str(path), **arguments
            )

        memory = measured("measure_memory")
        report(0.1)
        one = measured("measure_seconds", threads=1, repeats=repeats)
        report(0.3)
        every = measured("measure_seconds", threads=machine.num_cores(), repeats=repeats)
        report(0.5)
        of_networks = following.rows(quick, folder)
    return [
        Row(
            f"ours: n = {n:,}, k = {k}, {times} times, one core",
            milliseconds(one["ours"] / times, "a time"),
            one["ours"] / times / TARGET_SECONDS,
            f"{TARGET_SECONDS:g} s",
            at_most=1,
        ),
        *(
            Row(what, milliseconds(took[name] / times, "a time"), took[name] / took["ours"], to)
            for name, what, took, to in (
                ("plain", "plain: numpy.linalg.svd, one core", one, "ours"),
                ("limit", "limit: one product Z Z^T, one core", one, "ours"),
            )
        ),
        Row("ours, all cores", milliseconds(every["ours"] / times, "a time")),
        Row(
            "plain: numpy.linalg.svd, all cores",
            milliseconds(every["plain"] / times, "a time"),
            every["plain"] / every["ours"],
            "ours, all cores",
        ),
        Row(
            f"memory, one core, of a log of {8 * times * n * k / 2**20:.0f} MiB",
            f"{memory / 2**20:.0f} MiB",
            memory / TARGET_MEMORY,
            "256 MiB",
            at_most=1,
        ),
        *of_networks,
    ]


def labels_of(n: int, k: int) -> np.ndarray:
    """Labels of a long tail: the largest class has some 2 sqrt(k) times as many samples as the
    smallest."""
    return (k * ((np.arange(n) + 0.5) / n) ** 2).astype(int)


def write_log(path: Path, times: int, n: int, k: int) -> None:
    """Logits that come to their targets in noise, of columns that sum to zero."""
    generator = np.random.default_rng(0)
    log = np.lib.format.open_memmap(path, "w+", np.float64, (times, n, k))
    targets = np.eye(k)[labels_of(n, k)]
    for i in range(times):
        now = 3 * i / times * targets + 0.3 * generator.normal(size=(n, k))
        log[i] = now - now.mean(axis=1, keepdims=True)
    log.flush()


def measure_seconds(path: str, threads: int, repeats: int) -> dict[str, float]:
    """Processor time of the whole log by each route, in this process."""
    import threadpoolctl

    import ssm

    log = np.load(path, mmap_mode="r")
    labels = labels_of(*log.shape[1:])
    works = {
        "ours": lambda: ssm.track(log, labels),
        "plain": lambda: [np.linalg.svd(now.T, compute_uv=False) for now in log],
        "limit": lambda: [now.T @ now for now in log],
    }
    with threadpoolctl.threadpool_limits(threads, user_api="blas"):
        return timing.medians(works, repeats, timing.processor_seconds)


def measure_memory(path: str) -> int:
    """Bytes that this process held at once for the log, beyond those of a tiny one."""
    import threadpoolctl

    import ssm

    log = np.load(path, mmap_mode="r")
    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        ssm.track(np.zeros((1, 2, 2)), [0, 1])
        before = timing.peak_memory()
        ssm.track(log, labels_of(*log.shape[1:]))
        return timing.peak_memory() - before
