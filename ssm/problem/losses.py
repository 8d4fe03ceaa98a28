"""Losses of one sample and their gradients in the logits, for columns of logits (k x m) and integer
labels (m,): squared, cross-entropy, and cross-entropy of logits that class sizes adjust.

Each loss is a group of functions, and an object that has them as methods (`Squared`, `CrossEntropy`,
`AdjustedCrossEntropy`), so that the code that trains feature columns or a network need not know which loss it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, get_args, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int, Real

from ssm.config import Config, Reduction
from ssm.problem.adjustments import Scalar, class_adjustments
from ssm.support import checks
from ssm.support.arrays import AnyArray

Logits = Float[Array, "k m"]
Labels = Int[Array, " m"]
Values = Float[Array, " m"]
REDUCTIONS = get_args(Reduction)


@runtime_checkable
class Loss(Protocol):
    """A loss of one sample as a pytree of arrays, so that losses that differ only in their numbers
    share a compilation."""

    def value(self, logits: Logits, labels: Labels) -> Values:
        """l of each column: shape (m,)."""
        ...

    def logit_gradient(self, logits: Logits, labels: Labels) -> Logits:
        """dl/dz of each column: shape (k, m)."""
        ...


@runtime_checkable
class LogLoss(Loss, Protocol):
    """A loss that falls to 0 as the margin grows, and whose logarithm stays exact there."""

    def log_value(self, logits: Logits, labels: Labels) -> Values:
        """log l of each column, equally exact at any margin: shape (m,)."""
        ...

    def log_logit_gradient(self, logits: Logits, labels: Labels) -> Logits:
        """log |dl/dz_c| of each column, where dl/dz_c is negative at the label and positive elsewhere:
        shape (k, m)."""
        ...

    def seen_logits(self, logits: Logits, labels: Labels) -> Logits:
        """The logits whose softmax the loss takes, and whose margins it widens: shape (k, m)."""
        ...


def _one_hot(logits: Logits, labels: Labels) -> Logits:
    return jax.nn.one_hot(labels, logits.shape[0], axis=0, dtype=logits.dtype)


def squared(
    logits: Logits, labels: Labels, scale: Float[AnyArray, " m"] | None = None
) -> Float[Array, " m"]:
    """Half the squared distance of a column to its simplex-encoded label e_y - 1/k, times `scale`
    where it is given: shape (m,)."""
    return (0.5 * squared_gradient(logits, labels, scale) ** 2).sum(0)


def squared_gradient(
    logits: Logits, labels: Labels, scale: Float[AnyArray, " m"] | None = None
) -> Logits:
    """Z - S, with S the simplex-encoded labels, times `scale` where it is given: shape (k, m)."""
    encoded = _one_hot(logits, labels) - 1 / logits.shape[0]
    return logits - (encoded if scale is None else encoded * scale[None])


def cross_entropy(logits: Logits, labels: Labels) -> Float[Array, " m"]:
    """-log softmax(z)_y of each column: shape (m,)."""
    return -(_one_hot(logits, labels) * jax.nn.log_softmax(logits, axis=0)).sum(0)


def cross_entropy_gradient(logits: Logits, labels: Labels) -> Logits:
    """softmax(Z) - Y, with Y the one-hot labels: shape (k, m); each column sums to zero."""
    return jax.nn.softmax(logits, axis=0) - _one_hot(logits, labels)


def log_cross_entropy(logits: Logits, labels: Labels) -> Float[Array, " m"]:
    """log l of each column, l = -log softmax(z)_y = log(1 + e^s) with s = log sum_{c != y} e^(z_c -
    z_y): shape (m,).

    It is as exact at a margin of 500, where l is e^-500, as at 5, and still finite where l underflows.
    """
    return _log_softplus(_log_odds(logits, labels))


def cross_entropy_log_gradient(logits: Logits, labels: Labels) -> Logits:
    """log |dl/dz_c| of each column: log p_c for c != y, and log(1 - p_y) = log sum_{c != y} p_c at
    the label, where the gradient is negative: shape (k, m)."""
    odds = _log_odds(logits, labels)
    label_logits = _of_labels(logits, labels)
    others = logits - (label_logits + jax.nn.softplus(odds))[None]
    return jnp.where(is_label(logits, labels), (odds - jax.nn.softplus(odds))[None], others)


def margins(logits: Logits, labels: Labels) -> Float[Array, " m"]:
    """z_y - max_{c != y} z_c of each column: shape (m,)."""
    others = jnp.where(is_label(logits, labels), -jnp.inf, logits)
    return _of_labels(logits, labels) - others.max(0)


def is_label(logits: Logits, labels: Labels) -> Bool[Array, "k m"]:
    """Whether an entry is that of its column's label: shape (k, m)."""
    return jnp.arange(logits.shape[0])[:, None] == labels[None]


