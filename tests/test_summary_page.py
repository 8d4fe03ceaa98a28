"""The summary of a study: its numbers are those of the decisions that were counted, and it claims what the verdict does."""

import json

import numpy as np
import pytest
import xarray as xr

from ssm.practice import options
from ssm.practice.reporting import summary_words, verdict_words
from ssm.practice.study import outcomes, strategies, verdicts

RULES, COSTS = ["argmax", "bayes", "threshold"], np.array([[0.0, 50.0], [1.0, 0.0]])
FOLDS, N = 4, 400


@pytest.fixture(scope="module")
def decided():
    """A record of two models whose decisions, taken here sample by sample, are counted here too."""
    rng = np.random.default_rng(3)
    labels = (rng.random(N) < 0.7).astype(int)  # the first class is the rarer one
    fold_of = rng.permutation(N) % FOLDS
    names, thresholds = ["logistic: erm", "logistic: inverse"], np.full((2, 1, FOLDS), 0.1)
    logits = rng.standard_normal((2, 1, N, 2)) + 2 * np.eye(2)[labels]
    p = 1 / (1 + np.exp(logits[..., 1] - logits[..., 0]))  # of the first class
    first = {
        "argmax": p > 0.5,
        "bayes": 50 * p > 1 - p,  # deciding for the first class costs 1 - p, for the second 50 p
        "threshold": p >= 0.1,
    }
    cost, right = np.empty((2, 2, 1, FOLDS, 3))
    for fold in range(FOLDS):
        test = fold_of == fold
        for j, rule in enumerate(RULES):
            chosen = np.where(first[rule][:, 0, test], 0, 1)
            cost[:, 0, fold, j] = 1000 * COSTS[labels[test], chosen].mean(1)
            right[:, 0, fold, j] = (chosen == labels[test]).mean(1)
    runs, of_rules = ("variant", "seed", "fold"), ("variant", "seed", "fold", "rule")
    of_samples = ("variant", "seed", "sample", "class")
    counts = np.bincount(labels)
    arrays = {
        "expected_cost": (of_rules, cost),
        "decided_accuracy": (of_rules, right),
        "decided_worst_class_recall": (of_rules, right),
        "macro_average_precision": ((*runs, "correction"), np.full((2, 1, FOLDS, 2), 0.5)),
        "calibration_error": ((*runs, "correction"), np.full((2, 1, FOLDS, 2), 0.1)),
        "threshold": (runs, thresholds),
        "temperature": (runs, np.ones_like(thresholds)),
        "train_count": ((*runs, "class"), np.broadcast_to(counts, (2, 1, FOLDS, 2)).copy()),
        "logits": (of_samples, logits),
        "corrected_logits": (of_samples, logits),
        "fold_of": (("seed", "sample"), fold_of[None]),
        "label": (("sample",), labels),
    }
    coords = {
        "variant": names,
        "model": ("variant", ["logistic", "logistic"]),
        "strategy": ("variant", ["erm", "inverse"]),
        "rule": RULES,
        "correction": ["none", "temperature"],
        "class": ["ill", "well"],
    }
    currency = {"costs": COSTS.tolist(), "budget": None, "alarm_class": None}
    study = {"margin": 0.05, "class_counts": counts.tolist(), "seeds": 1, "folds": FOLDS}
    attrs = {"study": study | {"num_samples": N}, "strategies": names, "compared": names}
    attrs |= {"currency": currency, "descriptions": {}}
    return xr.Dataset(arrays, coords, {name: json.dumps(x) for name, x in attrs.items()})


def test_found_and_missed_cases_times_prices_are_the_cost(decided):
    """Which the record has from decisions that were counted sample by sample."""
    reached = verdicts.verdict(decided, 0.05)
    assert len(reached.candidates) == 6
    for each in reached.candidates:
        found = outcomes.outcomes(decided, each, reached.currency)
        np.testing.assert_allclose((found.counts * COSTS).sum(), each.level.score, rtol=1e-12)
        np.testing.assert_allclose(found.counts.sum(), 1000, rtol=1e-12)
        np.testing.assert_allclose(found.missed @ [50, 1], each.level.score, rtol=1e-12)
        np.testing.assert_allclose(found.false_alarms, found.missed[::-1], rtol=1e-12)


def test_the_numbers_of_the_page_are_those_of_the_record(decided):
    reached = verdicts.verdict(decided, 0.05)
    rows = {row.title: row for row in summary_words.rows(decided, reached)}
    for title, each in (("Recommended", reached.chosen), ("The usual way", reached.plain)):
        mean = float(decided["expected_cost"].sel(variant=each.variant, rule=each.rule).mean())
        assert float(rows[title].value.replace(",", "")) == pytest.approx(mean, abs=0.5)
    assert "ill 50 and well 1" in summary_words.unit(decided, reached)
    assert summary_words.sure(reached).startswith(
        {"shown": "Shown", "undecided": "Use it for now", "baseline": "Sure enough"}[
            reached.certainty
        ]
    )


def test_every_strategy_has_words_of_its_own():
    others = set(strategies.STRATEGIES) - {*options.WEIGHTS, options.SMOTE}
    assert set(summary_words.METHODS) == others


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (-540.0, 317.0, "540 less to 317 more"),
        (-106.0, -94.0, "94 to 106 less"),
        (3.0, 5.0, "3 to 5 more"),
        (float("nan"), 5.0, verdict_words.TOO_FEW),
    ],
)
def test_what_is_possible_says_which_way(decided, low, high, said):
    reached = verdicts.verdict(decided, 0.05)
    gain = reached.gain(next(each for each in reached.candidates if each != reached.plain))
    assert gain is not None
    row = gain._replace(
        simultaneous_low=low, simultaneous_high=high, ties=0, reference_score=1000.0
    )
    assert verdict_words.possible(row, reached) == said


def test_the_mix_of_classes_is_counted_and_said_to_be_made(decided):
    plain = summary_words.mix(decided)
    counts = np.bincount(decided["label"].values)
    assert f"{counts[1]} of well and {counts[0]} of ill." in plain and "on purpose" not in plain
    study = json.loads(decided.attrs["study"]) | {"imbalance_ratio": 10.0}
    made = summary_words.mix(decided.assign_attrs(study=json.dumps(study)))
    assert made.startswith(plain) and "thinned out on purpose, to 10 of" in made
