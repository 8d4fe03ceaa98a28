"""A run cut in two is the whole, and goes on with other weights, losses and optimisers."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from test_own_runs import SMALL, OwnCrossEntropy

import ssm
from ssm import schedules
from ssm.dynamics.parameters import Params

OVER_TIME = (
    "time",
    "cumulative_rate",
    "W",
    "H",
    "loss",
    "class_accuracy",
    "strength",
    "weight",
    "drift",
)
LEARNED = ("learning_time", "class_learning_time", "block_learning_time")


def halves(config, **given):
    """A run, and the same cut in two halves, which are saved as often, so that they share its program: each second
    time of the second half is one of the whole."""
    half = dataclasses.replace(config, num_steps=config.num_steps // 2)
    whole = ssm.simulate(config, **given)
    second = ssm.simulate(half, continue_from=ssm.simulate(half, **given), **given)
    return whole.isel(time=slice(2, None)), second.isel(time=slice(None, None, 2))


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"optimizer": "gd", "learning_rate": 0.3}, marks=pytest.mark.slow),
        {"optimizer": "gd", "learning_rate": 0.3, "loss": "squared"},
        pytest.param(
            {"optimizer": "gd", "learning_rate": 0.3, "coupling": 1.0}, marks=pytest.mark.slow
        ),
        {"optimizer": "gd", "learning_rate": 0.3, "init": "spectral", "coupling": 0.4},
        {"optimizer": "gd", "learning_rate": 0.3, "coupling": 0.4, "noise_dim": 30},
        {"optimizer": "momentum", "learning_rate": 0.03, "depth": 3, "bias": "output"},
        {"optimizer": "adam", "batch_size": 8},
        {
            "optimizer": "adamw",
            "weight_decay": 1e-2,
            "feature_decay": 1e-2,
            "weight_exponent": 1.0,
            "weight_start": 150.0,
            "weight_ramp": 20.0,
        },
        {"optimizer": "muon", "learning_rate_schedule": "step", "drop_step": 110},
    ],
    ids=lambda fields: " ".join(str(value) for value in fields.values()),
)
def test_steps_cut_in_two_are_the_whole_to_the_bit(fields):
    config = ssm.Config(**SMALL, num_steps=200, num_saves=5, save_state=True, **fields)
    whole, second = halves(config)
    for name in set(OVER_TIME) & set(whole) - {"drift"}:
        np.testing.assert_array_equal(second[name], whole[name], err_msg=name)
    for name in (*LEARNED, "last_parameters", "last_optimizer_memory"):
        if name in whole:
            np.testing.assert_array_equal(second[name], whole[name], err_msg=name)
    assert second.attrs["continue_from"].startswith("time 100 of a run, sha256 ")
    assert second.attrs["num_steps"] == 100 and whole.attrs["num_steps"] == 200


def test_a_schedule_goes_on_too():
    config = ssm.Config(**SMALL, optimizer="adam", num_steps=200, num_saves=5, save_state=True)
    ramp = schedules.Ramp(schedules.LinearRamp(50, 100), schedules.PrevalencePower(1.0))
    whole, second = halves(config, schedule=ramp)
    for name in ("weight", "W", "last_optimizer_memory"):
        np.testing.assert_array_equal(second[name], whole[name])


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, marks=pytest.mark.slow),
        {"loss": "squared", "coupling": 0.2},
        pytest.param(
            {
                "weight_decay": 1e-2,
                "feature_decay": 1e-2,
                "weight_exponent": 1.0,
                "weight_start": 25.0,
            },
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_flow_cut_in_two_is_the_whole_within_its_tolerance(fields):
    config = ssm.Config(**SMALL, t1=40.0, num_saves=5, rtol=1e-10, save_state=True, **fields)
    whole = ssm.simulate(config).isel(time=slice(2, None))
    half = dataclasses.replace(config, t1=20.0)
    from_its_end = ssm.simulate(half, continue_from=ssm.simulate(half))
    second = from_its_end.isel(time=slice(None, None, 2))
    np.testing.assert_array_equal(second["time"], whole["time"])
    for name in ("loss", "strength", "class_strength", "singular_value"):
        np.testing.assert_allclose(second[name], whole[name], rtol=1e-7, atol=1e-9)
    for name in LEARNED:
        np.testing.assert_allclose(second[name], whole[name], rtol=1e-7)
    assert np.abs(from_its_end["drift"]).max() < 1e-7  # from the start of the second half on


@pytest.mark.slow
def test_the_loss_clock_goes_on():
    config = ssm.Config(
        **SMALL, clock="loss", t1=20.0, num_saves=5, rtol=1e-9, init_scale=0.1, save_state=True
    )
    whole = ssm.simulate(config)
    half = dataclasses.replace(config, t1=10.0)
    second = ssm.simulate(half, continue_from=ssm.simulate(half))
    for name in ("log_loss", "log_time", "margin"):
        np.testing.assert_allclose(second[name][::2], whole[name][2:], rtol=1e-5)


def test_a_run_goes_on_with_other_weights_loss_and_optimizer():
    base = ssm.Config(**SMALL, t1=30.0, num_saves=5, save_state=True)
    first = ssm.simulate(base)
    end = Params(first["W"].values[-1], first["H"].values[-1])
    reweighted = ssm.simulate(dataclasses.replace(base, weight_exponent=1.0), continue_from=first)
    # From the same state, with time from 0 on, as a start of one's own.
    anew = ssm.simulate(dataclasses.replace(base, weight_exponent=1.0), start=end)
    np.testing.assert_allclose(reweighted["loss"], anew["loss"], rtol=1e-5)
    np.testing.assert_allclose(reweighted["time"], 30 + anew["time"])
    assert reweighted["loss"][0] != first["loss"][-1]
    # The squared loss follows coordinates, which these features are not: they become a start.
    squared = ssm.simulate(dataclasses.replace(base, loss="squared"), continue_from=first)
    np.testing.assert_allclose(squared["W"][0], end.W)
    assert ssm.Config.from_json(squared.attrs["config"]).init == "own"
    own = ssm.simulate(base, continue_from=first, loss=OwnCrossEntropy())
    np.testing.assert_allclose(own["loss"][0], first["loss"][-1], rtol=1e-12)
    steps = dataclasses.replace(base, t1=None, optimizer="adam", num_steps=20)
    by_adam = ssm.simulate(steps, continue_from=first)
    np.testing.assert_allclose(
        by_adam["W"][0], end.W, rtol=1e-13
    )  # the end, and its interpolant there
    assert by_adam["time"].values[[0, -1]].tolist() == [0, 20]


def test_a_run_of_own_data_goes_on_with_it():
    X, y = ssm.mixture_inputs(ssm.Config(num_classes=3, coupling=0.2, noise_dim=12))
    config = ssm.Config(optimizer="adam", num_steps=40, num_saves=5, save_state=True, feature_dim=4)
    data: dict[str, Any] = {"inputs": X, "labels": y}
    whole, second = halves(config, **data)
    np.testing.assert_array_equal(second["A"], whole["A"])


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"minority_count": 3}, "counts=(12, 12, 3, 3): must be those of the run it goes on from"),
        ({"feature_dim": 7}, "feature_dim=7: must be that of the run it goes on from, 6"),
        ({"seed": 1}, "seed=1: must be that of the run it goes on from, 0"),
        ({"dtype": "float32"}, "dtype='float32': must be that of the run"),
    ],
)
def test_another_model_cannot_go_on(change, line):
    config = ssm.Config(**SMALL, t1=5.0, num_saves=5, save_state=True)
    first = ssm.simulate(config)
    with pytest.raises(ssm.InputError, match="^" + line.replace("(", r"\(").replace(")", r"\)")):
        ssm.simulate(dataclasses.replace(config, **change), continue_from=first)


def test_what_is_no_end_of_a_run_cannot_go_on():
    config = ssm.Config(**SMALL, t1=5.0, num_saves=5)
    kept = dataclasses.replace(config, save_state=True)
    failed = ssm.simulate(dataclasses.replace(kept, max_steps=1))
    for run, line in (
        (ssm.simulate(config), "continue_from='a run that keeps no states': must be the Dataset"),
        (
            failed,
            "continue_from='a run with status out of steps': must be a run that got to its end",
        ),
        (
            ssm.simulate(kept)["W"].to_dataset(name="W"),
            "continue_from='Dataset': must be the Dataset",
        ),
    ):
        with pytest.raises(ssm.InputError) as caught:
            ssm.simulate(kept, continue_from=run)
        assert str(caught.value).startswith(line)
    with pytest.raises(
        ssm.InputError, match=r"^start='given': must be left out with continue_from"
    ):
        ssm.simulate(kept, continue_from=ssm.simulate(kept), start=Params(np.ones(1), np.ones(1)))
