"""The spectral variables of logits logged from any network."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from ssm.config import profiles
from ssm.dynamics.statuses import Status
from ssm.measures import metrics, spectral
from ssm.problem import membership
from ssm.results import datasets
from ssm.results.provenance import provenance
from ssm.support import errors

LOGITS = "real numbers of shape (time, n, k)"
LARGEST_LOGIT = 1e100  # sums of squares of larger ones may not be finite


def track(
    logits: Any, labels: Any, times: Any = None, progress: Callable[[float], None] | None = None
) -> xr.Dataset:
    """Follow what logits learn of each spectral component of their label matrix.

    The variables are those of a simulated run, in the same units: strength u_j^T Z v_j in the fixed
    basis of the SEL matrix of `labels`, block means, class strengths and accuracies, singular
    values, residual and learning times (NaN where half of the target is not reached). The logits of
    each time must be of the same samples.

    Components are contrasts between classes, k - 1 of them; per class see `class_strength`. A group
    (majority or minority) of one class has no contrasts within itself, so that its block is NaN:
    `class_strength` and `class_learning_time` say what is learned of that class.

    Args:
        logits: shape (time, n, k), real and finite.
        labels: shape (n,), integers 0 .. k - 1; every class must occur, k at least 2.
        times: shape (time,), ascending, in any unit such as steps; 0, 1, 2, ... when left out.
        progress: called with the share of the times done, in [0, 1].

    Returns:
        A Dataset over `time`, `class`, `component`, `block` and `mode`.

    Raises:
        ssm.InputError (a ValueError): anything else, in one line.
    """
    logits, labels, times = _checked(logits, labels, times)
    k = logits.shape[2]
    counts = np.bincount(labels, minlength=k)
    groups = np.array(profiles.class_groups(counts.tolist()))
    components = spectral.label_spectrum(counts, class_groups=groups)
    columns = membership(labels, k)
    observed = []
    for i, now in enumerate(logits):  # one time at a go: the whole may be far larger than one
        by_class = now.astype(np.float64).T
        class_sums = by_class @ columns
        strength = spectral.strengths(class_sums, components)
        largest = np.abs(by_class).max() or 1.0
        observed.append(
            {
                "class_accuracy": metrics.class_accuracy(by_class, labels, columns),
                "strength": strength,
                "class_strength": spectral.class_strengths(class_sums, counts),
                "singular_value": np.linalg.svd(by_class, compute_uv=False),
                "residual": spectral.residual(
                    strength / largest, ((by_class / largest) ** 2).sum()
                ),
            }
        )
        if progress:
            progress((i + 1) / len(logits))
    observations = {name: np.stack([o[name] for o in observed]) for name in observed[0]}
    arrays = datasets.spectral_arrays(times, observations, components, counts, groups)
    target = components.singular_values
    progress_of = {
        "learning_time": observations["strength"] / target,
        "class_learning_time": observations["class_strength"],
        "block_learning_time": arrays["block_strength"] / arrays["block_target"],
    }
    learned = {name: spectral.learning_times(times, x) for name, x in progress_of.items()}
    tracked = datasets.assemble(arrays | learned)
    tracked["time"].attrs = {"description": "time of the logits"}
    return tracked.assign_attrs(
        status=Status.TRACKED.value, dtype="float64", num_samples=len(labels), **provenance()
    )


def load_logits(path: str | Path) -> dict[str, np.ndarray]:
    """Read the arguments of `track` from an NPZ file with arrays `logits`, `labels` and optionally
    `times`, none of them pickled. Names, types and shapes are checked before any values are read.

    Raises:
        ssm.InputError: a file that is not there, is not such a file, or has other arrays.
    """
    path = Path(path)
    if not path.is_file():
        raise errors.invalid("file", str(path), "an NPZ file that exists")
    no_file = errors.invalid("file", str(path), "a readable NPZ file of plain arrays")
    try:
        with zipfile.ZipFile(path) as stored:
            names = sorted(name.removesuffix(".npy") for name in stored.namelist())
    except Exception:  # zipfile raises errors of many kinds
        raise no_file from None
    if names not in (["labels", "logits"], ["labels", "logits", "times"]):
        allowed = f"one with arrays logits, labels and optionally times, not {names}"
        raise errors.invalid("file", str(path), allowed)
    try:
        with zipfile.ZipFile(path) as stored:
            headers = {name: _header(stored, f"{name}.npy") for name in names}
    except Exception:  # NumPy, zipfile and zlib raise errors of many kinds
        raise no_file from None
    _check_layout(headers["logits"], headers["labels"], headers.get("times"))
    try:
        with np.load(path, allow_pickle=False) as stored:
            return dict(stored)
    except Exception:
        raise no_file from None


class _Header(NamedTuple):
    """What a file says of an array ahead of its values."""

    shape: tuple[int, ...]
    dtype: np.dtype


def _header(stored: zipfile.ZipFile, name: str) -> _Header:
    """The header of an array in an NPZ file; raises ValueError where the length of the values is
    another than it says."""
    info = stored.getinfo(name)
    readers = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
    with stored.open(info) as member:
        major, _ = np.lib.format.read_magic(member)
        shape, _, dtype = readers[major](member)
        length = math.prod(shape) * dtype.itemsize
        if dtype.hasobject or info.file_size != member.tell() + length:
            raise ValueError(name)
    return _Header(shape, dtype)


def _checked(logits: Any, labels: Any, times: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The arguments of `track` as arrays, with times for those that have none; raises
    ssm.InputError."""
    logits = _array("logits", logits, LOGITS)
    _check_layout(logits)
    num_times, n, k = logits.shape
    labels = _array("labels", labels, f"{n} integers in [0, {k - 1}]")
    times = _array("times", np.arange(num_times) if times is None else times, _times(num_times))
    _check_layout(logits, labels, times)
    if not np.isfinite(logits).all():
        bad = int(np.argmin(np.isfinite(logits).all(axis=(1, 2))))
        raise errors.invalid("logits", f"not finite at time index {bad}", "finite everywhere")
    if (largest := float(np.abs(logits).max())) > LARGEST_LOGIT:
        raise errors.invalid("logits", f"{largest:g}", f"at most {LARGEST_LOGIT:g}")

    if labels.min() < 0 or labels.max() >= k:
        worst = labels.min() if labels.min() < 0 else labels.max()
        raise errors.invalid("labels", int(worst), f"in [0, {k - 1}]")
    counts = np.bincount(labels, minlength=k)
    if not counts.all():
        raise errors.invalid(
            "labels", f"no sample of class {int(counts.argmin())}", f"of all {k} classes"
        )

    times = times.astype(np.float64)
    if not np.isfinite(times).all() or (np.diff(times) <= 0).any():
        raise errors.invalid("times", times.tolist(), _times(num_times))
    return logits, labels.astype(np.int64), times


