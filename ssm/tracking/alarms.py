"""The alarms that the log of a network raises while it is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import xarray as xr

from ssm.measures.probes import Probe
from ssm.practice.network.alarms import Alarm
from ssm.results import classes, logs

LEARNED = 0.75
"""The lowest mean accuracy of the other classes at which a class can count as behind them."""
BEHIND = 0.5
"""The share of that mean below which the accuracy of a class counts as behind."""
NOISE = 3.0
"""The accuracy of a class must be below that share by this many of its standard errors."""
COLLAPSED = 0.9
"""The lowest mean cosine of minority classes that counts as collapse."""


Key = tuple[str, int | None]
"""The identity of an alarm at one time: its kind, and the class that it concerns, or None."""


class TrackerWarning(UserWarning):
    """The category of the warnings of a `Tracker`."""


class Spell(NamedTuple):
    """An alarm and how long it held."""

    alarm: Alarm
    """The alarm as it was raised."""
    last: float
    """The last time at which the alarm held, in the unit of the log."""
    holds: bool
    """Whether the alarm holds at the end of the log."""


def spells(dataset: xr.Dataset) -> list[Spell]:
    """The alarms of a log as a `Tracker` raises them, in the order of their times."""
    probe, names = logs.probe(dataset), classes.names(dataset)
    watched = ("class_accuracy", "minority_cosine", "not_finite")
    values = {name: dataset[name].values for name in watched if name in dataset}
    held: dict[Key, Spell] = {}
    over: list[Spell] = []
    for i, step in enumerate(dataset["time"].values.tolist()):
        observed = {"not_finite": np.array(0)} | {name: of[i] for name, of in values.items()}
        now = present(step, observed, probe, names, is_first=i == 0)
        over += [held.pop(key)._replace(holds=False) for key in held.keys() - now.keys()]
        for key, alarm in now.items():
            held[key] = Spell(held[key].alarm if key in held else alarm, step, True)
    return sorted([*over, *held.values()], key=lambda spell: spell.alarm.step)


def present(
    step: float,
    observed: Mapping[str, np.ndarray],
    probe: Probe,
    names: list[str],
    is_first: bool,
) -> dict[Key, Alarm]:
    """The alarms that hold at one time. At the first time the network may be untrained, so only numbers that are not
    finite raise an alarm then.

    - `class_behind`: the accuracy of a class is below a, half of the mean of the others, by three standard errors
      sqrt(a (1 - a) / n_c), and that mean is at least 3/4.
    - `minority_collapse`: the mean cosine of the minority classes' rows of the classifier, or of their centred mean
      features, is nearer to 1 than to its value in the SELI geometry, where training without regularisation ends, and at least 0.9.
      It also holds early in training by plain risk, before minorities are told apart.
    - `not_finite`: logits or features are not finite.
    """
    if number := int(observed["not_finite"]):
        samples = (
            f"{number} of {probe.counts.sum()} samples have logits or features that are not finite"
        )
        found = [Alarm(step, "not_finite", None, float(number), 0.0, samples)]
    elif is_first:
        found = []
    else:
        found = _behind(step, observed["class_accuracy"], probe, names)
        found += _collapse(step, observed.get("minority_cosine"), probe)
    return {(alarm.alarm, alarm.class_index): alarm for alarm in found}


def _behind(step: float, accuracy: np.ndarray, probe: Probe, names: list[str]) -> list[Alarm]:
    present = probe.present
    known = accuracy[present]
    others = (known.sum() - known) / (len(known) - 1)
    limits = BEHIND * others
    limits -= NOISE * np.sqrt(limits * (1 - limits) / probe.counts[present])
    raised = []
    for i in np.flatnonzero((others >= LEARNED) & (known < limits)).tolist():
        c, value, limit = int(present[i]), float(known[i]), float(limits[i])
        reason = f"accuracy of class {names[c]} is {value:.2f}, that of the others {others[i]:.2f}"
        raised.append(Alarm(step, "class_behind", c, value, limit, reason))
    return raised


def _collapse(step: float, cosines: np.ndarray | None, probe: Probe) -> list[Alarm]:
    if (
        cosines is None or np.isnan(cosines).all()
    ):  # They are NaN where only one class is a minority.
        return []
    raised = []
    whose = ("rows of the classifier", "mean features")
    for value, end, what in zip(cosines.tolist(), probe.seli_cosines, whose, strict=True):
        limit = max((1 + end) / 2, COLLAPSED)
        if value > limit:
            reason = f"the {what} of minority classes have a mean cosine of {value:.3f}"
            raised.append(Alarm(step, "minority_collapse", None, value, limit, reason))
    return raised[:1]
