"""MNIST: its training and its test images, of IDX files or fetched once by scikit-learn."""

from __future__ import annotations

import functools
import gzip
import http.client
import math
import struct
import warnings
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import sklearn.datasets

from experiments.data import NUM_CLASSES
from ssm.support.errors import InputError, invalid

PER_CLASS = 1000
"""Training images of a class that are used at most, the first ones, so that an experiment costs the same
whether it is given all of MNIST's 60,000 or a part of them."""
NUM_TRAIN = 60_000  # of the 70,000 images that are fetched, the first ones
UNSIGNED_BYTE = 8  # IDX's code for the type of its values
GZIP_MAGIC = b"\x1f\x8b"


class Mnist(NamedTuple):
    """Images, float32 in [0, 1], and their labels, int32."""

    train_images: np.ndarray
    """shape (n, h, w), at most `PER_CLASS` of a class"""
    train_labels: np.ndarray
    """shape (n,)"""
    test_images: np.ndarray
    """shape (m, h, w)"""
    test_labels: np.ndarray
    """shape (m,)"""


class NotFetched(InputError):
    """MNIST was to be fetched and could not be, as without a connection."""


@functools.cache
def load(data_dir: Path | None) -> Mnist:
    """MNIST of a folder of IDX files (`train-*` and `t10k-*`, gzipped or not), or, without one, as
    `sklearn.datasets.fetch_openml` fetches it, which keeps a copy.

    Raises ssm.InputError, one line, for a folder or file that is missing or is not what it should be,
    and `NotFetched` where there is no folder and fetching fails.
    """
    if data_dir is None:
        images, labels = _fetched()
        train, test = (
            (images[:NUM_TRAIN], labels[:NUM_TRAIN]),
            (images[NUM_TRAIN:], labels[NUM_TRAIN:]),
        )
    elif not data_dir.is_dir():
        raise invalid("data_dir", str(data_dir), "a folder that exists")
    else:
        train, test = (_read(data_dir, stem) for stem in ("train", "t10k"))
    if train[0].shape[1:] != test[0].shape[1:]:
        sizes = train[0].shape[1:], test[0].shape[1:]
        raise invalid("sizes of training and test images", sizes, "the same")
    used = _first_of_each(train[1])
    return Mnist(*_scaled(train[0][used], train[1][used]), *_scaled(*test))


def _scaled(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return images.astype(np.float32) / 255, labels.astype(np.int32)


def _first_of_each(labels: np.ndarray) -> np.ndarray:
    """Indices of the first `PER_CLASS` images of each class, ascending."""
    of_class = [np.flatnonzero(labels == c)[:PER_CLASS] for c in range(NUM_CLASSES)]
    return np.sort(np.concatenate(of_class))


def _fetched() -> tuple[np.ndarray, np.ndarray]:
    """All 70,000 images, bytes, and their labels."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a second attempt; that it failed too is said below
            found = sklearn.datasets.fetch_openml(
                "mnist_784", version=1, as_frame=False, return_X_y=True
            )
    except (OSError, ValueError, http.client.HTTPException) as error:
        said = f"{type(error).__name__}: {error}"
        needed = "fetched over a connection, or --data-dir a folder with its IDX files"
        raise NotFetched(str(invalid("mnist", said, needed))) from None
    pixels, labels = map(np.asarray, found)
    return pixels.astype(np.uint8).reshape(-1, 28, 28), labels.astype(np.int32)


def _read(folder: Path, stem: str) -> tuple[np.ndarray, np.ndarray]:
    """Images, bytes (n, h, w), and labels (n,), of STEM-images-idx3-ubyte and STEM-labels-idx1-ubyte (or
    STEM-images.idx3-ubyte, ...)."""
    image_file = _find(folder, f"{stem}-images", num_axes=3)
    label_file = _find(folder, f"{stem}-labels", num_axes=1)
    images, labels = _read_idx(image_file, num_axes=3), _read_idx(label_file, num_axes=1)
    if len(images) != len(labels):
        raise invalid(
            label_file.name,
            f"{len(labels)} labels",
            f"as many as {image_file.name} has images, {len(images)}",
        )
    if labels.max(initial=0) >= NUM_CLASSES:
        raise invalid(label_file.name, f"label {labels.max()}", f"labels in [0, {NUM_CLASSES - 1}]")
    return images, labels


def _find(folder: Path, stem: str, num_axes: int) -> Path:
    names = [f"{stem}{mark}idx{num_axes}-ubyte" for mark in "-."]
    for name in names:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    raise invalid(names[0], "no such file", f"in {folder}, gzipped or not (or {names[1]})")


def _read_idx(path: Path, num_axes: int) -> np.ndarray:
    """The unsigned bytes of an IDX file: two zeros, type, number of axes, big-endian lengths,
    values."""
    try:
        content = path.read_bytes()
        # by content: browsers unpack downloads and leave the .gz
        if content.startswith(GZIP_MAGIC):
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise invalid(
            path.name, f"{type(error).__name__}: {error}", "a readable, whole file"
        ) from None
    if content[:4] != bytes((0, 0, UNSIGNED_BYTE, num_axes)):
        raise invalid(
            path.name,
            f"begins with {content[:4].hex()}",
            f"IDX of bytes, beginning with 0000080{num_axes}",
        )
    start = 4 + 4 * num_axes
    if len(content) < start:
        raise invalid(path.name, f"{len(content)} bytes", f"at least {start} bytes, its header")
    shape = struct.unpack(f">{num_axes}I", content[4:start])
    if len(content) != start + math.prod(shape):
        raise invalid(
            path.name,
            f"{len(content)} bytes",
            f"{start + math.prod(shape)} bytes, as its header says",
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
