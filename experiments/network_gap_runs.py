"""What the experiment `network_gap` trains: networks of one hidden layer with a part left out, the convolutional
network of the experiment `digits`, and the small-scale model with that network's kernel put in."""

from __future__ import annotations

import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float

import ssm
from experiments import bridge, digits_network, stepping, tangent_kernels
from experiments import bridge_network as networks
from experiments.data import NUM_CLASSES, Split
from experiments.tangent_kernels import NUM_MAJORITY
from ssm import fits, spectral, weights
from ssm.config.model import Bias
from ssm.practice import kernels
from ssm.practice.network.parameters import Prepared
from ssm.problem import membership

Units = Literal["rectified", "fixed gates", "linear"]
LONGEST = 1200  # steps
GROUPS = np.repeat(["majority", "minority"], NUM_MAJORITY)
GENTLE, GENTLE_STEPS = 0.05, 400  # rate and steps of gradient descent, near the flow
MODEL_STEPS = 200
FEATURES = 64  # of the model, half of the network's
SMALL = 0.01  # of the scale of the network's start


class Cell(NamedTuple):
    """A kind of network of one hidden layer, its inputs and its start."""

    units: Units
    bias: Bias
    overlap: bool
    """Digits, whose classes overlap, or inputs of the same coupling and size whose classes are orthogonal."""
    start: str


def slope(cell: Cell, images: np.ndarray, labels: np.ndarray, seed: int) -> float:
    """Power of R by which a unit of the weight exponent moves the ratio of learning times."""
    drawn = networks.samples(images, labels, 0.0, seed)
    if not cell.overlap:
        coupling = kernels.measured_coupling(drawn.X, drawn.labels).coupling
        drawn = networks.orthogonal_samples(coupling, drawn, seed)
    scale = bridge.STARTS[cell.start]
    begun = networks.start(drawn, scale, 0.0, 1.0, seed)
    H = np.asarray(networks.features(begun.params, drawn.X))
    own = kernels.measured_coupling(H, drawn.labels)
    rate = bridge.learning_rate(own, drawn.X, H, scale)
    used = np.abs(drawn.X).max(axis=0) > 0  # no noise: its inputs are 0
    A, W = (np.asarray(layer.kernel) for layer in begun.params)
    class_weights = [weights.power_law(networks.COUNTS, g) for g in networks.EXPONENTS]
    of_samples = np.stack(class_weights)[:, drawn.labels].astype(np.float32)
    labels_ = np.eye(NUM_CLASSES, dtype=np.float32)[drawn.labels]
    with jax.enable_x64(False):
        steps, gains = _descend(
            A[: len(used)][used],
            W,
            drawn.X[:, used],
            labels_,
            of_samples,
            np.float32(rate),
            np.array([cell.bias in (layer, "both") for layer in ("hidden", "output")], np.float32),
            cell.units,
        )
    gains = np.asarray(gains)[: int(steps)]
    times = np.array(
        [
            spectral.learning_times(np.arange(len(gains), dtype=float), own - own[:1])
            for own in np.moveaxis(gains, 1, 0)
        ]
    )
    inverse = (networks.MAJORITY / networks.MINORITY) ** np.array(networks.EXPONENTS)
    return float(fits.power_law(inverse, times[:, 1] / times[:, 0])["exponent"])


@functools.partial(jax.jit, static_argnames="units")
def _descend(
    A: Float[Array, "p d"],
    W: Float[Array, "d k"],
    X: Float[Array, "n p"],
    labels: Float[Array, "n k"],
    of_samples: Float[Array, "e n"],
    rate: Array,
    biases: Float[Array, " 2"],
    units: Units,
) -> tuple[Array, Array]:
    """Gradient descent under each row of weights, until all contrasts have gained half of their target: the number of
    steps, and the shares of the target that the groups' contrasts have at each of them, (t, e, 2). The biases of the
    hidden layer and of the logits move at these shares of the rate, 0 or 1."""
    num, averages = len(of_samples), (labels / labels.sum(0)[None]).T
    gates = X @ A > 0

    def risk(params: Any, own: Array) -> tuple[Array, Array]:
        A, a, W, b = params
        H = X @ A + a[None]
        if units != "linear":
            H = jnp.where(gates, H, 0) if units == "fixed gates" else jax.nn.relu(H)
        Z = H @ W + b[None]
        return -((jax.nn.log_softmax(Z) * labels).sum(1) * own).mean(), Z

    slopes = jax.vmap(jax.grad(risk, has_aux=True))

    def step(state: Any) -> Any:
        i, params, kept = state
        grads, Z = slopes(params, of_samples)
        kept = kept.at[i].set(jax.vmap(lambda z: networks.contrasts(averages @ z))(Z))
        scales = (1.0, biases[0], 1.0, biases[1])
        moved = [x - rate * s * g for x, s, g in zip(params, scales, grads, strict=True)]
        return i + 1, tuple(moved), kept

    def unlearned(state: Any) -> Array:
        i, _, kept = state
        gained = kept[jnp.maximum(i - 1, 0)] - kept[0]
        return (i < LONGEST) & ((i < 1) | (gained < spectral.LEARNED).any())

    zeros = jnp.zeros(W.shape[0]), jnp.zeros(W.shape[1])
    first = tuple(jnp.broadcast_to(x[None], (num, *x.shape)) for x in (A, zeros[0], W, zeros[1]))
    kept = jnp.zeros((LONGEST, num, 2))
    steps, _, kept = jax.lax.while_loop(unlearned, step, (0, first, kept))
    return steps, kept


