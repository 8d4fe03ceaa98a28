"""Contrasts that start from factors of any size, between a fixed kernel and a small start. All of it is
derived for this project.

A contrast u of equal classes has two factors of d numbers, p = W^T u of the classifier and q = H v / sqrt(kappa)
of the features, with p' = r q and q' = r p while logits are small, r = w sqrt(n_c kappa) / n. The strength over
sqrt(kappa) is x = <p, q>, and p p^T - q q^T is conserved, so that

    x' = r sqrt(4 x^2 + lam^2) (1 - share / X),    lam^2 = (|p|^2 + |q|^2)^2 - 4 x^2 at the start,

with the share of its target s = sqrt(n_c) that the strength has reached, and X that at which it saturates.
Factors that are parallel at the start have lam = ||p|^2 - |q|^2|, the imbalance of lambda-balanced starts. Those of a
wide random network are orthogonal: lam = |p|^2 + |q|^2, the size of the start, balanced or not. Growth is
exponential where 2 x is above lam and linear below, where only the kernel that the start has counts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ssm.measures import spectral
from ssm.support.errors import invalid
from ssm.theory.growth import Numbers, Values


def unbalanced_learning_time(
    rate: Values,
    imbalance: Values,
    loss: str,
    num_classes: Values,
    level: Values = spectral.LEARNED,
    start_share: Values = 0.0,
) -> Numbers:
    """When a contrast with y' = r sqrt(4 y^2 + mu^2) (1 - y / X) reaches `level`, y its share of the target.

    With m = mu / (2 X), s = sqrt(1 + m^2), e(y) = 2 y + sqrt(4 y^2 + mu^2) and y_0 = y(0),

        t = [ln((e(level) + mu m / (1 + s)) / (e(y_0) + mu m / (1 + s)))
             + ln((2 X (1 + s) - e(y_0)) / (2 X (1 + s) - e(level)))] / (2 r s).

    At mu = 0 it is `learning_time`, with X = 1 for the squared loss and, to first order of the softmax, k
    for cross-entropy; for large mu, -X ln(1 - level / X) / (r mu), a fixed kernel's.

    Args:
        rate: r, of `class_growth_rates`, in 1 / flow time.
        imbalance: mu = lam sqrt(kappa / n_c) >= 0, lam over what x is at the target.
        loss: `squared`, or else cross-entropy.
        num_classes: k.
        level: below X.
        start_share: y_0 >= 0; above 0 where mu is 0. All numbers broadcast.

    Raises:
        ssm.InputError: a start from which nothing grows, or a level that is never reached.

    Source: derived for this project; mu of parallel factors in kind Domine et al. 2024.

    Example:
        >>> small, fixed = unbalanced_learning_time(0.1, [1e-6, 100.0], "squared", 10)
        >>> bool(abs(fixed - np.log(2) / (0.1 * 100)) < 1e-4)
        True
    """
    mu, y = np.asarray(imbalance, dtype=float), np.asarray(start_share, dtype=float)
    if not ((mu >= 0) & (y >= 0) & (mu + y > 0)).all():
        raise invalid(
            "imbalance and start_share", (imbalance, start_share), "not negative nor both 0"
        )
    saturation = np.asarray(1.0 if loss == "squared" else num_classes, dtype=float)
    level = np.asarray(level, dtype=float)
    if not ((level > 0) & (level < saturation)).all():
        raise invalid("level", level[()], f"above 0 and below {saturation.min():g}")
    m = mu / (2 * saturation)
    s = np.hypot(1, m)
    roots = np.hypot(2 * level, mu), np.hypot(2 * y, mu)
    first, end = 2 * y + roots[1], 2 * saturation * (1 + s)
    # Differences of the logarithms' arguments, which are nearly 1 for a fixed kernel.
    gone = (level - y) * (2 + 4 * (level + y) / (roots[0] + roots[1]))
    grown = np.log1p(gone / (first + mu * m / (1 + s)))
    held = np.log1p(gone / (end - first - gone))
    return np.maximum((grown + held) / (2 * np.asarray(rate) * s), 0.0)[()]


def starting_exponent(
    counts: ArrayLike,
    kernel_eigenvalues: ArrayLike,
    size: Values,
    loss: str = "cross_entropy",
    num_classes: Values = 10,
) -> Numbers:
    """The exponent g* of w_c ~ n_c^-g at which contrasts among majorities and among minorities are learned
    at once from a start of any size.

    Weights only change the unit of time, t_c = T_c / w_c with T_c of `unbalanced_learning_time`. So
    g* = log(T_min / T_maj) / log R, between

        1/2 + 1/2 log(kappa_maj / kappa_min) / log R   (small starts, `balancing_exponent`)   and
        log(kappa_maj / kappa_min) / log R             (large ones, `margin_exponent`),

    the former reached as slowly as 1 / log(1 / lam). R^(g* - g) is the ratio of the learning times.

    Args:
        counts: n_maj and n_min, shape (..., 2); R is the first over the second.
        kernel_eigenvalues: kappa_maj and kappa_min, shape (..., 2), in any unit that `size` has too: H = A X
            has those of X^T X with |A|^2 in `size`.
        size: lam, shape (..., 2) or a number: |p|^2 + |q|^2 of a random start.
        loss, num_classes: as in `unbalanced_learning_time`; the number of classes broadcasts against the
            leading axes, as they do against each other.

    Raises:
        ssm.InputError: as `unbalanced_learning_time`.

    Source: derived for this project.

    Example:
        >>> starting_exponent([100, 10], [10.9, 1.9], [[1e-30] * 2, [1e9] * 2]).round(2).tolist()
        [0.88, 0.76]
    """
    n, kappa = np.asarray(counts, dtype=float), np.asarray(kernel_eigenvalues, dtype=float)
    imbalance = np.asarray(size) * np.sqrt(kappa / n)
    k = np.asarray(num_classes)[..., None]
    times = np.asarray(unbalanced_learning_time(np.sqrt(n * kappa), imbalance, loss, k))
    exponent = np.log(times[..., 1] / times[..., 0]) / np.log(n[..., 0] / n[..., 1])
    return exponent[()]
