"""`ssm plot --follow` draws a log while another process writes it, and leaves its last picture whole."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure

import ssm
from ssm import plotting
from ssm.cli import following
from ssm.results import journals

ROOT = Path(__file__).parents[1]
LABELS = np.repeat([0, 1, 2], [6, 6, 3])

WRITER = """
import pathlib, sys, time
import numpy as np, ssm
labels, drawn = np.repeat([0, 1, 2], [6, 6, 3]), pathlib.Path("log-network.png")
with ssm.Tracker(labels, "log.zarr", on_alarm=print) as tracker:
    print("open", flush=True)
    for step in range(3):
        before = drawn.stat().st_ino if drawn.exists() else None
        tracker.add(step, step * np.eye(3)[labels])
        while not drawn.exists() or drawn.stat().st_ino == before:  # until the step is in the picture
            time.sleep(0.02)
"""


def logged(store, steps):
    tracker = ssm.Tracker(LABELS, store, on_alarm=print)
    for step in steps:
        tracker.add(step, step * np.eye(3)[LABELS])
    return tracker


def sleeping(monkeypatch, sleep):
    """Put something in the place of the pauses of what follows a log, and of nothing else."""
    monkeypatch.setattr(following, "time", SimpleNamespace(sleep=sleep))


def test_each_step_that_another_process_adds_is_drawn_until_it_closes(
    command, tmp_path, monkeypatch
):
    """That process adds a step once the one before is in the picture, so that the picture has changed with each."""
    drawn: list[list[float]] = []

    def quick(dataset, kind):
        assert kind == "network"
        drawn.append(dataset["time"].values.tolist())
        figure = Figure(figsize=(1, 1))
        figure.text(0, 0.5, f"{dataset.class_strength.values}")
        return figure

    monkeypatch.setattr(plotting, "figure", quick)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", WRITER], cwd=tmp_path, env=environment, stdout=subprocess.PIPE
    ) as writer:
        try:
            assert writer.stdout is not None and writer.stdout.readline() == b"open\n"
            while not journals.is_journal(tmp_path / "log.zarr"):
                assert writer.poll() is None
                time.sleep(0.01)
            code, out, err = command("plot log.zarr --kind network --follow 0.1")
            writer.wait(60)
        finally:
            writer.kill()
    assert (code, err) == (0, "")
    assert out.splitlines() == ["log-network.png", "log.zarr was closed at step 2"]
    assert drawn == [[0], [0, 1], [0, 1, 2], [0, 1, 2]]
    plotting.save_figure(quick(ssm.load("log.zarr"), "network"), "wanted.png")
    assert Path("log-network.png").read_bytes() == Path("wanted.png").read_bytes()


def test_ctrl_c_ends_it_and_leaves_the_picture_whole(tmp_path):
    tracker = logged(tmp_path / "log", range(2))
    with subprocess.Popen(
        [sys.executable, "-c", "from ssm.cli import main; main()", "plot", "log", "--follow"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "log-network.png\n"
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 130
    assert err == "ssm: interrupted, log-network.png is written\n"
    plotting.save_figure(plotting.figure(tracker.dataset(), "network"), tmp_path / "wanted.png")
    assert (tmp_path / "log-network.png").read_bytes() == (tmp_path / "wanted.png").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log", "log-network.png", "wanted.png"]


def test_versions_of_a_log_that_is_closed_goes_on_and_is_taken_back(tmp_path, monkeypatch):
    """What happens between two looks, one after the other."""
    store = tmp_path / "log"
    tracker = logged(store, [])
    tracker.add(0, np.eye(3)[LABELS])
    happens = iter(
        [
            lambda: None,  # nothing is drawn where nothing is new
            lambda: tracker.add(1, np.eye(3)[LABELS]),
            lambda: tracker.rewind(0),  # to a log of no steps
            lambda: tracker.add(5, np.eye(3)[LABELS]),
            tracker.close,
        ]
    )
    sleeping(monkeypatch, lambda seconds: next(happens)())
    found = [dataset["time"].values.tolist() for dataset in following.versions(store, 1.0)]
    assert found == [[0], [0, 1], [5], [5]]


def test_a_log_that_is_not_there_for_a_moment_is_tried_again(tmp_path, monkeypatch):
    store, away = tmp_path / "log", tmp_path / "away"
    logged(store, range(2)).close()
    store.rename(away)
    pauses = []

    def sleep(seconds):
        pauses.append(seconds)
        if len(pauses) == 3:
            away.rename(store)

    sleeping(monkeypatch, sleep)
    (dataset,) = following.versions(store, 7.0)
    assert dataset.sizes["time"] == 2 and pauses == [following.PAUSE] * 3
    store.rename(away)
    pauses.append(0.0)
    with pytest.raises(ssm.InputError, match=r"^store=.*a store that exists"):
        list(following.versions(store, 7.0))


@pytest.fixture(scope="module")
def offered(run, tmp_path_factory):
    """A folder of what can be asked for."""
    folder = tmp_path_factory.mktemp("offered")
    logged(folder / "log", range(2))
    logged(folder / "empty", range(2)).rewind(0)
    ssm.save(ssm.track(np.zeros((1, 15, 3)), LABELS), folder / "tracked.zarr")
    ssm.save(run(), folder / "run.zarr")
    (folder / "taken.png").write_text("mine")
    return folder


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("log --follow 0", "follow=0.0: must be a finite number in [0.1, 86400]"),
        ("log --follow 1 2", "follow=(1.0, 2.0): must be one number of seconds"),
        ("log --follow x", "follow='x': must be"),
        ("log --kind accuracy --follow", "kind='accuracy': must be network with --follow"),
        ("log --follow --at seed=1", "at=('seed=1',): must be left out with --follow"),
        ("log --follow --axes seed", "axes=('seed',): must be left out with --follow"),
        ("tracked.zarr --follow", "store='tracked.zarr': must be the log of a Tracker"),
        ("run.zarr --kind network --follow", "store='run.zarr': must be the log of a Tracker"),
        ("nothing --follow", "store='nothing': must be a store that exists"),
        ("log --follow --out taken.png", "out='taken.png': must be a path that does not exist yet"),
        ("empty", "dataset='a log of no steps': must be one to which a step was added"),
    ],
)
def test_anything_else_is_refused_in_one_line(command, offered, monkeypatch, line, said):
    monkeypatch.chdir(offered)
    code, out, err = command(f"plot {line}")
    assert (code, out) == (2, "") and err.startswith(f"ssm: {said}") and err.count("\n") == 1
    assert not list(offered.glob("*network.png"))
    assert (offered / "taken.png").read_text() == "mine"
