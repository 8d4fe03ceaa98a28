"""Solvers of the gradient flow: the Runge-Kutta methods that take its steps, and which method takes
which step of a run.

A method takes one step of the field from one state. A solver is one method, or two, where the
first hands over to the last once stability, not accuracy, has bounded many of its steps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, PyTree

from ssm.dynamics.parameters import Params
from ssm.dynamics.runge_kutta import PAIRS, TriedStep, legendre_step, pair_step, weighted_sum
from ssm.dynamics.vector_field import FactoredSlope, Field

Slope = Params | FactoredSlope


@runtime_checkable
class Method(Protocol):
    """How one step is taken. Methods are compared by value, so that runs share a compilation."""

    @property
    def error_order(self) -> int:
        """The power of a step's length to which its estimated error is proportional."""
        ...

    @property
    def ends_at_saves(self) -> bool:
        """Whether a step has to end at each saved time, since no state inside it is known."""
        ...

    def begin(self, slope: Slope) -> PyTree:
        """What the method remembers before its first step, given the slope there."""
        ...

    def step(
        self, field: Field, time: Array, params: Params, slope: Slope, length: Array, memory: PyTree
    ) -> TriedStep:
        """One step from a state with a known slope; it may come out shorter than `length`."""
        ...


@dataclasses.dataclass(frozen=True)
class EmbeddedPair:
    """An explicit pair of order 5 and 4 of `runge_kutta.PAIRS`."""

    name: str

    error_order = 5
    ends_at_saves = False

    def begin(self, slope: Slope) -> PyTree:
        """Nothing, since a pair has no memory."""
        return ()

    def step(
        self, field: Field, time: Array, params: Params, slope: Slope, length: Array, memory: PyTree
    ) -> TriedStep:
        """A step of the pair, with the memory left as it is for the method that may come after it."""
        pair = jax.tree.map(lambda x: np.asarray(x, length.dtype), PAIRS[self.name])

        def slope_inside(params: Params, share: ArrayLike) -> Slope:
            return field.at(time + share * length, time).slope(params)

        tried = pair_step(pair, slope_inside, _advance, params, slope, length)
        return tried._replace(memory=memory)


@dataclasses.dataclass(frozen=True)
class StabilisedLegendre:
    """The stabilised method RKL2 of order 2, with as many stages as a stiff field asks for."""

    error_order = 3
    ends_at_saves = True

    def begin(self, slope: Slope) -> PyTree:
        """The slope, as a first guess of the stiffest direction."""
        return slope

    def step(
        self, field: Field, time: Array, params: Params, slope: Slope, length: Array, memory: PyTree
    ) -> TriedStep:
        """A step along the field as it is when the step begins."""
        return legendre_step(field.at(time, time), params, slope, length, memory)


def _advance(params: Params, slopes: Sequence[PyTree], weights: Sequence[Array] | Array) -> Params:
    """The state params + sum_i weights[i] slopes[i], for slopes of either form."""
    if not isinstance(slopes[0], FactoredSlope):
        return jax.tree.map(lambda y, *k: weighted_sum(y, k, weights), params, *slopes)
    lefts = jnp.hstack([weights[i] * slope.left for i, slope in enumerate(slopes)])
    rights = jnp.vstack([slope.right for slope in slopes])
    W = weighted_sum(params.W, [slope.W for slope in slopes], weights)
    return Params(W, params.H + lefts @ rights)


@dataclasses.dataclass(frozen=True)
class Solver:
    """Which method takes which step, and how the tolerance of a step is tightened."""

    name: str
    last: Method
    """The method of all steps, or of those after the first method has handed over."""
    first: Method | None = None
    """The method of the steps before stability holds them back; None where `last` takes all steps."""
    tightening: float = 1.0
    """The factor that the tolerance of each step is multiplied by."""
    hidden_tightening: float = 1.0
    """The factor in place of `tightening` where there are hidden layers."""

    def tightened(self, error: Array, has_hidden: bool) -> Array:
        """The error of a step over its tightened tolerance, given the error over the tolerance itself."""
        factor = self.hidden_tightening if has_hidden else self.tightening
        return error if factor == 1 else error / factor

    def is_held_back(self, tried: TriedStep) -> Array:
        """Whether stability bounds a step of the first method, which is never so where there is no such
        method."""
        return jnp.zeros((), bool) if self.first is None else tried.stretch > _STRETCHED


# A step whose length times the field's spectral radius exceeds this is held back by stability: a pair of
# order 5 becomes unstable at about 3.3.
_STRETCHED = 2.5
MOST_HELD_BACK = 100
"""How many steps of a first method stability holds back before the last method takes over."""

SOLVERS = {
    "tsit5": Solver("tsit5", EmbeddedPair("tsit5")),
    "dopri5": Solver("dopri5", EmbeddedPair("dopri5")),
    "rkl2": Solver("rkl2", StabilisedLegendre()),
    # The errors of order-2 steps add up more than those of order 5, so the tolerance is tighter; through
    # hidden layers the margin outgrows any number within a finite time of the loss clock, so it is much
    # tighter there.
    "switching": Solver(
        "switching",
        last=StabilisedLegendre(),
        first=EmbeddedPair("tsit5"),
        tightening=0.03,
        hidden_tightening=1e-3,
    ),
}
"""The solvers by name: those of `Config.solver`, and `switching`, the one by the loss clock where none is
named."""
