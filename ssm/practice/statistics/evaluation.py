"""Scores of probabilities on a test set, over all samples and class by class, also with weights that give
the test set other class shares."""

from __future__ import annotations

from typing import Any

import numpy as np
import sklearn
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from sklearn import metrics

from ssm.practice.statistics import calibration
from ssm.support import checks
from ssm.support.errors import invalid

SCORES = (
    "accuracy",
    "balanced_accuracy",
    "worst_class_recall",
    "macro_f1",
    "macro_auc",
    "macro_average_precision",
    "log_loss",
    "calibration_error",
    "class_calibration_error",
)
CLASS_SCORES = (
    "precision",
    "recall",
    "f1",
    "auc",
    "average_precision",
    "calibration_error_of_class",
)
SHIFTS = ("training", "uniform", "reversed")


def evaluate(
    probabilities: ArrayLike, labels: ArrayLike, sample_weight: ArrayLike | None = None
) -> dict[str, float | Float[np.ndarray, " k"]]:
    """The `SCORES`, each a number, and the `CLASS_SCORES`, each with a number for every class.

    Scores are scikit-learn's. The class of the largest probability is predicted, the first of equal
    ones. AUC, average precision and calibration of a class are those of its probability against the
    rest. A class without samples has NaN, and is left out of means over classes and of the worst
    class; the AUC is NaN too where there is no other class. A class that is never predicted has
    precision 0.

    Example:
        >>> scores = evaluate([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]], [0, 1, 1])
        >>> scores["balanced_accuracy"], scores["recall"].tolist()
        (0.75, [1.0, 0.5])

    Args:
        probabilities: shape (m, k), with k = 2 for two classes.
        labels: shape (m,), integers below k.
        sample_weight: shape (m,), not negative, ones unless given; weight w counts as w equal samples.

    Raises:
        ssm.InputError: anything else.
    """
    rows, y = calibration.probability_rows(probabilities, labels)
    weights = calibration.sample_weights(sample_weight, len(rows))
    is_used = weights > 0
    rows, y, weights = rows[is_used], y[is_used], weights[is_used]
    classes = np.arange(rows.shape[1])
    is_of_class = (y[:, None] == classes).astype(np.int64)
    predicted = rows.argmax(1)
    # scikit-learn's checks are left out, which saves a third of the time: the arrays are checked above.
    with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
        class_scores = _class_scores(rows, predicted, y, is_of_class, weights)
        accuracy = metrics.accuracy_score(y, predicted, sample_weight=weights)
        log_loss = metrics.log_loss(y, rows, labels=classes, sample_weight=weights)
    scores = {
        "accuracy": accuracy,
        "log_loss": log_loss,
        "balanced_accuracy": _mean(class_scores["recall"]),
        "worst_class_recall": np.nanmin(class_scores["recall"]),
        "macro_f1": _mean(class_scores["f1"]),
        "macro_auc": _mean(class_scores["auc"]),
        "macro_average_precision": _mean(class_scores["average_precision"]),
        "calibration_error": calibration.top_label_error(rows, y, sample_weight=weights),
        "class_calibration_error": _mean(class_scores["calibration_error_of_class"]),
    }
    return {name: float(scores[name]) for name in SCORES} | class_scores


def shift_weights(
    labels: ArrayLike, train_counts: ArrayLike, shift: str
) -> Float[np.ndarray, " m"]:
    """Weights of test samples, of mean 1, that give the test set other class shares.

    w_i = q_c / (m_c / m) for c = y_i, with q the wanted shares, of the classes that the test set has.
    Scores with these weights tell how the network would do under label shift, in which P(x | y) stays
    as it is, without training again.

    Example:
        >>> shift_weights([0, 0, 0, 1], [30, 10], "uniform").round(2).tolist()
        [0.67, 0.67, 0.67, 2.0]

    Args:
        labels: shape (m,), integers below k, of the test set.
        train_counts: n_c > 0 of the training set, shape (k,).
        shift: "training" for shares n_c / n; "uniform" for equal ones; "reversed" for those of the
            training set in reverse order: its smallest class gets the share of its largest, and so
            on; classes of equal size get the mean of their shares.

    Raises:
        ssm.InputError: anything else.

    Source: Saerens et al. 2002 (weights under label shift).
    """
    checks.choice("shift", shift, SHIFTS)
    counts = _counts(train_counts)
    y = np.asarray(labels)
    k, is_vector = len(counts), y.ndim == 1 and y.dtype.kind in "iu" and len(y)
    if not is_vector or not ((y >= 0) & (y < k)).all():
        raise invalid("labels", y, f"integers in [0, {k - 1}], at least one")
    wanted = {"training": counts, "uniform": np.ones(k), "reversed": _reversed(counts)}[shift]
    tested = np.bincount(y, minlength=k)
    shares = np.where(tested > 0, wanted, 0.0)
    return len(y) * (shares / shares.sum() / np.maximum(tested, 1))[y]


def _class_scores(
    rows: calibration.Probabilities,
    predicted: calibration.Labels,
    labels: calibration.Labels,
    is_of_class: Int[np.ndarray, "m k"],
    weights: calibration.Samples,
) -> dict[str, Float[np.ndarray, " k"]]:
    """The `CLASS_SCORES`, each of shape (k,), with NaN for a class without samples."""
    k = rows.shape[1]
    present = is_of_class.any(0)
    zero: Any = 0  # `Any`, since type checkers take both of these to be strings, as scikit-learn's defaults are.
    by_class: Any = None
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        labels, predicted, sample_weight=weights, labels=np.arange(k), zero_division=zero
    )
    scores = {
        "precision": np.where(present, precision, np.nan),
        "recall": np.where(present, recall, np.nan),
        "f1": np.where(present, f1, np.nan),
        "auc": np.full(k, np.nan),
        # Where the test set has a single class, its average precision is 1.
        "average_precision": np.where(present, 1.0, np.nan),
        "calibration_error_of_class": np.full(k, np.nan),
    }
    if present.sum() > 1:
        pair = is_of_class[:, present], rows[:, present]
        for name, score in (
            ("auc", metrics.roc_auc_score),
            ("average_precision", metrics.average_precision_score),
        ):
            scores[name][present] = score(*pair, average=by_class, sample_weight=weights)
    errors = calibration.class_errors(rows, labels, sample_weight=weights)
    scores["calibration_error_of_class"][present] = errors[present]
    return scores


def _mean(class_scores: Float[np.ndarray, " k"]) -> float:
    """The mean over the classes whose score is a number; NaN where none is."""
    finite = class_scores[np.isfinite(class_scores)]
    return finite.mean() if len(finite) else np.nan


def _reversed(counts: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """The counts in reverse order of size: the largest class gets the smallest count, and so on. Classes
    of equal size get the mean of theirs."""
    order = np.argsort(counts, kind="stable")
    reverse = np.empty_like(counts)
    reverse[order] = counts[order[::-1]]
    is_equal = counts[:, None] == counts
    return (is_equal * reverse).sum(1) / is_equal.sum(1)


def _counts(value: ArrayLike) -> Float[np.ndarray, " k"]:
    """The sizes of the classes in float64; raises ssm.InputError for anything else."""
    allowed = "positive numbers, one a class, at least two"
    try:
        counts = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):  # It is ragged, or holds no numbers.
        raise invalid("train_counts", value, allowed) from None
    if counts.ndim != 1 or len(counts) < 2 or not (np.isfinite(counts) & (counts > 0)).all():
        raise invalid("train_counts", value, allowed)
    return counts
