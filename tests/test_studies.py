"""A study: what is trained on what, that a stopped one goes on, and what its record holds."""

import dataclasses
import errno
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

import fuzz_stores
import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

import ssm
from ssm import plotting
from ssm.cli import commands
from ssm.practice.network import alarms
from ssm.practice.options import StudyOptions
from ssm.practice.study import cells, fits, plans, strategies, studies
from ssm.results import digests
from ssm.support import files, locks

COUNTS = (40, 24, 8)
FEW = {"num_steps": 40, "hidden_layer_sizes": (8,), "ablations": False, "sensitivity": False}
FEW |= {"models": "network"}


def write_csv(path):
    """Three overlapping classes of 8 features as a user's file."""
    rng = np.random.default_rng(0)
    labels = np.repeat(["often", "seldom", "<b>rare</b>"], COUNTS)
    features = rng.normal(size=(len(labels), 8)) + 1.5 * np.repeat(np.eye(3, 8), COUNTS, axis=0)
    table = pd.DataFrame(features, columns=[f"x{i}" for i in range(8)]).assign(kind=labels)
    table.sample(frac=1, random_state=0).to_csv(path, index=False)
    return path


def make_study(csv):
    return StudyOptions(str(csv), "erm,inverse,adaptive", 2, 2, label="kind", **FEW)


@pytest.fixture(scope="module")
def csv(tmp_path_factory):
    return write_csv(tmp_path_factory.mktemp("data") / "kinds.csv")


@pytest.fixture(scope="module")
def study(csv):
    return make_study(csv)


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


contents_once = functools.cache(contents)


def same(a, b):
    """Of b, which stays as it is, the contents are read once."""
    (tables, record), (other_tables, other) = contents(a), contents_once(b)
    assert tables == other_tables
    assert record.identical(other)
    for name in record.data_vars:  # to the bit, NaN included
        assert record[name].values.tobytes() == other[name].values.tobytes()


def test_every_sample_is_tested_once_a_seed_and_the_baseline_comes_first(study):
    planned = plans.plan(dataclasses.replace(study, ablations=True, sensitivity=True))
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
    planned = plans.plan(dataclasses.replace(study, ablations=True, sensitivity=True))
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
    planned = plans.plan(dataclasses.replace(study, sensitivity=True))
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
    progress_calls = []
    studies.run_study(study, out, lambda *now: progress_calls.append(now))
    assert len(set(again)) == len(again)
    assert set(again) & finished <= {("erm", 0, 0)}
    assert progress_calls[-1] == (12, 12) and progress_calls == sorted(progress_calls)
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


