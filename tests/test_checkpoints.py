"""Runs that are killed go on to the same bits, and nothing else goes on from them."""

import functools
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import fuzz_stores
import jax
import numpy as np
import optax
import pytest
from small_networks import COUNTS, gaussians

import ssm
from ssm.practice.network import alarms, training
from ssm.practice.network.checkpoints import Checkpoints, fingerprint
from ssm.practice.network.estimator import ReweightedClassifier
from ssm.problem.schedules import CappedUnitMean, Chain, LinearRamp, Ramp, Trend

pytestmark = pytest.mark.filterwarnings("ignore::ssm.practice.alarms.TrainingWarning")


def data():
    return gaussians(np.random.default_rng(0), COUNTS, 1.5)


def rate(step):
    """Jumps at step 20, so that there are alarms and roll-backs to keep."""
    return 0.02 if step < 20 else 1000.0


def classifier(folder=None, **changes):
    """Everything that a run may hold: a moving average of recalls, Adam's moments, alarms."""
    parameters = {
        "schedule": Chain(Trend(strength=2.0, memory=0.9), CappedUnitMean(0.2, 5.0)),
        "hidden_layer_sizes": (8,),
        "learning_rate": rate,
        "batch_size": 64,
        "num_steps": 55,
        "evaluate_every": 10,
        "early_stopping": True,
        "alarm_action": "roll_back",
        "random_state": 0,
        "checkpoint_dir": folder,
    }
    return ReweightedClassifier(**(parameters | changes))


def assert_same(a, b):
    for x, y in zip(jax.tree.leaves(a.params_), jax.tree.leaves(b.params_), strict=True):
        np.testing.assert_array_equal(x, y)
    assert a.history_.identical(b.history_)
    assert a.alarms_ == b.alarms_
    for name in ("status_", "best_step_", "n_steps_", "temperature_"):
        assert getattr(a, name) == getattr(b, name)
    np.testing.assert_array_equal(a.class_weights_, b.class_weights_)


@pytest.fixture(scope="module")
def whole():
    obtained = classifier().fit(*data())
    assert [action for _, action in obtained.alarms_].count("roll_back") >= 2
    assert obtained.n_steps_ == 55
    return obtained


class Killed(BaseException):
    """Nothing catches it."""


# In one process


@pytest.mark.parametrize(
    "evaluation",
    [1, *(pytest.param(number, marks=pytest.mark.slow) for number in (3, 4)), 6],
)
def test_a_run_killed_at_any_evaluation(whole, tmp_path, monkeypatch, evaluation):
    """Before it is kept; with those kept before it, it ends as if it had not been."""
    save = Checkpoints.save

    def killed(self, run):
        if len(run.rows) - 1 == evaluation:
            raise Killed
        save(self, run)

    monkeypatch.setattr(Checkpoints, "save", killed)
    with pytest.raises(Killed):
        classifier(tmp_path).fit(*data())
    monkeypatch.undo()
    begun = []
    interval = training._advance_interval
    monkeypatch.setattr(
        training,
        "_advance_interval",
        lambda task, options, run: begun.append(run.step) or interval(task, options, run),
    )
    resumed = classifier(tmp_path).fit(*data())
    assert begun == list(range(10 * (evaluation - 1), 55, 10))  # no step is made again
    assert_same(whole, resumed)


def test_a_run_that_ended_is_not_run_again(whole, tmp_path, monkeypatch):
    assert_same(whole, classifier(tmp_path).fit(*data()))
    monkeypatch.delattr(training, "_advance_interval")
    assert_same(whole, classifier(str(tmp_path)).fit(*data()))
    assert len([path for path in tmp_path.iterdir() if path.name.isdigit()]) == 2  # the newest


def test_other_data_and_parameters_are_refused(tmp_path):
    X, y = data()
    classifier(tmp_path, num_steps=10).fit(X, y)
    other = X.copy()
    other[3, 2] = np.nextafter(other[3, 2], 9)
    later = {"learning_rate": lambda step: rate(step + 11)}
    for changed, features in (
        ({}, other),
        ({"momentum": 0.8}, X),
        ({"random_state": 1}, X),
        (later, X),
    ):
        with pytest.raises(ssm.InputError) as refused:
            classifier(tmp_path, **({"num_steps": 10} | changed)).fit(features, y)
        message = str(refused.value)
        assert message.startswith(f"checkpoint_dir='{tmp_path}': must be an empty folder")
        assert "\n" not in message


