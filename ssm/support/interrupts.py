"""Work in a thread while the main thread waits, so that Ctrl-C is heard while compiled code
runs; and work that Ctrl-C must not break off."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")
LONGEST_WAIT = 5.0  # seconds that an interrupted process gives its threads to finish writing

_undivided = 0  # pieces of work, of all threads, that must not be broken off
_changed = threading.Condition()
_leftovers: dict[object, Callable[[], None]] = {}  # what removes them, should the process be left


def run(work: Callable[[], T], waiting: Callable[[], None]) -> T:
    """What `work` returns or raises; `waiting` is called ten times a second until it does."""
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
    """A handler of Ctrl-C that takes note of the first one; the second is heard at once."""

    pressed = False

    def __call__(self, *_: Any) -> None:
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
    """Work that Ctrl-C does not break off. It is heard at the end, or where the function that is
    yielded is called; `leave_interrupted` waits for such work of other threads."""
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT) if in_main else None
    with _counted():
        if isinstance(before, _Later):  # inside other such work, at whose end it is heard
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
def _counted() -> Iterator[None]:
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
    """Call `remove` at the end, or when the process is left by `leave_interrupted` before."""
    key = object()
    _leftovers[key] = remove
    try:
        yield
    finally:
        with undivided():
            if _leftovers.pop(key, None):
                remove()


def leave_interrupted(message: str) -> NoReturn:
    """Say `message` and end with exit code 130 at once: compiled code may still be running in its
    thread. What is being written is finished, and what is only for the meantime removed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with _changed:  # which is kept, so that nothing else is begun
        _changed.wait_for(lambda: not _undivided, LONGEST_WAIT)
        for remove in list(_leftovers.values()):
            with contextlib.suppress(Exception):
                remove()
        with contextlib.suppress(OSError):  # nobody may be reading any more
            print(message, file=sys.stderr, flush=True)
            sys.stdout.flush()
        os._exit(130)
