"""Figures of `optimizers`: progress under each, ratios of learning times, and two laws."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullFormatter

from experiments import pages
from experiments.optimizers_runs import Arrivals
from experiments.pages import THEORY, WIDTHS
from experiments.readings import GROUPS, block_curves, shares
from experiments.settings import BASE, WEIGHTINGS
from ssm import Config, plotting, spectral, sweep_plots, theory

PANELS = {
    "gradient descent": "gd",
    "sign descent": "sign",
    "Adam": "adam",
    "spectral descent": "spectral_gd",
}
"""Those that are drawn. Momentum and normalised descent take gradient descent's path, and Muon is spectral descent's
practical form: their times are in `draw_laws`."""
BALANCING = {"gd": 0.5, "spectral_gd": 0.5}
"""The weight exponent beside ERM, where it is not inverse frequency: what balances, or the nearest to it."""


def draw_progress(path: Path, runs: dict[str, tuple[Config, xr.Dataset]]) -> None:
    """Share of its target that each group has learned: a column an optimiser, ERM above, weights below."""
    shown = {title: name for title, name in PANELS.items() if name in runs}
    with pages.page(path, 3.1) as figure:
        axes = figure.subplots(2, len(shown), sharey=True, sharex="col", squeeze=False)
        for column, (title, name) in zip(axes.T, shown.items(), strict=True):
            config, own = runs[name]
            exponent = BALANCING.get(name, 1.0)
            for ax, g in zip(column, (0.0, exponent), strict=True):
                weighted = dataclasses.replace(config, weight_exponent=g)
                _draw_one(ax, weighted, own.sel(weight_exponent=g))
            column[0].set_title(f"{title},\nERM")
            column[1].set_title(f"$g = {exponent:g}$")
            done = own["time"].where((shares(own) < 0.99).any("block")).max()
            column[1].set_xlim(0, 1.05 * float(done))
            column[1].xaxis.set_major_locator(MaxNLocator(2))
        pages.key(axes[0, 0], "theory", **THEORY)
        figure.supylabel("share of target learned")
        figure.supxlabel("step")
        pages.legend_above(figure, axes[0, 0], 3)


def _draw_one(ax: Axes, config: Config, run: xr.Dataset) -> None:
    progress = shares(run)
    expected = curves(config, run)
    for group in GROUPS:
        line = {"color": plotting.COLORS[group], "label": group, "lw": WIDTHS[group]}
        ax.plot(run["time"], progress.sel(block=group), **line)
    if expected is not None:
        for group in GROUPS:
            ax.plot(run["time"], expected[spectral.BLOCKS.index(group)], **THEORY)
    ax.axhline(1, **pages.FAINT)
    ax.set(ylim=(-0.05, 1.12), yticks=[0, 0.5, 1])


def curves(config: Config, run: xr.Dataset) -> np.ndarray | None:
    """What theory makes of each block, (block, time); None where there is none.

    Gradient descent: the flow. `spectral_gd`: (e + t)^2 up to the target.
    """
    times = run["cumulative_rate"].values
    if config.optimizer == "spectral_gd":
        strength = (config.init_scale + times) ** 2
        return np.minimum(strength[None] / run["block_target"].values[:, None], 1)
    return block_curves(config, times).T if config.optimizer == "gd" else None


def draw_laws(
    path: Path,
    ratios: dict[str, xr.DataArray],
    convergence: dict[str, np.ndarray] | None,
    arrivals: dict[int, list[Arrivals]],
    start: float,
) -> None:
    """Ratios of learning times by optimiser, gradient descent's distance from the flow, and learning
    times of spectral descent."""
    with pages.page(path, 2.6) as figure:
        axes = figure.subplots(1, 3, width_ratios=[1.4, 1, 1])
        _draw_ratios(axes[0], ratios)
        if convergence is None:
            axes[1].remove()
        else:
            _draw_convergence(axes[1], convergence)
        _draw_arrivals(axes[2], arrivals, start)
        pages.legend_above(figure, axes[0], 4, handletextpad=0.4)


def _draw_ratios(ax: Axes, ratios: dict[str, xr.DataArray]) -> None:
    """A row an optimiser: marks are means over seeds, bars reach from the least to the largest."""
    rows = np.arange(len(ratios))[::-1]
    colors = pages.shades(len(WEIGHTINGS))
    for i, (weighting, g) in enumerate(WEIGHTINGS.items()):
        own = np.array([x.sel(weight_exponent=g).values for x in ratios.values()])
        centre, at, color = np.exp(np.log(own).mean(axis=1)), rows + 0.25 * (1 - i), colors[i]
        ax.axvline(
            float(theory.learning_time_ratio(BASE.imbalance_ratio, g, 0.0)),
            **THEORY | {"color": color},
            zorder=0,
        )
        ax.hlines(at, own.min(axis=1), own.max(axis=1), color=color, lw=1)
        ax.plot(centre, at, "os^"[i], color=color, ms=4.5, mfc="white", label=weighting)
    pages.key(ax, "law of gd, small starts", **THEORY)
    ax.set(xscale="log", xlabel=f"{pages.TIME_RATIO}, $R = 10$")
    ax.set_yticks(rows, [name.replace("_", " ") for name in ratios])
    ax.tick_params(axis="y", length=0)
    sweep_plots.ratio_ticks(ax.xaxis)


def _draw_convergence(ax: Axes, found: dict[str, np.ndarray]) -> None:
    ax.plot(found["step"], found["found"], "o", color="0.35", label="gd", **pages.HOLLOW)
    ax.plot(found["step"], found["first_order"], **THEORY, label="first order")
    ax.set(xscale="log", yscale="log", xlabel="learning rate", xlim=(0.04, 1.5))
    ax.set_ylabel("distance from the flow\n(share of target)")
    sweep_plots.ratio_ticks(ax.xaxis)
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.legend(loc="lower right", borderaxespad=0)


def _draw_arrivals(ax: Axes, arrivals: dict[int, list[Arrivals]], start: float) -> None:
    for depth, own in arrivals.items():
        for x, marker in zip(own, "so", strict=True):
            colors = [plotting.COLORS[block] for block in x.blocks]
            ax.scatter(x.root, x.found, s=18, marker=marker, facecolors="none", edgecolors=colors)
        roots = np.sort(np.concatenate([x.root for x in own]))
        ax.plot(roots, 0.5 ** (1 / depth) * roots - start, **THEORY)
        end = (roots[-1], 0.5 ** (1 / depth) * roots[-1])
        ax.annotate(f"$L = {depth}$", end, (-4, 5), textcoords="offset points", ha="right")
    for name, marker in (("STEP 10:1", "s"), ("90 to 3", "o")):
        pages.key(ax, name, marker, color="0.4", **pages.HOLLOW)
    ax.legend(loc="lower right", handletextpad=0.1, borderaxespad=0, labelspacing=0.2)
    ax.set(xlabel="$s^{1/L}$ of a\ncomponent", ylabel="learning time\n(steps x learning rate)")
    ax.margins(y=0.1)
