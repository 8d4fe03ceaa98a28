"""Figures of the terminal phase."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import AsinhNorm

from experiments import pages, readings
from experiments.pages import THEORY
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

SHADES = {"ERM": "#777777", "inverse square root": "#009E73", "inverse frequency": "#CC79A7"}
# Where lines coincide the wider ones below are seen beside those above.
WIDE = {"ERM": 3.0, "inverse square root": 2.0, "inverse frequency": 1.0}
AWAY: dict[str, Any] = {"color": "0.75", "lw": 0.7, "zorder": 0}
MARKERS = dict(zip(geometry.PARTS, "os^", strict=True))


def draw_phases(path: Path, free: xr.Dataset, shared: xr.Dataset) -> None:
    """Block strengths over flow time, a panel a weighting, and distances to both limits over the margin."""
    last = max(float(runs["margin"].max()) for runs in (free, shared))
    with pages.page(path, 2.7) as figure:
        grid = figure.add_gridspec(len(WEIGHTINGS), 3)
        early = figure.add_subplot(grid[0, 0])
        rows = [early]
        rows += [figure.add_subplot(grid[i, 0], sharex=early, sharey=early) for i in (1, 2)]
        for ax, weighting in zip(rows, WEIGHTINGS, strict=True):
            _draw_early(ax, free.sel(weight_exponent=WEIGHTINGS[weighting]), weighting)
            ax.tick_params(labelbottom=ax is rows[-1])
        early.set_title("early, free features:\nweights part")
        rows[1].set_ylabel("strength / singular value of $S$")
        rows[-1].set_xlabel("flow time")
        late = [figure.add_subplot(grid[:, i]) for i in (1, 2)]
        names = {"free": ("seli", "SELI"), "shared": ("etf", "simplex ETF")}
        for ax, (features, (name, limit_name)) in zip(late, names.items(), strict=True):
            own, other = (free, shared) if features == "free" else (shared, free)
            for weighting, g in WEIGHTINGS.items():
                color = SHADES[weighting]
                line = {"color": color, "lw": WIDE[weighting], "label": weighting}
                ax.plot(*_distances(own.sel(weight_exponent=g), f"{name}_distance"), **line)
                ax.plot(*_distances(other.sel(weight_exponent=g), f"{name}_distance"), **AWAY)
                config = config_of(free, weight_exponent=g, coupling=FEATURES[features])
                _draw_theory(ax, config, last)
            _margin_axes(ax)
            ax.set_title(f"late, {features} features:\ndistance to {limit_name}")
            others = "shared" if features == "free" else "free"
            ax.text(last, 0.75, f"{others} features", ha="right", color="0.55", fontsize=7)
            ax.set_ylim(1e-6, 2)
        late[0].set_ylabel("largest of $W$, $H$, $Z$")
        late[1].tick_params(labelleft=False)
        pages.key(late[0], "theory", **THEORY)
        pages.legend_above(figure, late[0], 4)


def _margin_axes(ax: Axes) -> None:
    ax.set(xscale="log", yscale="log", xlabel=pages.LEAST_MARGIN)
    ax.minorticks_off()


def _draw_theory(ax: Axes, config: Config, last: float) -> None:
    """The largest of the expected distances, on margins from 30 on."""
    margins = np.geomspace(30, last, 24)
    problem = make_problem(config)
    expected = [terminal.expected_distances(config, problem, x).max() for x in margins]
    ax.plot(margins, expected, **THEORY)


def _draw_early(ax: Axes, run: xr.Dataset, weighting: str) -> None:
    """Strengths of both groups over flow time."""
    own = early_part(run)
    for group in GROUPS:
        share = readings.shares(own).sel(block=group)
        ax.plot(np.exp(own["log_time"]), share, color=plotting.COLORS[group])
    ax.set(xlim=(0, 1000), ylim=(-0.04, 1.25), yticks=[0, 1])
    name = {"transform": ax.transAxes, "ha": "right", "fontsize": 7, "color": SHADES[weighting]}
    ax.text(1, 0.42, weighting.replace("inverse ", "inverse\n"), weight="bold", **name)
    if weighting == "ERM":
        words = {"fontsize": 7, "transform": ax.transAxes}
        ax.text(0.29, 0.15, "majority", color=plotting.COLORS[GROUPS[0]], **words)
        ax.text(0.78, 0.75, "minority", color=plotting.COLORS[GROUPS[1]], ha="right", **words)


def _distances(run: xr.Dataset, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Margins from 1 on of a run, and there the largest distance of the three parts."""
    own = reached(run)
    known = own["margin"].values > 1
    return own["margin"].values[known], largest_part(own[name]).values[known]


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


def draw_cases(path: Path, collapsed: xr.Dataset, gaussian: xr.Dataset) -> None:
    """Distance to SELI of every case over its margin, and the end against theory."""
    ratios = collapsed["imbalance_ratio"].values
    colors = dict(zip(ratios, pages.shades(len(ratios)), strict=True))
    shown = {"num_classes": collapsed["num_classes"].values[-1], "minority_fraction": 0.5}
    with pages.page(path, 2.8) as figure:
        axes = figure.subplots(1, 3)
        axes[1].sharey(axes[0])
        for ax, runs in zip(axes, (collapsed, gaussian), strict=False):
            for own in map(reached, single_runs(runs)):
                _draw_case(ax, own, colors[own["imbalance_ratio"].item()])
            for ratio in ratios:
                config = config_of(
                    runs.sel(shown | {"imbalance_ratio": ratio}), weight_exponent=0.0
                )
                _draw_theory(ax, config, float(runs["margin"].max()))
            _margin_axes(ax)
        axes[0].set(ylabel="distance to SELI", title="features of a class\nstart equal")
        axes[1].set_title("Gaussian start")
        _draw_ends(axes[2], collapsed, colors)
        for ratio, color in colors.items():
            pages.key(axes[0], f"$R = {ratio:g}$", color=color)
        pages.key(axes[0], "theory: ERM, ten classes, five of them minorities", **THEORY)
        pages.legend_above(figure, axes[0], 4)
        for part, marker in MARKERS.items():
            pages.key(axes[2], f"${part}$", marker, color="0.4", mfc="none", ms=4)
        axes[2].legend(loc="upper left", handletextpad=0.2, borderaxespad=0)


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
