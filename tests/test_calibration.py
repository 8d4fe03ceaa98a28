"""Calibration errors against plain NumPy, and how often their intervals hold a known error."""

import functools

import numpy as np
import pytest
from scipy.stats import binomtest

from ssm import InputError
from ssm.practice.statistics import calibration


def binned_by_hand(confidences, outcomes, num_bins=15):
    """The error of distinct confidences, sorted and cut into parts of equal size."""
    parts = np.array_split(np.argsort(confidences), num_bins)
    gaps = [abs(confidences[part].mean() - outcomes[part].mean()) for part in parts]
    return np.average(gaps, weights=[len(part) for part in parts])


@pytest.fixture
def predictions(rng):
    rows = rng.dirichlet([0.5, 1.0, 2.0], 300)
    return rows, rng.integers(0, 3, 300)


@pytest.mark.parametrize("num_bins", [1, 4, 15])
def test_errors_are_those_of_plain_numpy(predictions, num_bins):
    rows, labels = predictions
    top = binned_by_hand(rows.max(1), rows.argmax(1) == labels, num_bins)
    # sums of 300 numbers in another order
    assert calibration.top_label_error(rows, labels, num_bins) == pytest.approx(top, rel=1e-12)
    each = [binned_by_hand(rows[:, c], labels == c, num_bins) for c in range(3)]
    np.testing.assert_allclose(calibration.class_errors(rows, labels, num_bins), each, rtol=1e-12)


def test_a_diagram_adds_up(predictions):
    rows, labels = predictions
    diagram = calibration.reliability(*calibration.top_label(rows, labels))
    np.testing.assert_array_equal(diagram.count, 20)
    assert (np.diff(diagram.mean_confidence) > 0).all()
    assert diagram.count @ diagram.mean_confidence == pytest.approx(rows.max(1).sum(), rel=1e-12)
    assert diagram.count @ diagram.frequency == pytest.approx((rows.argmax(1) == labels).sum())
    uneven = calibration.reliability(rows[:100, 0], labels[:100] == 0)  # 100 / 15 is no integer
    assert uneven.count.sum() == 100
    assert set(uneven.count) == {6, 7}


def test_equal_confidences_share_a_bin(rng):
    """However few their values: a bin for each, with its own frequency, in any order of samples."""
    values = np.array([0.1, 0.4, 0.5, 0.9])
    confidences = np.repeat(values, [30, 50, 7, 90])
    outcomes = rng.random(177) < 0.5
    shuffled = rng.permutation(177)
    diagram = calibration.reliability(confidences[shuffled], outcomes[shuffled])
    np.testing.assert_allclose(diagram.mean_confidence, values, rtol=1e-14)
    np.testing.assert_array_equal(diagram.count, [30, 50, 7, 90])
    shares = [outcomes[confidences == value].mean() for value in values]
    np.testing.assert_allclose(diagram.frequency, shares, rtol=1e-14)
    two = calibration.reliability(confidences, outcomes, 2)
    np.testing.assert_array_equal(two.count, [87, 90])


def test_a_weight_is_a_number_of_equal_samples(rng):
    confidences, weights = rng.random(60), rng.integers(0, 4, 60)
    outcomes = rng.random(60) < confidences
    weighted = calibration.reliability(confidences, outcomes, 7, weights)
    repeated = calibration.reliability(
        np.repeat(confidences, weights), np.repeat(outcomes, weights), 7
    )
    for one, other in zip(weighted, repeated, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-13)


def test_two_classes_are_one_against_the_other(rng):
    positive = rng.random(150)
    labels = rng.integers(0, 2, 150)
    errors = calibration.class_errors(np.stack([1 - positive, positive], 1), labels)
    assert errors[0] == pytest.approx(errors[1], rel=1e-12)


def test_frequencies_as_predicted_have_no_error():
    confidences = np.repeat([0.25, 0.5, 0.75], 4)
    outcomes = np.array([1, 0, 0, 0, 1, 0, 1, 0, 1, 1, 0, 1])
    assert calibration.reliability(confidences, outcomes).error == 0
    assert calibration.bootstrap_interval(confidences, outcomes)[:2] == (0, 0)


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_wilson_is_that_of_scipy(level):
    successes, totals = np.array([0, 3, 20, 41]), np.array([7, 30, 20, 50])
    low, high = calibration.wilson(successes, totals, level)
    for i, (x, n) in enumerate(zip(successes, totals, strict=True)):
        theirs = binomtest(int(x), int(n)).proportion_ci(level, "wilson")
        np.testing.assert_allclose([low[i], high[i]], [theirs.low, theirs.high], atol=1e-14)


def test_one_bin_far_from_calibrated_has_the_interval_of_a_proportion():
    """Then the error is |confidence - frequency|, and inverting its test gives Wilson's interval."""
    outcomes = np.arange(100) < 70
    obtained = calibration.bootstrap_interval(np.full(100, 0.4), outcomes, 1, num_resamples=4999)
    low, high = calibration.wilson([70], [100])
    assert obtained.estimate == pytest.approx(0.3, abs=0.002)  # E T* over 4999, noise 0.046 / 70
    # one count in 100 is 0.01, which the draws have and the normal law has not
    np.testing.assert_allclose(
        [obtained.low, obtained.high], [low[0] - 0.4, high[0] - 0.4], atol=0.01
    )


