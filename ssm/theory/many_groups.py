"""Cross-entropy under gradient flow for any number of groups of alike classes, exactly: thousands of classes whose
sizes fall by Zipf's law, once these are rounded to a few.

G groups of k_g classes of n_g samples each, with weights w_g and coupling c. A state that is symmetric within each
group, with equal features in a class, stays so, and 2 G (r + 1) numbers hold it: of the contrasts within group g the
classifier's size a_g and the features' b_g, and on the unit vectors e_g = 1_g / sqrt(k_g) of groups the classifier's
rows P_g and the class means q_g, r numbers each. A sample of group g then sees, over the other classes of its own
group, its own class by delta_g = a_g b_g, and class j of group h by P_h q_g / sqrt(k_h), and with p the softmax of these

    a_g' = (n_g w_g / n) rho_g b_g             b_g' = (kappa_g w_g / n) rho_g a_g           rho_g = 1 - (p_own - p_other)
    P_h' = -sum_g (k_g n_g w_g / n) s_hg q_g   q_g' = -(kappa_g w_g / n) sum_h s_hg P_h     s_hg = (sum_{j in h} p_j - [h = g]) / sqrt(k_h)

Source: derived for this project; two groups are `ssm.theory.cross_entropy_flow`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.integrate import solve_ivp
from scipy.special import logsumexp

from ssm.measures import spectral
from ssm.support import checks, errors


class ManyGroups(NamedTuple):
    """Groups of alike classes, G of them."""

    num_classes: Int[np.ndarray, " G"]
    """Classes k_g of each group."""
    counts: Float[np.ndarray, " G"]
    """Samples n_g of each of these classes."""
    class_weights: Float[np.ndarray, " G"]
    """w_g."""
    coupling: float = 0.0
    """c."""

    @property
    def num_samples(self) -> float:
        """n."""
        return float(self.num_classes @ self.counts)

    @property
    def kernel_eigenvalues(self) -> Float[np.ndarray, " G"]:
        """kappa_g = 1 - c + c n_g."""
        return 1 - self.coupling + self.coupling * self.counts


class GroupCurves(NamedTuple):
    """What the classes of each group have learned at each time."""

    times: Float[np.ndarray, " t"]
    """In flow time."""
    class_loss: Float[np.ndarray, "t G"]
    """Mean cross-entropy of the samples of a class of each group."""
    contrast: Float[np.ndarray, "t G"]
    """delta_g, the logit of a class over those of its group, in logits."""
    margin: Float[np.ndarray, "t G"]
    """The logit of a class over the largest of any other."""


def octaves(
    counts: Sequence[int] | Int[np.ndarray, " k"], per_octave: int = 1
) -> tuple[Float[np.ndarray, " G"], Int[np.ndarray, " G"], Int[np.ndarray, " k"]]:
    """Class sizes rounded to a few: classes whose n_c lie in one of `per_octave` parts, evenly spaced in log n, of a
    factor of two below the largest get their mean size, so that no sample is lost.

    Args:
        counts: samples n_c of each class.
        per_octave: parts of a factor of two.

    Returns:
        The mean size of each group, largest first, how many classes it has, and the group of each class.

    Raises:
        ssm.InputError: counts that are not positive, or a number of parts below 1.

    Example:
        >>> sizes, number, _ = octaves([100, 50, 33, 25, 20])
        >>> sizes.tolist(), number.tolist()
        ([100.0, 41.5, 22.5], [1, 2, 2])
    """
    n = checks.positive("counts", counts)
    per_octave = checks.integer("per_octave", per_octave, 1, 1000)
    part = np.floor(np.log2(n.max() / n) * per_octave + 1e-9).astype(int)
    _, group, number = np.unique(part, return_inverse=True, return_counts=True)
    return np.bincount(group, weights=n) / number, number, group


def spectral_start(
    groups: ManyGroups, init_scale: float
) -> tuple[Float[np.ndarray, " G"], Float[np.ndarray, " G"], np.ndarray, np.ndarray]:
    """(a, b, P, q) of the start of a run with `init="spectral"`, in which every component has product strength
    init_scale^2 (`ssm.dynamics.starts`): a = init_scale, b = init_scale sqrt(kappa_g / n_g), and with left vectors u_j
    of the label matrix and its values s_j, P_gj = init_scale u_j . e_g and q_gj = init_scale kappa_g u_jg / s_j.
    """
    kappa, scale = groups.kernel_eigenvalues, init_scale
    a, b = np.full(len(kappa), scale), scale * np.sqrt(kappa / groups.counts)
    b = np.where(groups.num_classes > 1, b, 0.0)
    # Of the label matrix in the space of groups: diag(sqrt(n_g kappa_g)) P with P what is orthogonal to the constant.
    units = np.sqrt(groups.num_classes / groups.num_classes.sum())
    basis = spectral.complement(units[:, None])
    _, values, turned = np.linalg.svd(
        np.sqrt(groups.counts * kappa)[:, None] * basis, full_matrices=False
    )
    left = basis @ turned.T
    q = scale * kappa[:, None] * left / np.sqrt(groups.num_classes)[:, None] / values
    return a, b, scale * left, q


def curves(
    groups: ManyGroups, times: Float[np.ndarray, " t"], init_scale: float, rtol: float = 1e-9
) -> GroupCurves:
    """What the classes of each group have learned from a spectral start, at any number of classes.

    Args:
        groups: sizes, numbers of classes, weights and coupling.
        times: ascending, in flow time (steps x learning rate), not negative.
        init_scale: of the spectral start.
        rtol: relative tolerance of the integration (DOP853).

    Raises:
        ssm.InputError: fewer than two groups, times that do not ascend, or an integration that fails.
    """
    G = len(groups.counts)
    if G < 2:
        raise errors.invalid("groups", f"{G} group", "at least two")
    times = np.asarray(times, dtype=float)
    if times.ndim != 1 or not len(times) or (np.diff(times) <= 0).any() or times[0] < 0:
        raise errors.invalid("times", "not ascending from 0 on", "ascending and not negative")
    a, b, P, q = spectral_start(groups, init_scale)
    first = np.concatenate([a, b, P.ravel(), q.ravel()])

    def slopes(t: float, state: np.ndarray) -> np.ndarray:
        return _slopes(groups, state)

    end = max(float(times[-1]), np.finfo(float).tiny)
    run = solve_ivp(
        slopes, (0.0, end), first, "DOP853", times, rtol=rtol, atol=1e-4 * rtol * init_scale
    )
    if not run.success:
        raise errors.invalid("times", float(end), f"such that the integration ends: {run.message}")
    shown = [_shown(groups, state) for state in run.y.T]
    return GroupCurves(times, *(np.stack(each) for each in zip(*shown, strict=True)))


def _slopes(groups: ManyGroups, state: np.ndarray) -> np.ndarray:
    k, n, w = groups.num_classes, groups.counts, groups.class_weights
    a, b, P, q = _parts(groups, state)
    own, other, masses = _probabilities(groups, a * b, _between(groups, P, q))
    rho = np.where(k > 1, (1 - own) + other, 0.0)
    risk, moved = n * w / groups.num_samples, groups.kernel_eigenvalues * w / groups.num_samples
    s = (masses - np.eye(len(k))) / np.sqrt(k)[:, None]
    return np.concatenate(
        [
            risk * rho * b,
            moved * rho * a,
            (-(s * (k * risk)) @ q).ravel(),
            (-(s * moved).T @ P).ravel(),
        ]
    )


def _parts(groups: ManyGroups, state: np.ndarray) -> tuple[np.ndarray, ...]:
    """a, b, P and q."""
    G = len(groups.counts)
    P, q = state[2 * G :].reshape(2, G, -1)
    return state[:G], state[G : 2 * G], P, q


def _between(groups: ManyGroups, P: np.ndarray, q: np.ndarray) -> Float[np.ndarray, "G G"]:
    """The logits of a class of group h (rows) for a sample of group g, but for the contrasts within g."""
    return (P @ q.T) / np.sqrt(groups.num_classes)[:, None]


def _probabilities(
    groups: ManyGroups, delta: np.ndarray, between: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For a sample of each group: p of its class, p of another of its group, and the mass of each group of classes
    (rows)."""
    log_own, log_other, logits = _logarithms(groups, delta, between)
    masses = groups.num_classes[:, None] * np.exp(logits)
    own, other = np.exp(log_own), np.exp(log_other)
    np.fill_diagonal(masses, own + (groups.num_classes - 1) * other)
    return own, other, masses


