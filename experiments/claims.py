"""Claims: what was predicted before a run, what was measured, how far the two may be apart, and whether
the claim holds, fails or stays undecided.

Every claim says that a quantity lies in a range. A quantity that is one number, the same whenever the
experiment is run, *holds* or *fails*. A mean over seeds is another matter, since other seeds have other
means: it comes as an `Estimate`, a mean with its 95 % interval, and the claim holds where the whole
interval lies in the range, fails where the whole interval lies outside of it, and is *undecided* where
a bound of the range lies in the interval. For a predicted number with a tolerance on both sides these
are two one-sided tests of equality (Schuirmann 1987). A quantity that was never reached is NaN, and
nothing that is claimed of it holds.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from ssm.practice.statistics.estimates import Estimate

Verdict = Literal["holds", "fails", "undecided"]


@dataclasses.dataclass(frozen=True)
class Claim:
    """One row of the table of claims."""

    statement: str
    predicted: str
    measured: str
    tolerance: str
    verdict: Verdict

    @property
    def holds(self) -> bool:
        """Whether the verdict is that it does."""
        return self.verdict == "holds"


class Claims(list[Claim]):
    """The claims of an experiment, or of one scenario of it, in the order in which they are made.

    Every method states one more and returns it. `measured` is a number or an `Estimate`; `note`, more
    of what was measured, stands in brackets behind it. The name of the scenario begins each statement.
    """

    def __init__(self, scenario: str = "") -> None:
        super().__init__()
        self.scenario = scenario

    def at_most(
        self, statement: str, bound: float, measured: float | Estimate, note: str = ""
    ) -> Claim:
        """`measured` is no larger than `bound`."""
        return self._add(statement, f"<= {bound:.4g}", measured, (-math.inf, bound), "none", note)

    def at_least(
        self, statement: str, bound: float, measured: float | Estimate, note: str = ""
    ) -> Claim:
        """`measured` is no smaller than `bound`."""
        return self._add(statement, f">= {bound:.4g}", measured, (bound, math.inf), "none", note)

    def close(
        self,
        statement: str,
        predicted: float,
        measured: float | Estimate,
        tolerance: float,
        note: str = "",
    ) -> Claim:
        """`measured` differs from `predicted` by at most `tolerance` x |predicted|."""
        return self.between(statement, (predicted, predicted), measured, tolerance, note)

    def between(
        self,
        statement: str,
        predicted: tuple[float, float],
        measured: float | Estimate,
        tolerance: float,
        note: str = "",
    ) -> Claim:
        """`measured` lies between two numbers, or as near to one as `tolerance` x |that number|."""
        low, high = predicted
        named = f"{low:.4g}" if high - low <= 1e-9 * abs(high) else f"{low:.4g} to {high:.4g}"
        bounds = low - tolerance * abs(low), high + tolerance * abs(high)
        tolerated = f"{tolerance:.2g} relative" if tolerance else "none"
        return self._add(statement, named, measured, bounds, tolerated, note)

    def ascending(
        self, statement: str, names: Sequence[str], values: Sequence[Any], note: str = ""
    ) -> Claim:
        """`values` ascend in the order of `names`: numbers, or for each name one number a seed, whose
        differences between neighbours are then judged by their intervals."""
        each = [np.asarray(value, dtype=float) for value in values]
        drawn = any(value.ndim for value in each)
        steps = [b - a for a, b in itertools.pairwise(each)]
        verdicts = {
            _verdict(Estimate.over_seeds(x) if drawn else float(x), (0.0, math.inf)) for x in steps
        }
        verdict: Verdict = "fails" if "fails" in verdicts else "undecided"
        measured = " <= ".join(f"{float(value.mean()):.4g}" for value in each)
        claim = Claim(
            self._full(statement),
            " <= ".join(names),
            f"{measured} ({note})" if note else measured,
            "95 % intervals of the differences" if drawn else "none",
            "holds" if verdicts <= {"holds"} else verdict,
        )
        self.append(claim)
        return claim

    def _full(self, statement: str) -> str:
        return f"{self.scenario}: {statement}" if self.scenario else statement

    def _add(
        self,
        statement: str,
        predicted: str,
        measured: float | Estimate,
        bounds: tuple[float, float],
        tolerance: str,
        note: str,
    ) -> Claim:
        drawn = isinstance(measured, Estimate)
        notes = "; ".join(part for part in (measured.interval if drawn else "", note) if part)
        shown = f"{measured.mean if drawn else measured:.4g}"
        claim = Claim(
            self._full(statement),
            predicted,
            f"{shown} ({notes})" if notes else shown,
            tolerance,
            _verdict(measured, bounds),
        )
        self.append(claim)
        return claim


def _verdict(measured: float | Estimate, bounds: tuple[float, float]) -> Verdict:
    """Whether a number, or the interval of a mean, lies in a range."""
    if not isinstance(measured, Estimate):
        measured = Estimate(float(measured), float(measured), float(measured))
    if bounds[0] <= measured.low and measured.high <= bounds[1]:
        return "holds"
    overlaps = measured.low <= bounds[1] and measured.high >= bounds[0]
    return "undecided" if overlaps else "fails"


def summary(claims: Sequence[Claim]) -> str:
    """How many hold, fail and stay undecided, in words."""
    count = {
        word: sum(claim.verdict == word for claim in claims) for word in ("fails", "undecided")
    }
    held = len(claims) - sum(count.values())
    return f"{held} of {len(claims)} claims hold, {count['fails']} fail, {count['undecided']} are undecided"


def markdown(claims: Sequence[Claim]) -> str:
    """The table of claims, in which those that do not hold stand out."""
    header = [field.name for field in dataclasses.fields(Claim)]
    rows = [[*dataclasses.astuple(claim)] for claim in claims]
    for row in rows:
        row[-1] = row[-1] if row[-1] == "holds" else f"**{row[-1]}**"
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines) + "\n"


def updated(document: str, sections: Mapping[Any, Sequence[Claim]], order: Sequence[str]) -> str:
    """The document of all claims with the tables of some experiments made anew: those of others stay,
    in the order given."""
    tables = {}
    for part in document.split("\n## ")[1:]:
        name, table = part.split("\n", 1)
        tables[name] = table.strip() + "\n"
    tables |= {name: markdown(rows) for name, rows in sections.items()}
    parts = [f"\n## {name}\n\n{tables[name]}" for name in order if name in tables]
    return "# Claims\n\nWritten by `python -m experiments`.\n" + "".join(parts)