def test_a_file_is_no_folder(tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(ssm.InputError, match=r"^checkpoint_dir='.*file': must be a folder"):
        classifier(path).fit(*data())


# What is damaged


@pytest.fixture(scope="module")
def kept(whole, tmp_path_factory):
    """The points of a run that has ended: steps 50 and 55."""
    folder = tmp_path_factory.mktemp("kept") / "points"
    assert_same(whole, classifier(folder).fit(*data()))
    assert sorted(path.name for path in folder.iterdir()) == ["50", "55"]
    return folder


@pytest.fixture
def copy(kept, tmp_path):
    return Path(shutil.copytree(kept, tmp_path / "points"))


def steps_made(folder, monkeypatch):
    """The fit, and the steps from which it trains on."""
    begun, interval = [], training._advance_interval

    def counted(task, options, run):
        begun.append(run.step)
        return interval(task, options, run)

    monkeypatch.setattr(training, "_advance_interval", counted)
    return classifier(folder).fit(*data()), begun


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def change_a_number(point):
    path = point / "record" / "metadata"
    path.write_text(path.read_text().replace('"rate_scale": 0.25', '"rate_scale": 0.75'))


def flip(path):
    contents = bytearray(path.read_bytes())
    contents[len(contents) // 2] ^= 1
    path.write_bytes(contents)


DAMAGES = {
    "metadata": lambda point: cut(point / "arrays" / "_METADATA"),
    "manifest": lambda point: cut(point / "arrays" / "manifest.ocdbt"),
    "arrays": lambda point: flip(next((point / "arrays" / "d").iterdir())),
    "a number": change_a_number,
    "the fingerprint": lambda point: flip(point / "whole.json"),
    "no digest": lambda point: (point / "whole.json").unlink(),
    "no record": lambda point: shutil.rmtree(point / "record"),
    "nothing in it": lambda point: [shutil.rmtree(point), point.mkdir()],
    "another point": lambda point: [
        shutil.rmtree(point),
        shutil.copytree(point.with_name("50"), point),
    ],
}


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_point_is_made_again_from_the_one_before(whole, copy, monkeypatch, caplog, how):
    DAMAGES[how](copy / "55")
    obtained, begun = steps_made(copy, monkeypatch)
    assert begun == [50]
    assert_same(whole, obtained)
    (message_part,) = [
        record.getMessage() for record in caplog.records if record.levelname == "WARNING"
    ]
    assert (
        message_part.startswith(f"checkpoint {copy / '55'} is damaged") and "\n" not in message_part
    )
    assert_same(whole, classifier(copy).fit(*data()))
    assert begun == [50]  # what was made again is whole


def test_without_a_whole_point_a_run_begins_anew(whole, copy, monkeypatch):
    for step in ("50", "55"):
        cut(copy / step / "record" / "metadata")
    obtained, begun = steps_made(copy, monkeypatch)
    assert begun == [0, 10, 20, 30, 40, 50]
    assert_same(whole, obtained)


def test_a_damaged_point_of_another_run_is_left_alone(copy):
    for step in ("50", "55"):
        cut(copy / step / "record" / "metadata")
    before = sorted(copy.rglob("*"))
    with pytest.raises(ssm.InputError, match=r"^checkpoint_dir=.*same data and parameters$"):
        classifier(copy, momentum=0.8).fit(*data())
    assert sorted(copy.rglob("*")) == before


def test_what_is_no_point_is_left_alone(tmp_path):
    (tmp_path / "2024").mkdir()
    (tmp_path / "2024" / "photo.jpg").write_text("precious")
    with pytest.raises(ssm.InputError, match=r"^checkpoint_dir=.*must be an empty folder"):
        classifier(tmp_path).fit(*data())
    assert (tmp_path / "2024" / "photo.jpg").read_text() == "precious"


def test_a_folder_is_of_one_fit_at_a_time(copy):
    """Until it has ended, whichever way."""
    mark = (copy / "55" / "whole.json").read_text()
    first = Checkpoints(copy, re.findall("[0-9a-f]{64}", mark)[0])
    with pytest.raises(ssm.InputError, match=r"^checkpoint_dir=.*no other fit is at work$"):
        classifier(copy).fit(*data())
    first.close()
    classifier(copy).fit(*data())


def test_what_a_killed_fit_has_left_is_swept(copy):
    (copy / "60.orbax-checkpoint-tmp-1").mkdir()
    classifier(copy).fit(*data())
    assert sorted(path.name for path in copy.iterdir()) == ["50", "55"]


@pytest.mark.parametrize("cases", [12, pytest.param(60, marks=pytest.mark.slow)])
def test_whatever_is_changed_a_fit_ends_in_the_same_bits(cases):
    counts, bad = fuzz_stores.fuzz("fit", cases, seed=cases)
    assert not bad, bad[0]
    assert counts.total() == counts["as written"] == cases


# What tells runs apart


def closed_over(value):
    return lambda step: value * step


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.zeros(3), np.zeros((3, 1))),
        (np.zeros(3), np.zeros(3, np.float32)),
        (np.array([0.0]), np.array([-0.0])),
        ({"a": 1}, {"b": 1}),
        (None, ()),
        (1, 2),
        (alarms.Thresholds(), alarms.Thresholds(class_drop=0.2)),
        (Trend(1.0, 0.9), Trend(1.0, 0.8)),
        (CappedUnitMean(0.2, 5.0), ssm.schedules.Clip(0.2, 5.0)),
        (LinearRamp(0, 10), LinearRamp(0, 11)),
        (optax.linear_schedule(0, 1, 10), optax.linear_schedule(0, 1, 11)),
        (optax.cosine_decay_schedule(1, 10), optax.linear_schedule(1, 0, 10)),
        (optax.sgd(1.0, 0.9), optax.sgd(1.0, 0.8)),
        (optax.sgd(1.0), optax.adam(1.0)),
        (
            Ramp(optax.linear_schedule(0, 1, 10), Trend(1.0, 0.9)),
            Ramp(optax.linear_schedule(0, 1, 11), Trend(1.0, 0.9)),
        ),
        (closed_over(1), closed_over(2)),
        (lambda step: step + 1, lambda step: step + 2),
        (lambda step, by=1: step + by, lambda step, by=2: step + by),
        (functools.partial(max, 1), functools.partial(max, 2)),
    ],
    ids=[str(i) for i in range(19)],
)
def test_what_differs_has_another_fingerprint(one, other):
    assert fingerprint({"x": one}) != fingerprint({"x": other})


