"""A small convolutional network on STEP-imbalanced images of digits: its training and what is kept of it."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float64, Int32
from sklearn.metrics import confusion_matrix

import ssm
from experiments import data, stepping
from experiments.readings import Report, each, shares
from ssm import spectral, weights
from ssm.practice.network import networks
from ssm.practice.network.parameters import Prepared
from ssm.problem import membership

METHODS = {"ERM": 0.0, "weighted CE": 1.0}  # the exponent g of the class weights
AT_ONCE = 32  # steps that one call of the trainer takes at most


@dataclasses.dataclass(frozen=True)
class Config:
    """Every number of a run. A step is one update on one mini-batch.

    The defaults are those of the experiment `digits`, whose learning rate is the largest of 0.0125, 0.025, ..., 0.4 at which ERM's training loss never
    rises by more than 0.05 above its lowest value so far, in any seed; held-out images had no say.
    """

    held_out_per_class: int = 50
    imbalance_ratio: float = 10.0
    minority_classes: tuple[int, ...] = (5, 6, 7, 8, 9)  # the paper does not say which
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)  # each draws its own split, network and batches
    channels: tuple[int, int] = (16, 32)
    batch_size: int = 128  # about 12 minority images a batch
    learning_rate: float = 0.05
    momentum: float = 0.9
    num_steps: int = 1000  # ERM's training loss ends near 0.001
    dense_steps: int = 60  # evaluated at every step up to here, then at ever longer intervals
    num_sparse: int = 40  # evaluations after dense_steps
    max_logged: int = 2000  # training images whose logits are logged; fewer if there are fewer
    confusion_steps: tuple[int, ...] = (10, 20, 40, 100, 1000)

    def evaluation_steps(self) -> Int32[np.ndarray, " t"]:
        """Steps after which the network is evaluated, ascending from 0 to num_steps."""
        sparse = np.geomspace(self.dense_steps, self.num_steps, self.num_sparse + 1).round()
        steps = np.concatenate([np.arange(self.dense_steps), sparse, self.confusion_steps])
        return np.unique(steps).astype(np.int32)


def logged(train: np.ndarray, config: Config) -> np.ndarray:
    """The training images (or labels) whose logits are logged: evenly spaced, so that the imbalance
    stays."""
    return train[:: math.ceil(len(train) / config.max_logged)]


class Outcome(NamedTuple):
    """What is kept of all runs of one method."""

    confusion: np.ndarray
    """Held-out confusion matrices [true, predicted], each row summing to 1, shape (seed, t, k,
    k)."""
    progress: np.ndarray
    """Strength over target of the blocks `spectral.BLOCKS`, from training logits less their offset,
    shape (seed, t, 3)."""
    raw_cross: np.ndarray
    """The cross block's with the offset, shape (seed, t). The other blocks have none of it."""
    learning_time: np.ndarray
    """Steps until each block's strength is half its target, shape (seed, 3), NaN where it stays
    below."""


