"""Strategies against imbalance by name, each as parameters of `ReweightedClassifier`, and the variants of
them that ablations and sensitivity analyses need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ssm.practice.network.batches import Mixup
from ssm.practice.options import NETWORK, OWN, SMOTE, WEIGHTS
from ssm.practice.study import models
from ssm.practice.study.attributes import Ablation, Sensitivity
from ssm.problem import weights
from ssm.problem.schedules import (
    CappedUnitMean,
    Chain,
    LinearRamp,
    PrevalencePower,
    Ramp,
    Trend,
    UnitMean,
)
from ssm.support import checks, errors

BASELINE = "erm"
TO_THE_END = ", to the end"
LOWEST, HIGHEST = 0.2, 5.0  # bounds of clipped weights, whose mean is 1
DEFERRED = 0.5  # the share of the steps before deferred weights act
MARGIN = 3.0  # the smallest class's margin in logits, whose scale is free: 20 to 1 in odds
# The ratio of class sizes from which on labels of mixtures go to the rarer class (Remix).
MUCH_RARER = 3.0
SCALES = (0.25, 4.0)
FRACTIONS = (0.25, 0.5)

Parameters = dict[str, Any]
"""Parameters of `ReweightedClassifier` by their names; of other models those of `Reweighted`."""


class Variant(NamedTuple):
    """What is trained in a study: a strategy, or a strategy that is changed in one respect."""

    name: str
    description: str
    parameters: Parameters
    fraction: float = 1.0
    """The fraction of the training samples that it is given, stratified by class."""
    model: str = NETWORK
    """The model that is trained."""

    @property
    def strategy(self) -> str:
        """Its name without the model's."""
        return self.name if self.model == NETWORK else self.name.removeprefix(f"{self.model}: ")


def _erm(num_steps: int) -> Parameters:
    return {}


def _weights(name: str) -> Callable[[int], Parameters]:
    return lambda num_steps: {"class_weight": name}


def _loss(name: str) -> Callable[[int], Parameters]:
    return lambda num_steps: {"loss": name}


def _deferred(num_steps: int) -> Ramp:
    return Ramp(LinearRamp(DEFERRED * num_steps, 0.0), Chain(PrevalencePower(1.0), UnitMean()))


def _capped() -> Chain:
    return Chain(PrevalencePower(1.0), CappedUnitMean(LOWEST, HIGHEST))


def _drw(num_steps: int) -> Parameters:
    return {"schedule": _deferred(num_steps)}


def _ramp(num_steps: int) -> Parameters:
    inverse = Chain(PrevalencePower(1.0), UnitMean())
    return {"schedule": Ramp(LinearRamp(0.0, DEFERRED * num_steps), inverse)}


def _clipped(num_steps: int) -> Parameters:
    return {"schedule": _capped()}


def _adaptive(num_steps: int) -> Parameters:
    behind = Trend(strength=2.0, memory=0.99)
    return {"schedule": Chain(PrevalencePower(0.5), behind, CappedUnitMean(LOWEST, HIGHEST))}


def _ldam(num_steps: int) -> Parameters:
    return {"loss": "ldam", "largest_margin": MARGIN, "logit_scale": 1.0}


def _ldam_drw(num_steps: int) -> Parameters:
    return _ldam(num_steps) | _drw(num_steps)


def _sampled(name: str) -> Callable[[int], Parameters]:
    return lambda num_steps: {"class_weight": name, "sampling": True}


def _mixup(num_steps: int) -> Parameters:
    return {"mixup": Mixup()}


def _remix(num_steps: int) -> Parameters:
    return {"mixup": Mixup(ratio=MUCH_RARER)}


