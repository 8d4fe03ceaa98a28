"""Stores of sweeps that become one: the parts of a sweep that were computed apart."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ssm.config import Config
from ssm.results import schema, store_layouts
from ssm.results.stores import SweepStore, check_store, checked_path, load
from ssm.support import checks, errors, files
from ssm.sweeps import grids, growing
from ssm.sweeps.differences import differences_of
from ssm.sweeps.grids import Grid
from ssm.sweeps.growing import Growth
from ssm.sweeps.layout import make_layout

Variables = dict[str, tuple[tuple[int, ...], str]]


def merge(stores: Iterable[str | Path], out: str | Path, *, overwrite: bool = False) -> xr.Dataset:
    """Make one store of several that hold parts of one sweep.

    Its axes have the values of all: in ascending order where those of each store are ascending numbers, else in
    the order in which they appear. A store that lacks an axis is taken at the value of its base. Cells that
    no store has are left open: the result is read with the status `not computed` there, and
    `ssm.sweep(grid, base, store=out)` computes them. Each chunk says where its runs come from.

    Args:
        stores: paths of stores that `ssm.sweep` wrote, which may be unfinished. They stay as they are.
        out: the store to write, whole or not at all.
        overwrite: whether a store that is there already may be replaced.

    Returns:
        The Dataset of the merged store, as `ssm.load` reads it.

    Raises:
        ssm.InputError: stores of different sweeps or versions (named), or that differ in a cell that both
            have (variable and cell named); a damaged store; `out` exists and `overwrite` is False.

    Example:
        >>> import tempfile, ssm
        >>> base = ssm.Config(num_classes=4, loss="squared", t1=30.0, num_saves=10)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     parts = [f"{folder}/{seed}.zarr" for seed in (1, 0)]
        ...     for seed, part in zip((1, 0), parts):
        ...         runs = ssm.sweep({"seed": [seed]}, base, store=part)
        ...     ssm.merge(parts, f"{folder}/all.zarr")["seed"].values.tolist()
        [0, 1]
    """
    paths = [checked_path(path) for path in checks.items("stores", stores, "paths of stores")]
    if not paths:
        raise errors.invalid("stores", paths, "at least one path of a store")
    out = checked_path(out)
    checks.flag("overwrite", overwrite)
    check_store(out, overwrite)
    sources = [_looked_through(path) for path in paths]
    _check_versions(sources)
    sweep = _joined(sources)
    grid = _grid(sweep)
    places = [(store, _place(store, sweep)) for store in sources]
    variables, blocks = _laid_out(grid, sweep, places)
    with files.replacing(out) as scratch:
        store_layouts.lay_out(scratch, sweep, grid.coordinates, variables, blocks)
        growing.fill(SweepStore(scratch), places)
    return load(out)


def _looked_through(path: Path) -> SweepStore:
    """A store whose chunks have all been read; raises ssm.InputError where it is none, or damaged."""
    if not path.exists():
        raise errors.invalid("store", str(path), "a store that exists")
    store = SweepStore(path)
    store.look_through()
    return store


def _check_versions(stores: Sequence[SweepStore]) -> None:
    """Refuse stores whose runs were computed by different versions, since their bits can differ."""
    known = [(store, _versions(store)) for store in stores]
    known = [(store, versions) for store, versions in known if versions]
    for store, versions in known[1:]:
        first, of_first = known[0]
        differences = [
            f"{name} is {of_first.get(name, 'not known')} there, {versions.get(name, 'not known')} here"
            for name in dict.fromkeys([*of_first, *versions])
            if of_first.get(name) != versions.get(name)
        ]
        if differences:
            raise _different(store, first, "computed by the same versions", differences)


def _versions(store: SweepStore) -> dict[str, str]:
    """The versions of this package and of libraries by which the runs of a store were computed."""
    found: dict[str, set[str]] = {}
    for origin in store.origins():
        for word in origin["versions"].split():
            name, _, version = word.partition("==")
            found.setdefault(name, set()).add(version)
    return {name: " and ".join(sorted(versions)) for name, versions in found.items()}


def _different(
    store: SweepStore, first: SweepStore, allowed: str, differences: Sequence[str]
) -> errors.InputError:
    allowed = f"{allowed} as {first.path}; {'; '.join(differences)}"
    return errors.invalid("stores", str(store.path), allowed)


def _joined(stores: Sequence[SweepStore]) -> dict[str, Any]:
    """The sweep of all cells of some stores, as JSON types.

    Raises ssm.InputError where their sweeps differ in more than the values of their axes.
    """
    names = list(dict.fromkeys(axis for store in stores for axis in store.sweep["axes"]))
    fields = {field for axis in names for field in schema.fields_of(axis)}
    joined, base = _without_axes(stores[0].sweep, fields), {}
    for store in stores:
        other = _without_axes(store.sweep, fields)
        if differences := differences_of(joined, other):
            raise _different(store, stores[0], "a store of the same sweep", differences)
        base = other["base"] | base  # an earlier version may know fewer fields
        joined = joined | {"base": base}
        for axis in names:
            if not growing.values_of(store.sweep, axis):
                allowed = (
                    f"a sweep with one value of {axis}, or more: it is an axis of another store"
                )
                raise errors.invalid("stores", str(store.path), allowed)
    axes = {
        axis: _united([growing.values_of(store.sweep, axis) for store in stores]) for axis in names
    }
    paths = [str(store.path) for store in stores]
    together = [axis for axis in names if len(schema.fields_of(axis)) > 1]
    if len(together) > 1:
        allowed = f"of one axis of several fields; there are {' and '.join(together)}"
        raise errors.invalid("stores", paths, allowed)
    if (runs := math.prod(map(len, axes.values()))) > grids.LARGEST_GRID:
        raise errors.invalid("stores", paths, f"of at most {grids.LARGEST_GRID} runs, not {runs}")
    return joined | {"axes": axes}


def _without_axes(sweep: Mapping[str, Any], fields: Collection[str]) -> dict[str, Any]:
    """What a sweep has in common with others that have these fields as axes."""
    base = {field: value for field, value in sweep["base"].items() if field not in fields}
    return {**sweep, "base": base, "axes": {}}


def _united(values: Sequence[Sequence[Any]]) -> list[Any]:
    """The values of an axis in several sweeps: ascending where those of each are ascending numbers, else as
    they appear."""
    united: list[Any] = []
    for each in values:
        united += [value for value in each if value not in united]
    numbers = all(type(value) in (int, float) for value in united)
    if numbers and all(each[i] < each[i + 1] for each in values for i in range(len(each) - 1)):
        united.sort()
    return united


def _grid(sweep: Mapping[str, Any]) -> Grid:
    """The grid of a sweep, without what its runs are given beside their Configs."""
    axes = {axis: tuple(map(_frozen, values)) for axis, values in sweep["axes"].items()}
    fields = {field: _frozen(value) for field, value in sweep["base"].items()}
    try:
        base = Config(**fields)
    except errors.InputError:  # with fields left out that are axes: as in the first run
        for axis, (first, *_) in axes.items():
            names = schema.fields_of(axis)
            fields |= zip(names, first if len(names) > 1 else [first], strict=True)
        base = Config(**{field: value for field, value in fields.items() if "." not in field})
    return Grid(base, axes)


def _frozen(value: Any) -> Any:
    """Lists, of JSON, as tuples."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _place(store: SweepStore, sweep: Mapping[str, Any]) -> Growth:
    """Where the cells of a store lie in the sweep of all."""
    place = growing.part_of(store.sweep, sweep)
    assert place is not None  # as it has all values
    return place


