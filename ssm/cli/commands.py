"""The `ssm` command, which only calls the library and prints its results."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO

import tyro

from ssm.cli import doctor, explorer, moving, practice, printing, showing, watching
from ssm.cli.outputs import new_store
from ssm.cli.parsing import parse
from ssm.config import Config
from ssm.support import interrupts, machine, progress, versions
from ssm.support.checks import integer
from ssm.support.errors import InputError, invalid

if TYPE_CHECKING:
    import distributed
    import xarray as xr


@dataclasses.dataclass
class TargetFiles:
    """Files of what samples are taught, each .npy or .csv."""

    targets: Path | None = None
    """A file of what samples are taught in place of labels, .npy or .csv: a row a sample of k numbers that sum to 1. Counts are
    then those of its samples."""
    labels: Path | None = None
    """A file of the class of each sample of `--targets`, integers 0 ... k - 1, .npy or .csv. Left out: the class of its largest
    target."""
    sample_weights: Path | None = None
    """A file of a factor of the loss of each sample of `--targets`, positive numbers, .npy or .csv. Left out: 1."""

    def read(self) -> dict[str, Any]:
        """The contents of the files, by the name of the argument of `ssm.simulate` and `ssm.sweep` that takes them."""
        from ssm.problem.target_files import read_numbers

        paths = dataclasses.asdict(self)
        for name in ("labels", "sample_weights"):
            if paths[name] is not None and self.targets is None:
                raise invalid(name, str(paths[name]), "left out without --targets")
        return {name: read_numbers(name, path) for name, path in paths.items() if path is not None}


@dataclasses.dataclass
class RunCommand:
    """Simulate the small-scale model once, write the result and print a summary.

    $ ssm run --imbalance-ratio 100 --weight-exponent 0.5 --out balanced.zarr
    """

    config: tyro.conf.OmitArgPrefixes[Config]
    taught: tyro.conf.OmitArgPrefixes[TargetFiles]
    out: Path = Path("run.zarr")
    """The zarr store to write."""
    overwrite: bool = False
    """Replace the store if it exists."""

    def __call__(self) -> None:
        def work(report: progress.Report) -> xr.Dataset:
            from ssm.simulation import simulate

            return simulate(self.config, report, **self.taught.read())

        with new_store(self.out, self.overwrite):
            dataset = progress.with_bar("simulating", work)
            _save(dataset, self.out, self.overwrite)


@dataclasses.dataclass
class Sweep:
    r"""Run every combination of some fields' values, on this machine or many, into a store that
    goes on where it was left.

    $ ssm sweep --grid imbalance_ratio=1:1000:7:log --grid weight_exponent=0,0.5,1 \
        --grid seed=0..9 --loss squared --out sweep.zarr
    """

    config: tyro.conf.OmitArgPrefixes[Config]
    taught: tyro.conf.OmitArgPrefixes[TargetFiles]
    grid: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """An axis, once for each: `FIELD=A,B,C`; `FIELD=A..B` (all integers); `FIELD=A:B:N` (N numbers
    evenly spaced), `FIELD=A:B:N:log` (by equal factors). Values that are lists stand between
    semicolons: `--grid 'counts=50,5;500,50'`, and so do those of fields that move together:
    `--grid 'imbalance_ratio,minority_count=10,50;100,5'`."""
    out: Path = Path("sweep.zarr")
    """The zarr store to write. One that exists is continued if it has the same grid and flags, and grows
    if its grid is a part of this one. Several processes with the same line share its work."""
    chunk_size: int | None = None
    """The largest number of runs in a chunk; an interrupted sweep repeats at most one chunk. Left out: chosen by memory
    and work."""
    scheduler: str | None = None
    """Address of a Dask scheduler, tcp://HOST:PORT, whose workers compute the chunks. Left out:
    this machine's cores do."""
    workers: int | None = None
    """Start a Dask cluster of this many processes on this machine instead."""

    def __call__(self) -> None:
        from ssm.sweeps import grids

        if not self.grid:
            raise invalid("grid", (), "given at least once, as --grid FIELD=A,B,C")
        axes = dict(map(grids.parse_axis, self.grid))
        if len(axes) < len(self.grid):
            raise invalid("grid", list(self.grid), "one axis a field")
        taught = self.taught.read()
        shown = progress.Runs("sweeping")

        def work() -> xr.Dataset:
            from ssm.sweeps.sweep import sweep

            with _client(self.scheduler, self.workers) as client:
                return sweep(
                    axes,
                    self.config,
                    self.out,
                    client,
                    chunk_size=self.chunk_size,
                    progress=shown.count,
                    **taught,
                )

        def interrupted() -> str:
            kept = f"the same command goes on with {self.out}"
            return f"ssm: interrupted; {kept if self.out.exists() else 'nothing was written'}"

        with interrupts.last_part(interrupted):
            with shown.bar:
                dataset = interrupts.run(work, shown.update)
            if shown.begun and shown.begun[1] == shown.total:
                print("nothing was run: the store was complete")
            printing.print_sweep(dataset, self.out)


