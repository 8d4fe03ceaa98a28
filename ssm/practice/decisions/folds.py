"""Folds of the training samples, by which every sample is predicted by a fit that has not seen it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Int
from sklearn.model_selection import StratifiedKFold, check_cv

from ssm.support import checks
from ssm.support.errors import invalid

Fold = tuple[np.ndarray, np.ndarray]
"""The positions of the samples that a fit is given, and of those that it predicts."""


def folds_of(
    cv: Any,
    X: Any,
    y: np.ndarray,
    used: Int[np.ndarray, " u"],
    seed: int,
    metadata: Mapping[str, Any],
) -> list[Fold]:
    """The folds of a cross-validation, in which each sample that is used is held out once.

    Args:
        cv: a number of folds, which are stratified and shuffled, or what scikit-learn takes: a splitter, or
            an iterable of (train, test) pairs.
        X: all samples.
        y: all labels.
        used: the samples that are not left out, n of them. Positions in the folds are among these.
        seed: of the shuffling.
        metadata: what a splitter is given beside these, such as `groups`.

    Raises:
        ssm.InputError: more folds than samples of a class; a training part that lacks a class; a sample
            that is in both parts, or is not held out exactly once.
    """
    splitter: Any
    classes, labels = np.unique(y[used], return_inverse=True)
    if isinstance(cv, int | np.integer):
        splitter = StratifiedKFold(
            _number_of_folds(cv, labels, classes), shuffle=True, random_state=seed
        )
        return list(splitter.split(labels, labels))
    try:
        splitter = check_cv(cv, y, classifier=True)
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


def _number_of_folds(cv: Any, labels: Int[np.ndarray, " n"], classes: np.ndarray) -> int:
    number = np.bincount(labels)
    cv = checks.integer("cv", cv, 2, 10**6)
    if number.min() < cv:
        rarest = classes.tolist()[int(number.argmin())]
        least = f"at least {cv} samples of each class, for as many folds, or a smaller cv"
        raise invalid("y", f"{number.min()} of class {rarest!r}", least)
    return cv
