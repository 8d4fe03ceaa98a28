"""Which of NumPy and JAX a computation is done with: that of the arrays which go into it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def arrays(weights: Any, *others: Any) -> tuple[Any, Any]:
    """The module to compute with, `jax.numpy` where the weights or anything in the other pytrees is an array
    of JAX and else `numpy`, and the weights as an array of it."""
    leaves = jax.tree.leaves((weights, others))
    xp = jnp if any(isinstance(leaf, jax.Array) for leaf in leaves) else np
    return xp, xp.asarray(weights, None if hasattr(weights, "dtype") else float)


def like(weights: Any, value: Any) -> Any:
    """`value` as an array of the same module and in the precision of the weights, which must stay as it is from
    step to step."""
    return (jnp if isinstance(weights, jax.Array) else np).asarray(value, weights.dtype)
