"""What the model says of class counts: against closed forms, against its own runs, and in words."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from marks import UNCHECKED
from rich.console import Console
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from ssm import Config, InputError, defaults, profiles, theory, weights
from ssm.advice import advice as advice_module
from ssm.advice import advise, render, runs
from ssm.advice import words as advice_words
from ssm.advice.runs import UNKNOWN
from ssm.cli.practice import Advise
from ssm.problem import make_problem
from ssm.theory import in_networks
from ssm.theory.in_networks import AT_ONCE, LARGEST, SMALLEST, TOGETHER

pytestmark = UNCHECKED

COUNTS = (8, 8, 2, 2)  # those of `tiny`
ROOT = Path(__file__).parents[1]
CLAIMS = (ROOT / "figures" / "claims.md").read_text()


@pytest.fixture(scope="module")
def advice_on():
    """Advice under the squared loss, so that all tests share one compilation for each number of classes;
    the same advice is worked out only once."""
    known = {}

    def look_up(coupling=0.0, counts=COUNTS):
        key = coupling, counts
        if key not in known:
            known[key] = advise(counts, coupling, "squared")
        return known[key]

    return look_up


def by_name(advice):
    """The choices at the one coupling that was asked for."""
    (case,) = advice.cases
    return {choice.name: choice for choice in case.choices}


def delay(choice):
    """The learning time of the last class over that of the first."""
    return choice.learning_time[-1] / choice.learning_time[0]


def claimed(section, *words):
    """The one row with these words among the claims of an experiment: the bound, and what was measured."""
    rows = CLAIMS.split(f"## {section}\n")[1].split("\n## ")[0].splitlines()
    (row,) = (row for row in rows if all(word in row for word in words))
    return row


def printed(advice):
    text = io.StringIO()
    console = Console(file=text, width=120)
    for part in render(advice):
        console.print(part, markup=False)
    return text.getvalue()


@pytest.mark.parametrize("counts", [COUNTS, (50, 9, 4, 3)])
def test_erm_of_free_features_learns_by_sigmoids(advice_on, counts):
    """Squared loss: modes of the label matrix from 1e-6, by a dense SVD, in each class's margin."""
    labels, n = np.repeat(np.arange(4), counts), sum(counts)
    U, s, Vt = np.linalg.svd(np.eye(4)[:, labels] - 1 / 4, full_matrices=False)
    U, s, Vt = U[:, :3], s[:3], Vt[:3]

    def ahead(t, c):
        strength = s / (1 + (s / 1e-6 - 1) * np.exp(-2 * s * t / n))
        logits = (U * strength) @ Vt[:, labels.tolist().index(c)]
        return logits[c] - np.delete(logits, c).max() - 0.5

    expected: Any = [brentq(ahead, 0, 60 * n, args=(c,)) for c in range(4)]
    learned = by_name(advice_on(counts=counts))["ERM"].learning_time
    # a fourth of an e-fold between two observed times, on a straight line
    np.testing.assert_allclose(learned, expected, rtol=5e-3)


@pytest.mark.parametrize("coupling", [0.0, 1.0])
def test_contrasts_are_learned_when_a_run_from_a_random_start_learns_them(advice_on, run, coupling):
    choices, ratios = by_name(advice_on(coupling)), []
    for name, exponent in (("ERM", 0.0), ("balanced", 1.0)):
        times = [
            run(loss="squared", coupling=coupling, weight_exponent=exponent, seed=seed)[
                "block_learning_time"
            ].values[[0, 2]]
            for seed in (0, 1)
        ]
        measured, predicted = np.mean(times, axis=0), choices[name].contrast_time[[0, -1]]
        # a start of d = 6 Gaussian directions is off a spectral one by an e-fold or two of 15, and a
        # later block finds fewer of them free
        np.testing.assert_allclose(predicted, measured, rtol=0.2)
        ratios.append((measured[1] / measured[0], predicted[1] / predicted[0]))
    measured, predicted = np.transpose(ratios)
    np.testing.assert_allclose(predicted, measured, rtol=0.2)
    # what weights change is free of the start
    assert predicted[0] / predicted[1] == pytest.approx(4.0, rel=1e-12)  # R^(g - 0)
    assert measured[0] / measured[1] == pytest.approx(4.0, rel=0.1)


@pytest.mark.parametrize(
    "counts", [COUNTS, (50, 9, 4, 3), pytest.param((75, 5), marks=pytest.mark.slow)]
)
def test_cross_entropy_needs_no_run(counts, monkeypatch):
    """Two sizes by five numbers, tails by their class means: as runs from the same start have it, which are read off
    to `READ_OFF`."""
    changes = {"init": "spectral", "feature_dim": len(counts) - 1}
    by_run = {}
    for name, exponent in (("ERM", 0.0), ("balanced", 1.0)):
        config = Config(
            profile="custom", counts=counts, coupling=0.1, weight_exponent=exponent, **changes
        )
        length = defaults.automatic_t1(config, make_problem(config))
        by_run[name], status = runs._learning_times(config, length)
        assert status == "finished"
    monkeypatch.setattr(runs.simulation, "simulate", None)
    advice = advise(counts, 0.1)
    for name, times in by_run.items():
        found = by_name(advice)[name].learning_time
        np.testing.assert_allclose(found, times, rtol=runs.READ_OFF)
    erm, balanced = (by_name(advice)[name] for name in ("ERM", "balanced"))
    if len(counts) > 2:
        window = balanced.learning_time.max(), erm.learning_time.max()
        assert balanced.ahead_of_erm == window and window[0] < window[1]


