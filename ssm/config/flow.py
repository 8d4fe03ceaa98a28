"""Fields of a Config that say by what clock gradient flow runs, how far, and how it is solved.

They are three groups, not one, because fields of other groups stand between them in the order of a
Config's fields, and the order in which a Config inherits its groups is that order.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Literal

from ssm.config.bounds import Within

Clock = Literal["time", "loss"]
Solver = Literal["tsit5", "dopri5", "rkl2"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlowClockFields:
    """What the times of a run are."""

    clock: Clock = "time"
    """What times are: flow `time` t, or tau with d tau = L dt, driven by the `loss` (cross-entropy
    without decay): gradient flow of log L, which reaches the terminal phase."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlowEndFields:
    """Where a flow ends."""

    t1: Annotated[float | None, Within(0, math.inf, open_ends="(")] = None
    """Length of a flow by its clock. Left out: chosen from theory so that, from a small start, the
    contrasts of every class are learned (under cross-entropy the contrast between majorities and
    minorities may take longer); with decay, until that has settled; by the loss, about what
    `stop_margin`, or a margin of 1000, takes."""
    stop_margin: Annotated[float | None, Within(0, math.inf, open_ends="(")] = None
    """End the run where every sample's margin, its own logit over the next as its loss sees them,
    has reached this (cross-entropy); later times then hold NaN. Left out: it goes on to t1; by the
    loss, where that is left out too, to a margin of 1000."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlowSolverFields:
    """How the differential equation of a flow is solved."""

    solver: Solver | None = None
    """Runge-Kutta method with error control: `tsit5` or `dopri5` of order 5, or `rkl2` of order 2
    with as many stages as a stiff problem asks for. Left out: `tsit5`, by the loss until stability
    holds it back and `rkl2` from there on, at a tighter tolerance."""
    rtol: Annotated[float, Within(0, 0.1, open_ends="(")] = 1e-6
    """Relative tolerance of one step, in (0, 0.1]."""
    atol: Annotated[float | None, Within(0, math.inf)] = None
    """Absolute tolerance of one step, in the units of W and H. Left out: `init_scale` x `rtol`;
    larger ones lose small starts."""
    max_steps: Annotated[int, Within(1, 2**31 - 1)] = 100_000
    """Steps after which the run is given up; its result says so."""
