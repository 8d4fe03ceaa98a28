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

from ssm.problem import Problem
from ssm.support import checks, errors
from ssm.theory.exact import cross_parts
from ssm.theory.groups import Step, refuse_shared, step_of

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
    return s * (1 - (np.minimum(c, 1) if L == 2 else _shortfall(c, 1 - 2 / L)))


def _shortfall(c: np.ndarray, power: float) -> np.ndarray:
    """The smallest root u in [0, 1] of u (1 - u)^power = c, or 1 where there is none: Newton's method on log u +
    power log(1 - u) = log c, which is concave, from u = c on the left of the root."""
    peak = 1 / (1 + power)
    shape, c = np.shape(c), np.ravel(c)
    u = np.where(c > peak * (1 - peak) ** power, 1.0, np.minimum(c, peak))
    left = np.flatnonzero((u > 0) & (u < peak))
    while left.size:
        now = u[left]
        excess = np.log(now / c[left]) + power * np.log1p(-now)
        following = np.minimum(now - excess / (1 / now - power / (1 - now)), peak)
        u[left] = np.maximum(following, now)
        left = left[(following > now * (1 + 1e-15)) & (following < peak)]
    return u.reshape(shape)


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

    row: Float[np.ndarray, "*grid 2"]
    """What u^T Z has on the unit indicator of the majority's, and of the minority's samples; its
    targets are those of `exact.cross_parts`."""
    strength: Numbers
    """u^T Z v, whose target is the component's singular value."""


def cross_strengths(
    problem: Problem | Step, weight_decay: ArrayLike, feature_decay: ArrayLike
) -> CrossEnd:
    """End of the cross component of STEP under the squared loss, two factors, any weights and
    coupling: all 0 where it has collapsed.

    For (1/n) sum_i w_i |z_i - s_i|^2 / 2 + (lambda_W / 2) |W|^2 + (lambda_H / 2) |H|^2, with tr(H
    K^-1 H^T) for |H|^2 under coupling. By symmetry u^T Z is a row z of two numbers with targets s,
    weights w and kappa, and z / sqrt(kappa) has its length q for nuclear norm: the minimum of
    sum_g w_g (s_g - z_g)^2 / (2 n) + lambda_Z q is at

        z_g = s_g w_g kappa_g q / (w_g kappa_g q + n lambda_Z),   where q > 0 solves that for q;

    it is 0 iff |sqrt(kappa) w s| <= n lambda_Z. For weights and kappa of 1, |z| = |s| - n lambda_Z.

    Args:
        problem: STEP: two groups of equal counts and weights, or a grid of them (`step.grid`).
        weight_decay, feature_decay: lambda_W and lambda_H, not negative; they broadcast against the grid.

    Raises:
        ValueError: another problem, one with a bias or a coupling between classes, or a negative decay.

    Derived here.

    Example:
        What a decay leaves of the cross component, over R, as a share of its target:

        >>> from ssm import step
        >>> grid = step.grid(np.array([1.0, 10.0, 100.0]))
        >>> target = np.linalg.norm(grid.cross_targets, axis=-1)
        >>> (cross_strengths(grid, 0.01, 0.01).strength / target).round(2).tolist()
        [0.78, 0.48, 0.0]
    """
    (s, w, kappa), n = _cross_parts(problem)
    decay_W, decay_H = _decays(weight_decay=weight_decay, feature_decay=feature_decay)
    decay = n * (np.sqrt(decay_W) * np.sqrt(decay_H))[..., None]
    pull, gain, s, decay = np.broadcast_arrays(np.sqrt(kappa) * w * s, w * kappa, s, decay)
    left = (np.linalg.norm(pull, axis=-1) > decay[..., 0]) & (decay[..., 0] > 0)
    length = np.zeros(left.shape)
    length[left] = _nuclear_norm(pull[left], gain[left], decay[left])
    share = gain * length[..., None]
    # Without decay the targets are reached, whatever the length.
    row = s * np.where(decay > 0, share / (share + decay + (decay == 0)), 1.0)
    return CrossEnd(row, _strength(row, s))


def _nuclear_norm(
    pull: Float[np.ndarray, "p 2"], gain: Float[np.ndarray, "p 2"], decay: Float[np.ndarray, "p 2"]
) -> Float[np.ndarray, " p"]:
    """The root q of |pull / (gain q + decay)| = 1: Newton's method on 1 over that length, which is concave and
    rises in q, and so is reached from q = 0 without passing it (as a trust region's: More, Sorensen 1983)."""
    q = np.zeros(len(pull))
    left = np.arange(len(pull))
    while left.size:
        bottom = gain[left] * q[left, None] + decay[left]
        terms = (pull[left] / bottom) ** 2
        squared = terms.sum(axis=-1)
        slope = (terms * gain[left] / bottom).sum(axis=-1)
        # 1 - 1 / |.| over the slope of 1 / |.|, which is slope / |.|^3
        following = q[left] + (np.sqrt(squared) - 1) * squared / slope
        grown = following > q[left] * (1 + 1e-15)
        q[left] = np.maximum(following, q[left])
        left = left[grown]
    return q


def deep_cross_strength(
    problem: Problem | Step, weight_decay: ArrayLike, feature_decay: ArrayLike, depth: int
) -> Numbers:
    """The strength of `cross_strengths` for L = `depth` factors of free features, from a large start.

    It is that of the largest row of

        z_g = s_g w_g / (w_g + n lambda |z|^(2/L - 2)),   lambda = (lambda_W^(L-1) lambda_H)^(1/L),

    to which this falls from s; 0 where there is none.

    Args:
        problem: STEP: two groups of equal counts and weights, or a grid of them (`step.grid`).
        weight_decay, feature_decay: lambda_W of each of L - 1 layers, and lambda_H, not negative; they broadcast
            against the grid.
        depth: L, at least 2.

    Raises:
        ValueError: another problem, one with a bias or a coupling between classes, a negative decay or a depth
            below 2.

    Derived here.
    """
    (s, w, _), n = _cross_parts(problem)
    L = checks.integer("depth", depth, 2, 1000)
    decay_W, decay_H = _decays(weight_decay=weight_decay, feature_decay=feature_decay)
    decay = n * (decay_W ** (1 - 1 / L) * decay_H ** (1 / L))[..., None]
    s, w, decay = np.broadcast_arrays(s, w, decay)
    shape = s.shape
    s, w, decay = (x.reshape(-1, 2) for x in (s, w, decay))
    row = s.copy()
    left, before = np.arange(len(s)), np.full(len(s), np.inf)
    while left.size:  # a length cannot fall without end
        length = np.linalg.norm(row[left], axis=-1)
        gone = length < 1e-9
        row[left[gone]] = 0
        falls = (length < before[left]) & ~gone
        left, length = left[falls], length[falls, None]
        before[left] = length[:, 0]
        row[left] = s[left] * w[left] / (w[left] + decay[left] * length ** (2 / L - 2))
    return _strength(row.reshape(shape), s.reshape(shape))


def _cross_parts(
    problem: Problem | Step,
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    """`exact.cross_parts` and n of a STEP whose classes share nothing."""
    refuse_shared(problem)
    step = problem if isinstance(problem, Step) else step_of(problem)
    return cross_parts(step), np.asarray(step.num_samples)[..., None]


def _strength(row: np.ndarray, s: np.ndarray) -> Numbers:
    """u^T Z v of rows on the cross component's targets."""
    return ((row * s).sum(axis=-1) / np.linalg.norm(s, axis=-1))[()]


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
