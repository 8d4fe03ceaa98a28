"""Scores against scikit-learn called directly, and test sets with other class shares."""

from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from ssm import InputError
from ssm.practice.statistics import calibration, evaluation
from ssm.practice.statistics.evaluation import CLASS_SCORES, SCORES, SHIFTS, evaluate, shift_weights


def predictions(rng, k, m=90):
    """Probabilities that lean to the labels, which are the rarer the higher."""
    labels = np.sort(np.minimum(rng.geometric(0.45, m) - 1, k - 1))
    labels[-k:] = np.arange(k)
    logits = rng.normal(size=(m, k))
    logits[np.arange(m), labels] += 1
    rows = np.exp(logits)
    return rows / rows.sum(1, keepdims=True), labels


def of_scikit_learn(rows, labels, weights=None):
    """Each score by scikit-learn's function of that name, and calibration class by class."""
    predicted, classes = rows.argmax(1), np.arange(rows.shape[1])
    one_hot = np.eye(len(classes), dtype=int)[labels]
    given: dict[str, Any] = {"sample_weight": weights}
    many: dict[str, Any] = {"average": None, **given}
    expected = {
        "accuracy": metrics.accuracy_score(labels, predicted, **given),
        "balanced_accuracy": metrics.balanced_accuracy_score(labels, predicted, **given),
        "worst_class_recall": np.min(metrics.recall_score(labels, predicted, **many)),
        "macro_f1": metrics.f1_score(labels, predicted, average="macro", **given),
        "macro_auc": metrics.roc_auc_score(one_hot, rows, average="macro", **given),
        "macro_average_precision": metrics.average_precision_score(one_hot, rows, **given),
        "log_loss": metrics.log_loss(labels, rows, **given),
        "precision": metrics.precision_score(labels, predicted, **many),
        "recall": metrics.recall_score(labels, predicted, **many),
        "f1": metrics.f1_score(labels, predicted, **many),
        "auc": [metrics.roc_auc_score(one_hot[:, c], rows[:, c], **given) for c in classes],
        "average_precision": [
            metrics.average_precision_score(one_hot[:, c], rows[:, c], **given) for c in classes
        ],
    }
    top = rows.max(1), predicted == labels
    expected["calibration_error"] = binned_by_hand(*top, weights)
    each = [binned_by_hand(rows[:, c], labels == c, weights) for c in classes]
    expected["calibration_error_of_class"] = each
    expected["class_calibration_error"] = np.mean(each)
    return expected


def binned_by_hand(confidences, outcomes, weights=None):
    """Error over 15 bins of equal mass: that of a sample lies half before its middle."""
    weights = np.ones(len(confidences)) if weights is None else weights
    before = np.array([weights[confidences < c].sum() for c in confidences])
    bins = np.floor(15 * (before + weights / 2) / weights.sum())
    gaps = [abs((weights * (confidences - outcomes))[bins == b].sum()) for b in range(15)]
    return sum(gaps) / weights.sum()


def assert_scores(obtained, expected):
    assert sorted(obtained) == sorted(expected) == sorted(SCORES + CLASS_SCORES)
    for name, value in expected.items():
        # sums of 90 numbers in another order
        np.testing.assert_allclose(obtained[name], value, rtol=1e-12, atol=1e-15, err_msg=name)


@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("k", [2, 5])
def test_scores_are_those_of_scikit_learn(rng, k, weighted):
    rows, labels = predictions(rng, k)
    weights = rng.uniform(0.1, 3, len(labels)) if weighted else None
    assert_scores(evaluate(rows, labels, weights), of_scikit_learn(rows, labels, weights))


def test_calibration_is_that_of_its_module(rng):
    rows, labels = predictions(rng, 3)
    obtained = evaluate(rows, labels)
    assert obtained["calibration_error"] == calibration.top_label_error(rows, labels)
    errors = calibration.class_errors(rows, labels)  # of rows that are normalised once less
    np.testing.assert_allclose(obtained["calibration_error_of_class"], errors, rtol=1e-14)


def test_weights_are_repetitions(rng):
    """Also of no sample: weight 0 leaves it out, and class 4 with it."""
    rows, labels = predictions(rng, 5)
    weights = np.where(labels == 4, 0, rng.integers(0, 4, len(labels)))
    repeated: Any = evaluate(np.repeat(rows, weights, axis=0), np.repeat(labels, weights))
    assert_scores(evaluate(rows, labels, weights), repeated)
    assert np.isnan(repeated["recall"][4])


