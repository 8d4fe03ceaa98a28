"""What of the closed forms trained networks were found to share, as the experiments `bridge` and `network_gap`
measured it (figures/claims.md)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

NEAR = 0.05
"""Exponents of class weights that differ by no more than this are not told apart: as near to the balancing exponent as
this, measured networks learned both groups at once."""
TOGETHER = 1.25
"""Learning times whose ratio is at most this are called equal, since those of random starts scatter as much (experiment
`early_training`)."""
LARGEST, SMALLEST, AT_ONCE = "largest first", "smallest first", "together"
"""The orders in which the largest and the smallest classes may be learned."""
RATIOS = (
    "Ratios of learning times do not carry over to networks (digits, 130:13 images, coupling 0.4, ERM with momentum, "
    "minority over majority, geometric mean over seeds: 9.5 in the model, 3.3 in the network)."
)
"""The sentence on ratios, which do not carry over."""
TWO_CLASSES = (
    "Only one network with two classes was trained (breast cancer, experiment `practice`), and there the lead of weights "
    "over ERM was too small to tell from none."
)
"""The sentence on two classes."""
ALONE = "no network with a class alone in its group was measured"
"""What is to be said of a group of one class among three classes or more."""


def side(exponent: float, balance: float) -> str:
    """The order in which classes are learned under weights n_c^-g at the exponent g that balance at `balance`."""
    if abs(exponent - balance) <= NEAR:
        return AT_ONCE
    return LARGEST if exponent < balance else SMALLEST


def order_of_times(ratio: float) -> str:
    """The order that the learning time of the smallest classes over that of the largest stands for."""
    if 1 / TOGETHER <= ratio <= TOGETHER:
        return AT_ONCE
    return LARGEST if ratio > 1 else SMALLEST


def exponent_between_extremes(
    counts: Int[np.ndarray, " k"], class_weights: Float[np.ndarray, " k"]
) -> float:
    """The exponent g of weights n_c^-g that give the smallest class over the largest what these weights do,
    log(w_min / w_max) / log(n_max / n_min); NaN where all classes have one size."""
    small, large = int(counts.argmin()), int(counts.argmax())
    if counts[small] == counts[large]:
        return np.nan
    relative = np.log(class_weights[small] / class_weights[large])
    return float(relative / np.log(counts[large] / counts[small]))
