"""Stores of sweeps that grow: what is known goes into the layout of a larger sweep of the same runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ssm.results import datasets, schema, store_layouts
from ssm.results.sweep_stores import SweepStore
from ssm.support import errors, files, interrupts
from ssm.sweeps.layout import SweepLayout, make_layout


class Growth(NamedTuple):
    """Where the cells of one sweep lie in a larger one."""

    order: list[int | None]
    """For each axis of the larger sweep its number among those of the smaller, None for a new one."""
    into: list[list[int]]
    """For each axis of the larger sweep the places of the smaller one's values, the only one of the base
    for a new axis."""


def growth(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> Growth | None:
    """How a stored sweep becomes the one that is asked for by having more cells: more values of its axes,
    and new axes among whose values is that of its base. None where it does not.

    Args:
        stored: a sweep as JSON types.
        asked: the same of the larger one.
    """
    if not set(stored["axes"]) <= set(asked["axes"]):
        return None
    larger = part_of(stored, asked)
    fields = {field for axis in asked["axes"] for field in schema.fields_of(axis)}
    base = {field: value for field, value in stored["base"].items() if field not in fields}
    # A field that an earlier version did not know is as it was without it.
    same = all(asked["base"].get(field) == value for field, value in base.items())
    if larger is None or not same or stored.get("given", {}) != asked.get("given", {}):
        return None
    more = math.prod(map(len, asked["axes"].values())) > math.prod(map(len, larger.into))
    return larger if more else None


def part_of(sweep: Mapping[str, Any], larger: Mapping[str, Any]) -> Growth | None:
    """Where the cells of a sweep lie in one that has all of its axes; None where a value of an axis is
    not there."""
    order, into, axes = [], [], list(sweep["axes"])
    for axis, values in larger["axes"].items():
        known = values_of(sweep, axis)
        if not known or any(value not in values for value in known):
            return None
        order.append(axes.index(axis) if axis in axes else None)
        into.append([values.index(value) for value in known])
    return Growth(order, into)


def values_of(sweep: Mapping[str, Any], axis: str) -> list[Any]:
    """The values that a sweep has on an axis: the only one of its base where that is no axis of it, and none
    where its base has none either."""
    fields, base = schema.fields_of(axis), sweep["base"]
    if axis in sweep["axes"]:
        return sweep["axes"][axis]
    if not set(fields) <= set(base):
        return []
    values = [base[field] for field in fields]
    return [values] if len(values) > 1 else values


def grow(
    store: SweepStore,
    larger: Growth,
    layout: SweepLayout,
    variables: Mapping[str, tuple[tuple[int, ...], str]],
) -> SweepStore:
    """Put a store of the larger sweep in the place of a store, with all that is done of it. The old one
    is there until the new one is whole.

    Args:
        store: it must be kept for this process.
        larger: where its cells lie in the larger sweep.
        layout: that of the larger sweep.
        variables: those of the larger sweep, as `SweepStore.create` takes them.

    Raises:
        ssm.InputError: the store has other variables than this version gives to its runs.
    """
    check_variables(store, larger, layout)
    for chunk in range(len(store.blocks)):
        store.done_runs(chunk)
    with files.replacing(store.path) as scratch:
        sweep, coordinates = layout.grid.to_json(), layout.grid.coordinates
        store_layouts.lay_out(scratch, sweep, coordinates, variables, layout.blocks)
        fill(SweepStore(scratch), [(store, larger)])
    return SweepStore(store.path)


def check_variables(store: SweepStore, larger: Growth, layout: SweepLayout) -> None:
    """Raise ssm.InputError where this version would give the runs of a store other variables than it has:
    what it lacks could not be told from what its runs do not have."""
    axes = {
        axis: tuple(options[i] for i in places)
        for (axis, options), places in zip(layout.grid.axes.items(), larger.into, strict=True)
    }
    part = make_layout(layout.grid._replace(axes=axes))
    ours = {name: (part.shape(name), np.dtype(dtype)) for name, dtype in part.dtypes.items()}
    theirs = {
        name: (shape[len(store.axes) :], np.dtype(dtype))
        for name, (shape, dtype) in store.variables.items()
        if name not in layout.grid.coordinates
    }
    if different := dict(ours.items() ^ theirs.items()):
        names = ", ".join(sorted(different))
        allowed = f"a store of the same variables; this one is of another version of ssm ({names})"
        raise errors.invalid("store", str(store.path), allowed)


class _Source(NamedTuple):
    """A store whose runs go into another one."""

    store: SweepStore
    larger: Growth
    belongs: np.ndarray
    """The part that each of its runs belongs to, with the axes of the larger sweep; -1 where it is not done."""
    costs: list[dict[str, Any]]
    """The origin of each part, with what is left of its cost."""

    def within(self, block: tuple[slice, ...]) -> np.ndarray:
        """The part that each run of a block of the larger sweep belongs to, -1 where it is not there."""
        here, places, _ = _within(block, self.larger)
        inside = np.full([part.stop - part.start for part in block], -1)
        inside[np.ix_(*here)] = self.belongs[np.ix_(*places)]
        return inside.ravel()


def fill(new: SweepStore, stores: Sequence[tuple[SweepStore, Growth]]) -> None:
    """Write into a new store all runs of others that have been seen to be done, with their origins.

    Raises ssm.InputError where two of the others differ in a run.
    """
    sources = []
    for store, larger in stores:
        belongs, parts = store.parts()
        costs = [dict(part) for part in parts]
        sources.append(_Source(store, larger, _as_in(belongs, larger), costs))
    with interrupts.undivided() as hear:
        for chunk in range(len(new.blocks)):
            hear()  # since all is removed that is not whole, Ctrl-C need not wait for it
            _fill_chunk(new, chunk, sources)


def _fill_chunk(new: SweepStore, chunk: int, sources: Sequence[_Source]) -> None:
    """Write one chunk of a new store, as far as the sources have it."""
    block = new.blocks[chunk]
    belongs = np.stack([source.within(block) for source in sources])
    done = (belongs >= 0).any(axis=0)
    if not done.any():
        return
    arrays = _gathered(new, block, sources, belongs)
    first = np.where(done, (belongs >= 0).argmax(axis=0), -1)
    known = {(int(i), int(belongs[i, run])) for run, i in enumerate(first) if i >= 0}
    origins = []
    for i, number in sorted(known):
        of_part = np.flatnonzero((first == i) & (belongs[i] == number)).tolist()
        origins.append(_share(sources[i].costs[number], of_part))
    if len(origins) == 1 and done.all():
        del origins[0]["places"]
    places = np.flatnonzero(done).tolist()
    new.write(chunk, {name: values[places] for name, values in arrays.items()}, origins, places)


def _as_in(values: np.ndarray, larger: Growth) -> np.ndarray:
    """An array over the axes of the smaller sweep, and maybe others, with the larger one's axes."""
    old = [axis for axis in larger.order if axis is not None]
    values = values.transpose(*old, *range(len(old), values.ndim))
    new = [i for i, axis in enumerate(larger.order) if axis is None]
    return np.expand_dims(values, new) if new else values


