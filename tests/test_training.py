"""Training: steps against NumPy, mini-batches, early stopping and the way back."""

import itertools

import jax
import numpy as np
import pytest
import small_networks
from scipy import special
from small_networks import COUNTS, DENSE, equal_samples, training_options

from ssm import losses
from ssm.practice.network import alarms, monitors, networks, tasks, training
from ssm.practice.options import SCORES
from ssm.problem.schedules import CappedUnitMean, Chain, Fixed, LinearRamp, Ramp, Trend

ALL = 512
MINI = {"batch_size": 30, "optimizer": "momentum"}
WEIGHTS = np.array([0.5, 1.0, 4.0])
LOSS = losses.adjustment(COUNTS)
QUIET = alarms.Thresholds(class_drop=1, gradient_jump=1e300, calibration_drop=1)


def gaussians(seed, distance=2.0):
    drawn = small_networks.gaussians(np.random.default_rng(seed), COUNTS, distance, 5)
    return equal_samples(*drawn)


def task_of(train, evaluated=None, class_weights=WEIGHTS):
    return tasks.make_task(train, evaluated, class_weights, DENSE, "float64", seed=0)


def options(**changes):
    own = {
        "num_steps": 25,
        "batch_size": ALL,
        "learning_rate": 0.1,
        "optimizer": "gd",
        "loss": LOSS,
        "thresholds": QUIET,
    }
    return training_options(**(own | changes))


def start(features=5, seed=0):
    return networks.init_params(DENSE, features, 3, np.random.default_rng(seed), "float64")


def trained(task, chosen, params=None):
    """A run to its end, and all of its points."""
    points = [training.begin(task, chosen, start() if params is None else params)]
    training.train(task, chosen, points[0], points.append)
    return points


def assert_same_bits(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


# Steps against NumPy


def numpy_gradient(params, X, labels, shares):
    """Of sum_i a_i times the cross-entropy of sample i, by hand."""
    (A, a), (B, b) = params
    hidden = np.maximum(X @ A + a, 0)
    slope = special.softmax(hidden @ B + b, axis=1) - np.eye(3)[labels]
    slope *= shares[:, None]
    inner = (slope @ B.T) * (hidden > 0)
    return [X.T @ inner, inner.sum(0)], [hidden.T @ slope, slope.sum(0)]


def numpy_training(train, chosen, weights_at, batches=None):
    """The parameters after all steps, of the samples as they are: nothing is padded."""
    kernels = start()
    params = [
        [np.array(kernels[0].kernel[:5]), np.zeros(8)],
        [np.array(kernels[1].kernel), np.zeros(3)],
    ]
    first, second = ([[np.zeros_like(x) for x in layer] for layer in params] for _ in range(2))
    for step in range(chosen.num_steps):
        mine = slice(None) if batches is None else batches[step]
        X, labels, counted = (x[mine] for x in train)
        weighted = counted * weights_at(step)[labels]
        total = (counted if chosen.reduction == "mean" else weighted).sum()
        gradient = numpy_gradient(params, X, labels, weighted / total)
        rate = chosen.learning_rate
        rate = rate(step) if callable(rate) else rate
        for i, of_layer in enumerate(gradient):
            for j, g in enumerate(of_layer):
                m, v = first[i][j], second[i][j]
                if chosen.optimizer == "adam":
                    m[...] = 0.9 * m + 0.1 * g
                    v[...] = 0.999 * v + 0.001 * g**2
                    corrected = v / (1 - 0.999 ** (step + 1))
                    g = m / (1 - 0.9 ** (step + 1)) / (np.sqrt(corrected) + 1e-8)
                if chosen.optimizer == "momentum":
                    m[...] = chosen.momentum * m + g
                    g = m
                decay = chosen.weight_decay if j == 0 else 0
                params[i][j] = params[i][j] - rate * (g + decay * params[i][j])
    return params


def assert_close(run, expected):
    (A, a), (B, b) = run.state.params
    assert not A[5:].any()  # what belongs to no feature stays 0
    for obtained, value in zip(
        (A[:5], a, B, b), (x for layer in expected for x in layer), strict=True
    ):
        np.testing.assert_allclose(obtained, value, rtol=0, atol=1e-12)


def fixed(step):
    return WEIGHTS


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"weight_decay": 0.03, "learning_rate": lambda step: 0.2 / (1 + step)},
        {"reduction": "weighted_mean"},
        {"optimizer": "adam", "learning_rate": 0.01},
    ],
    ids=["gd", "decay", "weighted mean", "adam"],
)
def test_padding_changes_nothing(rng, changes):
    """Full batch, 100 samples of 5 features padded to 512 of 8: the steps of NumPy without it."""
    train = gaussians(0)._replace(sample_weights=rng.uniform(0.5, 2, 100))
    chosen = options(**changes)
    run = trained(task_of(train), chosen)[-1]
    assert (run.status, run.step) == ("finished", 25)
    assert_close(run, numpy_training(train, chosen, fixed))


