"""When does reweighting help, and for how long?

ERM beside the balancing exponent of the features, 1/2 for free and 1 for shared ones, at imbalance
ratios 2 to 100. The model has training samples only, and every run ends with all of them right; so
*helps* is said of the training samples, in two ways. Learning window: weighted, every group of classes
is at least half learned (strength half its target), and under ERM the minorities are not yet. Accuracy
window: balanced training accuracy, the mean over classes, is at least 0.1 higher with weights. What
stopping early does to held-out accuracy is seen in the `digits` experiment.

Claimed before the run: the learning window opens and closes where the size of the start says; its length
over ERM's minority learning time is 1 - 1/w_min and grows with R; majorities are learned 1/w_maj times
later. That accuracy comes sooner with weights and its window closes earlier was seen in trial runs first; it was
read off curves averaged over three seeds, and is now read off each seed's, of more seeds (derived after looking).
It takes ten seconds: eight seeds and more of 56 settings, with starts of scale 1e-6; under cross-entropy with free
features, those of a class start equal.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from experiments import pages, readings
from experiments.claims import Claim, Claims, Estimate
from experiments.pages import FEATURE_COLORS, HOLLOW, THEORY, WIDTHS
from experiments.readings import GROUPS, Report, automatic_t1, each, part
from experiments.settings import BALANCING, BASE, FEATURES, LOSSES
from ssm import plotting, sweep
from ssm.config import Loss
from ssm.problem import make_problem

RATIOS = (2, 3, 5, 10, 20, 50, 100)
DRAWN = (10, 100)  # whose curves are drawn
SCALE = 1e-6
SEEDS = 8
CLOSE_SEEDS = 20  # at the smallest ratio, where weights and ERM are closest and scatter most
AHEAD = 0.1  # of balanced accuracy, where reweighting counts as helping
LEVEL = 0.95  # of balanced accuracy, whose first time is compared

# A draw shifts each learning time by about one of its 26 or more e-folds.
TOLERANCE = 0.05

# The two windows are shaded each in its own way.
ACCURACY_WINDOW: dict[str, Any] = {"color": "0.87", "lw": 0}
LEARNING_WINDOW: dict[str, Any] = {"color": "#F0E442", "alpha": 0.4, "lw": 0}
DARK = "#7A6F00"


class Pair(NamedTuple):
    """ERM and weights at one imbalance ratio, from the same starts over the same times."""

    erm: xr.Dataset
    weighted: xr.Dataset
    class_weights: np.ndarray
    """Of the weighted runs, by class: majorities first."""

    def of(self, seeds: list[int]) -> Pair:
        """Runs of these seeds alone."""
        erm, weighted = (runs.isel(seed=seeds) for runs in (self.erm, self.weighted))
        return Pair(erm, weighted, self.class_weights)


class Window(NamedTuple):
    """When reweighting helps, in flow time."""

    start: float
    end: float

    @property
    def length(self) -> float:
        """Over its end."""
        return (self.end - self.start) / self.end


Pairs = dict[tuple[str, str], dict[int, Pair]]
"""By loss and features, then by imbalance ratio."""


def run(out: Path, quick: bool, report: Report) -> list[Claim]:
    """Draw the curves and the windows, and hold the windows against theory."""
    ratios = (2, *DRAWN) if quick else RATIOS
    cases = itertools.product(LOSSES, FEATURES, ratios)
    pairs: Pairs = {}
    for loss, features, R in each(cases, part(report, 0.0, 0.9)):
        seeds = CLOSE_SEEDS if ratios[0] == R else SEEDS
        pairs.setdefault((loss, features), {})[R] = follow(loss, features, R, 1 if quick else seeds)
    _draw_curves(out / "early_stopping_curves.png", pairs)
    _draw_windows(out / "early_stopping_window.png", pairs)
    claims = Claims()
    for (loss, features), own in pairs.items():
        claims += _claims(f"{loss}, {features}, R = {min(own)}..{max(own)}", features, own)
    every = [runs for own in pairs.values() for pair in own.values() for runs in pair[:2]]
    statement = "every run, ERM and weighted: balanced training accuracy at the end"
    claims.at_least(statement, 1, min(float(balanced_accuracy(runs)[-1]) for runs in every))
    return claims


def follow(loss: Loss, features: str, imbalance_ratio: int, seeds: int) -> Pair:
    """ERM and the balancing exponent of the features, for as long as ERM takes."""
    base = dataclasses.replace(
        BASE,
        loss=loss,
        coupling=FEATURES[features],
        imbalance_ratio=imbalance_ratio,
        init="gaussian" if loss == "squared" else "collapsed",
        init_scale=SCALE,
        save_spacing="log",
    )
    exponent = BALANCING[features]
    weighted = dataclasses.replace(base, weight_exponent=exponent)
    longest = dataclasses.replace(base, t1=max(automatic_t1(base), automatic_t1(weighted)))
    runs = sweep({"weight_exponent": (0.0, exponent), "seed": range(seeds)}, longest)
    own_weights = make_problem(weighted).class_weights
    return Pair(runs.sel(weight_exponent=0.0), runs.sel(weight_exponent=exponent), own_weights)


def learned(runs: xr.Dataset) -> np.ndarray:
    """When each of `GROUPS` is half learned, mean over seeds."""
    return readings.learned(runs).mean("seed", skipna=False).values


def expected(runs: xr.Dataset) -> np.ndarray:
    """When each of `GROUPS` is half learned by the predictions for the starts, mean over seeds."""
    return readings.expected(runs).mean("seed").values


def learning_window(pair: Pair) -> tuple[Window, Window]:
    """From every group half learned with weights until so under ERM: measured, predicted."""
    order = (pair.weighted, pair.erm)
    measured, predicted = ([times(runs).max() for runs in order] for times in (learned, expected))
    return Window(*measured), Window(*predicted)


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


def _claims(scenario: str, features: str, pairs: dict[int, Pair]) -> list[Claim]:
    """What is held of one loss and kind of features: distances from theory, worst over imbalance ratios
    and seeds; and of what has no theory, the worst number read off each seed's curves."""
    by_seed = {R: [p.of([i]) for i in range(p.erm.sizes["seed"])] for R, p in pairs.items()}
    windows = {R: [learning_window(one) for one in own] for R, own in by_seed.items()}
    off = np.abs(
        [np.divide(found, wanted) - 1 for own in windows.values() for found, wanted in own]
    )
    lengths = {
        R: np.array([found.length for found, _ in own[:SEEDS]]) for R, own in windows.items()
    }
    limits = {R: limit_of_length(R, BALANCING[features]) for R in pairs}
    price = [
        learned(one.weighted)[0] / learned(one.erm)[0] * one.class_weights[0] - 1
        for own in by_seed.values()
        for one in own
    ]

    def worst(statistic: Callable[[Pair], float]) -> tuple[Estimate, str]:
        """The largest over R of a number read off each seed's curves, geometric mean, and some others."""
        found = {
            R: Estimate.geometric([statistic(one) for one in own]) for R, own in by_seed.items()
        }
        shown = ", ".join(f"{found[R].mean:.2g} at R = {R}" for R in found if R in DRAWN)
        return max(found.values(), key=lambda estimate: estimate.high), shown

    def sooner(level: float) -> tuple[Estimate, str]:
        return worst(lambda p: first_reached(p.weighted, level) / first_reached(p.erm, level))

    claims, first, last = Claims(scenario), min(pairs), max(pairs)
    for border, distances in zip(("start", "end"), off.max(axis=0), strict=True):
        statement = (
            f"learning window's {border}, worst distance from the start's prediction, relative"
        )
        claims.at_most(statement, TOLERANCE, float(distances))
    claims.at_most(
        "its length over ERM's minority learning time, worst distance from 1 - 1/w_min",
        TOLERANCE,
        float(max(np.abs(lengths[R] - limits[R]).max() for R in pairs)),
        ", ".join(f"{lengths[R].mean():.2f} at R = {R}" for R in (first, last)),
    )
    names = [f"R = {R}" for R in lengths]
    claims.ascending("that length grows with R", names, list(lengths.values()))
    statement = "price, majority's learning time with weights over ERM's, worst distance from 1/w_maj, relative"
    claims.at_most(statement, TOLERANCE, float(np.abs(price).max()))
    # every run ends with all right, so the best is 1
    for name, level in ((f"reaches {LEVEL:g}", LEVEL), ("is first at its best", 1.0)):
        statement = f"balanced training accuracy {name}, time with weights over ERM's of the same seed, largest (derived after looking)"
        claims.at_most(statement, 1.0, *sooner(level))
    statement = "accuracy window's end over learning window's end of the same seed, largest (derived after looking)"
    claims.at_most(
        statement, 1.0, *worst(lambda p: accuracy_window(p).end / learning_window(p)[0].end)
    )
    return claims


