"""Runs drawn over each other in one figure, which shows what each run learned and when."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ssm.config import profiles
from ssm.plots import sweeps
from ssm.plots.style import COLORS, PAGE_WIDTH, style
from ssm.results import classes, datasets, schema
from ssm.support import checks, errors

LOOKS: tuple[dict[str, Any], ...] = (
    {"ls": "-", "lw": 2.0, "alpha": 0.5},
    {"ls": "--", "lw": 1.1},
    {"ls": ":", "lw": 1.5},
    {"ls": (0, (5, 1, 1, 1)), "lw": 0.8},
)
"""The looks of the lines of different runs, since colours stand for groups. The first is broad and pale, so that a line that
coincides with it can be seen on top of it."""
MOST_DIFFERENCES = 3
"""The largest number of fields in a label that is made of Configs."""


class _Curve(NamedTuple):
    """A curve of one run."""

    name: str
    """The block or group, which decides the colour of the curve, or `loss`, which is black."""
    values: np.ndarray


def compare(*runs: xr.Dataset, labels: Sequence[str] | None = None) -> Figure:
    """Draw two to four runs, or tracked logs, over each other.

    From left to right, over time: the strength of each block as a share of its target (for a group of one class the
    strength of that class), the mean accuracy of each group, and the training loss, where every run has one. Majority
    is blue, minority vermilion, contrasts between them grey; runs differ in their lines.

    Args:
        runs: Datasets of `ssm.simulate`, `ssm.track` or `ssm.load`, by one clock; they may differ in their classes.
        labels: the name of each run in the legend. Left out: the fields in which their Configs differ, up to three.

    Returns:
        A Figure, which a notebook shows and `ssm.plotting.save_figure` writes.

    Raises:
        ssm.InputError: fewer than two runs or more than four, something else than a run, runs by different clocks,
            or not one label a run.

    Example:
        >>> import ssm
        >>> base = {"num_classes": 4, "loss": "squared", "num_saves": 20}
        >>> both = [ssm.simulate(ssm.Config(weight_exponent=g, **base)) for g in (0.0, 0.5)]
        >>> figure = ssm.compare(*both)
        >>> [text.get_text() for text in figure.legends[0].get_texts()]
        ['weight_exponent=0.0', 'weight_exponent=0.5']
    """
    _check(runs)
    names = _labels(runs) if labels is None else _checked_labels(labels, len(runs))
    panels = [("blocks", "strength / target"), ("accuracy", "accuracy")]
    if all("loss" in run for run in runs):
        panels.append(("loss", "training loss"))
    with style():
        figure = Figure(figsize=(PAGE_WIDTH, 2.0 + 0.16 * max(len(runs), len(COLORS))))
        drawn: list[str] = []
        for axes, (what, title) in zip(figure.subplots(1, len(panels)), panels, strict=True):
            for run, look in zip(runs, LOOKS, strict=False):
                for curve in _CURVES[what](run):
                    color = COLORS.get(curve.name, "black")
                    axes.plot(run["time"].values, curve.values, color=color, **look)
                    drawn.append(curve.name)
            _dress(axes, what, title, runs)
        left_out = dict.fromkeys(classes.absent(run, "class_accuracy") for run in runs)
        figure.supxlabel("\n".join([_clock(runs[0]), *filter(None, left_out)]))
        groups = [
            Line2D([], [], color=COLORS[name], label=name) for name in COLORS if name in drawn
        ]
        keys = [
            Line2D([], [], color="0.25", label=name, **look)
            for name, look in zip(names, LOOKS, strict=False)
        ]
        figure.legend(handles=keys, loc="outside upper left", handlelength=2.6)
        figure.legend(handles=groups, loc="outside upper right", handlelength=2.6)
    return figure


def _check(runs: Sequence[xr.Dataset]) -> None:
    """Raise ssm.InputError for runs that cannot be drawn over each other."""
    if not 2 <= len(runs) <= len(LOOKS):
        raise errors.invalid("runs", len(runs), f"two to {len(LOOKS)} of them")
    for i, run in enumerate(runs):
        if not isinstance(run, xr.Dataset) or "block_strength" not in run:
            allowed = "a run: a Dataset of ssm.simulate, ssm.track or ssm.load"
            raise errors.invalid(f"runs[{i}]", type(run).__name__, allowed)
        if axes := sweeps.sweep_axes(run):
            allowed = (
                f"a single run: choose one along {', '.join(axes)}, as sweep.isel({axes[0]}=0)"
            )
            raise errors.invalid(f"runs[{i}]", "a sweep", allowed)
        if "time" not in run.coords:
            raise errors.invalid(f"runs[{i}]", "a run without time", "one with its times as time")
    first, *others = map(_clock, runs)
    for i, clock in enumerate(others, 1):
        if clock != first:
            raise errors.invalid(f"runs[{i}]", f"by {clock}", f"by the clock of the first, {first}")


def _clock(run: xr.Dataset) -> str:
    """The description of the times of a run."""
    return run["time"].attrs.get("description", "time")


def _labels(runs: Sequence[xr.Dataset]) -> list[str]:
    """A label for each run, of the fields in which their Configs differ; its number where nothing differs or Configs are not
    known."""
    fields = list(map(_fields, runs))
    names = list(dict.fromkeys(name for config in fields for name in config))
    differing = [
        name for name in names if any(c.get(name) != fields[0].get(name) for c in fields[1:])
    ]
    if not differing or not all(fields):
        return [f"run {i + 1}" for i in range(len(runs))]
    if "counts" in differing and "num_classes" in differing:  # The counts already say it.
        differing.remove("num_classes")
    few = differing[:MOST_DIFFERENCES]
    rest = ", …" if len(differing) > len(few) else ""
    labels = [
        ", ".join(f"{name}={_short(config.get(name))}" for name in few) + rest for config in fields
    ]
    alike = len(set(labels)) < len(labels)
    return [f"run {i + 1}: {label}" if alike else label for i, label in enumerate(labels)]


def _fields(run: xr.Dataset) -> dict[str, Any]:
    """The fields of the Config of a run. For a run that was chosen from a sweep these are the fields of the base Config, with
    the values along the axes at which it was chosen."""
    if "config" in run.attrs:
        return json.loads(run.attrs["config"])
    asked = json.loads(run.attrs.get("sweep", "{}"))
    axes = [name for name in schema.axis_coordinates(asked.get("axes", ())) if name in run.coords]
    return asked.get("base", {}) | {name: run[name].values.tolist() for name in axes}


def _short(value: object) -> str:
    """The text of the value of a field; only the number of values where there are many."""
    if isinstance(value, list) and len(value) > 4:
        return f"{len(value)} values"
    return str(tuple(value)) if isinstance(value, list) else str(value)


def _checked_labels(labels: object, number: int) -> list[str]:
    allowed = f"{number} texts, one a run"
    found = checks.items("labels", labels, allowed)
    if len(found) != number or not all(isinstance(label, str) for label in found):
        raise errors.invalid("labels", labels, allowed)
    return list(found)


def _blocks(run: xr.Dataset) -> Iterator[_Curve]:
    """The strength of each block over its target; for a group of one class the strength of that class."""
    for block in COLORS:
        if (run["component_block"].values == block).any():
            of_block = run.sel(block=block)
            share = of_block["block_strength"] / of_block["block_target"]
            yield _Curve(block, share.values)
        else:
            lone = np.flatnonzero(datasets.alone(run, block))
            strength = run["class_strength"].transpose("time", "class").values
            for place in lone:
                yield _Curve(block, strength[:, place])


def _accuracies(run: xr.Dataset) -> Iterator[_Curve]:
    """The mean accuracy of each group that has classes with samples."""
    is_known = classes.known(run, "class_accuracy")
    for group in profiles.GROUPS:
        if (is_known & (run["class_group"].values == group)).any():
            yield _Curve(group, classes.mean(run, "class_accuracy", group))


def _losses(run: xr.Dataset) -> Iterator[_Curve]:
    yield _Curve("loss", run["loss"].values)


_CURVES = {"blocks": _blocks, "accuracy": _accuracies, "loss": _losses}


def _dress(axes: Axes, what: str, title: str, runs: Sequence[xr.Dataset]) -> None:
    """Set the scales and the texts of one panel."""
    axes.set_title(title)
    if what == "accuracy":
        axes.set_ylim(-0.03, 1.03)
    elif what == "loss":
        axes.set_yscale("log")
    else:
        axes.axhline(1, color="0.8", lw=0.6, zorder=0)
        if axes.dataLim.y1 > 100:  # Strengths grow without bound, as in the terminal phase.
            axes.set(yscale="log", ylim=(1e-3, 1.5 * axes.dataLim.y1))
        if any(map(sweeps.passes_targets, runs)):
            axes.set_title("strength / squared target")
    ends = [run["time"].values[[1, -1]] for run in runs]
    if all(datasets.time_spacing(run) == "log" for run in runs):
        axes.set(xscale="log", xlim=(min(ends, key=min)[0], max(ends, key=max)[1]))
