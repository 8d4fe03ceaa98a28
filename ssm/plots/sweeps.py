"""Figures of sweeps: heat maps of ratios of learning times over two axes, curves over one axis, dots over points."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import Colormap, LinearSegmentedColormap, LogNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

from ssm.config import profiles
from ssm.plots.style import COLORS
from ssm.results import datasets, schema
from ssm.results.fits import ratio_of_learning_times
from ssm.support import errors


def sweep_axes(dataset: xr.Dataset) -> tuple[str, ...]:
    """The axes of the Dataset of a sweep, in its order; an empty tuple for a single run."""
    return tuple(map(str, dataset["status"].dims)) if "status" in dataset else ()


def kinds(dataset: xr.Dataset, axes: Sequence[str] = ()) -> tuple[str, ...]:
    """The kinds of figure that a sweep allows, the one that suits it best first: a `scatter` of points, else a
    `heatmap` over two numeric axes besides the seed, else `curves` over one; none for a sweep over names alone. Where
    `axes` are given, their number decides which kind comes first."""
    points = schema.POINT in sweep_axes(dataset)
    two = len(axes or [name for name in numeric_axes(dataset, "heatmap") if name != "seed"]) > 1
    best = "scatter" if points else "heatmap" if two else "curves"
    allowed = [
        kind
        for kind in KINDS
        if min(NUM_AXES[kind]) <= len(numeric_axes(dataset, kind)) and (kind != "scatter" or points)
    ]
    return tuple(sorted(allowed, key=lambda kind: kind != best))


def numeric_axes(dataset: xr.Dataset, kind: str) -> list[str]:
    """The axes over which a sweep can be drawn, those of numbers. For `scatter` they include the fields that move
    together in place of their common axis, along which the order of points means nothing."""
    axes = [name for name in sweep_axes(dataset) if name != schema.POINT]
    if kind == "scatter":
        along = {str(n): coordinate.dims for n, coordinate in dataset.coords.items()}
        axes = [n for n, dims in along.items() if n in axes or dims == (schema.POINT,)]
        axes = [n for n in axes if n != schema.POINT]
    return [name for name in axes if dataset[name].dtype.kind in "iuf"]


def passes_targets(dataset: xr.Dataset) -> bool:
    """Whether the loss of a run, or of any run of a sweep, is a kind of cross-entropy, which has no
    finite target: strengths grow beyond the targets of the squared loss, the singular values of the label matrix."""
    if "loss_name" in dataset.coords:
        return bool((dataset["loss_name"] != "squared").any())
    settings = json.loads(dataset.attrs.get("config", "{}"))
    if "sweep" in dataset.attrs:
        settings = json.loads(dataset.attrs["sweep"])["base"]
    return settings.get("loss", "squared") != "squared"  # The loss of tracked logits is not known.


def balance_colors() -> LinearSegmentedColormap:
    """Diverging colours for the learning time of the minority over that of the majority: vermilion where the
    minority is first, near white at 1, blue where the majority is first."""
    ends = [COLORS[profiles.MINORITY], "#F7F7F7", COLORS[profiles.MAJORITY]]
    return LinearSegmentedColormap.from_list("balance", ends)


def balance_norm(ratios: np.ndarray) -> LogNorm:
    """A logarithmic scale centred at 1 that contains all finite `ratios`."""
    finite = ratios[np.isfinite(ratios)]
    largest = np.exp(np.abs(np.log(finite)).max(initial=np.log(1.1)))
    return LogNorm(1 / largest, largest)


def plot_heatmap(
    dataset: xr.Dataset,
    drawing: Figure,
    names: tuple[str, ...],
    *,
    cmap: str | Colormap | None = None,
) -> None:
    """Draw the learning time of the minority over that of the majority, the geometric mean over all other axes, for a
    sweep over two of its axes, the first of `names` along x.

    Runs in which either block was not learned are left out of the mean; a cell without any other run
    is grey and crossed. `cmap` is a colour map, or a name that Matplotlib knows; left out:
    `balance_colors`, which the colour-blind can tell apart.
    """
    if isinstance(cmap, str) and cmap not in colormaps:
        hint = errors.did_you_mean(cmap, list(colormaps))
        allowed = f"a colour map, or the name of one of Matplotlib's{hint}"
        raise errors.invalid("cmap", cmap, allowed)
    x, y = names
    ratio = ratio_of_learning_times(dataset)
    others = [dim for dim in ratio.dims if dim not in names]
    logs = ratio.copy(data=np.log(ratio.values)).mean(others).sortby([x, y]).transpose(y, x)
    cells = logs.copy(data=np.exp(logs.values))
    axes = drawing.subplots()
    axes.set_facecolor("0.85")
    values = np.ma.masked_invalid(cells.values)
    image = axes.pcolormesh(values, cmap=cmap or balance_colors(), norm=balance_norm(cells.values))
    rows, columns = np.nonzero(values.mask & np.ones(values.shape, dtype=bool))
    axes.plot(columns + 0.5, rows + 0.5, "x", color="0.4", ms=5)
    if values.mask.all():
        _say(axes, _why_empty(dataset))
    for axis, name in ((axes.xaxis, x), (axes.yaxis, y)):
        numbers = cells[name].values
        shown = _some(len(numbers), 8)
        axis.set_ticks(shown + 0.5, [_short(float(numbers[i])) for i in shown])
        axis.set_label_text(_title(name))
    bar = drawing.colorbar(image, ax=axes, label=ratio.attrs["long_name"])
    ratio_ticks(bar.ax.yaxis)


def plot_scatter(dataset: xr.Dataset, drawing: Figure, names: tuple[str, ...]) -> None:
    """Draw the learning time of the minority over that of the majority, the geometric mean over other axes, with a dot for
    each point of a sweep. Over two fields of numbers, the first of `names` along x, the ratio is a colour; over one
    field it is along y.

    Runs in which either block was not learned are left out of the mean; a point without any other run is
    a grey cross.
    """
    ratio = ratio_of_learning_times(dataset)
    kept = {dim for name in names for dim in dataset[name].dims}
    logs = ratio.copy(data=np.log(ratio.values)).mean(
        [dim for dim in ratio.dims if dim not in kept]
    )
    places = [
        array.values.ravel() for array in xr.broadcast(*(dataset[name] for name in names), logs)
    ]
    ratios, known = np.exp(places[-1]), np.isfinite(places[-1])
    axes = drawing.subplots()
    x, y = places[0], places[1] if len(names) == 2 else ratios
    look: dict[str, Any] = {"s": 16, "edgecolors": "0.35", "linewidths": 0.4}
    if len(names) == 2:
        colored = {"c": ratios[known], "cmap": balance_colors(), "norm": balance_norm(ratios)}
        dots = axes.scatter(x[known], y[known], **look, **colored)
        axes.plot(x[~known], y[~known], "x", color="0.5", ms=3)
        bar = drawing.colorbar(dots, ax=axes, label=ratio.attrs["long_name"])
        ratio_ticks(bar.ax.yaxis)
    else:
        axes.scatter(x[known], y[known], **look, color="0.2")
        below = axes.get_xaxis_transform()  # Crosses stand at the foot of the figure.
        axes.plot(x[~known], np.full((~known).sum(), 0.03), "x", color="0.5", ms=3, transform=below)
        axes.axhline(1, color="0.8", lw=0.6, zorder=0)
        axes.margins(y=0.12)
        axes.set(yscale="log", ylabel=ratio.attrs["long_name"])
        ratio_ticks(axes.yaxis)
    for letter, name in zip("xy", names, strict=False):
        spaced = "log" if _are_spread_by_factors(dataset[name].values) else "linear"
        axes.set(**{f"{letter}scale": spaced, f"{letter}label": _title(name)})
    if not known.any():
        _say(axes, _why_empty(dataset))


def _are_spread_by_factors(values: np.ndarray) -> bool:
    """Whether numbers are spread over a logarithmic scale rather than a linear one: whether their median is nearer to
    the geometric mean of their extremes than to the arithmetic one."""
    low, high = float(values.min()), float(values.max())
    if low <= 0 or high < 10 * low:
        return False
    return float(np.median(values)) ** 2 < np.sqrt(low * high) * (low + high) / 2


def ratio_ticks(axis: Axis) -> None:
    """Tick a logarithmic axis of ratios by plain numbers: 0.1, 0.3, 1, 3, 10, ..., or denser ones where the axis
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
    """Draw the share of their targets that the majority and the minority block have learned over flow time, with a curve
    for each value of one axis, light to dark.

    Lines are medians over seeds and bands go from the least value to the greatest, both up to the end of the
    shortest of these runs. Other axes stand at their first value, which the title says; `dataset.sel` picks another.
    Time is logarithmic where the lengths of runs differ more than tenfold, or where the saved times are spaced so. For
    a group of one class, which has no block, the strength of that class is drawn.
    """
    (name,) = names
    others = [dim for dim in sweep_axes(dataset) if dim not in (name, "seed")]
    dataset = dataset.sortby(name).isel(dict.fromkeys(others, 0))
    fixed = [f"{_title(dim)} = {dataset[dim].item()}" for dim in others]
    times = dataset["time" if "time" in dataset.coords else "flow_time"]
    share = _shares(dataset)
    times, share = xr.broadcast(times, share.transpose("block", name, ..., "time"))
    share = share.transpose("block", name, ..., "time")
    times = times.transpose(*share.dims)
    count, length = share.sizes[name], share.sizes["time"]
    panels = drawing.subplots(1, 2, sharey=True, sharex=True)
    starts, ends = [], []
    for axes, group in zip(panels, profiles.GROUPS, strict=True):
        group_times, group_share = (array.sel(block=group).values for array in (times, share))
        for i, color in enumerate(_shades(COLORS[group], count)):
            grid, values = _on_one_grid(
                group_times[i].reshape(-1, length), group_share[i].reshape(-1, length)
            )
            starts.append(grid[grid > 0].min(initial=np.inf))
            ends.append(grid[-1])
            axes.plot(grid, _over_runs(np.nanmedian, values), color=color)
            low, high = (_over_runs(extreme, values) for extreme in (np.nanmin, np.nanmax))
            axes.fill_between(grid, low, high, color=color, alpha=0.2, lw=0)
        axes.axhline(1, color="0.8", lw=0.6, zorder=0)
        axes.set(title=_panel_title(dataset, group), xlabel=times.attrs.get("description", "time"))
        if not np.isfinite(group_share).any():
            _say(axes, _why_empty(dataset, group))
    spaced = datasets.time_spacing(dataset) == "log"
    if spaced or max(ends) > 10 * min(ends):
        first = min(starts) if spaced else max(min(starts), min(ends) / 100)
        panels[0].set(xscale="log", xlim=(first, max(ends)))
    target = "squared-loss target" if passes_targets(dataset) else "target"
    panels[0].set_ylabel(f"share of {target} learned")
    if fixed:
        drawing.suptitle(", ".join(fixed), fontsize=7)
    shown, greys = _some(count, 8), _shades("0.45", count)
    handles = [Line2D([], [], color=greys[i], label=f"{dataset[name].values[i]:g}") for i in shown]
    drawing.legend(handles=handles, title=_title(name), loc="outside right upper")