def _draw_curves(path: Path, pairs: Pairs) -> None:
    columns = list(itertools.product(FEATURES, DRAWN))
    with pages.page(path, 3.9) as figure:
        axes = figure.subplots(2, len(columns), sharey="row")
        for (top, bottom), (features, R) in zip(axes.T, columns, strict=True):
            pair = pairs["squared", features][R]
            _draw_accuracy(top, pair)
            _draw_progress(bottom, pair)
            top.set_title(f"{features}, $R = {R}$,\n$g = {BALANCING[features]:g}$")
        figure.supxlabel(pages.FLOW_TIME)
        axes[0, 0].set_ylabel("balanced\ntraining accuracy")
        keys = axes[1, 0]
        keys.set_ylabel("share of\ntarget learned")
        for style, label in ((":", "ERM"), ("-", "weighted")):
            pages.key(keys, label, style, color="0.3")
        keys.fill_between([], [], [], **ACCURACY_WINDOW, label="accuracy window")
        keys.fill_between([], [], [], **LEARNING_WINDOW, label="learning window")
        pages.key(keys, "the latter's, predicted", **THEORY)
        pages.legend_above(figure, keys, 4)


def _draw_accuracy(ax: Axes, pair: Pair) -> None:
    """Balanced accuracy, mean over seeds, and between the seeds' least and largest."""
    ax.axvspan(*accuracy_window(pair), **ACCURACY_WINDOW)
    for runs, style in ((pair.erm, ":"), (pair.weighted, "-")):
        own = runs["class_accuracy"].mean("class", skipna=False)
        ax.fill_between(runs["time"], own.min("seed"), own.max("seed"), color="0.65", lw=0)
        ax.plot(runs["time"], balanced_accuracy(runs), style, color="black")
    ax.set(xscale="log", xlim=pair.erm["time"].values[[1, -1]], ylim=(-0.04, 1.04))


