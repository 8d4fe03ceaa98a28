"""Class weights. Their scale matters to gradient flow, so the power law is scaled to unit mean over
samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

Counts = Int[np.ndarray, " k"] | Sequence[int]


def power_law(counts: Counts, exponent: float) -> Float[np.ndarray, " k"]:
    """Weights falling with class size, of unit mean over samples.

    w_c = n n_c^-g / sum_j n_j^(1 - g), so that sum_c n_c w_c = n. g = 0 is ERM (every weight
    exactly 1), g = 1 inverse frequency (scikit-learn's "balanced").

    Args:
        counts: samples n_c of each class, shape (k,).
        exponent: g.
    """
    counts = np.asarray(counts, dtype=np.float64)
    relative = (counts / counts.min()) ** -exponent
    return counts.sum() * relative / (counts * relative).sum()


def mean_sample_weight(counts: Counts, class_weights: Float[np.ndarray, " k"]) -> float:
    """(1/n) sum_c n_c w_c, the learning-rate factor hidden in a weighting; 1 for `power_law`."""
    counts = np.asarray(counts, dtype=np.float64)
    return float((counts * class_weights).sum() / counts.sum())
