"""Runs as labelled Datasets with their whole origin in the attributes."""

from __future__ import annotations

import datetime
import functools
import importlib.metadata
import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ssm.config import Config
from ssm.measures import geometry, spectral

FORMAT, SWEEP_FORMAT, STUDY_FORMAT = "ssm-1", "ssm-sweep-1", "ssm-study-1"
DISTRIBUTION = (
    "small-scale-model"  # what installs the package ssm; "ssm" on the index is another project
)
VERSIONED = ("jax", "diffrax", "equinox", "numpy", "xarray", "zarr")

# name: (dimensions, description, units)
_VARIABLES = {
    "loss": (("time",), "weighted training loss", "loss"),
    "class_loss": (("time", "class"), "mean loss of a class's samples, unweighted", "loss"),
    "class_accuracy": (
        ("time", "class"),
        "share of a class's samples classified right (of 100 of a large class, under the squared loss)",
        "1",
    ),
    "strength": (
        ("time", "component"),
        "u_j^T Z v_j in the fixed basis of the label matrix; components are contrasts between "
        "classes, k - 1 of them, and per class there is class_strength",
        "logit",
    ),
    "block_strength": (
        ("time", "block"),
        "mean strength over a block's components, NaN where it has none: one class has no contrasts "
        "within its group",
        "logit",
    ),
    "class_strength": (
        ("time", "class"),
        "class-mean logits on the simplex-encoded target, 1 at interpolation",
        "1",
    ),
    "singular_value": (("time", "mode"), "singular values of the logits, sorted", "logit"),
    "gradient_share": (
        ("time", "class"),
        "share of the gradient in the logits that comes from a class's samples, by norm",
        "1",
    ),
    "weight": (("time", "class"), "weight of the class in the loss at that time", "1"),
    "cumulative_rate": (
        ("time",),
        "sum of the learning rates so far; the flow time of gradient descent",
        "1",
    ),
    "residual": (("time",), "share of the logits' energy outside the fixed basis", "1"),
    "drift": (("time",), "change of the conserved matrices over the size of their terms", "1"),
    "objective": (("time",), "weighted training loss with its penalties", "loss"),
    "log_loss": (("time",), "log of the weighted training loss", "1"),
    "margin": (
        ("time",),
        "least margin of a sample, its own logit over the next, as its loss sees them",
        "logit",
    ),
    "log_time": (("time",), "log of flow time (steps x learning rate)", "1"),
    "seli_distance": (
        ("time", "part"),
        "distance to SELI of the Gram matrices of W and H and the logits Z, both normalised",
        "1",
    ),
    "etf_distance": (("time", "part"), "the same to the simplex ETF", "1"),
    "nc1": (("time",), "within-class over between-class variability of the features", "1"),
    "nc2_norms": (("time", "factor"), "spread of the norms of w_c, centred class means", "1"),
    "nc2_angles": (("time", "factor"), "spread of the cosines between them", "1"),
    "nc2_distance": (("time", "factor"), "mean distance of the cosines to -1/(k-1)", "1"),
    "nc3": (("time",), "squared distance between W^T and the class means, both normalised", "1"),
    "nc4": (("time",), "share of samples whose nearest class mean is not their prediction", "1"),
    "W": (("time", "class", "feature"), "classifier", "1"),
    "H": (("time", "feature", "sample"), "features, one column a sample", "1"),
    "class_H": (
        ("time", "feature", "class"),
        "features, one column a class: all of its samples are alike",
        "1",
    ),
    "hidden": (
        ("time", "layer", "feature", "input_feature"),
        "hidden layers, from the classifier on",
        "1",
    ),
    "learning_time": (("component",), "when the component reaches half its target", "time"),
    "class_learning_time": (("class",), "when the class reaches half its target", "time"),
    "block_learning_time": (("block",), "when the block's mean reaches half its target", "time"),
    "predicted_learning_time": (
        ("component",),
        "learning time expected of the run's start",
        "time",
    ),
}
_COORDINATES = {
    "time": (("time",), "flow time (steps x learning rate)", "1"),
    "class_count": (("class",), "samples of the class", "1"),
    "class_group": (("class",), "majority or minority", ""),
    "class_weight": (("class",), "weight of the class in the loss, at the end of the run", "1"),
    "component_block": (("component",), "kind of contrast", ""),
    "component_target": (
        ("component",),
        "singular value of the label matrix, where the squared loss ends and cross-entropy goes on",
        "logit",
    ),
    "block_target": (("block",), "mean target of the block's components", "logit"),
}
# In a sweep times belong to runs, and what is one number a run is a variable.
FACTS = {
    "status": ((), "how the run ended", ""),
    "num_steps": ((), "steps taken, of a solver those it took back too", "1"),
    "t1": ((), "length of the run, by its clock", "time"),
    "mean_sample_weight": (
        (),
        "mean weight of a sample at the end of the run, a factor of the learning rate",
        "1",
    ),
    "effective_sample_share": (
        (),
        "effective number of samples over their number under the last weights, (sum pi w)^2 / sum pi w^2",
        "1",
    ),
    "learning_rate": ((), "of the first step", "1"),
    "can_interpolate": ((), "1 where feature_dim lets the labels be interpolated, else 0", "1"),
}
_TABLE = _VARIABLES | _COORDINATES | FACTS | {"flow_time": _COORDINATES["time"]}
DIMENSIONS = {name: dims for name, (dims, _, _) in _TABLE.items()}
COORDINATES = {*_COORDINATES, "flow_time"}
_CLOCKS = {
    "loss": "tau, loss-normalised time (d tau = L dt)",
    "steps": "training step",
    "mixed": "flow time, or training step of an optimiser",
}
_WORDS = ("status", "class_group", "component_block")
_COUNTS = ("class_count", "num_steps", "can_interpolate")
_GEOMETRY = {name for name in _VARIABLES if name.startswith(("seli_", "etf_", "nc"))}
_STATE = {"W", "H", "class_H", "hidden"}
# what only some runs have, by their Config
OPTIONAL = {"objective", "log_loss", "margin", "log_time", "weight"} | _GEOMETRY | _STATE
OPTIONAL |= {"cumulative_rate", "learning_rate"}
_OBSERVED = {*_VARIABLES} - {"predicted_learning_time"}
# the type of each variable of a sweep; what was observed is of the run's own precision
SWEEP_TYPES = {
    name: "<U14"
    if name in _WORDS
    else "int64"
    if name in _COUNTS
    else "observed"
    if name in _OBSERVED
    else "float64"
    for name in _TABLE
    if name != "time"
}


