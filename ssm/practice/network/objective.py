"""The objective of a network's training: one of the project's losses in each sample's logits, weighted
by class and by sample, with its gradient in the parameters and the posterior at its minimum."""

from __future__ import annotations

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
LEAST = 1e-300  # probabilities are at least this fraction of the sample's largest one
Loss = losses.Squared | losses.AdjustedCrossEntropy
"""The squared loss, or an adjusted cross-entropy, of which the plain one is the neutral case."""


def sample_losses(logits: Logits, labels: Labels, loss: Loss) -> Values:
    """The unweighted loss of each sample: shape (m,)."""
    return loss.value(logits.T, labels)


def logit_gradient(logits: Logits, labels: Labels, loss: Loss) -> Logits:
    """d l_i / d z_i of each sample: shape (m, k)."""
    return loss.logit_gradient(logits.T, labels).T


def parameter_gradient(
    params: Params,
    X: Float[Array, "m n"],
    labels: Labels,
    shares: Values,
    loss: Loss,
    image_shape: tuple[int, int] | None,
) -> tuple[Params, Logits]:
    """The gradient of sum_i a_i l_i in the parameters, and the logits of the samples. The loss's own
    gradient in the logits is pulled back through the network.

    Args:
        shares: a_i, how much each sample counts, shape (m,).
    """
    logits, pull_back = jax.vjp(lambda params: networks.logits(params, X, image_shape), params)
    (gradient,) = pull_back(shares[:, None] * logit_gradient(logits, labels, loss))
    return gradient, logits


def mixed_gradient(
    params: Params,
    X: Float[Array, "m n"],
    labels: tuple[Labels, Labels],
    shares: tuple[Values, Values],
    loss: Loss,
    image_shape: tuple[int, int] | None,
) -> Params:
    """The gradient of sum_i (a_i l(z_i, y_i) + b_i l(z_i, y'_i)) in the parameters, where each sample has two labels.

    Args:
        labels: y and y', each of shape (m,).
        shares: a and b, how much each label of a sample counts, each of shape (m,).
    """
    logits, pull_back = jax.vjp(lambda params: networks.logits(params, X, image_shape), params)
    parts = [
        a[:, None] * logit_gradient(logits, y, loss) for a, y in zip(shares, labels, strict=True)
    ]
    (gradient,) = pull_back(parts[0] + parts[1])
    return gradient


def common_scale(loss: losses.AdjustedCrossEntropy) -> float:
    """The scale s at which a loss sees the logits of all classes alike: the largest of its factors, which is
    `logit_scale` where factors by class size are at most 1."""
    return float(loss.factors.max())


def probabilities(logits: Float[np.ndarray, "m k"], loss: Loss) -> Float[np.ndarray, "m k"]:
    """The network's own probabilities, shape (m, k), without any correction for the weights and the loss of training.

    They are the softmax of s z, with s the `common_scale` at which the loss sees the logits z. Under the squared
    loss, which regresses one-hot labels, they are z + 1/k, cut off below and normalised. `log_posterior` is the
    function that takes the loss's adjustments back.
    """
    if not isinstance(loss, losses.Squared):
        return special.softmax(common_scale(loss) * logits, axis=1)
    shares = np.clip(logits + 1 / logits.shape[1], 1e-6, None)
    return shares / shares.sum(axis=1, keepdims=True)


def has_posterior(loss: Loss) -> bool:
    """Whether the minimiser of the loss determines the posterior. It does for all losses except those with smoothed labels
    together with a margin or a focal factor."""
    if isinstance(loss, losses.Squared) or not loss.label_smoothing > 0:
        return True
    return not (loss.focusing > 0 or np.any(loss.margins))


def log_posterior(
    logits: Float[np.ndarray, "m k"], loss: Loss, class_weights: Float[np.ndarray, " k"]
) -> Float[np.ndarray, "m k"]:
    """log P(c | x) up to a constant for each sample, shape (m, k), from logits that minimise the weighted
    loss, for the class shares of the samples trained on.

    The minimiser stands for a posterior proportional to w_c P(c | x). It is read off the logits as the
    loss sees them (`posthoc.minimised`), and log w_c is subtracted.

    Raises:
        ssm.InputError: a loss without an inverse (`has_posterior`); logits that are not finite.
    """
    if isinstance(loss, losses.Squared):
        weighted = np.log(probabilities(logits, loss)).T
    else:
        seen = loss.factors * logits + loss.offsets
        numbers = loss.margins, float(loss.focusing), float(loss.label_smoothing)
        weighted = posthoc.minimised(seen.T, *numbers)
    # With smoothed labels some logarithms may be -inf.
    lowest = weighted.max(axis=0) + np.log(LEAST)
    return np.maximum(weighted, lowest).T - np.log(class_weights)
