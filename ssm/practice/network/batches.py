"""Mini-batches that are drawn by class instead of passing over the data, and pairs of samples that are mixed. Both
depend on the seed and the step alone, so that a run that goes on from any step draws the same."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import special

from ssm.support import checks

# Numbers of random streams, which differ from those of the passes over the data
SAMPLING, MIXING = 1, 2


@dataclasses.dataclass(frozen=True)
class Mixup:
    """Training on mixtures of two samples of a mini-batch, x = l x_i + (1 - l) x_j with l from Beta(alpha, alpha). The loss of a
    mixture is m times that with the label y_i plus 1 - m times that with y_j. Plain mixup has m = l.

    With a `ratio` (Remix), the label is that of the rarer class where it is much rarer and the more frequent one has a small share
    of the mixture: m = 0 where n_i >= ratio n_j and l < least, m = 1 where n_j >= ratio n_i and 1 - l < least, and m = l elsewhere.

    Args:
        alpha: a positive number; the smaller it is, the nearer mixtures are to one of their samples.
        ratio: the ratio of class sizes, above 1, from which on labels go to the rarer class; None if they never do.
        least: the share in (0, 1] that the more frequent class must have of a mixture for its label to count.

    Raises:
        ssm.InputError: anything else.

    Sources: Zhang, Cisse, Dauphin and Lopez-Paz 2018 (mixup); Chou, Chang, Pan, Wei and Juan 2020 (Remix: rebalanced mixup).
    """

    alpha: float = 0.2
    ratio: float | None = None
    least: float = 0.5

    def __post_init__(self) -> None:
        checks.real("alpha", self.alpha, 0, open_ends="(")
        if self.ratio is not None:
            checks.real("ratio", self.ratio, 1, open_ends="(")
        checks.real("least", self.least, 0, 1, open_ends="(")

    def label_shares(
        self,
        mixed: Float[np.ndarray, "*n"],
        sizes: Float[np.ndarray, "*n"],
        partner_sizes: Float[np.ndarray, "*n"],
    ) -> Float[np.ndarray, "*n"]:
        """The shares m of the first sample's label.

        Args:
            mixed: the shares l of the first sample.
            sizes: the sizes of its class.
            partner_sizes: the sizes of the class of the other sample.
        """
        if self.ratio is None:
            return mixed
        to_partner = (sizes >= self.ratio * partner_sizes) & (mixed < self.least)
        to_first = (partner_sizes >= self.ratio * sizes) & (1 - mixed < self.least)
        return np.where(to_partner, 0.0, np.where(to_first, 1.0, mixed))

    def class_factors(self, counts: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
        """The share of each class among the labels of mixtures over its share among samples, shape (k,). It shifts the
        probabilities that are learned as class weights do. It is 1 for plain mixup.

        With pairs of independent samples a class of share s_c has the share sum_j s_c s_j (E m_cj + 1 - E m_jc) of the labels. By the
        moments of Beta(a, a), E m is 1/2 between classes of similar sizes; where the second class is much rarer than the first it is
        (1 - I(least; a + 1, a)) / 2, and where the first is much rarer it is 1 minus that.
        """
        if self.ratio is None:
            return np.ones(len(counts))
        kept = (1 - special.betainc(self.alpha + 1, self.alpha, self.least)) / 2
        more = counts[:, None] >= self.ratio * counts
        first = np.where(more, kept, np.where(more.T, 1 - kept, 0.5))
        return (first + 1 - first.T) @ (counts / counts.sum())


class Pairs(NamedTuple):
    """The samples of an interval's mini-batches, each with the one that it is mixed with."""

    partners: Int[np.ndarray, "t b"]
    """Indices of the samples that are mixed in; a row of padding has itself."""
    mixed: Float[np.ndarray, "t b"]
    """The share of the first sample in the features."""
    labels: Float[np.ndarray, "t b"]
    """The share of the first sample's label in the loss."""


def drawn_by_class(
    labels: Int[np.ndarray, " n"],
    class_weights: Float[np.ndarray, "t k"],
    size: int,
    seed: int,
    first: int,
) -> tuple[Int[np.ndarray, "t b"], Float[np.ndarray, "t k"]]:
    """Mini-batches in which class weights act by how often a sample is drawn: with replacement, with probability
    proportional to w_{y_i}. Their mean loss then has the expectation of the weighted risk of all samples.

    Args:
        labels: the labels of the samples, without padding, shape (n,).
        class_weights: w at each step, shape (t, k).
        size: b, the number of samples of a mini-batch.
        seed: the seed of the draws.
        first: the step of the first mini-batch.

    Returns:
        Indices of the samples, and the class weights that remain for the loss: for all classes the mean weight of a sample.
    """
    k = class_weights.shape[1]
    order, numbers = np.argsort(labels, kind="stable"), np.bincount(labels, minlength=k)
    starts = np.cumsum(numbers) - numbers
    shares = np.cumsum(numbers * class_weights, axis=1)
    rows = np.empty((len(class_weights), size), np.int32)
    for i, bounds in enumerate(shares):
        u, v = np.random.default_rng((seed, SAMPLING, first + i)).random((2, size))
        classes = np.minimum(np.searchsorted(bounds, u * bounds[-1], side="right"), k - 1)
        # Each sample of a class is drawn with the same probability.
        rows[i] = order[starts[classes] + (v * numbers[classes]).astype(np.int64)]
    return rows, np.repeat(shares[:, -1:] / len(labels), k, axis=1)


def pairs(
    mixup: Mixup,
    batches: Int[np.ndarray, "t b"],
    labels: Int[np.ndarray, " n"],
    counts: Float[np.ndarray, " k"],
    seed: int,
    first: int,
) -> Pairs:
    """The sample that each sample of an interval's mini-batches is mixed with, and the shares of both.

    Args:
        mixup: how samples are mixed.
        batches: indices of samples, shape (t, b); those from n on are padding, and are not mixed.
        labels: the labels of the samples, without padding, shape (n,).
        counts: the class sizes, shape (k,).
        seed: the seed of the draws.
        first: the step of the first mini-batch.
    """
    n, partners = len(labels), batches.copy()
    mixed = np.ones(batches.shape)
    for i, batch in enumerate(batches):
        rng = np.random.default_rng((seed, MIXING, first + i))
        real = np.flatnonzero(batch < n)
        partners[i, real] = batch[rng.permutation(real)]
        mixed[i, real] = rng.beta(mixup.alpha, mixup.alpha, len(real))
    sizes = np.append(counts, 1.0)[np.where(batches < n, labels[np.minimum(batches, n - 1)], -1)]
    of_partners = np.append(counts, 1.0)[
        np.where(partners < n, labels[np.minimum(partners, n - 1)], -1)
    ]
    return Pairs(partners, mixed, mixup.label_shares(mixed, sizes, of_partners))
