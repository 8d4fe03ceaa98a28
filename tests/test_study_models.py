"""Models of a study beside the network: what they are given, what comes of it, and what they never see."""

import json
import re
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import ssm
from ssm.plots import studies as drawing
from ssm.practice.data import datasets
from ssm.practice.options import StudyOptions
from ssm.practice.reporting import report, summary_words
from ssm.practice.study import (
    attributes,
    cells,
    evidence,
    fits,
    models,
    outcomes,
    plans,
    strategies,
    studies,
    verdicts,
)
from ssm.practice.study.rules import Currency

OWN = "sklearn.naive_bayes:GaussianNB"


def make_data(seed=0, counts=(60, 25, 15), shift=1.5):
    """Overlapping classes of 4 features."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    features = rng.standard_normal((len(labels), 4)) + shift * np.eye(len(counts), 4)[labels]
    names = tuple("abcdef"[: len(counts)])
    return datasets.Data("made", features, labels, names, tuple("wxyz"), None)


@pytest.fixture
def made(monkeypatch):
    """Studies of `make_data`, whatever they are of."""
    monkeypatch.setattr(datasets, "load", lambda *_, **__: make_data())
    return make_data()


def fitted(variant, data, train, test, seed=0):
    """A variant fitted on some samples, asked about others."""
    scaler = StandardScaler().fit(data.features[train])
    X: Any = scaler.transform(data.features[train])
    X_test: Any = scaler.transform(data.features[test])
    return fits.fit(
        variant, fits.Samples(X, data.labels[train], X_test, data.class_names), {}, seed
    )


# What is planned


def test_each_model_has_the_strategies_that_are_weights(made):
    study = StudyOptions(
        "made", "erm,inverse,drw,clipped,ldam", 3, models=f"logistic,network,{OWN}", ablations=False
    )
    planned = plans.plan(study)
    weights = ["erm", "inverse", "clipped"]
    assert planned.compared == (
        *(f"logistic: {name}" for name in weights),
        *("erm", "inverse", "drw", "clipped", "ldam"),
        *(f"{OWN}: {name}" for name in weights),
    )
    assert planned.strategies == ("erm", "inverse", "drw", "clipped", "ldam")
    by_name = {variant.name: variant for variant in planned.variants}
    assert by_name[f"{OWN}: inverse"].strategy == "inverse"
    assert by_name["erm, 50% of the samples"].model == "network"
    folds = {}
    for _, cell in planned.cells():  # the same for all models
        folds.setdefault((cell.seed, cell.fold), set()).add(cell.test.tobytes())
    assert all(len(tests) == 1 for tests in folds.values())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("logistic,best", "models='best': must be one of logistic, boosting, forest"),
        ("forest,forest", "models='forest,forest': must be each named once"),
        ("nowhere.at_all:Thing", "models='nowhere.at_all:Thing': must be package.module:Class"),
        ("sklearn.svm:LinearSVC", "models='sklearn.svm:LinearSVC': must be a classifier of scikit"),
        (
            "sklearn.neighbors:KNeighborsClassifier",
            "models='sklearn.neighbors:KNeighborsClassifier': must be a classifier whose fit takes",
        ),
        ("collections:OrderedDict", "models='collections:OrderedDict': must be a classifier of"),
        ("sklearn.calibration:no\nsuch", "models='sklearn.calibration:no\\nsuch': must be"),
    ],
)
def test_what_is_no_model_is_refused_in_one_line(given, message, made):
    with pytest.raises(ssm.InputError) as refused:
        plans.plan(StudyOptions("made", models=given))
    assert str(refused.value).startswith(message) and "\n" not in str(refused.value)


def test_a_study_without_the_network_needs_two_strategies_that_apply(made):
    with pytest.raises(ssm.InputError, match=r"^models='logistic': must be with network among"):
        plans.plan(StudyOptions("made", "erm,drw", models="logistic"))


def test_a_model_that_is_not_installed_is_named(made, monkeypatch):
    def missing(name, *_):
        raise ImportError(name)

    monkeypatch.setattr(models.importlib, "import_module", missing)
    with pytest.raises(ssm.InputError, match=r"^models='balanced_forest'.*imbalanced-learn$"):
        plans.plan(StudyOptions("made", models="balanced_forest"))


# What comes of a fit


def test_weights_are_taken_back_for_probabilities_and_not_for_decisions():
    """Of logistic regression, by scikit-learn's own class weights and Bayes' rule."""
    data = make_data()
    train, test = np.arange(70), np.arange(70, 100)
    _, inverse = strategies.on_model("logistic", ["erm", "inverse"])
    found = fitted(inverse, data, train, test)
    scaler = StandardScaler().fit(data.features[train])
    peer = LogisticRegression(class_weight="balanced", max_iter=1000)
    peer.fit(scaler.transform(data.features[train]), data.labels[train])
    reported = peer.predict_proba(scaler.transform(data.features[test]))
    np.testing.assert_allclose(found.probabilities["none"], reported, atol=1e-6)
    shares = np.bincount(data.labels[train]) / 70
    posterior = reported * shares / (reported * shares).sum(1, keepdims=True)
    np.testing.assert_allclose(found.probabilities["training"], posterior, atol=1e-6)
    # Weights of inverse frequency made the shares equal, so that `uniform` is what was reported.
    np.testing.assert_allclose(found.probabilities["uniform"], reported, atol=1e-6)
    tempered = posterior ** (1 / float(found.arrays["temperature"]))
    tempered /= tempered.sum(1, keepdims=True)
    np.testing.assert_allclose(found.probabilities["temperature"], tempered, atol=1e-6)


def test_a_model_of_a_cell_sees_no_label_of_the_test_part(monkeypatch):
    """Where a feature is a copy of the label in the test part and noise elsewhere, what looked there would
    be right nearly always; and other labels of the test part change nothing but scores."""
    monkeypatch.setattr(models, "TREES", 20)
    rng = np.random.default_rng(3)
    labels = rng.permutation(np.repeat([0, 1], [80, 40]))
    data = datasets.Data(
        "made", rng.standard_normal((120, 4)), labels, ("a", "b"), tuple("wxyz"), None
    )
    train, test = np.arange(80), np.arange(80, 120)
    data.features[test, 0] = 6.0 * labels[test] - 3
    for c in (0, 1):  # as often with either label
        members = train[labels[train] == c]
        data.features[members, 0] = np.resize([-3.0, 3.0], len(members))
    common = {"num_steps": 40, "early_stopping": "balanced_log_loss", "hidden_layer_sizes": (8,)}
    variants = [
        *strategies.on_model("forest", ["erm", "inverse"]),
        strategies.strategies(["erm", "inverse"], 40)[1],
    ]
    for variant in variants:
        cell = cells.Cell(variant, 0, 0, train, test)
        found = cells.compute(cell, data, common, Currency(None, 0.2, 1))
        assert found["scores.balanced_accuracy"].max() < 0.75  # a copy of the label would make it 1
        changed = data._replace(labels=np.concatenate([labels[train], 1 - labels[test]]))
        again = cells.compute(cell, changed, common, Currency(None, 0.2, 1))
        unjudged = {"decided.threshold", "decided.alarm_share"}
        assert unjudged < found.keys()
        for name in found:
            if name in unjudged or not name.startswith(("scores.", "decided.")):
                assert found[name].tobytes() == again[name].tobytes(), (variant.name, name)
        np.testing.assert_allclose(
            again["scores.accuracy"], 1 - found["scores.accuracy"], atol=1e-12
        )


# The record


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A small study of three models, its options and its folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "load", lambda *_, **__: make_data())
        study = StudyOptions(
            "made",
            "erm,inverse,drw",
            2,
            1,
            models=f"logistic,{OWN}",
            ablations=False,
            sensitivity=False,
        )
        out = tmp_path_factory.mktemp("models") / "study"
        yield studies.run_study(study, out), study, out


def test_a_record_names_model_and_strategy(whole):
    record, _, out = whole
    assert record["model"].values.tolist() == ["logistic"] * 2 + [OWN] * 2
    assert record["strategy"].values.tolist() == ["erm", "inverse"] * 2
    assert ssm.load(out / "record.zarr").identical(record)
    assert not evidence.has_histories(record) and "stop_step" not in record
    assert attributes.network_alone(record) == []
    assert "scikit-learn==" in json.loads((out / "study.json").read_text())["versions"]
    found = evidence.find(record)
    assert found.strategies == ("logistic: erm", "logistic: inverse") and found.stopping == ()
    assert [(row.model, row.strategy) for row in found.rivals] == [
        (model, name) for model in ("logistic", OWN) for name in ("erm", "inverse")
    ]
    assert [row.comparison is None for row in found.rivals] == [True, False] * 2
    # probabilities by the record are those that were scored
    for name in map(str, record["variant"].values):
        rows = evidence.probabilities(record, name, "temperature")
        fold = record["fold_of"].values[0] == 0
        right = rows[fold].argmax(1) == record["label"].values[fold]
        scores = record["accuracy"].sel(variant=name, seed=0, fold=0, correction="temperature")
        assert float(scores) == pytest.approx(right.mean(), abs=1e-12)


def test_every_model_is_where_a_reader_looks_for_it(whole, tmp_path, monkeypatch):
    """The verdict comes first, every model has its recalls class by class, and the summary speaks without jargon."""
    monkeypatch.setattr(drawing, "KINDS", {"recalls": drawing.plot_recalls})
    record = whole[0]
    source = report.write_report(record, tmp_path).read_text(encoding="utf-8")
    assert source.index("What to use") < source.index("Contents") < source.index("What was studied")
    by_class = source[source.index('<section id="classes"') : source.index('id="differences"')]
    for name in attributes.compared_names(record):
        assert by_class.count(f"<summary>{name}</summary>") == 1
        assert by_class.count(f'<th class="number">{name}</th>') == 1
    reached = verdicts.verdict(record, 0.05)
    found = outcomes.outcomes(record, reached.chosen, reached.currency)
    for value in [*found.found, *found.missed]:
        assert f'<td class="number">{summary_words.cases(float(value))}</td>' in by_class
    page = (tmp_path / "summary.html").read_text(encoding="utf-8")
    text = re.sub("<em>.*?</em>|<style>.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL)
    jargon = r"argmax|\bbayes\b|posterior|\berm\b|ERM|baseline|inverse|calibrated|recall"
    assert not re.search(jargon, text)
    assert f"<em>{reached.chosen.name}</em>" in page  # for the engineer who looks it up


def test_of_three_classes_every_rule_is_a_candidate_and_decided_again_alike(whole):
    """Also by factors of the classes: what is taken again from the record is as often right as when it was counted."""
    record = whole[0]
    reached = verdicts.verdict(record, 0.05)
    assert {each.rule for each in reached.candidates} == {"argmax", "bayes", "threshold"}
    assert record["class_factors"].dims == ("variant", "seed", "fold", "class")
    np.testing.assert_allclose(record["class_factors"].prod("class"), 1, rtol=1e-9)
    for each in reached.candidates:
        found = outcomes.outcomes(record, each, reached.currency)
        right = record["decided_accuracy"].sel(variant=each.variant, rule=each.rule).mean()
        assert found.found.sum() == pytest.approx(1000 * float(right), abs=1e-9)


def test_a_study_of_models_goes_on_to_the_same_record(whole, tmp_path):
    """To the bit, where its cells are lost."""
    record, study, out = whole
    other = tmp_path / "study"
    other.mkdir()
    (other / "study.json").write_bytes((out / "study.json").read_bytes())
    (other / "cells").mkdir()
    name = sorted(path.name for path in (out / "cells").iterdir())[3]
    (other / "cells" / name).write_bytes((out / "cells" / name).read_bytes())
    again = studies.run_study(study, other)
    for name in record.data_vars:
        assert record[name].values.tobytes() == again[name].values.tobytes()


RUN = """
import sys
from pathlib import Path
from ssm.practice import studies
from ssm.practice.options import StudyOptions
study = StudyOptions(sys.argv[1], "erm,inverse", 2, 3, label="kind", models="logistic,forest", cost="a=5,b=1,c=9",
              alarm_budget=0.2, alarm_class="c")
