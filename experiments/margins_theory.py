"""What losses with margins should do to free features: how fast contrasts begin to grow, when they
are learned, and where training ends. STEP, two layers.

Early: at zero logits dl/dz of a sample of class c is a fixed vector g_c, so that classifier and
features grow along the singular vectors of A = -[g_c w_c sqrt(n_c)] / n, at its singular values. Within
a group of equal classes that is r = w sqrt(n_c) (g_other - g_own) / n, whatever is added to a
group's logits. With p = softmax of the offsets, plain or with balanced softmax it is w sqrt(n_c) / n;
CDT and VS take the class's factor (n_c / n_max)^g to it; LDAM and the focal loss a number that depends
on p_y alone. Only the majority-minority contrast feels the offsets.

End: at a large margin every sample is pulled between two logits by e^(-gap), and these pulls are
fixed by the limit (`geometry.adjusted_seli`). Offsets, margins, weights and the focal factor move gaps
by O(1), once; factors change the limit. Before, two majorities may be further apart than the least
margin, and pull no more (`majority_gaps`).
"""

from __future__ import annotations

import functools

import numpy as np
from jaxtyping import Float

from experiments.readings import GROUPS, start_of
from experiments.terminal_states import State, balanced
from ssm import Config, geometry, predictions
from ssm.config import profiles
from ssm.measures.spectral import LEARNED
from ssm.problem import make_problem, membership

BLOCKS = (profiles.MAJORITY, "cross", profiles.MINORITY)
BACKGROUNDS = np.linspace(-40, 40, 41)  # logits by which one group may stand above the other


def factors(config: Config) -> Float[np.ndarray, " k"]:
    """(n_c / n_max)^g: what a logit is multiplied by, but for the common scale s."""
    n = np.array(config.class_counts, dtype=float)
    return (n / n.max()) ** config.adjustments["multiplicative_adjustment"]


def offsets(config: Config) -> tuple[np.ndarray, np.ndarray]:
    """What is added to a logit, tau log(n_c / n), and taken off the label's own, s D_c."""
    n, a = np.array(config.class_counts, dtype=float), config.adjustments
    margins = a["logit_scale"] * a["largest_margin"] * (n.min() / n) ** 0.25
    return a["additive_adjustment"] * np.log(n / n.sum()), margins


def slopes(config: Config, logits: Float[np.ndarray, "k k"]) -> Float[np.ndarray, "k k"]:
    """dl/dz of a sample of each class, one a column, at the logits of that column.

    s f (1 - p_y)^gamma (1 - gamma p_y log(p_y) / (1 - p_y)) (p - e_y), from the formula of the loss
    (Lin et al. 2017) and apart from the library's.
    """
    a, (added, margins) = config.adjustments, offsets(config)
    scale = a["logit_scale"] * factors(config)[:, None]
    seen = scale * logits + added[:, None] - np.diag(margins)
    p = np.exp(seen - seen.max(axis=0))
    p = p / p.sum(axis=0)
    own = np.clip(np.diag(p), 1e-300, 1 - 1e-15)
    focal = (1 - own) ** a["focusing"] * (1 - a["focusing"] * own * np.log(own) / (1 - own))
    return scale * (p - np.eye(len(p))) * focal


def growth_matrix(config: Config) -> Float[np.ndarray, "k k"]:
    """A, in the orthonormal basis of classes."""
    p, k = make_problem(config), config.num_classes
    return -slopes(config, np.zeros((k, k))) * (
        p.class_weights * np.sqrt(p.counts) / p.counts.sum()
    )


def block_rates(config: Config) -> dict[str, float]:
    """Growth rates of the blocks: singular values of A. A contrast within a group is a singular
    vector on both sides; what is constant on groups leaves one value more, the cross block's."""
    A, minority = growth_matrix(config), np.array(config.class_groups) == profiles.MINORITY
    groups = np.stack([~minority, minority], axis=1)
    units = groups / np.sqrt(groups.sum(axis=0))
    cross = np.linalg.norm(units.T @ A @ units, 2)
    within = A[[1, -1], [1, -1]] - A[[0, -2], [1, -1]]
    return dict(zip(BLOCKS, (float(within[0]), float(cross), float(within[1])), strict=True))


