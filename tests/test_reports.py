"""What a log of a network says in words, of logs whose times, couplings and weights are planted."""

import re
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

import ssm
from ssm.cli import showing
from ssm.results import logs
from ssm.tracking import alarms, comparisons, expectations, reports
from ssm.tracking.alarms import Alarm

CALM: dict[str, Any] = {"on_alarm": lambda alarm: None}
STEPS = tuple(range(0, 41, 2))


def features_of(labels, coupling):
    """One class direction and one direction of its own a sample, orthonormal: K = (1 - c) I + c 11^T within classes."""
    n, k = len(labels), labels.max() + 1
    return np.hstack([np.sqrt(coupling) * np.eye(k)[labels], np.sqrt(1 - coupling) * np.eye(n)])


def planted(times, counts=(40, 40, 4, 4), coupling=0.1, steps=STEPS, weights=None, bad=(), **given):
    """A log in which the strength of each block, `times` by block, rises evenly and has half its target at that time."""
    labels = np.repeat(np.arange(len(counts)), counts)
    present = np.unique(labels)
    tracker = ssm.Tracker(labels, classes=len(counts), **{**CALM, **given})
    components = tracker.probe.components
    simplex = (np.eye(len(present)) - 1 / len(present))[:, np.searchsorted(present, labels)]
    H = None if coupling is None else features_of(np.searchsorted(present, labels), coupling)
    W = np.ones((len(counts), 2))
    for step in steps:
        shares = np.array([step / (2 * times[block]) for block in components.blocks])
        logits = np.zeros((len(labels), len(counts)))
        logits[:, present] = (components.left * shares @ components.left.T @ simplex).T
        if step in bad:
            logits[0] = np.nan
        of_step = weights(step) if callable(weights) else weights
        tracker.add(step, logits, H, gradient=W if H is not None else None, weights=of_step)
    return tracker


def paragraph(said, begin):
    """The paragraph of a report, or of that of a tracker, that begins so."""
    lines = (said if isinstance(said, str) else said.report()).splitlines()
    (found,) = (line for line in lines if line.startswith(begin))
    return found


def power(counts, g):
    return np.asarray(counts, float) ** -g


AS_ERM = {"majority": 10.0, "cross": 12.5, "minority": 30.0}
REVERSED = {"majority": 30.0, "cross": 32.5, "minority": 10.0}
CLOSE = {"majority": 9.5, "cross": 12.5, "minority": 10.5}


def test_blocks_and_ratios_are_those_that_were_planted():
    tracker = planted(AS_ERM)
    assert paragraph(tracker, "Blocks").endswith("majority at 10, cross at 12.5, minority at 30.")
    # kappa_c = 1 + c (n_c - 1) and 1 / r_c in proportion to 1 / sqrt(n_c kappa_c) under ERM
    wanted = np.sqrt(40 * 4.9 / (4 * 1.3))
    assert f": 3 here, {wanted:.3g} in the model." in paragraph(tracker, "Learning time")
    said = paragraph(tracker, "Model")
    # g* = 1/2 + 1/2 log(kappa_maj / kappa_min) / log R
    star = 0.5 + 0.5 * np.log(4.9 / 1.3) / np.log(10)
    assert f"g* = {star:.2f}" in said and f"2 g* - 1 = {2 * star - 1:.2f}" in said
    assert "0.1 at step 0" in said and "g = 0 (no weights were given)" in said
    assert "Ratios of learning times do not carry over" in tracker.report()


