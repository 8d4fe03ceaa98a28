"""Distributions over the classes, which samples are taught in place of labels: soft labels, noisy ones, several right answers,
the next tokens of a context.

A sample j has a target p_j (k numbers that sum to 1) and a class y_j of its own, by which it is coupled, weighted
and counted. One-hot targets of the class are its label.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float, Int, Shaped

from ssm.config import Config
from ssm.config.data import DataFields
from ssm.problem.problem import Targets
from ssm.support import checks, errors

LARGEST_ERROR = 1e-9
"""The largest error that is allowed of the sum of a target, which is then divided by its sum. Decimal fractions and
averages are off by less."""
LARGEST_WEIGHT = 1e50
DISTRIBUTIONS = "a row a sample of k >= 2 numbers from 0 to 1 that sum to 1"


def own_targets(
    config: Config, targets: object, labels: object, sample_weights: object
) -> tuple[Config, Targets | None, object]:
    """The Config of a run with targets of one's own, these targets sorted by class, and the classes of the samples in
    the order in which they were given. Without targets these are the Config, None, and the unchanged labels.

    Where every target is the one-hot label of its sample, and no sample has a weight of its own, the targets are None
    too, and the Config has the counts of the labels. Else the Config has these counts and `targets="own"`.

    Args:
        config: the run. Its fields that determine the counts are left out, or agree with the labels.
        targets: a row a sample, shape (n, k).
        labels: the class of each sample, integers 0 ... k - 1; None for that of its largest target, the first of
            equal ones.
        sample_weights: positive numbers, shape (n,); None for 1.

    Raises:
        ssm.InputError: anything else, in one line that names the argument.
    """
    if targets is None:
        if sample_weights is not None:
            raise errors.invalid("sample_weights", "given", "left out unless targets are given")
        return config, None, labels
    P = distributions(targets)
    n, k = P.shape
    y = P.argmax(axis=1)
    if labels is not None:
        allowed = f"{n} integers in [0, {k - 1}], one a row of targets"
        y = class_labels("labels", labels, n, k, (allowed, allowed))
    weights = _checked_weights(sample_weights, n)
    counts = np.bincount(y, minlength=k)
    is_label = (np.eye(k)[y] == P).all() and (weights == 1).all() and counts.all()
    config = of_counts(config, tuple(counts.tolist()), "labels" if is_label else "own")
    if is_label:
        return config, None, y
    order = np.argsort(y, kind="stable")
    found = Targets(P[order].T, weights[order], are_named=labels is not None)
    return config, found, y


def of_counts(config: Config, counts: tuple[int, ...], targets: str = "labels") -> Config:
    """The Config with the counts of given labels; raises ssm.InputError where its fields say other counts."""
    left_out = Config()
    fields = {field.name: getattr(left_out, field.name) for field in dataclasses.fields(DataFields)}
    of_labels = fields | {"profile": "custom", "num_classes": len(counts), "counts": counts}
    if config.class_counts != counts:
        for name, default in fields.items():
            if name == "targets":
                continue
            if (value := getattr(config, name)) not in (default, of_labels[name]):
                allowed = f"left out, or what gives the counts of the labels, {counts}"
                raise errors.invalid(name, value, allowed)
    return dataclasses.replace(config, **of_labels | {"targets": targets})


def distributions(value: object) -> Float[np.ndarray, "n k"]:
    """Targets, a row a sample, as distributions; raises ssm.InputError for anything else."""
    P = checks.array("targets", value, DISTRIBUTIONS)
    if P.ndim != 2 or not len(P) or P.shape[1] < 2:
        raise errors.invalid("targets", f"an array of shape {P.shape}", DISTRIBUTIONS)
    if (bad := ~(np.isfinite(P) & (P >= 0)).all(axis=1)).any():
        row = int(bad.argmax())
        entry = float(P[row][~(np.isfinite(P[row]) & (P[row] >= 0))][0])
        raise errors.invalid("targets", f"{entry:g} in row {row}", DISTRIBUTIONS)
    sums = P.sum(axis=1)
    if (bad := np.abs(sums - 1) > LARGEST_ERROR).any():
        row = int(bad.argmax())
        raise errors.invalid("targets", f"row {row}, which sums to {sums[row]:.10g}", DISTRIBUTIONS)
    if (P[0] == P).all() and (1 / P.shape[1] == P).all():
        raise errors.invalid(
            "targets", "the same for all classes", "such that there is something to learn"
        )
    return np.where(sums[:, None] == 1, P, P / sums[:, None])


def class_labels(
    name: str, value: object, number: int, num_classes: int, words: tuple[str, str]
) -> Int[np.ndarray, " n"]:
    """`number` integers below `num_classes` as an array. Raises ssm.InputError, which says what is allowed by the first
    of the two `words` where `value` is no array of so many integers, and by the second where an integer is out of range."""
    whole, each = words
    checks.array(name, value, whole)
    labels: Shaped[np.ndarray, " n"] = np.asarray(value)
    if labels.dtype.kind not in "iu" or labels.shape != (number,):
        raise errors.invalid(name, f"{labels.dtype} of shape {labels.shape}", whole)
    if labels.min() < 0 or labels.max() >= num_classes:
        worst = labels.min() if labels.min() < 0 else labels.max()
        raise errors.invalid(name, int(worst), each)
    return labels.astype(np.int64)


def _checked_weights(value: object, n: int) -> Float[np.ndarray, " n"]:
    if value is None:
        return np.ones(n)
    allowed = f"{n} positive numbers up to {LARGEST_WEIGHT:g}, one a row of targets"
    weights = checks.array("sample_weights", value, allowed)
    if weights.shape != (n,):
        raise errors.invalid("sample_weights", f"an array of shape {weights.shape}", allowed)
    if (bad := ~(np.isfinite(weights) & (weights > 0) & (weights <= LARGEST_WEIGHT))).any():
        raise errors.invalid("sample_weights", float(weights[bad][0]), allowed)
    return weights
