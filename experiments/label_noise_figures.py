"""The figure of `label_noise`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from experiments import pages
from experiments.claims import Estimate

NAMES = {"ERM": "ERM", "given": "weights of given labels", "true": "weights of true classes"}
COLORS = {"ERM": "black", "given": "#CC79A7", "true": "#009E73"}
SHOWN = 0.2  # the level of noise whose curves are drawn
FIRST, LAST = 1.0, 3000.0  # times between which they are


def draw(
    path: Path, levels: Sequence[float], found: Mapping[tuple[float, str], Sequence[Any]]
) -> None:
    """Minority recall and memorised labels over time at one level; gains and losses over the share of wrong labels."""
    with pages.page(path, 4.6) as figure:
        (first, second), (third, fourth) = figure.subplots(2, 2)
        for name, color in COLORS.items():
            own = found[SHOWN, name]
            times = own[0].times
            _mean(first, times, [one.minority for one in own], color=color, label=NAMES[name])
            _mean(second, times, [one.memorised[0] for one in own], color=color)
            _mean(second, times, [one.memorised[2] for one in own], color=color, ls="--", lw=1)
        pages.key(second, "naming a minority", "-", color="0.5")
        pages.key(second, "naming a majority,\nof a minority's samples", "--", color="0.5", lw=1)
        first.set(ylabel="minority recall, held out", ylim=(0, 1))
        second.set(ylabel="wrong labels memorised", ylim=(-0.03, 1.45))
        for ax in (first, second):
            ax.set_title(f"{SHOWN:.0%} of labels wrong".replace("%", " %"))
            ax.set(xscale="log", xlabel=pages.FLOW_TIME, xlim=(FIRST, LAST))
            pages.plain_ticks(ax.yaxis, (0, 0.5, 1))
        pages.key(third, "each at its best", "o-", color="0.5", ms=3.5)
        pages.key(third, "at the end", "s:", color="0.5", ms=3.5)
        for name, color in COLORS.items():
            own = [found[level, name] for level in levels]
            lost = [[one.lost for one in runs] for runs in own]
            _bars(fourth, levels, lost, "o-", color)
            if name == "ERM":
                continue
            erm = [found[level, "ERM"] for level in levels]
            pairs = [list(zip(*both, strict=True)) for both in zip(erm, own, strict=True)]
            best = [[b.balanced.max() - a.balanced.max() for a, b in each] for each in pairs]
            ends = [[b.balanced[-1] - a.balanced[-1] for a, b in each] for each in pairs]
            _bars(third, levels, best, "o-", color)
            _bars(third, levels, ends, "s:", color)
        third.set(ylabel="balanced accuracy over ERM's", ylim=(-0.13, 0.34))
        fourth.set(ylabel="lost from the best to the end")
        for ax in (third, fourth):
            ax.axhline(0, **pages.FAINT)
            ax.set_xlabel("wrong training labels (%)")
        second.legend(loc="upper left", fontsize=6)
        third.legend(loc="upper left", ncols=2, fontsize=6)
        pages.legend_above(figure, first, 3)


def _mean(ax: Axes, times: np.ndarray, values: Sequence[np.ndarray], **line: Any) -> None:
    """Over the draws that have any."""
    known = np.array([one for one in values if np.isfinite(one[0])])
    ax.plot(times[1:], known.mean(axis=0)[1:], **line)


def _bars(ax: Axes, levels: Sequence[float], values: Any, style: str, color: str) -> None:
    """Means over seeds with their 95 % intervals."""
    mean, low, high = np.transpose([Estimate.over_seeds(list(own)) for own in values])
    where = 100 * np.array(levels), mean, (mean - low, high - mean)
    ax.errorbar(*where, fmt=style, ms=3.5, lw=1, elinewidth=0.8, capsize=2, color=color)
