"""The monitor of training loops elsewhere: it decides as this project's own training does."""

import math
import pickle
from typing import Any

import jax
import numpy as np
import pytest
from small_networks import DENSE, equal_samples, gaussians, training_options

import ssm
from ssm import losses
from ssm.practice import TrainingMonitor
from ssm.practice.network import networks, observing, tasks, training
from ssm.practice.network.alarms import Thresholds
from ssm.problem.schedules import CappedUnitMean, Chain, Trend

PLANTED = 60  # the step from which on a rate is too high
NUM_STEPS = 160


def jumping(rate):
    """A learning rate that is another from `PLANTED` on."""
    return lambda step: 0.02 if step < PLANTED else rate


ADAPTIVE = Chain(Trend(strength=5.0, memory=0.9), CappedUnitMean(0.8, 1.5))
RUNS = {
    "stopped early": {"patience": 40, "score": "balanced_log_loss"},
    "adaptive weights": {"schedule": ADAPTIVE, "score": "worst_class"},
    "rolled back": {"learning_rate": jumping(0.5), "action": "roll_back", "max_rollbacks": 1},
    "stopped by an alarm": {"learning_rate": jumping(30.0), "action": "stop"},
    "not finite": {"learning_rate": jumping(1e200)},
    "not finite, rolled back": {"learning_rate": jumping(1e200), "action": "roll_back"},
    "average precision": {"score": "macro_average_precision", "patience": 60},
}
MUST_BE = {
    "stopped early": "stopped early",
    "stopped by an alarm": "stopped by an alarm",
    "not finite": "not finite",
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_of_our_own_is_judged_as_it_judged_itself(monkeypatch, name):
    """Of nothing but the logits of its evaluations, its weights and its gradients: after each of them the same
    alarms, the same best network, the same stop."""
    logits, measure = [], observing.observe

    def kept(*args):
        observed = measure(*args)
        logits.append(np.asarray(jax.device_get(observed.logits), float))
        return observed

    monkeypatch.setattr(observing, "observe", kept)
    train = gaussians(np.random.default_rng(0), (150, 60, 30), 1.5)
    held = gaussians(np.random.default_rng(1), (100, 60, 40), 1.5)
    both = equal_samples(*train), equal_samples(*held)
    task = tasks.make_task(*both, np.ones(3), DENSE, "float64", 0)
    own = {
        "num_steps": NUM_STEPS,
        "batch_size": 64,
        "learning_rate": 0.02,
        "optimizer": "adam",
        "loss": losses.adjustment([1, 1, 1]),
        "thresholds": Thresholds(gradient_jump=3.0, class_drop=0.0, class_drop_evaluations=1),
    }
    options = training_options(**(own | RUNS[name]))
    params = networks.init_params(DENSE, 8, 3, np.random.default_rng(0), "float64")
    begun, after = training.begin(task, options, params), []
    last = training.train(task, options, begun, after.append)
    assert last.status == MUST_BE.get(name, last.status)
    monitor = TrainingMonitor(
        both[1].labels,
        task.class_counts,
        score=options.score,
        patience=options.patience,
        alarm_thresholds=options.thresholds,
        alarm_action=options.action,
        max_rollbacks=options.max_rollbacks,
        weight_bounds=(0.0, np.inf) if options.schedule is None else options.schedule.bounds,
    )
    raised = []
    for number, run in enumerate([begun, *after]):
        row = run.rows[number]
        norms = np.array(row["class_gradient_norm"])
        decision = monitor.observe(
            row["step"],
            logits[number][: len(both[1].labels)],
            row["class_weight"],
            gradient_products=np.array(row["cosine"]) * norms[:, None] * norms,
        )
        raised += decision.alarms
        rolled_back = number > 0 and run.rollbacks > after[number - 2].rollbacks * (number > 1)
        assert decision.best_step == run.rows[run.best_row]["step"]
        assert decision.is_best == (run.best_row == number)
        assert decision.is_kept == (run.kept_row == number)
        assert decision.roll_back_to == (decision.best_step if rolled_back else None)
        assert decision.learning_rate_factor == run.rate_scale
        assert decision.stop == (
            run.status in ("stopped early", *training.decisions.ENDED_BY_ALARM)
        )
        assert decision.status == run.status or run.status == "finished"
        np.testing.assert_array_equal(decision.class_recall, row["class_recall"])
    expected = [alarm for alarm, _ in last.alarms]
    assert [alarm[:3] for alarm in raised] == [alarm[:3] for alarm in expected]
    for mine, theirs in zip(raised, expected, strict=True):
        # sums over tens of samples, and square roots of products of gradients
        np.testing.assert_allclose(mine[3:5], theirs[3:5], rtol=1e-10)
    if name == "rolled back":
        assert last.rollbacks == 1 and last.status == "stopped by an alarm"
    if name == "adaptive weights":
        assert "weight_at_bound" in [alarm.alarm for alarm in expected]


LABELS = np.repeat([0, 1], 50)
RIGHT = 4 * np.eye(2)[LABELS]


def followed(monitor, sizes, **given):
    """Decisions on evaluations of which each has logits of a size: 0 is chance, 1 all right and sure."""
    return [
        monitor.observe(10 * i, size * RIGHT, **{name: x[i] for name, x in given.items()})
        for i, size in enumerate(sizes)
    ]


def test_probabilities_are_as_good_as_logits():
    by_logits = TrainingMonitor(LABELS, [90, 10], patience=20)
    by_probabilities = TrainingMonitor(LABELS, [90, 10], patience=20)
    rng = np.random.default_rng(0)
    for step in range(0, 50, 10):
        z = RIGHT / 4 + rng.normal(size=RIGHT.shape)
        p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
        one, other = by_logits.observe(step, z), by_probabilities.observe(step, probabilities=p)
        assert one.score == pytest.approx(other.score, rel=1e-13)  # the logarithm of an exponential
        assert one[:7] == other[:7]


def test_weights_are_taken_off_before_log_losses_are_compared():
    """Logits that hold n_c w_c beside the samples' own evidence score as the evidence alone does."""
    counts, weights = np.array([90.0, 10.0]), np.array([0.5, 2.0])
    evidence = np.random.default_rng(0).normal(size=RIGHT.shape) + RIGHT / 4
    z = evidence + np.log(counts * weights)
    found = TrainingMonitor(LABELS, counts).observe(5, z, weights).score
    of_label = evidence[np.arange(100), LABELS]
    log_losses = np.log(np.exp(evidence).sum(1)) - of_label
    expected = -np.mean([log_losses[c == LABELS].mean() for c in range(2)])
    assert found == pytest.approx(expected, rel=1e-13)  # sums of 50 numbers near 1


def test_a_gradient_norm_is_held_against_those_under_other_weights():
    """In proportion to the mean weight of a sample: ten times the weights are no jump, ten times the gradient is."""
    sizes = [0, 0.2, 0.3, 0.4, 0.5]
    monitor = TrainingMonitor(LABELS, [90, 10])
    weights = [[1, 1]] * 4 + [[20.0, 20.0]]
    decisions = followed(monitor, sizes, gradient_norm=[9, 1, 1, 1, 20.0], class_weights=weights)
    assert not any(decision.alarms for decision in decisions)
    monitor = TrainingMonitor(LABELS, [90, 10], alarm_action="roll_back")
    *_, last = followed(monitor, sizes, gradient_norm=[9, 1, None, 1, 10.1])
    (alarm,) = last.alarms
    assert (alarm.alarm, alarm.value, alarm.threshold) == ("gradient_jump", 10.1, 10)
    assert (last.roll_back_to, last.learning_rate_factor, last.go_on) == (30, 0.5, True)
    assert last.sentences == (
        "step 40: gradient_jump: gradient norm 10.1 where the median so far is 1; rolling back",
    )


@pytest.mark.parametrize("wrong", [{"gradient_norm": math.nan}, {"logits": math.nan * RIGHT}])
def test_what_is_not_finite_stops_training(wrong):
    monitor = TrainingMonitor(LABELS, [90, 10], class_names=["a", "b"])
    followed(monitor, [0, 0.5])
    decision = monitor.observe(30, **({"logits": RIGHT} | wrong))
    assert (decision.status, decision.stop, decision.final_step) == ("not finite", True, 10)
    assert [alarm.alarm for alarm in decision.alarms] == ["not_finite"]
    with pytest.raises(ssm.InputError, match="training was to stop at step 30"):
        monitor.observe(40, RIGHT)


def test_without_the_start_the_first_evaluation_is_the_best_so_far():
    monitor = TrainingMonitor(LABELS, [90, 10], patience=20)
    decisions = [
        monitor.observe(step, size * RIGHT) for step, size in ((7, 0.5), (20, 0.1), (30, 0.1))
    ]
    assert [decision.is_best for decision in decisions] == [True, False, False]
    assert decisions[-1].status == "stopped early" and decisions[-1].final_step == 7


def test_a_class_is_called_by_its_name():
    """Of 50 samples the recall may fall by 0.15 and three standard errors, 0.056 by one more of each kind."""
    names = ["benign", "rare"]
    monitor = TrainingMonitor(LABELS, [90, 10], alarm_action="stop", class_names=names)
    good, bad = RIGHT, np.where((LABELS == 1)[:, None], 1 - RIGHT, RIGHT)
    decisions = [monitor.observe(10 * i, z) for i, z in enumerate([good, good, bad, bad, bad])]
    assert [decision.go_on for decision in decisions] == [True] * 4 + [False]
    assert decisions[-1].sentences[0].startswith("step 40: class_drop of class rare: recall 0.00")
    assert decisions[-1].final_step == 10


def test_a_monitor_goes_on_after_it_was_stored():
    one = TrainingMonitor(LABELS, [90, 10], patience=20, weight_bounds=(0.2, 5.0))
    followed(one, [0, 0.5, 0.4])
    other = pickle.loads(pickle.dumps(one))
    mine, theirs = one.observe(30, 0.1 * RIGHT), other.observe(30, 0.1 * RIGHT)
    assert mine[:-1] == theirs[:-1] and mine.stop


UNTYPED: Any = TrainingMonitor  # what is wrong is wrong on purpose
BAD = {
    "labels": lambda: UNTYPED([0, 0], [1, 1]),
    "class_counts": lambda: UNTYPED([0, 1], [1, 0]),
    "class_counts=.*two classes": lambda: UNTYPED([0, 0], [3]),
    "score": lambda: UNTYPED([0, 1], [1, 1], score="f1"),
    "patience": lambda: UNTYPED([0, 1], [1, 1], patience=0),
    "alarm_action": lambda: UNTYPED([0, 1], [1, 1], alarm_action="panic"),
    "alarm_thresholds": lambda: UNTYPED([0, 1], [1, 1], alarm_thresholds=0.1),
    "class_names": lambda: UNTYPED([0, 1], [1, 1], class_names=["a"]),
    "weight_bounds": lambda: UNTYPED([0, 1], [1, 1], weight_bounds=(1.0,)),
    "logits": lambda: UNTYPED(LABELS, [1, 1]).observe(0),
    "logits=.*shape": lambda: UNTYPED(LABELS, [1, 1]).observe(0, RIGHT.T),
    "probabilities": lambda: UNTYPED(LABELS, [1, 1]).observe(0, probabilities=RIGHT),
    "class_weights": lambda: UNTYPED(LABELS, [1, 1]).observe(0, RIGHT, [1, 0]),
    "class_weights=.*one a class": lambda: UNTYPED(LABELS, [1, 1]).observe(0, RIGHT, [1]),
    "gradient_norm": lambda: UNTYPED(LABELS, [1, 1]).observe(
        0, RIGHT, gradient_norm=1.0, gradient_products=np.eye(2)
    ),
    "gradient_products": lambda: UNTYPED(LABELS, [1, 1]).observe(
        0, RIGHT, gradient_products=np.eye(3)
    ),
    "step=-1": lambda: UNTYPED(LABELS, [1, 1]).observe(-1, RIGHT),
    "step=10": lambda: again(),
}


def again():
    monitor = TrainingMonitor(LABELS, [1, 1])
    followed(monitor, [0, 1])
    monitor.observe(10, RIGHT)


@pytest.mark.parametrize("field", BAD)
def test_what_cannot_be_judged_is_refused(field, untyped):
    with pytest.raises(ssm.InputError, match=f"^{field}"):
        BAD[field]()
