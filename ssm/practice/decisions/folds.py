"""Folds of the training samples, by which every sample is predicted by a fit that has not seen it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike
from sklearn.model_selection import (
    BaseCrossValidator,
    BaseShuffleSplit,
    StratifiedKFold,
    check_cv,
)

from ssm.practice.data.classifiers import Rows
from ssm.support import checks
from ssm.support.errors import invalid

Fold = tuple[np.ndarray, np.ndarray]
"""The positions of the samples that a fit is given, and of those that it predicts."""
CrossValidation = (
    int | BaseCrossValidator | BaseShuffleSplit | Iterable[tuple[ArrayLike, ArrayLike]] | None
)
"""A number of folds, a splitter of scikit-learn's kind, pairs (train, test) of positions, or None for scikit-learn's own choice."""


def folds_of(
    cv: Any,  # a `CrossValidation`, but type checkers take `check_cv` to accept numbers alone
    X: Rows,
    y: np.ndarray,
    used: Int[np.ndarray, " u"],
    seed: int,
    metadata: Mapping[str, object],
) -> list[Fold]:
    """The folds of a cross-validation, in which each sample that is used is held out once.

    Args:
        cv: a number of folds, which are stratified and shuffled, or what scikit-learn takes: a splitter, or
            an iterable of (train, test) pairs.
        X: all samples.
        y: all labels.
        used: positions of the samples that are not left out, shape (u,). Positions in the folds count these samples alone.
        seed: of the shuffling.
        metadata: further arguments of the splitter, such as `groups`.

    Raises:
        ssm.InputError: more folds than samples of a class; a training part that lacks a class; a sample
            that is in both parts of a fold, or that is not held out exactly once.
    """
    classes, labels = np.unique(y[used], return_inverse=True)
    if isinstance(cv, int | np.integer):
        number = _number_of_folds(cv, labels, classes)
        splitter = StratifiedKFold(number, shuffle=True, random_state=seed)
        return list(splitter.split(labels, labels))
    try:
        splitter: Any = check_cv(cv, y, classifier=True)
        folds = list(splitter.split(X, y, **metadata))
    except (TypeError, ValueError) as error:
        raise invalid("cv", cv, f"folds of these samples ({error})") from None
    position = np.full(len(y), -1)
    position[used] = np.arange(len(used))
    folds = [tuple(position[np.asarray(part)] for part in fold) for fold in folds]
    folds = [(train[train >= 0], held_out[held_out >= 0]) for train, held_out in folds]
    held_out = np.concatenate([test for _, test in folds])
    if not np.array_equal(np.sort(held_out), np.arange(len(used))):
        raise invalid("cv", cv, "folds that hold out each sample exactly once")
    for train, test in folds:
        if np.intersect1d(train, test).size:
            raise invalid("cv", cv, "folds that predict no sample which they were fitted on")
        if len(np.unique(labels[train])) < len(classes):
            raise invalid("cv", cv, "folds whose training parts have all classes")
    return [(train, test) for train, test in folds if len(test)]


def _number_of_folds(cv: object, labels: Int[np.ndarray, " n"], classes: np.ndarray) -> int:
    """`cv` as an int from 2 on; raises ssm.InputError for anything else, and where a class has fewer samples than folds."""
    number = np.bincount(labels)
    cv = checks.integer("cv", cv, 2, 10**6)
    if number.min() < cv:
        rarest = classes.tolist()[int(number.argmin())]
        least = f"at least {cv} samples of each class, for as many folds, or a smaller cv"
        raise invalid("y", f"{number.min()} of class {rarest!r}", least)
    return cv
