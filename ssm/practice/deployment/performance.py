"""How well a model did on held-out cases, in the form in which its card keeps it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from ssm.practice.data.classifiers import Label
from ssm.practice.decisions import costs
from ssm.practice.decisions.costs import CostMatrix
from ssm.practice.deployment.measured import Performance
from ssm.practice.statistics import calibration
from ssm.practice.statistics.estimates import Estimate


def measured(
    classes: Sequence[Label] | np.ndarray,
    y_true: ArrayLike,
    y_decided: ArrayLike,
    probabilities: ArrayLike | None = None,
    matrix: CostMatrix | None = None,
    seed: int = 0,
) -> Performance:
    """The performance of decisions on cases that had no part in making whatever decides.

    Args:
        classes: the labels, in the order of the columns of the probabilities, shape (k,).
        y_true: the true classes, shape (m,).
        y_decided: the decisions, shape (m,).
        probabilities: the probabilities of the classes, shape (m, k); without them there is no calibration error.
        matrix: the costs; without them there is no expected cost.
        seed: the seed of the bootstraps of the calibration error and of the cost.

    Raises:
        ssm.InputError: anything else.
    """
    labels = np.asarray(classes).tolist()
    table = costs.confusion(y_true, y_decided, labels).to_numpy()
    error = cost = None
    if probabilities is not None:
        place = {label: c for c, label in enumerate(labels)}
        positions = np.array([place[label] for label in np.asarray(y_true).tolist()])
        top = calibration.top_label(probabilities, positions)
        found = calibration.bootstrap_interval(*top, seed=seed)
        # Where the test keeps no error at all, the interval is the single point nearest to being kept, and may lack the estimate.
        ends = min(found.low, found.estimate), max(found.high, found.estimate)
        error = Estimate(found.estimate, *ends)
    if matrix is not None:
        cost = costs.expected_cost(y_true, y_decided, matrix, seed=seed)
    return Performance(tuple(map(tuple, table.tolist())), error, cost)
