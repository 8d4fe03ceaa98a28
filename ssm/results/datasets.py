"""Runs and sweeps as labelled Datasets, whose attributes hold their whole origin."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import DTypeLike

from ssm.config import Config
from ssm.measures import geometry, spectral
from ssm.results import classes, schema
from ssm.results.provenance import provenance


def spectral_arrays(
    times: np.ndarray,
    observations: dict[str, np.ndarray],
    components: spectral.LabelSpectrum,
    counts: np.ndarray,
    class_groups: np.ndarray,
) -> dict[str, np.ndarray]:
    """The part of a result that exists for all logits, whether they come from a run or from a network.

    Args:
        times: when the logits were observed, shape (t,).
        observations: arrays by variable name, time first; `strength` and `class_strength` are
            among them.
        components: the spectral components of the label matrix.
        counts: number of samples of each class, shape (k,).
        class_groups: group of each class, `majority` or `minority`, shape (k,).

    Returns:
        Arrays by name: the observations, `block_strength`, and the coordinates.
    """
    target = components.singular_values
    return {
        **observations,
        "block_strength": spectral.block_means(observations["strength"], components.blocks),
        "time": times,
        "class_count": counts,
        "class_group": class_groups,
        "component_block": components.blocks,
        "component_target": target,
        "block_target": spectral.block_means(target, components.blocks),
    }


def assemble(
    arrays: dict[str, np.ndarray], own: Mapping[str, schema.Variable] | None = None
) -> xr.Dataset:
    """A Dataset of arrays by name, each with its dimensions, description and units: those of the table of variables,
    or of `own` variables."""

    def described(variables: Mapping[str, schema.Variable]) -> dict[str, xr.Variable]:
        return {
            name: _variable(variable.dims, arrays[name], variable.attributes)
            for name, variable in variables.items()
            if name in arrays
        }

    data = schema.DATA | dict(own or {}) | schema.LAST
    dataset = xr.Dataset(described(data), coords=described(schema.COORDINATES))
    return dataset.assign_coords(indices({str(dim): size for dim, size in dataset.sizes.items()}))


def _variable(
    dims: str | Sequence[Hashable], values: np.ndarray, attributes: Mapping[str, str] | None = None
) -> xr.Variable:
    """A variable of a NumPy array, which xarray is told not to check. Its check would ask whether the array is one of
    Dask's, and would import Dask for that where it is installed, which takes a sixth of a second."""
    return xr.Variable(dims, values, attributes, fastpath=True)


def reached(dataset: xr.Dataset) -> xr.Dataset:
    """The part of a run up to the last time that it reached.

    Times that a run did not reach hold NaN. Where a run ended at a margin, the time of its end is one that it
    reached.
    """
    has_numbers = np.isfinite(dataset["strength"].transpose("time", "component").values)
    times = np.flatnonzero(has_numbers.any(axis=1))  # A log may have gaps.
    return dataset.isel(time=slice(int(times[-1]) + 1 if times.size else 0))


def best_held_out(dataset: xr.Dataset) -> int:
    """The index of the time at which the accuracy of a run on held-out data is largest, and of the first such time where
    several are equal. The accuracy is the mean over all classes that have held-out data."""
    balanced = classes.mean(dataset, "held_out_accuracy")
    return int(np.where(np.isnan(balanced), -np.inf, balanced).argmax())


def time_spacing(dataset: xr.Dataset) -> str:
    """How the saved times of a run or sweep are spaced: `linear`, or `log` for evenly in the
    logarithm after 0.

    Times have the attribute `spacing`. Where the runs of a sweep differ in their spacing they lack it, and the answer
    is `linear`. Stores of earlier versions say it only in the JSON of their settings.
    """
    for name in ("time", "flow_time"):
        if name in dataset.coords and "spacing" in dataset[name].attrs:
            return dataset[name].attrs["spacing"]
    settings = dataset.attrs.get("config") or dataset.attrs.get("sweep") or ""
    return "log" if '"save_spacing": "log"' in settings else "linear"


