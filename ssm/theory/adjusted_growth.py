"""How fast contrasts begin to grow, and when they are learned, under cross-entropy whose logits class
sizes adjust. Two layers, any weights and coupling; times are flow time.

At zero logits dl/dz of a sample of class c is a fixed vector g_c, so that classifier and features grow
along the singular vectors of A = -[g_c w_c sqrt(n_c kappa_c)] / n, at its singular values; with a bias of the
features, or a coupling between classes, A = -[g_c w_c n_c] L / n, L L^T = diag(kappa_c / n_c) + beta 11^T
(`groups.ByClass.kernel_root`). Within a group
of equal classes that is r = w sqrt(n_c kappa_c) (g_other - g_own) / n, whatever is added to a group's
logits: w sqrt(n_c kappa_c) / n as without adjustments, times the class's factor (n_c / n_max)^g under CDT
and VS, and a number that depends on p_y alone under LDAM and the focal loss. Only the majority-minority
contrast feels the offsets and beta. All raise ssm.InputError for the squared loss, and all but the matrix
itself for a problem that is not STEP and for a bias of the logits, with which these do not stay near 0.

Source: derived for this project.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from ssm.config import Config, profiles
from ssm.measures import spectral
from ssm.problem import Problem
from ssm.support import errors
from ssm.theory import growth
from ssm.theory.adjusted_loss import at_logits, at_zero_logits
from ssm.theory.groups import bias_of, by_class, step_of
from ssm.theory.predictions import expected_start_strength

BACKGROUNDS = np.linspace(-40, 40, 41)  # logits by which one group may stand above the other
SHARES = 100  # of the target, at which the rate of a group's contrasts is worked out


def growth_matrix(config: Config, problem: Problem) -> Float[np.ndarray, "k k"]:
    """A = -[g_c w_c n_c] L / n: with N = L^-1 M^T, dW/dt = A N and dN/dt = A^T W while all logits are small.
    L is diag(sqrt(kappa_c / n_c)) unless all samples share something (`groups.ByClass.kernel_root`). Per unit
    of flow time."""
    gradients = at_zero_logits(config, problem.counts).gradients
    if problem.common_coupling == 0:
        return -gradients * _pull(problem)
    return -(gradients * growth.risk_shares(problem)) @ by_class(problem).kernel_root


def block_growth_rates(config: Config, problem: Problem) -> Float[np.ndarray, " 3"]:
    """Growth rates of the blocks of STEP, in the order of `spectral.BLOCKS`; NaN within a group
    of a single class. Per unit of flow time.

    A contrast within a group is a singular vector of A on both sides; what is constant on groups
    leaves one value more, the cross block's.

    Example:
        >>> import ssm
        >>> from ssm.problem import make_problem
        >>> config = ssm.Config(num_classes=4, minority_count=25, imbalance_ratio=4, loss="cdt")
        >>> block_growth_rates(config, make_problem(config)).round(4).tolist()  # 0.04, 0.02 * 4^-0.3
        [0.04, 0.0268, 0.0132]
    """
    gradients, groups = at_zero_logits(config, problem.counts).gradients, _groups(problem)
    units = groups.T / np.sqrt(groups.sum(axis=1))
    cross = np.linalg.norm(units.T @ growth_matrix(config, problem) @ units, 2)
    majority, minority = (_contrast(gradients, problem, mine) for mine in groups)
    return np.array([majority, cross, minority])


def group_learning_times(config: Config, problem: Problem) -> Float[np.ndarray, " 2"]:
    """When the contrasts within majority and minority of STEP are half learned, as if alone.

    x' = 2 r(x) x for the share x of the target that they have reached, with r at the logits x P of the
    group, from the start's mean size (`predictions.expected_start_strength`):

        t = int d log(x) / (2 r(x)), by the trapezoidal rule over `SHARES` shares.

    Shape (2,), flow time; NaN for a group of one class, which has no contrasts.
    """
    shown = np.sqrt(problem.kernel_eigenvalues / problem.counts)
    start = expected_start_strength(config, problem) * shown
    found = []
    for mine in _groups(problem):
        contrast = np.outer(mine, mine) * (np.eye(len(mine)) - 1 / mine.sum())
        shares = np.geomspace(min(start[mine][0], spectral.LEARNED), spectral.LEARNED, SHARES)
        slowness = [1 / (2 * _rate(config, problem, mine, x * contrast)) for x in shares]
        found.append(np.trapezoid(slowness, np.log(shares)))
    return np.array(found)


class LearningRange(NamedTuple):
    """Between which times the contrasts within majority and minority are half learned: shape (2,)
    each, flow time. Of the group that is learned first they are one."""

    earliest: Float[np.ndarray, " 2"]
    latest: Float[np.ndarray, " 2"]

    @property
    def ratio(self) -> tuple[float, float]:
        """Minority over majority learning time, least and greatest."""
        return (
            float(self.earliest[1] / self.latest[0]),
            float(self.latest[1] / self.earliest[0]),
        )


def learning_range(config: Config, problem: Problem) -> LearningRange:
    """Bounds of `group_learning_times` in company, NaN for a group of one class. The group that is learned last may grow at another
    rate once its samples are told from the other group's, by any number of logits: its time is
    divided by the largest and by the least of these rates, over that at zero logits."""
    times, groups = group_learning_times(config, problem), _groups(problem)
    last = int(np.nanargmax(times))
    others = ~groups[last]
    rates = [
        _rate(config, problem, groups[last], b * np.repeat(others[:, None], len(others), axis=1))
        for b in BACKGROUNDS
    ]
    rates = np.array(rates) / block_growth_rates(config, problem)[[0, 2][last]]
    earliest, latest = times.copy(), times.copy()
    earliest[last], latest[last] = times[last] / rates.max(), times[last] / rates.min()
    return LearningRange(earliest, latest)


def _rate(
    config: Config,
    problem: Problem,
    mine: Bool[np.ndarray, " k"],
    logits: Float[np.ndarray, "k k"],
) -> float:
    """Rate of a group's contrasts at logits that treat its classes alike."""
    return _contrast(at_logits(config, problem.counts, logits).gradients, problem, mine)


def _contrast(
    gradients: Float[np.ndarray, "k k"], problem: Problem, mine: Bool[np.ndarray, " k"]
) -> float:
    """w sqrt(n_c kappa_c) (g_other - g_own) / n of a group's classes; NaN for a group of one."""
    members = np.flatnonzero(mine)
    if len(members) < 2:
        return np.nan
    one, other = members[:2]
    return float((gradients[other, one] - gradients[one, one]) * _pull(problem)[one])


def _pull(problem: Problem) -> Float[np.ndarray, " k"]:
    """w_c sqrt(n_c kappa_c) / n."""
    root = np.sqrt(problem.counts * problem.kernel_eigenvalues)
    return problem.class_weights * root / problem.counts.sum()


def _groups(problem: Problem) -> Bool[np.ndarray, "2 k"]:
    """Which classes belong to majority and minority, one row each, of a problem that is STEP."""
    if problem.output_bias:
        raise errors.invalid("bias", bias_of(problem), "none or hidden: logits that begin near 0")
    step_of(problem)
    return np.array([problem.class_groups == group for group in profiles.GROUPS])
