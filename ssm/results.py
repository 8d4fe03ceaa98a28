"""Runs as labelled Datasets with their whole origin in the attributes, saved to and loaded from
zarr."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import hashlib
import importlib.metadata
import json
import subprocess
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ssm import checks, spectral, weights
from ssm.config import Config
from ssm.files import check_store, replacing
from ssm.problem import Problem

if TYPE_CHECKING:
    from ssm.dynamics import Trajectory

FORMAT = "ssm-1"
VERSIONED = ("ssm", "jax", "diffrax", "equinox", "numpy", "xarray", "zarr")

# name: (dimensions beside time, description, units)
_VARIABLES = {
    "loss": ((), "weighted training loss", "loss"),
    "class_loss": (("class",), "mean loss of a class's samples, unweighted", "loss"),
    "class_accuracy": (("class",), "share of a class's samples classified right", "1"),
    "strength": (("component",), "u_j^T Z v_j in the fixed basis of the label matrix", "logit"),
    "block_strength": (("block",), "mean strength over a block's components", "logit"),
    "class_strength": (
        ("class",),
        "class-mean logits on the simplex-encoded target, 1 at interpolation",
        "1",
    ),
    "singular_value": (("mode",), "singular values of the logits, sorted", "logit"),
    "residual": ((), "share of the logits' energy outside the fixed basis", "1"),
    "drift": ((), "change of the conserved matrix over the size of its two terms", "1"),
    "W": (("class", "feature"), "classifier", "1"),
    "H": (("feature", "column"), "features, one column a sample (a class if shared)", "1"),
    "learning_time": (("component",), "when the component reaches half its target", "time"),
    "class_learning_time": (("class",), "when the class reaches half its target", "time"),
    "block_learning_time": (("block",), "when the block's mean reaches half its target", "time"),
    "predicted_learning_time": (("component",), "learning time expected of the config", "time"),
}
DIMENSIONS = {name: dims for name, (dims, _, _) in _VARIABLES.items()}


def spectral_dataset(
    times: np.ndarray,
    observations: dict[str, np.ndarray],
    components: spectral.LabelSpectrum,
    counts: np.ndarray,
    class_groups: np.ndarray,
    finer: tuple[np.ndarray, dict[str, np.ndarray]] | None = None,
) -> xr.Dataset:
    """The part of a Dataset that any logits have, from a run or from a network.

    Args:
        times: shape (t,).
        observations: by variable name, time first; `strength` and `class_strength` at least.
        finer: times and those two to interpolate learning times from, where they are known at more
            times.

    Returns:
        Coordinates time, class (class_count, class_group), component (component_block,
        component_target), block (block_target: mean target of its components), mode; the
        observations; `block_strength`; learning times, NaN where half of the target is not reached.
    """
    target = components.singular_values
    block_target = spectral.block_means(target, components.blocks)
    block_strength = spectral.block_means(observations["strength"], components.blocks)
    variables: dict[str, Any] = {
        name: (("time", *DIMENSIONS[name]), values)
        for name, values in {**observations, "block_strength": block_strength}.items()
    }
    known_times, known = (times, observations) if finer is None else finer
    for name, progress in learning_progress(known, components).items():
        variables[name] = (DIMENSIONS[name], spectral.learning_times(known_times, progress))
    dataset = xr.Dataset(
        variables,
        coords={
            "time": (
                "time",
                times,
                {"description": "flow time (steps x learning rate)", "units": "1"},
            ),
            "class": np.arange(len(counts)),
            "class_count": ("class", counts),
            "class_group": ("class", class_groups),
            "component": np.arange(len(target)),
            "component_block": ("component", components.blocks),
            "component_target": ("component", target),
            "block": list(spectral.BLOCKS),
            "block_target": ("block", block_target),
        },
    )
    return _describe(dataset)


def learning_progress(
    observations: dict[str, np.ndarray], components: spectral.LabelSpectrum
) -> dict[str, np.ndarray]:
    """What each learning time is read from: shares of the target over time, by the name of the
    learning time."""
    target, strength = components.singular_values, observations["strength"]
    block_target = spectral.block_means(target, components.blocks)
    return {
        "learning_time": strength / target,
        "class_learning_time": observations["class_strength"],
        "block_learning_time": spectral.block_means(strength, components.blocks) / block_target,
    }


def _describe(dataset: xr.Dataset) -> xr.Dataset:
    """Give every variable its description and units."""
    for name, (_, description, units) in _VARIABLES.items():
        if name in dataset:
            dataset[name].attrs.update(description=description, units=units)
    return dataset


def dataset(
    config: Config,
    problem: Problem,
    components: spectral.LabelSpectrum,
    trajectory: Trajectory,
    *,
    finer: tuple[np.ndarray, dict[str, np.ndarray]],
    predicted_learning_time: np.ndarray,
    device: str,
) -> xr.Dataset:
    """A run as a Dataset.

    That of `spectral_dataset`, with class_weight, `predicted_learning_time` (component) and, in the
    attributes, the config as JSON, the t1 used, status, number of steps, mean sample weight,
    whether feature_dim lets the labels be interpolated, dtype, device, versions, git commit and
    time of creation.
    """
    run = spectral_dataset(
        trajectory.times,
        trajectory.observations,
        components,
        problem.counts,
        problem.class_groups,
        finer,
    )
    if config.save_state and problem.shared:
        run["H"] = run["H"].rename(column="class")
    elif config.save_state:
        run = run.rename(column="sample")
    run = run.assign_coords(class_weight=("class", problem.class_weights))
    run["predicted_learning_time"] = (
        DIMENSIONS["predicted_learning_time"],
        predicted_learning_time,
    )
    k = len(problem.counts)
    return _describe(run).assign_attrs(
        config=config.to_json(),
        t1=float(trajectory.times[-1]),
        status=trajectory.status,
        num_steps=trajectory.num_steps,
        mean_sample_weight=weights.mean_sample_weight(problem.counts, problem.class_weights),
        can_interpolate=int(config.feature_dim >= k - 1),
        dtype=config.dtype,
        device=device,
        **provenance(),
    )


def provenance() -> dict[str, str]:
    """Where and when a result was made: format, versions, git commit of the source (`unknown`
    outside one), creation time."""
    return {
        "format": FORMAT,
        "versions": " ".join(f"{name}=={importlib.metadata.version(name)}" for name in VERSIONED),
        "git_commit": _git_commit(),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


@functools.cache
def _git_commit() -> str:
    package = Path(__file__).resolve().parent

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


def _digest(dataset: xr.Dataset) -> str:
    """A hash of every array and attribute, so that a damaged store is found."""
    attributes = {name: value for name, value in dataset.attrs.items() if name != "digest"}
    sha = hashlib.sha256(json.dumps(attributes, sort_keys=True).encode())
    for name in sorted(map(str, dataset.variables)):
        values = dataset[name].values
        described = json.dumps([name, values.shape, dataset[name].attrs], sort_keys=True)
        if values.dtype.kind == "f":
            values = np.where(np.isnan(values), np.nan, values)  # NaNs of one kind only
        elif values.dtype.kind in "UTO":
            values = np.array(" ".join(map(str, values.ravel())).encode())
        sha.update(described.encode() + np.ascontiguousarray(values).tobytes())
    return sha.hexdigest()


def save(dataset: xr.Dataset, path: str | Path, *, overwrite: bool = False) -> None:
    """Write a Dataset to a zarr store, whole or not at all.

    Raises ssm.InputError where `path` exists and `overwrite` is
    False, or its folder cannot be written to.
    """
    path = Path(path)
    check_store(path, overwrite)
    with replacing(path) as scratch:
        marked = dataset.assign_attrs(digest=_digest(dataset))
        marked.to_zarr(scratch, mode="w-", zarr_format=2, consolidated=True)


def load(path: str | Path) -> xr.Dataset:
    """Read a Dataset that `save` wrote, into memory.

    Raises ssm.InputError for a path that is not there, was not written by `save`, or is damaged.
    """
    path = Path(path)
    if not path.exists():
        raise checks.refuse("store", str(path), "a store that exists")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of stores that are not ours
            with xr.open_zarr(path, chunks=None, consolidated=True) as stored:
                dataset = stored.load()
    except Exception as error:  # zarr and its codecs raise many kinds
        raise checks.refuse(
            "store", str(path), f"a readable ssm store ({type(error).__name__})"
        ) from None
    if dataset.attrs.get("format") != FORMAT:
        raise checks.refuse("store", str(path), f"a store written by ssm in the format {FORMAT}")
    if dataset.attrs.get("digest") != _digest(dataset):
        raise checks.refuse("store", str(path), "an undamaged store; its contents have changed")
    del dataset.attrs["digest"]
    return dataset


def facts(dataset: xr.Dataset) -> dict[str, str]:
    """What a Dataset says of itself, a line each: settings that differ from the defaults, classes,
    status, origin."""
    attributes = dataset.attrs
    described = {}
    if "config" in attributes:
        config = Config.from_json(attributes["config"])
        # the class count is always filled in, so it is left to the line on the classes
        changed = {
            field.name: getattr(config, field.name)
            for field in dataclasses.fields(Config)
            if field.name != "num_classes" and getattr(config, field.name) != field.default
        }
        described["settings"] = ", ".join(f"{k}={v}" for k, v in changed.items()) or "defaults"
    counts = dataset["class_count"].values
    described["classes"] = (
        f"{len(counts)} with {counts.max()} to {counts.min()} samples, {counts.sum()} in all"
    )
    times = dataset["time"].values
    described["time"] = f"{times[0]:.6g} to {times[-1]:.6g}, {len(times)} times"
    if "num_steps" in attributes:
        described["status"] = f"{attributes['status']} after {attributes['num_steps']} solver steps"
        described["labels"] = (
            "can be interpolated"
            if attributes["can_interpolate"]
            else "cannot be interpolated: feature_dim is below num_classes - 1"
        )
        described["mean weight"] = f"{attributes['mean_sample_weight']:.6g} a sample"
        described["numbers"] = f"{attributes['dtype']} on {attributes['device']}"
    described["made"] = f"{attributes['created']}, commit {attributes['git_commit']}"
    return described


def block_table(dataset: xr.Dataset) -> list[list[str]]:
    """A row for each block that has components: name, components, target, share reached at the end,
    learned at, predicted."""
    rows = []
    for block in dataset["block"].values:
        mine = dataset["component_block"].values == block
        if not mine.any():
            continue
        here = dataset.sel(block=block)
        target = float(here["block_target"])
        share = float(here["block_strength"][-1]) / target
        learned = float(here["block_learning_time"])
        predicted = dataset.get("predicted_learning_time")
        mean = np.nan if predicted is None else predicted.values[mine].mean()
        rows.append(
            [str(block), str(mine.sum())]
            + ["-" if np.isnan(x) else f"{x:.4g}" for x in (target, share, learned, mean)]
        )
    return rows
