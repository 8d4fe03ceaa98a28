"""Which files in the folder of a store belong to the store, so that nothing else is lost when the store is replaced."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ssm.results.digests import METADATA, Metadata
from ssm.support import errors, files

MARKS = "chunks"
"""The folder in a sweep's store with one file for each finished chunk of runs."""

# The number of a chunk along each dimension of its array. A process that was killed while it wrote
# one has left a partial file, whose name zarr makes of the chunk's and of 32 random digits.
_CHUNK = re.compile(r"((?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))*)(\.[0-9a-f]{32}\.partial)?")

Grid = tuple[int, ...]
"""Number of chunks of an array along each of its dimensions."""


def foreign_entries(path: Path, names: Iterable[str]) -> Iterator[str]:
    """The files and folders in a store that were not written with it, those at the top first.

    A store has its metadata and a folder for each array. This folder holds the metadata of the array and its
    chunks, whose names are places in the grid of chunks that the metadata describe. The store of a
    sweep that was written chunk by chunk has a mark for each chunk of runs, too.

    Args:
        path: the folder of a store whose metadata can be read.
        names: the names of the arrays with which the store may have been written.
    """
    metadata = Metadata(path)
    grids = {name: _grids(path, metadata, name) for name in names}
    # Only a sweep that was written chunk by chunk has these attributes.
    has_marks = not {"dimensions", "blocks"}.isdisjoint(metadata.attributes)
    folders: list[Path] = []
    for entry in sorted(path.iterdir()):
        known = entry.name in grids or (has_marks and entry.name == MARKS)
        if known and entry.is_dir() and not entry.is_symlink():
            folders.append(entry)
        elif entry.name not in (".zattrs", ".zgroup", METADATA) or not _is_plain_file(entry):
            yield entry.name
    # Along the axes of a sweep an array has as many chunks as the sweep, and along others one.
    num_chunks = max((math.prod(grid) for each in grids.values() for grid in each), default=0)
    for folder in folders:
        for entry in sorted(folder.iterdir()):
            if folder.name in grids:
                belongs = _is_part_of_array(entry, grids[folder.name])
            else:
                belongs = _is_mark(entry, num_chunks)
            if not belongs:
                yield f"{folder.name}/{entry.name}"


def misplaced_chunks(path: Path) -> Iterator[Path]:
    """The files in a store that have the name of a chunk, but a place outside the grid of chunks.

    The metadata of the whole store may be damaged: the grid of an array is read from what is left of them or of the
    metadata of the array, and an array is skipped where both are lost.
    """
    try:
        stored = Metadata(path).arrays()
    except errors.InputError:
        stored = {}
    for folder in sorted(path.iterdir() if path.is_dir() else ()):
        layouts = [_stored_layout(folder), *stored.get(folder.name, ())[:1]]
        grids = [grid for grid in map(_grid_of, layouts) if grid is not None]
        for entry in sorted(folder.iterdir() if grids and folder.is_dir() else ()):
            if _CHUNK.fullmatch(entry.name) and not _is_part_of_array(entry, grids):
                yield entry


def _is_part_of_array(entry: Path, grids: Iterable[Grid]) -> bool:
    """Whether an entry of the folder of an array is the metadata of the array, or a chunk within one of the grids."""
    if not _is_plain_file(entry):
        return False
    if entry.name in (".zarray", ".zattrs"):
        return True
    chunk = _CHUNK.fullmatch(entry.name)
    if chunk is None:
        return False
    place, is_partial = [int(number) for number in chunk[1].split(".")], chunk[2] is not None
    for grid in grids:
        lengths = grid or (1,)  # The one chunk of a single number has the name 0.
        # A partial file lacks the last number of its chunk, unless that is the only one.
        num_numbers = max(len(lengths) - 1, 1) if is_partial else len(lengths)
        if len(place) == num_numbers and all(i < n for i, n in zip(place, lengths, strict=False)):
            return True
    return False


def _grid_of(layout: Any) -> Grid | None:
    """The grid of chunks that the metadata of an array, parsed JSON, describe; None where they are damaged."""
    try:
        shape, sizes = list(layout["shape"]), list(layout["chunks"])
    except (KeyError, TypeError):
        return None
    numbers = all(type(number) is int for number in (*shape, *sizes))
    if not numbers or len(shape) != len(sizes) or min(shape, default=0) < 0 or 0 in sizes:
        return None
    return None if min(sizes, default=1) < 0 else tuple(map(_num_chunks, shape, sizes))


def _num_chunks(length: int, size: int) -> int:
    return -(-length // size)


def _grids(path: Path, metadata: Metadata, name: str) -> list[Grid]:
    """The possible grids of an array: that in the metadata of the store and, where no digest vouches for these, also that
    in the metadata of the array, since either may be damaged."""
    layouts = [metadata.arrays()[name][0]]
    if not metadata.is_sealed:
        layouts.append(_stored_layout(path / name))
    grids = (_grid_of(layout) for layout in layouts)
    return [grid for grid in grids if grid is not None]


def _stored_layout(folder: Path) -> Any:
    """The JSON of the metadata in the folder of an array; None where they cannot be read."""
    try:
        return json.loads((folder / ".zarray").read_bytes())
    except (OSError, ValueError):
        return None


def _is_mark(entry: Path, num_chunks: int) -> bool:
    """Whether an entry is the mark of one of the chunks of a sweep, or such a mark that a killed process was writing."""
    mark = re.fullmatch(r"(\.?)(0|[1-9][0-9]*)\.json(.*)", entry.name)
    if mark is None or int(mark[2]) >= num_chunks:
        return False
    if mark[1]:
        return mark[3] == files.HIDDEN and files.is_left_behind(entry)
    return not mark[3] and _is_plain_file(entry)


def _is_plain_file(entry: Path) -> bool:
    return entry.is_file() and not entry.is_symlink()
