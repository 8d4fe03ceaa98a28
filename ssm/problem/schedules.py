"""Class weights that change as training goes on, in the manner of optax: a weighting is a chain of small
transformations, each of which changes the weights so far. Each is a pytree of its numbers, so runs that differ only in them share
a compilation, and each has scikit-learn's `get_params` and a `set_params` that returns a new one.

They compute with JAX where any number that they are given is an array of JAX, traced or not, and else with NumPy, as in a training
loop of another framework."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Float, PyTree

from ssm.problem.array_modules import arrays, like
from ssm.problem.capped_mean import capped_unit_mean
from ssm.problem.settable import Settable, array, number, positive
from ssm.problem.transformations import (
    Counts,
    Statistics,
    Transformation,
    Weights,
    as_counts,
    counts_like,
    ones_of,
    shares_like,
)
from ssm.problem.transformations import (
    step_weights as step_weights,
)
from ssm.problem.uncertainty import Uncertainty as Uncertainty
from ssm.problem.uncertainty import class_entropy as class_entropy
from ssm.support import errors
from ssm.support.arrays import AnyArray


def _transformation(name: str, value: object) -> Transformation:
    """`value` if it is a transformation; raises InputError for anything else."""
    if not isinstance(value, Transformation):
        raise errors.invalid(name, value, "a transformation, as PrevalencePower(0.5)")
    return value


def _check_length(name: str, vector: AnyArray, counts: Counts) -> None:
    if vector.shape != as_counts(counts).shape:
        raise errors.invalid(name, vector, f"{len(counts)} numbers, one a class")


class PrevalencePower(Transformation):
    """Multiplies the weight of class c by (n_c / min_j n_j)^-g: g = 1 is inverse frequency, 1/2 its square
    root."""

    exponent: Float[AnyArray, ""] = eqx.field(converter=number("exponent"))

    def update(
        self, weights: Weights, state: PyTree, stats: Statistics, step: ArrayLike
    ) -> tuple[Weights, PyTree]:
        _, weights = arrays(weights, self, stats)
        counts = counts_like(weights, stats)
        return weights * (counts / counts.min()) ** -like(weights, self.exponent), state


class EffectiveNumber(Transformation):
    """Multiplies the weight of class c by (1 - b) / (1 - b^n_c), one over its effective number of samples (Cui et
    al. 2019), for b in [0, 1)."""

    beta: Float[AnyArray, ""]
    log_beta: Float[AnyArray, ""] = eqx.field(repr=False)
    """log b, which even in float32 keeps the digits by which b differs from 1."""

    def __init__(self, beta: ArrayLike):
        self.beta = b = number("beta", 0.0, 1.0, open_ends=")")(beta)
        if isinstance(b, Tracer):
            self.log_beta = jnp.log(b)
        else:
            self.log_beta = np.asarray(math.log(b) if b > 0 else -math.inf)

    def update(
        self, weights: Weights, state: PyTree, stats: Statistics, step: ArrayLike
    ) -> tuple[Weights, PyTree]:
        xp, weights = arrays(weights, self, stats)
        log_beta = like(weights, self.log_beta)
        powers = counts_like(weights, stats) * log_beta
        return weights * (xp.expm1(log_beta) / xp.expm1(powers)), state


def _class_costs(costs: object) -> Float[AnyArray, " k"]:
    """The cost of each class, given as such or as a matrix C[true, predicted]."""
    costs = array("costs", costs)
    k = len(costs) if costs.ndim == 2 else 0
    if k > 1 and costs.shape == (k, k):
        costs = (costs * (1 - np.eye(k))).sum(1) / (k - 1)
    return positive("costs", costs)


class Costs(Transformation):
    """Multiplies the weight of class c by its cost. The cost is the given number, for costs of shape (k,), or the mean
    cost of getting the class wrong, sum_{j != c} C[c, j] / (k - 1), for a matrix C[true, predicted] of shape
    (k, k) (Breiman et al. 1984)."""

    costs: Float[AnyArray, " k"] = eqx.field(converter=_class_costs)

    def init(self, counts: Counts) -> PyTree:
        _check_length("costs", self.costs, counts)
        return ()

    def update(
        self, weights: Weights, state: PyTree, stats: Statistics, step: ArrayLike
    ) -> tuple[Weights, PyTree]:
        _, weights = arrays(weights, self)
        return weights * like(weights, self.costs), state


class Fixed(Transformation):
    """Replaces the weights so far by the given ones."""

    weights: Float[AnyArray, " k"] = eqx.field(converter=lambda value: positive("weights", value))

    def init(self, counts: Counts) -> PyTree:
        _check_length("weights", self.weights, counts)
        return ()

    def update(
        self, weights: Weights, state: PyTree, stats: Statistics, step: ArrayLike
    ) -> tuple[Weights, PyTree]:
        _, weights = arrays(weights, self)
        return like(weights, self.weights), state


class Trend(Transformation):
    """Multiplies the weight of class c by exp(strength (mean_j recent_j - recent_c)): a class whose performance is
    behind the mean gains weight, by less than a factor e^strength.

    `recent` is an exponential moving average of the performance, of which a share `memory` in [0, 1) remains
    after each step. It is corrected for its start at zero as Adam's averages are (Kingma and Ba 2015). The
    average is the state.
    """

    strength: Float[AnyArray, ""] = eqx.field(converter=number("strength"))
    memory: Float[AnyArray, ""] = eqx.field(converter=number("memory", 0.0, 1.0, open_ends=")"))

    @property
    def needs_performance(self) -> bool:
        return True

    def init(self, counts: Counts) -> PyTree:
        import optax  # Its import takes a fifth of a second, which runs without this class need not wait for.

        xp, ones = arrays(ones_of(counts))
        return optax.EmaState(xp.zeros((), xp.int32), xp.zeros_like(ones))

    def update(
        self, weights: Weights, state: PyTree, stats: Statistics, step: ArrayLike
    ) -> tuple[Weights, PyTree]:
        import optax

        if stats.performance is None:
            raise errors.invalid("performance", None, "known where weights follow it (Trend)")
        xp, weights = arrays(weights, self, stats, state)
        memory, performance = like(weights, self.memory), like(weights, stats.performance)
        if xp is jnp:
            average: Any = optax.ema(memory)  # Its types are those of all pytrees.
            recent, state = average.update(performance, state)
        else:  # The same formula is written out, since optax always computes with JAX.
            count, value = state.count + 1, (1 - memory) * performance + memory * state.ema
            recent = like(weights, value / (1 - memory**count))
            state = optax.EmaState(count, value)
        behind = recent.mean() - recent
        return weights * xp.exp(like(weights, self.strength) * behind), state


class WorstGroup(Transformation):
    """Multiplies the weight of class c, or of a group, by q_c n / n_c, with q on the simplex that grows where losses
    are large: q_c <- q_c e^(rate l_c) / sum_j q_j e^(rate l_j) at each step, so that the risk becomes sum_c q_c l_c
    with l_c mean losses (group distributionally robust optimisation, Sagawa et al. 2020). log q is the state, which
    begins with q even."""

    rate: Float[AnyArray, ""] = eqx.field(converter=number("rate", 0.0))

    @property
    def needs_losses(self) -> bool:
        return True

    def init(self, counts: Counts) -> PyTree:
        xp, ones = arrays(ones_of(counts))
        return xp.zeros_like(ones) - math.log(len(ones))

    def update(
        self, weights: Weights, state: PyTree, stats: Statistics, step: ArrayLike
    ) -> tuple[Weights, PyTree]:
        if stats.losses is None:
            raise errors.invalid("losses", None, "known where weights follow them (WorstGroup)")
        xp, weights = arrays(weights, self, stats, state)
        risen = like(weights, state) + like(weights, self.rate) * like(weights, stats.losses)
        behind = risen - risen.max()
        log_q = behind - xp.log(xp.exp(behind).sum())
        return weights * xp.exp(log_q) / shares_like(weights, stats), log_q


class LinearRamp(Settable):
    """A schedule that is 0 before `start`, 1 from `start` + `length` on, and linear between; where `length` is 0
    it jumps from 0 to 1."""

    start: Float[AnyArray, ""] = eqx.field(converter=number("start"))
    length: Float[AnyArray, ""] = eqx.field(converter=number("length", 0.0))

    def __call__(self, step: ArrayLike) -> Float[AnyArray, ""]:
        return linear_ramp(step, self.start, self.length)


def linear_ramp(time: ArrayLike, start: AnyArray, length: AnyArray) -> AnyArray:
    """A number that is 0 before `start`, exactly 1 from `start` + `length` on, and linear between; where `length`
    is 0 it jumps from 0 to 1. All three arguments are in the same unit of time."""
    xp, since = arrays(time - start, length)
    share = xp.clip(since / xp.where(length > 0, length, 1), 0, 1)
    return xp.where(since >= length, 1.0, share)  # In compiled code x / x need not be exactly 1.


def _schedule(schedule: object) -> Callable[[ArrayLike], Any]:
    """`schedule` as a pytree; raises InputError for anything that cannot be called."""
    if not callable(schedule):
        allowed = "a function of the step, as LinearRamp(start=100, length=0)"
        raise errors.invalid("schedule", schedule, allowed)
    # JAX takes a plain function for a leaf of the pytree, which would have to be an array. A Partial makes the
    # function a part of the structure.
    leaf = jax.tree_util.all_leaves([schedule])
    return jax.tree_util.Partial(schedule) if leaf else schedule


class Ramp(Transformation):
    """Mixes the weights so far with those of `inner`, (1 - s) w + s inner(w) with s = schedule(step): exactly w
    at s = 0, exactly the inner weights at s = 1. A jump from 0 to 1 is deferred re-weighting, DRW (Cao et al. 2019).

    `schedule` is a schedule of optax, which computes with JAX, a `LinearRamp`, or another function of the step.

    Example:
        >>> ramp = Ramp(LinearRamp(start=100, length=50), PrevalencePower(1.0))
        >>> stats = Statistics(np.array([30.0, 10.0]))
        >>> weights = [step_weights(ramp, (), stats, step)[0] for step in (0, 125, 200)]
        >>> np.round(weights, 2).tolist()
        [[1.0, 1.0], [0.67, 1.0], [0.33, 1.0]]
    """

    schedule: Callable[[ArrayLike], Any] = eqx.field(converter=_schedule)
    inner: Transformation = eqx.field(converter=lambda value: _transformation("inner", value))

    @property
    def needs_performance(self) -> bool:
        return self.inner.needs_performance

    @property
    def needs_losses(self) -> bool:
        return self.inner.needs_losses

    @property
    def needs_uncertainty(self) -> bool:
        return self.inner.needs_uncertainty

    def init(self, counts: Counts) -> PyTree:
        return self.inner.init(counts)

    def update(
        self, weights: Weights, state: PyTree, stats: Statistics, step: ArrayLike
    ) -> tuple[Weights, PyTree]:
        new, state = self.inner.update(weights, state, stats, step)
        share = self.schedule(step)
        if not isinstance(share, Tracer):
            share = np.asarray(share)  # optax makes an array of JAX even of a plain number.
        _, weights = arrays(weights, self, share, new)
        share = like(weights, share)
        return (1 - share) * weights + share * new, state


class Clip(Transformation):
    """Clips each weight to [low, high], with low at least 0."""

    low: Float[AnyArray, ""] = eqx.field(converter=number("low", 0.0))
    high: Float[AnyArray, ""] = eqx.field(converter=number("high", 0.0))

    def __check_init__(self) -> None:
        known = not any(isinstance(x, Tracer) for x in (self.low, self.high))
        if known and self.low > self.high:
            raise errors.invalid("low", float(self.low), f"at most high={float(self.high)}")

    @property
    def bounds(self) -> tuple[float, float]:
        return float(self.low), float(self.high)

    def update(
        self, weights: Weights, state: PyTree, stats: Statistics, step: ArrayLike
    ) -> tuple[Weights, PyTree]:
        xp, weights = arrays(weights, self)
        return xp.clip(weights, like(weights, self.low), like(weights, self.high)), state


class UnitMean(Transformation):
    """Divides the weights by sum_c n_c w_c / n, their mean over samples."""

    def update(
        self, weights: Weights, state: PyTree, stats: Statistics, step: ArrayLike
    ) -> tuple[Weights, PyTree]:
        _, weights = arrays(weights, stats)
        return weights / (shares_like(weights, stats) * weights).sum(), state


class CappedUnitMean(Transformation):
    """Scales and clips the weights to clip(lam w_c, low, high), with the lam > 0 that makes their mean over
    samples 1; low in [0, 1], high >= 1.

    Both are done at once, since clipping after `UnitMean` would change the mean, and clipping before it would
    break the bounds; lam is exact, in O(k log k).
    """

    low: Float[AnyArray, ""] = eqx.field(converter=number("low", 0.0, 1.0))
    high: Float[AnyArray, ""] = eqx.field(converter=number("high", 1.0))

    @property
    def bounds(self) -> tuple[float, float]:
        return float(self.low), float(self.high)

    def update(
        self, weights: Weights, state: PyTree, stats: Statistics, step: ArrayLike
    ) -> tuple[Weights, PyTree]:
        _, weights = arrays(weights, self, stats)
        low, high = like(weights, self.low), like(weights, self.high)
        return capped_unit_mean(weights, shares_like(weights, stats), low, high), state


class Chain(Transformation):
    """Applies one transformation after the other, each to the weights that the one before it made.

    As parameters the parts are named as `sklearn.pipeline.make_pipeline` names steps, by their classes in
    lower case, with -1, -2 where there is more than one of a class.
    """

    parts: tuple[Transformation, ...]

    def __init__(self, *parts: Transformation):
        self.parts = tuple(_transformation(f"parts[{i}]", part) for i, part in enumerate(parts))

    def _arguments(self) -> dict[str, object]:
        names = [type(part).__name__.lower() for part in self.parts]
        for name in {name for name in names if names.count(name) > 1}:
            for position in range(names.count(name)):
                names[names.index(name)] = f"{name}-{position + 1}"
        return dict(zip(names, self.parts, strict=True))

    def _made_of(self, arguments: Mapping[str, Transformation]) -> Chain:
        return type(self)(*arguments.values())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.parts))})"

    @property
    def needs_performance(self) -> bool:
        return any(part.needs_performance for part in self.parts)

    @property
    def needs_losses(self) -> bool:
        return any(part.needs_losses for part in self.parts)

    @property
    def needs_uncertainty(self) -> bool:
        return any(part.needs_uncertainty for part in self.parts)

    @property
    def bounds(self) -> tuple[float, float]:
        return self.parts[-1].bounds if self.parts else super().bounds

    def init(self, counts: Counts) -> PyTree:
        super().init(counts)
        return tuple(part.init(counts) for part in self.parts)

    def update(
        self, weights: Weights, state: PyTree, stats: Statistics, step: ArrayLike
    ) -> tuple[Weights, PyTree]:
        states = []
        for part, before in zip(self.parts, state, strict=True):
            weights, after = part.update(weights, before, stats, step)
            states.append(after)
        return weights, tuple(states)
