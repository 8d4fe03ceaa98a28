"""The findings of a study, in sentences made by rules. Nothing is said to differ, or to be the same, unless
it is shown; everything else is called undecided, with what is still possible."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from ssm.practice.reporting.format import interval, listed, number, signed
from ssm.practice.reporting.limitations import limits
from ssm.practice.statistics.comparisons import Comparison
from ssm.practice.study.evidence import (
    FAMILY,
    MAIN_SCORE,
    METRICS,
    Findings,
    mean,
    out_of_reach,
    resolution,
)

CHANGES = {
    ("accuracy", "worse"): "costs accuracy, {}",
    ("calibration_error", "better"): "improves calibration, lowering its error by {}",
    ("calibration_error", "worse"): "worsens calibration, raising its error by {}",
}


class Summary(NamedTuple):
    """The summary of a study, its parts in the order in which they are read."""

    short: str
    """One sentence on what is shown."""
    overall: list[str]
    """What is shown, metric by metric."""
    trades: list[tuple[str, str]]
    """Names of strategies, with a text on what they gain and cost: first each strategy of which
    anything is shown, then the others together."""
    limits: list[str]
    """What the study can and cannot tell."""


def verdict(row: Comparison) -> str:
    """A comparison's verdict in words, with the margin where it matters."""
    if row.verdict == "undecided":
        return row.verdict
    if row.verdict == "equivalent":
        return f"equivalent within {row.margin:g}"
    return f"{row.verdict}, by less than {row.margin:g}" if row.is_within_margin else row.verdict


def summarise(record: xr.Dataset, findings: Findings) -> Summary:
    """Summarise a study: what is shown, the trade-offs of each strategy, and how far this reaches."""
    overall = [_overall(findings, metric) for metric in FAMILY]
    overall += [*_minimum(findings), *_choice(record, findings), *_post_hoc(record, findings)]
    return Summary(_short(findings), overall, _trades(findings), limits(record, findings))


def _rows(findings: Findings, *metrics: str) -> list[Comparison]:
    """The comparisons on these metrics."""
    return [row for row in findings.comparisons if row.metric in metrics]


def _short(findings: Findings) -> str:
    """One sentence on which strategies are shown to help all classes alike or the worst one, and which are
    shown to cost something."""
    margin, baseline = f"{findings.margin:g}", findings.baseline
    undecided = all(row.verdict == "undecided" for row in findings.comparisons)
    blind = out_of_reach(findings)
    if undecided and blind and blind == list(resolution(findings)):
        return (
            f"In short: everything is undecided. With these folds no gain over {baseline} could have "
            "been shown, however large."
        )

    def shown(verdict: str, *metrics: str) -> list[str]:
        variants = [row.variant for row in _rows(findings, *metrics) if row.verdict == verdict]
        return [name for name in findings.strategies if name in variants]

    main, cost = ("balanced_accuracy", "worst_class_recall"), ("accuracy", "calibration_error")
    of_main = "balanced accuracy or worst-class recall"
    parts = [f"it is undecided whether any strategy does better than {baseline} in {of_main}"]
    helps = {METRICS[metric]: shown("better", metric) for metric in main}
    if any(helps.values()):
        parts = [
            f"{_are(names)} shown to do better than {baseline} in {what}"
            for what, names in helps.items()
            if names
        ]
    elif not shown("undecided", *main):
        parts = [f"no strategy does better than {baseline} by as much as {margin} of {of_main}"]
    elif set(main) <= set(blind):
        what = of_main.replace(" or ", " and ")
        parts = [f"no gain over {baseline} in {what} could have been shown, however large"]
    for metric in (*main, *cost):
        if harm := shown("worse", metric):
            parts.append(f"{_are(harm)} shown to do worse in {METRICS[metric]}")
    if not shown("worse", *cost) and shown("undecided", *cost):
        parts.append("no cost in accuracy or calibration error is shown, nor is it ruled out")
    elif not shown("worse", *cost):
        parts.append(f"none costs as much as {margin} of accuracy or calibration error")
    return f"In short: {'; '.join(parts)}."


