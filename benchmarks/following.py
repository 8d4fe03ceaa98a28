"""What `ssm.Tracker` costs a training loop of PyTorch, and how much memory a large probe takes."""

# torch comes with the extras `bench` and `torch` alone, and the static checks run without it
# pyright: reportMissingImports=false

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks import timing
from benchmarks.table import Row, milliseconds
from ssm.support import machine

NOTE = """`ssm.Tracker` in a loop of PyTorch: images of 28 x 28 pixels, random, for the time is the same,
momentum 0.9, float32, and a probe of 1000 of them at every tenth step, with a log on disk. `wide` is the
network of PyTorch's own example on MNIST without its dropout, two convolutions to 32 and 64 channels and
a layer of 128 units, whose outputs are the features, in batches of 64. `narrow` is that of the experiment
`mnist`, with two convolutions of stride 2 to 16 and 32 channels, in batches of 128, whose features are the
1568 numbers that its last layer is given: half of the narrow one's `add` are the n d^2 products of their
scatter, the rest is passes over d x d matrices, and logits alone have neither. Each round times ten steps,
the probe's forward pass and `add`, one after the other, and the ratios are medians over rounds. Processor time is of all threads together. The probe's own forward pass
is a row of its own: of it the tracker needs one, whoever makes it. Memory is of a step of a probe of n =
50,000 samples, k = 1000 classes and d = 512 features, float32, in 200 batches: the most that a process of
its own ever held, less what it held after a tiny one; the copy of the features that is kept, 98 MiB, is
part of it."""

EVERY, PROBE, CLASSES = 10, 1000, 10
TARGET_SHARE, TARGET_MEMORY = 0.03, 2**30
Network = Literal["wide", "narrow"]
BATCH: dict[Network, int] = {"wide": 64, "narrow": 128}
PARTS = ("training", "probe", "add", "logits")


def rows(quick: bool, folder: str) -> list[Row]:
    """The rows of the table."""
    found = loop_rows(quick, folder) if importlib.util.find_spec("torch") else []
    n, k, batches = (2000, 50, 8) if quick else (50_000, 1000, 200)
    taken = timing.in_fresh_process(
        "benchmarks.following:measure_memory", folder, cores=1, n=n, k=k, batches=batches
    )
    return [
        *found,
        Row(
            f"memory, one core, of `Tracker` at n = {n:,}, k = {k} in {batches} batches",
            f"{taken / 2**20:.0f} MiB",
            taken / TARGET_MEMORY,
            "1 GiB",
            at_most=1,
        ),
    ]


def loop_rows(quick: bool, folder: str) -> list[Row]:
    """What `Tracker.add` takes beside the steps between two of it."""
    found = []
    for network, cores in (("wide", 1), ("wide", machine.num_cores()), ("narrow", 1)):
        took = timing.in_fresh_process(
            "benchmarks.following:measure_loop",
            folder,
            cores=cores,
            network=network,
            rounds=2 if quick else 15,
            folder=folder,
        )
        processor, wall = took["processor"], took["wall"]
        where = f"{network}, {'one core' if cores == 1 else f'{cores} cores'}"
        steps = f"{EVERY} steps of {where}"
        target = TARGET_SHARE if network == "wide" else None
        found += [
            Row(f"torch: {steps}", milliseconds(processor["training"], "of processor time")),
            Row(
                f"torch: forward pass of the probe, {where}",
                milliseconds(processor["probe"], "of processor time"),
                processor["probe over training"],
                f"{EVERY} steps",
            ),
            Row(
                f"ours: `Tracker.add`, {where}",
                milliseconds(processor["add"], "of processor time"),
                processor["add over training"],
                f"{EVERY} steps",
                at_most=target,
            ),
            Row(
                f"ours: `Tracker.add`, {where}, by the clock",
                milliseconds(wall["add"], ""),
                wall["add over training"],
                f"{EVERY} steps",
                at_most=target,
            ),
            Row(
                f"ours: `Tracker.add` of logits alone, {where}",
                milliseconds(processor["logits"], "of processor time"),
                processor["logits over training"],
                f"{EVERY} steps",
                at_most=TARGET_SHARE,
            ),
        ]
    return found


