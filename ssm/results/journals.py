"""Rows of numbers on disk that are there as soon as they are appended.

A journal is a folder with one file: a line of JSON, its header, which says what the numbers of a row are, and
then the rows, each with a checksum of itself and of the header. Each row is appended by one write, so that a process that is killed
loses at most the row in flight, of which what is there is passed over.
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
CHECKSUM = 4  # bytes


def is_journal(path: Path) -> bool:
    """Whether a folder is a journal."""
    return (path / NAME).is_file()


def stamp(path: Path) -> tuple[int, int] | None:
    """What changes whenever rows come or go, the length of a journal and when it was last changed; None where there is none."""
    try:
        status = (path / NAME).stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def read(path: Path) -> tuple[dict[str, Any], np.ndarray]:
    """The header of a journal and its rows, shape (rows, numbers). Of a row that is being written nothing is read.

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
    except Exception as error:  # what is no JSON, or JSON of another kind
        raise digests.unreadable(path, error) from None
    number = len(rest) // (size + CHECKSUM)
    rows = np.frombuffer(rest, np.uint8, number * (size + CHECKSUM)).reshape(
        number, size + CHECKSUM
    )
    seed = zlib.crc32(line)
    for place, row in enumerate(rows):
        if row[size:].tobytes() != _checksum(row[:size].tobytes(), seed):
            if (
                place == number - 1
            ):  # cut off while it was written, by a machine that lost its power
                rows = rows[:-1]
                break
            raise digests.changed(path)
    return header, np.ascontiguousarray(rows[:, :size]).view("<f8").astype(np.float64)


def _checksum(row: bytes, seed: int) -> bytes:
    return zlib.crc32(row, seed).to_bytes(CHECKSUM, "little")


def _num_numbers(header: Mapping[str, Any]) -> int:
    return sum(math.prod(shape) for shape in header["layout"].values())


class Journal:
    """A journal that rows are appended to by one process."""

    def __init__(self, path: Path, header: dict[str, Any], rows: np.ndarray):
        """Put a journal with a header and some rows in the place of what is at `path`, whole or not at all.

        Raises:
            ssm.InputError: another process appends to the journal that is there, or its folder cannot be written to.
        """
        self._file, self.path, self.header = -1, path, header
        line = json.dumps(header).encode()
        self._seed = zlib.crc32(line)
        if is_journal(path):
            self._file = self._kept()
        try:
            with files.replacing(path) as scratch:
                scratch.mkdir()
                with (scratch / NAME).open("wb") as new:
                    new.write(line + b"\n")
                    for row in rows:
                        new.write(self._as_bytes(row))
            self.close()
            self._file = self._kept()
        except OSError as error:
            self.close()
            allowed = f"in a folder that can be written to ({error.strerror})"
            raise errors.invalid("store", str(path), allowed) from None
        except BaseException:
            self.close()
            raise

    def _kept(self) -> int:
        """The file of the journal, which is locked, open to be appended to."""
        file = os.open(self.path / NAME, os.O_WRONLY | os.O_APPEND)
        try:
            locks.try_lock(file)
        except BlockingIOError:
            os.close(file)
            allowed = "a log that no other tracker is writing; close that one, or take another name"
            raise errors.invalid("store", str(self.path), allowed) from None
        except OSError:  # on a disk without locks
            pass
        return file

    def _as_bytes(self, row: np.ndarray) -> bytes:
        numbers = row.astype("<f8").tobytes()
        return numbers + _checksum(numbers, self._seed)

    def append(self, row: np.ndarray) -> None:
        """Add a row. Raises ssm.InputError where it cannot be written, after which the journal is as it was before."""
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
        """Keep the first so many rows."""
        header = len(json.dumps(self.header)) + 1
        size = _num_numbers(self.header) * 8 + CHECKSUM
        os.ftruncate(self._file, header + number * size)

    def close(self) -> None:
        """Let go of the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __del__(self) -> None:
        self.close()


class Rows:
    """The same in memory, for a log that is not stored."""

    def __init__(self, header: dict[str, Any]):
        self.header, self._rows = header, []

    def append(self, row: np.ndarray) -> None:
        """Add a row."""
        self._rows.append(row)

    def rows(self) -> np.ndarray:
        """All rows, shape (rows, numbers)."""
        return np.array(self._rows).reshape(len(self._rows), _num_numbers(self.header))

    def truncate(self, number: int) -> None:
        """Keep the first so many rows."""
        del self._rows[number:]

    def close(self) -> None:
        """There is nothing to let go of."""
