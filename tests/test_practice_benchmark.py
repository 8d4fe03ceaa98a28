"""The benchmark on real tables: ranks and intervals by hand, and the command on two tiny tables."""

import re
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier

from benchmarks import practice, practice_page, practice_scores, ranks
from benchmarks.ranks import Difference, Mean
from ssm.practice.study import models


def test_ranks_are_those_counted_by_hand():
    scores = pd.DataFrame({"one": [0.9, 0.8, 0.8], "two": [0.1, 0.3, 0.2]}, index=list("abc"))
    assert ranks.ranks(scores).to_numpy().tolist() == [[1, 3], [2.5, 1], [2.5, 2]]
    assert ranks.ranks(scores, -1).to_numpy().tolist() == [[3, 1], [1.5, 3], [1.5, 2]]
    assert [(name, mean.value) for name, mean in ranks.average_ranks(scores)] == [
        ("b", 1.75),
        ("a", 2.0),
        ("c", 2.25),
    ]


def test_intervals_over_sets_are_those_of_the_binomial():
    # The mean of s draws from as many zeros as ones is Binomial(s, 1/2) / s: of 20 sets, 6 to 14 have the middle 95 %.
    found = ranks.mean(np.repeat([0.0, 1.0], 10))
    assert (found.value, found.low, found.high, found.num_sets) == (0.5, 0.3, 0.7, 20)
    alike = ranks.difference(pd.Series([0.4, 0.5]), pd.Series([0.3, 0.4]))
    assert (alike.wins, alike.losses, alike.is_shown) == (2, 0, True)
    assert alike.mean[:3] == pytest.approx((0.1, 0.1, 0.1))
    assert not ranks.difference(pd.Series([0.4, 0.5]), pd.Series([0.5, 0.4])).is_shown


class Stand(RandomForestClassifier):
    """A forest in the place of imbalanced-learn's, which need not be installed."""

    def __init__(
        self,
        n_estimators=3,
        *,
        sampling_strategy="all",
        replacement=True,
        bootstrap=False,
        random_state=None,
    ):
        super().__init__(n_estimators, bootstrap=bootstrap, random_state=random_state)
        self.sampling_strategy, self.replacement = sampling_strategy, replacement


@pytest.mark.slow  # 130 fits
def test_the_command_writes_a_page_of_the_tables_that_it_finds(tmp_path, monkeypatch):
    ensemble = ModuleType("imblearn.ensemble")
    monkeypatch.setattr(ensemble, "BalancedRandomForestClassifier", Stand, raising=False)
    monkeypatch.setitem(sys.modules, "imblearn", ModuleType("imblearn"))
    monkeypatch.setitem(sys.modules, "imblearn.ensemble", ensemble)
    # The advice has tests of its own, and is slow where the shapes of all arrays are checked.
    weights = SimpleNamespace(exponent=0.9)
    cases = [SimpleNamespace(coupling=c, recommended=weights) for c in practice_scores.IN_NETWORKS]
    monkeypatch.setattr(practice_scores, "advise", lambda counts: SimpleNamespace(cases=cases))
    monkeypatch.setattr(practice, "STEPS", 4)
    monkeypatch.setattr(models, "TREES", 3)
    monkeypatch.setattr(models, "ROUNDS", 3)
    monkeypatch.setattr(models, "FEWEST_ROUNDS", 3)
    rng = np.random.default_rng(0)
    for name, classes in (("haberman", 2), ("contraceptive", 3)):
        labels = np.repeat(np.arange(classes), [40, 15, 15][:classes])
        table = pd.DataFrame({"x1": rng.normal(size=len(labels)) + labels, "label": labels})
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    out = tmp_path / "page.md"
    command = ["practice", str(tmp_path), "--runs", str(tmp_path / "runs"), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", command)
    practice.main()
    text = out.read_text()
    assert "2 data sets" in text and "### When to reweight" in text
    assert "| haberman | Haberman's Survival; haberman |" in text and "40, 15, 15" in text
    assert str(tmp_path) not in text
    assert "| 0.90 and 0.90 | inverse |" in text


def test_a_folder_without_tables_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["practice", str(tmp_path)])
    with pytest.raises(SystemExit) as refused:
        practice.main()
    assert refused.value.code == 2
    assert re.search(
        "data_dir=.*a folder with tables, such as haberman.csv", capsys.readouterr().err
    )


def test_a_sentence_claims_only_what_its_rows_show():
    def row(model, low, value, high):
        difference = Difference(Mean(value, low, high, 5), 3, 2)
        return practice_page.Row(f"weights ({model})", "none", "log_loss", difference)

    rows = [row("logistic regression", 0.1, 0.2, 0.3), row("the network", -0.1, 0.05, 0.2)]
    assert len({each.question for each in rows}) == 1
    said = practice_page.sentence([(3, rows[0]), (7, rows[1])])
    assert "rises in 1, is not shown to change in 1 of 2 models" in said
    assert said.endswith("(+0.200, +0.050; rows 3, 7).")
    assert "falls (-0.200; row 1)" in practice_page.sentence([(1, row("forest", -0.3, -0.2, -0.1))])
