"""What is reweighting worth on real data, on the way and at the end?

Small studies (`ssm study`) of three data sets with a small network that is trained to the end (no early
stopping), and what held-out recall does on the way: evaluated after every step of the first 60, where early
can be told from late, then after every thirtieth. It takes three minutes: five folds, four seeds, five
strategies.

- `digits`: scikit-learn's ten digits, five of them cut to a tenth.
- `digit 8`: one of them against the rest, 174 images against 1623, nothing cut. Digits 3 and 5 were the
  trials by which this kind of data and the readings below were chosen; 8 was not looked at.
- `breast cancer`: cut to 10:1, which leaves 36 malignant samples, six held out in a fold.

Claimed before the run, from the model and from the literature on adjusted logits. Digits and breast cancer
had been studied with an evaluation every 30 steps, which came too late for most of what is early. Differences
are judged by the 95 % interval of repeated cross-validation:

- early in training weights lead: at the first step at which ERM's majorities have a recall of 0.9,
  minorities are ahead under inverse-frequency weights, and so is balanced accuracy, for majorities lose
  less than minorities gain;
- the lead shrinks as training goes on, and at the end the two have the same balanced accuracy within
  0.05 (weights leave no trace in the terminal phase: two one-sided tests, by the interval);
- what weights gain for minorities they hardly take from majorities at the end;
- stopping early pays where samples of minorities are few and classes overlap, for breast cancer, and not for
  digits: balanced accuracy under weights at the step that is best on the other seeds, less that at the end
  (the fall was seen of breast cancer in the earlier study, from 0.93 to 0.83);
- at the end a correction of the probabilities, ERM with post-hoc logit adjustment, does what inverse
  weights do for balanced accuracy, or is no more than 0.02 behind;
- and taking log w back from weighted logits no longer gives back calibration, at most 0.01 of its error:
  logits of a network that fits its samples do not hold it.

The last two were stated with margins of 0 at first, of means and then of intervals, by which differences
of next to nothing are undecided; the margins were chosen with the earlier study at hand.

Tables of one's own take the place of these data sets with `--tables`.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr

from experiments import practice_figures
from experiments.claims import Claim, Claims, Estimate
from experiments.readings import GROUPS, Report, counted, part
from ssm.config import profiles
from ssm.measures.metrics import group_mean
from ssm.practice.data import datasets
from ssm.practice.options import StudyOptions
from ssm.practice.statistics import comparisons
from ssm.practice.study import studies
from ssm.support.errors import invalid

STUDY = StudyOptions(
    "digits",
    "erm,inverse,sqrt,drw,la",
    folds=5,
    seeds=4,
    imbalance_ratio=10,
    num_steps=600,
    early_stopping="none",
    ablations=False,
    sensitivity=False,
)
BEGINNING = 60  # steps that are evaluated each
ONE = "8"  # the digit that is told from the rest
FALLS = ("breast cancer",)  # where stopping early is to pay
LEARNED = 0.9  # ERM's held-out majority recall when the lead is called early
MARGIN = 0.05  # of balanced accuracy within which two strategies are called equal
COST = 0.02  # of majority recall at the end, or of balanced accuracy on the way: next to nothing
CALIBRATION = 0.01  # of a calibration error: next to nothing
CUT = 5.0  # own tables whose classes differ in size by less are made imbalanced


class Curves(NamedTuple):
    """Held-out recall of each group over steps."""

    steps: np.ndarray
    """Ascending from 1."""
    recall: Mapping[str, xr.DataArray]
    """By strategy, (group, seed, fold, step)."""
    balanced: Mapping[str, xr.DataArray]
    """Mean recall over classes by strategy, (seed, fold, step)."""
    early: int
    """Index of the first step at which ERM's majority recall, the mean over folds, is `LEARNED`."""


class Studied(NamedTuple):
    """A data set, what training does on the way, and the strategies at the end."""

    course: Curves
    record: xr.Dataset


