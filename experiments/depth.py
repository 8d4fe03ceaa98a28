"""Does depth widen the gap between majorities and minorities?

Learning times of majority and minority contrasts over the number of factors, L = 1 (features alone are the
logits) to 4, under the squared loss with free features. It takes 15 seconds: some 70 runs, the deep ones
long. Claimed before the run, by the scalar equation that follows, and of Gaussian starts too; what fails
of that, and what was derived in its place, says so.

From a spectral start of scale e every contrast, of target s = sqrt(n_c), starts at e^L and is alone:
a' = L r a^(2 - 2/L) (1 - a / s), r = w s / n. What small starts should come to, by that equation:

- L = 1: a' = (w / n) (s - a). Half of the target after (n / w) ln 2, whatever s: ERM has no gap, and
  weights make one, R^-g.
- L = 2: ln(s / e^2) / (2 r). Minority over majority tends to R^(1/2 - g), but only as 1 - ln R /
  (2 ln(s_maj / e^2)).
- L > 2: 1 / ((L - 2) r e^(L - 2)), the time to leave the start. The ratio tends to R^(1/2 - g) too,
  as fast as e^(L - 2); the gap in flow time grows as e^(2 - L).

So depth widens the relative gap no further than R^(1/2), and the absolute one without bound.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from experiments import deep_start, pages
from experiments.claims import Claim, Claims, Estimate
from experiments.pages import HOLLOW, THEORY, WIDTHS
from experiments.readings import (
    GROUPS,
    Report,
    counted,
    each,
    expected,
    farthest,
    learned,
    part,
    ratio,
    shares,
    spread,
)
from experiments.settings import BASE
from ssm import Config, exact, plotting, spectral, sweep, sweep_plots, theory
from ssm.config import profiles
from ssm.problem import make_problem

SPECTRAL = dataclasses.replace(
    BASE,
    loss="squared",
    init="spectral",
    feature_dim=BASE.num_classes,  # as one factor asks for
    num_saves=300,
    rtol=1e-10,  # an error in time is one in strength, times a slope that grows with depth
)
DEPTHS = (1, 2, 3, 4)
SCALES = (0.3, 0.1, 0.03)
MIDDLE, SMALL = SCALES[1:]
RATIOS = (1, 3, 10, 30, 100)
WEIGHTED = 0.5

GAUSSIAN = dataclasses.replace(SPECTRAL, init="gaussian", init_scale=SMALL, rtol=1e-6)
GAUSSIAN_RATIOS, SEEDS = (10, 30), 16
DRAWS = 32  # of contrasts alone, whose ratio is then known to 5 %

EXACT = 1e-6  # of a target or of a learning time
NEAR = 0.02  # of a small-start limit
RANDOM = 0.2  # of a ratio, geometric mean over seeds
LEADING = 0.35  # of the same: draws differ twofold, and the law is of leading order in k_maj / d
ALONE = 0.2  # of the same, from groups that do not disturb each other


def run(out: Path, quick: bool, report: Report) -> list[Claim]:
    """Draw `depth_gap.png`, and hold learning times at each depth against the scalar equation and
    its small-start limits."""
    depths = DEPTHS[:: 2 if quick else 1]
    over_scales = sweep(
        {"depth": depths, "init_scale": SCALES, "weight_exponent": (0.0, WEIGHTED)},
        SPECTRAL,
        progress=counted(part(report, 0.0, 0.4)),
    )
    over_ratios = sweep(
        {"depth": depths, "imbalance_ratio": RATIOS[:: 2 if quick else 1]},
        dataclasses.replace(SPECTRAL, init_scale=MIDDLE),
        progress=counted(part(report, 0.4, 0.6)),
    )
    random = {} if quick else gaussian_ratios(part(report, 0.6, 1.0))
    runs = {depth: sweep({"depth": [depth]}, _whole(depth)).isel(depth=0) for depth in depths}
    _draw(out / "depth_gap.png", runs, over_scales, over_ratios, random)
    return [
        *_exact_claims(over_scales, over_ratios),
        *_limit_claims(over_scales),
        *_power_claims(over_ratios),
        *_gaussian_claims(random),
    ]


def gap(times: xr.DataArray) -> xr.DataArray:
    """Minority less majority."""
    majority, minority = (times.sel(block=group, drop=True) for group in GROUPS)
    return minority - majority


def gaussian_ratios(report: Report) -> dict[tuple[int, int], np.ndarray]:
    """Minority over majority learning time from Gaussian starts, of each seed, by L > 1 and R."""
    found = {}
    for depth, R in each(itertools.product(DEPTHS[1:], GAUSSIAN_RATIOS), report):
        config = dataclasses.replace(GAUSSIAN, depth=depth, imbalance_ratio=R)
        # beside a spectral start a Gaussian one is the faster the deeper, and a run is stiff once all is learned
        config = dataclasses.replace(config, t1=10 / depth**2 * last_learned(config))
        runs = sweep({"seed": range(SEEDS)}, config)
        found[depth, R] = ratio(learned(runs)).values
    return found


def gaussian_limit(depth: float, imbalance_ratio: float) -> float:
    """What small Gaussian starts should come to beyond two factors: minorities start in what the
    larger contrasts, as many as there are majority classes, leave of the d directions of each layer.

    Factors of random entries have sizes ~ e sqrt(d), so that the time ~ e^(2 - L) gains
    (d / (d - k_maj))^((L - 2) / 2).
    """
    d, taken = GAUSSIAN.feature_dim, GAUSSIAN.class_groups.count(profiles.MAJORITY)
    return float(imbalance_ratio**0.5 * (d / (d - taken)) ** ((depth - 2) / 2))


def ratio_alone(depth: int, imbalance_ratio: float) -> float:
    """The ratio of learning times where each group is as if alone (`deep_start`), geometric means over draws:
    majorities and the cross contrast in d dimensions, minorities in those that majorities leave."""
    config = dataclasses.replace(GAUSSIAN, depth=depth, imbalance_ratio=imbalance_ratio)
    problem, groups = make_problem(config), config.class_groups
    components = spectral.components(problem)
    sizes = {
        block: components.singular_values[components.blocks == block] for block in spectral.BLOCKS
    }
    majority, cross, minority = (sizes[block] for block in spectral.BLOCKS)
    total = sum(config.class_counts)
    left = config.feature_dim - groups.count(profiles.MAJORITY)
    alone = (
        (np.append(majority, cross), len(majority), config.feature_dim),
        (minority, len(minority), left),
    )
    times = []
    for targets, counted_ones, width in alone:
        scattered = total - config.num_classes
        factors = deep_start.gaussian_factors(
            len(targets), width, depth, config.init_scale, DRAWS, scattered
        )
        own = deep_start.learning_times(
            factors, targets, total, counted_ones, 4 * last_learned(config)
        )
        times.append(np.exp(np.log(own).mean()))
    return float(times[1] / times[0])


def contrasts(config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Rates r = w s / n and targets s of the contrasts of each of `GROUPS`."""
    problem = make_problem(config)
    return theory.class_growth_rates(problem)[[0, -1]], np.sqrt(problem.counts[[0, -1]])


