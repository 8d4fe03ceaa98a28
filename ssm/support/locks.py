"""Folders in which one process at a time works."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from ssm.support import errors


@contextlib.contextmanager
def alone(folder: Path, field: str, work: str) -> Iterator[None]:
    """Hold a folder that exists while the context lasts; raises ssm.InputError, which names `field`
    and the `work`, where another call of this or of any process holds it.

    The lock is on the folder itself: no file is left behind, the folder may be read-only, and the
    system releases it when the process dies. Nothing is held on systems and disks without such locks.
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
        except OSError:  # on a file system without locks
            pass
        yield
    finally:
        os.close(descriptor)
