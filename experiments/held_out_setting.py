"""The problem of the experiments on held-out data, and what they read off its runs.

Four classes, two of them minorities of ten samples. The *signal* is half the distance of two class means over
the standard deviation of a sample's noise along it, sqrt(c q / 2), with q the dimension of the noise: with
means that are known it would be a single class's margin in standard deviations. The recall of a class is that of
fresh samples, by the law of their logits; of it the balanced accuracy is the mean.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
import xarray as xr
from jaxtyping import Float

from experiments.readings import Report
from ssm import Config, held_out, sweep
from ssm.problem import make_problem
from ssm.problem.inputs import mean_inputs, noise_rows
from ssm.support import machine

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
Case = TypeVar("Case")
Found = TypeVar("Found")
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

    @classmethod
    def of_runs(cls, runs: Sequence[xr.Dataset]) -> Curves:
        """Runs by the clock of the loss, one a seed."""
        names = ("log_time", "margin", "held_out_accuracy", "class_accuracy")
        return cls(*(np.stack([run[name].values for run in runs]) for name in names))

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


def setting(
    imbalance_ratio: float, noise_ratio: float, signal: float, minority_count: int = 10
) -> Config:
    """The problem of an imbalance ratio, with `noise_ratio` dimensions of noise a training sample, and a
    signal."""
    base = dataclasses.replace(BASE, imbalance_ratio=imbalance_ratio, minority_count=minority_count)
    noise_dim = round(noise_ratio * sum(base.class_counts))
    coupling = 2 * signal**2 / noise_dim
    return dataclasses.replace(base, noise_dim=noise_dim, coupling=coupling, held_out=True)


def follow(base: Config, exponents: Sequence[float], seeds: int | range) -> dict[float, Curves]:
    """Runs under each exponent of the class weights, from the same inputs and starts for each seed."""
    seeds = range(seeds) if isinstance(seeds, int) else seeds
    runs = sweep({"weight_exponent": exponents, "seed": seeds}, base)
    return {g: _curves(runs.sel(weight_exponent=g), base.clock) for g in exponents}


def side_by_side(
    work: Callable[[Case], Found], cases: Sequence[Case], report: Report
) -> list[Found]:
    """What is found of each case, as many at once as there are cores: shapes differ from case to case, and
    most of a case's time is the compilation of its own program, for which one core is enough."""
    found = []
    with ThreadPoolExecutor(machine.num_cores()) as pool:
        for one in pool.map(work, cases):
            found.append(one)
            report(len(found) / len(cases))
    return found


def mean_over_log_time(
    own: Curves, values: Float[np.ndarray, "seeds t"], last: float
) -> tuple[np.ndarray, np.ndarray]:
    """Decades of flow time up to the last, evenly spaced in their own logarithm, and the mean over seeds there."""
    decades = np.geomspace(1, last, 400)
    each = []
    for log_time, y in zip(own.log_time, values, strict=True):
        known = np.isfinite(log_time) & np.isfinite(y)
        each.append(np.interp(decades, log_time[known] / np.log(10), y[known]))
    return decades, np.mean(each, axis=0)


def recall(V: Float[np.ndarray, "k p"], config: Config) -> Float[np.ndarray, " k"]:
    """Recall of a classifier of inputs on fresh samples of the mixture of a Config."""
    problem, rows = make_problem(config), noise_rows(config)
    noise = V[:, rows] * np.sqrt((1 - config.coupling) / (rows.stop - rows.start))
    return held_out.accuracy(V @ mean_inputs(config, problem), noise @ noise.T)


def _curves(runs: xr.Dataset, clock: str) -> Curves:
    def values(name: str, *dims: str) -> np.ndarray:
        return runs[name].transpose("seed", "time", *dims).values

    if clock == "loss":
        log_time, margin = values("log_time"), values("margin")
    else:
        times = runs["flow_time"] if "flow_time" in runs.coords else runs["time"]
        with np.errstate(divide="ignore"):
            each = np.log(np.broadcast_to(times.values, runs["loss"].shape))
        log_time, margin = each, np.full_like(each, np.nan)
    return Curves(
        log_time, margin, values("held_out_accuracy", "class"), values("class_accuracy", "class")
    )
