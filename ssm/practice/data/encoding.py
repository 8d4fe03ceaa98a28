"""Columns of a table turned into numbers: labels into classes, text into features of 0 and 1, with notes
on what may be a mistake in them."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from decimal import Decimal
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from ssm.practice.data.tables import MISSING, NAMELESS, alike, first_of, shown, some
from ssm.support.errors import invalid

DASHES = ("-", "--", ".", "None", "none", "nil", "unknown", "Unknown", "missing", "Missing")
"""Entries that are missing in a column whose other entries are numbers; among texts they are texts."""
MISSING_CATEGORY = "missing"
MOST_CATEGORIES = 50  # The largest number of categories that a column of text may have.
# The number of categories that a column of text may have however few rows there are.
FEW_CATEGORIES = 5
LEAST_ROWS = 5  # Fewer rows may be in increasing order by chance.
# Where there are more different numbers than this, a single text among them is a mistake.
MANY_NUMBERS = 10
# Texts that are a smaller share than this of the entries, among numbers, are mistakes.
DIRTY = 0.05
IMPUTING = (
    "--impute fills numbers in with the median of each training part, and makes missing texts a "
    f"category of their own, {MISSING_CATEGORY!r}"
)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,9})?|[+-]?inf(inity)?", re.IGNORECASE)
_THOUSANDS = re.compile(r"[+-]?\d{1,3}([.,]\d{3})+")
_IDENTIFIER = re.compile(r"(^|[^a-zA-Z])([iI][dD]|[iI]dx|[iI]ndex)$|[a-z]I[dD]$")


Columns = dict[str, pd.Series]


class Classes(NamedTuple):
    """The labels of samples, as the numbers of their classes."""

    labels: Int[np.ndarray, " n"]
    """0 .. k - 1, where every class has at least one sample."""
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()


class Features(NamedTuple):
    """The features of samples, with columns of text encoded as numbers."""

    values: Float[np.ndarray, "n d"]
    """The features in float64; NaN where one is missing."""
    names: tuple[str, ...]
    notes: tuple[str, ...]


class _Block(NamedTuple):
    """The features that one column becomes: one, or one for each category."""

    values: Float[np.ndarray, "n f"]
    names: list[str]
    categories: list[str]
    """Empty for a column of numbers."""


def text_classes(name: str, values: pd.Series, decimal: str = ".") -> Classes:
    """The classes of a Series of strings. Each different text is a class (01 is not 1), spaces around it
    aside. Classes are in the order of their numbers where all texts are numbers, else in that of the
    texts.

    Raises:
        ssm.InputError: labels that are missing or infinite, a single class, a continuous target.
    """
    values = values.str.strip()
    missing = values.isna() | values.isin(MISSING)
    _check_known(name, missing.to_numpy())
    codes, distinct = pd.factorize(values.to_numpy(dtype=object))
    numbers = [_number(text.replace(decimal, ".")) for text in distinct]
    keys = [alike(text) if x is None else x for text, x in zip(distinct, numbers, strict=True)]
    order = sorted(range(len(distinct)), key=distinct.__getitem__)
    exact = [number for number in numbers if number is not None]
    if len(exact) == len(numbers):
        _check_numeric_labels(name, exact, codes)
        # The sort is stable, so equal numbers stay in the order of their texts.
        order.sort(key=exact.__getitem__)
    if len(distinct) < 2:
        raise invalid(name, f"{distinct[0]} in every row", "of at least two classes")
    names = tuple(distinct[i] for i in order)
    return Classes(np.argsort(order)[codes], names, _like_classes(names, [keys[i] for i in order]))


def numeric_classes(name: str, values: np.ndarray) -> Classes:
    """The classes of an array of numbers, in their order.

    Raises:
        ssm.InputError: labels that are missing or infinite, a single class, a continuous target.
    """
    _check_known(name, ~np.isfinite(values))
    distinct, codes = np.unique(values, return_inverse=True)
    if distinct.dtype.kind == "f":
        whole = (distinct == np.round(distinct)).all()
        if not whole:
            _check_discrete(name, len(distinct), len(values))
        distinct = [int(x) for x in distinct] if whole else distinct
    if len(distinct) < 2:
        raise invalid(name, f"{distinct[0]} in every row", "of at least two classes")
    return Classes(codes.astype(np.int64), tuple(map(str, distinct)))


def _check_numeric_labels(
    name: str, numbers: Sequence[Decimal], codes: Int[np.ndarray, " n"]
) -> None:
    """Refuse infinite labels and a continuous target; `numbers` are the exact numbers of the classes."""
    infinite = np.array([number.is_infinite() for number in numbers])
    _check_known(name, infinite[codes])
    different = set(numbers)
    if any(number != number.to_integral_value() for number in different):
        _check_discrete(name, len(different), len(codes))


def _check_known(name: str, missing: Bool[np.ndarray, " n"]) -> None:
    """Refuse missing labels."""
    if missing.any():
        problem = f"{missing.sum()} missing, the first in data row {missing.argmax() + 1}"
        raise invalid(name, problem, "given for every sample")


def _check_discrete(name: str, num_distinct: int, n: int) -> None:
    """Refuse labels that are a continuous target: more than half of them differ."""
    if num_distinct > n / 2:
        problem = f"{num_distinct} different numbers in {n} rows"
        raise invalid(name, problem, "classes, not a continuous target")


def _number(text: str) -> Decimal | None:
    """The exact number that a text stands for; None where it is no number."""
    return Decimal(text) if _NUMBER.fullmatch(text) else None


def _like_classes(names: Sequence[str], keys: Sequence[Hashable]) -> tuple[str, ...]:
    """A note on classes that may be one and the same, since their keys are equal; empty without any."""
    groups: dict[Hashable, list[str]] = {}
    for name, key in zip(names, keys, strict=True):
        groups.setdefault(key, []).append(name)
    pairs = [" and ".join(map(shown, group)) for group in groups.values() if len(group) > 1]
    if not pairs:
        return ()
    return (
        f"Taken as different classes, though they look alike: {first_of(pairs, len(pairs))}; if "
        "they are one, write them in one way.",
    )


def without_row_numbers(columns: Columns) -> tuple[Columns, tuple[str, ...]]:
    """The columns but for nameless ones that are empty or number the rows, as pandas writes them, and a
    note on those that are left out.

    Raises:
        ssm.InputError: any other column without a name.
    """
    left_out = {name: None for name in columns if name.startswith(NAMELESS)}  # keeps their order
    for name in left_out:
        if not columns[name].isna().all() and not _counts_up(columns[name]):
            allowed = f"named in the header row, or left out (--exclude {shown(name)})"
            raise invalid(f"column {shown(name)}", "", allowed)
    if not left_out:
        return columns, ()
    note = f"Columns without a name were left out, as row numbers or empty: {some(list(left_out))}."
    return {name: columns[name] for name in columns if name not in left_out}, (note,)


def _counts_up(column: pd.Series) -> bool:
    """Whether a column holds integers, each one more than the one before."""
    return column.dtype.kind in "iu" and bool((np.diff(column.to_numpy()) == 1).all())


def features(columns: Columns, decimal: str, impute: bool) -> Features:
    """The features that columns become. A column of numbers is one feature. A column with any text that
    is neither a number nor missing becomes one feature for each category, named `column=category`, in
    the order of the texts, which is 1 in rows of that category and 0 elsewhere. Where there are two
    categories, only the second gets a feature. Labels are not used, so that nothing leaks from one fold
    to another.

    Args:
        columns: at least one, each of numbers or of strings.
        decimal: the decimal sign of strings that are numbers.
        impute: make missing texts a category, `missing`.

    Raises:
        ssm.InputError: texts that look like mistakes among numbers, or like names or free text;
            missing texts, unless they are to be imputed.
    """
    blocks = [_block(name, column, decimal, impute) for name, column in columns.items()]
    names = tuple(name for block in blocks for name in block.names)
    values = np.concatenate([block.values for block in blocks], axis=1)
    encoded = [
        (name, block.categories)
        for name, block in zip(columns, blocks, strict=True)
        if block.categories
    ]
    is_number = np.concatenate([np.full(len(b.names), not b.categories) for b in blocks])
    notes = _encoding_note(encoded) + _column_notes(values, names, is_number)
    return Features(values, names, notes)


def _block(name: str, column: pd.Series, decimal: str, impute: bool) -> _Block:
    """The features that a column becomes."""
    if column.dtype.kind in "biuf":
        return _Block(column.to_numpy(np.float64)[:, None], [name], [])
    return _text_block(name, column, decimal, impute)


def _text_block(name: str, column: pd.Series, decimal: str, impute: bool) -> _Block:
    """The features that a column of strings becomes."""
    texts: pd.Series = column.map(str, na_action="ignore").str.strip()
    missing = (texts.isna() | texts.isin(MISSING)).to_numpy()
    numbers = _numbers(texts, decimal)
    others = np.isnan(numbers) & ~missing
    if not others.any() or (texts.loc[others].isin(DASHES).all() and not np.isnan(numbers).all()):
        return _Block(numbers[:, None], [name], [])
    _check_no_mistakes(name, texts, others, missing, decimal)
    distinct = np.unique(texts.loc[~missing].to_numpy(dtype=object))
    _check_categories(name, distinct, len(texts))
    if missing.any() and not impute:
        problem = f"{missing.sum()} missing of {len(texts)} entries"
        raise invalid(f"column {shown(name)}", problem, f"known in every row: {IMPUTING}")
    filled = texts.mask(missing, MISSING_CATEGORY).to_numpy(dtype=object)
    categories, codes = np.unique(filled, return_inverse=True)
    kept = np.arange(1 if len(categories) == 2 else 0, len(categories))
    values = (codes[:, None] == kept).astype(np.float64)
    return _Block(values, [f"{name}={categories[i]}" for i in kept], categories.tolist())


def _numbers(texts: pd.Series, decimal: str) -> Float[np.ndarray, " n"]:
    """The numbers that strings stand for, NaN where a string is no number. Where all strings are `True` or `False`,
    the numbers are 1 and 0."""
    if decimal == ",":
        texts = texts.str.translate(str.maketrans(".,", "?."))
    if texts.dropna().isin(("True", "False")).all():
        texts = texts.map({"True": 1.0, "False": 0.0}, na_action="ignore")
    numbers = pd.Series(pd.to_numeric(texts, errors="coerce"))
    return numbers.to_numpy(dtype=np.float64, na_value=np.nan)


def _check_no_mistakes(
    name: str,
    texts: pd.Series,
    others: Bool[np.ndarray, " n"],
    missing: Bool[np.ndarray, " n"],
    decimal: str,
) -> None:
    """Refuse texts that would be numbers with the other decimal sign, or are few among many numbers."""
    row, num_known = int(others.argmax()), np.count_nonzero(~missing)
    sign = "." if decimal == "," else ","
    otherwise = np.isfinite(_numbers(texts, sign))
    if otherwise[others].all() and otherwise.sum() >= (1 - DIRTY) * num_known:
        thousands = texts.loc[others].str.fullmatch(_THOUSANDS).all()
        advice = "without signs between thousands" if thousands else f"as --decimal {sign} reads it"
    elif others.sum() < num_known and others.sum() <= max(1, DIRTY * num_known):
        advice = (
            "as most of the column are: correct it, leave it empty if missing, or leave out the "
            f"column (--exclude {shown(name)})"
        )
    elif (
        texts.loc[others].nunique() == 1 and texts.loc[~others & ~missing].nunique() > MANY_NUMBERS
    ):
        advice = (
            "as the others are: leave it empty if it stands for a missing one, or leave out the "
            f"column (--exclude {shown(name)})"
        )
    else:
        return
    where = f"data row {row + 1}, and {others.sum() - 1} more rows"
    raise invalid(f"column {shown(name)}", texts.iloc[row], f"a number ({where}), {advice}")


def _check_categories(name: str, distinct: np.ndarray, n: int) -> None:
    """Refuse a column with so many different texts that these must be names or free text."""
    if len(distinct) > min(MOST_CATEGORIES, max(n / 2, FEW_CATEGORIES)):
        problem = f"{len(distinct)} different texts in {n} rows, as {shown(distinct[0])}"
        allowed = (
            f"numbers, or at most {MOST_CATEGORIES} categories that recur: leave names and free "
            f"text out (--exclude {shown(name)})"
        )
        raise invalid(f"column {shown(name)}", problem, allowed)


def _encoding_note(encoded: Sequence[tuple[str, list[str]]]) -> tuple[str, ...]:
    """A note on the columns of text and their categories; empty without any."""
    if not encoded:
        return ()
    parts = [f"{shown(name)} ({some(categories)})" for name, categories in encoded]
    return (
        "Columns of text became features of 0 and 1, one for each category (only the second where "
        f"there are two): {first_of(parts, len(parts))}.",
    )


def _column_notes(
    values: Float[np.ndarray, "n d"], names: Sequence[str], is_number: Bool[np.ndarray, " d"]
) -> tuple[str, ...]:
    """Notes on features with a single value, and on columns of numbers that may identify each row."""
    known = ~np.isnan(values)
    lowest = np.where(known, values, np.inf).min(axis=0)
    same = np.flatnonzero(lowest == np.where(known, values, -np.inf).max(axis=0)).tolist()
    increasing = np.all(values[1:] > values[:-1], axis=0) & (len(values) >= LEAST_ROWS)
    numbers = np.flatnonzero(is_number).tolist()
    likely = [j for j in numbers if increasing[j] or _IDENTIFIER.search(names[j])]
    identifying = [names[j] for j in likely if _identifies(values[:, j])]
    notes = []
    if same:
        notes.append(f"Features that have one value only: {some([names[j] for j in same])}.")
    if identifying:
        notes.append(
            "Features that are probably identifiers, whole numbers that differ in every row: "
            f"{some(identifying)}; --exclude {shown(identifying[0])} leaves one out."
        )
    return tuple(notes)


def _identifies(values: Float[np.ndarray, " n"]) -> bool:
    """Whether a feature has whole numbers, a different one in each row."""
    return bool((values == np.round(values)).all()) and len(np.unique(values)) == len(values)
