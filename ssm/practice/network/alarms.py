"""Alarms of a training run: each evaluation is compared with thresholds, and whatever has gone wrong is
reported with a reason."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ssm.practice.network.monitors import Gradients, Judged
from ssm.practice.options import Action
from ssm.practice.statistics import standard_errors
from ssm.support import checks


class TrainingWarning(UserWarning):
    """The category of the warnings that a fit gives about its training: an alarm was raised, early
    stopping ended at the first evaluation, or the steps make too few passes over the data."""


FEWEST_PASSES = 2  # A fit warns where its steps make fewer passes over the training samples.
NOISE = 3.0  # The number of standard errors of a share that is allowed on top of a threshold.


class Alarm(NamedTuple):
    """One thing that went wrong at one evaluation."""

    step: float
    alarm: str
    """`class_drop`, `gradient_jump`, `weight_at_bound`, `calibration_drop` or `not_finite`. An `ssm.Tracker` raises
    `class_behind`, `minority_collapse` or `not_finite`."""
    class_index: int | None
    """The class that it is about; None where it is about several or all classes."""
    value: float
    """The number that was watched."""
    threshold: float
    """The limit that it passed."""
    reason: str
    """What happened, in words."""


WARNS_ONLY = ("weight_at_bound",)
"""These alarms never stop a run or roll it back, whatever the action is."""


def sentence(alarm: Alarm, action: Action, classes: Sequence[object]) -> str:
    """An alarm as one line of a log: its step, its name, its class, its reason and what is done."""
    of_class = "" if alarm.class_index is None else f" of class {classes[alarm.class_index]}"
    consequences: dict[Action, str] = {
        "warn": "going on",
        "stop": "stopping",
        "roll_back": "rolling back",
    }
    return f"step {alarm.step}: {alarm.alarm}{of_class}: {alarm.reason}; {consequences[action]}"


def remarks(
    raised: Sequence[tuple[Alarm, Action]],
    classes: Sequence[object],
    kept: int,
    num_evaluations: int,
    passes: float,
    status: str,
) -> list[str]:
    """The sentences that warn a user of what has gone wrong in a network's training; none where all is well.

    Args:
        raised: the alarms that were raised, each with the action that followed.
        classes: the names of the classes.
        kept: the number of the evaluation whose network is kept; 0 is that of the untrained network.
        num_evaluations: how many evaluations there were, the untrained network's included.
        passes: how many passes over the training samples were asked for.
        status: how the run ended.
    """
    sentences = []
    if raised:
        more = f" (and {len(raised) - 1} more in alarms_)" if len(raised) > 1 else ""
        sentences.append(f"alarm at {sentence(*raised[0], classes)}{more}")
    if kept == 0:
        sentences.append("the network kept is untrained: no evaluation after a step was finite")
    elif status == "stopped by an alarm":
        sentences.append(f"an alarm ended training; the network of evaluation {kept} is kept")
    elif kept == 1 and num_evaluations > 2:
        sentences.append(
            "early stopping kept the network of the first evaluation after the start: evaluate more "
            "often, lower the learning rate, or hold out more samples"
        )
    if passes < FEWEST_PASSES:
        sentences.append(
            f"num_steps asks for {passes:.2g} passes over the training samples, which may be too few"
        )
    return sentences


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """The thresholds at which alarms are raised.

    Performance is compared with the best evaluation so far, the one that a roll-back returns to, and
    never with the untrained network's. Three standard errors of a share of the evaluated samples are
    allowed on top of each drop, so that there are fewer alarms where few samples are held out.
    """

    class_drop: float = 0.15
    """`class_drop` is raised where a class's recall is lower by more than this than it was at the best
    evaluation ..."""
    class_drop_evaluations: int = 3
    """... for so many evaluations in a row."""
    gradient_jump: float = 10.0
    """`gradient_jump` is raised where the gradient's norm exceeds so many times its median over the
    earlier evaluations of the trained network, all of them under the current class weights. In 3100
    undisturbed runs the norm reached at most 5 times that median."""
    weight_at_bound_evaluations: int = 3
    """`weight_at_bound` is raised where a class's weight has moved to a bound of its schedule and
    stayed there for so many evaluations in a row. This alarm only warns, whatever the action is,
    since a bound is there to be reached."""
    calibration_drop: float = 0.1
    """`calibration_drop` is raised where the calibration error is higher by more than this than it
    was at the best evaluation ..."""
    calibration_drop_evaluations: int = 3
    """... for so many evaluations in a row."""

    def __post_init__(self) -> None:
        checks.real("class_drop", self.class_drop, 0)
        checks.real("gradient_jump", self.gradient_jump, 1)
        checks.real("calibration_drop", self.calibration_drop, 0)
        for name in ("class_drop", "weight_at_bound", "calibration_drop"):
            field = f"{name}_evaluations"
            checks.integer(field, getattr(self, field), 1, 10**6)


def raised(
    rows: Sequence[Judged],
    best: Judged,
    since: int,
    gradients: Sequence[Gradients],
    class_shares: Float[np.ndarray, " g"],
    evaluated: np.ndarray,
    bounds: tuple[float, float],
    thresholds: Thresholds,
) -> list[Alarm]:
    """The alarms that the last of `rows` raises. A condition that lasts raises its alarm only once.

    Args:
        rows: the evaluations so far (`monitors.judged`).
        best: the best of them.
        since: the index of the first evaluation after the last roll-back, where counting starts anew.
        gradients: the gradients at each of these evaluations by class, or as those of a single class where only the
            gradient of all classes together is known.
        class_shares: the share of the training samples of each class that `gradients` tells apart.
        evaluated: how many samples of each class are evaluated, shape (k,).
        bounds: the lowest and the highest weight that the schedule allows.
    """
    now, step = rows[-1], rows[-1]["step"]
    if not math.isfinite(now["loss"]) or not math.isfinite(now["gradient_norm"]):
        reason = "the loss or its gradient is no finite number"
        return [Alarm(step, "not_finite", None, now["loss"], math.inf, reason)]
    newly_raised = _gradient_jump(step, gradients, class_shares, since, thresholds)
    for c in range(len(evaluated)):
        newly_raised += _weight_at_bound(rows[since:], c, bounds, thresholds)
    if best["step"] == 0:  # There is no trained network yet whose performance could get worse.
        return newly_raised
    trained = rows[max(since, 1) :]
    for c, samples in enumerate(evaluated):
        newly_raised += _class_drop(trained, best, c, samples, thresholds)
    return newly_raised + _calibration_drop(trained, best, evaluated.sum(), thresholds)


def _first_time(marks: list[bool], evaluations: int) -> bool:
    """Whether the last `evaluations` marks are set and the one before is not, which happens once in each unbroken series."""
    return (
        len(marks) >= evaluations
        and all(marks[-evaluations:])
        and not any(marks[-evaluations - 1 : -evaluations])
    )


def _class_drop(
    rows: Sequence[Judged],
    best: Judged,
    c: int,
    samples: float,
    thresholds: Thresholds,
) -> list[Alarm]:
    """The alarm that the recall of class c has fallen, if it is raised now."""
    reference = best["class_recall"][c]
    limit = reference - thresholds.class_drop - NOISE * standard_errors.of_share(reference, samples)
    marks = [row["class_recall"][c] < limit for row in rows]
    if not _first_time(marks, thresholds.class_drop_evaluations):
        return []
    value = rows[-1]["class_recall"][c]
    reason = (
        f"recall {value:.2f} where it was {reference:.2f} at step {best['step']}, "
        f"{thresholds.class_drop_evaluations} evaluations in a row"
    )
    return [Alarm(rows[-1]["step"], "class_drop", c, value, limit, reason)]


def _gradient_jump(
    step: int,
    rows: Sequence[Gradients],
    class_shares: Float[np.ndarray, " g"],
    since: int,
    thresholds: Thresholds,
) -> list[Alarm]:
    """The alarm that the gradient has jumped, if it is raised now. Evaluations before a roll-back count
    for the median, but a jump among them does not keep the alarm from being raised again."""
    value, usual = _gradient_norms(rows, class_shares)
    limit = thresholds.gradient_jump * usual
    if not value > limit:
        return []
    if len(rows) - 1 > max(since, 1):
        before, usual_before = _gradient_norms(rows[:-1], class_shares)
        if before > thresholds.gradient_jump * usual_before:
            return []
    reason = f"gradient norm {value:.3g} where the median so far is {usual:.3g}"
    return [Alarm(step, "gradient_jump", None, value, limit, reason)]


def _gradient_norms(
    rows: Sequence[Gradients], class_shares: Float[np.ndarray, " g"]
) -> tuple[float, float]:
    """The norm of the risk's gradient at the last of `rows`, |sum_c pi_c w_c g_c|, and its median over
    the earlier ones. The weights w are those of the last row throughout, so that a jump of the weights
    does not pass for a jump of the gradient."""
    pull = class_shares * rows[-1]["class_weight"]
    pulls = pull * np.array([row["class_gradient_norm"] for row in rows])
    squares = np.einsum("ti,tij,tj->t", pulls, np.array([row["cosine"] for row in rows]), pulls)
    norms = np.sqrt(squares.clip(0))
    # The untrained network does not count: a loss that starts near its minimum has no gradient there.
    earlier = norms[1:-1]
    usual = earlier[np.isfinite(earlier)]
    return float(norms[-1]), float(np.median(usual)) if len(usual) else math.inf


def _weight_at_bound(
    rows: Sequence[Judged], c: int, bounds: tuple[float, float], thresholds: Thresholds
) -> list[Alarm]:
    """The alarm that the weight of class c stays at a bound, if it is raised now."""
    weights = np.array([row["class_weight"][c] for row in rows])
    for bound in bounds:
        # A weight that begins at a bound is meant to be there and raises nothing.
        marks = np.isclose(weights, bound, rtol=1e-6, atol=0)
        evaluations = thresholds.weight_at_bound_evaluations
        if not marks[0] and _first_time(marks.tolist(), evaluations):
            reason = f"weight {weights[-1]:.3g} at its bound, {evaluations} evaluations in a row"
            value = float(weights[-1])
            return [Alarm(rows[-1]["step"], "weight_at_bound", c, value, bound, reason)]
    return []


def _calibration_drop(
    rows: Sequence[Judged], best: Judged, samples: float, thresholds: Thresholds
) -> list[Alarm]:
    """The alarm that calibration has got worse, if it is raised now."""
    reference = best["calibration_error"]
    limit = reference + thresholds.calibration_drop + NOISE * standard_errors.of_share(0.5, samples)
    marks = [row["calibration_error"] > limit for row in rows]
    if not _first_time(marks, thresholds.calibration_drop_evaluations):
        return []
    value = rows[-1]["calibration_error"]
    reason = (
        f"calibration error {value:.2f} where it was {reference:.2f} at step {best['step']}, "
        f"{thresholds.calibration_drop_evaluations} evaluations in a row"
    )
    return [Alarm(rows[-1]["step"], "calibration_drop", None, value, limit, reason)]
