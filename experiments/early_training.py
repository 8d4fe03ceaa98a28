"""Early training of the small-scale model: ERM learns majorities first, weights let both be learned
at once.

ERM, inverse square root and inverse frequency; squared loss and cross-entropy; free and shared
features; STEP 10:1.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.claims import Claim, ascending, at_least, at_most, close
from ssm import Config, plotting, simulate, spectral, theory
from ssm.config import Loss
from ssm.metrics import group_mean
from ssm.model import initial_params
from ssm.problem import make_problem

BASE = Config(num_classes=10, imbalance_ratio=10, minority_count=5, feature_dim=16)
LOSSES: tuple[Loss, ...] = ("squared", "cross_entropy")
FEATURES = {"free": 0.0, "shared": 1.0}
WEIGHTINGS = {"ERM": 0.0, "inverse square root": 0.5, "inverse frequency": 1.0}
EXPONENTS = (0.0, 0.25, 0.5, 0.75, 1.0)
SCALES = (1e-3, 1e-6, 1e-10)  # of the start: the ratio laws are its small limit
SEEDS = 5
WIDTHS = {"majority": 2.6, "cross": 1.4, "minority": 1.4}  # both can be seen where they coincide

Key = tuple[str, str, str]  # loss, features, weighting


def run(out: Path, quick: bool, report: Callable[[float], None]) -> list[Claim]:
    """Draw the curves and the learning-time ratios, and hold them against theory."""
    seeds = 2 if quick else SEEDS
    curves = _curves(seeds, lambda share: report(0.4 * share))
    ratios = _ratios(
        seeds, SCALES[:2] if quick else SCALES, lambda share: report(0.4 + 0.5 * share)
    )
    for loss in LOSSES:
        _draw_strengths(out / f"early_strengths_{loss}.png", loss, curves)
    _draw_accuracy(out / "early_accuracy.png", curves)
    _draw_ratios(out / "learning_time_ratios.png", ratios)
    return [*_curve_claims(curves), *_ratio_claims(ratios), _closed_form_claim()]


def _curves(seeds: int, report: Callable[[float], None]) -> dict[Key, list[xr.Dataset]]:
    """Runs of every seed for each loss, features and weighting, over the time the slowest weighting
    takes."""
    runs: dict[Key, list[xr.Dataset]] = {}
    total = len(LOSSES) * len(FEATURES) * len(WEIGHTINGS)
    for loss, (features, coupling) in itertools.product(LOSSES, FEATURES.items()):
        configs = {
            weighting: dataclasses.replace(
                BASE, loss=loss, coupling=coupling, weight_exponent=exponent
            )
            for weighting, exponent in WEIGHTINGS.items()
        }
        t1 = max(theory.automatic_t1(c, make_problem(c)) for c in configs.values())
        for weighting, config in configs.items():
            runs[loss, features, weighting] = [
                simulate(dataclasses.replace(config, t1=t1, seed=seed)) for seed in range(seeds)
            ]
            report(len(runs) / total)
    return runs


def _ratios(
    seeds: int, scales: tuple[float, ...], report: Callable[[float], None]
) -> dict[tuple[str, str, float, float], tuple[float, float]]:
    """Minority over majority learning time, (measured mean over seeds, predicted from the start's
    size), for each (loss, features, exponent, start scale)."""
    found = {}
    cases = list(itertools.product(LOSSES, FEATURES, EXPONENTS, scales))
    for loss, features, exponent, scale in cases:
        measured, predicted = [], np.nan
        for seed in range(seeds):
            run = simulate(
                dataclasses.replace(
                    BASE,
                    loss=loss,
                    coupling=FEATURES[features],
                    weight_exponent=exponent,
                    init_scale=scale,
                    seed=seed,
                )
            )
            times = run["block_learning_time"].sel(block=["majority", "minority"]).values
            measured.append(times[1] / times[0])
            expected = run["predicted_learning_time"].values
            predicted = float(expected[-1] / expected[0])
        found[loss, features, exponent, scale] = (float(np.mean(measured)), predicted)
        report(len(found) / len(cases))
    return found


def _progress(run: xr.Dataset) -> np.ndarray:
    """Share of its target that each block has learned, (time, block)."""
    return (run["block_strength"] / run["block_target"]).values


def _theory(run: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """What theory makes of a run's start: block curves, and the linear phase's cross block; each
    (time, ...)."""
    config = Config.from_json(run.attrs["config"])
    problem = make_problem(config)
    params = initial_params(config, problem)
    means = problem.class_means(params.H)
    components = spectral.components(problem)
    times = run["time"].values
    curves = theory.block_curves(params.W, means, problem, components, times, config.loss)
    logits = theory.linear_phase(params.W, means, problem, times) * problem.counts
    linear = spectral.block_means(spectral.strengths(logits, components), components.blocks)
    return curves, (linear / run["block_target"].values)[:, 1]


def _draw_strengths(path: Path, loss: str, curves: dict[Key, list[xr.Dataset]]) -> None:
    with plotting.style():
        figure = Figure(figsize=(plotting.PAGE_WIDTH, 4.0))
        axes = figure.subplots(len(FEATURES), len(WEIGHTINGS), sharey=True, sharex="row")
        for (row, features), (column, weighting) in itertools.product(
            enumerate(FEATURES), enumerate(WEIGHTINGS)
        ):
            ax, run = axes[row, column], curves[loss, features, weighting][0]
            progress, (expected, cross) = _progress(run), _theory(run)
            expected[:, 1] = np.where(cross < 0.3, cross, np.nan)  # the linear phase ends there
            expected = np.where(expected < 1.25, expected, np.nan)
            for b, (block, color) in enumerate(plotting.COLORS.items()):
                ax.plot(run["time"], progress[:, b], color=color, label=block, lw=WIDTHS[block])
                ax.plot(run["time"], expected[:, b], color="black", lw=1, ls=(0, (3, 2)))
            ax.axhline(1, color="0.85", lw=0.6, zorder=0)
            ax.set(ylim=(-0.05, 1.25))
            ax.set_title(f"{features} features, {weighting}")
            if row == len(FEATURES) - 1:
                ax.set_xlabel("flow time (steps x learning rate)")
            if column == 0:
                ax.set_ylabel(
                    "share of target learned"
                    if loss == "squared"
                    else "strength / singular value of $S$"
                )
        axes[0, 0].plot([], [], color="black", lw=1, ls=(0, (3, 2)), label="theory")
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    plotting.save_figure(figure, path)


def _group_accuracy(runs: list[xr.Dataset], group: str) -> np.ndarray:
    """Accuracy of a group's classes in every run: (run, time)."""
    groups = runs[0]["class_group"].values
    return np.stack([group_mean(run["class_accuracy"].values, groups, group) for run in runs])


