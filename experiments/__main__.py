"""`python -m experiments`: run the experiments, draw their figures, print and write the table of
claims."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro
from rich.console import Console
from rich.table import Table

from experiments import CORE, NAMES, Name
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
    are trained on real data (digits, bridge, practice) or the larger maps of held-out accuracy and its runs
    on other data (held_out_maps, held_out_data)."""
    quick: bool = False
    """A smoke run: fewer points, seeds and steps. Its claims may fail or stay undecided."""
    out: Path | None = None
    """Folder for the figures and, of a full run, claims.md, where the tables of other experiments stay
    as they are; made if it is not there. Left out: `figures`, or `build/quick-figures` for a smoke run."""
    dataset: Literal["digits", "mnist"] = "digits"
    """Images for the `digits` experiment."""
    data_dir: Path | None = None
    """Folder with MNIST's IDX files, gzipped or not, for --dataset mnist."""


def run_one(name: Name, options: Options, out: Path, report: progress.Report) -> list[Claim]:
    """Run one experiment, its figures into `out`, and return its claims."""
    if name != "digits":
        experiment = importlib.import_module(f"experiments.{name}")
        return experiment.run(out, options.quick, report)
    from experiments import digits

    return digits.run(out, options.quick, report, options.dataset, options.data_dir)


def check(options: Options) -> None:
    """Refuse data that is not there, and a choice that is made twice, before anything runs."""
    if options.core and options.names:
        raise invalid("core", True, "left out where experiments are named")
    if options.dataset == "mnist" and (options.data_dir is None or not options.data_dir.is_dir()):
        raise invalid("data_dir", options.data_dir, "the folder with MNIST's IDX files")


def main() -> None:
    """Run what was asked for; exit code 2 for bad input. A claim that does not hold is a result,
    not a failure."""
    try:
        options = parse(Options, "python -m experiments", Options.__doc__ or "", sys.argv[1:])
        check(options)
        out = options.out or Path("build/quick-figures" if options.quick else "figures")
        out.mkdir(parents=True, exist_ok=True)
        names = options.names or (CORE if options.core else NAMES)
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
    if not options.quick and options.dataset == "digits":
        path = out / "claims.md"
        before = path.read_text() if path.is_file() else ""
        with replacing(path) as scratch:
            scratch.write_text(claims.updated(before, found, NAMES))


if __name__ == "__main__":
    main()