def measure_loop(network: Network, rounds: int, folder: str) -> dict[str, dict[str, float]]:
    """Medians over rounds of the seconds of ten steps, of the probe's forward pass and of `add` with and without features, and
    of the ratios of the others to the first, by both clocks."""
    import threadpoolctl

    cores = machine.num_cores()
    with threadpoolctl.threadpool_limits(cores, user_api="blas"):
        parts = _loop(network, Path(folder) / f"{network}-{cores}.zarr")
        for part in parts.values():
            part()  # what is made once
        clocks = {"processor": time.process_time, "wall": time.perf_counter}
        seen: dict[str, dict[str, list[float]]] = {c: {p: [] for p in PARTS} for c in clocks}
        for _ in range(rounds):
            for name, part in parts.items():
                begun = {clock: now() for clock, now in clocks.items()}
                part()
                for clock, now in clocks.items():
                    seen[clock][name].append(now() - begun[clock])
    return {clock: _medians(each) for clock, each in seen.items()}


def _medians(seconds: dict[str, list[float]]) -> dict[str, float]:
    found = {name: statistics.median(each) for name, each in seconds.items()}
    for name in PARTS[1:]:
        pairs = zip(seconds[name], seconds["training"], strict=True)
        found[f"{name} over training"] = statistics.median(part / steps for part, steps in pairs)
    return found


def _loop(network: Network, store: Path) -> dict[str, Callable[[], Any]]:
    """The parts of a loop: ten steps, the probe's forward pass, `add` of what that pass has found, and of its logits alone."""
    import torch

    import ssm

    torch.manual_seed(0)
    torch.set_num_threads(machine.num_cores())
    body, head = _layers(network)
    whole = torch.nn.Sequential(body, head)
    optimizer = torch.optim.SGD(whole.parameters(), lr=0.01, momentum=0.9)
    images = torch.rand(4096, 1, 28, 28)
    labels = torch.arange(len(images)) % CLASSES
    tracker, plain = (
        ssm.Tracker(labels[:PROBE], path, on_alarm=lambda alarm: None)
        for path in (store, store.with_name(f"logits-{store.name}"))
    )
    seen: dict[str, Any] = {"step": 0}

    def train() -> None:
        for _ in range(EVERY):
            chosen = torch.randint(0, len(images), (BATCH[network],))
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(whole(images[chosen]), labels[chosen]).backward()
            optimizer.step()

    def probe() -> None:
        with torch.no_grad():
            seen["features"] = body(images[:PROBE])
            seen["logits"] = head(seen["features"])

    def add() -> None:
        seen["step"] += EVERY
        tracker.add(seen["step"], seen["logits"], seen["features"], head.weight)

    def add_logits() -> None:
        plain.add(seen["step"], seen["logits"])

    return dict(zip(PARTS, (train, probe, add, add_logits), strict=True))


def _layers(network: Network) -> tuple[Any, Any]:
    """A network up to its features, and its last layer."""
    from torch import nn

    if network == "narrow":
        first, second = (
            nn.Conv2d(1, 16, 3, stride=2, padding=1),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
        )
        body = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Flatten())
        return body, nn.Linear(32 * 7 * 7, CLASSES)
    convolutions = nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)
    body = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(64 * 12 * 12, 128), nn.ReLU())
    return body, nn.Linear(128, CLASSES)


def measure_memory(n: int, k: int, batches: int, d: int = 512) -> int:
    """Bytes that this process held at once for a step of a probe, beyond those of a tiny one."""
    import threadpoolctl

    from benchmarks.tracking import labels_of

    rng = np.random.default_rng(0)
    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        _follow(np.array([0, 1, 0, 1]), 2, 2, 2, rng)
        before = timing.peak_memory()
        _follow(labels_of(n, k), k, d, batches, rng)
        return timing.peak_memory() - before


def _follow(labels: np.ndarray, k: int, d: int, batches: int, rng: np.random.Generator) -> None:
    """A step of a probe, some samples at a time, and the Dataset of it."""
    import ssm

    tracker = ssm.Tracker(labels, on_alarm=lambda alarm: None)
    with tracker.batches(0, classifier=rng.standard_normal((k, d), np.float32)) as at:
        for rows in np.array_split(np.arange(len(labels)), batches):
            logits = rng.standard_normal((len(rows), k), np.float32)
            at.add(logits, rng.standard_normal((len(rows), d), np.float32))
    tracker.dataset()
