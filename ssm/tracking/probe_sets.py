"""Which samples of a data set a network is watched at."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Int

from ssm.support import checks
from ssm.tracking.labels import numbered

BALANCED, STRATIFIED = "balanced", "stratified"


def probe_set(
    labels: Any, size: int, how: str = BALANCED, seed: int = 0, classes: Any = None
) -> Int[np.ndarray, " m"]:
    """Indices of samples to watch a network at, ascending, drawn without replacement and the same for the same arguments.

    - `balanced`: every class has as many, up to one, as the size allows; a class that has fewer is taken whole, and
      the others share what it leaves.
    - `stratified`: every class has its share of all samples, rounded so that their sum is the size (largest remainders), and at least one.

    Args:
        labels: of all samples, in any form that `Tracker` takes.
        size: how many to draw, at least one a class and at most all.
        how: `balanced` or `stratified`.
        seed: of the draw.
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
    """As many of each class, of small ones all; what is left over goes to the first that have more."""
    level = 0
    while np.minimum(counts, level + 1).sum() <= size and level < counts.max():
        level += 1
    taken = np.minimum(counts, level)
    more = np.flatnonzero(counts > level)[: size - taken.sum()]
    taken[more] += 1
    return taken


def _in_proportion(counts: Int[np.ndarray, " k"], size: int) -> Int[np.ndarray, " k"]:
    """Shares of the size, rounded to the largest remainders, with one at least of each class that there is."""
    exact = counts * size / counts.sum()
    taken = np.maximum(np.floor(exact).astype(int), counts > 0)
    while taken.sum() < size:
        taken[(exact - taken).argmax()] += 1
    while taken.sum() > size:  # where small classes were raised to one
        taken[np.where(taken > 1, taken - exact, -np.inf).argmax()] -= 1
    return taken