STRATEGIES: dict[str, tuple[str, Callable[[int], Parameters]]] = {
    "erm": ("Every sample counts alike", _erm),
    "inverse": ("Weights of inverse class frequency", _weights("balanced")),
    "sqrt": ("Weights of inverse square-root class frequency", _weights("sqrt")),
    "effective": ("Weights by the effective number of samples", _weights("effective")),
    "drw": (
        "Every sample counts alike first, inverse-frequency weights from half of the steps on",
        _drw,
    ),
    "ramp": ("Weights that grow evenly to inverse frequency over half of the steps", _ramp),
    "clipped": (f"Inverse-frequency weights kept within {LOWEST:g} and {HIGHEST:g}", _clipped),
    "adaptive": (
        "Inverse square-root weights, more for classes whose held-out recall is behind, "
        f"kept within {LOWEST:g} and {HIGHEST:g}",
        _adaptive,
    ),
    "la": ("Logit adjustment by log class frequency", _loss("logit_adjustment")),
    "cdt": ("Logits scaled down for small classes in training", _loss("cdt")),
    "vs": ("Logits both scaled and shifted by class frequency", _loss("vs")),
    "ldam": ("Larger margins for smaller classes", _ldam),
    "ldam-drw": ("Larger margins for smaller classes, and deferred weights", _ldam_drw),
    "sampling": ("Mini-batches drawn by class, each as often", _sampled("balanced")),
    "sampling-effective": (
        "Mini-batches drawn by class, by the effective number of samples",
        _sampled("effective"),
    ),
    "mixup": ("Mixtures of two samples, labelled by their shares", _mixup),
    "remix": (
        f"Mixtures of two samples, labelled as the rarer class where that is {MUCH_RARER:g} times rarer "
        "and half of the mixture",
        _remix,
    ),
    "focal": ("Less loss for samples that are already right", _loss("focal")),
    SMOTE: (
        "Made-up samples of smaller classes, each between two of theirs, until all classes are as large (SMOTE)",
        _erm,
    ),
}


DRAWN: tuple[tuple[str, str, Parameters], ...] = (
    ("sampling", "inverse", {"sampling": True}),
    ("mixup", "erm", {"mixup": Mixup()}),
    ("remix", "mixup", {"mixup": Mixup(ratio=MUCH_RARER)}),
)
"""Strategies of mini-batches, each with the one that it is compared with in ablations, and with what it adds to others."""


def strategies(names: Sequence[str], num_steps: int) -> list[Variant]:
    """The strategies of these names, for training of so many steps.

    Example:
        >>> [variant.parameters for variant in strategies(["erm", "inverse"], num_steps=1000)]
        [{}, {'class_weight': 'balanced'}]

    Args:
        names: keys of `STRATEGIES`, the baseline `erm` first.
        num_steps: training steps, which decide when deferred weights act.

    Raises:
        ssm.InputError: an unknown name, a name given twice, or a list that does not begin with the
            baseline.
    """
    for name in names:
        checks.choice("strategies", name, tuple(STRATEGIES))
    if len(set(names)) < len(names):
        raise errors.invalid("strategies", ",".join(names), "each named once")
    if list(names[:1]) != [BASELINE] or len(names) < 2:
        raise errors.invalid(
            "strategies", ",".join(names), f"{BASELINE}, the baseline, first and another after it"
        )
    return [_named(name, num_steps) for name in names]


def _named(name: str, num_steps: int) -> Variant:
    description, parameters = STRATEGIES[name]
    return Variant(name, description, parameters(num_steps))


def on_model(model: str, names: Sequence[str]) -> list[Variant]:
    """Those of these strategies that a model other than the network can be given, as variants named `MODEL:
    STRATEGY`. A model that balances classes by itself has one of its own in their place.

    Example:
        >>> [variant.name for variant in on_model("logistic", ["erm", "inverse", "drw"])]
        ['logistic: erm', 'logistic: inverse']
    """
    what = models.description(model)
    if model == models.BALANCED_FOREST:
        return [Variant(f"{model}: {OWN}", what, {}, model=model)]
    return [
        Variant(
            f"{model}: {name}",
            f"{what}. {STRATEGIES[name][0]}",
            STRATEGIES[name][1](1),
            model=model,
        )
        for name in names
        if name in (*WEIGHTS, SMOTE)
    ]


def to_the_end(named: Sequence[Variant]) -> list[Variant]:
    """The baseline, and the first other strategy that is class weights alone, without early stopping."""
    weighted = [variant for variant in named[1:] if variant.name in WEIGHTS]
    return [
        Variant(
            f"{variant.name}{TO_THE_END}",
            f"{variant.description}, trained to the end",
            variant.parameters | {"early_stopping": False},
        )
        for variant in (named[0], *weighted[:1])
    ]