@dataclasses.dataclass
class Track:
    """Follow the spectral components of logits logged from any network, write the result and print
    a summary."""

    file: tyro.conf.Positional[Path]
    """An NPZ file with `logits` (time, n, k), `labels` (n) and, if you like, `times` (time). It may be
    larger than memory, unless its logits are in Fortran order."""
    out: Path | None = None
    """The zarr store to write. Left out: FILE.zarr in this folder."""
    overwrite: bool = False
    """Replace the store if it exists."""

    def __call__(self) -> None:
        out = Path(f"{self.file.stem}.zarr") if self.out is None else self.out

        def work(report: progress.Report) -> xr.Dataset:
            from ssm.tracking.logs import load_logits, track

            return track(**load_logits(self.file), progress=report)

        with new_store(out, self.overwrite):
            _save(progress.with_bar("tracking", work), out, self.overwrite)


AT_HAND = """
# What tyro has nothing for, such as a store, is completed from the files at hand.
_ssm() {
  _tyro_ssm "$@"
  [ -n "${COMPREPLY[*]}" ] || COMPREPLY=()
}
complete -o default -F _ssm ssm
"""
"""The lines that bash needs beside the script of tyro, which offers one empty word where it has no completion and so deletes
what was typed."""


@dataclasses.dataclass
class Completion:
    """Print the script by which a shell completes commands, flags and their choices at the Tab key.

    $ ssm completion bash > ~/.local/share/bash-completion/completions/ssm
    """

    shell: tyro.conf.Positional[Literal["bash", "zsh", "fish"]]
    """Which shell."""

    def __call__(self) -> None:
        try:
            parse(Command, "ssm", "", ["--tyro-print-completion", self.shell])
        except SystemExit:  # tyro ends so after it has printed the script.
            if self.shell == "bash":
                print(AT_HAND)


Command = (
    Annotated[RunCommand, tyro.conf.subcommand("run")]
    | Annotated[Sweep, tyro.conf.subcommand("sweep")]
    | Annotated[showing.Show, tyro.conf.subcommand("show")]
    | Annotated[showing.Plot, tyro.conf.subcommand("plot")]
    | Annotated[moving.Merge, tyro.conf.subcommand("merge")]
    | Annotated[moving.Export, tyro.conf.subcommand("export")]
    | Annotated[Track, tyro.conf.subcommand("track")]
    | Annotated[practice.StudyCommand, tyro.conf.subcommand("study")]
    | Annotated[practice.Advise, tyro.conf.subcommand("advise")]
    | Annotated[watching.WatchCommand, tyro.conf.subcommand("watch")]
    | Annotated[explorer.Explore, tyro.conf.subcommand("explore")]
    | Annotated[doctor.Doctor, tyro.conf.subcommand("doctor")]
    | Annotated[Completion, tyro.conf.subcommand("completion")]
)


