"""Gradient flow of the small-scale model, observed inside the solve.

    dW/dt = -G H^T        dH/dt = -W^T G K        G = dL/dZ, column j: r_j dl/dz_j

An explicit Runge-Kutta pair with error control (Hairer, Norsett, Wanner 1993, II.4), its stages
unrolled into one compiled loop that watches every step, so that learning times need no second run,
and that can keep the slopes of many columns in factors. It is given what to observe and knows
nothing of what theory expects.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ssm import model
from ssm.columns import BLOCK, Columns
from ssm.model import Params
from ssm.reporting import report_end, report_share, reporting_to
from ssm.runge_kutta import PAIRS, crossing, first_step, weighted_sum
from ssm.spectral import LEARNED

FINISHED, OUT_OF_STEPS, STEP_TOO_SMALL, NOT_FINITE = (
    "finished",
    "out of steps",
    "step too small",
    "not finite",
)


class Observe(Protocol):
    """What a run is asked, as a pytree, so that runs of one shape share a compilation."""

    def __call__(self, params: Params) -> dict[str, Any]:
        """Named arrays, asked at every saved time."""
        ...

    def summarise(self, observed: dict[str, Any]) -> dict[str, Any]:
        """What is kept of them, asked of the host arrays of all times reached, time first."""
        ...

    def watch(self, params: Params) -> Any:
        """Series (s,) whose first crossing of `LEARNED` is timed, asked at every step."""
        ...


class Flow(NamedTuple):
    """One solve: all that its compiled loop is given. Arrays throughout; a Python number would
    compile anew for each value."""

    params: Params
    """The start, W (k x d) and H (d x m)."""
    columns: Columns
    observe: Any
    """An `Observe`."""
    times: Float[Any, " t"]
    """Ascending, flow time, the first the time of the start."""
    rtol: Any
    atol: Any
    """Tolerances of one step."""
    max_steps: Any


class Trajectory(NamedTuple):
    """A run: what was observed at each time, and how the run ended. Unreached times hold NaN."""

    times: Float[np.ndarray, " t"]
    observations: dict[str, np.ndarray]
    crossings: Float[np.ndarray, " s"]
    """When each watched series first reached `LEARNED`, NaN where it did not."""
    status: str
    """`finished`, `out of steps`, `step too small` or `not finite`."""
    num_steps: int


def vector_field(params: Params, columns: Columns) -> Params:
    """(dW/dt, dH/dt) at `params`."""
    slope = _slope(params, columns)
    return Params(slope.W, slope.left @ slope.right)


class _Slope(NamedTuple):
    """dW/dt, and dH/dt = left right in factors: d x k and k x m."""

    W: Array
    left: Array
    right: Array


def _slope(params: Params, columns: Columns) -> _Slope:
    W, H = params
    # a transposed left factor would be multiplied at half the speed, on a CPU
    left = jax.lax.optimization_barrier(-W.T)
    if not columns.many:
        gradient = columns.logit_gradient(W @ H) * columns.risk_weights[None]
        return _Slope(-(gradient @ H.T), left, model.couple(gradient, columns))

    def add(i: Any, so_far: tuple[Array, Array]) -> tuple[Array, Array]:
        part, features = columns.block(i, H)
        gradient = part.logit_gradient(W @ features) * part.risk_weights[None]
        right = jax.lax.dynamic_update_slice_in_dim(so_far[1], gradient, i * BLOCK, 1)
        return so_far[0] - gradient @ features.T, right

    nothing = jnp.zeros_like(W), jnp.zeros((W.shape[0], H.shape[1]), H.dtype)
    slope, right = jax.lax.fori_loop(0, H.shape[1] // BLOCK, add, nothing)
    return _Slope(slope, left, right)


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
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *flows)
        solved = jax.device_get(_solve_batch(stacked, solver))
    return [
        _trajectory(flow, jax.tree.map(lambda leaf, i=i: leaf[i], solved))
        for i, flow in enumerate(flows)
    ]


def num_compilations() -> int:
    """How many times a flow was compiled (or read from a cache on disk) in this process."""
    return len(_traced)


_traced: list[str] = []  # a solver's name each time a solve is traced, once a compilation


def _trajectory(flow: Flow, solved: dict[str, Any]) -> Trajectory:
    """A solve as a Trajectory, its status read off."""
    observed = solved["observations"]
    num_reached, num_times = int(solved["num_saved"]), len(flow.times)
    finite = np.logical_and.reduce(
        [
            np.isfinite(x[:num_reached]).reshape(num_reached, -1).all(axis=1)
            for x in observed.values()
        ]
    )
    if not finite.all():
        status = NOT_FINITE
    elif num_reached == num_times:
        status = FINISHED
    elif solved["num_steps"] >= flow.max_steps:
        status = OUT_OF_STEPS
    else:
        status = STEP_TOO_SMALL
    good = int(np.logical_and.accumulate(finite).sum())
    kept = flow.observe.summarise({name: values[:good] for name, values in observed.items()})
    for name, values in kept.items():
        missing = np.full((num_times - good, *values.shape[1:]), np.nan, values.dtype)
        kept[name] = np.concatenate([values, missing])
    crossings = np.array(solved["crossings"])
    return Trajectory(np.asarray(flow.times), kept, crossings, status, int(solved["num_steps"]))


class _Loop(NamedTuple):
    """What one step hands to the next."""

    time: Array
    params: Params
    slope: Any
    step: Array
    """Length of the next step."""
    num_steps: Array
    num_saved: Array
    saved: dict[str, Array]
    watched: Array
    bracket: Array
    """(6, s): for each watched series the step it crossed in: start, length, values, slopes."""
    reported: Array


def _solve_flow(flow: Flow, solver: str, report: bool) -> dict[str, Any]:
    """The whole solve, one loop over steps."""
    _traced.append(solver)
    flow = jax.tree.map(jnp.asarray, flow)
    times, observe = flow.times, flow.observe
    pair = jax.tree.map(lambda x: np.asarray(x, times.dtype), PAIRS[solver])
    real = (flow.columns.multiplicity > 0).astype(times.dtype)
    start, end = times[0], times[-1]
    smallest = (end - start) * jnp.finfo(times.dtype).eps / 16

    def field(params: Params) -> Any:
        # factors of the slopes of many columns take a fraction of their room
        return (_slope if flow.columns.many else vector_field)(params, flow.columns)

    def whole(slope: Any) -> Params:
        return Params(slope.W, slope.left @ slope.right) if flow.columns.many else slope

    def size(x: Params, scale: Params) -> Array:
        """Root mean square of x over its tolerance, padding left out."""
        W, H = jax.tree.map(lambda a, s: (a / s) ** 2, x, scale)
        return jnp.sqrt((W.sum() + (H.sum(0) * real).sum()) / (W.size + H.shape[0] * real.sum()))

    def tolerance(*params: Params) -> Params:
        return jax.tree.map(
            lambda *x: flow.atol + flow.rtol * functools.reduce(jnp.maximum, map(jnp.abs, x)),
            *params,
        )

    def advance(params: Params, slopes: Sequence[Any], weights: Any) -> Params:
        if not flow.columns.many:
            return jax.tree.map(lambda y, *k: weighted_sum(y, k, weights), params, *slopes)
        lefts = jnp.hstack([weights[i] * slope.left for i, slope in enumerate(slopes)])
        rights = jnp.vstack([slope.right for slope in slopes])
        W = weighted_sum(params.W, [slope.W for slope in slopes], weights)
        return Params(W, params.H + lefts @ rights)

    def unfinished(loop: _Loop) -> Array:
        return (
            (loop.num_saved < len(times))
            & (loop.num_steps < flow.max_steps)
            & (loop.step >= smallest)
        )

    def step(loop: _Loop) -> _Loop:
        last = loop.step >= end - loop.time
        length = jnp.where(last, end - loop.time, loop.step)
        slopes, params = [loop.slope], loop.params
        for weights in pair.stages:
            params = advance(loop.params, slopes, [length * weight for weight in weights])
            slopes.append(field(params))
        zero = jax.tree.map(jnp.zeros_like, loop.params)
        error = advance(zero, slopes, [length * weight for weight in pair.error])
        error = size(error, tolerance(loop.params, params))
        error = jnp.where(jnp.isfinite(error), error, jnp.inf)
        accepted = error < 1
        growth = 0.9 * jnp.maximum(error, 1e-10) ** -0.2
        growth = jnp.clip(growth, jnp.where(accepted, 1.0, 0.2), 10.0)
        time = jnp.where(last, end, loop.time + length)

        def due(carry: tuple[Array, Any]) -> Array:
            here = times[jnp.minimum(carry[0], len(times) - 1)]
            return accepted & (carry[0] < len(times)) & (here <= time)

        def save(carry: tuple[Array, Any]) -> tuple[Array, Any]:
            i, saved = carry
            share = (times[i] - loop.time) / length
            first, second, third, fourth = pair.dense
            weights = first + share * (second + share * (third + share * fourth))
            inside = advance(loop.params, slopes, length * share * weights)
            return i + 1, _put(saved, i, observe(inside))

        num_saved, saved = jax.lax.while_loop(due, save, (loop.num_saved, loop.saved))
        watched = observe.watch(params)
        crossed = accepted & (watched >= LEARNED) & ~(loop.bracket[1] >= 0)

        def bracket(old: Array) -> Array:
            def rate(params: Params, slope: Any) -> Array:
                return jax.jvp(observe.watch, (params,), (whole(slope),))[1]

            ends = [loop.watched, watched, rate(loop.params, slopes[0]), rate(params, slopes[-1])]
            now = jnp.stack([jnp.full_like(watched, x) for x in (loop.time, length)] + ends)
            return jnp.where(crossed[None], now, old)

        def kept(new: Any, old: Any) -> Any:
            return jax.tree.map(lambda a, b: jnp.where(accepted, a, b), new, old)

        return _Loop(
            time=kept(time, loop.time),
            params=kept(params, loop.params),
            slope=kept(slopes[-1], loop.slope),
            step=length * growth,
            num_steps=loop.num_steps + 1,
            num_saved=num_saved,
            saved=saved,
            watched=kept(watched, loop.watched),
            bracket=jax.lax.cond(crossed.any(), bracket, lambda old: old, loop.bracket),
            reported=report_share(loop.reported, (time - start) / (end - start), report),
        )

    params = flow.params
    slope, first, watched = field(params), observe(params), observe.watch(params)
    empty = {
        name: jnp.full((len(times), *x.shape), jnp.nan, jnp.result_type(x, times.dtype))
        for name, x in first.items()
    }
    # what is there at the start is crossed at once: a step of length 0
    there = jnp.where(watched >= LEARNED, 0.0, jnp.nan)
    bracket = jnp.stack([start + there, *[there] * 5])
    loop = jax.lax.while_loop(
        unfinished,
        step,
        _Loop(
            time=start,
            params=params,
            slope=slope,
            step=jnp.minimum(
                first_step(
                    lambda y: whole(field(y)), params, whole(slope), tolerance(params), size
                ),
                end - start,
            ),
            num_steps=jnp.zeros((), int),
            num_saved=jnp.ones((), int),
            saved=_put(empty, 0, first),
            watched=watched,
            bracket=bracket,
            reported=jnp.zeros((), times.dtype),
        ),
    )
    if report:
        report_end(loop.reported)
    return {
        "observations": loop.saved,
        "crossings": crossing(loop.bracket, LEARNED),
        "num_steps": loop.num_steps,
        "num_saved": loop.num_saved,
    }


# On a CPU small products are not worth spreading over cores, which other runs can use.
_OPTIONS = {"xla_cpu_enable_concurrency_optimized_scheduler": False}
_solve = jax.jit(_solve_flow, static_argnums=(1, 2), compiler_options=_OPTIONS)
_solve_batch = jax.jit(
    lambda flows, solver: jax.vmap(lambda flow: _solve_flow(flow, solver, False))(flows),
    static_argnums=1,
)


def _put(saved: dict[str, Array], i: Any, observed: dict[str, Any]) -> dict[str, Array]:
    return {
        name: jax.lax.dynamic_update_index_in_dim(values, observed[name], i, 0)
        for name, values in saved.items()
    }
