"""What advice says in sentences: a verdict, what it rests on, and what was measured in networks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ssm.advice.runs import AT_ONCE, LARGEST, POWERS, SMALLEST, UNKNOWN, Case, Choice, no_contrasts

NEAR = 0.05  # of an exponent: how near measured ones came, and what is not told apart
# What the experiments `bridge` and `practice` measured in networks, as figures/claims.md has it.
MEASURED_COUPLING = 0.01, 0.42  # least and greatest
CLEAR = 0.1  # coupling from which inverse frequency was best on held-out images
NOTHING = "none. The model has no closed form for these counts and was not run to its end."
MEASURE = "ssm.practice.kernels.measured_coupling(features, labels).coupling"
RATIOS = (
    "Ratios of learning times do not carry over (digits, 130:13 images, coupling 0.42, ERM, minority "
    "over majority: 9.4 in the model, 1.9 in the network)."
)
MEASURED = (
    "Measured in networks: five digits of 60 images against five of 6, four seeds (experiment "
    "`bridge`). Where all layers grow together from a small start, and in a convolutional network (130 "
    f"against 13), training samples of both groups were learned at once within {NEAR:g} of g*; where features hardly "
    f"move, between 2 g* - 1 and g*, give or take {NEAR:g}. " + RATIOS,
    "Held-out images, stopped early: of the exponents 0, 0.5, 1 and 1.5 inverse frequency (`balanced`) "
    "had the best balanced accuracy at couplings of 0.11 and 0.39, whatever g*; at 0.01 and 0.04, where "
    "six images of a class say little of a seventh, it was short of the best by up to 0.14 (experiment "
    "`bridge`).",
    "What weights were worth: digits at 10:1, `balanced` led ERM by 0.67 of held-out minority recall "
    "at step 30 and by 0.01 at the end, where their balanced accuracies were the same within 0.05 and "
    "ERM with probabilities corrected to equal shares did as well. Breast cancer, two classes at 10:1: "
    "a lead of 0.08, which folds do not tell from none (experiment `practice`). Weights are for "
    "training that stops early.",
)


def verdict(counts: Sequence[int], cases: Sequence[Case]) -> str:
    """Which weights to use, how sure that is, and what would change it: three lines, or one."""
    if len(set(counts)) == 1:
        same = "All classes have the same size, so that every weighting is ERM"
        return f"Verdict: use no weights. {same}, whatever the coupling and the loss."
    use = _use_of_one(counts, cases[0]) if len(cases) == 1 else _use_of_several(counts, cases)
    sure, changes = _how_sure(counts, cases), _changes(counts, cases)
    return f"Verdict: {use}\nHow sure: {sure}\nWhat would change it: {changes}"


def open_order(case: Case, choice: Choice, counts: Sequence[int]) -> bool:
    """Whether a network whose features hardly move may learn in another order than the model: its
    balancing exponent, `margin_exponent`, and the model's are on different sides of these weights.
    Two classes balance alike in both."""
    if len(counts) == 2 or choice.order == UNKNOWN or not np.isfinite(case.balance):
        return False
    w, sizes = choice.class_weights, np.array(counts)
    own = np.log(w[sizes.argmin()] / w[sizes.argmax()]) / np.log(max(counts) / min(counts))
    return _side(own, case.margin_exponent) != _side(own, case.balance)


def _side(exponent: float, balance: float) -> str:
    if abs(exponent - balance) <= NEAR:
        return AT_ONCE
    return LARGEST if exponent < balance else SMALLEST


def _use_of_one(counts: Sequence[int], case: Case) -> str:
    """What to use at a coupling."""
    exponent, small = (
        case.balance,
        "the smaller class" if len(counts) == 2 else "the smallest classes",
    )
    if np.isnan(exponent):
        return NOTHING
    orders = {choice.name: choice.order for choice in case.choices}
    use = f"use {_named(exponent)}. In the model {_all_of(counts)} are then learned at once"
    if abs(exponent) > NEAR:
        late = {LARGEST: f"ERM learns {small} last", AT_ONCE: "ERM is close to that"}
        use += f"; {late[orders['ERM']]}" if orders["ERM"] in late else ""
        if _no_sooner(case):
            use += ", yet not later than these learn their last"
    if orders["balanced"] == SMALLEST:
        use += f"; inverse frequency (`balanced`, 1 / n) reverses the order, {small} first"
    return f"{use}."


def _no_sooner(case: Case) -> bool:
    """Whether the weights that balance are known not to learn all classes sooner than ERM."""
    own = case.choices[-1]
    return bool(np.isfinite(own.learning_time).all() and np.isnan(own.ahead_of_erm).all())


def _use_of_several(counts: Sequence[int], cases: Sequence[Case]) -> str:
    """What to use where the coupling is not known."""
    networks = [c for c in cases if _seen(c.coupling) and np.isfinite(c.balance)]
    if not networks:
        return NOTHING
    low, high = (f([c.balance for c in networks]) for f in (min, max))
    if high - low <= 2 * NEAR:
        couplings = " and ".join(f"{case.coupling:g}" for case in networks)
        use = f"use {_named((low + high) / 2)}. In the model {_all_of(counts)} are then learned at once "
        use += f"at couplings of {couplings}"
    else:
        each = "; ".join(f"by {_named(c.balance)} at {c.coupling:g}" for c in networks)
        use = f"measure the coupling of your network first. The model balances {each}"
    free = [c for c in cases if not _seen(c.coupling) and np.isfinite(c.balance)]
    use += "".join(f"; at {c.coupling:g} by {_named(c.balance)}" for c in free)
    return f"{use}, but no network measured had that." if free else f"{use}."


def _how_sure(counts: Sequence[int], cases: Sequence[Case]) -> str:
    sure, case = [], cases[0]
    if len(cases) == 1 and not _seen(case.coupling):
        low, high = MEASURED_COUPLING
        sure.append(
            f"Not very. No network measured here had a coupling of {case.coupling:g}; theirs were "
            f"{low:g} to {high:g} (experiment `bridge`)."
        )
    if len(counts) == 2:
        sure.append(
            "It is the model's word for the margins of two classes. Of networks with two classes only "
            "one was trained (breast cancer, experiment `practice`), where weights led ERM by too "
            "little to tell from none."
        )
    elif no_contrasts(counts):
        sure.append(
            "Less than with several classes in each group: it goes by runs of the model, and no "
            "network with a class alone in its group was measured."
        )
    else:
        sure.append(_range_held(cases))
        if len(set(counts)) > 2:
            sure.append("Only classes of two sizes were measured, no long tail.")
    if len(counts) > 2 and any(_favours_less(case) for case in cases):
        sure.append("Try `balanced` too: it did best on held-out images, as below.")
    sentences = " ".join(sure)
    return sentences[0].lower() + sentences[1:]


def _range_held(cases: Sequence[Case]) -> str:
    """Where networks balance by what was measured, in the numbers of these counts."""
    shown = cases if len(cases) == 1 else [case for case in cases if _seen(case.coupling)]
    ranges = " and ".join(
        f"between {case.margin_exponent:.2f} and {case.balance:.2f}"
        + (f" at {case.coupling:g}" if len(cases) > 1 else "")
        for case in shown
    )
    return (
        "Where networks learned the training samples of both groups at once was as the formulas have "
        f"it (digits, experiment `bridge`), which is here {ranges}: the greater one where all layers "
        "grow together, as in a convolutional network, down to the lesser where features hardly move. "
        "Outside of that range the order of classes is known, inside it is open."
    )


def _all_of(counts: Sequence[int]) -> str:
    return "both classes" if len(counts) == 2 else "the largest and the smallest classes"


def _favours_less(case: Case) -> bool:
    """Whether the model balances by less than what was best on held-out images."""
    return CLEAR <= case.coupling <= MEASURED_COUPLING[1] and case.balance < 1 - NEAR


def _seen(coupling: float) -> bool:
    """Whether networks that were measured had such a coupling, to its last digit."""
    return MEASURED_COUPLING[0] <= coupling <= MEASURED_COUPLING[1] + 0.005


def _named(exponent: float) -> str:
    """Weights at an exponent, by the name of a law that networks do not tell from it."""
    for name, power in POWERS.items():
        if abs(power - exponent) <= NEAR:
            near = "" if abs(power - exponent) < 5e-4 else f" ({exponent:.3g} in the model)"
            if name == "ERM":
                return f"no weights (ERM){near}"
            return f"`{name}` weights, 1 / n^{power:g}{near}"
    return f"weights 1 / n^{exponent:.3g}"


def _changes(counts: Sequence[int], cases: Sequence[Case]) -> str:
    """What would change a verdict."""
    if len(counts) == 2:
        more = "a third class"
    elif no_contrasts(counts):
        more = "a second class in that group"
    else:
        more = "two classes in all, or one that is alone in its group"
    return (
        f"the coupling of your network ({MEASURE}); a loss with margins or adjusted logits, while "
        f"squared and cross-entropy agree in the model; {more}."
    )


def notes(counts: Sequence[int], cases: Sequence[Case], init_scale: float, most: int) -> list[str]:
    """What the numbers are, what they are not, what was measured, and how to stop."""
    said = [
        "This is the word of the small-scale model, in small steps from a start of scale "
        f"{init_scale:g}; times are steps x learning rate, and a class is learned once its mean logit "
        "stands half a target above every other's. They are no prediction of a real network's steps: "
        "what carries over is the order of classes and which weights balance.",
    ]
    if len(set(counts)) == 1:
        said.append(
            "All classes have the same size: every weighting is ERM, and nothing to balance."
        )
        return said
    said += MEASURED
    if len(cases) == 1 and len(counts) <= most:
        said.append(
            "Ahead of ERM: in the model, from when these weights have learned every class until ERM has "
            "too; by training accuracy it has caught up before (experiment `early_stopping`)."
        )
    said.append(
        "When to stop: the model has no time for it, since it gets every training sample right in the "
        "end under any weights; where ERM has caught up is no reason either. Stop a real network by "
        "scores of samples held out, as `ReweightedClassifier(early_stopping=True)` and `ssm study` do."
    )
    if any(open_order(case, choice, counts) for case in cases for choice in case.choices):
        said.append(
            "*: in a network whose features hardly move the order may be another, since it balances at "
            "the exponent of fixed features."
        )
    if len(counts) > most:
        said.append(
            f"The model is run for at most {most} classes"
            f"{' at so many couplings' if len(cases) > 1 else ''}: times are left out, and orders are "
            "those of small starts."
        )
    return said
