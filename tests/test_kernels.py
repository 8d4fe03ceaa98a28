"""The coupling measured from features: exact where it is known, and blind to what must not matter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ssm import InputError, practice, theory
from ssm.config import Config
from ssm.practice.network import kernels
from ssm.problem import make_problem

COUNTS = (8, 5, 5, 2)


def features_with(kernel):
    """H with H H^T = kernel, by its eigenvectors."""
    values, vectors = np.linalg.eigh(kernel)
    return vectors * np.sqrt(values.clip(0))


def block_kernel(couplings, counts, sizes=None):
    """K = blockdiag(a_c ((1 - c_c) I + c_c 11^T)), and the labels."""
    labels = np.repeat(np.arange(len(counts)), counts)
    c, a = np.asarray(couplings)[labels], np.ones(len(labels)) if sizes is None else sizes[labels]
    same = labels[:, None] == labels
    return np.where(same, (a * c)[:, None], 0) + np.diag(a * (1 - c)), labels


@pytest.fixture
def cloud(rng):
    """Any features of four classes, and their labels."""
    labels = np.repeat(np.arange(4), COUNTS)
    return rng.normal(size=(4, 6))[labels] + 0.8 * rng.normal(size=(len(labels), 6)), labels


@pytest.mark.parametrize("coupling", [0.0, 0.03, 0.5, 1.0])
@pytest.mark.parametrize("counts", [COUNTS, (7, 3), (6, 6, 2)])
def test_the_models_own_kernel_gives_its_coupling(coupling, counts):
    kernel, labels = block_kernel([coupling] * len(counts), counts)
    result = kernels.measured_coupling(features_with(kernel), labels)
    problem = make_problem(Config(profile="custom", counts=counts, coupling=coupling))
    # rounding of an eigendecomposition, of 1
    for measured in (result.class_coupling, result.pooled, result.equal_sampled):
        np.testing.assert_allclose(measured, coupling, atol=1e-12)
    np.testing.assert_allclose(result.kernel_eigenvalues, problem.kernel_eigenvalues, atol=1e-11)
    np.testing.assert_array_equal(result.counts, counts)
    expected = theory.balancing_exponent(max(counts), min(counts), coupling)
    assert result.exponent == pytest.approx(expected, abs=1e-10)


def test_step_counts_have_the_same_exponent_by_classes(rng):
    """At the ends 1/2 and 1 from small starts, 0 and 1 with a fixed kernel."""
    counts = (9, 9, 3, 3, 3)
    for coupling in (0.0, 0.2, 1.0):
        kernel, labels = block_kernel([coupling] * 5, counts)
        order = rng.permutation(len(labels))  # samples come in any order
        result = kernels.measured_coupling(features_with(kernel)[order], labels[order])
        expected = theory.balancing_exponent(9, 3, coupling)
        assert result.class_exponent == pytest.approx(expected, abs=1e-10)
        assert result.fixed_class_exponent == pytest.approx(2 * expected - 1, abs=1e-10)
        assert result.fixed_exponent == pytest.approx(2 * expected - 1, abs=1e-10)
    assert result.fixed_exponent == pytest.approx(1, abs=1e-10)


def test_classes_with_kernels_of_their_own():
    """Each class's c_c and its share of the size of the kernel, against a written-out formula."""
    c, a = np.array([0.1, 0.4, 0.0, 0.9]), np.array([1.0, 2.0, 0.5, 0.5])
    kernel, labels = block_kernel(c, COUNTS, a)
    result = kernels.measured_coupling(features_with(kernel), labels)
    np.testing.assert_allclose(result.class_coupling, c, atol=1e-12)
    expected = a / a.mean() * (1 + c * (np.array(COUNTS) - 1))
    np.testing.assert_allclose(result.kernel_eigenvalues, expected, rtol=1e-12)
    assert result.equal_sampled == pytest.approx((a * c).mean() / a.mean(), abs=1e-12)
    pairs = np.array([n * (n - 1) for n in COUNTS])
    mean_size = (np.array(COUNTS) * a).sum() / sum(COUNTS)
    assert result.pooled == pytest.approx(
        (pairs * a * c).sum() / pairs.sum() / mean_size, abs=1e-12
    )


def test_the_exponent_by_classes_is_where_fixed_and_small_starts_balance():
    """w_c ~ n_c^-g makes w_c sqrt(n_c kappa_c), and with the other g w_c kappa_c, equal."""
    c, counts = np.array([0.05, 0.05, 0.3]), np.array([30, 30, 4])
    kernel, labels = block_kernel(c, counts)
    result = kernels.measured_coupling(features_with(kernel), labels)
    kappa = 1 + c * (counts - 1)
    for exponent, power in ((result.class_exponent, 0.5), (result.fixed_class_exponent, 0.0)):
        rates = counts**-exponent * counts**power * kappa ** (1 - power)
        np.testing.assert_allclose(rates, rates[0], rtol=1e-10)


def test_it_is_the_intraclass_correlation_over_all_pairs(cloud):
    """By loops over pairs of samples, every class alike."""
    H, labels = cloud
    K, samples = H @ H.T, range(len(labels))
    with_itself = np.mean([np.mean([K[i, i] for i in samples if labels[i] == c]) for c in range(4)])
    blocks = [
        [
            np.mean([K[i, j] for i in samples for j in samples if i != j and (labels[i], labels[j]) == (c, e)])
            for e in range(4)
        ]
        for c in range(4)
    ]  # fmt: skip
    within, across = np.trace(blocks) / 4, (np.sum(blocks) - np.trace(blocks)) / 12
    expected = (within - across) / (with_itself - across)
    assert kernels.measured_coupling(H, labels).equal_sampled == pytest.approx(expected, rel=1e-12)


