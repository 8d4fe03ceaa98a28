"""Readers of digits, on small files of MNIST's format, and the split that makes them imbalanced."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments import data
from ssm import InputError

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 6, 5), dtype=np.uint8)
LABELS = np.arange(20, dtype=np.uint8) % 10


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    """An IDX file's bytes."""
    header = bytes((0, 0, kind, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


@pytest.fixture
def write(tmp_path):
    """Write files of the names and contents given, beside good ones of the usual names; returns their folder."""

    def write(**contents: bytes):
        stored = {"images": idx(PIXELS), "labels": idx(LABELS)} | contents
        (tmp_path / "train-images-idx3-ubyte").write_bytes(stored["images"])
        (tmp_path / "train-labels-idx1-ubyte").write_bytes(stored["labels"])
        return tmp_path

    return write


def refused(folder) -> str:
    """The message of the one-line error that reading `folder` raises."""
    with pytest.raises(InputError) as caught:
        data.load_mnist(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_digits_are_scaled():
    images, labels = data.load_digits()
    assert images.shape == (1797, 8, 8)
    assert images.dtype == np.float32
    assert (images.min(), images.max()) == (0, 1)
    assert set(labels) == set(range(10))


@pytest.mark.parametrize("mark", ["-", "."])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_idx_files_are_read(tmp_path, mark, ending):
    pack = gzip.compress if ending else bytes
    (tmp_path / f"train-images{mark}idx3-ubyte{ending}").write_bytes(pack(idx(PIXELS)))
    (tmp_path / f"train-labels{mark}idx1-ubyte{ending}").write_bytes(pack(idx(LABELS)))
    images, labels = data.load_mnist(tmp_path)
    assert images.shape == (20, 6, 5)
    assert images.dtype == np.float32
    np.testing.assert_array_equal(np.rint(images * 255), PIXELS)
    np.testing.assert_array_equal(labels, LABELS)


def test_unpacked_file_that_kept_its_gz_name_is_read(tmp_path):
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(idx(PIXELS))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(idx(LABELS))
    assert len(data.load_mnist(tmp_path)[0]) == 20


def test_missing_folder_is_refused(tmp_path):
    assert "data_dir" in refused(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"])
def test_missing_file_is_refused_by_name(write, name):
    folder = write()
    (folder / name).unlink()
    assert refused(folder).startswith(name)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0",
        b"PNG, not IDX, though long enough for a header",
        idx(PIXELS, kind=0x0D),  # floats
        idx(PIXELS[0]),  # two axes
        idx(PIXELS)[:10],
        idx(PIXELS)[:-1],
        idx(PIXELS) + b"\0",
        struct.pack(">4BIII", 0, 0, 8, 3, *[2**32 - 1] * 3),  # a header that promises 2^96 bytes
        gzip.compress(idx(PIXELS), mtime=0)[:-9],
        gzip.compress(idx(PIXELS), mtime=0)[:5],
        gzip.compress(idx(PIXELS), mtime=0)[:-8] + bytes(8),
        gzip.compress(idx(PIXELS), mtime=0)[:10] + b"\xff" * 40,
        gzip.compress(b"not IDX", mtime=0),
    ],
)
def test_malformed_images_are_refused_by_name(write, content):
    assert refused(write(images=content)).startswith("train-images-idx3-ubyte=")


def test_malformed_labels_are_refused_by_name(write):
    assert refused(write(labels=idx(PIXELS))).startswith("train-labels-idx1-ubyte=")


def test_as_many_labels_as_images(write):
    message = refused(write(labels=idx(LABELS[:-1])))
    assert "train-labels-idx1-ubyte" in message
    assert "19" in message
    assert "20" in message


def test_label_out_of_range_is_refused(write):
    message = refused(write(labels=idx(np.where(LABELS == 3, 10, LABELS).astype(np.uint8))))
    assert message.startswith("train-labels-idx1-ubyte=")
    assert "10" in message


def test_the_digits_split_has_the_counts_of_the_experiment():
    """1797 digits have 174 to 183 of a class; without 50 held out, majorities average 130.2, a tenth of which is 13."""
    split = data.split(*data.load_digits(), 50, 10.0, (5, 6, 7, 8, 9), seed=0)
    assert np.bincount(split.test_labels).tolist() == [50] * 10
    assert np.bincount(split.train_labels).tolist() == [128, 132, 127, 133, 131] + [13] * 5


@given(
    seed=st.integers(0, 2**32),
    ratio=st.floats(1, 20),
    held_out=st.integers(1, 10),
    sizes=st.lists(st.integers(40, 60), min_size=10, max_size=10),
    minority=st.sets(st.integers(0, 9), min_size=1, max_size=9),
)
def test_split_is_disjoint_balanced_and_step(seed, ratio, held_out, sizes, minority):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(10), sizes))
    images = np.arange(len(labels))[:, None, None]  # each image is its own index
    majority = sorted(set(range(10)) - minority)
    left = np.array(sizes) - held_out
    wanted = left.copy()
    wanted[list(minority)] = round(left[majority].mean() / ratio)
    if (wanted > left).any():
        with pytest.raises(InputError):
            data.split(images, labels, held_out, ratio, tuple(minority), seed)
        return

    split = data.split(images, labels, held_out, ratio, tuple(minority), seed)
    drawn = np.concatenate([split.train_images.ravel(), split.test_images.ravel()])
    assert len(set(drawn)) == len(drawn)
    np.testing.assert_array_equal(labels[split.train_images.ravel()], split.train_labels)
    np.testing.assert_array_equal(labels[split.test_images.ravel()], split.test_labels)
    np.testing.assert_array_equal(np.bincount(split.test_labels), np.full(10, held_out))
    np.testing.assert_array_equal(np.bincount(split.train_labels), wanted)


def test_split_follows_its_seed():
    images, labels = data.load_digits()
    one, again, other = (data.split(images, labels, 50, 10.0, (5, 6), seed) for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    assert not np.array_equal(one.train_images, other.train_images)
    np.testing.assert_array_equal(one.train_labels, other.train_labels)


@pytest.mark.parametrize(("held_out", "ratio"), [(174, 10.0), (50, 1000.0)])
def test_split_refuses_classes_too_small(held_out, ratio):
    with pytest.raises(InputError, match="images of class"):
        data.split(*data.load_digits(), held_out, ratio, (5, 6, 7, 8, 9), seed=0)
