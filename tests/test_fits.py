"""Crossings and power laws against exact ones, and what their intervals hold."""

from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy import stats

import ssm
from ssm import fits

G = np.linspace(0.0, 1.5, 7)
R = np.array([1.0, 3.0, 10.0, 30.0, 100.0])  # equal factors, nearly
EXACT = 1e-12  # relative: rounding


def ratios(balance, *, slope=1.0, factor=100.0):
    """factor^(slope (balance - g)), which is 1 at g = balance and straight in its logarithm."""
    return xr.DataArray(factor ** (slope * (balance - G)), {"weight_exponent": G})


@pytest.mark.parametrize("slope", [1.0, -0.3], ids=["falling", "rising"])
@pytest.mark.parametrize("balance", [0.0, 0.1, 0.5, 1.31, 1.5])
def test_crossings_of_straight_lines_are_exact(balance, slope):
    """Those at a point of the axis and at its ends too; 1e-12: rounding, of 1 at most."""
    found = fits.crossing(ratios(balance, slope=slope))
    np.testing.assert_allclose(found.crossing, balance, atol=1e-12)
    assert found.number == 1 and found.reason == ""
    assert np.isneginf(found.low) and np.isposinf(found.high)  # one draw says nothing of others


def test_a_crossing_does_not_know_the_units():
    """Of the axis, of the values and their level, nor which way the ratio was taken."""
    array = ratios(0.4).assign_coords(weight_exponent=G + 1)
    plain = fits.crossing(array).crossing
    np.testing.assert_allclose(plain, 1.4, rtol=EXACT)
    scaled = fits.crossing(array.assign_coords(weight_exponent=60 * (G + 1)))
    np.testing.assert_allclose(scaled.crossing, 60 * plain, rtol=EXACT)
    np.testing.assert_allclose(fits.crossing(7 * array, level=7.0).crossing, plain, rtol=EXACT)
    np.testing.assert_allclose(fits.crossing(1 / array).crossing, plain, rtol=EXACT)
    np.testing.assert_allclose(
        fits.crossing(array.isel(weight_exponent=slice(None, None, -1))).crossing, plain, rtol=EXACT
    )


def test_an_axis_in_equal_factors_is_read_by_its_logarithm():
    """y = 2 x^-0.7 passes 1 at 2^(1/0.7) whatever the unit of x; a straight line does so on an even axis."""
    law = xr.DataArray(2 * R**-0.7, {"imbalance_ratio": R})
    for unit in (1.0, 0.01):
        own = law.assign_coords(imbalance_ratio=unit * R)
        found = fits.crossing(own, along="imbalance_ratio")
        assert found.spacing == "log"
        np.testing.assert_allclose(found.crossing, unit * 2 ** (1 / 0.7), rtol=EXACT)
    assert fits.crossing(ratios(0.3)).spacing == "linear"
    even = xr.DataArray(np.exp([1.0, 0.0, -1.0]), {"x": [1.0, 2.0, 3.0]})
    assert fits.crossing(even, "x").spacing == "linear"
    between = fits.crossing(even * np.e**0.5, "x", spacing="log")
    np.testing.assert_allclose(between.crossing, 2 * 1.5**0.5, rtol=EXACT)


@pytest.mark.parametrize(
    ("logs", "number", "first", "reason"),
    [
        ([2, 1, 3, 1], 0, np.nan, "above"),
        ([-2, -1, -3, -1], 0, np.nan, "below"),
        ([0, 0, 0, 0], 0, np.nan, "at"),
        ([1, 0, 2, 1], 0, np.nan, "above"),  # touched
        ([1, np.nan, -2, -1], 0, np.nan, "missing"),
        ([np.nan] * 4, 0, np.nan, "missing"),
        ([1, -1, -2, np.nan], 1, 0.5, ""),
        ([1, -1, 1, -1], 3, 0.5, ""),
        ([1, 0, 0, -1], 1, 1.0, ""),
        ([2, 1, 1, 0], 1, 3.0, ""),
    ],
)
def test_what_is_no_plain_crossing_says_so(logs, number, first, reason):
    found = fits.crossing(xr.DataArray(np.exp(np.array(logs, float)), {"x": np.arange(4.0)}), "x")
    assert (found.number, found.reason) == (number, reason)
    np.testing.assert_allclose(found.crossing, first, rtol=EXACT)