def without_offset(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Logits (t, n, k) less the mean over classes of their class means, an offset for all images at
    once.

    A network's biases make such an offset, which says nothing of an image; the model has none of it
    at balance.
    """
    members = membership(labels, data.NUM_CLASSES)
    shares = (members / members.sum(0)).mean(1)
    return logits - np.einsum("tnk,n->tk", logits, shares)[:, None]


def mean_logits(
    logits: Float64[np.ndarray, "t n k"], labels: np.ndarray
) -> Float64[np.ndarray, "t k k"]:
    """Of each class, [class, logit]."""
    members = membership(labels, data.NUM_CLASSES)
    return np.einsum("tnk,nc->tck", logits, members / members.sum(axis=0))


def confusions(labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Confusion matrices [true, predicted] over time, rows summing to 1: (m,), (t, m) -> (t, k,
    k)."""
    classes = np.arange(data.NUM_CLASSES)
    return np.stack(
        [confusion_matrix(labels, p, labels=classes, normalize="true") for p in predictions]
    )


def recall(confusion: np.ndarray, config: Config) -> dict[str, np.ndarray]:
    """Mean recall over the classes of each group and over all classes: (..., k, k) -> (...)."""
    by_class = np.diagonal(confusion, axis1=-2, axis2=-1)
    minority = np.isin(np.arange(data.NUM_CLASSES), config.minority_classes)
    return {
        "majority": by_class[..., ~minority].mean(-1),
        "minority": by_class[..., minority].mean(-1),
        "balanced accuracy": by_class.mean(-1),
    }


def outcomes(
    configs: Mapping[str, Config], draw: Callable[[int], data.Split], report: Report
) -> dict[str, Outcome]:
    """Run every seed with every method, whose configs differ in the learning rate at most; of one seed,
    both have the same split, which `draw` makes of it, and the same first network and batches."""
    # one run after another: measured, neither a vmap over seeds nor two threads are faster
    kept: dict[str, list[Outcome]] = {method: [] for method in METHODS}
    seeds = configs[next(iter(METHODS))].seeds
    for seed, method in each(itertools.product(seeds, METHODS), report):
        config, split = configs[method], draw(seed)
        logits, predictions, logged_labels = run_one(config, split, METHODS[method], seed)
        steps = config.evaluation_steps()
        tracked = ssm.track(without_offset(logits, logged_labels), logged_labels, steps)
        raw = shares(ssm.track(logits, logged_labels, steps)).values
        kept[method].append(
            Outcome(
                confusions(split.test_labels, predictions),
                shares(tracked).values,
                raw[:, spectral.BLOCKS.index("cross")],
                tracked["block_learning_time"].values,
            )
        )
    return {name: Outcome(*map(np.stack, zip(*runs, strict=True))) for name, runs in kept.items()}


def drawn(config: Config, images: np.ndarray, labels: np.ndarray, seed: int) -> data.Split:
    """The training and held-out images of one seed."""
    counts = config.held_out_per_class, config.imbalance_ratio
    return data.split(images, labels, *counts, config.minority_classes, seed)


def start(config: Config, split: data.Split, exponent: float, seed: int) -> Prepared:
    """A network before its training under weights of an exponent: two convolutions and a linear
    layer."""
    classifier = ssm.ReweightedClassifier(
        class_weight=functools.partial(weights.power_law, exponent=exponent),
        hidden_layer_sizes=(),
        channels=config.channels,
        image_shape=split.train_images.shape[1:],
        optimizer="momentum",
        learning_rate=config.learning_rate,
        momentum=config.momentum,
        batch_size=config.batch_size,
        evaluate_every=AT_ONCE,
        dtype="float32",
    )
    return stepping.prepared(classifier, rows(split.train_images), split.train_labels, seed)


def rows(images: np.ndarray) -> np.ndarray:
    """Each image's pixels as a row."""
    return images.reshape(len(images), -1)


def features(begun: Prepared, images: np.ndarray) -> np.ndarray:
    """What the last layer of the untrained network sees."""
    X = jnp.asarray(rows(images))
    return np.asarray(networks.last_features(begun.params, X, begun.task.image_shape))


def run_one(
    config: Config, split: data.Split, exponent: float, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Train one network under weights of an exponent: logits of the logged training images (t, n, k),
    float64, predicted classes of the held-out images (t, m), and the labels of the logged ones."""
    labels = logged(split.train_labels, config)
    seen = np.concatenate([logged(split.train_images, config), split.test_images])
    with jax.enable_x64(False):
        begun = start(config, split, exponent, seed)
        said = logits_at(begun, seen, config.evaluation_steps())
    logits, held_out = np.split(said, [len(labels)], axis=1)
    return logits, held_out.argmax(axis=-1), labels


def logits_at(
    begun: Prepared, images: np.ndarray, steps: Int32[np.ndarray, " t"]
) -> Float64[np.ndarray, "t m k"]:
    """What the network says of images (m, h, w) after each of the ascending `steps` of its training."""
    seen, shape = jnp.asarray(rows(images)), begun.task.image_shape
    networks_at = stepping.networks_at(begun, steps.tolist())
    return np.stack(
        [np.asarray(network_logits(params, seen, shape), float) for params in networks_at]
    )


network_logits = jax.jit(
    functools.partial(networks.in_blocks, networks.logits), static_argnames="image_shape"
)
