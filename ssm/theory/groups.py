"""Problems of two groups of equal classes, STEP, by the numbers of each group."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from ssm.config import profiles
from ssm.problem import Problem
from ssm.support import errors

NOTHING = np.zeros(1)


class Step(NamedTuple):
    """A STEP problem, majority and minority along the last axis."""

    sizes: Float[np.ndarray, "*grid 2"]
    """Classes k_g of each group."""
    counts: Float[np.ndarray, "*grid 2"]
    """Samples n_g of a class."""
    weights: Float[np.ndarray, "*grid 2"]
    """w_g."""
    kernel: Float[np.ndarray, "*grid 2"]
    """kappa_g = 1 - c + (c - c_b) n_g."""
    common: Float[np.ndarray, "*grid 1"] = NOTHING
    """beta, what all samples share of the coupling kernel: c_b, and 1 more with a bias of the features."""
    output_bias: bool = False
    """Whether the logits have a bias."""

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

    @property
    def seen_targets(self) -> Float[np.ndarray, "*grid 2"]:
        """`cross_targets` as the gradient shows them while features are small, of `growth.seen_contrasts`: less
        their mean by risk, with a bias of the logits at rest."""
        if not self.output_bias:
            return self.cross_targets
        members = self.sizes * self.counts
        risk, root = members * self.weights, np.sqrt(members)
        left = self.cross_targets / root
        rest = (risk * left).sum(axis=-1, keepdims=True) / risk.sum(axis=-1, keepdims=True)
        return root * (left - rest)


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
    sizes, common = (
        np.array([float(group.shape[1]) for group in groups]),
        np.array([problem.common_coupling]),
    )
    return Step(sizes, counts, weights, kernel, common, problem.output_bias)


class ByClass(NamedTuple):
    """A problem class by class, or each of a grid of them."""

    counts: Float[np.ndarray, "*grid k"] | Int[np.ndarray, " k"]
    """n_c."""
    class_weights: Float[np.ndarray, "*grid k"]
    """w_c."""
    kernel_eigenvalues: Float[np.ndarray, "*grid k"]
    """kappa_c."""
    common_coupling: Float[np.ndarray, "*grid"]
    """beta."""
    output_bias: bool

    @property
    def kernel(self) -> Float[np.ndarray, "*grid k k"]:
        """T, `Problem.class_kernel`."""
        each = self.kernel_eigenvalues / self.counts
        return each[..., None] * np.eye(each.shape[-1]) + self.common_coupling[..., None, None]

    @property
    def shared_direction(self) -> Float[np.ndarray, "*grid k"]:
        """v with I + v v^T = (I + f f^T)^(1/2), f_c = sqrt(beta n_c / kappa_c); 0 where samples share nothing."""
        f = np.sqrt(self.common_coupling[..., None] * self.counts / self.kernel_eigenvalues)
        return f / np.sqrt(1 + np.sqrt(1 + (f * f).sum(axis=-1, keepdims=True)))

    @property
    def kernel_root(self) -> Float[np.ndarray, "*grid k k"]:
        """L with L L^T = T: diag(sqrt(kappa_c / n_c)) (I + v v^T), v of `shared_direction`."""
        v, root = self.shared_direction, np.sqrt(self.kernel_eigenvalues / self.counts)
        return root[..., None] * (np.eye(root.shape[-1]) + v[..., None] * v[..., None, :])


Problems = Problem | Step | ByClass
"""One problem, or a grid of them."""


def by_class(problem: Problems) -> ByClass:
    """A problem, or those of a grid, class by class.

    Raises:
        ssm.InputError: a grid whose groups have not the same whole number of classes at every point.
    """
    if isinstance(problem, ByClass):
        return problem
    if isinstance(problem, Step):
        group = np.repeat([0, 1], whole_sizes(problem))
        each = np.broadcast_arrays(problem.counts, problem.weights, problem.kernel)
        counts, weights, kernel = (x[..., group] for x in each)
        return ByClass(counts, weights, kernel, problem.common[..., 0], problem.output_bias)
    p = problem
    common = np.array(p.common_coupling)
    return ByClass(p.counts, p.class_weights, p.kernel_eigenvalues, common, p.output_bias)


def whole_sizes(step: Step) -> Int[np.ndarray, " 2"]:
    """How many classes each group has, which is asked to be one whole number on all of a grid."""
    sizes = step.sizes.reshape(-1, 2)[0]
    if (step.sizes != sizes).any() or (sizes != np.round(sizes)).any():
        raise errors.invalid("sizes", step.sizes, "the same whole numbers at every point")
    return sizes.astype(int)


def cross_start(
    step: Step, growing: bool
) -> tuple[Float[np.ndarray, "*grid 2"], Float[np.ndarray, "*grid 1"]]:
    """How much of the cross component of a balanced start the features of each group have on their own, and all
    samples together, up to a common factor: sqrt(kappa_g) |s_g| and sqrt(beta) sum_g sqrt(k_g n_g) s_g of a
    spectral start, with w_g s_g in the place of s_g, and `Step.seen_targets`, of what any small one tends to."""
    pull = step.weights * step.seen_targets if growing else step.cross_targets
    common = (np.sqrt(step.sizes * step.counts) * pull).sum(axis=-1, keepdims=True)
    return np.sqrt(step.kernel) * np.abs(pull), np.sqrt(step.common) * common


def refuse_shared(problem: Problem | Step) -> None:
    """Refuse, by InputError, what ties all classes together where it is not known what that does: a coupling
    between classes, and biases."""
    if isinstance(problem, Step):
        if (problem.common > 0).any():
            shared = "0: no coupling between classes and no bias of the features"
            raise errors.invalid("problem.common", problem.common, shared)
        if problem.output_bias:
            raise errors.invalid("bias", "output", "none")
        return
    if problem.between_coupling > 0:
        raise errors.invalid("between_coupling", float(problem.between_coupling), "0")
    if problem.hidden_bias or problem.output_bias:
        raise errors.invalid("bias", bias_of(problem), "none")


def bias_of(problem: Problem) -> str:
    """The `Config.bias` of a problem that has one."""
    if problem.hidden_bias:
        return "both" if problem.output_bias else "hidden"
    return "output"
