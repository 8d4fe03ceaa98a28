"""What a run is made of: its start, the law by which it moves, by the flow or by steps, what is observed of it on the
way, and its result."""

from __future__ import annotations

import abc
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PyTree

from ssm.dynamics.observables import OWN
from ssm.dynamics.parameters import Params
from ssm.dynamics.statuses import Status
from ssm.dynamics.vector_field import Field
from ssm.support import interrupts
from ssm.support.arrays import AnyArray

# On a CPU it does not pay to spread small products over cores, which other runs can use.
OPTIONS = {"xla_cpu_enable_concurrency_optimized_scheduler": False}
ALL = 2**31 - 1
"""A number of steps that no run has."""
ALMOST_ALL = 0.999
"""The largest share that is reported of a run that has not ended."""
PIECE = 0.3
"""The seconds of computing between two reports."""
FIRST_PIECE, MOST_AT_ONCE = 2e8, 10_000
"""How long a run goes on before its first report: the multiplications of one product W H in all these steps, which take
about a second, and the most of these steps. Most runs then end in one piece and compile no program for further ones."""


@runtime_checkable
class Observe(Protocol):
    """What is observed of a run, as a pytree, so that runs of one shape share a compilation."""

    @property
    def keep_state(self) -> bool:
        """Whether the end of the run is kept, from which another can go on."""
        ...

    def __call__(self, params: Params, time: ArrayLike) -> dict[str, AnyArray]:
        """Named arrays that are observed at every saved time."""
        ...

    def summarise(self, observed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The variables that are kept, made on the host of what was observed at all times reached, time first."""
        ...

    def watch(self, class_sums: Float[AnyArray, "k q"]) -> Float[Array, " s"]:
        """Series whose first crossing of `LEARNED` is timed, made at every step of the class sums of
        the logits."""
        ...


class Last(NamedTuple):
    """The end of a run, from which another can go on."""

    params: Params
    """The parameters as they are followed, padding included."""
    memory: PyTree = ()
    """What an optimiser remembers, a pytree."""
    weighting: PyTree = ()
    """The state of a schedule of class weights, a pytree."""


class Trajectory(NamedTuple):
    """A run: what was observed at each time, and how the run ended. At times that were not reached stands NaN."""

    times: Float[np.ndarray, " t"]
    """The times asked for; the last one reached is replaced by the end of the run where its margin ended it."""
    clocks: dict[str, np.ndarray]
    """The same times by other clocks: `log_time`, the logarithm of flow time, where the loss drives
    the clock; `cumulative_rate`, the sum of the learning rates so far, of an optimiser."""
    observations: dict[str, np.ndarray]
    crossings: Float[np.ndarray, " s"]
    """When each watched series first reached `LEARNED`, NaN where it did not."""
    status: Status
    """How the run ended, but not whether all was learned that was predicted to be learned."""
    num_steps: int
    last: Last | None = None
    """The end of the run; None where states are not kept."""


class Observed(NamedTuple):
    """What was observed of a run at its times."""

    values: dict[str, np.ndarray]
    """Named arrays, with all times along the first axis of each."""
    number: int
    """How many of the times were reached, from the first on."""


class Dynamics(eqx.Module):
    """A law of motion with a start: a gradient flow, or the steps of an optimiser. Runs of one shape
    share one compilation."""

    params: Params
    """The start: W (k x d), H (d x m) and the hidden layers."""
    field: Field
    observe: Any
    """What is observed, an `Observe`."""

    @abc.abstractmethod
    def begin(self) -> PyTree:
        """The run at its start, a pytree. It is traced once for each compilation, as the next three methods are."""

    @abc.abstractmethod
    def advance(self, loop: PyTree, until: int | Array) -> PyTree:
        """The run at its end, or at least `until` so many steps from its start. Its numbers do not depend on
        where it is cut."""

    @abc.abstractmethod
    def crossings(self, loop: PyTree) -> Float[Array, " s"]:
        """When each watched series first reached `LEARNED`, NaN where it did not."""

    @abc.abstractmethod
    def share(self, loop: PyTree) -> Float[Array, ""]:
        """The share of the run that is done; 1 where it has ended."""

    @abc.abstractmethod
    def kept(self, loop: PyTree) -> PyTree:
        """The part of a run that has ended that `trajectory` needs."""

    @abc.abstractmethod
    def observed(self, kept: PyTree) -> Observed:
        """What was observed up to the last time that was reached, given the part that is `kept` as host arrays."""

    @abc.abstractmethod
    def trajectory(
        self, kept: PyTree, crossings: Float[np.ndarray, " s"], variables: Observed
    ) -> Trajectory:
        """The Trajectory of a run, with its status.

        Args:
            kept: the part of the run that was kept, as host arrays.
            crossings: when each watched series was learned, shape (s,).
            variables: what `Observe.summarise` has made of what was observed.
        """

    def follow(self, progress: Callable[[float], None] | None = None) -> Trajectory:
        """The Trajectory of the run up to its end, or to where Ctrl-C ends it, in the default JAX float type.

        Args:
            progress: called now and then with the share of the run that is done.
        """
        with interrupts.noticed() as pressed:
            found = self.found(progress, pressed)
        return trajectories([self], [found])[0]

    def compile_program(self) -> None:
        """Compile the program of the run, by following it for no step."""
        with np.errstate(over="ignore"):
            _solve(self, 0)

    def found(
        self,
        progress: Callable[[float], None] | None = None,
        stopped: Callable[[], bool] | None = None,
    ) -> tuple[PyTree, np.ndarray]:
        """What is kept of the run at its end, and its crossings, as host arrays, in the default JAX
        float type. It ends early where `stopped`, asked between two pieces, is true."""
        # NumPy does not warn of what float32 cannot hold, since the status of such a run says that it is not finite.
        with np.errstate(over="ignore"):
            loop, crossings = self._end(progress, stopped)
            return jax.device_get((self.kept(loop), crossings))

    def _end(
        self, progress: Callable[[float], None] | None, stopped: Callable[[], bool] | None
    ) -> tuple[PyTree, Array]:
        """The run at its end, and its crossings, with a report between pieces of about `PIECE` seconds.

        A compiled loop that reports from within could not be stored on disk.
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


def found_in_one_batch(runs: Sequence[Dynamics]) -> list[tuple[PyTree, np.ndarray]]:
    """What `Dynamics.found` gives of each of several runs of one shape, followed in one batch, for accelerators, which
    one run cannot fill.

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
    runs: Sequence[Dynamics], found: Sequence[tuple[PyTree, np.ndarray]]
) -> list[Trajectory]:
    """The Trajectories of runs that differ in their starts only, given what `Dynamics.found` gives of each. The variables
    of all of them are computed at once."""
    observed = [run.observed(kept) for run, (kept, _) in zip(runs, found, strict=True)]
    with np.errstate(over="ignore"):
        parts = _finite_parts(runs[0].observe, observed)
        return [
            run.trajectory(kept, crossings, part)
            for run, (kept, crossings), part in zip(runs, found, parts, strict=True)
        ]


def _whole_products() -> AbstractContextManager[None]:
    """A context in which products have the precision of their factors. Accelerators otherwise round factors of float32
    to 10 bits, three digits, and since the error of a step has to be a millionth a run takes a hundred times as many
    steps."""
    return jax.default_matmul_precision("highest")


@functools.partial(jax.jit, compiler_options=OPTIONS)
def _solve(run: Dynamics, until: int | Array) -> tuple[PyTree, Array, Array]:
    """A run followed from its start: its state then, its crossings, and the share of it that is done."""
    run = jax.tree.map(jnp.asarray, run)
    with _whole_products():
        return _followed(run, run.begin(), until)


@functools.partial(jax.jit, compiler_options=OPTIONS)
def _resume(run: Dynamics, loop: PyTree, until: int | Array) -> tuple[PyTree, Array, Array]:
    """A run followed on from a state `loop`, with the results of `_solve`."""
    with _whole_products():
        return _followed(jax.tree.map(jnp.asarray, run), loop, until)


def _followed(run: Dynamics, loop: PyTree, until: int | Array) -> tuple[PyTree, Array, Array]:
    loop = run.advance(loop, until)
    return loop, run.crossings(loop), run.share(loop)


@jax.jit
def solve_batch(runs: Dynamics) -> tuple[PyTree, Array]:
    """What is kept of `stacked` runs at their ends, and their crossings, with the axis of runs first.

    All runs of a batch take a step together, and one that has ended waits for the last.
    """

    def solve(run: Dynamics) -> tuple[PyTree, Array]:
        loop, crossings, _ = _followed(run, run.begin(), ALL)
        return run.kept(loop), crossings

    with _whole_products():
        return jax.vmap(solve)(runs)


def num_compilations() -> int:
    """How many times a program of a run was compiled, or read from the cache on disk, in this process."""
    return len(_traced)


def count_compilation(name: str) -> None:
    """Count a compilation, called where a run is traced, which happens once for each."""
    _traced.append(name)


_traced: list[str] = []


def _finite_parts(observe: Observe, observed: Sequence[Observed]) -> Iterator[Observed]:
    """The variables of several runs, made of what was observed of each. They are NaN from the first time on that is
    not finite or was not reached."""
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
        if not name.startswith(OWN)  # own observables may be undefined somewhere
    ]
    return int(np.logical_and.accumulate(np.logical_and.reduce(finite)).sum())


def up_to(
    crossings: Float[np.ndarray, " s"], reached: Float[np.ndarray, " t"]
) -> Float[np.ndarray, " s"]:
    """The crossings, with NaN in place of those after the last time that was reached."""
    last = reached[-1] if len(reached) else -np.inf
    return np.where(np.asarray(crossings) <= last, crossings, np.nan)
