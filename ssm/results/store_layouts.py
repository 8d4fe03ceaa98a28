"""How the store of a sweep is laid out on disk: an array for each variable, over the whole grid."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numcodecs import Zstd

from ssm.results import digests, schema
from ssm.results.belongings import MARKS
from ssm.results.schema import SWEEP_FORMAT
from ssm.results.variables import OBSERVED

# Zstd refuses to decompress a file that was cut off. Blosc, the usual compressor, would read beyond its end.
COMPRESSOR = Zstd()


def lay_out(
    path: Path,
    sweep: Mapping[str, Any],
    coordinates: Mapping[str, np.ndarray],
    variables: Mapping[str, tuple[tuple[int, ...], str]],
    blocks: Sequence[tuple[slice, ...]],
) -> None:
    """Write the layout of a store into a folder that no other process reads yet. The arguments are those of
    `SweepStore.create`."""
    chunk = tuple(block.stop - block.start for block in blocks[0])
    dimensions = schema.axis_coordinates(sweep["axes"])
    axes = list(dict.fromkeys(dimensions.values()))
    known = schema.SWEPT | schema.own_variables(sweep.get("given", {}))
    group = zarr.open_group(path, mode="w-", zarr_format=2)
    for name, values in coordinates.items():
        dims: dict[str, Any] = {"_ARRAY_DIMENSIONS": [dimensions[name]]}
        group.create_array(
            name, data=values, compressors=COMPRESSOR, fill_value=None, attributes=dims
        )
    for name, (shape, dtype) in variables.items():
        group.create_array(
            name,
            shape=shape,
            dtype=dtype,
            chunks=chunk + shape[len(chunk) :],
            compressors=COMPRESSOR,
            # xarray would read integers or words that equal a fill value as missing, as NaN.
            fill_value=np.nan if np.dtype(dtype).kind == "f" else None,
            attributes={
                **known[name].attributes,
                "_ARRAY_DIMENSIONS": [*axes, *known[name].dims],
            },
        )
    layout = {
        "sweep": json.dumps(sweep),
        "dimensions": json.dumps(axes),
        "blocks": json.dumps([[[s.start, s.stop] for s in block] for block in blocks]),
    }
    group.attrs.update(format=SWEEP_FORMAT, **layout)
    zarr.consolidate_metadata(group.store, zarr_format=2)
    (path / MARKS).mkdir()
    digests.seal(path, digests.of_values(coordinates))


def is_laid_out(
    arrays: Mapping[str, tuple[dict[str, Any], dict[str, Any]]],
    sweep: Mapping[str, Any],
    axes: Sequence[str],
    coordinates: Mapping[str, str],
    blocks: Sequence[tuple[slice, ...]],
) -> bool:
    """Whether the arrays of a store have the layout that the table of results says.

    Args:
        arrays: layout and attributes of each array, as `Metadata.arrays` returns them.
        sweep: the stored sweep.
        axes: the dimensions of the axes of the sweep.
        coordinates: the coordinates of its axes, each with its dimension.
        blocks: the part of the grid in each chunk.
    """
    lengths = [len(values) for values in sweep["axes"].values()]
    sizes = dict(zip(axes, lengths, strict=True))
    first = [block.stop - block.start for block in blocks[0]]
    if axes != list(dict.fromkeys(coordinates.values())):
        return False
    if not set(coordinates) <= set(arrays):
        return False
    variables = schema.SWEPT | schema.own_variables(sweep.get("given", {}))
    for name, (array, attributes) in arrays.items():
        dims, dtype = attributes["_ARRAY_DIMENSIONS"], np.dtype(array["dtype"])
        if name in coordinates:
            expected, chunks = [coordinates[name]], array["chunks"]
            known = dtype.kind in "biufU"
            described: dict[str, str] = {}
        else:
            expected = [*axes, *variables[name].dims]
            chunks = first + array["shape"][len(first) :]
            described, declared = variables[name].attributes, variables[name].dtype
            floats = ("float32", "float64") if declared == OBSERVED else (declared,)
            known = dtype in [np.dtype(each) for each in floats]
        if not known or dims != expected or array["chunks"] != chunks:
            return False
        if any(sizes.setdefault(d, n) != n for d, n in zip(dims, array["shape"], strict=True)):
            return False
        empty = "NaN" if dtype.kind == "f" and name not in coordinates else None
        if array["fill_value"] != empty or array["filters"] or array["order"] != "C":
            return False
        # The description is not compared, since an earlier version may have had other words for it.
        others = set(attributes) - {*described, "_ARRAY_DIMENSIONS"}
        if attributes.get("units") != described.get("units") or others:
            return False
    return True
