"""The parts that the pages of a study share: templates, in which every name is escaped, and pictures within HTML."""

from __future__ import annotations

import base64
import importlib.resources
from pathlib import Path
from typing import NamedTuple

import jinja2
from matplotlib.figure import Figure

from ssm.plots import style
from ssm.practice.reporting import format, summary_words, verdict_words, words

PIXELS_PER_INCH = 130  # of figures on a screen


class Picture(NamedTuple):
    """A PNG image within HTML."""

    data: str
    """The bytes of the file in base 64."""
    width: int
    """The width on the screen, in CSS pixels."""


def picture(figure: Figure, path: Path) -> Picture:
    """Save a figure, and make it ready for HTML."""
    style.save_figure(figure, path)
    data = base64.b64encode(path.read_bytes()).decode()
    return Picture(data, round(PIXELS_PER_INCH * figure.get_figwidth()))


def template(name: str) -> jinja2.Template:
    """A template of this folder, with the filters that it uses."""
    source = importlib.resources.files("ssm.practice.reporting").joinpath(name)
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "number": format.number,
        "signed": format.signed,
        "verdict": words.verdict,
        "p_value": format.p_value,
        "listed": format.listed,
        "cases": summary_words.cases,
    }
    environment.globals["interval"] = format.interval
    of_currency = ("amount", "reach", "change")
    environment.globals |= {each: getattr(verdict_words, each) for each in of_currency}
    return environment.from_string(source.read_text(encoding="utf-8"))
