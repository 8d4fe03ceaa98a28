"""The right-hand side of gradient flow: the slopes of the parameters in flow time, or by a clock that
the loss drives.

    time        dW/dt = -G H^T - lam_W W      dH/dt = -(W^T G) K - lam_H H      G = dL/dZ
    loss clock  the same divided by L, which is gradient flow of log L: d tau = L dt

Under deferred weights L goes from the risk without weights (ERM) to the weighted one, (1 - s) L_1 + s L_w,
where s is 0 before the start of the weights and rises evenly to 1 over their ramp.

With hidden layers Z = W A_1 ... A_p H, and every layer follows its own gradient. Where samples have
inputs, H = A X, and dA/dt = -(W^T G) X^T - lam_H A. A bias of the logits follows -G 1. What decays of the
features are the parameters behind them, so the penalty is (lam_H / 2) tr(H K^-1 H^T), which
is (lam_H / 2) |H|^2 for free features.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from ssm.dynamics import parameters
from ssm.dynamics.columns import BLOCK, Columns
from ssm.dynamics.parameters import Params
from ssm.dynamics.runge_kutta import hermite
from ssm.problem.schedules import linear_ramp
from ssm.support.arrays import AnyArray


class FactoredSlope(NamedTuple):
    """The slopes of a model without hidden layers, with that of the features as two factors: dH = left right, where
    left is d x k and right k x m."""

    W: Array
    left: Array
    right: Array


class Deferral(NamedTuple):
    """Class weights that act from a time on."""

    start: Float[AnyArray, ""]
    """The time, by the field's clock, from which they act."""
    length: Float[AnyArray, ""]
    """The length of the ramp, in the same time; 0 switches the weights on at once."""
    unweighted: Float[AnyArray, " m"]
    """The risk weights of the columns before that time."""

    @property
    def jumps(self) -> Float[Array, " 2"]:
        """The times at which the field or its derivative in time is not continuous."""
        return jnp.stack([self.start, self.start + self.length])

    def share(self, time: ArrayLike, since: ArrayLike) -> Array:
        """The share s of the weighted risk at a time inside a step that began at `since`. Where the weights
        start, s is 0 in the step that ends there; without a ramp it is 1 in the step that begins there."""
        return jnp.where(since >= self.start, linear_ramp(time, self.start, self.length), 0)


