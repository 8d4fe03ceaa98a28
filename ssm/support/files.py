"""Outputs that appear as a whole or not at all, each written by one process at a time."""

from __future__ import annotations

import contextlib
import contextvars
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from ssm.support import errors, interrupts, locks

HIDDEN = ".ssm-writing"
"""The end of the name of a hidden folder, in which an output is written before it is moved."""
LOCK, NEW, OLD = "lock", "new", "replaced"
"""Names in a hidden folder: its lock, and the folders of the new output and of the one it replaces."""
PATIENCE = 2.0
"""The seconds for which threads that were broken off may still write."""

_reserved: contextvars.ContextVar[frozenset[Path]] = contextvars.ContextVar(
    "_reserved", default=frozenset()
)


class OccupiedError(errors.InputError):
    """An output that another process is writing."""


def check_output(path: Path, overwrite: bool) -> None:
    """Raise ssm.InputError for an output that exists (unless it may be overwritten), that another
    process is writing, or whose folder cannot be written to. Hidden folders that killed processes have left
    there are removed."""
    if path.name in ("", ".."):
        raise errors.invalid("out", str(path), "the name of a new file or store")
    if path.is_symlink() and not path.exists():
        raise errors.invalid("out", str(path), "no symlink to something that does not exist")
    if path.exists() and not overwrite:
        allowed = (
            "a path that does not exist yet, unless it may be overwritten (--overwrite in the shell, "
            "overwrite=True in Python)"
        )
        raise errors.invalid("out", str(path), allowed)
    target = real(path)
    if not target.parent.is_dir():
        raise errors.invalid("out", str(path), "in a folder that exists")
    try:
        with reserved(path):
            sweep(target.parent)
    except OSError:
        raise errors.invalid(
            "out", str(path), "in a folder that can be written to, with a name not too long"
        ) from None


def real(path: Path) -> Path:
    """The path with all symlinks in it followed."""
    return Path(os.path.realpath(path))


def hidden(path: Path) -> Path:
    """The hidden folder of an output, beside it."""
    target = real(path)
    return target.parent / f".{target.name}{HIDDEN}"


@contextlib.contextmanager
def reserved(path: Path) -> Iterator[Path]:
    """Keep `path` for this process while the context lasts. It yields a hidden folder beside `path`,
    in which the output is written, and which is removed at the end. The same thread may reserve the
    same path again meanwhile.

    Raises OccupiedError where another process has reserved it, OSError where its folder cannot be
    written to.
    """
    target, folder, mine = real(path), hidden(path), _reserved.get()
    if target in mine:
        yield folder
        return
    with contextlib.ExitStack() as at_the_end:
        with interrupts.undivided():
            lock = take(folder)
            if lock is None:
                allowed = (
                    "a path that no other process is writing; wait for it, or take another name"
                )
                raise OccupiedError(str(errors.invalid("out", str(path), allowed)))
            # Here, since Ctrl-C that was pressed meanwhile is heard at the end of this part.
            at_the_end.enter_context(interrupts.removing(lambda: give_up(folder, lock)))
            with contextlib.suppress(OSError):
                _take_back(folder, target)
                _clear(folder)
        token = _reserved.set(mine | {target})
        try:
            yield folder
        finally:
            _reserved.reset(token)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write an output as a whole or not at all: the context yields a scratch path of the same name, which is
    moved to `path` at the end. After an error `path` is as it was, and also after Ctrl-C, which interrupts
    only when all is written. A symlink stays a symlink, and the file or folder that it points to is
    replaced."""
    target = real(path)
    with interrupts.undivided() as hear, reserved(path) as folder:
        scratch = folder / NEW / path.name
        scratch.parent.mkdir()
        try:
            yield scratch
            hear()
            if not scratch.exists():
                raise FileNotFoundError(f"nothing was written for {path}")
            _move(scratch, target, folder / OLD)
        finally:
            _clear(folder)


def _move(scratch: Path, target: Path, old: Path) -> None:
    """Move the output that was written to its place. A folder that stands there is moved to `old` first."""
    if not target.is_dir():
        scratch.replace(target)
        return
    target.rename(old)  # a folder cannot be replaced in one move
    try:
        scratch.rename(target)
    except BaseException:
        old.rename(target)
        raise


def is_left_behind(folder: Path) -> bool:
    """Whether a hidden folder holds nothing but what `replacing` keeps there for a file: its lock,
    and the new file in a folder of its own."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    name = folder.name[1 : -len(HIDDEN)]
    entries = [(entry, entry.relative_to(folder).parts) for entry in folder.rglob("*")]
    return all(
        not entry.is_symlink()
        and (
            entry.is_dir()
            if parts == (NEW,)
            else entry.is_file() and parts in ((LOCK,), (NEW, name))
        )
        for entry, parts in entries
    )


def sweep(folder: Path) -> None:
    """Remove the hidden folders that processes that were killed have left in a folder."""
    if not locks.EXIST:
        return
    for left in folder.glob(f".*{HIDDEN}"):
        with contextlib.suppress(OSError):
            lock = take(left, only_locked=True)
            if lock is not None:
                _take_back(left, folder / left.name[1 : -len(HIDDEN)])
                give_up(left, lock)


def take(folder: Path, *, only_locked: bool = False, shared: bool = False) -> int | None:
    """The open lock of a hidden folder, which is made if it does not exist. None where another process
    has locked it (with `shared`: has locked it for itself) or, with `only_locked`, where the disk has no
    locks."""
    while True:
        try:
            folder.mkdir(exist_ok=True)
        except FileExistsError:
            if folder.exists() and not folder.is_dir():
                raise
            continue  # it was removed just after it was found there
        try:
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # the process that had it has just removed it
            continue
        try:
            locks.try_lock(lock, shared=shared)
            if os.path.samestat(os.fstat(lock), (folder / LOCK).stat()):
                return lock
        except FileNotFoundError:
            pass
        except OSError as error:
            if isinstance(error, BlockingIOError) or only_locked:
                os.close(lock)
                return None
            return lock  # on a disk without locks
        os.close(lock)


def _take_back(folder: Path, target: Path) -> None:
    """Put back the output that a process was replacing when it was killed between its two moves."""
    if (folder / OLD).exists() and not target.exists():
        (folder / OLD).rename(target)


def _clear(folder: Path) -> None:
    """Remove everything in a hidden folder but its lock."""
    deadline = time.monotonic() + PATIENCE
    while left := [entry for entry in folder.iterdir() if entry.name != LOCK]:
        for entry in left:
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
        if time.monotonic() > deadline:
            return  # the next process that writes beside it removes the rest
        time.sleep(0.01 if any(entry.exists() for entry in left) else 0)


def give_up(folder: Path, lock: int) -> None:
    """Remove a hidden folder, its lock last."""
    with contextlib.suppress(OSError):
        _clear(folder)
        (folder / LOCK).unlink(missing_ok=True)
    os.close(lock)
    with contextlib.suppress(OSError):  # where another process has begun to use it
        folder.rmdir()
