"""Why does loss reweighting work if you stop early? The answer in one figure, of three small runs.

Early: which classes are learned first (STEP 10:1, ten classes, features that a class shares, squared loss). On fresh
samples: balanced accuracy over time (the problem of `held_out`: features made of inputs). In the end: how far apart
the directions are that the logits of ERM and of weights have come to (the first problem under cross-entropy,
by the clock of the loss). Weights are inverse frequency throughout.

Claimed before the run, of seeds that no other experiment uses: ERM learns minorities as much later as its start
says, and weights learn both groups at once, within 5 %; when weights are within 0.01 of their best balanced
accuracy on fresh samples, ERM is 0.2 behind; and at a margin of 1e4 what sets the directions apart is what
`ssm.terminal` expects, within 2 % (seen in trial runs of other seeds first). It takes ten seconds.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float
from matplotlib.axes import Axes

from experiments import pages
from experiments.claims import Claims, Estimate
from experiments.held_out import SETTING, SHADES
from experiments.held_out_setting import Curves, follow, mean_over_log_time
from experiments.pages import THEORY, WIDTHS
from experiments.readings import GROUPS, Report, block_curves, expected, learned, ratio, shares
from experiments.settings import BASE
from experiments.terminal_states import approach, trajectory, without_kept_row
from ssm import Config, plotting, spectral, states, sweep, sweep_plots
from ssm.results import reached

NAMES = {"ERM": 0.0, "reweighted": 1.0}
COLORS = dict(zip(NAMES, (SHADES["ERM"], SHADES["$g = 1$"]), strict=True))
FIRST_SEED, SEEDS = 20, 5
EARLY = dataclasses.replace(BASE, loss="squared", coupling=1.0, seed=FIRST_SEED, t1=550.0)
END = dataclasses.replace(
    EARLY, loss="cross_entropy", init="collapsed", clock="loss", t1=None, rtol=1e-4
)
MARGIN = 1e5  # to which the last runs go
READ_AT = 1e4  # the margin at which they are compared
LAST = 41  # decade of flow time up to which accuracy is drawn

DRAW = 0.05  # of a ratio of learning times: a draw shifts each time by part of an e-fold
BEHIND = 0.2  # of balanced accuracy, as in `held_out`
DIRECTION = 0.02  # of a distance: the next order in 1 / margin, and readings between saved margins


class Ends(NamedTuple):
    """How far apart the directions of ERM's logits and of weighted ones are."""

    margins: np.ndarray
    found: np.ndarray
    expected: np.ndarray
    """By `ssm.terminal`."""


def run(out: Path, quick: bool, report: Report) -> Claims:
    """Draw `overview.png`, and make the claims."""
    weightings = {"weight_exponent": tuple(NAMES.values())}
    early = sweep(weightings, EARLY)
    report(0.2)
    seeds = range(FIRST_SEED, FIRST_SEED + (2 if quick else SEEDS))
    curves = follow(SETTING, tuple(NAMES.values()), seeds)
    report(0.7)
    ends = sweep(weightings, dataclasses.replace(END, stop_margin=MARGIN, save_state=True))
    margins = np.geomspace(1, 0.9 * MARGIN, 80)
    found = _apart(*(_directions(ends.sel(weight_exponent=g), margins) for g in NAMES.values()))
    configs = [dataclasses.replace(END, weight_exponent=g) for g in NAMES.values()]
    wanted = _apart(*(_expected_directions(config, margins) for config in configs))
    report(0.9)
    apart = Ends(margins, found, wanted)
    _draw(out / "overview.png", early, curves, apart)
    return _claims(early, curves, apart)


def _direction(state: states.ClassState) -> Float[np.ndarray, "k k"]:
    """Logits less their mean over classes, which softmax does not feel, over their norm over samples."""
    own = without_kept_row(state)
    logits = own.W @ own.means * np.sqrt(own.counts)
    return logits / np.linalg.norm(logits)


def _directions(run: xr.Dataset, margins: np.ndarray) -> Float[np.ndarray, "margins k k"]:
    """Where a run's logits point at given margins, on straight lines of log margin."""
    run = reached(run)
    run = run.isel(time=run["margin"].values > 0)
    each = np.array([_direction(own) for own in trajectory(run, run["class_count"].values)])
    at = np.log(np.maximum.accumulate(run["margin"].values))
    flat = [np.interp(np.log(margins), at, column) for column in each.reshape(len(at), -1).T]
    return np.reshape(np.transpose(flat), (len(margins), *each.shape[1:]))


def _expected_directions(config: Config, margins: np.ndarray) -> Float[np.ndarray, "margins k k"]:
    return np.array([_direction(approach(config, float(x))) for x in margins])


def _apart(one: np.ndarray, other: np.ndarray) -> Float[np.ndarray, " margins"]:
    return np.linalg.norm(one - other, axis=(1, 2))


def _read(margins: np.ndarray, values: np.ndarray) -> float:
    """At the margin of the claim, on straight lines of logarithms."""
    return float(np.exp(np.interp(np.log(READ_AT), np.log(margins), np.log(values))))


def _claims(early: xr.Dataset, curves: dict[float, Curves], ends: Ends) -> Claims:
    claims = Claims(f"seed {FIRST_SEED} on, R = 10, inverse frequency")
    times, wanted = ratio(learned(early)), ratio(expected(early))
    for name, g in NAMES.items():
        statement = f"squared, shared features, {name}: minority over majority learning time, from the start's size"
        predicted, found = (float(x.sel(weight_exponent=g)) for x in (wanted, times))
        claims.close(statement, predicted, found, DRAW)
    erm, weighted = curves.values()
    when = weighted.of(weighted.log_time, weighted.nearly_best)
    ahead = weighted.of(weighted.balanced, weighted.nearly_best) - erm.at_time(when)
    statement = (
        "fresh samples: balanced accuracy of weights within 0.01 of its best, over ERM's then"
    )
    claims.at_least(statement, BEHIND, Estimate.over_seeds(ahead))
    statement = f"cross-entropy, shared features, margin {READ_AT:g}: distance of the directions of logits, ERM to weights"
    predicted, found = (_read(ends.margins, x) for x in (ends.expected, ends.found))
    claims.close(statement, predicted, found, DIRECTION)
    return claims


