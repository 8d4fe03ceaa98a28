"""What logits get right, class by class; on NumPy and JAX arrays alike."""

from __future__ import annotations

from typing import Any

import numpy as np


def class_accuracy(logits: Any, labels: Any, class_columns: Any) -> Any:
    """Share of each class's columns whose largest logit is their own.

    Args:
        logits: shape (..., k, m).
        labels: shape (m,), integers below k.
        class_columns: shape (m, k), 1 where a column belongs to a class; every class has a column.

    Returns:
        shape (..., k).
    """
    correct = logits.argmax(-2) == labels
    return (correct @ class_columns) / class_columns.sum(0)


def group_mean(values: np.ndarray, groups: np.ndarray, group: str) -> np.ndarray:
    """Mean of per-class `values` (..., k) over the classes of one group: (...); NaN when it has
    none."""
    members = groups == group
    if not members.any():
        return np.full(values.shape[:-1], np.nan)
    return values[..., members].mean(axis=-1)
