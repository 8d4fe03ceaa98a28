"""Gradient flow of the small-scale model, observed inside the solve.

    dW/dt = -G H^T        dH/dt = -W^T G K        G = dL/dZ, column i: r_i dl/dz_i

It is given what to observe and knows nothing of what theory expects.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ssm import losses, model
from ssm.model import Params
from ssm.problem import Problem, membership

SOLVERS = {"tsit5": diffrax.Tsit5, "dopri5": diffrax.Dopri5, "dopri8": diffrax.Dopri8}

FINISHED, OUT_OF_STEPS, STEP_TOO_SMALL, NOT_FINITE = (
    "finished",
    "out of steps",
    "step too small",
    "not finite",
)


class Columns(eqx.Module):
    """What the flow needs to know of the feature columns and their loss."""

    labels: Int[Any, " m"]
    risk_weights: Float[Any, " m"]
    class_columns: Float[Any, "m k"]
    coupling: Float[Any, ""] | None
    """None where columns move alone: free features, and shared ones, whose columns are whole
    classes."""
    loss: str = eqx.field(static=True)
    """`squared` or `cross_entropy`."""


class Trajectory(NamedTuple):
    """A run: what was observed at each time, and how the run ended. Unreached times hold NaN."""

    times: Float[np.ndarray, " t"]
    observations: dict[str, np.ndarray]
    status: str
    """`finished`, `out of steps`, `step too small` or `not finite`."""
    num_steps: int


def make_columns(problem: Problem, loss: str) -> Columns:
    """The columns of a problem, as host arrays."""
    alone = problem.shared or problem.coupling == 0
    return Columns(
        labels=problem.labels,
        risk_weights=problem.risk_weights,
        class_columns=membership(problem.labels, len(problem.counts)),
        coupling=None if alone else problem.coupling,
        loss=loss,
    )


def vector_field(t: Any, params: Params, columns: Columns) -> Params:
    """(dW/dt, dH/dt) at `params`."""
    del t
    W, H = params
    gradient = (
        losses.LOSSES[columns.loss].logit_gradient(W @ H, columns.labels)
        * columns.risk_weights[None]
    )
    coupled = model.couple(gradient, columns.class_columns, columns.coupling)
    return Params(-gradient @ H.T, -W.T @ coupled)


def gradient_flow(
    params: Params,
    columns: Columns,
    times: Float[np.ndarray, " t"],
    observe: Callable[[Params], dict[str, Any]],
    *,
    rtol: float,
    atol: float,
    solver: str = "tsit5",
    max_steps: int = 100_000,
    progress: Callable[[float], None] | None = None,
) -> Trajectory:
    """Follow the gradient flow from `params` through `times`, with error control, in the default
    JAX float type.

    A run that cannot go on is a result: its Trajectory has the status, and NaN from there on. Runs
    of one shape, loss and solver share one compilation; times and tolerances are arrays.

    Args:
        params: the start, W (k x d) and H (d x m).
        times: ascending, flow time, the first the time of the start.
        observe: a pytree that maps Params to named arrays; called inside the solve at each time.
        rtol, atol: tolerances of one step.
        progress: called now and then with the share of the time done.
    """
    # arrays, since a Python float would compile anew for each value
    tolerances = np.asarray(rtol), np.asarray(atol)
    # what float32 cannot hold makes a run that is not finite, which is said in its status
    with _reporting_to(progress), np.errstate(over="ignore"):
        raw_times, observations, result, num_steps = jax.block_until_ready(
            _solve(params, columns, times, observe, tolerances, solver, max_steps, bool(progress))
        )
    kept = {name: np.array(values) for name, values in observations.items()}
    reached = np.isfinite(raw_times)
    finite = np.logical_and.reduce(
        [np.isfinite(values).reshape(len(values), -1).all(axis=1) for values in kept.values()]
    )
    for values in kept.values():
        values[~np.logical_and.accumulate(reached & finite)] = np.nan
    if not finite[reached].all():
        status = NOT_FINITE
    elif result == diffrax.RESULTS.successful:
        status = FINISHED
    elif result == diffrax.RESULTS.max_steps_reached:
        status = OUT_OF_STEPS
    else:
        status = STEP_TOO_SMALL
    return Trajectory(np.asarray(times), kept, status, int(num_steps))


@eqx.filter_jit
def _solve(params, columns, times, observe, tolerances, solver, max_steps, progress):
    params, columns, times = jax.tree.map(jnp.asarray, (params, columns, times))
    rtol, atol = (jnp.asarray(x, times.dtype) for x in tolerances)
    span = times[-1] - times[0]
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(vector_field),
        SOLVERS[solver](),
        t0=times[0],
        t1=times[-1],
        dt0=None,
        y0=params,
        args=columns,
        saveat=diffrax.SaveAt(ts=times, fn=lambda t, y, args: observe(y)),
        stepsize_controller=diffrax.PIDController(
            rtol=rtol, atol=atol, dtmin=span * jnp.finfo(times.dtype).eps / 16
        ),
        max_steps=max_steps,
        throw=False,
        progress_meter=_Progress() if progress else diffrax.NoProgressMeter(),
    )
    return solution.ts, solution.ys, solution.result, solution.stats["num_steps"]


# Who listens is looked up when a report comes: as a part of the compiled run each listener would
# compile it anew.
_listeners: list[Callable[[float], None]] = []


def _report(share: Any) -> None:
    for listener in _listeners:
        listener(float(share))


@contextlib.contextmanager
def _reporting_to(listener: Callable[[float], None] | None) -> Iterator[None]:
    if listener is None:
        yield
        return
    _listeners.append(listener)
    try:
        yield
        jax.effects_barrier()
    finally:
        _listeners.remove(listener)


class _Progress(diffrax.AbstractProgressMeter):
    """Reports the share done, at most a hundred times a run."""

    def init(self) -> Array:
        return jnp.array(0.0)

    def step(self, state: Array, progress: Array) -> Array:
        due = progress - state >= 0.01

        def tell(share: Array) -> Array:
            jax.debug.callback(_report, share)
            return share

        return jax.lax.cond(due, tell, lambda share: state, jnp.asarray(progress, state.dtype))

    def close(self, state: Array) -> None:
        jax.debug.callback(_report, jnp.maximum(state, 1))  # of `state`, so that it comes last
