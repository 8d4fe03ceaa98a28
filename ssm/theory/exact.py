"""Exact solutions of the squared loss, and of cross-entropy under STEP, in float64 NumPy and SciPy, apart from
the solver of runs.

dW/dt = (S - W H) Omega H^T / n, dH/dt = W^T (S - W H) Omega K / n under the squared loss. Times are flow time,
the number of steps times the learning rate for small steps. All raise ValueError, with name, value and what is allowed,
for an argument that cannot be used.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from ssm.measures import spectral
from ssm.problem import Problem
from ssm.problem.weights import Counts
from ssm.support import checks, errors
from ssm.theory import cross_flow, implicit, shared_cross_flow
from ssm.theory.cross_entropy import (
    CrossEntropyCurves,
    SymmetricStart,
    cross_entropy_class_times,
    cross_entropy_learning_times,
    cross_entropy_step,
    growing_start,
    symmetric_start,
)
from ssm.theory.deep_modes import (
    deep_learning_time,
    deep_mode,
    flow_times,
    fractions,
    spectral_learning_time,
)
from ssm.theory.groups import Step, step_of
from ssm.theory.growth import Values

__all__ = [
    "CrossEntropyCurves",
    "SymmetricStart",
    "balanced_flow",
    "balanced_learning_times",
    "cross_entropy_class_times",
    "cross_entropy_learning_times",
    "cross_entropy_step",
    "cross_learning_time",
    "cross_mode",
    "cross_parts",
    "deep_learning_time",
    "deep_mode",
    "growing_start",
    "spectral_learning_time",
    "symmetric_start",
]

Times = Float[np.ndarray, " t"]
Row = Float[np.ndarray, " r"]
Classifier = Float[np.ndarray, "k d"]
Features = Float[np.ndarray, "d n"]


def balanced_flow(
    times: Times, W: Classifier, H: Features, counts: Counts, balance: float = 0.0
) -> Float[np.ndarray, "t k k"]:
    """Class-mean logits W(t) M(t) from any start with W^T W - H H^T = balance I; unit weights, free
    features.

    Q = [H^T; W] obeys n Q' = F Q - Q Q^T Q / 2, F = [[-balance I / 2, S^T], [S, balance I / 2]]:

        Q Q^T = e^(F t) Q_0 [I + Q_0^T (int_0^t e^(2 F s) ds) Q_0]^-1 Q_0^T e^(F t)

    with t in units of n; 2 k directions of F and a d x d factor of what in H is not constant on
    classes are enough. Nothing overflows, so t may be any float. The end is S, or its best fit of
    rank d; modes of eigenvalue 0 make the way there as slow as n / t when d >= k.

    Args:
        times: flow time, shape (t,), in any order, finite and not negative.
        W, H: the start, the samples of H sorted by class, balanced to 1e-10 of |W|^2 + |H|^2.
        counts: samples n_c of each class, n = sum of them.
        balance: lambda; 0 is a balanced start. Negative where the features are the larger, H =
            (W^T W + |lambda| I)^(1/2) O with O O^T = I; positive only if d <= k.

    Shape (t, k, k), [time, logit, class], right to some roundings of the largest logit.
    Source: Fukumizu 1998; Braun, Domine, Fitzgerald, Saxe 2022; balance != 0 Domine et al. 2024.
    Reduction to classes and stable evaluation derived here.
    """
    return _logits(flow_times(times), _modes(W, H, np.asarray(counts), balance))


def balanced_learning_times(
    W: Classifier, H: Features, counts: Counts, balance: float = 0.0, level: float = 0.5
) -> Row:
    """When the share u_j^T Z v_j / s_j of each component first reaches `level` in (0, 1), in flow
    time; NaN where it never does.

    Bracketed on times half a percent apart, up to 40 e-folds after the slowest mode has grown from
    its start, and refined by root finding on `balanced_flow`, whose arguments and errors these are.
    Shape (k - 1,), in the order of `spectral.label_spectrum(counts)`.
    """
    from scipy.optimize import brentq

    checks.real("level", level, 0, 1, open_ends="()")
    modes = _modes(W, H, np.asarray(counts), balance)
    n, (k, d), largest, smallest = modes.counts.sum(), W.shape, *modes.components[1][[0, -1]]

    def shares(times: np.ndarray) -> np.ndarray:
        sums = _logits(times, modes) * modes.counts
        return spectral.strengths(sums, modes.components) / modes.components.singular_values

    start = np.linalg.svd(modes.rows[: k - 1], compute_uv=False).min()
    slowest = smallest**2 / (np.hypot(smallest, balance / 2) + abs(balance) / 2)
    if d < k - 1 and modes.rates[d - 1] > modes.rates[d]:  # in the end the d fastest are left
        slowest = min(slowest, modes.rates[d - 1] - modes.rates[d])
    last = n * (np.log(1 + largest / max(start, 1e-150) ** 2) + 80) / (2 * slowest)
    first = 1e-3 * n / (modes.rates.max() + (modes.rows**2).sum())
    grid = np.append(0.0, np.geomspace(first, last, int(200 * np.log(last / first)) + 2))
    reached = shares(grid) >= level
    times = np.where(reached[0], 0.0, np.nan)
    for j in np.flatnonzero(reached.any(axis=0) & ~reached[0]):
        ends = grid[reached[:, j].argmax() - np.array([1, 0])]
        times[j] = brentq(lambda t, j=j: shares(np.array([t]))[0, j] - level, *ends, xtol=1e-300)
    return times


class _Modes(NamedTuple):
    """A start in the eigenvectors of F. First those that grow, then those that decay, then the two that
    have no target, of H and of W, then the rest of H."""

    rates: Float[np.ndarray, " m"]  # eigenvalues, in units of 1 / n
    vectors: Float[np.ndarray, "2*k 2*k"]  # over class indicators of unit length, then logits
    rows: Float[np.ndarray, "m d"]  # the coefficient of Q_0 on each
    counts: Int[np.ndarray, " k"]
    components: spectral.LabelSpectrum


def _modes(W: np.ndarray, H: np.ndarray, counts: np.ndarray, balance: float) -> _Modes:
    """The modes of a start; raises InputError where it is not balanced."""
    k, d = len(counts), W.shape[1]
    if len(W) != k or H.shape != (d, counts.sum()):
        shapes, allowed = (W.shape, H.shape, k), "(k, d), (d, sum of counts), k"
        raise errors.invalid("shapes of W, H and counts", shapes, allowed)
    error = np.abs(W.T @ W - H @ H.T - balance * np.eye(d)).max()
    if not error <= 1e-10 * ((W**2).sum() + (H**2).sum()):
        raise errors.invalid("balance", balance, f"W^T W - H H^T over I; {error:.1e} off")
    means = np.add.reduceat(H, np.cumsum(counts) - counts, axis=1) / counts
    rest = np.linalg.qr((H - np.repeat(means, counts, axis=1)).T, mode="r")
    components = spectral.label_spectrum(counts)  # equal rates are equal to the last bit
    u, s, half = components.left, components.singular_values, balance / 2
    v, angle, rate = np.sqrt(counts)[:, None] * u / s, np.arctan2(s, -half) / 2, np.hypot(s, half)
    cos, sin, none = np.cos(angle), np.sin(angle), np.zeros((k, 1))
    v_0 = np.sqrt(1 / counts / (1 / counts).sum())[:, None]
    of_means = np.hstack([v * cos, -v * sin, v_0, none])
    vectors = np.vstack([of_means, np.hstack([u * sin, u * cos, none, none + np.sqrt(1 / k)])])
    rows = vectors.T @ np.vstack([np.sqrt(counts)[:, None] * means.T, W])
    rates = np.concatenate([rate, -rate, [-half, half], np.full(len(rest), -half)])
    return _Modes(rates, vectors, np.vstack([rows, rest]), counts, components)


def _logits(times: Times, modes: _Modes) -> Float[np.ndarray, "t k k"]:
    """Class-mean logits at each time."""
    k, batch = len(modes.counts), max(1, 60_000 // modes.rows.size)  # times that fit a cache
    units = np.maximum(times / modes.counts.sum(), 1e-200)  # which is 0, to rounding
    out = np.empty((len(times), k, k))
    for i in range(0, len(times), batch):
        Q = modes.vectors @ _solution(units[i : i + batch], modes)[:, : 2 * k]
        out[i : i + batch] = Q[:, k:] @ Q[:, :k].transpose(0, 2, 1) / np.sqrt(modes.counts)
    return out


def _solution(times: Times, modes: _Modes) -> Float[np.ndarray, "t m d"]:
    """X with X X^T = Q Q^T in the eigenvectors of F, at times > 0 in units of n.

    With q_i the rows of Q_0, l_i the rates, phi_i = (e^(2 l_i t) - 1) / (2 l_i), B = sqrt(phi) q
    and D = e^(l t) / sqrt(phi), which is bounded, Q Q^T = D B (I + B^T B)^-1 B^T D. Rows of B span
    any number of decades, so logarithms of their sizes are kept. Reflections from the right, each
    turning the row then largest onto the next axis, make it C diag(e^c) with no entry of C above 1,
    and rotate I + B^T B. With columns divided by max(1, e^c), [I; B] is well conditioned: X = D B
    R^-1, R its triangular factor, with each row right to roundings of its own size (row-graded
    least squares: Cox and Higham 1998).
    """
    x = 2 * np.multiply.outer(times, modes.rates)
    size = np.abs(x)
    g = np.divide(-np.expm1(-size), size, out=np.ones_like(x), where=size > 0)
    B, every, d = (
        np.tile(modes.rows, (len(times), 1, 1)),
        np.arange(len(times)),
        modes.rows.shape[1],
    )
    c = np.empty((2, len(times), d))
    with np.errstate(divide="ignore"):  # the logarithm of a row of zeros is -inf
        growth = (np.log(times)[:, None] + np.maximum(x, 0) + np.log(g)) / 2
        for j in range(d):
            rows = B[:, :, j:]
            lengths = np.log(np.linalg.norm(rows, axis=2))
            pivot = (growth + lengths).argmax(axis=1)
            largest = np.stack([growth[every, pivot], lengths[every, pivot]])
            c[:, :, j] = np.where(largest.sum(axis=0) > 0, largest, 0)
            mirror = rows[every, pivot]  # of Householder's reflection
            mirror[:, 0] += np.copysign(np.linalg.norm(mirror, axis=1) + 1e-150, mirror[:, 0])
            mirror /= np.linalg.norm(mirror, axis=1, keepdims=True)
            rows -= 2 * (rows @ mirror[:, :, None]) * mirror[:, None]
            rows[every, pivot, 1:] = 0
        exponent = (growth[:, :, None] - c[0][:, None]) + (np.log(np.abs(B)) - c[1][:, None])
    B = np.sign(B) * np.exp(exponent)
    stacked = np.concatenate([np.exp(-c.sum(axis=0))[:, :, None] * np.eye(d), B], axis=1)
    R: Any = np.linalg.qr(stacked, mode="r")
    X = np.linalg.solve(R.transpose(0, 2, 1), B.transpose(0, 2, 1)).transpose(0, 2, 1)
    return np.sqrt(np.exp(np.minimum(x, 0)) / (times[:, None] * g))[:, :, None] * X


def cross_parts(
    problem: Problem | Step,
) -> tuple[
    Float[np.ndarray, "*grid 2"], Float[np.ndarray, "*grid 2"], Float[np.ndarray, "*grid 2"]
]:
    """Targets s (`Step.cross_targets`), weights w and kappa of majority and minority in their contrast u,
    for STEP only, one problem or a grid of them."""
    step = problem if isinstance(problem, Step) else step_of(problem)
    return step.cross_targets, step.weights, step.kernel


def cross_mode(
    times: Float[np.ndarray, "*#grid t"],
    problem: Problem | Step,
    start: Values,
    *,
    growing: bool = False,
) -> Float[np.ndarray, "*grid t"]:
    """Strength u^T Z v of the cross component of STEP, any weights, coupling and biases, from a balanced
    start of this one mode.

    u^T Z is x a on the unit indicator of the majority's samples, x b on the minority's, and with s
    the targets of `cross_parts` the strength is x (a s_1 + b s_2) / |s|:

        n x' = w_1 (s_1 - x a) a + w_2 (s_2 - x b) b,   x^2 = a^2 / kappa_1 + b^2 / kappa_2 is kept,
        n a' = kappa_1 w_1 (s_1 - x a) x,   n b' = kappa_2 w_2 (s_2 - x b) x.

    `start` is the product strength x^2 > 0: for a `spectral` start init_scale^2, (a, b) ~ kappa s.
    `growing`: start along what any small start tends to instead, (a, b) ~ kappa w s, which grows as
    e^(r t), n r = |sqrt(kappa) w s|, with a bias of the logits at its rest. What all samples share, c_b and a
    bias, makes two numbers more of it (`shared_cross_flow`), with which the strength need not rise at all
    times; weights ten decades apart are then more than its rounding tells apart (RuntimeError). The leading
    axes of times, of a grid of problems (`step.grid`) and of starts broadcast: shape (..., t). Integrated
    (`implicit`) to some 1e-11 of the
    singular value. Derived here.
    """
    shape, flow, first, length = _cross(problem, start, growing)
    times = flow_times(times)
    shape = np.broadcast_shapes(shape, times.shape[:-1])
    flow, first, length = _spread(shape, flow, first, length)
    each = np.broadcast_to(times, (*shape, times.shape[-1]))
    states, _ = implicit.states(each.reshape(-1, times.shape[-1]), flow, first)
    strength = flow.strength(states.transpose(0, 2, 1)).T * length[:, None]
    return strength.reshape(each.shape)


def cross_learning_time(
    problem: Problem | Step, start: Values, level: Values = 0.5, *, growing: bool = False
) -> Float[np.ndarray, "*grid"] | np.float64:
    """When `cross_mode`, whose arguments and errors these are, first reaches `level` of its singular
    value, in flow time; `level` in (0, 0.999], which broadcasts too. Shape (...)."""
    levels = fractions("level", level, 0.999)
    shape, flow, first, length = _cross(problem, start, growing)
    shape = np.broadcast_shapes(shape, levels.shape)
    flow, first, _ = _spread(shape, flow, first, length)
    each = np.broadcast_to(levels, shape).ravel()
    return implicit.crossings(each, flow, first).reshape(shape)[()]


def _cross(
    problem: Problem | Step, start: Values, growing: bool
) -> tuple[tuple[int, ...], list[np.ndarray], np.ndarray, np.ndarray]:
    """The common shape; the numbers of `cross_flow.Flow` and log A_g at the start, each (..., 2), or those of
    `shared_cross_flow.Flow`; the singular value."""
    step = problem if isinstance(problem, Step) else step_of(problem)
    (s, w, kappa), n = cross_parts(step), np.asarray(step.num_samples)[..., None]
    scale = np.asarray(start, dtype=float)
    if not (np.isfinite(scale) & (scale > 0)).all():
        raise errors.invalid("start", start, "finite and positive")
    target, length = np.sqrt(kappa) * np.abs(s), np.asarray(np.linalg.norm(s, axis=-1))
    if step.output_bias or (step.common > 0).any():
        first = shared_cross_flow.start(step, scale, growing)
        size, common = np.sqrt(step.sizes * step.counts), np.sqrt(step.common)
        bias = np.full(common.shape, float(step.output_bias))
        flow = [w / n, np.sqrt(kappa) * [1, -1], size, s, common, bias]
        return first.shape[:-1], flow, first, length
    along = target * (w if growing else 1)
    first = np.log(along / np.linalg.norm(along, axis=-1, keepdims=True))
    first = first + 0.5 * np.log(scale)[..., None]
    flow = [w * target / n, kappa * w / n, target / length[..., None] ** 2]
    return first.shape[:-1], flow, first, length


def _spread(
    shape: tuple[int, ...], flow: list[np.ndarray], first: np.ndarray, length: np.ndarray
) -> tuple[cross_flow.Flow | shared_cross_flow.Flow, np.ndarray, np.ndarray]:
    """The numbers of each point of a grid of this shape, (2, p) for groups."""
    *numbers, first = (
        np.broadcast_to(x, (*shape, x.shape[-1])).reshape(-1, x.shape[-1]).T.copy()
        for x in (*flow, first)
    )
    make = cross_flow.Flow if len(first) == 2 else shared_cross_flow.Flow
    return make(*numbers), first, np.broadcast_to(length, shape).ravel()
