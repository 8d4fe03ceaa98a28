"""One run, Config to Dataset: the front door."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np
import xarray as xr
from jaxtyping import Float

from ssm.config import Config, check_config
from ssm.dynamics import coordinates
from ssm.dynamics.descent import Descent
from ssm.dynamics.statuses import Status
from ssm.dynamics.trajectories import Trajectory, follow_in_one_batch, trajectories
from ssm.preparation import PreparedRun, common_size, prepare
from ssm.problem import Problem, make_problem, own_data, weights
from ssm.problem.inputs import Inputs
from ssm.problem.schedules import Transformation
from ssm.results import datasets, digests
from ssm.support import errors, machine
from ssm.theory import growth


def follow(run: PreparedRun, progress: Callable[[float], None] | None = None) -> Trajectory:
    """A run followed to its end, in its own precision."""
    with jax.enable_x64(run.config.dtype == "float64"):
        return run.flow.follow(progress)


def follow_alike(runs: Iterable[PreparedRun]) -> list[Trajectory]:
    """The same for runs that differ in their seed only, one after the other."""
    flows, found = [], []
    for run in runs:
        with jax.enable_x64(run.config.dtype == "float64"):
            found.append(run.flow.found())
        flows.append(run.flow)
    return trajectories(flows, found) if flows else []


def compile_program(run: PreparedRun) -> None:
    """Have the program by which a run is followed compiled, or read from disk."""
    with jax.enable_x64(run.config.dtype == "float64"):
        run.flow.compile_program()


def follow_batch(runs: Sequence[PreparedRun]) -> list[Trajectory]:
    """The same for runs that share a compilation, in one batch, for accelerators."""
    with jax.enable_x64(runs[0].config.dtype == "float64"):
        return follow_in_one_batch([run.flow for run in runs])


def run_arrays(
    run: PreparedRun, trajectory: Trajectory
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A followed run as the arrays of its Dataset, by name, and its facts, one of each of
    `schema.FACTS`."""
    config, problem, components = run.config, run.problem, run.components
    observed = trajectory.observations | trajectory.clocks
    kind = config.column_kind if "H" in observed else None
    if kind == "samples":
        observed["H"] = observed["H"][:, :, : problem.counts.sum()]  # without padding
    elif kind == "classes":
        observed["class_H"] = observed.pop("H")
    elif kind == "coordinates":
        assert (
            run.reduced is not None
        )  # what coordinates are drawn from, unless their start is spectral
        rng = np.random.default_rng([config.seed, 1])  # apart from the draw of the start
        bases = coordinates.full_basis(run.reduced, problem.counts, rng)
        observed["H"] = coordinates.restore_features(observed["H"], bases)
    k, class_weights = len(problem.counts), problem.class_weights
    if "weight" in observed:  # which change: those of the end
        finite = observed["weight"][np.isfinite(observed["weight"]).all(axis=1)]
        class_weights = finite[-1].astype(float) if len(finite) else np.full(k, np.nan)
    component, by_class, block = np.split(trajectory.crossings, [k - 1, 2 * k - 1])
    arrays = datasets.spectral_arrays(
        trajectory.times, observed, components, problem.counts, problem.class_groups
    ) | {
        "class_weight": class_weights,
        "learning_time": component,
        "class_learning_time": by_class,
        "block_learning_time": block,
        "predicted_learning_time": run.predicted_learning_time,
    }
    return arrays, {
        "status": _status(run, trajectory, component).value,
        "num_steps": trajectory.num_steps,
        "t1": float(trajectory.times[-1]),
        **_exposure(problem, class_weights),
        **run.facts,
    }


def _status(run: PreparedRun, trajectory: Trajectory, learned: Float[np.ndarray, " r"]) -> Status:
    """How a run ended: also whether it left unlearned what it was predicted to learn, in the length
    that is chosen from theory, by the components that learn by themselves, or in that of the run."""
    length = np.inf if run.config.t1 is None else trajectory.times[-1]
    missing = (run.predicted_learning_time <= length) & np.isnan(learned)
    if trajectory.status == Status.FINISHED and missing.any():
        alone = growth.separable(run.problem, run.components, run.config.loss)
        if (missing & alone).any():
            return Status.NOT_LEARNED
    return trajectory.status


def _exposure(problem: Problem, class_weights: Float[np.ndarray, " k"]) -> dict[str, float]:
    """What the last weights do; NaN where a schedule has made one of them negative, or all 0."""
    measures = (weights.mean_sample_weight, weights.effective_sample_share)
    usable = (class_weights >= 0).all() and class_weights.any()
    return {
        measure.__name__: measure(problem.counts, class_weights) if usable else np.nan
        for measure in measures
    }