def _laid_out(
    grid: Grid, sweep: Mapping[str, Any], places: Sequence[tuple[SweepStore, Growth]]
) -> tuple[Variables, tuple[tuple[slice, ...], ...]]:
    """The variables of the sweep of all, as `SweepStore.create` takes them, and its chunks, which have as many
    runs at most as those of the stores."""
    chunk_size = max(store.num_runs(0) for store, _ in places)
    if not sweep.get("given"):
        layout = make_layout(grid, chunk_size)
        for store, place in places:
            growing.check_variables(store, place, layout)
        shapes = {name: grid.shape + layout.shape(name) for name in layout.dtypes}
        return {name: (shapes[name], layout.dtypes[name]) for name in shapes}, layout.blocks
    # Only the stores know how large what their own observables return is.
    known = schema.SWEPT | schema.own_variables(sweep["given"])
    sizes: dict[str, int] = {}
    dtypes: dict[str, np.dtype] = {}
    for store, _ in places:
        for name, (shape, dtype) in store.variables.items():
            for dim, size in zip(known[name].dims, shape[len(store.axes) :], strict=True):
                sizes[dim] = max(size, sizes.get(dim, 0))
            dtypes[name] = np.promote_types(dtype, dtypes.get(name, dtype))
    variables = {
        name: (grid.shape + tuple(sizes[dim] for dim in known[name].dims), dtype.str)
        for name, dtype in dtypes.items()
        if name not in grid.coordinates  # as t1, which is an axis here and there a variable
    }
    return variables, tuple(grids.blocks(grid.shape, grids.chunk_shape(grid.shape, chunk_size)))