def _panel_title(dataset: xr.Dataset, group: str) -> str:
    """The title of the panel of a group, which says whether its block is drawn, or its only class in runs where it has one."""
    lone = datasets.alone(dataset, group).any("class")
    if lone.all():
        return f"{group} (class strength)"
    return f"{group} block" + (" (or class strength)" if lone.any() else "")


def _shares(dataset: xr.Dataset) -> xr.DataArray:
    """The share of its target that each block has learned. A group of one class has no block, and the strength of that
    class takes its place."""
    share = dataset["block_strength"] / dataset["block_target"]
    for group in profiles.GROUPS:
        mine = datasets.alone(dataset, group)
        if mine.any():
            group_strength = dataset["class_strength"].where(mine).sum("class", min_count=1)
            share = share.where((share["block"] != group) | ~mine.any("class"), group_strength)
    return share


def _why_empty(dataset: xr.Dataset, *groups: str) -> str:
    """The reason why no run of a sweep has a value for the given groups, or for one of the two groups."""
    groups = groups or profiles.GROUPS
    for group in groups:
        if not (dataset["class_group"] == group).any():
            return f"no class is a {group}"
        if datasets.alone(dataset, group).any("class").all():
            return f"the {group} is one class,\nwhich has no contrasts within its group"
    if dataset["block_target"].sel(block=list(groups)).isnull().any("block").all():
        return "no contrast is mostly\nwithin this group"
    return "no run has learned it"


