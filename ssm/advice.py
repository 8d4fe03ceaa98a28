"""What the small-scale model says of a data set from its class counts: when each class is learned
under ERM and under weights, which weights balance, what they cost, and when to stop."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float

from ssm import checks, predictions, profiles, simulation, spectral, theory, weights
from ssm.config import Config
from ssm.problem import Problem, make_problem

if TYPE_CHECKING:
    from rich.table import Table

MOST_CLASSES = 100  # of which the model is run: seconds in all
MOST_SIZES = 6  # shown of a long list of class sizes
EARLIER = 1e-3  # of a run's length, for what it learns before it is first observed
UNKNOWN = "-"
POWERS = {"ERM": 0.0, "sqrt": 0.5, "balanced": 1.0}  # weights with a name that are a power law
# what the experiment `bridge` measured in networks: their coupling, least and greatest, and how near
# their balancing exponents came to the model's
MEASURED_COUPLING = 0.01, 0.42
NEAR = 0.05
ALONE = (
    "A class that is alone in its group (majority or minority) has no contrasts within it to balance, "
    "and no network with one was measured."
)
MEASURE = "ssm.practice.kernels.measured_coupling(features, labels).coupling"

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
    NaN for equal counts. Two classes, or a class alone in its group, have no such contrasts: the
    verdict then goes by other weights."""
    choices: tuple[Choice, ...]
    """ERM first."""
    verdict: str
    """Which weights to use, how sure that is, and what would change it: three lines, or one."""
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
            (`practice.kernels.measured_coupling(features, labels).coupling` of a network's).
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
    laws |= {"effective": "1 / (1 - b^n), b = 1 - 1/N", "g*": f"1 / n^{exponent:.3g}"}
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
    told, verdict = tuple(_notes(choices, base) + notes), _verdict(choices, base)
    return Advice(counts, base.coupling, loss, ratio, exponent, tuple(choices), verdict, told)


def _choice(name: str, law: str, config: Config, erm: Choice | None) -> tuple[Choice, str]:
    """What the model says of one weighting, and why it leaves something out, if it does."""
    problem = make_problem(config)
    n, w, k = problem.counts, problem.class_weights, len(problem.counts)
    learned, contrasts, left_out = np.full(k, np.nan), np.full(k, np.nan), ""
    if k <= MOST_CLASSES:
        contrasts = _contrast_times(config, problem)
        learned, status = _learning_times(config, predictions.automatic_t1(config, problem))
        if np.isnan(learned).any():
            left_out = f"{name}: a dash where the run of the model ({status}) did not get to it."
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


def _verdict(choices: Sequence[Choice], config: Config) -> str:
    """Which weights to use, how sure that is, and what would change it."""
    if len(choices) == 1:
        same = "All classes have the same size, so that every weighting is ERM"
        return f"Verdict: use no weights. {same}, whatever the coupling and the loss."
    exponent = _balance(config, config.coupling)
    if np.isnan(exponent):
        use, sure = _by_run(choices)
    else:
        use, sure = _by_exponent(exponent, len(config.class_counts) == 2)
    if config.coupling == 0:
        sure = (
            "not very. Free features, a coupling of 0, are assumed where none is given, and no network "
            "measured here had them: couplings were {:g} to {:g} (experiment `bridge`)."
        ).format(*MEASURED_COUPLING) + (f" {ALONE}" if np.isnan(exponent) else "")
    return f"Verdict: {use}\nHow sure: {sure}\nWhat would change it: {_changes(exponent, config)}"


def _balance(config: Config, coupling: float) -> float:
    """The exponent at which the model learns the largest and the smallest classes at once: that of
    contrasts within groups, g*; of two classes that of their margins, log(kappa_maj / kappa_min) /
    log R; NaN where a class of more is alone in its group."""
    counts = config.class_counts
    exponent = theory.balancing_exponent(max(counts), min(counts), coupling)
    if len(counts) == 2:
        return 2 * exponent - 1
    return exponent if _has_contrasts(counts) else np.nan


def _has_contrasts(counts: Sequence[int]) -> bool:
    """Whether there are contrasts within the majority and within the minority."""
    groups = profiles.class_groups(counts)
    return min(groups.count(profiles.MAJORITY), groups.count(profiles.MINORITY)) > 1


def _by_exponent(exponent: float, two: bool) -> tuple[str, str]:
    """What to use, and how sure that is, where the model has an exponent for it."""
    small = "the smaller class" if two else "the smallest classes"
    all_of = "both classes" if two else "the largest and the smallest classes"
    if exponent <= NEAR:
        use = f"use no weights (ERM). In the model it learns {all_of} at once"
    else:
        use = f"use {_named(exponent)}. In the model they learn {all_of} at once; ERM learns {small} last"
    if exponent < 1 - 2 * NEAR:
        use += f"; inverse frequency (`balanced`, 1 / n) reverses the order, {small} first"
    if two:
        return f"{use}.", "it is the model's word alone, no network of two classes was measured."
    return f"{use}.", (
        "the order of classes and the exponent held in the networks measured (digits, ten classes; "
        f"experiment `bridge`): within {NEAR} where all layers grow together, as in a convolutional "
        f"one, and down to {2 * exponent - 1:.2f} where features hardly move."
    )


def _by_run(choices: Sequence[Choice]) -> tuple[str, str]:
    """The same where there is only a run of the model to go by."""
    ran = [c for c in choices if c.name != "g*" and np.isfinite(c.slowest_over_fastest)]
    sure = f"less than with several classes in each group. {ALONE}"
    if not ran:
        return (
            "none. The model has no closed form for these counts and was not run to its end.",
            sure,
        )
    best = min(ran, key=lambda choice: choice.slowest_over_fastest)
    use = "no weights (ERM)" if best.name == "ERM" else f"`{best.name}` weights, {best.law}"
    closest = "Of those with a name, the model learns its classes closest together with these"
    return f"use {use}. {closest}.", sure


def _named(exponent: float) -> str:
    """Weights at an exponent, by the name of a law that networks do not tell from it."""
    for name, power in POWERS.items():
        if abs(power - exponent) <= NEAR:
            near = "" if power == exponent else f" ({exponent:.3g} in the model)"
            return f"`{name}` weights, 1 / n^{power:g}{near}"
    return f"weights 1 / n^{exponent:.3g}"


def _changes(exponent: float, config: Config) -> str:
    """What would change a verdict."""
    if np.isnan(exponent):
        return f"the coupling of your network ({MEASURE}), the loss, a second class in that group."
    low, high = (f"1 / n^{_balance(config, c):.2f} at {c:g}" for c in MEASURED_COUPLING)
    classes = "two classes in all, or one that is alone in its group"
    return (
        f"the coupling of your network ({MEASURE}), where these counts balance at {low} and at {high}; "
        "a loss with margins or adjusted logits, while squared and cross-entropy agree; "
        f"{'a third class' if len(config.class_counts) == 2 else classes}."
    )


def _notes(choices: Sequence[Choice], config: Config) -> list[str]:
    k, counts = len(config.class_counts), config.class_counts
    said = [
        "Times are those of the small-scale model: gradient-descent steps x learning rate, small "
        f"steps, from a start of scale {config.init_scale:g}. A class is learned once its mean logit "
        "stands half a target above every other's. They are no prediction of a real network's steps: "
        "what carries over is the order of classes and which weights balance; ratios of times do not "
        "(digits at 10:1 and coupling 0.42, ERM, minority over majority: model 9.4, network 1.9).",
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
            "A dash: these weights are not sooner than ERM."
        )
        said.append(_about_exponent(config))
    if k > MOST_CLASSES:
        said.append(f"The model is run for at most {MOST_CLASSES} classes: times are left out.")
    elif 1 < len(set(counts)) < k and any(counts.count(n) == 1 for n in counts):
        said.append(
            "A class whose size no other class shares has no entry in the last table: its contrasts "
            "have no closed form."
        )
    return said


def _about_exponent(config: Config) -> str:
    """What g* is for."""
    if not _has_contrasts(config.class_counts):
        return (
            "The row g* is the power law that balances contrasts within the majority and within the "
            "minority. One class has no contrasts within its group, so go by the verdict instead."
        )
    exponent = _balance(config, config.coupling)
    return (
        "g* is for networks whose layers have to grow together from a small start; one whose "
        f"features hardly move balances at 2 g* - 1 = {2 * exponent - 1:.3g}, a real one between "
        "the two (experiment `bridge`)."
    )


def render(advice: Advice) -> list[str | Table]:
    """An Advice as rich prints it, its verdict first: lines and tables, a column for each class size,
    at most six."""
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
    return [advice.verdict, *_head(advice), *tables, *advice.notes]


def _head(advice: Advice) -> list[str]:
    counts, c = advice.counts, advice.coupling
    moves = {0.0: "each sample's features move alone", 1.0: "the features of a class move as one"}
    among = "training a sample moves its classmates by this share"
    lines = [
        f"{len(counts)} classes, {sum(counts)} samples, imbalance ratio {advice.imbalance_ratio:.4g}; "
        f"{advice.loss.replace('_', '-')}; coupling {c:g}: {moves.get(c, among)}",
    ]
    if _has_contrasts(counts):
        lines.append(
            f"balancing exponent g* = {advice.balancing_exponent:.3f}: with weights 1 / n^g* contrasts "
            "of the largest and of the smallest classes grow alike"
        )
    return lines


def _number(value: float, form: str) -> str:
    return format(value, form) if np.isfinite(value) else UNKNOWN
