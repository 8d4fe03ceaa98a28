"""The attributes of a study's record, in which what was studied is kept as JSON, as typed values."""

from __future__ import annotations

import json
from typing import Any, NamedTuple, NotRequired, TypedDict

import xarray as xr

from ssm.practice.options import NETWORK


class Ablation(NamedTuple):
    """One factor switched on and off with everything else alike, as (variant, correction) pairs."""

    factor: str
    setting: str
    """`alone`: added to ERM or to plain weights; `combined`: all five factors, and all but this one."""
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
    """What a study was: its options (`options.StudyOptions`), of which the report uses these by name, and
    facts of its data."""

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


def study_facts(record: xr.Dataset) -> StudyFacts:
    """What the study was."""
    return _from_json(record, "study")


def strategy_names(record: xr.Dataset) -> tuple[str, ...]:
    """The strategies of the network that were compared, the baseline first; those of another model in a study
    without it."""
    return tuple(_from_json(record, "strategies"))


def compared_names(record: xr.Dataset) -> tuple[str, ...]:
    """The compared variants of all models, model by model; earlier versions' records are of the network alone."""
    return tuple(_from_json(record, "compared" if "compared" in record.attrs else "strategies"))


def models(record: xr.Dataset) -> dict[str, str]:
    """The model of each variant."""
    names = [str(name) for name in record["variant"].values]
    if "model" not in record.coords:
        return dict.fromkeys(names, NETWORK)
    return dict(zip(names, map(str, record["model"].values), strict=True))


def network_alone(record: xr.Dataset) -> list[str]:
    """The network's strategies that act within its training, so that the study's other models were not given
    them."""
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


def currency(record: xr.Dataset) -> dict[str, Any]:
    """What decisions are counted in: `costs` (k x k, or None for balanced errors), `budget` and `alarm_class` (None
    without one). Earlier versions' records are of balanced errors."""
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
    return json.loads(record.attrs[name])
