"""The spectral variables of logits logged from any network."""

from __future__ import annotations

import mmap
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ssm.measures.probes import Probe, TaughtProbe
from ssm.measures.sample_sums import ROWS, SampleSums
from ssm.problem.own_targets import distributions
from ssm.results import logs as log_datasets
from ssm.support import archives, arrays, errors
from ssm.tracking.observing import LARGEST_LOGIT, spectrum, spectrum_on_targets

LOGITS = "real numbers of shape (time, n, k)"
LOGITS_NOW = "real numbers of shape (n, k) at each time"
BLOCK = 2**24  # The bytes of logits, as float64, that are read at once.


def track(
    logits: object,
    labels: object = None,
    times: object = None,
    progress: Callable[[float], None] | None = None,
    *,
    targets: object = None,
) -> xr.Dataset:
    """Follow how much of each spectral component of their label matrix logits learn over time.

    The variables are those of a simulated run, in the same units: strength u_j^T Z v_j in the fixed
    basis of the SEL matrix of `labels`, block means, class strengths and accuracies, singular
    values, residual and learning times in the unit of `times` (NaN where half of the target is not reached). The logits of
    each time must be of the same samples.

    Components are contrasts between classes, k - 1 of them; per class see `class_strength`. A
    group (majority or minority) of one class has no contrasts within itself, so that its block is NaN:
    `class_strength` and `class_learning_time` say what is learned of that class.

    The logits are read once, in blocks of samples, and all sums are in float64 whatever the type of the logits.
    Singular values are right to the rounding of the largest, c eps sigma_1 (`SampleSums`). An array
    outside memory that is sliced as those of NumPy are (of zarr, h5py, dask or xarray, or one of `load_logits`) is
    never in memory as a whole: 16 MiB of it are read at a time, with what its library reads for them, such as whole
    chunks. The pages of a `np.memmap` of mode "r" are not kept either. Lists, tensors and arrays of JAX are made into
    a NumPy array first.

    Args:
        logits: shape (time, n, k), real and finite; or an iterator, such as a generator, over the logits of one time
            after another, shape (n, k), which may be of any library and of which only one is kept in memory.
        labels: shape (n,), integers 0 .. k - 1; every class must occur, k at least 2, unless targets are given.
        times: shape (time,), ascending, in any unit such as steps; 0, 1, 2, ... when left out.
        progress: called with the share of the times done, in [0, 1].
        targets: distributions over the classes that the samples are taught in place of labels, shape (n, k). The
            components are then those of the centred targets, and labels that are left out are those of the largest
            targets. They are not allowed where logits are an iterator.

    Returns:
        A Dataset over `time`, `class`, `component`, `block` and `mode`.

    Raises:
        ssm.InputError (a ValueError): anything else, in one line.
    """
    if isinstance(logits, Iterator):
        if targets is not None:
            raise errors.invalid("targets", "given", "left out where logits are an iterator")
        return _of_stream(logits, labels, times, progress)
    if targets is not None:
        checked, numbers, when, probe = _taught(logits, labels, times, targets)
    else:
        checked, numbers, when = _checked(logits, labels, times)
        counts = np.bincount(numbers, minlength=checked.shape[2])
        probe = Probe(counts, counts)
    num_times = checked.shape[0]
    observed = []
    for i, blocks in enumerate(_by_time(checked)):
        observed.append(_observe(i, blocks, numbers, probe))
        if progress:
            progress((i + 1) / num_times)
    return log_datasets.dataset(probe, when, _stacked(observed))


def _of_stream(
    logits: Iterator[object],
    labels: object,
    times: object,
    progress: Callable[[float], None] | None,
) -> xr.Dataset:
    """`track` of an iterator over the logits of single times."""
    observed, known = [], []
    probe: Probe | None = None
    shape: tuple[int, ...] = ()
    when = None if times is None else list(np.asarray(times))
    for i, now in enumerate(logits):
        block = arrays.as_numpy("logits", now, LOGITS_NOW)
        if block.ndim != 2:
            raise errors.invalid("logits", arrays.shape_of(block), LOGITS_NOW)
        if probe is not None and block.shape != shape:
            raise errors.invalid("logits", arrays.shape_of(block), f"of shape {shape} at each time")
        shape = block.shape
        if when is not None and i >= len(when):
            raise errors.invalid("times", f"{len(when)} of them", "as many as logits has times")
        known.append(i if when is None else when[i])
        _, numbers, _ = _checked(block[None], labels, known[-1:])
        if probe is None:
            counts = np.bincount(numbers, minlength=shape[1])
            probe = Probe(counts, counts)
        observed.append(_observe(i, [block], numbers, probe))
        if progress and when is not None:
            progress((i + 1) / len(when))
    if probe is None or (when is not None and len(observed) < len(when)):
        allowed = (
            "at least one time" if when is None else f"{len(when)} times, as many as times has"
        )
        raise errors.invalid("logits", f"{len(observed)} times", allowed)
    checked = _ascending(np.array(known), len(observed))
    return log_datasets.dataset(probe, checked, _stacked(observed))


