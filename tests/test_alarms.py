"""Alarms: each raised by its failure within the stated delay and once, and hardly ever without."""

import collections
import math

import jax
import numpy as np
import pytest
from small_networks import DENSE, EVALUATE_EVERY, equal_samples, gaussians, training_options

import ssm
from ssm import losses
from ssm.practice.network import alarms, networks, tasks, training
from ssm.practice.network.alarms import Alarm, Thresholds
from ssm.practice.network.estimator import ReweightedClassifier
from ssm.practice.study.strategies import STRATEGIES
from ssm.problem.schedules import CappedUnitMean, Chain, Trend

GOOD = {
    "loss": 0.5,
    "gradient_norm": 0.1,
    "class_gradient_norm": [0.1, 0.1],
    "cosine": [[1.0, 1.0], [1.0, 1.0]],
    "class_recall": [0.9, 0.8],
    "class_weight": [1.0, 2.0],
    "calibration_error": 0.05,
}
SAMPLES = np.array([400, 400])
SHARES = np.array([0.5, 0.5])


# by chance better than anything later, and no reference for it
UNTRAINED = GOOD | {
    "step": 0,
    "class_recall": [1.0, 1.0],
    "class_gradient_norm": [1e-9, 1e-9],
    "calibration_error": 0.0,
}


def rows_of(**series):
    """An untrained network's evaluation and those after it, in each of which the named numbers are
    those of a series, others good."""
    length = max(map(len, series.values()))
    rows = [GOOD | {"step": 10 * i + 10} for i in range(length)]
    for name, values in series.items():
        for row, value in zip(rows, values, strict=True):
            row[name] = value
    return [UNTRAINED, *rows]


def gradients(*norms):
    """Evaluations with a gradient of each norm: all classes' alike."""
    return rows_of(gradient_norm=norms, class_gradient_norm=[[norm / 1.5] * 2 for norm in norms])


def raised_last(rows, since=0, samples=SAMPLES, bounds=(0.2, 5.0), thresholds=None):
    """What the last evaluation raises; the first after the untrained network's is the best."""
    chosen = thresholds or Thresholds()
    since = since + 1 if since else 0
    return alarms.raised(rows, rows[1], since, rows, SHARES, samples, bounds, chosen)


def followed(rows, **options):
    """(evaluation, alarm, class) of all that is raised, evaluations counted from 0 after the untrained
    network's."""
    raised_alarms = []
    for last in range(1, len(rows)):
        raised = raised_last(rows[: last + 1], **options)
        assert all(alarm.step == rows[last]["step"] for alarm in raised)
        raised_alarms += [(last - 1, alarm.alarm, alarm.class_index) for alarm in raised]
    return raised_alarms


# Each by its own rule, on evaluations made up


@pytest.mark.parametrize("evaluations", [1, 3])
def test_a_class_that_drops(evaluations):
    """Once at the stated evaluation, and anew after it has come back."""
    thresholds = Thresholds(class_drop_evaluations=evaluations)
    low = [[0.9, 0.3]] * 5
    rows = rows_of(class_recall=[[0.9, 0.8]] * 3 + low + [[0.9, 0.8]] + low)
    expected = [(i + evaluations, "class_drop", 1) for i in (2, 8)]
    assert followed(rows, thresholds=thresholds) == expected


def test_how_far_a_class_may_drop():
    """0.15 and three standard errors of a recall of 0.8 among 100 samples, one more of each kind."""
    share = 81 / 102
    limit = 0.8 - 0.15 - 3 * math.sqrt(share * (1 - share) / 100)
    for recall, raised in ((limit + 1e-9, []), (limit - 1e-9, [(3, "class_drop", 1)])):
        rows = rows_of(class_recall=[[0.9, 0.8]] + [[0.9, recall]] * 3)
        assert followed(rows, samples=np.array([400, 100])) == raised
    (alarm,) = raised_last(rows, samples=np.array([400, 100]))
    assert (alarm.value, alarm.threshold) == (recall, pytest.approx(limit, rel=1e-14))
    assert alarm.reason == "recall 0.53 where it was 0.80 at step 10, 3 evaluations in a row"


def test_few_samples_say_little():
    rows = rows_of(class_recall=[[1.0, 1.0]] + [[0.0, 0.0]] * 4)
    assert followed(rows, samples=np.array([2, 400])) == [(3, "class_drop", 1)]


