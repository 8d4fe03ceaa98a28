"""What a study can and cannot tell, in sentences."""

from __future__ import annotations

import numpy as np
import xarray as xr

from ssm.config import profiles
from ssm.practice.study.format import listed, number
from ssm.practice.study.tables import (
    METRICS,
    Findings,
    attribute,
    out_of_reach,
    resolution,
    without_weights,
)

OFTEN = 0.1  # share of a strategy's runs from which it is said where training was stopped
FEW_TESTED = 5  # samples of a class in a test fold, below which its recall moves in large steps


def limits(record: xr.Dataset, findings: Findings) -> list[str]:
    study = attribute(record, "study")
    pairs = study["seeds"] * study["folds"]
    dropped = sum(row.num_dropped for row in findings.comparisons)
    often = "repetition" if study["seeds"] == 1 else "repetitions"
    said = [
        f"Each strategy was trained {pairs} times: {study['folds']} folds in {study['seeds']} {often}. "
        "Folds dropped for want of a finite score: "
        + (f"{dropped}, over all {len(findings.comparisons)} comparisons." if dropped else "none.")
    ]
    said += [*_resolution(findings), *_stopped(record, findings), *_without_weights(record)]
    endings = {
        "not finite": "Runs whose numbers did not stay finite",
        "stopped by an alarm": "Runs stopped by an alarm",
    }
    for status, words in endings.items():
        mine = int((record["status"] == status).sum())
        if mine:
            said.append(f"{words}: {mine} of {record['status'].size}.")
    least = min(study["class_counts"])
    if least / study["folds"] < FEW_TESTED:
        said.append(
            f"The smallest class has {least} samples, about {least / study['folds']:.1f} in each "
            "test fold: recall of such classes moves in large steps, and worst-class recall is low "
            "by chance too where several are small."
        )
    if profiles.MINORITY not in findings.groups:
        said.append("All classes have the same size, so there is no minority to be helped.")
    return said


def _resolution(findings: Findings) -> list[str]:
    """How large differences have to be in order to be seen."""
    needed, blind, said = resolution(findings), out_of_reach(findings), []
    seen = {metric: reach for metric, reach in needed.items() if metric not in blind}
    if seen:
        about = listed([f"{number(reach)} of {METRICS[metric]}" for metric, reach in seen.items()])
        said.append(
            f"To be shown here a difference had to be about {about} (half the width of a typical "
            "interval). Smaller ones need more samples, folds or repetitions."
        )
    if blind:
        said.append(
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
        said.append(
            f"In {listed(wide)} typical intervals are too wide to show that a strategy is "
            f"equivalent within {findings.margin:g}."
        )
    return said


def _stopped(record: xr.Dataset, findings: Findings) -> list[str]:
    """Whose networks were often hardly trained, or not at all."""

    def often(field: str) -> list[str]:
        return [
            f"{getattr(row, field)} of {row.num_runs} runs of {row.variant}"
            for row in findings.stopping
            if getattr(row, field) > OFTEN * row.num_runs
        ]

    said, first, untrained = [], often("num_first"), often("num_untrained")
    if first:
        step = np.nanmax(record["history_step"].isel(evaluation=1))
        said.append(
            f"In {listed(first)} training was ended at the first evaluation, after {step:.0f} steps, "
            "since all later ones were worse on the held-out samples: these may be too few to tell, "
            "or the learning rate is too large."
        )
    if untrained:
        said.append(
            f"In {listed(untrained)} the network is the untrained one: there was no evaluation of a "
            "trained one whose numbers were finite."
        )
    return said


def _without_weights(record: xr.Dataset) -> list[str]:
    """Of which variants nothing was tried, since training ended before their weights acted."""
    found, size = without_weights(record), record["status"].isel(variant=0).size
    if not found or len(set(attribute(record, "study")["class_counts"])) == 1:
        return []
    runs = listed([f"{number} of {size} runs of {name}" for name, number in found.items()])
    return [
        f"In {runs} training ended before class weights began to act: these networks are what they "
        "would be without weights, and say nothing of them, here and in ablations."
    ]
