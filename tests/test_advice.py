"""What the model says of class counts: against closed forms, against its own runs, and in words."""

from __future__ import annotations

import dataclasses
import io
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from ssm import InputError, advice, theory, weights
from ssm.advice import advise
from ssm.practice.commands import Advise

COUNTS = (8, 8, 2, 2)  # those of `tiny`


@pytest.fixture(scope="module")
def told():
    """Advice under the squared loss, so that all share one compilation; each only once."""
    known = {}

    def tell(coupling=0.0, counts=COUNTS):
        key = coupling, counts
        if key not in known:
            known[key] = advise(counts, coupling, "squared")
        return known[key]

    return tell


def by_name(found):
    return {choice.name: choice for choice in found.choices}


def printed(found):
    console = Console(file=io.StringIO(), width=120)
    for part in advice.render(found):
        console.print(part, markup=False)
    return console.file.getvalue()


@pytest.mark.parametrize("counts", [COUNTS, (50, 9, 4, 3)])
def test_erm_of_free_features_learns_by_sigmoids(told, counts):
    """Squared loss: modes of the label matrix from 1e-6, by a dense SVD, in each class's margin."""
    labels, n = np.repeat(np.arange(4), counts), sum(counts)
    U, s, Vt = np.linalg.svd(np.eye(4)[:, labels] - 1 / 4, full_matrices=False)
    U, s, Vt = U[:, :3], s[:3], Vt[:3]

    def ahead(t, c):
        strength = s / (1 + (s / 1e-6 - 1) * np.exp(-2 * s * t / n))
        logits = (U * strength) @ Vt[:, labels.tolist().index(c)]
        return logits[c] - np.delete(logits, c).max() - 0.5

    expected = [brentq(ahead, 0, 60 * n, args=(c,)) for c in range(4)]
    found = told(counts=counts).choices[0].learning_time
    # a fourth of an e-fold between two observed times, on a straight line
    np.testing.assert_allclose(found, expected, rtol=5e-3)


@pytest.mark.parametrize("coupling", [0.0, 1.0])
def test_contrasts_are_learned_when_a_run_from_a_random_start_learns_them(told, run, coupling):
    found, ratios = by_name(told(coupling)), []
    for name, exponent in (("ERM", 0.0), ("balanced", 1.0)):
        times = [
            run(loss="squared", coupling=coupling, weight_exponent=exponent, seed=seed)[
                "block_learning_time"
            ].values[[0, 2]]
            for seed in (0, 1)
        ]
        measured, predicted = np.mean(times, axis=0), found[name].contrast_time[[0, -1]]
        # a start of d = 6 Gaussian directions is off a spectral one by an e-fold or two of 15, and a
        # later block finds fewer of them free
        np.testing.assert_allclose(predicted, measured, rtol=0.2)
        ratios.append((measured[1] / measured[0], predicted[1] / predicted[0]))
    measured, predicted = np.transpose(ratios)
    np.testing.assert_allclose(predicted, measured, rtol=0.2)
    # what weights change is free of the start
    assert predicted[0] / predicted[1] == pytest.approx(4.0, rel=1e-12)  # R^(g - 0)
    assert measured[0] / measured[1] == pytest.approx(4.0, rel=0.1)


@pytest.mark.parametrize("coupling", [0.0, 1.0])
def test_a_class_is_learned_no_sooner_than_its_contrasts(told, coupling):
    for choice in told(coupling).choices:
        # read off a straight line between two observed times
        assert (choice.learning_time > (1 - 5e-3) * choice.contrast_time).all()


@pytest.mark.parametrize("coupling", [0.0, 0.2, 1.0])
def test_the_balancing_exponent_balances_and_opens_a_window(told, coupling):
    found = told(coupling)
    assert found.balancing_exponent == pytest.approx(theory.balancing_exponent(8, 2, coupling))
    choices = by_name(found)
    erm, balancing = choices["ERM"], choices["g*"]
    np.testing.assert_allclose(
        balancing.class_weights,
        weights.power_law(np.array(COUNTS), found.balancing_exponent),
        rtol=1e-12,
    )
    assert balancing.slowest_over_fastest < 1.1 < erm.slowest_over_fastest
    assert balancing.window == (balancing.learning_time.max(), erm.learning_time.max())
    assert balancing.window[0] < balancing.window[1] and np.isnan(erm.window).all()
    assert found.unit == erm.learning_time.min() and found.imbalance_ratio == 4


