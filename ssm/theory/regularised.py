"""Where gradient flow with weight decay ends: what is left of each component, and what collapses.

The objective, with the 1/n and with both halves, is

    L = (1/n) sum_i w_{y_i} l(z_i, y_i) + (lambda_W / 2) |W|^2 + (lambda_H / 2) |H|^2,

with tr(H K^-1 H^T) for |H|^2 where features are coupled, the decay of the parameters behind them.
Over all W and H with W H = Z, d no smaller than the rank, the decay is at least lambda_Z times the
sum of singular values of Z K^(-1/2), lambda_Z = sqrt(lambda_W lambda_H): with two factors this is a
convex problem in Z. Code that leaves out the halves has twice these lambda_Z, and code that leaves out
the 1/n has n times these. Ends are where the flow stops, so no times occur. All raise ValueError for an
argument that cannot be used.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.optimize import brentq

from ssm.problem import Problem
from ssm.support import checks, errors
from ssm.theory.exact import cross_parts
from ssm.theory.groups import refuse_shared

Numbers = Float[np.ndarray, "*shape"] | np.float64


def collapse_threshold(
    class_count: ArrayLike,
    num_samples: ArrayLike,
    class_weight: ArrayLike = 1.0,
    kernel: ArrayLike = 1.0,
) -> Numbers:
    """The lambda_Z = sqrt(lambda_W lambda_H) from which on equal classes have one and the same
    classifier row and class mean: w sqrt(n_c kappa_c) / n, their growth rate at zero logits.

    For (1/n) sum_i w_i l_i + (lambda_W / 2) |W|^2 + (lambda_H / 2) |H|^2 and d >= k - 1. Where
    logits do not tell g >= 2 classes of n_c samples and weight w apart, the gradient of
    cross-entropy has the block -w / n of contrasts between them on their own samples, whatever the
    probabilities: times K^(1/2), its singular values are the above. The best Z without those
    contrasts is the minimum of this convex problem iff they are at most lambda_Z. The squared loss
    has the same.

    Args:
        class_count, num_samples, class_weight, kernel: n_c, n, w_c and kappa_c (1 for free
            features), broadcast against one another.

    Raises:
        ValueError: a value that is not positive and finite.

    Source: unweighted, in kind, Fang, He, Long, Su 2021 and Hong, Ling 2023; weights and coupling
    derived here.
    """
    count, n, w, kappa = _positive(
        class_count=class_count, num_samples=num_samples, class_weight=class_weight, kernel=kernel
    )
    return w * np.sqrt(count * kappa) / n


def squared_strength(
    singular_value: ArrayLike,
    num_samples: ArrayLike,
    weight_decay: ArrayLike,
    feature_decay: ArrayLike,
    depth: int = 2,
    class_weight: ArrayLike = 1.0,
    kernel: ArrayLike = 1.0,
) -> Numbers:
    """Strength s z at which a component of target s ends under the squared loss: 0 where it has
    collapsed.

    For (w / 2 n) (s - a)^2 + (lambda_W / 2) (squares of M layers) + (lambda_H / 2) h^2 / kappa:
    features h under M = `depth` - 1 linear layers, all of the same decay. Exact for every component
    when classes are unweighted and free, and for contrasts of equal classes of weight w and kappa.
    Stationary, with L = `depth`, lambda = (lambda_W^(L-1) lambda_H)^(1/L), is

        (1 - z) z^(1 - 2/L) = c,   c = n lambda s^(2/L - 2) / (w kappa^(1/L)).

    - L = 1, features alone: s / (1 + n lambda_H / (w kappa)).
    - L = 2: max(0, s - n lambda_Z / (w sqrt(kappa))), soft thresholding.
    - L > 2: the largest root, if there is one (`squared_threshold`). It is a minimum, where a large
      enough start ends; so is 0, where small ones do. It is the lower of the two, and so has a part
      in the global minimum, iff z >= (L - 2) / (L - 1). With z = x^M / (x^M + 1) it is, for kappa =
      1, the largest root of b / s^2 = M x^(M-1) / (x^M + 1)^2 with b =
      M (n / w) ((n / w) lambda_W^M lambda_H)^(1/M).

    Args:
        singular_value, num_samples, class_weight, kernel: s, n, w and kappa, positive.
        weight_decay, feature_decay: lambda_W and lambda_H, not negative; the first plays no part at
            depth 1. All broadcast against one another.
        depth: L >= 1, the number of factors.

    Raises:
        ValueError: a value out of its range.

    Source: Dang, Tran, Osher, Tran-The, Ho, Nguyen 2023 for M layers, whose target is Y with the
    singular values sqrt(n_c); weights, coupling and the form in z derived here.
    """
    s, n, w, kappa = _modes(singular_value, num_samples, class_weight, kernel)
    L = checks.integer("depth", depth, 1, 1000)
    decay_W, decay_H = _decays(weight_decay=weight_decay, feature_decay=feature_decay)
    mean = decay_W ** (1 - 1 / L) * decay_H ** (1 / L)
    c = n * mean * s ** (2 / L - 2) / (w * kappa ** (1 / L))
    if L == 1:
        return s / (1 + c)
    shortfall = (
        np.minimum(c, 1) if L == 2 else np.vectorize(_shortfall, otypes=[float])(c, 1 - 2 / L)
    )
    return s * (1 - shortfall)


def _shortfall(c: float, power: float) -> float:
    """The smallest root u in [0, 1] of u (1 - u)^power = c, or 1 where there is none."""
    if c == 0:
        return 0.0
    peak = 1 / (1 + power)
    if c > peak * (1 - peak) ** power:
        return 1.0

    def excess(u: float) -> float:
        return np.log(u / c) + power * np.log1p(-u)

    if excess(peak) <= 0:  # c is the maximum, to rounding
        return peak
    return float(brentq(excess, c, peak, xtol=1e-300))  # type: ignore[arg-type] # SciPy's stub knows no float


def squared_threshold(
    singular_value: ArrayLike,
    num_samples: ArrayLike,
    depth: int = 2,
    class_weight: ArrayLike = 1.0,
    kernel: ArrayLike = 1.0,
) -> Numbers:
    """The largest lambda = (lambda_W^(L-1) lambda_H)^(1/L), the geometric mean over the L = `depth`
    factors, at which a component of target s can be anything but 0.

        lambda = (w / n) kappa^(1/L) s^(2 - 2/L) p^p / (1 + p)^(1 + p),   p = 1 - 2/L

    Conventions and arguments as `squared_strength`: 1/n and both halves. For two factors it is
    lambda_Z = w s sqrt(kappa) / n, where the strength reaches 0; for more the strength there is
    s (L - 2) / (2 L - 2) and falls to 0 at once; features alone (L = 1) never collapse: infinity.
    With M = L - 1 and kappa = 1, b / s^2 is ((M - 1) / (M + 1))^((M - 1) / M) (M + 1)^2 / (4 M).

    Raises:
        ValueError: a value out of its range.

    Source: as `squared_strength`.
    """
    s, n, w, kappa = _modes(singular_value, num_samples, class_weight, kernel)
    L = checks.integer("depth", depth, 1, 1000)
    p = 1 - 2 / L
    peak = np.inf if L == 1 else p**p / (1 + p) ** (1 + p)
    return w / n * kappa ** (1 / L) * s ** (2 - 2 / L) * peak


class CrossEnd(NamedTuple):
    """Where the contrast of majority against minority classes ends."""

    row: Float[np.ndarray, " 2"]
    """What u^T Z has on the unit indicator of the majority's, and of the minority's samples; its
    targets are those of `exact.cross_parts`."""
    strength: float
    """u^T Z v, whose target is the component's singular value."""


