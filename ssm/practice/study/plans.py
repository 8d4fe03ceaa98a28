"""The plan of a study: its data, the variants that it trains, and the folds that they are trained on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sklearn.model_selection import StratifiedKFold

from ssm.practice.data import datasets
from ssm.practice.data.datasets import Data
from ssm.practice.network import parameters
from ssm.practice.options import StudyOptions
from ssm.practice.study import strategies
from ssm.practice.study.attributes import Ablation, Sensitivity
from ssm.practice.study.cells import Cell
from ssm.practice.study.strategies import Variant
from ssm.support import errors


class StudyPlan(NamedTuple):
    """Everything that a study will train and compare."""

    study: StudyOptions
    data: Data
    num_steps: int
    """The largest number of training steps: the one asked for, or one chosen by the size of the data."""
    num_strategies: int
    variants: tuple[Variant, ...]
    """The strategies come first, the baseline first of all."""
    ablations: tuple[Ablation, ...]
    sensitivities: tuple[Sensitivity, ...]

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


def plan(study: StudyOptions) -> StudyPlan:
    """Load the data of a study and list what is to be trained.

    Raises:
        ssm.InputError: data or strategies that cannot be used.
    """
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
    ablations: list[Ablation] = []
    sensitivities: list[Sensitivity] = []
    trained = list(named)
    if study.ablations:
        more, ablations = strategies.ablations(num_steps)
        trained += more
    if study.sensitivity:
        more, sensitivities = strategies.sensitivities(num_steps)
        trained += more
    # Ablations and strategies share variants: one of each name is trained, where it came first.
    variants = {variant.name: variant for variant in trained}
    return StudyPlan(
        study,
        data,
        num_steps,
        len(named),
        tuple(variants.values()),
        tuple(ablations),
        tuple(sensitivities),
    )
