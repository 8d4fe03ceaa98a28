"""The figure of the experiment `bridge`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from experiments import pages
from experiments.bridge_network import EXPONENTS, MAJORITY, MINORITY, Outcome
from experiments.pages import HOLLOW, THEORY, shades
from ssm import theory

COLORS = {"small": "#009E73", "standard": "#CC79A7", "convolutional": "black"}


def draw(path: Path, found: dict[str, dict[float, Outcome]], real: Outcome) -> None:
    """Ratios of learning times over the exponent for both starts, balancing exponents over the
    coupling, and early held-out accuracy over the exponent."""
    with pages.page(path, 4.8) as figure:
        (left, right), (balance, accuracy) = figure.subplots(2, 2)
        for ax, (name, outcomes) in zip((left, right), found.items(), strict=True):
            _draw_ratios(ax, outcomes)
            ax.set_title(f"one hidden layer, {name} start")
        left.set_ylabel(pages.TIME_RATIO)
        left.legend(title="coupling $c$", loc="lower left", labelspacing=0.25)
        _draw_balance(balance, found, real)
        for outcomes, style in zip(found.values(), ("--", "-"), strict=True):
            for own, color in zip(outcomes.values(), shades(len(outcomes)), strict=True):
                accuracy.plot(EXPONENTS, own.held_out.mean(axis=0), style, color=color)
        for name, style in zip(found, ("--", "-"), strict=True):
            pages.key(accuracy, f"{name} start", style, color="0.3")
        accuracy.plot(EXPONENTS, real.held_out.mean(axis=0), color="black", label="convolutional")
        accuracy.axvline(1, **pages.FAINT)
        accuracy.set(xlabel="weight exponent $g$", xticks=EXPONENTS, ylim=(0.04, None))
        accuracy.set_ylabel("held-out balanced accuracy,\nwhere ERM has half\nlearned majorities")
        accuracy.legend(loc="lower left", labelspacing=0.25)


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
    """Measured balancing exponents over the coupling, bars over seeds, beside both predictions."""
    fine = np.geomspace(1e-3, 1, 100)
    extremes = MAJORITY, MINORITY
    small = np.array([theory.balancing_exponent(*extremes, c) for c in fine])
    ax.plot(fine, small, **THEORY, label="predicted: small start")
    ax.plot(fine, 2 * small - 1, **{**THEORY, "ls": ":"}, label="predicted: fixed kernel")
    for name, outcomes in {**found, "convolutional": {0.0: real}}.items():
        for i, own in enumerate(outcomes.values()):
            low, high = np.min(own.each), np.max(own.each)
            ax.plot([own.coupling] * 2, [low, high], color=COLORS[name], lw=1)
            label = f"measured: {name}" if i == 0 else None
            ax.plot(own.coupling, own.measured, "o", color=COLORS[name], label=label, **HOLLOW)
    ax.set(xscale="log", xlabel="coupling $c$ of the features at the start")
    ax.set(ylabel="balancing exponent $g^*$", ylim=(-0.03, 1.75), yticks=np.arange(0, 1.1, 0.25))
    ax.legend(loc="upper left", labelspacing=0.25)