def test_what_takes_too_many_steps_is_left_out_and_said(monkeypatch):
    monkeypatch.setattr(runs, "MOST_STEPS", 20)
    advice = advise((5000, 400, 30), 0.0)
    assert np.isnan(by_name(advice)["ERM"].learning_time[2])
    note = "Coupling 0, ERM: a dash where the model in 20 steps did not get to it."
    assert note in advice.notes


@pytest.mark.parametrize("coupling", [0.0, 1.0])
def test_a_class_is_learned_no_sooner_than_its_contrasts(advice_on, coupling):
    for choice in advice_on(coupling).cases[0].choices:
        # read off a straight line between two observed times
        assert (choice.learning_time > (1 - 5e-3) * choice.contrast_time).all()


@pytest.mark.parametrize("coupling", [0.0, 0.2, 1.0])
def test_the_balancing_exponent_balances_and_is_ahead_of_erm(advice_on, coupling):
    advice = advice_on(coupling)
    (case,) = advice.cases
    assert case.balancing_exponent == pytest.approx(theory.balancing_exponent(8, 2, coupling))
    assert case.balance == case.balancing_exponent and advice.no_contrasts == ""
    choices = by_name(advice)
    erm, balancing = choices["ERM"], choices["g*"]
    np.testing.assert_allclose(
        balancing.class_weights,
        weights.power_law(np.array(COUNTS), case.balancing_exponent),
        rtol=1e-12,
    )
    assert 1 / 1.1 < delay(balancing) < 1.1 < delay(erm)
    # from starts of a thousandth classes are as far apart as their features: a few hundredths
    assert case.run_exponent == pytest.approx(case.balancing_exponent, abs=0.06)
    assert balancing.ahead_of_erm == (balancing.learning_time.max(), erm.learning_time.max())
    assert balancing.ahead_of_erm[0] < balancing.ahead_of_erm[1]
    assert np.isnan(erm.ahead_of_erm).all() and advice.imbalance_ratio == 4


def test_orders_are_those_of_the_times(advice_on):
    free, shared = by_name(advice_on(0.0)), by_name(advice_on(1.0))
    # times go as R^(1/2 - g), or R^(1 - g), from small starts: a factor 2 or 4, or 1
    assert [free[name].order for name in ("ERM", "sqrt", "balanced")] == [
        LARGEST,
        AT_ONCE,
        SMALLEST,
    ]
    assert [shared[name].order for name in ("ERM", "sqrt", "balanced")] == [
        LARGEST,
        LARGEST,
        AT_ONCE,
    ]


def test_what_each_choice_exposes(advice_on, run):
    choices = by_name(advice_on())
    for name, exponent in (("ERM", 0.0), ("sqrt", 0.5), ("balanced", 1.0)):
        simulated = run(loss="squared", weight_exponent=exponent, seed=0)
        # that run starts from logits of about 1e-6; of free features the pull is the share of dL/dZ
        np.testing.assert_allclose(
            choices[name].pull, simulated["gradient_share"].values[0], rtol=1e-4
        )
        for share in ("mean_sample_weight", "effective_sample_share"):
            assert getattr(choices[name], share) == pytest.approx(simulated.attrs[share], rel=1e-12)
    np.testing.assert_allclose(
        choices["effective"].class_weights,
        weights.effective_number(np.array(COUNTS), 1 - 1 / 20),
        rtol=1e-12,
    )


@pytest.mark.parametrize("coupling", [0.0, 0.2, 1.0])
def test_pulls_are_the_gradients_parts_in_the_metric_of_the_flow(advice_on, coupling):
    """K as a matrix and its root by eigh; what a class brings to dW/dt = -G K^(1/2) N^T is its
    columns of G K^(1/2), at zero logits G = -S Omega / n."""
    labels, choices = np.repeat(np.arange(4), COUNTS), by_name(advice_on(coupling))
    same = labels[:, None] == labels
    values, vectors = np.linalg.eigh((1 - coupling) * np.eye(20) + coupling * same)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    for choice in choices.values():
        G = (np.eye(4)[:, labels] - 1 / 4) * choice.class_weights[labels] / 20
        parts = np.array([np.linalg.norm((G @ root)[:, labels == c]) for c in range(4)])
        np.testing.assert_allclose(choice.pull, parts / parts.sum(), rtol=1e-12)
    np.testing.assert_allclose(choices["g*"].pull, 1 / 4, rtol=1e-12)


@pytest.mark.slow
def test_what_is_learned_long_before_the_rest_is_seen_too(advice_on):
    """Shared features, R = 10^4: contrasts ten thousand times apart, before the first observation."""
    erm = by_name(advice_on(coupling=1.0, counts=(10**6, 10**6, 100, 100)))["ERM"]
    assert erm.learning_time[2] > 5000 * erm.learning_time[0]
    # other classes are told apart a little later than the equal one
    assert 1 <= erm.learning_time[0] / erm.contrast_time[0] < 1.2


