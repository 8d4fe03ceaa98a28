"""One run, Config to Dataset: the front door."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr
from jaxtyping import Float

from ssm import dynamics, model, observing, predictions, reduction, results, spectral, weights
from ssm.columns import Columns, make_columns
from ssm.config import Config
from ssm.dynamics import Flow, Trajectory
from ssm.fields import Field
from ssm.problem import Problem, make_problem
from ssm.reduction import Reduced


class Run(NamedTuple):
    """A Config made ready to be followed."""

    config: Config
    problem: Problem
    components: spectral.LabelSpectrum
    reduced: Reduced | None
    flow: Flow
    predicted_learning_time: Float[np.ndarray, " r"]


class _Setting(NamedTuple):
    """What runs that differ only in their seed share."""

    problem: Problem
    components: spectral.LabelSpectrum
    columns: Columns
    times: Float[np.ndarray, " t"]
    predicted_learning_time: Float[np.ndarray, " r"]


@functools.lru_cache(maxsize=4)
def _setting(config: Config, size: int | None) -> _Setting:
    problem = make_problem(config)
    components = spectral.components(problem)
    t1 = predictions.automatic_t1(config, problem) if config.t1 is None else config.t1
    return _Setting(
        problem,
        components,
        make_columns(config, problem, size),
        save_times(config, t1),
        predictions.predicted_learning_times(config, problem, components),
    )


def prepare(config: Config, size: int | None = None) -> Run:
    """All of a run but its solving. Columns that are samples are padded up to `size`, so that runs
    of different sizes can share a compilation."""
    setting = _setting(dataclasses.replace(config, seed=0), size)
    problem, columns = setting.problem, setting.columns
    params, reduced = model.initial_params(config, problem, columns)
    field = make_field(config, columns)
    return Run(
        config,
        problem,
        setting.components,
        reduced,
        Flow(
            params=params,
            field=field,
            observe=observing.make_observer(config, field, params, reduced, setting.components),
            times=setting.times,
            # arrays, since a Python float would compile anew for each value
            rtol=np.asarray(config.rtol),
            atol=np.asarray(config.absolute_tolerance),
            max_steps=np.asarray(config.max_steps),
            stop_margin=None if config.stop_margin is None else np.asarray(config.stop_margin),
        ),
        setting.predicted_learning_time,
    )


def make_field(config: Config, columns: Columns) -> Field:
    """The field that a Config asks for, on given columns."""
    return Field(
        columns,
        np.asarray(config.weight_decay) if config.decays else None,
        np.asarray(config.feature_decay) if config.decays else None,
        loss_clock=config.clock == "loss",
        classifier_is_held=config.depth == 1,
    )


def save_times(config: Config, t1: float) -> Float[np.ndarray, " t"]:
    """The observed times, 0 to t1: evenly spaced, or 0 and then four decades up to t1."""
    if config.save_spacing == "linear":
        return np.linspace(0.0, t1, config.num_saves)
    return np.concatenate([[0.0], np.geomspace(t1 * 1e-4, t1, config.num_saves - 1)])


def run_arrays(run: Run, trajectory: Trajectory) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A followed run as the arrays of its Dataset, by name, and its facts, one of each of
    `results.FACTS`."""
    config, problem, components = run.config, run.problem, run.components
    observed = dict(trajectory.observations)
    if config.clock == "loss":
        observed["log_time"] = trajectory.log_times
    if config.save_state and config.columns == "samples":
        observed["H"] = observed["H"][:, :, : problem.counts.sum()]  # without padding
    if config.save_state and config.columns == "classes":
        observed["class_H"] = observed.pop("H")
    elif config.save_state and run.reduced is not None:
        rng = np.random.default_rng([config.seed, 1])  # apart from the draw of the start
        bases = reduction.full_basis(run.reduced, problem.counts, rng)
        observed["H"] = reduction.restore_features(observed["H"], bases)
    k = len(problem.counts)
    component, by_class, block = np.split(trajectory.crossings, [k - 1, 2 * k - 1])
    arrays = results.spectral_arrays(
        trajectory.times, observed, components, problem.counts, problem.class_groups
    ) | {
        "class_weight": problem.class_weights,
        "learning_time": component,
        "class_learning_time": by_class,
        "block_learning_time": block,
        "predicted_learning_time": run.predicted_learning_time,
    }
    return arrays, {
        "status": trajectory.status,
        "num_steps": trajectory.num_steps,
        "t1": float(trajectory.times[-1]),
        "mean_sample_weight": weights.mean_sample_weight(problem.counts, problem.class_weights),
        "can_interpolate": int(config.feature_dim >= k - 1),
    }


def simulate(config: Config, progress: Callable[[float], None] | None = None) -> xr.Dataset:
    """Run the small-scale model once.

    Gradient flow dW/dt = -G H^T, dH/dt = -W^T G K on L = (1/n) sum_i w_{y_i} l(z_i, y_i), Z = W H,
    or with more layers, decay and by another clock (`ssm.fields`), from the start and to the time or
    margin that `config` names. A run that fails (out of steps, step too
    small, not finite) returns a Dataset too, with that status and NaN for what it did not reach.

    Args:
        config: every number of the run.
        progress: called now and then with the share of the run done, in [0, 1].

    Returns:
        A Dataset. Over `time` (flow time): `loss`, `residual`, `drift`; by class `class_loss`,
        `class_accuracy` (under the squared loss of 100 samples of a class of more than 100 +
        feature_dim + 1), `class_strength`; by component `strength`; by block `block_strength`; by
        mode `singular_value`; `W` and `H` when asked for. `learning_time`, `class_learning_time`,
        `block_learning_time` (when half of the target is reached, NaN where it is not) and
        `predicted_learning_time`. By the loss clock, with `stop_margin` or `geometry`, cross-entropy
        has `log_loss` and `margin` too, by the loss clock `log_time`, the logarithm of flow time;
        with `geometry` there are `seli_distance`, `etf_distance`, `nc1`, `nc2_norms`, `nc2_angles`,
        `nc2_distance`, `nc3` and `nc4`; with decay `objective`. Coordinates hold each class's count, weight and group, and each
        component's and block's target. The attributes hold the Config as JSON, the `status`, and
        the origin. Each variable's own attributes say what it is.
    """
    run = prepare(config)
    with jax.enable_x64(config.dtype == "float64"):
        trajectory = dynamics.gradient_flow(
            run.flow, solver=config.chosen_solver, progress=progress
        )
    arrays, facts = run_arrays(run, trajectory)
    return results.dataset(config, arrays, {**facts, "device": jax.devices()[0].device_kind})
