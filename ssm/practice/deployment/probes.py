"""A few rows that are kept beside a model with what it predicted for them, by which a loaded model shows that it is the
same one."""

from __future__ import annotations

import datetime
import json
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.utils import _safe_indexing

from ssm.practice.data.classifiers import Classifier, Rows
from ssm.practice.deployment.fields import Json
from ssm.support.errors import invalid

ROWS = 10
CLOSE = 1e-5
"""The most by which probabilities may differ on another machine, whose libraries round otherwise; some models compute in float32."""


def probe_of(model: Classifier, X: Rows) -> Json:
    """The first rows of X, and what the model predicts for them, in JSON types.

    Raises:
        ssm.InputError: rows that are not numbers, text or booleans in an array, a sparse matrix, a table or a list.
    """
    if isinstance(X, list | tuple):
        X = list(X)
    rows = _safe_indexing(X, np.arange(min(ROWS, length(X))))
    probe = {"rows": _to_json(rows), **_predicted(model, rows)}
    try:
        json.dumps(probe)
    except TypeError as error:
        raise invalid(
            "X", type(X).__name__, f"rows of numbers, text or booleans ({error})"
        ) from None
    return probe


def check(model: Classifier, probe: Any, path: str) -> None:
    """Raise ssm.InputError where a model predicts other things for the rows of a probe than it did when it was saved.

    Args:
        model: the classifier that was read.
        probe: what was read from the file of its probe, which may be anything.
        path: the path of the file, for messages.
    """
    try:
        rows, before = _of_json(probe["rows"]), probe["classes"]
        expected = probe["probabilities"]
    except Exception as error:  # What was read is no probe.
        raise invalid("probe", path, f"a readable probe ({type(error).__name__})") from None
    try:
        now = _predicted(model, rows)
    except Exception as error:  # An estimator may raise anything.
        what = f"one that predicts the rows of its probe ({type(error).__name__}: {error})"
        raise invalid("model", path, what) from None
    same = now["classes"] == before and (now["probabilities"] is None) == (expected is None)
    if same and expected is not None:
        gaps = np.abs(np.subtract(now["probabilities"], expected))
        same = np.shape(gaps) == np.shape(expected) and bool((gaps <= CLOSE).all())
    if not same:
        what = "one that predicts the rows of its probe as it did when it was saved"
        raise invalid("model", path, what)


def _predicted(model: Classifier, rows: Rows) -> Json:
    """The classes that a model decides for, and its probabilities, None where it has none."""
    classes = np.asarray(model.predict(rows)).tolist()
    has = hasattr(model, "predict_proba")
    return {
        "classes": classes,
        "probabilities": np.asarray(model.predict_proba(rows), float).tolist() if has else None,
    }


def length(X: Any) -> int:
    """The number of rows."""
    return X.shape[0] if hasattr(X, "shape") else len(X)


def _to_json(rows: Any) -> Json:
    """A table, a sparse matrix, a list or an array in JSON types, with the types of its numbers."""
    if isinstance(rows, pd.DataFrame):
        columns = [_column(rows.iloc[:, i]) for i in range(rows.shape[1])]
        return {"kind": "table", "columns": columns}
    if sparse.issparse(rows):
        return {"kind": "sparse", "format": rows.format, "array": _array(rows.toarray())}
    if isinstance(rows, list):
        return {"kind": "list", "values": [_plain(row) for row in rows]}
    return {"kind": "array", "array": _array(np.asarray(rows))}


def _of_json(stored: Json) -> Any:
    """The rows that `_to_json` was given."""
    match stored["kind"]:
        case "table":
            columns = stored["columns"]
            table = pd.concat([_series(column) for column in columns], axis=1)
            table.columns = pd.Index([column["name"] for column in columns])
            return table
        case "sparse":
            return sparse.csr_array(_of_array(stored["array"])).asformat(stored["format"])
        case "list":
            return stored["values"]
        case "array":
            return _of_array(stored["array"])
        case _:
            raise ValueError(stored["kind"])


def _array(values: np.ndarray) -> Json:
    """An array of numbers, text or booleans in JSON types."""
    return {
        "dtype": values.dtype.str,
        "shape": list(values.shape),
        "values": _plain(values.ravel()),
    }


def _of_array(stored: Json) -> np.ndarray:
    """The array that `_array` was given."""
    dtype = np.dtype(stored["dtype"])
    return np.array(stored["values"], dtype=dtype).reshape(stored["shape"])


def _column(series: pd.Series) -> Json:
    """A column of a table in JSON types. Of a categorical one the codes and the categories are kept."""
    name = series.name.item() if isinstance(series.name, np.generic) else series.name
    column = {"name": name, "dtype": str(series.dtype)}
    if isinstance(series.dtype, pd.CategoricalDtype):
        categories = series.cat.categories
        column |= {
            "codes": series.cat.codes.tolist(),
            "categories": categories.tolist(),
            "of": str(categories.dtype),
            "ordered": bool(series.cat.ordered),
        }
        return column
    return column | {"values": [_plain(x) for x in series]}


def _series(column: Json) -> pd.Series:
    """The column that `_column` was given."""
    if "codes" in column:
        categories = pd.Index(column["categories"], dtype=column["of"])
        values = pd.Categorical.from_codes(column["codes"], categories, column["ordered"])
        return pd.Series(values)
    return pd.Series(column["values"], dtype=column["dtype"])


def _plain(value: object) -> object:
    """A value in types nearer to JSON's: arrays as lists, NumPy's numbers as Python's, times as text, and `pandas.NA` as None. Any
    other value is returned as it is."""
    if value is pd.NA:
        return None
    if isinstance(value, datetime.date):  # Timestamps of pandas are of this class too.
        return value.isoformat()
    if isinstance(value, np.ndarray):
        return [_plain(x) for x in value.tolist()]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple):
        return [_plain(x) for x in value]
    return value
