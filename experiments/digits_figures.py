"""Figures of the networks on digits: recall, spectrum, confusion matrices, and their film."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from PIL import Image

from experiments import data, pages
from experiments.digits_network import Config, Outcome, recall
from experiments.readings import GROUPS
from ssm import plotting, spectral
from ssm.config import profiles
from ssm.support.files import replacing

FRAME_MS = 200


def _band(axes: Axes, steps: np.ndarray, values: np.ndarray, **line: Any) -> None:
    """The mean of `values` (seed, t), and a band from their least to their greatest."""
    (drawn,) = axes.plot(steps, values.mean(0), **line)
    band = {"color": drawn.get_color(), "alpha": 0.2, "lw": 0}
    axes.fill_between(steps, values.min(0), values.max(0), **band)


def _step_axis(axes: Axes, config: Config) -> None:
    label = f"step\n(one batch of {config.batch_size} images)"
    axes.set(xscale="log", xlabel=label, xlim=(1, config.num_steps))


def _spread(config: Config) -> str:
    return f"(mean and range of {len(config.seeds)} seeds)"


def draw_all(out: Path, name: str, config: Config, results: dict[str, Outcome]) -> None:
    """The three figures and the film of one data set, whose name their files begin with."""
    draw_recall(out / f"{name}_recall.png", config, results)
    draw_spectrum(out / f"{name}_spectrum.png", config, results)
    draw_confusion(out / f"{name}_confusion.png", config, results)
    film_confusion(out / f"{name}_confusion.gif", config, results)


def draw_recall(path: Path, config: Config, results: dict[str, Outcome]) -> None:
    """Held-out recall of the two groups under each method, and the balanced accuracy of both
    methods."""
    steps = config.evaluation_steps()
    with pages.page(path, 2.3) as figure:
        axes = figure.subplots(1, 3, sharey=True)
        for ax, (method, result), line in zip(axes, results.items(), (":", "-"), strict=False):
            curves = recall(result.confusion, config)
            for group in GROUPS:
                _band(ax, steps, curves[group], color=plotting.COLORS[group], label=group)
            _band(axes[2], steps, curves["balanced accuracy"], color="black", ls=line, label=method)
            ax.set_title(method)
        axes[2].set_title("balanced accuracy")
        axes[0].set(ylabel=f"held-out recall\n{_spread(config)}", ylim=(-0.02, 1.02))
        for ax in axes:
            _step_axis(ax, config)
            ax.grid(axis="y", color="0.9", lw=0.6)
        for method, line in zip(results, (":", "-"), strict=True):
            pages.key(axes[0], method, color="black", ls=line)
        pages.legend_above(figure, axes[0], 4)


def draw_spectrum(path: Path, config: Config, results: dict[str, Outcome]) -> None:
    """What the network's training logits hold of each block of the label matrix, under each method.

    An offset for all images, which a network's biases make, moves the cross block by itself: drawn
    dotted with it, and solid without.
    """
    ticks = (-10, -3, -1, 0, 1, 3, 10, 30)
    with pages.page(path, 2.8) as figure:
        axes = figure.subplots(1, len(results), sharey=True)
        for ax, (method, result) in zip(axes, results.items(), strict=True):
            for i, block in enumerate(spectral.BLOCKS):
                line = {"color": plotting.COLORS[block], "label": block}
                _band(ax, config.evaluation_steps(), result.progress[..., i], **line)
            (raw,) = ax.plot(
                config.evaluation_steps(), result.raw_cross.mean(0), color=plotting.COLORS["cross"]
            )
            raw.set(lw=0.9, ls=":", label="cross, with offset")
            ax.axhline(spectral.LEARNED, color="0.4", lw=0.8, ls="--", zorder=0)
            _step_axis(ax, config)
            ax.set_yscale("asinh", linear_width=0.5)  # zero, signs and orders of magnitude at once
            ax.set_yticks(ticks, map(str, ticks))
            ax.set_title(method)
        inside = {"transform": axes[1].get_yaxis_transform(), "ha": "right", "va": "top"}
        axes[1].text(0.98, 0.4, "half the target", color="0.4", fontsize=7, **inside)
        axes[0].set_ylabel(f"strength / target\n{_spread(config)}")
        pages.legend_above(figure, axes[0], 4)


def _matrix(axes: Axes, confusion: np.ndarray, config: Config) -> AxesImage:
    """One confusion matrix (k, k), with lines between majority and minority classes."""
    image = axes.imshow(confusion, cmap=colormaps["viridis"].resampled(50), vmin=0, vmax=1)
    border = min(config.minority_classes) - 0.5
    axes.axhline(border, color="white", lw=0.8)
    axes.axvline(border, color="white", lw=0.8)
    axes.set(xticks=range(data.NUM_CLASSES), yticks=range(data.NUM_CLASSES))
    axes.tick_params(labelsize=5, length=1.5, pad=1.5)  # ten digits on the side of a small square
    for ticks in axes.get_xticklabels(), axes.get_yticklabels():
        for label, tick in enumerate(ticks):
            group = profiles.MINORITY if label in config.minority_classes else profiles.MAJORITY
            tick.set_color(plotting.COLORS[group])
    return image


def draw_confusion(path: Path, config: Config, results: dict[str, Outcome]) -> None:
    """Held-out confusion matrices, mean over seeds, at chosen steps (columns) under each method
    (rows)."""
    steps = config.evaluation_steps()
    with pages.page(path, 2.2) as figure:
        axes = figure.subplots(2, len(config.confusion_steps), sharex=True, sharey=True)
        for row, (method, result) in zip(axes, results.items(), strict=True):
            for ax, step in zip(row, config.confusion_steps, strict=True):
                image = _matrix(ax, result.confusion[:, steps == step].mean((0, 1)), config)
            row[0].set_ylabel(f"{method}\ntrue class")
        figure.supxlabel("predicted class")
        for top, step in zip(axes[0], config.confusion_steps, strict=True):
            top.set_title(f"step {step}")
        label = f"share of the true class\n(mean of {len(config.seeds)} seeds)"
        figure.colorbar(image, ax=axes, label=label, shrink=0.8)


def film_confusion(path: Path, config: Config, results: dict[str, Outcome]) -> None:
    """An animated GIF of the two confusion matrices, mean over seeds, a frame for every other
    evaluated step."""
    steps = config.evaluation_steps()
    means = [result.confusion.mean(0) for result in results.values()]
    frames = []
    with plotting.style():
        figure = Figure(figsize=(plotting.PAGE_WIDTH, 2.9))
        canvas = FigureCanvasAgg(figure)
        axes = figure.subplots(1, 2, sharey=True)
        images = [_matrix(ax, mean[0], config) for ax, mean in zip(axes, means, strict=True)]
        axes[0].set_ylabel("true class")
        for ax, method in zip(axes, results, strict=True):
            ax.set(xlabel="predicted class", title=method)
        figure.colorbar(images[0], ax=axes, label="share of the true class")
        title = figure.suptitle(" ")
        for t in sorted({*range(0, len(steps), 2), len(steps) - 1}):
            title.set_text(f"step {steps[t]} (mean of {len(config.seeds)} seeds)")
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