def cross_strengths(problem: Problem, weight_decay: float, feature_decay: float) -> CrossEnd:
    """End of the cross component of STEP under the squared loss, two factors, any weights and
    coupling: all 0 where it has collapsed.

    For (1/n) sum_i w_i |z_i - s_i|^2 / 2 + (lambda_W / 2) |W|^2 + (lambda_H / 2) |H|^2, with tr(H
    K^-1 H^T) for |H|^2 under coupling. By symmetry u^T Z is a row z of two numbers with targets s,
    weights w and kappa, and z / sqrt(kappa) has its length q for nuclear norm: the minimum of
    sum_g w_g (s_g - z_g)^2 / (2 n) + lambda_Z q is at

        z_g = s_g w_g kappa_g q / (w_g kappa_g q + n lambda_Z),   where q > 0 solves that for q;

    it is 0 iff |sqrt(kappa) w s| <= n lambda_Z. For weights and kappa of 1, |z| = |s| - n lambda_Z.

    Args:
        problem: STEP: two groups of equal counts and weights.
        weight_decay, feature_decay: lambda_W and lambda_H, not negative.

    Raises:
        ValueError: another problem, one with a bias or a coupling between classes, or a negative decay.

    Derived here.
    """
    refuse_shared(problem)
    s, w, kappa = cross_parts(problem)
    decay_W, decay_H = _decays(weight_decay=weight_decay, feature_decay=feature_decay)
    decay = problem.counts.sum() * np.sqrt(decay_W) * np.sqrt(decay_H)
    pull, singular_value = np.sqrt(kappa) * w * s, np.linalg.norm(s)
    if np.linalg.norm(pull) <= decay:
        return CrossEnd(np.zeros(2), 0.0)

    def excess(length: float) -> float:
        return float(np.linalg.norm(pull / (w * kappa * length + decay)) - 1)

    row = s
    if decay > 0:
        length = brentq(excess, 0.0, 2 * np.linalg.norm(s / np.sqrt(kappa)), xtol=1e-300)
        row = s * w * kappa * length / (w * kappa * length + decay)
    return CrossEnd(row, float(row @ s / singular_value))


