"""Where does stopping early pay, and where training on? Maps on held-out data, inside the model.

The problem of `held_out` with five samples a minority class: maps over the imbalance ratio R and the dimensions
of noise a sample, q / n, at signal 2.5, and over signal and q / n at R = 10, three seeds apart from those of
`held_out`. *Early* is what weights g = 1 reach while the least margin is below 5, *late* is at a margin of 100.

Claimed before the run, after trial runs of other code and draws, and of these. Early, weights lead everywhere, by 0.25 at least
in the settings A (ten samples a minority, R = 10, q = 4 n, signal 2.5) and N (q = n, signal 2). Stopping early pays, by more
than 0.02, where both R and the noise are large: R >= 8 and q / n of 4 and 8. It does not, by 0.005 at most, at R = 2
and at q = n, where samples are few for what they have in common; in N training on is 0.005 better at least.

Weight decay keeps what early stopping has (Byrd, Lipton 2019, in networks): in A, at the end of training with
decay, g = 1 is ahead of ERM by 0.10 at a decay of 1e-2 and by 0.05 at 3e-3, and without decay by 0.03 at most at a
margin of 100. Both ends are those of their convex programs, within 0.02 of accuracy.

The exponent that is first at 80 % of the way from chance to the best is the one that balances contrasts,
g* = 1/2 + 1/2 log(kappa_maj / kappa_min) / log R, within 0.125, in each of five settings. It takes three minutes.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.axes import Axes

import ssm
from experiments import held_out_limits, pages
from experiments.claims import Claims, Estimate
from experiments.held_out_setting import NEAR, Curves, follow, recall, setting, side_by_side
from experiments.pages import THEORY
from experiments.readings import Report, part
from ssm import theory
from ssm.problem import make_problem
from ssm.problem.inputs import draw_inputs

ERM, WEIGHTED = 0.0, 1.0
RATIOS = (2, 4, 8, 16, 32)
NOISES = (1, 2, 4, 8, 16)
SIGNALS = (1.5, 2.5, 3.5)
FIRST_SEED, SEEDS = 100, 3
EARLY = 5.0  # a least margin, below which stopping counts as early
SETTING_A, SETTING_N = setting(10, 4, 2.5), setting(10, 1, 2)
SEEDS_OF_SETTINGS = 5
DECAYS = {1e-2: 0.10, 3e-3: 0.05}  # and how much weights should keep
SHARE = 0.8  # of the way from chance to the best
EXPONENTS = np.arange(6, 19) / 16
LENGTH, NUM_TIMES = 400.0, 121  # flow time by which that is reached, and how often it is looked
SETTINGS = {
    "R = 10, q = 4 n, s = 2.5": SETTING_A,
    "R = 10, q = n, s = 2": SETTING_N,
    "R = 10, q = 16 n, s = 3.5": setting(10, 16, 3.5),
    "R = 3, q = 4 n, s = 2.5": setting(3, 4, 2.5),
    "n_min = 20, R = 10, q = n, s = 2.5": setting(10, 1, 2.5, 20),
}
MARKS = "osD^v"


class Pair(NamedTuple):
    """ERM and g = 1 in one setting: numbers by seed."""

    lead: Float[np.ndarray, " seeds"]
    """Balanced held-out accuracy of g = 1 over ERM's, at the time when g = 1 is first near its early best."""
    early_over_late: Float[np.ndarray, " seeds"]
    """Best of g = 1 early over its accuracy at a margin of 100."""
    late_lead: Float[np.ndarray, " seeds"]
    """g = 1 over ERM at a margin of 100."""


