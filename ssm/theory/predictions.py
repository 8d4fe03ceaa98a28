"""What a Config should do, from its numbers alone: when it learns what, and how long it takes.
Nothing in `dynamics` sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from ssm.config import Config
from ssm.config.choices import GRADIENT_SIZED
from ssm.config.validation import MOST_STEPS
from ssm.measures import geometry, spectral
from ssm.problem import Problem, losses
from ssm.support import errors
from ssm.theory import exact, growth


class Start(NamedTuple):
    """What of a start decides when its contrasts are learned."""

    W: Float[Any, "k d"]
    class_means: Float[Any, "d k"]
    """Of the features."""


def noise_damping(config: Config, problem: Problem) -> Float[np.ndarray, " k"]:
    """Rate sigma at which the noise in the features of a Gaussian start damps the classifier's part
    of the contrasts of each class, in two layers.

    What in the features deviates from the class means has no label, so W shrinks on it: under the
    squared loss by sigma = s^2 sum_c w_c (n_c - 1) / n with standard deviation s, as at a start
    with W^T W - H H^T = -n s^2 I; it ends only in directions that other contrasts take. Under
    cross-entropy, of curvature 1 / k at zero logits, that of the classes not yet learned is left:
    the sum over classes that grow no faster, over k. 0 for other starts, for shared features, and at
    other depths. n s^2 / sqrt(n_min) is about sigma / r of the minorities, whose effect on rates is
    `theory.damped_rate`. Shape (k,).

    Source: derived for this project.
    """
    each = _noise(config, problem)
    if config.loss == "squared":
        return np.full(len(each), each.sum())
    rates = growth.class_growth_rates(problem)
    slower = rates[None, :] <= rates[:, None] * (1 + 1e-9)
    return slower @ each


def _noise(config: Config, problem: Problem) -> Float[np.ndarray, " k"]:
    """What the noise of each class adds to the damping at the start."""
    p, k = problem, len(problem.counts)
    if config.init != "gaussian" or p.shared or config.depth != 2:
        return np.zeros(k)
    each = config.init_scale**2 * p.class_weights * (p.counts - 1) / p.counts.sum()
    return each if config.loss == "squared" else each / k


def expected_start_strength(config: Config, problem: Problem) -> Float[np.ndarray, " k"]:
    """Mean over starts of the growing part of the product mode of two layers at t = 0, the a_0 of
    a_0 e^(2 lam t), for contrasts of each class.

    A mode's factors p = U^T W and q = V^T K^(-1/2) H^T (d numbers each) grow as (g_p, g_q) (g_p p +
    g_q q) e^(lam t), g_p = g_q = 1 / sqrt(2) but for noise (`theory.growing_half`), so a_0 = g_p
    g_q E|g_p p + g_q q|^2. With standard deviation s and no noise it is d s^2 (1 + 1 / kappa) / 4
    for a Gaussian start, d s^2 (1 + k / n) / 4 for a balanced and d s^2 (1 + n_c / kappa) / 4 for a
    collapsed one; s^2 for a spectral one. For shared features 1 stands for kappa, n_c and k / n.
    Shape (k,).
    """
    k = len(problem.counts)
    scale, width = config.init_scale**2, config.feature_dim
    if config.init == "spectral":
        return np.full(k, scale)
    if problem.shared:
        return np.full(k, scale * width / 2)
    other = {
        "gaussian": 1 / problem.kernel_eigenvalues,
        "balanced": np.full(k, k / problem.counts.sum()),
        "collapsed": problem.counts / problem.kernel_eigenvalues,
    }[config.init]
    rates = growth.class_growth_rates(problem)
    first, second = growth.growing_half(rates, noise_damping(config, problem))
    return scale * width * first * second * (first**2 + second**2 * other)


FEWEST_E_FOLDS = 5.0  # of a product of factors; before that the decaying half of a start shows
# Where modes are not exactly sigmoids that share directions (measured on 15,715 components: these
# keep every error under a tenth), as shares of the rate and of the e-folds:
LARGEST_DAMPING = 0.2
LARGEST_OVERLAP = 0.1
LARGEST_RANGE = 0.15


def predicted_learning_times(
    config: Config,
    problem: Problem,
    components: spectral.LabelSpectrum,
    start: Start | None = None,
) -> Float[np.ndarray, " r"]:
    """Learning time expected for each component of the label matrix from the Config alone, in flow
    time.

    `theory.overlapping_learning_times` from the start that is given, or, where none is, that of a
    mode by itself from the mean over starts, which leaves out how the modes of one draw overlap, an
    O(1) change of the e-folds. Exact for the squared loss from a spectral start, at any depth
    (`exact.deep_learning_time`). A label smoothed by e slows all down by 1 - e.

    NaN where it would not hold within a tenth: where the component is not `theory.separable`, where
    it is learned within `FEWEST_E_FOLDS`, and, unless the loss is squared, weights are equal and
    features free, where noise damps too much or overlap decides; everywhere when
    feature_dim < k - 1, since the label matrix then cannot be interpolated, with decay, by the loss
    clock, for adjusted logits, deferred weights and the steps of an optimiser, and at other depths
    than 2 unless the loss is squared and the start spectral.
    """
    k, depth = len(problem.counts), config.depth
    unlike = depth != 2 and (config.loss != "squared" or config.init != "spectral")
    unlike |= config.clock == "loss" or config.has_deferral
    unlike |= config.has_adjustment and not config.has_only_smoothing
    if config.feature_dim < k - 1 or config.has_decay or config.is_descent or unlike:
        return np.full(k - 1, np.nan)
    alone = growth.separable(problem, components, config.loss)
    if depth == 2:
        times, trusted = _two_layer_times(config, problem, components, start)
        return np.where(alone & trusted, times, np.nan)
    times = np.full(k - 1, np.nan)
    times[alone] = exact.deep_learning_time(
        growth.component_growth_rates(problem, components)[alone],
        (growth.overlap(problem, components) * config.init_scale**depth)[alone],
        components.singular_values[alone],
        depth,
        growth.overlap(problem, components)[alone] ** 2,
    )
    return times


def _two_layer_times(
    config: Config, problem: Problem, components: spectral.LabelSpectrum, start: Start | None
) -> tuple[Float[np.ndarray, " r"], Bool[np.ndarray, " r"]]:
    """Learning times of two layers, and where the closed form is near enough."""
    p, left = problem, components.left
    rates = growth.mean_growth_rates(p, components) * (1 - config.label_smoothing)
    damping = (left**2 * noise_damping(config, p)[:, None]).sum(axis=0)
    squared = config.loss == "squared"
    saturation = 1.0 if squared else len(p.counts) * (1 - config.label_smoothing)
    if saturation <= 2 * spectral.LEARNED and not squared:
        return rates, np.zeros(len(rates), bool)  # the end of smoothed labels is too near
    shown = growth.overlap(p, components) / (components.singular_values * saturation)
    if start is None:
        shares = shown * (left**2 * expected_start_strength(config, p)[:, None]).sum(axis=0)
        gram = np.diag(shares)
    else:
        by_class = growth.class_growth_rates(p)
        right = by_class[:, None] * left / growth.mean_growth_rates(p, components)
        root = np.sqrt(p.counts / p.kernel_eigenvalues)
        first, second = growth.growing_half(rates, damping)
        rows = first[:, None] * (left.T @ start.W)
        rows += second[:, None] * (right.T @ (root[:, None] * start.class_means.T))
        rows *= np.sqrt(first * second * shown)[:, None]
        gram = rows @ rows.T
    learning = growth.overlapping_learning_times(rates, damping, gram, saturation)
    noise = _noise(config, p).sum() / rates
    return learning.times, _trusted(config, p, learning, growth.damped_rate(rates, damping), noise)


def _trusted(
    config: Config,
    problem: Problem,
    learning: growth.Learning,
    rates: Float[np.ndarray, " r"],
    noise: Float[np.ndarray, " r"],
) -> Bool[np.ndarray, " r"]:
    """Where `learning` at damped `rates` is near enough, `noise` the largest damping over a rate."""
    squared, even = config.loss == "squared", np.ptp(problem.class_weights) == 0
    folds = 2 * rates * learning.first
    if squared and config.init == "spectral":
        return folds >= 0
    trusted = folds >= FEWEST_E_FOLDS
    if not (squared and even and problem.coupling == 0):
        trusted &= noise <= LARGEST_DAMPING
    if not (squared and even):
        trusted &= learning.times - learning.first <= LARGEST_OVERLAP * learning.first
    if squared and not even:
        trusted &= learning.last - learning.first <= LARGEST_RANGE * learning.first
    return trusted


def automatic_rate(config: Config, problem: Problem) -> float:
    """The learning rate of an optimiser: the one of `config`, or where that is left out one at which
    gradient descent takes a tenth of an e-fold of the fastest contrast a step, for two layers; in
    general 0.2 over the rate L r_c kappa_c^(1/L - 1/2) n_c^(1/2 - 1/L) at which the fastest settles
    on its target, and the decay. With momentum m 1 - m times that; 0.01 for an optimiser whose steps
    do not shrink with the gradient."""
    if config.learning_rate is not None:
        return config.learning_rate
    if config.optimizer not in GRADIENT_SIZED:
        return 0.01
    p, depth = problem, config.depth
    power = 1 / depth - 1 / 2
    rates = growth.class_growth_rates(p)
    if config.has_deferral:
        rates = np.maximum(rates, growth.class_growth_rates(_unweighted(p)))
    settling = depth * rates * initial_gradient_scale(config, p)
    settling = settling * p.kernel_eigenvalues**power * p.counts**-power
    fading = max(config.weight_decay, config.feature_decay)
    return float(0.2 / (settling.max() + fading) * (1 - momentum(config)))


def automatic_steps(config: Config, problem: Problem) -> int:
    """Number of an optimiser's steps: the one of `config`, or where that is left out those in which
    gradient descent comes to `automatic_t1` under its learning-rate schedule, and 1000 for what does
    not follow the gradient's size; never fewer than are observed.

    Raises ssm.InputError where that would be more steps than a run may have."""
    if config.num_steps is not None:
        return config.num_steps
    if config.optimizer not in GRADIENT_SIZED:
        return max(1000, config.num_saves - 1)
    rate = _flow_rate(config, problem)
    steps = automatic_t1(config, problem) / rate
    if config.learning_rate_schedule == "cosine":
        steps *= 2  # the mean rate is half the first
    if config.drop_step is not None and config.drop_factor > 0:
        steps += max(steps - config.drop_step, 0) * (1 / config.drop_factor - 1)
    if steps > MOST_STEPS:
        allowed = f"given, at most {MOST_STEPS}: at learning rate {rate:.3g} theory asks for {steps:.3g} steps"
        raise errors.invalid("num_steps", None, allowed)
    return max(int(np.ceil(steps)), config.num_saves - 1)


def _flow_rate(config: Config, problem: Problem) -> float:
    """Flow time of a step in the long run, where momentum adds up."""
    return automatic_rate(config, problem) / (1 - momentum(config))


def momentum(config: Config) -> float:
    """The coefficient of past gradients, 0 for an optimiser without."""
    if config.optimizer not in ("momentum", "nesterov"):
        return 0.0
    return 0.9 if config.momentum is None else config.momentum


def initial_gradient_scale(config: Config, problem: Problem) -> Float[np.ndarray, " k"]:
    """|dl/dz| of a sample of each class at zero logits, over that of plain cross-entropy: about how
    much faster or slower its contrasts begin (what is added to logits shows in it, and leaves
    contrasts within a group alone). Shape (k,); 1 without an adjustment.

    Source: derived for this project.
    """
    k = len(problem.counts)
    if not config.has_adjustment:
        return np.ones(k)
    gradient = _at_zero_logits(losses.adjusted_cross_entropy_gradient, config, problem)
    return np.linalg.norm(gradient, axis=0) / np.sqrt(1 - 1 / k)


def _at_zero_logits(function: Callable[..., Any], config: Config, problem: Problem) -> np.ndarray:
    """A function of adjusted cross-entropy for a sample of each class."""
    k = len(problem.counts)
    with jax.enable_x64(True):
        adjustment = losses.adjustment(problem.counts, **config.adjustments)
        return np.asarray(function(jnp.zeros((k, k)), jnp.arange(k), adjustment))


def automatic_t1(config: Config, problem: Problem) -> float:
    """A run length in which, from a small start, the contrasts of every class are learned.

    By time max_c t_c + 4 / r_c, with t_c the expected learning time at the class growth rate r_c,
    which bound the rates of all modes from below; at other depths than 2 the time to 98 % of the
    target under the squared loss, three times that for random starts of more than two layers. Under
    cross-entropy the cross component slows down once one group is learned, and may need longer. With
    decay 20 / lam more, lam the least of those that are not 0.

    By the loss clock sum_c (n_c w_c / n) l_c (t_c + 4 / r_c), l_c the loss at zero logits, log(k) for
    plain cross-entropy, since a class not yet learned adds about n_c w_c l_c / n to L; and then what
    a margin M takes in the direction of the label matrix, s_j its singular values: L layers have the
    squared norm L sum_j (M s_j)^(2/L), which grows by 2 L M, so tau is sum_j s_j^(2/L) (1 - M^(2/L -
    1)) / (L - 2), for two layers sum_j s_j log(M) / 2; of 1 + margin, since the early phase ends at a
    margin of about 0; over 1 + gamma of a focal loss. For adjusted logits s_j are those of their own
    limit, with a fifth of allowance.
    """
    p, times = problem, _class_times(config, problem)
    if config.clock == "time":
        decays = [x for x in (config.weight_decay, config.feature_decay) if x > 0]
        settled = 20 / min(decays) if decays else 0.0
        return float(np.max(times) + settled + _deferral_length(config, p))
    risk_shares = p.counts * p.class_weights / p.counts.sum()
    kappa = p.kernel_eigenvalues  # the label matrix that coupled features see: n_c / kappa_c
    target = spectral.label_spectrum(
        p.counts, 1 / kappa, class_groups=p.class_groups, kernel_eigenvalues=kappa
    ).singular_values
    first, allowance = np.full(len(p.counts), np.log(len(p.counts))), 1.0
    if config.has_adjustment:
        adjustment = losses.adjustment(p.counts, **config.adjustments)
        counts = geometry.effective_counts(p.counts, kappa)
        end = geometry.adjusted_seli(counts, adjustment.factors)
        target = np.linalg.eigvalsh(end.classifier).clip(0)
        # on the way some gaps are wider than the margin, the longer the more factors differ
        allowance = 1.2
        first = _at_zero_logits(losses.adjusted_cross_entropy, config, p)
    margin, depth = config.end_margin or 1e3, config.depth
    early = np.sum(risk_shares * first * times)
    power = 2 / depth - 1
    grown = np.log1p(margin) / 2 if depth == 2 else ((1 + margin) ** power - 1) / (2 - depth)
    grown = grown / (1 + config.adjustments["focusing"])  # log L falls that much faster
    return float(allowance * (early + (target ** (2 / depth)).sum() * grown))


def _unweighted(problem: Problem) -> Problem:
    return problem._replace(class_weights=np.ones(len(problem.counts)))


def _deferral_length(config: Config, problem: Problem) -> float:
    """How much longer a run takes because of weights that act later: until they do, or until ERM
    has learned all."""
    if config.weight_start is None:
        return 0.0
    start, length = config.weight_start, config.weight_ramp
    if config.is_descent:
        rate = _flow_rate(config, problem)
        start, length = start * rate, length * rate
    return min(start + length, float(_class_times(config, _unweighted(problem)).max()))


def _class_times(config: Config, problem: Problem) -> Float[np.ndarray, " k"]:
    """When contrasts of each class should be as good as learned, in flow time."""
    p, rates = problem, growth.class_growth_rates(problem) * initial_gradient_scale(config, problem)
    start, kappa = expected_start_strength(config, p), p.kernel_eigenvalues
    if config.depth == 2:
        share = start * np.sqrt(kappa / p.counts)
        grown = growth.damped_rate(rates, noise_damping(config, p))
        return growth.learning_time(grown, share, config.loss, len(p.counts)) + 4 / grown
    start = np.sqrt(kappa) * start ** (config.depth / 2)  # as many factors of the size of two
    times = exact.deep_learning_time(rates, start, np.sqrt(p.counts), config.depth, kappa, 0.98)
    # beyond two factors a random start stays in the time as a factor, about threefold either way
    return times * (3 if config.depth > 2 and config.init != "spectral" else 1)
