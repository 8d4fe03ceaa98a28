"""How do reweighting and early stopping fight over minorities whose labels are noisy?

The problem of `held_out_setting` (four classes, R = 10, ten samples a minority, as many dimensions of noise as samples, signal 2), in
which a share f of the training samples, of all classes alike, is given the label of another class at random. Held-out samples are clean:
accuracy is by the law of their logits. Weights are inverse frequencies of the *given* labels, as one has them, or of the *true* classes,
as nobody has. `held_out_data` asks of wrong labels whether stopping early pays, of balanced accuracy under weights of given labels up to f =
0.2. New here: whose wrong labels are memorised when, what that costs which group, weights of true classes, best times, and f up to 0.4.

At R = 10 noise is a minority's affair: with f = 0.1 a minority class keeps 9 of its samples and is given 7 of others, nearly all of
majorities, and weights of given labels raise these as much as its own. In the early phase a sample's own direction grows with its
weight. Claimed before any run, of five draws:

1. Early, minority recall is raised by weights of given labels: where they are within 0.01 of their best balanced accuracy it is above
   ERM's then by 0.1 at least for f up to 0.1, and by 0.05 at 0.2.
2. Memorising (half of the wrong labels fitted): those that name a minority are memorised earlier under weights of given labels than
   under ERM, by a factor of 0.8 at most for f of 0.05 to 0.2; wrong labels of samples that are a minority's, most of which name a majority, later than
   under ERM, and under weights of true classes earlier, by a factor of 0.8 at most.
3. Stopping: under weights of given labels balanced accuracy is best earlier than under ERM, for every f; what is lost from there to the end
   (t = 10^4) ascends with f under both, and from f = 0.1 on is more under weights than under ERM.
4. Paying: with each stopped at its best, weights of given labels are ahead of ERM in balanced accuracy for f up to 0.1, what they gain falls with f,
   and between f = 0.2 and 0.4 they cease to pay; not stopped, they have lost all of their lead (0.02 at most is left) from f = 0.1 on.
   Weights of true classes, each stopped at its best, are no worse than those of given labels at f = 0.2.

What failed, and why (found after looking; the level 0.5 is of then too, and so is that half is counted as memorised from when on it stays so: at
first the first time was read, which a start at chance can pass by itself). ERM has hardly a time in which minorities are learned and wrong labels are
not: it calls nearly all of them majorities until t = 60, learns them when it memorises wrong labels, and so has nothing to lose by training on
up to f = 0.2; weights open that window. So noise makes them pay more, not less, up to f of 0.2 to 0.3, and what they pay hangs on stopping: a third to
half of it is left at the end. At 0.4, where ERM at its best knows majorities alone, what is gained is within its interval, and at 0.5 it is none. And a
minority's samples with wrong labels are of two kinds: those that name a majority fit for nothing under ERM, which calls them that anyway,
and late under weights, as was claimed of all; those that name the other minority come earlier. It takes half a minute.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

import ssm
from experiments.claims import Claims, Estimate
from experiments.held_out_setting import NEAR, setting
from experiments.label_noise_figures import draw
from experiments.readings import Report

LEVELS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
WEIGHTINGS = ("ERM", "given", "true")
FIRST_SEED, SEEDS = 300, 5
END = 1e4
CONFIG = dataclasses.replace(
    setting(10, 1, 2.0),
    clock="time",
    stop_margin=None,
    t1=END,
    save_spacing="log",
    num_saves=160,
    save_state=True,
)


class Run(NamedTuple):
    """What one weighting makes of one draw."""

    times: Float[np.ndarray, " t"]
    recall: Float[np.ndarray, "t k"]
    """Of fresh samples with their true classes."""
    memorised: Float[np.ndarray, "3 t"]
    """Share of wrong labels that are fitted: of those that name a minority, of a minority's samples, and of those of them that
    name a majority; NaN where there are none."""

    @property
    def balanced(self) -> Float[np.ndarray, " t"]:
        """Balanced accuracy."""
        return self.recall.mean(axis=1)

    @property
    def minority(self) -> Float[np.ndarray, " t"]:
        """Recall of the minorities."""
        return self.recall[:, CONFIG.num_classes // 2 :].mean(axis=1)

    @property
    def nearly_best(self) -> int:
        """Where balanced accuracy is first within `NEAR` of its best."""
        return int((self.balanced >= self.balanced.max() - NEAR).argmax())

    @property
    def lost(self) -> float:
        """Best balanced accuracy over that at the end."""
        return float(self.balanced.max() - self.balanced[-1])

    def half_memorised(self, which: int) -> float:
        """From when on at least half of them are, which some are by chance at the start; NaN where that is never."""
        below = np.flatnonzero(self.memorised[which] < 0.5)
        first = max(1, below[-1] + 1 if below.size else 0)
        return float(self.times[first]) if first < len(self.times) else np.nan


def given_labels(true: np.ndarray, level: float, seed: int) -> np.ndarray:
    """Labels of which a share is another class's; the same samples and more at a higher level."""
    rng = np.random.default_rng([seed, 5])
    wrong = rng.random(len(true)) < level
    other = rng.integers(1, CONFIG.num_classes, len(true))
    return np.where(wrong, (true + other) % CONFIG.num_classes, true)


