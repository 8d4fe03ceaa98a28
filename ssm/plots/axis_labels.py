"""The labels and scales of axes of times and of strengths."""

from __future__ import annotations

import xarray as xr
from matplotlib.axes import Axes

from ssm.plots import sweeps
from ssm.results import datasets


def time_axis(dataset: xr.Dataset, axes: Axes) -> None:
    """Label the time axis with its unit, and make it logarithmic where the saved times are spaced so. Lines below the label of a
    run that was drawn before are kept."""
    _, *lines_below = axes.get_xlabel().split("\n")
    axes.set_xlabel("\n".join([dataset["time"].attrs.get("description", "time"), *lines_below]))
    if datasets.time_spacing(dataset) == "log":
        first, last = dataset["time"].values[[1, -1]]
        if axes.get_xscale() == "log":  # A run was drawn before on this axis.
            first, last = min(first, axes.get_xlim()[0]), max(last, axes.get_xlim()[1])
        axes.set(xscale="log", xlim=(first, last))


def strength_axis(dataset: xr.Dataset, axes: Axes, label: str) -> None:
    """Label an axis of strengths, and make it logarithmic where strengths grow without bound, as in the terminal phase."""
    if sweeps.passes_targets(dataset):
        label = (
            f"{label.replace('target', 'squared-loss target')}\n(cross-entropy goes on beyond 1)"
        )
    axes.set_ylabel(label)
    if (highest := axes.dataLim.y1) > 100:
        axes.set(yscale="log", ylim=(1e-3, 1.5 * highest))
