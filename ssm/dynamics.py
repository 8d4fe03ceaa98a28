"""Gradient flow of the small-scale model, observed inside the solve.

    dW/dt = -G H^T        dH/dt = -W^T G K        G = dL/dZ, column i: r_i dl/dz_i

It is given what to observe and knows nothing of what theory expects.
"""

from __future__ import annotations

from collections.abc import Callable
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


class Columns(NamedTuple):
    """What the flow needs to know of the feature columns."""

    labels: Int[Any, " m"]
    risk_weights: Float[Any, " m"]
    class_columns: Float[Any, "m k"]
    coupling: Float[Any, ""] | None
    """None where columns move alone: free features, and shared ones, whose columns are whole classes."""


class Trajectory(NamedTuple):
    """A run: what was observed at each time, and how the run ended. Unreached times hold NaN."""

    times: Float[np.ndarray, " t"]
    observations: dict[str, np.ndarray]
    status: str
    """`finished`, `out of steps`, `step too small` or `not finite`."""
    num_steps: int


def make_columns(problem: Problem) -> Columns:
    """The columns of a problem, as host arrays."""
    alone = problem.shared or problem.coupling == 0
    return Columns(
        labels=problem.labels,
        risk_weights=problem.risk_weights,
        class_columns=membership(problem.labels, len(problem.counts)),
        coupling=None if alone else problem.coupling,
    )


def vector_field(t: Any, params: Params, args: tuple[Columns, str]) -> Params:
    """(dW/dt, dH/dt) at `params`; `args` holds the columns and the name of the loss."""
    del t
    columns, loss = args
    W, H = params
    gradient = (
        losses.LOSSES[loss].logit_gradient(W @ H, columns.labels) * columns.risk_weights[None]
    )
    coupled = model.couple(gradient, columns.class_columns, columns.coupling)
    return Params(-gradient @ H.T, -W.T @ coupled)


def gradient_flow(
    params: Params,
    columns: Columns,
    loss: str,
    times: Float[np.ndarray, " t"],
    observe: Callable[[Params], dict[str, Any]],
    *,
    rtol: float,
    atol: float,
    solver: str = "tsit5",
    max_steps: int = 100_000,
    progress: Callable[[float], None] | None = None,
) -> Trajectory:
    """Follow the gradient flow from `params` through `times`, with error control, in the default JAX float type.

    A run that cannot go on is a result: its Trajectory has the status, and NaN from there on. Runs of one shape, loss and
    solver share one compilation; times and tolerances are arrays.

    Args:
        params: the start, W (k x d) and H (d x m).
        loss: `squared` or `cross_entropy`.
        times: ascending, flow time, the first the time of the start.
        observe: a pytree that maps Params to named arrays; called inside the solve at each time.
        rtol, atol: tolerances of one step.
        progress: called now and then with the share of the time done.
    """
    tolerances = (
        np.asarray(rtol),
        np.asarray(atol),
    )  # a Python float would compile anew for each value
    with np.errstate(over="ignore"):  # what float32 cannot hold makes a run that is not finite
        raw_times, observations, result, num_steps = jax.block_until_ready(
            _solve(params, columns, loss, times, observe, tolerances, solver, max_steps, progress)
        )
    reached = np.isfinite(raw_times)
    kept = {}
    for name, values in observations.items():
        values = np.array(values)
        values[~reached] = np.nan
        kept[name] = values
    if not all(np.isfinite(values[reached]).all() for values in kept.values()):
        status = NOT_FINITE
    elif result == diffrax.RESULTS.successful:
        status = FINISHED
    elif result == diffrax.RESULTS.max_steps_reached:
        status = OUT_OF_STEPS
    else:
        status = STEP_TOO_SMALL
    return Trajectory(np.asarray(times), kept, status, int(num_steps))


@eqx.filter_jit
def _solve(params, columns, loss, times, observe, tolerances, solver, max_steps, progress):
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
        args=(columns, loss),
        saveat=diffrax.SaveAt(ts=times, fn=lambda t, y, args: observe(y)),
        stepsize_controller=diffrax.PIDController(
            rtol=rtol, atol=atol, dtmin=span * jnp.finfo(times.dtype).eps / 16
        ),
        max_steps=max_steps,
        throw=False,
        progress_meter=_Progress(progress) if progress else diffrax.NoProgressMeter(),
    )
    return solution.ts, solution.ys, solution.result, solution.stats["num_steps"]


class _Progress(diffrax.AbstractProgressMeter):
    """Reports the share done to a Python function, at most a hundred times a run."""

    report: Callable[[float], None] = eqx.field(static=True)

    def init(self) -> Array:
        return jnp.array(0.0)

    def step(self, state: Array, progress: Array) -> Array:
        due = progress - state >= 0.01

        def tell(share: Array) -> Array:
            jax.debug.callback(self.report, share)
            return share

        return jax.lax.cond(due, tell, lambda share: state, jnp.asarray(progress, state.dtype))

    def close(self, state: Array) -> None:
        jax.debug.callback(self.report, jnp.maximum(state, 1))  # of `state`, so that it comes last