def _draw(
    path: Path,
    early: xr.Dataset,
    curves: dict[float, Curves],
    ends: Ends,
) -> None:
    """Three panels, read from left to right: early, on fresh samples, in the end."""
    with pages.page(path, 2.35) as figure:
        grid = figure.add_gridspec(2, 3, width_ratios=(1.12, 1.15, 1))
        top = figure.add_subplot(grid[0, 0])
        bottom = figure.add_subplot(grid[1, 0], sharex=top, sharey=top)
        fresh, end = (figure.add_subplot(grid[:, i]) for i in (1, 2))
        for ax, name in ((top, "ERM"), (bottom, "reweighted")):
            _draw_race(ax, name, early.sel(weight_exponent=NAMES[name]))
        top.tick_params(labelbottom=False)
        top.set_title("early ERM leaves minorities\nfor later, weights do not")
        bottom.set_xlabel("training time")
        figure.align_ylabels([top, bottom])
        _draw_fresh(fresh, curves)
        _draw_end(end, *ends)


def _draw_race(ax: Axes, name: str, run: xr.Dataset) -> None:
    """Shares of both groups over time, and theory."""
    config = dataclasses.replace(EARLY, weight_exponent=NAMES[name])
    times, found = run["time"].values, shares(run)
    theirs = block_curves(config, times)
    for group in GROUPS:
        ax.plot(times, found.sel(block=group), color=plotting.COLORS[group], lw=WIDTHS[group])
    for group in GROUPS:
        ax.plot(times, theirs[:, spectral.BLOCKS.index(group)], **THEORY)
    ax.set(xscale="log", xlim=(12, times[-1]), ylim=(-0.08, 1.12), yticks=[0, 1])
    sweep_plots.ratio_ticks(ax.xaxis)
    ax.set_ylabel("learned")
    words: dict[str, Any] = {"transform": ax.transAxes, "fontsize": 7}
    bold: dict[str, Any] = words | {"color": COLORS[name], "weight": "bold"}
    if name == "ERM":
        ax.text(0.58, 0.7, name, ha="center", **bold)
        ax.text(0.32, 0.38, "majority", color=plotting.COLORS[GROUPS[0]], **words)
        ax.text(0.79, 0.17, "minority", color=plotting.COLORS[GROUPS[1]], ha="right", **words)
    else:
        ax.text(1, 0.7, name, ha="right", **bold)
        ax.text(1, 0.15, "dashed:\ntheory", color="0.3", ha="right", **words)


def _draw_fresh(ax: Axes, curves: dict[float, Curves]) -> None:
    """Balanced accuracy on fresh samples over time, and the best of the weights."""
    lines = {}
    for name, g in NAMES.items():
        x, y = lines[name] = mean_over_log_time(curves[g], curves[g].balanced, LAST)
        ax.plot(x, y, color=COLORS[name], lw=1.8)
    (x, y), (_, erm) = lines["reweighted"], lines["ERM"]
    top = int(y.argmax())
    ax.plot(x[top], y[top], "o", color=COLORS["reweighted"], ms=4.5)
    arrow = {"arrowstyle": "<->", "lw": 0.7, "color": "0.3", "shrinkA": 3, "shrinkB": 1}
    ax.annotate("", (x[top], erm[top]), (x[top], y[top]), arrowprops=arrow)
    words: dict[str, Any] = {"fontsize": 7, "color": "0.3"}
    ax.text(1.25 * x[top], erm[top] + 0.03, f"ahead by {y[top] - erm[top]:.2f}", **words)
    ax.text(1.12 * x[top], y[top] + 0.005, "stop here", va="bottom", **words)
    bold: dict[str, Any] = {"ha": "right", "weight": "bold", "fontsize": 7}
    ax.text(LAST, y[-1] + 0.012, "reweighted", color=COLORS["reweighted"], **bold)
    ax.text(LAST, erm[-1] - 0.03, "ERM", color=COLORS["ERM"], va="top", **bold)
    ax.set_xscale("log")
    ticks = (1, 2, 4, 10, 20, 40)
    pages.plain_ticks(ax.xaxis, ticks, [f"$10^{{{tick}}}$" for tick in ticks])
    ax.set(xlim=(1, LAST), ylim=(0.25, 0.95), xlabel="training time")
    ax.set_ylabel("balanced accuracy")
    ax.set_title("on fresh samples weights have\nearly what ERM has late")


def _draw_end(ax: Axes, margins: np.ndarray, found: np.ndarray, wanted: np.ndarray) -> None:
    """How far apart the directions of the logits are, over the margin."""
    ax.plot(margins, found, color="black", lw=1.8)
    late = margins > 30
    grey: dict[str, Any] = THEORY | {"color": "0.5"}
    ax.plot(margins[late], wanted[late], **grey)
    ax.text(0.06, 0.08, "theory,\n1 / margin", transform=ax.transAxes, color="0.5", fontsize=7)
    ax.set(xscale="log", yscale="log", xlabel="training margin", ylim=(None, 2))
    ax.minorticks_off()
    ax.set_ylabel("distance of their directions")
    ax.set_title("in the end both give\nthe same logits")