def test_a_gradient_that_jumps():
    """Above ten times the median; while it goes on it is not raised again."""
    rows = gradients(2.0, 1.0, 0.1, 0.1, 0.1, 0.1, 0.9, 1.1, 3.0, 2.5, 0.1, 13.0)
    assert followed(rows) == [(7, "gradient_jump", None), (11, "gradient_jump", None)]
    assert followed(rows, thresholds=Thresholds(gradient_jump=12.5)) == [
        (11, "gradient_jump", None)
    ]
    (alarm,) = raised_last(rows[:9])
    assert (alarm.value, alarm.threshold) == pytest.approx((1.1, 1.0), rel=1e-14)
    assert alarm.reason == "gradient norm 1.1 where the median so far is 0.1"


def test_weights_that_jump_are_no_gradient_that_does():
    """The norms before are held against it as they would have been under the weights of now."""
    norms, weights = [[1.0, 1.0]] * 4, [[1.0, 1.0]] * 3 + [[1.0, 100.0]]
    cosine = [[[1.0, -0.5], [-0.5, 1.0]]] * 4
    total = [np.sqrt(w @ cosine[0] @ w) / 2 for w in np.array(weights)]
    assert total[3] > 50 * total[2]
    rows = rows_of(
        gradient_norm=total, class_gradient_norm=norms, class_weight=weights, cosine=cosine
    )
    assert followed(rows, bounds=(0.0, np.inf)) == []
    rows[4]["class_gradient_norm"] = [1.0, 11.0]
    assert followed(rows, bounds=(0.0, np.inf)) == [(3, "gradient_jump", None)]


def test_a_gradient_that_jumps_again_after_a_roll_back():
    rows = gradients(1.0, 0.1, 0.1, 0.1, 50.0, 50.0)
    assert followed(rows) == [(4, "gradient_jump", None)]
    # rolled back after evaluation 4: the next is not the old jump going on
    assert [alarm.alarm for alarm in raised_last(rows, since=5)] == ["gradient_jump"]
    rows[5]["class_gradient_norm"] = [math.nan, math.inf]  # that is no part of the median
    assert [alarm.alarm for alarm in raised_last(rows, since=5)] == ["gradient_jump"]


@pytest.mark.parametrize("bound", [0.2, 5.0])
def test_a_weight_at_a_bound(bound):
    rows = rows_of(class_weight=[[1.0, 1.0]] * 2 + [[1.0, bound]] * 6)
    assert followed(rows) == [(4, "weight_at_bound", 1)]
    from_the_start = rows_of(class_weight=[[1.0, bound]] * 8)
    from_the_start[0] = UNTRAINED | {"class_weight": [1.0, bound]}
    assert followed(from_the_start) == []  # it is meant to be there
    assert followed(rows, bounds=(0.0, np.inf)) == []
    assert followed(rows_of(class_weight=[[1.0, 1.0]] + [[1.0, 1.01 * bound]] * 6)) == []


def test_calibration_that_worsens():
    limit = 0.05 + 0.1 + 3 * math.sqrt(0.25 / 800)  # of all samples
    for error, raised in ((limit - 1e-9, []), (limit + 1e-9, [(4, "calibration_drop", None)])):
        assert followed(rows_of(calibration_error=[0.05, 0.05] + [error] * 5)) == raised


