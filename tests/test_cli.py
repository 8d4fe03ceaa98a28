"""The commands as a user runs them: what they write, what they refuse, how they end."""

import importlib.metadata
import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
import venv
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

import ssm
from ssm.cli import commands, descriptions, explorer, parsing, showing
from ssm.results import digests
from ssm.results.digests import StoreWarning
from ssm.support import sharing

ROOT = Path(__file__).parents[1]
TINY_FLAGS = "--num-classes 4 --imbalance-ratio 4 --minority-count 2 --feature-dim 6 --num-saves 50"


def test_run_show_plot(command, run, tmp_path):
    code, shown, _ = command(f"run {TINY_FLAGS} --weight-exponent 1 --out mine.zarr")
    assert code == 0 and "weight_exponent=1.0" in shown and "mine.zarr" in shown
    xr.testing.assert_equal(ssm.load(tmp_path / "mine.zarr"), run(weight_exponent=1.0))
    code, again, _ = command("show mine.zarr")
    assert code == 0 and again == shown
    code, out, _ = command("plot mine.zarr --kind accuracy")
    assert code == 0 and out.strip() == "mine-accuracy.png" and (tmp_path / out.strip()).is_file()
    code, out, _ = command("plot mine.zarr --out figure.pdf")
    assert code == 0 and (tmp_path / "figure.pdf").read_bytes().startswith(b"%PDF")


def test_words_of_fields_are_read_where_they_are_shown_only(monkeypatch):
    """Of a command line that is right they take as long as the rest of it."""
    asked = []
    words = descriptions.words_of_fields
    monkeypatch.setattr(
        descriptions, "words_of_fields", lambda owner: asked.append(owner) or words(owner)
    )
    descriptions._all_words.cache_clear()
    made = parsing.parse(commands.Command, "ssm", "", ["run", "--imbalance-ratio", "3"])
    assert made.config == ssm.Config(imbalance_ratio=3.0) and not asked
    with pytest.raises(ssm.InputError, match="PATH An NPZ file with `logits`"):
        parsing.parse(commands.Command, "ssm", "", ["track"])
    assert asked


def test_merge_and_export(command, tmp_path):
    for seed in (0, 1):
        grid = f"--grid seed={seed} --loss squared --out {seed}.zarr"
        assert command(f"sweep {TINY_FLAGS} {grid}")[0] == 0
    code, shown, err = command("merge 0.zarr 1.zarr -o all.zarr")
    assert code == 0 and not err and "2: 2 finished" in shown and "all.zarr" in shown
    code, out, _ = command("export all.zarr -o all.csv --variables block_learning_time,status")
    assert code == 0 and out == "all.csv\n"
    lines = (tmp_path / "all.csv").read_text().splitlines()
    assert len(lines) == 1 + 2 * 3 and lines[0].startswith("seed,block,")
    code, _, err = command("merge 0.zarr 1.zarr -o all.zarr")
    assert code == 2 and "--overwrite" in err and err.count("\n") == 1
    code, _, err = command("export all.zarr -o more.csv --variables los")
    assert code == 2 and "did you mean loss?" in err and err.count("\n") == 1


@pytest.mark.slow
def test_a_terminal_run_from_the_shell(command, run, tmp_path):
    line = f"run {TINY_FLAGS} --clock loss --stop-margin 20 --geometry --solver rkl2"
    line += " --save-state --out end.zarr"  # kept as in other tests of the same shape
    code, shown, err = command(line)
    assert code == 0 and "margin reached after" in shown and "to SELI  W " in shown and not err
    expected = run(clock="loss", stop_margin=20.0, geometry=True, solver="rkl2", save_state=True)
    xr.testing.assert_equal(ssm.load(tmp_path / "end.zarr"), expected)
    code, out, _ = command("plot end.zarr --kind geometry")
    assert code == 0 and (tmp_path / out.strip()).is_file()


@pytest.mark.slow
def test_a_run_with_data_held_out_from_the_shell(command, run, tmp_path):
    """What it gets of that is in its summary, and can be drawn."""
    line = f"{TINY_FLAGS} --loss squared --held-out --coupling 0.5"  # as in tests of figures
    code, shown, err = command(f"run {line} --out held.zarr")
    ds = run(loss="squared", held_out=True, coupling=0.5)
    best = ds.held_out_accuracy.mean("class").max()
    assert code == 0 and not err and f"recall {float(best):.3g} (majority " in shown
    xr.testing.assert_equal(ssm.load(tmp_path / "held.zarr"), ds)
    code, out, _ = command("plot held.zarr --kind held_out")
    assert code == 0 and (tmp_path / out.strip()).is_file()
    command(f"run {TINY_FLAGS} --loss squared --out plain.zarr")
    code, _, err = command("plot plain.zarr --kind held_out")
    assert code == 2 and "another kind: nothing was held out" in err and err.count("\n") == 1


