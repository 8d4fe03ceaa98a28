"""The findings of a study as numbers: comparisons, levels, calibration and where training was stopped.
They are computed from the record once, for tables, sentences and figures alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Bool, Float
from scipy import special

from ssm.config import profiles
from ssm.practice.options import NETWORK
from ssm.practice.statistics import calibration, comparisons
from ssm.practice.statistics.calibration import Interval, Reliability
from ssm.practice.statistics.comparisons import Comparison, Level, NonInferiority
from ssm.practice.study import attributes, endings, rivals, verdicts
from ssm.practice.study.endings import Ending
from ssm.practice.study.rivals import Rival
from ssm.practice.study.verdicts import Verdict

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
"""The metrics by which strategies are compared."""
MAIN_SCORE = FAMILY[0]
"""The metric that decides whether a strategy is acceptable."""
DECISIONS = FAMILY[:3]
"""The metrics for ablations and sensitivity. Half of these variants are corrected to equal class shares,
for which the test folds do not measure calibration."""
CORRECTED = ("none", "training", "temperature")
"""The corrections whose probabilities are for the class shares of the test folds."""


class Factor(NamedTuple):
    """One factor of an ablation: the comparison of a variant that has it with one that does not, on one metric."""

    factor: str
    setting: str
    comparison: Comparison


class Change(NamedTuple):
    """A strategy with one number changed, compared with the same strategy without the change, on one
    metric."""

    kind: str
    value: float
    comparison: Comparison


class Calibrated(NamedTuple):
    """The calibration of one strategy, by the predictions of the first repetition, in which each sample is
    predicted once: of the predicted class's probability, or of the minority's."""

    variant: str
    correction: str
    reliability: Reliability
    interval: Interval

    @property
    def mean(self) -> float:
        """The mean probability over the samples."""
        return float(np.average(self.reliability.mean_confidence, weights=self.reliability.count))


class Stopping(NamedTuple):
    """The steps after which the training runs of a strategy were ended."""

    variant: str
    num_runs: int
    kept: tuple[float, float, float]
    """The least, median and greatest number of steps that the kept networks were trained for."""
    passes: float
    """The passes over the training samples that the median of these steps makes."""
    num_first: int
    """The number of runs that kept the network of the first evaluation after the start, although there
    were later ones: those were worse on the held-out samples."""
    num_untrained: int
    """The number of runs that kept the untrained network."""


class Findings(NamedTuple):
    """Everything that the report says of a study beyond its mean scores."""

    strategies: tuple[str, ...]
    """The names of the network's strategies, the baseline first; of another model's in a study without it."""
    groups: tuple[str, ...]
    """`majority` or `minority`, for each class."""
    margin: float
    """The largest loss of `MAIN_SCORE`, compared with the baseline, that is acceptable; strategies that
    are shown to differ by less count as equivalent."""
    acceptable: tuple[NonInferiority, ...]
    """Whether each strategy but the baseline is acceptable, by its loss of `MAIN_SCORE`."""
    required: float | None
    """The least `MAIN_SCORE` that somebody requires."""
    levels: dict[str, Level]
    """The mean `MAIN_SCORE` of each strategy."""
    comparisons: tuple[Comparison, ...]
    ablations: tuple[Factor, ...]
    changes: tuple[Change, ...]
    calibrated: tuple[Calibrated, ...]
    """The calibration of each strategy, and of what the verdict recommends, under each of `CORRECTED`, without those whose
    predictions are not finite."""
    minority: tuple[Calibrated, ...]
    """The same for the probability of all minority classes together; empty where there are none."""
    stopping: tuple[Stopping, ...]
    """Where training was ended, strategy by strategy; empty for models without steps."""
    rivals: tuple[Rival, ...]
    """All models with each of their strategies."""
    verdict: Verdict
    """What to use."""
    endings: tuple[Ending, ...]
    """What stopping early and what a rule of decision changes."""

    @property
    def baseline(self) -> str:
        """The strategy that all others are compared with."""
        return self.strategies[0]

    def compared(self, variant: str, metric: str) -> Comparison | None:
        """The comparison of a strategy with the baseline; None for the baseline itself, and for metrics
        that were not compared."""
        for row in self.comparisons:
            if (row.variant, row.metric) == (variant, metric):
                return row
        return None


def find(record: xr.Dataset) -> Findings:
    """Compare the strategies of a record and measure their calibration."""
    study, strategies = attributes.study_facts(record), attributes.strategy_names(record)
    uncorrected = record.sel(variant=list(strategies), correction="none")
    margin, baseline = study["margin"], strategies[0]
    groups = profiles.class_groups(study["class_counts"])
    minority = np.array(groups) == profiles.MINORITY
    reached = verdicts.verdict(record, margin)
    judged = tuple(dict.fromkeys((*strategies, reached.chosen.variant)))
    return Findings(
        strategies=strategies,
        groups=groups,
        margin=margin,
        acceptable=comparisons.non_inferiority(uncorrected[MAIN_SCORE], baseline, margin),
        required=study["minimum_score"],
        levels={name: mean(uncorrected[MAIN_SCORE], name) for name in strategies},
        comparisons=comparisons.compare(uncorrected[list(FAMILY)], baseline, margin),
        ablations=_ablations(record, margin),
        changes=_changes(record, margin),
        calibrated=tuple(_calibrated(record, judged)),
        minority=tuple(_calibrated(record, judged, minority)) if minority.any() else (),
        stopping=tuple(_stopping(uncorrected.sel(variant=name)) for name in strategies)
        if has_histories(record)
        else (),
        rivals=rivals.rivals(record, margin),
        verdict=reached,
        endings=endings.endings(record, reached.margin),
    )


def _ablations(record: xr.Dataset, margin: float) -> tuple[Factor, ...]:
    """What each factor of the ablations changes, on each of `DECISIONS`."""
    entries = attributes.ablations(record)
    rows = _compared_pairs(record, [(entry.on, entry.off) for entry in entries], margin)
    return tuple(
        Factor(entry.factor, entry.setting, row)
        for entry, rows_of_entry in zip(entries, rows, strict=True)
        for row in rows_of_entry
    )


def _changes(record: xr.Dataset, margin: float) -> tuple[Change, ...]:
    """What each changed number of the sensitivity analyses changes, on each of `DECISIONS`."""
    entries = attributes.sensitivities(record)
    pairs = [((entry.variant, "none"), (entry.reference, "none")) for entry in entries]
    rows = _compared_pairs(record, pairs, margin)
    return tuple(
        Change(entry.kind, entry.value, row)
        for entry, rows_of_entry in zip(entries, rows, strict=True)
        for row in rows_of_entry
    )


def _compared_pairs(
    record: xr.Dataset, pairs: Sequence[tuple[tuple[str, str], tuple[str, str]]], margin: float
) -> list[tuple[Comparison, ...]]:
    """The comparisons of each pair of (variant, correction) on all of `DECISIONS`."""
    if not pairs:
        return []
    on, off = zip(*pairs, strict=True)
    rows = comparisons.compare_pairs(record[list(DECISIONS)], on, off, margin)
    step = len(DECISIONS)
    return [rows[i : i + step] for i in range(0, len(rows), step)]


def _calibrated(
    record: xr.Dataset, strategies: Sequence[str], together: Bool[np.ndarray, " k"] | None = None
) -> Iterator[Calibrated]:
    """The calibration of each strategy under each of `CORRECTED`: of the predicted class's probability, or
    of the probability of the classes `together`."""
    labels = record["label"].values
    for name in strategies:
        for correction in CORRECTED:
            rows = probabilities(record, name, correction)
            is_finite = np.isfinite(rows).all(1)
            if not is_finite.any():
                continue
            if together is None:
                pairs = calibration.top_label(rows[is_finite], labels[is_finite])
            else:
                # Rounding may make the sum larger than 1.
                sums = np.minimum(rows[is_finite][:, together].sum(1), 1)
                pairs = sums, together[labels[is_finite]]
            yield Calibrated(
                name,
                correction,
                calibration.reliability(*pairs),
                calibration.bootstrap_interval(*pairs),
            )


def _stopping(runs: xr.Dataset) -> Stopping:
    """Where the training runs of one strategy were ended."""
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


def has_histories(record: xr.Dataset) -> bool:
    """Whether training was followed step by step, as it is of networks."""
    return "history_step" in record


def without_weights(record: xr.Dataset) -> dict[str, int]:
    """Variants that weigh classes, with the number of runs whose kept network was trained before the
    weights began to act, so that it is what it would be without them; variants without such runs are
    left out."""
    counts, of_model = {}, attributes.models(record)
    for name in attributes.weighted_variants(record):
        if of_model[name] != NETWORK:
            continue
        runs = record.sel(variant=name)
        kept = (runs["history_step"] == runs["best_step"]).values
        ones = (np.abs(runs["history_class_weight"].values - 1) < 1e-9).all(-1)
        counts[name] = int((kept & ones).any(-1).sum())
    return {name: number for name, number in counts.items() if number}


def resolution(findings: Findings) -> dict[str, float]:
    """Half the width of a typical simultaneous interval on each metric, which is about what a difference
    has to reach to be shown. Metrics on which all strategies are the same are left out."""
    half_widths = {}
    for metric in FAMILY:
        rows = [row for row in findings.comparisons if row.metric == metric]
        widths = [
            row.simultaneous_high - row.simultaneous_low for row in rows if row.ties < row.num_pairs
        ]
        reaches = [width / 2 for width in widths if width > 0]
        if reaches:
            half_widths[metric] = float(np.median(reaches))
    return half_widths


def out_of_reach(findings: Findings) -> list[str]:
    """The metrics on which no gain could have been shown: what a difference has to reach is more than the
    baseline's mean leaves room for."""
    room = {
        row.metric: row.room[1] if comparisons.DIRECTION[row.metric] > 0 else -row.room[0]
        for row in findings.comparisons
        if row.num_pairs
    }
    return [metric for metric, needed in resolution(findings).items() if needed > room[metric]]


