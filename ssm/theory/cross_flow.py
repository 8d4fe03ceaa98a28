"""Two products that share one factor, for a whole grid of parameters at once.

The cross component of STEP under the squared loss has one direction of the classifier, x, and a feature on it
for each group, A_g in the metric of the flow, with x^2 = A_1^2 + A_2^2 for good:

    (log A_g)' = r_g x / A_g - m_g x^2.

Source: the reduction to two numbers derived for this project.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Flow(NamedTuple):
    """The parameters of each group and point, for `implicit`, which follows log A_g."""

    rates: Float[np.ndarray, "2 p"]
    """r_g > 0, per unit of time."""
    pulls: Float[np.ndarray, "2 p"]
    """m_g > 0, per unit of time and of x^2."""
    shares: Float[np.ndarray, "2 p"]
    """h_g in the strength x (h_1 A_1 + h_2 A_2), which is what `progress` is about."""

    def parts(
        self, state: Float[np.ndarray, "2 *s p"]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """r_g x / A_g, m_g x^2 and A_g^2 / x^2 at log A_g."""
        squares = np.exp(2 * state)
        whole = squares[0] + squares[1]
        share = squares / whole
        shape = (2, *(1,) * (state.ndim - 2), -1)
        return self.rates.reshape(shape) / np.sqrt(share), self.pulls.reshape(shape) * whole, share

    def field(self, state: Float[np.ndarray, "2 *s p"]) -> Float[np.ndarray, "2 *s p"]:
        """Slopes of log A_g."""
        grown, held, _ = self.parts(state)
        return grown - held

    def jacobian(self, state: Float[np.ndarray, "2 p"]) -> Float[np.ndarray, "2 2 p"]:
        """Derivatives of `field`, (slope, by which, point)."""
        grown, held, share = self.parts(state)
        J = (grown - 2 * held)[:, None] * share
        J[0, 0] -= grown[0]
        J[1, 1] -= grown[1]
        return J

    def progress(
        self, state: Float[np.ndarray, "2 *s p"]
    ) -> tuple[Float[np.ndarray, "*s p"], Float[np.ndarray, "2 *s p"]]:
        """The logarithm of the strength, and its derivatives."""
        A = np.exp(state)
        each = self.shares.reshape(2, *(1,) * (state.ndim - 2), -1) * A
        whole, size = each.sum(axis=0), np.hypot(A[0], A[1])
        return np.log(size * whole), (A / size) ** 2 + each / whole

    def strength(self, state: Float[np.ndarray, "2 *s p"]) -> Float[np.ndarray, "*s p"]:
        """The strength itself."""
        return np.exp(self.progress(state)[0])

    def take(self, points: np.ndarray | slice) -> Flow:
        """Those of some points."""
        return Flow(*(numbers[:, points] for numbers in self))
