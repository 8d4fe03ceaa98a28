"""Labels in their usual forms, converted to classes that are numbered from 0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from ssm.support import arrays, checks, errors

ALLOWED = "classes of samples: integers, words, or one row of 0 and a single 1 for each sample"


class Labels(NamedTuple):
    """Labels as integers, the number of classes, and the names of the classes; None where these are 0 .. k - 1."""

    classes: Int[np.ndarray, " n"]
    num_classes: int
    names: list[str] | None


def numbered(labels: object, classes: object = None, field: str = "labels") -> Labels:
    """Labels as integers 0 .. k - 1, in the order of the columns of logits.

    Args:
        labels: one a sample: integers from 0 on, words, or one-hot rows, as an array of any library.
        classes: the number of classes, or the label of each in the order of the columns of logits. Left out, the number
            is the largest integer plus one, or the classes are the words that occur, in alphabetical order.

    Raises:
        ssm.InputError: anything else, and a label that is not among the classes.
    """
    given = arrays.as_numpy(field, labels, ALLOWED)
    if given.ndim == 2 and given.shape[1] > 1:
        given = _of_one_hot(given, field)
    if given.ndim != 1 or not given.size or given.dtype.kind not in "iubUTO":
        raise errors.invalid(field, arrays.shape_of(given), ALLOWED)
    words = given.dtype.kind in "UTO"
    if given.dtype.kind == "b":
        given = given.astype(np.int64)
    if classes is None:
        known = sorted(set(given.tolist())) if words else list(range(int(given.max()) + 1))
    elif isinstance(classes, int | np.integer) and not isinstance(classes, bool):
        known = list(range(checks.integer("classes", int(classes), 2, 10**6)))
    else:
        known = np.asarray(checks.items("classes", classes, "their number, or a list")).tolist()
    if len(known) < 2 or len(set(known)) != len(known):
        allowed = "at least two classes, each once"
        raise errors.invalid("classes" if classes is not None else field, known, allowed)
    place = {label: i for i, label in enumerate(known)}
    found = given.tolist()
    for label in found:
        if label not in place:
            raise errors.invalid(field, label, f"one of the {len(known)} classes {_shown(known)}")
    numbers = np.array([place[label] for label in found], dtype=np.int64)
    names = None if known == list(range(len(known))) else [str(label) for label in known]
    return Labels(numbers, len(known), names)


def _of_one_hot(rows: np.ndarray, field: str) -> np.ndarray:
    ones = rows.astype(np.float64)
    if not (np.isin(ones, (0, 1)).all() and (ones.sum(axis=1) == 1).all()):
        raise errors.invalid(field, arrays.shape_of(rows), ALLOWED)
    return ones.argmax(axis=1)


def _shown(known: Sequence[object]) -> str:
    return ", ".join(map(str, known if len(known) <= 12 else [*known[:10], "...", known[-1]]))
