"""The figure of `tracked`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import AsinhNorm
from matplotlib.figure import Figure

from experiments import pages
from experiments.pages import THEORY
from experiments.tracked_runs import (
    EQUAL,
    NUM_MAJORITY,
    WEIGHTINGS,
    Config,
    Family,
    first_fitted,
    predicted_position,
    unit,
)
from ssm import geometry
from ssm.plots.style import PARTS

LINES = {"ERM": "-", "weighted": (0, (4, 1.5))}


def draw(
    path: Path,
    config: Config,
    runs: xr.Dataset,
    alike: dict[tuple[float, float, str], xr.Dataset],
) -> None:
    """Distances of W to both geometries over steps, positions between them, and the matrices at the end of the largest R."""
    with pages.page(path, 7.3) as figure:
        grid = figure.add_gridspec(4, 12, height_ratios=[1, 1, 1, 1.3])
        width = 12 // len(config.ratios)
        tops = [
            figure.add_subplot(grid[0, i * width : (i + 1) * width])
            for i in range(len(config.ratios))
        ]
        for ax, ratio in zip(tops, config.ratios, strict=True):
            _draw_distances(ax, runs.sel(imbalance_ratio=ratio))
            ax.set_title(f"digits, $R = {ratio:g}$")
            ax.sharey(tops[0])
        tops[0].set_ylabel("distance of $W$,\nnormalised")
        unequal = [ratio for ratio in config.ratios if ratio > 1]
        width = 12 // len(unequal)
        coupling = runs["coupling"].isel(imbalance_ratio=0, time=0).sel(weighting="ERM").values
        middle = [
            figure.add_subplot(grid[1, i * width : (i + 1) * width]) for i in range(len(unequal))
        ]
        for ax, ratio in zip(middle, unequal, strict=True):
            counts = config.counts(ratio)
            own = runs.sel(imbalance_ratio=ratio)
            for weighting, style in LINES.items():
                _draw_positions(ax, own.sel(weighting=weighting), counts, style, weighting == "ERM")
            predicted = float(predicted_position(counts, coupling).mean())
            _claimed(ax, predicted, 0.0)
            _steps(ax, own)
            ax.set_title(f"digits, $R = {ratio:g}$")
        middle[0].set_ylabel("position: 0 ETF,\n1 SELI of the counts")
        _keys(tops[0])
        pages.legend_above(figure, tops[0], 3)
        cases = [(c, ratio) for c in config.couplings for ratio in unequal]
        width, first = 12 // len(cases), None
        for i, (coupling, ratio) in enumerate(cases):
            place = grid[2, i * width : (i + 1) * width]
            ax = figure.add_subplot(place, sharey=first)
            counts = config.counts(ratio)
            for weighting, style in LINES.items():
                if (coupling, ratio, weighting) in alike:
                    own = alike[coupling, ratio, weighting]
                    _draw_positions(ax, own, counts, style, weighting == "ERM")
            predicted = float(predicted_position(counts, coupling))
            _claimed(ax, predicted, predicted)
            ax.set_title(f"alike, $R = {ratio:g}$,\n$c = {coupling:g}$")
            first = first or ax
            ax.tick_params(labelleft=ax is first)
        if first is not None:
            first.set_ylabel("position")
        _draw_grams(figure, grid[3, :], config, runs.sel(imbalance_ratio=config.ratios[-1]))


def _draw_distances(ax: Axes, own: xr.Dataset) -> None:
    """Each seed thin, their mean bold; where training accuracy is first 1."""
    colors = {"seli_distance": "black", "etf_distance": pages.shades(3)[1]}
    for name, color in colors.items():
        for weighting, style in LINES.items():
            found = own[name].sel(weighting=weighting, part="W").transpose("time", "seed")
            ax.plot(own["time"], found.mean("seed"), color=color, ls=style)
            if weighting == "ERM":
                ax.plot(own["time"], found, color=color, lw=0.4, alpha=0.5)
    _steps(ax, own)


def _draw_positions(
    ax: Axes, own: xr.Dataset, counts: np.ndarray, style: Any, with_seeds: bool
) -> None:
    """Means over seeds bold, and each seed thin."""
    found = Family.of(counts).positions(own["gram"].transpose("seed", "time", ...).values)
    for f, name in enumerate(geometry.FACTORS):
        line: dict[str, Any] = {"color": PARTS[name], "ls": style}
        ax.plot(own["time"], found[:, :, f].mean(axis=0), **line)
        if with_seeds:
            ax.plot(own["time"], found[:, :, f].T, color=PARTS[name], lw=0.4, alpha=0.5)
    for at in (0, 1):
        ax.axhline(at, **pages.FAINT)
    ax.set(ylim=(-0.55, 1.1), yticks=[0, 0.5, 1])
    ax.set(xlabel="step", xlim=(0, float(own["time"][-1])))


def _claimed(ax: Axes, predicted: float, low: float) -> None:
    """The model's position, and what was claimed: from `low` to it, and as much to either side as is called equal."""
    ax.axhline(predicted, **THEORY)
    ax.axhspan(low - EQUAL, predicted + EQUAL, color="0.93", lw=0, zorder=0)


