"""Where cross-entropy without decay ends, and how runs are still away from there at a large margin.

The limit is SELI of the effective counts n_c / kappa_c, whatever weights, offsets and margins; factors of
the logits make another of it (`geometry.adjusted_seli`), and so does what all samples share of the coupling
kernel, c_b and a bias of the features (`geometry.coupled_seli`). A bias of the logits leaves it as it is: it
grows as the logarithm of the margin at most. Of these only the limit itself is known. Three things keep a run from it. Margins: near
the limit every sample is pulled by e^(-gap), and these pulls are fixed by the limit, so that what shifts
gaps shifts them once while the margin grows without bound: distances fall as 1 / margin. Start: the row
x^T W, x = 1 / factors, stays as it was drawn, and shows by parts of order s / sqrt(margin). Majorities:
two of them may be further apart than the least margin, and pull no more.

For features equal on each class, two layers, labels that are not smoothed. All raise ssm.InputError for
another loss, and all but `limit` and `kept_row` with a coupling between classes or a bias. Derived for this project but for the limits.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from ssm.config import Config, profiles
from ssm.measures import geometry
from ssm.measures.states import ClassState, balanced_state
from ssm.problem import Problem
from ssm.problem.adjustments import ClassAdjustments, class_adjustments
from ssm.support import errors
from ssm.theory.groups import refuse_shared, step_of


def limit(config: Config, problem: Problem) -> geometry.Geometry:
    """The terminal geometry: `geometry.adjusted_seli` of the counts n_c / kappa_c and the factors of the
    logits. Without factors it is SELI for free features, the simplex ETF for shared ones, and
    `geometry.coupled_seli` where all samples share something.

    Raises:
        ssm.InputError: factors of the logits, with a coupling between classes or a bias of the features.
    """
    factors, _, _ = _adjustments(config, problem)
    if problem.common_coupling > 0:
        if np.ptp(factors) > 0:
            refuse_shared(problem)
        return geometry.coupled_seli(problem.class_kernel)
    counts = geometry.effective_counts(problem.counts, problem.kernel_eigenvalues)
    if np.ptp(factors) == 0:
        return geometry.seli(counts)
    return geometry.adjusted_seli(counts, factors)


def kept_row(config: Config, problem: Problem) -> Float[np.ndarray, " k"]:
    """x = 1 / factors of the logits, the direction along which the flow keeps the row x^T W: the columns of
    the logit gradient are orthogonal to it. Shape (k,)."""
    return 1 / _adjustments(config, problem).factors


def limit_state(config: Config, problem: Problem) -> ClassState:
    """A state at the limit, of width k, with W^T W = H K^-1 H^T."""
    return _state(limit(config, problem).logits, problem)


def approach(config: Config, problem: Problem, margin: float) -> ClassState:
    """The state at a large margin from a vanishing start, to first order in 1 / margin.

    On the way W and H grow at one rate, so what pulls on the logits is a multiple of the limit. A sample
    of class y pulls its logit and logit j apart by w_y kappa_y S^gamma e^(-gap), S the sum of e^(-gap)
    over j and gamma the focal power, and this is -M_jy times a constant, M the limit's inner products of
    features. With m_jy = -M_jy / (w_y kappa_y) off the diagonal that is

        gap_jy = gamma / (1 + gamma) log(sum_j m_jy) - log m_jy + const,   the least of them the margin.

    Less offsets and margins these are the gaps of the scaled logits f z, and with x = 1 / f the logits
    follow: x^T Z = 0. A weight shifts gaps once, by its logarithm.

    Args:
        config, problem: the run, and what `make_problem` makes of it.
        margin: the least gap of the adjusted logits.

    Returns:
        a state of width k, with W^T W = H K^-1 H^T.

    Source: derived for this project.
    """
    refuse_shared(problem)
    (factors, offsets, margins), focusing = (
        _adjustments(config, problem),
        config.adjustments["focusing"],
    )
    k = len(factors)
    other = ~np.eye(k, dtype=bool)
    features = limit(config, problem).features
    pull = -features / (problem.class_weights * problem.kernel_eigenvalues)
    pull = np.where(other, pull, 0)
    gaps = -np.log(pull, where=other, out=np.zeros((k, k)))
    gaps = gaps + focusing / (1 + focusing) * np.log(pull.sum(axis=0))
    gaps = gaps - gaps[other].min() + margin - offsets + offsets[:, None] + margins
    x = 1 / factors
    Z = -x[:, None] * np.where(other, gaps, 0)
    return _state(Z - np.outer(x, x @ Z) / (x @ x), problem)


def kept_row_distances(config: Config, problem: Problem, margin: float) -> Float[np.ndarray, " 3"]:
    """Root mean square over starts of what the row of W that the flow keeps adds to the distances to the
    limit, in the order of `geometry.PARTS`; for logits without factors.

    The row x^T W / |x| is a draw r of d numbers N(0, s^2). |x r^T W^T / |x| + transposed|^2 has mean 2
    s^2 |W|^2, and |H^T r|^2 has mean s^2 |H|^2, beside the |W W^T|^2 and |W H|^2 of `approach`.
    """
    W, means, counts = approach(config, problem, margin)
    H = means * np.sqrt(counts)
    size = np.linalg.norm
    parts = [np.sqrt(2) * size(W) / size(W @ W.T), 0.0, size(H) / size(W @ H)]
    return config.init_scale * np.array(parts)


def expected_distances(config: Config, problem: Problem, margin: float) -> Float[np.ndarray, " 3"]:
    """Distances to the limit at a large margin, root mean square over starts, in the order of
    `geometry.PARTS`: those of `approach`, and of the kept row, as the legs of a right angle."""
    left = approach(config, problem, margin).distances(limit(config, problem))
    return np.hypot(left, kept_row_distances(config, problem, margin))


def majority_gaps(
    config: Config, problem: Problem, margins: Float[np.ndarray, " t"], first: float
) -> Float[np.ndarray, " t"]:
    """Gap between two majorities over the least margin, from `first` at the first of ascending margins
    on: it falls to 1, where training comes to its limit. STEP, free features, unit weights.

    Of a symmetric state with balanced layers: classes of a group n_1, n_2 are alike, k_1, k_2 of them.
    Scaled logits have the gap a M between two majorities, which is too wide to pull; the least
    margin M is that of a majority sample over minorities, of a minority sample over majorities and
    of two minorities, which pull with shares L_1 + L_2 + L_3 = 1 of d log L. With u = (p, -q) the unit
    vector orthogonal to 1 / factors, c = p + f q, majority and minority samples have h_1, -h_2 in
    that direction:

        M = c h_1 + a M (1 - 1/k_1) = c k_2 h_2,   w^4 = k_1 n_1 h_1^2 + k_2 n_2 h_2^2

    by loss-clock time d log(a M) = 2 L_1 / (k_1 sqrt(n_1)), d log M = 2 f (L_3 + L_2 (1 - 1/k_2)) / ((k_2 -
    1) sqrt(n_2)) and, for i = 1, 2, d h_i = h_i c (L_1 h_1 + L_2 h_2) / w^2 + w^2 c L_i / (k_i n_i). That
    the first line stays true gives the shares. Ten Euler steps of log M between two margins.

    Args:
        config, problem: a run of two minorities or more.
        margins: shape (t,), the least gaps of the adjusted logits, ascending.
        first: at least 1.

    Source: derived for this project.
    """
    refuse_shared(problem)
    sizes, counts, weights, kernel, *_ = step_of(problem)
    if sizes[1] < 2 or (weights != 1).any() or (kernel != 1).any():
        raise errors.invalid(
            "problem", sizes.tolist(), "two minorities, unit weights, free features"
        )
    factors = _adjustments(config, problem).factors
    majority, minority = (factors[problem.class_groups == group][0] for group in profiles.GROUPS)
    factor = minority / majority
    found, steps = [first], 10
    for low, high in zip(np.log(margins[:-1]), np.log(margins[1:]), strict=True):
        a = found[-1]
        for _ in range(steps):
            power = _majority_power(a, sizes, counts, factor)
            a = max(1.0, a * np.exp((high - low) / steps * power))
        found.append(a)
    return np.array(found)


def _majority_power(
    a: float, sizes: Float[np.ndarray, " 2"], counts: Float[np.ndarray, " 2"], f: float
) -> float:
    """d log a / d log M of `majority_gaps`."""
    (k1, k2), n = sizes, counts
    p, q = np.array([k2 / f, k1]) / np.sqrt(k1 * (k2 / f) ** 2 + k2 * k1**2)
    c = p + f * q
    h1, h2 = (1 - a * (1 - 1 / k1)) / c, 1 / (k2 * c)  # in units of M
    w2 = np.sqrt(k1 * n[0] * h1**2 + k2 * n[1] * h2**2)
    wide = 2 / (k1 * np.sqrt(n[0]))
    least = 2 * f / ((k2 - 1) * np.sqrt(n[1]))
    # rows: sum of the shares; d log M of two minorities, of a minority sample, of a majority one
    shares = np.array(
        [
            [1, 1, 1, 0],
            [0, least * (1 - 1 / k2), least, -1],
            [c * h1 / w2, c * h2 / w2 + c * w2 / (k2 * n[1] * h2), 0, -1],
            [
                c * h1**2 / w2 + c * w2 / (k1 * n[0]) + (1 - 1 / k1) * a * wide / c,
                c * h1 * h2 / w2,
                0,
                -1 / c,
            ],
        ]
    )
    share, _, _, growth = np.linalg.solve(shares, np.array([1.0, 0, 0, 0]))
    return float(wide * share / growth - 1)


def _adjustments(config: Config, problem: Problem) -> ClassAdjustments:
    """Factors, offsets and margins of the logits."""
    if config.loss in ("squared", "own"):
        raise errors.invalid("loss", config.loss, "cross-entropy or a loss made of it")
    numbers = config.adjustments
    del numbers["focusing"], numbers["label_smoothing"]
    return class_adjustments(problem.counts.astype(float), **numbers)


def _state(logits: Float[np.ndarray, "k k"], problem: Problem) -> ClassState:
    """The state of these logits that is balanced in the metric of the flow."""
    refuse_shared(problem)
    counts = geometry.effective_counts(problem.counts, problem.kernel_eigenvalues)
    return balanced_state(logits, counts)._replace(counts=problem.counts)
