"""What is measured at each evaluation while a network trains: losses, recalls, gradients and spectral
strengths, class by class. Nothing here needs JAX."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple, TypedDict

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Int

from ssm.measures import spectral
from ssm.practice.options import Score
from ssm.practice.statistics import calibration
from ssm.support.arrays import AnyArray

PER_CLASS = 32  # The number of training samples of each class whose gradients are watched.
LARGEST = 1e100  # Logits of at least this size are not turned into probabilities.
LEAST = 1e-12  # Smaller probabilities count as this one in a log loss, so that it stays finite.


class Evaluated(NamedTuple):
    """The labels of the samples that are evaluated, and how often each counts."""

    labels: Int[np.ndarray, " e"]
    sample_weights: Float[np.ndarray, " e"]
    """How often each sample counts: more than once where it stands for others; 0 marks rows of padding."""


class Watched(NamedTuple):
    """The samples that are watched while a network trains."""

    X: Float[AnyArray, "e n"]
    """Features of the samples that are evaluated: the held-out ones where there are any, else those
    of training, or some 10,000 of them that stand for all."""
    labels: Int[np.ndarray, " e"]
    sample_weights: Float[np.ndarray, " e"]
    """As in `Evaluated`."""
    members: Int[AnyArray, "k p"]
    """Indices of `PER_CLASS` training samples of each class, repeated where a class has fewer."""

    @property
    def evaluated(self) -> Evaluated:
        """The labels and the weights of the evaluated samples."""
        return Evaluated(self.labels, self.sample_weights)


class Observed(NamedTuple):
    """The measurements of a network by compiled code."""

    logits: Float[AnyArray, "e k"]
    """Logits of the evaluated samples."""
    sample_losses: Float[AnyArray, " e"]
    """The unweighted loss of each of these samples."""
    class_logits: Float[AnyArray, "k k"]
    """Mean logits of each class's watched training samples, indexed [logit, class]."""
    gram: Float[AnyArray, "k k"]
    """Inner products <g_c, g_d>, with g_c the gradient of class c's mean loss in all parameters."""
    weight_norm: Float[AnyArray, ""]
    """The Euclidean norm of all parameters together."""


class Gradients(TypedDict):
    """The gradient of the risk at one evaluation, by class."""

    class_weight: list[float]
    class_gradient_norm: list[float]
    cosine: list[list[float]]


class Judged(TypedDict):
    """The numbers by which alarms and early stopping go; `judged` defines each number."""

    step: int
    loss: float
    class_loss: list[float]
    class_recall: list[float]
    gradient_norm: float
    class_weight: list[float]
    calibration_error: float
    balanced_log_loss: float
    macro_average_precision: float


class Evaluation(Judged):
    """One evaluation of a run as plain numbers and lists, fit for JSON; `row` defines each number."""

    class_gradient_norm: list[float]
    gradient_share: list[float]
    cosine: list[list[float]]
    weight_norm: float
    block_strength: list[float]


class Probabilities(NamedTuple):
    """Probabilities of the evaluated samples, without rows of padding."""

    as_trained: Float[np.ndarray, "c k"]
    """The network's own probabilities."""
    balanced: Float[np.ndarray, "c k"]
    """The posterior of equally frequent classes, or the network's own probabilities where the loss has no
    inverse; NaN where logits are not finite."""


class ProbabilityScores(NamedTuple):
    """The scores of an evaluation that need probabilities."""

    calibration_error: float
    balanced_log_loss: float
    macro_average_precision: float