def deep_cross_strength(
    problem: Problem, weight_decay: float, feature_decay: float, depth: int
) -> float:
    """The strength of `cross_strengths` for L = `depth` factors of free features, from a large start.

    It is that of the largest row of

        z_g = s_g w_g / (w_g + n lambda |z|^(2/L - 2)),   lambda = (lambda_W^(L-1) lambda_H)^(1/L),

    to which this falls from s; 0 where there is none.

    Args:
        problem: STEP: two groups of equal counts and weights.
        weight_decay, feature_decay: lambda_W of each of L - 1 layers, and lambda_H, not negative.
        depth: L, at least 2.

    Raises:
        ValueError: another problem, one with a bias or a coupling between classes, a negative decay or a depth
            below 2.

    Derived here.
    """
    refuse_shared(problem)
    s, w, _ = cross_parts(problem)
    L = checks.integer("depth", depth, 2, 1000)
    _decays(weight_decay=weight_decay, feature_decay=feature_decay)
    decay = weight_decay ** (1 - 1 / L) * feature_decay ** (1 / L)
    row, length, before = s, np.linalg.norm(s), np.inf
    while length < before:  # which it cannot do without end
        if length < 1e-9:
            return 0.0
        row = s * w / (w + problem.counts.sum() * decay * length ** (2 / L - 2))
        length, before = np.linalg.norm(row), length
    return float(row @ s / np.linalg.norm(s))


def _modes(
    singular_value: ArrayLike, num_samples: ArrayLike, class_weight: ArrayLike, kernel: ArrayLike
) -> list[np.ndarray]:
    """s, n, w and kappa as arrays, all of them positive and finite."""
    return _positive(
        singular_value=singular_value,
        num_samples=num_samples,
        class_weight=class_weight,
        kernel=kernel,
    )


def _positive(**values: ArrayLike) -> list[np.ndarray]:
    """The values as arrays, all of them positive and finite."""
    for name, value in values.items():
        if not (np.isfinite(value) & (np.asarray(value) > 0)).all():
            raise errors.invalid(name, value, "positive and finite")
    return [np.asarray(value, dtype=np.float64) for value in values.values()]


def _decays(**values: ArrayLike) -> list[np.ndarray]:
    """The values as arrays, all of them finite and none negative."""
    for name, value in values.items():
        if not (np.isfinite(value) & (np.asarray(value) >= 0)).all():
            raise errors.invalid(name, value, "finite and not negative")
    return [np.asarray(value, dtype=np.float64) for value in values.values()]
