"""Class weights of unit mean over samples, and the ways to ask for them."""

import functools
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

import ssm
from ssm import weights
from ssm.problem import make_problem

COUNTS = st.lists(st.integers(1, 10**9), min_size=2, max_size=30)


@given(COUNTS, st.floats(-3, 3))
def test_unit_mean_over_samples_and_the_power_law(counts, exponent):
    w = weights.power_law(counts, exponent)
    assert weights.mean_sample_weight(counts, w) == pytest.approx(1, rel=1e-12)
    n = np.array(counts, dtype=float)
    np.testing.assert_allclose(w / w[0], (n / n[0]) ** -exponent, rtol=1e-10)


@given(COUNTS)
def test_exponent_zero_is_one_to_the_bit(counts):
    assert (weights.power_law(counts, 0.0) == 1).all()


def balanced(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    return compute_class_weight("balanced", classes=np.arange(len(counts)), y=labels)


def test_exponent_one_is_scikit_learns_balanced():
    counts = [50, 20, 3]
    np.testing.assert_allclose(weights.power_law(counts, 1.0), balanced(counts), rtol=1e-14)


@given(COUNTS, st.floats(0, 1, exclude_max=True))
def test_the_effective_number_has_unit_mean(counts, beta):
    w = weights.effective_number(counts, beta)
    assert weights.mean_sample_weight(counts, w) == pytest.approx(1, rel=1e-12)
    # a class that is larger never weighs more
    assert (np.diff(w[np.argsort(counts)]) <= 0).all()


@given(COUNTS)
def test_beta_zero_is_one_to_the_bit(counts):
    assert (weights.effective_number(counts, 0.0) == 1).all()


def test_beta_near_one_is_inverse_frequency():
    counts = [50, 20, 3]
    # they part at order n (1 - b) = 5e-11
    w = weights.effective_number(counts, 1 - 1e-12)
    np.testing.assert_allclose(w, weights.power_law(counts, 1.0), rtol=1e-9)


@pytest.mark.parametrize("beta", [1e-300, 0.5, 0.999, 1 - 1e-6, 1 - 1e-15])
def test_the_effective_number_against_many_digits(beta):
    counts = [1, 2, 7, 1000, 10**6, 10**15]
    with mpmath.workdps(60):
        b = mpmath.mpf(beta)
        w = [(1 - b) / (1 - b**n) for n in counts]
        exact = [float(x * sum(counts) / mpmath.fdot(w, counts)) for x in w]
    np.testing.assert_allclose(weights.effective_number(counts, beta), exact, rtol=1e-14)


@pytest.mark.parametrize("beta", [-0.1, 1.0, 1.5, float("nan")])
def test_beta_outside_is_refused(beta):
    with pytest.raises(ssm.InputError, match="beta="):
        weights.effective_number([3, 4], beta)


@pytest.mark.parametrize("exponent", [float("nan"), float("inf"), -float("inf"), "1"])
def test_an_exponent_that_is_no_number_is_refused(exponent, untyped):
    with pytest.raises(ssm.InputError, match=r"^exponent="):
        weights.power_law([3, 4], exponent)


@pytest.mark.parametrize("counts", [[1, 2], [50, 20, 3, 1], [10**7, 10**15]])
def test_the_effective_number_of_all_samples_against_many_digits(counts):
    """b = (n - 1) / n, n the samples of all classes: beyond 10^16 of them b itself rounds to 1."""
    n = sum(counts)
    with mpmath.workdps(60):
        b = (n - mpmath.mpf(1)) / n
        w = [(1 - b) / (1 - b**m) for m in counts]
        exact = [float(x * n / mpmath.fdot(w, counts)) for x in w]
    np.testing.assert_allclose(weights.effective_number(counts), exact, rtol=1e-14)


def test_the_effective_number_of_many_samples_depends_on_shares_only():
    """b^(n pi) -> e^-pi, so weights go as 1 / (1 - e^-pi): they differ less than by inverse
    frequency."""
    shares = np.array([0.9, 0.09, 0.01])
    expected = 1 / (1 - np.exp(-shares))
    w = weights.effective_number(10**9 * shares)
    # they part at order 1 / n
    np.testing.assert_allclose(w / w[0], expected / expected[0], rtol=1e-8)
    assert 1 < w[2] / w[0] < 90 and w[2] / w[0] == pytest.approx(59.63, rel=1e-3)


def test_no_more_than_one_sample_is_erm():
    for counts in ([0.7, 0.3], [0.2, 0.1]):  # samples that are weighted to sum to that
        assert (weights.effective_number(counts) == 1).all()


BAD_COUNTS = {
    "zero": [3, 0],
    "negative": [3, -1],
    "not a number": [3.0, np.nan],
    "infinite": [3.0, np.inf],
    "none": [],
    "two axes": [[3, 1], [2, 2]],
    "ragged": [[3], [1, 2]],
    "words": ["3", "1"],
    "truth values": [True, True],
    "a number": 3,
    "nothing": None,
}
OF_COUNTS = {
    "power law": lambda counts: weights.power_law(counts, 1.0),
    "effective number": lambda counts: weights.effective_number(counts, 0.9),
    "of all samples": weights.effective_number,
    "no weights": lambda counts: weights.class_weights(None, counts),
    "named weights": lambda counts: weights.class_weights("sqrt", counts),
    "given weights": lambda counts: weights.class_weights([1.0, 2.0], counts),
    "mean": lambda counts: weights.mean_sample_weight(counts, np.ones(2)),
    "share": lambda counts: weights.effective_sample_share(counts, np.ones(2)),
}


@pytest.mark.parametrize("kind", BAD_COUNTS)
@pytest.mark.parametrize("name", OF_COUNTS)
def test_counts_that_are_none_are_refused_by_name(name, kind, untyped):
    with pytest.raises(ssm.InputError, match=r"^counts=.*: must be positive finite numbers"):
        OF_COUNTS[name](BAD_COUNTS[kind])


def test_weighted_samples_need_not_count_whole():
    """Weights of unit mean do not depend on the unit of the counts."""
    counts = np.array([50.0, 20.0, 3.0])
    expected = weights.power_law(counts, 0.7)
    np.testing.assert_allclose(weights.power_law(counts / 64, 0.7), expected, rtol=1e-14)


@pytest.mark.parametrize("exponent", [-400.0, 400.0])
def test_steep_power_laws_stay_finite(exponent):
    """All of the weight is on one class, though the ratio's power is 10^3600."""
    counts = [1, 10**9]
    w = weights.power_law(counts, exponent)
    kept = 0 if exponent > 0 else 1
    assert w[1 - kept] == 0 and w[kept] == pytest.approx(sum(counts) / counts[kept], rel=1e-14)


COUNTED = [50, 20, 3, 1]


@pytest.mark.parametrize("name", weights.NAMED)
def test_named_weights_have_unit_mean(name):
    w = weights.class_weights(name, COUNTED)
    assert weights.mean_sample_weight(COUNTED, w) == pytest.approx(1, rel=1e-14)


def cui_et_al(counts):
    """(1 - b) / (1 - b^n_c) at b = (n - 1) / n, scaled to unit mean, as it is written."""
    n, total = np.array(counts, dtype=float), sum(counts)
    b = (total - 1) / total
    w = (1 - b) / (1 - b**n)
    return w * total / (w * n).sum()


def test_the_names():
    n = np.array(COUNTED, dtype=float)
    named = {
        "balanced": balanced(COUNTED),
        "sqrt": n**-0.5 * n.sum() / (n**0.5).sum(),
        "effective": cui_et_al(COUNTED),
    }
    assert set(named) == set(weights.NAMED)
    for name, expected in named.items():
        np.testing.assert_allclose(weights.class_weights(name, COUNTED), expected, rtol=1e-14)


GIVEN = {
    "none": (None, [1, 1, 1, 1]),
    "dict": ({2: 7, 0: 0.5}, [0.5, 1, 7, 1]),
    "dict of NumPy integers": ({np.int64(3): 2}, [1, 1, 1, 2]),
    "empty dict": ({}, [1, 1, 1, 1]),
    "list": ([1, 2, 3, 4.5], [1, 2, 3, 4.5]),
    "integers": (np.array([4, 3, 2, 1]), [4, 3, 2, 1]),
    "single precision": (np.array([0.5, 1, 2, 4], dtype=np.float32), [0.5, 1, 2, 4]),
    "function": (lambda counts: 1 / counts, [1 / 50, 1 / 20, 1 / 3, 1]),
    "law": (functools.partial(weights.power_law, exponent=0.0), [1, 1, 1, 1]),
}


@pytest.mark.parametrize("name", GIVEN)
def test_given_weights_are_used_as_they_are(name):
    spec, expected = GIVEN[name]
    w = weights.class_weights(spec, np.array(COUNTED))
    assert w.dtype == np.float64
    np.testing.assert_array_equal(w, expected)


def test_weights_that_are_given_are_copied():
    given_ones = np.ones(4)
    weights.class_weights(given_ones, COUNTED)[0] = 2
    assert given_ones[0] == 1


REFUSED = {
    "unknown name": ("balance", "one of balanced, sqrt, effective"),
    "too few": ([1.0, 2.0, 3.0], "an array of 4"),
    "too many axes": (np.ones((4, 1)), "an array of 4"),
    "ragged": ([[1.0], [1.0, 2.0], [1.0], [1.0]], "an array of 4"),
    "zero": ([1.0, 0.0, 1.0, 1.0], "positive"),
    "negative": ([1.0, -2.0, 1.0, 1.0], "positive"),
    "infinite": ([1.0, np.inf, 1.0, 1.0], "finite"),
    "not a number": ([1.0, np.nan, 1.0, 1.0], "finite"),
    "strings": (["1", "2", "3", "4"], "an array of 4"),
    "booleans": ([True, True, False, True], "an array of 4"),
    "complex": ([1.0, 1j, 1.0, 1.0], "an array of 4"),
    "a set has no order": ({1.0, 2.0, 3.0, 4.0}, "an array of 4"),
    "a number": (2.0, "an array of 4"),
    "no class": ({4: 2.0}, r"a dict by class \(0 to 3\)"),
    "negative class": ({-1: 2.0}, "a dict by class"),
    "class by name": ({"cat": 2.0}, "a dict by class"),
    "negative in a dict": ({1: -2.0}, "positive"),
    "string in a dict": ({1: "2"}, "positive"),
    "function of one number": (lambda counts: 1.0, "an array of 4"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_anything_else_is_refused(name):
    spec, allowed = REFUSED[name]
    with pytest.raises(ssm.InputError, match=rf"^class_weights=.*: must be .*{allowed}"):
        weights.class_weights(spec, COUNTED)


@given(COUNTS, st.data())
def test_the_effective_sample_share(counts, data):
    size: dict[str, Any] = {"min_size": len(counts), "max_size": len(counts)}
    w = np.array(data.draw(st.lists(st.floats(1e-3, 1e3), **size)))
    share = weights.effective_sample_share(counts, w)
    assert 0 < share <= 1
    n = np.array(counts) / sum(counts)
    assert share == pytest.approx((n * w).sum() ** 2 / (n * w**2).sum(), rel=1e-12)
    # all the same scale, even where squares would overflow
    assert weights.effective_sample_share(counts, w * 1e200) == pytest.approx(share, rel=1e-12)
    assert weights.effective_sample_share(counts, np.full(len(counts), w[0])) == 1


def test_the_effective_sample_share_counts_samples():
    """Weights of zero and one leave the samples that have one; Kish's formula over samples."""
    counts, w = [30, 10], np.array([1.0, 3.0])
    assert weights.effective_sample_share(counts, np.array([0.0, 1.0])) == pytest.approx(0.25)
    each = np.repeat(w, counts)
    kish = each.sum() ** 2 / (each**2).sum() / each.size
    assert weights.effective_sample_share(counts, w) == pytest.approx(kish, rel=1e-14)


@pytest.mark.parametrize(
    "given",
    [[1.0, -1.0], [1.0, np.nan], [np.inf, 1.0], [0.0, 0.0], [1.0], [1.0, 1.0, 1.0], [[1.0, 1.0]]],
)
@pytest.mark.parametrize("measure", [weights.mean_sample_weight, weights.effective_sample_share])
def test_weights_that_are_none_are_not_measured(measure, given, untyped):
    with pytest.raises(ssm.InputError, match=r"^class_weights=.*: must be 2 finite numbers"):
        measure([30, 10], np.array(given))


def test_unit_mean_over_classes_is_the_published_scale(counts=(500, 30, 4), beta=0.99):
    """Cui et al. 2019: (1 - b) / (1 - b^n), divided by their sum and times k; other laws, like theirs,
    keep their ratios. 1e-12: rounding."""
    published = (1 - beta) / (1 - beta ** np.array(counts))
    published = published / published.sum() * len(counts)
    w = weights.of_unit_class_mean(weights.effective_number(counts, beta))
    np.testing.assert_allclose(w, published, rtol=1e-12)
    np.testing.assert_allclose(weights.of_unit_class_mean(7 * w), w, rtol=1e-12)
    config = ssm.Config(profile="custom", num_classes=3, counts=counts, class_weights=tuple(w))
    np.testing.assert_array_equal(make_problem(config).class_weights, w)  # they are used as given
    with pytest.raises(ssm.InputError, match="class_weights="):
        weights.of_unit_class_mean(np.array([1.0, 0.0]))
