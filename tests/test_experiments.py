"""Experiments: claims are judged as stated, figures appear, the README's example runs."""

import importlib
import math
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from experiments import bridge, claims, early_stopping, imbalance_sweep, label_spectrum

ROOT = Path(__file__).parents[1]


def test_claims_hold_exactly_when_they_should():
    assert claims.close("", 2.0, 2.09, 0.05).holds and not claims.close("", 2.0, 2.11, 0.05).holds
    assert claims.at_most("", 1, 1).holds and not claims.at_most("", 1, 1.001).holds
    assert claims.at_least("", 1, 1).holds and not claims.at_least("", 1, 0.999).holds
    assert claims.ascending("", "ab", [1, 2]).holds
    assert not claims.ascending("", "ab", [2, 1]).holds


@pytest.mark.parametrize(
    "claim",
    [
        lambda x: claims.close("", 1.0, x, 0.1),
        lambda x: claims.at_most("", 1.0, x),
        lambda x: claims.at_least("", 1.0, x),
        lambda x: claims.ascending("", "ab", [1.0, x]),
    ],
)
def test_nothing_is_claimed_of_what_was_not_reached(claim):
    assert not claim(math.nan).holds


def test_the_table_of_claims():
    table = claims.markdown([claims.at_most("a", 1, 2), claims.at_most("b", 2, 1)])
    assert table.splitlines()[0] == "| statement | predicted | measured | tolerance | holds |"
    assert "**no**" in table.splitlines()[2] and "| yes |" in table.splitlines()[3]


def test_label_spectrum(tmp_path):
    shares = []
    found = label_spectrum.run(tmp_path, True, shares.append)
    assert all(claim.holds for claim in found) and shares[-1] == 1
    assert {p.name for p in tmp_path.iterdir()} == {"label_matrix.png", "label_spectrum.png"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "figures"),
    [
        ("early_training", 4),
        ("imbalance_sweep", 3),
        ("early_stopping", 2),
        ("terminal_phase", 3),
        ("collapse", 2),
        ("depth", 1),
        ("margins", 2),
        ("optimizers", 2),
        ("deferred", 3),
        ("practice", 1),
    ],
)
def test_a_quick_run_draws_its_figures_and_its_claims_hold(tmp_path, name, figures):
    shares = []
    found = importlib.import_module(f"experiments.{name}").run(tmp_path, True, shares.append)
    assert shares == sorted(shares) and shares[-1] <= 1
    failed = [claim for claim in found if not claim.holds]
    assert not failed
    assert len(list(tmp_path.glob("*.png"))) == figures


@pytest.mark.slow
def test_a_quick_bridge_finds_the_balancing_exponents(tmp_path):
    """Two kinds of its claims fail in the full run too, as figures/README.md says."""
    found = bridge.run(tmp_path, True, lambda share: None)
    failed = [claim.statement for claim in found if not claim.holds]
    assert all("held-out" in said or "power of R by" in said for said in failed)
    assert len(found) - len(failed) >= 10 and (tmp_path / "bridge.png").is_file()


def test_the_balancing_exponent_is_where_the_law_passes_through_one():
    axes = {"imbalance_ratio": [10, 100], "weight_exponent": [0.4, 0.6, 0.8, 1.0, 1.2]}
    grid = xr.DataArray(np.ones((2, 5)), axes, list(axes)).expand_dims(coupling=[0.0, 0.03])
    found = imbalance_sweep.balance(imbalance_sweep.laws(grid))
    for coupling in (0.0, 0.03):
        for ratio in (10, 100):
            expected = imbalance_sweep.predicted_balance(ratio, coupling)
            measured = found.sel(coupling=coupling, imbalance_ratio=ratio)
            np.testing.assert_allclose(measured, expected, rtol=1e-12)
    # nothing is made up beyond the exponents that were run, or from a run that was not learned
    above = imbalance_sweep.laws(grid).isel(weight_exponent=slice(1, None))
    beyond = imbalance_sweep.balance(above).isnull()
    assert beyond.sel(coupling=0.0).all() and not beyond.sel(coupling=0.03).any()
    assert imbalance_sweep.balance(imbalance_sweep.laws(grid) * np.nan).isnull().all()


