"""The `ssm` command: nothing but a face on the library."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ssm import background
from ssm.checks import InputError
from ssm.config import Config
from ssm.files import check_store

if TYPE_CHECKING:
    import xarray as xr

Report = Callable[[float], None]


@dataclasses.dataclass
class Run:
    """Simulate the small-scale model once, write the result and print a summary.

    Example: ssm run --imbalance-ratio 100 --weight-exponent 0.5 --out balanced.zarr
    """

    config: tyro.conf.OmitArgPrefixes[Config]
    out: Path = Path("run.zarr")
    """The zarr store to write."""
    overwrite: bool = False
    """Replace the store if it exists."""

    def __call__(self) -> None:
        check_store(self.out, self.overwrite)

        def work(report: Report) -> xr.Dataset:
            from ssm.simulation import simulate

            return simulate(self.config, report)

        dataset = _with_progress("simulating", work)
        _save(dataset, self.out, self.overwrite)


@dataclasses.dataclass
class Show:
    """Print what a store holds: how it was made, how it ended, and when each block was learned."""

    store: tyro.conf.Positional[Path]
    """A store written by `ssm run` or `ssm track`."""

    def __call__(self) -> None:
        from ssm import results

        _summarise(results.load(self.store), self.store)


@dataclasses.dataclass
class Plot:
    """Draw one picture of a store.

    Example: ssm plot balanced.zarr --kind accuracy --out accuracy.png
    """

    store: tyro.conf.Positional[Path]
    """A store written by `ssm run` or `ssm track`."""
    kind: Literal["blocks", "classes", "accuracy", "loss", "singular_values"] = "blocks"
    """What to draw over time."""
    out: Path | None = None
    """The picture to write, .png, .pdf or .svg. Left out: STORE-KIND.png in this folder."""
    overwrite: bool = False
    """Replace the picture if it exists."""

    def __call__(self) -> None:
        from ssm import plotting, results

        out = Path(f"{self.store.stem}-{self.kind}.png") if self.out is None else self.out
        plotting.check_picture(out, self.overwrite)
        plotting.save_figure(plotting.figure(results.load(self.store), self.kind), out)
        print(out)


@dataclasses.dataclass
class Track:
    """Follow the spectral components of logits logged from any network, write the result and print
    a summary."""

    file: tyro.conf.Positional[Path]
    """An NPZ file with `logits` (time, n, k), `labels` (n) and, if you like, `times` (time)."""
    out: Path | None = None
    """The zarr store to write. Left out: FILE.zarr in this folder."""
    overwrite: bool = False
    """Replace the store if it exists."""

    def __call__(self) -> None:
        out = Path(f"{self.file.stem}.zarr") if self.out is None else self.out
        check_store(out, self.overwrite)

        def work(report: Report) -> xr.Dataset:
            from ssm.tracking import load_logits, track

            return track(**load_logits(self.file), progress=report)

        _save(_with_progress("tracking", work), out, self.overwrite)


Command = (
    Annotated[Run, tyro.conf.subcommand("run")]
    | Annotated[Show, tyro.conf.subcommand("show")]
    | Annotated[Plot, tyro.conf.subcommand("plot")]
    | Annotated[Track, tyro.conf.subcommand("track")]
)


DESCRIPTION = "The small-scale model of learning from imbalanced data."


def main() -> None:
    """Entry point. Exit code 0, 2 for bad input with one line on stderr, 130 on Ctrl-C."""
    try:
        parse(Command, "ssm", DESCRIPTION, sys.argv[1:])()
    except (InputError, OSError) as error:
        print(f"ssm: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        background.leave_interrupted("ssm: interrupted, nothing was written")


def parse(command: Any, prog: str, description: str, arguments: list[str]) -> Any:
    """What tyro makes of the arguments; what it says of bad ones in its box becomes one InputError
    line."""
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(command, prog=prog, args=arguments, description=description)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        cause: BaseException | None = stop
        while cause is not None:
            if isinstance(cause, InputError):
                raise cause from None
            cause = cause.__context__
        said = _one_line(complaint.getvalue())
        named = [a for a in arguments[:1] if a in ("run", "show", "plot", "track")]
        raise InputError(f"{said}; see {' '.join([prog, *named])} --help") from None


def _one_line(box: str) -> str:
    """What a boxed message says between its title and its first rule, on one line."""
    rows = [row.strip(" │") for row in box.splitlines()[1:]]
    rules = [bool(re.match("[─╰]|-{10}", row)) for row in rows]
    start = 1 if rules[:1] == [True] else 0  # without box characters a rule follows the title
    end = rules.index(True, start) if True in rules[start:] else len(rows)
    return " ".join(rows[start:end]).rstrip(".")


def _with_progress(what: str, work: Callable[[Report], xr.Dataset]) -> xr.Dataset:
    """Do `work`, with a progress bar on a terminal if it takes over two seconds."""
    from rich.console import Console
    from rich.progress import Progress

    share, begun, console = [0.0], time.monotonic(), Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=1.0, visible=False)
        return background.run(
            lambda: work(lambda done: share.__setitem__(0, done)),
            lambda: bar.update(task, completed=share[0], visible=time.monotonic() - begun > 2),
        )


def _save(dataset: xr.Dataset, out: Path, overwrite: bool) -> None:
    from ssm import results

    results.save(dataset, out, overwrite=overwrite)
    _summarise(dataset, out)
    if dataset.attrs["status"] not in ("finished", "tracked"):
        print(f"ssm: the run ended early: {dataset.attrs['status']}", file=sys.stderr)


def _summarise(dataset: xr.Dataset, store: Path) -> None:
    """Print a Dataset's origin and its table of learning times."""
    from rich.console import Console
    from rich.table import Table

    from ssm import results

    console = Console(highlight=False)
    for name, value in results.facts(dataset).items():
        console.print(f"{name:>12}  {value}", soft_wrap=True, markup=False)
    table = Table(
        "block", "components", "target", "reached / target", "half reached at", "predicted"
    )
    for row in results.block_table(dataset):
        table.add_row(*row)
    console.print(table)
    console.print(f"{'store':>12}  {store}", soft_wrap=True, markup=False)
