"""The figure of the experiment `network_gap`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from experiments import pages
from experiments.claims import Estimate
from experiments.network_gap_runs import Cell, Convolutional, Units
from experiments.pages import HOLLOW, THEORY
from ssm import plotting
from ssm.config.model import Bias

ROWS: dict[Units, tuple[Bias, ...]] = {
    "linear": ("none", "both"),
    "fixed gates": ("none", "both"),
    "rectified": ("none", "output", "hidden", "both"),
}
BIASES = {
    "none": "no biases",
    "both": "biases",
    "hidden": "hidden biases",
    "output": "logit biases",
}
INPUTS = {True: ("o", "#009E73", "digits"), False: ("s", "#CC79A7", "orthogonal classes")}
LADDER = {
    "small coupling": "model: $c$,\nsmall start",
    "trained coupling": "its start,\noptimiser",
    "trained classes": "$\\kappa_c$ of\nclasses",
    "trained kernel": "all of $K$",
}
BLOCKS = ("majority", "cross", "minority")
MARKERS = {"5 to 9": "o", "0 to 4": "^"}


def draw(
    path: Path, slopes: Mapping[Cell, np.ndarray], real: Mapping[str, list[Convolutional]]
) -> None:
    """Slopes of the ablation at both starts; ratios of learning times with ever more of the network
    in the model; learning times of blocks in the model and in the network."""
    with pages.page(path, 5.2) as figure:
        halves: Any = figure.subfigures(2, 1, height_ratios=(1.1, 1))
        above, below = halves
        left, right = above.subplots(1, 2, sharex=True, sharey=True)
        for ax, start in ((left, "small"), (right, "standard")):
            _draw_slopes(ax, slopes, start)
        pages.legend_above(above, left, 3)
        ratio, times = below.subplots(1, 2, width_ratios=(1.25, 1))
        _draw_ratios(ratio, [own for half in real.values() for own in half])
        _draw_times(times, real)


def _draw_slopes(ax: Axes, slopes: Mapping[Cell, np.ndarray], start: str) -> None:
    names, height = [], 0
    for units, biases in ROWS.items():
        for bias in biases:
            for overlap, (marker, color, label) in INPUTS.items():
                own = slopes[Cell(units, bias, overlap, start)]
                y = height + (0.15 if overlap else -0.15)
                ax.plot(own, np.full(len(own), y), ".", color=color, ms=2, alpha=0.6)
                mean = Estimate.over_seeds(own)
                if np.isfinite(mean.low):
                    ax.plot([mean.low, mean.high], [y, y], color=color, lw=1)
                name = label if height == 0 else None
                ax.plot(mean.mean, y, marker, color=color, label=name, **HOLLOW)
            names.append(f"{units}, {BIASES[bias]}")
            height += 1
    ax.axvline(-1, label="model", **THEORY)
    ax.set_yticks(range(height), names)
    ax.set(xlabel="power of $R$ per unit of $g$", title=f"{start} start", ylim=(height - 0.4, -0.6))


def _draw_ratios(ax: Axes, every: list[Convolutional]) -> None:
    """Each network a thin line, geometric means bold."""
    each = np.array(
        [[_ratio(own.model[name]) for name in LADDER] + [_ratio(own.trained)] for own in every]
    )
    where = np.arange(each.shape[1])
    ax.plot(where, each.T, color="0.8", lw=0.5)
    mean = [Estimate.geometric(column) for column in each.T]
    middle = np.array([own.mean for own in mean])
    error = np.array([[own.mean - own.low, own.high - own.mean] for own in mean]).T
    colors = ["0.45"] * len(LADDER) + ["black"]
    for x, y, low_high, color in zip(where, middle, error.T, colors, strict=True):
        bars = low_high[:, None] if np.isfinite(low_high).all() else None
        ax.errorbar(x, y, bars, fmt="o", color=color, capsize=2, ms=3, elinewidth=1)
    ax.set_xticks(where, [*LADDER.values(), "network"])
    ax.set(yscale="log", ylabel="minority / majority\nlearning time, ERM")
    pages.plain_ticks(ax.yaxis, [2, 3, 5, 10])


def _ratio(times: np.ndarray) -> float:
    return float(times[2] / times[0])


def _draw_times(ax: Axes, real: Mapping[str, list[Convolutional]]) -> None:
    """Steps of the network over those of the model with K, each network and block."""
    ends = 2.0, 150.0
    ax.plot(ends, ends, **THEORY)
    for i, block in enumerate(BLOCKS):
        for half, some in real.items():
            found = np.array([[own.model["trained kernel"][i], own.trained[i]] for own in some])
            style: dict[str, Any] = {"color": plotting.COLORS[block], **HOLLOW}
            ax.plot(*found.T, MARKERS[half], label=block if half == "5 to 9" else None, **style)
    for half, marker in MARKERS.items():
        pages.key(ax, f"minorities {half}", marker, color="black", **HOLLOW)
    ax.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
    ax.set(xlabel="steps of the model with $K$", ylabel="steps of the network")
    ax.legend(loc="upper left", labelspacing=0.2)
    for axis in (ax.xaxis, ax.yaxis):
        pages.plain_ticks(axis, [2, 5, 10, 20, 50, 100])
