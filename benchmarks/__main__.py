"""`python -m benchmarks`: measure this project beside its peers and the machine's limit, print and
write the table."""

from __future__ import annotations

import dataclasses
import importlib
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

import tyro
from rich.console import Console

from benchmarks import gpu, machine, peers, sweeps, table
from benchmarks.table import Row
from ssm import InputError
from ssm.cli.commands import parse
from ssm.support import interrupts, progress
from ssm.support.files import replacing

Name = Literal[
    "work",
    "inputs",
    "batch",
    "cold_grid",
    "many",
    "reduction",
    "large",
    "terminal",
    "descent",
    "first_run",
    "tracking",
    "watching",
    "training",
    "closed_forms",
    "many_classes",
    "gpu",
]
ON_ACCELERATORS = ("gpu",)
"""Benchmarks that run only where they are asked for."""


@dataclasses.dataclass
class Options:
    """Measure this project beside its peers and beside the machine's limit, and print one table of
    ratios. Nothing else should be running meanwhile."""

    names: tyro.conf.Positional[tuple[Name, ...]] = ()
    """Benchmarks to run; left out, all of them but those that need an accelerator (gpu)."""
    quick: bool = False
    """A smoke run: smaller sizes and fewer repeats. Its ratios mean little."""
    out: Path | None = None
    """The file to write. Left out: `benchmarks/results.md` after a whole full run, or
    `build/quick-benchmarks/results.md` for a smoke run."""


def run_one(name: Name, quick: bool, report: progress.Report) -> tuple[list[Row], str]:
    """The rows of one benchmark, and what is to be said of them."""
    if name == "cold_grid":
        return sweeps.run_cold(quick, report), sweeps.COLD_NOTE
    if name == "many":
        return sweeps.run_many(quick, report), sweeps.MANY_NOTE
    benchmark = importlib.import_module(f"benchmarks.{name}")
    return benchmark.run(quick, report), benchmark.NOTE


def target(options: Options) -> Path | None:
    """The file to write; None where only part of a full run was asked for."""
    if options.out is not None:
        return options.out
    if options.quick:
        return Path("build/quick-benchmarks/results.md")
    return None if options.names else Path("benchmarks/results.md")


def main() -> None:
    """Run what was asked for; exit code 2 for bad input, 1 where a benchmark failed, of which the others
    lose nothing. A target that is missed is a result, not a failure."""
    try:
        options = parse(Options, "python -m benchmarks", Options.__doc__ or "", sys.argv[1:])
        usual = tuple(name for name in get_args(Name) if name not in ON_ACCELERATORS)
        names: tuple[Name, ...] = tuple(dict.fromkeys(options.names)) or usual
        if {"batch", "cold_grid", "terminal", "training"} & set(names):
            peers.require()
        if set(ON_ACCELERATORS) & set(names):
            gpu.require()
        out = target(options)
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
        found, interrupted = _found(names, options.quick)
        _show({name: rows for name, (rows, _) in found.items()}, out)
        if out is not None and found:
            with replacing(out) as scratch:
                rows = {name: rows for name, (rows, _) in found.items()}
                notes = {name: note for name, (_, note) in found.items()}
                scratch.write_text(table.markdown(rows, machine.describe(), notes))
    except (InputError, OSError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    if interrupted:
        interrupts.leave_interrupted("benchmarks: interrupted")
    if len(found) < len(names):
        raise SystemExit(1)


def _found(names: tuple[Name, ...], quick: bool) -> tuple[dict[Name, tuple[list[Row], str]], bool]:
    """Rows and note of each benchmark that ended, and whether an interrupt was the end of it."""
    found: dict[Name, tuple[list[Row], str]] = {}

    def attempt(name: Name, report: progress.Report) -> None:
        try:
            found[name] = run_one(name, quick, report)
        except Exception:
            print(f"benchmarks: {name} failed\n{traceback.format_exc()}", file=sys.stderr)

    try:
        progress.each(
            names, attempt, 1
        )  # drawn seldom: the bars share the cores with what is measured
    except KeyboardInterrupt:
        return found, True
    return found, False


def _show(rows: Mapping[str, list[Row]], out: Path | None) -> None:
    """Print all rows as one table, and how many targets were met."""
    console = Console()
    console.width = max(console.width, 140)  # a row should fit on a line
    console.print(table.screen(rows))
    judged = [row.met for each in rows.values() for row in each if row.met is not None]
    where = "" if out is None else f"; {out}"
    console.print(f"{sum(judged)} of {len(judged)} targets met{where}")


if __name__ == "__main__":
    main()
