"""Which classes are learned first, and which class weights let majorities and minorities be learned at
once?

ERM, inverse-square-root and inverse-frequency weights, under the squared loss and cross-entropy, with
free and shared features, at STEP 10:1. Claimed before the run: ERM learns majorities first; free
features are balanced by inverse-square-root and shared ones by inverse-frequency weights; minority over
majority learning time is what the start's size makes of the rates, and comes to R^(1/2-g) for free
and R^(1-g) for shared features as the start shrinks. It takes ten seconds on two cores: five
seeds of 72 settings.
"""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import xarray as xr

from experiments import pages
from experiments.claims import Claim, Claims, Estimate
from experiments.pages import FEATURE_COLORS, THEORY, WIDTHS
from experiments.readings import (
    GROUPS,
    Report,
    automatic_t1,
    block_curves,
    each,
    expected,
    group_accuracy,
    learned,
    part,
    ratio,
    shares,
)
from experiments.settings import BALANCING, BASE, FEATURES, LAWS, LOSSES, WEIGHTINGS
from ssm import plotting, simulate, spectral, sweep, sweep_plots, theory
from ssm.config import Loss
from ssm.problem import make_problem

EXPONENTS = (0.0, 0.25, 0.5, 0.75, 1.0)
SCALES = (1e-3, 1e-6, 1e-10)  # of the start: the laws of the ratio are its small limit
SEEDS = 5
AT_ONCE = 0.25  # of a ratio of learning times from a start of 1e-3, which is far from the limit
FIRST = 40  # of the time that is drawn, the last over the first
START = 0.05  # of the same from 1e-6: a draw shifts each time by about one of its 28 e-folds

Curves = dict[tuple[str, str], xr.Dataset]
"""A sweep over weight exponents and seeds for each (loss, features)."""


def run(out: Path, quick: bool, report: Report) -> list[Claim]:
    """Draw the curves and the learning-time ratios, and hold them against theory."""
    seeds = 2 if quick else SEEDS
    curves = _curves(seeds, part(report, 0.0, 0.4))
    ratios = _ratios(seeds, SCALES[:2] if quick else SCALES, part(report, 0.4, 0.9))
    for loss in LOSSES:
        _draw_strengths(out / f"early_strengths_{loss}.png", loss, curves)
    _draw_accuracy(out / "early_accuracy.png", curves)
    _draw_ratios(out / "learning_time_ratios.png", ratios)
    return [*_curve_claims(curves), *_ratio_claims(ratios), *_closed_form_claim()]


def _curves(seeds: int, report: Report) -> Curves:
    """Runs of every seed and weighting for each loss and features, over the time the slowest
    weighting takes."""
    runs: Curves = {}
    exponents = list(WEIGHTINGS.values())
    for loss, features in each(itertools.product(LOSSES, FEATURES), report):
        base = dataclasses.replace(BASE, loss=loss, coupling=FEATURES[features])
        t1 = max(automatic_t1(dataclasses.replace(base, weight_exponent=g)) for g in exponents)
        axes = {"weight_exponent": exponents, "seed": range(seeds)}
        runs[loss, features] = sweep(axes, dataclasses.replace(base, t1=t1))
    return runs


def _ratios(seeds: int, scales: tuple[float, ...], report: Report) -> dict[str, xr.Dataset]:
    """For each loss the minority over majority learning time, `measured` of each seed and `predicted`
    from the starts, over coupling, weight exponent and scale of the start."""
    axes = {"coupling": list(FEATURES.values()), "weight_exponent": EXPONENTS, "init_scale": scales}
    found = {}
    for loss in each(LOSSES, report):
        runs = sweep({**axes, "seed": range(seeds)}, dataclasses.replace(BASE, loss=loss))
        wanted = ratio(expected(runs).mean("seed"))
        found[loss] = xr.Dataset({"measured": ratio(learned(runs)), "predicted": wanted})
    return found


