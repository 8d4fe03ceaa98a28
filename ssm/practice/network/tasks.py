"""A data set made ready for training: samples held out, arrays padded so that compiled code is
shared, and what is watched chosen."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from ssm.practice.network import monitors, networks
from ssm.practice.network.networks import Architecture
from ssm.practice.network.runs import Task
from ssm.support.errors import invalid


class Samples(NamedTuple):
    """Features, labels 0 .. k-1, and how often each sample counts."""

    X: Float[np.ndarray, "n f"]
    labels: Int[np.ndarray, " n"]
    sample_weights: Float[np.ndarray, " n"]


def held_out(
    samples: Samples, fraction: float, class_names: Any, seed: int
) -> tuple[Samples, Samples]:
    """Samples to train on, and a stratified fraction of them to evaluate on, at least one a class.

    Raises ssm.InputError where a class has one sample only.
    """
    counts = np.bincount(samples.labels)
    rare = int(counts.argmin())
    if counts[rare] < 2:
        label = class_names[rare]
        raise invalid("y", f"one sample of class {label}", "at least two of each, one is held out")
    held = np.concatenate([_some(samples.labels, c, fraction, seed) for c in range(len(counts))])
    taken = np.zeros(len(samples.labels), bool)
    taken[held] = True
    return Samples(*(x[~taken] for x in samples)), Samples(*(x[taken] for x in samples))


def _some(labels: np.ndarray, c: int, fraction: float, seed: int) -> np.ndarray:
    members = np.random.default_rng((seed, c)).permutation(np.flatnonzero(labels == c))
    return members[: min(max(round(fraction * len(members)), 1), len(members) - 1)]


def make_task(
    train: Samples,
    evaluated: Samples | None,
    class_weights: Float[np.ndarray, " k"],
    architecture: Architecture,
    dtype: Any,
    seed: int,
    rows: int = 0,
) -> Task:
    """The arrays of a run of training; without samples to evaluate those of training are. Arrays of
    training samples have room for `rows` of them at least."""
    k = len(class_weights)
    relative = train.sample_weights / train.sample_weights.mean()
    padded = _padded(train._replace(sample_weights=relative), dtype, architecture, rows)
    shown = padded if evaluated is None else _padded(evaluated, dtype, architecture)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(train.labels))
    members = [order[train.labels[order] == c][: monitors.PER_CLASS] for c in range(k)]
    repeated = np.stack([np.resize(mine, monitors.PER_CLASS) for mine in members])
    counts = np.bincount(train.labels, train.sample_weights, k)
    return Task(
        *padded,
        num_samples=len(train.labels),
        class_counts=counts,
        class_weights=class_weights,
        watched=monitors.Watched(*shown, members=repeated),
        image_shape=architecture.image_shape,
    )


def _padded(samples: Samples, dtype: Any, architecture: Architecture, num_rows: int = 0) -> Samples:
    """Arrays of a size that fits of similar data share, and with it what is compiled: zeros up to
    the next power of two of samples, at least one."""
    n = len(samples.labels)
    rows = max(1 << max(n, num_rows).bit_length(), 512)

    def pad(values: np.ndarray, kind: Any) -> np.ndarray:
        padded = np.zeros(rows, kind)
        padded[:n] = values
        return padded

    X, labels, sample_weights = samples
    features = networks.padded_features(X, rows, architecture, dtype)
    return Samples(features, pad(labels, np.int32), pad(sample_weights, dtype))
