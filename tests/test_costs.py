"""Cost matrices, the decisions that they ask for, and what these cost."""

from typing import Any

import numpy as np
import pytest
from scipy import special, stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV

import ssm
from ssm.practice import costs
from ssm.practice.decisions.costs import CostMatrix

NO_MATRIX: Any = None
THREE = np.array([[0.0, 4.0, 9.0], [1.0, 0.5, 2.0], [3.0, 7.0, 0.0]])


def test_ways_to_the_same_matrix(tmp_path):
    """Prices by dict and by text, and a file whose rows and columns are in different orders."""
    by_dict = costs.of_prices({"ill": 50, "well": 1})
    assert by_dict.classes == ("ill", "well")
    for same in ("ill=50,well=1", ["ill=50", "well=1"], ["ill = 5e1", " well=1.0 "]):
        np.testing.assert_array_equal(costs.of_prices(same).of(["ill", "well"]), by_dict.costs)
    assert costs.of_prices("a=b=2,c=1").classes == ("a=b", "c")
    path = tmp_path / "costs.csv"
    path.write_text("true\\decided,well, ill\nill,50,0\nwell,0,1\n")
    np.testing.assert_array_equal(costs.read(path).of(["ill", "well"]), by_dict.costs)
    with_mark = "\ufeffclass,0,1,2\n0,0,4,9\n1,1,0.5,2\n\n2,3,7,0\n"  # as spreadsheets write files
    path.write_text(with_mark, encoding="utf-8")
    np.testing.assert_array_equal(costs.read(path).of([0, 1, 2]), THREE)  # numbers are labels too
    matrix = CostMatrix(list("abc"), THREE)
    np.testing.assert_array_equal(matrix.of(["c", "a", "b"]), THREE[np.ix_([2, 0, 1], [2, 0, 1])])


def test_class_weights_of_costs():
    """The mean of what errors cost more than right decisions; they are those of `schedules.Costs`, where
    these cost nothing."""
    expected = [13 / 2, (0.5 + 1.5) / 2, 10 / 2]
    np.testing.assert_allclose(CostMatrix(list("abc"), THREE).class_weights(), expected)
    free = THREE * (1 - np.eye(3))
    law = np.asarray(ssm.schedules.Costs(free).costs)
    np.testing.assert_allclose(CostMatrix(list("abc"), free).class_weights(), law)


def test_decisions_of_two_classes_have_a_threshold():
    """C_FP / (C_FP + C_FN) where right decisions are free, and Elkan's where they are not."""
    p = np.linspace(0, 1, 1001)[1:-1]
    rows = np.stack([1 - p, p], 1)
    threshold = 1 / (1 + 50)
    expected = (p > threshold).astype(int)
    np.testing.assert_array_equal(costs.cheapest(rows, [[0, 1], [50, 0]]), expected)
    c = np.array([[1.0, 6.0], [20.0, 2.0]])
    threshold = (c[0, 1] - c[0, 0]) / (c[0, 1] - c[0, 0] + c[1, 0] - c[1, 1])
    np.testing.assert_array_equal(costs.cheapest(rows, c), (p > threshold).astype(int))


def test_decisions_are_the_cheapest_one_by_one():
    rng = np.random.default_rng(0)
    rows = special.softmax(2 * rng.normal(size=(50, 3)), axis=1)
    by_hand = [min(range(3), key=lambda j: sum(p[c] * THREE[c, j] for c in range(3))) for p in rows]
    assert costs.cheapest(rows, THREE).tolist() == by_hand
    assert len(set(by_hand)) == 3
    # a constant of a whole row changes nothing
    shifted = THREE + np.array([[5.0], [0.0], [2.0]])
    assert costs.cheapest(rows, shifted).tolist() == by_hand


