"""The squared loss with free features, whatever the number of samples."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from typing import Any

from benchmarks import timing
from benchmarks.table import Row, milliseconds

NOTE = """One `ssm.simulate` under the squared loss with free features, k = 10, R = 10, d = 16, by
number of samples n, each n in a process of its own that finds its compilation on disk. Memory is
the most that the process ever held, the libraries included."""

SAMPLES = (10**3, 10**4, 10**5, 10**6, 10**7, 10**9)


def run(quick: bool, report: Callable[[float], None]) -> list[Row]:
    """Measure; the rows of the table."""
    samples, repeats = (SAMPLES[::3], 3) if quick else (SAMPLES, 15)
    found = []
    with tempfile.TemporaryDirectory() as cache:
        for i, n in enumerate((samples[0], *samples)):  # the first of them only compiles
            found.append(
                timing.in_fresh_process(
                    "benchmarks.reduction:measure", cache, minority_count=n // 55, repeats=repeats
                )
            )
            report(i / len(samples))
    first, rows = found[1], []
    for n, one in zip(samples, found[1:], strict=True):
        later = n != samples[0]
        steps = f"{milliseconds(one['seconds'])}, {one['num_steps']} steps"
        rows.append(
            Row(
                f"time, n = {n:.0e}",
                steps,
                one["seconds"] / first["seconds"] if later else None,
                f"n = {samples[0]:.0e}" if later else "",
                at_most=1.3,
            )
        )
        rows.append(
            Row(
                f"memory, n = {n:.0e}",
                f"{one['memory'] / 2**20:.0f} MiB",
                one["memory"] / first["memory"] if later else None,
                f"n = {samples[0]:.0e}" if later else "",
                at_most=1.2,
            )
        )
    return rows


def measure(minority_count: int, repeats: int) -> dict[str, Any]:
    """Median time of a run at one number of samples, and this process's memory."""
    import ssm

    def simulate(seed: int):
        config = ssm.Config(loss="squared", minority_count=minority_count, num_saves=100, seed=seed)
        return ssm.simulate(config)

    dataset = simulate(0)
    times = [timing.seconds(lambda seed=seed: simulate(seed)) for seed in range(1, repeats + 1)]
    return {
        "seconds": statistics.median(times),
        "memory": timing.peak_memory(),
        "num_steps": int(dataset.attrs["num_steps"]),
    }
