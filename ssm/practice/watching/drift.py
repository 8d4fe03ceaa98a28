"""Class shares before labels arrive, estimated from the probabilities of a window, or from its decisions alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import special

from ssm.practice.decisions import shares

RESAMPLES = 200
"""The number of bootstrap samples of a confusion matrix."""
STEP = 1e-7  # Expectation and maximisation ends where no share changes by more in a step.


class Window(NamedTuple):
    """The class shares of a window with their intervals, each array of shape (k,)."""

    shares: Float[np.ndarray, " k"]
    low: Float[np.ndarray, " k"]
    high: Float[np.ndarray, " k"]


def by_probabilities(
    p: Float[np.ndarray, "m k"], prior: Float[np.ndarray, " k"], alpha: float
) -> Window:
    """The class shares of samples without labels, by maximum likelihood under label shift.

    The intervals are normal ones of log rho_c / (1 - rho_c), with the observed information sum_i g_i g_i^T of the shares,
    g_ic = (p_ic / pi_c) / sum_j rho_j p_ij / pi_j, within sum_c rho_c = 1. They account for the noise of the window, and
    assume that the probabilities are right for the shares pi.

    Args:
        p: the probabilities, shape (m, k), m at least 1.
        prior: pi, the shares that the probabilities are for, shape (k,).
        alpha: the probability that any of the intervals misses.

    Source: Saerens, Latinne and Decaestecker 2002.
    """
    likelihood = p / prior
    found = shares.fixed_point(likelihood, np.ones((1, len(p))), prior[None], STEP)[0]
    error = np.sqrt(np.maximum(_covariance(likelihood, np.ones(len(p)), found).diagonal(), 0))
    return _window(found, error, len(p), alpha)


def by_decisions(
    decided: Int[np.ndarray, " k"],
    confusion: Int[np.ndarray, "k k"],
    alpha: float,
    seed: int = 0,
) -> Window | None:
    """The class shares of samples of which only decisions are known, by maximum likelihood, given how often the reference decides
    for each class about each class; None where a class has no case in the reference.

    Intervals account for the noise of the decisions and for that of the reference, by a bootstrap of both.

    Args:
        decided: the number of decisions for each class, shape (k,), not all 0.
        confusion: the cases of the reference by true class (rows) and decision, shape (k, k).
        alpha: the probability that any of the intervals misses.
        seed: the seed of the bootstrap.

    Source: Lipton, Wang and Smola 2018 (from the confusion matrix); Saerens et al. 2002 (likelihood).
    """
    cases = confusion.sum(1)
    if not cases.all():
        return None

    rng, total = np.random.default_rng(seed), int(decided.sum())
    size = RESAMPLES
    rows = [rng.multinomial(n, row / n, size=size) for n, row in zip(cases, confusion, strict=True)]
    tables = np.concatenate([confusion[None], np.stack(rows, axis=1)])
    numbers = np.concatenate([decided[None], rng.multinomial(total, decided / total, size=size)])
    found = _likeliest(tables, numbers)
    return _window(found[0], found[1:].std(axis=0), total, alpha)


def _likeliest(
    tables: Int[np.ndarray, "r k k"], numbers: Int[np.ndarray, "r k"]
) -> Float[np.ndarray, "r k"]:
    """The likeliest shares for each of r references and numbers of decisions, shape (r, k), by expectation and maximisation.
    Half a case is added to each entry of a reference, so that no decision is impossible."""
    smooth = (tables + 0.5) / (tables + 0.5).sum(2, keepdims=True)
    found = np.full(numbers.shape, 1 / numbers.shape[1])
    for _ in range(shares.MOST_STEPS):
        mixed = np.einsum("rc,rcj->rj", found, smooth)
        new = found * np.einsum("rj,rcj->rc", numbers / mixed, smooth)
        new /= numbers.sum(1, keepdims=True)
        moved, found = np.abs(new - found).max(), new
        if moved < STEP:
            break
    return found


def _covariance(
    likelihood: Float[np.ndarray, "m k"],
    counts: Float[np.ndarray, " m"],
    found: Float[np.ndarray, " k"],
) -> Float[np.ndarray, "k k"]:
    """The covariance of the shares, shape (k, k): the inverse of the observed information among shares that sum to 1."""
    mixed = np.maximum(likelihood @ found, np.finfo(float).tiny)
    g = likelihood / mixed[:, None] * np.sqrt(counts)[:, None]
    k = len(found)
    plane = np.linalg.qr(np.eye(k) - 1 / k)[0][:, : k - 1]
    return plane @ np.linalg.pinv(plane.T @ (g.T @ g) @ plane) @ plane.T


def _window(
    found: Float[np.ndarray, " k"], error: Float[np.ndarray, " k"], m: int, alpha: float
) -> Window:
    """Shares with normal intervals of their log odds. For its interval a share counts as half a row of m at least, so that it has
    one even at 0."""
    z = -special.ndtri(alpha / (2 * len(found)))
    inside = np.clip(found, 0.5 / m, 1 - 0.5 / m) if m > 1 else np.full(len(found), 0.5)
    reach = z * np.maximum(error, 0.5 / m) / (inside * (1 - inside))
    odds = special.logit(inside)
    low, high = special.expit(odds - reach), special.expit(odds + reach)
    return Window(found, np.minimum(low, found), np.maximum(high, found))
