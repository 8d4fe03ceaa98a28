"""What the documentation takes from the project itself, so that nothing is written twice.

Pages of the public API, of the fields of a Config, of the variables of a result, of the commands, of the statuses
and of the experiments are written into `docs/generated` before Sphinx reads its sources, from docstrings,
dataclasses, the commands' own `--help` and the files in `figures/`. They are made without Sphinx, so that the tests
can ask for them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssm_docs import commands, coverage, docstrings, gallery, reference, tables

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def pages(root: Path) -> dict[str, str]:
    """The text of all generated pages by their paths; `root` is the project's."""
    return reference.pages() | tables.pages() | commands.pages() | gallery.pages(root / "figures")


def write_pages(app: Sphinx) -> None:
    """Write all generated pages; what has not changed is left alone, so that it is not built again."""
    folder = Path(app.srcdir) / "generated"
    made = pages(Path(app.srcdir).parent)
    for name, text in made.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_text() != text:
            path.write_text(text)
    for path in folder.rglob("*.*"):
        if path.is_file() and path.relative_to(folder).as_posix() not in made:
            path.unlink()  # of an experiment or a module that is no more


def setup(app: Sphinx) -> dict[str, Any]:
    """Entry point of the extension."""
    from ssm_docs import formulas

    app.connect("builder-inited", write_pages)
    # Before napoleon, which makes sections of what is then plain reStructuredText.
    app.connect("autodoc-process-docstring", docstrings.make_safe, priority=100)
    app.connect("missing-reference", docstrings.resolve)
    app.connect("env-check-consistency", coverage.check)
    app.add_html_math_renderer(
        "mathml", (formulas.visit_inline, None), (formulas.visit_block, None)
    )
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