def _overall(findings: Findings, metric: str) -> str:
    """Sentences on one metric: what is shown of which strategies, and the largest difference that is seen
    among the others."""
    rows = _rows(findings, metric)
    by_size = sorted(rows, key=lambda row: -np.nan_to_num(abs(row.difference), nan=-1.0))
    sentences = [METRICS[metric]]
    for word in ("better", "worse"):
        names = [f"{row.variant} ({_difference(row)})" for row in by_size if row.verdict == word]
        if names:
            sentences.append(f"{word} than {findings.baseline}: {listed(names)}")
    same = [row.variant for row in rows if row.verdict == "equivalent"]
    if same:
        within = f"within {findings.margin:g}"
        sentences.append(f"equivalent to {findings.baseline} {within}: {listed(same)}")
    others = [row for row in by_size if row.verdict == "undecided"]
    if others:
        sentences.append(f"undecided: {_undecided(others)}")
        if others[0].difference and math.isfinite(others[0].difference):
            several = f"largest difference seen of these is {others[0].variant}'s,"
            which = several if len(others) > 1 else "difference seen is"
            sentences.append(f"the {which} {_difference(others[0])}")
    return _joined(sentences)


def _undecided(rows: Sequence[Comparison]) -> str:
    """The names of undecided strategies, and those for which every fold says the same, which is not enough
    to show a difference."""
    variants, agreeing = listed([row.variant for row in rows]), []
    for word, field in (("better", "wins"), ("worse", "losses"), ("the same", "ties")):
        in_every_fold = [row.variant for row in rows if getattr(row, field) == row.num_pairs > 0]
        if in_every_fold:
            names = "" if len(in_every_fold) == len(rows) else f"{listed(in_every_fold)} "
            agreeing.append(f"{names}{word} in every fold")
    if not agreeing:
        return variants
    most = max(row.num_pairs for row in rows)
    return (
        f"{variants} ({listed(agreeing)}, but not clearly enough: {most} folds of the same data count "
        "for fewer)"
    )


def _trades(findings: Findings) -> list[tuple[str, str]]:
    """What each strategy gains and costs, where anything is shown, and then what may be true of the others
    together."""
    sentences, same, undecided = [], [], []
    for name in findings.strategies[1:]:
        rows = [row for row in findings.comparisons if row.variant == name]
        if all(row.ties == row.num_pairs > 0 for row in rows):
            same.append(name)
        elif all(row.verdict == "undecided" for row in rows):
            undecided.append(name)
        else:
            sentences.append((name, _trade(rows)))
    if undecided:
        sentences.append((listed(undecided), _possible(findings, undecided)))
    if same:
        sentence = f"the same as {findings.baseline} in every fold"
        rows = [row for row in findings.comparisons if row.variant in same]
        if any(row.verdict == "undecided" for row in rows):
            sentence += ", but these are too few to show more than that"
        sentences.append((listed(same), f"{sentence}."))
    return sentences


def _trade(rows: Sequence[Comparison]) -> str:
    """What one strategy gains and costs, by its comparisons."""
    gains = [_change(row) for row in rows if row.verdict == "better"]
    costs = [_change(row) for row in rows if row.verdict == "worse"]
    same = [METRICS[row.metric] for row in rows if row.verdict == "equivalent"]
    others = [
        f"{METRICS[row.metric]} {_difference(row)}" for row in rows if row.verdict == "undecided"
    ]
    parts = [
        ", but ".join(listed(part) for part in (gains, costs) if part),
        f"equivalent within {rows[0].margin:g}: {listed(same)}" if same else "",
        f"undecided: {listed(others)}" if others else "",
    ]
    sentences = _joined([part for part in parts if part])
    return sentences[0].lower() + sentences[1:]


def _change(row: Comparison) -> str:
    """A change in words, such as `raises accuracy by 0.010 [0.004, 0.016]`, where the interval is that of
    the size of the change."""
    ends, room = (row.simultaneous_low, row.simultaneous_high), row.room
    if row.difference < 0:
        ends, room = (-ends[1], -ends[0]), (-room[1], -room[0])
    size = f"{number(abs(row.difference))} {interval(*ends, *room)}"
    verb = "raises" if row.difference > 0 else "lowers"
    usual = f"{verb} {METRICS[row.metric]} by {{}}"
    change = CHANGES.get((row.metric, row.verdict), usual).format(size)
    return f"{change} (less than {row.margin:g})" if row.is_within_margin else change


def _difference(row: Comparison) -> str:
    """A difference with its simultaneous interval."""
    if row.ties == row.num_pairs > 0:
        return "0.000 [the same in every fold]"
    reach = interval(row.simultaneous_low, row.simultaneous_high, *row.room)
    return f"{signed(row.difference)} {reach}"


