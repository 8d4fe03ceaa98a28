"""The cross component of STEP under the squared loss where something is shared by all samples, for a whole grid
of parameters at once.

Beside what `cross_flow` follows, the classifier x and the features A_g of each group on its direction in the
metric of the flow, there is a feature h that all samples share, by the part beta of the coupling kernel, and the
bias b of the logits on that direction. Majority and minority, g = 1 and 2, have the signs +1 and -1. With N_g = k_g
n_g, targets s_g and a_g = +-sqrt(kappa_g) A_g + sqrt(beta N_g) h, what is left of a target is e_g = s_g - x a_g -
sqrt(N_g) b, and

    n A_g' = +-sqrt(kappa_g) w_g e_g x,   n h' = sqrt(beta) x S,   n b' = S,   S = sum_g sqrt(N_g) w_g e_g,

which keeps x^2 = A_1^2 + A_2^2 + h^2. Followed are log A_1, log A_2, tau and b, with rho^2 = A_1^2 + A_2^2, h =
rho sinh(tau), x = rho cosh(tau), so that nothing is a small difference of what is large.

Source: derived for this project.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from ssm.theory.groups import Step, cross_start


class _Parts(NamedTuple):
    """What the slopes are made of at a state."""

    A: Any
    """A_g."""
    x: Any
    h: Any
    a: Any
    """a_g."""
    left: Any
    """w_g e_g / n."""
    grown: Any
    """(log A_g)'."""
    pull: Any
    """S / n."""
    share: Any
    """A_g^2 / rho^2."""


class Flow(NamedTuple):
    """The parameters of each group and point, for `implicit`."""

    pulls: Float[np.ndarray, "2 p"]
    """w_g / n, per unit of time."""
    roots: Float[np.ndarray, "2 p"]
    """+-sqrt(kappa_g)."""
    sizes: Float[np.ndarray, "2 p"]
    """sqrt(N_g)."""
    targets: Float[np.ndarray, "2 p"]
    """s_g."""
    common: Float[np.ndarray, "1 p"]
    """sqrt(beta)."""
    bias: Float[np.ndarray, "1 p"]
    """1 where the logits have a bias, else 0."""

    def _parts(self, state: Float[np.ndarray, "4 *s p"]) -> _Parts:
        A, tau = np.exp(state[:2]), state[2]
        pulls, roots, sizes, targets = (
            self._like(x, state) for x in (self.pulls, self.roots, self.sizes, self.targets)
        )
        rho = np.hypot(A[0], A[1])
        x, h = rho * np.cosh(tau), rho * np.sinh(tau)
        a = roots * A + sizes * self._like(self.common, state) * h
        left = pulls * (targets - x * a - sizes * state[3])
        return _Parts(
            A,
            x,
            h,
            a,
            left,
            roots * left * (x / A),
            (sizes * left).sum(axis=0),
            (A / rho) ** 2,
        )

    def field(self, state: Float[np.ndarray, "4 *s p"]) -> Float[np.ndarray, "4 *s p"]:
        """Slopes of log A_g, tau and b."""
        at = self._parts(state)
        common, bias = (self._like(x, state)[0] for x in (self.common, self.bias))
        turned = common * at.pull - np.tanh(state[2]) * (at.share * at.grown).sum(axis=0)
        return np.stack([*at.grown, turned, bias * at.pull])

    def jacobian(self, state: Float[np.ndarray, "4 p"]) -> Float[np.ndarray, "4 4 p"]:
        """Derivatives of `field`, (slope, by which, point)."""
        at, tanh = self._parts(state), np.tanh(state[2])
        x, a = self._derivatives(at)
        by_bias = np.zeros((4, 1))
        by_bias[3] = 1
        left = self.pulls[:, None] * (
            -(x * at.a[:, None] + at.x * a) - self.sizes[:, None] * by_bias
        )
        own = np.zeros((2, 4, 1))
        own[[0, 1], [0, 1]] = 1
        grown = self.roots[:, None] * (
            left * (at.x / at.A)[:, None]
            + at.left[:, None] * (x - at.x * own) / at.A[:, None]
        )  # fmt: skip
        pull = (self.sizes[:, None] * left).sum(axis=0)
        among = np.zeros((1, 4, state.shape[1]))
        among[0, :2] = at.share
        share = 2 * at.share[:, None] * (own - among)
        J = np.empty((4, *state.shape))
        J[:2] = grown
        turned = (share * at.grown[:, None] + at.share[:, None] * grown).sum(axis=0)
        J[2] = self.common * pull - tanh * turned
        J[2, 2] -= (1 - tanh**2) * (at.share * at.grown).sum(axis=0)
        J[3] = self.bias * pull
        return J

    def _derivatives(self, at: _Parts) -> tuple[Any, Any]:
        """Of x, (4, p), and of a_g, (2, 4, p), by the four numbers."""
        x, h = np.zeros((4, at.x.size)), np.zeros((4, at.x.size))
        x[:2], x[2] = at.share * at.x, at.h
        h[:2], h[2] = at.share * at.h, at.x
        a = self.sizes[:, None] * self.common * h
        for g in (0, 1):
            a[g, g] += self.roots[g] * at.A[g]
        return x, a

    def strength(self, state: Float[np.ndarray, "4 *s p"]) -> Float[np.ndarray, "*s p"]:
        """u^T Z v over the singular value, which may be negative on the way."""
        at, targets = self._parts(state), self._like(self.targets, state)
        each = targets * (at.x * at.a + self._like(self.sizes, state) * state[3])
        return each.sum(axis=0) / (targets**2).sum(axis=0)

    def progress(
        self, state: Float[np.ndarray, "4 p"]
    ) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, "4 p"]]:
        """The logarithm of the strength, and its derivatives; a very low one without slope where it is not
        positive."""
        at, strength = self._parts(state), self.strength(state)
        x, a = self._derivatives(at)
        slopes = (self.targets[:, None] * (x * at.a[:, None] + at.x * a)).sum(axis=0)
        slopes[3] += (self.targets * self.sizes).sum(axis=0)
        slopes /= (self.targets**2).sum(axis=0)
        grown = strength > 0
        safe = np.where(grown, strength, 1.0)
        return np.where(grown, np.log(safe), -700.0), np.where(grown, slopes / safe, 0.0)

    def take(self, points: np.ndarray | slice) -> Flow:
        """Those of some points."""
        return Flow(*(numbers[:, points] for numbers in self))

    @staticmethod
    def _like(numbers: Float[np.ndarray, "g p"], state: Any) -> Any:
        """Numbers of groups and points, to go with a state of more dimensions."""
        return numbers.reshape(len(numbers), *(1,) * (state.ndim - 2), -1)


def start(
    step: Step, scale: Float[np.ndarray, "*#grid"], growing: bool
) -> Float[np.ndarray, "*#grid 4"]:
    """log A_g, tau and b of this flow at a start of this product strength."""
    direction, common = cross_start(step, growing)
    rho = np.linalg.norm(direction, axis=-1, keepdims=True)
    whole = np.hypot(rho, common)
    first = np.log(direction / whole) + 0.5 * np.log(scale)[..., None]
    bias = np.zeros(common.shape)
    if growing and step.output_bias:  # at rest
        u = step.cross_targets / np.sqrt(step.sizes * step.counts)
        risk = step.sizes * step.counts * step.weights
        bias = (risk * u).sum(axis=-1, keepdims=True) / risk.sum(axis=-1, keepdims=True)
    more = [np.broadcast_to(x, (*first.shape[:-1], 1)) for x in (np.arcsinh(common / rho), bias)]
    return np.concatenate([first, *more], axis=-1)