@pytest.mark.slow
def test_what_a_run_does_not_get_to_is_left_out_and_said(advice_on, monkeypatch):
    plain = advice_module.Config
    monkeypatch.setattr(advice_module, "Config", lambda **fields: plain(**fields, max_steps=40))
    advice = advise((10**4, 10**4, 10, 10), 1.0, "squared")
    erm = by_name(advice)["ERM"]
    assert np.isnan(erm.learning_time[2:]).all() and np.isfinite(erm.contrast_time).all()
    note = "Coupling 1, ERM: a dash where the run of the model (out of steps) did not get to it."
    assert note in advice.notes
    assert np.isnan(by_name(advice)["balanced"].ahead_of_erm).all()
    # times that are not known are inverse to the pulls from small starts
    assert erm.order == LARGEST and by_name(advice)["g*"].order == AT_ONCE
    two = advise((10**4, 10), 1.0, "squared")
    assert by_name(two)["ERM"].order == UNKNOWN and np.isnan(two.cases[0].run_exponent)
    assert (
        "Verdict: use `balanced` weights, 1 / n^1. " in two.verdict
    )  # by the margins, in closed form
    assert list(by_name(two)) == ["ERM", "balanced", "sqrt", "effective", "margins"]
    alone = advise((10**4, 10, 10), 1.0, "squared")
    assert "Verdict: none. The model has no closed form" in alone.verdict
    assert "run" not in by_name(alone) and "Learned first" in printed(alone)


def test_equal_counts_have_nothing_to_balance(advice_on):
    advice = advice_on(counts=(5, 5, 5, 5))
    (case,) = advice.cases
    assert list(by_name(advice)) == ["ERM"] and np.isnan(case.balance)
    assert advice.verdict.startswith("Verdict: use no weights. All classes have the same size")
    assert "nothing to balance" in advice.notes[1] and "balancing exponent" not in printed(advice)
    assert delay(case.choices[0]) == pytest.approx(1, rel=1e-6)


def test_too_many_classes_are_not_run(monkeypatch):
    monkeypatch.setattr(runs, "MOST_CLASSES", 9)  # of three couplings
    monkeypatch.setattr(runs.simulation, "simulate", None)
    advice = advise(range(1, 12))
    case = advice.cases[0]
    assert case.coupling == 0 and case.balancing_exponent == 0.5
    assert np.isnan(case.choices[1].learning_time).all() and np.isnan(case.run_exponent)
    assert [choice.order for choice in case.choices[:3]] == [LARGEST, SMALLEST, AT_ONCE]
    assert "at most 3 classes at so many couplings" in advice.notes[-1]
    text = printed(advice)
    sizes = [f"{n} x 1" for n in (11, 9, 7, 5, 3, 1)]
    assert all(size in text for size in sizes) and "2 x 1" not in text


def test_what_is_printed(advice_on):
    advice = advice_on()
    text = " ".join(printed(advice).split())
    assert "4 classes, 20 samples, imbalance ratio 4; squared. Coupling: how far" in text
    assert render(advice)[0] == advice.verdict and text.startswith("Verdict: use ")
    assert "the order of classes and which weights balance" in text
    assert "small-scale model" in text and "no prediction of a real network" in text
    assert "1 / (1 - b^n), b = 1 - 1/N" in text and "8 x 2" in text
    # nothing to read ratios of times or a time to stop from
    assert "slowest" not in text and "Stop between" not in text
    assert "times and their ratios are not a network's" in text
    balanced = by_name(advice)["balanced"]
    assert "from {:.4g} to {:.4g}".format(*balanced.ahead_of_erm) in text
    assert "that ERM has caught up is no reason either" in text and "on held-out samples" in text


def test_without_a_coupling_three_stand_side_by_side(advice_on):
    advice = advise(COUNTS, loss="squared")
    assert [case.coupling for case in advice.cases] == [0.0, 0.1, 0.4]
    for case in advice.cases:
        (alone,) = advise(COUNTS, case.coupling, "squared").cases
        assert [choice.order for choice in case.choices] == [c.order for c in alone.choices]
        assert case.balancing_exponent == alone.balancing_exponent
        assert case.run_exponent == pytest.approx(alone.run_exponent, rel=1e-12)
    text = " ".join(printed(advice).split())
    for c in (0.0, 0.1, 0.4):
        assert f"{balance(COUNTS, c, 0.5):.3g} │" in text and f"coupling {c:g}" in text
    # too few samples for both couplings to ask for the same weights
    verdict = advice.verdict.splitlines()[0]
    assert verdict.startswith("Verdict: measure the coupling of your network first. ")
    for c in (0.1, 0.4):
        assert f"by weights 1 / n^{balance(COUNTS, c, 0.5):.3g} at {c:g}" in verdict
    assert "at 0 by `sqrt` weights, 1 / n^0.5, but no network measured had that." in verdict
    assert "Learned at" not in text and "g* of each" in text
    large = advise((5000, 5000, 50, 50), loss="squared").verdict.splitlines()[0]
    assert large.startswith("Verdict: use `balanced` weights, 1 / n^1 (0.982 at 0.1 and ")
    assert "at once at couplings of 0.1 and 0.4; at 0 by `sqrt`" in large