def last_learned(config: Config) -> float:
    """When minorities are half learned from a spectral start, ERM, by the scalar equation."""
    rates, targets = contrasts(config)
    start = np.full(2, config.init_scale**config.depth)
    return float(exact.deep_learning_time(rates, start, targets, config.depth)[1])


def _whole(depth: int) -> Config:
    """A run to draw, somewhat longer than minorities take."""
    config = dataclasses.replace(SPECTRAL, depth=depth, init_scale=MIDDLE)
    return dataclasses.replace(config, t1=(5 if depth == 1 else 1.6) * last_learned(config))


def curves(times: np.ndarray, depth: int, scale: float) -> dict[str, np.ndarray]:
    """Strength over target of a mode of each block, by the scalar equation: ERM at the R of
    `SPECTRAL`."""
    problem = make_problem(SPECTRAL)
    components = spectral.components(problem)
    blocks = list(dict.fromkeys(components.blocks.tolist()))
    first = [components.blocks.tolist().index(block) for block in blocks]
    rates = theory.component_growth_rates(problem, components)[first]
    target, start = components.singular_values[first], np.full(len(first), scale**depth)
    learned_shares = exact.deep_mode(times, rates, start, target, depth) / target
    return dict(zip(blocks, learned_shares.T, strict=True))


def _exact_claims(over_scales: xr.Dataset, over_ratios: xr.Dataset) -> list[Claim]:
    """Runs against the scalar equation, and what they conserve."""
    claims, depths = Claims(), over_scales["depth"].values.tolist()
    for depth in depths:
        off = 0.0
        for scale in SCALES:
            own = over_scales.sel(depth=depth, init_scale=scale, weight_exponent=0.0)
            found = (own["strength"] / own["component_target"]).transpose("time", "component")
            theirs = curves(own["flow_time"].values, depth, scale)
            wanted = np.stack([theirs[block] for block in own["component_block"].values], axis=1)
            off = max(off, float(np.abs(found.values - wanted).max()))
        statement = f"ERM, L = {depth}, e = {SMALL:g}..{SCALES[0]:g}: every mode at every time, worst distance from the scalar equation over the target"
        claims.at_most(statement, EXACT, off)
    name = f"both sweeps, L = 1..{depths[-1]}"
    both = (over_scales, over_ratios)
    off = max(farthest(learned(x), expected(x)) for x in both)
    drift = max(float(x["drift"].sel(depth=depths[1:]).max(skipna=False)) for x in both)
    claims.at_most(f"{name}: learning times, worst distance from it, relative", EXACT, off)
    claims.at_most(f"{name}: what neighbouring layers conserve changes by", 1e-7, drift)
    return claims