def _draw_progress(ax: Axes, pair: Pair) -> None:
    """Shares of both groups, likewise; its axis begins where something is learned."""
    measured, predicted = learning_window(pair)
    ax.axvspan(*measured, **LEARNING_WINDOW)
    for border in predicted:
        ax.axvline(border, **THEORY)
    for group in GROUPS:
        for runs, style in ((pair.erm, ":"), (pair.weighted, "-")):
            own, color = readings.shares(runs).sel(block=group), plotting.COLORS[group]
            solid = style == "-"
            spread = {"color": color, "alpha": 0.3, "lw": 0}
            ax.fill_between(runs["time"], own.min("seed"), own.max("seed"), **spread)
            line = {"lw": WIDTHS[group] if solid else 1.2, "label": group if solid else None}
            ax.plot(runs["time"], own.mean("seed"), style, color=color, **line)
    last = pair.erm["time"].values[-1]
    first = learned(pair.erm).min() / 2
    ax.set(xscale="log", xlim=(first, last), ylim=(-0.04, 1.04))
    inside = [x for x in (30, 100, 300, 1000, 3000, 10000) if first < x < last]
    pages.plain_ticks(ax.xaxis, inside if len(inside) < 4 else inside[::2])


def _draw_windows(path: Path, pairs: Pairs) -> None:
    with pages.page(path, 2.9) as figure:
        axes = figure.subplots(1, 3)
        for ax, features in zip(axes, FEATURES, strict=False):
            _draw_borders(ax, pairs["squared", features])
            ax.set_title(f"{features} features,\n$g = {BALANCING[features]:g}$")
        axes[0].set_ylabel(pages.FLOW_TIME)
        _draw_lengths(axes[2], pairs)
        axes[2].set_title("length of the\nlearning window")
        for ax in axes:
            ax.set(xscale="log", xlabel=pages.RATIO)
            pages.plain_ticks(ax.xaxis, [2, 10, 100])
        pages.legend_above(figure, axes[0], 3)


