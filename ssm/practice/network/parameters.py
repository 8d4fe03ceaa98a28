"""The parameters of a `ReweightedClassifier`, checked one by one and turned into what training needs.
Each function raises ssm.InputError for a value that cannot be used."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Integral
from pathlib import Path
from typing import NamedTuple, cast, get_args

import numpy as np
import optax
from jaxtyping import Float, Int

from ssm.config import DType, Loss
from ssm.config.bounds import interval
from ssm.config.loss import MARGIN_LOSSES, NEUTRAL, LossFields
from ssm.practice import options
from ssm.practice.decisions import shares as shares_of
from ssm.practice.decisions import weighting
from ssm.practice.decisions.shares import Shares
from ssm.practice.decisions.weighting import ClassWeight
from ssm.practice.network import alarms, networks, objective, runs, tasks
from ssm.practice.network.batches import Mixup
from ssm.problem import losses, schedules, weights
from ssm.support import checks
from ssm.support.errors import invalid, one_of

# Where `num_steps` is left out, the one that is more training is taken.
FEWEST_STEPS, PASSES = 1000, 20
EVALUATIONS = 20  # The number of evaluations of a run where `evaluate_every` is left out.
# Where `patience` is left out, training ends after this many evaluations without a better one.
PATIENCE = 6
DTYPES = get_args(DType)


class GivenParameters:
    """The parameters of a classifier as its user gave them: nothing has checked them yet."""

    loss: str
    class_weight: ClassWeight
    schedule: schedules.Transformation | None
    reduction: str
    hidden_layer_sizes: Sequence[int]
    channels: Sequence[int]
    image_shape: tuple[int, int] | None
    optimizer: str | optax.GradientTransformation
    learning_rate: float | Callable[[int], float]
    momentum: float
    weight_decay: float
    batch_size: int
    sampling: bool
    mixup: Mixup | None
    early_stopping: bool | str
    refit: bool
    validation_fraction: float
    alarm_thresholds: alarms.Thresholds | None
    alarm_action: str
    max_rollbacks: int
    shares: Shares
    decision: Shares
    prior_correction: Shares | None
    temperature_scaling: bool
    checkpoint_dir: str | Path | None
    dtype: str
    random_state: int | np.random.RandomState | None
    verbose: bool | int
    classes_: np.ndarray
    """The labels of the training data, which `fit` sets first."""


class Prepared(NamedTuple):
    """All that a training run begins with."""

    task: runs.Task
    options: runs.TrainingOptions
    params: networks.Params
    """The parameters of the untrained network."""


def check(classifier: GivenParameters) -> None:
    """Refuse bad values of those parameters that no other function here reads before training."""
    if classifier.schedule is not None:
        allowed = "a transformation of ssm.schedules, or None"
        weighting.checked_schedule("schedule", classifier.schedule, allowed)
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
    checks.flag("sampling", classifier.sampling)
    if classifier.mixup is not None and not isinstance(classifier.mixup, Mixup):
        raise invalid("mixup", classifier.mixup, "an ssm.practice.batches.Mixup, or None")
    draws = "sampling" if classifier.sampling else "mixup" if classifier.mixup else ""
    if draws and classifier.reduction != "mean":
        raise invalid("reduction", classifier.reduction, f"'mean' where there is {draws}")
    if not isinstance(classifier.verbose, bool | Integral):
        raise invalid("verbose", classifier.verbose, "True, False or an integer")
    checks.real("validation_fraction", classifier.validation_fraction, 0, 1, open_ends="()")


def wanted_shares(classifier: GivenParameters) -> Shares:
    """The class shares that probabilities are for: the parameter `shares`, or its alias
    `prior_correction`."""
    shares, alias = classifier.shares, classifier.prior_correction
    shares_of.checked("shares", shares, shares_of.NAMES)
    if alias is None:
        return shares
    shares_of.checked("prior_correction", alias, shares_of.NAMES)
    if shares not in ("none", alias):
        raise invalid(
            "prior_correction", alias, "left out where shares are given: it is their alias"
        )
    return alias


def wanted_decision(classifier: GivenParameters) -> Shares:
    """The class shares that `predict` decides for."""
    return shares_of.checked("decision", classifier.decision, shares_of.DECISIONS)


def why_no_posterior(
    classifier: GivenParameters, loss: objective.Loss, sample_weights: Float[np.ndarray, " n"]
) -> str:
    """The reason why the posterior cannot be read off the logits of a network trained on samples of
    these weights; an empty string where it can be."""
    if not objective.has_posterior(loss):
        return "label_smoothing with a margin or a focal factor has no inverse in closed form"
    batch_size = checks.integer("batch_size", classifier.batch_size, 1, 10**9)
    has_batches = batch_size < len(sample_weights)
    has_weights = (
        classifier.class_weight is not None
        or classifier.schedule is not None
        or np.ptp(sample_weights) > 0
    )
    if classifier.reduction == "weighted_mean" and has_batches and has_weights:
        return "weighted_mean over mini-batches trains with other ratios than the weights'"
    return ""


def why_weights_are_weaker(
    classifier: GivenParameters, labels: Int[np.ndarray, " n"], counts: Float[np.ndarray, " k"]
) -> str:
    """The sentence that warns where a weighted mean over mini-batches makes less than half of the ratio of
    fixed class weights; an empty string elsewhere. The batches of a pass are of `batch_size` samples, but
    for the last, and samples weigh what those of their class do on average.

    Args:
        labels: class of each training sample.
        counts: sums of the sample weights of each class.
    """
    size, n = classifier.batch_size, len(labels)
    if classifier.reduction != "weighted_mean" or classifier.schedule is not None or size >= n:
        return ""
    number = np.bincount(labels, minlength=len(counts))
    asked, each = class_weights(classifier, counts), counts / number
    sizes = [size] * (n // size) + [n % size] * (n % size > 0)
    laws = {b: weights.effective_class_weights(number, asked * each, b) for b in set(sizes)}
    effective = np.mean([laws[b] for b in sizes], axis=0) / each
    high, low = asked.argmax(), asked.argmin()
    ratio, found = asked[high] / asked[low], effective[high] / effective[low]
    if found >= ratio / 2:
        return ""
    return (
        f"class weights of ratio {ratio:.3g} act as {found:.3g} in the weighted mean over batches of {size}: "
        "take reduction='mean', which keeps the ratio, or larger batches"
    )


def holds_out(classifier: GivenParameters) -> bool:
    """Whether samples are held out from training: for early stopping, for a temperature, or for a
    schedule that asks for each class's performance."""
    schedule = classifier.schedule
    is_adaptive = schedule is not None and schedule.needs_performance
    return score_name(classifier) is not None or classifier.temperature_scaling or is_adaptive


