"""What a training run does after an evaluation: it decides which evaluation is the best so far, and whether to go on, to stop or
to roll back. Every run follows these rules, whatever its network is; nothing here needs JAX."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ssm.practice.network import alarms, monitors
from ssm.practice.network.alarms import Alarm
from ssm.practice.network.monitors import Evaluated, Gradients, Judged
from ssm.practice.options import Action, Score
from ssm.practice.statistics import standard_errors

ENDED_BY_ALARM = ("stopped by an alarm", "not finite")
"""The endings of runs after which the best evaluation is kept, rather than the latest within noise of it."""


@dataclasses.dataclass(frozen=True)
class Rules:
    """All that decisions depend on beside the evaluations."""

    evaluated: Evaluated
    score: Score
    """The performance by which evaluations after the first step are compared. Evaluations that are
    equal in it are compared by their mean class loss."""
    num_steps: int | None
    """The number of steps after which training is finished; None where the caller ends it."""
    patience: int | None
    """Training stops after so many steps without a better evaluation, counted anew from a roll-back;
    None trains to the end."""
    thresholds: alarms.Thresholds
    action: Action
    """What an alarm does."""
    max_rollbacks: int
    """After so many roll-backs the next alarm stops the run."""
    bounds: tuple[float, float]
    """The lowest and the highest class weight that there can be."""


class Course(NamedTuple):
    """How a run has gone so far."""

    rows: tuple[Judged, ...]
    """The evaluations, the untrained network's first."""
    best_row: int
    """The index of the best evaluation."""
    best_values: Float[np.ndarray, " e"]
    """What each evaluated sample contributes to the best score (`monitors.sample_values`)."""
    kept_row: int
    """The index of the latest evaluation whose score is within noise of the best one."""
    since: int
    """The index of the first evaluation after the last roll-back."""
    alarms: tuple[tuple[Alarm, Action], ...]
    """The alarms, each with the action that followed."""
    rollbacks: int
    """How many roll-backs there were."""
    status: str
    """`running`, `finished`, `stopped early`, `stopped by an alarm` or `not finite`."""


def begun(row: Judged, values: Float[np.ndarray, " e"]) -> Course:
    """The course of a run of which only the untrained network was evaluated."""
    return Course((row,), 0, values, 0, 0, (), 0, "running")


def judge(
    rules: Rules,
    course: Course,
    row: Judged,
    values: Float[np.ndarray, " e"],
    gradients: Sequence[Gradients],
    class_shares: Float[np.ndarray, " g"],
) -> Course:
    """The course after one more evaluation and the actions that its alarms ask for. Where the run is to be rolled back, `rollbacks` is
    larger than before.

    Args:
        values: what each evaluated sample contributes to the score.
        gradients, class_shares: those of all evaluations, this one included, as for `alarms.raised`.
    """
    rows = (*course.rows, row)
    course = course._replace(rows=rows)
    raised = alarms.raised(
        rows,
        rows[course.best_row],
        course.since,
        gradients,
        class_shares,
        np.bincount(
            rules.evaluated.labels, rules.evaluated.sample_weights > 0, len(row["class_recall"])
        ),
        rules.bounds,
        rules.thresholds,
    )
    # An evaluation that triggers a stop or a roll-back never becomes the best one.
    acting = [alarm for alarm in raised if alarm.alarm not in alarms.WARNS_ONLY]
    if not acting or rules.action == "warn":
        course = _compared(rules, course, values)
    course = _act(rules, course, raised)
    none_is_best = course.status == "stopped by an alarm" and course.best_row == 0
    if none_is_best and np.isfinite(_score(rules, row)[0]):
        # The untrained network would be no result, so the one that the alarm stopped is kept.
        last = len(rows) - 1
        course = course._replace(best_row=last, kept_row=last)
    if course.status == "running":
        waited = row["step"] - rows[max(course.best_row, course.since - 1)]["step"]
        if rules.num_steps is not None and row["step"] >= rules.num_steps:
            course = course._replace(status="finished")
        elif rules.patience is not None and waited >= rules.patience:
            course = course._replace(status="stopped early")
    return course


def _compared(rules: Rules, course: Course, values: Float[np.ndarray, " e"]) -> Course:
    """Keep the newest evaluation where it has the best score, or where it is worse than the best by at
    most one standard error of the difference over the samples that both were measured on."""
    newest, row = len(course.rows) - 1, course.rows[-1]
    score, best = _score(rules, row), _score(rules, course.rows[course.best_row])
    if score > best:
        return course._replace(best_row=newest, best_values=values, kept_row=newest)
    recalls = [course.rows[i]["class_recall"] for i in (course.best_row, newest)]
    differences = values - course.best_values
    noise = standard_errors.of_difference(differences, *rules.evaluated, recalls, rules.score)
    if np.isfinite(score[0]) and best[0] - score[0] <= noise:
        return course._replace(kept_row=newest)
    return course


def _act(rules: Rules, course: Course, raised: list[Alarm]) -> Course:
    """Record the alarms that were raised, and stop the run or roll it back where they ask for it."""
    if not raised:
        return course
    acting = [alarm for alarm in raised if alarm.alarm not in alarms.WARNS_ONLY]
    action = rules.action if acting else "warn"
    is_broken = any(alarm.alarm == "not_finite" for alarm in raised)
    is_spent = action == "roll_back" and course.rollbacks == rules.max_rollbacks
    if is_spent or (is_broken and action == "warn"):  # Numbers that are not finite never recover.
        action = "stop"
    actions = (action if alarm in acting else "warn" for alarm in raised)
    course = course._replace(alarms=(*course.alarms, *zip(raised, actions, strict=True)))
    if action == "roll_back":
        return course._replace(
            kept_row=course.best_row, rollbacks=course.rollbacks + 1, since=len(course.rows)
        )
    if is_broken:
        return course._replace(status="not finite")
    return course._replace(status="stopped by an alarm") if action == "stop" else course


def _score(rules: Rules, row: Judged) -> tuple[float, float]:
    """The pair by which evaluations are compared: the score, and then the mean class loss with its sign reversed. An evaluation
    that is not finite, and that of the untrained network, whose score is chance, are worse than all others."""
    score = monitors.merit(row, rules.score)
    loss = float(np.mean(row["class_loss"]))
    finite = np.isfinite([score, loss, row["gradient_norm"]]).all() and row["step"] > 0
    return (score, -loss) if finite else (-np.inf, -np.inf)
