"""Damage stored files at random, and check that no damage goes unseen.

In each case one byte, or one value of JSON, is changed in one file that was written. What is then
read must be refused in one line, be what was written, or be computed again to the same.

By itself: python tests/fuzz_stores.py --cases 2000 [--kinds run sweep ...] [--seed 0]

A function decorated with `kind` writes one kind of result into an empty folder, and returns a
function that reads it there. That returns something that `differences` can compare, a Dataset or
plain values, and raises ssm.InputError for what is refused.
"""

import argparse
import collections
import contextlib
import json
import random
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import xarray as xr

import ssm

TINY = {"num_classes": 4, "imbalance_ratio": 4.0, "minority_count": 2, "feature_dim": 6}
GRID = {"imbalance_ratio": [2.0, 4.0], "seed": [0, 1, 2]}
# attributes of a sweep that differ where a part of it is computed again: when, and at what cost
COST = ("created", "seconds", "num_compilations")

Read = Callable[[Path], Any]
KINDS: dict[str, Callable[[Path], Read]] = {}


def kind(write: Callable[[Path], Read]) -> Callable[[Path], Read]:
    KINDS[write.__name__] = write
    return write


def config() -> ssm.Config:
    return ssm.Config(**TINY, num_saves=50, loss="squared")


@kind
def run(folder: Path) -> Read:
    ssm.save(ssm.simulate(config()), folder / "run.zarr")
    return lambda folder: ssm.load(folder / "run.zarr")


@kind
def tracked(folder: Path) -> Read:
    rng = np.random.default_rng(0)
    labels = np.array([0] * 5 + [1] * 3 + [2])
    ssm.save(ssm.track(rng.normal(size=(4, 9, 3)), labels), folder / "log.zarr")
    return lambda folder: ssm.load(folder / "log.zarr")


@kind
def saved_sweep(folder: Path) -> Read:
    ssm.save(ssm.sweep(GRID, config()), folder / "sweep.zarr")
    return lambda folder: ssm.load(folder / "sweep.zarr")


@kind
def sweep(folder: Path) -> Read:
    """A sweep that is only read."""
    ssm.sweep(GRID, config(), folder / "sweep.zarr", chunk_size=2)
    return lambda folder: ssm.load(folder / "sweep.zarr").load()


@kind
def resumed_sweep(folder: Path) -> Read:
    """A sweep that the call that wrote it goes on with, and that is read after that."""
    ssm.sweep(GRID, config(), folder / "sweep.zarr", chunk_size=2)

    def read(folder: Path) -> xr.Dataset:
        gone_on = ssm.sweep(GRID, config(), folder / "sweep.zarr").load()
        after = ssm.load(folder / "sweep.zarr").load()
        assert not differences(gone_on, after)
        return gone_on.drop_attrs(deep=False).assign_attrs(
            {name: value for name, value in gone_on.attrs.items() if name not in COST}
        )

    return read


@kind
def fit(folder: Path) -> Read:
    """A network whose training goes on from its checkpoints."""
    import jax

    from ssm.practice.network.alarms import TrainingWarning
    from ssm.practice.network.estimator import ReweightedClassifier

    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], (20, 8))
    X = rng.normal(size=(28, 3)) + y[:, None]

    def read(folder: Path) -> list[Any]:
        classifier = ReweightedClassifier(
            hidden_layer_sizes=(4,),
            num_steps=30,
            evaluate_every=10,
            early_stopping=True,
            random_state=0,
            checkpoint_dir=folder / "points",
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TrainingWarning)
            classifier.fit(X, y)
        history = {name: values.values for name, values in classifier.history_.items()}
        found = jax.tree.leaves((classifier.params_, history))
        about = classifier.status_, classifier.n_steps_, classifier.alarms_
        return [*about, *((x.shape, x.dtype, x.tobytes()) for x in found)]

    read(folder)
    return read


def wine() -> Any:
    from ssm.practice.options import StudyOptions

    few: dict[str, Any] = {"hidden_layer_sizes": (4,), "ablations": False, "sensitivity": False}
    return StudyOptions("wine", "erm,inverse", 2, 1, "network", num_steps=20, **few)


@kind
def study(folder: Path) -> Read:
    """A finished study that is called again. Cells that are trained again are looked up."""
    from ssm.practice.study import studies

    studies.run_study(wine(), folder / "study")
    look_up = _looking_up(folder / "study" / "cells")

    def read(folder: Path) -> xr.Dataset:
        with look_up():
            record = studies.run_study(wine(), folder / "study")
        assert not differences(ssm.load(folder / "study" / "record.zarr"), record)
        return record

    return read


@kind
def cells(folder: Path) -> Read:
    """The cells of a study, without its record and tables."""
    from ssm.practice.study import records, studies

    with mock.patch.object(records, "write"):
        studies.run_study(wine(), folder / "study")
    look_up = _looking_up(folder / "study" / "cells")

    def read(folder: Path) -> xr.Dataset:
        with look_up(), mock.patch.object(records, "write"):
            return studies.run_study(wine(), folder / "study")

    return read


def _looking_up(folder: Path) -> Callable[[], Any]:
    """A context in which cells are taken from a folder instead of being trained."""
    from ssm.practice.study import cells, plans

    known = {}
    for name, cell in plans.plan(wine()).cells():
        with np.load(folder / name) as stored:
            known[cell.variant.name, cell.seed, cell.fold] = dict(stored)

    def compute(cell: Any, *_: Any) -> Any:
        return known[cell.variant.name, cell.seed, cell.fold]

    return lambda: mock.patch.object(cells, "compute", compute)