def run(out: Path, quick: bool, report: Report, tables: Path | None = None) -> list[Claim]:
    """Study each data set (a smoke run: digits alone, once, and two strategies), draw them, and
    claim what was expected. `tables`: a folder whose tables take their place, each with figures of its own."""
    found, results = Claims(), {}
    with tempfile.TemporaryDirectory() as folder:
        chosen = own_studies(tables) if tables else own_choice(Path(folder))
        if quick:
            first = next(iter(chosen))
            chosen = {first: dataclasses.replace(chosen[first], seeds=1, strategies="erm,inverse")}
        for i, (name, study) in enumerate(chosen.items()):
            own = part(report, i / len(chosen), (i + 1) / len(chosen))
            results[name] = studied(study, Path(folder) / name, own)
            found += claims(name, results[name])
    figures = {f"_{name}": {name: x} for name, x in results.items()} if tables else {"": results}
    for suffix, shown in figures.items():
        practice_figures.draw_course(out / f"practice{suffix}.png", shown)
        practice_figures.draw_end(out / f"practice_end{suffix}.png", shown)
    report(1.0)
    return found


def own_choice(folder: Path) -> dict[str, StudyOptions]:
    """The studies of this experiment; the data of one are written into a folder."""
    digits = datasets.load("digits")
    path = folder / "digit.npz"
    names = np.array(digits.class_names)[digits.labels]
    np.savez(path, features=digits.features, labels=np.where(names == ONE, ONE, "rest"))
    return {
        "digits": STUDY,
        f"digit {ONE}": dataclasses.replace(STUDY, data=str(path), imbalance_ratio=None),
        "breast cancer": dataclasses.replace(STUDY, data="breast_cancer"),
    }


def own_studies(folder: Path) -> dict[str, StudyOptions]:
    """A study of each table in a folder, as it is, but where its classes are about equal in size."""
    paths = sorted(path for path in folder.glob("*.csv*") if path.is_file())
    if not paths:
        raise invalid("tables", str(folder), "a folder of .csv or .csv.gz files")
    found = {}
    for path in paths:
        counts = datasets.load(path).counts
        ratio = STUDY.imbalance_ratio if counts.max() < CUT * counts.min() else None
        study = dataclasses.replace(STUDY, data=str(path), imbalance_ratio=ratio)
        found[path.name.split(".")[0]] = study
    return found


def studied(study: StudyOptions, folder: Path, report: Report) -> Studied:
    """The study, and before it one of its first steps alone: splits, networks and mini-batches are the
    same, so that its runs go on to those of the study."""
    beginning = dataclasses.replace(
        study, strategies="erm,inverse", num_steps=BEGINNING, evaluate_every=1
    )
    early, late = part(report, 0, 0.3), part(report, 0.3, 1)
    start = studies.run_study(beginning, folder / "beginning", counted(early))
    record = studies.run_study(study, folder / "whole", counted(late))
    return Studied(curves(start, record), record)


def groups(record: xr.Dataset) -> np.ndarray:
    """`majority` or `minority` for each class, by its samples."""
    counts = np.bincount(record["label"].values)
    return np.array(profiles.class_groups(counts.tolist()))


def curves(beginning: xr.Dataset, record: xr.Dataset) -> Curves:
    """Recall of held-out samples over steps, of every step at first."""
    mine, recall, balanced = groups(record), {}, {}
    steps = [x["history_step"].values[0, 0, 0] for x in (beginning, record)]
    kept = [np.flatnonzero(steps[0] > 0), np.flatnonzero(steps[1] > steps[0][-1])]
    joined = np.concatenate([own[at] for own, at in zip(steps, kept, strict=True)])
    for variant in map(str, beginning["variant"].values):
        classes = [
            x["history_class_recall"]
            .sel(variant=variant)
            .transpose("seed", "fold", "evaluation", ...)
            for x in (beginning, record)
        ]
        values = np.concatenate(
            [x.values[:, :, at] for x, at in zip(classes, kept, strict=True)], axis=2
        )
        dims = ("seed", "fold", "step")
        both = np.stack([group_mean(values, mine, group) for group in GROUPS])
        recall[variant] = xr.DataArray(both, {"group": GROUPS}, ("group", *dims))
        balanced[variant] = xr.DataArray(values.mean(-1), dims=dims)
    reached = recall["erm"].sel(group=profiles.MAJORITY).mean(("seed", "fold")).values >= LEARNED
    early = int(reached.argmax()) if reached.any() else len(joined) - 1
    return Curves(joined, recall, balanced, early)


