"""What a study found, in sentences made by rules: nothing is said to differ that is not
significant."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from ssm import profiles
from ssm.practice.comparisons import Comparison
from ssm.practice.study_tables import FAMILY, METRICS, TOLERANCE, Findings, attribute, mean

UNKNOWN = "\N{EM DASH}"
FEW_TESTED = 5  # samples of a class in a test fold, below which its recall moves in large steps
CHANGES = {
    ("accuracy", "worse"): "costs accuracy, {}",
    ("calibration_error", "better"): "improves calibration, lowering its error by {}",
    ("calibration_error", "worse"): "worsens calibration, raising its error by {}",
}


class Summary(NamedTuple):
    """Sentences in the order in which they are to be read."""

    short: str
    overall: list[str]
    trades: list[tuple[str, str]]
    """(strategies, what is said of them): each that differs, then those that do not together."""
    limits: list[str]


def number(value: float) -> str:
    """Three decimals with a true minus sign, a dash for what is not known."""
    if not math.isfinite(value):
        return UNKNOWN if math.isnan(value) else "∞" if value > 0 else "−∞"  # noqa: RUF001
    return f"{round(value, 3) + 0.0:.3f}".replace("-", "−")  # noqa: RUF001


def signed(value: float) -> str:
    """`number` with its sign, of a difference."""
    return f"+{number(value)}" if round(value, 3) > 0 else number(value)


def interval(low: float, high: float, least: float = -math.inf, most: float = math.inf) -> str:
    """[low, high] as far as the values can be, from `least` to `most`; words where endless."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return "[too few folds to tell]"
    return f"[{number(max(low, least))},\N{NO-BREAK SPACE}{number(min(high, most))}]"


def p_value(value: float) -> str:
    """Three decimals, down to < 0.001."""
    return "< 0.001" if value < 0.001 else number(value)


