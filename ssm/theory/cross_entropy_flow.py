"""STEP under cross-entropy as five numbers, for a whole grid of parameters at once.

Every state that is symmetric within each of two groups A and B, with equal features in a class, stays so. It
is held by the product strength x_g of each group's contrasts, the classifier y on the direction between the
groups, and the features there, a f_A and -b f_B with f_g = sqrt(kappa_g / n_g). With r_g = w_g sqrt(n_g
kappa_g) / n and s = sqrt(1 / k_A + 1 / k_B) a class has the margins

    mu_g = x_g f_g    over a class of its own group,    nu_g = s y a_g f_g + (1 - 1 / k_g) mu_g    over one
    of the other group h,

so with D_g = 1 + (k_g - 1) e^-mu_g + k_h e^-nu_g the probability that its samples have of the other group is
q_g = k_h e^-nu_g / D_g, their loss is log D_g, and

    x_g' = r_g sqrt(4 x_g^2 + lam_g^2) (k_g e^-mu_g + k_h e^-nu_g) / D_g,
    y' = s sum_g k_g r_g q_g a_g,    a_g' = s r_g q_g y,

which keeps lam_g, the difference of the squares of the factors of x_g, and y^2 - k_A a^2 - k_B b^2.

Source: derived for this project.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

FARTHEST = 1e12  # margin
SMALL = -36.0  # log(log(1 + e^z)) is z to rounding below this


class Parts(NamedTuple):
    """What the slopes are made of at a state, by group first.

    Logarithms are those of the number times e^(least margin), so that their differences do not lose the digits
    that large margins leave to them: each margin is rounded once, which the stiff flow answers by a shift as
    small as that rounding, and what is made of margins agrees.
    """

    within: Any
    """mu_g."""
    between: Any
    """s y a_g f_g, the part of nu_g between the groups."""
    across: Any
    """nu_g."""
    log_same: Any
    """Of the probability of the other classes of the own group."""
    log_other: Any
    """Of q_g."""
    log_pull: Any
    """Of (k_g e^-mu_g + k_h e^-nu_g) / D_g."""
    log_share: Any
    """Of the part of k_g e^-mu_g in that sum."""
    log_class_loss: Any
    """Of log D_g."""
    least: Any
    """The least of all margins, without an axis of groups."""


class Flow(NamedTuple):
    """The parameters of each group and point, for `implicit`, which follows log x_A, log x_B, log y, log a and
    log b."""

    sizes: Float[np.ndarray, "2 p"]
    """k_g."""
    features: Float[np.ndarray, "2 p"]
    """f_g."""
    rates: Float[np.ndarray, "2 p"]
    """r_g, per unit of time."""
    imbalances: Float[np.ndarray, "2 p"]
    """lam_g."""
    risk_shares: Float[np.ndarray, "2 p"]
    """k_g n_g w_g / n."""
    direction: Float[np.ndarray, "1 p"]
    """s."""
    waiting: Float[np.ndarray, "5 p"]
    """Weights of mu_A, mu_B, the share of the cross component, nu_A and nu_B in what `progress` is about."""
    cross_shares: Float[np.ndarray, "2 p"]
    """What multiplies y a and y b in the share that the cross component has of its target."""
    by_loss: bool = False
    """Whether times are tau, d tau = L dt, rather than flow time."""

    def take(self, points: np.ndarray | slice) -> Flow:
        """Those of some points."""
        *numbers, by_loss = self
        return Flow(*(each[:, points] for each in numbers), by_loss=by_loss)

    def waiting_for(self, weights: Float[np.ndarray, "5 p"]) -> Flow:
        """The same, with what `progress` is about."""
        return self._replace(waiting=weights)

    def parts(self, state: Float[np.ndarray, "5 *s p"]) -> Parts:
        """The parts of a state."""
        f, s = (self.like(x, state) for x in (self.features, self.direction))
        return self.parts_of(self.margins_within(state), s * f * np.exp(state[2] + state[3:5]))

    def margins_within(self, state: Any) -> Any:
        """mu_g, 0 in a group of a single class."""
        k, f = (self.like(x, state) for x in (self.sizes, self.features))
        several = k > 1
        return np.where(several, f, 0) * np.exp(np.where(several, state[:2], 0))

    def parts_of(self, within: Any, between: Any) -> Parts:
        """The parts at given margins, within groups and between them."""
        k = self.like(self.sizes, within)
        several = k > 1
        across = between + (1 - 1 / k) * within
        least = np.minimum(np.where(several, within, np.inf), across).min(axis=0)
        own = np.log(k) - (within - least)
        same, other = _log(k - 1) - (within - least), np.log(k[::-1]) - (across - least)
        wrong = np.logaddexp(same, other)
        log_D = np.logaddexp(0, wrong - least)
        log_loss = np.where(wrong - least < SMALL, wrong, _log(log_D) + least)
        pull = np.logaddexp(own, other)
        return Parts(
            within,
            between,
            across,
            same - log_D,
            other - log_D,
            pull - log_D,
            own - pull,
            log_loss,
            least,
        )

    def log_loss(self, parts: Parts) -> Any:
        """The logarithm of the weighted training loss times e^(least margin)."""
        each = np.log(self.like(self.risk_shares, parts.within)) + parts.log_class_loss
        return np.logaddexp(each[0], each[1])

    def field(self, state: Float[np.ndarray, "5 *s p"]) -> Float[np.ndarray, "5 *s p"]:
        """Slopes of the numbers."""
        return self.slopes_of(state, self.parts(state))[0]

    def slopes_of(self, state: Any, parts: Parts) -> tuple[Any, Any]:
        """Slopes of the numbers, and the two parts of that of log y."""
        k, r, s = (self.like(x, state) for x in (self.sizes, self.rates, self.direction))
        log_clock = self.log_loss(parts) if self.by_loss else parts.least
        ratio = self.like(self.imbalances, state) * np.exp(-state[:2])
        contrasts = r * np.hypot(2, ratio) * np.exp(parts.log_pull - log_clock)
        contrasts = np.where(k > 1, contrasts, 0)
        turn = state[2] - state[3:5]
        toward = s * r * np.exp(parts.log_other - log_clock + turn)
        drawn = k * toward * np.exp(-2 * turn)
        return np.stack([*contrasts, drawn.sum(axis=0), *toward]), drawn

    def jacobian(self, state: Float[np.ndarray, "5 p"]) -> Float[np.ndarray, "5 5 p"]:
        """Derivatives of `field`, (slope, by which, point)."""
        parts = self.parts(state)
        slopes, drawn = self.slopes_of(state, parts)
        same, other = np.exp(parts.log_same - parts.least), np.exp(parts.log_other - parts.least)
        mine = np.exp(parts.log_share)
        by_state = self._chain(parts)
        # Derivatives of log q_g, of the logarithm of the pull and of log L, by log x_g, log y and log a_g
        q = by_state(same, other - 1)
        pull = by_state(same - mine, other + mine - 1)
        J = np.zeros((len(state), *state.shape))
        clock = self._clock(parts, by_state) if self.by_loss else np.zeros_like(state)
        ratio = (self.imbalances * np.exp(-state[:2])) ** 2
        for g in (0, 1):
            x, a = g, 3 + g
            for row, slope, own in (
                (x, slopes[x], pull[g]),
                (a, slopes[a], q[g]),
                (2, drawn[g], q[g]),
            ):
                J[row, [x, 2, a]] += slope * own
                J[row] -= slope * clock
            J[x, x] -= slopes[x] * ratio[g] / (4 + ratio[g])
            J[a, 2] += slopes[a]
            J[a, a] -= slopes[a]
            J[2, a] += drawn[g]
            J[2, 2] -= drawn[g]
        return J

    def _chain(self, parts: Parts) -> Any:
        """Derivatives by mu_g and nu_g turned into those by log x_g, log y, log a_g: (group, 3, p)."""

        def by_state(by_within: Any, by_across: Any) -> Any:
            of_x = (by_within + by_across * (1 - 1 / self.sizes)) * parts.within
            of_others = by_across * parts.between
            return np.stack([of_x, of_others, of_others], axis=1)

        return by_state

    def _clock(self, parts: Parts, by_state: Any) -> Any:
        """Derivatives of log L by the five logarithms."""
        loss = parts.log_class_loss
        share = np.exp(np.log(self.risk_shares) + loss - self.log_loss(parts))
        each = by_state(
            -share * np.exp(parts.log_same - loss), -share * np.exp(parts.log_other - loss)
        )
        return np.stack([each[0, 0], each[1, 0], each[:, 1].sum(axis=0), each[0, 2], each[1, 2]])

    def features_of(self, state: Float[np.ndarray, "5 *s p"]) -> Any:
        """a and b."""
        return np.exp(state[3:])

    def is_far(self, state: Float[np.ndarray, "5 p"]) -> Any:
        """Whether margins are so large that their rounding shows in what the slopes are made of."""
        return self.parts(state).least > FARTHEST

    def blocks(self, state: Float[np.ndarray, "5 *s p"], parts: Parts) -> Any:
        """The share of its target that each group's contrasts have, and the cross component: (3, ...)."""
        each = self.like(self.cross_shares, state) * np.exp(state[2] + state[3:5])
        return np.stack([*parts.within, each.sum(axis=0)])

    def progress(
        self, state: Float[np.ndarray, "5 p"]
    ) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, "5 p"]]:
        """The logarithm of the sum of `waiting` times shares, and its derivatives."""
        parts = self.parts(state)
        across = self.waiting[3:] * (1 - 1 / self.sizes)
        within = (self.waiting[:2] + across) * parts.within
        each = self.cross_shares * np.exp(state[2] + state[3:5]) * self.waiting[2]
        each = each + self.waiting[3:] * parts.between
        cross = each.sum(axis=0)
        whole = within.sum(axis=0) + cross
        return np.log(whole), np.stack([*within, cross, *each]) / whole

    def log_speed(self, state: Float[np.ndarray, "5 *s p"]) -> Any:
        """log(dt / d tau) = -log L of flow time t by the loss clock."""
        parts = self.parts(state)
        return parts.least - self.log_loss(parts)

    @staticmethod
    def like(numbers: Float[np.ndarray, "g p"], state: Any) -> Any:
        """Numbers of groups and points, to go with a state of more dimensions."""
        return numbers.reshape(len(numbers), *(1,) * (state.ndim - 2), -1)


def _log(x: Any) -> Any:
    """The logarithm, -inf at 0."""
    with np.errstate(divide="ignore"):
        return np.log(x)
