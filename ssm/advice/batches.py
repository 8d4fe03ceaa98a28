"""How mini-batches weaken recommended weights where a framework takes the weighted mean over each batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ssm.advice.runs import Case
from ssm.problem import weights

LARGEST = 1_000_000_000
ENOUGH = 0.9  # The share of the wanted ratio of weights that has to be left.


def notes(counts: Sequence[int], cases: Sequence[Case], batch_size: int) -> list[str]:
    """For each recommended weighting but equal weights, the ratio of the smallest class's weight
    to the largest's in batches of that size, and what to do."""
    recommended = {case.recommended.name: case.recommended for case in cases if case.recommended}
    sentences = []
    for name, choice in recommended.items():
        w, small, large = choice.class_weights, int(np.argmin(counts)), int(np.argmax(counts))
        asked = w[small] / w[large]
        if asked == 1:
            continue
        found = _ratio(counts, w, batch_size, small, large)
        sentence = (
            f"In batches of {batch_size}: a weighted mean, as PyTorch's CrossEntropyLoss(weight=...) takes, "
            f"makes of the `{name}` weights' ratio of {asked:.4g} (smallest over largest class) {found:.4g}, "
            "on average over batches drawn with replacement."
        )
        if found < ENOUGH * asked:
            enough = _enough(counts, w, batch_size, small, large)
            sentence += (
                f' Divide by the batch size instead, by reduction="sum" and / {batch_size}, which keeps the '
                f"ratio, or take batches of {enough} or more, which keep 90 % of it."
            )
        sentences.append(sentence)
    return sentences


def _ratio(counts: Sequence[int], w: np.ndarray, size: int, small: int, large: int) -> float:
    effective = weights.effective_class_weights(counts, w, size)
    return float(effective[small] / effective[large])


def _enough(counts: Sequence[int], w: np.ndarray, low: int, small: int, large: int) -> int:
    """The smallest batch size, larger than `low`, that keeps this share of the ratio."""
    wanted, high = ENOUGH * w[small] / w[large], 2 * low
    while _ratio(counts, w, high, small, large) < wanted:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if _ratio(counts, w, middle, small, large) < wanted:
            low = middle
        else:
            high = middle
    return high