def _rate(config: Config, group: str, logits: Float[np.ndarray, "k k"]) -> float:
    """Rate of a group's contrasts at logits that treat its classes alike."""
    p, c = make_problem(config), 1 if group == profiles.MAJORITY else -1
    slope = slopes(config, logits)[:, c]
    return float(
        (slope[c - 1] - slope[c]) * p.class_weights[c] * p.counts[c] ** 0.5 / p.counts.sum()
    )


@functools.cache
def learning_time(config: Config, group: str) -> float:
    """When a group's contrasts are half learned, as if alone: x' = 2 r(x) x for their strength over
    that of the label matrix, with r at the logits x P of the group, from the start's mean size."""
    p, mine = make_problem(config), np.array(config.class_groups) == group
    start = predictions.expected_start_strength(config, p)[mine][0] / np.sqrt(p.counts[mine][0])
    contrast = np.outer(mine, mine) * (np.eye(len(mine)) - 1 / mine.sum())
    shares = np.geomspace(start, LEARNED, 100)
    slowness = [1 / (2 * _rate(config, group, x * contrast)) for x in shares]
    return float(np.trapezoid(slowness, np.log(shares)))


@functools.cache
def last_learned(config: Config) -> tuple[str, float, float]:
    """The group that is learned last, and between which times: once its samples are told from the
    other group's, by any number of logits, its rate may be another."""
    times = {group: learning_time(config, group) for group in GROUPS}
    last = max(times, key=times.__getitem__)
    k, others = len(config.class_groups), np.array(config.class_groups) != last
    logits = [b * np.repeat(others[:, None], k, axis=1) for b in BACKGROUNDS]
    rates = np.array([_rate(config, last, x) for x in logits]) / block_rates(config)[last]
    return last, float(times[last] / rates.max()), float(times[last] / rates.min())


def ratio_range(config: Config) -> tuple[float, float]:
    """Minority over majority learning time, least and greatest."""
    last, *times = last_learned(config)
    if last == profiles.MINORITY:
        first = learning_time(config, profiles.MAJORITY)
        return times[0] / first, times[1] / first
    first = learning_time(config, profiles.MINORITY)
    return first / times[1], first / times[0]


def limit(config: Config) -> geometry.Geometry:
    """Where training ends: SELI, or what factors make of it."""
    return geometry.adjusted_seli(np.array(config.class_counts), factors(config))


def approach(config: Config, margin: float) -> State:
    """The state at a large margin from a vanishing start, to first order in 1 / margin.

    A sample of class y pulls its logit and logit j apart by w_y S^gamma e^(-gap), S the sum of e^(-gap)
    over j, and this is -M_jy times a constant, M the limit's inner products of features. With m =
    -M_jy / w_y off the diagonal that is gap_jy = gamma / (1 + gamma) log(sum_j m_jy) - log(m_jy) +
    const. Less offsets and margins these are the gaps of the scaled logits, hence Z as in `limit`.
    """
    p, f = make_problem(config), factors(config)
    (added, margins), focusing = offsets(config), config.adjustments["focusing"]
    k, other = len(f), ~np.eye(len(f), dtype=bool)
    pull = np.where(other, -limit(config).features / p.class_weights, 0)
    gaps = -np.log(pull, where=other, out=np.zeros((k, k)))
    gaps = gaps + focusing / (1 + focusing) * np.log(pull.sum(axis=0))
    gaps = gaps - gaps[other].min() + margin - added + added[:, None] + margins
    gaps = np.where(other, gaps, 0) / config.adjustments["logit_scale"]
    x = 1 / f
    Z = -x[:, None] * gaps
    return balanced(Z - np.outer(x, x @ Z) / (x @ x), p.counts)


def limit_state(config: Config) -> State:
    """A state at the limit."""
    return balanced(limit(config).logits, make_problem(config).counts)


