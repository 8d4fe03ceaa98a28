"""What logits have learned of classes and of an attribute that samples of all classes may have.

Groups are the g = k a pairs of a class y and a value b of the attribute, class by class. Core is what tells
classes apart whatever the attribute is; spurious is what the attribute tells about them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Real

from ssm.support.arrays import AnyArray


def core_strength(group_means: Float[AnyArray, "*batch k g"]) -> Float[Any, "*batch"]:
    """How far logits follow the class, whatever the attribute: sum_y <zbar_y, e_y - 1/k> / (k - 1), with zbar_y the
    mean of the mean logits of a class's groups, in which each group counts alike. It is 1 where all groups are
    interpolated.

    Args:
        group_means: mean logits of each group, [logit, group].

    Source: derived for this project.

    Example:
        >>> labels = np.eye(2) - 0.5
        >>> float(core_strength(labels[:, [0, 0, 1, 1]]))
        1.0
    """
    k = group_means.shape[-2]
    of_class = group_means.reshape(*group_means.shape[:-1], k, -1).mean(-1)
    return ((np.eye(k) - 1 / k) * of_class).sum((-2, -1)) / (k - 1)


def spurious_strength(
    group_means: Float[AnyArray, "*batch k g"], counts: Real[np.ndarray, "k a"]
) -> Float[Any, "*batch"]:
    """How far logits follow what the attribute tells about classes: sum_b <zbar_b, d_b> / sum_b |d_b|^2. Here d_b is
    p(. | b) - 1/k, centred over b, where p(y | b) is the share of class y among the training samples with value b if
    all classes had equally many samples, and zbar_b is the mean of the mean logits of the groups with that value, in
    which each group counts alike. It is 0 where all groups are interpolated, 1 where logits are what the attribute
    tells, and NaN where it tells nothing.

    Args:
        group_means: mean logits of each group, [logit, group].
        counts: samples of each group, shape (k, a).

    Source: derived for this project.

    Example:
        >>> told_by_attribute = np.array([[0.4, -0.4, 0.4, -0.4], [-0.4, 0.4, -0.4, 0.4]])
        >>> float(spurious_strength(told_by_attribute, np.array([[90, 10], [10, 90]])))
        1.0
    """
    shares = counts / counts.sum(axis=1, keepdims=True)  # the share of each value in each class
    told = shares / shares.sum(axis=0)
    told = told - told.mean(axis=1, keepdims=True)
    told = told - told.mean(axis=0)
    size = (told**2).sum()
    k, a = counts.shape
    of_value = group_means.reshape(*group_means.shape[:-1], k, a).mean(-2)
    return (of_value * told).sum((-2, -1)) / (size if size > 1e-24 else np.nan)
