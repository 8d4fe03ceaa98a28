"""A study: what is trained on what, that a stopped one goes on, and what its record holds."""

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

import ssm
from ssm import cli, plotting
from ssm.practice import cells, strategies, studies, study_plans
from ssm.practice.options import Study

COUNTS = (40, 24, 8)
FEW = {"num_steps": 40, "hidden_layer_sizes": (8,), "ablations": False, "sensitivity": False}


@pytest.fixture(scope="module")
def csv(tmp_path_factory):
    """Three overlapping classes of 8 features as a user's file."""
    rng = np.random.default_rng(0)
    labels = np.repeat(["often", "seldom", "<b>rare</b>"], COUNTS)
    features = rng.normal(size=(len(labels), 8)) + 1.5 * np.repeat(np.eye(3, 8), COUNTS, axis=0)
    table = pd.DataFrame(features, columns=[f"x{i}" for i in range(8)]).assign(kind=labels)
    path = tmp_path_factory.mktemp("data") / "kinds.csv"
    table.sample(frac=1, random_state=0).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def study(csv):
    return Study(str(csv), "erm,inverse,adaptive", 2, 2, label="kind", **FEW)


@pytest.fixture(scope="module")
def whole(study, tmp_path_factory):
    """The study done in one go: its record and its folder."""
    out = tmp_path_factory.mktemp("whole") / "study"
    return studies.run_study(study, out), out


def contents(out):
    """What a study's record says, file by file, without when it was made."""
    tables = [(out / f"{name}.csv").read_bytes() for name in ("alarms", "class_scores", "scores")]
    record = ssm.load(out / "record.zarr")
    return tables, record.drop_attrs()


def same(a, b):
    (tables, record), (other_tables, other) = contents(a), contents(b)
    assert tables == other_tables
    assert record.identical(other)
    for name in record.data_vars:  # to the bit, NaN included
        assert record[name].values.tobytes() == other[name].values.tobytes()


def test_every_sample_is_tested_once_a_seed_and_the_baseline_comes_first(study):
    planned = study_plans.plan(dataclasses.replace(study, ablations=True, sensitivity=True))
    listed = list(planned.cells())
    assert len({name for name, _ in listed}) == len(listed) == len(planned.variants) * 4
    assert listed[0][1].variant.name == "erm"
    counts = planned.data.counts
    by_run = {}
    for _, cell in listed:
        assert not set(cell.train) & set(cell.test)
        assert len(cell.train) + len(cell.test) == sum(COUNTS)
        tested = np.bincount(planned.data.labels[cell.test], minlength=3)
        assert (abs(tested - counts / 2) <= 0.5).all()  # stratified
        by_run.setdefault((cell.variant.name, cell.seed), []).append(cell.test)
    for tests in by_run.values():
        np.testing.assert_array_equal(np.sort(np.concatenate(tests)), np.arange(sum(COUNTS)))
    # all variants have the same splits, the seeds have different ones
    assert np.array_equal(by_run["erm", 0][0], by_run["inverse", 0][0])
    assert not np.array_equal(by_run["erm", 0][0], by_run["erm", 1][0])


def test_ablations_and_sensitivities_name_what_is_trained(study):
    planned = study_plans.plan(dataclasses.replace(study, ablations=True, sensitivity=True))
    names = {variant.name for variant in planned.variants}
    for pair in planned.ablations:
        assert pair.on != pair.off
        assert {pair.on[0], pair.off[0]} <= names
        assert {pair.on[1], pair.off[1]} <= set(cells.CORRECTIONS)
    factors = {"weights", "schedule", "clip", "margin", "post-hoc"}
    for setting in ("alone", "combined"):
        assert {p.factor for p in planned.ablations if p.setting == setting} == factors
    assert {entry.variant for entry in planned.sensitivities} <= names
    assert {entry.kind for entry in planned.sensitivities} == {"weight scale", "sample size"}


def test_fewer_samples_are_a_stratified_part(study):
    planned = study_plans.plan(dataclasses.replace(study, sensitivity=True))
    labels = planned.data.labels
    for _, cell in planned.cells():
        kept = cells._fraction(cell, labels)
        assert set(kept) <= set(cell.train)
        given = np.bincount(labels[cell.train], minlength=3)
        wanted = np.maximum(np.round(cell.variant.fraction * given), 2)
        np.testing.assert_array_equal(np.bincount(labels[kept], minlength=3), wanted)


@pytest.mark.slow
def test_a_study_that_was_stopped_goes_on_to_the_same_record(study, whole, tmp_path, monkeypatch):
    done, compute = [], cells.compute

    def stops(cell, *others):
        done.append((cell.variant.name, cell.seed, cell.fold))
        if len(done) == 5:
            raise RuntimeError("stopped")
        return compute(cell, *others)

    monkeypatch.setattr(cells, "compute", stops)
    out = tmp_path / "study"
    with pytest.raises(RuntimeError, match="stopped"):
        studies.run_study(study, out)
    finished = set(done) - {done[4]}
    assert len(list((out / "cells").glob("*.npz"))) >= 4
    broken = sorted((out / "cells").glob("*.npz"))[0]
    broken.write_bytes(broken.read_bytes()[:-100])  # half written, as after a power failure
    again = []

    def counts(cell, *others):
        again.append((cell.variant.name, cell.seed, cell.fold))
        return compute(cell, *others)

    monkeypatch.setattr(cells, "compute", counts)
    told = []
    studies.run_study(study, out, lambda *now: told.append(now))
    assert len(set(again)) == len(again)
    assert set(again) & finished <= {("erm", 0, 0)}
    assert told[-1] == (12, 12) and told == sorted(told)
    same(out, whole[1])
    studies.run_study(study, out)
    assert len(again) + len(finished) - 1 <= 12  # the third call trained nothing


