"""What a watch keeps on disk, so that it goes on where it was killed: the file of its state, which is replaced whole after each
block, and the file of the cases, of which only as many entries count as the state says."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssm.practice.deployment.fields import Json
from ssm.practice.watching.drift import Window
from ssm.practice.watching.features import Result
from ssm.practice.watching.judging import Alarm
from ssm.practice.watching.models import Model
from ssm.practice.watching.progress import Progress, Settings
from ssm.practice.watching.records import Columns
from ssm.practice.watching.sequential import Evidence
from ssm.practice.watching.windows import Drawn
from ssm.support import files
from ssm.support.errors import invalid

STATE, CASES = "state.npz", "cases.bin"
FORMAT = "ssm-watch-state/2"
_SCALARS = ("num_rows", "open", "last_time", "num_labelled")
_OF_FEATURES = ("batches", "tests", "found", "last")


class Kept(NamedTuple):
    """The state of a watch, as its file holds it."""

    facts: Json
    """Numbers and words."""
    arrays: dict[str, np.ndarray]


def identity(settings: Settings, columns: Columns, model: Model) -> dict[str, object]:
    """The settings, classes, columns and card of a watch, which have to stay the same for it to go on."""
    card = "" if model.card is None else repr(dataclasses.replace(model.card, files={}))
    return {
        "format": FORMAT,
        **dataclasses.asdict(settings),
        "classes": list(model.classes),
        "header": columns.header.decode(errors="replace"),
        "card": card and hashlib.sha256(card.encode()).hexdigest(),
    }


def read(out: Path, wanted: dict[str, object]) -> Kept | None:
    """The state in a folder; None where there is none. `wanted` is the identity of the watch that is to go on.

    Raises:
        ssm.InputError: a state that is damaged, or that belongs to another watch.
    """
    path = out / STATE
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        facts = json.loads(str(arrays.pop("facts")))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        allowed = f"an undamaged state, or removed with its folder ({type(error).__name__})"
        raise invalid("out", str(path), allowed) from None
    before = facts["identity"]
    for name, value in wanted.items():
        if before.get(name) != value:
            allowed = f"{before.get(name)!r} as before with {out}; give another --out"
            raise invalid(name, value, allowed)
    return Kept(facts, arrays)


def write(out: Path, of: dict[str, object], progress: Progress) -> None:
    """Write all that was found so far into a folder. `of` is the identity of the watch."""
    ledger, judge, features = progress.ledger, progress.judge, progress.features
    facts = {
        "identity": of,
        "offset": progress.offset,
        "checksum": progress.checksum,
        "num_cases": progress.num_cases,
        "last": list(ledger.last),
        "handled": ledger.handled,
        "alarms": [list(alarm) for alarm in judge.alarms.values()],
        **{name: getattr(ledger, name) for name in _SCALARS},
        "features": {name: list(getattr(features, name).items()) for name in _OF_FEATURES},
    }
    arrays = {
        "facts": np.array(json.dumps(facts)),
        "unreadable": progress.unreadable,
        "prior": np.empty(0) if progress.prior is None else progress.prior,
        "fresh": ledger.fresh,
        "first": np.array(judge.first),
        **_of_windows("closed", ledger.closed),
        **_of_windows("pending", ledger.pending),
        **_of_windows("shares", {w: np.array(x) for w, x in progress.shares.items()}),
        **_of_windows("evidence", progress.evidence),
    }
    samples = {"sample": ledger.samples, "labelled": ledger.labelled}
    samples |= {"reference": features.reference, "batch": features.batch}
    for name, of_each in samples.items():
        for i, (lots, numbers) in of_each.items():
            arrays |= {f"{name} {i}": numbers, f"{name} lots {i}": lots}
    for name in ("rate_sums", "mean_sums"):
        sums: Evidence | None = getattr(judge, name)
        if sums is not None:
            arrays |= {name: sums.log_sums, f"{name} windows": np.array(sums.windows)}
            arrays[f"{name} doubt"] = sums.doubt
    content = io.BytesIO()
    np.savez(content, **arrays)
    with files.replacing(out / STATE) as scratch:
        scratch.write_bytes(content.getvalue())


def restored(kept: Kept, progress: Progress) -> Progress:
    """The progress that a state holds. It is filled into `progress`, which has just begun."""
    (facts, arrays), ledger, judge = kept, progress.ledger, progress.judge
    for name in ("offset", "checksum", "num_cases"):
        setattr(progress, name, facts[name])
    for name in _SCALARS:
        setattr(ledger, name, facts[name])
    ledger.last = (facts["last"][0], facts["last"][1])
    ledger.handled, ledger.fresh = facts["handled"], arrays["fresh"]
    ledger.closed, ledger.pending = _by_window(arrays, "closed"), _by_window(arrays, "pending")
    ledger.samples, ledger.labelled = _drawn(arrays, "sample"), _drawn(arrays, "labelled")
    features = progress.features
    features.reference, features.batch = _drawn(arrays, "reference"), _drawn(arrays, "batch")
    for name in _OF_FEATURES:
        pairs = [(i, Result(*x) if isinstance(x, list) else x) for i, x in facts["features"][name]]
        setattr(features, name, dict(pairs))
    progress.unreadable = arrays["unreadable"]
    progress.prior = arrays["prior"] if arrays["prior"].size else None
    progress.shares = {w: Window(*x) for w, x in _by_window(arrays, "shares").items()}
    progress.evidence = _by_window(arrays, "evidence")
    judge.first = list(arrays["first"])
    judge.alarms = {(a[0], a[1]): Alarm(*a) for a in facts["alarms"]}
    for name in ("rate_sums", "mean_sums"):
        if name in arrays:
            windows = int(arrays[f"{name} windows"])
            sums = Evidence(arrays[f"{name} doubt"], judge.life, windows, arrays[name])
            setattr(judge, name, sums)
    return progress


def _drawn(arrays: dict[str, np.ndarray], name: str) -> dict[int, Drawn]:
    """Drawn rows of the kind that has this name in the file, by window or class, in the order in which they were kept."""
    lots = f"{name} lots "
    places = [int(key.removeprefix(lots)) for key in arrays if key.startswith(lots)]
    return {i: (arrays[f"{lots}{i}"], arrays[f"{name} {i}"]) for i in places}


def _of_windows(name: str, arrays: dict[int, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays by window as two arrays, one of the windows and one of all arrays together."""
    windows = np.array(list(arrays), np.int64)
    return {name: np.array(list(arrays.values())), f"{name} of": windows}


def _by_window(arrays: dict[str, np.ndarray], name: str) -> dict[int, np.ndarray]:
    """The arrays by window that `_of_windows` was given."""
    return dict(zip(arrays[f"{name} of"].tolist(), arrays[name], strict=True))
