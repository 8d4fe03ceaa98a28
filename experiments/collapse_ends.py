"""What does weight decay leave of each block of contrasts under the squared loss? A part of the `collapse`
experiment, for two factors and more, with and without class weights.

Claimed before the run: shares of a stationary contrast depend on n lam s^(2/L - 2) / w alone, lam the
geometric mean of the decays of all L factors; both groups keep the same share at the weight exponent 1 -
1/L. Starts are spectral: with two factors the end is one, with more 0 is stable too, and small starts end
there. It takes some seconds: 330 runs to their very end.
"""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from experiments import pages
from experiments.claims import Claim, Claims
from experiments.readings import Report, each, part, shares
from ssm import Config, plotting, regularised, spectral, sweep, sweep_plots
from ssm.config import profiles
from ssm.problem import make_problem

BASE = Config(
    num_classes=4,
    imbalance_ratio=10,
    minority_count=5,
    feature_dim=4,
    num_saves=3,
    solver="rkl2",  # whose steps grow without bound as a run settles
    rtol=1e-5,
)
SQUARED = dataclasses.replace(BASE, loss="squared", init="spectral", init_scale=2.2)
SMALL = 0.03  # scale of a start that dies with more than two factors
NUM_SAMPLES = sum(SQUARED.class_counts)
UNEQUAL = 1.25  # lam_W / lam and lam / lam_H, of two factors
LENGTH = 1e5  # of a run in units of 1 / lam: 0.02 % off its threshold a contrast settles by e^-40
GROUPS = profiles.GROUPS[::-1]  # in the order of the panels

DEPTHS = (2, 3, 4)
POWERS = tuple(1 - 1 / depth for depth in (1, *DEPTHS))  # weight exponents: ERM, and each depth's
PULLS = np.geomspace(0.4, 9, 22)  # n lam_Z
EXACT = 1e-6  # of the target


def decays(lam: float) -> dict[str, float]:
    """Unequal decays of two factors with the geometric mean lam, and a long enough run."""
    return {"weight_decay": lam * UNEQUAL, "feature_decay": lam / UNEQUAL, "t1": LENGTH / lam}


def at_decays(axes: dict[str, Any], base: Config, lams: np.ndarray, report: Report) -> xr.Dataset:
    """A sweep at each lam, along a first dimension `decay`, half-way and at its end: the `share` of
    its target that each block has, and the `objective`."""
    found: list[xr.Dataset] = []
    for lam in each(lams, report):
        runs = sweep(axes, dataclasses.replace(base, **decays(float(lam)))).isel(time=[1, 2])
        kept = runs[["objective"]].assign(share=shares(runs))
        found.append(kept.reset_coords(drop=True).drop_vars("time"))
    return xr.concat(found, xr.Variable("decay", lams))


def run(path: Path, quick: bool, report: Report) -> list[Claim]:
    """Draw the ends over the decay, and hold them against theory."""
    depths, lams = DEPTHS[: 2 if quick else 3], PULLS[:: 5 if quick else 1] / NUM_SAMPLES
    axes = {"depth": depths, "weight_exponent": POWERS}
    ends = at_decays(axes, SQUARED, lams, part(report, 0.0, 0.8))
    small = dataclasses.replace(SQUARED, init_scale=SMALL)
    from_small = at_decays({"depth": depths}, small, lams, part(report, 0.8, 1.0))
    ends, small = ends["share"].isel(time=-1), from_small["share"].isel(time=-1)
    _draw(path, ends, small, 40 if quick else 200)
    return _claims(ends, small)


def expected_shares(lam: float, depth: int, exponent: float) -> list[float]:
    """What each block of `spectral.BLOCKS` keeps of its target from a large start."""
    problem = make_problem(dataclasses.replace(SQUARED, weight_exponent=exponent))
    decay_W, decay_H, _ = decays(lam).values()
    components = spectral.components(problem)
    kept = {}
    for block, s in zip(components.blocks, components.singular_values, strict=True):
        if block != "cross" or exponent == 0:
            own = problem.class_weights[problem.class_groups == block]
            w = own[0] if own.size else 1.0
            end = regularised.squared_strength(s, NUM_SAMPLES, decay_W, decay_H, depth, w)
        elif depth == 2:
            end = regularised.cross_strengths(problem, decay_W, decay_H).strength
        else:
            end = regularised.deep_cross_strength(problem, decay_W, decay_H, depth)
        kept[block] = float(end / s)
    return [kept[block] for block in spectral.BLOCKS]