def test_windows_are_read_from_known_curves():
    times = np.arange(11.0)

    def runs(accuracy, majority, minority):
        return xr.Dataset(
            {
                "class_accuracy": (("time", "class", "seed"), accuracy[:, None, None]),
                "block_learning_time": (
                    ("block", "seed"),
                    [[majority], [np.nan], [minority]],
                ),
            },
            coords={"time": times, "block": ["majority", "cross", "minority"]},
        )

    slow, fast = runs(times / 10, 2.0, 9.0), runs(np.minimum(times / 5, 1), 3.0, 4.0)
    slow["predicted_learning_time"] = fast["predicted_learning_time"] = (
        ("seed", "component"),
        [[2.0, np.nan, 7.0]],
    )
    for one in (slow, fast):
        one["component_block"] = ("component", ["majority", "cross", "minority"])
    pair = early_stopping.Pair(slow, fast, np.ones(2))
    assert early_stopping.learning_window(pair) == ((4.0, 9.0), (7.0, 7.0))
    assert early_stopping.accuracy_window(pair) == (1.0, 9.0)
    assert early_stopping.first_reached(fast, 0.95) == 5 and np.isnan(
        early_stopping.first_reached(fast, 1.1)
    )
    same = early_stopping.accuracy_window(early_stopping.Pair(slow, slow, np.ones(2)))
    assert np.isnan(same).all()


@pytest.mark.parametrize(("exponent", "weight"), [(0.5, 11 / (1 + 10**0.5)), (1.0, 5.5), (0.0, 1)])
def test_the_limit_of_the_windows_length(exponent, weight):
    """1 - 1/w_min with w_min of STEP 10:1 written out, unit mean over samples."""
    assert early_stopping.limit_of_length(10, exponent) == pytest.approx(1 - 1 / weight, abs=1e-12)


def test_the_command_prints_its_table_and_leaves_the_committed_claims_alone(
    tmp_path, monkeypatch, capsys
):
    line = ["experiments", "label_spectrum", "--quick", "--out", str(tmp_path / "new")]
    monkeypatch.setattr(sys, "argv", line)
    monkeypatch.chdir(ROOT)
    runpy.run_module("experiments", run_name="__main__", alter_sys=True)
    assert "6 of 6 claims hold" in capsys.readouterr().out
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == [
        "label_matrix.png",
        "label_spectrum.png",
    ]


@pytest.mark.parametrize(
    "flags",
    [
        ["--out", "taken"],
        ["--dataset", "mnist", "--data-dir", "none"],
        ["--dataset", "mnist"],
        ["bogus"],
        ["--bogus"],
    ],
)
def test_bad_input_to_the_command_is_one_line_and_exit_code_2(tmp_path, flags):
    (tmp_path / "taken").write_text("")
    line = [
        sys.executable,
        "-c",
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from experiments.__main__ import main; main()",
    ]
    done = subprocess.run([*line, *flags, "--quick"], cwd=tmp_path, capture_output=True, text=True)
    said = [row for row in done.stderr.splitlines() if row.startswith("experiments: ")]
    assert done.returncode == 2 and len(said) == 1 and done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


@pytest.mark.slow
def test_the_examples_in_the_readme(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    first, terminal, steps, practice, swept, slurm = re.findall(
        r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S
    )
    names = {}
    exec(first, names)
    assert "inverse square root {'majority'" in capsys.readouterr().out
    assert (tmp_path / "erm.png").is_file() and (tmp_path / "erm.zarr").is_dir()
    assert len(first.strip().splitlines()) <= 11
    exec(terminal, names)
    assert capsys.readouterr().out.count("log t = 1") == 3  # of 10,000
    exec(steps, names)
    assert capsys.readouterr().out.count("'minority': ") == 2
    assert names["deferred"].weight.values.max() == pytest.approx(4)  # the bound
    exec(practice, names)
    scores = re.findall(r"balanced accuracy (0\.\d{3}), kept step \d+", capsys.readouterr().out)
    assert len(scores) == 5 and all(float(score) > 0.8 for score in scores)
    exec(swept, names)
    assert capsys.readouterr().out.startswith("weight_exponent")
    compile(slurm, "README.md", "exec")