def ablations(num_steps: int, names: Sequence[str] = ()) -> tuple[list[Variant], list[Ablation]]:
    """Each factor (weights, schedule, clip, margin, post-hoc correction) on and off, both alone and
    among all five together: the variants that have to be trained, and the pairs to compare.

    Of these strategies, `sampling` is compared with the same weights in the loss, `mixup` with samples as they are, and
    `remix` with labels by the shares of a mixture, alone and with all five factors.
    """
    capped = Ramp(LinearRamp(DEFERRED * num_steps, 0.0), _capped())
    margin = _ldam(num_steps)
    combined = {
        "combined": ("Margins with deferred, clipped weights", margin | {"schedule": capped}),
        "combined, no schedule": (
            "Margins with clipped weights from the start on",
            margin | {"schedule": _capped()},
        ),
        "combined, no clip": ("Margins with deferred weights", margin | _drw(num_steps)),
        "combined, no margin": ("Deferred, clipped weights", {"schedule": capped}),
    }
    variants = [_named(name, num_steps) for name in ("erm", "inverse", "drw", "clipped", "ldam")]
    variants += [Variant(name, *described) for name, described in combined.items()]
    none, uniform = "none", "uniform"
    pairs = [
        Ablation("weights", "alone", ("inverse", none), ("erm", none)),
        Ablation("schedule", "alone", ("drw", none), ("inverse", none)),
        Ablation("clip", "alone", ("clipped", none), ("inverse", none)),
        Ablation("margin", "alone", ("ldam", none), ("erm", none)),
        Ablation("post-hoc", "alone", ("erm", uniform), ("erm", none)),
    ]
    without = {"weights": "ldam"}
    without |= {factor: f"combined, no {factor}" for factor in ("schedule", "clip", "margin")}
    pairs += [
        Ablation(factor, "combined", ("combined", uniform), (name, uniform))
        for factor, name in without.items()
    ]
    pairs.append(Ablation("post-hoc", "combined", ("combined", uniform), ("combined", none)))
    for factor, alone, changed in DRAWN:
        if factor not in names:
            continue
        with_it = Variant(
            f"combined, {factor}",
            f"{combined['combined'][0]}; {STRATEGIES[factor][0].lower()}",
            combined["combined"][1] | changed,
        )
        off = "combined, mixup" if factor == "remix" else "combined"
        if factor == "remix" and "mixup" not in names:
            variants.append(_named("mixup", num_steps))
            plain = combined["combined"][1] | {"mixup": Mixup()}
            described = f"{combined['combined'][0]}; {STRATEGIES['mixup'][0].lower()}"
            variants.append(Variant(off, described, plain))
        variants += [_named(factor, num_steps), with_it]
        pairs.append(Ablation(factor, "alone", (factor, none), (alone, none)))
        pairs.append(Ablation(factor, "combined", (with_it.name, uniform), (off, uniform)))
    return variants, sorted(pairs, key=lambda pair: pair.setting)  # those alone first


def sensitivities(num_steps: int) -> tuple[list[Variant], list[Sensitivity]]:
    """Inverse-frequency weights times a factor, and ERM and those weights on fewer samples: the variants
    to be trained, and what each of them changes."""
    variants, entries = [], []
    for scale in SCALES:

        def scaled(counts: np.ndarray, scale: float = scale) -> np.ndarray:
            return scale * weights.power_law(counts, 1.0)

        name = f"inverse x {scale:g}"
        described = f"Weights of inverse class frequency, times {scale:g}"
        variants.append(Variant(name, described, {"class_weight": scaled}))
        entries.append(Sensitivity("weight scale", name, scale, "inverse"))
    for reference in ("erm", "inverse"):
        whole = _named(reference, num_steps)
        for fraction in FRACTIONS:
            name = f"{reference}, {fraction:.0%} of the samples"
            described = f"{whole.description}, trained on {fraction:.0%} of the samples"
            variants.append(Variant(name, described, whole.parameters, fraction))
            entries.append(Sensitivity("sample size", name, fraction, reference))
    return variants, entries
