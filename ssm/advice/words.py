"""Advice in sentences: a verdict, how sure it is, what would change it, and what was measured in
networks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ssm.advice.runs import POWERS, SAME, UNKNOWN, Case, Choice, delay
from ssm.config import profiles
from ssm.theory.in_networks import (
    ALONE,
    AT_ONCE,
    LARGEST,
    NEAR,
    RATIOS,
    SMALLEST,
    TOGETHER,
    TWO_CLASSES,
    exponent_between_extremes,
    side,
)

# Numbers that the experiments `bridge` and `practice` measured in networks, as figures/claims.md has them.
MEASURED_COUPLING = 0.01, 0.41  # the least and the greatest coupling of a network that was measured
CLEAR = 0.1  # From this coupling on, inverse frequency did best on held-out images.
NOTHING = "none. The model has no closed form for these counts and was not followed to its end."
MEASURE = "ssm.practice.kernels.measured_coupling(features, labels).coupling"
MEASURED = (
    "Measured in networks: five digits of 60 images against five of 6, six seeds (experiment "
    "`bridge`). Where all layers grow together from a small start, training samples of both groups were "
    f"learned at once within {NEAR:g} of g*; where features hardly move, and in a convolutional network (130 "
    f"against 13; mean over seeds), between 2 g* - 1 and g*, give or take {NEAR:g}. Single convolutional networks balanced at 0.80 "
    "to 1.21, as the kernel of their own contrasts had it. " + RATIOS,
    "Held-out images, with training stopped early: of the exponents 0, 0.5, 1 and 1.5 inverse frequency (`balanced`) "
    "had the best balanced accuracy at couplings of 0.11 and 0.38, whatever g*; at 0.01 and "
    "0.04, where six images of a class say little of a seventh, it was short of the best by up to 0.12 (experiment "
    "`bridge`).",
    "What weights were worth: digits at 10:1, `balanced` led ERM by 0.62 of held-out minority recall "
    "at step 13 and by less than 0.01 at the end, where their balanced accuracies were the same within 0.05 and "
    "that of ERM with probabilities corrected to equal shares was no more than 0.02 behind (0.01 higher, 95 % interval "
    "-0.01 to 0.04). Breast cancer, 28 samples against 280, 50 draws: a lead of 0.28 at step 7, and stopping paid, as "
    "balanced accuracy fell by 0.02 to the end (experiment `practice`). Weights are for "
    "training that stops early.",
)

INSTEAD = (
    "train without weights and divide probabilities by the class shares before you decide. On 18 real tables, for all of whose counts "
    "inverse weights are the nearest to what this advice says, that did as well or better: in balanced accuracy, inverse weights "
    "with the most probable class came to -0.003 beside it with a network (95 % -0.013 to +0.004), -0.002 with logistic "
    "regression (-0.015 to +0.009), -0.011 with boosted trees (-0.021 to -0.002) and -0.073 with random forests (-0.120 to "
    "-0.031; rows 12, 3, 6 and 9 of benchmarks/practice.md). It costs accuracy over all cases: -0.059 with the network "
    "(-0.096 to -0.028; row 41). What weights change and this does not is how soon classes are learned."
)


def verdict(counts: Sequence[int], cases: Sequence[Case], loss: str) -> str:
    """Which weights to use, how sure that is, what would change it, and what does as well: four lines, or one where all
    classes have the same size."""
    if len(set(counts)) == 1:
        same = "All classes have the same size, so that every weighting is ERM"
        return f"Verdict: use no weights. {same}, whatever the coupling and the loss."
    common = _common(cases)
    use = _use_of_one(counts, cases[0])
    if len(cases) > 1:
        use = _use_of_several(counts, cases, common)
    sure, changes = _how_sure(counts, cases, common), _changes(counts, cases, loss)
    lines = f"Verdict: {use}", f"How sure: {sure}", f"What would change it: {changes}"
    return "\n".join([*lines, f"Instead of weights: {INSTEAD}"])


def has_open_order(case: Case, choice: Choice, counts: Sequence[int]) -> bool:
    """Whether networks may learn the extreme sizes in another order than the model does under these
    weights. Networks balanced between `margin_exponent`, where their features hardly move, and the
    model's exponent, each give or take `NEAR`: the order is known for weights on one side of both.
    Two classes balance alike in both."""
    if len(counts) == 2 or choice.order == UNKNOWN or not np.isfinite(case.balance):
        return False
    exponent = exponent_between_extremes(np.array(counts), choice.class_weights)
    sides = {side(exponent, balance) for balance in (case.margin_exponent, case.balance)}
    return len(sides) > 1 or choice.order not in (*sides, AT_ONCE)


def _use_of_one(counts: Sequence[int], case: Case) -> str:
    """Which weights to use at one coupling."""
    if case.recommended is None:
        if np.isnan(case.balance):
            return NOTHING
        return f"none. No weights 1 / n^g that were tried balance in the model: {_nearest(counts, case)}."
    orders = {name: choice.order for name, choice in by_name(case).items()}
    small = _small(counts)
    use = f"use {_weights(counts, case, case.recommended)}. {_at_once(counts, [case.recommended])}"
    if case.recommended.name != "ERM" and orders["ERM"] in (LARGEST, AT_ONCE):
        is_late = orders["ERM"] == LARGEST
        use += f"; ERM learns {small} last" if is_late else "; ERM is close to that"
        if _is_no_sooner(case.recommended):
            use += f", {'yet' if is_late else 'and'} has learned all classes no later than these weights"
    if orders["balanced"] == SMALLEST:
        does = f"reverses the order, {small} first"
        if orders["ERM"] != LARGEST:
            does = f"learns {small} first"
        use += f"; inverse frequency (`balanced`, 1 / n) {does}"
    return f"{use}.{_how_to_set([case])}"


def _use_of_several(counts: Sequence[int], cases: Sequence[Case], common: str) -> str:
    """Which weights to use where the coupling is not known, and `common` to those of networks, if any."""
    networks = [case for case in cases if _is_measured(case.coupling)]
    free = [case for case in cases if not _is_measured(case.coupling) and np.isfinite(case.balance)]
    if all(np.isnan(case.balance) for case in networks):
        return NOTHING
    if common:
        couplings = " and ".join(f"{case.coupling:g}" for case in networks)
        choices = [by_name(case)[common] for case in networks]
        exponents = " and ".join(
            f"{case.choices[-1].exponent:.3g} at {case.coupling:g}" for case in networks
        )
        use = f"use {_named(choices[0])} ({exponents} in the model). {_at_once(counts, choices)} "
        use += f"at couplings of {couplings}"
    else:
        each = [f"{_balanced_by(counts, case)} at {case.coupling:g}" for case in networks]
        use = f"measure the coupling of your network first. The model balances {'; '.join(each)}"
    use += "".join(f"; at {case.coupling:g} {_balanced_by(counts, case)}" for case in free)
    use += ", but no network measured had that." if free else "."
    return use + _how_to_set([*free, *([] if common else networks)])


def _common(cases: Sequence[Case]) -> str:
    """The name of the one weighting to use at every coupling that networks had: under it the model
    learns both sizes at once, and the exponents it stands for are near each other, and it near their
    middle. An empty text where there is none, or only one coupling."""
    networks = [case for case in cases if _is_measured(case.coupling)]
    if len(cases) == 1 or any(case.recommended is None for case in networks):
        return ""
    fitted = [case.choices[-1].exponent for case in networks]
    for name, power in POWERS.items():
        is_near = abs(power - (min(fitted) + max(fitted)) / 2) <= NEAR
        orders = {by_name(case)[name].order for case in networks}
        if is_near and max(fitted) - min(fitted) <= 2 * NEAR and orders == {AT_ONCE}:
            return name
    return ""


def by_name(case: Case) -> dict[str, Choice]:
    """The choices of weights at one coupling."""
    return {choice.name: choice for choice in case.choices}


def _how_to_set(cases: Sequence[Case]) -> str:
    """How to set recommended weights that have no name, as a last sentence."""
    if all(case.recommended is None or case.recommended.name in POWERS for case in cases):
        return ""
    return (
        " Set weights 1 / n^g by `weight_exponent` g of a `Config`, or elsewhere as "
        "`ssm.weights.power_law(counts, g)`."
    )


def _balanced_by(counts: Sequence[int], case: Case) -> str:
    """The weights that balance at the coupling of a case, after `the model balances`."""
    if case.recommended is not None:
        return f"by {_weights(counts, case, case.recommended)}"
    if np.isnan(case.balance):
        return "by weights that are not known, since it was not followed to its end,"
    return f"by none of the weights that were tried ({_nearest(counts, case)})"


def _weights(counts: Sequence[int], case: Case, choice: Choice) -> str:
    """The recommended choice by its name or its exponent, with the fitted exponent that it stands for and
    a closed form that does not balance in brackets."""
    fitted, remarks = case.choices[-1], []
    if abs(fitted.exponent - choice.exponent) >= SAME:
        remarks.append(f"{fitted.exponent:.3g} in the model")
    remarks += [
        f"at the closed form, 1 / n^{closed.exponent:.3g}, it learns {_first(counts, closed)} first"
        for closed in case.choices
        if closed.name in ("g*", "margins") and closed is not fitted
    ]
    return _named(choice) + (f" ({'; '.join(remarks)})" if remarks else "")


def _named(choice: Choice) -> str:
    """Weights by their name, if they have one, and their exponent."""
    if choice.name == "ERM":
        return "no weights (ERM)"
    if choice.name in POWERS:
        return f"`{choice.name}` weights, 1 / n^{choice.exponent:g}"
    return f"weights 1 / n^{choice.exponent:.3g}"


def _at_once(counts: Sequence[int], choices: Sequence[Choice]) -> str:
    """The claim that weights balance, and whether the model itself says so or closed forms alone."""
    both = "both classes" if len(counts) == 2 else "the largest and the smallest classes"
    source = "In the model"
    if np.isnan([delay(choice.learning_time, counts) for choice in choices]).any():
        source = "By the closed form of growth from a small start"
    return f"{source} {both} are then learned at once"


def _nearest(counts: Sequence[int], case: Case) -> str:
    """The fitted weights that come nearest to balance without reaching it."""
    nearest = case.choices[-1]
    return f"the nearest, 1 / n^{nearest.exponent:.3g}, learn {_first(counts, nearest)} first"


def _first(counts: Sequence[int], choice: Choice) -> str:
    """The classes that a choice which does not balance learns first."""
    if choice.order == SMALLEST:
        return _small(counts)
    return "the larger class" if len(counts) == 2 else "the largest classes"


def _small(counts: Sequence[int]) -> str:
    return "the smaller class" if len(counts) == 2 else "the smallest classes"


def _is_no_sooner(choice: Choice) -> bool:
    """Whether weights are known not to learn all classes sooner than ERM."""
    return bool(np.isfinite(choice.learning_time).all() and np.isnan(choice.ahead_of_erm).all())


def _how_sure(counts: Sequence[int], cases: Sequence[Case], common: str) -> str:
    """What a verdict rests on, where `common` are the weights that it has for every network, if any."""
    sentences, case = [], cases[0]
    if len(cases) == 1 and not _is_measured(case.coupling):
        low, high = MEASURED_COUPLING
        sentences.append(
            f"Not very. No network measured here had a coupling of {case.coupling:g}; theirs were "
            f"{low:g} to {high:g} (experiment `bridge`)."
        )
    if len(counts) == 2:
        sentences.append(f"It rests on the model's margins of two classes. {TWO_CLASSES}")
    elif profiles.no_contrasts(counts):
        sentences.append(
            "Less sure than with several classes in each group: it rests on the model itself, without a closed form, and "
            f"{ALONE}."
        )
    else:
        sentences.append(_measured_range(cases))
        if len(set(counts)) > 2:
            sentences.append("Only classes of two sizes were measured, no long tail.")
    favouring_less = [case for case in cases if _favours_less(case)]
    if len(counts) > 2 and favouring_less and common != "balanced":
        couplings = " and ".join(f"{case.coupling:g}" for case in favouring_less)
        where = "Try" if len(cases) == 1 else f"At a coupling of {couplings} try"
        sentences.append(f"{where} `balanced` too: it did best on held-out images, as below.")
    text = " ".join(sentences)
    return text[0].lower() + text[1:]


def _measured_range(cases: Sequence[Case]) -> str:
    """The exponents between which networks balanced in experiments, worked out for these counts."""
    shown = cases if len(cases) == 1 else [case for case in cases if _is_measured(case.coupling)]
    ranges = " and ".join(
        f"between {case.margin_exponent:.2f} and {case.balance:.2f}"
        + (f" at {case.coupling:g}" if len(cases) > 1 else "")
        for case in shown
    )
    return (
        "Networks learned the training samples of both groups at once where the formulas have it "
        f"(digits, experiment `bridge`), which is here {ranges}: at the greater exponent where all layers "
        "grow together, and down to the lesser where features hardly move. "
        f"Further than {NEAR:g} outside of that range the order of classes is known; nearer to it, and "
        "inside, it is open."
    )


def _favours_less(case: Case) -> bool:
    """Whether the model balances by less than the weights that did best on held-out images at such
    couplings, and these are not recommended anyway."""
    is_clear = CLEAR <= case.coupling <= MEASURED_COUPLING[1]
    is_balanced = case.recommended is not None and case.recommended.name == "balanced"
    return is_clear and case.balance < 1 - NEAR and not is_balanced


def _is_measured(coupling: float) -> bool:
    """Whether networks that were measured had such a coupling, to its last printed digit."""
    return MEASURED_COUPLING[0] <= coupling <= MEASURED_COUPLING[1] + 0.005


def _changes(counts: Sequence[int], cases: Sequence[Case], loss: str) -> str:
    """What would change a verdict."""
    if len(counts) == 2:
        more = "a third class"
    elif profiles.no_contrasts(counts):
        more = "a second class in that group"
    else:
        more = "two classes in all, or one that is alone in its group"
    name, flag = {
        "squared": ("cross-entropy", "--loss cross_entropy"),
        "cross_entropy": ("the squared loss", "--loss squared"),
    }[loss]
    if all(case.choices[-1].name in ("g*", "margins") for case in cases):
        other = (
            f"{name} (`{flag}`), which has the same closed form for the exponent that balances, while "
            "its times, and the orders with them, may differ"
        )
    else:
        other = f"{name} (`{flag}`), which balances at an exponent of its own"
    return (
        f"the coupling of your network ({MEASURE}); {other}; a loss with margins or adjusted logits; "
        f"{more}."
    )


def notes(counts: Sequence[int], cases: Sequence[Case], init_scale: float, most: int) -> list[str]:
    """What the numbers are, what they are not, what was measured, and how to stop.

    Args:
        counts: samples of each class.
        cases: what the model says at each coupling.
        init_scale: the scale of its start.
        most: the model was followed for at most this many classes.
    """
    sentences = [
        "This is what the small-scale model says, trained in small steps from a start of scale "
        f"{init_scale:g}; times are steps x learning rate, and a class is learned once its mean logit "
        "stands half a target above every other's. They are no prediction of a real network's steps: "
        "what carries over is the order of classes and which weights balance.",
    ]
    if len(set(counts)) == 1:
        sentences.append(
            "All classes have the same size: every weighting is ERM, and nothing to balance."
        )
        return sentences
    sentences.append(
        "The largest and the smallest classes are learned at once, or together, where the times of the "
        f"last class of either size differ by a factor of at most {TOGETHER:g}."
    )
    sentences += MEASURED
    if len(cases) == 1 and len(counts) <= most:
        sentences.append(
            "Ahead of ERM: in the model, from when these weights have learned every class until ERM has "
            "too; by training accuracy ERM has caught up before that (experiment `early_stopping`)."
        )
    sentences.append(
        "When to stop: the model has no time for it, since it gets every training sample right in the "
        "end under any weights; that ERM has caught up is no reason either. Stop a real network by its "
        "scores on held-out samples, as `ReweightedClassifier(early_stopping=True)` and `ssm study` do."
    )
    if any(has_open_order(case, choice, counts) for case in cases for choice in case.choices):
        sentences.append(
            "*: networks may learn these classes in another order. Where their features hardly move they "
            "balance at the exponent of fixed features, and all that were measured balanced within "
            f"{NEAR:g} of the range between that exponent and the model's."
        )
    if len(counts) > most:
        sentences.append(
            f"The model is followed for at most {most} classes"
            f"{' at so many couplings' if len(cases) > 1 else ''}: times are left out, and orders are "
            "those in the limit of small starts."
        )
    return sentences