def test_absent_classes_have_no_scores(rng):
    """Means are over the classes that are there, without a warning."""
    rows, labels = predictions(rng, 4)
    kept = labels != 2
    rows, labels = rows[kept], labels[kept]
    obtained: Any = evaluate(rows, labels)
    present = np.array([0, 1, 3])
    for name in CLASS_SCORES:
        np.testing.assert_array_equal(np.isnan(obtained[name]), [False, False, True, False])
    predicted = rows.argmax(1)
    for name, score in (("precision", metrics.precision_score), ("recall", metrics.recall_score)):
        many: Any = None  # classes apart, which scikit-learn's types do not name
        expected = score(labels, predicted, labels=present, average=many)
        np.testing.assert_allclose(obtained[name][present], expected, rtol=1e-13)
    auc = [metrics.roc_auc_score(labels == c, rows[:, c]) for c in present]
    np.testing.assert_allclose(obtained["auc"][present], auc, rtol=1e-13)
    assert obtained["macro_auc"] == pytest.approx(np.mean(auc), rel=1e-13)
    assert obtained["balanced_accuracy"] == pytest.approx(
        obtained["recall"][present].mean(), rel=1e-13
    )
    assert obtained["worst_class_recall"] == obtained["recall"][present].min()
    expected = metrics.f1_score(labels, predicted, labels=present, average="macro")
    assert obtained["macro_f1"] == pytest.approx(expected, rel=1e-13)
    assert obtained["log_loss"] == pytest.approx(-np.log(rows[np.arange(len(rows)), labels]).mean())


def test_one_class_alone_has_no_ranking(rng):
    rows, _ = predictions(rng, 3)
    obtained = evaluate(rows, np.ones(len(rows), int))
    assert np.isnan(obtained["auc"]).all()
    assert np.isnan(obtained["macro_auc"])
    assert obtained["macro_average_precision"] == 1
    assert obtained["accuracy"] == obtained["balanced_accuracy"] == (rows.argmax(1) == 1).mean()


def test_a_class_never_predicted_has_precision_0():
    obtained: Any = evaluate([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]], [0, 0, 1])
    assert obtained["precision"][1] == obtained["f1"][1] == obtained["worst_class_recall"] == 0


def test_rows_of_single_precision_will_do(rng):
    rows, labels = predictions(rng, 5)
    obtained = evaluate(rows.astype(np.float32), labels)
    # half a unit in the last place of float32, over probabilities down to 0.01
    np.testing.assert_allclose(obtained["log_loss"], evaluate(rows, labels)["log_loss"], rtol=1e-6)


@pytest.mark.parametrize("shift", SHIFTS)
def test_a_shift_gives_the_test_set_its_shares(rng, shift):
    counts = np.array([100, 10, 40, 5])
    labels = np.repeat(np.arange(4), [20, 20, 7, 3])
    expected = {
        "training": counts / 155,
        "uniform": np.full(4, 0.25),
        "reversed": np.array([5, 40, 10, 100]) / 155,
    }
    weights = shift_weights(labels, counts, shift)
    assert weights.mean() == pytest.approx(1, rel=1e-14)
    shares = np.bincount(labels, weights) / len(labels)
    np.testing.assert_allclose(shares, expected[shift], rtol=1e-13)
    rows = predictions(rng, 4, len(labels))[0]
    recall = evaluate(rows, labels)["recall"]
    obtained = evaluate(rows, labels, weights)
    assert obtained["accuracy"] == pytest.approx(recall @ expected[shift], rel=1e-13)
    np.testing.assert_allclose(obtained["recall"], recall, rtol=1e-13)


def test_shares_of_the_test_set_itself_are_no_shift():
    labels = np.repeat([0, 1, 2], [8, 4, 2])
    np.testing.assert_allclose(shift_weights(labels, [40, 20, 10], "training"), 1, rtol=1e-14)
    np.testing.assert_allclose(shift_weights(labels[:12], [40, 20, 10], "training"), 1, rtol=1e-14)


def test_classes_of_equal_size_stay_equal_when_reversed():
    """Sizes 50, 50, 10, 10, 10 become 10, 10, 10, 50, 50 by rank: the ranks of equals are shared."""
    weights = shift_weights(np.arange(5), [50, 10, 50, 10, 10], "reversed")
    assert weights == pytest.approx(np.array([10, 110 / 3, 10, 110 / 3, 110 / 3]) * 5 / 130)


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": [0, 2]},
        {"labels": []},
        {"labels": [0.5]},
        {"train_counts": [3, 0]},
        {"train_counts": [3]},
        {"train_counts": "no"},
        {"shift": "none"},
    ],
    ids=str,
)
def test_bad_shifts_are_refused(changes):
    (named,) = changes
    given = {"labels": [0, 1], "train_counts": [3, 2], "shift": "uniform"}
    with pytest.raises(InputError, match=f"^{named}="):
        shift_weights(**given | changes)


@pytest.mark.parametrize("weights", [[1], [1, -1], [0, 0]], ids=str)
def test_bad_weights_are_refused(weights):
    with pytest.raises(InputError, match=r"^sample_weight="):
        evaluation.evaluate([[0.5, 0.5], [0.1, 0.9]], [0, 1], weights)
