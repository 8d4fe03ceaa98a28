"""Mini-batches drawn by class, and mixtures of samples: whom they draw, what is learned from them, and what is taken back."""

import itertools
from typing import Any

import numpy as np
import pytest
import small_networks
from scipy import integrate, special, stats
from small_networks import COUNTS, DENSE, equal_samples, training_options

import ssm
from ssm import losses
from ssm.practice.network import alarms, batches, networks, tasks, training
from ssm.practice.network.batches import Mixup
from ssm.practice.network.estimator import ReweightedClassifier

WEIGHTS = np.array([0.5, 1.0, 4.0])
LABELS = np.repeat([0, 1, 2], [60, 30, 10])
QUIET = alarms.Thresholds(class_drop=1, gradient_jump=1e300, calibration_drop=1)
REMIX = Mixup(ratio=3.0)


# Drawn by class


def test_samples_are_drawn_by_their_weight():
    """Each as often as any of its class, and classes by n_c w_c: 30, 30 and 40 of 100."""
    steps = np.tile(WEIGHTS, (400, 1))
    rows, left = batches.drawn_by_class(LABELS, steps, 50, seed=3, first=0)
    counts = np.bincount(rows.ravel(), minlength=100)
    expected = WEIGHTS[LABELS] / WEIGHTS[LABELS].sum() * rows.size
    assert stats.chisquare(counts, expected).pvalue > 1e-3
    # The mean loss of a batch has the expectation of the weighted risk.
    losses_of_samples = np.random.default_rng(0).random(100)
    drawn = left[0, 0] * expected / rows.size @ losses_of_samples
    assert drawn == pytest.approx((WEIGHTS[LABELS] * losses_of_samples).mean(), rel=1e-12)
    assert (left == left[0, 0]).all()


def test_draws_depend_on_seed_and_step_alone():
    """In whatever intervals they are asked for, and with weights of their own step."""
    moving = WEIGHTS ** np.linspace(0, 1, 20)[:, None]
    whole, left = batches.drawn_by_class(LABELS, moving, 8, 1, first=5)
    parts = [
        batches.drawn_by_class(LABELS, moving[i : i + 4], 8, 1, 5 + i) for i in range(0, 20, 4)
    ]
    np.testing.assert_array_equal(whole, np.concatenate([rows for rows, _ in parts]))
    np.testing.assert_array_equal(left, np.concatenate([each for _, each in parts]))
    assert not np.array_equal(whole, batches.drawn_by_class(LABELS, moving, 8, 2, first=5)[0])
    mixed = batches.pairs(REMIX, whole, LABELS, np.bincount(LABELS).astype(float), 1, 5)
    later = batches.pairs(REMIX, whole[7:], LABELS, np.bincount(LABELS).astype(float), 1, 12)
    for one, other in zip(mixed, later, strict=True):
        np.testing.assert_array_equal(one[7:], other)


def test_sampling_is_taken_back_as_weights_are():
    """One constant feature: the minimum has z_c - z_j = log(n_c w_c / n_j w_j), whichever way the weights act, and the
    posterior is the classes' shares. Steps of the last of 4000 scatter by about the root of rate / batch."""
    X, y = np.ones((100, 1)), LABELS
    common: dict[str, Any] = {
        "hidden_layer_sizes": (),
        "num_steps": 3000,
        "learning_rate": 0.003,
        "random_state": 0,
    }
    common |= {"batch_size": 64, "alarm_thresholds": QUIET}
    for sampling in (False, True):
        network = ReweightedClassifier(class_weight="balanced", sampling=sampling, **common)
        network.fit(X, y)
        np.testing.assert_allclose(network.class_weights_, 100 / (3 * np.bincount(y)), rtol=1e-12)
        (logits,) = network.logits(X[:1])
        np.testing.assert_allclose(logits - logits.mean(), 0, atol=0.15)
        posterior = network.posterior(logits[None], "training")[0]
        np.testing.assert_allclose(posterior, [0.6, 0.3, 0.1], atol=0.05)


# Mixtures


def test_pairs_are_of_one_batch_and_padding_stays_by_itself():
    rows = np.array([[0, 70, 95, 100, 100], [1, 2, 3, 4, 5]], np.int32)
    found = batches.pairs(REMIX, rows, LABELS, np.array([60.0, 30, 10]), 0, 0)
    for row, partners in zip(rows, found.partners, strict=True):
        np.testing.assert_array_equal(np.sort(partners), np.sort(row))
    np.testing.assert_array_equal(found.partners[0, 3:], [100, 100])
    assert (found.mixed[0, 3:] == 1).all() and (found.labels[0, 3:] == 1).all()
    np.testing.assert_array_equal(found.labels[1], found.mixed[1])  # all of one class


def test_labels_of_mixtures_follow_the_paper():
    """Chou et al. 2020, equation 5, with kappa = 3 and tau = 0.5, written out."""
    mixed = np.array([0.1, 0.49, 0.5, 0.51, 0.9])
    for n_i, n_j in itertools.product([60.0, 30.0, 20.0, 10.0], repeat=2):
        found = REMIX.label_shares(mixed, np.full(5, n_i), np.full(5, n_j))
        for share, label in zip(mixed, found, strict=True):
            if n_i / n_j >= 3 and share < 0.5:
                expected = 0.0
            elif n_i / n_j <= 1 / 3 and 1 - share < 0.5:
                expected = 1.0
            else:
                expected = share
            assert label == expected
        np.testing.assert_array_equal(Mixup().label_shares(mixed, mixed, mixed), mixed)


