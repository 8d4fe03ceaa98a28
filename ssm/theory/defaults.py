"""What a Config leaves out, chosen: the length of a run, the learning rate and number of steps of an
optimiser, and the numbers that follow from others. `resolve` is the one place that fills them in.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float

from ssm.config import Config
from ssm.config.optimizer import GRADIENT_SIZED, MOST_STEPS
from ssm.measures import geometry, spectral
from ssm.problem import Problem
from ssm.support import errors
from ssm.theory import by_component, exact, growth
from ssm.theory.adjusted_loss import at_zero_logits
from ssm.theory.predictions import expected_start_strength, noise_damping

FAR_MARGIN = 1000.0
"""The margin to which a run by the loss clock goes where its Config names no end."""
STEPS, RATE = 1000, 0.01
"""Number of steps, and learning rate, of an optimiser whose steps do not shrink with the gradient."""
MOMENTUM = 0.9
"""The coefficient of past gradients of an optimiser that keeps them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resolved:
    """The numbers of one run that its Config may leave out, all of them filled in."""

    t1: float | None
    """Length of a flow, in the unit of its clock: flow time, or tau with d tau = L dt. None for the
    steps of an optimiser."""
    end_margin: float | None
    """The margin that ends a flow before `t1` once every sample has reached it, in logits; None where
    no margin does."""
    solver: str
    """The Runge-Kutta method of a flow: one that `Config.solver` names, or `switching`, which is `tsit5`
    and, from where stability holds that back, `rkl2`."""
    absolute_tolerance: float
    """Absolute tolerance of one step of a flow, in the units of W and H."""
    learning_rate: float | None
    """Learning rate of an optimiser before any schedule, in flow time a step. None for a flow."""
    num_steps: int | None
    """Number of an optimiser's steps. None for a flow."""
    momentum: float
    """The coefficient of past gradients, without a unit; 0 for an optimiser that keeps none."""
    sam_radius: float
    """How far `sam` climbs before it takes the gradient, in the units of W and H."""


def resolve(config: Config, problem: Problem) -> Resolved:
    """Every number that a Config may leave out: the one it gives, or the one that is chosen for it.

    Args:
        config: the run.
        problem: what `make_problem` makes of that Config.

    Raises:
        ssm.InputError: the number of an optimiser's steps is left out, and theory asks for more than a
            run may have; or something is left out with a loss of one's own, of which theory knows no rates.
    """
    length = rate = steps = None
    if config.loss == "own":
        _check_nothing_is_chosen(config)
    if config.is_descent:
        rate, steps = automatic_rate(config, problem), automatic_steps(config, problem)
    else:
        length = automatic_t1(config, problem) if config.t1 is None else config.t1
    return Resolved(
        t1=length,
        end_margin=end_margin(config),
        solver=solver(config),
        absolute_tolerance=config.init_scale * config.rtol if config.atol is None else config.atol,
        learning_rate=rate,
        num_steps=steps,
        momentum=momentum(config),
        sam_radius=config.init_scale if config.sam_radius is None else config.sam_radius,
    )


def _check_nothing_is_chosen(config: Config) -> None:
    """Refuse a Config that leaves the length of its run, or of a descent its learning rate, to theory."""
    by_gradient = config.is_descent and config.optimizer in GRADIENT_SIZED
    asked = () if config.is_descent else ("t1",)
    for name in ("learning_rate", "num_steps") if by_gradient else asked:
        if getattr(config, name) is None:
            allowed = "given with a loss of one's own, of which theory knows no rates"
            raise errors.invalid(name, None, allowed)


def end_margin(config: Config) -> float | None:
    """The margin that ends a flow: the one of `config`, or 1000 where a run by the loss clock is given
    no end; None where no margin does."""
    if config.clock == "loss" and config.t1 is None and config.stop_margin is None:
        return FAR_MARGIN
    return config.stop_margin


def solver(config: Config) -> str:
    """The solver of a flow: the one of `config`, or the one for its clock; by the loss that is
    `switching`, which is `tsit5` and, from where stability holds that back, `rkl2`."""
    return config.solver or ("switching" if config.clock == "loss" else "tsit5")


def momentum(config: Config) -> float:
    """The coefficient of past gradients: the one of `config`, or 0.9 where that is left out; 0 for an
    optimiser that keeps no past gradients."""
    if config.optimizer not in ("momentum", "nesterov"):
        return 0.0
    return MOMENTUM if config.momentum is None else config.momentum


