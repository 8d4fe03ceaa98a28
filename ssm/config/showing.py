"""A Config as it is shown: in Python as the call that makes it, in a notebook as a table.

A Config is `Any` in the annotations, since the module of `Config` imports this one.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

GROUPS = {
    "DataFields": "Data",
    "GroupFields": "Groups",
    "LossFields": "Loss",
    "WeightFields": "Weights",
    "ModelFields": "Model",
    "InputFields": "Inputs and held-out data",
    "FlowClockFields": "Clock",
    "FlowEndFields": "End of a flow",
    "FlowSolverFields": "Solver of a flow",
    "OptimizerFields": "Optimiser",
    "ObservationFields": "What is observed",
    "Config": "Seed and precision",
}
"""The title of each group of fields, in the order in which they are shown."""
MOST_VALUES, MOST_ROWS = 12, 16
"""How many numbers of a tuple, and how many rows of classes, are shown; of longer ones only both ends are."""
# The style sets no colour and no background, so that the table stays readable in dark and light themes. It sets the
# alignment, since notebooks align cells to the right, which tears names from their values.
CELL = 'style="text-align:left"'


def differing(config: Any) -> dict[str, object]:
    """The values of the fields that differ from those of `Config()`, by name, in the order of the fields."""
    standard = type(config)()
    fields = [field.name for field in dataclasses.fields(config)]
    values = {name: getattr(config, name) for name in fields}
    return {name: value for name, value in values.items() if value != getattr(standard, name)}


def call(config: Any) -> str:
    """The shortest call that makes the Config."""
    fields = ", ".join(f"{name}={value!r}" for name, value in differing(config).items())
    return f"{type(config).__name__}({fields})"


def class_weights(config: Any) -> list[float]:
    """The weight of each class once the weights of the Config act, computed without NumPy. The laws are those of
    `ssm.problem.weights`, and a test holds the two against each other."""
    counts, named, beta = config.class_counts, config.class_weights, config.effective_number_beta
    if 0 in counts:  # A class without samples has no weight, which is shown as 1.
        present = iter(
            _weights([n for n in counts if n > 0], _of_present(named, counts), beta, config)
        )
        return [next(present) if n > 0 else 1.0 for n in counts]
    return _weights(list(counts), named, beta, config)


def _of_present(
    named: tuple[float, ...] | str | None, counts: tuple[int, ...]
) -> tuple[float, ...] | str | None:
    """The given weights of classes that have samples, or the name of a law."""
    if not isinstance(named, tuple):
        return named
    return tuple(weight for weight, n in zip(named, counts, strict=True) if n > 0)


def _weights(
    counts: list[int],
    named: tuple[float, ...] | str | None,
    beta: float | None,
    config: Any,
) -> list[float]:
    """The weights of classes of these sizes, all positive."""
    n, of_unit_mean = sum(counts), True
    if isinstance(named, tuple):
        weights, of_unit_mean = list(named), config.reduction == "weighted_mean"
    elif beta is not None or named == "effective":
        log_beta = math.log1p(-1 / n) if beta is None else math.log(beta) if beta else -math.inf
        weights = [-1 / math.expm1(count * log_beta) for count in counts]
    else:
        exponents: dict[str | None, float] = {
            None: config.weight_exponent,
            "balanced": 1.0,
            "sqrt": 0.5,
        }
        exponent = exponents[named]
        reference = min(counts) if exponent > 0 else max(counts)  # no power of a ratio overflows
        weights = [(count / reference) ** -exponent for count in counts]
    if not of_unit_mean:
        return weights
    total = sum(count * weight for count, weight in zip(counts, weights, strict=True))
    return [n * weight / total for weight in weights]


def table(config: Any) -> str:
    """The Config in HTML: the fields that differ from their defaults by group, the classes that follow from
    them, and the other fields folded away."""
    changed = differing(config)
    groups = _fields_by_group(config)
    number = sum(map(len, groups.values())) - len(changed)
    return (
        f"<div><strong>{_text(type(config).__name__)}</strong>"
        f"{_grouped(config, groups, changed, wanted=True)}{_classes(config)}"
        f"<details><summary>{number} fields at their defaults</summary>"
        f"{_grouped(config, groups, changed, wanted=False)}</details></div>"
    )


def _fields_by_group(config: Any) -> dict[str, list[str]]:
    """The names of the fields by the class that has them, in the order of `GROUPS`."""
    names = {
        base.__name__: [field.name for field in dataclasses.fields(base)]
        for base in type(config).__mro__[1:-1]
    }
    inherited = {*itertools.chain(*names.values())}
    own = [field.name for field in dataclasses.fields(config) if field.name not in inherited]
    names["Config"] = own
    return {group: names[group] for group in GROUPS}


def _grouped(
    config: Any, groups: dict[str, list[str]], changed: dict[str, object], *, wanted: bool
) -> str:
    """Where `wanted`, a table of the fields that differ from their defaults, in bold; else of all other fields."""
    opened, closed = ("<strong>", "</strong>") if wanted else ("", "")
    rows = []
    for group, fields in groups.items():
        names = [name for name in fields if (name in changed) is wanted]
        for i, name in enumerate(names):
            title = GROUPS[group] if i == 0 else ""
            value = _text(_shortened(getattr(config, name)))
            rows.append([_text(title), *(f"{opened}{cell}{closed}" for cell in (name, value))])
    return _rows(rows)


def _classes(config: Any) -> str:
    """A table of the classes, with one row for alike classes that follow on each other, and the feature columns."""
    alike = [
        (key, [c for c, _ in classes])
        for key, classes in itertools.groupby(
            enumerate(
                zip(config.class_groups, config.class_counts, class_weights(config), strict=True)
            ),
            key=lambda pair: pair[1],
        )
    ]
    rows = [
        [
            f"{places[0]}" if len(places) == 1 else f"{places[0]} to {places[-1]}",
            group,
            f"{count}",
            f"{weight:.4g}",
        ]
        for (group, count, weight), places in alike
    ]
    if len(rows) > MOST_ROWS:
        half = MOST_ROWS // 2
        rows = [*rows[:half], ["…", "", "", ""], *rows[-half:]]
    since = config.weight_start
    when = f" (from {since:g} on)" if since is not None and config.has_deferral else ""
    total = sum(config.class_counts)
    heads = ["class", "group", "samples of each", f"weight{when}"]
    kind = f"{config.num_columns} feature columns, which stand for {config.column_kind}"
    return (
        _rows(rows, heads) + f"<div>{total} samples in {config.num_classes} classes; {kind}</div>"
    )


def _rows(rows: list[list[str]], heads: list[str] | None = None) -> str:
    """A table of cells that are HTML."""
    head = "".join(f"<th {CELL}>{name}</th>" for name in heads or [])
    body = "".join(f"<tr>{''.join(f'<td {CELL}>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table>{f'<tr>{head}</tr>' if heads else ''}{body}</table>" if rows else ""


def _shortened(value: object) -> str:
    """A value as Python writes it, or both ends of a long tuple."""
    if isinstance(value, tuple) and len(value) > MOST_VALUES:
        first, last = ", ".join(map(repr, value[:4])), ", ".join(map(repr, value[-2:]))
        return f"({first}, …, {last}), {len(value)} values"
    return repr(value)


def _text(text: str) -> str:
    """Text as HTML, with all marks escaped."""
    import html  # only here, since few commands show a Config

    return html.escape(text)
