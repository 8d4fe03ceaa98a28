"""The classifier: scikit-learn's rules, what weights are, calibrated probabilities, and refusals."""

import logging
import pickle
import re
import warnings
from typing import Any

import jax
import numpy as np
import optax
import pytest
import small_networks
from scipy import special, stats
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator
from small_networks import COUNTS

import ssm
from ssm.practice.network import tasks
from ssm.practice.network.alarms import Thresholds, TrainingWarning
from ssm.practice.network.estimator import ReweightedClassifier
from ssm.practice.network.parameters import training_steps
from ssm.practice.options import SCORES
from ssm.problem.schedules import Chain, Fixed, LinearRamp, PrevalencePower, Ramp, Trend, UnitMean

ALL = 10**6  # as a batch: all samples
WARNINGS_EXPECTED = pytest.mark.filterwarnings("ignore::ssm.practice.alarms.TrainingWarning")


def gaussians(seed=0, counts=COUNTS, distance=1.5):
    return small_networks.gaussians(np.random.default_rng(seed), counts, distance)


def classifier(**changes):
    """One whose shapes all tests share, and with them what is compiled."""
    parameters = {
        "hidden_layer_sizes": (8,),
        "learning_rate": 0.02,
        "batch_size": 64,
        "num_steps": 60,
        "evaluate_every": 10,
        "random_state": 0,
    }
    return ReweightedClassifier(**(parameters | changes))


def assert_same_bits(a, b):
    for x, y in zip(jax.tree.leaves(a.params_), jax.tree.leaves(b.params_), strict=True):
        np.testing.assert_array_equal(x, y)


# scikit-learn's rules


@pytest.mark.slow
def test_check_estimator():
    """All checks but one, of arrays that are not NumPy's: it asks for SciPy to be started with
    SCIPY_ARRAY_API set, and this classifier takes NumPy's arrays only."""
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        results = check_estimator(
            ReweightedClassifier(num_steps=200, random_state=0), on_skip=None, on_fail="raise"
        )
    assert len(results) > 50
    skipped = {check["check_name"] for check in results if check["status"] != "passed"}
    assert skipped <= {"check_array_api_input"}


def test_searches_and_pipelines():
    """Over weights, losses and a number of a loss."""
    X, y = gaussians()
    names = np.array(["a", "b", "c"])[y]
    pipeline = make_pipeline(StandardScaler(), classifier(num_steps=20))
    grid = {
        "reweightedclassifier__class_weight": ["balanced", {"a": 1.0, "c": 3.0}],
        "reweightedclassifier__loss": ["cross_entropy", "ldam"],
        "reweightedclassifier__largest_margin": [0.5, 2.0],
    }
    search = GridSearchCV(pipeline, grid, cv=2, scoring="balanced_accuracy").fit(X, names)
    scores = search.cv_results_["mean_test_score"]
    assert len(scores) == 8
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) > 3  # they matter
    assert set(search.predict(X)) <= {"a", "b", "c"}
    accuracies = cross_val_score(search.best_estimator_, X, names, cv=3)
    assert accuracies.shape == (3,)
    assert accuracies.mean() > 0.4  # by chance a third


def cloned(estimator: ReweightedClassifier) -> Any:
    """scikit-learn's clone, whose type is a union of all that can be cloned."""
    return clone(estimator)


def test_clones_and_pickles():
    """Of parameters that are no plain values, too."""
    X, y = gaussians()
    schedule = Chain(PrevalencePower(0.5), Trend(1.0, 0.9), UnitMean())
    whole = classifier(schedule=schedule, alarm_thresholds=Thresholds(class_drop=0.3))
    whole.fit(X, y)
    again = cloned(whole).fit(X, y)
    assert_same_bits(whole, again)
    assert whole.history_.identical(again.history_)
    read = pickle.loads(pickle.dumps(whole))
    assert_same_bits(whole, read)
    np.testing.assert_array_equal(read.predict_proba(X), whole.predict_proba(X))
    assert_same_bits(whole, read.fit(X, y))
    common = {"batch_size": ALL, "learning_rate": optax.constant_schedule(0.125)}
    with_transformation = cloned(classifier(optimizer=optax.sgd(1.0), **common)).fit(X, y)
    assert_same_bits(with_transformation, classifier(optimizer="gd", **common).fit(X, y))


