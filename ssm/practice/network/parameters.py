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

from ssm.config import choices, validation
from ssm.practice import options
from ssm.practice.network import alarms, networks, objective, runs
from ssm.problem import losses, schedules, weights
from ssm.support import checks
from ssm.support.errors import InputError, invalid

SHARES = ("none", "training", "uniform")
DECISIONS = ("trained", "uniform")
FEWEST_STEPS, PASSES = 1000, 20  # of training, where nobody says: the more of the two
EVALUATIONS, PATIENT = 20, 6  # in that training, and without a better one
DTYPES = get_args(choices.DType)


def check(classifier: Any) -> None:
    """Refuse what nothing else here reads before training."""
    if not isinstance(classifier.schedule, schedules.Transformation | None):
        raise invalid("schedule", classifier.schedule, "a transformation of ssm.schedules, or None")
    if not isinstance(classifier.checkpoint_dir, str | Path | None):
        raise invalid("checkpoint_dir", classifier.checkpoint_dir, "a path, or None")
    seeded = isinstance(classifier.random_state, Integral)
    if classifier.checkpoint_dir is not None and not seeded:
        allowed = "an integer where there is a checkpoint_dir, to go on with the same numbers"
        raise invalid("random_state", classifier.random_state, allowed)
    wanted_shares(classifier)
    wanted_decision(classifier)
    checks.flag("temperature_scaling", classifier.temperature_scaling)
    checks.flag("refit", classifier.refit)
    if not isinstance(classifier.verbose, bool | Integral):
        raise invalid("verbose", classifier.verbose, "True, False or an integer")
    checks.real("validation_fraction", classifier.validation_fraction, 0, 1, open_ends="()")


def wanted_shares(classifier: Any) -> Any:
    """The class shares that probabilities are to be for: `shares`, or its alias
    `prior_correction`."""
    shares, alias = classifier.shares, classifier.prior_correction
    _checked_shares("shares", shares, SHARES, None)
    if alias is None:
        return shares
    _checked_shares("prior_correction", alias, SHARES, None)
    if shares not in ("none", alias):
        raise invalid(
            "prior_correction", alias, "left out where shares are given: it is their alias"
        )
    return alias


def wanted_decision(classifier: Any) -> Any:
    """The class shares that are decided for."""
    return _checked_shares("decision", classifier.decision, DECISIONS, None)


def shares_of_classes(name: str, value: Any, classes: np.ndarray) -> Float[np.ndarray, " k"]:
    """The share of each class: equal ones for `uniform`, else those of a dict by label, divided by
    their sum."""
    if value == "uniform":
        return np.full(len(classes), 1 / len(classes))
    return _checked_shares(name, value, (), classes)


def _checked_shares(name: str, value: Any, names: tuple[str, ...], classes: Any) -> Any:
    """One of the names; or what a dict {label: share} says of the classes, as far as they are
    known."""
    of_all = "" if classes is None else f" of all of {classes.tolist()}"
    allowed = " or ".join([*names, f"a dict {{class: share}}{of_all} of positive finite numbers"])
    if isinstance(value, str) and value in names:
        return value
    if not isinstance(value, Mapping) or not value:
        raise invalid(name, value, allowed)
    try:
        numbers = np.array([checks.real(name, share, 0, open_ends="(") for share in value.values()])
    except InputError:
        raise invalid(name, dict(value), allowed) from None
    if classes is None:
        return value
    given = dict(zip(value, numbers, strict=True))
    if set(given) != set(classes.tolist()):
        raise invalid(name, dict(value), allowed)
    shares = np.array([given[label] for label in classes.tolist()])
    return shares / shares.sum()


def why_no_posterior(
    classifier: Any, loss: objective.Loss, sample_weights: Float[np.ndarray, " n"]
) -> str:
    """Why the posterior cannot be read off the logits of a network that is trained on all of these
    samples; nothing where it can be."""
    if not objective.has_posterior(loss):
        return "label_smoothing with a margin or a focal factor has no inverse in closed form"
    mini = checks.integer("batch_size", classifier.batch_size, 1, 10**9) < len(sample_weights)
    weighted = classifier.class_weight is not None or classifier.schedule is not None
    weighted = weighted or np.ptp(sample_weights) > 0
    if classifier.reduction == "weighted_mean" and mini and weighted:
        return "weighted_mean over mini-batches trains with other ratios than the weights'"
    return ""


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
        allowed = f"False, True or one of {', '.join(options.SCORES)}"
        raise invalid("early_stopping", name, allowed)
    return name


def loss(classifier: Any, counts: Float[np.ndarray, " k"]) -> objective.Loss:
    """The loss, for classes of these sizes, with the numbers given or published for it."""
    name = checks.choice("loss", classifier.loss, get_args(choices.Loss))
    given = {field: getattr(classifier, field) for field in choices.NEUTRAL}
    given = {field: value for field, value in given.items() if value is not None}
    if name == "squared":
        if given:
            raise invalid(*next(iter(given.items())), "left out for the squared loss")
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
        unknown = any(label not in index for label in spec)
        if unknown and not all(label in spec for label in index):
            # As in scikit-learn: weights of labels that training has none of are left out only
            # where all others have theirs, since otherwise a label may be misspelt.
            allowed = f"weights of labels in training, {classifier.classes_.tolist()}"
            raise invalid("class_weight", dict(spec), allowed)
        spec = {index[label]: weight for label, weight in spec.items() if label in index}
    try:
        return weights.class_weights(spec, counts)
    except InputError:
        allowed = (
            f"None, {', '.join(weights.NAMED)}, or positive finite weights: {len(counts)} of "
            "them, a dict by label, or a function of the class sizes that returns them"
        )
        raise invalid("class_weight", classifier.class_weight, allowed) from None


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
            raise invalid("image_shape", classifier.image_shape, allowed)
        shape = (sides[0], sides[1])
    return networks.Architecture(widths["hidden_layer_sizes"], widths["channels"], shape)


def training_steps(num_samples: int, batch_size: int) -> int:
    """Steps of training where nobody says how many: 1000, or what 20 passes over the data take, if
    that is more."""
    return max(FEWEST_STEPS, math.ceil(PASSES * num_samples / batch_size))


def training_options(
    classifier: Any, loss: objective.Loss, seed: int, num_samples: int
) -> runs.TrainingOptions:
    """How to train on so many samples, a loss and a seed given."""
    rate: Any = classifier.learning_rate
    optimizer = classifier.optimizer
    rate = rate if callable(rate) else checks.real("learning_rate", rate, 0, open_ends="(")
    if not isinstance(optimizer, optax.GradientTransformation):
        optimizer = checks.choice("optimizer", optimizer, runs.OPTIMIZERS)
    thresholds = classifier.alarm_thresholds or alarms.Thresholds()
    if not isinstance(thresholds, alarms.Thresholds):
        raise invalid("alarm_thresholds", thresholds, "ssm.practice.alarms.Thresholds, or None")
    score = score_name(classifier)
    batch_size = checks.integer("batch_size", classifier.batch_size, 1, 10**9)

    def given(name: str, default: int, most: int = 10**9) -> int:
        value = getattr(classifier, name)
        return default if value is None else checks.integer(name, value, 1, most)

    num_steps = given("num_steps", training_steps(num_samples, batch_size))
    interval = given("evaluate_every", math.ceil(num_steps / EVALUATIONS), 10**6)
    patience = given("patience", PATIENT * interval)
    return runs.TrainingOptions(
        num_steps=num_steps,
        batch_size=batch_size,
        evaluate_every=min(interval, num_steps, 10**6),
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
