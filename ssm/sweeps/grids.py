"""Grids of runs: every combination of some Config fields' values, checked before anything runs."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, get_args, get_type_hints

import numpy as np
from jaxtyping import Int

from ssm import additions
from ssm.additions import Additions
from ssm.config import Config, field_names
from ssm.results import schema
from ssm.support import checks, errors

FORMS = "FIELD=A,B,C, FIELD=A..B, FIELD=A:B:N, FIELD=A:B:N:log or FIELD,FIELD=A,B;C,D"
LONGEST_AXIS = 1_000_000  # values
MOST_SIZES = 3  # that runs of one kind are padded to
LARGEST_GRID = 10_000_000  # runs
COMPILATION = 90_000  # its cost, in feature columns of runs that are followed to their end by time
TERMINAL = 10  # the least cost of a run by the loss clock over that of one by time


class Grid(NamedTuple):
    """Runs of one base Config in which some fields take several values, in row-major order."""

    base: Config
    axes: dict[str, tuple[Any, ...]]
    """Values by field, or by several fields that move together, with commas between them: then each
    value is a tuple, an entry for each field. A number of a loss or an optimiser of one's own is a field too,
    `loss.NUMBER` or `optimizer.NUMBER`."""
    given: Additions = additions.NONE
    """What the runs are given beside their Configs."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of values of each axis."""
        return tuple(map(len, self.axes.values()))

    @property
    def dimensions(self) -> tuple[str, ...]:
        """Name of each axis in a Dataset: its field, `loss_name` for `loss`, `point` for several fields."""
        return tuple(dict.fromkeys(schema.axis_coordinates(self.axes).values()))

    @property
    def coordinates(self) -> dict[str, np.ndarray]:
        """Values of each field as a coordinate, and the numbers of points; what is no plain number or word
        is written out."""
        values: list[np.ndarray] = []
        for axis, options in self.axes.items():
            if len(schema.fields_of(axis)) == 1:
                values.append(_coordinate(options))
            else:
                values += [np.arange(len(options)), *map(_coordinate, zip(*options, strict=True))]
        return dict(zip(schema.axis_coordinates(self.axes), values, strict=True))

    def run(self, number: int) -> tuple[Config, Additions]:
        """The Config of one run of the flattened grid, and what it is given beside; raises InputError that
        names the point."""
        point = self._values(number)
        numbers = {field: value for field, value in point.items() if "." in field}
        config = self._config(point)
        try:
            return config, self.given.with_numbers(numbers).of(config)
        except errors.InputError as error:
            raise _at(error, point) from None

    def _values(self, number: int) -> dict[str, Any]:
        """The value of each field in a run."""
        index = np.unravel_index(number, self.shape)
        values: dict[str, Any] = {}
        for (axis, options), i in zip(self.axes.items(), index, strict=True):
            fields = schema.fields_of(axis)
            values |= zip(fields, options[i] if len(fields) > 1 else [options[i]], strict=True)
        return values

    def _config(self, point: Mapping[str, Any]) -> Config:
        """The Config of a run, given the value of each field in it."""
        values = {field: value for field, value in point.items() if "." not in field}
        if values.get("counts") is not None:  # which say themselves how many classes there are
            values.setdefault("num_classes", Config.num_classes)
            if self.base.profile == "step":  # as where it was left out
                values.setdefault("profile", None)
        try:
            return dataclasses.replace(self.base, **values)
        except errors.InputError as error:
            raise _at(error, point) from None

    def settings(self) -> Int[np.ndarray, "settings seeds"]:
        """The numbers of all runs, a row for those that differ in their seed only; a single one in each where seeds are no
        axis of their own. Rows are in the order of their first runs."""
        numbers = np.arange(math.prod(self.shape)).reshape(self.shape)
        if "seed" not in self.axes:
            return numbers.reshape(-1, 1)
        place = list(self.axes).index("seed")
        return np.moveaxis(numbers, place, -1).reshape(-1, self.shape[place])

    def from_seeds(self, config: Config, numbers: Sequence[int]) -> list[Config]:
        """The Configs of runs of one row of `settings`, of which one is given."""
        if "seed" not in self.axes:
            return [config]
        place = list(self.axes).index("seed")
        seeds = np.unravel_index(np.asarray(numbers), self.shape)[place].tolist()
        return [config.with_seed(self.axes["seed"][i]) for i in seeds]

    def to_json(self) -> dict[str, Any]:
        """Base and axes as JSON types: what two sweeps must agree on to be the same."""
        fields = {field for axis in self.axes for field in schema.fields_of(axis)}
        base = {k: v for k, v in dataclasses.asdict(self.base).items() if k not in fields}
        known = {"base": base, "axes": self.axes}
        known |= {"given": given} if (given := self.given.to_json()) else {}
        return json.loads(json.dumps(known))


