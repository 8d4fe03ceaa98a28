"""STEP under cross-entropy where something is shared by all samples: seven numbers, for a whole grid of parameters
at once.

Beside the five of `cross_entropy_flow` there is a feature of size y t sqrt(beta) that all samples share, by the part
beta of the coupling kernel, and the bias of the logits, delta of a majority class over a minority one. The
margins between the groups are

    nu_A = s y (a f_A + y t sqrt(beta)) + delta + ...,   nu_B = s y (b f_B - y t sqrt(beta)) - delta + ...,

and with S = (k_A n_A w_A q_A - k_B n_B w_B q_B) / n

    y' = s sum_g k_g r_g q_g a_g + s sqrt(beta) y t S,   (y t)' = s sqrt(beta) y S,   delta' = s^2 S,

the last with a bias only; a_g' is as without. This keeps y^2 (1 - t^2) - k_A a^2 - k_B b^2.

Source: derived for this project.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from ssm.theory import cross_entropy_flow
from ssm.theory.cross_entropy_flow import FARTHEST, Parts


class Flow(NamedTuple):
    """The parameters of each group and point, for `implicit`, which follows log x_A, log x_B, log y, log a, log b,
    t and delta."""

    own: cross_entropy_flow.Flow
    """What there is without anything shared."""
    common: Float[np.ndarray, "1 p"]
    """sqrt(beta)."""
    bias: Float[np.ndarray, "1 p"]
    """1 where the logits have a bias, else 0."""

    @property
    def sizes(self) -> Float[np.ndarray, "2 p"]:
        """k_g."""
        return self.own.sizes

    @property
    def by_loss(self) -> bool:
        """Whether times are by the loss."""
        return self.own.by_loss

    def take(self, points: np.ndarray | slice) -> Flow:
        """Those of some points."""
        return Flow(self.own.take(points), self.common[:, points], self.bias[:, points])

    def waiting_for(self, weights: Float[np.ndarray, "5 p"]) -> Flow:
        """The same, with what `progress` is about."""
        return self._replace(own=self.own.waiting_for(weights))

    def parts(self, state: Float[np.ndarray, "7 *s p"]) -> Parts:
        """The parts of a state."""
        own = self.own
        f, s, root = (own.like(x, state) for x in (own.features, own.direction, self.common))
        shared = s * root * np.exp(2 * state[2]) * state[5] + state[6]
        between = s * f * np.exp(state[2] + state[3:5]) + np.concatenate([shared, -shared])
        return own.parts_of(own.margins_within(state), between)

    def log_loss(self, parts: Parts) -> Any:
        """The logarithm of the weighted training loss times e^(least margin)."""
        return self.own.log_loss(parts)

    def features_of(self, state: Float[np.ndarray, "7 *s p"]) -> Any:
        """a and b with their share of the common feature, of either sign."""
        f, root = (self.own.like(x, state) for x in (self.own.features, self.common))
        shared = root * np.exp(state[2]) * state[5]
        return np.exp(state[3:5]) + np.concatenate([shared, -shared]) / f

    def field(self, state: Float[np.ndarray, "7 *s p"]) -> Float[np.ndarray, "7 *s p"]:
        """Slopes of the numbers."""
        return self._slopes(state, self.parts(state))[0]

    def _slopes(self, state: Any, parts: Parts) -> tuple[Any, Any, Any, Any]:
        """Slopes of the numbers, the two parts of that of log y, q_g over the clock, and S."""
        own = self.own
        s, root, bias = (own.like(x, state)[0] for x in (own.direction, self.common, self.bias))
        alone, drawn = own.slopes_of(state[:5], parts)
        log_clock = own.log_loss(parts) if own.by_loss else parts.least
        wrong = np.exp(parts.log_other - log_clock)
        each = own.like(own.risk_shares, state) * wrong
        S = each[0] - each[1]
        grown = alone[2] + s * root * state[5] * S
        turned = s * root * S - state[5] * grown
        slopes = [*alone[:2], grown, *alone[3:], turned, bias * s**2 * S]
        return np.stack(slopes), drawn, wrong, S

    def jacobian(self, state: Float[np.ndarray, "7 p"]) -> Float[np.ndarray, "7 7 p"]:
        """Derivatives of `field`, (slope, by which, point)."""
        own, parts = self.own, self.parts(state)
        slopes, drawn, wrong, S = self._slopes(state, parts)
        within, across = self._margins(state, parts)
        same, other = (np.exp(x - parts.least)[:, None] for x in (parts.log_same, parts.log_other))
        mine = np.exp(parts.log_share)[:, None]
        q = same * within + (other - 1) * across
        pull = (same - mine) * within + (other + mine - 1) * across
        clock = self._clock(parts, within, across) if own.by_loss else 0.0
        q, pull = q - clock, pull - clock
        s, root = own.direction[0], self.common[0]
        J = np.zeros((7, *state.shape))
        ratio = (own.imbalances * np.exp(-state[:2])) ** 2
        for g in (0, 1):
            x, a = g, 3 + g
            J[x] = slopes[x] * pull[g]
            J[x, x] -= slopes[x] * ratio[g] / (4 + ratio[g])
            J[a] = slopes[a] * q[g]
            J[a, 2] += slopes[a]
            J[a, a] -= slopes[a]
            J[2] += drawn[g] * q[g]
            J[2, a] += drawn[g]
            J[2, 2] -= drawn[g]
        each = own.risk_shares * wrong
        moved = each[0] * q[0] - each[1] * q[1]  # derivatives of S
        J[2] += s * root * state[5] * moved
        J[2, 5] += s * root * S
        J[5] = s * root * moved - state[5] * J[2]
        J[5, 5] -= slopes[2]
        J[6] = self.bias[0] * s**2 * moved
        return J

    def _margins(self, state: Any, parts: Parts) -> tuple[Any, Any]:
        """Derivatives of mu_g and nu_g by the seven numbers: (group, 7, p)."""
        own, sign = self.own, np.array([[1.0], [-1.0]])
        within, across = np.zeros((2, 2, *state.shape))
        private = own.direction * own.features * np.exp(state[2] + state[3:5])
        shared = own.direction * self.common * np.exp(2 * state[2])
        for g in (0, 1):
            within[g, g] = parts.within[g]
            across[g, 3 + g] = private[g]
        across[:, 2] = private + sign * 2 * shared * state[5]
        across[:, 5], across[:, 6] = sign * shared, sign
        across += (1 - 1 / own.sizes)[:, None] * within
        return within, across

    def _clock(self, parts: Parts, within: Any, across: Any) -> Any:
        """Derivatives of log L by the seven numbers."""
        own, loss = self.own, parts.log_class_loss
        share = np.exp(np.log(own.risk_shares) + loss - own.log_loss(parts))
        same, other = (share * np.exp(x - loss) for x in (parts.log_same, parts.log_other))
        return -(same[:, None] * within + other[:, None] * across).sum(axis=0)

    def is_far(self, state: Float[np.ndarray, "7 p"]) -> Any:
        """Whether margins are so large that their rounding shows in what the slopes are made of."""
        return self.parts(state).least > FARTHEST

    def blocks(self, state: Float[np.ndarray, "7 *s p"], parts: Parts) -> Any:
        """The share of its target that each group's contrasts have, and the cross component: (3, ...)."""
        each = self.own.like(self._cross_weights, state) * parts.between
        return np.stack([*parts.within, each.sum(axis=0)])

    @property
    def _cross_weights(self) -> Float[np.ndarray, "2 p"]:
        """What multiplies the margins between the groups in the share that the cross component has."""
        return self.own.cross_shares / (self.own.features * self.own.direction)

    def progress(
        self, state: Float[np.ndarray, "7 p"]
    ) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, "7 p"]]:
        """The logarithm of the sum of `waiting` times shares, and its derivatives; a very low one without
        slope where it is not positive."""
        own, parts = self.own, self.parts(state)
        within, across = self._margins(state, parts)
        between = across - (1 - 1 / own.sizes)[:, None] * within
        whole = (self.blocks(state, parts) * own.waiting[:3]).sum(axis=0)
        whole += (own.waiting[3:] * parts.across).sum(axis=0)
        slopes = (own.waiting[:2, None] * within + own.waiting[3:, None] * across).sum(axis=0)
        slopes += own.waiting[2] * (self._cross_weights[:, None] * between).sum(axis=0)
        grown = whole > 0
        safe = np.where(grown, whole, 1.0)
        return np.where(grown, np.log(safe), -700.0), np.where(grown, slopes / safe, 0.0)

    def log_speed(self, state: Float[np.ndarray, "7 *s p"]) -> Any:
        """log(dt / d tau) = -log L of flow time t by the loss clock."""
        parts = self.parts(state)
        return parts.least - self.own.log_loss(parts)
