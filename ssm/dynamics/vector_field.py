"""The right-hand side of gradient flow: the slopes of the parameters in flow time, or by a clock that
the loss drives.

    time        dW/dt = -G H^T - lam_W W      dH/dt = -(W^T G) K - lam_H H      G = dL/dZ
    loss clock  the same divided by L, which is gradient flow of log L: d tau = L dt

Under deferred weights L goes from ERM's risk to the weighted one, (1 - s) L_1 + s L_w, with s = 0
before their start, rising evenly to 1 over their ramp.

With hidden layers Z = W A_1 ... A_p H, and every layer follows its own gradient. Where samples have
inputs, H = A X, and dA/dt = -(W^T G) X^T - lam_H A. A bias of the logits follows -G 1. Decay of the
features is that of the parameters behind them, so its penalty is (lam_H / 2) tr(H K^-1 H^T), which
is |H|^2 for free features.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ssm.dynamics import parameters
from ssm.dynamics.columns import BLOCK, Columns
from ssm.dynamics.parameters import Params
from ssm.dynamics.runge_kutta import hermite
from ssm.problem.schedules import linear_ramp


class FactoredSlope(NamedTuple):
    """Slopes without hidden layers, that of the features as two factors: dH = left right, with left d x k
    and right k x m."""

    W: Array
    left: Array
    right: Array


class Deferral(NamedTuple):
    """Weights that act from a time on."""

    start: Any
    length: Any
    """Length of the ramp; 0 switches the weights on at once."""
    unweighted: Any
    """Risk weights of the columns before it: shape (m,)."""

    @property
    def jumps(self) -> Any:
        """Times at which the field or its slope in time is not continuous: shape (2,)."""
        return jnp.stack([self.start, self.start + self.length])

    def share(self, time: Any, since: Any) -> Any:
        """The share s of the weighted risk at a time inside a step that began at `since`. At the very
        start of the weights s is 0 in the step that ends there, and without a ramp 1 in the step that
        begins there."""
        return jnp.where(since >= self.start, linear_ramp(time, self.start, self.length), 0)


class Field(eqx.Module):
    """The slopes of all parameters as a function of them, with its constants."""

    columns: Columns
    weight_decay: Any = None
    """lam_W, of the classifier and the hidden layers; None where neither it nor lam_H decays."""
    feature_decay: Any = None
    """lam_H; None where weight_decay is."""
    deferral: Deferral | None = None
    """None where weights act from the beginning."""
    loss_clock: bool = eqx.field(static=True, default=False)
    classifier_is_held: bool = eqx.field(static=True, default=False)
    """Whether W stays as it is: depth 1, where it is the identity."""

    @property
    def factored(self) -> bool:
        """Whether slopes of the features are kept in factors, which take a fraction of the memory. That
        takes many columns which nothing but the gradient moves."""
        return self.columns.many and not self.loss_clock and self.feature_decay is None

    def at(self, time: Any, since: Any) -> Field:
        """The field frozen at a time, inside a step that began at `since`."""
        if self.deferral is None:
            return self
        share = self.deferral.share(time, since)
        mixed = (1 - share) * self.deferral.unweighted + share * self.columns.risk_weights
        # The barrier keeps the compiler from merging the mixing with what uses the weights, so that the
        # rest is computed by the same operations as without deferral.
        return self.weighing(jax.lax.optimization_barrier(mixed))

    def weighing(self, risk_weights: Float[Array, " m"]) -> Field:
        """The field under other risk weights, without deferral."""
        columns = dataclasses.replace(self.columns, risk_weights=risk_weights)
        return dataclasses.replace(self, columns=columns, deferral=None)

    def slope(self, params: Params) -> Any:
        """The slopes of all parameters, as a `FactoredSlope` where that is the cheaper form."""
        return _slope(self, params)

    def whole(self, slope: Any) -> Params:
        """A slope of either form as one array a layer."""
        if isinstance(slope, FactoredSlope):
            return Params(slope.W, slope.left @ slope.right)
        return slope

    def of_classes(self, state: Any) -> Params:
        """A state, or a slope of either form, with its features summed over the samples of each class:
        shape (d, k) in place of (d, m)."""
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
        # On a CPU a product with a transposed left factor would run at half the speed; the barrier has the
        # transpose written out first.
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
        """log L, under cross-entropy."""
        return self.columns.log_risk(self.logits(params))

    def logits(self, params: Params) -> Float[Array, "k m"]:
        """Z, one column a feature column."""
        return self.columns.logits(parameters.classifier(params), params.H, params.bias)

    def penalty(self, params: Params) -> Any:
        """(lam_W / 2) (|W|^2 + |A_1|^2 + ...) + (lam_H / 2) tr(H K^-1 H^T)."""
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

        def add(i: Any, so_far: tuple[Array, Array]) -> tuple[Array, Array]:
            part, features = self.columns.block(i, H)
            gradient = part.logit_gradient(W @ features) * part.risk_weights[None]
            right = jax.lax.dynamic_update_slice_in_dim(so_far[1], gradient, i * BLOCK, 1)
            return so_far[0] - gradient @ features.T, right

        nothing = jnp.zeros_like(W), jnp.zeros((W.shape[0], H.shape[1]), H.dtype)
        slope, right = jax.lax.fori_loop(0, H.shape[1] // BLOCK, add, nothing)
        return FactoredSlope(slope, left, right)


@functools.partial(jax.jit, inline=True)
def _slope(field: Field, params: Params) -> Any:
    """`Field.slope`, traced once for all the stages of a step, and written where it is called as if it were not apart."""
    return field._in_blocks(params) if field._in_factors(params) else field(params)


def log_time_after(
    before: Array, length: Array, low: Float[Array, " 2"], high: Float[Array, " 2"], share: Array
) -> Array:
    """log of flow time at a share of a step by the loss clock: t grows by the integral of 1 / L,
    with log L the cubic through its values and slopes at both ends, `low` and `high`.

    As L falls most of the integral comes from the end of the step, so the pieces get shorter towards
    it; on each piece log L is taken as linear.
    """
    pieces = np.concatenate([1 - 0.5 ** np.arange(0, 48, 0.25), [1.0]])
    nodes = share * pieces.astype(share.dtype)
    rises = -hermite(nodes, length, low[0], high[0], low[1], high[1])
    drop = jnp.diff(rises)
    near = jnp.abs(drop) < 1e-3  # there (1 - e^-x) / x by its series
    shrink = jnp.where(near, 1 - drop / 2, -jnp.expm1(-drop) / jnp.where(near, 1, drop))
    terms = rises[1:] + jnp.log(length * jnp.diff(nodes)) + jnp.log(shrink)
    return jnp.logaddexp(before, jax.nn.logsumexp(terms))