def _of_labels(logits: Logits, labels: Labels) -> Float[Array, " m"]:
    """z_y of each column, by a sum, which is faster than gathering."""
    return jnp.where(is_label(logits, labels), logits, 0).sum(0)


def _log_odds(logits: Logits, labels: Labels) -> Float[Array, " m"]:
    """log((1 - p_y) / p_y) = log sum_{c != y} e^(z_c - z_y)."""
    behind = logits - _of_labels(logits, labels)[None]
    return jax.nn.logsumexp(jnp.where(is_label(logits, labels), -jnp.inf, behind), axis=0)


def _log_softplus(x: Float[Array, " m"]) -> Float[Array, " m"]:
    """log log(1 + e^x), which equals x where e^x is below the rounding of 1."""
    small = -40.0
    return jnp.where(x < small, x, jnp.log(jax.nn.softplus(jnp.maximum(x, small))))


class Squared(NamedTuple):
    """The squared loss."""

    label_scale: Float[AnyArray, " m"] | None = None
    """A factor of each column's encoded label; None where the factor is 1."""

    def value(self, logits: Logits, labels: Labels) -> Values:
        """`squared`."""
        return squared(logits, labels, self.label_scale)

    def logit_gradient(self, logits: Logits, labels: Labels) -> Logits:
        """`squared_gradient`."""
        return squared_gradient(logits, labels, self.label_scale)


class CrossEntropy(NamedTuple):
    """Cross-entropy of the logits as they are."""

    def value(self, logits: Logits, labels: Labels) -> Values:
        """`cross_entropy`."""
        return cross_entropy(logits, labels)

    def logit_gradient(self, logits: Logits, labels: Labels) -> Logits:
        """`cross_entropy_gradient`."""
        return cross_entropy_gradient(logits, labels)

    def log_value(self, logits: Logits, labels: Labels) -> Values:
        """`log_cross_entropy`."""
        return log_cross_entropy(logits, labels)

    def log_logit_gradient(self, logits: Logits, labels: Labels) -> Logits:
        """`cross_entropy_log_gradient`."""
        return cross_entropy_log_gradient(logits, labels)

    def seen_logits(self, logits: Logits, labels: Labels) -> Logits:
        """The logits themselves."""
        return logits


class AdjustedCrossEntropy(NamedTuple):
    """An adjusted cross-entropy, by its numbers, arrays of NumPy or of JAX; `adjustment` makes them."""

    factors: Float[Any, " k"]  # s Delta_c, times z_c
    offsets: Float[Any, " k"]  # added to z_c
    margins: Float[Any, " k"]  # s D_c, taken off the label's own logit
    focusing: Float[Any, ""]  # the power of 1 - p_y that multiplies the loss
    label_smoothing: Float[Any, ""]  # the share of a label spread evenly over all classes

    def value(self, logits: Logits, labels: Labels) -> Values:
        """`adjusted_cross_entropy`."""
        return adjusted_cross_entropy(logits, labels, self)

    def logit_gradient(self, logits: Logits, labels: Labels) -> Logits:
        """`adjusted_cross_entropy_gradient`."""
        return adjusted_cross_entropy_gradient(logits, labels, self)

    def log_value(self, logits: Logits, labels: Labels) -> Values:
        """`log_adjusted_cross_entropy`."""
        return log_adjusted_cross_entropy(logits, labels, self)

    def log_logit_gradient(self, logits: Logits, labels: Labels) -> Logits:
        """`adjusted_cross_entropy_log_gradient`."""
        return adjusted_cross_entropy_log_gradient(logits, labels, self)

    def seen_logits(self, logits: Logits, labels: Labels) -> Logits:
        """`adjusted_logits`."""
        return adjusted_logits(logits, labels, self)


Adjustment = AdjustedCrossEntropy
"""The earlier name of the class, by which classifiers that were pickled under it are read."""


