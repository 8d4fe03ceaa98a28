"""Datasets on disk: a run saved whole, a sweep saved chunk by chunk as it is computed."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numcodecs import Zstd

from ssm import checks, results
from ssm.files import check_output, check_store, replacing
from ssm.results import FORMAT, STUDY_FORMAT, SWEEP_FORMAT

COMPRESSOR = Zstd()  # refuses a file that was cut off; blosc, the usual one, reads beyond its end
MARKS = "chunks"  # the folder in a sweep's store with one file for each finished chunk


def save(dataset: xr.Dataset, path: str | Path, *, overwrite: bool = False) -> None:
    """Write the Dataset of a run to a zarr store, whole or not at all.

    Raises ssm.InputError where `path` exists and `overwrite` is False, or its folder cannot be
    written to; and for something else than a Dataset.
    """
    if not isinstance(dataset, xr.Dataset):
        raise checks.refuse("dataset", dataset, "a Dataset of xarray, as ssm.simulate returns")
    path = checked_path(path)
    checks.flag("overwrite", overwrite)
    check_store(path, overwrite)
    with replacing(path) as scratch:
        marked = dataset.assign_attrs(digest=_digest_of_run(dataset))
        marked.to_zarr(scratch, mode="w-", zarr_format=2, consolidated=True)


def load(path: str | Path) -> xr.Dataset:
    """Read what `save` or `ssm.sweep` wrote: a run into memory, a sweep as it is asked for.

    Either is checked against the digests written with it, a sweep chunk after chunk.

    Raises ssm.InputError for a path that is not there, is no store, is damaged, or holds a sweep
    that is not finished; and for something else than a path.
    """
    path = checked_path(path)
    if not path.exists():
        raise checks.refuse("store", str(path), "a store that exists")
    dataset = _open(path)
    if dataset.attrs.get("format") == SWEEP_FORMAT and "blocks" in dataset.attrs:
        store = SweepStore(path)
        if not store.is_intact():
            raise _changed(path)
        missing = sum(not store.is_done(chunk) for chunk in range(len(store.blocks)))
        if missing:
            raise checks.refuse(
                "store",
                str(path),
                f"a finished sweep: {missing} of its {len(store.blocks)} chunks are missing or "
                "damaged; the command that wrote it goes on",
            )
        return store.dataset()
    if dataset.attrs.get("format") not in (FORMAT, SWEEP_FORMAT, STUDY_FORMAT):
        formats = f"{FORMAT} (runs), {SWEEP_FORMAT} or {STUDY_FORMAT}"
        raise checks.refuse("store", str(path), f"a store written by ssm in the format {formats}")
    try:
        dataset = dataset.load()
    except Exception as error:  # zarr and its codecs raise many kinds
        raise _unreadable(path, error) from None
    digest = dataset.attrs.pop("digest", None)
    if digest != _digest_of_run(dataset):
        raise _changed(path)
    return dataset


def checked_path(store: str | Path) -> Path:
    """The path of a store; raises InputError for what is none, or what no file can be called."""
    if not isinstance(store, str | os.PathLike):
        raise checks.refuse("store", store, "a path")
    try:
        Path(store).stat()
    except (FileNotFoundError, NotADirectoryError):  # of a new store
        pass
    except (TypeError, ValueError):  # bytes, or a character that no name can have
        raise checks.refuse("store", store, "a path") from None
    except OSError as error:
        what = f"a path that can be looked up ({error.strerror})"
        raise checks.refuse("store", store, what) from None
    return Path(store)


def _open(path: Path) -> xr.Dataset:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of stores that are not ours
            return xr.open_zarr(path, chunks=None, consolidated=True)
    except Exception as error:  # zarr and its codecs raise many kinds
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> checks.InputError:
    return checks.refuse("store", str(path), f"a readable ssm store ({type(error).__name__})")


def _changed(path: Path) -> checks.InputError:
    return checks.refuse("store", str(path), "an undamaged store; its contents have changed")


def _digest(arrays: Mapping[str, np.ndarray], attributes: Any = None) -> str:
    """A hash of every array and of attributes, so that a damaged store is found."""
    sha = hashlib.sha256(json.dumps(attributes, sort_keys=True).encode())
    for name, values in sorted(arrays.items()):
        sha.update(json.dumps([name, values.shape]).encode())
        if values.dtype.kind == "f":
            values = np.where(np.isnan(values), np.nan, values)  # NaNs of one kind only
        elif values.dtype.kind in "UTO":
            values = np.array(" ".join(map(str, values.ravel())).encode())
        sha.update(np.ascontiguousarray(values).tobytes())
    return sha.hexdigest()


def _digest_of_run(dataset: xr.Dataset) -> str:
    arrays = {str(name): dataset[name].values for name in dataset.variables}
    attributes = {name: dataset[name].attrs for name in arrays}
    return _digest(arrays, [dataset.attrs, attributes])


class SweepStore:
    """A zarr store that holds one array a variable over the whole grid, a zarr chunk for each chunk
    of runs, and a file for each chunk that says it is there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.group = zarr.open_group(path, mode="r+", zarr_format=2, use_consolidated=True)
            written = self.group.attrs["format"]
        except Exception as error:  # zarr raises many kinds
            raise _unreadable(path, error) from None
        if written != SWEEP_FORMAT or "blocks" not in self.group.attrs:
            kind = "a single run" if written == FORMAT else "a sweep saved whole"
            kind = kind if written in (FORMAT, SWEEP_FORMAT) else f"in the format {written}"
            allowed = f"a sweep that ssm.sweep wrote in the format {SWEEP_FORMAT}, not {kind}"
            raise checks.refuse("store", str(path), allowed)
        try:
            self.sweep: dict[str, Any] = json.loads(str(self.group.attrs["sweep"]))
            self.axes = list(json.loads(str(self.group.attrs["dimensions"])))
            self.blocks = tuple(
                tuple(slice(*ends) for ends in block)
                for block in json.loads(str(self.group.attrs["blocks"]))
            )
        except Exception as error:  # zarr raises many kinds
            raise _unreadable(path, error) from None

    @classmethod
    def create(
        cls,
        path: Path,
        sweep: Mapping[str, Any],
        axes: Mapping[str, np.ndarray],
        variables: Mapping[str, tuple[tuple[int, ...], str]],
        blocks: Sequence[tuple[slice, ...]],
    ) -> SweepStore:
        """A store laid out and not yet filled, there whole or not at all.

        Args:
            sweep: what makes the sweep the one it is, kept as JSON.
            axes: coordinate of each axis.
            variables: shape, axes first, and type by name.
            blocks: the part of the grid in each chunk; the first is a whole one.
        """
        check_output(path, overwrite=False)
        chunk = tuple(block.stop - block.start for block in blocks[0])
        with replacing(path) as scratch:
            group = zarr.open_group(scratch, mode="w-", zarr_format=2)
            for name, values in axes.items():
                own: dict[str, Any] = {"_ARRAY_DIMENSIONS": [name]}
                group.create_array(
                    name, data=values, compressors=COMPRESSOR, fill_value=None, attributes=own
                )
            for name, (shape, dtype) in variables.items():
                group.create_array(
                    name,
                    shape=shape,
                    dtype=dtype,
                    chunks=chunk + shape[len(chunk) :],
                    compressors=COMPRESSOR,
                    # a value that stands for missing ones would be read as NaN by xarray
                    fill_value=np.nan if np.dtype(dtype).kind == "f" else None,
                    attributes={
                        **results.describe(name),
                        "_ARRAY_DIMENSIONS": [*axes, *results.DIMENSIONS[name]],
                    },
                )
            layout = {
                "sweep": json.dumps(sweep),
                "dimensions": json.dumps(list(axes)),
                "blocks": json.dumps([[[s.start, s.stop] for s in block] for block in blocks]),
            }
            group.attrs.update(format=SWEEP_FORMAT, **layout, digest=_digest(axes, layout))
            zarr.consolidate_metadata(group.store, zarr_format=2)
            (scratch / MARKS).mkdir()
        return cls(path)

    def write(
        self, chunk: int, arrays: Mapping[str, np.ndarray], origin: Mapping[str, Any]
    ) -> None:
        """Fill one chunk, and last of all mark it as done, with where its runs come from."""
        for name, values in arrays.items():
            self._array(name)[self.blocks[chunk]] = values
        with replacing(self._mark(chunk)) as scratch:
            scratch.write_text(json.dumps({"digest": _digest(arrays), **origin}))

    def is_intact(self) -> bool:
        """Whether the axes, and what is said of the sweep, are as they were laid out."""
        try:
            axes = {dim: np.asarray(self._array(dim)) for dim in self.axes}
            layout = {name: self.group.attrs[name] for name in ("sweep", "dimensions", "blocks")}
            return self.group.attrs["digest"] == _digest(axes, layout)
        except Exception:  # zarr and its codecs raise many kinds
            return False

    def repair(self, axes: Mapping[str, np.ndarray]) -> None:
        """Write damaged axes again; raises InputError where that does not help."""
        if self.is_intact():
            return
        for name, values in axes.items():
            self._array(name)[:] = values
        if not self.is_intact():
            raise _changed(self.path)

    def is_done(self, chunk: int) -> bool:
        """Whether a chunk is marked as done and still holds what was written."""
        try:
            known = json.loads(self._mark(chunk).read_text())
            arrays = {
                name: np.asarray(self._array(name)[self.blocks[chunk]])
                for name in known["variables"]
            }
            return known["digest"] == _digest(arrays)
        except Exception:  # whatever is wrong with it, it has to be run again
            return False

    def origins(self) -> list[dict[str, Any]]:
        """What was written with each finished chunk: when, where, by which versions, at what cost."""
        marks = [self._mark(chunk) for chunk in range(len(self.blocks))]
        return [json.loads(mark.read_text()) for mark in marks if mark.is_file()]

    def dataset(self) -> xr.Dataset:
        """The sweep, its variables over time read as they are asked for."""
        stored = _open(self.path)
        axes = {dim: stored[dim].values for dim in self.axes}
        variables = {str(name): v for name, v in stored.variables.items() if name not in axes}
        return results.sweep_dataset(variables, self.sweep, axes, self.origins())

    def _array(self, name: str) -> zarr.Array[Any]:
        array = self.group[name]
        assert isinstance(array, zarr.Array)
        return array

    def _mark(self, chunk: int) -> Path:
        return self.path / MARKS / f"{chunk}.json"
