"""How Ctrl-C acts: on work that is done in a thread, so that the main thread hears Ctrl-C while compiled code runs, on
work that it must not break off, and at the end of the process."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import NoReturn, TypeVar

T = TypeVar("T")
LONGEST_WAIT = 5.0
"""The seconds that an interrupted process waits for its threads to finish writing."""

_undivided = 0  # how many pieces of work, of all threads, must not be broken off now
_changed = threading.Condition()
# Functions that remove temporary files, called if the process ends before the contexts that would call them.
_leftovers: dict[object, Callable[[], None]] = {}


def run(work: Callable[[], T], waiting: Callable[[], None]) -> T:
    """Do `work` in a thread, and return or raise what it returns or raises. Until then `waiting` is
    called ten times a second in this thread."""
    results: list[T] = []
    failures: list[BaseException] = []

    def target() -> None:
        try:
            results.append(work())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    while thread.is_alive():
        waiting()
        thread.join(0.1)
    if failures:
        raise failures[0]
    return results[0]


class _Later:
    """A handler that only takes note of the first Ctrl-C, and lets the second interrupt at once."""

    pressed = False

    def __call__(self, *_: object) -> None:
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True

    def hear(self) -> None:
        """Raise KeyboardInterrupt if Ctrl-C was pressed."""
        if self.pressed:
            self.pressed = False
            raise KeyboardInterrupt


@contextlib.contextmanager
def undivided() -> Iterator[Callable[[], None]]:
    """A context whose work Ctrl-C does not break off. KeyboardInterrupt is raised at the end of the context, or
    where the yielded function is called. `leave_interrupted` waits for such work of other threads."""
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT) if in_main else None
    with _counted():
        if isinstance(before, _Later):  # within another such context, at whose end Ctrl-C is heard
            yield before.hear
            return
        later = _Later()
        if before is not signal.default_int_handler:
            yield later.hear
            return
        signal.signal(signal.SIGINT, later)
        try:
            yield later.hear
        finally:
            signal.signal(signal.SIGINT, before)
        later.hear()


@contextlib.contextmanager
def noticed() -> Iterator[Callable[[], bool] | None]:
    """A context that takes note of a first Ctrl-C, and yields a function that says whether it was pressed; a
    second Ctrl-C interrupts at once. It yields None outside the main thread, where Ctrl-C is not heard, and
    where another handler takes care of it."""
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT) if in_main else None
    if before is not signal.default_int_handler:
        yield None
        return
    later = _Later()
    signal.signal(signal.SIGINT, later)
    try:
        yield lambda: later.pressed
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _counted() -> Iterator[None]:
    """Count the work of the context among the work that must not be broken off."""
    global _undivided
    with _changed:
        _undivided += 1
    try:
        yield
    finally:
        with _changed:
            _undivided -= 1
            _changed.notify_all()


@contextlib.contextmanager
def removing(remove: Callable[[], None]) -> Iterator[None]:
    """Call `remove` at the end of the context, or earlier if `leave_interrupted` ends the process."""
    key = object()
    _leftovers[key] = remove
    try:
        yield
    finally:
        with undivided():
            if _leftovers.pop(key, None):
                remove()


def ignore_from_now_on() -> None:
    """Ignore Ctrl-C until the process ends, to be called when its work is done, since the libraries that it
    used would answer Ctrl-C with a traceback while they are shut down.

    Raises KeyboardInterrupt where Ctrl-C was pressed just before. Does nothing outside the main
    thread, since no other thread hears Ctrl-C.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextlib.contextmanager
def last_part(message: Callable[[], str]) -> Iterator[None]:
    """A context for the rest of a process's work, after which Ctrl-C is ignored. Where Ctrl-C breaks it off, the
    process ends with the words that `message` returns then, which say what has been written."""
    try:
        yield
        ignore_from_now_on()
    except KeyboardInterrupt:
        leave_interrupted(message())


def leave_interrupted(message: str) -> NoReturn:
    """Print `message` to standard error and end the process at once with exit code 130, since
    compiled code may still be running in its thread. Files that are being written are finished, and
    temporary ones are removed."""
    ignore_from_now_on()
    with _changed:  # held until the end, so that no thread begins to write anything else
        _changed.wait_for(lambda: not _undivided, LONGEST_WAIT)
        for remove in list(_leftovers.values()):
            with contextlib.suppress(Exception):
                remove()
        with contextlib.suppress(OSError):  # standard error may be closed already
            print(message, file=sys.stderr, flush=True)
            sys.stdout.flush()
        os._exit(130)
