"""Handwritten digits: scikit-learn's own or MNIST's IDX files, made STEP-imbalanced."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import sklearn.datasets

from ssm.support.errors import invalid

NUM_CLASSES = 10
UNSIGNED_BYTE = 8  # IDX's code for the type of its values
GZIP_MAGIC = b"\x1f\x8b"


class Split(NamedTuple):
    """An imbalanced training set and a balanced held-out set, both sorted by class."""

    train_images: np.ndarray
    """shape (n, h, w), float32 in [0, 1]"""
    train_labels: np.ndarray
    """shape (n,), int32"""
    test_images: np.ndarray
    """shape (m, h, w)"""
    test_labels: np.ndarray
    """shape (m,)"""


def load_digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's 1797 digits: images (n, 8, 8), float32 in [0, 1], and labels (n,), int32."""
    pixels, labels = map(np.asarray, sklearn.datasets.load_digits(return_X_y=True))
    return (pixels.reshape(-1, 8, 8) / 16).astype(np.float32), labels.astype(np.int32)


def load_mnist(data_dir: Path) -> tuple[np.ndarray, np.ndarray]:
    """MNIST's training files: images (n, h, w), float32 in [0, 1], and labels (n,), int32.

    Reads train-images-idx3-ubyte and train-labels-idx1-ubyte (or train-images.idx3-ubyte, ...),
    gzipped or not. Raises ssm.InputError, one line, for a folder or file that is missing or is not
    what it should be.
    """
    if not data_dir.is_dir():
        raise invalid("data_dir", str(data_dir), "a folder that exists")
    image_file = _find(data_dir, "train-images", num_axes=3)
    label_file = _find(data_dir, "train-labels", num_axes=1)
    images, labels = _read_idx(image_file, num_axes=3), _read_idx(label_file, num_axes=1)
    if len(images) != len(labels):
        raise invalid(
            label_file.name,
            f"{len(labels)} labels",
            f"as many as {image_file.name} has images, {len(images)}",
        )
    if labels.max(initial=0) >= NUM_CLASSES:
        raise invalid(label_file.name, f"label {labels.max()}", f"labels in [0, {NUM_CLASSES - 1}]")
    return images.astype(np.float32) / 255, labels.astype(np.int32)


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


def split(
    images: np.ndarray,
    labels: np.ndarray,
    held_out_per_class: int,
    imbalance_ratio: float,
    minority_classes: Sequence[int],
    seed: int,
) -> Split:
    """A balanced held-out set, and from what is left a STEP-imbalanced training set.

    Majority classes keep all that is left; each minority class is cut to their mean count over
    `imbalance_ratio`, rounded to the nearest integer. Counts do not depend on the seed, which
    images are drawn does.

    Args:
        images: shape (n, h, w).
        labels: shape (n,), in [0, NUM_CLASSES).

    Raises ssm.InputError where a class has too few images.
    """
    left = np.bincount(labels, minlength=NUM_CLASSES) - held_out_per_class
    majority = np.setdiff1d(np.arange(NUM_CLASSES), minority_classes)
    wanted = left.copy()
    wanted[list(minority_classes)] = round(left[majority].mean() / imbalance_ratio)
    for c in range(NUM_CLASSES):
        if not 1 <= wanted[c] <= left[c]:
            found, needed = left[c] + held_out_per_class, max(wanted[c], 1) + held_out_per_class
            raise invalid(f"images of class {c}", int(found), f"at least {needed}")

    train, test = draw(labels, held_out_per_class, wanted, np.random.default_rng(seed))
    return Split(images[train], labels[train], images[test], labels[test])


def draw(
    labels: np.ndarray, held_out_per_class: int, counts: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of `counts` training samples of each class and of the held-out ones beside them, both
    sorted by class."""
    shuffled = [rng.permutation(np.flatnonzero(labels == c)) for c in range(NUM_CLASSES)]
    test = np.concatenate([mine[:held_out_per_class] for mine in shuffled])
    train = np.concatenate(
        [mine[held_out_per_class:][:count] for mine, count in zip(shuffled, counts, strict=True)]
    )
    return train, test