class Convolutional(NamedTuple):
    """One convolutional network under ERM: when contrasts among majorities, across, and among minorities are half
    learned, shape (3,), since the start and less the offset that all images share."""

    trained: np.ndarray
    """Steps of its own training, mini-batches with momentum."""
    descended: np.ndarray
    """Flow time of gradient descent at a small rate."""
    growth: np.ndarray
    """kappa of contrasts where the latter has learned majorities, and where minorities, over that at the start,
    (2, 2): [where, group]."""
    model: dict[str, np.ndarray]
    """The model's: see `model_times`."""


def convolutional(images: np.ndarray, labels: np.ndarray, renamed: int, seed: int) -> Convolutional:
    """Train it, and the model with its kernel; with `renamed` the digits 0 to 4 are the minorities."""
    config = bridge.CONVOLUTIONAL
    split = digits_network.drawn(config, images, networks.renamed(labels, renamed), seed)
    steps = config.evaluation_steps()
    logits, _, logged = digits_network.run_one(config, split, 0.0, seed)
    trained = block_times(digits_network.mean_logits(logits, logged), logged, steps.astype(float))
    begun = digits_network.start(config, split, 0.0, seed)
    descended, growth = _descended(config, split, begun, seed)
    return Convolutional(trained, descended, growth, model_times(config, split, begun, seed))


