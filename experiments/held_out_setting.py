"""The problem of the experiments on held-out data, and what they read off its runs.

Four classes, two of them minorities of ten samples. The *signal* is half the distance of two class means over
the standard deviation of a sample's noise along it, sqrt(c q / 2), with q the dimension of the noise: with
means that are known it would be a single class's margin in standard deviations. The recall of a class is that of
fresh samples, by the law of their logits; of it the balanced accuracy is the mean.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float

from ssm import Config, sweep

BASE = Config(
    num_classes=4,
    imbalance_ratio=10,
    minority_count=10,
    feature_dim=8,
    init_scale=0.01,
    clock="loss",
    stop_margin=100.0,
    num_saves=300,
)
NEAR = 0.01  # of its best accuracy: where training with weights is as good as at its best


class Curves(NamedTuple):
    """One weighting over a run, for some seeds."""

    log_time: Float[np.ndarray, "seeds t"]
    """log of flow time."""
    margin: Float[np.ndarray, "seeds t"]
    """The least of any training sample."""
    recall: Float[np.ndarray, "seeds t k"]
    """Of fresh samples."""
    training: Float[np.ndarray, "seeds t k"]
    """Accuracy on the training samples."""

    @property
    def balanced(self) -> Float[np.ndarray, "seeds t"]:
        """Balanced held-out accuracy."""
        return self.recall.mean(axis=-1)

    @property
    def best(self) -> np.ndarray:
        """Where each seed's balanced accuracy is largest."""
        return np.nanargmax(self.balanced, axis=1)

    @property
    def nearly_best(self) -> np.ndarray:
        """Where it first is within `NEAR` of that."""
        enough = self.balanced >= np.nanmax(self.balanced, axis=1, keepdims=True) - NEAR
        return enough.argmax(axis=1)

    @property
    def end(self) -> Float[np.ndarray, " seeds"]:
        """Balanced accuracy at the end, whose margin is the same for all."""
        return np.array([own[np.isfinite(own)][-1] for own in self.balanced])

    def of(self, values: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Values at one place of each seed."""
        return values[np.arange(len(values)), places]

    def at_time(self, log_time: Float[np.ndarray, " seeds"]) -> Float[np.ndarray, " seeds"]:
        """Balanced accuracy of each seed at a time of its own."""
        return _interpolated(log_time, self.log_time, self.balanced)

    def at_margin(self, margin: float) -> Float[np.ndarray, " seeds"]:
        """Balanced accuracy of each seed where the least margin first reaches a value."""
        rising = np.maximum.accumulate(np.nan_to_num(self.margin, nan=-np.inf), axis=1)
        return _interpolated(np.full(len(rising), margin), rising, self.balanced)


def _interpolated(
    at: Float[np.ndarray, " seeds"],
    x: Float[np.ndarray, "seeds t"],
    y: Float[np.ndarray, "seeds t"],
) -> Float[np.ndarray, " seeds"]:
    found = []
    for place, own_x, own_y in zip(at, x, y, strict=True):
        known = np.isfinite(own_x) & np.isfinite(own_y)
        found.append(np.interp(place, own_x[known], own_y[known]))
    return np.array(found)


def setting(imbalance_ratio: float, noise_ratio: float, signal: float) -> Config:
    """The problem of an imbalance ratio, with `noise_ratio` dimensions of noise a training sample, and a
    signal."""
    base = dataclasses.replace(BASE, imbalance_ratio=imbalance_ratio)
    noise_dim = round(noise_ratio * sum(base.class_counts))
    coupling = 2 * signal**2 / noise_dim
    return dataclasses.replace(base, noise_dim=noise_dim, coupling=coupling, held_out=True)


def follow(base: Config, exponents: tuple[float, ...], seeds: int) -> dict[float, Curves]:
    """Runs under each exponent of the class weights, from the same inputs and starts for each seed."""
    runs = sweep({"weight_exponent": exponents, "seed": range(seeds)}, base)
    return {g: _curves(runs.sel(weight_exponent=g), base) for g in exponents}


def _curves(runs: xr.Dataset, base: Config) -> Curves:
    def values(name: str, *dims: str) -> np.ndarray:
        return runs[name].transpose("seed", "time", *dims).values

    if base.clock == "loss":
        log_time, margin = values("log_time"), values("margin")
    else:
        times = runs["flow_time"] if "flow_time" in runs.coords else runs["time"]
        with np.errstate(divide="ignore"):
            each = np.log(np.broadcast_to(times.values, runs["loss"].shape))
        log_time, margin = each, np.full_like(each, np.nan)
    return Curves(
        log_time, margin, values("held_out_accuracy", "class"), values("class_accuracy", "class")
    )
