"""Figures of the terminal phase: weightings are told apart by the style of the line."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import AsinhNorm

from experiments import pages, readings
from experiments.pages import FEATURE_COLORS, THEORY
from experiments.readings import GROUPS
from experiments.settings import FEATURES, WEIGHTINGS
from experiments.terminal_states import (
    approach,
    config_of,
    early_part,
    end,
    largest_part,
    limit,
    margin_at_end,
    single_runs,
    without_kept_row,
)
from ssm import Config, geometry, plotting, terminal
from ssm.config import profiles
from ssm.problem import make_problem
from ssm.results import reached

STYLES: dict[str, Any] = {
    "ERM": (0, (1, 1)),
    "inverse square root": (0, (5, 1, 1, 1)),
    "inverse frequency": "-",
}
# Where lines coincide the wider ones below are seen beside those above.
WIDTHS = {"ERM": 1.6, "inverse square root": 1.6, "inverse frequency": 1.0}
MARKERS = dict(zip(geometry.PARTS, "os^", strict=True))


def draw_phases(path: Path, free: xr.Dataset, shared: xr.Dataset) -> None:
    """Block strengths over flow time, and distances to both limits over the margin."""
    last = max(float(runs["margin"].max()) for runs in (free, shared))
    with pages.page(path, 2.8) as figure:
        early, *late = figure.subplots(1, 3)
        late[1].sharey(late[0])
        _draw_early(early, free)
        for features, coupling in FEATURES.items():
            for ax, name in zip(late, ("seli", "etf"), strict=True):
                runs = free if features == "free" else shared
                _draw_distances(ax, runs, f"{name}_distance", FEATURE_COLORS[features])
            for g in WEIGHTINGS.values():
                config = config_of(free, weight_exponent=g, coupling=coupling)
                _draw_theory(late[features == "shared"], config, last)
        for ax in late:
            _margin_axes(ax)
        early.set_title("early:\nfree features")
        late[0].set(ylabel="distance, largest of $W$, $H$, $Z$", title="the end:\ndistance to SELI")
        late[1].set_title("distance to the\nsimplex ETF")
        for features, color in FEATURE_COLORS.items():
            pages.key(early, f"{features} features", color=color)
        for name, style in STYLES.items():
            pages.key(early, name, ls=style, lw=WIDTHS[name], color="0.3")
        pages.key(early, "theory", **THEORY)
        pages.legend_above(figure, early, 4)


def _margin_axes(ax: Axes) -> None:
    ax.set(xscale="log", yscale="log", xlabel=pages.LEAST_MARGIN)
    ax.minorticks_off()


def _draw_theory(ax: Axes, config: Config, last: float) -> None:
    """The largest of the expected distances, on margins from 30 on."""
    margins = np.geomspace(30, last, 24)
    problem = make_problem(config)
    expected = [terminal.expected_distances(config, problem, x).max() for x in margins]
    ax.plot(margins, expected, **THEORY)


def _draw_early(ax: Axes, runs: xr.Dataset) -> None:
    for group in GROUPS:
        for name, g in WEIGHTINGS.items():
            own = early_part(runs.sel(weight_exponent=g))
            share = readings.shares(own).sel(block=group)
            label = group if name == "inverse frequency" else None
            color, times = plotting.COLORS[group], np.exp(own["log_time"])
            ax.plot(times, share, ls=STYLES[name], color=color, label=label)
    ax.set(xlim=(0, 1000), ylim=(-0.04, 1.25), xlabel="flow time")
    ax.set_ylabel("strength / singular value of $S$")


def _draw_distances(ax: Axes, runs: xr.Dataset, name: str, color: str) -> None:
    for weighting, g in WEIGHTINGS.items():
        own = reached(runs.sel(weight_exponent=g))
        known = own["margin"].values > 1
        distances, style = largest_part(own[name])[known], STYLES[weighting]
        ax.plot(own["margin"][known], distances, ls=style, lw=WIDTHS[weighting], color=color)


def draw_grams(path: Path, collapsed: xr.Dataset, shared: xr.Dataset) -> None:
    """Normalised W W^T, inner products of class means and logits at the end, beside their limits."""
    ends = {
        f"{features}, {name}": end(runs.sel(weight_exponent=g)).gram
        for features, runs in zip(FEATURES, (collapsed, shared), strict=True)
        for name, g in (("ERM", 0.0), ("$g = 1$", 1.0))
    }
    config = config_of(collapsed, weight_exponent=0.0)
    ends |= {"SELI": limit(config), "simplex ETF": limit(dataclasses.replace(config, coupling=1.0))}
    columns = ["free, ERM", "free, $g = 1$", "SELI"]
    columns += ["shared, ERM", "shared, $g = 1$", "simplex ETF"]
    unit = {name: [X / np.linalg.norm(X) for X in ends[name]] for name in columns}
    bound = max(np.abs(X).max() for grams in unit.values() for X in grams)
    norm = AsinhNorm(0.03, -bound, bound)  # a linear one would hide what is off the diagonal
    num_majority = int((collapsed["class_group"] == profiles.MAJORITY).sum())
    k = len(unit["SELI"][0])
    middles = [num_majority / 2 - 0.5, (num_majority + k) / 2 - 0.5]
    with pages.page(path, 2.6) as figure:
        axes = figure.subplots(3, len(columns), sharex=True, sharey=True)
        for column, (name, grams) in zip(axes.T, unit.items(), strict=True):
            for ax, X in zip(column, grams, strict=True):
                image = ax.imshow(X, cmap="PuOr_r", norm=norm)
                ax.axhline(num_majority - 0.5, color="black", lw=0.6)
                ax.axvline(num_majority - 0.5, color="black", lw=0.6)
                ax.spines[:].set_visible(False)
                ax.tick_params(length=0)
                ax.set_xticks(middles, ["maj.", "min."])
                ax.set_yticks(middles, ["maj.", "min."])
            column[0].set_title(name.replace(", ", ",\n").replace(" ETF", "\nETF"))
        rows = ("$W W^T$", "$H^T H$,\nclass means", "logits $W H$")
        for ax, name in zip(axes[:, 0], rows, strict=True):
            ax.set_ylabel(name)
        bar = figure.colorbar(image, ax=axes, label="entry / Frobenius norm", shrink=0.8)
        bar.set_ticks([-0.3, -0.1, -0.03, 0, 0.03, 0.1, 0.3], labels=None)
        bar.ax.yaxis.set_major_formatter("{x:g}")
        bar.ax.minorticks_off()


def draw_cases(
    path: Path, collapsed: xr.Dataset, gaussian: xr.Dataset, bounds: Sequence[float]
) -> None:
    """Distance to SELI of every case over its margin, and the end against theory."""
    ratios = collapsed["imbalance_ratio"].values
    colors = dict(zip(ratios, pages.shades(len(ratios)), strict=True))
    shown = {"num_classes": collapsed["num_classes"].values[-1], "minority_fraction": 0.5}
    with pages.page(path, 2.8) as figure:
        axes = figure.subplots(1, 3)
        axes[1].sharey(axes[0])
        for ax, runs, bound in zip(axes, (collapsed, gaussian), bounds, strict=False):
            for own in map(reached, single_runs(runs)):
                _draw_case(ax, own, colors[own["imbalance_ratio"].item()])
            for ratio in ratios:
                config = config_of(
                    runs.sel(shown | {"imbalance_ratio": ratio}), weight_exponent=0.0
                )
                _draw_theory(ax, config, float(runs["margin"].max()))
            ax.axhline(bound, color="0.6", lw=0.8, zorder=0)
            _margin_axes(ax)
        axes[0].set(ylabel="distance to SELI", title="features of a class\nstart equal")
        axes[1].set_title("Gaussian start")
        _draw_ends(axes[2], collapsed, colors)
        for ratio, color in colors.items():
            pages.key(axes[2], f"$R = {ratio:g}$", color=color)
        pages.key(axes[2], "expected bound", color="0.6", lw=0.8)
        pages.key(axes[2], "theory", **THEORY)
        for part, marker in MARKERS.items():
            pages.key(axes[2], f"${part}$", marker, color="0.4", mfc="none", ms=4)
        pages.legend_above(figure, axes[2], 4)


def _draw_case(ax: Axes, run: xr.Dataset, color: Any) -> None:
    """Distance over margin, and the end."""
    margins, distances = run["margin"].values, largest_part(run["seli_distance"]).values
    known = margins > 1
    ax.plot(margins[known], distances[known], color=color, lw=0.6, alpha=0.7)
    ax.plot(margins[-1], distances[-1], "o", color=color, ms=2.5)


def _draw_ends(ax: Axes, runs: xr.Dataset, colors: dict[float, Any]) -> None:
    """Distance x margin at the end, less the kept row of W."""
    for own in single_runs(runs):
        config, margin = config_of(own), margin_at_end(own)
        if config.imbalance_ratio == 1:
            continue
        found = without_kept_row(end(own)).distances(limit(config)) * margin
        wanted = approach(config, margin).distances(limit(config)) * margin
        for marker, x, y in zip(MARKERS.values(), wanted, found, strict=True):
            ax.plot(x, y, marker, color=colors[config.imbalance_ratio], mfc="none", ms=4)
    ends = np.array(ax.get_xlim())
    ax.plot(ends, ends, **THEORY)
    ax.set(xlabel="predicted", ylabel="measured")
    ax.set_title("distance x margin at the\nend, less the kept row")
