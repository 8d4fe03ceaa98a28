"""The trainings of `tracked`, each followed by `ssm.Tracker`, and what is read from their logs."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from jaxtyping import Float

import ssm
from experiments import data, digits_network, stepping
from experiments.data import NUM_CLASSES
from experiments.readings import GROUPS, Report, each
from ssm import geometry, losses, theory, weights
from ssm.practice.network import networks
from ssm.practice.network.parameters import Prepared

WEIGHTINGS = {"ERM": 0.0, "weighted": 1.0}  # the exponent g of the class weights
MINORITIES = (5, 6, 7, 8, 9)
NUM_MAJORITY = NUM_CLASSES - len(MINORITIES)
CHANNELS = (16, 32)  # those of the experiment `digits`, whose last layer is given 128 features
HIDDEN, SIZE = 64, 4.0  # units of the network on samples that are alike, and their length
RATE, MOMENTUM = 0.005, 0.9
EQUAL = 0.1  # of positions that are called equal
POSITIONS = np.linspace(-0.5, 1.5, 401)


@dataclasses.dataclass(frozen=True)
class Config:
    """Every number of the runs. A step is one update on all training images."""

    ratios: tuple[float, ...] = (1.0, 10.0, 100.0)
    seeds: tuple[int, ...] = (0, 1, 2, 3)  # each draws its own images and network
    majority: int = 100  # images of a majority class, of the 174 that every digit has
    num_steps: int = 1200
    evaluate_every: int = 20
    couplings: tuple[float, ...] = (0.4, 0.05)  # of samples that are alike
    alike_steps: int = 600

    def counts(self, ratio: float) -> np.ndarray:
        """Training images of each class: 100, and 100, 10 or 1 of a minority class."""
        return data.step_counts(self.majority, ratio, MINORITIES)


def _unit(gradient: Any, params: Any) -> Any:
    """A step of unit length down the gradient of the kernels, with biases left at 0 where they start. It is divided by its
    largest entry first, since squares of entries of e^-400 are 0."""
    kept = [x if x.ndim > 1 else jnp.zeros_like(x) for x in jax.tree.leaves(gradient)]
    largest = functools.reduce(jnp.maximum, [jnp.abs(x).max() for x in kept])
    kept = [x / largest for x in kept]
    length = jnp.sqrt(sum((x**2).sum() for x in kept))
    return jax.tree.unflatten(jax.tree.structure(gradient), [-x / length for x in kept])


UNIT_STEPS = optax.stateless(_unit)
OPTIMIZER = optax.chain(UNIT_STEPS, optax.trace(MOMENTUM))


def start(
    X: np.ndarray, labels: np.ndarray, exponent: float, seed: int, every: int, **layers: Any
) -> Prepared:
    """A network of some layers before its training on all samples at once."""
    classifier = ssm.ReweightedClassifier(
        class_weight=functools.partial(weights.power_law, exponent=exponent),
        optimizer=OPTIMIZER,
        learning_rate=RATE,
        batch_size=len(labels),
        evaluate_every=every,
        dtype="float64",
        **layers,
    )
    return stepping.prepared(classifier, X, labels, seed)


features = jax.jit(
    functools.partial(networks.in_blocks, networks.last_features), static_argnames="image_shape"
)


def run_digits(config: Config, ratio: float, exponent: float, seed: int) -> xr.Dataset:
    """The log of the network of `digits` on images that the seed draws."""
    images, labels = data.load_digits()
    chosen, _ = data.draw(labels, 0, config.counts(ratio), np.random.default_rng(seed))
    X, y = digits_network.rows(images[chosen]).astype(float), labels[chosen]
    layers = {"hidden_layer_sizes": (), "channels": CHANNELS, "image_shape": (8, 8)}
    steps = range(0, config.num_steps + 1, config.evaluate_every)
    return _log(X, y, exponent, seed, steps, layers)


def run_alike(
    config: Config, ratio: float, exponent: float, seed: int, coupling: float
) -> xr.Dataset:
    """The log of a network of one hidden layer on samples of a class that are all alike."""
    counts = config.counts(ratio)
    X, y = alike(counts, coupling), np.repeat(np.arange(NUM_CLASSES), counts)
    steps = range(0, config.alike_steps + 1, config.evaluate_every)
    return _log(SIZE * X, y, exponent, seed, steps, {"hidden_layer_sizes": (HIDDEN,)})


def alike(counts: np.ndarray, coupling: float) -> Float[np.ndarray, "n p"]:
    """Samples as rows whose inner products are the model's kernel: c within a class, 1 of each with itself, 0 else."""
    labels, n = np.repeat(np.arange(NUM_CLASSES), counts), int(counts.sum())
    own = np.sqrt(coupling) * np.eye(NUM_CLASSES)[labels]
    return np.hstack([own, np.sqrt(1 - coupling) * np.eye(n)])


