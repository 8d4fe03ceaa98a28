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
"""The number of windows that a watch is planned for where they are numbers of rows; other windows are planned for a year. A watch
may go on for longer."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a log is watched.

    Raises:
        ssm.InputError: a window, level or number of windows that is not allowed.
    """

    window: str = "week"
    """`week`, `day`, `hour`, or a number of rows."""
    level: float = 0.05
    """The highest probability that there is any false alarm, in all the time that the classifier is watched."""
    reference_windows: int = 4
    """The number of first windows with labels that form the reference, as far as no card gives one."""

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
        """The number of windows that the watch is planned for."""
        return LIVES.get(self.window, LIFE)


@dataclasses.dataclass
class Progress:
    """All that a watch has found in a log so far. It is the same to the bit for the same log, however often the watch was broken
    off."""

    offset: int
    """The number of bytes that were read."""
    checksum: int
    """The CRC-32 of these bytes."""
    ledger: Ledger
    judge: Judge
    features: Features
    unreadable: np.ndarray
    num_cases: int = 0
    """The number of entries in the file of cases."""
    prior: Float[np.ndarray, " k"] | None = None
    """The class shares that probabilities are for; None as long as they are not known."""
    shares: dict[int, Window] = dataclasses.field(default_factory=dict)
    """The class shares of windows that were closed, by window."""
    evidence: dict[int, Float[np.ndarray, "q k"]] = dataclasses.field(default_factory=dict)
    """The log evidence by metric and class at each closing, by the last window that it closed."""