def test_mini_batches_are_means_of_their_own():
    """Of 30, the last of a pass of 10 samples, each mean over the samples that are there."""
    train, chosen = gaussians(0), options(learning_rate=0.02, **MINI)
    task = task_of(train)
    batches = np.concatenate([training._batches(task, chosen, first) for first in (0, 10, 20)])
    real = [batch[batch < 100] for batch in batches]
    assert_close(trained(task, chosen)[-1], numpy_training(train, chosen, fixed, real))


def test_samples_weigh_alike_in_every_mini_batch(rng):
    """A sample's weight over their mean over all of the data, whatever the others of its batch have:
    so that a batch is an unbiased part of the whole."""
    train = gaussians(0)._replace(sample_weights=rng.uniform(0.2, 5, 100))
    chosen = options(learning_rate=0.02, **MINI)
    task = task_of(train)
    batches = np.concatenate([training._batches(task, chosen, first) for first in (0, 10, 20)])
    real = [batch[batch < 100] for batch in batches]
    relative = train.sample_weights / train.sample_weights.mean()

    def expected():
        params = start()
        layers = [
            [np.array(params[0].kernel[:5]), np.zeros(8)],
            [np.array(params[1].kernel), np.zeros(3)],
        ]
        velocity = [[np.zeros_like(x) for x in layer] for layer in layers]
        for batch in real[:25]:
            shares = (relative * WEIGHTS[train.labels])[batch] / len(batch)
            gradient = numpy_gradient(layers, train.X[batch], train.labels[batch], shares)
            for i, of_layer in enumerate(gradient):
                for j, g in enumerate(of_layer):
                    velocity[i][j] = 0.9 * velocity[i][j] + g
                    layers[i][j] = layers[i][j] - 0.02 * velocity[i][j]
        return layers

    assert_close(trained(task, chosen)[-1], expected())


def test_weights_that_a_schedule_switches():
    train = gaussians(0)
    late = Ramp(LinearRamp(12, 0), Fixed(WEIGHTS[::-1].copy()))
    chosen = options(schedule=late)
    points = trained(task_of(train), chosen)
    expected = numpy_training(train, chosen, lambda step: WEIGHTS if step < 12 else WEIGHTS[::-1])
    assert_close(points[-1], expected)
    shown = [row["class_weight"] for row in points[-1].rows]  # of the last step before
    assert shown == [WEIGHTS.tolist()] * 2 + [WEIGHTS[::-1].tolist()] * 2