def test_an_optimisers_steps_from_the_shell(command, run, tmp_path):
    line = f"{TINY_FLAGS} --optimizer muon --loss vs --learning-rate 0.05 --num-steps 60"
    code, shown, err = command(f"run {line} --out muon.zarr")
    assert code == 0 and "finished after 60 steps" in shown and not err
    assert "0.05 at first, 3 in all" in shown
    own = {"optimizer": "muon", "loss": "vs", "learning_rate": 0.05, "num_steps": 60}
    xr.testing.assert_equal(ssm.load(tmp_path / "muon.zarr"), run(**own))
    axes = "--grid additive_adjustment=0,1 --grid learning_rate=0.05,0.1"
    code, shown, _ = command(f"sweep {line} {axes} --out swept.zarr")
    assert code == 0 and "4: 4 finished" in shown
    swept = ssm.load("swept.zarr").sel(additive_adjustment=1, learning_rate=0.05)
    assert np.array_equal(swept.strength, run(**own).strength)
    assert swept.time.attrs["description"] == "training step"


def test_the_explorer_opens_where_it_is_built(command, monkeypatch, tmp_path):
    opened = []
    monkeypatch.setattr(explorer.webbrowser, "open", opened.append)
    monkeypatch.setattr(explorer, "PAGE", tmp_path / "a page.html")
    code, out, err = command("explore")
    assert code == 2 and not out and not opened
    assert "make explorer" in err and err.count("\n") == 1
    (tmp_path / "a page.html").write_text("<!doctype html>")
    code, out, err = command("explore")
    address = f"file://{tmp_path}/a%20page.html"
    assert (code, out, err, opened) == (0, f"{address}\n", "", [address])


def test_sweep_show_plot(command, tiny, tmp_path):
    grid = "--grid imbalance-ratio=1,4 --grid weight_exponent=0:1:3 --grid seed=0..1"
    line = f"sweep {TINY_FLAGS} --loss squared {grid} --out mine.zarr"
    code, shown, _ = command(line)
    assert code == 0 and "12: 12 finished" in shown
    assert "imbalance_ratio (2) x weight_exponent (3) x seed (2)" in shown
    axes = {"imbalance_ratio": [1, 4], "weight_exponent": [0, 0.5, 1], "seed": [0, 1]}
    xr.testing.assert_equal(ssm.load("mine.zarr"), ssm.sweep(axes, tiny(loss="squared")))
    assert command("show mine.zarr")[1] == shown
    assert command(line)[1] == f"nothing was run: the store was complete\n{shown}"
    for kind in ("heatmap", "curves"):
        code, out, err = command(f"plot mine.zarr --kind {kind}")
        assert code == 0 and (tmp_path / out.strip()).is_file(), err
    code, out, _ = command("plot mine.zarr --kind heatmap --axes imbalance_ratio seed --out h.png")
    assert code == 0
    code, out, _ = command("plot mine.zarr --kind curves --at weight_exponent=0.5 --out at.png")
    assert code == 0 and (tmp_path / "at.png").read_bytes() != Path("mine-curves.png").read_bytes()
    for held, said in (
        ("weight_exponent=0.3", "one of weight_exponent's values [0.0, 0.5, 1.0]"),
        (
            "rtol=1",
            "FIELD=VALUE with an axis of the sweep (imbalance_ratio, weight_exponent, seed)",
        ),
    ):
        code, _, err = command(f"plot mine.zarr --kind curves --at {held} --out no.png")
        assert code == 2 and said in err and err.count("\n") == 1
    code, _, err = command(f"{line} --rtol 1e-5")
    assert code == 2 and "rtol is 1e-06 there, 1e-05 here" in err


def test_track(command, tmp_path, rng):
    logits, labels = rng.normal(size=(4, 9, 3)), np.array([0] * 5 + [1] * 3 + [2])
    np.savez(tmp_path / "log.npz", logits=logits, labels=labels, times=[0, 1, 2, 5])
    code, shown, _ = command("track log.npz")
    assert code == 0 and "log.zarr" in shown and "3 with 5 to 1 samples" in shown
    xr.testing.assert_equal(
        ssm.load(tmp_path / "log.zarr"), ssm.track(logits, labels, [0, 1, 2, 5])
    )
    assert command("plot log.zarr --kind blocks")[0] == 0


