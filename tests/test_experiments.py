"""Experiments: claims are judged as stated, figures appear."""

import importlib.util
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import ssm
from experiments import (
    CORE,
    IN_PYTORCH,
    NAMES,
    bridge,
    claims,
    early_stopping,
    imbalance_sweep,
    network_gap,
    pages,
)
from experiments import __main__ as command
from experiments.__main__ import main

ROOT = Path(__file__).parents[1]


def test_a_number_holds_or_fails_by_its_range():
    made = claims.Claims("k = 4")
    assert made.close("ratio", 2.0, 2.09, 0.05).holds and not made.close("", 2.0, 2.11, 0.05).holds
    assert made.between("", (2.0, 3.0), 3.1, 0.05).holds
    assert made.between("", (2.0, 3.0), 1.8, 0.05).verdict == "fails"
    assert made.at_most("", 1, 1).holds and not made.at_most("", 1, 1.001).holds
    assert made.at_least("", 1, 1).holds and not made.at_least("", 1, 0.999).holds
    assert made.ascending("", "ab", [1, 2]).holds
    assert made.ascending("", "ab", [2, 1]).verdict == "fails"
    assert len(made) == 10 and made[0].statement == "k = 4: ratio"


def test_a_mean_over_seeds_is_judged_by_its_interval():
    """Five numbers whose mean is 1 and standard error 0.1: Student's 97.5 % quantile on 4 degrees of
    freedom is 2.776."""
    values = 1 + 0.1 * np.sqrt(2) * np.array([-2, -1, 0, 1, 2])
    mean = claims.Estimate.over_seeds(values)
    assert mean == pytest.approx((1, 1 - 2.776 * 0.1, 1 + 2.776 * 0.1), rel=1e-3)
    made = claims.Claims()
    assert made.at_most("", 1.28, mean).verdict == "holds"
    assert made.at_most("", 1.27, mean).verdict == "undecided"
    assert made.at_most("", 0.73, mean).verdict == "undecided"
    assert made.at_most("", 0.72, mean).verdict == "fails"
    assert [made.at_least("", bound, mean).verdict for bound in (0.72, 1.0, 1.28)] == [
        "holds",
        "undecided",
        "fails",
    ]
    # equality by two one-sided tests: the interval lies within the margin, or it does not
    assert made.close("", 1.0, mean, 0.28).holds
    assert made.close("", 1.0, mean, 0.27).verdict == "undecided"
    assert made.close("", 2.0, mean, 0.28).verdict == "fails"
    assert "95 % interval 0.7224 to 1.278" in made[0].measured
    one = claims.Estimate.over_seeds([1.0])
    assert made.at_most("", 2.0, one).verdict == "undecided"


def test_an_order_is_judged_by_the_differences_seed_by_seed():
    first, shift = np.array([1.0, 5.0, 9.0]), np.array([0.9, 1.0, 1.1])
    made = claims.Claims()
    assert made.ascending("", "ab", [first, first + shift]).verdict == "holds"
    assert made.ascending("", "ab", [first, first - shift]).verdict == "fails"
    assert made.ascending("", "ab", [first, first[::-1]]).verdict == "undecided"
    assert made.ascending("", "abc", [first, first + shift, first]).verdict == "fails"


@pytest.mark.parametrize("missing", [math.nan, claims.Estimate.over_seeds([1.0, math.nan])])
def test_nothing_is_claimed_of_what_was_not_reached(missing):
    made = claims.Claims()
    made.close("", 1.0, missing, 0.1)
    made.at_most("", 1.0, missing)
    made.at_least("", 1.0, missing)
    made.ascending("", "ab", [1.0, math.nan])
    made.ascending("", "ab", [[1.0, 1.0], [1.0, math.nan]])
    assert {claim.verdict for claim in made} == {"fails"}


def test_the_table_of_claims():
    made = claims.Claims()
    made.at_most("a", 1, 2)
    made.at_most("b", 2, 1, "seen")
    made.at_most("c", 2, claims.Estimate(2.0, 1.0, 3.0))
    table = claims.markdown(made).splitlines()
    assert table[0] == "| statement | predicted | measured | tolerance | verdict |"
    assert table[2] == "| a | <= 1 | 2 | none | **fails** |"
    assert table[3] == "| b | <= 2 | 1 (seen) | none | holds |"
    assert table[4] == "| c | <= 2 | 2 (95 % interval 1 to 3) | none | **undecided** |"
    assert claims.summary(made) == "1 of 3 claims hold, 1 fail, 1 are undecided"


