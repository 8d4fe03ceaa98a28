"""Runs and sweeps in words, on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray as xr

RUN_COLUMNS = ("block", "components", "target", "reached / target", "half reached at", "predicted")
SWEEP_COLUMNS = ("block", "runs that learned it", "half reached at, first", "median", "last")


def print_run(dataset: xr.Dataset, store: Path) -> None:
    """Print the facts of a run, and when it learned each block; for the log of a network also its report in words."""
    from ssm.cli import summaries
    from ssm.results import logs

    words = []
    if logs.is_log(dataset):
        from ssm.tracking import reports

        words = reports.lines(dataset)
    table = summaries.block_table(dataset)
    _print(summaries.facts(dataset), RUN_COLUMNS, table, store, words)


def print_sweep(dataset: xr.Dataset, store: Path) -> None:
    """Print the facts of a sweep, and when its runs learned each block."""
    from ssm.cli import summaries

    _print(summaries.sweep_facts(dataset), SWEEP_COLUMNS, summaries.sweep_table(dataset), store)


def _print(
    facts: Mapping[str, str],
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    store: Path,
    words: Iterable[str] = (),
) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table(*columns)
    for row in rows:
        table.add_row(*row)
    for name, value in facts.items():
        console.print(f"{name:>12}  {value}", soft_wrap=True, markup=False)
    console.print(table)
    for paragraph in words:
        console.print(paragraph, markup=False)
    console.print(f"{'store':>12}  {store}", soft_wrap=True, markup=False)