def test_progress_counts_all_couplings():
    shares = []
    advise((9, 3), loss="squared", progress=shares.append)
    assert shares == sorted(shares) and shares[-1] == 1 and len(shares) > 12


def balance(counts, coupling, power):
    """The exponent of w at which w sqrt(n kappa) (power 1/2) or w kappa (power 1) are alike."""
    kappa = [1 + coupling * (n - 1) for n in (counts[0], counts[-1])]
    return (1 - power) + power * np.log(kappa[0] / kappa[1]) / np.log(counts[0] / counts[-1])


def test_the_verdict_names_weights_by_what_balances_contrasts(advice_on):
    free, shared, between = (advice_on(c).verdict for c in (0.0, 1.0, 0.2))
    assert "use `sqrt` weights, 1 / n^0.5. " in free and "`balanced`, 1 / n) reverses" in free
    for text in (free, shared):
        assert "not very. No network measured here had a coupling of" in text
        assert "theirs were 0.01 to 0.41 " in text
    assert "use `balanced` weights, 1 / n^1. " in shared and "reverses" not in shared
    exponent = balance(COUNTS, 0.2, 0.5)
    assert f"use weights 1 / n^{exponent:.3g}. " in between and "not very" not in between
    assert f"between {2 * exponent - 1:.2f} and {exponent:.2f}" in between
    # what balances is not what did best on held-out images at such couplings
    assert "Try `balanced` too" in between and "Try `balanced` too" not in free
    for text in (free, shared, between):
        assert "measured_coupling(features, labels).coupling" in text


# Sizes of classes, and the loss under which their runs take the fewest steps.
SQUARED, CROSS_ENTROPY = "squared", "cross_entropy"
LISTS = [
    # two classes
    ((2, 1), SQUARED),
    pytest.param((10, 9), SQUARED, marks=pytest.mark.slow),
    pytest.param((75, 5), SQUARED, marks=pytest.mark.slow),
    pytest.param((500, 50), SQUARED, marks=pytest.mark.slow),
    pytest.param((200_000, 1), SQUARED, marks=pytest.mark.slow),
    # a class alone in its group
    pytest.param((8, 8, 2), SQUARED, marks=pytest.mark.slow),
    pytest.param((9, 3, 3), SQUARED, marks=pytest.mark.slow),
    pytest.param((100, 90, 5), SQUARED, marks=pytest.mark.slow),
    pytest.param((5000, 500, 50), SQUARED, marks=pytest.mark.slow),
    pytest.param((1_000_000, 1_000_000, 5), SQUARED, marks=pytest.mark.slow),
    pytest.param((1_000_000, 5, 5), SQUARED, marks=pytest.mark.slow),
    # two sizes of several classes
    (COUNTS, SQUARED),
    pytest.param((40, 40, 38, 38), SQUARED, marks=pytest.mark.slow),
    pytest.param((5000, 5000, 50, 50), SQUARED, marks=pytest.mark.slow),
    pytest.param((1_000_000, 1_000_000, 5, 5), CROSS_ENTROPY, marks=pytest.mark.slow),
    pytest.param((200_000,) * 3 + (1,) * 3, CROSS_ENTROPY, marks=pytest.mark.slow),
    pytest.param((1000,) * 5 + (10,) * 5, SQUARED, marks=pytest.mark.slow),
    # long tails
    pytest.param((50, 9, 4, 3), SQUARED, marks=pytest.mark.slow),
    pytest.param((800, 400, 200, 100), SQUARED, marks=pytest.mark.slow),
    pytest.param((2000, 700, 200, 3), SQUARED, marks=pytest.mark.slow),
    ((1000, 400, 160, 64, 26, 10), CROSS_ENTROPY),
    pytest.param((1000, 599, 359, 215, 129, 77, 46, 28, 17, 10), SQUARED, marks=pytest.mark.slow),
]
NUMBER = r"-?\d+(?:\.\d+)?(?:e-?\d+)?"
WEIGHTS = rf"(no weights \(ERM\)|`\w+` weights, 1 / n\^{NUMBER}|weights 1 / n\^{NUMBER})"


def claimed_weights(advice):
    """The weights that a verdict claims to learn both sizes at once, as it names them, by coupling."""
    use = advice.verdict.splitlines()[0].removeprefix("Verdict: ").split(" Set weights")[0]
    used = re.match(f"use {WEIGHTS}", use)
    if len(advice.cases) == 1:
        assert used and "are then learned at once" in use
        return {advice.cases[0].coupling: used[1]}
    if used:
        couplings = re.search(rf"at once at couplings of ({NUMBER}) and ({NUMBER})", use)
        assert couplings is not None
        weights_at = dict.fromkeys(map(float, couplings.groups()), used[1])
    else:
        assert use.startswith("measure the coupling of your network first. The model balances by ")
        each = re.findall(rf"by {WEIGHTS}(?: \([^)]*\))? at ({NUMBER})", use)
        weights_at = {float(coupling): named for named, coupling in each}
    free = re.search(rf"at 0 by {WEIGHTS}", use)
    assert free is not None
    return weights_at | {0.0: free[1]}


