"""Learning-time ratios over imbalance ratios 1 to 1000 and weight exponents 0 to 1.2, free, shared
and coupled features: the power laws, and the exponent that balances.

Starts have scale 1e-6, so that an e-fold by which one draw differs from the mean is one of 26 or
more. Squared loss: Gaussian start. Cross-entropy, free or coupled: features of a class start equal,
which takes one column a class whatever its number of samples.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.claims import Claim, ascending, at_least, at_most, noted
from experiments.settings import BASE, FEATURES, LAWS, LOSSES, THEORY, edges
from ssm import plotting, sweep, sweep_plots, theory
from ssm.config import Loss, profiles

RATIOS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
EXPONENTS = tuple(np.linspace(0, 1.2, 13).round(1).tolist())
MIDDLE = 0.03  # a coupling whose balancing exponent moves with the imbalance ratio
COUPLINGS = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
SCALE = 1e-6
SCALES = (1e-3, 1e-6, 1e-10)
HELD, DROWNED = 1e-14, 1e-20  # starts above and far below float64's rounding of learned entries
SEEDS = 2

# A draw shifts each learning time by about one of its 26 or more e-folds.
TOLERANCE = 0.05
# A start of scale 1e-6 moves the balance by 1/2 over the number of e-folds, 0.02; a draw less.
EXPONENT_TOLERANCE = 0.03

Report = Callable[[float], None]


def run(out: Path, quick: bool, report: Report) -> list[Claim]:
    """Draw the laws, the heat maps and the balancing exponents, and hold them against theory."""
    exponents = (0.0, 0.5, 1.0, 1.2) if quick else EXPONENTS
    some = (10, 100) if quick else (10, 100, 1000)
    ratios = (1, *some) if quick else RATIOS
    couplings = COUPLINGS[::4] if quick else COUPLINGS
    seeds = range(1 if quick else SEEDS)
    # learning times do not depend on it; a quick run shares the compilations of early_training's
    saves = {"num_saves": BASE.num_saves} if quick else {}
    main, between, starts = {}, {}, {}
    for i, loss in enumerate(LOSSES):

        def part(low: float, high: float, i: int = i) -> Report:
            return lambda share: report(0.45 * (i + low * (1 - share) + high * share))

        axes = {"imbalance_ratio": ratios, "weight_exponent": exponents, "seed": seeds}
        few = {"weight_exponent": EXPONENTS[4::2], "seed": seeds}
        main[loss] = learning_times(
            loss, {"coupling": (0.0, MIDDLE, 1.0), **axes}, part(0.0, 0.6), **saves
        )
        between[loss] = learning_times(
            loss, {"coupling": couplings, "imbalance_ratio": some, **few}, part(0.6, 0.8), **saves
        )
        starts[loss] = learning_times(
            loss,
            {
                "coupling": tuple(FEATURES.values()),
                "imbalance_ratio": some,
                "weight_exponent": (0.0, 0.5, 1.0),
                "init_scale": SCALES[:2] if quick else SCALES,
                "seed": seeds,
            },
            part(0.8, 1.0),
            **saves,
        )
    rounding = learning_times(
        "squared",
        {"coupling": tuple(FEATURES.values()), "init_scale": (HELD, DROWNED)},
        lambda share: report(0.9 + 0.1 * share),
        imbalance_ratio=max(some),
        **saves,
    )
    _draw_laws(out / "imbalance_laws.png", main)
    _draw_heat_maps(out / "imbalance_heat_map.png", main["squared"])
    _draw_balance(out / "balancing_exponent.png", between)
    return [
        *_ratio_claims(main),
        *_balance_claims(main, between),
        *_start_claims(starts),
        *_rounding_claims(rounding),
    ]


def learning_times(
    loss: Loss, axes: Mapping[str, Sequence[Any]], report: Report, **changes: Any
) -> xr.Dataset:
    """Minority over majority learning time over `axes`: `measured` (geometric mean over seeds) and
    `predicted` (from the starts, alike)."""
    base = dataclasses.replace(
        BASE,
        loss=loss,
        init="gaussian" if loss == "squared" else "collapsed",
        init_scale=SCALE,
        **{"num_saves": 2, **changes},
    )
    runs = sweep(axes, base, progress=lambda done, total: report(done / total))
    measured, expected = sweep_plots.ratio_of_learning_times(runs), runs["predicted_learning_time"]
    majority, minority = (
        expected.where(runs["component_block"] == group).mean("component")
        for group in (profiles.MAJORITY, profiles.MINORITY)
    )
    predicted = minority / majority
    if "seed" in axes:
        logs = xr.apply_ufunc(np.log, measured).mean("seed", skipna=False)
        expected = xr.apply_ufunc(np.log, predicted).mean("seed")
        measured, predicted = np.exp(logs), np.exp(expected)
    return xr.Dataset({"measured": measured, "predicted": predicted})


def law(ratio: float, exponent: float, coupling: float) -> float:
    """Small-start limit of the ratio of learning times, R^(g* - g), for any coupling."""
    if ratio == 1:
        return 1.0
    return ratio ** (predicted_balance(ratio, coupling) - exponent)


def predicted_balance(ratio: float, coupling: float) -> float:
    """The balancing exponent of the small-start limit."""
    counts = dataclasses.replace(BASE, imbalance_ratio=ratio).class_counts
    return theory.balancing_exponent(max(counts), min(counts), coupling)


def balance(ratios: xr.DataArray) -> xr.DataArray:
    """The weight exponent at which the logarithm of a ratio of learning times passes through 0, by
    linear interpolation; NaN where it does not."""

    def zero(logs: np.ndarray, exponents: np.ndarray) -> float:
        if not (np.diff(logs) < 0).all() or not logs[-1] <= 0 <= logs[0]:
            return np.nan
        return float(np.interp(0, -logs, exponents))

    return xr.apply_ufunc(
        zero,
        np.log(ratios),
        ratios["weight_exponent"],
        input_core_dims=[["weight_exponent"]] * 2,
        vectorize=True,
    )


def laws(ratios: xr.DataArray) -> xr.DataArray:
    """The small-start limit at every point of a grid of ratios of learning times."""
    return xr.apply_ufunc(
        law,
        *(ratios[name] for name in ("imbalance_ratio", "weight_exponent", "coupling")),
        vectorize=True,
    )


def _ratio_claims(main: dict[Loss, xr.Dataset]) -> list[Claim]:
    """Ratios of learning times against the prediction for their start."""
    claims = []
    for loss, coupling in itertools.product(LOSSES, (0.0, MIDDLE, 1.0)):
        own = main[loss].sel(coupling=coupling)
        spread = f"R = 1..{own['imbalance_ratio'].values[-1]}, g = 0..{own['weight_exponent'].values[-1]:g}"
        off = abs(own["measured"] / own["predicted"] - 1)
        statement = f"{loss}, coupling {coupling:g}, {spread}: worst distance of the ratio of learning times from the start's prediction"
        claims.append(at_most(statement, TOLERANCE, float(off.max(skipna=False))))
    for loss in LOSSES:
        off = abs(main[loss]["measured"].sel(imbalance_ratio=1) - 1)
        statement = f"{loss}, R = 1, every coupling and exponent: worst distance from 1"
        claims.append(at_most(statement, TOLERANCE, float(off.max(skipna=False))))
    return claims


def _balance_claims(main: dict[Loss, xr.Dataset], between: dict[Loss, xr.Dataset]) -> list[Claim]:
    """Measured balancing exponents, for R >= 10, against the small-start limit."""
    claims = []
    for loss in LOSSES:
        for name, runs in (
            ("free", main[loss].sel(coupling=[0.0])),
            ("shared", main[loss].sel(coupling=[1.0])),
            ("every coupling", between[loss]),
        ):
            found = balance(runs["measured"])
            found = found.sel(imbalance_ratio=found["imbalance_ratio"] >= 10)
            off = abs(found - _predicted_balances(found))
            claim = at_most(
                f"{loss}, {name}, R >= 10: worst distance of the balancing exponent from g*",
                EXPONENT_TOLERANCE,
                float(off.max(skipna=False)),
            )
            claims.append(noted(claim, f"{float(found.min()):.3f} to {float(found.max()):.3f}"))
    return claims


def _predicted_balances(balances: xr.DataArray) -> xr.DataArray:
    """g* at every point of a grid of balancing exponents."""
    return xr.apply_ufunc(
        predicted_balance, balances["imbalance_ratio"], balances["coupling"], vectorize=True
    )


def _start_claims(starts: dict[Loss, xr.Dataset]) -> list[Claim]:
    """The distance from the power laws falls with the scale of the start."""
    claims = []
    for loss, (features, coupling) in itertools.product(LOSSES, FEATURES.items()):
        measured = starts[loss]["measured"].sel(coupling=coupling)
        off = abs(measured / laws(measured) - 1)
        worst = off.max(["imbalance_ratio", "weight_exponent"], skipna=False).sortby("init_scale")
        claims.append(
            ascending(
                f"{loss}, {features}, R = 10..{measured['imbalance_ratio'].values[-1]}: worst distance from {LAWS[features]} falls with the start",
                [f"at {scale:g}" for scale in worst["init_scale"].values],
                worst.values.tolist(),
            )
        )
    return claims


def _rounding_claims(rounding: xr.Dataset) -> list[Claim]:
    """What float64 holds: the minority's entries stand beside learned ones of size sqrt(s), about 8,
    whose rounding, 1e-15, takes the place of a smaller start and is learned early."""
    claims = []
    for features, coupling in FEATURES.items():
        early = 1 - rounding["measured"] / rounding["predicted"]
        held, drowned = (float(early.sel(coupling=coupling, init_scale=s)) for s in (HELD, DROWNED))
        name = f"squared, {features}, ERM, largest R, start"
        claims += [
            at_most(f"{name} {HELD:g}: distance from the start's prediction", TOLERANCE, abs(held)),
            at_least(
                f"{name} {DROWNED:g}, lost in float64's rounding: minority early by more than that",
                TOLERANCE,
                drowned,
            ),
        ]
    return claims


def _shades(count: int) -> list[Any]:
    """Colours for an ascending quantity that is neither group's."""
    return list(colormaps["viridis"](np.linspace(0, 0.85, count)))