def _within(
    block: tuple[slice, ...], larger: Growth
) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Places of the smaller sweep's values along each axis: within a block of the larger one, among the
    smaller one's values, and the latter again for the axes that it has, in its order."""
    here, places, own = [], [], {}
    for axis, part, into in zip(larger.order, block, larger.into, strict=True):
        inside = np.array(
            [i for i, place in enumerate(into) if part.start <= place < part.stop], int
        )
        here.append(np.array([into[i] - part.start for i in inside], int))
        places.append(inside)
        if axis is not None:
            own[axis] = inside
    return here, places, [own[axis] for axis in sorted(own)]


def _gathered(
    new: SweepStore,
    block: tuple[slice, ...],
    sources: Sequence[_Source],
    belongs: np.ndarray,
) -> dict[str, np.ndarray]:
    """The values of all runs of a block that a source has, runs first; the rest is filled up."""
    shape, axes = tuple(part.stop - part.start for part in block), len(block)
    arrays = {}
    for name, (whole, dtype) in new.variables.items():
        filling = datasets.filling(dtype)
        values = np.full((math.prod(shape), *whole[axes:]), filling, dtype)
        seen = np.zeros(len(values), bool)
        for (store, larger, *_), numbers in zip(sources, belongs, strict=True):
            runs = np.flatnonzero(numbers >= 0)
            if not runs.size:
                continue
            theirs = np.full((*shape, *whole[axes:]), filling, dtype)
            if name in store.variables:
                here, _, own = _within(block, larger)
                found = _as_in(store.values(name, own), larger)
                places = np.ix_(*here, *map(np.arange, found.shape[axes:]))
                theirs[places] = found
            theirs = theirs.reshape(values.shape)
            for run in runs[seen[runs]]:
                if not _same(theirs[run], values[run]):
                    allowed = _conflict(new, name, block, run)
                    raise errors.invalid("stores", str(store.path), allowed)
            runs = runs[~seen[runs]]
            values[runs], seen[runs] = theirs[runs], True
        arrays[name] = values
    return arrays


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two arrays are equal to the bit, where all NaNs are."""
    equal = one == other
    if one.dtype.kind == "f":
        equal = (equal & (np.signbit(one) == np.signbit(other))) | (np.isnan(one) & np.isnan(other))
    return bool(np.all(equal))


def _conflict(new: SweepStore, name: str, block: tuple[slice, ...], run: int) -> str:
    """What is allowed where two stores differ in a run of a block, with the run's place."""
    within = np.unravel_index(run, [part.stop - part.start for part in block])
    where = ", ".join(
        f"{axis}={values[part.start + i]}"
        for (axis, values), part, i in zip(new.sweep["axes"].items(), block, within, strict=True)
    )
    return f"stores that agree to the bit where they overlap; {name} differs at {where}"


def _share(part: dict[str, Any], places: list[int]) -> dict[str, Any]:
    """The origin of some of the runs of a part, with their share of its cost, which is taken off it."""
    share = {**part, "runs": len(places), "places": places}
    share["seconds"] = part["seconds"] * len(places) / part["runs"]
    part["seconds"] -= share["seconds"]
    part["runs"] = max(part["runs"] - len(places), 1)
    part["compilations"] = 0
    return share
