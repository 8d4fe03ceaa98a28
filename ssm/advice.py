"""What the small-scale model says of a data set from its class counts: when each class is learned
under ERM and under weights, which weights balance, what they cost, and when to stop."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float

from ssm import checks, predictions, simulation, spectral, theory, weights
from ssm.config import Config
from ssm.problem import Problem, make_problem

if TYPE_CHECKING:
    from rich.table import Table

MOST_CLASSES = 100  # of which the model is run: seconds in all
MOST_SIZES = 6  # shown of a long list of class sizes
EARLIER = 1e-3  # of a run's length, for what it learns before it is first observed
UNKNOWN = "-"

Floats = Float[np.ndarray, " k"]


@dataclasses.dataclass(frozen=True)
class Choice:
    """One way to weigh the classes, and what the model says of it."""

    name: str
    """`ERM`, a name of `weights.NAMED`, or `g*`, the power law at the balancing exponent."""
    law: str
    """w_c in words."""
    class_weights: Floats
    """w_c, of unit mean over samples."""
    mean_sample_weight: float
    """(1/n) sum_c n_c w_c, a factor of the learning rate."""
    effective_sample_share: float
    """Of the samples (Kish): what unequal weights leave of them."""
    gradient_share: Floats
    """Of each class in the gradient at the start: its part of dL/dZ over the sum of those of all."""
    learning_time: Floats
    """When each class is learned in a run of the model: its mean logit half a target above that of
    every other class. NaN where that is not known."""
    contrast_time: Floats
    """When classes of its own size are half told apart, in closed form
    (`predictions.predicted_learning_times`). NaN for a class that has no equal."""
    window: tuple[float, float]
    """When to stop: from all classes learned under these weights until all are under ERM. NaN where
    these weights are not the sooner."""

    @property
    def slowest_over_fastest(self) -> float:
        """Ratio of learning times."""
        return float(self.learning_time.max() / self.learning_time.min())


@dataclasses.dataclass(frozen=True)
class Advice:
    """What the model says of some class counts."""

    counts: tuple[int, ...]
    coupling: float
    loss: str
    imbalance_ratio: float
    """R, the largest count over the smallest."""
    balancing_exponent: float
    """g* of w_c ~ n_c^-g at which contrasts of the largest and of the smallest classes grow alike;
    NaN for equal counts."""
    choices: tuple[Choice, ...]
    """ERM first."""
    notes: tuple[str, ...]
    """What the numbers are, what they are not, and why some are left out."""

    @property
    def unit(self) -> float:
        """ERM's first learning time, which others are told in."""
        return float(self.choices[0].learning_time.min())


def advise(
    counts: Sequence[int],
    coupling: float = 0.0,
    loss: Literal["cross_entropy", "squared"] = "cross_entropy",
    progress: Callable[[float], None] | None = None,
) -> Advice:
    """What the model says of a data set with `counts` samples a class.

    Learning times are those of runs of the model from a spectral start (every contrast alike) of
    scale 1e-3, which holds all samples of a class in one column, so that it costs the same whatever
    their number; rates, g* and contrast times are closed forms of `theory` and `predictions`. Times
    are flow time, steps x learning rate.

    Args:
        counts: samples n_c of each class, at least two classes; of over 100 the model is not run.
        coupling: c in [0, 1], how far training a sample moves its classmates
            (`practice.kernels.measured_coupling` measures it).
        loss: of a sample.
        progress: called with the share of the work done.

    Raises ssm.InputError for anything else.
    """
    checks.choice("loss", loss, ("cross_entropy", "squared"))
    allowed = "samples of at least two classes, positive integers, as 5000, 500, 50"
    if len(checks.items("counts", counts, allowed)) < 2:
        raise checks.refuse("counts", counts, allowed)
    base = Config(profile="custom", counts=tuple(counts), coupling=coupling, loss=loss)
    counts = base.class_counts
    k, largest, smallest = len(counts), max(counts), min(counts)
    exponent = theory.balancing_exponent(largest, smallest, base.coupling)
    laws = {"ERM": "1", "balanced": "1 / n", "sqrt": "1 / n^0.5"}
    laws |= {"effective": "1 / (1 - 0.999^n)", "g*": f"1 / n^{exponent:.3g}"}
    if largest == smallest:
        laws = {"ERM": "1"}
    choices, notes = [], []
    for i, (name, law) in enumerate(laws.items()):
        settings: dict[str, Any] = {"class_weights": name if name in weights.NAMED else None}
        settings |= {"weight_exponent": exponent} if name == "g*" else {}
        config = dataclasses.replace(base, **settings, init="spectral", feature_dim=k - 1)
        choice, left_out = _choice(name, law, config, choices[0] if choices else None)
        choices.append(choice)
        notes += [left_out] if left_out else []
        if progress is not None:
            progress((i + 1) / len(laws))
    ratio = largest / smallest
    told = _notes(choices, base) + notes
    return Advice(counts, base.coupling, loss, ratio, exponent, tuple(choices), tuple(told))