def _limit_claims(over_scales: xr.Dataset) -> list[Claim]:
    """Small-start limits at the smallest scale, ERM and weighted."""
    (r_maj, r_min), (s_maj, _) = contrasts(SPECTRAL)
    R, e, times = SPECTRAL.imbalance_ratio, SMALL, learned(over_scales)
    depths, claims = over_scales["depth"].values.tolist(), Claims()
    slow = 1 - np.log(R) / (2 * np.log(s_maj / e**2))
    for g in (0.0, WEIGHTED):
        own = ratio(times).sel(weight_exponent=g, init_scale=e)
        for depth in depths:
            law, limit = "R^(1/2 - g)", R ** (0.5 - g)
            if depth == 1:
                law, limit = "R^-g", R**-g
            if depth == 2:
                law, limit = f"{law} (1 - ln R / (2 ln(s_maj / e^2)))", limit * slow
            statement = (
                f"e = {e:g}, g = {g:g}, L = {depth}: minority over majority learning time, {law}"
            )
            claims.close(statement, float(limit), float(own.sel(depth=depth)), NEAR)
    erm = times.sel(weight_exponent=0.0)
    for depth in [L for L in depths if L > 2]:
        short = 1 - ratio(erm).sel(depth=depth, init_scale=[MIDDLE, e]).values / R**0.5
        power = float(np.log(short[1] / short[0]) / np.log(e / MIDDLE))
        statement = f"ERM, L = {depth}, e = {MIDDLE:g} to {e:g}: power of e with which that ratio comes to R^(1/2), L - 2"
        claims.close(statement, depth - 2, power, 0.05)
        limit = (1 / r_min - 1 / r_maj) / ((depth - 2) * e ** (depth - 2))
        statement = f"ERM, e = {e:g}, L = {depth}: gap in flow time, (1/r_min - 1/r_maj) / ((L - 2) e^(L - 2))"
        measured = float(gap(erm).sel(depth=depth, init_scale=e))
        claims.close(statement, float(limit), measured, 0.05)
    names = [f"L = {depth}" for depth in depths]
    for name, values in (("ratio", ratio(erm)), ("gap in flow time", gap(erm))):
        statement = f"ERM, e = {e:g}: the {name} of the learning times grows with depth"
        claims.ascending(statement, names, values.sel(init_scale=e).values.tolist())
    return claims


def _power_claims(over_ratios: xr.Dataset) -> list[Claim]:
    """How the ratio of learning times grows with R."""
    claims, ratios = Claims(), over_ratios["imbalance_ratio"].values
    for depth in over_ratios["depth"].values.tolist():
        logs = np.log(ratio(learned(over_ratios)).sel(depth=depth).values)
        power = float((logs[-1] - logs[0]) / np.log(ratios[-1] / ratios[0]))
        limit = 0.0 if depth == 1 else 0.5
        statement = f"ERM, e = {MIDDLE:g}, L = {depth}, R = {ratios[0]}..{ratios[-1]}: power of R in that ratio, distance from {limit:g}"
        claims.at_most(statement, 0.1, abs(power - limit), f"{power:.3f}")
    return claims


def _gaussian_claims(random: dict[tuple[int, int], np.ndarray]) -> list[Claim]:
    """The law of spectral starts, expected of Gaussian ones too, and what was found in its place."""
    claims = Claims()
    for (depth, R), found in random.items():
        name = f"ERM, Gaussian start, e = {SMALL:g}, d = {GAUSSIAN.feature_dim}, L = {depth}, R = {R}: minority over majority learning time"
        mean, note = Estimate.geometric(found), spread(found)
        if GAUSSIAN_RATIOS[0] == R:
            claims.close(f"{name}, R^(1/2)", R**0.5, mean, RANDOM, note)
        if depth > 2:
            law = "R^(1/2) (d / (d - k_maj))^(L/2 - 1)"
            claims.close(f"{name}, {law}", gaussian_limit(depth, R), mean, LEADING, note)
        law = "each group as if alone beside the scatter of features, minorities in d - k_maj dimensions (derived after looking)"
        claims.close(f"{name}, {law}", ratio_alone(depth, R), mean, ALONE, note)
    return claims


