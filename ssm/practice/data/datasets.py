"""Data sets of a study: scikit-learn's or a user's own file, checked once, and made imbalanced where
that is asked for."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import sklearn.datasets
from jaxtyping import Float, Int

from ssm.config.profiles import num_minority_classes
from ssm.practice import options
from ssm.practice.data import encoding, tables
from ssm.practice.data.tables import shown, some
from ssm.support import checks
from ssm.support.errors import did_you_mean, invalid, one_of

BUILT_IN = ("digits", "breast_cancer", "wine")
DEFAULT_LABEL = "label"
ENDINGS = ".csv, .tsv or .txt (also with .gz after it) or .npz"
LARGEST_FEATURE = 1e100  # Larger features count as infinite, since their squares overflow.
SHORTFALL = 0.1  # The largest share of its wanted count that a class may lack.


class Data(NamedTuple):
    """A data set: features with a row for each sample, and the class of each sample."""

    name: str
    features: Float[np.ndarray, "n d"]
    """The features in float64; NaN where one is missing."""
    labels: Int[np.ndarray, " n"]
    """0 .. k - 1, where every class has at least one sample."""
    class_names: tuple[str, ...]
    feature_names: tuple[str, ...]
    image_shape: tuple[int, int] | None
    """(h, w) where the features are the pixels of an image, row by row; None elsewhere."""
    notes: tuple[str, ...] = ()
    """Sentences on what was done to a user's file, and on what in it may be a mistake."""

    @property
    def has_missing(self) -> bool:
        """Whether any feature is missing. Each fold imputes them from its training part alone."""
        return bool(np.isnan(self.features).any())

    @property
    def counts(self) -> Int[np.ndarray, " k"]:
        """n_c, the number of samples of each class."""
        return np.bincount(self.labels, minlength=len(self.class_names))


def load(
    data: str | Path,
    *,
    label: str = DEFAULT_LABEL,
    impute: bool = False,
    sep: str | None = None,
    decimal: str = ".",
    exclude: str = "",
) -> Data:
    """Load a data set by its name, or from a user's table of text or NPZ file.

    A table (.csv, .tsv or .txt, and any of them with .gz) has a header row. It is in UTF-8, or in UTF-16
    with a byte order mark; anything else is read as Windows-1252 or Latin-1. One column holds the label.
    Every different text in it is a class, spaces around it aside, unless it stands for a missing label
    (`tables.MISSING`). Every other column is a feature of numbers, or of text, which is encoded
    (`encoding.features`). Classes are in the order of their numbers where all labels are numbers, and
    else in the order of their texts.

    An NPZ file has the arrays `features`, of shape (n, d) or images (n, h, w), and `labels`, of shape
    (n,), of numbers or strings. It has no pickled objects.

    Example:
        >>> data = load("wine")
        >>> data.features.shape, data.counts.tolist()
        ((178, 13), [59, 71, 48])

    Args:
        data: one of `BUILT_IN`, or a path.
        label: the name of the label column; like `sep`, `decimal` and `exclude` for tables alone.
        impute: accept missing features, and treat features that are infinite or beyond 1e100 as
            missing. They are NaN in the result, since imputing them here would let test folds leak
            into training. In a column of text they are a category, `missing`.
        sep: what separates entries, one character or `tab`; None: a tab in a .tsv, in other files
            whatever the header row shows.
        decimal: `.` or `,`.
        exclude: names of columns to leave out, between commas.

    Raises:
        ssm.InputError: a file that does not exist or cannot be read; no samples, features or label
            column; labels that are missing, of a single class or continuous; features that are
            missing or infinite, or in a column without any number; columns of text that look like
            numbers with mistakes, or like names.
    """
    if not isinstance(data, str | Path):
        raise invalid("data", data, f"one of {', '.join(BUILT_IN)}, or a path")
    for name, text in (("label", label), ("exclude", exclude)):
        options.text(name, text)
    checks.flag("impute", impute)
    options.separator(sep)
    options.decimal_sign(decimal)
    is_table = str(data) not in BUILT_IN and tables.is_table(Path(data))
    of_tables = {"label": (label, DEFAULT_LABEL), "sep": (sep, None), "decimal": (decimal, ".")}
    for name, (value, default) in (of_tables | {"exclude": (exclude, "")}).items():
        if value != default and not is_table:
            raise invalid(name, value, f"left out for {shown(str(data))}: only a table has columns")
    if str(data) in BUILT_IN:
        return _built_in(str(data))
    path = _checked_path(data)
    if not is_table:
        return _checked_features(_from_npz(path), impute)
    return _checked_features(_from_table(path, label, impute, sep, decimal, exclude), impute)


