"""Every block of code in README.md and in the pages of docs/ runs, or says why it cannot; so does every example."""

import importlib.util
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from scipy import stats

import ssm
from experiments.__main__ import Options
from ssm.cli import commands
from ssm.cli.parsing import parse

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *(p for p in sorted((ROOT / "docs").rglob("*.md")) if "generated" not in p.parts),
]
NOTEBOOKS = [path for path in PAGES if path.parent.name == "notebooks"]
# Of what language a block is, and in the line before it why it cannot run.
BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<reason>.*?) -->\n)?```(?P<language>[^\n`]*)\n"
    r"(?P<text>.*?)^```$",
    re.M | re.S,
)
# What is no program: directives of the site, what a program prints, and sources to cite.
NO_PROGRAM = re.compile(r"\{.*\}.*|text|bibtex")
# A page shows a file of examples/ as it is.
EXAMPLE = re.compile(r"\{literalinclude\} \.\./\.\./examples/(\w+\.py)")
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
# Those in another framework, which is no dependency of the tests, by what is imported.
FRAMEWORKS = {"pytorch_loop.py": "torch", "keras_callback.py": "keras", "flax_loop.py": "flax"}


class Block(NamedTuple):
    language: str
    text: str
    reason: str | None


def blocks(path: Path) -> list[Block]:
    """What a page shows of programs; an example has its file as text."""
    found = []
    for m in BLOCK.finditer(path.read_text()):
        if example := EXAMPLE.fullmatch(m["language"]):
            found.append(Block("example", str(ROOT / "examples" / example[1]), m["reason"]))
        elif not NO_PROGRAM.fullmatch(m["language"]):
            found.append(Block(m["language"], m["text"], m["reason"]))
    return found


def lines(path: Path) -> list[str]:
    """The lines of the shell blocks of a page, without comments."""
    shell = "".join(block.text for block in blocks(path) if block.language == "sh")
    return [line for line in shell.splitlines() if line.strip() and not line.startswith("#")]


