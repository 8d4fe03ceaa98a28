"""Training by the steps of an optimiser, on the state, the field and the observations of gradient
flow; its time is the number of steps.

A step is learning rate times a direction of `ssm.dynamics.optimizers`, with dL/dW = -dW/dt of the field, and
so for H; for coupled features that is the gradient seen through what couples them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PyTree

from ssm.dynamics.class_gradients import normalised_sum
from ssm.dynamics.columns import Columns
from ssm.dynamics.optimizers import OwnOptimizer, Settings, make_optimizer
from ssm.dynamics.parameters import Params, classifier
from ssm.dynamics.recording import nothing_observed, put
from ssm.dynamics.statuses import Status
from ssm.dynamics.trajectories import (
    ALMOST_ALL,
    Dynamics,
    Last,
    Observed,
    Trajectory,
    count_compilation,
    up_to,
)
from ssm.dynamics.vector_field import Field
from ssm.measures.metrics import class_accuracy
from ssm.measures.spectral import LEARNED
from ssm.problem.schedules import Statistics, Transformation, step_weights
from ssm.support import errors
from ssm.support.arrays import AnyArray

SHORTEST = 1024
"""The number of learning rates up to which fewer are padded; more are padded to a power of 2."""


class Descent(Dynamics):
    """One run of an optimiser: all that its compiled loop is given. Its numbers are arrays.

    Learning times are where the watched series, linear between steps, first reach `LEARNED`. A run
    that diverges is a result: its status says so, and NaN stands from there on.
    """

    steps: Int[AnyArray, " t"]
    """Ascending numbers of the steps after which the run is observed, the first the step at which it begins."""
    cumulative_rate: Float[Any, " t"]
    """The sum of the learning rates up to each of them."""
    learning_rates: Float[AnyArray, " s"]
    """The rate of each step; entries beyond the last step are not used."""
    settings: Settings
    seed: Int[AnyArray, ""]
    """The seed of the mini-batches."""
    schedule: Transformation | None = None
    """Class weights over time, a transformation of `ssm.schedules`; None where the field's weights are used."""
    own_optimizer: OwnOptimizer | None = None
    """The optimiser of the name `own`; None for every other name."""
    memory: Float[AnyArray, " entries"] | None = None
    """What the optimiser remembers of a run that this one goes on from; None where it begins anew."""
    weighting: Float[AnyArray, " entries"] | None = None
    """The state of the schedule in a run that this one goes on from; None where it begins anew."""
    optimizer: str = eqx.field(static=True, kw_only=True)
    """A name of `ssm.dynamics.optimizers`."""
    batch_size: int | None = eqx.field(static=True, kw_only=True, default=None)
    """The number of samples drawn for each step, with replacement; None where each step uses all."""

    def begin(self) -> _Course:
        """The run before its first step."""
        count_compilation(self.optimizer)
        loop = _begin(self, self._transform)
        observed = nothing_observed(self.observe, self.params, self.cumulative_rate)
        return _Course(loop, jnp.zeros((), int), observed)

    def advance(self, course: _Course, until: int | Array) -> _Course:
        """The run after more observed steps, with a loop over the steps between each two of them."""
        step = functools.partial(_step, self, self._transform, jax.random.key(self.seed))

        def goes_on(course: _Course) -> Array:
            behind = self.steps[jnp.maximum(course.number - 1, 0)] - self.steps[0]
            return (course.number < len(self.steps)) & (behind < until)

        def save(course: _Course) -> _Course:
            i = course.number
            here, before = self.steps[i], self.steps[jnp.maximum(i - 1, 0)]
            loop = jax.lax.fori_loop(before, here, step, course.loop)
            now, _ = _weighed(self, loop, here)
            # Conserved matrices fade, where layers decay, with the sum of the rates.
            observe = dataclasses.replace(self.observe, field=now)
            new = observe(loop.params, self.cumulative_rate[i])
            return _Course(loop, i + 1, put(course.observed, i, new))

        return jax.lax.while_loop(goes_on, save, course)

    def share(self, course: _Course) -> Array:
        """The share of the steps that are done; 1 once the last one is observed too."""
        behind = self.steps[jnp.maximum(course.number - 1, 0)] - self.steps[0]
        share = behind / (self.steps[-1] - self.steps[0])
        goes_on = course.number < len(self.steps)
        return jnp.where(goes_on, jnp.minimum(share, ALMOST_ALL), 1)

    def crossings(self, course: _Course) -> Array:
        """When each watched series was learned, interpolated linearly between steps."""
        watched = _watched(self, course.loop.params)
        behind = self.steps[jnp.maximum(course.number - 1, 0)]
        return _crossed(course.loop, watched, behind, self.steps[0])

    def kept(self, course: _Course) -> tuple[dict[str, Array], Array, Last | None]:
        """The observations, how many there are, and the end of the run where states are kept."""
        params, memory, weighting, *_ = course.loop
        last = Last(params, memory, weighting) if self.observe.keep_state else None
        return course.observed, course.number, last

    def observed(self, kept: PyTree) -> Observed:
        """The observations, and how many there are."""
        return Observed(kept[0], int(kept[1]))

    def trajectory(
        self, kept: PyTree, crossings: Float[np.ndarray, " s"], variables: Observed
    ) -> Trajectory:
        """The Trajectory of the run, with its status."""
        times, number = np.asarray(self.steps, dtype=float), int(kept[1])
        status = Status.FINISHED if number == len(times) else Status.INTERRUPTED
        return Trajectory(
            times=times,
            clocks={"cumulative_rate": self.cumulative_rate},
            observations=variables.values,
            crossings=up_to(crossings, times[: variables.number]),
            status=status if variables.number == number else Status.NOT_FINITE,
            num_steps=int(self.steps[number - 1] - self.steps[0]),
            last=kept[2],
        )

    @property
    def _transform(self) -> optax.GradientTransformationExtraArgs:
        """The optimiser, with learning rate 1."""
        if self.own_optimizer is None:
            return make_optimizer(self.optimizer, self.settings)
        return optax.with_extra_args_support(self.own_optimizer.transformation())


