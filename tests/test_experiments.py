"""Experiments: claims are judged as stated, figures appear, the README's example runs."""

import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import claims, early_training, label_spectrum

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
def test_early_training(tmp_path):
    shares = []
    found = early_training.run(tmp_path, True, shares.append)
    assert shares == sorted(shares) and shares[-1] <= 1
    failed = [claim for claim in found if not claim.holds]
    assert not failed
    assert len(list(tmp_path.glob("*.png"))) == 4


def test_the_command_prints_its_table_and_leaves_the_committed_claims_alone(tmp_path):
    line = [
        sys.executable,
        "-m",
        "experiments",
        "label_spectrum",
        "--quick",
        "--out",
        str(tmp_path / "new"),
    ]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "6 of 6 claims hold" in done.stdout
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
def test_the_example_in_the_readme(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    exec(code, {})
    assert "inverse square root {'majority'" in capsys.readouterr().out
    assert (tmp_path / "erm.png").is_file() and (tmp_path / "erm.zarr").is_dir()
    assert len(code.strip().splitlines()) <= 11
