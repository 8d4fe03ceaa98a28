"""Stores whose values are read later than the store is opened, and that may have been replaced meanwhile."""

from __future__ import annotations

from pathlib import Path

from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore

from ssm.results import digests


class OpenedStore(LocalStore):
    """A store whose values are read only as long as its folder still holds the store that was opened. A sweep that has
    grown has other values at the same places, which would be taken for those of the sweep that was opened."""

    def __init__(self, root: Path | str, *, read_only: bool = False) -> None:
        super().__init__(root, read_only=read_only)
        self._opened = self._identity()

    def _identity(self) -> tuple[int, int, int] | None:
        """The device, the inode and the time of the last change of the metadata of the store; None where there are none."""
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
        """The bytes of a key; raises ssm.InputError where the store has been replaced by then."""
        found = await super().get(key, prototype, byte_range)
        if self._identity() != self._opened:
            raise digests.replaced(self.root)
        return found
