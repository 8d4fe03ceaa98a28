"""Stop or train on? Class weights on real images over the whole course, stopped by a validation part or trained to the end.

The convolutional network of the experiment `digits` on MNIST (R = 2, 10 and 100, 800 images a majority class, tested on
every fifth image of the test files) and on scikit-learn's digits (R = 2 and 10, 100 images, 50 of a class held out), under ERM, inverse square root and
inverse frequency, and the g* that the coupling of the features at the start predicts. Five seeds, one learning rate for all. A
fifth as many images as are trained on, as imbalanced, are the validation part: training is stopped where the log loss
there, of the worst class or the mean over classes, is least, with what accuracy the test images say. It takes nine minutes of one core.

Claimed before the run. The model says what g = 1 gains by stopping early: its best at margins below 5 over its end at a
margin of 100, as in `held_out_maps`. These images are less noisy than any setting there: their noise within classes has 19
(digits) and 42 (MNIST) dimensions in effect, a thirtieth of the training images and less. So the model is asked at as many dimensions as
samples, the fewest at which it can fit whatever it is trained on, as the networks do, at the signal of the images, which is
measured: 2.8 and 2.2. It says nothing at R = 2, a loss of 0.01 at R = 10 and a gain of 0.04 at R = 100, two seeds of three 0.06. Claimed is
that the networks' gains, stopped by either loss, are within 0.02 of the model's. Further, that weights lead ERM when they are first
within 0.01 of their best, by more than at the end; that at R >= 10 weights stopped are no worse than ERM trained to the end; and that g* is
0.9 at least, so that it is nearly inverse frequency. Seen before, in choosing the rate: one seed of MNIST at R = 100, on training images held
out, where g = 1 came to 0.75 and ended at 0.72, and the tuning of the experiment `mnist` at R = 10.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments import data, mnist_data
from experiments.claims import Claims, Estimate
from experiments.digits_network import Config
from experiments.mnist_data import Mnist
from experiments.readings import Report, part
from experiments.stop_or_train_figures import draw
from experiments.stop_or_train_runs import (
    CRITERIA,
    Course,
    Noise,
    Source,
    courses,
    measured_noise,
    model_gain,
)

CONFIG = Config(seeds=(0, 1, 2, 3, 4))
NUM_EVALUATIONS = 32
NEAR = 0.02  # of balanced accuracy
BALANCING = 0.9  # g* at least
IMBALANCED = 10  # R from which weights stopped are held against ERM trained to the end


class Case(NamedTuple):
    """One data set at one imbalance ratio."""

    name: str
    ratio: int
    steps: np.ndarray
    courses: Mapping[str, Course]
    noise: Noise
    num_samples: int
    """Training images."""
    model: np.ndarray
    """Gain of stopping early in the model, by seed."""


def sources(mnist: Mnist) -> dict[str, Source]:
    """The two data sets, and how networks are trained on them."""
    test = mnist.test_images[::5], mnist.test_labels[::5]
    train = mnist.train_images, mnist.train_labels
    return {
        "MNIST": Source(*train, 800, test, 0, (2, 10, 100), learning_rate=0.0125, num_steps=1000),
        "digits": Source(
            *data.load_digits(), 100, None, 50, (2, 10), learning_rate=0.025, num_steps=1000
        ),
    }


def quick_sources(mnist: Mnist) -> dict[str, Source]:
    """Fewer images, ratios and steps."""
    short = {"majority": 100, "ratios": (10,), "num_steps": 40}
    return {name: dataclasses.replace(one, **short) for name, one in sources(mnist).items()}


def run(out: Path, quick: bool, report: Report, data_dir: Path | None = None) -> Claims:
    """Draw `stop_or_train.png`, and hold what stopping early gains against what the model says."""
    mnist = mnist_data.load(data_dir)
    config = dataclasses.replace(CONFIG, seeds=CONFIG.seeds[: 2 if quick else None])
    chosen = quick_sources(mnist) if quick else sources(mnist)
    listed = [(name, ratio) for name, source in chosen.items() for ratio in source.ratios]
    cases = []
    for i, (name, ratio) in enumerate(listed):
        own = part(report, i / len(listed), (i + 1) / len(listed))
        cases.append(follow(name, chosen[name], ratio, config, own))
    draw(out / "stop_or_train.png", cases)
    report(1.0)
    return make_claims(cases)


def follow(name: str, source: Source, ratio: int, config: Config, report: Report) -> Case:
    """Networks and the model at one imbalance ratio."""
    # Spaced evenly in the logarithm, from where no group is learned yet.
    steps = np.geomspace(4, source.num_steps, NUM_EVALUATIONS).round()
    steps = np.unique(steps).astype(np.int32)
    found = courses(source, ratio, config, steps, report)
    noise = measured_noise(source.images, source.labels)
    majority = data.NUM_CLASSES - len(config.minority_classes)
    num_samples = source.majority * majority + round(source.majority / ratio) * (
        data.NUM_CLASSES - majority
    )
    return Case(name, ratio, steps, found, noise, num_samples, model_gain(ratio, noise.signal))


def make_claims(cases: list[Case]) -> Claims:
    """The claims of every case, and that of g*."""
    claims = Claims()
    for case in cases:
        _claim_gains(claims, case)
        _claim_leads(claims, case)
    exponents = [case.courses["$g^*$"].exponent for case in cases]
    note = "; ".join(
        f"{case.name} R = {case.ratio}: {own.mean():.2f}"
        for case, own in zip(cases, exponents, strict=True)
    )
    statement = "g* that the coupling of the features at the start predicts, least of all seeds"
    claims.at_least(statement, BALANCING, float(np.min(exponents)), note)
    return claims


def _claim_gains(claims: Claims, case: Case) -> None:
    """What inverse frequency gains by stopping, beside the model."""
    own, model = case.courses["inverse frequency"], float(case.model.mean())
    share = case.noise.dimension / case.num_samples
    for criterion in CRITERIA:
        at = case.steps[own.losses[criterion].argmin(axis=1)]
        statement = f"{case.name}, R = {case.ratio}: g = 1 stopped at its least {criterion} over the end, held-out balanced accuracy, near the model's {model:.3f}"
        note = f"end {own.end.mean():.3f}, stopped at steps {at.min()} to {at.max()}, q / n = {share:.3f}, s = {case.noise.signal:.1f}"
        gain = Estimate.over_seeds(own.gain(criterion))
        claims.between(statement, (model - NEAR, model + NEAR), gain, 0.0, note)


def _claim_leads(claims: Claims, case: Case) -> None:
    """How far inverse frequency is ahead of ERM early, at the end, and stopped."""
    own, erm = case.courses["inverse frequency"], case.courses["ERM"]
    early = own.at(own.nearly_best) - erm.at(own.nearly_best)
    at_end = own.end - erm.end
    at = case.steps[own.nearly_best]
    where = f"{case.name}, R = {case.ratio}"
    statement = f"{where}: lead of g = 1 over ERM when it is first within 0.01 of its best, less the lead at the end"
    note = f"{early.mean():.3f} at steps {at.min()} to {at.max()}, {at_end.mean():.3f} at the end"
    claims.at_least(statement, 0.0, Estimate.over_seeds(early - at_end), note)
    if case.ratio >= IMBALANCED:
        statement = (
            f"{where}: g = 1 stopped at its least balanced log loss over ERM trained to the end"
        )
        ahead = own.stopped("balanced log loss") - erm.end
        note = f"training images right at the end: ERM {erm.fitted.mean():.3f}, g = 1 {own.fitted.mean():.3f}"
        claims.at_least(statement, 0.0, Estimate.over_seeds(ahead), note)
