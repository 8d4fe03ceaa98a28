"""What a network's contrasts start from, by its tangent kernel: the kappa of each group, the size of the factors,
and the kernel of all training samples. Gradients of the network at its start measure all of it.

The strength u^T Z v of a contrast u of equal classes, v_i = u_{y_i} / sqrt(n_c), has two gradients: in the last layer's
weights, of squared length |H v|^2 = kappa |q|^2, and in all layers below it, of squared length |p|^2 kappa with
p = W^T u, for a kernel that all features share. So kappa = (the second) / |p|^2 and |p|^2 + |q|^2 = (both) /
kappa, whatever the network. Parts of a kernel that are the same for all samples do not count, since v sums to 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from experiments.data import NUM_CLASSES
from ssm import theory
from ssm.practice import networks
from ssm.practice.network.networks import Params

Features = Callable[[Params, Array], Array]
"""What the last layer of a network is given, of samples as rows."""
NUM_MAJORITY = NUM_CLASSES // 2  # which come first
AT_ONCE = 65  # samples whose gradients are in memory together


class ContrastStart(NamedTuple):
    """What contrasts among majorities and among minorities start from, means over each group's: shape (2,) each."""

    counts: Float[Any, 2]
    kernel: Float[Any, 2]
    """kappa."""
    size: Float[Any, 2]
    """|p|^2 + |q|^2."""

    @property
    def exponent(self) -> float:
        """g* from a start of that size."""
        return float(theory.starting_exponent(*self, num_classes=NUM_CLASSES))


def rectified(image_shape: tuple[int, int] | None = None) -> Features:
    """The features of `ssm.practice`'s networks."""
    return lambda params, X: networks.last_features(params, X, image_shape)


def opened(params: Params, X: Array) -> Array:
    """Those of one hidden layer all of whose units are open for all samples, as a unit becomes for the samples
    of a class that it has turned towards."""
    kernel, bias = params[0]
    return X @ kernel + bias[None]


def measured_start(params: Params, X: Any, labels: np.ndarray, features: Features) -> ContrastStart:
    """Of a network (params), its training samples as rows X and their labels, majorities first."""
    X, counts = jnp.asarray(X), np.bincount(labels, minlength=NUM_CLASSES)
    left = contrasts()
    right = left[labels] / np.sqrt(counts[labels])[:, None]
    *below, last = params
    kernel = np.asarray(last.kernel)

    def strengths(layers: list[Any]) -> Array:
        H = features((*layers, last), X)
        return ((H @ (kernel @ left).astype(np.float32)) * right.astype(np.float32)).sum(0)

    with jax.enable_x64(False):
        H = np.asarray(features(params, X), dtype=float)
        slopes = jax.tree.leaves(jax.jacrev(strengths)(below))
    of_features = np.sum(
        [(np.asarray(x, float).reshape(len(x), -1) ** 2).sum(1) for x in slopes], 0
    )
    of_last = ((H.T @ right) ** 2).sum(0)
    squares = ((kernel @ left) ** 2).sum(0)
    below_, last_, p = (_by_group(x) for x in (of_features, of_last, squares))
    kappa = below_ / p
    halves = counts[:NUM_MAJORITY].mean(), counts[NUM_MAJORITY:].mean()
    return ContrastStart(np.array(halves), kappa, (below_ + last_) / kappa)


def tangent_kernel(params: Params, X: Any, features: Features) -> Float[np.ndarray, "n n"]:
    """K of the layers below the last one: K_ij = sum_a <dz_ia, dz_ja> / sum_a |W_a|^2 over the logits a less their
    mean, dz their gradients in these layers; J_i J_j^T = K_ij I where all features behave alike."""
    X = jnp.asarray(X)
    *below, last = params
    kernel = np.asarray(last.kernel)
    kernel = kernel - kernel.mean(axis=1, keepdims=True)

    def logits(layers: list[Any], x: Array) -> Array:
        return (features((*layers, last), x[None]) @ kernel)[0]

    with jax.enable_x64(False):
        slopes = jax.jit(jax.vmap(jax.jacrev(logits), in_axes=(None, 0)))
        parts = [
            np.concatenate([np.asarray(x).reshape(len(x), -1) for x in jax.tree.leaves(part)], 1)
            for part in (slopes(below, X[i : i + AT_ONCE]) for i in range(0, len(X), AT_ONCE))
        ]
    J = np.concatenate(parts)
    return (J @ J.T).astype(float) / (kernel**2).sum()


def contrasts() -> np.ndarray:
    """One basis of the contrasts among majorities, then among minorities: orthonormal columns, (k, k - 2)."""
    m = NUM_MAJORITY
    own = np.linalg.qr(np.column_stack([np.ones(m), np.eye(m)[:, 1:]]))[0][:, 1:]
    left = np.zeros((NUM_CLASSES, 2 * (m - 1)))
    left[:m, : m - 1] = left[m:, m - 1 :] = own
    return left


def _by_group(values: np.ndarray) -> np.ndarray:
    return values.reshape(2, -1).mean(axis=1)
