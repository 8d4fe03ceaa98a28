"""The classes of the samples on which a network is watched."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped

from ssm.config import profiles
from ssm.measures import geometry, spectral


@dataclass(frozen=True)
class Probe:
    """How many samples each class has among those that are watched, and among those that a network is trained on.

    The spectral components are those of the label matrix of the watched samples, among the classes that they have.
    The training samples decide which classes are the majority, and in which geometry training ends.
    """

    counts: Int[np.ndarray, " k"]
    """The number of watched samples of each class, 0 where it has none."""
    training_counts: Int[np.ndarray, " k"]
    """The number of samples of each class that the network is trained on."""

    @functools.cached_property
    def present(self) -> Int[np.ndarray, " p"]:
        """The classes that the probe has."""
        return np.flatnonzero(self.counts)

    @functools.cached_property
    def groups(self) -> Shaped[np.ndarray, " k"]:
        """`majority` or `minority` for each class."""
        return np.array(profiles.class_groups(self.training_counts.tolist()))

    @functools.cached_property
    def components(self) -> spectral.LabelSpectrum:
        """The fixed basis in which logits are followed: contrasts among the classes that are present."""
        return spectral.label_spectrum(
            self.counts[self.present], class_groups=self.groups[self.present]
        )

    @functools.cached_property
    def seli(self) -> geometry.Geometry:
        """The SELI geometry of the training samples, restricted to the classes that are present."""
        return self._of_present(geometry.seli(self.training_counts))

    @functools.cached_property
    def seli_cosines(self) -> tuple[float, float]:
        """The mean cosine of two minority classes in SELI, of their rows in the classifier and of their features."""
        members = np.flatnonzero(self.groups[self.present] == profiles.MINORITY)
        means = []
        for gram in (self.seli.classifier, self.seli.features):
            lengths = np.sqrt(np.diagonal(gram))[members]
            cosines = gram[np.ix_(members, members)] / np.outer(lengths, lengths)
            means.append((cosines.sum() - len(members)) / (len(members) * (len(members) - 1)))
        return float(means[0]), float(means[1])

    @functools.cached_property
    def etf(self) -> geometry.Geometry:
        """The simplex ETF of all classes, restricted to those that are present."""
        return self._of_present(geometry.etf(len(self.counts)))

    def _of_present(self, whole: geometry.Geometry) -> geometry.Geometry:
        if len(self.present) == len(self.counts):
            return whole
        return geometry.Geometry(*(part[np.ix_(self.present, self.present)] for part in whole))


@dataclass(frozen=True)
class TaughtProbe(Probe):
    """A probe whose samples are taught distributions over the classes, in the order in which they are watched."""

    targets: Float[np.ndarray, "k n"]
    """The distribution p_j of each sample, one a column."""
    labels: Int[np.ndarray, " n"]
    """The class of each sample."""
    are_named: bool
    """Whether the classes of the samples were given, so that contrasts between them have names."""

    @functools.cached_property
    def components(self) -> spectral.LabelSpectrum:
        """The components of the centred targets."""
        return spectral.target_spectrum(self.targets, self.groups if self.are_named else None)

    @functools.cached_property
    def mean_targets(self) -> Float[np.ndarray, "k k"]:
        """The mean centred target of each class, a column a class."""
        centred = self.targets - 1 / len(self.targets)
        return spectral.mean_targets(centred, self.labels, self.counts)
