"""Stores of sweeps: what is done is kept, what is missing or damaged is done again."""

import contextlib
import dataclasses
import hashlib
import json
import multiprocessing
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

import ssm
from ssm.results import digests, stores

GRID = {"imbalance_ratio": [2.0, 4.0], "seed": [0, 1, 2]}
CHUNKS = 4  # of two runs and of one, for each ratio


@pytest.fixture(scope="module")
def finished(base, tmp_path_factory):
    """A finished sweep's store, to look at."""
    path = tmp_path_factory.mktemp("finished") / "sweep.zarr"
    ssm.sweep(GRID, base, path, chunk_size=2)
    return path


@pytest.fixture
def store(finished, tmp_path):
    """The same, to damage."""
    return shutil.copytree(finished, tmp_path / "sweep.zarr")


@pytest.fixture(scope="module")
def whole(finished):
    return ssm.load(finished).load()


def state(path):
    """All that a folder holds, and when it was written."""
    return {
        str(file.relative_to(path)): (
            hashlib.sha256(file.read_bytes()).hexdigest(),
            file.stat().st_mtime_ns,
        )
        for file in path.rglob("*")
        if file.is_file()
    }


def marks(path):
    return {mark.name: mark.read_bytes() for mark in (path / stores.MARKS).glob("*.json")}


def test_a_stored_sweep_is_the_one_in_memory(base, finished, tmp_path):
    in_memory = ssm.sweep(GRID, base)
    xr.testing.assert_equal(ssm.load(finished).load(), in_memory)
    ssm.save(in_memory, tmp_path / "saved.zarr")
    xr.testing.assert_equal(ssm.load(tmp_path / "saved.zarr"), in_memory)
    part = ssm.load(finished).sel(seed=1)
    ssm.save(part, tmp_path / "part.zarr")
    xr.testing.assert_equal(ssm.load(tmp_path / "part.zarr"), in_memory.sel(seed=1))


def test_variables_over_time_are_read_when_asked_for(finished):
    lazy = ssm.load(finished)
    held = {name for name, variable in lazy.variables.items() if variable._in_memory}
    assert not held & set(lazy.data_vars)


@pytest.mark.parametrize("size", [None, pytest.param(1, marks=pytest.mark.slow), 4])
def test_a_finished_sweep_runs_nothing_again(base, store, whole, ran, size):
    before, told = state(store), []
    again = ssm.sweep(GRID, base, store, chunk_size=size, progress=lambda *now: told.append(now))
    xr.testing.assert_equal(again.load(), whole)
    assert ran == [] and told == [(6, 6)] and state(store) == before


def test_an_axis_may_be_written_in_another_way(base, store, ran):
    ssm.sweep({"imbalance_ratio": (2, 4), "seed": np.arange(3)}, base, store)
    assert ran == []


@pytest.mark.parametrize(
    "runs",
    [pytest.param(1, marks=pytest.mark.slow), 3, pytest.param(5, marks=pytest.mark.slow)],
)
def test_an_interrupted_sweep_goes_on_to_the_same_bits(base, tmp_path, whole, ran, runs):
    path = tmp_path / "sweep.zarr"

    def interrupt(done, total):
        if done == runs:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ssm.sweep(GRID, base, path, chunk_size=2, progress=interrupt)
    kept = marks(path)
    assert len(kept) < CHUNKS
    done = sum(json.loads(mark)["runs"] for mark in kept.values())
    with pytest.warns(digests.StoreWarning, match=f"{done} of its 6 runs are there"):
        part = ssm.load(path)
    there = (part.status != "not computed").values
    assert there.sum() == done and set(part.status.values[~there]) <= {"not computed"}
    for name, values in part.data_vars.items():
        np.testing.assert_array_equal(values.values[there], whole[name].values[there])
        if values.dtype.kind == "f":
            assert np.isnan(values.values[~there]).all()
    ran.clear()
    xr.testing.assert_equal(ssm.sweep(GRID, base, path, chunk_size=2).load(), whole)
    assert len(ran) == 6 - done and kept.items() <= marks(path).items()


