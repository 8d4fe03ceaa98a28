"""Exact solutions of the squared loss, and of cross-entropy under STEP, in float64 NumPy and SciPy, apart from
the solver of runs.

dW/dt = (S - W H) Omega H^T / n, dH/dt = W^T (S - W H) Omega K / n under the squared loss. Times are flow time,
the number of steps times the learning rate for small steps. All raise ValueError, with name, value and what is allowed,
for an argument that cannot be used.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from ssm.problem import Problem
from ssm.support import errors
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
from ssm.theory.riccati import balanced_flow, balanced_learning_times

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