def test_performance_is_the_last_evaluations_recall():
    """Weights e^(mean - own) of a recall that is held out, without memory."""
    chosen = options(schedule=Trend(strength=1.0, memory=0.0))
    rows = trained(task_of(gaussians(0), gaussians(1)), chosen)[-1].rows
    for before, after in itertools.pairwise(rows[1:]):
        recall = np.array(before["class_recall"])
        expected = WEIGHTS * np.exp(recall.mean() - recall)
        np.testing.assert_allclose(after["class_weight"], expected, rtol=1e-13)
    for row in rows[:2]:  # nothing is known yet, of an untrained network neither: all alike
        assert row["class_weight"] == WEIGHTS.tolist()


def test_classes_may_be_permuted():
    order = np.array([2, 0, 1])  # of the new classes, by their old numbers
    train = gaussians(0)
    plain, chosen = start(), options()
    run = trained(task_of(train), chosen)[-1]
    renamed = train._replace(labels=np.argsort(order)[train.labels])
    last = plain[1]._replace(kernel=plain[1].kernel[:, order])
    other = trained(task_of(renamed, class_weights=WEIGHTS[order]), chosen, (plain[0], last))[-1]
    kernel, bias = run.state.params[1]
    # sums over classes in another order
    np.testing.assert_allclose(other.state.params[1].kernel, kernel[:, order], atol=1e-13)
    np.testing.assert_allclose(other.state.params[1].bias, bias[order], atol=1e-13)
    recall = np.array(run.rows[-1]["class_recall"])
    np.testing.assert_array_equal(other.rows[-1]["class_recall"], recall[order])


# Mini-batches