def indices(sizes: dict[str, int]) -> dict[str, xr.Variable]:
    """The coordinates that number classes and components, and name blocks, parts and factors.

    Args:
        sizes: length of each dimension of a Dataset.
    """
    named = {"block": spectral.BLOCKS, "part": geometry.PARTS, "factor": geometry.FACTORS}
    numbered = ("class", "component", "group")
    numbers = {dim: np.arange(sizes[dim]) for dim in numbered if dim in sizes}
    words = {dim: np.array(names) for dim, names in named.items() if dim in sizes}
    return {dim: _variable(dim, values) for dim, values in (numbers | words).items()}


def filling(dtype: DTypeLike) -> float | str:
    """The value in the entries of an array that a run of a sweep does not fill: NaN, 0 or an empty word."""
    return {"f": np.nan, "i": 0, "U": ""}[np.dtype(dtype).kind]


def sweep_dataset(
    arrays: Mapping[str, np.ndarray | xr.Variable],
    sweep: Mapping[str, Any],
    coordinates: Mapping[str, np.ndarray],
    origins: Sequence[Mapping[str, Any]],
    done: np.ndarray | None = None,
) -> xr.Dataset:
    """A sweep as a Dataset.

    Coordinates keep only the axes along which they vary. The times are the coordinate `time` where all runs share
    them, and else `flow_time`.

    Args:
        arrays: arrays or variables by name, the axes first.
        sweep: the base Config and the axes as JSON types, for the attributes.
        coordinates: values of each coordinate of the axes (`schema.axis_coordinates`).
        origins: the origin of each chunk of runs.
        done: which runs of the grid are done; all of them when left out. Whether a coordinate varies, and its values,
            are read from these runs.
    """
    dimensions = schema.axis_coordinates(sweep["axes"])
    axes = list(dict.fromkeys(dimensions.values()))
    known = schema.VARIABLES | schema.own_variables(sweep.get("given", {}))
    variables = {
        name: values
        if isinstance(values, xr.Variable)
        else _variable((*axes, *known[name].dims), values, known[name].attributes)
        for name, values in arrays.items()
    }
    for name in filter(schema.is_coordinate, variables):
        variables[name] = _where_it_varies(variables[name], axes, done)
    if variables["flow_time"].dims == ("time",):
        variables["time"] = variables.pop("flow_time")
    sizes = {str(dim): size for v in variables.values() for dim, size in v.sizes.items()}
    dataset = xr.Dataset(variables).set_coords(list(filter(schema.is_coordinate, variables)))
    along = {name: (dimensions[name], values) for name, values in coordinates.items()}
    dataset = _with_one_name(dataset).assign_coords(along | indices(sizes))
    return _with_described_times(dataset, *_clock_and_spacing(sweep)).assign_attrs(
        format=schema.SWEEP_FORMAT, sweep=json.dumps(sweep), **_common_origin(origins)
    )


def _clock_and_spacing(sweep: Mapping[str, Any]) -> tuple[str, str | None]:
    """The unit that the times of a sweep's runs count, and the spacing of these times, which is None where runs differ
    in it."""
    optimizers = _values_of(sweep, "optimizer", "flow")
    spacings = {*_values_of(sweep, "save_spacing", "linear")}
    clock = sweep["base"].get("clock", "time")
    are_steps = {name != "flow" for name in optimizers}
    if True in are_steps:
        clock = "mixed" if False in are_steps else "steps"
    return clock, spacings.pop() if len(spacings) == 1 else None


def _values_of(sweep: Mapping[str, Any], field: str, default: str) -> list[Any]:
    """The values of a field in a sweep; only `default` where a sweep of an earlier version lacks the field."""
    for axis, values in sweep["axes"].items():
        fields = schema.fields_of(axis)
        if field in fields:
            i = fields.index(field)
            return values if len(fields) == 1 else [value[i] for value in values]
    return [sweep["base"].get(field, default)]


