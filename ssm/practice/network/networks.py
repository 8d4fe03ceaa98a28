"""Small networks as pure functions of their parameters: a multilayer perceptron, with convolutions
before it where samples are images."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


class Architecture(NamedTuple):
    """What a network is made of; hashable, as a part of what is compiled."""

    hidden: tuple[int, ...]
    """Widths of the hidden layers."""
    channels: tuple[int, ...] = ()
    """Output channels of 3 x 3 convolutions of stride 2 before them."""
    image_shape: tuple[int, int] | None = None
    """(height, width) of the images that flat features hold; None without convolutions."""


class Layer(NamedTuple):
    """Of a linear map, kernel (in, out), or of a convolution, kernel (3, 3, in, out)."""

    kernel: Float[Any, ...]
    bias: Float[Any, " out"]


Params = tuple[Layer, ...]


def init_params(
    architecture: Architecture,
    num_features: int,
    num_classes: int,
    rng: np.random.Generator,
    dtype: Any,
) -> Params:
    """Kernels of independent Gaussians of variance 2 / inputs before a ReLU (He et al. 2015) and 1 /
    inputs in the last layer, biases of 0; drawn on the host, so that nothing is compiled."""
    layers = []
    shape, inputs = architecture.image_shape, num_features
    if shape is not None:
        inputs = 1
        for channels in architecture.channels:
            layers.append((3, 3, inputs, channels))
            shape, inputs = (math.ceil(shape[0] / 2), math.ceil(shape[1] / 2)), channels
        inputs *= math.prod(shape)
    for width in (*architecture.hidden, num_classes):
        layers.append((inputs, width))
        inputs = width

    def layer(kernel_shape: tuple[int, ...], gain: float) -> Layer:
        deviation = math.sqrt(gain / math.prod(kernel_shape[:-1]))
        kernel = rng.normal(scale=deviation, size=kernel_shape)
        return Layer(kernel.astype(dtype), np.zeros(kernel_shape[-1], dtype))

    params = (*(layer(kernel, 2.0) for kernel in layers[:-1]), layer(layers[-1], 1.0))
    if shape is None:
        # nothing moves the rows of features that are always 0
        missing = padded_width(num_features, architecture) - num_features
        first = params[0]._replace(kernel=np.pad(params[0].kernel, ((0, missing), (0, 0))))
        params = (first, *params[1:])
    return params


def padded_width(num_features: int, architecture: Architecture) -> int:
    """Features that the network is given: the next multiple of 8, so that data sets of similar width
    share what is compiled; all pixels of an image and no more."""
    return num_features if architecture.image_shape else -(-num_features // 8) * 8


def padded_features(
    X: Float[np.ndarray, "m n"], rows: int, architecture: Architecture, dtype: Any
) -> Float[np.ndarray, "rows n_padded"]:
    """Samples as the network is given them, zeros below and beside."""
    padded = np.zeros((rows, padded_width(X.shape[1], architecture)), dtype)
    padded[: len(X), : X.shape[1]] = X
    return padded


def last_features(
    params: Params, X: Float[Array, "m n"], image_shape: tuple[int, int] | None
) -> Float[Array, "m d"]:
    """What the last layer sees of samples with features X: shape (m, d)."""
    for kernel, bias in params[:-1]:
        if kernel.ndim == 4:
            images = X.reshape(len(X), *(image_shape or ()), 1) if X.ndim == 2 else X
            dimensions = ("NHWC", "HWIO", "NHWC")
            X = jax.lax.conv_general_dilated(
                images, kernel, (2, 2), "SAME", dimension_numbers=dimensions
            )
            X = jax.nn.relu(X + bias[None, None, None])
        else:
            X = jax.nn.relu(X.reshape(len(X), -1) @ kernel + bias[None])
    return X.reshape(len(X), -1)


def logits(
    params: Params, X: Float[Array, "m n"], image_shape: tuple[int, int] | None
) -> Float[Array, "m k"]:
    """The network's logits, shape (m, k)."""
    kernel, bias = params[-1]
    return last_features(params, X, image_shape) @ kernel + bias[None]


def norm(params: Params) -> Float[Array, ""]:
    """The Euclidean norm of all parameters together."""
    return jnp.sqrt(sum((x**2).sum() for x in jax.tree.leaves(params)))
