"""Figures of `practice`: what training does on the way, and the strategies at its end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from experiments import pages
from experiments.readings import GROUPS
from ssm import plotting
from ssm.config import profiles
from ssm.measures.metrics import group_mean
from ssm.practice.statistics import comparisons

if TYPE_CHECKING:
    from experiments.practice_runs import Curves, Studied

LINES = {"erm": "-", "inverse": "--"}
LABELS = {"erm": "ERM", "inverse": "inverse frequency", "sqrt": "inverse sqrt", "drw": "deferred"}
LABELS |= {"la": "logit adj."}
MIDDLE = (25, 75)  # percentiles of the folds between which a band lies
GREYS = {"erm": "0.55", "inverse": "black"}


def draw_course(path: Path, results: Mapping[str, Studied]) -> None:
    """Held-out recall of each group and balanced accuracy over steps: a column a data set."""
    with pages.page(path, 3.6) as figure:
        rows = figure.subplots(2, len(results), sharex=True, sharey="row", squeeze=False)
        for (above, below), (name, result) in zip(rows.T, results.items(), strict=True):
            _draw_recalls(above, result.course)
            _draw_balanced(below, result.course)
            above.set_title(name)
        rows[0, 0].set_ylabel("held-out recall")
        rows[1, 0].set_ylabel("held-out balanced\naccuracy")
        for group in GROUPS:
            pages.key(rows[0, 0], group, color=plotting.COLORS[group])
        for variant, style in LINES.items():
            pages.key(rows[0, 0], LABELS[variant], style, color="0.3")
        pages.legend_above(figure, rows[0, 0], 4)
        figure.supxlabel("training step")


def _draw_recalls(ax: Axes, course: Curves) -> None:
    for variant, style in LINES.items():
        for group in GROUPS:
            values = course.recall[variant].sel(group=group)
            _draw_curve(ax, course.steps, values, style, plotting.COLORS[group])
    _mark_early(ax, course)
    ax.set(ylim=(-0.04, 1.04), xscale="log", xlim=course.steps[[0, -1]])
    pages.plain_ticks(ax.xaxis, [1, 10, 100])


def _draw_balanced(ax: Axes, course: Curves) -> None:
    for variant, style in LINES.items():
        _draw_curve(ax, course.steps, course.balanced[variant], style, GREYS[variant])
    _mark_early(ax, course)


def _draw_curve(ax: Axes, steps: np.ndarray, values: xr.DataArray, style: str, color: str) -> None:
    """The mean over seeds and folds, and a band that holds the middle half of them."""
    each = values.transpose("step", "seed", "fold").values.reshape(len(steps), -1)
    ax.plot(steps, each.mean(1), style, color=color, lw=1.3)
    ax.fill_between(steps, *np.percentile(each, MIDDLE, axis=1), color=color, alpha=0.15, lw=0)


def _mark_early(ax: Axes, course: Curves) -> None:
    ax.axvline(course.steps[course.early], color="0.6", lw=0.8, ls=":")


def draw_end(path: Path, results: Mapping[str, Studied]) -> None:
    """Each strategy at the end of training, mean over seeds and folds with 95 % intervals: recall of
    test samples by group, and balanced accuracy, as trained and corrected."""
    with pages.page(path, 3.4) as figure:
        rows = figure.subplots(2, len(results), sharey=True, squeeze=False)
        for (above, below), (name, result) in zip(rows.T, results.items(), strict=True):
            _draw_groups(above, result.record)
            _draw_corrections(below, result.record)
            above.set(title=name, xlabel="recall")
            below.set_xlabel("balanced accuracy")
        names = list(map(str, next(iter(results.values())).record["variant"].values))
        for ax in rows[:, 0]:  # the others share its axis
            ax.set_yticks(range(len(names)), [LABELS.get(name, name) for name in names])
            ax.set_ylim(len(names) - 0.4, -0.6)
        for group in GROUPS:
            pages.key(rows[0, 0], group, "o", color=plotting.COLORS[group], ms=4)
        pages.key(rows[0, 0], "as trained", "o", color="black", ms=3)
        pages.key(rows[0, 0], "corrected to equal shares", "D", color="black", mfc="none", ms=4.5)
        pages.legend_above(figure, rows[0, 0], 4, handletextpad=0.2)


def _draw_groups(ax: Axes, record: xr.Dataset) -> None:
    counts = np.bincount(record["label"].values)
    mine = np.array(profiles.class_groups(counts.tolist()))
    for y, variant in enumerate(record["variant"].values):
        recall = record["recall"].sel(variant=variant, correction="none")
        recall = recall.transpose("seed", "fold", "class").values
        for group, shift in zip(GROUPS, (-0.17, 0.17), strict=True):
            values = group_mean(recall, mine, group)
            _draw_level(ax, "recall", values, y + shift, "o", plotting.COLORS[group], 4)


def _draw_corrections(ax: Axes, record: xr.Dataset) -> None:
    shown = {"none": ("o", 3, -0.17), "uniform": ("D", 4.5, 0.17)}
    for y, variant in enumerate(record["variant"].values):
        for correction, (marker, size, shift) in shown.items():
            own = record["balanced_accuracy"].sel(variant=variant, correction=correction)
            values = own.transpose("seed", "fold").values
            _draw_level(ax, "balanced_accuracy", values, y + shift, marker, "black", size)


def _draw_level(
    ax: Axes, metric: str, values: np.ndarray, y: float, marker: str, color: str, size: float
) -> None:
    """The mean of one number a seed and fold, and its interval by repeated cross-validation."""
    level = comparisons.level(xr.DataArray(values, dims=("seed", "fold"), name=metric))
    if np.isfinite(level.low):
        ax.plot([level.low, level.high], [y, y], color=color, lw=0.9)
    face = "white" if marker == "D" else color
    ax.plot(level.score, y, marker, color=color, mfc=face, ms=size, mew=0.8)
