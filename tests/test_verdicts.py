"""The verdict of a study: what is best by construction is recommended, and nothing is claimed that is not shown."""

import json

import numpy as np
import pytest
import xarray as xr

from ssm.practice.reporting import summary_words, verdict_words
from ssm.practice.study import endings, verdicts

MODELS = ["logistic", "boosting", "forest", "network"]
STRATEGIES = ["erm", "inverse"]
RULES = ["argmax", "bayes", "threshold"]
SEEDS, FOLDS, COUNTS = 3, 5, [900, 100]
COSTS = [[0.0, 1.0], [20.0, 0.0]]


def make_record(
    means, noise=2.0, *, shared=20.0, currency=None, metric="expected_cost", folds=FOLDS, seed=0
):
    """A record whose candidates cost so much, all others 200: {(model, strategy, rule): mean}. Folds differ by `shared`
    in all candidates alike, and by `noise` in each."""
    rng = np.random.default_rng(seed)
    variants = [(m, s) for m in MODELS for s in STRATEGIES]
    names = [s if m == "network" else f"{m}: {s}" for m, s in variants]
    runs = (SEEDS, folds)
    scale = 1 if metric == "expected_cost" else 0.001
    values = np.empty((len(names), *runs, len(RULES)))
    common = shared * rng.standard_normal(runs)
    for i, (m, s) in enumerate(variants):
        for j, rule in enumerate(RULES):
            planted = means.get((m, s, rule), 200.0 if metric == "expected_cost" else 0.3)
            values[i, ..., j] = planted + scale * (common + noise * rng.standard_normal(runs))
    dims = ("variant", "seed", "fold")
    arrays = {}
    if metric == "expected_cost":
        arrays["expected_cost"] = ((*dims, "rule"), values)
    else:
        arrays[metric] = (dims, values[..., 2])
        arrays["expected_cost"] = ((*dims, "rule"), np.full_like(values, 100.0))
    flat = {
        name: 0.5 + 0.01 * rng.standard_normal(values.shape)
        for name in ("accuracy", "worst_class_recall")
    }
    arrays |= {f"decided_{name}": ((*dims, "rule"), each) for name, each in flat.items()}
    for name in ("balanced_accuracy", "macro_average_precision", "calibration_error"):
        each = 0.5 + 0.01 * rng.standard_normal((*values.shape[:3], 4))
        arrays[name] = ((*dims, "correction"), each)
    study = {"margin": 0.05, "class_counts": COUNTS, "strategies": "erm,inverse"}
    record = xr.Dataset(arrays)
    attrs = {
        "study": json.dumps(study),
        "strategies": json.dumps(STRATEGIES),
        "compared": json.dumps(names),
        "currency": json.dumps(
            {"costs": None, "budget": None, "alarm_class": None} | (currency or {})
        ),
    }
    coords = {
        "variant": names,
        "model": ("variant", [m for m, _ in variants]),
        "strategy": ("variant", [s for _, s in variants]),
        "seed": np.arange(SEEDS),
        "fold": np.arange(folds),
        "rule": RULES,
        "correction": ["none", "training", "uniform", "temperature"],
        "class": ["well", "<b>ill</b>"],
    }
    return record.assign_coords(coords).assign_attrs(attrs)


def of(candidate):
    return candidate.model, candidate.strategy, candidate.rule


def text_of(record, reached):
    return {each.title: each.text for each in verdict_words.statements(record, reached)}


@pytest.mark.parametrize(
    "best",
    [
        ("network", "inverse", "threshold"),
        ("boosting", "erm", "bayes"),
        ("forest", "inverse", "argmax"),
        ("logistic", "inverse", "bayes"),
    ],
)
def test_what_is_best_by_construction_is_recommended_and_shown(best):
    """By 100 balanced errors in 1000, twice the margin."""
    record = make_record({best: 100.0})
    reached = verdicts.verdict(record, 0.05)
    assert of(reached.chosen) == of(reached.best) == best
    assert reached.margin == 50 and reached.certainty == "shown"
    assert of(reached.plain) == ("logistic", "erm", "argmax")
    row = reached.gain(reached.chosen)
    assert row is not None and row.verdict == "better"
    assert row.simultaneous_low < -100 < row.simultaneous_high < 0
    said = text_of(record, reached)
    assert f"The model {best[0]} with the strategy {best[1]}" in said["What to use"]
    assert " fewer; possible is " in said["What it buys"] and said["How sure"].startswith("Shown: ")
    assert not any(
        "ndecided" in said[title] for title in ("What to use", "What it buys", "How sure")
    )


