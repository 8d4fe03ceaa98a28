"""Inputs that features are made of, and data that is held out: drawn from the mixture of a Config, or one's own.

The mixture has p inputs: e_0, which all samples share, e_1 ... e_k of the classes, q of noise, and with a bias
of the features a constant 1. A sample of class y is

    x = sqrt(c_b) e_0 + sqrt(c - c_b) e_y + sqrt(1 - c) xi,    xi ~ N(0, I/q),

so that x^T x' is c within a class and c_b between two, on average. Where classes have groups, sqrt(c_a) times an input
of the attribute is added, and the factor of the noise is sqrt(1 - c - c_a).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from ssm.config import Config, check_config
from ssm.problem.problem import Problem, make_problem
from ssm.support import errors


class HeldOutSamples(NamedTuple):
    """Samples that are not trained on."""

    inputs: Float[np.ndarray, "p m"]
    labels: Int[np.ndarray, " m"]


class Inputs(NamedTuple):
    """The inputs that the features of a run are made of."""

    training: Float[np.ndarray, "p n"]
    """X, its samples sorted by class."""
    held_out: HeldOutSamples | None = None
    """Held-out samples of one's own; None where the whole mixture is held out, or nothing."""


def noise_rows(config: Config) -> slice:
    """The rows of X that hold noise."""
    assert config.noise_dim is not None
    first = 1 + config.num_classes + config.num_attributes
    return slice(first, first + config.noise_dim)


def mean_inputs(config: Config, problem: Problem) -> Float[np.ndarray, "p q"]:
    """The mean input of each class in the mixture of a Config, or of each group where classes have groups."""
    assert config.noise_dim is not None
    k, c, b = len(problem.counts), problem.coupling, problem.between_coupling
    common, by_class = np.full((1, k), np.sqrt(b)), np.sqrt(c - b) * np.eye(k)
    named = np.concatenate([common, by_class])
    if (groups := problem.groups) is not None:
        of_attribute = np.eye(config.num_attributes)[:, groups.attributes]
        of_attribute = np.sqrt(groups.attribute_coupling) * of_attribute
        named = np.concatenate([named[:, groups.classes], of_attribute])
    number = named.shape[1]
    bias = np.ones((int(problem.hidden_bias), number))
    return np.concatenate([named, np.zeros((config.noise_dim, number)), bias])


def draw_inputs(config: Config, problem: Problem) -> Float[np.ndarray, "p n"]:
    """X of the mixture of a Config, sorted by class, as its seed draws it."""
    assert config.noise_dim is not None
    # These draws are independent of those of the start.
    rng = np.random.default_rng([config.seed, 2])
    labels = problem.labels if problem.groups is None else problem.groups.labels
    X = mean_inputs(config, problem)[:, labels]
    noise = rng.normal(size=(config.noise_dim, len(problem.labels)))
    X[noise_rows(config)] = np.sqrt(problem.private_coupling / config.noise_dim) * noise
    return X


def mixture_inputs(
    config: Config,
) -> tuple[Float[np.ndarray, "n p"], Int[np.ndarray, " n"]]:
    """The samples that a Config with `noise_dim` draws by its seed, as data of one's own: inputs, a row a
    sample, and labels. A bias of the features would be one more input that is 1; it is not among them.

    Raises:
        ssm.InputError: something else than a Config, or one without `noise_dim`.

    Example:
        >>> import ssm
        >>> config = ssm.Config(num_classes=3, coupling=0.2, noise_dim=40)
        >>> inputs, labels = ssm.mixture_inputs(config)
        >>> inputs.shape, labels.shape
        ((60, 44), (60,))
    """
    check_config("config", config)
    if config.noise_dim is None:
        raise errors.invalid("noise_dim", None, "given, for inputs that can be drawn")
    problem = make_problem(config)
    X = draw_inputs(config, problem)
    return X[: len(X) - problem.hidden_bias].T, problem.labels
