"""What do weights cost and gain that start late?

Deferred reweighting (DRW, Cao et al. 2019): ERM first, weights from some time on. STEP 10:1, free features;
starts have scale 1e-6, those of gradient descent 1e-3. It takes 15 seconds: some 200 runs by time, 17
by the loss clock to a large margin, 36 of gradient descent. Claimed before the run is what follows; what of
it fails, and what was derived after looking, says so.

Weights change how fast a contrast grows and nothing else: r_c before their start, w_c r_c after it. It
is learned at the time T at which it has grown as far as ERM takes it in its own learning time t_c,

    T + (w_c - 1) int_0^T s dt = t_c,    s(t) the share of the weights that acts,

exact under the squared loss for contrasts of equal classes from a spectral start. What follows, all
derived for this project: weights from t_0 on bring a contrast (1 - 1/w_c) (t_c - t_0) forward; a ramp that
is over by then is a switch in its middle; since weights have unit mean over samples, no schedule of them
has every class learned before the mean over samples of ERM's learning times, which one that learns all at
once attains; inverse frequency does from t_min / (1 + sqrt(R)) on, for small starts.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr

from experiments import deferred_figures
from experiments import deferred_figures as theory
from experiments.claims import Claim, Claims, Estimate
from experiments.deferred_figures import COUNTS, Early, Late, Steps, group_weights
from experiments.readings import GROUPS, Report, farthest, group_accuracy, predicted_times, spread
from experiments.readings import learned as measured
from experiments.settings import BASE
from experiments.terminal_states import LAST_SHOWN, approach, end, limit, margin_at_end
from ssm import sweep
from ssm.results import reached
from ssm.theory.deferral import balancing_start, earliest_end

EXPONENTS = (0.5, 1.0)
RAMPS = (0.0, 0.2, 0.4)  # these and starts are shares of ERM's minority learning time
STARTS = tuple(round(0.1 * i, 1) for i in range(13))
SCALE = 1e-6
SEEDS = 3
DRAWS = 12  # of starts whose accuracy is judged draw by draw
SCALES = (1e-3, 1e-9)  # of collapsed starts
RATE, FACTOR = 2.0, 0.1  # of gradient descent's steps, and what it drops by
DROPS, LAST_STEP = (100, 300), 4000
SWITCHES = (0, 50, 100, 150, 200, 250, 300, 400, 600, 1200, 2400, LAST_STEP)

EXACT = 1e-5  # of learning times, relative: runs have a tolerance of 1e-8, crossings are cubics
TOLERANCE = 0.05  # a random start shifts learning times by about one of its 28 e-folds
# What distance x margin stays below, and how near to theory the end is, as in `terminal_phase`.
COLLAPSED, APPROACH_TOLERANCE = 10.0, 0.01


def run(out: Path, quick: bool, report: Report) -> list[Claim]:
    """Vary when weights start, and apart from it when the learning rate drops."""
    early = follow_early(quick)
    report(0.4)
    late = follow_late(quick)
    report(0.7)
    steps = follow_steps(quick)
    report(0.8)
    deferred_figures.draw_times(out / "deferred_times.png", early, late)
    deferred_figures.draw_end(out / "deferred_end.png", late)
    deferred_figures.draw_steps(out / "deferred_steps.png", steps)
    report(1.0)
    return [
        *_time_claims(early, late),
        *_balance_claims(early),
        *([] if quick else _accuracy_claims(early, follow_accuracy(early))),
        *_end_claims(late),
        *_step_claims(steps, quick),
    ]


def follow_early(quick: bool) -> Early:
    """Learning times over starts and ramps."""
    base = dataclasses.replace(BASE, loss="squared", init="spectral", init_scale=SCALE)
    erm = predicted_times(base)
    unit, balancing = float(erm[1]), float(balancing_start(erm, group_weights(1.0)))
    fine, coarse = (STARTS[::4], STARTS[::6]) if quick else (STARTS, STARTS[::2])
    exponents = {"weight_exponent": EXPONENTS}

    def starts(shares: tuple[float, ...]) -> dict[str, list[float]]:
        own = {*(unit * share for share in shares), balancing, float(erm[0])}
        return {"weight_start": sorted(own)}

    base = dataclasses.replace(base, t1=1.3 * unit)
    ramps = {"weight_ramp": [unit * ramp for ramp in RAMPS]}
    # Gaussian ones would have to be compiled for themselves
    kinds = {"init": ("collapsed",) if quick else ("gaussian", "collapsed")}
    seeds = {"seed": range(1 if quick else SEEDS)}
    exact = sweep(exponents | starts(fine) | ramps, dataclasses.replace(base, rtol=1e-8))
    return Early(erm, balancing, exact, sweep(kinds | exponents | starts(coarse) | seeds, base))


class Accuracy(NamedTuple):
    """Runs whose training accuracy is judged draw by draw."""

    runs: dict[str, xr.Dataset]
    """By kind of start, (exponent, start of the weights, seed): from the start, from the balancing start, never."""
    scales: xr.Dataset
    """Inverse frequency from the start, (scale of a collapsed start, seed)."""


def follow_accuracy(early: Early) -> Accuracy:
    """More draws of fewer starts of the weights."""
    unit = float(early.erm[1])
    base = dataclasses.replace(BASE, loss="squared", init_scale=SCALE, t1=1.3 * unit)
    draws = {"seed": range(DRAWS)}
    axes = {
        "weight_exponent": EXPONENTS,
        "weight_start": [0.0, early.balancing_start, 1.3 * unit],
        **draws,
    }
    runs = {
        kind: sweep(axes, dataclasses.replace(base, init=kind)).transpose(*axes, ...)
        for kind in early.random["init"].values.tolist()
    }
    weighted = dataclasses.replace(
        base, init="collapsed", weight_exponent=1.0, save_spacing="log", t1=0.6 * unit
    )
    scales = sweep({"init_scale": SCALES, **draws}, weighted)
    return Accuracy(runs, scales.transpose("init_scale", "seed", ...))


def follow_late(quick: bool) -> Late:
    """To a large margin, with weights from times in the early and margins in the terminal phase on;
    from such a small start the kept row of W is nothing."""
    base = dataclasses.replace(
        BASE, init="collapsed", init_scale=SCALE, clock="loss", t1=3000, num_saves=600, rtol=1e-4
    )
    base = dataclasses.replace(base, stop_margin=1e5 if quick else 1e6, save_state=True)
    erm = sweep({"weight_exponent": (1.0,), "weight_start": (base.t1,)}, base)
    erm = reached(erm.isel(weight_exponent=0, weight_start=0))
    margins = (100.0,) if quick else (10.0, 1e3, 1e5)
    known = erm["margin"].values > 1  # from where on it ascends
    clock, log_times = erm["time"].values, np.minimum(erm["log_time"].values, LAST_SHOWN)
    unit = theory.flow_time(erm, measured(erm).values)[1]
    times = unit * np.array((0.0, 0.5) if quick else (0.0, 0.2, 0.4, 0.6, 0.8))
    early = np.interp(times, np.exp(log_times), clock)
    terminal = np.interp(np.log(margins), np.log(erm["margin"].values[known]), clock[known])
    exponents = EXPONENTS[1:] if quick else EXPONENTS
    grid = {"weight_exponent": exponents, "weight_start": [0.0, *early[1:], *terminal]}
    return Late(erm, sweep(grid, base), margins)


def follow_steps(quick: bool) -> Steps:
    """Gradient descent, its rate dropping and its weights starting at steps of their own."""
    flow = dataclasses.replace(BASE, loss="squared", init="spectral")
    base = dataclasses.replace(
        flow, weight_exponent=1.0, optimizer="gd", learning_rate=RATE, num_steps=LAST_STEP
    )
    drops = dataclasses.replace(
        base, learning_rate_schedule="step", drop_step=LAST_STEP, drop_factor=FACTOR
    )
    drops = dataclasses.replace(drops, num_saves=LAST_STEP // DROPS[0] + 1)  # one at each drop
    starts = (0, 100, 300, LAST_STEP) if quick else SWITCHES
    grid = {"drop_step": (*DROPS, LAST_STEP), "weight_start": starts}
    return Steps(predicted_times(flow), sweep(grid, drops))


def _time_claims(early: Early, late: Late) -> list[Claim]:
    """Every learning time, against the integral of the growth rate."""
    found = theory.measured(early.spectral)  # (exponent, start, ramp, group)
    starts, ramps = (early.spectral[name].values for name in ("weight_start", "weight_ramp"))
    wanted = [theory.by_start(early.erm, early.spectral, starts, ramp) for ramp in ramps]
    middles = [theory.by_start(early.erm, early.spectral, starts + ramp / 2) for ramp in ramps]
    minority, switched = found[1, :, :, 1], np.stack(middles, axis=2)[1, :, :, 1]
    over = (np.add.outer(starts, ramps) < minority) & (ramps > 0)
    later = found[:, :, 0, 0] / early.erm[0]
    costs = [1 / group_weights(g)[0] for g in EXPONENTS]
    exact = {
        "learning times of both groups, from the integral of their growth": farthest(
            found, np.stack(wanted, axis=2)
        ),
        f"minorities, {over.sum()} ramps that are over when they are learned, from a switch in the ramp's middle": farthest(
            minority[over], switched[over]
        ),
        "weights from the start, majority's learning time over ERM's, from 1/w_maj": farthest(
            later[:, 0], costs
        ),
        "weights from when majorities are learned on, the same, from 1": farthest(
            later[:, starts >= early.erm[0]], 1
        ),
    }
    claims, every = Claims(), "every exponent and start of the weights"
    for name, value in exact.items():
        claims.at_most(f"squared, spectral start, {every}: {name}, worst, relative", EXACT, value)
    lead = (early.erm[1] - found[1, :, 0, 1]) / (early.erm[1] - found[1, 0, 0, 1])
    statement = "squared, spectral start, g = 1 from when majorities are learned on: lead over ERM's minority time, as a share of that of weights from the start (1 - R^(-1/2) for small starts)"
    kept = float(lead[starts == early.erm[0]][0])
    claims.close(statement, float(1 - early.erm[0] / early.erm[1]), kept, EXACT)
    pairs = {
        f"squared, {kind} start": theory.random_pair(early.random.sel(init=kind))
        for kind in early.random["init"].values
    }
    pairs["cross-entropy, collapsed start"] = theory.late_pair(late)[1:]
    for name, pair in pairs.items():
        statement = f"{name}, {every}: learning times of both groups, worst distance from those that follow from ERM's of the same start, relative"
        claims.at_most(statement, TOLERANCE, farthest(*pair))
    return claims


def _balance_claims(early: Early) -> list[Claim]:
    """The start at which inverse frequency learns both groups at once; nothing is sooner."""
    found, starts = theory.measured(early.spectral), early.spectral["weight_start"].values
    best, unit = earliest_end(early.erm, COUNTS), early.erm[1]
    at_once = found[1, starts == early.balancing_start, 0][0]
    learned = found.max(axis=-1) / best
    random = theory.measured(early.random)  # (kind, exponent, start, seed, group)
    bounds = [[earliest_end(erm, COUNTS) for erm in kind[0, -1]] for kind in random]
    over = random.max(axis=-1) / np.array(bounds)[:, None, None]
    name = f"squared, spectral start, inverse frequency from {early.balancing_start / unit:.3f} of ERM's minority time on"
    both = "both groups learned, over the mean over samples of ERM's learning times"
    claims = Claims()
    note = f"small-start limit of that start {1 / (1 + BASE.imbalance_ratio**0.5):.3f}"
    balance = at_once[1] / at_once[0]
    claims.close(f"{name}: minority over majority time", 1.0, balance, EXACT, note)
    note = f"{best / unit:.3f} of ERM's minority time"
    claims.close(f"{name}: {both}", 1.0, at_once.max() / best, EXACT, note)
    statement = f"squared, spectral start, every exponent, start and ramp: {both}, smallest"
    note = f"from the start {learned[0, 0, 0]:.3f} at g = 1/2, {learned[1, 0, 0]:.3f} at g = 1; ERM {learned[0, -1, 0]:.3f}"
    claims.at_least(statement, 1 - EXACT, float(learned.min()), note)
    statement = f"squared, random starts, every exponent and start of the weights: {both} of the same start, smallest"
    claims.at_least(statement, 1 - TOLERANCE, float(over.min()))
    return claims


def _accuracy_claims(early: Early, accuracy: Accuracy) -> list[Claim]:
    """What weights cost and gain in training accuracy, by when it reaches 95 % in each draw."""
    claims = Claims()
    for kind, runs in accuracy.runs.items():
        groups = [group_accuracy(runs, group) for group in GROUPS]  # of as many classes each
        (half, own), majority = _first_right(runs, np.mean(groups, axis=0)), groups[0]
        cost = _first_right(runs, majority)[1]
        unit = early.erm[1]
        name = f"squared, {kind} start, inverse frequency"
        statement = f"{name} from the start: majority's training accuracy reaches 95 %, time over ERM's, of each draw (derived after looking)"
        least, over = float(1 / group_weights(1.0)[0]), cost[0] / cost[2]
        note = f"{(over >= least).sum()} of {over.size} draws; {spread(over)}"
        claims.at_least(statement, least, Estimate.geometric(over), note)
        statement = f"{name} from the balancing start: balanced training accuracy reaches 95 %, time over the sooner of weights from the start and ERM, of each draw (derived after looking)"
        means = [float(np.exp(np.log(x / unit).mean())) for x in (own[1], own[0], own[2], half[0])]
        note = "over ERM's minority time {:.3g}, from the start {:.3g}, ERM {:.3g}; g = 1/2 from the start {:.3g}"
        over = Estimate.geometric(own[1] / np.minimum(own[0], own[2]))
        claims.at_most(statement, 1.0, over, note.format(*means))
    found = _first_right(
        accuracy.scales, np.mean([group_accuracy(accuracy.scales, x) for x in GROUPS], axis=0)
    )
    over = found[-1] / found[0]
    statement = f"squared, collapsed start, inverse frequency from the start: time to 95 % balanced training accuracy at a start of {SCALES[-1]:g} over that at {SCALES[0]:g}, median of draws (derived after looking: class means are told apart as soon as the classifier has taken them up)"
    claims.close(statement, 1.0, float(np.median(over)), 0.02, spread(over))
    return claims


def _first_right(runs: xr.Dataset, accuracy: np.ndarray) -> np.ndarray:
    """When an accuracy, over time last, first is 95 %."""
    return runs["time"].values[(accuracy >= 0.95).argmax(axis=-1)]


def _end_claims(late: Late) -> list[Claim]:
    """One end, whenever weights start."""
    runs, target = late.weighted, limit(BASE)
    erm, margin = end(late.erm), margin_at_end(late.erm)
    wanted = approach(BASE, margin)
    bound = [erm.distances(target).max() * margin]
    off, apart = [farthest(erm.distances(target), wanted.distances(target))], []
    for i, j in np.ndindex(*runs["status"].shape):
        own = runs.isel(weight_exponent=i, weight_start=j)
        state, exponent = end(own), own["weight_exponent"].item()
        other = approach(dataclasses.replace(BASE, weight_exponent=exponent), margin_at_end(own))
        bound.append(state.distances(target).max() * margin_at_end(own))
        off.append(farthest(state.distances(target), other.distances(target)))
        apart.append(farthest(state.distances(erm.gram)[2], other.distances(wanted.gram)[2]))
    near, times = state.distances(erm.gram)[2], runs.sizes["weight_start"]
    name = f"cross-entropy, weights from {times} times on, at margin {margin:.2g}"
    of_theory = "worst distance from theory for weights from the start"
    claims = Claims()
    statement = f"{name}, and ERM: distance to SELI x margin, largest of W, H, Z and runs"
    claims.at_most(statement, COLLAPSED, float(max(bound)))
    statement = f"{name}, and ERM: distances of W, H, Z to SELI, {of_theory} (for ERM), relative"
    claims.at_most(statement, APPROACH_TOLERANCE, max(off))
    statement = f"{name}: distance of normalised logits to ERM's, {near:.2g} for the last, {of_theory}, relative"
    claims.at_most(statement, APPROACH_TOLERANCE, max(apart))
    last = [runs.isel(weight_exponent=-1, weight_start=j) for j in range(times)]
    paths = [theory.distances(own) for own in last]
    settled = " (derived after looking: ERM's gaps have settled by then)"
    for start, path in list(zip(late.margins, paths[-len(late.margins) :], strict=True))[1:]:
        both, after = (paths[0], path), settled if start > 1e4 else ""
        wanted, found = (np.interp(np.log(2 * start), np.log(x), x * y) for x, y in both)
        statement = f"cross-entropy, g = 1 from margin {start:g} on, at margin {2 * start:g}: distance to SELI x margin, against weights from the start{after}"
        claims.close(statement, float(wanted), float(found), APPROACH_TOLERANCE)
    return claims


def _step_claims(steps: Steps, quick: bool) -> list[Claim]:
    """Switch and drop, apart: switches matter by where they are in the sum of learning rates."""
    runs, weights, found = steps.runs, group_weights(1.0), theory.measured(steps.runs)
    _, summed, wanted = theory.step_times(steps)
    lag = summed / wanted - 1
    half_step = RATE * np.maximum(weights, 1) * np.sqrt(COUNTS) / sum(BASE.class_counts) / 2
    claims = Claims()
    name = f"gradient descent, g = 1, {found.shape[0]} drops and {found.shape[1]} switches"
    statement = f"{name}: learning times in steps, worst distance from a contrast's own recurrence, relative"
    claims.at_most(statement, 1e-6, farthest(found, theory.descended_times(runs)))
    bounds = {
        "eta r / 2": half_step,
        "that over w_maj, by which majorities are slower in making up for a lag from before (derived after looking)": half_step
        / np.minimum(weights, 1),
    }
    for bound, value in list(bounds.items())[quick:]:
        statement = f"{name}: how much later than the flow's, relative, largest over {bound}"
        claims.at_most(statement, 1.0, float((lag / value).max()))
    drop, erm = DROPS[0], steps.erm[1]
    both = list(runs["weight_start"].values).index(drop)
    after = (erm - RATE * drop) / (RATE * FACTOR)  # steps that ERM still needs at the low rate
    cases = {
        "drop alone": (found[0, -1, 1], drop + after),
        "switch alone": (found[-1, both, 1], drop + FACTOR * after / weights[1]),
        "drop and switch": (found[0, both, 1], drop + after / weights[1]),
    }
    for case, (taken, predicted) in cases.items():
        statement = f"gradient descent, {case} at step {drop}: minority's learning time in steps over ERM's at a constant rate"
        share = float(taken / found[-1, -1, 1])
        claims.close(statement, predicted * RATE / erm, share, float(half_step[1]))
    return claims