def imbalanced(
    data: Data,
    imbalance_ratio: float,
    seed: int,
    profile: Literal["step", "long_tailed"] = "step",
    minority_fraction: float = 0.5,
) -> Data:
    """A subsample whose smallest class has about 1/R as many samples as its largest.

    Classes are ranked by their counts, the largest first, and by label where these are equal. `step`:
    the last round(rho k) classes are minorities and are cut to round(mean majority count / R); the others
    keep all samples. `long_tailed`: the class of rank c is cut to round(n_max R^(-c/(k - 1))). Which
    samples stay depends on seed and class alone, and a smaller R only adds samples, so that subsamples
    of one seed are nested. Samples stay in their order.

    A class with up to 10 % fewer samples than it should have keeps all of them. Where one lacks more,
    the data are more imbalanced than asked for and are refused.

    Example:
        >>> imbalanced(load("wine"), 10, seed=0).counts.tolist()
        [7, 71, 7]

    Args:
        data: the data set.
        imbalance_ratio: R >= 1.
        seed: of the choice of the samples.
        profile: `step` or `long_tailed`.
        minority_fraction: rho of `step`, in (0, 1), which leaves a class on either side.

    Raises:
        ssm.InputError: anything else; an R that the data cannot have, where the message says which R
            they can have.
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
        raise invalid("imbalance_ratio", ratio, f"at most {largest:g}, a class of one sample")
    if (counts < (1 - SHORTFALL) * wanted).any():
        least = (largest / counts[cut]) ** (1 / decay)
        name = shown(data.class_names[cut[least.argmax()]])
        raise invalid(
            "imbalance_ratio",
            ratio,
            f"at least {math.ceil(100 * least.max()) / 100:g}: class {name} has too few samples "
            "for less",
        )
    return _sampled(data, wanted, seed)


def _decay(k: int, profile: str, minority_fraction: float) -> Float[np.ndarray, " k"]:
    """Exponents e of the wanted counts n R^-e, the largest class first; 0 keeps all samples."""
    if checks.choice("profile", profile, ("step", "long_tailed")) == "long_tailed":
        return np.arange(k) / (k - 1)
    fraction = checks.real("minority_fraction", minority_fraction, 0, 1, open_ends="()")
    num_minority = num_minority_classes(k, fraction)
    if not 1 <= num_minority < k:
        allowed = f"such that 1 to {k - 1} of {k} classes are minorities"
        raise invalid("minority_fraction", fraction, allowed)
    return np.repeat([0.0, 1.0], [k - num_minority, num_minority])


def check_folds(data: Data, folds: int) -> None:
    """Refuse fewer than two folds, and more folds than the smallest class has samples, since every test
    fold needs a sample of each class."""
    checks.integer("folds", folds, 2, 2**31 - 1)
    counts = data.counts
    if counts.min() < folds:
        others = int((counts < folds).sum()) - 1
        raise invalid(
            "folds",
            folds,
            f"at most the number of samples of every class: "
            f"{shown(data.class_names[counts.argmin()])} has {counts.min()}"
            + (f", and {others} more have too few" if others else ""),
        )


def _sampled(data: Data, wanted: Int[np.ndarray, " k"], seed: int) -> Data:
    """A random subsample with the wanted number of samples of each class, in the order of the data."""
    rng = np.random.default_rng(seed)
    members = [rng.permutation(np.flatnonzero(data.labels == c)) for c in range(len(wanted))]
    kept = np.sort(np.concatenate([m[:n] for m, n in zip(members, wanted, strict=True)]))
    return data._replace(features=data.features[kept], labels=data.labels[kept])


def _built_in(name: str) -> Data:
    """One of scikit-learn's data sets."""
    bunch: Any = getattr(sklearn.datasets, f"load_{name}")()
    return Data(
        name=name,
        features=np.asarray(bunch["data"], dtype=np.float64),
        labels=np.asarray(bunch["target"], dtype=np.int64),
        class_names=tuple(map(str, bunch["target_names"])),
        feature_names=tuple(map(str, bunch["feature_names"])),
        image_shape=(8, 8) if name == "digits" else None,
    )


def _checked_path(data: str | Path) -> Path:
    """The path of an existing file that is not empty and whose ending is that of a data set."""
    try:
        path = Path(data).expanduser()
        exists, is_file = path.exists(), path.is_file()
    except (OSError, RuntimeError, ValueError) as error:  # An unknown user, too long, a zero byte.
        reason = type(error).__name__
        raise invalid("data", str(data), f"a path that can be followed ({reason})") from None
    if not exists:
        raise invalid("data", str(data), one_of(str(data), BUILT_IN, ", or a file that exists"))
    if not is_file or not (tables.is_table(path) or path.suffix.lower() == ".npz"):
        raise invalid("data", str(data), f"a file that ends in {ENDINGS}")
    if path.stat().st_size == 0:
        raise invalid("data", str(data), "a file that is not empty")
    return path


