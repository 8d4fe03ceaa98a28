"""Docstrings are plain text with formulas in it; reStructuredText would read some of their signs as its own."""

from __future__ import annotations

import inspect
import re
from typing import Any

# `code` and ``code`` stay as they are.
CODE = re.compile(r"(``.+?``|`[^`\n]+`)")
# A bare underscore that ends a word would be a link, and a bar a substitution.
SIGNS = re.compile(r"([*|\\]|(?<=\w)_(?=[\s.,;:)\]]|$))")

FIRST_LETTER = re.compile(r"((?:^ *|: )[A-Za-z])\.(?= |$)")


def escaped(line: str) -> str:
    """A line of plain text as reStructuredText that reads the same."""
    parts = CODE.split(line)
    parts[::2] = [SIGNS.sub(r"\\\1", part) for part in parts[::2]]
    # A letter and a full stop, as of `exponent: g.`, would begin a list.
    return FIRST_LETTER.sub(r"\1\\.", "".join(parts))


def make_safe(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Escape what is no markup, outside of examples, which end at an empty line, and of indented blocks of code."""
    safe, in_example = [], False
    text = "\n".join(lines)
    if text.split() == (inspect.getdoc(type(obj)) or "").split():
        text = ""  # of the type, where the value itself has no words
    if name == "ssm.Config":  # whose fields stand in a table of their own, on the same page
        text = text.split("\nAttributes:\n")[0] + "\n"
    text = text.replace("ssm.InputError (a ValueError):", "ssm.InputError:")
    # A formula in code may go on in the next line, where reStructuredText would lose it.
    text = re.sub(r"`([^`]+)`", lambda match: "`" + " ".join(match[1].split()) + "`", text)
    for line in text.split("\n"):
        in_example = line.lstrip().startswith(">>> ") or (in_example and bool(line.strip()))
        safe.append(line if in_example else escaped(line))
    if what in ("data", "attribute", "property") and safe:
        # Napoleon would take what stands before a colon of the first line for the type; this line is read as nothing.
        safe.insert(0, "\\ ")
    lines[:] = safe


def resolve(app: Any, env: Any, node: Any, contnode: Any) -> Any:
    """Link `weights.power_law`, as docstrings name it, to `ssm.weights.power_law`; what has no page
    is code without a link."""
    if node.get("refdomain") != "py":
        return None
    objects = env.domains["py"].objects
    target = node["reftarget"].removesuffix("()")
    for prefix in ("ssm.", "ssm.practice."):
        found = objects.get(prefix + target)
        # `step` is a word before it is a module.
        if found is not None and (found.objtype != "module" or "." in target):
            from sphinx.util.nodes import make_refnode

            return make_refnode(
                app.builder, node["refdoc"], found.docname, found.node_id, contnode, target
            )
    return None
