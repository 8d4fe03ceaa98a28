"""Whether a computation is done with NumPy or with JAX, which the arrays decide that go into it."""

from __future__ import annotations

from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import PyTree

from ssm.support.arrays import AnyArray


def arrays(weights: ArrayLike, *others: PyTree) -> tuple[ModuleType, AnyArray]:
    """The module to compute with, `jax.numpy` where the weights or anything in the other pytrees is an array
    of JAX and else `numpy`, and the weights as an array of it."""
    leaves = jax.tree.leaves((weights, others))
    xp = jnp if any(isinstance(leaf, jax.Array) for leaf in leaves) else np
    return xp, xp.asarray(weights, None if hasattr(weights, "dtype") else float)


def like(weights: AnyArray, value: ArrayLike) -> AnyArray:
    """`value` as an array of the same module and in the precision of the weights, which must not change from
    step to step."""
    return (jnp if isinstance(weights, jax.Array) else np).asarray(value, weights.dtype)
