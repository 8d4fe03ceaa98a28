"""Losses of one sample and their gradients in the logits, for columns of logits (k x m) and integer
labels (m,)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
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


LOSSES = {
    "squared": Loss(squared, squared_gradient),
    "cross_entropy": Loss(cross_entropy, cross_entropy_gradient),
}
