"""The targets, weights and couplings of single samples, where those of a class are not all alike, and the rates at
which the components that they teach grow."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from ssm.problem.problem import Problem, membership, simplex_labels

NEGLIGIBLE = 1e-7
"""The share of the largest singular value below which another one is taken for rounding: some ten times the root of the
rounding of 1, since the values are computed as roots of the eigenvalues of X X^T."""


def are_alike(problem: Problem) -> bool:
    """Whether all samples of a class are taught the same, weigh the same, and are coupled alike."""
    return problem.targets is None and problem.groups is None


def centred_targets(problem: Problem) -> Float[np.ndarray, "k n"]:
    """T with the columns p_j - 1/k, which is the SEL matrix where samples are taught their labels."""
    if problem.targets is not None:
        return problem.targets.centred
    return simplex_labels(problem.labels, len(problem.counts))


def sample_weights(problem: Problem) -> Float[np.ndarray, " n"]:
    """The factor of each sample's loss beside the weight of its class: its own, or that of its group."""
    if problem.targets is not None:
        return problem.targets.sample_weights
    if problem.groups is not None:
        return problem.groups.weights[problem.groups.labels]
    return np.ones(len(problem.labels))


def of_unit_mean(problem: Problem) -> Problem:
    """The problem with the factors of its samples scaled so that the weight of a sample, that of its class included, is 1
    on average. It is for a weighted mean, whose risk does not depend on the scale of the weights."""
    each = problem.class_weights[problem.labels] * sample_weights(problem)
    if (targets := problem.targets) is not None:
        scaled = targets._replace(sample_weights=targets.sample_weights / each.mean())
        return problem._replace(targets=scaled)
    if (groups := problem.groups) is not None:
        return problem._replace(groups=groups._replace(weights=groups.weights / each.mean()))
    return problem


def coupled(problem: Problem, X: Float[np.ndarray, "r n"]) -> Float[np.ndarray, "r n"]:
    """X K, with K the coupling kernel of the samples."""
    if problem.groups is not None:
        members = membership(problem.groups.labels, problem.groups.counts.size)
        return problem.private_coupling * X + (X @ members) @ problem.group_kernel @ members.T
    members = membership(problem.labels, len(problem.counts))
    within = problem.coupling - problem.between_coupling
    moved = (1 - problem.coupling) * X + within * (X @ members) @ members.T
    return moved + problem.common_coupling * X.sum(axis=1, keepdims=True)


def with_growth_rates(problem: Problem, inputs: Float[np.ndarray, "p n"] | None = None) -> Problem:
    """The problem, whose samples are not all alike within a class, with the rates at which its components grow from
    small starts: the singular values of [r_j (p_j - 1/k)] K^(1/2), with r_j = w_{y_j} a_j / n the factor of a
    sample's loss in the risk. With inputs K = X^T X.

    Source: derived for this project.
    """
    shares = problem.class_weights[problem.labels] * sample_weights(problem) / len(problem.labels)
    T = centred_targets(problem) * shares
    if inputs is not None:
        rates = np.linalg.svd(T @ inputs.T, compute_uv=False)
    else:
        rates = np.sqrt(np.linalg.eigvalsh(coupled(problem, T) @ T.T)[::-1].clip(0))
    return problem._replace(growth_rates=rates[rates > NEGLIGIBLE * rates[0]])
