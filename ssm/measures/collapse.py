"""Measures of neural collapse of one state, in each of the definitions that papers and code use for them
where classes differ in size.

`geometry` has the measures that results hold; here all are functions of the classifier W (k x d), the features H
(d x n), one column a sample, and the labels. At equal counts `classes` and `samples` choose the same
definition.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Real
from scipy.spatial.distance import pdist

from ssm.measures import geometry
from ssm.support import checks, errors

BY = ("classes", "samples")
FORMS = ("pseudoinverse", "traces")
GRAMS = ("samples", "means", "centred_means")


class _Moments(NamedTuple):
    means: Float[np.ndarray, "d k"]
    deviations: Float[np.ndarray, "d n"]
    counts: Float[np.ndarray, " k"]
    members: Float[np.ndarray, "n k"]


def _moments(H: Float[np.ndarray, "d n"], labels: Int[np.ndarray, " n"]) -> _Moments:
    if labels.min(initial=0) < 0 or not labels.size:
        raise errors.invalid("labels", labels.tolist(), "integers from 0 on, one a column of H")
    members = (labels[:, None] == np.arange(labels.max() + 1)).astype(np.float64)
    counts = members.sum(axis=0)
    if len(counts) < 2 or not counts.all():
        raise errors.invalid(
            "labels", labels.tolist(), "of two classes at least, each with a sample"
        )
    means = H @ (members / counts)
    return _Moments(means, H - means[:, labels], counts, members)


def _shares(by: str, counts: Real[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """The weight of each class in an average over classes, or over samples."""
    classes = checks.choice("by", by, BY) == "classes"
    return np.full(len(counts), 1 / len(counts)) if classes else counts / counts.sum()


def within_covariance(
    H: Float[np.ndarray, "d n"], labels: Int[np.ndarray, " n"], by: str = "classes"
) -> Float[np.ndarray, "d d"]:
    """Sigma_W = sum_c q_c cov_c of the covariances within classes, (1 / n_c) sum_i (h_i - mu_c)(h_i -
    mu_c)^T, shape (d, d).

    Args:
        by: `classes` counts each class alike, q_c = 1 / k, as results do; `samples` pools them, q_c = n_c / n.

    Raises ssm.InputError for another word, and for labels that leave out a class.

    Source: Papyan, Han, Donoho 2020 and Zhu et al. 2021 write an average over i and c of equal counts;
    with other counts code uses either definition.
    """
    m = _moments(H, labels)
    weights = (_shares(by, m.counts) / m.counts)[labels]
    return (m.deviations * weights) @ m.deviations.T


def between_covariance(
    H: Float[np.ndarray, "d n"],
    labels: Int[np.ndarray, " n"],
    by: str = "classes",
    centre: str = "classes",
) -> Float[np.ndarray, "d d"]:
    """Sigma_B = sum_c q_c (mu_c - mu)(mu_c - mu)^T, shape (d, d).

    Args:
        by: q_c, as in `within_covariance`.
        centre: mu is the mean of the class means (`classes`, as in results) or that of all features
            (`samples`, as Papyan, Han, Donoho 2020 write it).

    With `samples` for both it is Fisher's, which together with the pooled Sigma_W adds up to the covariance of all
    features. Raises ssm.InputError as `within_covariance` does.
    """
    m = _moments(H, labels)
    apart = m.means - (m.means @ _shares(centre, m.counts))[:, None]
    return (apart * _shares(by, m.counts)) @ apart.T


def nc1(
    H: Float[np.ndarray, "d n"],
    labels: Int[np.ndarray, " n"],
    *,
    within: str = "classes",
    between: str = "classes",
    centre: str = "classes",
    form: str = "pseudoinverse",
) -> float:
    """NC1, variability within classes over that between them: tr(Sigma_W Sigma_B^+) / k, or tr Sigma_W /
    tr Sigma_B.

    Of the largest k - 1 eigenvalues of Sigma_B, which has no more since mu is a mean of the mu_c, those above
    rounding are kept; NaN where there are none.

    Args:
        within, between, centre: `by` of `within_covariance`, and `by` and `centre` of `between_covariance`.
        form: `pseudoinverse`, which weighs every direction by how little classes differ in it, or
            `traces`, which does not.

    Raises ssm.InputError for another word, and for labels that leave out a class.

    Source: Papyan, Han, Donoho 2020 and Zhu et al. 2021 for the first form; the second is common in later
    code.
    """
    checks.choice("form", form, FORMS)
    m = _moments(H, labels)
    covariance = within_covariance(H, labels, within)
    whitened, spread = whitening(m.means, m.counts, between, centre)
    if not whitened.size:
        return float("nan")
    if form == "traces":
        return float(covariance.trace() / spread)
    return float(((covariance @ whitened) * whitened).sum() / len(m.counts))


def whitening(
    means: Float[np.ndarray, "d k"],
    counts: Real[np.ndarray, " k"],
    between: str = "classes",
    centre: str = "classes",
) -> tuple[Float[np.ndarray, "d r"], float]:
    """A root B of the pseudo-inverse of Sigma_B, B B^T = Sigma_B^+, and tr Sigma_B, from the class means.

    Of the largest k - 1 eigenvalues of Sigma_B those above rounding are kept; there are r of them, possibly none.

    Args:
        means: mu_c, one a column, shape (d, k).
        counts: n_c, shape (k,).
        between, centre: as in `nc1`.
    """
    k = len(counts)
    apart = means - (means @ _shares(centre, counts))[:, None]
    left, values, _ = np.linalg.svd(apart * np.sqrt(_shares(between, counts)), full_matrices=False)
    left, values = left[:, : k - 1], values[: k - 1]
    kept = values > max(apart.shape) * np.finfo(np.float64).eps * np.linalg.norm(means)
    return left[:, kept] / values[kept], float((values**2).sum())


def cdnv(H: Float[np.ndarray, "d n"], labels: Int[np.ndarray, " n"]) -> float:
    """Class-distance normalised variance: the mean over pairs of classes of (V_c + V_c') / (2 |mu_c -
    mu_c'|^2), with V_c the mean of |h - mu_c|^2 over the samples of a class.

    Every class counts alike in it whatever its size. It is infinite where two class means are the same.

    Raises ssm.InputError for labels that leave out a class.

    Source: Galanti, Gyorgy, Hutter 2022.
    """
    m = _moments(H, labels)
    return cdnv_of_moments(m.means, (m.deviations**2).sum(axis=0) @ m.members / m.counts)


def cdnv_of_moments(means: Float[np.ndarray, "d k"], variances: Float[np.ndarray, " k"]) -> float:
    """`cdnv` from the class means, one a column, and V_c."""
    first, second = np.triu_indices(len(variances), 1)
    distances = pdist(means.T, "sqeuclidean")  # in the order of the pairs
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(((variances[first] + variances[second]) / (2 * distances)).mean())


def nc4(
    W: Float[np.ndarray, "k d"],
    H: Float[np.ndarray, "d n"],
    labels: Int[np.ndarray, " n"],
    by: str = "classes",
    bias: Float[np.ndarray, " k"] | None = None,
) -> float:
    """NC4, the share of samples whose largest logit is not of the class with the nearest mean.

    Args:
        by: `classes`, the mean of the shares of the classes, as in results; or `samples`, the share of all samples.
        bias: the bias of the logits.

    Raises ssm.InputError for another word, and for labels that leave out a class.

    Source: Papyan, Han, Donoho 2020.
    """
    m = _moments(H, labels)
    logits = W @ H if bias is None else W @ H + bias[:, None]
    every = checks.choice("by", by, BY) == "samples"
    columns = np.ones((H.shape[1], 1)) if every else m.members
    return float(geometry.nearest_mean_mismatch(logits, H, m.means, columns))


def etf_distances(
    W: Float[np.ndarray, "k d"],
    H: Float[np.ndarray, "d n"],
    labels: Int[np.ndarray, " n"],
    of: str = "samples",
) -> Float[np.ndarray, " 3"]:
    """Frobenius distances to the simplex ETF of three matrices, each and its target scaled to unit norm,
    in the order of `geometry.PARTS`. The first matrix is W W^T, with the target I - 11^T / k.

    Args:
        of: the other two matrices. `samples`: H^T H (n x n) and W H (k x n), where a class counts by its samples, as
            in results (`etf_distance`). `means`: M^T M and W M with the class means as columns. `centred_means`:
            M^T M and W M with the mean of the class means subtracted from each.

    Raises ssm.InputError for another word, and for labels that leave out a class.

    Source: Zhu et al. 2021, whose NC2 is the distance of W W^T and whose NC3 is that of W times centred means;
    Thrampoulidis, Kini, Vakilian, Behnia 2022 for matrices over samples.
    """
    m = _moments(H, labels)
    k, scatter = len(m.counts), np.zeros((len(H), len(H)))
    means, counts = m.means, np.ones(k)
    if checks.choice("of", of, GRAMS) == "samples":
        counts, scatter = m.counts, m.deviations @ m.deviations.T
    elif of == "centred_means":
        means = means - means.mean(axis=1, keepdims=True)
    return geometry.distances(W, means, scatter, counts, geometry.etf(k))
