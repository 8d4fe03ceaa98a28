"""Groups inside classes over a run: their accuracies, and whether logits follow the class or the attribute."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ssm.config import profiles
from ssm.plots import axis_labels
from ssm.plots.legends import add_legend
from ssm.plots.style import COLORS, PAGE_WIDTH, PARTS

KIND = "groups"
HELD_OUT_LINE = (0, (4, 1.5))
STRENGTHS = {"core_strength": PARTS["W"], "spurious_strength": PARTS["H"]}


def plot_groups(dataset: xr.Dataset, drawing: Figure) -> None:
    """Draw the groups inside classes of a run into a figure, over time.

    - Accuracy of each group (thin, in the colour of the large or the small groups) and of the worst group at each time (bold,
      black), solid on training samples and dashed on held-out samples where there are any. Groups are small below the geometric
      mean of the smallest and the largest number of samples.
    - Core strength, how far logits follow the class whatever the attribute is, and spurious strength, how far they
      follow what the attribute says of classes. Core strength is 1 where the squared loss interpolates, spurious strength
      where logits follow the attribute alone. An attribute that says nothing of classes has no spurious strength, and no line.
    """
    drawing.set_size_inches(PAGE_WIDTH, 2.6)
    accuracies, strengths = drawing.subplots(1, 2)
    _plot_accuracies(dataset, accuracies)
    for name, color in STRENGTHS.items():
        if np.isfinite(dataset[name].values).any():
            label = name.removesuffix("_strength")
            strengths.plot(dataset["time"], dataset[name], color=color, label=label)
    strengths.axhline(1, color="0.8", lw=0.6, zorder=0)
    axis_labels.time_axis(dataset, strengths)
    axis_labels.strength_axis(dataset, strengths, "strength")
    add_legend(strengths)


def _plot_accuracies(dataset: xr.Dataset, axes: Axes) -> None:
    sizes = np.array(profiles.class_groups(dataset["group_count"].values.tolist()))
    for name, line in (("group_accuracy", "-"), ("held_out_group_accuracy", HELD_OUT_LINE)):
        if name not in dataset.variables:
            continue
        accuracy = dataset[name].transpose("time", "group").values
        for size in profiles.GROUPS:
            if not (mine := sizes == size).any():
                continue
            lines = axes.plot(
                dataset["time"], accuracy[:, mine], color=COLORS[size], lw=0.8, ls=line
            )
            if line == "-":
                lines[0].set_label(f"{size} groups" if (sizes != size).any() else "groups")
        worst = accuracy.min(axis=1)  # It is NaN after a run has stopped.
        label = "worst" if line == "-" else None
        axes.plot(dataset["time"], worst, color="black", lw=1.6, ls=line, zorder=1.5, label=label)
        if line != "-":
            axes.plot([], [], color="0.3", lw=0.8, ls=line, label="held-out")
    axis_labels.time_axis(dataset, axes)
    axes.set(ylabel="accuracy", ylim=(-0.03, 1.03))
    add_legend(axes)
