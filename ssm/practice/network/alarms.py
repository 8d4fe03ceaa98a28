"""Alarms: what a run's evaluations say has gone wrong, by thresholds and with a reason."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from ssm.support import checks


class TrainingWarning(UserWarning):
    """What a fit has to say of its training: alarms, an early stop at the first evaluation, too few
    passes over the data."""


FEWEST_PASSES = 2  # over the training samples, below which training is said to be short
NOISE = 3.0  # standard errors of a share of m evaluated samples that are no failure


class Alarm(NamedTuple):
    """Something that went wrong at an evaluation."""

    step: int
    alarm: str
    """class_drop, gradient_jump, weight_at_bound, calibration_drop or not_finite"""
    class_index: int | None
    value: float
    threshold: float
    reason: str


WARNS_ONLY = ("weight_at_bound",)
"""Alarms that never stop a run or take it back."""


def sentence(alarm: Alarm, action: str, classes: Sequence[Any]) -> str:
    """An alarm in words, for a log."""
    of_class = "" if alarm.class_index is None else f" of class {classes[alarm.class_index]}"
    done = {"warn": "going on", "stop": "stopping", "roll_back": "rolling back"}[action]
    return f"step {alarm.step}: {alarm.alarm}{of_class}: {alarm.reason}; {done}"


def remarks(
    raised: Sequence[tuple[Alarm, str]],
    classes: Sequence[Any],
    kept: int,
    num_evaluations: int,
    passes: float,
    status: str,
) -> list[str]:
    """What is amiss in the training of a network, in sentences.

    Args:
        raised: alarms and what each did.
        classes: their names.
        kept: the evaluation after which the network is kept, 0 the untrained one.
        num_evaluations: that there were, the untrained network's too.
        passes: over the training samples that were asked for.
        status: how the run ended.
    """
    said = []
    if raised:
        more = f" (and {len(raised) - 1} more in alarms_)" if len(raised) > 1 else ""
        said.append(f"alarm at {sentence(*raised[0], classes)}{more}")
    if kept == 0:
        said.append("the network kept is untrained: no evaluation after a step was finite")
    elif status == "stopped by an alarm":
        said.append(f"an alarm ended training; the network of evaluation {kept} is kept")
    elif kept == 1 and num_evaluations > 2:
        said.append(
            "early stopping kept the network of the first evaluation after the start: evaluate more "
            "often, lower the learning rate, or hold out more samples"
        )
    if passes < FEWEST_PASSES:
        said.append(
            f"num_steps asks for {passes:.2g} passes over the training samples, which may be too few"
        )
    return said


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """When to raise an alarm. Performances are held against the best evaluation so far, the one a
    roll-back returns to, and never against the untrained network's; differences below three standard
    errors of a share of the evaluated samples are left out, so alarms are quieter where few samples
    are held out."""

    class_drop: float = 0.15
    """A class's recall fell by more than this below what it was at the best evaluation ..."""
    class_drop_evaluations: int = 3
    """... at so many evaluations in a row."""
    gradient_jump: float = 10.0
    """The gradient's norm is above this many times the median since the first evaluation after a
    step, which is of what it was under the weights of now. In 3100 undisturbed runs it came to 5 times that."""
    weight_at_bound_evaluations: int = 3
    """A class's weight has come to a bound of its schedule and was there at so many evaluations in a
    row. This alarm warns only, whatever the action is: to be reached is what a bound is for."""
    calibration_drop: float = 0.1
    """The calibration error rose by more than this above what it was at the best evaluation ..."""
    calibration_drop_evaluations: int = 3
    """... at so many evaluations in a row."""

    def __post_init__(self) -> None:
        checks.real("class_drop", self.class_drop, 0)
        checks.real("gradient_jump", self.gradient_jump, 1)
        checks.real("calibration_drop", self.calibration_drop, 0)
        for name in ("class_drop", "weight_at_bound", "calibration_drop"):
            field = f"{name}_evaluations"
            checks.integer(field, getattr(self, field), 1, 10**6)


def raised(
    rows: Sequence[dict[str, Any]],
    best: dict[str, Any],
    since: int,
    class_shares: Float[np.ndarray, " k"],
    evaluated: np.ndarray,
    bounds: tuple[float, float],
    thresholds: Thresholds,
) -> list[Alarm]:
    """The alarms that the last of `rows` raises; one that goes on is raised once.

    Args:
        rows: evaluations so far (`monitors.row`).
        best: the best of them so far.
        since: index of the first one after the last roll-back, where counting begins anew.
        class_shares: of each class among the training samples, shape (k,).
        evaluated: samples of each class that are evaluated, shape (k,).
        bounds: between which the weights' schedule keeps them.
    """
    now, step = rows[-1], rows[-1]["step"]
    if not math.isfinite(now["loss"]) or not math.isfinite(now["gradient_norm"]):
        reason = "the loss or its gradient is no finite number"
        return [Alarm(step, "not_finite", None, now["loss"], math.inf, reason)]
    found = _gradient_jump(rows, class_shares, since, thresholds)
    for c in range(len(evaluated)):
        found += _weight_at_bound(rows[since:], c, bounds, thresholds)
    if best["step"] == 0:  # nothing is known yet that could get worse
        return found
    trained = rows[max(since, 1) :]
    for c, samples in enumerate(evaluated):
        found += _class_drop(trained, best, c, samples, thresholds)
    return found + _calibration_drop(trained, best, evaluated.sum(), thresholds)


