"""Figures of Datasets: majority blue, minority vermilion, what lies between them grey; theory
dashed over simulation."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

from ssm import checks, metrics, profiles
from ssm.files import check_output, replacing

# Okabe and Ito's colour-blind-safe palette
COLORS = {profiles.MAJORITY: "#0072B2", "cross": "#7F7F7F", profiles.MINORITY: "#D55E00"}
COLUMN_WIDTH, PAGE_WIDTH = 3.5, 7.2  # inches

_STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "legend.fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "legend.frameon": False,
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "figure.constrained_layout.use": True,
}


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Draw everything inside in the project's style."""
    with matplotlib.rc_context(_STYLE):
        yield


def check_picture(path: Path, overwrite: bool) -> None:
    """Refuse a picture that cannot be written: by its suffix, or as `files.check_output` does."""
    if path.suffix not in (".png", ".pdf", ".svg"):
        raise checks.refuse("out", str(path), "a path ending in .png, .pdf or .svg")
    if path.is_dir():
        raise checks.refuse("out", str(path), "a file, not a folder")
    check_output(path, overwrite)


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure, whole or not at all; the same figure gives the same PNG to the byte."""
    check_picture(Path(path), overwrite=True)
    with replacing(Path(path)) as scratch, style():
        metadata = {"Software": None} if scratch.suffix == ".png" else None
        figure.savefig(scratch, metadata=metadata)


def _time_axis(dataset: xr.Dataset, axes: Axes) -> None:
    """Label the time axis with its unit; logarithmic where the times were so spaced."""
    axes.set_xlabel(dataset["time"].attrs.get("description", "time"))
    if '"save_spacing": "log"' in dataset.attrs.get("config", ""):
        axes.set(xscale="log", xlim=dataset["time"].values[[1, -1]])


def plot_blocks(dataset: xr.Dataset, axes: Axes, *, components: bool = True) -> None:
    """Share of its target learned by each block (mean, bold) and each component (thin) over time.

    Where the Dataset has predicted learning times they are marked by dotted lines.
    """
    progress = dataset["strength"] / dataset["component_target"]
    predicted, dotted = dataset.get("predicted_learning_time"), None
    for block, color in COLORS.items():
        mine = dataset["component_block"].values == block
        if not mine.any():
            continue
        if components:
            axes.plot(dataset["time"], progress.values[:, mine], color=color, lw=0.5, alpha=0.35)
        mean = dataset["block_strength"].sel(block=block) / dataset["block_target"].sel(block=block)
        axes.plot(dataset["time"], mean, color=color, label=block)
        if predicted is not None and np.isfinite(predicted.values[mine]).any():
            axes.axvline(float(np.nanmean(predicted.values[mine])), color=color, lw=0.8, ls=":")
            dotted = "half reached, predicted"
    axes.axhline(1, color="0.8", lw=0.6, zorder=0)
    if dotted:
        axes.plot([], [], color="0.3", lw=0.8, ls=":", label=dotted)
    _time_axis(dataset, axes)
    axes.set_ylabel("strength / target")
    axes.legend(title="block")


def plot_classes(dataset: xr.Dataset, axes: Axes) -> None:
    """Strength of each class over time, 1 at interpolation, coloured by group."""
    _by_class(dataset, axes, "class_strength")
    axes.axhline(1, color="0.8", lw=0.6, zorder=0)
    _time_axis(dataset, axes)
    axes.set_ylabel("class strength")


def plot_accuracy(dataset: xr.Dataset, axes: Axes) -> None:
    """Accuracy of each class (thin) and the mean of each group (bold) over time."""
    _by_class(dataset, axes, "class_accuracy", mean=True)
    _time_axis(dataset, axes)
    axes.set(ylabel="accuracy", ylim=(-0.03, 1.03))


def plot_loss(dataset: xr.Dataset, axes: Axes) -> None:
    """Training loss (black) and the mean loss of each class, on a logarithmic axis."""
    _by_class(dataset, axes, "class_loss")
    axes.plot(dataset["time"], dataset["loss"], color="black", label="weighted training loss")
    _time_axis(dataset, axes)
    axes.set(ylabel="loss", yscale="log")
    axes.legend()


def plot_singular_values(dataset: xr.Dataset, axes: Axes) -> None:
    """Sorted singular values of the logits over time, with the targets of the label matrix dashed,
    by block."""
    axes.plot(dataset["time"], dataset["singular_value"], color="black", lw=0.8)
    blocks, targets = dataset["component_block"].values, dataset["component_target"].values
    for block, color in COLORS.items():
        for i, target in enumerate(np.unique(targets[blocks == block])):
            axes.axhline(target, color=color, ls="--", lw=1, label=None if i else f"{block} target")
    _time_axis(dataset, axes)
    axes.set(ylabel="singular value of the logits", yscale="log")
    axes.legend()


def _by_class(dataset: xr.Dataset, axes: Axes, name: str, *, mean: bool = False) -> None:
    groups = dataset["class_group"].values
    for group in (profiles.MAJORITY, profiles.MINORITY):
        mine = groups == group
        if not mine.any():
            continue
        values = dataset[name].values
        width, alpha = (0.5, 0.35) if mean else (0.9, 1.0)
        lines = axes.plot(
            dataset["time"], values[:, mine], color=COLORS[group], lw=width, alpha=alpha
        )
        if mean:
            width = 2.6 if group == profiles.MAJORITY else 1.4  # both are seen where they coincide
            mean_values = metrics.group_mean(values, groups, group)
            lines = axes.plot(dataset["time"], mean_values, color=COLORS[group], lw=width)
        lines[0].set_label(group)
    axes.legend()


KINDS: dict[str, Callable[[xr.Dataset, Axes], None]] = {
    "blocks": plot_blocks,
    "classes": plot_classes,
    "accuracy": plot_accuracy,
    "loss": plot_loss,
    "singular_values": plot_singular_values,
}


def sweep_axes(dataset: xr.Dataset) -> tuple[str, ...]:
    """Axes of a sweep's Dataset, in its order; none for that of a single run."""
    return tuple(map(str, dataset["status"].dims)) if "status" in dataset else ()


