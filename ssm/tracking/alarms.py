"""What a log of a network warns of while it is written."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ssm.measures.probes import Probe
from ssm.practice.network.alarms import Alarm

LEARNED = 0.75
"""The mean accuracy of the other classes from which on one that is not learned counts as behind."""
BEHIND = 0.5
"""The share of that mean below which it does."""
NOISE = 3.0
"""So many standard errors of its accuracy are allowed on top."""
COLLAPSED = 0.9
"""The least mean cosine of minority classes that counts as collapse."""


class TrackerWarning(UserWarning):
    """The category of what a `Tracker` warns of."""


def present(
    step: float, observed: Mapping[str, np.ndarray], probe: Probe, names: list[str]
) -> list[Alarm]:
    """All that is wrong at one time.

    - `class_behind`: a class's accuracy is below half of the mean of the others by three standard errors,
      sqrt(a (1 - a) / n_c) at that half, where that mean is at least 3/4.
    - `minority_collapse`: the mean cosine of the minority classes' rows of the classifier, or of their centred mean
      features, is nearer to 1 than to its value in the SELI geometry, where training without regularisation ends, and at least 0.9.
      It also holds early in training by plain risk, before minorities are told apart.
    - `not_finite`: logits or features are not finite.
    """
    if number := int(observed["not_finite"]):
        samples = (
            f"{number} of {probe.counts.sum()} samples have logits or features that are not finite"
        )
        return [Alarm(step, "not_finite", None, float(number), 0.0, samples)]
    return [
        *_behind(step, observed["class_accuracy"], probe, names),
        *_collapse(step, observed.get("minority_cosine"), probe),
    ]


def _behind(step: float, accuracy: np.ndarray, probe: Probe, names: list[str]) -> list[Alarm]:
    raised = []
    known = accuracy[probe.present]
    others = (known.sum() - known) / (len(known) - 1)
    for c, value, mean in zip(probe.present.tolist(), known.tolist(), others.tolist(), strict=True):
        limit = BEHIND * mean
        limit -= NOISE * float(np.sqrt(limit * (1 - limit) / probe.counts[c]))
        if mean >= LEARNED and value < limit:
            reason = f"accuracy of class {names[c]} is {value:.2f}, that of the others {mean:.2f}"
            raised.append(Alarm(step, "class_behind", c, value, limit, reason))
    return raised


def _collapse(step: float, cosines: np.ndarray | None, probe: Probe) -> list[Alarm]:
    if cosines is None or np.isnan(cosines).all():  # as of one minority class, which has no other
        return []
    raised = []
    whose = ("rows of the classifier", "mean features")
    for value, end, what in zip(cosines.tolist(), probe.seli_cosines, whose, strict=True):
        limit = max((1 + end) / 2, COLLAPSED)
        if value > limit:
            reason = f"the {what} of minority classes have a mean cosine of {value:.3f}"
            raised.append(Alarm(step, "minority_collapse", None, value, limit, reason))
    return raised[:1]