def follow(level: float, weighting: str, seed: int) -> Run:
    """One run, on inputs and from a start that only the seed changes."""
    config = dataclasses.replace(CONFIG, seed=seed)
    X, true = ssm.mixture_inputs(config)
    given = given_labels(true, level, seed)
    k = config.num_classes
    weights = np.ones(len(true))
    if weighting != "ERM":
        named = given if weighting == "given" else true
        weights = 1 / np.bincount(named, minlength=k)[named]
    # Weights of samples whose own class is the true one, of which the mixture is made, are all that changes with the labels.
    one = ssm.simulate(
        config, targets=np.eye(k)[given], labels=true, sample_weights=weights / weights.mean()
    )
    fitted = (one["W"].values @ (one["A"].values @ X.T)).argmax(axis=1) == given
    wrong, rare = given != true, k // 2
    of_rare = wrong & (true >= rare)
    which = (wrong & (given >= rare), of_rare, of_rare & (given < rare))
    memorised = [
        fitted[:, own].mean(axis=1) if own.any() else fitted[:, 0] * np.nan for own in which
    ]
    return Run(one["time"].values, one["held_out_accuracy"].values, np.array(memorised))


Found = dict[tuple[float, str], list[Run]]


def run(out: Path, quick: bool, report: Report) -> Claims:
    """Draw `label_noise.png`, and make the claims."""
    levels = (0.0, 0.2) if quick else LEVELS
    seeds = range(FIRST_SEED, FIRST_SEED + (2 if quick else SEEDS))
    found: Found = {}
    cases = [(level, name) for level in levels for name in WEIGHTINGS]
    for i, case in enumerate(cases):
        found[case] = [follow(*case, seed) for seed in seeds]
        report((i + 1) / len(cases))
    claims = Claims()
    for level in levels:
        claims.scenario = f"{100 * level:g} % of labels wrong"
        _claim_level(claims, level, *(found[level, name] for name in WEIGHTINGS))
    claims.scenario = "over levels of noise"
    _claim_order(claims, levels, found)
    draw(out / "label_noise.png", levels, found)
    return claims


def _over(values: Any) -> Estimate:
    return Estimate.over_seeds(list(values))