@pytest.mark.parametrize(
    ("times", "exponent", "said"),
    [
        (AS_ERM, 0.0, "the model learns the majority first. .* the majority first, as the model"),
        (REVERSED, 0.0, "the model learns the majority first. .* minority first, against the"),
        (CLOSE, 0.0, "the model learns the majority first. .* both at once, against the model"),
        (REVERSED, 1.5, "the model learns the minority first. .* minority first, as the model"),
        (AS_ERM, 0.76, r"within 0\.05 of the range between these: the order is open"),
        pytest.param(
            AS_ERM,
            0.6,
            "the order is open. The network learned the majority first",
            marks=pytest.mark.slow,
        ),
        pytest.param(AS_ERM, 0.55, "the order is open", marks=pytest.mark.slow),
        (AS_ERM, 0.5, "the model learns the majority first"),
        (REVERSED, 0.88, "the model learns the minority first"),
    ],
)
def test_the_order_is_held_against_that_of_the_weights_in_force(times, exponent, said):
    """At c = 0.1 and 40 against 4 samples networks balance from 2 g* - 1 = 0.576 to g* = 0.788, give or take 0.05."""
    tracker = planted(times, weights=power((40, 40, 4, 4), exponent))
    found = paragraph(tracker, "Model")
    if exponent == 0.5:  # which is 0.076 below
        assert "the order is open" not in found
    assert re.search(said, found), found


def test_weights_are_those_that_mini_batches_make_of_them():
    """A batch of one ignores them."""
    w = power((40, 40, 4, 4), 1.5)
    tracker = planted(AS_ERM, weights=w, batch_size=1)
    assert "g = 0 (of the smallest class over the largest, as mini-batches" in tracker.report()
    assert "first, as the model does" in paragraph(tracker, "Model")
    said = paragraph(tracker, "Class weights as mini-batches make them at step 40")
    assert said.endswith(
        "0: 1, 1: 1, 2: 1, 3: 1; smallest over largest class 1, of 31.6 that were asked for."
    )
    assert "g = 1.5 (of the smallest" in paragraph(planted(AS_ERM, weights=w), "Model")


def test_weights_that_change_before_all_is_learned_leave_the_order_open():
    counts = (40, 40, 4, 4)

    def deferred(step):
        return 3 * power(counts, 1.5 if step >= 20 else 0.0)

    assert (
        "until 20, when weights changed before both were learned: the order is open"
        in paragraph(planted(AS_ERM, weights=deferred), "Model")
    )
    soon = {"majority": 5.0, "cross": 6.0, "minority": 15.0}
    assert "first, as the model does" in paragraph(planted(soon, weights=deferred), "Model")


@pytest.mark.parametrize(
    ("times", "order", "remark"),
    [
        ({"majority": 10.5, "cross": 12.0, "minority": 11.5}, "does not say", "between the same"),
        ({"majority": 11.0, "cross": 12.0, "minority": 90.0}, "the majority", "minority is yet to"),
        ({"majority": 90.0, "cross": 12.0, "minority": 11.0}, "the minority", "majority is yet to"),
        ({"majority": 90.0, "cross": 12.0, "minority": 99.0}, "does not say", "neither is learned"),
    ],
)
def test_what_a_log_does_not_tell_is_said(times, order, remark):
    tracker = planted(times)
    found = paragraph(tracker, "Model")
    assert order in found and remark in found
    assert " here, " not in paragraph(tracker, "Learning time")
    late = [block for block, time in times.items() if time > 40]
    said = paragraph(tracker, "Blocks")
    for block in late:  # an even rise to half at that time
        assert f"{block} ({20 / times[block]:.2g} of it)" in said
    assert ("not yet" in said) == bool(late)


def test_what_was_learned_before_the_first_step_has_no_order():
    tracker = planted({"majority": 1.0, "cross": 1.0, "minority": 2.0}, steps=(5, 10))
    assert "by 5 or before" in paragraph(tracker, "Blocks")
    found = paragraph(tracker, "Model")
    assert "This log does not say (both were learned by the first step)." in found


