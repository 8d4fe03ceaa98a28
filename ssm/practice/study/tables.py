"""What a study found, as numbers: comparisons, levels, calibration and where training was stopped,
computed once from its record for tables, sentences and figures alike."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Bool, Float
from scipy import special

from ssm.config import profiles
from ssm.practice.statistics import calibration, comparisons
from ssm.practice.statistics.calibration import Interval, Reliability
from ssm.practice.statistics.comparisons import Comparison, Level, NonInferiority

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
MAIN_SCORE = FAMILY[0]
"""By which a strategy is acceptable or not."""
DECISIONS = FAMILY[:3]
CORRECTED = ("none", "training", "temperature")
"""Corrections whose probabilities are for the class shares of the test folds."""


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
    """Calibration of one strategy, of its top labels or of the minority's probability, each sample
    predicted once, by the first repetition."""

    variant: str
    correction: str
    reliability: Reliability
    interval: Interval

    @property
    def mean(self) -> float:
        """Mean probability over the samples."""
        return float(np.average(self.reliability.mean_confidence, weights=self.reliability.count))


class Stopping(NamedTuple):
    """After how many steps a strategy's runs were ended."""

    variant: str
    num_runs: int
    kept: tuple[float, float, float]
    """Least, median and greatest of the steps that the networks kept were trained for."""
    passes: float
    """Over the training samples in the median of these steps."""
    num_first: int
    """Runs ended at the first evaluation after the start, of several: all that came later was worse
    on held-out samples."""
    num_untrained: int
    """Runs that kept the network as it was before training."""


class Findings(NamedTuple):
    """All that is said of a study beyond its mean scores."""

    strategies: tuple[str, ...]
    """The baseline first."""
    groups: tuple[str, ...]
    """`majority` or `minority`, of each class."""
    margin: float
    """Largest loss of `MAIN_SCORE` beside the baseline that is acceptable, and within which
    strategies count as equivalent."""
    acceptable: tuple[NonInferiority, ...]
    """Whether each strategy but the baseline is, by `MAIN_SCORE` beside it."""
    required: float | None
    """The least `MAIN_SCORE` that is asked for."""
    levels: dict[str, Level]
    """Of each strategy's `MAIN_SCORE`."""
    comparisons: tuple[Comparison, ...]
    ablations: tuple[Factor, ...]
    changes: tuple[Change, ...]
    calibrated: tuple[Calibrated, ...]
    """Strategy by strategy, each under `CORRECTED`; without those that predicted no finite
    number."""
    minority: tuple[Calibrated, ...]
    """The same of the probability of all minority classes together; empty without any."""
    stopping: tuple[Stopping, ...]
    """Strategy by strategy."""

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
    study, strategies = attribute(record, "study"), tuple(attribute(record, "strategies"))
    own = record.sel(variant=list(strategies), correction="none")
    margin, baseline = study["margin"], strategies[0]
    groups = profiles.class_groups(study["class_counts"])
    minority = np.array(groups) == profiles.MINORITY
    return Findings(
        strategies=strategies,
        groups=groups,
        margin=margin,
        acceptable=comparisons.non_inferiority(own[MAIN_SCORE], baseline, margin),
        required=study["minimum_score"],
        levels={name: mean(own[MAIN_SCORE], name) for name in strategies},
        comparisons=comparisons.compare(own[list(FAMILY)], baseline, margin),
        ablations=_ablations(record, margin),
        changes=_changes(record, margin),
        calibrated=tuple(_calibrated(record, strategies)),
        minority=tuple(_calibrated(record, strategies, minority)) if minority.any() else (),
        stopping=tuple(_stopping(own.sel(variant=name)) for name in strategies),
    )


def _ablations(record: xr.Dataset, margin: float) -> tuple[Factor, ...]:
    entries = attribute(record, "ablations")
    rows = _beside(record, [(entry["on"], entry["off"]) for entry in entries], margin)
    return tuple(
        Factor(entry["factor"], entry["setting"], row)
        for entry, mine in zip(entries, rows, strict=True)
        for row in mine
    )


