"""What decisions of a study are counted in, and how they are taken."""

import itertools
from typing import Any

import numpy as np
import pytest
from scipy import special
from sklearn import metrics

import ssm
from ssm.practice.data.datasets import Data
from ssm.practice.decisions import factors, thresholds
from ssm.practice.options import StudyOptions
from ssm.practice.study import currencies
from ssm.practice.study.fits import CORRECTIONS, Fitted, HeldOut
from ssm.practice.study.rules import Currency

PRICES = np.array([[0.0, 1.0], [25.0, 2.0]])


def make_data(counts=(60, 20), names=("well", "ill, or nearly")):
    labels = np.repeat(np.arange(len(counts)), counts)
    return Data("made", np.zeros((len(labels), 2)), labels, names, ("x", "y"), None)


def rows_of(p):
    return np.stack([1 - p, p], axis=1)


def make_fitted(seed=0, n=200, shift=1.2):
    """Probabilities of two classes, of held-out and of test samples, and the labels of the latter."""
    rng = np.random.default_rng(seed)

    def draw(n):
        labels = (rng.random(n) < 0.2).astype(np.int64)
        z = shift * labels + rng.standard_normal(n) - 1.5
        return rows_of(1 / (1 + np.exp(-z))), labels

    held, (p, labels) = HeldOut(*draw(n)), draw(n)
    uniform = p * [1, 4] / (p * [1, 4]).sum(1, keepdims=True)
    found = {
        "none": p,
        "training": p,
        "uniform": uniform,
        "temperature": p**2 / (p**2).sum(1, keepdims=True),
    }
    return Fitted({}, found, held), labels


@pytest.mark.parametrize("matrix", [None, PRICES], ids=["balanced", "costs"])
@pytest.mark.parametrize("seed", range(3))
def test_a_threshold_costs_least_on_the_held_out_samples(matrix, seed):
    """By trying all there are."""
    fitted, _ = make_fitted(seed, 60)
    p, y = fitted.held_out.posterior[:, 1], fitted.held_out.labels

    def cost(threshold):
        decided = (p >= threshold).astype(int)
        if matrix is None:
            return 1 - metrics.balanced_accuracy_score(y, decided)
        return matrix[y, decided].mean()

    found = currencies.chosen_threshold(fitted.held_out, 1, np.array([80, 20]), matrix)
    every = [cost(t) for t in [0, *sorted(p), 2]]
    assert cost(found) == pytest.approx(min(every), abs=1e-12)
    # Elkan's threshold, where all are equally good
    same = HeldOut(rows_of(np.full(9, 0.9)), np.array([0, 1, 1, 1, 1, 1, 1, 1, 1]))
    assert currencies.chosen_threshold(same, 1, np.array([80, 20]), PRICES) == 0.0


def test_of_equally_good_thresholds_the_nearest_to_elkans_is_taken():
    """C_FP / (C_FP + C_FN) = 1 / (1 + 3); between 0.1 and 0.8 no sample tells."""
    held = HeldOut(rows_of(np.array([0.05, 0.1, 0.2, 0.3, 0.8])), np.array([0, 0, 1, 1, 1]))
    matrix = np.array([[0.0, 1.0], [3.0, 0.0]])
    assert currencies.chosen_threshold(held, 1, np.array([3, 2]), matrix) == pytest.approx(0.15)
    flat = HeldOut(rows_of(np.array([0.1, 0.2, 0.3])), np.array([1, 0, 1]))
    found = currencies.chosen_threshold(
        flat, 1, np.array([3, 2]), np.array([[0.0, 2.0], [1.0, 0.0]])
    )
    # all (2), from 0.25 on (1), none (2): one error for 0.3 alone, 1 missed
    assert found == pytest.approx(0.25)


def test_what_decisions_come_to():
    fitted, labels = make_fitted()
    counts = np.array([80, 20])
    found = currencies.judged(fitted, labels, counts, Currency(PRICES, 0.1, 1))
    p = fitted.probabilities
    threshold = currencies.chosen_threshold(fitted.held_out, 1, counts, PRICES)
    decided = [
        p["none"].argmax(1),
        (p["temperature"] @ PRICES).argmin(1),
        (p["none"][:, 1] >= threshold).astype(int),
    ]
    assert float(found["decided.threshold"]) == threshold
    for j, each in enumerate(decided):
        assert found["decided.expected_cost"][j] == pytest.approx(
            1000 * PRICES[labels, each].mean()
        )
        assert found["decided.accuracy"][j] == pytest.approx((each == labels).mean())
        recalls = [(each == labels)[labels == c].mean() for c in (0, 1)]
        assert found["decided.balanced_accuracy"][j] == pytest.approx(np.mean(recalls))
        assert found["decided.worst_class_recall"][j] == pytest.approx(min(recalls))
    judge = thresholds.recall_at_budget(
        (fitted.held_out.posterior[:, 1], fitted.held_out.labels),
        (p["training"][:, 1], labels),
        0.1,
    )
    assert float(found["decided.recall_at_budget"]) == judge.recall.mean
    assert float(found["decided.alarm_share"]) == judge.share.mean
    plain = currencies.judged(fitted, labels, counts, Currency())
    equal = metrics.balanced_accuracy_score(labels, p["uniform"].argmax(1))
    assert plain["decided.expected_cost"][1] == pytest.approx(1000 * (1 - equal))


