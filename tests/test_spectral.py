"""The label matrix's spectrum from a k x k problem, and what logits hold of it."""

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssm import spectral
from ssm.problem import membership, simplex_labels

PROFILES = {
    "step": (50,) * 7 + (5,) * 3,
    "k = 2": (40, 3),
    "k = 2, equal": (7, 7),
    "balanced": (6,) * 5,
    "long tail": (100, 46, 21, 10, 5, 2),
    "odd": (1, 7, 3, 3, 90, 7, 1),
    "k = 50, step": (100,) * 25 + (1,) * 25,
    "k = 50, long tail": tuple(round(500 * 500 ** (-c / 49)) for c in range(50)),
}


def label_matrix(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    return simplex_labels(labels, len(counts)), labels


@pytest.mark.parametrize("exponent", [0, 0.5, 1])
@pytest.mark.parametrize("counts", PROFILES.values(), ids=PROFILES)
def test_singular_values_against_a_dense_decomposition(counts, exponent):
    S, labels = label_matrix(counts)
    w = np.array(counts, dtype=float) ** -exponent
    dense = np.linalg.svd(S * w[labels], compute_uv=False)
    values = spectral.label_spectrum(counts, w).singular_values
    np.testing.assert_allclose(values, dense[:-1], rtol=1e-12)
    assert dense[-1] < 1e-12 * dense[0]


@pytest.mark.parametrize("counts", PROFILES.values(), ids=PROFILES)
def test_the_basis_decomposes_the_label_matrix(counts):
    S, labels = label_matrix(counts)
    spectrum = spectral.label_spectrum(counts)
    U, s = spectrum.left, spectrum.singular_values
    V = (U / s)[labels]
    np.testing.assert_allclose(U.T @ U, np.eye(len(s)), atol=1e-12)
    np.testing.assert_allclose(V.T @ V, np.eye(len(s)), atol=1e-12)
    np.testing.assert_allclose((U * s) @ V.T, S, atol=1e-12)
    assert (np.diff(s) <= 0).all()


@pytest.mark.parametrize("rho", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.3, 2.0)])
def test_step_formulas(rho, weights):
    k, n_maj, n_min = 10, 60, 4
    k_min = round(rho * k)
    counts = [n_maj] * (k - k_min) + [n_min] * k_min
    w_maj, w_min = weights
    w = np.repeat(weights, (k - k_min, k_min))
    spectrum = spectral.label_spectrum(counts, w)
    expected = {
        "majority": (w_maj * np.sqrt(n_maj), k - k_min - 1),
        "cross": (np.sqrt(rho * n_maj * w_maj**2 + (1 - rho) * n_min * w_min**2), 1),
        "minority": (w_min * np.sqrt(n_min), k_min - 1),
    }
    for block, (value, multiplicity) in expected.items():
        mine = spectrum.singular_values[spectrum.blocks == block]
        np.testing.assert_allclose(mine, np.full(multiplicity, value), rtol=1e-13)


def test_equal_counts_keep_their_blocks():
    groups = ["majority"] * 3 + ["minority"] * 2
    blocks = spectral.label_spectrum([5] * 5, class_groups=groups).blocks
    assert sorted(blocks) == ["cross", "majority", "majority", "minority"]


def test_every_long_tail_component_has_a_block():
    spectrum = spectral.label_spectrum(PROFILES["long tail"])
    assert set(spectrum.blocks) <= set(spectral.BLOCKS) and spectrum.blocks[0] == "majority"
    assert spectrum.blocks[-1] == "minority"


@pytest.mark.parametrize("counts", PROFILES.values(), ids=PROFILES)
def test_known_strengths_come_back(counts, rng):
    S, labels = label_matrix(counts)
    k = len(counts)
    spectrum = spectral.label_spectrum(counts)
    planted = rng.uniform(0.5, 2, size=k - 1)
    V = (spectrum.left / spectrum.singular_values)[labels]
    noise = rng.normal(size=(k, len(labels)))
    noise -= spectrum.left @ (spectrum.left.T @ noise @ V) @ V.T  # outside the basis
    Z = (spectrum.left * planted) @ V.T + noise
    sums = Z @ membership(labels, k)
    np.testing.assert_allclose(spectral.strengths(sums, spectrum), planted, rtol=1e-11)
    share = spectral.residual(planted, np.array((Z**2).sum()))
    np.testing.assert_allclose(share, (noise**2).sum() / (Z**2).sum(), rtol=1e-9)
    exact = spectral.class_strengths(S @ membership(labels, k), np.array(counts))
    np.testing.assert_allclose(exact, 1, rtol=1e-12)


