"""Thousands of classes whose sizes fall by Zipf's law: by groups of equal ones, and every class in a run of the whole model."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

import ssm
from benchmarks import timing
from benchmarks.table import Row
from ssm import theory
from ssm.config import profiles
from ssm.theory import many_groups

NOTE = """Class sizes fall as one over the rank and are rounded to octaves. `many_groups.curves` follows cross-entropy for the groups of
equal classes, free features, 40 times over three decades, rtol 1e-6, in a process of its own; seconds are those of its processor time,
and memory is the most it ever held, libraries and all. The dense runs of `ssm.simulate` hold every class: features shared in a class, a spectral
start of scale 0.5, until the two largest octaves are learned under cross-entropy, all cores, compiled. They are held against the same groups (the largest
relative difference of a class's loss at any saved time; rtol 1e-9 of the run), and under the squared loss against the sigmoid of each contrast
of equal classes (relative to its target)."""

NUM_TIMES, LENGTH, SCALE = 40, 40.0, 0.5
TARGET_SECONDS, TARGET_MEMORY = 60.0, 2**30
TARGET_DIFFERENCE = 1e-6


def run(quick: bool, report: Callable[[float], None]) -> list[Row]:
    """Measure; the rows of the table."""
    many, dense = (1000, 60) if quick else (10_000, 1000)
    with tempfile.TemporaryDirectory() as folder:
        groups = timing.in_fresh_process("benchmarks.many_classes:measure", folder, number=many)
        report(0.1)
        runs = {
            loss: timing.in_fresh_process(
                "benchmarks.many_classes:measure_dense", folder, number=dense, loss=loss
            )
            for loss in ("cross_entropy", "squared")
        }
    report(1.0)
    seconds = groups["seconds"]
    rows = [
        Row(
            f"ours: many_groups.curves, {many:,} classes x {NUM_TIMES} times",
            f"{seconds:.3g} s",
            seconds / TARGET_SECONDS,
            f"{TARGET_SECONDS:g} s",
            at_most=1,
        ),
        Row.of_memory(groups["memory"], TARGET_MEMORY),
    ]
    against = {"cross_entropy": "the groups", "squared": "sigmoids"}
    for loss, found in runs.items():
        rows += [
            Row(
                f"ssm.simulate, {dense:,} classes, {loss}",
                f"{found['seconds']:.3g} s, {found['num_steps']} steps",
            ),
            Row(
                f"its difference from {against[loss]}",
                f"{found['difference']:.2g}",
                found["difference"] / TARGET_DIFFERENCE,
                f"{TARGET_DIFFERENCE:g}",
                at_most=1,
            ),
        ]
    return rows


def zipf(number: int, coupling: float = 0.0) -> many_groups.ManyGroups:
    """So many classes in octaves, of whole numbers of samples."""
    counts = profiles.zipf_counts(number, float(number), 5)
    sizes, classes, _ = many_groups.octaves(counts)
    return many_groups.ManyGroups(classes, np.round(sizes), np.ones(len(sizes)), coupling)


def measure(number: int) -> dict[str, Any]:
    """Seconds of processor time and memory of the curves of `number` classes, in this process."""
    groups = zipf(number)
    begun = time.process_time()
    many_groups.curves(groups, np.geomspace(1e2, 1e5, NUM_TIMES), 1e-3, rtol=1e-6)
    return {"seconds": time.process_time() - begun, "memory": timing.peak_memory()}


def measure_dense(number: int, loss: Literal["cross_entropy", "squared"]) -> dict[str, Any]:
    """Seconds of the clock of one run that holds every class, and how far it is from theory."""
    groups = zipf(number, coupling=1.0)
    config = ssm.Config(
        counts=tuple(np.repeat(groups.counts, groups.num_classes).astype(int).tolist()),
        loss=loss,
        init="spectral",
        init_scale=SCALE,
        feature_dim=number - 1,
        coupling=groups.coupling,
        t1=LENGTH,
        num_saves=3,
        rtol=1e-9,
        atol=1e-11,
    )
    ssm.simulate(config)  # compiled
    begun = time.perf_counter()
    found = ssm.simulate(config)
    seconds = time.perf_counter() - begun
    if loss == "squared":
        difference = _from_sigmoids(found)
    else:
        curves = many_groups.curves(groups, found["time"].values, SCALE, rtol=1e-11)
        group = np.repeat(np.arange(len(groups.counts)), groups.num_classes)
        difference = np.abs(found["class_loss"].values / curves.class_loss[:, group] - 1).max()
    steps = int(found.attrs["num_steps"])
    return {"seconds": seconds, "num_steps": steps, "difference": float(difference)}


def _from_sigmoids(run: Any) -> float:
    """How far the contrasts of equal classes in a run are from their sigmoids, as a share of their targets.

    Such a contrast of classes with n_c samples grows at r = n_c / n with features that are shared, and its target is
    s = sqrt(n_c) (`theory.sigmoid`)."""
    counts, targets = run["class_count"].values, run["component_target"].values
    equal = np.isclose(targets[:, None] ** 2, counts, rtol=1e-9).any(axis=1)
    s = targets[equal]
    start = run["strength"].values[0, equal]
    expected = theory.sigmoid(run["time"].values, s**2 / counts.sum(), start, s)
    return float(np.abs(run["strength"].values[:, equal] / s - expected / s).max())
