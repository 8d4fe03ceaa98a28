"""What is watched while a network trains: losses, recalls, gradients and spectral strengths, class
by class."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import sklearn
import xarray as xr
from jaxtyping import Array, Float, Int
from scipy import special
from sklearn import metrics

from ssm.measures import spectral
from ssm.practice.network import networks, objective
from ssm.practice.network.networks import Params
from ssm.practice.statistics import calibration

PER_CLASS = 32  # training samples of each class whose gradients are watched
LARGEST = 1e100  # logit of which probabilities are made
LEAST = 1e-12  # probability of a class that a log loss counts with, so that it is finite


class Watched(NamedTuple):
    """The samples that are watched."""

    X: Float[Any, "e n"]
    """Those that are evaluated, held out from training where any are."""
    labels: Int[Any, " e"]
    sample_weights: Float[Any, " e"]
    """How often each counts; 0 for padding."""
    members: Int[Any, "k p"]
    """`PER_CLASS` training samples of each class, over and over again where there are fewer."""


class Observed(NamedTuple):
    """What compiled code says of a network."""

    logits: Float[Any, "e k"]
    sample_losses: Float[Any, " e"]
    class_logits: Float[Any, "k k"]
    """Mean logits of each class's watched training samples, [logit, class]."""
    gram: Float[Any, "k k"]
    """Inner products of the gradients in the parameters of the classes' mean losses."""
    weight_norm: Float[Any, ""]


@functools.partial(jax.jit, static_argnames="image_shape")
def observe(
    params: Params,
    X: Float[Array, "n f"],
    labels: Int[Array, " n"],
    watched_X: Float[Array, "e f"],
    watched_labels: Int[Array, " e"],
    members: Int[Array, "k p"],
    loss: objective.Loss,
    image_shape: tuple[int, int] | None,
) -> Observed:
    """Evaluate the network on the watched samples, and the gradient of each class's mean loss on
    its members among the training samples."""
    logits = networks.logits(params, watched_X, image_shape)
    shares = jnp.full(members.shape[1], 1 / members.shape[1], X.dtype)

    def of_class(mine: Int[Array, " p"]) -> tuple[Array, Array]:
        gradient, logits = objective.parameter_gradient(
            params, X[mine], labels[mine], shares, loss, image_shape
        )
        flat = jnp.concatenate([x.ravel() for x in jax.tree.leaves(gradient)])
        return flat, logits.mean(0)

    gradients, class_logits = jax.vmap(of_class)(members)
    sample_losses = objective.sample_losses(logits, watched_labels, loss)
    return Observed(
        logits, sample_losses, class_logits.T, gradients @ gradients.T, networks.norm(params)
    )


@np.errstate(over="ignore", invalid="ignore")  # an alarm says what is not finite
def row(
    observed: Observed,
    watched: Watched,
    class_counts: Float[np.ndarray, " k"],
    class_weights: Float[np.ndarray, " k"],
    loss: objective.Loss,
    step: int,
) -> dict[str, Any]:
    """One evaluation as plain numbers and lists, fit for JSON.

    Class losses and recalls are means over the evaluated samples. The gradient of the risk is
    sum_c pi_c w_c g_c with g_c the gradient of the class's mean loss and pi_c its share of the
    samples: `gradient_norm` is its norm, `class_gradient_norm` that of g_c, `gradient_share`
    pi_c w_c |g_c| over its sum over classes, `cosine` that of the angle between g_c and g_d.
    `block_strength` is the mean strength of the spectral components of each block
    (`spectral.BLOCKS`) over its target in the label matrix, of class means less what is common to
    all. `balanced_log_loss` is the mean over classes of the mean -log P(y | x), and
    `macro_average_precision` that of the average precision of P(c | x) against the rest, both with
    the posterior of equally frequent classes that the logits stand for, whatever the weights were
    (as trained where the loss has no inverse): neither depends on a threshold.
    """
    k = len(class_counts)
    logits, gram = np.asarray(observed.logits, float), np.asarray(observed.gram, float)
    weights = watched.sample_weights
    members = (watched.labels[None] == np.arange(k)[:, None]) * weights
    totals = members.sum(1)
    correct = logits.argmax(1) == watched.labels
    norms = np.sqrt(np.diagonal(gram))
    pull = class_weights * class_counts / class_counts.sum()
    pulls = pull * norms
    lengths = np.where(norms > 0, norms, 1)
    class_losses = members @ np.asarray(observed.sample_losses, float) / totals
    return {
        "step": step,
        "loss": float(pull @ class_losses),
        "class_loss": class_losses.tolist(),
        "class_recall": (members @ correct / totals).tolist(),
        "gradient_norm": float(np.sqrt(max(pull @ gram @ pull, 0.0))),
        "class_gradient_norm": norms.tolist(),
        "gradient_share": (pulls / (pulls.sum() or 1.0)).tolist(),
        "cosine": (gram / (lengths[:, None] * lengths[None])).tolist(),
        "class_weight": class_weights.tolist(),
        "weight_norm": float(observed.weight_norm),
        "block_strength": _block_strengths(np.asarray(observed.class_logits, float), class_counts),
    } | _of_probabilities(logits, watched, class_weights * class_counts, loss)


