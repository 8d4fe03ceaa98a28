"""The cases of a log that are already known, by their ids: 10 bytes a case in memory, and as many in a file that only grows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from ssm.practice.watching.records import NO_LABEL

ENTRY = np.dtype([("key", "<u8"), ("label", "<i2")])
"""An entry of the file: the hash of a case's id, and the case's label, -1 before it is known. The last entry of a case counts."""


class Kinds(NamedTuple):
    """What each row is, as masks of shape (m,). A row in none of them is a duplicate that adds nothing."""

    new: np.ndarray
    """The row is the first of its case."""
    labels: np.ndarray
    """The row brings the label of its case; it may also be the first of the case."""
    conflicting: np.ndarray
    """The row has another label than its case, which keeps the label that came first."""


class Cases:
    """The cases so far, in sorted runs of which each is at most half as large as the one before, so that cases are seldom moved."""

    def __init__(self) -> None:
        self.count = 0
        """The number of entries in the file."""
        self._runs: list[tuple[np.ndarray, np.ndarray]] = []

    def sorted_out(self, key: np.ndarray, label: Int[np.ndarray, " m"]) -> tuple[Kinds, np.ndarray]:
        """What each row is, in the order of the log, and the new entries of the file. From now on the cases are known."""
        m = len(key)
        order = np.argsort(key, kind="stable")
        key, label = key[order], label[order].astype(np.int16)
        starts = np.flatnonzero(np.r_[True, key[1:] != key[:-1]][:m])
        group = np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, m]))
        unique = key[starts]
        seen, before = self._known(unique)
        new = np.zeros(m, bool)
        new[starts] = ~seen
        # The place of the first label of each case in this block; m where none has one.
        place = np.where(label != NO_LABEL, np.arange(m), m)
        first = np.minimum.reduceat(place, starts) if m else place
        brings = (before == NO_LABEL) & (first < m)
        labels = np.zeros(m, bool)
        labels[first[brings]] = True
        after = before.copy()
        after[brings] = label[first[brings]]
        conflicting = (label != NO_LABEL) & (label != after[group]) & ~labels
        added = np.empty(int((~seen | brings).sum()), ENTRY)
        added["key"], added["label"] = unique[~seen | brings], after[~seen | brings]
        self._update(unique, after, seen, brings)
        self.count += len(added)
        back = np.empty(m, np.int64)
        back[order] = np.arange(m)
        return Kinds(new[back], labels[back], conflicting[back]), added

    def _known(self, key: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Whether each of some keys is known, and the label of its case."""
        seen, label = np.zeros(len(key), bool), np.full(len(key), NO_LABEL, np.int16)
        for keys, labels in self._runs:
            place = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
            here = keys[place] == key
            seen |= here
            label[here] = labels[place[here]]
        return seen, label

    def _update(
        self, key: np.ndarray, label: np.ndarray, seen: np.ndarray, changed: np.ndarray
    ) -> None:
        """Put labels in their place, and new cases in a run, which is merged with those that are not twice as long."""
        known = seen & changed
        for keys, labels in self._runs if known.any() else ():
            place = np.minimum(np.searchsorted(keys, key[known]), len(keys) - 1)
            here = keys[place] == key[known]
            labels[place[here]] = label[known][here]
        run = (key[~seen], label[~seen])
        while self._runs and len(self._runs[-1][0]) < 2 * len(run[0]):
            keys, labels = (np.concatenate(x) for x in zip(self._runs.pop(), run, strict=True))
            order = np.argsort(keys, kind="stable")
            run = keys[order], labels[order]
        if len(run[0]):
            self._runs.append(run)

    @classmethod
    def read(cls, path: Path, count: int) -> Cases:
        """The cases of the first `count` entries of a file."""
        cases = cls()
        entries = np.fromfile(path, ENTRY, count) if count else np.empty(0, ENTRY)
        # Later entries of a case come after its earlier ones in a stable order, and the last of each is kept.
        order = np.argsort(entries["key"], kind="stable")
        key = entries["key"][order]
        last = np.flatnonzero(np.r_[key[1:] != key[:-1], True][: len(key)])
        if len(last):
            cases._runs = [(key[last], entries["label"][order[last]])]
        cases.count = len(entries)
        return cases

    @staticmethod
    def append(path: Path, count: int, added: np.ndarray) -> None:
        """Add entries after the first `count`, the only ones that count, and wait until they are on the disk."""
        with path.open("r+b" if path.exists() else "w+b") as file:
            file.truncate(count * ENTRY.itemsize)
            file.seek(0, os.SEEK_END)
            file.write(added.tobytes())
            file.flush()
            os.fsync(file.fileno())
