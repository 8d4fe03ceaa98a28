"""Data made ready for training: some samples are held out, arrays are padded so that compiled code is
shared, and the samples to be watched are chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int
from numpy.typing import DTypeLike

from ssm.practice.network import monitors, networks
from ssm.practice.network.networks import Architecture
from ssm.practice.network.runs import Task
from ssm.support.errors import invalid

MOST_WATCHED = 10_000
"""The approximate number of training samples that are evaluated where none are held out."""
FEWEST_OF_CLASS = 100
"""The number of samples of each class that are evaluated at least, or all where it has fewer."""


class Samples(NamedTuple):
    """Samples with their features, their labels 0 .. k-1, and how often each of them counts."""

    X: Float[np.ndarray, "n f"]
    labels: Int[np.ndarray, " n"]
    sample_weights: Float[np.ndarray, " n"]


def held_out(
    samples: Samples, fraction: float, class_names: Sequence[object] | np.ndarray, seed: int
) -> tuple[Samples, Samples]:
    """Split samples into those to train on and those to evaluate on. The latter are a fraction of each
    class, at least one sample of it, and at least one sample of each class is left to train on.

    Raises:
        ssm.InputError: a class with a single sample.
    """
    counts = np.bincount(samples.labels)
    rare = int(counts.argmin())
    if counts[rare] < 2:
        label = class_names[rare]
        raise invalid("y", f"one sample of class {label}", "at least two of each, one is held out")
    indices = [_part_of_class(samples.labels, c, fraction, seed) for c in range(len(counts))]
    is_held_out = np.zeros(len(samples.labels), bool)
    is_held_out[np.concatenate(indices)] = True
    return Samples(*(x[~is_held_out] for x in samples)), Samples(*(x[is_held_out] for x in samples))


def _part_of_class(labels: np.ndarray, c: int, fraction: float, seed: int) -> np.ndarray:
    """Indices of a random fraction of class c."""
    members = np.random.default_rng((seed, c)).permutation(np.flatnonzero(labels == c))
    return members[: min(max(round(fraction * len(members)), 1), len(members) - 1)]


def make_task(
    train: Samples,
    evaluated: Samples | None,
    class_weights: Float[np.ndarray, " k"],
    architecture: Architecture,
    dtype: DTypeLike,
    seed: int,
    rows: int = 0,
) -> Task:
    """The arrays of a training run.

    Args:
        train: the samples to train on.
        evaluated: the samples to evaluate on; None evaluates those of training, or about `MOST_WATCHED` of
            them, drawn at random from each class.
        class_weights: the fixed weights, shape (k,).
        architecture: the network, which decides how features are padded.
        dtype: the type of all real numbers.
        seed: the seed of the choice of the watched samples.
        rows: the least number of training samples for which arrays have room.
    """
    k = len(class_weights)
    counts = np.bincount(train.labels, train.sample_weights, k)
    relative = train.sample_weights / train.sample_weights.mean()
    train = train._replace(sample_weights=relative)
    padded = _padded(train, dtype, architecture, rows)
    order = np.random.default_rng(seed).permutation(len(train.labels))
    if evaluated is None and len(order) > MOST_WATCHED:
        evaluated = _representatives(train, order, k)
    watched = padded if evaluated is None else _padded(evaluated, dtype, architecture)
    # Features on the host would be copied to the device at each call of compiled code.
    features = jax.device_put(padded.X)
    watched_features = features if evaluated is None else jax.device_put(watched.X)
    members = [order[train.labels[order] == c][: monitors.PER_CLASS] for c in range(k)]
    repeated = np.stack([np.resize(indices, monitors.PER_CLASS) for indices in members])
    return Task(
        X=features,
        labels=padded.labels,
        sample_weights=padded.sample_weights,
        num_samples=len(train.labels),
        class_counts=counts,
        class_weights=class_weights,
        watched=monitors.Watched(
            watched_features, watched.labels, watched.sample_weights, members=repeated
        ),
        image_shape=architecture.image_shape,
    )


def _representatives(samples: Samples, order: Int[np.ndarray, " n"], k: int) -> Samples:
    """About `MOST_WATCHED` samples, the first of each class in an order, which stand for all samples of the class: their
    weights are multiplied by the number of samples for which each stands."""
    of_class = [order[samples.labels[order] == c] for c in range(k)]
    share = MOST_WATCHED / len(order)
    few = [mine[: max(math.ceil(share * len(mine)), FEWEST_OF_CLASS)] for mine in of_class]
    chosen = np.concatenate(few)
    times = [len(mine) / len(kept) for mine, kept in zip(of_class, few, strict=True)]
    X, labels, sample_weights = (x[chosen] for x in samples)
    return Samples(X, labels, sample_weights * np.array(times)[labels])


def _padded(
    samples: Samples, dtype: DTypeLike, architecture: Architecture, num_rows: int = 0
) -> Samples:
    """The samples followed by rows of zeros, at least one, up to the next power of two. Fits to data sets of
    similar sizes then have arrays of the same shape and share compiled code."""
    n = len(samples.labels)
    rows = max(1 << max(n, num_rows).bit_length(), 512)

    def pad(values: np.ndarray, kind: DTypeLike) -> np.ndarray:
        padded = np.zeros(rows, kind)
        padded[:n] = values
        return padded

    X, labels, sample_weights = samples
    features = networks.padded_features(X, rows, architecture, dtype)
    return Samples(features, pad(labels, np.int32), pad(sample_weights, dtype))
