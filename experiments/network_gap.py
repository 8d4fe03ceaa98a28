"""Why do learning times of real networks part from the model's?

The balancing exponent carries over to networks (experiment `bridge`); the ratio of learning times does not. Two
questions, 768 networks of one hidden layer and 24 convolutional ones, three minutes.

1. A unit of the weight exponent g moves the ratio of minority over majority learning times by R^-1 in the model, by less
in networks. An ablation over six seeds: inputs whose classes overlap (digits) or are orthogonal, of the same coupling
and size; biases of nothing, of the hidden layer, of the logits or of both; small and standard starts; units that are
rectified, rectified with their gates fixed as at the start, or linear. Seen before, on other seeds (10, 11 and 20): with
linear units biases do nothing, as in the model, and overlap bends the slope at small starts to about a half; with
rectified units biases bend it too, at either start, and do not where gates are fixed. So, claimed:

- linear units, orthogonal classes: -1 to 0.05; biases change no slope of linear units by more than 0.05.
- overlap bends the slope at small starts by a fifth at least, whatever the units (no biases); at standard starts by
  no more than 0.15.
- biases bend the slope of rectified units by at least 0.05 at either start, with either inputs; at standard starts
  those of the hidden layer do, those of the logits by no more than 0.05.
- fixed gates: on digits biases change it by no more than 0.05. At small starts rectified units with biases have the
  slope of fixed gates to 0.1: free gates close towards other classes, which undoes overlap, and a bias, which is
  an input that all classes share, keeps them open.
- each slope of rectified units is held against the model's -1, to 0.1, known to fail where it was bent.

2. The convolutional network of the experiment `digits` under ERM has a ratio of about 3 to 4, the model with its
coupling c from a small start 9.4. The model is given ever more of the network: the size of its start (as `bridge`
measures it) with its optimiser, rate, momentum and batches; kappa_c of each class; all of the tangent kernel K, as
inputs K^(1/2). Each half of six seeds has the digits 5 to 9 or 0 to 4 as its minorities. Claimed, after trials on
seeds 10 to 15 and 20:

- start and optimiser with one c explain half of the logarithm of the gap at least, the kernel with them two thirds;
  what the model then has is 3/4 to 4/3 of the network's ratio, and of each group's steps.
- against gradient descent at a small rate, where momentum compresses nothing, the model with the whole kernel of the
  start still has a ratio at least a quarter larger: the network's kernel moves meanwhile (kappa of contrasts among
  minorities grows by a tenth at least until majorities are learned).
- the contrast between the groups is learned before minorities where minorities are 5 to 9, in the network and in the
  model with all of K: it is not the last. Where they are 0 to 4 it comes later in both (in trials before minorities
  or after them). K puts it closer to the network's than c does.

What the first run added: start and optimiser explain three quarters of the gap, and of these the optimiser nearly all, since
a start of the network's size under the flow has 9.1. Momentum alone should do that, without batches: it has not built up when
majorities are learned, by step 6 or so. Where majorities are learned the kernel has grown too little to explain
what gradient descent has less; most of the growth comes after that, while minorities are still to be learned, as trials on
seeds 10 to 12 and 20 then showed: by half at least.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import get_args

import numpy as np

from experiments import bridge, data, network_gap_runs
from experiments.claims import Claim, Claims, Estimate
from experiments.network_gap_figures import draw
from experiments.network_gap_runs import Cell, Convolutional, Units
from experiments.readings import Report, each, part, spread
from ssm.config.model import Bias

SEEDS = 6
HALVES = {"5 to 9": 0, "0 to 4": 1}  # digits that are minorities
BENT, UNBENT, BARELY = 0.2, 0.05, 0.15  # of the power of R
NEAR = 0.1  # of it
FACTOR = 4 / 3  # of learning times
RUNGS = ("small coupling", "trained coupling", "trained classes", "trained kernel")

Slopes = dict[Cell, np.ndarray]
"""Of each seed."""
Networks = dict[str, list[Convolutional]]
"""Of each half of `HALVES`, one a seed."""


def cells() -> list[Cell]:
    """Every kind of network of the ablation."""
    biases: dict[Units, tuple[Bias, ...]] = dict.fromkeys(get_args(Units), ("none", "both"))
    biases["rectified"] = get_args(Bias)
    return [
        Cell(units, bias, overlap, start)
        for units, own in biases.items()
        for bias, overlap, start in itertools.product(own, (True, False), bridge.STARTS)
    ]


def run(out: Path, quick: bool, report: Report) -> list[Claim]:
    """Draw `network_gap.png`, and judge what bends slopes and what explains ratios."""
    images, labels = data.load_digits()
    seeds = 1 if quick else SEEDS
    slopes: Slopes = {}
    for cell in each(cells(), part(report, 0.0, 0.5)):
        own = [network_gap_runs.slope(cell, images, labels, seed) for seed in range(seeds)]
        slopes[cell] = np.array(own)
    real: Networks = {half: [] for half in HALVES}
    cases = itertools.product(HALVES, range(seeds))
    for half, seed in each(cases, part(report, 0.5, 1.0)):
        own = network_gap_runs.convolutional(images, labels, HALVES[half], seed)
        real[half].append(own)
    draw(out / "network_gap.png", slopes, real)
    return [*_slope_claims(slopes), *_ratio_claims(real), *_cross_claims(real)]


def _slope_claims(slopes: Slopes) -> list[Claim]:
    claims = Claims("power of R per unit of g")

    def less(one: Cell, other: Cell) -> Estimate:
        return Estimate.over_seeds(slopes[one] - slopes[other])

    for start, overlap in itertools.product(bridge.STARTS, (True, False)):
        where = f"{start} start, {_inputs(overlap)}"
        for bias in get_args(Bias):
            own = slopes[Cell("rectified", bias, overlap, start)]
            statement = f"{where}, rectified, biases: {bias}"
            claims.close(statement, -1.0, Estimate.over_seeds(own), NEAR, spread(own, ".2f"))
        plain, biased = (Cell("rectified", bias, overlap, start) for bias in ("none", "both"))
        statement = f"{where}, rectified: with biases less without"
        claims.at_least(statement, UNBENT, less(biased, plain))
        plain, biased = (Cell("linear", bias, overlap, start) for bias in ("none", "both"))
        statement = f"{where}, linear: with biases less without"
        claims.between(statement, (-UNBENT, UNBENT), less(biased, plain), 0.0)
        if not overlap:
            own = Estimate.over_seeds(slopes[plain])
            claims.close(f"{where}, linear, no biases", -1.0, own, UNBENT)
    for units in get_args(Units):
        few, many = (
            less(Cell(units, "none", True, start), Cell(units, "none", False, start))
            for start in ("standard", "small")
        )
        statement = f"{units}, no biases: digits less orthogonal classes"
        claims.at_least(f"small start, {statement}", BENT, many)
        claims.at_most(f"standard start, {statement}", BARELY, few)
    for overlap in (True, False):
        where = f"standard start, {_inputs(overlap)}, rectified"
        plain, hidden, output = (
            Cell("rectified", bias, overlap, "standard") for bias in ("none", "hidden", "output")
        )
        claims.at_least(f"{where}: biases of hidden units less none", UNBENT, less(hidden, plain))
        statement = f"{where}: biases of logits less none"
        claims.between(statement, (-UNBENT, UNBENT), less(output, plain), 0.0)
    for start in bridge.STARTS:
        plain, biased = (Cell("fixed gates", bias, True, start) for bias in ("none", "both"))
        statement = f"{start} start, digits, fixed gates: with biases less without"
        claims.between(statement, (-UNBENT, UNBENT), less(biased, plain), 0.0)
    free, held = (Cell(units, "both", True, "small") for units in ("rectified", "fixed gates"))
    statement = "small start, digits, biases: rectified less fixed gates"
    claims.between(statement, (-NEAR, NEAR), less(free, held), 0.0)
    return claims


def _inputs(overlap: bool) -> str:
    return "digits" if overlap else "orthogonal classes"


def ratios(times: list[np.ndarray]) -> np.ndarray:
    """Minority over majority learning time, each network."""
    own = np.array(times)
    return own[:, 2] / own[:, 0]


def _ratio_claims(real: Networks) -> list[Claim]:
    every = [own for half in real.values() for own in half]
    claims = Claims("convolutional network, ERM")
    network = np.log(ratios([own.trained for own in every]))
    model = {name: np.log(ratios([own.model[name] for own in every])) for name in every[0].model}
    note = f"network {np.exp(network.mean()):.3g}, model " + ", ".join(
        f"{np.exp(model[name].mean()):.3g} ({name})" for name in RUNGS
    )

    def explained(name: str) -> Estimate:
        first = model[RUNGS[0]]

        def share(some: list[int]) -> float:
            gap = first[some].mean() - network[some].mean()
            return float((first[some].mean() - model[name][some].mean()) / gap)

        return Estimate.jackknife(share, len(every))

    words = "share of the log gap to the model of one c and a small start"
    for name, bound, given in (
        (RUNGS[1], 1 / 2, "size of the start and optimiser, one c"),
        (RUNGS[2], 1 / 2, "these, and kappa_c of each class"),
        (RUNGS[3], 2 / 3, "these, and all of K"),
    ):
        claims.at_least(f"{words}, explained by {given}", bound, explained(name), note)
        note = ""
    for name, given in (
        ("flow coupling", "size of the start under the flow"),
        ("momentum coupling", "size of the start and momentum, all samples at each step"),
    ):
        statement = f"{words}, explained by {given}, one c (derived after looking)"
        low = (-0.1, 0.1) if name == "flow coupling" else (0.5, 1.0)
        claims.between(statement, low, explained(name), 0.0)
    own = Estimate.geometric(np.exp(model[RUNGS[3]] - network))
    words = "the model with start, optimiser and K over the network"
    claims.between(f"{words}: ratio of times", (1 / FACTOR, FACTOR), own, 0.0)
    for group, i in (("majorities", 0), ("minorities", 2)):
        steps = [own.model[RUNGS[3]][i] / own.trained[i] for own in every]
        statement = f"{words}: steps until {group} are learned"
        claims.between(statement, (1 / FACTOR, FACTOR), Estimate.geometric(steps), 0.0)
    slow = np.log(ratios([own.descended for own in every]))
    more = Estimate.geometric(np.exp(model["flow kernel"] - slow))
    note = f"network {np.exp(slow.mean()):.3g}, model " + ", ".join(
        f"{np.exp(model[name].mean()):.3g} ({name})"
        for name in ("flow coupling", "flow classes", "flow kernel")
    )
    statement = "gradient descent at a small rate: the model with start and K over the network, ratio of times"
    claims.at_least(statement, 1.25, more, note)
    grown = np.array([own.growth for own in every])
    words = "gradient descent at a small rate: kappa of contrasts among minorities"
    for where, i, bound in (
        ("majorities are learned", 0, 1.1),
        ("they are learned themselves (derived after looking)", 1, 1.5),
    ):
        note = f"among majorities {np.exp(np.log(grown[:, i, 0]).mean()):.2f}"
        statement = f"{words} where {where}, over that at the start"
        claims.at_least(statement, bound, Estimate.geometric(grown[:, i, 1]), note)
    return claims


def _cross_claims(real: Networks) -> list[Claim]:
    claims = Claims("convolutional network, ERM, contrast between the groups")
    trained = {half: np.log([own.trained for own in some]) for half, some in real.items()}
    model = {
        name: {half: np.log([own.model[name] for own in some]) for half, some in real.items()}
        for name in RUNGS
    }
    first, second = HALVES
    for who, times in (("network", trained), ("model with K", model[RUNGS[3]])):
        before = Estimate.geometric(np.exp(times[first][:, 1] - times[first][:, 2]))
        note = "majority, cross, minority at " + _shown(times[first])
        statement = f"steps of the {who}, minorities {first}: over the minorities' own"
        claims.at_most(statement, 1.0, before, note)
    for who, times in (("network", trained), ("model with K", model[RUNGS[3]])):
        later = Estimate.geometric(np.exp(times[second][:, 1] - times[first][:, 1]))
        statement = f"steps of the {who}, minorities {second} over {first}"
        note = f"minorities {second}: majority, cross, minority at " + _shown(times[second])
        claims.at_least(statement, 1.0, later, note)
    network = np.concatenate([times[:, 1] for times in trained.values()])
    off = {
        name: np.abs(np.concatenate([times[:, 1] for times in model[name].values()]) - network)
        for name in (RUNGS[1], RUNGS[3])
    }
    statement = "distance of the model's log steps from the network's, with K over with one c"
    over = Estimate.jackknife(
        lambda x: float(off[RUNGS[3]][x].mean() / off[RUNGS[1]][x].mean()), len(network)
    )
    claims.at_most(statement, 1.0, over)
    return claims


def _shown(log_steps: np.ndarray) -> str:
    """Geometric means over seeds, in words."""
    return ", ".join(f"{x:.1f}" for x in np.exp(log_steps.mean(axis=0)))
