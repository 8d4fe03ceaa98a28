"""The fits of one classifier on weighted samples: on all of them, fold by fold, and round by round under weights
that follow a schedule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from sklearn.base import clone
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _check_method_params

from ssm.practice.data.classifiers import Classifier, Rows
from ssm.practice.decisions import routing, shares
from ssm.practice.decisions.folds import Fold
from ssm.support.errors import invalid

if TYPE_CHECKING:
    from ssm.problem.schedules import Transformation


class Fits(NamedTuple):
    """All that fits of an estimator have in common, whatever the class weights."""

    estimator: Classifier
    """Not fitted; each fit is one of a clone."""
    X: Rows
    y: np.ndarray
    labels: Int[np.ndarray, " n"]
    """The position of each sample's class in `classes`."""
    classes: np.ndarray
    sample_weights: Float[np.ndarray, " n"]
    are_given: bool
    """Whether the user gave the sample weights, so that an estimator which takes none is refused."""
    fit_params: dict[str, object]

    def fitted(
        self, class_weights: Float[np.ndarray, " k"], part: Int[np.ndarray, " t"] | None = None
    ) -> Classifier:
        """A clone that is fitted on a part of the samples, or on all of them."""
        estimator: Classifier = clone(self.estimator)
        X, y, params = self.X, self.y, self.fit_params
        weights = self.sample_weights * class_weights[self.labels]
        if part is not None:
            X, y, weights = _safe_indexing(X, part), y[part], weights[part]
            params = _check_method_params(self.X, params, part)
        is_weighted = self.are_given or (class_weights != 1).any()
        given = routing.weights_for(estimator, weights) if is_weighted else {}
        return estimator.fit(X, y, **params, **given)

    def out_of_fold(
        self, folds: Sequence[Fold], class_weights: Float[np.ndarray, " k"]
    ) -> Float[np.ndarray, "n k"]:
        """The probabilities of each sample, by a fit that has not seen it, for the class shares of all samples: shape (n, k)."""
        n, k = len(self.labels), len(self.classes)
        found = np.empty((n, k))
        whole = np.bincount(self.labels, self.sample_weights, k)
        for train, held_out in folds:
            estimator = self.fitted(class_weights, train)
            part = np.bincount(self.labels[train], self.sample_weights[train], k)
            reported = probabilities(estimator, _safe_indexing(self.X, held_out), self.classes)
            factors = whole / whole.sum() / (part / part.sum()) / class_weights
            found[held_out] = shares.shifted(reported, factors)
        return found

    def recalls(
        self, folds: Sequence[Fold], class_weights: Float[np.ndarray, " k"]
    ) -> Float[np.ndarray, " k"]:
        """The recall of each class by out-of-fold predictions, shape (k,)."""
        right = np.empty(len(self.labels))
        for train, held_out in folds:
            estimator = self.fitted(class_weights, train)
            predicted = estimator.predict(_safe_indexing(self.X, held_out))
            right[held_out] = predicted == self.y[held_out]
        counted = np.bincount(self.labels, self.sample_weights)
        return np.bincount(self.labels, self.sample_weights * right) / counted


def weights_of_rounds(
    fits: Fits,
    folds: Sequence[Fold],
    fixed: Float[np.ndarray, " k"],
    schedule: Transformation | None,
    rounds: int,
) -> tuple[Float[np.ndarray, "r k"], Float[np.ndarray, "r k"]]:
    """The class weights after each round of a schedule, and the out-of-fold recalls that they were made of.

    Args:
        fits: the estimator and its samples.
        folds: for recalls and uncertainties, where the schedule needs them.
        fixed: the weights that the schedule changes in each round, always anew, shape (k,).
        schedule: a transformation of `ssm.schedules`; None for no rounds at all.
        rounds: the number of rounds, r; each is a step of the schedule, and the first is step 0.

    Returns:
        Weights and recalls, each of shape (r, k); recalls are NaN where the schedule needs none.

    Raises:
        ssm.InputError: a schedule that makes weights which are not positive and finite.
    """
    k = len(fixed)
    if schedule is None:
        return np.empty((0, k)), np.empty((0, k))
    import jax  # here, since nothing else in this module needs it

    from ssm.problem import schedules

    counts = np.bincount(fits.labels, fits.sample_weights)
    chain = schedules.Chain(schedules.Fixed(fixed), schedule)
    history, recalls, current = [], [], fixed
    with jax.enable_x64(True):
        state = chain.init(counts)
        for step in range(rounds):
            performance = np.full(k, np.nan)
            if schedule.needs_performance:
                performance = fits.recalls(folds, current)
            seen = schedules.Statistics(counts, performance)
            if schedule.needs_uncertainty:
                # The probabilities are for the shares of training, so that the weights do not follow their own effect on them.
                found = fits.out_of_fold(folds, current)
                entropy = schedules.class_entropy(found, fits.labels, fits.sample_weights)
                seen = seen._replace(uncertainty=entropy)
            weights, state = schedules.step_weights(chain, state, seen, step)
            current = np.asarray(weights, float)
            if not (np.isfinite(current) & (current > 0)).all():
                allowed = "one that keeps all weights positive and finite"
                raise invalid("schedule", schedule, allowed)
            history.append(current)
            recalls.append(performance)
    return np.array(history), np.array(recalls)


def probabilities(estimator: Classifier, X: Rows, classes: np.ndarray) -> Float[np.ndarray, "m k"]:
    """The probabilities that a fitted estimator reports, in float64, each row divided by its sum: shape (m, k).

    Raises:
        ssm.InputError: an estimator of other classes than these.
    """
    if not np.array_equal(estimator.classes_, classes):
        raise invalid("estimator.classes_", estimator.classes_, f"the labels, {classes.tolist()}")
    rows = np.asarray(estimator.predict_proba(X), dtype=np.float64)
    return rows / rows.sum(axis=1, keepdims=True)
