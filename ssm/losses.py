"""Losses of one sample and their gradients in the logits, for columns of logits (k x m) and integer
labels (m,)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

Logits = Float[Array, "k m"]
Labels = Int[Array, " m"]


class Loss(NamedTuple):
    """A loss: its value for each column, and the gradient of that value in the column's logits."""

    value: Callable[..., Float[Array, " m"]]
    logit_gradient: Callable[..., Logits]


def _one_hot(logits: Logits, labels: Labels) -> Logits:
    return jax.nn.one_hot(labels, logits.shape[0], axis=0, dtype=logits.dtype)


def squared(
    logits: Logits, labels: Labels, scale: Float[Array, " m"] | None = None
) -> Float[Array, " m"]:
    """Half the squared distance of a column to its simplex-encoded label e_y - 1/k, times `scale`
    where it is given: shape (m,)."""
    return optax.l2_loss(squared_gradient(logits, labels, scale)).sum(0)


def squared_gradient(
    logits: Logits, labels: Labels, scale: Float[Array, " m"] | None = None
) -> Logits:
    """Z - S, with S the simplex-encoded labels, times `scale` where it is given: shape (k, m)."""
    encoded = _one_hot(logits, labels) - 1 / logits.shape[0]
    return logits - (encoded if scale is None else encoded * scale[None])


def cross_entropy(logits: Logits, labels: Labels) -> Float[Array, " m"]:
    """-log softmax(z)_y of each column: shape (m,)."""
    return optax.softmax_cross_entropy(logits, _one_hot(logits, labels), axis=0)


def cross_entropy_gradient(logits: Logits, labels: Labels) -> Logits:
    """softmax(Z) - Y, with Y the one-hot labels: shape (k, m); each column sums to zero."""
    return jax.nn.softmax(logits, axis=0) - _one_hot(logits, labels)


def log_cross_entropy(logits: Logits, labels: Labels) -> Float[Array, " m"]:
    """log l of each column, l = -log softmax(z)_y = log(1 + e^s) with s = log sum_{c != y} e^(z_c -
    z_y): shape (m,).

    As exact at a margin of 500, where l is e^-500, as at 5, and still a number where l itself
    underflows.
    """
    return _log_softplus(_log_odds(logits, labels))


def cross_entropy_log_gradient(logits: Logits, labels: Labels) -> Logits:
    """log |dl/dz_c| of each column: log p_c for c != y, and log(1 - p_y) = log sum_{c != y} p_c at
    the label, where the gradient is negative: shape (k, m)."""
    odds = _log_odds(logits, labels)
    own = _of_labels(logits, labels)
    others = logits - (own + jax.nn.softplus(odds))[None]
    return jnp.where(is_label(logits, labels), (odds - jax.nn.softplus(odds))[None], others)


def margins(logits: Logits, labels: Labels) -> Float[Array, " m"]:
    """z_y - max_{c != y} z_c of each column: shape (m,)."""
    others = jnp.where(is_label(logits, labels), -jnp.inf, logits)
    return _of_labels(logits, labels) - others.max(0)


def is_label(logits: Logits, labels: Labels) -> Any:
    """Whether an entry is that of its column's label: shape (k, m)."""
    return jnp.arange(logits.shape[0])[:, None] == labels[None]


def _of_labels(logits: Logits, labels: Labels) -> Float[Array, " m"]:
    """z_y of each column, by a sum, which is faster than gathering."""
    return jnp.where(is_label(logits, labels), logits, 0).sum(0)


def _log_odds(logits: Logits, labels: Labels) -> Float[Array, " m"]:
    """log((1 - p_y) / p_y) = log sum_{c != y} e^(z_c - z_y)."""
    behind = logits - _of_labels(logits, labels)[None]
    return jax.nn.logsumexp(jnp.where(is_label(logits, labels), -jnp.inf, behind), axis=0)


def _log_softplus(x: Float[Array, " m"]) -> Float[Array, " m"]:
    """log log(1 + e^x), x itself where e^x is below the rounding of 1."""
    small = -40.0
    return jnp.where(x < small, x, jnp.log(jax.nn.softplus(jnp.maximum(x, small))))


LOSSES = {
    "squared": Loss(squared, squared_gradient),
    "cross_entropy": Loss(cross_entropy, cross_entropy_gradient),
}
