"""Do five numbers hold all of cross-entropy under STEP, from the start to the terminal phase?

The state of STEP that is symmetric within each group, with equal features in a class, is held by five numbers
(`exact.cross_entropy_step`), the state of equal features in a class by the class means (`class_flow`, in
`predictions`). Full runs from three kinds of start stand beside them, with flow time and with the loss as clock: spectral,
which is symmetric; collapsed, which is random with equal features in a class; and Gaussian, of which the five numbers know what
grows, with the mean strength of each group, and the class means every component.

Claimed before the run: from a spectral start the five numbers are the run to its tolerance, at any imbalance, weights and
coupling, in all blocks, margins and the loss, by either clock; from a random one class means have every component's
learning time within 1 %, and five numbers those of contrasts within 5 %. That five numbers have the cross component's within 5 %
too was claimed before trial runs. It takes half a minute on two cores.
"""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from experiments import pages
from experiments.claims import Claim, Claims
from experiments.pages import THEORY, WIDTHS
from experiments.readings import Report, each, farthest, part, shares, start_of
from experiments.settings import BASE
from ssm import Config, exact, plotting, predictions, simulate, spectral, sweep
from ssm.problem import make_problem

STARTS = ("spectral", "collapsed", "gaussian")
RATIOS, EXPONENTS, COUPLINGS = (10, 100), (0.0, 0.5, 1.0), (0.0, 0.1, 1.0)
SEEDS = 3
SMALL = 1e-6  # scale of the starts whose learning times are compared
STRENGTH = 1e-6  # of every contrast of the spectral start that is followed closely
MARGIN = 1e4  # to which runs by the loss go
CLOSE: dict[str, Any] = {"rtol": 1e-10, "atol": 1e-15}
# Of the largest logit: ten of those tolerances, some of which add up. Of margins by the loss, whose runs take steps of
# 1e-6 of the state: a hundred of these.
EXACT, BY_LOSS = 1e-9, 1e-4


class Timed(NamedTuple):
    """Learning times of runs from random starts at one setting: (seed, component), (seed, block) of the last."""

    measured: np.ndarray
    by_class_means: np.ndarray
    blocks_measured: np.ndarray
    by_five_numbers: np.ndarray


def run(out: Path, quick: bool, report: Report) -> list[Claim]:
    """Draw `cross_entropy_exact.png`, and hold both theories against runs."""
    cases = list(itertools.product(RATIOS[:1] if quick else RATIOS, EXPONENTS, COUPLINGS))
    cases = cases[3::4] if quick else cases
    spectral_runs = [_spectral(*case) for case in each(cases, part(report, 0.0, 0.4))]
    timed = {
        init: [_timed(init, *case, 1 if quick else SEEDS) for case in cases] for init in STARTS[1:]
    }
    report(0.7)
    panels = {init: _panels(init, quick) for init in each(STARTS, part(report, 0.7, 1.0))}
    _draw(out / "cross_entropy_exact.png", panels)
    return [*_exact_claims(spectral_runs), *_loss_claims(panels), *_time_claims(timed)]


def _config(init: Any, ratio: int, exponent: float, coupling: float, **changes: Any) -> Config:
    numbers = {"imbalance_ratio": ratio, "weight_exponent": exponent, "coupling": coupling}
    own = {"loss": "cross_entropy", "init": init, **numbers, **changes}
    return dataclasses.replace(BASE, **own)


def _spectral(ratio: int, exponent: float, coupling: float) -> tuple[float, float]:
    """The largest distance of a run from a spectral start from the five numbers: of blocks and class strengths over
    the largest logit, and of learning times relative to them."""
    close = {"init_scale": STRENGTH**0.5, "save_spacing": "log", "num_saves": 60, **CLOSE}
    config = _config("spectral", ratio, exponent, coupling, **close)
    found, problem = simulate(config), make_problem(config)
    wanted = exact.cross_entropy_step(found["time"].values, problem, STRENGTH)
    first = [int((problem.class_groups == g).argmax()) for g in ("majority", "minority")]
    strengths = found["class_strength"].values[:, first]
    largest = np.maximum(strengths.max(axis=1), shares(found).values.max(axis=1))[:, None]
    off = max(
        np.abs((wanted.blocks - shares(found).values) / largest).max(),
        np.abs((wanted.class_strengths - strengths) / largest).max(),
    )
    learned = found["block_learning_time"].values
    reached = np.isfinite(learned)
    times = exact.cross_entropy_learning_times(problem, STRENGTH)
    return float(off), farthest(learned[reached], times[reached])