def test_what_each_choice_exposes(told, run):
    choices = by_name(told())
    for name, exponent in (("ERM", 0.0), ("sqrt", 0.5), ("balanced", 1.0)):
        simulated = run(loss="squared", weight_exponent=exponent, seed=0)
        # that run starts from logits of about 1e-6
        np.testing.assert_allclose(
            choices[name].gradient_share, simulated["gradient_share"].values[0], rtol=1e-4
        )
        for share in ("mean_sample_weight", "effective_sample_share"):
            assert getattr(choices[name], share) == pytest.approx(simulated.attrs[share], rel=1e-12)
    np.testing.assert_allclose(
        choices["effective"].class_weights,
        weights.effective_number(np.array(COUNTS), 1 - 1 / 20),
        rtol=1e-12,
    )


def test_what_is_learned_long_before_the_rest_is_seen_too(told):
    """Shared features, R = 10^4: contrasts ten thousand times apart, before the first observation."""
    erm = told(coupling=1.0, counts=(10**6, 10**6, 100, 100)).choices[0]
    assert erm.learning_time[2] > 5000 * erm.learning_time[0]
    # other classes are told apart a little later than the equal one
    assert 1 <= erm.learning_time[0] / erm.contrast_time[0] < 1.2


def test_what_a_run_does_not_get_to_is_left_out_and_said(told, monkeypatch):
    plain = advice.Config
    monkeypatch.setattr(advice, "Config", lambda **fields: plain(**fields, max_steps=40))
    found = advise((10**4, 10**4, 10, 10), 1.0, "squared")
    erm = found.choices[0]
    assert np.isnan(erm.learning_time[2:]).all() and np.isfinite(erm.contrast_time).all()
    assert "ERM: a dash where the run of the model (out of steps) did not get to it." in found.notes
    assert np.isnan(erm.slowest_over_fastest) and np.isnan(found.choices[1].window).all()


def test_equal_counts_have_nothing_to_balance(told):
    found = told(counts=(5, 5, 5, 5))
    assert [choice.name for choice in found.choices] == ["ERM"] and np.isnan(
        found.balancing_exponent
    )
    assert found.verdict.startswith("Verdict: use no weights. All classes have the same size")
    assert "nothing to balance" in found.notes[1] and "balancing exponent" not in printed(found)
    assert found.choices[0].slowest_over_fastest == pytest.approx(1, rel=1e-6)


def test_too_many_classes_are_not_run(monkeypatch):
    monkeypatch.setattr(advice, "MOST_CLASSES", 3)
    monkeypatch.setattr(advice.simulation, "simulate", None)
    found = advise(range(1, 12))
    assert found.balancing_exponent == 0.5 and np.isnan(found.choices[1].learning_time).all()
    assert "at most 3 classes" in found.notes[-1]
    text = printed(found)
    sizes = [f"{n} x 1" for n in (11, 9, 7, 5, 3, 1)]
    assert all(size in text for size in sizes) and "2 x 1" not in text


def test_what_is_printed(told):
    found = told()
    text = " ".join(printed(found).split())
    assert "4 classes, 20 samples, imbalance ratio 4; squared; coupling 0" in text
    assert advice.render(found)[0] == found.verdict and text.startswith("Verdict: use ")
    assert "ratios of times do not" in text and "order of classes and which weights" in text
    assert "A dash: these weights are not sooner than ERM." in text
    assert "1 / (1 - b^n), b = 1 - 1/N" in text
    assert "g* = 0.500" in text and "8 x 2" in text and "own size, closed form" in text
    assert "small-scale model" in text and "no prediction of a real network" in text
    alone = printed(dataclasses.replace(found, choices=tuple(
        dataclasses.replace(choice, contrast_time=np.full(4, np.nan)) for choice in found.choices
    )))  # fmt: skip
    assert "closed form" not in alone


def balance(counts, coupling, power):
    """The exponent of w at which w sqrt(n kappa) (power 1/2) or w kappa (power 1) are alike."""
    kappa = [1 + coupling * (n - 1) for n in (counts[0], counts[-1])]
    return (1 - power) + power * np.log(kappa[0] / kappa[1]) / np.log(counts[0] / counts[-1])


