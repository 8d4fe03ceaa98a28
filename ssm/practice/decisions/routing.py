"""How sample weights reach the classifier that takes them: by which name, through pipelines and searches, and
under scikit-learn's metadata routing."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import Any

import sklearn
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import get_scorer, get_scorer_names
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import MetadataRequest
from sklearn.utils.validation import has_fit_parameter

from ssm.support.errors import invalid

OWN_WEIGHTS = {
    "class_weight": (None,),
    "scale_pos_weight": (None, 1),  # of XGBoost and LightGBM
    "is_unbalance": (None, False),  # of LightGBM
}
"""Parameters by which classifiers weigh classes themselves, and their values that do not."""


def is_enabled() -> bool:
    """Whether scikit-learn's metadata routing is."""
    return bool(sklearn.get_config()["enable_metadata_routing"])


def name_of_weights(estimator: Any) -> str | None:
    """The argument of `fit` by which an estimator takes sample weights: those of the last step of a pipeline,
    or of what a search is over; None where it takes none."""
    if isinstance(estimator, FrozenEstimator):
        return None  # what is frozen is not fitted, whatever it is given
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


def refuse_own_weights(estimator: Any) -> None:
    """Refuse an estimator that weighs classes itself. Both weights would act, and how much of its own there is
    depends on the estimator (`balanced_subsample` of forests is drawn), so that it cannot be taken back.

    Raises:
        ssm.InputError: the parameter by which it does.
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


def weights_for(estimator: Any, weights: Any) -> dict[str, Any]:
    """The arguments of `fit` that hand sample weights to an estimator, which is changed under metadata routing so
    that it asks for them; it should be a clone.

    Raises:
        ssm.InputError: an estimator that takes none.
    """
    name = name_of_weights(estimator)
    if name is None:
        allowed = "one whose fit takes sample_weight, where there are weights"
        raise invalid("estimator", estimator, allowed)
    if is_enabled():
        _request(estimator, True)
        name = "sample_weight"
    return {name: weights}


def _request(estimator: Any, wanted: bool) -> None:
    """Ask for sample weights, or decline them, where the user has not chosen, in all that they pass through."""
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


def _request_of_scores(search: Any, wanted: bool) -> None:
    """Ask for the same weights in the scores that a search goes by, where the user has not chosen: as scikit-learn does
    where metadata are not routed. Without a choice a search is refused, or worse has no score at all of a pipeline."""
    scoring = search.scoring
    if scoring is None and hasattr(search, "estimator"):  # the estimator's own
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


def _scorer(scoring: Any, wanted: bool) -> Any:
    """A scorer, named or given, that asks for weights where its metric takes them. Other functions are as they were."""
    if isinstance(scoring, str) and scoring not in get_scorer_names():
        return scoring  # which the search itself refuses, or knows what to do with
    scorer = copy.deepcopy(get_scorer(scoring))
    function = getattr(scorer, "_score_func", None)
    if function is not None:
        _choose_scores(scorer, wanted and "sample_weight" in inspect.signature(function).parameters)
    return scorer


def _choose_scores(scored: Any, wanted: bool) -> None:
    if not hasattr(scored, "set_score_request"):
        return
    routing = scored.get_metadata_routing()
    if _is_request(routing) and routing.score.requests.get("sample_weight") is None:
        scored.set_score_request(sample_weight=wanted)


def _is_request(routing: Any) -> bool:
    return isinstance(routing, MetadataRequest)