def _log(
    X: np.ndarray, y: np.ndarray, exponent: float, seed: int, steps: range, layers: dict[str, Any]
) -> xr.Dataset:
    """The log of one training: of the tracker's variables those that are used here, what `_read_off` finds, and the inner
    products `gram` (factor, class, class) of rows of W and of class means.

    The tracker is told features less the mean of the class means, and W less its mean row. Neither changes what the
    network tells apart: features after a rectifier are of one sign, and the geometries are of centred ones; the mean row
    no step moves.
    """
    tracker = ssm.Tracker(y, on_alarm=lambda alarm: None)
    grams, read_off = [], []
    with jax.enable_x64(True):
        begun = start(X, y, exponent, seed, steps.step, **layers)
        seen = jnp.asarray(np.asarray(begun.task.X)[: len(y)])  # with the features of padding
        for step, params in zip(steps, stepping.networks_at(begun, steps), strict=True):
            W = np.asarray(params[-1].kernel).T
            H = np.asarray(features(params, seen, begun.task.image_shape))
            logits = H @ W.T
            means = np.stack([H[y == c].mean(axis=0) for c in range(NUM_CLASSES)])
            H, means, W = H - means.mean(axis=0), means - means.mean(axis=0), W - W.mean(axis=0)
            tracker.add(step, logits, H, W, weights=begun.task.class_weights)
            grams.append([W @ W.T, means @ means.T])
            read_off.append(_read_off(logits, y, begun.task.class_weights))
    kept = ["class_accuracy", "nc1", "nc1_traces", "seli_distance", "etf_distance", "coupling"]
    log = tracker.dataset()[kept].drop_vars("class_group", errors="ignore").load()
    margin, mean_margin, carriers, log_loss = map(np.array, zip(*read_off, strict=True))
    return log.assign(
        gram=(("time", "factor", "class", "other"), np.array(grams)),
        margin=(("time", "group"), margin),
        mean_margin=(("time", "group"), mean_margin),
        carriers=(("time", "group"), carriers),
        log_loss=("time", log_loss),
    ).assign_coords(group=GROUPS)


def _read_off(
    logits: Float[np.ndarray, "n k"], labels: np.ndarray, class_weights: np.ndarray
) -> tuple[list[float], list[float], list[float], float]:
    """Of each of `GROUPS` the least lead of an image's own logit, the mean lead, and how many images of a class carry its
    loss, (sum l)^2 / sum l^2; and the log of the training loss. It goes by logarithms, since losses of e^-300 are far
    below what a probability near 1 can hold."""
    own = np.arange(len(labels)), labels
    others = logits.copy()
    others[own] = -np.inf
    lead = logits[own] - others.max(axis=1)
    log_losses = np.asarray(losses.log_cross_entropy(jnp.asarray(logits.T), jnp.asarray(labels)))
    weighted = np.exp(log_losses - log_losses.max()) * class_weights[labels] / len(labels)
    log_loss = float(np.log(weighted.sum()) + log_losses.max())
    least, mean, carriers = [], [], []
    for classes in np.split(np.arange(NUM_CLASSES), [NUM_MAJORITY]):
        mine = lead[np.isin(labels, classes)]
        least.append(float(mine.min()))
        mean.append(float(mine.mean()))
        each_loss = [
            np.exp(log_losses[labels == c] - log_losses[labels == c].max()) for c in classes
        ]
        carriers.append(float(np.mean([x.sum() ** 2 / (x**2).sum() for x in each_loss])))
    return least, mean, carriers, log_loss