def test_block_means_do_not_depend_on_the_basis_of_a_multiplet(rng):
    counts = (9, 9, 9, 2, 2, 2)
    spectrum = spectral.label_spectrum(counts)
    sums = rng.normal(size=(6, 6))
    mine = spectrum.blocks == "majority"
    Q, _ = np.linalg.qr(rng.normal(size=(mine.sum(), mine.sum())))
    left = spectrum.left.copy()
    left[:, mine] = left[:, mine] @ Q
    means = [
        spectral.block_means(spectral.strengths(sums, basis), spectrum.blocks)
        for basis in (spectrum, spectrum._replace(left=left))
    ]
    np.testing.assert_allclose(*means, rtol=1e-12)


@given(st.floats(0.05, 0.95), st.floats(0.1, 10))
def test_learning_time_interpolates(level, rate):
    times = np.linspace(0, 2, 9)
    progress = np.stack([rate * times / 2, np.full(9, np.nan), np.zeros(9)], axis=1)
    found = spectral.learning_times(times, progress, level)
    expected = 2 * level / rate
    if expected > 2:
        assert np.isnan(found[0])
    else:
        assert found[0] == pytest.approx(expected, rel=1e-9)
    assert np.isnan(found[1:]).all()


def test_learning_time_of_what_is_learned_at_once_is_the_first_time():
    assert spectral.learning_times(np.array([1.0, 2.0]), np.array([0.7, 0.9])) == 1.0


def test_learning_times_go_across_gaps():
    """As if what was not observed were not there; a first value above the level is that of its time."""
    times, nan = np.array([0.0, 1.0, 2.0, 4.0]), np.nan
    progress = np.array([[0.0, nan, 0.1], [nan, nan, nan], [nan, 0.8, 0.2], [1.0, 0.9, 0.3]])
    found = spectral.learning_times(times, progress)
    np.testing.assert_allclose(found[:2], [2.0, 2.0])
    assert np.isnan(found[2])
    assert spectral.learning_times(times[[0, 3]], progress[[0, 3], 0]) == found[0]


def test_graded_singular_values_keep_their_digits(rng):
    """Orthogonal rows of sizes from 1 to 1e-12, barely mixed: the small values come out to ten
    digits, where the square roots of the eigenvalues of X X^T have none below 1e-8."""
    sizes = 10.0 ** -np.arange(0, 13, 2)
    rows = np.linalg.qr(rng.normal(size=(40, 7)))[0].T
    mixed = np.eye(7) + 0.3 * rng.normal(size=(7, 7))
    X = sizes[:, None] * (mixed @ rows)
    # the exact values: those of the small well-scaled factor, found with 40 digits
    with mpmath.workdps(40):
        exact = mpmath.svd_r(mpmath.diag(sizes.tolist()) * mpmath.matrix(mixed.tolist()))[1]
    exact = np.array(sorted(map(float, exact), reverse=True))
    found = spectral.singular_values(X @ X.T)
    np.testing.assert_allclose(found, exact, rtol=1e-10)


def test_singular_values_of_a_degenerate_gram():
    X = np.array([[1.0, 0, 0], [1.0, 0, 0], [0, 0, 0]])
    found = spectral.singular_values(X @ X.T)
    np.testing.assert_allclose(
        found, [np.sqrt(2), 0, 0], atol=1e-6
    )  # parallel rows: half the digits
    np.testing.assert_array_equal(spectral.singular_values(np.zeros((2, 3, 3))), np.zeros((2, 3)))


def test_block_weights_are_shares_of_mean_targets(rng):
    spectrum = spectral.label_spectrum(np.array([8, 8, 2, 2]))
    strength = rng.normal(size=3)
    means = [spectral.block_means(x, spectrum.blocks) for x in (strength, spectrum.singular_values)]
    np.testing.assert_allclose(spectral.block_weights(spectrum) @ strength, means[0] / means[1])
    alone = spectral.block_weights(spectral.label_spectrum([5, 5, 5]))
    assert np.isnan(alone[1:]).all() and np.isfinite(alone[0]).all()  # one block has components