def test_the_verdict_names_weights_by_what_balances_contrasts(told):
    free, shared, between = (told(c).verdict for c in (0.0, 1.0, 0.2))
    assert "use `sqrt` weights, 1 / n^0.5. " in free and "`balanced`, 1 / n) reverses" in free
    assert "not very" in free and "couplings were 0.01 to 0.42" in free
    for c in (0.01, 0.42):
        assert f"1 / n^{balance(COUNTS, c, 0.5):.2f} at {c:g}" in free
    assert "use `balanced` weights, 1 / n^1. " in shared and "reverses" not in shared
    assert f"use weights 1 / n^{balance(COUNTS, 0.2, 0.5):.3g}. " in between
    for text in (shared, between):
        assert "not very" not in text and "held in the networks measured" in text
        assert "measured_coupling(features, labels).coupling" in text


def test_what_is_said_of_networks_is_what_the_experiment_found():
    claims = (Path(__file__).parents[1] / "figures" / "claims.md").read_text()
    rows = claims.split("## bridge")[1].split("##")[0].splitlines()
    couplings = [float(c) for row in rows for c in re.findall(r"noise [.\d]+, c = ([.\d]+)", row)]
    convolutional = next(row for row in rows if "convolutional" in row)
    couplings.append(float(re.search(r"c = ([.\d]+)", convolutional)[1]))
    ends = min(couplings), max(couplings)
    assert tuple(round(c, 2) for c in ends) == advice.MEASURED_COUPLING
    grown = [row for row in rows if "small start, noise" in row] + [convolutional]
    assert len(grown) == 5
    assert all(float(row.split("|")[3].split()[0]) <= advice.NEAR for row in grown)


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
def test_two_classes_are_told_what_balances_their_margins(told, coupling):
    """Not contrasts, which one class has none of: w kappa is what grows a class's margin."""
    counts = (75, 5)
    exponent = balance(counts, coupling, 1.0)
    larger, smaller = times_of_two(counts, coupling, exponent)
    # of a start of a thousandth, which is alike in both, less than a hundredth is left
    assert smaller == pytest.approx(larger, rel=1e-2)
    for off in (-0.2, 0.2):
        larger, smaller = times_of_two(counts, coupling, exponent + off)
        assert (smaller < larger) == (off > 0) and abs(smaller / larger - 1) > 0.02
    found = told(coupling, counts)
    named = {0.0: "no weights (ERM). ", 1.0: "`balanced` weights, 1 / n^1. "}
    assert f"use {named.get(coupling, f'weights 1 / n^{exponent:.3g}. ')}" in found.verdict
    assert "g*" not in found.verdict and "learns both classes at once" in found.verdict.replace(
        "they learn", "it learns"
    )
    if coupling == 0:
        # the three numbers start and stay alike
        assert found.choices[0].slowest_over_fastest == pytest.approx(1, rel=1e-6)
        assert "the smaller class first" in found.verdict
        balanced = by_name(found)["balanced"].learning_time
        assert balanced[1] < balanced[0]


@pytest.mark.parametrize("counts", [(8, 8, 2), (9, 3, 3)])
def test_a_class_alone_in_its_group_is_not_told_by_contrasts(told, counts):
    found = told(counts=counts)
    ratios = {
        choice.name: choice.slowest_over_fastest for choice in found.choices if choice.name != "g*"
    }
    best = min(ratios, key=ratios.__getitem__)
    assert found.verdict.startswith(f"Verdict: use `{best}` weights, ")
    assert "no contrasts within it" in found.verdict and "g*" not in found.verdict
    text = " ".join(printed(found).split())
    assert "balancing exponent" not in text and "go by the verdict instead" in text
    assert "A class whose size no other class shares has no entry in the last table" in text


@pytest.mark.parametrize("counts", [("8,8,2,2",), ("8", "8", "2", "2"), ("8, 8,", "2,2")])
def test_the_command_takes_counts_either_way(counts, capsys, monkeypatch):
    seen = []
    monkeypatch.setattr(advice, "advise", lambda *given: seen.append(given) or "advice")
    monkeypatch.setattr(advice, "render", lambda found: [found])
    if counts[0].endswith(","):
        with pytest.raises(InputError, match="counts='8, 8, 2,2': must be the samples"):
            Advise(counts)()
    else:
        Advise(counts, coupling=0.3, loss="squared")()
        assert seen[0][:3] == ((8, 8, 2, 2), 0.3, "squared")
        assert capsys.readouterr().out == "advice\n"


@pytest.mark.parametrize(
    ("changes", "said"),
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
def test_bad_input_is_one_line(changes, said):
    with pytest.raises(InputError, match=said) as error:
        advise(**{"counts": (5, 3), **changes})
    assert "\n" not in str(error.value)
