"""Whether class shares alone have moved, or also the features within a class, in words and JSON types."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ssm.practice.deployment.fields import Json
from ssm.practice.watching.advice import Advice
from ssm.practice.watching.features import Features, Result

KINDS = ("wait", "still", "shares", "unknown", "class")
"""What tests of features have found. `wait`: there was no test yet. `still`: nothing has moved. `shares`: features of all rows
together have moved, shares have too, and every class has been tested since and was not found to move. `unknown`: features of
all rows have moved, and either a class has not been tested since or no share is known to have moved. `class`: features
within a class have moved."""


def summary(
    features: Features,
    names: Sequence[str],
    classes: Sequence[str],
    shares_moved: bool,
    starts: Callable[[int], str],
) -> Json:
    """What tests of features have found, in JSON types: its `kind`, one of `KINDS`; the findings, `found`, each with its class, or
    None for all rows; the classes that have been `tested` since; and all of it in `words`.

    Args:
        features: the tests so far.
        names: the names of the features.
        classes: the names of the classes.
        shares_moved: whether a class share is known to have drifted.
        starts: says in words when a window begins.
    """
    found = [features.found[i] for i in sorted(features.found)]
    of_classes = [result for result in found if result.index < features.k]
    since = min((result.window for result in found), default=0)
    tested = [
        c for c in range(features.k) if c in features.last and features.last[c].window >= since
    ]
    if not features.last:
        kind = "wait"
    elif of_classes:
        kind = "class"
    elif not found:
        kind = "still"
    else:
        kind = "shares" if shares_moved and len(tested) == features.k else "unknown"
    return {
        "names": list(names),
        "kind": kind,
        "tested": [classes[c] for c in tested],
        "found": [_result(each, names, classes, starts) for each in found],
        "words": _words(kind, of_classes, names, classes, tested, shares_moved),
    }


def joined(given: Advice, moved: Json | None) -> Advice:
    """The advice with what features have shown (`summary`). Where it was to do nothing or to wait, and features have moved, it becomes
    to look at what changed."""
    if moved is None or not moved["found"]:
        return given
    steps = (*given.steps, moved["words"])
    if given.action not in ("wait", "nothing"):
        return given._replace(steps=steps)
    head = "Features have moved; no class is known to be worse. Look at what changed."
    doing = (
        "Look at what changed at that time: a source of data, a unit, a form, a release. Alarms come where it costs a class right "
        "decisions, once enough labels are there."
    )
    return Advice("look", head, (moved["words"], doing), given.now)


def _result(
    result: Result, names: Sequence[str], classes: Sequence[str], starts: Callable[[int], str]
) -> Json:
    """A finding in JSON types."""
    return {
        "class": None if result.index == len(classes) else classes[result.index],
        "raised": starts(result.window),
        "rows": result.rows,
        "p_value": result.p_value,
        "separation": result.separation,
        "feature": names[result.feature],
        "now": list(result.now),
        "usual": list(result.usual),
    }


def _words(
    kind: str,
    of_classes: Sequence[Result],
    names: Sequence[str],
    classes: Sequence[str],
    tested: Sequence[int],
    shares_moved: bool,
) -> str:
    """What the tests have found, in a sentence or two."""
    if kind == "class":
        each = ", ".join(
            f"{classes[result.index]} (most of all {names[result.feature]})"
            for result in of_classes
        )
        return f"Features have moved within a class: {each}. Class shares do not explain that."
    if kind == "shares":
        return "Features of all rows have moved, and those of no class are known to have: moved class shares can explain it."
    if kind == "unknown":
        open_ones = [name for c, name in enumerate(classes) if c not in tested]
        text = "Features of all rows have moved."
        if open_ones:
            text += f" Whether those within a class have is not known before labels of enough rows: of {', '.join(open_ones)}."
            return text + (" Moved class shares may explain it." if shares_moved else "")
        return f"{text} No class is known to be the one, and no share to have moved: it is small in each class, or labels are of other rows."
    if kind == "still":
        return "No features are known to have moved, of all rows or within a class."
    return "No features were tested yet."
