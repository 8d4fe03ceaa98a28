"""STEP under cross-entropy, exactly, from the start to any margin: no run of W and H, whatever n is.

Arrays by group are majority, minority; by block they are in the order of `spectral.BLOCKS`. The numbers of a
problem and of a start broadcast, their common shape, here (...), leads every result.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ssm.config import profiles
from ssm.measures import spectral
from ssm.problem import Problem
from ssm.support import checks, errors
from ssm.theory import implicit, shared_cross_entropy_flow
from ssm.theory.cross_entropy_flow import Flow
from ssm.theory.groups import (
    Step,
    by_class,
    cross_start,
    refuse_shared,
    step_of,
    whole_sizes,
)
from ssm.theory.growth import Values

__all__ = [
    "CrossEntropyCurves",
    "SymmetricStart",
    "cross_entropy_class_times",
    "cross_entropy_learning_times",
    "cross_entropy_step",
    "growing_start",
    "symmetric_start",
]


class SymmetricStart(NamedTuple):
    """A state of STEP that is symmetric within each group, with equal features in a class.

    On a contrast u within group g the classifier is alpha u and the class means are beta f_g u^T, along one
    direction of feature space for each contrast, f_g = sqrt(kappa_g / n_g). On the contrast between the groups
    the classifier is y u and the class means are a f_A and -b f_B. All are positive.
    """

    contrasts: Float[np.ndarray, "*grid 2"]
    """x_g = alpha beta. Of no meaning in a group of a single class."""
    imbalances: Float[np.ndarray, "*grid 2"]
    """lam_g = alpha^2 - beta^2; 0 is a balanced start."""
    classifier: Float[np.ndarray, "*grid"] | np.float64
    """y."""
    features: Float[np.ndarray, "*grid 2"]
    """a and b."""
    common: Float[np.ndarray, "*grid"] | float | np.float64 = 0.0
    """h, of either sign, by which sqrt(beta) h is what the features of all samples share on the contrast between
    the groups; a f_A and -b f_B are then what groups have of their own."""
    logit_bias: Float[np.ndarray, "*grid"] | float | np.float64 = 0.0
    """Bias of the logit of a majority class over that of a minority class."""


class CrossEntropyCurves(NamedTuple):
    """STEP under cross-entropy at given times, in logits but for shares and logarithms."""

    contrasts: Float[np.ndarray, "*grid t 2"]
    """x_g, NaN in a group of a single class."""
    classifier: Float[np.ndarray, "*grid t"]
    """y."""
    features: Float[np.ndarray, "*grid t 2"]
    """a and b, with what all samples share: y a f_A, less the bias, is the logit of a majority's own samples on the
    contrast."""
    blocks: Float[np.ndarray, "*grid t 3"]
    """Strength of each block over its target: x_g f_g within a group, y (n_A a f_A + n_B b f_B) k / (s (k_B n_A
    + k_A n_B)) across; NaN within a group of a single class."""
    class_margins: Float[np.ndarray, "*grid t 2"]
    """Own logit of each group's classes over the next: the smaller of mu_g and nu_g."""
    class_strengths: Float[np.ndarray, "*grid t 2"]
    """((k_g - 1) mu_g + k_h nu_g) / (k - 1), `spectral.class_strengths`."""
    log_loss: Float[np.ndarray, "*grid t"]
    """Of L = sum_g (k_g n_g w_g / n) log(1 + (k_g - 1) e^-mu_g + k_h e^-nu_g)."""
    log_time: Float[np.ndarray, "*grid t"]
    """Of flow time, -inf at 0."""
    logit_bias: Float[np.ndarray, "*grid t"]
    """Bias of the logit of a majority class over that of a minority class, 0 without one."""


