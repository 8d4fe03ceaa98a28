"""Probabilities and decisions: every loss under all weights, schedules and class shares is right on a
population of known posterior, or refused."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import optimize, special

import ssm
from ssm import losses, posthoc
from ssm.practice.network.estimator import ReweightedClassifier
from ssm.problem.schedules import (
    CappedUnitMean,
    Chain,
    LinearRamp,
    PrevalencePower,
    Ramp,
    Trend,
    UnitMean,
)

# P(c | x) of five states of x, and how often each is met: shares of 0.9, 0.07 and 0.03
POSTERIOR = np.array(
    [
        [0.98, 0.015, 0.005],
        [0.90, 0.08, 0.02],
        [0.80, 0.02, 0.18],
        [0.45, 0.50, 0.05],
        [0.30, 0.20, 0.50],
    ]
)
OCCUPIED = np.array([0.55, 0.28, 0.09, 0.05, 0.03])
SHARES = OCCUPIED @ POSTERIOR
STATES = np.eye(5)

LOSSES: dict[str, dict[str, Any]] = {
    "cross_entropy": {},
    "squared": {"loss": "squared"},
    "logit_adjustment": {"loss": "logit_adjustment"},
    "cdt": {"loss": "cdt"},
    "vs": {"loss": "vs"},
    "ldam": {"loss": "ldam"},  # at its published scale of 30
    "ldam of scale 1": {"loss": "ldam", "largest_margin": 3.0, "logit_scale": 1.0},
    "focal": {"loss": "focal"},
    "focal, margins, adjusted": {
        "focusing": 1.0,
        "largest_margin": 1.0,
        "additive_adjustment": 1.0,
    },
    "smoothed": {"label_smoothing": 0.1},
    "smoothed vs": {"loss": "vs", "label_smoothing": 0.05},
}
WEIGHTS: dict[str, dict[str, Any]] = {
    "erm": {},
    "balanced": {"class_weight": "balanced"},
    "given": {"class_weight": [1.0, 3.0, 30.0]},
    "deferred": {"schedule": Ramp(LinearRamp(300, 0), Chain(PrevalencePower(1.0), UnitMean()))},
    "capped": {"schedule": Chain(PrevalencePower(1.0), CappedUnitMean(0.5, 3.0))},
}
FULL_BATCH: dict[str, Any] = {
    "hidden_layer_sizes": (),
    "batch_size": 10**6,
    "num_steps": 1500,
    "evaluate_every": 500,
    "random_state": 0,
}


def of_shares(shares):
    """The posterior under other class shares, by Bayes' rule."""
    shifted = POSTERIOR * np.asarray(shares) / SHARES
    return shifted / shifted.sum(1, keepdims=True)


def fitted(**parameters):
    """One trained on the population: each state and class once, weighted by its probability. Its
    rate falls to 0, so that Adam ends at the minimum."""
    X, y = np.repeat(STATES, 3, 0), np.tile(np.arange(3), 5)
    counted = 1000 * (OCCUPIED[:, None] * POSTERIOR).ravel()
    scale = 30.0 if parameters.get("loss") == "ldam" and "logit_scale" not in parameters else 1.0
    chosen = FULL_BATCH | parameters
    rate: Any = optax.cosine_decay_schedule(0.05 / scale, chosen["num_steps"])  # optax has arrays
    return ReweightedClassifier(learning_rate=rate, **chosen).fit(X, y, counted)


# Quick are the squared loss and the one with all adjustments, whose parts the others are. Of each loss there are two fits, with
# weights of classes and with a schedule, and of those two the other three too. Adam comes within the tolerance in fewer steps
# than others take.
QUICK = {"squared": 1500, "focal, margins, adjusted": 2250}
CASES = [
    pytest.param(
        loss, ("given", "deferred"), id=loss, marks=[] if loss in QUICK else pytest.mark.slow
    )
    for loss in LOSSES
]
CASES += [
    pytest.param(loss, ("erm", "balanced", "capped"), id=f"{loss}, others", marks=pytest.mark.slow)
    for loss in QUICK
]


@pytest.mark.parametrize(("loss", "weightings"), CASES)
def test_every_posterior_is_right_or_refused(loss, weightings):
    """For the shares of the data, equal ones and others, whatever the weights and their schedule."""
    other = {0: 0.2, 1: 0.5, 2: 0.3}
    near = 2e-3 if loss == "ldam" else 1e-6  # to which Adam comes in so many steps
    for weighting in weightings:
        found = fitted(**LOSSES[loss], **WEIGHTS[weighting], num_steps=QUICK.get(loss, 3000))
        logits = found.logits(STATES)
        for shares, expected in (
            ("training", POSTERIOR),
            ("uniform", of_shares([1, 1, 1])),
            (other, of_shares(list(other.values()))),
        ):
            np.testing.assert_allclose(found.posterior(logits, shares), expected, atol=near)
            shown = found.set_params(shares=shares)
            np.testing.assert_array_equal(
                shown.predict_proba(STATES), found.posterior(logits, shares)
            )
            np.testing.assert_allclose(
                np.exp(shown.predict_log_proba(STATES)), shown.predict_proba(STATES), rtol=1e-14
            )


