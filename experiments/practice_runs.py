"""The runs of `practice`: studies of data sets, with every step of their beginning, and draws of breast
cancer in which what is cut away is held out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from experiments import stepping
from experiments.readings import GROUPS, Report, counted, each, part
from ssm import ReweightedClassifier
from ssm.config import profiles
from ssm.measures.metrics import group_mean
from ssm.practice.data import datasets
from ssm.practice.network import networks
from ssm.practice.options import StudyOptions
from ssm.practice.study import studies
from ssm.support.errors import invalid

STUDY = StudyOptions(
    "digits",
    "erm,inverse,sqrt,drw,la",
    folds=5,
    seeds=4,
    models="network",
    imbalance_ratio=10,
    num_steps=600,
    early_stopping="none",
    ablations=False,
    sensitivity=False,
)
BEGINNING = 60  # steps that are evaluated each
ONE = "8"  # the digit that is told from the rest
LEARNED = 0.9  # ERM's held-out majority recall when the lead is called early
CUT = 5.0  # own tables whose classes differ in size by less are made imbalanced
DRAWS = 50
BENIGN, MALIGNANT = 280, 28  # samples of breast cancer that a draw trains on
WEIGHTS = {"erm": None, "inverse": "balanced"}


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
    mine, recalls = groups(record), {}
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
        recalls[variant] = values
    return of_recalls(joined, recalls, mine)


def of_recalls(steps: np.ndarray, recalls: Mapping[str, np.ndarray], mine: np.ndarray) -> Curves:
    """Curves of the recall of each class by strategy, (seed, fold, step, class), whose groups are given."""
    dims = ("seed", "fold", "step")
    recall = {
        variant: xr.DataArray(
            np.stack([group_mean(values, mine, group) for group in GROUPS]),
            {"group": GROUPS},
            ("group", *dims),
        )
        for variant, values in recalls.items()
    }
    balanced = {name: xr.DataArray(values.mean(-1), dims=dims) for name, values in recalls.items()}
    majority = recall["erm"].sel(group=profiles.MAJORITY).mean(("seed", "fold")).values
    return Curves(steps, recall, balanced, first(majority, LEARNED))


def first(values: np.ndarray, level: float) -> int:
    """Index of the first value that is at a level; the last one where none is."""
    reached = values >= level
    return int(reached.argmax()) if reached.any() else len(values) - 1


def breast_cancer_draws(draws: int, report: Report) -> Curves:
    """The network of the studies on breast cancer cut to 10:1, where all that is not trained on is held out: 184
    malignant samples and 77 benign ones. A draw is of the samples, the network and the mini-batches."""
    data = datasets.load("breast_cancer")
    steps = [*range(1, BEGINNING + 1), *range(BEGINNING + 30, 601, 30)]
    found: dict[str, list[np.ndarray]] = {name: [] for name in WEIGHTS}
    for seed in each(range(draws), report):
        order = np.random.default_rng(seed).permutation(len(data.labels))
        of_class = [order[data.labels[order] == c] for c in range(2)]  # malignant, benign
        sizes = (MALIGNANT, BENIGN)
        train = np.concatenate([own[:n] for own, n in zip(of_class, sizes, strict=True)])
        X = (data.features - data.features[train].mean(0)) / data.features[train].std(0)
        held_out = [X[own[n:]] for own, n in zip(of_class, sizes, strict=True)]
        for name, weight in WEIGHTS.items():
            classifier = ReweightedClassifier(class_weight=weight, evaluate_every=10)
            begun = stepping.prepared(classifier, X[train], data.labels[train], seed)
            recalls = [
                [float(np.mean(_predicted(params, own) == c)) for c, own in enumerate(held_out)]
                for params in stepping.networks_at(begun, steps)
            ]
            found[name].append(np.array(recalls))
    recalls = {name: np.stack(own)[:, None] for name, own in found.items()}
    mine = np.array(profiles.class_groups([MALIGNANT, BENIGN]))
    return of_recalls(np.array(steps), recalls, mine)


def _predicted(params: networks.Params, X: np.ndarray) -> np.ndarray:
    architecture = networks.Architecture(STUDY.hidden_layer_sizes)
    padded = networks.padded_features(X, len(X), architecture, np.float64)
    return np.asarray(_logits(params, jnp.asarray(padded), None)).argmax(1)


_logits: Callable[..., jax.Array] = jax.jit(networks.logits, static_argnums=2)