DESCRIPTION = (
    "The small-scale model of learning from imbalanced data. `ssm --version`: which version. "
    "`ssm doctor`: what is amiss here. `ssm completion bash`: names at the Tab key."
)


def main() -> None:
    """The entry point of the process, which ends after it. The exit code is 0, 2 for bad input with one line
    on standard error, 3 where `watch` has an alarm, 130 on Ctrl-C, and 1 where the reader of the output has closed it. Ctrl-C is
    ignored once the command has done its work, so that the process then ends in order."""
    machine.collect_rarely()
    try:
        try:
            _run_command()
        finally:
            interrupts.ignore_from_now_on()
    except KeyboardInterrupt:
        interrupts.leave_interrupted("ssm: interrupted, nothing was written")


def _run_command() -> None:
    """Run the command of the command line; raises SystemExit with the exit code where that fails."""
    try:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _say_in_one_line
                if sys.argv[1:] == ["--version"]:
                    print(f"ssm {versions.own()}")
                    return
                command = parse(Command, "ssm", DESCRIPTION, sys.argv[1:])
                _check_platform(command)
                command()
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError:
        # Otherwise the end of the process would try to write the rest, and complain.
        if sys.stdout is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except (InputError, OSError) as error:
        print(f"ssm: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _say_in_one_line(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning that is meant for a user in one line, as all messages of `ssm` are. The arguments are those of
    `warnings.showwarning`."""
    from ssm.results.digests import StoreWarning

    if issubclass(category, StoreWarning):
        print(f"ssm: {message}", file=sys.stderr)
    else:
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno))


def _check_platform(command: object) -> None:
    """Raise ssm.InputError for a platform that the environment asks JAX to use (JAX_PLATFORMS) and that
    it does not find, before anything runs."""
    asked = os.environ.get("JAX_PLATFORMS")
    if not asked or not isinstance(
        command, RunCommand | Sweep | practice.StudyCommand | practice.Advise
    ):
        return
    import jax

    try:
        jax.devices()
    except Exception:  # JAX raises several kinds of errors.
        allowed = "left out, or platforms that JAX finds on this machine, such as cpu"
        raise invalid("JAX_PLATFORMS", asked, allowed) from None


@contextlib.contextmanager
def _client(scheduler: str | None, workers: int | None) -> Iterator[distributed.Client | None]:
    """A client of the cluster that the flags name; None where they name no cluster."""
    if scheduler is None and workers is None:
        yield None
        return
    name, value = ("workers", workers) if scheduler is None else ("scheduler", scheduler)
    if None not in (scheduler, workers):
        raise invalid("scheduler", scheduler, "left out where --workers are started")
    try:
        import distributed
    except ImportError:
        allowed = "left out unless Dask is there: pip install distributed"
        raise invalid(name, value, allowed) from None
    if scheduler is None:
        number = integer("workers", workers, 1, 10_000)
        options: dict[str, Any] = {"n_workers": number, "threads_per_worker": 1}
        # Without an address the pages of the scheduler take port 8787, with a warning where it is taken.
        options |= {"dashboard_address": "localhost:0", "silence_logs": 50}
    else:
        options = {"address": scheduler, "timeout": "10s"}
    try:
        client = distributed.Client(**options)
    except (OSError, ValueError, TypeError) as error:
        allowed = f"the address of a Dask scheduler that answers ({type(error).__name__})"
        raise invalid(name, value, allowed) from None
    with client:
        yield client


def _save(dataset: xr.Dataset, out: Path, overwrite: bool) -> None:
    """Write a run and print its summary, with a warning where the status of the run asks for one."""
    from ssm.dynamics.statuses import Status
    from ssm.results import stores

    stores.save(dataset, out, overwrite=overwrite)
    printing.print_run(dataset, out)
    if warning := Status(dataset.attrs["status"]).warning:
        print(f"ssm: {warning}", file=sys.stderr)