@np.errstate(over="ignore", invalid="ignore")  # An alarm reports numbers that are not finite.
def judged(
    logits: Float[np.ndarray, "e k"],
    sample_losses: Float[np.ndarray, " e"],
    evaluated: Evaluated,
    class_counts: Float[np.ndarray, " k"],
    class_weights: Float[np.ndarray, " k"],
    probabilities: Probabilities,
    gradient_norm: float,
    step: int,
) -> Judged:
    """The numbers by which alarms and early stopping go.

    `class_loss` and `class_recall` are means over the evaluated samples of a class, `loss` is
    sum_c pi_c w_c of the class losses, with pi_c the class's share of the training samples.

    `balanced_log_loss` is the mean over classes of the mean -log P(y | x), and
    `macro_average_precision` the mean over classes of the average precision of P(c | x) against the
    rest. Both use the posterior of equally frequent classes that the logits stand for, whatever the
    weights were, so that neither depends on a threshold. Where the loss has no inverse they use the
    network's own probabilities.
    """
    k = len(class_counts)
    members = (evaluated.labels[None] == np.arange(k)[:, None]) * evaluated.sample_weights
    totals = members.sum(1)
    correct = logits.argmax(1) == evaluated.labels
    class_losses = members @ sample_losses / totals
    scores = _probability_scores(probabilities, evaluated)
    pull = class_weights * class_counts / class_counts.sum()
    return {
        "step": step,
        "loss": float(pull @ class_losses),
        "class_loss": class_losses.tolist(),
        "class_recall": (members @ correct / totals).tolist(),
        "gradient_norm": gradient_norm,
        "class_weight": class_weights.tolist(),
        "calibration_error": scores.calibration_error,
        "balanced_log_loss": scores.balanced_log_loss,
        "macro_average_precision": scores.macro_average_precision,
    }


@np.errstate(over="ignore", invalid="ignore")
def gradients(gram: Float[np.ndarray, "k k"], class_weights: Float[np.ndarray, " k"]) -> Gradients:
    """Lengths of the gradients g_c of each class's mean loss, and cosines of the angles between them, from
    their inner products <g_c, g_d>."""
    norms = np.sqrt(np.diagonal(gram))
    lengths = np.where(norms > 0, norms, 1)
    return {
        "class_weight": class_weights.tolist(),
        "class_gradient_norm": norms.tolist(),
        "cosine": (gram / (lengths[:, None] * lengths[None])).tolist(),
    }


@np.errstate(over="ignore", invalid="ignore")
def risk_gradient_norm(gram: Float[np.ndarray, "k k"], pull: Float[np.ndarray, " k"]) -> float:
    """The norm of sum_c pi_c w_c g_c, from the inner products <g_c, g_d> and the products pi_c w_c."""
    return float(np.sqrt(max(pull @ gram @ pull, 0.0)))


@np.errstate(over="ignore", invalid="ignore")
def row(
    observed: Observed,
    watched: Watched,
    class_counts: Float[np.ndarray, " k"],
    class_weights: Float[np.ndarray, " k"],
    probabilities: Probabilities,
    step: int,
) -> Evaluation:
    """One evaluation as plain numbers and lists, fit for JSON: those of `judged` and `gradients`, and more.

    The gradient of the risk is sum_c pi_c w_c g_c, with g_c the gradient of the class's mean loss and pi_c
    the class's share of the training samples. `gradient_norm` is the norm of that sum and
    `gradient_share` is pi_c w_c |g_c| divided by its sum over classes.

    `block_strength` is, for each block of spectral components (`spectral.BLOCKS`), the mean ratio of
    a component's strength to its target in the label matrix; strengths are those of the classes' mean
    logits, less what is common to all classes.
    """
    logits, gram = np.asarray(observed.logits, float), np.asarray(observed.gram, float)
    pull = class_weights * class_counts / class_counts.sum()
    by_class = gradients(gram, class_weights)
    pulls = pull * np.array(by_class["class_gradient_norm"])
    gradient_norm = risk_gradient_norm(gram, pull)
    losses, given = np.asarray(observed.sample_losses, float), (class_counts, class_weights)
    return {
        **judged(logits, losses, watched.evaluated, *given, probabilities, gradient_norm, step),
        **by_class,
        "gradient_share": (pulls / (pulls.sum() or 1.0)).tolist(),
        "weight_norm": float(observed.weight_norm),
        "block_strength": _block_strengths(np.asarray(observed.class_logits, float), class_counts),
    }


