"""Tables of what the program has lists of: the fields of a Config, the variables of a result, and the statuses."""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from ssm.config import Config
from ssm.config.bounds import Each, Within
from ssm.config.documentation import docstrings_of_fields
from ssm.config.showing import GROUPS
from ssm.dynamics.statuses import Status
from ssm.results import schema
from ssm_docs.docstrings import escaped

KINDS = {type(None): "None", tuple[int, ...]: "ints", tuple[float, ...]: "floats"}


def _bound(within: Within | Each) -> str:
    """An interval as it is written in mathematics, with the case in which it holds."""
    ends = within.open_ends if isinstance(within, Within) else ""
    low, high = (_number(end) for end in (within.low, within.high))
    left = "(" if "(" in ends else "["
    right = ")" if ")" in ends or math.isinf(within.high) else "]"
    case = getattr(within, "where", None)
    suffix = f" where {case[0]} is {case[1]}" if case else ""
    return f"{'each in ' if isinstance(within, Each) else ''}{left}{low}, {high}{right}{suffix}"


def _number(value: float) -> str:
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    power = math.log2(value) if value > 0 else 0.5
    if value > 1e6 and power == int(power):
        return f"2^{int(power)}"
    if value > 1e6 and math.log2(value + 1) == int(math.log2(value + 1)):
        return f"2^{int(math.log2(value + 1))} - 1"
    return f"{value:g}"


def _allowed(hint: Any) -> tuple[str, str]:
    """The type and the bounds of a field, from its annotation."""
    markers = hint.__metadata__ if get_origin(hint) is Annotated else ()
    bare = hint.__origin__ if markers else hint
    alternatives = (bare,) if get_origin(bare) in (Literal, tuple) else get_args(bare) or (bare,)
    kinds, words = [], []
    for kind in alternatives:
        is_choice = get_origin(kind) is Literal
        kinds.append("choice" if is_choice else KINDS.get(kind) or kind.__name__)
        words += map(str, get_args(kind)) if is_choice else ()
    bounds = [*map(_bound, markers), *([", ".join(words)] if words else [])]
    return " or ".join(kinds), "; ".join(bounds)


def fields() -> dict[str, tuple[str, str, str, str, str]]:
    """Of each field of a Config its group, type, default, bounds and words, in the groups' order."""
    hints = get_type_hints(Config, include_extras=True)
    defaults = {field.name: field.default for field in dataclasses.fields(Config)}
    found = {}
    owners = {cls.__name__: cls for cls in Config.__mro__[:-1]}
    assert set(owners) == set(GROUPS), "a group of fields that has no title here"
    for owner in GROUPS:
        for name, words in docstrings_of_fields(owners[owner]).items():
            kind, bounds = _allowed(hints[name])
            text = escaped(" ".join(inspect.cleandoc(words).split()))
            text = re.sub(r"`([^`]+)`", r"``\1``", text)  # values, which are no links
            found[name] = (GROUPS[owner], kind, repr(defaults[name]), bounds, text)
    assert set(found) == set(defaults), "a field without words"
    return found


def _list_table(head: list[str], rows: list[list[str]], widths: str, classes: str = "") -> str:
    """A list-table of reStructuredText, whose cells may hold blocks."""
    lines = [".. list-table::", "   :header-rows: 1", f"   :widths: {widths}"]
    lines += [f"   :class: {classes}"] if classes else []
    lines.append("")
    for row in [head, *rows]:
        for i, cell in enumerate(row):
            first, *rest = cell.split("\n")
            lines.append(("   * - " if i == 0 else "     - ") + first)
            lines += [f"       {line}" if line else "" for line in rest]
    return "\n".join(lines)


def _config_page() -> str:
    parts = [
        "Config: every number of a run\n=============================",
        ".. currentmodule:: ssm",
        ".. autoclass:: ssm.Config(*, field=value, ...)\n   :no-members:",
        "Fields\n------",
        "Each field is an argument of ``ssm.Config``, a flag of ``ssm run`` (``coupling`` is ``--coupling``, "
        "``weight_exponent`` is ``--weight-exponent``) and an axis of ``ssm sweep``; the attribute ``config`` of a "
        "result holds them all as JSON. "
        "What does not go together is refused in one line when the Config is made.",
        '.. raw:: html\n\n   <p><label>Filter the fields: <input type="search" id="field-filter"></label></p>',
    ]
    rows: dict[str, list[list[str]]] = {}
    for name, (group, kind, default, bounds, words) in fields().items():
        label = f".. py:attribute:: Config.{name}\n"
        allowed = f"{kind}: {escaped(bounds)}" if bounds else kind
        rows.setdefault(group, []).append([label, f"{allowed}\n\ndefault ``{default}``", words])
    for group, cells in rows.items():
        head = ["field", "allowed", "what it is"]
        parts += [f"{group}\n{'~' * len(group)}", _list_table(head, cells, "28 24 48", "fields")]
    return "\n\n".join(parts) + "\n"


def _variables_page() -> str:
    parts = [
        "Variables of a result\n=====================",
        "A run, a tracked network and a sweep are Datasets of xarray with these variables and coordinates; a sweep has "
        "one dimension more for each of its axes. A run has those that its Config asks for.",
    ]
    for title, names in (
        ("Variables", [n for n in schema.VARIABLES if not schema.is_coordinate(n)]),
        ("Coordinates", [n for n in schema.VARIABLES if schema.is_coordinate(n)]),
    ):
        cells = []
        for name in names:
            variable = schema.VARIABLES[name]
            dims = ", ".join(variable.dims) or "—"
            cells.append([f"``{name}``", dims, variable.units or "words", escaped(variable.words)])
        head = ["name", "dimensions", "units", "what it is"]
        parts += [f"{title}\n{'-' * len(title)}", _list_table(head, cells, "24 18 12 46")]
    return "\n\n".join(parts) + "\n"


def _statuses_page() -> str:
    """From the docstrings below the members of the enumeration."""
    source = inspect.getsource(Status)
    words = dict(re.findall(r'^    (\w+) = "[^"]+"\n    """(.*?)"""', source, re.M | re.S))
    rows = [
        [
            f"``{status.value}``",
            " ".join(words[status.name].split()),
            status.remedy or "nothing is amiss",
        ]
        for status in Status
    ]
    head = ["status", "what it means", "what to do"]
    parts = [
        "Statuses\n========",
        "A run that cannot go on is no error: its result holds what it reached, NaN for the rest, and its "
        '``status`` says how it ended (``run.attrs["status"]``; in a sweep, the variable ``status`` of each run). '
        "On a terminal ``ssm run`` says in one line what is amiss and what helps.",
        _list_table(head, rows, "20 40 40"),
    ]
    return "\n\n".join(parts) + "\n"


def pages() -> dict[str, str]:
    """The text of each page by its path."""
    return {
        "reference/config.rst": _config_page(),
        "reference/variables.rst": _variables_page(),
        "reference/statuses.rst": _statuses_page(),
    }