@pytest.mark.parametrize(
    "loss",
    [
        {"loss": "vs"},
        pytest.param({}, marks=pytest.mark.slow),
        pytest.param({"loss": "focal"}, marks=pytest.mark.slow),
        pytest.param({"loss": "ldam", "logit_scale": 1.0}, marks=pytest.mark.slow),
    ],
)
def test_posteriors_from_samples_are_right_within_their_error(loss: dict[str, Any]):
    """Twenty thousand of them in mini-batches, weights that follow held-out recalls."""
    rng = np.random.default_rng(0)
    states = rng.choice(5, 20_000, p=OCCUPIED)
    y = (rng.random(20_000)[:, None] > POSTERIOR.cumsum(1)[states]).sum(1)
    schedule = Chain(PrevalencePower(0.5), Trend(2.0, 0.99), CappedUnitMean(0.2, 5.0))
    shared = FULL_BATCH | {"batch_size": 512}
    rate: Any = optax.cosine_decay_schedule(0.05, 1500)
    found = ReweightedClassifier(
        **shared,
        **loss,
        schedule=schedule,
        shares="training",
        learning_rate=rate,
    ).fit(STATES[states], y)
    assert np.ptp(found.class_weights_) > 1  # they do weigh
    error = np.sqrt(POSTERIOR * (1 - POSTERIOR) / (20_000 * OCCUPIED[:, None]))
    # four standard errors of each frequency, and as much again of one for Adam's own noise
    assert (np.abs(found.predict_proba(STATES) - POSTERIOR) < 5 * error).all()


@jax.jit
def risk(z, q, numbers):
    """The loss of logits z over labels of probabilities q."""
    each = z[:, None].repeat(4, 1)
    return q @ losses.adjusted_cross_entropy(each, jnp.arange(4), numbers)


slope = jax.jit(jax.grad(risk))


