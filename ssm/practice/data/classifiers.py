"""Types of classifiers of scikit-learn's kind, of the samples that they are given, and of the names of classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike
from scipy import sparse

Classifier = Any
"""A classifier of scikit-learn's kind, fitted or not. It can be of any class that has the methods, and some of these are made
when they are asked for (`predict_proba` of a pipeline), so that no type checker finds them."""
Rows = ArrayLike | sparse.sparray | sparse.spmatrix | Sequence[object]
"""Samples, as scikit-learn's estimators take them: an array, a table, a sparse matrix, or a list with an entry for each sample."""
Label = str | int | float | bool
"""The name of a class."""
