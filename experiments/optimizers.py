"""Which optimiser learns majorities and minorities at once?

Ten classes, STEP 10:1, squared loss, free features, ERM and two weightings. It takes ten seconds: four
seeds of seven optimisers, thousands of steps each. Times are steps until half of the target is reached.
Claimed before the run, with s = sqrt(n_c) of a
contrast, r = w s / n its rate under the flow, e the start's scale, h the learning rate:

- `gd` is the flow to first order: a mode's share y of its target is off by -h r y (1 - y) ln(sqrt(y
  / y_0) (1 - y) / (1 - y_0)), since x' = f(x) is off by -(h / 2) f(x) ln(f / f_0). Minority over majority
  tends to R^(1/2-g) for small starts.
- `momentum` m is the flow at the rate h / (1 - m). A mode grows by the larger root of l^2 - (1 + m +
  h r) l + m = 0 a step, and so learns later than the flow by 1/2 + m / (1 - m) steps an e-fold.
- `normalised_gd` takes the flow's path; its steps times its rate are the path's length.
- `sam` climbs 0.05 far, which beside a small start feeds the largest contrasts: a larger ratio.
- `spectral_gd` moves all contrasts at one rate, T = (s / 2)^(1/L) - e, whatever their weights, so
  minorities are first: R^(-1/4). The Newton-Schulz iterations of `muon` give singular values between about
  0.7 and 1.15 in place of 1, so its ratio is expected within 30 % of that.
- `sign` and `adam` move features alike, whatever the number and the weight of their class, and the classifier by
  sums over classes, n_c w_c. So classes are treated alike at inverse frequency, g = 1. Under ERM a
  minority's row of the classifier follows the majorities' residual, but where their signs cancel: by coin
  tosses for signs minorities grow in a third of the entries, a ratio of 1.6 to 1.8, below 2. It is half of
  the entries (`sign_descent`).
- `adam` divides out the size of gradients, and with it a factor of all class weights, to 1 %.

What of this failed is kept as a claim that fails; what was derived after looking says so.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import xarray as xr

from experiments import optimizers_figures, sign_descent
from experiments import optimizers_runs as read
from experiments.claims import Claim, Claims, Estimate
from experiments.optimizers_runs import FACTORS, RUNS, SAM, SPECTRAL, SQUARED, Runs
from experiments.readings import (
    GROUPS,
    Report,
    farthest,
    learned,
    predicted_times,
    ratio,
    shares,
    spread,
    times_of_start,
)
from experiments.settings import WEIGHTINGS
from ssm import fits, spectral
from ssm.config import Optimizer

ARRIVED = 0.99  # of the target: beyond it steps go to and fro
OWN_START = 0.02  # of a ratio: from a draw's own start noise and the step's size are left
START = 0.05  # of a ratio of learning times: a draw shifts each by about one of its e-folds
SLOPE = 0.03
EXACT = 0.01  # of a time by spectral descent
PATH = 0.04  # of a target: first steps of half an e-fold put majorities behind by a quarter of one
ALIKE = 0.1  # three standard deviations: contrasts of 16 signs scatter by 8 %, four seeds
BLIND = 0.01
DRAWS = 256  # of class means, whose ratio is then known to 0.3 %
COORDINATES = 4000  # single ones, whose growth is then known to 2 %
EARLY = 0.1  # of the majorities' targets: signs have settled, and next to nothing is learned
APART = 0.15  # of a share of signs: 0.5 is told from a third
DEAD = 1e-6  # of a target; `sam` goes to and fro by h r radius about 0, whose square this exceeds

TIMES = "minority over majority learning time"


Ratios = dict[str, xr.DataArray]
"""Minority over majority learning time by optimiser, over weight exponents and seeds."""


def run(out: Path, quick: bool, report: Report) -> list[Claim]:
    """Draw `optimizers_progress.png` and `optimizers_laws.png`, and hold each optimiser against its
    law."""
    runs = read.follow(quick, report)
    names: list[Optimizer] = [name for name in RUNS if name in runs]
    ratios = {name: ratio(learned(runs[name])) for name in names}
    progress = {name: (read.configured(name), runs[name].sel(seed=0)) for name in names}
    optimizers_figures.draw_progress(out / "optimizers_progress.png", progress)
    optimizers_figures.draw_laws(
        out / "optimizers_laws.png",
        ratios,
        None if quick else read.convergence(runs["stepped"]),
        {L: read.unweighted(runs, L, spectral.LEARNED) for L in _depths(runs)},
        SPECTRAL.init_scale,
    )
    claims = [*_flow_claims(ratios), *_sign_claims(ratios), *_spectral_claims(runs, ratios)]
    if quick:
        return claims
    return [
        *claims,
        *_row_claims(runs),
        *_step_claims(runs["stepped"]),
        *_momentum_claims(runs),
        *_path_claims(runs),
        *_sam_claims(runs, ratios),
        *_scale_claims(runs),
    ]


def _depths(runs: Runs) -> list[int]:
    return [L for L in read.DEPTHS if f"STEP {L}" in runs]


def _flow_claims(ratios: Ratios) -> list[Claim]:
    """Gradient descent's ratio, as the flow's from a start of that size."""
    claims = Claims()
    for name, g in WEIGHTINGS.items():
        times = predicted_times(dataclasses.replace(SQUARED, weight_exponent=g))
        measured = Estimate.geometric(ratios["gd"].sel(weight_exponent=g))
        statement = f"gd, {name}: {TIMES}, the flow's from the start's size"
        claims.close(statement, float(times[1] / times[0]), measured, START)
    for name, g in WEIGHTINGS.items():
        found = ratios["gd"].sel(weight_exponent=g)
        starts = [
            dataclasses.replace(SQUARED, weight_exponent=g, seed=seed)
            for seed in found["seed"].values.tolist()
        ]
        own = np.array([times_of_start(start) for start in starts])
        off = np.abs(found.values * own[:, 0] / own[:, 1] - 1)
        known = np.isfinite(off)  # a contrast that starts against its growth has no sigmoid
        statement = f"gd, {name}: {TIMES} of each draw over the flow's from that draw's own start, worst distance from 1 (derived after looking)"
        worst = float(off[known].max(initial=0 if known.any() else np.nan))
        claims.at_most(statement, OWN_START, worst, f"{known.sum()} of {known.size} draws")
    return claims


def _sign_claims(ratios: Ratios) -> list[Claim]:
    """Optimisers of every entry by itself treat classes alike at inverse frequency."""
    claims = Claims()
    for name in [name for name in ("sign", "adam") if name in ratios]:
        own = {x: ratios[name].sel(weight_exponent=g) for x, g in WEIGHTINGS.items()}
        erm, equal = (Estimate.geometric(own[x]) for x in ("ERM", "inverse frequency"))
        claims.at_most(f"{name}, ERM: {TIMES}", 2.0, erm)
        claims.close(f"{name}, inverse frequency: {TIMES}, 1", 1.0, equal, ALIKE)
        order = dict(reversed(own.items()))
        values = [x.values for x in order.values()]
        claims.ascending(f"{name}, by weighting: {TIMES}", list(order), values)
    return claims


def _row_claims(runs: Runs) -> list[Claim]:
    """Sign descent under ERM: how often minorities' rows of the classifier go apart."""
    looked = "(derived after looking"
    claims, found = Claims("sign, ERM"), ratio(learned(runs["sign seeds"]))
    measured, note = Estimate.geometric(found), spread(found, ".3f")
    statement = f"{TIMES}, by coin tosses for the signs of rows {looked})"
    claims.close(statement, 1.7, measured, 0.06, note)
    own = dataclasses.replace(read.configured("sign"), num_steps=read.SIGN_STEPS)
    drawn = np.log(sign_descent.time_ratios(own, DRAWS))
    statement = f"{TIMES}, by the signs of class means, mean over {DRAWS} draws {looked})"
    claims.close(statement, float(np.exp(drawn.mean())), measured, 0.06, note)
    wide = read.wide()
    name = f"d = {wide.feature_dim}"
    limit = sign_descent.wide_course(wide, COORDINATES)
    grown = shares(runs["wide sign"]).sel(block=GROUPS).transpose("seed", "time", "block").values
    each = np.array([sign_descent.growth_at(course, wide, EARLY) for course in grown])
    wanted = sign_descent.growth_at(limit, wide, EARLY)
    for group, x, y in zip(GROUPS, wanted.tolist(), each.T, strict=True):
        statement = f"{name}, {group}, when majorities have {EARLY:g}: share over d (steps x h)^2, how often rows and features of two classes go apart, by single coordinates {looked}: a third by coin tosses for minorities)"
        claims.close(statement, x, Estimate.over_seeds(y), APART)
    early, late = sign_descent.learning_times(limit).tolist()
    measured = Estimate.geometric(ratio(learned(runs["wide sign"])))
    statement = f"{name}: {TIMES}, by single coordinates {looked})"
    claims.close(statement, late / early, measured, 0.06)
    return claims


