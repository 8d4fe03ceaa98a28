"""The verdict of a study: which model, strategy and rule of decision to use, what that buys beside the plain baseline in
the user's own currency, what it loses, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import xarray as xr

from ssm.practice.decisions.costs import CASES
from ssm.practice.options import NETWORK, OWN, WEIGHTS
from ssm.practice.statistics import comparisons
from ssm.practice.statistics.comparisons import Comparison, Level, NonInferiority
from ssm.practice.study import attributes
from ssm.practice.study.rules import RULES, Currency

SIMPLEST = ("logistic", "forest", "balanced_forest", "boosting")
"""Models in order, the simplest first. Models that are named by import paths come after these, and the network last."""
Certainty = Literal["shown", "undecided", "baseline"]


class Candidate(NamedTuple):
    """A way to decide: a variant, which is a model with a strategy, and a rule of decision."""

    variant: str
    model: str
    strategy: str
    rule: str
    level: Level
    """The mean of its scores in the currency."""

    @property
    def name(self) -> str:
        """The name of the candidate in tables."""
        return _name(self.variant, self.rule)


class Verdict(NamedTuple):
    """The recommendation of a study, and all that it rests on."""

    currency: Currency
    margin: float
    """The largest loss in the currency that is acceptable for something simpler: the study's margin of recall at a
    budget, of balanced accuracy (a thousandfold of it in balanced errors), or of the cost of always deciding the same."""
    candidates: tuple[Candidate, ...]
    """All candidates, that of the best mean first."""
    plain: Candidate
    """The plain baseline: the simplest model without weights, taking the most probable class."""
    chosen: Candidate
    """The candidate to use."""
    certainty: Certainty
    """`shown`: the chosen one is shown to be better than the plain baseline. `baseline`: the plain baseline itself is chosen, since
    it is shown to lose less than the margin compared with the best, or all others are shown not to gain as much. `undecided`:
    neither is shown."""
    gains: tuple[Comparison, ...]
    """Comparisons of each candidate with the plain baseline in the currency. They are one family, so that they hold although the
    best was chosen by the same numbers."""
    losses: tuple[NonInferiority, ...]
    """Whether each candidate loses less than the margin compared with that of the best mean."""
    prices: tuple[Comparison, ...]
    """Comparisons of the chosen candidate with the plain baseline in other scores."""

    @property
    def best(self) -> Candidate:
        """The candidate of the best mean."""
        return self.candidates[0]

    def gain(self, candidate: Candidate) -> Comparison | None:
        """The comparison of a candidate with the plain baseline; None for the baseline itself."""
        return next((row for row in self.gains if row.variant == candidate.name), None)

    def loss(self, candidate: Candidate) -> NonInferiority | None:
        """The comparison of a candidate with the best one; None for the best one itself."""
        return next((row for row in self.losses if row.variant == candidate.name), None)


def verdict(record: xr.Dataset, margin: float) -> Verdict:
    """The recommendation that follows from a record.

    The candidates are all compared variants under every rule. Where the candidate of the best mean is shown to beat the plain
    baseline, the simplest of those is recommended that are also shown to beat it and to lose less than the margin compared with
    the best (`comparisons.non_inferiority`), or the baseline where it is shown to lose less than the margin. Otherwise everything is
    undecided, and the simplest candidate whose mean is within the margin of the best is named. Which of two is simpler is decided by
    the model first, then by the strategy, then by the rule.

    Args:
        record: the record of a study.
        margin: the study's margin of balanced accuracy or recall.
    """
    facts = attributes.currency(record)
    costs = None if facts["costs"] is None else np.array(facts["costs"])
    currency = Currency(costs, facts["budget"], facts["alarm_class"])
    scores, reach = in_currency(record, currency), _margin(record, currency, margin)
    candidates = _candidates(record, scores)
    plain = _plain(candidates)
    direction = comparisons.DIRECTION[currency.metric]
    finite = [x for x in candidates if np.isfinite(x.level.score)] or [plain]
    in_order = sorted(finite, key=lambda x: (-round(direction * x.level.score, 9), _simplicity(x)))
    best = in_order[0]
    rows = scores.to_dataset(name=currency.metric)
    gains = comparisons.compare(rows, plain.name, reach) if len(candidates) > 1 else ()
    losses = comparisons.non_inferiority(scores, best.name, reach) if len(candidates) > 1 else ()
    better = {row.variant for row in gains if row.verdict == "better"}
    kept = {row.variant for row in losses if row.verdict == "kept"} | {best.name}
    if best.name in better or plain.name in kept:
        # Eligible are the best itself, and those that are shown to lose little compared with it and to gain.
        eligible = {best.name} | (kept & (better | {plain.name}))
    else:
        # Nothing is shown, so means decide, and the verdict says that they prove nothing.
        near = [direction * (best.level.score - x.level.score) <= reach for x in in_order]
        eligible = {x.name for x, is_near in zip(in_order, near, strict=True) if is_near}
    chosen = min((x for x in in_order if x.name in eligible), key=_simplicity)
    certainty: Certainty = "shown" if chosen.name in better else "undecided"
    if chosen == plain and (plain != best or _is_unbeaten(gains, reach)):
        certainty = "baseline" if plain.name in kept else "undecided"
    prices = _prices(record, chosen, plain, margin)
    return Verdict(
        currency, reach, tuple(in_order), plain, chosen, certainty, gains, losses, prices
    )


def _is_unbeaten(gains: Sequence[Comparison], margin: float) -> bool:
    """Whether all candidates are shown not to gain as much as the margin."""
    ends = [
        row.simultaneous_high if comparisons.DIRECTION[row.metric] > 0 else -row.simultaneous_low
        for row in gains
    ]
    return max(ends, default=0.0) < margin


def in_currency(record: xr.Dataset, currency: Currency) -> xr.DataArray:
    """The currency of every candidate in every fold, over `variant` (a candidate's name), `seed` and `fold`. Records of
    earlier versions have balanced errors of the most probable class and of equal class shares."""
    names = list(attributes.compared_names(record))
    metric = currency.metric
    rules = ["threshold"] if metric == "recall_at_budget" else list(RULES)
    if metric == "recall_at_budget":
        values = (
            record[metric].sel(variant=names).transpose("variant", "seed", "fold").values[..., None]
        )
    elif metric in record:
        values = record[metric].sel(variant=names, rule=rules)
        values = values.transpose("variant", "seed", "fold", "rule").values
    else:
        recalls = record["balanced_accuracy"].sel(variant=names, correction=["none", "uniform"])
        rules = ["argmax", "bayes"]
        recalls = recalls.transpose("variant", "seed", "fold", "correction")
        values = CASES * (1 - recalls.values)
    # A rule that a record does not have, such as the threshold of three classes in earlier versions, makes no candidate.
    exists = np.isfinite(values).any((0, 1, 2)) | (np.array(rules) == "argmax")
    kept = [rule for rule, there in zip(rules, exists, strict=True) if there] or rules
    each = [values[..., rules.index(rule)] for rule in kept]
    stacked = np.stack(each, axis=1).reshape(-1, *values.shape[1:3])
    labels = [_name(name, rule) for name in names for rule in kept]
    coords = {"variant": labels, "rule": ("variant", kept * len(names))}
    return xr.DataArray(stacked, coords, ("variant", "seed", "fold"), metric)


def _candidates(record: xr.Dataset, scores: xr.DataArray) -> list[Candidate]:
    """All candidates, with their means."""
    of_model, by_name = attributes.models(record), {}
    for variant in attributes.compared_names(record):
        by_name |= {_name(variant, rule): (variant, rule) for rule in RULES}
    found = []
    for name in map(str, scores["variant"].values):
        variant, rule = by_name[name]
        model = of_model[variant]
        strategy = variant if model == NETWORK else variant.removeprefix(f"{model}: ")
        level = comparisons.level(scores.sel(variant=name))
        found.append(Candidate(variant, model, strategy, rule, level))
    return found


def _name(variant: str, rule: str) -> str:
    return f"{variant}, {rule}"


def _plain(candidates: Sequence[Candidate]) -> Candidate:
    """The plain baseline, which is that of the network where there is no other model."""
    plain = [each for each in candidates if each.model != NETWORK]
    return min(plain or candidates, key=_simplicity)


def _simplicity(candidate: Candidate) -> tuple[int, int, int]:
    """Numbers that are smaller for a simpler candidate: of the model first, then of the strategy, where class weights are the
    simplest, then of the rule."""
    model = SIMPLEST.index(candidate.model) if candidate.model in SIMPLEST else len(SIMPLEST)
    order = (OWN, *WEIGHTS)
    strategy = order.index(candidate.strategy) if candidate.strategy in order else len(order)
    is_network = candidate.model == NETWORK
    return model + is_network, strategy, RULES.index(candidate.rule)


def _margin(record: xr.Dataset, currency: Currency, margin: float) -> float:
    """The study's margin in units of the currency."""
    if currency.metric == "recall_at_budget":
        return margin
    if currency.costs is None:
        return CASES * margin
    counts = np.array(attributes.study_facts(record)["class_counts"], float)
    constant = counts / counts.sum() @ currency.costs
    return CASES * margin * float(constant.min() or constant.max())


def _prices(
    record: xr.Dataset, chosen: Candidate, plain: Candidate, margin: float
) -> tuple[Comparison, ...]:
    """Comparisons of the chosen candidate with the plain baseline, one family: accuracy and worst-class recall of the decisions,
    macro average precision and calibration error of the probabilities."""
    if chosen == plain:
        return ()
    pairs = {}
    for name in ("accuracy", "worst_class_recall"):
        sides = [_decided(record, name, each) for each in (chosen, plain)]
        if all(side is not None for side in sides):
            pairs[name] = sides
    if chosen.variant != plain.variant:
        for name, correction in (
            ("macro_average_precision", "none"),
            ("calibration_error", "temperature"),
        ):
            scores = record[name].sel(correction=correction)
            pairs[name] = [scores.sel(variant=each.variant).values for each in (chosen, plain)]
    names = [chosen.name, plain.name]
    dims = ("variant", "seed", "fold")
    rows = xr.Dataset(
        {name: (dims, np.stack(sides)) for name, sides in pairs.items()}, {"variant": names}
    )
    return comparisons.compare(rows, plain.name, margin)


def _decided(record: xr.Dataset, name: str, candidate: Candidate) -> np.ndarray | None:
    """A score of a candidate's decisions in every fold; None where it is not known, as for alarms."""
    if candidate.level.metric == "recall_at_budget":
        return None
    if f"decided_{name}" in record:
        return record[f"decided_{name}"].sel(variant=candidate.variant, rule=candidate.rule).values
    correction = {"argmax": "none", "bayes": "uniform"}[candidate.rule]
    return record[name].sel(variant=candidate.variant, correction=correction).values
