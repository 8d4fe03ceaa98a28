"""Fields of a Config that say what of a run is observed, and when."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from ssm.config.bounds import Within

Spacing = Literal["linear", "log"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ObservationFields:
    """The times of observation, and what is kept beside the spectral variables."""

    num_saves: Annotated[
        int, Within(2, 1_000_000), Within(3, 1_000_000, where=("save_spacing", "log"))
    ] = 200
    """Number of times at which the run is observed, both ends included."""
    save_spacing: Spacing = "linear"
    """Spacing of those times: `linear`, or `log` (0, then four decades up to t1)."""
    save_state: bool = False
    """Keep W and H at every observed time too, and the hidden layers."""
    geometry: bool = False
    """Observe the geometry too: neural collapse NC1 to NC4, and the distance to SELI and to the
    simplex ETF (depth 2)."""
