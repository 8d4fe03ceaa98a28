"""Where does training with weight decay end, and when do minorities collapse onto one another?

Minority collapse under cross-entropy over regularisation, imbalance and class weights; and, in
`collapse_ends`, what is left of each block of contrasts. The objective is (1/n) sum_i w_i l_i + (lam_W / 2)
|W|^2 + (lam_H / 2) |H|^2, features free. The two decays differ in every run, since only lam_Z = sqrt(lam_W
lam_H) should count. Four classes, two of them minorities, whose features start equal in each class. The
*logit gap* of a group is by how much a sample's logits tell its class from the other class of its group;
at 0 the two have collapsed onto one another.

Claimed before the run: they have if and only if n lam_Z >= w sqrt(n_c), and below that threshold the gap
falls to 0 linearly; none of some 800 runs on either side is on the wrong one. It takes 15 seconds with
`collapse_ends`: 1182 runs to their very end.
"""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from matplotlib.colors import LinearSegmentedColormap

from experiments import collapse_ends, pages
from experiments.claims import Claim, Claims
from experiments.collapse_ends import BASE, GROUPS, at_decays, decays
from experiments.pages import THEORY, edges
from experiments.readings import Report, part
from experiments.settings import WEIGHTINGS
from ssm import plotting, regularised, sweep
from ssm.config import profiles
from ssm.problem import make_problem

ENTROPY = dataclasses.replace(BASE, init="collapsed", init_scale=0.3)

RATIOS = (1, 1.6, 2.4, 4, 6, 10, 16, 24, 40, 60, 100)
MINORITY_WEIGHTS = tuple(np.geomspace(0.25, 8, 11).round(2).tolist())
DECAYS = np.geomspace(1.1e-3, 0.32, 18)
COLLAPSED = 1e-3  # a logit gap below it
SETTLED = 1e-6  # of a logit gap

COUNTS = ((50, 5), (100, 2), (20, 10))  # of a majority and of a minority class
WEIGHTS = (1.0, 1.5, 2.0, 3.0)  # of a minority class; a majority's is 1
BELOW = (0.84, 0.88, 0.92, 0.96)  # where, over the threshold, the gap is followed to zero
ABOVE = 1.04
TOLERANCE = 0.02


def run(out: Path, quick: bool, report: Report) -> list[Claim]:
    """Draw `collapse_diagram.png` and `collapse_ends.png`, and hold the ends against theory."""
    few = 5 if quick else 1
    panels = phase_diagram(few, part(report, 0.0, 0.45))
    cases = itertools.product(COUNTS[: 1 if quick else 3], WEIGHTS[:: 3 if quick else 1])
    near = {case: near_threshold(*case) for case in cases}
    _draw(out / "collapse_diagram.png", panels)
    ends = collapse_ends.run(out / "collapse_ends.png", quick, part(report, 0.5, 1.0))
    return [*_threshold_claims(near), *_diagram_claims(panels), *ends]


def phase_diagram(step: int, report: Report) -> dict[str, xr.Dataset]:
    """Logit gaps over lam_Z (`decay`) and `x`, every `step`-th value of each, by panel: over the
    imbalance ratio under each weighting, and over the minority's weight."""
    lams, weights = DECAYS[::step], MINORITY_WEIGHTS[::step]
    axes = {"imbalance_ratio": RATIOS[::step], "weight_exponent": tuple(WEIGHTINGS.values())}
    over_ratios = at_decays(axes, ENTROPY, lams, part(report, 0.0, 0.75))
    panels = {}
    for name, exponent in WEIGHTINGS.items():
        panel = over_ratios.sel(weight_exponent=exponent, drop=True).rename(imbalance_ratio="x")
        fields = [{"imbalance_ratio": x, "weight_exponent": exponent} for x in panel["x"].values]
        panels[name] = _with_thresholds(panel, fields)
    fields = [{"class_weights": (1.0, 1.0, w, w)} for w in weights]
    axes = {"class_weights": [own["class_weights"] for own in fields]}
    panel = at_decays(axes, ENTROPY, lams, part(report, 0.75, 1.0))
    panel = panel.rename(class_weights="x").assign_coords(x=list(weights))
    return panels | {"weighted": _with_thresholds(panel, fields)}


def _with_thresholds(panel: xr.Dataset, fields: list[dict[str, Any]]) -> xr.Dataset:
    """A panel with the lam_Z from which on classes of each group should be one."""
    thresholds = []
    for own in fields:
        problem = make_problem(dataclasses.replace(ENTROPY, **own))
        counts, groups = problem.counts, problem.class_groups
        all_of = regularised.collapse_threshold(counts, counts.sum(), problem.class_weights)
        thresholds.append([np.asarray(all_of)[groups == group][0] for group in GROUPS])
    panel = panel.sel(block=list(GROUPS))
    return panel.assign(threshold=(("x", "block"), np.array(thresholds)))


class Approach(NamedTuple):
    """Logit gaps of the minorities below and above a predicted threshold."""

    prediction: float
    """n lam_Z, w sqrt(n_B)."""
    pulls: np.ndarray
    """n lam_Z of each run, those of `BELOW` and `ABOVE`."""
    gaps: np.ndarray
    """At the end of each: shape (run,)."""

    @property
    def threshold(self) -> float:
        """n lam_Z where the gap is 0: the parabola of n lam_Z over the gaps below."""
        return float(np.polyfit(self.gaps[:-1], self.pulls[:-1], 2)[-1])

    @property
    def power(self) -> float:
        """Exponent of the gap over the distance to that threshold, between the nearest two runs."""
        distance = self.threshold - self.pulls[-3:-1]
        return float((np.diff(np.log(self.gaps[-3:-1])) / np.diff(np.log(distance)))[0])


