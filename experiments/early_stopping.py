"""The window of times in which reweighting helps, at imbalance ratios 2 to 100: ERM beside the
balancing exponent of the features, 1/2 for free and 1 for shared ones.

The model has training samples only, and every run ends with all of them right; so *helps* is said
of the training samples, in two ways. Learning window: weighted, every group of classes is at least
half learned (strength half its target), and under ERM the minorities are not yet. Accuracy window:
balanced training accuracy, the mean over classes, is at least 0.1 higher with weights. What stopping
early does to held-out accuracy is seen in the `digits` experiment.

Starts have scale 1e-6. Cross-entropy with free features: features of a class start equal.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.claims import Claim, ascending, at_least, at_most, noted
from experiments.settings import (
    BALANCING,
    BASE,
    FEATURE_COLORS,
    FEATURES,
    FLOW_TIME,
    LOSSES,
    THEORY,
)
from ssm import Config, plotting, predictions, sweep, sweep_plots
from ssm.config import Loss, profiles
from ssm.problem import make_problem

RATIOS = (2, 3, 5, 10, 20, 50, 100)
DRAWN = (10, 100)  # whose curves are drawn
SCALE = 1e-6
SEEDS = 3
GROUPS = [profiles.MAJORITY, profiles.MINORITY]
AHEAD = 0.1  # of balanced accuracy, where reweighting counts as helping
LEVEL = 0.95  # of balanced accuracy, whose first time is compared

# A draw shifts each learning time by about one of its 26 or more e-folds.
TOLERANCE = 0.05


class Pair(NamedTuple):
    """ERM and weights at one imbalance ratio, from the same starts over the same times."""

    erm: xr.Dataset
    weighted: xr.Dataset
    class_weights: np.ndarray
    """Of the weighted runs, by class: majorities first."""


class Window(NamedTuple):
    """When reweighting helps, in flow time."""

    start: float
    end: float


Pairs = dict[tuple[str, str], dict[int, Pair]]
"""By loss and features, then by imbalance ratio."""


def run(out: Path, quick: bool, report: Callable[[float], None]) -> list[Claim]:
    """Draw the curves and the windows, and hold the windows against theory."""
    ratios, seeds = ((2, *DRAWN), 1) if quick else (RATIOS, SEEDS)
    pairs: Pairs = {}
    cases = list(itertools.product(LOSSES, FEATURES))
    for i, (loss, features) in enumerate(cases):
        pairs[loss, features] = {}
        for j, ratio in enumerate(ratios):
            pairs[loss, features][ratio] = follow(loss, features, ratio, seeds)
            report((i + (j + 1) / len(ratios)) / len(cases) * 0.9)
    _draw_curves(out / "early_stopping_curves.png", pairs)
    _draw_windows(out / "early_stopping_window.png", pairs)
    return [claim for case, own in pairs.items() for claim in _claims(*case, own)] + _end_claims(
        pairs
    )


def follow(loss: Loss, features: str, ratio: int, seeds: int) -> Pair:
    """ERM and the balancing exponent of the features, for as long as ERM takes."""
    base = dataclasses.replace(
        BASE,
        loss=loss,
        coupling=FEATURES[features],
        imbalance_ratio=ratio,
        init="gaussian" if loss == "squared" else "collapsed",
        init_scale=SCALE,
        save_spacing="log",
    )
    exponent = BALANCING[features]
    weighted = dataclasses.replace(base, weight_exponent=exponent)
    t1 = max(_length(base), _length(weighted))
    runs = sweep(
        {"weight_exponent": (0.0, exponent), "seed": range(seeds)},
        dataclasses.replace(base, t1=t1),
    )
    return Pair(
        runs.sel(weight_exponent=0.0),
        runs.sel(weight_exponent=exponent),
        make_problem(weighted).class_weights,
    )


def _length(config: Config) -> float:
    return predictions.automatic_t1(config, make_problem(config))


def learned(runs: xr.Dataset) -> xr.DataArray:
    """When each group is half learned, mean over seeds."""
    return runs["block_learning_time"].sel(block=GROUPS).mean("seed", skipna=False)


def expected(runs: xr.Dataset) -> np.ndarray:
    """When each of `GROUPS` is half learned by the predictions for the starts, mean over seeds."""
    times, blocks = runs["predicted_learning_time"].mean("seed"), runs["component_block"]
    return np.array([times.values[blocks.values == group].mean() for group in GROUPS])


def learning_window(pair: Pair) -> tuple[Window, Window]:
    """From every group half learned with weights until so under ERM: measured, predicted."""
    measured = (float(learned(runs).max(skipna=False)) for runs in (pair.weighted, pair.erm))
    return Window(*measured), Window(*(expected(runs).max() for runs in (pair.weighted, pair.erm)))


def balanced_accuracy(runs: xr.Dataset) -> np.ndarray:
    """Training accuracy, mean over classes and seeds: shape (time,)."""
    return runs["class_accuracy"].mean(["class", "seed"], skipna=False).values


def accuracy_window(pair: Pair) -> Window:
    """First and last time at which balanced accuracy is ahead with weights; NaN if it never is."""
    gap = balanced_accuracy(pair.weighted) - balanced_accuracy(pair.erm)
    ahead = pair.erm["time"].values[gap >= AHEAD - 1e-9]
    return Window(ahead[0], ahead[-1]) if len(ahead) else Window(np.nan, np.nan)


def first_reached(runs: xr.Dataset, level: float) -> float:
    """First observed time at which balanced accuracy is at least `level`; NaN if it never is."""
    reached = balanced_accuracy(runs) >= level
    return float(runs["time"][reached.argmax()]) if reached.any() else np.nan


def limit_of_length(ratio: float, exponent: float) -> float:
    """Learning window over ERM's minority learning time, in the small-start limit: 1 - 1 / w_min.

    Weights speed minorities up by their own weight; at the balancing exponent majorities come with
    them.
    """
    config = dataclasses.replace(BASE, imbalance_ratio=ratio, weight_exponent=exponent)
    return 1 - 1 / float(make_problem(config).class_weights[-1])


def _claims(loss: str, features: str, pairs: dict[int, Pair]) -> list[Claim]:
    """What is held of one loss and kind of features, worst over imbalance ratios."""
    name = f"{loss}, {features}, R = {min(pairs)}..{max(pairs)}"
    windows = {ratio: learning_window(pair) for ratio, pair in pairs.items()}
    off = np.array(
        [np.abs(np.divide(found, wanted) - 1) for found, wanted in windows.values()]
    ).max(0)
    lengths = {
        ratio: (found.end - found.start) / found.end for ratio, (found, _) in windows.items()
    }
    from_limit = [
        abs(length - limit_of_length(R, BALANCING[features])) for R, length in lengths.items()
    ]
    price = [
        abs(float((learned(p.weighted) / learned(p.erm))[0]) * p.class_weights[0] - 1)
        for p in pairs.values()
    ]
    sooner = [
        first_reached(p.weighted, LEVEL) / first_reached(p.erm, LEVEL) for p in pairs.values()
    ]
    # every run ends with all right, so the best is 1
    best = {
        R: (first_reached(p.weighted, 1.0), first_reached(p.erm, 1.0)) for R, p in pairs.items()
    }
    close_by = [accuracy_window(pair).end / windows[R][0].end for R, pair in pairs.items()]
    worst = "worst distance from the start's prediction, relative"
    last = list(lengths)[-1]
    return [
        at_most(f"{name}: learning window's start, {worst}", TOLERANCE, off[0]),
        at_most(f"{name}: learning window's end, {worst}", TOLERANCE, off[1]),
        noted(
            at_most(
                f"{name}: its length over ERM's minority learning time, worst distance from 1 - 1/w_min",
                TOLERANCE,
                max(from_limit),
            ),
            ", ".join(f"{lengths[R]:.2f} at R = {R}" for R in (min(pairs), last)),
        ),
        ascending(
            f"{name}: that length grows with R", [f"R = {R}" for R in lengths], [*lengths.values()]
        ),
        at_most(
            f"{name}: price, majority's learning time with weights over ERM's, worst distance from 1/w_maj, relative",
            TOLERANCE,
            max(price),
        ),
        noted(
            at_most(
                f"{name}: balanced training accuracy reaches {LEVEL:g}, time with weights over ERM's, largest",
                1.0,
                max(sooner),
            ),
            f"smallest {min(sooner):.2g}",
        ),
        noted(
            at_most(
                f"{name}: balanced training accuracy is first at its best, time with weights over ERM's, largest",
                1.0,
                max(weighted / erm for weighted, erm in best.values()),
            ),
            ", ".join(
                f"{weighted:.3g} over {erm:.3g} at R = {R}"
                for R, (weighted, erm) in best.items()
                if R in DRAWN
            ),
        ),
        at_most(
            f"{name}: accuracy window's end over learning window's end, largest",
            1.0,
            max(close_by),
        ),
    ]


def _end_claims(pairs: Pairs) -> list[Claim]:
    """Reweighting leaves no mark on the end of training."""
    final = min(
        balanced_accuracy(runs)[-1]
        for own in pairs.values()
        for pair in own.values()
        for runs in (pair.erm, pair.weighted)
    )
    return [
        at_least("every run, ERM and weighted: balanced training accuracy at the end", 1, final)
    ]


def _draw_curves(path: Path, pairs: Pairs) -> None:
    columns = list(itertools.product(FEATURES, DRAWN))
    with plotting.style():
        figure = Figure(figsize=(plotting.PAGE_WIDTH, 3.9))
        axes = figure.subplots(2, len(columns), sharey="row", sharex="col")
        for (top, bottom), (features, ratio) in zip(axes.T, columns, strict=True):
            pair = pairs["squared", features][ratio]
            _draw_accuracy(top, pair)
            _draw_progress(bottom, pair)
            top.set_title(f"{features}, $R = {ratio}$, $g = {BALANCING[features]:g}$")
            bottom.set(xscale="log", xlim=pair.erm["time"].values[[1, -1]])
        figure.supxlabel(FLOW_TIME, fontsize="medium")
        axes[0, 0].set_ylabel("balanced\ntraining accuracy")
        axes[1, 0].set_ylabel("share of target learned")
        keys = axes[1, 0]
        for style, label in ((":", "ERM"), ("-", "weighted")):
            keys.plot([], [], style, color="0.3", label=label)
        keys.fill_between([], [], [], color="0.88", label="reweighting helps")
        keys.plot([], [], **THEORY, label="predicted")
        figure.legend(*keys.get_legend_handles_labels(), loc="outside upper center", ncols=6)
    plotting.save_figure(figure, path)


def _draw_accuracy(ax: Axes, pair: Pair) -> None:
    ax.axvspan(*accuracy_window(pair), color="0.88", lw=0)
    for runs, style in ((pair.erm, ":"), (pair.weighted, "-")):
        ax.plot(runs["time"], balanced_accuracy(runs), style, color="black")
    ax.set(ylim=(-0.04, 1.04))


def _draw_progress(ax: Axes, pair: Pair) -> None:
    measured, predicted = learning_window(pair)
    ax.axvspan(*measured, color="0.88", lw=0)
    for border in predicted:
        ax.axvline(border, **THEORY)
    for group in GROUPS:
        for runs, style in ((pair.erm, ":"), (pair.weighted, "-")):
            mean = (runs["block_strength"] / runs["block_target"]).sel(block=group).mean("seed")
            label = group if style == "-" else None
            # the wider line is seen where both coincide
            width = 2.6 if group == profiles.MAJORITY and style == "-" else 1.4
            color = plotting.COLORS[group]
            ax.plot(runs["time"], mean, style, color=color, lw=width, label=label)
    ax.set(ylim=(-0.04, 1.04))


def _draw_windows(path: Path, pairs: Pairs) -> None:
    with plotting.style():
        figure = Figure(figsize=(plotting.PAGE_WIDTH, 3.0))
        axes = figure.subplots(1, 3)
        for ax, features in zip(axes, FEATURES, strict=False):
            _draw_borders(ax, pairs["squared", features], FEATURE_COLORS[features])
            ax.set_title(f"{features} features, $g = {BALANCING[features]:g}$")
        axes[0].set_ylabel(FLOW_TIME)
        axes[0].legend(loc="upper left", handlelength=1.6, labelspacing=0.25)
        _draw_lengths(axes[2], pairs)
        for ax in axes:
            ax.set(xscale="log", xlabel="imbalance ratio $R$")
            sweep_plots.ratio_ticks(ax.xaxis)
    plotting.save_figure(figure, path)


def _draw_borders(ax: Axes, pairs: dict[int, Pair], color: str) -> None:
    """Start and end of both windows over the imbalance ratio."""
    ratios = list(pairs)
    windows = np.array([learning_window(pair) for pair in pairs.values()])  # (R, kind, border)
    accurate = np.array([accuracy_window(pair) for pair in pairs.values()])
    ax.fill_between(
        ratios, *windows[:, 0].T, color=color, alpha=0.25, lw=0, label="learning window"
    )
    ax.plot(ratios, windows[:, 0], "o", color=color, mfc="none", ms=4)
    ax.plot(ratios, windows[:, 1], **THEORY)
    ax.plot([], [], **THEORY, label="predicted")
    ax.plot(ratios, accurate, "s-", color="0.5", mfc="none", ms=3, lw=0.7)
    ax.plot([], [], "s-", color="0.5", mfc="none", ms=3, lw=0.7, label="accuracy window")
    ax.set(yscale="log")


def _draw_lengths(ax: Axes, pairs: Pairs) -> None:
    """Length of the learning window over ERM's minority learning time."""
    for (loss, features), own in pairs.items():
        found = [learning_window(pair)[0] for pair in own.values()]
        ax.plot(
            list(own),
            [(window.end - window.start) / window.end for window in found],
            "o" if loss == "squared" else "x",
            color=FEATURE_COLORS[features],
            mfc="none",
            ms=4.5,
            label=f"{features}, {loss.replace('_', '-')}",
        )
    fine = np.unique(np.geomspace(10, 500, 200).round()) / BASE.minority_count  # whole counts
    for exponent in BALANCING.values():
        ax.plot(fine, [limit_of_length(R, exponent) for R in fine], **THEORY)
    ax.plot([], [], **THEORY, label="limit, $1 - 1/w_{min}$")
    ax.set(ylim=(0, 1.02), ylabel="learning window /\nERM's minority learning time")
    ax.legend(loc="lower right", handletextpad=0.4, labelspacing=0.25)
