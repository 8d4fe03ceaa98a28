"""Gradient descent by a jitted optax step that Python calls, as a script would have it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.peers.numpy_model import NumpyModel
from ssm import Config


def _loss(params: tuple[Any, Any], labels: Any, risk_weights: Any) -> Any:
    W, H = params
    losses = optax.softmax_cross_entropy_with_integer_labels((W @ H).T, labels)
    return jnp.dot(risk_weights, losses)


def _step(params: Any, state: Any, labels: Any, risk_weights: Any, rate: Any) -> Any:
    gradient = jax.grad(_loss)(params, labels, risk_weights)
    updates, state = optax.sgd(rate).update(gradient, state, params)
    return optax.apply_updates(params, updates), state


_one = jax.jit(_step)
_batch = jax.jit(jax.vmap(_step, in_axes=(0, None, None, None, None)))


def descents(configs: Sequence[Config]) -> list[np.ndarray]:
    """W at the end of each run, one after the other."""
    found = []
    for config in configs:
        made = NumpyModel(config)
        found.append(_follow(_one, (made.W, made.H), made, config))
    return found


def descent_batch(configs: Sequence[Config]) -> list[np.ndarray]:
    """W at the end of each run, all in one batch."""
    made = [NumpyModel(config) for config in configs]
    start = np.stack([m.W for m in made]), np.stack([m.H for m in made])
    return list(_follow(_batch, start, made[0], configs[0]))


def _follow(step: Any, start: Any, made: NumpyModel, config: Config) -> np.ndarray:
    with jax.enable_x64(True):
        state = optax.sgd(config.learning_rate or 0.0).init(start)
        params = jax.tree.map(jnp.asarray, start)
        labels, weights = jnp.asarray(made.labels), jnp.asarray(made.risk_weights)
        rate = jnp.asarray(config.learning_rate)
        for _ in range(config.num_steps or 0):
            params, state = step(params, state, labels, weights, rate)
        return np.asarray(params[0])