@pytest.mark.parametrize("rule", RULES)
def test_a_balanced_forest_that_wins_is_recommended(rule):
    """Where our own network is not the best, the study says so, on both of its pages, and what else to use."""
    record = make_record({("forest", "erm", rule): 100.0})
    kept = [name for name in record["variant"].values if name != "forest: inverse"]
    record = record.sel(variant=kept)
    of_forest = record["model"].values == "forest"
    names = np.where(of_forest, "balanced_forest: own", record["variant"].values)
    record = record.assign_coords(
        variant=names,
        model=("variant", np.where(of_forest, "balanced_forest", record["model"].values)),
        strategy=("variant", np.where(of_forest, "own", record["strategy"].values)),
    )
    study = {"margin": 0.05, "class_counts": COUNTS, "seeds": SEEDS, "folds": FOLDS}
    record.attrs |= {
        "compared": json.dumps(names.tolist()),
        "descriptions": json.dumps({}),
        "study": json.dumps(study | {"num_samples": sum(COUNTS)}),
    }
    record["threshold"] = (("variant", "seed", "fold"), np.full((7, SEEDS, FOLDS), 0.3))
    reached = verdicts.verdict(record, 0.05)
    assert of(reached.chosen) == of(reached.best) == ("balanced_forest", "own", rule)
    assert reached.certainty == "shown"
    said = text_of(record, reached)
    assert said["What to use"].startswith("The model balanced_forest with the strategy own")
    assert said["How sure"].startswith("Shown: it is better than the plain baseline")
    use = summary_words.use(record, reached, reached.chosen)
    assert use.model == "A balanced random forest"
    assert summary_words.sure(reached).startswith("Shown: it is better than the usual way")
    mean = float(record["expected_cost"].sel(variant="balanced_forest: own", rule=rule).mean())
    said = summary_words.answer(record, reached)
    assert said.startswith(f"Expect about {verdict_words.amount(mean, 'expected_cost')} errors per")


def test_the_simplest_of_those_as_good_is_recommended():
    """The network is best by 10 of 1000, which is shown and less than the margin of 50; logistic regression, in the same
    folds, loses no more."""
    best, simple = ("network", "inverse", "threshold"), ("logistic", "inverse", "argmax")
    record = make_record({best: 90.0, simple: 100.0, ("forest", "erm", "bayes"): 95.0})
    reached = verdicts.verdict(record, 0.05)
    assert of(reached.best) == best and of(reached.chosen) == simple
    assert reached.certainty == "shown"
    loss = reached.loss(reached.chosen)
    assert loss is not None and loss.verdict == "kept"
    assert "shown to lose less than 50, and it is simpler" in text_of(record, reached)["How sure"]
    # the network where it is better by more than the margin
    reached = verdicts.verdict(make_record({best: 20.0, simple: 100.0}), 0.05)
    assert of(reached.chosen) == best
    # and by rules and strategies too
    means = {("forest", "erm", "bayes"): 101.0, ("forest", "erm", "threshold"): 100.0}
    means |= {("forest", "inverse", "argmax"): 99.0}
    reached = verdicts.verdict(make_record(means), 0.05)
    assert of(reached.chosen) == ("forest", "erm", "bayes")


def test_the_plain_baseline_is_recommended_where_it_will_do():
    record = make_record({("network", "inverse", "threshold"): 190.0})
    reached = verdicts.verdict(record, 0.05)
    assert reached.chosen == reached.plain and reached.certainty == "baseline"
    said = text_of(record, reached)
    assert said["How sure"].startswith(
        "The plain baseline will do: it is shown to lose less than 50"
    )
    assert said["What it loses"].startswith("Nothing")


@pytest.mark.parametrize("seed", range(4))
def test_noise_alone_is_undecided(seed):
    """Folds that scatter by more than the margin, in each candidate for itself."""
    record = make_record({}, 150.0, seed=seed, folds=2)
    reached = verdicts.verdict(record, 0.05)
    assert reached.certainty == "undecided"
    assert not any(row.verdict == "better" for row in reached.gains)
    said = text_of(record, reached)
    assert said["How sure"].startswith("Undecided: ")
    assert "Shown" not in " ".join(said.values())
    row = reached.gain(reached.chosen)
    if row is not None:
        assert row.simultaneous_low < 0 < row.simultaneous_high


