"""Training by the steps of an optimiser, on the state, the field and the observations of gradient
flow; its time is the number of steps.

A step is learning rate times a direction of `ssm.dynamics.optimizers`, with dL/dW = -dW/dt of the field, and
so for H; for coupled features that is the gradient seen through what couples them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from ssm.dynamics.callbacks import report_end, report_share, reporting_to
from ssm.dynamics.optimizers import Settings, make_optimizer
from ssm.dynamics.parameters import Params, classifier
from ssm.dynamics.trajectories import (
    FINISHED,
    NOT_FINITE,
    OPTIONS,
    Trajectory,
    count_compilation,
    finite_part,
    in_one_batch,
    up_to,
)
from ssm.dynamics.vector_field import Field
from ssm.measures.metrics import class_accuracy
from ssm.measures.spectral import LEARNED
from ssm.problem.schedules import Statistics, step_weights

SHORTEST = 1024  # what numbers of learning rates are padded up to, by factors of 2


class Descent(NamedTuple):
    """One run: all that its compiled loop is given. Arrays throughout."""

    params: Params
    field: Field
    observe: Any
    """A `trajectories.Observe`."""
    steps: Int[Any, " t"]
    """Ascending numbers of the steps after which the run is observed, the first 0."""
    cumulative_rate: Float[Any, " t"]
    """Sum of the learning rates up to each of them."""
    learning_rates: Float[Any, " s"]
    """Of each step; those beyond the last step are not used."""
    settings: Settings
    seed: Any
    """Of the mini-batches."""
    schedule: Any = None
    """Class weights over time, a transformation of `ssm.schedules`; None for those of the field."""


def learning_rates(
    schedule: Callable[[Any], Any], num_steps: int
) -> tuple[Float[np.ndarray, " s"], Float[np.ndarray, " t"]]:
    """The rate of every step under an optax schedule, padded so that runs of about as many steps
    share a compilation, and how far it adds up after each number of steps, from 0 on."""
    with jax.enable_x64(True):
        rates = np.broadcast_to(np.asarray(schedule(np.arange(num_steps))), num_steps)
    length = max(SHORTEST, 2 ** int(num_steps - 1).bit_length())
    return np.pad(rates, (0, length - num_steps)), np.concatenate([[0.0], np.cumsum(rates)])


def descend(
    descent: Descent,
    *,
    optimizer: str,
    batch_size: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> Trajectory:
    """Follow an optimiser through the steps of `descent`, in the default JAX float type.

    Learning times are where the watched series, linear between steps, first reach `LEARNED`. A run
    that diverges is a result: its status says so, and NaN stands from there on. Runs of one shape,
    loss, optimiser and batch size share one compilation.

    Args:
        optimizer: a name of `ssm.dynamics.optimizers`.
        batch_size: samples drawn for each step, with replacement; None for all.
        progress: called now and then with the share of the steps done.
    """
    with reporting_to(progress), np.errstate(over="ignore"):
        solved = _solve(descent, optimizer, batch_size, progress is not None)
        return _trajectory(descent, jax.device_get(solved))


def descend_batch(
    descents: Sequence[Descent], *, optimizer: str, batch_size: int | None = None
) -> list[Trajectory]:
    """The same for many runs of one shape, batched: for accelerators, which one cannot fill."""
    with np.errstate(over="ignore"):
        solved = in_one_batch(descents, lambda x: _solve_batch(x, optimizer, batch_size))
    return list(map(_trajectory, descents, solved))


def _trajectory(descent: Descent, solved: dict[str, Any]) -> Trajectory:
    times = np.asarray(descent.steps, dtype=float)
    kept, good = finite_part(descent.observe, solved["observations"], len(times))
    return Trajectory(
        times=times,
        log_times=np.full(len(times), np.nan),
        observations=kept,
        crossings=up_to(solved["crossings"], times[:good]),
        status=FINISHED if good == len(times) else NOT_FINITE,
        num_steps=int(descent.steps[-1]),
    )


class _Loop(NamedTuple):
    """What one step hands to the next."""

    params: Params
    memory: Any
    """Of the optimiser."""
    weighting: Any
    """State of the class-weight schedule."""
    watched: Array
    """Of the step before."""
    crossings: Array


def _solve_descent(
    descent: Descent, optimizer: str, batch_size: int | None, report: bool
) -> dict[str, Any]:
    """The whole run: a scan over observed times, a loop over the steps in between."""
    count_compilation(optimizer)
    descent = jax.tree.map(jnp.asarray, descent)
    field, observe, schedule = descent.field, descent.observe, descent.schedule
    steps, dtype = descent.steps, descent.learning_rates.dtype
    transform = make_optimizer(optimizer, descent.settings)
    key, counts = jax.random.key(descent.seed), field.columns.counts

    def weighed(state: _Loop, step: Array) -> tuple[Field, Any]:
        """The field of a step, as deferral or a schedule weighs classes, and the schedule's state."""
        if schedule is None:
            return field.at(step.astype(dtype), step.astype(dtype)), state.weighting
        performance = None
        if schedule.needs_performance:
            logits = classifier(state.params) @ state.params.H
            columns = field.columns
            performance = class_accuracy(logits, columns.labels, columns.member_columns)
        stats = Statistics(counts, performance)
        weights, weighting = step_weights(schedule, state.weighting, stats, step)
        columns = field.columns.weighted(weights)
        return field.weighing(columns.risk_weights), weighting

    def gradient(here: Field) -> Callable[..., Params]:
        """Of a step's risk; with penalties, but those of `adamw`, which decays apart from it."""
        if optimizer == "adamw":
            here = dataclasses.replace(here, weight_decay=None, feature_decay=None)
        return lambda params, _=0: jax.tree.map(jnp.negative, here(params))

    def step(i: Array, state: _Loop) -> _Loop:
        here, weighting = weighed(state, i)
        if batch_size is not None:
            here = dataclasses.replace(here, columns=_drawn(here, key, i, batch_size))
        slope = gradient(here)
        updates, memory = transform.update(
            slope(state.params), state.memory, state.params, grad_fn=slope
        )
        updates = optax.tree.scale(descent.learning_rates[i], updates)
        params: Any = optax.apply_updates(state.params, updates)
        # of the state before the step, whose logits are those of the gradient
        watched = observe.watch(state.params)
        return _Loop(params, memory, weighting, watched, _crossed(state, watched, i))

    def save(carry: tuple[_Loop, Array], part: tuple[Array, Array, Array]) -> Any:
        state, reported = carry
        before, here, flow_time = part
        state = jax.lax.fori_loop(before, here, step, state)
        reported = report_share(reported, here / steps[-1], report)
        now, _ = weighed(state, here)
        # what decays fades with the sum of the rates
        observed = dataclasses.replace(observe, field=now)(state.params, flow_time)
        return (state, reported), observed

    series = jax.eval_shape(observe.watch, descent.params)
    begun = _Loop(
        descent.params,
        transform.init(descent.params),
        () if schedule is None else schedule.init(counts),
        jnp.full(series.shape, -jnp.inf, series.dtype),
        jnp.full(series.shape, jnp.nan, series.dtype),
    )
    before = jnp.concatenate([steps[:1], steps[:-1]])  # the start is observed after no step
    (state, reported), observations = jax.lax.scan(
        save, (begun, jnp.zeros((), dtype)), (before, steps, descent.cumulative_rate)
    )
    if report:
        report_end(reported)
    return {
        "observations": observations,
        "crossings": _crossed(state, observe.watch(state.params), steps[-1]),
    }


def _crossed(state: _Loop, watched: Array, step: Array) -> Array:
    """When each series first reached `LEARNED`, given its values after so many steps."""
    share = (LEARNED - state.watched) / (watched - state.watched)
    when = jnp.where(step > 0, step - 1 + share, 0)
    now = (watched >= LEARNED) & jnp.isnan(state.crossings)
    return jnp.where(now, when, state.crossings)


def _drawn(field: Field, key: Array, step: Array, size: int) -> Any:
    """The columns of a step's mini-batch: samples drawn evenly, with replacement."""
    number = field.columns.multiplicity
    shares, key = number / number.sum(), jax.random.fold_in(key, step)
    drawn = jax.random.choice(key, len(number), (size,), p=shares)
    return field.columns.sampled(jnp.zeros_like(number).at[drawn].add(1))


_solve = jax.jit(_solve_descent, static_argnums=(1, 2, 3), compiler_options=OPTIONS)
_solve_batch = jax.jit(
    lambda descents, optimizer, batch_size: jax.vmap(
        lambda descent: _solve_descent(descent, optimizer, batch_size, False)
    )(descents),
    static_argnums=(1, 2),
)