def _draw_borders(ax: Axes, pairs: dict[int, Pair]) -> None:
    """Start and end of both windows over the imbalance ratio, bars from the seeds' least to their largest."""
    ratios = list(pairs)
    windows = np.array([learning_window(pair) for pair in pairs.values()])  # (R, kind, border)
    accurate = np.array([accuracy_window(pair) for pair in pairs.values()])
    ax.fill_between(ratios, *accurate.T, **ACCURACY_WINDOW, label="accuracy window")
    ax.fill_between(ratios, *windows[:, 0].T, **LEARNING_WINDOW, label="learning window")
    for name, found, of, mark in (
        ("accuracy", accurate, accuracy_window, {"color": "0.4", "marker": "s", "lw": 0.7}),
        (
            "learning",
            windows[:, 0],
            lambda pair: learning_window(pair)[0],
            {"color": DARK, "marker": "o"},
        ),
    ):
        each = [np.array(_by_seed(pair, of)) for pair in pairs.values()]  # of each R (seed, border)
        for border in range(2):
            low, high = ([end(own[:, border]) for own in each] for end in (np.min, np.max))
            ax.vlines(ratios, low, high, color=mark["color"], lw=1)
            label = f"{name} window's borders" if border else None
            style = {"ls": "-" if "lw" in mark else ""}
            ax.plot(ratios, found[:, border], **style, **mark, **HOLLOW, label=label)
    ax.plot(ratios, windows[:, 1, 0], **THEORY, label="the latter, predicted")
    ax.plot(ratios, windows[:, 1, 1], **THEORY)
    ax.set(yscale="log")


def _by_seed(pair: Pair, window: Callable[[Pair], Window]) -> list[Window]:
    return [window(pair.of([seed])) for seed in range(pair.erm.sizes["seed"])]


def _draw_lengths(ax: Axes, pairs: Pairs) -> None:
    """Length of the learning window over ERM's minority learning time."""
    for (loss, features), own in pairs.items():
        found = [learning_window(pair)[0].length for pair in own.values()]
        marker = "ox"[loss != "squared"]
        ax.plot(list(own), found, marker, color=FEATURE_COLORS[features], **HOLLOW)
    fine = np.unique(np.geomspace(10, 500, 200).round()) / BASE.minority_count  # whole counts
    for exponent in BALANCING.values():
        ax.plot(fine, [limit_of_length(R, exponent) for R in fine], **THEORY)
    for features, color in FEATURE_COLORS.items():
        pages.key(ax, features, "s", color=color, ms=4)
    for loss, marker in zip(LOSSES, "ox", strict=True):
        pages.key(ax, loss.replace("_", "-"), marker, color="0.3", **HOLLOW)
    pages.key(ax, "$1 - 1/w_{min}$", **THEORY)
    ax.set(ylim=(0, 1.02), yticks=np.linspace(0, 1, 6))
    ax.set_ylabel("share of ERM's\nminority learning time")
    place = {"loc": "lower right", "borderaxespad": 0.2}
    ax.legend(**place, handletextpad=0.4, labelspacing=0.2)
