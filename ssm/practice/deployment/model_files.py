"""Fitted classifiers in a folder: the model, its card, and a few rows by which a loaded one shows that it is the same.

A folder holds `model.skops`, which runs no code when it is read, `card.json` and the same for people in `card.md`, and
`probe.json`, the first rows of the training data with what the model predicts of them.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import is_classifier
from sklearn.exceptions import InconsistentVersionWarning, NotFittedError
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d

from ssm.practice.data.classifiers import Classifier, Rows
from ssm.practice.decisions.costs import CostMatrix
from ssm.practice.deployment import card_pages, descriptions, performance, probes, trust
from ssm.practice.deployment.alarm_limits import WINDOWS, alarm_limits
from ssm.practice.deployment.cards import CARD, Card, read_card, write_card
from ssm.support import files
from ssm.support.errors import invalid

MODEL, PROBE, PAGE = "model.skops", "probe.json", "card.md"
HeldOut = tuple[ArrayLike, ArrayLike] | tuple[ArrayLike, ArrayLike, ArrayLike]
"""True classes and decisions of held-out cases, each of shape (m,), and optionally their probabilities, shape (m, k)."""


class VersionWarning(UserWarning):
    """A model is loaded by other versions of libraries than those it was saved with."""


def save_model(
    model: Classifier,
    folder: str | Path,
    X: Rows,
    y: ArrayLike,
    *,
    data: str = "unnamed",
    held_out: HeldOut | None = None,
    costs: CostMatrix | None = None,
    level: float = 0.05,
    windows: Sequence[int] = WINDOWS,
    trusted: Sequence[str] = (),
    overwrite: bool = False,
) -> Card:
    """Write a fitted classifier and its card into a folder, whole or not at all.

    The record of the training of a `ssm.ReweightedClassifier`, `history_`, is left out. The folder holds the first ten
    rows of X. Saving needs `pip install skops`.

    Args:
        model: a fitted `ssm.Reweighted`, or any fitted classifier of scikit-learn, pipelines included.
        folder: the new folder, whose parent has to exist.
        X, y: the samples that the model was fitted on, which the card describes.
        data: what these samples are, in words.
        held_out: (y_true, y_decided) or (y_true, y_decided, probabilities) of cases that had no part in fitting or choosing
            anything, such as out-of-fold predictions. The card's performance and its limits for alarms are computed from them.
        costs: the costs from which the card's expected cost is computed; where they are left out, those that the model decides by.
        level: the highest probability of a false alarm of any class in one window, in (0, 1).
        windows: the numbers of labelled cases of a class for which the card says when to act.
        trusted: names of types beside those of scikit-learn, NumPy and this package that the model may be made of,
            as `xgboost.sklearn.XGBClassifier`. Whoever loads the model has to trust them as well.
        overwrite: whether the folder of another model may be replaced.

    Returns:
        The card.

    Raises:
        ssm.InputError: skops that is not installed; a model that is not fitted, or has parts of types that are not
            trusted; labels that the model does not have; a folder that exists, or, with `overwrite`, one that holds anything
            but a model.
    """
    trust.check_skops()
    trusted = trust.check_trusted(trusted)
    folder = Path(folder)
    _check_folder(folder, overwrite)
    classes, y = _labels(model, y)
    if probes.length(X) != len(y):
        raise invalid("y", f"{len(y)} labels", f"one for each of {probes.length(X)} samples")
    contents = {
        MODEL: trust.as_bytes(model, trusted),
        PROBE: (json.dumps(probes.probe_of(model, X)) + "\n").encode(),
    }
    rule, training = descriptions.rule_of(model), descriptions.training_of(model, y, classes)
    if costs is None and rule.costs is not None:
        costs = CostMatrix(classes, rule.costs)
    measured = None
    if held_out is not None:
        measured = performance.measured(classes, *_held_out(held_out), matrix=costs)
    card = Card(
        model=" ".join(repr(model).split()),
        classes=tuple(classes.tolist()),
        data=descriptions.data_of(X, y, classes, data),
        training=training,
        rule=rule,
        probabilities_for=descriptions.shares_of_probabilities(model, training),
        calibration=descriptions.calibration_of(model),
        costs=None if costs is None else tuple(map(tuple, costs.of(classes).tolist())),
        performance=measured,
        alarms=None if measured is None else alarm_limits(measured, level, windows),
        versions=descriptions.versions_now(),
        files={name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
    )
    with files.replacing(folder) as scratch:
        scratch.mkdir()
        for name, content in contents.items():
            (scratch / name).write_bytes(content)
        (scratch / PAGE).write_text(card_pages.as_markdown(card), encoding="utf-8")
        write_card(card, scratch / CARD)
    return card


def load_model(folder: str | Path, *, trusted: Sequence[str] = ()) -> Classifier:
    """The fitted classifier of a folder, which predicts the rows of its probe as it did when it was saved.

    Its card is read by `ssm.practice.cards.read_card`. The digests in the card show that nothing was damaged, not who made the
    model: a file of skops from a stranger runs no code, but the model may decide whatever the stranger wishes.

    Args:
        folder: a folder that `save_model` has written.
        trusted: names of types beside those of scikit-learn, NumPy and this package that the model may be made of.

    Raises:
        ssm.InputError: skops that is not installed; a folder that holds no model, lacks a file or has changed;
            parts of types that are not trusted; a model that predicts other things than it did when it was saved.

    Warns:
        VersionWarning: other versions of libraries than those it was saved with.
    """
    trust.check_skops()
    trusted = trust.check_trusted(trusted)
    folder = Path(folder)
    if not folder.is_dir():
        raise invalid("folder", str(folder), "the folder of a model")
    card = read_card(folder)
    contents = {name: _read(folder, name, card) for name in (MODEL, PROBE)}
    with warnings.catch_warnings():
        # All versions are compared below.
        warnings.simplefilter("ignore", InconsistentVersionWarning)
        model = trust.of_bytes(contents[MODEL], trusted, str(folder / MODEL))
    if np.asarray(getattr(model, "classes_", None)).tolist() != list(card.classes):
        what = f"one of the classes of its card, {list(card.classes)}"
        raise invalid("model", str(folder / MODEL), what)
    others = [
        f"{name} {card.versions[name]} (now {now})"
        for name, now in descriptions.versions_now().items()
        if card.versions.get(name, now) != now
    ]
    if others:
        saved = f"{folder} was saved with {', '.join(others)}"
        warnings.warn(saved, VersionWarning, stacklevel=2)
    try:
        probe = json.loads(contents[PROBE])
    except ValueError as error:
        raise invalid("probe", str(folder / PROBE), f"readable ({type(error).__name__})") from None
    probes.check(model, probe, str(folder))
    return model


def _check_folder(folder: Path, overwrite: bool) -> None:
    """Refuse a folder that cannot be written, or that holds anything else than a model."""
    files.check_output(folder, overwrite)
    if not folder.exists():
        return
    own = {MODEL, PROBE, PAGE, CARD}
    if not folder.is_dir() or CARD not in (names := {x.name for x in folder.iterdir()}):
        raise invalid("folder", str(folder), "the folder of a model, where it is overwritten")
    if strange := sorted(names - own):
        what = f"the folder of a model alone, where it is overwritten: it holds {strange[0]!r}"
        raise invalid("folder", str(folder), what)


def _labels(model: Classifier, y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The classes of a fitted classifier, shape (k,), and the labels as an array, shape (n,); raises ssm.InputError for a
    model that is not fitted and for labels that are not among its classes."""
    try:
        check_is_fitted(model)
    except (TypeError, NotFittedError):
        raise invalid("model", model, "a fitted classifier of scikit-learn's kind") from None
    classes = getattr(model, "classes_", None)
    if not is_classifier(model) or not isinstance(classes, np.ndarray) or classes.ndim != 1:
        raise invalid("model", model, "a fitted classifier of one label a sample")
    try:
        check_classification_targets(y)
        labels = column_or_1d(y)
    except ValueError as error:
        raise invalid("y", y, f"labels, shape (n,) ({error})") from None
    for label in np.unique(labels).tolist():
        if label not in classes.tolist():
            raise invalid("y", label, f"labels of the model, {classes.tolist()}")
    return classes, labels


def _held_out(value: HeldOut) -> HeldOut:
    """`value` if it is a tuple of two or three; raises ssm.InputError for anything else."""
    if not isinstance(value, tuple) or len(value) not in (2, 3):
        what = "(y_true, y_decided) or (y_true, y_decided, probabilities)"
        raise invalid("held_out", value, what)
    return value


def _read(folder: Path, name: str, card: Card) -> bytes:
    """The bytes of a file beside a card; raises ssm.InputError where they are not those that the card was made with."""
    try:
        content = (folder / name).read_bytes()
    except OSError as error:
        raise invalid("model", str(folder / name), f"readable ({type(error).__name__})") from None
    if card.files.get(name) != hashlib.sha256(content).hexdigest():
        what = "the file that its card was made with; it has changed"
        raise invalid("model", str(folder / name), what)
    return content
