"""Deferred reweighting (DRW, Cao et al. 2019): ERM first, weights from some time on.

Weights change how fast a contrast grows and nothing else: r_c before their start, w_c r_c after it. It
is learned at the time T at which it has grown as far as ERM takes it in its own learning time t_c,

    T + (w_c - 1) int_0^T s dt = t_c,    s(t) the share of the weights that acts,

exact under the squared loss for contrasts of equal classes from a spectral start. What follows, all
derived for this project: weights from t_0 on bring a contrast (1 - 1/w_c) (t_c - t_0) forward; a ramp that
is over by then is a switch in its middle; since weights have unit mean over samples, no schedule of them
has every class learned before the mean over samples of ERM's learning times, which one that learns all at
once attains; inverse frequency does from t_min / (1 + sqrt(R)) on, for small starts.

STEP 10:1, free features. Starts have scale 1e-6, those of gradient descent 1e-3.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from experiments import deferred_figures
from experiments.claims import Claim, at_least, at_most, close, noted
from experiments.deferred_figures import (
    COUNTS,
    GROUPS,
    LAST_SHOWN,
    Early,
    Late,
    Steps,
    balancing_start,
    by_start,
    descended_times,
    distances,
    erm_times,
    flow_time,
    group_weights,
    late_pair,
    measured,
    random_pair,
    soonest,
    step_times,
)
from experiments.settings import BASE
from experiments.terminal_states import approach, end, limit, margin_at_end
from ssm import metrics, sweep
from ssm.results import reached

EXPONENTS = (0.5, 1.0)
RAMPS = (0.0, 0.2, 0.4)  # these and starts are shares of ERM's minority learning time
STARTS = tuple(round(0.1 * i, 1) for i in range(13))
SCALE = 1e-6
SEEDS = 3
RATE, FACTOR = 2.0, 0.1  # of gradient descent's steps, and what it drops by
DROPS, LAST_STEP = (100, 300), 4000
SWITCHES = (0, 50, 100, 150, 200, 250, 300, 400, 600, 1200, 2400, LAST_STEP)

EXACT = 1e-5  # of learning times, relative: runs have a tolerance of 1e-8, crossings are cubics
TOLERANCE = 0.05  # a random start shifts learning times by about one of its 28 e-folds
# What distance x margin stays below, and how near to theory the end is, as in `terminal_phase`.
COLLAPSED, APPROACH_TOLERANCE = 10.0, 0.01


def run(out: Path, quick: bool, report: Callable[[float], None]) -> list[Claim]:
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
        *([] if quick else _accuracy_claims(early)),
        *_end_claims(late),
        *_step_claims(steps, quick),
    ]


def follow_early(quick: bool) -> Early:
    """Learning times over starts and ramps."""
    base = dataclasses.replace(BASE, loss="squared", init="spectral", init_scale=SCALE)
    erm = erm_times(base)
    unit, balancing = float(erm[1]), balancing_start(erm, group_weights(1.0))
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
    unit = flow_time(erm, measured(erm))[1]
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
    return Steps(erm_times(flow), sweep(grid, drops))


def _off(found: np.ndarray, wanted: np.ndarray | list[float] | float) -> float:
    """Worst distance, relative; NaN if one was not reached."""
    return float(np.abs(np.divide(found, wanted) - 1).max())


def _time_claims(early: Early, late: Late) -> list[Claim]:
    """Every learning time, against the integral of the growth rate."""
    found = measured(early.spectral)  # (exponent, start, ramp, group)
    starts, ramps = (early.spectral[name].values for name in ("weight_start", "weight_ramp"))
    wanted = [by_start(early.erm, early.spectral, starts, ramp) for ramp in ramps]
    middles = [by_start(early.erm, early.spectral, starts + ramp / 2) for ramp in ramps]
    minority, switched = found[1, :, :, 1], np.stack(middles, axis=2)[1, :, :, 1]
    over = (np.add.outer(starts, ramps) < minority) & (ramps > 0)
    later = found[:, :, 0, 0] / early.erm[0]
    growth, ramped = _off(found, np.stack(wanted, axis=2)), _off(minority[over], switched[over])
    price = _off(later[:, 0], [1 / group_weights(g)[0] for g in EXPONENTS])
    none = _off(later[:, starts >= early.erm[0]], 1)
    exact = {
        "learning times of both groups, from the integral of their growth": growth,
        f"minorities, {over.sum()} ramps that are over when they are learned, from a switch in the ramp's middle": ramped,
        "weights from the start, majority's learning time over ERM's, from 1/w_maj": price,
        "weights from when majorities are learned on, the same, from 1": none,
    }
    kinds = {
        f"squared, {kind} start": early.random.sel(init=kind)
        for kind in early.random["init"].values
    }
    pairs = {name: random_pair(runs) for name, runs in kinds.items()}
    pairs["cross-entropy, collapsed start"] = late_pair(late)[1:]
    every = "every exponent and start of the weights"
    lead = (early.erm[1] - found[1, :, 0, 1]) / (early.erm[1] - found[1, 0, 0, 1])
    rest = 1 - early.erm[0] / early.erm[1]
    return [
        *(
            at_most(f"squared, spectral start, {every}: {name}, worst, relative", EXACT, value)
            for name, value in exact.items()
        ),
        close(
            "squared, spectral start, g = 1 from when majorities are learned on: lead over ERM's minority time, as a share of that of weights from the start (1 - R^(-1/2) for small starts)",
            float(rest),
            float(lead[starts == early.erm[0]][0]),
            EXACT,
        ),
        *(
            at_most(
                f"{name}, {every}: learning times of both groups, worst distance from those that follow from ERM's of the same start, relative",
                TOLERANCE,
                _off(*pair),
            )
            for name, pair in pairs.items()
        ),
    ]


def _balance_claims(early: Early) -> list[Claim]:
    """The start at which inverse frequency learns both groups at once; nothing is sooner."""
    found, starts = measured(early.spectral), early.spectral["weight_start"].values
    best, unit = soonest(early.erm), early.erm[1]
    at_once = found[1, starts == early.balancing_start, 0][0]
    learned = found.max(axis=-1) / best
    random = measured(early.random)  # (kind, exponent, start, seed, group)
    bounds = [[soonest(erm) for erm in kind[0, -1]] for kind in random]
    over = random.max(axis=-1) / np.array(bounds)[:, None, None]
    name = f"squared, spectral start, inverse frequency from {early.balancing_start / unit:.3f} of ERM's minority time on"
    limit_of_start = 1 / (1 + BASE.imbalance_ratio**0.5)
    both = "both groups learned, over the mean over samples of ERM's learning times"
    others = f"from the start {learned[0, 0, 0]:.3f} at g = 1/2, {learned[1, 0, 0]:.3f} at g = 1; ERM {learned[0, -1, 0]:.3f}"
    ratio = close(f"{name}: minority over majority time", 1.0, at_once[1] / at_once[0], EXACT)
    return [
        noted(ratio, f"small-start limit of that start {limit_of_start:.3f}"),
        noted(
            close(f"{name}: {both}", 1.0, at_once.max() / best, EXACT),
            f"{best / unit:.3f} of ERM's minority time",
        ),
        noted(
            at_least(
                f"squared, spectral start, every exponent, start and ramp: {both}, smallest",
                1 - EXACT,
                float(learned.min()),
            ),
            others,
        ),
        at_least(
            f"squared, random starts, every exponent and start of the weights: {both} of the same start, smallest",
            1 - TOLERANCE,
            float(over.min()),
        ),
    ]


def _accuracy_claims(early: Early) -> list[Claim]:
    """What weights cost and gain in training accuracy."""
    claims = []
    at = list(early.random["weight_start"].values).index(early.balancing_start)
    for kind in early.random["init"].values:
        runs = early.random.sel(init=kind)
        times, groups = runs["time"].values / early.erm[1], runs["class_group"].values
        accuracy = runs["class_accuracy"].mean("seed")
        accuracy = accuracy.transpose("weight_exponent", "weight_start", "time", "class").values
        parts = accuracy.mean(axis=-1), metrics.group_mean(accuracy, groups, GROUPS[0])
        balanced, majority = (times[(part >= 0.95).argmax(axis=-1)] for part in parts)
        name = f"squared, {kind} start, inverse frequency"
        claims += [
            at_least(
                f"{name} from the start: majority's training accuracy reaches 95 %, time over ERM's",
                float(1 / group_weights(1.0)[0]),
                float(majority[1, 0] / majority[1, -1]),
            ),
            noted(
                at_most(
                    f"{name} from the balancing start: balanced training accuracy reaches 95 %, time over the sooner of weights from the start and ERM",
                    1.0,
                    float(balanced[1, at] / min(balanced[1, 0], balanced[1, -1])),
                ),
                f"over ERM's minority time {balanced[1, at]:.3g}, from the start {balanced[1, 0]:.3g}, ERM {balanced[1, -1]:.3g}; g = 1/2 from the start {balanced[0, 0]:.3g}",
            ),
        ]
    return claims


def _end_claims(late: Late) -> list[Claim]:
    """One end, whenever weights start."""
    runs, target = late.weighted, limit(BASE)
    erm, margin = end(late.erm), margin_at_end(late.erm)
    wanted = approach(BASE, margin)
    bound = [erm.distances(target).max() * margin]
    off, apart = [_off(erm.distances(target), wanted.distances(target))], []
    for i, j in np.ndindex(*runs["status"].shape):
        own = runs.isel(weight_exponent=i, weight_start=j)
        state, exponent = end(own), own["weight_exponent"].item()
        theory = approach(dataclasses.replace(BASE, weight_exponent=exponent), margin_at_end(own))
        bound.append(state.distances(target).max() * margin_at_end(own))
        off.append(_off(state.distances(target), theory.distances(target)))
        apart.append(_off(state.distances(erm.gram)[2], theory.distances(wanted.gram)[2]))
    near, times = state.distances(erm.gram)[2], runs.sizes["weight_start"]
    name = f"cross-entropy, weights from {times} times on, at margin {margin:.2g}"
    theory_of = "worst distance from theory for weights from the start"
    worst = {
        f"{name}, and ERM: distances of W, H, Z to SELI, {theory_of} (for ERM), relative": max(off),
        f"{name}: distance of normalised logits to ERM's, {near:.2g} for the last, {theory_of}, relative": max(
            apart
        ),
    }
    claims = [
        at_most(
            f"{name}, and ERM: distance to SELI x margin, largest of W, H, Z and runs",
            COLLAPSED,
            float(max(bound)),
        ),
        *(at_most(statement, APPROACH_TOLERANCE, value) for statement, value in worst.items()),
    ]
    paths = [distances(runs.isel(weight_exponent=-1, weight_start=j)) for j in range(times)]
    settled = " (derived after trial runs: ERM's gaps have settled by then)"
    for start, path in list(zip(late.margins, paths[-len(late.margins) :], strict=True))[1:]:
        both, after = (paths[0], path), settled if start > 1e4 else ""
        wanted, found = (np.interp(np.log(2 * start), np.log(x), x * y) for x, y in both)
        statement = f"cross-entropy, g = 1 from margin {start:g} on, at margin {2 * start:g}: distance to SELI x margin, against weights from the start{after}"
        claims.append(close(statement, float(wanted), float(found), APPROACH_TOLERANCE))
    return claims


def _step_claims(steps: Steps, quick: bool) -> list[Claim]:
    """Switch and drop, apart: switches matter by where they are in the sum of learning rates."""
    runs, weights, found = steps.runs, group_weights(1.0), measured(steps.runs)
    _, summed, wanted = step_times(steps)
    lag = summed / wanted - 1
    half_step = RATE * np.maximum(weights, 1) * np.sqrt(COUNTS) / sum(BASE.class_counts) / 2
    name = f"gradient descent, g = 1, {found.shape[0]} drops and {found.shape[1]} switches"
    drop, erm = DROPS[0], steps.erm[1]
    both = list(runs["weight_start"].values).index(drop)
    after = (erm - RATE * drop) / (RATE * FACTOR)  # steps that ERM still needs at the low rate
    base = found[-1, -1, 1]
    cases = {
        "drop alone": (found[0, -1, 1], drop + after),
        "switch alone": (found[-1, both, 1], drop + FACTOR * after / weights[1]),
        "drop and switch": (found[0, both, 1], drop + after / weights[1]),
    }
    bounds = {
        "eta r / 2": half_step,
        "that over w_maj, by which majorities are slower in making up for a lag from before (derived after trial runs)": half_step
        / np.minimum(weights, 1),
    }
    return [
        at_most(
            f"{name}: learning times in steps, worst distance from a contrast's own recurrence, relative",
            1e-6,
            _off(found, descended_times(runs)),
        ),
        *(
            at_most(
                f"{name}: how much later than the flow's, relative, largest over {bound}",
                1.0,
                float((lag / value).max()),
            )
            for bound, value in list(bounds.items())[quick:]
        ),
        *(
            close(
                f"gradient descent, {case} at step {drop}: minority's learning time in steps over ERM's at a constant rate",
                predicted * RATE / erm,
                float(steps_taken / base),
                float(half_step[1]),
            )
            for case, (steps_taken, predicted) in cases.items()
        ),
    ]