def adjustment(
    counts: Real[np.ndarray, " k"] | Sequence[int],
    *,
    additive_adjustment: Scalar = 0.0,
    multiplicative_adjustment: Scalar = 0.0,
    largest_margin: Scalar = 0.0,
    logit_scale: Scalar = 1.0,
    focusing: Scalar = 0.0,
    label_smoothing: Scalar = 0.0,
) -> AdjustedCrossEntropy:
    """The adjusted cross-entropy for classes of given sizes. Its numbers are NumPy arrays in float64,
    unless one is given as a JAX array. Each number that is left out has no effect: without any the loss is cross-entropy.

    factors_c = s (n_c / n_max)^g,  offsets_c = tau log(n_c / n),  margins_c = s m (n_min / n_c)^(1/4)

    Args:
        counts: samples n_c > 0 of each class, shape (k,), on the host.
        additive_adjustment: tau of logit adjustment; 1 is balanced softmax.
        multiplicative_adjustment: g of CDT.
        largest_margin: m, LDAM's margin of the smallest class.
        logit_scale: s, which multiplies logits and margins but not offsets.
        focusing: gamma of the focal loss.
        label_smoothing: e in [0, 1).

    Raises ssm.InputError for counts that are not positive, and for a number that is not finite or a
    label smoothing outside [0, 1), unless it is being traced.

    Source: Menon et al. 2021 (additive), Ren et al. 2020 (balanced softmax), Ye et al. 2020 (CDT),
    Kini et al. 2021 (both, VS), Cao et al. 2019 (LDAM), Lin et al. 2017 (focal).
    """
    n = checks.positive("counts", counts)
    of_classes = {
        "additive_adjustment": additive_adjustment,
        "multiplicative_adjustment": multiplicative_adjustment,
        "largest_margin": largest_margin,
        "logit_scale": logit_scale,
    }
    for name, number in (of_classes | {"focusing": focusing}).items():
        _check_number(name, number, -math.inf)
    _check_number("label_smoothing", label_smoothing, 0.0, 1.0)
    numbers = (*class_adjustments(n, **of_classes), focusing, label_smoothing)
    return AdjustedCrossEntropy(
        *(x if isinstance(x, jax.Array) else np.asarray(x, float) for x in numbers)
    )


def _check_number(name: str, value: Scalar, low: float, high: float = math.inf) -> None:
    """Refuse a number outside [low, high) where it is known."""
    if not isinstance(value, Tracer):
        checks.real(name, value, low, high, open_ends=")")


def adjusted_logits(logits: Logits, labels: Labels, adjustment: AdjustedCrossEntropy) -> Logits:
    """z'_c = factors_c z_c + offsets_c - [c = y] margins_c: shape (k, m)."""
    seen = logits * adjustment.factors[:, None] + adjustment.offsets[:, None]
    return seen - jnp.where(is_label(logits, labels), adjustment.margins[:, None], 0)


def adjusted_cross_entropy(
    logits: Logits, labels: Labels, adjustment: AdjustedCrossEntropy
) -> Values:
    """(1 - p_y)^focusing CE(p, q) of each column, p = softmax(z') and q its smoothed label: shape
    (m,). A class weight multiplies it from outside and is no part of p (`weighted_risk`)."""
    seen = adjusted_logits(logits, labels, adjustment)
    odds = _log_odds(seen, labels)
    return _focal_factor(odds, adjustment) * _smoothed(seen, labels, odds, adjustment)


def adjusted_cross_entropy_gradient(
    logits: Logits, labels: Labels, adjustment: AdjustedCrossEntropy
) -> Logits:
    """dl/dz of the raw logits z: shape (k, m).

    factors_c (1 - p_y)^focusing [(1 - p_y + focusing p_y CE(p, q)) d_c + (y - q)_c] with d the
    gradient of the log odds of an error: softmax over the others for c != y, -1 at y. It takes no
    difference of probabilities, so small entries keep their digits.
    """
    seen = adjusted_logits(logits, labels, adjustment)
    odds = _log_odds(seen, labels)
    sign = jnp.where(is_label(seen, labels), -1.0, 1.0)
    focal = adjustment.focusing * jax.nn.sigmoid(-odds) * _smoothed(seen, labels, odds, adjustment)
    toward = (jax.nn.sigmoid(odds) + focal)[None] * sign * jnp.exp(_log_toward(seen, labels, odds))
    inner = toward + _smoothing(seen, labels, adjustment)
    return adjustment.factors[:, None] * _focal_factor(odds, adjustment)[None] * inner


def log_adjusted_cross_entropy(
    logits: Logits, labels: Labels, adjustment: AdjustedCrossEntropy
) -> Values:
    """log l of each column, as exact at a margin of 50000 as at 5: shape (m,).

    Label smoothing is ignored: a smoothed loss has a minimum at a finite margin, and no small l.
    """
    odds = _log_odds(adjusted_logits(logits, labels, adjustment), labels)
    return adjustment.focusing * jax.nn.log_sigmoid(odds) + _log_softplus(odds)


