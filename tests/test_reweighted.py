"""The meta-estimator: right on populations of known posterior, blind to what it is judged on, and a good citizen of
scikit-learn."""

import pickle
import re
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn
from scipy import sparse, special
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import load_breast_cancer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    ShuffleSplit,
    StratifiedKFold,
    cross_val_predict,
    cross_val_score,
)
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import check_estimator

import ssm
from ssm import Reweighted
from ssm.practice.decisions.calibrators import Temperature
from ssm.practice.decisions.costs import CostMatrix, of_prices
from ssm.practice.decisions.factors import Tuned, class_factors
from ssm.practice.deployment import descriptions
from ssm.problem.schedules import Chain, LinearRamp, PrevalencePower, Ramp, Trend, UnitMean


def logistic(**changes) -> Any:
    """To the minimum, and without a penalty to speak of."""
    return LogisticRegression(**({"C": 1e9, "solver": "newton-cholesky", "tol": 1e-8} | changes))


def cloned(estimator) -> Any:
    """scikit-learn's clone, whose type is a union of all that can be cloned."""
    return clone(estimator)


# Populations of known posterior


class Population:
    """States of which each has a posterior of its own, so that any posterior is in a linear model's reach."""

    def __init__(self, k, seed=0):
        rng = np.random.default_rng(seed)
        prior = rng.dirichlet(np.ones(k))
        logits = rng.normal(size=(2 * k, k)) + np.log(np.maximum(prior, 0.02))
        self.posterior = special.softmax(logits, axis=1)
        self.occupied = rng.dirichlet(np.full(2 * k, 5.0))
        self.shares = self.occupied @ self.posterior
        self.states = np.eye(2 * k)
        self.other = rng.dirichlet(np.full(k, 3.0))
        self.costs = rng.uniform(1, 20, (k, k)) * (1 - np.eye(k))
        self.weights = rng.uniform(0.2, 5, k)

    def of_shares(self, shares):
        shifted = self.posterior * shares / self.shares
        return shifted / shifted.sum(1, keepdims=True)

    def data(self):
        """Each state and class once, with its frequency as sample weight."""
        m, k = self.posterior.shape
        frequency = 1000 * self.occupied[:, None] * self.posterior
        return np.repeat(self.states, k, 0), np.tile(np.arange(k), m), frequency.ravel()


@pytest.mark.parametrize("k", range(2, 11))
def test_every_correction_is_right_on_a_population(k):
    """To the penalty that is left, 1e-9 of the squared coefficients in a risk of 1000 samples."""
    population = Population(k, seed=k)
    X, y, counted = population.data()
    estimator = logistic(
        fit_intercept=False
    )  # which would have no minimum beside one column a state
    model = Reweighted(estimator, class_weight=population.weights).fit(X, y, counted)
    np.testing.assert_allclose(model.class_shares_, population.shares, rtol=1e-12)
    of_weights = population.shares * population.weights
    uniform, other = np.full(k, 1 / k), dict(enumerate(population.other.tolist()))
    for shares, pi in (
        ("none", of_weights / of_weights.sum()),
        ("training", population.shares),
        ("uniform", uniform),
        (other, population.other),
    ):
        expected = population.of_shares(pi)
        model.set_params(shares=shares)
        found = model.predict_proba(population.states)
        np.testing.assert_allclose(found, expected, atol=1e-6)
        np.testing.assert_allclose(np.exp(model.predict_log_proba(population.states)), found)
        # by costs, for these shares: those of training where probabilities are the estimator's own
        costs = population.of_shares(population.shares if shares == "none" else pi)
        decided = model.set_params(decision=population.costs).predict(population.states)
        np.testing.assert_array_equal(decided, (costs @ population.costs).argmin(1))
    for decision, pi in (
        ("trained", of_weights),
        ("uniform", uniform),
        (other, population.other),
    ):
        decided = model.set_params(decision=decision).predict(population.states)
        np.testing.assert_array_equal(decided, population.of_shares(pi).argmax(1))


class Gaussians:
    """Unit Gaussian classes around the corners of a simplex in k dimensions, whose posterior is softmax-linear."""

    def __init__(self, k, shares, seed, distance=2.0):
        self.k, self.shares, self.distance = k, np.asarray(shares) / np.sum(shares), distance
        self.rng = np.random.default_rng(seed)

    def draw(self, n, shares=None):
        y = self.rng.choice(self.k, n, p=self.shares if shares is None else shares)
        return self.distance * np.eye(self.k)[y] + self.rng.normal(size=(n, self.k)), y

    def posterior(self, X, shares=None):
        shares = self.shares if shares is None else shares
        return special.softmax(self.distance * X + np.log(shares), axis=1)