def _steps(ax: Axes, own: xr.Dataset) -> None:
    first = float(own["time"].values[first_fitted(own).values.max()])
    ax.axvline(first, color="0.7", lw=0.7, ls=":", zorder=0)
    ax.set(xlabel="step", xlim=(0, float(own["time"][-1])))


def _keys(top: Axes) -> None:
    pages.key(top, "to SELI of the counts", color="black")
    pages.key(top, "to the ETF", color=pages.shades(3)[1])
    for weighting, style in LINES.items():
        pages.key(top, weighting, color="0.4", ls=style)
    pages.key(top, "all images right", color="0.7", lw=0.7, ls=":")
    for name, what in zip(geometry.FACTORS, ("classifier $W$", "class means"), strict=True):
        pages.key(top, f"position of {what}", color=PARTS[name])
    pages.key(top, "$2(1 - g^*)$, the model's", **THEORY)
    pages.key(top, "claimed", "s", color="0.88")


def _draw_grams(figure: Figure, place: Any, config: Config, own: xr.Dataset) -> None:
    """W W^T and inner products of class means over their norms, the mean over seeds, beside both geometries."""
    counts = config.counts(config.ratios[-1])
    ends = unit(own["gram"].isel(time=-1).transpose("weighting", "seed", ...).values).mean(axis=1)
    seli, etf = geometry.seli(counts), geometry.etf(len(counts))
    columns = {
        "ETF": unit(np.array([etf.classifier, etf.features])),
        **dict(zip(WEIGHTINGS, ends, strict=True)),
        "SELI": unit(np.array([seli.classifier, seli.features])),
    }
    names = {"W": "$W W^T$", "H": "class means"}
    bound = max(float(np.abs(x).max()) for x in columns.values())
    norm = AsinhNorm(0.03, -bound, bound)  # a linear one would hide what is off the diagonal
    axes = place.subgridspec(1, 8).subplots()
    middles = [(NUM_MAJORITY - 1) / 2, (NUM_MAJORITY + len(counts) - 1) / 2]
    for i, ax in enumerate(axes):
        f, (name, grams) = i // 4, list(columns.items())[i % 4]
        shown = ax.imshow(grams[f], cmap="PuOr_r", norm=norm)
        for line in (ax.axhline, ax.axvline):
            line(NUM_MAJORITY - 0.5, color="black", lw=0.5)
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0, labelsize=6)
        ax.set_xticks(middles, ["maj.", "min."])
        ax.set_yticks(middles, ["maj.", "min."] if i % 4 == 0 else ["", ""])
        ax.set_title(name, fontsize=7)
        if i % 4 == 0:
            ax.set_ylabel(names[geometry.FACTORS[f]])
    bar = figure.colorbar(shown, ax=list(axes), location="bottom", shrink=0.5, aspect=40)
    bar.set_label(f"digits, $R = {config.ratios[-1]:g}$, at the end: entry / Frobenius norm")
    bar.set_ticks([-0.3, -0.1, -0.03, 0, 0.03, 0.1, 0.3], labels=None)
    bar.ax.xaxis.set_major_formatter("{x:g}")
    bar.ax.minorticks_off()