def _spectral_claims(runs: Runs, ratios: Ratios) -> list[Claim]:
    """Spectral descent: all components at one rate, whatever the weights."""
    claims = Claims()
    for L in _depths(runs):
        for level in (ARRIVED, spectral.LEARNED):
            both = read.unweighted(runs, L, level)
            off = [farthest(x.found, x.wanted) for x in both]
            statement = f"spectral_gd, L = {L}, spectral start, ERM, all components of STEP and of ten unequal classes: time to {level:g} of the target, worst distance from ({level:g} s)^(1/{L}) - e, relative"
            claims.at_most(statement, EXACT, max(off))
    for name, g in WEIGHTINGS.items():
        own = read.arrivals(runs["STEP 2"].sel(weight_exponent=g), 2, ARRIVED)
        found, wanted = (float(x[-1] / x[0]) for x in (own.found, own.wanted))
        statement = f"spectral_gd, spectral start, {name}: minority over majority time to {ARRIVED:g} of the target, by that law"
        claims.close(statement, wanted, found, EXACT)
    law = SQUARED.imbalance_ratio**-0.25
    for name, tolerance in {"spectral_gd": 0.05, "muon": 0.3}.items():
        for weighting, g in WEIGHTINGS.items() if name in ratios else ():
            measured = Estimate.geometric(ratios[name].sel(weight_exponent=g))
            statement = f"{name}, Gaussian start, {weighting}: {TIMES}, R^(-1/4)"
            claims.close(statement, law, measured, tolerance)
    return claims