def test_the_size_of_a_class_does_not_bias_it(rng):
    """Gaussian classes of intraclass correlation 1/5: the mean of many draws, whatever the counts."""
    result = []
    labels = np.repeat(np.arange(3), (40, 4, 2))
    for _ in range(300):
        H = 0.5 * rng.normal(size=(3, 8))[labels] + rng.normal(size=(len(labels), 8))
        c = kernels.measured_coupling(H, labels)
        result.append([c.equal_sampled, c.pooled])
    mean, error = np.mean(result, axis=0), np.std(result, axis=0) / np.sqrt(len(result))
    # a ratio of unbiased numbers is off by their relative variance, here about 0.01
    assert (np.abs(mean - 0.2) < 4 * error + 0.01).all()


@pytest.mark.parametrize("change", ["rotated", "scaled", "moved", "biased", "relabelled"])
def test_what_must_not_matter(cloud, rng, change):
    H, labels = cloud
    before = kernels.measured_coupling(H, labels)
    changed = {
        "rotated": H @ np.linalg.qr(rng.normal(size=(6, 6)))[0],
        "scaled": 1e-3 * H,
        "moved": H + rng.normal(size=6),
        "biased": np.hstack([H, np.ones((len(H), 1))]),
        "relabelled": H,
    }[change]
    after = kernels.measured_coupling(changed, 7 * labels - 3 if change == "relabelled" else labels)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-10)


def test_two_classes_share_what_is_common(rng):
    H, labels = rng.normal(size=(9, 5)), np.repeat([0, 1], (6, 3))
    before, after = (kernels.measured_coupling(H + v, labels) for v in (0, rng.normal(size=5)))
    assert after.equal_sampled == pytest.approx(before.equal_sampled, rel=1e-10)


def test_balanced_counts_and_classes_between_others_have_no_exponent():
    kernel, labels = block_kernel([0.2, 0.2], (4, 4))
    result = kernels.measured_coupling(features_with(kernel), labels)
    assert np.isnan([result.exponent, result.class_exponent, result.fixed_exponent]).all()
    line = np.repeat([[-1.0], [0.0], [1.0]], (4, 3, 2), axis=0)  # the second class is in the middle
    result = kernels.measured_coupling(line, np.repeat([0, 1, 2], (4, 3, 2)))
    assert result.kernel_eigenvalues[1] < 0 and np.isnan(result.class_exponent)


@pytest.mark.parametrize("coupling", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("counts", [COUNTS, (12, 4)])
def test_one_number_is_the_coupling_of_the_model(coupling, counts):
    """It gives the exponents of all the others, and says what it is."""
    kernel, labels = block_kernel([coupling] * len(counts), counts)
    result = kernels.measured_coupling(features_with(kernel), labels)
    # rounding of an eigendecomposition, of 1
    assert result.coupling == pytest.approx(coupling, abs=1e-12)
    extremes = max(counts), min(counts)
    kappa = [1 + coupling * (n - 1) for n in extremes]
    ratio = np.log(kappa[0] / kappa[1]) / np.log(extremes[0] / extremes[1])
    assert result.exponent == pytest.approx(0.5 + 0.5 * ratio, abs=1e-10)
    assert result.fixed_exponent == pytest.approx(ratio, abs=1e-10)
    words = repr(result)
    assert f"coupling        {result.coupling:.3g}, the number for `ssm advise --coupling`" in words
    assert words.startswith(f"Coupling of {len(counts)} classes of {min(counts)} to {max(counts)}")
    assert str(result) == words


def test_the_coupling_is_one_that_the_model_has():
    """A correlation below 0, as chance gives it to classes of none, is one of 0 there."""
    kernel, labels = block_kernel([-0.05] * 4, COUNTS)
    result = kernels.measured_coupling(features_with(kernel), labels)
    assert result.equal_sampled == pytest.approx(-0.05, abs=1e-12)
    assert result.coupling == 0 and result.exponent == pytest.approx(0.5, abs=1e-12)
    assert Config(coupling=result.coupling).coupling == 0


def test_modules_of_practice_are_there_on_first_use():
    """That they are not there before is a case of `test_what_is_not_needed_is_not_imported`."""
    names = dir(practice)
    assert practice.kernels.measured_coupling.__module__ == "ssm.practice.network.kernels"
    assert practice.options.StudyOptions and practice.evaluation.evaluate
    assert not hasattr(practice, "nothing")
    files = {path.stem for path in Path(practice.__file__).parent.glob("*.py")} - {"__init__"}
    assert files <= set(names)


@pytest.mark.parametrize(
    ("features", "labels", "message_part"),
    [
        (np.ones(4), [0, 0, 1, 1], "features="),
        (np.ones((4, 0)), [0, 0, 1, 1], "features=.* with no axis empty"),
        ([["a"], ["b"]], [0, 1], "features="),
        ([[0.0], [np.nan], [1.0], [2.0]], [0, 0, 1, 1], "finite everywhere"),
        (np.ones((4, 2)), [0, 0, 1, 1], "of samples that differ"),
        (np.eye(4), [0, 0, 1], "4 classes, one a row"),
        (np.eye(4), [0, 0, 0, 0], "at least two classes"),
        (np.eye(4), [0, 0, 0, 1], "at least two of each class"),
    ],
)
def test_bad_input_is_one_line(features, labels, message_part):
    with pytest.raises(InputError, match=message_part) as error:
        kernels.measured_coupling(features, labels)
    assert "\n" not in str(error.value)
