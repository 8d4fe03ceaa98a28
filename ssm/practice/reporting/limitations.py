"""The limits of a study, in sentences: how far its findings reach, and what they cannot tell."""

from __future__ import annotations

import numpy as np
import xarray as xr

from ssm.config import profiles
from ssm.practice.reporting.format import listed, number
from ssm.practice.study import attributes
from ssm.practice.study.evidence import (
    METRICS,
    Findings,
    out_of_reach,
    resolution,
    without_weights,
)

OFTEN = 0.1  # where more of a strategy's runs were hardly trained, the report says so
FEW_TESTED = 5  # with fewer samples of a class in a test fold, its recall moves in large steps


def limits(record: xr.Dataset, findings: Findings) -> list[str]:
    """What the report of a study says of how far its findings reach, a sentence or two each."""
    study = attributes.study_facts(record)
    pairs = study["seeds"] * study["folds"]
    dropped = sum(row.num_dropped for row in findings.comparisons)
    often = "repetition" if study["seeds"] == 1 else "repetitions"
    sentences = [
        f"Each strategy was trained {pairs} times: {study['folds']} folds in {study['seeds']} {often}. "
        "Folds dropped for want of a finite score: "
        + (f"{dropped}, over all {len(findings.comparisons)} comparisons." if dropped else "none.")
    ]
    sentences += [*_resolution(findings), *_stopped(record, findings), *_without_weights(record)]
    endings = {
        "not finite": "Runs whose numbers did not stay finite",
        "stopped by an alarm": "Runs stopped by an alarm",
    }
    for status, words in endings.items():
        number_of_runs = int((record["status"] == status).sum())
        if number_of_runs:
            sentences.append(f"{words}: {number_of_runs} of {record['status'].size}.")
    least = min(study["class_counts"])
    if least / study["folds"] < FEW_TESTED:
        sentences.append(
            f"The smallest class has {least} samples, about {least / study['folds']:.1f} in each "
            "test fold: recall of such classes moves in large steps, and worst-class recall is low "
            "by chance too where several are small."
        )
    if profiles.MINORITY not in findings.groups:
        sentences.append("All classes have the same size, so there is no minority to be helped.")
    return sentences


def _resolution(findings: Findings) -> list[str]:
    """Sentences on how large differences have to be in order to be shown."""
    needed, blind, sentences = resolution(findings), out_of_reach(findings), []
    seen = {metric: reach for metric, reach in needed.items() if metric not in blind}
    if seen:
        sizes = listed([f"{number(reach)} of {METRICS[metric]}" for metric, reach in seen.items()])
        sentences.append(
            f"To be shown here a difference had to be about {sizes} (half the width of a typical "
            "interval). Smaller ones need more samples, folds or repetitions."
        )
    if blind:
        sentences.append(
            f"In {listed([METRICS[metric] for metric in blind])} no gain could have been shown, "
            f"however large: intervals from these folds are wider than what {findings.baseline}'s "
            "score leaves room for. That takes more samples, folds or repetitions."
        )
    equivalent = {row.metric for row in findings.comparisons if row.verdict == "equivalent"}
    wide = [
        METRICS[metric]
        for metric, reach in seen.items()
        if reach >= findings.margin and metric not in equivalent
    ]
    if wide:
        sentences.append(
            f"In {listed(wide)} typical intervals are too wide to show that a strategy is "
            f"equivalent within {findings.margin:g}."
        )
    return sentences


def _stopped(record: xr.Dataset, findings: Findings) -> list[str]:
    """Sentences on strategies whose networks were often hardly trained, or not at all."""

    def often(field: str) -> list[str]:
        return [
            f"{getattr(row, field)} of {row.num_runs} runs of {row.variant}"
            for row in findings.stopping
            if getattr(row, field) > OFTEN * row.num_runs
        ]

    sentences, first, untrained = [], often("num_first"), often("num_untrained")
    if first:
        step = np.nanmax(record["history_step"].isel(evaluation=1))
        sentences.append(
            f"In {listed(first)} training was ended at the first evaluation, after {step:.0f} steps, "
            "since all later ones were worse on the held-out samples: these may be too few to tell, "
            "or the learning rate is too large."
        )
    if untrained:
        sentences.append(
            f"In {listed(untrained)} the network is the untrained one: there was no evaluation of a "
            "trained one whose numbers were finite."
        )
    return sentences


def _without_weights(record: xr.Dataset) -> list[str]:
    """A sentence on variants whose weights were not tried, since training ended before they acted."""
    counts, size = without_weights(record), record["status"].isel(variant=0).size
    if not counts or len(set(attributes.study_facts(record)["class_counts"])) == 1:
        return []
    runs = listed([f"{number} of {size} runs of {name}" for name, number in counts.items()])
    return [
        f"In {runs} training ended before class weights began to act: these networks are what they "
        "would be without weights, and say nothing of them, here and in ablations."
    ]
