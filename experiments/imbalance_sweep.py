"""By which powers of the imbalance ratio do minorities lag behind majorities, and which weight exponent
lets both be learned at once?

Imbalance ratios 1 to 1000 and weight exponents 0 to 1.2, with free, shared and coupled features, both
losses. Claimed before the run: each ratio of learning times is what the size of the start makes of the
rates, within 5 %; the exponent that balances is g* = 1/2 + 1/2 log(kappa_maj / kappa_min) / log R within
0.03 wherever R >= 10; the distance from R^(g* - g) falls with the start; and that a start far below
float64's rounding of what has been learned is learned early (seen in trial runs first). What biases and
couplings between classes do to the law is in `imbalance_biases.py`. It takes some 40 seconds on two cores: 2504
runs.

Starts have scale 1e-6, so that an e-fold by which one draw differs from the mean is one of 26 or
more. Features of a class start equal, under both losses, which takes one column a class whatever its number of
samples under cross-entropy too. Until both losses started alike the squared one's start was Gaussian; that made its
ratios fall short of the law where these exceed it.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from experiments import imbalance_biases, pages
from experiments.claims import Claim, Claims
from experiments.pages import HOLLOW, THEORY
from experiments.readings import Report, counted, expected, farthest, learned, part, ratio
from experiments.settings import BASE, FEATURES, LAWS, LOSSES
from ssm import fits, plotting, sweep, sweep_plots, theory
from ssm.config import Loss

RATIOS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
APART = 2e-4  # where c = 0 is drawn on a logarithmic axis
EXPONENTS = tuple(np.linspace(0, 1.2, 13).round(1).tolist())
MIDDLE = 0.03  # a coupling whose balancing exponent moves with the imbalance ratio
COUPLINGS = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
SCALE = 1e-6
SCALES = (1e-3, 1e-6, 1e-10)
HELD, DROWNED = 1e-14, 1e-20  # starts above and far below float64's rounding of learned entries
SEEDS = 2
MARKERS = dict(zip(LOSSES, "ox", strict=True))
DOTTED: dict[str, Any] = {"ls": ":", "lw": 0.9, "zorder": 0}

# A draw shifts each learning time by about one of its 26 or more e-folds.
TOLERANCE = 0.05
# A start of scale 1e-6 moves the balance by 1/2 over the number of e-folds, 0.02; a draw less.
EXPONENT_TOLERANCE = 0.03

ByLoss = dict[Loss, xr.Dataset]


def run(out: Path, quick: bool, report: Report) -> list[Claim]:
    """Draw the laws, the heat maps and the balancing exponents, and hold them against theory."""
    exponents = (0.0, 0.5, 1.0, 1.2) if quick else EXPONENTS
    some = (10, 100) if quick else (10, 100, 1000)
    ratios = (1, *some) if quick else RATIOS
    seeds = {"seed": range(1 if quick else SEEDS)}
    features = {"coupling": tuple(FEATURES.values())}
    # learning times do not depend on it; a quick run shares the compilations of early_training's
    saves = {"num_saves": BASE.num_saves} if quick else {}
    main = {
        "coupling": (0.0, MIDDLE, 1.0),
        "imbalance_ratio": ratios,
        "weight_exponent": exponents,
        **seeds,
    }
    between = {
        "coupling": COUPLINGS[::4] if quick else COUPLINGS,
        "imbalance_ratio": some,
        "weight_exponent": EXPONENTS[4::2],
        **seeds,
    }
    starts = {
        **features,
        "imbalance_ratio": some,
        "weight_exponent": (0.0, 0.5, 1.0),
        "init_scale": SCALES[:2] if quick else SCALES,
        **seeds,
    }

    def times(axes: Mapping[str, Sequence[Any]], low: float, high: float) -> ByLoss:
        middle = (low + high) / 2
        told = (part(report, low, middle), part(report, middle, high))
        return {
            loss: learning_times(loss, axes, own, **saves)
            for loss, own in zip(LOSSES, told, strict=True)
        }

    whole, balances = times(main, 0.0, 0.45), times(between, 0.45, 0.6)
    by_start = times(starts, 0.6, 0.75)
    tiny = {**features, "init_scale": (HELD, DROWNED)}
    largest = {"imbalance_ratio": max(some), **saves}
    rounding = learning_times("squared", tiny, part(report, 0.75, 0.8), **largest)
    how = {loss: start_fields(loss) | saves for loss in LOSSES}
    page, told = out / "imbalance_biases.png", part(report, 0.8, 1.0)
    of_biases = imbalance_biases.run(page, how, quick, len(seeds["seed"]), told)
    _draw_laws(out / "imbalance_laws.png", whole)
    _draw_heat_maps(out / "imbalance_heat_map.png", whole["squared"])
    _draw_balance(out / "balancing_exponent.png", balances)
    return [
        *_ratio_claims(whole),
        *_balance_claims(whole, balances),
        *_start_claims(by_start),
        *_rounding_claims(rounding),
        *of_biases,
    ]


def learning_times(
    loss: Loss, axes: Mapping[str, Sequence[Any]], report: Report, **changes: Any
) -> xr.Dataset:
    """Minority over majority learning time over `axes`: `measured`, and `predicted` from the
    starts."""
    own = dataclasses.replace(BASE, **start_fields(loss) | changes)
    runs = sweep(axes, own, progress=counted(report))
    return xr.Dataset({"measured": ratio(learned(runs)), "predicted": ratio(expected(runs))})


def start_fields(loss: Loss) -> dict[str, Any]:
    """The fields of runs of a loss that do not vary."""
    return {"loss": loss, "init": "collapsed", "init_scale": SCALE, "num_saves": 2}


def over_seeds(ratios: xr.DataArray) -> xr.DataArray:
    """Geometric means over seeds, NaN where one is."""
    return np.exp(xr.apply_ufunc(np.log, ratios).mean("seed", skipna=False))


def law(ratio: float, exponent: float, coupling: float) -> float:
    """Small-start limit of the ratio of learning times, R^(g* - g), for any coupling."""
    if ratio == 1:
        return 1.0
    return ratio ** (predicted_balance(ratio, coupling) - exponent)


def predicted_balance(ratio: float, coupling: float) -> float:
    """The balancing exponent of the small-start limit."""
    counts = dataclasses.replace(BASE, imbalance_ratio=ratio).class_counts
    return float(theory.balancing_exponent(max(counts), min(counts), coupling))


def balance(ratios: xr.DataArray) -> xr.DataArray:
    """The weight exponent at which a ratio of learning times passes 1, for each seed where there are
    several; NaN where it does not, or where a group was not learned."""
    found = fits.crossing(ratios)
    places = found["each"] if "seed" in ratios.dims else found["crossing"]
    return places.where(ratios.notnull().all("weight_exponent"))


def laws(ratios: xr.DataArray) -> xr.DataArray:
    """The small-start limit at every point of a grid of ratios of learning times."""
    names = ("imbalance_ratio", "weight_exponent", "coupling")
    return xr.apply_ufunc(law, *(ratios[name] for name in names), vectorize=True)


def _ratio_claims(main: ByLoss) -> list[Claim]:
    """Ratios of learning times against the prediction for their start."""
    claims = Claims()
    for loss, coupling in itertools.product(LOSSES, (0.0, MIDDLE, 1.0)):
        own = main[loss].sel(coupling=coupling)
        where = f"R = 1..{own['imbalance_ratio'].values[-1]}, g = 0..{own['weight_exponent'].values[-1]:g}"
        off = farthest(own["measured"], own["predicted"])
        statement = f"{loss}, coupling {coupling:g}, {where}, every seed: worst distance of the ratio of learning times from the start's prediction"
        claims.at_most(statement, TOLERANCE, off)
    for loss in LOSSES:
        off = farthest(main[loss]["measured"].sel(imbalance_ratio=1), 1)
        statement = f"{loss}, R = 1, every coupling, exponent and seed: worst distance from 1"
        claims.at_most(statement, TOLERANCE, off)
    return claims


def _balance_claims(main: ByLoss, between: ByLoss) -> list[Claim]:
    """Measured balancing exponents, for R >= 10, against the small-start limit."""
    claims = Claims()
    for loss in LOSSES:
        for name, runs in (
            ("free", main[loss].sel(coupling=[0.0])),
            ("shared", main[loss].sel(coupling=[1.0])),
            ("every coupling", between[loss]),
        ):
            found = balance(runs["measured"])
            found = found.sel(imbalance_ratio=found["imbalance_ratio"] >= 10)
            place = found["imbalance_ratio"], found["coupling"]
            off = abs(found - xr.apply_ufunc(predicted_balance, *place, vectorize=True))
            statement = f"{loss}, {name}, R >= 10, every seed: worst distance of the balancing exponent from g*"
            note = f"{float(found.min()):.3f} to {float(found.max()):.3f}"
            claims.at_most(statement, EXPONENT_TOLERANCE, float(off.max(skipna=False)), note)
    return claims


def _start_claims(starts: ByLoss) -> list[Claim]:
    """The distance from the power laws falls with the scale of the start."""
    claims = Claims()
    for loss, (features, coupling) in itertools.product(LOSSES, FEATURES.items()):
        measured = starts[loss]["measured"].sel(coupling=coupling)
        off = abs(measured / laws(measured) - 1).max("seed", skipna=False)
        worst = off.max(["imbalance_ratio", "weight_exponent"], skipna=False).sortby("init_scale")
        where = f"R = 10..{measured['imbalance_ratio'].values[-1]}, every seed"
        statement = f"{loss}, {features}, {where}: worst distance from {LAWS[features]} falls with the start"
        names = [f"at {scale:g}" for scale in worst["init_scale"].values]
        claims.ascending(statement, names, worst.values.tolist())
    return claims


def _rounding_claims(rounding: xr.Dataset) -> list[Claim]:
    """What float64 holds: the minority's entries stand beside learned ones of size sqrt(s), about 8,
    whose rounding, 1e-15, takes the place of a smaller start and is learned early."""
    claims = Claims()
    for features, coupling in FEATURES.items():
        early = 1 - rounding["measured"] / rounding["predicted"]
        held, drowned = (float(early.sel(coupling=coupling, init_scale=s)) for s in (HELD, DROWNED))
        name = f"squared, {features}, ERM, largest R, start"
        statement = f"{name} {HELD:g}: distance from the start's prediction"
        claims.at_most(statement, TOLERANCE, abs(held))
        statement = (
            f"{name} {DROWNED:g}, lost in float64's rounding: minority early by more than that"
        )
        claims.at_least(statement, TOLERANCE, drowned)
    return claims


def _draw_laws(path: Path, main: ByLoss) -> None:
    measured = main["squared"]["measured"]
    shown = [g for g in (0.0, 0.3, 0.5, 0.7, 1.0) if g in measured["weight_exponent"].values]
    ratios = measured["imbalance_ratio"].values
    with pages.page(path, 2.6) as figure:
        axes = figure.subplots(1, len(FEATURES), sharey=True)
        for ax, (features, coupling) in zip(axes, FEATURES.items(), strict=True):
            for g, color in zip(shown, pages.shades(len(shown)), strict=True):
                for loss, marker in MARKERS.items():
                    own = main[loss]["measured"].sel(coupling=coupling, weight_exponent=g)
                    ax.plot(ratios, over_seeds(own), marker, color=color, **HOLLOW)
                start = over_seeds(
                    main["squared"]["predicted"].sel(coupling=coupling, weight_exponent=g)
                )
                ax.plot(ratios, start, color=color, **DOTTED)
                ends = ratios[[0, -1]]
                ax.plot(ends, [law(R, g, coupling) for R in ends], **THEORY)
                pages.key(ax, f"$g = {g:g}$", "s", color=color)
            ax.set(xscale="log", yscale="log", xlabel=pages.RATIO, title=f"{features} features")
            sweep_plots.ratio_ticks(ax.xaxis)
            sweep_plots.ratio_ticks(ax.yaxis)
        axes[0].set_ylabel(pages.TIME_RATIO)
        _key_losses(axes[0])
        pages.key(axes[0], "law, $R^{g^* - g}$", **THEORY)
        pages.key(axes[0], "from the\nstart's size", color="0.4", **DOTTED)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper")


def _key_losses(ax: Any) -> None:
    for loss, marker in MARKERS.items():
        pages.key(ax, loss.replace("_", "-"), marker, color="0.4", **HOLLOW)


def _draw_heat_maps(path: Path, main: xr.Dataset) -> None:
    measured = over_seeds(main["measured"])
    ratios, exponents = (measured[n].values for n in ("imbalance_ratio", "weight_exponent"))
    names = {0.0: "free features", MIDDLE: f"coupling {MIDDLE:g}", 1.0: "shared features"}
    norm = sweep_plots.balance_norm(np.array([100.0]))  # beyond it the colour stays
    borders = np.exp(pages.edges(np.log(ratios))), pages.edges(exponents)
    fine = np.geomspace(2, ratios[-1], 100)
    with pages.page(path, 2.5) as figure:
        axes = figure.subplots(1, len(names), sharey=True)
        for ax, (coupling, name) in zip(axes, names.items(), strict=True):
            own = measured.sel(coupling=coupling).transpose("weight_exponent", "imbalance_ratio")
            colors = {"cmap": sweep_plots.balance_colors(), "norm": norm}
            image = ax.pcolormesh(*borders, own.values, **colors)
            label = "learned at once, measured"
            ax.plot(ratios, balance(own), "o", color="black", label=label, **HOLLOW)
            wanted = [predicted_balance(R, coupling) for R in fine]
            ax.plot(fine, wanted, label="predicted, $g^*$", **THEORY)
            ax.set(xscale="log", xlabel=pages.RATIO, title=name)
            pages.plain_ticks(ax.xaxis, [R for R in (1, 10, 100, 1000) if R in ratios])
        axes[0].set_ylabel("weight exponent $g$")
        pages.legend_above(figure, axes[0], 2)
        bar = figure.colorbar(image, ax=axes, extend="both", label=pages.TIME_RATIO)
        sweep_plots.ratio_ticks(bar.ax.yaxis)


def _draw_balance(path: Path, between: ByLoss) -> None:
    found, starts = (
        {loss: balance(over_seeds(runs[name])) for loss, runs in between.items()}
        for name in ("measured", "predicted")
    )
    ratios = found["squared"]["imbalance_ratio"].values
    fine = np.geomspace(COUPLINGS[1], 1, 200)
    with pages.page(path, 3.1, plotting.COLUMN_WIDTH) as figure:
        ax = figure.subplots()
        for R, color in zip(ratios, pages.shades(len(ratios)), strict=True):
            for loss, marker in MARKERS.items():
                own, wanted = (values[loss].sel(imbalance_ratio=R) for values in (found, starts))
                couplings = own["coupling"].values
                x, beyond = np.where(couplings > 0, couplings, APART), couplings > 0
                ax.plot(x, own, marker, color=color, **HOLLOW)
                ax.plot(x[beyond], wanted[beyond], color=color, **DOTTED)
            ax.plot(fine, [predicted_balance(R, c) for c in fine], **THEORY)
            pages.key(ax, f"$R = {R}$", "s", color=color)
        ax.plot([APART / 1.5, APART * 1.5], [predicted_balance(ratios[0], 0.0)] * 2, **THEORY)
        _key_losses(ax)
        pages.key(ax, "$g^*$, small-start limit", **THEORY)
        pages.key(ax, "from the start's size", color="0.4", **DOTTED)
        ax.set_xscale("log")
        ticks = ["0\nfree", "0.001", "0.01", "0.1", "1\nshared"]
        pages.plain_ticks(ax.xaxis, [APART, 1e-3, 1e-2, 1e-1, 1], ticks)
        # the axis is broken between c = 0 and the rest
        middle = (APART * 1e-3) ** 0.5
        broken = {"transform": ax.get_xaxis_transform(), "ha": "center", "va": "center"}
        ax.text(middle, 0, "//", **broken)
        ax.set(xlabel="coupling $c$ of the features of a class", ylabel="balancing exponent")
        ax.set(ylim=(0.45, 1.27), yticks=np.linspace(0.5, 1, 6))
        ax.legend(loc="upper left", labelspacing=0.25)