def _timed(init: str, ratio: int, exponent: float, coupling: float, seeds: int) -> Timed:
    """Runs from small random starts, long enough for all components, beside both theories."""
    config = _config(init, ratio, exponent, coupling, init_scale=SMALL, num_saves=2)
    starts = [start_of(dataclasses.replace(config, seed=seed)) for seed in range(seeds)]
    problem, components = starts[0].problem, spectral.components(starts[0].problem)
    wanted = np.array(
        [
            predictions.predicted_learning_times(
                config, problem, components, predictions.Start(own.params.W, own.means)
            )
            for own in starts
        ]
    )
    five = [
        exact.cross_entropy_learning_times(
            problem, exact.growing_start(own.params.W, own.means, problem)
        )
        for own in starts
    ]
    longest = dataclasses.replace(config, t1=1.05 * float(wanted.max()))
    runs = sweep({"seed": range(seeds)}, longest)
    blocks = runs["block_learning_time"].transpose("seed", "block").values
    measured = runs["learning_time"].transpose("seed", "component").values
    return Timed(measured, wanted, blocks, np.array(five))


class Panels(NamedTuple):
    """A run from one kind of start by each clock, and the five numbers at its times."""

    by_time: xr.Dataset
    blocks: np.ndarray
    by_loss: xr.Dataset
    numbers: exact.CrossEntropyCurves


def _panels(init: str, quick: bool) -> Panels:
    """ERM of free features at R = 10 from starts of 1e-3, by flow time and by the loss."""
    config = _config(init, 10, 0.0, 0.0, save_spacing="log", num_saves=100)
    margin = 100.0 if quick else MARGIN
    by_loss = dataclasses.replace(
        config, clock="loss", stop_margin=margin, num_saves=100, save_spacing="linear"
    )
    problem, params, means = start_of(config)
    first: Any = config.init_scale**2
    if init != "spectral":
        first = exact.growing_start(params.W, means, problem)
    run, terminal = simulate(dataclasses.replace(config, t1=2000.0)), simulate(by_loss)
    terminal = terminal.isel(time=np.isfinite(terminal["margin"].values))
    blocks = exact.cross_entropy_step(run["time"].values, problem, first).blocks
    numbers = exact.cross_entropy_step(terminal["time"].values, problem, first, clock="loss")
    return Panels(run, blocks, terminal, numbers)


def _exact_claims(found: list[tuple[float, float]]) -> list[Claim]:
    """The five numbers are the run from a spectral start."""
    claims = Claims("spectral start, R = 10 and 100, g = 0..1, c = 0..1")
    off, times = np.max(found, axis=0)
    statement = "five numbers, all blocks and class strengths at every time, distance from the run over its largest logit"
    claims.at_most(statement, EXACT, float(off))
    statement = "their learning times of all blocks that the run learns, distance, relative"
    claims.at_most(statement, 1e-7, float(times))
    return claims


def _loss_claims(panels: dict[str, Panels]) -> list[Claim]:
    """By the loss, from the early to the terminal phase."""
    claims = Claims()
    own = panels["spectral"]
    margin, wanted = own.by_loss["margin"].values, own.numbers.class_margins.min(axis=1)
    later = margin > 1
    end = f"to a margin of {margin[-1]:.0f}"
    statement = f"spectral start, by the loss {end}: five numbers' least margin, distance, relative"
    claims.at_most(statement, BY_LOSS, farthest(wanted[later], margin[later]))
    log_loss = own.by_loss["log_loss"].values
    statement = f"spectral start, by the loss {end}: log L, distance, relative"
    claims.at_most(statement, BY_LOSS, farthest(own.numbers.log_loss[later], log_loss[later]))
    statement = f"spectral start, by the loss {end}: log t, distance, relative"
    log_time = own.by_loss["log_time"].values
    claims.at_most(statement, BY_LOSS, farthest(own.numbers.log_time[later], log_time[later]))
    for init in STARTS[1:]:
        tau = _reaches(panels[init].by_loss["margin"].values, panels[init].by_loss)
        wanted = _reaches(panels[init].numbers.class_margins.min(axis=1), panels[init].by_loss)
        statement = f"{init} start, by the loss: tau at a margin of 30, five numbers over the run, distance from 1"
        claims.at_most(statement, 0.05, abs(wanted / tau - 1))
    return claims