def _claims(ends: xr.DataArray, small: xr.DataArray) -> list[Claim]:
    """Worst over all decays, and over weight exponents where nothing else is said."""
    depths, powers = ends["depth"].values.tolist(), ends["weight_exponent"].values.tolist()
    wanted = [
        [[expected_shares(float(lam), L, g) for g in powers] for L in depths]
        for lam in ends["decay"].values
    ]
    expected, claims = ends.copy(data=wanted), Claims()

    def apart(statement: str, one: xr.DataArray, other: xr.DataArray) -> None:
        worst = float(abs(one - other).max(skipna=False))
        claims.at_most(f"squared, {statement}, worst distance, over the target", EXACT, worst)

    parts = {"contrasts of both groups": list(GROUPS), "cross": ["cross"]}
    for depth, (name, blocks) in itertools.product(depths, parts.items()):
        own = (x.sel(depth=depth, block=blocks) for x in (ends, expected))
        apart(f"{depth} factors, {name}, g = 0..3/4: theory", *own)
    lost = ends.where(expected == 0)
    statement = "squared, where theory says 0: largest share of a target left"
    note = f"{int(lost.count())} of {ends.size} ends"
    claims.at_most(statement, EXACT, float(lost.max()), note)
    alike = [ends.sel(depth=L, weight_exponent=1 - 1 / L, drop=True) for L in depths]
    both = (xr.concat(alike, "depth").sel(block=group) for group in GROUPS)
    apart("g = 1 - 1/L: majority and minority keep the same share", *both)
    erm = ends.sel(weight_exponent=0.0)
    statement = "2 factors, ERM: a small start ends where a large one does"
    apart(statement, *(x.sel(depth=2) for x in (small, erm)))
    for depth in depths[1:]:
        statement = f"squared, {depth} factors, ERM, small start: everything dies, largest share"
        note = f"up to {float(erm.sel(depth=depth).max()):.3f} from a large start"
        claims.at_most(statement, EXACT, float(small.sel(depth=depth).max(skipna=False)), note)
    # Two factors: a contrast loses n lam / w of its target.
    pulls = ends["decay"].values * NUM_SAMPLES
    nearest = int(np.abs(pulls - 1).argmin())
    minority = ends.isel(decay=nearest).sel(depth=2, block=profiles.MINORITY)
    moved = minority.sel(weight_exponent=0.5) - minority.sel(weight_exponent=0.0)
    weight = make_problem(dataclasses.replace(SQUARED, weight_exponent=0.5)).class_weights[-1]
    statement = f"squared, 2 factors, n lam = {pulls[nearest]:.3g}: what g = 1/2 adds to ERM's minority strength, n lam (1 - 1/w)"
    gain, found = (
        float(pulls[nearest] * (1 - 1 / weight)),
        float(moved) * SQUARED.minority_count**0.5,
    )
    claims.close(statement, gain, found, EXACT)
    return claims


def _draw(path: Path, ends: xr.DataArray, small: xr.DataArray, num_fine: int) -> None:
    powers = dict(zip(("ERM", "$g = 1/2$", "$g = 2/3$"), POWERS, strict=False))
    pulls = ends["decay"].values * NUM_SAMPLES
    fine = np.geomspace(pulls[0], pulls[-1], num_fine)
    # lam of the decays of W and H and, with three factors, of the layer between them, which has W's
    names = {
        2: r"$n\,(\lambda_W \lambda_H)^{1/2}$",
        3: r"$n\,(\lambda_W^2 \lambda_H)^{1/3}$",
    }
    with pages.page(path, 4.1) as figure:
        axes = figure.subplots(2, len(powers), sharex=True, sharey=True)
        for row, (depth, label) in zip(axes, names.items(), strict=True):
            shift = UNEQUAL ** (1 - 2 / depth)  # lam of L factors over that of two
            for ax, (name, g) in zip(row, powers.items(), strict=True):
                own = ends.sel(depth=depth, weight_exponent=g)
                curves = np.array([expected_shares(x / NUM_SAMPLES, depth, g) for x in fine])
                for (block, color), curve in zip(plotting.COLORS.items(), curves.T, strict=True):
                    # both groups are seen where they coincide
                    mark = {"color": color, "mfc": "none", "ms": 5.5 if block == GROUPS[1] else 3}
                    ax.plot(shift * pulls, own.sel(block=block), "o", **mark, label=block)
                    ax.plot(shift * fine, curve, "--", color=color, lw=1)
                ax.set(xscale="log", ylim=(-0.05, 1.05), title=f"{depth} factors,\n{name}")
                ax.set_xlabel(label)
                ax.tick_params(labelbottom=True)
                sweep_plots.ratio_ticks(ax.xaxis)
        mark = {"marker": "x", "ls": "", "color": "black", "ms": 3}
        axes[1, 0].plot(shift * pulls, small.sel(depth=3), **mark)
        keys = axes[0, 0]
        pages.key(keys, "theory", "--", color="0.3", lw=1)
        pages.key(keys, "small start, any block", **mark)
        pages.legend_above(figure, keys, 5)
        figure.supylabel("share of target at the end")
