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
from ssm.metrics import group_mean

from experiments.claims import Claim, ascending, at_least, at_most, close
from experiments.settings import (
    BASE,
    FEATURE_COLORS,
    FEATURES,
    FLOW_TIME,
    LAWS,
    LOSSES,
    THEORY,
    WEIGHTINGS,
)
from ssm import Config, plotting, predictions, simulate, spectral, sweep, sweep_plots, theory
from ssm.config import Loss
from ssm.dynamics.columns import make_columns
from ssm.dynamics.parameters import initial_params
from ssm.problem import make_problem

EXPONENTS = (0.0, 0.25, 0.5, 0.75, 1.0)
SCALES = (1e-3, 1e-6, 1e-10)  # of the start: the ratio laws are its small limit
SEEDS = 5
WIDTHS = {"majority": 2.6, "cross": 1.4, "minority": 1.4}  # both can be seen where they coincide

Curves = dict[tuple[str, str], xr.Dataset]
"""A sweep over weight exponents and seeds for each (loss, features)."""


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


def _curves(seeds: int, report: Callable[[float], None]) -> Curves:
    """Runs of every seed and weighting for each loss and features, over the time the slowest
    weighting takes."""
    runs: Curves = {}
    for loss, features in itertools.product(LOSSES, FEATURES):
        base = dataclasses.replace(BASE, loss=loss, coupling=FEATURES[features])
        weighted = [dataclasses.replace(base, weight_exponent=g) for g in WEIGHTINGS.values()]
        t1 = max(predictions.automatic_t1(config, make_problem(config)) for config in weighted)
        runs[loss, features] = sweep(
            {"weight_exponent": list(WEIGHTINGS.values()), "seed": range(seeds)},
            dataclasses.replace(base, t1=t1),
        )
        report(len(runs) / len(LOSSES) / len(FEATURES))
    return runs


def _ratios(
    seeds: int, scales: tuple[float, ...], report: Callable[[float], None]
) -> dict[str, xr.Dataset]:
    """For each loss the minority over majority learning time, `measured` (mean over seeds) and
    `predicted` (from the starts, their mean), over coupling, weight exponent and scale of the start."""
    found = {}
    axes = {"coupling": list(FEATURES.values()), "weight_exponent": EXPONENTS, "init_scale": scales}
    for i, loss in enumerate(LOSSES):
        runs = sweep(
            {**axes, "seed": range(seeds)},
            dataclasses.replace(BASE, loss=loss),
            progress=lambda done, total, i=i: report((i + done / total) / len(LOSSES)),
        )
        expected = runs["predicted_learning_time"].mean("seed")
        found[loss] = xr.Dataset(
            {
                "measured": sweep_plots.ratio_of_learning_times(runs).mean("seed", skipna=False),
                "predicted": expected.isel(component=-1) / expected.isel(component=0),
            }
        )
    return found


def _progress(run: xr.Dataset) -> np.ndarray:
    """Share of its target that each block has learned, (..., time, block)."""
    return (run["block_strength"] / run["block_target"]).transpose(..., "time", "block").values


