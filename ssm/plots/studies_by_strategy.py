"""Figures of a study with a panel for each strategy: training over its steps, and reliability diagrams."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import xarray as xr
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from ssm.config import profiles
from ssm.measures import metrics
from ssm.plots.style import COLORS, PAGE_WIDTH
from ssm.practice.statistics import calibration
from ssm.practice.statistics.calibration import Reliability
from ssm.practice.study import attributes
from ssm.practice.study.evidence import Calibrated, Findings, has_histories

COLUMNS = 3
MIDDLE = (10, 90)  # a band lies between these percentiles of the folds
WIDE = 5  # the axis of weights is logarithmic where their ratio exceeds this
BEFORE, AFTER = "0.55", "#000000"
RARE, RARER = (0, 0.02, 0.1, 0.25, 0.5, 0.75, 1), (0, 0.002, 0.01, 0.05, 0.1, 0.2)  # ticks of roots
SHOWN = (("none", BEFORE, "s", "before"), ("temperature", AFTER, "o", "after"))
"""The corrections that reliability diagrams show, with their colour, marker and name."""


def plot_training(record: xr.Dataset, findings: Findings) -> Figure | None:
    """Held-out recall of majority and minority classes over training; the baseline is dashed. None without a
    network."""
    if not has_histories(record):
        return None
    recalls = _histories(record, findings, "class_recall")
    drawing, panels = _grid(findings.strategies)
    steps = _steps(record)
    for axes, name in panels:
        for group, values in _of_groups(findings, recalls[name]):
            _band(axes, steps, values, COLORS[group])
        if name != findings.baseline:
            for group, values in _of_groups(findings, recalls[findings.baseline]):
                axes.plot(steps, values.mean(0), color=COLORS[group], lw=0.9, ls="--")
        axes.set_ylim(-0.03, 1.03)
    _labels(drawing, "training step", "recall on held-out samples")
    _group_legend(drawing, findings, findings.baseline)
    return drawing


def plot_gradients(record: xr.Dataset, findings: Findings) -> Figure | None:
    """The minority classes' share of the gradient over training; the baseline is dashed. None without a
    minority, or without a network."""
    if profiles.MINORITY not in findings.groups or not has_histories(record):
        return None
    minority = np.array(findings.groups) == profiles.MINORITY
    shares = {
        name: values[:, :, minority].sum(2)
        for name, values in _histories(record, findings, "gradient_share").items()
    }
    counts = np.array(attributes.study_facts(record)["class_counts"])
    drawing, panels = _grid(findings.strategies)
    steps, color = _steps(record), COLORS[profiles.MINORITY]
    for axes, name in panels:
        if len(shares[name]):
            _band(axes, steps, shares[name], color)
        if name != findings.baseline and len(shares[findings.baseline]):
            baseline = shares[findings.baseline].mean(0)
            axes.plot(steps, baseline, color=color, lw=0.9, ls="--")
        axes.axhline(counts[minority].sum() / counts.sum(), color="0.6", lw=0.7, ls=":")
        axes.set_ylim(-0.03, 1.03)
    _labels(drawing, "training step", "gradient share of minorities")
    handles = [
        Line2D([], [], color=color, label="strategy"),
        Line2D([], [], color=color, lw=0.9, ls="--", label=findings.baseline),
        Line2D([], [], color="0.6", lw=0.7, ls=":", label="their share of the samples"),
    ]
    drawing.legend(handles=handles, loc="outside upper center", ncols=3)
    return drawing


def plot_weights(record: xr.Dataset, findings: Findings) -> Figure | None:
    """Class weights over training with a line for each class, of the strategies that change them; None
    without any."""
    if not has_histories(record):
        return None
    weights = _histories(record, findings, "class_weight")
    moving = [
        name for name in findings.strategies if np.ptp(weights[name], axis=1).max(initial=0) > 1e-9
    ]
    if not moving:
        return None
    drawing, panels = _grid(moving)
    steps = _steps(record)
    for axes, name in panels:
        for group, values in zip(findings.groups, weights[name].mean(0).T, strict=True):
            axes.plot(steps, values, color=COLORS[group], lw=0.9)
    drawn = np.concatenate([weights[name].mean(0).ravel() for name in moving])
    if drawn.max() > WIDE * drawn.min() > 0:
        axis = panels[0][0].yaxis  # All panels share it.
        panels[0][0].set_yscale("log")
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda weight, _: f"{weight:g}"))
        axis.set_minor_formatter(NullFormatter())
    _labels(drawing, "training step", "class weight")
    _group_legend(drawing, findings, None)
    return drawing


def plot_reliability(record: xr.Dataset, findings: Findings) -> Figure | None:
    """The share of right predictions over the predicted probability, in bins of equal mass, before and after correction
    and temperature, with Wilson intervals. The titles give the calibration error with its bootstrap interval."""
    drawn = _diagrams(findings, findings.calibrated)
    if drawn is None:
        return None
    drawing, panels, lowest, _ = drawn
    for axes, _ in panels:
        axes.set(xlim=(max(lowest - 0.03, 0), 1.02), ylim=(max(lowest - 0.03, 0), 1.02))
    _labels(drawing, "mean probability of the predicted class", "share that is right")
    return drawing


def plot_minority_reliability(record: xr.Dataset, findings: Findings) -> Figure | None:
    """The figure of `plot_reliability` for the probability of all minority classes together. The axes show roots of
    probabilities, on which rare classes can be seen and intervals of few samples are about equally long
    everywhere."""
    drawn = _diagrams(findings, findings.minority)
    if drawn is None:
        return None
    drawing, panels, _, highest = drawn
    axes = panels[0][0]  # All panels share its axes.
    top, ticks = min(1.05 * highest, 1.02), RARE if highest > RARER[-1] else RARER
    axes.set_xscale("function", functions=(_root, _square))
    axes.set_yscale("function", functions=(_root, _square))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(FixedLocator([tick for tick in ticks if tick <= top]))
        axis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:g}"))
        axis.set_minor_locator(NullLocator())
    axes.set(xlim=(-0.001 * top, top), ylim=(-0.001 * top, top))
    whose = "class" if findings.groups.count(profiles.MINORITY) == 1 else "classes"
    _labels(drawing, f"mean probability of the minority {whose}", f"share of the minority {whose}")
    return drawing


def _diagrams(
    findings: Findings, calibrated: Sequence[Calibrated]
) -> tuple[Figure, list[tuple[Axes, str]], float, float] | None:
    """A reliability diagram for each strategy that has probabilities before and after correction: the
    figure, its panels, and the least and the greatest coordinate drawn. None without such a strategy.
    """
    by_correction = {(row.variant, row.correction): row for row in calibrated}
    names = [
        name
        for name in findings.strategies
        if all((name, correction) in by_correction for correction, *_ in SHOWN)
    ]
    if not names:
        return None
    drawing, panels = _grid(names, height=2.1)
    coordinates = []
    for axes, name in panels:
        axes.plot([0, 1], [0, 1], color="0.8", lw=0.6, zorder=0)
        title = [f"{name}: calibration error"]
        for correction, color, marker, when in SHOWN:
            row = by_correction[name, correction]
            coordinates += [*_reliability(axes, row.reliability, color, marker)]
            ends = f"[{row.interval.low:.3f}, {row.interval.high:.3f}]"
            title.append(f"{row.reliability.error:.3f} {ends} {when}")
        axes.set_title("\n".join(title), fontsize=7)
    handles = [
        Line2D([], [], color=BEFORE, marker="s", mfc="white", ms=4, label="as trained"),
        Line2D([], [], color=AFTER, marker="o", ms=4, label="prior-corrected, with temperature"),
    ]
    drawing.legend(handles=handles, loc="outside upper center", ncols=2)
    drawn = np.concatenate(coordinates)
    return drawing, panels, float(drawn.min()), float(drawn.max())


def _reliability(
    axes: Axes, bins: Reliability, color: str, marker: str
) -> tuple[Float[np.ndarray, " b"], ...]:
    """Draw bins with their intervals, and return all coordinates that were drawn."""
    low, high = calibration.wilson(np.round(bins.frequency * bins.count), bins.count)
    axes.vlines(bins.mean_confidence, low, high, color=color, lw=0.8, alpha=0.6)
    # The sizes differ so that both markers can be seen where they coincide.
    face, size = ("none", 5.5) if marker == "s" else (color, 3)
    axes.plot(bins.mean_confidence, bins.frequency, marker, color=color, mfc=face, ms=size)
    return bins.mean_confidence, low, high


def _root(share: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """The root of the absolute value, with the sign, so that an axis can begin a little below 0."""
    return np.sign(share) * np.sqrt(np.abs(share))


def _square(root: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """The inverse of `_root`."""
    return np.sign(root) * root**2


def _grid(names: Sequence[str], height: float = 1.5) -> tuple[Figure, list[tuple[Axes, str]]]:
    """A figure with a panel for each name, in rows of three, and the panels with their names."""
    columns = min(COLUMNS, len(names))
    rows = -(-len(names) // columns)
    width = PAGE_WIDTH * (0.28 + 0.24 * columns)
    drawing = Figure(figsize=(width, 0.6 + height * rows))
    panels = drawing.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    flat: list[Axes] = list(panels.ravel())
    for axes in flat[len(names) :]:
        axes.set_visible(False)
    for axes in flat[: len(names)][-columns:]:
        axes.tick_params(labelbottom=True)
    named_panels = list(zip(flat, names, strict=False))
    for axes, name in named_panels:
        axes.set_title(name)
    return drawing, named_panels


def _labels(drawing: Figure, x: str, y: str) -> None:
    """Label the axes that all panels share."""
    drawing.supxlabel(x, fontsize=8)
    drawing.supylabel(y, fontsize=8)


def _group_legend(drawing: Figure, findings: Findings, baseline: str | None) -> None:
    """A legend of the groups of classes, and of the baseline where its name is given."""
    handles = [
        Line2D([], [], color=COLORS[group], label=f"{group} classes")
        for group in profiles.GROUPS
        if group in findings.groups
    ]
    if baseline:
        handles.append(Line2D([], [], color="0.3", lw=0.9, ls="--", label=baseline))
    drawing.legend(handles=handles, loc="outside upper center", ncols=len(handles))


def _steps(record: xr.Dataset) -> Float[np.ndarray, " t"]:
    """The steps of the evaluations of the longest run."""
    steps = record["history_step"].values.reshape(-1, record.sizes["evaluation"])
    return np.nanmax(steps, axis=0)


def _histories(
    record: xr.Dataset, findings: Findings, name: str
) -> dict[str, Float[np.ndarray, "r t k"]]:
    """A history with a number for each class, by strategy: its values in all folds. Runs that stopped early
    keep their last value, and folds that do not begin with finite values are left out."""
    histories = {}
    for strategy in findings.strategies:
        values = record[f"history_{name}"].sel(variant=strategy).values
        values = values.reshape(-1, *values.shape[2:])
        values = values[np.isfinite(values[:, 0]).all(1)]
        for t in range(1, values.shape[1]):
            values[:, t] = np.where(np.isfinite(values[:, t]), values[:, t], values[:, t - 1])
        histories[strategy] = values
    return histories


def _of_groups(
    findings: Findings, values: Float[np.ndarray, "r t k"]
) -> Iterator[tuple[str, Float[np.ndarray, "r t"]]]:
    """The groups that have classes, each with the mean over its classes in every fold; none without folds."""
    for group in profiles.GROUPS:
        if group in findings.groups and len(values):
            yield group, metrics.group_mean(values, np.array(findings.groups), group)


def _band(axes: Axes, steps: np.ndarray, values: Float[np.ndarray, "r t"], color: str) -> None:
    """Draw the mean over folds, and a band that holds the middle of them."""
    low, high = np.percentile(values, MIDDLE, axis=0)
    axes.fill_between(steps, low, high, color=color, alpha=0.15, lw=0)
    axes.plot(steps, values.mean(0), color=color)