def _draw_accuracy(path: Path, curves: dict[Key, list[xr.Dataset]]) -> None:
    rows = list(itertools.product(LOSSES, FEATURES))
    with plotting.style():
        figure = Figure(figsize=(plotting.PAGE_WIDTH, 6.6))
        axes = figure.subplots(len(rows), len(WEIGHTINGS), sharey=True, sharex="row")
        for (row, (loss, features)), (column, weighting) in itertools.product(
            enumerate(rows), enumerate(WEIGHTINGS)
        ):
            ax, runs = cast(Axes, axes[row, column]), curves[loss, features, weighting]
            time, groups = runs[0]["time"], runs[0]["class_group"].values
            for group in ("majority", "minority"):
                color = plotting.COLORS[group]
                classes = np.mean([run["class_accuracy"].values for run in runs], axis=0)
                ax.plot(time, classes[:, groups == group], color=color, lw=0.5, alpha=0.35)
                ax.plot(
                    time,
                    _group_accuracy(runs, group).mean(axis=0),
                    color=color,
                    label=group,
                    lw=WIDTHS[group],
                )
            ax.set(ylim=(-0.04, 1.04))
            ax.set_title(f"{loss.replace('_', '-')}, {features}, {weighting}", fontsize=7)
            if column == 0:
                ax.set_ylabel("training accuracy")
            if row == len(rows) - 1:
                ax.set_xlabel("flow time (steps x learning rate)")
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    plotting.save_figure(figure, path)


def _draw_ratios(path: Path, ratios: dict) -> None:
    scales = sorted({scale for *_, scale in ratios}, reverse=True)
    markers = dict(zip(scales, "os^", strict=False))
    colors = {"free": "#009E73", "shared": "#CC79A7"}  # features, so neither group's colour
    exponents = np.linspace(0, 1, 50)
    with plotting.style():
        figure = Figure(figsize=(plotting.PAGE_WIDTH, 2.8))
        axes = figure.subplots(1, len(LOSSES), sharey=True)
        for ax, loss in zip(axes, LOSSES, strict=True):
            for features, coupling in FEATURES.items():
                law = [
                    theory.learning_time_ratio(BASE.imbalance_ratio, g, coupling) for g in exponents
                ]
                ax.plot(exponents, law, "--", color="black", lw=1)
                for scale in scales:
                    values = [ratios[loss, features, g, scale][0] for g in EXPONENTS]
                    ax.plot(
                        EXPONENTS,
                        values,
                        markers[scale],
                        color=colors[features],
                        mfc="none",
                        ms=5,
                        label=f"{features}, start {scale:.0e}",
                    )
                balance = theory.balancing_exponent(
                    max(BASE.class_counts), min(BASE.class_counts), coupling
                )
                ax.axvline(balance, color=colors[features], lw=0.8, ls=":", zorder=0)
            ax.axhline(1, color="0.8", lw=0.6, zorder=0)
            ax.set(
                xlabel="weight exponent $g$ (dotted: balancing exponent)",
                yscale="log",
                title=loss.replace("_", "-"),
            )
            ax.set_yticks([0.3, 1, 3, 10], ["0.3", "1", "3", "10"])
            ax.minorticks_off()
        axes[0].set_ylabel("minority / majority\nlearning time, $R = 10$")
        axes[0].annotate("$R^{1/2-g}$", (0.02, 2.0), xytext=(0.0, 1.35))
        axes[0].annotate("$R^{1-g}$", (0.02, 8.0), xytext=(0.12, 9.0))
        axes[0].text(0.0, 0.94, "learned at once", va="top", color="0.4", fontsize=7)
        axes[1].legend(loc="lower left", handletextpad=0.2, labelspacing=0.25)
    plotting.save_figure(figure, path)