def run(out: Path, quick: bool, report: Report) -> Claims:
    """Draw `held_out_maps.png` and make the claims."""
    ratios, noises = (RATIOS[2:3], NOISES[:3:2]) if quick else (RATIOS, NOISES)
    seeds = range(FIRST_SEED, FIRST_SEED + (2 if quick else SEEDS))
    by_ratio = [setting(ratio, noise, 2.5, 5) for ratio in ratios for noise in noises]
    levels = SIGNALS[1:2] if quick else SIGNALS
    by_signal = [
        setting(10, noise, signal, 5) for signal in levels for noise in NOISES[: 1 if quick else 3]
    ]
    own = range(FIRST_SEED, FIRST_SEED + (2 if quick else SEEDS_OF_SETTINGS))
    cases = [(config, seeds) for config in by_ratio + by_signal]
    cases += [(SETTING_A, own), (SETTING_N, own)]
    pairs = side_by_side(lambda case: _pair(*case), cases, part(report, 0.0, 0.6))
    maps = np.reshape(
        [[p.lead, p.early_over_late] for p in pairs[: len(by_ratio)]],
        (len(ratios), len(noises), 2, -1),
    )
    signals = np.reshape(
        [[p.lead, p.early_over_late] for p in pairs[len(by_ratio) : -2]],
        (len(levels), -1, 2, len(seeds)),
    )
    claims = Claims()
    _claim_maps(claims, maps, ratios, noises)
    _claim_settings(claims, *pairs[-2:])
    report(0.65)
    _claim_decay(claims, own, pairs[-2], quick)
    report(0.7)
    settings = dict(list(SETTINGS.items())[: 1 if quick else None])
    first = side_by_side(
        lambda config: _first_exponents(config, own, EXPONENTS[:: 3 if quick else 1]),
        list(settings.values()),
        part(report, 0.7, 1.0),
    )
    _claim_exponents(claims, dict(zip(settings, first, strict=True)))
    _draw(
        out / "held_out_maps.png",
        maps,
        signals,
        ratios,
        noises,
        levels,
        dict(zip(settings, first, strict=True)),
    )
    return claims


def _pair(config: ssm.Config, seeds: range) -> Pair:
    found = follow(config, (ERM, WEIGHTED), seeds)
    return compared(found[ERM], found[WEIGHTED])


def compared(erm: Curves, weighted: Curves) -> Pair:
    """What is read off runs by the loss clock to a common margin."""
    early = np.where(weighted.margin < EARLY, weighted.balanced, -np.inf)
    best = early.max(axis=1)
    near = (early >= best[:, None] - NEAR).argmax(axis=1)
    then = erm.at_time(weighted.of(weighted.log_time, near))
    lead = weighted.of(weighted.balanced, near) - then
    return Pair(lead, best - weighted.end, weighted.end - erm.end)


def _claim_maps(
    claims: Claims, maps: np.ndarray, ratios: tuple[int, ...], noises: tuple[int, ...]
) -> None:
    """Of means over cells, one number a seed, with the range of the cells' own means beside them."""
    ratio, noise = np.meshgrid(ratios, noises, indexing="ij")
    large = (ratio >= 8) & np.isin(noise, (4, 8))
    little = (ratio == 2) | (noise == 1)
    lead, early_over_late = maps[:, :, 0], maps[:, :, 1]
    what = "best of g = 1 at margins below 5 over its accuracy at 100, mean over"
    for where, cells, bound in (
        ("R >= 8, q/n = 4 and 8", large, 0.02),
        ("R = 2, and q = n", little, 0.005),
    ):
        if not cells.any():
            continue
        make = claims.at_least if cells is large else claims.at_most
        make(
            f"{what} {where}",
            bound,
            Estimate.over_seeds(early_over_late[cells].mean(axis=0)),
            _cells(early_over_late[cells]),
        )
    claims.at_least(
        "g = 1 within 0.01 of its early best: its balanced held-out accuracy over ERM's then, mean over all cells",
        0.0,
        Estimate.over_seeds(lead.mean(axis=(0, 1))),
        _cells(lead.reshape(-1, lead.shape[-1])),
    )


def _cells(values: Float[np.ndarray, "cells seeds"]) -> str:
    means = values.mean(axis=1)
    return f"cells {means.min():.3f} to {means.max():.3f}"


def _claim_settings(claims: Claims, a: Pair, n: Pair) -> None:
    for name, own in (("A", a), ("N", n)):
        claims.at_least(
            f"setting {name}: lead of g = 1 over ERM when it is within 0.01 of its early best",
            0.25,
            Estimate.over_seeds(own.lead),
        )
    claims.at_most(
        "setting N: best of g = 1 at margins below 5 over its accuracy at 100",
        -0.005,
        Estimate.over_seeds(n.early_over_late),
    )