def damage(path: Path, rng: random.Random) -> str:
    """Change one byte, or one value of JSON, in one file somewhere in a folder, and say in words what
    was done.

    Files of each sort (hidden ones by name, others by suffix) are chosen equally often."""
    sorts = collections.defaultdict(list)
    for file in sorted(path.rglob("*")):
        if file.is_file() and not file.is_symlink() and file.stat().st_size:
            sorts[file.name if file.name[0] in "._" else _suffix(file)].append(file)
    file = rng.choice(sorts[rng.choice(sorted(sorts))])
    content = file.read_bytes()
    where = file.relative_to(path)
    with contextlib.suppress(ValueError):
        values = json.loads(content)
        if rng.random() < 0.6 and isinstance(values, dict | list) and values:
            said, changed = _change_json(values, rng)
            file.write_text(json.dumps(changed))
            return f"{where}: {said}"
    place = rng.randrange(len(content))
    new = content[place] ^ (1 << rng.randrange(8)) if rng.random() < 0.5 else rng.randrange(256)
    if new == content[place]:
        new ^= 1
    file.write_bytes(content[:place] + bytes([new]) + content[place + 1 :])
    return f"{where}: byte {place} from {content[place]:#04x} to {new:#04x}"


def _suffix(file: Path) -> str:
    return "" if file.suffix[1:].isdigit() else file.suffix


def _change_json(values: Any, rng: random.Random) -> tuple[str, Any]:
    """What was done in words, and JSON with one value or key changed, also within a string that holds
    JSON."""
    key = rng.choice(list(values) if isinstance(values, dict) else range(len(values)))
    inner = values[key]
    if isinstance(inner, dict | list) and inner and rng.random() < 0.9:
        said, changed = _change_json(inner, rng)
        said = f"[{key!r}]{said}"
    elif isinstance(values, dict) and rng.random() < 0.1:
        renamed = {f"{name}_" if name == key else name: value for name, value in values.items()}
        return f"key {key!r} renamed", renamed
    elif rng.random() < 0.1:
        kept = values.items() if isinstance(values, dict) else enumerate(values)
        left = {name: value for name, value in kept if name != key}
        return f"[{key!r}] removed", left if isinstance(values, dict) else list(left.values())
    else:
        changed = _other(inner, rng)
        said = f"[{key!r}] from {inner!r} to {changed!r}"
    copy = dict(values) if isinstance(values, dict) else list(values)
    copy[key] = changed
    return said, copy


def _other(value: Any, rng: random.Random) -> Any:
    """Another value than this, often of the same kind."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            inner = json.loads(value)
            if isinstance(inner, dict | list) and inner:
                return json.dumps(_change_json(inner, rng)[1])
        if value and rng.random() < 0.6:
            place = rng.randrange(len(value))
            return value[:place] + chr(ord(value[place]) ^ 1) + value[place + 1 :]
    elif isinstance(value, bool):
        return not value
    elif isinstance(value, int | float) and rng.random() < 0.6:
        return rng.choice([value + 1, -value - 1, value * 10 + 1, value + 0.5, 10**15])
    others = [None, True, 0, 1, -1, 0.5, 1e300, 10**40, float("nan"), "", "x", "<f4", "days"]
    others += [[], {}, [0], {"x": 1}]
    return rng.choice([other for other in others if json.dumps(other) != json.dumps(value)])


def differences(found: Any, written: Any) -> str:
    """How what was read differs from what was written, in words; empty where it does not."""
    if not isinstance(written, xr.Dataset):
        return "" if found == written else f"{found!r} instead of {written!r}"[:500]
    try:
        xr.testing.assert_identical(found, written)
    except (AssertionError, TypeError) as error:
        return str(error)[:500]
    pairs = [(found[name], written[name]) for name in written.variables]
    bad = [str(new.name) for new, old in pairs if new.dtype != old.dtype]
    return f"other types: {', '.join(bad)}" if bad else ""


def outcome(read: Read, folder: Path, written: Any) -> tuple[str, str]:
    """What comes of reading a damaged folder: `refused`, `as written`, or one of the bad ones,
    `changed`, `many lines`, `traceback`; and more about it."""
    try:
        found = read(folder)
    except ssm.InputError as error:
        return ("refused" if str(error).isprintable() else "many lines"), str(error)
    except Exception:
        return "traceback", traceback.format_exc()
    different = differences(found, written)
    return ("changed" if different else "as written"), different


def fuzz(name: str, cases: int, seed: int = 0) -> tuple[collections.Counter[str], list[str]]:
    """Damage one kind of result `cases` times, each time anew: the number of cases by outcome, and the
    bad ones in words."""
    counts, bad = collections.Counter(), []
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("error")
        folder = Path(scratch)
        read = KINDS[name](folder)
        written = read(folder)
        whole = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
        for case in range(cases):
            _restore(folder, whole)
            done = damage(folder, random.Random(f"{seed} {name} {case}"))
            result, said = outcome(read, folder, written)
            counts[result] += 1
            if result not in ("refused", "as written"):
                bad.append(f"{name} {case}: {done}: {result}: {said}")
    return counts, bad


def _restore(folder: Path, whole: dict[Path, bytes]) -> None:
    """Make a folder hold these files and no others."""
    for file in folder.rglob("*"):
        if file.is_file() and file not in whole:
            file.unlink()
    for file, content in whole.items():
        if not file.is_file() or file.read_bytes() != content:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=int, default=2000, help="of each kind")
    parser.add_argument("--kinds", nargs="+", choices=sorted(KINDS), default=list(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    failed = False
    for name in asked.kinds:
        counts, bad = fuzz(name, asked.cases, asked.seed)
        print(name, dict(counts), *bad, sep="\n  ", flush=True)
        failed |= bool(bad)
    sys.exit(failed)


if __name__ == "__main__":
    main()
