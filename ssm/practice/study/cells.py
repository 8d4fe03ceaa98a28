"""One cell of a study: a variant that is trained and evaluated on one fold of one seed's split, and the
file in which the result is kept."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ssm.practice.data.datasets import Data
from ssm.practice.statistics import evaluation
from ssm.practice.study import currencies, fits
from ssm.practice.study.fits import CORRECTIONS, Arrays, Samples
from ssm.practice.study.rules import Currency
from ssm.practice.study.strategies import Parameters, Variant
from ssm.support import files

# The length of the digest at the end of a cell's file, where a ZIP file has its comment.
DIGITS = 64


class Cell(NamedTuple):
    """A variant to be trained, and the fold it is trained on."""

    variant: Variant
    seed: int
    fold: int
    train: Int[np.ndarray, " n"]
    """Indices of the training samples; `test` has those of the test samples."""
    test: Int[np.ndarray, " m"]


def compute(cell: Cell, data: Data, common: Parameters, currency: Currency | None = None) -> Arrays:
    """Train and evaluate a cell.

    Args:
        cell: the variant and the fold.
        data: the data set.
        common: parameters that all networks share.
        currency: what decisions are counted in; None does not count them.

    Returns:
        The scores under each correction (`scores.*`, as `evaluation.evaluate` names them), the raw and
        the corrected logits of the test samples, the temperature, and of a network the history of its training
        (`history.*`), its alarms and numbers of the run; and what decisions come to (`decided.*`, as
        `currencies.judged` names them). Scaling, and imputation where features are missing,
        are fitted on the training part alone.
    """
    train = _fraction(cell, data.labels)
    steps = [SimpleImputer(strategy="median", keep_empty_features=True)] if data.has_missing else []
    prepare = make_pipeline(*steps, StandardScaler())
    X = prepare.fit_transform(data.features[train])
    X_test = prepare.transform(data.features[cell.test])
    samples = Samples(X, data.labels[train], X_test, data.class_names)
    fitted = fits.fit(cell.variant, samples, common, 1000 * cell.seed + cell.fold)
    counts = np.bincount(data.labels[train], minlength=len(data.class_names))
    kept = {"test": cell.test, "train_count": counts} | fitted.arrays
    kept |= _scores(fitted.probabilities, data.labels[cell.test], counts)
    if currency is not None:
        kept |= currencies.judged(fitted, data.labels[cell.test], counts, currency)
    return kept


def _scores(
    probabilities: dict[str, Float[np.ndarray, "m k"]],
    labels: Int[np.ndarray, " m"],
    counts: Int[np.ndarray, " k"],
) -> Arrays:
    """The scores of the test samples under each correction, and their accuracy under each shift."""
    scores_by_name: dict[str, list[float | list[float] | np.ndarray]] = {}
    shifts = [evaluation.shift_weights(labels, counts, shift) for shift in evaluation.SHIFTS]
    for correction in CORRECTIONS:
        rows = probabilities[correction]
        shifted = [_accuracy(rows, labels, weights) for weights in shifts]
        scores = evaluation.evaluate(rows, labels)
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
