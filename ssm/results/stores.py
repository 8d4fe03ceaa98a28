"""Datasets on disk: runs, and sweeps written whole; `ssm.results.sweep_stores` has those written chunk by
chunk."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from ssm.results import datasets, digests
from ssm.results.datasets import FORMAT, STUDY_FORMAT, SWEEP_FORMAT
from ssm.results.digests import Metadata
from ssm.results.sweep_stores import COMPRESSOR, MARKS, SweepStore, open_dataset
from ssm.support import checks, errors
from ssm.support.files import check_output, replacing

__all__ = ["MARKS", "SweepStore", "check_store", "checked_path", "load", "save"]

FORMATS = (FORMAT, SWEEP_FORMAT, STUDY_FORMAT)


def save(dataset: xr.Dataset, path: str | Path, *, overwrite: bool = False) -> None:
    """Write the Dataset of a run to a zarr store, whole or not at all.

    What it was read from, or is encoded as, does not matter: values and types are written as they
    are. A symlink to a store stays one, what it points to is replaced.

    Raises ssm.InputError where `path` exists and `overwrite` is False or it is not a store with
    nothing else in it, where another process is writing it, or its folder cannot be written to; for
    something else than a Dataset, and for one that would not come back as it is.
    """
    if not isinstance(dataset, xr.Dataset):
        raise errors.invalid("dataset", dataset, "a Dataset of xarray, as ssm.simulate returns")
    path = checked_path(path)
    checks.flag("overwrite", overwrite)
    check_store(path, overwrite)
    bare = dataset.drop_encoding()
    compressed = {name: {"compressors": (COMPRESSOR,)} for name in bare.variables}
    allowed = "a Dataset of numbers and words, which come back from a store as they are"
    no_dataset = errors.invalid("dataset", type(dataset).__name__, allowed)
    with replacing(path) as scratch:
        try:
            bare.to_zarr(scratch, mode="w-", zarr_format=2, consolidated=True, encoding=compressed)
        except (TypeError, ValueError):  # what neither arrays nor JSON can hold
            raise no_dataset from None
        digest = digests.of_dataset(bare)
        digests.seal(scratch, digest)
        if digests.of_dataset(open_dataset(scratch)) != digest:
            raise no_dataset


def check_store(path: Path, overwrite: bool) -> None:
    """Refuse a store that cannot be written, as `files.check_output` does, or would overwrite what
    is no store of ours, or one that holds something else too."""
    if path.exists():
        if not _is_ours(path):
            raise errors.invalid("out", str(path), "a new path, or a store to overwrite")
        if overwrite and (foreign := next(_foreign(path), None)) is not None:
            allowed = f"a store that holds nothing else, to be overwritten; not {foreign}"
            raise errors.invalid("out", str(path), allowed)
    check_output(path, overwrite)


def _is_ours(path: Path) -> bool:
    try:
        return Metadata(path).attributes.get("format") in FORMATS
    except errors.InputError:
        return False


def _foreign(path: Path) -> Iterator[str]:
    """What is in a store and was not written with it, beginning with what is nearest."""
    arrays = Metadata(path).arrays()
    piece = r"\.zarray|\.zattrs|\d+(\.\d+)*(\.[0-9a-f]{32}\.partial)?"  # left by a killed process
    inner = dict.fromkeys(arrays, piece) | {MARKS: r"\d+\.json|\..*"}
    folders: list[tuple[Path, str]] = []
    for entry in sorted(path.iterdir()):
        if entry.name in inner and entry.is_dir() and not entry.is_symlink():
            folders.append((entry, inner[entry.name]))
        elif entry.name not in (".zattrs", ".zgroup", digests.METADATA):
            yield entry.name
    for folder, allowed in folders:
        for entry in sorted(folder.iterdir()):
            if not re.fullmatch(allowed, entry.name) or (entry.is_dir() and entry.name[0] != "."):
                yield f"{folder.name}/{entry.name}"


def load(path: str | Path) -> xr.Dataset:
    """Read what `save` or `ssm.sweep` wrote: a run into memory, a sweep as it is asked for.

    Either is checked against the digests written with it, a sweep chunk after chunk. Stores of
    earlier versions, whose digests cover values but not all that is said of them, are held against
    what a store must be, and a StoreWarning says so; saved again they are like any other.

    Raises ssm.InputError for a path that is not there, is no store, is damaged, or holds a sweep
    that is not finished; and for something else than a path.
    """
    path = checked_path(path)
    if not path.exists():
        raise errors.invalid("store", str(path), "a store that exists")
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
            warnings.simplefilter("ignore")  # of numbers that are decoded
            dataset = dataset.load()
            if metadata.is_covered:
                intact = digests.of_dataset(dataset) == metadata.values
            else:
                same = digests.of_dataset_before(dataset) == metadata.values
                intact = same and _is_laid_out(dataset)
    except Exception as error:  # zarr and its codecs raise many kinds
        raise digests.unreadable(path, error) from None
    if not intact:
        raise digests.changed(path)
    if not metadata.is_covered:
        _warn(path)
    return dataset


def _load_sweep(path: Path) -> xr.Dataset:
    store = SweepStore(path)
    if not store.is_intact():
        raise digests.changed(path)
    missing = sum(not store.is_done(chunk) for chunk in range(len(store.blocks)))
    if missing:
        raise errors.invalid(
            "store",
            str(path),
            f"a finished sweep: {missing} of its {len(store.blocks)} chunks are missing or "
            "damaged; the command that wrote it goes on",
        )
    return store.dataset()


def _is_laid_out(dataset: xr.Dataset) -> bool:
    """Whether what a Dataset has in common with those of runs and sweeps is as it is there:
    dimensions, kinds of numbers, and which are coordinates. A study's record has names of its own.
    """
    if dataset.attrs["format"] == STUDY_FORMAT:
        return True
    swept = dataset.attrs["format"] == SWEEP_FORMAT
    for name, variable in dataset.variables.items():
        if name not in datasets.DIMENSIONS:
            continue
        layouts = [datasets.DIMENSIONS[each] for each in (str(name), *["class_H"] * (name == "H"))]
        kind = np.dtype(
            datasets.SWEEP_TYPES.get(str(name), "float64").replace("observed", "f")
        ).kind
        if (
            not any(_fits(variable.dims, dims, swept) for dims in layouts)
            or variable.dtype.kind != kind
            or (name in dataset.coords) != (name in datasets.COORDINATES)
        ):
            return False
    return True


def _fits(found: Sequence[Hashable], dims: Sequence[str], swept: bool) -> bool:
    """Whether dimensions are some of those of a variable of a run, in their order; in a sweep there
    are its axes too."""
    own, known = [dim for dim in found if dim in dims], set().union(*datasets.DIMENSIONS.values())
    others = set(found) - set(own)
    return own == [dim for dim in dims if dim in own] and not (others & known if swept else others)


def _warn(path: Path) -> None:
    said = (
        f"store={str(path)!r} was written by an earlier version, whose digests cover its values but "
        "not all that it says of them; its layout is as it must be. Save it again to have it covered"
    )
    warnings.warn(said, digests.StoreWarning, stacklevel=3)


def checked_path(store: str | Path) -> Path:
    """The path of a store; raises InputError for what is none, or what no file can be called."""
    if not isinstance(store, str | os.PathLike):
        raise errors.invalid("store", store, "a path")
    try:
        Path(store).stat()
    except (FileNotFoundError, NotADirectoryError):  # of a new store
        pass
    except (TypeError, ValueError):  # bytes, or a character that no name can have
        raise errors.invalid("store", store, "a path") from None
    except OSError as error:
        what = f"a path that can be looked up ({error.strerror})"
        raise errors.invalid("store", store, what) from None
    return Path(store)
