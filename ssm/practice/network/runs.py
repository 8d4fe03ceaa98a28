"""What a run of training is made of: how to train, what on, and how far it has come."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import optax
from jaxtyping import Float, Int

from ssm.practice.network import alarms, monitors, objective
from ssm.practice.network.networks import Params
from ssm.problem import schedules

Optimizer = Literal["gd", "momentum", "nesterov", "adam"]
OPTIMIZERS = get_args(Optimizer)


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
    """How to train. Times are in steps, one update on one mini-batch each."""

    num_steps: int
    batch_size: int
    evaluate_every: int
    learning_rate: float | Callable[[int], float]
    """A number, or a schedule of the step, of optax say."""
    optimizer: str | optax.GradientTransformation
    """One of `OPTIMIZERS`, or a transformation of optax made for a learning rate of 1."""
    momentum: float
    weight_decay: float
    """Apart from the gradient: kernels lose learning_rate x weight_decay of themselves a step."""
    reduction: str
    loss: objective.Loss
    schedule: schedules.Transformation | None
    """Of the class weights, after the fixed ones; None keeps those."""
    score: str
    """By which evaluations after the first step are compared: one of `options.SCORES`. Equal ones are
    compared by the mean class loss."""
    patience: int | None
    """Stop after so many steps without a better evaluation, or since the last roll-back; None
    trains to the end."""
    thresholds: alarms.Thresholds
    action: str
    """What an alarm does, one of `options.ACTIONS`. `roll_back` takes parameters, optimiser and
    weights back to the best evaluation and goes on at half the learning rate."""
    max_rollbacks: int
    """After these an alarm stops the run."""
    seed: int


class Task(NamedTuple):
    """What to train on: rows of zeros pad the samples, at least one."""

    X: Float[Any, "n f"]
    labels: Int[Any, " n"]
    sample_weights: Float[Any, " n"]
    """How often each sample counts, over the mean of the samples that are not padding."""
    num_samples: int
    class_counts: Float[np.ndarray, " k"]
    """Samples of each class, each counted with its weight."""
    class_weights: Float[np.ndarray, " k"]
    """Fixed weights, which the schedule changes."""
    watched: monitors.Watched
    image_shape: tuple[int, int] | None


class State(NamedTuple):
    """All that a roll-back restores."""

    params: Params
    optimizer_state: Any
    schedule_state: Any
    class_weights: Float[Any, " k"]


class TrainingRun(NamedTuple):
    """A run so far: all that the next interval depends on."""

    state: State
    best: State
    """Of the evaluation with the best score, to which a roll-back returns."""
    kept: State
    """Of the latest evaluation that is not worse than the best one beyond noise: what early stopping
    ends with."""
    step: int
    rate_scale: float
    """Halved by each roll-back."""
    rows: tuple[dict[str, Any], ...]
    """Evaluations (`monitors.row`)."""
    best_row: int
    best_values: Float[Any, " e"]
    """What each evaluated sample adds to the best score (`monitors.sample_values`)."""
    kept_row: int
    since: int
    """The first row after the last roll-back."""
    alarms: tuple[tuple[alarms.Alarm, str], ...]
    """Alarms and what each did."""
    rollbacks: int
    status: str
    """running, finished, stopped early, stopped by an alarm, or not finite"""
