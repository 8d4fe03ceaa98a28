"""The verdict of a study in plain words: what to use, what it buys, what it loses, and how sure that is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr

from ssm.practice.options import SMOTE
from ssm.practice.reporting.format import UNKNOWN, interval, listed, number
from ssm.practice.statistics.comparisons import Comparison, Level
from ssm.practice.study import attributes
from ssm.practice.study.evidence import METRICS
from ssm.practice.study.verdicts import Candidate, Verdict

TOO_FEW = "too few repetitions to tell"


class Statement(NamedTuple):
    """One part of the verdict."""

    title: str
    text: str


def statements(record: xr.Dataset, verdict: Verdict) -> list[Statement]:
    """The verdict, part by part."""
    return [
        Statement("What to use", _use(record, verdict)),
        Statement("What it buys", _buys(record, verdict)),
        Statement("What it loses", _loses(verdict)),
        Statement("How sure", _sure(verdict)),
    ]


def unit(record: xr.Dataset, verdict: Verdict) -> str:
    """What decisions are counted in."""
    currency = verdict.currency
    if currency.metric == "recall_at_budget":
        assert currency.budget is not None and currency.alarm_class is not None
        name = record["class"].values[currency.alarm_class]
        return f"recall of {name} with alarms for {100 * currency.budget:g} % of the cases"
    return "cost of 1000 cases" if currency.costs is not None else "balanced errors in 1000 cases"


def amount(value: float, metric: str) -> str:
    """A value of the currency."""
    if metric == "recall_at_budget" or not np.isfinite(value):
        return number(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}" if value else "0"


def rule_words(verdict: Verdict, rule: str, num_classes: int) -> str:
    """How a rule decides among so many classes."""
    if verdict.currency.metric == "recall_at_budget":
        return "alarms from the threshold on that keeps the budget on held-out samples, by lot among equally probable ones"
    has_costs = verdict.currency.costs is not None
    return {
        "argmax": "take the class that it finds most probable",
        "bayes": "take the decision of least expected cost by its calibrated probabilities"
        if has_costs
        else "put its probabilities to equal class shares and take the most probable class",
        "threshold": "decide for the rarer class from a threshold on, chosen on held-out samples"
        if num_classes == 2
        else "multiply its probabilities by factors of the classes, chosen on held-out samples, and take the decision of least "
        "expected cost",
    }[rule]


def in_words(difference: float, verdict: Verdict) -> str:
    """A difference of the currency, without a sign."""
    return " ".join(_parts(difference, verdict)) if np.isfinite(difference) else TOO_FEW


def possible(row: Comparison, verdict: Verdict) -> str:
    """The differences that chance leaves possible, from the simultaneous interval."""
    if row.ties == row.num_pairs > 0:
        return "the same in every fold"
    ends = row.simultaneous_low, row.simultaneous_high
    if not np.isfinite(ends).all():
        return TOO_FEW
    low, high = sorted(np.clip(ends, *row.room).tolist(), key=abs)
    if low * high > 0:  # Both ends are of one direction, whose word is said once.
        return f"{_parts(low, verdict)[0]} to {in_words(high, verdict)}"
    return f"{in_words(min(low, high), verdict)} to {in_words(max(low, high), verdict)}"


def _parts(difference: float, verdict: Verdict) -> tuple[str, str]:
    """The size of a difference, its unit, and its direction, in words."""
    way, currency = "more" if difference > 0 else "less", verdict.currency
    if currency.metric == "recall_at_budget":
        return f"{abs(100 * difference):.3g}", f"percentage points {way}"
    if currency.costs is None and way == "less":
        way = "fewer"
    return amount(abs(difference), currency.metric), way


def reach(level: Level, metric: str) -> str:
    """The interval of a mean in the currency."""
    return _interval(level.low, level.high, metric, 0.0)


def change(row: Comparison) -> str:
    """A difference in the currency with its simultaneous interval."""
    if row.ties == row.num_pairs > 0:
        return "0, the same in every fold"
    size = amount(row.difference, row.metric).replace("-", "\N{MINUS SIGN}")
    ends = _interval(row.simultaneous_low, row.simultaneous_high, row.metric)
    return f"{'+' if row.difference > 0 else ''}{size} {ends}"


def _interval(low: float, high: float, metric: str, least: float = -np.inf) -> str:
    if metric == "recall_at_budget" or not (np.isfinite(low) and np.isfinite(high)):
        return interval(low, high, least)
    ends = (amount(max(low, least), metric), amount(high, metric))
    return f"[{ends[0]},\N{NO-BREAK SPACE}{ends[1]}]".replace("-", "\N{MINUS SIGN}")


def _use(record: xr.Dataset, verdict: Verdict) -> str:
    chosen = verdict.chosen
    return (
        f"The model {chosen.model} with the strategy {chosen.strategy}; to decide, "
        f"{rule_words(verdict, chosen.rule, record.sizes['class'])} ({chosen.rule}). Compared were {len(verdict.candidates)} candidates by their "
        f"{unit(record, verdict)}."
    )


def _buys(record: xr.Dataset, verdict: Verdict) -> str:
    metric, chosen, plain = verdict.currency.metric, verdict.chosen, verdict.plain
    counted = unit(record, verdict)
    own = f"{amount(chosen.level.score, metric)} {reach(chosen.level, metric)}"
    row = verdict.gain(chosen)
    if row is None:
        return f"Nothing beside the plain baseline, since it is that baseline: {counted} {own}."
    return (
        f"{counted[:1].upper()}{counted[1:]}: {own}, where the plain baseline, {plain.variant} by {plain.rule}, has "
        f"{amount(plain.level.score, metric)} {reach(plain.level, metric)}. That is {in_words(row.difference, verdict)}; "
        f"possible is {possible(row, verdict)}."
    )


def _loses(verdict: Verdict) -> str:
    if not verdict.prices:
        return "Nothing: there is no change from the plain baseline."
    worse = [_change(row) for row in verdict.prices if row.verdict == "worse"]
    open_ = [_change(row) for row in verdict.prices if row.verdict == "undecided"]
    kept = [
        METRICS[row.metric] for row in verdict.prices if row.verdict in ("better", "equivalent")
    ]
    parts = [
        f"shown to lose beside the plain baseline: {listed(worse)}"
        if worse
        else "no loss is shown",
        f"undecided: {listed(open_)}" if open_ else "",
        f"not lost: {listed(kept)}" if kept else "",
    ]
    text = ". ".join(part[:1].upper() + part[1:] for part in parts if part)
    return f"{text}."


def _change(row: Comparison) -> str:
    ends = interval(row.simultaneous_low, row.simultaneous_high, *row.room)
    size = UNKNOWN if not np.isfinite(row.difference) else number(row.difference)
    sign = "+" if row.difference > 0 else ""
    return f"{METRICS[row.metric]} {sign}{size} {ends}"


def _sure(verdict: Verdict) -> str:
    chosen, plain, best = verdict.chosen, verdict.plain, verdict.best
    metric, margin = verdict.currency.metric, amount(verdict.margin, verdict.currency.metric)
    family = f"after correction for all {len(verdict.gains)} comparisons with the plain baseline"
    if verdict.certainty == "baseline":
        text = (
            f"The plain baseline will do: it has the best mean, and no other is better by as much as {margin}"
            if best == plain
            else f"The plain baseline will do: it is shown to lose less than {margin} beside the best mean, that of "
            f"{best.variant} by {best.rule}"
        )
    elif verdict.certainty == "shown":
        text = f"Shown: it is better than the plain baseline, {family}"
    elif chosen == plain:
        text = (
            f"Undecided: no candidate is shown to be better than the plain baseline, {family}, and "
        )
        text += (
            "it has the best mean"
            if best == plain
            else f"the best mean, that of {best.variant} by {best.rule} ({amount(best.level.score, metric)}), is within "
            f"{margin} of its own"
        )
    else:
        text = (
            f"Undecided: it is not shown to be better than the plain baseline, {family}; the interval above says what is "
            f"possible. Of all whose mean is within {margin} of the best one it is the simplest"
        )
    return f"{text}. {_beside_best(verdict)}".strip()


def _beside_best(verdict: Verdict) -> str:
    """A sentence that compares the chosen candidate with that of the best mean."""
    chosen, best, metric = verdict.chosen, verdict.best, verdict.currency.metric
    row = verdict.loss(chosen)
    if chosen == verdict.plain:
        return ""
    if verdict.certainty == "undecided":
        mean = f"The best mean is that of {best.variant} by {best.rule}"
        return (
            "It has the best mean."
            if row is None
            else f"{mean} ({amount(best.level.score, metric)})."
        )
    if row is None:
        near = [x for x in verdict.candidates[1:] if _is_kept(verdict, x)]
        if not near:
            return "It has the best mean, and nothing simpler is shown to come near it."
        return "It has the best mean, and is simpler than all that are shown to come near it."
    margin = amount(verdict.margin, metric)
    shown = (
        f"shown to lose less than {margin}" if row.verdict == "kept" else "not shown to lose little"
    )
    return (
        f"The best mean is that of {best.variant} by {best.rule} ({amount(best.level.score, metric)}), beside which it is "
        f"{shown}, and it is simpler."
    )


def _is_kept(verdict: Verdict, candidate: Candidate) -> bool:
    row = verdict.loss(candidate)
    return row is not None and row.verdict == "kept"


def alone(record: xr.Dataset) -> str:
    """A sentence on strategies that other models were not given; empty where there are none."""
    made_up = any(name.endswith(f": {SMOTE}") for name in attributes.compared_names(record))
    not_network = (
        f"{SMOTE} makes samples before a fit, and was not tried on the network." if made_up else ""
    )
    names = attributes.network_alone(record)
    if not names:
        return ""
    verb, them = ("acts", "it") if len(names) == 1 else ("act", "them")
    return f"{listed(names)} {verb} within the training of a network, so that the other models were not given {them}. {not_network}".strip()
