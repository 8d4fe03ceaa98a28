"""The learning problem class by class: counts, weights, coupling; and label matrices."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from ssm.config import Config
from ssm.problem import weights


class Problem(NamedTuple):
    """What gradient flow learns, as host arrays over the k classes. n = sum of the counts."""

    counts: Int[np.ndarray, " k"]
    """Samples n_c of each class."""
    class_groups: Shaped[np.ndarray, " k"]
    """`majority` or `minority` for each class."""
    class_weights: Float[np.ndarray, " k"]
    """w_c, of unit mean over samples where the risk is a weighted mean."""
    coupling: Float[np.ndarray, ""]
    """The coupling c in [0, 1]."""

    @property
    def shared(self) -> bool:
        """Whether the features of a class move as one."""
        return bool(self.coupling == 1)

    @property
    def labels(self) -> Int[np.ndarray, " n"]:
        """Class of each sample, sorted."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    @property
    def kernel_eigenvalues(self) -> Float[np.ndarray, " k"]:
        """kappa_c = 1 + c (n_c - 1), the eigenvalue of the coupling kernel on a class's constant
        vector."""
        return 1 + self.coupling * (self.counts - 1.0)


def make_problem(config: Config) -> Problem:
    """The problem a Config describes."""
    counts = np.array(config.class_counts)
    if config.class_weights is not None:
        class_weights = weights.class_weights(config.class_weights, counts)
    elif config.effective_number_beta is not None:
        class_weights = weights.effective_number(counts, config.effective_number_beta)
    else:
        class_weights = weights.power_law(counts, config.weight_exponent)
    if (
        config.reduction == "weighted_mean"
    ):  # such a risk does not depend on the scale of its weights
        class_weights = class_weights / weights.mean_sample_weight(counts, class_weights)
    return Problem(
        counts=counts,
        class_groups=np.array(config.class_groups),
        class_weights=class_weights,
        coupling=np.array(config.coupling),
    )


def membership(labels: Int[np.ndarray, " m"], num_classes: int) -> Float[np.ndarray, "m k"]:
    """The transpose of the one-hot labels Y: one row for each column, 1 at its class."""
    return np.eye(num_classes)[labels]


def simplex_labels(labels: Int[np.ndarray, " m"], num_classes: int) -> Float[np.ndarray, "k m"]:
    """The simplex-encoded label (SEL) matrix S = Y - 1/k, k x m: each column sums to zero.

    Source: Thrampoulidis, Kini, Vakilian, Behnia 2022.
    """
    return membership(labels, num_classes).T - 1 / num_classes
