"""Mini-batches that are drawn by class instead of passing over the data, and pairs of samples that are mixed. All of it
depends on the seed and the step alone, so that a run that goes on from any step goes the same way."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import special

from ssm.support import checks

SAMPLING, MIXING = 1, 2  # streams of random numbers beside those of the passes over the data


@dataclasses.dataclass(frozen=True)
class Mixup:
    """Training on mixtures of two samples of a mini-batch, x = l x_i + (1 - l) x_j with l from Beta(alpha, alpha), whose loss
    is that of the labels in the shares m of y_i and 1 - m of y_j. Plain mixup has m = l.

    Labels that know of class sizes (Remix) go to the rarer class where that is much rarer and not too little of the
    mixture: m = 0 where n_i >= ratio n_j and l < least, m = 1 where n_j >= ratio n_i and 1 - l < least, and else l.

    Args:
        alpha: positive; the smaller, the nearer mixtures are to samples.
        ratio: of class sizes from which on labels go to the rarer class, above 1; None: they never do.
        least: the share in (0, 1] that the more frequent class must have to count.

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
        """m, the share of the first sample's label, for shares l of the sample and the sizes of both classes."""
        if self.ratio is None:
            return mixed
        to_partner = (sizes >= self.ratio * partner_sizes) & (mixed < self.least)
        to_first = (partner_sizes >= self.ratio * sizes) & (1 - mixed < self.least)
        return np.where(to_partner, 0.0, np.where(to_first, 1.0, mixed))

    def class_factors(self, counts: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
        """How much more of each class there is among labels of mixtures than among samples, shape (k,): as class weights
        do, it shifts the probabilities that are learned. It is 1 for plain mixup.

        With pairs of independent samples a class of share s_c has sum_j s_c s_j (E m_cj + 1 - E m_jc), and by the moments of
        Beta(a, a) E m is 1/2 between classes of like sizes, (1 - I(least; a + 1, a)) / 2 for the first label where the
        second is much rarer, and 1 less that for the other way about.
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
    """Indices of the others; a row of padding is its own."""
    mixed: Float[np.ndarray, "t b"]
    """The share of the first sample in the features."""
    labels: Float[np.ndarray, "t b"]
    """The share of its label."""


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
        labels: of the samples, without padding.
        class_weights: w at each step.
        size: b, samples of a mini-batch.
        seed: of the draws.
        first: the step of the first mini-batch.

    Returns:
        Indices of the samples, and the weights that are left to the loss: for all classes the mean weight of a sample.
    """
    k = class_weights.shape[1]
    order, numbers = np.argsort(labels, kind="stable"), np.bincount(labels, minlength=k)
    starts = np.cumsum(numbers) - numbers
    shares = np.cumsum(numbers * class_weights, axis=1)
    rows = np.empty((len(class_weights), size), np.int32)
    for i, bounds in enumerate(shares):
        u, v = np.random.default_rng((seed, SAMPLING, first + i)).random((2, size))
        classes = np.minimum(np.searchsorted(bounds, u * bounds[-1], side="right"), k - 1)
        # Of equal samples of a class any is drawn as often.
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
    """Whom each sample of an interval's mini-batches is mixed with, and in which shares.

    Args:
        mixup: how.
        batches: indices of samples; those from the number of labels on are padding and stay by themselves.
        labels: of the samples, without padding.
        counts: the class sizes.
        seed: of the draws.
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
