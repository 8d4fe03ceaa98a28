"""Components that several layers learn, each alone, in closed form or by one integral, in float64 NumPy and SciPy."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from ssm.support import checks, errors

Times = Float[np.ndarray, " t"]
Rows = Float[np.ndarray, "*_ r"]


def deep_mode(
    times: Times, rates: Rows, start: Rows, target: Rows, depth: int, kernel: Rows | float = 1.0
) -> Float[np.ndarray, "*grid t r"]:
    """Strengths a_j(t) under L = `depth` factors, features among them, from a balanced spectral
    start.

        a' = L r sqrt(kappa) (a / sqrt(kappa))^(2 - 2 / L) (1 - a / s),   r = w s sqrt(kappa) / n

    with r the rate of two factors (`theory.component_growth_rates`): L = 2 is `theory.sigmoid`,
    and this is exact where that is. Factors that start at e, the features at sqrt(kappa) e, have
    a_0 = sqrt(kappa) e^L. Closed for L = 1 and 2, else integrated by DOP853 at rtol 1e-13.

    `rates`, `start`, `target` are r_j, a_j(0) > 0, s_j, and `kernel` is kappa of each component's classes, 1
    for free ones: each of shape (r,), or (..., r) for several problems at once, broadcast against each other.
    Depth 1 is features alone, the logits themselves. Shape (..., t, r).
    Source: Saxe, McClelland, Ganguli 2014; weights and coupling derived here.
    """
    speed, share, target = _deep(rates, start, target, depth, kernel)
    if depth <= 2:
        gone = np.exp(-flow_times(times)[:, None] * speed[..., None, :])
        share, target = share[..., None, :], target[..., None, :]
        left = (1 - share) * gone
        return target * (1 - left if depth == 1 else share / (share + left))
    every = speed.ravel()

    def field(_: float, g: np.ndarray) -> np.ndarray:
        rest = 1 - g**depth
        return every / depth * g ** (depth - 1) * np.where(np.abs(rest) < 1e-12, 0, rest)

    found = _integrate(field, share.ravel() ** (1 / depth), flow_times(times)) ** depth
    return target[..., None, :] * np.moveaxis(found.reshape(-1, *share.shape), 0, -2)


def deep_learning_time(
    rates: Rows,
    start: Rows,
    target: Rows,
    depth: int,
    kernel: Rows | float = 1.0,
    level: float = 0.5,
) -> Rows:
    """When `deep_mode`, whose arguments and errors these are, reaches `level` in (0, 0.999] of
    its target, in flow time, never below 0; shape (..., r).

    t = int da / a' is (L / R) int (g^(1 - L) + g / (1 - g^L)) dg over g = (a / s)^(1 / L), with R =
    L r (s / sqrt(kappa))^(1 - 2 / L): a power and a quadrature. From a small start e it takes a time that
    grows as e^(2 - L) for L > 2. Derived here.
    """
    from scipy.integrate import quad

    end = checks.real("level", level, 0, 0.999, open_ends="(") ** (1 / depth)
    speed, share, _ = _deep(rates, start, target, depth, kernel)
    first, p = np.minimum(share ** (1 / depth), end), 2 - depth
    power = np.log(end / first) if p == 0 else (end**p - first**p) / p
    rest = [
        quad(lambda g: g / (1 - g**depth), g, end, epsabs=0, epsrel=1e-13)[0] for g in first.flat
    ]
    return depth / speed * (power + np.reshape(rest, first.shape))


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


def flow_times(times: Float[np.ndarray, "*grid t"]) -> Float[np.ndarray, "*grid t"]:
    """The times, or InputError where one is negative or not finite."""
    if not (np.isfinite(times) & (times >= 0)).all():
        raise errors.invalid("times", times, "finite and not negative")
    return times


def _integrate(field: Any, start: np.ndarray, times: Times) -> Any:
    """The states (t, r) at times in any order, each number as exact as its own size allows."""
    from scipy.integrate import solve_ivp

    ordered, where = np.unique(np.append(0.0, times), return_inverse=True)
    options = {"rtol": 1e-13, "atol": 1e-14 * np.abs(start).min()}
    done = solve_ivp(field, (0, max(ordered[-1], 1e-300)), start, "DOP853", ordered, **options)
    return done.y.T[where[1:]]


def spectral_learning_time(
    targets: Float[np.ndarray, " r"], start: float, depth: int, level: float = 0.5
) -> Float[np.ndarray, " r"]:
    """When components reach `level` of their targets under spectral gradient descent, in steps times
    learning rate: (level s)^(1/L) - eps, all at one rate.

    A step moves every singular direction of each of L layers by the learning rate, whatever the
    gradient's size, so that from factors of eps each a component has strength (eps + t)^L until it
    is learned, T = s^(1/L) - eps. Components with the smallest targets end first.

    Source: in kind Vasudeva, Deora, Zhao, Sharan, Thrampoulidis 2025; the times are derived for this
    project.
    """
    return (level * targets) ** (1 / depth) - start
