"""Handwritten digits of scikit-learn's own, and how images of any source are made STEP-imbalanced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import sklearn.datasets

from ssm.support.errors import invalid

NUM_CLASSES = 10


class Split(NamedTuple):
    """An imbalanced training set and a held-out set, both sorted by class."""

    train_images: np.ndarray
    """shape (n, h, w), float32 in [0, 1]"""
    train_labels: np.ndarray
    """shape (n,), int32"""
    test_images: np.ndarray
    """shape (m, h, w)"""
    test_labels: np.ndarray
    """shape (m,)"""


def load_digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's 1797 digits: images (n, 8, 8), float32 in [0, 1], and labels (n,), int32."""
    pixels, labels = map(np.asarray, sklearn.datasets.load_digits(return_X_y=True))
    return (pixels.reshape(-1, 8, 8) / 16).astype(np.float32), labels.astype(np.int32)


def split(
    images: np.ndarray,
    labels: np.ndarray,
    held_out_per_class: int,
    imbalance_ratio: float,
    minority_classes: Sequence[int],
    seed: int,
) -> Split:
    """A balanced held-out set, and from what is left a STEP-imbalanced training set.

    Majority classes keep all that is left; each minority class is cut to their mean count over
    `imbalance_ratio`, rounded to the nearest integer. Counts do not depend on the seed, which
    images are drawn does.

    Args:
        images: shape (n, h, w).
        labels: shape (n,), in [0, NUM_CLASSES).

    Raises ssm.InputError where a class has too few images.
    """
    left = np.bincount(labels, minlength=NUM_CLASSES) - held_out_per_class
    majority = np.setdiff1d(np.arange(NUM_CLASSES), minority_classes)
    wanted = left.copy()
    wanted[list(minority_classes)] = round(left[majority].mean() / imbalance_ratio)
    check_enough(labels, wanted, held_out_per_class)
    train, test = draw(labels, held_out_per_class, wanted, np.random.default_rng(seed))
    return Split(images[train], labels[train], images[test], labels[test])


def check_enough(labels: np.ndarray, counts: np.ndarray, held_out_per_class: int) -> None:
    """Raise ssm.InputError where a class has no images to train on, or fewer than `counts` beside the
    held-out ones."""
    for c, found in enumerate(np.bincount(labels, minlength=NUM_CLASSES)):
        needed = max(counts[c], 1) + held_out_per_class
        if counts[c] < 1 or found < needed:
            raise invalid(f"images of class {c}", int(found), f"at least {needed}")


def step_counts(
    majority: int, imbalance_ratio: float, minority_classes: Sequence[int]
) -> np.ndarray:
    """Training images of each class, so many of a majority class."""
    is_minority = np.isin(np.arange(NUM_CLASSES), minority_classes)
    return np.where(is_minority, round(majority / imbalance_ratio), majority)


def draw(
    labels: np.ndarray, held_out_per_class: int, counts: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of `counts` training samples of each class and of the held-out ones beside them, both
    sorted by class."""
    shuffled = [rng.permutation(np.flatnonzero(labels == c)) for c in range(NUM_CLASSES)]
    test = np.concatenate([mine[:held_out_per_class] for mine in shuffled])
    train = np.concatenate(
        [mine[held_out_per_class:][:count] for mine, count in zip(shuffled, counts, strict=True)]
    )
    return train, test
