"""Datasets on disk that are written whole: runs and sweeps. `ssm.results.sweep_stores` is for sweeps that are written
chunk by chunk."""

from __future__ import annotations

import os
import warnings
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from ssm.dynamics.statuses import Status
from ssm.results import datasets, digests, journals, logs, schema, writing
from ssm.results.belongings import MARKS, foreign_entries
from ssm.results.digests import Metadata
from ssm.results.schema import FORMAT, FORMATS, STUDY_FORMAT, SWEEP_FORMAT
from ssm.results.sweep_stores import SweepStore, open_dataset
from ssm.results.variables import OBSERVED
from ssm.support import checks, errors
from ssm.support.files import check_output

__all__ = ["MARKS", "SweepStore", "check_store", "checked_path", "load", "save"]


def save(dataset: xr.Dataset, path: str | Path, *, overwrite: bool = False) -> None:
    """Write the Dataset of a run to a zarr store, whole or not at all.

    Values and types are written unchanged, whatever store the Dataset was read from and however it
    was encoded there. Where `path` is a symlink it stays one, and the store that it points to is
    replaced.

    Args:
        dataset: the Dataset of a run or of a whole sweep.
        path: the folder to write.
        overwrite: whether a store that is there already may be replaced.

    Raises:
        ssm.InputError: `path` exists and `overwrite` is False, or it holds something else than a
            store; another process is writing it; its folder cannot be written to; `dataset` is no
            Dataset, or would not be the same when it is read again.
    """
    if not isinstance(dataset, xr.Dataset):
        raise errors.invalid("dataset", dataset, "a Dataset of xarray, as ssm.simulate returns")
    path = checked_path(path)
    checks.flag("overwrite", overwrite)
    check_store(path, overwrite)
    writing.write(dataset, path)


def check_store(path: Path, overwrite: bool) -> None:
    """Refuse a path at which a store cannot be written, as `files.check_output` does, or where there is something else
    than a store, or a store that would be overwritten and whose folder holds other files too."""
    if path.exists():
        if not _is_ours(path):
            raise errors.invalid("out", str(path), "a new path, or a store to overwrite")
        if overwrite and (entry := next(_foreign_entries(path), None)) is not None:
            allowed = f"a store that holds nothing else, to be overwritten; not {entry}"
            raise errors.invalid("out", str(path), allowed)
    check_output(path, overwrite)


def _is_ours(path: Path) -> bool:
    """Whether the metadata of a folder name one of our formats."""
    try:
        return Metadata(path).attributes.get("format") in FORMATS
    except errors.InputError:
        return False


def _foreign_entries(path: Path) -> Iterator[str]:
    """The files and folders in a store that were not written with it.

    The digest of a store shows with which arrays it was written. Where it does not, because it is damaged or of an
    earlier version, the arrays that runs and sweeps can have are taken for those of the store. Other arrays are
    too if the whole store can be read, since the digest of an earlier version covers the names and values of all
    arrays.
    """
    metadata = Metadata(path)
    names = set(metadata.arrays())
    if not metadata.is_sealed and not names <= schema.STORED and not _can_be_loaded(path):
        names &= schema.STORED
    return foreign_entries(path, names)