def test_balanced_costs_are_balanced_errors():
    rng = np.random.default_rng(1)
    labels, decided = rng.integers(3, size=(2, 50))
    matrix = factors.balanced(np.bincount(labels))
    found = matrix[labels, decided].mean()
    assert found == pytest.approx(1 - metrics.balanced_accuracy_score(labels, decided), abs=1e-14)


@pytest.mark.parametrize("matrix", [None, np.array([[0, 1, 2.0], [5, 0, 3], [1, 9, 0]])])
def test_three_classes_have_factors(matrix):
    """Chosen on the held-out samples alone, and counted on the others."""
    rng = np.random.default_rng(0)
    labels = rng.choice(3, 300, p=[0.7, 0.2, 0.1])
    rows = special.softmax(rng.standard_normal((300, 3)) + 1.5 * np.eye(3)[labels], axis=1)
    held, test = slice(0, 150), slice(150, 300)
    found: dict[str, Any] = dict.fromkeys(CORRECTIONS, rows[test])
    fitted = Fitted({}, found, HeldOut(rows[held], labels[held]))
    counts = np.array([70, 20, 10])
    arrays = currencies.judged(fitted, labels[test], counts, Currency(matrix))
    f = arrays["decided.class_factors"]
    np.testing.assert_array_equal(f, factors.class_factors(rows[held], labels[held], matrix))
    given = np.diag([1 / 70, 1 / 20, 1 / 10]) @ (1 - np.eye(3)) if matrix is None else matrix
    decided = (rows[test] * f @ given).argmin(1)
    cost = (
        1 - metrics.balanced_accuracy_score(labels[test], decided)
        if matrix is None
        else matrix[labels[test], decided].mean()
    )
    assert arrays["decided.expected_cost"][2] == pytest.approx(1000 * cost)
    assert np.isnan(arrays["decided.threshold"])


# What is asked for


def test_costs_are_read_from_prices_and_files(tmp_path):
    data = make_data(names=("well", "ill"))
    found = currencies.of_options(StudyOptions("made", cost="ill=25,well=1"), data)
    assert found.costs is not None and found.costs.tolist() == [[0, 1], [25, 0]]
    assert found.metric == "expected_cost"
    path = tmp_path / "a=b.csv"
    path.write_text("true,ill,well\nill,0,30\nwell,2,0\n")
    found = currencies.of_options(StudyOptions("made", cost=str(path), alarm_budget=0.1), data)
    assert found.costs is not None and found.costs.tolist() == [[0, 2], [30, 0]]
    assert (found.metric, found.alarm_class) == ("expected_cost", 1)
    assert (
        currencies.of_options(StudyOptions("made", alarm_budget=0.1), data).metric
        == "recall_at_budget"
    )
    for counts, rarer in (((20, 60), 0), ((60, 20), 1), ((20, 20), 1)):
        study = StudyOptions("made", alarm_budget=0.1)
        assert currencies.of_options(study, make_data(counts)).alarm_class == rarer


@pytest.mark.parametrize(
    ("options", "names", "message"),
    [
        ({"cost": "ill=25,wel=1"}, ("well", "ill"), "class of a cost matrix='wel'"),
        ({"cost": "ill=25,well=x"}, ("well", "ill"), "price of well='x'"),
        ({"cost": "nowhere.csv"}, ("well", "ill"), "costs='nowhere.csv'"),
        ({"alarm_class": "ill"}, ("well", "ill"), "alarm_class='ill': must be left out without"),
        ({"alarm_budget": 0.1}, ("a", "b", "c"), "alarm_class=None: must be one of a, b, c"),
        (
            {"alarm_budget": 0.1, "alarm_class": "d"},
            ("a", "b"),
            "alarm_class='d': must be one of a",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(options, names, message):
    data = make_data((9, 8, 7)[: len(names)], names)
    with pytest.raises(ssm.InputError) as refused:
        currencies.of_options(StudyOptions("made", **options), data)
    assert str(refused.value).startswith(message) and "\n" not in str(refused.value)


def test_every_pair_of_decisions_is_told_apart():
    """All labels and decisions of four samples: the scores are scikit-learn's."""
    for labels, decided in itertools.product(
        ([0, 0, 1, 1], [0, 1, 1, 1]), ([0, 1, 1, 0], [1, 1, 1, 1])
    ):
        y, d = np.array(labels), np.array(decided)
        cost, accuracy, balanced, worst = currencies._scores(y, d, None, 2)
        assert accuracy == metrics.accuracy_score(y, d)
        assert balanced == pytest.approx(metrics.balanced_accuracy_score(y, d))
        recalls = [(d == y)[y == c].mean() for c in (0, 1)]
        assert worst == min(recalls)
        assert cost == pytest.approx(1000 * (1 - balanced))
