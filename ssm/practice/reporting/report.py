"""The report of a study: one HTML file that stands alone, with its figures and tables in files beside it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from ssm.config import profiles
from ssm.plots import studies
from ssm.practice.options import NETWORK
from ssm.practice.reporting import pages, summary_page, verdict_words, words
from ssm.practice.statistics.comparisons import Comparison, Level
from ssm.practice.study import attributes, evidence, models, outcomes, rivals
from ssm.practice.study.attributes import Ablation, Sensitivity, StudyFacts
from ssm.practice.study.evidence import (
    CLASS_METRICS,
    DECISIONS,
    METRICS,
    Calibrated,
    Change,
    Factor,
    Findings,
)
from ssm.practice.study.verdicts import Candidate
from ssm.support import files

NAME = "report.html"
MOST_ALARMS = 40  # The largest number of alarms that is listed; alarms.csv has all of them.
ALARMS = {
    "class_drop": "a class's recall fell below what it was at the best evaluation",
    "gradient_jump": "the gradient's norm jumped",
    "weight_at_bound": "a class's weight reached its bound",
    "calibration_drop": "calibration got worse",
    "not_finite": "the loss or its gradient was no finite number",
}
DERIVED = ("name", "num_samples", "num_features", "class_counts", "notes", "num_steps_used")
"""What is known of a study besides its options."""


class ScoreRow(NamedTuple):
    """The mean scores of one strategy under one correction."""

    variant: str
    correction: str
    levels: dict[str, Level]
    verdicts: dict[str, str]
    """The verdicts on the metrics that were compared."""


class ClassRow(NamedTuple):
    """One class of the data, with its mean scores under one strategy, or without scores."""

    name: str
    group: str
    count: int
    levels: dict[str, Level]


class AlarmRow(NamedTuple):
    """How often one kind of alarm was raised in one variant."""

    variant: str
    alarm: str
    number: int
    runs: int
    """The number of runs in which it was raised."""


class EntryRow(NamedTuple):
    """An entry of the ablations or the sensitivity analyses with its comparisons by metric."""

    entry: Ablation | Sensitivity
    rows: dict[str, Comparison]


def write_report(record: xr.Dataset, out: Path) -> Path:
    """Write the report of a study into its folder: `report.html`, `comparisons.csv`, `ablations.csv`, each
    figure in `figures/`, and the `summary.html` of `summary_page`. Every file appears whole or not at all, and the
    same record gives the same bytes.

    Args:
        record: the record of a study (`records.assemble`).
        out: a folder, which is made if need be; alarms are read from its `alarms.csv`.

    Returns:
        The path of the report.
    """
    record = record.compute()
    findings = evidence.find(record)
    (out / "figures").mkdir(parents=True, exist_ok=True)
    pictures = {
        name: pages.picture(figure, out / "figures" / f"{name}.png")
        for name, figure in studies.figures(record, findings).items()
    }
    csv_tables = {
        "comparisons.csv": evidence.comparison_table(findings),
        "ablations.csv": evidence.ablation_table(findings),
    }
    for name, table in csv_tables.items():
        with files.replacing(out / name) as scratch:
            table.to_csv(scratch, index=False)
    html = pages.template(NAME).render(
        _context(record, findings),
        pictures=pictures,
        brief=summary_page.NAME,
        **_alarms(out / "alarms.csv"),
    )
    summary_page.write_summary(record, findings.verdict, out)
    with files.replacing(out / NAME) as scratch:
        scratch.write_text(html, encoding="utf-8", newline="\n")
    return out / NAME


def _context(record: xr.Dataset, findings: Findings) -> dict[str, object]:
    """The values that the template shows."""
    study, descriptions = attributes.study_facts(record), attributes.descriptions(record)
    compared = attributes.compared_names(record)
    class_tables = {name: list(_classes(record, findings, name)) for name in compared}
    others = [name for name in compared if name not in findings.strategies]
    decided = [
        outcomes.outcomes(record, each, findings.verdict.currency)
        for each in (findings.verdict.chosen, findings.verdict.plain)
    ]
    return {
        "study": study,
        "options": _options(study),
        "origin": {name: record.attrs[name] for name in ("versions", "git_commit", "created")},
        "descriptions": descriptions,
        "others": {
            name: description for name, description in descriptions.items() if name not in compared
        },
        "findings": findings,
        "model_words": _models(findings),
        "network_alone": verdict_words.alone(record),
        "verdict": verdict_words.statements(record, findings.verdict),
        "unit": verdict_words.unit(record, findings.verdict),
        "rule_words": {
            rule: verdict_words.rule_words(findings.verdict, rule, len(findings.groups))
            for rule in dict.fromkeys(x.rule for x in findings.verdict.candidates)
        },
        "candidates": _by_variant(findings),
        "has_histories": evidence.has_histories(record),
        "rival_columns": rivals.SHOWN,
        "metrics": METRICS,
        "main_score": evidence.MAIN_SCORE,
        "class_metrics": CLASS_METRICS,
        "family": evidence.FAMILY,
        "decisions": DECISIONS,
        "infinity": math.inf,
        "summary": words.summarise(record, findings),
        "classes": list(_classes(record, findings, None)),
        "scores": list(_scores(record, findings)),
        "class_tables": {name: class_tables[name] for name in findings.strategies},
        "other_tables": {name: class_tables[name] for name in others},
        "least_recall": _least_recall,
        "decided_rows": summary_page.class_rows(*decided),
        "of_model": _of_model(record, findings) if others else "",
        "calibrated": _by_strategy(findings.calibrated),
        "minority": _by_strategy(findings.minority),
        "num_minorities": findings.groups.count(profiles.MINORITY),
        "minority_share": sum(
            count
            for count, group in zip(study["class_counts"], findings.groups, strict=True)
            if group == profiles.MINORITY
        )
        / study["num_samples"],
        "temperatures": _temperatures(record, findings),
        "ablations": _in_rows(attributes.ablations(record), findings.ablations),
        "changes": _in_rows(attributes.sensitivities(record), findings.changes),
        "shifts": _shifts(record, findings),
        "num_pairs": study["seeds"] * study["folds"],
    }


def _models(findings: Findings) -> dict[str, str]:
    """The models of the study, in words."""
    return {row.model: models.description(row.model) for row in findings.rivals}


def _of_model(record: xr.Dataset, findings: Findings) -> str:
    """The model whose strategies are looked at closely, where there are other models."""
    model = attributes.models(record)[findings.baseline]
    return f" of {'the network' if model == NETWORK else model}"


def _by_variant(findings: Findings) -> list[tuple[Candidate, dict[str, Candidate]]]:
    """The candidates of each variant by the rule of decision, in the order of the models, each with the first of its list."""
    found: dict[str, dict[str, Candidate]] = {row.variant: {} for row in findings.rivals}
    for each in findings.verdict.candidates:
        found[each.variant][each.rule] = each
    return [(next(iter(rules.values())), rules) for rules in found.values() if rules]


def _scores(record: xr.Dataset, findings: Findings) -> Iterator[ScoreRow]:
    """The scores of each strategy without correction, and under the correction that suits it best."""
    for name in findings.strategies:
        for correction in ("none", evidence.best_correction(record, name)):
            corrected = record.sel(correction=correction)
            levels = {metric: evidence.mean(corrected[metric], name) for metric in METRICS}
            compared = {metric: findings.compared(name, metric) for metric in METRICS}
            verdicts = {metric: row.verdict for metric, row in compared.items() if row}
            yield ScoreRow(name, correction, levels, verdicts if correction == "none" else {})


def _classes(record: xr.Dataset, findings: Findings, variant: str | None) -> Iterator[ClassRow]:
    """The classes, the largest first, with the scores of a variant without correction; without scores
    where the variant is None."""
    counts = attributes.study_facts(record)["class_counts"]
    uncorrected = record.sel(correction="none")
    for c in np.argsort(-np.array(counts), kind="stable"):
        levels = {
            metric: evidence.mean(uncorrected[metric].isel({"class": c}), variant)
            for metric in CLASS_METRICS
            if variant is not None
        }
        yield ClassRow(str(record["class"].values[c]), findings.groups[c], counts[c], levels)


def _least_recall(rows: list[ClassRow]) -> float:
    """The least mean recall of any class; NaN where none is finite."""
    recalls = [row.levels["recall"].score for row in rows]
    return min((recall for recall in recalls if math.isfinite(recall)), default=math.nan)


def _options(study: StudyFacts) -> dict[str, str]:
    """The options of a study in words."""
    options = {name: value for name, value in study.items() if name not in DERIVED}
    if study.get("num_steps_used") is not None and study["num_steps"] is None:
        options["num_steps"] = f"left out ({study['num_steps_used']}, by the size of the data)"
    return {name: _in_words(value) for name, value in options.items()}


def _in_words(value: object) -> str:
    """The value of an option in words."""
    if value is None or value == "":
        return "left out"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_in_words, value)) or "none"
    return str(value)


def _by_strategy(rows: Sequence[Calibrated]) -> dict[str, dict[str, Calibrated]]:
    """The calibration of each strategy by correction."""
    by_strategy: dict[str, dict[str, Calibrated]] = {}
    for row in rows:
        by_strategy.setdefault(row.variant, {})[row.correction] = row
    return by_strategy


def _temperatures(record: xr.Dataset, findings: Findings) -> dict[str, tuple[float, float, float]]:
    """The least, median and greatest temperature of each strategy over the folds."""
    return {
        name: tuple(np.quantile(record["temperature"].sel(variant=name), (0, 0.5, 1)).tolist())
        for name in dict.fromkeys(row.variant for row in findings.calibrated)
    }


def _in_rows(
    entries: Sequence[Ablation | Sensitivity], compared: Sequence[Factor | Change]
) -> list[EntryRow]:
    """Each entry with its comparisons by metric; `compared` has those of all entries in turn."""
    width = len(DECISIONS)
    return [
        EntryRow(
            entry,
            {
                each.comparison.metric: each.comparison
                for each in compared[i * width : i * width + width]
            },
        )
        for i, entry in enumerate(entries)
    ]


def _shifts(record: xr.Dataset, findings: Findings) -> dict[str, dict[str, Level]]:
    """The mean accuracy of each strategy under each shift of the class shares."""
    scores = record["shifted_accuracy"].sel(correction="none")
    return {
        name: {
            str(shift): evidence.mean(scores.sel(shift=shift), name)
            for shift in record["shift"].values
        }
        for name in findings.strategies
    }


def _alarms(path: Path) -> dict[str, object]:
    """The alarms of a study for the template, counted and listed; `alarms` is None where no list was kept."""
    if not path.is_file():
        return {"alarms": None, "alarm_counts": [], "alarm_words": ALARMS, "most": MOST_ALARMS}
    rows = pd.read_csv(path, dtype=str, keep_default_na=False).to_dict("records")
    kinds = Counter((row["variant"], row["alarm"]) for row in rows)
    runs = {(row["variant"], row["alarm"], row["seed"], row["fold"]) for row in rows}
    in_runs = Counter(run[:2] for run in runs)
    counts = [AlarmRow(*kind, number, in_runs[kind]) for kind, number in kinds.items()]
    return {"alarms": rows, "alarm_counts": counts, "alarm_words": ALARMS, "most": MOST_ALARMS}
