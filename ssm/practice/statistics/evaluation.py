"""Scores of probabilities on a test set, of all samples and class by class, as it is or with the
class shares of another."""

from __future__ import annotations

from typing import Any

import numpy as np
import sklearn
from jaxtyping import Float, Int
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
    probabilities: Any, labels: Any, sample_weight: Any = None
) -> dict[str, float | Float[np.ndarray, " k"]]:
    """The `SCORES`, a number each, and the `CLASS_SCORES`, one number a class.

    Scores are scikit-learn's, the largest probability the prediction (the first of equal ones).
    AUC, average precision and calibration of a class are those of its probability against the
    rest. A class without samples has NaN, and means over classes and the worst class leave it out;
    so has the AUC of a class without any other. A class never predicted has precision 0.

    Args:
        probabilities: shape (m, k); two classes are k = 2.
        labels: shape (m,), integers below k.
        sample_weight: shape (m,), not negative, ones unless given; w weighs as w equal samples do.

    Raises:
        ssm.InputError: anything else.
    """
    rows, labels = calibration.probability_rows(probabilities, labels)
    weights = calibration.sample_weights(sample_weight, len(rows))
    used = weights > 0
    rows, labels, weights = rows[used], labels[used], weights[used]
    classes = np.arange(rows.shape[1])
    of_class = (labels[:, None] == classes).astype(np.int64)
    predicted = rows.argmax(1)
    # what scikit-learn would check is checked above, which saves a third of the time
    with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
        of_classes = _of_classes(rows, predicted, labels, of_class, weights)
        scores: dict[str, Any] = {
            "accuracy": metrics.accuracy_score(labels, predicted, sample_weight=weights),
            "log_loss": metrics.log_loss(labels, rows, labels=classes, sample_weight=weights),
        }
    top = calibration.top_label_error(rows, labels, sample_weight=weights)
    scores |= {
        "balanced_accuracy": _mean(of_classes["recall"]),
        "worst_class_recall": np.nanmin(of_classes["recall"]),
        "macro_f1": _mean(of_classes["f1"]),
        "macro_auc": _mean(of_classes["auc"]),
        "macro_average_precision": _mean(of_classes["average_precision"]),
        "calibration_error": top,
        "class_calibration_error": _mean(of_classes["calibration_error_of_class"]),
    }
    return {name: float(scores[name]) for name in SCORES} | of_classes


def shift_weights(labels: Any, train_counts: Any, shift: Any) -> Float[np.ndarray, " m"]:
    """Weights of test samples that give the test set the class shares of a shift, of mean 1.

    w_i = q_c / (m_c / m) for c = y_i, with q the shares wanted, of the classes that the test set
    has. They score, without training again, what the network would do under label shift, in which
    P(x | y) stays as it is.

    Args:
        labels: shape (m,), integers below k, of the test set.
        train_counts: n_c > 0 of the training set, shape (k,).
        shift: "training" for shares n_c / n; "uniform" for equal ones; "reversed" for those of the
            training set in reverse, the share of its largest class to the smallest and so on;
            classes of equal size get the mean of their shares.

    Raises:
        ssm.InputError: anything else.

    Source: Saerens et al. 2002 (weights under label shift).
    """
    checks.choice("shift", shift, SHIFTS)
    counts = _counts(train_counts)
    labels = np.asarray(labels)
    k, whole = len(counts), labels.ndim == 1 and labels.dtype.kind in "iu" and len(labels)
    if not whole or not ((labels >= 0) & (labels < k)).all():
        raise invalid("labels", labels, f"integers in [0, {k - 1}], at least one")
    wanted = {"training": counts, "uniform": np.ones(k), "reversed": _reversed(counts)}[shift]
    tested = np.bincount(labels, minlength=k)
    shares = np.where(tested > 0, wanted, 0.0)
    return len(labels) * (shares / shares.sum() / np.maximum(tested, 1))[labels]


def _of_classes(
    rows: calibration.Probabilities,
    predicted: calibration.Labels,
    labels: calibration.Labels,
    of_class: Int[np.ndarray, "m k"],
    weights: calibration.Samples,
) -> dict[str, Any]:
    """The `CLASS_SCORES`, each of shape (k,), NaN where a class has none."""
    k = rows.shape[1]
    present = of_class.any(0)
    options: dict[str, Any] = {"labels": np.arange(k), "zero_division": 0}
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        labels, predicted, sample_weight=weights, **options
    )
    scores: dict[str, Any] = {
        "precision": np.where(present, precision, np.nan),
        "recall": np.where(present, recall, np.nan),
        "f1": np.where(present, f1, np.nan),
        "auc": np.full(k, np.nan),
        "average_precision": np.where(present, 1.0, np.nan),  # that of a class without any other
        "calibration_error_of_class": np.full(k, np.nan),
    }
    if present.sum() > 1:
        pair = of_class[:, present], rows[:, present]
        options = {"average": None, "sample_weight": weights}
        scores["auc"][present] = metrics.roc_auc_score(*pair, **options)
        scores["average_precision"][present] = metrics.average_precision_score(*pair, **options)
    errors = calibration.class_errors(rows, labels, sample_weight=weights)
    scores["calibration_error_of_class"][present] = errors[present]
    return scores


def _mean(of_classes: Float[np.ndarray, " k"]) -> float:
    """Mean over the classes that have a number; NaN where none has."""
    return of_classes[np.isfinite(of_classes)].mean() if np.isfinite(of_classes).any() else np.nan


def _reversed(counts: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """Counts of the classes by size, in reverse; classes of equal size get their mean."""
    order = np.argsort(counts, kind="stable")
    given = np.empty_like(counts)
    given[order] = counts[order[::-1]]
    same = counts[:, None] == counts
    return (same * given).sum(1) / same.sum(1)


def _counts(value: Any) -> Float[np.ndarray, " k"]:
    allowed = "positive numbers, one a class, at least two"
    try:
        counts = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):  # ragged, or no numbers
        raise invalid("train_counts", value, allowed) from None
    if counts.ndim != 1 or len(counts) < 2 or not (np.isfinite(counts) & (counts > 0)).all():
        raise invalid("train_counts", value, allowed)
    return counts
