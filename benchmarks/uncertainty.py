"""Are class weights by predictive uncertainty worth it? Beside no weights, inverse frequency, and weights by recall."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import BaggingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ssm import Reweighted
from ssm.practice.statistics.estimates import Estimate
from ssm.problem.schedules import Chain, PrevalencePower, Trend, Uncertainty, UnitMean
from ssm.support.files import replacing

HEAD = """# Class weights by predictive uncertainty

Written by `python -m benchmarks.uncertainty`: ensembles of {members} logistic regressions (bagging) or one alone, on digits (100 training samples of each of 0 to
4, 10 of each of 5 to 9) and breast cancer (280 benign, 28 malignant), the rest held out, {seeds} draws of the training samples. `uncertainty` is
`Chain(Uncertainty(g), UnitMean())` for two rounds of three folds, `inverse and uncertainty` the same after inverse frequency, `by recall` the schedule
`Trend(2, 0)` likewise. Decisions are the most probable class's, but for `none, for equal shares`. Differences are over draws, paired, with 95 % t
intervals; so many of them are looked at that a few are off by chance.

| data | model | weights | balanced accuracy | less none | less inverse | macro average precision, less none |
| --- | --- | --- | --- | --- | --- | --- |
"""
MEMBERS, SEEDS = 5, 20
DATA = {
    "digits": (load_digits, np.repeat([100, 10], 5)),
    "breast cancer": (load_breast_cancer, np.array([28, 280])),  # malignant, benign
}
SCHEDULES = {
    "none": None,
    "inverse": Chain(PrevalencePower(1.0), UnitMean()),
    "by recall": Chain(Trend(2.0, 0.0), UnitMean()),
    "uncertainty, g = 1": Chain(Uncertainty(1.0), UnitMean()),
    "uncertainty, g = 2": Chain(Uncertainty(2.0), UnitMean()),
    "inverse and uncertainty": Chain(PrevalencePower(1.0), Uncertainty(1.0), UnitMean()),
}


def scores(data: str, is_ensemble: bool, seed: int) -> dict[str, tuple[float, float]]:
    """Balanced accuracy and macro average precision of each weighting on one draw."""
    load, counts = DATA[data]
    X, y = load(return_X_y=True)
    rng, parts = np.random.default_rng(seed), [np.flatnonzero(y == c) for c in range(len(counts))]
    train = np.concatenate([rng.permutation(p)[:n] for p, n in zip(parts, counts, strict=True)])
    held_out = np.setdiff1d(np.arange(len(y)), train)
    one = LogisticRegression(max_iter=100)
    base = BaggingClassifier(one, MEMBERS, random_state=seed) if is_ensemble else one
    found = {}
    for name, schedule in SCHEDULES.items():
        rounds = 1 if schedule is None or name == "inverse" else 2
        model = Reweighted(base, schedule=schedule, rounds=rounds, cv=3, random_state=seed)
        fitted = make_pipeline(StandardScaler(), model).fit(X[train], y[train])
        p = fitted.predict_proba(X[held_out])
        truth = np.eye(len(counts))[y[held_out]]
        precision = float(average_precision_score(truth, p, average="macro"))
        right = balanced_accuracy_score(y[held_out], p.argmax(1))
        found[name] = (float(right), precision)
        if name == "none":
            moved = (p / counts).argmax(1)
            moved = float(balanced_accuracy_score(y[held_out], moved))
            found["none, for equal shares"] = (moved, precision)
    return found


def difference(values: np.ndarray, beside: np.ndarray) -> str:
    """The mean of paired differences, with its t interval."""
    d = values - beside
    if not d.any():
        return "0"
    found = Estimate.over_seeds(d)
    return f"{found.mean:+.3f} ({found.low:+.3f} to {found.high:+.3f})"


def table(seeds: int) -> str:
    """The rows in Markdown."""
    text = HEAD.format(members=MEMBERS, seeds=seeds)
    for data in DATA:
        for is_ensemble in (True, False):
            each = [scores(data, is_ensemble, seed) for seed in range(seeds)]
            of = {name: np.array([found[name] for found in each]).T for name in each[0]}
            none, inverse = of["none"], of["inverse"][0]
            for name, (right, precision) in of.items():
                cells = (data, "ensemble" if is_ensemble else "one", name, f"{right.mean():.3f}")
                cells += (difference(right, none[0]), difference(right, inverse))
                text += f"| {' | '.join(cells)} | {difference(precision, none[1])} |\n"
    return text


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.uncertainty", description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/uncertainty.md"))
    options = parser.parse_args()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        text = table(options.seeds)
    with replacing(options.out) as scratch:
        scratch.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
