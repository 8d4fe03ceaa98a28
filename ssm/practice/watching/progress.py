"""How a log is watched, and how far a watch has come."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float

from ssm.practice.watching.drift import Window
from ssm.practice.watching.features import Features
from ssm.practice.watching.judging import Judge
from ssm.practice.watching.windows import LENGTHS, Clock, Ledger
from ssm.support import checks
from ssm.support.errors import invalid

LIVES = {"hour": 24 * 365, "day": 365, "week": 52}
LIFE = 100
"""Windows that a watch is planned for: a year, or so many of numbers of rows. It may go on for longer."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a log is watched.

    Raises:
        ssm.InputError: a window, level or number of windows that is none.
    """

    window: str = "week"
    """`week`, `day`, `hour`, or a number of rows."""
    level: float = 0.05
    """The most probability of any false alarm, in all the time that the classifier is watched."""
    reference_windows: int = 4
    """So many first windows with labels are the reference of what no card says."""

    def __post_init__(self) -> None:
        checks.real("level", self.level, 0, 1, open_ends="()")
        checks.integer("reference_windows", self.reference_windows, 1, 10_000)
        if self.window not in LENGTHS and not (
            self.window.isascii() and self.window.isdigit() and int(self.window)
        ):
            raise invalid("window", self.window, "week, day, hour, or a number of rows, as 10000")

    @property
    def clock(self) -> Clock:
        """How the log is cut into windows."""
        length = LENGTHS.get(self.window)
        return Clock(length, None if length else int(self.window))

    @property
    def life(self) -> int:
        """Windows that the watch is planned for."""
        return LIVES.get(self.window, LIFE)


@dataclasses.dataclass
class Progress:
    """All that a watch has found in a log so far. The same log gives the same, to the bit, however often it was broken off."""

    offset: int
    """Bytes that were read."""
    checksum: int
    """CRC-32 of them."""
    ledger: Ledger
    judge: Judge
    features: Features
    unreadable: np.ndarray
    num_cases: int = 0
    """Entries in the file of cases."""
    prior: Float[np.ndarray, " k"] | None = None
    """The shares that probabilities are for."""
    shares: dict[int, Window] = dataclasses.field(default_factory=dict)
    """By window that was closed."""
    evidence: dict[int, Float[np.ndarray, "q k"]] = dataclasses.field(default_factory=dict)
    """Log evidence by metric and class, by the last window of a closing."""
