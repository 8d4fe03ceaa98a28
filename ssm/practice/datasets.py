"""Data sets of a study, scikit-learn's or a user's own file, checked once and made imbalanced if
asked."""

from __future__ import annotations

import csv
import itertools
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import sklearn.datasets
from jaxtyping import Float, Int

from ssm import checks
from ssm.checks import refuse
from ssm.profiles import num_minority_classes

BUILT_IN = ("digits", "breast_cancer", "wine")
DEFAULT_LABEL = "label"
MISSING = ("", "NA", "N/A", "n/a", "<NA>", "#N/A", "NaN", "nan", "-nan", "NULL", "null")
"""Entries of a CSV that stand for none; `None` is not among them, since it is a class in use."""
LARGEST_FEATURE = 1e100  # beyond it squares overflow: as good as infinite
SHORTFALL = 0.1  # share of its wanted count that a class may lack
MOST_SHOWN = 8  # names in a message
LINES_LOOKED_AT = 20  # of a CSV, for its header


class Data(NamedTuple):
    """Samples in rows, with a class each."""

    name: str
    features: Float[np.ndarray, "n d"]
    """float64; NaN where missing"""
    labels: Int[np.ndarray, " n"]
    """0 .. k - 1, every class at least once"""
    class_names: tuple[str, ...]
    feature_names: tuple[str, ...]
    image_shape: tuple[int, int] | None
    """(h, w) where the features are the pixels of an image, row by row."""

    @property
    def has_missing(self) -> bool:
        """Whether any feature is NaN, to be imputed in each fold from its training part alone."""
        return bool(np.isnan(self.features).any())

    @property
    def counts(self) -> Int[np.ndarray, " k"]:
        """n_c, samples of each class."""
        return np.bincount(self.labels, minlength=len(self.class_names))


def load(data: str | Path, *, label: str = DEFAULT_LABEL, impute: bool = False) -> Data:
    """A data set by name, or from a user's CSV or NPZ file.

    A CSV is UTF-8 and separated by commas, with a header row; one column holds the label, of any
    type, and every other column is a numeric feature. An NPZ file has the arrays `features`, (n, d)
    or images (n, h, w), and `labels`, (n,), of numbers or strings; no pickles. Classes are in the
    order of their numbers where all labels are numbers, else of their names.

    Args:
        data: one of `BUILT_IN`, or a path that ends in .csv or .npz.
        label: name of the label column; only a CSV has one.
        impute: accept missing features (and infinite ones, or larger than 1e100, as missing). They
            are NaN in the result: imputing them here would let test folds leak into training.

    Raises:
        ssm.InputError: a file that is not there or cannot be read as such; no samples, features or
            label column; labels that are missing, of one class only or continuous; features that
            are not numbers, missing or infinite, or in a column without any number.
    """
    path = Path(data).expanduser()
    is_csv = path.suffix.lower() == ".csv"
    if label != DEFAULT_LABEL and not is_csv:
        raise refuse("label", label, f"left out for {data}: only a CSV has a column of labels")
    if str(data) in BUILT_IN:
        return _built_in(str(data))
    _check_file(data, path)
    return _checked_features(_from_csv(path, label) if is_csv else _from_npz(path), impute)


