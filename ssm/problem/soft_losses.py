"""Losses of samples that are taught distributions over the classes, as those of `ssm.problem.losses` are of labels."""

from __future__ import annotations

from typing import NamedTuple

import jax
from jaxtyping import Float

from ssm.problem.losses import Labels, Logits, Values
from ssm.support.arrays import AnyArray


class SoftSquared(NamedTuple):
    """Half the squared distance of a column of logits to its centred target, p - 1/k."""

    targets: Float[AnyArray, "k m"]
    """p of each column, in the order of the columns of the run."""

    def value(self, logits: Logits, labels: Labels) -> Values:
        """|z - (p - 1/k)|^2 / 2 of each column: shape (m,)."""
        return (0.5 * self.logit_gradient(logits, labels) ** 2).sum(0)

    def logit_gradient(self, logits: Logits, labels: Labels) -> Logits:
        """z - (p - 1/k): shape (k, m)."""
        return logits - (self.targets - 1 / len(self.targets))


class SoftCrossEntropy(NamedTuple):
    """Cross-entropy with a target, -sum_c p_c log softmax(z)_c, whose least value is the entropy of p."""

    targets: Float[AnyArray, "k m"]
    """p of each column, as in `SoftSquared`."""

    def value(self, logits: Logits, labels: Labels) -> Values:
        """-sum_c p_c log softmax(z)_c of each column: shape (m,)."""
        return -(self.targets * jax.nn.log_softmax(logits, axis=0)).sum(0)

    def logit_gradient(self, logits: Logits, labels: Labels) -> Logits:
        """softmax(z) - p: shape (k, m)."""
        return jax.nn.softmax(logits, axis=0) - self.targets
