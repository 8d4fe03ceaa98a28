"""The log of a classifier, read line by line as it grows: what its columns are, and which of its rows can be used."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from pandas.util import hash_array

from ssm.support.errors import did_you_mean, invalid

PREFIX = "p_"
"""The prefix of the names of columns of probabilities, which the name of the class follows."""
FEATURE = "feature_"
"""The prefix of the names of columns of features."""
MOST_FEATURES = 100
UNREADABLE = ("line", "id", "time", "probabilities", "prediction", "label")
"""Why a row is left out, by the first of these that is wrong with it. `line`: its number of entries or its quotes. `id`: it has none.
`time`: it is no time. `probabilities`: its numbers are none. `prediction`: it is no class, or missing. `label`: it is no class."""
ROUNDING = 0.01  # Probabilities may sum to 1 up to this much, since logs round them.
NO_LABEL = -1
_hashed: Any = hash_array  # `Any`, since pandas declares the function as a mere object
# A time in Unix seconds; a number of fewer digits is part of a date.
_SECONDS = r"-?\d{9,}(?:\.\d*)?"


class Columns(NamedTuple):
    """What the header of a log says."""

    names: tuple[str, ...]
    classes: tuple[str, ...]
    has_probabilities: bool
    has_prediction: bool
    has_id: bool
    header: bytes
    """The bytes of the first line."""
    features: tuple[str, ...] = ()
    """The names of features, which are those of columns without `feature_`."""


class Rows(NamedTuple):
    """Usable rows in the order of the log, and the numbers of others by what was wrong with them."""

    time: Float[np.ndarray, " m"]
    """Times in Unix seconds."""
    prediction: Int[np.ndarray, " m"]
    """The index of the class that was decided; -1 where the log has probabilities alone."""
    label: Int[np.ndarray, " m"]
    """The index of the class that came true; -1 where it is not known yet."""
    probabilities: Float[np.ndarray, "m k"] | None
    key: np.ndarray
    """Hashes of the ids, of 64 bits, shape (m,); of shape (0,) where the log has no ids."""
    unreadable: Int[np.ndarray, " u"]
    """The numbers of rows that were left out, in the order of `UNREADABLE`."""
    features: Float[np.ndarray, "m f"] | None = None
    """The features, NaN for an entry that is no number; None where the log has no features."""


def read_header(path: Path, classes: Sequence[str] | None) -> Columns:
    """The columns of a log whose first line has their names.

    Args:
        path: a CSV file in UTF-8, with commas between entries.
        classes: the classes in their order; None for those of the columns p_CLASS.

    Raises:
        ssm.InputError: a file that cannot be read, has no complete first line, or lacks columns.
    """
    try:
        with path.open("rb") as file:
            line = file.readline(1 << 20)
    except OSError as error:
        raise invalid("log", str(path), f"a file that can be read ({error.strerror})") from None
    if not line.endswith(b"\n"):
        raise invalid("log", str(path), "a CSV file whose first line has the names of its columns")
    try:
        (names,) = csv.reader([line.decode("utf-8-sig").strip("\r\n")])
    except (UnicodeDecodeError, csv.Error, ValueError):
        raise invalid("log", str(path), "a CSV file in UTF-8 with a header") from None
    names = [name.strip() for name in names]
    for needed in ("time", "label"):
        if needed not in names:
            raise invalid(
                "columns", names, f"with one named {needed!r}{did_you_mean(needed, names)}"
            )
    if len(set(names)) < len(names):
        raise invalid("columns", names, "names that are all different")
    probable = [name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX)]
    known = list(probable if classes is None else classes)
    if not probable and "prediction" not in names:
        raise invalid("columns", names, "with `prediction`, or with p_CLASS for every class")
    if probable and sorted(probable) != sorted(known):
        lacking = [PREFIX + name for name in known if name not in probable]
        what = "without" if not lacking else "with"
        strange = lacking or [PREFIX + name for name in probable if name not in known]
        raise invalid("columns", names, f"{what} {', '.join(strange)}: the classes are {known}")
    if len(known) < 2:
        raise invalid("classes", known, "at least two: columns p_CLASS, a card, or --classes A,B")
    features = tuple(name.removeprefix(FEATURE) for name in names if name.startswith(FEATURE))
    if len(features) > MOST_FEATURES:
        allowed = f"at most {MOST_FEATURES} columns {FEATURE}NAME: those that matter most"
        raise invalid("features", len(features), allowed)
    return Columns(
        tuple(names),
        tuple(known),
        bool(probable),
        "prediction" in names,
        "id" in names,
        line,
        features,
    )


def parse(content: bytes, columns: Columns) -> Rows:
    """The rows of some whole lines. No content of them raises an error; what cannot be used is counted."""
    given = [line.rstrip(b"\r") for line in content.replace(b"\0", b"?").split(b"\n")]
    given = [line for line in given if line.strip()]
    lines = [line for line in given if _quotes_close(line)] if b'"' in content else given
    used = [*("time", "label"), *(["prediction"] if columns.has_prediction else [])]
    used += ["id"] if columns.has_id else []
    # Features are read as text: where numbers and words are mixed, a guess of the type would depend on the block.
    used += [FEATURE + name for name in columns.features]
    probable = [PREFIX + name for name in columns.classes] if columns.has_probabilities else []
    frame = _frame(lines, columns.names, used)
    bad = dict.fromkeys(UNREADABLE, 0) | {"line": len(given) - len(frame)}
    kept = np.ones(len(frame), bool)

    def refuse(kind: str, rows: np.ndarray) -> None:
        bad[kind] += int((rows & kept).sum())
        np.logical_and(kept, ~rows, out=kept)

    key = np.empty(0, np.uint64)
    if columns.has_id:
        names = np.asarray(frame["id"], object)
        refuse("id", names == "")
        key = _hashed(names, categorize=False)
    time = _seconds(frame["time"])
    refuse("time", ~np.isfinite(time))
    probabilities = None
    if probable:
        numbers = [pd.to_numeric(frame[name], errors="coerce") for name in probable]
        probabilities = np.array(numbers, float).T
        total = probabilities.sum(1)
        fair = ((probabilities >= 0) & (probabilities <= 1)).all(1)
        refuse("probabilities", ~(fair & (np.abs(total - 1) <= ROUNDING)))
        with np.errstate(all="ignore"):
            probabilities = probabilities / total[:, None]
    features = None
    if columns.features:
        numbers = [pd.to_numeric(frame[FEATURE + x], errors="coerce") for x in columns.features]
        with np.errstate(over="ignore"):
            features = np.array(numbers, np.float32).T
        features[~np.isfinite(features)] = np.nan
    index = pd.Index(columns.classes)
    prediction = np.full(len(frame), NO_LABEL)
    if columns.has_prediction:
        prediction = index.get_indexer(pd.Index(frame["prediction"]))
        left_out = (frame["prediction"] == "").to_numpy() & bool(probable)
        refuse("prediction", (prediction < 0) & ~left_out)
    label = index.get_indexer(pd.Index(frame["label"]))
    refuse("label", (label < 0) & (frame["label"] != "").to_numpy())
    return Rows(
        time[kept],
        prediction[kept],
        label[kept],
        None if probabilities is None else probabilities[kept],
        key[kept] if columns.has_id else key,
        np.array([bad[kind] for kind in UNREADABLE]),
        None if features is None else features[kept],
    )


def _frame(lines: list[bytes], names: Sequence[str], text: Sequence[str]) -> pd.DataFrame:
    """The lines that have the right number of entries, as a table. pandas would take one entry too many as the name of the row, and
    entries that are missing as empty ones, so each line is given a further entry that marks its end."""
    if not lines:
        return pd.DataFrame({name: pd.Series(dtype=str) for name in names})
    options: dict[str, Any] = {
        "header": None,
        "names": [*names, "$"],
        "usecols": [*range(len(names) + 1)],
        "index_col": False,
        "dtype": dict.fromkeys([*text, "$"], str),
        "keep_default_na": False,
        "low_memory": False,
        "encoding_errors": "replace",
        "on_bad_lines": "skip",
    }
    try:
        frame = pd.read_csv(io.BytesIO(b",$\n".join([*lines, b""])), **options)
    except pd.errors.ParserError:
        if len(lines) == 1:
            return _frame([], names, text)
        middle = len(lines) // 2
        halves = [_frame(half, names, text) for half in (lines[:middle], lines[middle:])]
        return pd.concat(halves, ignore_index=True)
    frame = frame[(frame["$"] == "$").to_numpy()].copy()
    for name in text:
        frame[name] = frame[name].str.strip()
    return frame


def _quotes_close(line: bytes) -> bool:
    """Whether every quotation of a line ends in the line; one that does not would swallow the next lines."""
    if b'"' not in line:
        return True
    try:
        next(csv.reader([line.decode(errors="replace")], strict=True))
    except csv.Error:
        return False
    return True


def _seconds(entries: Any) -> Float[np.ndarray, " m"]:
    """Times in Unix seconds, shape (m,); NaN for an entry that is no time. Times without a zone are in UTC."""
    numbers = np.asarray(entries.str.fullmatch(_SECONDS), bool)
    found = np.full(len(entries), np.nan)
    if numbers.any():
        found[numbers] = pd.to_numeric(entries[numbers])
    if not numbers.all():
        dates = pd.to_datetime(entries[~numbers], format="ISO8601", utc=True, errors="coerce")
        known = np.asarray(dates.notna())
        since = (dates - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)
        found[~numbers] = np.where(known, since, np.nan)
    return np.where(np.abs(found) < 2**40, found, np.nan)
