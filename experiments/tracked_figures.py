"""The figure of `tracked`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import AsinhNorm
from matplotlib.ticker import MaxNLocator

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
    """Distances of W to both geometries over steps, positions between them, those of samples that are alike, and the matrices of
    the largest R at the end."""
    unequal = [ratio for ratio in config.ratios if ratio > 1]
    start = runs["coupling"].isel(imbalance_ratio=0, time=0).sel(weighting="ERM").values
    with pages.page(path, 7.2) as figure:
        rows: Any = figure.subfigures(4, 1, height_ratios=[1.35, 1, 1.1, 0.95])
        tops = rows[0].subplots(1, len(config.ratios), sharey=True, squeeze=False)[0]
        for ax, ratio in zip(tops, config.ratios, strict=True):
            _draw_distances(ax, runs.sel(imbalance_ratio=ratio))
            ax.set_title(f"digits, $R = {ratio:g}$")
        tops[0].set_ylabel("distance of $W$,\nnormalised")
        _keys(tops[0])
        pages.legend_above(rows[0], tops[0], 3)
        middle = rows[1].subplots(1, len(unequal), sharey=True, squeeze=False)[0]
        for ax, ratio in zip(middle, unequal, strict=True):
            own, counts = runs.sel(imbalance_ratio=ratio), config.counts(ratio)
            by_weighting = {name: own.sel(weighting=name) for name in LINES}
            _draw_positions(ax, by_weighting, counts)
            _claimed(ax, float(predicted_position(counts, start).mean()), 0.0)
            _steps(ax, own)
            ax.set_title(f"digits, $R = {ratio:g}$")
        middle[0].set_ylabel("position: 0 ETF,\n1 SELI of the counts")
        cases = [(c, ratio) for c in config.couplings for ratio in unequal]
        lower = rows[2].subplots(1, len(cases), sharey=True, squeeze=False)[0]
        for ax, (coupling, ratio) in zip(lower, cases, strict=True):
            counts = config.counts(ratio)
            mine = {name: alike.get((coupling, ratio, name)) for name in LINES}
            _draw_positions(
                ax, {name: own for name, own in mine.items() if own is not None}, counts
            )
            predicted = float(predicted_position(counts, coupling))
            _claimed(ax, predicted, predicted)
            ax.set_title(f"alike, $R = {ratio:g}$,\n$c = {coupling:g}$")
        lower[0].set_ylabel("position")
        _draw_grams(rows[3], config, runs.sel(imbalance_ratio=config.ratios[-1]))


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


def _draw_positions(ax: Axes, runs: dict[str, xr.Dataset], counts: np.ndarray) -> None:
    """By weighting: means over seeds bold, and each seed of ERM thin."""
    family = Family.of(counts)
    for weighting, own in runs.items():
        found = family.positions(own["gram"].transpose("seed", "time", ...).values)
        for f, name in enumerate(geometry.FACTORS):
            line: dict[str, Any] = {"color": PARTS[name], "ls": LINES[weighting]}
            ax.plot(own["time"], found[:, :, f].mean(axis=0), **line)
            if weighting == "ERM":
                ax.plot(own["time"], found[:, :, f].T, color=PARTS[name], lw=0.4, alpha=0.5)
        ax.set(xlabel="step", xlim=(0, float(own["time"][-1])))
    for at in (0, 1):
        ax.axhline(at, **pages.FAINT)
    ax.set(ylim=(-0.55, 1.55), yticks=[0, 0.5, 1])
    ax.xaxis.set_major_locator(MaxNLocator(3))


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


def _draw_grams(figure: Any, config: Config, own: xr.Dataset) -> None:
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
    axes = figure.subplots(1, 8)
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