def test_a_seed_is_all_that_is_random():
    X, y = gaussians()
    first = classifier().fit(X, y)
    assert_same_bits(first, classifier().fit(X, y))
    state = [classifier(random_state=np.random.RandomState(3)).fit(X, y) for _ in range(2)]
    assert_same_bits(*state)
    assert (first.params_[0].kernel != state[0].params_[0].kernel).any()


def test_precision_is_its_own():
    """float64 whether or not JAX was told so."""
    X, y = gaussians()
    double = classifier().fit(X, y)
    assert {x.dtype.name for x in jax.tree.leaves(double.params_)} == {"float64"}
    with jax.enable_x64(False):
        assert_same_bits(double, classifier().fit(X, y))


def test_what_is_told(caplog):
    """Evaluations and alarms at level INFO, each on a logger of its own."""
    X, y = gaussians()
    rate = lambda step: 1e200 if step > 20 else 0.1  # noqa: E731 (short beside its use)
    with caplog.at_level(logging.INFO, logger="ssm"), pytest.warns(TrainingWarning):
        logged = classifier(num_steps=30, learning_rate=rate).fit(X, y)
    assert logged.status_ == "not finite"
    lines = [(record.name, record.levelname, record.getMessage()) for record in caplog.records]
    assert [line[:2] for line in lines] == [
        (f"ssm.{name}", "INFO") for name in ("training", "training", "alarms", "training")
    ]
    assert re.fullmatch(
        r"step 10 \(5 passes\): loss \S+, balanced accuracy 0\.\d{3}, worst class 2 0\.\d{3}",
        lines[0][2],
    )
    what = "not_finite: the loss or its gradient is no finite number; stopping"
    assert lines[2][2] == f"step 30: {what}"


# Weights


ONES = [
    {"class_weight": {0: 1.0, 1: 1, 2: 1.0}},
    {"class_weight": {}},
    {"class_weight": [1, 1, 1]},
    {"class_weight": np.ones(3)},
    {"class_weight": np.ones_like},
    {"schedule": Fixed(np.ones(3))},
    {"schedule": PrevalencePower(0.0)},
]


@pytest.mark.parametrize(("reduction", "size"), [("mean", 64), ("weighted_mean", ALL)])
def test_unit_weights_are_erm_to_the_bit(reduction, size):
    X, y = gaussians()
    common = {"reduction": reduction, "batch_size": size}
    erm = classifier(**common).fit(X, y)
    for ones in ONES:
        assert_same_bits(erm, classifier(**common, **ones).fit(X, y))
    for counted in (np.ones(100), np.ones(100, int), 1.0):
        assert_same_bits(erm, classifier(**common).fit(X, y, counted))


def test_one_reduction_is_the_other_for_unit_weights():
    X, y = gaussians()
    assert_same_bits(
        *(
            classifier(reduction=name, batch_size=ALL).fit(X, y)
            for name in ("mean", "weighted_mean")
        )
    )


def test_a_weighted_mean_that_halves_the_ratio_of_weights_warns(rng):
    """Weights of 1 and 100, of 190 and 10 samples, in batches of 8, whose law is that of `test_batch_law`."""
    X, y = rng.normal(size=(200, 8)), np.repeat([0, 1], [190, 10])
    settings = {"class_weight": {0: 1.0, 1: 100.0}}
    sentence = "class weights of ratio 100 act as "

    def told(**changes):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            classifier(**(settings | changes)).fit(X, y)
        return [str(w.message) for w in caught if sentence in str(w.message)]

    (line,) = told(reduction="weighted_mean", batch_size=8)
    law = ssm.weights.effective_ratio(100.0, 0.05, 8)
    assert line.startswith(f"{sentence}{law:.3g} in the weighted mean over batches of 8: ")
    assert told(reduction="mean", batch_size=8) == []
    assert told(reduction="weighted_mean", batch_size=200) == []


@pytest.mark.parametrize("reduction", ["mean", "weighted_mean"])
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"class_weight": "balanced"},
        {"loss": "vs"},
        {"schedule": Chain(PrevalencePower(1.0), UnitMean())},
    ],
    ids=["erm", "balanced", "vs", "schedule"],
)
def test_integer_weights_are_repeated_samples(rng, reduction, parameters):
    """In full batch; class sizes, and all that depends on them, count so too."""
    X, y = gaussians()
    how_often = rng.integers(0, 4, 100)
    common = {"reduction": reduction, "batch_size": ALL} | parameters
    weighted = classifier(**common).fit(X, y, how_often)
    repeated = classifier(**common).fit(np.repeat(X, how_often, 0), np.repeat(y, how_often))
    np.testing.assert_array_equal(weighted.class_counts_, repeated.class_counts_)
    # rounding of sums over samples in another order, through 60 steps
    np.testing.assert_allclose(weighted.logits(X), repeated.logits(X), rtol=0, atol=1e-10)


