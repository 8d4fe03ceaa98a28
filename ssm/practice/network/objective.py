"""What a network is trained on: a loss of the project in each sample's logits, weighted by class and
sample, and its gradient in the parameters."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Int
from scipy import special

from ssm.practice.network import networks
from ssm.practice.network.networks import Params
from ssm.problem import losses, posthoc

Logits = Float[Array, "m k"]
Labels = Int[Array, " m"]
Values = Float[Array, " m"]
LEAST = 1e-300  # of the largest probability, below which it is cut off
Loss = losses.Adjustment | None
"""An adjusted cross-entropy, neutral ones included; None is the squared loss."""


def sample_losses(logits: Logits, labels: Labels, loss: Loss) -> Values:
    """The unweighted loss of each sample: shape (m,)."""
    if loss is None:
        return losses.squared(logits.T, labels)
    return losses.adjusted_cross_entropy(logits.T, labels, loss)


def logit_gradient(logits: Logits, labels: Labels, loss: Loss) -> Logits:
    """d l_i / d z_i of each sample: shape (m, k)."""
    if loss is None:
        return losses.squared_gradient(logits.T, labels).T
    return losses.adjusted_cross_entropy_gradient(logits.T, labels, loss).T


def parameter_gradient(
    params: Params,
    X: Float[Array, "m n"],
    labels: Labels,
    shares: Values,
    loss: Loss,
    image_shape: tuple[int, int] | None,
) -> tuple[Params, Logits]:
    """The gradient of sum_i a_i l_i in the parameters, through the loss's own logit gradient, and
    the logits: `shares` a_i has shape (m,)."""
    logits, pull_back = jax.vjp(lambda params: networks.logits(params, X, image_shape), params)
    (gradient,) = pull_back(shares[:, None] * logit_gradient(logits, labels, loss))
    return gradient, logits


def probabilities(logits: Float[np.ndarray, "m k"], loss: Loss) -> Float[Any, "m k"]:
    """What the network itself makes of its logits, shape (m, k): their softmax, on the scale s at
    which the loss saw them, and under the squared loss z + 1/k, the regression of one-hot labels, cut
    off below and normalised. Adjustments of the loss are not taken back (`log_posterior`)."""
    if loss is not None:
        return special.softmax(loss.factors.max() * logits, axis=1)
    shares = np.clip(logits + 1 / logits.shape[1], 1e-6, None)
    return shares / shares.sum(axis=1, keepdims=True)


def has_posterior(loss: Loss) -> bool:
    """Whether the logits of a loss stand for one posterior: all do but smoothed labels together with
    a margin or a focal factor."""
    if loss is None or not loss.label_smoothing > 0:
        return True
    return not (loss.focusing > 0 or np.any(loss.margins))


def log_posterior(
    logits: Float[np.ndarray, "m k"], loss: Loss, class_weights: Float[np.ndarray, " k"]
) -> Float[Any, "m k"]:
    """log P(c | x) up to a constant of each sample, shape (m, k), where the logits minimise the
    weighted loss and classes are as frequent as among the samples that it was trained on.

    The minimiser stands for a posterior proportional to w_c P(c | x): it is read off the logits as
    the loss saw them (`posthoc.minimised`), and log w is taken off.

    Raises ssm.InputError where the loss has no inverse (`has_posterior`), and for logits that are not
    finite.
    """
    if loss is None:
        weighted = np.log(probabilities(logits, None)).T
    else:
        seen = loss.factors * logits + loss.offsets
        numbers = loss.margins, float(loss.focusing), float(loss.label_smoothing)
        weighted = posthoc.minimised(seen.T, *numbers)
    lowest = weighted.max(axis=0) + np.log(LEAST)  # of smoothed labels some may be -inf
    return np.maximum(weighted, lowest).T - np.log(class_weights)
