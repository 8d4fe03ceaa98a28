"""Alarms: thresholds that are chosen on some samples and judged on others, and curves of decisions and costs."""

import numpy as np
import pytest
from scipy import special, stats

import ssm
from ssm.practice import curves, thresholds
from ssm.practice.statistics.calibration import wilson


def drawn(rng, n, share=0.1, distance=2.0):
    """Two Gaussian classes, and their true posterior: probabilities of class 1, and labels."""
    y = (rng.random(n) < share).astype(int)
    x = rng.normal(size=n) + distance * (y - 0.5)
    return special.expit(distance * x + special.logit(share)), y


def test_thresholds_by_hand():
    p, y = [0.9, 0.8, 0.8, 0.5, 0.2, 0.1], [1, 1, 0, 1, 0, 0]
    # precision at and above 0.9: 1; 0.8: 2/3; 0.5: 3/4; 0.2: 3/5; 0.1: 1/2
    for precision, threshold in ((1.0, 0.9), (0.76, 0.9), (0.75, 0.5), (0.7, 0.5), (0.6, 0.2)):
        assert thresholds.threshold_at_precision(p, y, precision) == threshold
    assert thresholds.threshold_at_precision([0.9, 0.1], [0, 1], 0.9) == np.inf
    for budget, threshold in ((1.0, 0.1), (0.5, 0.8), (0.49, 0.9), (1 / 6, 0.9), (0.1, np.inf)):
        assert thresholds.threshold_at_budget(p, budget) == threshold
    found = thresholds.alarms_at(0.5, p, y)
    assert (found.recall.mean, found.precision.mean, found.share.mean) == (1.0, 0.75, 4 / 6)
    low, high = wilson([3], [4])
    assert (found.precision.low, found.precision.high) == (low[0], high[0])
    none = thresholds.alarms_at(np.inf, p, y)
    assert none.recall.mean == 0 and np.isnan(none.precision.mean)


@pytest.mark.parametrize("seed", range(3))
def test_what_was_chosen_holds_on_other_samples(seed):
    """The recall of the true posterior at a precision and at a budget, from Gaussian tails, within four standard
    errors of the two samples of 20,000."""
    rng = np.random.default_rng(seed)
    held_out, judged = drawn(rng, 20_000), drawn(rng, 20_000)
    grid = np.linspace(-4, 4, 4001)
    hit, false = stats.norm.sf(grid - 1), stats.norm.sf(grid + 1)
    alarms = 0.1 * hit + 0.9 * false
    found = thresholds.recall_at_precision(held_out, judged, 0.8)
    recall = np.interp(0.8, 0.1 * hit / alarms, hit)
    # 0.8 is not missed by more than noise of the alarms; recall moves with it, threefold
    spread = np.sqrt(2 * 0.8 * 0.2 / (20_000 * 0.1 * recall / 0.8))
    assert found.precision.mean == pytest.approx(0.8, abs=4 * spread)
    assert found.recall.mean == pytest.approx(recall, abs=12 * spread)
    found = thresholds.recall_at_budget(held_out, judged, 0.05)
    recall = np.interp(-0.05, -alarms, hit)
    assert found.share.mean == pytest.approx(0.05, abs=4 * np.sqrt(2 * 0.05 * 0.95 / 20_000))
    assert found.recall.mean == pytest.approx(recall, abs=4 * np.sqrt(2 * 0.25 / 2000))


