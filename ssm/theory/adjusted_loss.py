"""Adjusted cross-entropy and its gradient at any logits of the classes, and at zero, where every run
from a small start begins.

With p = softmax(z'), z'_c = f_c z_c + o_c - [c = y] m_c and q the smoothed label of y it is

    l(z) = (1 - p_y)^gamma CE(p, q).

`ssm.problem.losses` has the same loss of samples, and needs JAX; this needs NumPy and SciPy only.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from ssm.config import Config
from ssm.problem.adjustments import class_adjustments
from ssm.support import errors


class ClassLosses(NamedTuple):
    """The loss of a sample of each class at its logits."""

    values: Float[np.ndarray, " k"]
    """l."""
    gradients: Float[np.ndarray, "k k"]
    """dl/dz, one column a sample: shape (logit, class)."""
    factors: Float[np.ndarray, " k"]
    """f_c, the factor of each class's logit."""


def at_zero_logits(config: Config, counts: Int[np.ndarray, " k"]) -> ClassLosses:
    """The adjusted loss of a Config at zero logits (`at_logits`), for classes of these counts."""
    return at_logits(config, counts, np.zeros((len(counts), len(counts))))


def at_logits(
    config: Config, counts: Int[np.ndarray, " k"], logits: Float[np.ndarray, "k k"]
) -> ClassLosses:
    """The adjusted loss of a Config for classes of these counts at `logits`, shape (logit, class),
    one column a class.

    f_c, o_c and m_c are those of `class_adjustments`. The gradient is written without differences of
    probabilities, as that of `losses.adjusted_cross_entropy_gradient`, whose sources hold here too.

    Raises:
        ssm.InputError: the squared loss, or one of one's own.
    """
    if config.loss in ("squared", "own"):
        raise errors.invalid("loss", config.loss, "cross-entropy or a loss made of it")
    numbers, k = config.adjustments, len(counts)
    focusing, even = numbers.pop("focusing"), numbers.pop("label_smoothing")
    factors, offsets, margins = class_adjustments(counts.astype(float), **numbers)
    is_label = np.eye(k, dtype=bool)
    label = is_label.astype(float)
    smoothing = label - ((1 - even) * label + even / k)  # one-hot labels less smoothed ones

    # How far each adjusted logit is above that of the label, one column a class.
    seen = factors[:, None] * logits + offsets[:, None]
    above = seen - (np.diagonal(seen) - margins)[None]
    above[is_label] = 0
    others = np.where(is_label, -np.inf, above)
    highest = others.max(axis=0)
    odds = (
        np.log(np.exp(others - highest[None]).sum(axis=0)) + highest
    )  # of an error, as a logarithm
    cross_entropy = np.logaddexp(0, odds) + (smoothing * above).sum(axis=0)
    with np.errstate(over="ignore"):  # to 1 / inf, which is right
        wrong, correct = 1 / (1 + np.exp(-odds)), 1 / (1 + np.exp(odds))  # probabilities
    focal_factor = np.exp(-focusing * np.logaddexp(0, -odds))
    toward = np.where(is_label, -1.0, np.exp(above - odds[None]))  # d odds / dz'
    slope = wrong + focusing * correct * cross_entropy
    gradients = factors[:, None] * focal_factor[None] * (slope[None] * toward + smoothing)
    return ClassLosses(focal_factor * cross_entropy, gradients, factors)
