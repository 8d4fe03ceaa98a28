"""Folders that one process at a time works in."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from ssm.support import errors


@contextlib.contextmanager
def alone(folder: Path, field: str, work: str) -> Iterator[None]:
    """Hold a folder that exists; raises ssm.InputError, which names `field` and the `work`, where
    another call of this or of any process holds it.

    The folder itself is locked, so that no file is left behind, a read-only one will do, and the
    system lets go of it when the process dies. Where there are no such locks, nothing is held.
    """
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            allowed = f"a folder in which no other {work} is at work"
            raise errors.invalid(field, str(folder), allowed) from None
        except OSError:  # a file system that has none
            pass
        yield
    finally:
        os.close(descriptor)
