"""A page for each public module, with all that it defines for others."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path
from types import GenericAlias, ModuleType

import ssm
from ssm.addresses import ADDRESSES


def public_modules() -> dict[str, list[str]]:
    """The addresses of the public modules, in groups: those at the top, and those of `ssm.practice`."""
    top = [f"ssm.{name}" for name in ssm.__all__ if inspect.ismodule(getattr(ssm, name))]
    inner = [x for x in ssm.practice.__all__ if inspect.ismodule(getattr(ssm.practice, x))]
    practice = {f"ssm.practice.{name}" for name in inner}
    practice |= {address for address in ADDRESSES if address.startswith("ssm.practice.")}
    assert set(ADDRESSES) <= {*top, *practice}, "an address that is not among the public names"
    return {
        "top": sorted(set(top) - {"ssm.practice"}),
        "practice": ["ssm.practice", *sorted(practice)],
    }


def public_names(module: ModuleType) -> list[str]:
    """What a module has for others: its `__all__`, and else the functions, the classes and the described
    constants that its own file defines without an underscore before their names."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    assert module.__file__ is not None
    body = ast.parse(Path(module.__file__).read_text()).body
    names = []
    for line, below in zip(body, [*body[1:], None], strict=True):
        if isinstance(line, ast.FunctionDef | ast.ClassDef):
            names.append(line.name)
        elif isinstance(below, ast.Expr) and isinstance(
            getattr(below, "value", None), ast.Constant
        ):
            targets = (
                line.targets if isinstance(line, ast.Assign) else [getattr(line, "target", None)]
            )
            names += [target.id for target in targets if isinstance(target, ast.Name)]
    return [name for name in dict.fromkeys(names) if not name.startswith("_")]


def _directive(address: str, name: str) -> str:
    value = getattr(importlib.import_module(address), name)
    if inspect.isclass(value):
        lines = [f".. autoclass:: {address}.{name}", "   :members:"]
        if issubclass(value, tuple):  # whose fields stand in order of their definition
            lines.append("   :member-order: bysource")
    elif callable(value) and not isinstance(value, GenericAlias):
        lines = [f".. autofunction:: {address}.{name}"]
    else:
        lines = [f".. autodata:: {address}.{name}", "   :no-value:"]
    return "\n".join(lines)


def _page(address: str) -> str:
    module = importlib.import_module(address)
    parts = [
        f"{address}\n{'=' * len(address)}",
        f".. automodule:: {address}\n   :no-members:",
        f".. currentmodule:: {address}",
    ]
    inner = [name for name in public_names(module) if not inspect.ismodule(getattr(module, name))]
    return "\n\n".join([*parts, *(_directive(address, name) for name in inner)]) + "\n"


def _front() -> str:
    """The page of the names that `ssm` has itself."""
    names = [name for name in ssm.__all__ if not inspect.ismodule(getattr(ssm, name))]
    title = "ssm\n==="
    automodule = ".. automodule:: ssm\n   :no-members:\n\n.. currentmodule:: ssm"
    elsewhere = (
        "The numbers of a run are the fields of :py:class:`ssm.Config`, which have "
        ":doc:`a page of their own <config>`."
    )
    described = {"Config", "ReweightedClassifier"}  # on pages of their own
    named = [_directive("ssm", name) for name in names if name not in described]
    named.append(
        ".. py:class:: ReweightedClassifier(**parameters)\n\n"
        "   :py:class:`ssm.practice.estimator.ReweightedClassifier` at a short address."
    )
    return "\n\n".join([title, automodule, elsewhere, *named]) + "\n"


def pages() -> dict[str, str]:
    """The text of each page of the reference, and of the list of them, by its path."""
    groups = public_modules()
    found = {"reference/ssm.rst": _front()}
    for address in [*groups["top"], *groups["practice"]]:
        found[f"reference/{address}.rst"] = _page(address)
    rows = ["# Python interface", "", "What `import ssm` has. Every name below is public.", ""]
    for title, key in (("The model", "top"), ("Real data: `ssm.practice`", "practice")):
        front = ["ssm"] if key == "top" else []
        rows += [f"## {title}", "", "```{toctree}", ":maxdepth: 1", ""]
        rows += [*front, *groups[key], "```", "", "| module | what it holds |", "| --- | --- |"]
        rows += [
            f"| {{doc}}`{name}` | {_first_sentence(name)} |" for name in [*front, *groups[key]]
        ]
        rows.append("")
    return found | {"reference/index.md": "\n".join(rows)}


def _first_sentence(address: str) -> str:
    text = " ".join((importlib.import_module(address).__doc__ or "").split("\n\n")[0].split())
    return text.split(". ")[0].rstrip(".").replace("|", r"\|") + "."
