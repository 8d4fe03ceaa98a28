"""A small convolutional network on STEP-imbalanced digits: its training and what is kept of it."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np
import optax
from jaxtyping import Array, Float, Float32, Int, Int32, PRNGKeyArray
from sklearn.metrics import confusion_matrix

import ssm
from experiments import data
from experiments.readings import Report, each, shares
from ssm import spectral, weights
from ssm.problem import membership

METHODS = {"ERM": 0.0, "weighted CE": 1.0}  # the exponent g of the class weights


@dataclasses.dataclass(frozen=True)
class Config:
    """Every number of the experiment. A step is one update on one mini-batch.

    The learning rate is the largest of 0.0125, 0.025, ..., 0.4 at which ERM's training loss never
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


class Network(eqx.Module):
    """Two 3 x 3 convolutions of stride 2 with ReLU and a linear layer: image (1, h, w) -> logits
    (k,)."""

    convolutions: tuple[eqx.nn.Conv2d, eqx.nn.Conv2d]
    linear: eqx.nn.Linear

    def __init__(self, key: PRNGKeyArray, image_shape: tuple[int, ...], channels: tuple[int, int]):
        keys = jax.random.split(key, 3)
        convolution = functools.partial(
            eqx.nn.Conv2d, kernel_size=3, stride=2, padding=1, dtype=np.float32
        )
        self.convolutions = (
            convolution(image_shape[0], channels[0], key=keys[0]),
            convolution(channels[0], channels[1], key=keys[1]),
        )
        features = channels[1] * math.prod(math.ceil(side / 4) for side in image_shape[1:])
        self.linear = eqx.nn.Linear(features, data.NUM_CLASSES, dtype=np.float32, key=keys[2])

    def __call__(self, image: Float[Array, "1 h w"]) -> Float[Array, " k"]:
        """The logits of one image."""
        for convolution in self.convolutions:
            image = jax.nn.relu(convolution(image))
        return self.linear(image.ravel())


def weighted_loss(
    network: Network,
    images: Float[Array, "b 1 h w"],
    labels: Int[Array, " b"],
    class_weights: Float[Array, " k"],
) -> Float[Array, ""]:
    """(1/b) sum_i w_{y_i} CE(f(x_i), y_i)."""
    losses = optax.softmax_cross_entropy_with_integer_labels(jax.vmap(network)(images), labels)
    return (class_weights[labels] * losses).mean()


def logged(train: np.ndarray, config: Config) -> np.ndarray:
    """The training images (or labels) whose logits are logged: evenly spaced, so that the imbalance
    stays."""
    return train[:: math.ceil(len(train) / config.max_logged)]


@functools.partial(jax.jit, static_argnames="config")
def train(
    config: Config,
    key: PRNGKeyArray,
    split: data.Split,
    order: Int32[Array, "steps b"],
    class_weights: Float32[Array, " k"],
) -> tuple[Float32[Array, "t n k"], Int32[Array, "t m"]]:
    """Train one network by SGD with momentum; everything but `config` is an array, so all runs
    share one compilation.

    Returns the logits of the logged training images and the predicted classes of the held-out
    images, at each evaluation step.
    """
    optimizer = optax.sgd(config.learning_rate, config.momentum)
    images = logged(split.train_images, config)

    def step(i, state):
        network, momenta = state
        batch = order[i]
        gradient = jax.grad(weighted_loss)(
            network, split.train_images[batch], split.train_labels[batch], class_weights
        )
        updates, momenta = optimizer.update(gradient, momenta)
        return eqx.apply_updates(network, updates), momenta

    def advance(state, interval):
        state = jax.lax.fori_loop(interval[0], interval[1], step, state)
        predict = jax.vmap(state[0])
        return state, (predict(images), predict(split.test_images).argmax(-1))

    network = Network(key, split.train_images.shape[1:], config.channels)
    steps = config.evaluation_steps()
    intervals = np.stack([np.append(0, steps[:-1]), steps], axis=1)
    momenta = optimizer.init(eqx.filter(network, eqx.is_array))
    return jax.lax.scan(advance, (network, momenta), intervals)[1]


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
    config: Config, images: np.ndarray, labels: np.ndarray, report: Report
) -> dict[str, Outcome]:
    """Run every seed with every method; of one seed, both have the same split, first network and
    batches."""
    # one run after another: measured, neither a vmap over seeds nor two threads are faster
    kept: dict[str, list[Outcome]] = {method: [] for method in METHODS}
    for seed, method in each(itertools.product(config.seeds, METHODS), report):
        split = drawn(config, images, labels, seed)
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


def run_one(
    config: Config, split: data.Split, exponent: float, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Train one network under weights of an exponent: logits of the logged training images (t, n, k),
    float64, predicted classes of the held-out images (t, m), and the labels of the logged ones."""
    order = data.batches(len(split.train_labels), config.batch_size, config.num_steps, seed)
    class_weights = weights.power_law(np.bincount(split.train_labels), exponent)
    logits, predictions = train(
        config, jax.random.key(seed), split, order, class_weights.astype(np.float32)
    )
    return np.asarray(logits, float), np.asarray(predictions), logged(split.train_labels, config)
