"""A batch of runs that differ in their seed, beside the peers and the bare arithmetic."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

import ssm
from benchmarks import timing
from benchmarks.limits import bare_field, num_evaluations
from benchmarks.peers import by_diffrax, by_scipy, by_torch, matching
from benchmarks.table import Row, milliseconds
from ssm import Config, simulation

NOTE = """A batch of runs under cross-entropy: k = 10, R = 10, n_min = 5, d = 16, rtol 1e-6, all
that `ssm.simulate` returns at 100 times. Error is that of block strengths, the largest over times,
relative to the largest of the curve, from DOP853 at rtol 1e-11; each peer has the loosest tolerance
(quarter decades) at which its error is at most that of this project, to 5%. Peers solve in compiled
or vectorised code with well-written fields and read the same variables off 100 times, learning
times apart. The limit is as many field evaluations as this project used, nothing else, on all
cores."""

BASE = Config(minority_count=5, num_saves=100)
Curves = list[np.ndarray]


@dataclasses.dataclass
class Peer:
    """A peer as it is timed: `work` follows `runs` of the runs."""

    label: str
    work: Callable[[], Any]
    runs: int
    at_least: float | None = None


def run(quick: bool, report: Callable[[float], None]) -> list[Row]:
    """Measure; the rows of the table."""
    num_runs, num_references, repeats = (8, 1, 2) if quick else (64, 4, 5)
    configs = [dataclasses.replace(BASE, seed=seed) for seed in range(num_runs)]
    checked = configs[:num_references]
    references = [by_scipy.reference(config) for config in checked]
    found = ssm.sweep({"seed": range(num_runs)}, BASE)
    own = matching.error(list(found["block_strength"].values[:num_references]), references)
    limit = functools.partial(_bare_arithmetic, configs, found["num_steps"].values)
    report(0.1)
    with matching.one_process_a_core(os.cpu_count() or 1) as pool:
        peers = _peers(configs, checked, references, own, pool, 4 if quick else 20)
        report(0.5)
        works = {
            "ours": lambda: ssm.sweep({"seed": range(num_runs)}, BASE),
            "limit": limit,
            **{peer.label: peer.work for peer in peers},
        }
        took = timing.medians(works, repeats)
    each = {peer.label: took[peer.label] / peer.runs for peer in peers}
    ours = took["ours"] / num_runs
    return [
        Row(
            f"ours: ssm.sweep, {num_runs} seeds, error {own:.1e}",
            milliseconds(ours),
            ours / (took["limit"] / num_runs),
            "limit",
            at_most=2,
        ),
        Row("limit: bare field evaluations, all cores", milliseconds(took["limit"] / num_runs)),
        *(
            Row(
                peer.label,
                milliseconds(each[peer.label]),
                each[peer.label] / ours,
                "ours",
                at_least=peer.at_least,
            )
            for peer in peers
        ),
    ]


def _peers(
    configs: Sequence[Config],
    checked: Sequence[Config],
    references: Curves,
    own: float,
    pool: Any,
    steps: int,
) -> list[Peer]:
    """Every peer at the accuracy of this project."""
    matching.single_threaded()
    peers = []

    def each(name: str, solve: Callable[..., np.ndarray], wanted: float | None) -> None:
        """One run after the other, on one core and on all."""
        rtol, error = matching.match(lambda r: [solve(c, r) for c in checked], references, own)
        at = functools.partial(solve, rtol=rtol)
        said = f"rtol {rtol:.1e}, error {error:.1e}"
        few = configs[: max(len(configs) // 4, 1)]
        peers.append(
            Peer(f"{name}, one core, {said}", lambda: [at(c) for c in few], len(few), wanted)
        )
        peers.append(
            Peer(f"{name}, all cores, {said}", lambda: list(pool.map(at, configs)), len(configs))
        )

    def together(name: str, solve: Callable[..., Curves], wanted: float | None) -> None:
        """All runs in one call."""
        rtol, error = matching.match(lambda r: solve(checked, r), references, own)
        label = f"{name}, rtol {rtol:.1e}, error {error:.1e}"
        peers.append(Peer(label, lambda: solve(configs, rtol), len(configs), wanted))

    each("scipy RK45", by_scipy.rk45, 10)
    each("scipy LSODA", by_scipy.lsoda, None)
    each("torchdiffeq dopri5", by_torch.dopri5, 5)
    together("torchdiffeq dopri5, one batch", by_torch.dopri5_batch, 5)
    together("jax.vmap(diffrax.diffeqsolve)", by_diffrax.batch, 5)
    descend = functools.partial(by_torch.gradient_descent, steps=steps)
    error = matching.error([descend(config) for config in checked], references)
    few = configs[: os.cpu_count()]
    label = f"torch loop of gradient descent, all cores, {99 * steps} steps, error only {error:.1e}"
    peers.append(Peer(label, lambda: list(pool.map(descend, few)), len(few)))
    return peers


def _bare_arithmetic(configs: Sequence[Config], num_steps: np.ndarray) -> None:
    """As many field evaluations as each run took, on all cores."""
    flow = simulation.prepare(configs[0]).flow

    def work(steps: int) -> None:
        with jax.enable_x64(True):
            jax.block_until_ready(
                bare_field(flow.params, flow.field.columns, num_evaluations(steps))
            )

    timing.on_all_cores(work, [int(steps) for steps in num_steps])