def _draw_laws(path: Path, main: dict[Loss, xr.Dataset]) -> None:
    measured = main["squared"]["measured"]
    shown = [g for g in (0.0, 0.3, 0.5, 0.7, 1.0) if g in measured["weight_exponent"].values]
    ratios = measured["imbalance_ratio"].values
    with plotting.style():
        figure = Figure(figsize=(plotting.PAGE_WIDTH, 3.0))
        axes = figure.subplots(1, len(FEATURES), sharey=True)
        for ax, (features, coupling) in zip(axes, FEATURES.items(), strict=True):
            for g, color in zip(shown, _shades(len(shown)), strict=True):
                for loss, marker in zip(LOSSES, ("o", "x"), strict=True):
                    own = main[loss].sel(coupling=coupling, weight_exponent=g)
                    ax.plot(ratios, own["measured"], marker, color=color, mfc="none", ms=4.5)
                ends = ratios[[0, -1]]
                ax.plot(ends, [law(R, g, coupling) for R in ends], **THEORY)
                ax.plot([], [], "s", color=color, label=f"$g = {g:g}$")
            ax.set(xscale="log", yscale="log", xlabel="imbalance ratio $R$")
            ax.set_title(f"{features} features")
            sweep_plots.ratio_ticks(ax.xaxis)
            sweep_plots.ratio_ticks(ax.yaxis)
        axes[0].set_ylabel("minority / majority\nlearning time")
        axes[0].plot([], [], "o", color="0.4", mfc="none", label="squared")
        axes[0].plot([], [], "x", color="0.4", label="cross-entropy")
        axes[0].plot([], [], **THEORY, label="law, $R^{g^* - g}$")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper")
    plotting.save_figure(figure, path)


