"""The squared loss from any balanced start, W^T W - H H^T a multiple of I, with unit weights and free features: one start
or a whole grid of them.

Starts, counts, balances, times and levels broadcast; their common shape, here (...), leads what comes out. Points and
times are solved many at once, every operation along all of them. Times are flow time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from ssm.measures import spectral
from ssm.support import errors
from ssm.theory.deep_modes import flow_times, fractions
from ssm.theory.growth import Values

Times = Float[np.ndarray, "*#grid t"]
Classifier = Float[np.ndarray, "*#grid k d"]
Features = Float[np.ndarray, "*#grid d n"]
Counts = Int[np.ndarray, "*#grid k"] | Sequence[int]

NUMBERS = 2**17  # of the rows that are worked on at once, so that they fit a cache
TOGETHER = 2**12  # times and points whose rotations are worked out at once
GRADE = 8.0  # e-folds of the fastest mode for which one rotation serves
SPACING = 1.02  # ratio of the times that bracket a learning time
BLOCK = 16  # of which so many are tried at once
E_FOLDS = 40  # of the slowest mode, after it has grown from its start, when learning is given up
TINY = 1e-150  # squares of what is smaller are 0


def balanced_flow(
    times: Times, W: Classifier, H: Features, counts: Counts, balance: Values = 0.0
) -> Float[np.ndarray, "*grid t k k"]:
    """Class-mean logits W(t) M(t) from any start with W^T W - H H^T = balance I; unit weights, free
    features.

    Q = [H^T; W] obeys n Q' = F Q - Q Q^T Q / 2, F = [[-balance I / 2, S^T], [S, balance I / 2]]:

        Q Q^T = e^(F t) Q_0 [I + Q_0^T (int_0^t e^(2 F s) ds) Q_0]^-1 Q_0^T e^(F t)

    with t in units of n; 2 k directions of F and a d x d factor of what in H is not constant on
    classes are enough, and of feature space the k directions that W has where all balances are 0. Nothing overflows,
    so t may be any float. The end is S, or its best fit of rank d; modes of eigenvalue 0 make the way there as slow
    as n / t when d >= k.

    Args:
        times: flow time, shape (..., t), in any order, finite and not negative.
        W, H: the start, (..., k, d) and (..., d, n), the samples of H sorted by class, balanced to 1e-10 of |W|^2 +
            |H|^2. H may be class means too, (..., d, k), as for a grid whose points have not the same n: samples
            then lie around them as the balance asks, H H^T = W^T W - balance I.
        counts: samples n_c of each class, (..., k), n = sum of them.
        balance: lambda; 0 is a balanced start. Negative where the features are the larger, H =
            (W^T W + |lambda| I)^(1/2) O with O O^T = I; positive only if d <= k.

    Returns:
        shape (..., t, k, k), [time, logit, class], right to some roundings of the largest logit.

    Raises:
        ssm.InputError: a start that is not balanced, shapes that do not fit, or times that cannot be.

    Source: Fukumizu 1998; Braun, Domine, Fitzgerald, Saxe 2022; balance != 0 Domine et al. 2024.
    Reduction to classes and stable evaluation derived here.
    """
    modes, points = _modes(W, H, counts, balance)
    t, k = times.shape[-1], modes.left.shape[-1]
    shape = np.broadcast_shapes(points.shape, times.shape[:-1])
    each = np.broadcast_to(flow_times(times), (*shape, t)).ravel()
    points = np.repeat(np.broadcast_to(points, shape), t)
    out = np.empty((each.size, k, k))
    for part, of_logits, of_samples in _factors(each, modes, points):
        inner = of_logits.transpose(2, 1, 0) @ of_samples.transpose(2, 0, 1)
        mine = points[part]
        out[part] = modes.left[mine] @ inner @ modes.right[mine]
    return out.reshape(*shape, t, k, k)


def balanced_learning_times(
    W: Classifier, H: Features, counts: Counts, balance: Values = 0.0, level: Values = 0.5
) -> Float[np.ndarray, "*grid r"]:
    """When the share u_j^T Z v_j / s_j of each component first reaches `level` in (0, 1), in flow
    time; NaN where it never does.

    Bracketed on times two percent apart, up to 40 e-folds after the slowest mode has grown from
    its start, and refined by root finding on `balanced_flow`, whose arguments and errors these are.
    Shape (..., k - 1), in the order of `spectral.label_spectrum(counts)`.
    """
    from scipy.optimize import elementwise

    levels = fractions("level", level, np.nextafter(1, 0))
    modes, points = _modes(W, H, counts, balance)
    shape = np.broadcast_shapes(points.shape, levels.shape)
    points, levels = (np.broadcast_to(x, shape).ravel() for x in (points, levels))

    def excess(times: np.ndarray, which: np.ndarray) -> np.ndarray:
        """How far each component of some points is above the level, each at a time of its own."""
        shares = np.empty((len(times), len(modes.targets)))
        for part, of_logits, of_samples in _factors(times, modes, points[which]):
            strengths = np.einsum("drb,drb->rb", of_logits[:, :-1], of_samples[:, :-1])
            shares[part] = (strengths / modes.targets[:, points[which[part]]]).T
        return shares - levels[which, None]

    every = np.arange(points.size)
    times = np.where(excess(np.zeros(points.size), every) >= 0, 0.0, np.nan)
    before, now, last = (x[points] for x in _search(modes, levels.min()))
    found = []
    while (at := every[np.isnan(times).any(axis=1) & (now <= last)]).size:
        grid = now[at, None] * SPACING ** np.arange(BLOCK)
        reached = excess(grid.ravel(), np.repeat(at, BLOCK)).reshape(*grid.shape, -1) >= 0
        rows, components = np.nonzero(reached.any(axis=1) & np.isnan(times[at]))
        first = reached.argmax(axis=1)[rows, components]
        low = np.column_stack([before[at], grid])[rows, first]
        found.append((at[rows], components, low, grid[rows, first]))
        times[at[rows], components] = 0.0  # which is found more closely below
        before[at], now[at] = grid[:, -1], SPACING * grid[:, -1]
    if found:
        which, components, low, high = (np.concatenate(x) for x in zip(*found, strict=True))

        def one(time: np.ndarray, row: np.ndarray) -> np.ndarray:
            return excess(time, which[row])[np.arange(row.size), components[row]]

        rows = np.arange(which.size)
        times[which, components] = elementwise.find_root(one, (low, high), args=(rows,)).x
    return times.reshape(*shape, -1)


class _Modes(NamedTuple):
    """Starts in the eigenvectors of F; points come last but in the bases of logits."""

    rates: Float[np.ndarray, "m p"]
    """Eigenvalues, in units of 1 / n: of the k - 1 modes that grow, of as many that decay, of the two that have no
    target, in H and in W, and of samples about their class means."""
    rows: Float[np.ndarray, "d q p"]
    """The coefficient of Q_0 on each mode, but of samples about class means their d directions alone."""
    spreads: Float[np.ndarray, "d p"]
    """How far samples lie from class means in each of these directions."""
    cos: Float[np.ndarray, "r p"]
    """What a growing mode has in H, and `sin` in W; a decaying one has -sin and cos."""
    sin: Float[np.ndarray, "r p"]
    targets: Float[np.ndarray, "r p"]
    """s_j, r = k - 1."""
    samples: Int[np.ndarray, " p"]
    left: Float[np.ndarray, "p k k"]
    """Logits are left X right, with X of all u_j^T, then of what is alike in all classes."""
    right: Float[np.ndarray, "p k k"]


def _modes(W: np.ndarray, H: np.ndarray, counts: Any, balance: Any) -> tuple[_Modes, np.ndarray]:
    """The modes of the starts, and the index of each over the grid; raises InputError where one is not balanced."""
    counts, balance = np.asarray(counts), np.asarray(balance, dtype=float)
    (k, d), m = W.shape[-2:], H.shape[-1]
    fits = m == k or (counts.sum(axis=-1) == m).all()
    if counts.shape[-1] != k or H.shape[-2] != d or not fits:
        shapes, allowed = (W.shape, H.shape, k), "(k, d), (d, sum of counts) or (d, k), k"
        raise errors.invalid("shapes of W, H and counts", shapes, allowed)
    shape = np.broadcast_shapes(W.shape[:-2], H.shape[:-2], counts.shape[:-1], balance.shape)
    W, H, counts, balance = (
        np.broadcast_to(x, (*shape, *own)).reshape(-1, *own)
        for x, own in ((W, (k, d)), (H, (d, m)), (counts, (k,)), (balance, ()))
    )
    narrow = d > k and not balance.any()
    size = max(1, 2**20 // (m * d))
    parts = [
        _modes_of(W[part], H[part], counts[part], balance[part], narrow)
        for part in (slice(i, i + size) for i in range(0, len(W), size))
    ]
    joined = [
        np.concatenate(x, axis=0 if name in ("left", "right") else -1)
        for name, x in zip(_Modes._fields, zip(*parts, strict=True), strict=True)
    ]
    return _Modes(*joined), np.arange(len(W)).reshape(shape)


def _modes_of(
    W: Float[np.ndarray, "p k d"],
    H: Float[np.ndarray, "p d m"],
    counts: Int[np.ndarray, "p k"],
    balance: Float[np.ndarray, " p"],
    narrow: bool,
) -> _Modes:
    """The modes of some of the points; of W's own directions of feature space where it is `narrow`."""
    means, about = _about_means(H, counts)
    if narrow:
        basis = np.linalg.qr(W.swapaxes(1, 2))[0]
        W, means = W @ basis, basis.swapaxes(1, 2) @ means
        about = None if about is None else basis.swapaxes(1, 2) @ about
    directions, spreads = _spread(W, means, about, counts, balance)
    kinds, kind = np.unique(counts, axis=0, return_inverse=True)
    # Of one label spectrum for equal counts equal rates are equal to the last bit.
    spectra = [spectral.label_spectrum(row)[:2] for row in kinds]
    u, s = (np.stack(x)[kind.ravel()] for x in zip(*spectra, strict=True))
    half, k = balance[:, None] / 2, counts.shape[1]
    angle, rate = np.arctan2(s, -half) / 2, np.hypot(s, half)
    cos, sin = np.cos(angle), np.sin(angle)
    v = (u / s[:, None]).swapaxes(1, 2)  # sqrt(n_c) of it on class c has length 1
    in_H, in_W = (v * counts[:, None]) @ means.swapaxes(1, 2), u.swapaxes(1, 2) @ W
    length = np.sqrt((1 / counts).sum(axis=1, keepdims=True))
    rows = [
        cos[..., None] * in_H + sin[..., None] * in_W,
        cos[..., None] * in_W - sin[..., None] * in_H,
        (means.sum(axis=2) / length)[:, None],
        W.sum(axis=1, keepdims=True) / k**0.5,
        directions,
    ]
    rates = np.concatenate([rate, -rate, -half, half, -half], axis=1)
    alike = np.full((len(u), k, 1), k**-0.5)
    return _Modes(
        rates.T,
        np.concatenate(rows, axis=1).transpose(2, 1, 0),
        spreads.T,
        cos.T,
        sin.T,
        s.T,
        counts.sum(axis=1),
        np.concatenate([u, alike], axis=2),
        np.concatenate([v, (1 / counts / length)[:, None]], axis=1),
    )


