"""Networks against NumPy and SciPy, and what padding does to them: nothing."""

import functools
import itertools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal
from small_networks import DENSE

from ssm.practice.network import networks
from ssm.practice.network.networks import Architecture, Layer

logits = jax.jit(networks.logits, static_argnames="image_shape")


def perceptron(params, X):
    """Logits of a multilayer perceptron in NumPy."""
    for kernel, bias in params[:-1]:
        X = np.maximum(X @ kernel[: X.shape[1]] + bias, 0)
    kernel, bias = params[-1]
    return X @ kernel + bias


def convolved(images, kernel, bias):
    """ReLU of a 3 x 3 convolution of stride 2, zeros around, as TensorFlow's SAME places them:
    images (m, h, w, in) to (m, ceil(h/2), ceil(w/2), out)."""
    pads = []
    for side in images.shape[1:3]:
        total = max((math.ceil(side / 2) - 1) * 2 + 3 - side, 0)
        pads.append((total // 2, total - total // 2))
    padded = np.pad(images, ((0, 0), *pads, (0, 0)))
    out = np.stack(
        [
            [
                sum(
                    signal.correlate2d(image[..., i], kernel[..., i, o], mode="valid")
                    for i in range(image.shape[-1])
                )
                for o in range(kernel.shape[-1])
            ]
            for image in padded
        ]
    )
    return np.maximum(out.transpose(0, 2, 3, 1)[:, ::2, ::2] + bias, 0)


def with_biases(params, rng):
    return tuple(layer._replace(bias=rng.normal(size=layer.bias.shape)) for layer in params)


# What a start is


def test_a_start_has_he_variances_and_no_biases(rng):
    params = networks.init_params(Architecture((400, 300)), 200, 100, rng, "float64")
    for (kernel, bias), inputs, gain in zip(params, (200, 400, 300), (2, 2, 1), strict=True):
        assert not bias.any()
        assert kernel.shape == (inputs, len(bias))
        # of n = 30000 entries or more, whose mean square has a relative deviation of sqrt(2 / n)
        assert (kernel**2).mean() == pytest.approx(gain / inputs, rel=5 * math.sqrt(2 / 30000))
        assert abs(kernel.mean()) < 5 * math.sqrt(gain / inputs / 30000)


def test_convolutions_start_by_their_inputs(rng):
    params = networks.init_params(Architecture((), (32, 64), (7, 5)), 35, 50, rng, "float32")
    shapes = [layer.kernel.shape for layer in params]
    assert shapes == [(3, 3, 1, 32), (3, 3, 32, 64), (2 * 2 * 64, 50)]
    assert {layer.kernel.dtype.name for layer in params} == {"float32"}
    middle = params[1].kernel  # 18432 entries
    assert (middle**2).mean() == pytest.approx(2 / (9 * 32), rel=5 * math.sqrt(2 / middle.size))


def test_padded_features_start_at_zero_and_change_nothing():
    """Data of 5 and of 8 features of which 3 are 0: the same logits to the bit."""
    start = networks.init_params(DENSE, 5, 3, np.random.default_rng(1), "float64")
    assert start[0].kernel.shape == (8, 8)
    assert not start[0].kernel[5:].any()
    X = np.random.default_rng(2).normal(size=(6, 5))
    padded = networks.padded_features(X, 512, DENSE, "float64")
    assert padded.shape == (512, 8)
    obtained = np.asarray(logits(start, padded, None))
    np.testing.assert_allclose(obtained[:6], perceptron(start, X), atol=1e-14)  # sums of 8 numbers
    assert not obtained[6:].any()  # without biases


@pytest.mark.parametrize(("features", "width"), [(1, 8), (8, 8), (9, 16), (64, 64)])
def test_widths_go_up_in_eights(features, width):
    assert networks.padded_width(features, DENSE) == width
    image = Architecture((), (4,), (features, 1))
    assert networks.padded_width(features, image) == features


# What a network computes


@pytest.mark.parametrize("hidden", [(), (8,), (8, 4)])
def test_perceptrons(rng, hidden):
    params = networks.init_params(Architecture(hidden), 8, 3, rng, "float64")
    params = with_biases(params, rng)
    X = rng.normal(size=(6, 8))
    obtained = networks.logits(params, jnp.asarray(X), None)
    np.testing.assert_allclose(
        obtained, perceptron(params, X), atol=1e-13
    )  # rounding of short sums
    last = np.asarray(networks.last_features(params, jnp.asarray(X), None))
    np.testing.assert_allclose(last @ params[-1].kernel + params[-1].bias, obtained, atol=1e-13)


@pytest.mark.parametrize("shape", [(8, 8), (7, 5)])
def test_convolutions(rng, shape):
    """Even sides are padded on one side, odd ones on both."""
    architecture = Architecture((6,), (3, 4), shape)
    params = networks.init_params(architecture, math.prod(shape), 3, rng, "float64")
    params = with_biases(params, rng)
    X = rng.normal(size=(2, math.prod(shape)))
    images = X.reshape(2, *shape, 1)
    for kernel, bias in params[:2]:
        images = convolved(images, kernel, bias)
    expected = perceptron(params[2:], images.reshape(2, -1))
    # rounding of sums of 36 numbers
    np.testing.assert_allclose(logits(params, X, shape), expected, atol=1e-12)


def by_loops(images, kernel):
    """A 3 x 3 convolution of stride 2 with zeros around, entry by entry: out[y, x] is centred on row
    2 y of images of an odd height, and on row 2 y + 1 of those of an even one; columns likewise."""
    m, height, width, _ = images.shape
    out = np.zeros((m, math.ceil(height / 2), math.ceil(width / 2), kernel.shape[3]))
    for y, x, i, j in itertools.product(*map(range, (*out.shape[1:3], 3, 3))):
        row = 2 * y + i - (height % 2)
        column = 2 * x + j - (width % 2)
        if 0 <= row < height and 0 <= column < width:
            out[:, y, x] += images[:, row, column] @ kernel[i, j]
    return out


@pytest.mark.parametrize("shape", [(6, 6), (5, 7), (4, 3), (1, 2)])
def test_a_convolution_is_that_of_xla_and_of_loops_and_so_is_its_gradient(rng, shape):
    images, kernel = rng.normal(size=(2, *shape, 3)), rng.normal(size=(3, 3, 3, 4))
    expected = by_loops(images, kernel)
    pull = rng.normal(size=expected.shape)

    (ours, gradients), (theirs, other_gradients) = (
        with_gradient(way, images, kernel, pull)
        for way in (networks.convolved, _convolution_of_xla)
    )
    # rounding of sums of 27 numbers
    np.testing.assert_allclose(ours, expected, atol=1e-13)
    np.testing.assert_allclose(theirs, expected, atol=1e-13)
    for one, other in zip(gradients, other_gradients, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-13)  # of 36 numbers at most
    # The convolution is linear in the kernel: <pull, conv(images, kernel)> = <gradient, kernel>.
    _, of_kernel = gradients
    assert np.vdot(of_kernel, kernel) == pytest.approx(np.vdot(pull, expected), rel=1e-10)


@functools.partial(jax.jit, static_argnums=0)
def with_gradient(way, images, kernel, pull):
    out, pull_back = jax.vjp(way, images, kernel)
    return out, pull_back(pull)


def _convolution_of_xla(images, kernel):
    dimensions = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        images, kernel, (2, 2), "SAME", dimension_numbers=dimensions
    )


def test_blocks_of_samples_change_nothing_and_bound_what_is_held(rng):
    """300 images in blocks of 128, the last one short; the largest array in between is a block's, not
    all images' shifted copies, 300 x 4 x 4 x 9 numbers."""
    architecture = Architecture((), (3,), (8, 8))
    params = networks.init_params(architecture, 64, 3, rng, "float64")
    X = rng.normal(size=(300, 64))

    def in_blocks(X):
        return networks.in_blocks(networks.logits, params, X, (8, 8))

    # sums in another order
    np.testing.assert_allclose(jax.jit(in_blocks)(X), logits(params, X, (8, 8)), atol=1e-13)
    held = re.findall(r"f64\[([0-9,]+)\]", str(jax.make_jaxpr(in_blocks)(X)))
    largest = max(math.prod(map(int, shape.split(","))) for shape in held)
    assert largest == max(networks.IMAGES_AT_ONCE * 4 * 4 * 9, X.size)


def test_the_norm_is_of_all_parameters():
    layers = (Layer(np.full((2, 3), 2.0), np.ones(3)), Layer(np.zeros((3, 1)), np.full(1, 3.0)))
    assert float(networks.norm(layers)) == math.sqrt(6 * 4 + 3 + 9)
