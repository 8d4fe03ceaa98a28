"""A Dataset written to a zarr store in one piece, with its digests."""

from __future__ import annotations

from pathlib import Path

import xarray as xr

from ssm.results import digests
from ssm.results.store_layouts import COMPRESSOR
from ssm.results.sweep_stores import open_dataset
from ssm.support import errors, files


def write(dataset: xr.Dataset, path: Path) -> None:
    """Write a Dataset whole or not at all, and replace what is at `path`. The caller has to know that it may be replaced.

    Raises:
        ssm.InputError: the Dataset would not be the same when it is read again, or another process is writing there.
    """
    bare = dataset.drop_encoding()
    compressed = {name: {"compressors": (COMPRESSOR,)} for name in bare.variables}
    allowed = "a Dataset of numbers and words, which come back from a store as they are"
    no_dataset = errors.invalid("dataset", type(dataset).__name__, allowed)
    with files.replacing(path) as scratch:
        try:
            bare.to_zarr(scratch, mode="w-", zarr_format=2, consolidated=True, encoding=compressed)
        except (
            TypeError,
            ValueError,
        ):  # The Dataset holds something that neither arrays nor JSON can hold.
            raise no_dataset from None
        digest = digests.of_dataset(bare)
        digests.seal(scratch, digest)
        if digests.of_dataset(open_dataset(scratch)) != digest:
            raise no_dataset
