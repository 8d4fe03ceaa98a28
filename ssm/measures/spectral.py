"""The spectrum of the label matrix, and what logits have learned of each of its components.

Everything here works from *class sums* of logits (k x k), never from a k x n matrix. Where the result is `Any` it
is an array of the kind that comes in, NumPy's or JAX's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Real, Shaped

from ssm.config import profiles
from ssm.problem import Problem
from ssm.support.arrays import AnyArray

BLOCKS = (profiles.MAJORITY, "cross", profiles.MINORITY)
LEARNED = 0.5  # the share of its target at which a component or a class counts as learned


class LabelSpectrum(NamedTuple):
    """Singular value decomposition of a (weighted) label matrix without its zero mode, largest
    value first.

    Only the left vectors are kept: the right vector of component j is constant on each class, with
    entry left[c, j] / singular_values[j] on the samples of class c when the matrix is unweighted.
    """

    left: Float[np.ndarray, "k r"]
    """The left singular vectors u_j as columns, r = k - 1, each of which sums to zero. Inside a multiplet their
    choice is arbitrary."""
    singular_values: Float[np.ndarray, " r"]
    """The singular values s_j, in descending order."""
    blocks: Shaped[np.ndarray, " r"]
    """`majority`, `cross` or `minority`: the kind of contrast that holds most of u_j."""


def label_spectrum(
    counts: Int[np.ndarray, " k"] | Sequence[int],
    class_weights: Float[np.ndarray, " k"] | Sequence[float] | None = None,
    *,
    class_groups: Shaped[np.ndarray, " k"] | Sequence[str] | None = None,
    kernel_eigenvalues: Float[np.ndarray, " k"] | Sequence[float] | None = None,
    common_coupling: float = 0.0,
) -> LabelSpectrum:
    """The nonzero spectrum of S Omega K^(1/2) for any counts, from a k x k problem.

    The singular values are the square roots of the eigenvalues of P (diag(q) + beta r r^T) P with
    P = I - 11^T/k, q_c = n_c w_c^2 kappa_c and r_c = n_c w_c. Contrasts between alike classes are exact, of value
    sqrt(q_c); only those between groups of alike classes come from a numerical SVD, of diag(sqrt(q)) P, which
    keeps small values accurate. With unit weights and kernel it is the spectrum of the SEL matrix S
    itself. For STEP the values are w_maj sqrt(n_maj) (k_maj - 1 times), w_min sqrt(n_min) (k_min -
    1 times) and, once, sqrt(rho n_maj w_maj^2 + (1 - rho) n_min w_min^2).

    Args:
        counts: samples n_c of each class, shape (k,).
        class_weights: w_c, shape (k,); 1 when left out.
        class_groups: `majority` or `minority` for each class; by count when left out
            (`profiles.class_groups`).
        kernel_eigenvalues: kappa_c of the coupling kernel, shape (k,); 1 (free features) when left
            out.
        common_coupling: beta, the part of the kernel that all samples share.

    Source: SEL matrix and its unweighted STEP spectrum at rho = 1/2, Thrampoulidis, Kini, Vakilian,
    Behnia 2022; weights, coupling and any counts derived for this project.

    Example:
        >>> spectrum = label_spectrum([90, 90, 10, 10])
        >>> spectrum.singular_values.round(2).tolist()
        [9.49, 7.07, 3.16]
        >>> spectrum.blocks.tolist()
        ['majority', 'cross', 'minority']
    """
    counts = np.asarray(counts)
    k = len(counts)
    groups = np.asarray(
        profiles.class_groups(counts.tolist()) if class_groups is None else class_groups
    )
    weights = np.ones(k) if class_weights is None else np.asarray(class_weights, dtype=np.float64)
    kernel = np.ones(k) if kernel_eigenvalues is None else np.asarray(kernel_eigenvalues)
    root_q = weights * np.sqrt(counts * kernel)
    pull = common_coupling**0.5 * weights * counts

    alike: dict[tuple[str, float, float], list[int]] = {}
    for c in range(k):
        alike.setdefault((str(groups[c]), float(root_q[c]), float(pull[c])), []).append(c)
    sizes = np.array([len(members) for members in alike.values()])
    group_root_q = np.array([root for _, root, _ in alike])

    indicator = np.zeros((k, len(sizes)))  # a unit vector for each group of alike classes
    left, values = [], []
    for g, members in enumerate(alike.values()):
        indicator[members, g] = 1 / np.sqrt(len(members))
        contrasts = np.zeros((k, len(members) - 1))
        contrasts[members] = complement(np.ones((len(members), 1)))
        left.append(contrasts)
        values.append(np.full(len(members) - 1, group_root_q[g]))
    between = complement(np.sqrt(sizes)[:, None])
    scaled = group_root_q[:, None] * between
    if common_coupling > 0:
        scaled = np.append(scaled, (pull @ indicator @ between)[None], axis=0)
    _, between_values, rotation = np.linalg.svd(scaled, full_matrices=False)
    left.append(indicator @ between @ rotation.T)
    values.append(between_values)

    singular_values = np.concatenate(values)
    order = np.argsort(-singular_values, kind="stable")
    vectors = np.hstack(left)[:, order]
    largest_entry = vectors[np.abs(vectors).argmax(axis=0), np.arange(k - 1)]
    vectors = vectors * np.sign(largest_entry)
    return LabelSpectrum(vectors, singular_values[order], _blocks(vectors, groups))


def components(problem: Problem) -> LabelSpectrum:
    """The fixed basis in which a problem is followed: the spectrum of its unweighted label matrix S, or of its
    targets."""
    if problem.targets is not None:
        named = problem.class_groups if problem.targets.are_named else None
        return target_spectrum(problem.targets.probabilities, named)
    return label_spectrum(problem.counts, class_groups=problem.class_groups)


def target_spectrum(
    targets: Float[np.ndarray, "k n"],
    class_groups: Shaped[np.ndarray, " k"] | Sequence[str] | None = None,
) -> LabelSpectrum:
    """The nonzero spectrum of the centred targets T = [p_j - 1/k] of n samples, largest value first, from a k x k
    problem: the triangle R of T^T = Q R has the values and left vectors of T.

    The right vector of component j is T^T u_j / s_j. With one-hot labels these are the components of
    `label_spectrum`, up to the choice of vectors of equal values.

    Args:
        targets: p_j, a column a sample, each of them summing to 1.
        class_groups: `majority` or `minority` for each class, by which contrasts are named; left out, no component
            has a name.

    Source: in kind Zhao, Behnia, Vakilian, Thrampoulidis 2024 (sparse supports of next tokens); derived for this
    project.

    Example:
        >>> supports = np.array([[0.5, 0.0], [0.5, 0.0], [0.0, 0.5], [0.0, 0.5]])  # +-(1, 1, -1, -1) / 4
        >>> target_spectrum(supports).singular_values.round(3).tolist()
        [0.707]
    """
    centred = np.asarray(targets, dtype=np.float64) - 1 / len(targets)
    is_wide = centred.shape[1] > len(centred)
    narrow = np.linalg.qr(centred.T).R.T if is_wide else centred
    left, values, _ = np.linalg.svd(narrow, full_matrices=False)
    number = int((values > max(centred.shape) * np.finfo(float).eps * values[0]).sum())
    left, values = left[:, :number], values[:number]
    largest_entry = left[np.abs(left).argmax(axis=0), np.arange(number)]
    left = left * np.sign(largest_entry)
    blocks = np.full(number, "", dtype="<U8")
    if class_groups is not None:
        blocks = _blocks(left, np.asarray(class_groups))
    return LabelSpectrum(left, values, blocks)


def complement(columns: Float[AnyArray, "m r"]) -> Float[np.ndarray, "m q"]:
    """Orthonormal columns that span the orthogonal complement of given ones, q = m - r where these are independent."""
    return np.linalg.qr(columns, mode="complete")[0][:, columns.shape[1] :]


def _blocks(left: Float[np.ndarray, "k r"], groups: Shaped[np.ndarray, " k"]) -> np.ndarray:
    """The block of each left vector, which is that of the three orthogonal kinds of contrast that holds most of
    it."""
    majority = groups == profiles.MAJORITY

    def within(mask: np.ndarray) -> np.ndarray:
        part = left[mask]
        return (
            ((part - part.mean(axis=0)) ** 2).sum(axis=0) if mask.any() else np.zeros(left.shape[1])
        )

    shares = {BLOCKS[0]: within(majority), BLOCKS[2]: within(~majority)}
    shares[BLOCKS[1]] = 1 - shares[BLOCKS[0]] - shares[BLOCKS[2]]
    return np.array(BLOCKS)[np.argmax([shares[name] for name in BLOCKS], axis=0)]


def strengths(
    class_sums: Float[AnyArray, "*batch k k"], spectrum: LabelSpectrum
) -> Float[Any, "*batch r"]:
    """Strength u_j^T Z v_j of every component in the fixed basis of the label matrix S.

    With v_j constant on classes this is (U^T C U)_jj / s_j, C the class sums of the logits Z. Its
    target under the squared loss is s_j.

    Args:
        class_sums: C, shape (..., k, k): sums of logits, [logit, class].
        spectrum: of the unweighted label matrix.

    Returns:
        shape (..., k - 1).
    """
    projected = spectrum.left.T @ class_sums
    return (projected * spectrum.left.T).sum(-1) / spectrum.singular_values


def mean_target_strengths(
    class_sums: Float[AnyArray, "*batch k k"],
    mean_targets: Float[AnyArray, "k k"],
    counts: Real[AnyArray, " k"],
) -> Float[Any, "*batch k"]:
    """The projection of each class's mean logits on the mean centred target of its samples, <zbar_c, tbar_c> /
    |tbar_c|^2, which is 1 at interpolation: `class_strengths` of samples that are taught distributions. Shape
    (..., k); 0 for a class without samples, and for one whose samples have a mean centred target of 0.

    Args:
        class_sums: as in `strengths`.
        mean_targets: tbar_c, one column a class.
        counts: shape (k,).
    """
    squares = (mean_targets**2).sum(0)
    scale = counts * squares
    return (class_sums * mean_targets).sum(-2) / (scale + (scale == 0))


def mean_targets(
    centred: Float[np.ndarray, "k n"],
    labels: Int[np.ndarray, " n"],
    counts: Int[np.ndarray, " k"],
) -> Float[np.ndarray, "k k"]:
    """The mean centred target of the samples of each class, one column a class; 0 for a class without samples."""
    return centred @ np.eye(len(centred))[labels] / np.maximum(counts, 1)


def class_strengths(
    class_sums: Float[AnyArray, "*batch k k"], counts: Real[AnyArray, " k"]
) -> Float[Any, "*batch k"]:
    """The projection of each class's mean logits on its simplex-encoded target, <zbar_c, s_c> / |s_c|^2, which is 1 at
    interpolation.

    s_c = e_c - 1/k has |s_c|^2 = 1 - 1/k. `class_sums` as in `strengths`; returns shape (..., k).
    """
    means = class_sums / counts[None]
    of_label = (means * np.eye(len(counts))).sum(-2)
    return (of_label - means.mean(-2)) / (1 - 1 / len(counts))


def block_weights(spectrum: LabelSpectrum) -> Float[np.ndarray, "blocks r"]:
    """The weights with which strengths add up to the share of its target that each block has reached,
    in the order of `BLOCKS`: 1 / (sum of the block's targets); NaN for an empty block."""
    members = np.array([spectrum.blocks == name for name in BLOCKS], dtype=float)
    targets = members @ spectrum.singular_values
    return members / np.where(targets > 0, targets, np.nan)[:, None]


def singular_values(gram: Float[np.ndarray, "*batch k k"]) -> Float[np.ndarray, "*batch k"]:
    """The singular values of a matrix X, in descending order, from X X^T. The rows of X may be of any size but not
    nearly parallel.

    With D the lengths of the rows, X X^T = D A D, and D times a Cholesky factor of A has the
    singular values of X. They are exact up to the rounding of the largest, while the square roots
    of the eigenvalues of X X^T are lost below a part in 1e8 of it (after Demmel and Veselic 1992).
    """
    lengths = np.sqrt(np.diagonal(gram, axis1=-2, axis2=-1))
    safe = np.where(lengths > 0, lengths, 1)
    scaled = gram / (safe[..., :, None] * safe[..., None, :])
    rounding = 16 * gram.shape[-1] * np.finfo(gram.dtype).eps
    try:
        factor = np.linalg.cholesky(scaled + rounding * np.eye(gram.shape[-1], dtype=gram.dtype))
    except np.linalg.LinAlgError:  # rows that are parallel up to rounding
        values, vectors = np.linalg.eigh(scaled)
        factor = vectors * np.sqrt(values.clip(0))[..., None, :]
    return np.linalg.svd(lengths[..., None] * factor, compute_uv=False)


def residual(
    strength: Float[AnyArray, "*batch r"], energy: Float[AnyArray, "*batch"]
) -> Float[Any, "*batch"]:
    """The share of the logits' energy |Z|^2 that lies outside the fixed basis: 1 - sum_j strength_j^2 /
    |Z|^2, in [0, 1].

    Args:
        strength: shape (..., k - 1).
        energy: |Z|^2 (Frobenius), shape (...). Where it is 0 the share is 0.
    """
    inside = (strength**2).sum(-1)
    outside = (energy - inside) / (energy + (energy == 0))
    return outside.clip(0, 1)


def block_means(values: np.ndarray, blocks: Shaped[np.ndarray, " r"]) -> np.ndarray:
    """The mean over each block's components, in the order of `BLOCKS`: (..., r) -> (..., 3); NaN for an
    empty block.

    Means over a multiplet do not depend on the choice of vectors inside it, but single components do.
    """
    means = [
        values[..., blocks == name].mean(axis=-1)
        if (blocks == name).any()
        else np.full(values.shape[:-1], np.nan)
        for name in BLOCKS
    ]
    return np.stack(means, axis=-1)


def learning_times(
    times: Float[np.ndarray, " t"],
    progress: Float[np.ndarray, " t *series"],
    level: float = LEARNED,
) -> Float[np.ndarray, "*series"]:
    """The time at which `progress` first reaches `level`, by linear interpolation between observed times; NaN
    where it never does.

    Args:
        times: shape (t,), ascending, any unit.
        progress: share of the target, shape (t, ...); NaN counts as not observed, and is interpolated across.
    """
    if not len(times):
        return np.full(progress.shape[1:], np.nan)
    reached = progress >= level
    first = reached.argmax(axis=0)
    places = np.arange(len(times)).reshape(-1, *[1] * (progress.ndim - 1))
    last_seen = np.maximum.accumulate(np.where(np.isnan(progress), -1, places), axis=0)
    before = np.take_along_axis(last_seen, np.maximum(first - 1, 0)[None], axis=0)[0]
    before = np.where(before < 0, first, before)  # nothing was observed before
    high = np.take_along_axis(progress, first[None], axis=0)[0]
    low = np.take_along_axis(progress, before[None], axis=0)[0]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(first > before, (level - low) / (high - low), 1.0)
    crossing = times[before] + share * (times[first] - times[before])
    return np.where(reached.any(axis=0), crossing, np.nan)