def _stacked(observed: list[dict[str, np.ndarray | float]]) -> dict[str, np.ndarray]:
    """The observations of all times as arrays with time as the first axis."""
    return {name: np.stack([now[name] for now in observed]) for name in observed[0]}


def _observe(
    index: int, blocks: Iterable[np.ndarray], labels: np.ndarray, probe: Probe
) -> dict[str, np.ndarray | float]:
    """The observations at the time of one index, by name, from its logits in blocks of samples in order;
    raises ssm.InputError for logits that are not finite or too large."""
    sums, first = SampleSums(len(probe.counts)), 0
    taught = probe if isinstance(probe, TaughtProbe) else None
    on_targets = np.zeros((len(probe.counts), len(probe.counts)))
    for block in blocks:
        _check_values(index, block)
        sums.add(block, labels[first : first + len(block)])
        if taught is not None:
            T = taught.targets[:, first : first + len(block)] - 1 / len(probe.counts)
            on_targets += block.T.astype(np.float64) @ T.T
        first += len(block)
    return (
        spectrum(sums, probe) if taught is None else spectrum_on_targets(sums, on_targets, taught)
    )


def _by_time(logits: Any) -> Iterator[Iterable[np.ndarray]]:
    """The logits of each time in turn, as blocks of samples, of which only one is read at a time. Several times are
    read at once where they are small, and blocks are whole multiples of `ROWS` samples where they are large, so that the
    results do not depend on where the logits are stored."""
    num_times, n, k = logits.shape
    if 8 * n * k > BLOCK:
        rows = max(BLOCK // (8 * k * ROWS), 1) * ROWS
        for i in range(num_times):
            yield (_read(logits, slice(i, i + 1), slice(a, a + rows))[0] for a in range(0, n, rows))
        return
    together = BLOCK // (8 * n * k)
    for i in range(0, num_times, together):
        yield from ([now] for now in _read(logits, slice(i, i + together), slice(0, n)))


def _read(logits: Any, times: slice, samples: slice) -> np.ndarray:
    """A block of the logits, read into memory."""
    if isinstance(logits, np.memmap) and logits.mode == "r":
        _release(logits)
    block = logits[times, samples]
    if np.ma.is_masked(block):
        raise errors.invalid("logits", "a masked array", "without masked values")
    return np.asarray(block)


def _release(mapped: np.memmap) -> None:
    """Release the pages of a file that is mapped for reading. They are read again when they are needed. Without this
    they count as memory of this process until the system needs it for others."""
    memory = mapped
    while memory is not None and not isinstance(memory, mmap.mmap):
        memory = getattr(memory, "base", None)
    if memory is not None and hasattr(mmap, "MADV_DONTNEED"):
        memory.madvise(mmap.MADV_DONTNEED)


def load_logits(path: str | Path) -> dict[str, Any]:
    """Read the arguments of `track` from an NPZ file with arrays `logits`, `labels` and optionally
    `times`, none of them pickled. Names, types and shapes are checked before any values are read.

    Logits stay in the file, compressed or not, and are read when `track` needs them, so that a damaged
    file raises only then; `np.asarray` reads them all. Logits in Fortran order, whose times are scattered
    over the file, are read at once as a whole.

    Raises:
        ssm.InputError: the file does not exist, is no such file, or has other arrays.
    """
    path = Path(path)
    if not path.is_file():
        raise errors.invalid("file", str(path), "an NPZ file that exists")
    try:
        with zipfile.ZipFile(path) as stored:
            names = sorted(name.removesuffix(".npy") for name in stored.namelist())
    except Exception:  # zipfile raises many kinds of errors.
        raise archives.unreadable(path) from None
    if names not in (["labels", "logits"], ["labels", "logits", "times"]):
        allowed = f"one with arrays logits, labels and optionally times, not {names}"
        raise errors.invalid("file", str(path), allowed)
    try:
        with zipfile.ZipFile(path) as stored:
            headers = {name: archives.read_header(stored, name) for name in names}
    except Exception:  # NumPy, zipfile and zlib raise many kinds of errors.
        raise archives.unreadable(path) from None
    _check_layout(headers["logits"], headers["labels"], headers.get("times"))
    in_blocks = not headers["logits"].fortran_order
    try:
        with np.load(path, allow_pickle=False) as stored:
            read = {name: stored[name] for name in names if name != "logits" or not in_blocks}
    except Exception:
        raise archives.unreadable(path) from None
    if in_blocks:
        read["logits"] = archives.StoredArray(path, "logits", headers["logits"])
    return read


def _checked(
    logits: Any, labels: object, times: object, all_occur: bool = True
) -> tuple[Any, np.ndarray, np.ndarray]:
    """The arguments of `track` as arrays, with the times 0, 1, 2, ... where none are given; raises ssm.InputError. Logits
    are any array that is sliced as those of NumPy are; their values are not read."""
    if not (_is_sliced(logits) or isinstance(logits, np.memmap)):
        logits = arrays.as_numpy("logits", logits, LOGITS)
    _check_layout(logits)
    num_times, n, k = logits.shape
    labels = arrays.as_numpy("labels", labels, f"{n} integers in [0, {k - 1}]")
    times = arrays.as_numpy(
        "times", np.arange(num_times) if times is None else times, _times(num_times)
    )
    _check_layout(logits, labels, times)
    if labels.min() < 0 or labels.max() >= k:
        worst = labels.min() if labels.min() < 0 else labels.max()
        raise errors.invalid("labels", int(worst), f"in [0, {k - 1}]")
    counts = np.bincount(labels, minlength=k)
    if all_occur and not counts.all():
        raise errors.invalid(
            "labels", f"no sample of class {int(counts.argmin())}", f"of all {k} classes"
        )

    return logits, labels.astype(np.int64), _ascending(times, num_times)


def _taught(
    logits: object, labels: object, times: object, targets: object
) -> tuple[Any, np.ndarray, np.ndarray, TaughtProbe]:
    """The arguments of `track` with targets, as arrays, and their probe."""
    P = distributions(arrays.as_numpy("targets", targets, "real numbers of shape (n, k)"))
    known = P.argmax(axis=1) if labels is None else labels
    checked, found, when = _checked(logits, known, times, all_occur=False)
    if P.shape != checked.shape[1:]:
        allowed = f"of shape {tuple(checked.shape[1:])}, a row a sample of the logits"
        raise errors.invalid("targets", arrays.shape_of(P), allowed)
    counts = np.bincount(found, minlength=P.shape[1])
    return checked, found, when, TaughtProbe(counts, counts, P.T, found, labels is not None)


def _ascending(times: np.ndarray, number: int) -> np.ndarray:
    """Times as float64; raises ssm.InputError where they are not finite and ascending."""
    times = times.astype(np.float64)
    if not np.isfinite(times).all() or (np.diff(times) <= 0).any():
        raise errors.invalid("times", times.tolist(), _times(number))
    return times


def _check_values(index: int, block: np.ndarray) -> None:
    """Raise ssm.InputError for logits of one time that are not finite or too large."""
    low, high = block.min(), block.max()  # Both are NaN where any value is.
    if not (np.isfinite(low) and np.isfinite(high)):
        raise errors.invalid("logits", f"not finite at time index {index}", "finite everywhere")
    if (largest := max(-float(low), float(high))) > LARGEST_LOGIT:
        raise errors.invalid("logits", f"{largest:g}", f"at most {LARGEST_LOGIT:g}")


def _check_layout(
    logits: Any,
    labels: np.ndarray | archives.Header | None = None,
    times: np.ndarray | archives.Header | None = None,
) -> None:
    """Raise ssm.InputError where the types and shapes of arrays, or of their headers, do not fit together."""
    if logits.dtype.kind not in "fiu" or len(logits.shape) != 3 or not all(logits.shape):
        raise errors.invalid("logits", arrays.shape_of(logits), f"{LOGITS}, with no axis empty")
    num_times, n, k = logits.shape
    if k < 2:
        raise errors.invalid(
            "logits", arrays.shape_of(logits), "of at least 2 classes (the last axis)"
        )
    if labels is not None and (labels.shape != (n,) or labels.dtype.kind not in "iu"):
        allowed = f"{n} integers, as many as logits has samples"
        raise errors.invalid("labels", arrays.shape_of(labels), allowed)
    if times is not None and (times.shape != (num_times,) or times.dtype.kind not in "fiu"):
        raise errors.invalid("times", arrays.shape_of(times), _times(num_times))


def _times(number: int) -> str:
    return f"{number} finite ascending numbers, as many as logits has times"


def _is_sliced(logits: object) -> bool:
    """Whether logits are an array outside memory, of which slices are read. An array in memory offers it by DLPack."""
    shape = getattr(logits, "shape", None)
    return (
        isinstance(getattr(logits, "dtype", None), np.dtype)
        and isinstance(shape, tuple)
        and all(isinstance(length, int) for length in shape)
        and hasattr(logits, "__getitem__")
        and not hasattr(logits, "__dlpack__")
    )
