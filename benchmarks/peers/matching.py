"""The accuracy at which a peer is as accurate as this project, and how accurate a curve is."""

# torch comes with the extra `bench` alone, and the static checks run without it
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np

LADDER = 10.0 ** np.arange(-4.0, -9.25, -0.25)
"""Relative tolerances that are tried, from the loosest."""


def error(curves: Sequence[np.ndarray], references: Sequence[np.ndarray]) -> float:
    """Largest distance of block strengths (time, block) from their references, relative to the
    largest of each block over time."""
    found = [
        np.nanmax(np.abs(curve - reference) / np.nanmax(np.abs(reference), axis=0))
        for curve, reference in zip(curves, references, strict=True)
    ]
    return float(max(found))


def match(
    solve: Callable[[float], Sequence[np.ndarray]],
    references: Sequence[np.ndarray],
    at_most: float,
    ladder: Sequence[float] | np.ndarray = LADDER,
) -> tuple[float, float]:
    """The loosest tolerance of the ladder whose error is `at_most` so large (to 5%), and its error;
    the tightest where none is."""
    found = np.nan
    for rtol in ladder:
        found = error(solve(float(rtol)), references)
        if found <= 1.05 * at_most:
            return float(rtol), found
    return float(ladder[-1]), found


def single_threaded() -> None:
    """Keep NumPy's and torch's own threads out of the way."""
    import threadpoolctl
    import torch

    threadpoolctl.threadpool_limits(1)
    torch.set_num_threads(1)


def one_process_a_core(cores: int) -> ProcessPoolExecutor:
    """Workers for peers that know no cores of their own, already started."""
    pool = ProcessPoolExecutor(cores, get_context("spawn"), initializer=single_threaded)
    list(pool.map(abs, range(8 * cores)))
    return pool