def listed(names: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def summarise(record: xr.Dataset, findings: Findings) -> Summary:
    """The trade-offs of a study."""
    overall = [_overall(findings, metric) for metric in FAMILY]
    overall += [_minimum(record, findings), *_choice(record, findings), *_post_hoc(findings)]
    return Summary(_short(findings), overall, _trades(findings), _limits(record, findings))


def _short(findings: Findings) -> str:
    """Who is shown to help all classes alike or the worst one, and who of all is shown to cost."""

    def shown(verdict: str, *metrics: str) -> list[str]:
        mine = [
            row.variant
            for row in findings.comparisons
            if row.verdict == verdict and row.metric in metrics
        ]
        return [name for name in findings.strategies if name in mine]

    helps = shown("better", "balanced_accuracy", "worst_class_recall")
    if helps:
        said = f"{listed(helps)} {'do' if len(helps) > 1 else 'does'} significantly better than "
        said += f"{findings.baseline} in balanced accuracy or worst-class recall"
    else:
        said = f"no strategy is shown to do better than {findings.baseline} in balanced accuracy "
        said += "or worst-class recall"
    costs = {
        "accuracy": shown("worse", "accuracy"),
        "calibration": shown("worse", "calibration_error"),
    }
    harm = [
        f"{listed(names)} significantly worse in {what}" for what, names in costs.items() if names
    ]
    return f"In short: {said}; {' and '.join(harm) or 'none is shown to cost accuracy or calibration'}."


def _overall(findings: Findings, metric: str) -> str:
    """Which strategies differ from the baseline on one metric, and the largest difference."""
    rows = [row for row in findings.comparisons if row.metric == metric]
    size = sorted(rows, key=lambda row: -np.nan_to_num(abs(row.difference), nan=-1.0))
    said = []
    for verdict in ("better", "worse"):
        mine = [f"{row.variant} ({_difference(row)})" for row in size if row.verdict == verdict]
        if mine:
            said.append(f"significantly {verdict} than {findings.baseline} with {listed(mine)}")
    others = sum(row.verdict == "not significant" for row in rows)
    if others == len(rows):
        said.append(f"no strategy differs significantly from {findings.baseline}")
        if math.isfinite(size[0].difference) and size[0].difference:
            said.append(
                f"the largest difference seen is {size[0].variant}'s, {_difference(size[0])}"
            )
    elif others:
        said.append(f"no significant difference for the other {others}")
    return f"{_capital(METRICS[metric])}: {'; '.join(said)}."


def _trades(findings: Findings) -> list[tuple[str, str]]:
    sentences, same, undecided = [], [], []
    for name in findings.strategies[1:]:
        rows = [row for row in findings.comparisons if row.variant == name]
        shown = [row for row in rows if row.verdict != "not significant"]
        if shown:
            others = [row for row in rows if row.verdict == "not significant"]
            sentences.append((name, _trade(shown, others)))
        elif all(row.ties == row.num_pairs > 0 for row in rows):
            same.append(name)
        else:
            undecided.append(name)
    if undecided:
        sentences.append((listed(undecided), _undecided(findings, undecided)))
    if same:
        sentences.append((listed(same), f"the same as {findings.baseline} in every fold."))
    return sentences


def _trade(shown: Sequence[Comparison], others: Sequence[Comparison]) -> str:
    gains = [_change(row) for row in shown if row.verdict == "better"]
    costs = [_change(row) for row in shown if row.verdict == "worse"]
    sentence = ", but ".join(listed(part) for part in (gains, costs) if part)
    if others:
        undecided = [f"{METRICS[row.metric]} {_difference(row)}" for row in others]
        sentence += f". Not significant: {listed(undecided)}"
    return sentence + "."


def _change(row: Comparison) -> str:
    """`raises accuracy by 0.010 [0.004, 0.016]`, the interval that of the size of the change."""
    low, high = row.simultaneous_low, row.simultaneous_high
    if row.difference < 0:
        low, high = -high, -low
    size = f"{number(abs(row.difference))} {interval(low, high, -1, 1)}"
    verb = "raises" if row.difference > 0 else "lowers"
    usual = f"{verb} {METRICS[row.metric]} by {{}}"
    return CHANGES.get((row.metric, row.verdict), usual).format(size)


def _difference(row: Comparison) -> str:
    reach = interval(row.simultaneous_low, row.simultaneous_high, -1, 1)
    return f"{signed(row.difference)} {reach}"


def _undecided(findings: Findings, names: Sequence[str]) -> str:
    """Who differs on nothing, and what differences that leaves possible."""
    allowed = []
    for metric in ("worst_class_recall", "accuracy"):
        rows = [row for row in findings.comparisons if row.metric == metric]
        mine = [row for row in rows if row.variant in names]
        low = min(row.simultaneous_low for row in mine)
        high = max(row.simultaneous_high for row in mine)
        if not (math.isfinite(low) and math.isfinite(high)):
            return "no significant difference; there are too few folds to tell."
        reach = f"from {signed(max(low, -1))} to {signed(min(high, 1))}"
        allowed.append(f"of {METRICS[metric]} {reach}")
    return (
        f"no significant difference from {findings.baseline} on any of the {len(FAMILY)} metrics. "
        f"That does not show that there is none: the intervals allow for differences "
        f"{listed(allowed)}."
    )


def _minimum(record: xr.Dataset, findings: Findings) -> str:
    asked = attribute(record, "study")["minimum_accuracy"] is not None
    score = next(row.score for row in findings.levels if row.variant == findings.baseline)
    origin = "asked for" if asked else f"{findings.baseline}'s {number(score)} less {TOLERANCE:g}"
    said = [f"Minimum acceptable accuracy: {number(findings.required)} ({origin})"]
    endings = {
        "kept": "Shown to keep it: {}",
        "not shown": "Not shown either way: {}",
        "missed": "Shown to miss it: {}",
    }
    for verdict, ending in endings.items():
        mine = [row.variant for row in findings.levels if row.verdict == verdict]
        if mine:
            said.append(ending.format("all" if len(mine) == len(findings.levels) else listed(mine)))
    return ". ".join(said) + "."


def _choice(record: xr.Dataset, findings: Findings) -> list[str]:
    """The best worst class among those that keep the minimum, without calling it best."""
    kept = [row.variant for row in findings.levels if row.verdict == "kept"]
    if not kept:
        return []
    scores = record["worst_class_recall"].sel(correction="none")
    means = {name: mean(scores, name).score for name in kept}
    finite = [name for name in kept if math.isfinite(means[name])]
    order = sorted(finite, key=lambda name: -round(means[name], 9))
    if len(order) < 2:
        return []
    best = listed([f"{name} ({number(means[name])})" for name in order[:3]])
    return [
        f"Of the strategies shown to keep it, the highest mean worst-class recalls are those of "
        f"{best}. Strategies were tested against {findings.baseline} only, not against each other."
    ]


def _post_hoc(findings: Findings) -> list[str]:
    """What correcting the baseline's probabilities does without other training."""
    rows = [
        row
        for factor, setting, row in findings.ablations
        if (factor, setting) == ("post-hoc", "alone")
    ]
    if not rows:
        return []
    said = [
        f"{METRICS[row.metric]} by {_difference(row)} "
        f"({'not significant' if row.verdict == 'not significant' else 'significant'})"
        for row in rows
    ]
    return [
        f"Correcting {findings.baseline}'s probabilities to equal class shares, without training "
        f"anything anew, changes {listed(said)}."
    ]


def _limits(record: xr.Dataset, findings: Findings) -> list[str]:
    study = attribute(record, "study")
    pairs = study["seeds"] * study["folds"]
    dropped = sum(row.num_dropped for row in findings.comparisons)
    said = [
        f"Each strategy was trained {pairs} times: {study['folds']} folds in {study['seeds']} "
        f"{'repetition' if study['seeds'] == 1 else 'repetitions'}. Folds dropped for want of a finite score: "
        + (f"{dropped}, over all {len(findings.comparisons)} comparisons." if dropped else "none.")
    ]
    said += _resolution(findings)
    failed = int((record["status"] == "not finite").sum())
    stopped = int((record["status"] == "stopped by an alarm").sum())
    if failed:
        said.append(f"Runs whose numbers did not stay finite: {failed} of {record['status'].size}.")
    if stopped:
        said.append(f"Runs stopped by an alarm: {stopped} of {record['status'].size}.")
    counts = study["class_counts"]
    tested = min(counts) / study["folds"]
    if tested < FEW_TESTED:
        said.append(
            f"The smallest class has {min(counts)} samples, about {tested:.1f} in each test fold: "
            "recall of such classes moves in large steps, and worst-class recall is low by chance "
            "too where several are small."
        )
    if profiles.MINORITY not in findings.groups:
        said.append("All classes have the same size, so there is no minority to be helped.")
    return said


def _resolution(findings: Findings) -> list[str]:
    """How large differences have to be in order to be seen."""
    reaches = [row.simultaneous_high - row.simultaneous_low for row in findings.comparisons]
    if not any(0 < reach < math.inf for reach in reaches):
        few = "There are too few folds for any difference to be significant."
        return [few] if math.inf in reaches else []
    needed = []
    for metric in FAMILY:
        found = [
            reach
            for row, reach in zip(findings.comparisons, reaches, strict=True)
            if row.metric == metric and 0 < reach < math.inf
        ]
        if found:
            needed.append(f"{number(float(np.median(found)) / 2)} of {METRICS[metric]}")
    return [
        f"To be called significant here a difference had to be about {listed(needed)} (half the "
        "width of a typical interval). Smaller ones need more data or more repetitions."
    ]


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