def powers(k):
    """Shares from 1 to 1 / 20, as of a long tail."""
    return 20.0 ** -np.linspace(0, 1, k)


@pytest.mark.slow
@pytest.mark.parametrize("calibration", [None, "temperature", "isotonic"])
@pytest.mark.parametrize("k", [2, 3, 5, 10])
def test_probabilities_from_samples_are_right_within_their_error(k, calibration):
    """Mean probabilities are the shares of fresh labels that are drawn under the shares asked for, and the distance
    to the true posterior is that of so many samples."""
    n, m = 20_000, 20_000
    world = Gaussians(k, powers(k), seed=k)
    model = Reweighted(
        LogisticRegression(C=1e3), class_weight="balanced", calibration=calibration, random_state=0
    ).fit(*world.draw(n))
    wanted = np.linspace(1, 2, k) / np.linspace(1, 2, k).sum()
    for shares, pi in (
        ("training", world.shares),
        ("uniform", np.full(k, 1 / k)),
        (dict(enumerate(wanted.tolist())), wanted),
    ):
        X, y = world.draw(m, pi)
        found, truth = model.set_params(shares=shares).predict_proba(X), world.posterior(X, pi)
        of_labels = np.sqrt((truth * (1 - truth)).mean(0) / m)
        # The shares of the training sample, and with them the odds of two classes, are off by this.
        noise = 1 / (n * world.shares)
        of_training = pi * (1 - pi) * np.sqrt(noise + noise.max())
        gap = np.abs(found.mean(0) - np.bincount(y, minlength=k) / m)
        assert (gap < 4.5 * np.hypot(of_labels, of_training)).all()
        # k coefficients and one offset a class; isotonic regression has the rate (1/n_c)^(1/3) instead
        rarest = n * world.shares.min()
        bound = (
            3 * rarest ** (-1 / 3) if calibration == "isotonic" else 3 * np.sqrt((k + 1) / rarest)
        )
        assert np.sqrt(((found - truth) ** 2).sum(1).mean()) < bound


@pytest.mark.parametrize(("name", "rest"), [("temperature", 0.02), ("isotonic", 0.08)])
def test_calibration_takes_overconfidence_back(name, rest):
    """Of a classifier whose log odds are twice too large: the temperature is 2 within its error of some
    1 / sqrt(n), and the distance to the posterior of isotonic regression is some n^(-1/3)."""

    class Twice(LogisticRegression):
        def predict_proba(self, X):
            p = super().predict_proba(X) ** 2
            return p / p.sum(1, keepdims=True)

    world = Gaussians(3, [0.6, 0.3, 0.1], seed=0)
    model = Reweighted(Twice(), calibration=name, shares="training", random_state=0)
    X, y = world.draw(20_000)
    model.fit(X, y)
    X, _ = world.draw(5000)
    gaps = model.predict_proba(X) - world.posterior(X)
    assert np.sqrt((gaps**2).sum(1).mean()) < rest
    if name == "temperature":
        assert isinstance(model.calibrator_, Temperature)
        assert model.calibrator_.temperature == pytest.approx(2, abs=0.05)


def test_weights_are_put_back_on_what_was_calibrated():
    """`none` and `training` differ by the weights alone, with a calibration or without."""
    X, y = Gaussians(3, [0.6, 0.3, 0.1], seed=0).draw(600)
    weights = np.array([1.0, 2.0, 7.0])
    for calibration in (None, "temperature", "isotonic"):
        model = Reweighted(
            LogisticRegression(), class_weight=weights, calibration=calibration, random_state=0
        ).fit(X, y)
        own, training = model.posterior(X, "none"), model.posterior(X, "training")
        expected = training * weights / (training * weights).sum(1, keepdims=True)
        np.testing.assert_allclose(own, expected, atol=1e-12)


# Unknown shares


@pytest.mark.slow
@pytest.mark.parametrize("k", [2, 3, 10])
def test_unknown_shares_are_within_their_interval(k):
    """In 90 to 99 of 100 draws, as 95 % has it with a probability of 0.98. The classifier has seen so many samples
    that its own error is small beside that of a batch of 600."""
    world = Gaussians(k, powers(k), seed=k)
    model = Reweighted(LogisticRegression(C=1e3), class_weight="balanced").fit(*world.draw(100_000))
    inside = np.zeros(k)
    for draw in range(100):
        actual = world.rng.dirichlet(np.full(k, 10.0))
        X, _ = world.draw(600, actual)
        found = model.estimate_shares(X, num_resamples=199, seed=draw)
        inside += (found.low <= actual) & (actual <= found.high)
    assert 90 <= inside.mean() <= 99
    assert 90 <= inside[0] <= 99


