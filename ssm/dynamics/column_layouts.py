"""The columns of a run: which kind of columns it takes, and their constants."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ssm.config import Config
from ssm.dynamics.columns import BLOCK, MANY, SMALL, Columns, GroupColumns
from ssm.problem import Problem, losses, membership, samples
from ssm.problem.problem import Groups
from ssm.problem.soft_losses import SoftCrossEntropy, SoftSquared


def _whole_blocks(number: int) -> int:
    """A number of samples, padded to whole blocks where they are many."""
    return number if number < MANY else -(-number // BLOCK) * BLOCK


def sample_columns(
    problem: Problem,
    loss: losses.Loss,
    size: int | None = None,
    inputs: Float[np.ndarray, "p n"] | None = None,
    **options: Any,
) -> Columns:
    """One column a sample, with the inputs of the samples where they have any. They are padded up to `size` columns
    by columns that weigh nothing and stay where they are."""
    n = problem.counts.sum()
    padding = 0 if size is None else size - n
    labels = np.pad(problem.labels, (0, padding))
    real = (np.arange(n + padding) < n).astype(float)
    if problem.groups is not None:
        options["groups"] = _group_columns(problem, problem.groups, int(padding))
    if problem.targets is not None:
        soft = SoftSquared if isinstance(loss, losses.Squared) else SoftCrossEntropy
        loss = soft(np.pad(problem.targets.probabilities, ((0, 0), (0, padding))))
    if not samples.are_alike(problem):
        targets, weights = samples.centred_targets(problem).T, samples.sample_weights(problem)
        options["target_columns"] = np.pad(targets, ((0, padding), (0, 0)))
        options["sample_weights"] = np.pad(weights, (0, padding))
    is_without = problem.coupling == 0 or inputs is not None or problem.groups is not None
    return _columns(
        problem,
        loss,
        labels,
        multiplicity=real,
        constant=np.ones(len(labels)),
        coupling=None if is_without else problem.coupling,
        inputs=None if inputs is None else np.pad(inputs, ((0, 0), (0, padding))),
        **options,
    )


def _group_columns(problem: Problem, groups: Groups, padding: int) -> GroupColumns:
    """What sample columns need to know of the groups inside classes. Padding has the label of the first group."""
    labels, number = groups.labels, groups.counts.size
    counts, M = groups.counts.ravel().astype(float), problem.group_kernel
    private = problem.private_coupling
    solved = np.linalg.solve(private * np.eye(number) + M * counts, M) if private > 0 else M
    return GroupColumns(
        labels=np.pad(labels, (0, padding)),
        counts=counts,
        members=np.pad(membership(labels, number), ((0, padding), (0, 0))),
        kernel=M,
        private=np.asarray(private),
        inverse=solved,
    )


def class_columns(problem: Problem, loss: losses.Loss, **options: Any) -> Columns:
    """One column a class, for features that are equal on each class."""
    return _columns(
        problem,
        loss,
        np.arange(len(problem.counts)),
        multiplicity=problem.counts.astype(float),
        constant=np.ones(len(problem.counts)),
        kernel=problem.kernel_eigenvalues / problem.counts,
        **options,
    )


def coordinate_columns(problem: Problem, width: int, **options: Any) -> Columns:
    """`width` coordinates a class, for the squared loss and coupling below 1."""
    counts = problem.counts
    first = np.tile(np.arange(width) == 0, len(counts))
    labels = np.repeat(np.arange(len(counts)), width)
    exists = (np.arange(width) < counts[:, None]).ravel()
    constant = np.where(first, np.sqrt(counts)[labels], 0.0)
    return _columns(
        problem,
        losses.Squared(label_scale=constant),
        labels,
        multiplicity=exists.astype(float),
        constant=constant,
        kernel=np.where(first, problem.kernel_eigenvalues[labels], 1 - problem.coupling),
        conserved_factor=1 - problem.coupling,
        coordinates=True,
        **options,
    )


def _columns(
    problem: Problem,
    loss: losses.Loss,
    labels: Int[np.ndarray, " m"],
    *,
    multiplicity: Float[np.ndarray, " m"],
    constant: Float[np.ndarray, " m"],
    kernel: Float[np.ndarray, " m"] | None = None,
    coupling: Float[np.ndarray, ""] | None = None,
    inputs: Float[np.ndarray, "p m"] | None = None,
    target_columns: Float[np.ndarray, "m k"] | None = None,
    sample_weights: Float[np.ndarray, " m"] | None = None,
    groups: GroupColumns | None = None,
    conserved_factor: float | Float[np.ndarray, ""] = 1.0,
    coordinates: bool = False,
    weighted_mean: bool = False,
) -> Columns:
    counts = problem.counts.astype(float)
    members = membership(labels, len(counts)) * multiplicity[:, None]
    sum_columns = members * constant[:, None]
    is_apart = inputs is not None or groups is not None  # which have kernels of their own
    beta = 0.0 if is_apart else problem.common_coupling
    each = multiplicity if sample_weights is None else multiplicity * sample_weights
    summed = sum_columns if target_columns is None else np.hstack([sum_columns, target_columns])
    return Columns(
        labels=labels,
        counts=counts,
        multiplicity=multiplicity,
        constant=constant,
        risk_weights=each * problem.class_weights[labels] / counts.sum(),
        kernel=kernel,
        coupling=coupling,
        between_coupling=None if coupling is None else problem.between_coupling,
        common=None if beta == 0 else np.sqrt(beta) * constant * (multiplicity > 0),
        inputs=inputs,
        transposed_inputs=_small_transpose(inputs),
        input_sums=None if inputs is None else inputs @ summed,
        sum_columns=sum_columns,
        member_columns=members,
        target_columns=target_columns,
        sample_weights=sample_weights,
        groups=groups,
        conserved_factor=np.asarray(conserved_factor, dtype=float),
        loss=loss,
        weighted_mean=weighted_mean,
        coordinates=coordinates,
    )


def _small_transpose(X: Float[np.ndarray, "p m"] | None) -> Float[np.ndarray, "m p"] | None:
    return None if X is None or X.size > SMALL else np.ascontiguousarray(X.T)


def make_columns(
    config: Config,
    problem: Problem,
    size: int | None = None,
    inputs: Float[np.ndarray, "p n"] | None = None,
    loss: losses.Loss | None = None,
) -> Columns:
    """The fewest columns in which a Config can be run exactly; samples are padded up to `size`. `inputs`
    are those of its samples, sorted by class, where they have any, and `loss` is a loss of one's own, if the Config asks
    for one."""
    options: dict[str, Any] = {"weighted_mean": config.reduction == "weighted_mean"}
    if inputs is None and config.column_kind == "coordinates":
        return coordinate_columns(problem, config.num_columns // config.num_classes, **options)
    loss = losses.configured_loss(config, problem.counts) if loss is None else loss
    if inputs is None and config.column_kind == "classes":
        return class_columns(problem, loss, **options)
    size = _whole_blocks(size or int(problem.counts.sum()))
    return sample_columns(problem, loss, size, inputs, **options)
