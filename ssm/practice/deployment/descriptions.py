"""What can be read off a fitted classifier: its weights, the shares that its probabilities are for, and how it decides."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.calibration import CalibratedClassifierCV
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV
from sklearn.pipeline import Pipeline
from sklearn.utils.class_weight import compute_class_weight

from ssm.practice.data.classifiers import Classifier
from ssm.practice.decisions import calibrators, routing, shares
from ssm.practice.decisions.reweighted import Reweighted
from ssm.practice.deployment.origins import Data, Rule, Training
from ssm.results import digests
from ssm.support import versions

LIBRARIES = {"scikit-learn": "sklearn", "numpy": "numpy", "scipy": "scipy", "skops": "skops"}
"""The libraries that a model needs to be loaded: the names of their distributions, and those by which they are imported."""


def inner(model: Classifier) -> Classifier:
    """The classifier within a model that decides: the last step of a pipeline, and the best estimator of a search."""
    while True:
        if isinstance(model, Pipeline):
            model = model.steps[-1][1]
        elif hasattr(model, "best_estimator_"):
            model = model.best_estimator_
        else:
            return model


def data_of(X: Any, y: np.ndarray, classes: np.ndarray, name: str) -> Data:
    """What a model was trained on, from the rows and labels that `fit` was given."""
    num_rows, names = len(y), None
    shape = X.shape if hasattr(X, "shape") else _of_list(X).shape
    num_features = shape[1] if len(shape) == 2 else None
    if isinstance(X, pd.DataFrame):
        names = tuple(" ".join(str(column).split()) or "-" for column in X.columns)
    counts = [int((y == label).sum()) for label in classes]
    digest = digests.of_values(_arrays(X) | {"y": y})
    return Data(name, num_rows, tuple(counts), num_features, names, digest)


def _arrays(X: Any) -> dict[str, np.ndarray]:
    """Samples as arrays by name, of which a digest can be made."""
    if isinstance(X, pd.DataFrame):
        return {f"{i} {column}": _values(X.iloc[:, i]) for i, column in enumerate(X.columns)}
    if sparse.issparse(X):
        rows = X.tocsr()
        return {"data": rows.data, "indices": rows.indices, "indptr": rows.indptr}
    return {"X": np.asarray(X) if hasattr(X, "shape") else _of_list(X)}


def _of_list(X: Sequence[object]) -> np.ndarray:
    """A list of rows as an array; where the rows have different lengths, an array of each row as text."""
    try:
        return np.asarray(X)
    except ValueError:
        return np.array([repr(row) for row in X])


def _values(column: pd.Series) -> np.ndarray:
    return np.asarray(column.astype(object) if not _is_plain(column.dtype) else column)


def _is_plain(dtype: object) -> bool:
    """Whether a type of pandas' or NumPy's is one of NumPy's numbers or booleans."""
    return isinstance(dtype, np.dtype) and dtype.kind in "biuf"


def training_of(model: Classifier, y: np.ndarray, classes: np.ndarray) -> Training:
    """The class shares of the training samples, and the weights that they were trained with as far as the model shows them."""
    deciding = inner(model)
    if hasattr(deciding, "class_shares_"):
        weights = tuple(np.asarray(deciding.class_weights_, float).tolist())
        return Training(tuple(deciding.class_shares_.tolist()), weights)
    counts = np.array([(y == label).sum() for label in classes])
    return Training(tuple((counts / counts.sum()).tolist()), _own_weights(model, y, classes))


def _own_weights(model: Classifier, y: np.ndarray, classes: np.ndarray) -> tuple[float, ...] | None:
    """The class weights of an estimator's own parameter `class_weight`; ones where no parameter weighs classes, and None where
    another parameter does, whose weights cannot be known."""
    deciding = inner(model)
    if not hasattr(deciding, "get_params"):
        return None
    for name, value in deciding.get_params(deep=True).items():
        neutral = routing.OWN_WEIGHTS.get(name.split("__")[-1])
        if neutral is None or any(value is x for x in neutral):
            continue
        if not isinstance(value, Mapping | str) and any(value == x for x in neutral):
            continue
        can_be_told = name == "class_weight" and (value == "balanced" or isinstance(value, Mapping))
        if not can_be_told:
            return None
        return tuple(compute_class_weight(value, classes=classes, y=y).tolist())
    return (1.0,) * len(classes)


def shares_of_probabilities(model: Classifier, training: Training) -> tuple[float, ...] | None:
    """The class shares that `predict_proba` is for; None where they are not known, or there are no probabilities."""
    if not hasattr(model, "predict_proba"):
        return None
    deciding = inner(model)
    if not hasattr(deciding, "class_shares_"):
        return training.effective_shares
    named = getattr(deciding, "prior_correction", None) or deciding.shares
    if named == "none":
        # For a network they depend on its loss too, so that they are not known.
        return training.effective_shares if isinstance(deciding, Reweighted) else None
    if named == "training":
        return training.class_shares
    return tuple(shares.of_classes("shares", named, deciding.classes_).tolist())


def rule_of(model: Classifier) -> Rule:
    """How a model decides."""
    deciding = inner(model)
    if isinstance(deciding, FixedThresholdClassifier | TunedThresholdClassifierCV):
        return _threshold_of(deciding)
    decision = getattr(deciding, "decision", "trained")
    if not hasattr(
        deciding, "class_shares_"
    ) or (  # A tuned decision is not text, and never `trained`.
        isinstance(decision, str) and decision == "trained"
    ):
        return Rule()
    if isinstance(deciding, Reweighted):
        if (matrix := deciding._costs()) is not None:
            return Rule("costs", costs=tuple(map(tuple, matrix.tolist())))
        return Rule("shares", shares=tuple(deciding._wanted().tolist()))
    wanted = shares.of_classes("decision", decision, deciding.classes_)
    return Rule("shares", shares=tuple(wanted.tolist()))


def _threshold_of(model: FixedThresholdClassifier | TunedThresholdClassifierCV) -> Rule:
    """The rule of scikit-learn's classifiers with a threshold. Where the threshold is not one of a probability, a card cannot
    hold it, and the rule is that the model decides as it was trained to."""
    found = getattr(model, "best_threshold_", getattr(model, "threshold", None))
    method = getattr(model, "response_method", "auto")
    if method == "decision_function" or not hasattr(model, "predict_proba"):
        return Rule()
    positive = getattr(model, "pos_label", None)
    label = model.classes_[1] if positive is None else positive
    value = 0.5 if found == "auto" or found is None else float(found)
    return Rule(
        "threshold", label=label.item() if isinstance(label, np.generic) else label, threshold=value
    )


def calibration_of(model: Classifier) -> str | None:
    """How the probabilities of a model were calibrated, in words; None where the model shows no calibration."""
    deciding = inner(model)
    if isinstance(deciding, CalibratedClassifierCV):
        return f"{deciding.method}, by scikit-learn's CalibratedClassifierCV"
    found = getattr(deciding, "calibrator_", None)
    if isinstance(found, calibrators.Temperature):
        return f"temperature {found.temperature:.4g}, of out-of-fold predictions"
    if isinstance(found, calibrators.Isotonic):
        return "isotonic regression of out-of-fold predictions"
    if getattr(deciding, "temperature_scaling", False):
        return f"temperature {deciding.temperature_:.4g}, of held-out samples"
    return None


def versions_now() -> dict[str, str]:
    """The versions of Python, of this package and of the libraries that a model needs to be loaded."""
    libraries = {name: importlib.metadata.version(name) for name in LIBRARIES}
    return {"python": platform.python_version(), "ssm": versions.own()} | libraries