@pytest.mark.parametrize("size", [32, 50, 99])
def test_each_pass_holds_each_sample_once(size):
    task, chosen = task_of(gaussians(0)), options(batch_size=size)
    per_pass = -(-100 // size)
    rows = np.concatenate([training._batches(task, chosen, i) for i in range(0, 100, 10)])
    passes = [rows[i : i + per_pass] for i in range(0, 100 - per_pass + 1, per_pass)]
    for batches in passes:
        assert sorted(batches[batches < 100]) == list(range(100))
        assert (batches[batches >= 100] == 100).all()  # padding, which weighs nothing
    assert task.sample_weights[100] == 0
    assert len({tuple(batches.ravel()) for batches in passes}) == len(
        passes
    )  # never the same order


def test_mini_batches_depend_on_seed_and_step_alone():
    task, chosen = task_of(gaussians(0)), options(batch_size=32)
    whole = np.concatenate([training._batches(task, chosen, i) for i in (0, 10)])
    np.testing.assert_array_equal(training._batches(task, chosen, 7), whole[7:17])
    other = training._batches(task, options(batch_size=32, seed=1), 0)
    assert (other != whole[:10]).any()


@pytest.mark.parametrize("size", [100, 512, 10**6])
def test_a_batch_as_large_as_the_data_is_all_of_it(size):
    task = task_of(gaussians(0))
    rows = training._batches(task, options(batch_size=size), 3)
    np.testing.assert_array_equal(rows[:, :100], np.tile(np.arange(100), (10, 1)))
    assert (rows[:, 100:] == 100).all()


# Early stopping

LONG = MINI | {"num_steps": 300, "learning_rate": 0.05}


def score_of(row, name):
    """More is better; the untrained network is no candidate."""
    recall = np.array(row["class_recall"])
    score = {
        "balanced_accuracy": recall.mean(),
        "worst_class": recall.min(),
        "balanced_log_loss": -row["balanced_log_loss"],
        "macro_average_precision": row["macro_average_precision"],
    }[name]
    return (score, -np.mean(row["class_loss"])) if row["step"] else (-np.inf, 0)


def noise(task, points, i, j, name):
    """One standard error of the difference of two evaluations' scores, from what each sample adds."""
    watched = task.watched
    shown = watched.sample_weights > 0
    labels = watched.labels[shown]
    if name == "macro_average_precision":
        return 0.0
    values = []
    for point in (points[i], points[j]):
        (A, a), (B, b) = jax.tree.map(
            np.asarray, point.state.params, is_leaf=lambda x: hasattr(x, "ndim")
        )
        logits = np.maximum(np.asarray(watched.X)[shown] @ A + a, 0) @ B + b
        if name == "balanced_log_loss":
            logits = logits - np.log(WEIGHTS * COUNTS)
            values.append(special.log_softmax(logits, axis=1)[np.arange(len(labels)), labels])
        else:
            values.append(logits.argmax(1) == labels)
    difference = values[1] * 1.0 - values[0]
    squares = [difference[labels == c].var(ddof=1) / (labels == c).sum() for c in range(3)]
    if name == "worst_class":
        worst = [int(np.argmin(points[at].rows[-1]["class_recall"])) for at in (i, j)]
        return np.sqrt(max(squares[c] for c in worst))
    return np.sqrt(sum(squares)) / 3


@pytest.mark.parametrize("name", SCORES)
def test_the_latest_evaluation_within_noise_of_the_best_is_kept(name):
    """Equal scores by the loss, and of equal losses the first is the best one."""
    task = task_of(gaussians(0, distance=1.5), gaussians(1, distance=1.5))
    points = trained(task, options(score=name, **LONG))
    run = points[-1]
    scores = [score_of(row, name) for row in run.rows]
    top = scores.index(max(scores))
    assert 0 < run.best_row == top <= run.kept_row
    kept = [
        i
        for i in range(top, len(scores))
        if scores[top][0] - scores[i][0] <= noise(task, points, top, i, name) * (1 + 1e-9)
    ]
    assert run.kept_row == kept[-1]
    assert_same_bits(run.kept, points[run.kept_row].state)
    assert_same_bits(run.best, points[run.best_row].state)
    assert (run.step, run.status) == (300, "finished")


def test_scores_differ():
    task = task_of(gaussians(0, distance=1.5), gaussians(1, distance=1.5))
    runs = [trained(task, options(score=name, **LONG))[-1] for name in SCORES]
    for run in runs[1:]:
        np.testing.assert_equal(run.rows, runs[0].rows)
    assert len({run.best_row for run in runs}) > 2


@pytest.mark.parametrize("patience", [30, 75])
def test_patience(patience):
    """In steps: the first evaluation so many steps after the best one is the last."""
    task = task_of(gaussians(0, distance=1.5), gaussians(1, distance=1.5))
    run = trained(task, options(patience=patience, **LONG))[-1]
    assert run.status == "stopped early"
    best = run.rows[run.best_row]["step"]
    assert run.step == best + -(-patience // 10) * 10
    unstopped = trained(task, options(**LONG))[-1]
    np.testing.assert_equal(run.rows, unstopped.rows[: len(run.rows)])


# The way back


def disturbed(action, **changes):
    """Options under which the rate jumps at step 100, where gradients explode."""

    def rate(step):
        return 0.1 if step < 100 else 10.0

    weights = Chain(Trend(strength=1.0, memory=0.9), CappedUnitMean(0.2, 5.0))
    common = {"num_steps": 200, "learning_rate": rate, "schedule": weights, "action": action}
    return options(**(MINI | common | {"thresholds": alarms.Thresholds()} | changes))


@pytest.fixture(scope="module")
def task():
    return task_of(gaussians(0), gaussians(1))


def test_a_roll_back_restores_all_to_the_bit(task):
    points = trained(task, disturbed("roll_back"))
    back = points[11]
    assert (back.step, back.rollbacks) == (110, 1)
    assert back.kept is back.best
    assert [action for _, action in back.alarms] == ["roll_back"] * len(back.alarms)
    best = points[back.best_row]
    assert best.step == back.rows[back.best_row]["step"] <= 100
    assert_same_bits(back.state, best.state)  # parameters, momentum, recent recalls and weights
    assert all(jax.tree.leaves(getattr(back.state, part)) for part in training.State._fields)
    before = trained(task, disturbed("warn"))[11].state  # what it came back from
    for x, y in zip(jax.tree.leaves(before), jax.tree.leaves(back.state), strict=True):
        assert (np.asarray(x) != np.asarray(y)).any()
    assert (back.rate_scale, back.since, back.status) == (0.5, 12, "running")


def test_what_raises_an_alarm_is_no_point_to_come_back_to(task, monkeypatch):
    """Even if it has the best score so far."""
    alarm = alarms.Alarm(20, "gradient_jump", None, 2.0, 1.0, "planted")
    raised = lambda rows, *others: [alarm] if rows[-1]["step"] == 20 else []  # noqa: E731 (short beside its use)
    monkeypatch.setattr(alarms, "raised", raised)
    for action, best in (("warn", 20), ("roll_back", 10)):
        rising = options(**(MINI | {"num_steps": 20, "evaluate_every": 10, "action": action}))
        monkeypatch.setattr(monitors, "merit", lambda row, score: float(row["step"]))
        end = trained(task, rising)[-1]
        assert end.rows[end.best_row]["step"] == best
        same = jax.tree.map(np.array_equal, end.state, end.best)
        assert all(jax.tree.leaves(same))


def test_after_a_roll_back_nothing_is_left_of_what_failed(task):
    """The next interval is the best evaluation's, at half the rate and these steps' batches."""
    chosen = disturbed("roll_back")
    points = trained(task, chosen)
    back = points[11]
    clean = points[back.best_row]._replace(step=back.step, rate_scale=0.5)
    after = training._advance_interval(task, chosen, clean)
    np.testing.assert_equal(points[12].rows[-1], after.rows[-1])


def test_patience_begins_anew_after_a_roll_back(task):
    points = trained(task, disturbed("roll_back", patience=60, num_steps=400, max_rollbacks=50))
    run = points[-1]
    assert run.rollbacks > 0
    last = max(run.rows[run.best_row]["step"], run.rows[run.since - 1]["step"])
    assert run.status == "stopped early"
    assert run.step == last + 60


def test_stop_stops(task):
    points = trained(task, disturbed("stop"))
    assert (points[-1].status, points[-1].step) == ("stopped by an alarm", 110)
    assert {action for _, action in points[-1].alarms} == {"stop"}


def test_a_warning_changes_nothing(task):
    warned = trained(task, disturbed("warn"))[-1]
    unwatched = trained(task, disturbed("warn", thresholds=QUIET))[-1]
    assert warned.alarms
    count = min(len(warned.rows), len(unwatched.rows))
    np.testing.assert_equal(warned.rows[:count], unwatched.rows[:count])  # NaN is NaN


@pytest.mark.parametrize("most", [0, 2])
def test_after_the_last_roll_back_an_alarm_stops(task, most):
    def rate(step):
        return 0.1 if step < 100 else 1e200

    run = trained(task, disturbed("roll_back", learning_rate=rate, max_rollbacks=most))[-1]
    assert run.status == "not finite"
    assert [(alarm.alarm, alarm.step) for alarm, _ in run.alarms] == [
        ("not_finite", 110 + 10 * i) for i in range(most + 1)
    ]
    assert [action for _, action in run.alarms] == ["roll_back"] * most + ["stop"]
    assert run.rate_scale == 0.5**most
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(run.best.params))


def test_what_is_not_finite_ends_a_run_that_is_only_warned(task):
    run = trained(task, disturbed("warn", learning_rate=1e200))[-1]
    assert (run.status, run.step, run.best_row) == ("not finite", 10, 0)
    assert [(alarm.alarm, action) for alarm, action in run.alarms] == [("not_finite", "stop")]
    assert monitors.balanced_accuracy(run.rows[0]) >= 0


def test_an_end_is_an_end(task):
    """A run that ended is not gone on with."""
    chosen = disturbed("stop")
    run = trained(task, chosen)[-1]
    assert training.train(task, chosen, run) is run
