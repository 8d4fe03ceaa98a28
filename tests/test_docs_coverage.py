"""No public name, field, command, status, variable or experiment is without its place in the documentation."""

from pathlib import Path

import pytest
import ssm_docs
from ssm_docs import commands, coverage

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def pages():
    """All generated pages, without what commands print, which takes a process each."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(commands, "_help", lambda words: "as printed")
        return ssm_docs.pages(ROOT)


def test_nothing_public_is_without_its_page(pages):
    assert coverage.missing(pages, coverage.described(pages)) == []


@pytest.mark.parametrize(
    ("page", "line", "lacking"),
    [
        ("reference/ssm.theory.rst", ".. autofunction:: ssm.theory.sigmoid", "ssm.theory.sigmoid"),
        ("reference/ssm.rst", ".. autofunction:: ssm.simulate", "ssm.simulate"),
        ("reference/config.rst", "   * - .. py:attribute:: Config.coupling", "ssm.Config.coupling"),
        ("reference/commands.md", "## `ssm study`", "## `ssm study` on reference/commands.md"),
    ],
)
def test_a_name_that_is_dropped_is_noticed(pages, page, line, lacking):
    assert line in pages[page].splitlines()
    dropped = pages | {page: pages[page].replace(line + "\n", "\n")}
    assert coverage.missing(dropped, coverage.described(dropped)) == [lacking]


@pytest.mark.parametrize("kept", ["top", "practice"])
def test_a_group_that_is_dropped_is_noticed(pages, kept):
    """A page whole, of each of the two groups of modules, or of an experiment."""
    page = {"top": "reference/ssm.weights.rst", "practice": "reference/ssm.practice.tasks.rst"}[
        kept
    ]
    fewer = {name: text for name, text in pages.items() if name not in (page, "gallery/depth.md")}
    lacking = coverage.missing(fewer, coverage.described(fewer))
    assert page.split("/")[1].removesuffix(".rst") in lacking
    assert "## Claims on gallery/depth.md" in lacking


def test_every_page_written_by_hand_is_in_a_table_of_contents():
    """By name, from one page above it; the front page is above all."""
    docs = ROOT / "docs"
    written = {p.relative_to(docs).with_suffix("").as_posix() for p in docs.rglob("*.md")}
    written = {name for name in written if not name.startswith("generated")} - {"index"}
    listed = set()
    for name in [*written, "index"]:
        for part in (docs / f"{name}.md").read_text().split("```{toctree}")[1:]:
            entries = [x for x in part.split("```")[0].splitlines() if x and not x.startswith(":")]
            folder = Path(name).parent
            listed |= {(folder / entry).as_posix() for entry in entries}
    assert written <= listed
