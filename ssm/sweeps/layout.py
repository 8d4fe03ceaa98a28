"""How a sweep is laid out before it runs: sizes and types of its variables, padding, chunks."""

from __future__ import annotations

import collections
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from ssm.additions import Additions
from ssm.config import Config
from ssm.measures import geometry, spectral
from ssm.preparation import can_be_padded, prepare
from ssm.results import schema
from ssm.results.variables import OBSERVED
from ssm.support import checks, errors
from ssm.sweeps import grids
from ssm.sweeps.grids import Grid
from ssm.theory import defaults

CHUNK_RUNS, CHUNK_BYTES = 256, 2**26
CHUNK_COLUMNS = 200_000  # feature columns of all runs of a chunk, which are some seconds of work
TOGETHER, TOGETHER_COLUMNS = (16, 64), 4400
"""Runs that one thread makes ready at once and follows one after the other, between two numbers, and about how many feature
columns they have: enough that the work on the host, what they are predicted to learn first of all, is shared by many, few
enough that all cores have work to the end."""


class Chunk(NamedTuple):
    """Runs that are computed, written and resumed together: a block of the grid."""

    number: int
    """Its place among the chunks of the sweep."""
    block: tuple[slice, ...]
    """Its part of the grid, a slice of each axis."""
    runs: list[int]
    """Numbers in the flattened grid of its runs that are to be computed, all of them at first."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of its values of each axis."""
        return tuple(part.stop - part.start for part in self.block)


