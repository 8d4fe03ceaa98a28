"""Problems of two groups of equal classes, STEP, by the numbers of each group."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ssm.config import profiles
from ssm.problem import Problem
from ssm.support import errors


class Step(NamedTuple):
    """A STEP problem, majority and minority along the last axis."""

    sizes: Float[np.ndarray, "*grid 2"]
    """Classes k_g of each group."""
    counts: Float[np.ndarray, "*grid 2"]
    """Samples n_g of a class."""
    weights: Float[np.ndarray, "*grid 2"]
    """w_g."""
    kernel: Float[np.ndarray, "*grid 2"]
    """kappa_g = 1 + c (n_g - 1)."""

    @property
    def num_samples(self) -> Float[np.ndarray, "*grid"] | np.float64:
        """n, all samples."""
        return (self.sizes * self.counts).sum(axis=-1)

    @property
    def cross_targets(self) -> Float[np.ndarray, "*grid 2"]:
        """What u^T S has on the unit indicator of each group's N samples, u the majority-minority
        contrast: s_g = sqrt(N) u_g. Their length is the singular value of the cross component."""
        sizes = self.sizes
        left = np.sqrt(sizes[..., ::-1] / (sizes * sizes.sum(axis=-1, keepdims=True))) * [1, -1]
        return np.sqrt(sizes * self.counts) * left


def step_of(problem: Problem) -> Step:
    """The numbers of a STEP problem.

    Raises:
        ssm.InputError: a problem that has not two groups, each of equal classes.
    """
    kinds = np.stack([problem.counts, problem.class_weights, problem.kernel_eigenvalues])
    groups = [kinds[:, problem.class_groups == group] for group in profiles.GROUPS]
    if not all(group.size and (group == group[:, :1]).all() for group in groups):
        raise errors.invalid("problem", kinds[:2].tolist(), "two groups, each of equal classes")
    counts, weights, kernel = np.stack([group[:, 0] for group in groups], axis=1)
    return Step(np.array([float(group.shape[1]) for group in groups]), counts, weights, kernel)
