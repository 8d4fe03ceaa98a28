"""One large run under cross-entropy, every sample with features of its own."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from typing import Any

from benchmarks import timing
from benchmarks.table import Row

NOTE = """One `ssm.simulate` under cross-entropy with free features, k = 10, R = 10, d = 64,
float64, 20 saves, in a process of its own. The arithmetic limit is as many field evaluations as the
run used, on all columns at once or 1024 at a time, whichever is faster. The bandwidth limit is the
bytes of a run that puts nothing but its state and the slopes of its stages into memory (a stage
reads the state and the slopes it weighs and writes one), at the rate of a copy on all cores. Memory
is the most that the process ever held, less what it held after a tiny run, in copies of H."""

DIM = 64
BLOCK = 1024


def run(quick: bool, report: Callable[[float], None]) -> list[Row]:
    """Measure; the rows of the table."""
    sizes: dict[str, Any] = {"minority_count": 200 if quick else 2000, "repeats": 2 if quick else 5}
    with tempfile.TemporaryDirectory() as cache:
        found = timing.in_fresh_process("benchmarks.large:measure", cache, **sizes)
    report(1.0)
    slower = max(("arithmetic", "bandwidth"), key=lambda name: found[name])
    took = found["seconds"]
    return [
        Row(
            f"ours: n = {found['samples']:,}, {found['num_steps']} steps",
            f"{took:.3g} s",
            took / found[slower],
            f"{slower} limit",
            at_most=2.5,
        ),
        Row("limit: bare field evaluations", f"{found['arithmetic']:.3g} s"),
        Row(
            f"limit: bytes at {found['bytes_a_second'] / 1e9:.0f} GB/s",
            f"{found['bandwidth']:.3g} s",
        ),
        Row(
            "memory of the run",
            f"{found['memory'] / 2**20:.0f} MiB",
            found["memory"] / found["copy"],
            "one copy of H",
            at_most=12,
        ),
    ]


def measure(minority_count: int, repeats: int) -> dict[str, Any]:
    """Time, limits and memory of one run, in this process."""
    import jax

    import ssm
    from benchmarks.limits import (
        bare_field,
        bare_field_in_blocks,
        copies_moved,
        num_evaluations,
    )
    from ssm import preparation

    config = ssm.Config(minority_count=minority_count, feature_dim=DIM, num_saves=20)
    ssm.simulate(ssm.Config(minority_count=1, feature_dim=DIM, num_saves=20))
    before = timing.peak_memory()
    dataset = ssm.simulate(config)
    memory = timing.peak_memory() - before
    seconds = [timing.seconds(lambda: ssm.simulate(config)) for _ in range(repeats)]
    steps, samples = int(dataset.attrs["num_steps"]), sum(config.class_counts)
    with jax.enable_x64(True):
        flow = jax.tree.map(jax.numpy.asarray, preparation.prepare(config).flow)
        evaluations = max(num_evaluations(steps) // 10, 1)
        asked = flow.params, flow.field.columns, evaluations
        bare = timing.medians(
            {
                "whole": lambda: jax.block_until_ready(bare_field(*asked)),
                "blocks": lambda: jax.block_until_ready(bare_field_in_blocks(*asked, BLOCK)),
            },
            repeats,
        )
    bytes_a_second = timing.copy_bandwidth(max(repeats, 5))
    copy = 8 * DIM * samples
    return {
        "samples": samples,
        "num_steps": steps,
        "seconds": statistics.median(seconds),
        "arithmetic": min(bare.values()) / evaluations * num_evaluations(steps),
        "bytes_a_second": bytes_a_second,
        "bandwidth": copies_moved(steps, config.num_saves) * copy / bytes_a_second,
        "memory": memory,
        "copy": copy,
    }
