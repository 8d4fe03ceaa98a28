"""What is watched while a network trains: losses, recalls, gradients and spectral strengths, class
by class."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, Int

from ssm import spectral
from ssm.practice import calibration, networks, objective
from ssm.practice.networks import Params

PER_CLASS = 32  # training samples of each class whose gradients are watched


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
    all.
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
        "calibration_error": _calibration_error(logits, watched, loss),
    }


def _calibration_error(
    logits: Float[np.ndarray, "e k"], watched: Watched, loss: objective.Loss
) -> float:
    """Of the top label; NaN where probabilities are not finite."""
    shown = watched.sample_weights > 0
    probabilities = objective.probabilities(logits[shown], loss)
    if not np.isfinite(probabilities).all():
        return float("nan")
    weights = watched.sample_weights[shown]
    return calibration.top_label_error(probabilities, watched.labels[shown], sample_weight=weights)


def balanced_accuracy(row: dict[str, Any]) -> float:
    """The mean recall over classes."""
    return float(np.mean(row["class_recall"]))


def worst_class(row: dict[str, Any]) -> float:
    """The least recall of a class."""
    return float(np.min(row["class_recall"]))


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
