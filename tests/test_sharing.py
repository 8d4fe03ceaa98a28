"""Processes that are given the same sweep and the same store share its work, and each chunk is computed once."""

import json
import os
import signal
import threading
import time

import numpy as np
import pytest
import xarray as xr

import ssm
from ssm import simulation
from ssm.results import stores
from ssm.support import files, locks, sharing

GRID = {"imbalance_ratio": [2.0, 4.0], "seed": [0, 1, 2, 3]}  # a chunk each
pytestmark = pytest.mark.skipif(not locks.EXIST, reason="a system without locks")


@pytest.fixture(scope="module")
def alone(base, tmp_path_factory):
    """The same sweep, computed by one process."""
    path = tmp_path_factory.mktemp("alone") / "sweep.zarr"
    return ssm.sweep(GRID, base, path, chunk_size=1).load()


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def runs_of_marks(path):
    marks = [json.loads(mark.read_text()) for mark in (path / stores.MARKS).glob("*.json")]
    return [mark["runs"] for mark in marks]


def sweep_and_tell(base, path, told, awaited):
    """Sweep in this process, which puts the runs it has followed into a file that is its own. Its first run
    waits until that of another has begun, whose file is `awaited`."""
    seen, run_arrays = [], simulation.run_arrays

    def counting(run, trajectory):
        told.touch()
        wait_for(awaited.exists)
        seen.append((run.config.imbalance_ratio, run.config.seed))
        return run_arrays(run, trajectory)

    simulation.run_arrays = counting
    done = ssm.sweep(GRID, base, path, chunk_size=1)
    assert (done["status"] == "finished").all() and done.sizes["seed"] == 4
    told.write_text(json.dumps(seen))


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_two_calls_at_once_share_the_runs(base, alone, tmp_path, ran):
    """Both return all of it, and no run is followed twice; nothing but the store is left."""
    path, found = tmp_path / "sweep.zarr", []
    calls = [
        threading.Thread(
            target=lambda: found.append(ssm.sweep(GRID, base, path, chunk_size=1).load())
        )
        for _ in range(2)
    ]
    for call in calls:
        call.start()
    for call in calls:
        call.join()
    assert len(found) == 2 and len(ran) == len(set(ran)) == 8
    for dataset in found:
        xr.testing.assert_equal(dataset, alone)
    assert runs_of_marks(path) == [1] * 8 and names(tmp_path) == ["sweep.zarr"]


@pytest.mark.slow
def test_two_processes_share_the_runs(base, alone, tmp_path, start):
    """Which is seen from what each has followed: together all cells, none twice, and both some."""
    path, told = tmp_path / "sweep.zarr", [tmp_path / "a.json", tmp_path / "b.json"]
    processes = [start(sweep_and_tell, base, path, *pair) for pair in (told, reversed(told))]
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    shares = [list(map(tuple, json.loads(each.read_text()))) for each in told]
    assert sorted(shares[0] + shares[1]) == [(r, s) for r in (2.0, 4.0) for s in range(4)]
    assert min(map(len, shares)) > 0
    xr.testing.assert_equal(ssm.load(path).load(), alone)
    assert names(tmp_path) == ["a.json", "b.json", "sweep.zarr"]


@pytest.mark.slow
def test_the_chunk_of_a_killed_process_is_taken_over(base, alone, tmp_path, start, ran):
    """While it holds two chunks, which another process waits for."""
    path = tmp_path / "sweep.zarr"
    stuck = start(sweep_and_tell, base, path, tmp_path / "begun", tmp_path / "never")
    folder = files.hidden(path)
    wait_for((tmp_path / "begun").exists)
    assert {"0", "1"} <= {*names(folder)}

    def kill():
        wait_for(lambda: len(runs_of_marks(path)) == 6)  # all but its own
        time.sleep(0.2)
        os.kill(stuck.pid, signal.SIGKILL)

    killing = threading.Thread(target=kill)
    killing.start()
    whole = ssm.sweep(GRID, base, path, chunk_size=1).load()
    killing.join()
    stuck.join()
    assert stuck.exitcode == -signal.SIGKILL
    assert len(ran) == len(set(ran)) == 8
    xr.testing.assert_equal(whole, alone)
    files.sweep(
        tmp_path
    )  # a process that dies lets go of its chunks a moment before it lets go of the folder
    assert names(tmp_path) == ["begun", "sweep.zarr"]
    assert not list(path.rglob("*.partial")) and not list(path.rglob(f"*{files.HIDDEN}"))


