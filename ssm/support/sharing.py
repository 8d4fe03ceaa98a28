"""Outputs that several processes write parts of at the same time, each part by one of them."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ssm.support import files, interrupts, locks

PATIENCE = 20.0
"""Seconds in which another process may make an output, or mend it, before it is refused to this one."""
PAUSE = 0.02
"""Seconds between two looks at whether it has."""


class Shared:
    """The parts of an output that this process writes, while others write other parts.

    A part is known by a file in the output's hidden folder, and is of the process that has locked this file: the
    system takes the lock from a process that dies.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._locks: dict[str, int] = {}

    def take(self, part: str) -> bool:
        """Keep a part for this process; whether no other has it."""
        descriptor = self._open(part)
        with contextlib.suppress(OSError):
            try:
                locks.try_lock(descriptor)
            except BlockingIOError:
                os.close(descriptor)
                return False
        self._locks[part] = descriptor
        return True

    def give(self, part: str, *, is_done: bool) -> None:
        """Give a part up. Whoever takes it then has to see whether it is done, since one that waits for it may
        have opened its file before that is removed here."""
        os.close(self._locks.pop(part))
        if is_done:
            with contextlib.suppress(OSError):
                (self._folder / part).unlink()

    def wait_for(self, part: str) -> None:
        """Wait until no other process has a part: it is done then, or its process has died."""
        descriptor = self._open(part)
        try:
            with contextlib.suppress(OSError):  # on a disk without locks nobody else has any part
                locks.wait(descriptor)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Give up all parts."""
        for part in list(self._locks):
            self.give(part, is_done=False)

    def _open(self, part: str) -> int:
        return os.open(self._folder / part, os.O_RDWR | os.O_CREAT, 0o666)


@contextlib.contextmanager
def shared(path: Path, prepare: Callable[[], object]) -> Iterator[Shared]:
    """Write an output together with other processes that do the same while the context lasts. First `prepare` is
    called, alone, where no other is at it; what only one process may do to the output at a time belongs there.

    Raises files.OccupiedError where another process keeps the output for itself for longer than `PATIENCE`,
    OSError where its folder cannot be written to.
    """
    folder, deadline = files.hidden(path), time.monotonic() + PATIENCE
    while True:
        occupied = None
        try:
            with files.reserved(path):
                prepare()
        except files.OccupiedError as error:
            occupied = error
        with contextlib.ExitStack() as at_the_end:
            with interrupts.undivided():
                lock = files.take(folder, shared=True)
                if lock is not None:
                    parts = Shared(folder)
                    leave = functools.partial(_leave, parts, folder, lock)
                    at_the_end.enter_context(interrupts.removing(leave))
            # Who kept it may have been one that only looked, before anybody prepared it.
            if lock is not None and (occupied is None or path.exists()):
                yield parts
                return
        if occupied is not None and time.monotonic() > deadline:
            raise occupied
        time.sleep(PAUSE)


def _leave(parts: Shared, folder: Path, lock: int) -> None:
    """Leave an output to the others that write it; the last one removes the hidden folder."""
    parts.close()
    os.close(lock)
    with contextlib.suppress(OSError):
        last = files.take(folder)
        if last is not None:
            files.give_up(folder, last)