def test_confusion_and_cost_by_hand():
    true, decided = list("aabbcc"), list("abbccc")
    counts = costs.confusion(true, decided, list("abc"))
    assert counts.to_numpy().tolist() == [[1, 1, 0], [0, 1, 1], [0, 0, 2]]
    assert counts.loc["a", "b"] == 1 and counts.index.name == "true"
    matrix = CostMatrix(list("abc"), THREE)
    total = 0 + 4 + 0.5 + 2 + 0 + 0
    assert costs.mean_cost(true, decided, matrix) == pytest.approx(total / 6)
    found = costs.expected_cost(true, decided, matrix)
    assert found.mean == pytest.approx(1000 * total / 6)
    assert (counts.to_numpy() * THREE).sum() == pytest.approx(total)


def test_the_interval_of_a_cost_is_the_normal_one_of_many_cases():
    """The central limit theorem, to the 2 % by which ends of 9999 resamples are off, and to skewness."""
    rng = np.random.default_rng(0)
    true, decided = rng.integers(0, 3, 20_000), rng.integers(0, 3, 20_000)
    matrix = CostMatrix(range(3), THREE)
    each = THREE[true, decided]
    found = costs.expected_cost(true, decided, matrix)
    half = 1000 * stats.norm.ppf(0.975) * each.std() / np.sqrt(len(each))
    assert found.mean == pytest.approx(1000 * each.mean())
    assert found.high - found.mean == pytest.approx(half, rel=0.05)
    assert found.mean - found.low == pytest.approx(half, rel=0.05)


def test_intervals_hold_the_expected_cost():
    """In 95 % of 400 repetitions, within four standard errors of that share."""
    rng = np.random.default_rng(1)
    matrix = costs.of_prices({0: 1, 1: 5})
    truth = 1000 * (0.8 * 0.1 * 1 + 0.2 * 0.4 * 5)
    inside = 0
    for draw in range(400):
        true = (rng.random(500) < 0.2).astype(int)
        wrong = rng.random(500) < np.where(true == 1, 0.4, 0.1)
        found = costs.expected_cost(true, np.where(wrong, 1 - true, true), matrix, seed=draw)
        inside += found.low <= truth <= found.high
    assert inside / 400 == pytest.approx(0.95, abs=4 * np.sqrt(0.95 * 0.05 / 400))


def test_pairs_are_told_apart_where_single_costs_are_not():
    """One rule is right on 5 cases more, among 1000 on which both err alike."""
    rng = np.random.default_rng(2)
    matrix = costs.of_prices({0: 1, 1: 1})
    true = rng.integers(0, 2, 1000)
    one = np.where(rng.random(1000) < 0.3, 1 - true, true)
    other = one.copy()
    other[np.flatnonzero(one != true)[:8]] = true[np.flatnonzero(one != true)[:8]]
    difference = costs.cost_difference(true, other, one, matrix)
    assert difference.mean == pytest.approx(-8) and difference.high < 0
    a, b = (costs.expected_cost(true, x, matrix) for x in (one, other))
    assert a.low < b.high and b.low < a.high
    same = costs.cost_difference(true, one, one, matrix)
    assert tuple(same) == (0, 0, 0)


