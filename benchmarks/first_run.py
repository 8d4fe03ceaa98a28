"""What a user waits for who runs one thing in a new process: imports, compilation, and what is kept of it."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from benchmarks import timing
from benchmarks.table import Row

NOTE = """The default run, R = 10, in a new process each time. In every round a new folder keeps what is
compiled, so that only the first process of the round compiles; R = 11 has other samples, padded to the same
number. Commands are timed from the shell, imports included; the first `ssm.simulate` and `cross_val_score`
(two folds of 300 samples of three classes, in two processes) after their imports in the process that calls
them. Where dask is installed, xarray imports its base, though none of its arrays, for the first Dataset."""


def run(quick: bool, report: Callable[[float], None]) -> list[Row]:
    """First and second runs; the rows of the table."""
    repeats = 1 if quick else 5
    found = defaultdict(list)
    for i in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            for name, seconds in _one_round(Path(folder)).items():
                found[name].append(seconds)
        report((i + 1) / repeats)
    took = {name: statistics.median(each) for name, each in found.items()}
    targets = {
        "ssm run, again": 1.8,
        "ssm run, again, R = 11": 1.8,
        "ssm.simulate, again": 0.6,
        "ssm --help": 0.5,
    }
    rows = []
    for name, seconds in took.items():
        if name in targets:
            target = targets[name]
            rows.append(Row(name, f"{seconds:.3g} s", seconds / target, f"{target:g} s", at_most=1))
        else:
            rows.append(Row(name, f"{seconds:.3g} s"))
    return rows


def _one_round(folder: Path) -> dict[str, float]:
    """Seconds of each thing, in the order in which a user would do them, with an empty cache before."""
    run = ("run", "--overwrite", "--out", str(folder / "run.zarr"), "--imbalance-ratio")
    took = {
        "ssm --help": _command(folder, "--help"),
        "ssm run": _command(folder, *run, "10"),
        "ssm run, again": _command(folder, *run, "10"),
        "ssm run, again, R = 11": _command(folder, *run, "11"),
    }
    for again in ("", ", again"):
        for name in ("simulate", "cross_val_score"):
            one = timing.in_fresh_process(f"benchmarks.first_run:{name}", folder / name)
            if name == "simulate":
                took["import ssm.simulate"] = one["imports"]
            took[f"ssm.{name}{again}" if name == "simulate" else f"{name}{again}"] = one["first"]
    return took


def _command(folder: Path, *arguments: str) -> float:
    """How long a command takes from the shell."""
    command = [sys.executable, "-c", "from ssm.cli import main; main()", *arguments]
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(folder / "commands")}
    # Users have the bytecode of modules, which some machines are told not to keep: it is 0.4 s of a run.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def call() -> None:
        subprocess.run(command, check=True, capture_output=True, cwd=timing.ROOT, env=environment)

    return timing.seconds(call)


def simulate() -> dict[str, float]:
    """Seconds of the imports and of the first run in this process."""

    def load() -> None:
        import ssm

        _ = ssm.simulate

    imports = timing.seconds(load)
    import ssm

    config = ssm.Config()
    return {"imports": imports, "first": timing.seconds(lambda: ssm.simulate(config))}


def cross_val_score() -> dict[str, float]:
    """Seconds of the first cross-validation in this process, by two others."""
    import numpy as np
    from sklearn import model_selection

    from ssm import ReweightedClassifier

    labels = np.repeat([0, 1, 2], [200, 70, 30])
    features = np.random.default_rng(0).normal(size=(len(labels), 8)) + labels[:, None]
    classifier = ReweightedClassifier(random_state=0)

    def score() -> None:
        model_selection.cross_val_score(classifier, features, labels, cv=2, n_jobs=2)

    return {"first": timing.seconds(score)}
