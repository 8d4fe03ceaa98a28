"""Class shares: which ones probabilities are for, and which ones a batch of samples without labels has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from threadpoolctl import threadpool_limits

from ssm.practice.data.classifiers import Label
from ssm.support import checks
from ssm.support.errors import InputError, invalid

Shares = str | Mapping[Any, float]
"""Class shares: a name, or a dict {label: share}."""
NAMES = ("none", "training", "uniform")
"""The shares that probabilities can be for, beside a dict."""
DECISIONS = ("trained", "uniform")
"""The shares that can be decided for, beside a dict."""
ROUNDING = 0.01  # Given shares may sum to 1 up to this much, since people write them down rounded.
# Expectation and maximisation ends after so many steps, or where a step changes no share by more than this.
MOST_STEPS, STEP, STEP_OF_RESAMPLES = 10_000, 1e-9, 1e-6
AT_ONCE = 4_000_000  # The largest number of entries of an array over resamples and samples.


def checked(
    name: str, value: object, names: Sequence[str], labels: Sequence[Label] | None = None
) -> Shares:
    """`value` if it is one of the names, or a dict of positive shares that sum to 1 up to rounding (0.01). Where
    labels are given, the dict has to have exactly these.

    Raises:
        ssm.InputError: anything else.
    """
    of_all = "" if labels is None else f" of all of {labels}"
    dicts = f"a dict {{class: share}}{of_all} of positive finite numbers that sum to 1"
    allowed = " or ".join([*names, dicts])
    if isinstance(value, str) and value in names:
        return value
    if not isinstance(value, Mapping) or not value:
        raise invalid(name, value, allowed)
    try:
        total = sum(checks.real(name, share, 0, open_ends="(") for share in value.values())
    except InputError:
        raise invalid(name, dict(value), allowed) from None
    strange = labels is not None and set(value) != set(labels)
    if strange or abs(total - 1) > ROUNDING:
        raise invalid(name, dict(value), allowed)
    return value


def of_classes(name: str, value: object, classes: np.ndarray) -> Float[np.ndarray, " k"]:
    """The share of each class, shape (k,): equal shares for `uniform`, else those of a dict {label:
    share}, divided by their sum.

    Raises:
        ssm.InputError: anything else.
    """
    if value == "uniform":
        return np.full(len(classes), 1 / len(classes))
    labels = classes.tolist()
    given = checked(name, value, (), labels)
    assert isinstance(given, Mapping)  # since no name is allowed
    shares = np.array([float(given[label]) for label in labels])
    return shares / shares.sum()


def shifted(
    posterior: Float[np.ndarray, "m k"], factors: Float[np.ndarray, " k"]
) -> Float[np.ndarray, "m k"]:
    """The posterior after a factor for each class, by Bayes' rule: p_c f_c / sum_j p_j f_j, shape (m, k). Factors rho_c / pi_c
    take a posterior from class shares pi to rho, and factors 1 / w_c take the class weights of training back.

    Example:
        >>> shifted(np.array([[0.8, 0.2]]), np.array([1.0, 4.0])).tolist()
        [[0.5, 0.5]]

    Source: Elkan 2001; Saerens, Latinne and Decaestecker 2002.
    """
    rows = posterior * (factors / factors.max())
    return rows / rows.sum(axis=1, keepdims=True)


class ShareEstimate(NamedTuple):
    """The class shares of a batch of samples without labels, each with its interval."""

    classes: np.ndarray
    """The labels, shape (k,)."""
    shares: Float[np.ndarray, " k"]
    low: Float[np.ndarray, " k"]
    high: Float[np.ndarray, " k"]

    @property
    def by_label(self) -> dict[Label, float]:
        """{label: share}, as `shares` and `decision` of a classifier take it. They refuse a share of 0, so that one becomes the
        smallest positive number, which makes the class impossible as well."""
        least = np.maximum(self.shares, np.finfo(float).tiny)
        return dict(zip(self.classes.tolist(), least.tolist(), strict=True))


def estimate(
    posterior: ArrayLike,
    training_shares: ArrayLike,
    classes: Sequence[Label] | np.ndarray | None = None,
    *,
    level: float = 0.95,
    num_resamples: int = 499,
    seed: int | np.random.Generator = 0,
) -> ShareEstimate:
    """The class shares of samples without labels, by expectation and maximisation.

    Under label shift, P(x | c) is as in training and P(c) is not. The shares that maximise the likelihood
    sum_i log sum_c rho_c p_ic / pi_c are the fixed point of

        rho_c <- (1/m) sum_i (rho_c p_ic / pi_c) / (sum_j rho_j p_ij / pi_j),

    which begins with pi and raises the likelihood at each step. The likelihood is concave. The interval is
    that of the percentiles of bootstrap samples of the batch. It accounts for the noise of the batch alone: an
    error of the posterior is taken for a change of shares, so calibrate first.

    Example:
        >>> sharp = np.repeat([[0.99, 0.01], [0.01, 0.99]], [20, 80], axis=0)
        >>> estimate(sharp, [0.5, 0.5]).shares.round(2).tolist()
        [0.19, 0.81]

    Args:
        posterior: p, the probabilities for the shares of training, of the samples of the batch: shape (m, k).
        training_shares: pi, shape (k,).
        classes: the labels, shape (k,); None for 0 to k - 1.
        level: the coverage of the interval of each class.
        num_resamples: the number of bootstrap samples.
        seed: the seed of the bootstrap, an integer or a NumPy generator.

    Raises:
        ssm.InputError: anything else.

    Source: Saerens, Latinne and Decaestecker 2002.
    """
    allowed = "rows of probabilities, shape (m, k), k at least 2, that sum to 1"
    rows = checks.array("posterior", posterior, allowed)
    if rows.ndim != 2 or not len(rows) or rows.shape[1] < 2 or not (rows >= 0).all():
        raise invalid("posterior", posterior, allowed)
    if not np.abs(rows.sum(1) - 1).max() < 1e-5:
        raise invalid("posterior", posterior, allowed)
    m, k = rows.shape
    prior = checks.positive("training_shares", training_shares)
    if len(prior) != k:
        raise invalid("training_shares", training_shares, f"{k} positive numbers, one a class")
    labels = np.arange(k) if classes is None else np.asarray(classes)
    if labels.shape != (k,):
        raise invalid("classes", classes, f"{k} labels")
    level = checks.real("level", level, 0, 1, open_ends="()")
    num_resamples = checks.integer("num_resamples", num_resamples, 19, 10**6)
    prior = prior / prior.sum()
    likelihood = rows / prior
    rng = np.random.default_rng(seed)
    resampled, block = [], max(1, AT_ONCE // m)
    # Threads of BLAS mostly wait for each other in hundreds of small products: on a busy machine many times as long as one
    # thread needs for all of the work.
    with threadpool_limits(1, "blas"):
        found = fixed_point(likelihood, np.ones((1, m)), prior[None], STEP)
        for start in range(0, num_resamples, block):
            size = min(block, num_resamples - start)
            counts = rng.multinomial(m, np.full(m, 1 / m), size=size).astype(float)
            # A share that begins at 0 would stay there, so resamples begin with positive shares.
            begin = np.repeat(0.99 * found + 0.01 * prior, size, axis=0)
            resampled.append(fixed_point(likelihood, counts, begin, STEP_OF_RESAMPLES))
    ends = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.quantile(np.concatenate(resampled), ends, axis=0)
    return ShareEstimate(labels, found[0], np.minimum(low, found[0]), np.maximum(high, found[0]))


def fixed_point(
    likelihood: Float[np.ndarray, "m k"],
    counts: Float[np.ndarray, "r m"],
    shares: Float[np.ndarray, "r k"],
    step: float,
) -> Float[np.ndarray, "r k"]:
    """The shares at which expectation and maximisation comes to rest, shape (r, k), in each of r resamples in which sample i
    occurs counts[r, i] times. It ends where no share changes by as much as `step` in one iteration."""
    total = counts.sum(1, keepdims=True)
    for _ in range(MOST_STEPS):
        mixed = np.maximum(shares @ likelihood.T, np.finfo(float).tiny)
        new = shares * ((counts / mixed) @ likelihood) / total
        change = np.abs(new - shares).max()
        shares = new
        if change < step:
            break
    return shares
