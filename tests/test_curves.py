"""Curves of decisions: their intervals hold the truth of a known posterior, and their figures what the curves hold."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy import special, stats

import ssm
from ssm.plots import decisions
from ssm.practice import curves, thresholds

SHARE, DISTANCE = 0.3, 1.5


def drawn(rng, n):
    """Two Gaussian classes, and their true posterior: probabilities of class 1, and labels."""
    y = (rng.random(n) < SHARE).astype(int)
    x = rng.normal(size=n) + DISTANCE * (y - 0.5)
    return special.expit(DISTANCE * x + special.logit(SHARE)), y


def rates(cut):
    """The shares of the two classes with a log odds of the equal classes of at least `cut`."""
    x = cut / DISTANCE
    return stats.norm.sf(x - DISTANCE / 2), stats.norm.sf(x + DISTANCE / 2)


def test_intervals_of_curves_hold_the_truth_as_often_as_they_say():
    """Net benefit and cost of the true posterior in closed form, at points with some ten cases of each kind or more.
    Of 400 samples of 400 cases an interval of 95 % misses 20, give or take three times sqrt(19); the bootstrap's
    percentiles are known to be some hundredth short."""
    rng = np.random.default_rng(0)
    at = np.array([0.15, 0.3, 0.5])
    hit, false = rates(special.logit(at) - special.logit(SHARE))
    benefit = SHARE * hit - (1 - SHARE) * false * at / (1 - at)
    points = np.array([0.25, 0.5, 0.75])
    hit, false = rates(-special.logit(points))
    cost = points * (1 - hit) + (1 - points) * false
    held = np.zeros((2, 3))
    for _ in range(400):
        p, y = drawn(rng, 400)
        decision = curves.decision_curve(p, y, at, num_resamples=399, seed=rng)
        held[0] += (decision.low <= benefit) & (benefit <= decision.high)
        costs = curves.cost_curve(p, y, SHARE, points, num_resamples=399, seed=rng)
        held[1] += (costs.low <= cost) & (cost <= costs.high)
    low, high = stats.binom.ppf([1e-3, 1 - 1e-3], 400, [0.94, 0.95])
    assert ((held >= low) & (held <= high)).all(), held


def test_intervals_are_those_of_drawing_cases():
    """As drawing them one by one, within the noise of quantiles of 4000 samples, some tenth of a standard deviation."""
    rng = np.random.default_rng(1)
    p, y = drawn(rng, 150)
    at = np.array([0.1, 0.4])
    found = curves.decision_curve(p, y, at, num_resamples=20_000)
    each = []
    for _ in range(4000):
        i = rng.integers(0, len(p), len(p))
        act = p[i] >= at[:, None]
        hits, false = (act & (y[i] == 1)).mean(1), (act & (y[i] == 0)).mean(1)
        each.append(hits - false * at / (1 - at))
    low, high = np.quantile(each, [0.025, 0.975], axis=0)
    tolerance = 0.15 * np.std(each, axis=0)
    assert (np.abs(found.low - low) < tolerance).all()
    assert (np.abs(found.high - high) < tolerance).all()


def test_curves_lie_within_their_intervals():
    p, y = drawn(np.random.default_rng(2), 300)
    at = np.linspace(0, 0.9, 10)
    for found in (curves.decision_curve(p, y, at), curves.cost_curve(p, y, SHARE, at)):
        assert (found.low <= found.model + 1e-12).all() and (
            found.model <= found.high + 1e-12
        ).all()
    nobody = curves.decision_curve([0.1, 0.2], [0, 1], [0.5])
    assert (nobody.low, nobody.model, nobody.high) == (0, 0, 0)
    again = curves.decision_curve(p, y, at)
    np.testing.assert_array_equal(again.low, curves.decision_curve(p, y, at).low)


def test_a_budget_curve_is_recall_at_each_budget():
    rng = np.random.default_rng(3)
    held_out, judged = drawn(rng, 200), drawn(rng, 200)
    found = curves.budget_curve(held_out, judged, [0.0, 0.2, 1.0])
    for i, budget in enumerate((0.0, 0.2, 1.0)):
        alarms = thresholds.recall_at_budget(held_out, judged, budget)
        recall = (found.recall[i], found.recall_low[i], found.recall_high[i])
        precision = (found.precision[i], found.precision_low[i], found.precision_high[i])
        assert recall == alarms.recall and found.share[i] == alarms.share.mean
        np.testing.assert_array_equal(precision, alarms.precision)
    assert np.isnan(found.precision[0]) and found.recall[0] == 0
    with pytest.raises(ssm.InputError, match="budgets="):
        curves.budget_curve(held_out, judged, [1.1])
    with pytest.raises(ssm.InputError, match="other samples"):
        curves.budget_curve(judged, judged, [0.1])


def test_figures_show_what_the_curves_hold():
    """Lines in the order of their points, a band for each, the references, and what the axes are."""
    rng = np.random.default_rng(4)
    p, y = drawn(rng, 200)
    at = np.array([0.5, 0.1, 0.3])
    decision = curves.decision_curve(p, y, at)
    cost = curves.cost_curve(p, y, SHARE, at)
    budget = curves.budget_curve(drawn(rng, 200), (p, y), at)
    drawings = {
        "probability at which one acts": decisions.plot_decision_curves(
            {"a": decision, "b": decision}
        ),
        "positive class's part of the possible cost": decisions.plot_cost_curves(cost),
        "budget (alarms as a share of all cases)": decisions.plot_budget_curve(budget),
    }
    shown = {}
    for label, figure in drawings.items():
        (axes,) = figure.axes
        assert axes.get_xlabel() == label and axes.get_ylabel()
        assert axes.get_legend() is not None
        shown[label] = {str(line.get_label()): line.get_data() for line in axes.lines}
        bands = [line for line in axes.lines if line.get_zorder() == 3]
        assert len(axes.collections) == len(bands) > 0
    first, second, third = shown.values()
    assert set(first) == {"act on all", "act on none", "a", "b"}
    assert set(second) == {"decide always the same", "model"} and set(third) == {
        "recall",
        "precision",
    }
    np.testing.assert_array_equal(first["b"], [[0.1, 0.3, 0.5], decision.model[[1, 2, 0]]])
    np.testing.assert_array_equal(second["model"][1], cost.model[[1, 2, 0]])
    assert not plt.get_fignums()


def test_what_is_no_curve_is_not_drawn():
    p, y = drawn(np.random.default_rng(5), 50)
    cost = curves.cost_curve(p, y, SHARE, [0.5])
    for bad in ({}, cost, {"a": cost}, dict.fromkeys("abcdef", cost), [cost]):
        with pytest.raises(ssm.InputError, match="curves="):
            decisions.plot_decision_curves(bad)  # pyright: ignore[reportArgumentType] # on purpose
    with pytest.raises(ssm.InputError, match="curve="):
        decisions.plot_budget_curve(cost)  # pyright: ignore[reportArgumentType] # on purpose