def test_the_interval_is_that_of_leaving_seeds_out(rng):
    """By a loop over pseudo-values, whose plain standard error it is; every point of other axes alone."""
    noise = xr.DataArray(
        rng.normal(size=(3, 5, len(G))), dims=("coupling", "seed", "weight_exponent")
    )
    array = xr.concat([ratios(b) for b in (0.3, 0.6, 0.9)], "coupling") * np.exp(0.2 * noise)
    found = fits.crossing(array, confidence=0.9)
    for i in range(3):
        own = np.log(array[i].transpose("seed", "weight_exponent").values)

        def passes(logs):
            return np.interp(0, -logs, G)  # they fall throughout

        whole = passes(own.mean(axis=0))
        left_out = [passes(np.delete(own, j, axis=0).mean(axis=0)) for j in range(5)]
        pseudo = 5 * whole - 4 * np.array(left_out)
        reach = stats.t.ppf(0.95, 4) * pseudo.std(ddof=1) / 5**0.5
        ends = found.isel(coupling=i)
        np.testing.assert_allclose(ends.crossing, whole, rtol=EXACT)
        np.testing.assert_allclose(
            [ends.low, ends.high], [whole - reach, whole + reach], rtol=EXACT
        )
        np.testing.assert_allclose(ends.each, [passes(seed) for seed in own], rtol=EXACT)


def test_seeds_that_do_not_cross_leave_the_mean_its_crossing():
    """And an endless interval where the mean does not cross without one of them."""
    logs = np.array([[1.0, 0.5], [1.0, 0.5], [1.0, -4.0]])
    found = fits.crossing(xr.DataArray(np.exp(logs), {"x": [0.0, 1.0]}, ("seed", "x")), "x")
    np.testing.assert_allclose(found.crossing, 0.5, rtol=EXACT)
    np.testing.assert_allclose(found.each, [np.nan, np.nan, 0.2], rtol=EXACT)
    assert np.isneginf(found.low) and np.isposinf(found.high)


def held(found, name, truth, low="low", high="high"):
    inside = (found[low] <= truth) & (truth <= found[high])
    return float(inside.mean())


def test_intervals_of_crossings_hold_the_truth_as_often_as_they_say(rng):
    """Of 400 sweeps of 6 seeds, whose logarithms are shifted together and point by point: 95 % to three
    standard deviations of such a share, 0.033."""
    shift, noise = rng.normal(size=(400, 6, 1)), rng.normal(size=(400, 6, len(G)))
    logs = np.log(ratios(0.65).values) + 0.3 * shift + 0.2 * noise
    array = xr.DataArray(
        np.exp(logs), {"weight_exponent": G}, dims=("sweep", "seed", "weight_exponent")
    )
    found = fits.crossing(array)
    assert 0.917 < held(found, "crossing", 0.65) < 0.983


def test_intervals_of_power_laws_hold_the_truth_as_often_as_they_say(rng):
    """Over seeds with what they share, and of one seed with errors of points alone; bounds as above."""
    shared = rng.normal(size=(400, 6, 1)) * 0.1 * np.log(R / 10)
    noise = 0.1 * rng.normal(size=(400, 6, len(R)))
    for logs in (shared + noise, noise[:, :1]):
        y = xr.DataArray(3 * R**-0.5 * np.exp(logs), {"R": R}, dims=("sweep", "seed", "R"))
        found = fits.power_law(y["R"], y)
        for name, truth in {"exponent": -0.5, "factor": 3.0, "curvature": 0.0}.items():
            share = held(found, name, truth, f"{name}_low", f"{name}_high")
            assert 0.917 < share < 0.983, name


def test_power_laws_are_found_exactly():
    y = xr.DataArray(3 * R**-0.5, {"R": R})
    found = fits.power_law(y["R"], y)
    np.testing.assert_allclose([found.exponent, found.factor], [-0.5, 3.0], rtol=EXACT)
    np.testing.assert_allclose(found.local_exponent, -0.5, rtol=EXACT)
    np.testing.assert_allclose(found.local_x, np.sqrt(R[1:] * R[:-1]), rtol=EXACT)
    # 1e-13: logarithms of order 1 are rounded to 1e-16
    np.testing.assert_allclose([found.departure, found.curvature], 0, atol=1e-13)


def test_an_exponent_does_not_know_the_units(rng):
    y = xr.DataArray(R ** rng.normal(size=len(R)), {"R": R})
    plain, b = fits.power_law(y["R"], y), 7.0
    for x, own, factor in ((y["R"], b * y, b), (b * y["R"], y, b**-plain.exponent)):
        found = fits.power_law(x, own)
        for name in ("exponent", "exponent_low", "curvature", "curvature_high", "departure"):
            np.testing.assert_allclose(
                found[name], plain[name], rtol=1e-10
            )  # rounding, of differences
        np.testing.assert_allclose(found.factor, plain.factor * factor, rtol=1e-10)
    np.testing.assert_allclose(
        fits.power_law(y, y["R"], "R").local_exponent, 1 / plain.local_exponent
    )