def test_a_higher_level_holds_a_lower_one(rng):
    confidences = rng.random(200)
    outcomes = rng.random(200) < 0.7 * confidences
    wide, narrow = (
        calibration.bootstrap_interval(confidences, outcomes, level=level) for level in (0.95, 0.5)
    )
    assert 0 <= wide.low < narrow.low < narrow.estimate < narrow.high < wide.high
    assert narrow.estimate == pytest.approx(wide.estimate, rel=1e-3)  # on grids of their own
    # noise in a bin counts as error where it is measured
    assert wide.estimate < calibration.reliability(confidences, outcomes).error


VALUES = np.linspace(0.2, 0.9, 8)
GAPS = 0.1 * np.cos(7 * VALUES)  # both signs


def calibrated(rng):
    p = rng.beta(4, 2, 150)
    return p, p


def overconfident(rng):
    """Everywhere by 0.1."""
    p = 0.9 * rng.beta(4, 2, 150)
    return p + 0.1, p


def of_one_class(rng):
    """A class against the rest, whose probability c is uniform and exceeds its share by 0.6 c
    (1 - c): 0.1 on average."""
    c = rng.random(150)
    return c, c - 0.6 * c * (1 - c)


def few_values(rng):
    i = rng.integers(0, 8, 150)
    return VALUES[i], (VALUES - GAPS)[i]


@pytest.mark.parametrize(
    ("draw", "error"),
    [
        pytest.param(calibrated, 0, marks=pytest.mark.slow),
        (overconfident, 0.1),
        pytest.param(of_one_class, 0.1, marks=pytest.mark.slow),
        pytest.param(few_values, abs(GAPS).mean(), marks=pytest.mark.slow),
    ],
    ids=["calibrated", "overconfident", "class", "values"],
)
def test_intervals_cover_a_known_error(draw, error):
    """In 95 % +- 2 % of 1000 data sets, whose own noise is 0.7 %."""
    rng = np.random.default_rng(1)
    interval = functools.partial(calibration.bootstrap_interval, num_bins=10, num_resamples=99)
    if draw is few_values:  # so many bins that none holds two values
        interval = functools.partial(interval, num_bins=30)
    covered = 0
    for _ in range(1000):
        confidences, frequencies = draw(rng)
        obtained = interval(confidences, rng.random(150) < frequencies, seed=rng)
        covered += obtained.low <= error <= obtained.high
    assert abs(covered / 1000 - 0.95) < 0.02


@pytest.mark.parametrize("sure", [0.0, 1.0])
def test_what_is_certain_and_right_has_no_error(sure):
    obtained = calibration.bootstrap_interval(np.full(300, sure), np.full(300, sure))
    assert obtained.low == obtained.estimate == 0
    # 300 times right is as strange as 1 in 20 where 1 in 100 is wrong: 0.99^300 = 0.049
    assert 0 < obtained.high < 0.02


def test_an_error_almost_without_noise_has_a_short_interval():
    """Never in 3000 times, of 0.05 each: 0.001 at most, since 0.999^3000 = 0.05."""
    obtained = calibration.bootstrap_interval(np.full(3000, 0.05), np.zeros(3000))
    assert 0.048 < obtained.low <= obtained.estimate <= obtained.high <= 0.05 + 1e-12


@pytest.mark.parametrize(
    ("rows", "labels", "named"),
    [
        ([[0.5, 0.6]], [0], "probabilities"),
        ([[1.5, -0.5]], [0], "probabilities"),
        ([[np.nan, 1.0]], [0], "probabilities"),
        ([[1.0]], [0], "probabilities"),
        ([0.5, 0.5], [0, 1], "probabilities"),
        (np.empty((0, 2)), [], "probabilities"),
        ("no", [0], "probabilities"),
        ([[0.5, 0.5]], [2], "labels"),
        ([[0.5, 0.5]], [-1], "labels"),
        ([[0.5, 0.5]], [0.0], "labels"),
        ([[0.5, 0.5]], [0, 1], "labels"),
    ],
    ids=str,
)
def test_bad_predictions_are_refused(rows, labels, named):
    with pytest.raises(InputError, match=f"^{named}="):
        calibration.top_label_error(rows, labels)


@pytest.mark.parametrize(
    "changes",
    [
        {"confidences": [0.5, 1.1]},
        {"confidences": []},
        {"outcomes": [0, 2]},
        {"outcomes": [1]},
        {"num_bins": 0},
        {"level": 1.0},
        {"num_resamples": 5},
    ],
    ids=str,
)
def test_bad_pairs_are_refused(changes):
    (named,) = changes
    with pytest.raises(InputError, match=f"^{named}="):
        calibration.bootstrap_interval(**{"confidences": [0.5, 0.6], "outcomes": [0, 1]} | changes)


@pytest.mark.parametrize("weights", [[1], [1, -1], [0, 0], [1, np.inf], "no"], ids=str)
def test_bad_weights_are_refused(weights):
    with pytest.raises(InputError, match=r"^sample_weight="):
        calibration.reliability([0.5, 0.6], [0, 1], sample_weight=weights)


@pytest.mark.parametrize(
    ("successes", "totals", "named"),
    [([3], [2], "successes"), ([1, 1], [2], "successes"), ([0], [0], "totals")],
    ids=str,
)
def test_bad_counts_are_refused(successes, totals, named):
    with pytest.raises(InputError, match=f"^{named}="):
        calibration.wilson(successes, totals)
