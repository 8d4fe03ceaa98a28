"""`python -m experiments`: run the experiments, draw their figures, print and write the table of
claims."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import tyro
from rich.console import Console
from rich.table import Table

from experiments import CORE, IN_PYTORCH, NAMES, ON_MNIST, Name
from ssm import InputError
from ssm.cli.commands import parse
from ssm.support import interrupts, progress
from ssm.support.errors import invalid
from ssm.support.files import replacing

if TYPE_CHECKING:
    from experiments.claims import Claim


@dataclasses.dataclass
class Options:
    """Run the experiments, draw their figures, and print what they claim: predicted, measured,
    tolerance, verdict."""

    names: tyro.conf.Positional[tuple[Name, ...]] = ()
    """Experiments to run; left out, all of them."""
    core: bool = False
    """Run the core experiments, those of the small-scale model itself, and not those on networks that
    are trained on real data (digits, mnist, stop_or_train, bridge, practice, followed_digits, tracked), mini-batches (batch_law) or the
    larger maps of held-out accuracy, its runs on other data, those of groups and those of soft or noisy targets
    (held_out_maps, held_out_data, groups, soft_targets, label_noise)."""
    quick: bool = False
    """A smoke run: fewer points, seeds and steps. Its claims may fail or stay undecided."""
    out: Path | None = None
    """Folder for the figures and, of a full run, claims.md, where the tables of other experiments stay
    as they are; made if it is not there. Left out: `figures`, or `build/quick-figures` for a smoke run."""
    data_dir: Path | None = None
    """Folder with MNIST's IDX files, train-* and t10k-*, gzipped or not, for `mnist` and `stop_or_train`. Left
    out, they are fetched, once; where that fails these two are left out, with one line, unless they were named."""
    tables: Path | None = None
    """Folder of tables with a header row and a column `label`, .csv or .csv.gz, for `practice` in place of its own
    data; claims.md stays as it is. Left out with it, the folder for figures is `build/own-figures`."""


def run_one(name: Name, options: Options, out: Path, report: progress.Report) -> list[Claim]:
    """Run one experiment, its figures into `out`, and return its claims."""
    experiment = importlib.import_module(f"experiments.{name}")
    own_data = (options.data_dir,) if name in ON_MNIST else ()
    own_data = (options.tables,) if name == "practice" else own_data
    return experiment.run(out, options.quick, report, *own_data)


def check(options: Options) -> tuple[Name, ...]:
    """The experiments that were asked for. A folder that is not there, and a choice that is made twice or for
    nothing, are refused before anything runs."""
    if options.core and options.names:
        raise invalid("core", True, "left out where experiments are named")
    names = options.names or (CORE if options.core else NAMES)
    if options.data_dir is not None:
        folder = str(options.data_dir)
        if not set(names) & set(ON_MNIST):
            raise invalid("data_dir", folder, f"left out without {_listed(ON_MNIST)}")
        if not options.data_dir.is_dir():
            raise invalid("data_dir", folder, "a folder that exists")
    if options.tables is not None:
        folder = str(options.tables)
        if names != ("practice",):
            raise invalid("tables", folder, "left out unless `practice` alone is run")
        if not options.tables.is_dir():
            raise invalid("tables", folder, "a folder of .csv or .csv.gz files")
    return names


def available(names: tuple[Name, ...], options: Options) -> tuple[Name, ...]:
    """These experiments, but for those whose images cannot be fetched, or whose framework is not installed, where they were
    not named."""
    in_pytorch = [name for name in names if name in IN_PYTORCH]
    if in_pytorch and importlib.util.find_spec("torch") is None:
        message = "PyTorch is not installed; pip install -c constraints.txt -e '.[torch]' has it"
        if options.names:
            raise InputError(f"{_listed(in_pytorch)}: {message}")
        print(f"experiments: without {_listed(in_pytorch)}: {message}", file=sys.stderr)
        names = tuple(name for name in names if name not in IN_PYTORCH)
    on_mnist = [name for name in names if name in ON_MNIST]
    if not on_mnist:
        return names
    from experiments import mnist_data  # not before, so that help and refusals come at once

    try:
        mnist_data.load(options.data_dir)
    except mnist_data.NotFetched as error:
        if options.names:
            raise
        print(f"experiments: without {_listed(on_mnist)}: {error}", file=sys.stderr)
        return tuple(name for name in names if name not in ON_MNIST)
    return names


def _listed(names: Sequence[str]) -> str:
    return " and ".join(names)


def main() -> None:
    """Run what was asked for; exit code 2 for bad input. A claim that does not hold is a result,
    not a failure."""
    try:
        options = parse(Options, "python -m experiments", Options.__doc__ or "", sys.argv[1:])
        names = check(options)
        kept = "build/own-figures" if options.tables is not None else "figures"
        out = options.out or Path("build/quick-figures" if options.quick else kept)
        out.mkdir(parents=True, exist_ok=True)
        names = available(names, options)
        found = progress.each(names, lambda name, report: run_one(name, options, out, report))
    except (InputError, OSError) as error:
        print(f"experiments: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        interrupts.leave_interrupted("experiments: interrupted")

    from experiments import claims  # not before, so that help and refusals come at once

    console = Console()
    console.width = max(console.width, 120)  # a claim should fit on a line or two
    for name, rows in found.items():
        table = Table("claim", "predicted", "measured", "tolerance", "verdict", title=name)
        for row in rows:
            style = None if row.holds else "bold"
            table.add_row(*dataclasses.astuple(row), style=style)
        console.print(table)
    every = [row for rows in found.values() for row in rows]
    console.print(f"{claims.summary(every)}; figures in {out}/")
    if options.quick:
        console.print("claims are stated for the full run; in a quick one few seeds decide little")
    if not options.quick and options.tables is None:
        path = out / "claims.md"
        before = path.read_text() if path.is_file() else ""
        with replacing(path) as scratch:
            scratch.write_text(claims.updated(before, found, NAMES))


if __name__ == "__main__":
    main()
