"""Outputs that appear whole or not at all."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ssm import checks


def check_output(path: Path, overwrite: bool) -> None:
    """Refuse an output that exists (unless it may be overwritten) or whose folder cannot be written
    to."""
    if not path.name:
        raise checks.refuse("out", str(path), "the name of a new file or store")
    if path.exists() and not overwrite:
        allowed = (
            "a path that does not exist yet, unless it may be overwritten (--overwrite in the shell, "
            "overwrite=True in Python)"
        )
        raise checks.refuse("out", str(path), allowed)
    if not path.parent.is_dir():
        raise checks.refuse("out", str(path), "in a folder that exists")
    try:
        _scratch(path).cleanup()
    except OSError:
        raise checks.refuse(
            "out", str(path), "in a folder that can be written to, with a name not too long"
        ) from None


def check_store(path: Path, overwrite: bool) -> None:
    """Refuse a store that cannot be written, as `check_output` does, or would overwrite what is no
    store."""
    if path.exists() and not (path / ".zattrs").is_file():
        raise checks.refuse("out", str(path), "a new path, or a store to overwrite")
    check_output(path, overwrite)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A scratch path of the same name to write to, moved to `path` at the end; after an error
    `path` is as it was."""
    with _scratch(path) as folder:
        scratch, old = Path(folder) / path.name, Path(folder) / "replaced"
        yield scratch
        if not scratch.exists():
            raise FileNotFoundError(f"nothing was written for {path}")
        if not path.is_dir():
            scratch.replace(path)
            return
        path.rename(old)  # a folder cannot be replaced in one move
        try:
            scratch.rename(path)
        except BaseException:
            old.rename(path)
            raise


def _scratch(path: Path) -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent)