def label(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", PAGES, ids=label)
def test_a_block_is_python_or_of_the_shell(path):
    """Others would pass unseen; a notebook's cells are run by the build of the site."""
    for block in blocks(path):
        assert block.language in ("python", "sh", "example"), block
        assert block.reason is None or len(block.reason.split()) > 2
        if block.language == "python":
            compile(block.text, label(path), "exec")
    assert path.read_text().count("```{code-cell}") == 0 or path in NOTEBOOKS
    if path in NOTEBOOKS:
        cells = re.findall(r"^```\{code-cell\} python\n(.*?)^```$", path.read_text(), re.M | re.S)
        assert len(cells) > 2
        for cell in cells:
            compile(cell, label(path), "exec")


@pytest.mark.parametrize("path", [p for p in PAGES if lines(p)], ids=label)
def test_a_line_of_the_shell_is_one_that_there_is(path):
    """Its command and flags are known, its target is in the Makefile, its extra in pyproject.toml."""
    targets = re.findall(r"^(\S+):", (ROOT / "Makefile").read_text(), re.M)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for line in lines(path):
        words = shlex.split(line, comments=True)
        words[0] = words[0].removeprefix(".venv/bin/")
        match words:
            case ["ssm", *rest]:
                parse(commands.Command, "ssm", "", rest)
            case ["python", "-m", "experiments", *rest]:
                parse(Options, "experiments", "", rest)
            case ["make", target]:
                assert target in targets
            case ["python", "-m", "pip", "install", *rest]:
                assert rest[:2] == ["-c", "constraints.txt"]
                for extra in re.findall(r"\[(\w+)\]", line):
                    assert extra in extras
            case ["python3", "-m", "venv", ".venv"] | [".", ".venv/bin/activate"]:
                pass
            case ["python", "-m", "pytest" | "benchmarks", *_]:
                pass
            case _:
                pytest.fail(f"{label(path)}: nobody knows how to check {line!r}")


@pytest.mark.parametrize("path", EXAMPLES, ids=label)
def test_an_example_is_short_and_on_one_page(path):
    """On a page it is run with that page's blocks; what no page shows would not be."""
    shown = [b for page in PAGES for b in blocks(page) if b[:2] == ("example", str(path))]
    assert len(shown) == 1 and (shown[0].reason is None) == (path.name not in FRAMEWORKS)
    assert len(path.read_text().splitlines()) <= 40
    compile(path.read_text(), label(path), "exec")


@pytest.mark.slow
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_an_example_in_another_framework_runs(tmp_path, name):
    """It learns majorities first, has the weights of the paper in the end, and goes back to an evaluation before the last."""
    if (
        importlib.util.find_spec(FRAMEWORKS[name]) is None
    ):  # not imported here: Keras asks for a backend
        pytest.skip(f"{FRAMEWORKS[name]} is not installed")
    command = [sys.executable, str(ROOT / "examples" / name)]
    environment = os.environ | {"KERAS_BACKEND": "jax"}  # which is a dependency
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    stopped, best = map(int, re.findall(r"stopped at (\d+), went back to (\d+)", done.stdout)[0])
    log = ssm.load(tmp_path / "digits.zarr")
    assert best < stopped == log.time.values[-1] and best in log.time.values
    minority = np.arange(10) > 4
    assert (log.class_group.values == np.where(minority, "minority", "majority")).all()
    assert log.block_learning_time.values[0] < log.block_learning_time.values[2]
    # recalls of 10 training samples are below those of 100, and far above chance, 0.1
    held_out = log.held_out_accuracy.sel(time=best).values
    assert held_out[~minority].mean() > 0.95 > held_out[minority].mean() > 0.7
    weights, (majority, wanted) = log.weight.values[-1], ENDS_WITH[name](np.array([100, 10]))
    np.testing.assert_allclose(weights[minority] / weights[0], wanted / majority, rtol=1e-12)
    if "effective" in done.stdout:
        printed = [float(x) for x in re.findall(r"\d\.\d\d", done.stdout)]
        majority, wanted = in_batches_of_64(wanted / majority)
        np.testing.assert_allclose(printed, np.where(minority, wanted, majority), atol=0.005)


# The weight of a class of n samples with which each ends, but for a factor: inverse square root, effective number, inverse.
ENDS_WITH = {
    "pytorch_loop.py": lambda n: n**-0.5,
    "keras_callback.py": lambda n: (1 - 0.99) / (1 - 0.99**n),
    "flax_loop.py": lambda n: 1 / n,
}


def in_batches_of_64(ratio: float) -> tuple[float, float]:
    """What a majority and a minority sample weigh on average where 50 of 550 samples weigh `ratio` times as much as the others
    and a batch's losses are divided by its weights, by enumeration of how many of a batch are of minorities."""
    m = np.arange(65)
    chance, total = stats.binom.pmf(m, 64, 50 / 550), ratio * m + 64 - m
    majority, minority = (
        chance @ ((64 - m) / total) * 550 / 500,
        chance @ (ratio * m / total) * 550 / 50,
    )
    return float(majority), float(minority)


def test_the_readme_begins_as_the_start_does():
    """Word for word, so that it runs with that page; and it stays short enough to be read at once."""
    python = [block.text for block in blocks(ROOT / "README.md") if block.language == "python"]
    start = [block.text for block in blocks(ROOT / "docs" / "start.md")]
    assert len(python) == 1 and python[0] in start and len(python[0].splitlines()) <= 15
    for line in lines(ROOT / "README.md"):
        if line.startswith("ssm "):
            assert any(line in lines(page) for page in PAGES if page.name != "README.md")


def printed_recalls(said: str) -> list[list[float]]:
    return [
        list(map(float, re.findall(r"[01]\.\d*", line.split("[")[1]))) for line in said.splitlines()
    ]


def check_start(said: str, names: dict) -> None:
    assert "inverse square root {'majority'" in said
    assert Path("erm.png").is_file() and Path("erm.zarr").is_dir() and Path("mine.png").is_file()


def check_end_of_training(said: str, names: dict) -> None:
    assert said.count("log t = 1") == 3  # of 10,000


def check_losses(said: str, names: dict) -> None:
    assert said.count("'minority': ") == 2
    assert names["deferred"].weight.values.max() == pytest.approx(4)  # the bound


def check_held_out(said: str, names: dict) -> None:
    """Weights help the minorities."""
    recalls = printed_recalls("\n".join(x for x in said.splitlines() if "recalls" in x))
    assert np.mean(recalls[1][2:]) > np.mean(recalls[0][2:]) + 0.2


def check_recipes(said: str, names: dict) -> None:
    scores = re.findall(r"balanced accuracy (0\.\d{3}), kept step \d+", said)
    assert len(scores) == 5 and all(float(score) > 0.8 for score in scores)


def check_resume(said: str, names: dict) -> None:
    """It stops in the middle, does the rest, and refuses another grid."""
    assert "6 of 12 runs\nstopped\nwent on from" in said and said.count("must be a store of") == 1
    assert (
        len(Path("seeds.csv").read_text().splitlines()) == 1 + 4
    )  # of two seeds and two exponents
    assert len(Path("times.csv").read_text().splitlines()) == 1 + 4 * 3  # of three blocks


def check_study(said: str, names: dict) -> None:
    """A line for each of two strategies and two metrics, then a table of ten classes."""
    verdicts = re.findall(r", (better|worse|equivalent|undecided)$", said, re.M)
    assert (
        len(verdicts) == 4
        and len(re.findall(r"^(?:erm|inverse|la)(?: +[01]\.\d\d){10}$", said, re.M)) == 3
    )


def check_sweep(said: str, names: dict) -> None:
    """ERM's row at R = 10 is near 10^(1/2): within the tenth that a start of 1e-6 may be off."""
    assert said.startswith("weight_exponent") and "(100, 100, 3)\n" in said
    (row,) = re.findall(r"^10 +(\S+) +(\S+) +(\S+)$", said, re.M)[:1]
    assert [float(x) for x in row] == pytest.approx([10**0.5, 1, 10**-0.5], rel=0.1)
    assert "{'finished': 90}" in said
    assert "\n('point',) [500  54   5]\n" in said
    assert names["spread"].sizes["point"] == 64 and Path("points.png").is_file()
    assert "[[500, 5, 0], [500, 50, 5]]\n" in said
    # of the same first rate, in the last hundred steps a tenth of the one before and a tenth of that
    single, double = names["rates"].values[:, -1]
    assert double / single == pytest.approx(0.1, rel=1e-9)


def check_track(said: str, names: dict) -> None:
    """Ten times as many samples: majority contrasts are learned long before minority ones."""
    times = {name: float(x) for name, x in re.findall(r"'(\w+)': ([\d.]+)", said)}
    assert 5 * times["majority"] < times["minority"] and times["cross"] < times["minority"]
    assert Path("log.npz").is_file() and Path("network.png").is_file()


def check_follow(said: str, names: dict) -> None:
    """As on the page before, and features come nearer to each other within classes as they are learned."""
    times = {name: float(x) for name, x in re.findall(r"'(\w+)': ([\d.]+)", said) if name != "all"}
    assert 5 * times["majority"] < times["minority"]
    log = ssm.load("log.zarr")
    assert log.coupling[-1] > log.coupling[0] and log.class_name.values[2] == "lynx"
    assert Path("log.zarr").is_dir() and Path("network.png").is_file()


def check_ratios(said: str, names: dict) -> None:
    """Free features balance at 1/2 in the limit of small starts, and the ratio falls as R^-g: 0.1, since
    the start is not infinitely small."""
    found = names["found"]
    np.testing.assert_allclose(found.crossing, 0.5, atol=0.1)
    assert (found.low < found.crossing).all() and (found.number == 1).all()
    slopes = names["fits"].power_law(names["weights"], names["ratio"], along="weight_exponent")
    np.testing.assert_allclose(slopes.exponent, -1, atol=0.1)
    assert np.isfinite(names["when"]).all()


def check_weights(said: str, names: dict) -> None:
    """Inverse frequency of 500, 50 and 5 samples has unit mean over samples at n / (3 n_c)."""
    assert "Verdict: use `balanced` weights" in said
    (coupling,) = re.findall(r"^coupling (0\.\d\d)$", said, re.M)
    assert 0 < float(coupling) < 1
    inverse, _ = re.findall(r"^\[ *([\d.]+) +([\d.]+) +([\d.]+) *\]$", said, re.M)[-2:]
    assert [float(x) for x in inverse] == pytest.approx([0.37, 3.7, 37])


def check_any_classifier(said: str, names: dict) -> None:
    """No tumour is missed more often than by plain decisions, and shares are near those of the sample, 53 of 143."""
    matrix = names["costs"].confusion(names["y_test"], names["decided"], names["names"])
    plain = names["plain"].predict(names["X_test"])
    before = names["costs"].confusion(names["y_test"], plain, names["names"])
    assert matrix.loc["malignant", "benign"] <= before.loc["malignant", "benign"]
    assert names["found"].by_label["malignant"] == pytest.approx(53 / 143, abs=0.08)
    # of 53 and 89 held-out samples the 49th and the 81st: the law of what new ones of the class are covered
    low = stats.betabinom(names["coverage"].count[::-1], [49, 81], [5, 9]).ppf(1e-3)
    assert (names["coverage"].covered[::-1] >= low).all() and said.count("recall at") == 2
    assert names["tuned"].class_factors_.prod() == pytest.approx(1)
    # Samples of shared labels count as much for each class as its votes.
    np.testing.assert_allclose(names["soft"].class_shares_, names["votes"].mean(0), rtol=1e-12)


def check_deploy(said: str, names: dict) -> None:
    """The card's recalls are those of counting, on cases that cost less than by acting on none, and the loaded model is the same."""
    y, decided, card = names["y"], names["decided"], names["card"]
    for label, recall in zip(card.classes, card.performance.recall, strict=True):
        right = int(((y == label) & (decided == label)).sum())
        assert (recall.count, recall.of) == (right, int((y == label).sum()))
    assert card.performance.expected_cost.mean < 1000 * 50 * (y == "malignant").mean()
    assert names["said"].tolist() == names["model"].predict(names["later"]).tolist()
    assert said.count(" right, an alarm at ") == 2 and Path("screening/card.md").is_file()


def check_watch(said, names):
    """As the page quotes it: the shares at first, then the recall, which began to fall in week 36."""
    found = names["found"]
    assert found["advice"]["action"] == "retrain"
    recall = next(alarm for alarm in found["alarms"] if alarm["metric"] == "recall")
    assert recall["since"] == "2026-09-07" and recall["raised"] == "2026-09-14"
    assert f"{recall['value']:.3f}" == "0.539" and f"{recall['reference']:.3f}" == "0.794"
    assert said.startswith("retrain {'ill': 15.")
    kinds = {each["class"]: each["feature"] for each in found["features"]["found"]}
    assert found["features"]["kind"] == "class" and kinds == dict.fromkeys(
        ("ill", "well", None), "blood"
    )
    after = json.loads(Path("next/watch.json").read_text())
    assert after["advice"]["action"] == "nothing" and after["features"]["kind"] == "still"


EXPECTED = {
    "docs/how-to/deploy.md": check_deploy,
    "docs/how-to/any_classifier.md": check_any_classifier,
    "docs/start.md": check_start,
    "docs/how-to/end_of_training.md": check_end_of_training,
    "docs/how-to/losses.md": check_losses,
    "docs/how-to/held_out.md": check_held_out,
    "docs/how-to/ratios.md": check_ratios,
    "docs/how-to/recipes.md": check_recipes,
    "docs/how-to/resume.md": check_resume,
    "docs/how-to/study.md": check_study,
    "docs/how-to/sweep.md": check_sweep,
    "docs/how-to/track.md": check_track,
    "docs/how-to/follow.md": check_follow,
    "docs/how-to/watch.md": check_watch,
    "docs/how-to/weights.md": check_weights,
}


LONG = ("docs/how-to/sweep.md",)  # those that run for longer than they compile
RUN = [
    pytest.param(path, marks=pytest.mark.long if label(path) in LONG else ())
    for path in PAGES
    if blocks(path) and path.name != "README.md"
]


def test_every_expectation_is_of_a_page():
    assert set(EXPECTED) <= {label(path) for path in PAGES}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ssm.practice.alarms.TrainingWarning")
# distributed, of the sweep on a cluster, leaves loops and sockets of its own to the garbage collector
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("path", RUN, ids=label)
def test_the_blocks_of_a_page_run(path, tmp_path, monkeypatch, capsys, untyped):
    """In their order, Python in one namespace, an example in one of its own and the shell as processes, in
    an empty folder."""
    if path.name == "deploy.md":
        pytest.importorskip("skops", reason="skops is not installed")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    said = ""
    for block in blocks(path):
        if block.reason is not None:
            continue
        if block.language == "python":
            exec(compile(block.text, label(path), "exec"), names)
            said += capsys.readouterr().out
            continue
        if block.language == "example":
            runpy.run_path(block.text, run_name="__main__")
            said += capsys.readouterr().out
            continue
        for line in block.text.splitlines():
            program, *words = shlex.split(line, comments=True)
            assert program == "ssm", f"{line!r} is not run: say why before its block"
            command = "from ssm.cli import main; main()"
            done = subprocess.run([sys.executable, "-c", command, *words])
            # A watch with an alarm ends with 3.
            assert done.returncode == 0 or (words[0], done.returncode) == ("watch", 3), line
    EXPECTED.get(label(path), lambda said, names: None)(said, names)
