"""What do losses with margins change, early and at the end, beside plain weights?

On free features under cross-entropy: logit adjustment, CDT, VS, LDAM, focal loss and effective-number
weights. It takes 15 seconds: five seeds of nine losses early, and 23 runs to a large margin.

Claimed before the run (`ssm.adjusted_growth`, `ssm.terminal`): of all of these only weights balance how fast majority and
minority are learned, since what is added to a group's logits leaves contrasts within it alone; CDT and
VS, which shrink the minorities' logits, delay them by R^g more. At the end it is the other way about:
weights, offsets, margins and the focal factor end at SELI, and CDT and VS alone do not.

LDAM's published scale of 30 is a learning rate in disguise: scale s and margin D make of a start what
scale 1 and margin s D make of one sqrt(s) times larger, s times faster, the logits 1 / s of theirs. Here
it is scale 1 and margin 15.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import xarray as xr
from jaxtyping import Float

from experiments import margins_figures
from experiments import margins_runs as runs
from experiments.claims import Claim, Claims, Estimate
from experiments.margins_runs import END, LATE, LATE_MARGIN, MARGIN, Early, Ends
from experiments.readings import Report, part, start_of
from ssm import Config, adjusted_growth, balance, geometry, spectral, terminal, theory
from ssm.problem import make_problem, membership

RATE = 0.01  # of a growth rate
DRAW = 0.05  # of a learning time: a draw shifts it by about one of its 28 e-folds
ACCURACY = 0.15  # of the time to balance, which comes some e-folds before the learning time
BOUND = 10.0  # of distance x margin, as in `terminal_phase`
APPROACH = 0.01  # of a distance: the next order in 1 / margin is far smaller
ANGLE = 100.0  # of margin x what cosines and ratios of norms are off: ten such distances
GAP = 0.01  # of a gap over the margin: logarithms beside a margin of 1e3
KEPT = 1e-4  # of a cosine: what the kept row of a start of 0.5 still adds at a margin of 1e8
AFTER = "derived after looking"


def run(out: Path, quick: bool, report: Report) -> list[Claim]:
    """Draw what the losses do early and where they end, and hold both against theory. Claims that
    are known to fail are left out of a quick run."""
    early = runs.follow_early(2 if quick else runs.SEEDS, part(report, 0.0, 0.6))
    ends = runs.follow_ends(END, runs.LOSSES, part(report, 0.6, 0.8))
    exponents = runs.EXPONENTS[:4:3] if quick else runs.EXPONENTS
    cdt = {f"{g:g}": {"loss": "cdt", "multiplicative_adjustment": g} for g in exponents}
    small = runs.follow_ends(END, cdt, part(report, 0.8, 0.87))
    late = runs.follow_ends(LATE, cdt, part(report, 0.87, 0.94))
    margins_figures.draw_early(out / "margins_early.png", early)
    margins_figures.draw_ends(out / "margins_end.png", ends, small, late)
    report(1.0)
    return [
        *_rate_claims(early),
        *_time_claims(early, quick),
        *_end_claims(ends),
        *_factor_claims(ends),
        *_exponent_claims(small, late, quick),
    ]


def _rate_claims(early: dict[str, Early]) -> list[Claim]:
    """Growth rates against singular values."""
    claims, n = Claims(), sum(runs.EARLY.class_counts)
    for name, own in early.items():
        off = float(
            np.max([abs(own.rates[b] / own.predicted_rates[b] - 1) for b in spectral.BLOCKS])
        )
        statement = f"{name}, start {runs.LINEAR.init_scale:g}: growth rates of the blocks, worst distance from the singular values of A, relative"
        values = ", ".join(f"{b} {n * rate:.4g}/n" for b, rate in own.predicted_rates.items())
        claims.at_most(statement, RATE, off, values)
    return claims


def _time_claims(early: dict[str, Early], quick: bool) -> list[Claim]:
    """Learning times, and times to balance."""
    claims, where = Claims(), f"start {runs.EARLY.init_scale:g}"
    for name, own in early.items():
        statement = f"{name}, {where}: minority over majority learning time"
        claims.between(statement, own.predicted_ratio, Estimate.over_seeds(own.ratios), DRAW)
    adjusted, erm = runs.SHIFTS | runs.FACTORS, early["ERM"]
    least = min((early[name].ratios / erm.ratios for name in adjusted), key=np.mean)
    statement = f"{', '.join(adjusted)}: that ratio over ERM's, least"
    claims.at_least(statement, 0.85, Estimate.over_seeds(least))
    what = f"time to a balanced training accuracy of {runs.BALANCED:g}"
    for name, own in early.items():
        if name == "ERM" or (quick and name in ("inverse square root", "VS")):
            continue  # the one fails, the other is near its tolerance, beyond it with few draws
        statement = (
            f"{name}, {where}: {what}, ERM's times the slower group's learning time over ERM's"
        )
        measured = Estimate.over_seeds(own.balances)
        claims.between(statement, own.predicted_balance, measured, ACCURACY)
    own = early[name := "inverse square root"]
    times, wanted = own.runs["time"].values, []
    for seed in own.runs["seed"].values.tolist():
        config = dataclasses.replace(runs.EARLY, **runs.LOSSES[name], seed=seed)
        until = times[times < 400]  # where contrasts are still small
        accuracy = xr.DataArray(linear_accuracy(config, until), {"time": until}, ["time"])
        wanted.append(float(balance.settling_time(accuracy, runs.BALANCED)))
    statement = f"{name}, {where}: {what}, over that of the linear phase of each draw ({AFTER})"
    claims.close(statement, 1.0, Estimate.over_seeds(own.balances / wanted), RATE)
    return claims


def linear_accuracy(config: Config, times: Float[np.ndarray, " t"]) -> Float[np.ndarray, " t"]:
    """Balanced training accuracy of a config's own start in its linear phase, where deviations from class
    means stay."""
    problem, params, means = start_of(config)
    labels, root = problem.labels, np.sqrt(problem.counts)[:, None]
    members = membership(labels, len(root)) / problem.counts
    A = adjusted_growth.growth_matrix(config, problem)
    rest, found = params.H - means[:, labels], []
    for W, N in zip(*theory.linear_factors(A, params.W, root * means.T, times), strict=True):
        logits = W @ ((N / root).T[:, labels] + rest)
        found.append(((logits.argmax(axis=0) == labels) @ members).mean())
    return np.array(found)


def _end_claims(ends: Ends) -> list[Claim]:
    """Every loss ends where it should."""
    where = f"k = {END.num_classes}, margin {MARGIN:g}"
    claims, least = Claims(), float(np.min([own.margins[-1] for own in ends.values()]))
    claims.at_least(f"{where}, all losses: least margin", MARGIN, least)
    for name, family in (
        (
            "weights, logit adjustment, LDAM, focal: distance to SELI",
            runs.WEIGHTINGS | runs.SHIFTS,
        ),
        ("CDT, VS: distance to their own limit", runs.FACTORS),
    ):
        own, statement = [ends[x] for x in family], f"{where}, {name}"
        farthest, astray = np.max([e.distance for e in own]), np.max([e.astray for e in own])
        claims.at_most(f"{statement}, largest of W, H, Z", BOUND / MARGIN, float(farthest))
        statement += ", less the kept row, worst distance from those of the margins, relative"
        claims.at_most(statement, APPROACH, float(astray))
    for name, own in ends.items():
        statement = f"{where}, {name}: cos(w, w') within majorities, within minorities and |w_maj| / |w_min|, worst distance from the limit's"
        numbers = ", ".join(f"{x:.4f}" for x in own.predicted.values())
        claims.at_most(statement, ANGLE / MARGIN, own.off, f"limit {numbers}")
    return claims


def _factor_claims(ends: Ends) -> list[Claim]:
    """CDT and VS end away from SELI, by the distance between the two limits."""
    claims = Claims()
    for name in runs.FACTORS:
        own = ends[name]
        problem = make_problem(own.config)
        seli = geometry.seli(problem.counts)
        both = (
            terminal.limit_state(own.config, problem).distances(seli),
            own.states[-1].distances(seli),
        )
        for part_name, wanted, found in zip(geometry.PARTS, *both, strict=True):
            statement = f"{name}, margin {MARGIN:g}: distance of {part_name} to SELI"
            claims.close(statement, float(wanted), float(found), ANGLE / MARGIN)
    return claims


def _exponent_claims(small: Ends, late: Ends, quick: bool) -> list[Claim]:
    """CDT over its exponent."""
    claims, names = Claims(), ", ".join(small)
    where = f"CDT, g = {names}, start {END.init_scale:g}, margin {MARGIN:g}"
    off = [float(np.max([e.off for e in ends.values()])) for ends in (small, late)]
    if not quick:
        statement = f"{where}: cosines and ratio of norms, worst distance from the limit's"
        claims.at_most(statement, ANGLE / MARGIN, off[0])
        statement = f"{where}: distances to the limit, less the kept row, worst distance from those of the margins, relative"
        astray = np.max([e.astray for e in small.values()])
        claims.at_most(statement, APPROACH, float(astray))
    where = f"CDT, g = {names}, start {LATE.init_scale:g}, margin {LATE_MARGIN:g}"
    statement = f"{where}: cosines and ratio of norms, worst distance from the limit's ({AFTER})"
    claims.at_most(statement, KEPT, off[1])
    statement = f"{where}: distance of Z to the limit, less the kept row, worst distance from that of the margins, relative ({AFTER})"
    astray = np.max([e.astray[-1] for e in late.values()])
    claims.at_most(statement, APPROACH, float(astray))
    apart = []
    for own in small.values():
        seen = own.margins > runs.WIDE_FROM
        wanted = terminal.majority_gaps(
            own.config, make_problem(own.config), own.margins[seen], own.gaps[seen][0]
        )
        apart.append(np.abs(own.gaps[seen] - wanted).max())
    statement = f"CDT, g = {names}, margins {runs.WIDE_FROM:g} to {MARGIN:g}: gap between majorities over the least margin, worst distance from its equation ({AFTER})"
    note = "at the end " + ", ".join(f"{own.gaps[-1]:.3f}" for own in small.values())
    claims.at_most(statement, GAP, float(np.max(apart)), note)
    return claims
