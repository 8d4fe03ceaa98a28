"""What this machine lends a process: its cores, its memory, and a folder that keeps what was compiled."""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import os
import time
import warnings
import zlib
from pathlib import Path
from typing import Any

LARGEST = 2**30
"""Bytes of the folder of compiled programs, beyond which the oldest are removed. One takes some 50 kB."""
SHORTEST = 0.02
"""Seconds of compiling from which on a program is kept; reading one takes a few milliseconds."""
BEING_WRITTEN = 60.0
"""Seconds for which a file may be unfinished because another process is still writing it."""
FULL = 0.8
"""Share of the memory mappings that a process may have from which on it lets go of compiled programs."""
BETWEEN_LOOKS = 1.0
"""Seconds between two looks at the mappings, which cost some milliseconds. A few thousand come in a second at most."""
COLLECTED_AFTER = 10_000
"""New objects after which a command looks for garbage; Python by itself does after 700."""
_CANNOT = "Error (reading|writing) persistent compilation cache entry"


def num_cores() -> int:
    """Cores that this process may use, which can be fewer than the machine has."""
    available = getattr(os, "sched_getaffinity", None)
    return len(available(0)) if available else os.cpu_count() or 1


def collect_rarely() -> None:
    """Look for garbage in cycles less often than Python does, and not at all when the process ends: of the
    half million objects that imports make none is garbage, and looking takes a third of a short command."""
    gc.set_threshold(COLLECTED_AFTER)
    atexit.register(gc.freeze)


def use_compilation_cache() -> None:
    """Keep what JAX compiles from now on for the next process, in `ssm/compiled` of $XDG_CACHE_HOME or
    else of ~/.cache.

    All that compiles calls this, so that nothing is set by an import. What the user has set stays:
    `jax_compilation_cache_dir` of `jax.config`, or JAX_COMPILATION_CACHE_DIR in the environment, names another
    folder, and `jax_enable_compilation_cache`, or JAX_ENABLE_COMPILATION_CACHE=false, turns the cache
    off. A folder that cannot be made, written to or read only means that programs are compiled anew.
    Processes can share it, and so can machines with different processors, which JAX tells apart.
    """
    import jax

    keep_room_for_programs()

    config: Any = jax.config  # whose fields are made at run time
    if not config.jax_enable_compilation_cache:
        return
    own = _own_folder()
    if config.jax_compilation_cache_dir is None and own is not None:
        config.update("jax_compilation_cache_dir", own)
    threshold = "jax_persistent_cache_min_compile_time_secs"
    if threshold.upper() not in os.environ and getattr(config, threshold) == 1.0:  # JAX's default
        config.update(threshold, SHORTEST)
    if own is not None and config.jax_compilation_cache_dir == own:
        _ignore_failures()


def make_room_for_programs(share: float = FULL) -> bool:
    """Let go of all compiled programs where this process has more than `share` of the memory mappings that
    Linux lets it have, and tell whether it was so.

    Each program takes some of them, those of one shape of runs about 400, and beyond the limit, as a rule
    65,530, LLVM ends the process without an exception. What is needed again is read from the cache on disk.
    """
    import jax

    limit = _most_mappings()
    full = limit is not None and _mappings() > share * limit
    if full:
        jax.clear_caches()
    return full


def keep_room_for_programs(share: float = FULL) -> None:
    """The same for what is called again and again, at most once in `BETWEEN_LOOKS`."""
    global _last_look
    if time.monotonic() - _last_look > BETWEEN_LOOKS:
        _last_look = time.monotonic()
        make_room_for_programs(share)


_last_look = -BETWEEN_LOOKS


def _mappings() -> int:
    """Memory mappings that this process has."""
    return Path("/proc/self/maps").read_bytes().count(b"\n")


@functools.cache
def _most_mappings() -> int | None:
    """Memory mappings that a process may have; None where the system says nothing of it."""
    try:
        return int(Path("/proc/sys/vm/max_map_count").read_text())
    except (OSError, ValueError):
        return None


def _ignore_failures() -> None:
    """Keep JAX's warnings that the folder could not be read or written, after which it compiles, from
    users, whose filters may make errors of them."""
    first = warnings.filters[0] if warnings.filters else ("", None)
    # A change of filters makes Python show anew what it has shown once, so there is none without need.
    if first[0] != "ignore" or getattr(first[1], "pattern", None) != _CANNOT:
        warnings.filterwarnings("ignore", _CANNOT)


def cache_folder() -> Path:
    """Where compiled programs are kept unless the user says otherwise; raises RuntimeError where there is no home."""
    home = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not home.is_absolute():
        home = Path.home() / ".cache"
    return home / "ssm" / "compiled"


@functools.cache
def _own_folder() -> str | None:
    """The folder of this project, made and tidied once a process; None where it cannot be used."""
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            return None
        tidy(folder)
    except (OSError, RuntimeError):  # the latter where there is no home
        return None
    return str(folder)


def tidy(folder: Path) -> None:
    """Remove from a folder the compiled programs that a full disk or a killed process left unfinished, since
    JAX would neither read them nor write them anew, and the oldest of too many."""
    room, files = LARGEST, []
    for path in folder.glob("*-cache"):
        with contextlib.suppress(FileNotFoundError):  # another process may tidy at the same time
            files.append((path.stat(), path))
    for status, path in sorted(files, key=lambda file: file[0].st_mtime, reverse=True):
        room -= status.st_size
        # A file that was found whole is made read-only, so that each is read here once.
        checked = not status.st_mode & 0o200
        settled = checked or time.time() - status.st_mtime > BEING_WRITTEN
        with contextlib.suppress(FileNotFoundError):
            if room < 0 or (settled and not checked and not _is_whole(path)):
                path.unlink()
            elif settled and not checked:
                path.chmod(0o444)


def _is_whole(path: Path) -> bool:
    """Whether a file of JAX's can be unpacked, as far as it is packed by zlib, which has a checksum."""
    packed = path.read_bytes()
    if packed and packed[0] != 0x78:  # the first byte of what zlib has packed
        return True
    try:
        zlib.decompress(packed)
    except zlib.error:
        return False
    return True