def imbalanced(
    data: Data,
    imbalance_ratio: float,
    seed: int,
    profile: Literal["step", "long_tailed"] = "step",
    minority_fraction: float = 0.5,
) -> Data:
    """A subsample whose smallest class has about 1/R of its largest.

    Classes are ranked by their natural counts, ties by label, the largest first. `step`: the last
    round(rho k) are minorities, each cut to round(mean majority count / R); the others keep
    everything. `long_tailed`: the class of rank c is cut to round(n_max R^(-c/(k - 1))). Which
    samples stay depends on seed and class alone, more of them for smaller R, so that subsamples of
    one seed are nested. They stay in their order.

    A class that has up to 10 % fewer samples than it should have keeps all; where one lacks more,
    the data are more imbalanced than asked for and are refused.

    Args:
        imbalance_ratio: R >= 1.
        minority_fraction: rho of `step`, in (0, 1), which leaves a class on either side.

    Raises:
        ssm.InputError: anything else; an R that the data cannot have, with those they can.
    """
    ratio = checks.real("imbalance_ratio", imbalance_ratio, 1)
    checks.integer("seed", seed, 0, 2**31 - 1)
    counts = data.counts
    by_size = np.argsort(-counts, kind="stable")
    decay = _decay(len(counts), profile, minority_fraction)
    cut, decay = by_size[decay > 0], decay[decay > 0]
    largest = counts[np.setdiff1d(by_size, cut)].mean()
    wanted = counts.copy()
    wanted[cut] = np.round(largest * ratio**-decay)
    if wanted.min() < 1:
        raise refuse("imbalance_ratio", ratio, f"at most {largest:g}, a class of one sample")
    if (counts < (1 - SHORTFALL) * wanted).any():
        least = (largest / counts[cut]) ** (1 / decay)
        name = _shown(data.class_names[cut[least.argmax()]])
        raise refuse(
            "imbalance_ratio",
            ratio,
            f"at least {math.ceil(100 * least.max()) / 100:g}: class {name} has too few samples "
            "for less",
        )
    return _sampled(data, wanted, seed)


def _decay(k: int, profile: str, minority_fraction: float) -> Float[np.ndarray, " k"]:
    """Exponents e of the wanted counts n R^-e, the largest class first; 0 keeps everything."""
    if checks.choice("profile", profile, ("step", "long_tailed")) == "long_tailed":
        return np.arange(k) / (k - 1)
    fraction = checks.real("minority_fraction", minority_fraction, 0, 1, open_ends="()")
    num_minority = num_minority_classes(k, fraction)
    if not 1 <= num_minority < k:
        allowed = f"such that 1 to {k - 1} of {k} classes are minorities"
        raise refuse("minority_fraction", fraction, allowed)
    return np.repeat([0.0, 1.0], [k - num_minority, num_minority])


def check_folds(data: Data, folds: int) -> None:
    """Refuse fewer than two folds, and more than the smallest class has samples: every test fold
    needs one of each class."""
    checks.integer("folds", folds, 2, 2**31 - 1)
    counts = data.counts
    if counts.min() < folds:
        others = int((counts < folds).sum()) - 1
        raise refuse(
            "folds",
            folds,
            f"at most the number of samples of every class: "
            f"{_shown(data.class_names[counts.argmin()])} has {counts.min()}"
            + (f", and {others} more have too few" if others else ""),
        )


def _sampled(data: Data, wanted: Int[np.ndarray, " k"], seed: int) -> Data:
    rng = np.random.default_rng(seed)
    members = [rng.permutation(np.flatnonzero(data.labels == c)) for c in range(len(wanted))]
    kept = np.sort(np.concatenate([m[:n] for m, n in zip(members, wanted, strict=True)]))
    return data._replace(features=data.features[kept], labels=data.labels[kept])


def _built_in(name: str) -> Data:
    bunch: Any = getattr(sklearn.datasets, f"load_{name}")()
    return Data(
        name=name,
        features=np.asarray(bunch["data"], dtype=np.float64),
        labels=np.asarray(bunch["target"], dtype=np.int64),
        class_names=tuple(map(str, bunch["target_names"])),
        feature_names=tuple(map(str, bunch["feature_names"])),
        image_shape=(8, 8) if name == "digits" else None,
    )


def _check_file(data: str | Path, path: Path) -> None:
    if not path.exists():
        raise refuse("data", str(data), f"one of {', '.join(BUILT_IN)}, or a file that exists")
    if path.suffix.lower() not in (".csv", ".npz") or not path.is_file():
        raise refuse("data", str(data), "a file that ends in .csv or .npz")
    if path.stat().st_size == 0:
        raise refuse("data", str(data), "a file that is not empty")


