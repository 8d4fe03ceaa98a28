"""The summary of a study: one page for a reader who has to decide, beside the report, which is for an engineer."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr

from ssm.plots import studies_in_brief
from ssm.plots.studies_in_brief import Bar
from ssm.practice.reporting import pages, summary_words
from ssm.practice.study import attributes, outcomes
from ssm.practice.study.outcomes import Outcomes
from ssm.practice.study.verdicts import Candidate, Verdict
from ssm.support import files

NAME, REPORT = "summary.html", "report.html"
MOST_CLASSES = 10
"""The largest number of classes that is listed, those with the most missed cases; the report has all of them."""
LARGEST_TABLE = 6  # The largest number of classes of which every kind of error is listed.


class ClassRow(NamedTuple):
    """The numbers of cases of one class, in 1000 of all classes, that are found, missed, and falsely decided to be of it."""

    name: str
    cases: float
    chosen: tuple[float, float, float]
    plain: tuple[float, float, float]


def write_summary(record: xr.Dataset, verdict: Verdict, out: Path) -> Path:
    """Write the summary of a study into its folder: `summary.html`, whole or not at all, and its figure into `figures/`. The
    same record gives the same bytes.

    Args:
        record: of a study, in memory.
        verdict: what it comes to.
        out: a folder that has a folder `figures`.

    Returns:
        The path of the summary.
    """
    label = summary_words.measured(record, verdict)
    unit = " in %" if verdict.currency.metric == "recall_at_budget" else ""
    # `capitalize` would change the letters of a class's name.
    label = f"{label[:1].upper()}{label[1:]}{unit}"
    figure = studies_in_brief.plot_in_brief(bars(verdict), label)
    picture = pages.picture(figure, out / "figures" / "summary.png")
    html = pages.template(NAME).render(_context(record, verdict), picture=picture, report=REPORT)
    with files.replacing(out / NAME) as scratch:
        scratch.write_text(html, encoding="utf-8", newline="\n")
    return out / NAME


def bars(verdict: Verdict) -> list[Bar]:
    """The recommended candidate, the usual way, and the best mean among all others."""
    return [_bar(verdict, *each) for each in summary_words.shown(verdict)]


def _bar(verdict: Verdict, title: str, candidate: Candidate) -> Bar:
    scale = 100 if verdict.currency.metric == "recall_at_budget" else 1
    low, high = (scale * end for end in summary_words.bounds(verdict, candidate.level))
    if not np.isfinite([candidate.level.low, candidate.level.high]).all():
        low, high = -np.inf, np.inf
    return Bar(title, scale * candidate.level.score, low, high)


def _context(record: xr.Dataset, verdict: Verdict) -> dict[str, object]:
    """The values that the template shows."""
    chosen = outcomes.outcomes(record, verdict.chosen, verdict.currency)
    plain = outcomes.outcomes(record, verdict.plain, verdict.currency)
    rows = class_rows(chosen, plain)
    return {
        "study": attributes.study_facts(record),
        "created": record.attrs["created"][:10],
        "name": verdict.chosen.name,
        "use": summary_words.use(record, verdict, verdict.chosen),
        "others": [
            (title, summary_words.use(record, verdict, each))
            for title, each in summary_words.shown(verdict)[1:]
        ],
        "is_plain": verdict.chosen == verdict.plain,
        "answer": summary_words.answer(record, verdict),
        "measured": summary_words.measured(record, verdict),
        "unit": summary_words.unit(record, verdict),
        "rows": summary_words.rows(record, verdict),
        "sure": summary_words.sure(verdict),
        "certainty": verdict.certainty,
        "compared": summary_words.compared(record, verdict),
        "mix": summary_words.mix(record),
        "trade": summary_words.trade(chosen, plain),
        "classes": rows[:MOST_CLASSES],
        "num_classes": len(rows),
        "is_of_alarms": verdict.currency.metric == "recall_at_budget",
        "outcomes": chosen if 2 < len(rows) <= LARGEST_TABLE else None,
    }


def class_rows(chosen: Outcomes, plain: Outcomes) -> list[ClassRow]:
    """The classes, those with the most missed cases first."""
    of_both = [
        np.stack([x.found, x.missed, x.false_alarms], axis=1).tolist() for x in (chosen, plain)
    ]
    order = np.argsort(-chosen.missed, kind="stable")
    return [
        ClassRow(
            chosen.classes[c], float(chosen.cases[c]), tuple(of_both[0][c]), tuple(of_both[1][c])
        )
        for c in order.tolist()
    ]
