"""One cell of a study: a variant that is trained and evaluated on one fold of one seed's split, and the
file in which the result is kept."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ssm.practice.data.datasets import Data
from ssm.practice.network import alarms
from ssm.practice.network.estimator import ReweightedClassifier
from ssm.practice.statistics import evaluation
from ssm.practice.study.strategies import Parameters, Variant
from ssm.support import files

CORRECTIONS = ("none", "training", "uniform", "temperature")
"""What is done to probabilities after training: nothing; a correction to the class shares of the training
samples, or to equal ones; or the former with a temperature."""
DIGITS = 64  # of the digest at the end of a cell's file, in the place of a ZIP file's comment

Arrays = dict[str, np.ndarray]
"""What is kept of a cell, by names: `compute` lists them."""


class Cell(NamedTuple):
    """A variant to be trained, and the fold it is trained on."""

    variant: Variant
    seed: int
    fold: int
    train: Int[np.ndarray, " n"]
    """Indices of the training samples; `test` has those of the test samples."""
    test: Int[np.ndarray, " m"]


class _NamingClassifier(ReweightedClassifier):
    """A classifier of numbered classes, whose logs call them by their names."""

    names: Sequence[str]

    def _class_names(self) -> Sequence[str]:
        return [self.names[int(c)] for c in self.classes_]


def compute(cell: Cell, data: Data, common: Parameters) -> Arrays:
    """Train and evaluate a cell.

    Args:
        cell: the variant and the fold.
        data: the data set.
        common: parameters that all variants share.

    Returns:
        The scores under each correction (`scores.*`, as `evaluation.evaluate` names them), the raw and
        the corrected logits of the test samples, the history of training (`history.*`), its alarms, and
        numbers of the run. Scaling, and imputation where features are missing, are fitted on the
        training part alone.
    """
    train = _fraction(cell, data.labels)
    steps = [SimpleImputer(strategy="median", keep_empty_features=True)] if data.has_missing else []
    prepare = make_pipeline(*steps, StandardScaler())
    X = prepare.fit_transform(data.features[train])
    classifier = _NamingClassifier(
        **(common | cell.variant.parameters),
        shares="training",
        temperature_scaling=True,
        random_state=1000 * cell.seed + cell.fold,
    )
    classifier.names = data.class_names
    classifier.fit(X, data.labels[train])
    logits = classifier.logits(prepare.transform(data.features[cell.test]))
    posterior = classifier.posterior(logits, "training")
    counts = np.bincount(data.labels[train], minlength=len(data.class_names))
    arrays = {
        "test": cell.test,
        "logits": logits,
        "corrected_logits": np.log(np.maximum(posterior, np.finfo(float).tiny)),
        "train_count": counts,
        "temperature": np.array(classifier.temperature_),
        "stop_step": np.array(classifier.n_steps_),
        "best_step": np.array(classifier.best_step_),
        "status": np.array(classifier.status_),
        "alarms": np.array([_alarm(*pair) for pair in classifier.alarms_]).reshape(-1, 7),
    }
    history = classifier.history_
    arrays |= {f"history.{name}": history[name].values for name in history.data_vars}
    return arrays | _scores(classifier, logits, data.labels[cell.test], counts)


def _scores(
    classifier: ReweightedClassifier,
    logits: Float[np.ndarray, "m k"],
    labels: Int[np.ndarray, " m"],
    counts: Int[np.ndarray, " k"],
) -> Arrays:
    """The scores of the test samples under each correction, and their accuracy under each shift."""
    scores_by_name: dict[str, list[float | list[float] | np.ndarray]] = {}
    shifts = [evaluation.shift_weights(labels, counts, shift) for shift in evaluation.SHIFTS]
    for correction in CORRECTIONS:
        prior, temperature = correction, 1.0
        if correction == "temperature":
            prior, temperature = "training", classifier.temperature_
        probabilities = classifier.posterior(logits, prior, temperature)
        shifted = [_accuracy(probabilities, labels, weights) for weights in shifts]
        scores = evaluation.evaluate(probabilities, labels)
        for name, value in [*scores.items(), ("shifted_accuracy", shifted)]:
            scores_by_name.setdefault(f"scores.{name}", []).append(value)
    return {name: np.array(values, float) for name, values in scores_by_name.items()}


def _accuracy(probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> float:
    return float(np.average(probabilities.argmax(1) == labels, weights=weights))


def _fraction(cell: Cell, labels: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """The training samples of a cell: the variant's fraction of each class, at least two samples of it."""
    if cell.variant.fraction == 1:
        return cell.train
    rng = np.random.default_rng((cell.seed, cell.fold))
    order = rng.permutation(cell.train)
    kept = []
    for c in np.unique(labels[order]):
        members = order[labels[order] == c]
        kept.append(members[: max(round(cell.variant.fraction * len(members)), 2)])
    return np.sort(np.concatenate(kept))


def _alarm(alarm: alarms.Alarm, action: str) -> list[str]:
    """An alarm as strings, in the order of `records.ALARM_COLUMNS`."""
    class_index = "" if alarm.class_index is None else str(alarm.class_index)
    numbers = [repr(float(alarm.value)), repr(float(alarm.threshold))]
    return [str(alarm.step), alarm.alarm, class_index, *numbers, action, alarm.reason]


class Kept(NamedTuple):
    """A cell that was read from its file."""

    arrays: Arrays
    sealed: bool
    """Whether its file has a digest, which says which cell it is; files of earlier versions have none."""


def write(arrays: Arrays, path: Path, identity: str) -> None:
    """Write a cell; its file appears whole or not at all. `identity` tells it from every other cell and
    is part of the digest at the end of the file."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type] # as if an array might be named allow_pickle
    contents = _with_comment(buffer.getvalue())
    with files.replacing(path) as scratch, scratch.open("wb") as file:
        file.write(contents + _digest(contents, identity))
        file.flush()
        os.fsync(file.fileno())


def read(path: Path, identity: str) -> Kept | None:
    """Read the cell of this identity; None where there is no file, it is damaged, or it is of another
    cell."""
    try:
        written = path.read_bytes()
        contents, digest = written[:-DIGITS], written[-DIGITS:]
        sealed = digest == _digest(contents, identity)
        if not sealed and not written.endswith(_NO_COMMENT):
            return None
        with np.load(io.BytesIO(written), allow_pickle=False) as stored:
            return Kept(dict(stored), sealed)
    except Exception:  # NumPy and zipfile raise many kinds of exceptions.
        return None


_NO_COMMENT = (0).to_bytes(2, "little")  # the length of the comment, with which a ZIP file ends


def _with_comment(contents: bytes) -> bytes:
    """A ZIP file that announces a comment of `DIGITS` bytes, which has yet to be appended."""
    assert contents.endswith(_NO_COMMENT)
    return contents[: -len(_NO_COMMENT)] + DIGITS.to_bytes(2, "little")


def _digest(contents: bytes, identity: str) -> bytes:
    return hashlib.sha256(identity.encode() + contents).hexdigest().encode()
