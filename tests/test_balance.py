"""When minorities have caught up for good, against curves that say it by hand."""

import numpy as np
import pytest
import xarray as xr

import ssm
from ssm import balance

T = np.arange(6.0)


def dataset(minority, majority, name="class_accuracy", **coords):
    """Classes 0 and 1 are majorities, 2 a minority; the mean of the majorities is what is given."""
    classes = [np.add(majority, 0.01), np.subtract(majority, 0.01), np.asarray(minority, float)]
    groups = ["majority", "majority", "minority"]
    array = xr.DataArray(np.stack(classes, -1), dims=("time", "class"))
    return xr.Dataset({name: array}, {"time": T, "class_group": ("class", groups), **coords})


@pytest.mark.parametrize(
    ("minority", "expected"),
    [
        ([0.0, 0.0, 0.5, 0.7, 0.9, 0.9], 3.5),  # within 0.1 of 0.9 half way from 0.7 to 0.9
        ([0.9, 0.0, 0.0, 0.8, 0.9, 0.9], 3.0),  # that both were level at first does not count
        ([0.9, 0.0, 0.9, 0.9, 0.7, 0.9], 4.5),  # nor that they were in between
        ([0.9, 0.9, 0.9, 0.9, 0.9, 0.9], 0.0),
        ([0.0, 0.9, 0.9, 0.9, 0.9, 0.0], np.nan),
        ([0.0, 0.7, 0.9, 0.9, np.nan, np.nan], 1.5),  # times that were not reached
        ([np.nan] * 6, np.nan),
    ],
)
def test_the_time_to_balance_by_hand(minority, expected):
    """1e-12: rounding of the tolerance's decimal."""
    found = balance.time_to_balance(dataset(minority, [0.9] * 6), tolerance=0.1)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_which_group_is_ahead_does_not_matter():
    low, high = [0.1, 0.3, 0.5, 0.7, 0.88, 0.9], [0.9] * 6
    pair = [dataset(*each) for each in ((low, high), (high, low))]
    first, second = (float(balance.time_to_balance(each)) for each in pair)
    assert first == second == pytest.approx(3 + (0.85 - 0.7) / 0.18, abs=1e-12)


def test_strengths_are_compared_relatively():
    """A common factor does not change their time, as it would change that of accuracies."""
    minority, majority = np.array([0.1, 0.2, 0.6, 0.9, 0.97, 1.0]), np.ones(6)
    found = [
        float(balance.time_to_balance(dataset(c * minority, c * majority, name), 0.2, name))
        for name in ("class_strength", "held_out_strength")
        for c in (1.0, 40.0)
    ]
    np.testing.assert_allclose(found, 2 + 0.2 / 0.3, rtol=1e-12)


def test_every_run_of_a_sweep_has_its_own_times():
    """`flow_time` over the axis, and groups that vary along it."""
    minority = np.array([0.0, 0.0, 0.5, 0.7, 0.9, 0.9])
    one = dataset(minority, [0.9] * 6)
    swept = xr.concat([one, one], "seed").drop_vars("time")
    swept = swept.assign_coords(flow_time=(("seed", "time"), np.stack([T, 10 * T])))
    found = balance.time_to_balance(swept, 0.1)
    np.testing.assert_allclose(found, [3.5, 35.0], atol=1e-12)
    alone = swept.assign_coords(
        class_group=(("seed", "class"), [["majority"] * 2 + ["minority"], ["majority"] * 3])
    )
    np.testing.assert_allclose(balance.time_to_balance(alone, 0.1), [3.5, np.nan], atol=1e-12)


def test_a_sweep_has_what_its_runs_have(tiny):
    axes = {"weight_exponent": [0.0, 0.5], "seed": [0, 1]}
    swept = ssm.sweep(axes, tiny(loss="squared"))
    found = balance.time_to_balance(swept, 0.1, "class_strength")
    assert found.dims == ("weight_exponent", "seed") and np.isfinite(found).all()
    for g in axes["weight_exponent"]:
        for seed in axes["seed"]:
            run = ssm.simulate(tiny(loss="squared", weight_exponent=g, seed=seed))
            own = balance.time_to_balance(run, 0.1, "class_strength")
            # 1e-6: runs of a sweep are padded, which changes their sums by rounding, and steps with it
            np.testing.assert_allclose(found.sel(weight_exponent=g, seed=seed), own, rtol=1e-6)
    # a contrast that is within a tenth of the other's is later than half learned
    assert (found > swept.block_learning_time.sel(block="majority")).all()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"tolerance": 0}, "tolerance=0: must be"),
        ({"quantity": "class_strength"}, "quantity='class_strength': .*: class_accuracy"),
    ],
)
def test_bad_input(arguments, said):
    with pytest.raises(ssm.InputError, match=said):
        balance.time_to_balance(dataset([0.5] * 6, [0.5] * 6), **arguments)
