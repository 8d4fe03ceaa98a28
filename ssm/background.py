"""Work in a thread while the main thread waits, so that Ctrl-C is heard while compiled code
runs."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import NoReturn, TypeVar

T = TypeVar("T")


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


def leave_interrupted(message: str) -> NoReturn:
    """Say `message` and end with exit code 130 at once: compiled code may still be running in its
    thread."""
    print(message, file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(130)
