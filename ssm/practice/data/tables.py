"""Tables read from text files as people have them: with a header row, any usual separator, decimal sign
and encoding, compressed or not."""

from __future__ import annotations

import codecs
import contextlib
import csv
import gzip
import io
import itertools
import math
import re
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from ssm.practice import options
from ssm.support.errors import InputError, did_you_mean, invalid

SUFFIXES = (".csv", ".tsv", ".txt")
"""Endings of files of text, each of which may have .gz after it."""
SEPARATORS = (",", ";", "\t", "|")
"""The separators that are tried where none is given."""
MISSING = (
    *("", "?", "NA", "N/A", "n/a", "na", "<NA>", "#N/A", "#NA"),
    *("N.A.", "n.a.", "NaN", "nan", "NAN", "-NaN", "-nan", "NULL", "Null", "null", "\\N"),
)
"""Entries that stand for a missing one, of features and labels alike. `None` and `-` are not among them,
since data sets use them as classes and categories."""
NAMELESS = "Unnamed: "
"""The prefix of the name that pandas gives to a nameless column, which its place, counted from 0, follows."""
MOST_SHOWN = 8  # The largest number of names that a message shows.
# The number of lines in which a header is sought that is not in the first one.
LINES_LOOKED_AT = 20
BEGINNING = 1024  # The number of bytes that are searched for signs that a file is no text.

_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")
_MARKED = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class Table(NamedTuple):
    """The columns of a file."""

    columns: dict[str, pd.Series]
    """The columns by name. The labels are strings; any other column holds numbers where all
    its entries are numbers, else strings. An entry that is in `MISSING` is NaN."""
    notes: tuple[str, ...]
    """Sentences on how the file was read."""


def is_table(path: Path) -> bool:
    """Whether a file is a table of text, by the ending of its name."""
    return _suffix(path) in SUFFIXES


def stem(path: Path) -> str:
    """The name of a file without its endings."""
    return Path(path.stem).stem if path.suffix.lower() == ".gz" else path.stem


def read(path: Path, label: str, sep: str | None, decimal: str) -> Table:
    """Read a table whose header row has the column `label`.

    Args:
        path: the file.
        label: the name of the label column.
        sep: what separates entries; None: a tab in a .tsv, in other files whatever the header shows.
        decimal: `.` or `,`.

    Raises:
        ssm.InputError: a file that cannot be read or is no text; a table without names of columns, without that
            column, with two columns of one name, with rows of different lengths, or without rows.
    """
    content, notes = _content(path)
    mark = options.separator(sep)
    if mark is None:
        mark = "\t" if _suffix(path) == ".tsv" else _sniffed(content, path, label)
    header = _header(content, path, label, mark, decimal)
    try:
        with warnings.catch_warnings():
            # Where pandas would drop entries it warns, and the warning is turned into an error.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame: Any = pd.read_csv(
                io.BytesIO(content),
                sep=mark,
                decimal=decimal,
                header=0,
                names=header,
                index_col=False,
                dtype={label: str},
                na_values=list(MISSING),
                keep_default_na=False,
                skipinitialspace=True,
                low_memory=False,
                encoding="utf-8",
            )
    except (ValueError, OSError, pd.errors.ParserWarning) as error:
        reason = " ".join(str(error).split()).rpartition("error: ")[2].partition(".")[0]
        allowed = f"a table with {len(header)} entries in each row, between {_written(mark)}"
        allowed += f" ({reason})" if reason else ""
        raise invalid("data", str(path), allowed) from None
    if frame.empty:
        raise invalid("data", str(path), "a table with rows below its header")
    return Table(dict(frame.items()), notes)


def close_name(name: str, names: Sequence[str]) -> str | None:
    """The first of `names` that differs from `name` in case and spaces only; None without any."""
    same = alike(name)
    return next((each for each in names if alike(each) == same), None)


def alike(text: str) -> str:
    """A key that is the same for texts which differ in case and spaces only."""
    return "".join(text.split()).casefold()


def shown(name: str) -> str:
    """A name in quotes, on one line and shortened where it is too long."""
    short = repr(name)
    return short if len(short) <= 40 else f"{short[:37]}..."


def some(names: Sequence[str]) -> str:
    """The first of many names, and how many there are, for a message."""
    return first_of([shown(name) for name in names[:MOST_SHOWN]], len(names))


def first_of(parts: Sequence[str], count: int) -> str:
    """The first parts of an enumeration, and how many of them there are in all: `count`."""
    more = f", ... ({count} in all)" if count > MOST_SHOWN else ""
    return ", ".join(parts[:MOST_SHOWN]) + more


def _suffix(path: Path) -> str:
    """The ending of a file's name, in small letters and without .gz."""
    return Path(path.stem if path.suffix.lower() == ".gz" else path.name).suffix.lower()


def _content(path: Path) -> tuple[bytes, tuple[str, ...]]:
    """The text of a file in UTF-8, without a byte order mark, and a note if it was in another encoding."""
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if path.suffix.lower() == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        allowed = f"a file that can be read ({type(error).__name__})"
        raise invalid("data", str(path), allowed) from None
    content, notes = _in_utf8(raw, path)
    if b"\0" in content or _CONTROL.search(content[:BEGINNING]):
        raise invalid("data", str(path), "text, not binary: save a table of Excel as CSV")
    return content, notes


