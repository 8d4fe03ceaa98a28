"""The classes that a Dataset knows something of, as the samples at which a network is watched may lack some. One rule
holds everywhere: a class without samples is left out of means and legends, and that is said."""

from __future__ import annotations

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float

MOST = 4
"""So many classes are named where it is said that they lack samples."""


def known(dataset: xr.Dataset, name: str) -> Bool[np.ndarray, " k"]:
    """The classes of which a variable over time and class is ever known."""
    values = dataset[name].transpose("time", "class").values
    return np.asarray(np.isfinite(values).any(axis=0))


def mean(dataset: xr.Dataset, name: str, group: str | None = None) -> Float[np.ndarray, " time"]:
    """The mean of a variable over those classes, of a group or of all, of which it is ever known; NaN at the gaps of a
    log, and where no class is known."""
    values, mine = dataset[name].transpose("time", "class").values, known(dataset, name)
    if group is not None:
        mine &= dataset["class_group"].values == group
    return values[:, mine].mean(axis=1) if mine.any() else np.full(len(values), np.nan)


def names(dataset: xr.Dataset) -> list[str]:
    """The names of the classes, or their numbers where they have none."""
    named = dataset["class_name" if "class_name" in dataset.coords else "class"]
    return list(map(str, named.values.tolist()))


def absent(dataset: xr.Dataset, name: str) -> str:
    """That some classes are left out since a variable is known of others and never of them; an empty text where there are
    none."""
    mine = known(dataset, name)
    if mine.all() or not mine.any():  # of which the second is a log of gaps alone
        return ""
    left_out = np.flatnonzero(~mine & (dataset["class_group"].values != "")).tolist()
    if not left_out:  # as of a run that was taken from a sweep with more classes
        return ""
    what = "held-out samples" if name.startswith("held_out") else "samples"
    if len(left_out) > MOST:
        return f"no {what} of {len(left_out)} classes"
    of_class = names(dataset)
    which = "class" if len(left_out) == 1 else "classes"
    return f"no {what} of {which} {', '.join(of_class[c] for c in left_out)}"