def test_what_bends_is_no_power_law():
    """log y = u^2 with u even about its mean has curvature 2 and no slope there; its largest departure is
    at the ends, 4 - mean(u^2) = 2. With seeds that bend by 1 and 3 the interval is of those two."""
    u = np.arange(-2.0, 3.0)
    found = fits.power_law(np.exp(u), np.exp(u**2))
    np.testing.assert_allclose(
        [found.exponent, found.curvature, found.departure], [0, 2, 2], atol=1e-12
    )
    seeds = xr.DataArray(np.exp(np.array([[0.5], [1.5]]) * u**2), {"x": np.exp(u)}, ("seed", "x"))
    found = fits.power_law(seeds["x"], seeds)
    reach = (
        float(stats.t.ppf(0.975, 1)) * 1.0
    )  # half the distance of two numbers is their mean's error
    np.testing.assert_allclose(
        [found.curvature, found.curvature_low, found.curvature_high],
        [2, 2 - reach, 2 + reach],
        rtol=EXACT,
    )


def test_regression_against_scipy(rng):
    """One seed's exponent and factor with their intervals; each cell of a grid alone, x of its own."""
    x = xr.DataArray(np.exp(rng.normal(size=(2, 6))), dims=("loss", "stop"))
    y = xr.DataArray(np.exp(rng.normal(size=(3, 6))), dims=("coupling", "stop"))
    found = fits.power_law(x, y, along="stop", confidence=0.8)
    for loss in range(2):
        for coupling in range(3):
            own = found.isel(loss=loss, coupling=coupling)
            line: Any = stats.linregress(np.log(x[loss]), np.log(y[coupling]))
            quantile = stats.t.ppf(0.9, 4)
            np.testing.assert_allclose(own.exponent, line.slope, rtol=1e-10)
            np.testing.assert_allclose(own.exponent_high, line.slope + quantile * line.stderr)
            low = np.exp(line.intercept - quantile * line.intercept_stderr)
            np.testing.assert_allclose(own.factor_low, low, rtol=1e-10)


def test_over_seeds_an_exponent_is_the_mean_of_theirs(rng):
    y = xr.DataArray(np.exp(rng.normal(size=(len(R), 4))), {"R": R}, ("R", "seed"))
    found = fits.power_law(y["R"], y)
    each = np.polyfit(np.log(R), np.log(y.values), 1)[0]
    np.testing.assert_allclose(found.each_exponent, each, rtol=1e-10)
    mean = stats.t(3, each.mean(), each.std(ddof=1) / 2)
    ends = [found.exponent_low, found.exponent, found.exponent_high]
    np.testing.assert_allclose(ends, mean.ppf([0.025, 0.5, 0.975]), rtol=1e-10)


def test_missing_values_and_too_few_points():
    y = xr.DataArray([[1.0, 2.0, np.nan], [1.0, 2.0, 4.0]], dims=("case", "x"))
    y = y.assign_coords(x=[1.0, 2.0, 4.0])
    np.testing.assert_allclose(fits.power_law(y["x"], y).exponent, [np.nan, 1.0], rtol=EXACT)
    two = fits.power_law([1.0, 4.0], [1.0, 2.0])
    np.testing.assert_allclose([two.exponent, two.exponent_low], [0.5, -np.inf], rtol=EXACT)
    assert np.isnan(two.curvature)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: fits.crossing(ratios(0.5), "coupling"), "along='coupling': must be a dimension"),
        (lambda: fits.crossing(ratios(0.5) - 1), "values=.*must be positive"),
        (lambda: fits.crossing(ratios(0.5), level=0), "level=0: must be"),
        (lambda: fits.crossing(ratios(0.5), confidence=1), "confidence=1: must be"),
        (lambda: fits.crossing(ratios(0.5), spacing="log"), "spacing='log': must be linear"),
        (lambda: fits.crossing(ratios(0.5), spacing="even"), "spacing='even': must be one of"),
        (lambda: fits.crossing(ratios(0.5), over="weight_exponent"), "over='weight_exponent'"),
        (
            lambda: fits.crossing(ratios(0.5).assign_coords(weight_exponent=G // 1)),
            "weight_exponent=.*each only once",
        ),
        (lambda: fits.power_law([1.0, 1.0], [1.0, 2.0]), "x=.*two points"),
        (lambda: fits.power_law([1.0, 2.0], [0.0, 2.0]), "y=0.0: must be positive"),
        (lambda: fits.power_law([[1.0, 2.0]], [1.0, 2.0]), "x and y=.*vectors"),
        (lambda: fits.power_law([1.0, 2.0], ratios(0.5)), "along='point'"),
    ],
)
def test_bad_input(call, said):
    with pytest.raises(ssm.InputError, match=said):
        call()
