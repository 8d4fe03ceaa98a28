"""Imports point one way, what must start fast does, and files stay as short and as frank as they should be."""

import ast
import functools
import importlib
import re
import subprocess
import sys
import tokenize
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import ssm
from ssm.addresses import ADDRESSES

ROOT = Path(__file__).parents[1]
# The rooms from the bottom up, a room a folder of ssm/ or a front door. A room may import from those on
# floors below its own, so that what stands on one floor knows nothing of each other.
FLOORS = [
    ("addresses", "support"),
    ("config",),
    ("problem",),
    ("measures",),
    ("dynamics", "theory"),
    ("results",),
    ("additions", "continuation"),
    ("preparation",),
    ("simulation",),
    ("sweeps", "advice"),
    ("practice.options",),
    ("practice.data", "practice.statistics"),
    ("practice.decisions",),
    ("practice.network", "practice.deployment"),
    ("practice.study", "practice.watching", "tracking"),
    ("plots",),
    ("practice.reporting",),
    ("cli",),
]
ROOMS = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
PATHS = sorted((ROOT / "ssm").rglob("*.py"))
# The two that only name what others hold, so that it is found at a short address.
DOORS = ("ssm", "ssm.practice")


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in PATHS}


def room_of(module: str) -> str:
    """The folder, or the front door, that a module belongs to."""
    parts = module.split(".")[1:]
    return ".".join(parts[:2]) if parts[0] == "practice" else parts[0]


@functools.cache
def nodes(path: Path) -> list[ast.AST]:
    """All that a file is made of."""
    return list(ast.walk(ast.parse(path.read_text())))


@functools.cache
def imported(path: Path) -> set[str]:
    """Modules of this project that a file imports, wherever in the file."""
    found = set()
    for node in nodes(path):
        if isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = inner & set(MODULES)
            found |= modules if len(modules) == len(inner) else modules | {node.module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {
        name
        for name in found
        if name.split(".")[0] in ("ssm", "experiments", "benchmarks", "tests")
    }


def test_every_module_is_in_a_room():
    assert {room_of(name) for name in MODULES if name not in DOORS} == set(ROOMS)


@pytest.mark.parametrize("module", [name for name in MODULES if name not in DOORS])
def test_imports_point_down(module):
    for name in imported(MODULES[module]):
        assert name in MODULES, f"{module} imports {name}, which is no room of the library"
        if name != "ssm" and room_of(name) != room_of(module):
            below = ROOMS[room_of(name)] < ROOMS[room_of(module)]
            assert below, f"{module} imports {name}"


def test_no_circle_within_a_room():
    """Packages' `__init__` only hand on what their modules define."""
    inner = {
        name: {other for other in imported(path) if other in MODULES and other not in DOORS}
        for name, path in MODULES.items()
        if path.name != "__init__.py"
    }
    TopologicalSorter(inner).prepare()


def test_the_public_addresses_are_the_modules_at_home():
    for address, home in ADDRESSES.items():
        assert home in MODULES
        module = importlib.import_module(address)
        assert module is importlib.import_module(home)
        assert module.__spec__ is not None
        assert module.__name__ == home and module.__spec__.name == home
    assert set(ssm.__all__) <= set(dir(ssm)) and all(hasattr(ssm, name) for name in ssm.__all__)
    assert all(hasattr(ssm.practice, name) for name in ssm.practice.__all__)


HELPED = "import sys; sys.argv = ['{}', '{}']; from {} import main; main()"
# What a process loads stays, so that what one of these lines needs beyond those before it is seen as well as alone.
PRACTICE = ROOT / "ssm" / "practice"
OF_PRACTICE = " ".join(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in PRACTICE.rglob("*.py")
    if path != PRACTICE / "__init__.py"
)
WITHOUT_JAX = {
    "import ssm; ssm.practice.cards": "jax sklearn skops matplotlib xarray",
    "import ssm.tracking.reports": "jax rich",
    "import ssm.practice.alarms, ssm.practice.monitors, ssm.weights": "jax",
    "import ssm; ssm.practice.TrainingMonitor": "jax",
    "import ssm; ssm.track, ssm.Tracker, ssm.probe_set": "jax",
    "import ssm.theory, ssm.defaults, ssm.exact, ssm.predictions, ssm.regularised": "jax",
    "import ssm.plotting, ssm.plots.studies, ssm.stores": "jax",
}


@pytest.mark.parametrize(
    "lines",
    [
        {HELPED.format("ssm", "--help", "ssm.cli"): "jax xarray numpy"},
        {HELPED.format("ssm", "--version", "ssm.cli"): "jax xarray numpy"},
        {HELPED.format("experiments", "--help", "experiments.__main__"): "jax xarray numpy"},
        WITHOUT_JAX,
        {
            "import ssm; assert 'kernels' in dir(ssm.practice)": OF_PRACTICE,
            "import ssm; ssm.simulate": "optax diffrax scipy matplotlib zarr sklearn rich",
            "import ssm; ssm.sweep": "optax diffrax scipy matplotlib sklearn rich",
        },
    ],
    ids=["help", "version", "experiments", "without jax", "simulate"],
)
def test_what_is_not_needed_is_not_imported(lines):
    code = ["import atexit, sys", "said = lambda: print('MODULES', *sys.modules)"]
    code += ["atexit.register(said)", *(part for line in lines for part in (line, "said()"))]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(code)], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    after = [loaded.split() for loaded in done.stdout.split("MODULES")[1:]]
    for (line, absent), loaded in zip(lines.items(), after[: len(lines)], strict=True):
        assert not set(absent.split()) & set(loaded), line