def test_integer_class_weights_are_repeated_samples():
    """Divided by their sum. Divided by the number of samples, the rate is another."""
    X, y = gaussians()
    weights = np.array([1, 2, 6])
    twice = (np.repeat(X, weights[y], 0), np.repeat(y, weights[y]))
    relative = {"batch_size": ALL, "reduction": "weighted_mean"}
    absolute = {"batch_size": ALL, "optimizer": "gd", "learning_rate": 0.1}
    lower = absolute | {"learning_rate": 0.1 * 100 / len(twice[1])}
    for common, changed in ((relative, relative), (absolute, lower)):
        weighted = classifier(**changed, class_weight=weights).fit(X, y)
        repeated = classifier(**common).fit(*twice)
        # rounding of sums over samples in another order, through 60 steps
        np.testing.assert_allclose(weighted.logits(X), repeated.logits(X), rtol=0, atol=1e-10)


def test_the_scale_of_weights_is_a_rate_or_nothing():
    X, y = gaussians()
    weights = np.array([0.5, 1.0, 3.0])
    relative = {"batch_size": ALL, "reduction": "weighted_mean"}
    absolute = {"batch_size": ALL, "optimizer": "gd", "learning_rate": 0.02}
    faster = absolute | {"learning_rate": 0.14}
    for common, changed in ((relative, relative), (absolute, faster)):
        plain = classifier(**changed, class_weight=weights).fit(X, y)
        scaled = classifier(**common, class_weight=7 * weights).fit(X, y)
        # rounding of products, through 60 steps
        np.testing.assert_allclose(plain.logits(X), scaled.logits(X), rtol=0, atol=1e-10)


def test_a_weight_of_0_is_no_sample():
    X, y = gaussians()
    kept = np.arange(100) % 3 > 0
    left_out = classifier(early_stopping=True).fit(X, y, kept.astype(float))
    assert_same_bits(left_out, classifier(early_stopping=True).fit(X[kept], y[kept]))


def test_named_weights_and_functions():
    X, y = gaussians()
    fitted = classifier(class_weight="balanced").fit(X, y)
    np.testing.assert_allclose(fitted.class_weights_, 100 / (3 * np.array(COUNTS)), rtol=1e-14)
    same = classifier(class_weight=lambda counts: counts.sum() / (3 * counts)).fit(X, y)
    np.testing.assert_allclose(same.logits(X), fitted.logits(X), atol=1e-12)
    part = classifier(class_weight={2: 5.0}).fit(X, y)
    assert part.class_weights_.tolist() == [1, 1, 5]


# Evaluations and alarms


@WARNINGS_EXPECTED
@pytest.mark.parametrize("name", [True, *SCORES])
def test_early_stopping_keeps_the_network_of_an_evaluation(name):
    """That of a run which ends there, and six evaluations without a better one are the last."""
    X, y = gaussians()
    common = {"learning_rate": 0.1, "early_stopping": name, "refit": False}
    stopped = classifier(num_steps=200, patience=50, **common).fit(X, y)
    history = stopped.history_
    recall = history["class_recall"].values
    scores = {
        "balanced_accuracy": recall.mean(1),
        "worst_class": recall.min(1),
        "balanced_log_loss": -history["balanced_log_loss"].values,
        "macro_average_precision": history["macro_average_precision"].values,
    }
    score = scores[SCORES[0] if name is True else name]
    loss = history["class_loss"].values.mean(1)
    # the first of equals by score and loss, and never the untrained network
    top = max(range(1, len(score)), key=lambda i: (score[i], -loss[i]))
    assert (stopped.status_, stopped.n_steps_) == ("stopped early", history["step"][top] + 50)
    assert history["step"][top] <= stopped.best_step_ <= stopped.n_steps_
    ended = classifier(num_steps=stopped.best_step_, **common).fit(X, y)
    assert_same_bits(stopped, ended)
    assert stopped.class_counts_.tolist() == [48, 24, 8]  # a fifth of each class is held out
    assert not stopped.refitted_


