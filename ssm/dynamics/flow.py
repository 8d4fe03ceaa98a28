"""Gradient flow of the small-scale model, observed inside the solve.

Runge-Kutta steps with error control (Hairer, Norsett, Wanner 1993, II.4) in one compiled loop that
watches every step, so that learning times need no second run, that can keep the slopes of many
columns in factors, and that can end a run when its margin is large enough. It is given the field to
follow and what to observe, and knows nothing of what theory expects.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ssm.dynamics.callbacks import report_end, report_share, reporting_to
from ssm.dynamics.parameters import Params
from ssm.dynamics.runge_kutta import (
    PAIRS,
    Step,
    crossing,
    first_step,
    legendre_step,
    pair_step,
    weighted_sum,
)
from ssm.dynamics.trajectories import (
    FINISHED,
    MARGIN_REACHED,
    NOT_FINITE,
    OPTIONS,
    OUT_OF_STEPS,
    STEP_TOO_SMALL,
    Trajectory,
    count_compilation,
    finite_part,
    in_one_batch,
    up_to,
)
from ssm.dynamics.vector_field import FactoredSlope, Field, log_time_after
from ssm.measures.spectral import LEARNED


class Flow(NamedTuple):
    """One solve: all that its compiled loop is given. Arrays throughout; a Python number would
    compile anew for each value."""

    params: Params
    """The start, W (k x d), H (d x m) and the hidden layers."""
    field: Field
    observe: Any
    """A `trajectories.Observe`."""
    times: Float[Any, " t"]
    """Ascending, by the field's clock, the first the time of the start."""
    rtol: Any
    atol: Any
    """Tolerances of one step."""
    max_steps: Any
    stop_margin: Any = None
    """Margin at which the run ends; None for a run without."""


def gradient_flow(
    flow: Flow,
    *,
    solver: str = "tsit5",
    progress: Callable[[float], None] | None = None,
) -> Trajectory:
    """Follow the gradient flow through the times of `flow`, with error control, in the default JAX
    float type.

    A run that cannot go on is a result: its Trajectory has the status, and NaN from there on. Runs
    of one shape, loss and solver share one compilation.

    Args:
        progress: called now and then with the share of the time done.
    """
    # what float32 cannot hold makes a run that is not finite, which is said in its status
    with reporting_to(progress), np.errstate(over="ignore"):
        return _trajectory(flow, jax.device_get(_solve(flow, solver, progress is not None)))


def gradient_flows(flows: Sequence[Flow], *, solver: str = "tsit5") -> list[Trajectory]:
    """The same for many flows of one shape, batched: for accelerators, which one run cannot fill.

    On a CPU batched loops are slower than one run after the other.
    """
    with np.errstate(over="ignore"):
        solved = in_one_batch(flows, lambda x: _solve_batch(x, solver))
    return list(map(_trajectory, flows, solved))


def _trajectory(flow: Flow, solved: dict[str, Any]) -> Trajectory:
    """A solve as a Trajectory, its status read off."""
    num_reached = int(solved["num_saved"])
    kept, good = finite_part(flow.observe, solved["observations"], num_reached)
    crossings, finite = np.array(solved["crossings"]), good == num_reached
    if not finite:
        crossings = up_to(crossings, flow.times[:good])
        status = NOT_FINITE
    elif solved["stopped"]:
        status = MARGIN_REACHED
    elif num_reached == len(flow.times):
        status = FINISHED
    elif solved["num_steps"] >= flow.max_steps:
        status = OUT_OF_STEPS
    else:
        status = STEP_TOO_SMALL
    # those that were not touched in the precision they were given in
    times = np.where(solved["moved"], solved["times"], flow.times)
    steps = int(solved["num_steps"])
    return Trajectory(times, solved["log_times"], kept, crossings, status, steps)


