"""Gradient flow of the small-scale model, observed inside the solve.

Runge-Kutta steps with error control (Hairer, Norsett, Wanner 1993, II.4) are taken in one compiled loop. It
watches every step, so that learning times need no second run, can keep the slopes of many columns in
factors, and can end a run when its margin is large enough. The loop is given the field to follow and what
to observe, and knows nothing of what theory expects.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from ssm.dynamics.parameters import Params
from ssm.dynamics.recording import (
    Passage,
    Recording,
    Watch,
    begin_recording,
    begin_watch,
    save_end,
    save_passed,
    watch_passage,
)
from ssm.dynamics.runge_kutta import TriedStep, crossing, first_step
from ssm.dynamics.solvers import MOST_HELD_BACK, SOLVERS, Method, Solver
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
from ssm.dynamics.vector_field import FactoredSlope, Field, log_time_after
from ssm.measures.spectral import LEARNED
from ssm.support.arrays import AnyArray


class Flow(Dynamics):
    """One gradient flow, followed with error control: all that its compiled loop is given. Its
    numbers are arrays, since a Python number would compile anew for each value.

    A run that cannot go on is a result: its Trajectory has the status, and NaN from there on. Runs
    of one shape, loss and solver share one compilation.
    """

    times: Float[Any, " t"]
    """The times to observe, ascending, by the field's clock; the first is the time of the start."""
    rtol: Float[AnyArray, ""]
    """The relative tolerance of one step."""
    atol: Float[AnyArray, ""]
    """The absolute tolerance of one step."""
    max_steps: Int[AnyArray, ""]
    """The most steps that are tried."""
    stop_margin: Float[AnyArray, ""] | None = None
    """The margin at which the run ends; None where no margin ends it."""
    log_time: Float[Any, ""] | None = None
    """The logarithm of flow time at the start, where the loss drives the clock; None where flow time is 0 there."""
    solver: Solver = eqx.field(static=True, default=SOLVERS["tsit5"])

    def begin(self) -> _Loop:
        """The run before its first step."""
        count_compilation(self.solver.name)
        return _begin(_task(self))

    def advance(self, loop: _Loop, until: int | Array) -> _Loop:
        """The run after more steps, up to number `until`, in one loop for each method of the solver."""
        task = _task(self)
        first, last = self.solver.first, self.solver.last

        def goes_on(loop: _Loop) -> Array:
            return _goes_on(task, loop) & (loop.num_steps < until)

        if first is not None:
            with_first = loop.num_held_back < MOST_HELD_BACK
            loop = jax.lax.while_loop(
                lambda loop: goes_on(loop) & (loop.num_held_back < MOST_HELD_BACK),
                functools.partial(_step, task, first),
                loop,
            )
            memory = jax.tree.map(
                lambda new, old: jnp.where(with_first, new, old),
                last.begin(loop.state.slope),
                loop.memory,
            )
            loop = loop._replace(memory=memory)
        return jax.lax.while_loop(goes_on, functools.partial(_step, task, last), loop)

    def share(self, loop: _Loop) -> Array:
        """The share of the time to follow that has passed; 1 where the run has ended."""
        task = _task(self)
        share = (loop.state.time - task.start) / (task.end - task.start)
        return jnp.where(_goes_on(task, loop), jnp.minimum(share, ALMOST_ALL), 1)

    def crossings(self, loop: _Loop) -> Array:
        """When each watched series was learned, interpolated inside the step in which it was."""
        return crossing(loop.watch.bracket, LEARNED)

    def kept(self, loop: _Loop) -> tuple[Recording, Array, Array, Array, Last | None]:
        """What was recorded, the number of steps, whether the margin has ended the run, the length of the step
        that would come next, and its end."""
        last = Last(loop.state.params) if self.observe.keep_state else None
        return loop.recording, loop.num_steps, loop.stopped, loop.step, last

    def observed(self, kept: PyTree) -> Observed:
        """The observations, and how many there are."""
        recording, *_ = kept
        return Observed(recording.observed, int(recording.number))

    def trajectory(
        self,
        kept: PyTree,
        crossings: Float[np.ndarray, " s"],
        variables: Observed,
    ) -> Trajectory:
        """The Trajectory of the run, with its status."""
        recording, num_steps, stopped, step, last = kept
        num_reached = int(recording.number)
        # This is computed on the host, since on the device each of these operations would be compiled on its own.
        shortest = _shortest(self.times[-1].astype(step.dtype))
        goes_on = (
            num_reached < len(self.times)
            and not stopped
            and num_steps < self.max_steps
            and (step >= shortest or num_steps == 0)
        )
        if variables.number < num_reached:
            crossings = up_to(crossings, self.times[: variables.number])
            status = Status.NOT_FINITE
        elif goes_on:
            status = Status.INTERRUPTED
        elif stopped:
            status = Status.MARGIN_REACHED
        elif num_reached == len(self.times):
            status = Status.FINISHED
        elif num_steps >= self.max_steps:
            status = Status.OUT_OF_STEPS
        else:
            status = Status.STEP_TOO_SMALL
        saved, log_times = recording.times
        # A time that the solve left as it was keeps the precision in which it was asked for.
        times = np.where(saved != self.times.astype(saved.dtype), saved, self.times)
        clocks = {"log_time": log_times} if self.field.loss_clock else {}
        return Trajectory(times, clocks, variables.values, crossings, status, int(num_steps), last)