def majority_gaps(
    config: Config, margins: Float[np.ndarray, " t"], first: float
) -> Float[np.ndarray, " t"]:
    """Gap between two majorities over the least margin, from `first` at the first of ascending margins
    on: it falls to 1, where training comes to its limit. Derived after trial runs.

    Of a symmetric state with balanced layers: classes of a group n_1, n_2 are alike, k_1, k_2 of them.
    Scaled logits have the gap a M between two majorities, which is too wide to pull; the least
    margin M is that of a majority sample over minorities, of a minority sample over majorities and
    of two minorities, which pull with shares L_1 + L_2 + L_3 = 1 of d log L. With u = (p, -q) the unit
    vector orthogonal to 1 / factors, c = p + f q, majority and minority samples have h_1, -h_2 in
    that direction:

        M = c h_1 + a M (1 - 1/k_1) = c k_2 h_2,   w^4 = k_1 n_1 h_1^2 + k_2 n_2 h_2^2

    by loss-clock time d log(a M) = 2 L_1 / (k_1 sqrt(n_1)), d log M = 2 f (L_3 + L_2 (1 - 1/k_2)) / ((k_2 -
    1) sqrt(n_2)) and, for i = 1, 2, d h_i = h_i c (L_1 h_1 + L_2 h_2) / w^2 + w^2 c L_i / (k_i n_i). That
    the first line stays true gives the shares.
    """
    found = [first]
    for low, high in zip(np.log(margins[:-1]), np.log(margins[1:]), strict=True):
        a, steps = found[-1], 10
        for _ in range(steps):
            a = max(1.0, a * np.exp((high - low) / steps * _majority_power(config, a)))
        found.append(a)
    return np.array(found)


def _majority_power(config: Config, a: float) -> float:
    """d log a / d log M of `majority_gaps`."""
    n, f = np.array(config.class_counts, dtype=float)[[0, -1]], factors(config)[-1]
    k1 = config.class_groups.count(profiles.MAJORITY)
    k2 = config.num_classes - k1
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


def linear_accuracy(config: Config, times: Float[np.ndarray, " t"]) -> Float[np.ndarray, " t"]:
    """Balanced training accuracy of a config's own start in its linear phase, where W and the class
    parts of H grow as cosh and sinh of A t and deviations from class means stay."""
    problem, params, _ = start_of(config)
    labels, root = problem.labels, np.sqrt(problem.counts)
    members = membership(labels, len(root))
    B = (params.H @ members) / root
    rest = params.H - (B / root)[:, labels]
    U, rates, Vt = np.linalg.svd(growth_matrix(config))
    left, right = U.T @ params.W, Vt @ B.T
    found = []
    for t in times:
        cosh, sinh = np.cosh(rates * t)[:, None], np.sinh(rates * t)[:, None]
        W = U @ (cosh * left + sinh * right)
        H = (Vt.T @ (cosh * right + sinh * left)).T
        logits = W @ ((H / root)[:, labels] + rest)
        right_ones = (logits.argmax(axis=0) == labels).astype(float)
        found.append(float(np.mean(right_ones @ members / problem.counts)))
    return np.array(found)


def without_kept_row(state: State, config: Config) -> State:
    """Less the row x^T W, x = 1 / factors, which the flow keeps as it was drawn."""
    x = 1 / factors(config)
    return state._replace(W=state.W - np.outer(x, x @ state.W) / (x @ x))


def cosines(gram: Float[np.ndarray, "k k"], config: Config) -> dict[str, float]:
    """Mean cosine of two classifier rows within each group, and |w_maj| / |w_min|, from W W^T."""
    minority = np.array(config.class_groups) == profiles.MINORITY
    norms, found = np.sqrt(np.diag(gram)), {}
    for group, mine in zip(GROUPS, (~minority, minority), strict=True):
        block = (gram / np.outer(norms, norms))[np.ix_(mine, mine)]
        found[group] = float(block[~np.eye(len(block), dtype=bool)].mean())
    return found | {"norms": float(norms[~minority].mean() / norms[minority].mean())}