def test_shares_of_a_batch_become_those_of_the_probabilities():
    world = Gaussians(3, [0.8, 0.15, 0.05], seed=1)
    X, y = world.draw(3000)
    names = np.array(["a", "b", "c"])
    model = Reweighted(LogisticRegression(), class_weight="balanced").fit(X, names[y])
    actual = np.array([0.1, 0.3, 0.6])
    fresh, _ = world.draw(2000, actual)
    found = model.estimate_shares(fresh, num_resamples=49)
    assert found.classes.tolist() == ["a", "b", "c"]
    np.testing.assert_allclose(found.shares, actual, atol=0.04)  # 3 sqrt(p (1 - p) / m)
    model.set_params(shares=found.by_label, decision=found.by_label)
    # At the fixed point of EM the mean probability of a class is its share.
    np.testing.assert_allclose(model.predict_proba(fresh).mean(0), found.shares, atol=1e-6)
    best = world.posterior(fresh, actual).argmax(1)
    assert (names[best] == model.predict(fresh)).mean() > 0.97


# Costs


@pytest.mark.parametrize("k", [2, 3, pytest.param(10, marks=pytest.mark.slow)])
@pytest.mark.parametrize("calibration", [None, "temperature"])
def test_decisions_cost_what_the_best_ones_do(k, calibration):
    """Within 1 % of Bayes' decisions, by the true posterior, so that labels add no noise."""
    world = Gaussians(k, powers(k), seed=k)
    prices = np.random.default_rng(k).uniform(1, 10, (k, k)) * (1 - np.eye(k))
    model = Reweighted(
        LogisticRegression(C=1e3),
        class_weight="balanced",
        decision=CostMatrix(range(k), prices),
        calibration=calibration,
        random_state=0,
    ).fit(*world.draw(20_000))
    X, _ = world.draw(20_000)
    expected = world.posterior(X) @ prices
    own = expected[np.arange(len(X)), model.predict(X)].mean()
    assert expected.min(1).mean() <= own < 1.01 * expected.min(1).mean()


def test_weights_by_cost_decide_by_cost_where_there_are_two_classes():
    """Elkan 2001: a posterior of shares pi_c C_c is largest where the expected cost is least."""
    population = Population(2, seed=3)
    X, y, counted = population.data()
    matrix = of_prices({0: 1.0, 1: 12.0})
    weighted = Reweighted(logistic(), class_weight=matrix).fit(X, y, counted)
    assert weighted.class_weights_.tolist() == [1.0, 12.0]
    decided = Reweighted(logistic(), decision=matrix).fit(X, y, counted)
    np.testing.assert_array_equal(
        weighted.predict(population.states), decided.predict(population.states)
    )


# What is fitted on a sample is not asked about it


class Memory(ClassifierMixin, BaseEstimator):
    """Knows by heart the samples that it has seen, by the number in their first column, and of others nothing but how
    frequent the classes are. It writes down what it is asked."""

    asked: list[tuple[str, set[int], set[int]]] = []  # noqa: RUF012 (one list for all clones is what is wanted)

    def fit(self, X, y, sample_weight=None):
        self.classes_, labels = np.unique(y, return_inverse=True)
        weights = np.ones(len(y)) if sample_weight is None else sample_weight
        self.base_ = np.bincount(labels, weights) / weights.sum()
        self.known_ = dict(zip(X[:, 0].astype(int).tolist(), labels.tolist(), strict=True))
        return self

    def predict_proba(self, X, method="predict_proba"):
        numbers = X[:, 0].astype(int).tolist()
        self.asked.append((method, set(self.known_), set(numbers)))
        certain = 0.001 + 0.998 * np.eye(len(self.classes_))
        rows = [certain[self.known_[i]] if i in self.known_ else self.base_ for i in numbers]
        return np.array(rows) / np.sum(rows, 1, keepdims=True)

    def predict(self, X):
        return self.classes_[self.predict_proba(X, "predict").argmax(1)]