def _about_means(
    H: Float[np.ndarray, "p d m"], counts: Int[np.ndarray, "p k"]
) -> tuple[Float[np.ndarray, "p d k"], Float[np.ndarray, "p d m"] | None]:
    """Class means, and features about them unless H is these means."""
    ends, n = counts.cumsum(axis=1)[:, None], H.shape[-1]
    if n == counts.shape[1]:
        return H, None
    place = np.arange(n)[:, None]
    members = ((place >= ends - counts[:, None]) & (place < ends)).astype(float)
    means = (H @ members) / counts[:, None]
    return means, H - means @ members.swapaxes(1, 2)


def _spread(
    W: Float[np.ndarray, "p k d"],
    means: Float[np.ndarray, "p d k"],
    about: Float[np.ndarray, "p d m"] | None,
    counts: Int[np.ndarray, "p k"],
    balance: Float[np.ndarray, " p"],
) -> tuple[Float[np.ndarray, "p d d"], Float[np.ndarray, "p d"]]:
    """The principal directions, as rows, in which samples lie about class means, and how far; raises InputError
    for a start that is not balanced."""
    d = W.shape[2]
    of_means = (means * counts[:, None]) @ means.swapaxes(1, 2)
    needed = W.swapaxes(1, 2) @ W - of_means - balance[:, None, None] * np.eye(d)
    if about is None:
        squares, vectors = np.linalg.eigh(needed)
        error, directions = -squares[:, 0], vectors.swapaxes(1, 2)
        spreads = np.sqrt(np.maximum(squares, 0))
        lengths = np.maximum(squares, 0).sum(axis=1)
    else:
        error = np.abs(needed - about @ about.swapaxes(1, 2)).max(axis=(1, 2))
        triangle = np.linalg.qr(about.swapaxes(1, 2), mode="r")
        _, found, directions = np.linalg.svd(triangle)
        spreads = np.zeros((len(W), d))
        spreads[:, : found.shape[1]] = found
        lengths = (about**2).sum(axis=(1, 2))
    size = (W**2).sum(axis=(1, 2)) + np.trace(of_means, axis1=1, axis2=2) + lengths
    if not (error <= 1e-10 * size).all():
        worst = (error - 1e-10 * size).argmax()
        off = f"W^T W - H H^T over I; {error[worst]:.1e} off"
        raise errors.invalid("balance", float(balance[worst]), off)
    return directions, spreads


