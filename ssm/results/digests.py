"""Digests of a store, which show that neither its layout (the content of its metadata) nor its values
have changed since it was written."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ssm.support import errors

METADATA = ".zmetadata"  # This file is read; the files of single arrays must agree with it.
COVERING = re.compile(r"[0-9a-f]{64}\.[0-9a-f]{64}")  # The digests of the layout and of the values.


class StoreWarning(UserWarning):
    """A store was opened although its digest does not cover all of it, or its sweep is not finished."""


class Metadata:
    """The metadata of a store: its attributes, and the type, shape, dimensions, encoding and
    attributes of each array."""

    def __init__(self, path: Path) -> None:
        """Raises ssm.InputError where there is no store, or where its metadata cannot be read."""
        self.path = path
        try:
            self._document = json.loads((path / METADATA).read_bytes())
            self.entries: dict[str, Any] = self._document["metadata"]
            self.attributes = dict(self.entries[".zattrs"])
            self.digest = self.attributes.pop("digest", None)
            without_digest = self.text_with(self.attributes)
            self.layout = hashlib.sha256(without_digest.encode()).hexdigest()
            """The digest of all the metadata but the stored digest itself."""
        except Exception as error:  # JSON of another structure raises many kinds of errors.
            raise unreadable(path, error) from None
        self.is_covered = isinstance(self.digest, str) and bool(COVERING.fullmatch(self.digest))
        """Whether the stored digest covers both the layout and the values. The digest of an earlier version covers less."""

    @property
    def values(self) -> object:
        """The stored digest of the values, which is the only one in a store of an earlier version."""
        return self.digest.partition(".")[2] if self.is_covered else self.digest

    @property
    def is_sealed(self) -> bool:
        """Whether the digest shows that the metadata have not changed since they were written."""
        return self.is_covered and self.digest.startswith(f"{self.layout}.")

    def check(self) -> None:
        """Raise ssm.InputError where the layout has changed since it was written."""
        if self.is_covered and not self.is_sealed:
            raise changed(self.path)

    def text_with(self, attributes: dict[str, Any]) -> str:
        """The text of the metadata of the same store with these attributes."""
        entries = self.entries | {".zattrs": attributes}
        return _as_text(self._document | {"metadata": entries})

    def arrays(self) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
        """The layout and the attributes of each array, by its name."""
        suffix = "/.zarray"
        names = [name.removesuffix(suffix) for name in self.entries if name.endswith(suffix)]
        return {
            name: (self.entries[name + suffix], self.entries.get(f"{name}/.zattrs", {}))
            for name in names
        }

    def strays(self) -> list[str]:
        """The metadata files of single arrays and groups that differ from those of the store."""
        return [name for name, entry in self.entries.items() if not self._agrees(name, entry)]

    def _agrees(self, name: str, entry: object) -> bool:
        try:
            return _as_text(json.loads((self.path / name).read_bytes())) == _as_text(entry)
        except Exception:  # The file may be lost, or be no JSON.
            return False

    def restore(self) -> None:
        """Rewrite those metadata files of single arrays and groups that differ from the metadata of the store."""
        for name in self.strays():
            (self.path / name).parent.mkdir(exist_ok=True)
            (self.path / name).write_text(_as_text(self.entries[name]))


def seal(path: Path, values: str) -> None:
    """Write the digests of a store's layout and of its values into it, which completes the store.

    Args:
        path: the folder of the store.
        values: the digest of its values.
    """
    metadata = Metadata(path)
    attributes = metadata.attributes | {"digest": f"{metadata.layout}.{values}"}
    (path / ".zattrs").write_text(_as_text(attributes))
    (path / METADATA).write_text(metadata.text_with(attributes))


def of_values(arrays: Mapping[str, np.ndarray], context: object = None) -> str:
    """The digest of arrays with their names, types and shapes.

    Args:
        arrays: arrays by name, in any order.
        context: JSON types that the digest covers beside the arrays.
    """
    sha = hashlib.sha256(_as_text(context).encode())
    for name, values in sorted(arrays.items()):
        if values.dtype.kind in "UTO":
            kind, data = "text", _as_text(list(map(str, values.ravel().tolist()))).encode()
        else:
            values = values.astype(values.dtype.newbyteorder("="), copy=False)
            if values.dtype.kind == "f":
                values = np.where(np.isnan(values), np.nan, values)  # NaNs get the same bits.
            kind, data = values.dtype.str, np.ascontiguousarray(values).tobytes()
        sha.update(_as_text([name, kind, values.shape]).encode())
        sha.update(data)
    return sha.hexdigest()


def of_dataset(dataset: xr.Dataset) -> str:
    """The digest of all variables of a Dataset."""
    return of_values({str(name): dataset[name].values for name in dataset.variables})


def of_values_before(arrays: Mapping[str, np.ndarray], attributes: object = None) -> str:
    """The digest that earlier versions wrote, which covers values, shapes and attributes."""
    sha = hashlib.sha256(_as_text(attributes).encode())
    for name, values in sorted(arrays.items()):
        sha.update(_as_text([name, values.shape]).encode())
        if values.dtype.kind == "f":
            values = np.where(np.isnan(values), np.nan, values)
        elif values.dtype.kind in "UTO":
            values = np.array(" ".join(map(str, values.ravel())).encode())
        sha.update(np.ascontiguousarray(values).tobytes())
    return sha.hexdigest()


def of_dataset_before(dataset: xr.Dataset) -> str:
    """The digest that earlier versions wrote of a Dataset, with the attributes of its variables."""
    arrays = {str(name): dataset[name].values for name in dataset.variables}
    attributes = {name: dataset[name].attrs for name in arrays}
    return of_values_before(arrays, [dataset.attrs, attributes])


def _as_text(content: object) -> str:
    """JSON types as text that does not depend on the order of their keys."""
    return json.dumps(content, sort_keys=True)


def unreadable(path: Path, error: Exception) -> errors.InputError:
    """The error for a store that cannot be opened."""
    return errors.invalid("store", str(path), f"a readable ssm store ({type(error).__name__})")


def changed(path: Path) -> errors.InputError:
    """The error for a store that has changed since it was written."""
    return errors.invalid("store", str(path), "an undamaged store; its contents have changed")


def replaced(path: Path) -> errors.InputError:
    """The error for a store that has been replaced by another one since it was opened."""
    return errors.invalid("store", str(path), "opened again: it has grown or been replaced since")