def automatic_rate(config: Config, problem: Problem) -> float:
    """The learning rate of an optimiser, in flow time a step: the one of `config`, or where that is left
    out one at which a step of gradient descent in two layers takes a tenth of an e-fold of the fastest
    contrast.

    With L layers it is 0.2 over the sum of the decay, of the rate L r_c kappa_c^(1/L - 1/2)
    n_c^(1/2 - 1/L) at which the fastest contrast settles on its target, and of 1 where the logits have a bias; where
    classes have inputs in common it is at most half of what is stable along these. With momentum m it is 1 - m
    times that, and for an optimiser whose steps do not shrink with the gradient 0.01.
    """
    if config.learning_rate is not None:
        return config.learning_rate
    if config.optimizer not in GRADIENT_SIZED:
        return RATE
    p, depth = problem, config.depth
    power = 1 / depth - 1 / 2
    if p.growth_rates is not None:
        return _rate_of_components(config, p)
    rates = growth.class_growth_rates(p)
    if config.has_deferral:
        rates = np.maximum(rates, growth.class_growth_rates(_unweighted(p)))
    settling = depth * rates * initial_gradient_scale(config, p)
    settling = settling * p.kernel_eigenvalues**power * p.counts**-power
    if p.measured is not None or p.common_coupling > 0:
        # A share of 1 / L comes from the features, which K moves faster along what classes have in common. That
        # is no contrast, so that its steps only have to be stable, half as long as may be.
        seen = p.kernel_size / (p.class_weights * p.kernel_eigenvalues)
        settling = np.maximum(settling, 0.2 * settling * (depth - 1 + seen) / depth)
    fading = max(config.weight_decay, config.feature_decay)
    return float(0.2 / (settling.max() + p.output_bias + fading) * (1 - momentum(config)))


def automatic_steps(config: Config, problem: Problem) -> int:
    """The number of an optimiser's steps: the one of `config`, or where that is left out the number in
    which gradient descent gets as far as `automatic_t1` under its learning-rate schedule. An optimiser
    whose steps do not shrink with the gradient takes 1000. There are never fewer steps than observations.

    Raises:
        ssm.InputError: that would be more steps than a run may have.
    """
    if config.num_steps is not None:
        return config.num_steps
    if config.optimizer not in GRADIENT_SIZED:
        return max(STEPS, config.num_saves - 1)
    rate = _flow_rate(config, problem)
    steps = automatic_t1(config, problem) / rate
    if config.learning_rate_schedule == "cosine":
        steps *= 2  # the mean rate is half the first
    for drop in config.drop_steps if config.drop_factor > 0 else ():
        steps += max(steps - drop, 0) * (1 / config.drop_factor - 1)
    if steps > MOST_STEPS:
        allowed = f"given, at most {MOST_STEPS}: at learning rate {rate:.3g} theory asks for {steps:.3g} steps"
        raise errors.invalid("num_steps", None, allowed)
    return max(int(np.ceil(steps)), config.num_saves - 1)


def automatic_t1(config: Config, problem: Problem) -> float:
    """A run length in which, from a small start, the contrasts of every class are learned, in the unit
    of the run's clock.

    By time it is max_c t_c + 4 / r_c, with t_c the expected learning time at the class growth rate r_c;
    the class growth rates bound the rates of all modes from below. At other depths than 2 it is the time
    to 98 % of the target under the squared loss, and three times that for random starts of more than two
    layers. Under cross-entropy the cross component slows down once one group is learned, and may need
    longer. Decay adds 20 / lam, with lam the least decay that is not 0.

    By the loss clock it begins with sum_c (n_c w_c / n) l_c (t_c + 4 / r_c), where l_c is the loss at zero
    logits, log(k) for plain cross-entropy, since a class not yet learned adds about n_c w_c l_c / n to L.
    Then follows what a margin M takes in the direction of the label matrix, s_j its singular values: L
    layers have the squared norm L sum_j (M s_j)^(2/L), which grows by 2 L M, so tau is sum_j s_j^(2/L)
    (1 - M^(2/L - 1)) / (L - 2), for two layers sum_j s_j log(M) / 2. M is 1 plus the margin, since the
    early phase ends at a margin of about 0, and a focal loss divides by 1 + gamma. For adjusted logits
    s_j are those of their own limit, with a fifth of allowance. A coupling between classes and biases only
    shorten that way.

    Source: derived for this project.
    """
    if config.clock == "loss":
        return _length_by_loss(config, problem)
    if problem.growth_rates is not None:
        return by_component.length(config, problem)
    decays = [decay for decay in (config.weight_decay, config.feature_decay) if decay > 0]
    settled = 20 / min(decays) if decays else 0.0
    times = _class_times(config, problem)
    return float(np.max(times) + settled + _deferral_length(config, problem))


