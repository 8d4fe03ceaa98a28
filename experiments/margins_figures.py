"""Figures of losses with margins: dots are measured, dashes and bars predicted."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from experiments import pages, readings
from experiments.margins_runs import (
    BALANCED,
    END,
    FACTORS,
    LATE,
    LINEAR,
    MARGIN,
    WIDE_FROM,
    Early,
    Ends,
    cosines,
)
from experiments.pages import HOLLOW, THEORY, WIDTHS
from experiments.readings import GROUPS
from experiments.terminal_states import limit
from ssm import geometry, plotting, spectral, terminal
from ssm.problem import make_problem

HALF: dict[str, Any] = {"color": "0.8", "lw": 0.6, "zorder": 0}
WHEN: dict[str, Any] = {"color": "0.4", "lw": 0.8, "ls": ":"}
SHOWN = ("ERM", "inverse square root", "logit adjustment", "CDT")


def draw_early(path: Path, early: Mapping[str, Early]) -> None:
    """Rates, learning-time ratios and times to balance of every loss; curves of some."""
    with pages.page(path, 6.2) as figure:
        rows = figure.add_gridspec(2, 1, height_ratios=(1, 1.25))
        top, bottom = (figure.add_subfigure(rows[i]) for i in range(2))
        rates, ratios, balance = top.subplots(1, 3, sharey=True)
        n = sum(LINEAR.class_counts)
        for y, own in enumerate(early.values()):
            for block in spectral.BLOCKS:
                _dash(rates, y, n * own.predicted_rates[block], n * own.predicted_rates[block])
                rates.plot(n * own.rates[block], y, "o", color=plotting.COLORS[block], ms=4)
            _dash(ratios, y, *own.predicted_ratio)
            ratios.plot(own.ratios.mean(), y, "o", color="0.35", ms=4)
            _dash(balance, y, *own.predicted_balance)
            balance.plot(own.balances.mean(), y, "o", color="0.35", ms=4)
        _name_losses(rates, list(early))
        ratios.axvline(1, color="0.8", lw=0.8, zorder=0)
        ticks = {rates: (1, 2, 5, 10), ratios: (0.3, 1, 3, 6), balance: (100, 300, 1000, 3000)}
        for ax, own_ticks in ticks.items():
            ax.set_xscale("log")
            pages.plain_ticks(ax.xaxis, own_ticks)
        rates.set_xlabel("early growth\nrate x $n$")
        ratios.set_xlabel(pages.TIME_RATIO)
        balance.set_xlabel(f"flow time to balanced\naccuracy {BALANCED:g}")
        for block in spectral.BLOCKS:
            pages.key(rates, block, "o", color=plotting.COLORS[block], ms=4)
        pages.key(rates, "mean over classes and seeds", "o", color="0.35", ms=4)
        pages.key(rates, "predicted", "|", color="black", ms=8, mew=1.2)
        pages.key(rates, "predicted between these", color="0.8", lw=5)
        pages.legend_above(top, rates, 3)
        axes = bottom.subplots(2, len(SHOWN), sharex=True, sharey="row")
        for (strength, accuracy), name in zip(axes.T, SHOWN, strict=True):
            _draw_curves(strength, accuracy, early[name])
            strength.set_title(name.replace("inverse ", "inverse\n").replace("logit ", "logit\n"))
        axes[0, 0].set_ylabel("strength /\nsingular value of $S$")
        axes[1, 0].set_ylabel("training accuracy")
        for group in GROUPS:
            pages.key(axes[1, 0], group, color=plotting.COLORS[group], lw=WIDTHS[group])
        pages.key(axes[1, 0], "half learned", **HALF)
        label = f"balanced accuracy {BALANCED:g}, mean over seeds"
        pages.key(axes[1, 0], label, **WHEN)
        pages.legend_above(bottom, axes[1, 0], 4)
        bottom.supxlabel(pages.FLOW_TIME)


def _dash(ax: Axes, y: float, low: float, high: float) -> None:
    """A prediction: a dash across, or a bar between two numbers."""
    ax.plot([low, high], [y, y], lw=5, color="0.8", solid_capstyle="butt", zorder=0)
    ax.plot([low, high], [y, y], "|", color="black", ms=8, mew=1.2, zorder=1)


def _name_losses(ax: Axes, names: Sequence[str]) -> None:
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)


def _draw_curves(strength: Axes, accuracy: Axes, own: Early) -> None:
    """One seed's strengths, and accuracy over all."""
    time = own.runs["time"].values
    share = readings.shares(own.runs.isel(seed=0))
    for group in GROUPS:
        color, width = plotting.COLORS[group], WIDTHS[group]
        strength.plot(time, share.sel(block=group), color=color, lw=width)
        mean = readings.group_accuracy(own.runs, group).mean(axis=0)
        accuracy.plot(time, mean, color=color, lw=width)
    accuracy.axvline(own.balances.mean(), **WHEN)
    strength.axhline(0.5, **HALF)
    strength.set(ylim=(-0.05, 1.6), xlim=(0, time[-1]))
    accuracy.set(ylim=(-0.04, 1.04))