def test_two_classes_have_margins_alone():
    """At c = 1 and R = 10 weights 1 / n balance their margins, and at c = 0 no weights at all do."""
    weights = power((40, 4), 0.0)
    said = planted({"cross": 10.0}, counts=(40, 4), coupling=1.0, weights=weights).report()
    found = paragraph(said, "Model")
    assert "balance both classes at g = 1." in found and "2 g*" not in found
    assert "the model learns the majority first" in found
    assert "Two classes have no contrasts within a group" in said
    assert said.splitlines()[0] == "Blocks, half of the target reached: cross at 10."
    said = planted({"cross": 10.0}, counts=(40, 4), coupling=0.0).report()
    assert "within 0.05 of that: the order is open" in paragraph(said, "Model")
    # both margins grow alike there
    assert "1 in the model" in paragraph(said, "Learning time")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"coupling": None}, "no features were given"),
        ({"counts": (40, 40, 40, 4)}, "the minority is one class (4 samples), with no other"),
        ({"counts": (10, 10, 10)}, "all classes have one size"),
        ({"counts": (40, 40, 4, 1)}, "the coupling is not known: a class has one sample"),
    ],
)
def test_no_order_is_predicted_without_what_it_takes(given, reason):
    tracker = planted(AS_ERM, **given)
    assert f"says nothing of the order here, since {reason}" in paragraph(tracker, "Model")
    assert "Blocks" in tracker.report()
    assert ("ssm advise" in tracker.report()) == ("one class" in reason)


def test_classes_that_the_probe_lacks():
    """Contrasts of the one minority class that is left there cannot be watched, though the model knows of them."""
    counts, training = (40, 40, 4, 0), (400, 400, 40, 40)
    tracker = planted(AS_ERM, counts=counts, class_counts=training)
    said = tracker.report()
    assert "(the probe has fewer than two classes of the minority, so no contrasts" in said
    assert said.endswith("Without samples in the probe, and in no block or mean: 3.")
    assert "400 to 40 training samples" in said and "nan" not in said
    assert not re.search(r"\b3 (at|\()", paragraph(tracker, "Classes"))


def test_shares_of_gradients_and_the_coupling_now():
    tracker = planted(AS_ERM)
    assert paragraph(tracker, "Shares").endswith("at step 40: 0: 25%, 1: 25%, 2: 25%, 3: 25%.")
    star = 0.5 + 0.5 * np.log(4.9 / 1.3) / np.log(10)
    said = paragraph(tracker, "Coupling at step 40: 0.1, ")
    assert said.endswith(f"balance contrasts at g* = {star:.3g}.")


def test_gaps_are_named_and_alarms_are_those_that_were_raised():
    raised: list[Alarm] = []
    tracker = planted(AS_ERM, bad=(10, 20, 22), on_alarm=raised.append)
    assert "nothing is known at 10, 20 to 22 (3 of 21)" in paragraph(tracker, "Gaps")
    assert paragraph(tracker, "Blocks").endswith("majority at 10, cross at 12.5, minority at 30.")
    spells = alarms.spells(tracker.dataset())
    assert [spell.alarm for spell in spells] == raised
    assert [(s.alarm.step, s.last, s.holds) for s in spells if s.alarm.alarm == "not_finite"] == [
        (10, 10, False),
        (20, 22, False),
    ]
    said = paragraph(tracker, "Alarms")
    assert "not_finite at 10 (1 of 88 samples" in said and "not_finite at 20 to 22" in said
    assert "Gaps" not in planted(AS_ERM).report()
    nothing = planted(AS_ERM, bad=STEPS).report()
    assert nothing.startswith("Nothing is known") and "not_finite from 0 on" in nothing


def test_alarms_of_classes_last_until_they_are_right(rng):
    labels = np.repeat([0, 1, 2], [400, 400, 100])
    raised: list[Alarm] = []
    tracker = ssm.Tracker(labels, classes=3, on_alarm=raised.append)
    right = np.eye(3)[labels]
    wrong = np.where((labels == 2)[:, None], [1.0, 0, 0], right)
    for step, logits in enumerate([wrong, wrong, wrong, right, wrong]):
        tracker.add(step, logits)
    spells = alarms.spells(tracker.dataset())
    assert [spell.alarm for spell in spells] == raised
    assert [(s.alarm.step, s.last, s.holds) for s in spells] == [(1, 2, False), (4, 4, True)]
    assert "class_behind at 1 to 2 (accuracy of class 2 is 0.00" in tracker.report()


def test_many_classes_are_said_by_group():
    counts = (30,) * 10 + (3,) * 10
    tracker = planted(AS_ERM, counts=counts)
    said = paragraph(tracker, "Classes")
    assert "10 of 10 of the majority" in said and "of 10 of the minority" in said
    assert "10 classes of the majority 50% together" in paragraph(tracker, "Shares")
    times = tracker.dataset()["class_learning_time"].values[:10]
    assert f"the first at {times.min():.4g}, the median at {np.median(times):.4g}" in said


