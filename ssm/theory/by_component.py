"""How long a run takes whose samples are not all alike within a class, as where they are taught distributions or
have groups: from the rates at which components grow."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from ssm.config import Config
from ssm.problem import Problem
from ssm.theory import exact, growth

SLOWEST = 0.05
"""The least rate, over that of the fastest component, at which a component is waited for: targets may have
components that are as good as absent, whose learning would take for ever."""


def _growth_rates(problem: Problem) -> Float[np.ndarray, " r"]:
    """Those of a problem of which they are known, largest first."""
    assert problem.growth_rates is not None  # as `samples.with_growth_rates` has seen to
    return problem.growth_rates


def settling_rate(config: Config, problem: Problem) -> float:
    """How fast the fastest component settles on its target, L r s^(1 - 2/L) with L layers and s = n r the size of its
    target, per unit of flow time."""
    rate, depth = float(_growth_rates(problem)[0]), config.depth
    return depth * rate * (rate * problem.counts.sum()) ** (1 - 2 / depth)


def length(config: Config, problem: Problem) -> float:
    """A length of a run in which, from a small start, every component is learned that grows at `SLOWEST` of the
    fastest rate at least, in flow time: max_j t_j + 4 / r_j, with t_j the learning time of a component of rate r_j
    and target n r_j by itself. At other depths than 2 it is the time to 98 % of the target under the squared
    loss. Decay adds 20 over the least of it, and deferred weights the time until they act.

    Source: derived for this project.
    """
    rates = _growth_rates(problem)
    rates = rates[rates >= SLOWEST * rates[0]]
    targets = rates * problem.counts.sum()
    size = (
        config.init_scale**2
        if config.init == "spectral"
        else config.init_scale**2 * config.feature_dim / 2
    )
    if config.depth == 2:
        k = len(problem.counts)
        times = (
            growth.learning_time(rates, np.minimum(size / targets, 0.5), config.loss, k) + 4 / rates
        )
    else:
        start = size ** (config.depth / 2)
        times = exact.deep_learning_time(rates, start, targets, config.depth, 1.0, 0.98)
        times = times * (3 if config.depth > 2 and config.init != "spectral" else 1)
    decays = [decay for decay in (config.weight_decay, config.feature_decay) if decay > 0]
    settled = 20 / min(decays) if decays else 0.0
    waiting = 0.0 if config.weight_start is None else config.weight_start + config.weight_ramp
    return float(times.max() + settled + min(waiting, times.max()))