WEIGHED = {
    "erm": {},
    "balanced": {"class_weight": "balanced", "loss": "vs"},
    "deferred": {"schedule": Ramp(LinearRamp(15, 20), Chain(PrevalencePower(1.0), UnitMean()))},
}


@WARNINGS_EXPECTED
@pytest.mark.parametrize("name", WEIGHED)
def test_what_early_stopping_chose_is_trained_anew_on_all_samples(name):
    """A run without early stopping that ends at the same step."""
    X, y = gaussians()
    fitted = classifier(early_stopping=True, learning_rate=0.1, num_steps=200, **WEIGHED[name])
    fitted.fit(X, y)
    assert fitted.refitted_
    whole = classifier(learning_rate=0.1, num_steps=fitted.best_step_, **WEIGHED[name]).fit(X, y)
    assert fitted.class_counts_.tolist() == list(COUNTS)
    # weights that follow a schedule are those of the first run, whose classes are in the same ratios
    np.testing.assert_allclose(fitted.class_weights_, whole.class_weights_, rtol=1e-12)
    np.testing.assert_allclose(fitted.logits(X), whole.logits(X), rtol=0, atol=1e-9)


@WARNINGS_EXPECTED
def test_weights_that_follow_recalls_are_those_of_the_first_run():
    X, y = gaussians()
    schedule = Chain(Trend(strength=2.0, memory=0.9), UnitMean())
    fitted = classifier(early_stopping=True, schedule=schedule, num_steps=200).fit(X, y)
    assert fitted.refitted_
    kept = fitted.history_["step"].values.tolist().index(fitted.best_step_)
    np.testing.assert_array_equal(fitted.class_weights_, fitted.history_["class_weight"][kept])


def test_without_early_stopping_the_last_network_is_kept():
    X, y = gaussians()
    fitted = classifier().fit(X, y)
    assert (fitted.status_, fitted.n_steps_) == ("finished", 60)
    assert fitted.class_counts_.tolist() == list(COUNTS)
    recall = [(fitted.predict(X)[y == c] == c).mean() for c in range(3)]  # of the training samples
    np.testing.assert_allclose(fitted.history_["class_recall"][-1], recall, rtol=1e-15)


@WARNINGS_EXPECTED
def test_what_stops_a_run_is_not_kept():
    """A network that an alarm stopped, early stopping or not: the best evaluation's is."""
    X, y = gaussians()
    common = {"learning_rate": lambda step: 0.02 if step < 30 else 1000.0}
    fitted = classifier(alarm_action="stop", **common).fit(X, y)
    assert fitted.status_ == "stopped by an alarm"
    assert fitted.best_step_ <= 30 < fitted.n_steps_
    ended = classifier(num_steps=fitted.best_step_).fit(X, y)
    assert_same_bits(fitted, ended)
    back = classifier(alarm_action="roll_back", max_rollbacks=1, **common).fit(X, y)
    assert [action for _, action in back.alarms_] == ["roll_back", "stop"]
    assert_same_bits(back, ended)


def test_evaluations_so_far_apart_that_there_is_one():
    """They are no longer apart than training is."""
    fitted = classifier(num_steps=10, evaluate_every=10**6).fit(*gaussians())
    assert fitted.history_["step"].values.tolist() == [0, 10]


# Early stopping keeps a network that was trained


def rare(positives=40, number=1640, shift=0.7):
    """Two classes that nearly coincide, one of them rare."""
    rng = np.random.default_rng(5)
    X, y = rng.normal(size=(number, 8)), np.zeros(number, int)
    y[:positives] = 1
    X[:positives, 0] += shift
    return X, y


@WARNINGS_EXPECTED
@pytest.mark.parametrize("name", SCORES)
def test_an_untrained_network_is_not_kept(name):
    """Although its balanced accuracy, by chance, may be the best of all."""
    X, y = rare()
    fitted = classifier(early_stopping=name, num_steps=200).fit(X, y)
    assert fitted.best_step_ > 0
    assert fitted.score(X, y) > 0.95  # 0.976 for all in one class; the untrained one has 0.395


def test_an_untrained_network_is_kept_where_nothing_later_is_finite():
    X, y = gaussians()
    with pytest.warns(TrainingWarning) as caught_warnings:
        fitted = classifier(early_stopping=True, learning_rate=1e200).fit(X, y)
    assert (fitted.status_, fitted.best_step_) == ("not finite", 0)
    assert "the network kept is untrained" in str(caught_warnings[1].message)