def _choice(name: str, law: str, config: Config, erm: Choice | None) -> tuple[Choice, str]:
    """What the model says of one weighting, and why it leaves something out, if it does."""
    problem = make_problem(config)
    n, w, k = problem.counts, problem.class_weights, len(problem.counts)
    learned, contrasts, left_out = np.full(k, np.nan), np.full(k, np.nan), ""
    if k <= MOST_CLASSES:
        contrasts = _contrast_times(config, problem)
        learned, status = _learning_times(config, predictions.automatic_t1(config, problem))
        if np.isnan(learned).any():
            left_out = f"{name}: {UNKNOWN} where the run of the model ({status}) did not get to it."
    window = np.nan, np.nan
    if erm is not None and learned.max() < erm.learning_time.max():
        window = float(learned.max()), float(erm.learning_time.max())
    pull = w * np.sqrt(n)  # |softmax - label| is the same for all samples at zero logits
    choice = Choice(
        name=name,
        law=law,
        class_weights=w,
        mean_sample_weight=weights.mean_sample_weight(n, w),
        effective_sample_share=weights.effective_sample_share(n, w),
        gradient_share=pull / pull.sum(),
        learning_time=learned,
        contrast_time=contrasts,
        window=window,
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


def _notes(choices: Sequence[Choice], config: Config) -> list[str]:
    k, counts = len(config.class_counts), config.class_counts
    said = [
        "Times are those of the small-scale model: gradient-descent steps x learning rate, small "
        f"steps, from a start of scale {config.init_scale:g}. A class is learned once its mean logit "
        "stands half a target above every other's. They are no prediction of a real network's steps; "
        "what may carry over is the order of classes, ratios of times, and which weights balance.",
    ]
    if len(choices) == 1:
        said.append(
            "All classes have the same size: every weighting is ERM, and nothing to balance."
        )
    else:
        said.append(
            "Stop between: from when the weights have learned every class until ERM has too. The model "
            "gets every training sample right in the end under any weights, so all that is lost by "
            "going on is the advantage; a real network may overfit its few minority samples on the "
            "way, so stop it by the held-out recall of its worst class. "
            f"{UNKNOWN}: no sooner than ERM."
        )
        exponent = theory.balancing_exponent(max(counts), min(counts), config.coupling)
        said.append(
            "g* is for networks whose layers have to grow together from a small start; one whose "
            f"features hardly move balances at 2 g* - 1 = {2 * exponent - 1:.3g}, a real one between "
            "the two (experiment `bridge`)."
        )
    if k > MOST_CLASSES:
        said.append(f"The model is run for at most {MOST_CLASSES} classes: times are left out.")
    elif any(counts.count(n) == 1 for n in counts):
        said.append("A class that no other equals in size has no contrasts in closed form.")
    return said


def render(advice: Advice) -> list[str | Table]:
    """An Advice as rich prints it: lines and tables, a column for each class size, at most six."""
    from rich.table import Table

    sizes = np.unique(advice.counts)
    shown = np.unique(np.linspace(0, len(sizes) - 1, MOST_SIZES).round().astype(int))[::-1]
    columns = [f"{n} x {advice.counts.count(n)}" for n in sizes[shown].tolist()]
    members = [np.array(advice.counts) == n for n in sizes[shown]]

    def row(values: Floats, form: str = ".4g") -> list[str]:
        return [_number(values[mine].max(), form) for mine in members]

    exposure = Table("weights", "w of a class of n", *columns, "mean w", "effective samples")
    exposure.title = "Class weights (samples x classes)"
    pull = Table("weights", *columns, title="Share of a class in the gradient at the start")
    times = Table("weights", *columns, "slowest / fastest", "stop between")
    times.title = "Learning times (over ERM's first class)"
    contrasts = Table("weights", *columns)
    contrasts.title = "Half told from classes of its own size, closed form"
    for choice in advice.choices:
        share = f"{100 * choice.effective_sample_share:.3g} %"
        mean = f"{choice.mean_sample_weight:.3g}"
        exposure.add_row(choice.name, choice.law, *row(choice.class_weights), mean, share)
        pull.add_row(choice.name, *row(choice.gradient_share, ".1%"))
        relative = [
            own if other == UNKNOWN else f"{own} ({other})"
            for own, other in zip(
                row(choice.learning_time),
                row(choice.learning_time / advice.unit, ".3g"),
                strict=True,
            )
        ]
        slowest, window = choice.slowest_over_fastest, UNKNOWN
        if np.isfinite(choice.window).all():
            window = f"{choice.window[0]:.4g} and {choice.window[1]:.4g}"
        times.add_row(choice.name, *relative, _number(slowest, ".3g"), window)
        contrasts.add_row(choice.name, *row(choice.contrast_time))
    known = any(np.isfinite(choice.contrast_time).any() for choice in advice.choices)
    tables = [exposure, pull, times, *([contrasts] if known else [])]
    return [*_head(advice), *tables, *advice.notes]


def _head(advice: Advice) -> list[str]:
    counts, c = np.array(advice.counts), advice.coupling
    moves = {0.0: "each sample's features move alone", 1.0: "the features of a class move as one"}
    among = "training a sample moves its classmates by this share"
    lines = [
        f"{len(counts)} classes, {counts.sum()} samples, imbalance ratio {advice.imbalance_ratio:.4g}; "
        f"{advice.loss.replace('_', '-')}; coupling {c:g}: {moves.get(c, among)}",
    ]
    if np.isfinite(advice.balancing_exponent):
        lines.append(
            f"balancing exponent g* = {advice.balancing_exponent:.3f}: with weights 1 / n^g* contrasts "
            "of the largest and of the smallest classes grow alike"
        )
    return lines


def _number(value: float, form: str) -> str:
    return format(value, form) if np.isfinite(value) else UNKNOWN
