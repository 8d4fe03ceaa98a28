"""The weights that a weighted mean over mini-batches trains with, against every batch there is, many digits,
known limits and draws."""

import itertools

import mpmath
import numpy as np
import pytest

import ssm
from ssm import weights

ROUNDING = 1e-13  # the trapezoidal rule is right to 1e-18; some hundred terms round to a few 1e-15


def by_enumeration(shares, class_weights, batch_size):
    """E[m_c w_c / sum_j m_j w_j] / pi_c over all sequences of draws, each with its probability."""
    total = np.zeros(len(shares))
    for draws in itertools.product(range(len(shares)), repeat=batch_size):
        m = np.bincount(draws, minlength=len(shares))
        total += np.prod(np.array(shares) ** m) * m * class_weights / (m @ class_weights)
    return total / shares


@pytest.mark.parametrize("batch_size", [1, 2, 5])
@pytest.mark.parametrize(
    ("shares", "class_weights"),
    [
        ([0.6, 0.3, 0.1], [1.0, 2.5, 7.0]),
        ([0.6, 0.3, 0.1], [1e-8, 1.0, 3e6]),
        ([0.5, 0.2, 0.2, 0.1], [3.0, 0.1, 1.0, 1.0]),
        ([0.999, 0.001], [1.0, 1e3]),
    ],
)
def test_effective_weights_against_every_batch(shares, class_weights, batch_size):
    found = weights.effective_class_weights(shares, class_weights, batch_size)
    expected = by_enumeration(shares, np.array(class_weights), batch_size)
    np.testing.assert_allclose(found, expected, rtol=ROUNDING)
    assert np.array(shares) @ found == pytest.approx(1, rel=ROUNDING)


@pytest.mark.parametrize(
    ("w", "share", "batch_size"),
    [
        (100.0, 1 / 101, 128),
        (1e6, 1e-6, 1000),
        (1e-5, 0.3, 500),
        (1e100, 1e-12, 50),
        (1e4, 0.5, 300),
    ],
)
def test_the_effective_ratio_against_many_digits(w, share, batch_size):
    with mpmath.workdps(40):
        x, pi = mpmath.mpf(w), mpmath.mpf(share)
        minority = majority = mpmath.mpf(0)
        for m in range(batch_size + 1):
            p = mpmath.binomial(batch_size, m) * pi**m * (1 - pi) ** (batch_size - m)
            minority += p * m * x / (m * x + batch_size - m)
            majority += p * (batch_size - m) / (m * x + batch_size - m)
        exact = float(minority / pi / (majority / (1 - pi)))
    assert weights.effective_ratio(w, share, batch_size) == pytest.approx(exact, rel=ROUNDING)


def test_the_table_of_effective_ratios():
    """As it was worked out by the binomial sum, to its last printed digit."""
    ratios = np.array([[10.0], [100.0]])
    found = weights.effective_ratio(ratios, 1 / (1 + ratios), [1, 8, 32, 128])
    assert found.round(1).tolist() == [[1.0, 5.3, 8.5, 9.6], [1.0, 7.7, 27.0, 65.3]]
    two = weights.effective_class_weights([10, 1], [1, 10], 8)
    assert two[1] / two[0] == pytest.approx(found[0, 1], rel=ROUNDING)


def test_the_limits_of_batches():
    """One sample ignores weights; the rest of a rare sample's batch is of the other class; the law of large
    numbers leaves a difference of order 1 / (pi B)."""
    counts, w = np.array([900, 90, 10]), np.array([1.0, 5.0, 80.0])
    np.testing.assert_allclose(weights.effective_class_weights(counts, w, 1), 1, rtol=ROUNDING)
    asked = w / weights.mean_sample_weight(counts, w)
    for batch_size in (10**6, 10**9, 2**53):
        found = weights.effective_class_weights(counts, w, batch_size)
        np.testing.assert_allclose(found, asked, rtol=1 / (0.01 * batch_size) + ROUNDING)
    sizes = np.array([1, 2, 49, 500])
    rare = weights.effective_ratio(50.0, 1e-16, sizes)
    np.testing.assert_allclose(rare, 50 * sizes / (50 + sizes - 1), rtol=ROUNDING)