def simulate(
    config: Config,
    progress: Callable[[float], None] | None = None,
    *,
    schedule: Transformation | None = None,
    inputs: Any = None,
    labels: Any = None,
    held_out_data: Any = None,
) -> xr.Dataset:
    """Run the small-scale model once.

    Gradient flow dW/dt = -G H^T, dH/dt = -W^T G K on L = (1/n) sum_i w_{y_i} l(z_i, y_i), Z = W H,
    or with more layers, decay and by another clock (`ssm.dynamics.vector_field`), from the start and to the time or
    margin that `config` names; or the steps of an optimiser (`ssm.dynamics.descent`), whose time is their
    number. A run that fails (out of steps, step too small, not finite) returns a Dataset too, with
    that status and NaN for what it did not reach; `not learned` is one that should have learned more.

    Args:
        config: every number of the run.
        progress: called now and then with the share of the run done, in [0, 1].
        schedule: class weights of an optimiser's steps, instead of those of `config`, from each
            step's number and the classes' accuracies then.
        inputs, labels: samples of one's own that features are made of, H = A X: a row each, shape (n, p),
            in any order and taken as they are scaled, with an integer 0 ... k - 1. The Config that is kept
            has the counts of the labels.
        held_out_data: a pair of the same, not trained on.

    Returns:
        A Dataset. Over `time` (flow time, or steps): `loss`, `residual`, `drift`; by class
        `class_loss`, `gradient_share`, `class_accuracy` (under the squared loss of 100 samples of a
        class of more than 100 + feature_dim + 1), `class_strength`, and `weight` where it changes; by
        component `strength`; by block `block_strength`; by mode `singular_value`; `W` and `H` when
        asked for. `learning_time`, `class_learning_time`, `block_learning_time` (when half of the
        target is reached, NaN where it is not) and `predicted_learning_time`. By the loss clock, with
        `stop_margin` or `geometry`, cross-entropy has `log_loss` and `margin` too, by the loss clock
        `log_time`, the logarithm of flow time; an optimiser has `cumulative_rate`; with `geometry`
        there are `seli_distance`, `etf_distance`, `nc1`, `nc2_norms`, `nc2_angles`, `nc2_distance`,
        `nc3` and `nc4`; with decay `objective`; with data held out, by class `held_out_accuracy`,
        `held_out_loss` and `held_out_strength`. Where features are made of inputs the state that is kept is
        `W` and `A`, and with a bias of the logits `bias`. Coordinates hold each class's count, weight and
        group, and each component's and block's target. The attributes hold the Config as JSON, the
        `status`, what the weights at the end do, and the origin. Each variable's own attributes say
        what it is. Components are contrasts between classes, k - 1 of them; per class see
        `class_strength`. A group of one class has no contrasts within it: its block is NaN, and
        `class_strength` and `class_learning_time` say what is learned of that class.

    Raises:
        ssm.InputError: something else than a Config, or a schedule or data that it cannot have.

    Example:
        >>> import ssm
        >>> run = ssm.simulate(ssm.Config(num_classes=4, loss="squared", num_saves=10))
        >>> run.attrs["status"], dict(run.sizes)["time"]
        ('finished', 10)
        >>> X, y = ssm.mixture_inputs(ssm.Config(num_classes=3, coupling=0.2, noise_dim=40))
        >>> halves = {"inputs": X[::2], "labels": y[::2], "held_out_data": (X[1::2], y[1::2])}
        >>> "held_out_accuracy" in ssm.simulate(ssm.Config(), **halves)
        True
    """
    check_config("config", config)
    if progress is not None and not callable(progress):
        raise errors.invalid("progress", progress, "a function of the share of the run done")
    config, data = own_data.own_inputs(config, inputs, labels, held_out_data)
    if schedule is not None:
        _check_schedule(config, schedule, data)
    machine.use_compilation_cache()
    run = prepare(config, common_size(config, data), data)
    attributes = {"device": jax.devices()[0].device_kind, **_named(data)}
    if schedule is not None:
        run = _scheduled(run, schedule)
        attributes["schedule"] = eqx.tree_pformat(schedule, short_arrays=False)
    arrays, facts = run_arrays(run, follow(run, progress))
    return datasets.dataset(config, arrays, facts | attributes)


def _named(data: Inputs | None) -> dict[str, str]:
    """Attributes by which data of one's own is told from other data: the shape and the digest of the inputs,
    those of training sorted by class, and of held-out samples also of their labels."""
    if data is None:
        return {}
    described = {"inputs": _shape_and_digest(data.training, {})}
    if data.held_out is not None:
        labels = {"labels": data.held_out.labels}
        described["held_out_data"] = _shape_and_digest(data.held_out.inputs, labels)
    return described


def _shape_and_digest(inputs: np.ndarray, others: dict[str, np.ndarray]) -> str:
    width, number = inputs.shape
    digest = digests.of_values({"inputs": inputs} | others)
    return f"{number} samples of {width} numbers, sha256 {digest}"


def _check_schedule(config: Config, schedule: Transformation, data: Inputs | None) -> None:
    """Refuse what is no schedule, and one that the run of a Config cannot follow."""
    if not isinstance(schedule, Transformation):
        raise errors.invalid("schedule", schedule, "a transformation of ssm.schedules")
    if not config.is_descent:
        allowed = "left out for a flow, which has weight_start and weight_ramp"
        raise errors.invalid("schedule", schedule, allowed)
    if (make_problem(config).class_weights != 1).any() or config.weight_start is not None:
        raise errors.invalid("schedule", schedule, "left out where the config has weights")
    in_coordinates = data is None and config.column_kind == "coordinates"
    if schedule.needs_performance and in_coordinates:
        allowed = "one that needs no accuracies, under the squared loss without mini-batches"
        raise errors.invalid("schedule", schedule, allowed)
    schedule.init(np.array(config.class_counts))  # refuses weights of another number of classes


def _scheduled(run: PreparedRun, schedule: Transformation) -> PreparedRun:
    """A run whose class weights follow a schedule."""
    assert isinstance(run.flow, Descent)
    observe = dataclasses.replace(run.flow.observe, keep_weights=True)
    flow = dataclasses.replace(run.flow, schedule=schedule, observe=observe)
    return run._replace(flow=flow)
