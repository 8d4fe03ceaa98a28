"""Where and when a result was made."""

from __future__ import annotations

import datetime
import functools
import importlib.metadata
import subprocess
from pathlib import Path

from ssm.results.schema import FORMAT
from ssm.support import versions

VERSIONED = ("jax", "equinox", "numpy", "xarray", "zarr")
"""The libraries whose versions are stored with a result."""


def provenance() -> dict[str, str]:
    """The origin of a result that is made now, as attributes of its Dataset.

    Returns:
        `format`; `versions` of this package and of the libraries that its numbers rest on;
        `git_commit` of the source, which ends in `+changes` where the source differs from it and is
        `unknown` outside a clone; and `created`, the time in UTC.
    """
    installed = {name: importlib.metadata.version(name) for name in VERSIONED}
    return {
        "format": FORMAT,
        "versions": " ".join(
            f"{name}=={version}" for name, version in ({"ssm": versions.own()} | installed).items()
        ),
        "git_commit": _git_commit(),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


@functools.cache
def _git_commit() -> str:
    """The commit of the clone in which this package lies, which is looked up once a process."""
    package = Path(__file__).resolve().parents[1]

    def git(*args: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(package), *args], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) != package.parent:
            return "unknown"  # The package is installed inside the repository of another project.
        changed = git("status", "--porcelain", "--", str(package))
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
