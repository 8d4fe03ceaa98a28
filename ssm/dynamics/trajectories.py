"""What a run is followed from, by the flow or by steps, what it is asked on the way, and what it has
become."""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float

from ssm.dynamics.callbacks import reporting_to
from ssm.dynamics.parameters import Params
from ssm.dynamics.statuses import Status
from ssm.dynamics.vector_field import Field

# On a CPU small products are not worth spreading over cores, which other runs can use.
OPTIONS = {"xla_cpu_enable_concurrency_optimized_scheduler": False}


@runtime_checkable
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
    clocks: dict[str, np.ndarray]
    """The same times by other clocks: `log_time`, the logarithm of flow time, where the loss drives
    the clock; `cumulative_rate`, the sum of the learning rates so far, of an optimiser."""
    observations: dict[str, np.ndarray]
    crossings: Float[np.ndarray, " s"]
    """When each watched series first reached `LEARNED`, NaN where it did not."""
    status: Status
    """How the run ended. Whether all was learned that was predicted to be is not seen here."""
    num_steps: int


class Dynamics(eqx.Module):
    """A law of motion with a start: a gradient flow, or the steps of an optimiser. Runs of one shape
    share one compilation."""

    params: Params
    """The start: W (k x d), H (d x m) and the hidden layers."""
    field: Field
    observe: Any
    """An `Observe`."""

    @abc.abstractmethod
    def solve(self, report: bool) -> dict[str, Any]:
        """The whole run, traced once a compilation: arrays from which `trajectory` is made.

        Args:
            report: whether the share that is done is reported while the run goes on.
        """

    @abc.abstractmethod
    def trajectory(self, solved: dict[str, Any]) -> Trajectory:
        """What a solve found, as host arrays, made into a Trajectory with its status."""

    def follow(self, progress: Callable[[float], None] | None = None) -> Trajectory:
        """The run to its end, in the default JAX float type.

        Args:
            progress: called now and then with the share of the run that is done.
        """
        # What float32 cannot hold makes a run that is not finite, which its status says.
        with reporting_to(progress), np.errstate(over="ignore"):
            return self.trajectory(jax.device_get(_solve(self, progress is not None)))


def follow_in_one_batch(runs: Sequence[Dynamics]) -> list[Trajectory]:
    """Runs of one shape to their ends, in one batch, for accelerators, which one run cannot fill.

    On a CPU batched loops are slower than one run after the other.
    """
    with np.errstate(over="ignore"):
        batch = jax.tree.map(lambda *leaves: np.stack(leaves), *runs)
        solved = jax.device_get(_solve_batch(batch))
        return [
            run.trajectory(jax.tree.map(lambda leaf, i=i: leaf[i], solved))
            for i, run in enumerate(runs)
        ]


@functools.partial(jax.jit, static_argnums=1, compiler_options=OPTIONS)
def _solve(run: Dynamics, report: bool) -> dict[str, Any]:
    return run.solve(report)


@jax.jit
def _solve_batch(runs: Dynamics) -> dict[str, Any]:
    return jax.vmap(lambda run: run.solve(report=False))(runs)


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
