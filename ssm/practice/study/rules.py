"""What the decisions of a study are counted in (costs, balanced errors, or recall at a budget of alarms), and the rules by
which they are taken."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

Costs = Float[np.ndarray, "k k"]
RULES: tuple[str, ...] = ("argmax", "bayes", "threshold")
"""`argmax`: the class that is the most probable by the model's own probabilities, without any correction. `bayes`: the decision of
least expected cost by the calibrated probabilities, or, without costs, the most probable class as if all were equally frequent.
`threshold`: with two classes, the rarer one from the probability on at which decisions about held-out samples cost least; with
more, the decision of least expected cost by probabilities times factors of the classes, which are chosen in the same way."""


class Currency(NamedTuple):
    """What a study counts its decisions in."""

    costs: Costs | None = None
    """C[true, decided]; None for balanced errors, where an error about a class costs 1 / (k times its share)."""
    budget: float | None = None
    """The share of all cases that may be alarms; None where there is no such question."""
    alarm_class: int | None = None
    """The class that alarms are for."""

    @property
    def metric(self) -> str:
        """The variable of the record by which candidates are compared: costs where they are given."""
        is_recall = self.costs is None and self.budget is not None
        return "recall_at_budget" if is_recall else "expected_cost"
