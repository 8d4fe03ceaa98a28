"""When each component of the label matrix should be learned, from the numbers of a Config alone.

Nothing in `dynamics` sees these predictions, since runs are held against them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from ssm.config import Config
from ssm.measures import spectral
from ssm.problem import Problem
from ssm.theory import class_flow, exact, groups, growth, overlapping


class Start(NamedTuple):
    """The part of a start that decides when its contrasts are learned."""

    W: Float[Any, "*starts k d"]
    class_means: Float[Any, "*starts d k"]
    """The mean feature of each class."""


class Prospect(NamedTuple):
    """What is known of runs that differ in their start only, before they begin."""

    config: Config
    problem: Problem
    """What `make_problem` makes of it."""
    components: spectral.LabelSpectrum
    """Those of `spectral.components(problem)`."""
    start: Start | None = None
    """The start of the run, or the starts of several; where it is None, the mean over starts stands for it."""


def noise_damping(config: Config, problem: Problem) -> Float[np.ndarray, " k"]:
    """Rate sigma at which the noise in the features of a Gaussian start damps the classifier's part
    of the contrasts of each class, in two layers, per unit of flow time.

    Features deviate from their class means in directions that have no label, so W shrinks there. Under
    the squared loss it does so by sigma = s^2 sum_c w_c (n_c - 1) / n with standard deviation s, as from
    a start with W^T W - H H^T = -n s^2 I, and it stops only in directions that other contrasts take.
    Cross-entropy has curvature 1 / k at zero logits, and there only the noise of classes not yet learned
    is left: sigma of a class is the sum over classes that grow no faster, over k. It is 0 for other
    starts, for shared features, and at other depths. For the minorities sigma / r is about n s^2 /
    sqrt(n_min); `theory.damped_rate` is what rates become. Where features start from inputs, s^2 (1 - c)
    stands for s^2. Shape (k,).

    Source: derived for this project.
    """
    each = _noise(config, problem)
    if config.loss == "squared":
        return np.full(len(each), each.sum())
    rates = growth.class_growth_rates(problem)
    slower = rates[None, :] <= rates[:, None] * (1 + 1e-9)
    return slower @ each


def _noise(config: Config, problem: Problem) -> Float[np.ndarray, " k"]:
    """How much the noise of each class adds to the damping at the start."""
    p, k = problem, len(problem.counts)
    if config.init not in ("gaussian", "own") or p.shared or config.depth != 2:
        return np.zeros(k)
    each = config.init_scale**2 * p.class_weights * (p.counts - 1) / p.counts.sum()
    if config.starts_from_inputs:
        each = each * (1 - p.coupling)
    return each if config.loss == "squared" else each / k


def expected_start_strength(config: Config, problem: Problem) -> Float[np.ndarray, " k"]:
    """Mean over starts of the growing part of the product mode of two layers at t = 0, the a_0 of
    a_0 e^(2 lam t), for contrasts of each class.

    A mode's factors p = U^T W and q = V^T K^(-1/2) H^T (d numbers each) grow as (g_p, g_q) (g_p p +
    g_q q) e^(lam t), g_p = g_q = 1 / sqrt(2) but for noise (`theory.growing_half`), so a_0 = g_p
    g_q E|g_p p + g_q q|^2. With standard deviation s and no noise it is d s^2 (1 + 1 / kappa) / 4
    for a Gaussian start, d s^2 (1 + k / n) / 4 for a balanced and d s^2 (1 + n_c / kappa) / 4 for a
    collapsed one; s^2 for a spectral one. Where features start from inputs, 1 stands for 1 / kappa of a
    Gaussian, (c - c_b) n_c / kappa for n_c / kappa of a collapsed one, and k over the number of inputs for
    k / n of a balanced one. A start of one's own counts as a Gaussian one of its size. For shared features, whose columns are classes, the two of a Gaussian and of a
    collapsed start are n_c / kappa, or 1 from inputs, and 1 stands for k / n. What all samples share is no
    part of these contrasts. Shape (k,).
    """
    k = len(problem.counts)
    scale, width = config.init_scale**2, config.feature_dim
    if config.init == "spectral":
        return np.full(k, scale)
    if problem.shared and (problem.between_coupling == 0 or config.init == "balanced"):
        return np.full(k, scale * width / 2)
    by_class = problem.counts / problem.kernel_eigenvalues
    of_gaussian = by_class if problem.shared else 1 / problem.kernel_eigenvalues
    other = {
        "gaussian": of_gaussian,
        "own": of_gaussian,
        "balanced": np.full(k, k / (config.num_inputs or problem.counts.sum())),
        "collapsed": by_class,
    }[config.init]
    if config.starts_from_inputs and config.init != "balanced":
        by_class = by_class * (problem.coupling - problem.between_coupling)
        other = by_class if config.init == "collapsed" else np.ones(k)
    rates = growth.class_growth_rates(problem)
    first, second = growth.growing_half(rates, noise_damping(config, problem))
    return scale * width * first * second * (first**2 + second**2 * other)


FEWEST_E_FOLDS = 5.0  # of a product of factors; before that the decaying half of a start shows
# How far modes may be from sigmoids that share directions, as shares of the rate and of the e-folds. Of
# 15,715 components that were measured these limits keep every error under a tenth.
LARGEST_DAMPING = 0.2
LARGEST_OVERLAP = 0.1
LARGEST_RANGE = 0.15
# The same under cross-entropy, of contrasts of equal classes; and the fewest e-folds where the start is given.
LARGEST_DAMPING_OF_EQUALS = 1.0
FEWEST_OF_A_START = 2.0
LARGEST_CHANCE = (0.1, 1.0)  # on class means, and on samples around them
MOST_CLASSES = 250
"""Of predictions under cross-entropy, which follow all class means: some 10 s of one core there, and k^3.5 beyond, which for 1000 classes
was half an hour before a run of them began."""


def predicted_learning_times(
    config: Config,
    problem: Problem,
    components: spectral.LabelSpectrum,
    start: Start | None = None,
) -> Float[np.ndarray, "*starts r"]:
    """Learning time expected for each component of the label matrix from the Config alone, in flow
    time. Shape (k - 1,), with a row for each of several starts where they decide.

    Under cross-entropy it is that of the class means (`class_flow`), for any counts, weights, coupling and
    smoothed labels: exact where the features of a class start equal, and else but for what noise in them
    does, within a thousandth of runs from starts of 1e-6 and a fortieth where it is trusted least. Without a start it
    is that of the mean strength of every mode, each along a direction of its own.

    Under the squared loss it is `theory.overlapping_learning_times` with a start. Without one it is the time of
    a mode by itself from the mean over starts, which leaves out how the modes of one draw overlap, an O(1)
    change of the e-folds. It is exact from a spectral start, at any depth (`exact.deep_learning_time`).

    NaN where it would not hold within a tenth:

    - under the squared loss, where the component is not `theory.separable`, and, unless weights are equal and
      the features free, where noise damps too much or overlap decides;
    - under cross-entropy, where noise damps too much: contrasts of equal classes from a damping of once their rate
      on, all others as soon as it is `LARGEST_DAMPING` of the rate of any;
    - where the component is learned within `FEWEST_E_FOLDS`, under cross-entropy from a start that is given
      `FEWEST_OF_A_START`, unless the start is spectral;
    - everywhere where the noise of inputs has few dimensions for their number (`_noise_is_endless`);
    - everywhere under cross-entropy with more than `MOST_CLASSES` classes, which would take longer than a run (`ssm.theory.many_groups`
      has them by groups of equal classes);
    - everywhere when feature_dim < k - 1, since the label matrix then cannot be interpolated;
    - everywhere with a start, a loss or an optimiser of one's own, with decay, by the loss clock, for adjusted logits, deferred weights and the steps of an
      optimiser, and at other depths than 2 unless the loss is squared and the start spectral.

    Args:
        config, problem, components, start: as in `Prospect`.

    Source: derived for this project.
    """
    return predicted_together([Prospect(config, problem, components, start)])[0]


def predicted_together(prospects: Sequence[Prospect]) -> list[Float[np.ndarray, "*starts r"]]:
    """`predicted_learning_times` of several settings, the same up to roundings. Those with equal numbers of classes,
    features and starts are worked out together, under cross-entropy at a fifth of the cost where each has one start."""
    found = [np.full(len(prospect.problem.counts) - 1, np.nan) for prospect in prospects]
    together: dict[tuple[object, ...], list[int]] = {}
    for i, (config, problem, components, start) in enumerate(prospects):
        if not _can_be_known(config, problem):
            continue
        if config.depth != 2:
            found[i] = _deep_times(config, problem, components)
            continue
        shape = None if start is None else start.W.shape
        alike = (
            config.loss == "squared",
            len(problem.counts),
            config.feature_dim,
            problem.output_bias,
            shape,
        )
        together.setdefault(alike, []).append(i)
    for (is_squared, *_), indices in together.items():
        predict = _times_of_squared_loss if is_squared else _times_of_class_means
        for i, times in zip(indices, predict([prospects[i] for i in indices]), strict=True):
            found[i] = times
    return found


def _can_be_known(config: Config, problem: Problem) -> bool:
    """Whether anything is predicted of a run; the list is in `predicted_learning_times`."""
    k, depth = len(problem.counts), config.depth
    unknown = depth != 2 and (config.loss != "squared" or config.init != "spectral")
    unknown |= config.clock == "loss" or config.has_deferral
    unknown |= config.loss == "own" or config.init == "own"
    unknown |= config.has_adjustment and not config.has_only_smoothing
    unknown |= not _noise_is_endless(config, problem)
    unknown |= config.loss != "squared" and k > MOST_CLASSES
    return not (config.feature_dim < k - 1 or config.has_decay or config.is_descent or unknown)


def _deep_times(
    config: Config, problem: Problem, components: spectral.LabelSpectrum
) -> Float[np.ndarray, " r"]:
    """Learning times from a spectral start under the squared loss, at other depths than 2."""
    depth, alone = config.depth, growth.separable(problem, components, config.loss)
    times, shown = np.full(alone.shape, np.nan), growth.overlap(problem, components)[alone]
    times[alone] = exact.deep_learning_time(
        growth.component_growth_rates(problem, components)[alone],
        shown * config.init_scale**depth,
        components.singular_values[alone],
        depth,
        shown**2,
    )
    return times


def _noise_is_endless(config: Config, problem: Problem) -> bool:
    """Whether noise of inputs in q dimensions is near enough to what all predictions are for, noise of samples
    that is orthogonal.

    What it shows on class means, and on samples around them, is by chance about (1 - c) / kappa_c sqrt(k / q)
    and (1 - c) / kappa_c sqrt(n / q) of what is meant. Measured with errors up to a tenth for 4 classes of 90
    to 720 samples in all."""
    if not config.has_inputs:
        return True
    if config.loss != "squared" and (problem.common_coupling > 0 or problem.output_bias):
        return False  # errors fell too slowly with q to tell where they are below a tenth
    p, q = problem, float(config.noise_dim or 1)
    share = float(((1 - p.coupling) / p.kernel_eigenvalues).max())
    by_chance = np.sqrt(np.array([len(p.counts), p.counts.sum()]) / q)
    return bool((share * by_chance <= LARGEST_CHANCE).all())


def mean_start(config: Config, problem: Problem) -> Start:
    """The start of two layers in which every mode has its mean strength over starts along a direction of
    its own: that of a `spectral` start, or of `expected_start_strength` along the singular vectors along which
    factors grow, (I - 11^T / k) diag(w_c n_c / n) L with L L^T = T the kernel of class means."""
    p, k, kernel = problem, len(problem.counts), problem.kernel_eigenvalues
    if config.init == "spectral":
        spectrum = spectral.label_spectrum(
            p.counts,
            class_groups=p.class_groups,
            kernel_eigenvalues=kernel,
            common_coupling=p.common_coupling,
        )
        moved = kernel[:, None] * spectrum.left + p.common_coupling * (p.counts @ spectrum.left)
        right = moved / spectrum.singular_values
        return Start(config.init_scale * spectrum.left, config.init_scale * right.T)
    root = groups.by_class(p).kernel_root
    left, _, right = np.linalg.svd((np.eye(k) - 1 / k) * growth.risk_shares(p) @ root)
    size = np.sqrt((left[:, :-1] ** 2).T @ expected_start_strength(config, p))
    return Start(left[:, :-1] * size, size[:, None] * right[:-1] @ root.T)


def _times_of_class_means(prospects: Sequence[Prospect]) -> list[Float[np.ndarray, "*starts r"]]:
    """Learning times under cross-entropy of settings with as many classes, features and starts, where they are near
    enough."""
    rates = [growth.mean_growth_rates(x.problem, x.components) for x in prospects]
    trusted = list(map(_is_near_class_means, prospects, rates))
    found = [np.full(which.shape, np.nan) for which in trusted]
    followed = [i for i, which in enumerate(trusted) if which.any()]
    if not followed:
        return found
    configs, problems, components, starts = zip(*(prospects[i] for i in followed), strict=True)
    starts = [
        mean_start(config, problem) if start is None else start
        for config, problem, start in zip(configs, problems, starts, strict=True)
    ]
    W, class_means = (np.stack(x) for x in zip(*starts, strict=True))

    def stacked(numbers: Sequence[np.ndarray] | Sequence[float]) -> np.ndarray:
        """Numbers of settings, whose axis comes before those of starts, of which each setting has as many."""
        return np.expand_dims(np.stack(numbers), tuple(range(1, W.ndim - 2)))

    together = groups.ByClass(
        stacked([problem.counts for problem in problems]),
        stacked([problem.class_weights for problem in problems]),
        stacked([problem.kernel_eigenvalues for problem in problems]),
        stacked([np.array(problem.common_coupling) for problem in problems]),
        problems[0].output_bias,
    )
    times = class_flow.component_learning_times(
        together,
        components[0]._replace(
            left=stacked([each.left for each in components]),
            singular_values=stacked([each.singular_values for each in components]),
        ),
        W,
        class_means,
        # `_noise` has sigma / k, the damping at zero logits.
        stacked([_noise(*each) * W.shape[-2] for each in zip(configs, problems, strict=True)]),
        stacked([np.array(config.label_smoothing) for config in configs]),
    )
    for i, of_setting in zip(followed, times, strict=True):
        config, *_, start = prospects[i]
        near = trusted[i]
        if config.init != "spectral":
            fewest = FEWEST_E_FOLDS if start is None else FEWEST_OF_A_START
            near = near & (2 * rates[i] * of_setting >= fewest)
        found[i] = np.where(near, of_setting, np.nan)
    return found


def _is_near_class_means(
    prospect: Prospect, rates: Float[np.ndarray, " r"]
) -> Bool[np.ndarray, " r"]:
    """Which components noise lets come near to their learning times by class means under cross-entropy."""
    config, p, components, _ = prospect
    k, smoothing = len(p.counts), config.label_smoothing
    damping = _noise(config, p).sum() / rates
    alone = growth.separable(p, components, config.loss)
    # Smoothed labels are met where logits of a label stand that far above others, perhaps for ever below the level.
    ends = np.log1p((1 - smoothing) * k / smoothing) if smoothing else np.inf
    near = np.where(alone, damping <= LARGEST_DAMPING_OF_EQUALS, damping.max() <= LARGEST_DAMPING)
    return near & (ends > spectral.LEARNED)


class _Modes(NamedTuple):
    """The modes of two layers under the squared loss, for `overlapping.overlapping_learning_times`."""

    rates: Float[np.ndarray, " r"]
    damping: Float[np.ndarray, " r"]
    gram: Float[np.ndarray, "*starts r r"]


def _times_of_squared_loss(prospects: Sequence[Prospect]) -> list[Float[np.ndarray, "*starts r"]]:
    """Learning times of two layers under the squared loss, of settings with as many classes, features and starts, where
    the closed form is near enough."""
    modes = [_modes(prospect) for prospect in prospects]
    found = [np.full(each.rates.shape, np.nan) for each in modes]
    # Modes of one rate are looked at at the same times: settings go together where the same modes have one rate.
    together: dict[bytes, list[int]] = {}
    for i, (rates, damping, _) in enumerate(modes):
        lam = growth.damped_rate(rates, damping)
        together.setdefault(np.unique(lam, return_inverse=True)[1].tobytes(), []).append(i)
    for indices in together.values():
        rates, damping, gram = (np.stack(x) for x in zip(*(modes[i] for i in indices), strict=True))
        axes = tuple(range(1, gram.ndim - 2))  # of starts, after that of settings
        alone = [growth.separable(*prospects[i][1:3], "squared") for i in indices]
        learning = overlapping.overlapping_learning_times(
            np.expand_dims(rates, axes),
            np.expand_dims(damping, axes),
            gram,
            1.0,
            asked=np.any(alone, axis=0),
        )
        for i, asked, *own in zip(indices, alone, *learning, strict=True):
            near = _trusted(prospects[i], modes[i], overlapping.Learning(*own))
            found[i] = np.where(asked & near, own[0], np.nan)
    return found


def _modes(prospect: Prospect) -> _Modes:
    """The modes of a setting, and the overlaps of their starts."""
    config, p, components, start = prospect
    left, rates = components.left, growth.mean_growth_rates(p, components)
    damping = (left**2 * noise_damping(config, p)[:, None]).sum(axis=0)
    shown = growth.overlap(p, components) / components.singular_values
    if start is None:
        shares = shown * (left**2 * expected_start_strength(config, p)[:, None]).sum(axis=0)
        return _Modes(rates, damping, np.diag(shares))
    by_class = growth.class_growth_rates(p)
    right = by_class[:, None] * growth.seen_contrasts(p, components) / rates
    root = np.sqrt(p.counts / p.kernel_eigenvalues)
    first, second = growth.growing_half(rates, damping)
    rows = first[:, None] * (left.T @ start.W)
    rows += second[:, None] * (right.T @ (root[:, None] * start.class_means.swapaxes(-1, -2)))
    rows *= np.sqrt(first * second * shown)[:, None]
    return _Modes(rates, damping, rows @ rows.swapaxes(-1, -2))


def _trusted(
    prospect: Prospect, modes: _Modes, learning: overlapping.Learning
) -> Bool[np.ndarray, "*starts r"]:
    """Where the times of `learning` are near enough."""
    config, problem, *_ = prospect
    even = np.ptp(problem.class_weights) == 0
    folds = 2 * growth.damped_rate(modes.rates, modes.damping) * learning.first
    if config.init == "spectral":
        return folds >= 0
    trusted = folds >= FEWEST_E_FOLDS
    if not (even and problem.coupling == 0):
        trusted &= _noise(config, problem).sum() / modes.rates <= LARGEST_DAMPING
    if not even:
        trusted &= learning.times - learning.first <= LARGEST_OVERLAP * learning.first
        trusted &= learning.last - learning.first <= LARGEST_RANGE * learning.first
    return trusted
