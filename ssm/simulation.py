"""One run, Config to Dataset: the front door."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import xarray as xr
from jaxtyping import Float, PyTree

from ssm import additions, continuation
from ssm.config import Config, check_config
from ssm.continuation import LEARNED_TIMES, last_entries
from ssm.dynamics import coordinates
from ssm.dynamics.observables import Observable
from ssm.dynamics.parameters import Params
from ssm.dynamics.statuses import Status
from ssm.dynamics.trajectories import Trajectory, found_in_one_batch, trajectories
from ssm.preparation import PreparedRun, common_size, prepare
from ssm.problem import Problem, own_data, samples, weights
from ssm.problem.inputs import Inputs
from ssm.problem.own_targets import own_targets
from ssm.problem.schedules import Transformation
from ssm.results import datasets, digests
from ssm.support import errors, machine, notebooks
from ssm.theory import growth

OF_A_CLASS = (
    "class_loss",
    "class_accuracy",
    "class_strength",
    "gradient_share",
    "class_learning_time",
    "weight",
    "class_weight",
)
"""Variables that are NaN for a class without samples."""


def follow(run: PreparedRun, progress: Callable[[float], None] | None = None) -> Trajectory:
    """The Trajectory of a run, which is followed to its end in its own precision."""
    with jax.enable_x64(run.config.dtype == "float64"):
        return run.flow.follow(progress)


def follow_alike(runs: Iterable[PreparedRun]) -> list[Trajectory]:
    """The Trajectories of runs that differ in their seed only, which are followed one after the other."""
    flows, found = [], []
    for run in runs:
        with jax.enable_x64(run.config.dtype == "float64"):
            found.append(run.flow.found())
        flows.append(run.flow)
    return trajectories(flows, found) if flows else []


def compile_program(run: PreparedRun) -> None:
    """Compile the program by which a run is followed, or read it from disk."""
    with jax.enable_x64(run.config.dtype == "float64"):
        run.flow.compile_program()


def found_in_batch(runs: Sequence[PreparedRun]) -> list[tuple[PyTree, np.ndarray]]:
    """What `make_trajectories` needs of runs that share a compilation, followed in one batch, for accelerators."""
    with jax.enable_x64(runs[0].config.dtype == "float64"):
        return found_in_one_batch([run.flow for run in runs])


def make_trajectories(
    runs: Sequence[PreparedRun], found: Sequence[tuple[PyTree, np.ndarray]]
) -> list[Trajectory]:
    """The Trajectories of followed runs that differ in their seed only, given what `Dynamics.found` gives of each."""
    return trajectories([run.flow for run in runs], found)


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
    for name, own in run.given.observables.items():
        if "sample" in own.dims:
            samples = np.arange(problem.counts.sum())
            observed[name] = observed[name].take(samples, axis=1 + own.dims.index("sample"))
    k, class_weights = len(problem.counts), problem.class_weights
    if "weight" in observed:  # weights that change, of which those at the end are kept
        finite = observed["weight"][np.isfinite(observed["weight"]).all(axis=1)]
        class_weights = finite[-1].astype(float) if len(finite) else np.full(k, np.nan)
    crossings = trajectory.crossings
    if run.reached is not None:  # what was learned before the run went on keeps its time
        before = np.concatenate([run.reached.learned[name] for name in LEARNED_TIMES])
        crossings = np.where(np.isnan(before), crossings, before)
    r = len(components.singular_values)
    component, by_class, block = np.split(crossings, [r, r + k])
    arrays = datasets.spectral_arrays(
        trajectory.times, observed, components, problem.counts, problem.class_groups
    ) | {
        "class_weight": class_weights,
        "learning_time": component,
        "class_learning_time": by_class,
        "block_learning_time": block,
        "predicted_learning_time": run.predicted_learning_time,
    }
    arrays |= _last(run, trajectory)
    if (groups := problem.groups) is not None:
        arrays |= {"group_class": groups.classes, "group_attribute": groups.attributes}
        arrays |= {"group_count": groups.counts.ravel(), "group_weight": groups.weights}
    if (absent := problem.counts == 0).any():
        for name in OF_A_CLASS:
            if name in arrays:
                arrays[name] = np.where(absent, np.nan, arrays[name])
    return arrays, {
        "status": _status(run, trajectory, component).value,
        "num_steps": trajectory.num_steps,
        "t1": float(trajectory.times[-1]),
        **_exposure(problem, class_weights),
        **run.facts,
    }


def _last(run: PreparedRun, trajectory: Trajectory) -> dict[str, np.ndarray]:
    """The end of a run that keeps its states, from which another can go on."""
    if trajectory.last is None:
        return {}
    params, memory, weighting = trajectory.last
    if run.flow.field.columns.inputs is None and run.config.column_kind == "samples":
        params = params._replace(H=params.H[:, : run.problem.counts.sum()])  # without padding
    arrays = {"last_parameters": last_entries(params)}
    for name, state in (("last_optimizer_memory", memory), ("last_schedule_state", weighting)):
        if leaves := jax.tree.leaves(state):
            arrays[name] = np.concatenate([np.ravel(leaf).astype(float) for leaf in leaves])
    return arrays


def _status(run: PreparedRun, trajectory: Trajectory, learned: Float[np.ndarray, " r"]) -> Status:
    """How a run ended. A run that reached its end is `not learned` if a component that learns by itself was predicted
    to be learned by then, or at any time where the length is chosen from theory, and was not."""
    length = np.inf if run.config.t1 is None else trajectory.times[-1]
    missing = (run.predicted_learning_time <= length) & np.isnan(learned)
    if trajectory.status == Status.FINISHED and missing.any():
        alone = growth.separable(run.problem, run.components, run.config.loss)
        if (missing & alone).any():
            return Status.NOT_LEARNED
    return trajectory.status


def _exposure(problem: Problem, class_weights: Float[np.ndarray, " k"]) -> dict[str, float]:
    """The measures of the weights at the end; NaN where a schedule has made one of them negative, or all 0."""
    if not samples.are_alike(problem):
        each = class_weights[problem.labels] * samples.sample_weights(problem)
        counts, class_weights = np.ones(len(each)), each
    else:
        counts = problem.counts
    measures = (weights.mean_sample_weight, weights.effective_sample_share)
    usable = (class_weights >= 0).all() and class_weights.any()
    return {
        measure.__name__: measure(counts, class_weights) if usable else np.nan
        for measure in measures
    }


def simulate(
    config: Config,
    progress: Callable[[float], None] | bool | None = None,
    *,
    schedule: Transformation | None = None,
    loss: object = None,
    optimizer: object = None,
    observables: Mapping[str, Observable] | None = None,
    start: Params | None = None,
    continue_from: xr.Dataset | None = None,
    inputs: Any = None,
    labels: Any = None,
    held_out_data: Any = None,
    targets: Any = None,
    sample_weights: Any = None,
) -> xr.Dataset:
    """Run the small-scale model once.

    Gradient flow dW/dt = -G H^T, dH/dt = -W^T G K on L = (1/n) sum_i w_{y_i} l(z_i, y_i), Z = W H,
    or with more layers, decay and by another clock (`ssm.dynamics.vector_field`), from the start and to the time or
    margin that `config` names; or the steps of an optimiser (`ssm.dynamics.descent`), whose time is their
    number. A run that fails (out of steps, step too small, not finite) returns a Dataset too, with
    that status and NaN for what it did not reach; `not learned` is one that should have learned more.

    Args:
        config: every number of the run.
        progress: called now and then with the share of the run done, in [0, 1]; or True for a bar, False for none.
            Left out: a bar in notebooks, once the run has taken two seconds.
        schedule: class weights of an optimiser's steps, instead of those of `config`, from each
            step's number and the classes' accuracies then.
        loss: a pytree of numbers with `value(logits, labels)`, as `ssm.problem.own_loss.own_loss` takes it.
        optimizer: a transformation of optax, or a pytree of numbers with `transformation()`, which makes one;
            its updates are multiplied by the Config's learning rate.
        observables: by name, pytrees of numbers with `dims`, `units` and `words` that are called with (params,
            columns, time) at every saved time.
        start: `ssm.Params(W, H)`, as `ssm.dynamics.own_start.own_start` takes it.
        continue_from: a run with save_state, from whose end this one goes on, time too. A length counts from
            there; if left out it is that of the run. What was learned before keeps its time.
        inputs, labels: samples of one's own that features are made of, H = A X: a row each, shape (n, p),
            in any order, with an integer 0 ... k - 1. The Config that is kept has the counts of the labels.
        held_out_data: a pair of such inputs and labels, which are not trained on.
        targets, sample_weights: distributions over the classes, shape (n, k), that samples are taught in place of
            labels, and factors of their losses (`ssm.problem.own_targets.own_targets`).

    Returns:
        A Dataset. Over `time` (flow time, or steps): `loss`, `residual`, `drift`; by class `class_loss`,
        `gradient_share`, `class_accuracy` (under the squared loss of 100 samples of a class of more than 100 +
        feature_dim + 1), `class_strength`; by component, a contrast between classes, `strength`; by block
        `block_strength`; by mode `singular_value`; `W` and `H` (of inputs `A`) when asked for. `learning_time`,
        `class_learning_time`, `block_learning_time` (when half of the target is reached, NaN where it is not) and
        `predicted_learning_time`. `ssm.results.schema` lists what else a Config adds, and the attributes of each
        variable say what it is. Coordinates hold counts, weights, groups, blocks and targets, attributes the
        Config as JSON, the `status`, what the weights at the end do, and the origin. A group of one class has no
        contrasts within it: its block is NaN, and `class_strength` says what is learned of that class.

    Raises:
        ssm.InputError: `config` is no Config, or cannot go with something that is given beside it.

    Example:
        >>> import ssm
        >>> run = ssm.simulate(ssm.Config(num_classes=4, loss="squared", num_saves=10))
        >>> run.attrs["status"], dict(run.sizes)["time"]
        ('finished', 10)
        >>> supports = [[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0], [0.0, 0.5, 0.5]]
        >>> ssm.simulate(ssm.Config(), targets=supports).component_target.values.round(2).tolist()
        [1.12, 0.65]
    """
    check_config("config", config)
    progress = notebooks.checked(progress, "a function of the share of the run done")
    config, taught, labels = own_targets(config, targets, labels, sample_weights)
    config, data = own_data.own_inputs(config, inputs, labels, held_out_data, targets is not None)
    own: dict[str, Any] = {"targets": taught, "loss": loss, "optimizer": optimizer}
    own |= {"observables": observables, "schedule": schedule}
    run, origin = _prepared(config, data, continue_from, start, own)
    with notebooks.shown("simulating", progress) as report:
        followed = follow(run, report)
    arrays, facts = run_arrays(run, followed)
    attributes = {"device": jax.devices()[0].device_kind, **_named(data), **origin}
    return datasets.dataset(run.config, arrays, facts | attributes, run.given.variables())


def _prepared(
    config: Config, data: Inputs | None, before: object, start: object, own: dict[str, Any]
) -> tuple[PreparedRun, dict[str, str]]:
    """A run with what is given beside its Config, and the attributes that identify what is given."""
    reached = None
    if before is not None:
        if start is not None:
            raise errors.invalid("start", "given", "left out with continue_from")
        config, reached, start = continuation.going_on(config, before, data)
    config, given = additions.additions(config, data, start=start, **own)
    given = given.of(config, data)
    origin = given.attributes()
    if reached is not None:
        origin["continue_from"] = f"time {reached.time:g} of a run, {reached.origin}"
    machine.use_compilation_cache()
    return prepare(config, common_size(config, data), data, given, reached), origin


def _named(data: Inputs | None) -> dict[str, str]:
    """The attributes that identify data of one's own: the shape and the digest of the inputs of training, sorted by
    class, and of those held out, for which the digest includes the labels."""
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
