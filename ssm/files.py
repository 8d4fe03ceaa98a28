"""Outputs that appear whole or not at all."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ssm import checks


def check_output(path: Path, overwrite: bool) -> None:
    """Refuse an output that exists (unless it may be overwritten) or whose folder cannot be written to."""
    if path.exists() and not overwrite:
        raise checks.refuse("out", str(path), "a path that does not exist yet, or --overwrite")
    if not path.parent.is_dir():
        raise checks.refuse("out", str(path), "in a folder that exists")
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError:
        raise checks.refuse("out", str(path), "in a folder that can be written to") from None


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A scratch path of the same name to write to, moved to `path` at the end; after an error `path` is as it was."""
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        scratch = Path(folder) / path.name
        yield scratch
        if path.exists():
            path.rename(Path(folder) / "replaced")
        scratch.rename(path)