def printed_orders(advice):
    """The orders in the printed table, by the name of the weights, a cell for each coupling."""
    table = re.split(r"Learned\s+first\s+in", printed(advice))[1].split("└")[0]
    rows = [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in table.splitlines()
        if line.startswith("│")
    ]
    return {name.removesuffix(" of each"): cells for name, *cells in rows}


@pytest.mark.parametrize("coupling", [None, 0.05])
@pytest.mark.parametrize(("counts", "loss"), LISTS)
def test_the_verdict_recommends_only_what_its_own_table_calls_together(counts, loss, coupling):
    advice = advise(counts, coupling, loss)
    named, orders = claimed_weights(advice), printed_orders(advice)
    assert list(named) and set(named) == {case.coupling for case in advice.cases}
    for column, case in enumerate(advice.cases):
        words = named[case.coupling]
        if words.startswith("weights"):
            # the exponent as it is printed belongs to the last of the fitted power laws
            assert case.choices[-1].law == words.removeprefix("weights ")
            name = case.choices[-1].name
        else:
            name = "ERM" if "ERM" in words else words.split("`")[1]
            fitted, power = case.choices[-1].exponent, runs.POWERS[name]
            # one named weighting for two couplings is within the tolerance of their middle
            assert abs(fitted - power) <= (1 if coupling is not None else 2) * runs.NEAR
        assert orders[name][column].removesuffix(" *") == AT_ONCE
        choice = next(choice for choice in case.choices if choice.name == name)
        ratio = runs.delay(choice.learning_time, counts)
        assert 1 / TOGETHER <= ratio <= TOGETHER
    verdict = advice.verdict
    if "use `balanced`" in verdict:
        assert "ry `balanced` too" not in verdict and "inverse frequency" not in verdict
    if "use no weights" in verdict:
        assert "ERM learns" not in verdict and "ERM is close" not in verdict
    has_exponent = any(words.startswith("weights") for words in named.values())
    assert ("`weight_exponent` g" in verdict) == has_exponent


@pytest.mark.slow
def test_where_a_closed_form_does_not_balance_the_run_is_recommended():
    """At R = 2e5 the start of scale 1e-3 is not small: under 1 / n^g* free features learn the smallest
    classes first."""
    counts = (1_000_000, 1_000_000, 5, 5)
    advice = advise(counts, 0.0)
    (case,), choices = advice.cases, by_name(advice)
    assert choices["g*"].order == SMALLEST and case.balance == case.balancing_exponent == 0.5
    assert (
        case.recommended is choices["run"] and case.run_exponent == choices["run"].exponent < 0.49
    )
    assert "(at the closed form, 1 / n^0.5, it learns the smallest classes first)" in advice.verdict
    # networks balanced within 0.05 of the exponents: what is as near to them is marked as open
    for each in (case, *advise(counts, 0.2).cases):
        near = [
            choice for choice in each.choices if abs(choice.exponent - each.balance) <= runs.NEAR
        ]
        early = [choice for choice in near if choice.order == SMALLEST]
        assert early
        for choice in early:
            assert advice_words.has_open_order(each, choice, counts)


@pytest.mark.slow
def test_an_exponent_between_runs_is_looked_for_until_its_own_run_balances(advice_on):
    """Straight lines between g = 0, 1/2 and 1 miss it where log ratios of times bend."""
    counts = (1_000_000, 1_000_000, 5)
    advice = advice_on(0.01, counts)
    (case,), choices = advice.cases, by_name(advice)
    a, b = (
        np.log(runs.delay(choices[name].learning_time, counts)) for name in ("sqrt", "balanced")
    )
    straight = 0.5 + 0.5 * a / (a - b)
    assert abs(case.run_exponent - straight) > 0.02
    assert choices["run"].exponent == case.run_exponent and case.recommended is choices["run"]
    assert 1 / TOGETHER <= delay(choices["run"]) <= TOGETHER


def test_where_nothing_balances_no_weights_are_recommended(monkeypatch):
    monkeypatch.setattr(in_networks, "TOGETHER", 1 + 1e-9)
    monkeypatch.setattr(runs, "MOST_ATTEMPTS", 1)
    one, several = advise(COUNTS, 0.2, "squared"), advise(COUNTS, loss="squared")
    assert one.cases[0].recommended is None
    assert (
        "Verdict: none. No weights 1 / n^g that were tried balance in the model: the" in one.verdict
    )
    assert re.search(r"the nearest, 1 / n\^[.\d]+, learn the \w+ classes first", one.verdict)
    assert (
        "The model balances by none of the weights that were tried (the nearest" in several.verdict
    )
    assert "at once" not in one.verdict.splitlines()[0] + several.verdict.splitlines()[0]


@pytest.mark.slow
def test_losses_are_not_said_to_agree_where_the_model_itself_decides():
    """A class alone in its group goes by the model itself, and so does ERM's order of two classes."""
    pairs = [
        [advise(counts, coupling, loss) for loss in (SQUARED, CROSS_ENTROPY)]
        for counts, coupling in (((100, 90, 5), 0.0), ((500, 50), 0.03))
    ]
    for pair in pairs:
        for advice, other in zip(pair, ("cross_entropy", "squared"), strict=True):
            assert f"(`--loss {other}`)" in advice.verdict and " agree" not in advice.verdict
    alone, two = pairs
    exponents = [advice.cases[0].run_exponent for advice in alone]
    assert abs(exponents[0] - exponents[1]) > 0.05
    assert all("which balances at an exponent of its own" in x.verdict for x in alone)
    # what is the same under both losses is the closed form, and the order under ERM is not
    assert two[0].cases[0].margin_exponent == two[1].cases[0].margin_exponent
    assert ["ERM is close to that" in advice.verdict for advice in two] == [False, True]
    assert all("the same closed form" in x.verdict and "may differ" in x.verdict for x in two)