def _of_probabilities(
    logits: Float[np.ndarray, "e k"],
    watched: Watched,
    pull: Float[np.ndarray, " k"],
    loss: objective.Loss,
) -> dict[str, float]:
    """Calibration of the top label as trained, and the scores of the balanced posterior; NaN where
    probabilities are not finite."""
    shown = watched.sample_weights > 0
    logits, labels, weights = logits[shown], watched.labels[shown], watched.sample_weights[shown]
    names = ("calibration_error", "balanced_log_loss", "macro_average_precision")
    balanced = _balanced(logits, pull, loss)
    if not np.isfinite(balanced).all():
        return dict.fromkeys(names, float("nan"))
    own = objective.probabilities(logits, loss)
    error = calibration.top_label_error(own, labels, sample_weight=weights)
    of_class = labels[:, None] == np.arange(logits.shape[1])
    totals = weights @ of_class
    lost = weights * _lost(balanced, labels)
    with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
        precision = metrics.average_precision_score(of_class, balanced, sample_weight=weights)
    scores = error, float((lost @ of_class / totals).mean()), float(precision)
    return dict(zip(names, scores, strict=True))


def _balanced(
    logits: Float[np.ndarray, "e k"], pull: Float[np.ndarray, " k"], loss: objective.Loss
) -> Float[np.ndarray, "e k"]:
    """The posterior of equally frequent classes, or the network's own word where the loss has no
    inverse; NaN where logits are not finite."""
    own = objective.probabilities(logits, loss)
    if not (np.isfinite(own).all() and (np.abs(logits) < LARGEST).all()):
        return np.full_like(logits, np.nan)
    if not objective.has_posterior(loss):
        return own
    return special.softmax(objective.log_posterior(logits, loss, pull), axis=1)


def _lost(
    probabilities: Float[np.ndarray, "e k"], labels: Int[np.ndarray, " e"]
) -> Float[np.ndarray, " e"]:
    """-log of the probability of each sample's class, cut off."""
    of_label = np.take_along_axis(probabilities, labels[:, None], 1)[:, 0]
    return -np.log(np.maximum(of_label, LEAST))


@np.errstate(over="ignore", invalid="ignore")
def sample_values(
    observed: Observed,
    watched: Watched,
    class_counts: Float[np.ndarray, " k"],
    class_weights: Float[np.ndarray, " k"],
    loss: objective.Loss,
    score: str,
) -> Float[np.ndarray, " e"]:
    """What each evaluated sample adds to a score, a mean over classes of means of these numbers: the
    logarithm of its probability, or 1 where it is right. All 0 for the average precision, which is
    no mean over samples."""
    logits = np.asarray(observed.logits, float)
    if score == "macro_average_precision":
        return np.zeros(len(logits))
    if score == "balanced_log_loss":
        balanced = _balanced(logits, class_weights * class_counts, loss)
        return -_lost(balanced, watched.labels)
    return (logits.argmax(1) == watched.labels).astype(float)


def standard_error(
    differences: Float[np.ndarray, " e"],
    watched: Watched,
    class_recalls: Sequence[Sequence[float]],
    score: str,
) -> float:
    """Of a score's difference between two evaluations of the same samples, from each sample's:
    sqrt(sum_c s_c^2 / m_c) / k with s_c^2 the variance within class c and m_c its samples (of unequal
    weights the effective number, Kish 1965). For `worst_class` the larger one of the classes with the
    least recall in either evaluation, whose recalls are given. Of a class with one sample the square
    of its difference stands for the variance."""
    k = len(class_recalls[0])
    members = (watched.labels[None] == np.arange(k)[:, None]) * watched.sample_weights
    totals = members.sum(1)
    effective = totals**2 / (members**2).sum(1)
    means = members @ differences / totals
    centred = differences[None] - np.where(effective > 1 + 1e-9, means, 0.0)[:, None]
    squares = (members * centred**2).sum(1) / totals
    squares /= np.maximum(effective - 1, 1)  # s^2 (m - 1) / m over m - 1; d^2 for one sample
    if score == "worst_class":
        return math.sqrt(max(squares[int(np.argmin(recalls))] for recalls in class_recalls))
    return math.sqrt(squares.sum()) / k


def balanced_accuracy(row: dict[str, Any]) -> float:
    """The mean recall over classes."""
    return float(np.mean(row["class_recall"]))


def merit(row: dict[str, Any], score: str) -> float:
    """An evaluation's performance by one of `options.SCORES`, more the better: the mean recall over
    classes, the least recall of a class, less the balanced log loss, or the macro average
    precision."""
    if score == "balanced_accuracy":
        return balanced_accuracy(row)
    if score == "worst_class":
        return float(np.min(row["class_recall"]))
    return -row[score] if score == "balanced_log_loss" else row[score]


def history(rows: Sequence[dict[str, Any]], class_names: Sequence[str]) -> xr.Dataset:
    """The evaluations of a run as one Dataset over `evaluation`, `class` and `block`."""
    per_class = [
        "class_loss",
        "class_recall",
        "class_gradient_norm",
        "gradient_share",
        "class_weight",
    ]
    dims: dict[str, tuple[str, ...]] = dict.fromkeys(rows[0], ("evaluation",))
    dims |= dict.fromkeys(per_class, ("evaluation", "class"))
    dims["cosine"] = ("evaluation", "class", "class_other")
    dims["block_strength"] = ("evaluation", "block")
    arrays = {name: (dims[name], np.array([row[name] for row in rows])) for name in rows[0]}
    names = list(class_names)
    return xr.Dataset(
        arrays, {"class": names, "class_other": names, "block": list(spectral.BLOCKS)}
    )


def _block_strengths(
    class_logits: Float[np.ndarray, "k k"], class_counts: Float[np.ndarray, " k"]
) -> list[float]:
    counts = np.maximum(np.round(class_counts), 1).astype(int)
    spectrum = spectral.label_spectrum(counts)
    own = class_logits - class_logits.mean(1, keepdims=True)  # biases say nothing of a sample
    reached = spectral.strengths(own * counts, spectrum) / spectrum.singular_values
    return spectral.block_means(reached, spectrum.blocks).tolist()