def _probability_scores(probabilities: Probabilities, evaluated: Evaluated) -> ProbabilityScores:
    """The calibration error of the network's own probabilities, of the predicted class, and the two
    scores of the balanced posterior; all NaN where probabilities are not finite."""
    counted = evaluated.sample_weights > 0
    labels, weights = evaluated.labels[counted], evaluated.sample_weights[counted]
    as_trained, balanced = probabilities
    if not np.isfinite(balanced).all():
        return ProbabilityScores(math.nan, math.nan, math.nan)
    error = calibration.top_label_error(as_trained, labels, sample_weight=weights)
    of_class = labels[:, None] == np.arange(balanced.shape[1])
    totals = weights @ of_class
    log_losses = weights * _log_losses(balanced, labels)
    columns = zip(of_class.T, balanced.T, strict=True)
    precision = np.mean([_average_precision(*column, weights) for column in columns])
    log_loss = float((log_losses @ of_class / totals).mean())
    return ProbabilityScores(error, log_loss, float(precision))


def _average_precision(
    is_class: Bool[np.ndarray, " c"],
    scores: Float[np.ndarray, " c"],
    weights: Float[np.ndarray, " c"],
) -> float:
    """The mean precision over the recall that each distinct score adds, as scikit-learn defines it. Because of its checks,
    scikit-learn's own function takes several times as long for so few samples."""
    order = np.argsort(-scores)
    ranked = scores[order]
    # Equal scores count together, at the last of them.
    is_last = np.append(ranked[1:] != ranked[:-1], True)
    found = np.cumsum((weights * is_class)[order])[is_last]
    precision = found / np.cumsum(weights[order])[is_last]
    return float(np.diff(found, prepend=0.0) @ precision / found[-1])


def _log_losses(
    probabilities: Float[np.ndarray, "c k"], labels: Int[np.ndarray, " c"]
) -> Float[np.ndarray, " c"]:
    """-log of the probability of each sample's class; probabilities below `LEAST` count as `LEAST`."""
    of_label = np.take_along_axis(probabilities, labels[:, None], 1)[:, 0]
    return -np.log(np.maximum(of_label, LEAST))


@np.errstate(over="ignore", invalid="ignore")
def sample_values(
    logits: Float[np.ndarray, "e k"],
    evaluated: Evaluated,
    probabilities: Probabilities,
    score: Score,
) -> Float[np.ndarray, " e"]:
    """What each evaluated sample contributes to a score, which is a mean over classes of the means of
    these numbers: the logarithm of the probability of its class, or 1 where the sample is classified
    correctly and 0 where not. They are all 0 for the average precision, which is no mean over samples.
    """
    values = np.zeros(len(logits))
    if score == "macro_average_precision":
        return values
    if score == "balanced_log_loss":
        counted = evaluated.sample_weights > 0
        values[counted] = -_log_losses(probabilities.balanced, evaluated.labels[counted])
        return values
    return (logits.argmax(1) == evaluated.labels).astype(float)


def balanced_accuracy(row: Judged) -> float:
    """The mean recall over classes."""
    return float(np.mean(row["class_recall"]))


def merit(row: Judged, score: Score) -> float:
    """An evaluation's performance by one of `options.SCORES`, for which larger is better: the mean
    recall over classes, the least recall of any class, the negative balanced log loss, or the macro
    average precision."""
    if score == "balanced_accuracy":
        return balanced_accuracy(row)
    if score == "worst_class":
        return float(np.min(row["class_recall"]))
    return -row["balanced_log_loss"] if score == "balanced_log_loss" else row[score]


def history(rows: Sequence[Evaluation], class_names: Sequence[str]) -> xr.Dataset:
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
    """The mean over each block of the ratio of its components' strengths to their targets."""
    counts = np.maximum(np.round(class_counts), 1).astype(int)
    spectrum = _label_spectrum(tuple(counts.tolist()))
    # The part that all classes have in common, such as biases, says nothing about a sample's class.
    centred = class_logits - class_logits.mean(1, keepdims=True)
    reached = spectral.strengths(centred * counts, spectrum) / spectrum.singular_values
    return spectral.block_means(reached, spectrum.blocks).tolist()


@functools.lru_cache(maxsize=16)
def _label_spectrum(counts: tuple[int, ...]) -> spectral.LabelSpectrum:
    """The spectrum of the label matrix, which is the same at all evaluations of a run."""
    return spectral.label_spectrum(counts)
