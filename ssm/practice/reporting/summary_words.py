"""The verdict of a study for a reader who decides and does not compute: what to use, what that costs, and how sure it is."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import xarray as xr

from ssm.practice.options import OWN, SMOTE, WEIGHTS
from ssm.practice.reporting.format import listed
from ssm.practice.reporting.verdict_words import TOO_FEW, amount, in_words, possible
from ssm.practice.statistics.comparisons import Level
from ssm.practice.study import attributes, models
from ssm.practice.study.outcomes import Outcomes
from ssm.practice.study.verdicts import Candidate, Verdict

USUAL = "The usual way"
# The largest number of classes whose changes are named, and the smallest change in cases of 1000 that is named.
MOST_TRADES, LEAST = 4, 0.05
PLAIN_STRATEGIES = ("erm", OWN)
HOW_MUCH_MORE = {
    "inverse": ", so that every class counts as much as any other",
    "clipped": ", within limits",
}
"""How far strategies that are class weights go; the others do not make all classes count alike."""
METHODS = {
    "la": "the loss adjusted to how frequent classes are",
    "cdt": "scores of rarer classes scaled down in training, so that they have to grow further",
    "vs": "scores scaled and shifted in training by how frequent classes are",
    "ldam": "wider margins for rarer classes",
    "ldam-drw": "wider margins for rarer classes, which count more from some time on",
    "focal": "cases that are easily decided counting less",
    "drw": "cases of rarer classes counting more from some time on",
    "ramp": "cases of rarer classes counting ever more in training",
    "adaptive": "cases of those classes counting more that it finds least of",
    "sampling": "as many cases of each class in each step of training",
    "sampling-effective": "cases of rarer classes drawn more often in training",
    "mixup": "mixtures of two cases in place of cases",
    "remix": "mixtures of two cases in place of cases, counted for the rarer class",
}
"""The other strategies."""


class Use(NamedTuple):
    """What to use, in three parts."""

    model: str
    training: str
    decision: str


class Row(NamedTuple):
    """A line of the table of costs."""

    title: str
    value: str
    reach: str


def use(record: xr.Dataset, verdict: Verdict, candidate: Candidate) -> Use:
    """A candidate in words."""
    model, decision = models.title(candidate.model), _decision(record, verdict, candidate)
    return Use(f"{model[:1].upper()}{model[1:]}", _training(candidate), f"{decision}.")


def measured(record: xr.Dataset, verdict: Verdict) -> str:
    """What is counted, as a heading or the label of an axis."""
    currency = verdict.currency
    if currency.metric == "recall_at_budget":
        return f"share of the cases of {_alarm_class(record, verdict)} that is found"
    return "cost per 1000 cases" if currency.costs is not None else "errors per 1000 cases"


def unit(record: xr.Dataset, verdict: Verdict) -> str:
    """A sentence on what the numbers count."""
    currency, names = verdict.currency, [str(name) for name in record["class"].values]
    if currency.metric == "recall_at_budget":
        assert currency.budget is not None
        return f"Alarms may be {100 * currency.budget:g} % of all cases; what counts is how many of the cases of {_alarm_class(record, verdict)} they find."
    if currency.costs is None:
        return (
            f"No prices were given, so that all {len(names)} classes count alike: these are the errors in 1000 cases if all "
            "classes were equally frequent."
        )
    wrong = currency.costs[~np.eye(len(names), dtype=bool)].reshape(len(names), -1)
    if (wrong == wrong[:, :1]).all() and not currency.costs.diagonal().any():
        prices = [f"{name} {price:g}" for name, price in zip(names, wrong[:, 0], strict=True)]
        return f"The study was given these prices of a case that is taken for another class: {listed(prices)}."
    return "Costs are in the unit of the table of costs that was given."


def rows(record: xr.Dataset, verdict: Verdict) -> list[Row]:
    """The results of the recommendation and of the usual way, with their difference, and of the best of the others."""
    chosen, metric = verdict.chosen, verdict.currency.metric

    def row(title: str, candidate: Candidate) -> Row:
        level = candidate.level
        return Row(title, size(level.score, metric), between(verdict, level))

    found = [row(title, each) for title, each in shown(verdict)]
    gain = verdict.gain(chosen)
    if gain is not None:
        found.insert(
            2,
            Row(
                "Difference of these two",
                in_words(gain.difference, verdict),
                possible(gain, verdict),
            ),
        )
    return found


def shown(verdict: Verdict) -> list[tuple[str, Candidate]]:
    """The recommended candidate, the plain baseline, called the usual way, where it is another, and the best mean among all
    others."""
    chosen, plain = verdict.chosen, verdict.plain
    if chosen == plain:
        found = [("Recommended: the usual way", chosen)]
    else:
        found = [("Recommended", chosen), (USUAL, plain)]
    others = [x for x in verdict.candidates if x not in (chosen, plain)]
    return found + [("Best of the others", each) for each in others[:1]]


def trade(chosen: Outcomes, plain: Outcomes) -> str:
    """The classes of which more cases are missed than by the usual way, and those of which fewer are; empty where there are none."""
    changes = chosen.missed - plain.missed
    order = np.argsort(-np.abs(changes), kind="stable")
    parts = {
        what: [
            f"{cases(abs(float(changes[c])))} {what} cases of {chosen.classes[c]}"
            for c in order[:MOST_TRADES].tolist()
            if changes[c] * sign >= LEAST
        ]
        for what, sign in (("fewer", -1), ("more", 1))
    }
    told = [listed(each) for each in parts.values() if each]
    return f"In 1000 cases it misses {', but '.join(told)} than the usual way." if told else ""


def answer(record: xr.Dataset, verdict: Verdict) -> str:
    """What is to be expected, in one sentence."""
    level, plain = verdict.chosen.level, verdict.plain.level
    metric = verdict.currency.metric
    expected = size(level.score, metric)
    costs = {
        "recall_at_budget": f"Expect it to find about {expected} of the cases of {_alarm_class(record, verdict)}",
        "expected_cost": f"Expect a cost of about {expected} per 1000 cases"
        if verdict.currency.costs is not None
        else f"Expect about {expected} errors per 1000 cases",
    }[metric]
    beside = "; this is the usual way itself"
    if verdict.chosen != verdict.plain:
        usual = f"{models.title(verdict.plain.model)}, every case counting alike"
        beside = f"; the usual way ({usual}) has {size(plain.score, metric)}"
    return f"{costs}, likely {between(verdict, level)}{beside}."


def sure(verdict: Verdict) -> str:
    """How sure the recommendation is."""
    return f"{_certainty(verdict)} {_beside_best(verdict)}".strip()


def _certainty(verdict: Verdict) -> str:
    count = len(verdict.gains)
    if verdict.certainty == "shown":
        return (
            "Shown: it is better than the usual way by more than chance explains, even after allowing for all "
            f"{count} alternatives that were tried beside it (a false claim of this kind has a chance of at most 5 %)."
        )
    if verdict.certainty == "baseline":
        return (
            "Sure enough to stay with the usual way: the tests show that nothing more complicated gains as much as "
            f"{_margin(verdict)}, the least that this study counts as a gain."
        )
    gain = verdict.gain(verdict.chosen)
    if gain is None:
        return (
            "Use it for now: none of the alternatives is shown to be better than the usual way, which is the simplest among the "
            "nearly best; more data may show a better one."
        )
    return (
        "Use it for now: it did better on average than the usual way, but is not shown to be better. The true difference may "
        f"be anything from {possible(gain, verdict)}. It is the simplest among the nearly best, and more data may change that."
    )


def _beside_best(verdict: Verdict) -> str:
    """Why the best mean is not recommended; empty where it is."""
    chosen, best = verdict.chosen, verdict.best
    if chosen == best:
        return ""
    row = verdict.loss(chosen)
    is_shown = row is not None and row.verdict == "kept"
    by = "is shown to be better by" if is_shown else "was better by"
    return (
        f"The best of the others below, which is less simple, had {size(best.level.score, best.level.metric)} on average: it {by} "
        f"less than {_margin(verdict)}, and differences below that were set not to count in this study."
    )


def _margin(verdict: Verdict) -> str:
    """The study's margin in the currency."""
    metric = verdict.currency.metric
    is_recall = metric == "recall_at_budget"
    return (
        f"{100 * verdict.margin:g} percentage points"
        if is_recall
        else amount(verdict.margin, metric)
    )


