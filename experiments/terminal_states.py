"""Where runs by the loss clock end, as `ssm.terminal` has it: SELI of the effective counts n_c / kappa_c
whatever the weights, approached as 1 / margin. The two things that keep a run from it there, its margins
and its start, were derived after looking.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import xarray as xr
from jaxtyping import Int

from experiments.settings import BASE
from ssm import Config, geometry, states, terminal
from ssm.problem import make_problem
from ssm.results import reached

LAST_SHOWN = 20  # log of flow time
AXES = ("num_classes", "imbalance_ratio", "minority_fraction", "weight_exponent")


def single_runs(runs: xr.Dataset) -> Iterator[xr.Dataset]:
    """Every run of a sweep."""
    sizes = runs["status"].sizes
    for index in np.ndindex(*sizes.values()):
        yield runs.isel(dict(zip(sizes, index, strict=True)))


def early_part(run: xr.Dataset) -> xr.Dataset:
    """What a run by the loss clock reached while flow time can still be told."""
    run = reached(run)
    return run.isel(time=run["log_time"].values < LAST_SHOWN)


def trajectory(run: xr.Dataset, counts: Int[np.ndarray, " k"]) -> list[states.ClassState]:
    """Where a run with one feature column a class was at each observed time."""
    return [
        states.ClassState(W, H, counts)
        for W, H in zip(run["W"].values, run["H"].values, strict=True)
    ]


def largest_part(distance: xr.DataArray) -> xr.DataArray:
    """The largest of the distances of W, H and Z; NaN where one is."""
    return distance.max("part", skipna=False)


def margin_at_end(run: xr.Dataset) -> float:
    """The margin with which a run ended."""
    return float(reached(run)["margin"][-1])


def end(run: xr.Dataset) -> states.ClassState:
    """Where a run with one feature column a class ended."""
    last, own = reached(run).isel(time=-1), slice(int((run["class_count"] > 0).sum()))
    return states.ClassState(
        last["W"].values[own], last["H"].values[:, own], last["class_count"].values[own]
    )


def config_of(run: xr.Dataset, **changes: float) -> Config:
    """The problem that a run of a sweep over `AXES` is of; those it still has are in `changes`."""
    found = {name: run[name].item() for name in AXES if run[name].ndim == 0}
    return dataclasses.replace(BASE, **(found | changes))


def limit(config: Config) -> geometry.Geometry:
    """The terminal geometry of a config."""
    return terminal.limit(config, make_problem(config))


def approach(config: Config, margin: float) -> states.ClassState:
    """The state of a config at a large margin."""
    return terminal.approach(config, make_problem(config), margin)


def without_kept_row(state: states.ClassState) -> states.ClassState:
    """Less the mean row of W, which cross-entropy keeps."""
    return state.without_row(np.ones(len(state.W)))