def test_what_is_said_of_networks_is_what_the_experiments_found():
    rows = CLAIMS.split("## bridge")[1].split("\n## ")[0].splitlines()
    couplings = [float(c) for row in rows for c in re.findall(r"noise [.\d]+, c = ([.\d]+)", row)]
    convolutional = next(row for row in rows if "convolutional" in row)
    couplings.extend(float(c) for c in re.findall(r"c = ([.\d]+)", convolutional)[:1])
    ends = min(couplings), max(couplings)
    assert tuple(round(c, 2) for c in ends) == advice_words.MEASURED_COUPLING
    grown = [row for row in rows if "small start, noise" in row and "distance from 1/2" in row]
    assert len(grown) == 4
    assert all(float(row.split("|")[3].split()[0]) <= advice_words.NEAR for row in grown)
    words = " ".join(advice_words.MEASURED)
    measured, small = map(float, re.findall(r"([.\d]+) for ([.\d]+);", convolutional)[0])
    assert 2 * small - 1 - advice_words.NEAR <= measured <= small + advice_words.NEAR
    assert "balanced at 0.80 to 1.21" in words and "0.80 to 1.21 over 6 seeds" in convolutional
    for start, short in (("small", "0.12"), ("standard", None)):
        where = f"{start} start, stopped where", "held-out balanced accuracy at g = 1 short"
        clear, worst = claimed("bridge", *where, "of c > 0.1"), claimed("bridge", *where, "best at")
        assert float(clear.split("|")[3].split()[0]) == 0
        if short:
            assert f"up to {float(worst.split('|')[3].split()[0]):.2f}" in words
    assert sorted({round(c, 2) for c in couplings}) == [0.01, 0.04, 0.11, 0.38, 0.41]
    assert "accuracy at couplings of 0.11 and 0.38" in words and "at 0.01 and 0.04" in words
    lead = claimed("practice", "digits: early lead of weights in minority recall")
    assert "| 0.6233 (" in lead and "; step 13)" in lead
    assert "by 0.62 of held-out minority recall at step 13" in words
    assert "lead at the end 0.003" in claimed(
        "practice", "digits: early lead in minority recall less"
    )
    assert claimed("practice", "digits: balanced accuracy at the end, weights").endswith(
        "| holds |"
    )
    corrected = claimed("practice", "digits: balanced accuracy at the end, ERM corrected")
    mean, low, high = re.findall(r"-?\d+\.\d+", corrected.split("|")[3])
    assert corrected.endswith("| holds |") and corrected.split("|")[2].strip() == ">= -0.02"
    assert (
        f"({float(mean):.2f} higher, 95 % interval {float(low):.2f} to {float(high):.2f})" in words
    )
    drawn = "breast cancer, 50 draws, all others held out: "
    lead = claimed("practice", f"{drawn}early lead of weights in minority recall")
    assert "| 0.28 (" in lead and "; step 7)" in lead and "a lead of 0.28 at step 7" in words
    fall = claimed("practice", f"{drawn}held-out balanced accuracy of weights")
    assert "| 0.01794 (" in fall and "fell by 0.02 to the end" in words
    assert lead.endswith("| holds |") and fall.endswith("| holds |")
    rows = [row for row in CLAIMS.splitlines() if "accuracy window's end over learning" in row]
    assert len(rows) == 4 and all(float(row.split("|")[3].split()[0]) < 1 for row in rows)
    gap = "ERM: share of the log gap to the model of one c and a small start, explained by"
    gap = f"| convolutional network, {gap} size of the start and optimiser, one c |"
    assert "network 3.26, model 9.47" in claimed("network_gap", gap)
    assert "9.5 in the model, 3.3 in the network" in words


def measured_exponents():
    """Of each kind of network in the experiment `bridge`: counts, coupling, measured exponent."""
    rows = CLAIMS.split("## bridge")[1].split("\n## ")[0].splitlines()
    for row in rows:
        held = re.search(r"c = ([.\d]+): measured balancing exponent.*[(; ]([.\d]+) for", row)
        if held:
            counts = (130, 13) if "convolutional" in row else (60, 6)
            yield np.repeat(counts, 5).tolist(), float(held[1]), float(held[2])


@pytest.mark.slow
def test_no_order_is_claimed_that_a_network_did_not_have():
    """Every order that is printed without a star, against the side of the measured exponent."""
    advised = {}
    for counts, coupling, measured in measured_exponents():
        key = tuple(counts), coupling
        if key not in advised:
            advised[key] = advise(counts, coupling, "squared")
        (case,) = advised[key].cases
        for choice in case.choices:
            w = choice.class_weights
            exponent = np.log(w[-1] / w[0]) / np.log(10)
            claimed = choice.order != AT_ONCE and not advice_words.has_open_order(
                case, choice, counts
            )
            if claimed:
                assert choice.order == (LARGEST if exponent < measured else SMALLEST)
        plain = by_name(advised[key])["ERM"]
        if coupling > 0.1:
            assert plain.order == LARGEST and not advice_words.has_open_order(case, plain, counts)
        # what is called balancing: the range of exponents that the verdict gives
        low, high = case.margin_exponent, case.balance
        assert low - advice_words.NEAR <= measured <= high + advice_words.NEAR
    assert len(advised) == 5


