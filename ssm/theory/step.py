"""STEP, two groups of equal classes, in closed form for whole grids of parameters: a heat map without runs.

Numbers go in as arrays that broadcast; their common shape, here (...), leads every result, followed by
times and blocks. Blocks are in the order of `spectral.BLOCKS`, times are flow time.
"""

from __future__ import annotations

from typing import get_args

import numpy as np
from jaxtyping import Float

from ssm.config import profiles
from ssm.config.model import Bias
from ssm.measures import spectral
from ssm.support import checks, errors
from ssm.theory import exact, growth
from ssm.theory.groups import Step, step_of, whole_sizes
from ssm.theory.growth import Values

__all__ = ["Step", "components", "curves", "grid", "growth_rates", "learning_times", "step_of"]


def grid(
    imbalance_ratio: Values,
    weight_exponent: Values = 0.0,
    coupling: Values = 0.0,
    *,
    between_coupling: Values = 0.0,
    bias: Bias = "none",
    num_classes: Values = 10,
    minority_fraction: Values = 0.5,
    minority_count: Values = 5,
) -> Step:
    """STEP problems with power-law weights (`weights.power_law`), those of a Config of these fields.

    Args:
        imbalance_ratio, weight_exponent, coupling, between_coupling: R >= 1, g, c and c_b.
        bias: what has a bias, of all of them.
        num_classes, minority_fraction, minority_count: k, rho and n_min. All numbers broadcast against one another;
            what has an entry for each class or component, as `components`, asks for one k and one rho.

    Raises:
        ssm.InputError: a number that no Config may have.

    Example:
        When minorities are learned after majorities, over R and g, without a run:

        >>> R, g = np.geomspace(1, 1000, 4)[:, None], np.array([0.0, 0.5, 1.0])
        >>> times = learning_times(grid(R, g), start=1e-6)  # shape (4, 3, blocks)
        >>> (times[..., 2] / times[..., 0]).round(2).tolist()
        [[1.0, 1.0, 1.0], [2.93, 0.93, 0.29], [8.64, 0.86, 0.09], [25.58, 0.81, 0.03]]
    """
    checks.choice("bias", bias, get_args(Bias))
    R, g, c, b, smallest, k, rho = np.broadcast_arrays(
        *(
            np.asarray(x, dtype=float)
            for x in (
                *(imbalance_ratio, weight_exponent, coupling, between_coupling, minority_count),
                *(num_classes, minority_fraction),
            )
        )
    )
    minorities = np.round(rho * k)  # a half to the even one, as `profiles.num_minority_classes`
    for name, values, fine, allowed in (
        ("imbalance_ratio", R, R >= 1, "finite and at least 1"),
        ("weight_exponent", g, np.abs(g) <= 10, "in [-10, 10]"),
        ("coupling", c, (c >= 0) & (c <= 1), "in [0, 1]"),
        ("between_coupling", b, (b >= 0) & (b <= c) & (b < 1), "in [0, 1), at most the coupling"),
        (
            "minority_count",
            smallest,
            (smallest >= 1) & (smallest == np.round(smallest)),
            "an integer, at least 1",
        ),
        ("num_classes", k, (k >= 2) & (k == np.round(k)), "an integer, at least 2"),
        (
            "minority_fraction",
            rho,
            (minorities >= 1) & (minorities < k),
            "such that both groups have a class",
        ),
    ):
        if not (fine & np.isfinite(values)).all():
            raise errors.invalid(name, values, allowed)
    counts = np.stack([np.round(R * smallest), smallest], axis=-1)
    sizes = np.stack([k - minorities, minorities], axis=-1)
    reference = np.where(g > 0, counts[..., 1], counts[..., 0])[..., None]
    powers = (counts / reference) ** -g[..., None]  # no power of a ratio overflows
    members = sizes * counts
    mean = (members * powers).sum(axis=-1, keepdims=True) / members.sum(axis=-1, keepdims=True)
    kernel = 1 + c[..., None] * (counts - 1) - b[..., None] * counts
    common = b[..., None] + float(bias in ("hidden", "both"))
    return Step(sizes, counts, powers / mean, kernel, common, bias in ("output", "both"))