@pytest.mark.parametrize("name", ["loss", "gradient_norm"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite(name, value):
    """At once, and alone: other numbers say nothing then."""
    rows = rows_of(
        **{name: [GOOD[name]] * 2 + [value]}, class_recall=[[0.9, 0.8]] + [[0.0, 0.0]] * 2
    )
    assert followed(rows, thresholds=Thresholds(class_drop_evaluations=2)) == [
        (2, "not_finite", None)
    ]


def test_counting_begins_anew_after_a_roll_back():
    rows = rows_of(class_recall=[[0.9, 0.8]] + [[0.9, 0.1]] * 8)
    assert followed(rows) == [(3, "class_drop", 1)]
    assert [i for i in range(4, 9) if raised_last(rows[: i + 2], since=4)] == [6]


def test_an_untrained_network_is_no_reference():
    """While nothing else is the best evaluation, nothing can have become worse than it, and no
    gradient has jumped from it."""
    rows = rows_of(
        class_recall=[[0.0, 0.0]] * 4,
        class_gradient_norm=[[1.0, 1.0]] * 4,
        calibration_error=[0.9] * 4,
    )
    for best in (0, 1):
        for last in range(1, 5):
            raised = alarms.raised(
                rows[: last + 1],
                rows[best],
                0,
                rows[: last + 1],
                SHARES,
                SAMPLES,
                (0.2, 5.0),
                Thresholds(),
            )
            assert not raised


def test_a_bound_that_is_reached_only_warns(monkeypatch):
    """To be reached is what it is for: a run goes on at its rate, and its evaluation may be the best.
    What is raised beside it acts as it would."""
    bound = Alarm(20, "weight_at_bound", 2, 5.0, 5.0, "planted")
    jump = Alarm(40, "gradient_jump", None, 2.0, 1.0, "planted")
    raised_alarms = {20: [bound], 40: [bound._replace(step=40), jump]}
    monkeypatch.setattr(alarms, "raised", lambda rows, *_: raised_alarms.get(rows[-1]["step"], []))
    run = trained(task_of(0), options(num_steps=60, action="roll_back"))
    assert [(alarm.alarm, alarm.step, action) for alarm, action in run.alarms] == [
        ("weight_at_bound", 20, "warn"),
        ("weight_at_bound", 40, "warn"),
        ("gradient_jump", 40, "roll_back"),
    ]
    assert (run.rollbacks, run.rate_scale) == (1, 0.5)
    only = trained(task_of(0), options(num_steps=30, action="stop"))
    assert (only.status, only.step) == ("finished", 30)


def test_a_run_stopped_at_once_keeps_what_was_trained(monkeypatch):
    monkeypatch.setattr(
        alarms, "raised", lambda rows, *_: [Alarm(10, "gradient_jump", None, 2, 1, "")]
    )
    run = trained(task_of(0), options(num_steps=60, action="stop"))
    assert (run.status, run.step, run.best_row) == ("stopped by an alarm", 10, 1)
    assert run.best is run.state


def test_remarks():
    """Each for its own reason: a run that an alarm ended was not stopped early."""
    alarm = (Alarm(10, "gradient_jump", None, 2.0, 1.0, "why"), "stop")
    about = [0, 1], 1, 5, 10.0
    assert alarms.remarks([], *about, "finished")[0].startswith(
        "early stopping kept the network of"
    )
    ended = alarms.remarks([alarm], *about, "stopped by an alarm")
    assert ended == [
        "alarm at step 10: gradient_jump: why; stopping",
        "an alarm ended training; the network of evaluation 1 is kept",
    ]
    assert alarms.remarks([], [0, 1], 3, 5, 10.0, "finished") == []
    (few,) = alarms.remarks([], [0, 1], 3, 5, 0.5, "finished")
    assert few.startswith("num_steps asks for 0.5 passes")
    (untrained,) = alarms.remarks([], [0, 1], 0, 1, 9.0, "not finite")
    assert untrained.startswith("the network kept is untrained")


def test_what_is_said():
    alarm = Alarm(120, "class_drop", 1, 0.2, 0.5, "recall 0.20")
    line = alarms.sentence(alarm, "roll_back", ["a", "b"])
    assert line == "step 120: class_drop of class b: recall 0.20; rolling back"
    line = alarms.sentence(Alarm(5, "gradient_jump", None, 9.0, 1.0, "why"), "warn", ["a", "b"])
    assert line == "step 5: gradient_jump: why; going on"


@pytest.mark.parametrize(
    "wrong",
    [
        {"class_drop": -0.1},
        {"gradient_jump": 0.5},
        {"calibration_drop": math.nan},
        {"class_drop_evaluations": 0},
        {"weight_at_bound_evaluations": 1.5},
        {"calibration_drop_evaluations": True},
    ],
    ids=str,
)
def test_thresholds_that_mean_nothing(wrong):
    with pytest.raises(ssm.InputError, match=next(iter(wrong))):
        Thresholds(**wrong)


# Planted in training, from step 100 on

PLANTED = 100


def task_of(seed, distance=3.0):
    train = gaussians(np.random.default_rng(seed), (150, 60, 30), distance)
    held = gaussians(np.random.default_rng(1000 + seed), (200, 80, 40), distance)
    both = equal_samples(*train), equal_samples(*held)
    return tasks.make_task(*both, np.ones(3), DENSE, "float64", seed)


def options(**changes):
    own = {
        "num_steps": 240,
        "batch_size": 64,
        "learning_rate": 0.02,
        "optimizer": "adam",
        "loss": losses.adjustment([1, 1, 1]),
        "thresholds": Thresholds(),
    }
    return training_options(**(own | changes))


def trained(task, chosen, run=None):
    if run is None:
        params = networks.init_params(DENSE, 8, 3, np.random.default_rng(chosen.seed), "float64")
        run = training.begin(task, chosen, params)
    return training.train(task, chosen, run._replace(status="running"))


def kinds(run):
    return [(alarm.alarm, alarm.class_index, alarm.step) for alarm, _ in run.alarms]


@pytest.mark.parametrize("seed", range(3))
def test_a_rate_that_jumps(seed):
    """By far: at the first evaluation after it. A thousandfold rate of 20 raises an alarm there in ten
    of twelve runs; from smaller jumps most recover, and those that do not lose a class."""
    chosen = options(learning_rate=lambda step: 0.02 if step < PLANTED else 1000.0, seed=seed)
    run = trained(task_of(seed), chosen)
    assert kinds(run)[0] == ("gradient_jump", None, PLANTED + EVALUATE_EVERY)


@pytest.mark.parametrize("c", range(3))
def test_a_class_whose_labels_are_corrupted(c):
    """All of its training samples are labelled as another: its recall is gone after two
    evaluations at most, and at the third without it that is said, once."""
    task = task_of(c)
    before = trained(task, options(num_steps=PLANTED))
    assert not before.alarms
    labels = task.labels.copy()
    labels[: task.num_samples][labels[: task.num_samples] == c] = (c + 1) % 3
    run = trained(task._replace(labels=labels), options(), before)
    raised = [step for name, of_class, step in kinds(run) if (name, of_class) == ("class_drop", c)]
    recall = np.array([row["class_recall"][c] for row in run.rows])
    first = EVALUATE_EVERY * int(np.flatnonzero(recall > 0.5).max() + 1)  # evaluation without it
    assert len(raised) == 1
    assert raised[0] <= first + 2 * EVALUATE_EVERY
    assert raised[0] <= PLANTED + 4 * EVALUATE_EVERY


@pytest.mark.parametrize("seed", range(3))
def test_weights_that_run_to_their_bound(seed):
    """For a class that held-out samples show to be never right, whatever its weight is."""
    weights = Chain(Trend(strength=5.0, memory=0.9), CappedUnitMean(0.2, 5.0))
    task = task_of(seed)
    before = trained(task, options(num_steps=PLANTED, schedule=weights))
    X = np.array(task.watched.X)
    X[280:320] = X[:40]  # of class 2, but they look like class 0
    task = task._replace(watched=task.watched._replace(X=X))
    run = trained(task, options(schedule=weights), before)
    new = [entry for entry in kinds(run) if entry[0] == "weight_at_bound" and entry[2] > PLANTED]
    weight = np.array([row["class_weight"][2] for row in run.rows])
    there = EVALUATE_EVERY * int(np.flatnonzero(weight[11:] == 5)[0] + 11)
    assert new == [("weight_at_bound", 2, there + 2 * EVALUATE_EVERY)]
    assert there <= PLANTED + 2 * EVALUATE_EVERY


@pytest.mark.parametrize("seed", range(3))
def test_calibration_that_is_made_worse(seed):
    """Logits times 50 on classes that overlap: the same predictions, and all of them sure."""
    task = task_of(seed, distance=0.8)
    before = trained(task, options(num_steps=PLANTED))
    assert not before.alarms
    *others, last = before.state.params
    sure = (*others, jax.tree.map(lambda x: 50 * x, last))
    before = before._replace(state=before.state._replace(params=sure))
    run = trained(task, options(learning_rate=1e-12), before)
    raised_alarms = collections.Counter(kinds(run))
    assert raised_alarms.pop(("calibration_drop", None, PLANTED + 3 * EVALUATE_EVERY)) == 1
    # and the gradient of what is surely wrong is as much larger: once, though it goes on
    assert raised_alarms == {("gradient_jump", None, PLANTED + EVALUATE_EVERY): 1}


def test_a_loss_that_is_not_finite():
    run = trained(task_of(0), options(learning_rate=lambda step: 0.02 if step < PLANTED else 1e200))
    assert kinds(run) == [("not_finite", None, PLANTED + EVALUATE_EVERY)]
    assert run.status == "not finite"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ssm.practice.alarms.TrainingWarning")
def test_clean_runs_are_quiet():
    """Runs of every strategy on data that are easy, hard and few: less than 5 % with an alarm. An
    adaptive weight that comes to its bound is there; that is no false alarm."""
    datasets = [((200, 60, 20), 2.5), ((200, 60, 20), 1.5), ((50, 20, 6), 2.5)]
    false = {}
    for i, (counts, distance) in enumerate(datasets):
        X, y = gaussians(np.random.default_rng(i), counts, distance)
        for name, (_, parameters) in STRATEGIES.items():
            classifier = ReweightedClassifier(
                **parameters(120),
                hidden_layer_sizes=(8,),
                learning_rate=0.02,
                batch_size=64,
                num_steps=120,
                evaluate_every=EVALUATE_EVERY,
                early_stopping=True,
                patience=120,
                random_state=i,
            ).fit(X, y)
            raised = {alarm.alarm for alarm, _ in classifier.alarms_}
            if name in ("adaptive", "clipped"):
                raised -= {"weight_at_bound"}
            if raised:
                false[name, i] = raised
    assert len(false) < 0.05 * len(datasets) * len(STRATEGIES), false