def padded_rates(
    rates: Float[np.ndarray, " n"],
    before: float = 0.0,
) -> tuple[Float[np.ndarray, " s"], Float[np.ndarray, " t"]]:
    """The rate of every step, padded so that runs of about as many steps share a compilation, and the sum of the
    rates after 0, 1, ... steps, where 0 steps have the sum `before`."""
    num_steps = len(rates)
    length = max(SHORTEST, 2 ** int(num_steps - 1).bit_length())
    return np.pad(rates, (0, length - num_steps)), np.cumsum(np.concatenate([[before], rates]))


class _Loop(NamedTuple):
    """What one step hands to the next."""

    params: Params
    memory: PyTree
    """What the optimiser remembers."""
    weighting: PyTree
    """The state of the schedule of class weights."""
    watched: Array
    """The watched series after the previous step."""
    crossings: Array


class _Course(NamedTuple):
    """A run at an observed step."""

    loop: _Loop
    number: Array
    """How many steps have been observed so far."""
    observed: dict[str, Array]
    """Observations, each with all observed steps first."""


def _begin(descent: Descent, transform: optax.GradientTransformationExtraArgs) -> _Loop:
    """The run before its first step."""
    counts, _ = descent.field.columns.parts
    series = jax.eval_shape(functools.partial(_watched, descent), descent.params)
    weighting: PyTree = () if descent.schedule is None else descent.schedule.init(counts)
    return _Loop(
        descent.params,
        _gone_on("memory", transform.init(descent.params), descent.memory),
        _gone_on("weighting", weighting, descent.weighting),
        jnp.full(series.shape, -jnp.inf, series.dtype),
        jnp.full(series.shape, jnp.nan, series.dtype),
    )


