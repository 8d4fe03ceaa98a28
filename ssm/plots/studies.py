"""Figures of the findings of a study. Majority classes are blue, minority classes vermilion; folds are grey,
means black, each with its 95 % interval; the baseline is a grey line, and the margin within which
strategies are equivalent a grey band about it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ssm.config import profiles
from ssm.plots import studies_by_strategy
from ssm.plots.style import COLORS, PAGE_WIDTH, PARTS, style
from ssm.practice.statistics.comparisons import DIRECTION, Comparison
from ssm.practice.study import attributes
from ssm.practice.study.attributes import Sensitivity
from ssm.practice.study.evidence import (
    DECISIONS,
    FAMILY,
    MAIN_SCORE,
    METRICS,
    Findings,
    mean,
)

FOLD, REFERENCE, UNDECIDED, BAND = "0.65", "0.55", "0.5", "0.93"
VERDICTS: dict[str, dict[str, Any]] = {
    "better or worse": {"marker": "o", "color": "#000000", "ms": 4.5},
    "equivalent": {"marker": "s", "color": "#000000", "mfc": "white", "ms": 4.5},
    "undecided": {"marker": "o", "color": UNDECIDED, "mfc": "white", "ms": 4.5},
}
"""The look of differences, by their verdict."""
SHIFTS = {
    "training": ("o", "#000000", "as in the data"),
    "uniform": ("s", PARTS["W"], "equal"),
    "reversed": ("D", PARTS["H"], "reversed"),
}
LINES = {
    "balanced_accuracy": ("o", "#000000"),
    "worst_class_recall": ("s", PARTS["H"]),
    "accuracy": ("D", PARTS["W"]),
}


def figures(record: xr.Dataset, findings: Findings) -> dict[str, Figure]:
    """The figures for which the record has something to show, by their names."""
    with style():
        drawn = {name: draw(record, findings) for name, draw in KINDS.items()}
    return {name: figure for name, figure in drawn.items() if figure is not None}


def plot_scores(record: xr.Dataset, findings: Findings) -> Figure:
    """The scores of each strategy without correction: those of folds, their mean with its interval, and those of the baseline."""
    names = findings.strategies
    drawing, panels = _panels(len(names), len(DECISIONS), names)
    for axes, metric in zip(panels, DECISIONS, strict=True):
        scores = record[metric].sel(correction="none")
        reference = mean(scores, findings.baseline)
        low, high = np.clip([reference.low, reference.high], 0, 1)
        axes.axvspan(low, high, color="0.92", lw=0, zorder=0)
        axes.axvline(reference.score, color=REFERENCE, lw=0.8, zorder=1)
        for row, name in enumerate(names):
            folds = scores.sel(variant=name).values.ravel()
            axes.plot(folds, row + _jitter(len(folds)), ".", color=FOLD, ms=3, zorder=2)
            level = mean(scores, name)
            _interval(axes, row, (level.low, level.score, level.high), "o", "#000000")
        if metric == MAIN_SCORE and findings.required is not None:
            axes.axvline(findings.required, color="#000000", lw=0.8, ls=":", zorder=1)
        axes.set_xlabel(METRICS[metric])
    handles = [
        Line2D([], [], ls="", marker=".", color=FOLD, label="fold"),
        Line2D([], [], marker="o", color="#000000", ms=4, label="mean and 95 % interval"),
        Line2D([], [], color=REFERENCE, lw=0.8, label=f"mean of {findings.baseline}"),
    ]
    if findings.required is not None:
        label = f"least {METRICS[MAIN_SCORE]} asked for"
        handles.append(Line2D([], [], color="#000000", lw=0.8, ls=":", label=label))
    _legend(drawing, handles)
    return drawing


def plot_recalls(record: xr.Dataset, findings: Findings) -> Figure:
    """The mean recall of every class under each strategy, and that of both groups of classes."""
    names, groups = findings.strategies, np.array(findings.groups)
    drawing, (axes,) = _panels(len(names), 1, names)
    recalls = record["recall"].sel(correction="none").mean(("seed", "fold"))
    for row, name in enumerate(names):
        values = recalls.sel(variant=name).values
        for group, shift in ((profiles.MAJORITY, -0.15), (profiles.MINORITY, 0.15)):
            recall = values[groups == group]
            heights = np.full(len(recall), row + shift)
            color = COLORS[group]
            axes.plot(recall, heights, "o", color=color, ms=3.5, alpha=0.6)
            if len(recall):
                axes.plot(recall.mean(), row + shift, "|", color=color, ms=9, mew=2)
    axes.set_xlabel("recall of a class, mean over folds")
    handles = [
        Line2D([], [], ls="", marker="o", color=COLORS[group], ms=4, label=f"{group} class")
        for group in profiles.GROUPS
        if group in groups
    ]
    handles.append(Line2D([], [], ls="", marker="|", color="0.3", ms=8, mew=2, label="group mean"))
    _legend(drawing, handles)
    return drawing


def plot_differences(record: xr.Dataset, findings: Findings) -> Figure:
    """Each strategy's difference from the baseline, with its own and its simultaneous 95 % interval."""
    names = findings.strategies[1:]
    drawing, panels = _panels(len(names), len(FAMILY), names)
    for axes, metric in zip(panels, FAMILY, strict=True):
        rows = [row for row in findings.comparisons if row.metric == metric]
        _forest(axes, rows)
        axes.set_xlabel(f"{METRICS[metric]}\n({_better(metric)} is better)")
    drawing.supxlabel(f"difference from {findings.baseline}", fontsize=8)
    _legend(drawing, _forest_handles(findings.margin))
    return drawing


