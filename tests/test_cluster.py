"""Sweeps on a Dask cluster of real processes: the same bits, also when a worker is killed."""

import contextlib
import signal
import subprocess
import sys

import pytest
import xarray as xr

import ssm
from ssm.results import stores

distributed = pytest.importorskip("distributed")

pytestmark = [
    pytest.mark.slow,
    # distributed leaves loops and sockets of its own to the garbage collector
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

GRID = {"imbalance_ratio": [2.0, 4.0], "seed": list(range(20))}


@pytest.fixture(scope="module")
def local(base):
    return ssm.sweep(GRID, base)


@pytest.fixture
def client():
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="localhost:0",
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def test_a_local_cluster_gives_the_same_bits(client, base, local, tmp_path):
    told = []
    found = ssm.sweep(
        GRID, base, client=client, chunk_size=3, progress=lambda *now: told.append(now)
    )
    xr.testing.assert_equal(found, local)
    dones = [done for done, _ in told]
    assert dones[0] == 0 and dones[-1] == 40 and dones == sorted(dones)

    # into a store, that a client or this machine goes on with
    path = tmp_path / "sweep.zarr"

    def interrupt(done, total):
        if done >= 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ssm.sweep(GRID, base, path, client, chunk_size=3, progress=interrupt)
    kept = {mark.name: mark.read_bytes() for mark in (path / stores.MARKS).iterdir()}
    assert 1 <= len(kept) < 14
    xr.testing.assert_equal(ssm.sweep(GRID, base, path, client).load(), local)
    now = {mark.name: mark.read_bytes() for mark in (path / stores.MARKS).iterdir()}
    assert kept.items() < now.items()


@contextlib.contextmanager
def started(*command):
    """A process of a cluster, as it is started on a command line, and its first line that holds an
    address."""
    with subprocess.Popen(
        [sys.executable, "-m", "dask", *command], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None  # it is a pipe
        lines = iter(process.stderr.readline, "")
        try:
            yield process, next(line.split()[-1] for line in lines if "tcp://" in line)
        finally:
            process.kill()


def worker(address):
    """One that is not started again when it is killed."""
    own = ["--host", "127.0.0.1", "--nthreads", "1", "--no-nanny", "--no-dashboard"]
    return started("worker", address, *own)


def test_killed_workers_change_nothing(base, local, tmp_path):
    """Nor does it matter that none is left, when another comes."""
    scheduler = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--no-show"]
    path = tmp_path / "sweep.zarr"
    with contextlib.ExitStack() as stack:
        _, address = stack.enter_context(started("scheduler", *scheduler))
        workers = [stack.enter_context(worker(address))[0] for _ in range(2)]
        client = stack.enter_context(distributed.Client(address))
        client.wait_for_workers(2, timeout=30)
        killed = []

        def kill(done, total):
            if done >= (10, 25, 99)[len(killed)]:
                killed.append(workers[len(killed)])
                killed[-1].send_signal(signal.SIGKILL)
                if len(killed) == 2:
                    stack.enter_context(worker(address))

        found = ssm.sweep(GRID, base, path, client, chunk_size=1, progress=kill).load()
        assert [process.wait(10) for process in killed] == [-signal.SIGKILL] * 2
    xr.testing.assert_equal(found, local)