def _reaches(margin: np.ndarray, run: xr.Dataset, level: float = 30.0) -> float:
    """When a margin is first at a level, on a straight line of its logarithm."""
    known = margin > 0
    return float(np.interp(np.log(level), np.log(margin[known]), run["time"].values[known]))


def _time_claims(timed: dict[str, list[Timed]]) -> list[Claim]:
    """Learning times from random starts."""
    claims = Claims()
    for init, own in timed.items():
        where = f"{init} start of {SMALL:g}, every R, g, c, component and seed"
        off = max(farthest(one.by_class_means, one.measured) for one in own)
        claims.at_most(f"{where}: class means' learning times, worst distance, relative", 0.01, off)
        off = [np.abs(one.by_five_numbers / one.blocks_measured - 1).max(axis=0) for one in own]
        majority, cross, minority = np.max(off, axis=0)
        statement = f"{where}: five numbers' learning times of the contrasts within groups, worst distance, relative"
        claims.at_most(statement, 0.05, float(max(majority, minority)))
        statement = f"{where}: theirs of the cross component (claimed before trial runs)"
        note = f"median {np.median([block[1] for block in off]):.2g}"
        claims.at_most(statement, 0.05, float(cross), note)
    return claims


def _draw(path: Path, panels: dict[str, Panels]) -> None:
    with pages.page(path, 4.2) as figure:
        axes = figure.subplots(2, len(panels), sharey="row", sharex="row")
        for (top, bottom), (init, own) in zip(axes.T, panels.items(), strict=True):
            _draw_blocks(top, own)
            _draw_margins(bottom, own)
            top.set_title(f"{init.capitalize()} start")
            top.set(xscale="log", yscale="log", xlabel=pages.FLOW_TIME.split(" (")[0])
            bottom.set(yscale="log", xlabel=r"loss clock $\tau$, $d\tau = L\,dt$")
        axes[0, 0].set(ylabel="strength /\nsingular value of $S$", ylim=(1e-7, 20))
        axes[0, 0].set_xlim(10, 2000)
        axes[1, 0].set(ylabel="logits", ylim=(0.1, None))
        axes[1, 0].set_xlim(450, None)  # before it the loss hardly falls
        for label, color, width in (("least margin", "0.6", 3.2), (r"$-\log L$", "#009E73", 1.6)):
            pages.key(axes[0, 0], label, color=color, lw=width)
        pages.key(axes[0, 0], "five numbers", **THEORY)
        pages.legend_above(figure, axes[0, 0], 6)


def _draw_blocks(ax: Axes, own: Panels) -> None:
    time, progress = own.by_time["time"], shares(own.by_time).values
    for b, (block, color) in enumerate(plotting.COLORS.items()):
        ax.plot(time, progress[:, b], color=color, label=block, lw=WIDTHS[block])
        ax.plot(time, own.blocks[:, b], **THEORY)
    ax.axhline(0.5, **pages.FAINT)


def _draw_margins(ax: Axes, own: Panels) -> None:
    time = own.by_loss["time"]
    ax.plot(time, own.by_loss["margin"], color="0.6", lw=3.2)  # seen beside -log L, which joins it
    ax.plot(time, own.numbers.class_margins.min(axis=1), **THEORY)
    ax.plot(time, -own.by_loss["log_loss"], color="#009E73", lw=1.6)
    ax.plot(time, -own.numbers.log_loss, **THEORY)