def _theory(config: Config, run: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """What theory makes of a run's start: block curves, and the linear phase's cross block; each
    (time, ...)."""
    problem = make_problem(config)
    columns = make_columns(config, problem)
    params, _ = initial_params(config, problem, columns)
    means = columns.class_means(params.H)
    components = spectral.components(problem)
    times = run["time"].values
    curves = theory.block_curves(params.W, means, problem, components, times, config.loss)
    logits = theory.linear_phase(params.W, means, problem, times) * problem.counts
    linear = spectral.block_means(spectral.strengths(logits, components), components.blocks)
    return curves, (linear / run["block_target"].values)[:, 1]


def _draw_strengths(path: Path, loss: Loss, curves: Curves) -> None:
    with plotting.style():
        figure = Figure(figsize=(plotting.PAGE_WIDTH, 4.0))
        axes = figure.subplots(len(FEATURES), len(WEIGHTINGS), sharey=True, sharex="row")
        for (row, features), (column, weighting) in itertools.product(
            enumerate(FEATURES), enumerate(WEIGHTINGS)
        ):
            exponent = WEIGHTINGS[weighting]
            run = curves[loss, features].sel(weight_exponent=exponent, seed=0)
            config = dataclasses.replace(
                BASE, loss=loss, coupling=FEATURES[features], weight_exponent=exponent
            )
            ax, progress, (expected, cross) = (
                axes[row, column],
                _progress(run),
                _theory(config, run),
            )
            expected[:, 1] = np.where(cross < 0.3, cross, np.nan)  # the linear phase ends there
            expected = np.where(expected < 1.25, expected, np.nan)
            for b, (block, color) in enumerate(plotting.COLORS.items()):
                ax.plot(run["time"], progress[:, b], color=color, label=block, lw=WIDTHS[block])
                ax.plot(run["time"], expected[:, b], **THEORY)
            ax.axhline(1, color="0.85", lw=0.6, zorder=0)
            ax.set(ylim=(-0.05, 1.25))
            ax.set_title(f"{features} features, {weighting}")
            if row == len(FEATURES) - 1:
                ax.set_xlabel(FLOW_TIME)
            if column == 0:
                ax.set_ylabel(
                    "share of target learned"
                    if loss == "squared"
                    else "strength / singular value of $S$"
                )
        axes[0, 0].plot([], [], **THEORY, label="theory")
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    plotting.save_figure(figure, path)


def _group_accuracy(runs: xr.Dataset, group: str) -> np.ndarray:
    """Accuracy of a group's classes in every run: (..., time)."""
    accuracy = runs["class_accuracy"].transpose(..., "time", "class")
    return group_mean(accuracy.values, runs["class_group"].values, group)


def _draw_accuracy(path: Path, curves: Curves) -> None:
    rows = list(itertools.product(LOSSES, FEATURES))
    with plotting.style():
        figure = Figure(figsize=(plotting.PAGE_WIDTH, 6.6))
        axes = figure.subplots(len(rows), len(WEIGHTINGS), sharey=True, sharex="row")
        for (row, (loss, features)), (column, weighting) in itertools.product(
            enumerate(rows), enumerate(WEIGHTINGS)
        ):
            ax = cast(Axes, axes[row, column])
            runs = curves[loss, features].sel(weight_exponent=WEIGHTINGS[weighting])
            time, classes = runs["time"], runs["class_accuracy"].mean("seed")
            for group, mine in classes.groupby("class_group"):
                color = plotting.COLORS[str(group)]
                ax.plot(time, mine.transpose("time", "class"), color=color, lw=0.5, alpha=0.35)
                ax.plot(time, mine.mean("class"), color=color, label=group, lw=WIDTHS[str(group)])
            ax.set(ylim=(-0.04, 1.04))
            ax.set_title(f"{loss.replace('_', '-')}, {features}, {weighting}", fontsize=7)
            if column == 0:
                ax.set_ylabel("training accuracy")
            if row == len(rows) - 1:
                ax.set_xlabel(FLOW_TIME)
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    plotting.save_figure(figure, path)


def _draw_ratios(path: Path, ratios: dict[str, xr.Dataset]) -> None:
    exponents = np.linspace(0, 1, 50)
    with plotting.style():
        figure = Figure(figsize=(plotting.PAGE_WIDTH, 2.8))
        axes = figure.subplots(1, len(LOSSES), sharey=True)
        for ax, loss in zip(axes, LOSSES, strict=True):
            for features, coupling in FEATURES.items():
                law = [
                    theory.learning_time_ratio(BASE.imbalance_ratio, g, coupling) for g in exponents
                ]
                ax.plot(exponents, law, **THEORY)
                color = FEATURE_COLORS[features]
                measured = ratios[loss]["measured"].sel(coupling=coupling)
                for scale, marker in zip(measured["init_scale"].values, "os^", strict=False):
                    ax.plot(
                        EXPONENTS,
                        measured.sel(init_scale=scale),
                        marker,
                        color=color,
                        mfc="none",
                        ms=5,
                        label=f"{features}, start {scale:.0e}",
                    )
                balance = theory.balancing_exponent(
                    max(BASE.class_counts), min(BASE.class_counts), coupling
                )
                ax.axvline(balance, color=color, lw=0.8, ls=":", zorder=0)
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


def _curve_claims(curves: Curves) -> list[Claim]:
    """Order of learning and accuracy, mean over seeds."""
    claims = []
    at_once = {("free", "inverse square root"), ("shared", "inverse frequency")}
    for (loss, features), runs in curves.items():
        times = runs["block_learning_time"].mean("seed", skipna=False)
        for weighting, exponent in WEIGHTINGS.items():
            own = times.sel(weight_exponent=exponent)
            majority, minority = (float(own.sel(block=b)) for b in ("majority", "minority"))
            name = f"{loss}, {features}, {weighting}"
            if (features, weighting) in at_once:
                claims.append(
                    close(
                        f"{name}: minority over majority learning time",
                        1.0,
                        minority / majority,
                        0.25,
                    )
                )
            elif (features, weighting) == ("free", "inverse frequency"):
                order = ("minority", "majority")
                claims.append(ascending(f"{name}: order of learning", order, (minority, majority)))
            else:
                order = ("majority", "minority")
                claims.append(ascending(f"{name}: order of learning", order, (majority, minority)))
    at_first, final = [], []
    for runs in curves.values():
        erm = runs.sel(weight_exponent=WEIGHTINGS["ERM"])
        majority, minority = (_group_accuracy(erm, group) for group in ("majority", "minority"))
        passed = majority >= 0.97
        first = passed.argmax(axis=1)
        seen = np.where(passed.any(axis=1), minority[np.arange(len(first)), first], np.nan)
        at_first.append(np.mean(seen))
        final += [_group_accuracy(runs, group)[..., -1].min() for group in ("majority", "minority")]
    end = max(
        float(np.abs(_progress(runs)[..., -1, :] - 1).max())
        for (loss, _), runs in curves.items()
        if loss == "squared"
    )
    return [
        *claims,
        at_most(
            "ERM, all losses and features: highest mean minority accuracy when the majority first passes 97 %",
            0.5,
            max(at_first),
        ),
        at_least("every run: lowest final accuracy of a group", 1.0, min(final)),
        at_most("squared, every run: distance of a block from its target at the end", 0.01, end),
    ]


def _ratio_claims(ratios: dict[str, xr.Dataset]) -> list[Claim]:
    """Learning-time ratios against the prediction for their start and against the small-start
    law."""
    claims = []
    for loss, (features, coupling) in itertools.product(LOSSES, FEATURES.items()):
        own = ratios[loss].sel(coupling=coupling)
        scales = own["init_scale"].values
        for exponent in WEIGHTINGS.values():
            here = own.sel(weight_exponent=exponent, init_scale=scales[1])
            name = f"{loss}, {features}, g = {exponent:g}, start {scales[1]:g}: minority / majority time"
            # a draw shifts each time by about one of its 28 e-folds
            claims.append(
                close(
                    f"{name}, from the start's size",
                    float(here["predicted"]),
                    float(here["measured"]),
                    0.05,
                )
            )
        law = [theory.learning_time_ratio(BASE.imbalance_ratio, g, coupling) for g in EXPONENTS]
        off = abs(own["measured"].transpose("init_scale", "weight_exponent") / law - 1)
        claims.append(
            ascending(
                f"{loss}, {features}: worst distance from {LAWS[features]} falls with the start",
                [f"at {scale:g}" for scale in scales[::-1]],
                off.max("weight_exponent", skipna=False).values[::-1].tolist(),
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