def test_the_ratio_that_does_not_carry_over_is_the_models():
    erm = by_name(advise((130,) * 5 + (13,) * 5, 0.4))["ERM"]
    assert delay(erm) == pytest.approx(9.4, abs=0.05)  # as it is printed


def test_what_does_as_well_as_weights_is_what_was_measured(advice_on):
    """Each difference and interval that is quoted, against its row of the benchmark on real tables."""
    said = advice_on().verdict.splitlines()[3]
    assert said.startswith("Instead of weights: train without weights and divide probabilities by")
    rows = {}
    for line in (ROOT / "benchmarks" / "practice.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 9 and cells[0].isdigit():
            rows[int(cells[0])] = cells
    kinds = {12: "network", 3: "logistic regression", 6: "boosted trees", 9: "random forests"}
    for row, model in kinds.items():
        _, what, beside, metric, difference, interval, sets, *_ = rows[row]
        assert model in what and what.startswith("inverse weights") and sets == "18"
        assert beside == "no weights and deciding as for equal class shares"
        assert metric == "balanced accuracy"
        assert re.search(rf"{re.escape(difference)} (beside it )?with (a )?{model}", said)
        assert interval in said
    cost = rows[41]
    assert cost[1].startswith("deciding as for equal class shares without weights (the network)")
    assert cost[3] == "accuracy" and f"{cost[4]} with the network ({cost[5]}; row 41)" in said
    page = (ROOT / "benchmarks" / "practice.md").read_text().split("advised g |")[1]
    nearest = [line.split("|")[5].strip() for line in page.splitlines()[2:20]]
    assert nearest == ["inverse"] * 18


def times_of_two(counts, coupling, exponent):
    """When the margins of both classes are 1 under cross-entropy: the three numbers that a symmetric
    state of two classes is, integrated."""
    n, w = np.array(counts, dtype=float), np.array(counts, dtype=float) ** -exponent
    kappa = 1 + coupling * (n - 1)
    w = w * n.sum() / (n * w).sum()
    rate, overlap, s = w * np.sqrt(n * kappa) / n.sum(), np.sqrt(kappa / n), np.sqrt(2)

    def flow(_, state):
        y, features = state[0], state[1:]
        wrong = 1 / (1 + np.exp(s * y * features * overlap))
        return [s * (rate * wrong) @ features, *(s * rate * wrong * y)]

    run = solve_ivp(flow, (0, 20 * n.sum()), [1e-3] * 3, rtol=1e-9, atol=1e-12)
    margins = s * run.y[0] * run.y[1:] * overlap[:, None]
    assert (margins[:, -1] > 1).all()
    return [np.interp(1.0, margin, run.t) for margin in margins]


@pytest.mark.parametrize("coupling", [0.0, 0.1, 1.0])
def test_two_classes_are_told_what_balances_their_margins(advice_on, coupling):
    """Not contrasts, which one class has none of: w kappa is what grows a class's margin."""
    counts = (75, 5)
    exponent = balance(counts, coupling, 1.0)
    larger, smaller = times_of_two(counts, coupling, exponent)
    # of a start of a thousandth, which is alike in both, less than a hundredth is left
    assert smaller == pytest.approx(larger, rel=1e-2)
    for off in (-0.2, 0.2):
        larger, smaller = times_of_two(counts, coupling, exponent + off)
        assert (smaller < larger) == (off > 0) and abs(smaller / larger - 1) > 0.02
    advice = advice_on(coupling, counts)
    (case,) = advice.cases
    assert np.isnan(case.balancing_exponent) and "two classes is alone" in advice.no_contrasts
    assert case.margin_exponent == pytest.approx(exponent, abs=1e-12)
    # the run is read from straight lines between half-integer exponents
    assert case.run_exponent == pytest.approx(exponent, abs=0.03)
    assert case.balance == case.margin_exponent
    assert "g*" not in advice.verdict and "both classes are then learned at once" in advice.verdict
    choices = by_name(advice)
    assert "g*" not in choices and choices["margins"].order == AT_ONCE
    if coupling == 0:
        # the three numbers start and stay alike
        assert delay(choices["ERM"]) == pytest.approx(1, rel=1e-6)
        assert case.run_exponent == pytest.approx(0, abs=1e-6)
        assert "use no weights (ERM). " in advice.verdict
        assert "the smaller class first" in advice.verdict
        assert choices["balanced"].order == SMALLEST
        # what is no sooner than ERM is not ahead of it
        assert np.isnan(choices["margins"].ahead_of_erm).all()


def test_five_hundred_and_fifty_get_one_verdict():
    """Once g* = 0.5 and a window stood above a table in which ERM had both classes at once."""
    advice = advise((500, 50), 0.0)
    choices, text = by_name(advice), " ".join(printed(advice).split())
    assert delay(choices["ERM"]) == pytest.approx(1, rel=1e-6)
    assert choices["ERM"].order == AT_ONCE and "use no weights (ERM). " in advice.verdict
    assert "No balancing exponent g* of contrasts: each of two classes is alone" in text
    assert "│ 0 │ - │ 0 │ 0 │" in text and "0.5 in the model" not in text
    # coupled, balance costs the larger class what it gives to the smaller: nothing is sooner
    coupled = advise((500, 50), 0.1)
    margins = by_name(coupled)["margins"]
    assert margins.learning_time.max() > by_name(coupled)["ERM"].learning_time.max()
    assert np.isnan(margins.ahead_of_erm).all()
    late = (
        "ERM learns the smaller class last, yet has learned all classes no later than these weights"
    )
    assert late in coupled.verdict


@pytest.mark.parametrize(
    ("counts", "alone"), [((8, 8, 2), "minority is one class (2"), ((9, 3, 3), "majority is one")]
)
def test_a_class_alone_in_its_group_is_not_told_by_contrasts(advice_on, counts, alone):
    advice = advice_on(counts=counts)
    (case,) = advice.cases
    assert np.isnan(case.balancing_exponent) and alone in advice.no_contrasts
    assert case.margin_exponent == 0 and case.balance == case.run_exponent
    choices = by_name(advice)
    # the exponent that is read off between runs holds in a run of its own
    assert delay(choices["run"]) == pytest.approx(1, abs=0.05)
    assert "g*" not in advice.verdict and "no network with a class alone" in advice.verdict
    assert f"(ERM; {case.balance:.3g}" not in advice.verdict and "at once" in advice.verdict
    text = " ".join(printed(advice).split())
    assert (
        "No balancing exponent g* of contrasts: the m" in text
        and "The model itself decides." in text
    )


def test_long_tails_have_groups_of_several_classes(advice_on):
    """No two of a size, yet heads and tails have contrasts; the run balances as near g* as STEP's."""
    counts = (800, 400, 200, 100)
    advice = advice_on(0.1, counts)
    (case,) = advice.cases
    assert advice.no_contrasts == "" and case.balancing_exponent == pytest.approx(
        balance(counts, 0.1, 0.5)
    )
    assert case.run_exponent == pytest.approx(case.balancing_exponent, abs=0.03)
    assert np.isnan(case.choices[0].contrast_time).all() and "no long tail" in advice.verdict
    # head {5000, 600}, tail {50}: the geometric mean of the extremes is 500
    assert "minority is one class (50" in profiles.no_contrasts((5000, 600, 50))
    assert profiles.no_contrasts((5000, 400, 50)).startswith("the majority is one class (5000")


@pytest.mark.parametrize("counts", [("8,8,2,2",), ("8", "8", "2", "2"), ("8, 8,", "2,2")])
def test_the_command_takes_counts_either_way(counts, capsys, monkeypatch):
    seen = []
    monkeypatch.setattr(advice_module, "advise", lambda *given: seen.append(given) or "advice")
    monkeypatch.setattr(advice_module, "render", lambda advice: [advice])
    if counts[0].endswith(","):
        with pytest.raises(InputError, match="counts='8, 8, 2,2': must be the samples"):
            Advise(counts)()
    else:
        Advise(counts, coupling=0.3, loss="squared")()
        Advise(counts)()
        assert seen[0][:3] == ((8, 8, 2, 2), 0.3, "squared")
        assert seen[1][:3] == ((8, 8, 2, 2), None, "cross_entropy")
        assert capsys.readouterr().out == "advice\n" * 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"counts": (5,)}, "counts="),
        ({"counts": ()}, "counts="),
        ({"counts": 5}, "counts=5: must be samples of at least two classes"),
        ({"counts": (5, 0)}, r"counts\[1\]=0"),
        ({"counts": (5, 2.5)}, r"counts\[1\]=2.5"),
        ({"coupling": 1.5}, "coupling=1.5"),
        ({"loss": "ldam"}, "loss='ldam'"),
    ],
)
def test_bad_input_is_one_line(changes, message):
    with pytest.raises(InputError, match=message) as error:
        advise(**{"counts": (5, 3), **changes})
    assert "\n" not in str(error.value)


def test_notes_say_what_a_weighted_mean_over_mini_batches_makes_of_weights():
    """The effective ratio, and the least batch that keeps 90 % of the one asked for; none where batches do."""
    from ssm.advice import batches

    counts, coupling = (40, 40, 4, 4), 0.1
    (case,) = advise(counts, coupling, "squared").cases
    assert case.recommended is not None
    assert case.recommended.class_weights is not None
    w = case.recommended.class_weights

    def ratio(size):
        found = weights.effective_class_weights(counts, w, size)
        return found[2] / found[0]

    (note,) = batches.notes(counts, [case], 4)
    (enough,) = map(int, re.findall(r"batches of (\d+) or more", note))
    assert f" {ratio(4):.4g}, on average" in note
    assert ratio(enough - 1) < 0.9 * w[2] / w[0] <= ratio(enough)
    (note,) = batches.notes(counts, [case], 10**6)
    assert "or more" not in note
    assert batches.notes((8, 8), advise((8, 8), 0.0, "squared").cases, 4) == []