def _say(axes: Axes, words: str) -> None:
    """Write words in the middle of axes."""
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8}
    axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", color="0.4", bbox=box)


def _on_one_grid(times: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values of runs, (run, time), interpolated at the times of the shortest run: these times (t,) and values (run, t)."""
    shortest = times[np.nanmax(times, axis=1).argmin()]
    grid = shortest[np.isfinite(shortest)]
    exist = np.isfinite(times)
    return grid, np.stack(
        [np.interp(grid, t[e], v[e]) for t, v, e in zip(times, values, exist, strict=True)]
    )


def _over_runs(statistic: Callable[..., np.ndarray], values: np.ndarray) -> np.ndarray:
    """A statistic over runs, (run, time), which ignores NaN: shape (time,), NaN where no run has a value."""
    result, some = np.full(values.shape[1], np.nan), np.isfinite(values).any(axis=0)
    if some.any():
        result[some] = statistic(values[:, some], axis=0)
    return result


def _shades(color: str, count: int) -> list[Any]:
    """`count` shades of a colour, light to dark; the colour itself if the count is 1."""
    pure = np.array(to_rgb(color))
    stops = np.stack([0.35 * pure + 0.65, pure, 0.55 * pure])
    places = np.linspace(0, 2, count) if count > 1 else np.ones(1)
    return list(np.stack([np.interp(places, range(3), part) for part in stops.T], axis=1))


def _some(count: int, most: int) -> np.ndarray:
    """About `most` of the numbers below `count` at most, evenly spaced from 0."""
    return np.arange(0, count, -(-count // most))


def _short(number: float) -> str:
    """A number in three digits, for which eight ticks have room; a whole number in up to six."""
    whole = number.is_integer() and abs(number) < 1e6
    return f"{number:.0f}" if whole or 100 <= abs(number) < 1e6 else f"{number:.3g}"


def _title(name: str) -> str:
    """An axis's name as words."""
    return name.replace("_", " ")


KINDS: dict[str, Callable[[xr.Dataset, Figure, tuple[str, ...]], None]] = {
    "heatmap": plot_heatmap,
    "curves": plot_curves,
    "scatter": plot_scatter,
}
NUM_AXES = {"heatmap": (2,), "curves": (1,), "scatter": (2, 1)}
"""The numbers of axes over which each kind can be drawn, beginning with that of a figure for which no axes are given."""
