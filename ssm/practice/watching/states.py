"""What a watch keeps on disk, so that it goes on where it was killed: one file that is replaced whole after each block, and
the file of the cases, of which only the entries count that the first one knows of."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

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


def identity(settings: Settings, columns: Columns, model: Model) -> dict[str, Any]:
    """What a watch cannot go on with another of."""
    card = "" if model.card is None else repr(dataclasses.replace(model.card, files={}))
    return {
        "format": FORMAT,
        **dataclasses.asdict(settings),
        "classes": list(model.classes),
        "header": columns.header.decode(errors="replace"),
        "card": card and hashlib.sha256(card.encode()).hexdigest(),
    }


def read(out: Path, wanted: dict[str, Any]) -> dict[str, Any] | None:
    """The state in a folder; None where there is none.

    Raises:
        ssm.InputError: a state that is damaged, or of another watch.
    """
    path = out / STATE
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as archive:
            kept = {name: archive[name] for name in archive.files}
        kept["facts"] = json.loads(str(kept["facts"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        allowed = f"an undamaged state, or removed with its folder ({type(error).__name__})"
        raise invalid("out", str(path), allowed) from None
    before = kept["facts"]["identity"]
    for name, value in wanted.items():
        if before.get(name) != value:
            allowed = f"{before.get(name)!r} as before with {out}; give another --out"
            raise invalid(name, value, allowed)
    return kept


def write(out: Path, of: dict[str, Any], progress: Progress) -> None:
    """Keep all that was found so far."""
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


def restored(kept: dict[str, Any], progress: Progress) -> Progress:
    """The progress that a state is of, made of one that has just begun."""
    facts, ledger, judge = kept["facts"], progress.ledger, progress.judge
    for name in ("offset", "checksum", "num_cases"):
        setattr(progress, name, facts[name])
    for name in _SCALARS:
        setattr(ledger, name, facts[name])
    ledger.last = (facts["last"][0], facts["last"][1])
    ledger.handled, ledger.fresh = facts["handled"], kept["fresh"]
    ledger.closed, ledger.pending = _by_window(kept, "closed"), _by_window(kept, "pending")
    ledger.samples, ledger.labelled = _drawn(kept, "sample"), _drawn(kept, "labelled")
    features = progress.features
    features.reference, features.batch = _drawn(kept, "reference"), _drawn(kept, "batch")
    for name in _OF_FEATURES:
        pairs = [(i, Result(*x) if isinstance(x, list) else x) for i, x in facts["features"][name]]
        setattr(features, name, dict(pairs))
    progress.unreadable = kept["unreadable"]
    progress.prior = kept["prior"] if kept["prior"].size else None
    progress.shares = {w: Window(*x) for w, x in _by_window(kept, "shares").items()}
    progress.evidence = _by_window(kept, "evidence")
    judge.first = list(kept["first"])
    judge.alarms = {(a[0], a[1]): Alarm(*a) for a in facts["alarms"]}
    for name in ("rate_sums", "mean_sums"):
        if name in kept:
            windows = int(kept[f"{name} windows"])
            sums = Evidence(kept[f"{name} doubt"], judge.life, windows, kept[name])
            setattr(judge, name, sums)
    return progress


def _drawn(kept: dict[str, Any], name: str) -> dict[int, Drawn]:
    """Samples of a name, by window or class, in the order in which they were kept."""
    lots = f"{name} lots "
    places = [int(key.removeprefix(lots)) for key in kept if key.startswith(lots)]
    return {i: (kept[f"{lots}{i}"], kept[f"{name} {i}"]) for i in places}


def _of_windows(name: str, arrays: dict[int, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays by window in the order of a dict, as two arrays."""
    windows = np.array(list(arrays), np.int64)
    return {name: np.array(list(arrays.values())), f"{name} of": windows}


def _by_window(kept: dict[str, Any], name: str) -> dict[int, np.ndarray]:
    """What `_of_windows` was given."""
    return dict(zip(kept[f"{name} of"].tolist(), kept[name], strict=True))
