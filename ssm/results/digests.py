"""What the digests of a store cover: its layout, which is all that it says of itself, and its
values."""

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

METADATA = ".zmetadata"  # the file that is believed; others must agree with it
COVERING = re.compile(r"[0-9a-f]{64}\.[0-9a-f]{64}")  # digests of the layout and of the values


class StoreWarning(UserWarning):
    """Said of a store that opens although its digest does not cover all of it."""


class Metadata:
    """All that a store says of itself: attributes, and of each array its type, shape, dimensions,
    encoding and attributes."""

    def __init__(self, path: Path) -> None:
        """Raises ssm.InputError where there is no store that can be read."""
        self.path = path
        try:
            document = json.loads((path / METADATA).read_bytes())
            self.entries: dict[str, Any] = document["metadata"]
            self.attributes = dict(self.entries[".zattrs"])
            self.digest = self.attributes.pop("digest", None)
            told = document | {"metadata": self.entries | {".zattrs": self.attributes}}
            self.layout = hashlib.sha256(_written(told).encode()).hexdigest()
            """The digest of all of it, but for the digest that is in it."""
        except Exception as error:  # JSON of another kind raises many
            raise unreadable(path, error) from None
        self.is_covered = isinstance(self.digest, str) and bool(COVERING.fullmatch(self.digest))
        """Whether the store has the digests of both. Those of earlier versions cover less."""

    @property
    def values(self) -> Any:
        """The digest of the values; of earlier versions the only one."""
        return self.digest.partition(".")[2] if self.is_covered else self.digest

    def check(self) -> None:
        """Raise ssm.InputError where the layout is not the one that was written."""
        if self.is_covered and not self.digest.startswith(f"{self.layout}."):
            raise changed(self.path)

    def arrays(self) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
        """Of each array how it is laid out, and its attributes."""
        end = "/.zarray"
        names = [name.removesuffix(end) for name in self.entries if name.endswith(end)]
        return {
            name: (self.entries[name + end], self.entries.get(f"{name}/.zattrs", {}))
            for name in names
        }

    def strays(self) -> list[str]:
        """The metadata files of single arrays and groups that do not say the same."""
        return [name for name, entry in self.entries.items() if not self._agrees(name, entry)]

    def _agrees(self, name: str, entry: Any) -> bool:
        try:
            return _written(json.loads((self.path / name).read_bytes())) == _written(entry)
        except Exception:  # lost, or no JSON
            return False

    def restore(self) -> None:
        """Write those files again."""
        for name in self.strays():
            (self.path / name).parent.mkdir(exist_ok=True)
            (self.path / name).write_text(_written(self.entries[name]))


def seal(path: Path, values: str) -> None:
    """Write the digests of a store's layout and of its values into it, last of all."""
    metadata = Metadata(path)
    attributes = metadata.attributes | {"digest": f"{metadata.layout}.{values}"}
    document = json.loads((path / METADATA).read_bytes())
    document["metadata"][".zattrs"] = attributes
    (path / ".zattrs").write_text(_written(attributes))
    (path / METADATA).write_text(_written(document))


def of_values(arrays: Mapping[str, np.ndarray], told: Any = None) -> str:
    """A hash of arrays, with their names, types and shapes, and of what is told beside them."""
    sha = hashlib.sha256(_written(told).encode())
    for name, values in sorted(arrays.items()):
        if values.dtype.kind in "UTO":
            kind, data = "text", _written(list(map(str, values.ravel().tolist()))).encode()
        else:
            values = values.astype(values.dtype.newbyteorder("="), copy=False)
            if values.dtype.kind == "f":
                values = np.where(np.isnan(values), np.nan, values)  # NaNs of one kind only
            kind, data = values.dtype.str, np.ascontiguousarray(values).tobytes()
        sha.update(_written([name, kind, values.shape]).encode())
        sha.update(data)
    return sha.hexdigest()


def of_dataset(dataset: xr.Dataset) -> str:
    """The hash of all variables of a Dataset."""
    return of_values({str(name): dataset[name].values for name in dataset.variables})


def of_values_before(arrays: Mapping[str, np.ndarray], attributes: Any = None) -> str:
    """The digest of earlier versions: values and shapes, and attributes."""
    sha = hashlib.sha256(_written(attributes).encode())
    for name, values in sorted(arrays.items()):
        sha.update(_written([name, values.shape]).encode())
        if values.dtype.kind == "f":
            values = np.where(np.isnan(values), np.nan, values)
        elif values.dtype.kind in "UTO":
            values = np.array(" ".join(map(str, values.ravel())).encode())
        sha.update(np.ascontiguousarray(values).tobytes())
    return sha.hexdigest()


def of_dataset_before(dataset: xr.Dataset) -> str:
    """The same of a Dataset, with the attributes of its variables."""
    arrays = {str(name): dataset[name].values for name in dataset.variables}
    attributes = {name: dataset[name].attrs for name in arrays}
    return of_values_before(arrays, [dataset.attrs, attributes])


def _written(content: Any) -> str:
    return json.dumps(content, sort_keys=True)


def unreadable(path: Path, error: Exception) -> errors.InputError:
    """The error for a store that cannot be opened."""
    return errors.invalid("store", str(path), f"a readable ssm store ({type(error).__name__})")


def changed(path: Path) -> errors.InputError:
    """The error for a store that is not as it was written."""
    return errors.invalid("store", str(path), "an undamaged store; its contents have changed")