def components(step: Step) -> spectral.LabelSpectrum:
    """The basis in which all problems of a grid are followed, `spectral.components` of each but for the order:
    contrasts among majorities, the one across, contrasts among minorities. `left` and `blocks` are one for
    all, `singular_values` have shape (..., k - 1).

    Raises:
        ssm.InputError: groups that have not the same whole number of classes at every point.
    """
    sizes = whole_sizes(step)
    in_order = np.repeat(
        [2, 1], sizes
    )  # samples of a class, by which the three blocks are in order
    groups = np.repeat(profiles.GROUPS, sizes)
    alike = spectral.label_spectrum(in_order, class_groups=groups)
    cross = np.linalg.norm(step.cross_targets, axis=-1)
    by_block = _blocks(np.sqrt(step.counts), cross)
    return alike._replace(
        singular_values=by_block[..., np.repeat([0, 1, 2], [sizes[0] - 1, 1, sizes[1] - 1])]
    )


def growth_rates(step: Step) -> Float[np.ndarray, "*grid 3"]:
    """Growth rate of each block while logits are small, under either loss: `component_growth_rates` of
    these problems. w_g sqrt(n_g kappa_g) / n within a group; across the square root of |sqrt(kappa) w s|^2 +
    beta (sum_g w_g sqrt(k_g n_g) s_g)^2, over n. Shape (..., 3).
    """
    within = step.weights * np.sqrt(step.counts * step.kernel)
    seen = step.weights * step.seen_targets
    shared = (np.sqrt(step.sizes * step.counts) * seen).sum(axis=-1)
    own = np.linalg.norm(np.sqrt(step.kernel) * seen, axis=-1)
    cross = np.hypot(own, np.sqrt(step.common[..., 0]) * shared)
    return _blocks(within, cross) / np.asarray(step.num_samples)[..., None]


def curves(
    times: Float[np.ndarray, "*#grid t"], step: Step, start: Values
) -> Float[np.ndarray, "*grid t 3"]:
    """Share of its target that each block has learned, under the squared loss from a balanced spectral
    start: exact at every time (`sigmoid` within a group, `exact.cross_mode` across).

    Args:
        times: shape (t,), or (..., t) where each problem has its own.
        step: of `grid` or `step_of`.
        start: product strength of every mode at t = 0, init_scale^2 of a run's `spectral` start; broadcasts.

    Returns:
        shape (..., t, 3); NaN within a group of a single class.
    """
    strength = exact.cross_mode(times, step, start)
    rates, shares = _within_groups(step, start)
    within = growth.sigmoid(times, rates, shares, np.ones_like(shares))
    cross = strength / np.linalg.norm(step.cross_targets, axis=-1, keepdims=True)
    single = np.where(step.sizes > 1, 1, np.nan)[..., None, :]
    return _blocks(within * single, cross)


def learning_times(
    step: Step, start: Values, level: Values = spectral.LEARNED
) -> Float[np.ndarray, "*grid 3"]:
    """When each block first reaches `level` of its target in `curves`, whose arguments these are; levels broadcast:
    `learning_time` within a group, `exact.cross_learning_time` across. Shape (..., 3), flow time; NaN within
    a group of a single class."""
    cross = np.asarray(exact.cross_learning_time(step, start, level))
    rates, shares = _within_groups(step, start)
    levels = np.asarray(level, dtype=float)[..., None]
    within = growth.learning_time(rates, shares, "squared", 1, levels)
    return _blocks(within * np.where(step.sizes > 1, 1, np.nan), cross)


def _within_groups(step: Step, start: Values) -> tuple[np.ndarray, np.ndarray]:
    """Growth rate within each group, and the share of its target that a mode of strength `start` has."""
    shares = np.asarray(start, dtype=float)[..., None] * np.sqrt(step.kernel / step.counts)
    return growth_rates(step)[..., [0, 2]], shares


def _blocks(within: np.ndarray, cross: np.ndarray) -> np.ndarray:
    """Majority, cross, minority along the last axis, of the two groups' and the cross block's."""
    return np.stack([within[..., 0], cross, within[..., 1]], axis=-1)
