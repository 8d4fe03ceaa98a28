"""Claims: what was predicted before looking, what was measured, how far apart they may be, and
whether they hold."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Claim:
    """One row of the table of claims."""

    statement: str
    predicted: str
    measured: str
    tolerance: str
    holds: bool


def close(statement: str, predicted: float, measured: float, tolerance: float) -> Claim:
    """`measured` differs from `predicted` by at most `tolerance` x |predicted|."""
    holds = bool(abs(measured - predicted) <= tolerance * abs(predicted))
    return Claim(
        statement, f"{predicted:.4g}", f"{measured:.4g}", f"{tolerance:.2g} relative", holds
    )


def at_most(statement: str, bound: float, measured: float) -> Claim:
    """`measured` is no larger than `bound`."""
    return Claim(statement, f"<= {bound:.4g}", f"{measured:.4g}", "none", bool(measured <= bound))


def at_least(statement: str, bound: float, measured: float) -> Claim:
    """`measured` is no smaller than `bound`."""
    return Claim(statement, f">= {bound:.4g}", f"{measured:.4g}", "none", bool(measured >= bound))


def ascending(statement: str, names: Sequence[str], values: Sequence[float]) -> Claim:
    """`values` ascend in the order of `names`."""
    holds = all(a <= b for a, b in itertools.pairwise(values))
    measured = " <= ".join(f"{value:.4g}" for value in values)
    return Claim(statement, " <= ".join(names), measured, "none", bool(holds))


def noted(claim: Claim, note: str) -> Claim:
    """The claim with more of what was measured, in brackets."""
    return dataclasses.replace(claim, measured=f"{claim.measured} ({note})")


def markdown(claims: Sequence[Claim]) -> str:
    """The table of claims."""
    header = [field.name for field in dataclasses.fields(Claim)]
    rows = [
        [c.statement, c.predicted, c.measured, c.tolerance, "yes" if c.holds else "**no**"]
        for c in claims
    ]
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines) + "\n"