def _claim_decay(claims: Claims, seeds: range, without: Pair, quick: bool) -> None:
    """What weights keep at the end of training with decay, and that this end is the convex program's."""
    claims.at_most(
        "setting A, no decay: g = 1 over ERM at a margin of 100",
        0.03,
        Estimate.over_seeds(without.late_lead),
    )
    for decay, least in list(DECAYS.items())[: 1 if quick else None]:
        base = _decaying(decay)
        found = follow(base, (ERM, WEIGHTED), seeds)
        own = f"setting A, decay of {decay:g}"
        claims.at_least(
            f"{own}: g = 1 over ERM at the end",
            least,
            Estimate.over_seeds(found[WEIGHTED].end - found[ERM].end),
            f"{found[WEIGHTED].end.mean():.3f} and {found[ERM].end.mean():.3f}",
        )
        for name, g in (("ERM", ERM), ("g = 1", WEIGHTED))[: 1 if quick else None]:
            config = dataclasses.replace(base, seed=seeds[0], weight_exponent=g)
            predicted = _end_with_decay(config, decay)
            claims.at_most(
                f"{own}, {name}, seed {seeds[0]}: distance of balanced accuracy at the end from the convex program's",
                0.02,
                abs(float(found[g].end[0]) - predicted),
                f"{found[g].end[0]:.4f} and {predicted:.4f}",
            )


def _decaying(decay: float) -> ssm.Config:
    """Setting A with decay of both layers, by flow time for twenty times that of the decay."""
    return dataclasses.replace(
        SETTING_A,
        weight_decay=decay,
        feature_decay=decay,
        clock="time",
        stop_margin=None,
        t1=20 / decay,
    )


def _end_with_decay(config: ssm.Config, decay: float) -> float:
    problem = make_problem(config)
    X = draw_inputs(config, problem)
    V = held_out_limits.decayed(X, problem.labels, problem.class_weights, decay)
    return float(recall(V, config).mean())


def _first_exponents(
    config: ssm.Config, seeds: range, exponents: Float[np.ndarray, " g"]
) -> Float[np.ndarray, " seeds"]:
    """The exponent that is first at `SHARE` of the way from chance to the best, for each seed: the lowest point
    of the parabola through the logarithms of the least time and its neighbours'."""
    base = dataclasses.replace(
        config, clock="time", stop_margin=None, t1=LENGTH, num_saves=NUM_TIMES
    )
    found = follow(base, exponents.tolist(), seeds)
    chance = 1 / config.num_classes
    best = np.max([own.balanced.max(axis=1) for own in found.values()], axis=0)
    level = chance + SHARE * (best - chance)
    times = np.array([_first_time(own, level) for own in found.values()])
    return np.array([_lowest(exponents, np.log(own)) for own in times.T])


def _first_time(own: Curves, level: Float[np.ndarray, " seeds"]) -> Float[np.ndarray, " seeds"]:
    """When balanced accuracy first is at a level, between two times of observation; infinity where it never is."""
    times = np.exp(own.log_time)
    first = []
    for x, y, bound in zip(times, own.balanced, level, strict=True):
        i = int((y >= bound).argmax())
        before = max(i - 1, 0)
        reached = np.interp(bound, y[[before, i]], x[[before, i]])
        first.append(reached if y[i] >= bound else np.inf)
    return np.array(first)


def _lowest(x: np.ndarray, y: np.ndarray) -> float:
    """Where the parabola through the least of evenly spaced points and its neighbours is least."""
    i = int(y.argmin())
    if i in (0, len(y) - 1) or not np.isfinite(y[i - 1 : i + 2]).all():
        return float(x[i])
    left, middle, right = y[i - 1 : i + 2]
    return float(x[i] + (x[1] - x[0]) / 2 * (left - right) / (left - 2 * middle + right))


def _balance(config: ssm.Config) -> float:
    majority, minority = config.class_counts[0], config.class_counts[-1]
    return float(theory.balancing_exponent(majority, minority, config.coupling))


