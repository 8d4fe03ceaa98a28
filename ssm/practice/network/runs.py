"""The parts of a training run: its options, the task it trains on, and the state it has reached."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import numpy as np
import optax
from jaxtyping import Float, Int, PyTree

from ssm.practice.network import alarms, monitors, objective
from ssm.practice.network.batches import Mixup
from ssm.practice.network.networks import Params
from ssm.practice.options import Action, Score
from ssm.problem import schedules
from ssm.support.arrays import AnyArray

Optimizer = Literal["gd", "momentum", "nesterov", "adam"]
OPTIMIZERS = get_args(Optimizer)


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
    """How a network is trained. Times are in steps, each one update on one mini-batch."""

    num_steps: int
    batch_size: int
    evaluate_every: int
    learning_rate: float | Callable[[int], float]
    """A number, or a function of the step, such as a schedule of optax."""
    optimizer: str | optax.GradientTransformation
    """One of `OPTIMIZERS`, or a transformation of optax that was made for a learning rate of 1."""
    momentum: float
    weight_decay: float
    """Each step multiplies the kernels by 1 - learning_rate x weight_decay, apart from the gradient."""
    reduction: str
    """How the losses of a mini-batch are averaged, one of `losses.REDUCTIONS`."""
    loss: objective.Loss
    schedule: schedules.Transformation | None
    """A transformation of the fixed class weights; None keeps them as they are."""
    score: Score
    """The performance by which evaluations after the first step are compared. Evaluations that are
    equal in it are compared by their mean class loss."""
    patience: int | None
    """Training stops after so many steps without a better evaluation, counted anew from a roll-back;
    None trains to the end."""
    thresholds: alarms.Thresholds
    action: Action
    """What an alarm does. `roll_back` returns parameters, optimiser and weights to the best evaluation
    and goes on at half the learning rate."""
    max_rollbacks: int
    """After so many roll-backs the next alarm stops the run."""
    seed: int
    """The seed of the mini-batches."""
    sampling: bool = False
    """Whether class weights act by how often samples are drawn into mini-batches, instead of in the loss."""
    mixup: Mixup | None = None
    """How samples of a mini-batch are mixed; None leaves them as they are."""


class Task(NamedTuple):
    """The samples that a network is trained on, followed by rows of zeros as padding, at least one."""

    X: Float[AnyArray, "n f"]
    labels: Int[AnyArray, " n"]
    sample_weights: Float[AnyArray, " n"]
    """How often each sample counts, divided by the mean over the samples; 0 in rows of padding."""
    num_samples: int
    """The number of samples without padding."""
    class_counts: Float[np.ndarray, " k"]
    """The size of each class, every sample counted with its weight."""
    class_weights: Float[np.ndarray, " k"]
    """The fixed weights, to which the schedule is applied."""
    watched: monitors.Watched
    image_shape: tuple[int, int] | None


class State(NamedTuple):
    """The part of a run that a roll-back restores."""

    params: Params
    optimizer_state: PyTree
    schedule_state: PyTree
    class_weights: Float[AnyArray, " k"]


class TrainingRun(NamedTuple):
    """A run so far: everything that its next interval depends on."""

    state: State
    best: State
    """The state at the evaluation with the best score, to which a roll-back returns."""
    kept: State
    """The state that early stopping ends with: that of the latest evaluation whose score is within
    noise of the best one."""
    step: int
    rate_scale: float
    """A factor on the learning rate, halved by each roll-back."""
    rows: tuple[monitors.Evaluation, ...]
    """The evaluations so far, the untrained network's first. This entry and those below are those of `decisions.Course`."""
    best_row: int
    best_values: Float[AnyArray, " e"]
    kept_row: int
    since: int
    alarms: tuple[tuple[alarms.Alarm, Action], ...]
    rollbacks: int
    status: str
