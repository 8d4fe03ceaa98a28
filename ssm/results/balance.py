"""When minorities have caught up with majorities for good."""

from __future__ import annotations

import numpy as np
import xarray as xr
from jaxtyping import Float

from ssm.config import profiles
from ssm.support import checks, errors

RELATIVE = {
    "class_accuracy": False,
    "held_out_accuracy": False,
    "class_strength": True,
    "held_out_strength": True,
}
"""The quantities that can be compared between groups, and whether the tolerance is relative: strengths grow without
end under cross-entropy, while accuracies end at 1."""


def settling_time(values: xr.DataArray, level: float | xr.DataArray) -> xr.DataArray:
    """The time from which on values stay at a level or above it, as far as they were observed.

    It is the time, linearly between observations, at which the values pass the level after the last
    observation below it. It is the first observed time where no observation is below, and NaN where the last one is.

    Args:
        values: with the dimension `time` and times as the coordinate `time`, or `flow_time` where runs
            of a sweep differ in their times. NaN, as at times that a run did not reach, counts as not observed.
        level: a number, or an array that broadcasts.

    Returns:
        Over all other dimensions, in the unit of the times.
    """
    times = values["flow_time" if "flow_time" in values.coords else "time"]
    found = xr.apply_ufunc(
        _settled, times, values - level, input_core_dims=[["time"], ["time"]], vectorize=True
    )
    found.attrs = {name: times.attrs[name] for name in ("units",) if name in times.attrs}
    return found


def time_to_balance(
    dataset: xr.Dataset, tolerance: float = 0.05, quantity: str = "class_accuracy"
) -> xr.DataArray:
    """The first time from which on minorities are level with majorities, and stay so to the end.

    With m_maj and m_min the means of a quantity over the classes of each group (in a log, of those with samples), groups are level where
    |m_min - m_maj| <= tolerance for accuracies, and <= tolerance max(|m_min|, |m_maj|) for strengths,
    whichever group is ahead. Groups of which nothing is learned yet are level too. The time follows the last one at
    which they are not (`settling_time`), so the run has to be long enough to have such a time.

    Args:
        dataset: a run or a sweep of any axes.
        tolerance: in (0, 1).
        quantity: `class_accuracy` (of training samples), `held_out_accuracy`, `class_strength` or
            `held_out_strength`.

    Returns:
        Over the axes of the sweep, in the run's own time (flow time, steps, or that of the loss clock),
        between the saved times by interpolation. NaN where groups are not level at the end of the run,
        and where a group has no class.

    Raises ssm.InputError for another tolerance, or a quantity that the dataset does not have.

    Source: defined for this project.
    """
    tolerance = checks.real("tolerance", tolerance, 0, 1, open_ends="()")
    known = [name for name in RELATIVE if name in dataset]
    if quantity not in known:
        raise errors.invalid("quantity", quantity, "one that there is: " + ", ".join(known))
    majority, minority = (_group_mean(dataset, quantity, group) for group in profiles.GROUPS)
    allowed = tolerance
    if RELATIVE[quantity]:
        allowed = tolerance * xr.concat([abs(majority), abs(minority)], "group").max("group")
    found = settling_time(allowed - abs(minority - majority), 0.0)
    return found.rename("time_to_balance")


def _group_mean(dataset: xr.Dataset, quantity: str, group: str) -> xr.DataArray:
    """The mean over those classes of a group that have values, NaN where the value of one of them is NaN or there is none."""
    is_known = dataset[quantity].notnull().any("time")
    members = (dataset["class_group"] == group) & is_known
    total = dataset[quantity].where(members, 0.0).sum("class", skipna=False)
    return total / members.sum("class").where(lambda number: number > 0)


def _settled(times: Float[np.ndarray, " t"], above: Float[np.ndarray, " t"]) -> float:
    """The time from which on `above` is not negative, in the unit of `times`."""
    seen = np.isfinite(above) & np.isfinite(times)
    times, above = times[seen], above[seen]
    if not len(times) or above[-1] < 0:
        return np.nan
    outside = np.flatnonzero(above < 0)
    if not len(outside):
        return float(times[0])
    i = int(outside[-1])
    share = above[i] / (above[i] - above[i + 1])
    return float(times[i] + share * (times[i + 1] - times[i]))
