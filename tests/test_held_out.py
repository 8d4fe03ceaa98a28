"""Held-out accuracy and loss of Gaussian logits: closed forms, direct samples, what they do not depend on."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from ssm.measures import held_out
from ssm.problem import losses, membership

NUM_SAMPLES = 400_000


def mixture(rng, k, rank, distance=1.0):
    """Means and a covariance of a rank: own logits ahead by `distance`, noise of about 1."""
    means = distance * (np.eye(k) + rng.normal(scale=0.3, size=(k, k)))
    root = rng.normal(size=(k, rank)) * np.geomspace(1, 0.3, rank)
    return means, root @ root.T / rank, root / np.sqrt(rank)


def test_two_classes_are_phi(rng):
    means, root = rng.normal(size=(5, 2, 2)), rng.normal(size=(5, 2, 3))
    covariance = root @ root.transpose(0, 2, 1)
    ahead = np.stack([means[:, 0, 0] - means[:, 1, 0], means[:, 1, 1] - means[:, 0, 1]], axis=1)
    variance = covariance[:, 0, 0] + covariance[:, 1, 1] - 2 * covariance[:, 0, 1]
    expected = scipy.stats.norm.cdf(ahead / np.sqrt(variance)[:, None])
    # closed form on both sides: rounding
    np.testing.assert_allclose(held_out.accuracy(means, covariance), expected, rtol=1e-12)


# full rank, features narrower than there are classes, and margins so far that few samples are wrong
@pytest.mark.parametrize(("k", "rank", "distance"), [(3, 3, 1), (4, 4, 1), (4, 2, 1), (4, 4, 4)])
def test_against_direct_samples(rng, k, rank, distance):
    means, covariance, root = mixture(rng, k, rank, distance)
    accuracy = held_out.accuracy(means, covariance)
    loss = held_out.loss(means, covariance, "cross_entropy")
    noise = rng.normal(size=(NUM_SAMPLES, rank)) @ root.T
    for y in range(k):
        logits = means[:, y] + noise
        share = (logits.argmax(1) == y).mean()
        each = np.log(np.exp(logits - logits[:, [y]]).sum(1))
        # four standard errors of the samples, and the largest error that the docstrings state
        deviation = np.sqrt(share * (1 - share) / NUM_SAMPLES)
        np.testing.assert_allclose(
            accuracy[y], share, atol=4 * deviation + 2e-3 * (rank < k) + 3e-4
        )
        atol = 4 * each.std() / np.sqrt(NUM_SAMPLES)
        np.testing.assert_allclose(
            loss[y], each.mean(), rtol=2e-3 if distance < 2 else 2e-2, atol=atol
        )


def test_orthants(rng):
    """At equal means accuracy is the probability of an orthant: 1/4 + asin(r) / 2 pi of two margins, 1/8 +
    (sum of three asin) / 4 pi of three; 1/k where all classes are alike."""
    for k, error in [(3, 3e-5), (4, 3e-4)]:  # the largest errors that the docstring states
        _, covariance, _ = mixture(rng, k, k)
        own, others = 0, np.arange(1, k)
        contrasts = np.eye(k)[own] - np.eye(k)[others]
        margins = contrasts @ covariance @ contrasts.T
        sd = np.sqrt(np.diag(margins))
        angles = np.arcsin((margins / np.outer(sd, sd))[np.triu_indices(k - 1, 1)])
        expected = 1 / 4 + angles[0] / (2 * np.pi) if k == 3 else 1 / 8 + angles.sum() / (4 * np.pi)
        found = held_out.accuracy(np.zeros((k, k)), covariance)[own]
        np.testing.assert_allclose(found, expected, atol=error)
    for k, error in [(2, 1e-12), (3, 3e-5), (4, 3e-4), (10, 2e-3)]:
        found = held_out.accuracy(np.zeros((k, k)), np.eye(k))
        np.testing.assert_allclose(found, 1 / k, atol=error)


def test_logits_on_one_line(rng):
    """z = mean_y + a x with one normal x: the largest logit is the own one on an interval of x."""
    means, slopes = np.eye(5) + rng.normal(scale=0.3, size=(5, 5)), rng.normal(size=5)
    expected = np.empty(5)
    for y in range(5):
        ahead, slope = (np.delete(v[y] - v, y) for v in (means[:, y], slopes))
        ends = -ahead / slope
        low, high = ends[slope > 0].max(initial=-np.inf), ends[slope < 0].min(initial=np.inf)
        expected[y] = max(scipy.stats.norm.cdf(high) - scipy.stats.norm.cdf(low), 0)
    found = held_out.accuracy(means, np.outer(slopes, slopes))
    np.testing.assert_allclose(found, expected, atol=1e-7)  # what is called singular is left out


def test_without_covariance_each_class_is_right_or_wrong(rng):
    means = rng.normal(size=(20, 4, 4)).round(0)  # some logits are equal
    labels, none = np.arange(4), np.zeros((4, 4))
    as_in_training = held_out.accuracy_of_samples(means, labels)
    assert (means == means.max(1, keepdims=True)).sum(1).max() > 1
    np.testing.assert_array_equal(held_out.accuracy(means, none), as_in_training)
    for name in ("cross_entropy", "squared"):
        expected = held_out.loss_of_samples(means, labels, name)
        np.testing.assert_allclose(held_out.loss(means, none, name), expected, rtol=1e-12)


def test_common_movements_of_all_logits_change_nothing(rng):
    means, covariance, _ = mixture(rng, 4, 4)
    shifts, common = rng.normal(size=(1, 4)), rng.normal(size=(4, 1))
    moved = means + 10 * shifts, covariance + common + common.T + 7
    for found, expected in (
        (held_out.accuracy(*moved), held_out.accuracy(means, covariance)),
        (held_out.loss(*moved, "ldam"), held_out.loss(means, covariance, "ldam")),
    ):
        np.testing.assert_allclose(
            found, expected, rtol=1e-10
        )  # rounding, of a sum about 10 times larger


def test_permuting_classes_permutes_accuracy_and_loss(rng):
    means, covariance, _ = mixture(rng, 4, 4)
    order = np.array([2, 0, 3, 1])
    permuted = means[np.ix_(order, order)], covariance[np.ix_(order, order)]
    accuracy, loss = held_out.accuracy(*permuted), held_out.loss(*permuted, "cross_entropy")
    # margins are sorted before points are drawn, so that not even the errors differ
    np.testing.assert_allclose(accuracy, held_out.accuracy(means, covariance)[order], rtol=1e-10)
    expected = held_out.loss(means, covariance, "cross_entropy")[order]
    np.testing.assert_allclose(loss, expected, rtol=1e-10)


def test_accuracy_does_not_depend_on_the_scale_of_logits(rng):
    means, covariance, _ = mixture(rng, 4, 4)
    expected = held_out.accuracy(means, covariance)
    for scale in (1e-60, 1e-9, 1e9, 1e60):
        found = held_out.accuracy(scale * means, scale**2 * covariance)
        np.testing.assert_allclose(found, expected, rtol=1e-10)  # rounding


def test_loss_of_two_classes_against_an_integral():
    """E log(1 + e^-u) with u ~ N(a, s^2)."""
    for ahead, deviation in [(0.5, 1.0), (-2.0, 3.0), (20.0, 4.0)]:
        means, covariance = np.diag([ahead, ahead]), np.diag([deviation**2, 0])

        def density(x, ahead=ahead, deviation=deviation):
            return np.logaddexp(0, -ahead - deviation * x) * scipy.stats.norm.pdf(x)

        expected = scipy.integrate.quad(density, -15, 15, points=[-2, 0, 2], epsrel=1e-10)[0]
        found = held_out.loss(means, covariance, "cross_entropy")
        np.testing.assert_allclose(found, expected, rtol=1e-6)  # what the docstring states


def test_squared_loss_against_direct_samples(rng):
    means, covariance, root = mixture(rng, 3, 3)
    z = means[:, 0] + rng.normal(size=(NUM_SAMPLES, 3)) @ root.T
    each = ((z - np.array([2, -1, -1]) / 3) ** 2).sum(1) / 2
    error = 4 * each.std() / np.sqrt(NUM_SAMPLES)  # four standard errors
    found = held_out.loss(means, covariance, "squared")[0]
    np.testing.assert_allclose(found, each.mean(), atol=error)


def test_leading_axes_broadcast_and_what_is_not_finite_is_unknown(rng):
    means, covariance, _ = mixture(rng, 3, 3)
    times = np.linspace(0.5, 2, 30).reshape(5, 6, 1, 1) * means
    times[1, 2, 0, 0], times[3, 4, 1, 2] = np.inf, np.nan
    found = held_out.accuracy(times, covariance)
    assert found.shape == (5, 6, 3)
    unknown = np.isnan(found).any(-1)
    assert np.argwhere(unknown).tolist() == [[1, 2], [3, 4]]
    np.testing.assert_array_equal(found[4, 5], held_out.accuracy(times[4, 5], covariance))


def test_of_samples_is_what_training_measures(rng):
    def small_losses(columns, labels):
        return np.exp(losses.log_cross_entropy(columns, labels))

    labels = rng.permutation(np.repeat(np.arange(3), (4, 2, 3)))
    logits = 40 * rng.normal(size=(2, 3, 9))
    accuracy = held_out.accuracy_of_samples(logits, labels)
    for now, found in zip(logits, accuracy, strict=True):
        right = now.argmax(0) == labels
        np.testing.assert_allclose(found, [right[labels == c].mean() for c in range(3)])
        columns, own = jnp.asarray(now), membership(labels, 3)
        for name, of_columns in (("cross_entropy", small_losses), ("squared", losses.squared)):
            expected = np.asarray(of_columns(columns, jnp.asarray(labels))) @ own / own.sum(0)
            found = held_out.loss_of_samples(now, labels, name)
            np.testing.assert_allclose(found, expected, rtol=1e-12)
