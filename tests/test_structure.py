"""Imports point one way, and what must start fast does."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# From the bottom up: a module may import those before it.
ORDER = [
    "background",
    "progress",
    "checks",
    "profiles",
    "choices",
    "validation",
    "config",
    "files",
    "locks",
    "weights",
    "problem",
    "spectral",
    "metrics",
    "reduction",
    "losses",
    "posthoc",
    "settable",
    "schedules",
    "columns",
    "model",
    "geometry",
    "theory",
    "exact",
    "predictions",
    "regularised",
    "runge_kutta",
    "fields",
    "reporting",
    "trajectories",
    "dynamics",
    "optimizers",
    "descent",
    "observing",
    "results",
    "summaries",
    "digests",
    "sweep_stores",
    "stores",
    "tracking",
    "simulation",
    "grids",
    "plans",
    "computing",
    "sweeping",
    "palette",
    "sweep_plots",
    "plotting",
    "advice_runs",
    "advice_words",
    "advice",
    "practice.options",
    "practice.networks",
    "practice.calibration",
    "practice.evaluation",
    "practice.comparisons",
    "practice.tables",
    "practice.encoding",
    "practice.datasets",
    "practice.objective",
    "practice.monitors",
    "practice.alarms",
    "practice.runs",
    "practice.training",
    "practice.tasks",
    "practice.checkpoints",
    "practice.parameters",
    "practice.prediction",
    "practice.estimator",
    "practice.kernels",
    "practice.strategies",
    "practice.cells",
    "practice.study_plans",
    "practice.records",
    "practice.studies",
    "practice.study_tables",
    "practice.study_format",
    "practice.study_limits",
    "practice.study_words",
    "practice.study_curves",
    "practice.study_plots",
    "practice.report",
    "practice.commands",
    "parsing",
    "cli",
]


def path_of(module: str) -> Path:
    return ROOT / "ssm" / f"{module.replace('.', '/')}.py"


def imported(path: Path) -> set[str]:
    """Modules of this project that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {
        name for name in found if name.split(".")[0] in ("ssm", "experiments", "figures", "tests")
    }


def test_every_module_has_its_place():
    found = [p.relative_to(ROOT / "ssm").with_suffix("") for p in (ROOT / "ssm").rglob("*.py")]
    assert sorted(ORDER) == sorted(".".join(p.parts) for p in found if p.name != "__init__")


@pytest.mark.parametrize("module", ORDER)
def test_imports_point_down(module):
    for name in imported(path_of(module)):
        assert name.split(".")[0] == "ssm", f"the library must not import {name}"
        inner = name.removeprefix("ssm.")
        if inner in ORDER:
            assert ORDER.index(inner) < ORDER.index(module), f"{module} imports {name}"


def test_a_prediction_cannot_leak_into_the_dynamics():
    for module in ("dynamics", "descent", "fields", "optimizers", "runge_kutta", "observing"):
        names = imported(path_of(module))
        assert not any(name.split(".")[-1] in ("theory", "exact", "predictions") for name in names)


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        (
            "import sys; sys.argv = ['ssm', '--help']; from ssm.cli import main; main()",
            "jax xarray numpy",
        ),
        ("import ssm.plotting, ssm.stores", "jax"),
        ("import ssm; ssm.track", "jax"),
    ],
)
def test_what_is_not_needed_is_not_imported(code, absent):
    code = f"import atexit, sys; atexit.register(lambda: print('MODULES', *sys.modules)); {code}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    loaded = done.stdout.split("MODULES")[1].split()
    assert not set(absent.split()) & set(loaded)


def test_the_notes_name_functions_and_tests_that_exist():
    """Every row of the notes' table of equations points at code and at a test."""
    defined = {
        node.name
        for folder in ("ssm", "tests")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }
    defined |= {
        path.stem for folder in ("tests", "experiments") for path in (ROOT / folder).glob("*.py")
    }
    notes = (ROOT / "paper_notes.md").read_text()
    rows = [
        line.split(" | ") for line in notes.split("## Equations")[1].splitlines() if "|" in line
    ]
    assert len(rows) > 25
    for _, _, functions, tests in rows[2:]:
        for name in re.findall(r"`([^`]+)`", functions + tests):
            last = re.split(r"\.|::", name)[-1]
            assert last == "*" or last in defined, name
        assert "`test_" in tests
