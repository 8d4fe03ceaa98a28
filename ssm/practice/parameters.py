"""What the parameters of a `ReweightedClassifier` ask for, checked one by one; each raises
ssm.InputError for what cannot be used."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral
from pathlib import Path
from typing import Any, get_args

import numpy as np
import optax
from jaxtyping import Float

from ssm import checks, choices, losses, schedules, validation, weights
from ssm.checks import InputError, refuse
from ssm.practice import alarms, networks, objective, options, training

CORRECTIONS = ("none", "training", "uniform")
DTYPES = get_args(choices.DType)


def check(classifier: Any) -> None:
    """Refuse what nothing else here reads before training."""
    if not isinstance(classifier.schedule, schedules.Transformation | None):
        raise refuse("schedule", classifier.schedule, "a transformation of ssm.schedules, or None")
    if not isinstance(classifier.checkpoint_dir, str | Path | None):
        raise refuse("checkpoint_dir", classifier.checkpoint_dir, "a path, or None")
    seeded = isinstance(classifier.random_state, Integral)
    if classifier.checkpoint_dir is not None and not seeded:
        allowed = "an integer where there is a checkpoint_dir, to go on with the same numbers"
        raise refuse("random_state", classifier.random_state, allowed)
    checks.choice("prior_correction", classifier.prior_correction, CORRECTIONS)
    checks.flag("temperature_scaling", classifier.temperature_scaling)
    checks.real("validation_fraction", classifier.validation_fraction, 0, 1, open_ends="()")


def holds_out(classifier: Any) -> bool:
    """Whether samples are held out from training to be evaluated."""
    asked = classifier.schedule is not None and classifier.schedule.needs_performance
    return score_name(classifier) is not None or classifier.temperature_scaling or asked


def score_name(classifier: Any) -> str | None:
    """By which evaluations are compared for early stopping; None without it."""
    name = classifier.early_stopping
    if isinstance(name, bool):
        return options.SCORES[0] if name else None
    if name not in options.SCORES:
        allowed = f"False, True, {' or '.join(options.SCORES)}"
        raise refuse("early_stopping", name, allowed)
    return name


def loss(classifier: Any, counts: Float[np.ndarray, " k"]) -> objective.Loss:
    """The loss, for classes of these sizes, with the numbers given or published for it."""
    name = checks.choice("loss", classifier.loss, get_args(choices.Loss))
    given = {field: getattr(classifier, field) for field in choices.NEUTRAL}
    given = {field: value for field, value in given.items() if value is not None}
    if name == "squared":
        if given:
            raise refuse(*next(iter(given.items())), "left out for the squared loss")
        return None
    numbers = choices.NEUTRAL | choices.MARGIN_LOSSES.get(name, {}) | given
    for field, value in numbers.items():
        low, high, open_ends = validation.LOSS_NUMBERS[field]
        numbers[field] = checks.real(field, value, low, high, open_ends=open_ends)
    return losses.adjustment(counts, **numbers)


def class_weights(classifier: Any, counts: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """The fixed weights in the order of `classes_`, shape (k,)."""
    spec = classifier.class_weight
    if isinstance(spec, Mapping):
        index = {label: c for c, label in enumerate(classifier.classes_.tolist())}
        unknown = [label for label in spec if label not in index]
        if unknown:
            allowed = f"weights of labels in training, {classifier.classes_.tolist()}"
            raise refuse("class_weight", dict(spec), allowed)
        spec = {index[label]: weight for label, weight in spec.items()}
    try:
        return weights.class_weights(spec, counts)
    except InputError:
        allowed = (
            f"None, {', '.join(weights.NAMED)}, or positive finite weights: {len(counts)} of "
            "them, a dict by label, or a function of the class sizes that returns them"
        )
        raise refuse("class_weight", classifier.class_weight, allowed) from None


def architecture(classifier: Any, num_features: int) -> networks.Architecture:
    """The network for so many features."""
    widths = {}
    for name in ("hidden_layer_sizes", "channels"):
        values = checks.items(name, getattr(classifier, name), "positive integers")
        widths[name] = tuple(checks.integer(name, value, 1, 10**5) for value in values)
    shape = None
    if widths["channels"]:
        allowed = f"(height, width) of images of {num_features} pixels, where there are channels"
        sides = checks.items("image_shape", classifier.image_shape, allowed)
        sides = [checks.integer("image_shape", side, 1, num_features) for side in sides]
        if len(sides) != 2 or math.prod(sides) != num_features:
            raise refuse("image_shape", classifier.image_shape, allowed)
        shape = (sides[0], sides[1])
    return networks.Architecture(widths["hidden_layer_sizes"], widths["channels"], shape)


def training_options(classifier: Any, loss: objective.Loss, seed: int) -> training.Options:
    """How to train, a loss and a seed given."""
    rate: Any = classifier.learning_rate
    optimizer = classifier.optimizer
    rate = rate if callable(rate) else checks.real("learning_rate", rate, 0, open_ends="(")
    if not isinstance(optimizer, optax.GradientTransformation):
        optimizer = checks.choice("optimizer", optimizer, training.OPTIMIZERS)
    thresholds = classifier.alarm_thresholds or alarms.Thresholds()
    if not isinstance(thresholds, alarms.Thresholds):
        raise refuse("alarm_thresholds", thresholds, "ssm.practice.alarms.Thresholds, or None")
    score = score_name(classifier)
    patience = checks.integer("patience", classifier.patience, 1, 10**9)
    num_steps = checks.integer("num_steps", classifier.num_steps, 1, 10**9)
    interval = checks.integer("evaluate_every", classifier.evaluate_every, 1, 10**6)
    return training.Options(
        num_steps=num_steps,
        batch_size=checks.integer("batch_size", classifier.batch_size, 1, 10**9),
        evaluate_every=min(interval, num_steps),
        learning_rate=rate,
        optimizer=optimizer,
        momentum=checks.real("momentum", classifier.momentum, 0, 1, open_ends=")"),
        weight_decay=checks.real("weight_decay", classifier.weight_decay, 0),
        reduction=checks.choice("reduction", classifier.reduction, losses.REDUCTIONS),
        loss=loss,
        schedule=classifier.schedule,
        score=score or options.SCORES[0],
        patience=None if score is None else patience,
        thresholds=thresholds,
        action=checks.choice("alarm_action", classifier.alarm_action, options.ACTIONS),
        max_rollbacks=checks.integer("max_rollbacks", classifier.max_rollbacks, 0, 10**6),
        seed=seed,
    )
