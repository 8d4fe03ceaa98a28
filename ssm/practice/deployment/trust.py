"""Models as bytes that run no code when they are read: only objects of known types come out of them.

A pickle is a program, which may do anything as soon as it is opened. skops writes a description of objects instead, and reads
only those whose types are trusted: here the types of scikit-learn, NumPy, SciPy and this package.
"""

from __future__ import annotations

import copy
import importlib
import inspect
from collections.abc import Collection, Sequence
from types import ModuleType

from sklearn import metrics
from sklearn.pipeline import Pipeline

from ssm.practice.data.classifiers import Classifier
from ssm.support import checks
from ssm.support.errors import InputError, invalid

OWN = (
    "ssm.practice.decisions.calibrators",
    "ssm.practice.decisions.costs",
    "ssm.practice.decisions.factors",
    "ssm.practice.decisions.reweighted",
    "ssm.practice.network.alarms",
    "ssm.practice.network.estimator",
    "ssm.practice.network.networks",
    "ssm.problem.losses",
    "ssm.problem.schedules",
)
"""The modules of this package whose classes a fitted model may be made of."""


def as_bytes(model: Classifier, trusted: Sequence[str]) -> bytes:
    """A fitted model as skops writes it.

    Raises:
        ssm.InputError: skops that is not installed; a model with a part that is of no trusted type, or that skops cannot write.
    """
    io = _skops()
    try:
        data = io.dumps(_without_history(model))
    except Exception as error:  # Skops raises errors of many kinds.
        what = f"one that skops can write ({type(error).__name__}: {error})"
        raise invalid("model", type(model).__name__, what) from None
    _refuse_strangers(io.get_untrusted_types(data=data), trusted, "model", type(model).__name__)
    return data


def of_bytes(data: bytes, trusted: Sequence[str], path: str) -> Classifier:
    """The model that bytes describe which `as_bytes` has made. `path` is that of their file, for messages.

    Raises:
        ssm.InputError: skops that is not installed; bytes of something else; parts that are of no trusted type.
    """
    io = _skops()
    try:
        found = io.get_untrusted_types(data=data)
    except Exception as error:  # Zip files, JSON and skops raise errors of many kinds.
        raise _unreadable(path, error) from None
    _refuse_strangers(found, trusted, "model", path)
    try:
        return io.loads(data, trusted=found)
    except Exception as error:
        raise _unreadable(path, error) from None


def check_trusted(trusted: object) -> list[str]:
    """Names of types that the user trusts, as `xgboost.sklearn.XGBClassifier`; raises ssm.InputError for others."""
    allowed = "names of types, each with its module, as 'xgboost.sklearn.XGBClassifier'"
    names = checks.items("trusted", trusted, allowed)
    for name in names:
        if not isinstance(name, str) or "." not in name:
            raise invalid("trusted", name, allowed)
    return names


def check_skops() -> None:
    """Raise ssm.InputError where skops is not installed."""
    _skops()


def _skops() -> ModuleType:
    """The part of skops that reads and writes models; raises ssm.InputError where skops is not installed."""
    try:
        return importlib.import_module("skops.io")
    except ImportError:
        what = "installed: pip install 'small-scale-model[deploy]'"
        raise InputError(f"skops: must be {what}") from None


def _unreadable(path: str, error: Exception) -> InputError:
    return invalid("model", path, f"a readable model ({type(error).__name__}: {error})")


def _refuse_strangers(
    names: Collection[str], trusted: Sequence[str], field: str, value: str
) -> None:
    """Raise ssm.InputError, with the name of the field and its value, where a type is neither known nor trusted by the user."""
    strange = [name for name in names if name not in trusted and not _is_known(name)]
    if strange:
        allowed = (
            f"made of types of scikit-learn, NumPy and ssm, not of {', '.join(strange)}; name "
            "those that you trust in `trusted`"
        )
        raise invalid(field, value, allowed)


def _is_known(name: str) -> bool:
    """Whether a name is that of a class of scikit-learn or of this package's models, defined in the module of the name, or that of
    a metric, which searches keep. No other function is known, since functions can do anything."""
    if (
        name == "numpy.dtype"
    ):  # This is the type of arrays of objects; skops itself trusts those of numbers.
        return True
    module, _, attribute = name.rpartition(".")
    is_sklearn = module.startswith("sklearn.") and ".tests" not in module
    if not is_sklearn and module not in OWN:
        return False
    try:
        value = getattr(importlib.import_module(module), attribute)
    except Exception:  # There is no such module, or it cannot be imported.
        return False
    if getattr(value, "__module__", None) != module:
        return False
    is_metric = inspect.isfunction(value) and getattr(metrics, attribute, None) is value
    return isinstance(value, type) or is_metric


def _without_history(model: Classifier) -> Classifier:
    """The model without the record of its training, an xarray.Dataset that a `ssm.ReweightedClassifier` has and does not predict
    by. The model that was given keeps its own."""
    if isinstance(model, Pipeline):
        name, last = model.steps[-1]
        model = copy.copy(model)
        model.steps = [*model.steps[:-1], (name, _without_history(last))]
        return model
    if type(model).__module__ in OWN:
        model = copy.copy(model)
        vars(model).pop("history_", None)
        for name in vars(model).keys() & {"estimator", "estimator_"}:
            setattr(model, name, _without_history(getattr(model, name)))
    return model
