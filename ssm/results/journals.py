"""Rows of numbers on disk, each of which can be read as soon as it is appended.

A journal is a folder with one file: a line of JSON, its header, which says what the numbers of a row are, and
then the rows, each with a checksum of itself and of the header. Each row is appended by one write, so that a process that is killed
loses at most the row that it is writing; readers skip a row that is there in part only.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ssm.results import digests
from ssm.results.schema import LOG_FORMAT
from ssm.support import errors, files, locks

NAME = "journal"
CHECKSUM = 4  # The bytes of a checksum.


def is_journal(path: Path) -> bool:
    """Whether a folder is a journal."""
    return (path / NAME).is_file()


def stamp(path: Path) -> tuple[int, int] | None:
    """The length of a journal in bytes and the time of its last change in nanoseconds, which change whenever rows are added or removed;
    None where there is no journal."""
    try:
        status = (path / NAME).stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def read(path: Path) -> tuple[dict[str, Any], np.ndarray]:
    """The header of a journal and its rows, shape (rows, numbers). A row that is still being written is left out.

    Raises:
        ssm.InputError: the journal is damaged.
    """
    try:
        content = (path / NAME).read_bytes()
        line, _, rest = content.partition(b"\n")
        header = json.loads(line)
        if header["format"] != LOG_FORMAT:
            allowed = f"a log in the format {LOG_FORMAT}, not {header['format']}"
            raise errors.invalid("store", str(path), allowed)
        size = _num_numbers(header) * 8
    except errors.InputError:
        raise
    except Exception as error:  # The header may be no JSON, or JSON of another structure.
        raise digests.unreadable(path, error) from None
    number = len(rest) // (size + CHECKSUM)
    rows = np.frombuffer(rest, np.uint8, number * (size + CHECKSUM)).reshape(
        number, size + CHECKSUM
    )
    seed = zlib.crc32(line)
    for place, row in enumerate(rows):
        if row[size:].tobytes() != _checksum(row[:size].tobytes(), seed):
            # A machine that lost its power may have cut off the last row.
            if place == number - 1:
                rows = rows[:-1]
                break
            raise digests.changed(path)
    return header, np.ascontiguousarray(rows[:, :size]).view("<f8").astype(np.float64)


def _checksum(row: bytes, seed: int) -> bytes:
    return zlib.crc32(row, seed).to_bytes(CHECKSUM, "little")


def _num_numbers(header: Mapping[str, Any]) -> int:
    return sum(math.prod(shape) for shape in header["layout"].values())


class Journal:
    """A journal to which one process appends rows."""

    def __init__(self, path: Path, header: dict[str, Any], rows: np.ndarray):
        """Write a journal with a header and some rows to `path`, whole or not at all, and replace what is there.

        Raises:
            ssm.InputError: another process appends to a journal at `path`, or the folder of `path` cannot be written to.
        """
        self._file, self.path, self.header = -1, path, header
        line = json.dumps(header).encode()
        self._seed = zlib.crc32(line)
        if is_journal(path):
            self._file = self._locked_file()
        try:
            with files.replacing(path) as scratch:
                scratch.mkdir()
                with (scratch / NAME).open("wb") as new:
                    new.write(line + b"\n")
                    for row in rows:
                        new.write(self._as_bytes(row))
            self.close()
            self._file = self._locked_file()
        except OSError as error:
            self.close()
            allowed = f"in a folder that can be written to ({error.strerror})"
            raise errors.invalid("store", str(path), allowed) from None
        except BaseException:
            self.close()
            raise

    def _locked_file(self) -> int:
        """The descriptor of the file of the journal, opened for appending and locked."""
        file = os.open(self.path / NAME, os.O_WRONLY | os.O_APPEND)
        try:
            locks.try_lock(file)
        except BlockingIOError:
            os.close(file)
            allowed = "a log that no other tracker is writing; close that one, or take another name"
            raise errors.invalid("store", str(self.path), allowed) from None
        except OSError:  # The disk may have no locks.
            pass
        return file

    def _as_bytes(self, row: np.ndarray) -> bytes:
        numbers = row.astype("<f8").tobytes()
        return numbers + _checksum(numbers, self._seed)

    def append(self, row: np.ndarray) -> None:
        """Add a row. Raises ssm.InputError where the row cannot be written, and leaves the journal as it was before."""
        content = self._as_bytes(row)
        before = os.fstat(self._file).st_size
        try:
            written = os.write(self._file, content)
            if written != len(content):
                raise OSError(0, "the disk is full")
        except OSError as error:
            os.ftruncate(self._file, before)
            allowed = f"on a disk that can be written to ({error.strerror})"
            raise errors.invalid("store", str(self.path), allowed) from None

    def rows(self) -> np.ndarray:
        """All rows, shape (rows, numbers)."""
        return read(self.path)[1]

    def truncate(self, number: int) -> None:
        """Keep the first `number` rows and remove the others."""
        header = len(json.dumps(self.header)) + 1
        size = _num_numbers(self.header) * 8 + CHECKSUM
        os.ftruncate(self._file, header + number * size)

    def close(self) -> None:
        """Close the file, which releases its lock."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __del__(self) -> None:
        self.close()


class Rows:
    """Rows like those of a `Journal`, in memory, for a log that is not stored."""

    def __init__(self, header: dict[str, Any]):
        self.header = header
        self._rows: list[np.ndarray] = []

    def append(self, row: np.ndarray) -> None:
        """Add a row."""
        self._rows.append(row)

    def rows(self) -> np.ndarray:
        """All rows, shape (rows, numbers)."""
        return np.array(self._rows).reshape(len(self._rows), _num_numbers(self.header))

    def truncate(self, number: int) -> None:
        """Keep the first `number` rows and remove the others."""
        del self._rows[number:]

    def close(self) -> None:
        """Do nothing, since there is no file to close."""
