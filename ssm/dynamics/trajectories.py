"""What a run is followed from, by the flow or by steps, what it is asked on the way, and what it has
become."""

from __future__ import annotations

import abc
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ssm.dynamics.observables import OWN
from ssm.dynamics.parameters import Params
from ssm.dynamics.statuses import Status
from ssm.dynamics.vector_field import Field
from ssm.support import interrupts

# On a CPU small products are not worth spreading over cores, which other runs can use.
OPTIONS = {"xla_cpu_enable_concurrency_optimized_scheduler": False}
ALL = 2**31 - 1
"""More steps than any run has."""
ALMOST_ALL = 0.999
"""The largest share of a run that has not ended."""
PIECE = 0.3
"""Seconds of a run between two reports."""
FIRST_PIECE, MOST_AT_ONCE = 2e8, 10_000
"""Multiplications of one product W H in all steps before the first report, about a second, and the most
of these steps: most runs then end in one piece, and need nothing compiled but what they need without."""


@runtime_checkable
class Observe(Protocol):
    """What a run is asked, as a pytree, so that runs of one shape share a compilation."""

    def __call__(self, params: Params, time: Any) -> dict[str, Any]:
        """Named arrays, asked at every saved time."""
        ...

    def summarise(self, observed: dict[str, Any]) -> dict[str, Any]:
        """What is kept of them, asked of the host arrays of all times reached, time first."""
        ...

    def watch(self, class_sums: Any) -> Any:
        """Series (s,) whose first crossing of `LEARNED` is timed, asked at every step of the class sums of
        the logits (k x k)."""
        ...


class Last(NamedTuple):
    """Where a run has come to, from which another can go on."""

    params: Params
    """As they are followed, padding included."""
    memory: Any = ()
    """What an optimiser remembers, a pytree."""
    weighting: Any = ()
    """The state of a schedule of class weights, a pytree."""


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
    last: Last | None = None
    """Its end; None where states are not kept."""


class Observed(NamedTuple):
    """What is known of a run at its times."""

    values: dict[str, np.ndarray]
    """Named arrays, each with all times first."""
    number: int
    """How many of the times are known, from the first on."""


