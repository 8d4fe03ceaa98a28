"""scikit-learn's digits, and the split that makes images imbalanced."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments import data
from ssm import InputError


def test_digits_are_scaled():
    images, labels = data.load_digits()
    assert images.shape == (1797, 8, 8)
    assert images.dtype == np.float32
    assert (images.min(), images.max()) == (0, 1)
    assert set(labels) == set(range(10))


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