def _at(error: errors.InputError, point: Mapping[str, Any]) -> errors.InputError:
    """The error with the point of the grid at which it is."""
    shown = ", ".join(f"{field}={_written(value)}" for field, value in point.items())
    return errors.InputError(f"{error} (at {errors.one_line(shown, errors.LONGEST_ALLOWED)})")


def make_grid(
    axes: Mapping[str, Iterable[Any]], base: Config, given: Additions = additions.NONE
) -> Grid:
    """A checked grid.

    Args:
        axes: values by Config field; anything that can be iterated, a range or an array too. One key may
            name several fields, with commas between them, whose values are then tuples.
        base: what the runs have in common.
        given: what they have beside their Configs.

    Raises:
        ssm.InputError: no axis, an unknown field, an axis that is empty or has a value twice, a field on
            two axes, a second axis of several fields, a tuple of another length. Whether each combination is valid is seen when its Config is made.
    """
    if not isinstance(axes, Mapping) or not axes:
        raise errors.invalid("grid", axes, "a mapping from Config fields to values, at least one")
    checked, used = {}, set()
    for key, values in axes.items():
        fields = _fields(key, "see help(ssm.Config)", given.numbers())
        axis = ", ".join(fields)
        if twice := [field for field in fields if field in used or fields.count(field) > 1]:
            raise errors.invalid(
                "grid", key, f"an axis of fields of its own: {twice[0]} is there twice"
            )
        if len(fields) > 1 and any("," in other for other in checked):
            raise errors.invalid("grid", key, "one axis of several fields; the grid has two")
        used |= {*fields}
        checked[axis] = _options(axis, len(fields), values)
    if (runs := math.prod(map(len, checked.values()))) > LARGEST_GRID:
        raise errors.invalid("grid", f"{runs} runs", f"at most {LARGEST_GRID} runs")
    return Grid(base, checked, given)


def _options(axis: str, num_fields: int, values: Iterable[Any]) -> tuple[Any, ...]:
    """The checked values of an axis, tuples where it is of several fields."""
    name, what = f"grid[{axis}]", "one or more different values"
    if isinstance(values, Mapping | set | frozenset):  # which have no order to keep
        raise errors.invalid(name, values, what)
    options = [_plain(value) for value in checks.items(name, values, what)]
    if num_fields > 1:
        for i, option in enumerate(options):
            if not isinstance(option, tuple) or len(option) != num_fields:
                raise errors.invalid(
                    f"{name}[{i}]", option, f"{num_fields} values, one for each field"
                )
        options = [tuple(map(_plain, option)) for option in options]
    try:
        different = len(set(options))
    except TypeError:  # values that cannot be hashed, and so cannot be a field's
        different = 0
    if not options or different < len(options):
        raise errors.invalid(name, options, what)
    return tuple(options)


def parse_axis(text: str) -> tuple[str, list[Any]]:
    """An axis as it is written on the command line.

    `FIELD=A,B,C` values; `FIELD=A..B` all integers from A to B; `FIELD=A:B:N` N numbers evenly
    from A to B, `FIELD=A:B:N:log` by equal factors. Values that are themselves lists (`counts`,
    `class_weights`) stand between semicolons: `counts=50,5;500,50`, and so do those of fields that
    move together: `FIELD,FIELD=A,B;C,D`. `none` is None.

    Raises ssm.InputError for anything else.
    """
    fields, values = _fields_and_values(text)
    parts = [tuple(map(_number, part.split(","))) for part in values.removesuffix(";").split(";")]
    if len(fields) > 1:
        return ", ".join(fields), list(parts)
    (field,) = fields
    hint = get_type_hints(Config)[field]
    whole = int in (get_args(hint) or (hint,))
    if "tuple" in str(hint) and (not whole or ";" in values):
        # A word that stands alone is the name of weights, or None.
        return field, [
            part[0] if len(part) == 1 and not isinstance(part[0], int | float) else part
            for part in parts
        ]
    if span := re.fullmatch(r"(-?\d{1,18})\.\.(-?\d{1,18})", values.strip()):
        first, last = int(span[1]), int(span[2])
        if not 0 <= last - first < LONGEST_AXIS:
            raise errors.invalid("grid", text, f"of 1 to {LONGEST_AXIS} integers")
        return field, list(range(first, last + 1))
    if ":" in values:
        low, high, count, *spacing = (
            values.split(":")[:4] if values.count(":") in (2, 3) else [""] * 3
        )
        ends, number = (_number(low), _number(high)), _number(count)
        numeric = all(type(x) in (int, float) and math.isfinite(x) for x in ends)
        log = spacing == ["log"]
        if not numeric or type(number) is not int or (spacing and not log):
            raise errors.invalid("grid", text, FORMS)
        if not 1 <= number <= LONGEST_AXIS:
            raise errors.invalid("grid", text, f"of 1 to {LONGEST_AXIS} numbers")
        if log and min(ends) <= 0:
            raise errors.invalid("grid", text, "from a positive number to a positive number")
        points = np.geomspace(*ends, number) if log else np.linspace(*ends, number)
        return field, [round(x) if whole else x for x in points.tolist()]
    return field, [_number(part) for part in values.split(",")]