@pytest.mark.parametrize("calibration", ["temperature", "isotonic"])
@pytest.mark.parametrize("cv", [4, StratifiedKFold(3), "groups"])
def test_no_sample_is_predicted_by_what_was_fitted_on_it(calibration, cv):
    """Neither for weights nor for a calibrator; one that had been would take certainty for knowledge."""
    rng = np.random.default_rng(0)
    y = rng.permutation(np.repeat([0, 1], [180, 60]))
    X = np.stack([np.arange(240.0), rng.normal(size=240)], 1)
    Memory.asked.clear()
    schedule = Chain(Trend(strength=1.0, memory=0.5), UnitMean())
    folds = [(np.flatnonzero(X[:, 0] % 3 != r), np.flatnonzero(X[:, 0] % 3 == r)) for r in range(3)]
    model = Reweighted(
        Memory(),
        class_weight="balanced",
        schedule=schedule,
        rounds=2,
        calibration=calibration,
        shares="training",
        cv=folds if cv == "groups" else cv,
        random_state=0,
    ).fit(X, y)
    for method, times in (("predict", 2), ("predict_proba", 1)):
        asked = [
            number for name, _, numbers in Memory.asked for number in numbers if name == method
        ]
        assert sorted(asked) == sorted(times * list(range(240)))
    assert all(not known & numbers for _, known, numbers in Memory.asked)
    fresh = np.stack([np.arange(1000.0, 1100), np.zeros(100)], 1)
    # Of new samples it knows the shares, and says so.
    np.testing.assert_allclose(model.predict_proba(fresh), [[0.75, 0.25]] * 100, atol=0.02)


def test_groups_stay_together_by_metadata_routing():
    """Copies of a sample are held out together; a splitter is given its groups on request."""
    rng = np.random.default_rng(0)
    X = np.repeat(np.stack([np.arange(120.0), rng.normal(size=120)], 1), 2, 0)
    y, groups = np.repeat(rng.permutation(np.repeat([0, 1], 60)), 2), np.repeat(np.arange(120), 2)
    Memory.asked.clear()
    with sklearn.config_context(enable_metadata_routing=True):
        splitter = GroupKFold(4).set_split_request(groups=True)
        model = Reweighted(Memory(), class_weight="sqrt", calibration="isotonic", cv=splitter)
        model.fit(X, y, groups=groups, sample_weight=np.ones(240))
    assert len(Memory.asked) == 4
    assert all(not known & numbers for _, known, numbers in Memory.asked)


# Rounds


def test_rounds_follow_out_of_fold_recalls():
    """w_c ~ exp(strength (mean - recall_c)) of the recalls that scikit-learn's cross-validation has."""
    X, y = Gaussians(3, [0.7, 0.2, 0.1], seed=2, distance=1.5).draw(400)
    cv = StratifiedKFold(4)
    estimator = LogisticRegression()
    schedule = Trend(strength=2.0, memory=0.0)
    model = Reweighted(estimator, schedule=schedule, rounds=2, cv=cv).fit(X, y)
    weights = np.ones(3)
    for recalls, after in zip(model.round_recalls_, model.round_weights_, strict=True):
        params = {"sample_weight": weights[y]}
        predicted = cross_val_predict(estimator, X, y, cv=cv, params=params)
        expected = [np.mean(predicted[y == c] == c) for c in range(3)]
        np.testing.assert_allclose(recalls, expected, rtol=1e-14)
        weights = np.exp(2.0 * (recalls.mean() - recalls))
        np.testing.assert_allclose(after, weights, rtol=1e-12)
    np.testing.assert_array_equal(model.class_weights_, model.round_weights_[-1])
    assert (np.diff(model.class_weights_) > 0).all()  # rare classes are behind
    whole = cloned(estimator).fit(X, y, weights[y])
    np.testing.assert_allclose(model.estimator_.coef_, whole.coef_, rtol=1e-6)


def test_a_schedule_without_performance_fits_once():
    """Its weights are those of the last round, and begin with the class weights."""
    X, y = Gaussians(2, [0.9, 0.1], seed=2).draw(200)
    counts = np.bincount(y)
    ramp = Ramp(LinearRamp(0, 2), PrevalencePower(1.0))
    model = Reweighted(Memory(), class_weight=[1.0, 2.0], schedule=ramp, rounds=2)
    Memory.asked.clear()
    model.fit(X, y)
    assert Memory.asked == [] and np.isnan(model.round_recalls_).all()
    # half way at step 1: (w + w (n_min / n_c)) / 2
    np.testing.assert_allclose(model.class_weights_, [(1 + counts[1] / counts[0]) / 2, 2.0])
    assert model.set_params(schedule__inner__exponent=0.0).fit(X, y).class_weights_.tolist() == [
        1,
        2,
    ]


# scikit-learn's rules


