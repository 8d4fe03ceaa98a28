"""What is measured of a network at each evaluation, by compiled code, and the probabilities that its logits
stand for."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy import special

from ssm.practice.network import networks, objective
from ssm.practice.network.monitors import LARGEST, Observed, Probabilities, Watched
from ssm.practice.network.networks import Params


@functools.partial(jax.jit, static_argnames="image_shape")
def observe(
    params: Params,
    X: Float[Array, "n f"],
    labels: Int[Array, " n"],
    watched_X: Float[Array, "e f"],
    watched_labels: Int[Array, " e"],
    members: Int[Array, "k p"],
    loss: objective.Loss,
    image_shape: tuple[int, int] | None,
) -> Observed:
    """Evaluate the network on the watched samples, and compute the gradient of each class's mean loss
    on that class's watched training samples."""
    logits = networks.in_blocks(networks.logits, params, watched_X, image_shape)
    shares = jnp.full(members.shape[1], 1 / members.shape[1], X.dtype)

    def of_class(indices: Int[Array, " p"]) -> tuple[Array, Array]:
        gradient, logits = objective.parameter_gradient(
            params, X[indices], labels[indices], shares, loss, image_shape
        )
        flat = jnp.concatenate([x.ravel() for x in jax.tree.leaves(gradient)])
        return flat, logits.mean(0)

    gradients, class_logits = jax.vmap(of_class)(members)
    sample_losses = objective.sample_losses(logits, watched_labels, loss)
    return Observed(
        logits, sample_losses, class_logits.T, gradients @ gradients.T, networks.norm(params)
    )


@np.errstate(over="ignore", invalid="ignore")  # An alarm reports numbers that are not finite.
def probabilities(
    observed: Observed, watched: Watched, pull: Float[np.ndarray, " k"], loss: objective.Loss
) -> Probabilities:
    """The probabilities that the logits of the evaluated samples stand for.

    Args:
        pull: the weight of each class times its size, shape (k,).
    """
    logits = np.asarray(observed.logits, float)[watched.sample_weights > 0]
    as_trained = objective.probabilities(logits, loss)
    if not (np.isfinite(as_trained).all() and (np.abs(logits) < LARGEST).all()):
        return Probabilities(as_trained, np.full_like(logits, np.nan))
    if not objective.has_posterior(loss):
        return Probabilities(as_trained, as_trained)
    balanced = special.softmax(objective.log_posterior(logits, loss, pull), axis=1)
    return Probabilities(as_trained, balanced)
