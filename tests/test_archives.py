"""Arrays in NPZ files that are read in blocks."""

import tracemalloc
import zipfile

import numpy as np
import pytest

import ssm
from ssm.support import archives


def stored(path, values, save=np.savez):
    save(path, values=values)
    with zipfile.ZipFile(path) as file:
        return archives.StoredArray(path, "values", archives.read_header(file, "values"))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("kind", ["<f8", ">f4", "<i2"])
def test_pieces_are_those_of_the_array(save, kind, tmp_path, rng):
    values = (100 * rng.normal(size=(5, 6, 3))).astype(kind)
    array = stored(tmp_path / "a.npz", values, save)
    assert (array.shape, array.dtype) == (values.shape, values.dtype)
    whole = slice(None)
    for ranges in (
        (slice(0, 2), slice(0, 6)),
        (slice(2, 3), slice(1, 4)),
        (slice(2, 3), slice(4, 9)),
        (slice(4, 9), whole),
        (slice(0, 1), slice(5, 6)),  # back
        (slice(3, 3), whole),
        (whole, whole),
    ):
        np.testing.assert_array_equal(array[ranges], values[ranges], strict=True)
    np.testing.assert_array_equal(np.asarray(array), values, strict=True)
    np.testing.assert_array_equal(np.asarray(array, float), values.astype(float), strict=True)


@pytest.mark.parametrize("ranges", [(slice(0, 2), slice(0, 3)), (slice(0, 4, 2), slice(None))])
def test_what_does_not_lie_in_one_piece_is_not_read(ranges, tmp_path):
    with pytest.raises(IndexError, match="not one piece"):
        stored(tmp_path / "a.npz", np.zeros((4, 4, 2)))[ranges]


def test_an_array_in_a_file_is_no_view(tmp_path):
    array = stored(tmp_path / "a.npz", np.zeros((4, 4, 2)))
    with pytest.raises(ValueError, match="without reading"):
        np.asarray(array, copy=False)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damage_is_found_when_it_is_read(save, tmp_path, rng):
    path, values = tmp_path / "a.npz", rng.normal(size=(4, 50, 8))
    array = stored(path, values, save)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ssm.InputError, match=r"^file=.*a.npz.*must be a readable NPZ file"):
        np.asarray(array)
    path.unlink()
    with pytest.raises(ssm.InputError, match=r"^file="):
        array[0:1, 0:1]


def test_little_is_read_of_what_is_compressed(tmp_path):
    """Zeros of 80 MB, which are 80 kB in the file."""
    array = stored(tmp_path / "a.npz", np.zeros((10, 1000, 1000)), np.savez_compressed)
    tracemalloc.start()
    try:
        for i in range(10):
            assert not array[i : i + 1, :].any()
        # a time and the one before it, which is 16 MB, and pieces of 1 MiB
        assert tracemalloc.get_traced_memory()[1] < 24e6
    finally:
        tracemalloc.stop()
