"""Results in words: lines and tables for people to read."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping

import numpy as np
import xarray as xr

from ssm.config import Config, profiles
from ssm.dynamics.statuses import Status
from ssm.results import classes, datasets
from ssm.results.datasets import alone

REMEDIES = {status.value: status.remedy for status in Status if status.remedy}
"""The advice for a run that did not end well, by its status."""
NO_CONTRASTS = "one class has no contrasts within its group, its row is of the class's own strength"


def facts(dataset: xr.Dataset) -> dict[str, str]:
    """The facts of a run, a line each: settings that differ from the defaults, classes, times, status, a remedy where the run
    did not end well, and origin."""
    attributes = dataset.attrs
    described = {}
    if "config" in attributes:
        config = Config.from_json(attributes["config"])
        described["settings"] = _settings(dataclasses.asdict(config))
    counts = dataset["class_count"].values
    least = counts[counts > 0].min()
    described["classes"] = (
        f"{len(counts)} with {counts.max()} to {least} samples, {counts.sum()} in all"
    )
    if "training_count" in dataset.coords:
        trained_on = dataset["training_count"].values
        described["classes"] += f", trained on {trained_on.max()} to {trained_on.min()}"
    if left_out := classes.absent(dataset, "class_accuracy"):
        described["classes"] += f"; {left_out}, left out of all means"
    names = classes.names(dataset)
    for group in profiles.GROUPS:
        for c in np.flatnonzero(alone(dataset, group)):
            described[group] = f"class {names[c]} alone; {NO_CONTRASTS}"
    times = dataset["time"].values
    num_reached = datasets.reached(dataset).sizes["time"]
    described["time"] = "none that was reached"
    if num_reached:
        described["time"] = f"{times[0]:.6g} to {times[num_reached - 1]:.6g}, {num_reached} times"
    if "num_steps" in attributes:
        steps = "steps" if "learning_rate" in attributes else "solver steps"
        described["status"] = f"{attributes['status']} after {attributes['num_steps']} {steps}"
        if remedy := REMEDIES.get(attributes["status"]):
            described["remedy"] = remedy
        described["labels"] = "cannot be interpolated: feature_dim is below num_classes - 1"
        if attributes["can_interpolate"]:
            as_far = ", as far as the inputs let them" if _has_inputs(dataset) else ""
            described["labels"] = f"can be interpolated{as_far}"
        described["mean weight"] = f"{attributes['mean_sample_weight']:.6g} a sample"
        if (share := attributes.get("effective_sample_share")) is not None:
            described["mean weight"] += f", {100 * share:.3g} % of the samples effective"
        if (rate := attributes.get("learning_rate")) is not None:
            total = float(dataset["cumulative_rate"][-1])
            described["rate"] = f"{rate:.6g} at first, {total:.6g} in all"
        described["numbers"] = f"{attributes['dtype']} on {attributes['device']}"
    described |= {
        name: attributes[name] for name in ("inputs", "held_out_data") if name in attributes
    }
    described |= _end(dataset)
    described["made"] = f"{attributes['created']}, commit {attributes['git_commit']}"
    return described


def _end(dataset: xr.Dataset) -> dict[str, str]:
    """The margin, the geometry, the worst group and the held-out accuracy at the end of a run, a line each, where they were
    observed."""
    shown = {"margin", "seli_distance", "etf_distance", "held_out_accuracy", "group_loss"}
    if shown.isdisjoint(dataset):
        return {}
    reached = datasets.reached(dataset)
    if not reached.sizes["time"]:
        return {}
    last, described = reached.isel(time=-1), {}
    if "margin" in last:
        described["margin"] = f"{float(last['margin']):.6g}, log loss {float(last['log_loss']):.6g}"
    for name, words in (("seli_distance", "to SELI"), ("etf_distance", "to simplex ETF")):
        if name in last:
            parts = zip(last["part"].values, last[name].values, strict=True)
            described[words] = ", ".join(f"{part} {value:.3g}" for part, value in parts)
    if "group_loss" in last:
        described["worst group"] = _worst_group(last)
    if "held_out_accuracy" in last:
        best, end = datasets.best_held_out(dataset), reached.sizes["time"] - 1
        time = float(dataset["time"].values[best])
        described["held out"] = (
            f"{_recall(dataset, end)} at the end, {_recall(dataset, best)} at {time:.4g}"
        )
        if left_out := classes.absent(dataset, "held_out_accuracy"):
            described["held out"] += f"; {left_out}"
    return described


def _worst_group(state: xr.Dataset) -> str:
    """The group with the lowest accuracy on held-out data at one time, or without such data that with the highest loss."""
    held_out = "held_out_group_accuracy" in state
    worst = (
        state["held_out_group_accuracy"].argmin("group")
        if held_out
        else state["group_loss"].argmax("group")
    )
    own = state.isel(group=int(worst))
    accuracy = f"accuracy {float(own['group_accuracy']):.3g}, loss {float(own['group_loss']):.3g}"
    if held_out:
        accuracy += f", held out {float(own['held_out_group_accuracy']):.3g}"
    class_, attribute, count = (
        int(own[f"group_{what}"]) for what in ("class", "attribute", "count")
    )
    return f"class {class_} with attribute {attribute}, {count} samples: {accuracy}"


def _has_inputs(dataset: xr.Dataset) -> bool:
    """Whether the features of a run are made of inputs, drawn or one's own."""
    config = Config.from_json(dataset.attrs["config"])
    return config.has_inputs or "inputs" in dataset.attrs


