"""A sweep on disk, written chunk by chunk as it is computed."""

from __future__ import annotations

import functools
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numcodecs import Zstd

from ssm.results import datasets, digests
from ssm.results.datasets import FORMAT, SWEEP_FORMAT
from ssm.results.digests import Metadata
from ssm.support import errors, files

COMPRESSOR = Zstd()  # refuses a file that was cut off; blosc, the usual one, reads beyond its end
MARKS = "chunks"  # the folder in a sweep's store with one file for each finished chunk
LAYOUT = ("sweep", "dimensions", "blocks")  # attributes that say what the sweep is
# what is said of the runs of a chunk, and of which type
ORIGIN = {
    "variables": list,
    "runs": int,
    "seconds": float,
    "compilations": int,
    "device": str,
    "format": str,
    "versions": str,
    "git_commit": str,
    "created": str,
}


def open_dataset(path: Path) -> xr.Dataset:
    """A store as xarray reads it, its variables when they are asked for; raises InputError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of stores that are not ours
            return xr.open_zarr(path, chunks=None, consolidated=True)
    except Exception as error:  # zarr and its codecs raise many kinds
        raise digests.unreadable(path, error) from None


class SweepStore:
    """A zarr store that holds one array a variable over the whole grid, a zarr chunk for each chunk
    of runs, and a file for each chunk that says it is there."""

    def __init__(self, path: Path) -> None:
        """Raises ssm.InputError where there is something else, or its layout has changed."""
        self.path, self.metadata = path, Metadata(path)
        attributes = self.metadata.attributes
        written = attributes.get("format")
        if written != SWEEP_FORMAT or "blocks" not in attributes:
            kind = "a single run" if written == FORMAT else "a sweep saved whole"
            kind = kind if written in (FORMAT, SWEEP_FORMAT) else f"in the format {written}"
            allowed = f"a sweep that ssm.sweep wrote in the format {SWEEP_FORMAT}, not {kind}"
            raise errors.invalid("store", str(path), allowed)
        self.metadata.check()
        try:
            self.sweep: dict[str, Any] = json.loads(attributes["sweep"])
            self.axes: list[str] = list(json.loads(attributes["dimensions"]))
            self.blocks = tuple(
                tuple(slice(*ends) for ends in block) for block in json.loads(attributes["blocks"])
            )
            laid_out = self._is_laid_out()
        except Exception as error:  # what is no JSON, or of another kind
            raise digests.unreadable(path, error) from None
        if not laid_out:
            raise digests.changed(path)
        self._origins: dict[int, dict[str, Any]] = {}

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
        files.check_output(path, overwrite=False)
        chunk = tuple(block.stop - block.start for block in blocks[0])
        with files.replacing(path) as scratch:
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
                        **datasets.describe(name),
                        "_ARRAY_DIMENSIONS": [*axes, *datasets.DIMENSIONS[name]],
                    },
                )
            layout = {
                "sweep": json.dumps(sweep),
                "dimensions": json.dumps(list(axes)),
                "blocks": json.dumps([[[s.start, s.stop] for s in block] for block in blocks]),
            }
            group.attrs.update(format=SWEEP_FORMAT, **layout)
            zarr.consolidate_metadata(group.store, zarr_format=2)
            (scratch / MARKS).mkdir()
            digests.seal(scratch, digests.of_values(axes))
        return cls(path)

    @property
    def variables(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and type of each variable, as `create` takes them."""
        arrays = self.metadata.arrays().items()
        return {
            name: (tuple(array["shape"]), array["dtype"])
            for name, (array, _) in arrays
            if name not in self.axes
        }

    def _is_laid_out(self) -> bool:
        """Whether the arrays are those of a sweep, by the table of results."""
        lengths = [len(values) for values in self.sweep["axes"].values()]
        sizes = dict(zip(self.axes, lengths, strict=True))
        first = [block.stop - block.start for block in self.blocks[0]]
        arrays = self.metadata.arrays()
        if not set(self.axes) <= set(arrays):
            return False
        for name, (array, attributes) in arrays.items():
            dims, dtype = attributes["_ARRAY_DIMENSIONS"], np.dtype(array["dtype"])
            if name in self.axes:
                expected, chunks, known = [name], array["chunks"], dtype.kind in "biufU"
                own: dict[str, Any] = {}
            else:
                expected = [*self.axes, *datasets.DIMENSIONS[name]]
                chunks = first + array["shape"][len(first) :]
                own, declared = datasets.describe(name), datasets.SWEEP_TYPES[name]
                floats = ("float32", "float64") if declared == "observed" else (declared,)
                known = dtype in [np.dtype(each) for each in floats]
            if not known or dims != expected or array["chunks"] != chunks:
                return False
            if any(sizes.setdefault(d, n) != n for d, n in zip(dims, array["shape"], strict=True)):
                return False
            empty = "NaN" if dtype.kind == "f" and name not in self.axes else None
            if array["fill_value"] != empty or array["filters"] or array["order"] != "C":
                return False
            # descriptions are worded anew now and then
            if attributes.get("units") != own.get("units") or set(attributes) - {
                *own,
                "_ARRAY_DIMENSIONS",
            }:
                return False
        return True

    def write(
        self, chunk: int, arrays: Mapping[str, np.ndarray], origin: Mapping[str, Any]
    ) -> None:
        """Fill one chunk, and last of all mark it as done, with where its runs come from."""
        for name, values in arrays.items():
            self._array(name)[self.blocks[chunk]] = values
        self._write_mark(chunk, arrays, json.loads(json.dumps(origin)))

    def _write_mark(
        self, chunk: int, arrays: Mapping[str, np.ndarray], origin: dict[str, Any]
    ) -> None:
        mark = self._mark(chunk)
        mark.parent.mkdir(exist_ok=True)
        with files.replacing(mark) as scratch:
            digest = self._digest(chunk, arrays, origin)
            scratch.write_text(json.dumps({"digest": digest, **origin}))
        self._origins[chunk] = origin

    def _digest(self, chunk: int, arrays: Mapping[str, np.ndarray], origin: Any) -> str:
        """Of a chunk: its values, where they come from, which chunk it is, and of which store."""
        return digests.of_values(arrays, [chunk, self.metadata.layout, origin])

    def is_intact(self) -> bool:
        """Whether the axes, and what is said of the sweep, are as they were laid out."""
        return not self.metadata.strays() and self._are_axes_intact()

    def _are_axes_intact(self) -> bool:
        try:
            axes = {dim: np.asarray(self._array(dim)) for dim in self.axes}
        except Exception:  # zarr and its codecs raise many kinds
            return False
        if self.metadata.is_covered:
            return self.metadata.values == digests.of_values(axes)
        layout = {name: self.metadata.attributes[name] for name in LAYOUT}
        return self.metadata.values == digests.of_values_before(axes, layout)

    def repair(self, axes: Mapping[str, np.ndarray]) -> None:
        """Write damaged axes, and metadata that are kept twice, again, and remove what a killed
        process has left; raises InputError where that does not help."""
        for name in (*self.metadata.arrays(), MARKS):
            for entry in (self.path / name).glob("*.partial"):
                if re.fullmatch(r".*\.[0-9a-f]{32}\.partial", entry.name):  # as zarr names it
                    entry.unlink()
        if (self.path / MARKS).is_dir():
            files.sweep(self.path / MARKS)
        if self.is_intact():
            return
        self.metadata.restore()
        if not self._are_axes_intact():
            for name, values in axes.items():
                self._array(name)[:] = values
        if not self.is_intact():
            raise digests.changed(self.path)

    def is_done(self, chunk: int) -> bool:
        """Whether a chunk is marked as done and still holds what was written."""
        try:
            origin = json.loads(self._mark(chunk).read_bytes())
            digest = origin.pop("digest")
            arrays = self._arrays(chunk)
            intact = digest == self._digest(chunk, arrays, origin)
            if not intact and not self.metadata.is_covered:
                runs = int(np.prod([block.stop - block.start for block in self.blocks[chunk]]))
                intact = (
                    digest == digests.of_values_before(arrays)
                    and {name: type(value) for name, value in origin.items()} == ORIGIN
                    and set(origin["variables"]) == set(arrays)
                    and origin["runs"] == runs
                )
        except Exception:  # whatever is wrong with it, it has to be run again
            return False
        if intact:
            self._origins[chunk] = origin
        return intact

    def complete(self) -> None:
        """Give a finished store of an earlier version the digests that it lacks."""
        if self.metadata.is_covered:
            return
        for chunk in range(len(self.blocks)):
            self._write_mark(chunk, self._arrays(chunk), self._origins[chunk])
        axes = {dim: np.asarray(self._array(dim)) for dim in self.axes}
        digests.seal(self.path, digests.of_values(axes))
        self.metadata = Metadata(self.path)

    def origins(self) -> list[dict[str, Any]]:
        """What was written with each chunk that was found done or written: when, where, by which
        versions, at what cost."""
        return [origin for _, origin in sorted(self._origins.items())]

    def dataset(self) -> xr.Dataset:
        """The sweep, its variables over time read as they are asked for."""
        stored = open_dataset(self.path)
        axes = {dim: stored[dim].values for dim in self.axes}
        variables = {str(name): v for name, v in stored.variables.items() if name not in axes}
        return datasets.sweep_dataset(variables, self.sweep, axes, self.origins())

    @functools.cached_property
    def _group(self) -> zarr.Group:
        return zarr.open_group(self.path, mode="r+", zarr_format=2, use_consolidated=True)

    def _array(self, name: str) -> zarr.Array[Any]:
        array = self._group[name]
        assert isinstance(array, zarr.Array)
        return array

    def _arrays(self, chunk: int) -> dict[str, np.ndarray]:
        return {name: np.asarray(self._array(name)[self.blocks[chunk]]) for name in self.variables}

    def _mark(self, chunk: int) -> Path:
        return self.path / MARKS / f"{chunk}.json"