def test_a_search_minimises_cost():
    rng = np.random.default_rng(0)
    y = (rng.random(300) < 0.2).astype(int)
    X = rng.normal(size=(300, 2)) + y[:, None]
    matrix = costs.of_prices({0: 1, 1: 10})
    scoring = make_scorer(costs.mean_cost, greater_is_better=False, matrix=matrix)
    model = ssm.Reweighted(LogisticRegression())
    search = GridSearchCV(model, {"decision": ["trained", matrix]}, scoring=scoring, cv=3).fit(X, y)
    assert search.best_params_["decision"] is not None
    assert isinstance(search.best_params_["decision"], CostMatrix)
    assert search.best_score_ == -min(-search.cv_results_["mean_test_score"])


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda: CostMatrix(list("ab"), [[0, 1, 2], [1, 0, 2]]), r"^costs=.*shape \(2, 2\)"),
        (lambda: CostMatrix(list("ab"), [[0, -1], [1, 0]]), r"^costs=.*none negative"),
        (lambda: CostMatrix(list("ab"), [[0, np.inf], [1, 0]]), r"^costs=.*finite numbers"),
        (lambda: CostMatrix(list("ab"), [[0, np.nan], [1, 0]]), r"^costs=.*finite numbers"),
        (lambda: CostMatrix(list("ab"), [["0", "x"], ["1", "0"]]), r"^costs=.*finite numbers"),
        (
            lambda: CostMatrix(list("ab"), np.zeros((2, 2))),
            r"^costs=.*larger for at least one wrong",
        ),
        (
            lambda: CostMatrix(list("ab"), [[5, 1], [1, 0]]),
            r"^cost of a right decision about 'a'=5\.0: must be no larger than that of a wrong one",
        ),
        (
            lambda: CostMatrix(list("aa"), THREE[:2, :2]),
            r"^classes=\['a', 'a'\]: must be .*different",
        ),
        (lambda: CostMatrix(5, THREE), r"^classes=5: must be labels"),
        (
            lambda: CostMatrix(["ill", "well"], [[0, 1], [1, 0]]).of(["Ill", "well"]),
            r"^class of a cost matrix='ill': must be one of \['Ill', 'well'\]; did you mean Ill\?",
        ),
        (
            lambda: CostMatrix(list("ab"), [[0, 1], [1, 0]]).of(list("abc")),
            r"^classes of a cost matrix=\['a', 'b'\]: must be all of \['a', 'b', 'c'\]",
        ),
        (lambda: costs.of_prices({"a": 1}), r"^prices=\{'a': 1\}: must be a dict"),
        (lambda: costs.of_prices({"a": 1, "b": -2}), r"^price of 'b'=-2: must be a finite number"),
        (lambda: costs.of_prices("a=1,b"), r"^prices='a=1,b': must be a dict"),
        (lambda: costs.of_prices("a=1,b=x"), r"^price of b='x': must be a finite number"),
        (lambda: costs.of_prices("a=1,b=inf"), r"^price of b=inf: must be a finite number"),
        (lambda: costs.of_prices("a=1,a=2"), r"^prices='a=1,a=2': must be of classes that"),
        (lambda: costs.of_prices(NO_MATRIX), r"^prices=None: must be a dict"),
        (lambda: costs.read("no/such.csv"), r"^costs='no/such.csv': must be a CSV file \("),
        (
            lambda: costs.confusion(["a"], ["d"], "ab"),
            r"^y_decided='d': must be one of \['a', 'b'\]",
        ),
        (
            lambda: costs.confusion(["a"], ["a", "b"], "ab"),
            r"^y_decided='2 labels': must be one for",
        ),
        (
            lambda: costs.mean_cost([0], [0], NO_MATRIX),
            r"^matrix=None: must be an ssm\.practice\.costs\.Cost",
        ),
    ],
    ids=[str(i) for i in range(22)],
)
def test_bad_input_has_one_clear_line(call, line):
    with pytest.raises(ssm.InputError, match=line) as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "must be a CSV file with a row of names"),
        ("x,a,b\na,0,1\n", "must be a CSV file with a row of names"),
        ("x,a,b\na,0,1\nb,1\n", "must be a CSV file with a row of names"),
        (
            "x,a,b\na,0,1\nc,1,0\n",
            r"^classes of the rows=\['a', 'c'\]: must be those of the columns",
        ),
        ("x,a,b\na,0,much\nb,1,0\n", r"^cost of 'a'='much': must be a finite number"),
        ("x,a,b\na,0,-1\nb,1,0\n", r"^cost of 'a'=-1\.0: must be a finite number"),
    ],
)
def test_bad_files_have_one_clear_line(tmp_path, text, line):
    path = tmp_path / "costs.csv"
    path.write_text(text)
    with pytest.raises(ssm.InputError, match=line):
        costs.read(path)