def near_threshold(counts: tuple[int, int], weight: float) -> Approach:
    """Runs about the predicted threshold, which only says where to look."""
    majority, minority = counts
    n = 2 * (majority + minority)
    prediction = weight * np.sqrt(minority)
    base = dataclasses.replace(
        ENTROPY,
        imbalance_ratio=majority / minority,
        minority_count=minority,
        class_weights=(1.0, 1.0, weight, weight),
        **decays(prediction / n),
    )
    weight_decays = [(x * prediction / n) ** 2 / base.feature_decay for x in (*BELOW, ABOVE)]
    runs = sweep({"weight_decay": weight_decays}, base).isel(time=-1)
    gaps = (runs["block_strength"] / runs["block_target"]).sel(block=profiles.MINORITY)
    pulls = n * np.sqrt(runs["weight_decay"].values * base.feature_decay)
    return Approach(prediction, pulls, gaps.values)


def _threshold_claims(near: dict[tuple[tuple[int, int], float], Approach]) -> list[Claim]:
    """The threshold that extrapolation finds, for every weight worst over counts."""
    claims = Claims()
    for weight in dict.fromkeys(weight for _, weight in near):
        own = {counts: found for (counts, w), found in near.items() if w == weight}
        listed = ", ".join(f"{majority}:{minority}" for majority, minority in own)
        statement = f"cross-entropy, minority weight {weight:g}, counts {listed}: n lam_Z where the minorities' logit gap reaches 0, worst distance from w sqrt(n_B), relative"
        worst = max(abs(found.threshold / found.prediction - 1) for found in own.values())
        values = [f"{found.threshold:.4g} for {found.prediction:.4g}" for found in own.values()]
        claims.at_most(statement, TOLERANCE, worst, ", ".join(values))
    powers = [found.power for found in near.values()]
    statement = "cross-entropy: that gap is linear in the distance to the threshold, worst distance of its exponent from 1"
    worst = max(abs(power - 1) for power in powers)
    claims.at_most(statement, 0.1, worst, f"{min(powers):.3f} to {max(powers):.3f}")
    statement = f"cross-entropy, {ABOVE:g} x the predicted threshold: largest logit gap"
    claims.at_most(statement, SETTLED, float(max(abs(found.gaps[-1]) for found in near.values())))
    return claims


def _diagram_claims(panels: dict[str, xr.Dataset]) -> list[Claim]:
    """Both sides of both thresholds, and that runs have ended."""
    claims = Claims()
    for group in GROUPS:
        sides = []
        for panel in panels.values():
            own = panel.sel(block=group)
            collapsed = own["share"].isel(time=-1) < COLLAPSED
            sides.append((collapsed == (own["decay"] >= own["threshold"])).values.ravel())
        right = np.concatenate(sides)
        statement = f"cross-entropy, the whole diagram: runs on the wrong side of the {group} threshold, n lam_Z = w sqrt(n_c)"
        claims.at_most(statement, 0, int((~right).sum()), f"of {right.size}")
    moved, fell = [], []
    for panel in panels.values():
        moved.append(float(abs(panel["share"].diff("time")).max(skipna=False)))
        half, end = (panel["objective"].isel(time=i) for i in (0, 1))
        fell.append(float((1 - end / half).max(skipna=False)))
    name = "cross-entropy, the second half of every run"
    claims.at_most(f"{name}: moves a logit gap by at most", SETTLED, max(moved))
    claims.at_most(f"{name}: lowers the objective by at most, relative", 1e-9, max(fell))
    return claims


def _draw(path: Path, panels: dict[str, xr.Dataset]) -> None:
    minority, majority = GROUPS
    shades = ["#FDEBDD", plotting.COLORS[minority], "#4A1C00"]
    colors = LinearSegmentedColormap.from_list("gap", shades).with_extremes(under="0.8")
    with pages.page(path, 2.8) as figure:
        axes = figure.subplots(1, len(panels), sharey=True)
        for ax, (name, panel) in zip(axes, panels.items(), strict=True):
            x, lam = panel["x"].values, panel["decay"].values
            gaps = panel["share"].isel(time=-1).sel(block=minority).transpose("decay", "x")
            borders = tuple(np.exp(edges(np.log(centres))) for centres in (x, lam))
            image = ax.pcolormesh(*borders, gaps.values, cmap=colors, vmin=COLLAPSED, vmax=6)
            threshold = panel["threshold"]
            own = {"color": plotting.COLORS[majority], "ls": ":", "label": "majorities, predicted"}
            ax.plot(x, threshold.sel(block=majority), **own)
            ax.plot(x, threshold.sel(block=minority), **THEORY, label="minorities, predicted")
            ax.set(xscale="log", yscale="log", xlim=borders[0][[0, -1]], ylim=borders[1][[0, -1]])
            ax.set(xlabel="imbalance $R$", title=name.replace("inverse ", "inverse\n"))
            pages.plain_ticks(ax.xaxis, [0.3, 1, 3] if ax is axes[-1] else [1, 10, 100])
        title = f"weights $1$, $w_B$;\n$R = {ENTROPY.imbalance_ratio:g}$"
        axes[-1].set(xlabel="weight $w_B$", title=title)
        name = "regularisation\n"
        axes[0].set_ylabel(name + r"$\lambda_Z = \sqrt{\lambda_W \lambda_H}$")
        pages.key(axes[0], "minorities, simulated", "s", color="0.8")
        pages.legend_above(figure, axes[0], 3, title="collapsed above")
        label = "logit gap between\nminority classes"
        figure.colorbar(image, ax=axes, extend="both", label=label, ticks=range(7))
