"""Results for other programs: NetCDF files and tables of comma-separated values."""

from __future__ import annotations

import csv
import importlib.util
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import xarray as xr

from ssm.results import schema
from ssm.results.stores import checked_path, load
from ssm.support import checks, errors, files, interrupts

SUFFIXES = (".nc", ".csv")
MOST_ROWS = 2**16
"""The largest number of rows of a table that are in memory at once."""
ENGINE = "h5netcdf"
NEEDED = (ENGINE, "h5py")
"""The packages that write NetCDF 4. SciPy writes version 3 without them, which has neither words nor integers of 64
bits, as counts of samples are."""


def export(
    dataset: xr.Dataset | str | Path,
    path: str | Path,
    *,
    variables: Iterable[str] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a run, a sweep or a tracked log for other programs: as NetCDF (`.nc`) or as a table (`.csv`).

    A NetCDF file holds the Dataset with all of its attributes; `xarray.open_dataset(path)` reads the same numbers.
    It needs `pip install h5netcdf h5py`.

    A table has a row for each run of a sweep, or for each time of a run, and a column for each variable with
    one value there. With `variables` it has a row for each value of the one with most dimensions, so that of
    `class_loss` there is one for each run, time and class; variables with fewer dimensions are repeated. More
    columns hold the coordinates of a row, and integers where a dimension has no coordinate. A table is written some
    rows at a time, whatever its length. `pandas.read_csv(path)` reads the same numbers, before pandas 3.1 with `float_precision="round_trip"`.

    Args:
        dataset: a Dataset, or the path of a store.
        path: the file to write, whole or not at all.
        variables: the variables to write. When they are left out, a table has those with one value a row, and NetCDF all.
        overwrite: whether a file that is there already may be replaced.

    Raises:
        ssm.InputError: a path with another ending or that exists; an unknown variable; variables of a table
            that do not go into the same rows; NetCDF where h5netcdf or h5py is not installed; a store that `ssm.load`
            refuses.

    Example:
        >>> import pathlib, tempfile, ssm
        >>> run = ssm.simulate(ssm.Config(num_classes=4, loss="squared", t1=30.0, num_saves=10))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     ssm.export(run, f"{folder}/run.csv", variables=["class_strength"])
        ...     pathlib.Path(f"{folder}/run.csv").read_text().splitlines()[0]
        'time,class,class_count,class_group,class_weight,class_strength'
    """
    path = checked_output(path, checks.flag("overwrite", overwrite))
    if not isinstance(dataset, xr.Dataset):
        dataset = load(dataset)
    names = None if variables is None else _checked_names(dataset, variables)
    if path.suffix == ".csv":
        rows, columns = _table(dataset, names)
        with files.replacing(path) as scratch:
            _write_table(scratch, dataset, rows, columns)
    else:
        part = dataset if names is None else dataset[names]
        with files.replacing(path) as scratch:
            part.drop_encoding().to_netcdf(scratch, engine=ENGINE)


def checked_output(path: str | Path, overwrite: bool) -> Path:
    """The file to write; raises ssm.InputError where it cannot be written."""
    path = checked_path(path)
    if path.suffix not in SUFFIXES:
        raise errors.invalid("out", str(path), f"a path ending in {' or '.join(SUFFIXES)}")
    if path.is_dir():
        raise errors.invalid("out", str(path), "a file, not a folder")
    files.check_output(path, overwrite)
    if path.suffix == ".nc" and not all(map(importlib.util.find_spec, NEEDED)):
        allowed = (
            "a path ending in .csv unless h5netcdf and h5py are there: pip install h5netcdf h5py"
        )
        raise errors.invalid("out", str(path), allowed)
    return path


def _checked_names(dataset: xr.Dataset, variables: Iterable[str]) -> list[str]:
    """The names as a list; raises ssm.InputError for a name that is no variable of the Dataset."""
    known = list(map(str, dataset.variables))
    names = [
        checks.choice("variables", name, known)
        for name in checks.items("variables", variables, "names of variables")
    ]
    if not names:
        raise errors.invalid("variables", names, "at least one name, or left out")
    return list(dict.fromkeys(names))


def _table(dataset: xr.Dataset, names: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """The dimensions along which the rows of a table run, and the names of its other columns.

    Raises ssm.InputError where the columns do not fit into the same rows.
    """
    if names is None:
        rows = _dimensions_of_rows(dataset)
        names = [str(name) for name, v in dataset.data_vars.items() if {*v.dims} <= {*rows}]
        if not names:
            known = ", ".join(map(str, dataset.data_vars))
            raise errors.invalid("variables", None, f"one or more of {known}")
    else:
        longest = max(names, key=lambda name: dataset[name].ndim)
        rows = [str(dim) for dim in dataset[longest].dims]
        for name in names:
            if others := [str(dim) for dim in dataset[name].dims if dim not in rows]:
                allowed = (
                    f"of dimensions that one of them has; {name} is along {', '.join(others)} and "
                    f"{longest} is not: write a table of each"
                )
                raise errors.invalid("variables", ",".join(names), allowed)
    beside = [str(name) for name, v in dataset.coords.items() if {*v.dims} <= {*rows}]
    return rows, [name for name in dict.fromkeys([*beside, *names]) if name not in rows]


def _dimensions_of_rows(dataset: xr.Dataset) -> list[str]:
    """The dimensions along which the rows of a table run where no variables are named: the axes of a sweep, or time."""
    if dataset.attrs.get("format") != schema.SWEEP_FORMAT:
        return [dim for dim in ("time",) if dim in dataset.dims]
    axes = schema.axis_coordinates(json.loads(dataset.attrs["sweep"])["axes"])
    return [dim for dim in dict.fromkeys(axes.values()) if dim in dataset.dims]


def _write_table(
    path: Path, dataset: xr.Dataset, rows: Sequence[str], columns: Sequence[str]
) -> None:
    """Write a table block by block."""
    sizes = [dataset.sizes[dim] for dim in rows]
    with path.open("w", newline="", encoding="utf-8") as file, interrupts.undivided() as hear:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*rows, *columns])
        for block in _blocks(sizes):
            hear()  # Ctrl-C need not wait for the end, since a table that is not whole is removed.
            part = dataset.isel(dict(zip(rows, block, strict=True)))
            shape = {dim: part.sizes[dim] for dim in rows}
            # Python's own floats are written with as many digits as tell them from all others.
            values = [
                part[name].variable.set_dims(shape).values.ravel().tolist()
                for name in (*rows, *columns)
            ]
            writer.writerows(zip(*values, strict=True))


def _blocks(sizes: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    """Parts of a grid of rows in their order, each of `MOST_ROWS` rows at most."""
    lengths, left = [], MOST_ROWS
    for size in reversed(sizes):
        lengths.append(max(min(size, left), 1))
        left = left // max(size, 1) if size <= left else 1
    lengths.reverse()
    starts = [range(0, size, length) for size, length in zip(sizes, lengths, strict=True)]
    for start in itertools.product(*starts):
        yield tuple(slice(i, i + length) for i, length in zip(start, lengths, strict=True))
