"""The figure of the experiment `bridge`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from experiments import pages
from experiments.bridge_network import EXPONENTS, Outcome
from experiments.pages import HOLLOW, THEORY, shades

COLORS = {"small": "#009E73", "standard": "#CC79A7", "convolutional": "black"}
MARKERS = {"small": "o", "standard": "s", "convolutional": "^"}


def draw(path: Path, found: dict[str, dict[float, Outcome]], real: Outcome) -> None:
    """Ratios of learning times over the exponent for both starts, balancing exponents over those of
    the starts, and early held-out accuracy over the exponent."""
    with pages.page(path, 4.8) as figure:
        (left, right), (balance, accuracy) = figure.subplots(2, 2)
        for ax, (name, outcomes) in zip((left, right), found.items(), strict=True):
            _draw_ratios(ax, outcomes)
            ax.set_title(f"one hidden layer, {name} start")
        left.set_ylabel(pages.TIME_RATIO)
        left.legend(title="coupling $c$", loc="lower left", labelspacing=0.25)
        _draw_balance(balance, found, real)
        _draw_accuracy(accuracy, found, real)


def _draw_ratios(ax: Axes, outcomes: dict[float, Outcome]) -> None:
    """Ratio of learning times over the exponent, a dot for each seed."""
    for own, color in zip(outcomes.values(), shades(len(outcomes)), strict=True):
        ratios = own.times[..., 1] / own.times[..., 0]
        ax.plot(EXPONENTS, ratios.T, ".", color=color, ms=2.5)
        mean = np.exp(np.log(ratios).mean(axis=0))
        ax.plot(EXPONENTS, mean, color=color, label=f"{own.coupling:.2g}")
    ax.axhline(1, **pages.FAINT)
    ax.set(yscale="log", ylim=(0.07, 9), xlabel="weight exponent $g$", xticks=EXPONENTS)
    pages.plain_ticks(ax.yaxis, [0.1, 0.3, 1, 3])


def _draw_balance(ax: Axes, found: dict[str, dict[float, Outcome]], real: Outcome) -> None:
    """Measured balancing exponents over those predicted from the start's kernel and size, each seed."""
    ends = 0.15, 1.25
    ax.plot(ends, ends, **THEORY)
    for name, outcomes in {**found, "convolutional": {0.0: real}}.items():
        expected = np.concatenate([own.expected for own in outcomes.values()])
        measured = np.concatenate([own.each for own in outcomes.values()])
        label = name if name == "convolutional" else f"{name} start"
        ax.plot(expected, measured, MARKERS[name], color=COLORS[name], label=label, **HOLLOW)
    ax.set(xlabel="$g^*$ by the kernel and size of the start", xlim=ends, ylim=ends)
    ax.set(ylabel="measured balancing exponent $g^*$")
    ax.legend(loc="upper left", labelspacing=0.25)


def _draw_accuracy(ax: Axes, found: dict[str, dict[float, Outcome]], real: Outcome) -> None:
    """Early balanced accuracy over the exponent, means over seeds with their standard errors."""
    styles = zip(found.items(), ("--", "-"), (-0.012, 0.012), strict=True)
    for (name, outcomes), style, aside in styles:
        for own, color in zip(outcomes.values(), shades(len(outcomes)), strict=True):
            _draw_mean(ax, own, aside, color, style)
        pages.key(ax, f"{name} start", style, color="0.3")
    _draw_mean(ax, real, 0.0, "black", "-")
    pages.key(ax, "convolutional", "-", color="black")
    ax.axvline(1, **pages.FAINT)
    ax.set(xlabel="weight exponent $g$", xticks=EXPONENTS, ylim=(0.04, None))
    ax.set_ylabel("held-out balanced accuracy,\nwhere ERM has half\nlearned majorities")
    ax.legend(loc="lower left", labelspacing=0.25)


def _draw_mean(ax: Axes, own: Outcome, aside: float, color: Any, style: str) -> None:
    count = len(own.held_out)
    error = own.held_out.std(axis=0, ddof=1) / np.sqrt(count) if count > 1 else None
    where = np.array(EXPONENTS) + aside
    ax.errorbar(where, own.held_out.mean(axis=0), error, ls=style, color=color, elinewidth=0.6)
