"""Outputs of which several processes write parts at the same time, each part by one process."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ssm.support import files, interrupts, locks

PATIENCE = 20.0
"""The seconds for which this process waits while another one makes or mends the output."""
PAUSE = 0.02
"""The seconds between two looks at whether the other process is done."""


class Shared:
    """The parts of an output that this process writes, while others write other parts.

    A part has a file in the output's hidden folder, and belongs to the process that has locked this file. The
    system releases the lock of a process that dies.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._locks: dict[str, int] = {}

    def take(self, part: str) -> bool:
        """Take a part for this process, and return whether that was possible, which it is not while another has it."""
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
        """Give a part up. A process that takes it afterwards has to look whether it is done, since it may have opened
        the file of the part before that is removed here."""
        os.close(self._locks.pop(part))
        if is_done:
            with contextlib.suppress(OSError):
                (self._folder / part).unlink()

    def wait_for(self, part: str) -> None:
        """Wait until no other process has a part, which is then done, or its process has died."""
        descriptor = self._open(part)
        try:
            with contextlib.suppress(
                OSError
            ):  # on a disk without locks no other process has any part
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
    """A context in which this process writes an output together with others that do the same. First it calls `prepare`,
    if no other process writes the output, for the work that only one process may do at a time.

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
            # The process that kept it may only have looked at it, before any process has prepared it.
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