def _in_utf8(raw: bytes, path: Path) -> tuple[bytes, tuple[str, ...]]:
    """Bytes of any usual encoding in UTF-8, and a note where the encoding had to be guessed."""
    for mark, encoding in _MARKED:
        if raw.startswith(mark):
            try:
                return raw[len(mark) :].decode(encoding).encode(), ()
            except UnicodeDecodeError:
                allowed = f"text in {encoding}, which its first bytes promise"
                raise invalid("data", str(path), allowed) from None
    try:
        raw.decode()
    except UnicodeDecodeError:
        # Latin-1 has control characters where Windows-1252 has quotes and the euro sign.
        for encoding, called in (("cp1252", "Windows-1252"), ("latin-1", "Latin-1")):
            with contextlib.suppress(UnicodeDecodeError):
                note = f"The file {shown(path.name)} is not UTF-8 and was read as {called}."
                return raw.decode(encoding).encode(), (note,)
    return raw, ()


def _rows(content: bytes, mark: str) -> Iterator[tuple[int, list[str]]]:
    """The first rows that are not blank, with spaces around entries removed, each with the number of its
    last line. They end before a row that cannot be read."""
    lines = io.TextIOWrapper(io.BytesIO(content), "utf-8", newline="")
    reader = csv.reader(lines, delimiter=mark, skipinitialspace=True)
    try:
        for row in itertools.islice(reader, LINES_LOOKED_AT):
            entries = [entry.strip() for entry in row]
            if entries not in ([], [""]):
                yield reader.line_num, entries
    except csv.Error:  # An entry has more than 131,072 characters.
        return


def _first_row(content: bytes, mark: str) -> list[str]:
    """The first row that is not blank; empty without any."""
    return next((row for _, row in _rows(content, mark)), [])


def _sniffed(content: bytes, path: Path, label: str) -> str:
    """The separator that the header shows: one that gives it a column of labels, and of these, or of all
    where none does, that which gives it most columns. Raises ssm.InputError where another separator
    gives as many columns, since then either may be meant."""
    rows = {mark: _first_row(content, mark) for mark in SEPARATORS}
    count = {mark: len(row) for mark, row in rows.items()}
    with_label = [mark for mark, row in rows.items() if close_name(label, row) is not None]
    best = max(with_label or SEPARATORS, key=count.__getitem__)
    rivals = [mark for mark in SEPARATORS if count[mark] >= max(count[best], 2)]
    if len(rivals) > 1:
        written = " and ".join(map(_written, rivals))
        allowed = f"given (--sep) for {shown(path.name)}: the header has {written}"
        raise invalid("sep", None, allowed)
    return best


def _header(content: bytes, path: Path, label: str, mark: str, decimal: str) -> list[str]:
    """The names of the columns, which all differ and include `label`; raises ssm.InputError where they do
    not."""
    header = _first_row(content, mark)
    if not header:
        blank = not content.strip()
        allowed = "a file that is not empty" if blank else "a table with a header row"
        raise invalid("data", str(path), allowed)
    hints = _where(content, label) if label not in header else []
    if not hints and _is_data(header, decimal):
        allowed = (
            "a table with the names of its columns in the first row, which has only numbers "
            f"({some(header)}): add a row of names"
        )
        raise invalid("data", str(path), allowed)
    if label not in header:
        raise _no_label(label, header, hints)
    header = [name or f"{NAMELESS}{i}" for i, name in enumerate(header)]
    if len(set(header)) < len(header):
        twice = sorted(name for name, times in Counter(header).items() if times > 1)
        raise invalid("data", str(path), f"a table with each column once, not twice: {some(twice)}")
    return header


def _is_data(header: list[str], decimal: str) -> bool:
    """Whether what should be names of columns are numbers of data: all of them numbers, and not 0, 1, 2,
    ..., as pandas names columns that have no names."""
    names = [name for name in header if name]
    if names == [str(i) for i in range(len(names))]:
        return False
    try:
        return all(math.isfinite(float(name.replace(decimal, "."))) for name in names)
    except ValueError:
        return False


def _where(content: bytes, label: str) -> list[str]:
    """Hints on where the column of labels may be, other than in the first row."""
    return [
        f"--sep {_written(mark)} finds it" if i == 0 else f"delete the lines above line {line}"
        for mark in SEPARATORS
        for i, (line, row) in enumerate(_rows(content, mark))
        if label in row
    ]


def _no_label(label: str, header: list[str], hints: list[str]) -> InputError:
    """The error that there is no such column, with a hint where the labels may be."""
    hint = did_you_mean(label, header, shown)
    if close_name(label, header) is None and (hints or len(header) == 1):
        hint = f"; {hints[0] if hints else '--sep says what separates entries'}"
    return invalid("label", label, f"a column, of those in the header row: {some(header)}{hint}")


def _written(mark: str) -> str:
    """A separator as it is written in options and messages."""
    return "tab" if mark == "\t" else repr(mark)
