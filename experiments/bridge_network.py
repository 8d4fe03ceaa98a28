"""Networks of one hidden layer on STEP-imbalanced digits whose images are drowned in noise of their
own, by full-batch gradient descent: what the experiment `bridge` trains, and what is kept of it."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, Int

import ssm
from experiments import stepping
from experiments.data import NUM_CLASSES, draw
from experiments.tangent_kernels import NUM_MAJORITY, ContrastStart
from ssm import fits, weights
from ssm.measures.spectral import LEARNED
from ssm.practice import kernels, networks
from ssm.practice.network.networks import Params
from ssm.practice.network.parameters import Prepared

MAJORITY, MINORITY = 60, 6  # training images of a class, which come first and last
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


class Record(NamedTuple):
    """What is kept of a run, at each step up to the last."""

    gain: Float[Any, "t 2"]
    """Share of its target by which the contrasts among majorities and among minorities have risen
    since the start, mean over contrasts (training images)."""
    gram: Float[Any, "t k k"]
    """Of the class means of the features, and"""
    squares: Float[Any, "t k"]
    """mean squared length of each class's features: what the coupling is measured from."""
    recall: Float[Any, "t k"]
    """Of held-out images, by class."""


def renamed(labels: np.ndarray, seed: int) -> np.ndarray:
    """Where the seed is odd each digit takes the name of the fifth after it, so that the digits 0 to 4
    are the minorities in place of 5 to 9, and what digits differ in cancels over seeds."""
    return (labels + 5 * (seed % 2)) % NUM_CLASSES


def samples(images: np.ndarray, labels: np.ndarray, noise: float, seed: int) -> Samples:
    """Digits as rows of pixels less their mean, beside them `NOISE_DIMS` numbers drawn anew for each
    image that make up the share `noise` of its mean squared length, which is left as it was.

    Minorities are the classes 5 to 9 of `renamed` labels.
    """
    rng, labels = np.random.default_rng(seed), renamed(labels, seed)
    train, test = draw(labels, HELD_OUT, COUNTS, rng)
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


def start(drawn: Samples, scale: float, exponent: float, rate: float, seed: int) -> Prepared:
    """A network before its training under weights of an exponent: the start of `ssm.practice`, times
    `scale`."""
    classifier = ssm.ReweightedClassifier(
        class_weight=functools.partial(weights.power_law, exponent=exponent),
        hidden_layer_sizes=(WIDTH,),
        optimizer="gd",
        learning_rate=rate,
        batch_size=len(drawn.labels),
        evaluate_every=1,
        dtype="float32",
    )
    begun = stepping.prepared(classifier, drawn.X, drawn.labels, seed)
    params = jax.tree.map(lambda x: np.float32(scale) * x, begun.params)
    return begun._replace(params=params)


def features(params: Params, X: np.ndarray) -> Array:
    """What the last layer sees: shape (n, d)."""
    return networks.last_features(params, padded(X), None)


def padded(X: np.ndarray) -> Array:
    """Samples as rows, as wide as the first layer is."""
    layers = networks.Architecture((WIDTH,))
    return jnp.asarray(networks.padded_features(X, len(X), layers, np.float32))


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


def train(begun: Prepared, drawn: Samples, max_steps: int = MAX_STEPS) -> Record:
    """Gradient descent on weighted cross-entropy until both groups' contrasts have gained half of
    their target, or for `max_steps`."""
    X = padded(np.vstack([drawn.X, drawn.held_out_X]))
    of_class, held_out = (
        (labels[:, None] == np.arange(NUM_CLASSES)).astype(np.float32)
        for labels in (drawn.labels, drawn.held_out_labels)
    )
    records: list[Record] = []
    with jax.enable_x64(False):
        for params in stepping.networks_at(begun, range(max_steps + 1)):
            records.append(jax.device_get(_observed(params, X, of_class, held_out)))
            if (records[-1].gain - records[0].gain >= LEARNED).all():
                break
    kept = Record(*map(np.stack, zip(*records, strict=True)))
    return kept._replace(gain=kept.gain - kept.gain[0])


@jax.jit
def _observed(
    params: Params, X: Float[Array, "i p"], of_class: Float[Array, "n k"], held_out: Array
) -> Record:
    """What is kept of one step, of training images followed by held-out ones; `gain` since no step."""
    every, n = networks.last_features(params, X, None), len(of_class)
    kernel, bias = params[-1]
    H, averages = every[:n], of_class / of_class.sum(0)[None]
    means = averages.T @ H
    said = jax.nn.one_hot((every[n:] @ kernel + bias[None]).argmax(-1), NUM_CLASSES)
    right = (said * held_out).sum(0) / held_out.sum(0)
    gain = contrasts(means @ kernel + bias[None])
    return Record(gain, means @ means.T, averages.T @ (H**2).sum(1), right)


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
    starts: list[ContrastStart]
    """What contrasts start from, each seed."""

    def of(self, seeds: list[int]) -> Outcome:
        """Networks of these seeds alone."""
        start, early = ([own[i] for i in seeds if own] for own in (self.at_start, self.early))
        begun = [self.starts[i] for i in seeds]
        return Outcome(self.times[seeds], start, early, self.held_out[seeds], begun)

    @property
    def coupling(self) -> float:
        """c at the start, mean over seeds."""
        return float(np.mean([c.equal_sampled for c in self.at_start]))

    @property
    def predicted(self) -> float:
        """g* of the model from small starts by the coupling c, mean over seeds."""
        return float(np.mean([c.exponent for c in self.at_start]))

    @property
    def expected(self) -> list[float]:
        """g* of each seed by the kernel and the size of its own start."""
        return [start.exponent for start in self.starts]

    @property
    def powers(self) -> np.ndarray:
        """log of minority over majority learning time over log R, (seed, exponent)."""
        return np.log(self.ratios.values) / np.log(self._imbalance)

    @property
    def ratios(self) -> xr.DataArray:
        """Minority over majority learning time, (seed, weight_exponent)."""
        ratios = self.times[..., 1] / self.times[..., 0]
        return xr.DataArray(
            ratios, {"weight_exponent": list(EXPONENTS)}, ["seed", "weight_exponent"]
        )

    @property
    def _imbalance(self) -> float:
        counts = self.at_start[0].counts
        return float(counts.max() / counts.min())

    @property
    def slope(self) -> float:
        """Power of R by which an exponent's unit moves the mean over seeds of these times."""
        weights = self._imbalance ** self.ratios["weight_exponent"]
        return float(fits.power_law(weights, self.ratios)["exponent"])

    @property
    def measured(self) -> float:
        """g* by interpolation of the mean over seeds."""
        return float(fits.crossing(self.ratios)["crossing"])

    @property
    def each(self) -> list[float]:
        """The same of each seed."""
        return fits.crossing(self.ratios)["each"].values.tolist()