class Dynamics(eqx.Module):
    """A law of motion with a start: a gradient flow, or the steps of an optimiser. Runs of one shape
    share one compilation."""

    params: Params
    """The start: W (k x d), H (d x m) and the hidden layers."""
    field: Field
    observe: Any
    """An `Observe`."""

    @abc.abstractmethod
    def begin(self) -> Any:
        """The run at its start, a pytree; traced once a compilation, as the next three are."""

    @abc.abstractmethod
    def advance(self, loop: Any, until: Any) -> Any:
        """The run followed on to its end, or at least to so many steps from its start. Where it is
        cut does not change its numbers."""

    @abc.abstractmethod
    def crossings(self, loop: Any) -> Any:
        """When each watched series first reached `LEARNED`, NaN where it did not: shape (s,)."""

    @abc.abstractmethod
    def share(self, loop: Any) -> Any:
        """The share of the run that is done; 1 where it has ended."""

    @abc.abstractmethod
    def kept(self, loop: Any) -> Any:
        """The part of a run that has ended that `trajectory` needs."""

    @abc.abstractmethod
    def observed(self, kept: Any) -> Observed:
        """What was observed up to the last time that was reached, in that part as host arrays."""

    @abc.abstractmethod
    def trajectory(self, kept: Any, crossings: Any, variables: Observed) -> Trajectory:
        """A Trajectory with its status.

        Args:
            kept: the part of the run that was kept, as host arrays.
            crossings: when each watched series was learned, shape (s,).
            variables: those made of what was observed.
        """

    def follow(self, progress: Callable[[float], None] | None = None) -> Trajectory:
        """The run to its end, or to where Ctrl-C ends it, in the default JAX float type.

        Args:
            progress: called now and then with the share of the run that is done.
        """
        with interrupts.noticed() as pressed:
            found = self.found(progress, pressed)
        return trajectories([self], [found])[0]

    def compile_program(self) -> None:
        """Have the program of the run compiled, by a run of no step."""
        with np.errstate(over="ignore"):
            _solve(self, 0)

    def found(
        self,
        progress: Callable[[float], None] | None = None,
        stopped: Callable[[], bool] | None = None,
    ) -> tuple[Any, np.ndarray]:
        """What is kept of the run at its end, and its crossings, as host arrays, in the default JAX
        float type. Where `stopped` says so between two pieces it ends there."""
        # What float32 cannot hold makes a run that is not finite, which its status says.
        with np.errstate(over="ignore"):
            loop, crossings = self._end(progress, stopped)
            return jax.device_get((self.kept(loop), crossings))

    def _end(
        self, progress: Callable[[float], None] | None, stopped: Callable[[], bool] | None
    ) -> tuple[Any, Any]:
        """The run at its end, and its crossings; reported on between pieces of about `PIECE` seconds.

        A report from within a compiled loop would keep it from being stored on disk.
        """
        if progress is None and stopped is None:
            return _solve(self, ALL)[:2]
        k, size = len(self.params.W), self.params.W.size + self.params.H.size
        behind = number = int(np.clip(FIRST_PIECE // (k * size), 1, MOST_AT_ONCE))
        loop, crossings, share = _solve(self, behind)
        while (done := float(share)) < 1:
            if stopped is not None and stopped():
                return loop, crossings
            if progress is not None:
                progress(done)
            begun = time.perf_counter()
            behind += number
            loop, crossings, share = jax.block_until_ready(_resume(self, loop, behind))
            number = max(int(number * min(PIECE / (time.perf_counter() - begun), 4)), 1)
        if progress is not None:
            progress(1.0)
        return loop, crossings


def found_in_one_batch(runs: Sequence[Dynamics]) -> list[tuple[Any, np.ndarray]]:
    """What is `Dynamics.found` of runs of one shape, followed in one batch, for accelerators, which one
    run cannot fill.

    On a CPU batched loops are slower than one run after the other.
    """
    with np.errstate(over="ignore"):
        found = jax.device_get(solve_batch(stacked(runs)))
    leaves, structure = jax.tree.flatten(found)
    return [structure.unflatten([leaf[i] for leaf in leaves]) for i in range(len(runs))]


def stacked(runs: Sequence[Dynamics]) -> Dynamics:
    """Runs of one shape as one, whose every array has an axis of runs first."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *runs)


def trajectories(
    runs: Sequence[Dynamics], found: Sequence[tuple[Any, np.ndarray]]
) -> list[Trajectory]:
    """Runs that differ in their starts only, from what each found: what was observed of all of them is
    made into variables at once."""
    observed = [run.observed(kept) for run, (kept, _) in zip(runs, found, strict=True)]
    with np.errstate(over="ignore"):
        parts = _finite_parts(runs[0].observe, observed)
        return [
            run.trajectory(kept, crossings, part)
            for run, (kept, crossings), part in zip(runs, found, parts, strict=True)
        ]


def _whole_products() -> Any:
    """A context in which products have the precision of their factors. Accelerators otherwise round those of float32
    to 10 bits, three digits, where the error of a step is asked to be a millionth: a hundred times as many steps."""
    return jax.default_matmul_precision("highest")


@functools.partial(jax.jit, compiler_options=OPTIONS)
def _solve(run: Dynamics, until: Any) -> tuple[Any, Any, Any]:
    """A run from its start: where it has come to, its crossings, and the share that is done."""
    run = jax.tree.map(jnp.asarray, run)
    with _whole_products():
        return _followed(run, run.begin(), until)


@functools.partial(jax.jit, compiler_options=OPTIONS)
def _resume(run: Dynamics, loop: Any, until: Any) -> tuple[Any, Any, Any]:
    """The same from where a run has come to."""
    with _whole_products():
        return _followed(jax.tree.map(jnp.asarray, run), loop, until)


def _followed(run: Dynamics, loop: Any, until: Any) -> tuple[Any, Any, Any]:
    loop = run.advance(loop, until)
    return loop, run.crossings(loop), run.share(loop)


@jax.jit
def solve_batch(runs: Dynamics) -> tuple[Any, Any]:
    """What is kept of `stacked` runs at their ends, and their crossings, with the axis of runs first.

    All runs of a batch take a step together, and one that has ended waits for the last.
    """

    def solve(run: Dynamics) -> tuple[Any, Any]:
        loop, crossings, _ = _followed(run, run.begin(), ALL)
        return run.kept(loop), crossings

    with _whole_products():
        return jax.vmap(solve)(runs)


def num_compilations() -> int:
    """How many times a run was compiled (or read from a cache on disk) in this process."""
    return len(_traced)


def count_compilation(name: str) -> None:
    """Called where a run is traced, which is once a compilation."""
    _traced.append(name)


_traced: list[str] = []


def _finite_parts(observe: Observe, observed: Sequence[Observed]) -> Iterator[Observed]:
    """The variables of several runs, known, and not NaN, up to the first time that is not finite or was
    not reached, from what was observed of each."""
    goods = [_num_finite(*each) for each in observed]
    variables = observe.summarise(
        {
            name: np.concatenate(
                [each.values[name][:good] for each, good in zip(observed, goods, strict=True)]
            )
            for name in observed[0].values
        }
    )
    ends = np.cumsum(goods)
    for (values, _), good, end in zip(observed, goods, ends.tolist(), strict=True):
        num_times = len(next(iter(values.values())))
        part = {}
        for name, joined in variables.items():
            part[name] = np.full((num_times, *joined.shape[1:]), np.nan, joined.dtype)
            part[name][:good] = joined[end - good : end]
        yield Observed(part, good)


def _num_finite(observed: dict[str, np.ndarray], num_reached: int) -> int:
    """How many of the times that were reached come before the first that is not finite."""
    finite = [
        np.isfinite(x[:num_reached]).reshape(num_reached, -1).all(axis=1)
        for name, x in observed.items()
        if not name.startswith(OWN)  # which may be undefined somewhere
    ]
    return int(np.logical_and.accumulate(np.logical_and.reduce(finite)).sum())


def up_to(crossings: Any, reached: Float[np.ndarray, " t"]) -> Float[np.ndarray, " s"]:
    """Crossings but those after the last time that was reached."""
    last = reached[-1] if len(reached) else -np.inf
    return np.where(np.asarray(crossings) <= last, crossings, np.nan)
