"""Class weights by label, and the schedule that changes them, as parameters of a classifier."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from jaxtyping import Float

from ssm.problem import weights
from ssm.support.errors import InputError, invalid


def by_label(
    spec: Any, counts: Float[np.ndarray, " k"], classes: np.ndarray
) -> Float[np.ndarray, " k"]:
    """The class weights that the parameter `class_weight` asks for, in the order of the classes, shape (k,).

    Args:
        spec: None (ones), a name of `ssm.weights.NAMED`, a dict {label: weight} in which missing labels weigh
            1, a weight for each of the classes, or a function of the class sizes.
        counts: the class sizes, shape (k,).
        classes: the sorted labels, shape (k,).

    Raises:
        ssm.InputError: anything else.
    """
    given = spec
    if isinstance(spec, Mapping):
        index = {label: c for c, label in enumerate(classes.tolist())}
        unknown = any(label not in index for label in spec)
        if unknown and not all(label in spec for label in index):
            # As in scikit-learn, weights of labels that the training data do not have are ignored
            # only where all labels that they do have got a weight: else a label may be misspelt.
            allowed = f"weights of labels in training, {classes.tolist()}"
            raise invalid("class_weight", dict(spec), allowed)
        spec = {index[label]: weight for label, weight in spec.items() if label in index}
    try:
        return weights.class_weights(spec, counts)
    except InputError:
        allowed = (
            f"None, {', '.join(weights.NAMED)}, or positive finite weights: {len(counts)} of "
            "them, a dict by label, or a function of the class sizes that returns them"
        )
        raise invalid("class_weight", given, allowed) from None


class WithSchedule:
    """A classifier with the parameter `schedule`, a transformation of `ssm.schedules` or None. It stands
    before scikit-learn's `BaseEstimator` among the bases."""

    schedule: Any

    def set_params(self, **params: Any) -> Self:
        """Set parameters as in scikit-learn. `schedule__NAME` replaces the schedule, which is immutable,
        by one in which that number differs."""
        prefix = "schedule__"
        of_schedule = {name: x for name, x in params.items() if name.startswith(prefix)}
        parent: Any = super()
        parent.set_params(**{name: x for name, x in params.items() if name not in of_schedule})
        if of_schedule:
            check_schedule(next(iter(of_schedule)), self.schedule, "of a schedule that is set")
            numbers = {name.removeprefix(prefix): x for name, x in of_schedule.items()}
            self.schedule = self.schedule.set_params(**numbers)
        return self


def check_schedule(name: str, schedule: Any, allowed: str) -> None:
    """Refuse, in one line on `name`, what is no transformation of `ssm.schedules`."""
    from ssm.problem import schedules  # here, since schedules need JAX, and nothing else does

    if not isinstance(schedule, schedules.Transformation):
        raise invalid(name, schedule, allowed)