class SweepLayout(NamedTuple):
    """What a sweep computes and how it is laid out, the same whoever computes it."""

    grid: Grid
    padded_sizes: dict[str, int]
    """Length of each dimension of a run, the largest of all runs."""
    dtypes: dict[str, str]
    """Type of each variable of a run, in the order they are written."""
    padded: dict[_PaddedTogether, dict[int, int]]
    """The number of feature columns that a run is padded up to, by its own number of columns, for each
    kind of run that is padded."""
    programs: Int[np.ndarray, " runs"]
    """A number for each run, the same for runs that probably share a program."""
    blocks: tuple[tuple[slice, ...], ...]
    """The part of the grid that each chunk is, in order."""
    together: int
    """Most runs that one thread makes ready at once."""

    def chunk(self, number: int) -> Chunk:
        """The chunk of that number, with the numbers of its runs."""
        block = self.blocks[number]
        places = np.meshgrid(*(np.arange(part.start, part.stop) for part in block), indexing="ij")
        runs = np.ravel_multi_index(tuple(places), self.grid.shape)
        return Chunk(number, block, runs.ravel().tolist())

    def alike(self, runs: Sequence[int], most: int) -> list[list[int]]:
        """Runs in groups of at most `most` that differ in their seed only, about equally large and in order."""
        places = np.unravel_index(np.asarray(runs), self.grid.shape)
        others = [
            place.tolist()
            for field, place in zip(self.grid.axes, places, strict=True)
            if field != "seed"
        ]
        groups: dict[tuple[int, ...], list[int]] = {}
        for run, *setting in zip(runs, *others, strict=True):
            groups.setdefault(tuple(setting), []).append(run)
        return [
            part.tolist()
            for group in groups.values()
            for part in np.array_split(group, -(-len(group) // most))
        ]

    def bundles(self, runs: Sequence[int], most: int) -> Iterator[list[list[int]]]:
        """The groups of `alike`, those that stand next to each other joined to bundles of at most `most` runs, which one thread
        makes ready at once."""
        bundle: list[list[int]] = []
        for group in self.alike(runs, most):
            if bundle and sum(map(len, bundle)) + len(group) > most:
                yield bundle
                bundle = []
            bundle.append(group)
        if bundle:
            yield bundle

    def programs_by_need(self, chunks: Iterable[Chunk]) -> list[tuple[int, int]]:
        """The place of the first of these chunks that probably needs a program, and its
        first run that does, for each program in order."""
        firsts: dict[int, tuple[int, int]] = {}
        for place, chunk in enumerate(chunks):
            runs = chunk.runs
            for program, i in zip(*np.unique(self.programs[runs], return_index=True), strict=True):
                firsts.setdefault(int(program), (place, runs[i]))
        return list(firsts.values())

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a variable of one run."""
        dims = (schema.VARIABLES | self.grid.given.variables())[name].dims
        return tuple(self.padded_sizes[dim] for dim in dims)

    def padded_columns(self, config: Config) -> int:
        """Number of feature columns in which a run is followed."""
        if not can_be_padded(config):
            return config.num_columns
        return self.padded[_padded_together(config)][config.num_columns]


def make_layout(grid: Grid, chunk_size: int | None = None) -> SweepLayout:
    """Check every combination of a grid and lay its sweep out.

    Raises:
        ssm.InputError: a combination that is not allowed; the first is named.
    """
    if chunk_size is not None:
        chunk_size = checks.integer("chunk_size", chunk_size, 1, 2**31 - 1)
    padded_sizes: dict[str, int] = {"block": len(spectral.BLOCKS)}
    columns: dict[_PaddedTogether, collections.Counter[int]] = {}
    sized: dict[tuple[_PaddedTogether, int], list[int]] = collections.defaultdict(list)
    kept, precisions, most_columns = set(), set(), 0
    own = grid.given.variables()
    own_dims = {dim for variable in own.values() for dim in variable.dims}
    for config, given, runs in _settings(grid):
        k, d = config.num_classes, config.feature_dim
        lengths = {"time": config.num_saves, "class": k, "component": k - 1, "feature": d}
        lengths["mode"] = min(k, d)
        names = {name for name in schema.SWEPT if schema.has_variable(name, config)}
        names |= {"weight"} if given.schedule is not None else set()
        kept |= names
        if "H" in names or "sample" in own_dims:
            lengths["sample"] = sum(config.class_counts)
        if "A" in names:
            lengths["input"] = config.num_inputs
        if "hidden" in names:
            lengths |= {"layer": config.depth - 2, "input_feature": d}
        if config.groups is not None:
            lengths["group"] = len(config.groups)
        if config.geometry:
            lengths |= {"part": len(geometry.PARTS), "factor": len(geometry.FACTORS)}
        padded_sizes = padded_sizes | {
            dim: max(size, padded_sizes.get(dim, 0)) for dim, size in lengths.items()
        }
        precisions.add(config.dtype)
        most_columns = max(most_columns, config.num_columns)
        together = _padded_together(config)
        sized[together, config.num_columns].extend(runs)
        if can_be_padded(config):
            columns.setdefault(together, collections.Counter())[config.num_columns] += len(runs)
    floats: str = max(precisions)  # float64 where there are both
    dtypes = {
        name: floats if variable.dtype == OBSERVED else variable.dtype
        for name, variable in schema.SWEPT.items()
        # A field that is an axis, as t1, is a coordinate of that name.
        if name in kept and name not in grid.coordinates
    } | dict.fromkeys(own, floats)
    padded = {
        kind: grids.padded_sizes(runs, terminal=kind.clock == "loss")
        for kind, runs in columns.items()
    }
    programs, numbers = np.zeros(math.prod(grid.shape), np.int32), {}
    for (kind, size), runs in sized.items():
        program = kind, padded.get(kind, {}).get(size, size)
        programs[runs] = numbers.setdefault(program, len(numbers))
    together = int(np.clip(TOGETHER_COLUMNS // most_columns, *TOGETHER))
    layout = SweepLayout(grid, padded_sizes, dtypes, padded, programs, (), together)
    if own:
        layout = layout._replace(padded_sizes=_with_own_dims(layout))
    size_of_run = sum(8 * math.prod(layout.shape(name)) for name in dtypes)
    most = min(CHUNK_RUNS, CHUNK_BYTES // size_of_run, CHUNK_COLUMNS // most_columns)
    chunk = grids.chunk_shape(grid.shape, chunk_size or max(most, 1))
    return layout._replace(blocks=tuple(grids.blocks(grid.shape, chunk)))


def _settings(grid: Grid) -> Iterator[tuple[Config, Additions, list[int]]]:
    """The Config of the first of each runs that differ in their seed only, what they are given, and their numbers.

    Raises ssm.InputError for a run that is not allowed: for the first of the grid.
    """
    try:
        for i, row in enumerate(grid.settings()):
            config, given = grid.run(int(row[0]))
            if i == 0:
                grid.from_seeds(config, row.tolist())  # which are allowed in all if they are in one
            yield config, given, row.tolist()
    except errors.InputError:
        for run in range(math.prod(grid.shape)):
            grid.run(run)
        raise


def _with_own_dims(layout: SweepLayout) -> dict[str, int]:
    """The length of each dimension of a run, those of own observables too: the largest of a run of each
    program."""
    variables, sizes = layout.grid.given.variables(), dict(layout.padded_sizes)
    for first in np.unique(layout.programs, return_index=True)[1].tolist():
        config, given = layout.grid.run(first)
        ready = prepare(config, layout.padded_columns(config), given=given)
        for name, shape in ready.own_shapes.items():
            for dim, size in zip(variables[name].dims[1:], shape, strict=True):
                if dim != "sample":  # which is without padding
                    sizes[dim] = max(size, sizes.get(dim, 0))
    return sizes


class _PaddedTogether(NamedTuple):
    """Runs that are alike in all of this probably share a compilation once they have equally many feature
    columns, so the sizes to pad them to are chosen together.

    Whether they do share it is seen from their arrays when they are prepared (`execution`), which would
    cost as much as many short runs here, before anything runs. A field that is missing here, or too many,
    can make a sweep compile more often than is best. It cannot change which runs share a program.
    """

    num_classes: int
    feature_dim: int
    depth: int
    is_squared: bool
    is_own: bool
    has_adjustment: bool
    reduction: str
    has_weight_start: bool
    optimizer: str
    batch_size: int | None
    clock: str
    solver: str
    has_end_margin: bool
    has_decay: bool
    has_equal_decays: bool
    """Then something is conserved, which is observed."""
    num_saves: int
    save_state: bool
    geometry: bool
    dtype: str
    has_coupling: bool
    has_common_coupling: bool
    has_output_bias: bool
    num_inputs: int
    num_groups: int
    held_out: bool


def _padded_together(config: Config) -> _PaddedTogether:
    """What decides which runs this one is padded together with."""
    return _PaddedTogether(
        config.num_classes,
        config.feature_dim,
        config.depth,
        config.loss == "squared",
        config.loss == "own",
        config.has_adjustment,
        config.reduction,
        config.weight_start is not None,
        config.optimizer,
        config.batch_size,
        config.clock,
        defaults.solver(config),
        defaults.end_margin(config) is not None,
        config.has_decay,
        config.weight_decay == config.feature_decay,
        config.num_saves,
        config.save_state,
        config.geometry,
        config.dtype,
        config.coupling > 0,
        config.between_coupling > 0 or config.has_hidden_bias,
        config.has_output_bias,
        config.num_inputs,
        0 if config.groups is None else len(config.groups),
        config.held_out,
    )
