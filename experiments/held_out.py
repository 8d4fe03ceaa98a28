"""Why does loss reweighting work if you stop early? On held-out data, inside the model.

Features are made of inputs, H = A X, so that fresh samples can be classified at every time; every run ends with all
training samples right. R = 10, four times as many dimensions of noise as samples, signal 2.5. ERM, g = 1/2 and
g = 1 from the same inputs and starts, ten seeds, by the clock of the loss to a margin of 100, which gradient
flow reaches after some e^100 units of time.

Claimed before the run, after trial runs of other code and draws, and of these: when g = 1 has come within 0.01 of its best
balanced accuracy all of its training samples are right, and ERM's balanced accuracy is 0.2 lower at least; ERM
does not reach that best to the end. Weighted accuracy falls again, by 0.03 at least. All weightings tend to one
end, that of least nuclear norm, and have accuracies within 0.02 of its by then. What sets their classifiers apart falls as
margin^(-1/L) with L layers: with one it is log(weight ratio) over the margin; with more, what A has along samples that
turn out not to support the end stays, beside factors that grow as margin^(1/L). Which exponent is best depends on
when one stops, and is no smaller than the g* that balances contrasts early. It takes a minute.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import xarray as xr
from jaxtyping import Float
from matplotlib.axes import Axes

import ssm
from experiments import held_out_limits, pages
from experiments.claims import Claims, Estimate
from experiments.held_out_setting import Curves, follow, mean_over_log_time, recall, setting
from experiments.pages import THEORY
from experiments.readings import Report
from ssm import fits, plotting, theory
from ssm.config import profiles
from ssm.problem import make_problem
from ssm.problem.inputs import draw_inputs

SETTING = setting(10, 4, 2.5)
WEIGHTINGS = {"ERM": 0.0, "$g = 1/2$": 0.5, "$g = 1$": 1.0}
EXPONENTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)
SEEDS, SEEDS_FAR, ENDS = 10, 5, 3
MARGINS = (10.0, 20.0, 40.0, 80.0)
FAR = (300.0, 1000.0)
EARLY = 0.2  # by how much ERM should be behind when weights are nearly at their best
FALL = 0.03  # by how much weighted accuracy should fall from its best to the end
ALIKE = 0.02  # of balanced accuracy, within which ends count as one
SHADES = {"ERM": "#999999", "$g = 1/2$": "#009E73", "$g = 1$": "#CC79A7"}
STOPS = (1e2, 2e2, 5e2, 1e3, 1e4, 1e8, 1e20, 1e40)  # flow times at which one might stop
LAST = 42  # decade of flow time up to which curves are drawn


def run(out: Path, quick: bool, report: Report) -> Claims:
    """Draw `held_out.png` and `held_out_exponents.png`, and make the claims."""
    seeds = 2 if quick else SEEDS
    curves = follow(SETTING, EXPONENTS, seeds)
    report(0.5)
    ends = range(1 if quick else ENDS)
    limit = np.mean(
        [recall(_end(seed), dataclasses.replace(SETTING, seed=seed)) for seed in ends], axis=0
    )
    report(0.7)
    apart = {depth: _apart(depth, 2 if quick else SEEDS_FAR) for depth in (1, 2)}
    _draw(out / "held_out.png", curves, limit)
    _draw_exponents(out / "held_out_exponents.png", curves)
    return _claims(curves, float(limit.mean()), apart)


def _end(seed: int) -> Float[np.ndarray, "k p"]:
    """The classifier of inputs to which all weightings tend in direction."""
    config = dataclasses.replace(SETTING, seed=seed)
    problem = make_problem(config)
    X = draw_inputs(config, problem)
    return held_out_limits.least_nuclear_norm(X, problem.labels, len(problem.counts))


def _apart(depth: int, seeds: int) -> Float[np.ndarray, "pairs seeds margins"]:
    """Distances between the directions that ERM and g = 1/2, and ERM and g = 1, have come to at each of `FAR`.

    Directions are those of all layers' product, the classifier of inputs.
    """
    width = SETTING.num_classes if depth == 1 else SETTING.feature_dim
    base = dataclasses.replace(
        SETTING, depth=depth, feature_dim=width, held_out=False, save_state=True, num_saves=3
    )
    runs = ssm.sweep(
        {"weight_exponent": WEIGHTINGS.values(), "seed": range(seeds), "stop_margin": FAR}, base
    )
    last = np.isfinite(runs["margin"].values).cumsum(axis=-1).argmax(axis=-1)
    W, A = (
        np.take_along_axis(runs[name].values, last[..., None, None, None], axis=3)[:, :, :, 0]
        for name in ("W", "A")
    )
    V = A if depth == 1 else W @ A
    V = V / np.linalg.norm(V, axis=(-2, -1), keepdims=True)
    return np.linalg.norm(V[1:] - V[:1], axis=(-2, -1))


def _slopes(values: Float[np.ndarray, "seeds margins"], margins: tuple[float, ...]) -> np.ndarray:
    """Of the logarithm of values over log margin, for each seed; NaN where a value is not positive."""
    array = xr.DataArray(values, {"margin": list(margins)}, ["seed", "margin"])
    found = fits.power_law(array["margin"], array.where(array > 0))
    return found["each_exponent"].values


def _claims(curves: dict[float, Curves], limit: float, apart: dict[int, np.ndarray]) -> Claims:
    claims = Claims("R = 10, q = 4 n, signal 2.5")
    erm, half, weighted = (curves[g] for g in WEIGHTINGS.values())
    early, best = weighted.of(weighted.log_time, weighted.nearly_best), weighted.best
    ahead = weighted.of(weighted.balanced, weighted.nearly_best) - erm.at_time(early)
    when = f"at flow time {np.exp(early).mean():.3g}"
    claims.at_least(
        "g = 1 within 0.01 of its best: its balanced held-out accuracy over ERM's then",
        EARLY,
        Estimate.over_seeds(ahead),
        when,
    )
    claims.at_least(
        "least margin of g = 1 at its best: all training samples are right",
        0.0,
        Estimate.over_seeds(weighted.of(weighted.margin, best)),
    )
    peak = weighted.of(weighted.balanced, best)
    claims.at_least(
        "best of g = 1 over the best of ERM up to a margin of 100",
        0.0,
        Estimate.over_seeds(peak - np.nanmax(erm.balanced, axis=1)),
    )
    claims.at_least(
        "best of g = 1 over its accuracy at a margin of 100",
        FALL,
        Estimate.over_seeds(peak - weighted.end),
        f"{peak.mean():.3f} to {weighted.end.mean():.3f}",
    )
    for name, own in zip(WEIGHTINGS, (erm, half, weighted), strict=True):
        claims.between(
            f"accuracy of {name.replace('$', '')} at a margin of 100 less that of the common end",
            (-ALIKE, ALIKE),
            Estimate.over_seeds(own.end - limit),
            0.0,
            f"{own.end.mean():.3f}, end {limit:.3f}",
        )
    gap = [weighted.at_margin(margin) - erm.at_margin(margin) for margin in MARGINS]
    claims.between(
        "slope of log(accuracy of g = 1 over ERM's) in log margin, 10 to 80",
        (-1.0, -0.5),
        Estimate.over_seeds(_slopes(np.transpose(gap), MARGINS)),
        0.0,
    )
    for depth, (half_way, whole_way) in apart.items():
        what = f"{depth} layer{'s' * (depth > 1)}, margins of {FAR[0]:g} to {FAR[1]:g}"
        claims.close(
            f"{what}: slope of log distance of the directions of ERM and g = 1 in log margin",
            -1 / depth,
            Estimate.over_seeds(_slopes(whole_way, FAR)),
            0.2,
        )
        if depth == 1:
            claims.close(
                f"{what}: distance of ERM to g = 1 over that to g = 1/2",
                2.0,
                Estimate.over_seeds((whole_way / half_way)[:, -1]),
                0.1,
            )
    balance = _balance()
    for stop in (STOPS[0], STOPS[-1]):
        own = np.array([[*c.at_time(np.full(len(early), np.log(stop)))] for c in curves.values()])
        claims.at_least(
            f"best of g = {EXPONENTS[0]:g} .. {EXPONENTS[-1]:g} where one stops at {stop:.0e}",
            balance,
            Estimate.over_seeds(np.array(EXPONENTS)[own.argmax(axis=0)]),
            f"g* = {balance:.2f}",
        )
    return claims


def _balance() -> float:
    """The exponent that balances the contrasts of the two groups early."""
    majority, minority = SETTING.class_counts[0], SETTING.class_counts[-1]
    return float(theory.balancing_exponent(majority, minority, SETTING.coupling))


def _draw(path: Path, curves: dict[float, Curves], limit: Float[np.ndarray, " k"]) -> None:
    """Balanced held-out accuracy of three weightings; recall of both groups of ERM and of g = 1."""
    groups = np.array(SETTING.class_groups)
    with pages.page(path, 2.6) as figure:
        left, right = figure.subplots(1, 2, sharex=True)
        for name, g in WEIGHTINGS.items():
            own, color = curves[g], SHADES[name]
            x, y = mean_over_log_time(own, own.balanced, LAST)
            left.plot(x, y, color=color, label=f"{name}, fresh samples")
            training = mean_over_log_time(own, own.training.mean(-1), LAST)
            left.plot(*training, color=color, lw=0.7, ls=":")
            top = int(y.argmax())
            if top < len(y) - 1:
                left.plot(x[top], y[top], "o", color=color, ms=4)
        left.axhline(limit.mean(), label="common end", **THEORY)
        pages.key(left, "training samples", color="0.4", lw=0.7, ls=":")
        left.set_ylabel("balanced accuracy")
        left.legend(loc="lower right", labelspacing=0.2)
        for group in profiles.GROUPS:
            color, member = plotting.COLORS[group], groups == group
            for name, width in (("ERM", 0.8), ("$g = 1$", 1.8)):
                own = curves[WEIGHTINGS[name]]
                values = own.recall[..., member].mean(-1)
                line = mean_over_log_time(own, values, LAST)
                right.plot(*line, color=color, lw=width, label=f"{group}, {name}")
            right.axhline(limit[member].mean(), **THEORY)
        right.set_ylabel("recall of fresh samples")
        right.legend(loc="lower right", labelspacing=0.2)
        for axes in (left, right):
            _time_axis(axes)


def _time_axis(axes: Axes) -> None:
    axes.set_xscale("log")
    ticks = (1, 2, 3, 5, 10, 20, 40)
    pages.plain_ticks(axes.xaxis, ticks, [f"$10^{{{tick}}}$" for tick in ticks])
    axes.set_xlim(1, LAST)
    axes.set_ylim(0.2, 1.03)
    axes.set_xlabel(pages.FLOW_TIME)


def _draw_exponents(path: Path, curves: dict[float, Curves]) -> None:
    """Balanced accuracy over the exponent, where one stops at some times."""
    with pages.page(path, 2.4, plotting.COLUMN_WIDTH) as figure:
        axes = figure.subplots()
        number = len(next(iter(curves.values())).balanced)
        for stop, color in zip(STOPS, pages.shades(len(STOPS)), strict=True):
            each = [own.at_time(np.full(number, np.log(stop))).mean() for own in curves.values()]
            power = f"{np.log10(stop):.2g}"
            axes.plot(EXPONENTS, each, "o-", color=color, ms=3, label=f"$10^{{{power}}}$")
        axes.axvline(_balance(), label="$g^*$", **THEORY)
        axes.set_xlabel("exponent $g$ of the class weights")
        axes.set_ylabel("balanced held-out accuracy")
        pages.legend_above(figure, axes, 5, title="stopped at flow time")