@pytest.mark.parametrize("budget", [0.02, 0.05, 0.08])
def test_a_budget_is_used_up_where_the_most_probable_are_equal(budget):
    """As by forests: a tenth of the cases has probability 1, nine tenths of which are of the class, and of the others a
    hundredth. A share b / 0.1 of the tie fits, so that recall is b / 0.1 times that of the whole tie, 0.09 / 0.099,
    and the share of alarms b, within four standard errors of 20,000 samples each."""
    rng = np.random.default_rng(0)

    def draw():
        top = rng.random(20_000) < 0.1
        y = (rng.random(20_000) < np.where(top, 0.9, 0.01)).astype(int)
        return np.where(top, 1.0, 0.01), y

    held_out, judged = draw(), draw()
    assert (
        thresholds.threshold_at_budget(held_out[0], budget) == np.inf
    )  # the whole tie does not fit
    found = thresholds.recall_at_budget(held_out, judged, budget)
    noise = budget / 0.1 * np.sqrt(2 * 0.1 * 0.9 / 20_000)  # of the size of the tie, twice
    assert found.share.mean == pytest.approx(budget, abs=4 * noise)
    recall = budget / 0.1 * 0.09 / 0.099
    assert found.recall.mean == pytest.approx(recall, abs=4 * recall * np.sqrt(2 / (20_000 * 0.09)))
    assert found.precision.mean == pytest.approx(0.9, abs=4 * np.sqrt(0.09 / 2000))


def test_of_a_tie_the_part_that_fits_is_drawn_by_lot():
    """By hand: one of ten above, then a tie of six, of which two and a half fit into 35 %."""
    p = np.array([0.9, *[0.6] * 6, 0.2, 0.2, 0.1])
    found = thresholds.within_budget(p, 0.35)
    assert found == pytest.approx((0.75, 0.4, 2.5 / 6))
    assert found.chances(p).sum() == pytest.approx(3.5)
    # Of another sample of the tie, whose rounding differs, as of one that lies nearer to it than to others
    np.testing.assert_allclose(found.chances([0.6 + 1e-9, 0.41, 0.39]), [2.5 / 6, 2.5 / 6, 0])
    # Where the tie fits whole, and the next one does not, the threshold lies between them.
    assert thresholds.within_budget(p, 0.7) == pytest.approx((0.4, 0.15, 0.0))
    whole = thresholds.within_budget([0.9, 0.6, 0.6, 0.2], 0.75)
    assert whole.threshold == 0.6 and whole.tied_share == 0
    alone = thresholds.within_budget([0.9, 0.5, 0.4], 0.4)  # a single sample is no tie
    assert alone.threshold == 0.9 and alone.tied_share == 0
    assert thresholds.within_budget([0.5, 0.5], 0.0).chances([0.5]).sum() == 0
    assert thresholds.within_budget([0.5, 0.5], 1.0).chances([0.5]).sum() == 1


def test_what_is_judged_has_no_say_in_the_threshold():
    """Other labels and probabilities of the judged samples leave it as it is; the same samples are refused."""
    rng = np.random.default_rng(0)
    held_out, judged = drawn(rng, 500), drawn(rng, 500)
    planted = judged[1].astype(float)  # a copy of the label, which would have every threshold right
    for function, number in (
        (thresholds.recall_at_precision, 0.7),
        (thresholds.recall_at_budget, 0.1),
    ):
        found = function(held_out, judged, number).threshold
        assert function(held_out, (planted, judged[1]), number).threshold == found
        assert function(held_out, (judged[0], 1 - judged[1]), number).threshold == found
        for same in (held_out, (held_out[0][::2], held_out[1][::2])):
            with pytest.raises(
                ssm.InputError, match=r"^judged='the held-out samples': must be other"
            ):
                function(held_out, same, number)
        function(
            (held_out[0][::2], held_out[1][::2]), (held_out[0][1::2], held_out[1][1::2]), number
        )


