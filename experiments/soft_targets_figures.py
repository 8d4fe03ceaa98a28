"""The figure of `soft_targets`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from experiments import pages
from experiments.pages import HOLLOW, THEORY
from experiments.soft_targets_runs import LOSSES, NUMBERS, SCALE, SPREAD, VALUES, WEIGHTINGS
from ssm.theory.growth import learning_time, sigmoid

SHAPES = {"halves": "o", "tree": "s", "bigrams": "^"}
LOSS_COLORS = {"squared": "#009E73", "cross_entropy": "#CC79A7"}


def draw(path: Path, pictures: dict[tuple[str, str], Any]) -> None:
    """Strengths of halves over time, learning times over early rates, under weights, and the angle of late logits."""
    with pages.page(path, 4.4) as figure:
        (first, second), (third, fourth) = figure.subplots(2, 2)
        found, _ = pictures["squared", "ERM"]
        times = found["time"].values
        rates = VALUES / (2 * NUMBERS.sum())
        wanted = sigmoid(times, rates, np.full(7, SPREAD**2), VALUES) / VALUES
        for j, color in enumerate(pages.shades(7)):
            first.plot(times, found["strength"].values[:, j] / VALUES[j], color=color, lw=2)
            first.plot(times, wanted[:, j], **THEORY)
        pages.key(first, "run", color="0.5", lw=2)
        pages.key(first, "sigmoid", **THEORY)
        first.set(xlabel=pages.FLOW_TIME, ylabel="halves: strength / value")
        first.legend(loc="lower right")
        for name, shape in SHAPES.items():
            for loss, color in LOSS_COLORS.items():
                r, each = pictures[name, loss]
                second.plot(r, each.mean(axis=0), shape, color=color, **HOLLOW)
            pages.key(second, name, shape, color="0.4", **HOLLOW)
        for loss, color in LOSS_COLORS.items():
            pages.key(second, LOSSES[loss], "-", color=color)
        grid = np.geomspace(3e-4, 0.06, 50)
        start = SCALE**2 * 10 / 2  # mean strength of a component in ten dimensions
        second.plot(grid, learning_time(grid, start / (96 * grid), "squared", 8), **THEORY)
        second.set(xscale="log", yscale="log", xlabel="early rate $s / n$")
        second.set_ylabel("learning time (flow time)")
        second.legend(loc="upper right", fontsize=6, labelspacing=0.2)
        for (name, _), color, mark in zip(WEIGHTINGS.items(), pages.shades(3), "os^", strict=True):
            for loss in LOSSES:
                found, wanted = pictures[loss, name]
                fill = {"mfc": "none"} if loss == "cross_entropy" else {}
                third.plot(
                    VALUES, found["learning_time"].values, mark, color=color, ms=4, mew=0.8, **fill
                )
                third.plot(VALUES, wanted, **THEORY)
            pages.key(third, name, mark, color=color, ms=4)
        third.set(
            xscale="log",
            yscale="log",
            xlabel="singular value $s$ (halves)",
            ylabel="learning time (flow time)",
        )
        pages.plain_ticks(third.xaxis, (0.3, 0.5, 1, 2))
        pages.plain_ticks(third.yaxis, (300, 500, 1000, 2000))
        third.set_ylim(150, 3300)
        pages.key(third, "closed form", **THEORY)
        third.legend(loc="lower center", ncols=2, fontsize=6)
        for (name, line), with_what in (
            (pair, what)
            for pair in (("ERM", "-"), ("weights", "-."))
            for what in ("support", "targets")
        ):
            times, angles = pictures["end", name]
            color = "black" if with_what == "support" else "#E69F00"
            fourth.plot(
                times[1:], angles[with_what][1:], line, color=color, label=f"{with_what}, {name}"
            )
        fourth.set(xscale="log", xlabel=pages.FLOW_TIME, ylabel="tree: cosine of logits with")
        fourth.legend(loc="lower right", fontsize=6)