def test_a_run_on_targets_of_a_file(command, tmp_path, rng):
    """Of both kinds of file, with the classes of the samples and without, as `ssm.simulate` has it."""
    targets, labels = rng.dirichlet(np.ones(3), 7), np.array([0, 1, 2, 0, 1, 0, 0])
    np.save(tmp_path / "P.npy", targets)
    np.savetxt(tmp_path / "P.csv", targets, "%.17g", ",", header="cat,dog,cow", comments="")
    np.savetxt(tmp_path / "y.csv", labels, "%d")
    weights = np.array([1.0, 2.0, 0.5, 1.0, 1.0, 1.0, 3.0])
    np.save(tmp_path / "a.npy", weights)
    for line, own in (
        ("--targets P.npy", None),
        ("--targets P.csv --labels y.csv", labels),
    ):
        code, shown, err = command(f"run {line} --feature-dim 4 --t1 5 --num-saves 5 --overwrite")
        assert code == 0 and "7 in all" in shown, err
        config = ssm.Config(feature_dim=4, t1=5.0, num_saves=5)
        wanted, found = ssm.simulate(config, targets=targets, labels=own), ssm.load("run.zarr")
        xr.testing.assert_equal(found, wanted)
        assert found.attrs["targets"] == wanted.attrs["targets"]
    files = "--targets P.csv --labels y.csv --sample-weights a.npy --feature-dim 4 --t1 5"
    code, _, err = command(f"sweep --grid weight_exponent=0,1 {files} --num-saves 5")
    assert code == 0, err
    taught: dict[str, Any] = {"targets": targets, "labels": labels, "sample_weights": weights}
    swept = ssm.sweep({"weight_exponent": [0.0, 1.0]}, config, **taught)
    np.testing.assert_array_equal(ssm.load("sweep.zarr")["strength"], swept["strength"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it has no numbers"),
        ("a,b\n", "it has no numbers"),
        ("0.5,0.5\n1\n", "its rows are of several lengths"),
        ("0.5,0.5\n0.5,x\n", "could not convert string to float: 'x'"),
        ("0.5,0.4\n", "targets='row 0, which sums to 0.9'"),
    ],
)
def test_a_bad_file_of_targets_is_one_line(command, tmp_path, text, said):
    (tmp_path / "P.csv").write_text(text)
    (tmp_path / "P.npy").write_text(text)
    code, _, err = command("run --targets P.csv")
    assert code == 2 and said in err and err.count("\n") == 1 and err.startswith("ssm: targets=")
    code, _, err = command("run --targets P.npy")
    assert code == 2 and err.startswith("ssm: targets='P.npy': must be") and err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["P.csv", "P.npy"]


def test_a_class_alone_in_its_group_is_shown(command, tmp_path):
    """Its own learning time, and why it has no block: logits that grow evenly to their targets."""
    labels = np.array([0] * 4 + [1] * 4 + [2])
    logits = np.linspace(0, 1, 11)[:, None, None] * (np.eye(3)[labels] - 1 / 3)
    np.savez(tmp_path / "log.npz", logits=logits, labels=labels)
    for line in ("track log.npz", "show log.zarr"):
        code, shown, _ = command(line)
        assert code == 0 and "class 2 alone; one class has no contrasts within its group" in shown
        cells = [cell.strip() for cell in shown.split("minority,")[1].split("│")]
        assert cells[2:5] == ["-", "1", "5"]  # half of its target at the sixth of eleven times


def test_a_studys_folder_is_named_as_what_it_is(command, tmp_path):
    (tmp_path / "mine" / "record.zarr").mkdir(parents=True)
    (tmp_path / "mine" / "study.json").write_text("{}")
    for line in ("show mine", "plot mine"):
        code, _, err = command(line)
        assert code == 2 and err == (
            "ssm: store='mine': must be a run or a sweep; this is a study's folder: the same `ssm "
            "study` goes on and writes its report\n"
        )
    (tmp_path / "mine" / "report.html").write_text("")
    code, _, err = command("show mine")
    assert code == 2 and err.endswith("this is a study's folder: open mine/report.html\n")


def test_dask_is_asked_for_by_its_own_name(command, monkeypatch):
    """The name of this project is taken in the package index."""
    monkeypatch.setitem(sys.modules, "distributed", None)
    code, _, err = command("sweep --grid seed=0,1 --workers 2")
    assert code == 2 and "pip install distributed" in err and "ssm[" not in err


def test_a_run_that_runs_out_of_steps_is_a_result(command):
    code, shown, err = command(f"run {TINY_FLAGS} --max-steps 20")
    assert code == 0 and "out of steps after 20" in shown
    remedy = "raise max_steps, or ask for less accuracy by a larger rtol"
    assert err == f"ssm: the run ended early: out of steps; {remedy}\n"
    assert f"      remedy  {remedy}\n" in shown
    code, shown, err = command(f"sweep {TINY_FLAGS} --grid max_steps=20,100000 --out few.zarr")
    assert code == 0 and "2: 1 finished, 1 out of steps" in shown and not err
    assert f"out of steps  {remedy}\n" in shown


def test_too_narrow_features_are_reported(command, run):
    ssm.save(run(feature_dim=2, loss="squared", t1=400.0), Path("narrow.zarr"))
    code, shown, _ = command("show narrow.zarr")  # which says what `run` says
    assert code == 0 and "cannot be interpolated: feature_dim is below" in shown


