"""Rows of the table of benchmarks, on the screen and in a file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from rich.table import Table

COLUMNS = ("what", "measured", "ratio", "to", "target", "met")


@dataclasses.dataclass(frozen=True)
class Row:
    """One measurement, and where it makes sense its ratio to another of the same run."""

    what: str
    measured: str
    """With its unit."""
    ratio: float | None = None
    to: str = ""
    """What the ratio is to."""
    at_most: float | None = None
    at_least: float | None = None
    """The target of the ratio."""
    lower_bound: bool = False
    """Whether the ratio is only known to be larger, as of a peer that never arrives."""

    @classmethod
    def of_memory(cls, used: float, most: int) -> Row:
        """Bytes beside how many they may be at most, whole GiB."""
        return cls(
            "memory", f"{used / 2**20:.0f} MiB", used / most, f"{most / 2**30:g} GiB", at_most=1
        )

    @property
    def target(self) -> str:
        """The target in words, empty where there is none."""
        if self.at_most is not None and self.ratio is not None:
            return f"<= {self.at_most:g}"
        return "" if self.at_least is None else f">= {self.at_least:g}"

    @property
    def met(self) -> bool | None:
        """Whether the ratio is within its target; None where there is none."""
        if self.ratio is None or not self.target:
            return None
        if self.at_most is not None:
            return bool(self.ratio <= self.at_most)
        return bool(self.ratio >= (self.at_least or 0.0))

    def cells(self) -> tuple[str, ...]:
        """The row in the order of `COLUMNS`."""
        met = {None: "", True: "yes", False: "NO"}[self.met]
        ratio = "" if self.ratio is None else f"{'> ' * self.lower_bound}{self.ratio:.3g}"
        return self.what, self.measured, ratio, self.to, self.target, met


def milliseconds(seconds: float, per: str = "a run") -> str:
    """A time in the unit that most rows share."""
    return f"{1e3 * seconds:.3g} ms {per}".rstrip()


def screen(found: Mapping[str, Sequence[Row]]) -> Table:
    """All rows as one table for a terminal."""
    table = Table("benchmark", *COLUMNS)
    for name, rows in found.items():
        for i, row in enumerate(rows):
            table.add_row("" if i else name, *row.cells(), end_section=i == len(rows) - 1)
    return table


def markdown(
    found: Mapping[str, Sequence[Row]], machine: Mapping[str, str], notes: Mapping[str, str]
) -> str:
    """All rows, benchmark by benchmark, under a description of the machine."""
    text = (
        "# Benchmarks\n\nWritten by `python -m benchmarks`. Times are medians; everything that a\n"
    )
    text += "ratio compares was measured in the same run.\n\n"
    text += "".join(f"- {name}: {value}\n" for name, value in machine.items())
    for name, rows in found.items():
        lines = [COLUMNS, ("---",) * len(COLUMNS), *(row.cells() for row in rows)]
        text += f"\n## {name}\n\n{notes[name]}\n\n"
        text += "".join("| " + " | ".join(line) + " |\n" for line in lines)
    return text