def _can_be_loaded(path: Path) -> bool:
    """Whether all of a store can be read and has not changed since it was written."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", digests.StoreWarning)
            load(path)
    except errors.InputError:
        return False
    return True


def load(path: str | Path) -> xr.Dataset:
    """Read what `save`, `ssm.sweep` or a `Tracker` wrote: a run or a log into memory, a sweep as its values are asked for.

    Of a sweep that is not finished, or that another process is writing, the runs that are done are read into memory,
    with a StoreWarning. Other runs have the status `not computed`, and NaN, 0 or empty words.

    The store is checked against the digests that were written with it, that of a sweep chunk after
    chunk. The digest of an earlier version covers values but not all metadata: such a store is
    checked against the layout that it must have, and a StoreWarning is given. Once it is saved again, its digests
    cover all of it.

    Args:
        path: the folder of a store.

    Raises:
        ssm.InputError: there is nothing at `path`, or no store; the store is damaged; `path` is no
            path.
    """
    path = checked_path(path)
    if not path.exists():
        raise errors.invalid("store", str(path), "a store that exists")
    if journals.is_journal(path):
        return logs.of_rows(*journals.read(path))
    metadata = Metadata(path)
    if metadata.attributes.get("format") == SWEEP_FORMAT and "blocks" in metadata.attributes:
        dataset = _load_sweep(path)
        if not metadata.is_covered:
            _warn(path)
        return dataset
    if metadata.attributes.get("format") not in FORMATS:
        formats = f"{FORMAT} (runs), {SWEEP_FORMAT} or {STUDY_FORMAT}"
        raise errors.invalid("store", str(path), f"a store written by ssm in the format {formats}")
    metadata.check()
    if metadata.strays():
        raise digests.changed(path)
    dataset = open_dataset(path)
    dataset.attrs.pop("digest", None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # They are about numbers that are decoded.
            dataset = dataset.load()
            if metadata.is_covered:
                intact = digests.of_dataset(dataset) == metadata.values
            else:
                same = digests.of_dataset_before(dataset) == metadata.values
                intact = same and _is_laid_out(dataset)
    except Exception as error:  # zarr and its codecs raise many kinds of errors.
        raise digests.unreadable(path, error) from None
    if not intact:
        raise digests.changed(path)
    if not metadata.is_covered:
        _warn(path)
    return dataset


def _load_sweep(path: Path) -> xr.Dataset:
    """Open a sweep that was written chunk by chunk; with a warning where it is not finished."""
    store = SweepStore(path)
    if not store.look_through():
        return store.dataset()
    part, done = _part(store)
    if done < part["status"].size:
        message = (
            f"store={str(path)!r} is not finished: {done} of its {part['status'].size} runs are there, and "
            "`status` says which; the command that wrote it goes on"
        )
        warnings.warn(message, digests.StoreWarning, stacklevel=3)
    return part


def _part(store: SweepStore) -> tuple[xr.Dataset, int]:
    """The runs that are done of a sweep that is not finished, in memory, and their number."""
    belongs, _ = store.parts()
    done = np.zeros(belongs.shape, bool)
    arrays = {
        name: np.full(whole, datasets.filling(dtype), dtype)
        for name, (whole, dtype) in store.variables.items()
    }
    arrays["status"][...] = Status.NOT_COMPUTED.value
    for chunk, block in enumerate(store.blocks):
        places, found = store.read(chunk)
        inside = np.isin(np.arange(store.num_runs(chunk)), places).reshape(done[block].shape)
        done[block] = inside
        for name, values in found.items():
            arrays[name][block][inside] = values[inside]
    axes, origins = store.coordinate_values(), store.origins()
    return datasets.sweep_dataset(arrays, store.sweep, axes, origins, done), int(done.sum())


def _is_laid_out(dataset: xr.Dataset) -> bool:
    """Whether the variables of a Dataset that are in the table of results have the dimensions, the
    kind of numbers and the place among variables or coordinates that the table says."""
    if dataset.attrs["format"] == STUDY_FORMAT:
        return True  # The record of a study has other variables, some of which have the same names.
    swept = dataset.attrs["format"] == SWEEP_FORMAT
    for name, variable in dataset.variables.items():
        if name not in schema.VARIABLES:
            continue
        # Features are called H whether their columns are samples or classes.
        names = ("H", "class_H") if name == "H" else (str(name),)
        layouts = [schema.VARIABLES[each].dims for each in names]
        declared = schema.VARIABLES[str(name)].dtype
        kind = "f" if declared == OBSERVED else np.dtype(declared).kind
        if (
            not any(_fits(variable.dims, dims, swept) for dims in layouts)
            or variable.dtype.kind != kind
            or (name in dataset.coords) != schema.is_coordinate(str(name))
        ):
            return False
    return True


def _fits(stored: Sequence[Hashable], dims: Sequence[str], swept: bool) -> bool:
    """Whether stored dimensions are some of the dimensions of a variable of a run, in their order.

    Args:
        stored: the dimensions of a variable in a store.
        dims: the dimensions of the variable in the table.
        swept: whether the axes of a sweep may be among the stored ones.
    """
    of_run = [dim for dim in stored if dim in dims]
    others = set(stored) - set(of_run)
    if swept:
        others &= {dim for variable in schema.VARIABLES.values() for dim in variable.dims}
    return of_run == [dim for dim in dims if dim in of_run] and not others


def _warn(path: Path) -> None:
    """Warn the caller of `load` that a store is of an earlier version."""
    message = (
        f"store={str(path)!r} was written by an earlier version, whose digests cover its values but "
        "not all that it says of them; its layout is as it must be. Save it again to have it covered"
    )
    warnings.warn(message, digests.StoreWarning, stacklevel=3)


def checked_path(store: str | Path) -> Path:
    """The path of a store; raises ssm.InputError for something else than a path, and for a name that
    no file can have."""
    if not isinstance(store, str | os.PathLike):
        raise errors.invalid("store", store, "a path")
    try:
        Path(store).stat()
    except (FileNotFoundError, NotADirectoryError):  # The store may be yet to be written.
        pass
    except (TypeError, ValueError):  # It is bytes, or has a character that no name can have.
        raise errors.invalid("store", store, "a path") from None
    except OSError as error:
        allowed = f"a path that can be looked up ({error.strerror})"
        raise errors.invalid("store", store, allowed) from None
    return Path(store)