def follow(config: Config, report: Report) -> xr.Dataset:
    """All runs, by imbalance ratio, weighting, seed and time. Weights of equal counts are 1, so that ERM's
    run at R = 1 stands for both."""
    cases = [
        (ratio, name, seed)
        for ratio, name, seed in itertools.product(config.ratios, WEIGHTINGS, config.seeds)
        if ratio > 1 or name == "ERM"
    ]
    found = {
        (ratio, name, seed): run_digits(config, ratio, WEIGHTINGS[name], seed)
        for ratio, name, seed in each(cases, report)
    }

    def of(ratio: float, name: str, seed: int) -> xr.Dataset:
        return found[ratio, name if ratio > 1 else "ERM", seed]

    return xr.concat(
        [
            xr.concat(
                [
                    xr.concat([of(ratio, name, seed) for seed in config.seeds], "seed")
                    for name in WEIGHTINGS
                ],
                xr.Variable("weighting", list(WEIGHTINGS)),
            )
            for ratio in config.ratios
        ],
        xr.Variable("imbalance_ratio", list(config.ratios)),
    )


def follow_alike(config: Config, report: Report) -> dict[tuple[float, float, str], xr.Dataset]:
    """Runs over seeds on samples that are alike, R > 1, by coupling, ratio and weighting: weighted ones at the first coupling."""
    ratios = [ratio for ratio in config.ratios if ratio > 1]
    cases = [
        (coupling, ratio, name)
        for coupling, ratio, name in itertools.product(config.couplings, ratios, WEIGHTINGS)
        if name == "ERM" or coupling == config.couplings[0]
    ]
    return {
        (c, ratio, name): xr.concat(
            [run_alike(config, ratio, WEIGHTINGS[name], seed, c) for seed in config.seeds], "seed"
        )
        for c, ratio, name in each(cases, report)
    }


def unit(grams: Float[np.ndarray, "*batch k k"]) -> Float[np.ndarray, "*batch k k"]:
    """Matrices over their Frobenius norms."""
    return grams / np.sqrt((grams**2).sum(axis=(-2, -1), keepdims=True))


class Family(NamedTuple):
    """The geometries from the ETF to SELI of some counts and beyond: SELI of the counts n_c^a, which is the ETF at a = 0."""

    grams: Float[np.ndarray, "factor a k k"]
    """Of W and class means, over their norms, at `POSITIONS`."""

    @classmethod
    def of(cls, counts: np.ndarray) -> Family:
        """That of these counts."""
        found = [geometry.seli(counts.astype(float) ** a) for a in POSITIONS]
        return cls(unit(np.array([[x.classifier for x in found], [x.features for x in found]])))

    def positions(
        self, grams: Float[np.ndarray, "*batch factor k k"]
    ) -> Float[np.ndarray, "*batch factor"]:
        """The a whose geometry is nearest to each matrix over its norm, of W and of class means."""
        alike = np.einsum("...fij,faij->...fa", unit(grams), self.grams)
        return POSITIONS[alike.argmax(axis=-1)]


def predicted_position(counts: np.ndarray, coupling: Any) -> np.ndarray:
    """The a of coupled features: SELI of n_c / kappa_c, kappa_c = 1 + c (n_c - 1), whose ratio is R^a with
    a = 2 (1 - g*)."""
    return 2 * (1 - np.asarray(theory.balancing_exponent(counts.max(), counts.min(), coupling)))


def apart(runs: xr.Dataset) -> Float[np.ndarray, "seed t factor"]:
    """Distance of the matrices of weighted runs, over their norms, from those of ERM, at the same steps."""
    grams = unit(runs["gram"].transpose("weighting", "seed", "time", ...).values)
    return np.sqrt(((grams[1] - grams[0]) ** 2).sum(axis=(-2, -1)))


def fitted(runs: xr.Dataset) -> xr.DataArray:
    """Whether every training image was classified right."""
    return (runs["class_accuracy"] == 1).all("class")


def first_fitted(runs: xr.Dataset) -> xr.DataArray:
    """Index of the first of those times for each run; the last one where there is none."""
    is_fitted = fitted(runs)
    return is_fitted.argmax("time").where(is_fitted.any("time"), runs.sizes["time"] - 1).astype(int)
