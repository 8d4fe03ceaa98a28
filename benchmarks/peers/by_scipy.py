"""`scipy.integrate.solve_ivp`, dense output at the saved times."""

from __future__ import annotations

import functools

import numpy as np

from benchmarks.peers.numpy_model import NumpyModel
from ssm import Config


def solve(config: Config, rtol: float, method: str) -> np.ndarray:
    """Block strengths over time by one of scipy's methods."""
    from scipy.integrate import solve_ivp

    made = NumpyModel(config)
    solution = solve_ivp(
        made.field,
        made.times[[0, -1]],
        made.start,
        method=method,
        t_eval=made.times,
        rtol=rtol,
        atol=rtol * config.init_scale,
    )
    return made.observe(*made.split(solution.y.T))["block_strength"]


rk45 = functools.partial(solve, method="RK45")
lsoda = functools.partial(solve, method="LSODA")


def reference(config: Config) -> np.ndarray:
    """The run at the tightest accuracy that is worth its time."""
    return solve(config, 1e-11, "DOP853")
