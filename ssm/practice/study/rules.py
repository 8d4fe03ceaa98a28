"""What the decisions of a study are counted in, costs, balanced errors or recall at a budget of alarms, and the rules by
which they are taken."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

Costs = Float[np.ndarray, "k k"]
RULES: tuple[str, ...] = ("argmax", "bayes", "threshold")
"""`argmax`: the class that the model finds most probable, as weights and loss made it. `bayes`: the decision of least
expected cost by its calibrated probabilities; without costs, as if all classes were equally frequent. `threshold`: of two
classes the rarer one from that probability on whose decisions cost least on held-out samples; of more the decision of
least expected cost by probabilities times factors of the classes that are chosen so."""


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
