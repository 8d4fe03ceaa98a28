"""Outputs of commands, which are written whole or not at all, and the message on them at Ctrl-C."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ssm.support import files, interrupts


@contextlib.contextmanager
def new_store(out: Path, overwrite: bool) -> Iterator[None]:
    """The context for the part of a command that writes a store. It raises ssm.InputError for a store that cannot be
    written, and else reserves its path for this process until the store is written."""
    from ssm.results import stores

    stores.check_store(out, overwrite)
    with files.reserved(out), last_part(out):
        yield


@contextlib.contextmanager
def last_part(out: Path) -> Iterator[None]:
    """The context for the last part of a command, after which Ctrl-C is ignored. Where Ctrl-C interrupts it, a message
    says whether the output has been written by then."""
    before = _identity(out)

    def interrupted() -> str:
        what = "nothing was" if _identity(out) == before else f"{out} is"
        return f"ssm: interrupted, {what} written"

    with interrupts.last_part(interrupted):
        yield


def _identity(path: Path) -> tuple[int, int] | None:
    """The device and the inode of a file or folder, which tell it from another in its place; None where there is nothing."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
