"""What a sweep computes and how it is laid out: sizes, types, padding, chunks."""

from __future__ import annotations

import collections
from typing import NamedTuple

import numpy as np

from ssm.config import Config
from ssm.measures import geometry, spectral
from ssm.results import datasets
from ssm.support import checks
from ssm.sweeps import grids
from ssm.sweeps.grids import Grid

CHUNK_RUNS, CHUNK_BYTES = 256, 2**26
CHUNK_COLUMNS = 200_000  # feature columns of all its runs: some seconds' work


class SweepLayout(NamedTuple):
    """What a sweep computes and how it is laid out, the same whoever computes it."""

    grid: Grid
    sizes: dict[str, int]
    """Length of each dimension of a run, the largest of all runs."""
    dtypes: dict[str, str]
    """Type of each variable of a run, in the order they are written."""
    padded: dict[_Shape, dict[int, int]]
    """What the number of feature columns of a run is padded up to, by shape and number."""
    blocks: tuple[tuple[slice, ...], ...]
    """The chunks of runs."""

    def runs(self, chunk: int) -> list[int]:
        """Numbers of a chunk's runs in the flattened grid."""
        numbers = np.arange(np.prod(self.grid.shape)).reshape(self.grid.shape)
        return numbers[self.blocks[chunk]].ravel().tolist()

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a variable of one run."""
        return tuple(self.sizes[dim] for dim in datasets.DIMENSIONS[name])

    def compiled_shape(self, config: Config) -> tuple[int, _Shape]:
        """Number of feature columns a run is followed in, and what decides beside it whether two
        runs share a compilation."""
        shape = _shape(config)
        return self.padded[shape][config.num_columns], shape


def make_layout(grid: Grid, chunk_size: int | None = None) -> SweepLayout:
    """Check every combination of a grid and lay its sweep out.

    Raises ssm.InputError for the first combination that is not allowed.
    """
    if chunk_size is not None:
        chunk_size = checks.integer("chunk_size", chunk_size, 1, 2**31 - 1)
    sizes: dict[str, int] = {"block": len(spectral.BLOCKS)}
    columns: dict[_Shape, collections.Counter[int]] = {}
    kept, precisions = set(), set()
    for run in range(int(np.prod(grid.shape))):
        config = grid.config(run)
        k, d = config.num_classes, config.feature_dim
        own = {"time": config.num_saves, "class": k, "component": k - 1, "feature": d}
        own["mode"] = min(k, d)
        mine = datasets.optional_variables(config)
        kept |= mine
        if "H" in mine:
            own["sample"] = sum(config.class_counts)
        if "hidden" in mine:
            own |= {"layer": config.depth - 2, "input_feature": d}
        if config.geometry:
            own |= {"part": len(geometry.PARTS), "factor": len(geometry.FACTORS)}
        sizes = sizes | {dim: max(size, sizes.get(dim, 0)) for dim, size in own.items()}
        precisions.add(config.dtype)
        columns.setdefault(_shape(config), collections.Counter())[config.num_columns] += 1
    floats = max(precisions)  # float64 where there are both
    dtypes = {
        name: floats if dtype == "observed" else dtype
        for name, dtype in datasets.SWEEP_TYPES.items()
        # t1 as an axis is a coordinate of that name
        if (name not in datasets.OPTIONAL or name in kept) and name not in grid.dimensions
    }
    padded = {
        shape: grids.padded_sizes(n, terminal=shape.clock == "loss")
        if shape.column_kind == "samples" and shape.optimizer != "muon"  # which scales by shapes
        else {size: size for size in n}
        for shape, n in columns.items()
    }
    layout = SweepLayout(grid, sizes, dtypes, padded, ())
    size_of_run = sum(8 * int(np.prod(layout.shape(name))) for name in dtypes)
    largest = max(max(padded.values()) for padded in layout.padded.values())
    most = min(CHUNK_RUNS, CHUNK_BYTES // size_of_run, CHUNK_COLUMNS // largest)
    chunk = grids.chunk_shape(grid.shape, chunk_size or max(most, 1))
    return layout._replace(blocks=tuple(grids.blocks(grid.shape, chunk)))


class _Shape(NamedTuple):
    """What decides, beside the number of columns, whether two runs share a compilation."""

    column_kind: str
    num_classes: int
    feature_dim: int
    depth: int
    loss: str
    has_adjustment: bool
    weighted_mean: bool
    has_deferral: bool
    optimizer: str
    batch_size: int | None
    clock: str
    solver: str
    stops: bool
    has_decay: bool
    keeps: bool
    """Whether anything is conserved."""
    num_saves: int
    save_state: bool
    geometry: bool
    dtype: str
    diagonal: bool
    """Whether the coupling kernel is, as it is of all columns but coupled samples."""


def _shape(config: Config) -> _Shape:
    return _Shape(
        config.column_kind,
        config.num_classes,
        config.feature_dim,
        config.depth,
        "squared" if config.loss == "squared" else "cross_entropy",
        config.has_adjustment,
        config.reduction == "weighted_mean",
        config.weight_start is not None,
        config.optimizer,
        config.batch_size,
        config.clock,
        config.chosen_solver,
        config.end_margin is not None,
        config.has_decay,
        config.weight_decay == config.feature_decay,
        config.num_saves,
        config.save_state,
        config.geometry,
        config.dtype,
        config.column_kind != "samples" or config.coupling == 0,
    )
