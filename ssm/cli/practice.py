"""The commands for real data, `advise` and `study`, which the `ssm` command offers."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from ssm.practice import options
from ssm.support import interrupts, progress
from ssm.support.errors import invalid

if TYPE_CHECKING:
    import xarray as xr
    from rich.progress import Progress


@dataclasses.dataclass
class Advise:
    """Print what the small-scale model says about a data set's class counts: first a verdict (which
    weights, how sure, what would change it), then which weights balance, which classes are learned
    first under ERM and under weights, what each choice costs, and what was measured in networks. The
    model speaks for itself; it does not predict the steps of a real network.

    $ ssm advise --counts 5000,500,50
    $ ssm advise --counts 5000,500,50 --coupling 0.1
    """

    counts: tuple[str, ...]
    """Samples of each class: 5000,500,50 or 5000 500 50."""
    coupling: float | None = None
    """How far training a sample moves its classmates, from 0 (not at all: free features) to 1 (as far as
    itself). `ssm.practice.kernels.measured_coupling(features, labels).coupling` measures it on a
    network. Left out: 0, 0.1 and 0.4, side by side. The networks measured here had 0.01 to 0.4, and
    none had 0; for free features weights of inverse frequency reverse the order: minorities are
    learned first."""
    loss: Literal["cross_entropy", "squared"] = "cross_entropy"
    """The loss of a sample."""
    batch_size: int | None = None
    """Samples of a mini-batch. Given, the output also says which weights a weighted mean over each makes of the recommended ones."""

    def __call__(self) -> None:
        from rich.console import Console

        counts = _counts(self.counts)

        def work(report: progress.Report):
            from ssm.advice.advice import advise

            return advise(counts, self.coupling, self.loss, report, self.batch_size)

        advice = progress.with_bar("running the model", work)
        from ssm.advice.advice import render

        console = Console(highlight=False)
        for part in render(advice):
            console.print(part, markup=False)


def _counts(arguments: tuple[str, ...]) -> tuple[int, ...]:
    """The integers between commas or blanks; raises InputError where there is anything else."""
    words = [word.strip() for part in arguments for word in part.split(",")]
    try:
        return tuple(map(int, words))
    except ValueError:
        allowed = "the samples of each class, at least two positive integers, as 5000,500,50"
        raise invalid("counts", " ".join(arguments), allowed) from None


@dataclasses.dataclass
class StudyCommand:
    """Compare strategies against imbalance on a data set by repeated cross-validation, and write a
    report: figures, tables, statistics, and what it all means. The same command continues a study
    that was stopped.

    $ ssm study digits --imbalance-ratio 10 --strategies erm,inverse,drw,la
    $ ssm study patients.csv --label diagnosis --folds 10 --out patients/
    """

    study: tyro.conf.OmitArgPrefixes[options.StudyOptions]
    out: Path = Path("study")
    """The folder to write to: summary.html, report.html, figures/, tables and the record."""

    def __call__(self) -> None:
        cells = progress.Runs("training")

        def work() -> tuple[xr.Dataset, Path]:
            from ssm.practice.reporting import report
            from ssm.practice.study import studies

            record = studies.run_study(self.study, self.out, cells.count, report.write_report)
            return record, self.out / report.NAME

        kept = f"ssm: interrupted; the same command goes on with {self.out}"
        with interrupts.last_part(lambda: kept):
            with cells.bar, _alarms_above(cells.bar):
                record, path = interrupts.run(work, cells.update)
            _summarise(record)
            if cells.begun is not None and cells.begun[1] == cells.total:
                print("nothing was trained: the study was complete")
            if not path.is_file():
                allowed = "a folder that can be written to, where there is no report yet"
                raise invalid("out", str(self.out), allowed)
            from ssm.practice.reporting import summary_page

            summary = self.out / summary_page.NAME
            if summary.is_file():  # A folder of an earlier version that is read-only has none.
                print(f"summary: {summary}")
            print(f"report: {path}")


@contextlib.contextmanager
def _alarms_above(bar: Progress) -> Iterator[None]:
    """Print alarms of training above the progress bar as they come."""

    class Printer(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            line = f"alarm: {record.threadName}: {record.getMessage()}"
            bar.console.print(line, markup=False, highlight=False, soft_wrap=True)

    log, handler = logging.getLogger("ssm.alarms"), Printer()
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = True


def _summarise(record: xr.Dataset) -> None:
    """Print notes on how a file was read, and the mean scores of all models and strategies without correction."""
    from rich.console import Console
    from rich.table import Table

    from ssm.practice.study import attributes

    console = Console(highlight=False)
    for note in attributes.study_facts(record)["notes"]:
        console.print(note, markup=False, soft_wrap=True)
    names = list(attributes.compared_names(record))
    if alone := attributes.network_alone(record):
        console.print(f"of the network alone, as they act within its training: {', '.join(alone)}")
    metrics = ("balanced_accuracy", "worst_class_recall", "accuracy", "calibration_error")
    table = Table("strategy", *(metric.replace("_", " ") for metric in metrics))
    means = record.sel(variant=names, correction="none").mean(("seed", "fold"))
    for name in names:
        table.add_row(
            name, *(f"{float(means[metric].sel(variant=name)):.3f}" for metric in metrics)
        )
    console.print(table)
    from ssm.practice.reporting import verdict_words
    from ssm.practice.study import verdicts

    reached = verdicts.verdict(record, attributes.study_facts(record)["margin"])
    for statement in verdict_words.statements(record, reached):
        line = f"{statement.title}: {statement.text}"
        console.print(line, markup=False, soft_wrap=True)