def test_the_tables_of_other_experiments_stay():
    made, other = claims.Claims(), claims.Claims()
    made.at_most("a", 1, 1)
    other.at_most("b", 2, 1)
    order = ("one", "two", "three")
    whole = claims.updated("", {"two": made, "one": other}, order)
    assert whole.index("## one") < whole.index("| b |") < whole.index("## two")
    assert claims.updated(whole, {"one": other}, order) == whole
    changed = claims.updated(whole, {"one": made, "three": other}, order)
    assert changed.count("| a |") == 2 and changed.count("| b |") == 1
    assert changed.index("## two") < changed.index("## three")


def test_the_committed_claims_are_of_every_experiment():
    text = (ROOT / "figures" / "claims.md").read_text()
    assert re.findall(r"^## (\w+)$", text, re.M) == list(NAMES)
    verdicts = {row.rsplit("|", 2)[1].strip() for row in text.splitlines() if row.startswith("| ")}
    assert verdicts == {"verdict", "---", "holds", "**fails**", "**undecided**"}


def test_every_committed_figure_is_shown_and_remade_by_what_is_said():
    """Under the heading of its experiment, which says whether `make reproduce` remakes it."""
    text = (ROOT / "figures" / "README.md").read_text()
    pictures = {
        path.name for path in (ROOT / "figures").glob("*") if path.suffix in (".png", ".gif")
    }
    shown = re.findall(r"\]\((\w+\.(?:png|gif))\)", text)
    assert set(shown) == pictures and len(shown) == len(pictures)
    for section in text.split("\n## ")[1:]:
        name = re.findall(r"`python -m experiments (\w+)`", section)[0]
        target = "make reproduce" if name in CORE else "make reproduce-all"
        assert f"Remade by `{target}`" in section


