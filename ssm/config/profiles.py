"""Imbalance profiles: how many samples each class has, and which classes are the minorities."""

from __future__ import annotations

import math
from collections.abc import Sequence

GROUPS = MAJORITY, MINORITY = "majority", "minority"


def num_minority_classes(num_classes: int, minority_fraction: float) -> int:
    """The number of minority classes of a STEP profile: rho k, rounded to the nearest integer (a half to the even
    one)."""
    return round(minority_fraction * num_classes)


def step_counts(
    num_classes: int, imbalance_ratio: float, minority_fraction: float, minority_count: int
) -> tuple[int, ...]:
    """STEP(R, rho): first the majority classes of round(R n_min) samples, then the minority classes
    of n_min."""
    num_minority = num_minority_classes(num_classes, minority_fraction)
    majority_count = round(imbalance_ratio * minority_count)
    return (majority_count,) * (num_classes - num_minority) + (minority_count,) * num_minority


def long_tailed_counts(
    num_classes: int, imbalance_ratio: float, minority_count: int
) -> tuple[int, ...]:
    """Exponential long tail: n_c = n_max R^(-c / (k - 1)) for c = 0 .. k - 1 with n_max = R n_min,
    rounded."""
    largest = imbalance_ratio * minority_count
    return tuple(
        round(largest * imbalance_ratio ** (-c / (num_classes - 1))) for c in range(num_classes)
    )


def zipf_counts(num_classes: int, imbalance_ratio: float, minority_count: int) -> tuple[int, ...]:
    """Zipf's law: n_c = n_max (c + 1)^(-a) for c = 0 .. k - 1 with n_max = R n_min and a = log R / log k, rounded, so
    that the last class has n_min samples. With R = k the exponent is 1."""
    largest = imbalance_ratio * minority_count
    exponent = math.log(imbalance_ratio) / math.log(num_classes)
    return tuple(round(largest * (c + 1) ** -exponent) for c in range(num_classes))


def class_groups(counts: Sequence[int]) -> tuple[str, ...]:
    """`majority` or `minority` for each class: at least, or less than, the geometric mean of the
    extreme counts.

    For STEP with R > 1 these are its two groups; of a long tail they are the head and the tail.
    All-equal counts are all majority, and a class without samples is in the minority.
    """
    # A class may have no samples where these are taught distributions.
    present = [int(n) for n in counts if n > 0]
    smallest, largest = (
        min(present),
        max(present),
    )  # integers of Python, so that their product is exact
    return tuple(MAJORITY if int(n) ** 2 >= smallest * largest else MINORITY for n in counts)


def no_contrasts(counts: Sequence[int]) -> str:
    """Why no balancing exponent g* of contrasts exists for these counts; an empty text where it does.

    The groups are the head and the tail of the sizes (`class_groups`). Classes of one size
    have contrasts that grow at their rate r_c, and two classes of unequal size have one that grows at
    a rate between theirs, so that g* has a meaning for long tails too; a class alone in its group has
    no contrast.
    """
    groups = class_groups(counts)
    if len(set(counts)) == 1:
        return "all classes have the same size"
    if len(counts) == 2:
        return "each of two classes is alone in its group, with no other to be told from within it"
    alone = [name for name in GROUPS if groups.count(name) == 1]
    if not alone:
        return ""
    size = counts[groups.index(alone[0])]
    return f"the {alone[0]} is one class ({size} samples), with no other to be told from within it"