def optional_variables(config: Config) -> set[str]:
    """Which of the variables that only some runs have a run of this Config has."""
    names: set[str] = set()
    if config.has_decay:
        names.add("objective")
    if config.observes_margin:
        names |= {"log_loss", "margin"}
    if config.clock == "loss":
        names.add("log_time")
    if config.is_descent:
        names |= {"cumulative_rate", "learning_rate"}
    if config.weight_start is not None:
        names.add("weight")
    if config.geometry:
        names |= _GEOMETRY
    if config.save_state:
        names |= {"W", "class_H" if config.column_kind == "classes" else "H"}
        names |= {"hidden"} if config.depth > 2 else set()
    return names


def spectral_arrays(
    times: np.ndarray,
    observations: dict[str, np.ndarray],
    components: spectral.LabelSpectrum,
    counts: np.ndarray,
    class_groups: np.ndarray,
) -> dict[str, np.ndarray]:
    """The part of a result that any logits have, from a run or from a network: arrays by name.

    Args:
        times: shape (t,).
        observations: by variable name, time first; `strength` and `class_strength` at least.

    Returns:
        the observations; `block_strength`; coordinates.
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


def assemble(arrays: dict[str, np.ndarray]) -> xr.Dataset:
    """Arrays by name as a Dataset, each with its dimensions, description and units."""

    def described(names: Any) -> dict[str, Any]:
        return {
            name: (DIMENSIONS[name], arrays[name], describe(name))
            for name in names
            if name in arrays
        }

    found = xr.Dataset(described(_VARIABLES), coords=described(_COORDINATES))
    return found.assign_coords(indices({str(name): size for name, size in found.sizes.items()}))


def reached(dataset: xr.Dataset) -> xr.Dataset:
    """A run up to the last time it reached, the end of one that its margin ended included."""
    there = np.isfinite(dataset["block_strength"].transpose("time", "block").values).any(axis=1)
    return dataset.isel(time=slice(int(there.sum())))


def indices(sizes: dict[str, int]) -> dict[str, Any]:
    """Index coordinates of the dimensions that have one: numbers, and the names of the blocks."""
    named = {"block": spectral.BLOCKS, "part": geometry.PARTS, "factor": geometry.FACTORS}
    return {name: np.arange(sizes[name]) for name in ("class", "component")} | {
        name: list(names) for name, names in named.items() if name in sizes
    }


def describe(name: str) -> dict[str, str]:
    """Description and units of a variable or coordinate."""
    _, description, units = _TABLE[name]
    return {"description": description} | ({"units": units} if units else {})


def filling(dtype: Any) -> Any:
    """What stands where a run of a sweep has no entry: NaN, 0 or nothing."""
    return {"f": np.nan, "i": 0, "U": ""}[np.dtype(dtype).kind]


def sweep_dataset(
    arrays: Mapping[str, Any],
    sweep: Mapping[str, Any],
    axes: Mapping[str, np.ndarray],
    origins: Sequence[Mapping[str, Any]],
) -> xr.Dataset:
    """A sweep as a Dataset.

    Coordinates keep only the axes they vary along; times that all runs share are `time`.

    Args:
        arrays: by name, the axes first.
        sweep: base and axes as JSON types, for the attributes.
        axes: coordinate of each axis.
        origins: where each chunk of runs comes from.
    """
    variables = {
        name: values
        if isinstance(values, xr.Variable)
        else xr.Variable((*axes, *DIMENSIONS[name]), values, describe(name))
        for name, values in arrays.items()
    }
    for name in (*_COORDINATES, "flow_time"):
        if name in variables:
            variables[name] = _where_it_varies(variables[name], list(axes))
    if variables["flow_time"].dims == ("time",):
        variables["time"] = variables.pop("flow_time")
    sizes = {str(dim): size for v in variables.values() for dim, size in v.sizes.items()}
    dataset = xr.Dataset(variables).set_coords(
        [name for name in (*_COORDINATES, "flow_time") if name in variables]
    )
    base = sweep["base"]
    optimizers = sweep["axes"].get("optimizer", [base.get("optimizer", "flow")])
    steps = {name != "flow" for name in optimizers}
    clock = base.get("clock", "time")
    if True in steps:
        clock = "mixed" if False in steps else "steps"
    return _clocked(
        _one_name(dataset).assign_coords({**axes, **indices(sizes)}), clock
    ).assign_attrs(format=SWEEP_FORMAT, sweep=json.dumps(sweep), **_common_origin(origins))


def _common_origin(origins: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Provenance of a sweep from that of its chunks: everything that is said of any of them."""
    made = sorted(origin["created"] for origin in origins)
    several = {
        name: "; ".join(sorted({origin[name] for origin in origins}))
        for name in ("versions", "git_commit", "device")
    }
    return several | {
        "created": " to ".join(dict.fromkeys([made[0], made[-1]])) if made else "",
        "num_chunks": len(origins),
        "num_compilations": sum(origin["compilations"] for origin in origins),
        "seconds": sum(origin["seconds"] for origin in origins),
    }