def _draw_strengths(path: Path, loss: Loss, curves: Curves) -> None:
    name = "share of target learned" if loss == "squared" else "strength / singular value of $S$"
    with pages.page(path, 3.4) as figure:
        axes = figure.subplots(len(FEATURES), len(WEIGHTINGS), sharey=True, sharex="row")
        for row, features in zip(axes, FEATURES, strict=True):
            for ax, (weighting, g) in zip(row, WEIGHTINGS.items(), strict=True):
                run = curves[loss, features].sel(weight_exponent=g, seed=0)
                changes = {"coupling": FEATURES[features], "weight_exponent": g}
                own = dataclasses.replace(BASE, loss=loss, **changes)
                times, progress = run["time"].values, shares(run).values
                wanted = block_curves(own, times)
                for b, (block, color) in enumerate(plotting.COLORS.items()):
                    ax.plot(times, progress[:, b], color=color, label=block, lw=WIDTHS[block])
                for b in range(len(plotting.COLORS)):
                    ax.plot(times, wanted[:, b], **THEORY)
                ax.axhline(1, **pages.FAINT)
                ax.set(ylim=(-0.05, 1.25), xscale="log", xlim=(times[-1] / FIRST, times[-1]))
                ax.set_title(f"{features} features,\n{weighting}")
                sweep_plots.ratio_ticks(ax.xaxis)
        figure.supxlabel(pages.FLOW_TIME)
        figure.supylabel(name)
        pages.key(axes[0, 0], "theory", **THEORY)
        pages.legend_above(figure, axes[0, 0], 4)


def _draw_accuracy(path: Path, curves: Curves) -> None:
    with pages.page(path, 5.6) as figure:
        axes = figure.subplots(len(curves), len(WEIGHTINGS), sharey=True, sharex="row")
        for row, ((loss, features), own) in zip(axes, curves.items(), strict=True):
            for ax, g in zip(row, WEIGHTINGS.values(), strict=True):
                runs = own.sel(weight_exponent=g)
                time, classes = runs["time"], runs["class_accuracy"].mean("seed")
                for group, mine in classes.groupby("class_group"):
                    line = {"color": plotting.COLORS[str(group)]}
                    ax.plot(time, mine.transpose("time", "class"), lw=0.5, alpha=0.45, **line)
                    width = WIDTHS[str(group)]
                    ax.plot(time, mine.mean("class"), label=f"{group}, mean", lw=width, **line)
                ax.set(ylim=(-0.04, 1.08), yticks=[0, 0.5, 1])
            row[0].set_xlim(0, 1.1 * _all_right(own))
            row[0].set_ylabel(f"{loss.replace('_', '-')},\n{features} features")
        figure.supxlabel(pages.FLOW_TIME)
        for ax, weighting in zip(axes[0], WEIGHTINGS, strict=True):
            ax.set_title(weighting)
        figure.supylabel("training accuracy")
        pages.key(axes[0, 0], "single classes", color="0.5", lw=0.5)
        pages.legend_above(figure, axes[0, 0], 3)


def _all_right(runs: xr.Dataset) -> float:
    """When the last class is right in all seeds, whatever the weights."""
    wrong = runs["class_accuracy"].min(["class", "seed", "weight_exponent"]).values < 1
    return float(runs["time"][np.flatnonzero(wrong)[-1]])


def _draw_ratios(path: Path, ratios: dict[str, xr.Dataset]) -> None:
    exponents = np.linspace(0, 1, 50)
    R, counts = BASE.imbalance_ratio, (max(BASE.class_counts), min(BASE.class_counts))
    with pages.page(path, 3.9) as figure:
        axes, offs = figure.subplots(
            2, len(LOSSES), sharex=True, sharey="row", height_ratios=(1.6, 1)
        )
        for ax, off, loss in zip(axes, offs, LOSSES, strict=True):
            means = ratios[loss].mean("seed", skipna=False)
            for features, coupling in FEATURES.items():
                law = [theory.learning_time_ratio(R, g, coupling) for g in exponents]
                ax.plot(exponents, law, **THEORY)
                color, own = FEATURE_COLORS[features], means.sel(coupling=coupling)
                limit = [theory.learning_time_ratio(R, g, coupling) for g in EXPONENTS]
                for scale, marker in zip(own["init_scale"].values, "os^", strict=False):
                    here = own.sel(init_scale=scale)
                    label = f"{features}, start $10^{{{np.log10(scale):.0f}}}$"
                    mark = {"color": color, "label": label, **pages.HOLLOW}
                    ax.plot(EXPONENTS, here["measured"], marker, **mark)
                    off.plot(EXPONENTS, here["measured"] / limit, marker, **mark)
                    off.plot(EXPONENTS, here["predicted"] / limit, color=color, lw=0.8, ls=":")
                balance = theory.balancing_exponent(*counts, coupling)
                ax.axvline(balance, color=color, lw=0.6, zorder=0)
                place = (balance - 0.02, 0.27 if features == "free" else 9)
                ax.text(*place, f"$g^* = {balance:g}$", ha="right", color=color)
            ax.axhline(1, **pages.FAINT)
            off.axhline(1, **THEORY)
            off.set(xlabel="weight exponent $g$", ylim=(0.85, 1.09))
            ax.set(yscale="log", ylim=(0.25, 13), title=loss.replace("_", "-"))
        pages.plain_ticks(axes[0].yaxis, [0.3, 1, 3, 10])
        axes[0].set_ylabel(f"{pages.TIME_RATIO}, $R = {R:g}$")
        offs[0].set_ylabel("measured /\nsmall-start law")
        axes[0].text(0.0, 1.75, "$R^{1/2-g}$", va="top")
        axes[0].text(0.16, 7.6, "$R^{1-g}$", va="bottom")
        axes[0].text(0.0, 0.94, "learned at once", va="top", color="0.4", fontsize=7)
        pages.key(axes[0], "small-start law", **THEORY)
        pages.key(axes[0], "from the start's size", color="0.4", lw=0.8, ls=":")
        pages.legend_above(figure, axes[0], 4, handletextpad=0.4)