def test_a_large_difference_that_is_not_shown_is_undecided_and_the_simplest_near_the_best_mean():
    """Two candidates far below the others in the mean, one fold against all the rest."""
    means = {("network", "inverse", "bayes"): 60.0, ("forest", "inverse", "bayes"): 70.0}
    record = make_record(means, 120.0, shared=0.0, seed=3, folds=2)
    reached = verdicts.verdict(record, 0.05)
    gain = reached.gain(reached.chosen)
    assert reached.certainty == "undecided" and gain is not None and gain.verdict == "undecided"
    near = [x for x in reached.candidates if x.level.score <= reached.best.level.score + 50]
    assert of(reached.chosen) == min(
        (of(x) for x in near),
        key=lambda x: verdicts.SIMPLEST.index(x[0]) if x[0] in verdicts.SIMPLEST else 9,
    )


def test_costs_are_the_users_own():
    """The margin is a share of what it costs to decide always the same: 0.1 x 20 a case for `well`, 0.9 for `ill`."""
    best = ("boosting", "erm", "bayes")
    record = make_record({best: 100.0}, currency={"costs": COSTS})
    reached = verdicts.verdict(record, 0.05)
    assert of(reached.chosen) == best and reached.margin == pytest.approx(0.05 * 900)
    said = text_of(record, reached)
    assert (
        said["What it buys"].startswith("Cost of 1000 cases: ")
        and " less; possible is " in said["What it buys"]
    )


def test_recall_at_a_budget_has_one_rule():
    best = ("forest", "inverse", "threshold")
    currency = {"budget": 0.02, "alarm_class": 1}
    record = make_record({best: 0.6}, currency=currency, metric="recall_at_budget")
    reached = verdicts.verdict(record, 0.05)
    assert {x.rule for x in reached.candidates} == {"threshold"} and len(reached.candidates) == 8
    assert of(reached.chosen) == best and reached.margin == 0.05
    said = text_of(record, reached)
    buys = "Recall of <b>ill</b> with alarms for 2 % of the cases: "
    assert said["What it buys"].startswith(buys)
    gain = reached.gain(reached.chosen)
    assert (
        gain is not None
        and f"{100 * gain.difference:.3g} percentage points more; " in said["What it buys"]
    )


def test_three_classes_have_no_threshold_and_old_records_two_rules():
    record = make_record({("forest", "erm", "bayes"): 100.0})
    record["expected_cost"][..., 2] = np.nan
    assert {x.rule for x in verdicts.verdict(record, 0.05).candidates} == {"argmax", "bayes"}
    old = record.drop_vars(["expected_cost", "decided_accuracy", "decided_worst_class_recall"])
    for name in ("accuracy", "worst_class_recall"):
        old[name] = old["balanced_accuracy"]
    old["balanced_accuracy"][7, ..., 2] = 0.9  # the network's `inverse`, at equal shares
    del old.attrs["currency"]
    reached = verdicts.verdict(old, 0.05)
    assert of(reached.chosen) == ("network", "inverse", "bayes") and len(reached.candidates) == 16
    assert reached.best.level.score == pytest.approx(100, rel=1e-9)


def test_stopping_and_the_rule_are_told_apart():
    """Training to the end costs 40 more by `argmax` and nothing at equal shares; the rule saves 100 of the one, and 140
    of the other."""
    means = {("network", "erm", "argmax"): 200.0, ("network", "inverse", "argmax"): 240.0}
    means |= {("network", s, rule): 100.0 for s in STRATEGIES for rule in ("bayes", "threshold")}
    record = make_record(means)
    assert endings.endings(record, 50.0) == ()
    record.attrs["endings"] = json.dumps([["erm", "inverse"]])  # as if one were the other's end
    early, late = endings.endings(record, 50.0)
    assert (early.strategy, early.is_to_the_end) == ("erm", False) and late.is_to_the_end
    assert early.by_stopping == {} and set(late.by_stopping) == set(RULES)
    costs = record["expected_cost"].mean(("seed", "fold"))
    for row, name in ((early, "erm"), (late, "inverse")):
        for rule, level in row.levels.items():
            assert level.score == pytest.approx(
                float(costs.sel(variant=name, rule=rule)), rel=1e-12
            )
        saved = row.by_rule["bayes"]
        assert saved.difference == pytest.approx({"erm": -100, "inverse": -140}[name], abs=4)
        assert saved.verdict == "better"
    assert late.by_stopping["argmax"].difference == pytest.approx(40, abs=4)
    assert late.by_stopping["argmax"].verdict == "worse"
    assert late.by_stopping["bayes"].verdict == "equivalent"
