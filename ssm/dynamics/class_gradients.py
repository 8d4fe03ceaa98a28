"""The gradient of the risk as the sum of the gradients of all classes, each made equally long."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from ssm.dynamics.parameters import Params
from ssm.dynamics.vector_field import Field


def normalised_sum(field: Field, params: Params) -> Params:
    """The sum sum_c g_c / |g_c|, with g_c the gradient of what the samples of class c add to the risk and |g_c| its
    norm over all parameters together; a class without a gradient adds nothing.

    The weights of classes cancel in it. `field` has to be that of the risk alone, since penalties belong to no
    class. The classes are taken one after the other, which costs the time of k gradients and the memory of one.

    Source: Francazi, Baity-Jesi, Lucchi 2023 (per-class normalised gradient descent).
    """
    columns = field.columns

    def add(so_far: Params, c: Array) -> tuple[Params, None]:
        own = columns.risk_weights * (columns.labels == c)
        return jax.tree.map(jnp.subtract, so_far, _unit(field.weighing(own)(params))), None

    nothing = jax.tree.map(jnp.zeros_like, params)
    return jax.lax.scan(add, nothing, jnp.arange(len(columns.counts)))[0]


def _unit(X: PyTree) -> PyTree:
    """Arrays over their common norm, or 0 where all of them are 0. They are scaled first, since the squares of small
    numbers would underflow."""
    largest = jnp.stack([jnp.abs(x).max() for x in jax.tree.leaves(X)]).max()
    scaled = jax.tree.map(lambda x: x / jnp.where(largest > 0, largest, 1), X)
    norm = jnp.maximum(optax.tree.norm(scaled), 1)  # less than 1 only where all are 0
    return jax.tree.map(lambda x: x / norm, scaled)