def _from_csv(path: Path, label: str) -> Data:
    header = _header(path, label)
    features = [name for name in header if name != label]
    if not features:
        raise refuse("data", str(path), f"a CSV with features beside the column {label!r}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # would drop entries
            table: Any = pd.read_csv(
                path,
                header=0,
                names=header,
                index_col=False,
                dtype={label: str},
                na_values={name: list(MISSING) for name in header},
                keep_default_na=False,
                skipinitialspace=True,
                low_memory=False,
                encoding="utf-8-sig",
            )
    except (ValueError, OSError, pd.errors.ParserWarning) as error:
        reason = " ".join(str(error).split()).rpartition("error: ")[2].partition(".")[0]
        allowed = f"a CSV in UTF-8 with {len(header)} entries in each row ({reason})"
        raise refuse("data", str(path), allowed) from None
    if table.empty:
        raise refuse("data", str(path), "a CSV with rows below its header")
    labels, class_names = _classes(label, table[label])
    columns = [_numbers(name, table[name]) for name in features]
    return Data(
        name=path.stem,
        features=np.stack(columns, axis=1),
        labels=labels,
        class_names=class_names,
        feature_names=tuple(features),
        image_shape=None,
    )


def _header(path: Path, label: str) -> list[str]:
    """Names of the columns, `label` once among them."""
    rows, lines = _first_rows(path)
    if not rows:
        raise refuse("data", str(path), "a file that is not empty")
    header = rows[0]
    if label not in header:
        hint = "; separate entries by commas"
        if not any(len(row) == 1 and mark in row[0] for row in rows for mark in ";\t|"):
            below = [line for row, line in zip(rows, lines, strict=True) if label in row]
            hint = f"; delete the lines above line {below[0]}, which has it" if below else ""
        raise refuse("label", label, f"a column, of those in the header row: {_some(header)}{hint}")
    unnamed = [i for i, name in enumerate(header, 1) if not name or name.startswith("Unnamed: ")]
    if unnamed:
        allowed = (
            f"a CSV whose columns have names, unlike column {unnamed[0]} (leave out row numbers)"
        )
        raise refuse("data", str(path), allowed)
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise refuse("data", str(path), f"a CSV with each column once, not twice: {_some(twice)}")
    return header


def _first_rows(path: Path) -> tuple[list[list[str]], list[int]]:
    """The first rows that are not blank, without spaces around entries, and their line numbers."""
    rows, lines = [], []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, skipinitialspace=True)
            for row in itertools.islice(reader, LINES_LOOKED_AT):
                entries = [entry.strip() for entry in row]
                if entries not in ([], [""]):
                    rows.append(entries)
                    lines.append(reader.line_num)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        allowed = f"a readable CSV, text in UTF-8 ({type(error).__name__})"
        raise refuse("data", str(path), allowed) from None
    return rows, lines


def _numbers(name: str, column: Any) -> Float[np.ndarray, " n"]:
    numbers: Any = pd.to_numeric(column, errors="coerce")
    wrong = (numbers.isna() & column.notna()).to_numpy()
    if wrong.any():
        row = int(wrong.argmax())
        raise refuse(
            f"column {_shown(name)}",
            column.iloc[row],
            f"a number (data row {row + 1}, and {wrong.sum() - 1} more rows): write categories as "
            "columns of 0 and 1, leave missing entries empty, or leave the column out",
        )
    return numbers.to_numpy(dtype=np.float64, na_value=np.nan)


