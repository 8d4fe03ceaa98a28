"""The figures of a watch: recall, precision and class shares by window, and the evidence that a class got worse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ssm.config import profiles
from ssm.plots.style import COLORS, PAGE_WIDTH, style

MOST_CLASSES = 8
"""The largest number of classes that are drawn; they are the rarest ones."""
HEIGHT = 1.15
"""The height of the panel of a class, in inches."""
Summary = dict[str, Any]
"""The summary of a watch in JSON types (`summaries.summary`)."""
METRICS = {"recall": "-", "precision": "--", "calibration": ":"}


def figures(summary: Summary) -> Iterator[tuple[str, Figure]]:
    """The figures by name, of a summary with at least one window."""
    rows, drawn = summary["windows"], _drawn(summary)
    with style():
        for metric in ("recall", "precision"):
            if any(value for row in rows for value in row[metric]):
                yield metric, _rates(summary, metric, drawn)
        if any(row["shares"] for row in rows):
            yield "shares", _shares(summary, drawn)
        if any(row["evidence"] for row in rows):
            yield "evidence", _evidence(summary, drawn)


def _drawn(summary: Summary) -> list[int]:
    """The indices of the classes that are drawn, the rarest first."""
    rows = sum(np.array(row["decided"]) for row in summary["windows"])
    shares = (summary["reference"] or {}).get("shares")
    return np.argsort(rows if shares is None else shares, kind="stable")[:MOST_CLASSES].tolist()


def _color(summary: Summary, c: int) -> str:
    """The colour of a rare class or of a frequent one. A class is rare if its share is below the geometric mean of the smallest and
    the largest share."""
    shares = (summary["reference"] or {}).get("shares")
    if shares is None or max(shares) == min(shares):
        return COLORS[profiles.MAJORITY]
    rare = shares[c] < np.sqrt(max(shares) * min(shares))
    return COLORS[profiles.MINORITY if rare else profiles.MAJORITY]


def _panels(summary: Summary, drawn: Sequence[int]) -> tuple[Figure, Sequence[tuple[int, Axes]]]:
    """A panel for each class, with the windows along their common axis."""
    size = (PAGE_WIDTH, HEIGHT * len(drawn) + 0.55)
    figure, axes = plt.subplots(len(drawn), 1, sharex=True, squeeze=False, figsize=size)
    label = (
        "window" if summary["settings"]["window"].isdigit() else f"{summary['settings']['window']}"
    )
    starts = [row["start"] for row in summary["windows"]]
    places = np.unique(np.linspace(0, len(starts) - 1, min(6, len(starts))).round().astype(int))
    axes[-1, 0].set_xticks(places, [starts[i] for i in places])
    axes[-1, 0].set_xlabel(f"first {'day' if label == 'week' else 'moment'} of each {label}")
    return figure, list(zip(drawn, axes[:, 0], strict=True))


def _errors(ax: Axes, x: list[int], values: list[Sequence[float]], color: str, label: str) -> None:
    """Draw points with their intervals."""
    mean, low, high = np.array(values).T
    reach = np.clip([mean - low, high - mean], 0, None)
    ax.errorbar(x, mean, reach, fmt="o", ms=2.2, lw=0.7, color=color, label=label)


def _rates(summary: Summary, metric: str, drawn: Sequence[int]) -> Figure:
    """Recall or precision of each class by window, beside the reference."""
    figure, panels = _panels(summary, drawn)
    given = (summary["reference"] or {}).get(metric)
    for c, ax in panels:
        color, name = _color(summary, c), summary["classes"][c]
        kept = [(i, row[metric][c]) for i, row in enumerate(summary["windows"]) if row[metric][c]]
        if given and given[c]:
            ax.axhspan(given[c][1], given[c][2], color="0.88", lw=0, label="reference")
            ax.axhline(given[c][0], color="0.45", lw=0.8)
        if kept:
            _errors(ax, [i for i, _ in kept], [v for _, v in kept], color, "window")
        for alarm in summary["alarms"]:
            if alarm["metric"] == metric and alarm["class"] == name:
                _mark(ax, summary, alarm)
        ax.set_ylim(-0.03, 1.03)
        ax.set_ylabel(f"{metric}\nof {_short(name)}")
    _legend(figure, panels)
    return figure


def _mark(ax: Axes, summary: Summary, alarm: dict[str, str]) -> None:
    """Draw a line where an alarm was raised."""
    starts = [row["start"] for row in summary["windows"]]
    if alarm["raised"] in starts:
        ax.axvline(starts.index(alarm["raised"]), color="k", lw=0.9, ls="--", label="alarm")


def _shares(summary: Summary, drawn: Sequence[int]) -> Figure:
    """The share of each class: estimated before labels came, and of labelled rows."""
    figure, panels = _panels(summary, drawn)
    for c, ax in panels:
        rows = summary["windows"]
        kept = [(i, row["shares"][c]) for i, row in enumerate(rows) if row["shares"]]
        _errors(
            ax,
            [i for i, _ in kept],
            [v for _, v in kept],
            _color(summary, c),
            "estimated without labels",
        )
        known = [
            (i, row["labelled_shares"][c]) for i, row in enumerate(rows) if row["labelled_shares"]
        ]
        if known:
            ax.plot(
                [i for i, _ in known],
                [v for _, v in known],
                "k_",
                ms=4,
                mew=0.9,
                label="of labelled rows",
            )
        ax.axhline(summary["reference"]["shares"][c], color="0.45", lw=0.8, label="usual")
        ax.set_ylabel(f"share\nof {_short(summary['classes'][c])}")
    _legend(figure, panels)
    return figure


def _evidence(summary: Summary, drawn: Sequence[int]) -> Figure:
    """The evidence that each class got worse, by metric, beside the level of evidence that raises an alarm."""
    figure, panels = _panels(summary, drawn)
    kept = [(i, row["evidence"]) for i, row in enumerate(summary["windows"]) if row["evidence"]]
    x, limit = [i for i, _ in kept], summary["limit"] / np.log(10)
    for c, ax in panels:
        for q in range(len(kept[0][1])):
            name = list(METRICS)[q]
            y = [value[q][c] / np.log(10) for _, value in kept]
            ax.plot(x, y, color=_color(summary, c), ls=METRICS[name], label=name)
        ax.axhline(limit, color="k", lw=0.9, label="alarm from here on")
        ax.set_ylabel(f"evidence on\n{_short(summary['classes'][c])}, log10")
    _legend(figure, panels)
    return figure


def _legend(figure: Figure, panels: Sequence[tuple[int, Axes]]) -> None:
    """Draw one legend above all panels, with an entry for each label in any of them."""
    entries: dict[str, Artist] = {}
    for _, ax in panels:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    figure.legend(entries.values(), entries.keys(), loc="outside upper center", ncols=4)


def _short(name: str) -> str:
    """The name of a class, cut to the room of a panel, and escaped so that Matplotlib does not take it for a formula."""
    return (name if len(name) <= 14 else f"{name[:13]}…").replace("$", r"\$")