def difference(metric: str, a: xr.DataArray, b: xr.DataArray) -> Estimate:
    """a less b over seeds and folds, with the interval of repeated cross-validation."""
    variants = xr.Variable("variant", ["b", "a"])
    pair = xr.concat([b, a], variants, coords="minimal", compat="override")
    found = comparisons.compare(pair.to_dataset(name=metric), "b", MARGIN)[0]
    return Estimate(found.difference, found.low, found.high)


def best_of_others(balanced: xr.DataArray) -> tuple[xr.DataArray, list[int]]:
    """Balanced accuracy (seed, fold) at the step that is best on the mean of all other seeds, so that no
    seed chooses its own step; and the indices of these steps."""
    mean = balanced.mean("fold")
    others = [mean.drop_isel(seed=[i]).mean("seed").values for i in range(mean.sizes["seed"])]
    steps = [int(values.argmax()) for values in others]
    return balanced.isel(step=xr.DataArray(steps, dims="seed")), steps


def claims(name: str, result: Studied) -> list[Claim]:
    """What was expected of one data set."""
    return [*_course_claims(name, result.course), *_end_claims(name, result.record)]


def _course_claims(name: str, course: Curves) -> list[Claim]:
    """What is early, and that it passes."""
    lead = course.recall["inverse"] - course.recall["erm"]
    lead, zero = lead.sel(group=profiles.MINORITY, drop=True), xr.zeros_like(lead[0, ..., 0])
    early, last = lead.isel(step=course.early), lead.isel(step=-1)
    at = f"step {course.steps[course.early]:.0f}"
    found = Claims(name)
    gained = difference("recall", early, zero)
    found.at_least("early lead of weights in minority recall", 0, gained, at)
    balanced = (
        x.isel(step=course.early) for x in (course.balanced["inverse"], course.balanced["erm"])
    )
    gained = difference("balanced_accuracy", *balanced)
    found.at_least("early lead of weights in balanced accuracy", 0, gained, at)
    shrinks, note = difference("recall", early, last), f"lead at the end {float(last.mean()):.3f}"
    found.at_least("early lead in minority recall less the lead at the end", 0, shrinks, note)
    own = course.balanced["inverse"]
    if own.sizes["seed"] > 1:
        best, steps = best_of_others(own)
        fall = difference("balanced_accuracy", best, own.isel(step=-1))
        listed = ", ".join(f"{course.steps[i]:.0f}" for i in steps)
        note = f"{float(best.mean()):.3f} at steps {listed}; {float(own.isel(step=-1).mean()):.3f}"
        statement = "held-out balanced accuracy of weights at the step that is best on other seeds, less that at the end"
        if name in FALLS:
            found.at_least(statement, 0, fall, note)
        else:
            found.at_most(statement, COST, fall, note)
    return found


def _end_claims(name: str, record: xr.Dataset) -> list[Claim]:
    """What is left at the end."""
    majorities = groups(record) == profiles.MAJORITY

    def score(metric: str, variant: str, correction: str = "none") -> xr.DataArray:
        found = record[metric].sel(variant=variant, correction=correction)
        return found.drop_vars(["variant", "correction"])

    def majority(variant: str) -> xr.DataArray:
        return score("recall", variant).isel({"class": majorities}).mean("class")

    balanced = "balanced_accuracy", score("balanced_accuracy", "inverse")
    found = Claims(name)
    statement = "balanced accuracy at the end, weights less ERM, equal within the margin"
    equal = difference(*balanced, score("balanced_accuracy", "erm"))
    found.between(statement, (-MARGIN, MARGIN), equal, 0)
    cost = difference("recall", majority("erm"), majority("inverse"))
    found.at_most("majority recall that weights cost at the end", COST, cost)
    statement = "balanced accuracy at the end, ERM corrected to equal shares less weights"
    corrected = score("balanced_accuracy", "erm", "uniform")
    found.at_least(statement, -COST, difference(balanced[0], corrected, balanced[1]))
    statement = "calibration error at the end, weights with log w taken back less without"
    errors = (score("calibration_error", "inverse", x) for x in ("training", "none"))
    found.at_least(statement, -CALIBRATION, difference("calibration_error", *errors))
    return found