def _common_origin(origins: Sequence[Mapping[str, Any]]) -> dict[str, str | float]:
    """The provenance of a sweep: all versions, commits and devices by which a chunk of it was computed, the
    first and last time at which a chunk was made, and the cost of all chunks in seconds."""
    times = sorted(origin["created"] for origin in origins)
    sources = {
        name: "; ".join(sorted({origin[name] for origin in origins}))
        for name in ("versions", "git_commit", "device")
    }
    return sources | {
        "created": " to ".join(dict.fromkeys([times[0], times[-1]])) if times else "",
        "num_chunks": len(origins),
        "num_compilations": sum(origin["compilations"] for origin in origins),
        "seconds": sum(origin["seconds"] for origin in origins),
    }


def _where_it_varies(
    variable: xr.Variable, axes: Sequence[str], done: np.ndarray | None = None
) -> xr.Variable:
    """A variable without the axes along which it is constant, in the runs that are done."""
    variable = variable.load()
    shape = tuple(variable.sizes[dim] for dim in axes)
    known = xr.Variable(axes, np.ones(shape, bool) if done is None else done)
    for dim in axes:
        first = variable.isel({dim: known.argmax(dim)})  # at the first run that is done
        same = variable == first
        if variable.dtype.kind == "f":
            same |= variable.isnull() & first.isnull()
        if (same | ~known).all():
            variable, known = first, known.any(dim)
    return variable


def dataset(
    config: Config,
    arrays: dict[str, np.ndarray],
    facts: Mapping[str, object],
    own: Mapping[str, schema.Variable] | None = None,
) -> xr.Dataset:
    """A run as a Dataset of its arrays. The attributes hold the Config as JSON, the `facts` of the
    run, its dtype and its origin; `own` describes variables that are not in the table."""
    clock = "steps" if config.is_descent else config.clock
    dataset = _with_one_name(assemble(arrays, own))
    return _with_described_times(dataset, clock, config.save_spacing).assign_attrs(
        config=config.to_json(),
        **facts,
        reduction=config.reduction,
        dtype=config.dtype,
        **provenance(),
    )


def alone(dataset: xr.Dataset, group: str) -> xr.DataArray:
    """Which class is the only one of its group. In a log only classes with samples in the probe count.

    One class has no contrasts within its group, so that the group has no block; the strength of the class then says
    what is learned of the group.

    Args:
        dataset: a run or a sweep.
        group: `majority` or `minority`.

    Returns:
        Booleans over `class`, and over those axes of a sweep along which groups vary.
    """
    groups = dataset["class_group"]
    is_in_group, counts = groups.values == group, dataset["class_count"]
    if counts.dims == groups.dims:  # In a sweep every class with a group has samples.
        is_in_group &= counts.values > 0
    is_alone = is_in_group & (is_in_group.sum(groups.get_axis_num("class"), keepdims=True) == 1)
    return xr.DataArray(_variable(groups.dims, is_alone), groups.coords, name=groups.name)


def _with_described_times(dataset: xr.Dataset, clock: str, spacing: str | None) -> xr.Dataset:
    """The Dataset with the unit and the spacing of its times in their attributes."""
    for name in ("time", "flow_time"):
        if name not in dataset.coords:
            continue
        if clock in schema.CLOCK_WORDS:
            dataset[name].attrs["description"] = schema.CLOCK_WORDS[clock]
        if spacing is not None:
            dataset[name].attrs["spacing"] = spacing
    return dataset


def _with_one_name(dataset: xr.Dataset) -> xr.Dataset:
    """The Dataset with its features under the name H, whether their columns are samples or classes. Where runs
    of a sweep differ in that, both names stay."""
    only_classes = "class_H" in dataset and "H" not in dataset
    return dataset.rename(class_H="H") if only_classes else dataset