def initial_gradient_scale(config: Config, problem: Problem) -> Float[np.ndarray, " k"]:
    """|dl/dz| of a sample of each class at zero logits, over that of plain cross-entropy: about how
    much faster or slower the contrasts of the class begin. What is added to logits shows in it, although
    it leaves contrasts within a group alone. Shape (k,); 1 without an adjustment.

    Source: derived for this project.
    """
    k = len(problem.counts)
    if not config.has_adjustment:
        return np.ones(k)
    gradients = at_zero_logits(config, problem.counts).gradients
    return np.linalg.norm(gradients, axis=0) / np.sqrt(1 - 1 / k)


def _rate_of_components(config: Config, problem: Problem) -> float:
    """The learning rate of an optimiser where the samples of a class are not all alike."""
    fading = max(config.weight_decay, config.feature_decay)
    settling = by_component.settling_rate(config, problem)
    return float(0.2 / (settling + problem.output_bias + fading) * (1 - momentum(config)))


def _length_by_loss(config: Config, problem: Problem) -> float:
    """The `automatic_t1` of a run by the loss clock, in tau."""
    p, kappa = problem, problem.kernel_eigenvalues
    counts = geometry.effective_counts(
        p.counts, kappa
    )  # of the label matrix that coupled features see
    if config.has_adjustment:
        beginning = at_zero_logits(config, p.counts)
        first_loss = beginning.values
        end = geometry.adjusted_seli(counts, beginning.factors)
        target = np.linalg.eigvalsh(end.classifier).clip(0)
        # On the way some gaps are wider than the margin, the longer the more the factors differ.
        allowance = 1.2
    else:
        first_loss = np.full(len(p.counts), np.log(len(p.counts)))
        target = spectral.label_spectrum(
            p.counts, 1 / kappa, class_groups=p.class_groups, kernel_eigenvalues=kappa
        ).singular_values
        allowance = 1.0
    risk_shares = p.counts * p.class_weights / p.counts.sum()
    early = np.sum(risk_shares * first_loss * _class_times(config, p))
    margin, depth = config.stop_margin or FAR_MARGIN, config.depth
    power = 2 / depth - 1
    grown = np.log1p(margin) / 2 if depth == 2 else ((1 + margin) ** power - 1) / (2 - depth)
    grown = grown / (1 + config.adjustments["focusing"])  # log L falls that much faster
    return float(allowance * (early + (target ** (2 / depth)).sum() * grown))


def _flow_rate(config: Config, problem: Problem) -> float:
    """Flow time of a step in the long run, where momentum adds up."""
    return automatic_rate(config, problem) / (1 - momentum(config))


def _unweighted(problem: Problem) -> Problem:
    """The same problem with all class weights 1."""
    return problem._replace(class_weights=np.ones(len(problem.counts)))


def _deferral_length(config: Config, problem: Problem) -> float:
    """How much longer a run takes because of weights that act later, in flow time: as long as it is until
    they act, or as empirical risk minimisation takes to learn all, whichever is shorter."""
    if config.weight_start is None:
        return 0.0
    start, length = config.weight_start, config.weight_ramp
    if config.is_descent:
        rate = _flow_rate(config, problem)
        start, length = start * rate, length * rate
    return min(start + length, float(_class_times(config, _unweighted(problem)).max()))


def _class_times(config: Config, problem: Problem) -> Float[np.ndarray, " k"]:
    """When the contrasts of each class should be as good as learned, in flow time."""
    p, rates = problem, growth.class_growth_rates(problem) * initial_gradient_scale(config, problem)
    start, kappa = expected_start_strength(config, p), p.kernel_eigenvalues
    if config.depth == 2:
        share = start * np.sqrt(kappa / p.counts)
        grown = growth.damped_rate(rates, noise_damping(config, p))
        return growth.learning_time(grown, share, config.loss, len(p.counts)) + 4 / grown
    start = np.sqrt(kappa) * start ** (config.depth / 2)  # as many factors of the size of two
    times = exact.deep_learning_time(rates, start, np.sqrt(p.counts), config.depth, kappa, 0.98)
    # Beyond two factors a random start stays in the time as a factor, about threefold either way.
    return times * (3 if config.depth > 2 and config.init != "spectral" else 1)