@pytest.mark.parametrize(("alpha", "least"), [(0.2, 0.5), (1.0, 0.5), (2.0, 0.3)])
def test_what_labels_of_mixtures_do_to_class_shares(alpha, least):
    """The label mass of each class among mixtures of independent pairs, by integration."""
    mixup, counts = Mixup(alpha, 3.0, least), np.array([60.0, 30, 10])
    shares = counts / counts.sum()
    beta: Any = stats.beta(alpha, alpha)
    mass = np.zeros(3)
    for i, j in itertools.product(range(3), repeat=2):

        def label(x, i=i, j=j):
            found = mixup.label_shares(np.array([x]), counts[[i]], counts[[j]])
            return float(found[0]) * beta.pdf(x)

        parts = [(0, least), (least, 1 - least), (1 - least, 1)]
        mean = sum(
            integrate.quad(label, *sorted(part), limit=200)[0]
            for part in parts
            if part[0] < part[1]
        )
        mass[i] += shares[i] * shares[j] * mean
        mass[j] += shares[i] * shares[j] * (1 - mean)
    np.testing.assert_allclose(mixup.class_factors(counts), mass / shares, atol=1e-5)
    assert (Mixup(alpha).class_factors(counts) == 1).all()


def softmax_gradient(params, X, targets, shares):
    """Of sum_i a_i times the cross-entropy of soft targets, by hand."""
    (A, a), (B, b) = params
    hidden = np.maximum(X @ A + a, 0)
    slope = special.softmax(hidden @ B + b, axis=1) * targets.sum(1, keepdims=True) - targets
    slope *= shares
    inner = (slope @ B.T) * (hidden > 0)
    return [X.T @ inner, inner.sum(0)], [hidden.T @ slope, slope.sum(0)]


@pytest.mark.parametrize("mixup", [Mixup(1.0), Mixup(1.0, 2.0)], ids=["mixup", "remix"])
def test_steps_on_mixtures_are_numpys(mixup):
    """Gradient descent on mini-batches of 30, whose last of a pass has 10."""
    drawn = small_networks.gaussians(np.random.default_rng(0), COUNTS, 2.0, 5)
    train = equal_samples(*drawn)
    chosen = training_options(
        num_steps=8,
        batch_size=30,
        evaluate_every=4,
        learning_rate=0.1,
        optimizer="gd",
        loss=losses.adjustment(COUNTS),
        thresholds=QUIET,
        mixup=mixup,
    )
    task = tasks.make_task(train, None, WEIGHTS, DENSE, "float64", seed=0)
    start = networks.init_params(DENSE, 5, 3, np.random.default_rng(0), "float64")
    run = training.train(task, chosen, training.begin(task, chosen, start))
    layers = [
        [np.array(start[0].kernel[:5]), np.zeros(8)],
        [np.array(start[1].kernel), np.zeros(3)],
    ]
    for step in range(8):
        rows = training._batches(task, chosen, step)[:1]
        found = batches.pairs(mixup, rows, train.labels, task.class_counts, chosen.seed, step)
        real = rows[0] < 100
        i, j = rows[0, real], found.partners[0, real]
        x, m = found.mixed[0, real][:, None], found.labels[0, real][:, None]
        inputs = x * train.X[i] + (1 - x) * train.X[j]
        one_hot = np.eye(3) * WEIGHTS[:, None]
        targets = m * one_hot[train.labels[i]] + (1 - m) * one_hot[train.labels[j]]
        gradient = softmax_gradient(layers, inputs, targets, 1 / real.sum())
        layers = [
            [value - 0.1 * g for value, g in zip(layer, of_layer, strict=True)]
            for layer, of_layer in zip(layers, gradient, strict=True)
        ]
    obtained = [np.array(x) for layer in run.state.params for x in layer]
    obtained[0] = obtained[0][:5]
    for value, expected in zip(obtained, (x for layer in layers for x in layer), strict=True):
        np.testing.assert_allclose(value, expected, rtol=0, atol=1e-12)


def test_what_remix_does_to_class_shares_is_taken_back():
    """One constant feature, of which mixtures are all alike: the minimum has the label mass of each class, and the
    posterior is the classes' shares."""
    X, y = np.ones((100, 1)), LABELS
    network = ReweightedClassifier(
        hidden_layer_sizes=(),
        num_steps=2000,
        learning_rate=0.003,
        batch_size=64,
        mixup=REMIX,
        random_state=0,
    ).fit(X, y)
    (logits,) = network.logits(X[:1])
    mass = np.array([0.6, 0.3, 0.1]) * REMIX.class_factors(np.array([60.0, 30, 10]))
    np.testing.assert_allclose(special.softmax(logits), mass, atol=0.06)
    posterior = network.posterior(logits[None], "training")[0]
    np.testing.assert_allclose(posterior, [0.6, 0.3, 0.1], atol=0.06)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"sampling": 1}, "sampling=1: must be True or False"),
        ({"mixup": 0.2}, "mixup=0.2: must be an ssm.practice.batches.Mixup, or None"),
        (
            {"sampling": True, "reduction": "weighted_mean"},
            "reduction='weighted_mean': must be 'mean' where there is sampling",
        ),
        (
            {"mixup": Mixup(), "reduction": "weighted_mean"},
            "reduction='weighted_mean': must be 'mean' where there is mixup",
        ),
    ],
)
def test_what_cannot_be_is_refused(parameters, message):
    with pytest.raises(ssm.InputError) as refused:
        ReweightedClassifier(**parameters).fit(np.ones((4, 1)), [0, 0, 1, 1])
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize("numbers", [{"alpha": 0.0}, {"ratio": 1.0}, {"least": 1.5}])
def test_numbers_of_mixup_that_cannot_be(numbers):
    with pytest.raises(ssm.InputError, match=f"^{next(iter(numbers))}="):
        Mixup(**numbers)
