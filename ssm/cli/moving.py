"""The commands that convert stores: `merge` makes one store of several, `export` writes files for other programs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from ssm.cli import printing
from ssm.cli.outputs import last_part, new_store
from ssm.cli.showing import load_runs
from ssm.support import files
from ssm.support.errors import invalid


@dataclasses.dataclass
class Merge:
    """Make one store of several that hold parts of one sweep, and print a summary.

    Stores of the same settings become one over all values of their axes. Runs that none of them has are left open: `ssm sweep`
    with that store as `--out` computes it.

    $ ssm merge seeds-0-9.zarr seeds-10-19.zarr -o all.zarr
    """

    stores: tyro.conf.Positional[tuple[Path, ...]]
    """Stores written by `ssm sweep`, which may be unfinished. They stay as they are."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """The zarr store to write."""
    overwrite: bool = False
    """Replace the store if it exists."""

    def __call__(self) -> None:
        if not self.stores:
            raise invalid("stores", (), "given: ssm merge A.zarr B.zarr -o all.zarr")
        from ssm.sweeps.merging import merge

        with new_store(self.out, self.overwrite):
            merged = merge(self.stores, self.out, overwrite=self.overwrite)
            printing.print_sweep(merged, self.out)


@dataclasses.dataclass
class Export:
    """Write what a store holds for other programs, as NetCDF or as a table.

    A table has a row for each run of a sweep, or for each time of a run, and a column for each variable with one value
    there; with `--variables` a row for each of their values. NetCDF has all, and needs `pip install h5netcdf h5py`.

    $ ssm export sweep.zarr -o sweep.csv --variables block_learning_time,status
    """

    store: tyro.conf.Positional[Path]
    """A store written by `ssm run`, `ssm sweep` or `ssm track`."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """The file to write, .nc or .csv."""
    variables: str | None = None
    """Names with commas between: which variables are written. Those of a table have to go into the same rows."""
    overwrite: bool = False
    """Replace the file if it exists."""

    def __call__(self) -> None:
        from ssm.results import exports

        names = None if self.variables is None else self.variables.replace(" ", "").split(",")
        out = exports.checked_output(self.out, self.overwrite)
        with files.reserved(out), last_part(out):
            dataset = load_runs(self.store)
            exports.export(dataset, out, variables=names, overwrite=self.overwrite)
            print(out)
