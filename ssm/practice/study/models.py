"""The models that a study tries strategies on, by name or by import path, beside the project's own network."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from ssm.practice.data.classifiers import Classifier
from ssm.practice.decisions import routing
from ssm.practice.options import NETWORK, SMOTE
from ssm.support import errors

BALANCED_FOREST = "balanced_forest"
TREES = 100
# The most samples on which a tree of a forest is grown, which bounds its time and size.
MOST_OF_A_TREE = 20_000
# A round of boosting grows one tree for each class, so that with more classes fewer rounds are made.
ROUNDS, FEWEST_ROUNDS, TREES_OF_BOOSTING = 100, 30, 300
STEP = 0.1  # The learning rate of `ROUNDS` rounds; where there are fewer, each takes a longer step.
# Boosting ends early where there are more samples than the first of these, and at least the second of each class.
LARGE, FEWEST_TO_STOP = 10_000, 20
Counts = Int[np.ndarray, " k"]


class Model(NamedTuple):
    """A model other than the network."""

    title: str
    """The name of the model in a sentence."""
    description: str
    make: Callable[[Counts, int], Classifier]
    """Makes the classifier for classes of given sizes, with a given seed."""


def _logistic(counts: Counts, seed: int) -> LogisticRegression:
    return LogisticRegression(max_iter=1000)


def _boosting(counts: Counts, seed: int) -> HistGradientBoostingClassifier:
    early: Any = bool(counts.sum() > LARGE and counts.min() >= FEWEST_TO_STOP)
    rounds = min(max(TREES_OF_BOOSTING // len(counts), FEWEST_ROUNDS), ROUNDS)
    return HistGradientBoostingClassifier(
        max_iter=rounds,
        learning_rate=STEP * ROUNDS / rounds,
        early_stopping=early,
        random_state=seed,
    )


def _drawn(counts: Counts) -> int | None:
    """The number of samples that each tree of a forest is grown on; None for as many as there are."""
    return MOST_OF_A_TREE if counts.sum() > MOST_OF_A_TREE else None


def _forest(counts: Counts, seed: int) -> RandomForestClassifier:
    return RandomForestClassifier(TREES, max_samples=_drawn(counts), random_state=seed)


def _balanced_forest(counts: Counts, seed: int) -> Classifier:
    try:
        ensemble = importlib.import_module("imblearn.ensemble")
    except ImportError:
        allowed = "a model that is installed: this one needs the package imbalanced-learn"
        raise errors.invalid("models", BALANCED_FOREST, allowed) from None
    return ensemble.BalancedRandomForestClassifier(
        TREES, sampling_strategy="all", replacement=True, bootstrap=False, random_state=seed
    )


MODELS: dict[str, Model] = {
    "logistic": Model("logistic regression", "Logistic regression on scaled features", _logistic),
    "boosting": Model(
        "gradient-boosted trees",
        "Gradient-boosted trees on histograms, scikit-learn's",
        _boosting,
    ),
    "forest": Model("a random forest", f"A random forest of {TREES} trees", _forest),
    BALANCED_FOREST: Model(
        "a balanced random forest",
        f"A forest of {TREES} trees, each grown on as many samples of every class, drawn with replacement",
        _balanced_forest,
    ),
}


def description(name: str) -> str:
    """What a model is, in words."""
    if name == NETWORK:
        return "A small network, trained step by step"
    return MODELS[name].description if name in MODELS else f"{name}, with its defaults"


def title(name: str) -> str:
    """The name of a model in a sentence."""
    if name == NETWORK:
        return "a small neural network"
    return MODELS[name].title if name in MODELS else name


def check(names: Sequence[str]) -> None:
    """Refuse names that are not those of models.

    Raises:
        ssm.InputError: an unknown name, a name given twice, a model that is not installed, or an import path of anything but
            a classifier that takes sample weights.
    """
    if len(set(names)) < len(names):
        raise errors.invalid("models", ",".join(names), "each named once")
    for name in names:
        if name != NETWORK:
            make(name, np.array([2, 2]), 0)


def make(name: str, counts: Counts, seed: int) -> Classifier:
    """The classifier of this name, not yet fitted.

    Args:
        name: a key of `MODELS`, or an import path.
        counts: the class sizes of the samples that it will be fitted on, shape (k,).
        seed: the seed of what is random in it.

    Raises:
        ssm.InputError: names that `check` refuses.
    """
    if name in MODELS:
        return MODELS[name].make(counts, seed)
    if ":" not in name:
        others = ", or the import path package.module:Class of a classifier"
        raise errors.invalid("models", name, errors.one_of(name, (*MODELS, NETWORK), others))
    return _imported(name, seed)


def _imported(path: str, seed: int) -> Classifier:
    """An instance of the class at an import path, with its defaults."""
    module, _, attribute = path.partition(":")
    allowed = "package.module:Class, a class that can be imported and made without arguments"
    try:
        estimator = getattr(importlib.import_module(module), attribute)()
    except Exception as error:  # An import may run into anything.
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise errors.invalid("models", path, f"{allowed} ({reason})") from None
    needed = ("fit", "predict_proba", "get_params", "set_params")
    if not all(hasattr(estimator, name) for name in needed):
        allowed = "a classifier of scikit-learn's kind with predict_proba"
        raise errors.invalid("models", path, allowed)
    if routing.name_of_weights(estimator) is None:
        raise errors.invalid("models", path, "a classifier whose fit takes sample_weight")
    if "random_state" in estimator.get_params():
        estimator.set_params(random_state=seed)
    return estimator


def versions(names: Sequence[str], strategies: Sequence[str]) -> str:
    """The libraries, with their versions, from which models other than the network and their strategies come."""
    if set(names) <= {NETWORK}:
        return ""
    owners, distributions = {"scikit-learn"}, importlib.metadata.packages_distributions()
    tops = {name.partition(":")[0].partition(".")[0] for name in names if ":" in name}
    if BALANCED_FOREST in names or SMOTE in strategies:
        tops.add("imblearn")
    for top in tops:
        owners |= set(distributions.get(top, []))
    return " ".join(f"{owner}=={importlib.metadata.version(owner)}" for owner in sorted(owners))