def _fields_and_values(text: str) -> tuple[list[str], str]:
    """The two sides of an axis; raises InputError that says how to write what is not one."""
    fields, equals, values = text.partition("=")
    fields = fields.strip().replace("-", "_")
    if "=" in values:
        raise errors.invalid("grid", text, "one axis: give one --grid for each axis")
    if not equals:
        words = text.replace(",", " ").split() or [""]
        name = words[0].replace("-", "_")
        if name in field_names():
            numeric = get_type_hints(Config)[name] in (int, int | None, float, float | None)
            example = ",".join(words[1:]) or ("1,10" if numeric else "A,B")
            raise errors.invalid("grid", text, f"{FORMS}; write {name}={example}")
    if not equals or not fields or not values:
        raise errors.invalid("grid", text, FORMS)
    return _fields(fields, "see ssm run --help"), values


def _fields(key: object, otherwise: str, numbers: Sequence[str] = ()) -> list[str]:
    """The fields that an axis is of, which are written with commas between them; raises InputError, with a
    hint, where one is no field of Config and none of the `numbers` of what is given beside it."""
    fields = [part.strip() for part in key.split(",")] if isinstance(key, str) else [key]
    known = (*field_names(), *numbers)
    for field in fields:
        if field not in known:
            hint = errors.did_you_mean(field, known) or f"; {otherwise}"
            raise errors.invalid("grid", field, f"one of the fields of Config{hint}")
    return list(map(str, fields))


def _number(text: str) -> Any:
    """A word as the number, truth value or None that it is, else itself."""
    word = text.strip()
    if word.lower() in ("none", "true", "false"):
        return {"none": None, "true": True, "false": False}[word.lower()]
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            pass
    return word


def padded_sizes(runs: Counter[int], *, terminal: bool = False) -> dict[int, int]:
    """A few sizes up to which runs of many sizes are padded, so that few shapes are compiled.

    At most `MOST_SIZES`, chosen so that the padded columns of all runs and the compilations
    together cost least.

    Args:
        runs: number of runs by size.
        terminal: whether they are by the loss clock.

    Returns:
        the padded size by size.
    """
    compilation = COMPILATION / (TERMINAL if terminal else 1)
    sizes = np.array(sorted(runs))
    before = np.concatenate([[0], np.cumsum([runs[n] for n in sizes.tolist()])])
    best, cuts = np.full(len(sizes) + 1, np.inf), []
    best[0] = 0
    totals = []
    for _ in range(min(MOST_SIZES, len(sizes))):
        cost = best[:-1, None] + (before[None, 1:] - before[:-1, None]) * sizes[None]
        cost = np.where(np.tri(len(sizes), dtype=bool).T, cost, np.inf)
        cuts.append(cost.argmin(axis=0))
        best = np.concatenate([[np.inf], cost.min(axis=0) + compilation])
        totals.append(best[-1])
    padded, end = {}, len(sizes)
    for group in reversed(range(int(np.argmin(totals)) + 1)):
        start = int(cuts[group][end - 1])
        padded |= dict.fromkeys(sizes[start:end].tolist(), int(sizes[end - 1]))
        end = start
    return padded


def chunk_shape(shape: tuple[int, ...], most: int) -> tuple[int, ...]:
    """The shape of a block of at most `most` neighbouring runs: it has all values of the last axes as far
    as they fit, some values of the axis before these, and one value of each axis before that."""
    chunk, left = [], max(most, 1)
    for length in reversed(shape):
        chunk.append(min(length, left))
        left = left // length
        left = max(left, 1)
    return tuple(reversed(chunk))


def blocks(shape: tuple[int, ...], chunk: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Slices of every block of a grid, in order."""
    counts = [math.ceil(n / c) for n, c in zip(shape, chunk, strict=True)]
    for index in np.ndindex(*counts):
        yield tuple(
            slice(i * c, min((i + 1) * c, n)) for i, c, n in zip(index, chunk, shape, strict=True)
        )


def _plain(value: Any) -> Any:
    """NumPy scalars as Python ones, lists as tuples."""
    if hasattr(value, "tolist"):  # of NumPy, xarray or JAX
        value = np.asarray(value).tolist()
    return tuple(value) if isinstance(value, list) else value


def _written(value: Any) -> str:
    """A value as `parse_axis` reads it."""
    if isinstance(value, tuple):
        return ",".join(map(_written, value))
    return "none" if value is None else str(value)


def _coordinate(values: tuple[Any, ...]) -> np.ndarray:
    """The values of an axis as an array of numbers or words."""
    kinds = {type(value) for value in values}
    if kinds <= {int, float} or kinds in ({bool}, {str}):
        return np.array(values)
    return np.array([_written(value) for value in values])
