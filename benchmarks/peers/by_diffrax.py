"""`jax.vmap` of `diffrax.diffeqsolve`: the batch as one would first write it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

from ssm import Config, preparation, spectral
from ssm.dynamics.flow import Flow
from ssm.dynamics.parameters import Params


@jax.jit
def _batch(flows: Flow, times: Any, rtol: Any, atol: Any) -> Any:
    def solve(flow: Flow) -> Any:
        return diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, layers, field: field(Params(*layers))[:2]),
            diffrax.Tsit5(),
            times[0],
            times[-1],
            None,
            flow.params[:2],
            flow.field,
            saveat=diffrax.SaveAt(
                ts=times, fn=lambda t, layers, args: flow.observe(Params(*layers), t)
            ),
            stepsize_controller=diffrax.PIDController(rtol=rtol, atol=atol),
            max_steps=None,
        ).ys

    return jax.vmap(solve)(flows)


def batch(configs: Sequence[Config], rtol: float) -> list[np.ndarray]:
    """Block strengths over time of runs that differ in their seed."""
    runs = [preparation.prepare(config) for config in configs]
    flows = jax.tree.map(lambda *leaves: np.stack(leaves), *(run.flow for run in runs))
    with jax.enable_x64(True):
        times = jnp.asarray(flows.times[0])
        observed = jax.device_get(_batch(flows, times, rtol, rtol * configs[0].init_scale))
    found = []
    for i, run in enumerate(runs):
        own = {name: values[i] for name, values in observed.items()}
        strength = run.flow.observe.summarise(own)["strength"]
        found.append(spectral.block_means(strength, run.components.blocks))
    return found