def _descended(
    config: digits_network.Config, split: Split, begun: Prepared, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Flow times of full-batch gradient descent, and how far kappa of contrasts has grown."""
    X, y, shape = (
        digits_network.rows(split.train_images),
        split.train_labels,
        begun.task.image_shape,
    )
    classifier = ssm.ReweightedClassifier(
        class_weight=functools.partial(weights.power_law, exponent=0.0),
        hidden_layer_sizes=(),
        channels=config.channels,
        image_shape=shape,
        optimizer="gd",
        learning_rate=GENTLE,
        batch_size=len(y),
        evaluate_every=digits_network.AT_ONCE,
        dtype="float32",
    )
    own = stepping.prepared(classifier, X, y, seed)._replace(params=begun.params)
    steps = np.unique(np.r_[np.arange(60), np.arange(60, GENTLE_STEPS + 1, 4)])
    kept, logits = [], []
    with jax.enable_x64(False):
        for params in stepping.networks_at(own, steps.tolist()):
            kept.append(jax.device_get(params))
            logits.append(np.asarray(digits_network.network_logits(params, X, shape), float))
    means = digits_network.mean_logits(np.stack(logits), y)
    times = block_times(means, y, steps * GENTLE)
    units = tangent_kernels.rectified(shape)

    def kernel(time: float) -> np.ndarray:
        place = np.searchsorted(steps * GENTLE, time)
        if place == len(kept):  # not learned
            return np.full(2, np.nan)
        return tangent_kernels.measured_start(kept[place], X, y, units).kernel

    grown = np.array([kernel(times[0]), kernel(times[2])])
    return times, grown / kernel(0.0)


def model_times(
    config: digits_network.Config, split: Split, begun: Prepared, seed: int
) -> dict[str, np.ndarray]:
    """Learning times of the model, ever more of the network put in.

    `small`: one coupling c, a small start, the flow; `flow ...`: a start of the network's size; `trained ...`: that
    and the network's optimiser, rate, momentum and batches, in steps; `momentum ...`: that without batches. Of the
    kernel: one `coupling` c, kappa_c and size of each of the `classes`, or all of the `kernel`.
    """
    X, y, shape = (
        digits_network.rows(split.train_images),
        split.train_labels,
        begun.task.image_shape,
    )
    units = tangent_kernels.rectified(shape)
    K = tangent_kernels.tangent_kernel(begun.params, X, units)
    size = tangent_kernels.measured_start(begun.params, X, y, units).size.mean()
    scale = float(np.sqrt(size / (2 * FEATURES)))
    base: dict[str, Any] = {"num_classes": NUM_CLASSES, "feature_dim": FEATURES, "seed": seed}
    base |= {"init_scale": scale, "save_state": True}
    training = {
        "optimizer": "momentum",
        "learning_rate": config.learning_rate,
        "momentum": config.momentum,
        "batch_size": config.batch_size,
        "num_steps": MODEL_STEPS,
        "num_saves": MODEL_STEPS + 1,
    }
    flow = {"t1": GENTLE * GENTLE_STEPS * 2, "num_saves": 401}
    coupling, classes = block_kernels(K, y)
    found = {}
    for name, kernel in (("coupling", coupling), ("classes", classes), ("kernel", K)):
        inputs = factor(kernel)
        for kind, numbers in (("flow", flow), ("trained", training)):
            run = ssm.simulate(ssm.Config(**base, **numbers), inputs=inputs, labels=y)
            found[f"{kind} {name}"] = _times_of_run(run, inputs, y)
    inputs = factor(coupling)
    whole = {name: number for name, number in training.items() if name != "batch_size"}
    small = {"init_scale": SMALL * scale, "num_saves": 401}
    for name, numbers in (("momentum coupling", whole), ("small coupling", small)):
        run = ssm.simulate(ssm.Config(**{**base, **numbers}), inputs=inputs, labels=y)
        found[name] = _times_of_run(run, inputs, y)
    return found


def factor(kernel: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
    """Inputs as rows whose inner products are the kernel: its symmetric root, which unlike its eigenvectors is one alone, so that
    a start that is drawn for its columns is the same on every machine."""
    values, vectors = np.linalg.eigh(kernel)
    return vectors * np.sqrt(values.clip(0)) @ vectors.T


def block_kernels(
    kernel: Float[np.ndarray, "n n"], labels: np.ndarray
) -> tuple[Float[np.ndarray, "n n"], Float[np.ndarray, "n n"]]:
    """What of a kernel lies within classes, less what all samples share: as one coupling c, and with the size and
    coupling of each class, `kernels.Coupling`."""
    members = membership(labels, NUM_CLASSES)
    counts = members.sum(axis=0)
    averages = members / counts
    gram, squares = averages.T @ kernel @ averages, np.diagonal(kernel) @ averages
    found = kernels.coupling_of_moments(gram, squares, counts.astype(int))
    across = gram.sum() - np.trace(gram)
    size = squares.mean() - across / (NUM_CLASSES * (NUM_CLASSES - 1))
    own = found.class_coupling
    sizes = size * found.kernel_eigenvalues / (1 + own * (counts - 1))

    def of(c: np.ndarray, a: np.ndarray) -> np.ndarray:
        same = labels[:, None] == labels
        return np.where(same, (a * c)[labels], 0.0) + np.diag((a * (1 - c))[labels])

    every = np.ones(NUM_CLASSES)
    return of(found.coupling * every, size * every), of(own, sizes)


def block_times(
    means: Float[np.ndarray, "t k k"], labels: np.ndarray, times: np.ndarray
) -> np.ndarray:
    """When contrasts among majorities, across, and among minorities have gained half of their targets, from class
    means of logits, [class, logit], less the mean over classes, an offset of all samples."""
    counts = np.bincount(labels, minlength=NUM_CLASSES)
    components = spectral.label_spectrum(counts, class_groups=GROUPS)
    left, squares = components.left, components.singular_values**2
    own = means - means.mean(axis=1, keepdims=True)
    shares = np.einsum("cj,tcd,dj->tj", left * counts[:, None], own, left) / squares
    blocks = [shares[:, components.blocks == block].mean(axis=1) for block in spectral.BLOCKS]
    gained = np.stack(blocks, axis=1)
    return spectral.learning_times(times, gained - gained[:1])


def _times_of_run(run: xr.Dataset, inputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    members = membership(labels, NUM_CLASSES)
    of_classes = inputs.T @ (members / members.sum(axis=0))
    H = run["A"].values @ of_classes
    means = (run["W"].values @ H).transpose(0, 2, 1)
    return block_times(means, labels, run["time"].values.astype(float))