def balance_colors() -> LinearSegmentedColormap:
    """Diverging colours for a minority over majority ratio of learning times: vermilion where the
    minority is first, near white at 1, blue where the majority is."""
    ends = [COLORS[profiles.MINORITY], "#F7F7F7", COLORS[profiles.MAJORITY]]
    return LinearSegmentedColormap.from_list("balance", ends)


def balance_norm(ratios: np.ndarray) -> LogNorm:
    """Logarithmic scale centred at 1 that holds all finite `ratios`."""
    finite = ratios[np.isfinite(ratios)]
    largest = np.exp(np.abs(np.log(finite)).max(initial=np.log(1.1)))
    return LogNorm(1 / largest, largest)


def ratio_of_learning_times(dataset: xr.Dataset) -> xr.DataArray:
    """Minority over majority block learning time of each run, NaN where either is not reached."""
    times = dataset["block_learning_time"]
    majority, minority = (
        times.sel(block=group, drop=True).where(lambda t: t > 0)
        for group in (profiles.MAJORITY, profiles.MINORITY)
    )
    return minority / majority


def plot_heatmap(dataset: xr.Dataset, drawing: Figure, names: tuple[str, ...]) -> None:
    """Minority over majority learning time of a sweep over two of its axes, the first of `names`
    along x: the geometric mean over all other axes.

    Runs in which either block was not learned are left out of the mean; a cell without any other
    is grey and crossed.
    """
    x, y = names
    ratio = ratio_of_learning_times(dataset)
    others = [dim for dim in ratio.dims if dim not in names]
    logs = ratio.copy(data=np.log(ratio.values)).mean(others).sortby([x, y]).transpose(y, x)
    cells = logs.copy(data=np.exp(logs.values))
    axes = drawing.subplots()
    axes.set_facecolor("0.85")
    values = np.ma.masked_invalid(cells.values)
    image = axes.pcolormesh(values, cmap=balance_colors(), norm=balance_norm(cells.values))
    rows, columns = np.nonzero(values.mask & np.ones(values.shape, dtype=bool))
    axes.plot(columns + 0.5, rows + 0.5, "x", color="0.4", ms=5)
    for axis, name in ((axes.xaxis, x), (axes.yaxis, y)):
        numbers = cells[name].values
        shown = _some(len(numbers), 8)
        axis.set_ticks(shown + 0.5, [f"{numbers[i]:g}" for i in shown])
        axis.set_label_text(_title(name))
    bar = drawing.colorbar(image, ax=axes, label="minority / majority learning time")
    ratio_ticks(bar.ax.yaxis)


