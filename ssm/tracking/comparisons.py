"""The order in which a network learned majority and minority, in words, compared with that of the small-scale model."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr

from ssm.config import profiles
from ssm.results import logs
from ssm.theory.in_networks import (
    ALONE,
    AT_ONCE,
    LARGEST,
    NEAR,
    RATIOS,
    SMALLEST,
    TWO_CLASSES,
    order_of_times,
)
from ssm.tracking import expectations
from ssm.tracking.expectations import Expectation

FIRST = {LARGEST: "the majority first", SMALLEST: "the minority first", AT_ONCE: "both at once"}


class _Order(NamedTuple):
    """The order of majority and minority in a log."""

    order: str
    """One of `FIRST`; empty where it is not known."""
    ratio: float
    """The learning time of the minority over that of the majority, both counted from 0; NaN where it is not known."""
    remark: str
    """The reason why the order is not known, or the basis on which it is."""
    until: float
    """The time at which the later one of the two is learned; infinity where it is not learned yet."""


def lines(dataset: xr.Dataset) -> list[str]:
    """Sentences on the order of majority and minority in the model, on whether it came, and on what carries over to networks."""
    expected = expectations.expectation(dataset)
    k = dataset.sizes["class"]
    if isinstance(expected, str):
        return [f"Model: it says nothing of the order here, since {expected}.{_instead(dataset)}"]
    found = _observed_order(dataset, k)
    carried = (
        "Carries over from the model to networks: the order of majority and minority, and which exponent balances them. Does not: "
        f"when the cross block comes. {RATIOS}"
    )
    if k == 2:
        carried = f"Two classes have no contrasts within a group, so that this is the order of their margins. {TWO_CLASSES} {RATIOS}"
    return [_model(dataset, expected, found), _ratio(expected, found), carried]


def _instead(dataset: xr.Dataset) -> str:
    """A sentence that refers to `ssm advise` where a class is alone in its group; else an empty text."""
    counts = logs.training_counts(dataset).tolist()
    if len(counts) == 2 or not profiles.no_contrasts(counts) or len(set(counts)) == 1:
        return ""
    return f" `ssm advise` follows the model itself for such counts, but {ALONE}."


def _observed_order(dataset: xr.Dataset, num_classes: int) -> _Order:
    """The order in a log, by contrasts within the groups or, for two classes, by the strengths of the classes."""
    times = dataset["time"].values
    learned = []
    for group in profiles.GROUPS:
        mine = dataset["component_block"].values == group
        if num_classes == 2:
            is_in_group = dataset["class_group"].values == group
            learned.append(float(dataset["class_learning_time"].values[is_in_group][0]))
        elif mine.any():
            place = dataset["block"].values.tolist().index(group)
            learned.append(float(dataset["block_learning_time"].values[place]))
        else:
            why = f"the probe has fewer than two classes of the {group}, so no contrasts within it"
            return _Order("", np.nan, why, np.inf)
    majority, minority = learned
    if np.isnan(learned).all():
        return _Order("", np.nan, "neither is learned yet", np.inf)
    if np.isnan(minority):
        return _Order(LARGEST, np.nan, "the minority is yet to come", np.inf)
    if np.isnan(majority):
        return _Order(SMALLEST, np.nan, "the majority is yet to come", np.inf)
    last, clock = max(learned), logs.clock(dataset)
    places = np.searchsorted(times, learned)
    if places.max() == 0:
        return _Order("", np.nan, f"both were learned by the first {clock}", last)
    if places[0] == places[1]:
        return _Order(
            "", np.nan, f"both came between the same two {clock}s that were watched", last
        )
    if min(learned) <= max(times[0], 0.0):  # One time is not known, or is 0 and has no ratio.
        return _Order(LARGEST if majority < minority else SMALLEST, np.nan, "", last)
    ratio = minority / majority
    return _Order(order_of_times(ratio), ratio, "", last)


def _model(dataset: xr.Dataset, expected: Expectation, found: _Order) -> str:
    counts, clock = logs.training_counts(dataset), logs.clock(dataset)
    sentence = (
        f"Model: with {counts.max()} to {counts.min()} training samples a class and the coupling that features first showed, "
        f"{expected.coupling:.2g} at {clock} {expected.step:g}, class weights n^-g balance "
    )
    if len(counts) == 2:
        sentence += f"both classes at g = {_number(expected.balance)}"
        near = "of that"
    else:
        sentence += (
            f"majority and minority at g* = {_number(expected.balance)}, and where features hardly move at "
            f"2 g* - 1 = {_number(expected.fixed)}"
        )
        near = "of the range between these"
    given = {
        "": "no weights were given",
        "weight": "of the smallest class over the largest",
        "effective_weight": "of the smallest class over the largest, as mini-batches make them",
    }[expectations.weights(dataset)[0]]
    sentence += f". In force is g = {_number(expected.exponent)} ({given})"
    at = expectations.changed(dataset, found.until)
    came = f"The network learned {FIRST[found.order]}" if found.order else "This log does not say"
    came += f" ({found.remark})" * bool(found.remark)
    if np.isfinite(at):
        return f"{sentence} until {at:g}, when weights changed before both were learned: the order is open. {came}."
    if not expected.order:
        return f"{sentence}, which is within {NEAR:g} {near}: the order is open. {came}."
    sentence += f": the model learns {FIRST[expected.order]}. "
    if not found.order:
        return f"{sentence}{came}."
    holds = found.order == expected.order
    return f"{sentence}{came}, {'as the model does' if holds else 'against the model'}."


def _ratio(expected: Expectation, found: _Order) -> str:
    here = f"{found.ratio:.3g} here, " if np.isfinite(found.ratio) else ""
    return f"Learning time of the minority over that of the majority: {here}{expected.ratio:.3g} in the model."


def _number(exponent: float) -> str:
    return f"{round(exponent, 2) + 0.0:g}"  # Adding 0 turns -0 into 0.