def _search(modes: _Modes, level: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each point a time by which no component has reached the level but at the start, the first to be tried,
    and that at which learning is given up."""
    (r, _), d = modes.targets.shape, len(modes.rows)
    rows, rates = modes.rows[:, : 2 * r + 2], modes.rates[: 2 * r + 2]
    n, total, fastest = modes.samples, (rows**2).sum(axis=(0, 1)), rates.max(axis=0)
    largest, smallest = modes.targets[[0, -1]]
    # No strength exceeds e^(2 r t) |Q_0|^2 / 2 with r the fastest rate.
    safe = np.log(2 * level * smallest / np.maximum(total, TINY)) / (2 * fastest)
    before = n * np.maximum(safe, 0)
    first = np.where(before > 0, before * SPACING, 1e-3 * n / (fastest + total))
    start = np.linalg.svd(modes.rows[:, :r].transpose(2, 0, 1), compute_uv=False)[:, -1]
    half = np.abs(modes.rates[-1])
    slowest = smallest**2 / (np.hypot(smallest, half) + half)
    if d < r:  # in the end the d fastest are left
        gap = rates[d - 1] - rates[d]
        slowest = np.where(gap > 0, np.minimum(slowest, gap), slowest)
    grown = np.log1p((np.sqrt(largest) / np.maximum(start, TINY)) ** 2)
    last = n * (grown + 2 * E_FOLDS) / (2 * slowest)
    return before, first, last


def _factors(
    times: Float[np.ndarray, " b"], modes: _Modes, points: Int[np.ndarray, " b"]
) -> Iterator[tuple[slice, Float[np.ndarray, "d k b"], Float[np.ndarray, "d k b"]]]:
    """W in the columns of `left` and M in the rows of `right`, both turned from the right by one rotation, at times
    of points: slice by slice."""
    (r, _), (d, q, _) = modes.targets.shape, modes.rows.shape
    size = max(1, NUMBERS // (d * q))
    for begin in range(0, len(times), TOGETHER):
        chunk = slice(begin, begin + TOGETHER)
        mine = points[chunk]
        units = np.maximum(times[chunk] / modes.samples[mine], 1e-200)  # which is 0, to rounding
        growth, shrunk = _growth(units, modes, mine)
        # Reflections that suit one time suit others of the same point before much has grown.
        grade = np.floor(growth[: q - d].max(axis=0) / GRADE)
        kept, group = np.unique([mine, grade], axis=1, return_inverse=True)
        places, begun = kept[0].astype(int), _when(GRADE * kept[1], modes, kept[0].astype(int))
        grown = _growth(begun, modes, places)[0]
        turned, pivots, lengths = _turned(modes.rows.take(places, axis=2), grown)
        for i in range(0, len(mine), size):
            part = slice(i, i + size)
            of_group, own = group.ravel()[part], growth[:, part]
            largest = np.take_along_axis(own, pivots.take(of_group, axis=1), axis=0)
            largest += lengths.take(of_group, axis=1)
            X = (
                _orthogonal(turned.take(of_group, axis=2), own, largest)[:, : q - d]
                * shrunk[:, part]
            )
            rising, falling = X[:, :r], X[:, r : 2 * r]
            cos, sin = modes.cos.take(mine[part], axis=1), modes.sin.take(mine[part], axis=1)
            of_logits = np.concatenate([sin * rising + cos * falling, X[:, -1:]], axis=1)
            of_samples = np.concatenate([cos * rising - sin * falling, X[:, -2:-1]], axis=1)
            yield slice(begin + i, begin + i + len(of_group)), of_logits, of_samples


def _growth(
    units: Float[np.ndarray, " b"], modes: _Modes, points: Int[np.ndarray, " b"]
) -> tuple[Float[np.ndarray, "q b"], Float[np.ndarray, "m b"]]:
    """Half the logarithm of phi = (e^(2 l t) - 1) / (2 l) for each mode and of 1 + phi s^2 for each direction of spread
    s; and e^(l t) / sqrt(phi) for each mode, which is bounded. Times in units of n."""
    x = 2 * units * modes.rates.take(points, axis=1)
    size = np.abs(x)
    g = np.divide(-np.expm1(-size), size, out=np.ones_like(x), where=size > 0)
    phi = np.log(units) + np.maximum(x, 0) + np.log(g)
    with np.errstate(divide="ignore"):
        spread = np.logaddexp(0, phi[-1] + 2 * np.log(modes.spreads.take(points, axis=1)))
    shrunk = np.sqrt(np.exp(np.minimum(x[:-1], 0)) / (units * g[:-1]))
    return np.concatenate([phi[:-1], spread]) / 2, shrunk


def _when(
    growth: Float[np.ndarray, " g"], modes: _Modes, points: Int[np.ndarray, " g"]
) -> Float[np.ndarray, " g"]:
    """When the fastest mode has grown so far in `_growth`, in units of n."""
    rate = 2 * modes.rates[:, points].max(axis=0)
    return np.logaddexp(0, 2 * growth + np.log(rate)) / rate


def _turned(
    rows: Float[np.ndarray, "d q g"], growth: Float[np.ndarray, "q g"]
) -> tuple[Float[np.ndarray, "d q g"], Int[np.ndarray, "d g"], Float[np.ndarray, "d g"]]:
    """Rows turned from the right by reflections, each of which turns the row then largest, grown as they are, onto the
    next axis; which row that was, and the logarithm of its length."""
    d, every = len(rows), np.arange(rows.shape[2])
    pivots, lengths = np.empty((d, every.size), dtype=int), np.empty((d, every.size))
    for j, left in enumerate(rows[i:] for i in range(d)):
        squares = np.einsum("dqg,dqg->qg", left, left)
        with np.errstate(divide="ignore"):  # the logarithm of a row of zeros is -inf
            pivots[j] = pivot = (growth + 0.5 * np.log(squares)).argmax(axis=0)
        length = np.sqrt(squares[pivot, every])
        lengths[j] = np.log(length)
        mirror = left[:, pivot, every]  # of Householder's reflection
        factor = length * (length + np.abs(mirror[0]))
        mirror[0] += np.copysign(length, mirror[0])
        along = np.einsum("dqg,dg->qg", left, mirror) / factor
        for axis, of_mirror in zip(left, mirror, strict=True):
            axis -= along * of_mirror
        left[1:, pivot, every] = 0
    return rows, pivots, lengths


def _orthogonal(
    rows: Float[np.ndarray, "d q b"],
    growth: Float[np.ndarray, "q b"],
    largest: Float[np.ndarray, "d b"],
) -> Float[np.ndarray, "d q b"]:
    """B (B^T B)^-1/2 but for a rotation, for the rows B grown: columns divided by their largest number are made
    orthonormal one after the other, by modified Gram-Schmidt.

    Each row is then right to roundings of its own size, however many decades they span (row-graded
    least squares: Cox and Higham 1998).
    """
    for column, scale in zip(rows, largest, strict=True):
        # Above e^700 only zeros are left, and roundings of numbers that count for nothing; what is below e^-300
        # counts for nothing either, and products of smaller numbers are slow.
        column *= np.exp(np.clip(growth - scale, -300, 700))
    for j, column in enumerate(rows):
        column /= np.sqrt(np.einsum("qb,qb->b", column, column))
        for later in rows[j + 1 :]:
            later -= column * np.einsum("qb,qb->b", column, later)
    return rows