def test_net_benefit_of_the_true_posterior():
    """By Gaussian tails, within four standard errors, and never below the better of none and all by more."""
    p, y = drawn(np.random.default_rng(0), 40_000, share=0.3)
    at = np.array([0.05, 0.2, 0.5, 0.8])
    found = curves.decision_curve(p, y, at)
    cut = (special.logit(at) - special.logit(0.3)) / 2  # where the posterior is t
    odds = at / (1 - at)
    expected = 0.3 * stats.norm.sf(cut - 1) - odds * 0.7 * stats.norm.sf(cut + 1)
    spread = np.maximum(1, odds) / np.sqrt(len(y)) / 2
    assert (np.abs(found.model - expected) < 4 * spread).all()
    np.testing.assert_allclose(found.act_on_all, y.mean() - odds * (1 - y.mean()))
    by_hand = curves.decision_curve([0.9, 0.6, 0.4, 0.1], [1, 0, 1, 0], [0.5])
    assert by_hand.model.tolist() == [0.0] and by_hand.act_on_all.tolist() == [0.0]


def test_cost_curves_are_those_of_the_true_posterior():
    """x (miss rate) + (1 - x) (false alarm rate) at Bayes' threshold for shares x, within four standard errors, and
    that is below the trivial cost."""
    p, y = drawn(np.random.default_rng(0), 40_000, share=0.3)
    at = np.array([0.0, 0.1, 0.5, 0.9, 1.0])
    found = curves.cost_curve(p, y, 0.3, at)
    with np.errstate(divide="ignore"):
        cut = -special.logit(at) / 2
    expected = at * stats.norm.cdf(cut - 1) + (1 - at) * stats.norm.sf(cut + 1)
    np.testing.assert_allclose(found.model, expected, atol=4 * 0.5 / np.sqrt(0.3 * len(y)))
    assert (found.model[1:-1] < found.trivial[1:-1]).all()
    assert found.model[[0, -1]].tolist() == [0, 0]  # all one class, and it is decided


P = [0.2, 0.9]


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda: thresholds.threshold_at_precision([0.2, 1.9], [0, 1], 0.5), "^probabilities "),
        (lambda: thresholds.threshold_at_precision(P, [0, 2], 0.5), r"^outcomes \(held_out\)="),
        (
            lambda: thresholds.threshold_at_precision(P, [0, 1], 0),
            r"^precision=0: must be a finite",
        ),
        (
            lambda: thresholds.threshold_at_budget(P, 1.5),
            r"^budget=1\.5: must be a finite number in",
        ),
        (lambda: thresholds.alarms_at(0.5, [], []), r"^probabilities \(judged\)=\[\]"),
        (
            lambda: curves.decision_curve(P, [0, 1], [1.0]),
            r"^thresholds=\[1\.0\]: must be numbers",
        ),
        (
            lambda: curves.cost_curve(P, [1, 1], 0.5, [0.5]),
            "^outcomes='all 1': must be of both",
        ),
        (lambda: curves.cost_curve(P, [0, 1], 1.0, [0.5]), r"^share=1\.0: must be"),
        (lambda: curves.cost_curve(P, [0, 1], 0.5, [[0.5]]), "^points="),
    ],
    ids=[str(i) for i in range(9)],
)
def test_bad_input_has_one_clear_line(call, line):
    with pytest.raises(ssm.InputError, match=line):
        call()


def test_a_tie_beside_its_neighbouring_number_is_no_more_than_fits():
    p = [np.nextafter(0.25, 1), *[0.25] * 8, 0.1]
    assert thresholds.within_budget(p, 0.3).chances(p).sum() == pytest.approx(3)
    p = [0.5, *[np.nextafter(0.25, 1)] * 8, 0.25]
    assert thresholds.within_budget(p, 0.3).chances(p).sum() == pytest.approx(3)


@pytest.mark.parametrize("seed", range(30))
def test_where_all_are_positive_shares_of_ties_are_no_more_than_the_whole(seed):
    rng = np.random.default_rng(seed)
    p, other = rng.integers(0, 4, (2, 50)) / 4
    found = thresholds.recall_at_budget((p, np.ones(50)), (other, np.ones(50)), rng.random())
    assert found.precision.mean in (1.0, pytest.approx(1.0)) or np.isnan(found.precision.mean)
