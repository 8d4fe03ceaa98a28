"""Figures of Datasets. Majority is blue, minority vermilion, contrasts between them grey; theory is dashed over
simulation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from ssm.config import profiles
from ssm.plots import axis_labels, groups, networks, sweeps
from ssm.plots.legends import add_legend

# The style is a part of this module's public address, `ssm.plotting`.
from ssm.plots.style import COLORS, COLUMN_WIDTH, PAGE_WIDTH, PARTS, style
from ssm.plots.style import STYLE as STYLE
from ssm.plots.style import SUFFIXES as SUFFIXES
from ssm.plots.style import check_picture as check_picture
from ssm.plots.style import save_figure as save_figure
from ssm.results import classes, datasets, logs
from ssm.support import checks, errors


def _named(label: str | None, what: str) -> str:
    """The entry of a line in the legend: what it shows, and the label of its run where it has one."""
    return what if label is None else f"{what}, {label}"


def plot_blocks(
    dataset: xr.Dataset,
    axes: Axes,
    *,
    components: bool = True,
    label: str | None = None,
    linestyle: str = "-",
) -> None:
    """Draw the share of its target that each block (mean, bold) and each component (thin) has learned over time.

    The target is that of the squared loss; cross-entropy has no finite target and goes beyond 1. A group
    of one class has no contrasts within it, and so no block: the strength of that class is drawn,
    which is 1 at interpolation. Dotted lines mark predicted learning times that lie within the run. The legend stands above the axes and their title; a figure without a layout becomes
    a constrained one, which makes room for it.

    Args:
        components: whether single components are drawn too.
        label: the name of this run in the legend, where several are drawn on the same axes.
        linestyle: the style of its lines, in the words of Matplotlib.
    """
    progress = dataset["strength"] / dataset["component_target"]
    predicted, dotted = dataset.get("predicted_learning_time"), None
    for block, color in COLORS.items():
        mine = dataset["component_block"].values == block
        line_style: dict[str, Any] = {"color": color, "ls": linestyle}
        if not mine.any():
            lone = np.flatnonzero(datasets.alone(dataset, block))
            named = _named(label, f"{block} (class strength)")
            for strength in dataset["class_strength"].values.T[lone]:
                axes.plot(dataset["time"], strength, label=named, **line_style)
            continue
        if components:
            axes.plot(dataset["time"], progress.values[:, mine], lw=0.5, alpha=0.35, **line_style)
        mean = dataset["block_strength"].sel(block=block) / dataset["block_target"].sel(block=block)
        axes.plot(dataset["time"], mean, label=_named(label, block), **line_style)
        known = [] if predicted is None else predicted.values[mine]
        known = np.asarray(known)[np.isfinite(known)]
        # With a large imbalance the cross component may take many times longer than all others.
        if known.size and known.mean() <= dataset["time"].values[-1]:
            axes.axvline(float(known.mean()), color=color, lw=0.8, ls=":")
            dotted = "half reached, predicted"
    axes.axhline(1, color="0.8", lw=0.6, zorder=0)
    if dotted:
        axes.plot([], [], color="0.3", lw=0.8, ls=":", label=dotted)
    axis_labels.time_axis(dataset, axes)
    _say_what_is_absent(dataset, axes, "class_strength")
    axis_labels.strength_axis(dataset, axes, "strength / target")
    add_legend(axes)


def plot_classes(
    dataset: xr.Dataset, axes: Axes, *, label: str | None = None, linestyle: str = "-"
) -> None:
    """Strength of each class over time, 1 at interpolation of the simplex-encoded labels, coloured
    by group; `label` and `linestyle` as in `plot_blocks`."""
    _by_class(dataset, axes, "class_strength", label, linestyle)
    axes.axhline(1, color="0.8", lw=0.6, zorder=0)
    axis_labels.strength_axis(dataset, axes, "class strength")
    add_legend(axes)


def plot_accuracy(
    dataset: xr.Dataset, axes: Axes, *, label: str | None = None, linestyle: str = "-"
) -> None:
    """Accuracy of each class (thin) and the mean of each group (bold) over time. Classes without samples are left out, which a line
    below the axis says; `label` and `linestyle` as in `plot_blocks`."""
    _by_class(dataset, axes, "class_accuracy", label, linestyle, mean=True)
    axes.set(ylabel="accuracy", ylim=(-0.03, 1.03))
    add_legend(axes)


def plot_loss(
    dataset: xr.Dataset, axes: Axes, *, label: str | None = None, linestyle: str = "-"
) -> None:
    """Training loss, weighted (black), and the mean loss of each class, on a logarithmic axis; `label`
    and `linestyle` as in `plot_blocks`."""
    _by_class(dataset, axes, "class_loss", label, linestyle)
    named = _named(label, "training loss")
    axes.plot(dataset["time"], dataset["loss"], color="black", ls=linestyle, label=named)
    axes.set(ylabel="loss", yscale="log")
    add_legend(axes)


def plot_singular_values(dataset: xr.Dataset, axes: Axes) -> None:
    """Sorted singular values of the logits over time, with the targets of the label matrix dashed,
    by block."""
    axes.plot(dataset["time"], dataset["singular_value"], color="black", lw=0.8)
    blocks, targets = dataset["component_block"].values, dataset["component_target"].values
    for block, color in COLORS.items():
        for i, target in enumerate(np.unique(targets[blocks == block])):
            axes.axhline(target, color=color, ls="--", lw=1, label=None if i else f"{block} target")
    axis_labels.time_axis(dataset, axes)
    axes.set(ylabel="singular value of the logits", yscale="log")
    add_legend(axes)


def _by_class(
    dataset: xr.Dataset,
    axes: Axes,
    name: str,
    label: str | None,
    linestyle: str,
    *,
    mean: bool = False,
) -> None:
    """Draw a line over time for each class in the colour of its group, and with `mean` one for the mean of each group."""
    groups, is_known = dataset["class_group"].values, classes.known(dataset, name)
    for group in profiles.GROUPS:
        mine = is_known & (groups == group)
        if not mine.any():
            continue
        values = dataset[name].values
        line_style: dict[str, Any] = {"color": COLORS[group], "ls": linestyle}
        width, alpha = (0.5, 0.35) if mean else (0.9, 1.0)
        lines = axes.plot(dataset["time"], values[:, mine], lw=width, alpha=alpha, **line_style)
        if mean:
            # Both lines can be seen where they coincide.
            width = 2.6 if group == profiles.MAJORITY else 1.4
            mean_values = classes.mean(dataset, name, group)
            lines = axes.plot(dataset["time"], mean_values, lw=width, **line_style)
        lines[0].set_label(_named(label, group))
    axis_labels.time_axis(dataset, axes)
    _say_what_is_absent(dataset, axes, name)


def _say_what_is_absent(dataset: xr.Dataset, axes: Axes, name: str) -> None:
    """Add a line below the label of the time axis that says which classes are left out since they have no samples."""
    left_out, label = classes.absent(dataset, name), axes.get_xlabel()
    if left_out and left_out not in label.split("\n"):
        axes.set_xlabel(f"{label}\n{left_out}")


def plot_geometry(dataset: xr.Dataset, axes: Axes) -> None:
    """Draw the distances of W, H and Z to SELI (solid) and to the simplex ETF (dotted) over the least margin of a
    sample, or over time where margins were not observed."""
    margins = dataset.get("margin")
    for part, color in PARTS.items():
        for name, line in (("seli_distance", "-"), ("etf_distance", ":")):
            values = dataset[name].sel(part=part)
            label = f"${part}$" if line == "-" else None
            axes.plot(
                dataset["time"] if margins is None else margins,
                values,
                line,
                color=color,
                label=label,
            )
    axes.plot([], [], "-", color="0.3", label="to SELI")
    axes.plot([], [], ":", color="0.3", label="to simplex ETF")
    axis_labels.time_axis(dataset, axes)
    if margins is not None:  # The least margin is negative until all samples are classified right.
        axes.set(xscale="log", xlabel="least margin of a sample")
        axes.xaxis.set_minor_formatter(NullFormatter())  # They would overlap in a short run.
        axes.set_xlim(max(float(margins.max()) * 1e-9, 0.1), None)
    axes.set(ylabel="distance, both sides normalised", yscale="log")
    add_legend(axes)


def plot_held_out(
    dataset: xr.Dataset, axes: Axes, *, label: str | None = None, linestyle: str = "-"
) -> None:
    """Accuracy on held-out data of each group (solid), with that on training data (thin, dotted), and its
    mean over all classes (grey), whose best time is marked. Classes without samples are left out, which a line below the axis says;
    `label` and `linestyle` as in `plot_blocks`."""
    for group in profiles.GROUPS:
        for name, width, line in (("held_out", 1.4, linestyle), ("class", 0.8, ":")):
            means = classes.mean(dataset, f"{name}_accuracy", group)
            if np.isnan(means).all():
                continue
            named = _named(label, group) if name == "held_out" else None
            axes.plot(dataset["time"], means, color=COLORS[group], lw=width, ls=line, label=named)
    balanced = classes.mean(dataset, "held_out_accuracy")
    grey, where = COLORS["cross"], datasets.best_held_out(dataset)
    named = _named(label, "balanced")
    axes.plot(dataset["time"], balanced, color=grey, ls=linestyle, lw=1, label=named)
    time, best = float(dataset["time"].values[where]), float(balanced[where])
    if np.isfinite(best):
        axes.axvline(time, color=grey, lw=0.6, ls=(0, (1, 2)), zorder=0)
        best_named = _named(label, f"best {best:.3g} at {time:.3g}")
        axes.plot([time], [best], "o", color=grey, ms=3.5, label=best_named)
    axes.plot([], [], color="0.3", lw=0.8, ls=":", label="on training data")
    axis_labels.time_axis(dataset, axes)
    for name in ("held_out_accuracy", "class_accuracy"):
        _say_what_is_absent(dataset, axes, name)
    axes.set(ylabel="held-out accuracy", ylim=(-0.03, 1.03))
    add_legend(axes)


KINDS: dict[str, Callable[..., None]] = {
    "blocks": plot_blocks,
    "classes": plot_classes,
    "accuracy": plot_accuracy,
    "loss": plot_loss,
    "singular_values": plot_singular_values,
    "geometry": plot_geometry,
    "held_out": plot_held_out,
}
PAGES: dict[str, Callable[[xr.Dataset, Figure], None]] = {
    groups.KIND: groups.plot_groups,
    networks.KIND: networks.plot_network,
}
"""The kinds that fill a whole figure."""
NEEDS = {
    groups.KIND: ("group_accuracy", "classes of the run have no groups, as groups=... gives them"),
    "loss": ("loss", "tracked logits do not say what they were trained on"),
    "geometry": (
        "seli_distance",
        "the run was not made with geometry=True, or a Tracker was given no features",
    ),
    "held_out": ("held_out_accuracy", "nothing was held out, as held_out=True does"),
}
"""The variable that a kind needs, and the reason why a run does not have it."""


def kinds(dataset: xr.Dataset, axes: Sequence[str] = ()) -> tuple[str, ...]:
    """The kinds of figure that a run, tracked logits or a sweep allows, the one that suits it best first.

    The best kind for a run is `groups` where classes have groups, `held_out` where data were held out, `geometry` where the
    geometry was observed, and else `blocks`. For the log of a network it is `network` where its features or its classifier were
    given. For a sweep `sweeps.kinds` decides, by the number of `axes` to draw over where they are given.
    """
    if sweeps.sweep_axes(dataset):
        return sweeps.kinds(dataset, axes)
    of_runs = (groups.KIND, "held_out", "geometry", *KINDS)
    allowed = {kind for kind in of_runs if NEEDS.get(kind, ("time", ""))[0] in dataset.variables}
    found = sorted(allowed, key=of_runs.index)
    if networks.is_suited(dataset):
        return networks.KIND, *found
    return tuple(found + [networks.KIND] * logs.is_log(dataset))


def figure(dataset: xr.Dataset, kind: str | None = None, axes: Sequence[str] = ()) -> Figure:
    """One figure of the given kind. For a run it is a key of `KINDS`, or `groups` where its classes have groups
    (`groups.plot_groups`), for the log of a network also `network` (`networks.plot_network`), and for a sweep a key of
    `sweep_plots.KINDS`.

    Args:
        dataset: a run, tracked logits or a sweep.
        kind: the kind of figure. Left out: the first of `kinds(dataset, axes)`.
        axes: the numeric axes of a sweep to draw over: two for a `heatmap` (along x, along y), one
            for `curves`, one or two for a `scatter`, for which fields that move together will do too. Left out: its
            first axes, with `seed` last.

    Raises:
        ssm.InputError: an unknown kind, one whose variables the Dataset lacks or that is not for
            it, axes that are unknown, not numeric, too few or too many.
    """
    if not isinstance(dataset, xr.Dataset):
        raise errors.invalid("dataset", dataset, "a Dataset: ssm.load reads one from a store")
    if not dataset.sizes.get("time", 1):
        raise errors.invalid("dataset", "a log of no steps", "one to which a step was added")
    if kind is None:
        # A sweep over names alone has no kind; `curves` then raises the error that says why.
        kind = next(iter(kinds(dataset, axes)), "curves")
    of_runs = [*KINDS, *PAGES]
    checks.choice("kind", kind, [*of_runs, *sweeps.KINDS])
    if sweeps.sweep_axes(dataset):
        return _sweep_figure(dataset, kind, _chosen_axes(dataset, kind, axes))
    if kind not in of_runs:
        why = ": this is a single run"
        raise errors.invalid("kind", kind, errors.one_of(kind, [*KINDS, groups.KIND], why))
    if axes:
        raise errors.invalid("axes", tuple(axes), "left out: this is a single run")
    needed, why = NEEDS.get(kind, ("time", ""))
    if needed not in dataset.variables:
        raise errors.invalid("kind", kind, f"another kind: {why}")
    if kind in PAGES:
        return _page(dataset, kind)
    with style():
        drawing = Figure(figsize=(COLUMN_WIDTH, 2.6))
        KINDS[kind](dataset, drawing.subplots())
    return drawing


def _page(dataset: xr.Dataset, kind: str) -> Figure:
    if kind == networks.KIND and not logs.is_log(dataset):
        raise errors.invalid("kind", kind, "another kind: this is a run of the model")
    with style():
        drawing = Figure()
        PAGES[kind](dataset, drawing)
    return drawing


def _sweep_figure(dataset: xr.Dataset, kind: str, names: tuple[str, ...]) -> Figure:
    with style():
        drawing = Figure(figsize=(PAGE_WIDTH if kind == "curves" else COLUMN_WIDTH, 2.6))
        sweeps.KINDS[kind](dataset, drawing, names)
    return drawing


def _chosen_axes(dataset: xr.Dataset, kind: str, asked: Sequence[str]) -> tuple[str, ...]:
    """The axes over which a sweep is drawn, those asked for or the first ones; raises ssm.InputError for others."""
    if kind not in sweeps.KINDS:
        why = ": this is a sweep"
        raise errors.invalid("kind", kind, errors.one_of(kind, list(sweeps.KINDS), why))
    numeric, counts = sweeps.numeric_axes(dataset, kind), sweeps.NUM_AXES[kind]
    number = " or ".join(map(str, sorted(counts)))
    what = f"{number} of the sweep's numeric axes, here {', '.join(numeric) or 'none'}"
    names = checks.items("axes", asked, what) or sorted(numeric, key="seed".__eq__)[: counts[0]]
    distinct = len(set(names))
    if distinct not in counts or len(names) != distinct or not set(names) <= set(numeric):
        of_points = "scatter" in sweeps.kinds(dataset) and kind != "scatter"
        instead = "; points are drawn by kind=scatter" if of_points else ""
        unknown = next((name for name in names if name not in numeric), None)
        hint = errors.did_you_mean(unknown, numeric)
        raise errors.invalid("axes", tuple(names), f"{what} (kind={kind}{instead}){hint}")
    return tuple(names)
