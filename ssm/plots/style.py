"""The style that all figures share: colours, widths for print, and files that are the same to the byte each time.

Text is 8 point at the width at which a figure is printed, 5.5 inches for a page and 3.5 inches for a
column, so that no figure has to be scaled.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from ssm.config import profiles
from ssm.support import errors
from ssm.support.files import check_output, replacing

# Okabe and Ito's colour-blind-safe palette
COLORS = {profiles.MAJORITY: "#0072B2", "cross": "#7F7F7F", profiles.MINORITY: "#D55E00"}
PARTS = {"W": "#009E73", "H": "#CC79A7", "Z": "#000000"}  # These are the colours of neither group.
COLUMN_WIDTH, PAGE_WIDTH = 3.5, 5.5  # inches
SUFFIXES = (".png", ".pdf", ".svg")
STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "figure.titlesize": 8,
    "figure.labelsize": 8,
    "legend.fontsize": 7,
    "legend.title_fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.2,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "legend.columnspacing": 1.2,
    "figure.dpi": 100,
    "savefig.dpi": 250,
    "figure.constrained_layout.use": True,
    "svg.hashsalt": "ssm",  # Names of parts of an SVG are derived from it; they would be random without it.
    "pdf.fonttype": 42,  # Text is stored as letters, which can be searched and edited.
}


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Draw everything inside in the project's style."""
    with matplotlib.rc_context(STYLE):
        yield


def check_picture(path: Path, overwrite: bool) -> None:
    """Raise ssm.InputError for a picture that cannot be written, because of its suffix or as `files.check_output` does."""
    if path.suffix not in SUFFIXES:
        raise errors.invalid("out", str(path), "a path ending in .png, .pdf or .svg")
    if path.is_dir():
        raise errors.invalid("out", str(path), "a file, not a folder")
    check_output(path, overwrite)


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure, whole or not at all: the same figure gives the same file to the byte, in each of
    the three formats, since no file holds a date."""
    check_picture(Path(path), overwrite=True)
    undated: dict[str, dict[str, None]] = {
        ".png": {"Software": None},
        ".pdf": {"CreationDate": None},
        ".svg": {"Date": None},
    }
    with replacing(Path(path)) as scratch, style():
        figure.savefig(scratch, metadata=undated[scratch.suffix])
        if scratch.suffix == ".svg":
            scratch.write_text(
                numbered_clips(scratch.read_text(encoding="utf-8")), encoding="utf-8"
            )


def numbered_clips(svg: str) -> str:
    """The SVG with its clipping paths named by their order. Matplotlib derives their names from their position to
    the last bit, which the solver of the layout does not always repeat."""
    for i, name in enumerate(re.findall(r'<clipPath id="(\w+)"', svg)):
        svg = svg.replace(name, f"clip-{i}")
    return svg
