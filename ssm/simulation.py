"""One run, Config to Dataset: the front door."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
import xarray as xr
from jaxtyping import Float

from ssm.config import Config, check_config
from ssm.dynamics import coordinates, descent, observer, parameters
from ssm.dynamics.columns import MANY, Columns, make_columns
from ssm.dynamics.coordinates import Reduced
from ssm.dynamics.descent import Descent
from ssm.dynamics.flow import Flow
from ssm.dynamics.optimizers import Settings
from ssm.dynamics.parameters import Params
from ssm.dynamics.solvers import SOLVERS
from ssm.dynamics.statuses import Status
from ssm.dynamics.trajectories import Trajectory, follow_in_one_batch, trajectories
from ssm.dynamics.vector_field import Deferral, Field
from ssm.measures import spectral
from ssm.problem import Problem, make_problem, weights
from ssm.problem.schedules import Transformation
from ssm.results import datasets
from ssm.support import errors, machine
from ssm.theory import predictions
from ssm.theory.defaults import Resolved, resolve


def can_be_padded(config: Config) -> bool:
    """Whether a run may get feature columns of no weight: where columns stand for classes their number
    does not vary with the counts, and `muon` scales its steps by the shapes of the layers."""
    return config.column_kind == "samples" and config.optimizer != "muon"


def common_size(config: Config) -> int | None:
    """The number of columns that a single run is padded up to, so that about equally large ones share a
    compilation: the next of four sizes evenly spaced from each power of 2 to the next, at most a quarter
    more. None where runs are not padded, or are to whole blocks already."""
    number = config.num_columns
    if not can_be_padded(config) or number >= MANY:
        return None
    step = max(2 ** (number.bit_length() - 3), 1)
    return -(-number // step) * step


class PreparedRun(NamedTuple):
    """A Config made ready to be followed."""

    config: Config
    problem: Problem
    components: spectral.LabelSpectrum
    reduced: Reduced | None
    flow: Flow | Descent
    """What is followed: a Descent where an optimiser takes steps."""
    facts: dict[str, Any]
    """What is known of it before."""
    predicted_learning_time: Float[np.ndarray, " r"]


class _Setting(NamedTuple):
    """What runs that differ only in their seed share."""

    problem: Problem
    components: spectral.LabelSpectrum
    columns: Columns
    resolved: Resolved
    saved_at: Float[np.ndarray, " t"]
    """Times, or of an optimiser numbers of steps."""
    rates: tuple[Float[np.ndarray, " s"], Float[np.ndarray, " t"]] | None
    """Of an optimiser: those of each step, padded, and their sums at the observed steps."""
    facts: dict[str, Any]


@functools.lru_cache(maxsize=4)
def _setting(config: Config, size: int | None) -> _Setting:
    problem = make_problem(config)
    components = spectral.components(problem)
    facts: dict[str, Any] = {"can_interpolate": int(config.feature_dim >= len(problem.counts) - 1)}
    resolved = resolve(config, problem)
    rates = None
    if resolved.learning_rate is not None and resolved.num_steps is not None:
        times = save_times(config, float(resolved.num_steps))
        every = np.arange(len(times))
        saved_at = np.maximum.accumulate(np.round(times) - every).astype(int)
        saved_at = saved_at + every  # no step is saved twice
        num_steps = int(saved_at[-1])
        each, sums = descent.padded_rates(step_rates(config, resolved.learning_rate, num_steps))
        rates = each, sums[saved_at]
        facts["learning_rate"] = float(each[0])
    else:
        assert resolved.t1 is not None  # a flow has a length, the steps of an optimiser a number
        saved_at = save_times(config, resolved.t1)
    return _Setting(
        problem,
        components,
        make_columns(config, problem, size),
        resolved,
        saved_at,
        rates,
        facts,
    )


def prepare(config: Config, size: int | None = None) -> PreparedRun:
    """All of a run but its solving. Columns that are samples are padded up to `size`, so that runs
    of different sizes can share a compilation."""
    return prepare_alike([config], size)[0]


def prepare_alike(configs: Sequence[Config], size: int | None = None) -> list[PreparedRun]:
    """The same for runs that differ in their seed only."""
    config = configs[0]
    setting = _setting(dataclasses.replace(config, seed=0), size)
    problem, columns, components = setting.problem, setting.columns, setting.components
    field = make_field(config, columns)
    drawn = [parameters.initial_params(each, problem, columns) for each in configs]
    starts = predictions.Start(
        np.stack([params.W for params, _ in drawn]),
        np.stack([columns.class_means(params.H) for params, _ in drawn]),
    )
    predicted = predictions.predicted_learning_times(config, problem, components, starts)
    predicted = np.broadcast_to(predicted, (len(configs), len(components.singular_values)))
    return [
        PreparedRun(
            each,
            problem,
            components,
            reduced,
            _law_of_motion(each, setting, field, params, reduced),
            setting.facts,
            times,
        )
        for each, (params, reduced), times in zip(configs, drawn, predicted, strict=True)
    ]


def _law_of_motion(
    config: Config, setting: _Setting, field: Field, params: Params, reduced: Reduced | None
) -> Flow | Descent:
    """What is followed from a start: a flow, or the steps of an optimiser."""
    resolved = setting.resolved
    observe = observer.make_observer(config, field, params, reduced, setting.components)
    if setting.rates is not None:
        learning_rates, cumulative_rate = setting.rates
        numbers = (
            resolved.momentum,
            resolved.sam_radius,
            config.weight_decay,
            config.feature_decay,
        )
        return Descent(
            params=params,
            field=field,
            observe=observe,
            steps=setting.saved_at,
            cumulative_rate=cumulative_rate,
            learning_rates=learning_rates,
            settings=Settings(*(np.asarray(number, dtype=float) for number in numbers)),
            seed=np.asarray(config.seed),
            optimizer=config.optimizer,
            batch_size=config.batch_size,
        )
    return Flow(
        params=params,
        field=field,
        observe=observe,
        times=setting.saved_at,
        # These are arrays, since a Python float would compile anew for each value.
        rtol=np.asarray(config.rtol),
        atol=np.asarray(resolved.absolute_tolerance),
        max_steps=np.asarray(config.max_steps),
        stop_margin=None if resolved.end_margin is None else np.asarray(resolved.end_margin),
        solver=SOLVERS[resolved.solver],
    )


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


def step_rates(config: Config, rate: float, num_steps: int) -> Float[np.ndarray, " n"]:
    """The learning rate of each step of a Config, from its first one: constant, rate (1 + cos(pi i / n)) / 2
    at step i of n, or times a factor from one step on."""
    steps = np.arange(num_steps)
    if config.learning_rate_schedule == "cosine":
        return rate * (1 + np.cos(np.pi * steps / num_steps)) / 2
    if config.drop_step is not None:
        return np.where(steps < config.drop_step, rate, rate * config.drop_factor)
    return np.full(num_steps, rate)


def make_field(config: Config, columns: Columns) -> Field:
    """The field that a Config asks for, on given columns."""
    return Field(
        columns,
        np.asarray(config.weight_decay) if config.has_decay else None,
        np.asarray(config.feature_decay) if config.has_decay else None,
        _deferral(config, columns),
        loss_clock=config.clock == "loss",
        classifier_is_held=config.depth == 1,
    )


def _deferral(config: Config, columns: Columns) -> Deferral | None:
    if config.weight_start is None:
        return None
    return Deferral(
        np.asarray(config.weight_start),
        np.asarray(config.weight_ramp),
        columns.multiplicity / columns.counts.sum(),
    )


def save_times(config: Config, t1: float) -> Float[np.ndarray, " t"]:
    """The observed times, 0 to t1: evenly spaced, or 0 and then four decades up to t1."""
    if config.save_spacing == "linear":
        return np.linspace(0.0, t1, config.num_saves)
    return np.concatenate([[0.0], np.geomspace(t1 * 1e-4, t1, config.num_saves - 1)])


def run_arrays(
    run: PreparedRun, trajectory: Trajectory
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A followed run as the arrays of its Dataset, by name, and its facts, one of each of
    `schema.FACTS`."""
    config, problem, components = run.config, run.problem, run.components
    observed = trajectory.observations | trajectory.clocks
    if config.save_state and config.column_kind == "samples":
        observed["H"] = observed["H"][:, :, : problem.counts.sum()]  # without padding
    if config.save_state and config.column_kind == "classes":
        observed["class_H"] = observed.pop("H")
    elif config.save_state and run.reduced is not None:
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
    that is chosen from theory or in that of the run."""
    length = np.inf if run.config.t1 is None else trajectory.times[-1]
    expected = run.predicted_learning_time <= length
    if trajectory.status == Status.FINISHED and (expected & np.isnan(learned)).any():
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
) -> xr.Dataset:
    """Run the small-scale model once.

    Gradient flow dW/dt = -G H^T, dH/dt = -W^T G K on L = (1/n) sum_i w_{y_i} l(z_i, y_i), Z = W H,
    or with more layers, decay and by another clock (`ssm.dynamics.vector_field`), from the start and to the time or
    margin that `config` names; or the steps of an optimiser (`ssm.dynamics.descent`), whose time is their
    number. A run that fails (out of steps, step too small, not finite) returns a Dataset too, with
    that status and NaN for what it did not reach. Of a length chosen from theory, or one that
    should do, it is `not learned` where a component with a prediction was not learned.

    Args:
        config: every number of the run.
        progress: called now and then with the share of the run done, in [0, 1].
        schedule: class weights of an optimiser's steps, instead of those of `config`, from each
            step's number and the classes' accuracies then.

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
        `nc3` and `nc4`; with decay `objective`. Coordinates hold each class's count, weight and
        group, and each component's and block's target. The attributes hold the Config as JSON, the
        `status`, what the weights at the end do, and the origin. Each variable's own attributes say
        what it is. Components are contrasts between classes, k - 1 of them; per class see
        `class_strength`. A group of one class has no contrasts within it: its block is NaN, and
        `class_strength` and `class_learning_time` say what is learned of that class.

    Raises:
        ssm.InputError: something else than a Config, or a schedule that it cannot have.

    Example:
        >>> import ssm
        >>> run = ssm.simulate(ssm.Config(num_classes=4, loss="squared", num_saves=10))
        >>> run.attrs["status"], dict(run.sizes)["time"]
        ('finished', 10)
        >>> bool(run["loss"][-1] < run["loss"][0])
        True
    """
    check_config("config", config)
    if progress is not None and not callable(progress):
        raise errors.invalid("progress", progress, "a function of the share of the run done")
    if schedule is not None:
        _check_schedule(config, schedule)
    machine.use_compilation_cache()
    run = prepare(config, common_size(config))
    attributes = {"device": jax.devices()[0].device_kind}
    if schedule is not None:
        run = _scheduled(run, schedule)
        attributes["schedule"] = eqx.tree_pformat(schedule, short_arrays=False)
    arrays, facts = run_arrays(run, follow(run, progress))
    return datasets.dataset(config, arrays, facts | attributes)


def _check_schedule(config: Config, schedule: Transformation) -> None:
    """Refuse what is no schedule, and one that the run of a Config cannot follow."""
    if not isinstance(schedule, Transformation):
        raise errors.invalid("schedule", schedule, "a transformation of ssm.schedules")
    if not config.is_descent:
        allowed = "left out for a flow, which has weight_start and weight_ramp"
        raise errors.invalid("schedule", schedule, allowed)
    if (make_problem(config).class_weights != 1).any() or config.weight_start is not None:
        raise errors.invalid("schedule", schedule, "left out where the config has weights")
    if schedule.needs_performance and config.column_kind == "coordinates":
        allowed = "one that needs no accuracies, under the squared loss without mini-batches"
        raise errors.invalid("schedule", schedule, allowed)
    schedule.init(np.array(config.class_counts))  # refuses weights of another number of classes


def _scheduled(run: PreparedRun, schedule: Transformation) -> PreparedRun:
    """A run whose class weights follow a schedule."""
    assert isinstance(run.flow, Descent)
    observe = dataclasses.replace(run.flow.observe, keep_weights=True)
    flow = dataclasses.replace(run.flow, schedule=schedule, observe=observe)
    return run._replace(flow=flow)