class _Task(NamedTuple):
    """What all steps of one solve share."""

    flow: Flow
    real: Float[AnyArray, " m"]
    """1 for each column that is followed, 0 for padding."""
    start: Array
    end: Array
    smallest: AnyArray
    """The length of a step below which rounding keeps the time from moving."""


class _State(NamedTuple):
    """Where a run is, between two steps."""

    time: Array
    log_time: Array
    """The logarithm of flow time, where the loss drives the clock."""
    log_risk: Array
    """log L and its slope, where the loss drives the clock: shape (2,)."""
    params: Params
    slope: Params | FactoredSlope


class _Loop(NamedTuple):
    """What one step hands to the next."""

    state: _State
    memory: PyTree
    """What the method remembers."""
    num_held_back: Array
    """How many steps of a first method stability has held back so far."""
    step: Array
    """The length of the next step."""
    num_steps: Array
    last_error: Array
    """The error of the last accepted step that was not cut short, over its tolerance."""
    recording: Recording
    stopped: Array
    """Whether the margin has ended the run."""
    watch: Watch


def _task(flow: Flow) -> _Task:
    times = flow.times
    real = flow.field.columns.followed.astype(times.dtype)
    start, end = times[0], times[-1]
    return _Task(flow, real, start, end, _shortest(end))


def _shortest(end: AnyArray) -> AnyArray:
    """The length of a step below which rounding keeps the time from moving."""
    return end * jnp.finfo(end.dtype).eps / 16


def _begin(task: _Task) -> _Loop:
    """The run before its first step."""
    flow, start, params = task.flow, task.start, task.flow.params
    begun = flow.field.at(start, start)
    slope = begun.slope(params)
    whole = flow.field.whole(slope)
    log_time = jnp.full_like(start, -jnp.inf if flow.field.loss_clock else jnp.nan)
    log_time = log_time if flow.log_time is None else flow.log_time.astype(start.dtype)
    size, scale = functools.partial(_size, task.real), _tolerance(flow, params)
    return _Loop(
        state=_State(start, log_time, _log_risk(begun, params, whole), params, slope),
        memory=flow.solver.last.begin(slope),
        num_held_back=jnp.zeros((), int),
        step=jnp.minimum(first_step(begun, params, whole, scale, size), task.end - start),
        num_steps=jnp.zeros((), int),
        last_error=jnp.ones((), flow.times.dtype),
        recording=begin_recording(flow.times, flow.observe, params, log_time),
        stopped=jnp.zeros((), bool),
        watch=begin_watch(flow.observe, flow.field, params, start),
    )


def _goes_on(task: _Task, loop: _Loop) -> Array:
    """Whether the run takes another step. A first step is always tried, since the start is observed in
    it."""
    return (
        (loop.recording.number < len(task.flow.times))
        & ~loop.stopped
        & (loop.num_steps < task.flow.max_steps)
        & ((loop.step >= task.smallest) | (loop.num_steps == 0))
    )


def _step(task: _Task, method: Method, loop: _Loop) -> _Loop:
    """The run after one more step, which is accepted or not; times to be saved in it are observed, and the series
    watched."""
    flow, state = task.flow, loop.state
    tried, goal = _attempt(task, method, loop)
    accepted, following, last_error = _accept(task, method, loop, tried)
    time = jnp.where(tried.length >= goal - state.time, goal, state.time + tried.length)
    arrival, log_time = _arrive(flow.field, state, tried, time)
    passage = Passage(accepted, state.params, state.time, time, tried, log_time)
    recording = save_passed(loop.recording, flow.times, flow.observe, passage)
    stopped = jnp.zeros((), bool)
    if flow.stop_margin is not None:
        stopped = accepted & (flow.field.margin(tried.params) >= flow.stop_margin)
        recording = save_end(recording, flow.observe, passage, arrival.log_time, stopped)
    held_back = accepted & flow.solver.is_held_back(tried)
    return _Loop(
        state=jax.tree.map(lambda new, old: jnp.where(accepted, new, old), arrival, state),
        memory=tried.memory,
        num_held_back=loop.num_held_back + held_back.astype(int),
        step=following,
        num_steps=loop.num_steps + 1,
        last_error=last_error,
        recording=recording,
        stopped=stopped,
        watch=watch_passage(loop.watch, flow.observe, flow.field, passage),
    )


