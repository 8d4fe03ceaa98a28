"""Points instead of a grid: designs that spread runs over the ranges of several fields at once."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.stats import qmc

from ssm.config import Config, bounds, field_names
from ssm.support import checks, errors

DESIGNS = ("sobol", "latin_hypercube", "random")
MOST_POINTS = 1_000_000
RANGE = "(low, high), (low, high, 'log') or a list of values"


def points(
    ranges: Mapping[str, Any], number: int, *, design: str = "sobol", seed: int = 0
) -> dict[str, list[Any]]:
    """An axis of `ssm.sweep` along which several fields move together through points of their ranges.

    A number in [low, high] is low + (high - low) u, by equal factors low (high / low)^u, with u in [0, 1) of
    the design; of whole numbers each is as likely as the next, by equal factors as its share of the
    logarithm. A value of a list is as likely as any other.

    Args:
        ranges: by Config field `(low, high)`, `(low, high, "log")` for equal factors, or a list of values.
        number: number of points. Those that are there twice, as of few whole numbers, are left out, with
            a warning that says how many remain.
        design: `sobol` (scrambled, evenest at a power of two), `latin_hypercube`, or `random`.
        seed: of the design.

    Returns:
        A mapping with one key, the names of all fields, and its points, to which further axes can be added.

    Raises:
        ssm.InputError: no field, an unknown one, a range that is none or outside of what the field may be,
            a number of points that is not in 1 ... 1,000,000, an unknown design.

    Source: I. M. Sobol' 1967; A. B. Owen 1998 (scrambling); M. D. McKay et al. 1979 (Latin hypercubes).

    Example:
        >>> import ssm
        >>> axis = ssm.points({"imbalance_ratio": (1, 1000, "log"), "weight_exponent": (0, 1)}, 8)
        >>> list(axis), len(axis["imbalance_ratio, weight_exponent"])
        (['imbalance_ratio, weight_exponent'], 8)
        >>> base = ssm.Config(num_classes=4, loss="squared", t1=30.0, num_saves=10)
        >>> runs = ssm.sweep({**axis, "seed": [0, 1]}, base)
        >>> runs["status"].dims, runs["imbalance_ratio"].dims
        (('point', 'seed'), ('point',))
    """
    if not isinstance(ranges, Mapping) or not ranges:
        raise errors.invalid("ranges", ranges, f"a mapping from Config fields to {RANGE}")
    number = checks.integer("number", number, 1, MOST_POINTS)
    checks.choice("design", design, DESIGNS)
    values_of = [_values_of(field, given) for field, given in ranges.items()]
    unit = _design(design, number, len(ranges), checks.integer("seed", seed, 0, 2**63 - 1))
    columns = [values(unit[:, i]) for i, values in enumerate(values_of)]
    found = list(dict.fromkeys(zip(*columns, strict=True)))
    if len(found) < number:
        message = f"number={number}: {len(found)} points remain, as values that are whole or chosen repeat"
        warnings.warn(message, stacklevel=2)
    (first, *others) = ranges
    if not others:
        return {first: [value for (value,) in found]}
    return {", ".join(ranges): found}


def _design(design: str, number: int, dimension: int, seed: int) -> Float[np.ndarray, "number d"]:
    """Points of the unit cube, each number in [0, 1)."""
    rng = np.random.default_rng(seed)
    if design == "random":
        return rng.random((number, dimension))
    generator: dict[str, Any] = {"seed": rng}  # called so by scipy before 1.15 too
    if design == "latin_hypercube":
        return qmc.LatinHypercube(dimension, **generator).random(number)
    # All of a power of two are drawn, as scipy would otherwise warn.
    return qmc.Sobol(dimension, **generator).random_base2((number - 1).bit_length())[:number]


def _values_of(field: str, given: Any) -> Callable[[Float[np.ndarray, " n"]], list[Any]]:
    """The values of a field as a function of numbers in [0, 1); raises InputError for what is no range."""
    if field not in field_names():
        hint = errors.did_you_mean(field, field_names()) or "; see help(ssm.Config)"
        raise errors.invalid("ranges", field, f"one of the fields of Config{hint}")
    name = f"ranges[{field}]"
    if not isinstance(given, tuple):
        options = [] if isinstance(given, Mapping) else checks.items(name, given, RANGE)
        if not options:
            raise errors.invalid(name, given, RANGE)
        return lambda unit: [options[int(len(options) * u)] for u in unit]
    low, high, *spacing = given if len(given) in (2, 3) else (None, None, "")
    if spacing not in ([], ["log"]):
        raise errors.invalid(name, given, RANGE)
    number = bounds.number(Config, field)
    if number is None:
        raise errors.invalid(name, given, "a list of values, as the field is no number")
    kind, within = number
    check = within.integer if kind is int else within.real
    low, high = check(name, low), check(name, high)
    if not low < high or (spacing and low <= 0):
        raise errors.invalid(
            name, given, f"{RANGE}, from the lower to the higher, by equal factors > 0"
        )
    ends = (low - 0.5, high + 0.5) if kind is int else (low, high)

    def values(unit: Float[np.ndarray, " n"]) -> list[Any]:
        if spacing:
            found = np.exp(math.log(ends[0]) + unit * math.log(ends[1] / ends[0]))
        else:
            found = ends[0] + unit * (ends[1] - ends[0])
        return [kind(value) for value in (np.rint(found) if kind is int else found).clip(low, high)]

    return values
