"""Cross-entropy on class means: when any components and classes are learned, without samples. One problem or a grid of
them, whose starts are followed together.

While all features of a class are equal, the class means M (d x k) and W are a state of their own, for any counts, weights,
coupling and start. With N = M^T scaled by sqrt(n_c / kappa_c), Z = W M and P the softmax of its columns,

    dW/dt = -G N - sum_c sigma_c (diag(p_c) - p_c p_c^T) W,    dN/dt = -G^T W,    G = (P - Y) diag(r_c),

r_c = w_c sqrt(n_c kappa_c) / n, and Y the labels, smoothed by e where they are. The last term of dW is for features that differ
within a class, as in a Gaussian start, by noise of variance s^2 in every direction: the Jacobian of the softmax times sigma_c =
s^2 w_c (n_c - 1) / n. At zero logits it is the damping of `predictions.noise_damping`, and it ends class by class as they are
learned; that noise itself fades where W has grown is left out. Without noise nothing is left out.

Where all samples share a part beta of the kernel, M^T sqrt(n_c / kappa_c) = Q N with Q = (I + f f^T)^(1/2), f_c =
sqrt(beta n_c / kappa_c), and G is (P - Y) diag(r_c) Q. A bias of the logits is one more column of W, at one more feature
that is 1 and stays so.

Source: derived for this project.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float, Int

from ssm.measures import spectral
from ssm.theory import explicit
from ssm.theory.groups import Problems, by_class
from ssm.theory.growth import Values, class_growth_rates, damped_rate, growing_half, separable

SMALL = 1e-4  # logits up to which the early phase is taken as linear, which moves times by less e-folds than that


class Flow(NamedTuple):
    """The parameters of problems and of the noise of their starts: of a grid of problems at first, then one problem a
    start (`of_starts`)."""

    rates: Float[np.ndarray, "*grid k"]
    """r_c, per unit of time."""
    roots: Float[np.ndarray, "*grid k"]
    """sqrt(n_c / kappa_c), the rows of N over class means."""
    shared: Float[np.ndarray, "*grid k"] | None = None
    """v with Q = I + v v^T; None where nothing is shared."""
    noise: Float[np.ndarray, "*grid k"] | None = None
    """sigma_c; None without noise."""
    smoothing: Float[np.ndarray, "*grid"] | None = None
    """e; None where labels are not smoothed."""
    output_bias: bool = False
    """Whether the last column is that of a bias."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the grid."""
        noisy = () if self.noise is None else self.noise.shape[:-1]
        smoothed = () if self.smoothing is None else self.smoothing.shape
        return np.broadcast_shapes(self.rates.shape[:-1], noisy, smoothed)

    def of_starts(self, shape: tuple[int, ...]) -> Flow:
        """The flow of each start, where the starts of the grid have this shape: one axis of starts."""
        return self._with(lambda numbers, *axes: _spread(numbers, shape, *axes))

    def of(self, starts: Int[np.ndarray, " q"]) -> Flow:
        """The flow of some of the starts."""
        return self._with(lambda numbers, *_: numbers[starts])

    def _with(self, change: Callable[..., np.ndarray]) -> Flow:
        """The flow with all numbers changed, by a function of these and of the lengths of the axes after those of the grid."""
        k = self.rates.shape[-1]
        return self._replace(
            rates=change(self.rates, k),
            roots=change(self.roots, k),
            shared=None if self.shared is None else change(self.shared, k),
            noise=None if self.noise is None else change(self.noise, k),
            smoothing=None if self.smoothing is None else change(self.smoothing),
        )

    def logits(self, state: Float[np.ndarray, "p rows d"]) -> Float[np.ndarray, "p k k"]:
        """Class-mean logits, [start, logit, class]."""
        k = self.rates.shape[-1]
        return state[:, :k] @ self.mixed(state[:, k:]).swapaxes(1, 2) / self.roots[:, None]

    def mixed(self, N: Float[np.ndarray, "*#grid k d"]) -> Float[np.ndarray, "*grid k d"]:
        """Q N."""
        if self.shared is None:
            return N
        return N + self.shared[..., None] * (self.shared[..., None, :] @ N)

    def probabilities(self, state: Float[np.ndarray, "p rows d"]) -> Float[np.ndarray, "p k k"]:
        """P, [start, logit, class]."""
        P = self.logits(state)
        P -= P.max(axis=1, keepdims=True)
        np.exp(P, out=P)
        P /= P.sum(axis=1, keepdims=True)
        return P

    def damping(self, P: Float[np.ndarray, "p k k"]) -> Float[np.ndarray, "p k k"]:
        """sum_c sigma_c (diag(p_c) - p_c p_c^T)."""
        if self.noise is None:
            return np.zeros_like(P)
        noisy, k = P * self.noise[:, None], P.shape[1]
        damping = -noisy @ P.swapaxes(1, 2)
        damping.reshape(-1, k * k)[:, :: k + 1] += noisy.sum(axis=2)
        return damping

    def field(self, state: Float[np.ndarray, "p rows d"]) -> Float[np.ndarray, "p rows d"]:
        """Slopes of W and N, one above the other."""
        k, P = self.rates.shape[-1], self.probabilities(state)
        slopes, W = np.empty_like(state), state[:, :k]
        damping = None if self.noise is None else self.damping(P)
        own = P.reshape(-1, k * k)[:, :: k + 1]  # a view: p_y - 1 is minus the sum of the others
        own[:] = 0
        own[:] = -P.sum(axis=1)
        if self.smoothing is not None:
            P += self.smoothing[:, None, None] * (np.eye(k) - 1 / k)
        P *= -self.rates[:, None]
        np.matmul(P, self.mixed(state[:, k:]), out=slopes[:, :k])
        slopes[:, k:] = self.mixed(P.swapaxes(1, 2) @ W)
        if damping is not None:
            moved = W[..., :-1] if self.output_bias else W
            slopes[:, :k, : moved.shape[-1]] -= damping @ moved
        if self.output_bias:
            slopes[:, k:, -1] = 0
        return slopes

    def after_the_linear_phase(
        self, W: Float[np.ndarray, "*starts k d"], N: Float[np.ndarray, "*starts k d"]
    ) -> tuple[Float[np.ndarray, "*starts rows d"], Float[np.ndarray, "*starts"]]:
        """The state of each start when its logits are `SMALL`, or at once where they are not, or have a bias, and
        the times. The grid of problems broadcasts.

        Until then p' = r q - sigma p, q' = r p for the rows of W and N along the singular vectors of (I - 11^T / k) diag(r_c)
        (1 - e), with sigma = sum_c sigma_c / k."""
        k = self.rates.shape[-1]
        if self.output_bias:
            return np.concatenate([W, N], axis=-2), np.zeros(W.shape[:-2])
        growing = (np.eye(k) - 1 / k) * self.rates[..., None, :]
        if self.smoothing is not None:
            growing = (1 - self.smoothing)[..., None, None] * growing
        U, r, right = np.linalg.svd(self.mixed(growing.swapaxes(-1, -2)).swapaxes(-1, -2))
        r[..., -1] = 0.0  # where rounding has left something
        half = np.zeros(1) if self.noise is None else self.noise.sum(axis=-1, keepdims=True) / k / 2
        p, q = U.swapaxes(-1, -2) @ W, right @ N
        largest = 1.0 if self.shared is None else 1 + (self.shared**2).sum(axis=-1)  # of Q
        scale = largest / (4 * self.roots.min(axis=-1))
        size = ((np.abs(p) + np.abs(q)) ** 2).sum(axis=-1) * scale[..., None]
        with np.errstate(divide="ignore"):  # of what is not there, and never will be
            folds = np.log(SMALL / size[..., :-1])
        times = np.asarray((folds / (2 * r[..., :-1])).min(axis=-1).clip(0))
        t, half = times[..., None], np.where(r > 0, half, 0.0)
        grown = np.hypot(r, half)
        decay = np.exp(-half * t)
        c, s = np.cosh(grown * t) * decay, np.sinh(grown * t) * decay
        slow, turned = (x / np.where(grown > 0, grown, 1) * s for x in (half, r))
        p, q = (
            (c - slow)[..., None] * p + turned[..., None] * q,
            (c + slow)[..., None] * q + turned[..., None] * p,
        )
        return np.concatenate([U @ p, right.swapaxes(-1, -2) @ q], axis=-2), times