def _from_table(
    path: Path, label: str, impute: bool, sep: str | None, decimal: str, exclude: str
) -> Data:
    """A data set from a table of text, its features not yet checked."""
    columns, notes = tables.read(path, label, sep, decimal)
    classes = encoding.text_classes(label, columns.pop(label), decimal)
    for name in _excluded(exclude, list(columns)):
        del columns[name]
    columns, left_out = encoding.without_row_numbers(columns)
    if not columns:
        raise invalid("data", str(path), f"a table with features beside the column {shown(label)}")
    features = encoding.features(columns, decimal, impute)
    return Data(
        name=tables.stem(path),
        features=features.values,
        labels=classes.labels,
        class_names=classes.names,
        feature_names=features.names,
        image_shape=None,
        notes=notes + left_out + classes.notes + features.notes,
    )


def _excluded(exclude: str, names: list[str]) -> set[str]:
    """The names between commas in `exclude`, where a name with a comma in it is quoted."""
    entries = next(csv.reader([exclude], skipinitialspace=True), [])
    wanted = {name.strip() for name in entries} - {""}
    for name in sorted(wanted - set(names)):
        hint = did_you_mean(name, names, shown)
        allowed = f"columns of features, of those in the header row: {some(names)}{hint}"
        raise invalid("exclude", name, allowed)
    return wanted


def _from_npz(path: Path) -> Data:
    """A data set from an NPZ file, its features not yet checked."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = dict(stored)
    except Exception:  # zipfile, zlib and NumPy raise many kinds of exceptions.
        raise invalid(
            "data", str(path), "a readable NPZ file of plain arrays, none of objects"
        ) from None
    if arrays.keys() != {"features", "labels"}:
        raise invalid(
            "data", str(path), f"NPZ with arrays features and labels, not {some(sorted(arrays))}"
        )
    features, labels = arrays["features"], arrays["labels"]
    if features.dtype.kind not in "fiub" or features.ndim not in (2, 3) or not features.size:
        raise invalid(
            "features",
            f"{features.dtype} of shape {features.shape}",
            "real numbers of shape (n, d) or (n, h, w), with no axis empty",
        )
    n = len(features)
    if labels.dtype.kind not in "fiubU" or labels.shape != (n,):
        raise invalid(
            "labels",
            f"{labels.dtype} of shape {labels.shape}",
            f"numbers or strings of shape ({n},), one for each sample",
        )
    classes = (
        encoding.text_classes("labels", pd.Series(labels))
        if labels.dtype.kind == "U"
        else encoding.numeric_classes("labels", labels)
    )
    flat = features.reshape(n, -1).astype(np.float64)
    return Data(
        name=path.stem,
        features=flat,
        labels=classes.labels,
        class_names=classes.names,
        feature_names=tuple(f"feature {j}" for j in range(flat.shape[1])),
        image_shape=features.shape[1:] if features.ndim == 3 else None,
        notes=classes.notes,
    )


def _checked_features(data: Data, impute: bool) -> Data:
    """The data with missing features as NaN, and a note on them; raises ssm.InputError for columns
    without any number, and for missing features unless they are to be imputed."""
    n, features = len(data.features), data.features
    infinite = np.abs(features) > LARGEST_FEATURE
    bad = (infinite | np.isnan(features)).sum(axis=0)
    empty = [data.feature_names[j] for j in np.flatnonzero(bad == n)]
    if empty:
        problem = f"no finite number in {some(empty)}"
        raise invalid(
            "features",
            problem,
            "known in some sample: leave the column out (--exclude for a table)",
        )
    if bad.any() and not impute:
        j, num_columns = bad.argmax(), np.count_nonzero(bad)
        num_infinite = infinite[:, j].sum()
        problem = f"{bad[j] - num_infinite} missing and {num_infinite} infinite of {n} entries"
        problem += f" (and {num_columns - 1} more columns)" if num_columns > 1 else ""
        allowed = f"finite numbers: {encoding.IMPUTING}"
        raise invalid(f"column {shown(data.feature_names[j])}", problem, allowed)
    missing = [f"{data.feature_names[j]} ({bad[j]})" for j in np.flatnonzero(bad)]
    if missing:
        note = f"Entries missing in {some(missing)} of {n} rows: medians of each training part."
        data = data._replace(notes=(*data.notes, note))
    return data._replace(features=np.where(infinite, np.nan, features))
