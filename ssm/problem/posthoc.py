"""Corrections of the logits of a trained network, (k, m). They undo the effect of a weighted or adjusted loss on the
logits, or add the adjustment that a plain loss left out."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float
from scipy import optimize, special

from ssm.support import checks, errors


def unweighted(logits: object, class_weights: object) -> Float[np.ndarray, "k m"]:
    """z_c - log w_c: logits of the posterior where z minimise weighted cross-entropy.

    The minimiser over all functions has softmax(z)_c ~ w_c P(c | x), so that
    P(. | x) = softmax(z - log w) exactly.

    Source: Elkan 2001; Saerens, Latinne, Decaestecker 2002: weights act as class shares do.

    Args:
        logits: shape (k, m).
        class_weights: w_c > 0, shape (k,), on any scale.

    Raises:
        ssm.InputError: anything else.

    Example:
        >>> unweighted([[0.0, 1.0], [0.0, 2.0]], [0.5, 2.0]).round(2).tolist()
        [[0.69, 1.69], [-0.69, 1.31]]
    """
    logits = _logits(logits)
    return logits - np.log(_of_classes("class_weights", class_weights, logits))[:, None]


def unadjusted(logits: object, counts: object, additive: object = 1.0) -> Float[np.ndarray, "k m"]:
    """z_c + additive log(n_c / n): the logits that the loss saw where z were trained with logit adjustment, which are
    those of the posterior. It is for logits from elsewhere: a trained network of `ssm.practice` undoes all
    adjustments of its own loss by itself.

    Args:
        logits: shape (k, m).
        counts: n_c > 0 of the training set, shape (k,).
        additive: tau with which the logits were trained.

    Raises:
        ssm.InputError: anything else.

    Source: Menon et al. 2021.
    """
    logits = _logits(logits)
    return logits + _log_prior(logits, counts, additive)


def balanced(logits: object, counts: object, additive: object = 1.0) -> Float[np.ndarray, "k m"]:
    """z_c - additive log(n_c / n): post-hoc logit adjustment of what plain cross-entropy (ERM)
    learned; 1 gives the posterior under equally frequent classes.

    Args:
        logits: shape (k, m).
        counts: n_c > 0 of the training set, shape (k,).
        additive: tau.

    Raises:
        ssm.InputError: anything else.

    Source: Menon et al. 2021.
    """
    logits = _logits(logits)
    return logits - _log_prior(logits, counts, additive)


def minimised(
    logits: object, margins: object = None, focusing: object = 0.0, label_smoothing: object = 0.0
) -> Float[np.ndarray, "k m"]:
    """Logits of the (weighted) posterior q that belongs to the minimiser of an adjusted cross-entropy.

    At the minimiser of sum_y q_y l(z, y) the gradients balance, sum_y q_y dl(z, y)/dz_c = 0. For
    l = (1 - p_y)^g (-log p_y), p = softmax(z - D_y e_y), the gradients are the rates of a reversible
    chain between classes, whose stationary law is

        q_y ~ e^(2 z_y + o_y) / R_y,   R_y = (1 - p_y)^g (1 - p_y - g p_y log p_y),

    with e^o_y = sum_{c != y} e^(z_c - z_y). Without margins that is p / ((1 - p)^g - g (1 - p)^(g - 1)
    p log p), and with g = 0 too it is softmax(z). Smoothed labels make the minimiser p = (1 - e) q +
    e / k, so that q = (p - e/k) / (1 - e), which is cut off at 0.

    Args:
        logits: z as the loss saw them, with its factors and offsets but without margins, (k, m).
        margins: D_c >= 0 of each class, which is taken off the logit of the label, shape (k,); None for 0.
        focusing: g >= 0 of the focal factor.
        label_smoothing: e in [0, 1), and 0 with margins or a focal factor, with which the inverse has no closed form.

    Returns:
        log q up to a constant of each column, -inf where q is 0: shape (k, m).

    Raises:
        ssm.InputError: anything else.

    Source: Charoenphakdee et al. 2021 (focal); derived here with margins.
    """
    logits = _logits(logits)
    focusing = checks.real("focusing", focusing, 0)
    smoothing = checks.real("label_smoothing", label_smoothing, 0, 1, open_ends=")")
    allowed = "finite numbers, none negative, one a class"
    taken = np.zeros(len(logits)) if margins is None else _numbers("margins", margins, allowed)
    if taken.shape != (len(logits),) or not (np.isfinite(taken) & (taken >= 0)).all():
        raise errors.invalid("margins", margins, allowed)
    if smoothing > 0:
        if focusing > 0 or taken.any():
            what = "0 with a margin or a focal factor: together they have no inverse in closed form"
            raise errors.invalid("label_smoothing", smoothing, what)
        kept = special.softmax(logits, axis=0) - smoothing / len(logits)
        with np.errstate(divide="ignore"):
            return np.log(np.maximum(kept, 0))
    odds = _log_odds(logits)
    seen = odds + taken[:, None]  # log (1 - p) / p with the margin
    log_wrong, plain = -np.logaddexp(0, -seen), np.logaddexp(0, seen)  # log (1 - p), -log p
    with np.errstate(divide="ignore"):
        focal = np.log(focusing) - plain + np.log(plain)
    rates = focusing * log_wrong + np.logaddexp(log_wrong, focal)
    return 2 * logits + odds - rates


def _log_odds(logits: Float[np.ndarray, "k m"]) -> Float[np.ndarray, "k m"]:
    """log sum_{c != y} e^(z_c - z_y) for each y, without a difference of nearly equal numbers."""
    # NumPy takes a fraction of the time of SciPy for few samples.
    total = np.logaddexp.reduce(logits, axis=0)
    with np.errstate(divide="ignore"):
        others = total + np.log1p(-np.exp(logits - total))
    # Without its largest term the total may lose all its digits, so the other terms are summed by themselves.
    largest = np.arange(len(logits))[:, None] == logits.argmax(axis=0)
    rest = np.logaddexp.reduce(np.where(largest, -np.inf, logits), axis=0)
    others = np.where(largest, rest, others)
    return others - logits


def tempered(logits: object, temperature: object) -> Float[np.ndarray, "k m"]:
    """z / T, which leaves the order of the classes as it is.

    Raises ssm.InputError for logits that are not finite (k, m) and a temperature T that is not
    positive.
    """
    return _logits(logits) / checks.real("temperature", temperature, 0, open_ends="(")


def fit_temperature(logits: object, labels: object, sample_weight: object = None) -> float:
    """T > 0 that minimises the mean cross-entropy of softmax(z / T) (temperature scaling).

    The risk is convex in b = 1/T, and its slope sum_i s_i sum_c softmax(b z_i)_c (z_c - z_y)_i has one
    root, which is found to the last digits.

    Args:
        logits: shape (k, m), held out from training.
        labels: shape (m,), integers below k.
        sample_weight: s_i > 0, how often each sample counts, shape (m,); None for once.

    Raises:
        ssm.InputError: anything else; logits for which the best T is 0, since on every sample the logit of its
            label is the largest, or infinite, since the logits of labels are on average no larger than the others.

    Source: Guo et al. 2017.
    """
    logits = _logits(logits)
    labels = _labels(labels, logits)
    allowed = f"{len(labels)} positive finite numbers"
    ones = np.ones(len(labels))
    often = (
        ones if sample_weight is None else checks.positive("sample_weight", sample_weight, allowed)
    )
    if often.shape != labels.shape:
        raise errors.invalid("sample_weight", sample_weight, allowed)
    unit = np.abs(logits).max() or 1.0
    scaled = logits / unit
    behind = scaled - np.take_along_axis(scaled, labels[None], 0)
    if not (behind > 0).any():
        raise errors.invalid("logits", "right on every sample", "wrong on some: the best T is 0")

    def slope(inverse: float) -> float:
        return float((often * (special.softmax(inverse * behind, axis=0) * behind)).sum())

    if slope(0.0) >= 0:
        no_larger = "no larger at labels than elsewhere, on average"
        raise errors.invalid("logits", no_larger, "larger there: the best T is infinite")
    high = 1.0
    while slope(high) < 0:
        high *= 2
    solution = optimize.root_scalar(
        slope, bracket=(0.0, high), xtol=np.finfo(float).tiny, rtol=4 * np.finfo(float).eps
    )
    return float(unit / solution.root)


def _logits(value: object) -> Float[np.ndarray, "k m"]:
    allowed = "finite numbers of shape (k, m), k at least 2"
    logits = _numbers("logits", value, allowed)
    if logits.ndim != 2 or len(logits) < 2 or not np.isfinite(logits).all():
        raise errors.invalid("logits", value, allowed)
    return logits


def _of_classes(
    name: str, value: object, logits: Float[np.ndarray, "k m"]
) -> Float[np.ndarray, " k"]:
    allowed = f"{len(logits)} positive numbers, one a class"
    numbers = _numbers(name, value, allowed)
    positive = np.isfinite(numbers).all() and (numbers > 0).all()
    if numbers.shape != (len(logits),) or not positive:
        raise errors.invalid(name, value, allowed)
    return numbers


def _labels(value: object, logits: Float[np.ndarray, "k m"]) -> np.ndarray:
    k, m = logits.shape
    allowed = f"{m} integers in [0, {k - 1}], at least one"
    numbers = _numbers("labels", value, allowed)
    labels = np.asarray(value)
    whole = numbers.shape == (m,) and m > 0 and labels.dtype.kind in "iu"
    if not whole or not ((labels >= 0) & (labels < k)).all():
        raise errors.invalid("labels", value, allowed)
    return labels


def _numbers(name: str, value: object, allowed: str) -> np.ndarray:
    """`value` as an array in float64, of any shape."""
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):  # Lists may be ragged, or hold something other than numbers.
        raise errors.invalid(name, value, allowed) from None


def _log_prior(
    logits: Float[np.ndarray, "k m"], counts: object, additive: object
) -> Float[np.ndarray, "k 1"]:
    """additive log(n_c / n)."""
    counts = _of_classes("counts", counts, logits)
    return checks.real("additive", additive, -math.inf) * np.log(counts / counts.sum())[:, None]
