"""Probabilities of one class against the rest, and what came true."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from ssm.practice.statistics.calibration import Samples
from ssm.support import checks
from ssm.support.errors import invalid

Judged = tuple[ArrayLike, ArrayLike]
"""Probabilities of the class, shape (m,), and 1 where it came true, else 0, shape (m,)."""


def pairs(name: str, value: Judged) -> tuple[Samples, Samples]:
    """Probabilities and outcomes as arrays, shape (m,); raises ssm.InputError for anything else."""
    p = checks.array(f"probabilities ({name})", value[0], "probabilities, shape (m,)")
    if p.ndim != 1 or not len(p) or not ((p >= 0) & (p <= 1)).all():
        raise invalid(f"probabilities ({name})", value[0], "probabilities, shape (m,)")
    y = np.asarray(value[1])
    if y.shape != p.shape or not np.isin(y, (0, 1)).all():
        raise invalid(f"outcomes ({name})", value[1], f"{len(p)} times 0 or 1")
    return p, y.astype(np.float64)


def within_unit(name: str, value: ArrayLike, open_ends: str = "") -> Float[np.ndarray, " t"]:
    """Numbers from 0 to 1 as an array, shape (t,); with `open_ends=")"` 1 is not allowed. Raises ssm.InputError for anything else."""
    allowed = f"numbers in [0, 1{open_ends or ']'}, shape (t,)"
    given = checks.array(name, value, allowed)
    inside = (given >= 0) & ((given < 1) if open_ends else (given <= 1))
    if given.ndim != 1 or not given.size or not inside.all():
        raise invalid(name, value, allowed)
    return given
