"""Networks in training: the digits network beside torch, and fits of the classifier beside
scikit-learn's."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from sklearn.datasets import make_classification
from sklearn.neural_network import MLPClassifier

from benchmarks import timing
from benchmarks.peers import by_torch
from benchmarks.table import Row, milliseconds
from ssm import InputError, ReweightedClassifier
from ssm.practice.network import parameters, tasks, training
from ssm.practice.network.alarms import TrainingWarning
from ssm.support import machine

NOTE = """The network of the experiment `digits` (3 x 3 convolutions of stride 2 to 16 and 32 channels, a
linear layer to 10 classes, float32) on random images of 28 x 28 pixels, batches of 128 in a new order
each pass, momentum 0.9, cross-entropy: this project's compiled steps beside a loop in torch, which first
are shown to take the same step. And `ReweightedClassifier.fit`, its 20 evaluations included, beside
scikit-learn's `MLPClassifier`: 64 hidden units, Adam, batches of 128, as many epochs, float64, 30
features, two classes at 9:1. The first fit is that of a fresh process whose compilations another process
has kept; the time is that of the fit alone. Both sides have the cores that a row names."""

SIDE, BATCH, CLASSES = 28, 128, 10
SAME_STEP = 1e-5  # parameters of size 0.1 to 1, float32
FEATURES = 30


def run(quick: bool, report: Callable[[float], None]) -> list[Row]:
    """Measure; the rows of the table."""
    rows = digits_rows(20 if quick else 200, 2 if quick else 7)
    report(0.3)
    rows += small_rows(4 if quick else 64, 2 if quick else 7)
    report(0.6)
    return rows + large_rows(20_000 if quick else 200_000, 1 if quick else 10, 1 if quick else 3)


def _cores() -> str:
    count = machine.num_cores()
    return "one core" if count == 1 else f"{count} cores"


def digits_rows(num_steps: int, repeats: int) -> list[Row]:
    """The digits network, a step of training."""
    rng = np.random.default_rng(0)
    images = rng.random((4096, SIDE * SIDE), np.float32)
    labels = rng.integers(0, CLASSES, len(images))
    with jax.enable_x64(False):
        few = _begun(images[:BATCH], labels[:BATCH], 1)
        theirs = by_torch.Convolutional(few.params, SIDE, machine.num_cores())
        theirs.train(images[:BATCH], labels[:BATCH], BATCH, 1)
        state = _advanced(few, 1)
        apart = max(
            float(np.abs(np.asarray(ours) - other).max())
            for ours, other in zip(jax.tree.leaves(state.params), theirs.params(), strict=True)
        )
        if not apart < SAME_STEP:
            raise InputError(f"torch's step is not this project's: parameters {apart:.1e} apart")
        begun = _begun(images, labels, num_steps)
        took = timing.medians(
            {
                "ours": lambda: _advanced(begun, num_steps),
                "torch": lambda: theirs.train(images, labels, BATCH, num_steps),
            },
            repeats,
        )
    ours, torch = (took[name] / num_steps for name in ("ours", "torch"))
    same = f"first steps {apart:.0e} apart"
    return [
        Row(
            f"ours: digits network, {_cores()}, {same}",
            milliseconds(ours, "a step"),
            ours / torch,
            "torch",
            at_most=1.3,
        ),
        Row(f"torch: the same network, {_cores()}", milliseconds(torch, "a step")),
    ]


def _begun(images: np.ndarray, labels: np.ndarray, num_steps: int) -> parameters.Prepared:
    classifier = ReweightedClassifier(
        hidden_layer_sizes=(),
        channels=(16, 32),
        image_shape=(SIDE, SIDE),
        optimizer="momentum",
        learning_rate=by_torch.Convolutional.RATE,
        momentum=by_torch.Convolutional.MOMENTUM,
        batch_size=BATCH,
        evaluate_every=num_steps,
        dtype="float32",
    )
    samples = tasks.Samples(images, labels, np.ones(len(labels)))
    classifier.classes_ = np.unique(
        labels
    )  # as `fit` sets it before it has the parameters prepared
    return parameters.prepared(classifier, samples, None, seed=0)


def _advanced(begun: parameters.Prepared, num_steps: int) -> Any:
    """The state after so many steps, computed."""
    task, options, params = begun
    weights = np.ones((num_steps, CLASSES))
    state = training.untrained(task, options, params)
    return jax.block_until_ready(training.advance(task, options, state, 0, weights))


def _data(num_samples: int) -> tuple[np.ndarray, np.ndarray]:
    made = make_classification(
        num_samples, FEATURES, n_informative=10, weights=[0.9], random_state=0
    )
    return np.asarray(made[0]), np.asarray(made[1])


def fit_ours(X: np.ndarray, y: np.ndarray, epochs: int) -> ReweightedClassifier:
    """The classifier, fitted for so many passes over the data."""
    num_steps = epochs * -(-len(y) // BATCH)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrainingWarning)
        return ReweightedClassifier(batch_size=BATCH, num_steps=num_steps, random_state=0).fit(X, y)


def fit_theirs(X: np.ndarray, y: np.ndarray, epochs: int) -> MLPClassifier:
    """scikit-learn's, of the same size, rate and batches, without stops and penalties."""
    size: Any = BATCH  # a number or "auto", of which scikit-learn's types name the latter
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it has not converged
        return MLPClassifier(
            hidden_layer_sizes=(64,),
            batch_size=size,
            max_iter=epochs,
            n_iter_no_change=epochs + 1,
            learning_rate_init=0.003,
            alpha=0.0,
            random_state=0,
        ).fit(X, y)


def first_fit(num_samples: int, epochs: int) -> float:
    """Seconds of the first fit of a process."""
    X, y = _data(num_samples)
    begun = time.perf_counter()
    fit_ours(X, y, epochs)
    return time.perf_counter() - begun


def small_rows(epochs: int, repeats: int) -> list[Row]:
    """Fits of 2000 samples: warm, and the first one of a process."""
    num_samples = 2000
    rows = _fit_rows(num_samples, epochs, repeats, at_most=0.5)
    with tempfile.TemporaryDirectory() as cache:
        firsts = [
            timing.in_fresh_process(
                "benchmarks.training:first_fit", cache, num_samples=num_samples, epochs=epochs
            )
            for _ in range(3)
        ]
    first = float(np.median(firsts[1:]))
    what = f"ours: first fit of a process, compilations kept, {_cores()}"
    return [
        *rows,
        Row(what, f"{first:.3g} s", first, "one second", at_most=1),
        Row("ours: the same with an empty cache", f"{firsts[0]:.3g} s"),
    ]


def large_rows(num_samples: int, epochs: int, repeats: int) -> list[Row]:
    """Fits of many samples."""
    return _fit_rows(num_samples, epochs, repeats, at_most=0.5)


def _fit_rows(num_samples: int, epochs: int, repeats: int, at_most: float) -> list[Row]:
    X, y = _data(num_samples)
    works = {"ours": lambda: fit_ours(X, y, epochs), "theirs": lambda: fit_theirs(X, y, epochs)}
    took = timing.medians(works, repeats)
    size = f"{num_samples} x {FEATURES}, {epochs} epochs, {_cores()}"
    return [
        Row(
            f"ours: fit of {size}",
            milliseconds(took["ours"], "a fit"),
            took["ours"] / took["theirs"],
            "MLPClassifier",
            at_most=at_most,
        ),
        Row(f"MLPClassifier: fit of {size}", milliseconds(took["theirs"], "a fit")),
    ]
