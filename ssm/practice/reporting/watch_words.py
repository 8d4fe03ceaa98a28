"""The findings of a watch in sentences, for the terminal and for its page."""

from __future__ import annotations

from collections.abc import Iterator

from ssm.practice.deployment.fields import Json
from ssm.practice.reporting import format

UNREADABLE = {
    "line": "with another number of entries than the header",
    "id": "without an id",
    "time": "whose time is none",
    "probabilities": "whose probabilities are none",
    "prediction": "whose prediction is no class",
    "label": "whose label is no class",
}
HANDLED = {
    "labelled_later": "repeated a case with its label, which was used",
    "duplicated": "repeated a case with nothing new, and were left out",
    "conflicting": "had another label than their case before, and were left out",
    "out_of_order": "were earlier than the row before, and were used",
    "late": "belonged to a window that had ended, and were used",
    "ahead": "lie beyond the open window, where few others do, and wait",
}
METRICS = {
    "recall": "recall",
    "precision": "precision",
    "calibration": "calibration",
}


def alarm(found: Json) -> str:
    """An alarm in one sentence."""
    text = f"{METRICS[found['metric']]} of {found['class']} got worse"
    if found["value"] is not None and found["reference"] is not None:
        text += (
            f": {format.number(found['value'])}, where {format.number(found['reference'])} is usual"
        )
    if found["since"]:
        text += f"; likely since {found['since']}"
    at = f"seen in the window that began {found['raised']}"
    return f"{text}; {at}{', which has not ended' if found['provisional'] else ''}"


def rows(found: Json) -> Iterator[str]:
    """What became of the rows, a phrase for each kind of rows that there were."""
    counts = found["rows"]
    read, new = (
        f"{counts[kind]:,}".replace(",", "\N{NARROW NO-BREAK SPACE}") for kind in ("read", "new")
    )
    yield f"{read} rows read, {new} cases"
    for kind, words in HANDLED.items():
        if counts[kind]:
            yield f"{counts[kind]} {words}"
    for kind, words in UNREADABLE.items():
        if counts["unreadable"][kind]:
            yield f"{counts['unreadable'][kind]} left out {words}"


def acted(found: Json) -> str:
    """What to do after the advice has been followed; empty where there is nothing to do."""
    if found["advice"]["action"] in ("wait", "nothing", "look"):
        return ""
    return (
        "Once you have acted, the alarms of this watch stay. A new threshold, new probabilities, a new model or the one before is to be "
        "watched with a card and a log of its own, and another --out; so is this one where a cause outside of it was mended."
    )


def lines(found: Json) -> Iterator[str]:
    """The lines to print: what to do, the alarms, the present class shares with their threshold, and what became of the rows."""
    yield found["advice"]["headline"]
    for step in found["advice"]["steps"]:
        yield f"  {step}"
    if after := acted(found):
        yield f"  {after}"
    for each in found["alarms"]:
        yield f"alarm: {alarm(each)}"
    now = found["advice"]["now"]
    if now is not None:
        each = zip(found["classes"], now["shares"], strict=True)
        yield "shares now: " + ", ".join(f"{name} {format.number(x)}" for name, x in each)
        # Where no share is known to have moved, another threshold would follow noise.
        if now["threshold"] is not None and acted(found):
            rare = found["classes"][now["rare"]]
            yield f"threshold now: decide {rare} from p_{rare} = {format.number(now['threshold'])} on"
    yield "rows: " + "; ".join(rows(found))
