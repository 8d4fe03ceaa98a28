"""`python -m experiments`: run the experiments, draw their figures, print and write the table of claims."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn
from rich.table import Table

from experiments import claims
from ssm import InputError
from ssm.files import replacing

Name = Literal["label_spectrum", "early_training", "digits"]


@dataclasses.dataclass
class Options:
    """Run the experiments, draw their figures, and print what they claim: predicted, measured, tolerance, holds."""

    names: tyro.conf.Positional[tuple[Name, ...]] = ()
    """Experiments to run; left out, all of them."""
    quick: bool = False
    """A smoke run: fewer points, seeds and steps. Its claims may fail."""
    out: Path = Path("figures")
    """Folder for the figures and, of a whole full run, claims.md; made if it is not there."""
    dataset: Literal["digits", "mnist"] = "digits"
    """Images for the `digits` experiment."""
    data_dir: Path | None = None
    """Folder with MNIST's IDX files, gzipped or not, for --dataset mnist."""


def run_one(name: Name, options: Options, report: Callable[[float], None]) -> list[claims.Claim]:
    """Run one experiment and return its claims."""
    if name == "label_spectrum":
        from experiments import label_spectrum

        return label_spectrum.run(options.out, options.quick, report)
    if name == "early_training":
        from experiments import early_training

        return early_training.run(options.out, options.quick, report)
    from experiments import digits

    return digits.run(options.out, options.quick, report, options.dataset, options.data_dir)


def main() -> None:
    """Run what was asked for; exit code 2 for bad input. A claim that does not hold is a result, not a failure."""
    options = tyro.cli(Options, prog="python -m experiments", description=Options.__doc__)
    names = options.names or ("label_spectrum", "early_training", "digits")
    console = Console()
    console.width = max(console.width, 120)  # a claim should fit on a line or two
    found: dict[str, list[claims.Claim]] = {}
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        with Progress(
            *Progress.get_default_columns(), TimeElapsedColumn(), console=Console(stderr=True)
        ) as bar:
            for name in names:
                task = bar.add_task(name, total=1.0)
                found[name] = run_one(
                    name, options, lambda share, task=task: bar.update(task, completed=share)
                )
                bar.update(task, completed=1.0)
    except (InputError, OSError) as error:
        print(f"experiments: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None

    for name, rows in found.items():
        table = Table("claim", "predicted", "measured", "tolerance", "holds", title=name)
        for row in rows:
            table.add_row(
                row.statement,
                row.predicted,
                row.measured,
                row.tolerance,
                "yes" if row.holds else "NO",
            )
        console.print(table)
    every = [row for rows in found.values() for row in rows]
    console.print(
        f"{sum(row.holds for row in every)} of {len(every)} claims hold; figures in {options.out}/"
    )
    if not options.names and not options.quick:
        text = "# Claims\n\nWritten by `python -m experiments`.\n"
        for name, rows in found.items():
            text += f"\n## {name}\n\n{claims.markdown(rows)}"
        with replacing(options.out / "claims.md") as scratch:
            scratch.write_text(text)


if __name__ == "__main__":
    main()
