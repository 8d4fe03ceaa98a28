"""`python -m benchmarks.practice DIR`: on eighteen real tables, what reweighting and moving the threshold are worth for
five models, by the project's own study; writes `benchmarks/practice.md`.

The tables are no part of this project. `TABLES` says of each where it comes from and which class is the rarer of two, so
that the folder can be made: a CSV file a table, its class in a column `label`, as in
`fetch_openml("vehicle", version=1, as_frame=True).frame` with `van` written `positive` and all else `negative`.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import tyro
import xarray as xr

from benchmarks import practice_page, practice_scores
from ssm import InputError
from ssm.cli.commands import parse
from ssm.practice.options import StudyOptions
from ssm.practice.study import attributes
from ssm.practice.study.studies import run_study
from ssm.support import errors
from ssm.support.files import replacing

MODELS = "logistic,boosting,forest,balanced_forest,network"
STRATEGIES = "erm,inverse,sqrt"
LONG_TAIL = 10.0
STEPS: int | None = None
"""Of the network at most; None for what `ssm study` chooses."""
SUFFIXES = (".csv", ".csv.gz")


class Table(NamedTuple):
    """A data set: the name of its file, and where it comes from."""

    name: str
    parent: str
    """The data set that it is made of: its name at the UCI Machine Learning Repository, and at OpenML."""
    classes: str
    """What becomes of the parent's classes, and which rows are left out."""
    imbalance_ratio: float | None = None
    """Largest class over smallest, where balanced classes are cut to a long tail."""


TABLES = (
    Table("haberman", "Haberman's Survival; haberman", "2, died within five years, against 1"),
    Table("ecoli4", "Ecoli; ecoli", "om against all others"),
    Table("glass2", "Glass Identification; glass", "vehicle windows, float, against all others"),
    Table("vehicle0", "Statlog (Vehicle Silhouettes); vehicle", "van against all others"),
    Table("flare-F", "Solar Flare, its later part; solar-flare", "Zurich class F against others"),
    Table("car-vgood", "Car Evaluation; car", "vgood against all others"),
    Table("poker-8_vs_6", "Poker Hand; poker-hand", "8, straight flush, against 6, full house"),
    Table("yeast4", "Yeast; yeast", "ME2 against all others"),
    Table("yeast6", "Yeast; yeast", "EXC against all others"),
    Table("winequality-red-4", "Wine Quality, red; wine-quality-red", "quality 4 against others"),
    Table("abalone19", "Abalone; abalone", "19 rings against all others"),
    Table("page-blocks0", "Page Blocks Classification; page-blocks", "all others against text"),
    Table("german", "Statlog (German Credit Data); credit-g", "2, bad, against 1, good"),
    Table("contraceptive", "Contraceptive Method Choice; cmc", "all three, as they are"),
    Table("vowel", "Connectionist Bench (Vowel); vowel", "all eleven, to a long tail", LONG_TAIL),
    Table("segment", "Image Segmentation; segment", "all seven, to a long tail", LONG_TAIL),
    Table("satimage", "Statlog (Landsat Satellite); satimage", "all six, as they are"),
    Table("optdigits", "Optical Digits; optdigits", "all ten, to a long tail", LONG_TAIL),
)
"""Twelve of two classes, as the KEEL repository groups them, and six of several or with columns of text."""


@dataclasses.dataclass
class Options:
    """Try three weightings and up to three rules of decision on five models and eighteen real tables, in five folds, and
    write the table of what helped. Goes on where it was stopped."""

    data_dir: tyro.conf.Positional[Path]
    """The folder that holds haberman.csv, ecoli4.csv and the others, or .csv.gz; those that it lacks are left out."""
    runs: Path = Path("build/practice")
    """The folder of the studies, one a table, which go on from what is there."""
    out: Path = Path("benchmarks/practice.md")
    """The file to write."""


def path_of(table: Table, folder: Path) -> Path | None:
    """The file of a table; None where the folder has none."""
    paths = (folder / f"{table.name}{suffix}" for suffix in SUFFIXES)
    return next((path for path in paths if path.is_file()), None)


def study_of(table: Table, path: Path) -> StudyOptions:
    """The study of a table: one repetition of five folds, everything else as `ssm study` has it."""
    return StudyOptions(
        str(path),
        strategies=STRATEGIES,
        models=MODELS,
        seeds=1,
        num_steps=STEPS,
        imbalance_ratio=table.imbalance_ratio,
        profile="long_tailed",
        ablations=False,
        sensitivity=False,
    )


def run(data_dir: Path, runs: Path) -> dict[str, xr.Dataset]:
    """The records of the studies of all tables that the folder has, by the tables' names.

    Raises:
        ssm.InputError: a folder without any of the tables, or a table that cannot be used.
    """
    found = {table: path for table in TABLES if (path := path_of(table, data_dir)) is not None}
    if not found:
        allowed = f"a folder with tables, such as {TABLES[0].name}.csv"
        raise errors.invalid("data_dir", str(data_dir), allowed)
    records = {}
    for table, path in found.items():
        # One line a set: it takes minutes, and a study draws no bar by itself.
        start = time.perf_counter()
        records[table.name] = run_study(study_of(table, path), runs / table.name)
        print(f"{table.name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    return records


def found(records: Mapping[str, xr.Dataset]) -> practice_page.Found:
    """All that the page is written from."""
    scores = practice_scores.scores(records)
    balanced = scores.decided["balanced_accuracy"]
    of_name, facts = {table.name: table for table in TABLES}, {}
    for name, record in records.items():
        study = attributes.study_facts(record)
        facts[name] = practice_page.Facts(
            of_name[name].parent,
            of_name[name].classes,
            study["class_counts"],
            study["num_features"],
        )
    first = next(iter(records.values()))
    return practice_page.Found(
        facts,
        scores,
        {name: practice_scores.choice(record) for name, record in records.items()},
        {
            name: practice_scores.advised(record, balanced[name].to_dict())
            for name, record in records.items()
        },
        first.attrs["versions"],
    )


def main() -> None:
    """Run it; exit code 2 for bad input."""
    try:
        options = parse(
            Options, "python -m benchmarks.practice", Options.__doc__ or "", sys.argv[1:]
        )
        records = run(options.data_dir, options.runs)
        text = practice_page.page(found(records))
        options.out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(options.out) as scratch:
            scratch.write_text(text)
    except (InputError, OSError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