def test_the_notes_name_functions_and_tests_that_exist():
    """Every row of the notes' table of equations points at code and at a test."""
    places = [*MODULES.items(), *((path.stem, path) for path in (ROOT / "tests").glob("*.py"))]
    defined = {path.stem for path in (ROOT / "experiments").glob("*.py")}
    for name, path in places:
        parts = name.split(".")[-2:]  # a room and its module, either of which may be named
        defined |= {parts[-1], *(f"{part}.*" for part in parts)}
        for node in nodes(path):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                defined |= {node.name, f"{parts[-1]}::{node.name}"}
                defined |= {f"{part}.{node.name}" for part in parts}
                defined |= {
                    f"{node.name}.{inner.name}"
                    for inner in node.body
                    if isinstance(inner, ast.FunctionDef)
                }
    notes = (ROOT / "paper_notes.md").read_text()
    rows = [
        line.split(" | ") for line in notes.split("## Equations")[1].splitlines() if "|" in line
    ]
    assert len(rows) > 25
    for _, _, functions, tests in rows[2:]:
        for name in re.findall(r"`([^`]+)`", functions + tests):
            parts = re.fullmatch(r"(?:.*?(\w+)(\.|::))?(\w+|\*)", name)
            assert parts is not None and "".join(parts.groups("")) in defined, name
        assert "`test_" in tests


LONGEST_FILE, LONGEST_FUNCTION = 400, 80  # lines, docstrings included


def test_files_and_functions_are_short():
    """So that each is one concept, and can be read in one sitting."""
    long = []
    for name, path in MODULES.items():
        text = path.read_text()
        if (lines := len(text.splitlines())) > LONGEST_FILE:
            long.append(f"{name}: {lines} lines")
        for node in nodes(path):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > LONGEST_FUNCTION:
                    long.append(f"{name}.{node.name}: {lines} lines")
    assert not long


SUPPRESSION = re.compile(
    r"#\s*(?:noqa\b(?::\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*)?|(?:type|pyright):\s*ignore(?:\[[^]]*\])?"
    r"|pragma: no cover)(?P<reason>.*)"
)


def unreasoned(path: Path) -> list[str]:
    """Where a file silences a tool without saying why, in two words or more of the same line."""
    if not SUPPRESSION.search(path.read_text()):
        return []
    with path.open("rb") as file:
        comments = [
            token for token in tokenize.tokenize(file.readline) if token.type == tokenize.COMMENT
        ]
    found = []
    for token in comments:
        match = SUPPRESSION.search(token.string)
        if match and len(re.findall(r"[a-zA-Z]{2,}", match["reason"])) < 2:
            found.append(f"{path.name}:{token.start[0]} {token.string}")
    return found


def test_what_silences_a_tool_has_its_reason_beside_it(tmp_path):
    sample = tmp_path / "sample.py"
    marks = ("noqa: E501", "type: ignore[attr-defined]", "pyright: ignore")
    bare, reasoned = (
        [f"x = 1  # {mark}{why}\n" for mark in marks] for why in ("", " # a long link")
    )
    sample.write_text("".join(bare + reasoned))
    assert len(unreasoned(sample)) == len(marks)
    folders = ("ssm", "tests", "experiments", "benchmarks")
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    assert not [line for path in paths for line in unreasoned(path)]
