"""What a run is asked while it is followed, by the flow or by steps, and what it has become."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jaxtyping import Float

from ssm.dynamics.parameters import Params

FINISHED, MARGIN_REACHED, OUT_OF_STEPS, STEP_TOO_SMALL, NOT_FINITE, NOT_LEARNED = (
    "finished",
    "margin reached",
    "out of steps",
    "step too small",
    "not finite",
    "not learned",
)
"""`not learned`: it went to its end, but something that was predicted to be learned by then was
not."""


# On a CPU small products are not worth spreading over cores, which other runs can use.
OPTIONS = {"xla_cpu_enable_concurrency_optimized_scheduler": False}


class Observe(Protocol):
    """What a run is asked, as a pytree, so that runs of one shape share a compilation."""

    def __call__(self, params: Params, time: Any) -> dict[str, Any]:
        """Named arrays, asked at every saved time."""
        ...

    def summarise(self, observed: dict[str, Any]) -> dict[str, Any]:
        """What is kept of them, asked of the host arrays of all times reached, time first."""
        ...

    def watch(self, params: Params) -> Any:
        """Series (s,) whose first crossing of `LEARNED` is timed, asked at every step."""
        ...


class Trajectory(NamedTuple):
    """A run: what was observed at each time, and how the run ended. Unreached times hold NaN."""

    times: Float[np.ndarray, " t"]
    """Those asked for; of a run that its margin ended, the last that was reached is its end."""
    log_times: Float[np.ndarray, " t"]
    """log of flow time at each of them, where the loss drives the clock; else NaN."""
    observations: dict[str, np.ndarray]
    crossings: Float[np.ndarray, " s"]
    """When each watched series first reached `LEARNED`, NaN where it did not."""
    status: str
    """`finished`, `margin reached`, `out of steps`, `step too small` or `not finite`."""
    num_steps: int


def in_one_batch(runs: Sequence[Any], solve: Callable[[Any], Any]) -> list[Any]:
    """What a batched `solve` makes of runs of one shape, on the host, run by run."""
    solved = jax.device_get(solve(jax.tree.map(lambda *leaves: np.stack(leaves), *runs)))
    return [jax.tree.map(lambda leaf, i=i: leaf[i], solved) for i in range(len(runs))]


def num_compilations() -> int:
    """How many times a run was compiled (or read from a cache on disk) in this process."""
    return len(_traced)


def count_compilation(name: str) -> None:
    """Called where a run is traced, which is once a compilation."""
    _traced.append(name)


_traced: list[str] = []


def finite_part(
    observe: Any, observed: dict[str, np.ndarray], num_reached: int
) -> tuple[dict[str, np.ndarray], int]:
    """What is kept of observations, NaN from the first that is not finite or was not reached on,
    and how many there are before it."""
    finite = np.logical_and.reduce(
        [
            np.isfinite(x[:num_reached]).reshape(num_reached, -1).all(axis=1)
            for x in observed.values()
        ]
    )
    good = int(np.logical_and.accumulate(finite).sum())
    num_times = len(next(iter(observed.values())))
    kept = observe.summarise({name: values[:good] for name, values in observed.items()})
    for name, values in kept.items():
        missing = np.full((num_times - good, *values.shape[1:]), np.nan, values.dtype)
        kept[name] = np.concatenate([values, missing])
    return kept, good


def up_to(crossings: Any, reached: Float[np.ndarray, " t"]) -> Float[np.ndarray, " s"]:
    """Crossings but those after the last time that was reached."""
    last = reached[-1] if len(reached) else -np.inf
    return np.where(np.asarray(crossings) <= last, crossings, np.nan)