def plot_ablations(record: xr.Dataset, findings: Findings) -> Figure | None:
    """The difference that each factor makes, alone and combined, with its own and its simultaneous 95 % interval; None
    without ablations."""
    if not findings.ablations:
        return None
    count = len(DECISIONS)
    names = [f"{each.factor}, {each.setting}" for each in findings.ablations[::count]]
    drawing, panels = _panels(len(names), count, names)
    for axes, metric in zip(panels, DECISIONS, strict=True):
        rows = [each.comparison for each in findings.ablations if each.comparison.metric == metric]
        _forest(axes, rows)
        axes.axhline(
            sum(each.setting == "alone" for each in findings.ablations) / count - 0.5, **_THIN
        )
        axes.set_xlabel(METRICS[metric])
    drawing.supxlabel("difference that the factor makes", fontsize=8)
    _legend(drawing, _forest_handles(findings.margin))
    return drawing


def plot_sensitivity(record: xr.Dataset, findings: Findings) -> Figure | None:
    """Mean scores over the scale of the weights, and over the share of the samples that are trained on; None without
    sensitivity analyses."""
    entries = attributes.sensitivities(record)
    if not entries:
        return None
    drawing = Figure(figsize=(PAGE_WIDTH, 2.6))
    scales = [entry for entry in entries if entry.kind == "weight scale"]
    sizes = [entry for entry in entries if entry.kind == "sample size"]
    wholes = list(dict.fromkeys(entry.reference for entry in sizes))
    panels = drawing.subplots(1, 1 + len(wholes), sharey=True)
    panels[0].set_xscale("log")
    _over(panels[0], record, scales)
    panels[0].set(xlabel=f"factor on the weights of {scales[0].reference}")
    for axes, whole in zip(panels[1:], wholes, strict=True):
        _over(axes, record, [entry for entry in sizes if entry.reference == whole])
        axes.set_xlabel(f"share of the training samples, {whole}")
    panels[0].set(ylabel="mean score", ylim=(-0.03, 1.03))
    handles = [
        Line2D([], [], color=color, marker=marker, ms=4, label=METRICS[metric])
        for metric, (marker, color) in LINES.items()
    ]
    _legend(drawing, handles)
    return drawing


def plot_shift(record: xr.Dataset, findings: Findings) -> Figure:
    """The accuracy of each strategy if classes were as frequent as in the data, equally frequent, or in
    reverse: the rarest as frequent as the most frequent."""
    names = findings.strategies
    drawing, (axes,) = _panels(len(names), 1, names)
    scores = record["shifted_accuracy"].sel(correction="none")
    for step, (shift, (marker, color, _)) in zip((-0.22, 0, 0.22), SHIFTS.items(), strict=True):
        for row, name in enumerate(names):
            level = mean(scores.sel(shift=shift), name)
            _interval(axes, row + step, (level.low, level.score, level.high), marker, color)
    axes.set_xlabel("accuracy")
    handles = [
        Line2D([], [], color=color, marker=marker, ms=4, label=label)
        for marker, color, label in SHIFTS.values()
    ]
    _legend(drawing, handles, "class shares of the test samples")
    return drawing


KINDS: dict[str, Callable[[xr.Dataset, Findings], Figure | None]] = {
    "scores": plot_scores,
    "recalls": plot_recalls,
    "differences": plot_differences,
    "reliability": studies_by_strategy.plot_reliability,
    "minority_reliability": studies_by_strategy.plot_minority_reliability,
    "ablations": plot_ablations,
    "sensitivity": plot_sensitivity,
    "shift": plot_shift,
    "training": studies_by_strategy.plot_training,
    "gradients": studies_by_strategy.plot_gradients,
    "weights": studies_by_strategy.plot_weights,
}
_THIN: dict[str, Any] = {"color": "0.8", "lw": 0.6, "zorder": 0}


