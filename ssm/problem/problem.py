"""The learning problem class by class: counts, weights, coupling; and label matrices."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from ssm.config import Config
from ssm.problem import weights

NOTHING = np.array(0.0)


class MeasuredKernel(NamedTuple):
    """The numbers that are measured of a coupling kernel X^T X of inputs of one's own."""

    eigenvalues: Float[np.ndarray, " k"]
    """kappa_c."""
    size: float
    """The largest eigenvalue of K^(1/2) Omega K^(1/2)."""


class Targets(NamedTuple):
    """The distributions that samples are taught, sorted by class."""

    probabilities: Float[np.ndarray, "k n"]
    """p_j, a column a sample."""
    sample_weights: Float[np.ndarray, " n"]
    """A factor of the loss of each sample, beside the weight of its class."""
    are_named: bool
    """Whether the classes of the samples were given, so that contrasts between them have names."""

    @property
    def centred(self) -> Float[np.ndarray, "k n"]:
        """T with the columns p_j - 1/k."""
        return self.probabilities - 1 / len(self.probabilities)


class Groups(NamedTuple):
    """Groups inside classes, g = k a of them for a values of an attribute, class by class."""

    counts: Int[np.ndarray, "k a"]
    """Samples of each group."""
    weights: Float[np.ndarray, " g"]
    """v_g, a factor of the losses of each group beside the weight of its class, of unit mean over samples."""
    attribute_coupling: float
    """c_a."""

    @property
    def classes(self) -> Int[np.ndarray, " g"]:
        """The class of each group."""
        return np.repeat(np.arange(len(self.counts)), self.counts.shape[1])

    @property
    def attributes(self) -> Int[np.ndarray, " g"]:
        """The value of the attribute of each group."""
        return np.tile(np.arange(self.counts.shape[1]), len(self.counts))

    @property
    def labels(self) -> Int[np.ndarray, " n"]:
        """The group of each sample, sorted."""
        return np.repeat(np.arange(self.counts.size), self.counts.ravel())