def test_a_stop_at_the_first_evaluation_is_said():
    """Where labels are drawn by lot all that is learned after it is worse."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(400, 8)), rng.integers(0, 2, 400)
    with pytest.warns(TrainingWarning, match="first evaluation after the start"):
        fitted = classifier(
            early_stopping=True, learning_rate=0.1, num_steps=600, evaluate_every=50
        ).fit(X, y)
    assert (fitted.best_step_, fitted.refitted_) == (50, True)


@pytest.mark.parametrize("name", ["balanced_log_loss", "macro_average_precision"])
def test_scores_without_a_threshold(name):
    """Of held-out samples, whatever the weights: those of the balanced posterior, by hand."""
    X, y = gaussians(counts=(200, 100, 50))
    fitted = classifier(early_stopping=name, class_weight="balanced", loss="ldam", logit_scale=1.0)
    fitted.set_params(refit=False).fit(X, y)
    held = tasks.held_out(tasks.Samples(X, y, np.ones(350)), 0.2, fitted.classes_, seed_of(fitted))[
        1
    ]
    p = fitted.posterior(fitted.logits(held.X), "uniform")
    lost = [-np.log(p[held.labels == c, c]).mean() for c in range(3)]
    precision = [average_precision_score(held.labels == c, p[:, c]) for c in range(3)]
    best = fitted.history_.isel(
        evaluation=fitted.history_["step"].values.tolist().index(fitted.best_step_)
    )
    np.testing.assert_allclose(best["balanced_log_loss"], np.mean(lost), rtol=1e-6)
    np.testing.assert_allclose(best["macro_average_precision"], np.mean(precision), rtol=1e-12)


def seed_of(classifier):
    return int(np.random.RandomState(classifier.random_state).randint(2**31 - 1))


# How long, and what is said


def test_steps_come_from_the_data():
    """At least twenty passes, and a thousand steps."""
    assert training_steps(1000, 128) == 1000
    assert training_steps(100_000, 128) == 15_625
    X, y = gaussians()
    left_out = classifier(num_steps=None, evaluate_every=None, patience=None).fit(X, y)
    assert left_out.history_["step"].values.tolist() == list(range(0, 1001, 50))
    assert left_out.n_epochs_ == 500  # 100 samples are two mini-batches
    np.testing.assert_array_equal(left_out.history_["epoch"], left_out.history_["step"] / 2)


def test_few_passes_are_said():
    X, y = gaussians()
    with pytest.warns(TrainingWarning, match=r"num_steps asks for 1 passes over"):
        classifier(batch_size=10, num_steps=10).fit(X, y)
    classifier(batch_size=10, num_steps=20).fit(X, y)


def test_alarms_are_one_warning_and_nothing_on_the_screen(capfd):
    X, y = gaussians()
    rate = lambda step: 0.02 if step < 30 else 1000.0  # noqa: E731 (short beside its use)
    with pytest.warns(TrainingWarning) as caught_warnings:
        fitted = classifier(learning_rate=rate).fit(X, y)
    assert len(fitted.alarms_) > 1
    (warning,) = caught_warnings
    assert str(warning.message).startswith("alarm at step 40: ")
    assert f"(and {len(fitted.alarms_) - 1} more in alarms_)" in str(warning.message)
    assert capfd.readouterr() == ("", "")
    with pytest.warns(TrainingWarning):
        classifier(learning_rate=rate, verbose=True).fit(X, y)
    shown = capfd.readouterr()
    assert shown.err == ""
    assert len(re.findall(r"^step \d+ \(\d+ passes\): loss ", shown.out, re.MULTILINE)) == 6
    assert re.search(r"^step 40: gradient_jump", shown.out, re.MULTILINE)


# Probabilities


LINEAR = {
    "hidden_layer_sizes": (),
    "optimizer": "gd",
    "learning_rate": 2.0,
    "batch_size": ALL,
    "num_steps": 3000,
    "evaluate_every": 500,
}


@pytest.fixture(scope="module")
def population():
    """Two Gaussians a distance of 2 apart, 9 to 1, as a sum of 200 points with weights: features,
    labels, weights, and the shares of both."""
    x = np.linspace(-6, 6, 200)
    shares = np.array([0.9, 0.1])
    densities = stats.norm.pdf(x[:, None], [-1.0, 1.0])
    X, y = np.tile(x, 2)[:, None], np.repeat([0, 1], 200)
    return X, y, (400 * densities * shares / densities.sum(0)).T.ravel(), shares


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        pytest.param({"class_weight": "balanced"}, marks=pytest.mark.slow),
        pytest.param({"class_weight": [1.0, 30.0], "learning_rate": 0.5}, marks=pytest.mark.slow),
        {"schedule": Chain(PrevalencePower(0.5), UnitMean())},
        pytest.param({"loss": "logit_adjustment"}, marks=pytest.mark.slow),  # both are in VS
        pytest.param({"loss": "cdt"}, marks=pytest.mark.slow),
        {"loss": "vs", "class_weight": "sqrt"},
    ],
    ids=["erm", "balanced", "given", "schedule", "la", "cdt", "vs"],
)
def test_prior_corrections_are_exact(population, parameters):
    """A logistic posterior is in reach of a linear network, so all fits are calibrated in the end,
    for the training shares and, corrected so, for equal ones."""
    X, y, counted, shares = population
    fitted = classifier(**(LINEAR | parameters)).fit(X, y, counted)
    np.testing.assert_allclose(fitted.class_counts_, 400 * shares, rtol=1e-12)
    x = np.array([[-2.0], [0.1], [0.7], [3.0]])
    log_odds = 2 * x[:, 0]  # of two unit Gaussians at +-1
    logits = fitted.logits(x)
    for correction, prior in (("training", shares), ("uniform", [0.5, 0.5])):
        p = special.expit(log_odds + np.log(prior[1] / prior[0]))
        expected = np.stack([1 - p, p], 1)
        # gradient descent has come this near
        np.testing.assert_allclose(fitted.posterior(logits, correction), expected, atol=1e-6)
        chosen = fitted.set_params(shares=correction, decision={0: prior[0], 1: prior[1]})
        np.testing.assert_array_equal(chosen.predict_proba(x), fitted.posterior(logits, correction))
        assert chosen.predict(x).tolist() == (p > 0.5).astype(int).tolist()


def test_the_squared_loss_regresses_the_posterior(rng):
    """On three states, each with posteriors of its own, under weights too."""
    posterior = rng.dirichlet(np.ones(3), 3)
    occupied = np.array([0.5, 0.3, 0.2])
    X, y = np.repeat(np.eye(3), 3, 0), np.tile(np.arange(3), 3)
    counted = 100 * (occupied[:, None] * posterior).ravel()
    shares = occupied @ posterior
    common = LINEAR | {"loss": "squared", "learning_rate": 0.5}
    for weights in (None, "balanced"):
        fitted = classifier(**common, class_weight=weights).fit(X, y, counted)
        logits = fitted.logits(np.eye(3))
        np.testing.assert_allclose(fitted.posterior(logits, "training"), posterior, atol=1e-6)
        equal = posterior / shares
        expected = equal / equal.sum(1, keepdims=True)
        np.testing.assert_allclose(fitted.posterior(logits, "uniform"), expected, atol=1e-6)


def test_without_correction_weights_show(population):
    X, y, counted, _ = population
    fitted = classifier(**LINEAR, class_weight="balanced").fit(X, y, counted)
    # balanced weights: the posterior under equal shares
    p = fitted.predict_proba(np.array([[0.7]]))[0, 1]
    assert p == pytest.approx(special.expit(1.4), abs=1e-6)


def test_temperature_is_the_best_on_held_out_samples():
    X, y = gaussians(counts=(200, 100, 50), distance=1.0)
    common = {"num_steps": 200, "learning_rate": 0.05, "shares": "training"}
    fitted = classifier(temperature_scaling=True, class_weight="balanced", **common).fit(X, y)
    assert fitted.temperature_ > 1  # the network is too sure
    logits = fitted.logits(X)
    hot = fitted.posterior(logits, "training", fitted.temperature_)
    np.testing.assert_array_equal(fitted.predict_proba(X), hot)
    cold = np.log(fitted.posterior(logits, "training"))
    np.testing.assert_allclose(hot, special.softmax(cold / fitted.temperature_, axis=1), rtol=1e-12)
    fresh = gaussians(seed=1, counts=(200, 100, 50), distance=1.0)
    each = [
        -np.log(fitted.posterior(fitted.logits(fresh[0]), "training", T)[np.arange(350), fresh[1]])
        for T in (1.0, fitted.temperature_)
    ]
    assert each[1].mean() < each[0].mean()


def test_a_temperature_that_there_is_not(caplog):
    """Where all held-out samples are right the best is 0; that is said, and it stays 1."""
    with caplog.at_level(logging.INFO, logger="ssm"):
        fitted = classifier(temperature_scaling=True).fit(*gaussians(distance=20.0))
    assert fitted.temperature_ == 1
    assert "no temperature is best on the held-out samples" in caplog.text


# Images


def test_images(rng):
    """A convolutional network on the pixels of three digits."""
    X, y = load_digits(n_class=3, return_X_y=True)
    X, y = X[:400] / 16, y[:400]
    network = classifier(
        channels=(4,),
        hidden_layer_sizes=(),
        image_shape=(8, 8),
        dtype="float32",
        num_steps=100,
    ).fit(X[:300], y[:300])
    assert network.params_[0].kernel.shape == (3, 3, 1, 4)
    assert {x.dtype.name for x in jax.tree.leaves(network.params_)} == {"float32"}
    assert network.score(X[300:], y[300:]) > 0.9  # by chance a third
    kernel, bias = network.params_[-1]
    last = network.features(X) @ kernel + bias
    np.testing.assert_allclose(last, network.logits(X), rtol=1e-4, atol=1e-4)  # float32


# Refusals


@pytest.mark.parametrize(
    ("wrong", "allowed"),
    [
        (
            {"loss": "hinge"},
            "one of cross_entropy, squared, logit_adjustment, cdt, vs, ldam, focal",
        ),
        ({"focusing": -1.0}, "a finite number in [0, 100]"),
        ({"largest_margin": np.nan}, "a finite number in [0, 1e+06]"),
        ({"logit_scale": "large"}, "a finite number in (0, 1e+06]"),
        ({"label_smoothing": 1}, "a finite number in [0, 1)"),
        ({"loss": "squared", "focusing": 1.0}, "left out for the squared loss"),
        ({"class_weight": "heavy"}, "None, balanced, sqrt, effective, or positive finite weights"),
        ({"class_weight": [1.0, 2.0]}, "None, balanced, sqrt, effective, or positive finite"),
        ({"class_weight": {0: -1.0}}, "None, balanced, sqrt, effective, or positive finite"),
        ({"class_weight": {3: 1.0}}, "weights of labels in training, [0, 1, 2]"),
        ({"schedule": "late"}, "a transformation of ssm.schedules, or None"),
        ({"reduction": "sum"}, "one of mean, weighted_mean"),
        ({"hidden_layer_sizes": 8}, "positive integers"),
        ({"hidden_layer_sizes": (0,)}, "an integer in [1, 100000]"),
        ({"channels": (4,), "image_shape": None}, "(height, width) of images of 8 pixels, where"),
        ({"channels": (4,), "image_shape": (3, 3)}, "(height, width) of images of 8 pixels, where"),
        ({"channels": (4,), "image_shape": (2.5, 2)}, "an integer in [1, 8]"),
        ({"optimizer": "lbfgs"}, "one of gd, momentum, nesterov, adam"),
        ({"learning_rate": 0}, "a finite number in (0, inf)"),
        ({"momentum": 1}, "a finite number in [0, 1)"),
        ({"weight_decay": -1}, "a finite number in [0, inf)"),
        ({"batch_size": 0}, "an integer in [1, 1000000000]"),
        ({"num_steps": 2.5}, "an integer in [1, 1000000000]"),
        ({"evaluate_every": 0}, "an integer in [1, 1000000]"),
        ({"early_stopping": None}, "False, True or one of balanced_log_loss, macro_average"),
        ({"early_stopping": "loss"}, "False, True or one of balanced_log_loss, macro_average"),
        ({"validation_fraction": 1}, "a finite number in (0, 1)"),
        ({"patience": 0}, "an integer in [1, 1000000000]"),
        ({"alarm_thresholds": 0.1}, "ssm.practice.alarms.Thresholds, or None"),
        ({"alarm_action": "shout"}, "one of warn, stop, roll_back"),
        ({"max_rollbacks": -1}, "an integer in [0, 1000000]"),
        ({"prior_correction": "test"}, "none or training or uniform or a dict {class: share}"),
        ({"verbose": "loud"}, "True, False or an integer"),
        ({"temperature_scaling": 2.0}, "True or False"),
        ({"checkpoint_dir": 3}, "a path, or None"),
        ({"dtype": "float16"}, "one of float64, float32"),
    ],
    ids=lambda value: next(reversed(value)) if isinstance(value, dict) else "",
)
def test_parameters_that_cannot_be(wrong, allowed):
    """One line with the field, its value and what is allowed."""
    name, value = next(reversed(wrong.items()))
    with pytest.raises(ssm.InputError) as refused:
        classifier(**wrong).fit(*gaussians())
    message = str(refused.value)
    assert "\n" not in message
    shown = value[0] if "an integer" in allowed and isinstance(value, tuple) else value
    assert message.startswith(f"{name}={shown!r}: must be {allowed}")


def test_data_that_cannot_be():
    X, y = gaussians()
    for wrong in (np.nan, np.inf):
        bad = X.copy()
        bad[5, 2] = wrong
        with pytest.raises(ValueError, match=r"NaN|infinity"):
            classifier().fit(bad, y)
    with pytest.raises(
        ssm.InputError, match=r"^y='1 class': must be labels of at least two classes"
    ):
        classifier().fit(X, np.zeros(100))
    X, one = X[:91], np.where(y[:91] == 2, 7, y[:91])
    with pytest.raises(ssm.InputError, match=r"^y='one sample of class 7': must be at least two"):
        classifier(early_stopping=True).fit(X, one)
    assert classifier(num_steps=10).fit(X, one).classes_.tolist() == [0, 1, 7]
    with pytest.raises(ValueError, match=r"[Nn]egative"):
        classifier().fit(X, one, np.where(one == 7, -1.0, 1.0))


def test_schedules_show_and_take_their_numbers():
    X, y = gaussians()
    whole = classifier(schedule=Chain(PrevalencePower(0.5), UnitMean()), num_steps=20)
    assert whole.get_params()["schedule__prevalencepower__exponent"] == 0.5
    assert "PrevalencePower(exponent=0.5)" in repr(whole)
    before = whole.schedule
    changed = cloned(whole).set_params(schedule__prevalencepower__exponent=1.0)
    assert whole.schedule is before  # what it was cloned from is as it was
    same = classifier(schedule=Chain(PrevalencePower(1.0), UnitMean()), num_steps=20)
    assert_same_bits(changed.fit(X, y), same.fit(X, y))
    grid = {"schedule__exponent": [0.0, 0.5, 1.0]}
    search = GridSearchCV(classifier(schedule=PrevalencePower(0.5), num_steps=20), grid, cv=2)
    results = search.fit(X, y).cv_results_
    assert list(results["param_schedule__exponent"]) == [0.0, 0.5, 1.0]
    assert len(np.unique(results["mean_test_score"])) > 1
    with pytest.raises(ssm.InputError, match=r"^schedule__exponent=None: must be of a schedule"):
        classifier().set_params(schedule__exponent=1.0)


def test_weights_of_classes_that_a_fold_lacks():
    """As LogisticRegression has it: fine where all others have theirs, else a label is misspelt."""
    X, y = gaussians()
    two = y < 2
    weights = {0: 1, 1: 3, 2: 5}
    LogisticRegression(class_weight=weights).fit(X[two], y[two])
    fitted = classifier(class_weight=weights).fit(X[two], y[two])
    assert fitted.class_weights_.tolist() == [1, 3]
    with pytest.raises(ValueError, match="not in class_weight"):
        LogisticRegression(class_weight={0: 1, 2: 5}).fit(X[two], y[two])
    with pytest.raises(ssm.InputError, match=r"^class_weight=\{0: 1, 2: 5\}: must be weights of"):
        classifier(class_weight={0: 1, 2: 5}).fit(X[two], y[two])


def test_labels_that_training_had_none_of():
    """They are wrong, as for any classifier."""
    X, y = gaussians()
    names = np.array(["a", "b", "c"])[y]
    fitted = classifier(num_steps=10).fit(X, names)
    unseen = np.array(["a", "b", "d"])[y]
    expected = (fitted.predict(X) == unseen).mean()
    assert fitted.score(X, unseen) == expected
    assert fitted.score(X[:1], fitted.predict(X[:1])) == 1


def test_an_unknown_correction_is_refused_late_too():
    fitted = classifier(num_steps=10).fit(*gaussians())
    with pytest.raises(
        ssm.InputError, match=r"^shares='test': must be none or training or uniform"
    ):
        fitted.set_params(shares="test").predict_proba(gaussians()[0])
