"""What is watched while a network trains: each number against NumPy."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special
from sklearn import metrics
from small_networks import DENSE, equal_samples, gaussians

import ssm
from ssm import losses
from ssm.config.loss import MARGIN_LOSSES
from ssm.practice.network import monitors, networks, observing, tasks
from ssm.practice.network.tasks import Samples

COUNTS = np.array([32, 16, 8])  # divisors of the samples watched: each counts as often
WEIGHTS = np.array([0.5, 1.0, 3.0])
LOSS = losses.adjustment(COUNTS)


def samples(rng, counts):
    return equal_samples(*gaussians(rng, counts, 2, 5))


def observed(task, params, loss=LOSS, step=7):
    watched = task.watched
    measured_values = observing.observe(
        params, task.X, task.labels, watched.X, watched.labels, watched.members, loss, None
    )
    counts, weights = task.class_counts, task.class_weights
    probabilities = observing.probabilities(measured_values, watched, weights * counts, loss)
    return monitors.row(measured_values, watched, counts, weights, probabilities, step)


@pytest.fixture
def network(rng):
    """A network with biases, and its logits and class gradients in NumPy."""
    params = networks.init_params(DENSE, 5, 3, rng, "float64")
    return tuple(layer._replace(bias=rng.normal(size=layer.bias.shape)) for layer in params)


def forward(params, X):
    (A, a), (B, b) = params
    hidden = np.maximum(X @ A[:5] + a, 0)
    return hidden, hidden @ B + b


def gradient(params, X, labels):
    """Of the mean cross-entropy, in all parameters, flat: backpropagation by hand."""
    hidden, logits = forward(params, X)
    slope = (special.softmax(logits, axis=1) - np.eye(3)[labels]) / len(X)
    inner = (slope @ params[1].kernel.T) * (hidden > 0)
    parts = (X.T @ inner, inner.sum(0), hidden.T @ slope, slope.sum(0))
    return np.concatenate([part.ravel() for part in parts])


def test_each_number(rng, network):
    train, held = samples(rng, COUNTS), samples(rng, [9, 5, 3])
    task = tasks.make_task(train, held, WEIGHTS, DENSE, "float64", seed=0)
    row = observed(task, network)
    _, logits = forward(network, held.X)
    of_class = held.labels == np.arange(3)[:, None]
    each = -special.log_softmax(logits, axis=1)[np.arange(17), held.labels]
    class_loss = [each[mine].mean() for mine in of_class]
    right = logits.argmax(1) == held.labels
    G = np.array([gradient(network, *(x[train.labels == c] for x in train[:2])) for c in range(3)])
    norms = np.linalg.norm(G, axis=1)
    pull = WEIGHTS * COUNTS / 56
    expected = {
        "step": 7,
        "loss": pull @ class_loss,
        "class_loss": class_loss,
        "class_recall": [right[mine].mean() for mine in of_class],
        "gradient_norm": np.linalg.norm(pull @ G),
        "class_gradient_norm": norms,
        "gradient_share": pull * norms / (pull * norms).sum(),
        "cosine": G @ G.T / np.outer(norms, norms),
        "class_weight": WEIGHTS,
        "weight_norm": np.sqrt(sum((x**2).sum() for layer in network for x in layer)),
    }
    for name, value in expected.items():
        # sums of 56 numbers near 1, and their square roots
        np.testing.assert_allclose(row[name], value, rtol=1e-12, atol=1e-13, err_msg=name)
    assert sum(row["gradient_share"]) == pytest.approx(1, abs=1e-15)
    others = {"block_strength", "calibration_error", "balanced_log_loss", "macro_average_precision"}
    assert row.keys() == expected.keys() | others


@pytest.mark.parametrize("numbers", [{}, {"additive_adjustment": 1.0}, {"focusing": 2.0}])
def test_scores_are_of_the_balanced_posterior(rng, network, numbers):
    """Weights, shares and the loss are taken off the logits before they are scored, by scikit-learn."""
    task = tasks.make_task(
        samples(rng, COUNTS), samples(rng, [9, 5, 3]), WEIGHTS, DENSE, "float64", seed=0
    )
    row = observed(task, network, losses.adjustment(COUNTS, **numbers))
    shown = task.watched.sample_weights > 0
    labels = task.watched.labels[shown]
    _, z = forward(network, np.asarray(task.watched.X)[shown, :5])
    z = z + numbers.get("additive_adjustment", 0) * np.log(COUNTS / COUNTS.sum())
    p, g = special.softmax(z, axis=1), numbers.get("focusing", 0)
    q = p / ((1 - p) ** g - g * (1 - p) ** (g - 1) * p * np.log(p)) / (WEIGHTS * COUNTS)
    q /= q.sum(1, keepdims=True)
    of_class = labels[:, None] == np.arange(3)
    shares = (of_class / of_class.sum(0) / 3).sum(1)  # equal ones
    assert row["balanced_log_loss"] == pytest.approx(
        metrics.log_loss(labels, q, sample_weight=shares), rel=1e-12
    )
    expected = metrics.average_precision_score(of_class, q)
    assert row["macro_average_precision"] == pytest.approx(expected, rel=1e-12)
    assert monitors.merit(row, "balanced_log_loss") == -row["balanced_log_loss"]
    assert monitors.merit(row, "macro_average_precision") == row["macro_average_precision"]


def test_block_strengths_are_those_of_the_logits(rng, network):
    """As `ssm.track` has them, of the logits less what biases give all classes alike."""
    train = samples(rng, COUNTS)
    task = tasks.make_task(train, None, WEIGHTS, DENSE, "float64", seed=0)
    _, logits = forward(network, train.X)
    common = np.mean([logits[train.labels == c].mean(0) for c in range(3)], axis=0)
    tracked = ssm.track((logits - common)[None], train.labels)
    expected = tracked["block_strength"][0] / tracked["block_target"]
    assert np.isfinite(expected).sum() == 2  # one minority class has no contrast of its own
    measured_values = observed(task, network)["block_strength"]
    np.testing.assert_allclose(measured_values, expected, atol=1e-13)  # sums of 56 numbers near 1


def test_calibration_by_hand(rng, network):
    """Few samples, so each bin of equal mass holds one."""
    held = samples(rng, [5, 4, 3])
    task = tasks.make_task(samples(rng, COUNTS), held, WEIGHTS, DENSE, "float64", seed=0)
    p = special.softmax(forward(network, held.X)[1], axis=1)
    gaps = p.max(1) - (p.argmax(1) == held.labels)
    measured_values = observed(task, network)["calibration_error"]
    assert measured_values == pytest.approx(np.abs(gaps).mean(), abs=1e-14)


@pytest.mark.parametrize("loss", ["cross_entropy", "ldam"])
def test_a_weight_counts_as_so_many_samples(rng, network, loss):
    train, held = samples(rng, COUNTS), samples(rng, [9, 5, 3])
    numbers = MARGIN_LOSSES.get(loss, {})
    how_often = rng.integers(1, 4, 17)
    weighted = held._replace(sample_weights=how_often.astype(float))
    repeated = Samples(*(np.repeat(x, how_often, axis=0) for x in held))
    rows = [
        observed(
            tasks.make_task(train, shown, WEIGHTS, DENSE, "float64", seed=0),
            network,
            losses.adjustment(COUNTS, **numbers),
        )
        for shown in (weighted, repeated)
    ]
    one, other = (dict[str, Any](row) for row in rows)
    for name, value in one.items():
        np.testing.assert_allclose(value, other[name], rtol=1e-13, err_msg=name)


def test_of_many_training_samples_some_of_each_class_stand_for_it():
    """12000 samples of sample weights 1 to 2: ten of twelve, all 40 of the smallest class."""
    counts, rng = np.array([10000, 1960, 40]), np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(3), counts))
    X = np.stack([np.arange(12000.0), labels], axis=1)
    weights = 1.0 + (labels == 1)
    train = Samples(X, labels, weights)
    watched = tasks.make_task(train, None, WEIGHTS, DENSE, "float64", seed=0).watched
    shown = watched.sample_weights > 0
    rows, mine = np.asarray(watched.X)[shown], watched.labels[shown]
    assert np.bincount(mine).tolist() == [math.ceil(10000 / 1.2), math.ceil(1960 / 1.2), 40]
    np.testing.assert_array_equal(rows[:, 1], mine)
    assert len(np.unique(rows[:, 0])) == len(rows)
    sums = np.bincount(mine, watched.sample_weights[shown])
    # each class counts as all of its samples do, relative to the mean weight
    np.testing.assert_allclose(sums, counts * [1, 2, 1] / weights.mean(), rtol=1e-12)


@given(seed=st.integers(0, 2**32 - 1), levels=st.integers(1, 30), size=st.integers(2, 60))
def test_average_precision_is_that_of_scikit_learn(seed, levels, size):
    rng = np.random.default_rng(seed)
    is_class = rng.permutation(np.arange(size) < rng.integers(1, size + 1))
    scores, weights = rng.integers(0, levels, size) / levels, rng.exponential(size=size)
    expected = metrics.average_precision_score(is_class, scores, sample_weight=weights)
    found = monitors._average_precision(is_class, scores, weights)
    assert found == pytest.approx(expected, rel=1e-12)


def test_without_held_out_samples_those_of_training_are_watched(rng):
    train = samples(rng, COUNTS)
    watched = tasks.make_task(train, None, WEIGHTS, DENSE, "float64", seed=0).watched
    assert (watched.X[:56, :5] == train.X).all()
    assert watched.sample_weights.sum() == 56
    for c, mine in enumerate(watched.members):
        assert (train.labels[mine] == c).all()
        assert (np.bincount(mine, minlength=56)[train.labels == c] == 32 / COUNTS[c]).all()


def test_what_is_not_finite_is_said_and_stops_nothing(rng, network):
    """No warning either."""
    task = tasks.make_task(samples(rng, COUNTS), None, WEIGHTS, DENSE, "float64", seed=0)
    huge = tuple(layer._replace(kernel=layer.kernel * 1e200) for layer in network)
    row = observed(task, huge)
    assert not np.isfinite(row["loss"]) or not np.isfinite(row["gradient_norm"])
    for name in ("calibration_error", "balanced_log_loss", "macro_average_precision"):
        assert np.isnan(row[name])


def test_a_network_without_a_gradient(rng):
    """Class 0 is learned for good: nothing is divided by its length, 0."""
    task = tasks.make_task(samples(rng, COUNTS), None, WEIGHTS, DENSE, "float64", seed=0)
    params = networks.init_params(DENSE, 5, 3, rng, "float64")
    dead = params[0]._replace(bias=np.full(8, -1e3))
    last = params[1]._replace(bias=np.array([800.0, 0.0, 0.0]))  # sure of class 0, rightly or not
    row = observed(task, (dead, last))
    assert row["class_gradient_norm"][0] == 0
    assert row["class_recall"] == [1, 0, 0]
    np.testing.assert_array_equal(row["cosine"][0], 0)
    assert sum(row["gradient_share"]) == pytest.approx(1, abs=1e-15)


def test_the_history_has_all_evaluations(rng, network):
    task = tasks.make_task(samples(rng, COUNTS), None, WEIGHTS, DENSE, "float64", seed=0)
    rows = [observed(task, network, step=step) for step in (0, 5)]
    measured_values = monitors.history(rows, ["a", "b", "c"])
    assert measured_values["step"].values.tolist() == [0, 5]
    assert measured_values["class_recall"].dims == ("evaluation", "class")
    assert measured_values["cosine"].dims == ("evaluation", "class", "class_other")
    assert measured_values["block_strength"].dims == ("evaluation", "block")
    np.testing.assert_array_equal(
        measured_values["class_loss"].sel({"class": "b"})[1], rows[1]["class_loss"][1]
    )
    assert monitors.merit(rows[0], "worst_class") == min(rows[0]["class_recall"])
    assert monitors.merit(rows[0], "balanced_accuracy") == np.mean(rows[0]["class_recall"])
    assert monitors.balanced_accuracy(rows[0]) == pytest.approx(np.mean(rows[0]["class_recall"]))
