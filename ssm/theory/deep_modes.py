"""Components that several layers learn, each alone, in closed form or by one number that is followed, in float64 NumPy and SciPy."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from ssm.support import checks, errors
from ssm.theory import implicit
from ssm.theory.growth import Numbers, Values

Times = Float[np.ndarray, "*_ t"]
Rows = Float[np.ndarray, "*_ r"]


def deep_mode(
    times: Times, rates: Rows, start: Rows, target: Rows, depth: int, kernel: Rows | float = 1.0
) -> Float[np.ndarray, "*grid t r"]:
    """Strengths a_j(t) under L = `depth` factors, features among them, from a balanced spectral
    start.

        a' = L r sqrt(kappa) (a / sqrt(kappa))^(2 - 2 / L) (1 - a / s),   r = w s sqrt(kappa) / n

    with r the rate of two factors (`theory.component_growth_rates`): L = 2 is `theory.sigmoid`,
    and this is exact where that is. Factors that start at e, the features at sqrt(kappa) e, have
    a_0 = sqrt(kappa) e^L. Closed for L = 1 and 2, else integrated (`implicit`) to some 1e-14 of each number.

    `rates`, `start`, `target` are r_j, a_j(0) > 0, s_j, and `kernel` is kappa of each component's classes, 1
    for free ones: each of shape (r,), or (..., r) for several problems at once, and `times` (t,), or (..., t) where
    each has its own; leading axes broadcast. Depth 1 is features alone, the logits themselves. Shape (..., t, r).
    Source: Saxe, McClelland, Ganguli 2014; weights and coupling derived here.
    """
    speed, share, target = _deep(rates, start, target, depth, kernel)
    if depth <= 2:
        gone = np.exp(-flow_times(times)[..., :, None] * speed[..., None, :])
        share, target = share[..., None, :], target[..., None, :]
        left = (1 - share) * gone
        return target * (1 - left if depth == 1 else share / (share + left))
    own = flow_times(times)[..., None, :]
    shape = np.broadcast_shapes(share.shape, own.shape[:-1])
    speeds, shares = (np.broadcast_to(x, shape).ravel() for x in (speed, share))
    each = np.broadcast_to(own, (*shape, own.shape[-1])).reshape(speeds.size, -1)
    found, _ = implicit.states(each, _Flow(speeds, 1 - 2 / depth), np.log(shares)[None])
    reached = np.exp(found[0]).reshape(*shape, own.shape[-1])
    return target[..., None, :] * reached.swapaxes(-1, -2)


class _Flow(NamedTuple):
    """u' = R e^(p u) (1 - e^u) of u = log y, for `implicit`."""

    speeds: Float[np.ndarray, " p"]
    """R."""
    power: float
    """p = 1 - 2 / L."""

    def field(self, state: Float[np.ndarray, "1 *s p"]) -> Float[np.ndarray, "1 *s p"]:
        return -self.speeds * np.exp(self.power * state) * np.expm1(state)

    def jacobian(self, state: Float[np.ndarray, "1 p"]) -> Float[np.ndarray, "1 1 p"]:
        scale = self.speeds * np.exp(self.power * state)
        return (-scale * (self.power * np.expm1(state) + np.exp(state)))[None]

    def progress(self, state: Float[np.ndarray, "1 p"]) -> tuple[np.ndarray, np.ndarray]:
        return state[0], np.ones_like(state)

    def take(self, points: np.ndarray | slice) -> _Flow:
        return self._replace(speeds=self.speeds[points])


def deep_learning_time(
    rates: Rows,
    start: Rows,
    target: Rows,
    depth: int,
    kernel: Rows | float = 1.0,
    level: Values = 0.5,
) -> Rows:
    """When `deep_mode`, whose arguments and errors these are, reaches `level` in (0, 0.999] of
    its target, in flow time, never below 0; levels broadcast too, shape (..., r).

    t = int da / a' is (L / R) int (g^(1 - L) + g / (1 - g^L)) dg over g = (a / s)^(1 / L), with R =
    L r (s / sqrt(kappa))^(1 - 2 / L): a power, and with y = a / s the difference of y^(2 / L) F(1, 2 / L; 1 + 2 / L; y) / 2,
    F the hypergeometric function, between the ends. From a small start e it takes a time that
    grows as e^(2 - L) for L > 2. Derived here.
    """
    from scipy.special import hyp2f1

    levels = fractions("level", level, 0.999)
    speed, share, _ = _deep(rates, start, target, depth, kernel)
    end, share = np.broadcast_arrays(levels, share)
    first, p, a = np.minimum(share, end), 2 - depth, 2 / depth
    power = (
        np.log(end / first) / depth if p == 0 else (end ** (p / depth) - first ** (p / depth)) / p
    )
    rest = [y**a / 2 * hyp2f1(1, a, 1 + a, y) for y in (first, end)]
    return depth / speed * (power + rest[1] - rest[0])


def _deep(
    rates: Rows, start: Rows, target: Rows, depth: int, kernel: Any
) -> tuple[Rows, Rows, Rows]:
    """R in y' = R y^(2 - 2 / L) (1 - y), y the share of the target, and y at t = 0; the target. All of one
    shape."""
    checks.integer("depth", depth, 1, 1000)
    if not (start > 0).all():
        raise errors.invalid("start", start, "positive")
    speed = depth * rates * (target / np.sqrt(kernel)) ** (1 - 2 / depth)
    speed, share, target = np.broadcast_arrays(speed, start / target, target)
    return speed, share, target


def fractions(name: str, values: Values, high: float) -> Float[np.ndarray, "*shape"]:
    """The values as an array, or InputError where one is not above 0 and at most `high`."""
    found = np.asarray(values, dtype=float)
    if not ((found > 0) & (found <= high)).all():
        raise errors.invalid(name, values, f"a finite number in (0, {high:g}]")
    return found


def flow_times(times: Float[np.ndarray, "*grid t"]) -> Float[np.ndarray, "*grid t"]:
    """The times, or InputError where one is negative or not finite."""
    if not (np.isfinite(times) & (times >= 0)).all():
        raise errors.invalid("times", times, "finite and not negative")
    return times


def spectral_learning_time(
    targets: Values, start: Values, depth: Values, level: Values = 0.5
) -> Numbers:
    """When components reach `level` of their targets under spectral gradient descent, in steps times
    learning rate: (level s)^(1/L) - eps, all at one rate.

    A step moves every singular direction of each of L layers by the learning rate, whatever the
    gradient's size, so that from factors of eps each a component has strength (eps + t)^L until it
    is learned, T = s^(1/L) - eps. Components with the smallest targets end first. All numbers broadcast.

    Source: in kind Vasudeva, Deora, Zhao, Sharan, Thrampoulidis 2025; the times are derived for this
    project.
    """
    reached = np.asarray(level) * np.asarray(targets)
    return (reached ** (1 / np.asarray(depth)) - np.asarray(start))[()]