BAD = [
    ("run --num-classes 1", "num_classes=1: must be an integer in [2"),
    ("run --num-classes ten", "--num-classes"),
    (
        "run --drop-step 20 10 --learning-rate-schedule step --optimizer gd",
        "drop_step=(20, 10): must",
    ),
    ("run --counts 5 0", "counts[1]=0: must be"),
    ("run --imbalance-ratio 0.5", "imbalance_ratio=0.5: must be a finite number in [1"),
    ("run --imbalance-ratio nan", "imbalance_ratio=nan: must be"),
    ("run --minority-fraction 0.01", "minority_fraction=0.01: must be"),
    ("run --feature-dim 0", "feature_dim=0: must be"),
    ("run --coupling 1.5", "coupling=1.5: must be a finite number in [0, 1]"),
    ("run --between-coupling 0.1", "between_coupling=0.1: must be at most the coupling within a"),
    (
        "run --held-out",
        "held_out=True: must be False at coupling=0, where samples of a class share",
    ),
    ("run --noise-dim 0", "noise_dim=0: must be an integer in [1"),
    ("run --bias hidden --optimizer adam", "bias='hidden': must be none or output with optimizer"),
    ("sweep --grid held_out=False,True", "(at held_out=True)"),
    ("run --loss hinge", "'hinge'"),
    ("run --learning-rates 3", "--learning-rates"),
    ("run --out nowhere/x.zarr", "out='nowhere/x.zarr': must be in a folder that exists"),
    ("run --out taken", "out='taken': must be a new path, or a store to overwrite"),
    ("show nothing.zarr", "store='nothing.zarr': must be a store that exists"),
    ("show taken", "store='taken': must be a readable ssm store"),
    ("plot nothing.zarr", "store='nothing.zarr': must be"),
    ("plot taken --kind pie", "'pie'"),
    ("plot taken --out figure.txt", "out='figure.txt': must be a path ending in .png"),
    ("plot taken --out taken", "out='taken': must be"),
    ("run --num-classes 2.5", "'2.5'; see ssm run --help"),
    ("run --clock loss --loss squared", "clock='loss': must be time under the squared loss"),
    ("run --clock loss --weight-decay 0.1", "clock='loss': must be time with weight or feature"),
    ("run --depth 1", "feature_dim=16: must be num_classes, 10, at depth=1"),
    ("run --depth 3 --geometry", "geometry=True: must be False unless depth is 2, not 3"),
    (
        "sweep --grid depth=1,2 --grid feature_dim=10 --weight-decay 0.1",
        "weight_decay=0.1: must be 0 at depth=1, which has no classifier to decay (at depth=1, "
        "feature_dim=10)",
    ),
    ("sweep", "grid=(): must be given at least once, as --grid FIELD=A,B,C"),
    ("sweep --grid foo=1", "grid='foo': must be one of the fields"),
    ("sweep --grid seed", "grid='seed': must be FIELD=A,B,C"),
    ("sweep --grid seed=", "grid='seed=': must be FIELD=A,B,C"),
    ("sweep --grid seed=1 --grid seed=2", "must be one axis a field"),
    ("sweep --grid seed=1,1", "grid[seed]=[1, 1]: must be one or more different values"),
    ("sweep --grid seed=1,x", "seed='x': must be an integer in [0, 2147483647] (at seed=x)"),
    (
        "sweep --grid num_classes=4,2 --grid minority_fraction=0.2,0.5",
        "minority_fraction=0.2: must be such that round(minority_fraction * 2) is in [1, 1], not 0 "
        "(at num_classes=2, minority_fraction=0.2)",
    ),
    ("sweep --grid seed=1,2 --chunk-size 0", "chunk_size=0: must be"),
    ("sweep --grid seed=1,2 --workers 0", "workers=0: must be"),
    ("sweep --grid seed=1,2 --out taken", "store='taken': must be a readable ssm store"),
    ("sweep --grid seed=1,2 --out nowhere/x.zarr", "out='nowhere/x.zarr': must be in a folder"),
    (
        "sweep --grid seed=1 --workers 2 --scheduler tcp://a:1",
        "scheduler='tcp://a:1': must be left",
    ),
    ("merge -o all.zarr", "stores=(): must be given: ssm merge A.zarr B.zarr -o all.zarr"),
    ("merge taken -o all.zarr", "store='taken': must be a readable ssm store"),
    ("merge none.zarr -o all.zarr", "store='none.zarr': must be a store that exists"),
    ("merge none.zarr -o taken", "out='taken': must be a new path, or a store to overwrite"),
    ("merge none.zarr", "--out"),
    ("export taken -o x.txt", "out='x.txt': must be a path ending in .nc or .csv"),
    ("export taken -o x.csv", "store='taken': must be a readable ssm store"),
    ("export none.zarr -o no/x.csv", "out='no/x.csv': must be in a folder that exists"),
    ("track taken", "file='taken': must be a readable NPZ file"),
    ("track nothing.npz", "file='nothing.npz': must be an NPZ file that exists"),
    ("run --imbalance-rato 5", "--imbalance-rato, 5; did you mean --imbalance-ratio?; see ssm run"),
    ("advise --counts 5,3 --couplin 1", "did you mean --coupling?; see ssm advise --help"),
    ("run --targets no.csv", "targets='no.csv': must be a .npy file"),
    ("run --targets taken", "targets='taken': must be a .npy file"),
    ("run --labels taken", "labels='taken': must be left out without --targets"),
    ("sweep --grid seed=1 --targets own", "targets='own': must be a .npy file"),
    ("sweep --grid seed=1 --labels taken", "labels='taken': must be left out without --targets"),
    ("run --sample-weights taken", "sample_weights='taken': must be left out without --targets"),
    ("run --zzz", "Unrecognized options: --zzz; see ssm run --help"),
    ("sweep --grid imbalance_ratio 1 10", "write --grid imbalance_ratio=1,10"),
    ("sweep --grid imbalance_ratio=1, 10 --loss squared", "write --grid imbalance_ratio=1,10"),
    ("sweep --gird seed=1", "did you mean --grid?; see ssm sweep --help"),
    ("plot", "PATH"),
    ("frobnicate", "command='frobnicate': must be one of run, sweep"),
    ("swep --grid seed=1", "; did you mean sweep?"),
    ("run --loss Squard", "loss='Squard': must be one of cross_entropy, squared"),
    ("run --loss Squard", "; did you mean squared?"),
    ("run --optimizer adm", "; did you mean adam?"),
    ("run --class-weights balancd", "; did you mean balanced?"),
    ("run --momentum x", "momentum='x': must be FLOAT"),
    ("plot taken --kind heat-map", "; did you mean heatmap?"),
    ("sweep --grid see=1", "; did you mean seed?"),
    ("sweep --grid loss=squard", "; did you mean squared?"),
    ("study digit", "or a file that exists; did you mean digits?"),
    ("study digits --strategies erm,invers", "; did you mean inverse?"),
    ("", "run"),
]