def _first_time(marks: list[bool], evaluations: int) -> bool:
    """Whether the marks end in exactly so many in a row."""
    return (
        len(marks) >= evaluations
        and all(marks[-evaluations:])
        and not any(marks[-evaluations - 1 : -evaluations])
    )


def _standard_error(share: float, samples: float) -> float:
    """Of a share of so many samples, after one more of each kind, so that it is not 0 at 0 and 1."""
    smoothed = (share * samples + 1) / (samples + 2)
    return math.sqrt(smoothed * (1 - smoothed) / samples)


def _class_drop(
    rows: Sequence[dict[str, Any]],
    best: dict[str, Any],
    c: int,
    samples: float,
    thresholds: Thresholds,
) -> list[Alarm]:
    reference = best["class_recall"][c]
    limit = reference - thresholds.class_drop - NOISE * _standard_error(reference, samples)
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
    rows: Sequence[dict[str, Any]],
    class_shares: Float[np.ndarray, " k"],
    since: int,
    thresholds: Thresholds,
) -> list[Alarm]:
    """What a roll-back left behind does not go on, but it belongs to what was so far."""
    value, usual = _gradient_norms(rows, class_shares)
    limit = thresholds.gradient_jump * usual
    if not value > limit:
        return []
    if len(rows) - 1 > max(since, 1):
        before, usual_before = _gradient_norms(rows[:-1], class_shares)
        if before > thresholds.gradient_jump * usual_before:
            return []
    reason = f"gradient norm {value:.3g} where the median so far is {usual:.3g}"
    return [Alarm(rows[-1]["step"], "gradient_jump", None, value, limit, reason)]


def _gradient_norms(
    rows: Sequence[dict[str, Any]], class_shares: Float[np.ndarray, " k"]
) -> tuple[float, float]:
    """Of the risk under the weights of the last of `rows`: |sum_c pi_c w_c g_c| there, and the median
    of what it was before, so that weights which jump are no gradient which does."""
    pull = class_shares * rows[-1]["class_weight"]
    pulls = pull * np.array([row["class_gradient_norm"] for row in rows])
    squares = np.einsum("ti,tij,tj->t", pulls, np.array([row["cosine"] for row in rows]), pulls)
    norms = np.sqrt(squares.clip(0))
    # The untrained network is no reference: a loss that starts near its minimum has no gradient there.
    before = norms[1:-1]
    usual = before[np.isfinite(before)]
    return float(norms[-1]), float(np.median(usual)) if len(usual) else math.inf


def _weight_at_bound(
    rows: Sequence[dict[str, Any]], c: int, bounds: tuple[float, float], thresholds: Thresholds
) -> list[Alarm]:
    weights = np.array([row["class_weight"][c] for row in rows])
    for bound in bounds:
        # weights that begin at a bound are meant to be there
        marks = np.isclose(weights, bound, rtol=1e-6, atol=0)
        evaluations = thresholds.weight_at_bound_evaluations
        if not marks[0] and _first_time(marks.tolist(), evaluations):
            reason = f"weight {weights[-1]:.3g} at its bound, {evaluations} evaluations in a row"
            value = float(weights[-1])
            return [Alarm(rows[-1]["step"], "weight_at_bound", c, value, bound, reason)]
    return []


def _calibration_drop(
    rows: Sequence[dict[str, Any]], best: dict[str, Any], samples: float, thresholds: Thresholds
) -> list[Alarm]:
    reference = best["calibration_error"]
    limit = reference + thresholds.calibration_drop + NOISE * _standard_error(0.5, samples)
    marks = [row["calibration_error"] > limit for row in rows]
    if not _first_time(marks, thresholds.calibration_drop_evaluations):
        return []
    value = rows[-1]["calibration_error"]
    reason = (
        f"calibration error {value:.2f} where it was {reference:.2f} at step {best['step']}, "
        f"{thresholds.calibration_drop_evaluations} evaluations in a row"
    )
    return [Alarm(rows[-1]["step"], "calibration_drop", None, value, limit, reason)]