def _gone_on(name: str, anew: PyTree, entries: AnyArray | None) -> PyTree:
    """The state `anew` of a beginning, or where there are `entries`, the numbers of the state in which another run has
    ended in one row, that state in the structure of `anew`."""
    if entries is None:
        return anew
    leaves, structure = jax.tree.flatten(anew)
    ends = np.cumsum([jnp.size(leaf) for leaf in leaves])
    if len(entries) != (ends[-1] if len(ends) else 0):
        allowed = f"a run whose {name} has as many numbers as this one's"
        raise errors.invalid("continue_from", f"{len(entries)} numbers", allowed)
    parts = jnp.split(entries, ends[:-1])
    restored = [
        part.reshape(jnp.shape(leaf)).astype(jnp.result_type(leaf))
        for part, leaf in zip(parts, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, restored)


def _step(
    descent: Descent,
    transform: optax.GradientTransformationExtraArgs,
    key: Array,
    i: Array,
    loop: _Loop,
) -> _Loop:
    """One step of the optimiser; mini-batches are drawn with `key`."""
    here, weighting = _weighed(descent, loop, i)
    if descent.batch_size is not None:
        here = dataclasses.replace(here, columns=mini_batch(here, key, i, descent.batch_size))
    gradient = _gradient(here, descent.optimizer)
    updates, memory = transform.update(
        gradient(loop.params), loop.memory, loop.params, grad_fn=gradient
    )
    updates = optax.tree.scale(descent.learning_rates[i - descent.steps[0]], updates)
    params: PyTree = optax.apply_updates(loop.params, updates)
    # The series are those of the state before the step.
    watched = _watched(descent, loop.params)
    crossed = _crossed(loop, watched, i, descent.steps[0])
    return _Loop(params, memory, weighting, watched, crossed)


def _watched(descent: Descent, params: Params) -> Array:
    """The watched series in a state, made of the same logits as its gradient, which the compiler computes once."""
    columns, head, bias = descent.field.columns, classifier(params), params.bias
    if columns.input_sums is None:
        sums = columns.total(lambda part, features: part.sums(head @ features), params.H)
    else:
        sums = (head @ params.H) @ columns.input_sums
    return descent.observe.watch(sums if bias is None else sums + bias * columns.sums_of_ones[None])


def _weighed(descent: Descent, loop: _Loop, step: Array) -> tuple[Field, PyTree]:
    """The field of a step, with the class weights of its deferral or schedule, and the schedule's state."""
    field, schedule, dtype = descent.field, descent.schedule, descent.learning_rates.dtype
    if schedule is None:
        return field.at(step.astype(dtype), step.astype(dtype)), loop.weighting
    columns, performance, losses = field.columns, None, None
    counts, members = columns.parts
    if schedule.needs_performance or schedule.needs_losses:
        logits = field.logits(loop.params)
        if schedule.needs_performance:
            performance = class_accuracy(logits, columns.labels, members)
        if schedule.needs_losses:
            losses = (columns.losses(logits) @ members) / counts
    stats = Statistics(counts, performance, losses)
    weights, weighting = step_weights(schedule, loop.weighting, stats, step)
    return field.weighing(columns.weighted(weights).risk_weights), weighting


def _gradient(field: Field, optimizer: str) -> Callable[..., Params]:
    """The gradient of a step's risk, normalised class by class for `class_normalised_gd`. It has that of the penalties
    too, except for that optimiser and `adamw`, which decay parameters apart from the gradient."""
    if optimizer in ("adamw", "class_normalised_gd"):
        field = dataclasses.replace(field, weight_decay=None, feature_decay=None)
    if optimizer == "class_normalised_gd":
        return lambda params, _=0: normalised_sum(field, params)
    return lambda params, _=0: jax.tree.map(jnp.negative, field(params))


def _crossed(loop: _Loop, watched: Array, step: Array, first: Array) -> Array:
    """When each series first reached `LEARNED`, given its values after `step` steps of a run that begins at the
    step `first`."""
    share = (LEARNED - loop.watched) / (watched - loop.watched)
    when = jnp.where(step > first, step - 1 + share, first)
    now = (watched >= LEARNED) & jnp.isnan(loop.crossings)
    return jnp.where(now, when, loop.crossings)


def mini_batch(field: Field, key: Array, step: Array, size: int) -> Columns:
    """The columns of a step's mini-batch: `size` samples drawn evenly, with replacement, each column standing
    for as many as were drawn of it."""
    number = field.columns.multiplicity
    shares, key = number / number.sum(), jax.random.fold_in(key, step)
    drawn = jax.random.choice(key, len(number), (size,), p=shares)
    return field.columns.sampled(jnp.zeros_like(number).at[drawn].add(1))
