"""The page that a figure of an experiment stands on, and what several of them draw alike: theory dashed
over simulation, hollow marks, legends above all panels."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ssm import plotting
from ssm.plots.style import SUFFIXES

THEORY: dict[str, Any] = {"color": "black", "lw": 0.8, "ls": (0, (3, 2.5))}
HOLLOW: dict[str, Any] = {"mfc": "none", "ms": 4, "mew": 0.8}
FAINT: dict[str, Any] = {"color": "0.8", "lw": 0.6, "zorder": 0}
FEATURE_COLORS = {"free": "#009E73", "shared": "#CC79A7"}  # so neither group's colour
# Where lines coincide, the wider ones are seen on both sides of those above them.
WIDTHS = {"majority": 3.2, "cross": 2.3, "minority": 1.4}
FLOW_TIME = "flow time (steps x learning rate)"
LEAST_MARGIN = "least margin of a sample"
TIME_RATIO = "minority / majority\nlearning time"
RATIO = "imbalance ratio $R$"


@contextlib.contextmanager
def page(path: Path, height: float, width: float = plotting.PAGE_WIDTH) -> Iterator[Figure]:
    """An empty figure in the project's style, which is written when it has been drawn: a picture at
    `path`, which ends in .png, and the same for print beside it, .pdf and .svg."""
    with plotting.style():
        figure = Figure(figsize=(width, height))
        yield figure
    for suffix in SUFFIXES:
        plotting.save_figure(figure, path.with_suffix(suffix))


def legend_above(figure: Any, axes: Axes, columns: int, **options: Any) -> None:
    """A legend of what is labelled in one panel, above all panels of a figure or a part of one."""
    handles = axes.get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=columns, **options)


def key(axes: Axes, label: str, *style: str, **line: Any) -> None:
    """An entry of a legend that stands for no line of its own."""
    axes.plot([], [], *style, label=label, **line)


def shades(count: int) -> list[Any]:
    """Colours for an ascending quantity that is neither group's."""
    return list(colormaps["viridis"](np.linspace(0, 0.85, count)))


def plain_ticks(axis: Any, ticks: Sequence[float], names: Sequence[str] | None = None) -> None:
    """Tick an axis at these numbers alone, by these names or as plain numbers."""
    axis.set_ticks(ticks, names or [f"{tick:g}" for tick in ticks])
    axis.set_ticks([], minor=True)


def edges(centres: np.ndarray) -> np.ndarray:
    """Borders of cells about ascending centres, the outer ones as wide as their neighbours."""
    middle = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])