def ratio_ticks(axis: Any) -> None:
    """Tick a logarithmic axis of ratios by plain numbers: 0.1, 0.3, 1, 3, 10, ..., closer where it
    spans less than a factor of ten."""
    low, high = sorted(axis.get_view_interval())
    if high / low >= 10:
        axis.set_major_locator(LogLocator(subs=(1, 3) if high / low < 1e4 else (1,)))
    else:
        steps = [0.4, 0.5, 0.6, 0.8, 1, 1.25, 1.5, 2, 2.5]
        axis.set_major_locator(FixedLocator([step for step in steps if low <= step <= high]))
    axis.set_major_formatter(FuncFormatter(lambda ratio, _: f"{ratio:g}"))
    axis.set_minor_formatter(NullFormatter())
    axis.set_tick_params(which="minor", length=0)


def plot_curves(dataset: xr.Dataset, drawing: Figure, names: tuple[str, ...]) -> None:
    """Share of their targets learned by the majority and the minority block over flow time, a curve
    for each value of one axis, light to dark.

    Lines are medians over seeds, bands go from the least to the greatest; both as far as the
    shortest of these runs. Other axes stand at their first value, which is said; pick another by
    `dataset.sel`. Time is logarithmic where the lengths of runs differ more than
    tenfold, or where the runs were observed so.
    """
    (name,) = names
    others = [dim for dim in sweep_axes(dataset) if dim not in (name, "seed")]
    dataset = dataset.sortby(name).isel(dict.fromkeys(others, 0))
    fixed = [f"{_title(dim)} = {dataset[dim].item()}" for dim in others]
    times = dataset["time" if "time" in dataset.coords else "flow_time"]
    share = dataset["block_strength"] / dataset["block_target"]
    times, share = xr.broadcast(times, share.transpose("block", name, ..., "time"))
    share = share.transpose("block", name, ..., "time")
    times = times.transpose(*share.dims)
    count, length = share.sizes[name], share.sizes["time"]
    panels = drawing.subplots(1, 2, sharey=True, sharex=True)
    starts, ends = [], []
    for axes, group in zip(panels, (profiles.MAJORITY, profiles.MINORITY), strict=True):
        own_times, own = (array.sel(block=group).values for array in (times, share))
        for i, color in enumerate(_shades(COLORS[group], count)):
            grid, values = _on_one_grid(
                own_times[i].reshape(-1, length), own[i].reshape(-1, length)
            )
            starts.append(grid[grid > 0].min(initial=np.inf))
            ends.append(grid[-1])
            axes.plot(grid, _over_runs(np.nanmedian, values), color=color)
            low, high = (_over_runs(extreme, values) for extreme in (np.nanmin, np.nanmax))
            axes.fill_between(grid, low, high, color=color, alpha=0.2, lw=0)
        axes.axhline(1, color="0.8", lw=0.6, zorder=0)
        axes.set(title=f"{group} block", xlabel=times.attrs.get("description", "time"))
        if not np.isfinite(own).any():
            axes.text(0.5, 0.5, "no such block", transform=axes.transAxes, ha="center", color="0.4")
    spaced = '"save_spacing": "log"' in dataset.attrs.get("sweep", "")
    if spaced or max(ends) > 10 * min(ends):
        first = min(starts) if spaced else max(min(starts), min(ends) / 100)
        panels[0].set(xscale="log", xlim=(first, max(ends)))
    panels[0].set_ylabel("share of target learned")
    if fixed:
        drawing.suptitle(", ".join(fixed), fontsize=7)
    shown, greys = _some(count, 8), _shades("0.45", count)
    handles = [Line2D([], [], color=greys[i], label=f"{dataset[name].values[i]:g}") for i in shown]
    drawing.legend(handles=handles, title=_title(name), loc="outside right upper")


