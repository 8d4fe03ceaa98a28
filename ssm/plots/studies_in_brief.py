"""The one figure of the summary of a study: the value of the recommended candidate beside those of the usual way and its best
rival."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from ssm.plots.style import PARTS, style

OTHER = "0.35"
WIDTH = 4.2  # inches; a narrow figure has readable letters on a small screen.
LONGEST = 50  # The label of the axis has at most so many letters.


class Bar(NamedTuple):
    """A row of the figure."""

    title: str
    value: float
    low: float
    """The ends of its 95 % interval are `low` and `high`, infinite where there are too few folds."""
    high: float


def plot_in_brief(bars: Sequence[Bar], label: str) -> Figure:
    """Draw means with their 95 % intervals, a row each. The first row, which is recommended, is green.

    Args:
        bars: the rows from the top.
        label: the label of the axis, with its unit.
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
    """The text cut to the room below the axis, and escaped so that Matplotlib does not take it for a formula."""
    shown = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
    return shown.replace("$", r"\$")