@pytest.mark.parametrize("focusing", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("margin", [0.0, 3.0, 15.0])
def test_a_posterior_is_that_whose_risk_its_logits_minimise(rng, focusing, margin):
    """Against a minimiser of SciPy's."""
    counts = np.array([100, 50, 20, 5])
    numbers = losses.adjustment(counts, largest_margin=margin, focusing=focusing)
    for q in rng.dirichlet(np.ones(4), 3):
        given = (q, numbers)
        found = optimize.minimize(risk, np.zeros(4), given, jac=slope, options={"gtol": 1e-11})
        posterior = special.softmax(posthoc.minimised(found.x[:, None], numbers.margins, focusing))
        # the minimiser has come this near
        np.testing.assert_allclose(posterior[:, 0], q, atol=1e-7)


def test_a_focal_posterior_is_the_published_one(rng):
    """h(p) = p / ((1 - p)^g - g (1 - p)^(g - 1) p ln p), normalised."""
    z = 3 * rng.normal(size=(5, 40))
    p, g = special.softmax(z, axis=0), 2.0
    h = p / ((1 - p) ** g - g * (1 - p) ** (g - 1) * p * np.log(p))
    found = special.softmax(posthoc.minimised(z, focusing=g), axis=0)
    np.testing.assert_allclose(found, h / h.sum(0), rtol=1e-12)
    far = np.array([[800.0], [0.0], [-800.0]])  # far beyond what a probability can hold
    assert np.isfinite(posthoc.minimised(far, np.ones(3), 1.5)).all()


def test_what_has_no_inverse_is_refused():
    """Once training is over or before it, in one line, and the network's own word is to be had."""
    X, y = np.repeat(STATES, 3, 0), np.tile(np.arange(3), 5)
    short: dict[str, Any] = FULL_BATCH | {"num_steps": 50, "evaluate_every": 50}
    cases: list[dict[str, Any]] = [
        {"label_smoothing": 0.1, "loss": "ldam", "logit_scale": 1.0},
        {"label_smoothing": 0.1, "loss": "focal"},
        {"reduction": "weighted_mean", "class_weight": "sqrt", "batch_size": 4},
    ]
    counted = np.where(y == 0, 1.0, 9.0)
    weighted: dict[str, Any] = short | {
        "reduction": "weighted_mean",
        "batch_size": 4,
        "shares": "training",
    }
    ReweightedClassifier(**weighted).fit(X, y, np.full(15, 3.0))  # equal ones weigh nothing
    with pytest.raises(
        ssm.InputError, match=r"^shares='training': must be 'none' here: weighted_mean"
    ):
        ReweightedClassifier(**weighted).fit(X, y, counted)
    for case in cases:
        chosen: dict[str, Any] = short | case
        found = ReweightedClassifier(**chosen).fit(X, y)
        own = found.predict_proba(STATES)
        for wrong in ({"shares": "training"}, {"decision": "uniform"}):
            name, value = next(iter(wrong.items()))
            with pytest.raises(ssm.InputError, match=rf"^{name}='{value}': must be '\w+' here: "):
                ReweightedClassifier(**dict[str, Any](chosen | wrong)).fit(X, y)
        with pytest.raises(ssm.InputError, match=r"^shares='training': must be 'none' here"):
            found.posterior(found.logits(STATES), "training")
        np.testing.assert_array_equal(found.predict_proba(STATES), own)
    whole: dict[str, Any] = short | cases[-1] | {"batch_size": 15, "shares": "training"}
    assert ReweightedClassifier(**whole).fit(X, y).predict_proba(STATES).shape == (5, 3)


# Decisions


def test_decisions_are_not_probabilities():
    """Weights are not undone by what probabilities are asked for; each decision is the largest
    posterior under its shares."""
    found = fitted(class_weight="balanced")
    trained = found.predict(STATES)
    np.testing.assert_array_equal(trained, of_shares([1, 1, 1]).argmax(1))  # balanced weights
    for shares in ("none", "training", "uniform", {0: 0.9, 1: 0.05, 2: 0.05}):
        np.testing.assert_array_equal(found.set_params(shares=shares).predict(STATES), trained)
    data = dict(enumerate(SHARES.tolist()))
    for decision, expected in (
        ("trained", of_shares([1, 1, 1])),
        ("uniform", of_shares([1, 1, 1])),
        (data, POSTERIOR),
        ({0: 0.01, 1: 0.98, 2: 0.01}, of_shares([0.01, 0.98, 0.01])),
    ):
        found.set_params(decision=decision)
        np.testing.assert_array_equal(found.predict(STATES), expected.argmax(1))
    erm = fitted()
    np.testing.assert_array_equal(erm.predict(STATES), POSTERIOR.argmax(1))
    erm.set_params(decision="uniform")
    np.testing.assert_array_equal(erm.predict(STATES), of_shares([1, 1, 1]).argmax(1))


def test_a_temperature_is_for_probabilities():
    """Of the posterior whatever shares are asked for, and of the network's own word; decisions are
    those of the population without it."""
    rng = np.random.default_rng(1)
    states = rng.choice(5, 4000, p=OCCUPIED)
    y = (rng.random(4000)[:, None] > POSTERIOR.cumsum(1)[states]).sum(1)
    shared = FULL_BATCH | {"num_steps": 500, "learning_rate": 0.05, "class_weight": "balanced"}
    found = ReweightedClassifier(**shared, temperature_scaling=True).fit(STATES[states], y)
    logits = found.logits(STATES)
    # the posterior is right as it is; the network's word, that of equal shares, is not for the data's
    assert found.temperature_ == pytest.approx(1, abs=0.1)
    assert found.own_temperature_ != pytest.approx(1, abs=0.1)
    own = special.softmax(logits / found.own_temperature_, axis=1)
    np.testing.assert_allclose(found.predict_proba(STATES), own, rtol=1e-12)
    for shares in ("training", "uniform", {0: 0.2, 1: 0.5, 2: 0.3}):
        expected = found.posterior(logits, shares, found.temperature_)
        np.testing.assert_array_equal(
            found.set_params(shares=shares).predict_proba(STATES), expected
        )
    found.temperature_ = 50.0
    np.testing.assert_array_equal(
        found.set_params(decision="uniform").predict(STATES), of_shares([1, 1, 1]).argmax(1)
    )
    for wrong in ("training", "none", "bogus"):
        with pytest.raises(
            ssm.InputError, match=f"^decision='{wrong}': must be trained or uniform"
        ):
            found.set_params(decision=wrong).predict(STATES)


def test_an_alias_of_shares():
    found = fitted(prior_correction="training")
    np.testing.assert_allclose(found.predict_proba(STATES), POSTERIOR, atol=1e-9)
    with pytest.raises(
        ssm.InputError, match=r"^prior_correction='training': must be left out where"
    ):
        fitted(prior_correction="training", shares="uniform")


@pytest.mark.parametrize("name", ["shares", "decision"])
@pytest.mark.parametrize(
    "value",
    ["test", 3, None, {}, {0: 1.0}, {0: 1, 1: 1, 2: -1}, {0: 1, 1: 1, 3: 1}, {0: "a"}, [1, 1, 1]],
)
def test_shares_that_cannot_be(name, value):
    with pytest.raises(ssm.InputError, match=rf"^{name}=.*: must be .*a dict \{{class: share\}}"):
        fitted(**{name: value})


@pytest.mark.slow
def test_shares_are_those_of_all_samples():
    """Held-out ones too, though the network is trained without them: one of three is a third less."""
    X = np.zeros((1003, 1))
    y = np.repeat([0, 1], [1000, 3])
    short = {"hidden_layer_sizes": (), "learning_rate": 0.1, "num_steps": 1000, "batch_size": 10**6}
    found = ReweightedClassifier(
        **short, temperature_scaling=True, shares="training", random_state=0
    ).fit(X, y)
    assert found.class_counts_.tolist() == [800, 2]
    p = found.posterior(found.logits(X[:1]), "training")[0, 1]
    assert p == pytest.approx(3 / 1003, rel=1e-3)  # 2 / 802 without the others
