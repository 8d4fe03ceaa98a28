"""Imports point one way, and what must start fast does."""

import ast
import importlib
import re
import subprocess
import sys
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
    ("simulation", "tracking"),
    ("sweeps", "advice"),
    ("plots",),
    ("practice.options",),
    ("practice.data", "practice.statistics"),
    ("practice.network",),
    ("practice.study",),
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


def imported(path: Path) -> set[str]:
    """Modules of this project that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
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
        assert module.__name__ == home and module.__spec__.name == home
    assert set(ssm.__all__) <= set(dir(ssm)) and all(hasattr(ssm, name) for name in ssm.__all__)
    assert all(hasattr(ssm.practice, name) for name in ssm.practice.__all__)


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
    places = [*MODULES.items(), *((path.stem, path) for path in (ROOT / "tests").glob("*.py"))]
    defined = {path.stem for path in (ROOT / "experiments").glob("*.py")}
    for name, path in places:
        parts = name.split(".")[-2:]  # a room and its module, either of which may be named
        defined |= {parts[-1], *(f"{part}.*" for part in parts)}
        for node in ast.walk(ast.parse(path.read_text())):
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
            owner, mark, last = re.fullmatch(r"(?:.*?(\w+)(\.|::))?(\w+|\*)", name).groups("")
            assert f"{owner}{mark}{last}" in defined, name
        assert "`test_" in tests
