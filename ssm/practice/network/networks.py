"""Small networks as pure functions of their parameters: a multilayer perceptron, preceded by
convolutions where the samples are images."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import DTypeLike

from ssm.support.arrays import AnyArray


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
Forward = Callable[[Params, Float[Array, "m n"], tuple[int, int] | None], Float[Array, "m d"]]
"""A function of parameters, samples and the shape of images: `last_features` or `logits`."""
IMAGES_AT_ONCE, ROWS_AT_ONCE = 128, 4096
"""The numbers of samples that `in_blocks` takes at a time. They were measured to be the fastest, for images of 28 x 28
pixels and for rows of 32 features."""


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
            X = jax.nn.relu(convolved(images, kernel) + bias[None, None, None])
        else:
            X = jax.nn.relu(X.reshape(len(X), -1) @ kernel + bias[None])
    return X.reshape(len(X), -1)


def convolved(
    images: Float[Array, "m h w channels"], kernel: Float[AnyArray, "3 3 channels out"]
) -> Float[Array, "m h2 w2 out"]:
    """The convolution of stride 2 of images with zeros around them, shape
    (m, ceil(h / 2), ceil(w / 2), out). Where the number of rows or columns of zeros is odd, the odd one is at the end.

    It is one product of the nine shifted copies of the images, side by side, with the kernel as a matrix, since
    XLA's own convolution is ten times slower on a CPU within a compiled loop, as in training.
    """
    lengths = [math.ceil(side / 2) for side in images.shape[1:3]]
    zeros = [2 * n + 1 - side for n, side in zip(lengths, images.shape[1:3], strict=True)]
    pads = ((0, 0), *((total // 2, total - total // 2) for total in zeros), (0, 0))
    padded = jnp.pad(images, pads)
    height, width = (2 * n - 1 for n in lengths)
    shifted = [padded[:, i : i + height : 2, j : j + width : 2] for i in range(3) for j in range(3)]
    return jnp.concatenate(shifted, axis=3) @ kernel.reshape(-1, kernel.shape[3])


def logits(
    params: Params, X: Float[Array, "m n"], image_shape: tuple[int, int] | None
) -> Float[Array, "m k"]:
    """The network's logits, shape (m, k)."""
    kernel, bias = params[-1]
    return last_features(params, X, image_shape) @ kernel + bias[None]


def in_blocks(
    function: Forward,
    params: Params,
    X: Float[Array, "m n"],
    image_shape: tuple[int, int] | None,
) -> Float[Array, "m d"]:
    """The values of `last_features` or `logits` for many samples, a few at a time. Memory for what the
    layers compute in between is then bounded, and small enough for a processor's cache."""
    rows = IMAGES_AT_ONCE if image_shape else ROWS_AT_ONCE
    if len(X) <= rows:
        return function(params, X, image_shape)
    return jax.lax.map(lambda row: function(params, row[None], image_shape)[0], X, batch_size=rows)


def norm(params: Params) -> Float[Array, ""]:
    """The Euclidean norm of all parameters together."""
    return jnp.sqrt(sum((x**2).sum() for x in jax.tree.leaves(params)))
