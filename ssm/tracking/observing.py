"""What is observed of a network at one time from the logits of the samples of a probe, which may come in batches."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy.special import expit

from ssm.measures import spectral
from ssm.measures.probes import Probe, TaughtProbe
from ssm.measures.sample_sums import SampleSums

LARGEST_LOGIT = 1e100  # sums of squares of larger ones may not be finite


def is_usable(values: Shaped[np.ndarray, ...]) -> bool:
    """Whether all numbers are finite and their squares can be summed."""
    low, high = (
        float(values.min(initial=0)),
        float(values.max(initial=0)),
    )  # of which a NaN makes NaN
    return bool(low >= -LARGEST_LOGIT and high <= LARGEST_LOGIT)


def spectrum(sums: SampleSums, probe: Probe) -> dict[str, Any]:
    """The spectral variables of logits whose sums these are. Of classes that the probe lacks they are NaN."""
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
) -> dict[str, Any]:
    """The same of samples that are taught distributions, from Z T^T too, T the centred targets."""
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
    """What is known of the classes that are present over all k of them, NaN for the others."""
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
        """Add samples, of finite logits."""
        k, own = len(self.losses), (np.arange(len(labels)), labels)
        behind = logits - logits[own][:, None]
        behind[own] = -np.inf
        largest = behind.max(axis=1)
        chances = np.exp(behind - largest[:, None])
        odds = largest + np.log(
            chances.sum(axis=1)
        )  # log of those of an error, which keeps the digits of a small loss
        losses = np.logaddexp(0, odds)
        chances *= np.exp(largest - losses)[:, None]
        chances[own] = expit(odds)  # 1 - p_y
        self.losses += np.bincount(labels, losses, k)
        self.squared_gradients += np.bincount(labels, (chances**2).sum(axis=1), k)

    def observed(self, probe: Probe, weights: Float[np.ndarray, " k"]) -> dict[str, Any]:
        """Mean loss of each class, and the share of it in the gradient of the weighted loss over the training samples."""
        with np.errstate(invalid="ignore"):  # 0 / 0 where a class is absent
            loss = self.losses / probe.counts
            squares = self.squared_gradients / probe.counts
        pulls = weights * np.sqrt(probe.training_counts * squares)
        total = np.nansum(pulls)
        return {"class_loss": loss, "gradient_share": pulls / (total if total > 0 else np.nan)}


def held_out(
    logits_sums: SampleSums, losses: CrossEntropy, counts: Int[np.ndarray, " k"]
) -> dict[str, Any]:
    """The variables of samples that a network is not trained on, by class; NaN for classes that are absent."""
    with np.errstate(invalid="ignore"):
        accuracy, loss = logits_sums.correct / counts, losses.losses / counts
    strength = spectral.class_strengths(logits_sums.class_sums, counts.clip(1))
    return {
        "held_out_accuracy": accuracy,
        "held_out_loss": loss,
        "held_out_strength": np.where(counts > 0, strength, np.nan),
    }