class Problem(NamedTuple):
    """The problem that gradient flow learns, as host arrays over the k classes; n is the sum of the counts."""

    counts: Int[np.ndarray, " k"]
    """Samples n_c of each class."""
    class_groups: Shaped[np.ndarray, " k"]
    """`majority` or `minority` for each class."""
    class_weights: Float[np.ndarray, " k"]
    """w_c, of unit mean over samples where the risk is a weighted mean."""
    coupling: Float[np.ndarray, ""]
    """The coupling c in [0, 1]."""
    between_coupling: Float[np.ndarray, ""] = NOTHING
    """The coupling c_b of samples of different classes, at most c."""
    hidden_bias: bool = False
    """Whether the features have a bias."""
    output_bias: bool = False
    """Whether the logits have a bias."""
    measured: MeasuredKernel | None = None
    """The kernel of inputs of one's own, which have no couplings; else None."""
    targets: Targets | None = None
    """The targets of the samples; None where each is taught its label."""
    groups: Groups | None = None
    """The groups inside the classes; None where classes have none."""
    growth_rates: Float[np.ndarray, " r"] | None = None
    """Rates at which components grow from small starts, largest first, where the samples of a class are not all
    alike; None where the numbers of the classes determine the rates."""

    @property
    def private_coupling(self) -> float:
        """1 - c - c_a, how far training a sample moves its own features beyond what it moves those of others."""
        of_attribute = 0.0 if self.groups is None else self.groups.attribute_coupling
        return float(1 - self.coupling) - of_attribute

    @property
    def group_kernel(self) -> Float[np.ndarray, "g g"]:
        """M, how far training a sample of one group moves the features of another: (c - c_b) of one class, c_a of
        one attribute, and beta of all. The whole kernel is (1 - c - c_a) I + C M C^T, C the membership."""
        assert self.groups is not None
        y, b = self.groups.classes, self.groups.attributes
        within = (self.coupling - self.between_coupling) * (y[:, None] == y[None])
        alike = self.groups.attribute_coupling * (b[:, None] == b[None])
        return within + alike + self.common_coupling

    @property
    def shared(self) -> bool:
        """Whether the features of a class move as one."""
        return bool(self.coupling == 1)

    @property
    def labels(self) -> Int[np.ndarray, " n"]:
        """Class of each sample, sorted."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    @property
    def kernel_eigenvalues(self) -> Float[np.ndarray, " k"]:
        """kappa_c = 1 - c + (c - c_b) n_c, the eigenvalue on a class's constant vector of the coupling kernel
        without what all samples share; or the one that was measured."""
        if self.measured is not None:
            return self.measured.eigenvalues
        return 1 + self.coupling * (self.counts - 1.0) - self.between_coupling * self.counts

    @property
    def common_coupling(self) -> float:
        """beta, how far training one sample moves the features of all: c_b, and 1 more with a bias of
        the features, which is a constant input. The whole kernel is blockdiag((1 - c) I + (c - c_b) 11^T)
        + beta 11^T."""
        return float(self.between_coupling) + self.hidden_bias

    @property
    def kernel_size(self) -> float:
        """The largest eigenvalue of K^(1/2) Omega K^(1/2), which bounds how fast any logits move."""
        if self.measured is not None:
            return self.measured.size
        shared = np.sqrt(self.counts * self.class_weights)
        own = np.diag(self.class_weights * self.kernel_eigenvalues)
        return float(np.linalg.eigvalsh(own + self.common_coupling * np.outer(shared, shared))[-1])

    @property
    def class_kernel(self) -> Float[np.ndarray, "k k"]:
        """T = diag(kappa_c / n_c) + beta 11^T: with Sigma_c = -W^T G 1_c of the samples of class c, the class
        means of the features move by dM/dt = Sigma T."""
        return np.diag(self.kernel_eigenvalues / self.counts) + self.common_coupling


def make_problem(config: Config) -> Problem:
    """The problem that a Config describes."""
    counts = np.array(config.class_counts)
    class_weights = np.ones(len(counts))  # This is the weight of classes without samples too.
    present = counts[counts > 0]
    of_present = _class_weights(config, present)
    if config.reduction == "weighted_mean":
        # Such a risk does not depend on the scale of its weights.
        of_present = of_present / weights.mean_sample_weight(present, of_present)
    class_weights[counts > 0] = of_present
    return Problem(
        counts=counts,
        class_groups=np.array(config.class_groups),
        class_weights=class_weights,
        coupling=np.array(config.coupling),
        between_coupling=np.array(config.between_coupling),
        hidden_bias=config.has_hidden_bias,
        output_bias=config.has_output_bias,
        groups=_groups(config),
    )


def _groups(config: Config) -> Groups | None:
    """The groups inside the classes of a Config, and their weights."""
    if not config.has_groups:
        return None
    counts = np.array(config.group_counts)
    of_groups = weights.power_law(counts.ravel(), config.group_weight_exponent)
    return Groups(counts, of_groups, config.attribute_coupling)


def _class_weights(config: Config, counts: Int[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """The weights that a Config gives to its classes that have samples."""
    if config.class_weights is not None:
        given = config.class_weights
        if not isinstance(given, str):
            given = [w for w, n in zip(given, config.class_counts, strict=True) if n > 0]
        return weights.class_weights(given, counts)
    if config.effective_number_beta is not None:
        return weights.effective_number(counts, config.effective_number_beta)
    return weights.power_law(counts, config.weight_exponent)


def membership(labels: Int[np.ndarray, " m"], num_classes: int) -> Float[np.ndarray, "m k"]:
    """The transpose of the one-hot labels Y: one row for each column, 1 at its class."""
    return np.eye(num_classes)[labels]


def simplex_labels(labels: Int[np.ndarray, " m"], num_classes: int) -> Float[np.ndarray, "k m"]:
    """The simplex-encoded label (SEL) matrix S = Y - 1/k, k x m: each column sums to zero.

    Source: Thrampoulidis, Kini, Vakilian, Behnia 2022.
    """
    return membership(labels, num_classes).T - 1 / num_classes
