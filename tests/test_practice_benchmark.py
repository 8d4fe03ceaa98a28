"""The benchmark on real tables: ranks and intervals by hand, and the command on two tiny tables."""

import itertools
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

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


# The committed page: its sentences and recommendations follow from its own numbers

ROUNDING = 0.0005 + 1e-9  # of a score with three digits
SIMPLER = {
    "model": ("logistic", "forest", "balanced_forest", "boosting", "network"),
    "strategy": ("own", "erm", "inverse", "sqrt"),
    "rule": ("argmax", "bayes", "threshold"),
}
"""From the simplest on."""


@pytest.fixture(scope="module")
def committed():
    return (Path(practice.__file__).parent / "practice.md").read_text()


def table(page, title) -> Any:
    """The table under a heading, with its first column as the index."""
    lines = page[page.index(f"{title}\n") :].split("\n")[1:]
    start = next(i for i, line in enumerate(lines) if line.startswith("|"))
    rows = [
        [cell.strip() for cell in line.removeprefix("|").removesuffix("|").split("|")]
        for line in itertools.takewhile(lambda line: line.startswith("|"), lines[start:])
    ]
    return pd.DataFrame(rows[2:], columns=rows[0]).set_index(rows[0][0])


def scores_of(page, metric) -> Any:
    """Every score of a metric, NaN where there is none."""
    page = page[page.index("## Every score") :]
    return table(page, f"### {metric}").apply(pd.to_numeric).astype(float)


def rank_bounds(scores, name):
    """The least and the greatest average rank that a candidate can have with scores that were rounded: another is surely better
    by more than the rounding of both, and perhaps where it is not surely worse."""
    gaps = scores.drop(index=name) - scores.loc[name]
    surely, perhaps = (gaps > 2 * ROUNDING).sum(), (gaps >= -2 * ROUNDING).sum()
    return (1 + surely).mean(), (1 + perhaps).mean()


@pytest.mark.parametrize(
    ("metric", "title", "ours", "other"),
    [
        (
            "Balanced accuracy",
            "### Balanced accuracy, all sets, 18 sets",
            "network, erm, bayes",
            "balanced_forest, own, argmax",
        ),
        (
            "Macro average precision",
            "### Macro average precision, 18 sets",
            "network, erm",
            "boosting, erm",
        ),
    ],
)
def test_our_default_is_at_least_equal_or_the_page_says_that_it_is_not(
    metric, title, ours, other, committed
):
    """By average ranks over the 18 sets, as far as its rounded scores tell."""
    scores = scores_of(committed, metric).dropna()
    assert scores.shape[1] == 18
    printed = table(committed, title)["average rank"].astype(float)
    for name in (ours, other):
        low, high = rank_bounds(scores, name)
        assert low - 0.05 <= printed[name] <= high + 0.05  # average ranks have one digit
    said = re.search(
        rf"Claim, at least equal in {metric.lower()}: [^:]*: (holds|DOES NOT HOLD).*"
        r"average ranks ([\d.]+) and ([\d.]+)",
        committed,
    )
    assert said is not None
    assert (float(said[2]), float(said[3])) == (printed[ours], printed[other])
    assert said[1] == ("holds" if printed[ours] <= printed[other] else "DOES NOT HOLD")


def test_the_page_counts_where_what_is_recommended_falls_short(committed):
    """The first sentence, beside the balanced forest, by its table."""
    chosen = table(committed, "## What each study recommends")
    forest = scores_of(committed, "Balanced accuracy").loc["balanced_forest, own, argmax"]
    of_forest = chosen["balanced forest"].astype(float)
    assert (of_forest - forest[of_forest.index]).abs().max() < 1e-9
    difference = chosen["difference"].astype(float)
    gap = chosen["fold by fold"].astype(float) - of_forest
    assert (difference - gap).abs().max() <= 3 * ROUNDING
    assert ((difference >= 0) == (chosen["at least it"] == "yes")).all()
    flattered = (chosen["there"].astype(float) >= of_forest).sum()
    said = re.search(r"in (\d+) of 18 sets \((\d+) on the folds", committed)
    assert said is not None and int(said[2]) == flattered
    assert int(said[1]) == (chosen["at least it"] == "yes").sum()
    mean = re.search(r"the mean difference is ([+-]\d\.\d+)", committed)
    assert mean is not None and abs(float(mean[1]) - difference.mean()) <= 2 * ROUNDING


def test_each_study_recommends_what_is_best_or_simpler_and_near_it(committed):
    """Also where our default is not the best: no candidate's mean, the balanced forest's among them, is the margin or more above that of
    what is recommended; and where nothing is shown, none that is surely within the margin is simpler."""
    scores = scores_of(committed, "Balanced accuracy")
    chosen, margin = table(committed, "## What each study recommends"), practice_scores.MARGIN
    not_ours = 0

    def simplicity(name):
        return tuple(
            SIMPLER[part].index(x) for part, x in zip(SIMPLER, name.split(", "), strict=True)
        )

    for name, row in chosen.iterrows():
        of_set, recommended = scores[str(name)].dropna(), row["recommended"]
        not_ours += not recommended.startswith("network")
        assert abs(of_set[recommended] - float(row["there"])) < 1e-9
        assert of_set.max() - of_set[recommended] <= margin + 2 * ROUNDING, name
        if row["how sure"] == "undecided":
            near = of_set[of_set.max() - of_set < margin - 2 * ROUNDING]
            assert min(map(simplicity, near.index)) >= simplicity(recommended), name
    assert not_ours  # sets where something else than the network is recommended
