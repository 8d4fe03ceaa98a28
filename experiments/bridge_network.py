"""Networks of one hidden layer on STEP-imbalanced digits whose images are drowned in noise of their
own, by full-batch gradient descent: what the experiment `bridge` trains, and what is kept of it."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int
from ssm.spectral import LEARNED

from experiments.data import NUM_CLASSES
from ssm.practice.network import kernels

MAJORITY, MINORITY = 60, 6  # training images of a class, which come first and last
NUM_MAJORITY = NUM_CLASSES // 2
HELD_OUT = 25  # images of each class
WIDTH = 128
SMALL = 0.02  # of the standard start
MAX_STEPS = 800
EXPONENTS = (0.0, 0.5, 1.0, 1.5)  # of the class weights
COUNTS = np.repeat([MAJORITY, MINORITY], NUM_MAJORITY)
NOISE_DIMS = int(COUNTS.sum()) - 64  # as many inputs as training images


class Samples(NamedTuple):
    """Inputs as rows, sorted by class."""

    X: Float[Any, "n p"]
    labels: Int[Any, " n"]
    held_out_X: Float[Any, "m p"]
    held_out_labels: Int[Any, " m"]


class Params(NamedTuple):
    """Z = W relu(A x + a) + b, one row a sample."""

    A: Float[Any, "p d"]
    a: Float[Any, " d"]
    W: Float[Any, "d k"]
    b: Float[Any, " k"]


class Record(NamedTuple):
    """What is kept of a run, at each step up to the last; NaN after it."""

    gain: Float[Any, "t 2"]
    """Share of its target by which the contrasts among majorities and among minorities have risen
    since the start, mean over contrasts (training images)."""
    gram: Float[Any, "t k k"]
    """Of the class means of the features, and"""
    squares: Float[Any, "t k"]
    """mean squared length of each class's features: what the coupling is measured from."""
    recall: Float[Any, "t k"]
    """Of held-out images, by class."""


def samples(images: np.ndarray, labels: np.ndarray, noise: float, seed: int) -> Samples:
    """Digits as rows of pixels less their mean, beside them `NOISE_DIMS` numbers drawn anew for each
    image that make up the share `noise` of its mean squared length, which is left as it was.

    Minorities are 5 to 9; where the seed is odd each digit takes the name of the fifth after it, so
    that 0 to 4 are, and what digits differ in cancels over seeds.
    """
    rng = np.random.default_rng(seed)
    labels = (labels + 5 * (seed % 2)) % NUM_CLASSES
    shuffled = [rng.permutation(np.flatnonzero(labels == c)) for c in range(NUM_CLASSES)]
    test = np.concatenate([mine[:HELD_OUT] for mine in shuffled])
    train = np.concatenate(
        [mine[HELD_OUT : HELD_OUT + n] for mine, n in zip(shuffled, COUNTS, strict=True)]
    )
    pixels = images.reshape(len(images), -1).astype(np.float64)
    pixels = pixels - pixels[train].mean(axis=0)
    length = (pixels[train] ** 2).sum(axis=1).mean()
    drawn = rng.normal(size=(len(images), NOISE_DIMS)) * np.sqrt(length / NOISE_DIMS)
    rows = np.hstack([np.sqrt(1 - noise) * pixels, np.sqrt(noise) * drawn]).astype(np.float32)
    return Samples(rows[train], labels[train], rows[test], labels[test])


def orthogonal_samples(coupling: float, like: Samples, seed: int) -> Samples:
    """Inputs whose Gram matrix is the model's kernel, in place of the training images of `like` and
    of their mean squared length, turned at random: those of two classes are orthogonal."""
    n = len(like.labels)
    same = like.labels[:, None] == like.labels
    values, vectors = np.linalg.eigh(np.where(same, coupling, 0) + (1 - coupling) * np.eye(n))
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))[0]
    rows = (vectors * np.sqrt(values.clip(0) * (like.X**2).sum(axis=1).mean())) @ turn
    return like._replace(X=rows.astype(np.float32))


def start(num_inputs: int, scale: float, seed: int) -> Params:
    """Normal weights of variance 1 / inputs (LeCun), biases 0, all times `scale`."""
    rng = np.random.default_rng([seed, 1])
    A = rng.normal(size=(num_inputs, WIDTH)) / np.sqrt(num_inputs)
    W = rng.normal(size=(WIDTH, NUM_CLASSES)) / np.sqrt(WIDTH)
    parts = scale * A, np.zeros(WIDTH), scale * W, np.zeros(NUM_CLASSES)
    return Params(*(part.astype(np.float32) for part in parts))


def features(params: Params, X: Any) -> Any:
    """What the last layer sees: shape (n, d)."""
    return jax.nn.relu(X @ params.A + params.a[None])


