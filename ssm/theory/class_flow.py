"""Cross-entropy on class means: when any components and classes are learned, without samples.

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

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ssm.measures import spectral
from ssm.problem import Problem
from ssm.theory import explicit
from ssm.theory.growth import class_growth_rates, damped_rate, growing_half, separable

SMALL = 1e-4  # logits up to which the early phase is taken as linear, which moves times by less e-folds than that


class Flow(NamedTuple):
    """The parameters of a problem and of the noise of its start."""

    rates: Float[np.ndarray, " k"]
    """r_c, per unit of time."""
    roots: Float[np.ndarray, " k"]
    """sqrt(n_c / kappa_c), the rows of N over class means."""
    shared: Float[np.ndarray, " k"] | None = None
    """v with Q = I + v v^T; None where nothing is shared."""
    noise: Float[np.ndarray, " k"] | None = None
    """sigma_c; None without noise."""
    smoothing: float = 0.0
    """e."""
    output_bias: bool = False
    """Whether the last column is that of a bias."""

    def logits(self, state: Float[np.ndarray, "p rows d"]) -> Float[np.ndarray, "p k k"]:
        """Class-mean logits, [start, logit, class]."""
        k = len(self.rates)
        return state[:, :k] @ self.mixed(state[:, k:]).swapaxes(1, 2) / self.roots

    def mixed(self, N: Float[np.ndarray, "*batch k d"]) -> Float[np.ndarray, "*batch k d"]:
        """Q N."""
        if self.shared is None:
            return N
        return N + self.shared[:, None] * (self.shared @ N)[..., None, :]

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
        damping, k = -(P * self.noise) @ P.swapaxes(1, 2), P.shape[1]
        damping.reshape(-1, k * k)[:, :: k + 1] += P @ self.noise
        return damping

    def field(self, state: Float[np.ndarray, "p rows d"]) -> Float[np.ndarray, "p rows d"]:
        """Slopes of W and N, one above the other."""
        k, P = len(self.rates), self.probabilities(state)
        slopes, W = np.empty_like(state), state[:, :k]
        damping = None if self.noise is None else self.damping(P)
        own = P.reshape(-1, k * k)[:, :: k + 1]  # a view: p_y - 1 is minus the sum of the others
        own[:] = 0
        own[:] = -P.sum(axis=1)
        if self.smoothing:
            P += self.smoothing * (np.eye(k) - 1 / k)
        P *= -self.rates
        np.matmul(P, self.mixed(state[:, k:]), out=slopes[:, :k])
        slopes[:, k:] = self.mixed(P.swapaxes(1, 2) @ W)
        if damping is not None:
            moved = W[..., :-1] if self.output_bias else W
            slopes[:, :k, : moved.shape[-1]] -= damping @ moved
        if self.output_bias:
            slopes[:, k:, -1] = 0
        return slopes

    def after_the_linear_phase(
        self, W: Float[np.ndarray, "p k d"], N: Float[np.ndarray, "p k d"]
    ) -> tuple[Float[np.ndarray, "p rows d"], Float[np.ndarray, " p"]]:
        """The state of each start when its logits are `SMALL`, or at once where they are not, or have a bias, and
        the times.

        Until then p' = r q - sigma p, q' = r p for the rows of W and N along the singular vectors of (I - 11^T / k) diag(r_c)
        (1 - e), with sigma = sum_c sigma_c / k."""
        k = len(self.rates)
        if self.output_bias:
            return np.concatenate([W, N], axis=1), np.zeros(len(W))
        growing = (1 - self.smoothing) * (np.eye(k) - 1 / k) * self.rates
        U, r, right = np.linalg.svd(self.mixed(growing.T).T)
        r = np.append(r[:-1], 0.0)  # which is rounding
        half = 0.0 if self.noise is None else self.noise.sum() / k / 2
        p, q = U.T @ W, right @ N
        largest = 1.0 if self.shared is None else 1 + self.shared @ self.shared  # of Q
        size = ((np.abs(p) + np.abs(q)) ** 2).sum(axis=-1) * (largest / (4 * self.roots.min()))
        with np.errstate(divide="ignore"):  # of what is not there, and never will be
            folds = np.log(SMALL / size[:, :-1])
        times = (folds / (2 * r[:-1])).min(axis=1).clip(0)
        t, half = times[:, None], np.where(r > 0, half, 0.0)
        grown = np.hypot(r, half)
        decay = np.exp(-half * t)
        c, s = np.cosh(grown * t) * decay, np.sinh(grown * t) * decay
        slow, turned = (x / np.where(grown > 0, grown, 1) * s for x in (half, r))
        p, q = (
            (c - slow)[..., None] * p + turned[..., None] * q,
            (c + slow)[..., None] * q + turned[..., None] * p,
        )
        return np.concatenate([U @ p, right.T @ q], axis=1), times


class _Components(NamedTuple):
    """A flow of which the shares of components are waited for."""

    flow: Flow
    left: Float[np.ndarray, "r k"]
    """u_j, one a row."""
    right: Float[np.ndarray, "r k"]
    """What the columns of Z count for in each share, over sqrt(n_c / kappa_c)."""

    def field(self, state: np.ndarray) -> np.ndarray:
        return self.flow.field(state)

    def progress(self, state: np.ndarray, slopes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        k = self.left.shape[1]
        p, q = self.left @ state[:, :k], self.right @ state[:, k:]
        dp, dq = self.left @ slopes[:, :k], self.right @ slopes[:, k:]
        return (p * q).sum(axis=-1), (dp * q + p * dq).sum(axis=-1)

    def share(self, off: np.ndarray, state: np.ndarray) -> np.ndarray:
        return _share(self.flow, self.left, off, state)


class _Margins(NamedTuple):
    """A flow of which the margins of class means are waited for."""

    flow: Flow
    left: Float[np.ndarray, "r k"]
    """u_j, one a row."""

    def field(self, state: np.ndarray) -> np.ndarray:
        return self.flow.field(state)

    def progress(self, state: np.ndarray, slopes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        k, Z, mixed = self.left.shape[1], self.flow.logits(state), self.flow.mixed
        gaps = np.diagonal(Z, axis1=1, axis2=2)[:, None] - Z + np.diag(np.full(k, np.inf))
        nearest = gaps.argmin(axis=1)[:, None]
        moved = slopes[:, :k] @ mixed(state[:, k:]).swapaxes(1, 2)
        moved = (moved + state[:, :k] @ mixed(slopes[:, k:]).swapaxes(1, 2)) / self.flow.roots
        other = np.take_along_axis(moved, nearest, axis=1)[:, 0]
        return gaps.min(axis=1), np.diagonal(moved, axis1=1, axis2=2) - other

    def share(self, off: np.ndarray, state: np.ndarray) -> np.ndarray:
        return _share(self.flow, self.left, off, state)


def _share(
    flow: Flow, left: np.ndarray, off: np.ndarray, state: np.ndarray
) -> Float[np.ndarray, " starts"]:
    """The largest share of an error among components, each of which is followed to a share of itself, however
    small it is beside others: what is learned late grows from there. A bias, which starts at 0, is followed to
    a share of a hundredth of a logit more than itself."""
    if flow.output_bias:
        k = left.shape[1]
        wrong, whole = (np.abs(x[:, :k, -1]).max(axis=1) for x in (off, state))
        others = _share(flow._replace(output_bias=False), left, off[..., :-1], state[..., :-1])
        return np.maximum(others, wrong / (0.01 + whole))
    shape = len(state), 2, left.shape[1], state.shape[-1]
    wrong, whole = ((np.square(left @ x.reshape(shape))).sum(axis=(1, 3)) for x in (off, state))
    return np.sqrt((wrong / np.where(whole > 0, whole, np.inf)).max(axis=1))


def component_learning_times(
    problem: Problem,
    components: spectral.LabelSpectrum,
    W: Float[np.ndarray, "*starts k d"],
    class_means: Float[np.ndarray, "*starts d k"],
    noise: Float[np.ndarray, " k"] | None = None,
    smoothing: float = 0.0,
    level: float = spectral.LEARNED,
) -> Float[np.ndarray, "*starts r"]:
    """When each component of the label matrix first reaches `level` of its target under cross-entropy, in
    flow time, shape (..., k - 1).

    A contrast of equal classes that waits for more than `explicit.MOST_STEPS` steps, in which others are learned,
    grows on as e^(2 r t), and what that leaves out is a tenth of an e-fold. Any other is then NaN: it takes
    logits of some hundred, or is never learned.

    Args:
        problem: any counts, with positive weights and any coupling.
        components: those of `spectral.components(problem)`.
        W, class_means: a start, or several. Its mean row, which cross-entropy keeps, counts for nothing.
        noise: sigma_c of features that differ in a class, shape (k,); None where they are equal.
        smoothing: e of the labels, in [0, 1).
        level: positive.

    Source: derived for this project.
    """
    flow, left = _flow(problem, noise, smoothing), components.left.T
    right = left * problem.counts / components.singular_values[:, None] ** 2 / flow.roots
    right = flow.mixed(right.T).T
    found = _crossings(_Components(flow, left, right), W, class_means, level)
    if len(found.points):
        waits = np.isnan(found.times[found.points])
        waits &= separable(problem, components, "cross_entropy")
        later = _later(flow, components, found, level)
        found.times[found.points] = np.where(waits, later, found.times[found.points])
    return found.times.reshape(*W.shape[:-2], -1)


def class_learning_times(
    problem: Problem,
    components: spectral.LabelSpectrum,
    W: Float[np.ndarray, "*starts k d"],
    class_means: Float[np.ndarray, "*starts d k"],
    level: float = spectral.LEARNED,
    most_steps: int | None = None,
) -> Float[np.ndarray, "*starts k"]:
    """When the mean logit of each class first stands `level` above that of every other class, from features
    that are equal in a class; NaN where that takes more than `most_steps` steps, `explicit.MOST_STEPS` where it
    is left out. Shape (..., k), flow time."""
    waiting = _Margins(_flow(problem, None, 0.0), components.left.T)
    found = _crossings(waiting, W, class_means, level, most_steps)
    return found.times.reshape(*W.shape[:-2], -1)


def _flow(problem: Problem, noise: Float[np.ndarray, " k"] | None, smoothing: float) -> Flow:
    """The flow of a problem."""
    rates, roots = class_growth_rates(problem), np.sqrt(problem.counts / problem.kernel_eigenvalues)
    if noise is not None and not noise.sum() > 1e-9 * rates.min():
        noise = None
    shared = problem.shared_direction if problem.common_coupling > 0 else None
    return Flow(rates, roots, shared, noise, smoothing, problem.output_bias)


def _crossings(
    waiting: _Components | _Margins,
    W: np.ndarray,
    class_means: np.ndarray,
    level: float,
    most_steps: int | None = None,
) -> explicit.Crossings:
    """Crossings of all starts, whatever their shape."""
    flow = waiting.flow
    if flow.output_bias:
        W = np.append(W, np.zeros_like(W[..., :1]), axis=-1)
        class_means = np.append(class_means, np.ones_like(class_means[..., :1, :]), axis=-2)
    W = W.reshape(-1, *W.shape[-2:])
    N = class_means.swapaxes(-1, -2).reshape(W.shape) * flow.roots[:, None]
    if flow.shared is not None:  # Q^-1 N
        N = N - flow.shared[:, None] * (flow.shared @ N)[:, None] / (1 + flow.shared @ flow.shared)
    return explicit.crossings(waiting, *flow.after_the_linear_phase(W, N), level, most_steps)


def _later(
    flow: Flow, components: spectral.LabelSpectrum, found: explicit.Crossings, level: float
) -> Float[np.ndarray, "left r"]:
    """When the growing halves (`growth.growing_half`) of what is at `found.state` reach `level`, each by itself,
    where it is a contrast of equal classes: NaN where it is learned nearly, and no longer small."""
    left, k = components.left.T, len(flow.rates)
    rates = (1 - flow.smoothing) * np.sqrt(left**2 @ flow.rates**2)
    damping = left @ flow.damping(flow.probabilities(found.state))
    sigma = (damping * left).sum(axis=-1)
    first, second = growing_half(rates, sigma)
    halves = first[..., None] * (left @ found.state[:, :k])
    halves += second[..., None] * (left @ found.state[:, k:])
    roots = np.sqrt(left**2 @ flow.roots**2)  # of the classes of the contrast, which are equal
    shares = first * second * (halves**2).sum(axis=-1) / roots
    with np.errstate(divide="ignore"):  # of what is not there
        folds = np.log(level / shares)
    later = found.at[:, None] + folds / (2 * damped_rate(rates, sigma))
    return np.where(shares < level / 10, later, np.nan)
