"""Points instead of grids: laws of the designs that spread them, and what is refused."""

import inspect
import itertools
import math
from collections import Counter

import numpy as np
import pytest

import ssm
from ssm.sweeps.points import DESIGNS

RANGES = {
    "weight_exponent": (0, 1),
    "imbalance_ratio": (1, 1000, "log"),
    "minority_count": (1, 4),
    "optimizer": ["gd", "adam"],
}
KEY = "weight_exponent, imbalance_ratio, minority_count, optimizer"
STRATIFIED = [design for design in DESIGNS if design != "random"]


def columns(points):
    ((key, values),) = points.items()
    return dict(zip(key.split(", "), zip(*values, strict=True), strict=True))


@pytest.mark.parametrize("design", STRATIFIED)
@pytest.mark.parametrize("seed", [0, 7])
def test_each_field_is_spread_evenly(design, seed):
    """One point in each of n equal parts of each range, as both designs have it in each dimension."""
    found = columns(ssm.points(RANGES, 64, design=design, seed=seed))
    parts = np.array(found["weight_exponent"]) * 64
    assert sorted(np.floor(parts)) == list(range(64))
    logs = np.log(found["imbalance_ratio"]) / np.log(1000) * 64
    assert sorted(np.floor(logs)) == list(range(64))
    assert Counter(found["minority_count"]) == dict.fromkeys((1, 2, 3, 4), 16)
    assert Counter(found["optimizer"]) == {"gd": 32, "adam": 32}
    assert all(type(count) is int for count in found["minority_count"])


def test_two_fields_of_sobol_points_are_a_net():
    """Sobol' 1967: of 2^m points one lies in each of the boxes of size 2^-a times 2^-(m - a)."""
    unit = {"weight_exponent": (0, 1), "coupling": (0, 1)}
    points = np.array(ssm.points(unit, 16)["weight_exponent, coupling"])
    for a in range(5):
        boxes = np.floor(points * [2**a, 2 ** (4 - a)])
        assert {tuple(box) for box in boxes} == {
            *itertools.product(range(2**a), range(2 ** (4 - a)))
        }


def test_points_of_fewer_are_the_first_of_more():
    """Of a number that is no power of two as well."""
    more = ssm.points(RANGES, 64)[KEY]
    assert ssm.points(RANGES, 50)[KEY] == more[:50]


@pytest.mark.parametrize("design", DESIGNS)
def test_a_design_is_its_seeds(design):
    first, again, other = (ssm.points(RANGES, 10, design=design, seed=seed) for seed in (3, 3, 4))
    assert first == again and first[KEY] != other[KEY]
    for values in (first[KEY], other[KEY]):
        for exponent, ratio, count, optimizer in values:
            assert 0 <= exponent <= 1 and 1 <= ratio <= 1000
            assert count in (1, 2, 3, 4) and optimizer in ("gd", "adam")


def test_random_points_have_the_moments_of_their_ranges():
    """A uniform number has mean 1/2 and variance 1/12; five standard errors of n = 4000 points are
    5 sqrt(1/12/n) = 0.023 of the mean and 5 sqrt(1/180/n) = 0.006 of the variance."""
    found = columns(ssm.points(RANGES, 4000, design="random"))
    logs = np.log10(found["imbalance_ratio"]) / 3
    for unit in (np.array(found["weight_exponent"]), logs):
        assert unit.mean() == pytest.approx(0.5, abs=0.023)
        assert unit.var() == pytest.approx(1 / 12, abs=0.006)
    assert abs(np.corrcoef(found["weight_exponent"], logs)[0, 1]) < 5 / math.sqrt(4000)


def test_whole_numbers_by_equal_factors_have_their_share_of_the_logarithm():
    """n of log((n + 1/2) / (n - 1/2)) over that of the whole range. Of the 1024 parts with
    a point each its share cuts at most two, one at each end, each with less than a point too many or few."""
    found = columns(ssm.points({"minority_count": (1, 30, "log"), "coupling": (0, 1)}, 1024))
    counts = Counter(found["minority_count"])
    for n in range(1, 31):
        share = math.log((n + 0.5) / (n - 0.5)) / math.log(30.5 / 0.5)
        assert counts[n] == pytest.approx(1024 * share, abs=2)