def compared(record: xr.Dataset, verdict: Verdict) -> str:
    """What was compared, in one sentence."""
    study = attributes.study_facts(record)
    names = list(dict.fromkeys(each.model for each in verdict.candidates))
    described = [models.title(name) for name in names]
    times = "once" if study["seeds"] == 1 else f"{study['seeds']} times"
    return (
        f"{len(verdict.candidates)} ways to decide, from {listed(described)}, trained and turned into decisions in several "
        f"ways: each was tried on all {study['num_samples']:,} cases, split {times} into {study['folds']} parts, so that "
        "every case was decided by a model that had not seen it."
    )


def mix(record: xr.Dataset) -> str:
    """How frequent classes are in the numbers of 1000 cases, in a sentence."""
    study = attributes.study_facts(record)
    names = [str(name) for name in record["class"].values]
    pairs = sorted(zip(study["class_counts"], names, strict=True), reverse=True)
    own = [f"{count:,} of {name}" for count, name in pairs[:MOST_TRADES]]
    if len(pairs) > MOST_TRADES:
        own[-1:] = [f"{len(pairs) - MOST_TRADES + 1} rarer classes"]
    text = f"In 1000 cases classes are as frequent as in the data, which has {study['num_samples']:,}: {listed(own)}."
    if (ratio := study.get("imbalance_ratio")) is not None:
        text += f" It was thinned out on purpose, to {ratio:g} of the most frequent class for one of the rarest: real cases may be mixed otherwise."
    return text