@pytest.mark.parametrize(
    "model",
    [
        Reweighted(LogisticRegression()),
        pytest.param(
            Reweighted(
                LogisticRegression(),
                class_weight="balanced",
                shares="training",
                calibration="temperature",
                cv=2,
                random_state=0,
            ),
            marks=pytest.mark.slow,
        ),
        Reweighted(
            DecisionTreeClassifier(max_depth=3, random_state=0),
            class_weight="sqrt",
            shares="uniform",
            decision="uniform",
        ),
        Reweighted(make_pipeline(StandardScaler(), LogisticRegression()), shares="training"),
    ],
    ids=["plain", "calibrated", "tree", "pipeline"],
)
def test_check_estimator(model):
    """All checks, but that of arrays that are not NumPy's, which wants SciPy started another way; that of
    `class_weight` where `decision` sets weights and decisions apart; and that of sample weights where a step
    before the last of a pipeline does not get them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(model, on_skip=None, on_fail=None)
    assert len(results) > 50
    failed = {check["check_name"] for check in results if check["status"] != "passed"}
    allowed = {"check_array_api_input"}
    if model.decision == "uniform":
        allowed.add("check_class_weight_classifiers")
    if isinstance(model.estimator, Pipeline):
        allowed.add("check_sample_weight_equivalence_on_dense_data")
    assert failed <= allowed


def cancer():
    X, y = load_breast_cancer(return_X_y=True)
    return X, np.array(["malignant", "benign"])[y]


def test_weights_reach_the_last_step_of_pipelines_and_what_a_search_is_over():
    """As sample weights that are given by hand do; with metadata routing too, where no step has asked for them."""
    X, y = cancer()
    given = np.random.default_rng(0).uniform(0.5, 2, len(y))
    ratio = np.where(y == "malignant", 3.0, 1.0)
    own = LogisticRegression(C=0.1)
    scaled = StandardScaler().fit_transform(X)
    expected = cloned(own).fit(scaled, y, given * ratio).predict_proba(scaled)
    pipeline = make_pipeline(StandardScaler(), own)
    nested = Pipeline([("first", StandardScaler()), ("rest", make_pipeline(StandardScaler(), own))])
    search = GridSearchCV(pipeline, {"logisticregression__C": [0.1]}, cv=2)
    for estimator in (pipeline, nested, search):
        model = Reweighted(estimator, class_weight={"malignant": 3.0})
        found = model.fit(X, y, sample_weight=given).predict_proba(X)
        np.testing.assert_allclose(found, expected, atol=1e-8)
    for estimator in (pipeline, nested):
        with sklearn.config_context(enable_metadata_routing=True):
            model = Reweighted(estimator, class_weight={"malignant": 3.0})
            found = model.fit(X, y, sample_weight=given).predict_proba(X)
        np.testing.assert_allclose(found, expected, atol=1e-8)
    last: Any = pipeline[-1]
    assert last.get_metadata_routing().fit.requests == {"sample_weight": None}  # left as it was


def test_within_pipelines_and_searches():
    """Nested names, string labels, its own sample weights by routing, trees and tables."""
    X, y = cancer()
    model = Reweighted(DecisionTreeClassifier(max_depth=2, random_state=0), shares="training", cv=2)
    grid = {
        "reweighted__class_weight": ["balanced", None],
        "reweighted__estimator__max_depth": [2, 3],
        "reweighted__decision": ["uniform", of_prices({"malignant": 20, "benign": 1})],
    }
    search = GridSearchCV(make_pipeline(StandardScaler(), model), grid, cv=2)
    search.fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert len(search.cv_results_["mean_test_score"]) == 8
    assert set(search.predict(X)) == {"malignant", "benign"}
    assert cross_val_score(model, X, y, cv=2).min() > 0.8  # 0.63 for the more frequent class
    table = pd.DataFrame(X, columns=[f"feature {i}" for i in range(X.shape[1])])
    fitted = Reweighted(LogisticRegression(max_iter=5000), class_weight="balanced").fit(table, y)
    assert vars(fitted)["n_features_in_"] == 30
    assert vars(fitted)["feature_names_in_"][1] == "feature 1"
    assert fitted.classes_.tolist() == ["benign", "malignant"]
    with sklearn.config_context(enable_metadata_routing=True):
        routed = make_pipeline(
            StandardScaler().set_fit_request(sample_weight=False),
            Reweighted(LogisticRegression()).set_fit_request(sample_weight=True),
        )
        weights = np.where(y == "benign", 1.0, 4.0)
        routed.fit(X, y, sample_weight=weights)
    again = Reweighted(LogisticRegression(), class_weight={"malignant": 4.0})
    scaled = StandardScaler().fit_transform(X)
    np.testing.assert_allclose(
        routed.predict_proba(X), again.fit(scaled, y).predict_proba(scaled), atol=1e-12
    )


def test_clones_pickles_sparse_and_our_own():
    X, y = Gaussians(2, [0.8, 0.2], seed=0).draw(200)
    model = Reweighted(
        LogisticRegression(),
        class_weight=of_prices({0: 1, 1: 4}),
        schedule=UnitMean(),
        calibration="isotonic",
        random_state=0,
    )
    first, second = model.fit(X, y), cloned(model).fit(X, y)
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    read = pickle.loads(pickle.dumps(first))
    np.testing.assert_array_equal(read.predict_proba(X), first.predict_proba(X))
    thin = Reweighted(LogisticRegression(), class_weight="sqrt").fit(sparse.csr_array(X), y)
    dense = Reweighted(LogisticRegression(), class_weight="sqrt").fit(X, y)
    np.testing.assert_allclose(thin.predict_proba(sparse.csr_array(X)), dense.predict_proba(X))
    own = ssm.ReweightedClassifier(hidden_layer_sizes=(), learning_rate=0.05, num_steps=200)
    assert Reweighted(own, class_weight="balanced", shares="training").fit(X, y).score(X, y) > 0.8


@pytest.mark.parametrize("calibration", [None, "isotonic"])
def test_a_weight_of_0_is_no_sample_and_a_repeated_one_is_two(calibration):
    X, y = Gaussians(2, [0.7, 0.3], seed=0).draw(200)
    how_often = np.random.default_rng(0).integers(0, 3, 200)
    parity = np.arange(200) % 2
    folds = [(np.flatnonzero(parity != r), np.flatnonzero(parity == r)) for r in (0, 1)]
    parity = np.repeat(parity, how_often)
    of_repeated = [(np.flatnonzero(parity != r), np.flatnonzero(parity == r)) for r in (0, 1)]
    common: dict[str, Any] = {
        "class_weight": "balanced",
        "calibration": calibration,
        "shares": "training",
    }
    weighted = Reweighted(logistic(), cv=folds, **common).fit(X, y, how_often)
    repeated = Reweighted(logistic(), cv=of_repeated, **common)
    repeated.fit(np.repeat(X, how_often, 0), np.repeat(y, how_often))
    # rounding, and where Newton's method stops
    np.testing.assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), atol=1e-6)


def test_what_takes_no_weights_can_have_shares():
    """Without weights there is nothing to hand on."""
    X, y = Gaussians(2, [0.9, 0.1], seed=0).draw(400)
    model = Reweighted(KNeighborsClassifier(20), shares="uniform", decision="uniform").fit(X, y)
    own = KNeighborsClassifier(20).fit(X, y).predict_proba(X)
    shifted = own / model.class_shares_
    np.testing.assert_allclose(model.predict_proba(X), shifted / shifted.sum(1, keepdims=True))
    frozen = FrozenEstimator(LogisticRegression().fit(X, y))
    Reweighted(frozen, shares="training", calibration="temperature", random_state=0).fit(X, y)
    machine = Reweighted(LinearSVC(), class_weight="balanced").fit(X, y)
    assert not hasattr(machine, "predict_proba")
    np.testing.assert_array_equal(
        machine.predict(X), LinearSVC().fit(X, y, machine.class_weights_[y]).predict(X)
    )


# What is refused

WITHOUT = [(np.arange(10), np.arange(10, 60)), (np.arange(10, 60), np.arange(10))]
REFUSED: list[tuple[Any, str]] = [
    (Reweighted(None), r"^estimator=None: must be a classifier"),
    (
        Reweighted(KNeighborsClassifier(), class_weight="balanced"),
        r"^estimator=KNeighborsClassifier\(\): must be one whose fit takes sample_weight",
    ),
    (
        Reweighted(GridSearchCV(KNeighborsClassifier(), {}), class_weight="balanced"),
        r"^estimator=.*: must be one whose fit takes sample_weight",
    ),
    (
        Reweighted(FrozenEstimator(LogisticRegression()), class_weight="sqrt"),
        r"^estimator=.*: must be one whose fit takes sample_weight",
    ),
    (
        Reweighted(LinearSVC(), shares="training"),
        r"^estimator=LinearSVC\(\): must be one with predict_p",
    ),
    (
        Reweighted(LogisticRegression(class_weight="balanced")),
        r"^estimator, class_weight='balanced': must be left out of the estimator",
    ),
    (
        Reweighted(make_pipeline(StandardScaler(), LinearSVC(class_weight={1: 2}))),
        r"^estimator, class_weight=\{1: 2\}: must be left out",
    ),
    (
        Reweighted(GridSearchCV(LogisticRegression(class_weight="balanced"), {})),
        r"^estimator, estimator__class_weight='balanced': must be left out",
    ),
    (
        Reweighted(LogisticRegression(), class_weight={7: 2.0}),
        r"^class_weight=\{7: 2.0\}: must be wei",
    ),
    (
        Reweighted(LogisticRegression(), class_weight=[1, 2, 3]),
        r"^class_weight=\[1, 2, 3\]: must be N",
    ),
    (
        Reweighted(LogisticRegression(), schedule="drw"),  # pyright: ignore[reportArgumentType] # on purpose
        r"^schedule='drw': must be a transformation",
    ),
    (Reweighted(LogisticRegression(), rounds=0), r"^rounds=0: must be an integer in \[1, 1000\]"),
    (
        Reweighted(LogisticRegression(), shares="known"),
        r"^shares='known': must be none or training or",
    ),
    (
        Reweighted(LogisticRegression(), shares={0: 0.5, 1: 0.6}),
        r"^shares=\{0: 0.5, 1: 0.6\}: must be .* that sum to 1$",
    ),
    (
        Reweighted(LogisticRegression(), shares={0: 0.5, 2: 0.5}),
        r"^shares=.*: must be .* of all of \[0, 1",
    ),
    (
        Reweighted(LogisticRegression(), decision="none"),
        r"^decision='none': must be trained or uniform",
    ),
    (
        Reweighted(LogisticRegression(), decision={0: 1.0, 1: 0.0}),
        r"^decision=.*: must be trained or",
    ),
    (Reweighted(LogisticRegression(), decision=np.ones((3, 3))), r"^costs=.*shape \(2, 2\)"),
    (Reweighted(LogisticRegression(), decision=None), r"^costs=None: must be finite numbers"),  # pyright: ignore[reportArgumentType] # on purpose
    (
        Reweighted(LogisticRegression(), decision=of_prices({"a": 1, "b": 2})),
        r"^class of a cost matrix='a': must be one of \['0', '1'\]",
    ),
    (
        Reweighted(LogisticRegression(), calibration="platt"),
        r"^calibration='platt': must be one of temp",
    ),
    (
        Reweighted(LogisticRegression(), calibration="isotonic", cv=50),
        r"^y='20 of class 1': must be at l",
    ),
    (
        Reweighted(
            LogisticRegression(), calibration="isotonic", cv=ShuffleSplit(3, random_state=0)
        ),
        r"^cv=ShuffleSplit.*: must be folds that hold out each sample exactly once",
    ),
    (
        Reweighted(
            LogisticRegression(), calibration="isotonic", cv=[(np.arange(60), np.arange(60))]
        ),
        r"^cv=.*: must be folds that predict no sample which they were fitted on",
    ),
    (
        Reweighted(LogisticRegression(), calibration="isotonic", cv=WITHOUT),
        r"^cv=.*: must be folds whose training parts have all classes",
    ),
    (
        Reweighted(LogisticRegression(), calibration="isotonic", cv="five"),  # pyright: ignore[reportArgumentType] # on purpose
        r"^cv='five': must be folds of",
    ),
]


@pytest.mark.parametrize(("model", "line"), REFUSED, ids=[str(i) for i in range(len(REFUSED))])
def test_bad_input_has_one_clear_line(model, line):
    X = np.random.default_rng(0).normal(size=(60, 2))
    y = np.repeat([0, 1], [40, 20])
    with pytest.raises(ssm.InputError, match=line) as error:
        model.fit(X, y)
    assert "\n" not in str(error.value)


def test_labels_of_one_class_and_bad_weights_are_refused():
    X, y = np.zeros((6, 2)), np.repeat([0, 1], 3)
    with pytest.raises(ssm.InputError, match=r"^y='1 class': must be labels of at least two"):
        Reweighted(LogisticRegression()).fit(X, np.zeros(6))
    with pytest.raises(ssm.InputError, match=r"^y='1 class'"):
        Reweighted(LogisticRegression()).fit(X, y, 1.0 - y)
    with pytest.raises(ValueError, match="Negative values"):
        Reweighted(LogisticRegression()).fit(X, y, -1.0 * y)
    with pytest.raises(
        ssm.InputError, match=r"^schedule__exponent=None: must be of a schedule that"
    ):
        Reweighted(LogisticRegression()).set_params(schedule__exponent=1)
    assert re.match(
        r"Reweighted\(estimator=LogisticRegression\(\)\)", repr(Reweighted(LogisticRegression()))
    )
    assert KFold(2).get_n_splits() == 2


def test_it_needs_no_jax():
    """Nor does anything that it is made of, until weights follow a schedule."""
    import subprocess
    import sys

    code = (
        "import sys, ssm, numpy as np; from sklearn.linear_model import LogisticRegression;"
        "X = np.arange(40.0)[:, None]; y = (np.arange(40) > 30).astype(int);"
        "m = ssm.Reweighted(LogisticRegression(), class_weight='balanced', shares='training',"
        "calibration='temperature', cv=2).fit(X, y); m.predict_proba(X); ssm.practice.costs;"
        "ssm.practice.conformal; ssm.practice.thresholds; ssm.practice.shares;"
        "assert 'jax' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# Decisions after factors that out-of-fold predictions choose


@pytest.mark.parametrize("kind", ["uniform", "shares", "costs"])
def test_tuned_decisions_are_bayes_rule_where_probabilities_are_right(kind):
    """Of a linear model of the population on all of its states: what tuning adds is noise of 6,000 samples. Decisions that it
    changes cost nearly the same, so that the mean cost is within 2 % of the exact rule's."""
    population = Population(3, 1)
    rng = np.random.default_rng(0)
    at = rng.choice(6, 6000, p=population.occupied)
    X, y = population.states[at], np.array([rng.choice(3, p=population.posterior[s]) for s in at])
    aims = {"uniform": "uniform", "shares": {0: 0.2, 1: 0.5, 2: 0.3}, "costs": population.costs}
    tuned = Reweighted(logistic(), decision=Tuned(aims[kind]), random_state=0).fit(X, y)
    wanted = {"uniform": np.ones(3) / 3, "shares": np.array([0.2, 0.5, 0.3])}
    matrix = population.costs
    if kind != "costs":
        matrix = (wanted[kind] / population.shares)[:, None] * (1 - np.eye(3))
    expected = population.occupied[:, None] * population.posterior @ matrix
    exact = expected.min(1).sum()
    decided = tuned.predict(population.states)
    assert expected[np.arange(len(expected)), decided].sum() <= 1.02 * exact
    again = ssm.Reweighted(logistic(), decision=Tuned(aims[kind]), random_state=0).fit(X, y)
    np.testing.assert_array_equal(again.class_factors_, tuned.class_factors_)