@pytest.mark.parametrize(("line", "said"), BAD)
def test_bad_input_is_one_line_and_exit_code_2(command, tmp_path, line, said):
    (tmp_path / "taken").write_text("mine")
    code, out, err = command(line)
    assert code == 2 and out == ""
    assert said in err and err.startswith("ssm: ") and err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]
    assert (tmp_path / "taken").read_text() == "mine"


def test_the_version_is_that_of_the_distribution(command):
    code, out, err = command("--version")
    assert (code, out, err) == (0, f"ssm {importlib.metadata.version('small-scale-model')}\n", "")


@pytest.mark.parametrize("written", ["500 50", "500,50", "500, 50", "500 ,50"])
@pytest.mark.parametrize("flag", ["--counts ", "--counts="])
def test_numbers_of_a_list_have_blanks_or_commas_between(flag, written):
    line = f"sweep --profile custom {flag}{written} --class-weights 1,2.5 --grid seed=1,2"
    parsed = parsing.parse(commands.Command, "ssm", "", line.split())
    assert parsed.config.counts == (500, 50) and parsed.config.class_weights == (1, 2.5)
    assert parsed.grid == ("seed=1,2",)


@pytest.mark.skipif(
    not Path("/proc/self").exists(), reason="no folder that even root cannot write to"
)
def test_an_unwritable_folder_is_refused(command):
    for line in ("run --out /proc/x.zarr", "track log.npz --out /proc/x.zarr"):
        code, _, err = command(line)
        assert code == 2 and "in a folder that can be written to" in err and err.count("\n") == 1


def test_an_existing_output_is_replaced_only_when_told(command, tmp_path, run):
    command(f"run {TINY_FLAGS}")
    code, _, err = command(f"run {TINY_FLAGS} --seed 1")
    assert code == 2 and "run.zarr" in err and "--overwrite" in err
    assert command(f"run {TINY_FLAGS} --seed 1 --overwrite")[0] == 0
    xr.testing.assert_equal(ssm.load("run.zarr"), run(seed=1))
    assert command("plot run.zarr")[0] == 0
    assert command("plot run.zarr")[0] == 2
    assert command("plot run.zarr --overwrite")[0] == 0


@pytest.mark.parametrize(
    "line",
    [
        "--help",
        "run --help",
        "sweep --help",
        "show --help",
        "plot --help",
        "track --help",
        "advise --help",
    ],
)
def test_help(command, line):
    code, out, err = command(line)
    assert code == 0 and "usage: ssm" in out and err == ""
    if line == "advise --help":
        said = " ".join(out.replace("│", "").split())
        assert "measured_coupling(features, labels).coupling" in said
        assert "inverse frequency reverse the order" in said and "0.01 to 0.4, and" in said
    if line == "run --help":
        assert "(default: 10.0)" in out and "half the squared" in " ".join(out.split())