@pytest.mark.slow
def test_a_shorter_study_that_is_evaluated_every_step_goes_the_same_way(study, whole, tmp_path):
    """Splits, networks and mini-batches depend on seed and step alone, so that its evaluations are among
    those of the longer study, which has one every second step. To rounding, since a scan of one step and
    one of two are compiled apart."""
    short = dataclasses.replace(study, strategies="erm,inverse", num_steps=4, evaluate_every=1)
    record = studies.run_study(short, tmp_path / "short")
    assert record["history_step"].values[0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    longer = whole[0].sel(variant=["erm", "inverse"])
    assert longer["history_step"].values[0, 0, 0, :3].tolist() == [0, 2, 4]
    for name in ("history_class_recall", "history_class_loss"):
        mine = record[name].isel(evaluation=[0, 2, 4]).values
        theirs = longer[name].isel(evaluation=[0, 1, 2]).values
        np.testing.assert_allclose(mine, theirs, rtol=1e-12)


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


# What is damaged


@pytest.fixture
def copy(whole, tmp_path):
    """The finished study in a folder of its own."""
    return shutil.copytree(whole[1], tmp_path / "study")


@pytest.fixture
def computed(monkeypatch):
    """The cells that are computed."""
    done, compute = [], cells.compute

    def counts(cell, *others):
        done.append((cell.variant.name, cell.seed, cell.fold))
        return compute(cell, *others)

    monkeypatch.setattr(cells, "compute", counts)
    return done


def test_a_cell_copied_over_another_is_computed_again(study, whole, copy, computed, caplog):
    """Of another variant, seed or fold, each whole in itself."""
    for source, cell in (("02-0-0", "01-0-0"), ("00-1-0", "00-0-0"), ("02-1-1", "02-1-0")):
        shutil.copy(copy / "cells" / f"{source}.npz", copy / "cells" / f"{cell}.npz")
    studies.run_study(study, copy)
    assert sorted(computed) == [("adaptive", 1, 0), ("erm", 0, 0), ("inverse", 0, 0)]
    same(copy, whole[1])
    said = f"3 of 12 cells in {copy} are damaged or not of this study, and computed again"
    assert caplog.messages == [said]


def test_a_cell_is_of_one_study(study, whole, tmp_path):
    name = "00-0-0.npz"
    for number, changes in enumerate([{}, {"learning_rate": 0.1}, {"seeds": 3}]):
        out = tmp_path / str(number)
        out.mkdir()
        folder = studies._open(plans.plan(dataclasses.replace(study, **changes)), out)
        shutil.copy(whole[1] / "cells" / name, out / "cells" / name)
        assert (folder.read(name) is None) == bool(changes)
        shutil.copy(whole[1] / "cells" / name, out / "cells" / "00-0-1.npz")
        assert folder.read("00-0-1.npz") is None


def test_a_cell_is_read_as_it_was_written(whole, tmp_path):
    """And its file is one that NumPy reads."""
    arrays = {"a": np.array([np.nan, -0.0]), "b": np.array(["x", "yz"]), "c": np.array(3)}
    path = tmp_path / "cell.npz"
    cells.write(arrays, path, "study 0")
    kept = cells.read(path, "study 0")
    assert kept is not None
    assert kept.sealed and kept.arrays.keys() == arrays.keys()
    with np.load(path) as stored:
        for name, values in arrays.items():
            assert kept.arrays[name].dtype == values.dtype == stored[name].dtype
            assert kept.arrays[name].tobytes() == values.tobytes() == stored[name].tobytes()
    assert cells.read(path, "study 1") is None
    assert cells.read(tmp_path / "none.npz", "study 0") is None
    written = path.read_bytes()
    for place in range(len(written)):
        path.write_bytes(written[:place] + bytes([written[place] ^ 1]) + written[place + 1 :])
        assert cells.read(path, "study 0") is None
        path.write_bytes(written[:place])
        assert cells.read(path, "study 0") is None


def test_a_changed_description_is_refused_until_it_is_removed(study, whole, copy, computed):
    path = copy / "study.json"
    written = path.read_text()
    commit = whole[0].attrs["git_commit"]
    for changed in (
        written.replace(commit, "0" * 40),
        re.sub('"learning_rate": 0.003', '"learning_rate": 0.03', written),
        re.sub('"digest": "[0-9a-f]+"', '"digest": null', written),
        re.sub(',\\s+"digest": "[0-9a-f]+"', "", written),
        re.sub('"format": "[^"]+",', "", written),
        written.replace('"origin"', '"origins"'),
        written[:-9],
        "[1]",
        "",
    ):
        assert changed != written
        path.write_text(changed)
        with pytest.raises(
            ssm.InputError, match=r"^out=.*study\.json is as it was written"
        ) as message_part:
            studies.run_study(study, copy)
        assert "\n" not in str(message_part.value)
    path.unlink()
    studies.run_study(study, copy)
    assert computed == []  # each cell says itself whose it is
    same(copy, whole[1])


def damaged_record(out, how):
    store = out / "record.zarr"
    if how == "gone":
        shutil.rmtree(store)
    elif how == "empty":
        shutil.rmtree(store)
        store.mkdir()
    elif how == "no attributes":
        (store / ".zattrs").unlink()
        (store / ".zmetadata").write_text("{}")
    else:
        for name in ("scores", "class_scores", "alarms"):
            (out / f"{name}.csv").unlink()


@pytest.mark.parametrize(
    "how",
    [
        "gone",
        pytest.param("empty", marks=pytest.mark.slow),
        pytest.param("no attributes", marks=pytest.mark.slow),
        "no tables",
    ],
)
def test_a_finished_study_writes_its_record_again(study, whole, copy, computed, how):
    damaged_record(copy, how)
    reported = []
    studies.run_study(study, copy, report=lambda *given: reported.append(given))
    assert computed == []
    same(copy, whole[1])
    ((record, out),) = reported
    assert out == copy and record.identical(whole[0])


def test_what_is_not_of_a_record_is_not_overwritten(study, copy):
    (copy / "record.zarr" / "notes.txt").write_text("precious")
    with pytest.raises(ssm.InputError, match=r"^out=.*record\.zarr'.*move notes\.txt away$"):
        studies.run_study(study, copy)
    assert (copy / "record.zarr" / "notes.txt").read_text() == "precious"


@pytest.mark.slow
def test_a_study_of_an_earlier_version_goes_on_and_is_sealed(study, whole, copy, computed):
    """Whose cells and description had no digest."""
    for path in (copy / "cells").iterdir():
        with np.load(path) as stored:
            arrays = dict(stored)
        np.savez(path, **arrays)
    path = copy / "study.json"
    description = json.loads(path.read_text())
    del description["digest"], description["format"]
    path.write_text(json.dumps(description))
    with pytest.warns(digests.StoreWarning, match="by an earlier version") as warned:
        studies.run_study(study, copy)
    assert len(warned) == 1
    studies.run_study(study, copy)  # without a warning
    assert computed == []
    same(copy, whole[1])
    for path in (copy / "cells").iterdir():
        assert path.read_bytes() == (whole[1] / "cells" / path.name).read_bytes()


@pytest.mark.parametrize(
    ("kind", "cases"),
    [
        ("cells", 12),
        pytest.param("cells", 30, marks=pytest.mark.slow),
        pytest.param("study", 12, marks=pytest.mark.slow),
    ],
)
def test_whatever_is_changed_a_study_has_the_same_record(kind, cases):
    counts, bad = fuzz_stores.fuzz(kind, cases)
    assert not bad, bad[0]
    assert counts["refused"] and counts["as written"]


# Folders that cannot be had


@pytest.fixture
def read_only(monkeypatch):
    """All that is written goes through this."""

    def refuses(path):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(files, "reserved", refuses)


def snapshot(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_finished_study_is_read_from_a_disk_that_is_read_only(
    study, whole, copy, computed, read_only, caplog
):
    damaged_record(copy, "gone")
    before = snapshot(copy)
    fail: Any = pytest.fail
    record = studies.run_study(study, copy, report=fail)
    assert record.identical(whole[0])
    assert snapshot(copy) == before and computed == []
    assert caplog.messages == [f"nothing was written to {copy} (Read-only file system)"]


def test_what_is_missing_on_a_disk_that_is_read_only_is_said(study, copy, computed, read_only):
    (copy / "cells" / "00-0-0.npz").unlink()
    with pytest.raises(ssm.InputError, match=r"^out=.*\(Read-only file system\).*1 cells"):
        studies.run_study(study, copy)
    assert computed == []


@pytest.mark.skipif(os.getuid() == 0, reason="root writes everywhere")
def test_a_folder_without_permission(study, copy):
    copy.chmod(0o555)
    try:
        studies.run_study(study, copy)
    finally:
        copy.chmod(0o755)


def test_a_folder_is_of_one_study_at_a_time(study, copy, computed):
    before = snapshot(copy)
    with locks.alone(copy, "out", "study"):
        with pytest.raises(ssm.InputError, match=r"^out=.*in which no other study is at work$"):
            studies.run_study(study, copy)
        assert snapshot(copy) == before
    studies.run_study(study, copy)
    assert sorted(copy.iterdir()) == sorted(path for path in before if path.parent == copy)


# What cannot be


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
        strategies.strategies(StudyOptions("wine", names).strategy_names, 100)


@pytest.mark.parametrize("field", ["folds", "seeds", "num_steps", "evaluate_every", "batch_size"])
def test_numbers_that_cannot_be(field):
    with pytest.raises(ssm.InputError, match=f"^{field}=0: must be"):
        StudyOptions("wine", **dict[str, Any]({field: 0}))


RUN = """
import sys
from pathlib import Path
from ssm.practice import studies
from ssm.practice.network import alarms
from ssm.practice.options import StudyOptions
study = StudyOptions(sys.argv[1], "erm,inverse,adaptive", 2, 2, label="kind", num_steps=40,
              hidden_layer_sizes=(8,), ablations=False, sensitivity=False, models="network")
studies.run_study(study, Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_a_killed_study_goes_on_to_the_same_record(whole, study, csv, tmp_path):
    """kill -9, and the same call again."""
    out = tmp_path / "study"
    process = subprocess.Popen([sys.executable, "-c", RUN, str(csv), str(out)])
    while process.poll() is None and len(list(out.glob("cells/*.npz"))) < 5:
        time.sleep(0.01)
    with pytest.raises(ssm.InputError, match=r"^out=.*in which no other study is at work$"):
        studies.run_study(study, out)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in out.glob("cells/*.npz")}
    assert 5 <= len(kept) < 12 and not (out / "record.zarr").exists()
    studies.run_study(study, out)
    # nothing finished is done again
    assert all(path.stat().st_mtime_ns == modified for path, modified in kept.items())
    same(out, whole[1])
    assert not list(out.rglob(".*.ssm-writing"))


@pytest.mark.slow
def test_the_command_writes_a_report(whole, csv, tmp_path, monkeypatch, capsys):
    """On a study that is done already, so that nothing is trained."""
    out = tmp_path / "study"
    shutil.copytree(whole[1], out)
    flags = "--strategies erm,inverse,adaptive --folds 2 --seeds 2 --label kind --num-steps 40"
    flags += " --hidden-layer-sizes 8 --no-ablations --no-sensitivity --models network"
    command = ["ssm", "study", str(csv), *flags.split(), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", command)
    monkeypatch.setitem(plotting.STYLE, "savefig.dpi", 30)
    commands.main()
    printed = capsys.readouterr().out
    assert "adaptive" in printed and f"report: {out / 'report.html'}" in printed
    page = (out / "report.html").read_text()
    assert "kinds.csv" in page and "&lt;b&gt;rare&lt;/b&gt;" in page and "<b>rare</b>" not in page
    same(out, whole[1])
    assert {path.name for path in out.iterdir()} == studies.OURS | {studies.DESCRIPTION}


@pytest.mark.parametrize("there", [True, False])
def test_the_command_names_the_report_on_a_disk_that_is_read_only(
    copy, csv, read_only, monkeypatch, capsys, there
):
    """Or says that there is none."""
    if there:
        (copy / "report.html").write_text("as it was")
    flags = "--strategies erm,inverse,adaptive --folds 2 --seeds 2 --label kind --num-steps 40"
    flags += " --hidden-layer-sizes 8 --no-ablations --no-sensitivity --models network"
    command = ["ssm", "study", str(csv), *flags.split(), "--out", str(copy)]
    monkeypatch.setattr(sys, "argv", command)
    if there:
        commands.main()
        printed = capsys.readouterr()
        assert printed.out.endswith(f"report: {copy / 'report.html'}\n")
        assert "nothing was trained: the study was complete" in printed.out
        assert (copy / "report.html").read_text() == "as it was"
        return
    with pytest.raises(SystemExit) as stopped:
        commands.main()
    assert stopped.value.code == 2
    message_part = capsys.readouterr().err.splitlines()[-1]
    assert message_part.startswith(f"ssm: out='{copy}': must be a folder that can be written to")


@pytest.mark.parametrize(
    ("arguments", "message_part"),
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
def test_what_cannot_be_studied_is_said_in_one_line(
    arguments, message_part, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["ssm", "study", *arguments.split()])
    with pytest.raises(SystemExit) as stopped:
        commands.main()
    assert stopped.value.code == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"ssm: {message_part}") and printed.err.count("\n") == 1
    assert not printed.out and not list(tmp_path.iterdir())


def test_what_is_logged_counts_from_1_and_names_classes(study, tmp_path, monkeypatch, caplog):
    """As the report does."""

    class Stopped(Exception):
        pass

    def stop(*_):
        raise Stopped(threading.current_thread().name)

    monkeypatch.setattr(cells, "compute", stop)
    with pytest.raises(Stopped, match=r"^erm, repetition 1, fold 1$"):
        studies.run_study(study, tmp_path / "study")
    classifier = fits.NamingClassifier()
    classifier.names, classifier.classes_ = ("often", "rare"), np.arange(2)
    evaluation = {"step": 20, "loss": 1.0, "class_recall": [0.9, 0.1]}
    alarm = alarms.Alarm(20, "class_drop", 1, 0.1, 0.4, "recall fell")
    run = SimpleNamespace(rows=[evaluation], alarms=[(alarm, "warn")])
    with caplog.at_level("INFO", logger="ssm"):
        classifier._log_evaluation(10, run)  # type: ignore[arg-type] # only what is logged of a run
    alarmed, evaluated = caplog.messages
    assert alarmed == "step 20: class_drop of class rare: recall fell; going on"
    assert evaluated.endswith("worst class rare 0.100")
