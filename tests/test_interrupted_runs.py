"""Ctrl-C ends a run of `ssm.simulate` with what was reached."""

import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import ssm
from ssm.dynamics import trajectories


@pytest.mark.parametrize(
    "changes",
    # whose programs are those of `test_a_run_in_pieces_is_the_run_and_reports_up_to_the_end`
    [
        pytest.param({"t1": 60.0}, id="flow"),
        pytest.param(
            {"optimizer": "adam", "num_steps": 200, "batch_size": 8},
            id="adam",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_an_interrupted_run_is_the_beginning_of_the_whole(
    compiled_as_for_users, tiny, changes, monkeypatch
):
    config = tiny(**changes)
    whole = ssm.simulate(config)
    monkeypatch.setattr(trajectories, "MOST_AT_ONCE", 7)
    shares = []

    def press(share):
        assert 0 < share < 1
        shares.append(share)
        os.kill(os.getpid(), signal.SIGINT)

    run = ssm.simulate(config, progress=press)
    assert run.attrs["status"] == "interrupted" and len(shares) == 1
    reached = np.isfinite(run["loss"].values)
    number = int(reached.sum())
    assert 0 < number < len(reached) and reached[:number].all()
    np.testing.assert_array_equal(run["strength"][:number], whole["strength"][:number])
    assert run.attrs["num_steps"] < whole.attrs["num_steps"]
    learned = whole["learning_time"].values <= run["time"].values[number - 1]
    expected = np.where(learned, whole["learning_time"], np.nan)
    np.testing.assert_array_equal(run["learning_time"], expected)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_is_heard_while_a_long_run_computes():
    """A run of hours ends soon after it is pressed, and the script goes on with what there is."""
    code = """
        import ssm, sys, time
        config = ssm.Config(num_classes=4, feature_dim=6, optimizer="gd", learning_rate=1e-4, num_steps=10_000_000, num_saves=2001)
        ssm.simulate(config, progress=lambda share: (print("begun", flush=True), setattr(sys, "said", 1)) if not hasattr(sys, "said") else None)
    """
    code = (
        textwrap.dedent(code).replace("ssm.simulate(", "run = ssm.simulate(")
        + "print(run.attrs['status'])\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
    assert rest == "interrupted\n" and process.returncode == 0
