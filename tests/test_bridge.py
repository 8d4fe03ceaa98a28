"""The bridge experiment: its data, its training against a plain one, and what is read off."""

from __future__ import annotations

import numpy as np
import pytest

import ssm
from experiments import bridge_network as networks
from experiments import data, tangent_kernels
from experiments.tangent_kernels import ContrastStart
from ssm import weights
from ssm.practice.network import kernels

Images = tuple[np.ndarray, np.ndarray]
"""And the labels of them."""


@pytest.fixture(scope="module")
def digits() -> Images:
    return data.load_digits()


def test_noise_takes_its_share_and_the_length_stays(digits: Images):
    plain, noisy = (networks.samples(*digits, noise, 0) for noise in (0.0, 0.7))
    pixels, drawn = noisy.X[:, :64], noisy.X[:, 64:]
    np.testing.assert_allclose(pixels, np.sqrt(0.3) * plain.X[:, :64], rtol=1e-5, atol=1e-6)
    lengths = [(x.astype(float) ** 2).sum(axis=1).mean() for x in (plain.X, noisy.X, drawn)]
    assert lengths[1] == pytest.approx(lengths[0], rel=0.02)  # 330 x 266 normal numbers
    assert lengths[2] == pytest.approx(0.7 * lengths[0], rel=0.02)
    np.testing.assert_array_equal(np.bincount(plain.labels), networks.COUNTS)
    np.testing.assert_array_equal(np.bincount(plain.held_out_labels), networks.HELD_OUT)
    assert len(np.unique(np.vstack([plain.X, plain.held_out_X]), axis=0)) == 580  # no image twice


@pytest.mark.parametrize(("seed", "minorities"), [(0, {5, 6, 7, 8, 9}), (1, {0, 1, 2, 3, 4})])
def test_odd_seeds_make_the_other_digits_minorities(digits, seed, minorities):
    labels = digits[1]
    images = np.zeros((len(labels), 1, 8, 8))
    images[:, 0, 0, 0] = labels  # which show their digit in one pixel
    drawn = networks.samples(images, labels, 0.0, seed)
    for X, named in ((drawn.X, drawn.labels), (drawn.held_out_X, drawn.held_out_labels)):
        shown = np.round(X[:, 0] - X[:, 0].min()).astype(int)
        assert set(shown[named >= 5]) == minorities
        np.testing.assert_array_equal((shown + 5 * seed) % 10, named)


def test_orthogonal_inputs_have_the_models_coupling(digits: Images):
    like = networks.samples(*digits, 0.0, 0)
    found = kernels.measured_coupling(networks.orthogonal_samples(0.1, like, 0).X, like.labels)
    np.testing.assert_allclose(found.class_coupling, 0.1, atol=1e-5)  # float32


def test_contrasts_are_the_blocks_strengths(rng):
    labels = np.repeat(np.arange(10), networks.COUNTS)
    logits = rng.normal(size=(1, len(labels), 10))
    tracked = ssm.track(logits, labels)
    expected = (tracked.block_strength / tracked.block_target).sel(block=["majority", "minority"])
    means = np.array([logits[0, labels == c].mean(axis=0) for c in range(10)])
    np.testing.assert_allclose(networks.contrasts(means), expected[0], rtol=1e-10)


@pytest.mark.parametrize("scale", [networks.SMALL, 1.0])
def test_training_is_gradient_descent_on_the_weighted_risk(digits: Images, scale: float):
    drawn = networks.samples(*digits, 0.7, 0)
    begun = networks.start(drawn, scale, 0.5, 0.3, 0)
    record = networks.train(begun, drawn, max_steps=3)
    H = networks.features(begun.params, drawn.X)
    A, a, W, b = (np.asarray(p, dtype=float) for layer in begun.params for p in layer)
    A, w = A[: drawn.X.shape[1]], weights.power_law(networks.COUNTS, 0.5)
    found, expected = (
        kernels.coupling_of_moments(
            record.gram[0].astype(float), record.squares[0].astype(float), networks.COUNTS
        ),
        kernels.measured_coupling(H, drawn.labels),
    )
    assert found.equal_sampled == pytest.approx(expected.equal_sampled, abs=1e-5)
    X, y, n = drawn.X.astype(float), drawn.labels, len(drawn.labels)
    gains = []
    for step in range(4):
        H = np.maximum(X @ A + a, 0)
        Z = H @ W + b
        means = np.array([Z[y == c].mean(axis=0) for c in range(10)])
        gains.append(np.asarray(networks.contrasts(means)))
        said = (np.maximum(drawn.held_out_X @ A + a, 0) @ W + b).argmax(axis=1)
        recall = [(said[drawn.held_out_labels == c] == c).mean() for c in range(10)]
        assert np.abs(record.recall[step] - recall).max() < 0.05  # a tie of one image of 25
        P = np.exp(Z - Z.max(axis=1, keepdims=True))
        G = w[y][:, None] * (P / P.sum(axis=1, keepdims=True) - np.eye(10)[y]) / n
        back = (G @ W.T) * (H > 0)
        A, a = A - 0.3 * X.T @ back, a - 0.3 * back.sum(axis=0)
        W, b = W - 0.3 * H.T @ G, b - 0.3 * G.sum(axis=0)
    np.testing.assert_allclose(record.gain, np.array(gains) - gains[0], atol=1e-5)  # float32