def symmetric_start(
    problem: Problem | Step, start: Values, imbalance: Values = 0.0, *, growing: bool = False
) -> SymmetricStart:
    """The start whose contrasts all have one product strength.

    Each contrast has alpha beta = `start` and alpha^2 - beta^2 = `imbalance`, the one between the groups with
    alpha = y and beta = sqrt(k_A a^2 + k_B b^2). At imbalance 0 it is the `spectral` start of a run of
    init_scale^2 = `start`, (sqrt(k_A) a, sqrt(k_B) b) along sqrt(kappa) |s| with s = `Step.cross_targets`.
    `growing`: along sqrt(kappa) w |s| instead, to which any small start tends, with a bias of the logits at its
    rest. Where samples share something, so do these (`groups.cross_start`).

    Args:
        problem: STEP, one problem or a grid of them (`step.grid`).
        start, imbalance: positive and finite; finite. Both broadcast against the grid.

    Raises:
        ssm.InputError: a problem that is no STEP, or numbers that are not as above.
    """
    step = problem if isinstance(problem, Step) else step_of(problem)
    strength, lam = (np.asarray(x, dtype=float) for x in (start, imbalance))
    if not (np.isfinite(strength) & (strength > 0)).all():
        raise errors.invalid("start", start, "finite and positive")
    if not np.isfinite(lam).all():
        raise errors.invalid("imbalance", imbalance, "finite")
    along, common = cross_start(step, growing)
    size = np.hypot(np.linalg.norm(along, axis=-1, keepdims=True), common)
    along, common = along / size, common / size
    larger = np.sqrt(np.abs(lam) / 2 + np.hypot(strength, lam / 2))
    classifier = np.where(lam >= 0, larger, strength / larger)
    features = (strength / classifier)[..., None] * along / np.sqrt(step.sizes)
    shape = np.broadcast_shapes(features.shape[:-1], along.shape[:-1])
    shared = np.broadcast_to(strength / classifier * common[..., 0], shape)[()]
    bias = np.zeros(shape)[()]
    if growing and step.output_bias:
        risk = step.counts * step.weights
        bias = np.broadcast_to(np.log(risk[..., 0] / risk[..., 1]), shape)[()]
    strength, lam = (np.broadcast_to(x[..., None], (*shape, 2)) for x in (strength, lam))
    whole = np.broadcast_to(classifier, shape)[()]
    return SymmetricStart(strength, lam, whole, features, shared, bias)


def growing_start(
    W: Float[np.ndarray, "*#grid k d"],
    class_means: Float[np.ndarray, "*#grid d k"],
    problem: Problem | Step,
) -> SymmetricStart:
    """The symmetric start nearest to what any start tends to while its logits are small: its growing half (U^T W +
    V^T N) / 2, N = M^T scaled by sqrt(n_c / kappa_c), with the mean strength of the contrasts of each group, all along
    directions of their own.

    What it leaves out is how contrasts of a group differ and what they take from one another. From Gaussian starts
    of 1e-6 (4 and 10 classes, R of 10 and 100) `cross_entropy_learning_times` then has contrasts within a twentieth of a
    run's, but the cross component, whose growth the first contrasts hold up, at up to twice its time: for what a given
    start does exactly see `class_flow.component_learning_times`.

    Args:
        W, class_means: a start, M one column a class, or several, whose leading axes broadcast against a grid's.
        problem: STEP, one problem or a grid of them (`step.grid`).

    Raises:
        ssm.InputError: a problem that is no STEP, or has a bias or a coupling between classes; a grid whose groups
            have not the same number of classes at every point.
    """
    refuse_shared(problem)
    step = problem if isinstance(problem, Step) else step_of(problem)
    classes = by_class(problem)
    root = np.sqrt(classes.counts / classes.kernel_eigenvalues)[..., None]
    N = root * class_means.swapaxes(-1, -2)
    if isinstance(problem, Step):
        group = np.repeat([0, 1], whole_sizes(problem))
    else:
        group = (problem.class_groups == profiles.MINORITY).astype(int)
    along = np.sqrt(step.kernel) * step.weights * step.cross_targets
    along = along / np.linalg.norm(along, axis=-1, keepdims=True)
    left = np.sqrt(step.sizes[..., ::-1] / step.sizes.sum(axis=-1, keepdims=True)) * [1, -1]
    contrasts, across = [], np.zeros(1)
    for g in (0, 1):
        w, m = W[..., group == g, :], N[..., group == g, :]
        size, half = w.shape[-2], (w + m) / 2
        squares = ((half - half.mean(axis=-2, keepdims=True)) ** 2).sum(axis=(-2, -1))
        contrasts.append(squares / (size - 1) if size > 1 else np.ones(squares.shape))
        u, v = left[..., g, None], along[..., g, None]
        across = across + (u * w.sum(axis=-2) + v * m.sum(axis=-2)) / np.sqrt(size)
    classifier = np.linalg.norm(across, axis=-1) / 2
    features = classifier[..., None] * np.abs(along) / np.sqrt(step.sizes)
    return SymmetricStart(np.stack(contrasts, axis=-1), np.zeros(2), classifier, features)


