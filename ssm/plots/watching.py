"""The figures of a watch: recall, precision and class shares by window, and the evidence that a class got worse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ssm.config import profiles
from ssm.plots.style import COLORS, PAGE_WIDTH, style

MOST_CLASSES = 8
"""So many classes are drawn, the rarest."""
HEIGHT = 1.15
"""Of the panel of a class, in inches."""
METRICS = {"recall": "-", "precision": "--", "calibration": ":"}


def figures(found: dict[str, Any]) -> Iterator[tuple[str, Figure]]:
    """The figures by name, of a summary with a window at least (`summaries.summary`)."""
    rows, drawn = found["windows"], _drawn(found)
    with style():
        for metric in ("recall", "precision"):
            if any(value for row in rows for value in row[metric]):
                yield metric, _rates(found, metric, drawn)
        if any(row["shares"] for row in rows):
            yield "shares", _shares(found, drawn)
        if any(row["evidence"] for row in rows):
            yield "evidence", _evidence(found, drawn)


def _drawn(found: dict[str, Any]) -> list[int]:
    """The places of the classes that are drawn, the rarest first."""
    rows = sum(np.array(row["decided"]) for row in found["windows"])
    shares = (found["reference"] or {}).get("shares")
    return np.argsort(rows if shares is None else shares, kind="stable")[:MOST_CLASSES].tolist()


def _color(found: dict[str, Any], c: int) -> str:
    """The colour of a rare class or of a frequent one: rare is below the geometric mean of the extreme shares."""
    shares = (found["reference"] or {}).get("shares")
    if shares is None or max(shares) == min(shares):
        return COLORS[profiles.MAJORITY]
    rare = shares[c] < np.sqrt(max(shares) * min(shares))
    return COLORS[profiles.MINORITY if rare else profiles.MAJORITY]


def _panels(
    found: dict[str, Any], drawn: Sequence[int]
) -> tuple[Figure, Sequence[tuple[int, Axes]]]:
    """A panel for each class, with the windows along their common axis."""
    size = (PAGE_WIDTH, HEIGHT * len(drawn) + 0.55)
    figure, axes = plt.subplots(len(drawn), 1, sharex=True, squeeze=False, figsize=size)
    label = "window" if found["settings"]["window"].isdigit() else f"{found['settings']['window']}"
    starts = [row["start"] for row in found["windows"]]
    places = np.unique(np.linspace(0, len(starts) - 1, min(6, len(starts))).round().astype(int))
    axes[-1, 0].set_xticks(places, [starts[i] for i in places])
    axes[-1, 0].set_xlabel(f"first {'day' if label == 'week' else 'moment'} of each {label}")
    return figure, list(zip(drawn, axes[:, 0], strict=True))


def _errors(ax: Axes, x: list[int], values: list[Sequence[float]], color: str, label: str) -> None:
    """Points with their intervals."""
    mean, low, high = np.array(values).T
    reach = np.clip([mean - low, high - mean], 0, None)
    ax.errorbar(x, mean, reach, fmt="o", ms=2.2, lw=0.7, color=color, label=label)


def _rates(found: dict[str, Any], metric: str, drawn: Sequence[int]) -> Figure:
    """Recall or precision of each class by window, beside the reference."""
    figure, panels = _panels(found, drawn)
    given = (found["reference"] or {}).get(metric)
    for c, ax in panels:
        color, name = _color(found, c), found["classes"][c]
        kept = [(i, row[metric][c]) for i, row in enumerate(found["windows"]) if row[metric][c]]
        if given and given[c]:
            ax.axhspan(given[c][1], given[c][2], color="0.88", lw=0, label="reference")
            ax.axhline(given[c][0], color="0.45", lw=0.8)
        if kept:
            _errors(ax, [i for i, _ in kept], [v for _, v in kept], color, "window")
        for alarm in found["alarms"]:
            if alarm["metric"] == metric and alarm["class"] == name:
                _mark(ax, found, alarm)
        ax.set_ylim(-0.03, 1.03)
        ax.set_ylabel(f"{metric}\nof {_short(name)}")
    _legend(figure, panels)
    return figure


def _mark(ax: Axes, found: dict[str, Any], alarm: dict[str, Any]) -> None:
    """A line where an alarm was raised."""
    starts = [row["start"] for row in found["windows"]]
    if alarm["raised"] in starts:
        ax.axvline(starts.index(alarm["raised"]), color="k", lw=0.9, ls="--", label="alarm")


def _shares(found: dict[str, Any], drawn: Sequence[int]) -> Figure:
    """The share of each class: estimated before labels came, and of labelled rows."""
    figure, panels = _panels(found, drawn)
    for c, ax in panels:
        rows = found["windows"]
        kept = [(i, row["shares"][c]) for i, row in enumerate(rows) if row["shares"]]
        _errors(
            ax,
            [i for i, _ in kept],
            [v for _, v in kept],
            _color(found, c),
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
        ax.axhline(found["reference"]["shares"][c], color="0.45", lw=0.8, label="usual")
        ax.set_ylabel(f"share\nof {_short(found['classes'][c])}")
    _legend(figure, panels)
    return figure


def _evidence(found: dict[str, Any], drawn: Sequence[int]) -> Figure:
    """The evidence that each class got worse, by metric, beside the one that is an alarm."""
    figure, panels = _panels(found, drawn)
    kept = [(i, row["evidence"]) for i, row in enumerate(found["windows"]) if row["evidence"]]
    x, limit = [i for i, _ in kept], found["limit"] / np.log(10)
    for c, ax in panels:
        for q in range(len(kept[0][1])):
            name = list(METRICS)[q]
            y = [value[q][c] / np.log(10) for _, value in kept]
            ax.plot(x, y, color=_color(found, c), ls=METRICS[name], label=name)
        ax.axhline(limit, color="k", lw=0.9, label="alarm from here on")
        ax.set_ylabel(f"evidence on\n{_short(found['classes'][c])}, log10")
    _legend(figure, panels)
    return figure


def _legend(figure: Figure, panels: Sequence[tuple[int, Axes]]) -> None:
    """One legend above all panels, of all that any of them shows."""
    entries: dict[str, Any] = {}
    for _, ax in panels:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    figure.legend(entries.values(), entries.keys(), loc="outside upper center", ncols=4)


def _short(name: str) -> str:
    """A class's name as a panel has room for it, without a meaning to Matplotlib."""
    return (name if len(name) <= 14 else f"{name[:13]}…").replace("$", r"\$")
