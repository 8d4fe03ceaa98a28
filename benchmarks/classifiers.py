"""`python -m benchmarks.classifiers DIR`: by what to stop early, and the classifier beside
scikit-learn's, on twelve imbalanced data sets of two classes (CSV files of the KEEL repository, which
are no part of this project)."""

from __future__ import annotations

import dataclasses
import itertools
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import tyro
from sklearn import metrics
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ssm import InputError
from ssm.cli.commands import parse
from ssm.practice.data import datasets
from ssm.practice.network.alarms import TrainingWarning
from ssm.practice.network.estimator import ReweightedClassifier
from ssm.practice.options import SCORES
from ssm.support import machine

HALVES = (
    ("haberman", "page-blocks0", "glass2", "yeast6", "flare-F", "poker-8_vs_6"),
    ("vehicle0", "ecoli4", "yeast4", "car-vgood", "winequality-red-4", "abalone19"),
)
"""Named before anything was run: a score to stop by is chosen on one half by the mean of AUC and
average precision under ERM and inverse-frequency weights, and judged on the other half."""
FOLDS = 5
WEIGHTS = {"ERM": None, "inverse": "balanced"}
MEASURES = ("balanced_accuracy", "auc", "average_precision", "log_loss", "seconds")


@dataclasses.dataclass
class Options:
    """Stop ERM and inverse-frequency weights by each score on twelve data sets, choose a score on six
    of them and judge it on the other six, and print the classifier beside scikit-learn's."""

    data_dir: tyro.conf.Positional[Path]
    """The folder that holds haberman.csv, page-blocks0.csv and the others."""
    seeds: int = 1
    """Repetitions of the five folds."""
    out: Path = Path("build/classifiers.csv")
    """The file to write: a row for each fit."""


class Fit(NamedTuple):
    """One classifier on one fold, and its scores there."""

    data: str
    model: str
    seed: int
    fold: int
    balanced_accuracy: float
    auc: float
    average_precision: float
    log_loss: float
    seconds: float
    best_step: int
    num_steps: int


def models(seed: int) -> dict[str, Callable[[], Any]]:
    """Every classifier by name; they differ in one thing each."""

    def ours(weights: Any, early_stopping: bool | str) -> Callable[[], Any]:
        return lambda: ReweightedClassifier(
            class_weight=weights, early_stopping=early_stopping, random_state=seed
        )

    named: dict[str, Callable[[], Any]] = {
        f"{name}, {score or 'to the end'}": ours(weights, score)
        for (name, weights), score in itertools.product(WEIGHTS.items(), (False, *SCORES))
    }
    return named | {
        "LogisticRegression(balanced)": lambda: LogisticRegression(
            class_weight="balanced", max_iter=1000
        ),
        "MLPClassifier": lambda: MLPClassifier((64,), random_state=seed, max_iter=1000),
        "HistGradientBoosting(balanced)": lambda: HistGradientBoostingClassifier(
            class_weight="balanced", random_state=seed
        ),
    }


def measured(
    data: datasets.Data, model: str, seed: int, fold: int, train: np.ndarray, test: np.ndarray
) -> Fit:
    """Fit one classifier, its features scaled by the training part, and score it on the test part."""
    pipeline = make_pipeline(StandardScaler(), models(seed)[model]())
    start = time.perf_counter()
    pipeline.fit(data.features[train], data.labels[train])
    seconds = time.perf_counter() - start
    X, y = data.features[test], data.labels[test]
    rare = int(data.counts.argmin())
    probabilities = pipeline.predict_proba(X)
    network = pipeline[-1]
    return Fit(
        data.name,
        model,
        seed,
        fold,
        float(metrics.balanced_accuracy_score(y, pipeline.predict(X))),
        float(metrics.roc_auc_score(y == rare, probabilities[:, rare])),
        float(metrics.average_precision_score(y == rare, probabilities[:, rare])),
        float(metrics.log_loss(y, probabilities, labels=[0, 1])),
        seconds,
        getattr(network, "best_step_", 0),
        getattr(network, "n_steps_", 0),
    )


def run(options: Options) -> pd.DataFrame:
    """All fits, a row each."""
    fits = []
    with ThreadPoolExecutor(machine.num_cores()) as pool:
        for name in itertools.chain(*HALVES):
            data = datasets.load(options.data_dir / f"{name}.csv")
            for seed in range(options.seeds):
                split = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
                parts = list(split.split(data.features, data.labels))
                for model in models(seed):
                    for fold, (train, test) in enumerate(parts):
                        fits.append(pool.submit(measured, data, model, seed, fold, train, test))
        table = pd.DataFrame([fit.result()._asdict() for fit in fits])
    options.out.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(options.out, index=False)
    return table


def report(table: pd.DataFrame) -> str:
    """Means over data sets of means over folds, the choice by halves, and how it is judged."""
    by_set: Any = table.groupby(["model", "data"])[list(MEASURES)].mean()
    lines = [by_set.groupby("model", sort=False).mean().round(4).to_string(), ""]
    merit: Any = by_set[["auc", "average_precision"]].mean(axis=1).unstack("data")

    def of(score: str, half: tuple[str, ...]) -> float:
        return float(
            merit.loc[[f"{name}, {score}" for name in WEIGHTS], list(half)].to_numpy().mean()
        )

    for chosen_on, judged_on in (HALVES, HALVES[::-1]):
        found = {score: of(score, chosen_on) for score in SCORES}
        best = max(found, key=lambda score: found[score])
        values = ", ".join(f"{score} {value:.4f}" for score, value in found.items())
        lines += [
            f"on {', '.join(chosen_on)}: {values}; to the end {of('to the end', chosen_on):.4f}",
            f"  chosen: {best}; on the other half {of(best, judged_on):.4f}, to the end "
            f"{of('to the end', judged_on):.4f}, "
            + ", ".join(f"{score} {of(score, judged_on):.4f}" for score in SCORES),
        ]
    return "\n".join(lines)


def main() -> None:
    """Run it; exit code 2 for bad input."""
    try:
        options = parse(
            Options, "python -m benchmarks.classifiers", Options.__doc__ or "", sys.argv[1:]
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TrainingWarning)
            table = run(options)
    except (InputError, OSError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    print(report(table))


if __name__ == "__main__":
    main()
