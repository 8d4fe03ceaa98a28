"""A card for people to read, in Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ssm.practice.data.classifiers import Label
from ssm.practice.deployment.cards import Card
from ssm.practice.deployment.measured import Proportion
from ssm.practice.deployment.origins import Rule


def as_markdown(card: Card) -> str:
    """The page of a card, which says all that the card holds but the digests of files."""
    parts = ["# Card of a model", f"`{card.model}`", *_origin(card), *_decisions(card)]
    if card.performance is not None:
        parts += _performance(card)
    if card.alarms is not None:
        parts += _alarms(card)
    versions = ", ".join(f"{name} {version}" for name, version in card.versions.items())
    parts += ["## Versions", f"Made {card.created}" + (f" with {versions}." if versions else ".")]
    return "\n\n".join(parts) + "\n"


def _origin(card: Card) -> list[str]:
    """The parts of the page on the data and on training, with a table of the classes."""
    data, training = card.data, card.training
    columns = "" if data.num_features is None else f" of {data.num_features} features"
    lines = [f"{data.name}: {data.num_rows} rows{columns}."]
    if data.digest is not None:
        lines.append(f"SHA-256 of rows and labels: `{data.digest}`.")
    rows = [
        [
            _label(label),
            str(data.class_counts[c]),
            _number(training.class_shares[c]),
            _of(training.class_weights, c),
            _of(training.effective_shares, c),
            _of(card.probabilities_for, c),
        ]
        for c, label in enumerate(card.classes)
    ]
    head = ["class", "rows", "share", "weight", "share as weighted", "share of probabilities"]
    return ["## Data and training", " ".join(lines), _table(head, rows)]


def _decisions(card: Card) -> list[str]:
    """The parts of the page on how the model decides and was calibrated."""
    parts = ["## Decisions", _rule(card.rule, card.classes)]
    if card.rule.costs is not None:
        parts.append(_cost_table(card.rule.costs, card.classes))
    calibrated = card.calibration or "none that the model knows of"
    return [*parts, f"Calibration of the probabilities: {calibrated}."]


def _rule(rule: Rule, classes: Sequence[Label]) -> str:
    """How the model decides, in a sentence."""
    if rule.kind == "shares":
        assert rule.shares is not None
        pairs = zip(classes, rule.shares, strict=True)
        each = ", ".join(f"{_label(label)} {_number(share)}" for label, share in pairs)
        return f"The most probable class is decided, for class shares {each}."
    if rule.kind == "costs":
        return "The decision of least expected cost is taken, by these costs (rows: true class; columns: decision):"
    if rule.kind == "threshold":
        assert rule.threshold is not None
        least = _number(rule.threshold)
        return f"{_label(rule.label)} is decided where its probability is at least {least}."
    return "The model decides as it was trained to."


def _performance(card: Card) -> list[str]:
    """The parts of the page on how well the model did on held-out cases, which the card has to hold."""
    found = card.performance
    assert found is not None
    rows = [
        [_label(label), _proportion(found.recall[c]), _proportion(found.precision[c])]
        for c, label in enumerate(card.classes)
    ]
    lines = [f"On {found.num_cases} held-out cases, with intervals of 95 %."]
    if (error := found.calibration_error) is not None:
        reach = f"{_number(error.low)} to {_number(error.high)}"
        lines.append(
            f"Calibration error of the most probable class: {_number(error.mean)} ({reach})."
        )
    if (cost := found.expected_cost) is not None:
        reach = f"{_number(cost.low)} to {_number(cost.high)}"
        lines.append(f"Expected cost of 1000 cases: {_number(cost.mean)} ({reach}).")
    parts = ["## Performance", " ".join(lines), _table(["class", "recall", "precision"], rows)]
    if card.costs is not None and card.costs != card.rule.costs:
        parts += [
            "The costs (rows: true class; columns: decision):",
            _cost_table(card.costs, card.classes),
        ]
    head = ["true class", *(f"decided {_label(label)}" for label in card.classes)]
    pairs = zip(card.classes, found.confusion, strict=True)
    rows = [[_label(label), *map(str, row)] for label, row in pairs]
    return [*parts, "Cases by what they were and what was decided:", _table(head, rows)]


def _alarms(card: Card) -> list[str]:
    """The parts of the page on when to act, whose limits the card has to hold."""
    limits = card.alarms
    assert limits is not None
    text = (
        "Act where no more than so many of the labelled cases of a class are decided rightly (in brackets the recall "
        f"that this is). If nothing has changed, any class alarms with a probability of at most {limits.level:g} a window."
    )
    rows = [
        [
            _label(label),
            *(
                "never" if most is None else f"{most} ({_number(most / window)})"
                for most, window in zip(limits.most_right[c], limits.windows, strict=True)
            ),
        ]
        for c, label in enumerate(card.classes)
    ]
    head = ["class", *(f"of {window} cases" for window in limits.windows)]
    return ["## When to act", text, _table(head, rows)]


def _cost_table(costs: Sequence[Sequence[float]], classes: Sequence[Label]) -> str:
    pairs = zip(classes, costs, strict=True)
    rows = [[_label(label), *map(_number, row)] for label, row in pairs]
    return _table(["", *map(_label, classes)], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _proportion(each: Proportion) -> str:
    if math.isnan(each.share):
        return "no cases"
    reach = f"{_number(each.low)} to {_number(each.high)}"
    return f"{_number(each.share)} ({reach}; {each.count} of {each.of})"


def _of(values: Sequence[float] | None, c: int) -> str:
    return "unknown" if values is None else _number(values[c])


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def _label(label: Label | None) -> str:
    """A label in a form that a cell of a table can hold."""
    return " ".join(str(label).split()).replace("|", r"\|")