def _on_one_grid(times: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Runs (run, time) at the times of the shortest of them: times (t,) and values (run, t)."""
    shortest = times[np.nanmax(times, axis=1).argmin()]
    grid = shortest[np.isfinite(shortest)]
    exist = np.isfinite(times)
    return grid, np.stack(
        [np.interp(grid, t[e], v[e]) for t, v, e in zip(times, values, exist, strict=True)]
    )


def _over_runs(statistic: Callable[..., Any], values: np.ndarray) -> np.ndarray:
    """A statistic over runs (run, time) that leaves NaN out: (time,), NaN where no run has any."""
    result, some = np.full(values.shape[1], np.nan), np.isfinite(values).any(axis=0)
    if some.any():
        result[some] = statistic(values[:, some], axis=0)
    return result


def _shades(color: str, count: int) -> list[Any]:
    """`count` shades of a colour, light to dark; itself if it is the only one."""
    own = np.array(to_rgb(color))
    stops = np.stack([0.35 * own + 0.65, own, 0.55 * own])
    places = np.linspace(0, 2, count) if count > 1 else np.ones(1)
    return list(np.stack([np.interp(places, range(3), part) for part in stops.T], axis=1))


def _some(count: int, most: int) -> np.ndarray:
    """At most about `most` of the numbers below `count`, evenly spaced from 0."""
    return np.arange(0, count, -(-count // most))


def _title(name: str) -> str:
    """An axis's name as words."""
    return name.replace("_", " ")


SWEEP_KINDS: dict[str, Callable[[xr.Dataset, Figure, tuple[str, ...]], None]] = {
    "heatmap": plot_heatmap,
    "curves": plot_curves,
}
_NUM_AXES = {"heatmap": 2, "curves": 1}


def figure(dataset: xr.Dataset, kind: str, axes: Sequence[str] = ()) -> Figure:
    """One figure of the given kind: a key of `KINDS` for a run, of `SWEEP_KINDS` for a sweep.

    Args:
        dataset: a run, tracked logits or a sweep.
        kind: what to draw.
        axes: of a sweep, the numeric axes to draw over: two for a `heatmap` (along x, along y), one
            for `curves`. Left out: its first ones, `seed` last.

    Raises:
        ssm.InputError: an unknown kind, one whose variables the Dataset lacks or that is not for
            it, axes that are unknown, not numeric, too few or too many.
    """
    checks.choice("kind", kind, [*KINDS, *SWEEP_KINDS])
    found = sweep_axes(dataset)
    if found:
        return _sweep_figure(dataset, kind, _chosen_axes(dataset, kind, found, axes))
    if kind not in KINDS:
        raise checks.refuse("kind", kind, "one of " + ", ".join(KINDS) + ": this is a single run")
    if axes:
        raise checks.refuse("axes", tuple(axes), "left out: this is a single run")
    if kind == "loss" and "loss" not in dataset:
        raise checks.refuse(
            "kind", kind, "another kind: tracked logits do not say what they were trained on"
        )
    with style():
        drawing = Figure(figsize=(COLUMN_WIDTH, 2.6))
        KINDS[kind](dataset, drawing.subplots())
    return drawing


def _sweep_figure(dataset: xr.Dataset, kind: str, names: tuple[str, ...]) -> Figure:
    with style():
        drawing = Figure(figsize=(COLUMN_WIDTH if kind == "heatmap" else PAGE_WIDTH, 2.6))
        SWEEP_KINDS[kind](dataset, drawing, names)
    return drawing


def _chosen_axes(
    dataset: xr.Dataset, kind: str, found: tuple[str, ...], asked: Sequence[str]
) -> tuple[str, ...]:
    """The axes a sweep is drawn over, checked."""
    if kind not in SWEEP_KINDS:
        raise checks.refuse("kind", kind, "one of " + ", ".join(SWEEP_KINDS) + ": this is a sweep")
    numeric = [name for name in found if dataset[name].dtype.kind in "iuf"]
    count = _NUM_AXES[kind]
    what = f"{count} of the sweep's numeric axes, here {', '.join(numeric) or 'none'}"
    names = checks.items("axes", asked, what) or sorted(numeric, key="seed".__eq__)[:count]
    if len(names) != count or len(set(names)) != count or not set(names) <= set(numeric):
        raise checks.refuse("axes", tuple(names), f"{what} (kind={kind})")
    return tuple(names)
