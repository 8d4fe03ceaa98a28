"""Sample weights and groups reach everything that they should by scikit-learn's metadata routing: searches of `Reweighted`,
searches in it, and cross-validation of both, each held against loops by hand."""

from typing import Any

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, get_scorer, make_scorer, roc_auc_score
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    StratifiedKFold,
    TunedThresholdClassifierCV,
    cross_val_predict,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ssm import Reweighted

N = 150
FOLDS: Any = StratifiedKFold(3)


def asking_for_groups() -> Any:
    folds: Any = GroupKFold(2)
    return folds.set_split_request(groups=True)


@pytest.fixture
def samples():
    """Two Gaussian classes at 4:1, weights, and groups of two; routing is on."""
    rng = np.random.default_rng(0)
    y = (np.arange(N) % 5 == 0).astype(int)
    X = rng.normal(size=(N, 2)) + y[:, None]
    with sklearn.config_context(enable_metadata_routing=True):
        yield X, y, rng.uniform(0.2, 5, N), rng.permutation(N) // 2


def asking(model):
    return model.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)


def scores_by_hand(model, grid, X, y, weights, folds, **fit):
    """The weighted accuracy of each candidate on each fold, and the candidate of the best mean, (c, f)."""
    found = []
    for C in grid:
        row = []
        for train, test in folds:
            of_fold = {name: x[train] for name, x in fit.items()}
            fitted = clone(model).set_params(estimator__C=C)
            fitted.fit(X[train], y[train], sample_weight=weights[train], **of_fold)
            row.append(
                accuracy_score(y[test], fitted.predict(X[test]), sample_weight=weights[test])
            )
        found.append(row)
    return np.array(found)


GRID = [0.001, 0.1, 10.0]


def test_a_search_of_reweighted_gets_and_counts_sample_weights(samples):
    X, y, weights, _ = samples
    model = asking(Reweighted(LogisticRegression(), class_weight="balanced"))
    search = GridSearchCV(model, {"estimator__C": GRID}, cv=FOLDS).fit(X, y, sample_weight=weights)
    expected = scores_by_hand(model, GRID, X, y, weights, list(FOLDS.split(X, y)))
    for i in range(3):
        np.testing.assert_allclose(search.cv_results_[f"split{i}_test_score"], expected[:, i])
    counts = np.bincount(y, weights)
    np.testing.assert_allclose(search.best_estimator_.class_weights_, counts.sum() / (2 * counts))


@pytest.mark.parametrize("is_grouped", [False, True])
def test_cross_validation_of_a_search_of_reweighted(samples, is_grouped):
    """All three levels by hand: outer folds, inner folds, and those of the calibration, which go by groups too."""
    X, y, weights, groups = samples
    given = {"groups": groups} if is_grouped else {}
    folds = asking_for_groups() if is_grouped else StratifiedKFold(2)
    model = asking(
        Reweighted(
            LogisticRegression(),
            class_weight="balanced",
            shares="training",
            decision="uniform",
            calibration="temperature",
            cv=folds,
        )
    )
    search = GridSearchCV(model, {"estimator__C": GRID[:2]}, cv=folds)
    params = {"sample_weight": weights, **given}
    found = cross_val_score(search, X, y, cv=folds, params=params)
    expected = []
    for train, test in folds.split(X, y, **given):
        own = {name: x[train] for name, x in given.items()}
        inner = list(folds.split(X[train], y[train], **own))
        table = scores_by_hand(model, GRID[:2], X[train], y[train], weights[train], inner, **own)
        best = clone(model).set_params(estimator__C=GRID[:2][table.mean(1).argmax()])
        best.fit(X[train], y[train], sample_weight=weights[train], **own)
        right = accuracy_score(y[test], best.predict(X[test]), sample_weight=weights[test])
        expected.append(right)
    np.testing.assert_allclose(found, expected)


def test_cross_validated_predictions_are_of_weighted_fits(samples):
    X, y, weights, _ = samples
    model = asking(Reweighted(LogisticRegression(), class_weight="balanced"))
    found: Any = cross_val_predict(
        model, X, y, cv=FOLDS, params={"sample_weight": weights}, method="predict_proba"
    )
    for train, test in FOLDS.split(X, y):
        fitted = clone(model).fit(X[train], y[train], sample_weight=weights[train])
        np.testing.assert_allclose(found[test], fitted.predict_proba(X[test]))