def _panels(rows: int, columns: int, names: Sequence[str]) -> tuple[Figure, list[Axes]]:
    """A figure with panels side by side that share rows with these names, the first on top."""
    drawing = Figure(figsize=(PAGE_WIDTH, 1.3 + 0.24 * rows))
    panels = drawing.subplots(1, columns, sharey=True, squeeze=False)[0]
    panels[0].set_yticks(range(rows), names)
    panels[0].set_ylim(rows - 0.4, -0.6)
    for axes in panels:
        axes.tick_params(axis="y", length=0)
        axes.locator_params(axis="x", nbins=16 // columns)
        axes.grid(axis="x", color="0.92", lw=0.5)
        axes.set_axisbelow(True)
    return drawing, list(panels)


def _legend(drawing: Figure, handles: Sequence[Artist], title: str | None = None) -> None:
    """A legend above all panels, where it hides nothing."""
    drawing.legend(
        handles=handles, title=title, loc="outside upper center", ncols=min(len(handles), 3)
    )


def _jitter(count: int) -> np.ndarray:
    """Heights evenly spread within a row, in the order of the folds."""
    return np.linspace(-0.28, 0.28, count) if count > 1 else np.zeros(1)


def _interval(
    axes: Axes, row: float, ends: tuple[float, float, float], marker: str, color: str
) -> None:
    """Draw the mean of a share with its interval, cut off at 0 and 1; an infinite interval is left out."""
    low, middle, high = ends
    if math.isfinite(low) and math.isfinite(high):
        axes.plot(np.clip([low, high], 0, 1), [row, row], color=color, lw=1.2, zorder=3)
    axes.plot(middle, row, marker, color=color, ms=4, zorder=4)


def _forest(axes: Axes, rows: Sequence[Comparison]) -> None:
    """Draw differences as `VERDICTS` says, with zero and the margin about it; infinite intervals are dotted
    lines across the panel."""
    axes.axvline(0, color=REFERENCE, lw=0.8, zorder=1)
    for place, row in enumerate(rows):
        shown = "better or worse" if row.verdict in ("better", "worse") else row.verdict
        color = VERDICTS[shown]["color"]
        if math.isfinite(row.simultaneous_low):
            for ends, width in (
                ((row.simultaneous_low, row.simultaneous_high), 0.7),
                ((row.low, row.high), 2.2),
            ):
                reach = np.clip(ends, *row.room)  # They are cut off as in the tables.
                axes.plot(reach, [place, place], color=color, lw=width, solid_capstyle="butt")
        elif row.ties < row.num_pairs:
            axes.axhline(place, color=color, lw=0.7, ls=":", zorder=1)
        axes.plot(row.difference, place, **VERDICTS[shown], zorder=4)
    # Zero can always be seen, and there is a scale even where nothing differs.
    low, high = axes.get_xlim()
    margin = rows[0].margin
    axes.set_xlim(max(min(low, -1.3 * margin), -1), min(max(high, 1.3 * margin), 1))
    axes.axvspan(-margin, margin, color=BAND, lw=0, zorder=0)


def _forest_handles(margin: float) -> list[Artist]:
    """The entries of the legend of `_forest`."""
    points = [Line2D([], [], ls="", label=label, **look) for label, look in VERDICTS.items()]
    return [
        *points,
        Patch(color=BAND, label=f"less than {margin:g}"),
        Line2D([], [], color="0.3", lw=2.2, label="95 % interval alone"),
        Line2D([], [], color="0.3", lw=0.7, label="all together"),
    ]


def _better(metric: str) -> str:
    """Whether more or less of a metric is better."""
    return "more" if DIRECTION[metric] > 0 else "less"


def _over(axes: Axes, record: xr.Dataset, entries: Sequence[Sensitivity]) -> None:
    """Draw scores over one number that was changed; it is 1 for the strategy without the change."""
    places = {1.0: entries[0].reference} | {entry.value: entry.variant for entry in entries}
    values = sorted(places)
    for metric, (marker, color) in LINES.items():
        scores = record[metric].sel(correction="none")
        levels = [mean(scores, places[value]) for value in values]
        axes.plot(values, [level.score for level in levels], marker=marker, color=color, ms=4)
        for value, level in zip(values, levels, strict=True):
            if math.isfinite(level.low):
                axes.plot([value, value], [level.low, level.high], color=color, lw=0.8, alpha=0.6)
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.minorticks_off()
