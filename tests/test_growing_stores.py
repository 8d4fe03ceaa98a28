"""Stores that grow: only new cells are computed, and the store is a fresh one to the bit."""

import contextlib
import json
import multiprocessing
import shutil
import signal
import time

import numpy as np
import pytest
import xarray as xr

import ssm
from ssm.results import stores

GRID = {"imbalance_ratio": [2.0, 4.0], "seed": [0, 1]}


@pytest.fixture(scope="module")
def small(base, tmp_path_factory):
    path = tmp_path_factory.mktemp("small") / "sweep.zarr"
    ssm.sweep(GRID, base, path, chunk_size=3)
    return path


@pytest.fixture
def store(small, tmp_path):
    return shutil.copytree(small, tmp_path / "sweep.zarr")


@pytest.fixture
def ran(runs_by):
    """(imbalance_ratio, seed, coupling) of each run followed in this process."""
    return runs_by(lambda config: (config.imbalance_ratio, config.seed, config.coupling))


def assert_fresh(store, grid, base, tmp_path, chunk_size=None):
    """A store holds what a fresh one of the same grid does, to the bit, in the same layout."""
    fresh = tmp_path / "fresh.zarr"
    ssm.sweep(grid, base, fresh, chunk_size=chunk_size)
    xr.testing.assert_equal(ssm.load(store).load(), ssm.load(fresh).load())
    one, other = stores.SweepStore(store), stores.SweepStore(fresh)
    assert one.metadata.layout == other.metadata.layout
    files = {path.relative_to(fresh) for path in fresh.rglob("*")}
    assert {path.relative_to(store) for path in store.rglob("*")} == files


def test_a_third_seed_computes_one_third(base, store, ran, tmp_path):
    grid = GRID | {"seed": [0, 2, 1]}
    told = []
    grown = ssm.sweep(grid, base, store, progress=lambda *now: told.append(now)).load()
    assert sorted(ran) == [(2.0, 2, 0.0), (4.0, 2, 0.0)] and told == [(4, 6), (5, 6), (6, 6)]
    xr.testing.assert_equal(ssm.load(store).load(), grown)
    assert_fresh(store, grid, base, tmp_path)
    parts = [json.loads(mark.read_text()) for mark in (store / stores.MARKS).glob("*.json")]
    origins = [part for mark in parts for part in mark.get("parts", [mark])]
    assert sum(part["runs"] for part in origins) == 6 and len(origins) > len(parts)
    ran.clear()
    ssm.sweep(grid, base, store)
    assert not ran


@pytest.mark.slow
def test_a_new_axis_with_the_value_of_the_base_keeps_what_is_there(base, store, ran, tmp_path):
    grid = {"coupling": [0.5, 0.0], **GRID, "num_classes": [4, 5]}
    ssm.sweep(grid, base, store)
    assert len(ran) == 12 and not [run for run in ran if run[2] == 0.0 and run in ran[12:]]
    assert_fresh(store, grid, base, tmp_path)


def test_what_is_no_larger_sweep_is_refused_as_before(base, tiny, store, ran):
    larger = GRID | {"seed": [0, 1, 2]}
    for grid, other, said in [
        (larger, tiny(loss="squared", rtol=1e-7), "rtol is 1e-06 there, 1e-07 here"),
        (GRID | {"seed": [1, 2, 3]}, base, r"seed is \[0, 1\] there"),
        (larger | {"coupling": [0.1, 0.5]}, base, "coupling is no axis there"),
        (GRID | {"seed": [1]}, base, r"part of it: take it by ssm.load\(store\).sel"),
    ]:
        with pytest.raises(ssm.InputError, match=said):
            ssm.sweep(grid, other, store)
    assert not ran


@pytest.mark.slow
def test_a_store_survives_being_killed_while_it_grows(base, store, tmp_path):
    """It is the old one or the new one, and nothing that was done is done again."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["ssm.sweeps.sweep"])
    rng, grid = np.random.default_rng(0), GRID | {"seed": list(range(20))}
    for _ in range(8):
        call = {"args": (grid, base, store), "kwargs": {"chunk_size": 1}}
        process = processes.Process(target=ssm.sweep, **call)
        process.start()
        time.sleep(0.2 + rng.random())
        process.kill()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        with contextlib.suppress(ssm.InputError):
            assert stores.SweepStore(store).sweep["axes"]["seed"] in ([0, 1], grid["seed"])
    ssm.sweep(grid, base, store, chunk_size=1)
    assert_fresh(store, grid, base, tmp_path, chunk_size=1)


def test_what_was_opened_before_its_store_grew_is_not_read_from_the_new_one(base, store):
    opened = ssm.load(store)
    ssm.sweep(GRID | {"seed": [5, 0, 1]}, base, store)
    with pytest.raises(ssm.InputError, match="opened again: it has grown"):
        opened.loss.load()