def probabilities(record: xr.Dataset, variant: str, correction: str) -> Float[np.ndarray, "m k"]:
    """The probabilities that the first repetition predicted for each sample when it was a test sample,
    under one of `CORRECTED`; NaN where training failed."""
    names = {"none": ["logits"], "temperature": ["corrected_logits", "temperature", "fold_of"]}
    # Only the variables that are needed are selected from, since a record has many and each takes time.
    needed = record[names.get(correction, ["corrected_logits"])]
    first = needed.sel(variant=variant).isel(seed=0)
    if correction == "none":
        return special.softmax(first["logits"].values, axis=1)
    logits = first["corrected_logits"].values
    if correction == "temperature":
        logits = logits / first["temperature"].values[first["fold_of"].values][:, None]
    return special.softmax(logits, axis=1)


def mean(scores: xr.DataArray, variant: str) -> Level:
    """The mean of one variant's scores over `seed` and `fold`, with its 95 % interval."""
    return comparisons.level(scores.sel(variant=variant))


def best_correction(record: xr.Dataset, variant: str) -> str:
    """The correction after training with the highest mean balanced accuracy, and of equal ones that with
    the least calibration error."""
    choices = [str(name) for name in record["correction"].values if name != "none"]
    scores = record.sel(variant=variant).mean(("seed", "fold"))

    def merit(name: str) -> tuple[float, float]:
        corrected = scores.sel(correction=name)
        error = float(corrected["calibration_error"])
        return round(float(corrected["balanced_accuracy"]), 12), -error

    return max(choices, key=merit)


def comparison_table(findings: Findings) -> pd.DataFrame:
    """The comparisons of the strategies with the baseline, a row for each metric and strategy."""
    return pd.DataFrame([row._asdict() for row in findings.comparisons], columns=_COLUMNS)


def ablation_table(findings: Findings) -> pd.DataFrame:
    """The comparisons of the ablations, a row for each factor, setting and metric."""
    rows = [
        {"factor": factor, "setting": setting} | row._asdict()
        for factor, setting, row in findings.ablations
    ]
    return pd.DataFrame(rows, columns=["factor", "setting", *_COLUMNS])


_COLUMNS = list(Comparison._fields)