@pytest.mark.parametrize("name", ["", *parsing.command_names(commands.Command)])
def test_help_fits_a_terminal_and_keeps_its_examples_apart(command, monkeypatch, name):
    """Of 80 columns; each example, as it would be typed, begins a line."""
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = command(f"{name} --help")
    lines = [line.strip(" │") for line in out.splitlines()]
    assert max(map(len, out.splitlines())) <= 80
    assert all(line.find("$ ssm") in (-1, 0) for line in lines)
    if name:
        described = out.split("╭")[0].split("\n\n")[1].replace("\n", " ")
        cls = next(c for c in get_args(commands.Command) if c.__metadata__[0].name == name)
        assert described == " ".join(get_args(cls)[0].__doc__.split("\n\n")[0].split())


def begin(line, cwd, **environment):
    """Begin `ssm ...` in a new process."""
    return subprocess.Popen(
        [sys.executable, "-c", "from ssm.cli import main; main()", *line.split()],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(folder, pattern, process):
    """Until a file that matches the pattern is there, while the process runs."""
    deadline = time.monotonic() + 60
    while not list(folder.glob(pattern)):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)


@pytest.mark.slow
def test_interrupting_a_long_run_writes_nothing_and_says_so(tmp_path, tmp_path_factory):
    # a run of many minutes: explicit steps stay short after the squared loss has converged
    line = f"run {TINY_FLAGS} --loss squared --rtol 1e-13 --atol 1e-16 --t1 1e9"
    line += " --max-steps 2000000000"
    cache = tmp_path_factory.mktemp("cache")
    kept = {"JAX_COMPILATION_CACHE_DIR": str(cache)}
    kept["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"  # it takes about a second
    with begin(line, tmp_path, **kept) as process:
        try:
            wait_for(cache, "jit__solve-*-cache", process)  # then it is compiled, and begins
            time.sleep(0.3)
            assert process.poll() is None
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=20)
        finally:
            process.kill()  # a failure should not wait for those minutes
    assert process.returncode == 130 and "interrupted, nothing was written" in err
    assert list(tmp_path.iterdir()) == []


SLOW_DISK = """
import sys, time
from zarr.storage import LocalStore
write = LocalStore.set
async def slowly(self, key, *rest):
    time.sleep(0.02)
    await write(self, key, *rest)
LocalStore.set = slowly
from ssm.cli import main
main()
"""


@pytest.fixture
def track_slowly(tmp_path, rng):
    """Begin `ssm track`, which writes some seventy files of its store slowly, in a new process: the
    process, when a file that matches a pattern is there."""
    np.savez(
        tmp_path / "log.npz", logits=rng.normal(size=(4, 9, 3)), labels=[0] * 5 + [1] * 3 + [2]
    )
    (tmp_path / "here").mkdir()
    begun = []

    def begin(pattern, *flags):
        arguments = [sys.executable, "-c", SLOW_DISK, "track", "../log.npz", *flags]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(arguments, cwd=tmp_path / "here", env=environment, **pipes)
        begun.append(process)
        wait_for(tmp_path / "here", pattern, process)
        return process

    yield begin
    for process in begun:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    "part",
    [
        pytest.param("lock", marks=pytest.mark.slow),
        pytest.param("new", marks=pytest.mark.slow),
        pytest.param("new/log.zarr/.zgroup", marks=pytest.mark.slow),
        "new/log.zarr/str*/0.0",
    ],
)
def test_ctrl_c_while_saving_leaves_nothing(track_slowly, tmp_path, part):
    process = track_slowly(f".log.zarr.ssm-writing/{part}")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, "")
    assert err == "ssm: interrupted, nothing was written\n"
    assert list((tmp_path / "here").iterdir()) == []


@pytest.mark.slow
def test_ctrl_c_twice_while_saving_is_heard_at_once(track_slowly, tmp_path):
    """What is left then is swept by the next command, as it is after a kill."""
    for number in (signal.SIGINT, signal.SIGKILL):
        process = track_slowly(".log.zarr.ssm-writing/new/log.zarr/str*/0.0")
        process.send_signal(number)
        time.sleep(0.05)
        process.send_signal(number)
        process.communicate(timeout=20)
        assert process.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL)
        assert not (tmp_path / "here" / "log.zarr").exists()
    process = track_slowly("log.zarr")
    process.communicate(timeout=20)
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["log.zarr"]


def test_ctrl_c_while_overwriting_leaves_the_old_store(track_slowly, tmp_path, rng):
    old = ssm.track(rng.normal(size=(2, 4, 2)), [0, 0, 0, 1])
    ssm.save(old, tmp_path / "here" / "log.zarr")
    process = track_slowly(".log.zarr.ssm-writing/new/log.zarr/.zgroup", "--overwrite")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130
    xr.testing.assert_identical(ssm.load(tmp_path / "here" / "log.zarr"), old)
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["log.zarr"]


