"""The real thing: a small convolutional network on STEP-imbalanced digits, cross-entropy (ERM) against weighted."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np
import optax
from jaxtyping import Array, Float, Float32, Int, Int32, PRNGKeyArray
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from PIL import Image
from sklearn.metrics import confusion_matrix

import ssm
from experiments import data
from experiments.claims import Claim, at_least, at_most
from ssm import plotting, profiles, spectral, weights
from ssm.checks import refuse
from ssm.files import replacing

METHODS = {"ERM": 0.0, "weighted CE": 1.0}  # the exponent g of the class weights
ERM, WEIGHTED = METHODS
FRAME_MS = 200


@dataclasses.dataclass(frozen=True)
class Config:
    """Every number of the experiment. A step is one update on one mini-batch.

    The learning rate is the largest of 0.0125, 0.025, ..., 0.4 at which ERM's training loss never rises by more than 0.05
    above its lowest value so far, in any seed; held-out images had no say.
    """

    held_out_per_class: int = 50
    imbalance_ratio: float = 10.0
    minority_classes: tuple[int, ...] = (5, 6, 7, 8, 9)  # the paper does not say which
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)  # each draws its own split, network and batches
    channels: tuple[int, int] = (16, 32)
    batch_size: int = 128  # about 12 minority images a batch
    learning_rate: float = 0.05
    momentum: float = 0.9
    num_steps: int = 1000  # ERM's training loss ends near 0.001
    dense_steps: int = 60  # evaluated at every step up to here, then at ever longer intervals
    num_sparse: int = 40  # evaluations after dense_steps
    max_logged: int = 2000  # training images whose logits are logged; fewer if there are fewer
    confusion_steps: tuple[int, ...] = (10, 20, 40, 100, 1000)

    def evaluation_steps(self) -> Int32[np.ndarray, " t"]:
        """Steps after which the network is evaluated, ascending from 0 to num_steps."""
        sparse = np.geomspace(self.dense_steps, self.num_steps, self.num_sparse + 1).round()
        steps = np.concatenate([np.arange(self.dense_steps), sparse, self.confusion_steps])
        return np.unique(steps).astype(np.int32)


QUICK = {"seeds": (0, 1), "num_steps": 100, "confusion_steps": (10, 20, 40, 100), "num_sparse": 5}
MNIST = {"held_out_per_class": 500}


class Network(eqx.Module):
    """Two 3 x 3 convolutions of stride 2 with ReLU and a linear layer: image (1, h, w) -> logits (k,)."""

    convolutions: tuple[eqx.nn.Conv2d, eqx.nn.Conv2d]
    linear: eqx.nn.Linear

    def __init__(self, key: PRNGKeyArray, image_shape: tuple[int, ...], channels: tuple[int, int]):
        keys = jax.random.split(key, 3)
        convolution = functools.partial(eqx.nn.Conv2d, kernel_size=3, stride=2, padding=1)
        self.convolutions = (
            convolution(image_shape[0], channels[0], key=keys[0]),
            convolution(channels[0], channels[1], key=keys[1]),
        )
        height, width = (-(-side // 4) for side in image_shape[1:])
        self.linear = eqx.nn.Linear(channels[1] * height * width, data.NUM_CLASSES, key=keys[2])

    def __call__(self, image: Float[Array, "1 h w"]) -> Float[Array, " k"]:
        for convolution in self.convolutions:
            image = jax.nn.relu(convolution(image))
        return self.linear(image.ravel())


def weighted_loss(
    network: Network,
    images: Float[Array, "b 1 h w"],
    labels: Int[Array, " b"],
    class_weights: Float[Array, " k"],
) -> Float[Array, ""]:
    """(1/b) sum_i w_{y_i} CE(f(x_i), y_i)."""
    losses = optax.softmax_cross_entropy_with_integer_labels(jax.vmap(network)(images), labels)
    return (class_weights[labels] * losses).mean()


def logged(train: np.ndarray, config: Config) -> np.ndarray:
    """The training images (or labels) whose logits are logged: evenly spaced, so that the imbalance stays."""
    return train[:: -(-len(train) // config.max_logged)]


@functools.partial(jax.jit, static_argnames="config")
def train(
    config: Config,
    key: PRNGKeyArray,
    split: data.Split,
    order: Int32[Array, "steps b"],
    class_weights: Float32[Array, " k"],
) -> tuple[Float32[Array, "t n k"], Int32[Array, "t m"]]:
    """Train one network by SGD with momentum; everything but `config` is an array, so all runs share one compilation.

    Returns the logits of the logged training images and the predicted classes of the held-out images, at each
    evaluation step.
    """
    optimizer = optax.sgd(config.learning_rate, config.momentum)
    images = logged(split.train_images, config)

    def step(i, state):
        network, momenta = state
        batch = order[i]
        gradient = jax.grad(weighted_loss)(
            network, split.train_images[batch], split.train_labels[batch], class_weights
        )
        updates, momenta = optimizer.update(gradient, momenta)
        return eqx.apply_updates(network, updates), momenta

    def advance(state, interval):
        state = jax.lax.fori_loop(interval[0], interval[1], step, state)
        predict = jax.vmap(state[0])
        return state, (predict(images), predict(split.test_images).argmax(-1))

    network = Network(key, split.train_images.shape[1:], config.channels)
    steps = config.evaluation_steps()
    intervals = np.stack([np.append(0, steps[:-1]), steps], axis=1)
    return jax.lax.scan(advance, (network, optimizer.init(network)), intervals)[1]


class Outcome(NamedTuple):
    """What is kept of all runs of one method."""

    confusion: np.ndarray
    """Held-out confusion matrices [true, predicted], each row summing to 1, shape (seed, t, k, k)."""
    progress: np.ndarray
    """Strength over target of the blocks `spectral.BLOCKS`, from training logits, shape (seed, t, 3)."""
    learning_time: np.ndarray
    """Steps until each block's strength is half its target, shape (seed, 3), NaN where it stays below."""