class _Loop(NamedTuple):
    """What one step hands to the next."""

    time: Array
    log_time: Array
    """log of flow time, where the loss drives the clock."""
    log_risk: Array
    """(2,): log L and its slope, there."""
    params: Params
    slope: Any
    memory: Any
    """Of the stabilised method."""
    num_stiff: Array
    """Steps so far that stability held back."""
    step: Array
    """Length of the next step."""
    num_steps: Array
    num_saved: Array
    stopped: Array
    saved: dict[str, Array]
    saved_times: Array
    """(2, t): times and logarithms of flow time."""
    watched: Array
    bracket: Array
    """(6, s): for each watched series the step it crossed in: start, length, values, slopes."""
    reported: Array


def _solve_flow(flow: Flow, solver: str, report: bool) -> dict[str, Any]:
    """The whole solve, one loop over steps."""
    count_compilation(solver)
    flow = jax.tree.map(jnp.asarray, flow)
    times, observe, field = flow.times, flow.observe, flow.field
    real = (field.columns.multiplicity > 0).astype(times.dtype)
    start, end = times[0], times[-1]
    smallest = (end - start) * jnp.finfo(times.dtype).eps / 16

    def size(x: Params, scale: Params) -> Array:
        """Root mean square of x over its tolerance, padding left out."""
        x = jax.tree.map(lambda a, s: (a / s) ** 2, x, scale)
        others = jax.tree.leaves(x._replace(H=()))
        numbers = sum(y.size for y in others) + len(x.H) * real.sum()
        return jnp.sqrt((sum(y.sum() for y in others) + (x.H.sum(0) * real).sum()) / numbers)

    def tolerance(*params: Params) -> Params:
        return jax.tree.map(
            lambda *x: flow.atol + flow.rtol * functools.reduce(jnp.maximum, map(jnp.abs, x)),
            *params,
        )

    def advance(params: Params, slopes: Sequence[Any], weights: Any) -> Params:
        if not isinstance(slopes[0], FactoredSlope):
            return jax.tree.map(lambda y, *k: weighted_sum(y, k, weights), params, *slopes)
        lefts = jnp.hstack([weights[i] * slope.left for i, slope in enumerate(slopes)])
        rights = jnp.vstack([slope.right for slope in slopes])
        W = weighted_sum(params.W, [slope.W for slope in slopes], weights)
        return Params(W, params.H + lefts @ rights)

    def attempt(loop: _Loop, length: Array, method: str) -> Step:
        if method == "rkl2":
            here = field.at(loop.time, loop.time)
            return legendre_step(here, loop.params, loop.slope, length, loop.memory)
        pair = jax.tree.map(lambda x: np.asarray(x, times.dtype), PAIRS[method])

        def slope(params: Params, share: Any) -> Any:
            return field.at(loop.time + share * length, loop.time).slope(params)

        return pair_step(pair, slope, advance, loop.params, loop.slope, length)

    def log_risk(params: Params, slope: Any, field: Field) -> Array:
        """log L and how fast it changes, where the loss drives the clock."""
        if not field.loss_clock:
            return jnp.zeros(2, times.dtype)
        return jnp.stack(jax.jvp(field.log_risk, (params,), (slope,)))

    def beyond_jump(time: Array, params: Params, slope: Any, risk: Array) -> tuple[Any, Array]:
        """Slope and log L for the steps to come, which change where weights begin to act."""
        if field.deferral is None:
            return slope, risk
        after = field.at(time, time)

        def anew() -> tuple[Any, Array]:
            slope = after.slope(params)
            return slope, log_risk(params, slope, after)

        jumps = (time == field.deferral.jumps).any()
        return jax.lax.cond(jumps, anew, lambda: (slope, risk))

    def unfinished(loop: _Loop) -> Array:
        return (
            (loop.num_saved < len(times))
            & ~loop.stopped
            & (loop.num_steps < flow.max_steps)
            & (loop.step >= smallest)
        )

    def step(loop: _Loop, method: str) -> _Loop:
        goal = end
        if field.deferral is not None:
            jumps = field.deferral.jumps
            goal = jnp.where(jumps > loop.time, jnp.minimum(jumps, end), end).min()
        if method == "rkl2":  # which knows no state inside a step
            goal = jnp.minimum(goal, times[jnp.minimum(loop.num_saved, len(times) - 1)])
        tried = attempt(loop, jnp.minimum(loop.step, goal - loop.time), method)
        length, params = tried.length, tried.params
        error = size(tried.error, tolerance(loop.params, params))
        if solver == SWITCHING:
            error = error / (_TIGHTEST if flow.params.hidden else _TIGHTER)
        error = jnp.where(jnp.isfinite(error), error, jnp.inf)
        accepted = error < 1
        growth = 0.9 * jnp.maximum(error, 1e-10) ** (-1 / _ORDER[method])
        growth = jnp.clip(growth, jnp.where(accepted, 1.0, 0.2), 10.0)
        time = jnp.where(length >= goal - loop.time, goal, loop.time + length)
        following = length * growth
        if method == "rkl2" or field.deferral is not None:
            # a step cut short for a time to be saved or a jump says nothing of the next
            following = jnp.where(accepted, jnp.maximum(following, loop.step), following)
        risk = log_risk(params, tried.slopes[-1], field.at(time, loop.time))
        next_slope, next_risk = beyond_jump(time, params, tried.slopes[-1], risk)

        def log_time(share: Array) -> Array:
            if not field.loss_clock:
                return jnp.full_like(share, jnp.nan)
            return log_time_after(loop.log_time, length, loop.log_risk, risk, share)

        log_end = log_time(jnp.ones_like(time))

        def due(carry: tuple[Array, Any, Any]) -> Array:
            here = times[jnp.minimum(carry[0], len(times) - 1)]
            return accepted & (carry[0] < len(times)) & (here <= time)

        def record(carry: tuple[Array, Any, Any], now: Array, there: Params, log_now: Array) -> Any:
            i, saved, saved_times = carry
            saved_times = saved_times.at[:, i].set(jnp.stack([now, log_now]))
            return i + 1, _put(saved, i, observe(there, now)), saved_times

        def save(carry: tuple[Array, Any, Any]) -> tuple[Array, Any, Any]:
            now = times[carry[0]]
            share = (now - loop.time) / length
            return record(carry, now, tried.inside(share), log_time(share))

        carry = loop.num_saved, loop.saved, loop.saved_times
        num_saved, saved, saved_times = jax.lax.while_loop(due, save, carry)
        stopped = jnp.zeros((), bool)
        if flow.stop_margin is not None:
            stopped = accepted & (field.margin(params) >= flow.stop_margin)
            # the end of the run takes the place of the time that comes next
            new = saved_times[0, num_saved - 1] < time
            num_saved, saved, saved_times = jax.lax.cond(
                stopped & new & (num_saved < len(times)),
                lambda carry: record(carry, time, params, log_end),
                lambda carry: carry,
                (num_saved, saved, saved_times),
            )
        switching = solver == SWITCHING
        stiff = accepted & (tried.stretch > _STIFF) if switching else jnp.zeros((), bool)
        watched = observe.watch(params)
        crossed = accepted & (watched >= LEARNED) & ~(loop.bracket[1] >= 0)

        def bracket(old: Array) -> Array:
            def rate(params: Params, slope: Any) -> Array:
                return jax.jvp(observe.watch, (params,), (field.whole(slope),))[1]

            slopes = tried.slopes
            ends = [loop.watched, watched, rate(loop.params, slopes[0]), rate(params, slopes[-1])]
            now = jnp.stack([jnp.full_like(watched, x) for x in (loop.time, length)] + ends)
            return jnp.where(crossed[None], now, old)

        def kept(new: Any, old: Any) -> Any:
            return jax.tree.map(lambda a, b: jnp.where(accepted, a, b), new, old)

        return _Loop(
            time=kept(time, loop.time),
            log_time=kept(log_end, loop.log_time),
            log_risk=kept(next_risk, loop.log_risk),
            params=kept(params, loop.params),
            slope=kept(next_slope, loop.slope),
            memory=tried.memory if method == "rkl2" else loop.memory,
            num_stiff=loop.num_stiff + stiff.astype(int),
            step=following,
            num_steps=loop.num_steps + 1,
            num_saved=num_saved,
            stopped=stopped,
            saved=saved,
            saved_times=saved_times,
            watched=kept(watched, loop.watched),
            bracket=jax.lax.cond(crossed.any(), bracket, lambda old: old, loop.bracket),
            reported=report_share(loop.reported, (time - start) / (end - start), report),
        )

    params, begun = flow.params, field.at(start, start)
    slope, first, watched = begun.slope(params), observe(params, start), observe.watch(params)
    empty = {
        name: jnp.full((len(times), *x.shape), jnp.nan, jnp.result_type(x, times.dtype))
        for name, x in first.items()
    }
    # what is there at the start is crossed at once: a step of length 0
    there = jnp.where(watched >= LEARNED, 0.0, jnp.nan)
    bracket = jnp.stack([start + there, *[there] * 5])
    before = jnp.full_like(start, -jnp.inf if field.loss_clock else jnp.nan)
    loop = _Loop(
        time=start,
        log_time=before,
        log_risk=log_risk(params, field.whole(slope), begun),
        params=params,
        slope=slope,
        memory=slope if solver in ("rkl2", SWITCHING) else (),
        num_stiff=jnp.zeros((), int),
        step=jnp.minimum(
            first_step(begun, params, field.whole(slope), tolerance(params), size),
            end - start,
        ),
        num_steps=jnp.zeros((), int),
        num_saved=jnp.ones((), int),
        stopped=jnp.zeros((), bool),
        saved=_put(empty, 0, first),
        saved_times=jnp.stack([times, jnp.full_like(times, jnp.nan).at[0].set(before)]),
        watched=watched,
        bracket=bracket,
        reported=jnp.zeros((), times.dtype),
    )
    if solver == SWITCHING:
        loop = jax.lax.while_loop(
            lambda loop: unfinished(loop) & (loop.num_stiff < _STIFF_STEPS),
            functools.partial(step, method="tsit5"),
            loop,
        )
        loop = loop._replace(memory=loop.slope)
    last = "rkl2" if solver == SWITCHING else solver
    loop = jax.lax.while_loop(unfinished, functools.partial(step, method=last), loop)
    if report:
        report_end(loop.reported)
    return {
        "observations": loop.saved,
        "crossings": crossing(loop.bracket, LEARNED),
        "num_steps": loop.num_steps,
        "num_saved": loop.num_saved,
        "stopped": loop.stopped,
        "times": loop.saved_times[0],
        "moved": loop.saved_times[0] != times,
        "log_times": loop.saved_times[1],
    }


SWITCHING = "switching"
"""`tsit5` up to where stability holds its steps back, `rkl2` from there on."""
_STIFF = 2.5  # of the 3.3 or so at which order 5 is no longer stable
_STIFF_STEPS = 100  # that is held back before the other method pays
_TIGHTER = 0.03  # tolerance of its steps: those of order 2 add up more
_TIGHTEST = (
    1e-3  # of those through hidden layers, whose margin outgrows any number within a finite tau
)
_ORDER = {"tsit5": 5, "dopri5": 5, "rkl2": 3}  # of a step's error


_solve = jax.jit(_solve_flow, static_argnums=(1, 2), compiler_options=OPTIONS)
_solve_batch = jax.jit(
    lambda flows, solver: jax.vmap(lambda flow: _solve_flow(flow, solver, False))(flows),
    static_argnums=1,
)


def _put(saved: dict[str, Array], i: Any, observed: dict[str, Any]) -> dict[str, Array]:
    return {
        name: jax.lax.dynamic_update_index_in_dim(values, observed[name], i, 0)
        for name, values in saved.items()
    }
