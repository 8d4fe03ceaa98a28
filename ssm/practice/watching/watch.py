"""Watching a log: read its new rows, judge each window that ends, and keep on disk what is needed to go on."""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from ssm.practice.watching import drift, records, sequential, states
from ssm.practice.watching.cases import Cases, Kinds
from ssm.practice.watching.features import Features
from ssm.practice.watching.judging import Judge
from ssm.practice.watching.models import Model
from ssm.practice.watching.progress import Progress, Settings
from ssm.practice.watching.records import NO_LABEL, UNREADABLE, Columns, Rows
from ssm.practice.watching.windows import FIELDS, NUM_FIELDS, Closing, Ledger
from ssm.support import files
from ssm.support.errors import InputError, invalid

BLOCK = 8 << 20
"""The number of bytes that are read at once."""
LONGEST_LINE = 64 << 20  # in bytes
INTERVALS = 0.05
"""The highest probability that any interval of one kind, over all windows and classes, misses the true value."""


class Watch:
    """A log and what was found in it, which `read` brings up to date.

    Args:
        log: a CSV file, which may grow while it is watched.
        out: the folder in which the state of the watch is kept.
        settings: how the log is watched.
        model: what is known of the classifier; None where there is no card and the classes are those of the log's columns.

    Raises:
        ssm.InputError: a log whose header cannot be used, or that was changed where it was read before; a folder that holds
            a watch of another log or with other settings.
    """

    def __init__(self, log: Path, out: Path, settings: Settings, model: Model | None):
        self.log, self.out, self.settings = log, out, settings
        given = None if model is None else model.classes
        self.columns: Columns = records.read_header(log, given)
        self.model = Model(self.columns.classes) if model is None else model
        self.identity = states.identity(settings, self.columns, self.model)
        kept = states.read(out, self.identity)
        self.progress = self._begun() if kept is None else states.restored(kept, self._begun())
        self._check_unchanged()
        self._cases = Cases.read(out / states.CASES, self.progress.num_cases)

    def _begun(self) -> Progress:
        """The progress of a watch that has read nothing but the header."""
        columns, settings, k = self.columns, self.settings, len(self.columns.classes)
        judge = Judge(
            settings.level,
            settings.life,
            columns.has_probabilities,
            settings.reference_windows,
            self.model.confusion,
        )
        features = Features(settings.level, settings.life, k, settings.reference_windows)
        header = columns.header
        ledger = Ledger(settings.clock, k)
        unreadable = np.zeros(len(UNREADABLE), np.int64)
        prior = self.model.prior if columns.has_probabilities else None
        begun = len(header), zlib.crc32(header), ledger, judge, features, unreadable
        return Progress(*begun, prior=prior)

    def _check_unchanged(self) -> None:
        """Refuse a log whose bytes that were read before have changed."""
        left, checksum = self.progress.offset, 0
        with self.log.open("rb") as file:
            while left and (part := file.read(min(left, BLOCK))):
                checksum, left = zlib.crc32(part, checksum), left - len(part)
        if left or checksum != self.progress.checksum:
            raise self._changed()

    def _changed(self) -> InputError:
        """The error that says that the log has changed."""
        what = (
            f"as it was where it was read before, in its first {self.progress.offset} bytes: "
            "a log may only grow; give another --out to read it anew"
        )
        return invalid("log", str(self.log), what)

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """A context in which the folder is for this process alone."""
        self.out.mkdir(parents=True, exist_ok=True)
        with files.reserved(self.out / states.STATE):
            yield

    def read(self, after_block: Callable[[], None] = lambda: None) -> bool:
        """Read the new lines of the log and keep the state on disk after each block. A last line without its end is left until it
        has one.

        Args:
            after_block: called after each block.

        Returns:
            Whether there were new lines.
        """
        found = False
        with self.log.open("rb") as file:
            if file.seek(0, os.SEEK_END) < self.progress.offset:
                raise self._changed()
            while content := self._next_block(file):
                self._take(content)
                found = True
                after_block()
        return found

    def _next_block(self, file) -> bytes:
        """The bytes of the next whole lines; empty where there are none."""
        size = BLOCK
        while True:
            file.seek(self.progress.offset)
            content = file.read(size)
            if end := content.rfind(b"\n") + 1:
                return content[:end]
            if len(content) < size:
                return b""
            if size >= LONGEST_LINE:
                what = f"lines of less than {LONGEST_LINE} bytes"
                raise invalid("log", str(self.log), what)
            size *= 2

    def _take(self, content: bytes) -> None:
        """Take some whole lines into account, and keep the new state."""
        progress = self.progress
        rows = records.parse(content, self.columns)
        before = progress.num_cases
        if self.columns.has_id:
            kinds, added = self._cases.sorted_out(rows.key, rows.label)
            Cases.append(self.out / states.CASES, before, added)
            progress.num_cases += len(added)
        else:
            kinds = _all_new(rows)
        for closing in progress.ledger.take(rows, kinds, self.model.decide):
            self._close(closing)
        progress.unreadable = progress.unreadable + rows.unreadable
        progress.checksum = zlib.crc32(content, progress.checksum)
        progress.offset += len(content)
        states.write(self.out, self.identity, progress)

    def _close(self, closing: Closing) -> None:
        """Estimate the class shares of windows that ended, judge the labels that came, and test features."""
        progress, last = self.progress, closing.windows[-1]
        k = len(self.columns.classes)
        split = k if self.columns.has_probabilities else 0
        # Shares are estimated before labels are judged, so that they use the reference as it was while the window was open.
        for window, (lots, sample) in zip(closing.windows, closing.samples, strict=True):
            self._estimate(window, sample[:, :split])
            if self.columns.features:
                progress.features.take(k, (lots, sample[:, split:]), window)
        for c, rows in sorted(closing.labelled.items()):
            progress.features.take(c, rows, last)
        if closing.batch[NUM_FIELDS:].any():
            found = progress.judge.judge(closing.batch, last)
            if found is not None:
                progress.evidence[last] = found

    def _estimate(self, window: int, sample: np.ndarray) -> None:
        """Estimate the class shares of a window that ended, if there is a reference or prior shares to estimate them by."""
        progress, closed = self.progress, self.progress.ledger.closed
        alpha = INTERVALS * sequential.start_weight(len(closed), self.settings.life)
        found = None
        if not self.columns.has_probabilities:
            reference = progress.judge.reference
            decided = closed[window][FIELDS.index("decided")]
            if reference is not None and decided.any():
                found = drift.by_decisions(decided, reference.confusion, alpha)
        elif progress.prior is not None and len(sample):
            found = drift.by_probabilities(sample, progress.prior, alpha)
        elif len(closed) >= self.settings.reference_windows:
            # The mean of calibrated probabilities is the shares that they are for.
            first = np.sum([closed[w] for w in sorted(closed)], axis=0)
            total = np.maximum(first[FIELDS.index("sum")], 1)
            progress.prior = total / total.sum()
        if found is not None:
            progress.shares[window] = found


def _all_new(rows: Rows) -> Kinds:
    """What each row is in a log without ids, where every row is a case of its own."""
    new = np.ones(len(rows.time), bool)
    return Kinds(new, rows.label != NO_LABEL, np.zeros(len(new), bool))
