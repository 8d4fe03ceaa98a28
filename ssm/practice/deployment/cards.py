"""The card of a model: the data and weights that it was trained with, how it decides, how well it did on held-out
cases, and at which recall to act. A card is a JSON file that needs no library to be read."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np

from ssm.practice.data.classifiers import Label
from ssm.practice.deployment import fields
from ssm.practice.deployment.alarm_limits import alarm_limits, most_right
from ssm.practice.deployment.fields import Json, Numbers
from ssm.practice.deployment.measured import AlarmLimits, Performance, Proportion
from ssm.practice.deployment.origins import Data, Rule, Training
from ssm.support import checks, files
from ssm.support.errors import InputError, invalid, one_of

__all__ = [
    "FORMAT",
    "AlarmLimits",
    "Card",
    "Data",
    "Performance",
    "Proportion",
    "Rule",
    "Training",
    "alarm_limits",
    "most_right",
    "read_card",
    "write_card",
]
FORMAT = "ssm-card/1"
"""The version of the schema, as files have it under `format`."""
CARD = "card.json"  # the name of a card's file in the folder of a model
Part = Data | Training | Rule | Performance | AlarmLimits
PARTS: dict[str, type[Part]] = {
    "data": Data,
    "training": Training,
    "rule": Rule,
    "performance": Performance,
    "alarms": AlarmLimits,
}
# Numbers that files hold beside the fields, for readers without this package; they follow from the fields.
DERIVED = {
    "training": ("effective_shares",),
    "performance": ("recall", "precision"),
    "alarms": ("recall",),
}


@dataclasses.dataclass(frozen=True)
class Card:
    """What a model is and how well it does. Arrays by class are in the order of `classes`.

    Raises:
        ssm.InputError: a field of another type, a part for another number of classes, an expected cost without costs,
            labels that are not text or numbers.
    """

    model: str
    """The estimator and its parameters, in one line."""
    classes: tuple[Label, ...]
    data: Data
    training: Training
    rule: Rule = dataclasses.field(default_factory=Rule)
    probabilities_for: Numbers | None = None
    """The class shares that `predict_proba` is for; None where they are not known, or there are no probabilities."""
    calibration: str | None = None
    """How probabilities were calibrated, in one line; None where they were not."""
    costs: tuple[Numbers, ...] | None = None
    """The costs C[c, j] of deciding j where c is true, in any one unit, from which the expected cost is computed. They may
    differ from those of the rule."""
    performance: Performance | None = None
    alarms: AlarmLimits | None = None
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """The versions of Python and of the libraries that the model was saved with."""
    created: str = ""
    """When the card was made, with the time zone, as ISO 8601 writes it; the present time in UTC where it is left out."""
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """The SHA-256 of each file that lies beside the card, by the name of the file."""

    def __post_init__(self) -> None:
        fields.text("model", self.model)
        labels = checks.items("classes", self.classes, "labels, at least two, all different")
        labels = [x.item() if isinstance(x, np.generic) else x for x in labels]
        for label in labels:
            if not isinstance(label, Label) or (
                isinstance(label, float) and not math.isfinite(label)
            ):
                raise invalid("classes", label, "labels that are text or finite numbers")
        if len(labels) < 2 or len(set(labels)) < len(labels):
            raise invalid("classes", labels, "labels, at least two, all different")
        object.__setattr__(self, "classes", tuple(labels))
        if self.probabilities_for is not None:
            fields.set_shares(self, "probabilities_for")
        if self.costs is not None:
            object.__setattr__(self, "costs", fields.cost_rows("costs", self.costs))
        if self.calibration is not None:
            fields.text("calibration", self.calibration)
        self._check_parts()
        object.__setattr__(self, "created", fields.time(self.created))
        for name in ("versions", "files"):
            object.__setattr__(self, name, fields.texts(name, getattr(self, name)))
        for name, digest in self.files.items():
            fields.sha256(f"files[{name!r}]", digest)

    def _check_parts(self) -> None:
        """Refuse parts of other kinds, and parts for another number of classes."""
        kinds = {"data": Data, "training": Training, "rule": Rule}
        kinds |= {"performance": Performance, "alarms": AlarmLimits}
        for name, kind in kinds.items():
            value, optional = getattr(self, name), name in ("performance", "alarms")
            if not (isinstance(value, kind) or (optional and value is None)):
                raise invalid(name, value, f"a {kind.__name__}{' or None' if optional else ''}")
        by_class = {
            "data.class_counts": self.data.class_counts,
            "training.class_shares": self.training.class_shares,
            "probabilities_for": self.probabilities_for,
            "rule.shares": self.rule.shares,
            "rule.costs": self.rule.costs,
            "costs": self.costs,
            "performance.confusion": self.performance and self.performance.confusion,
            "alarms.most_right": self.alarms and self.alarms.most_right,
        }
        for name, value in by_class.items():
            if value is not None and len(value) != len(self.classes):
                raise invalid(name, value, f"of {len(self.classes)} classes, {list(self.classes)}")
        if self.rule.label is not None and self.rule.label not in self.classes:
            raise invalid("rule.label", self.rule.label, f"one of {list(self.classes)}")
        if self.performance and self.performance.expected_cost and self.costs is None:
            raise invalid("costs", None, "given where there is an expected cost")


def write_card(card: Card, path: str | Path, *, overwrite: bool = False) -> None:
    """Write a card as JSON, whole or not at all.

    Raises:
        ssm.InputError: anything but a card; a path that exists (unless `overwrite`) or cannot be written to.
    """
    if not isinstance(card, Card):
        raise invalid("card", card, "an ssm.practice.cards.Card")
    path = Path(path)
    files.check_output(path, overwrite)
    with files.replacing(path) as scratch:
        scratch.write_text(_as_text(card), encoding="utf-8")


def read_card(path: str | Path) -> Card:
    """The card of a JSON file, or of the folder of a model.

    Raises:
        ssm.InputError: a file that cannot be read or is no card, a card of another version of the schema, and one that
            was changed since it was written.
    """
    path = Path(path)
    path = path / CARD if path.is_dir() else path
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise invalid("card", str(path), f"a readable JSON file ({type(error).__name__})") from None
    if not isinstance(document, dict) or not str(document.get("format")).startswith("ssm-card/"):
        raise invalid("card", str(path), f"a card, whose format is {FORMAT!r}")
    if document["format"] != FORMAT:
        what = (
            f"of format {FORMAT!r}, not {document['format']!r}: this version of ssm reads no other"
        )
        raise invalid("card", str(path), what)
    content = {name: x for name, x in document.items() if name not in ("format", "digest")}
    if document.get("digest") != _digest(content):
        raise invalid("card", str(path), "an undamaged card; its contents have changed")
    try:
        card = _card(content)
    except InputError as error:
        raise InputError(f"{error} (in {path})") from None
    if not _agree(_content(card), content):
        what = "one whose derived numbers follow from the others"
        raise invalid("card", str(path), what)
    return card


def _as_text(card: Card) -> str:
    """The text of the file of a card."""
    content = _content(card)
    document = {"format": FORMAT, "digest": _digest(content), **content}
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _digest(content: Json) -> str:
    """The SHA-256 of an object of JSON, which depends neither on the order of keys nor on blanks."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _content(card: Card) -> Json:
    """A card in JSON types, with the numbers that follow from its fields."""
    content = _fields(card)
    for name in PARTS:
        content[name] = None if content[name] is None else _fields(content[name])
    content["training"]["effective_shares"] = card.training.effective_shares
    if card.performance is not None:
        part = content["performance"]
        for name in ("recall", "precision"):
            part[name] = [_proportion(each) for each in getattr(card.performance, name)]
        for name in ("calibration_error", "expected_cost"):
            value = part[name]
            part[name] = value and dict(zip(("value", "low", "high"), value, strict=True))
    if card.alarms is not None:
        content["alarms"]["recall"] = [card.alarms.recall(c) for c in range(len(card.classes))]
    return json.loads(json.dumps(content))  # tuples become lists


