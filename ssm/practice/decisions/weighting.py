"""Class weights by label, and the schedule that changes them, as parameters of a classifier."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from ssm.problem import weights
from ssm.support.errors import InputError, invalid

if TYPE_CHECKING:
    from ssm.problem.schedules import Transformation

ClassWeight = Mapping[Any, float] | ArrayLike | Callable[[np.ndarray], ArrayLike] | None
"""Class weights: a dict {label: weight}, a weight for each class or a name, a function of the class sizes, or None for ones."""


def by_label(
    spec: object, counts: Float[np.ndarray, " k"], classes: np.ndarray
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
            # As in scikit-learn, weights of labels that are not in the training data are ignored only where
            # all labels in the training data have a weight; otherwise a label may be misspelt.
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
    """A classifier with the parameter `schedule`, a transformation of `ssm.schedules` or None. Among the bases of a
    class it stands before scikit-learn's `BaseEstimator`, whose `set_params` it calls."""

    schedule: Transformation | None

    def set_params(self, **params: object) -> Self:
        """Set parameters as in scikit-learn. `schedule__NAME` replaces the schedule, which is immutable,
        by one in which that number differs."""
        prefix = "schedule__"
        of_schedule = {name: x for name, x in params.items() if name.startswith(prefix)}
        parent: Any = super()
        parent.set_params(**{name: x for name, x in params.items() if name not in of_schedule})
        if of_schedule:
            first = next(iter(of_schedule))
            schedule = checked_schedule(first, self.schedule, "of a schedule that is set")
            numbers = {name.removeprefix(prefix): x for name, x in of_schedule.items()}
            self.schedule = schedule.set_params(**numbers)
        return self


def checked_schedule(name: str, schedule: object, allowed: str) -> Transformation:
    """`schedule` if it is a transformation of `ssm.schedules`; raises ssm.InputError, which names the field, for anything else."""
    from ssm.problem import schedules  # here, since schedules need JAX, and nothing else does

    if not isinstance(schedule, schedules.Transformation):
        raise invalid(name, schedule, allowed)
    return schedule