def _from_npz(path: Path) -> Data:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = dict(stored)
    except Exception:  # zipfile, zlib and NumPy raise many kinds
        raise refuse(
            "data", str(path), "a readable NPZ file of plain arrays, none of objects"
        ) from None
    if arrays.keys() != {"features", "labels"}:
        raise refuse(
            "data", str(path), f"NPZ with arrays features and labels, not {_some(sorted(arrays))}"
        )
    features, labels = arrays["features"], arrays["labels"]
    if features.dtype.kind not in "fiub" or features.ndim not in (2, 3) or not features.size:
        raise refuse(
            "features",
            f"{features.dtype} of shape {features.shape}",
            "real numbers of shape (n, d) or (n, h, w), none of them 0",
        )
    n = len(features)
    if labels.dtype.kind not in "fiubU" or labels.shape != (n,):
        raise refuse(
            "labels",
            f"{labels.dtype} of shape {labels.shape}",
            f"numbers or strings of shape ({n},), one for each sample",
        )
    codes, class_names = _classes("labels", pd.Series(labels))
    flat = features.reshape(n, -1).astype(np.float64)
    return Data(
        name=path.stem,
        features=flat,
        labels=codes,
        class_names=class_names,
        feature_names=tuple(f"feature {j}" for j in range(flat.shape[1])),
        image_shape=features.shape[1:] if features.ndim == 3 else None,
    )


def _classes(name: str, values: Any) -> tuple[Int[np.ndarray, " n"], tuple[str, ...]]:
    """Labels 0 .. k - 1 and the names of the classes, from a Series of labels of any type."""
    if not pd.api.types.is_numeric_dtype(values):
        values = values.str.strip()
        values = values.mask(values == "")
    missing = (values.isna() | values.isin([np.inf, -np.inf])).to_numpy()
    if missing.any():
        found = f"{missing.sum()} missing, the first in data row {missing.argmax() + 1}"
        raise refuse(name, found, "given for every sample")
    distinct, codes = np.unique(values.to_numpy(), return_inverse=True)
    if distinct.dtype.kind == "O":
        numbers: Any = pd.to_numeric(pd.Series(distinct), errors="coerce")
        if numbers.notna().all():  # "10" comes after "9", and "1.0" is "1"
            return _classes(name, pd.Series(numbers.to_numpy()[codes]))
    if distinct.dtype.kind == "f":
        whole = (distinct == np.round(distinct)).all()
        if not whole and len(distinct) > len(values) / 2:
            found = f"{len(distinct)} different numbers in {len(values)} rows"
            raise refuse(name, found, "classes, not a continuous target")
        distinct = [int(x) for x in distinct] if whole else distinct
    if len(distinct) < 2:
        raise refuse(name, f"{distinct[0]} in every row", "of at least two classes")
    return codes.astype(np.int64), tuple(map(str, distinct))


def _checked_features(data: Data, impute: bool) -> Data:
    n, features = len(data.features), data.features
    infinite = np.abs(features) > LARGEST_FEATURE
    bad = (infinite | np.isnan(features)).sum(axis=0)
    empty = [data.feature_names[j] for j in np.flatnonzero(bad == n)]
    if empty:
        found = f"no finite number in {_some(empty)}"
        raise refuse("features", found, "known in some sample: leave the column out")
    if bad.any() and not impute:
        j, num_columns = bad.argmax(), np.count_nonzero(bad)
        num_infinite = infinite[:, j].sum()
        found = f"{bad[j] - num_infinite} missing and {num_infinite} infinite of {n} entries"
        found += f" (and {num_columns - 1} more columns)" if num_columns > 1 else ""
        allowed = "finite numbers, unless imputation is asked for"
        raise refuse(f"column {_shown(data.feature_names[j])}", found, allowed)
    return data._replace(features=np.where(infinite, np.nan, features))


def _shown(name: str) -> str:
    """One name, on one line and not too long."""
    short = repr(name)
    return short if len(short) <= 40 else f"{short[:37]}..."


def _some(names: Sequence[str]) -> str:
    """The first of many names."""
    more = f", ... ({len(names)} in all)" if len(names) > MOST_SHOWN else ""
    return ", ".join(map(_shown, names[:MOST_SHOWN])) + more
