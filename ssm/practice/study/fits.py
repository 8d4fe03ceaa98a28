"""The fits of a study's models: each is trained on some samples and then predicts others. No function here is given a label of a
test sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

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
"""How probabilities are corrected after training: not at all; to the class shares of the training samples; to equal shares; or to
those of the training samples with a temperature."""
VALIDATION_FRACTION = 0.2  # of each class's training samples, as in `ReweightedClassifier`

Arrays = dict[str, np.ndarray]
"""All that is kept of a cell, as arrays by name."""


class Samples(NamedTuple):
    """The samples of a cell. Their features are prepared (imputed, encoded, scaled) as fitted on the training samples alone."""

    X: Float[np.ndarray, "n d"]
    labels: Int[np.ndarray, " n"]
    X_test: Float[np.ndarray, "m d"]
    class_names: Sequence[str]


class HeldOut(NamedTuple):
    """Training samples that a fit was not given, with its predictions for them."""

    posterior: Float[np.ndarray, "h k"]
    """Their probabilities for the class shares of training, without a temperature."""
    labels: Int[np.ndarray, " h"]


class Fitted(NamedTuple):
    """The results of a fit."""

    arrays: Arrays
    """The raw and the corrected logits of the test samples, the temperature, the status, and for a network the record of
    its training."""
    probabilities: dict[str, Float[np.ndarray, "m k"]]
    """The probabilities of the test samples, under each of `CORRECTIONS`."""
    held_out: HeldOut


def fit(variant: Variant, samples: Samples, common: Parameters, seed: int) -> Fitted:
    """Train a variant.

    Args:
        variant: a variant of the network or of another model.
        samples: the samples of the cell.
        common: parameters that all networks share.
        seed: the seed of all that is random in the fit.
    """
    if variant.model == NETWORK:
        return _of_network(variant, samples, common, seed)
    return _of_model(variant, samples, seed)


class NamingClassifier(ReweightedClassifier):
    """A classifier of numbered classes whose logs call the classes by name, and which keeps its predictions for the
    samples that it holds out."""

    names: Sequence[str]
    held_out: HeldOut
    is_to_the_end: bool
    """Whether it is trained without early stopping in order to be compared with others that are stopped. It is then trained
    anew on all samples, as those are."""

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
    """Train the network of a variant."""
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
    """Train a model other than the network. Its temperature is fitted to the same held-out samples as the network's, with a fit on
    the others; then the model is fitted on all of them."""
    every = tasks.Samples(samples.X, samples.labels, np.ones(len(samples.labels)))
    split = int(check_random_state(seed).randint(2**31 - 1))  # drawn as in `ReweightedClassifier`
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
    estimator = models.make(variant.model, counts, seed)
    if variant.strategy == SMOTE:
        # Synthetic samples are made of the samples of this fit alone, and nothing is predicted for them.
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