def computing(path, work):
    """Do `work` while another call is computing the sweep of a store."""
    with sharing.shared(path, lambda: None):
        work()


def test_a_store_that_is_computed_is_not_grown_or_mended(base, tmp_path, ran):
    path = tmp_path / "sweep.zarr"
    ssm.sweep({"seed": [0, 1]}, base, path, chunk_size=1)
    ran.clear()

    def ask(grid, said):
        with pytest.raises(ssm.InputError, match=said) as caught:
            ssm.sweep(grid, base, path)
        assert "\n" not in str(caught.value)

    needed = "must be a store that no other process is computing, as "
    computing(path, lambda: ask({"seed": [0, 1, 2]}, f"{needed}its sweep has to grow"))
    computing(path, lambda: ask({"seed": [1, 2]}, "must be a store of the same sweep; seed is"))
    (path / "seed" / "0").write_bytes(b"")
    computing(path, lambda: ask({"seed": [0, 1]}, f"{needed}it is damaged"))
    run = ssm.sweep({"seed": [0, 1]}, base)
    with sharing.shared(path, lambda: None), pytest.raises(ssm.InputError, match="other process"):
        ssm.save(run, path, overwrite=True)
    assert sorted(ran) == [(4.0, 0), (4.0, 1)]  # of the sweep in memory
    grown = ssm.sweep({"seed": [0, 1, 2]}, base, path)
    np.testing.assert_array_equal(grown["seed"], [0, 1, 2])
    assert names(tmp_path) == ["sweep.zarr"]


def test_a_store_that_another_process_makes_is_waited_for(base, tmp_path, alone, ran):
    path, made = tmp_path / "sweep.zarr", threading.Event()

    def make():
        with files.reserved(path):
            made.set()
            time.sleep(0.3)

    making = threading.Thread(target=make)
    making.start()
    made.wait()
    xr.testing.assert_equal(ssm.sweep(GRID, base, path, chunk_size=1).load(), alone)
    making.join()
    assert len(ran) == 8


def test_a_part_is_of_one_at_a_time_and_the_last_one_removes_the_folder(tmp_path):
    path, prepared = tmp_path / "a", []

    def prepare():
        prepared.append(path)
        path.touch()

    with sharing.shared(path, prepare) as one:
        assert one.take("0") and prepared == [path]
        with sharing.shared(path, prepare) as other:
            assert prepared == [path]  # which is not done beside others
            assert not other.take("0") and other.take("1")
            one.give("0", is_done=False)
            other.wait_for("0")
            assert other.take("0") and not one.take("1")
        assert files.hidden(path).is_dir() and one.take("1")
        with pytest.raises(ssm.InputError, match="no other process is writing"):
            files.check_output(tmp_path / "a", overwrite=True)
    assert names(tmp_path) == ["a"]


def test_a_disk_without_locks_is_worked_on_alone(base, tmp_path, alone, monkeypatch):
    def refuse(*_, **__):
        raise OSError("no locks here")

    monkeypatch.setattr(locks, "try_lock", refuse)
    monkeypatch.setattr(locks, "wait", refuse)
    path = tmp_path / "sweep.zarr"
    xr.testing.assert_equal(ssm.sweep(GRID, base, path, chunk_size=1).load(), alone)
    assert names(tmp_path) == ["sweep.zarr"]