def test_other_sweeps_are_refused_with_the_difference(base, tiny, store, ran):
    before = state(store)
    others = [
        (GRID, tiny(loss="squared", rtol=1e-7), "rtol is 1e-06 there, 1e-07 here"),
        (GRID, tiny(loss="squared", t1=3), "t1 is null there, 3.0 here"),
        (GRID | {"seed": [0, 1, 3]}, base, r"seed is \[0, 1, 2\] there, \[0, 1, 3\] here"),
        (GRID | {"seed": [2, 1, 0]}, base, r"seed is \[0, 1, 2\] there, \[2, 1, 0\] here"),
        (GRID | {"coupling": [0]}, base, r"coupling is no axis there, \[0\] here"),
        ({"seed": [0, 1, 2]}, base, r"imbalance_ratio is \[2.0, 4.0\] there, no axis here"),
        (dict(reversed(GRID.items())), base, "axes are in the order imbalance_ratio, seed"),
    ]
    for grid, other, difference in others:
        with pytest.raises(ssm.InputError, match=difference) as caught:
            ssm.sweep(grid, other, store)
        assert "\n" not in str(caught.value) and "store=" in str(caught.value)
    assert state(store) == before and ran == []


def delete(store, name):
    for file in (store / name).glob("0.1*"):
        file.unlink()


def truncate(store, name):
    for file in (store / name).glob("0.1*"):
        file.write_bytes(file.read_bytes()[:-7])


def empty(store, name):
    for file in (store / name).glob("0.1*"):
        file.write_bytes(b"")


def alter(store, name):
    """A sound file with one number or word changed in its last bit or letter."""
    array: Any = zarr.open_group(store, mode="r+", zarr_format=2)[name]
    index = (0, 2) + (0,) * (array.ndim - 2)
    value = array[index]
    if array.dtype.kind == "U":
        array[index] = str(value) + "s"
    else:
        array[index] = (
            1
            if np.isnan(value)
            else np.nextafter(value, 9)
            if array.dtype.kind == "f"
            else value + 1
        )


DAMAGES = [delete, truncate, empty, alter]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(delete, marks=pytest.mark.slow),
        pytest.param(truncate, marks=pytest.mark.slow),
        pytest.param(empty, marks=pytest.mark.slow),
        alter,
    ],
)
def test_a_damaged_chunk_is_found_and_run_again(base, finished, store, whole, ran, damage):
    """Of any variable, each in one of the ways; chunk 1 holds the run of ratio 2 and seed 2."""
    names = json.loads((store / stores.MARKS / "1.json").read_text())["variables"]
    assert set(whole.data_vars) < set(names)
    for name in names[DAMAGES.index(damage) :: len(DAMAGES)]:
        damage(store, name)
        with pytest.raises(ssm.InputError, match="1 of its 4 chunks are missing or damaged"):
            ssm.load(store)
            pytest.fail(name)
        shutil.copytree(finished / name, store / name, dirs_exist_ok=True)
    for name in names:
        damage(store, name)
    others = {mark: text for mark, text in marks(store).items() if mark != "1.json"}
    xr.testing.assert_equal(ssm.sweep(GRID, base, store).load(), whole)
    assert ran == [(2.0, 2)] and others.items() < marks(store).items()
    xr.testing.assert_equal(ssm.load(store).load(), whole)


@pytest.mark.parametrize(
    "content",
    [
        None,
        *(pytest.param(text, marks=pytest.mark.slow) for text in ("", "{", "[]")),
        '{"digest": "0"}',
    ],
)
def test_a_chunk_without_its_mark_is_run_again(base, store, whole, ran, content):
    mark = store / stores.MARKS / "1.json"
    if content is None:
        mark.unlink()
    else:
        mark.write_text(content)
    xr.testing.assert_equal(ssm.sweep(GRID, base, store).load(), whole)
    assert ran == [(2.0, 2)]


@pytest.mark.parametrize("axis", list(GRID))
def test_a_damaged_axis_is_found_and_written_again(base, store, whole, ran, axis):
    (store / axis / "0").unlink()
    with pytest.raises(ssm.InputError, match="must be an undamaged store"):
        ssm.load(store)
    ssm.sweep(GRID, base, store)
    (store / axis / "0").write_bytes(b"")
    with pytest.raises(ssm.InputError, match="must be"):
        ssm.load(store)
    ssm.sweep(GRID, base, store)
    xr.testing.assert_equal(ssm.load(store).load(), whole)
    assert ran == []


def test_a_lost_variable_is_run_again(base, store, whole, ran):
    shutil.rmtree(store / "loss")
    xr.testing.assert_equal(ssm.sweep(GRID, base, store).load(), whole)
    assert len(ran) == 6


@pytest.mark.parametrize(
    ("old", "new"),
    [(r"\"rtol\": 1e-06", r"\"rtol\": 1e-07"), ("[0, 1, 2]", "[0, 1, 3]"), ("[[0, 1]", "[[1, 2]")],
)
def test_a_store_made_to_say_something_else_is_refused(tiny, base, store, ran, old, new):
    for name in (".zattrs", ".zmetadata"):
        text = (store / name).read_text()
        assert old in text
        (store / name).write_text(text.replace(old, new))
    with pytest.raises(ssm.InputError, match="must be an undamaged store"):
        ssm.load(store)
    for other in (base, tiny(loss="squared", rtol=1e-7)):
        for seeds in ([0, 1, 2], [0, 1, 3]):
            with pytest.raises(ssm.InputError, match="store="):
                ssm.sweep(GRID | {"seed": seeds}, other, store)
    assert ran == []