def score_name(classifier: GivenParameters) -> options.Score | None:
    """The performance by which evaluations are compared for early stopping; None without it."""
    name = classifier.early_stopping
    if isinstance(name, bool):
        return options.SCORES[0] if name else None
    if name not in options.SCORES:
        allowed = f"False, True or {one_of(name, options.SCORES)}"
        raise invalid("early_stopping", name, allowed)
    return cast(options.Score, name)


def loss(classifier: GivenParameters, counts: Float[np.ndarray, " k"]) -> objective.Loss:
    """The loss for classes of these sizes, with the numbers that are given, or else published for it."""
    name = checks.choice("loss", classifier.loss, get_args(Loss))
    given = {field: getattr(classifier, field) for field in NEUTRAL}
    given = {field: value for field, value in given.items() if value is not None}
    if name == "squared":
        if given:
            raise invalid(*next(iter(given.items())), "left out for the squared loss")
        return losses.Squared()
    numbers = NEUTRAL | MARGIN_LOSSES.get(name, {}) | given
    for field, value in numbers.items():
        numbers[field] = interval(LossFields, field).real(field, value)
    return losses.adjustment(counts, **numbers)


def class_weights(
    classifier: GivenParameters, counts: Float[np.ndarray, " k"]
) -> Float[np.ndarray, " k"]:
    """The fixed class weights in the order of `classes_`, shape (k,)."""
    return weighting.by_label(classifier.class_weight, counts, classifier.classes_)


def architecture(classifier: GivenParameters, num_features: int) -> networks.Architecture:
    """The layers of the network for so many features."""
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
    """The number of training steps where it is left out: 1000, or those of 20 passes over the data if
    these are more."""
    return max(FEWEST_STEPS, math.ceil(PASSES * num_samples / batch_size))


def training_options(
    classifier: GivenParameters, loss: objective.Loss, seed: int, num_samples: int
) -> runs.TrainingOptions:
    """The options of training on so many samples, with a loss and a seed that are given."""
    rate = classifier.learning_rate
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
    patience = given("patience", PATIENCE * interval)
    action = checks.choice("alarm_action", classifier.alarm_action, options.ACTIONS)
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
        action=cast(options.Action, action),
        max_rollbacks=checks.integer("max_rollbacks", classifier.max_rollbacks, 0, 10**6),
        seed=seed,
        sampling=classifier.sampling,
        mixup=classifier.mixup,
    )


def prepared(
    classifier: GivenParameters,
    train: tasks.Samples,
    evaluated: tasks.Samples | None,
    seed: int,
    rows: int = 0,
) -> Prepared:
    """The training run of a classifier on these samples; the last three arguments are those of
    `tasks.make_task`. The seed is that of the network and of the mini-batches too."""
    num_features = train.X.shape[1]
    counts = np.bincount(train.labels, train.sample_weights)
    layers = architecture(classifier, num_features)
    chosen = training_options(classifier, loss(classifier, counts), seed, len(train.labels))
    fixed = class_weights(classifier, counts)
    dtype = checks.choice("dtype", classifier.dtype, DTYPES)
    task = tasks.make_task(train, evaluated, fixed, layers, dtype, seed, rows)
    rng = np.random.default_rng(seed)
    params = networks.init_params(layers, num_features, len(counts), rng, dtype)
    return Prepared(task, chosen, params)
