"""Arrays in NPZ files, whose headers are read first and whose values are read in blocks."""

from __future__ import annotations

import contextlib
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from ssm.support import errors

PIECE = 2**20
"""How many bytes are read at once."""


class Header(NamedTuple):
    """What a file says of an array before its values."""

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran_order: bool
    offset: int
    """How many bytes of the member stand before the values."""


def read_header(stored: zipfile.ZipFile, name: str) -> Header:
    """The header of the array `name` in an NPZ file; raises ValueError where the values have another
    length than it says."""
    info = stored.getinfo(f"{name}.npy")
    readers = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
    with stored.open(info) as member:
        major, _ = np.lib.format.read_magic(member)
        shape, fortran_order, dtype = readers[major](member)
        offset = member.tell()
        length = math.prod(shape) * dtype.itemsize
        if dtype.hasobject or info.file_size != offset + length:
            raise ValueError(name)
    return Header(shape, dtype, fortran_order, offset)


def unreadable(path: Path) -> errors.InputError:
    """The error, for the caller to raise, on a file that is no NPZ file or is damaged."""
    return errors.invalid("file", str(path), "a readable NPZ file of plain arrays")


class StoredArray:
    """An array of three axes in an NPZ file, in C order, of which only what is asked for is read.

    `array[a:b, c:d]` reads a part that lies in the file in one piece, that is all of the
    second axis, or one index of the first, into memory. Parts in ascending order are read without going back,
    whether the file is compressed or not; the checksum is compared once the last value is read.
    """

    def __init__(self, path: Path, name: str, header: Header):
        self.shape, self.dtype = header.shape, header.dtype
        self._path, self._name, self._offset = path, name, header.offset
        self._opened = contextlib.ExitStack()
        self._member: IO[bytes] | None = None

    def __getitem__(self, ranges: tuple[slice, slice]) -> np.ndarray:
        """The values of two ranges, read from the file; raises ssm.InputError where the file is damaged."""
        outer, inner = (
            range(*wanted.indices(length))
            for wanted, length in zip(ranges, self.shape, strict=False)
        )
        if outer.step != 1 or inner.step != 1 or (len(outer) > 1 and len(inner) < self.shape[1]):
            raise IndexError(f"{ranges}: not one piece of the file")
        found = np.empty((len(outer), len(inner), self.shape[2]), self.dtype)
        first = (outer.start * self.shape[1] + inner.start) * self.shape[2]
        try:
            self._read(self._offset + first * self.dtype.itemsize, found)
        except Exception:  # zipfile and zlib raise errors of many kinds
            self._close()
            raise unreadable(self._path) from None
        return found

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        """All values, read at once."""
        if copy is False:
            raise ValueError("an array in a file cannot be had without reading it")
        return self[:, :].astype(self.dtype if dtype is None else dtype, copy=False)

    def _read(self, begin: int, into: np.ndarray) -> None:
        """Fill an array with the bytes of the member from `begin` on."""
        if self._member is not None and self._member.tell() > begin:
            self._close()
        if self._member is None:
            # It stays open until the last value is read, since compressed data can be read only from its beginning on.
            stored = self._opened.enter_context(zipfile.ZipFile(self._path))
            self._member = self._opened.enter_context(stored.open(f"{self._name}.npy"))
        # What comes before is read too: from Python 3.13 on `seek` gives the checksum up.
        for _ in _pieces(self._member, begin - self._member.tell()):
            pass
        left = into.reshape(-1).view(np.uint8)
        for piece in _pieces(self._member, len(left)):
            left[: len(piece)] = np.frombuffer(piece, np.uint8)
            left = left[len(piece) :]
        if self._member.tell() == self._offset + math.prod(self.shape) * self.dtype.itemsize:
            self._close()

    def _close(self) -> None:
        self._member = None
        self._opened.close()

    def __del__(self) -> None:
        """Close the file of an array that was not read to its end."""
        self._close()


def _pieces(member: IO[bytes], length: int) -> Iterator[bytes]:
    """The next bytes of a member, so many in all, in pieces."""
    while length:
        piece = member.read(min(length, PIECE))
        if not piece:
            raise EOFError
        yield piece
        length -= len(piece)
