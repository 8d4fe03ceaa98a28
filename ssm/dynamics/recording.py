"""What a solve records as it goes: observations at the saved times, and in which step each
watched series crossed its level."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ssm.dynamics.parameters import Params, classifier
from ssm.dynamics.runge_kutta import TriedStep
from ssm.dynamics.trajectories import Observe
from ssm.dynamics.vector_field import Field
from ssm.measures.spectral import LEARNED
from ssm.support.arrays import AnyArray


class Passage(NamedTuple):
    """A step that was tried: what is needed of it to record the run."""

    accepted: Array
    before: Params
    """The state in which the step begins."""
    start: Array
    """The time at which it begins."""
    end: Array
    """The time at which it ends."""
    tried: TriedStep
    log_time: Callable[[Array], Array]
    """The logarithm of flow time at a share of the step."""


class Recording(NamedTuple):
    """The observations so far."""

    number: Array
    """How many times have been saved."""
    observed: dict[str, Array]
    """Named observations, with all times along the first axis of each, NaN at those not saved yet."""
    times: Array
    """The times and the logarithms of flow time at them: shape (2, t)."""


def begin_recording(times: Array, observe: Observe, params: Params, log_time: Array) -> Recording:
    """The recording of a run before anything is observed."""
    observed = nothing_observed(observe, params, times)
    both = jnp.stack([times, jnp.full_like(times, jnp.nan).at[0].set(log_time)])
    return Recording(jnp.zeros((), int), observed, both)


def save_passed(
    recording: Recording, times: Array, observe: Observe, passage: Passage
) -> Recording:
    """The recording with all times to be saved that a step has passed, if it was accepted, and with the start of
    the run, if it is the first step. The start is observed here, since observations that are called in two
    places would be compiled twice."""

    def is_due(recording: Recording) -> Array:
        here = times[jnp.minimum(recording.number, len(times) - 1)]
        passed = passage.accepted & (here <= passage.end)
        return (recording.number < len(times)) & (passed | (recording.number == 0))

    def save(recording: Recording) -> Recording:
        now = times[recording.number]
        share = (now - passage.start) / passage.tried.length
        # The start is not interpolated in the step, which may have failed.
        inside, log_now = jax.tree.map(
            lambda start, x: jnp.where(share > 0, x, start),
            (passage.before, recording.times[1, recording.number]),
            (passage.tried.inside(share), passage.log_time(share)),
        )
        return _record(recording, observe, now, inside, log_now)

    return jax.lax.while_loop(is_due, save, recording)


def save_end(
    recording: Recording, observe: Observe, passage: Passage, log_end: Array, stopped: Array
) -> Recording:
    """The recording with the end of a run that its margin stops, saved in place of the next time, unless that
    end was saved already."""
    new = recording.times[0, recording.number - 1] < passage.end
    return jax.lax.cond(
        stopped & new & (recording.number < recording.times.shape[1]),
        lambda recording: _record(recording, observe, passage.end, passage.tried.params, log_end),
        lambda recording: recording,
        recording,
    )


def _record(
    recording: Recording, observe: Observe, now: Array, params: Params, log_now: Array
) -> Recording:
    i = recording.number
    times = recording.times.at[:, i].set(jnp.stack([now, log_now]))
    return Recording(i + 1, put(recording.observed, i, _observed(observe, params, now)), times)


@functools.partial(jax.jit, inline=True)
def _observed(observe: Observe, params: Params, now: Array) -> dict[str, AnyArray]:
    """What is observed, which JAX traces once, for its shapes and its numbers, and compiles as part of what calls
    it."""
    return observe(params, now)


def nothing_observed(observe: Observe, params: Params, times: AnyArray) -> dict[str, Array]:
    """NaN in the place of all that is to be observed, with all times along the first axis of each."""
    return {
        name: jnp.full((len(times), *x.shape), jnp.nan, jnp.result_type(x, times.dtype))
        for name, x in jax.eval_shape(_observed, observe, params, times[0]).items()
    }


def put(observed: dict[str, Array], i: Array, new: dict[str, AnyArray]) -> dict[str, Array]:
    """The observations with the `new` ones of the i-th time filled in."""
    return {
        name: jax.lax.dynamic_update_index_in_dim(values, new[name], i, 0)
        for name, values in observed.items()
    }


class Watch(NamedTuple):
    """The watched series, and where each first crossed `LEARNED`."""

    sums: Params
    """The state at the last accepted step, its features summed over the samples of each class."""
    values: Array
    """The series there: shape (s,)."""
    bracket: Array
    """The step in which each series crossed, by its start, its length, the values at both ends and the slopes at both
    ends, NaN where the series has not crossed: shape (6, s)."""


def _series(observe: Observe, field: Field, sums: Params) -> Array:
    """The series in a state whose features are summed over the samples of each class."""
    logits = classifier(sums) @ sums.H
    if sums.bias is not None:
        logits = logits + sums.bias * field.columns.sums_of_ones[None]
    return observe.watch(logits)


def begin_watch(observe: Observe, field: Field, params: Params, start: Array) -> Watch:
    """The series at the start. One that has reached its level there counts as crossed in a step of length 0."""
    sums = field.of_classes(params)
    values = _series(observe, field, sums)
    there = jnp.where(values >= LEARNED, 0.0, jnp.nan)
    return Watch(sums, values, jnp.stack([start + there, *[there] * 5]))


def watch_passage(watch: Watch, observe: Observe, field: Field, passage: Passage) -> Watch:
    """The series after a step, and the bracket of each that crossed in it."""
    tried = passage.tried
    sums = field.of_classes(tried.params)
    values = _series(observe, field, sums)
    crossed = passage.accepted & (values >= LEARNED) & ~(watch.bracket[1] >= 0)

    def rate(sums: Params, slope: Params) -> Array:
        return jax.jvp(functools.partial(_series, observe, field), (sums,), (slope,))[1]

    def with_crossed(old: Array) -> Array:
        slopes = map(field.of_classes, (tried.slopes[0], tried.slopes[-1]))
        both = (
            jax.tree.map(lambda *x: jnp.stack(x), *ends) for ends in ((watch.sums, sums), slopes)
        )
        step = [jnp.full_like(values, x) for x in (passage.start, tried.length)]
        ends = [watch.values, values, *jax.vmap(rate)(*both)]
        return jnp.where(crossed[None], jnp.stack(step + ends), old)

    bracket = jax.lax.cond(crossed.any(), with_crossed, lambda old: old, watch.bracket)
    sums, values = jax.tree.map(
        lambda new, old: jnp.where(passage.accepted, new, old),
        (sums, values),
        (watch.sums, watch.values),
    )
    return Watch(sums, values, bracket)