def test_without_pytorch_what_needs_it_is_left_out_or_refused(monkeypatch, capsys):
    """With one line either way, before anything runs; the others of a whole run are run."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert command.available((*CORE, *IN_PYTORCH), command.Options()) == CORE
    assert "without followed_digits: PyTorch is not installed" in capsys.readouterr().err
    with pytest.raises(ssm.InputError, match=r"followed_digits: PyTorch .*\[torch\]"):
        command.available(IN_PYTORCH, command.Options(names=IN_PYTORCH))


def test_a_page_is_written_in_three_formats_the_same_each_time(tmp_path):
    def draw() -> dict[str, bytes]:
        with pages.page(tmp_path / "one.png", 2.0) as figure:
            axes = figure.subplots()
            axes.plot([1, 2], [3, 4], **pages.THEORY, label="theory")
            axes.fill_between([1, 2], [3, 4], [4, 5], alpha=0.2)
            axes.set(xlabel=pages.RATIO, yscale="log")
            pages.legend_above(figure, axes, 1)
        return {path.suffix: path.read_bytes() for path in tmp_path.iterdir()}

    first = draw()
    assert first.keys() == {".png", ".pdf", ".svg"} and draw() == first
    width, height = (int.from_bytes(first[".png"][at : at + 4], "big") for at in (16, 20))
    assert width / height == pytest.approx(5.5 / 2.0, rel=0.01)


# The longest come first, so that no worker is left with one at the end.
@pytest.mark.slow
@pytest.mark.long
def test_a_quick_network_gap_has_what_bends_slopes(tmp_path):
    """One seed decides nothing, but what was left out of a network shows where the full run has it."""
    found = network_gap.run(tmp_path, True, lambda share: None)
    assert not [claim.statement for claim in found if claim.verdict == "fails"]
    biases = [claim for claim in found if "with biases less without" in claim.statement]
    for claim in biases:
        change = float(claim.measured.split()[0])
        assert change >= 0.05 if "rectified" in claim.statement else abs(change) <= 0.06
    assert len(biases) == 10 and (tmp_path / "network_gap.png").is_file()


@pytest.mark.slow
@pytest.mark.long
def test_a_quick_bridge_finds_the_balancing_exponents(tmp_path):
    """Two kinds of its claims fail in the full run too, as figures/README.md says."""
    found = bridge.run(tmp_path, True, lambda share: None)
    failed = [claim.statement for claim in found if claim.verdict == "fails"]
    assert all("held-out" in said or "power of R by" in said for said in failed)
    # one seed decides nothing, but measured exponents are where the full run's have to be
    near = [claim for claim in found if "less that of its start's" in claim.statement]
    distances = [abs(float(claim.measured.split()[0])) for claim in near]
    assert len(near) == 5 and max(distances) <= 0.15 and (tmp_path / "bridge.png").is_file()


# In networks alone a quick run takes longer than its programs take to compile. Its many steps are as users have them, since checks
# of shapes, which the tests of ssm have, multiply the time of what runs in Python.
NETWORKS = ("practice", "followed_digits")
QUICK_RUNS = [
    pytest.param(*case, marks=pytest.mark.long if case[0] in NETWORKS else ())
    for case in (
        ("overview", 1),
        ("early_training", 4),
        ("imbalance_sweep", 4),
        ("early_stopping", 2),
        ("terminal_phase", 3),
        ("cross_entropy_exact", 1),
        ("polynomial_tail", 1),
        ("heavy_tail", 1),
        ("soft_targets", 1),
        ("collapse", 2),
        ("depth", 1),
        ("margins", 2),
        ("optimizers", 2),
        ("batch_law", 1),
        ("deferred", 3),
        ("held_out_maps", 1),
        ("held_out_data", 1),
        ("label_noise", 1),
        ("groups", 1),
        ("practice", 2),
        ("followed_digits", 1),
    )
]


@pytest.mark.slow
@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(("name", "figures"), QUICK_RUNS)
def test_a_quick_run_draws_its_figures_and_no_claim_fails(tmp_path, name, figures):
    """What is left undecided by the one or two seeds of a quick run is a mean over them. What is claimed of classes with
    biases, of the exponent that balances the end under a polynomial tail, of thousands of classes with both factors
    moving, of sharp bigrams, of late logits, and of noisy labels at the end, fails in the full run too, as these experiments say."""
    if name in IN_PYTORCH:
        pytest.importorskip("torch", reason="PyTorch is not installed")
    shares = []
    found = importlib.import_module(f"experiments.{name}").run(tmp_path, True, shares.append)
    assert shares == sorted(shares) and shares[-1] <= 1
    failed = [claim.statement for claim in found if claim.verdict == "fails"]
    known = {
        "imbalance_sweep": ("class learning times",),
        "polynomial_tail": ("is about the early one",),
        "groups": ("expected before any run",),
        "heavy_tail": (
            "ERM: both moving, margin >= 25: class loss",
            "inverse frequency: both moving, margin >= 25: class loss",
            "inverse frequency, both moving: power of n_c",
            "sign, both moving",
        ),
        "soft_targets": (
            "bigrams: cross-entropy: rank correlation",
            "bigrams: class weights",
            "cosine of logits with the centred supports",
        ),
        "label_noise": (
            "time to memorise wrong labels of a minority's samples",
            "given over ERM at the end",
            "what is gained falls with noise",
        ),
    }.get(name, ())
    assert not [statement for statement in failed if not any(part in statement for part in known)]
    assert sum(claim.holds for claim in found) >= len(found) / 3
    for suffix in ("png", "pdf", "svg"):
        assert len(list(tmp_path.glob(f"*.{suffix}"))) == figures


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


@pytest.mark.slow
def test_the_command_prints_its_table_and_leaves_the_committed_claims_alone(
    tmp_path, monkeypatch, capsys
):
    line = ["experiments", "label_spectrum", "--quick", "--out", str(tmp_path / "new")]
    monkeypatch.setattr(sys, "argv", line)
    monkeypatch.chdir(ROOT)
    main()
    assert "6 of 6 claims hold" in capsys.readouterr().out
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == [
        f"label_{what}.{suffix}"
        for what in ("matrix", "spectrum")
        for suffix in ("pdf", "png", "svg")
    ]


@pytest.mark.parametrize(
    "flags",
    [
        ["--out", "taken"],
        ["mnist", "--data-dir", "none"],
        ["--data-dir", "none"],
        ["depth", "--data-dir", "."],
        ["--core", "--data-dir", "."],
        ["bogus"],
        ["depth", "--core"],
        ["depth", "--tables", "."],
        ["practice", "--tables", "none"],
        ["--bogus"],
    ],
)
def test_bad_input_to_the_command_is_one_line_and_exit_code_2(tmp_path, flags, monkeypatch, capsys):
    (tmp_path / "taken").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["experiments", *flags, "--quick"])
    with pytest.raises(SystemExit) as left:
        main()
    error = capsys.readouterr().err
    assert left.value.code == 2 and error.startswith("experiments: ") and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_the_command_ends_with_its_exit_code_as_a_process(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "experiments", "bogus"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stderr.startswith("experiments: ")
    assert done.stderr.count("\n") == 1