def cross_entropy_step(
    times: Float[np.ndarray, "*#grid t"],
    problem: Problem | Step,
    start: Values | SymmetricStart,
    *,
    clock: str = "time",
) -> CrossEntropyCurves:
    """STEP under cross-entropy from a symmetric start, for any sizes, counts, weights, coupling and biases.

    The five numbers x_A, x_B, y, a, b of `ssm.theory.cross_entropy_flow`, with what all samples share the seven
    of `shared_cross_entropy_flow`, are integrated in logarithms (`implicit`), each point with steps of its own, to some 1e-13 of themselves. Sizes of groups, and counts, need not be whole.

    Args:
        times: flow time, or by `clock="loss"` tau with d tau = L dt, by which margins grow exponentially: they,
            `log_loss` and `log_time` come out up to margins of 1e12, beyond which all is NaN. Shape (t,) or (..., t).
        problem: STEP, one problem or a grid of them (`step.grid`), with positive weights.
        start: a symmetric start, or the product strength of a balanced spectral one (`symmetric_start`).

    Raises:
        ssm.InputError: times, a start, weights or a clock that cannot be used.

    Source: derived for this project.

    Example:
        A billion samples of a majority class against five, to a loss of e^-1000:

        >>> import numpy as np
        >>> from ssm import step
        >>> found = cross_entropy_step(np.array([0.0, 200.0]), step.grid(2e8, coupling=1.0), 1e-6, clock="loss")
        >>> bool(found.log_loss[1] < -1000)
        True
    """
    shape, flow, first = _prepared(problem, start, clock, np.shape(times)[:-1])
    if not (np.isfinite(times) & (times >= 0)).all():
        raise errors.invalid("times", times, "finite and not negative")
    each = np.broadcast_to(times, (*shape, np.shape(times)[-1])).reshape(first.shape[1], -1)
    by_loss = (type(flow).log_speed, type(flow).is_far) if flow.by_loss else ()
    found, log_time = implicit.states(each, flow, first, *by_loss)
    with np.errstate(
        divide="ignore", invalid="ignore"
    ):  # log 0 at the start, and NaN beyond the last
        curves = _curves(flow, found.transpose(0, 2, 1), log_time if flow.by_loss else np.log(each))
    leading = (*shape, np.shape(times)[-1])
    return CrossEntropyCurves(*(x.T.reshape(leading + x.shape[:-2]) for x in curves))


def _curves(
    flow: Flow | shared_cross_entropy_flow.Flow, state: np.ndarray, log_time: np.ndarray
) -> tuple[np.ndarray, ...]:
    """What `CrossEntropyCurves` has at a state (5 or 7, t, p), in its order: (t, p), or (number, t, p)."""
    k = flow.sizes[:, None]
    parts, several = flow.parts(state), np.where(k > 1, 1, np.nan)
    majority, minority, cross = flow.blocks(state, parts)
    margins = np.where(k > 1, np.minimum(parts.within, parts.across), parts.across)
    strengths = ((k - 1) * parts.within + k[::-1] * parts.across) / (k.sum(axis=0) - 1)
    return (
        np.exp(state[:2]) * several,
        np.exp(state[2]),
        flow.features_of(state),
        np.stack([majority * several[0], cross, minority * several[1]]),
        margins,
        strengths,
        flow.log_loss(parts) - parts.least,
        log_time.T,
        state[6] if len(state) > 5 else 0 * state[2],
    )


def cross_entropy_learning_times(
    problem: Problem | Step,
    start: Values | SymmetricStart,
    level: Values = spectral.LEARNED,
    *,
    clock: str = "time",
) -> Float[np.ndarray, "*grid 3"]:
    """When each block first reaches `level` > 0, which broadcasts too, of its target in `cross_entropy_step`, whose
    arguments and errors these are; in flow time, or tau by the loss clock. Shape (..., 3), NaN within a group of a single
    class. With what all samples share the cross component may fall again, and bring a bias of the logits its level
    long before features do."""
    shape, flow, first = _prepared(problem, start, clock, np.shape(level))
    asked = np.append(flow.sizes > 1, np.ones((1, first.shape[1]), bool), axis=0)
    within_and_cross = _crossings(level, shape, flow, first, asked, np.arange(3))
    return within_and_cross[[0, 2, 1]].T.reshape(*shape, 3)


