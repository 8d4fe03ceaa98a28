"""The terminal phase: how long it takes to come close to SELI, by the loss's clock and by gradient
descent."""

from __future__ import annotations

import dataclasses
import functools
import statistics
import tempfile
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

import ssm
from benchmarks import timing
from benchmarks.peers import by_torch, matching
from benchmarks.peers.numpy_model import seli_distance
from benchmarks.table import Row
from ssm import Config
from ssm.results import reached

NOTE = """One run under cross-entropy with free features, unweighted, until its distance to SELI,
the largest of those of W, H and Z, is at most so large: k = 10, R = 10, n_min = 5, d = 20, Gaussian
start of 1e-3. Ours is `ssm.simulate` by clock=loss at rtol 1e-4, with the least stop_margin (to 2%)
that leads there; its time includes all observables, the geometry and the states at 100 times. Cold
is in a fresh process with an empty cache, compilation included and imports not. The peer has the
same start and trains as the field's code does: full batch, mean loss, step 0.1, momentum 0.9, 6000
epochs, in plain torch, on one core, and observes nothing. It is judged 60 times on its way; where it
does not arrive, all its epochs are timed, and the ratio is a lower bound. An epoch is step / (1 -
momentum) = 1 of flow time, so a flow time is also about how many epochs the peer would have to make.
Both are also compared where the peer ended. All distances are of the dense Gram matrices (n x n, n =
275) and the SVD of the whole label matrix, in NumPy."""

DISTANCES = (1e-2, 1e-3)
BASE: dict[str, Any] = {
    "clock": "loss",
    "geometry": True,
    "save_state": True,
    "minority_count": 5,
    "feature_dim": 20,
    "num_saves": 100,
    "rtol": 1e-4,
}
EPOCHS = 6000
FARTHEST = 1e4
"""A margin at which every distance asked for lies behind."""


class Arrival(NamedTuple):
    """Where a run of this project ended, at most at the distance asked for."""

    config: Config
    distance: float
    apart: float
    """How far its own figure is from that of dense matrices."""
    num_steps: int
    log10_time: float
    """Of flow time."""

    @property
    def said(self) -> str:
        """In words."""
        return (
            f"margin {self.config.stop_margin:.3g}, {self.num_steps} steps, "
            f"distance {self.distance:.1e}, flow time {_power(self.log10_time)}"
        )


def run(quick: bool, report: Callable[[float], None]) -> list[Row]:
    """Measure; the rows of the table, a smoke run's without a cold one, which is slow to compile."""
    distances, epochs, repeats = (
        (DISTANCES[:1], EPOCHS // 4, 2) if quick else (DISTANCES, EPOCHS, 5)
    )
    base = Config(**BASE)
    matching.single_threaded()
    path = [
        (epoch, max(seli_distance(W, H, base.class_counts)))
        for epoch, W, H in by_torch.momentum(base, epochs, epochs // 60)
    ]
    ended = path[-1][1]
    asked = (ended, *distances)
    needed = [next((epoch for epoch, at in path if at <= each), None) for each in asked]
    report(0.1)
    arrivals = _arrivals(base, asked)
    report(0.2)

    works: dict[str, Callable[[], Any]] = {}
    for i, (arrival, epoch) in enumerate(zip(arrivals, needed, strict=True)):
        works[f"ours {i}"] = functools.partial(ssm.simulate, arrival.config)
        works[f"torch {epoch or epochs}"] = functools.partial(_train, base, epoch or epochs)
    took = timing.medians(works, repeats)
    report(0.4)

    rows = []
    for i, (distance, arrival, epoch) in enumerate(zip(asked, arrivals, needed, strict=True)):
        ours, peer = took[f"ours {i}"], took[f"torch {epoch or epochs}"]
        rows.append(Row(f"ours to {distance:.2g}: {arrival.said}", f"{ours:.3g} s"))
        if i > 0 and not quick:
            cold = _cold(repeats, stop_margin=arrival.config.stop_margin)
            rows.append(Row(f"ours to {distance:.2g}, cold", f"{cold:.3g} s", cold / ours, "warm"))
            report(0.4 + 0.6 * i / len(distances))
        rows.append(
            Row(
                f"torch to {distance:.2g}: "
                + (f"{epoch} epochs" if epoch else f"did not reach; ended at {ended:.2g}"),
                f"{peer:.3g} s" if epoch else f"> {peer:.3g} s",
                peer / ours,
                "ours, warm",
                lower_bound=epoch is None,
            )
        )
    apart = max(arrival.apart for arrival in arrivals)
    rows.append(Row("`seli_distance` less that of dense matrices, at most", f"{apart:.1e}"))
    return rows


def measure(stop_margin: float) -> float:
    """Seconds of one run in this process."""
    config = Config(**BASE, stop_margin=stop_margin)
    return timing.seconds(lambda: ssm.simulate(config))


def _cold(repeats: int, **arguments: Any) -> float:
    """Median seconds of the first run of a process that finds no compilation on disk."""
    found = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as cache:
            found.append(timing.in_fresh_process("benchmarks.terminal:measure", cache, **arguments))
    return statistics.median(found)


def _train(base: Config, epochs: int) -> None:
    """All epochs of the peer without a look at its state."""
    list(by_torch.momentum(base, epochs, epochs))


def _arrivals(base: Config, distances: Sequence[float]) -> list[Arrival]:
    """For each distance a run with the least margin to stop at, to 2%, that ends at most so far
    from SELI."""
    whole = _until(base, FARTHEST)
    path = [max(_distances(whole, time)) for time in range(len(whole["time"]))]
    margins = whole["margin"].values
    arrivals = []
    for distance in distances:
        first = int(np.flatnonzero(np.array(path) > distance)[-1]) + 1
        beyond, margin = max(float(margins[first - 1]), 0.1), float(margins[first])
        found = _until(base, margin)
        while margin > 1.02 * beyond:
            between = float(np.sqrt(margin * beyond))
            closer = _until(base, between)
            if max(_distances(closer, -1)) > distance:
                beyond = between
            else:
                margin, found = between, closer
        dense = _distances(found, -1)
        arrivals.append(
            Arrival(
                dataclasses.replace(base, stop_margin=margin),
                float(max(dense)),
                float(np.abs(dense - found["seli_distance"].values[-1]).max()),
                int(found.attrs["num_steps"]),
                float(found["log_time"].values[-1] / np.log(10)),
            )
        )
    return arrivals


def _until(base: Config, margin: float) -> Any:
    """A run until that margin, without the times after it."""
    found = ssm.simulate(dataclasses.replace(base, stop_margin=margin))
    if found.attrs["status"] != "margin reached":
        raise RuntimeError(f"stop_margin={margin:g}: {found.attrs['status']}")
    return reached(found)


def _distances(found: Any, time: int) -> np.ndarray:
    """Of the dense matrices of one state."""
    counts = found["class_count"].values
    return seli_distance(found["W"].values[time], found["H"].values[time], counts)


def _power(log10: float) -> str:
    """A number that may be too large for a float."""
    return f"{10**log10:.3g}" if log10 < 6 else f"1e{log10:.0f}"