def _check_layout(
    logits: np.ndarray | _Header,
    labels: np.ndarray | _Header | None = None,
    times: np.ndarray | _Header | None = None,
) -> None:
    """Raise ssm.InputError for types and shapes that do not go together."""
    if logits.dtype.kind not in "fiu" or len(logits.shape) != 3 or not all(logits.shape):
        raise errors.invalid("logits", _shape(logits), f"{LOGITS}, with no axis empty")
    num_times, n, k = logits.shape
    if k < 2:
        raise errors.invalid("logits", _shape(logits), "of at least 2 classes (the last axis)")
    if labels is not None and (labels.shape != (n,) or labels.dtype.kind not in "iu"):
        allowed = f"{n} integers, as many as logits has samples"
        raise errors.invalid("labels", _shape(labels), allowed)
    if times is not None and (times.shape != (num_times,) or times.dtype.kind not in "fiu"):
        raise errors.invalid("times", _shape(times), _times(num_times))


def _times(number: int) -> str:
    return f"{number} finite ascending numbers, as many as logits has times"


def _array(name: str, value: Any, allowed: str) -> np.ndarray:
    if np.ma.isMaskedArray(value):
        raise errors.invalid(name, "a masked array", "without masked values")
    try:
        return np.asarray(value)
    except Exception:  # ragged lists, arrays of other libraries
        raise errors.invalid(name, type(value).__name__, allowed) from None


def _shape(array: np.ndarray | _Header) -> str:
    return f"{array.dtype} of shape {array.shape}"