def _draw(
    path: Path,
    runs: dict[int, xr.Dataset],
    over_scales: xr.Dataset,
    over_ratios: xr.Dataset,
    random: dict[tuple[int, int], np.ndarray],
) -> None:
    with pages.page(path, 4.4) as figure:
        figure.set_layout_engine("constrained", wspace=0.06)
        rows = figure.add_gridspec(2, 1, height_ratios=(1, 1.15))
        top, bottom = (figure.add_subfigure(rows[i]) for i in range(2))
        panels = top.subplots(1, len(runs), sharey=True)
        for ax, (depth, run) in zip(panels, runs.items(), strict=True):
            _draw_curves(ax, run, depth)
        panels[0].set_ylabel("share of target learned")
        top.supxlabel(f"{pages.FLOW_TIME}, start $e = {MIDDLE:g}$")
        pages.legend_above(top, panels[0], 4)
        left, middle, right = bottom.subplots(1, 3)
        _draw_over_depth(left, ratio, over_scales)
        found = [(L, value) for (L, R), own in random.items() if R == 10 for value in own]
        if found:
            depths = np.linspace(2, DEPTHS[-1], 50)
            laws = [gaussian_limit(L, SPECTRAL.imbalance_ratio) for L in depths]
            left.plot(*zip(*found, strict=True), "x", color="0.4", ms=3.5, label="Gaussian, 0.03")
            left.plot(depths, laws, color="0.4", lw=1, ls="-.")
            law = r"$\sqrt{R}\,(\frac{d}{d - k_{maj}})^{L/2-1}$"
            left.annotate(law, (depths[-1], laws[-1]), (3.3, 8.4), ha="right", fontsize=7)
        root = SPECTRAL.imbalance_ratio**0.5
        left.axhline(root, color="0.8", lw=0.8, zorder=0)
        left.text(0.9, root, r"$\sqrt{R}$", color="0.4", fontsize=7, va="bottom")
        left.set(ylabel=pages.TIME_RATIO, ylim=(0, 17), yticks=(0, 5, 10))
        left.legend(title="start $e$", loc="upper left", labelspacing=0.2, handletextpad=0.2)
        _draw_over_depth(middle, gap, over_scales)
        middle.set_yscale("symlog", linthresh=100, linscale=0.6)
        middle.set(ylabel="minority - majority\nlearning time (flow time)", ylim=(-80, None))
        middle.axhline(0, **pages.FAINT)
        words = "below 0 at $L = 1$:\nminorities first"
        middle.text(4.1, 8, words, fontsize=7, color="0.3", ha="right", va="bottom")
        _draw_over_ratios(right, over_ratios)


def _draw_curves(ax: Axes, run: xr.Dataset, depth: int) -> None:
    times = run["time"].values
    found = shares(run)
    theirs = curves(times, depth, MIDDLE)
    for block, color in plotting.COLORS.items():
        ax.plot(times, found.sel(block=block), color=color, label=block, lw=WIDTHS[block])
    for block in plotting.COLORS:
        ax.plot(times, theirs[block], **THEORY)
    pages.key(ax, r"theory, $\dot a = L\, r\, a^{2 - 2/L} (1 - a/s)$", **THEORY)
    ax.set(xlim=times[[0, -1]], title=f"$L = {depth}$")
    ax.xaxis.set_major_locator(MaxNLocator(2))


def _draw_over_depth(
    ax: Axes, measure: Callable[[xr.DataArray], xr.DataArray], over_scales: xr.Dataset
) -> None:
    """A measure of learning times over L, ERM, at each scale: circles, and dashed theory."""
    erm = over_scales.sel(weight_exponent=0.0)
    found, wanted = measure(learned(erm)), measure(expected(erm))
    for scale, color in zip(SCALES, pages.shades(len(SCALES)), strict=True):
        own, theirs = (x.sel(init_scale=scale) for x in (found, wanted))
        mark = {"color": color, "label": f"{scale:g}"}
        ax.plot(own["depth"], own, "o", **mark, **HOLLOW)
        ax.plot(own["depth"], theirs, "--", color=color, lw=1)
    ax.set(xticks=own["depth"].values, xlabel="factors $L$")


def _draw_over_ratios(ax: Axes, over_ratios: xr.Dataset) -> None:
    found, wanted = ratio(learned(over_ratios)), ratio(expected(over_ratios))
    depths, ratios = found["depth"].values.tolist(), found["imbalance_ratio"].values
    for depth, color in zip(depths, pages.shades(len(depths)), strict=True):
        label = f"$L = {depth}$"
        ax.plot(ratios, found.sel(depth=depth), "o", color=color, label=label, **HOLLOW)
        ax.plot(ratios, wanted.sel(depth=depth), "--", color=color, lw=1)
    ax.plot(ratios, ratios**0.5, color="0.8", lw=0.8, zorder=0, label=r"$\sqrt{R}$")
    ax.set(xscale="log", yscale="log", xlabel=pages.RATIO, ylabel=pages.TIME_RATIO)
    sweep_plots.ratio_ticks(ax.xaxis)
    sweep_plots.ratio_ticks(ax.yaxis)
    ax.legend(loc="upper left", labelspacing=0.2, handletextpad=0.2, borderaxespad=0)
