"""Maps from the probabilities of a fitted classifier to calibrated ones, fitted to predictions of samples that
it was not fitted on."""

from __future__ import annotations

import logging
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import special
from sklearn.isotonic import IsotonicRegression

from ssm.problem import posthoc
from ssm.support.errors import InputError

NAMES = ("temperature", "isotonic")
Probabilities = Float[np.ndarray, "m k"]
# Probabilities below this are raised to it before a logarithm is taken, as in scikit-learn's log loss.
LEAST = float(np.finfo(float).eps)
log = logging.getLogger("ssm.training")


class Temperature(NamedTuple):
    """Temperature scaling: softmax(log p / T), which keeps the order of the classes (Guo et al. 2017)."""

    temperature: float

    def __call__(self, probabilities: Probabilities) -> Probabilities:
        """The calibrated probabilities, shape (m, k)."""
        return special.softmax(_logarithms(probabilities) / self.temperature, axis=1)


class Isotonic(NamedTuple):
    """Isotonic regression of each class against the rest, whose results are divided by their sum. With two classes only the
    second has a map, and the probability of the first is 1 minus its result (Zadrozny and Elkan 2002)."""

    maps: tuple[IsotonicRegression, ...]

    def __call__(self, probabilities: Probabilities) -> Probabilities:
        """The calibrated probabilities, shape (m, k); where all maps give 0, the probabilities of the row are equal."""
        if len(self.maps) == 1:
            second = self.maps[0].predict(probabilities[:, 1])
            return np.stack([1 - second, second], axis=1)
        columns = zip(self.maps, probabilities.T, strict=True)
        rows = np.stack([each.predict(column) for each, column in columns], axis=1)
        total = rows.sum(axis=1, keepdims=True)
        return np.where(total > 0, rows / np.where(total > 0, total, 1), 1 / rows.shape[1])


def fitted(
    name: str,
    probabilities: Probabilities,
    labels: Int[np.ndarray, " m"],
    sample_weights: Float[np.ndarray, " m"],
) -> Temperature | Isotonic:
    """The map of this name that suits these samples best.

    Args:
        name: one of `NAMES`.
        probabilities: of samples that the classifier was not fitted on, shape (m, k).
        labels: integers below k, shape (m,).
        sample_weights: how often each sample counts, all positive, shape (m,).
    """
    if name == "temperature":
        try:
            logits = _logarithms(probabilities).T
            return Temperature(posthoc.fit_temperature(logits, labels, sample_weights))
        except InputError as error:
            log.info("no temperature is best on the held-out samples, so it is 1: %s", error)
            return Temperature(1.0)
    k = probabilities.shape[1]
    maps = []
    for c in range(1, 2) if k == 2 else range(k):
        regression = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
        is_class = (labels == c).astype(float)
        maps.append(regression.fit(probabilities[:, c], is_class, sample_weight=sample_weights))
    return Isotonic(tuple(maps))


def _logarithms(probabilities: Probabilities) -> Probabilities:
    """log p, where a p of 0, as trees report it, counts as `LEAST` so that the logarithm is finite."""
    return np.log(np.maximum(probabilities, LEAST))
