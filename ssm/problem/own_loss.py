"""A loss of one's own: any function of one sample's logits and label, which JAX differentiates."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from ssm.problem.losses import Labels, Logits, Values
from ssm.problem.own_objects import as_arrays
from ssm.support import errors

LARGEST_ERROR = 1e-6
"""The largest relative error that is allowed of the logarithm that a loss gives of itself, and of values that should
not depend on other samples."""


class OwnLoss(eqx.Module):
    """A loss that is given as a pytree with a method `value(logits, labels)`, as a `losses.LogLoss`.

    Two more methods are used where the object has them. `logit_gradient` stands in for the gradient that JAX takes
    of the sum of the values. `log_value` is log l of each sample at any margin, without which a run cannot follow
    the clock of the loss; log |dl/dz| is then log l + log |d log l / dz|.
    """

    loss: PyTree

    @property
    def knows_its_logarithm(self) -> bool:
        """Whether the object has `log_value`, so that the loss can be followed to where it underflows."""
        return hasattr(self.loss, "log_value")

    def value(self, logits: Logits, labels: Labels) -> Values:
        """l of each column: shape (m,)."""
        return self.loss.value(logits, labels)

    def logit_gradient(self, logits: Logits, labels: Labels) -> Logits:
        """dl/dz of each column: shape (k, m)."""
        if hasattr(self.loss, "logit_gradient"):
            return self.loss.logit_gradient(logits, labels)
        return jax.grad(lambda z: self.value(z, labels).sum())(logits)

    def log_value(self, logits: Logits, labels: Labels) -> Values:
        """log l of each column: shape (m,)."""
        if self.knows_its_logarithm:
            return self.loss.log_value(logits, labels)
        return jnp.log(self.value(logits, labels))

    def log_logit_gradient(self, logits: Logits, labels: Labels) -> Logits:
        """log |dl/dz_c| of each column: shape (k, m)."""
        values, back = jax.vjp(lambda z: self.log_value(z, labels), logits)
        (relative,) = back(jnp.ones_like(values))
        return values[None] + jnp.log(jnp.abs(relative))

    def seen_logits(self, logits: Logits, labels: Labels) -> Logits:
        """The logits themselves, whose margins are observed."""
        return logits


def own_loss(value: object, num_classes: int) -> OwnLoss:
    """A loss of one's own with its numbers as arrays, once it has been tried on a few samples of `num_classes` classes.

    Args:
        value: a pytree of numbers, such as a NamedTuple, with `value(logits, labels)`: l of each column of
            logits (k x m) with labels (m,), shape (m,), each from its own column only.
        num_classes: k.

    Raises:
        ssm.InputError: an object without such a method, one that fails, values of another shape, values or
            gradients that are not finite at small logits, a loss without a gradient, one whose values depend
            on other samples, or a logarithm that is not that of the value.
    """
    allowed = "an object with value(logits, labels), which gives the loss of each column of logits"
    if not callable(getattr(value, "value", None)) or isinstance(value, type):
        raise errors.invalid("loss", value, allowed)
    loss = OwnLoss(as_arrays("loss", value))
    with jax.enable_x64(True):
        _try(loss, num_classes)
    return loss


def _try(loss: OwnLoss, num_classes: int) -> None:
    """Refuse a loss that cannot be trained on, by its values on a few samples with small logits."""
    k, name = num_classes, type(loss.loss).__name__
    labels = np.arange(2 * k) % k
    logits = 0.1 * np.random.default_rng(0).normal(size=(k, 2 * k))

    @jax.jit  # One program, as in a run, is compiled faster than each operation by itself.
    def tried(logits: Logits, labels: Labels) -> tuple[Values, Logits, Values]:
        first = loss.value(logits[:, :1], labels[:1])
        return loss.value(logits, labels), loss.logit_gradient(logits, labels), first

    def refused(allowed: str) -> errors.InputError:
        return errors.invalid("loss", name, allowed)

    try:
        values, gradient, first = map(np.asarray, tried(logits, labels))
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        allowed = (
            f"differentiable by JAX on logits of shape ({k}, m); {type(error).__name__}: {reason}"
        )
        raise refused(allowed) from None
    if values.shape != labels.shape:
        raise refused(f"of one value a column, shape ({2 * k},), not {values.shape}")
    if gradient.shape != logits.shape:
        raise refused(f"of one gradient a logit, shape {logits.shape}, not {gradient.shape}")
    if not np.isfinite(values).all() or not np.isfinite(gradient).all():
        raise refused("finite, and its gradient too, at small logits")
    if not (gradient != 0).any():
        raise refused("a loss with a gradient, which is 0 everywhere here")
    if abs(first[0] - values[0]) > LARGEST_ERROR * abs(values[0]):
        raise refused("of values that depend on their own column only")
    if loss.knows_its_logarithm:
        logarithms = np.asarray(jax.jit(lambda z, y: loss.log_value(z, y))(logits, labels))
        if logarithms.shape != labels.shape:
            raise refused(f"of one log_value a column, shape ({2 * k},)")
        if not (np.abs(np.exp(logarithms) - values) <= LARGEST_ERROR * np.abs(values)).all():
            raise refused("one whose log_value is the logarithm of its value")
        at_label = np.arange(k)[:, None] == labels[None]
        if np.where(at_label, gradient > 0, gradient < 0).any():
            raise refused(
                "one that falls with the logit of the label and rises with the others, as log_value needs"
            )