def _draw_heat_maps(path: Path, main: xr.Dataset) -> None:
    measured = main["measured"]
    ratios, exponents = (measured[n].values for n in ("imbalance_ratio", "weight_exponent"))
    names = {0.0: "free features", MIDDLE: f"coupling {MIDDLE:g}", 1.0: "shared features"}
    norm = sweep_plots.balance_norm(np.array([100.0]))  # beyond it the colour stays
    with plotting.style():
        figure = Figure(figsize=(plotting.PAGE_WIDTH, 2.7))
        axes = figure.subplots(1, len(names), sharey=True)
        for ax, (coupling, name) in zip(axes, names.items(), strict=True):
            own = measured.sel(coupling=coupling).transpose("weight_exponent", "imbalance_ratio")
            image = ax.pcolormesh(
                np.exp(edges(np.log(ratios))),
                edges(exponents),
                own.values,
                cmap=sweep_plots.balance_colors(),
                norm=norm,
            )
            ax.plot(
                ratios,
                balance(own),
                "o",
                color="black",
                mfc="none",
                ms=4,
                label="learned at once, measured",
            )
            fine = np.geomspace(2, ratios[-1], 100)
            ax.plot(
                fine,
                [predicted_balance(R, coupling) for R in fine],
                **THEORY,
                label="predicted, $g^*$",
            )
            ax.set(xscale="log", xlabel="imbalance ratio $R$", title=name)
            sweep_plots.ratio_ticks(ax.xaxis)
        axes[0].set_ylabel("weight exponent $g$")
        handles = axes[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside upper center", ncols=2)
        bar = figure.colorbar(
            image, ax=axes, extend="both", label="minority / majority\nlearning time"
        )
        sweep_plots.ratio_ticks(bar.ax.yaxis)
    plotting.save_figure(figure, path)


def _draw_balance(path: Path, between: dict[Loss, xr.Dataset]) -> None:
    measured, starts = (
        {loss: balance(runs[name]) for loss, runs in between.items()}
        for name in ("measured", "predicted")
    )
    ratios = measured["squared"]["imbalance_ratio"].values
    fine = np.concatenate([[0], np.geomspace(1e-4, 1, 200)])
    with plotting.style():
        figure = Figure(figsize=(plotting.COLUMN_WIDTH, 2.7))
        ax: Axes = figure.subplots()
        for R, color in zip(ratios, _shades(len(ratios)), strict=True):
            for loss, marker in zip(LOSSES, ("o", "x"), strict=True):
                own, expected = (found[loss].sel(imbalance_ratio=R) for found in (measured, starts))
                ax.plot(own["coupling"], own, marker, color=color, mfc="none", ms=4.5)
                ax.plot(own["coupling"], expected, ":", color=color, lw=0.9, zorder=0)
            ax.plot(fine, [predicted_balance(R, c) for c in fine], **THEORY)
            ax.plot([], [], "s", color=color, label=f"$R = {R}$")
        ax.plot([], [], "o", color="0.4", mfc="none", label="squared")
        ax.plot([], [], "x", color="0.4", label="cross-entropy")
        ax.plot([], [], **THEORY, label="$g^*$, small-start limit")
        ax.plot([], [], ":", color="0.4", lw=0.9, label="from the start's size")
        ax.set_xscale("symlog", linthresh=1e-3, linscale=0.5)
        ax.set_xticks([0, 1e-3, 1e-2, 1e-1, 1], ["0\nfree", "0.001", "0.01", "0.1", "1\nshared"])
        ax.minorticks_off()
        ax.set(xlabel="coupling $c$ of the features of a class", ylabel="balancing exponent")
        ax.set(ylim=(0.45, 1.14), yticks=np.linspace(0.5, 1, 6))
        ax.legend(loc="upper left", labelspacing=0.25)
    plotting.save_figure(figure, path)