def size(value: float, metric: str) -> str:
    """A value of the currency; recalls in percent."""
    if not math.isfinite(value):
        return TOO_FEW
    return f"{100 * value:.0f} %" if metric == "recall_at_budget" else amount(value, metric)


def between(verdict: Verdict, level: Level) -> str:
    """The interval of a mean, cut off where values cannot be."""
    if not (math.isfinite(level.low) and math.isfinite(level.high)):
        return TOO_FEW
    low, high = bounds(verdict, level)
    return f"{size(low, level.metric)} to {size(high, level.metric)}"


def bounds(verdict: Verdict, level: Level) -> tuple[float, float]:
    """The ends of the interval of a mean, between the least and the most that a value can be."""
    most = 1.0 if level.metric == "recall_at_budget" else 1000.0
    if verdict.currency.costs is not None and level.metric == "expected_cost":
        most *= float(verdict.currency.costs.max())
    return max(level.low, 0.0), min(level.high, most)


def cases(value: float) -> str:
    """A number of cases in 1000."""
    return f"{value:,.0f}" if value >= 10 or value < 0.05 else f"{value:.1f}"


def _training(candidate: Candidate) -> str:
    strategy = candidate.strategy
    if candidate.model == models.BALANCED_FOREST:
        return "Each of its trees is grown on as many cases of every class."
    if strategy in PLAIN_STRATEGIES:
        return "As usual: every case counts alike."
    if strategy in WEIGHTS:
        less = ", though less than would make all classes count alike"
        return f"Cases of rarer classes count more{HOW_MUCH_MORE.get(strategy, less)}."
    if strategy == SMOTE:
        return "Further cases of rarer classes are made up between theirs, until every class has as many."
    return f"With {METHODS[strategy]} ({strategy} in the report)."


def _decision(record: xr.Dataset, verdict: Verdict, candidate: Candidate) -> str:
    if verdict.currency.metric == "recall_at_budget":
        assert verdict.currency.budget is not None
        share = f"{100 * verdict.currency.budget:g} % of the cases"
        name = _alarm_class(record, verdict)
        return f"Raise an alarm for the {share} that are most probably {name}, by lot where several are equally probable"
    if candidate.rule == "argmax":
        return "Take the class that the model finds most probable"
    if candidate.rule == "threshold" and record.sizes["class"] > 2:
        alike = "" if verdict.currency.costs is not None else ", all classes counting alike"
        return (
            "Multiply the probability of each class by a factor of its own, chosen on cases that the model was not trained "
            f"on, and take the decision that is then expected to cost least{alike}"
        )
    if candidate.rule == "threshold":
        counts = attributes.study_facts(record)["class_counts"]
        rarer = record["class"].values[int(counts[1] <= counts[0])]
        return (
            f"Decide for {rarer} as soon as its probability reaches a threshold, chosen on cases that the model was not "
            f"trained on ({_thresholds(record, candidate)})"
        )
    if verdict.currency.costs is None:
        return "Correct the probabilities as if all classes were equally frequent, and take the most probable class"
    return "Weigh the probabilities with the costs, and take the decision that is expected to cost least"


def _thresholds(record: xr.Dataset, candidate: Candidate) -> str:
    values = record["threshold"].sel(variant=candidate.variant).values
    low, high = f"{np.nanmin(values):.2g}", f"{np.nanmax(values):.2g}"
    return f"here {low}" if low == high else f"here between {low} and {high}"


def _alarm_class(record: xr.Dataset, verdict: Verdict) -> str:
    place = verdict.currency.alarm_class
    return "" if place is None else str(record["class"].values[place])
