"""Folders in which one process at a time works."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None

from ssm.support import errors

EXIST = fcntl is not None
"""Whether the system has locks. Without them no folder is ever held or refused."""


def try_lock(descriptor: int, *, shared: bool = False) -> None:
    """Lock an open file or folder until it is closed; does nothing on a system without locks. A `shared`
    lock may be held by many at once, but not beside one that is not shared.

    Raises BlockingIOError where another process, or another descriptor of the same file, holds the lock, and another
    OSError on a disk without locks.
    """
    if fcntl is not None:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)


def wait(descriptor: int) -> None:
    """Wait until no other process holds the lock of an open file, and take it; Ctrl-C is heard meanwhile.
    Does nothing on a system without locks; raises OSError on a disk without them."""
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)


@contextlib.contextmanager
def alone(folder: Path, field: str, work: str) -> Iterator[None]:
    """Hold a folder, which has to exist, while the context lasts; raises ssm.InputError, which names `field`
    and the `work`, where another call, of this or of another process, holds it.

    The lock is on the folder itself, so that no file is left behind, the folder may be read-only, and the
    system releases it when the process dies. On systems and disks without such locks no folder is held.
    """
    if not EXIST:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            try_lock(descriptor)
        except BlockingIOError:
            allowed = f"a folder in which no other {work} is at work"
            raise errors.invalid(field, str(folder), allowed) from None
        except OSError:  # on a file system without locks
            pass
        yield
    finally:
        os.close(descriptor)