def _step_claims(runs: xr.Dataset) -> list[Claim]:
    """Gradient descent tends to the flow, to first order in its step."""
    found = read.convergence(runs)
    slopes = fits.power_law(found["step"], found["found"])["local_exponent"].values
    name = f"gd, spectral start, ERM, h = {found['step'].min():.2g}..{found['step'].max():.2g}: largest distance from the flow's sigmoids"
    claims, worst = Claims(), float(np.abs(slopes - 1).max())
    note = "slopes " + ", ".join(f"{x:.4f}" for x in slopes)
    claims.at_most(f"{name}, local slopes over h, worst distance from 1", SLOPE, worst, note)
    last = found["step"].argmin()
    wanted, measured = float(found["first_order"][last]), float(found["found"][last])
    claims.close(f"{name} at the smallest h, its first order", wanted, measured, 0.01)
    return claims


def _momentum_claims(runs: Runs) -> list[Claim]:
    """Momentum follows gradient descent at the rate h / (1 - m), later by its memory."""
    both = (learned(runs[name]).sel(weight_exponent=0.0) for name in ("gd", "momentum"))
    plain, own = (times.transpose("seed", "block").values for times in both)  # equal h / (1 - m)
    m, e_fold = 0.9, RUNS["momentum"]["learning_rate"] * read.growth_rates()
    grown = 1 + m + e_fold
    larger = (grown + np.sqrt(grown**2 - 4 * m)) / 2
    smaller = m / larger
    begun = np.log((larger - smaller) / (1 + e_fold - smaller))  # what it starts short of, no speed
    passed = plain.mean(axis=0) * np.log1p(RUNS["gd"]["learning_rate"] * read.growth_rates())
    wanted = (passed + begun) / np.log(larger) / plain.mean(axis=0)
    late = own / plain
    claims = Claims("momentum 0.9, ERM")
    name = "learning time x h / (1 - m) over gradient descent's x h"
    claims.at_most(f"{name}, every seed, farthest from 1", 0.1, float(np.abs(late - 1).max()))
    for group, x, y in zip(GROUPS, wanted.tolist(), late.T, strict=True):
        statement = f"{name}, {group}, by the roots of its recursion"
        claims.close(statement, x, Estimate.over_seeds(y), 0.02)
    return claims