def _recall(dataset: xr.Dataset, place: int) -> str:
    """The accuracy on held-out data at one time: the mean over all classes that have such data, and over those of each group."""
    means = {
        group: float(classes.mean(dataset, "held_out_accuracy", group)[place])
        for group in profiles.GROUPS
    }
    parts = [f"{group} {value:.3g}" for group, value in means.items() if np.isfinite(value)]
    return f"recall {classes.mean(dataset, 'held_out_accuracy')[place]:.3g} ({', '.join(parts)})"


def _settings(fields: Mapping[str, object]) -> str:
    """The settings that differ from their defaults. The number of classes, which is always set, is left out, since
    the line on the classes says it."""
    changed = {
        name: fields[name]
        for name, default in dataclasses.asdict(Config()).items()
        if name in fields and name != "num_classes" and fields[name] != default
    }
    return ", ".join(f"{name}={value}" for name, value in changed.items()) or "defaults"


def sweep_facts(dataset: xr.Dataset) -> dict[str, str]:
    """The facts of a sweep, a line each: settings, axes, how its runs ended, remedies for those that did not end well, cost
    and origin."""
    attributes = dataset.attrs
    sweep = json.loads(attributes["sweep"])
    axes = [f"{name} ({len(values)})" for name, values in sweep["axes"].items()]
    statuses, counts = np.unique(dataset["status"].values, return_counts=True)
    ended = ", ".join(f"{n} {name}" for name, n in zip(statuses, counts, strict=True))
    lone = {
        group: f"one class in {runs} runs; {NO_CONTRASTS}"
        for group in profiles.GROUPS
        if (runs := _times_alone(dataset, group)[1])
    }
    return {
        "settings": _settings(sweep["base"]),
        "axes": " x ".join(axes),
        "runs": f"{dataset['status'].size}: {ended}",
        **{status: REMEDIES[status] for status in statuses.tolist() if status in REMEDIES},
        **lone,
        "chunks": f"{attributes['num_chunks']} in {attributes['seconds']:.3g} s on "
        f"{attributes['device']}, {attributes['num_compilations']} compilations",
        "made": f"{attributes['created']}, commit {attributes['git_commit']}",
    }


def sweep_table(dataset: xr.Dataset) -> list[list[str]]:
    """A row for each block that any run of a sweep learned, and for each class that is alone in its
    group.

    Returns:
        For each row the name, the number of runs that learned it and of those that have it, and the first, the
        median and the last time at which runs learned it.
    """
    rows = []
    for block in dataset["block"].values.tolist():
        times = dataset["block_learning_time"].sel(block=block).values
        learned = [(block, times, times.size)]
        if block in profiles.GROUPS:
            learned.append((f"{block}, one class", *_times_alone(dataset, block)))
        for name, times, num_runs in learned:
            known = times[np.isfinite(times)]
            if known.size:
                summary = (known.min(), np.median(known), known.max())
                counted = f"{known.size} of {num_runs}"
                rows.append([name, counted, *(f"{time:.4g}" for time in summary)])
    return rows


def _times_alone(dataset: xr.Dataset, group: str) -> tuple[np.ndarray, int]:
    """The times at which the runs of a sweep learned the only class of a group, NaN where the group has not exactly one class,
    and the number of runs in which it has."""
    is_alone = alone(dataset, group)
    times = dataset["class_learning_time"].where(is_alone).sum("class", min_count=1)
    has_one_class = is_alone.any("class") & xr.ones_like(dataset["status"], dtype=bool)
    return times.values, int(has_one_class.sum())


def block_table(dataset: xr.Dataset) -> list[list[str]]:
    """A row for each block of a run that has components, and for each class that is alone in its
    group.

    Returns:
        For each row the name, the number of components, the target, the share of it that was reached
        at the end, the time at which half of it was reached, and the predicted time.
    """
    if not dataset.sizes["time"]:  # All steps of the log were taken back.
        return []
    last = datasets.reached(dataset).sizes["time"] - 1
    # The numbers are read from NumPy arrays, since xarray would import Dask where it is installed.
    reached = dataset["block_strength"].transpose("time", "block").values[last]
    of_blocks = [dataset[name].values for name in ("block_target", "block_learning_time")]
    predicted = dataset.get("predicted_learning_time")
    rows = []
    for i, block in enumerate(dataset["block"].values):
        is_in_block = dataset["component_block"].values == block
        if not is_in_block.any():
            strengths = dataset["class_strength"].transpose("time", "class").values[last]
            for c in np.flatnonzero(alone(dataset, str(block))):
                numbers = strengths[c], dataset["class_learning_time"].values[c]
                shown = ["-" if np.isnan(x) else f"{x:.4g}" for x in numbers]
                rows.append(
                    [
                        f"{block}, class {classes.names(dataset)[c]}",
                        "none: one class",
                        "-",
                        *shown,
                        "-",
                    ]
                )
            continue
        target, learned = (float(values[i]) for values in of_blocks)
        share = float(reached[i]) / target
        mean = np.nan if predicted is None else predicted.values[is_in_block].mean()
        numbers = ["-" if np.isnan(x) else f"{x:.4g}" for x in (target, share, learned, mean)]
        rows.append([str(block), str(is_in_block.sum()), *numbers])
    return rows
