"""Early stopping and the rule of decision as two separate choices: how each changes the cost of decisions, for networks that
were stopped early and for the same ones trained to the end."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr

from ssm.practice.statistics import comparisons
from ssm.practice.statistics.comparisons import Comparison, Level
from ssm.practice.study import attributes
from ssm.practice.study.rules import RULES

METRIC = "expected_cost"


class Ending(NamedTuple):
    """One strategy of the network under one ending of its training."""

    strategy: str
    is_to_the_end: bool
    levels: dict[str, Level]
    """The cost of the decisions, by rule."""
    by_rule: dict[str, Comparison]
    """Comparisons of each other rule with `argmax`, for the same networks."""
    by_stopping: dict[str, Comparison]
    """Comparisons, by rule, of the networks trained to the end with those stopped early; empty for the latter."""


def endings(record: xr.Dataset, margin: float) -> tuple[Ending, ...]:
    """The strategies that were both stopped early and trained to the end. All comparisons are one family.

    Args:
        record: the record of a study.
        margin: the margin in units of the cost of 1000 cases.
    """
    pairs = attributes.endings(record)
    if not pairs or METRIC not in record:
        return ()
    names = [name for pair in pairs for name in pair]
    costs = record[METRIC].sel(variant=names)
    rules = [rule for rule in RULES if np.isfinite(costs.sel(rule=rule)).any()]
    treated, control = [], []
    for stopped, to_the_end in pairs:
        for name in (stopped, to_the_end):
            treated += [(name, rule) for rule in rules[1:]]
            control += [(name, rules[0])] * len(rules[1:])
        treated += [(to_the_end, rule) for rule in rules]
        control += [(stopped, rule) for rule in rules]
    # `compare_pairs` expects the second axis to have the name `correction`.
    scores = costs.rename(rule="correction").to_dataset(name=METRIC)
    rows = iter(comparisons.compare_pairs(scores, treated, control, margin))
    found = []
    for stopped, to_the_end in pairs:
        by_rule = {name: {rule: next(rows) for rule in rules[1:]} for name in (stopped, to_the_end)}
        by_stopping = {rule: next(rows) for rule in rules}
        for name in (stopped, to_the_end):
            levels = {rule: comparisons.level(costs.sel(variant=name, rule=rule)) for rule in rules}
            is_end = name == to_the_end
            found.append(
                Ending(stopped, is_end, levels, by_rule[name], by_stopping if is_end else {})
            )
    return tuple(found)