def _spread(numbers: np.ndarray, shape: tuple[int, ...], *axes: int) -> np.ndarray:
    """Numbers of a grid of problems, with so many axes of their own last, for each of the starts along one axis."""
    return np.broadcast_to(numbers, (*shape, *axes)).reshape(-1, *axes)


class _Components(NamedTuple):
    """A flow of which the shares of components are waited for."""

    flow: Flow
    left: Float[np.ndarray, "*grid r k"]
    """u_j, one a row."""
    right: Float[np.ndarray, "*grid r k"]
    """What the columns of Z count for in each share, over sqrt(n_c / kappa_c)."""

    def of_starts(self, shape: tuple[int, ...]) -> _Components:
        own = self.left.shape[-2:]
        left, right = (_spread(x, shape, *own) for x in (self.left, self.right))
        return _Components(self.flow.of_starts(shape), left, right)

    def of(self, starts: Int[np.ndarray, " q"]) -> _Components:
        return _Components(self.flow.of(starts), self.left[starts], self.right[starts])

    def field(self, state: np.ndarray) -> np.ndarray:
        return self.flow.field(state)

    def progress(self, state: np.ndarray, slopes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        k = self.left.shape[-1]
        p, q = self.left @ state[:, :k], self.right @ state[:, k:]
        dp, dq = self.left @ slopes[:, :k], self.right @ slopes[:, k:]
        return (p * q).sum(axis=-1), (dp * q + p * dq).sum(axis=-1)

    def share(self, off: np.ndarray, state: np.ndarray) -> np.ndarray:
        return _share(self.flow, self.left, off, state)


class _Margins(NamedTuple):
    """A flow of which the margins of class means are waited for."""

    flow: Flow
    left: Float[np.ndarray, "*grid r k"]
    """u_j, one a row."""

    def of_starts(self, shape: tuple[int, ...]) -> _Margins:
        left = _spread(self.left, shape, *self.left.shape[-2:])
        return _Margins(self.flow.of_starts(shape), left)

    def of(self, starts: Int[np.ndarray, " q"]) -> _Margins:
        return _Margins(self.flow.of(starts), self.left[starts])

    def field(self, state: np.ndarray) -> np.ndarray:
        return self.flow.field(state)

    def progress(self, state: np.ndarray, slopes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        k, Z, mixed = self.left.shape[-1], self.flow.logits(state), self.flow.mixed
        gaps = np.diagonal(Z, axis1=1, axis2=2)[:, None] - Z + np.diag(np.full(k, np.inf))
        nearest = gaps.argmin(axis=1)[:, None]
        moved = slopes[:, :k] @ mixed(state[:, k:]).swapaxes(1, 2)
        moved = (moved + state[:, :k] @ mixed(slopes[:, k:]).swapaxes(1, 2)) / self.flow.roots[
            :, None
        ]
        other = np.take_along_axis(moved, nearest, axis=1)[:, 0]
        return gaps.min(axis=1), np.diagonal(moved, axis1=1, axis2=2) - other

    def share(self, off: np.ndarray, state: np.ndarray) -> np.ndarray:
        return _share(self.flow, self.left, off, state)


Waiting = TypeVar("Waiting", _Components, _Margins)


def _share(
    flow: Flow, left: Float[np.ndarray, "starts r k"], off: np.ndarray, state: np.ndarray
) -> Float[np.ndarray, " starts"]:
    """The largest share of an error among components, each of which is followed to a share of itself, however
    small it is beside others: what is learned late grows from there. A bias, which starts at 0, is followed to
    a share of a hundredth of a logit more than itself."""
    if flow.output_bias:
        k = left.shape[-1]
        wrong, whole = (np.abs(x[:, :k, -1]).max(axis=1) for x in (off, state))
        others = _share(flow._replace(output_bias=False), left, off[..., :-1], state[..., :-1])
        return np.maximum(others, wrong / (0.01 + whole))
    shape = len(state), 2, left.shape[-1], state.shape[-1]
    wrong, whole = (
        (np.square(left[:, None] @ x.reshape(shape))).sum(axis=(1, 3)) for x in (off, state)
    )
    return np.sqrt((wrong / np.where(whole > 0, whole, np.inf)).max(axis=1))


def component_learning_times(
    problem: Problems,
    components: spectral.LabelSpectrum,
    W: Float[np.ndarray, "*#starts k d"],
    class_means: Float[np.ndarray, "*#starts d k"],
    noise: Float[np.ndarray, "*#starts k"] | None = None,
    smoothing: Values = 0.0,
    level: float = spectral.LEARNED,
) -> Float[np.ndarray, "*starts r"]:
    """When each component of the label matrix first reaches `level` of its target under cross-entropy, in
    flow time, shape (..., k - 1).

    A contrast of equal classes that waits for more than `explicit.MOST_STEPS` steps, in which others are learned,
    grows on as e^(2 r t), and what that leaves out is a tenth of an e-fold. Any other is then NaN: it takes
    logits of some hundred, or is never learned.

    Args:
        problem: any counts, with positive weights and any coupling: one, or a grid of them, as those of `step.grid` or
            a `groups.ByClass`, whose axes broadcast against those of the starts.
        components: those of `spectral.components(problem)`, or of `step.components`, or several stacked as the problems.
        W, class_means: a start, or several. Its mean row, which cross-entropy keeps, counts for nothing.
        noise: sigma_c of features that differ in a class, shape (..., k); None where they are equal.
        smoothing: e of the labels, in [0, 1), shape (...).
        level: positive.

    Source: derived for this project.
    """
    flow, left = _flow(problem, noise, smoothing), components.left.swapaxes(-1, -2)
    targets, counts = components.singular_values[..., None], by_class(problem).counts
    right = left * counts[..., None, :] / targets**2 / flow.roots[..., None, :]
    right = flow.mixed(right.swapaxes(-1, -2)).swapaxes(-1, -2)
    waiting, found, shape = _crossings(_Components(flow, left, right), W, class_means, level)
    if len(found.points):
        alone = _spread(separable(problem, components, "cross_entropy"), shape, left.shape[-2])
        waits = np.isnan(found.times[found.points]) & alone[found.points]
        later = _later(waiting.of(found.points), found, level)
        found.times[found.points] = np.where(waits, later, found.times[found.points])
    return found.times.reshape(*shape, -1)


def class_learning_times(
    problem: Problems,
    components: spectral.LabelSpectrum,
    W: Float[np.ndarray, "*#starts k d"],
    class_means: Float[np.ndarray, "*#starts d k"],
    level: float = spectral.LEARNED,
    most_steps: int | None = None,
) -> Float[np.ndarray, "*starts k"]:
    """When the mean logit of each class first stands `level` above that of every other class, from features
    that are equal in a class; NaN where that takes more than `most_steps` steps, `explicit.MOST_STEPS` where it
    is left out. The arguments are those of `component_learning_times`. Shape (..., k), flow time."""
    waiting = _Margins(_flow(problem, None, 0.0), components.left.swapaxes(-1, -2))
    _, found, shape = _crossings(waiting, W, class_means, level, most_steps)
    return found.times.reshape(*shape, -1)


def _flow(
    problem: Problems, noise: Float[np.ndarray, "*#grid k"] | None, smoothing: Values
) -> Flow:
    """The flow of a problem, or those of a grid."""
    p, rates = by_class(problem), class_growth_rates(problem)
    if noise is not None:
        matters = noise.sum(axis=-1, keepdims=True) > 1e-9 * rates.min(axis=-1, keepdims=True)
        noise = np.where(matters, noise, 0.0) if matters.any() else None
    shared = p.shared_direction if (p.common_coupling > 0).any() else None
    softened = np.asarray(smoothing, dtype=float) if np.any(smoothing) else None
    return Flow(
        rates, np.sqrt(p.counts / p.kernel_eigenvalues), shared, noise, softened, p.output_bias
    )


def _crossings(
    waiting: Waiting,
    W: np.ndarray,
    class_means: np.ndarray,
    level: float,
    most_steps: int | None = None,
) -> tuple[Waiting, explicit.Crossings, tuple[int, ...]]:
    """What is waited for of each start, the crossings of all of them along one axis, and their shape, that of grid and
    starts together."""
    flow = waiting.flow
    if flow.output_bias:
        W = np.append(W, np.zeros_like(W[..., :1]), axis=-1)
        class_means = np.append(class_means, np.ones_like(class_means[..., :1, :]), axis=-2)
    grid, starts = (flow.shape, waiting.left.shape[:-2]), (W.shape[:-2], class_means.shape[:-2])
    shape = np.broadcast_shapes(*grid, *starts)
    W = np.broadcast_to(W, (*shape, *W.shape[-2:]))
    N = class_means.swapaxes(-1, -2) * flow.roots[..., None]
    if flow.shared is not None:  # Q^-1 N
        v = flow.shared[..., None]
        N = N - v * (v.swapaxes(-1, -2) @ N) / (1 + (v**2).sum(axis=-2, keepdims=True))
    state, at = flow.after_the_linear_phase(W, np.broadcast_to(N, W.shape))
    each = waiting.of_starts(shape)
    found = explicit.crossings(
        each, state.reshape(-1, *state.shape[-2:]), at.ravel(), level, most_steps
    )
    return each, found, shape


def _later(
    waiting: _Components, found: explicit.Crossings, level: float
) -> Float[np.ndarray, "left r"]:
    """When the growing halves (`growth.growing_half`) of what is at `found.state` reach `level`, each by itself,
    where it is a contrast of equal classes: NaN where it is learned nearly, and no longer small."""
    flow, left, k = waiting.flow, waiting.left, waiting.left.shape[-1]

    def of_contrasts(numbers: Float[np.ndarray, "left k"]) -> Float[np.ndarray, "left r"]:
        return np.sqrt((left**2 @ numbers[..., None] ** 2)[..., 0])

    rates = of_contrasts(flow.rates)
    if flow.smoothing is not None:
        rates = (1 - flow.smoothing)[:, None] * rates
    damping = left @ flow.damping(flow.probabilities(found.state))
    sigma = (damping * left).sum(axis=-1)
    first, second = growing_half(rates, sigma)
    halves = first[..., None] * (left @ found.state[:, :k])
    halves += second[..., None] * (left @ found.state[:, k:])
    roots = of_contrasts(flow.roots)  # of the classes of the contrast, which are equal
    shares = first * second * (halves**2).sum(axis=-1) / roots
    with np.errstate(divide="ignore"):  # of what is not there
        folds = np.log(level / shares)
    later = found.at[:, None] + folds / (2 * damped_rate(rates, sigma))
    return np.where(shares < level / 10, later, np.nan)