def test_points_that_are_there_twice_are_left_out_and_told():
    with pytest.warns(UserWarning, match=r"^number=64: 8 points remain, as values that are whole"):
        points = ssm.points({"seed": (0, 3), "loss": ["squared", "cross_entropy"]}, 64)
    expected = itertools.product(range(4), ["squared", "cross_entropy"])
    assert sorted(points["seed, loss"]) == sorted(expected)


def test_one_field_is_an_axis_of_its_own(tiny):
    axis = ssm.points({"weight_exponent": (0, 1)}, 4)
    swept = ssm.sweep(axis, tiny(loss="squared"))
    assert swept.status.dims == ("weight_exponent",)
    assert swept.weight_exponent.values.tolist() == axis["weight_exponent"]


def test_lists_of_numbers_can_be_chosen_from():
    points = ssm.points({"counts": [(5, 2), (9, 3, 1)], "coupling": (0, 1)}, 4)["counts, coupling"]
    assert Counter(counts for counts, _ in points) == {(5, 2): 2, (9, 3, 1): 2}


BAD = [
    ({}, {}, "ranges={}: must be a mapping from Config fields to"),
    ([("seed", (0, 1))], {}, "must be a mapping from Config fields to"),
    (
        {"sed": (0, 1)},
        {},
        r"ranges='sed': must be one of the fields of Config; did you mean seed\?",
    ),
    (
        {"coupling": 1},
        {},
        r"ranges\[coupling\]=1: must be \(low, high\), \(low, high, 'log'\) or a",
    ),
    ({"coupling": "01"}, {}, r"ranges\[coupling\]='01': must be \(low, high\)"),
    ({"coupling": []}, {}, r"ranges\[coupling\]=\[\]: must be \(low, high\)"),
    ({"coupling": (0,)}, {}, r"ranges\[coupling\]=\(0,\): must be \(low, high\)"),
    ({"coupling": (0, 1, "lin")}, {}, r"ranges\[coupling\].*: must be \(low, high\)"),
    ({"coupling": (0, 1, "log")}, {}, "from the lower to the higher, by equal factors > 0"),
    ({"seed": (0, 9, "log")}, {}, "from the lower to the higher, by equal factors > 0"),
    ({"coupling": (1, 0)}, {}, "from the lower to the higher"),
    ({"coupling": (0.5, 0.5)}, {}, "from the lower to the higher"),
    ({"coupling": (0, 1.5)}, {}, r"ranges\[coupling\]=1.5: must be a finite number in \[0, 1\]"),
    ({"minority_fraction": (0, 0.5)}, {}, r"=0: must be a finite number in \(0, 1\)"),
    ({"seed": (0, 9.5)}, {}, r"ranges\[seed\]=9.5: must be an integer"),
    ({"loss": ("squared", "focal")}, {}, "a list of values, as the field is no number"),
    ({"counts": (5, 2)}, {}, "a list of values, as the field is no number"),
    ({"seed": (0, 9)}, {"number": 0}, r"number=0: must be an integer in \[1, 1000000\]"),
    ({"seed": (0, 9)}, {"design": "halton"}, "must be one of sobol, latin_hypercube, random"),
    ({"seed": (0, 9)}, {"seed": -1}, "seed=-1: must be an integer"),
]


@pytest.mark.parametrize(("ranges", "changes", "said"), BAD)
def test_what_are_no_ranges_is_refused_in_one_line(ranges, changes, said):
    from_outside = inspect.unwrap(ssm.points)  # without the types that tests check
    with pytest.raises(ssm.InputError, match=said) as caught:
        from_outside(ranges, **{"number": 4, **changes})
    assert "\n" not in str(caught.value)
