"""A sweep on disk, written chunk by chunk as it is computed."""

from __future__ import annotations

import functools
import json
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

from ssm.results import datasets, digests, schema, store_layouts
from ssm.results.belongings import MARKS
from ssm.results.digests import Metadata
from ssm.results.opened import OpenedStore
from ssm.results.schema import FORMAT, SWEEP_FORMAT
from ssm.support import errors, files

LAYOUT = ("sweep", "dimensions", "blocks")
"""The attributes of a store that describe its sweep."""
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
    """A store as a Dataset of xarray, which reads values when they are asked for; raises ssm.InputError
    where it cannot be opened."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # They are about stores of other programs.
            return xr.open_zarr(OpenedStore(path, read_only=True), chunks=None, consolidated=True)
    except Exception as error:  # zarr and its codecs raise many kinds of errors.
        raise digests.unreadable(path, error) from None


class SweepStore:
    """A zarr store of a sweep that is written chunk by chunk.

    It holds an array for each variable over the whole grid, with a zarr chunk for each chunk of runs.
    Each chunk of runs has a file, its mark, which says which runs are done and where each part of them
    comes from. As a rule a chunk is one part; it has several where the store has grown.
    """

    def __init__(self, path: Path) -> None:
        """Raises ssm.InputError where there is no such store, or where its layout has changed."""
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
            self.coordinates = schema.axis_coordinates(self.sweep["axes"])
            self.blocks = tuple(
                tuple(slice(*ends) for ends in block) for block in json.loads(attributes["blocks"])
            )
            laid_out = store_layouts.is_laid_out(
                self.metadata.arrays(), self.sweep, self.axes, self.coordinates, self.blocks
            )
        except Exception as error:  # The attributes may be no JSON, or JSON of another structure.
            raise digests.unreadable(path, error) from None
        if not laid_out:
            raise digests.changed(path)
        self._parts: dict[int, list[dict[str, Any]]] = {}
        self._opened: dict[str, zarr.Array[Any]] = {}

    @classmethod
    def create(
        cls,
        path: Path,
        sweep: Mapping[str, Any],
        coordinates: Mapping[str, np.ndarray],
        variables: Mapping[str, tuple[tuple[int, ...], str]],
        blocks: Sequence[tuple[slice, ...]],
    ) -> SweepStore:
        """A new store that is laid out and not yet filled. Its folder appears whole or not at all.

        Args:
            path: the folder to write.
            sweep: the base Config and the axes, kept as JSON.
            coordinates: values of each coordinate of the axes (`schema.axis_coordinates`).
            variables: shape (axes first) and type of each variable, by name.
            blocks: the part of the grid in each chunk. No chunk is larger than the first.
        """
        files.check_output(path, overwrite=False)
        with files.replacing(path) as scratch:
            store_layouts.lay_out(scratch, sweep, coordinates, variables, blocks)
        return cls(path)

    @property
    def variables(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and type of each variable, as `create` takes them."""
        arrays = self.metadata.arrays().items()
        return {
            name: (tuple(array["shape"]), array["dtype"])
            for name, (array, _) in arrays
            if name not in self.coordinates
        }

    def write(
        self,
        chunk: int,
        arrays: Mapping[str, np.ndarray],
        parts: Sequence[Mapping[str, Any]],
        places: Sequence[int] | None = None,
    ) -> None:
        """Write runs of one chunk, and after that mark them as done. Other runs of the chunk that are known to be done
        are not changed.

        Args:
            chunk: the number of the chunk.
            arrays: the values of the runs by name, runs first.
            parts: the origin and cost of the runs: one part for all of them, or several, each with the `places` of
                its runs in the chunk.
            places: the places of all these runs in the chunk; the whole chunk when left out.
        """
        block, known = self.blocks[chunk], self._parts.get(chunk, [])
        shape = tuple(part.stop - part.start for part in block)
        size = math.prod(shape)
        places = list(range(size)) if places is None else list(places)
        whole = {}
        for name, values in arrays.items():
            array = self._array(name)
            if known:
                filled = np.asarray(array[block]).reshape(size, *values.shape[1:])
            else:
                filling = datasets.filling(values.dtype)
                filled = np.full((size, *values.shape[1:]), filling, values.dtype)
            filled[places] = values
            whole[name] = filled.reshape(shape + values.shape[1:])
            array[block] = whole[name]
        if "places" not in parts[0] and (known or len(places) < size):
            parts = [{**parts[0], "places": places}]
        self._write_mark(chunk, whole, json.loads(json.dumps([*known, *parts])))

    def _write_mark(
        self, chunk: int, arrays: Mapping[str, np.ndarray], parts: list[dict[str, Any]]
    ) -> None:
        """Write the file that says which runs of a chunk are done."""
        mark = self._mark(chunk)
        mark.parent.mkdir(exist_ok=True)
        content = parts[0] if "places" not in parts[0] else {"parts": parts}
        with files.replacing(mark) as scratch:
            digest = self._digest(chunk, arrays, content)
            scratch.write_text(json.dumps({"digest": digest, **content}))
        self._parts[chunk] = parts

    def _digest(
        self, chunk: int, arrays: Mapping[str, np.ndarray], content: Mapping[str, Any]
    ) -> str:
        """The digest of a chunk. It covers the values and the origin of its runs that are done, the number of the chunk
        and the layout of the store."""
        if "parts" in content:
            places = [place for part in content["parts"] for place in part["places"]]
            axes = len(self.axes)
            arrays = {
                name: values.reshape(-1, *values.shape[axes:])[places]
                for name, values in arrays.items()
            }
        return digests.of_values(arrays, [chunk, self.metadata.layout, content])

    def is_intact(self) -> bool:
        """Whether the axes and the metadata are unchanged since the store was laid out."""
        return not self.metadata.strays() and self._are_axes_intact()

    def _are_axes_intact(self) -> bool:
        try:
            coordinates = self.coordinate_values()
        except Exception:  # zarr and its codecs raise many kinds of errors.
            return False
        if self.metadata.is_covered:
            return self.metadata.values == digests.of_values(coordinates)
        layout = {name: self.metadata.attributes[name] for name in LAYOUT}
        return self.metadata.values == digests.of_values_before(coordinates, layout)

    def repair(self, coordinates: Mapping[str, np.ndarray]) -> None:
        """Remove the files that a killed process has left, and rewrite damaged axes and damaged metadata of single
        arrays; raises ssm.InputError where the store is still damaged after that."""
        for name in (*self.metadata.arrays(), MARKS):
            for entry in (self.path / name).glob("*.partial"):
                if re.fullmatch(r".*\.[0-9a-f]{32}\.partial", entry.name):  # zarr gives such names.
                    entry.unlink()
        if (self.path / MARKS).is_dir():
            files.sweep(self.path / MARKS)
        if self.is_intact():
            return
        self.metadata.restore()
        if not self._are_axes_intact():
            for name, values in coordinates.items():
                self._array(name)[:] = values
        if not self.is_intact():
            raise digests.changed(self.path)

    def num_runs(self, chunk: int) -> int:
        """Number of runs of a chunk."""
        return math.prod(part.stop - part.start for part in self.blocks[chunk])

    def is_done(self, chunk: int) -> bool:
        """Whether all runs of a chunk are marked as done and their values are unchanged since then."""
        return len(self.done_runs(chunk)) == self.num_runs(chunk)

    def is_marked(self, chunk: int) -> bool:
        """Whether a mark says that some run of a chunk is done."""
        return self._mark(chunk).exists()

    def look_through(self) -> list[int]:
        """Read all chunks, and return the numbers of those that are not done or done only in part.

        Raises ssm.InputError where the axes or the metadata have changed since the store was laid out, or the values
        of a chunk since it was marked as done. A chunk that is marked after this method has looked for its mark
        counts as not done.
        """
        if not self.is_intact():
            raise digests.changed(self.path)
        missing, damaged = [], 0
        for chunk in range(len(self.blocks)):
            marked, done = self.is_marked(chunk), len(self.done_runs(chunk))
            damaged += marked and not done
            if done < self.num_runs(chunk):
                missing.append(chunk)
        if missing and not (self.path / MARKS).is_dir():
            damaged = len(missing)
        if damaged:
            allowed = (
                f"a finished sweep: {damaged} of its {len(self.blocks)} chunks are missing or damaged; the "
                "command that wrote it goes on"
            )
            raise errors.invalid("store", str(self.path), allowed)
        return missing

    def done_runs(self, chunk: int) -> list[int]:
        """The places of those runs of a chunk that are marked as done and unchanged since then."""
        return self.read(chunk)[0]

    def read(self, chunk: int) -> tuple[list[int], dict[str, np.ndarray]]:
        """The places of the done runs of a chunk, and all of its arrays, which are read for the digest. Both are empty
        where the chunk has no mark or has changed since it was written."""
        self._parts.pop(chunk, None)
        try:
            content = json.loads(self._mark(chunk).read_bytes())
            digest = content.pop("digest")
            arrays = self._arrays(chunk)
            intact = digest == self._digest(chunk, arrays, content)
            if not intact and not self.metadata.is_covered:
                intact = (
                    digest == digests.of_values_before(arrays)
                    and {name: type(value) for name, value in content.items()} == ORIGIN
                    and set(content["variables"]) == set(arrays)
                    and content["runs"] == self.num_runs(chunk)
                )
        except Exception:  # Whatever is wrong with the chunk, it has to be run again.
            return [], {}
        if not intact:
            return [], {}
        self._parts[chunk] = content.get("parts", [content])
        if "parts" not in content:
            return list(range(self.num_runs(chunk))), arrays
        return sorted(place for part in content["parts"] for place in part["places"]), arrays

    def complete(self) -> None:
        """Give a finished store of an earlier version the digests of this version."""
        if self.metadata.is_covered:
            return
        for chunk in range(len(self.blocks)):
            self._write_mark(chunk, self._arrays(chunk), self._parts[chunk])
        coordinates = self.coordinate_values()
        digests.seal(self.path, digests.of_values(coordinates))
        self.metadata = Metadata(self.path)
        del self._group  # It was opened as the store before its digests changed.
        self._opened.clear()

    def origins(self) -> list[dict[str, Any]]:
        """The origin of each part that this object has written or found done: when, where and by which versions its runs
        were computed, and at what cost in seconds."""
        return [part for _, parts in sorted(self._parts.items()) for part in parts]

    def parts(self) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """The index of the part to which each run of the grid belongs, -1 for a run that is not known to be done, and
        the parts of all chunks that were found done in whole or in part."""
        shape = tuple(max(block[i].stop for block in self.blocks) for i in range(len(self.axes)))
        belongs, parts = np.full(shape, -1), []
        for chunk, of_chunk in self._parts.items():
            block = self.blocks[chunk]
            numbers = np.full(self.num_runs(chunk), -1)
            for part in of_chunk:
                numbers[part.get("places", slice(None))] = len(parts)
                parts.append(part)
            belongs[block] = numbers.reshape(belongs[block].shape)
        return belongs, parts

    def values(self, name: str, places: Sequence[np.ndarray]) -> np.ndarray:
        """The values of a variable at the given places along each axis."""
        array = self._array(name)
        selection = (*places, *(slice(None) for _ in array.shape[len(places) :]))
        return np.asarray(array.oindex[selection])

    def dataset(self) -> xr.Dataset:
        """The sweep as a Dataset, which reads the values of a variable over time when they are asked for."""
        stored = open_dataset(self.path)
        coordinates = {name: stored[name].values for name in self.coordinates}
        variables = {
            str(name): v for name, v in stored.variables.items() if name not in coordinates
        }
        return datasets.sweep_dataset(variables, self.sweep, coordinates, self.origins())

    def coordinate_values(self) -> dict[str, np.ndarray]:
        """Values of each coordinate of the axes."""
        return {name: np.asarray(self._array(name)) for name in self.coordinates}

    @functools.cached_property
    def _group(self) -> zarr.Group:
        return zarr.open_group(
            OpenedStore(self.path), mode="r+", zarr_format=2, use_consolidated=True
        )

    def _array(self, name: str) -> zarr.Array[Any]:
        if (
            name not in self._opened
        ):  # Opening an array takes about as long as reading a chunk of it.
            array = self._group[name]
            assert isinstance(array, zarr.Array)
            self._opened[name] = array
        return self._opened[name]

    def _arrays(self, chunk: int) -> dict[str, np.ndarray]:
        return {name: np.asarray(self._array(name)[self.blocks[chunk]]) for name in self.variables}

    def _mark(self, chunk: int) -> Path:
        return self.path / MARKS / f"{chunk}.json"
