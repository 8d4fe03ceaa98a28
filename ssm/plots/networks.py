"""The page of figures of the log of a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ssm.config import profiles
from ssm.plots.legends import add_legend
from ssm.plots.style import COLORS, PAGE_WIDTH, PARTS
from ssm.results import classes, logs

KIND = "network"
GREY = "0.3"
ROWS = {3: (3,), 4: (2, 2), 5: (3, 2), 6: (3, 3)}
"""The number of panels in each row, by the number of all panels."""
LOWEST = 1e-8
"""The smallest share of the largest value that a logarithmic axis shows; smaller values are rounding."""
RUN_AWAY = 100
"""The share of the target above which strengths are drawn on a logarithmic axis."""


def is_suited(dataset: xr.Dataset) -> bool:
    """Whether this page is the best figure of a Dataset: whether it is a log for which features or a classifier were given."""
    return logs.is_log(dataset) and "seli_distance" in dataset


def plot_network(dataset: xr.Dataset, drawing: Figure) -> None:
    """Draw the page of a log of a network into a figure, over the steps at which it was observed.

    - Accuracy of each class (thin) and the mean of each group (bold), dotted on held-out samples.
    - Strength of each component (thin) and the mean of each block (bold) over the singular values of the label matrix; for
      a group of one class, which has no contrasts, the strength of that class.
    - Singular values of the logits, with those of the label matrix dashed.
    - Where features or a classifier were given: NC1 to NC4 of neural collapse (NC4 ends where it is 0; NC2 of the features of two
      classes is left out, since their centred means are opposite whatever is learned), the distances to SELI (solid) and to the
      simplex ETF (dotted), and the coupling with the exponent of class weights that balances it: for contrasts g*, for two
      classes that of their margins (dashed, since theory derives it from the coupling).

    Panels without any finite value are left out. A step whose values are not finite is a gap.
    """
    always = list(PANELS)[:3]
    panels = [panel for name, panel in PANELS.items() if name in always or _is_known(dataset, name)]
    rows = ROWS[len(panels)]
    drawing.set_size_inches(PAGE_WIDTH, 0.55 + 1.85 * len(rows))
    grid = drawing.add_gridspec(len(rows), 6)
    places = [
        grid[row, 6 // number * i : 6 // number * (i + 1)]
        for row, number in enumerate(rows)
        for i in range(number)
    ]
    for panel, place in zip(panels, places, strict=True):
        axes = drawing.add_subplot(place)
        panel(dataset, axes)
        axes.locator_params(axis="x", nbins=4)
    names = ("class_accuracy", "held_out_accuracy")
    left_out = [classes.absent(dataset, name) for name in names if name in dataset]
    drawing.supxlabel("\n".join([logs.clock(dataset), "; ".join(filter(None, left_out))]).strip())
    drawing.legend(handles=_keys(dataset), loc="outside upper center", ncols=5)


def _is_known(dataset: xr.Dataset, name: str) -> bool:
    return name in dataset and bool(np.isfinite(dataset[name].values).any())


def _keys(dataset: xr.Dataset) -> list[Line2D]:
    """The entries of the legend of the page: the colours of groups, and the dotted and dashed lines."""
    present = dataset["class_group"].values[dataset["class_count"].values > 0]
    names = [name for name in COLORS if name == "cross" or name in present]
    keys = [Line2D([], [], color=COLORS[name], label=name) for name in names]
    if "held_out_accuracy" in dataset:
        keys.append(Line2D([], [], color=GREY, ls=":", label="held out"))
    return [*keys, Line2D([], [], color=GREY, ls="--", lw=1, label="of the label matrix")]


def _line(axes: Axes, times: np.ndarray, values: np.ndarray, **look: Any) -> None:
    """Draw a line that breaks at gaps, with a dot for a value that stands alone between them."""
    known = np.concatenate([[False], np.isfinite(values), [False]])
    alone = np.flatnonzero(known[1:-1] & ~known[:-2] & ~known[2:])
    if alone.size:
        look |= {"marker": ".", "ms": 4, "markevery": alone.tolist()}
    axes.plot(times, values, **look)


def _log_axis(axes: Axes, lowest: float = 0.0) -> None:
    """Make the y axis logarithmic, unless no value is above 0. The axis begins at `lowest` or below."""
    drawn = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.lines])
    positive = drawn[np.isfinite(drawn) & (drawn > 0)]
    if positive.size:
        positive = positive[positive >= LOWEST * positive.max()]
        bottom = max(positive.min(), min(lowest, positive.max() / 2))
        axes.set_yscale("log", nonpositive="mask")
        axes.set_ylim(0.7 * bottom, 1.4 * positive.max())


def _members(dataset: xr.Dataset, group: str) -> np.ndarray:
    """The indices of the classes of a group that have samples in the probe."""
    in_group = dataset["class_group"].values == group
    return np.flatnonzero(in_group & (dataset["class_count"].values > 0))


def _accuracy(dataset: xr.Dataset, axes: Axes) -> None:
    times, accuracy = dataset["time"].values, dataset["class_accuracy"].values
    for group in profiles.GROUPS:
        mine, color = _members(dataset, group), COLORS[group]
        for c in mine:
            _line(axes, times, accuracy[:, c], color=color, lw=0.5, alpha=0.35)
        if mine.size:
            # Both lines can be seen where they coincide.
            width = 2.2 if group == profiles.MAJORITY else 1.2
            _line(axes, times, accuracy[:, mine].mean(axis=1), color=color, lw=width)
        if "held_out_accuracy" in dataset:
            mean = classes.mean(dataset, "held_out_accuracy", group)
            _line(axes, times, mean, color=color, lw=1.2, ls=":")
    axes.set(ylabel="accuracy", ylim=(-0.03, 1.03))


def _strengths(dataset: xr.Dataset, axes: Axes) -> None:
    times, blocks = dataset["time"].values, dataset["component_block"].values
    shares = dataset["strength"].values / dataset["component_target"].values
    alone = False
    for i, block in enumerate(dataset["block"].values.tolist()):
        color, mine = COLORS[block], np.flatnonzero(blocks == block)
        for j in mine:
            _line(axes, times, shares[:, j], color=color, lw=0.5, alpha=0.35)
        if mine.size:
            mean = dataset["block_strength"].values[:, i] / dataset["block_target"].values[i]
            _line(axes, times, mean, color=color)
        for c in () if mine.size else _members(dataset, block):
            label = f"{block}: class strength"
            _line(axes, times, dataset["class_strength"].values[:, c], color=color, label=label)
            alone = True
    axes.axhline(1, color="0.8", lw=0.6, zorder=0)
    axes.set_ylabel("strength / target")
    if axes.dataLim.y1 > RUN_AWAY:
        _log_axis(axes, 1e-3)
    if alone:
        add_legend(axes)


def _spectrum(dataset: xr.Dataset, axes: Axes) -> None:
    for values in dataset["singular_value"].values.T:
        _line(axes, dataset["time"].values, values, color="black", lw=0.8)
    blocks, targets = dataset["component_block"].values, dataset["component_target"].values
    _log_axis(axes, 1e-3 * float(targets.min()))
    for block, color in COLORS.items():
        for target in np.unique(targets[blocks == block]):
            axes.axhline(target, color=color, ls="--", lw=1)
    axes.set_ylabel("singular value (logit)")


def _collapse(dataset: xr.Dataset, axes: Axes) -> None:
    # The centred means of two classes are opposite, so that their NC2 is the rounding of 0.
    are_two = (dataset["class_count"].values > 0).sum() == 2
    lines = {
        "NC1": (dataset["nc1"], {"color": "black"}),
        "pooled": (dataset["nc1_pooled"], {"color": COLORS["cross"]}),
        **{
            f"NC2, ${factor}$": (
                dataset["nc2_distance"].sel(factor=factor),
                {"color": PARTS[factor]},
            )
            for factor in dataset["factor"].values.tolist()
            if not (factor == "H" and are_two)
        },
        "NC3": (dataset["nc3"], {"color": "black", "ls": ":"}),
        "NC4": (dataset["nc4"], {"color": "black", "ls": "-."}),
    }
    _known_lines(dataset, axes, lines)
    axes.set_ylabel("neural collapse")
    _log_axis(axes)
    add_legend(axes)


def _distances(dataset: xr.Dataset, axes: Axes) -> None:
    lines = {}
    for part in dataset["part"].values.tolist():
        look = {"color": PARTS[part]}
        lines[f"${part}$"] = dataset["seli_distance"].sel(part=part), look
        lines[f"_{part}"] = dataset["etf_distance"].sel(part=part), look | {"ls": ":"}
    _known_lines(dataset, axes, lines)
    axes.plot([], [], "-", color=GREY, label="SELI")
    axes.plot([], [], ":", color=GREY, label="ETF")
    axes.set_ylabel("distance, normalised")
    axes.set_ylim(0, None)
    add_legend(axes)


def _known_lines(
    dataset: xr.Dataset, axes: Axes, lines: dict[str, tuple[xr.DataArray, dict[str, Any]]]
) -> None:
    """Draw lines with their labels, except those without any finite value."""
    for label, (values, look) in lines.items():
        if np.isfinite(values.values).any():
            _line(axes, dataset["time"].values, values.values, label=label, **look)


def _coupling(dataset: xr.Dataset, axes: Axes) -> None:
    times = dataset["time"].values
    _line(axes, times, dataset["coupling"].values, color="black", label="coupling")
    what, exponents = logs.balance(dataset)
    if what:
        label = "balancing $g^*$" if what == logs.CONTRASTS else "balancing $g$ (margins)"
        _line(axes, times, exponents, color="black", ls="--", lw=1, label=label)
    axes.set(ylabel="coupling, exponent" if what else "coupling", ylim=(-0.03, 1.03))
    add_legend(axes)


PANELS: dict[str, Callable[[xr.Dataset, Axes], None]] = {
    "class_accuracy": _accuracy,
    "strength": _strengths,
    "singular_value": _spectrum,
    "nc1": _collapse,
    "seli_distance": _distances,
    "coupling": _coupling,
}
"""The panels in their order, by the variable that each shows."""
