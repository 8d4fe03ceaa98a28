"""What a study found, as numbers: comparisons, levels and calibration, computed once from its record
for tables, sentences and figures alike."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float
from scipy import special

from ssm import profiles
from ssm.practice import calibration, comparisons
from ssm.practice.calibration import Interval, Reliability
from ssm.practice.comparisons import Comparison, Level

METRICS = {
    "balanced_accuracy": "balanced accuracy",
    "worst_class_recall": "worst-class recall",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "macro_auc": "macro AUC",
    "macro_average_precision": "macro average precision",
    "log_loss": "log loss",
    "calibration_error": "calibration error",
    "class_calibration_error": "class calibration error",
}
CLASS_METRICS = {
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "auc": "AUC",
    "average_precision": "average precision",
    "calibration_error_of_class": "calibration error",
}
FAMILY = ("balanced_accuracy", "worst_class_recall", "accuracy", "calibration_error")
"""What strategies are compared by; ablations and sensitivity by the first three, since half of them
are corrected to equal class shares, for which test folds do not measure calibration."""
DECISIONS = FAMILY[:3]
CORRECTED = ("none", "training", "temperature")
"""Corrections whose probabilities are for the class shares of the test folds."""
TOLERANCE = 0.05  # accuracy below the baseline's that is acceptable, where nobody says


class Factor(NamedTuple):
    """One factor of an ablation, on beside off, on one metric."""

    factor: str
    setting: str
    comparison: Comparison


class Change(NamedTuple):
    """One number changed, beside the same strategy without the change, on one metric."""

    kind: str
    value: float
    comparison: Comparison


class Calibrated(NamedTuple):
    """Calibration of one strategy's top labels, each sample predicted once, by the first
    repetition."""

    variant: str
    correction: str
    reliability: Reliability
    interval: Interval


class Findings(NamedTuple):
    """All that is said of a study beyond its mean scores."""

    strategies: tuple[str, ...]
    """The baseline first."""
    groups: tuple[str, ...]
    """`majority` or `minority`, of each class."""
    required: float
    """The minimum acceptable accuracy."""
    levels: tuple[Level, ...]
    """Accuracy of each strategy beside it."""
    comparisons: tuple[Comparison, ...]
    ablations: tuple[Factor, ...]
    changes: tuple[Change, ...]
    calibrated: tuple[Calibrated, ...]
    """Strategy by strategy, each under `CORRECTED`; without those that predicted no finite
    number."""

    @property
    def baseline(self) -> str:
        """Of all comparisons of strategies."""
        return self.strategies[0]

    def compared(self, variant: str, metric: str) -> Comparison | None:
        """A strategy beside the baseline; None for the baseline itself, and metrics that were not
        compared."""
        mine = [row for row in self.comparisons if (row.variant, row.metric) == (variant, metric)]
        return mine[0] if mine else None


def attribute(record: xr.Dataset, name: str) -> Any:
    """An attribute that is kept as JSON."""
    return json.loads(record.attrs[name])


def find(record: xr.Dataset) -> Findings:
    """Compare the strategies of a record and measure their calibration."""
    strategies = tuple(attribute(record, "strategies"))
    own = record.sel(variant=list(strategies), correction="none")
    required = attribute(record, "study")["minimum_accuracy"]
    if required is None:
        required = float(own["accuracy"].sel(variant=strategies[0]).mean()) - TOLERANCE
    return Findings(
        strategies=strategies,
        groups=profiles.class_groups(attribute(record, "study")["class_counts"]),
        required=required,
        levels=comparisons.minimum_level(own["accuracy"], required),
        comparisons=comparisons.compare(own[list(FAMILY)], strategies[0]),
        ablations=_ablations(record),
        changes=_changes(record),
        calibrated=tuple(_calibrated(record, strategies)),
    )


def _ablations(record: xr.Dataset) -> tuple[Factor, ...]:
    entries = attribute(record, "ablations")
    rows = _beside(record, [(entry["on"], entry["off"]) for entry in entries])
    return tuple(
        Factor(entry["factor"], entry["setting"], row)
        for entry, mine in zip(entries, rows, strict=True)
        for row in mine
    )


def _changes(record: xr.Dataset) -> tuple[Change, ...]:
    entries = attribute(record, "sensitivity")
    pairs = [((entry["variant"], "none"), (entry["reference"], "none")) for entry in entries]
    return tuple(
        Change(entry["kind"], entry["value"], row)
        for entry, mine in zip(entries, _beside(record, pairs), strict=True)
        for row in mine
    )


def _beside(record: xr.Dataset, pairs: Sequence[Any]) -> list[tuple[Comparison, ...]]:
    """Of each pair of (variant, correction) its comparisons on all of `DECISIONS`."""
    if not pairs:
        return []
    on, off = zip(*pairs, strict=True)
    rows = comparisons.ablation(record[list(DECISIONS)], on, off)
    step = len(DECISIONS)
    return [rows[i : i + step] for i in range(0, len(rows), step)]


def _calibrated(record: xr.Dataset, strategies: Sequence[str]) -> Iterator[Calibrated]:
    labels = record["label"].values
    for name in strategies:
        for correction in CORRECTED:
            rows = probabilities(record, name, correction)
            found = np.isfinite(rows).all(1)
            if not found.any():
                continue
            confidences, correct = calibration.top_label(rows[found], labels[found])
            yield Calibrated(
                name,
                correction,
                calibration.reliability(confidences, correct),
                calibration.bootstrap_interval(confidences, correct),
            )


def probabilities(record: xr.Dataset, variant: str, correction: str) -> Float[np.ndarray, "m k"]:
    """What the first repetition predicted of each sample when it was a test sample, under one of
    `CORRECTED`; NaN where training failed."""
    first = record.sel(variant=variant).isel(seed=0)
    if correction == "none":
        return special.softmax(first["logits"].values, axis=1)
    logits = first["corrected_logits"].values
    if correction == "temperature":
        logits = logits / first["temperature"].values[first["fold_of"].values][:, None]
    return special.softmax(logits, axis=1)


def mean(scores: xr.DataArray, variant: str) -> Level:
    """Mean of one variant's scores over `seed` and `fold`, with its 95 % interval."""
    return comparisons.minimum_level(scores.sel(variant=[variant]), 0.0)[0]


def best_correction(record: xr.Dataset, variant: str) -> str:
    """The correction after training with the highest mean balanced accuracy, among equals that with
    the least calibration error."""
    choices = [str(name) for name in record["correction"].values if name != "none"]
    scores = record.sel(variant=variant).mean(("seed", "fold"))

    def merit(name: str) -> tuple[float, float]:
        mine = scores.sel(correction=name)
        error = float(mine["calibration_error"])
        return round(float(mine["balanced_accuracy"]), 12), -error

    return max(choices, key=merit)


def comparison_table(findings: Findings) -> pd.DataFrame:
    """The strategies beside the baseline, a row for each metric and strategy."""
    return pd.DataFrame([row._asdict() for row in findings.comparisons], columns=_COLUMNS)


def ablation_table(findings: Findings) -> pd.DataFrame:
    """The factors on beside off, a row for each factor, setting and metric."""
    rows = [
        {"factor": factor, "setting": setting} | row._asdict()
        for factor, setting, row in findings.ablations
    ]
    return pd.DataFrame(rows, columns=["factor", "setting", *_COLUMNS])


_COLUMNS = list(Comparison._fields)