def confusions(labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Confusion matrices [true, predicted] over time, rows summing to 1: (m,), (t, m) -> (t, k, k)."""
    classes = np.arange(data.NUM_CLASSES)
    return np.stack(
        [confusion_matrix(labels, p, labels=classes, normalize="true") for p in predictions]
    )


def recall(confusion: np.ndarray, config: Config) -> dict[str, np.ndarray]:
    """Mean recall over the classes of each group and over all classes: (..., k, k) -> (...)."""
    by_class = np.diagonal(confusion, axis1=-2, axis2=-1)
    minority = np.isin(np.arange(data.NUM_CLASSES), config.minority_classes)
    return {
        "majority": by_class[..., ~minority].mean(-1),
        "minority": by_class[..., minority].mean(-1),
        "balanced accuracy": by_class.mean(-1),
    }


def outcomes(
    config: Config, images: np.ndarray, labels: np.ndarray, report: Callable[[float], None]
) -> dict[str, Outcome]:
    """Run every seed with every method; of one seed, both have the same split, first network and batches."""
    # one run after another: measured, neither a vmap over seeds nor two threads are faster
    kept: dict[str, list[Outcome]] = {method: [] for method in METHODS}
    for i, seed in enumerate(config.seeds):
        split = data.split(
            images,
            labels,
            config.held_out_per_class,
            config.imbalance_ratio,
            config.minority_classes,
            seed,
        )
        n = len(split.train_labels)
        order = data.batches(n, config.batch_size, config.num_steps, seed)
        for j, (method, exponent) in enumerate(METHODS.items()):
            class_weights = weights.power_law(np.bincount(split.train_labels), exponent)
            logits, predictions = train(
                config, jax.random.key(seed), split, order, class_weights.astype(np.float32)
            )
            labels_logged = logged(split.train_labels, config)
            tracked = ssm.track(logits, labels_logged, times=config.evaluation_steps())
            progress = (tracked["block_strength"] / tracked["block_target"]).values
            confusion = confusions(split.test_labels, np.asarray(predictions))
            kept[method].append(Outcome(confusion, progress, tracked["block_learning_time"].values))
            report((i + (j + 1) / len(METHODS)) / len(config.seeds))
    return {name: Outcome(*map(np.stack, zip(*runs, strict=True))) for name, runs in kept.items()}


def first_passing(steps: np.ndarray, level: float, *curves: np.ndarray) -> float:
    """First of the evaluated `steps` (t,) at which every curve (t,) is at least `level`; infinity if none is."""
    reached = np.min(curves, axis=0) >= level
    return float(steps[reached.argmax()]) if reached.any() else np.inf


def make_claims(config: Config, results: dict[str, Outcome]) -> list[Claim]:
    """The claims, all on recall averaged over seeds but the last, on learning times averaged over seeds."""
    steps = config.evaluation_steps()
    by_seed = {method: recall(result.confusion, config) for method, result in results.items()}
    mean = {m: {name: v.mean(0) for name, v in curves.items()} for m, curves in by_seed.items()}

    def minority_at_passing(curves: dict[str, np.ndarray]) -> tuple[float, float]:
        step = first_passing(steps, 0.97, curves["majority"])
        return step, float(np.append(curves["minority"], np.nan)[np.searchsorted(steps, step)])

    def first_both(level: float) -> list[float]:
        return [
            first_passing(steps, level, mean[m]["majority"], mean[m]["minority"]) for m in METHODS
        ]

    passing, minority = minority_at_passing(mean[ERM])
    seeds = range(len(config.seeds))
    own = [minority_at_passing({g: by_seed[ERM][g][i] for g in by_seed[ERM]})[1] for i in seeds]
    both = {level: first_both(level) for level in (0.9, 0.85, 0.8)}
    erm, weighted = both[0.9]
    gap = mean[WEIGHTED]["balanced accuracy"] - mean[ERM]["balanced accuracy"]
    largest = np.abs(gap).argmax()
    delay_erm, delay_weighted = (
        np.mean(results[m].learning_time[:, 2] / results[m].learning_time[:, 0]) for m in METHODS
    )
    where = "held-out recall, mean over seeds"
    return [
        _noted(
            at_most(
                f"ERM's minority recall when majority first passes 0.97 ({where})", 0.5, minority
            ),
            f"step {passing:g}; when each seed passes: {np.mean(own):.3g}",
        ),
        _noted(
            at_most(
                f"steps until majority and minority reach 0.9, weighted CE over ERM ({where}; "
                f"{config.num_steps} for an ERM that never does)",
                1 / 3,
                weighted / min(erm, config.num_steps),
            ),
            "; ".join(f"to {level:g}: {w:g} over {e:g}" for level, (e, w) in both.items()),
        ),
        _noted(
            at_most(
                f"balanced accuracy, weighted CE minus ERM: last step over largest ({where})",
                0.25,
                float(abs(gap[-1] / gap[largest])),
            ),
            f"{gap[-1]:.3f} over {gap[largest]:.3f} at step {steps[largest]}",
        ),
        _noted(
            at_least(
                "learning time of the minority block over the majority's, ERM over weighted CE "
                "(training logits, ratios averaged over seeds)",
                2,
                float(delay_erm / delay_weighted),
            ),
            f"{delay_erm:.3g} over {delay_weighted:.3g}",
        ),
    ]


def _noted(claim: Claim, note: str) -> Claim:
    return dataclasses.replace(claim, measured=f"{claim.measured} ({note})")


def _band(axes: Axes, steps: np.ndarray, values: np.ndarray, **line: str) -> None:
    """The mean of `values` (seed, t), and a band from their least to their greatest."""
    (drawn,) = axes.plot(steps, values.mean(0), **line)
    band = {"color": drawn.get_color(), "alpha": 0.2, "lw": 0}
    axes.fill_between(steps, values.min(0), values.max(0), **band)


def _step_axis(axes: Axes, config: Config) -> None:
    label = f"step (one batch of {config.batch_size} images)"
    axes.set(xscale="log", xlabel=label, xlim=(1, config.num_steps))


def _spread(config: Config) -> str:
    return f"(mean and range of {len(config.seeds)} seeds)"


def draw_recall(path: Path, config: Config, results: dict[str, Outcome]) -> None:
    """Held-out recall of the two groups under each method, and the balanced accuracy of both methods."""
    steps = config.evaluation_steps()
    with plotting.style():
        figure = Figure(figsize=(plotting.PAGE_WIDTH, 2.5))
        axes = figure.subplots(1, 3, sharey=True)
        for ax, (method, result), line in zip(axes, results.items(), (":", "-"), strict=False):
            curves = recall(result.confusion, config)
            for group in profiles.MAJORITY, profiles.MINORITY:
                _band(ax, steps, curves[group], color=plotting.COLORS[group], label=group)
            _band(axes[2], steps, curves["balanced accuracy"], color="black", ls=line, label=method)
            ax.set_title(method)
        axes[2].set_title("balanced accuracy")
        axes[0].set(ylabel=f"held-out recall\n{_spread(config)}", ylim=(-0.02, 1.02))
        for ax in axes:
            _step_axis(ax, config)
            ax.grid(axis="y", color="0.9", lw=0.6)
        for ax in axes[0], axes[2]:
            ax.legend(loc="upper left", handlelength=1.5, borderaxespad=0)
    plotting.save_figure(figure, path)


def draw_spectrum(path: Path, config: Config, results: dict[str, Outcome]) -> None:
    """What the network's training logits hold of each block of the label matrix, under each method."""
    ticks = (-10, -3, -1, 0, 1, 3, 10, 30)
    with plotting.style():
        figure = Figure(figsize=(plotting.PAGE_WIDTH, 2.6))
        axes = figure.subplots(1, len(results), sharey=True)
        for ax, (method, result) in zip(axes, results.items(), strict=True):
            for i, block in enumerate(spectral.BLOCKS):
                line = {"color": plotting.COLORS[block], "label": block}
                _band(ax, config.evaluation_steps(), result.progress[..., i], **line)
            ax.axhline(spectral.LEARNED, color="0.4", lw=0.8, ls="--", zorder=0)
            _step_axis(ax, config)
            ax.set_yscale("asinh", linear_width=0.5)  # zero, signs and orders of magnitude at once
            ax.set_yticks(ticks, map(str, ticks))
            ax.set_title(method)
        axes[1].text(1.1, 0.55, "learned: half the target", color="0.4", fontsize=7, va="bottom")
        axes[0].set_ylabel(f"strength / target\n{_spread(config)}")
        axes[0].legend(loc="lower left", title="block")
    plotting.save_figure(figure, path)


def _matrix(axes: Axes, confusion: np.ndarray, config: Config) -> AxesImage:
    """One confusion matrix (k, k), with lines between majority and minority classes."""
    image = axes.imshow(confusion, cmap=colormaps["viridis"].resampled(50), vmin=0, vmax=1)
    border = min(config.minority_classes) - 0.5
    axes.axhline(border, color="white", lw=0.8)
    axes.axvline(border, color="white", lw=0.8)
    axes.set(xticks=range(data.NUM_CLASSES), yticks=range(data.NUM_CLASSES))
    for ticks in axes.get_xticklabels(), axes.get_yticklabels():
        for label, tick in enumerate(ticks):
            group = profiles.MINORITY if label in config.minority_classes else profiles.MAJORITY
            tick.set_color(plotting.COLORS[group])
    return image


def draw_confusion(path: Path, config: Config, results: dict[str, Outcome]) -> None:
    """Held-out confusion matrices, mean over seeds, at chosen steps (columns) under each method (rows)."""
    steps = config.evaluation_steps()
    with plotting.style():
        figure = Figure(figsize=(plotting.PAGE_WIDTH, 3.1))
        axes = figure.subplots(2, len(config.confusion_steps), sharex=True, sharey=True)
        for row, (method, result) in zip(axes, results.items(), strict=True):
            for ax, step in zip(row, config.confusion_steps, strict=True):
                image = _matrix(ax, result.confusion[:, steps == step].mean((0, 1)), config)
            row[0].set_ylabel(f"{method}\ntrue class")
        for top, bottom, step in zip(*axes, config.confusion_steps, strict=True):
            top.set_title(f"step {step}")
            bottom.set_xlabel("predicted class")
        figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    plotting.save_figure(figure, path)


def film_confusion(path: Path, config: Config, results: dict[str, Outcome]) -> None:
    """An animated GIF of the two confusion matrices, mean over seeds, a frame for every other evaluated step."""
    steps = config.evaluation_steps()
    means = [result.confusion.mean(0) for result in results.values()]
    frames = []
    with plotting.style():
        figure = Figure(figsize=(5.6, 2.9))
        canvas = FigureCanvasAgg(figure)
        axes = figure.subplots(1, 2, sharey=True)
        images = [_matrix(ax, mean[0], config) for ax, mean in zip(axes, means, strict=True)]
        axes[0].set_ylabel("true class")
        for ax, method in zip(axes, results, strict=True):
            ax.set(xlabel="predicted class", title=method)
        figure.colorbar(images[0], ax=axes, label="share of the true class")
        title = figure.suptitle(" ")
        for t in sorted({*range(0, len(steps), 2), len(steps) - 1}):
            title.set_text(f"step {steps[t]}")
            for image, mean in zip(images, means, strict=True):
                image.set_data(mean[t])
            canvas.draw()
            figure.set_layout_engine("none")  # the first drawing has laid it out
            frames.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]))
    # the commonest colours of one frame, whose colour bar has the whole map, for all
    common = sorted(frames[0].getcolors(frames[0].width * frames[0].height), reverse=True)[:256]
    palette = Image.new("P", (1, 1))
    palette.putpalette([value for _, color in common for value in color])
    frames = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    durations = [FRAME_MS] * (len(frames) - 1) + [10 * FRAME_MS]
    with replacing(path) as scratch:
        frames[0].save(scratch, save_all=True, append_images=frames[1:], duration=durations, loop=0)


def run(
    out: Path,
    quick: bool,
    report: Callable[[float], None],
    dataset: str = "digits",
    data_dir: Path | None = None,
) -> list[Claim]:
    """Train, draw recall, spectrum and confusion as figures and confusion as a film too; return the claims."""
    config = Config(**(MNIST if dataset == "mnist" else {}), **(QUICK if quick else {}))
    if dataset == "digits":
        images, labels = data.load_digits()
    elif data_dir is None:
        raise refuse("data_dir", data_dir, "the folder with MNIST's IDX files")
    else:
        images, labels = data.load_mnist(data_dir)
    results = outcomes(config, images, labels, lambda share: report(0.9 * share))
    draw_recall(out / f"{dataset}_recall.png", config, results)
    draw_spectrum(out / f"{dataset}_spectrum.png", config, results)
    draw_confusion(out / f"{dataset}_confusion.png", config, results)
    film_confusion(out / f"{dataset}_confusion.gif", config, results)
    report(1.0)
    return make_claims(config, results)
