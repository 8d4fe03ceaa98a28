"""Every test runs in float64, with implicit rank promotion an error and all array shapes checked (`checked_shapes`)."""

import gc
import itertools
import multiprocessing
import os
import pathlib
import signal
import sys
from importlib import metadata

# Tests have small matrices and run side by side, where the threads of NumPy's and SciPy's libraries wait for each other
# longer than they work. The libraries look when they are imported.
os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"} | os.environ)

import pytest

from ssm.support import machine

# Tests compile for longer than they run, so XLA leaves most of its optimisation out, in the processes that tests
# start too. `compiled_as_for_users` puts it back. Tests marked `long` run for longer than they compile.
HASTE = {
    "xla_backend_optimization_level": 0,
    "xla_cpu_parallel_codegen_split_count": 1,  # parts of a program compiled side by side, which costs more in all
}
AS_FOR_USERS = {"xla_backend_optimization_level": 3}
# Before version 0.12 XLA had a choice of emitters. Later ones end the process for a flag that they do not have.
if tuple(map(int, metadata.version("jax").split(".")[:2])) < (0, 12):
    HASTE["xla_cpu_use_fusion_emitters"] = False
    AS_FOR_USERS["xla_cpu_use_fusion_emitters"] = True

WORKS_FOR_ANOTHER = "PYTEST_XDIST_WORKER" in os.environ


def pytest_configure(config):
    """XLA reads its flags when it compiles its first program, which is after this. A process that has workers
    runs no test, and they begin once it is here: it imports nothing that tests need."""
    flags = " ".join(f"--{name}={str(value).lower()}" for name, value in HASTE.items())
    if config.option.markexpr != "long" and flags not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()
    if WORKS_FOR_ANOTHER or not getattr(config.option, "tx", None):
        import checked_shapes  # noqa: F401 (before any test imports `ssm`)
        from hypothesis import settings

        # Compiling a new shape takes seconds, so examples have no deadline; they are the same in every run.
        settings.register_profile("ssm", deadline=None, derandomize=True, print_blob=True)
        settings.load_profile("ssm")


# What is compiled is kept on disk for all workers of a test run and for the next run. JAX tells its programs
# apart by their code, its own version and the processor.
if not WORKS_FOR_ANOTHER:
    CACHE = pathlib.Path(__file__).parents[1] / "build" / "compiled-programs"
    CACHE.mkdir(parents=True, exist_ok=True)
    machine.tidy(CACHE)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(CACHE)

# What is imported and collected stays until the end, and going through it for garbage is a third of collection.
gc.disable()


def pytest_collection_finish():
    gc.freeze()
    gc.enable()


TINY = {
    "num_classes": 4,
    "imbalance_ratio": 4.0,
    "minority_count": 2,
    "feature_dim": 6,
    "num_saves": 50,
}


@pytest.fixture(scope="session")
def tiny():
    """A Config of the one small shape that tests share, so that they share its compilations."""
    import ssm

    def make(**changes):
        return ssm.Config(**{**TINY, **changes})

    return make


@pytest.fixture(scope="session")
def run(tiny):
    """Simulate a `tiny` Config, each only once."""
    import ssm

    done = {}

    def simulate(**changes):
        config = tiny(**changes)
        if config not in done:
            done[config] = ssm.simulate(config)
        return done[config]

    return simulate


@pytest.fixture(scope="session")
def record():
    """A small record of a study, to look at."""
    import study_record

    return study_record.make_record()


@pytest.fixture(scope="session")
def findings(record):
    """What is found in it."""
    from ssm.practice.study import evidence  # by the few tests that ask for it

    return evidence.find(record)


TESTS_BEGUN = itertools.count()


@pytest.fixture(autouse=True)
def has_room_for_programs():
    """Many tests compile programs without a command or a run of `ssm`, which would see to it. To look takes
    milliseconds once there are many, so not every test does."""
    if next(TESTS_BEGUN) % 8 == 0:
        machine.keep_room_for_programs(0.9 * machine.FULL)


@pytest.fixture(autouse=True)
def hears_ctrl_c():
    """A command ignores Ctrl-C once its work is done, as its process is about to end. What it does in
    the process of the tests must not change that for those after it."""
    yield
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def compiled_as_for_users(monkeypatch):
    """What `ssm.simulate` runs, with all of XLA's optimisation: for laws to the bit that two programs end alike,
    which hold of those that users have and not of those in haste."""
    import jax

    from ssm.dynamics import trajectories

    options = {**trajectories.OPTIONS, **AS_FOR_USERS}
    for name in ("_solve", "_resume"):
        program = getattr(trajectories, name).__wrapped__
        monkeypatch.setattr(trajectories, name, jax.jit(program, compiler_options=options))


@pytest.fixture
def rng():
    import numpy as np

    return np.random.default_rng(0)


@pytest.fixture
def untyped():
    """As it is for users, whose types are not checked."""
    import jaxtyping

    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def mnist_folder(tmp_path):
    """A folder with files of MNIST's names and format, of scikit-learn's digits."""
    import small_mnist

    folder = tmp_path / "mnist"
    folder.mkdir()
    small_mnist.write_digits(folder)
    return folder


@pytest.fixture(scope="module")
def base(tiny):
    """What the runs of small sweeps have in common."""
    return tiny(loss="squared")


@pytest.fixture
def runs_by(monkeypatch):
    """Note each run that is followed in this process, by what is asked of its Config."""
    import ssm.simulation

    def noted(key):
        seen, run_arrays = [], ssm.simulation.run_arrays

        def counting(run, trajectory):
            seen.append(key(run.config))
            return run_arrays(run, trajectory)

        monkeypatch.setattr(ssm.simulation, "run_arrays", counting)
        return seen

    return noted


@pytest.fixture
def ran(runs_by):
    """(imbalance_ratio, seed) of each run followed in this process."""
    return runs_by(lambda config: (config.imbalance_ratio, config.seed))


@pytest.fixture(scope="module")
def start():
    """Run a function in a process of its own, which is killed at the end."""
    context = multiprocessing.get_context("forkserver")  # they start in no time
    context.set_forkserver_preload(["ssm.sweeps.sweep"])
    begun = []

    def begin(target, *arguments):
        process = context.Process(target=target, args=arguments)
        process.start()
        begun.append(process)
        return process

    yield begin
    for process in begun:
        process.kill()
        process.join()


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Run `ssm ...` in this process, in an empty folder: exit code, standard output, standard error."""
    from ssm.cli import commands

    monkeypatch.chdir(tmp_path)

    def call(line):
        monkeypatch.setattr(sys, "argv", ["ssm", *line.split()])
        try:
            commands.main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call