def test_what_is_no_sweep_is_refused_and_spared(base, finished, run, tmp_path, ran):
    folder, file, single, foreign, broken = (tmp_path / name for name in "abcde")
    folder.mkdir()
    (folder / "thesis.txt").write_text("years")
    file.write_text("years")
    ssm.save(run(loss="squared"), single)
    xr.Dataset({"x": ("time", np.arange(3))}).to_zarr(foreign, zarr_format=2)
    shutil.copytree(finished, broken)
    (broken / ".zmetadata").write_text("{")
    before, _ = state(tmp_path), ran.clear()
    for path in (folder, file, single, foreign, broken):
        with pytest.raises(
            ssm.InputError, match=r"must be a (readable ssm store|sweep that)"
        ) as caught:
            ssm.sweep(GRID, base, path)
        assert "\n" not in str(caught.value)
    with pytest.raises(ssm.InputError, match="must be in a folder that exists"):
        ssm.sweep(GRID, base, tmp_path / "nowhere" / "sweep.zarr")
    assert state(tmp_path) == before and ran == []


def test_a_sweep_is_not_overwritten_by_a_run(store, run, whole):
    with pytest.raises(ssm.InputError, match="must be a path that does not exist yet"):
        ssm.save(run(loss="squared"), store)
    xr.testing.assert_equal(ssm.load(store).load(), whole)


def test_each_chunk_says_where_it_comes_from(finished):
    store = stores.SweepStore(finished)
    assert all(map(store.is_done, range(CHUNKS)))
    origins = store.origins()
    assert [origin["runs"] for origin in origins] == [2, 1, 2, 1]
    for origin in origins:
        assert origin["seconds"] > 0 and origin["device"] and "numpy==" in origin["versions"]
        assert origin["created"] and origin["git_commit"]
        assert origin["compilations"] >= 0


# In processes of their own, some of which are killed.

FEW = {"imbalance_ratio": [1, 4], "seed": [0, 1, 2]}  # a chunk each
MANY = {"imbalance_ratio": [1, 4], "seed": list(range(16))}
SCRIPT = """
import json, sys, ssm
from jax import monitoring
events = []
monitoring.register_event_listener(lambda event, **_: events.append(event))
grid, base, path = map(json.loads, sys.argv[1:])
ssm.sweep(grid, ssm.Config(**base), path, chunk_size=1)
for kind in ("hits", "misses"):
    print(events.count(f"/jax/compilation_cache/cache_{kind}"))
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Where new processes keep what they compile."""
    home = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(home))
        patch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
        patch.setenv("PYTHONPATH", str(Path(ssm.__file__).parents[1]))
        yield home


@pytest.fixture(scope="module")
def start(cache, base):
    """Begin the sweep in a new process."""

    @contextlib.contextmanager
    def begin(path, grid):
        arguments = map(json.dumps, (grid, dataclasses.asdict(base), str(path)))
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen([sys.executable, "-c", SCRIPT, *arguments], **pipes) as process:
            yield process
            process.kill()

    return begin


