"""Steps a second of gradient descent over a batch of runs, beside the same loop in torch and in JAX
stepped from Python, and beside the arithmetic itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import ssm
from benchmarks import timing
from benchmarks.limits import bare_field
from benchmarks.peers import by_optax, by_torch
from benchmarks.table import Row
from ssm import Config, preparation, simulation

NOTE = """Gradient descent under cross-entropy, k = 10, d = 16, n = 275, float64, runs that differ in
their seed. Ours are observed at 100 steps and watched at every one; peers do nothing but step.
Every peer ends at the W of ours to 1e-9, or the benchmark stops. The limit is one field evaluation
a step and nothing else, on all cores, in the compiled code that ours uses too."""


def run(quick: bool, report: Callable[[float], None]) -> list[Row]:
    """Measure; the rows of the table."""
    num_runs, steps, repeats = (4, 120, 2) if quick else (64, 1000, 5)
    base = Config(
        minority_count=5, optimizer="gd", num_steps=steps, num_saves=100, learning_rate=1.0
    )
    configs = [dataclasses.replace(base, seed=seed) for seed in range(num_runs)]
    runs = [preparation.prepare(config) for config in configs]
    kept = ssm.simulate(dataclasses.replace(base, save_state=True)).W.values[-1]
    peers: dict[str, Callable[[], Any]] = {
        "torch, eager, one batch": lambda: by_torch.descent_batch(configs, compiled=False),
        "torch.compile, one batch": lambda: by_torch.descent_batch(configs, compiled=True),
        "jitted vmapped optax step, one batch": lambda: by_optax.descent_batch(configs),
        "jitted optax step, one run at a time": lambda: by_optax.descents(configs),
    }
    for name, work in peers.items():
        error = np.abs(work()[0] - kept).max()
        if not error < 1e-9:
            raise AssertionError(f"{name} ends {error:.1e} from ours")
    report(0.3)

    def bare(run: preparation.PreparedRun) -> None:
        with jax.enable_x64(True):
            jax.block_until_ready(bare_field(run.flow.params, run.flow.field.columns, steps))

    works = {
        "ours": lambda: timing.on_all_cores(simulation.follow, runs),
        "sweep": lambda: ssm.sweep({"seed": range(num_runs)}, base),
        "limit": lambda: timing.on_all_cores(bare, runs),
        **peers,
    }
    took = timing.medians(works, repeats)
    total, targets = num_runs * steps, {"torch.compile, one batch": 1.05}

    def rate(name: str) -> str:
        return f"{total / took[name]:.3g} steps/s"

    ours = f"ours: descend, {num_runs} runs of {steps} steps"
    return [
        Row(ours, rate("ours"), took["ours"] / took["limit"], "limit", at_most=1.7),
        Row(
            "ours: ssm.sweep, all host work", rate("sweep"), took["sweep"] / took["limit"], "limit"
        ),
        Row("limit: bare field evaluations, all cores", rate("limit")),
        *(
            Row(name, rate(name), took[name] / took["ours"], "ours", at_least=targets.get(name))
            for name in peers
        ),
    ]
