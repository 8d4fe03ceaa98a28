"""A classifier and features that are all equal to their class means, as at the end of training."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Real

from ssm.measures import geometry


class ClassState(NamedTuple):
    """A classifier, and features that are all equal to the mean of their class."""

    W: Float[np.ndarray, "k d"]
    means: Float[np.ndarray, "d k"]
    """The class means, one a column."""
    counts: Real[np.ndarray, " k"]
    """Samples n_c of each class."""

    @property
    def gram(self) -> geometry.Geometry:
        """W W^T, the inner products of class means, and the logits."""
        return geometry.Geometry(self.W @ self.W.T, self.means.T @ self.means, self.W @ self.means)

    def without_row(self, direction: Float[np.ndarray, " k"]) -> ClassState:
        """The state with a classifier W - x x^T W / |x|^2, whose combination of rows x^T W along a direction x of any
        length is 0. Cross-entropy keeps that combination as it was drawn for x = 1 / factors of the logits,
        which without factors is the mean of the rows."""
        x = direction
        return self._replace(W=self.W - np.outer(x, x @ self.W) / (x @ x))

    def distances(self, target: geometry.Geometry) -> Float[np.ndarray, " 3"]:
        """`geometry.distances` to a geometry, in the order of `geometry.PARTS`."""
        none = np.zeros((self.W.shape[1],) * 2)
        return geometry.distances(self.W, self.means, none, self.counts, target)


def balanced_state(logits: Float[np.ndarray, "k k"], counts: Real[np.ndarray, " k"]) -> ClassState:
    """The classifier and class means of least norm with given logits Z of each class's samples.

    With Z diag(sqrt(n_c)) = P D Q^T they are W = P sqrt(D) and the class means M = sqrt(D) Q^T
    diag(1 / sqrt(n_c)), so that W^T W = sum_c n_c m_c m_c^T.

    Args:
        logits: Z, shape (k, k), [logit, class].
        counts: n_c > 0, shape (k,); n_c / kappa_c (`geometry.effective_counts`) where features are
            coupled, whose W^T W = H K^-1 H^T.

    Returns:
        W and M of width k, and the counts given.

    Source: the least |W|^2 + |H|^2 of a product is twice its nuclear norm, attained there (Srebro,
    Rennie, Jaakkola 2004).
    """
    root = np.sqrt(counts)
    P, D, Qt = np.linalg.svd(logits * root, full_matrices=False)
    return ClassState(P * np.sqrt(D), np.sqrt(D)[:, None] * Qt / root, counts)