def _claim_exponents(claims: Claims, first: dict[str, np.ndarray]) -> None:
    for name, own in first.items():
        balance = _balance(SETTINGS[name])
        claims.between(
            f"{name}: exponent first at {SHARE:.0%} of the way from chance to the best".replace(
                "%", " %"
            ),
            (balance - 0.125, balance + 0.125),
            Estimate.over_seeds(own),
            0.0,
            f"g* = {balance:.3f}",
        )


def _draw(
    path: Path,
    maps: np.ndarray,
    signals: np.ndarray,
    ratios: tuple[int, ...],
    noises: tuple[int, ...],
    levels: tuple[float, ...],
    first: dict[str, np.ndarray],
) -> None:
    """Above, both maps over R and q / n; below, over signal and q / n, and exponents against g*."""
    with pages.page(path, 4.6) as figure:
        panels = figure.subplot_mosaic("aaabbb;ccddee", height_ratios=(5, 3.6))
        names = "ahead of ERM early", "early best over late"
        top = [float(np.abs(values).max()) for values in _means(maps, signals)]
        for which, (above, below) in enumerate((("a", "c"), ("b", "d"))):
            style: dict[str, Any] = (
                {"cmap": colormaps["cividis"], "vmin": 0, "vmax": top[0]}
                if which == 0
                else {"cmap": colormaps["PuOr"], "vmin": -top[1], "vmax": top[1]}
            )
            _map(panels[above], maps[:, :, which].mean(axis=-1), **style)
            _map(panels[below], signals[:, :, which].mean(axis=-1), **style)
            panels[above].set_title(f"$g = 1$: {names[which]}")
            _ticks(panels[above], noises, ratios, pages.RATIO)
            _ticks(panels[below], noises[: signals.shape[1]], levels, "signal $s$")
        _draw_exponents(panels["e"], first)


def _means(*each: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All cells' means of both quantities."""
    flat = [values.mean(axis=-1).reshape(-1, 2) for values in each]
    both = np.concatenate(flat)
    return both[:, 0], both[:, 1]


def _map(axes: Axes, values: Float[np.ndarray, "y x"], cmap: Any, vmin: float, vmax: float) -> None:
    """Cells in colour with their numbers, to three places."""
    axes.pcolormesh(values, cmap=cmap, vmin=vmin, vmax=vmax, edgecolor="white", lw=0.5)
    for (row, column), value in np.ndenumerate(values):
        shade = np.array(cmap((value - vmin) / (vmax - vmin))[:3]) @ (0.3, 0.6, 0.1)
        signed = f"{value:+.3f}" if abs(value) >= 5e-4 else "0.000"
        number = signed if vmin < 0 else f"{value:.2f}"
        axes.text(
            column + 0.5,
            row + 0.5,
            number,
            ha="center",
            va="center",
            fontsize=7,
            color="black" if shade > 0.5 else "white",
        )


def _ticks(axes: Axes, noises: tuple[int, ...], rows: tuple[float, ...], label: str) -> None:
    axes.set_xticks(np.arange(len(noises)) + 0.5, [f"{noise:g}" for noise in noises])
    axes.set_yticks(np.arange(len(rows)) + 0.5, [f"{row:g}" for row in rows])
    axes.tick_params(length=0)
    axes.set_xlabel("noise dimensions $q/n$")
    axes.set_ylabel(label)


def _draw_exponents(axes: Axes, first: dict[str, np.ndarray]) -> None:
    """The exponent that is first, over g*; each setting has its mark, seeds are faint."""
    axes.axline((0.6, 0.6), slope=1, **THEORY)
    for (name, own), mark in zip(first.items(), MARKS, strict=False):
        balance = _balance(SETTINGS[name])
        axes.plot(np.full(len(own), balance), own, mark, color="0.7", ms=2.5)
        axes.plot(balance, own.mean(), mark, color="#009E73", ms=5)
    pages.key(axes, "mean", "o", color="#009E73", ms=5)
    pages.key(axes, "one seed", "o", color="0.7", ms=2.5)
    pages.key(axes, "equal", **THEORY)
    axes.legend(loc="lower right", handletextpad=0.4, labelspacing=0.2, borderaxespad=0.2)
    axes.set_xlabel("$g^*$ of contrasts")
    axes.set_ylabel("exponent that is first")
