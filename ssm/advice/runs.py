"""What the small-scale model says of class counts at one coupling: under which weights its classes
are learned in which order, and at which exponent at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from ssm import simulation
from ssm.config import Config, profiles
from ssm.measures import spectral
from ssm.problem import Problem, make_problem, weights
from ssm.theory import growth, predictions

MOST_CLASSES = 100  # of which the model is run, over the number of couplings: seconds
EARLIER = 1e-3  # of a run's length, for what it learns before it is first observed
# Times within a fourth are called equal: random starts scatter so much (experiment `early_training`).
TOGETHER = 1.25
POWERS = {"ERM": 0.0, "sqrt": 0.5, "balanced": 1.0}  # weights with a name that are a power law
LARGEST, SMALLEST, AT_ONCE = "largest first", "smallest first", "together"
READ_OFF = 5e-3  # how far a time may be off that is read from a line between two observed ones
UNKNOWN = "-"

Floats = Float[np.ndarray, " k"]


@dataclasses.dataclass(frozen=True)
class Choice:
    """One way to weigh the classes, and what the model says of it."""

    name: str
    """`ERM`, a name of `weights.NAMED`, or the power law at the balancing exponent: `g*`, where
    contrasts have none `margins` of two classes, or `run`, what runs of the model say."""
    law: str
    """w_c in words."""
    class_weights: Floats
    """w_c, of unit mean over samples."""
    mean_sample_weight: float
    """(1/n) sum_c n_c w_c, a factor of the learning rate."""
    effective_sample_share: float
    """Of the samples (Kish): what unequal weights leave of them."""
    pull: Floats
    """How hard each class pulls at zero logits, as a share of the pulls of all: its part of
    |G K^(1/2)|, which is in proportion to w_c sqrt(n_c kappa_c). With N = H K^(-1/2) the flow is
    plain gradient flow, dW/dt = -G K^(1/2) N^T and dN/dt = -W^T G K^(1/2), so that this is what a
    class brings to both. Free features: its share of dL/dZ, the `gradient_share` of a run of the
    model; shared ones: w_c n_c."""
    learning_time: Floats
    """When each class is learned in a run of the model: its mean logit half a target above that of
    every other class. NaN where that is not known. Ratios do not carry over to networks."""
    contrast_time: Floats
    """When classes of its own size are half told apart in the model, in closed form
    (`predictions.predicted_learning_times`). NaN for a class that has no equal."""
    order: str
    """Which of the largest and the smallest classes the model learns first: `largest first`,
    `smallest first`, or `together`, within a fourth of each other's time. Where the run does not say,
    by the pulls, to which times are inverse from small starts; of two classes then `-`."""
    ahead_of_erm: tuple[float, float]
    """From when to when these weights are ahead of ERM in the model: from all classes learned under
    them until all are under ERM. NaN where they are not the sooner. No time to stop at."""


@dataclasses.dataclass(frozen=True)
class Case:
    """What the model says at one coupling."""

    coupling: float
    """c, how far training a sample moves its classmates."""
    balancing_exponent: float
    """g* of w_c ~ n_c^-g at which contrasts among the largest and among the smallest classes grow
    alike (`theory.balancing_exponent`); NaN where there are none, as `Advice.no_contrasts` says."""
    margin_exponent: float
    """The same for the margins of two classes, and for any classes where features hardly move:
    log(kappa_maj / kappa_min) / log R (`theory.margin_exponent`)."""
    run_exponent: float
    """The same for the run of the model: where the largest and the smallest classes are learned at
    once, by straight lines between log ratios of times at g = 0, 1/2 and 1. NaN without a run."""
    balance: float
    """The one to go by: g*; where there is none that of the run, without which two classes go by
    their margins and others have none."""
    choices: tuple[Choice, ...]
    """ERM first."""


def no_contrasts(counts: Sequence[int]) -> str:
    """Why no g* of contrasts exists for these counts; empty where it does.

    A group is the head or the tail of the sizes (`profiles.class_groups`). Classes of one size have
    contrasts that grow at their rate r_c, and two of unequal size one between theirs, so that g* is
    meant for long tails too; but one class alone has none.
    """
    groups = profiles.class_groups(counts)
    if len(set(counts)) == 1:
        return "all classes have the same size"
    if len(counts) == 2:
        return "each of two classes is alone in its group, with no other to be told from within it"
    alone = [name for name in (profiles.MAJORITY, profiles.MINORITY) if groups.count(name) == 1]
    if not alone:
        return ""
    size = counts[groups.index(alone[0])]
    return f"the {alone[0]} is one class ({size} samples), with no other to be told from within it"


def at_coupling(base: Config, most: int, done: Callable[[float], None]) -> tuple[Case, list[str]]:
    """What the model says at the coupling of `base`, and why it leaves something out, if it does.

    Args:
        base: its counts, coupling and loss.
        most: classes of which the model is run.
        done: called with the share of the work done.
    """
    counts, coupling = base.class_counts, base.coupling
    extremes, reason = (max(counts), min(counts)), no_contrasts(counts)
    contrasts = np.nan if reason else growth.balancing_exponent(*extremes, coupling)
    margins = growth.margin_exponent(*extremes, coupling)
    laws = {"ERM": "1", "balanced": "1 / n", "sqrt": "1 / n^0.5"}
    laws |= {"effective": "1 / (1 - b^n), b = 1 - 1/N"}
    if extremes[0] == extremes[1]:
        laws = {"ERM": "1"}
    choices: list[Choice] = []
    notes = []

    def add(name: str, law: str, exponent: float) -> None:
        named = name if name in weights.NAMED else None
        settings: dict[str, Any] = {"class_weights": named, "weight_exponent": exponent}
        settings |= {"init": "spectral", "feature_dim": len(counts) - 1}
        config = dataclasses.replace(base, **settings)
        choice, left_out = _choice(name, law, config, most, choices[0] if choices else None)
        choices.append(choice)
        notes.extend([f"Coupling {coupling:g}, {left_out}"] if left_out else [])
        done(len(choices) / 5)

    for name, law in laws.items():
        add(name, law, 0.0)
    by_run = _run_exponent(choices, counts)
    balance, name, exponent = contrasts, "g*", contrasts
    if reason and len(counts) == 2:
        balance, name, exponent = by_run if np.isfinite(by_run) else margins, "margins", margins
    elif reason:
        balance, name, exponent = by_run, "run", by_run
    if np.isfinite(exponent):
        add(name, f"1 / n^{exponent:.3g}", exponent)
    done(1.0)
    return Case(coupling, contrasts, margins, by_run, balance, tuple(choices)), notes


def _choice(
    name: str, law: str, config: Config, most: int, erm: Choice | None
) -> tuple[Choice, str]:
    """What the model says of one weighting, and why it leaves something out, if it does."""
    problem = make_problem(config)
    n, w, k = problem.counts, problem.class_weights, len(problem.counts)
    learned, contrasts, left_out = np.full(k, np.nan), np.full(k, np.nan), ""
    if k <= most:
        contrasts = _contrast_times(config, problem)
        learned, status = _learning_times(config, predictions.automatic_t1(config, problem))
        if np.isnan(learned).any():
            left_out = f"{name}: a dash where the run of the model ({status}) did not get to it."
    ahead = np.nan, np.nan
    if erm is not None and learned.max() < (1 - READ_OFF) * erm.learning_time.max():
        ahead = float(learned.max()), float(erm.learning_time.max())
    rates = growth.class_growth_rates(problem)  # in proportion to w sqrt(n kappa)
    choice = Choice(
        name=name,
        law=law,
        class_weights=w,
        mean_sample_weight=weights.mean_sample_weight(n, w),
        effective_sample_share=weights.effective_sample_share(n, w),
        pull=rates / rates.sum(),
        learning_time=learned,
        contrast_time=contrasts,
        order=_order(learned, rates, config.class_counts),
        ahead_of_erm=ahead,
    )
    return choice, left_out


def _learning_times(config: Config, t1: float) -> tuple[Floats, str]:
    """When a run of the model has learned each class, and how it ended."""
    run = simulation.simulate(
        dataclasses.replace(config, t1=t1, save_state=True, save_spacing="log", num_saves=400)
    )
    logits = run["W"].values @ run["H"].values  # [time, logit, class]: features stand for classes
    itself = np.eye(len(config.class_counts), dtype=bool)
    ahead = logits[:, itself] - np.where(itself, -np.inf, logits).max(axis=1)
    times, learned = run["time"].values, spectral.learning_times(run["time"].values, ahead)
    if (learned < times[1]).any():
        learned = np.where(learned < times[1], _learning_times(config, EARLIER * t1)[0], learned)
    return learned, run.attrs["status"]


def _contrast_times(config: Config, problem: Problem) -> Floats:
    """When each class is half told from those of its size; NaN where it has no equal."""
    components = spectral.components(problem)
    times = predictions.predicted_learning_times(config, problem, components)
    found = np.full(len(problem.counts), np.nan)
    for size in np.unique(problem.counts):
        equals = problem.counts == size
        among = np.abs(components.left[~equals]).max(axis=0, initial=0) == 0
        found[equals] = times[among][0] if among.any() else np.nan
    return found


def _delay(learned: Floats, counts: Sequence[int]) -> float:
    """Time of the last of the smallest classes over that of the last of the largest."""
    sizes = np.array(counts)
    return float(learned[sizes == sizes.min()].max() / learned[sizes == sizes.max()].max())


def _order(learned: Floats, rates: Floats, counts: Sequence[int]) -> str:
    """Of the largest and the smallest classes, in words."""
    delay = _delay(learned, counts)
    if np.isnan(delay) and len(counts) == 2:
        return UNKNOWN
    if np.isnan(delay):
        delay = _delay(1 / rates, counts)
    if 1 / TOGETHER <= delay <= TOGETHER:
        return AT_ONCE
    return LARGEST if delay > 1 else SMALLEST


def _run_exponent(choices: Sequence[Choice], counts: Sequence[int]) -> float:
    """Where the runs' log ratios of times pass 0, linearly between two exponents or, past the ends,
    from the nearest two."""
    by_name = {choice.name: choice for choice in choices}
    if len(by_name) == 1:
        return np.nan
    g = list(POWERS.values())
    delays = [np.log(_delay(by_name[name].learning_time, counts)) for name in POWERS]
    first = 0 if delays[1] <= 0 or np.isnan(delays[2]) else 1
    a, b = delays[first], delays[first + 1]
    return float(g[first] + (g[first + 1] - g[first]) * a / (a - b)) if a > b else np.nan
