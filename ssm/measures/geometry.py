"""Where classifier and features point: the limits of the terminal phase, how far a state is from
them, and the measures of neural collapse.

A state is given by its class means and by the scatter of its samples about them, never by an n x n
matrix.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Real

from ssm.measures import spectral
from ssm.support.arrays import AnyArray

FACTORS = ("W", "H")
PARTS = (*FACTORS, "Z")


class Geometry(NamedTuple):
    """A configuration with every sample at its class mean, up to rotation and scale."""

    classifier: Float[np.ndarray, "k k"]
    """W W^T: inner products of the rows of the classifier."""
    features: Float[np.ndarray, "k k"]
    """M^T M: inner product of the feature of any sample of one class with any of another."""
    logits: Float[np.ndarray, "k k"]
    """Logits of a sample of each class, one column a class."""


class StepGeometry(NamedTuple):
    """Squared norms and cosines of the SELI geometry under STEP; the cosine within a group of a
    single class is NaN."""

    classifier_norms2: Float[np.ndarray, " groups"]
    """|w_c|^2 of majority and minority."""
    feature_norms2: Float[np.ndarray, " groups"]
    """|h_c|^2 of majority and minority."""
    classifier_cosines: Float[np.ndarray, " pairs"]
    """cos(w_c, w_c') within the majority, within the minority, and between the two."""
    feature_cosines: Float[np.ndarray, " pairs"]
    """cos(h_c, h_c') within the majority, within the minority, and between the two."""
    alignment: Float[np.ndarray, " groups"]
    """cos(w_c, h_c) of majority and minority."""


def seli(counts: Real[np.ndarray, " k"]) -> Geometry:
    """The simplex-encoded-labels interpolation (SELI), in which free features end under zero-regularised cross-entropy,
    whatever the weights.

    With S = U Sig V^T the SVD of the SEL matrix, W W^T = U Sig U^T, H^T H = V Sig V^T and W H = S.
    V is constant on classes, with rows of U Sig^-1, so the features of two classes have the inner
    products U Sig^-1 U^T, and the logits are I - 11^T/k.

    Args:
        counts: n_c > 0, shape (k,), k at least 2; need not be integers (`effective_counts`).

    Raises:
        ValueError: a count that is not positive.

    Source: Thrampoulidis, Kini, Vakilian, Behnia 2022.

    Example:
        >>> np.diag(seli(np.array([90, 90, 10, 10])).classifier).round(2).tolist()
        [6.51, 6.51, 3.35, 3.35]
    """
    counts = np.asarray(counts, dtype=np.float64)
    if not (counts > 0).all():
        raise ValueError(f"counts={counts.tolist()}: must be positive")
    k = len(counts)
    # Only n_c w_c^2 matters, so a class is one sample of weight sqrt(n_c), since n_c may be no integer.
    U, values, _ = spectral.label_spectrum(np.ones(k, dtype=int), np.sqrt(counts))
    return Geometry((U * values) @ U.T, (U / values) @ U.T, np.eye(k) - 1 / k)


def adjusted_seli(counts: Real[np.ndarray, " k"], factors: Real[np.ndarray, " k"]) -> Geometry:
    """The geometry in which free features end under cross-entropy of logits f_c z_c, as with
    `multiplicative_adjustment`, whatever the weights, offsets and margins. It is SELI where all factors are equal.

    The limit is the least nuclear norm of Z with f_y z_y - f_c z_c >= 1. With x_c = 1 / f_c it is
    Z = (I - x x^T / |x|^2) diag(x) Y = U Sig V^T, and W W^T = U Sig U^T, H^T H = V Sig V^T: where
    all constraints are active Z is diag(x) Y up to a multiple of x in each column, and to project
    x out never raises the norm. All are active for any counts and factors, since the multipliers of a sample's
    constraints are minus the inner products of its feature with those of other classes, diag(x) U Sig^-1 U^T
    diag(x), and U Sig^-1 U^T is 2 / pi times the integral over r > 0 of (P D P)^+ = D^-1 - D^-1 x
    x^T D^-1 / (x^T D^-1 x), D = diag(n_c x_c^2) + r^2, P = I - x x^T / |x|^2: negative off the
    diagonal.

    Args:
        counts: n_c > 0, shape (k,), k at least 2; need not be integers.
        factors: f_c > 0, shape (k,), of which a common factor only scales the geometry.

    Raises:
        ValueError: a count or a factor that is not positive.

    Source: Behnia, Kini, Vakilian, Thrampoulidis 2023 for the limit of cross-entropy with factors on
    its logits (in kind Kini, Paraskevas, Oymak, Thrampoulidis 2021); that x can be projected out for
    any counts and factors was derived for this project.
    """
    counts, factors = (np.asarray(values, dtype=np.float64) for values in (counts, factors))
    if not ((counts > 0).all() and (factors > 0).all()):
        raise ValueError(
            f"counts={counts.tolist()}, factors={factors.tolist()}: all must be positive"
        )
    x = 1 / factors
    kept = spectral.complement(x[:, None])
    _, values, turn = np.linalg.svd((np.sqrt(counts) * x)[:, None] * kept, full_matrices=False)
    U = kept @ turn.T
    features = x[:, None] * ((U / values) @ U.T) * x
    return Geometry((U * values) @ U.T, features, (kept @ kept.T) * x)


def etf(num_classes: int) -> Geometry:
    """The simplex equiangular tight frame, I - 11^T/k for all three: SELI at equal counts, and the
    limit of shared features whatever the counts."""
    centring = np.eye(num_classes) - 1 / num_classes
    return Geometry(centring, centring, centring)


def effective_counts(
    counts: Real[np.ndarray, " k"], kernel_eigenvalues: Real[np.ndarray, " k"]
) -> Float[np.ndarray, " k"]:
    """n_c / kappa_c, the counts whose SELI geometry coupled features end in: n_c for free features,
    1 for shared ones. Shape (k,).

    The flow in H K^(-1/2) is plain gradient flow, so the norm it keeps small is |W|^2 + tr(H K^-1
    H^T), which for features equal within classes is |W|^2 + sum_c (n_c / kappa_c) |m_c|^2.

    Source: derived for this project.
    """
    return counts / kernel_eigenvalues


def coupled_seli(class_kernel: Float[np.ndarray, "k k"]) -> Geometry:
    """The geometry in which features end under cross-entropy where class means move together too, by a kernel
    T = diag(kappa_c / n_c) + beta 11^T (`Problem.class_kernel`). At beta = 0 it is SELI of the counts n_c / kappa_c.

    With T = L L^T it is the least nuclear norm of Z L^-T with all margins at least 1. That is Z = P, P = I -
    11^T / k, with P L^-T = U Sig V^T, W W^T = U Sig U^T and M^T M = L V Sig V^T L^T: the multipliers, (P T^-1
    P)^(+1/2) P T^-1, are 2 / pi times the integral over r > 0 of -(e_j (1 - r^2 e_c) + r^2 E_jc s) / s off the
    diagonal, with E = (T^-1 + r^2)^-1, e = E 1 and s = 1^T e. T^-1 is an M-matrix whose rows have sums of 0 or more, so
    that E >= 0 and r^2 e <= 1, and no multiplier has the wrong sign.

    Raises:
        ValueError: a kernel that is not positive definite.

    Source: derived for this project; that Z = P at beta = 0, Thrampoulidis, Kini, Vakilian, Behnia 2022.

    Example:
        Lengths of the classifier's rows, squared, without and with a bias of free features:

        >>> for beta in (0.0, 1.0):
        ...     np.diag(coupled_seli(np.diag([0.01, 0.01, 1.0, 1.0]) + beta).classifier).round(2).tolist()
        [6.78, 6.78, 2.28, 2.28]
        [5.37, 5.37, 0.87, 0.87]
    """
    k = len(class_kernel)
    try:
        root = np.linalg.cholesky(class_kernel)
    except np.linalg.LinAlgError:
        raise ValueError(
            f"class_kernel={class_kernel.tolist()}: must be positive definite"
        ) from None
    centring = np.eye(k) - 1 / k
    U, values, Vt = np.linalg.svd(np.linalg.solve(root, centring).T)
    U, values, right = U[:, :-1], values[:-1], root @ Vt[:-1].T
    return Geometry((U * values) @ U.T, (right * values) @ right.T, centring)


def seli_step(
    num_majority: int,
    num_minority: int,
    majority_count: int | float,
    minority_count: int | float,
) -> StepGeometry:
    """SELI under STEP in closed form, at any minority fraction rho = k_min / k: for users who want norms
    and angles as formulas. The library itself compares runs with `seli`, which takes any counts.

    W W^T = sqrt(n_maj) P_maj + sqrt(n_min) P_min + s u u^T with P_g the centring projector inside a
    group, s = sqrt(rho n_maj + (1 - rho) n_min) and u the unit cross contrast, u_maj^2 = k_min / (k
    k_maj), u_min^2 = k_maj / (k k_min), u_maj u_min = -1/k. M^T M is the same with
    1 / sqrt(n_maj), 1 / sqrt(n_min) and 1/s, and w_c^T h_c = 1 - 1/k.

    Args:
        num_majority, num_minority: classes k_maj and k_min, at least 1 each.
        majority_count, minority_count: samples of a class, n_maj and n_min.

    Raises:
        ValueError: a number that is not positive.

    Source: the SVD of Thrampoulidis, Kini, Vakilian, Behnia 2022, whose formulas are those of rho =
    1/2; other fractions derived for this project.
    """
    sizes = np.array([num_majority, num_minority])
    counts = np.array([majority_count, minority_count], dtype=np.float64)
    if not ((sizes > 0).all() and (counts > 0).all()):
        raise ValueError(
            f"classes={sizes.tolist()}, counts={counts.tolist()}: all must be positive"
        )
    k = sizes.sum()
    cross = np.sqrt(sizes[::-1] @ counts / k)
    u2 = sizes[::-1] / (k * sizes)  # a group's share of the cross contrast grows as it shrinks

    def gram(values: np.ndarray, cross: float) -> tuple[np.ndarray, np.ndarray]:
        norms2 = values * (1 - 1 / sizes) + cross * u2
        within = np.where(sizes > 1, (cross * u2 - values / sizes) / norms2, np.nan)
        return norms2, np.append(within, -cross / (k * np.sqrt(norms2.prod())))

    w2, w_cosines = gram(np.sqrt(counts), cross)
    h2, h_cosines = gram(1 / np.sqrt(counts), 1 / cross)
    return StepGeometry(w2, h2, w_cosines, h_cosines, (1 - 1 / k) / np.sqrt(w2 * h2))


def distances(
    W: Float[np.ndarray, "*batch k d"],
    means: Float[np.ndarray, "*batch d k"],
    scatter: Float[np.ndarray, "*batch d d"],
    counts: Real[np.ndarray, " k"],
    target: Geometry,
) -> Float[np.ndarray, "*batch 3"]:
    """Frobenius distances of W W^T, H^T H (n x n) and W H (k x n) to a geometry, in the order of
    `PARTS`, each matrix and each target scaled to unit Frobenius norm.

    With H = B Y' + E, Y' the orthonormal class indicators, B = M diag(sqrt(n_c)) and E the
    deviations from class means, the blocks are orthogonal: |H^T H|^2 = |B^T B|^2 + 2 |B^T E|^2 +
    |E^T E|^2, |B^T E|^2 = tr(B^T E E^T B), |E^T E| = |E E^T|, and the target lives in the first.
    Matrices are subtracted before norms are taken, so that distances down to 1e-14 are resolved. The distance of
    W H is less exact only where W E is far smaller than |W| |E|: `scatter` holds E E^T to a part in 1e16, and so
    |W E| to 1e-8 |W| |E|.

    Args:
        W: shape (..., k, d).
        means: M, one class mean a column, shape (..., d, k).
        scatter: E E^T, the sum over samples of outer products of deviations from class means, shape
            (..., d, d).
        counts: n_c, shape (k,).
        target: any geometry, for example `seli(counts)`; its scale does not matter.

    Returns:
        shape (..., 3), each in [0, 2]; NaN where a matrix is zero.
    """
    root_n = np.sqrt(counts)
    B = means * root_n
    size = _nonzero(np.sqrt(_square(B) + scatter.trace(axis1=-2, axis2=-1)[..., None, None]))
    W, B, scatter = W / _nonzero(np.sqrt(_square(W))), B / size, scatter / size**2
    Bt = np.swapaxes(B, -1, -2)
    parts = (
        _distance(W @ np.swapaxes(W, -1, -2), target.classifier),
        _distance(
            Bt @ B,
            root_n[:, None] * target.features * root_n,
            2 * _energy(Bt, scatter) + _square(scatter),
        ),
        _distance(W @ B, target.logits * root_n, _energy(W, scatter)),
    )
    return np.stack(parts, axis=-1)


def _distance(
    X: Float[np.ndarray, "*batch k k"],
    D: Float[np.ndarray, "k k"],
    outside: Float[np.ndarray, "*batch 1 1"] | float = 0.0,
) -> Float[np.ndarray, "*batch"]:
    """The distance |X / |X| - D / |D||, where X has a further part of squared norm `outside` that is
    orthogonal to it and to D."""
    norm2 = _nonzero(_square(X) + outside)
    apart = X / np.sqrt(norm2) - D / np.sqrt(_square(D))
    return np.sqrt(_square(apart) + outside / norm2)[..., 0, 0]


def _square(X: Float[np.ndarray, "*batch a b"]) -> Float[np.ndarray, "*batch 1 1"]:
    """The squared Frobenius norm."""
    return (X**2).sum(axis=(-2, -1), keepdims=True)


def _energy(
    X: Float[np.ndarray, "*batch a d"], scatter: Float[np.ndarray, "*batch d d"]
) -> Float[np.ndarray, "*batch 1 1"]:
    """|X E|^2 = tr(X E E^T X^T), kept from falling below 0 by rounding."""
    return ((X @ scatter) * X).sum(axis=(-2, -1), keepdims=True).clip(0)


def _nonzero(values: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """The values with NaN for 0, so that to divide by them gives NaN without a warning."""
    return np.where(values == 0, np.nan, values)


def neural_collapse(
    W: Float[np.ndarray, "*batch k d"],
    means: Float[np.ndarray, "*batch d k"],
    within: Float[np.ndarray, "*batch d d"],
) -> dict[str, Float[np.ndarray, "*batch_or_factors"]]:
    """The measures NC1 to NC3 of neural collapse, averaged over classes; all are 0 at a collapsed
    simplex ETF.

    With mu_G the mean of the class means, Mdot = [mu_c - mu_G] and Sigma_B = Mdot Mdot^T / k:

    - nc1 = tr(within Sigma_B^+) / k, shape (...)
    - the others as `duality` gives them

    Sigma_B^+ comes from the SVD of Mdot, whose singular values are exact to the rounding of the
    means: of the largest k - 1, those above max(k, d) eps |M| are kept. Where there are none, nc1 is NaN.

    Args:
        W: shape (..., k, d), k at least 2.
        means: M = [mu_c], shape (..., d, k).
        within: Sigma_W, the average over classes of each class's average of (h - mu_c)(h - mu_c)^T,
            shape (..., d, d).

    Source: Papyan, Han, Donoho 2020.
    """
    k = means.shape[-1]
    centred = means - means.mean(axis=-1, keepdims=True)
    left, values, _ = np.linalg.svd(np.nan_to_num(centred), full_matrices=False)
    left, values = left[..., : k - 1], values[..., : k - 1]
    kept = values > _rounding(means)
    whitened = left * (kept / np.where(kept, values, 1))[..., None, :]
    nc1 = _energy(np.swapaxes(whitened, -1, -2), within)[
        ..., 0, 0
    ]  # the factor k of Sigma_B^+ cancels 1 / k
    return {"nc1": np.where(kept.any(axis=-1), nc1, np.nan)} | duality(W, means)


def duality(
    W: Float[np.ndarray, "*batch k d"], means: Float[np.ndarray, "*batch d k"]
) -> dict[str, Float[np.ndarray, "*batch_or_factors"]]:
    """The measures NC2 and NC3 of neural collapse: how near classifier and class means are to a simplex ETF each,
    and to each other.

    With mu_G the mean of the class means, Mdot = [mu_c - mu_G] and standard deviations over all k classes or all
    k (k - 1) ordered pairs (divided by their number):

    - nc2_norms = std_c |v_c| / mean_c |v_c|, v_c = w_c and mu_c - mu_G in the order of `FACTORS`,
      shape (..., 2)
    - nc2_angles = std over pairs of cos(v_c, v_c'), shape (..., 2)
    - nc2_distance = mean over pairs of |cos(v_c, v_c') + 1/(k - 1)|, shape (..., 2)
    - nc3 = |W^T / |W| - Mdot / |Mdot||^2, Frobenius, shape (...)

    A vector mu_c - mu_G shorter than max(k, d) eps |M| counts as zero. A measure that would divide by zero is NaN, as
    are the cosines of a zero vector. Arguments and source as of `neural_collapse`.
    """
    k, rounding = means.shape[-1], _rounding(means)
    centred = means - means.mean(axis=-1, keepdims=True)
    vectors = np.stack([W, np.swapaxes(centred, -1, -2)], axis=-3)
    norms = np.linalg.norm(vectors, axis=-1)
    smallest = np.stack([np.zeros_like(rounding), rounding], axis=-2)
    norms = np.where(norms <= smallest, 0, norms)
    units = vectors / _nonzero(norms)[..., None]
    cosines = (units @ np.swapaxes(units, -1, -2))[..., ~np.eye(k, dtype=bool)]
    scaled = vectors / _nonzero(np.linalg.norm(norms, axis=-1))[..., None, None]
    return {
        "nc2_norms": norms.std(axis=-1) / _nonzero(norms.mean(axis=-1)),
        "nc2_angles": cosines.std(axis=-1),
        "nc2_distance": np.abs(cosines + 1 / (k - 1)).mean(axis=-1),
        "nc3": _square(scaled[..., 0, :, :] - scaled[..., 1, :, :])[..., 0, 0],
    }


def _rounding(means: Float[np.ndarray, "*batch d k"]) -> Float[np.ndarray, "*batch 1"]:
    """The length below which a difference of class means is only rounding errors."""
    return max(means.shape[-2:]) * np.finfo(np.float64).eps * np.sqrt(_square(means))[..., 0]


def nearest_mean_mismatch(
    logits: Real[AnyArray, "*batch k m"],
    features: Real[AnyArray, "*batch d m"],
    means: Real[AnyArray, "*batch d k"],
    class_columns: Real[AnyArray, "m q"],
) -> Float[Any, "*batch"]:
    """NC4: the share of samples whose largest logit is not of the class with the nearest mean
    (Euclidean), as the mean over classes of each class's share, for NumPy and JAX arrays alike.

    Args:
        logits: shape (..., k, m).
        features: shape (..., d, m).
        means: one class mean a column, shape (..., d, k).
        class_columns: shape (m, k), the weight with which a column belongs to a class; rows of
            zeros are padding, and every class has a column.

    Returns:
        shape (...).

    Source: Papyan, Han, Donoho 2020.
    """
    # These are |h - mu|^2 without |h|^2, which is the same for every class.
    squares = (means**2).sum(-2)[..., :, None] - 2 * means.swapaxes(-1, -2) @ features
    mismatched = logits.argmax(-2) != squares.argmin(-2)
    return mismatched @ (class_columns / class_columns.sum(0)[None]).mean(1)
