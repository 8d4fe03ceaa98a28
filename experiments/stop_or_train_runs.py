"""What the experiment `stop_or_train` trains, measures and asks of the model: networks on imbalanced images of digits
with a validation part of their own, how noisy those images are, and runs of the model that are as noisy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int
from scipy import special

from experiments import data, digits_network
from experiments.digits_network import Config
from experiments.held_out_maps import compared
from experiments.held_out_setting import NEAR, follow, setting
from experiments.readings import Report, each
from ssm.practice import kernels

WEIGHTINGS = {"ERM": 0.0, "inverse square root": 0.5, "inverse frequency": 1.0, "$g^*$": None}
"""Exponents of the class weights; None for the one that the features' coupling at the start predicts."""
CRITERIA: tuple[str, ...] = ("worst-class log loss", "balanced log loss")
MODEL_SEEDS, MODEL_MINORITY = range(300, 303), 5


@dataclasses.dataclass(frozen=True)
class Source:
    """Images of one data set, and how networks are trained on them."""

    images: Float[np.ndarray, "n h w"]
    labels: Int[np.ndarray, " n"]
    majority: int
    """Training images of a majority class; of each class a fifth as many more are its validation part."""
    test: tuple[np.ndarray, np.ndarray] | None
    """Test images and their labels; None to hold out `test_per_class` of the images."""
    test_per_class: int
    ratios: tuple[int, ...]
    """Imbalance ratios R."""
    learning_rate: float
    num_steps: int


class Parts(NamedTuple):
    """Images and labels of one seed: to train on, to choose the stop by, and to test."""

    training: data.Split
    """With no held-out images."""
    validation: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]


