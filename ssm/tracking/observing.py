"""The observations of a network at one time from the logits of the samples of a probe, which may come in batches."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy.special import expit

from ssm.measures import spectral
from ssm.measures.probes import Probe, TaughtProbe
from ssm.measures.sample_sums import SampleSums

LARGEST_LOGIT = 1e100  # The sum of squares of larger logits may not be finite.


def is_usable(values: Shaped[np.ndarray, ...]) -> bool:
    """Whether all numbers are finite and their squares can be summed."""
    # Both are NaN where any value is.
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    return bool(low >= -LARGEST_LOGIT and high <= LARGEST_LOGIT)


def spectrum(sums: SampleSums, probe: Probe) -> dict[str, np.ndarray | float]:
    """The spectral variables of logits, from their sums. They are NaN for classes that the probe lacks."""
    k, present = len(probe.counts), probe.present
    class_sums, counts = sums.class_sums[:, present], probe.counts[present]
    unit = float(np.abs(sums.triangle).max()) or 1.0
    strength = spectral.strengths(class_sums[present], probe.components)
    of_present = {
        "class_accuracy": sums.correct[present] / counts,
        "class_strength": spectral.class_strengths(sums.class_sums, probe.counts.clip(1))[present],
    }
    return {name: over_classes(values, present, k) for name, values in of_present.items()} | {
        "strength": strength,
        "singular_value": sums.singular_values(),
        "residual": spectral.residual(strength / unit, np.asarray(sums.energy(unit))),
    }


def spectrum_on_targets(
    sums: SampleSums, on_targets: Float[np.ndarray, "k k"], probe: TaughtProbe
) -> dict[str, np.ndarray | float]:
    """The spectral variables of samples that are taught distributions, from the sums of their logits and from Z T^T, with T
    the centred targets."""
    k, present = len(probe.counts), probe.present
    unit = float(np.abs(sums.triangle).max()) or 1.0
    strength = spectral.strengths(on_targets, probe.components)
    by_class = spectral.mean_target_strengths(sums.class_sums, probe.mean_targets, probe.counts)
    accuracy = sums.correct[present] / probe.counts[present]
    return {
        "class_accuracy": over_classes(accuracy, present, k),
        "class_strength": over_classes(by_class[present], present, k),
        "strength": strength,
        "singular_value": sums.singular_values(),
        "residual": spectral.residual(strength / unit, np.asarray(sums.energy(unit))),
    }


def over_classes(
    values: Float[np.ndarray, "p ..."], present: Int[np.ndarray, " p"], k: int
) -> Float[np.ndarray, "k ..."]:
    """The values of the classes that are present as an array over all k classes, with NaN for the others."""
    if len(present) == k:
        return values
    whole = np.full((k, *values.shape[1:]), np.nan)
    whole[present] = values
    return whole


class CrossEntropy:
    """Sums over samples of the cross-entropy of their logits and of its gradient in them, by class."""

    def __init__(self, num_classes: int):
        self.losses = np.zeros(num_classes)
        self.squared_gradients = np.zeros(num_classes)

    def add(self, logits: Float[np.ndarray, "m k"], labels: Int[np.ndarray, " m"]) -> None:
        """Add samples, whose logits are finite."""
        k, own = len(self.losses), (np.arange(len(labels)), labels)
        behind = logits - logits[own][:, None]
        behind[own] = -np.inf
        largest = behind.max(axis=1)
        chances = np.exp(behind - largest[:, None])
        # The log odds of an error keep the digits of a small loss.
        odds = largest + np.log(chances.sum(axis=1))
        losses = np.logaddexp(0, odds)
        chances *= np.exp(largest - losses)[:, None]
        chances[own] = expit(odds)  # 1 - p_y
        self.losses += np.bincount(labels, losses, k)
        self.squared_gradients += np.bincount(labels, (chances**2).sum(axis=1), k)

    def observed(
        self, probe: Probe, weights: Float[np.ndarray, " k"]
    ) -> dict[str, np.ndarray | float]:
        """The mean loss of each class, and the share of the class in the gradient of the weighted loss over the training samples."""
        with np.errstate(invalid="ignore"):  # An absent class has 0 / 0.
            loss = self.losses / probe.counts
            squares = self.squared_gradients / probe.counts
        pulls = weights * np.sqrt(probe.training_counts * squares)
        total = np.nansum(pulls)
        return {"class_loss": loss, "gradient_share": pulls / (total if total > 0 else np.nan)}


def held_out(
    logits_sums: SampleSums, losses: CrossEntropy, counts: Int[np.ndarray, " k"]
) -> dict[str, np.ndarray | float]:
    """The variables of samples that a network is not trained on, by class; NaN for classes that are absent."""
    with np.errstate(invalid="ignore"):
        accuracy, loss = logits_sums.correct / counts, losses.losses / counts
    strength = spectral.class_strengths(logits_sums.class_sums, counts.clip(1))
    return {
        "held_out_accuracy": accuracy,
        "held_out_loss": loss,
        "held_out_strength": np.where(counts > 0, strength, np.nan),
    }