def _fields(part: Card | Part) -> Json:
    """The fields of a card or of a part of it, by name."""
    values = {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
    return {name: dict(x) if isinstance(x, Mapping) else x for name, x in values.items()}


def _proportion(each: Proportion) -> Json:
    """A proportion with its interval in JSON types; None for numbers that are not known."""
    ends = {name: getattr(each, name) for name in ("share", "low", "high")}
    numbers = {name: None if math.isnan(x) else x for name, x in ends.items()}
    return {"count": each.count, "of": each.of, **numbers}


def _card(content: Json) -> Card:
    """The card that an object of JSON holds. Numbers that follow from the fields are left out."""
    parts = dict(content)
    for name, kind in PARTS.items():
        part = parts.get(name)
        if not isinstance(part, dict):
            continue  # The card itself refuses it, unless it is None.
        part = {key: x for key, x in part.items() if key not in DERIVED.get(name, ())}
        for key in ("calibration_error", "expected_cost") if kind is Performance else ():
            if isinstance(part.get(key), dict):
                part[key] = [part[key].get(end) for end in ("value", "low", "high")]
        parts[name] = _made(kind, part, f"{name}.")
    return _made(Card, parts)


_Made = TypeVar("_Made", bound=Card | Part)


def _made(kind: type[_Made], values: Json, prefix: str = "") -> _Made:
    """A card or a part of it with these fields; raises ssm.InputError for unknown and for missing fields. `prefix` stands
    before the names of fields in messages."""
    known = [field.name for field in dataclasses.fields(kind)]
    for name in values:
        if name not in known:
            raise invalid("field", prefix + name, one_of(name, known))
    for name in known:
        if name not in values:
            raise invalid(prefix + name, None, "given")
    return kind(**values)


def _agree(ours: object, theirs: object) -> bool:
    """Whether two values of JSON types are equal; numbers may differ by the rounding of other machines."""
    a_float = float in (type(ours), type(theirs))
    if a_float and isinstance(ours, float | int) and isinstance(theirs, float | int):
        return math.isclose(ours, theirs, rel_tol=1e-9, abs_tol=1e-12)
    if type(ours) is not type(theirs):
        return False
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(_agree(ours[k], theirs[k]) for k in ours)
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(_agree, ours, theirs))
    return ours == theirs