def _curve_claims(curves: dict[Key, list[xr.Dataset]]) -> list[Claim]:
    """Order of learning and accuracy, mean over seeds."""
    claims = []
    at_once = {("free", "inverse square root"), ("shared", "inverse frequency")}
    for (loss, features, weighting), runs in curves.items():
        majority, minority = (
            float(np.mean([run["block_learning_time"].sel(block=block) for run in runs]))
            for block in ("majority", "minority")
        )
        name = f"{loss}, {features}, {weighting}"
        if (features, weighting) in at_once:
            ratio = minority / majority
            claims.append(close(f"{name}: minority over majority learning time", 1.0, ratio, 0.25))
        elif (features, weighting) == ("free", "inverse frequency"):
            order = ("minority", "majority")
            claims.append(ascending(f"{name}: order of learning", order, (minority, majority)))
        else:
            order = ("majority", "minority")
            claims.append(ascending(f"{name}: order of learning", order, (majority, minority)))
    at_first, final = [], []
    for loss, features in itertools.product(LOSSES, FEATURES):
        majority, minority = (
            _group_accuracy(curves[loss, features, "ERM"], group)
            for group in ("majority", "minority")
        )
        passed = majority >= 0.97
        first = passed.argmax(axis=1)
        seen = np.where(passed.any(axis=1), minority[np.arange(len(first)), first], np.nan)
        at_first.append(np.mean(seen))
        final += [
            _group_accuracy(curves[loss, features, weighting], group)[:, -1].min()
            for weighting in WEIGHTINGS
            for group in ("majority", "minority")
        ]
    claims += [
        at_most(
            "ERM, all losses and features: highest mean minority accuracy when the majority first passes 97 %",
            0.5,
            max(at_first),
        ),
        at_least("every run: lowest final accuracy of a group", 1.0, min(final)),
    ]
    end = max(
        float(np.abs(_progress(run)[-1] - 1).max())
        for (loss, *_), runs in curves.items()
        if loss == "squared"
        for run in runs
    )
    claims.append(
        at_most("squared, every run: distance of a block from its target at the end", 0.01, end)
    )
    return claims


def _ratio_claims(ratios: dict) -> list[Claim]:
    """Learning-time ratios against the prediction for their start and against the small-start
    law."""
    scales = sorted({scale for *_, scale in ratios}, reverse=True)
    claims = []
    for loss, features in itertools.product(LOSSES, FEATURES):
        coupling = FEATURES[features]
        for exponent in WEIGHTINGS.values():
            measured, predicted = ratios[loss, features, exponent, scales[1]]
            name = f"{loss}, {features}, g = {exponent:g}, start {scales[1]:g}: minority / majority time"
            # a draw shifts each time by about one of its 28 e-folds
            claims.append(close(f"{name}, from the start's size", predicted, measured, 0.05))
        worst = [
            max(
                abs(
                    ratios[loss, features, g, scale][0]
                    / theory.learning_time_ratio(BASE.imbalance_ratio, g, coupling)
                    - 1
                )
                for g in EXPONENTS
            )
            for scale in scales
        ]
        law = "R^(1-g)" if coupling else "R^(1/2-g)"
        claims.append(
            ascending(
                f"{loss}, {features}: worst distance from {law} falls with the start",
                [f"at {scale:g}" for scale in reversed(scales)],
                worst[::-1],
            )
        )
    return claims


def _closed_form_claim() -> Claim:
    """Spectral start, ERM, free features, squared loss: every component is the sigmoid."""
    config = dataclasses.replace(BASE, loss="squared", init="spectral", rtol=1e-9, atol=1e-12)
    run, problem = simulate(config), make_problem(config)
    components = spectral.components(problem)
    target = components.singular_values
    rates = theory.component_growth_rates(problem, components)
    start = np.full(len(target), config.init_scale**2)
    exact = theory.sigmoid(run["time"].values, rates, start, target)
    error = float(np.max(np.abs(run["strength"].values - exact) / target))
    return at_most("squared, free, ERM, spectral start: distance from the sigmoid", 1e-6, error)