@pytest.mark.parametrize(
    "make",
    [
        lambda: {"x": np.arange(3.0), "y": [1, "a"]},
        lambda: closed_over(1),
        lambda: optax.chain(optax.clip(1.0), optax.adam(optax.linear_schedule(0, 1, 10))),
        lambda: Ramp(optax.linear_schedule(0, 1, 10), Trend(1.0, 0.9)),
        lambda: np.random.RandomState(0),
    ],
    ids=["arrays", "function", "optimizer", "schedule", "random state"],
)
def test_what_is_made_anew_has_the_same_fingerprint(make):
    """Where in memory things are says nothing."""
    one, other = make(), make()
    assert fingerprint(one) == fingerprint(other)
    assert re.fullmatch("[0-9a-f]{64}", fingerprint(one))


def test_use_does_not_change_a_fingerprint():
    """Of a schedule that turns an integer it holds into a float when it is called."""
    schedule = optax.cosine_decay_schedule(0.1, 10)
    unused = fingerprint(schedule)
    schedule(0)
    assert fingerprint(schedule) == unused


# In another process

LATE = {"num_steps": 200, "learning_rate": optax.cosine_decay_schedule(0.02, 200), "patience": 200}
SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from test_checkpoints import LATE, classifier, data
classifier(sys.argv[2], **LATE).fit(*data())
"""


@pytest.mark.slow
def test_kill_9(tmp_path):
    """Another process, killed by the system after a few evaluations: its fingerprint is the same
    here, and what it kept is whole."""
    arguments = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent), str(tmp_path)]
    child = subprocess.Popen(arguments)
    deadline = time.monotonic() + 120
    while not (tmp_path / "30").is_dir():
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert not (tmp_path / "200").exists()
    assert_same(classifier(**LATE).fit(*data()), classifier(tmp_path, **LATE).fit(*data()))
