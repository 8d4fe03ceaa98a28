"""Sums over samples in blocks, beside plain NumPy on the whole."""

import numpy as np
import pytest

from ssm.measures.sample_sums import ROWS, SampleSums

# Of Householder reflections and of a singular value decomposition alike: c eps sigma_1, with c of the
# order of the number of classes, 12 at most here.
ROUNDING = 50 * np.finfo(float).eps


def summed(logits, labels, splits=()):
    sums = SampleSums(logits.shape[1])
    for block, own in zip(np.split(logits, splits), np.split(labels, splits), strict=True):
        sums.add(block, own)
    return sums


def planted(rng, n, values):
    """A matrix with these singular values, to the rounding of the largest."""
    k = len(values)
    left, right = (np.linalg.qr(rng.normal(size=(m, k)))[0] for m in (n, k))
    return (left * values) @ right.T


def labels_of(rng, n, k):
    return rng.permutation(np.append(np.arange(k), rng.integers(0, k, n - k)))


CASES = {
    "one sample a class": (4, np.ones(4)),
    "small": (9, np.array([3.0, 2.0, 1.0])),
    "one block": (ROWS, np.geomspace(5, 1, 7)),
    "several blocks": (3 * ROWS + 1, np.geomspace(5, 1, 7)),
    "down to 1e-9 of the largest": (2 * ROWS + 40, np.geomspace(1, 1e-9, 10)),
    "all tiny but one": (ROWS + 300, np.array([1.0, *np.full(11, 1e-9)])),
    "rank of two thirds": (2 * ROWS, np.array([4.0, 3, 2, 1, 0, 0])),
    "rank one": (ROWS + 1, np.array([1.0, 0, 0, 0])),
    "nothing": (ROWS + 1, np.zeros(3)),
    "two classes": (1000, np.array([1e3, 1e-3])),
}


@pytest.mark.parametrize("case", CASES)
def test_singular_values_are_right_to_the_rounding_of_the_largest(case, rng):
    """The eigenvalues of Z Z^T would leave errors of 1e-8, ten times the small values."""
    n, values = CASES[case]
    logits = planted(rng, n, values)
    sums = summed(logits, labels_of(rng, n, len(values)))
    found, largest = sums.singular_values(), values[0]
    np.testing.assert_allclose(found, values, rtol=0, atol=ROUNDING * largest)
    dense = np.linalg.svd(logits, compute_uv=False)
    np.testing.assert_allclose(found, dense, rtol=0, atol=ROUNDING * largest)
    # a sum of n k squares, and of k (k + 1) / 2
    np.testing.assert_allclose(sums.energy(1.0), (logits**2).sum(), rtol=1e-13)
    assert not np.tril(sums.triangle, -1).any()


@pytest.mark.parametrize("scale", [2.0**-1000, 2.0**-600, 2.0**330])
def test_what_is_very_small_or_large_keeps_its_digits(scale, rng):
    """Powers of two scale without rounding, and squares of these would vanish, or nearly overflow."""
    logits, labels = rng.normal(size=(ROWS + 88, 5)), labels_of(rng, ROWS + 88, 5)
    sums, scaled = summed(logits, labels), summed(scale * logits, labels)
    values = sums.singular_values()
    np.testing.assert_allclose(
        scaled.singular_values() / scale, values, rtol=0, atol=ROUNDING * values[0]
    )
    np.testing.assert_allclose(scaled.energy(scale), sums.energy(1.0), rtol=1e-13)
    np.testing.assert_array_equal(scaled.class_sums, scale * sums.class_sums)


def test_class_sums_and_correct_samples_by_hand(rng):
    n, k = 2 * ROWS + 7, 6
    logits = rng.integers(-3, 4, size=(n, k))  # exact in any order, with many that are equal
    labels = labels_of(rng, n, k)
    sums = summed(logits, labels)
    for c in range(k):
        own = logits[labels == c]
        np.testing.assert_array_equal(sums.class_sums[:, c], own.sum(axis=0))
        assert sums.correct[c] == sum(row.tolist().index(max(row)) == c for row in own)


def test_blocks_are_the_whole_and_permutations_change_nothing(rng):
    n, k = 1700, 8
    logits, labels = planted(rng, n, np.geomspace(1, 1e-9, k)), labels_of(rng, n, k)
    whole, order = summed(logits, labels), rng.permutation(n)
    for other in (
        summed(logits, labels, [1, 3, 700, 701, 1400]),
        summed(logits, labels, range(100, n, 100)),
        summed(logits[order], labels[order]),
        summed(logits[order], labels[order], [512]),
    ):
        # sums of some 200 numbers of size 1e-2, rounded to 1e-18
        np.testing.assert_allclose(other.class_sums, whole.class_sums, rtol=0, atol=1e-14)
        np.testing.assert_array_equal(other.correct, whole.correct)
        np.testing.assert_allclose(
            other.singular_values(), whole.singular_values(), rtol=0, atol=ROUNDING
        )


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.int8, np.longdouble, ">f4"])
def test_sums_are_of_float64_whatever_the_type(kind, rng):
    """Bit for bit those of the same numbers in float64, in Fortran order and in rows apart too."""
    n, k = ROWS + 100, 5
    logits = (50 * rng.normal(size=(2 * n, k))).astype(kind)
    labels = labels_of(rng, n, k)
    wanted = summed(logits[::2].astype(np.float64), labels)
    for given in (logits[::2], np.asfortranarray(logits[::2])):
        found = summed(given, labels)
        for name in ("class_sums", "correct", "triangle"):
            np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
