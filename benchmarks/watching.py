"""A classifier's log of ten million rows, read and judged by `ssm watch`."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import timing
from benchmarks.table import Row

NOTE = """`ssm watch` of a log of half as many cases as rows: a line with two probabilities for each case, and one that
repeats it with its label two weeks later. 52 weekly windows, from nothing to the page, in a process of its own; seconds are those of the
clock. `again` is the same command once more, with nothing new in the log: it checks every byte that it read before. Memory is the most that
a process ever held, libraries and all."""

ROWS, TARGET_SECONDS, TARGET_MEMORY = 10_000_000, 600, 2**30
WEEKS, LAG, START = 52, 14 * 86400, 1704067200


def run(quick: bool, report: Callable[[float], None]) -> list[Row]:
    """Measure; the rows of the table."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.csv"
        rows = write_log(log, 20_000 if quick else ROWS)
        report(0.4)
        first, again = (
            timing.in_fresh_process("benchmarks.watching:measure", folder, path=str(log))
            for _ in range(2)
        )
    report(1.0)
    seconds, memory = first["seconds"], max(first["memory"], again["memory"])
    scaled = seconds * ROWS / rows
    return [
        Row(
            f"ours: {rows:,} rows",
            f"{seconds:.3g} s",
            scaled / TARGET_SECONDS,
            f"{TARGET_SECONDS} s for {ROWS:,}",
            at_most=1,
        ),
        Row("ours: again", f"{again['seconds']:.3g} s", again["seconds"] / seconds, "ours"),
        Row.of_memory(memory, TARGET_MEMORY),
    ]


def write_log(path: Path, rows: int) -> int:
    """A log of about so many rows, in which nothing changes; the number that it has."""
    rng, a_week, written = np.random.default_rng(0), rows // (2 * WEEKS), 0
    before: list[pd.DataFrame] = []
    for week in range(WEEKS + LAG // (7 * 86400)):
        parts = []
        if week < WEEKS:
            parts.append(_cases(rng, week, a_week))
            before.append(parts[0].assign(label=parts[0]["truth"]))
        if week * 7 * 86400 >= LAG:
            parts.append(before.pop(0))
        lines = pd.concat(parts).sort_values("at", kind="stable").drop(columns=["at", "truth"])
        lines.to_csv(path, index=False, mode="a" if week else "w", header=not week)
        written += len(lines)
    return written


def _cases(rng: np.random.Generator, week: int, number: int) -> pd.DataFrame:
    """The cases of a week, whose second class is rare, with calibrated probabilities."""
    ill = rng.random(number) < 1 / 11
    odds = 0.1 * np.exp(2.6 * (rng.normal(size=number) + 2.6 * ill) - 2.6**2 / 2)
    p = (odds / (1 + odds)).round(6)
    at = np.sort(rng.integers(0, 7 * 86400, number))
    seconds = pd.to_datetime(START + week * 7 * 86400 + at, unit="s")
    return pd.DataFrame(
        {
            "at": at,
            "truth": np.where(ill, "ill", "well"),
            "time": seconds.strftime("%Y-%m-%dT%H:%M:%S"),
            "id": np.arange(number) + week * number,
            "p_ill": p,
            "p_well": (1 - p).round(6),
            "label": "",
        }
    )


def measure(path: str) -> dict[str, Any]:
    """Seconds and memory of one watch, in this process."""
    from ssm.practice.reporting import watch_page
    from ssm.practice.watching import summaries
    from ssm.practice.watching.progress import Settings
    from ssm.practice.watching.watch import Watch

    out = Path(path).parent / "page"
    begin = time.perf_counter()
    watch = Watch(Path(path), out, Settings(), None)
    with watch.kept():
        watch.read()
        watch_page.write_page(summaries.summary(watch), out)
    return {"seconds": time.perf_counter() - begin, "memory": timing.peak_memory()}
