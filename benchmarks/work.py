"""Sweeps of runs that differ in their seed, beside the bare work that they consist of."""

from __future__ import annotations

import functools
import statistics
import tempfile
from collections.abc import Callable
from typing import Any

from benchmarks import timing
from benchmarks.table import Row, milliseconds

NOTE = """`ssm.sweep` over seeds under cross-entropy with free features, k = 10, R = 10, 100 saved times, rtol
1e-6, by number of samples n and of features d, on one core and on all, each in a process of its own. The
work limit is the same work bare, on the same cores: as many field evaluations as the runs used, the
observations at the saved times and their singular values, in compiled calls and nothing else."""

SIZES = ((1, 16, 64), (5, 16, 64), (18, 16, 32), (46, 16, 16), (46, 64, 8))
"""Samples of a minority class, features and runs of each sweep."""
AT_MOST = {1: 2.0}
"""The target of the ratio by samples of a minority class; 1.3 where there is none."""


def run(quick: bool, report: Callable[[float], None]) -> list[Row]:
    """Measure; the rows of the table."""
    sizes = SIZES[:2] if quick else SIZES
    rows, cores = [], {"one core": 1, "all cores": None}
    for i, (name, number) in enumerate(cores.items()):
        with tempfile.TemporaryDirectory() as cache:
            found = timing.in_fresh_process(
                "benchmarks.work:measure", cache, number, sizes=sizes, repeats=2 if quick else 7
            )
        for (minority_count, dim, _), one in zip(sizes, found, strict=True):
            rows.append(
                Row(
                    f"n = {one['samples']:,}, d = {dim}, {name}",
                    milliseconds(one["ours"]),
                    one["ours"] / one["limit"],
                    f"work limit, {milliseconds(one['limit'])}",
                    at_most=AT_MOST.get(minority_count, 1.3),
                )
            )
        report((i + 1) / 2)
    return rows


def measure(sizes: list[tuple[int, int, int]], repeats: int) -> list[dict[str, Any]]:
    """Seconds a run of each sweep and of its work limit, on this process's cores."""
    import ssm
    from benchmarks.limits import bare_work
    from ssm import preparation

    found = []
    for minority_count, dim, num_runs in sizes:
        base = ssm.Config(minority_count=minority_count, feature_dim=dim, num_saves=100)
        sweep = functools.partial(ssm.sweep, {"seed": range(num_runs)}, base)
        steps = int(statistics.mean(sweep()["num_steps"].values.tolist()))
        work = functools.partial(bare_work, preparation.prepare(base).flow)
        works = {
            "ours": sweep,
            "limit": lambda w=work, s=[steps] * num_runs: timing.on_all_cores(w, s),
        }
        took = timing.medians(works, repeats)
        found.append(
            {name: seconds / num_runs for name, seconds in took.items()}
            | {"samples": sum(base.class_counts)}
        )
    return found