def test_ctrl_c_after_saving_does_not_deny_it(command, tmp_path, monkeypatch, rng):
    class Left(Exception):
        pass

    def leave(message):
        raise Left(message)

    def interrupt(*_):
        raise KeyboardInterrupt

    np.savez(tmp_path / "log.npz", logits=rng.normal(size=(2, 4, 2)), labels=[0, 0, 0, 1])
    monkeypatch.setattr("ssm.support.interrupts.leave_interrupted", leave)
    monkeypatch.setattr(commands.printing, "print_run", interrupt)
    with pytest.raises(Left, match=r"^ssm: interrupted, log\.zarr is written$"):
        command("track log.npz")
    ssm.load(tmp_path / "log.zarr")


PRESSED_AT_THE_END = """
import atexit, os, signal, sys, threading, time
def press(os=os, signal=signal, time=time):  # at the end their names are gone
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.01)
class Last:
    def __del__(self, press=press):
        press()
last = Last()
# Python waits for threads, then calls these, and last of all takes its modules apart
atexit.register(press)
threading._register_atexit(press)
from ssm.cli import main
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("line", "code"),
    [
        pytest.param("track log.npz", 0, marks=pytest.mark.slow),
        pytest.param("plot log.zarr", 0, marks=pytest.mark.slow),
        ("show nothing.zarr", 2),
    ],
)
def test_ctrl_c_while_the_process_shuts_down_changes_nothing(line, code, tmp_path, rng):
    logits, labels = rng.normal(size=(2, 4, 2)), [0, 0, 0, 1]
    np.savez(tmp_path / "log.npz", logits=logits, labels=labels)
    if line != "track log.npz":
        ssm.save(ssm.track(logits, labels), tmp_path / "log.zarr")
    done = subprocess.run(
        [sys.executable, "-c", PRESSED_AT_THE_END, *line.split()],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == code
    assert done.stderr.count("\n") == (code == 2) and "Traceback" not in done.stderr
    if code == 0:
        ssm.load(tmp_path / "log.zarr")


def test_ctrl_c_after_a_picture_does_not_deny_it(command, tmp_path, monkeypatch, rng):
    class Left(Exception):
        pass

    def leave(message):
        raise Left(message)

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    ssm.save(ssm.track(rng.normal(size=(2, 4, 2)), [0, 0, 0, 1]), tmp_path / "log.zarr")
    monkeypatch.setattr("ssm.support.interrupts.leave_interrupted", leave)
    for name, what in (("savefig", "nothing was"), ("print", "log-blocks.png is")):
        with monkeypatch.context() as patch:
            if name == "print":
                patch.setattr(showing, "print", interrupt, raising=False)
            else:
                patch.setattr(Figure, name, interrupt)
            with pytest.raises(Left, match=rf"^ssm: interrupted, {what} written$"):
                command("plot log.zarr")
    assert (tmp_path / "log-blocks.png").is_file()


def test_of_two_commands_at_once_the_second_says_so(track_slowly, command, tmp_path, monkeypatch):
    first = track_slowly(".log.zarr.ssm-writing/lock")
    monkeypatch.setattr(sharing, "PATIENCE", 0.0)  # for which a sweep waits for a store to be made
    monkeypatch.chdir(tmp_path / "here")
    for line in ("track ../log.npz", "run --out log.zarr", "sweep --grid seed=1 --out log.zarr"):
        code, _, err = command(line)
        assert code == 2 and "'log.zarr': must be a path that no other process is writing" in err
        assert err.count("\n") == 1
    assert first.poll() is None
    first.communicate(timeout=20)
    assert first.returncode == 0
    ssm.load("log.zarr")


@pytest.mark.parametrize("platform", ["abacus", pytest.param("cuda", marks=pytest.mark.slow)])
def test_a_platform_that_is_not_there_is_refused(platform, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": platform}
    script = "import jax; print(jax.devices()[0].platform)"
    if platform == "cuda":
        found = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True)
        if found.returncode == 0:
            pytest.skip("it is there")
    # one process, as importing takes its time
    code = """
import sys
from ssm.cli import main
for line in ("run", "sweep --grid seed=1", "advise --counts 9,3", "study wine"):
    sys.argv = ["ssm", *line.split()]
    try:
        main()
    except SystemExit as stop:
        print(stop.code)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.stdout.split() == ["2"] * 4, done.stderr
    (said,) = set(done.stderr.splitlines())
    assert said.startswith(f"ssm: JAX_PLATFORMS='{platform}': must be left out, or platforms")
    assert done.stderr.count("\n") == 4 and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "line",
    ["show run.zarr", "run --help", pytest.param("plot run.zarr", marks=pytest.mark.slow)],
)
def test_nobody_is_told_of_a_closed_pipe(line, run, tmp_path):
    ssm.save(run(loss="squared"), tmp_path / "run.zarr")
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", "from ssm.cli import main; main()", *line.split()],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk that is always full")
def test_a_full_disk_is_told_in_one_line(tmp_path):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", "from ssm.cli import main; main()", "run", "--help"],
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 2 and done.stderr == "ssm: [Errno 28] No space left on device\n"