def parts(source: Source, ratio: float, config: Config, seed: int) -> Parts:
    """The validation part is as imbalanced as the training images."""
    counts = data.step_counts(source.majority, ratio, config.minority_classes)
    validation = np.maximum(np.rint(counts / 5).astype(int), 1)
    held_out = 0 if source.test is not None else source.test_per_class
    data.check_enough(source.labels, counts + validation, held_out)
    rng = np.random.default_rng(seed)
    both, tested = data.draw(source.labels, held_out, counts + validation, rng)
    is_validation = np.concatenate(
        [np.arange(n + v) >= n for n, v in zip(counts, validation, strict=True)]
    )

    def taken(indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return source.images[indices], source.labels[indices]

    training = data.Split(*taken(both[~is_validation]), *taken(both[:0]))
    return Parts(training, taken(both[is_validation]), source.test or taken(tested))


class Course(NamedTuple):
    """Networks of one weighting over their course, for each seed."""

    balanced_accuracy: Float[np.ndarray, "seeds t"]
    """On the test images."""
    losses: Mapping[str, Float[np.ndarray, "seeds t"]]
    """Each of `CRITERIA` on the validation part."""
    exponent: Float[np.ndarray, " seeds"]
    fitted: Float[np.ndarray, " seeds"]
    """Balanced accuracy on the training images at the end."""

    def stopped(self, criterion: str) -> Float[np.ndarray, " seeds"]:
        """Balanced accuracy where a criterion is least."""
        at = self.losses[criterion].argmin(axis=1)
        return self.balanced_accuracy[np.arange(len(at)), at]

    @property
    def end(self) -> Float[np.ndarray, " seeds"]:
        """Balanced accuracy at the end of training."""
        return self.balanced_accuracy[:, -1]

    def gain(self, criterion: str) -> Float[np.ndarray, " seeds"]:
        """What stopping where a criterion is least gains over training on."""
        return self.stopped(criterion) - self.end

    @property
    def nearly_best(self) -> Int[np.ndarray, " seeds"]:
        """Where each seed's accuracy first is within `NEAR` of its best."""
        best = self.balanced_accuracy.max(axis=1, keepdims=True)
        return (self.balanced_accuracy >= best - NEAR).argmax(axis=1)

    def at(self, places: Int[np.ndarray, " seeds"]) -> Float[np.ndarray, " seeds"]:
        """Balanced accuracy at one evaluation of each seed."""
        return self.balanced_accuracy[np.arange(len(places)), places]


def courses(
    source: Source, ratio: float, config: Config, steps: np.ndarray, report: Report
) -> dict[str, Course]:
    """Networks under every weighting; of one seed all have the same images, start and batches."""
    config = dataclasses.replace(config, learning_rate=source.learning_rate)
    kept: dict[str, list[tuple]] = {name: [] for name in WEIGHTINGS}
    for seed in each(config.seeds, report):
        own = parts(source, ratio, config, seed)
        begun = digits_network.start(config, own.training, 0.0, seed)
        H = digits_network.features(begun, own.training.train_images)
        balancing = kernels.measured_coupling(H, own.training.train_labels).exponent
        for name, exponent in WEIGHTINGS.items():
            exponent = balancing if exponent is None else exponent
            kept[name].append((*_course(config, own, exponent, seed, steps), exponent))
    return {name: _stacked(runs) for name, runs in kept.items()}


def _stacked(runs: list[tuple]) -> Course:
    accuracy, losses, fitted, exponent = map(np.array, zip(*runs, strict=True))
    by_criterion = dict(zip(CRITERIA, losses.swapaxes(0, 1), strict=True))
    return Course(accuracy, by_criterion, exponent, fitted)


def _course(
    config: Config, own: Parts, exponent: float, seed: int, steps: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Balanced accuracy on the test images (t,), the losses of `CRITERIA` on the validation part (2, t),
    and balanced accuracy on the training images at the end."""
    training = own.training
    images = np.concatenate([own.validation[0], own.test[0]])
    with jax.enable_x64(False):
        begun = digits_network.start(config, training, exponent, seed)
        said = digits_network.logits_at(begun, images, steps)
        fitted = digits_network.logits_at(begun, training.train_images, steps[-1:])
    validation, test = np.split(said, [len(own.validation[0])], axis=1)
    losses = -np.take_along_axis(
        special.log_softmax(validation, axis=-1), own.validation[1][None, :, None], axis=-1
    )[..., 0]
    by_class = class_means(losses, own.validation[1])
    return (
        class_means(test.argmax(-1) == own.test[1], own.test[1]).mean(-1),
        np.stack([by_class.max(-1), by_class.mean(-1)]),
        float(
            class_means(fitted.argmax(-1) == training.train_labels, training.train_labels).mean()
        ),
    )


def class_means(
    values: Float[np.ndarray, "t m"], labels: Int[np.ndarray, " m"]
) -> Float[np.ndarray, "t k"]:
    """The mean over the samples of each class."""
    members = labels[:, None] == np.arange(data.NUM_CLASSES)
    return values @ (members / members.sum(axis=0))


class Noise(NamedTuple):
    """How noisy the images of a data set are, as rows of pixels."""

    dimension: float
    """q, of the noise within classes: (tr C)^2 / tr C^2 of its covariance C."""
    signal: float
    """s, half the distance of two class means over the standard deviation of the noise along it, mean over
    pairs."""


def measured_noise(images: Float[np.ndarray, "n h w"], labels: Int[np.ndarray, " n"]) -> Noise:
    """Of all images of a data set, each class counted alike."""
    X = digits_network.rows(images).astype(np.float64)
    means = class_means(X.T, labels).T
    within = [np.cov(X[labels == c].T) for c in range(data.NUM_CLASSES)]
    C = np.mean(within, axis=0)
    first, second = np.triu_indices(data.NUM_CLASSES, k=1)
    apart = means[first] - means[second]
    lengths = np.linalg.norm(apart, axis=1)
    along = np.sqrt(np.einsum("ij,jk,ik->i", apart, C, apart)) / lengths
    return Noise(float(np.trace(C) ** 2 / (C**2).sum()), float((lengths / 2 / along).mean()))


def model_gain(ratio: float, signal: float) -> Float[np.ndarray, " seeds"]:
    """What stopping early gains in the model with g = 1: its best held-out accuracy at margins below 5 over
    that at 100, as in `held_out_maps`, with as many dimensions of noise as samples."""
    own = follow(setting(ratio, 1, signal, MODEL_MINORITY), (0.0, 1.0), MODEL_SEEDS)
    return compared(own[0.0], own[1.0]).early_over_late
