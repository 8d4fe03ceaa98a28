"""How a run goes on from the end of another that was kept, with other weights, another loss, another optimiser, or none
of these."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float

from ssm.config import Config
from ssm.dynamics.parameters import Params
from ssm.problem.inputs import Inputs
from ssm.results import digests
from ssm.support import errors

SAME = (
    "feature_dim",
    "depth",
    "bias",
    "coupling",
    "between_coupling",
    "noise_dim",
    "init",
    "init_scale",
    "seed",
    "dtype",
)
"""The fields, beside the counts of the classes, in which a run has to agree with the one that it goes on from."""
LEARNED_TIMES = ("learning_time", "class_learning_time", "block_learning_time")


class Reached(NamedTuple):
    """The state in which a run has ended."""

    params: Params
    """The parameters as host arrays, without padding."""
    time: float
    """The time at the end by the run's clock: flow time t, tau, or the number of steps."""
    log_time: float
    """The logarithm of flow time, where the loss drove the clock; else -inf."""
    cumulative_rate: float
    """The sum of the learning rates of all steps so far; 0 where either run is a flow."""
    memory: Float[np.ndarray, " entries"] | None
    """What its optimiser remembers, in one row; None where the optimiser begins anew."""
    weighting: Float[np.ndarray, " entries"] | None
    """The state of its schedule, in one row; None where the schedule begins anew."""
    learned: dict[str, Float[np.ndarray, " s"]]
    """The learning times so far, by variable."""
    origin: str
    """The digest by which the run is known."""

    def clock(self, config: Config) -> float:
        """The time with which decay proceeds: the sum of the learning rates, or the time of a flow."""
        return self.cumulative_rate if config.is_descent else self.time


def going_on(
    config: Config, run: object, data: Inputs | None
) -> tuple[Config, Reached, Params | None]:
    """What a run has reached, from which another one goes on.

    Where the other run follows features in the same columns, they are handed on bit by bit. Where it cannot, they
    become an `own` start of it. A length or a learning rate that its Config leaves out is that of the first run.

    Args:
        config: the Config of the run that goes on.
        run: the Dataset of `ssm.simulate` with save_state.
        data: the inputs of one's own of the run that goes on, if it has any.

    Returns:
        The Config, what was reached, and the `own` start, or None.

    Raises:
        ssm.InputError: the run is something else, or did not get to its end, or the Config has other
            classes, layers, couplings or another seed.
    """
    run, before = _checked(run)
    _check_same(config, before, run, data)
    config = _with_lengths(config, before, run)
    params = _last_parameters(before, run)
    kind = "samples" if data is not None else config.column_kind
    of_run = "samples" if data is not None else before.column_kind
    own = params if config.init == "own" else None
    if kind != of_run:
        own = params = params._replace(H=_of_samples(before, run))
        config = dataclasses.replace(config, init="own", init_scale=Config.init_scale)
        if config.column_kind != "samples":
            allowed = f"a run that follows its features by {config.column_kind}"
            raise errors.invalid("continue_from", f"one that follows them by {of_run}", allowed)
    same_optimizer = kind == of_run and before.optimizer == config.optimizer
    is_descent = config.is_descent and before.is_descent
    reached = Reached(
        params,
        time=float(run["time"].values[-1]) if config.is_descent == before.is_descent else 0.0,
        log_time=float(run["log_time"].values[-1]) if "log_time" in run else -np.inf,
        cumulative_rate=float(run["cumulative_rate"].values[-1]) if is_descent else 0.0,
        memory=_entries(run, "last_optimizer_memory") if same_optimizer else None,
        weighting=_entries(run, "last_schedule_state") if same_optimizer else None,
        learned={name: run[name].values for name in LEARNED_TIMES},
        origin=f"sha256 {digests.of_dataset(run)}",
    )
    return config, reached, own


def _checked(run: object) -> tuple[xr.Dataset, Config]:
    """A run from which another can go on, and its Config."""
    allowed = "the Dataset of a run of ssm.simulate with save_state=True"
    if not isinstance(run, xr.Dataset) or "config" not in run.attrs:
        raise errors.invalid("continue_from", type(run).__name__, allowed)
    if "last_parameters" not in run:
        raise errors.invalid("continue_from", "a run that keeps no states", allowed)
    if not np.isfinite(run["loss"].values[-1]):
        status = run.attrs["status"]
        allowed = "a run that got to its end; take W and H of a time that it reached as a start"
        raise errors.invalid("continue_from", f"a run with status {status}", allowed)
    return run, Config.from_json(run.attrs["config"])


def _check_same(config: Config, before: Config, run: xr.Dataset, data: Inputs | None) -> None:
    if config.class_counts != before.class_counts:
        allowed = f"those of the run it goes on from, {before.class_counts}"
        raise errors.invalid("counts", config.class_counts, allowed)
    for name in SAME:
        if (value := getattr(config, name)) != getattr(before, name):
            allowed = f"that of the run it goes on from, {getattr(before, name)!r}"
            raise errors.invalid(name, value, allowed)
    if ("inputs" in run.attrs) != (data is not None):
        given = "left out" if data is None else "given"
        raise errors.invalid("inputs", given, "the same as of the run it goes on from")
    if config.held_out and not config.has_inputs:
        allowed = "False where a run goes on, unless noise_dim gives the features inputs"
        raise errors.invalid("held_out", config.held_out, allowed)


def _with_lengths(config: Config, before: Config, run: xr.Dataset) -> Config:
    """The Config with the length of the run, and with the learning rate where it is one of steps, if it leaves them out."""
    if config.is_descent != before.is_descent:
        return config
    if not config.is_descent:
        same_clock = config.t1 is None and config.clock == before.clock
        begun = float(run["time"].values[0])
        return dataclasses.replace(config, t1=run.attrs["t1"] - begun) if same_clock else config
    of_run = {"num_steps": int(run.attrs["num_steps"]), "learning_rate": run.attrs["learning_rate"]}
    return dataclasses.replace(
        config, **{name: value for name, value in of_run.items() if getattr(config, name) is None}
    )


def _last_parameters(config: Config, run: xr.Dataset) -> Params:
    """The layers at the end of the run, in their shapes."""
    k, d = config.num_classes, config.feature_dim
    shapes = [(k, d), *[(d, d)] * max(config.depth - 2, 0)]
    shapes += [(k, 1)] if config.has_output_bias else []
    entries = run["last_parameters"].values.astype(np.float64)
    ends = np.cumsum([rows * columns for rows, columns in shapes])
    *others, features = np.split(entries, ends)
    layers = [part.reshape(shape) for part, shape in zip(others, shapes, strict=True)]
    bias = layers.pop() if config.has_output_bias else None
    return Params(layers[0], features.reshape(d, -1), tuple(layers[1:]), bias)


def last_entries(params: Params) -> Float[np.ndarray, " entries"]:
    """The numbers of all layers in one row, as `last_parameters` holds them: W, hidden layers, bias, features."""
    layers = [params.W, *params.hidden, *(() if params.bias is None else (params.bias,)), params.H]
    return np.concatenate([np.ravel(layer) for layer in layers])


def _of_samples(config: Config, run: xr.Dataset) -> Float[np.ndarray, "d n"]:
    """The features at the end of the run, one column a sample."""
    features = run["H"].values[-1].astype(np.float64)
    if "sample" in run["H"].dims:
        return features
    labels = np.repeat(np.arange(config.num_classes), config.class_counts)
    return features[:, labels]


def _entries(run: xr.Dataset, name: str) -> Float[np.ndarray, " entries"] | None:
    return run[name].values if name in run else None