def _changes(record: xr.Dataset, margin: float) -> tuple[Change, ...]:
    entries = attribute(record, "sensitivity")
    pairs = [((entry["variant"], "none"), (entry["reference"], "none")) for entry in entries]
    return tuple(
        Change(entry["kind"], entry["value"], row)
        for entry, mine in zip(entries, _beside(record, pairs, margin), strict=True)
        for row in mine
    )


def _beside(
    record: xr.Dataset, pairs: Sequence[Any], margin: float
) -> list[tuple[Comparison, ...]]:
    """Of each pair of (variant, correction) its comparisons on all of `DECISIONS`."""
    if not pairs:
        return []
    on, off = zip(*pairs, strict=True)
    rows = comparisons.compare_pairs(record[list(DECISIONS)], on, off, margin)
    step = len(DECISIONS)
    return [rows[i : i + step] for i in range(0, len(rows), step)]


def _calibrated(
    record: xr.Dataset, strategies: Sequence[str], together: Bool[np.ndarray, " k"] | None = None
) -> Iterator[Calibrated]:
    """Of the top label, or of the probability of some classes `together`."""
    labels = record["label"].values
    for name in strategies:
        for correction in CORRECTED:
            rows = probabilities(record, name, correction)
            found = np.isfinite(rows).all(1)
            if not found.any():
                continue
            if together is None:
                pairs = calibration.top_label(rows[found], labels[found])
            else:
                sums = np.minimum(rows[found][:, together].sum(1), 1)  # without rounding
                pairs = sums, together[labels[found]]
            yield Calibrated(
                name,
                correction,
                calibration.reliability(*pairs),
                calibration.bootstrap_interval(*pairs),
            )


def _stopping(runs: xr.Dataset) -> Stopping:
    """Of the runs of one strategy."""
    kept, stop = runs["best_step"].values.ravel(), runs["stop_step"].values.ravel()
    first = runs["history_step"].isel(evaluation=1).values.ravel()
    passes = runs["history_epoch"].isel(evaluation=1).values.ravel() / first
    return Stopping(
        variant=str(runs["variant"].item()),
        num_runs=kept.size,
        kept=tuple(np.quantile(kept, (0, 0.5, 1)).tolist()),
        passes=float(np.median(kept * passes)),
        num_first=int(((kept == first) & (stop > first)).sum()),
        num_untrained=int((kept == 0).sum()),
    )


def without_weights(record: xr.Dataset) -> dict[str, int]:
    """Variants that weigh classes, and in how many of their runs the network kept was trained before
    the weights acted: there it is what it would be without them."""
    found = {}
    for name in attribute(record, "weighted"):
        runs = record.sel(variant=name)
        kept = (runs["history_step"] == runs["best_step"]).values
        ones = (np.abs(runs["history_class_weight"].values - 1) < 1e-9).all(-1)
        found[name] = int((kept & ones).any(-1).sum())
    return {name: number for name, number in found.items() if number}


def resolution(findings: Findings) -> dict[str, float]:
    """Half the width of a typical interval on each metric, which a difference has to reach to be
    shown; without metrics on which all strategies are the same."""
    found = {}
    for metric in FAMILY:
        rows = [row for row in findings.comparisons if row.metric == metric]
        widths = [
            row.simultaneous_high - row.simultaneous_low for row in rows if row.ties < row.num_pairs
        ]
        reaches = [width / 2 for width in widths if width > 0]
        if reaches:
            found[metric] = float(np.median(reaches))
    return found


def out_of_reach(findings: Findings) -> list[str]:
    """Metrics on which no gain that the baseline's mean leaves room for is large enough."""
    room = {
        row.metric: row.room[1] if comparisons.DIRECTION[row.metric] > 0 else -row.room[0]
        for row in findings.comparisons
        if row.num_pairs
    }
    return [metric for metric, needed in resolution(findings).items() if needed > room[metric]]


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
    return comparisons.level(scores.sel(variant=variant))


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
