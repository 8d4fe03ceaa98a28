"""The log of a network in words: what was learned in which order, and what the small-scale model predicts of that."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float

from ssm.config import profiles
from ssm.measures import spectral
from ssm.results import classes, datasets, logs
from ssm.tracking import alarms, comparisons, expectations

MOST = 12
"""The largest number of classes, alarms or gaps that are named one by one."""


def lines(dataset: xr.Dataset) -> list[str]:
    """Paragraphs on the log of a network that `ssm.track` or a `Tracker` made, each one line.

    They say when blocks and classes were learned, what the model predicts of that and whether the prediction held, the
    coupling and the exponent of class weights that balances now, shares of the gradient and class weights by class, alarms
    and gaps.
    """
    seen = datasets.reached(dataset)
    if not seen.sizes["time"]:
        nothing = f"Nothing is known: no {logs.clock(dataset)} has numbers that are all finite."
        return [nothing, *_alarms(dataset)]
    return [
        _blocks(dataset, seen),
        _classes(dataset, seen),
        *comparisons.lines(dataset),
        *_coupling(dataset),
        *_gradient(dataset),
        *_weights(dataset),
        *_alarms(dataset),
        *_gaps(dataset),
        *_absent(dataset),
    ]


def _blocks(dataset: xr.Dataset, seen: xr.Dataset) -> str:
    present = [np.any(dataset["component_block"].values == block) for block in spectral.BLOCKS]
    shares = seen["block_strength"].values[-1] / seen["block_target"].values
    times = dataset["block_learning_time"].values
    sentence = _in_order(dataset, list(spectral.BLOCKS), times, shares, np.array(present))
    return f"Blocks, half of the target reached: {sentence}."


def _classes(dataset: xr.Dataset, seen: xr.Dataset) -> str:
    names, times = classes.names(dataset), dataset["class_learning_time"].values
    watched = dataset["class_count"].values > 0
    what = "Classes, half of their own strength reached"
    if len(names) <= MOST:
        strengths = seen["class_strength"].values[-1]
        return f"{what}: {_in_order(dataset, names, times, strengths, watched)}."
    parts = []
    for group in profiles.GROUPS:
        mine = times[watched & (dataset["class_group"].values == group)]
        known = mine[np.isfinite(mine)]
        if mine.size:
            part = f"{known.size} of {mine.size} of the {group}"
            if known.size:
                first, median, last = known.min(), np.median(known), known.max()
                part += f", the first at {first:.4g}, the median at {median:.4g}, the last at {last:.4g}"
            parts.append(part)
    return f"{what}: {'; '.join(parts)}."


def _in_order(
    dataset: xr.Dataset,
    names: Sequence[str],
    times: Float[np.ndarray, " n"],
    shares: Float[np.ndarray, " n"],
    counted: Bool[np.ndarray, " n"],
) -> str:
    """The names with their learning times in ascending order, then those that are not learned yet with the share that is."""
    first = float(dataset["time"].values[0])
    learned = [int(i) for i in np.argsort(times, kind="stable") if np.isfinite(times[i])]
    parts = [
        f"{names[i]} {f'by {first:.4g} or before' if times[i] <= first else f'at {times[i]:.4g}'}"
        for i in learned
        if counted[i]
    ]
    left = [
        f"{names[i]} ({shares[i]:.2g} of it)"
        for i in np.flatnonzero(counted & ~np.isfinite(times)).tolist()
    ]
    return "; ".join([", ".join(parts)] * bool(parts) + [f"not yet {', '.join(left)}"] * bool(left))


def _coupling(dataset: xr.Dataset) -> list[str]:
    if "coupling" not in dataset:
        return []
    known = np.flatnonzero(np.isfinite(dataset["coupling"].values))
    if not known.size:
        return []
    last = int(known[-1])
    sentence = f"Coupling at {_at(dataset, last)}: {dataset['coupling'].values[last]:.3g}"
    what, exponents = logs.balance(dataset)
    if what:
        whose = "contrasts at g* =" if what == logs.CONTRASTS else "both classes at g ="
        sentence += (
            f", at which the model's class weights n^-g balance {whose} {exponents[last]:.3g}"
        )
    return [f"{sentence}."]


def _gradient(dataset: xr.Dataset) -> list[str]:
    name = "classifier_gradient_share"
    if name not in dataset:
        return []
    known = np.flatnonzero(np.isfinite(dataset[name].values).any(axis=1))
    if not known.size:
        return []
    last = int(known[-1])
    shares = _by_class(dataset, dataset[name].values[last], "{:.0%}", np.nansum)
    return [f"Shares of the classifier's squared gradient at {_at(dataset, last)}: {shares}."]


def _weights(dataset: xr.Dataset) -> list[str]:
    name, values = expectations.weights(dataset)
    if not name:
        return []
    counts, clock = logs.training_counts(dataset), _at(dataset, -1)
    small, large = counts.argmin(), counts.argmax()
    shown = _by_class(dataset, values[-1], "{:.3g}", np.nanmean)
    if name == "weight":
        sentence = f"Class weights at {clock}: {shown}"
    else:
        sentence = f"Class weights as mini-batches make them at {clock}: {shown}"
        if "weight" in dataset and counts[small] < counts[large]:
            asked = dataset["weight"].values[-1]
            found = values[-1][small] / values[-1][large]
            sentence += f"; smallest over largest class {found:.3g}, of {asked[small] / asked[large]:.3g} that were asked for"
    return [f"{sentence}."]


def _by_class(
    dataset: xr.Dataset,
    values: Float[np.ndarray, " k"],
    form: str,
    together: Callable[..., np.floating],
) -> str:
    """The value of each class, or where there are many classes the sum or mean (`together`) over each group."""
    names, groups = classes.names(dataset), dataset["class_group"].values
    known = np.isfinite(values)
    if known.sum() <= MOST:
        return ", ".join(f"{names[c]}: {form.format(values[c])}" for c in np.flatnonzero(known))
    whole = "together" if together is np.nansum else "on average"
    parts = []
    for group in profiles.GROUPS:
        mine = values[known & (groups == group)]
        if mine.size:
            shown = form.format(together(mine))
            parts.append(f"the {mine.size} classes of the {group} {shown} {whole}")
    return ", ".join(parts)


def _alarms(dataset: xr.Dataset) -> list[str]:
    found = alarms.spells(dataset)
    parts = []
    for alarm, last, holds in found[:MOST]:
        until = f" to {last:g}" if last > alarm.step else ""
        when = f"from {alarm.step:g} on" if holds else f"at {alarm.step:g}{until}"
        parts.append(f"{alarm.alarm} {when} ({alarm.reason})")
    if len(found) > MOST:
        parts.append(f"and {len(found) - MOST} more")
    return [f"Alarms: {'; '.join(parts) or 'none'}."]


def _gaps(dataset: xr.Dataset) -> list[str]:
    """A paragraph on the times at which nothing is known, as ranges."""
    times = dataset["time"].values
    unknown = ~np.isfinite(dataset["block_strength"].values).any(axis=1)
    if not unknown.any():
        return []
    edges = np.flatnonzero(np.diff(np.concatenate([[False], unknown, [False]]).astype(int)))
    ranges = [
        f"{times[a]:g}" + (f" to {times[b - 1]:g}" if b - a > 1 else "")
        for a, b in edges.reshape(-1, 2).tolist()
    ]
    shown = ", ".join(ranges[:MOST]) + (" and more" if len(ranges) > MOST else "")
    return [
        f"Gaps: nothing is known at {shown} ({unknown.sum()} of {len(times)}), and times of learning are "
        "read from a straight line across them."
    ]


def _absent(dataset: xr.Dataset) -> list[str]:
    names = classes.names(dataset)
    absent = np.flatnonzero(dataset["class_count"].values == 0).tolist()
    if not absent:
        return []
    shown = ", ".join(names[c] for c in absent[:MOST]) + (" and more" if len(absent) > MOST else "")
    return [f"Without samples in the probe, and in no block or mean: {shown}."]


def _at(dataset: xr.Dataset, index: int) -> str:
    return f"{logs.clock(dataset)} {dataset['time'].values[index]:g}"