def _path_claims(runs: Runs) -> list[Claim]:
    """Normalised gradient descent takes gradient descent's path, by its length.

    From features equal on each class: their draw is the same for the classes that the one follows
    and the samples of the other, so that both start at one point.
    """
    apart, off = [], []
    names, rate = ("gd", "normalised_gd"), RUNS["normalised_gd"]["learning_rate"]
    for index in np.ndindex(runs["collapsed gd"]["status"].shape):
        at = dict(zip(("weight_exponent", "seed"), index, strict=True))
        plain, own = (runs[f"collapsed {name}"].isel(at) for name in names)
        lengths = np.interp(learned(plain).values, plain["time"].values, read.path_length(plain))
        off.append(farthest(learned(own).values * rate, lengths))
        losses = plain["loss"].values
        seen = losses >= own["loss"].values.min()
        for block in GROUPS:
            theirs, mine = (shares(x).sel(block=block).values for x in (plain, own))
            mine = np.interp(-losses[seen], -own["loss"].values, mine)
            apart.append(np.abs(mine - theirs[seen]).max())
    claims = Claims("normalised_gd, features of a class equal at the start, all weights and seeds")
    statement = "shares of both groups at equal loss, farthest from gradient descent's"
    claims.at_most(statement, PATH, float(np.max(apart)))
    statement = "steps x h until each group is learned, worst distance from the length of gradient descent's path, relative"
    claims.at_most(statement, 0.02, float(np.max(off)))
    return claims


def _sam_claims(runs: Runs, ratios: Ratios) -> list[Claim]:
    """`sam` beside 0: not what was expected, and why.

    It goes along the gradient at a point climbed to, A (x - radius A x / |A x|) where x' = A x is
    the flow about 0: a growing part shorter than the radius shrinks (in kind Kim, Park, Choi, Lee 2023).
    """
    sharper = ratio(learned(runs["sam"])) / ratios["gd"].sel(weight_exponent=0.0)
    end = float(np.abs(shares(runs["sam"]).isel(time=-1).values).max())
    by_radius = shares(runs["sam radii"]).isel(time=-1).sel(block=GROUPS)
    least = float(by_radius.isel(sam_radius=0).values.min())
    largest = float(np.abs(by_radius.isel(sam_radius=1).values).max())
    name = f"sam, spectral start of length {read.GROWING:.3g}, inverse square root (derived after looking)"
    near, far = read.RADII
    claims = Claims()
    statement = f"sam, ERM: {TIMES}, over gradient descent's"
    claims.at_least(statement, 1.2, Estimate.geometric(sharper))
    statement = f"sam of radius 0.05, start {SAM.init_scale:g}, ERM (derived after looking): a block's largest share of its target at the end, as 0 attracts"
    claims.at_most(statement, DEAD, end)
    claims.at_least(f"{name}: least share at the end, radius {near} of it", 0.99, least)
    claims.at_most(f"{name}: largest share at the end, radius {far} of it", DEAD, largest)
    return claims


def _scale_claims(runs: Runs) -> list[Claim]:
    """All class weights times a factor."""
    (ten, hundred), claims = FACTORS, Claims()
    adams = (
        runs["adam"].sel(weight_exponent=0.0),
        *(runs[f"adam x {factor:g}"] for factor in FACTORS),
    )
    plain, tenfold, more = (ratio(learned(x)).transpose("seed").values for x in adams)
    changes = np.abs(tenfold / plain - 1).tolist()
    name = f"all class weights x {ten:g}, ERM"
    note = "other seeds " + ", ".join(f"{x:.2g}" for x in changes[1:])
    claims.at_most(f"adam, {name}: {TIMES} changes by, seed 0", BLIND, changes[0], note)
    statement = f"adam, all class weights x {hundred:g} against x {ten:g}, where its 1e-8 beside the gradient's size is nothing (derived after looking): {TIMES} changes by at most"
    claims.at_most(statement, BLIND / 10, farthest(more, tenfold))
    gds = (
        runs["gd"].sel(weight_exponent=0.0),
        *(runs[f"gd x {ten:g}{x}"] for x in ("", " back")),
    )
    gd, fast, back = (learned(x).transpose("seed", "block").values for x in gds)
    step = RUNS["gd"]["learning_rate"] * read.growth_rates()
    grown = np.log1p(ten * step) / np.log1p(step)
    for group, x, y in zip(GROUPS, (gd / fast).T, grown.tolist(), strict=True):
        statement = f"gd, {name}, {group}: learning time falls by a factor of"
        note = f"{y:.3g} for steps of this size"
        claims.close(statement, ten, Estimate.over_seeds(x), 0.05, note)
    statement = f"gd, {name}, h / {ten:g}: learning times change by, relative"
    claims.at_most(statement, 1e-9, farthest(back, gd))
    weight = float(runs[f"gd x {ten:g}"]["mean_sample_weight"].values.max())
    claims.close(f"{name}: mean_sample_weight", ten, weight, 1e-12)
    return claims
