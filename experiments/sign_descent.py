"""Sign descent from small starts, by class means alone: how fast the contrasts of each group grow.

Every entry of features and classifier moves by the rate a step, whatever the size of its gradient. So a class's
features go by the sign of w_c - mean of w over classes in every coordinate by itself, all samples alike,
and its row of the classifier by the sign of n_c w_c h_c less the mean of that over classes, as long as
nothing is learned; the residual S - Z then takes the place of S. Once a coordinate's signs have settled a
contrast grows as q d (steps x rate)^2 over its target, where q is how often two classes of a group
move apart in both. For majorities under ERM that is nearly always (q = 1.04). Minorities' rows follow
the majorities: where the signs of these sum to s with n_maj |s| / k well above n_min, all minorities' rows go
against that sum alike, and no contrast among them grows. At R = k that leaves the entries where s is 1 or
-1, some two thirds, and in these some rows yet go alike: q = 0.50. Counted as coin tosses it was a third.

In a wide layer that is all. In a narrow one coordinates are too few for the classes' sign patterns to be
orthogonal, so that what is learned of majorities disturbs minorities: the mean over draws of that width
includes it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from experiments.readings import GROUPS
from ssm import Config, spectral
from ssm.problem import make_problem


class Start(NamedTuple):
    """Where class means begin."""

    rows: np.ndarray
    """Of the classifier, (draw, class, coordinate)."""
    means: np.ndarray
    """Of each class's features, likewise."""


def gaussian_start(config: Config, draws: int, width: int) -> Start:
    """Means over a class's Gaussian features are the smaller the more there are."""
    rng = np.random.default_rng(0)
    counts = make_problem(config).counts[:, None]
    rows, means = config.init_scale * rng.normal(size=(2, draws, len(counts), width))
    return Start(rows, means / np.sqrt(counts))


def shares(config: Config, start: Start) -> np.ndarray:
    """Strength over target of `GROUPS`, mean over the contrasts of each, (draw, step, group), by sign
    descent under the squared loss. A start that is wider than the config's layer stands for its mean over draws:
    logits are scaled to the layer's width."""
    problem = make_problem(config)
    counts, rate = problem.counts.astype(float), config.learning_rate
    assert rate is not None and config.num_steps is not None
    weight = counts * problem.class_weights
    scale = config.feature_dim / start.rows.shape[-1]
    target = np.eye(len(counts)) - 1 / len(counts)
    masks = [np.array(config.class_groups) == group for group in GROUPS]
    rows, means = start
    found = []
    for _ in range(config.num_steps + 1):
        logits = scale * rows @ means.swapaxes(-1, -2)
        found.append([_contrasts(logits[:, mask][:, :, mask]) for mask in masks])
        residual = target - logits
        force = (residual * weight) @ means
        means = means + rate * np.sign(residual.swapaxes(-1, -2) @ rows)
        rows = rows + rate * np.sign(force)
    return np.moveaxis(np.array(found), -1, 0)


def _contrasts(logits: np.ndarray) -> np.ndarray:
    """Mean of u^T Z u over contrasts u of a group, (draw,)."""
    classes = logits.shape[-1]
    own = np.trace(logits, axis1=-2, axis2=-1)
    return (own - logits.sum((-2, -1)) / classes) / (classes - 1)


def learning_times(shares: np.ndarray, level: float = spectral.LEARNED) -> np.ndarray:
    """Steps until shares at every step, (step, ...), first reach a level; NaN where they never do."""
    return spectral.learning_times(np.arange(len(shares), dtype=float), shares, level)


def wide_course(config: Config, coordinates: int) -> np.ndarray:
    """Shares of `GROUPS` in a wide layer, (step, group)."""
    return shares(config, gaussian_start(config, 1, coordinates))[0]


def growth_at(course: np.ndarray, config: Config, level: float) -> np.ndarray:
    """q of `GROUPS`, (group,): share over d (steps x rate)^2 when majorities are at that level, of the shares
    at every step, (step, group)."""
    assert config.learning_rate is not None
    step = round(float(learning_times(course[:, 0], level)))
    return course[step] / (config.feature_dim * (step * config.learning_rate) ** 2)


def time_ratios(config: Config, draws: int) -> np.ndarray:
    """Minority over majority learning time of draws of the config's own width."""
    start = gaussian_start(config, draws, config.feature_dim)
    times = learning_times(shares(config, start).swapaxes(0, 1))
    return times[:, 1] / times[:, 0]
