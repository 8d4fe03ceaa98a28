"""What is compiled is kept for the next process, and whatever is wrong with where it is kept, runs go on."""

import os
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest

from ssm.support import machine

# Prints the value of a program, the folder, and how often it was read from there and compiled anew.
PROGRAM = """
import jax
from ssm.support import machine
events = []
jax.monitoring.register_event_listener(lambda event, **_: events.append(event))
machine.use_compilation_cache()
value = float(jax.jit(lambda x: (x + 2) / 4)(1.0))
hits = events.count("/jax/compilation_cache/cache_hits")
print(value, jax.config.jax_compilation_cache_dir, hits, events.count("/jax/compilation_cache/cache_misses"))
"""
# A write beyond so many bytes fails, as on a full disk, and leaves a part of the file.
FULL = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))\n"


@pytest.fixture
def environment(tmp_path):
    """That of a user who has set nothing, with a home of its own, in which small programs are kept too.

    Nor is coverage measured there, since its own file would meet the full disk of a test.
    """
    left_out = ("JAX_", "COVERAGE_")
    set_by_user = {name: x for name, x in os.environ.items() if not name.startswith(left_out)}
    return set_by_user | {
        "XDG_CACHE_HOME": str(tmp_path),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


def begin(environment, program=PROGRAM):
    """A new process, for which every warning is an error."""
    command = [sys.executable, "-W", "error", "-c", program]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process):
    """The folder that it used, how many programs it read there, and how many it wrote."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert not err
    value, folder, hits, misses = out.split()
    assert value == "0.75"
    return folder, int(hits), int(misses)


def kept(tmp_path):
    return sorted((tmp_path / "ssm" / "compiled").glob("*-cache"))


def test_a_second_process_compiles_nothing(environment, tmp_path):
    """Nor do two at once spoil anything for a third."""
    first = [begin(environment), begin(environment)]
    folders = {finish(process)[0] for process in first}
    assert folders == {str(tmp_path / "ssm" / "compiled")} and kept(tmp_path)
    assert finish(begin(environment))[1:] == (1, 0)


@pytest.mark.slow
def test_a_full_disk_breaks_nothing_and_is_forgotten(environment, tmp_path):
    finish(begin(environment, FULL + PROGRAM))
    (damaged,) = kept(tmp_path)
    assert damaged.stat().st_size == 500
    assert finish(begin(environment))[1] == 0  # the file may still be being written
    long_ago = time.time() - 2 * machine.BEING_WRITTEN
    os.utime(damaged, (long_ago, long_ago))
    assert finish(begin(environment))[1:] == (0, 1)
    assert kept(tmp_path) == [damaged] and machine._is_whole(
        damaged
    )  # as the next process finds it


def test_a_folder_that_cannot_be_made_breaks_nothing(environment, tmp_path):
    (tmp_path / "ssm").write_text("in the way")
    assert finish(begin(environment)) == ("None", 0, 0)


@pytest.mark.slow
def test_what_the_user_has_set_stays(environment, tmp_path):
    """Another folder, in the environment or in JAX, and no cache at all."""
    other, none = tmp_path / "other", tmp_path / "none"
    processes = [
        begin(environment | {"JAX_COMPILATION_CACHE_DIR": str(other)}),
        begin(
            environment,
            PROGRAM.replace(
                "import jax\n",
                f"import jax; jax.config.update('jax_compilation_cache_dir', {str(other)!r})\n",
            ),
        ),
        begin(environment | {"XDG_CACHE_HOME": str(none), "JAX_ENABLE_COMPILATION_CACHE": "false"}),
    ]
    by_environment, by_jax, without = map(finish, processes)
    assert by_environment[0] == by_jax[0] == str(other) and list(other.iterdir())
    assert without == ("None", 0, 0) and not none.exists()


def test_imports_set_nothing(environment):
    imports = "import jax; before = dict(jax.config.values); import ssm, ssm.tracking.tracker\n"
    imports += "import ssm.sweeps.sweep, ssm.practice.network.estimator\n"
    same = "assert {name: x for name, x in jax.config.values.items() if name in before} == before"
    process = begin(environment, imports + same)
    assert process.communicate(timeout=60)[1] == "" and process.returncode == 0


def test_the_folder_is_tidied(tmp_path, monkeypatch):
    """Each file is read once; what is damaged or too much is removed, what is new is let be."""
    whole, now = zlib.compress(bytes(range(256))), time.time()
    contents = {
        "whole": whole,
        "empty": b"",
        "short": whole[:-1],
        "changed": whole[:20] + b"\0" + whole[21:],
        "packed otherwise": b"(\xb5/\xfd" + bytes(20),
        "being written": whole[:-1],
        "oldest": bytes(200),
    }
    for name, content in contents.items():
        path = tmp_path / f"{name}-cache"
        path.write_bytes(content)
        age = {"being written": 0, "oldest": 1e6}.get(name, 1e3)
        os.utime(path, (now - age, now - age))
    monkeypatch.setattr(machine, "LARGEST", sum(map(len, contents.values())) - 100)
    machine.tidy(tmp_path)
    left = {"whole", "packed otherwise", "being written"}
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}-cache" for name in left}
    monkeypatch.setattr(machine, "_is_whole", lambda path: pytest.fail(f"{path} is read again"))
    machine.tidy(tmp_path)
    assert len(list(tmp_path.iterdir())) == len(left)


# Runs of six shapes where most of the memory mappings are taken, so that they would be too many, and how
# many mappings are taken in the end.
SHAPES = """
import ctypes
import mmap
from pathlib import Path
import ssm
from ssm.support import machine
taken, page = {taken}, mmap.PAGESIZE
pages = mmap.mmap(-1, 2 * page * taken)
address = ctypes.addressof(ctypes.c_char.from_buffer(pages))
for i in range(taken):  # every second page is another mapping than its neighbours
    ctypes.CDLL(None).mprotect(ctypes.c_void_p(address + 2 * page * i), page, mmap.PROT_READ)
for dim in range(2, 8):
    ssm.simulate(ssm.Config(num_classes=2, feature_dim=dim, num_saves=2, t1=1.0))
print(Path("/proc/self/maps").read_bytes().count(b"\\n") - 2 * taken)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux limits mappings so")
def test_runs_of_many_shapes_do_not_use_up_the_memory_mappings(environment):
    """LLVM would end the process: a run of another shape brings some 400 mappings."""
    limit = int(Path("/proc/sys/vm/max_map_count").read_text())
    if limit > 1_000_000:
        pytest.skip("as many mappings as that would take too long to take")
    room = 2000
    process = begin(environment, SHAPES.format(taken=(limit - room) // 2))
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert 0 < int(out) < room