def adjusted_cross_entropy_log_gradient(
    logits: Logits, labels: Labels, adjustment: AdjustedCrossEntropy
) -> Logits:
    """log |dl/dz_c| of the raw logits, where dl/dz_c is negative at the label and positive
    elsewhere: shape (k, m). Label smoothing is ignored, as in `log_adjusted_cross_entropy`."""
    seen = adjusted_logits(logits, labels, adjustment)
    odds = _log_odds(seen, labels)
    log_plain, log_wrong = _log_softplus(odds), jax.nn.log_sigmoid(odds)
    # This is d log l / d odds. The quotient is of logarithms, since both underflow, and then it is 1.
    slope = adjustment.focusing * jax.nn.sigmoid(-odds) + jnp.exp(log_wrong - log_plain)
    log_slope = adjustment.focusing * log_wrong + log_plain + jnp.log(slope)
    toward = _log_toward(seen, labels, odds)
    return jnp.log(adjustment.factors)[:, None] + log_slope[None] + toward


def _log_toward(logits: Logits, labels: Labels, odds: Values) -> Logits:
    """log |d odds/dz_c|: the others' log softmax for c != y; 0 at the label, where it is -1."""
    others = logits - (_of_labels(logits, labels) + odds)[None]
    return jnp.where(is_label(logits, labels), 0.0, others)


def _focal_factor(odds: Values, adjustment: AdjustedCrossEntropy) -> Values:
    """(1 - p_y)^focusing, by its logarithm, which is finite where 1 - p_y underflows, so that 0^0 is 1."""
    return jnp.exp(adjustment.focusing * jax.nn.log_sigmoid(odds))


def _smoothing(logits: Logits, labels: Labels, adjustment: AdjustedCrossEntropy) -> Logits:
    """The one-hot labels minus the smoothed ones: each column sums to zero."""
    one_hot = _one_hot(logits, labels)
    smoothing = adjustment.label_smoothing
    return one_hot - ((1.0 - smoothing) * one_hot + smoothing / len(one_hot))


def _smoothed(
    logits: Logits, labels: Labels, odds: Values, adjustment: AdjustedCrossEntropy
) -> Values:
    """CE(p, q) = CE(p, y) + (y - q) . z, exact where it is small: CE(p, y) = log(1 + e^odds)."""
    behind = logits - _of_labels(logits, labels)[None]
    return jax.nn.softplus(odds) + (_smoothing(logits, labels, adjustment) * behind).sum(0)


def risk_shares(
    labels: Labels,
    class_weights: Float[AnyArray, " k"],
    reduction: str,
    sample_weights: Float[AnyArray, " m"] | None = None,
) -> Values:
    """The factors a_i of the losses in the risk sum_i a_i l_i, shape (m,), for samples that count
    s_i times (once where `sample_weights` are left out).

    "mean" is s_i w_{y_i} / sum_j s_j. "weighted_mean" is s_i w_{y_i} / sum_j s_j w_{y_j}, which is what
    torch's `CrossEntropyLoss(weight=w)` computes (with label smoothing torch differs: it weights
    each class's share of a label by that class's weight).

    Raises ssm.InputError for another reduction, and for weights that are not traced and not positive.
    """
    checks.choice("reduction", reduction, REDUCTIONS)
    if not isinstance(class_weights, jax.Array):
        class_weights = checks.positive("class_weights", class_weights, or_zero=True)
    weights = jnp.asarray(class_weights)[labels]
    if sample_weights is None:
        return weights / (len(labels) if reduction == "mean" else weights.sum())
    weighted = weights * sample_weights
    return weighted / (sample_weights if reduction == "mean" else weighted).sum()


def weighted_risk(
    values: Values, labels: Labels, class_weights: Float[AnyArray, " k"], reduction: str
) -> Float[Array, ""]:
    """The risk sum_i a_i l_i of losses l_i whose classes are weighted from outside, with the a_i of
    `risk_shares`. It is for users who evaluate a loss of their own; the runs of this library compute the
    same sum in parts.

    Raises ssm.InputError for an unknown reduction.
    """
    return (risk_shares(labels, class_weights, reduction) * values).sum()


LOSSES: dict[str, Squared | CrossEntropy] = {
    "squared": Squared(),
    "cross_entropy": CrossEntropy(),
}
"""The losses without numbers, by name."""


def configured_loss(
    config: Config, counts: Real[np.ndarray, " k"] | Sequence[int]
) -> Squared | CrossEntropy | AdjustedCrossEntropy:
    """The loss that a Config asks for, on classes of given sizes."""
    if config.has_adjustment:
        return adjustment(counts, **config.adjustments)
    return LOSSES[config.loss]
