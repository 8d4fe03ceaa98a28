"""Tests and intervals that may be looked at as often as one likes: e-processes against a reference that is itself
an estimate, and confidence sequences.

An e-process is a number whose mean under the hypothesis is at most 1 at every time at which one may stop, and that grows under
the alternative. The probability that it ever reaches 1 / alpha is at most alpha (Ville's inequality), however often one looks.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy import special

ODDS_RATIOS = np.exp(-np.geomspace(0.125, 4, 8))
"""The drops that are looked for, all with the same weight: odds of a success now over its odds in the reference, from 0.88 to
0.02."""
BETS = np.geomspace(0.01, 0.64, 7)
"""The sizes of bets on a moved mean, in units of 1 over the most by which an observation can fall short of the mean."""
DOUBT = 0.4
"""The kappa by which a p value u of the reference becomes the e-value kappa u^(kappa - 1), whose mean is at most 1."""
IN_LIFE = 0.9
"""The share of the level that is spent on changes within the planned life; the rest is for later changes."""

_NORMAL_SCORES = np.append(np.arange(-7.5, 1.21, 0.15), np.inf)
_P_VALUES = special.ndtr(
    _NORMAL_SCORES
)  # The p values of the candidates for the true rate or mean; the last is 1.


def start_weight(window: int, life: int) -> float:
    """The share of the level that is for a change at the beginning of one window.

    w_s = 0.9 / H in the first H windows, the planned life, and 0.1 H / (s (s - 1)) in later ones. These shares sum to 1.

    Args:
        window: s, which is 1 for the first window.
        life: H, in windows.
    """
    return IN_LIFE / life if window <= life else (1 - IN_LIFE) * life / (window * (window - 1))


def _left(window: int, life: int) -> float:
    """The share of the level for changes after a window, which is 1 minus the sum of the weights so far."""
    return 1 - IN_LIFE * window / life if window < life else (1 - IN_LIFE) * life / window


@dataclasses.dataclass
class Evidence:
    """The e-processes of m series, each a sum over the windows at which its rate may have changed.

        E_t(theta) = sum_{s <= t} w_s (1/J) sum_j prod_{i = s..t} L_i(j, theta) + sum_{s > t} w_s,

    where s is that window, theta a candidate for the true rate of the reference, and L_i(j, theta) the likelihood ratio of window i for
    bet j, whose mean is at most 1 unless the rate is worse than theta. The number that is compared with 1 / alpha is the least over
    theta of E_t(theta) times the e-value of the reference against theta: it is large only where no theta that agrees with the
    reference explains the observations. This bound holds for every true rate, and accounts for the noise of the reference.

    Source: Howard, Ramdas, McAuliffe and Sekhon 2021 (mixtures); Shin, Ramdas and Rinaldo 2024 (changes); Vovk and
    Wang 2021 (from p values to e-values, products).
    """

    doubt: Float[np.ndarray, "m t"]
    """Log e-values of the reference against each of t candidates theta."""
    life: int
    """The planned number of windows, H."""
    windows: int
    """The number of windows so far."""
    log_sums: Float[np.ndarray, "m j t"]
    """The logarithms of the sums over s, by bet and candidate."""

    @classmethod
    def begun(cls, doubt: Float[np.ndarray, "m t"], num_bets: int, life: int) -> Evidence:
        """The evidence before the first window."""
        m, t = doubt.shape
        return cls(doubt, life, 0, np.full((m, num_bets, t), -np.inf))

    def after(
        self, log_likelihoods: Float[np.ndarray, "m j t"]
    ) -> tuple[Evidence, Float[np.ndarray, " m"]]:
        """The evidence one window later, and its logarithm, shape (m,).

        Args:
            log_likelihoods: log L of all observations of the window together, by series, bet and candidate.
        """
        window = self.windows + 1
        begun = np.logaddexp(self.log_sums, np.log(start_weight(window, self.life)))
        sums = begun + log_likelihoods
        mixed = special.logsumexp(sums, axis=1) - np.log(sums.shape[1])
        mixed = np.logaddexp(mixed, np.log(_left(window, self.life)))
        return Evidence(self.doubt, self.life, window, sums), (mixed + self.doubt).min(axis=1)


class Rates(NamedTuple):
    """The reference of m rates of success: t candidates for each true rate, and log e-values of the reference against each."""

    rates: Float[np.ndarray, "m t"]
    doubt: Float[np.ndarray, "m t"]

    @classmethod
    def of(cls, successes: ArrayLike, trials: ArrayLike) -> Rates:
        """Candidates that bound E_t between them: E_t falls as theta does, and so does the p value P(Bin(n_0, theta) >= s_0), so that
        each candidate is given the e-value of the next larger one.

        Args:
            successes: s_0 of each series, shape (m,).
            trials: n_0, shape (m,); 0 where there is no reference, so that there is never an alarm.
        """
        s, n = (np.asarray(x, float)[:, None] for x in (successes, trials))
        known = s > 0
        inner = special.betaincinv(np.where(known, s, 1), np.maximum(n - s, 0) + 1, _P_VALUES[:-1])
        rates = np.where(known, np.hstack([np.zeros((len(s), 1)), inner]), 0.0)
        doubt = np.log(DOUBT) + (DOUBT - 1) * np.log(_P_VALUES)
        return cls(rates, np.broadcast_to(doubt, rates.shape))

    def log_likelihoods(
        self, successes: ArrayLike, trials: ArrayLike
    ) -> Float[np.ndarray, "m j t"]:
        """The logarithm of r_j^S / (1 - theta + theta r_j)^N, shape (m, j, t): the likelihood of S successes in N trials where the
        odds are r_j times those of theta, over their likelihood at theta."""
        s, n = (np.asarray(x, float)[:, None, None] for x in (successes, trials))
        r = ODDS_RATIOS[:, None]
        return s * np.log(r) - n * np.log1p(self.rates[:, None] * (r - 1))


class Means(NamedTuple):
    """The reference of m means of numbers in [-1, 1]: t candidates for each true mean, log e-values of the reference against each, and
    the direction in which a change of the mean is an alarm."""

    means: Float[np.ndarray, "m t"]
    doubt: Float[np.ndarray, "m t"]
    sign: Float[np.ndarray, "m 1"]

    @classmethod
    def of(cls, mean: ArrayLike, error: ArrayLike, sign: ArrayLike) -> Means:
        """Candidates at multiples of the standard error around the reference's mean, with p values of the normal law.

        Args:
            mean: the means of the reference, shape (m,).
            error: their standard errors, shape (m,); infinite where there is no reference, so that there is never an alarm.
            sign: 1 where a larger mean is an alarm, -1 where a smaller one is, shape (m,).
        """
        m, e, d = (np.asarray(x, float)[:, None] for x in (mean, error, sign))
        reach = np.where(np.isfinite(e), e, 1e9) * -_NORMAL_SCORES[:-1]
        # Means are mirrored by their sign, so that in every series a larger mean is the alarm.
        inner = np.clip(d * m + reach, -0.999, 1)
        means = np.hstack([np.ones_like(m), inner])
        doubt = np.log(DOUBT) + (DOUBT - 1) * np.log(_P_VALUES)
        return cls(means, np.broadcast_to(doubt, means.shape), d)

    def log_likelihoods(
        self, count: ArrayLike, total: ArrayLike, squares: ArrayLike
    ) -> Float[np.ndarray, "m j t"]:
        """lambda_j sum xi + (lambda_j + log(1 - lambda_j)) sum xi^2 with xi = (x - theta) / (1 + theta) >= -1, shape (m, j, t):
        the logarithm of a supermartingale for numbers x of any law whose mean is at most theta.

        Args:
            count, total, squares: how many numbers x there are, their sum, and the sum of their squares, each of shape (m,).

        Source: Fan, Grama and Liu 2015; Howard et al. 2021 (empirical Bernstein).
        """
        n, s, q = (np.asarray(x, float)[:, None] for x in (count, total, squares))
        s, scale = self.sign * s, 1 + self.means
        linear = ((s - n * self.means) / scale)[:, None]
        square = ((q - 2 * self.means * s + n * self.means**2) / scale**2)[:, None]
        bets = BETS[:, None]
        return bets * linear + (bets + np.log1p(-bets)) * square


def confidence_sequence(
    successes: ArrayLike, trials: ArrayLike, alpha: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """The ends of intervals for a rate that contain it at all numbers of trials at once with probability 1 - alpha.

    An interval holds each p at which Beta(S + 1/2, F + 1/2) / Beta(1/2, 1/2) / (p^S (1 - p)^F) < 1 / alpha, with S successes and F
    failures. Without any trial it is all of [0, 1].

    Example:
        >>> low, high = confidence_sequence([85], [100], 0.05)
        >>> low.round(2).tolist(), high.round(2).tolist()
        ([0.71], [0.94])

    Args:
        successes, trials, alpha: arrays that broadcast against each other.

    Source: Robbins 1970; Howard, Ramdas, McAuliffe and Sekhon 2021.
    """
    s, n, a = np.broadcast_arrays(*(np.asarray(x, float) for x in (successes, trials, alpha)))
    f = n - s
    most = special.betaln(s + 0.5, f + 0.5) - special.betaln(0.5, 0.5) + np.log(a)
    centre = np.where(n > 0, s / np.maximum(n, 1), 0.5)

    def inside(p: np.ndarray) -> np.ndarray:
        return special.xlogy(s, p) + special.xlog1py(f, -p) > most

    ends = []
    for outer in (np.zeros_like(s), np.ones_like(s)):
        near, far = centre.copy(), outer
        for _ in range(50):
            middle = (near + far) / 2
            kept = inside(middle)
            near, far = np.where(kept, middle, near), np.where(kept, far, middle)
        ends.append(np.where(inside(outer), outer, far))
    return ends[0], ends[1]