def draw_ends(path: Path, ends: Ends, small: Ends, late: Ends) -> None:
    """Angles and norms at the end of every loss, the way there, and CDT over its exponent."""
    with pages.page(path, 5.0) as figure:
        rows = figure.add_gridspec(2, 1, height_ratios=(1, 1))
        top, bottom = (figure.add_subfigure(rows[i]) for i in range(2))
        angle, norm, way = top.subplots(1, 3, width_ratios=(1, 0.8, 1.1))
        for y, own in enumerate(ends.values()):
            for group in GROUPS:
                _dash(angle, y, own.predicted[group], own.predicted[group])
                angle.plot(own.found[group], y, "o", color=plotting.COLORS[group], ms=4)
            _dash(norm, y, own.predicted["norms"], own.predicted["norms"])
            norm.plot(own.found["norms"], y, "o", color="0.35", ms=4)
        for ax in (angle, norm):
            _name_losses(ax, list(ends))
        norm.tick_params(labelleft=False)
        angle.axvline(0, color="0.8", lw=0.8, zorder=0)
        angle.set(xlabel="cosine of two\nrows of $W$", xlim=(-0.65, 0.2))
        norm.set(xlabel="$|w_{maj}| / |w_{min}|$", xlim=(1.38, 1.5))
        for group in GROUPS:
            pages.key(angle, f"within {group}", "o", color=plotting.COLORS[group], ms=4)
        pages.key(angle, "limit", "|", color="black", ms=8, mew=1.2)
        pages.legend_above(top, angle, 3)
        _draw_way(way, ends)
        _draw_exponents(bottom.subplots(1, 3, width_ratios=(1, 1, 1.1)), small, late)


def _draw_way(ax: Axes, ends: Ends) -> None:
    """Distances to SELI and to what factors make of it, over the margin."""
    for name, color in (("ERM", "0.5"), ("logit adjustment", "#009E73"), ("CDT", "#CC79A7")):
        own = ends[name]
        targets = {"-": geometry.seli(make_problem(own.config).counts)}
        if name in FACTORS:
            targets[":"] = limit(own.config)
        for style, target in targets.items():
            distances = [state.distances(target).max() for state in own.states]
            label = name + (" to its own limit" if style == ":" else " to SELI")
            ax.plot(own.margins, distances, style, color=color, label=label)
    ax.set(xscale="log", yscale="log", xlabel=pages.LEAST_MARGIN, ylim=(1e-9, 2))
    ax.set_ylabel("distance, largest of\n$W$, $H$, $Z$")
    ax.legend(loc="lower left", labelspacing=0.25, handlelength=1, borderaxespad=0)
    ax.minorticks_off()


def _draw_exponents(axes: Sequence[Axes], small: Ends, late: Ends) -> None:
    """CDT: the limit over its exponent and where runs end, and the gap between majorities."""
    angle, norm, gap = axes
    exponents = np.linspace(0, float(max(map(float, late))), 60)
    configs = [dataclasses.replace(END, loss="cdt", multiplicative_adjustment=g) for g in exponents]
    limits = [cosines(limit(config).classifier, config) for config in configs]
    for group in GROUPS:
        angle.plot(exponents, [x[group] for x in limits], **THEORY)
    norm.plot(exponents, [x["norms"] for x in limits], **THEORY)
    for ends, marker in ((small, "x"), (late, "o")):
        for name, own in ends.items():
            for group in GROUPS:
                mark = {"color": plotting.COLORS[group], **HOLLOW}
                angle.plot(float(name), own.found[group], marker, **mark)
            norm.plot(float(name), own.found["norms"], marker, color="0.35", **HOLLOW)
    colors = dict(zip(small, pages.shades(len(small)), strict=True))
    for name, own in small.items():
        gap.plot(own.margins, own.gaps, color=colors[name], label=f"{name}")
        seen = own.margins > WIDE_FROM
        theirs = terminal.majority_gaps(
            own.config, make_problem(own.config), own.margins[seen], own.gaps[seen][0]
        )
        gap.plot(own.margins[seen], theirs, **THEORY)
    for ax in (angle, norm):
        ax.set_xlabel("exponent $g$ of CDT")
    angle.set_ylabel("cosine of two rows of $W$")
    norm.set_ylabel("$|w_{maj}| / |w_{min}|$")
    for base, marker in ((END, "x"), (LATE, "o")):
        decades = np.log10(base.stop_margin or np.nan)
        label = f"start {base.init_scale:g},\nmargin $10^{decades:.0f}$"
        pages.key(norm, label, marker, color="0.35", **HOLLOW)
    pages.key(norm, "limit", **THEORY)
    norm.set_ylim(0.55, None)  # room for the legend
    norm.legend(loc="lower left", labelspacing=0.25)
    gap.set(xscale="log", xlabel=pages.LEAST_MARGIN, ylim=(0.97, 2.6), xlim=(5, MARGIN))
    gap.minorticks_off()
    gap.set_ylabel("gap of two majorities /\nmargin")
    pages.key(gap, "theory", **THEORY)
    narrow = {"handlelength": 1.0, "columnspacing": 0.8, "borderaxespad": 0}
    gap.legend(title="$g$", loc="upper right", ncols=2, labelspacing=0.25, **narrow)
