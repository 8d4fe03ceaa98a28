"""Deferred reweighting: what theory expects of it, beside what was measured, and both in figures."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from experiments import pages, readings
from experiments.pages import HOLLOW, THEORY, WIDTHS
from experiments.readings import GROUPS
from experiments.settings import BASE
from experiments.terminal_states import approach, early_part, limit, trajectory
from ssm import plotting
from ssm.problem import make_problem
from ssm.results import reached
from ssm.theory.deferral import deferred_learning_time, earliest_end, effective_time

COUNTS = np.array([max(BASE.class_counts), min(BASE.class_counts)])
MARKERS = "o^s"
SOONEST: dict[str, Any] = {"color": "0.6", "lw": 1.6, "zorder": 0}


class Early(NamedTuple):
    """Runs by time, under the squared loss."""

    erm: np.ndarray
    """ERM's learning times of `GROUPS` from a spectral start, by theory."""
    balancing_start: float
    spectral: xr.Dataset
    """By weight exponent, start and ramp."""
    random: xr.Dataset
    """By kind of start, weight exponent, start of the weights and seed; the last is ERM."""


class Late(NamedTuple):
    """Runs by the loss clock, under cross-entropy."""

    erm: xr.Dataset
    weighted: xr.Dataset
    """By weight exponent and start."""
    margins: tuple[float, ...]
    """At which the last of the weights start."""


class Steps(NamedTuple):
    """Gradient descent under the squared loss, from a spectral start."""

    erm: np.ndarray
    """Learning times of `GROUPS` of ERM's flow, by theory."""
    runs: xr.Dataset
    """By the step at which the rate drops and that at which weights start."""


def group_weights(exponent: float) -> np.ndarray:
    """Class weights of `GROUPS`."""
    return make_problem(dataclasses.replace(BASE, weight_exponent=exponent)).class_weights[[0, -1]]


def measured(runs: xr.Dataset) -> np.ndarray:
    """Learning times of `GROUPS`, last axis, in the order of the sweep's axes."""
    return readings.learned(runs).values


def by_start(erm: np.ndarray, runs: xr.Dataset, starts: np.ndarray, ramp: float = 0) -> np.ndarray:
    """What follows from ERM's learning times (..., group) for each weight exponent of `runs` and
    each start: (exponent, start, ..., group)."""
    exponents = runs["weight_exponent"].values
    return np.array(
        [
            [deferred_learning_time(erm, group_weights(g), start, ramp) for start in starts]
            for g in exponents
        ]
    )


