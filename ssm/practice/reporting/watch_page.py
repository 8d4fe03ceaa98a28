"""The page of a watch: one HTML file that stands alone, and the record of all its numbers beside it."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import matplotlib.pyplot as plt

from ssm.plots import style, watching
from ssm.practice.deployment.fields import Json
from ssm.practice.reporting import pages, watch_words
from ssm.support import files

NAME, RECORD = "index.html", "watch.json"
MOST_WINDOWS = 60
"""The number of last windows that are listed and drawn; the record has all of them."""
DAY = r"(\d{4}-\d\d-\d\d)"  # A date, which the page keeps on one line.
CAPTIONS = {
    "recall": "Share of each class's cases that were decided rightly.",
    "precision": "Share of the decisions for each class that were right. It falls where the class gets rarer, too.",
    "shares": "How frequent each class is. The estimate needs no labels, and takes the probabilities for right.",
    "evidence": "How strongly labels speak for each class having got worse. It may be looked at at any time.",
}


def write_page(found: Json, out: Path) -> Path:
    """Write `index.html` and `watch.json` into a folder, each whole or not at all. The same summary gives the same bytes.

    Args:
        found: all that a watch has found (`summaries.summary`).
        out: a folder that exists.

    Returns:
        The path of the page.
    """
    with files.replacing(out / RECORD) as scratch:
        text = json.dumps(found, indent=1, allow_nan=False, ensure_ascii=False)
        scratch.write_text(text + "\n", encoding="utf-8")
    last = found | {"windows": found["windows"][-MOST_WINDOWS:]}
    pictures = []
    for name, figure in watching.figures(last):
        content = io.BytesIO()
        with style.style():
            figure.savefig(content, format="png", metadata={"Software": None})
        data = base64.b64encode(content.getvalue()).decode()
        width = round(pages.PIXELS_PER_INCH * figure.get_figwidth())
        pictures.append((name, CAPTIONS[name], data, width))
        plt.close(figure)
    html = pages.template("watch.html").render(
        found=found,
        windows=last["windows"][::-1],
        pictures=pictures,
        alarms=[re.split(DAY, watch_words.alarm(each)) for each in found["alarms"]],
        acted=watch_words.acted(found),
        rows=list(watch_words.rows(found)),
        tone="alarm" if found["alarms"] else "calm",
        most=MOST_WINDOWS,
    )
    with files.replacing(out / NAME) as scratch:
        scratch.write_text(html, encoding="utf-8", newline="\n")
    return out / NAME
