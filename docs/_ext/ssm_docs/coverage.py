"""What has to be in the documentation, asked of the program by another way than the pages are made, so that a page,
a group or a name that is left out is noticed: by a strict build, and by the tests without one."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import experiments
import ssm
from ssm.addresses import ADDRESSES
from ssm.cli.commands import Command
from ssm.cli.parsing import command_names
from ssm.dynamics.statuses import Status
from ssm.results import schema

DIRECTIVE = re.compile(
    r"^\.\. (?:auto(?:module|class|function|data)|py:class|py:attribute):: ([\w.]+)"
)


def _defined(module: Any) -> set[str]:
    """The functions and classes of a module as they are found in it when it has been imported."""
    own = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    }
    names = own | set(getattr(module, "__all__", ()))
    return {name for name in names if not inspect.ismodule(getattr(module, name))}


def public() -> set[str]:
    """All public names: of `ssm`, of `ssm.practice`, of the modules at public addresses, and the fields of a Config."""
    inner = [x for x in ssm.practice.__all__ if inspect.ismodule(getattr(ssm.practice, x))]
    modules = {*ADDRESSES, "ssm.practice", *(f"ssm.practice.{name}" for name in inner)}
    modules |= {f"ssm.{name}" for name in ssm.__all__ if inspect.ismodule(getattr(ssm, name))}
    found = {f"ssm.Config.{field.name}" for field in dataclasses.fields(ssm.Config)}
    found |= {f"ssm.{name}" for name in _defined(ssm)}
    for address in modules:
        found |= {f"{address}.{name}" for name in _defined(importlib.import_module(address))}
    return found | modules


def on_pages() -> dict[str, list[str]]:
    """By the path of a page the lines, or the cells of its table, that have to stand there: a heading for each
    command, a row for each status and variable, a page for each experiment."""
    commands = [f"## `{name}`" for name in ("ssm", *(f"ssm {x}" for x in command_names(Command)))]
    return {
        "reference/commands.md": [*commands, "## `python -m experiments`"],
        "reference/statuses.rst": [f"``{status.value}``" for status in Status],
        "reference/variables.rst": [f"``{name}``" for name in schema.VARIABLES],
        **{
            f"gallery/{name}.md": [f"# {name.replace('_', ' ')}", "## Claims"]
            for name in experiments.NAMES
        },
    }


def described(pages: Mapping[str, str]) -> set[str]:
    """The names that the pages of the reference have directives for."""
    found = set()
    for text in pages.values():
        for line in text.splitlines():
            if match := DIRECTIVE.match(line.removeprefix("   * - ").strip()):
                name = match[1]
                found.add(name if name.startswith("ssm") else f"ssm.{name}")
    return found


def missing(pages: Mapping[str, str], names: set[str]) -> list[str]:
    """What the documentation lacks: public names that are not among those described, and lines of pages."""
    lacking = sorted(public() - names)
    for page, wanted in on_pages().items():
        lines = {line.removeprefix("   * - ") for line in pages.get(page, "").splitlines()}
        lacking += [f"{line} on {page}" for line in wanted if line not in lines]
    return lacking


def check(app: Any, env: Any) -> None:
    """Warn, which fails a strict build, of all that the documentation lacks."""
    from sphinx.util import logging

    folder = Path(app.srcdir) / "generated"
    pages = {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*.*")
        if path.suffix in (".md", ".rst")
    }
    for name in missing(pages, set(env.domains["py"].objects)):
        logging.getLogger(__name__).warning("the documentation lacks %s", name)
