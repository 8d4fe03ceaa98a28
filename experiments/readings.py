"""What several experiments read off the runs of a sweep: learning times and shares of groups, what
theory predicts of them, and how far the two are apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from ssm import Config, defaults, exact, metrics, predictions, spectral, theory
from ssm.config import profiles
from ssm.dynamics.column_layouts import make_columns
from ssm.dynamics.parameters import Params
from ssm.dynamics.starts import make_start
from ssm.problem import Problem, make_problem
from ssm.support.progress import Report

GROUPS = list(profiles.GROUPS)


def part(report: Report, low: float, high: float) -> Report:
    """What is told of one part of the work, which is the whole's from share `low` to share `high`."""
    return lambda share: report(low + (high - low) * share)


def counted(report: Report) -> Callable[[int, int], None]:
    """What a sweep tells its runs done and runs in all, for one who is told a share."""
    return lambda done, total: report(done / total)


def each(cases: Iterable[Any], report: Report) -> Iterator[Any]:
    """The cases one after the other, telling after each of them how many are done."""
    listed = list(cases)
    for i, case in enumerate(listed):
        yield case
        report((i + 1) / len(listed))


def shares(runs: xr.Dataset) -> xr.DataArray:
    """Share of its target that each block has learned, (..., time, block)."""
    return (runs["block_strength"] / runs["block_target"]).transpose(..., "time", "block")


def learned(runs: xr.Dataset) -> xr.DataArray:
    """When each of `GROUPS` is half learned: block_learning_time, (..., block)."""
    return runs["block_learning_time"].sel(block=GROUPS).transpose(..., "block")


def expected(runs: xr.Dataset) -> xr.DataArray:
    """When each of `GROUPS` should be half learned by the predictions for the runs' starts, (...,
    block)."""
    times, blocks = runs["predicted_learning_time"], runs["component_block"]
    parts = [times.where(blocks == group).mean("component") for group in GROUPS]
    return xr.concat(parts, xr.Variable("block", GROUPS)).transpose(..., "block")


def ratio(times: xr.DataArray) -> xr.DataArray:
    """Minority over majority of times of `GROUPS`."""
    majority, minority = (times.sel(block=group, drop=True) for group in GROUPS)
    return minority / majority


def predicted_times(config: Config) -> np.ndarray:
    """When `GROUPS` should be half learned from a start of that size, mean over the contrasts of
    each."""
    return _of_groups(config, make_problem(config), None)


def times_of_start(config: Config) -> np.ndarray:
    """The same from the config's own start, by its seed."""
    problem, params, means = start_of(config)
    return _of_groups(config, problem, predictions.Start(params.W, means))


def _of_groups(config: Config, problem: Problem, start: predictions.Start | None) -> np.ndarray:
    components = spectral.components(problem)
    times = predictions.predicted_learning_times(config, problem, components, start)
    return np.array([times[components.blocks == group].mean() for group in GROUPS])


class Start(NamedTuple):
    """Where a run begins."""

    problem: Problem
    params: Params
    means: np.ndarray
    """Of the features of each class, one class a column."""


def start_of(config: Config) -> Start:
    """The start of a config's own run, by its seed."""
    problem = make_problem(config)
    columns = make_columns(config, problem)
    params, *_ = make_start(config, problem, columns)
    return Start(problem, params, columns.class_means(params.H))


def block_curves(config: Config, times: np.ndarray) -> np.ndarray:
    """What theory makes of a config's start, shares of targets, (time, block): under the squared loss as if each
    block were alone, under cross-entropy the five numbers of STEP."""
    problem, params, means = start_of(config)
    if config.loss != "squared":
        start = exact.growing_start(params.W, means, problem)
        return exact.cross_entropy_step(times, problem, start).blocks
    components = spectral.components(problem)
    curves = theory.block_curves(params.W, means, problem, components, times)
    cross = spectral.BLOCKS.index("cross")
    start = _growing_cross(params.W, means, problem, components)
    strength = exact.cross_mode(times, problem, start, growing=True)
    curves[:, cross] = strength / components.singular_values[components.blocks == "cross"]
    return curves


def _growing_cross(
    W: np.ndarray, means: np.ndarray, problem: Problem, components: spectral.LabelSpectrum
) -> float:
    """Product strength of the part of a start that grows in the cross component."""
    (u,) = components.left.T[components.blocks == "cross"]
    along = theory.class_growth_rates(problem) * u
    root = np.sqrt(problem.counts / problem.kernel_eigenvalues)
    growing = (u @ W + (along / np.linalg.norm(along) * root) @ means.T) / 2
    return float(growing @ growing)


def automatic_t1(config: Config) -> float:
    """How long a run takes that is left to choose its own length."""
    return defaults.automatic_t1(config, make_problem(config))


def group_accuracy(runs: xr.Dataset, group: str) -> np.ndarray:
    """Mean accuracy over the classes of a group, (..., time)."""
    accuracy = runs["class_accuracy"].transpose(..., "time", "class").values
    return metrics.group_mean(accuracy, runs["class_group"].values, group)


def spread(values: Any, decimals: str = ".3g") -> str:
    """The least and the largest of one number a seed, in words."""
    own = np.asarray(values, dtype=float)
    return f"{own.min():{decimals}} to {own.max():{decimals}} over {own.size} seeds"


def farthest(found: Any, wanted: Any) -> float:
    """The largest distance of numbers from those that were wanted, relative to these; NaN where one
    was not reached."""
    return float(np.asarray(np.abs(np.divide(found, wanted) - 1)).max())
