"""What logits get right, class by class, for NumPy and JAX arrays alike."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int, Real

from ssm.support.arrays import AnyArray


def class_accuracy(
    logits: Real[AnyArray, "*batch k m"],
    labels: Int[AnyArray, " m"],
    class_columns: Real[AnyArray, "m q"],
) -> Float[Any, "*batch q"]:
    """The share of each class's columns whose largest logit is that of their own class.

    Args:
        logits: shape (..., k, m).
        labels: shape (m,), integers below k.
        class_columns: shape (m, q), 1 where a column belongs to a class, or to a group of samples; each has a column.

    Returns:
        shape (..., q).
    """
    correct = logits.argmax(-2) == labels
    return (correct @ class_columns) / class_columns.sum(0)


def group_mean(values: np.ndarray, groups: np.ndarray, group: str) -> np.ndarray:
    """The mean of `values` of classes (..., k) over those of one group, shape (...); NaN where it has
    none."""
    members = groups == group
    if not members.any():
        return np.full(values.shape[:-1], np.nan)
    return values[..., members].mean(axis=-1)
