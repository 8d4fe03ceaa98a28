"""Whole sweeps in fresh processes: cold, and of very many small runs."""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import timing
from benchmarks.table import Row
from ssm.support import machine

COLD_NOTE = """10 ratios (1 to 100) x 5 exponents (0 to 1) x 10 seeds, n_min = 5, d = 16, 100 times,
in a fresh process with an empty cache: the whole `ssm.sweep`, compilation included; and again in another
process, which finds on disk what the first has compiled. scipy solves one
seed of each ratio and exponent, one process a core, and its time is scaled up to all seeds; its
tolerance is the one matched to this project's accuracy at R = 10 (cross-entropy), or this project's
own (squared, whose starts are drawn in other coordinates, so that curves cannot be compared)."""
MANY_NOTE = """Small runs (coupling 1, k = 4, d = 6, 100 times) in one sweep that streams to a store.
Memory is the most that the process ever held, the libraries included. One sweep."""


def run_cold(quick: bool, report: Callable[[float], None]) -> list[Row]:
    """The cold grid for each loss; the rows of the table."""
    from benchmarks.peers import by_scipy, matching
    from ssm import Config

    ratios, exponents, num_seeds, repeats = (3, 2, 2, 2) if quick else (10, 5, 10, 5)
    axes = {
        "imbalance_ratio": np.geomspace(1, 100, ratios).tolist(),
        "weight_exponent": np.linspace(0, 1, exponents).tolist(),
    }
    rows = []
    with matching.one_process_a_core(machine.num_cores()) as pool:
        for i, loss in enumerate(("squared", "cross_entropy")):
            rounds = [_sweep_cold_and_warm(axes, num_seeds, loss) for _ in range(repeats)]
            report((i + 0.5) / 2)
            ours, warm = (
                statistics.median(one["seconds"] for one in each)
                for each in zip(*rounds, strict=True)
            )
            compilations = rounds[0][0]["compilations"]
            base = Config(loss=loss, num_saves=100, minority_count=5)
            rtol = _matched_tolerance(base)
            cells = [
                dataclasses.replace(base, imbalance_ratio=ratio, weight_exponent=exponent)
                for ratio in axes["imbalance_ratio"]
                for exponent in axes["weight_exponent"]
            ]
            solve = _At(by_scipy.rk45, rtol)
            took = timing.medians({"": lambda s=solve, c=cells: list(pool.map(s, c))}, repeats)
            scipy = took[""] * num_seeds
            name, runs = loss.replace("_", "-"), len(cells) * num_seeds
            rows += [
                Row(
                    f"compilations, {name}, {runs} runs",
                    f"{compilations}",
                    compilations,
                    "one",
                    at_most=3,
                ),
                Row(f"time, {name}, all cores", f"{ours:.3g} s"),
                Row(f"time, {name}, all cores, again", f"{warm:.3g} s"),
                Row(
                    f"scipy RK45, {name}, all cores, rtol {rtol:.1e}, from {len(cells)} of {runs}",
                    f"{scipy:.3g} s",
                    scipy / ours,
                    "ours",
                    at_least=1.5,
                ),
                Row("the same", f"{scipy:.3g} s", scipy / warm, "ours again", at_least=2.2),
            ]
            report((i + 1) / 2)
    return rows


@dataclasses.dataclass(frozen=True)
class _At:
    """A peer at one tolerance, fit to be sent to another process."""

    solve: Callable[..., np.ndarray]
    rtol: float

    def __call__(self, config: Any) -> np.ndarray:
        return self.solve(config, self.rtol)


def _matched_tolerance(base: Any) -> float:
    """The tolerance at which scipy is as accurate as this project, on one run with samples as
    columns."""
    import ssm
    from benchmarks.peers import by_scipy, matching

    if base.loss == "squared":  # its start is drawn in coordinates; tolerances act alike
        return base.rtol
    references = [by_scipy.reference(base)]
    own = matching.error([ssm.simulate(base)["block_strength"].values], references)
    return matching.match(lambda rtol: [by_scipy.rk45(base, rtol)], references, own)[0]


def _sweep_cold_and_warm(
    axes: dict[str, list[float]], num_seeds: int, loss: str
) -> list[dict[str, Any]]:
    """What `measure` says in two processes that share a cache, which the first finds empty."""
    with tempfile.TemporaryDirectory() as cache:
        return [
            timing.in_fresh_process(
                "benchmarks.sweeps:measure",
                cache,
                axes=axes | {"seed": list(range(num_seeds))},
                base={"loss": loss, "num_saves": 100, "minority_count": 5},
            )
            for _ in range(2)
        ]


def run_many(quick: bool, report: Callable[[float], None]) -> list[Row]:
    """Very many small runs; the rows of the table."""
    num_runs, repeats = (500, 1) if quick else (20_000, 1)
    found = []
    for i in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            found.append(
                timing.in_fresh_process(
                    "benchmarks.sweeps:measure",
                    Path(folder) / "cache",
                    axes={
                        "imbalance_ratio": np.geomspace(1, 1000, 10).tolist(),
                        "seed": list(range(num_runs // 10)),
                    },
                    base={"coupling": 1, "num_classes": 4, "feature_dim": 6, "num_saves": 100},
                    store=str(Path(folder) / "many.zarr"),
                )
            )
        report((i + 1) / repeats)
    rate = statistics.median(num_runs / one["seconds"] for one in found)
    memory = max(one["memory"] for one in found)
    return [
        Row(f"{num_runs:,} runs", f"{rate:.0f} runs a second"),
        Row.of_memory(memory, 2**31),
    ]


def measure(
    axes: dict[str, list[Any]], base: dict[str, Any], store: str | None = None
) -> dict[str, Any]:
    """One sweep in this process: its time, compilations, and memory."""
    import ssm
    from ssm.dynamics import trajectories

    seconds = timing.seconds(lambda: ssm.sweep(axes, ssm.Config(**base), store=store))
    return {
        "seconds": seconds,
        "compilations": trajectories.num_compilations(),
        "memory": timing.peak_memory(),
    }