def random_pair(runs: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Learning times from one kind of random start, measured, and from those of ERM from the same
    start: (exponent, start, seed, group) each."""
    found = measured(runs)
    return found, by_start(found[0, -1], runs, runs["weight_start"].values)


def flow_time(run: xr.Dataset, clock: np.ndarray) -> np.ndarray:
    """Flow time of early readings of the loss clock."""
    run = early_part(run)
    # of the clock, if runs differ in length
    own = run["flow_time" if "flow_time" in run else "time"]
    return np.interp(clock, own, np.exp(run["log_time"]))


def late_pair(late: Late) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Under cross-entropy the flow times at which weights start early, (start,), and learning times
    from there, measured, and from ERM's: (exponent, start, group) each."""
    runs = late.weighted.isel(weight_start=slice(-len(late.margins)))
    starts = flow_time(late.erm, runs["weight_start"].values)
    found = measured(runs)
    for i, j in np.ndindex(found.shape[:2]):
        found[i, j] = flow_time(runs.isel(weight_exponent=i, weight_start=j), found[i, j])
    return starts, found, by_start(flow_time(late.erm, measured(late.erm)), runs, starts)


def distances(run: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Margins from 3 on of a run by the loss clock, and there the largest distance to SELI."""
    run = reached(run)
    run = run.isel(time=run["margin"].values > 3)
    target = limit(BASE)
    states = trajectory(run, run["class_count"].values)
    away = [state.distances(target).max() for state in states]
    return run["margin"].values, np.array(away)


def summed_rate(runs: xr.Dataset, steps: np.ndarray) -> np.ndarray:
    """The sum of learning rates after so many steps, (drop, ...)."""
    sums = runs["cumulative_rate"].transpose("drop_step", "weight_start", "time").values[:, 0]
    return np.array([np.interp(x, runs["time"], y) for x, y in zip(steps, sums, strict=True)])


def step_times(steps: Steps) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums of learning rates at which weights start, (drop, start), at which groups are learned, and
    at which the flow learns them: (drop, start, group) each."""
    runs, starts = steps.runs, steps.runs["weight_start"].values
    switches = summed_rate(runs, np.tile(starts, (runs.sizes["drop_step"], 1)))
    wanted = [
        [deferred_learning_time(steps.erm, group_weights(1.0), s) for s in row] for row in switches
    ]
    return switches, summed_rate(runs, measured(runs)), np.array(wanted)


def descended(target: float, weights: np.ndarray, rates: np.ndarray) -> float:
    """Step at which gradient descent learns a contrast, from the weight and learning rate of each
    step: a becomes a (1 + eta w (s - a) / n)^2, s = sqrt(n_c)."""
    n, now = sum(BASE.class_counts), BASE.init_scale**2
    for step, pace in enumerate(weights * rates / n):
        after = now * (1 + pace * (target - now)) ** 2
        if after >= target / 2:
            return step + (target / 2 - now) / (after - now)
        now = after
    return np.nan


def descended_times(runs: xr.Dataset) -> np.ndarray:
    """Steps at which groups should be learned, from `descended`: (drop, start, group)."""
    found, weights = np.empty(measured(runs).shape), group_weights(1.0)
    sums = runs["cumulative_rate"].transpose("drop_step", "weight_start", "time").values
    every = np.arange(int(runs["time"][-1]) + 1)
    for i, j, g in np.ndindex(found.shape):
        rates = np.diff(np.interp(every, runs["time"], sums[i, j]))
        acts = every[:-1] >= runs["weight_start"].values[j]
        found[i, j, g] = descended(float(COUNTS[g]) ** 0.5, np.where(acts, weights[g], 1), rates)
    return found


def draw_times(path: Path, early: Early, late: Late) -> None:
    """Curves for three starts, and learning times over the start and the ramp."""
    with pages.page(path, 4.9) as figure:
        rows = figure.add_gridspec(2, 1, height_ratios=(1, 1.3))
        upper, lower = (figure.add_subfigure(rows[i]) for i in range(2))
        top = upper.subplots(1, 3, sharey=True)
        bottom = lower.subplots(1, 3, sharey=True)
        starts = early.spectral["weight_start"].values
        later = starts[np.abs(starts - 0.6 * early.erm[1]).argmin()]
        for ax, start in zip(top, (0.0, early.balancing_start, float(later)), strict=True):
            _draw_curves(ax, early, start)
        top[0].set_ylabel("share of target learned")
        top[1].set_xlabel("flow time / ERM's minority time")
        for ax, exponent in zip(bottom, (0.5, 1.0), strict=False):
            _draw_starts(ax, early, late, exponent)
        _draw_ramps(bottom[2], early)
        bottom[0].set_ylabel("learning time /\nERM's minority time")
        for group in GROUPS:
            pages.key(bottom[0], group, "s", color=plotting.COLORS[group], ms=4)
        pages.key(bottom[0], "from ERM's times", **THEORY)
        pages.key(bottom[0], "none has both sooner, spectral start", **SOONEST)
        pages.legend_above(lower, bottom[0], 4)
        pages.key(top[0], "theory", **THEORY)
        pages.legend_above(upper, top[0], 5)


def _draw_curves(ax: Axes, early: Early, start: float) -> None:
    """Blocks over time for inverse frequency from `start` on."""
    run = early.spectral.sel(weight_exponent=1.0, weight_start=start, weight_ramp=0.0)
    times, unit = run["time"].values, early.erm[1]
    ax.axvspan(start / unit, 1.15, color="0.93", lw=0, label="weights act", zorder=-1)
    for block, color in plotting.COLORS.items():
        share = readings.shares(run).sel(block=block)
        ax.plot(times / unit, share, color=color, label=block, lw=WIDTHS[block])
    rates = np.sqrt(COUNTS) / sum(BASE.class_counts)
    for rate, weight, erm in zip(rates, group_weights(1.0), early.erm, strict=True):
        growth = effective_time(times, weight, start) - erm
        ax.plot(times / unit, 1 / (1 + np.exp(-2 * rate * growth)), **THEORY)
    ax.set(xlim=(0, 1.15), xticks=(0, 0.5, 1))
    ax.set_title(f"$g = 1$ from {start / unit:.2g} on" if start else "$g = 1$ from the start")


def _draw_starts(ax: Axes, early: Early, late: Late, exponent: float) -> None:
    """Learning times over the start of the weights, without a ramp."""
    i, unit = list(early.spectral["weight_exponent"]).index(exponent), early.erm[1]
    starts = [runs["weight_start"].values for runs in (early.spectral, early.random)]
    shown = {"spectral": (starts[0], measured(early.spectral)[i, :, 0], unit)}
    for kind in early.random["init"].values:
        found = measured(early.random.sel(init=kind))[i].mean(axis=1)
        shown[{"gaussian": "Gaussian"}.get(kind, str(kind))] = starts[1], found, found[-1, 1]
    if exponent in late.weighted["weight_exponent"]:
        j = list(late.weighted["weight_exponent"]).index(exponent)
        erm = flow_time(late.erm, measured(late.erm))[1]
        times, found, _ = late_pair(late)
        shown["cross-entropy"] = times, found[j], erm
    for (name, (x, found, own)), marker in zip(shown.items(), "o+x^", strict=False):
        for times, group in zip(found.T, GROUPS, strict=True):
            ax.plot(x / own, times / own, marker, color=plotting.COLORS[group], **HOLLOW)
        pages.key(ax, name, marker, color="0.3", **HOLLOW)
    fine = np.linspace(0, 1.2, 300)
    ax.plot(fine, by_start(early.erm / unit, early.spectral, fine)[i], **THEORY)
    ax.axhline(earliest_end(early.erm, COUNTS) / unit, **SOONEST)
    ax.set(xlabel="onset of weights /\nERM's minority time", ylim=(0, 1.1), xlim=(-0.05, 1.25))
    ax.set_title(f"switch, $g = {exponent:g}$")


def _draw_ramps(ax: Axes, early: Early) -> None:
    """Learning times over the middle of ramps, inverse frequency."""
    runs, unit = early.spectral.sel(weight_exponent=1.0), early.erm[1]
    fine = np.linspace(0, 1.2, 300)
    for ramp, marker in zip(runs["weight_ramp"].values, MARKERS, strict=True):
        x = (runs["weight_start"].values + ramp / 2) / unit
        for group in GROUPS:
            found = runs.sel(weight_ramp=ramp)["block_learning_time"].sel(block=group) / unit
            ax.plot(x, found, marker, color=plotting.COLORS[group], **HOLLOW)
        wanted = by_start(early.erm / unit, early.spectral, fine, ramp / unit)[1]
        ax.plot(fine + ramp / unit / 2, wanted, **THEORY)
        name = f"length {ramp / unit:.1f}" if ramp else "switch"
        pages.key(ax, name, marker, color="0.3", **HOLLOW)
    ax.set(xlabel="ramp's middle /\nERM's minority time", title="ramps, $g = 1$")
    ax.legend(loc="upper left", handletextpad=0, labelspacing=0.2, borderaxespad=0)


def draw_end(path: Path, late: Late) -> None:
    """Distance to SELI over the margin, inverse frequency from several times on, and ERM."""
    with pages.page(path, 2.9) as figure:
        left, right = figure.subplots(1, 2)
        runs = late.weighted.sel(weight_exponent=1.0)
        starts = late_pair(late)[0] / flow_time(late.erm, measured(late.erm))[1]
        names = ["from the start", *(f"from {x:.1f} of ERM's minority time" for x in starts[1:])]
        names += [f"from margin $10^{np.log10(x):.0f}$" for x in late.margins]
        own = [runs.isel(weight_start=i) for i in range(runs.sizes["weight_start"])]
        # a weight that starts later leaves ERM's line later: the thicker ERM is seen where it is joined
        margins, away = distances(late.erm)
        for ax, y in ((left, away), (right, away * margins)):
            ax.plot(margins, y, color="0.7", lw=3.6, label="ERM")
        shown = [i for i in range(len(names)) if "margin" in names[i] or i in (0, 1, 3)]
        for i, color in zip(shown, pages.shades(len(shown)), strict=True):
            margins, away = distances(own[i])
            for ax, y in ((left, away), (right, away * margins)):
                ax.plot(margins, y, color=color, lw=1.2, label=names[i])
        margins = np.geomspace(30, float(late.erm["margin"].max()), 40)
        for exponent in (0.0, 1.0):
            config = dataclasses.replace(BASE, weight_exponent=exponent)
            away = np.array([approach(config, x).distances(limit(config)).max() for x in margins])
            left.plot(margins, away, **THEORY)
            right.plot(margins, away * margins, **THEORY)
            name = "weights" if exponent else "ERM"
            place = {"va": "bottom", "fontsize": 7, "color": "0.3"}
            right.text(
                margins[-1], (away * margins)[-1] + 0.005, f"{name}, theory", ha="right", **place
            )
        pages.key(left, "theory", **THEORY)
        left.set(ylabel="distance to SELI,\nlargest of $W$, $H$, $Z$", yscale="log")
        for ax in (left, right):
            ax.set(xscale="log", xlabel=pages.LEAST_MARGIN)
            ax.minorticks_off()
        # what is left once all gaps are those of the limit
        right.set(ylabel="distance x margin", ylim=(1.4, 1.8), xlim=(margins[-1] / 500, None))
        pages.legend_above(figure, left, 3)


def draw_steps(path: Path, steps: Steps) -> None:
    """Learning times over the switch, by the drop of the rate: in steps, and in summed rate."""
    switches, found, _ = step_times(steps)
    drops = steps.runs["drop_step"].values
    last, in_steps = drops[-1], measured(steps.runs)
    first, end = 30, 1.15 * steps.erm[1]  # where no switch at all and one of never are drawn
    order = np.clip(steps.runs["weight_start"].values, first, None)
    with pages.page(path, 3.0) as figure:
        left, right = figure.subplots(1, 2)
        # where lines coincide the wider and lighter ones are seen behind the others
        lines = ({"lw": 0.7}, {"lw": 0.9, "ls": ":"}, {"lw": 3.0, "alpha": 0.35})
        for i, (marker, line) in enumerate(zip(MARKERS, lines, strict=True)):
            for g, group in enumerate(GROUPS):
                color = plotting.COLORS[group]
                left.plot(order, in_steps[i, :, g], color=color, **line)
                left.plot(order, in_steps[i, :, g], marker, color=color, **HOLLOW)
                x = np.minimum(switches[i], end)
                right.plot(x, found[i, :, g], marker, color=color, **HOLLOW)
            name = "never" if drops[i] == last else f"at step {drops[i]}"
            pages.key(left, f"rate drops {name}", marker=marker, color="0.3", **line, **HOLLOW)
        for group in GROUPS:
            pages.key(left, group, color=plotting.COLORS[group])
        fine = np.linspace(0, end, 300)
        times = [deferred_learning_time(steps.erm, group_weights(1.0), start) for start in fine]
        right.plot(fine, times, **THEORY)
        pages.key(left, "theory, flow", **THEORY)
        left.set(xscale="log", yscale="log", xlabel="step at which weights start")
        left.set(ylabel="learning time, steps")
        names = ["0", "100", "300", "1000", "never"]
        pages.plain_ticks(left.xaxis, [first, 100, 300, 1000, last], names)
        pages.plain_ticks(left.yaxis, [100, 300, 1000, 3000])
        right.set(xlabel="summed learning rate\nat which weights start")
        right.set(ylabel="learning time,\nsummed learning rate", ylim=(0, None))
        pages.legend_above(figure, left, 3)
