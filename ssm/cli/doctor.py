"""The command that looks at an installation: what is installed, whether it computes correctly, and what to do where it
does not."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import importlib.metadata
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ssm.cli import explorer
from ssm.support import machine, versions

NEEDED = [
    "jax",
    "jaxlib",
    "numpy",
    "scipy",
    "xarray",
    "zarr",
    "matplotlib",
    "equinox",
    "jaxtyping",
    "optax",
    "orbax-checkpoint",
    "pandas",
    "scikit-learn",
    "jinja2",
    "rich",
    "tyro",
]
"""The distributions that are needed by all or by some commands."""
IMPORTED = ("jax", "numpy", "scipy", "xarray", "zarr", "matplotlib", "optax", "pandas", "sklearn")
"""The modules that are imported to see whether that works."""
EXTRAS = {
    "distributed": "sweeps on many machines: python -m pip install distributed",
    "cvxpy": "one experiment: python -m pip install cvxpy",
    "diffrax": "benchmarks and tests: python -m pip install diffrax",
}
"""The distributions that can be left out, with their purpose and the command that installs them."""
REINSTALL = "python -m pip install -c constraints.txt -e . in a checkout installs what is needed"
CLOSE = 1e-4
"""The largest error of the smoke run that is allowed, over its largest logit: a hundred times `rtol`, since errors of steps add
up."""


class Finding(NamedTuple):
    """One line of the output: whether all is well, what was looked at, what was found, and what to do about a fault."""

    verdict: Literal["ok", "note", "fault"]
    what: str
    found: str
    remedy: str = ""


@dataclasses.dataclass
class Doctor:
    """Look at this installation and say what is amiss and what to do: versions, devices, the folder of compiled
    programs, a small run held against its closed form, a store written and read back. Each line is ok, a note or a
    fault; the exit code is 1 where there is a fault. What it prints belongs into a report of an error."""

    def __call__(self) -> None:
        faults = 0
        for finding in findings():
            faults += finding.verdict == "fault"
            print(f"{finding.verdict:<6} {finding.what:<18} {finding.found}", flush=True)
            if finding.remedy:
                print(f"{'':<6} {'':<18} -> {finding.remedy}", flush=True)
        print(f"\n{faults or 'no'} fault{'s' if faults != 1 else ''}")
        if faults:
            raise SystemExit(1)


def findings() -> Iterator[Finding]:
    """The findings of all parts, one after the other. A part that fails is a finding, and the next part follows."""
    parts: tuple[Callable[[], Iterator[Finding]], ...] = (
        _versions,
        _imports,
        _extras,
        _machine,
        _devices,
        _cache,
        _explorer,
        _smoke_run,
        _store,
    )
    for part in parts:
        try:
            yield from part()
        except Exception as error:  # Whatever is broken here, the other parts are still looked at.
            what = part.__name__.strip("_").replace("_", " ")
            yield Finding("fault", what, _words(error), REINSTALL)


def _words(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _versions() -> Iterator[Finding]:
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    yield Finding("ok", "Python", f"{platform.python_version()}, {system}")
    for name in (versions.DISTRIBUTION, *NEEDED):
        shown = "ssm" if name == versions.DISTRIBUTION else name
        try:
            yield Finding("ok", shown, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding("fault", shown, "not installed", REINSTALL)


def _imports() -> Iterator[Finding]:
    broken = False
    for name in IMPORTED:
        try:
            importlib.import_module(name)
        except Exception as error:  # A package that cannot be loaded may raise anything.
            broken = True
            yield Finding("fault", f"import {name}", _words(error), REINSTALL)
    if not broken:
        yield Finding("ok", "imports", "all work")


def _extras() -> Iterator[Finding]:
    for name, purpose in EXTRAS.items():
        try:
            yield Finding("ok", name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding("note", name, f"not installed; for {purpose}")


def _machine() -> Iterator[Finding]:
    found = f"{machine.num_cores()} of {os.cpu_count()}"
    with contextlib.suppress(AttributeError, OSError, ValueError):  # Not every system says it.
        size = os.sysconf("SC_PAGE_SIZE")
        total, free = (size * os.sysconf(f"SC_{x}PHYS_PAGES") / 2**30 for x in ("", "AV"))
        found += f"; memory {total:.1f} GiB, {free:.1f} GiB free"
    yield Finding("ok", "cores", found)


def _devices() -> Iterator[Finding]:
    import jax

    asked = os.environ.get("JAX_PLATFORMS")
    try:
        devices = jax.devices()
    except Exception as error:  # JAX raises several kinds of errors.
        remedy = f"unset JAX_PLATFORMS, which is {asked!r}" if asked else REINSTALL
        yield Finding("fault", "devices", _words(error), remedy)
        return
    yield Finding("ok", "devices", ", ".join(f"{d.platform} ({d.device_kind})" for d in devices))
    # The driver of NVIDIA makes this file where it has found a GPU. Other vendors have no sign that is as certain.
    unused = all(device.platform == "cpu" for device in devices) and not asked
    if unused and Path("/dev/nvidia0").exists():
        found = "an NVIDIA GPU that jax does not use; python -m pip install 'jax[cuda12]' makes it"
        yield Finding("note", "GPU", found)


def _cache() -> Iterator[Finding]:
    import jax

    config: Any = jax.config  # Its fields are made at run time, so no type checker knows them.
    machine.use_compilation_cache()
    if not config.jax_enable_compilation_cache:
        yield Finding("note", "compiled programs", "not kept: the cache is turned off")
        return
    kept = config.jax_compilation_cache_dir
    if kept is None:
        where = machine.cache_folder()
        remedy = "make that a folder that you can write to, or set JAX_COMPILATION_CACHE_DIR to one"
        yield Finding("fault", "compiled programs", f"{where} cannot be used", remedy)
        return
    folder = Path(kept)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        files = [path.stat().st_size for path in folder.iterdir() if path.is_file()]
    except OSError as error:
        remedy = f"make {folder} a folder that you can write to, or set JAX_COMPILATION_CACHE_DIR"
        yield Finding("fault", "compiled programs", _words(error), remedy)
        return
    size = f"{len(files)} files, {sum(files) / 2**20:.1f} MiB; delete it to empty it"
    yield Finding(
        "ok", "compiled programs", f"{folder}: {size}, JAX_COMPILATION_CACHE_DIR moves it"
    )


def _explorer() -> Iterator[Finding]:
    if explorer.PAGE.is_file():
        yield Finding("ok", "explorer", str(explorer.PAGE))
    else:
        yield Finding("note", "explorer", "not built here; `make explorer` in a checkout does it")


def _smoke_run() -> Iterator[Finding]:
    """A run of the squared loss from a balanced start, which is known in closed form."""
    import numpy as np

    from ssm.config import Config
    from ssm.simulation import simulate
    from ssm.theory import exact

    config = Config(
        num_classes=3,
        imbalance_ratio=4,
        minority_count=1,
        feature_dim=3,
        loss="squared",
        init="balanced",
        init_scale=0.1,
        num_saves=20,
        save_state=True,
    )
    begun = time.perf_counter()
    simulate(config)
    warm = time.perf_counter()
    run = simulate(config)
    seconds = f"{warm - begun:.2f} s cold, {time.perf_counter() - warm:.3f} s warm"
    counts = np.array(config.class_counts)
    ends = np.cumsum(counts) - 1  # These are the last samples of the classes.
    W, H = run["W"].values, run["H"].values
    means = np.add.reduceat(H, np.append(0, ends[:-1] + 1), axis=2) / counts
    expected = exact.balanced_flow(run["time"].values, W[0], H[0], counts)
    error = float(np.abs(W @ means - expected).max() / np.abs(expected).max())
    found = f"error {error:.1e} against the closed form; {seconds}"
    if error <= CLOSE:
        yield Finding("ok", "smoke run", found)
    else:  # The error may also be NaN.
        remedy = f"numbers of this installation are wrong: {REINSTALL}"
        yield Finding("fault", "smoke run", found, remedy)


def _store() -> Iterator[Finding]:
    import numpy as np

    from ssm.results import stores
    from ssm.tracking.logs import track

    small = track(np.linspace(0, 1, 12).reshape(2, 3, 2), [0, 0, 1])
    folder = Path(tempfile.gettempdir())
    try:
        with tempfile.TemporaryDirectory() as scratch:
            stores.save(small, Path(scratch) / "small.zarr")
            same = stores.load(Path(scratch) / "small.zarr").identical(small)
        free = shutil.disk_usage(folder).free / 2**30
    except OSError as error:
        remedy = "set TMPDIR to a folder that can be written to and has room"
        yield Finding("fault", "store", _words(error), remedy)
        return
    if same:
        yield Finding("ok", "store", f"written to {folder} and read back; {free:.1f} GiB free")
    else:
        yield Finding("fault", "store", "read back otherwise than it was written", REINSTALL)