def _claim_level(
    claims: Claims, level: float, erm: list[Run], given: list[Run], true: list[Run]
) -> None:
    pairs = list(zip(erm, given, strict=True))
    if level <= 0.2:
        early = [b.minority[i := b.nearly_best] - a.minority[i] for a, b in pairs]
        statement = "given, nearly best: minority recall over ERM's then"
        claims.at_least(statement, 0.1 if level <= 0.1 else 0.05, _over(early))
    if 0 < level <= 0.2:
        sooner = _sooner(0, erm, given)
        statement = "given over ERM: time to memorise wrong labels that name a minority"
        claims.at_most(statement, 0.8, _over(sooner))
        later = _sooner(1, erm, given)
        statement = "given over ERM: time to memorise wrong labels of a minority's samples"
        claims.at_least(statement, 1.0, _over(later))
        sooner = _sooner(1, erm, true)
        if level == 0.2:
            logs = np.log(_sooner(2, erm, given))
            statement = "given over ERM: log of the time to memorise those of them that name a majority (claimed after looking)"
            claims.at_least(statement, 0.0, _over(logs))
        statement = "true over ERM: time to memorise wrong labels of a minority's samples"
        claims.at_most(statement, 0.8, _over(sooner))
    if level > 0.4:
        return
    when = [np.log(b.times[b.balanced.argmax()] / a.times[a.balanced.argmax()]) for a, b in pairs]
    best = [
        np.exp(np.mean([np.log(one.times[one.balanced.argmax()]) for one in own]))
        for own in (erm, given)
    ]
    note = f"best at t = {best[0]:.3g} and {best[1]:.3g}, geometric means"
    claims.at_most("given over ERM: log of the best time", 0.0, _over(when), note)
    if level >= 0.1:
        statement = "given less ERM: balanced accuracy lost from the best to the end"
        note = f"{np.mean([b.lost for b in given]):.3f} and {np.mean([a.lost for a in erm]):.3f}"
        claims.at_least(statement, 0.0, _over(b.lost - a.lost for a, b in pairs), note)
        left = [b.balanced[-1] - a.balanced[-1] for a, b in pairs]
        claims.at_most("given over ERM at the end, balanced accuracy", 0.02, _over(left))
    if level <= 0.1:
        statement = "given over ERM, each at its best, balanced accuracy"
        claims.at_least(statement, 0.0, _over(gain(erm, given)))
    if level == 0.2:
        statement = "true over given, each at its best, balanced accuracy"
        claims.at_least(statement, 0.0, _over(gain(given, true)))


def _sooner(which: int, first: list[Run], second: list[Run]) -> list[float]:
    """When the second has memorised half of some wrong labels over when the first has, in each draw that has any."""
    pairs = [
        (a, b) for a, b in zip(first, second, strict=True) if np.isfinite(a.memorised[which, 0])
    ]
    return [b.half_memorised(which) / a.half_memorised(which) for a, b in pairs]


def gain(first: list[Run], second: list[Run]) -> np.ndarray:
    """Best balanced accuracy of the second over the first's, by seed."""
    return np.array(
        [b.balanced.max() - a.balanced.max() for a, b in zip(first, second, strict=True)]
    )


def _claim_order(claims: Claims, levels: tuple[float, ...], found: Found) -> None:
    words = [f"{100 * level:g} %" for level in levels]
    for name in ("ERM", "given"):
        lost = [[one.lost for one in found[level, name]] for level in levels]
        claims.ascending(f"{name}: balanced accuracy lost from the best to the end", words, lost)
    gains = [gain(found[level, "ERM"], found[level, "given"]) for level in levels]
    statement = "given over ERM, each at its best: what is gained falls with noise"
    claims.ascending(statement, words[::-1], gains[::-1])
    if 0.4 in levels:
        crossing = [_first_zero(levels, own) for own in np.transpose(gains)]
        statement = "share of wrong labels from which on weights do not pay, each at its best"
        claims.between(statement, (0.2, 0.4), _over(crossing), 0.0)


def _first_zero(levels: tuple[float, ...], gains: np.ndarray) -> float:
    """Where gains first fall to 0, between levels by a straight line; NaN where they never do."""
    below = np.flatnonzero(gains <= 0)
    if not below.size:
        return np.nan
    i = int(below[0])
    return (
        levels[0]
        if i == 0
        else float(np.interp(0, gains[[i, i - 1]], np.array(levels)[[i, i - 1]]))
    )
