"""A page for each experiment: its question, its figures with what they show, and its table of claims."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import experiments


def _sections(text: str, heading: str) -> dict[str, str]:
    """The sections of a Markdown file by the experiment that their headings name."""
    parts = re.split(heading, text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def _docstring(name: str) -> tuple[str, str]:
    """The question that an experiment asks, and what its docstring says beside it."""
    source = Path(experiments.__file__).parent / f"{name}.py"
    text = ast.get_docstring(ast.parse(source.read_text())) or name
    question, _, rest = text.partition("\n\n")
    return " ".join(question.split()), rest


def _linked(text: str) -> str:
    """Pictures from where they are, drawn as curves where they do not move, and links to pages."""
    text = re.sub(r"\]\((\w+)\.png\)", r"](../../../figures/\1.svg)", text)
    text = re.sub(r"\]\((\w+\.gif)\)", r"](../../../figures/\1)", text)
    text = text.replace("](../paper_notes.md)", "](../../paper_notes.md)")
    return text.replace("](claims.md)", "](index.md)")


def _claims(table: str) -> tuple[str, Counter[str]]:
    """The table of an experiment and the number of its claims by verdict."""
    rows = [line for line in table.splitlines() if line.startswith("| ")][2:]
    return table.strip(), Counter(row.rsplit("|", 2)[1].strip(" *") for row in rows)


def pages(figures: Path) -> dict[str, str]:
    """The text of each page, and of the gallery of them all, by its path."""
    readme, claims = ((figures / name).read_text() for name in ("README.md", "claims.md"))
    shown = _sections(readme, r"^## `python -m experiments (\w+)`$")
    tables = _sections(claims, r"^## (\w+)$")
    introduction = readme.split("\n## ")[0].split("\n", 1)[1]
    found, cards, summary = {}, [], []
    for name in experiments.NAMES:
        question, rest = _docstring(name)
        table, verdicts = _claims(tables[name])
        counted = ", ".join(f"{number} {verdict}" for verdict, number in verdicts.items())
        found[f"gallery/{name}.md"] = (
            f"# {name.replace('_', ' ')}\n\n*{question}*\n\n"
            f"Made by `python -m experiments {name}`.\n\n{_linked(shown[name].strip())}\n\n"
            f"## What was asked\n\n{rest}\n\n"
            f"## Claims\n\nOf {verdicts.total()} claims: {counted}.\n\n{table}\n"
        )
        picture = re.findall(r"\]\((\w+)\.(?:png|gif)\)", shown[name])[0]
        cards += [
            f":::{{grid-item-card}} {name.replace('_', ' ')}",
            f":link: {name}",
            ":link-type: doc",
            f":img-top: ../../../figures/{picture}.png",
            "",
            question,
            ":::",
        ]
        summary.append(
            f"| {{doc}}`{name}` | "
            + " | ".join(str(verdicts[v]) for v in ("holds", "fails", "undecided"))
            + " |"
        )
    listed = "\n".join(["```{toctree}", ":hidden:", "", *experiments.NAMES, "```"])
    found["gallery/index.md"] = "\n".join(
        [
            f"# Gallery\n\nEvery experiment, its figures and its claims.\n\n{listed}\n",
            "::::{grid} 1 2 2 3\n:gutter: 3\n",
            *cards,
            "::::\n\n## How to read the figures\n",
            _linked(introduction).strip(),
            "\n## Claims by experiment\n",
            "| experiment | holds | fails | undecided |\n| --- | ---: | ---: | ---: |",
            *summary,
            "",
        ]
    )
    return found
