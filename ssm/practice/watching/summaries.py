"""All that a watch has found, in the form in which it is written to a file, printed and shown on a page."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence

import numpy as np

from ssm.practice.deployment.fields import Json
from ssm.practice.watching import advice, moved, sequential
from ssm.practice.watching.judging import Alarm, Reference
from ssm.practice.watching.records import UNREADABLE
from ssm.practice.watching.watch import INTERVALS, Watch
from ssm.practice.watching.windows import FIELDS, UNIT, Clock, Tally

FORMAT = "ssm-watch/1"


def summary(watch: Watch) -> Json:
    """All that was found, in JSON types, which is the same for the same log.

    It holds the name of the `log`; the numbers of `rows` by what became of them; the `settings`; the `reference`; the `windows` in
    their order, each with its numbers of rows and of labelled rows, and by class recall, precision, gap of calibration and share,
    each with its interval; the `alarms`; what has moved of `features`, None for a log without them; and the `advice`.
    """
    progress, settings = watch.progress, watch.settings
    judge, ledger, model = progress.judge, progress.ledger, watch.model
    reference = judge.reference
    provisional = judge.provisional(ledger.so_far(), ledger.open)
    alarms = [*judge.alarms.values(), *provisional]
    windows = sorted(ledger.closed)
    rows = [
        _window(watch, w, ledger.closed[w], number, closed=True)
        for number, w in enumerate(windows, 1)
    ]
    if (open_tally := ledger.pending.get(ledger.open)) is not None:
        rows.append(_window(watch, ledger.open, open_tally, len(windows) + 1, closed=False))
    began = {c: _began(c, rows, reference) for c in range(len(model.classes))}
    changed = [began[a.index] for a in alarms if a.metric == "recall"]
    places = [place for place in changed if place is not None]
    found = progress.shares.get(windows[-1]) if windows else None
    usual = _usual(watch, reference)
    prior = progress.prior if watch.columns.has_probabilities else usual
    judged = bool(progress.evidence)
    first = min(places) if places else None
    labelled = _labelled(rows, first)
    advised = advice.advise(alarms, found, usual, prior, model, first, labelled, judged)
    of_features = _features(watch, any(x.size for x in advice.drifted(found, usual)))
    advised = moved.joined(advised, of_features)
    return {
        "format": FORMAT,
        "log": watch.log.name,
        "classes": list(model.classes),
        "settings": {
            "window": settings.window,
            "level": settings.level,
            "planned_windows": settings.life,
            "reference_windows": settings.reference_windows,
            "card": model.card is not None,
            "has_ids": watch.columns.has_id,
            "has_probabilities": watch.columns.has_probabilities,
        },
        "rows": _counts(watch),
        "reference": _reference(reference, usual),
        "windows": rows,
        "limit": judge.limit(len(model.classes)),
        "alarms": [
            _alarm(a, watch, rows, began if a.metric == "recall" else {}, a in provisional)
            for a in alarms
        ],
        "features": of_features,
        "advice": {
            "action": advised.action,
            "headline": advised.headline,
            "steps": list(advised.steps),
            "now": None if advised.now is None else _listed(advised.now._asdict()),
        },
    }


def is_alarmed(found: Json) -> bool:
    """Whether a summary has an alarm."""
    return bool(found["alarms"])


def _usual(watch: Watch, reference: Reference | None) -> np.ndarray | None:
    """The usual class shares, shape (k,): those of the reference, which are the card's where there is a card. Without a card, where
    the log has probabilities, they are the mean probabilities of the first windows."""
    if watch.model.card is None and watch.columns.has_probabilities:
        return watch.progress.prior
    if reference is None:
        return None
    cases = reference.confusion.sum(1) + 0.5
    return cases / cases.sum()


def _counts(watch: Watch) -> Json:
    """The numbers of rows by what became of them."""
    progress = watch.progress
    unreadable = dict(zip(UNREADABLE, progress.unreadable.tolist(), strict=True))
    handled = progress.ledger.handled
    kinds = ("new", "labelled_later", "duplicated", "conflicting")
    return {
        "read": sum(handled[kind] for kind in kinds) + sum(unreadable.values()),
        **handled,
        "ahead": progress.ledger.ahead,
        "unreadable": unreadable,
    }


def _features(watch: Watch, shares_moved: bool) -> Json | None:
    """What the tests of features have found; None for a log without features."""
    names, clock = watch.columns.features, watch.settings.clock
    if not names:
        return None
    features, classes = watch.progress.features, watch.model.classes
    return moved.summary(features, names, classes, shares_moved, lambda w: starts(clock, w))


def _reference(reference: Reference | None, usual: np.ndarray | None) -> Json | None:
    """The reference: the usual class shares, rates by class with Robbins' intervals, and gaps of calibration; None where
    nothing of it is known."""
    shares = None if usual is None else usual.tolist()
    if reference is None:
        return None if shares is None else {"shares": shares}
    parts: Json = {"shares": shares}
    for name, (right, of) in (("recall", reference.recall), ("precision", reference.precision)):
        parts[name] = _rates(right, of, INTERVALS)
    known = np.isfinite(reference.gap_error)
    parts["gap"] = [_number(x) if k else None for x, k in zip(reference.gap, known, strict=True)]
    return parts


def _window(watch: Watch, window: int, tally: Tally, number: int, *, closed: bool) -> Json:
    """One window in JSON types. For each of recall, precision, calibration and shares, the probability that any interval of any
    window and class misses is at most 5 %, at whatever times one looks."""
    of = dict(zip(FIELDS, tally, strict=False))
    k, settings = tally.shape[1], watch.settings
    alpha = INTERVALS * sequential.start_weight(number, settings.life) / k
    labelled = int(of["labelled"].sum())
    row: Json = {
        "start": starts(watch.settings.clock, window),
        "closed": closed,
        "rows": int(of["decided"].sum()),
        "labelled": of["labelled"].tolist(),
        "decided": of["decided"].tolist(),
        "decided_labelled": of["decided_labelled"].tolist(),
        "recall": _rates(of["right"], of["labelled"], alpha),
        "precision": _rates(of["right"], of["decided_labelled"], alpha),
        "gap": None,
        "labelled_shares": (of["labelled"] / labelled).tolist() if labelled else None,
        "shares": None,
        "evidence": None,
    }
    if watch.columns.has_probabilities and labelled:
        mean = (of["labelled"] - of["sum_labelled"] / UNIT) / labelled
        square = of["squares"] / UNIT / labelled
        row["gap"] = _gaps(mean, square, labelled, alpha)
    if closed and (found := watch.progress.shares.get(window)) is not None:
        row["shares"] = np.stack(found, axis=1).tolist()
    if closed and (evidence := watch.progress.evidence.get(window)) is not None:
        row["evidence"] = evidence.tolist()
    return row


def _gaps(mean: np.ndarray, square: np.ndarray, count: int, alpha: float) -> list[list[float]]:
    """Gaps of calibration with the intervals of a mixture of normal tests: |mean - gap| < sqrt(v (2 log(1 / alpha) + log(1 + n)) / n)
    (1 + 1 / n), which hold at all large n at once. Source: Robbins 1970."""
    variance = np.maximum(square - mean**2, 1 / (4 * count))
    width = np.sqrt(
        variance / count * (1 + 1 / count) * (2 * math.log(1 / alpha) + math.log1p(count))
    )
    return np.stack([mean, mean - width, mean + width], axis=1).tolist()


def _rates(right: np.ndarray, of: np.ndarray, alpha: float) -> list[list[float] | None]:
    """Rates by class as [rate, low, high]; None for a class without cases."""
    low, high = sequential.confidence_sequence(right, of, alpha)
    each = zip(right.tolist(), of.tolist(), low.tolist(), high.tolist(), strict=True)
    return [[s / n, a, b] if n else None for s, n, a, b in each]


def _began(c: int, rows: Sequence[Json], reference: Reference | None) -> int | None:
    """The number of windows before the one at which the recall of class c most likely fell, which is the window from which on the
    labelled rows speak most against the reference; None where the reference has no cases of the class."""
    if reference is None or not reference.recall[1][c]:
        return None
    usual = (reference.recall[0][c] + 0.5) / (reference.recall[1][c] + 1)
    right, of = np.zeros(len(rows)), np.zeros(len(rows))
    for i, row in enumerate(rows):
        of[i] = row["labelled"][c]
        right[i] = round(row["recall"][c][0] * of[i]) if row["recall"][c] else 0
    s, n = right[::-1].cumsum()[::-1], of[::-1].cumsum()[::-1]
    p = np.clip(s / np.maximum(n, 1), 1e-9, 1 - 1e-9)
    gain = s * np.log(p / usual) + (n - s) * np.log((1 - p) / (1 - usual))
    return int(np.where((n > 0) & (p < usual), gain, -np.inf).argmax())


def _labelled(rows: Sequence[Json], first: int | None) -> np.ndarray | None:
    """The class shares of the labelled rows from a window on, shape (k,); None where there are no such rows, or no such window."""
    if first is None:
        return None
    counts = np.sum([row["labelled"] for row in rows[first:]], axis=0)
    return counts / counts.sum() if counts.sum() else None


def _alarm(
    alarm: Alarm,
    watch: Watch,
    rows: Sequence[Json],
    began: dict[int, int | None],
    is_provisional: bool,
) -> Json:
    """An alarm in words and numbers."""
    place, clock = began.get(alarm.index), watch.settings.clock
    reference = watch.progress.judge.reference
    assert reference is not None  # since without one there is no alarm
    raised = starts(clock, alarm.window)
    at = [row["start"] for row in rows].index(raised)
    since = rows[at if place is None else place :]
    usual, value = None, None
    if alarm.metric != "calibration":
        right, of = getattr(reference, alarm.metric)
        usual = _number(right[alarm.index] / of[alarm.index])
        total = "labelled" if alarm.metric == "recall" else "decided_labelled"
        weights = [row[total][alarm.index] for row in since]
        values = [row[alarm.metric][alarm.index] for row in since]
        pairs = [(v[0], w) for v, w in zip(values, weights, strict=True) if v is not None and w]
        value = sum(v * w for v, w in pairs) / sum(w for _, w in pairs) if pairs else None
    return {
        "metric": alarm.metric,
        "class": watch.model.classes[alarm.index],
        "raised": raised,
        "evidence": alarm.evidence,
        "provisional": is_provisional,
        "since": None if place is None else rows[place]["start"],
        "reference": usual,
        "value": value,
    }


def starts(clock: Clock, window: int) -> str:
    """When a window begins, in words: a day, an hour, or a row."""
    begin = clock.start(window)
    if clock.length is None:
        return f"row {int(begin)}"
    moment = datetime.datetime.fromtimestamp(begin, datetime.UTC)
    return f"{moment:%Y-%m-%d}" if clock.length >= 86400 else f"{moment:%Y-%m-%d %H:00}"


def _number(value: float) -> float | None:
    """A number, or None in place of NaN and infinity, which JSON does not have."""
    return float(value) if math.isfinite(value) else None


def _listed(values: Json) -> Json:
    """The values with lists in place of arrays."""
    return {name: x.tolist() if isinstance(x, np.ndarray) else x for name, x in values.items()}
