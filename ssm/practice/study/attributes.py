"""The attributes of a study's record as typed values. The record keeps them as JSON."""

from __future__ import annotations

import json
from typing import Any, NamedTuple, NotRequired, TypedDict

import xarray as xr

from ssm.practice.options import NETWORK


class Ablation(NamedTuple):
    """One factor switched on and off with everything else alike, as (variant, correction) pairs."""

    factor: str
    setting: str
    """`alone`: the factor is added to ERM or to plain weights; `combined`: it is left out of all five factors together."""
    on: tuple[str, str]
    off: tuple[str, str]


class Sensitivity(NamedTuple):
    """A strategy with one number changed."""

    kind: str
    """`weight scale` or `sample size`."""
    variant: str
    value: float
    """The factor on the weights, or the fraction of the samples."""
    reference: str
    """The strategy without the change."""


class StudyFacts(TypedDict):
    """What was studied: those options (`options.StudyOptions`) that the report uses by name, and facts about the data."""

    name: str
    """The name of the data set."""
    num_samples: int
    num_features: int
    class_counts: list[int]
    notes: list[str]
    """Sentences on how the data were read."""
    num_steps: int | None
    """The option: None where it was left out."""
    num_steps_used: int
    seeds: int
    folds: int
    imbalance_ratio: NotRequired[float | None]
    """The option: None, or nothing, where the data are used as they are."""
    margin: float
    minimum_score: float | None


class CurrencyFacts(TypedDict):
    """What decisions of a study are counted in."""

    costs: list[list[float]] | None
    """Costs by true class (rows) and decision, k x k; None for balanced errors."""
    budget: float | None
    """The share of all cases that may be alarms; None where the study has no budget."""
    alarm_class: int | None
    """The index of the class that alarms are for; None without a budget."""


def study_facts(record: xr.Dataset) -> StudyFacts:
    """What was studied."""
    return _from_json(record, "study")


def strategy_names(record: xr.Dataset) -> tuple[str, ...]:
    """The strategies of the network that were compared, the baseline first; those of another model in a study
    without it."""
    return tuple(_from_json(record, "strategies"))


def compared_names(record: xr.Dataset) -> tuple[str, ...]:
    """The compared variants of all models, model by model; records of earlier versions hold the network alone."""
    return tuple(_from_json(record, "compared" if "compared" in record.attrs else "strategies"))


def models(record: xr.Dataset) -> dict[str, str]:
    """The model of each variant."""
    names = [str(name) for name in record["variant"].values]
    if "model" not in record.coords:
        return dict.fromkeys(names, NETWORK)
    return dict(zip(names, map(str, record["model"].values), strict=True))


def network_alone(record: xr.Dataset) -> list[str]:
    """The strategies that only the network was given, since they act within its training."""
    of_model = models(record)
    compared = [name for name in compared_names(record) if of_model[name] != NETWORK]
    if not compared:
        return []
    others = {name.removeprefix(f"{of_model[name]}: ") for name in compared}
    own = [name for name in strategy_names(record) if of_model[name] == NETWORK]
    return [name for name in own if name not in others]


def weighted_variants(record: xr.Dataset) -> list[str]:
    """The variants that weigh classes."""
    return _from_json(record, "weighted")


def descriptions(record: xr.Dataset) -> dict[str, str]:
    """What each variant does, in words."""
    return _from_json(record, "descriptions")


def ablations(record: xr.Dataset) -> list[Ablation]:
    """The factors that were switched on and off."""
    return [
        Ablation(entry["factor"], entry["setting"], tuple(entry["on"]), tuple(entry["off"]))
        for entry in _from_json(record, "ablations")
    ]


def currency(record: xr.Dataset) -> CurrencyFacts:
    """What decisions are counted in. Records of earlier versions count balanced errors."""
    if "currency" not in record.attrs:
        return {"costs": None, "budget": None, "alarm_class": None}
    return _from_json(record, "currency")


def endings(record: xr.Dataset) -> list[tuple[str, str]]:
    """Variants that were stopped early, each with the one that was trained to the end."""
    pairs = _from_json(record, "endings") if "endings" in record.attrs else []
    return [(stopped, to_the_end) for stopped, to_the_end in pairs]


def sensitivities(record: xr.Dataset) -> list[Sensitivity]:
    """The strategies that were trained with one number changed."""
    return [Sensitivity(**entry) for entry in _from_json(record, "sensitivity")]


def _from_json(record: xr.Dataset, name: str) -> Any:
    """The value of an attribute that is kept as JSON."""
    return json.loads(record.attrs[name])
