"""The picture of a log that a `Tracker` is writing, drawn again whenever the log has grown."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ssm.support import checks, errors

if TYPE_CHECKING:
    import xarray as xr

KIND = "network"
SECONDS = 5.0
"""The seconds between two looks at a log, where no other number is given."""
ATTEMPTS, PAUSE = 25, 0.2
"""The number of attempts to read a log, which may fail while it is being closed, and the seconds between two of them."""


def checked_seconds(asked: tuple[float, ...] | None, kind: str | None) -> float | None:
    """The seconds between two looks; None where a log is not to be followed.

    Raises:
        ssm.InputError: several numbers, a number out of bounds, or a kind of picture that is not for logs.
    """
    if asked is None:
        return None
    if kind not in (None, KIND):
        raise errors.invalid("kind", kind, f"{KIND} with --follow, or left out")
    if len(asked) > 1:
        raise errors.invalid("follow", asked, "one number of seconds")
    return checks.real("follow", asked[0] if asked else SECONDS, 0.1, 86_400)


def check_store(dataset: xr.Dataset, store: Path) -> None:
    """Raise ssm.InputError for a store that is not the log of a network, which alone can grow."""
    if "log" not in dataset.attrs:
        raise errors.invalid("store", str(store), "the log of a Tracker where --follow is given")


def draw(store: Path, seconds: float, out: Path) -> None:
    """Draw a log each time that it has grown, until it is closed."""
    from ssm.plots import runs

    last, is_new = None, True
    for dataset in versions(store, seconds):
        runs.save_figure(runs.figure(dataset, KIND), out)
        last = float(dataset["time"].values[-1])
        if is_new:
            print(out, flush=True)
        is_new = False
    closed = "without a step" if last is None else f"at step {last:g}"
    print(f"{store} was closed {closed}", flush=True)


def versions(store: Path, seconds: float) -> Iterator[xr.Dataset]:
    """The Dataset of a log with at least one step, each time that the log has changed, and a last time once it is closed."""
    seen: tuple[int, int] | None = None
    while True:
        dataset, stamp = _read(store, seen)
        if dataset is not None and dataset.sizes["time"]:
            yield dataset
        if stamp is None:
            return
        seen = stamp
        time.sleep(seconds)


def _read(
    store: Path, seen: tuple[int, int] | None
) -> tuple[xr.Dataset | None, tuple[int, int] | None]:
    """The Dataset of a log and the stamp of its journal. The stamp is None where the log is closed, and the Dataset is None
    where the stamp equals `seen`. While the log is being closed or continued there may be nothing to read for a moment.

    Raises ssm.InputError where there still is nothing after some seconds."""
    from ssm.results import journals, logs, stores

    for attempt in range(ATTEMPTS):
        # The stamp is read before the rows, so that rows that come meanwhile are seen the next time.
        stamp = journals.stamp(store)
        if stamp is not None and stamp == seen:
            return None, stamp
        try:
            if stamp is not None:
                return logs.of_rows(*journals.read(store)), stamp
            dataset = stores.load(store)
            if not journals.is_journal(store):
                return dataset, None
        except (errors.InputError, OSError):
            if attempt == ATTEMPTS - 1:
                raise
        time.sleep(PAUSE)
    raise errors.invalid("store", str(store), "a log that is not closed and opened all the time")