def finish(process):
    """The counts that it prints: compiled runs read from disk, and not found there."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return list(map(int, out.split()))


@pytest.fixture(scope="module")
def uninterrupted(start, tmp_path_factory):
    """A whole sweep, and what it found compiled."""
    path = tmp_path_factory.mktemp("uninterrupted") / "sweep.zarr"
    with start(path, FEW) as process:
        found = finish(process)
    return ssm.load(path).load(), found


def compiled(cache):
    """Programs that follow runs. Small ones are kept where compiling took long enough, as on a busy machine."""
    return sorted(file.name for file in cache.rglob("*-cache") if "solve" in file.name)


@pytest.mark.slow
def test_a_second_process_compiles_nothing(start, cache, uninterrupted, tmp_path):
    whole, (hits, misses) = uninterrupted
    before = compiled(cache)
    assert misses > 0 == hits and before
    with start(tmp_path / "sweep.zarr", FEW) as process:
        hits, _ = finish(process)
    assert hits >= len(before) and compiled(cache) == before
    xr.testing.assert_equal(ssm.load(tmp_path / "sweep.zarr").load(), whole)


@pytest.mark.slow
def test_ctrl_c_leaves_a_sweep_that_goes_on(start, base, uninterrupted, tmp_path):
    path = tmp_path / "sweep.zarr"
    with start(path, MANY) as process:
        wait_for_chunks(path, 3)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
    assert process.returncode in (1, -signal.SIGINT) and err.endswith("KeyboardInterrupt\n")
    kept = marks(path)
    assert 3 <= len(kept) < 32
    # nothing but the store is left behind
    assert [entry.name for entry in tmp_path.iterdir()] == ["sweep.zarr"]
    assert all(mark.suffix == ".json" for mark in (path / stores.MARKS).iterdir())
    whole = ssm.sweep(MANY, base, path).load()
    xr.testing.assert_equal(whole, ssm.sweep(MANY, base))
    part = uninterrupted[0]  # by another process
    xr.testing.assert_equal(whole.sel(seed=part.seed), part)
    assert kept.items() < marks(path).items()


def wait_for_chunks(path, number):
    deadline = time.monotonic() + 30
    while len(marks(path)) < number:
        assert time.monotonic() < deadline, f"{number} chunks are not finished"
        time.sleep(0.002)


@pytest.mark.slow
def test_a_sweep_survives_being_killed_at_any_moment(base, cache, tmp_path):
    """Twelve times: some moments while it starts or reads what it finds, most between one chunk
    and the next."""
    rng = random.Random(0)
    processes = multiprocessing.get_context("forkserver")  # they start in no time
    processes.set_forkserver_preload(["ssm.sweeps.sweep"])
    path, grid = tmp_path / "sweep.zarr", {"seed": range(60)}
    call = {"args": (grid, base, path), "kwargs": {"chunk_size": 1}}
    known = {}
    for _ in range(12):
        process = processes.Process(target=ssm.sweep, **call)
        process.start()
        if more := rng.randrange(2):
            wait_for_chunks(path, len(known) + more)
            time.sleep(rng.random() * 0.03)
        else:
            time.sleep(0.4 * rng.random())
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        found = marks(path)
        assert known.items() <= found.items()  # to the byte: nothing done was done again
        known = found
    assert 5 < len(known) < 60
    xr.testing.assert_equal(ssm.sweep(grid, base, path).load(), ssm.sweep(grid, base))
    assert known.items() < marks(path).items()


NO_PATHS = {
    "a number": 5,
    "nothing": None,
    "bytes": b"run.zarr",
    "no name": "a\0b",
    "too long": "x" * 100_000,
}


@pytest.mark.parametrize("name", NO_PATHS)
def test_what_is_no_path_is_refused_in_one_line(base, name):
    path: Any = NO_PATHS[name]
    wrong: Any = 5 if NO_PATHS[name] is None else path  # nothing is a sweep without a store
    refusal: dict[str, Any] = {"match": r"^store=.*: must be a path"}
    for use in (
        lambda: ssm.load(path),
        lambda: ssm.save(xr.Dataset(), path),
        lambda: ssm.sweep(GRID, base, wrong),
    ):
        with pytest.raises(ssm.InputError, **refusal) as caught:
            use()
        assert str(caught.value).isprintable() and len(str(caught.value)) < 400


def test_what_is_no_dataset_is_not_saved(tmp_path):
    wrong: list[Any] = [5, None, {"loss": [1.0]}, xr.DataArray([1.0])]
    for dataset in wrong:
        with pytest.raises(ssm.InputError, match=r"^dataset=.*: must be a Dataset of xarray"):
            ssm.save(dataset, tmp_path / "run.zarr")
    with pytest.raises(ssm.InputError, match=r"^overwrite='no': must be True or False"):
        ssm.save(xr.Dataset(), tmp_path / "run.zarr", overwrite="no")  # pyright: ignore[reportArgumentType] # wrong on purpose
    assert not list(tmp_path.iterdir())


def test_a_sweep_of_something_else_is_refused(base, tmp_path):
    arguments: Any
    for arguments, message in (
        ((GRID, 5), "base=5: must be a Config"),
        ((GRID, {"seed": 1}), r"base={'seed': 1}: must be a Config: ssm.Config\(\*\*fields\)"),
        (([1, 2], base), r"grid=\[1, 2\]: must be a mapping"),
        ((None, base), "grid=None: must be a mapping"),
        ((GRID, base, tmp_path / "new.zarr", 5), "client=5: must be a Dask client"),
    ):
        with pytest.raises(ssm.InputError, match=f"^{message}"):
            ssm.sweep(*arguments)
    with pytest.raises(ssm.InputError, match=r"^progress=5: must be a function"):
        ssm.sweep(GRID, base, progress=5)  # pyright: ignore[reportArgumentType] # wrong on purpose
    assert not list(tmp_path.iterdir())