def test_what_effective_weights_do_not_depend_on():
    """The scale of weights and counts, and how a class is split into classes of its own weight; equal weights
    stay so."""
    whole = weights.effective_class_weights([80, 20], [1, 6], 16)
    np.testing.assert_allclose(
        weights.effective_class_weights([8, 2], [1e-200, 6e-200], 16), whole, rtol=ROUNDING
    )
    split = weights.effective_class_weights([50, 30, 19, 1], [1, 1, 6, 6], 16)
    np.testing.assert_allclose(split, whole[[0, 0, 1, 1]], rtol=ROUNDING)
    np.testing.assert_allclose(
        weights.effective_class_weights([7, 2, 1], [3, 3, 3], 12), 1, rtol=ROUNDING
    )
    assert weights.effective_ratio(7.0, 0.3, 12) * weights.effective_ratio(
        1 / 7, 0.7, 12
    ) == pytest.approx(1, rel=ROUNDING)


def test_effective_weights_against_draws(rng):
    """10^5 batches, within four standard errors."""
    shares, w, batch_size = np.array([0.7, 0.25, 0.05]), np.array([1.0, 3.0, 20.0]), 24
    m = rng.multinomial(batch_size, shares, size=100_000)
    each = m * w / (m @ w)[:, None] / shares
    found = weights.effective_class_weights(shares, w, batch_size)
    assert (np.abs(each.mean(0) - found) <= 4 * each.std(0) / np.sqrt(len(each))).all()


def test_batches_without_replacement_are_nearer_to_what_was_asked():
    """All batches of 4 or 10 of 12 samples: those of an epoch. A batch of all of them has what was asked."""
    labels, w = np.repeat([0, 1], [9, 3]), np.array([1.0, 6.0])
    for batch_size in (4, 10, 12):
        total = np.zeros(2)
        batches = list(itertools.combinations(range(12), batch_size))
        for batch in batches:
            m = np.bincount(labels[list(batch)], minlength=2)
            total += m * w / (m @ w) / len(batches)
        without = total[1] / 0.25 / (total[0] / 0.75)
        law = weights.effective_ratio(6.0, 0.25, batch_size)
        assert law < without <= 6 * (1 + 1e-12)
        assert without - law < (6 - law) * batch_size / 12 * (1 + 1e-12)


def test_the_more_samples_a_batch_has_the_nearer_it_is_to_what_was_asked():
    sizes = 2 ** np.arange(20)
    found = weights.effective_ratio([[2.0], [30.0], [1e4]], 0.01, sizes)
    assert (np.diff(found, axis=1) > 0).all()
    assert found.shape == (3, 20) and isinstance(weights.effective_ratio(2, 0.5, 4), float)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("batch_size", ([3, 1], [1, 2], 0)),
        ("batch_size", ([3, 1], [1, 2], 2.0)),
        ("batch_size", ([3, 1], [1, 2], True)),
        ("class_weights", ([3, 1], [1, 0], 4)),
        ("class_weights", ([3, 1], [1e-200, 1e200], 4)),
        ("class_weights", ([3, 1], [1, 2, 3], 4)),
        ("counts", ([3, 0], [1, 2], 4)),
    ],
)
def test_what_effective_class_weights_refuse(name, values, untyped):
    with pytest.raises(ssm.InputError, match=f"^{name}="):
        weights.effective_class_weights(*values)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("weight_ratio", (0.0, 0.5, 4)),
        ("weight_ratio", (np.inf, 0.5, 4)),
        ("minority_share", (2.0, 1.0, 4)),
        ("minority_share", (2.0, "half", 4)),
        ("batch_size", (2.0, 0.5, 4.0)),
        ("batch_size", (2.0, 0.5, [4, 0])),
        ("weight_ratio, minority_share, batch_size", ([2.0, 3.0], 0.5, [1, 2, 3])),
    ],
)
def test_what_the_effective_ratio_refuses(name, values):
    with pytest.raises(ssm.InputError, match=f"^{name}="):
        weights.effective_ratio(*values)
