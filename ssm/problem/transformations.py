"""The interface of a transformation of class weights, in the manner of optax, and the statistics that it may read."""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Float, PyTree, Real

from ssm.problem.array_modules import arrays, like
from ssm.problem.settable import Settable
from ssm.support import checks
from ssm.support.arrays import AnyArray

Weights = Float[AnyArray, " k"]
Counts = Real[AnyArray, " k"] | Sequence[float]


class Statistics(NamedTuple):
    """The numbers of each class that a transformation may read at a step, or of each group where classes have groups."""

    counts: Counts
    """The number of samples n_c > 0 of the class. A transformation that reads the counts refuses values that it knows
    not to be positive."""
    performance: Weights | None = None
    """A recent performance of the class in [0, 1], such as its recall; None where no transformation needs it."""
    losses: Weights | None = None
    """The mean loss of the class; None where no transformation needs it."""
    uncertainty: Weights | None = None
    """The mean predictive uncertainty of held-out samples of the class, in [0, 1]; None where no transformation needs it."""


class Transformation(Settable):
    """A map from the weights so far to new ones of the same shape and type. A chain of them begins with ones.

    Example:
        >>> from ssm.schedules import Chain, PrevalencePower, UnitMean
        >>> chain = Chain(PrevalencePower(0.5), UnitMean())
        >>> stats = Statistics(counts=[90, 10])
        >>> weights, state = step_weights(chain, chain.init(stats.counts), stats, step=0)
        >>> type(weights).__name__, weights.round(2).tolist()
        ('ndarray', [0.83, 2.5])
    """

    @property
    def needs_performance(self) -> bool:
        """Whether `update` reads `Statistics.performance`. The answer is known before anything is traced."""
        return False

    @property
    def needs_losses(self) -> bool:
        """Whether `update` reads `Statistics.losses`."""
        return False

    @property
    def needs_uncertainty(self) -> bool:
        """Whether `update` reads `Statistics.uncertainty`."""
        return False

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest and the highest weight that this transformation can make; 0 and infinity where it sets no bounds."""
        return 0.0, math.inf

    def init(self, counts: Counts) -> PyTree:
        """The state before the first update. Raises InputError for counts that are known not to be positive."""
        as_counts(counts)
        return ()

    @abc.abstractmethod
    def update(
        self, weights: Weights, state: PyTree, stats: Statistics, step: ArrayLike
    ) -> tuple[Weights, PyTree]:
        """The new weights, shape (k,), and the next state."""


def step_weights(
    transformation: Transformation, state: PyTree, stats: Statistics, step: ArrayLike
) -> tuple[Weights, PyTree]:
    """The weights of a step, which the transformation makes of ones, shape (k,), and the next state."""
    return transformation.update(ones_of(stats.counts), state, stats, step)


def as_counts(counts: Counts) -> Real[AnyArray, " k"]:
    """Counts as an array; raises InputError where they are known not to be positive."""
    if not isinstance(counts, Tracer):
        checks.positive("counts", counts)
    return counts if isinstance(counts, jax.Array) else np.asarray(counts)


def ones_of(counts: Counts) -> Weights:
    """A weight of 1 for each count."""
    xp, numbers = arrays(as_counts(counts))
    return xp.ones_like(numbers, dtype=xp.result_type(numbers, 1.0))  # Counts may be integers.


def counts_like(weights: Weights, stats: Statistics) -> Weights:
    """n_c in the precision of the weights."""
    return like(weights, as_counts(stats.counts))


def shares_like(weights: Weights, stats: Statistics) -> Weights:
    """pi_c = n_c / n."""
    counts = counts_like(weights, stats)
    return counts / counts.sum()