def _curve_claims(curves: Curves) -> list[Claim]:
    """The order of learning, and accuracy."""
    claims, seen, final, ends = Claims(), [], [], []
    for (loss, features), runs in curves.items():
        for weighting, g in WEIGHTINGS.items():
            times, name = learned(runs.sel(weight_exponent=g)), f"{loss}, {features}, {weighting}"
            if g == BALANCING[features]:
                statement = f"{name}: minority over majority learning time"
                claims.close(statement, 1.0, Estimate.over_seeds(ratio(times)), AT_ONCE)
                continue
            order = GROUPS if g < BALANCING[features] else GROUPS[::-1]
            in_order = [times.sel(block=group).values for group in order]
            claims.ascending(f"{name}: order of learning", order, in_order)
        majority, minority = (group_accuracy(runs, group) for group in GROUPS)
        final += [accuracy[..., -1].min() for accuracy in (majority, minority)]
        erm = list(runs["weight_exponent"].values).index(WEIGHTINGS["ERM"])
        passed = majority[erm] >= 0.97
        first = minority[erm][np.arange(len(passed)), passed.argmax(axis=1)]
        seen.append(np.where(passed.any(axis=1), first, np.nan))
        if loss == "squared":
            ends.append(float(np.abs(shares(runs).isel(time=-1).values - 1).max()))
    statement = "ERM, all losses and features: minority accuracy when the majority first passes 97 %, highest mean over seeds"
    claims.at_most(statement, 0.5, Estimate.over_seeds(max(seen, key=np.mean)))
    claims.at_least("every run: lowest final accuracy of a group", 1.0, min(final))
    statement = "squared, every run: distance of a block from its target at the end"
    claims.at_most(statement, 0.01, max(ends))
    return claims


def _ratio_claims(ratios: dict[str, xr.Dataset]) -> list[Claim]:
    """Learning-time ratios against the prediction for their start and against the small-start
    law."""
    claims = Claims()
    for loss, (features, coupling) in itertools.product(LOSSES, FEATURES.items()):
        own = ratios[loss].sel(coupling=coupling)
        scales = own["init_scale"].values
        for g in WEIGHTINGS.values():
            here = own.sel(weight_exponent=g, init_scale=scales[1])
            statement = f"{loss}, {features}, g = {g:g}, start {scales[1]:g}: minority / majority time, from the start's size"
            measured = Estimate.over_seeds(here["measured"])
            claims.close(statement, float(here["predicted"]), measured, START)
        law = [theory.learning_time_ratio(BASE.imbalance_ratio, g, coupling) for g in EXPONENTS]
        off = abs(own["measured"].transpose("init_scale", "seed", "weight_exponent") / law - 1)
        worst = off.max("weight_exponent", skipna=False).values[::-1]
        statement = f"{loss}, {features}: worst distance from {LAWS[features]} of each seed falls with the start"
        claims.ascending(statement, [f"at {scale:g}" for scale in scales[::-1]], list(worst))
    return claims


def _closed_form_claim() -> list[Claim]:
    """Spectral start, ERM, free features, squared loss: every component is the sigmoid."""
    config = dataclasses.replace(BASE, loss="squared", init="spectral", rtol=1e-9, atol=1e-12)
    run, problem = simulate(config), make_problem(config)
    components = spectral.components(problem)
    target = components.singular_values
    rates = theory.component_growth_rates(problem, components)
    start = np.full(len(target), config.init_scale**2)
    exact = theory.sigmoid(run["time"].values, rates, start, target)
    error = float(np.max(np.abs(run["strength"].values - exact) / target))
    claims = Claims()
    claims.at_most("squared, free, ERM, spectral start: distance from the sigmoid", 1e-6, error)
    return claims