@pytest.mark.parametrize(
    "scoring", [None, "accuracy", "roc_auc", ["accuracy", "roc_auc"], {"a": "accuracy"}]
)
@pytest.mark.parametrize("is_pipeline", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_search_within_reweighted_goes_by_weighted_scores(samples, scoring, is_pipeline):
    """Though nobody has asked for weights in its scores: those of samples times those of classes, as in the fit."""
    X, y, weights, _ = samples
    last, name = LogisticRegression(), "C"
    if is_pipeline:
        last, name = make_pipeline(StandardScaler(), last), "logisticregression__C"
    refit: Any = (
        scoring[0] if isinstance(scoring, list) else "a" if isinstance(scoring, dict) else True
    )
    search = GridSearchCV(last, {name: GRID}, scoring=scoring, cv=FOLDS, refit=refit)
    model = Reweighted(search, class_weight={1: 3.0}).fit(X, y, sample_weight=weights)
    both = weights * np.where(y == 1, 3.0, 1.0)
    metric = roc_auc_score if scoring == "roc_auc" else accuracy_score
    suffix = "score" if refit is True else refit
    for i, (train, test) in enumerate(FOLDS.split(X, y)):
        for j, C in enumerate(GRID):
            X_train, X_test = X[train], X[test]
            if is_pipeline:
                scaler = StandardScaler().fit(X_train)
                X_train, X_test = scaler.transform(X_train), scaler.transform(X_test)
            fitted = LogisticRegression(C=C).fit(X_train, y[train], both[train])
            is_rank = metric is roc_auc_score
            said = fitted.decision_function(X_test) if is_rank else fitted.predict(X_test)
            expected = metric(y[test], said, sample_weight=both[test])
            found = model.estimator_.cv_results_[f"split{i}_test_{suffix}"][j]
            assert found == pytest.approx(expected, abs=1e-9)
    assert search.scoring == scoring  # left as it was
    if not is_pipeline:
        with sklearn.config_context(enable_metadata_routing=False):
            again: Any = clone(model)
            again.fit(X, y, sample_weight=weights)
        for key, values in again.estimator_.cv_results_.items():
            if key.endswith(f"test_{suffix}"):  # as without routing
                np.testing.assert_array_equal(values, model.estimator_.cv_results_[key])


def test_what_the_user_has_chosen_stays(samples):
    """A scorer that declines weights is not given any, nor one whose metric takes none, nor a function."""
    X, y, weights, _ = samples

    def plain(y_true, y_pred):
        return float((y_true == y_pred).mean())

    own = [
        get_scorer("accuracy").set_score_request(sample_weight=False),
        make_scorer(plain),
        lambda estimator, X, y: plain(y, estimator.predict(X)),
    ]
    found = []
    for scoring in own:
        search = GridSearchCV(LogisticRegression(), {"C": GRID}, scoring=scoring, cv=FOLDS)
        model = Reweighted(search, class_weight="balanced").fit(X, y, sample_weight=weights)
        found.append(model.estimator_.cv_results_["mean_test_score"])
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    declining = LogisticRegression().set_score_request(sample_weight=False)
    search = GridSearchCV(declining, {"C": GRID}, cv=FOLDS)
    model = Reweighted(search, class_weight="balanced").fit(X, y, sample_weight=weights)
    np.testing.assert_array_equal(model.estimator_.cv_results_["mean_test_score"], found[0])


def test_a_threshold_that_is_tuned_within_reweighted_goes_by_weighted_scores(samples):
    X, y, weights, _ = samples
    tuned = TunedThresholdClassifierCV(LogisticRegression(), scoring="accuracy", cv=FOLDS)
    model = Reweighted(tuned, class_weight={1: 3.0}).fit(X, y, sample_weight=weights)
    both = weights * np.where(y == 1, 3.0, 1.0)
    scorer: Any = get_scorer("accuracy").set_score_request(sample_weight=True)
    by_hand = TunedThresholdClassifierCV(
        LogisticRegression().set_fit_request(sample_weight=True),
        scoring=scorer,
        cv=FOLDS,
    ).fit(X, y, sample_weight=both)
    assert model.estimator_.best_threshold_ == by_hand.best_threshold_
