"""Checks of the fields of a card. Each returns the value as the card keeps it, or raises ssm.InputError with one line that names
the field."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from ssm.practice.statistics.estimates import Estimate
from ssm.support import checks
from ssm.support.errors import invalid

Json = dict[str, Any]
"""An object of JSON: values of JSON types by name."""
Numbers = tuple[float, ...]
SHA256 = re.compile(r"[0-9a-f]{64}")


def cost_rows(name: str, value: object) -> tuple[Numbers, ...]:
    """Costs as rows of k finite numbers, none negative, shape (k, k); raises ssm.InputError for anything else."""
    allowed = "finite numbers, none negative, shape (k, k): a row a true class, a column a decision"
    costs = checks.array(name, value, allowed)
    square = costs.ndim == 2 and costs.shape[0] == costs.shape[1]
    if not square or not (np.isfinite(costs) & (costs >= 0)).all():
        raise invalid(name, value, allowed)
    return tuple(map(tuple, costs.tolist()))


def set_shares(part: object, field: str, place: str = "") -> None:
    """Put the shares in a field of a frozen dataclass in their place as floats; raise ssm.InputError unless they are positive
    and sum to 1. `place` is the name that the dataclass itself has in a card."""
    name = f"{place}.{field}" if place else field
    allowed = "positive numbers that sum to 1, one a class"
    shares = checks.positive(name, getattr(part, field), allowed)
    if abs(shares.sum() - 1) > 1e-6:
        raise invalid(name, shares.tolist(), allowed)
    object.__setattr__(part, field, tuple(shares.tolist()))


def estimate(name: str, value: object) -> Estimate:
    """A number that is not negative, with the two ends of an interval that contains it."""
    what = "a number within the two ends of its interval"
    numbers = checks.positive(name, value, what, or_zero=True).tolist()
    if len(numbers) != 3 or not numbers[1] <= numbers[0] <= numbers[2]:
        raise invalid(name, value, what)
    return Estimate(*numbers)


def rows(name: str, value: object) -> list[object]:
    """A list of rows, which may themselves be anything."""
    return checks.items(name, value, "rows, one a class")


def whole(name: str, value: object) -> int:
    """A whole number from 0 to 10^15."""
    return checks.integer(name, value, 0, 10**15)


def text(name: str, value: object) -> str:
    """Text of one line that is not blank."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise invalid(name, value, "text of one line")
    return value


def texts(name: str, value: object) -> Mapping[str, str]:
    """A dict of text by text, in a form that cannot be changed."""
    if not isinstance(value, Mapping):
        raise invalid(name, value, "a dict of text by text")
    return MappingProxyType({text(name, k): text(name, v) for k, v in value.items()})


def sha256(name: str, value: object) -> str:
    """A SHA-256 in hexadecimal digits."""
    if not isinstance(value, str) or not SHA256.fullmatch(value):
        raise invalid(name, value, "a SHA-256, 64 hexadecimal digits")
    return value


def time(value: object) -> str:
    """The time at which a card was made, as ISO 8601 writes it with its zone; the present time in place of an empty text."""
    if value == "":
        return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    try:
        if isinstance(value, str) and datetime.datetime.fromisoformat(value).tzinfo is not None:
            return value
    except ValueError:
        pass
    raise invalid("created", value, "a time of ISO 8601 with its zone") from None