def cross_entropy_class_times(
    problem: Problem | Step,
    start: Values | SymmetricStart,
    level: Values = spectral.LEARNED,
    *,
    clock: str = "time",
) -> Float[np.ndarray, "*grid 2"]:
    """When the logit of a class of each group first stands `level` > 0, which broadcasts too, above every other in `cross_entropy_step`,
    whose arguments and errors these are: `class_margins`, in flow time, or tau by the loss clock. Shape (..., 2).

    Example:
        At coupling 0 the margins of two classes grow alike, whatever their counts:

        >>> from ssm import step
        >>> found = cross_entropy_class_times(step.grid(20.0, num_classes=2), 1e-6)
        >>> float((found[1] / found[0]).round(9))
        1.0
    """
    shape, flow, first = _prepared(problem, start, clock, np.shape(level))
    asked = np.append(flow.sizes > 1, np.ones((2, first.shape[1]), bool), axis=0)
    within_and_across = _crossings(level, shape, flow, first, asked, np.array([0, 1, 3, 4]))
    with np.errstate(invalid="ignore"):  # of a single class, which has no margin within its group
        latest = np.fmax(within_and_across[:2], within_and_across[2:])
    return latest.T.reshape(*shape, 2)


def _crossings(
    level: Values,
    shape: tuple[int, ...],
    flow: Flow | shared_cross_entropy_flow.Flow,
    first: np.ndarray,
    asked: np.ndarray,
    numbers: np.ndarray,
) -> Float[np.ndarray, "numbers p"]:
    """When each of `numbers` that are waited for, by their places in `Flow.waiting`, reaches `level` where it is
    `asked` for; NaN elsewhere."""
    levels = np.asarray(level, dtype=float)
    if not (np.isfinite(levels) & (levels > 0)).all():
        raise errors.invalid("level", level, "finite and above 0")
    found = np.full(asked.shape, np.nan)
    which, point = np.nonzero(asked)
    waiting = flow.take(point).waiting_for(np.eye(5)[:, numbers[which]])
    each = np.broadcast_to(levels, shape).ravel()[point]
    found[which, point] = implicit.crossings(each, waiting, first[:, point])
    return found


def _prepared(
    problem: Problem | Step, start: Values | SymmetricStart, clock: str, leading: tuple[int, ...]
) -> tuple[tuple[int, ...], Flow | shared_cross_entropy_flow.Flow, np.ndarray]:
    """The common shape, with that of times; the flow of each of its points; its logarithms at the start."""
    step = problem if isinstance(problem, Step) else step_of(problem)
    checks.choice("clock", clock, ("time", "loss"))
    if not (step.weights > 0).all():
        raise errors.invalid("weights", step.weights, "positive")
    at = start if isinstance(start, SymmetricStart) else symmetric_start(step, start)
    sizes, counts, weights, kernel, *_ = step
    contrasts = np.where(sizes > 1, at.contrasts, 1.0)
    y = np.asarray(at.classifier, dtype=float)[..., None]
    for name, values in (("contrasts", contrasts), ("classifier", y), ("features", at.features)):
        if not (np.isfinite(values) & (values > 0)).all():
            raise errors.invalid(f"start.{name}", values, "finite and positive")
    n = np.asarray(step.num_samples)[..., None]
    features, rates = np.sqrt(kernel / counts), weights * np.sqrt(counts * kernel) / n
    direction = np.sqrt((1 / sizes).sum(axis=-1, keepdims=True))
    k = sizes.sum(axis=-1, keepdims=True)
    target = (sizes[..., ::-1] * counts).sum(axis=-1, keepdims=True) / k
    groups = (
        sizes,
        features,
        rates,
        at.imbalances,
        sizes * counts * weights / n,
        direction,
        np.zeros(5),
        counts * features / (direction * target),
    )
    first = (np.log(contrasts), np.log(y), np.log(at.features))
    h, delta = (np.asarray(x, dtype=float)[..., None] for x in (at.common, at.logit_bias))
    is_shared = step.output_bias or (step.common > 0).any() or h.any() or delta.any()
    if not (np.isfinite(h) & np.isfinite(delta)).all():
        raise errors.invalid("start.common, start.logit_bias", (at.common, at.logit_bias), "finite")
    more = (np.sqrt(step.common), np.full(1, float(step.output_bias))) if is_shared else ()
    first = (*first, h / y, delta) if is_shared else first
    shapes = [np.shape(x)[:-1] for x in (*groups, *more, *first)]
    shape = np.broadcast_shapes(leading, *shapes)

    def by_point(x: np.ndarray) -> np.ndarray:
        x = np.asarray(x, dtype=float)
        return np.broadcast_to(x, (*shape, x.shape[-1])).reshape(-1, x.shape[-1]).T.copy()

    numbers = np.concatenate([by_point(x) for x in first])
    flow = Flow(*map(by_point, groups), by_loss=clock == "loss")
    if is_shared:
        return shape, shared_cross_entropy_flow.Flow(flow, *map(by_point, more)), numbers
    return shape, flow, numbers
