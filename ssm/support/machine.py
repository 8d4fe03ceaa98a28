"""What a process may use of this machine: cores, memory, and a folder that keeps compiled programs."""

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
"""The most bytes in the folder of compiled programs, beyond which the oldest are removed. A program takes some 50 kB."""
SHORTEST = 0.02
"""Programs that took at least these seconds to compile are kept; to read one takes a few milliseconds."""
BEING_WRITTEN = 60.0
"""For so many seconds after its last change an unfinished file counts as one that another process is still writing."""
FULL = 0.8
"""A process that has more than this share of the memory mappings that it may have drops its compiled programs."""
BETWEEN_LOOKS = 1.0
"""Seconds between two counts of the mappings, each of which takes some milliseconds. At most a few thousand mappings are
added in a second."""
COLLECTED_AFTER = 10_000
"""The number of new objects after which a command looks for garbage; Python's own default is 700."""
_CANNOT = "Error (reading|writing) persistent compilation cache entry"


def num_cores() -> int:
    """The number of cores that this process may use, which can be fewer than the machine has."""
    available = getattr(os, "sched_getaffinity", None)
    return len(available(0)) if available else os.cpu_count() or 1


def collect_rarely() -> None:
    """Look for garbage in cycles less often than Python does, and not at all when the process ends. Imports make half
    a million objects, none of which is garbage, and going through them takes a third of a short command's time."""
    gc.set_threshold(COLLECTED_AFTER)
    atexit.register(gc.freeze)


def use_compilation_cache() -> None:
    """Keep what JAX compiles from now on for the next process, in `ssm/compiled` of $XDG_CACHE_HOME or
    else of ~/.cache.

    Everything that compiles calls this first, so that no import changes any setting. What the user has set stays:
    `jax_compilation_cache_dir` of `jax.config`, or JAX_COMPILATION_CACHE_DIR in the environment, names another
    folder, and `jax_enable_compilation_cache`, or JAX_ENABLE_COMPILATION_CACHE=false, turns the cache
    off. Where a folder cannot be made, written to or read, programs are just compiled anew.
    Processes can share the folder, and so can machines with different processors, which JAX tells apart.
    """
    import jax

    keep_room_for_programs()

    config: Any = jax.config  # type checkers do not know its fields, which are made at run time
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
    """Drop all compiled programs if this process has more than `share` of the memory mappings that
    Linux lets it have, and return whether it had.

    Each program takes some mappings, and the programs of one shape of runs about 400. Beyond the limit, usually
    65,530, LLVM ends the process without an exception. A program that is needed again is read from the cache on disk.
    """
    import jax

    limit = _most_mappings()
    full = limit is not None and _mappings() > share * limit
    if full:
        jax.clear_caches()
    return full


def keep_room_for_programs(share: float = FULL) -> None:
    """Call `make_room_for_programs` at most once in `BETWEEN_LOOKS`, however often this is called."""
    global _last_look
    if time.monotonic() - _last_look > BETWEEN_LOOKS:
        _last_look = time.monotonic()
        make_room_for_programs(share)


_last_look = -BETWEEN_LOOKS


def _mappings() -> int:
    """The number of memory mappings that this process has."""
    return Path("/proc/self/maps").read_bytes().count(b"\n")


@functools.cache
def _most_mappings() -> int | None:
    """The number of memory mappings that a process may have; None where the system does not say."""
    try:
        return int(Path("/proc/sys/vm/max_map_count").read_text())
    except (OSError, ValueError):
        return None


def _ignore_failures() -> None:
    """Suppress JAX's warnings that the folder could not be read or written, after which it just compiles, since the
    filters of users may turn warnings into errors."""
    first = warnings.filters[0] if warnings.filters else ("", None)
    # Any change of filters makes Python show warnings again that it has shown once, so they are changed only if needed.
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
    """The folder of this project, which is made and tidied once in each process; None where it cannot be used."""
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            return None
        tidy(folder)
    except (OSError, RuntimeError):  # RuntimeError where there is no home
        return None
    return str(folder)


def tidy(folder: Path) -> None:
    """Remove from a folder the compiled programs that a full disk or a killed process left unfinished, since
    JAX would neither read them nor write them anew, and the oldest ones where they take too much room."""
    room, files = LARGEST, []
    for path in folder.glob("*-cache"):
        with contextlib.suppress(FileNotFoundError):  # another process may tidy at the same time
            files.append((path.stat(), path))
    for status, path in sorted(files, key=lambda file: file[0].st_mtime, reverse=True):
        room -= status.st_size
        # A file that was found whole is made read-only, so that each file is read here only once.
        checked = not status.st_mode & 0o200
        settled = checked or time.time() - status.st_mtime > BEING_WRITTEN
        with contextlib.suppress(FileNotFoundError):
            if room < 0 or (settled and not checked and not _is_whole(path)):
                path.unlink()
            elif settled and not checked:
                path.chmod(0o444)


def _is_whole(path: Path) -> bool:
    """Whether a file of JAX's can be unpacked, where it is packed by zlib, which has a checksum; else True."""
    packed = path.read_bytes()
    if packed and packed[0] != 0x78:  # the first byte of data that zlib has packed
        return True
    try:
        zlib.decompress(packed)
    except zlib.error:
        return False
    return True