def _where_it_varies(variable: xr.Variable, axes: Sequence[str]) -> xr.Variable:
    """A variable without the axes along which it is constant."""
    variable = variable.load()
    for dim in axes:
        first = variable.isel({dim: slice(0, 1)})
        same = variable.values == first.values
        if variable.dtype.kind == "f":
            same |= np.isnan(variable.values) & np.isnan(first.values)
        if same.all():
            variable = variable.isel({dim: 0})
    return variable


def dataset(config: Config, arrays: dict[str, np.ndarray], facts: dict[str, Any]) -> xr.Dataset:
    """A run as a Dataset: its arrays and, in the attributes, the config as JSON, the `facts` of the
    run, its dtype and its origin."""
    clock = "steps" if config.is_descent else config.clock
    return _clocked(_one_name(assemble(arrays)), clock).assign_attrs(
        config=config.to_json(),
        **facts,
        reduction=config.reduction,
        dtype=config.dtype,
        **provenance(),
    )


def _clocked(dataset: xr.Dataset, clock: str) -> xr.Dataset:
    """Times described by the clock they are of."""
    for name in ("time", "flow_time"):
        if clock in _CLOCKS and name in dataset.coords:
            dataset[name].attrs["description"] = _CLOCKS[clock]
    return dataset


def _one_name(dataset: xr.Dataset) -> xr.Dataset:
    """Features are H whatever their columns are, unless a sweep has both kinds."""
    only_classes = "class_H" in dataset and "H" not in dataset
    return dataset.rename(class_H="H") if only_classes else dataset


def provenance() -> dict[str, str]:
    """Where and when a result was made: format, versions, git commit of the source (`unknown`
    outside one), creation time."""
    return {
        "format": FORMAT,
        "versions": " ".join(
            f"{name}=={importlib.metadata.version(distribution)}"
            for name, distribution in [("ssm", DISTRIBUTION), *((name, name) for name in VERSIONED)]
        ),
        "git_commit": _git_commit(),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


@functools.cache
def _git_commit() -> str:
    package = Path(__file__).resolve().parents[1]

    def git(*args: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(package), *args], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) != package.parent:
            return "unknown"  # installed inside somebody else's repository
        changed = git("status", "--porcelain", "--", str(package))
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
