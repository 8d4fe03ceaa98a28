"""Logs of networks as labelled Datasets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from ssm.config import profiles
from ssm.dynamics.statuses import Status
from ssm.measures import spectral
from ssm.measures.probes import Probe
from ssm.results import datasets
from ssm.results.provenance import provenance

CONTRASTS, MARGINS = "contrasts", "margins"
"""The two things that class weights may balance between majority and minority, as `balance` names them."""


def dataset(
    probe: Probe,
    times: np.ndarray,
    observations: Mapping[str, np.ndarray],
    origin: Mapping[str, str] | None = None,
    names: list[str] | None = None,
) -> xr.Dataset:
    """The observations of a network over time, with learning times, as a Dataset whose variables have the names of those
    of a run.

    Args:
        probe: the classes of the samples that were watched.
        times: ascending, shape (t,).
        observations: arrays by variable name, time first.
        origin: attributes that say where and when the log was made; here and now when left out.
        names: the names of the classes; left out where they have none but their numbers.
    """
    components, counts = probe.components, probe.counts
    arrays = datasets.spectral_arrays(times, dict(observations), components, counts, probe.groups)
    shares = {
        "learning_time": observations["strength"] / components.singular_values,
        "class_learning_time": observations["class_strength"],
        "block_learning_time": arrays["block_strength"] / arrays["block_target"],
    }
    arrays |= {name: spectral.learning_times(times, share) for name, share in shares.items()}
    if not np.array_equal(probe.training_counts, counts):
        arrays["training_count"] = probe.training_counts
    if names is not None:
        arrays["class_name"] = np.array(names)
    tracked = datasets.assemble(arrays)
    tracked["time"].attrs = {"description": "time of the logits"}
    attributes = {
        "status": Status.TRACKED.value,
        "dtype": "float64",
        "num_samples": int(counts.sum()),
    }
    return tracked.assign_attrs(attributes | dict(provenance() if origin is None else origin))


def of_rows(header: Mapping[str, Any], rows: np.ndarray) -> xr.Dataset:
    """The Dataset of a log from its header and its rows, one a time (`journals.Journal`).

    Its attribute `log` holds the header as JSON, with which a tracker can continue the log.
    """
    counts = np.array(header["counts"]), np.array(header["training_counts"])
    observations, first = {}, 0
    for name, shape in header["layout"].items():
        size = int(np.prod(shape, dtype=int))
        observations[name] = rows[:, first : first + size].reshape(len(rows), *shape)
        first += size
    times = observations.pop("time")
    found = dataset(Probe(*counts), times, observations, header["origin"], header["names"])
    found["time"].attrs = {"description": "step"}
    return found.assign_attrs(log=json.dumps(header))


def is_log(dataset: xr.Dataset) -> bool:
    """Whether a Dataset is of a network that was followed, and not of a run of the model or a sweep."""
    return dataset.attrs.get("status") == Status.TRACKED.value


def clock(dataset: xr.Dataset) -> str:
    """The word for the times of a log: `step` where a `Tracker` wrote it, else `time`, which is in the unit that was given."""
    return "step" if "log" in dataset.attrs else "time"


def training_counts(dataset: xr.Dataset) -> Int[np.ndarray, " k"]:
    """The samples of each class that the network of a log is trained on."""
    name = "training_count" if "training_count" in dataset.coords else "class_count"
    return dataset[name].values


def probe(dataset: xr.Dataset) -> Probe:
    """The classes of the samples that were watched."""
    return Probe(dataset["class_count"].values, training_counts(dataset))


def balance(dataset: xr.Dataset) -> tuple[str, Float[np.ndarray, " time"]]:
    """The thing that class weights n_c^-g can balance in the network of a log, and the exponent g that balances it at
    the coupling of each time.

    It is the `CONTRASTS` within majorities and within minorities, at g*, or the `MARGINS` of two classes, at 2 g* - 1
    (`theory.margin_exponent`). A class that is alone in its group has no contrasts: with three classes or more there is
    then no such exponent. The word is empty then, and also where all classes have one size or no coupling is known.
    """
    counts = training_counts(dataset).tolist()
    if "balancing_exponent" in dataset:
        exponents = dataset["balancing_exponent"].values
        if np.isfinite(exponents).any():
            if not profiles.no_contrasts(counts):
                return CONTRASTS, exponents
            if len(counts) == 2:
                return MARGINS, 2 * exponents - 1
    return "", np.full(dataset.sizes["time"], np.nan)
