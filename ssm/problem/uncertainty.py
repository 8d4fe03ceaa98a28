"""Class weights that follow how uncertain a classifier is about the samples of each class."""

from __future__ import annotations

import equinox as eqx
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float, Int, PyTree

from ssm.problem.array_modules import arrays, like
from ssm.problem.settable import number
from ssm.problem.transformations import Statistics, Transformation, Weights
from ssm.support import errors
from ssm.support.arrays import AnyArray

LEAST = 1e-3
"""The lowest uncertainty that a class counts with, so that no class loses all its weight."""


class Uncertainty(Transformation):
    """Multiplies the weight of class c by (u_c / mean_j u_j)^g, with u_c the mean predictive uncertainty of its held-out samples
    (`class_entropy`), at least 1e-3, and g the exponent. The probabilities of an ensemble, or of a posterior over the last layer, are
    the mean over its members. `ssm.Reweighted` measures u_c by out-of-fold predictions; a training loop of one's own has to give it."""

    exponent: Float[AnyArray, ""] = eqx.field(converter=number("exponent"))

    @property
    def needs_uncertainty(self) -> bool:
        return True

    def update(
        self, weights: Weights, state: PyTree, stats: Statistics, step: ArrayLike
    ) -> tuple[Weights, PyTree]:
        if stats.uncertainty is None:
            allowed = "known where weights follow it (Uncertainty), as in ssm.Reweighted"
            raise errors.invalid("uncertainty", None, allowed)
        xp, weights = arrays(weights, self, stats)
        uncertain = xp.maximum(like(weights, stats.uncertainty), LEAST)
        return weights * (uncertain / uncertain.mean()) ** like(weights, self.exponent), state


def class_entropy(
    probabilities: Float[np.ndarray, "n k"],
    labels: Int[np.ndarray, " n"],
    sample_weights: Float[np.ndarray, " n"] | None = None,
) -> Float[np.ndarray, " k"]:
    """The mean predictive entropy of the samples of each class, divided by that of even odds: u_c = - sum_{i in c} s_i sum_j p_ij log p_ij /
    (log k sum_{i in c} s_i), from 0 to 1.

    Example:
        >>> class_entropy(np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([0, 1])).tolist()
        [0.0, 1.0]

    Args:
        probabilities: of held-out samples, shape (n, k), rows that sum to 1.
        labels: classes as indices, shape (n,); each class has a sample.
        sample_weights: s, shape (n,); ones where left out.
    """
    k = probabilities.shape[1]
    s = np.ones(len(labels)) if sample_weights is None else np.asarray(sample_weights, float)
    p = np.asarray(probabilities, float)
    entropy = -(p * np.log(np.where(p > 0, p, 1))).sum(1) / np.log(k)
    # Adding 0 turns -0 into 0.
    return np.bincount(labels, s * entropy, k) / np.bincount(labels, s, k) + 0.0
