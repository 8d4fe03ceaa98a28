"""Readers of MNIST, on small files of its format, and fetching it, by a function in scikit-learn's place."""

from __future__ import annotations

import gzip
import struct
import warnings
from urllib.error import URLError

import numpy as np
import pytest
import sklearn.datasets
from small_mnist import idx

from experiments import mnist_data
from ssm import InputError

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 6, 5), dtype=np.uint8)
LABELS = np.arange(20, dtype=np.uint8) % 10


@pytest.fixture
def write(tmp_path):
    """Write training files of the contents given, and else good ones, of both parts; returns their folder."""

    def write(**contents: bytes):
        stored = {"images": idx(PIXELS), "labels": idx(LABELS)}
        for part, own in (("t10k", {}), ("train", contents)):
            images, labels = ({**stored, **own}[name] for name in ("images", "labels"))
            (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(images)
            (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(labels)
        return tmp_path

    return write


def refused(folder) -> str:
    """The message of the one-line error that reading `folder` raises."""
    with pytest.raises(InputError) as caught:
        mnist_data.load(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("mark", ["-", "."])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_idx_files_are_read(tmp_path, mark, ending):
    pack = gzip.compress if ending else bytes
    for part, pixels in (("train", PIXELS), ("t10k", 255 - PIXELS)):
        (tmp_path / f"{part}-images{mark}idx3-ubyte{ending}").write_bytes(pack(idx(pixels)))
        (tmp_path / f"{part}-labels{mark}idx1-ubyte{ending}").write_bytes(pack(idx(LABELS)))
    found = mnist_data.load(tmp_path)
    for images, pixels in ((found.train_images, PIXELS), (found.test_images, 255 - PIXELS)):
        assert images.shape == (20, 6, 5)
        assert images.dtype == np.float32
        np.testing.assert_array_equal(np.rint(images * 255), pixels)
    np.testing.assert_array_equal(found.train_labels, LABELS)
    np.testing.assert_array_equal(found.test_labels, LABELS)


def test_unpacked_file_that_kept_its_gz_name_is_read(write):
    folder = write()
    for path in list(folder.iterdir()):
        path.rename(path.with_name(f"{path.name}.gz"))
    assert len(mnist_data.load(folder).train_images) == 20


def test_the_first_images_of_a_class_are_used(write, monkeypatch):
    """Three of each class at most, in their order: of the labels below two zeros, and the first three ones."""
    monkeypatch.setattr(mnist_data, "PER_CLASS", 3)
    labels = np.array([1, 0, 1, 1, 0, 1, 1] + [1] * 13, dtype=np.uint8)
    found = mnist_data.load(write(labels=idx(labels)))
    np.testing.assert_array_equal(found.train_labels, [1, 0, 1, 1, 0])
    np.testing.assert_array_equal(np.rint(found.train_images * 255), PIXELS[:5])
    assert len(found.test_images) == 20


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


def test_test_images_of_another_size_are_refused(write):
    assert refused(write(images=idx(PIXELS[:, :, :4].copy()))).startswith("sizes of training")


@pytest.fixture
def fetched(monkeypatch):
    """Put a function in the place of scikit-learn's, and forget what was fetched before and after."""

    def put(fetch):
        monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch)

    mnist_data.load.cache_clear()
    yield put
    mnist_data.load.cache_clear()


def test_without_a_folder_it_is_fetched_once(fetched, monkeypatch, rng):
    """As rows of float64 and labels as text; the last ones are the test images."""
    pixels, labels = rng.integers(0, 256, (30, 784)), np.arange(30) % 10
    asked = []

    def fetch(name, **options):
        asked.append((name, options["version"]))
        return pixels.astype(float), labels.astype(str).astype(object)

    fetched(fetch)
    monkeypatch.setattr(mnist_data, "NUM_TRAIN", 20)
    found, again = mnist_data.load(None), mnist_data.load(None)
    assert again is found and asked == [("mnist_784", 1)]
    np.testing.assert_array_equal(
        np.rint(found.train_images * 255), pixels[:20].reshape(20, 28, 28)
    )
    np.testing.assert_array_equal(np.rint(found.test_images * 255), pixels[20:].reshape(10, 28, 28))
    np.testing.assert_array_equal(found.train_labels, labels[:20])
    np.testing.assert_array_equal(found.test_labels, labels[20:])
    assert found.test_images.dtype == np.float32 and found.test_labels.dtype == np.int32


@pytest.mark.parametrize("error", [URLError("no route to host"), ValueError("no such\ndata set")])
def test_what_cannot_be_fetched_is_one_line(fetched, error):
    def fetch(*args, **options):
        warnings.warn("Retrying...", stacklevel=1)
        raise error

    fetched(fetch)
    with pytest.raises(mnist_data.NotFetched, match="--data-dir") as caught:
        mnist_data.load(None)
    message = str(caught.value)
    assert message.startswith("mnist=") and type(error).__name__ in message and "\n" not in message
