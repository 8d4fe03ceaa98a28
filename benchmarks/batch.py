"""A batch of runs that differ in their seed, beside the peers and the bare arithmetic."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import ssm
from benchmarks import timing
from benchmarks.peers import by_diffrax, by_scipy, by_torch, matching
from benchmarks.table import Row, milliseconds
from ssm import Config
from ssm.support import machine

NOTE = """A batch of runs under cross-entropy: k = 10, R = 10, n_min = 5, d = 16, rtol 1e-6, all
that `ssm.simulate` returns at 100 times. Error is that of block strengths, the largest over times,
relative to the largest of the curve, from DOP853 at rtol 1e-11; each peer has the loosest tolerance
(quarter decades) at which its error is at most that of this project, to 5%. Peers solve in compiled
or vectorised code with well-written fields and read the same variables off 100 times, learning
times apart, all on the same cores. How near this project is to the machine's limit is in `work`."""

BASE = Config(minority_count=5, num_saves=100)
LARGER = dataclasses.replace(BASE, minority_count=46)
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
    num_references, repeats = (1, 2) if quick else (4, 5)
    with matching.one_process_a_core(machine.num_cores()) as pool:
        rows = _beside_peers(BASE, 8 if quick else 64, num_references, repeats, pool, quick)
        report(0.7)
        if not quick:
            rows += _beside_peers(LARGER, 16, 1, repeats, pool, quick)
    return rows


def _beside_peers(
    base: Config, num_runs: int, num_references: int, repeats: int, pool: Any, quick: bool
) -> list[Row]:
    """Runs of one size: ours, then every peer's; of the larger ones scipy's only."""
    configs = [dataclasses.replace(base, seed=seed) for seed in range(num_runs)]
    checked = configs[:num_references]
    references = [by_scipy.reference(config) for config in checked]
    found = ssm.sweep({"seed": range(num_runs)}, base)
    own = matching.error(list(found["block_strength"].values[:num_references]), references)
    matching.single_threaded()
    scipy = _scipy(configs, checked, references, own, pool, 3 if base is BASE else 2.2)
    peers = [scipy]
    if base is BASE:
        peers += _peers(configs, checked, references, own, pool, 4 if quick else 20)
    works = {
        "ours": lambda: ssm.sweep({"seed": range(num_runs)}, base),
        **{peer.label: peer.work for peer in peers},
    }
    took = timing.medians(works, repeats)
    each = {peer.label: took[peer.label] / peer.runs for peer in peers}
    ours, samples = took["ours"] / num_runs, sum(base.class_counts)
    return [
        Row(
            f"ours: ssm.sweep, n = {samples:,}, {num_runs} seeds, error {own:.1e}",
            milliseconds(ours),
        ),
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


def _scipy(
    configs: Sequence[Config],
    checked: Sequence[Config],
    references: Curves,
    own: float,
    pool: Any,
    at_least: float,
) -> Peer:
    """scipy's pair of the same orders at the accuracy of this project, on all cores."""
    rtol, error = matching.match(lambda r: [by_scipy.rk45(c, r) for c in checked], references, own)
    at = functools.partial(by_scipy.rk45, rtol=rtol)
    label = f"scipy RK45, all cores, rtol {rtol:.1e}, error {error:.1e}"
    return Peer(label, lambda: list(pool.map(at, configs)), len(configs), at_least)


def _peers(
    configs: Sequence[Config],
    checked: Sequence[Config],
    references: Curves,
    own: float,
    pool: Any,
    steps: int,
) -> list[Peer]:
    """The other peers at the accuracy of this project."""
    peers = []

    def each(name: str, solve: Callable[..., np.ndarray]) -> None:
        """One run after the other on each core."""
        rtol, error = matching.match(lambda r: [solve(c, r) for c in checked], references, own)
        at = functools.partial(solve, rtol=rtol)
        label = f"{name}, all cores, rtol {rtol:.1e}, error {error:.1e}"
        peers.append(Peer(label, lambda: list(pool.map(at, configs)), len(configs)))

    def together(name: str, solve: Callable[..., Curves], wanted: float | None) -> None:
        """All runs in one call."""
        rtol, error = matching.match(lambda r: solve(checked, r), references, own)
        label = f"{name}, rtol {rtol:.1e}, error {error:.1e}"
        peers.append(Peer(label, lambda: solve(configs, rtol), len(configs), wanted))

    each("scipy LSODA", by_scipy.lsoda)
    each("torchdiffeq dopri5", by_torch.dopri5)
    together("torchdiffeq dopri5, one batch", by_torch.dopri5_batch, 5)
    together("jax.vmap(diffrax.diffeqsolve)", by_diffrax.batch, 5)
    descend = functools.partial(by_torch.gradient_descent, steps=steps)
    error = matching.error([descend(config) for config in checked], references)
    few = configs[: machine.num_cores()]
    label = f"torch loop of gradient descent, all cores, {99 * steps} steps, error only {error:.1e}"
    peers.append(Peer(label, lambda: list(pool.map(descend, few)), len(few)))
    return peers
