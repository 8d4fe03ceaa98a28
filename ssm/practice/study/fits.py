"""The fits of a study's models: what each makes of the samples that it is trained on, and what it then says of those
that it is tested on. None of these functions is given a label of a test sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import special
from sklearn.utils import check_random_state

from ssm.practice.decisions import calibrators, rounds, shares
from ssm.practice.decisions.reweighted import Reweighted
from ssm.practice.network import alarms, networks, tasks, training
from ssm.practice.network.estimator import ReweightedClassifier
from ssm.practice.options import NETWORK, SMOTE
from ssm.practice.study import models, synthesis
from ssm.practice.study.strategies import Parameters, Variant

CORRECTIONS = ("none", "training", "uniform", "temperature")
"""What is done to probabilities after training: nothing; a correction to the class shares of the training
samples, or to equal ones; or the former with a temperature."""
VALIDATION_FRACTION = 0.2  # of each class's training samples, as in `ReweightedClassifier`

Arrays = dict[str, np.ndarray]
"""What is kept of a cell, by names."""


class Samples(NamedTuple):
    """The samples of a cell, prepared by what was fitted on those of training alone."""

    X: Float[np.ndarray, "n d"]
    labels: Int[np.ndarray, " n"]
    X_test: Float[np.ndarray, "m d"]
    class_names: Sequence[str]


class HeldOut(NamedTuple):
    """Training samples that a fit was not given, with what it makes of them."""

    posterior: Float[np.ndarray, "h k"]
    """Their probabilities for the class shares of training, without a temperature."""
    labels: Int[np.ndarray, " h"]


class Fitted(NamedTuple):
    """What comes of a fit."""

    arrays: Arrays
    """The raw and the corrected logits of the test samples, the temperature, the status, and of a network what is
    known of its training."""
    probabilities: dict[str, Float[np.ndarray, "m k"]]
    """Of the test samples, under each of `CORRECTIONS`."""
    held_out: HeldOut


def fit(variant: Variant, samples: Samples, common: Parameters, seed: int) -> Fitted:
    """Train a variant.

    Args:
        variant: of the network or of another model.
        samples: those of the cell.
        common: parameters that all networks share.
        seed: of all that is random in it.
    """
    if variant.model == NETWORK:
        return _of_network(variant, samples, common, seed)
    return _of_model(variant, samples, seed)


class NamingClassifier(ReweightedClassifier):
    """A classifier of numbered classes, whose logs call them by their names, and which keeps what it makes of the
    samples that it holds out."""

    names: Sequence[str]
    held_out: HeldOut
    is_to_the_end: bool
    """Whether it is trained without early stopping beside others that are stopped, so that it too is then trained anew
    on all samples."""

    def _refits(self, run: training.TrainingRun) -> bool:
        at_end = run.status == "finished" and run.rollbacks == 0
        return super()._refits(run) or (self.is_to_the_end and at_end)

    def _class_names(self) -> Sequence[str]:
        return [self.names[int(c)] for c in self.classes_]

    def _fit_temperature(self, held_out: tasks.Samples) -> None:
        super()._fit_temperature(held_out)
        logits = self._forward(networks.logits, held_out.X)
        self.held_out = HeldOut(self.posterior(logits, "training"), held_out.labels)


def _of_network(variant: Variant, samples: Samples, common: Parameters, seed: int) -> Fitted:
    """The network of a variant."""
    classifier = NamingClassifier(
        **(common | variant.parameters),
        shares="training",
        temperature_scaling=True,
        random_state=seed,
    )
    classifier.names = samples.class_names
    classifier.is_to_the_end = "early_stopping" in variant.parameters
    classifier.fit(samples.X, samples.labels)
    logits = classifier.logits(samples.X_test)
    posterior = classifier.posterior(logits, "training")
    arrays = {
        "logits": logits,
        "corrected_logits": np.log(np.maximum(posterior, np.finfo(float).tiny)),
        "temperature": np.array(classifier.temperature_),
        "stop_step": np.array(classifier.n_steps_),
        "best_step": np.array(classifier.best_step_),
        "status": np.array(classifier.status_),
        "alarms": np.array([_alarm(*pair) for pair in classifier.alarms_]).reshape(-1, 7),
    }
    history = classifier.history_
    arrays |= {f"history.{name}": history[name].values for name in history.data_vars}
    probabilities = {
        name: classifier.posterior(logits, name) for name in ("none", "training", "uniform")
    }
    tempered = classifier.posterior(logits, "training", classifier.temperature_)
    return Fitted(arrays, probabilities | {"temperature": tempered}, classifier.held_out)


def _of_model(variant: Variant, samples: Samples, seed: int) -> Fitted:
    """Another model. The temperature is fitted to the same held-out samples as the network's, by a fit on the
    others; then the model is fitted on all of them."""
    every = tasks.Samples(samples.X, samples.labels, np.ones(len(samples.labels)))
    split = int(check_random_state(seed).randint(2**31 - 1))  # as `ReweightedClassifier` draws it
    train, held = tasks.held_out(every, VALIDATION_FRACTION, samples.class_names, split)
    _, early = _probabilities(variant, train, held.X, seed)
    # The posterior is for the shares of the samples that were left, which differ a little from those of all.
    factors = np.bincount(samples.labels) / np.bincount(train.labels)
    held_out = HeldOut(shares.shifted(early, factors), held.labels)
    ones = np.ones(len(held.labels))
    calibrator = calibrators.fitted("temperature", *held_out, ones)
    reported, posterior = _probabilities(variant, every, samples.X_test, seed)
    logits, corrected = (np.log(np.maximum(x, calibrators.LEAST)) for x in (reported, posterior))
    counts = np.bincount(samples.labels)
    temperature = getattr(calibrator, "temperature", 1.0)
    probabilities = {
        "none": reported,
        "training": posterior,
        "uniform": shares.shifted(posterior, counts.sum() / counts),
        "temperature": special.softmax(corrected / temperature, axis=1),
    }
    arrays = {
        "logits": logits,
        "corrected_logits": corrected,
        "temperature": np.array(temperature),
        "status": np.array("finished"),
        "alarms": np.empty((0, 7), "U1"),
    }
    return Fitted(arrays, probabilities, held_out)


def _probabilities(
    variant: Variant, train: tasks.Samples, X: Float[np.ndarray, "m d"], seed: int
) -> tuple[Float[np.ndarray, "m k"], Float[np.ndarray, "m k"]]:
    """The probabilities that a model reports after a fit, and those for the class shares that it was fitted on."""
    counts = np.bincount(train.labels)
    estimator: Any = models.make(variant.model, counts, seed)
    if variant.strategy == SMOTE:
        # Made of the samples of this fit alone, and never asked about.
        estimator.fit(*synthesis.filled_up(train.X, train.labels, seed))
        reported = rounds.probabilities(estimator, X, np.arange(len(counts)))
        return reported, shares.shifted(reported, counts)
    weighted = Reweighted(estimator, **variant.parameters, rounds=1, random_state=seed)
    weighted.fit(train.X, train.labels)
    reported = weighted.predict_proba(X)
    weights = weighted.class_weights_
    if variant.model == models.BALANCED_FOREST:
        weights = 1 / counts  # It was shown as many samples of each class.
    return reported, shares.shifted(reported, 1 / weights)


def _alarm(alarm: alarms.Alarm, action: str) -> list[str]:
    """An alarm as strings, in the order of `records.ALARM_COLUMNS`."""
    class_index = "" if alarm.class_index is None else str(alarm.class_index)
    numbers = [repr(float(alarm.value)), repr(float(alarm.threshold))]
    return [str(alarm.step), alarm.alarm, class_index, *numbers, action, alarm.reason]
