"""Stores that are read later than they are opened, and may have been replaced meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore

from ssm.results import digests


class OpenedStore(LocalStore):
    """A folder whose values are read only as long as it is the store that was opened. A sweep that grew has
    other values where they were, which would be taken for those of the old one."""

    def __init__(self, root: Path | str, *, read_only: bool = False) -> None:
        super().__init__(root, read_only=read_only)
        self._opened = self._identity()

    def _identity(self) -> Any:
        try:
            status = (self.root / digests.METADATA).stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino, status.st_mtime_ns

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """The bytes of a key; raises ssm.InputError where the store is another one by then."""
        found = await super().get(key, prototype, byte_range)
        if self._identity() != self._opened:
            raise digests.replaced(self.root)
        return found