def _possible(findings: Findings, names: Sequence[str]) -> str:
    """Which differences are still possible for strategies of which nothing is shown."""
    undecided = f"undecided on all {len(FAMILY)} metrics"
    allowed = []
    for metric in ("worst_class_recall", "accuracy"):
        rows = [row for row in _rows(findings, metric) if row.variant in names]
        # Where there are too few folds, intervals are endless and say nothing.
        rows = [row for row in rows if math.isfinite(row.simultaneous_high)]
        if not rows:
            return f"{undecided}; there are too few folds to tell."
        low = min(row.simultaneous_low for row in rows)
        high = max(row.simultaneous_high for row in rows)
        least, most = min(row.room[0] for row in rows), max(row.room[1] for row in rows)
        reach = f"from {signed(max(low, least))} to {signed(min(high, most))}"
        allowed.append(f"of {METRICS[metric]} {reach}")
    return (
        f"{undecided}. That does not mean that they are the same as {findings.baseline}: "
        f"the intervals allow for differences {listed(allowed)}."
    )


def _minimum(findings: Findings) -> list[str]:
    """Sentences on which strategies are acceptable."""
    score, baseline = METRICS[MAIN_SCORE], findings.baseline
    verdicts = {row.variant: row.verdict for row in findings.acceptable}
    rows = [row for row in _rows(findings, MAIN_SCORE) if verdicts[row.variant] == "undecided"]
    minimum = f"minimum: a loss of {score} beside {baseline} of less than {findings.margin:g}"
    sentences = [_judged(minimum, verdicts, _undecided(rows) if rows else "")]
    if findings.required is not None:
        verdicts = {name: it.beside(findings.required) for name, it in findings.levels.items()}
        undecided = [name for name, verdict in verdicts.items() if verdict == "undecided"]
        minimum = f"least {score} asked for: {number(findings.required)}"
        sentences.append(_judged(minimum, verdicts, listed(undecided) if undecided else ""))
    return sentences


def _judged(minimum: str, verdicts: Mapping[str, str], undecided: str) -> str:
    """A minimum, and which strategies are shown to keep it, to miss it, or neither."""
    sentences = [minimum]
    for verdict, words in (("kept", "shown to keep it"), ("missed", "shown to miss it")):
        names = [name for name, of_name in verdicts.items() if of_name == verdict]
        if names:
            sentences.append(f"{words}: {listed(names)}")
    return _joined([*sentences, f"undecided: {undecided}"] if undecided else sentences)


def _choice(record: xr.Dataset, findings: Findings) -> list[str]:
    """The highest worst-class recalls among the acceptable strategies; none of these is called best, since
    they are not tested against each other."""
    acceptable = [row.variant for row in findings.acceptable if row.verdict == "kept"]
    if not acceptable:
        return []
    among = f"{findings.baseline} and the strategies shown to keep the minimum"
    acceptable = [findings.baseline, *acceptable]
    if findings.required is not None:
        among, levels = "the strategies shown to keep both minima", findings.levels
        acceptable = [n for n in acceptable if levels[n].beside(findings.required) == "kept"]
    scores = record["worst_class_recall"].sel(correction="none")
    means = {name: mean(scores, name).score for name in acceptable}
    finite = [name for name in acceptable if math.isfinite(means[name])]
    order = sorted(finite, key=lambda name: -round(means[name], 9))
    if len(order) < 2:
        return []
    best = listed([f"{name} ({number(means[name])})" for name in order[:3]])
    return [
        f"Of {among}, the highest mean worst-class recalls are those of {best}. These were not "
        "tested against each other, so that their order may be chance."
    ]


def _post_hoc(record: xr.Dataset, findings: Findings) -> list[str]:
    """What correcting the baseline's probabilities changes, without any further training."""
    rows = [each.comparison for each in findings.ablations if each[:2] == ("post-hoc", "alone")]
    if not rows:
        return []
    changes = [f"{METRICS[row.metric]} by {_difference(row)} ({verdict(row)})" for row in rows]
    return [
        f"Correcting {findings.baseline}'s probabilities to equal class shares, without training "
        f"anything anew, changes {listed(changes)}. {_beside_training(record, findings)}"
    ]


def _beside_training(record: xr.Dataset, findings: Findings) -> str:
    """The main score of the corrected baseline, and that of the best strategy as trained."""
    scores = record[MAIN_SCORE]
    corrected = mean(scores.sel(correction="uniform"), findings.baseline).score
    trained = {name: findings.levels[name].score for name in findings.strategies[1:]}
    best = max(trained, key=lambda name: np.nan_to_num(trained[name], nan=-1.0))
    return (
        f"Its {METRICS[MAIN_SCORE]} is then {number(corrected)}, where the best strategy as trained, "
        f"{best}, has {number(trained[best])}; the two were not tested against each other."
    )


def _are(names: Sequence[str]) -> str:
    """Names with the verb that follows them."""
    return f"{listed(names)} {'are' if len(names) > 1 else 'is'}"


def _joined(parts: Sequence[str]) -> str:
    """Parts as sentences, one after the other."""
    return ". ".join(part[:1].upper() + part[1:] for part in parts) + "."