def _logarithms(
    groups: ManyGroups, delta: np.ndarray, between: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """log p of the class of a sample of each group, of another of its group, and of one of each group (rows)."""
    k = groups.num_classes
    within = np.diagonal(between) - delta / k
    own = within + delta
    terms = between + np.log(k)[:, None]
    with np.errstate(divide="ignore"):
        np.fill_diagonal(terms, within + np.log(k - 1.0))
    total = np.logaddexp(own, logsumexp(terms, axis=0))
    return own - total, within - total, between - total


def _shown(groups: ManyGroups, state: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The class loss, the contrast and the margin of each group."""
    a, b, P, q = _parts(groups, state)
    between, k = _between(groups, P, q), groups.num_classes
    delta = np.where(k > 1, a * b, 0.0)
    within = np.diagonal(between) - delta / k
    own = within + delta
    others = np.log(k)[:, None] + between
    largest = between.copy()
    with np.errstate(divide="ignore"):
        np.fill_diagonal(others, within + np.log(k - 1.0))
    np.fill_diagonal(largest, np.where(k > 1, within, -np.inf))
    # log(1 + e^s) keeps a small loss's digits.
    behind: Any = logsumexp(others, axis=0)
    loss = np.logaddexp(0, behind - own)
    return loss, delta, own - largest.max(axis=0)


def learning_times(
    curves: GroupCurves, level: float = 0.5, num_classes: int | None = None
) -> Float[np.ndarray, " G"]:
    """When the loss of each group's classes first falls to `level` times that of zero logits, log k, by linear
    interpolation; NaN where it does not. `num_classes` is k, left out e to the loss at the first time."""
    full = curves.class_loss[0] if num_classes is None else np.log(num_classes)
    return spectral.learning_times(curves.times, 1 - curves.class_loss / full, 1 - level)
