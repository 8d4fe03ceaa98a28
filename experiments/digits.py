"""Does a real network do what the model does?

A 3-layer convolutional network on handwritten digits, 10:1, cross-entropy (ERM) against weighted. Claimed
before the run: when ERM's majorities are learned its minorities are not; weights get both groups there in
a third of ERM's steps; most of the lead is gone at the end; and the network's minority block lags behind
its majority block at least twice as far under ERM as under weights. It takes 20 seconds: five seeds of
1000 steps under each loss.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from experiments import data
from experiments import digits_figures as figures
from experiments.claims import Claim, Claims, Estimate
from experiments.digits_network import METHODS, Config, Outcome, drawn, outcomes, recall
from experiments.readings import GROUPS, Report, part

ERM, WEIGHTED = METHODS
QUICK = {"seeds": (0, 1), "num_steps": 100, "confusion_steps": (10, 20, 40, 100), "num_sparse": 5}


def first_passing(steps: np.ndarray, level: float, *curves: np.ndarray) -> float:
    """First of the evaluated `steps` (t,) at which every curve (t,) is at least `level`; infinity
    if none is."""
    reached = np.min(curves, axis=0) >= level
    return float(steps[reached.argmax()]) if reached.any() else np.inf


def make_claims(config: Config, results: dict[str, Outcome]) -> list[Claim]:
    """The claims: on curves of recall averaged over seeds, and on learning times averaged over
    seeds."""
    steps, num_seeds = config.evaluation_steps(), len(results[ERM].confusion)
    curves = {method: recall(result.confusion, config) for method, result in results.items()}
    every = list(range(num_seeds))

    def mean(method: str, name: str, seeds: list[int]) -> np.ndarray:
        return curves[method][name][seeds].mean(axis=0)

    def passing(seeds: list[int]) -> tuple[float, float]:
        """The step at which ERM's majorities pass 0.97, and its minority recall there."""
        majority, minority = (mean(ERM, group, seeds) for group in GROUPS)
        step = first_passing(steps, 0.97, majority)
        return step, float(minority[steps == step][0]) if np.isfinite(step) else np.nan

    def both(method: str, level: float, seeds: list[int]) -> float:
        """The step at which both groups reach a level."""
        return first_passing(steps, level, *(mean(method, group, seeds) for group in GROUPS))

    def over_erm(seeds: list[int]) -> float:
        return both(WEIGHTED, 0.9, seeds) / min(both(ERM, 0.9, seeds), config.num_steps)

    def gap(seeds: list[int]) -> np.ndarray:
        weighted, erm = (mean(method, "balanced accuracy", seeds) for method in (WEIGHTED, ERM))
        return weighted - erm

    def last_over_largest(seeds: list[int]) -> float:
        return float(abs(gap(seeds)[-1]) / np.abs(gap(seeds)).max())

    def delay(method: str, seeds: list[int]) -> float:
        times = results[method].learning_time[seeds]
        return float(np.mean(times[:, 2] / times[:, 0]))

    where, claims = "held-out recall, mean over seeds", Claims()
    alone = [passing([seed]) for seed in every]
    statement = "ERM's minority recall when its majority's first passes 0.97 (held-out, each seed at its own passing, mean)"
    note = "steps " + ", ".join(f"{step:g}" for step, _ in alone)
    claims.at_most(statement, 0.5, Estimate.over_seeds([minority for _, minority in alone]), note)
    statement = f"the same on the mean curves ({where})"
    measured = Estimate.jackknife(lambda seeds: passing(seeds)[1], num_seeds)
    claims.at_most(statement, 0.5, measured, f"step {passing(every)[0]:g}")
    statement = f"steps until majority and minority reach 0.9, weighted CE over ERM ({where}; {config.num_steps} for an ERM that never does)"
    note = "; ".join(
        f"to {level:g}: {both(WEIGHTED, level, every):g} over {both(ERM, level, every):g}"
        for level in (0.9, 0.85, 0.8)
    )
    claims.at_most(statement, 1 / 3, Estimate.jackknife(over_erm, num_seeds), note)
    whole = gap(every)
    largest = np.abs(whole).argmax()
    statement = f"balanced accuracy, weighted CE minus ERM: last step over largest ({where})"
    note = f"{whole[-1]:.3f} over {whole[largest]:.3f} at step {steps[largest]}"
    claims.at_most(statement, 0.25, Estimate.jackknife(last_over_largest, num_seeds), note)
    statement = "learning time of the minority block over the majority's, ERM over weighted CE (training logits, ratios averaged over seeds)"
    ratio = Estimate.jackknife(lambda seeds: delay(ERM, seeds) / delay(WEIGHTED, seeds), num_seeds)
    note = f"{delay(ERM, every):.3g} over {delay(WEIGHTED, every):.3g}"
    claims.at_least(statement, 2, ratio, note)
    return claims


def run(out: Path, quick: bool, report: Report) -> list[Claim]:
    """Train, draw recall, spectrum and confusion as figures and confusion as a film too; return the
    claims."""
    config = Config(**(QUICK if quick else {}))
    draw = functools.partial(drawn, config, *data.load_digits())
    results = outcomes(dict.fromkeys(METHODS, config), draw, part(report, 0.0, 0.9))
    figures.draw_all(out, "digits", config, results)
    report(1.0)
    return make_claims(config, results)