def test_a_log_of_track_says_the_same_of_its_orders(rng):
    """It has no weights, features or gradients."""
    labels = np.repeat(np.arange(4), (12, 12, 4, 4))
    ds = ssm.track(rng.normal(size=(5, 32, 4)), labels, [0, 1, 2, 4, 8])
    said = reports.lines(ds)
    assert said[0].startswith("Blocks") and "no features were given" in said[2]
    assert "time" in logs.clock(ds) and not any(line.startswith("Coupling") for line in said)


def test_the_expectation_is_that_of_the_training_samples():
    counts, training = (10, 10, 10, 10), (1000, 1000, 10, 10)
    found = expectations.expectation(
        planted(AS_ERM, counts=counts, class_counts=training, coupling=0.2).dataset()
    )
    assert not isinstance(found, str)
    kappa = 1 + 0.2 * (np.array([1000, 10]) - 1)
    np.testing.assert_allclose(found.coupling, 0.2, rtol=1e-9)
    np.testing.assert_allclose(found.ratio, np.sqrt(100 * kappa[0] / kappa[1]), rtol=1e-9)
    star = 0.5 + 0.5 * np.log(kappa[0] / kappa[1]) / np.log(100)
    np.testing.assert_allclose((found.fixed, found.balance), (2 * star - 1, star), rtol=1e-9)
    assert comparisons.FIRST[found.order] == "the majority first"


@pytest.mark.parametrize(
    ("exponent", "steps", "first"), [(0.0, 120, "majority"), (1.3, 60, "minority")]
)
def test_networks_on_digits_learn_in_the_order_that_is_predicted(exponent, steps, first):
    """Five digits of 60 images against five of 6, one rectified layer; g* is near 0.95 at the coupling of its start."""
    images, digits = load_digits(return_X_y=True)
    rng, counts = np.random.default_rng(0), [60] * 5 + [6] * 5
    chosen = [rng.permutation(np.flatnonzero(digits == c))[:n] for c, n in enumerate(counts)]
    X, labels = (
        (images / 16 - images.mean(axis=0) / 16)[np.concatenate(chosen)],
        np.repeat(range(10), counts),
    )
    w, wanted = ssm.weights.power_law(counts, exponent), np.eye(10)[labels]
    V, U = 0.05 * rng.normal(size=(64, 128)), 0.03 * rng.normal(size=(128, 10))
    tracker = ssm.Tracker(labels, **CALM)
    for step in range(steps):
        H = np.maximum(X @ V, 0)
        odds = np.exp(H @ U)
        G = w[labels][:, None] * (odds / odds.sum(axis=1, keepdims=True) - wanted) / len(labels)
        if step % 3 == 0:
            tracker.add(step, H @ U, H, U.T, gradient=G.T @ H, weights=w)
        U, V = U - 0.5 * H.T @ G, V - 0.5 * X.T @ (G @ U.T * (H > 0))
    found = paragraph(tracker, "Model")
    assert f"the model learns the {first} first. The network learned the {first} first" in found
    assert found.endswith("as the model does.")


def test_show_prints_the_words_of_the_tracker(tmp_path, capsys, monkeypatch):
    """While the log is written and once it is closed."""
    monkeypatch.setenv("COLUMNS", "10000")
    store = tmp_path / "log.zarr"
    tracker = planted(AS_ERM, store=store)
    said = tracker.report()
    for _ in range(2):
        showing.Show(store)()
        printed = capsys.readouterr().out
        assert said in printed and "half reached at" in printed
        tracker.close()
    assert tracker.report() == said


def test_show_of_a_log_without_a_step(tmp_path, capsys):
    tracker = planted(AS_ERM, store=tmp_path / "log")
    tracker.rewind(0)
    showing.Show(tmp_path / "log")()
    printed = capsys.readouterr().out
    assert "none that was reached" in printed and "Nothing is known" in printed
    assert (
        tracker.report()
        == "Nothing is known: no step has numbers that are all finite.\nAlarms: none."
    )
