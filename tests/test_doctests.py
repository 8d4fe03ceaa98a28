"""Every example in a docstring of the library runs, and prints what it says.

Examples are read from the source, not from the imported objects: compiled functions and those whose shapes are
checked are wrapped, and doctest's own search passes over them without a word.
"""

import ast
import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# `...` stands for what differs from run to run, and line breaks in printed arrays do not count.
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef


def examples(path: Path) -> list[doctest.DocTest]:
    """The docstrings of a file that hold an example, by the name and the line of what they describe; their
    names are not resolved yet."""
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    found = []

    def visit(node: ast.AST, name: str) -> None:
        if isinstance(node, DOCUMENTED):
            text = ast.get_docstring(node, clean=False)
            if text is not None and ">>>" in text:
                line = node.body[0].lineno - 1
                test = doctest.DocTestParser().get_doctest(text, {}, name, str(path), line)
                found.append(test)
        for child in ast.iter_child_nodes(node):
            own = getattr(child, "name", None) if isinstance(child, DOCUMENTED) else None
            visit(child, f"{name}.{own}" if own else name)

    source = path.read_text()
    if ">>> " in source:
        visit(ast.parse(source), module)
    return found


EXAMPLES = [
    (path, test) for path in sorted((ROOT / "ssm").rglob("*.py")) for test in examples(path)
]


@pytest.mark.parametrize(("path", "example"), EXAMPLES, ids=[test.name for _, test in EXAMPLES])
def test_an_example_prints_what_it_says(path, example, tmp_path, monkeypatch, untyped):
    """As it is for users, whose types are not checked, in float64 as all tests, with the names of its
    module, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    example.globs = vars(importlib.import_module(module)).copy()
    printed: list[str] = []
    runner = doctest.DocTestRunner(optionflags=FLAGS, verbose=False)
    outcome = runner.run(example, out=printed.append)
    assert outcome.attempted > 0
    assert outcome.failed == 0, "".join(printed)


def test_no_example_is_passed_over():
    """As one in a docstring that is no module's, class's or function's would be."""
    written = sum(
        line.lstrip().startswith(">>> ")
        for path in (ROOT / "ssm").rglob("*.py")
        for line in path.read_text().splitlines()
    )
    assert written == sum(len(example.examples) for _, example in EXAMPLES) > 0
