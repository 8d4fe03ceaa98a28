"""What a machine cannot do without: the field evaluations of a run, the observations at its saved
times with their singular values, and the bytes that are moved."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ssm import losses
from ssm.dynamics.columns import Columns
from ssm.dynamics.parameters import Params
from ssm.dynamics.recording import nothing_observed, put
from ssm.dynamics.runge_kutta import PAIRS
from ssm.dynamics.vector_field import Field
from ssm.measures import spectral


def num_evaluations(steps: int, solver: str = "tsit5") -> int:
    """Field evaluations of a run: one a stage of each step, the last being the next step's first,
    and two to begin with."""
    return len(PAIRS[solver].stages) * steps + 2


@jax.jit
def _repeat(params: Params, columns: Columns, times: Any, nothing: Any) -> Params:
    def once(_: Any, carry: tuple[Any, Params]) -> tuple[Any, Params]:
        W, _ = carry
        rate = Field(columns)(Params(W, params.H))
        # without a use of its result for the next an evaluation could be left out
        return W + nothing * rate.W, rate

    return jax.lax.fori_loop(0, times, once, (params.W, params))[1]


@jax.jit
def _observe_each(observe: Any, params: Params, times: Any, nothing: Any) -> dict[str, Any]:
    def once(i: Any, carry: tuple[Params, dict[str, Any]]) -> tuple[Params, dict[str, Any]]:
        params, observed = carry
        found = observe(params, times[i])
        return params._replace(W=params.W + nothing * found["loss"]), put(observed, i, found)

    empty = nothing_observed(observe, params, times)
    return jax.lax.fori_loop(0, len(times), once, (params, empty))[1]


def bare_work(flow: Any, steps: int) -> None:
    """The work of a run and nothing else: as many field evaluations as so many steps take, the
    observations at all saved times, and the singular values of the logits there, at one state."""
    with jax.enable_x64(True):
        columns = flow.field.columns
        jax.block_until_ready(bare_field(flow.params, columns, num_evaluations(steps)))
        asked = jax.tree.map(jnp.asarray, (flow.observe, flow.params, flow.times))
        observed = jax.device_get(_observe_each(*asked, np.asarray(0.0)))
    spectral.singular_values(observed["gram"])


def bare_field(params: Params, columns: Columns, times: int) -> Params:
    """Evaluate the field `times` times in one compiled loop, at one state."""
    params, columns = jax.tree.map(jnp.asarray, (params, columns))
    return _repeat(params, columns, np.asarray(times), np.asarray(0.0))


@functools.partial(jax.jit, static_argnums=4)
def _repeat_in_blocks(
    params: Params, columns: Columns, times: Any, nothing: Any, block: int
) -> Any:
    size = params.H.shape[1] // block * block

    def once(_: Any, carry: tuple[Any, Any]) -> tuple[Any, Any]:
        W, rate = carry
        transposed = jax.lax.optimization_barrier(-W.T)

        def part(i: Any, rates: tuple[Any, Any]) -> tuple[Any, Any]:
            def cut(x: Any) -> Any:
                return jax.lax.dynamic_slice_in_dim(x, i * block, block, x.ndim - 1)

            h, labels, risk_weights = map(cut, (params.H, columns.labels, columns.risk_weights))
            G = losses.cross_entropy_gradient(W @ h, labels) * risk_weights[None]
            put = jax.lax.dynamic_update_slice_in_dim(rates[1], transposed @ G, i * block, 1)
            return rates[0] - G @ h.T, put

        slope, rate = jax.lax.fori_loop(0, size // block, part, (jnp.zeros_like(W), rate))
        return W + nothing * slope, rate

    return jax.lax.fori_loop(0, times, once, (params.W, params.H))[1]


def bare_field_in_blocks(params: Params, columns: Columns, times: int, block: int) -> Any:
    """The same for free samples under cross-entropy, so many columns at a time that they stay in
    the cache; what is left over beyond whole blocks is left out."""
    params, columns = jax.tree.map(jnp.asarray, (params, columns))
    return _repeat_in_blocks(params, columns, np.asarray(times), np.asarray(0.0), block)


def copies_moved(steps: int, saves: int, solver: str = "tsit5") -> int:
    """Copies of the state read or written by a run of an explicit Runge-Kutta pair, if nothing but
    the state and the slopes of its stages is ever put into memory.

    A stage reads the state and the slopes it weighs, and writes its own; the last one writes the
    new state too and forms the error of slopes that it has read. A save reads the state and all slopes.
    """
    pair = PAIRS[solver]
    stages = sum(1 + np.count_nonzero(weights) + 1 for weights in pair.stages)
    error = np.count_nonzero(pair.error[:-1]) - np.count_nonzero(pair.stages[-1])
    return int(steps * (stages + 1 + max(error, 0)) + saves * (1 + len(pair.error)))