def test_tuning_sees_out_of_fold_predictions_alone():
    """The factors are those of `class_factors` on scikit-learn's own out-of-fold probabilities."""
    rng = np.random.default_rng(1)
    y = rng.permutation(np.repeat([0, 1, 2], [200, 60, 40]))  # a multiple of folds in each class
    X = rng.standard_normal((300, 3)) + np.eye(3)[y]
    cv = StratifiedKFold(4, shuffle=True, random_state=0)
    tuned = Reweighted(LogisticRegression(C=0.1), decision=Tuned(), cv=cv).fit(X, y)
    found: Any = cross_val_predict(LogisticRegression(C=0.1), X, y, cv=cv, method="predict_proba")
    # Training parts have the shares of all samples, so that no posterior is put to others.
    expected = class_factors(found, y)
    p = LogisticRegression(C=0.1).fit(X, y).predict_proba(X)
    np.testing.assert_allclose(np.asarray(tuned.class_factors_), expected, rtol=1e-9)
    decided = (p * expected / np.bincount(y)).argmax(1)
    np.testing.assert_array_equal(tuned.predict(X), decided)


def test_a_tuned_decision_is_of_the_fit_that_chose_its_factors():
    rng = np.random.default_rng(2)
    y = rng.choice(3, 120)
    X = rng.standard_normal((120, 3)) + 2 * np.eye(3)[y]
    model = Reweighted(logistic(), decision="uniform", random_state=0).fit(X, y)
    with pytest.raises(ssm.InputError, match=r"^decision=.*that of `fit`"):
        model.set_params(decision=Tuned()).predict(X)
    model.fit(X, y)
    decided = model.predict(X)
    rule = descriptions.rule_of(model)
    chosen, wanted = np.asarray(model.class_factors_), np.asarray(rule.shares)
    np.testing.assert_allclose(wanted, chosen / chosen.sum())
    with pytest.raises(ssm.InputError, match=r"^decision=.*that of `fit`"):
        model.set_params(decision=Tuned({0: 0.5, 1: 0.3, 2: 0.2})).predict(X)
    plain = Reweighted(logistic(), decision="uniform").fit(X, y)
    np.testing.assert_array_equal(model.set_params(decision="uniform").predict(X), plain.predict(X))
    loaded = pickle.loads(pickle.dumps(model.set_params(decision=Tuned())))
    np.testing.assert_array_equal(loaded.predict(X), decided)
    with pytest.raises(ssm.InputError, match=r"^decision=.*uniform"):
        Reweighted(logistic(), decision=Tuned("trained")).fit(X, y)