def test_balance_is_where_the_ratio_of_times_passes_one():
    times = np.array([[[10, 40], [10, 20], [20, 10], [40, 10]]], dtype=float)
    counts = np.array([100, 100, 10, 10])
    one = kernels.coupling_of_moments(np.eye(4), np.full(4, 2.0), counts)
    begun = ContrastStart(np.array([100.0, 10.0]), np.array([5.0, 2.0]), np.array([1e-3, 1e-3]))
    own = networks.Outcome(times, [one], [one], np.zeros((1, 4)), [begun])
    np.testing.assert_allclose(own.powers, [np.log10([4, 2, 0.5, 0.25])], rtol=1e-12)
    assert own.measured == own.each[0] == pytest.approx(0.75)
    assert own.predicted == one.exponent and own.expected == [begun.exponent]
    assert own.slope == pytest.approx(np.polyfit(networks.EXPONENTS, own.powers[0], 1)[0])


def test_networks_of_some_seeds_alone():
    times = np.arange(1.0, 25.0).reshape(3, 4, 2)
    counts = np.array([100, 100, 10, 10])
    every = [kernels.coupling_of_moments(np.eye(4), np.full(4, x), counts) for x in (2.0, 3.0, 4.0)]
    begun = [
        ContrastStart(np.array([100.0, 10.0]), np.ones(2), np.full(2, x)) for x in (1.0, 2.0, 3.0)
    ]
    some = networks.Outcome(times, every, [], np.zeros((3, 4)), begun).of([0, 2])
    np.testing.assert_array_equal(some.times, times[[0, 2]])
    assert some.at_start == [every[0], every[2]] and some.early == []
    assert some.held_out.shape == (2, 4) and some.starts == [begun[0], begun[2]]


def test_what_contrasts_start_from(digits: Images):
    """Of one hidden layer of rectified units the tangent kernel of the first is written out:
    K_ij = (x_i x_j + 1) sum_m W_am^2 [both open], averaged over logits a; of open units it is X^T X."""
    drawn = networks.samples(*digits, 0.7, 0)
    begun = networks.start(drawn, 1.0, 0.0, 1.0, 0)
    X, y = drawn.X.astype(float), drawn.labels
    A, a, W, _ = (np.asarray(p, dtype=float) for layer in begun.params for p in layer)
    A = A[: X.shape[1]]
    W = W - W.mean(axis=1, keepdims=True)
    gates = (X @ A + a > 0).astype(float)
    padded, some = networks.padded(drawn.X), slice(None, None, 6)  # 55 samples of all classes
    own = (X[some] @ X[some].T + 1) * ((gates[some] * (W**2).sum(axis=1)) @ gates[some].T)
    own = own / (W**2).sum()
    K = tangent_kernels.tangent_kernel(begun.params, padded[some], tangent_kernels.rectified())
    np.testing.assert_allclose(K, own, rtol=1e-3, atol=1e-3 * np.abs(own).mean())  # float32
    left = tangent_kernels.contrasts()
    np.testing.assert_allclose(left.T @ left, np.eye(8), atol=1e-14)
    np.testing.assert_allclose([left[:5].sum(axis=0), left[5:].sum(axis=0)], 0, atol=1e-14)
    for group in (0, 1):
        u = left[:, 4 * group : 4 * group + 4]
        v = u[y] / np.sqrt(networks.COUNTS[y])[:, None]
        p = W @ u
        for units, H, each in (
            (tangent_kernels.opened, X @ A + a, None),
            (tangent_kernels.rectified(), gates * (X @ A + a), gates),
        ):
            found = tangent_kernels.measured_start(begun.params, padded, y, units)
            moved = []  # v^T (x_i x_j + 1) sum_m p_m^2 [both open] v of each contrast
            for j in range(4):
                pulled = v[:, j, None] * (np.ones_like(gates) if each is None else each)
                squares = ((X.T @ pulled) ** 2).sum(axis=0) + pulled.sum(axis=0) ** 2
                moved.append(p[:, j] ** 2 @ squares)
            kappa = np.mean(moved) / (p**2).sum(axis=0).mean()
            size = (np.mean(moved) + ((H.T @ v) ** 2).sum(axis=0).mean()) / kappa
            assert found.kernel[group] == pytest.approx(kappa, rel=1e-3)  # float32
            assert found.size[group] == pytest.approx(size, rel=1e-3)
            assert found.counts[group] == (60, 6)[group]