def contrasts(means: Any) -> Any:
    """Share of their target that contrasts have among majorities and among minorities, shape (2,),
    from mean logits (k, k), [class, logit], of classes of equal size in a group.

    The mean strength u_j^T Z v_j over the target s_j of a group's k_g - 1 components is (sum_c
    z_cc - sum_cc' z_cc' / k_g) / (k_g - 1).
    """
    halves = slice(None, NUM_MAJORITY), slice(NUM_MAJORITY, None)
    blocks = jnp.stack([means[half, half] for half in halves])
    own, size = jnp.trace(blocks, axis1=1, axis2=2), blocks.shape[1]
    return (own - blocks.sum((1, 2)) / size) / (size - 1)


@functools.partial(jax.jit, static_argnames="max_steps")
def train(
    params: Params,
    data: Samples,
    class_weights: Float[Array, " k"],
    rate: Float[Array, ""],
    max_steps: int = MAX_STEPS,
) -> Record:
    """Gradient descent on weighted cross-entropy until both groups' contrasts have gained half of
    their target, or for `max_steps`."""
    n, members = len(data.labels), jax.nn.one_hot(data.labels, NUM_CLASSES)
    averages = members / members.sum(0)[None]
    held_out = jax.nn.one_hot(data.held_out_labels, NUM_CLASSES)

    def loss(params: Params) -> tuple[Array, tuple[Array, Array]]:
        H = features(params, data.X)
        logits = H @ params.W + params.b[None]
        each = optax.softmax_cross_entropy_with_integer_labels(logits, data.labels)
        return (class_weights[data.labels] * each).sum() / n, (H, logits)

    def observe(params: Params, H: Array, logits: Array, first: Array) -> Record:
        means, now = averages.T @ H, contrasts(averages.T @ logits)
        said = features(params, data.held_out_X) @ params.W + params.b[None]
        right = (said.argmax(-1) == data.held_out_labels).astype(now.dtype)
        squares = averages.T @ (H**2).sum(1)
        return Record(now - first, means @ means.T, squares, right @ held_out / held_out.sum(0))

    def unfinished(state: Any) -> Array:
        _, step, record = state
        return (step <= max_steps) & ~(record.gain[jnp.maximum(step - 1, 0)] >= LEARNED).all()

    def advance(state: Any) -> Any:
        params, step, record = state
        (_, (H, logits)), slope = jax.value_and_grad(loss, has_aux=True)(params)
        seen = observe(params, H, logits, first)
        record = jax.tree.map(lambda kept, now: kept.at[step].set(now), record, seen)
        return jax.tree.map(lambda p, s: p - rate * s, params, slope), step + 1, record

    first = contrasts(averages.T @ loss(params)[1][1])
    k = NUM_CLASSES
    shapes = Record((2,), (k, k), (k,), (k,))
    empty = Record(*(jnp.full((max_steps + 1, *shape), jnp.nan) for shape in shapes))
    return jax.lax.while_loop(unfinished, advance, (params, 0, empty))[2]


class Outcome(NamedTuple):
    """Networks of one kind at one coupling, for each seed and exponent."""

    times: np.ndarray
    """Steps until contrasts among majorities and among minorities are half learned, (seed,
    exponent, 2)."""
    at_start: list[kernels.Coupling]
    """Of the features, each seed."""
    early: list[kernels.Coupling]
    """The same where ERM has half learned its majorities; empty where that was not kept."""
    held_out: np.ndarray
    """Balanced accuracy at that step, (seed, exponent)."""

    @property
    def coupling(self) -> float:
        """c at the start, mean over seeds."""
        return float(np.mean([c.equal_sampled for c in self.at_start]))

    @property
    def small(self) -> float:
        """g* predicted for small starts, mean over seeds."""
        return float(np.mean([c.exponent for c in self.at_start]))

    @property
    def fixed(self) -> float:
        """g* predicted for a fixed kernel, mean over seeds."""
        return float(np.mean([c.fixed_exponent for c in self.at_start]))

    @property
    def powers(self) -> np.ndarray:
        """log of minority over majority learning time over log R, (seed, exponent)."""
        n = self.at_start[0].counts
        return np.log(self.times[..., 1] / self.times[..., 0]) / np.log(n.max() / n.min())

    @property
    def measured(self) -> float:
        """g* by interpolation of the mean over seeds."""
        return crossing(self.powers.mean(axis=0))

    @property
    def each(self) -> list[float]:
        """The same of each seed."""
        return [crossing(powers) for powers in self.powers]

    @property
    def spread(self) -> str:
        """Their least and greatest."""
        return f"{np.min(self.each):.2f} to {np.max(self.each):.2f} over {len(self.each)} seeds"


def crossing(powers: np.ndarray) -> float:
    """The exponent at which falling `powers` (exponent,) first pass 0, linearly between two; NaN
    where none is passed."""
    falls = (powers[:-1] > 0) & (powers[1:] <= 0)
    if not falls.any():
        return float("nan")
    i = int(falls.argmax())
    share = powers[i] / (powers[i] - powers[i + 1])
    return float(EXPONENTS[i] + share * (EXPONENTS[i + 1] - EXPONENTS[i]))
