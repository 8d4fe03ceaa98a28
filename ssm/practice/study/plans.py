"""The plan of a study: its data, the variants that it trains, and the folds that they are trained on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

from sklearn.model_selection import StratifiedKFold

from ssm.practice.data import datasets
from ssm.practice.data.datasets import Data
from ssm.practice.network import parameters
from ssm.practice.options import NETWORK, SMOTE, WEIGHTS, StudyOptions
from ssm.practice.study import currencies, models, strategies, synthesis
from ssm.practice.study.attributes import Ablation, Sensitivity
from ssm.practice.study.cells import Cell
from ssm.practice.study.rules import Currency
from ssm.practice.study.strategies import Variant
from ssm.support import errors


class StudyPlan(NamedTuple):
    """Everything that a study will train and compare."""

    study: StudyOptions
    data: Data
    num_steps: int
    """The largest number of training steps: the one asked for, or one chosen by the size of the data."""
    compared: tuple[str, ...]
    """The names of the variants that are compared, model by model, each model's baseline before its others."""
    variants: tuple[Variant, ...]
    """Those of the network come first, its strategies first of all."""
    ablations: tuple[Ablation, ...]
    sensitivities: tuple[Sensitivity, ...]
    currency: Currency = Currency()
    """What decisions are counted in."""
    endings: tuple[tuple[str, str], ...] = ()
    """Variants of the network that are stopped early, each with the one that is trained to the end."""
    is_earlier: bool = False
    """Whether it is as earlier versions planned it, which knew the network alone."""

    @property
    def strategies(self) -> tuple[str, ...]:
        """The compared variants of the network, or of the first model with several in a study without it, the
        baseline first."""
        chosen = {variant.name: variant for variant in self.variants}
        by_model: dict[str, list[str]] = {}
        for name in self.compared:
            by_model.setdefault(chosen[name].model, []).append(name)
        several = (names for names in by_model.values() if len(names) > 1)
        return tuple(by_model[NETWORK] if NETWORK in by_model else next(several, []))

    @property
    def num_cells(self) -> int:
        """The number of cells."""
        return len(self.variants) * self.study.seeds * self.study.folds

    def cells(self) -> Iterator[tuple[str, Cell]]:
        """Every cell with the name of its file; those of the baseline come first."""
        splits = [
            list(
                StratifiedKFold(self.study.folds, shuffle=True, random_state=seed).split(
                    self.data.features, self.data.labels
                )
            )
            for seed in range(self.study.seeds)
        ]
        for v, variant in enumerate(self.variants):
            for seed, parts in enumerate(splits):
                for fold, (train, test) in enumerate(parts):
                    yield f"{v:02d}-{seed}-{fold}.npz", Cell(variant, seed, fold, train, test)


def plan(study: StudyOptions, is_earlier: bool = False) -> StudyPlan:
    """Load the data of a study and list what is to be trained.

    Args:
        study: the options.
        is_earlier: plan it as earlier versions did, whose options these then are: the network alone.

    Raises:
        ssm.InputError: data or strategies that cannot be used.
    """
    if is_earlier:
        study = dataclasses.replace(study, models=NETWORK)
    models.check(study.model_names)
    data = datasets.load(
        study.data,
        label=study.label,
        impute=study.impute,
        sep=study.sep,
        decimal=study.decimal,
        exclude=study.exclude,
    )
    if study.imbalance_ratio is not None:
        data = datasets.imbalanced(data, study.imbalance_ratio, 0, study.profile)
    datasets.check_folds(data, study.folds)
    least = int(data.counts.min())
    if least - -(-least // study.folds) < 2:
        allowed = f"such that two of the {least} samples of the smallest class are left to train on"
        raise errors.invalid("folds", study.folds, allowed)
    num_steps = study.num_steps
    if num_steps is None:
        part = len(data.labels) - len(data.labels) // study.folds
        num_steps = parameters.training_steps(part, study.batch_size)
    named = strategies.strategies(study.strategy_names, num_steps)
    trained, pairs, changed, ends = [], [], [], []
    if SMOTE in study.strategy_names:
        _check_synthesis(study)
        named = [variant for variant in named if variant.name != SMOTE]
    if NETWORK in study.model_names:
        trained, pairs, changed = _of_network(study, named, num_steps)
        if study.ablations and study.early_stopping != "none" and not is_earlier:
            ends = strategies.to_the_end(named)
            trained += ends
    by_model = {NETWORK: named}
    for model in study.model_names:
        if model != NETWORK:
            by_model[model] = strategies.on_model(model, study.strategy_names)
            trained += by_model[model]
    compared = [variant.name for model in study.model_names for variant in by_model[model]]
    # Ablations and strategies share variants: one of each name is trained, where it came first.
    variants = {variant.name: variant for variant in trained}
    planned = StudyPlan(
        study,
        data,
        num_steps,
        tuple(compared),
        tuple(variants.values()),
        tuple(pairs),
        tuple(changed),
        currencies.of_options(study, data),
        tuple((end.name.removesuffix(strategies.TO_THE_END), end.name) for end in ends),
        is_earlier,
    )
    if not planned.strategies:
        weights = ", ".join(WEIGHTS)
        allowed = f"with {NETWORK} among them, or one that two strategies apply to: of {weights}"
        raise errors.invalid("models", study.models, allowed)
    return planned


def _check_synthesis(study: StudyOptions) -> None:
    """Refuse made-up samples where no model can be given them, or a network is left with its baseline alone."""
    names = study.strategy_names
    if set(study.model_names) <= {NETWORK, models.BALANCED_FOREST}:
        allowed = f"tried on another model than {NETWORK} and {models.BALANCED_FOREST}"
        raise errors.invalid("strategies", SMOTE, allowed)
    if NETWORK in study.model_names and len(names) < 3:
        allowed = f"with a strategy of {NETWORK} beside {strategies.BASELINE}, which {SMOTE} is not"
        raise errors.invalid("strategies", ",".join(names), allowed)
    synthesis.check()


def _of_network(
    study: StudyOptions, named: list[Variant], num_steps: int
) -> tuple[list[Variant], list[Ablation], list[Sensitivity]]:
    """What is trained of the network: its strategies, and what ablations and sensitivity need beside them."""
    pairs: list[Ablation] = []
    changed: list[Sensitivity] = []
    trained = list(named)
    if study.ablations:
        more, pairs = strategies.ablations(num_steps, study.strategy_names)
        trained += more
    if study.sensitivity:
        more, changed = strategies.sensitivities(num_steps)
        trained += more
    return trained, pairs, changed
