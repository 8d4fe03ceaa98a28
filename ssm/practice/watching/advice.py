"""What to do next, from what a watch has found: nothing; use other shares and another threshold; calibrate; or replace the model."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from ssm.practice.watching.drift import Window
from ssm.practice.watching.judging import Alarm
from ssm.practice.watching.models import Model

MOVED = 1.25
"""A share has drifted where its interval excludes the usual share, and it has grown or shrunk at least by this factor."""
EARLY = 4
"""A change within so many first windows of a log counts as one that came with the model and not with time."""


class Now(NamedTuple):
    """Numbers for use with the present class shares rho, each array of shape (k,)."""

    shares: Float[np.ndarray, " k"]
    factors: Float[np.ndarray, " k"]
    """rho_c / pi_c with the shares pi that the model's probabilities are for. The probabilities times these, divided by their sum,
    are for the present shares."""
    old_data_weights: Float[np.ndarray, " k"]
    """Class weights that make the old training data stand for the present shares: the card's weights, or 1, times
    rho_c / pi_c with the shares pi of the training data."""
    balanced_weights: Float[np.ndarray, " k"]
    """Class weights that make all classes of present data count the same, 1 / (k rho_c)."""
    rare: int
    """The index of the class that is the rarest at present."""
    threshold: float | None
    """With two classes, decide the rare one where its probability, as the model gives it, is at least this; None with more."""


class Advice(NamedTuple):
    """What to do next."""

    action: str
    """`wait`, `nothing`, `look`, `shares`, `recalibrate`, `retrain` or `roll_back`."""
    headline: str
    steps: tuple[str, ...]
    now: Now | None


def drifted(
    found: Window | None, usual: Float[np.ndarray, " k"] | None
) -> tuple[Int[np.ndarray, " d"], Int[np.ndarray, " e"]]:
    """The classes whose share has grown, and those whose share has shrunk."""
    if found is None or usual is None:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    grown = (found.low > usual) & (found.shares >= MOVED * usual)
    shrunk = (found.high < usual) & (found.shares * MOVED <= usual)
    return np.flatnonzero(grown), np.flatnonzero(shrunk)


def now(
    shares: Float[np.ndarray, " k"],
    usual: Float[np.ndarray, " k"],
    prior: Float[np.ndarray, " k"],
    model: Model,
) -> Now:
    """Factors, weights and threshold for present class shares rho.

    A rule that was right for the usual shares pi is right for rho if each class counts rho_c / pi_c times as much. With two classes,
    where the second was decided at p >= t, it is now decided at odds of at least t / (1 - t) times (rho_0 / pi_0) / (rho_1 / pi_1).

    Args:
        shares: rho, shape (k,). A share of 0 counts as 1e-6.
        usual: pi, shape (k,).
        prior: the shares that probabilities are for, shape (k,), from which class weights in training can have moved them away.
        model: the classifier, whose rule is kept and for whose training data the weights are.

    Source: Elkan 2001; Saerens, Latinne and Decaestecker 2002.
    """
    rho = np.maximum(shares, 1e-6) / np.maximum(shares, 1e-6).sum()
    training, weights = usual, np.ones(len(rho))
    if model.card is not None:
        training = np.array(model.card.training.class_shares)
        weights = np.array(model.card.training.class_weights or weights)
    rare, second = int(rho.argmin()), _threshold(rho / usual, prior, model)
    at = second if second is None or rare == 1 else 1 - second
    return Now(shares, rho / prior, weights * rho / training, 1 / (len(rho) * rho), rare, at)


def _threshold(
    moved: Float[np.ndarray, " k"], prior: Float[np.ndarray, " k"], model: Model
) -> float | None:
    """The probability from which on the second of two classes is to be decided now; None with more classes. `moved` is each class's
    share over its usual share. A rule that decides for given shares keeps its threshold."""
    if len(moved) != 2:
        return None
    rule, odds = None if model.card is None else model.card.rule, 1.0
    if rule is not None and rule.kind == "shares":
        assert rule.shares is not None  # since the rule is of this kind
        wanted = np.array(rule.shares) / prior
        return float(wanted[0] / (wanted[0] + wanted[1]))
    if rule is not None and rule.kind == "costs":
        costs = np.array(rule.costs)
        odds = (costs[0, 1] - costs[0, 0]) / max(costs[1, 0] - costs[1, 1], 1e-300)
    elif rule is not None and rule.kind == "threshold":
        assert (
            rule.threshold is not None and model.card is not None
        )  # since the rule is of this kind
        at = rule.threshold if rule.label == model.card.classes[1] else 1 - rule.threshold
        odds = at / max(1 - at, 1e-300)
    odds *= moved[0] / moved[1]
    return float(odds / (1 + odds))


def advise(
    alarms: list[Alarm],
    found: Window | None,
    usual: Float[np.ndarray, " k"] | None,
    prior: Float[np.ndarray, " k"] | None,
    model: Model,
    first_changed: int | None,
    labelled: Float[np.ndarray, " k"] | None,
    judged: bool,
) -> Advice:
    """What to do next.

    The recall of a class does not depend on how frequent classes are, so that its fall says that the cases themselves, or the
    measurements of them, have changed. Precision and calibration do depend on it, so that moved shares explain their fall where
    recall has not fallen.

    Args:
        alarms: all alarms that were raised.
        found: the class shares of the last window that ended; None where they are not known.
        usual: the usual class shares, shape (k,); None where they are not known.
        prior: the class shares that probabilities are for, shape (k,); None where they are not known.
        model: the classifier.
        first_changed: the number of windows of the log before the earliest change of a recall; None without such a change.
        labelled: the class shares of labelled rows since that change, shape (k,);
            None where there are no such rows, or no such change.
        judged: whether any label has been compared with a reference yet.
    """
    grown, shrunk = drifted(found, usual)
    moved = [f"{model.classes[c]} (grown)" for c in grown]
    moved += [f"{model.classes[c]} (shrunk)" for c in shrunk]
    values = None
    if usual is not None and prior is not None:
        shares = None if found is None else found.shares
        # Where recall fell, the estimate of shares from probabilities is not right any more.
        shares = labelled if labelled is not None else shares
        values = None if shares is None else now(shares, usual, prior, model)
    kinds = {alarm.metric for alarm in alarms}

    def named(metric: str) -> str:
        return ", ".join(model.classes[a.index] for a in alarms if a.metric == metric)

    use = ()
    if moved:
        use = (
            f"These shares have moved: {', '.join(moved)}. Use the shares and the threshold below at once: it takes no training.",
        )
    if "recall" in kinds:
        early = first_changed is not None and first_changed < EARLY
        return _of_recall(named("recall"), early, labelled is not None, use, values)
    if moved:
        head = "Class shares have moved. Use the new shares and threshold."
        explained = (
            "Recall stands, so that shares explain the fall of precision and calibration. Should alarms of these come again in a watch with "
            "the new shares, fit the calibration again on labelled rows."
        )
        return Advice("shares", head, (*use, *([explained] if kinds else [])), values)
    if kinds:
        which = "; ".join(f"{metric}: {named(metric)}" for metric in sorted(kinds))
        head = "Probabilities or decisions have got worse, recall stands. Calibrate again."
        doing = (
            f"Worse than the reference ({which}), though no share has moved that is known of: fit the calibration and the "
            "threshold again on the labelled rows of the last windows, and look at which class the wrong decisions come from."
        )
        return Advice("recalibrate", head, (doing,), values)
    if not judged:
        head = "Too early to judge: wait for labels."
        doing = "No labelled rows were held against a reference yet. A card gives one from the first window on."
        return Advice("wait", head, (doing,), values)
    return Advice(
        "nothing",
        "Nothing to do.",
        ("No class is worse than its reference, and no class share has moved.",),
        values,
    )


def _of_recall(
    names: str, early: bool, labelled: bool, use: tuple[str, ...], values: Now | None
) -> Advice:
    """What to do where the recall of some classes fell.

    Args:
        names: the classes.
        early: whether it was low from the beginning of the log on.
        labelled: whether `values` are for the shares of labelled rows since then.
        use: steps on shares that have moved.
        values: numbers for use with the present shares.
    """
    doing = (
        "Look at what changed at that time before you train: a source of data, a unit, a form, a release. If a release did "
        "it, roll that back; the model before would meet the same cases."
    )
    if early:
        doing = "Roll back to the model before: this one was worse than its reference from the beginning of its use."
    if labelled:
        use = (
            "The shares below are those of labelled rows since then: an estimate from probabilities takes them for right, "
            "and these are not any more.",
        )
    then = "Then train again on labelled rows from after the change, with the class weights below."
    head = f"Recall has fallen: {names}. {'Roll back.' if early else 'Find the cause, then train again.'}"
    return Advice("roll_back" if early else "retrain", head, (doing, then, *use), values)
