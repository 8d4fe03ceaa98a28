"""The choice of the samples of a data set at which a network is watched."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from ssm.support import checks
from ssm.tracking.labels import numbered

BALANCED, STRATIFIED = "balanced", "stratified"


def probe_set(
    labels: object, size: int, how: str = BALANCED, seed: int = 0, classes: object = None
) -> Int[np.ndarray, " m"]:
    """The indices of samples at which a network is watched, ascending. They are drawn without replacement, and equal arguments give
    equal indices.

    - `balanced`: classes have equal numbers of samples, to within one. A class that has fewer samples is taken whole, and
      the others share the rest.
    - `stratified`: every class has its share of all samples, rounded so that their sum is the size (largest remainders), and at least one.

    Args:
        labels: the labels of all samples, in any form that `Tracker` takes.
        size: the number of samples to draw, at least one a class and at most all.
        how: `balanced` or `stratified`.
        seed: the seed of the draw.
        classes: as for `Tracker`.

    Raises:
        ssm.InputError: anything else.

    Example:
        >>> labels = np.repeat(["cat", "dog"], [90, 10])
        >>> np.unique(labels[probe_set(labels, 16)], return_counts=True)[1].tolist()
        [8, 8]
        >>> np.unique(labels[probe_set(labels, 20, "stratified")], return_counts=True)[1].tolist()
        [18, 2]
    """
    checks.choice("how", how, (BALANCED, STRATIFIED))
    numbers = numbered(labels, classes)
    counts = np.bincount(numbers.classes, minlength=numbers.num_classes)
    fewest = int((counts > 0).sum())
    size = checks.integer("size", size, fewest, len(numbers.classes))
    generator = np.random.default_rng(checks.integer("seed", seed, 0, 2**63 - 1))
    number = _equal(counts, size) if how == BALANCED else _in_proportion(counts, size)
    drawn = [
        generator.permutation(np.flatnonzero(numbers.classes == c))[:taken]
        for c, taken in enumerate(number.tolist())
    ]
    return np.sort(np.concatenate(drawn))


def _equal(counts: Int[np.ndarray, " k"], size: int) -> Int[np.ndarray, " k"]:
    """Equal numbers of samples, or all samples of a small class; the remainder goes to the first classes that have more."""
    level = 0
    while np.minimum(counts, level + 1).sum() <= size and level < counts.max():
        level += 1
    taken = np.minimum(counts, level)
    more = np.flatnonzero(counts > level)[: size - taken.sum()]
    taken[more] += 1
    return taken


def _in_proportion(counts: Int[np.ndarray, " k"], size: int) -> Int[np.ndarray, " k"]:
    """Numbers of samples in proportion to the classes, rounded by largest remainders, at least 1 for each class with samples."""
    exact = counts * size / counts.sum()
    taken = np.maximum(np.floor(exact).astype(int), counts > 0)
    while taken.sum() < size:
        taken[(exact - taken).argmax()] += 1
    while taken.sum() > size:  # The sum is too large where small classes were raised to 1.
        taken[np.where(taken > 1, taken - exact, -np.inf).argmax()] -= 1
    return taken
