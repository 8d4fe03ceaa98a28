"""The classes of which a Dataset has values, since the samples at which a network is watched may lack some. One rule
holds everywhere: a class without samples is left out of means and legends, and the output says so."""

from __future__ import annotations

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float

MOST = 4
"""The largest number of classes without samples that are named one by one."""


def known(dataset: xr.Dataset, name: str) -> Bool[np.ndarray, " k"]:
    """The classes for which a variable over time and class is finite at some time."""
    values = dataset[name].transpose("time", "class").values
    return np.asarray(np.isfinite(values).any(axis=0))


def mean(dataset: xr.Dataset, name: str, group: str | None = None) -> Float[np.ndarray, " time"]:
    """The mean of a variable over those `known` classes that belong to a group, or over all of them; NaN at the gaps of a
    log, and where there are no such classes."""
    values, mine = dataset[name].transpose("time", "class").values, known(dataset, name)
    if group is not None:
        mine &= dataset["class_group"].values == group
    return values[:, mine].mean(axis=1) if mine.any() else np.full(len(values), np.nan)


def names(dataset: xr.Dataset) -> list[str]:
    """The names of the classes, or their numbers where they have none."""
    named = dataset["class_name" if "class_name" in dataset.coords else "class"]
    return list(map(str, named.values.tolist()))


def absent(dataset: xr.Dataset, name: str) -> str:
    """A text which says that some classes are left out, since a variable is known for others and never for them. It is empty
    where no class is left out."""
    mine = known(dataset, name)
    if mine.all() or not mine.any():  # Where none is known, the log has only gaps.
        return ""
    left_out = np.flatnonzero(~mine & (dataset["class_group"].values != "")).tolist()
    if not left_out:  # A run that was taken from a sweep may have classes of no group.
        return ""
    what = "held-out samples" if name.startswith("held_out") else "samples"
    if len(left_out) > MOST:
        return f"no {what} of {len(left_out)} classes"
    of_class = names(dataset)
    which = "class" if len(left_out) == 1 else "classes"
    return f"no {what} of {which} {', '.join(of_class[c] for c in left_out)}"