studies.run_study(study, Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_a_killed_study_of_plain_models_goes_on_to_the_same_record(tmp_path):
    """kill -9, and the same call again: all arrays to the bit, whichever cells were left, and none that was finished is
    fitted again. The other record is that of a study that nobody stopped."""
    data, table = make_data(), tmp_path / "data.csv"
    columns = {name: data.features[:, i] for i, name in enumerate("wxyz")}
    kinds = [data.class_names[label] for label in data.labels]
    pd.DataFrame(columns | {"kind": kinds}).to_csv(table, index=False)
    out, whole = tmp_path / "killed", tmp_path / "whole"
    process = subprocess.Popen([sys.executable, "-c", RUN, str(table), str(out)])
    while process.poll() is None and len(list(out.glob("cells/*.npz"))) < 9:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in out.glob("cells/*.npz")}
    assert 9 <= len(kept) < 24 and not (out / "record.zarr").exists()
    study = StudyOptions(
        str(table),
        "erm,inverse",
        2,
        3,
        label="kind",
        models="logistic,forest",
        cost="a=5,b=1,c=9",
        alarm_budget=0.2,
        alarm_class="c",
    )
    resumed = studies.run_study(study, out)
    assert all(path.stat().st_mtime_ns == modified for path, modified in kept.items())
    other = studies.run_study(study, whole)
    assert set(resumed.data_vars) == set(other.data_vars)
    for name in other.data_vars:
        assert resumed[name].values.tobytes() == other[name].values.tobytes(), name
    for name in ("scores.csv", "class_scores.csv", "decisions.csv", "alarms.csv"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    assert not list(out.rglob(".*.ssm-writing"))


@pytest.mark.slow
def test_a_folder_of_an_earlier_version_goes_on(made, tmp_path):
    """Whose description knows no models: the default command is taken for the one that began it."""
    study = StudyOptions(
        "made",
        "erm,inverse",
        2,
        1,
        num_steps=20,
        hidden_layer_sizes=(8,),
        ablations=False,
        sensitivity=False,
    )
    planned = plans.plan(study, is_earlier=True)
    assert planned.compared == planned.strategies == ("erm", "inverse")
    out = tmp_path / "study"
    out.mkdir()
    studies._open(planned, out)
    assert not studies.LATER & json.loads((out / "study.json").read_text())["study"].keys()
    record = studies.run_study(study, out)
    assert set(record["model"].values) == {"network"}
    with pytest.raises(ssm.InputError, match="same options, data and versions"):
        studies.run_study(StudyOptions("made", "erm,inverse", 2, 1, models="logistic"), out)
