"""How sample weights reach the classifier that takes them: by which name, through pipelines and searches, and
under scikit-learn's metadata routing."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import sklearn
from jaxtyping import Float
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import get_scorer, get_scorer_names
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import MetadataRequest
from sklearn.utils.validation import has_fit_parameter

from ssm.practice.data.classifiers import Classifier
from ssm.support.errors import invalid

Scoring = str | Callable[..., float]
"""A score of a fitted estimator: its name, or a function of the estimator, the samples and their labels."""
OWN_WEIGHTS = {
    "class_weight": (None,),
    "scale_pos_weight": (None, 1),  # of XGBoost and LightGBM
    "is_unbalance": (None, False),  # of LightGBM
}
"""Parameters by which classifiers weigh classes themselves, each with the values at which it weighs none."""


def is_enabled() -> bool:
    """Whether scikit-learn's metadata routing is switched on."""
    return bool(sklearn.get_config()["enable_metadata_routing"])


def name_of_weights(estimator: Classifier) -> str | None:
    """The argument of `fit` by which an estimator takes sample weights; None where it takes none. A pipeline takes them for its
    last step, and a search for the estimator whose parameters it searches."""
    if isinstance(estimator, FrozenEstimator):
        return None  # The `fit` of a frozen estimator does nothing.
    if isinstance(estimator, Pipeline):
        name, last = estimator.steps[-1]
        inner = name_of_weights(last)
        return None if inner is None else f"{name}__{inner}"
    if has_fit_parameter(estimator, "sample_weight"):
        return "sample_weight"
    given = inspect.signature(estimator.fit).parameters.values()
    passes_on = any(x.kind is inspect.Parameter.VAR_KEYWORD for x in given)
    if passes_on and hasattr(estimator, "estimator"):
        return name_of_weights(estimator.estimator)
    return None


def refuse_own_weights(estimator: Classifier) -> None:
    """Refuse an estimator that weighs classes itself. Its weights would act beside those of `ssm.Reweighted`, and they cannot be
    taken back from its probabilities, since they depend on the estimator (those of `balanced_subsample` differ from tree to tree).

    Raises:
        ssm.InputError: an estimator that does; the message names the parameter by which it does.
    """
    last = estimator
    while isinstance(last, Pipeline):
        last = last.steps[-1][1]
    if not hasattr(last, "get_params"):
        return
    for name, value in last.get_params(deep=True).items():
        neutral = OWN_WEIGHTS.get(name.split("__")[-1])
        if neutral is not None and not any(value is x or value == x for x in neutral):
            allowed = (
                "left out of the estimator, whose weights could not be taken back from its "
                "probabilities: give class weights to Reweighted"
            )
            raise invalid(f"estimator, {name}", value, allowed)


def weights_for(
    estimator: Classifier, weights: Float[np.ndarray, " n"]
) -> dict[str, Float[np.ndarray, " n"]]:
    """The arguments of `fit` that hand sample weights to an estimator. Under metadata routing the estimator is changed so that
    it asks for them, so it should be a clone.

    Raises:
        ssm.InputError: an estimator that takes no sample weights.
    """
    name = name_of_weights(estimator)
    if name is None:
        allowed = "one whose fit takes sample_weight, where there are weights"
        raise invalid("estimator", estimator, allowed)
    if is_enabled():
        _request(estimator, True)
        name = "sample_weight"
    return {name: weights}


def _request(estimator: Classifier, wanted: bool) -> None:
    """Let an estimator, and all those within it, ask for sample weights or decline them, where the user has not chosen."""
    if isinstance(estimator, Pipeline):
        for _, step in estimator.steps[:-1]:
            _request(step, False)
        _request(estimator.steps[-1][1], wanted)
        return
    if hasattr(estimator, "scoring"):
        _request_of_scores(estimator, wanted)
    if hasattr(estimator, "estimator"):
        _request(estimator.estimator, wanted)
    if not has_fit_parameter(estimator, "sample_weight"):
        return
    routing = estimator.get_metadata_routing()
    chosen = routing.fit.requests.get("sample_weight") if _is_request(routing) else None
    if chosen is None or wanted:
        estimator.set_fit_request(sample_weight=wanted)


def _request_of_scores(search: Classifier, wanted: bool) -> None:
    """Let the scores by which a search chooses ask for the same weights, where the user has not chosen. Without metadata routing
    scikit-learn hands weights to scores by itself; under it, without a choice, it refuses a search, or scores no candidate
    that is a pipeline."""
    scoring = search.scoring
    if scoring is None and hasattr(search, "estimator"):  # The estimator's own score is used.
        last = search.estimator
        while isinstance(last, Pipeline):
            last = last.steps[-1][1]
        _choose_scores(last, wanted and "sample_weight" in inspect.signature(last.score).parameters)
    elif isinstance(scoring, list | tuple | set):
        search.scoring = {name: _scorer(name, wanted) for name in scoring}
    elif isinstance(scoring, Mapping):
        search.scoring = {name: _scorer(each, wanted) for name, each in scoring.items()}
    elif scoring is not None:
        search.scoring = _scorer(scoring, wanted)


def _scorer(scoring: Scoring, wanted: bool) -> Scoring:
    """A scorer, named or given, that asks for weights where its metric takes them. A function that is not made of a metric is
    returned as it is."""
    if isinstance(scoring, str) and scoring not in get_scorer_names():
        return scoring  # The search itself refuses the name, or has a meaning for it.
    scorer = copy.deepcopy(get_scorer(scoring))
    function = getattr(scorer, "_score_func", None)
    if function is not None:
        _choose_scores(scorer, wanted and "sample_weight" in inspect.signature(function).parameters)
    return scorer


def _choose_scores(scored: Any, wanted: bool) -> None:
    """Let an estimator or a scorer ask for weights in its scores, or decline them, where the user has not chosen."""
    if not hasattr(scored, "set_score_request"):
        return
    routing = scored.get_metadata_routing()
    if _is_request(routing) and routing.score.requests.get("sample_weight") is None:
        scored.set_score_request(sample_weight=wanted)


def _is_request(routing: object) -> bool:
    """Whether a description of routing is that of one object alone, and not of others within it."""
    return isinstance(routing, MetadataRequest)