@pytest.mark.filterwarnings("default")
def test_an_earlier_store_is_shown_with_one_line(command, run, tmp_path):
    ssm.save(run(loss="squared"), tmp_path / "run.zarr")
    shown = command("show run.zarr")[1]
    dataset = ssm.load(tmp_path / "run.zarr")
    before = digests.of_dataset_before(dataset)  # as test_digests checks it
    for name in (".zattrs", ".zmetadata"):
        path = tmp_path / "run.zarr" / name
        contents = json.loads(path.read_text())
        contents.get("metadata", {".zattrs": contents})[".zattrs"]["digest"] = before
        path.write_text(json.dumps(contents))
    code, out, err = command("show run.zarr")
    assert (code, out) == (0, shown) and err.count("\n") == 1
    assert err.startswith("ssm: store='run.zarr' was written by an earlier version")


def test_overwriting_spares_a_folder_that_only_looks_like_a_store(command, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / ".zattrs").write_text("{}")
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    (tmp_path / "link").symlink_to("nothing")
    for out, said in (("mine", "a new path, or a store to overwrite"), ("link", "no symlink to")):
        code, _, err = command(f"run {TINY_FLAGS} --out {out} --overwrite")
        assert code == 2 and f"out='{out}': must be {said}" in err and err.count("\n") == 1
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years"


@pytest.mark.slow
def test_an_interrupted_sweep_goes_on(tmp_path):
    # four runs that end and then one of many minutes
    line = f"sweep {TINY_FLAGS} --loss squared --rtol 1e-13 --atol 1e-16 --chunk-size 2"
    line += " --max-steps 2000000000 --grid seed=0..1 --grid t1=10,20,1e9"
    with begin(line, tmp_path, XDG_CACHE_HOME=str(tmp_path / "cache")) as process:
        wait_for(tmp_path, "sweep.zarr/chunks/0.json", process)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err == "ssm: interrupted; the same command goes on with sweep.zarr\n"
    assert {path.name for path in tmp_path.iterdir()} - {"cache"} == {"sweep.zarr"}
    assert not list((tmp_path / "sweep.zarr").rglob("*ssm-writing"))
    with pytest.warns(StoreWarning, match="2 of its 6 runs are there"):
        runs = ssm.load(tmp_path / "sweep.zarr")
    assert (runs.status == "not computed").sum() == 4


@pytest.mark.slow
def test_the_wheel_works_outside_the_clone(tmp_path):
    """Built, installed beside this environment's libraries, and used from an empty folder."""
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    subprocess.run([*build, "-w", str(tmp_path), str(ROOT)], check=True)
    (wheel,) = tmp_path.glob("small_scale_model-*.whl")
    venv.create(tmp_path / "env", system_site_packages=False, with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    site = next((tmp_path / "env" / "lib").glob("python*/site-packages"))
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
    subprocess.run([*install, "--target", str(site), str(wheel)], check=True)
    libraries = str(Path(np.__file__).parents[1])
    (site / "libraries.pth").write_text(libraries)  # after the wheel's own packages on the path
    assert (site / "ssm" / "py.typed").is_file()
    (metadata,) = site.glob("*.dist-info/METADATA")
    addresses = re.findall(r"\]\(([^)]+)\)", metadata.read_text())
    home = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
    assert sum(address.startswith(f"{home}/") for address in addresses) >= 6
    assert all(address.startswith("https://") for address in addresses), "a relative link"

    np.savez(
        tmp_path / "log.npz",
        logits=np.random.default_rng(0).normal(size=(2, 4, 2)),
        labels=[0, 0, 0, 1],
    )
    said = {
        f"run {TINY_FLAGS}": "finished",
        "show run.zarr": "run.zarr",
        "plot run.zarr": "run-blocks.png",
        "track log.npz": "log.zarr",
    }
    entry = f"""
import sys
from importlib.metadata import entry_points
import ssm
assert "env" in ssm.__file__
main = entry_points(group="console_scripts")["ssm"].load()
for line in {list(said)}:
    sys.argv = ["ssm", *line.split()]
    main()
    print("END")
"""
    run = {"cwd": tmp_path, "check": True, "capture_output": True, "text": True}
    shown = subprocess.run([str(python), "-c", entry], **run).stdout.split("END\n")
    for expected, found in zip([*said.values(), ""], shown, strict=True):
        assert expected in found
    assert ssm.load(tmp_path / "run.zarr").attrs["git_commit"] == "unknown"