def _attempt(task: _Task, method: Method, loop: _Loop) -> tuple[TriedStep, Array]:
    """A step that was tried, and the time that it must not pass: the first of the end of the run, the next jump of
    the field, and for a method that knows no state inside its steps the next time to be saved."""
    flow, state = task.flow, loop.state
    goal = task.end
    if flow.field.deferral is not None:
        jumps = flow.field.deferral.jumps
        goal = jnp.where(jumps > state.time, jnp.minimum(jumps, task.end), task.end).min()
    if method.ends_at_saves:
        following = flow.times[jnp.minimum(loop.recording.number, len(flow.times) - 1)]
        goal = jnp.minimum(goal, following)
    length = jnp.minimum(loop.step, goal - state.time)
    tried = method.step(flow.field, state.time, state.params, state.slope, length, loop.memory)
    return tried, goal


def _accept(
    task: _Task, method: Method, loop: _Loop, tried: TriedStep
) -> tuple[Array, Array, Array]:
    """Whether a step is within its tolerance, the length of the step that follows, and the error that
    will count as that of the last step when the length after that is chosen.

    A step that is accepted is followed by one 0.9 e^(-0.7 / q) e_last^(0.3 / q) times as long, where e is
    its error over the tolerance, e_last that of the last step that was accepted before, and q the order of
    the error; a step that is not accepted is tried again 0.9 e^(-0.4 / q) times as long. That is
    proportional and integral control, which at equal accuracy takes fewer steps than control by e alone. Source:
    Hairer, Wanner 1996, IV.2.
    """
    flow = task.flow
    error = _size(task.real, tried.error, _tolerance(flow, loop.state.params, tried.params))
    error = flow.solver.tightened(error, has_hidden=bool(flow.params.hidden))
    error = jnp.where(jnp.isfinite(error), error, jnp.inf)
    accepted = error < 1
    known = jnp.clip(error, 1e-10, 1e10)
    last = jnp.where(accepted, jnp.maximum(loop.last_error, 1e-4), known)
    growth = 0.9 * known ** (-0.7 / method.error_order) * last ** (0.3 / method.error_order)
    following = tried.length * jnp.clip(growth, 0.2, 10.0)
    # A step that was cut short, for a saved time or a jump, says nothing about the next one.
    cut = accepted & (tried.length < loop.step)
    following = jnp.where(cut, jnp.maximum(following, loop.step), following)
    return accepted, following, jnp.where(accepted & ~cut, error, loop.last_error)


def _arrive(
    field: Field, state: _State, tried: TriedStep, time: Array
) -> tuple[_State, Callable[[Array], Array]]:
    """The state that a step leads to, from which the next one starts, and the logarithm of flow time as
    a function of the share of the step."""
    slope = tried.slopes[-1]
    risk = _log_risk(field.at(time, state.time), tried.params, slope)

    def log_time(share: Array) -> Array:
        if not field.loss_clock:
            return jnp.full_like(share, jnp.nan)
        return log_time_after(state.log_time, tried.length, state.log_risk, risk, share)

    next_slope, next_risk = _beyond_jump(field, time, tried.params, slope, risk)
    log_end = log_time(jnp.ones_like(time))
    return _State(time, log_end, next_risk, tried.params, next_slope), log_time


def _beyond_jump(
    field: Field, time: Array, params: Params, slope: Params | FactoredSlope, risk: Array
) -> tuple[Params | FactoredSlope, Array]:
    """The slope and log L with which the next step starts; they change at a time where weights begin to act."""
    if field.deferral is None:
        return slope, risk
    after = field.at(time, time)

    def anew() -> tuple[Params | FactoredSlope, Array]:
        slope = after.slope(params)
        return slope, _log_risk(after, params, slope)

    jumps = (time == field.deferral.jumps).any()
    return jax.lax.cond(jumps, anew, lambda: (slope, risk))


def _log_risk(field: Field, params: Params, slope: Params | FactoredSlope) -> Array:
    """log L and its derivative in time where the loss drives the clock, else zeros: shape (2,)."""
    if not field.loss_clock:
        return jnp.zeros(2, params.W.dtype)
    return jnp.stack(jax.jvp(field.log_risk, (params,), (slope,)))


def _tolerance(flow: Flow, *params: Params) -> Params:
    """The error that each number may have, from its largest magnitude in several states."""
    return jax.tree.map(
        lambda *x: flow.atol + flow.rtol * functools.reduce(jnp.maximum, map(jnp.abs, x)),
        *params,
    )


def _size(real: AnyArray, x: Params, scale: Params) -> Array:
    """The root mean square of x over its scale, without padding."""
    x = jax.tree.map(lambda a, s: a / s, x, scale)
    others = jax.tree.leaves(x._replace(H=()))
    numbers = sum(y.size for y in others) + len(x.H) * real.sum()
    # These are products with a vector, since the compiler for CPUs does not vectorise a plain sum.
    ones = jnp.ones(len(x.H), x.H.dtype)
    squares = sum(jnp.vdot(y, y) for y in others) + (ones @ (x.H * x.H)) @ real
    return jnp.sqrt(squares / numbers)
