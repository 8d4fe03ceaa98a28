"""Small networks as pure functions of their parameters: a multilayer perceptron, preceded by
convolutions where the samples are images."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import DTypeLike

AnyArray = Array | np.ndarray
"""An array on the device or on the host."""


class Architecture(NamedTuple):
    """The layers of a network. It is hashable, since compiled code depends on it."""

    hidden: tuple[int, ...]
    """Widths of the hidden layers."""
    channels: tuple[int, ...] = ()
    """Output channels of the 3 x 3 convolutions of stride 2 that precede the hidden layers."""
    image_shape: tuple[int, int] | None = None
    """(height, width) of the images whose pixels are the features; None without convolutions."""


class Layer(NamedTuple):
    """The parameters of one layer: a linear map has a kernel of shape (in, out), a convolution one of
    shape (3, 3, in, out)."""

    kernel: Float[AnyArray, ...]
    bias: Float[AnyArray, " out"]


Params = tuple[Layer, ...]


def init_params(
    architecture: Architecture,
    num_features: int,
    num_classes: int,
    rng: np.random.Generator,
    dtype: DTypeLike,
) -> Params:
    """Initial parameters: kernels of independent Gaussians of variance 2 / inputs before a ReLU (He et
    al. 2015) and 1 / inputs in the last layer, and biases of 0. They are drawn on the host, so that
    nothing has to be compiled."""
    shapes = []
    shape, inputs = architecture.image_shape, num_features
    if shape is not None:
        inputs = 1
        for channels in architecture.channels:
            shapes.append((3, 3, inputs, channels))
            shape, inputs = (math.ceil(shape[0] / 2), math.ceil(shape[1] / 2)), channels
        inputs *= math.prod(shape)
    for width in (*architecture.hidden, num_classes):
        shapes.append((inputs, width))
        inputs = width

    def layer(kernel_shape: tuple[int, ...], gain: float) -> Layer:
        deviation = math.sqrt(gain / math.prod(kernel_shape[:-1]))
        kernel = rng.normal(scale=deviation, size=kernel_shape)
        return Layer(kernel.astype(dtype), np.zeros(kernel_shape[-1], dtype))

    params = (*(layer(kernel, 2.0) for kernel in shapes[:-1]), layer(shapes[-1], 1.0))
    if shape is None:
        # Features of padding are always 0, so that their rows of the kernel stay 0 in training.
        missing = padded_width(num_features, architecture) - num_features
        first = params[0]._replace(kernel=np.pad(params[0].kernel, ((0, missing), (0, 0))))
        params = (first, *params[1:])
    return params


def padded_width(num_features: int, architecture: Architecture) -> int:
    """How many features the network is given: the next multiple of 8, so that data sets of similar
    width share compiled code; for images, exactly their pixels."""
    return num_features if architecture.image_shape else -(-num_features // 8) * 8


def padded_features(
    X: Float[np.ndarray, "m n"], rows: int, architecture: Architecture, dtype: DTypeLike
) -> Float[np.ndarray, "rows n_padded"]:
    """The samples as the network is given them: padded with zeros to so many rows, and to
    `padded_width` features."""
    padded = np.zeros((rows, padded_width(X.shape[1], architecture)), dtype)
    padded[: len(X), : X.shape[1]] = X
    return padded


def last_features(
    params: Params, X: Float[Array, "m n"], image_shape: tuple[int, int] | None
) -> Float[Array, "m d"]:
    """The features that the last layer is given, of samples X: shape (m, d)."""
    for kernel, bias in params[:-1]:
        if kernel.ndim == 4:
            images = X.reshape(len(X), *(image_shape or ()), 1) if X.ndim == 2 else X
            dimensions = ("NHWC", "HWIO", "NHWC")
            X = jax.lax.conv_general_dilated(
                images, jnp.asarray(kernel), (2, 2), "SAME", dimension_numbers=dimensions
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