def test_the_record_is_of_its_cells(whole, study):
    record, out = whole
    assert record.identical(ssm.load(out / "record.zarr"))
    labels = record["label"].values
    rows = pd.read_csv(out / "scores.csv").set_index(["variant", "seed", "fold", "correction"])
    for variant in ("erm", "inverse", "adaptive"):
        for seed in (0, 1):
            for fold in (0, 1):
                mine = record["fold_of"].sel(seed=seed).values == fold
                logits = record["logits"].sel(variant=variant, seed=seed).values[mine]
                scores = record.sel(variant=variant, seed=seed, fold=fold, correction="none")
                predicted = logits.argmax(1)
                expected = metrics.balanced_accuracy_score(labels[mine], predicted)
                assert float(scores["balanced_accuracy"]) == pytest.approx(expected, abs=1e-15)
                assert float(scores["accuracy"]) == (predicted == labels[mine]).mean()
                row = rows.loc[variant, seed, fold, "none"]
                assert row["balanced_accuracy"] == float(scores["balanced_accuracy"])
    # a temperature, and a correction to class shares that the network has, change no decision
    erm = record.sel(variant="erm")["accuracy"]
    assert (erm.sel(correction="temperature") == erm.sel(correction="training")).all()
    assert (erm.sel(correction="training") == erm.sel(correction="none")).all()
    assert record["train_count"].sum("class").values.ravel().tolist() == [36] * 12
    weight = record["history_class_weight"].sel(variant="erm").values
    assert (weight[np.isfinite(weight)] == 1).all()
    assert json.loads(record.attrs["strategies"]) == list(study.strategy_names)


def test_other_studies_and_other_data_are_refused(study, whole, csv, tmp_path):
    out = whole[1]
    for other in (
        dataclasses.replace(study, folds=3),
        dataclasses.replace(study, learning_rate=0.1),
    ):
        with pytest.raises(ssm.InputError, match=r"^out=.*options, data and versions$"):
            studies.run_study(other, out)
    original = csv.read_text()
    try:
        csv.write_text(original.replace("often", "usually"))
        with pytest.raises(ssm.InputError, match="options, data and versions"):
            studies.run_study(study, out)
    finally:
        csv.write_text(original)
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(ssm.InputError, match="a new folder"):
        studies.run_study(study, tmp_path)


@pytest.mark.parametrize(
    ("names", "allowed"),
    [
        ("inverse,erm", "first"),
        ("erm", "another after it"),
        ("erm,best", "one of"),
        ("erm,sqrt,sqrt", "each named once"),
        ("", "one of"),
    ],
)
def test_strategies_that_cannot_be(names, allowed):
    with pytest.raises(ssm.InputError, match=f"^strategies=.*{allowed}"):
        strategies.strategies(Study("wine", names).strategy_names, 100)


@pytest.mark.parametrize("field", ["folds", "seeds", "num_steps", "batch_size"])
def test_numbers_that_cannot_be(field):
    with pytest.raises(ssm.InputError, match=f"^{field}=0: must be"):
        Study("wine", **{field: 0})


RUN = """
import sys
from pathlib import Path
from ssm.practice import studies
from ssm.practice.options import Study
study = Study(sys.argv[1], "erm,inverse,adaptive", 2, 2, label="kind", num_steps=40,
              hidden_layer_sizes=(8,), ablations=False, sensitivity=False)
studies.run_study(study, Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_a_killed_study_goes_on_to_the_same_record(whole, study, csv, tmp_path):
    """kill -9, and the same call again."""
    out = tmp_path / "study"
    process = subprocess.Popen([sys.executable, "-c", RUN, str(csv), str(out)])
    while process.poll() is None and len(list(out.glob("cells/*.npz"))) < 5:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in out.glob("cells/*.npz")}
    assert 5 <= len(kept) < 12 and not (out / "record.zarr").exists()
    studies.run_study(study, out)
    # nothing finished is done again
    assert all(path.stat().st_mtime_ns == modified for path, modified in kept.items())
    same(out, whole[1])


@pytest.mark.slow
def test_the_command_writes_a_report(whole, csv, tmp_path, monkeypatch, capsys):
    """On a study that is done already, so that nothing is trained."""
    out = tmp_path / "study"
    shutil.copytree(whole[1], out)
    flags = "--strategies erm,inverse,adaptive --folds 2 --seeds 2 --label kind --num-steps 40"
    flags += " --hidden-layer-sizes 8 --no-ablations --no-sensitivity"
    command = ["ssm", "study", str(csv), *flags.split(), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", command)
    monkeypatch.setitem(plotting._STYLE, "savefig.dpi", 30)
    cli.main()
    printed = capsys.readouterr().out
    assert "adaptive" in printed and f"report: {out / 'report.html'}" in printed
    page = (out / "report.html").read_text()
    assert "kinds.csv" in page and "&lt;b&gt;rare&lt;/b&gt;" in page and "<b>rare</b>" not in page
    same(out, whole[1])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            "missing.csv",
            "data='missing.csv': must be one of digits, breast_cancer, wine, or a file",
        ),
        ("wine --folds 50", "folds=50: must be at most the number of samples of every class"),
        ("wine --folds 1", "folds=1: must be an integer in [2, 1000]"),
        ("wine --strategies erm,best", "strategies='best': must be one of erm, inverse"),
        ("wine --imbalance-ratio 1e9", "imbalance_ratio=1000000000.0: must be at most"),
        ("wine --label kind", "label='kind': must be"),
    ],
)
def test_what_cannot_be_studied_is_said_in_one_line(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["ssm", "study", *arguments.split()])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"ssm: {said}") and printed.err.count("\n") == 1
    assert not printed.out and not list(tmp_path.iterdir())