class Field(eqx.Module):
    """The slopes of all parameters as a function of them, with its constants."""

    columns: Columns
    weight_decay: Float[AnyArray, ""] | None = None
    """lam_W, of the classifier and the hidden layers; None where nothing decays."""
    feature_decay: Float[AnyArray, ""] | None = None
    """lam_H; None where nothing decays."""
    deferral: Deferral | None = None
    """None where weights act from the beginning."""
    loss_clock: bool = eqx.field(static=True, default=False)
    classifier_is_held: bool = eqx.field(static=True, default=False)
    """Whether W stays as it is, which is so at depth 1, where it is the identity."""

    @property
    def factored(self) -> bool:
        """Whether slopes of the features are kept in factors, which need a fraction of the memory. That is so for
        many columns that nothing but the gradient moves."""
        return self.columns.many and not self.loss_clock and self.feature_decay is None

    def at(self, time: ArrayLike, since: ArrayLike) -> Field:
        """The field as it is at a time inside a step that began at `since`."""
        if self.deferral is None:
            return self
        share = self.deferral.share(time, since)
        mixed = (1 - share) * self.deferral.unweighted + share * self.columns.risk_weights
        # The barrier keeps the compiler from merging the mixing with what uses the weights, so that the
        # rest is computed by the same operations as without deferral.
        return self.weighing(jax.lax.optimization_barrier(mixed))

    def weighing(self, risk_weights: Float[AnyArray, " m"]) -> Field:
        """The field under other risk weights, without deferral."""
        columns = dataclasses.replace(self.columns, risk_weights=risk_weights)
        return dataclasses.replace(self, columns=columns, deferral=None)

    def slope(self, params: Params) -> Params | FactoredSlope:
        """The slopes of all parameters, as a `FactoredSlope` where that is the cheaper form."""
        return _slope(self, params)

    def whole(self, slope: Params | FactoredSlope) -> Params:
        """A slope of either form as one array a layer."""
        if isinstance(slope, FactoredSlope):
            return Params(slope.W, slope.left @ slope.right)
        return slope

    def of_classes(self, state: Params | FactoredSlope) -> Params:
        """A state, or a slope of either form, whose features are summed over the samples of each class, so that
        they have shape (d, k) in place of (d, m)."""
        sums = self.columns.class_sums
        if isinstance(state, FactoredSlope):
            return Params(state.W, state.left @ sums(state.right))
        return state._replace(H=sums(state.H))

    def __call__(self, params: Params) -> Params:
        """The slopes of all parameters as whole arrays, in flow time or by the loss clock."""
        if self._in_factors(params):
            return self.whole(self._in_blocks(params))
        W, H, hidden, bias = params
        columns, heads = self.columns, [W]
        for layer in hidden:
            heads.append(heads[-1] @ layer)
        by_column = self._logit_gradient(columns.logits(heads[-1], H, bias))
        # The gradient in the product of all layers up to what is followed of the features, H or A.
        gradient = columns.onto_inputs(by_column)
        # On a CPU a product with a transposed left factor would run at half the speed; the barrier makes the
        # compiler write out the transpose first.
        left = jax.lax.optimization_barrier(-heads[-1].T)
        features = left @ parameters.couple(gradient, columns)
        back, layers = gradient @ H.T, []  # the gradient in the product of all layers so far
        for head, layer in zip(reversed(heads[:-1]), reversed(hidden), strict=True):
            layers.append(-(head.T @ back))
            back = back @ layer.T
        classifier = jnp.zeros_like(W) if self.classifier_is_held else -back
        drift = None if bias is None else -(by_column @ columns.constant)[:, None]
        slope = Params(classifier, features, tuple(reversed(layers)), drift)
        if self.weight_decay is None:
            return slope
        decays = parameters.decays(self.weight_decay, self.feature_decay, params)
        return jax.tree.map(lambda x, y, decay: x - decay * y, slope, params, decays)

    def log_risk(self, params: Params) -> Float[Array, ""]:
        """The logarithm of the risk L, for cross-entropy."""
        return self.columns.log_risk(self.logits(params))

    def logits(self, params: Params) -> Float[Array, "k m"]:
        """The logits Z, with one column for each feature column."""
        return self.columns.logits(parameters.classifier(params), params.H, params.bias)

    def penalty(self, params: Params) -> Float[AnyArray, ""]:
        """The penalty (lam_W / 2) (|W|^2 + |A_1|^2 + ...) + (lam_H / 2) tr(H K^-1 H^T) of a field with decay."""
        assert self.weight_decay is not None
        assert self.feature_decay is not None
        layers = (params.W, *params.hidden)
        squares = jnp.stack([jnp.vdot(layer, layer) for layer in layers]).sum()
        factor, features = parameters.feature_term(params.H, self.columns)
        return (self.weight_decay * squares + self.feature_decay * jnp.trace(features) / factor) / 2

    def margin(self, params: Params) -> Float[Array, ""]:
        """The least margin of any sample."""
        return self.columns.margin(self.logits(params))

    def _logit_gradient(self, logits: Float[Array, "k m"]) -> Float[Array, "k m"]:
        columns = self.columns
        if self.loss_clock:
            return columns.log_risk_gradient(logits)
        return columns.logit_gradient(logits) * columns.risk_weights[None]

    def _in_factors(self, params: Params) -> bool:
        is_plain = not params.hidden and params.bias is None
        return self.factored and is_plain and not self.classifier_is_held

    def _in_blocks(self, params: Params) -> FactoredSlope:
        W, H = params.W, params.H
        left = jax.lax.optimization_barrier(-W.T)

        def add(i: Array, so_far: tuple[Array, Array]) -> tuple[Array, Array]:
            part, features = self.columns.block(i, H)
            gradient = part.logit_gradient(W @ features) * part.risk_weights[None]
            right = jax.lax.dynamic_update_slice_in_dim(so_far[1], gradient, i * BLOCK, 1)
            return so_far[0] - gradient @ features.T, right

        nothing = jnp.zeros_like(W), jnp.zeros((W.shape[0], H.shape[1]), H.dtype)
        slope, right = jax.lax.fori_loop(0, H.shape[1] // BLOCK, add, nothing)
        return FactoredSlope(slope, left, right)


@functools.partial(jax.jit, inline=True)
def _slope(field: Field, params: Params) -> Params | FactoredSlope:
    """`Field.slope`, which JAX traces once for all stages of a step and compiles as part of what calls it."""
    return field._in_blocks(params) if field._in_factors(params) else field(params)


def log_time_after(
    before: Array, length: Array, low: Float[Array, " 2"], high: Float[Array, " 2"], share: Array
) -> Array:
    """The logarithm of flow time at a share of a step by the loss clock. Flow time t grows by the integral of 1 / L,
    where log L is the cubic through its values and slopes at both ends, `low` and `high`.

    Since L falls, most of the integral comes from the end of the step. The step is therefore cut into pieces that get
    shorter towards its end, on each of which log L is taken as linear.
    """
    pieces = np.concatenate([1 - 0.5 ** np.arange(0, 48, 0.25), [1.0]])
    nodes = share * pieces.astype(share.dtype)
    rises = -hermite(nodes, length, low[0], high[0], low[1], high[1])
    drop = jnp.diff(rises)
    near = jnp.abs(drop) < 1e-3  # where (1 - e^-x) / x is computed by its series
    shrink = jnp.where(near, 1 - drop / 2, -jnp.expm1(-drop) / jnp.where(near, 1, drop))
    terms = rises[1:] + jnp.log(length * jnp.diff(nodes)) + jnp.log(shrink)
    return jnp.logaddexp(before, jax.nn.logsumexp(terms))
