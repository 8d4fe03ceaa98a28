"""Figure of the runs with groups inside classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from experiments import pages
from experiments.groups_runs import HALF, LOSSES, Growths, HeldOut
from experiments.pages import THEORY

STYLES = {"cross_entropy": {"ls": "-", "marker": "o"}, "squared": {"ls": "--", "marker": "s"}}
SHADES = {"ERM": "#999999", "$n_g^{-1}$": "#CC79A7", "WorstGroup": "#009E73"}


def draw(path: Path, growths: dict[str, Growths], held_out: HeldOut) -> None:
    """`groups.png`: times over the strength of the spurious feature, and the worst group over time."""
    with pages.page(path, 2.7) as figure:
        left, middle, right = figure.subplots(1, 3)
        mostly = sorted({case[0] for case in growths["squared"]} - {HALF // 2})
        colors = dict(zip(mostly, pages.shades(len(mostly)), strict=True))
        for loss, style in STYLES.items():
            pages.key(right, LOSSES[loss], color="0.3", lw=1, **style, **pages.HOLLOW)
        for m, color in colors.items():
            pages.key(right, f"{m} : {HALF - m} in a class", color=color)
        _draw_times(left, middle, growths, colors)
        _draw_held_out(right, held_out)
        pages.legend_above(figure, right, 5)


def _draw_times(
    left: Axes,
    middle: Axes,
    growths: dict[str, Growths],
    colors: dict[int, Any],
) -> None:
    """Over s (2 p - 1): when core strength is 1/2, and when all groups are right, over the core's time without correlation."""
    for m, color in colors.items():
        for loss, own in growths.items():
            line = [one for case, one in own.items() if case[0] == m]
            even = np.array([one.half for case, one in own.items() if case[0] == HALF // 2])
            x = [one.reversed_by for one in line]
            style: dict[str, Any] = {"color": color, "lw": 1, **STYLES[loss], **pages.HOLLOW}
            left.plot(x, np.array([one.half for one in line]) / even, **style)
            middle.plot(x, np.array([one.right for one in line]) / even, **style)
    left.axhline(1, **pages.FAINT)
    for axes in (left, middle):
        axes.axvline(1, **THEORY)
        axes.set_xlabel("$s\\,(2p-1)$")
    left.set_ylabel("core strength reaches 1/2:\ntime / uncorrelated time")
    middle.set_ylabel("all groups right: time /\nuncorrelated core's time")


def _draw_held_out(axes: Axes, held_out: HeldOut) -> None:
    """The worst group's accuracy over decades of flow time, mean over seeds."""
    for name, own in held_out.curves.items():
        last = np.nanmin(np.nanmax(own.log_time, axis=1)) / np.log(10)
        decades = np.geomspace(0.5, last, 400)
        log_times = np.tile(decades * np.log(10), (len(own.worst), 1))
        width = 2.6 if name == "WorstGroup" else 1.2  # both are seen where they coincide
        curve = own.at(log_times).mean(axis=0)
        order = 1 if name == "WorstGroup" else 2
        axes.plot(decades, curve, color=SHADES[name], lw=width, zorder=order, label=name)
    axes.axhline(held_out.end.mean(), label="hard margin", **THEORY)
    axes.set_xscale("log")
    ticks = (1, 3, 10, 40)
    pages.plain_ticks(axes.xaxis, ticks, [f"$10^{{{tick}}}$" for tick in ticks])
    axes.set_xlim(0.5, 43)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel(pages.FLOW_TIME.replace(" (", "\n("))
    axes.set_ylabel("accuracy of the worst group\non fresh samples")
