"""The small-scale model for given class counts at one coupling: in which order its classes are learned under
each choice of weights, and which weights let it learn the extreme sizes at once. Under cross-entropy that is exact;
under the squared loss it is read off runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from ssm import simulation
from ssm.config import Config, profiles
from ssm.measures import spectral
from ssm.problem import Problem, make_problem, weights
from ssm.theory import class_flow, defaults, exact, growth, predictions
from ssm.theory.in_networks import AT_ONCE, NEAR, order_of_times

# The model is followed for at most this many classes, divided by the number of couplings, so that advice
# takes seconds.
MOST_CLASSES = 100
# A run is repeated over this share of its length where it learns a class before its first observation.
EARLIER = 1e-3
SAME = 5e-4  # Exponents that differ by less than this are printed alike.
# The most steps of a run; those of a long tail under cross-entropy take about a second.
MOST_STEPS = 10_000
# The most exponents that are tried in search of the one at which the model balances.
MOST_ATTEMPTS = 4
POWERS = {"ERM": 0.0, "sqrt": 0.5, "balanced": 1.0}  # exponents of power laws that have a name
# The relative error of a learning time, which is read from a straight line between two observed times.
READ_OFF = 5e-3
UNKNOWN = "-"  # printed in place of what is not known

Floats = Float[np.ndarray, " k"]


@dataclasses.dataclass(frozen=True)
class Choice:
    """One way to weigh the classes, and what the model says of it."""

    name: str
    """`ERM`, a name of `weights.NAMED`, or the source of the exponent of a fitted power law:
    `g*` for contrasts, `margins` for two classes, `run` for the model itself."""
    law: str
    """The formula of w_c, as it is printed."""
    exponent: float
    """g of the power law w_c ~ n_c^-g; NaN for `effective`, which is none."""
    class_weights: Floats
    """w_c, of unit mean over samples."""
    mean_sample_weight: float
    """(1/n) sum_c n_c w_c, which multiplies the learning rate."""
    effective_sample_share: float
    """The share of the samples that an average with these weights is worth (Kish)."""
    pull: Floats
    """How hard each class pulls at zero logits, as a share of the pulls of all: its part of
    |G K^(1/2)|, which is in proportion to w_c sqrt(n_c kappa_c). With N = H K^(-1/2) the flow is
    plain gradient flow, dW/dt = -G K^(1/2) N^T and dN/dt = -W^T G K^(1/2), so that this is what a
    class contributes to both. With free features it is the class's share of dL/dZ, the
    `gradient_share` of a run of the model; with shared features it is in proportion to w_c n_c."""
    learning_time: Floats
    """When each class is learned in the model: when its mean logit stands half a target above
    that of every other class. NaN where that is not known. Ratios of these times do not carry over to
    networks."""
    contrast_time: Floats
    """When the classes of one size are half told apart from each other in the model, in closed form
    (`predictions.predicted_learning_times`). NaN for a class that no other equals in size."""
    order: str
    """Which of the largest and the smallest classes the model learns first: `largest first`,
    `smallest first`, or `together` where the ratio of their times is within `in_networks.TOGETHER`. Where the model
    does not say, the order is that of the pulls, to which times are inverse in the limit of small
    starts; for two classes it is then `-`."""
    ahead_of_erm: tuple[float, float]
    """From when to when these weights are ahead of ERM in the model: from the time at which all
    classes are learned under them to the time at which all are under ERM. NaN where they are not
    sooner than ERM. It is not a time at which to stop training."""


@dataclasses.dataclass(frozen=True)
class Case:
    """What the model says at one coupling."""

    coupling: float
    """c, how far training a sample moves the other samples of its class."""
    balancing_exponent: float
    """g* of w_c ~ n_c^-g at which contrasts among the largest and among the smallest classes grow
    alike (`theory.balancing_exponent`); NaN where there are none, as `Advice.no_contrasts` says."""
    margin_exponent: float
    """The exponent at which the margins of two classes grow alike, and those of any number of classes
    where features hardly move: log(kappa_maj / kappa_min) / log R (`theory.margin_exponent`)."""
    run_exponent: float
    """The exponent at which the model learns the largest and the smallest classes at once, read from
    straight lines between log ratios of times: those at g = 0, 1/2 and 1, and those at fitted exponents
    where these did not learn both at once. NaN where a run does not say."""
    balance: float
    """The exponent at which the model balances: the closed form where there is one (g*, or that of the
    margins of two classes), and `run_exponent` elsewhere."""
    choices: tuple[Choice, ...]
    """Every choice of weights that was looked at, ERM first and fitted power laws last."""
    recommended: Choice | None
    """The choice whose own `order` is `together`: a power law with a name if its exponent is within
    `NEAR` of the last fitted one, else the fitted one itself. For two classes of which a run does not say,
    the closed form of margins. None where no fitted power law balances."""


def at_coupling(base: Config, most: int, done: Callable[[float], None]) -> tuple[Case, list[str]]:
    """What the model says at the coupling of `base`, and a sentence for each choice of weights of which
    something is left out.

    Args:
        base: a Config with the counts, the coupling and the loss.
        most: the model is followed for at most this many classes.
        done: called with the share of the work that is done.
    """
    counts, coupling = base.class_counts, base.coupling
    extremes, of_two = (max(counts), min(counts)), len(counts) == 2
    contrasts = (
        np.nan
        if profiles.no_contrasts(counts)
        else float(growth.balancing_exponent(*extremes, coupling))
    )
    margins = float(growth.margin_exponent(*extremes, coupling))
    closed = margins if of_two else contrasts
    laws = {"ERM": "1", "balanced": "1 / n", "sqrt": "1 / n^0.5"}
    laws |= {"effective": "1 / (1 - b^n), b = 1 - 1/N"}
    if extremes[0] == extremes[1]:
        laws = {"ERM": "1"}
    choices: dict[str, Choice] = {}
    delays: dict[float, float] = {}
    incomplete: dict[str, str] = {}

    def look_at(name: str, law: str, exponent: float) -> Choice:
        choice, incomplete[name] = _choice(name, law, exponent, base, most, choices.get("ERM"))
        choices[name] = choice
        delays[exponent] = delay(choice.learning_time, counts)
        done(min(len(choices) / 6, 1.0))
        return choice

    for name, law in laws.items():
        look_at(name, law, POWERS.get(name, np.nan))
    attempt = run_exponent = _crossing(delays)
    best = None
    if np.isfinite(closed):
        best = look_at("margins" if of_two else "g*", f"1 / n^{closed:.3g}", closed)
    # The exponent that balances contrasts, or at which straight lines cross, need not be the one at which the model itself
    # learns all classes at once: large imbalance and starts that are not small move the latter.
    for _ in range(MOST_ATTEMPTS):
        if not np.isfinite(attempt) or (best and best.order in (AT_ONCE, UNKNOWN)):
            break
        run_exponent = attempt
        best = look_at("run", f"1 / n^{attempt:.3g}", attempt)
        attempt = _crossing(delays)
    done(1.0)
    case = Case(
        coupling=coupling,
        balancing_exponent=contrasts,
        margin_exponent=margins,
        run_exponent=run_exponent,
        balance=closed if np.isfinite(closed) else run_exponent,
        choices=tuple(choices.values()),
        recommended=_recommended(choices, best),
    )
    return case, [f"Coupling {coupling:g}, {text}" for text in incomplete.values() if text]


def _recommended(choices: Mapping[str, Choice], best: Choice | None) -> Choice | None:
    """The choice to use in place of the fitted one that balances best, or none, as `Case` says."""
    if best is None or best.order not in (AT_ONCE, UNKNOWN):
        return None
    for name, power in POWERS.items():
        away = abs(power - best.exponent)
        # Under practically the same weights the model's result holds too, even where it has none.
        if (away <= NEAR and choices[name].order == AT_ONCE) or away < SAME:
            return choices[name]
    return best


def _choice(
    name: str, law: str, exponent: float, base: Config, most: int, erm: Choice | None
) -> tuple[Choice, str]:
    """What the model says of one weighting, and a sentence on what is left out, or an empty text."""
    named = name if name in weights.NAMED else None
    settings: dict[str, object] = {"init": "spectral", "feature_dim": len(base.class_counts) - 1}
    settings |= {"class_weights": named, "weight_exponent": 0.0 if named else exponent}
    config = dataclasses.replace(base, **settings)
    problem = make_problem(config)
    n, w, k = problem.counts, problem.class_weights, len(problem.counts)
    learned, contrasts, incomplete = np.full(k, np.nan), np.full(k, np.nan), ""
    if k <= most:
        contrasts = _contrast_times(config, problem)
        learned, status = _learned(config, problem)
        if np.isnan(learned).any():
            incomplete = f"{name}: a dash where {status} did not get to it."
    ahead = np.nan, np.nan
    if erm is not None and learned.max() < (1 - READ_OFF) * erm.learning_time.max():
        ahead = float(learned.max()), float(erm.learning_time.max())
    rates = growth.class_growth_rates(problem)  # in proportion to w sqrt(n kappa)
    choice = Choice(
        name=name,
        law=law,
        exponent=exponent,
        class_weights=w,
        mean_sample_weight=weights.mean_sample_weight(n, w),
        effective_sample_share=weights.effective_sample_share(n, w),
        pull=rates / rates.sum(),
        learning_time=learned,
        contrast_time=contrasts,
        order=_order(learned, rates, config.class_counts),
        ahead_of_erm=ahead,
    )
    return choice, incomplete


def _learned(config: Config, problem: Problem) -> tuple[Floats, str]:
    """When the model has learned each class, and the reason where that is not known."""
    if config.loss == "squared":
        times, status = _learning_times(config, defaults.automatic_t1(config, problem))
        return times, f"the run of the model ({status})"
    if len(set(config.class_counts)) == 2:
        times = exact.cross_entropy_class_times(problem, config.init_scale**2)
        return times[(problem.class_groups == profiles.MINORITY).astype(int)], "the model"
    start, components = predictions.mean_start(config, problem), spectral.components(problem)
    steps = {"most_steps": MOST_STEPS}
    times = class_flow.class_learning_times(problem, components, *start, **steps)
    return times, f"the model in {MOST_STEPS} steps"


def _learning_times(config: Config, t1: float) -> tuple[Floats, str]:
    """When a run of the model that ends at `t1` has learned each class, and the status it ended with."""
    run = simulation.simulate(
        dataclasses.replace(config, t1=t1, save_state=True, save_spacing="log", num_saves=400)
    )
    # The features have one column for each class: the product has axes [time, logit, class].
    logits = run["W"].values @ run["H"].values
    diagonal = np.eye(len(config.class_counts), dtype=bool)
    ahead = logits[:, diagonal] - np.where(diagonal, -np.inf, logits).max(axis=1)
    times, learned = run["time"].values, spectral.learning_times(run["time"].values, ahead)
    if (learned < times[1]).any():
        learned = np.where(learned < times[1], _learning_times(config, EARLIER * t1)[0], learned)
    return learned, run.attrs["status"]


def _contrast_times(config: Config, problem: Problem) -> Floats:
    """When each class is half told from those of its size; NaN where no other class has its size."""
    components = spectral.components(problem)
    predicted = predictions.predicted_learning_times(config, problem, components)
    times = np.full(len(problem.counts), np.nan)
    for size in np.unique(problem.counts):
        equals = problem.counts == size
        among = np.abs(components.left[~equals]).max(axis=0, initial=0) == 0
        times[equals] = predicted[among][0] if among.any() else np.nan
    return times


def delay(learning_time: Floats, counts: Sequence[int]) -> float:
    """The time at which the last of the smallest classes is learned, over that of the last of the
    largest; NaN where one of these is not known."""
    sizes = np.array(counts)
    smallest, largest = sizes == sizes.min(), sizes == sizes.max()
    return float(learning_time[smallest].max() / learning_time[largest].max())


def _order(learned: Floats, rates: Floats, counts: Sequence[int]) -> str:
    """The order of the largest and the smallest classes in words, as `Choice.order` has it."""
    ratio = delay(learned, counts)
    if np.isnan(ratio) and len(counts) == 2:
        return UNKNOWN
    if np.isnan(ratio):
        ratio = delay(1 / rates, counts)
    return order_of_times(ratio)


def _crossing(delays: Mapping[float, float]) -> float:
    """The exponent at which log ratios of times pass 0: on a straight line between the two neighbours on
    either side of it or, past the ends, through the nearest two. NaN where ratios do not fall.

    Args:
        delays: the ratio `delay` at each exponent; those that are not finite do not count.
    """
    known = [
        (g, np.log(ratio)) for g, ratio in sorted(delays.items()) if np.isfinite([g, ratio]).all()
    ]
    if len(known) < 2:
        return np.nan
    first = next((i for i in range(len(known) - 1) if known[i + 1][1] <= 0), len(known) - 2)
    (low, a), (high, b) = known[first : first + 2]
    return float(low + (high - low) * a / (a - b)) if a > b else np.nan
