"""The one figure of a study's summary: what the recommended candidate comes to beside the usual way and its best rival."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from ssm.plots.style import PARTS, style

OTHER = "0.35"
WIDTH = 4.2  # inches; narrow, so that its letters can be read on a small screen
LONGEST = 50  # letters of the label of the axis


class Bar(NamedTuple):
    """A row of the figure."""

    title: str
    value: float
    low: float
    """The ends of its 95 % interval; endless where there are too few folds."""
    high: float


def plot_in_brief(bars: Sequence[Bar], label: str) -> Figure:
    """Means with their 95 % intervals, a row each, the first, which is recommended, in green.

    Args:
        bars: the rows from the top.
        label: of the axis, with its unit.
    """
    with style():
        drawing = Figure(figsize=(WIDTH, 0.75 + 0.27 * len(bars)))
        axes = drawing.subplots()
        for row, bar in enumerate(bars):
            color = PARTS["W"] if row == 0 else OTHER
            if math.isfinite(bar.value):
                axes.barh(row, bar.value, height=0.5, color=color, alpha=0.35, lw=0)
                axes.plot(bar.value, row, "o", color=color, ms=4.5, zorder=4)
            if math.isfinite(bar.low) and math.isfinite(bar.high):
                axes.plot([bar.low, bar.high], [row, row], color=color, lw=1.6, zorder=3)
        axes.set_yticks(range(len(bars)), [bar.title for bar in bars])
        axes.set_ylim(len(bars) - 0.5, -0.5)
        axes.set_xlim(left=0)
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        axes.grid(axis="x", color="0.92", lw=0.5)
        axes.set_axisbelow(True)
        axes.set_xlabel(f"{_short(label)}\n(dot: mean, line: 95 % interval)")
    return drawing


def _short(text: str) -> str:
    """Text that fits below the axis, and that Matplotlib does not take for a formula."""
    shown = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
    return shown.replace("$", r"\$")
