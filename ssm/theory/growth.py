"""Closed forms that runs are held against. Times are flow time, the same unit as `Config.t1`.

A problem may be a whole grid too, of STEP ones (`step.grid`) with the basis of `step.components`, or of any
(`groups.ByClass`) with their bases stacked: the axes of the grid then lead what comes out, here (...). All other numbers broadcast.

All but the sigmoid modes were derived for this project from the flow at zero logits, where both
losses have the gradient -S Omega / n; see paper_notes.md.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from ssm.measures import spectral
from ssm.theory.groups import Problems, by_class

Values = ArrayLike | float | int
Numbers = Float[np.ndarray, "*shape"] | np.float64


def class_growth_rates(problem: Problems) -> Float[np.ndarray, "*grid k"]:
    """Rate r_c = w_c sqrt(n_c kappa_c) / n at which contrasts of a class with its equals grow:
    features ~ e^(r t), logits ~ e^(2 r t).

    kappa_c = 1 + c (n_c - 1): free features w_c sqrt(n_c) / n, shared ones w_c n_c / n. Shape (..., k),
    per unit of flow time.
    """
    p = by_class(problem)
    n = p.counts.sum(axis=-1, keepdims=True)
    return p.class_weights * np.sqrt(p.counts * p.kernel_eigenvalues) / n


def component_growth_rates(
    problem: Problems, components: spectral.LabelSpectrum
) -> Float[np.ndarray, "*grid r"]:
    """Growth rate r_j of each component of the label matrix, NaN where the component does not grow as one mode
    by itself.

        n^2 r_j^2 = u_j^T Q u_j,   Q = diag(n_c w_c^2 kappa_c) + beta (n w)(n w)^T

    with (n w)_c = n_c w_c and beta what all samples share of the coupling kernel (`Problem.common_coupling`).
    It grows by itself where u_j is an eigenvector of P Q P too, with P the centring projector: always for STEP
    and for equal counts, and for any counts with unit weights and free features. Contrasts within a group of
    equal classes do not feel beta.

    A bias of the logits comes to rest long before features are learned, from small starts, where the mean
    logit gradient is 0 and softmax of the bias is p_c = n_c w_c / sum_j n_j w_j. The rates are those from then
    on, with u_j - (u_j^T p) 1 in the place of u_j: beta no longer counts. Until then, a few 1 / min(p) of flow
    time under cross-entropy and about 1 under the squared loss, they are those without that bias.

    Shape (..., k - 1), per unit of flow time, in the order of `components`.

    Example:
        >>> import ssm
        >>> from ssm.problem import make_problem
        >>> problem = make_problem(ssm.Config(num_classes=4, imbalance_ratio=4, minority_count=25))
        >>> components = ssm.spectral.components(problem)  # of classes of 100, 100, 25 and 25 samples
        >>> for block, rate in zip(components.blocks, component_growth_rates(problem, components)):
        ...     print(block, round(float(rate), 3))
        majority 0.04
        cross 0.032
        minority 0.02
    """
    p, shares = by_class(problem), risk_shares(problem)
    n, seen = p.counts.sum(axis=-1)[..., None], seen_contrasts(problem, components)
    root_q, left = class_growth_rates(problem) * n, components.left
    common = p.common_coupling[..., None, None] * n[..., None] ** 2 * shares[..., None]
    scaled = (root_q**2)[..., None] * seen + common * (shares[..., None, :] @ seen)
    even = np.full(shares.shape[-1], 1 / shares.shape[-1])
    rest = shares / shares.sum(axis=-1, keepdims=True) if p.output_bias else even
    scaled = scaled - rest[..., None] * scaled.sum(axis=-2, keepdims=True)
    eigenvalues = (left * scaled).sum(axis=-2)
    error = np.linalg.norm(scaled - eigenvalues[..., None, :] * left, axis=-2)
    return np.where(error <= 1e-9 * eigenvalues, mean_growth_rates(problem, components), np.nan)


def mean_growth_rates(
    problem: Problems, components: spectral.LabelSpectrum
) -> Float[np.ndarray, "*grid r"]:
    """The r_j of `component_growth_rates`, also where a component does not grow by itself."""
    squares, seen = class_growth_rates(problem) ** 2, seen_contrasts(problem, components)
    shown = (risk_shares(problem)[..., None, :] @ seen)[..., 0, :]
    common = by_class(problem).common_coupling[..., None] * shown**2
    return np.sqrt((seen**2 * squares[..., None]).sum(axis=-2) + common)


def risk_shares(problem: Problems) -> Float[np.ndarray, "*grid k"]:
    """n_c w_c / n, what each class weighs in the risk. Shape (..., k)."""
    p = by_class(problem)
    return p.counts * p.class_weights / p.counts.sum(axis=-1, keepdims=True)


def seen_contrasts(
    problem: Problems, components: spectral.LabelSpectrum
) -> Float[np.ndarray, "*grid k r"]:
    """What the gradient of each class shows of every u_j while features are small: u_j itself, or with a
    bias of the logits at rest u_j - (u_j^T p) 1, p_c = n_c w_c / sum_j n_j w_j. Shape (..., k, k - 1), or
    (k, k - 1) where that is one for all of a grid."""
    if not problem.output_bias:
        return components.left
    shares = risk_shares(problem)
    shown = shares[..., None, :] @ components.left
    return components.left - shown / shares.sum(axis=-1, keepdims=True)[..., None]


def balancing_exponent(
    majority_count: Values,
    minority_count: Values,
    coupling: Values,
    between_coupling: Values = 0.0,
) -> Numbers:
    """The exponent g* of w_c ~ n_c^-g at which majority and minority contrasts grow alike.

    g* = 1/2 + 1/2 log(kappa_maj / kappa_min) / log R with kappa_c = 1 - c + (c - c_b) n_c: 1/2 for free
    features and wherever c_b = c, 1 for shared ones. Biases leave it as it is. NaN when R = 1, where every
    exponent balances.

    Args:
        majority_count, minority_count: samples of a class of each group; R is the first over the second.
        coupling, between_coupling: c in [0, 1], and c_b in [0, 1), at most c. All broadcast against one
            another.

    Source: derived for this project.

    Example:
        >>> balancing_exponent(100, 10, [0, 0.1, 1]).round(3).tolist()
        [0.5, 0.879, 1.0]
    """
    majority, minority, c = map(np.asarray, (majority_count, minority_count, coupling))
    between = np.asarray(between_coupling)
    kappa = [1 + c * (n - 1) - between * n for n in (majority, minority)]
    log_ratio = np.log(majority / minority)
    alike = log_ratio == 0
    exponent = 0.5 + 0.5 * np.log(kappa[0] / kappa[1]) / np.where(alike, np.nan, log_ratio)
    return exponent[()]


def margin_exponent(
    majority_count: Values,
    minority_count: Values,
    coupling: Values,
    between_coupling: Values = 0.0,
) -> Numbers:
    """The exponent g of w_c ~ n_c^-g at which the margins of two classes grow alike. Where each class is
    alone in its group there are no contrasts, which `balancing_exponent` is about.

    g = log(kappa_maj / kappa_min) / log R = 2 g* - 1: 0 for free features, where empirical risk
    minimisation learns both classes at once, and 1 for shared ones. Between two classes A and B the
    classifier has one direction, y, with features a f_A and -b f_B on it, f_c = sqrt(kappa_c / n_c) and
    r_c = w_c sqrt(n_c kappa_c) / n. Then a' = s r_A q_A y, so that a margin s y a f_A grows by r_A f_A =
    w_A kappa_A / n times what both have in common. This holds at any margin and for either loss, from
    starts in which a f_A = b f_B, and from small ones.

    It is also the exponent at which contrasts and margins of any number of classes grow alike where the
    features stay as they are, dZ/dt = -G K. NaN when R = 1. With c_b > 0, or with a bias, it is that of
    contrasts alone: what all samples share moves the margins of both classes, and not alike.

    Args:
        majority_count, minority_count, coupling, between_coupling: as in `balancing_exponent`.

    Source: derived for this project.
    """
    return 2 * balancing_exponent(majority_count, minority_count, coupling, between_coupling) - 1


def learning_time_ratio(imbalance_ratio: Values, exponent: Values, coupling: Values) -> Numbers:
    """Learning time of the minority's contrasts over that of the majority's, in the limit of a small
    start: R^(1/2 - g) for free features, at coupling 0, and R^(1 - g) for shared ones, at coupling 1. There a
    coupling between classes and biases leave it as it is.

    Args:
        imbalance_ratio: R, samples of a majority class over samples of a minority class.
        exponent: g of the class weights w_c ~ n_c^-g.
        coupling: 0 or 1. All broadcast against one another.

    Raises:
        ValueError: coupling between 0 and 1, where the ratio depends on the counts (use
            `step.growth_rates`).

    Source: derived for this project.

    Example:
        >>> learning_time_ratio(100, exponent=[0, 1], coupling=0).tolist()  # with 1 the minority is first
        [10.0, 0.1]
    """
    if not np.isin(coupling, (0, 1)).all():
        raise ValueError(f"coupling={coupling}: must be 0 or 1")
    balance = np.where(np.asarray(coupling) == 1, 1.0, 0.5)
    return np.asarray(imbalance_ratio, dtype=float) ** (balance - np.asarray(exponent))


def sigmoid(
    times: Float[np.ndarray, "*#grid t"],
    rates: Float[np.ndarray, "*#grid r"],
    start: Float[np.ndarray, "*#grid r"],
    target: Float[np.ndarray, "*#grid r"],
) -> Float[np.ndarray, "*grid t r"]:
    """Strengths a_j(t) under the squared loss from a balanced spectral start.

    a(t) = s / (1 + (s / a_0 - 1) exp(-2 r t)). Exact for every component of an unweighted problem
    with free features (r = s / n), and for contrasts within a group of equal classes under any
    weights and coupling; not for the cross component of a weighted one, whose right vector the
    weights mix.

    Args:
        times: shape (..., t).
        rates, start, target: r_j, a_j(0), s_j, each of shape (..., r); leading axes of all four
            broadcast.

    Returns:
        shape (..., t, r).

    Source: Saxe, McClelland, Ganguli 2014; Gidel, Bach, Lacoste-Julien 2019; rates under weights
    and coupling derived here.
    """
    rates, left, target = (x[..., None, :] for x in (rates, target / start - 1, target))
    return target / (1 + left * np.exp(-2 * (times[..., :, None] * rates)))


def learning_time(
    rate: Float[np.ndarray, "*#grid r"],
    start_share: Float[np.ndarray, "*#grid r"],
    loss: str,
    num_classes: Values,
    level: Values = spectral.LEARNED,
) -> Float[np.ndarray, "*shape"]:
    """When a mode growing as x' = 2 r x (1 - x / X) reaches `level`, x its share of the target and
    x(0) = `start_share`.

    t = ln((X / x_0 - 1) / (X / level - 1)) / (2 r), never below 0. The squared loss saturates at X
    = 1. Cross-entropy does not saturate at the label matrix: softmax about zero logits, to first
    order, gives X = k, which matters little below the level 1/2. In the limit of a small start t
    goes as 1 / r. All numbers broadcast.
    """
    saturation = np.asarray(1.0 if loss == "squared" else num_classes, dtype=float)
    ratio = (saturation / start_share - 1) / (saturation / np.asarray(level) - 1)
    return np.log(np.maximum(ratio, 1.0)) / (2 * rate)


def damped_rate(
    rates: Float[np.ndarray, "*#grid r"], damping: Float[np.ndarray, "*#grid r"]
) -> Float[np.ndarray, "*grid r"]:
    """Rate at which a mode's factors grow where noise in the features damps its classifier.

    p' = r q - sigma p, q' = r p grow as e^(lam t) with lam = r^2 / (sigma / 2 + (r^2 + sigma^2 /
    4)^(1/2)): r without noise, r^2 / sigma where it rules. With sigma = N / n and r = s / n it is
    that of `exact.balanced_flow` at W^T W - H H^T = -N I.

    Source: Domine et al. 2024 in kind; derived for this project.
    """
    return rates**2 / (damping / 2 + np.hypot(rates, damping / 2))


def growing_half(
    rates: Float[np.ndarray, "*#grid r"], damping: Float[np.ndarray, "*#grid r"]
) -> tuple[Float[np.ndarray, "*grid r"], Float[np.ndarray, "*grid r"]]:
    """(g_p, g_q), the unit vector along which a mode's factors grow at `damped_rate`: (lam, r) over
    its length; both 1 / sqrt(2) without damping."""
    grown = damped_rate(rates, damping)
    length = np.hypot(rates, grown)
    return grown / length, rates / length


def separable(
    problem: Problems, components: spectral.LabelSpectrum, loss: str
) -> Bool[np.ndarray, "*grid r"]:
    """Which components of the label matrix learn as one mode each, unmoved by the others: bool,
    shape (..., k - 1).

    Under the squared loss these are the components on whose classes the weight and kappa are equal:
    contrasts of equal classes, and every component when the weights are equal and the features free.
    Under cross-entropy, where the softmax ties unequal classes together, and wherever a bias or a coupling
    between classes does, they are only the contrasts of equal classes.
    """
    p, support = by_class(problem), np.abs(components.left) > 1e-9

    def alike(numbers: np.ndarray) -> np.ndarray:
        each = numbers[..., None]
        return np.where(support, each, -np.inf).max(-2) == np.where(support, each, np.inf).min(-2)

    tied = np.array(loss != "squared" or p.output_bias) | (p.common_coupling > 0)
    alone = alike(p.class_weights) & alike(p.kernel_eigenvalues)
    return alone & (alike(p.counts) | ~tied[..., None])


def overlap(problem: Problems, components: spectral.LabelSpectrum) -> Float[np.ndarray, "*grid r"]:
    """What a product mode of unit size shows in the label matrix's own basis: sqrt(kappa) of each component's
    classes.

    With a bias, or a coupling between classes, it is the size of that of the mode which grows first, u_j^T N T D v / (s_j
    r_j) with N = diag(n_c), T of `Problem.class_kernel`, D = diag(n_c w_c) / n and v of `seen_contrasts`: the
    same for contrasts of equal classes. Shape (..., k - 1)."""
    p, left = by_class(problem), components.left
    own = np.sqrt((left**2 * p.kernel_eigenvalues[..., None]).sum(axis=-2))
    tied = (p.common_coupling > 0) | p.output_bias
    if not tied.any():
        return own
    moved = p.kernel @ (risk_shares(problem)[..., None] * seen_contrasts(problem, components))
    shown = (p.counts[..., None] * left * moved).sum(axis=-2)
    first = np.abs(shown) / (components.singular_values * mean_growth_rates(problem, components))
    return np.where(tied[..., None], first, own)
